"""The weight gradient of a layer of few filters: pixels take the lanes of the vectors.

The direct algorithm puts the filters into the lanes, and the 6 filters of LeNet leave 10 of 16 idle. Here each
element of dw is a product of two planes of pixels, ``dw[t, c, k] = sum over pixels of x[c, pixel + offset(t)] *
dy[k, pixel]``: a tile holds a vector of partial sums for some of the (t, c) and some of the k, and adds one vector
of pixels after the other. x and dy are transposed into planes of one width, a band of rows at a time, as in
``conv_few_channels``; dy has zeros in the pixels between the rows.

Those zeros take part in the products. So an infinity in x gives NaN where the direct algorithm gives infinity.
"""

from __future__ import annotations

import math

import numpy as np

from pycnn_kernels.cpu.conv_direct import SMALL_WORK
from pycnn_kernels.cpu.cost import image_bytes
from pycnn_kernels.cpu.elementwise import sum_parts
from pycnn_kernels.cpu.gather import needs_images, needs_zeros
from pycnn_kernels.cpu.host import SIMD, item_bytes, lanes
from pycnn_kernels.cpu.inlined import inlined
from pycnn_kernels.cpu.launch import Task, kernel, most_threads
from pycnn_kernels.cpu.layout import fill_planes
from pycnn_kernels.cpu.tile import (
    lanes_of,
    rows_of,
    shift,
    tile_load,
    tile_multiply_vectors,
    tile_shape,
    tile_store,
    tile_zeros,
    vectors_of,
)
from pycnn_kernels.cpu.workspace import aligned_bytes, workspace
from pycnn_kernels.problem import ConvProblem, effective_kernel

MOST_FILTERS = 10

# Tiles of so many filters, and the rows that the registers have room for.
ROWS_2, ROWS_4, ROWS_5, ROWS_6 = (SIMD.accumulators // filters for filters in (2, 4, 5, 6))


def _tile(K: int) -> tuple[int, int]:
    """Rows and filters of the tile for a layer of K filters: the one that leaves the fewest idle."""
    filters = min((2, 4, 5, 6), key=lambda width: (-(-K // width) * width, -width))
    return SIMD.accumulators // filters, filters


@kernel(
    x="array", dy="array", parts="array", scratch="array", x_rows="table", dy_rows="table",
    channels_last="int", C="int", H="int", W="int", K="int", OH="int", OW="int", tile_rows="int", tile_filters="int",
    bands="int", band="int", total="int", bands_each="int", x_height="int", top="int", left="int",
    width="int", x_plane="int", dy_plane="int", height="int", part="int", dw_row="int", dw_filter="int",
    scratch_size="int",
)  # fmt: skip
def few_filters_kernel(a, item, worker):
    """``dw[m, k] = sum over pixels p of x[p + x_rows[m]] * dy[p + dy_rows[k]]`` for all ``height`` rows m of dw.

    A row is a tap and a channel. x (N, H, W, C) and dy (N, OH, OW, K), or channels first; element (m, k) of dw
    lies ``dw_row`` and ``dw_filter`` elements from its neighbours. A piece of work is ``bands_each`` bands of ``band``
    rows of dy and writes its sum to ``parts[item * part:]``, for :func:`sum_parts` to add in order. Its scratch holds
    C planes of x and K planes of dy, ``x_plane`` and ``dy_plane`` long, and the vectors of partial sums, tile after
    tile. Bits repeat: the pieces depend on the problem alone.
    """
    x_planes = shift(a.scratch, worker * a.scratch_size)
    dy_planes = shift(x_planes, a.C * a.x_plane)
    sums = shift(dy_planes, a.K * a.dy_plane)
    _clear_ends(a, x_planes, dy_planes)
    first = item * a.bands_each
    for number in range(first, min(first + a.bands_each, a.total)):
        _fill(a, number, x_planes, dy_planes)
        if a.tile_filters == 2:
            _add_band(a, number == first, x_planes, dy_planes, sums, tile_shape(a.x, ROWS_2, 2))
        elif a.tile_filters == 4:
            _add_band(a, number == first, x_planes, dy_planes, sums, tile_shape(a.x, ROWS_4, 4))
        elif a.tile_filters == 5:
            _add_band(a, number == first, x_planes, dy_planes, sums, tile_shape(a.x, ROWS_5, 5))
        else:
            _add_band(a, number == first, x_planes, dy_planes, sums, tile_shape(a.x, ROWS_6, 6))
    _write(a, sums, shift(a.parts, item * a.part))


@inlined
def _clear_ends(a, x_planes, dy_planes):
    """Zeros behind the last row of each plane, where the last vector of pixels hangs over."""
    for c in range(a.C):
        for i in range((a.band + a.x_height - 1) * a.width, a.x_plane):
            x_planes[c * a.x_plane + i] = 0
    for k in range(a.K):
        for i in range(a.band * a.width, a.dy_plane):
            dy_planes[k * a.dy_plane + i] = 0


@inlined
def _fill(a, number, x_planes, dy_planes):
    """The planes of one band of all images."""
    n, row = number // a.bands, number % a.bands * a.band
    rows = a.band + a.x_height - 1
    fill_planes(a.x, a.channels_last, n, a.H, a.W, a.C, row - a.top, rows, -a.left, a.width, x_planes, a.x_plane)
    fill_planes(a.dy, a.channels_last, n, a.OH, a.OW, a.K, row, a.band, 0, a.width, dy_planes, a.dy_plane)


@inlined
def _write(a, sums, to):
    """Each element of dw, the sum of a vector of partial sums.

    Tiles lie one behind the other: all filters of one group of rows, then the next group. A tile is row by row.
    """
    across = -(-a.K // a.tile_filters)
    for m in range(a.height):
        for k in range(a.K):
            tile = m // a.tile_rows * across + k // a.tile_filters
            within = m % a.tile_rows * a.tile_filters + k % a.tile_filters
            partial = shift(sums, (tile * a.tile_rows * a.tile_filters + within) * lanes_of(a.x))
            total = partial[0]
            for i in range(1, lanes_of(a.x)):
                total += partial[i]
            to[m * a.dw_row + k * a.dw_filter] = total


@inlined
def _add_band(a, fresh, x_planes, dy_planes, sums, shape):
    """Add the pixels of one band to all tiles."""
    to, pixels = 0, a.band * a.width
    for m in range(0, a.height, rows_of(shape)):
        x_rows = shift(a.x_rows, m)
        for k in range(0, a.K, vectors_of(shape)):
            dy_rows = shift(a.dy_rows, k)
            acc = tile_zeros(shape)
            row = vectors_of(shape) * lanes_of(a.x)
            if not fresh:
                acc = tile_load(acc, sums, to, row, None)
            for i in range(0, pixels, lanes_of(a.x)):
                acc = tile_multiply_vectors(acc, x_planes, i, x_rows, dy_planes, i, dy_rows, None)
            tile_store(acc, sums, to, row, None)
            to += rows_of(shape) * row


#: Bytes of planes of one band, and of partial sums, that stay in the second-level cache.
_PLANE_BYTES = 192 * 1024
_SUM_BYTES = 192 * 1024

#: Pixels of one piece of work at least: each ends by adding the lanes of all partial sums.
_LEAST_PIXELS = 1024

#: Bytes of planes that a thread may take where a band of a single row exceeds that.
_MOST_PLANE_BYTES = 8 << 20


class FewFiltersWeightGradient:
    """``dw`` from ``x`` and ``dy``; see :func:`few_filters_kernel`."""

    def __init__(self, p: ConvProblem):
        (_, H, W), (_, OH, OW), (_, KH, KW) = p.size, p.output, p.kernel
        _, DH, DW = p.dilation
        _, (top, _), (left, _) = p.padding
        lane_count, itemsize = lanes(p.dtype), item_bytes(p.dtype)
        x_height, width = effective_kernel(KH, DH), OW + effective_kernel(KW, DW) - 1
        row_bytes = (p.C + p.K) * width * itemsize
        band = (_PLANE_BYTES - p.C * (x_height - 1) * width * itemsize) // row_bytes
        bands = max(-(-OH // max(band, 1)), 1)
        band = -(-OH // bands)
        total = p.N * bands
        bands_each = max(-(-total // 32), -(-_LEAST_PIXELS // max(band * OW, 1)))
        items = -(-total // bands_each)
        # The last vector of pixels hangs over the end of a plane, whose dy is zero there.
        x_plane = (band + x_height) * width + lane_count
        dy_plane = -(-band * width // lane_count) * lane_count
        tile_rows, filters = _tile(p.K)
        if p.weight_layout == "HWIO":
            order = [(c, kh, kw) for kh in range(KH) for kw in range(KW) for c in range(p.C)]
            dw_row, dw_filter = p.K, 1
        else:
            order = [(c, kh, kw) for c in range(p.C) for kh in range(KH) for kw in range(KW)]
            dw_row, dw_filter = 1, len(order)
        x_rows = [c * x_plane + kh * DH * width + kw * DW for c, kh, kw in order]
        x_rows += x_rows[-1:] * (-len(order) % tile_rows)
        dy_rows = [k * dy_plane for k in range(p.K)]
        dy_rows += dy_rows[-1:] * (-p.K % filters)
        size = math.prod(p.w_shape)
        partial_sums = len(x_rows) * len(dy_rows) * lane_count
        scratch = aligned_bytes(p.C * x_plane + p.K * dy_plane + partial_sums, p.dtype)
        self._parts_at = scratch * most_threads()
        self.workspace_bytes = self._parts_at + aligned_bytes(items * size, p.dtype)
        self._task = Task(
            few_filters_kernel, p.dtype, items, "x dy parts scratch", parallel=p.multiply_adds > SMALL_WORK,
            x_rows=np.array(x_rows, np.int64), dy_rows=np.array(dy_rows, np.int64),
            channels_last=int(p.layout == "channels_last"), C=p.C, H=H, W=W, K=p.K, OH=OH, OW=OW,
            tile_rows=tile_rows, tile_filters=filters,
            bands=bands, band=band, total=total, bands_each=bands_each, x_height=x_height, top=top,
            left=left, width=width, x_plane=x_plane, dy_plane=dy_plane, height=len(order), part=size,
            dw_row=dw_row, dw_filter=dw_filter, scratch_size=scratch // itemsize,
        )  # fmt: skip
        self._total = sum_parts(p.dtype, items, size)

    def run(self, x: int, dy: int, dw: int) -> None:
        scratch = workspace(self.workspace_bytes)
        self._task.run(x, dy, scratch + self._parts_at, scratch)
        self._total.run(scratch + self._parts_at, dw)


def few_filters_supports(p: ConvProblem) -> str | None:
    """None for a problem that :class:`FewFiltersWeightGradient` can do, otherwise the reason why not."""
    if p.K > MOST_FILTERS or p.G > 1:
        return f"at most {MOST_FILTERS} filters in one group; received {p.K} in {p.G}"
    if depth := needs_images(p):
        return depth
    if p.stride[1:] != (1, 1):
        return f"stride 1; received {p.stride[1:]}"
    width = p.output[2] + effective_kernel(p.kernel[2], p.dilation[2])
    band = (p.C * effective_kernel(p.kernel[1], p.dilation[1]) + p.K) * width * item_bytes(p.dtype)
    if band > _MOST_PLANE_BYTES:
        return f"planes of at most {_MOST_PLANE_BYTES >> 20} MB a thread; a band of one row takes {band >> 20}"
    return needs_zeros(p)


def few_filters_suits(p: ConvProblem) -> str | None:
    """None for a problem whose sums and pixels its cost describes."""
    pixels = p.N * math.prod(p.output)
    if pixels < _LEAST_PIXELS:
        return f"at least {_LEAST_PIXELS} pixels for its vectors of partial sums; received {pixels}"
    sums = math.prod(p.w_shape) * SIMD.vector_bytes
    if sums > _SUM_BYTES:
        return f"partial sums of at most {_SUM_BYTES >> 10} KB; received weights that take {sums >> 10}"
    return None


def few_filters_cost(p: ConvProblem) -> float:
    """The expected time; see ``cost.py`` for the unit."""
    (_, _, OW), (_, _, KW) = p.output, p.kernel
    _, filters = _tile(p.K)
    between = 1 + (effective_kernel(KW, p.dilation[2]) - 1) / max(OW, 1)  # pixels between the rows are multiplied, too
    rows = p.N * math.prod(p.output) * math.prod(p.kernel) * p.C
    return 1.45 * between * rows * -(-p.K // filters) * filters / lanes(p.dtype) + 0.5 * image_bytes(p)
