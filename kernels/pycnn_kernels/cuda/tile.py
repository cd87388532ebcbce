"""The tile of a matrix product: what a block of threads computes at a time, in registers, from slices in shared memory.

A block has ``rows x columns`` of the sums ``left[i, d] * right[d, j]`` over the depth d. It walks along the depth in
slices of eight: each thread fetches four elements of either operand from wherever they lie, the block puts them into
shared memory with the depth outside, and each thread multiplies. A thread's sums are *strips*: blocks of 4 x 4, one or
two in each direction, two being half a tile apart, so that the operands of one depth are a few loads of 16 bytes for 16
to 64 multiply-adds, and neighbouring threads load neighbouring bytes.

Two slices alternate in shared memory. While one is multiplied, the elements of the next are on their way into
registers, so that memory is waited for once in a slice of 512 multiply-adds a thread, and one barrier a slice is
enough.

Sources: Volkov and Demmel, "Benchmarking GPUs to Tune Dense Linear Algebra" (2008), for sums in registers; Nath, Tomov
and Dongarra, "An Improved MAGMA GEMM for Fermi" (2010), for the double buffer; Gray, "SGEMM" (maxas, 2014), for the
threads of a warp as 8 x 4 with pairs of lanes that read the same 16 bytes, which shared memory serves twice as fast.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numba import cuda
from numba.cuda import types

from pycnn_kernels.cuda.compile import device_function
from pycnn_kernels.cuda.ptx import load4, load4_shared, quotient, remainder, store4_shared, thread_again

#: Depth of a slice.
SLICE = 8
#: Edge of the blocks of sums that a thread has.
STRIP = 4
#: Elements between the lines of a slice beyond its width: 16 bytes, so that threads which write elements of one column
#: and of different depths meet different banks.
_MARGIN = 4

#: Bits of the masks that readers compare: everything that is there lacks the first, and everything needs the second.
LACKING, NEEDED = 1 << 30, 1 << 29
#: The mask of what is nowhere: it lacks everything.
NOWHERE = -1
#: Bits below these, for whoever makes masks.
FREE_BITS = 29

int32, uint32 = types.int32, types.uint32
#: Of shared memory: an index that may be negative would be compared with 0 each time.
index = types.uint64


class Tile(NamedTuple):
    """The sums of a block, and how many strips of four each of its threads has in either direction: one or two."""

    rows: int
    columns: int
    row_strips: int
    column_strips: int

    @property
    def threads(self) -> int:
        """
        >>> Tile(128, 128, 2, 2).threads
        256
        """
        return self.rows * self.columns // (STRIP * STRIP * self.row_strips * self.column_strips)


class Reader(NamedTuple):
    """The device functions with which the threads of a block bring slices of one operand into shared memory.

    The operand is so many elements wide, the rows of the left one, the columns of the right one. Where an element lies
    is the sum of two offsets, that of its row (or column) and that of its depth; it is zero if their masks have a bit
    in common. Each thread has four elements of a slice.

    Attributes:
        depth: ``depth()``, where in a slice the thread's elements begin.
        kept: ``kept(a, first, base)``, what the thread keeps, for a tile that begins at the row ``first``; ``base`` is
            added to the offsets.
        fetch: ``fetch(a, pointer, kept, depth, wanted)``, the thread's four elements, zeros if unwanted; ``depth`` is
            what a cursor looks up.
        target: ``target()``, where they belong in a slice.
        store: ``store(shared, to, values)`` writes them there.
        pitch: elements from one depth of a slice to the next.
    """

    depth: Any
    kept: Any
    fetch: Any
    target: Any
    store: Any
    pitch: int


def reader_of_quads(dtype: Any, threads: int, width: int, place: Any, along_depth: bool) -> Reader:
    """A reader of elements that lie side by side in fours, along the depth or across it, at multiples of 16 bytes.

    ``place(a, i)`` is a device function: offset and mask of row (or column) i. ``depth`` is an offset and a mask.
    """
    zero, pitch = dtype(0), width + _MARGIN
    depth, across, is_busy = _sharing(threads, width, along_depth, *((STRIP, 1) if along_depth else (1, STRIP)))

    @device_function
    def kept(a, first, base):
        offset, mask = place(a, int32(first + across()))
        return int32(base + offset), int32(mask if is_busy() else NOWHERE)

    @device_function
    def fetch(a, pointer, kept, depth, wanted):
        values = (zero, zero, zero, zero)
        if wanted & (kept[1] & depth[1] == 0):
            values = load4(pointer, int32(kept[0] + depth[0]))
        return values

    @device_function
    def target():
        return int32(depth() * pitch + across())

    @device_function
    def store(shared, to, values):
        if is_busy():
            store4_shared(shared, to, values)

    return Reader(depth, kept, fetch, target, _store_apart(is_busy, pitch) if along_depth else store, pitch)


def reader_of_depths(dtype: Any, threads: int, width: int, place: Any, along_depth: bool) -> Reader:
    """A reader of single elements: four depths of one row (or column).

    Neighbouring threads have neighbouring depths or rows. ``depth`` is four offsets and four masks.
    """
    zero, pitch = dtype(0), width + _MARGIN
    depth, across, is_busy = _sharing(threads, width, along_depth, STRIP, 1)

    @device_function
    def kept(a, first, base):
        offset, mask = place(a, int32(first + across()))
        return int32(base + offset), int32(mask if is_busy() else NOWHERE)

    @device_function
    def element(pointer, kept, offset, mask, wanted):
        return pointer[int32(kept[0] + offset)] if wanted & (kept[1] & mask == 0) else zero

    @device_function
    def fetch(a, pointer, kept, depth, wanted):
        return (
            element(pointer, kept, depth[0], depth[4], wanted),
            element(pointer, kept, depth[1], depth[5], wanted),
            element(pointer, kept, depth[2], depth[6], wanted),
            element(pointer, kept, depth[3], depth[7], wanted),
        )

    @device_function
    def target():
        return int32(depth() * pitch + across())

    return Reader(depth, kept, fetch, target, _store_apart(is_busy, pitch), pitch)


def reader_of_rows(dtype: Any, threads: int, width: int, place: Any, along_depth: bool, keep: bool = True) -> Reader:
    """A reader of single elements: one depth of four rows (or columns).

    Neighbouring threads have neighbouring depths or rows. ``depth`` is an offset and a mask. Threads keep the places of
    their rows, or compute them anew for each slice, which takes fewer registers.
    """
    zero, pitch, span = dtype(0), width + _MARGIN, width // STRIP
    depth, across, is_busy = _sharing(threads, width, along_depth, 1, STRIP, span)

    @device_function
    def placed(a, i, base):
        offset, mask = place(a, i)
        return int32(base + offset), int32(mask if is_busy() else NOWHERE)

    @device_function
    def places(a, i, base):
        return (
            placed(a, i, base),
            placed(a, int32(i + span), base),
            placed(a, int32(i + 2 * span), base),
            placed(a, int32(i + 3 * span), base),
        )

    @device_function
    def kept_places(a, first, base):
        return places(a, int32(first + across()), base)

    @device_function
    def kept_row(a, first, base):
        return int32(first + across()), base

    @device_function
    def element(pointer, place, depth, wanted):
        return pointer[int32(place[0] + depth[0])] if wanted & (place[1] & depth[1] == 0) else zero

    @device_function
    def fetch_kept(a, pointer, kept, depth, wanted):
        return (
            element(pointer, kept[0], depth, wanted),
            element(pointer, kept[1], depth, wanted),
            element(pointer, kept[2], depth, wanted),
            element(pointer, kept[3], depth, wanted),
        )

    @device_function
    def fetch_computed(a, pointer, kept, depth, wanted):
        return fetch_kept(a, pointer, places(a, kept[0], kept[1]), depth, wanted)

    @device_function
    def target():
        return int32(depth() * pitch + across())

    store = _store_apart(is_busy, span)
    if keep:
        return Reader(depth, kept_places, fetch_kept, target, store, pitch)
    return Reader(depth, kept_row, fetch_computed, target, store, pitch)


def _sharing(threads: int, width: int, along_depth: bool, depths: int, widths: int, apart: int = 0) -> Any:
    """How threads share a slice out, of which each has so many depths or widths: device functions.

    ``depth()`` and ``across()`` are where a thread's elements begin; with ``apart``, a thread's widths are that far
    from each other, and those of neighbouring threads are side by side. ``is_busy()``: whether it has any; where half
    of the threads are enough, these are the first.
    """
    step = 1 if apart else widths
    deep, wide = SLICE // depths, width // widths
    everyone = threads == deep * wide

    @device_function
    def depth():
        if along_depth:
            return int32(remainder(cuda.threadIdx.x, deep) * depths)
        return int32(remainder(quotient(cuda.threadIdx.x, wide), deep) * depths)

    @device_function
    def across():
        if along_depth:
            return int32(quotient(cuda.threadIdx.x, deep) * step)
        return int32(remainder(cuda.threadIdx.x, wide) * step)

    @device_function
    def is_busy():
        return everyone or cuda.threadIdx.x < deep * wide

    return depth, across, is_busy


def _store_apart(is_busy: Any, step: int) -> Any:
    """A device function ``store(shared, to, values)`` of four values that are so far apart."""

    @device_function
    def store(shared, to, values):
        if is_busy():
            shared[index(to)] = values[0]
            shared[index(to + step)] = values[1]
            shared[index(to + 2 * step)] = values[2]
            shared[index(to + 3 * step)] = values[3]

    return store


@device_function
def _multiplied(sums, left, right):
    """``sums[i, j] + left[i] * right[j]`` of a strip, row by row."""
    a, b, c, d = left
    e, f, g, h = right
    return (
        sums[0] + a * e, sums[1] + a * f, sums[2] + a * g, sums[3] + a * h,
        sums[4] + b * e, sums[5] + b * f, sums[6] + b * g, sums[7] + b * h,
        sums[8] + c * e, sums[9] + c * f, sums[10] + c * g, sums[11] + c * h,
        sums[12] + d * e, sums[13] + d * f, sums[14] + d * g, sums[15] + d * h,
    )  # fmt: skip


def _depth_step(tile: Tile, row_pitch: int, column_pitch: int) -> Any:
    """A device function that adds the products of one depth of a slice to a thread's sums.

    ``step(slices, sums, row, column)``: shared memory, and where the thread's rows and columns of that depth are in it.
    """
    two_rows, two_columns = tile.row_strips == 2, tile.column_strips == 2
    half_rows, half_columns = tile.rows // 2, tile.columns // 2

    @device_function
    def step(slices, sums, row, column):
        one, beside, below, across = sums
        top, first = load4_shared(slices, row), load4_shared(slices, column)
        one = _multiplied(one, top, first)
        if two_columns:
            second = load4_shared(slices, column + half_columns)
            beside = _multiplied(beside, top, second)
        if two_rows:
            bottom = load4_shared(slices, row + half_rows)
            below = _multiplied(below, bottom, first)
            if two_columns:
                across = _multiplied(across, bottom, second)
        return one, beside, below, across

    def twice(steps: Any, depths: int) -> Any:
        """Steps over as many depths again. A loop would not be unrolled around so many products."""
        down, along = depths * row_pitch, depths * column_pitch

        @device_function
        def both(slices, sums, row, column):
            return steps(slices, steps(slices, sums, row, column), index(row + down), index(column + along))

        return both

    steps, depths = step, 1
    while depths < SLICE:
        steps, depths = twice(steps, depths), 2 * depths
    return steps


def thread_place(tile: Tile, again: bool = False) -> Any:
    """A device function: the row and the column of the tile where the thread's first strip begins.

    ``again``: computed anew behind a product, which needs the registers of what was known in front of it.

    The 32 lanes of a warp are 8 x 4, and pairs of lanes have the same row. Shared memory serves half a warp's loads of
    16 bytes at once if such pairs, or lanes that are two apart, read the same place; otherwise a quarter's.
    """
    warps_across = tile.columns // (STRIP * tile.column_strips) // 4

    @device_function
    def place():
        thread = thread_again() if again else cuda.threadIdx.x
        warp, lane = quotient(thread, 32), remainder(thread, 32)
        row = quotient(warp, warps_across) * 8 + remainder(quotient(lane, 2), 8)
        column = remainder(warp, warps_across) * 4 + quotient(lane, 16) * 2 + remainder(lane, 2)
        return uint32(row * STRIP), uint32(column * STRIP)

    return place


def tile_product(dtype: Any, tile: Tile, left: Reader, right: Reader, left_depths: Any, right_depths: Any) -> Any:
    """A device function ``product(a, row, column, x_base, w_base, begin, end)``: a thread's sums over these slices.

    Args:
        dtype: of everything.
        tile: what the block computes.
        left: reads the operand of the rows.
        right: reads the operand of the columns.
        left_depths: three device functions: ``start(a, d)`` is a cursor at the depth d, ``look(a, cursor)`` what is
            there (see the readers), ``move(a, cursor)`` the cursor :data:`SLICE` further.
        right_depths: the same for the other operand.

    ``row`` and ``column`` are where the tile begins, ``x_base`` and ``w_base`` where in ``a.x`` and ``a.w`` the
    operands are, the left and the right one. The sums are four strips of 16: the first, the one half a tile beside it,
    the one below, and the one across; strips that the tile does not have are zeros.
    """
    zero, size = dtype(0), SLICE * (left.pitch + right.pitch)
    both_slices, right_slice = 2 * size, SLICE * left.pitch
    start_left, look_left, move_left = left_depths
    start_right, look_right, move_right = right_depths
    steps, place = _depth_step(tile, left.pitch, right.pitch), thread_place(tile)
    left_kept, fetch_left, store_left = left.kept, left.fetch, left.store
    right_kept, fetch_right, store_right = right.kept, right.fetch, right.store
    left_depth, right_depth, left_target, right_target = left.depth, right.depth, left.target, right.target

    @device_function
    def product(a, row, column, x_base, w_base, begin, end):
        slices = cuda.shared.array(both_slices, dtype, alignment=16)
        my_row, my_column = place()
        my_column = uint32(my_column + right_slice)
        x_target, w_target = left_target(), int32(right_target() + right_slice)
        strip = (
            zero, zero, zero, zero, zero, zero, zero, zero, zero, zero, zero, zero, zero, zero, zero, zero,
        )  # fmt: skip
        sums = (strip, strip, strip, strip)
        x_kept, w_kept = left_kept(a, row, x_base), right_kept(a, column, w_base)
        x_at = start_left(a, int32(begin * SLICE + left_depth()))
        w_at = start_right(a, int32(begin * SLICE + right_depth()))
        if begin < end:
            store_left(slices, x_target, fetch_left(a, a.x, x_kept, look_left(a, x_at), True))
            store_right(slices, w_target, fetch_right(a, a.w, w_kept, look_right(a, w_at), True))
            x_at, w_at = move_left(a, x_at), move_right(a, w_at)
        cuda.syncthreads()
        there, remaining = uint32(0), int32(end - begin)
        while remaining > 0:
            # No branch but the loop's own, so that the loads stay in front of the arithmetic, which hides their
            # latency.
            remaining = int32(remaining - 1)
            x_values = fetch_left(a, a.x, x_kept, look_left(a, x_at), remaining > 0)
            w_values = fetch_right(a, a.w, w_kept, look_right(a, w_at), remaining > 0)
            x_at, w_at = move_left(a, x_at), move_right(a, w_at)
            sums = steps(slices, sums, index(there + my_row), index(there + my_column))
            there = uint32(size - there)
            store_left(slices, there + x_target, x_values)
            store_right(slices, there + w_target, w_values)
            cuda.syncthreads()
        return sums

    return product
