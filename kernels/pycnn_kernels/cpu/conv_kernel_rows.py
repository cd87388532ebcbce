"""The weight gradient of a layer of few channels and few filters: a row of the kernel takes the lanes of the vectors.

In channels last the KW x C elements of x that a row of the kernel meets lie together. So ``dw[kh, :, k]``, a vector of
as many elements, is a sum over pixels of such a vector of x times one element of dy: 15 of 16 lanes are busy for a
5x5 kernel on colour images, where the direct algorithm, with the filters in the lanes, has 10 busy for 10 filters.
``conv_few_filters`` with pixels in the lanes fills them all, but transposes x and dy first; here both are read as they
lie.
"""

from __future__ import annotations

import math

import numpy as np

from pycnn_kernels.cpu.conv_direct import SMALL_WORK
from pycnn_kernels.cpu.conv_frame import PaddedInput, Parts, Scratch, WeightGradient, split
from pycnn_kernels.cpu.cost import image_bytes, layout_cost, vectors
from pycnn_kernels.cpu.gather import needs_images
from pycnn_kernels.cpu.host import SIMD, item_bytes, lanes
from pycnn_kernels.cpu.inlined import inlined
from pycnn_kernels.cpu.launch import Task, kernel, most_threads
from pycnn_kernels.cpu.tile import (
    lanes_of,
    local_table,
    shift,
    tile_load,
    tile_multiply_add_columns,
    tile_shape,
    tile_store,
    tile_zeros,
)
from pycnn_kernels.problem import ConvProblem

#: Vectors of x that a tile holds the products of, and filters: as many as the registers have room for.
PIECES = 5
FILTERS = (SIMD.accumulators + 1) // PIECES

MOST_FILTERS, MOST_ROW = 2 * FILTERS, 64


@kernel(
    x="array", dy="array", parts="array", scratch="array", columns="table", places="table", pieces="int",
    C="int", H="int", W="int", K="int", OH="int", OW="int", stride_h="int", stride_w="int",
    each="int", total="int", lanes="int", part="int", scratch_size="int",
)  # fmt: skip
def kernel_rows_kernel(a, item, worker):
    """``dw[places[v] + i, k] = sum over rows and columns of dy of x[columns[v] + i] * dy[k]`` for the lanes i.

    x (N, H, W, C) without padding, dy (N, OH, OW, K), dw (T * C, K). A row of the kernel is one vector of ``lanes``
    elements or several, the last of which overlap: ``columns`` says where each begins in x, from the first element
    that a pixel meets, and ``places`` where in dw. A piece of work is ``each`` of the ``total`` rows of dy and writes
    its sums to ``parts[item * part:]``; its scratch holds them as vectors meanwhile. Bits repeat: the pieces depend on
    the problem alone.
    """
    sums = shift(a.scratch, worker * a.scratch_size)
    for i in range(a.scratch_size):
        sums[i] = 0
    for row in range(item * a.each, min((item + 1) * a.each, a.total)):
        _add_row(a, row, sums)
    _write(a, sums, shift(a.parts, item * a.part))


@inlined
def _add_row(a, row, sums):
    """Add the pixels of one row of dy to all sums, tile after tile."""
    x = shift(a.x, (row // a.OH * a.H + row % a.OH * a.stride_h) * a.W * a.C)
    dy = shift(a.dy, row * a.OW * a.K)
    shape, step, K, lanes = tile_shape(a.x, FILTERS, PIECES), a.stride_w * a.C, a.K, a.lanes
    filters, columns = local_table(FILTERS), local_table(PIECES)
    to, width = 0, PIECES * lanes_of(a.x)
    for k in range(0, K, FILTERS):
        for m in range(FILTERS):
            filters[m] = min(k + m, K - 1)
        for v in range(0, a.pieces, PIECES):
            for j in range(PIECES):
                columns[j] = a.columns[min(v + j, a.pieces - 1)]
            acc = tile_load(tile_zeros(shape), sums, to, width, None)
            for i in range(a.OW):
                acc = tile_multiply_add_columns(acc, dy, i * K, filters, x, i * step, columns, lanes)
            tile_store(acc, sums, to, width, None)
            to += FILTERS * width


@inlined
def _write(a, sums, to):
    """From tiles to dw. Where two vectors overlap, both hold the same."""
    across = -(-a.pieces // PIECES)
    for k in range(a.K):
        for v in range(a.pieces):
            tile = k // FILTERS * across + v // PIECES
            vector = (tile * FILTERS + k % FILTERS) * PIECES + v % PIECES
            for i in range(a.lanes):
                to[(a.places[v] + i) * a.K + k] = sums[vector * lanes_of(a.x) + i]


#: Pieces of work, and pixels of one at least: each ends by writing its sums.
_PIECES_OF_WORK, _LEAST_PIXELS = 32, 1024


class KernelRowsSums:
    """The sums of dw for a problem without padding: a task that takes the addresses of x, dy, parts and scratch.

    ``splits`` is how many parts it writes, about ``pieces`` if they are large enough; ``worker_bytes`` the scratch of
    each worker.
    """

    def __init__(self, p: ConvProblem, pieces: int = _PIECES_OF_WORK):
        (_, H, W), (_, OH, OW), (_, KH, KW) = p.size, p.output, p.kernel
        row = KW * p.C
        width = min(row, lanes(p.dtype))
        begins = [min(begin, row - width) for begin in range(0, row, width)]
        columns = [kh * p.dilation[1] * W * p.C + begin for kh in range(KH) for begin in begins]
        places = [kh * row + begin for kh in range(KH) for begin in begins]
        total = p.N * OH
        each, self.splits = split(total, -(-_LEAST_PIXELS // max(OW, 1)), pieces)
        tiles = -(-p.K // FILTERS) * -(-len(columns) // PIECES)
        scratch_size = tiles * FILTERS * PIECES * lanes(p.dtype)
        self.worker_bytes = scratch_size * item_bytes(p.dtype)
        self.task = Task(
            kernel_rows_kernel, p.dtype, self.splits, "x dy parts scratch", parallel=p.multiply_adds > SMALL_WORK,
            columns=np.array(columns, np.int64), places=np.array(places, np.int64), pieces=len(columns),
            C=p.C, H=H, W=W, K=p.K, OH=OH, OW=OW, stride_h=p.stride[1], stride_w=p.stride[2],
            each=each, total=total, lanes=width, part=math.prod(p.w_shape), scratch_size=scratch_size,
        )  # fmt: skip


class _KernelRows:
    """The core of the weight gradient."""

    def __init__(self, p: ConvProblem, scratch: Scratch):
        self._padded = PaddedInput(p, scratch)
        self._sums = KernelRowsSums(self._padded.problem)
        self._parts = Parts(self._sums.splits, math.prod(p.w_shape), scratch)
        self._scratch_at = scratch.reserve_bytes(self._sums.worker_bytes * most_threads())

    def run(self, base: int, x: int, dy: int, dw: int) -> None:
        x = self._padded.run(base, x)
        self._sums.task.run(x, dy, self._parts.place(base, dw), base + self._scratch_at)
        self._parts.add(base, dw)


class KernelRowsWeightGradient(WeightGradient):
    """``dw`` from ``x`` and ``dy``."""

    make_core = _KernelRows


def kernel_rows_supports(p: ConvProblem) -> str | None:
    """None for a problem that :class:`KernelRowsWeightGradient` can do, otherwise the reason why not."""
    if p.K > MOST_FILTERS or p.G > 1:
        return f"at most {MOST_FILTERS} filters in one group; received {p.K} in {p.G}"
    if p.kernel[2] * p.C > MOST_ROW:
        return f"rows of the kernel of at most {MOST_ROW} elements; received {p.kernel[2]} x {p.C}"
    if p.dilation[2] > 1 and p.kernel[2] > 1:
        return f"a kernel whose elements meet neighbours in a row; received a dilation of {p.dilation[2]}"
    return needs_images(p)


def kernel_rows_suits(p: ConvProblem) -> str | None:
    """None for a problem whose sums and pixels its cost describes."""
    pixels = p.N * math.prod(p.output)
    return None if pixels >= _LEAST_PIXELS else f"at least {_LEAST_PIXELS} pixels; received {pixels}"


def kernel_rows_cost(p: ConvProblem) -> float:
    """The expected time; see ``cost.py`` for the unit."""
    tiles = -(-p.K // FILTERS) * -(-p.kernel[1] * vectors(p.kernel[2] * p.C, p.dtype) // PIECES)
    products = p.N * math.prod(p.output) * tiles * FILTERS * PIECES
    copied = 0.25 * image_bytes(p) if any(map(any, p.padding)) else 0.0
    return 1.3 * products + copied + layout_cost(p)
