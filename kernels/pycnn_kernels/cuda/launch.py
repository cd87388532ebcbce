"""From a Python function to a kernel on the GPU.

A kernel is declared with its fields and a *factory*: a function of the dtype, and of whatever else is known when the
kernel is compiled, that returns the kernel's body, ``body(a)``. What the factory is called with are constants of the
body (``threads``, those of a block, only if it asks for them), and make one *variant* of the kernel::

    @kernel(x="source", y="array", count="int")
    def scaled_kernel(dtype, by):
        factor = dtype(by)

        def body(a):
            i = cuda.grid(1)
            if i < a.count:
                a.y[i] = factor * a.x[i]

        return body

    double = scaled_kernel.variant("float32", threads=256, by=2)
    Task(double, blocks=4, given="x y", count=1000).run(x, y)

A variant is compiled when it is first launched, for the architecture of the GPU. A launch goes to the current stream
and does not wait.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from numba.cuda import types

from pycnn_kernels.blocks import Block, Fields
from pycnn_kernels.cuda.device import current_device

#: What kernels compute in.
DTYPES = ("float32", "float64")

#: Threads of a block, where nothing says otherwise.
THREADS = 256

#: Elements at most of an array that a kernel counts in 32 bits, with room for the last block.
MOST_ELEMENTS = (1 << 31) - (1 << 16)

#: Blocks at most along the second axis of a grid; along the first there are 2^31 - 1.
MOST_BLOCKS_ACROSS = 65535


class Variant:
    """A kernel with all that is constant in its machine code.

    Attributes:
        kernel: whose variant it is.
        dtype: "float32" or "float64".
        threads: of a block.
        resident: how many blocks a multiprocessor shall hold at least, which limits the registers of a thread; 0 leaves
            that to the compiler.
        key: tells it from all other variants of all kernels.
    """

    def __init__(self, kernel: Kernel, dtype: str, threads: int, resident: int, constants: dict[str, Any]) -> None:
        self.kernel, self.dtype, self.threads, self.resident = kernel, dtype, threads, resident
        self._constants = constants
        self.key = (kernel.name, dtype, threads, resident, tuple(sorted(constants.items())))

    def body(self) -> Callable[[Any], None]:
        """The function to compile."""
        constants = self._constants
        if "threads" in inspect.signature(self.kernel.factory).parameters:
            constants = {"threads": self.threads, **constants}
        return self.kernel.factory(getattr(types, self.dtype), **constants)

    def __repr__(self) -> str:
        constants = "".join(f", {name}={value!r}" for name, value in self._constants.items())
        return f"{self.kernel.name}({self.dtype}, {self.threads} threads{constants})"


class Kernel:
    """A kernel, and its variants so far."""

    def __init__(
        self, factory: Callable[..., Callable[[Any], None]], kinds: dict[str, str], dtypes: tuple[str, ...] = DTYPES
    ) -> None:
        self.dtypes = dtypes
        self.name = f"{factory.__module__}.{factory.__qualname__}"
        self.__doc__ = factory.__doc__
        self.factory, self.fields = factory, Fields(self.name, kinds)
        self._variants: dict[Any, Variant] = {}

    def variant(self, dtype: str, *, threads: int = THREADS, resident: int = 0, **constants: Any) -> Variant:
        """The variant with these constants: numbers, names or tuples of them.

        Raises:
            ValueError: kernels are not compiled for this dtype.
        """
        if dtype not in self.dtypes:
            raise ValueError(f"{self.name} can be compiled for {', '.join(self.dtypes)}; received {dtype!r}")
        made = Variant(self, dtype, threads, resident, constants)
        return self._variants.setdefault(made.key, made)


def kernel(*dtypes: str, **kinds: str) -> Callable[[Callable[..., Callable[[Any], None]]], Kernel]:
    """Declare a kernel by its factory, and its fields, each of a kind in ``block.FIELD_KINDS``.

    ``dtypes`` are those that it can be compiled for: all of :data:`DTYPES` unless given.
    """
    return lambda factory: Kernel(factory, kinds, dtypes or DTYPES)


class Task:
    """A variant made ready for one problem: its block is filled in once, but for the fields that each run gives.

    Args:
        variant: what to launch.
        blocks: how many, along one axis or two; a launch of none is left out.
        given: the names of the fields that :meth:`run` takes, in its order.
        fields: the others. An array is a table: it is sent to the GPU, and lives there as long as the task.

    Attributes:
        table_bytes: of these arrays.
    """

    def __init__(self, variant: Variant, blocks: int | tuple[int, int], given: str, **fields: Any) -> None:
        self.variant = variant
        self.blocks = (blocks, 1) if isinstance(blocks, int) else blocks
        self._device = current_device()
        self.table_bytes = sum(value.nbytes for value in fields.values() if isinstance(value, np.ndarray))
        self._tables = {name: self._device.table(v) for name, v in fields.items() if isinstance(v, np.ndarray)}
        numbers = fields | {name: self._device.address(table) for name, table in self._tables.items()}
        self._block = Block(variant.kernel.fields, given, **numbers)
        self._launch: Callable[..., None] | None = None

    def run(self, *values: Any) -> None:
        """Launch on the current stream with the given fields' values."""
        if self._launch is None:
            self._launch = self._device.load(self.variant)
        if all(self.blocks):
            self._launch(self.blocks, self._block.filled(values))


def ints(names: str) -> dict[str, str]:
    """Fields of the kind "int", of these names.

    >>> ints("rows columns")
    {'rows': 'int', 'columns': 'int'}
    """
    return dict.fromkeys(names.split(), "int")


def counted(most: int, what: str = "arrays") -> str | None:
    """None where 32 bits count so many elements, otherwise what a kernel needs.

    >>> counted(1 << 40, "planes")
    'planes of at most 2,147,418,112 elements; received 1,099,511,627,776'
    """
    return f"{what} of at most {MOST_ELEMENTS:,} elements; received {most:,}" if most > MOST_ELEMENTS else None


def blocks_for(threads: int, per_block: int = THREADS) -> int:
    """Blocks that have so many threads together.

    >>> blocks_for(1000)
    4
    """
    return -(-threads // per_block)
