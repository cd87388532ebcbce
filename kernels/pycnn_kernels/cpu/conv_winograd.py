"""Winograd convolution F(4x4, 3x3): 36 multiplications for 16 results of a 3x3 kernel, instead of 144.

A tile of 4 x 4 results is ``A^T [(G g G^T) * (B^T d B)] A`` of its 6 x 6 patch d of the source and the kernel g, where
``*`` multiplies element by element. Summed over channels, the element-by-element products of many tiles become 36
matrix products, (tiles, R) x (R, L), which is where the time goes. From Lavin and Gray, "Fast Algorithms for
Convolutional Neural Networks" (2015), whose points 0, 1, -1, 2, -2 and infinity these are. The transforms round more
than a direct sum: about 1e-5 of the largest result in float32, where direct sums have 1e-6.

The input gradient of a convolution is the same correlation, of dy with the transposed, reversed weights. The weight
gradient, a correlation of x with dy, is F(3x3, 4x4): the same patches, tiles of dy in the place of the kernel, and
products summed over tiles instead of channels.

A NaN or an infinity in the source reaches all results of the tiles whose patches it lies in, as NaN.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numba.extending import intrinsic

from pycnn_kernels.cpu.conv_frame import Forward, InputGradient, Parts, Scratch, WeightGradient, split
from pycnn_kernels.cpu.cost import layout_cost, vectors
from pycnn_kernels.cpu.epilogue import EPILOGUE_ARRAYS, EPILOGUE_FIELDS, Epilogue, call_finish, epilogue_fields
from pycnn_kernels.cpu.gather import needs_zeros
from pycnn_kernels.cpu.host import SIMD, item_bytes, lanes
from pycnn_kernels.cpu.launch import Task, kernel, most_threads
from pycnn_kernels.cpu.tile import (
    elements_between,
    lanes_of,
    local_table,
    prefetch_line,
    rows_of,
    shift,
    tile_add,
    tile_fill_rows,
    tile_load,
    tile_load_rows,
    tile_multiply_add,
    tile_relu,
    tile_shape,
    tile_store,
    tile_store_rows,
    tile_zeros,
    transform_both_ways,
)
from pycnn_kernels.problem import ConvProblem, Triple

#: Results of a tile along one axis, and elements of its patch.
M, PATCH = 4, 6
POINTS, RESULTS = PATCH * PATCH, M * M

#: Vectors in a block of columns and the rows of its tile; a last block of half the width has a tile of its own.
VECTORS, ROWS = SIMD.wide_tile
HALF, HALF_ROWS = VECTORS // 2, SIMD.tile_rows

#: Channels of a block of the weight gradient, whose products stay in the second-level cache.
GRADIENT_ROWS = 60

#: Rows of weights between the one that is transformed and the one that is asked for from memory.
AHEAD = 4

#: Source channels of one piece of the weights' transform.
CHANNELS = 8


def input_transform(d):
    """``B^T d`` of 6 elements.

    >>> input_transform([0, 0, 1, 0, 0, 0])
    [-5, -4, -4, -1, -1, 0]
    """
    even, odd = d[4] - 4 * d[2], d[3] - 4 * d[1]
    even_2, odd_2 = d[4] - d[2], 2 * (d[3] - d[1])
    return [
        4 * d[0] - 5 * d[2] + d[4],
        even + odd,
        even - odd,
        even_2 + odd_2,
        even_2 - odd_2,
        4 * d[1] - 5 * d[3] + d[5],
    ]


def weight_transform(g):
    """``G g`` of 3 elements: 6."""
    even, odd = -1 / 6 * (g[0] + g[2]), 1 / 6 * g[1]
    even_2, odd_2 = 1 / 24 * g[0] + 1 / 6 * g[2], 1 / 12 * g[1]
    return [1 / 4 * g[0], even - odd, even + odd, even_2 + odd_2, even_2 - odd_2, 1 * g[2]]


def output_transform(m):
    """``A^T m`` of 6 elements: 4."""
    sum_1, sum_2 = m[1] + m[2], m[3] + m[4]
    difference_1, difference_2 = m[1] - m[2], m[3] - m[4]
    return [
        m[0] + sum_1 + sum_2,
        difference_1 + 2 * difference_2,
        sum_1 + 4 * sum_2,
        difference_1 + 8 * difference_2 + m[5],
    ]


def gradient_transform(e):
    """Of 4 elements of dy: 6. The ``G`` of F(3, 4), which has the points of F(4, 3) and the same ``B``."""
    even, odd = -1 / 6 * (e[0] + e[2]), 1 / 6 * (e[1] + e[3])
    even_2, odd_2 = 1 / 24 * e[0] + 1 / 6 * e[2], 1 / 12 * e[1] + 1 / 3 * e[3]
    return [1 / 4 * e[0], even - odd, even + odd, even_2 + odd_2, even_2 - odd_2, 1 * e[3]]


def weight_gradient_transform(m):
    """Of 6 elements: 3. The ``A^T`` of F(3, 4)."""
    sum_1, sum_2 = m[1] + m[2], m[3] + m[4]
    difference_1, difference_2 = m[1] - m[2], m[3] - m[4]
    return [m[0] + sum_1 + sum_2, difference_1 + 2 * difference_2, sum_1 + 4 * sum_2 + m[5]]


@intrinsic
def tile_transform_input(typing_context, tile):
    """``B^T d B`` of a patch, 36 vectors of channels."""
    result, generate = transform_both_ways(tile, input_transform, PATCH)
    return result(tile), generate


@intrinsic
def tile_transform_weights(typing_context, tile):
    """``G g G^T`` of a kernel, 9 vectors of columns: 36."""
    result, generate = transform_both_ways(tile, weight_transform, PATCH)
    return result(tile), generate


@intrinsic
def tile_transform_output(typing_context, tile):
    """``A^T m A`` of 36 vectors of columns: 16."""
    result, generate = transform_both_ways(tile, output_transform, M)
    return result(tile), generate


@intrinsic
def tile_transform_gradient(typing_context, tile):
    """16 vectors of dy: 36."""
    result, generate = transform_both_ways(tile, gradient_transform, PATCH)
    return result(tile), generate


@intrinsic
def tile_transform_weight_gradient(typing_context, tile):
    """36 vectors of products: the 9 of dw."""
    result, generate = transform_both_ways(tile, weight_gradient_transform, 3)
    return result(tile), generate


@kernel(w="array", u="array", R="int", L="int", chunks="int", u_point="int")
def winograd_weights_kernel(a, item, worker):
    """``u[block, point, r, column] = (G w[:, r, l] G^T)[point]`` for CHANNELS channels of one block of columns.

    w (9, R, L). In u a block has 36 points, ``u_point``
    elements apart, each R rows of a block's width; columns beyond L are zeros.
    """
    block, first = item // a.chunks, item % a.chunks * CHANNELS
    width = VECTORS * lanes_of(a.w)
    to = shift(a.u, block * POINTS * a.u_point + first * width)
    _transform_weights(a, first, min(CHANNELS, a.R - first), block * width, to)


@njit(error_model="numpy")
def _transform_weights(a, first, channels, column, u):
    """The weights of a block of columns, from ``column`` on, for ``channels`` channels from ``first`` on, into u."""
    for r in range(channels):
        for tap in range(9):  # nine places far from each other, a few cache lines each
            for at in range(0, VECTORS * lanes_of(a.w), lanes_of(a.w)):
                prefetch_line(a.w, (tap * a.R + first + r + AHEAD) * a.L + column + at)
        for at in range(0, VECTORS * lanes_of(a.w), lanes_of(a.w)):
            left = a.L - column - at
            start = (first + r) * a.L + column + at
            g = tile_zeros(tile_shape(a.w, 9, 1))
            if left >= lanes_of(a.w):
                g = tile_load(g, a.w, start, a.R * a.L, None)
            elif left > 0:
                g = tile_load(g, a.w, start, a.R * a.L, left)
            tile_store(tile_transform_weights(g), u, r * VECTORS * lanes_of(a.w) + at, a.u_point, None)


@kernel(
    **EPILOGUE_FIELDS, src="array", w="array", u="array", scratch="array", v_rows="table",
    N="int", SH="int", SW="int", R="int", TH="int", TW="int", L="int",
    top="int", left="int", tiles_h="int", tiles_w="int", tiles="int", block_tiles="int",
    blocks="int", groups="int", group_blocks="int",
    depth="int", pass_channels="int", nowhere_size="int",
    v_point="int", u_point="int", m_point="int", scratch_size="int",
)  # fmt: skip
def winograd_kernel(a, item, worker):
    """``dst[n, i, j, l] = sum of src[n, i - top + kh, j - left + kw, r] w[kh, kw, r, l]``, finished.

    src (N, SH, SW, R) and dst (N, TH, TW, L), channels last, outside of src zeros; w (9, R, L). u is the transform of
    w, see :func:`winograd_weights_kernel`. Or, where ``pass_channels`` is less than R, each piece transforms the
    weights itself, so many channels at a time: large weights for a few tiles would not stay in any cache.

    A piece of work is ``block_tiles`` tiles, numbered over all images, and ``group_blocks`` blocks of columns. Its
    scratch, ``scratch_size`` elements, holds the transformed patches v (36 points, tiles, ``depth``), the products m of
    one block of columns (36 points, tiles, columns), a row of zeros, a row for results that do not exist, and the
    weights of one pass. Bits repeat: a result is computed by one piece.
    """
    group, block = item % a.groups, item // a.groups
    first = block * a.block_tiles
    count = min(a.block_tiles, a.tiles - first)
    v = shift(a.scratch, worker * a.scratch_size)
    m = shift(v, POINTS * a.v_point)
    nothing = shift(m, POINTS * a.m_point)
    nowhere = shift(nothing, a.depth)
    here = shift(nowhere, a.nowhere_size)
    for i in range(a.depth):
        nothing[i] = 0
    _read_patches(a, first, count, 0, a.R, v, elements_between(a.src, nothing))
    width = VECTORS * lanes_of(a.src)
    for b in range(group * a.group_blocks, min((group + 1) * a.group_blocks, a.blocks)):
        for channel in range(0, max(a.R, 1), a.pass_channels):
            channels = min(a.pass_channels, a.R - channel)
            u = shift(a.u, b * POINTS * a.u_point)
            if a.pass_channels < a.R:
                u = here
                _transform_weights(a, channel, channels, b * width, u)
            if a.L - b * width > HALF * lanes_of(a.src):
                _multiply(a, v, u, m, count, channel, channels, tile_shape(a.src, ROWS, VECTORS))
            else:
                _multiply(a, v, u, m, count, channel, channels, tile_shape(a.src, HALF_ROWS, HALF))
        _write(a, first, count, m, b * width, elements_between(a.dst, nowhere))


@njit(error_model="numpy")
def _read_patches(a, first, count, channel, channels, v, nothing):
    """The transformed patches of the tiles from ``first`` on; ``nothing``: where zeros lie, seen from src."""
    there = local_table(POINTS)
    for t in range(count):
        n, row, column = _place(a, first + t)
        for i in range(PATCH):
            h = row * M - a.top + i
            for j in range(PATCH):
                w = column * M - a.left + j
                inside = 0 <= h < a.SH and 0 <= w < a.SW
                there[i * PATCH + j] = ((n * a.SH + h) * a.SW + w) * a.R + channel if inside else nothing
        whole = channels - channels % lanes_of(a.src)
        for r in range(0, whole, lanes_of(a.src)):
            d = tile_load_rows(tile_zeros(tile_shape(a.src, POINTS, 1)), a.src, r, there, None)
            tile_store(tile_transform_input(d), v, t * a.depth + r, a.v_point, None)
        if whole < channels:
            d = tile_load_rows(tile_zeros(tile_shape(a.src, POINTS, 1)), a.src, whole, there, channels - whole)
            tile_store(tile_transform_input(d), v, t * a.depth + whole, a.v_point, None)


@njit(error_model="numpy")
def _place(a, tile):
    """The image, row and column of a tile."""
    return tile // (a.tiles_h * a.tiles_w), tile // a.tiles_w % a.tiles_h, tile % a.tiles_w


@njit(error_model="numpy")
def _multiply(a, v, u, m, count, channel, channels, shape):
    """``m[point, t, l] (+)= sum over r of v[point, t, channel + r] * u[point, r, l]``; the last rows may be of no tile.

    ``v_rows``, the offsets of a tile's rows, comes from outside: knowing them as multiples of ``depth``, the
    compiler would keep all their values in registers, at the accumulators' expense (half the speed).
    """
    depth, rows, width = a.depth, a.v_rows, VECTORS * lanes_of(a.src)
    for point in range(POINTS):
        there, weights, to = shift(v, point * a.v_point), shift(u, point * a.u_point), shift(m, point * a.m_point)
        for t in range(0, count, rows_of(shape)):
            acc = tile_zeros(shape)
            if channel > 0:
                acc = tile_load(acc, to, t * width, width, None)
            b = 0
            for r in range(t * depth + channel, t * depth + channel + channels):
                acc = tile_multiply_add(acc, there, r, rows, weights, b, None)
                b += width
            tile_store(acc, to, t * width, width, None)


@njit(error_model="numpy")
def _write(a, first, count, m, column, nowhere):
    """The results of one block of columns; ``nowhere``: a place that nobody reads, seen from dst."""
    to = local_table(RESULTS)
    width = VECTORS * lanes_of(a.src)
    for t in range(count):
        n, row, place = _place(a, first + t)
        for i in range(M):
            h = row * M + i
            for j in range(M):
                w = place * M + j
                to[i * M + j] = ((n * a.TH + h) * a.TW + w) * a.L if h < a.TH and w < a.TW else nowhere
        for at in range(0, min(width, a.L - column), lanes_of(a.src)):
            if column + at + lanes_of(a.src) <= a.L:
                _write_vector(a, m, t * width + at, column + at, to, None)
            else:
                _write_vector(a, m, t * width + at, column + at, to, a.L - column - at)
        if a.finish:
            for i in range(RESULTS):
                if to[i] != nowhere:
                    call_finish(a, to[i] + column, column, min(width, a.L - column))


@njit(error_model="numpy")
def _write_vector(a, m, at, column, to, edge):
    """One vector of columns of one tile's results, from ``m[point, at]``."""
    y = tile_transform_output(tile_load(tile_zeros(tile_shape(a.src, POINTS, 1)), m, at, a.m_point, None))
    if a.has_bias:
        y = tile_add(y, tile_fill_rows(tile_zeros(tile_shape(a.src, RESULTS, 1)), a.bias, column, edge))
    if a.relu:
        y = tile_relu(y)
    tile_store_rows(y, a.dst, column, to, edge)


@kernel(
    src="array", dy="array", dw="array", scratch="array",
    SH="int", SW="int", R="int", TH="int", TW="int", L="int",
    top="int", left="int", tiles_h="int", tiles_w="int", tiles="int", block_tiles="int", split_tiles="int",
    row_blocks="int", column_blocks="int", depth="int", v_point="int", e_point="int", m_point="int",
    part="int", scratch_size="int",
)  # fmt: skip
def winograd_weight_gradient_kernel(a, item, worker):
    """``dw[kh, kw, r, l] = sum over n, i, j of src[n, i - top + kh, j - left + kw, r] * dy[n, i, j, l]``.

    src (N, SH, SW, R) and dy (N, TH, TW, L), channels last, outside of them zeros; dw (9, R, L). A piece of work is a
    split of ``split_tiles`` tiles, a block of GRADIENT_ROWS channels and a block of columns; split s writes its sum to
    ``dw[s * part:]``, for :func:`sum_parts` to add in order. Its scratch holds the transforms of ``block_tiles`` tiles
    of src and of dy (36 points, tiles, channels) and the sums of their products (36 points, channels, columns). Bits
    repeat: the splits depend on the problem alone.
    """
    column_block = item % a.column_blocks
    row_block = item // a.column_blocks % a.row_blocks
    split = item // (a.column_blocks * a.row_blocks)
    v = shift(a.scratch, worker * a.scratch_size)
    e = shift(v, POINTS * a.v_point)
    m = shift(e, POINTS * a.e_point)
    nothing = shift(m, POINTS * a.m_point)
    for i in range(max(a.R, a.L)):
        nothing[i] = 0
    channel, column = row_block * GRADIENT_ROWS, column_block * VECTORS * lanes_of(a.src)
    channels, columns = min(GRADIENT_ROWS, a.R - channel), min(VECTORS * lanes_of(a.src), a.L - column)
    begin = split * a.split_tiles
    end = min(begin + a.split_tiles, a.tiles)
    for first in range(begin, max(end, begin + 1), a.block_tiles):  # without tiles, a sum of zero
        count = min(a.block_tiles, end - first)
        _read_patches(a, first, count, channel, channels, v, elements_between(a.src, nothing))
        _read_gradients(a, first, count, column, columns, e, elements_between(a.dy, nothing))
        if columns > HALF * lanes_of(a.src):
            _add_products(a, first == begin, count, channels, v, e, m, tile_shape(a.src, ROWS, VECTORS))
        else:
            _add_products(a, first == begin, count, channels, v, e, m, tile_shape(a.src, HALF_ROWS, HALF))
    to = shift(a.dw, split * a.part + channel * a.L + column)
    for r in range(channels):
        for at in range(0, columns, lanes_of(a.src)):
            source = r * VECTORS * lanes_of(a.src) + at
            products = tile_load(tile_zeros(tile_shape(a.src, POINTS, 1)), m, source, a.m_point, None)
            dw = tile_transform_weight_gradient(products)
            if at + lanes_of(a.src) <= columns:
                tile_store(dw, to, r * a.L + at, a.R * a.L, None)
            else:
                tile_store(dw, to, r * a.L + at, a.R * a.L, columns - at)


@njit(error_model="numpy")
def _read_gradients(a, first, count, column, columns, e, nothing):
    """The transformed tiles of dy from ``first`` on; ``nothing``: where zeros lie, seen from dy."""
    there = local_table(RESULTS)
    for t in range(count):
        n, row, place = _place(a, first + t)
        for i in range(M):
            h = row * M + i
            for j in range(M):
                w = place * M + j
                inside = h < a.TH and w < a.TW
                there[i * M + j] = ((n * a.TH + h) * a.TW + w) * a.L + column if inside else nothing
        for at in range(0, columns, lanes_of(a.src)):
            g = tile_zeros(tile_shape(a.src, RESULTS, 1))
            if at + lanes_of(a.src) <= columns:
                g = tile_load_rows(g, a.dy, at, there, None)
            else:
                g = tile_load_rows(g, a.dy, at, there, columns - at)
            tile_store(tile_transform_gradient(g), e, t * VECTORS * lanes_of(a.src) + at, a.e_point, None)


@njit(error_model="numpy")
def _add_products(a, fresh, count, channels, v, e, m, shape):
    """``m[point, r, l] (+)= sum over t of v[point, t, r] * e[point, t, l]``; the last rows may be of no channel."""
    width = VECTORS * lanes_of(a.src)
    for point in range(POINTS):
        there, here, to = shift(v, point * a.v_point), shift(e, point * a.e_point), shift(m, point * a.m_point)
        for r in range(0, channels, rows_of(shape)):
            acc = tile_zeros(shape)
            if not fresh:
                acc = tile_load(acc, to, r * width, width, None)
            for t in range(count):
                acc = tile_multiply_add(acc, there, t * a.depth + r, None, here, t * width, None)
            tile_store(acc, to, r * width, width, None)


#: Bytes of patches and products of one piece, beside its weights, in the second-level cache.
_PIECE_BYTES = 512 * 1024
#: Channels whose transformed weights of one block stay in the second-level cache; and up to how many blocks of tiles
#: it costs less to transform the weights for each of them than to keep the transforms in memory.
_PASS_CHANNELS, _FUSED_BLOCKS = 64, 2
#: Tiles of one block of the weight gradient, and pieces of its work at least.
_GRADIENT_TILES, _GRADIENT_PIECES = 48, 8
#: Pieces of work at least, for the threads to share.
_PIECES = 4


class _Winograd:
    """The core of forward and input gradient."""

    def __init__(self, p: ConvProblem, forward: bool, scratch: Scratch):
        (_, (top, _), (left, _)) = p.padding
        if forward:
            (_, SH, SW), (_, TH, TW), R, L = p.size, p.output, p.C, p.K
        else:
            (_, SH, SW), (_, TH, TW), R, L = p.output, p.size, p.K, p.C
            top, left = 2 - top, 2 - left
        lane_count, threads = lanes(p.dtype), most_threads()
        width = VECTORS * lane_count
        tiles_h, tiles_w = -(-TH // M), -(-TW // M)
        tiles = p.N * tiles_h * tiles_w
        # One more cache line between points than they take: distances of a power of two would share cache sets.
        line = 64 // item_bytes(p.dtype)
        depth = -(-R // lane_count) * lane_count
        step = math.lcm(ROWS, HALF_ROWS)
        wanted = _PIECE_BYTES // (POINTS * (depth + width) * item_bytes(p.dtype))
        wanted = max(wanted // step, 2 if R <= 64 else 4) * step
        pieces = max(round(tiles / wanted), 1)
        block_tiles = max(-(-tiles // (pieces * step)), 1) * step
        blocks = -(-L // width)
        groups = min(blocks, -(-_PIECES // pieces))
        group_blocks = -(-blocks // groups)
        groups = -(-blocks // group_blocks)
        tile_blocks = max(-(-tiles // block_tiles), 1)
        self._fused = tile_blocks <= _FUSED_BLOCKS and R > _PASS_CHANNELS
        pass_channels = _PASS_CHANNELS if self._fused else max(R, 1)
        v_point, m_point = block_tiles * depth + line, block_tiles * width + line
        u_point = pass_channels * width + line
        nowhere_size = -(-L // line) * line
        each = POINTS * (v_point + m_point) + depth + nowhere_size + (POINTS * u_point if self._fused else 0)
        self._scratch_at = scratch.reserve(threads * each)
        if not self._fused:
            self._u_at = scratch.reserve(blocks * POINTS * u_point)
            chunks = -(-R // CHANNELS)
            self._transform = Task(
                winograd_weights_kernel, p.dtype, blocks * chunks, "w u", R=R, L=L, chunks=chunks, u_point=u_point
            )
        self._convolve = Task(
            winograd_kernel, p.dtype, -(-tiles // block_tiles) * groups, f"src w u dst scratch {EPILOGUE_ARRAYS}",
            N=p.N, SH=SH, SW=SW, R=R, TH=TH, TW=TW, L=L,
            **epilogue_fields(p, forward),
            top=top, left=left, tiles_h=tiles_h, tiles_w=tiles_w, tiles=tiles, block_tiles=block_tiles,
            blocks=blocks, groups=groups, group_blocks=group_blocks,
            depth=depth, v_rows=np.arange(max(ROWS, HALF_ROWS)) * depth, pass_channels=pass_channels,
            nowhere_size=nowhere_size, v_point=v_point, u_point=u_point, m_point=m_point, scratch_size=each,
        )  # fmt: skip

    def run(self, base: int, src: int, w: int, epilogue: Epilogue, dst: int) -> None:
        u = 0
        if not self._fused:
            u = base + self._u_at
            self._transform.run(w, u)
        self._convolve.run(src, w, u, dst, base + self._scratch_at, *epilogue)


class WinogradForward(Forward):
    """``y = activation(x * w + b)``."""

    make_core = _Winograd


class WinogradInputGradient(InputGradient):
    """``dx`` from ``dy`` and ``w``."""

    make_core = _Winograd


class _WinogradWeightGradient:
    """The core of the weight gradient."""

    def __init__(self, p: ConvProblem, scratch: Scratch):
        (_, (top, _), (left, _)) = p.padding
        (_, SH, SW), (_, TH, TW) = p.size, p.output
        lane_count = lanes(p.dtype)
        width, line = VECTORS * lane_count, 64 // item_bytes(p.dtype)
        tiles_h, tiles_w = -(-TH // M), -(-TW // M)
        tiles = p.N * tiles_h * tiles_w
        row_blocks, column_blocks = -(-p.C // GRADIENT_ROWS), -(-p.K // width)
        block_tiles = min(_GRADIENT_TILES, max(tiles, 1))
        split_tiles, splits = split(tiles, block_tiles, -(-_GRADIENT_PIECES // (row_blocks * column_blocks)))
        # The last tile of rows hangs over.
        rows = -(-min(p.C, GRADIENT_ROWS) // math.lcm(ROWS, HALF_ROWS)) * math.lcm(ROWS, HALF_ROWS)
        depth = -(-rows // lane_count) * lane_count
        v_point, e_point, m_point = block_tiles * depth + line, block_tiles * width + line, rows * width + line
        each = POINTS * (v_point + e_point + m_point) + -(-max(p.C, p.K) // line) * line
        size = math.prod(p.w_shape)
        self._scratch_at = scratch.reserve(most_threads() * each)
        self._products = Task(
            winograd_weight_gradient_kernel, p.dtype, splits * row_blocks * column_blocks, "src dy dw scratch",
            SH=SH, SW=SW, R=p.C, TH=TH, TW=TW, L=p.K, top=top, left=left,
            tiles_h=tiles_h, tiles_w=tiles_w, tiles=tiles, block_tiles=block_tiles, split_tiles=split_tiles,
            row_blocks=row_blocks, column_blocks=column_blocks, depth=depth,
            v_point=v_point, e_point=e_point, m_point=m_point, part=size, scratch_size=each,
        )  # fmt: skip
        self._parts = Parts(splits, size, scratch)

    def run(self, base: int, x: int, dy: int, dw: int) -> None:
        self._products.run(x, dy, self._parts.place(base, dw), base + self._scratch_at)
        self._parts.add(base, dw)


class WinogradWeightGradient(WeightGradient):
    """``dw`` from ``x`` and ``dy``."""

    make_core = _WinogradWeightGradient


def winograd_supports(p: ConvProblem) -> str | None:
    """None for a problem that Winograd's algorithm can do, otherwise the reason why not."""
    if p.kernel != (1, 3, 3) or p.size[0] > 1 or any(p.padding[0]):
        return f"kernels of 3 x 3 on images; received {' x '.join(map(str, p.kernel[3 - p.rank :]))}"
    if p.stride != (1, 1, 1) or p.dilation != (1, 1, 1):
        return f"stride 1 and dilation 1; received {p.stride[1:]} and {p.dilation[1:]}"
    if p.G > 1:
        return f"one group; received {p.G}"
    return needs_zeros(p)


def winograd_cost_forward(p: ConvProblem) -> float:
    """The expected time of the forward; see ``cost.py`` for the unit."""
    return _cost(p, p.output, p.C, p.K) + layout_cost(p)


def winograd_cost_input_gradient(p: ConvProblem) -> float:
    """The expected time of the input gradient."""
    return _cost(p, p.size, p.K, p.C) + layout_cost(p, turns_weights=True)


def winograd_cost_weight_gradient(p: ConvProblem) -> float:
    """The expected time of the weight gradient."""
    tiles, depth, columns = _tiles(p, p.output), vectors(p.C, p.dtype), vectors(p.K, p.dtype)
    row_blocks, column_blocks = -(-p.C // GRADIENT_ROWS), -(-columns // VECTORS)
    products = POINTS * tiles * -(-columns // HALF) * HALF * (1.03 * p.C + 0.5)
    transforms = 1200 * tiles * depth * column_blocks + 280 * tiles * columns * row_blocks + 175 * p.C * columns
    return products + transforms + layout_cost(p)


def _cost(p: ConvProblem, target: Triple, R: int, L: int) -> float:
    """Products, and the transforms of patches, of results and of weights."""
    tiles, depth, columns = _tiles(p, target), vectors(R, p.dtype), vectors(L, p.dtype)
    products = POINTS * tiles * -(-columns // HALF) * HALF * (1.28 * R + 5.4)
    return products + 220 * tiles * depth + 190 * tiles * columns + 350 * R * columns


def _tiles(p: ConvProblem, target: Triple) -> int:
    return p.N * -(-target[1] // M) * -(-target[2] // M)
