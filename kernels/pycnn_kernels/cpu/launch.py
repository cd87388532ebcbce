"""From a Python function to a kernel that runs on every core.

A kernel is a function ``body(a, item, worker)``. ``a`` is its argument block: one int64 array whose fields the
body reads by name (``a.x``, ``a.N``). ``item`` is the piece of work to do. Each thread has a share of the pieces, and
one that is done helps the others, so a core that another process slows down takes fewer of them; which core computes a
piece never changes its bits. ``worker`` numbers the threads of one launch, for scratch memory of their own.

Why blocks: a kernel then has one signature per dtype whatever the arrays look like, compiles in half the time
of a ``parallel=True`` function and loads from the cache in 3 ms. The threads are in ``workers.py``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.ccallback import CFunc
from numba.core.compiler_lock import global_compiler_lock
from numba.core.typing.templates import AttributeTemplate
from numba.extending import infer_getattr, lower_getattr_generic, models, register_model

from pycnn_kernels.blocks import Block, Fields
from pycnn_kernels.cache import kernel_cache, kernel_cache_dir, one_process_at_a_time
from pycnn_kernels.cpu.host import SIMD
from pycnn_kernels.cpu.workers import Workers
from pycnn_kernels.memory import address

INT64 = ir.IntType(64)

# Reassociation lets sums vectorise and contraction makes fused multiply-adds. nnan and ninf stay out: NaN and
# infinity must flow through every kernel.
FAST_MATH = frozenset({"contract", "reassoc", "nsz"})

#: What kernels compute in.
DTYPES = ("float32", "float64")

#: Elements below which waking a second thread costs a kernel of single passes more than it saves.
SMALL_WORK = 1 << 14

#: What a field of an argument block can be, and its Numba type given the kernel's dtype. Beside these there is "type":
#: a field without contents, whose Numba type :meth:`Kernel.compiled_for` gives.
FIELD_KINDS: dict[str, Callable[[types.Type], types.Type]] = {
    "array": types.CPointer,  # the address of elements of the kernel's dtype
    "table": lambda dtype: types.CPointer(types.int64),  # the address of int64
    "index": lambda dtype: types.CPointer(types.uint16),  # the address of uint16
    "long_index": lambda dtype: types.CPointer(types.uint32),
    "int": lambda dtype: types.int64,
    "float": lambda dtype: types.float64,
}


class BlockType(types.Type):
    """The argument block of one kernel, for one dtype: an address, with named fields."""

    def __init__(self, kernel: str, dtype: types.Type, fields: dict[str, str], given: dict[str, types.Type]):
        self.dtype, self.given = dtype, given
        self.slots = {name: (slot, kind) for slot, (name, kind) in enumerate(fields.items())}
        layout = ", ".join(f"{name}:{given.get(name, kind)}" for name, kind in fields.items())
        super().__init__(f"Block({kernel}, {dtype}, {layout})")


@register_model(BlockType)
class _BlockModel(models.PrimitiveModel):
    def __init__(self, manager: Any, block: BlockType):
        super().__init__(manager, block, INT64.as_pointer())


@infer_getattr
class _BlockFields(AttributeTemplate):
    key = BlockType

    def generic_resolve(self, block: BlockType, name: str) -> types.Type | None:
        if name not in block.slots:
            return None
        return block.given.get(name) or FIELD_KINDS[block.slots[name][1]](block.dtype)


@lower_getattr_generic(BlockType)
def _read_field(context: Any, builder: Any, block: BlockType, value: Any, name: str) -> Any:
    slot, kind = block.slots[name]
    if name in block.given:
        return context.get_dummy_value()
    address = builder.gep(value, [ir.Constant(INT64, slot)])
    bits = builder.load(address)
    # Nothing writes a block while its kernel runs: a launch and a chain fill it before they call, and are not compiled
    # together with the kernel. Without this word the compiler would read a field again behind each store, for all it
    # knows into the block.
    bits.set_metadata("invariant.load", builder.module.add_metadata([]))
    field = FIELD_KINDS[kind](block.dtype)
    if isinstance(field, types.CPointer):
        return builder.inttoptr(bits, context.get_value_type(field))
    if field == types.float64:
        return builder.bitcast(bits, ir.DoubleType())
    return bits


class Kernel:
    """A kernel function, compiled for each dtype on its first use and kept in the cache on disk."""

    def __init__(
        self,
        body: Callable[..., None],
        fields: dict[str, str],
        dtypes: tuple[str, ...] = DTYPES,
        given: dict[str, types.Type] | None = None,
        fast_math: frozenset[str] = FAST_MATH,
    ) -> None:
        self.name = f"{body.__module__}.{body.__qualname__}"
        self.dtypes, self._fast_math = dtypes, fast_math
        self.__doc__ = body.__doc__
        self.fields = Fields(self.name, fields)
        self._body, self._given = body, given or {}
        self._variants: dict[tuple[types.Type, ...], Kernel] = {}
        self._usual: list[Kernel] = []
        self._entries: dict[str, int] = {}
        self._compiled: dict[str, CFunc] = {}

    def compiled_for(self, **given: types.Type) -> Kernel:
        """The kernel whose fields of the kind "type" are of the given types: one machine code for each choice.

        Numba's functions are compiled for the types of their arguments, so what a type says is constant in a kernel.
        """
        key = tuple(given.values())
        if key not in self._variants:
            self._variants[key] = Kernel(self._body, self.fields.kinds, self.dtypes, given, self._fast_math)
        return self._variants[key]

    def usually(self, **given: types.Type) -> None:
        """Count the kernel for these types among those that most networks need."""
        self._usual.append(self.compiled_for(**given))

    @property
    def usual(self) -> list[Kernel]:
        """What most networks need of it: itself, or those of :meth:`usually` where it needs types first."""
        return self._usual if "type" in self.fields.kinds.values() else [self]

    def entry(self, dtype: str) -> int:
        """The address of the kernel compiled for "float32" or "float64".

        Raises:
            ValueError: the kernel is not written for this dtype.
        """
        address = self._entries.get(dtype)
        return self._compile(dtype) if address is None else address

    def block(self, **values: float) -> np.ndarray:
        """An argument block: int64, the fields in their order.

        Raises:
            TypeError: a name is not a field of this kernel.
        """
        return np.array(self.fields.filled(**values), np.int64)

    @global_compiler_lock
    def _compile(self, dtype: str) -> int:
        if dtype in self._entries:  # another thread was faster
            return self._entries[dtype]
        if dtype not in self.dtypes:
            raise ValueError(f"{self.name} can be compiled for {', '.join(self.dtypes)}; received {dtype!r}")
        block = BlockType(self.name, getattr(types, dtype), self.fields.kinds, self._given)
        numbers = self._body.__code__.co_argcount - 1  # item and worker, unless other kernels call it
        signature = types.void(block, *[types.int64] * numbers)
        options = {"error_model": "numpy", "fastmath": set(self._fast_math), "boundscheck": False}
        compiled = CFunc(self._body, (signature.args, signature.return_type), locals={}, options=options)
        compiled._cache = kernel_cache(self._body, SIMD.name)
        with one_process_at_a_time(str(block), kernel_cache_dir(SIMD.name)):
            compiled.compile()
        self._compiled[dtype] = compiled  # owns the machine code
        self._entries[dtype] = compiled.address
        return compiled.address


def kernel(*dtypes: str, **fields: str) -> Callable[[Callable[..., None]], Kernel]:
    """Declare a kernel and the fields of its argument block, each of a kind in :data:`FIELD_KINDS`.

    ``dtypes`` are those that it can be compiled for: all of :data:`DTYPES` unless given.
    """
    return lambda body: Kernel(body, fields, dtypes or DTYPES)


def literal_kernel(**fields: str) -> Callable[[Callable[..., None]], Kernel]:
    """Declare a kernel whose arithmetic is done as it is written: nothing in it is reordered, or rounded otherwise."""
    return lambda body: Kernel(body, fields, fast_math=frozenset())


def _available_cores() -> int:
    """The cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _default_threads(cores: int) -> int:
    wanted = os.environ.get("PYCNN_NUM_THREADS")
    if not wanted:
        return cores
    if not wanted.isdecimal() or int(wanted) < 1:
        raise ValueError(f"PYCNN_NUM_THREADS must be a positive integer; received {wanted!r}")
    return min(int(wanted), cores)


_workers = Workers(most=_available_cores())
_threads = _default_threads(_workers.most)


def launch(kernel_entry: int, block: np.ndarray, items: int, *, parallel: bool = True) -> None:
    """Run a compiled kernel over ``items`` pieces of work.

    Args:
        kernel_entry: ``Kernel.entry(dtype)``.
        block: the filled argument block.
        items: how many pieces; piece numbers 0 to ``items - 1`` reach the kernel, each once.
        parallel: False for work that is smaller than the cost of waking a thread.
    """
    _launch(kernel_entry, address(block), items, parallel)


def _launch(kernel_entry: int, block: int, items: int, parallel: bool) -> None:
    """:func:`launch` with the address of the block."""
    threads = min(_threads, items) if parallel else 1
    if threads > 1:
        _workers.run(kernel_entry, block, items, threads)
    else:
        _workers.run_alone(kernel_entry, block, items)


class Task:
    """A kernel made ready for one problem: its block is filled in once, but for the fields that each run gives.

    Args:
        kernel: what to run.
        dtype: "float32" or "float64".
        items: how many pieces of work; piece numbers 0 to ``items - 1`` reach the kernel, each once.
        given: the names of the fields that :meth:`run` takes, in its order.
        parallel: False for work that is smaller than the cost of waking a thread.
        fields: the others; an array stands for the address of its elements, and lives as long as the task.

    Attributes:
        template: the block without the given fields.
        slots: those of the given fields that are no floats.
        parallel: whether threads share the pieces.
        table_bytes: of the arrays among the fields.
    """

    def __init__(
        self, kernel: Kernel, dtype: str, items: int, given: str, *, parallel: bool = True, **fields: Any
    ) -> None:
        self._kernel, self._dtype, self.items, self.parallel = kernel, dtype, items, parallel
        self._entry = 0  # not compiled yet
        self._kept = [value for value in fields.values() if isinstance(value, np.ndarray)]
        self.table_bytes = sum(value.nbytes for value in self._kept)
        numbers = {name: address(v) if isinstance(v, np.ndarray) else v for name, v in fields.items()}
        self._block = Block(kernel.fields, given, **numbers)
        self.template, self.slots = np.array(self._block.values, np.int64), self._block.slots

    def entry(self) -> int:
        """The address of the compiled kernel."""
        self._entry = self._kernel.entry(self._dtype)
        return self._entry

    def slot(self, field: str) -> int:
        """The position of a field in the block."""
        return self._kernel.fields.slot(field)

    def run(self, *values: Any) -> None:
        """Run with the given fields' values."""
        block = self._block.filled(values)
        _launch(self._entry or self.entry(), block.buffer_info()[0], self.items, self.parallel)


def set_num_threads(n: int) -> None:
    """Use ``n`` threads from now on, at most as many as there are cores.

    Results have the same bits for every ``n``.

    Raises:
        ValueError: ``n`` is not an integer from 1 to the number of cores.
    """
    global _threads
    if not isinstance(n, int | np.integer) or isinstance(n, bool) or not 1 <= n <= _workers.most:
        raise ValueError(f"the number of threads must be an integer from 1 to {_workers.most}; received {n!r}")
    _threads = int(n)


def get_num_threads() -> int:
    """How many threads kernels use."""
    return _threads


def most_threads() -> int:
    """The most threads that a launch can use; ``worker`` numbers are below it."""
    return _workers.most
