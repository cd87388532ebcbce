"""Arrays that are stored in half the bytes: float16 and bfloat16, computed in float32.

Any algorithm of float32 serves them: its inputs are widened, which is exact, it multiplies and adds in float32, and
what it found is rounded once. The widened arrays lie in memory that is lent for the run and used again by the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from pycnn_kernels.cpu.launch import Kernel, Task, kernel
from pycnn_kernels.cpu.tile import (
    lanes_of,
    tile_load,
    tile_load_bfloat16,
    tile_load_float16,
    tile_shape,
    tile_store,
    tile_store_bfloat16,
    tile_store_float16,
    tile_zeros,
    vectors_of,
)
from pycnn_kernels.memory import address, aligned_empty
from pycnn_kernels.problem import CastProblem

FLOAT32 = np.dtype(np.float32)

#: Elements of one piece of work: 96 KB of both arrays together.
PIECE = 16384

#: Vectors that are converted at a time: enough of them to keep the loads and the stores busy.
VECTORS = 4


@kernel("float32", stored="index", wide="array", size="int")
def widen_float16_kernel(a, item, worker):
    """``wide[i] = stored[i]`` for i < size: float32 from the bits of float16."""
    shape = tile_shape(a.wide, 1, VECTORS)
    step = vectors_of(shape) * lanes_of(a.wide)
    last = min((item + 1) * PIECE, a.size)
    whole = last - last % step  # a piece is a multiple of the step
    for i in range(item * PIECE, whole, step):
        tile_store(tile_load_float16(tile_zeros(shape), a.stored, i, None), a.wide, i, 0, None)
    if whole < last:
        rest = last - whole
        tile_store(tile_load_float16(tile_zeros(shape), a.stored, whole, rest), a.wide, whole, 0, rest)


@kernel("float32", stored="index", wide="array", size="int")
def widen_bfloat16_kernel(a, item, worker):
    """``wide[i] = stored[i]`` for i < size: float32 from the bits of bfloat16."""
    shape = tile_shape(a.wide, 1, VECTORS)
    step = vectors_of(shape) * lanes_of(a.wide)
    last = min((item + 1) * PIECE, a.size)
    whole = last - last % step
    for i in range(item * PIECE, whole, step):
        tile_store(tile_load_bfloat16(tile_zeros(shape), a.stored, i, None), a.wide, i, 0, None)
    if whole < last:
        rest = last - whole
        tile_store(tile_load_bfloat16(tile_zeros(shape), a.stored, whole, rest), a.wide, whole, 0, rest)


@kernel("float32", wide="array", stored="index", size="int")
def narrow_float16_kernel(a, item, worker):
    """``stored[i] = wide[i]``, rounded, for i < size: the bits of float16 from float32."""
    shape = tile_shape(a.wide, 1, VECTORS)
    step = vectors_of(shape) * lanes_of(a.wide)
    last = min((item + 1) * PIECE, a.size)
    whole = last - last % step
    for i in range(item * PIECE, whole, step):
        tile_store_float16(tile_load(tile_zeros(shape), a.wide, i, 0, None), a.stored, i, None)
    if whole < last:
        rest = last - whole
        tile_store_float16(tile_load(tile_zeros(shape), a.wide, whole, 0, rest), a.stored, whole, rest)


@kernel("float32", wide="array", stored="index", size="int")
def narrow_bfloat16_kernel(a, item, worker):
    """``stored[i] = wide[i]``, rounded, for i < size: the bits of bfloat16 from float32."""
    shape = tile_shape(a.wide, 1, VECTORS)
    step = vectors_of(shape) * lanes_of(a.wide)
    last = min((item + 1) * PIECE, a.size)
    whole = last - last % step
    for i in range(item * PIECE, whole, step):
        tile_store_bfloat16(tile_load(tile_zeros(shape), a.wide, i, 0, None), a.stored, i, None)
    if whole < last:
        rest = last - whole
        tile_store_bfloat16(tile_load(tile_zeros(shape), a.wide, whole, 0, rest), a.stored, whole, rest)


_WIDEN = {"float16": widen_float16_kernel, "bfloat16": widen_bfloat16_kernel}
_NARROW = {"float16": narrow_float16_kernel, "bfloat16": narrow_bfloat16_kernel}


class Conversion:
    """A kernel over ``size`` elements, ready to run."""

    workspace_bytes = 0

    def __init__(self, kernel: Kernel, given: str, size: int):
        self.run = Task(kernel, "float32", -(-size // PIECE), given, parallel=size > 1 << 16, size=size).run


def widening(p: CastProblem) -> Conversion:
    """Makes ready to widen; it takes the addresses of the stored elements and of float32."""
    return Conversion(_WIDEN[p.storage], "stored wide", p.size)


def narrowing(p: CastProblem) -> Conversion:
    """Makes ready to round; it takes the addresses of float32 and of the stored elements."""
    return Conversion(_NARROW[p.storage], "wide stored", p.size)


class Computation(Protocol):
    """An algorithm made ready for a problem of float32."""

    workspace_bytes: int

    def run(self, *arguments: Any) -> None: ...


class Widened:
    """An algorithm of float32 for a problem whose arrays are stored in another dtype.

    Args:
        computation: the algorithm, made ready for the problem in float32.
        storage: "float16" or "bfloat16".
        inputs, updated, outputs: for each array of these kinds, in the order in which :meth:`run` takes their
            addresses, how many elements are stored so; None for an array that has its own dtype.
    """

    def __init__(
        self,
        computation: Computation,
        storage: str,
        inputs: Sequence[int | None],
        updated: Sequence[int | None],
        outputs: Sequence[int | None],
    ):
        self._computation = computation
        self._sizes = {place: size for place, size in enumerate((*inputs, *updated, *outputs)) if size is not None}
        casts = {place: CastProblem(storage, size) for place, size in self._sizes.items()}
        self._widen = {place: widening(cast) for place, cast in casts.items() if place < len(inputs) + len(updated)}
        self._narrow = {place: narrowing(cast) for place, cast in casts.items() if place >= len(inputs)}
        widened = tuple(size * FLOAT32.itemsize for size in self._sizes.values())
        self.borrowed = (*widened, *getattr(computation, "borrowed", ()))
        #: Of the algorithm, and of the widened arrays.
        self.workspace_bytes = computation.workspace_bytes + sum(widened)

    def run(self, *arguments: Any) -> None:
        """The addresses of the arrays, 0 for one that is not there, and then numbers, as the algorithm takes them."""
        lent = {place: aligned_empty((size,), FLOAT32) for place, size in self._sizes.items() if arguments[place]}
        computed = list(arguments)
        for place, wide in lent.items():
            computed[place] = address(wide)
        for place in lent.keys() & self._widen.keys():
            self._widen[place].run(arguments[place], computed[place])
        self._computation.run(*computed)
        for place in lent.keys() & self._narrow.keys():
            self._narrow[place].run(computed[place], arguments[place])
