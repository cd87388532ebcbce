"""Winograd's weight gradient: F(3x3, 4x4), a correlation of x with dy.

The forward's F(4x4, 3x3) and this have the same patches of x. Tiles of dy are in the place of the kernel, and products
are summed over tiles instead of channels; see ``winograd_transforms``.
"""

from __future__ import annotations

import math

from pycnn_kernels.cpu.conv_frame import Parts, Scratch, WeightGradient, split
from pycnn_kernels.cpu.conv_winograd import (
    FEW_ROWS,
    HALF,
    HALF_ROWS,
    ROWS,
    VECTORS,
    next_place,
    place_of,
    read_patches,
    target_places,
)
from pycnn_kernels.cpu.host import item_bytes, lanes
from pycnn_kernels.cpu.inlined import inlined
from pycnn_kernels.cpu.launch import Task, kernel, most_threads
from pycnn_kernels.cpu.tile import (
    elements_between,
    lanes_of,
    rows_of,
    shift,
    tile_load,
    tile_load_rows,
    tile_multiply_add,
    tile_shape,
    tile_store,
    tile_store_rows,
    tile_zeros,
    with_rows,
)
from pycnn_kernels.cpu.winograd_tiling import (
    GRADIENT_ROWS,
    USUAL_SCHEME,
    Tiling,
    large_tiles,
    small_tiles,
    suited_tiles,
)
from pycnn_kernels.cpu.winograd_transforms import (
    Scheme,
    SchemeType,
    points_of,
    points_shape,
    result_table,
    results_shape,
    taps_of,
    tile_transform_gradient,
    tile_transform_tap_gradient,
)
from pycnn_kernels.problem import ConvProblem


@kernel(
    scheme="type", src="array", dy="array", dw="array", scratch="array",
    from_deep="table", from_row="table", from_column="table", to_deep="table", to_row="table", to_column="table",
    taps="table", G="int", R="int", L="int", KD="int",
    source_image="int", target_image="int", deeps="int", tiles_h="int", tiles_w="int", tiles="int",
    block_tiles="int", split_tiles="int", row_blocks="int", column_blocks="int", depth="int",
    v_point="int", e_point="int", m_point="int", part="int", scratch_size="int",
)  # fmt: skip
def winograd_weight_gradient_kernel(a, item, worker):
    """``dw[kd, kh, kw, r, g, l] = sum of src[n, d + kd, i + kh, j + kw, g, r] * dy[n, d, i, j, g, l]`` over n, d, i, j.

    src and dy are channels last; their tables are those of :func:`winograd_kernel`, dy in the place of dst. dw
    (T, R, G, L); ``taps`` says where the matrix of each tap begins. A piece of work is a split of ``split_tiles``
    tiles, a tap of the summed axis, a group, a block of GRADIENT_ROWS channels and a block of columns; split s writes
    its sum to ``dw[s * part:]``, for :func:`sum_parts` to add in order. Its scratch holds the transforms of
    ``block_tiles`` tiles of src and of dy (points, tiles, channels), the sums of their products (points, channels,
    columns) and a row of zeros. Bits repeat: the splits depend on the problem alone.
    """
    points = points_of(a.scheme)
    column_block = item % a.column_blocks
    row_block = item // a.column_blocks % a.row_blocks
    g = item // (a.column_blocks * a.row_blocks) % a.G
    deep = item // (a.column_blocks * a.row_blocks * a.G) % a.KD
    split = item // (a.column_blocks * a.row_blocks * a.G * a.KD)
    v = shift(a.scratch, worker * a.scratch_size)
    e = shift(v, points * a.v_point)
    m = shift(e, points * a.e_point)
    nothing = shift(m, points * a.m_point)
    for i in range(max(a.R, a.L)):
        nothing[i] = 0
    channel, column = row_block * GRADIENT_ROWS, column_block * VECTORS * lanes_of(a.src)
    channels, columns = min(GRADIENT_ROWS, a.R - channel), min(VECTORS * lanes_of(a.src), a.L - column)
    begin = split * a.split_tiles
    end = min(begin + a.split_tiles, a.tiles)
    for first in range(begin, max(end, begin + 1), a.block_tiles):  # without tiles, a sum of zero
        count = min(a.block_tiles, end - first)
        if count > 0:
            read_patches(a, first, count, deep, g * a.R + channel, channels, v, elements_between(a.src, nothing))
            _read_gradients(a, first, count, g * a.L + column, columns, e, elements_between(a.dy, nothing))
        if columns > HALF * lanes_of(a.src):
            _add_products(a, first == begin, count, channels, v, e, m, tile_shape(a.src, ROWS, VECTORS))
        else:
            _add_products(a, first == begin, count, channels, v, e, m, tile_shape(a.src, HALF_ROWS, HALF))
    row = a.G * a.L
    to = shift(a.dw, split * a.part + channel * row + g * a.L + column)
    taps = shift(a.taps, deep * taps_of(a.scheme))
    for r in range(channels):
        for at in range(0, columns, lanes_of(a.src)):
            source = r * VECTORS * lanes_of(a.src) + at
            products = tile_load(tile_zeros(points_shape(a.scheme, a.src)), m, source, a.m_point, None)
            dw = tile_transform_tap_gradient(a.scheme, products)
            if at + lanes_of(a.src) <= columns:
                tile_store_rows(dw, to, r * row + at, taps, None)
            else:
                tile_store_rows(dw, to, r * row + at, taps, columns - at)


winograd_weight_gradient_kernel.usually(scheme=SchemeType(USUAL_SCHEME))


@inlined
def _read_gradients(a, first, count, column, columns, e, nothing):
    """The transformed tiles of dy from ``first`` on; ``nothing``: where zeros lie, seen from dy."""
    there = result_table(a.scheme)
    n, plane, row, place = place_of(a, first)
    for t in range(count):
        target_places(a, n, plane, row, place, there, column, nothing)
        for at in range(0, columns, lanes_of(a.src)):
            g = tile_zeros(results_shape(a.scheme, a.src))
            if at + lanes_of(a.src) <= columns:
                g = tile_load_rows(g, a.dy, at, there, None)
            else:
                g = tile_load_rows(g, a.dy, at, there, columns - at)
            tile_store(tile_transform_gradient(a.scheme, g), e, t * VECTORS * lanes_of(a.src) + at, a.e_point, None)
        n, plane, row, place = next_place(a, n, plane, row, place)


@inlined
def _add_products(a, fresh, count, channels, v, e, m, shape):
    """``m[point, r, l] (+)= sum over t of v[point, t, r] * e[point, t, l]``; the last rows may be of no channel."""
    left = channels % rows_of(shape)
    whole = channels - left if left <= FEW_ROWS else channels
    for point in range(points_of(a.scheme)):
        there, here, to = shift(v, point * a.v_point), shift(e, point * a.e_point), shift(m, point * a.m_point)
        for r in range(0, whole, rows_of(shape)):
            _add_to_rows(a, fresh, count, there, here, to, r, shape)
        if whole < channels:
            _add_to_rows(a, fresh, count, there, here, to, whole, with_rows(shape, FEW_ROWS))


@inlined
def _add_to_rows(a, fresh, count, v, e, m, r, shape):
    """The products of one point for a register tile of channels, from ``r`` on."""
    width = VECTORS * lanes_of(a.src)
    acc = tile_zeros(shape)
    if not fresh:
        acc = tile_load(acc, m, r * width, width, None)
    for t in range(count):
        acc = tile_multiply_add(acc, v, t * a.depth + r, None, e, t * width, None)
    tile_store(acc, m, r * width, width, None)


#: Points of the tiles of one block, and pieces of work at least.
_BLOCK_POINTS, _PIECES = 48 * 36, 8


class _WinogradWeightGradient:
    """The core of the weight gradient, in tiles of one scheme."""

    def __init__(self, p: ConvProblem, scheme: Scheme, scratch: Scratch):
        tiling = Tiling(p, scheme, "weight_gradient")
        R, L, KD, points = tiling.R, tiling.L, tiling.KD, scheme.points
        lane_count = lanes(p.dtype)
        width, line = VECTORS * lane_count, 64 // item_bytes(p.dtype)
        row_blocks, column_blocks = -(-R // GRADIENT_ROWS), -(-L // width)
        pieces = KD * p.G * row_blocks * column_blocks
        block_tiles = min(_BLOCK_POINTS // points, max(tiling.tiles, 1))
        split_tiles, splits = split(tiling.tiles, block_tiles, -(-_PIECES // pieces))
        # The last tile of rows hangs over.
        rows = -(-min(R, GRADIENT_ROWS) // math.lcm(ROWS, HALF_ROWS)) * math.lcm(ROWS, HALF_ROWS)
        depth = -(-rows // lane_count) * lane_count
        v_point, e_point, m_point = block_tiles * depth + line, block_tiles * width + line, rows * width + line
        each = points * (v_point + e_point + m_point) + -(-max(R, L) // line) * line
        size = math.prod(p.w_shape)
        self._scratch_at = scratch.reserve(most_threads() * each)
        self._products = Task(
            winograd_weight_gradient_kernel.compiled_for(scheme=SchemeType(scheme)), p.dtype, splits * pieces,
            "src dy dw scratch", **tiling.fields, taps=tiling.weights["taps"], G=p.G, R=R, L=L, KD=KD,
            block_tiles=block_tiles, split_tiles=split_tiles,
            row_blocks=row_blocks, column_blocks=column_blocks, depth=depth,
            v_point=v_point, e_point=e_point, m_point=m_point, part=size, scratch_size=each,
        )  # fmt: skip
        self._parts = Parts(splits, size, scratch)

    def run(self, base: int, x: int, dy: int, dw: int) -> None:
        self._products.run(x, dy, self._parts.place(base, dw), base + self._scratch_at)
        self._parts.add(base, dw)


class WinogradWeightGradient(WeightGradient):
    """``dw`` from ``x`` and ``dy``, in the tiles that suit the problem."""

    choose_scheme = staticmethod(suited_tiles)

    @classmethod
    def make_core(cls, p: ConvProblem, scratch: Scratch) -> _WinogradWeightGradient:
        return _WinogradWeightGradient(p, cls.choose_scheme(p, "weight_gradient"), scratch)


class WinogradLargeWeightGradient(WinogradWeightGradient):
    """The same in tiles of F(4x4, 3x3)."""

    choose_scheme = staticmethod(large_tiles)


class WinogradSmallWeightGradient(WinogradWeightGradient):
    """The same in tiles of F(2x2, 3x3)."""

    choose_scheme = staticmethod(small_tiles)
