"""Winograd convolution: forward and input gradient. A 3x3 kernel takes 36 multiplications for 16 results, not 144.

A tile of results is ``A^T [(G g G^T) * (B^T d B)] A`` of its patch d of the source and the kernel g, where ``*``
multiplies element by element; ``winograd_transforms`` has the three transforms and their sources. Summed over channels,
the element-by-element products of many tiles become matrix products, (tiles, R) x (R, L), one for each point: that is
where the time goes. The taps of a third axis are further channels of these sums.

The transforms round more than a direct sum. Of the largest result in float32: F(4x4, 3x3) and F(2x2, 5x5)
about 1e-5, schemes along one axis about 3e-6, F(2x2, 3x3) 1e-6 like direct sums.

The input gradient of a convolution is the same correlation, of dy with the transposed, reversed weights; HWIO weights
are transposed in registers on their way into the transform.

A NaN or an infinity in the source reaches all results of the tiles whose patches it lies in, as NaN.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pycnn_kernels.cpu.conv_frame import Forward, InputGradient, OneTask, Scratch
from pycnn_kernels.cpu.cost import vectors
from pycnn_kernels.cpu.epilogue import EPILOGUE_ARRAYS, EPILOGUE_FIELDS, Epilogue, call_finish, epilogue_fields
from pycnn_kernels.cpu.host import SIMD, item_bytes, lanes
from pycnn_kernels.cpu.inlined import inlined
from pycnn_kernels.cpu.launch import Task, kernel, most_threads
from pycnn_kernels.cpu.tile import (
    elements_between,
    lanes_of,
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
    transpose_square,
    with_rows,
)
from pycnn_kernels.cpu.winograd_tiling import USUAL_SCHEME, Operation, Tiling, large_tiles, small_tiles, suited_tiles
from pycnn_kernels.cpu.winograd_transforms import (
    Scheme,
    SchemeType,
    patch_columns,
    patch_rows,
    patch_table,
    points_of,
    points_shape,
    result_columns,
    result_rows,
    result_table,
    results_shape,
    taps_of,
    taps_shape,
    tile_transform_patch,
    tile_transform_products,
    tile_transform_taps,
)
from pycnn_kernels.cpu.workspace import aligned_bytes
from pycnn_kernels.problem import ConvProblem

#: Vectors in a block of columns and the rows of its tile; a last block of half the width has a tile of its own.
VECTORS, ROWS = SIMD.wide_tile
HALF, HALF_ROWS = VECTORS // 2, SIMD.tile_rows
#: Rows of the tile for a last few tiles of results.
FEW_ROWS = ROWS * 2 // 3

#: Rows of weights between the one that is transformed and the one that is asked for from memory.
AHEAD = 4

#: Source channels of one piece of the weights' transform.
CHANNELS = 16


@kernel(
    scheme="type", w="array", u="array", taps="table", scratch="array",
    R="int", L="int", KD="int", chunks="int", blocks="int", width="int", turned="int", w_row="int", w_group="int",
    u_point="int", scratch_size="int",
)  # fmt: skip
def winograd_weights_kernel(a, item, worker):
    """``u[block, point, d * R + r, l] = (G w[d, :, r, l] G^T)[point]`` for CHANNELS channels of one block of columns.

    w has for each tap and group a matrix (R, L), or (L, R) if ``turned``, with rows ``w_row`` apart; groups are
    ``w_group`` apart, and ``taps`` says where each tap begins, those of a plane behind each other. Blocks are
    ``blocks`` of each group. In u a block has a matrix for each point, ``u_point`` elements apart, each KD * R rows of
    a block's width; columns beyond L are never read. Scratch: see :func:`_transform_turned_weights`.
    """
    chunk = item % a.chunks
    deep = item // a.chunks % a.KD
    block = item // (a.chunks * a.KD)
    first = chunk * CHANNELS
    w, column = shift(a.w, block // a.blocks * a.w_group), block % a.blocks * a.width
    to = shift(a.u, block * points_of(a.scheme) * a.u_point + (deep * a.R + first) * a.width)
    squares = shift(a.scratch, worker * a.scratch_size)
    _transform_weights(a, w, deep, first, min(CHANNELS, a.R - first), column, to, squares)


@inlined
def _transform_weights(a, w, deep, first, channels, column, u, squares):
    """Weights w of a group: ``channels`` channels from ``first`` on, a block of columns from ``column`` on, into u."""
    taps = shift(a.taps, deep * taps_of(a.scheme))
    if a.turned:
        _transform_turned_weights(a, w, taps, first, channels, column, u, squares)
        return
    for r in range(channels):
        for tap in range(taps_of(a.scheme)):  # places far from each other, a few cache lines each
            for at in range(0, a.width, lanes_of(a.w)):
                prefetch_line(w, taps[tap] + (first + r + AHEAD) * a.w_row + column + at)
        for at in range(0, a.width, lanes_of(a.w)):
            left = a.L - column - at
            start = (first + r) * a.w_row + column + at
            g = tile_zeros(taps_shape(a.scheme, a.w))
            if left >= lanes_of(a.w):
                g = tile_load_rows(g, w, start, taps, None)
            elif left > 0:
                g = tile_load_rows(g, w, start, taps, left)
            tile_store(tile_transform_taps(a.scheme, g), u, r * a.width + at, a.u_point, None)


@inlined
def _transform_turned_weights(a, w, taps, first, channels, column, u, squares):
    """The same from weights with a row for each column: squares of ``side`` channels are transposed on their way.

    ``squares`` has room for one of each tap; in a square that hangs over, it keeps what was there, for columns that
    nobody reads.
    """
    side = lanes_of(a.w)
    for r in range(0, channels, side):
        rows = min(side, channels - r)
        for at in range(0, a.width, side):
            columns = min(a.L - column - at, side)
            for tap in range(taps_of(a.scheme)):
                start = taps[tap] + (column + at) * a.w_row + first + r
                _transpose(w, start, a.w_row, shift(squares, tap * side * side), columns, rows)
            for i in range(rows):
                g = tile_load(tile_zeros(taps_shape(a.scheme, a.w)), squares, i * side, side * side, None)
                tile_store(tile_transform_taps(a.scheme, g), u, (r + i) * a.width + at, a.u_point, None)


@inlined
def _transpose(w, start, row, square, columns, rows):
    """``square[j, i] = w[start + i * row + j]`` for i < columns, j < rows; the square behind it is asked for."""
    side = lanes_of(w)
    for i in range(columns):
        prefetch_line(w, start + i * row + side)
    if columns == side and rows == side:
        transpose_square(w, start, row, square, 0, side, side, side)
    else:
        for i in range(columns):
            for j in range(rows):
                square[j * side + i] = w[start + i * row + j]


@kernel(
    **EPILOGUE_FIELDS, scheme="type", src="array", w="array", u="array", scratch="array",
    from_deep="table", from_row="table", from_column="table", to_deep="table", to_row="table", to_column="table",
    taps="table", v_rows="table", G="int", R="int", L="int", KD="int", turned="int", w_row="int", w_group="int",
    source_image="int", target_image="int", deeps="int", tiles_h="int", tiles_w="int", tiles="int",
    block_tiles="int", blocks="int", width="int", shares="int", share_blocks="int", depth="int",
    fused="int", passes="int", slice_passes="int", slice_channels="int", pass_channels="int", nowhere_size="int",
    v_point="int", u_point="int", m_point="int", scratch_size="int",
)  # fmt: skip
def winograd_kernel(a, item, worker):
    """``dst[n, d, i, j, g, l] = sum of src[n, d + kd, i + kh, j + kw, g, r] w[kd, kh, kw, r, g, l]``, finished.

    src and dst are channels last, ``source_image`` and ``target_image`` elements for each n. The tables
    ``from_deep``, ``from_row`` and ``from_column`` hold the offsets of the places of src that each tile meets along an
    axis, padding included, and -1 where there are zeros; ``to_deep``, ``to_row`` and ``to_column`` those of dst, and -1
    beyond its end. u is the transform of w, see :func:`winograd_weights_kernel`. If ``fused``, each piece transforms
    the weights itself, ``pass_channels`` at a time: large weights for a few tiles would not stay in any cache.

    A piece of work is ``block_tiles`` tiles, numbered over all images and planes, of one group and of ``share_blocks``
    blocks of columns. Its scratch, ``scratch_size`` elements, holds the transformed patches v (points, tiles,
    ``depth``), the products m of one block of columns (points, tiles, columns), a row of zeros, a row for results that
    do not exist, and the weights of one pass. Bits repeat: a result is computed by one piece.
    """
    points = points_of(a.scheme)
    share, g, block = item % a.shares, item // a.shares % a.G, item // (a.shares * a.G)
    w, first = shift(a.w, g * a.w_group), block * a.block_tiles
    count = min(a.block_tiles, a.tiles - first)
    v = shift(a.scratch, worker * a.scratch_size)
    m = shift(v, points * a.v_point)
    nothing = shift(m, points * a.m_point)
    nowhere = shift(nothing, a.depth)
    here = shift(nowhere, a.nowhere_size)
    squares = shift(here, points * a.u_point)
    for i in range(a.depth):
        nothing[i] = 0
    for deep in range(a.KD):
        read_patches(a, first, count, deep, g * a.R, a.R, shift(v, deep * a.R), elements_between(a.src, nothing))
    for b in range(share * a.share_blocks, min((share + 1) * a.share_blocks, a.blocks)):
        for number in range(a.passes):
            deep, channel = number // a.slice_passes, number % a.slice_passes * a.pass_channels
            channels = min(a.pass_channels, a.slice_channels - channel)
            u = shift(a.u, (g * a.blocks + b) * points * a.u_point)
            if a.fused:
                u = here
                _transform_weights(a, w, deep, channel, channels, b * a.width, u, squares)
            from_channel = shift(v, deep * a.slice_channels + channel)
            if a.L - b * a.width > HALF * lanes_of(a.src):
                _multiply(a, number == 0, from_channel, u, m, count, channels, tile_shape(a.src, ROWS, VECTORS))
            else:
                _multiply(a, number == 0, from_channel, u, m, count, channels, tile_shape(a.src, HALF_ROWS, HALF))
        columns = g * a.L + b * a.width, min(a.width, a.L - b * a.width)
        _write(a, first, count, m, columns, elements_between(a.dst, nowhere))


for each in (winograd_weights_kernel, winograd_kernel):
    each.usually(scheme=SchemeType(USUAL_SCHEME))


@inlined
def read_patches(a, first, count, deep, channel, channels, v, nothing):
    """The transformed patches of the tiles from ``first`` on, of the plane that tap ``deep`` of the third axis meets.

    ``nothing``: where zeros lie, seen from src.
    """
    there = patch_table(a.scheme)
    n, plane, row, column = place_of(a, first)
    for t in range(count):
        of_plane = a.from_deep[plane * a.KD + deep]
        for i in range(patch_rows(a.scheme)):
            of_row = a.from_row[row * patch_rows(a.scheme) + i]
            outside = of_plane < 0 or of_row < 0
            for j in range(patch_columns(a.scheme)):
                at = a.from_column[column * patch_columns(a.scheme) + j]
                element = n * a.source_image + of_plane + of_row + at + channel
                there[i * patch_columns(a.scheme) + j] = nothing if outside or at < 0 else element
        whole = channels - channels % lanes_of(a.src)
        for r in range(0, whole, lanes_of(a.src)):
            d = tile_load_rows(tile_zeros(points_shape(a.scheme, a.src)), a.src, r, there, None)
            tile_store(tile_transform_patch(a.scheme, d), v, t * a.depth + r, a.v_point, None)
        if whole < channels:
            d = tile_load_rows(tile_zeros(points_shape(a.scheme, a.src)), a.src, whole, there, channels - whole)
            tile_store(tile_transform_patch(a.scheme, d), v, t * a.depth + whole, a.v_point, None)
        n, plane, row, column = next_place(a, n, plane, row, column)


@inlined
def place_of(a, tile):
    """The image, plane, row and column of a tile."""
    of_planes = tile // (a.tiles_h * a.tiles_w)
    return of_planes // a.deeps, of_planes % a.deeps, tile // a.tiles_w % a.tiles_h, tile % a.tiles_w


@inlined
def next_place(a, n, plane, row, column):
    """The place of the next tile, without divisions."""
    column += 1
    if column == a.tiles_w:
        row, column = row + 1, 0
        if row == a.tiles_h:
            plane, row = plane + 1, 0
            if plane == a.deeps:
                n, plane = n + 1, 0
    return n, plane, row, column


@inlined
def _multiply(a, fresh, v, u, m, count, channels, shape):
    """``m[point, t, l] (+)= sum over r of v[point, t, r] * u[point, r, l]``; the last rows may be of no tile."""
    left = count % rows_of(shape)
    whole = count - left if left <= FEW_ROWS else count
    for point in range(points_of(a.scheme)):
        there, weights, to = shift(v, point * a.v_point), shift(u, point * a.u_point), shift(m, point * a.m_point)
        for t in range(0, whole, rows_of(shape)):
            _multiply_rows(a, fresh, there, weights, to, t, channels, shape)
        if whole < count:
            _multiply_rows(a, fresh, there, weights, to, whole, channels, with_rows(shape, FEW_ROWS))


@inlined
def _multiply_rows(a, fresh, v, u, m, t, channels, shape):
    """The products of one point for a register tile of tiles, from ``t`` on.

    ``v_rows``, the offsets of a tile's rows, comes from outside: knowing them as multiples of ``depth``, the
    compiler would keep all their values in registers, at the accumulators' expense (half the speed).
    """
    depth, rows, width = a.depth, a.v_rows, a.width
    acc = tile_zeros(shape)
    if not fresh:
        acc = tile_load(acc, m, t * width, width, None)
    b = 0
    for r in range(t * depth, t * depth + channels):
        acc = tile_multiply_add(acc, v, r, rows, u, b, None)
        b += width
    tile_store(acc, m, t * width, width, None)


@inlined
def _write(a, first, count, m, columns, nowhere):
    """The results of one block of columns, (first, number); ``nowhere``: a place that nobody reads, seen from dst."""
    to = result_table(a.scheme)
    width, (column, size) = a.width, columns
    n, plane, row, place = place_of(a, first)
    for t in range(count):
        target_places(a, n, plane, row, place, to, 0, nowhere)
        for at in range(0, size, lanes_of(a.src)):
            if at + lanes_of(a.src) <= size:
                _write_vector(a, m, t * width + at, column + at, to, None)
            else:
                _write_vector(a, m, t * width + at, column + at, to, size - at)
        if a.finish:
            for i in range(result_rows(a.scheme) * result_columns(a.scheme)):
                if to[i] != nowhere:
                    call_finish(a, to[i] + column, column, size)
        n, plane, row, place = next_place(a, n, plane, row, place)


@inlined
def target_places(a, n, plane, row, column, to, channel, nowhere):
    """The offsets of a tile's results, channel ``channel``, into the table ``to``; ``nowhere`` for those beyond."""
    of_plane = n * a.target_image + a.to_deep[plane] + channel
    for i in range(result_rows(a.scheme)):
        of_row = a.to_row[row * result_rows(a.scheme) + i]
        for j in range(result_columns(a.scheme)):
            at = a.to_column[column * result_columns(a.scheme) + j]
            to[i * result_columns(a.scheme) + j] = nowhere if of_row < 0 or at < 0 else of_plane + of_row + at


@inlined
def _write_vector(a, m, at, column, to, edge):
    """One vector of columns of one tile's results, from ``m[point, at]``."""
    products = tile_load(tile_zeros(points_shape(a.scheme, a.src)), m, at, a.m_point, None)
    y = tile_transform_products(a.scheme, products)
    if a.has_bias:
        y = tile_add(y, tile_fill_rows(tile_zeros(results_shape(a.scheme, a.src)), a.bias, column, edge))
    if a.relu:
        y = tile_relu(y)
    tile_store_rows(y, a.dst, column, to, edge)


#: Bytes of patches and products of one piece, beside its weights, in the second-level cache.
_PIECE_BYTES = 512 * 1024
#: Bytes of the transformed weights of one block in one pass, which stay in the second-level cache; and up to how many
#: blocks of tiles it costs less to transform the weights for each of them than to keep the transforms in memory.
_PASS_BYTES, _FUSED_BLOCKS = 576 * 1024, 2
#: Pieces of work at least, for the threads to share.
_PIECES = 4


class WinogradCore(OneTask):
    """The core of forward and input gradient, in tiles of one scheme.

    The shared memory has the transformed weights; but with ``fuses`` each piece of work transforms those that it needs
    where there are few pieces.
    """

    def __init__(self, p: ConvProblem, scheme: Scheme, operation: Operation, fuses: bool = True):
        tiling = Tiling(p, scheme, operation)
        forward = operation == "forward"
        R, L, KD, tiles = tiling.R, tiling.L, tiling.KD, tiling.tiles
        lane_count, points = lanes(p.dtype), scheme.points
        # Of a block of columns: whole tiles, or half of them where there are no more columns.
        width = (VECTORS if vectors(L, p.dtype) > HALF else HALF) * lane_count
        # One more cache line between points than they take: distances of a power of two would share cache sets.
        line = 64 // item_bytes(p.dtype)
        depth = -(-((KD - 1) * R + -(-R // lane_count) * lane_count) // lane_count) * lane_count
        step = math.lcm(ROWS, HALF_ROWS)
        wanted = _PIECE_BYTES // (points * (depth + width) * item_bytes(p.dtype))
        wanted = max(wanted // step, 2 if KD * R <= 64 else 4) * step
        pieces = max(round(tiles / wanted), 1)
        block_tiles = max(-(-tiles // (pieces * step)), 1) * step
        blocks = -(-L // width)
        share_blocks = -(-blocks // min(blocks, -(-_PIECES // (pieces * p.G))))
        shares = -(-blocks // share_blocks)
        tile_blocks = max(-(-tiles // block_tiles), 1)
        pass_channels = max(_PASS_BYTES // (points * width * item_bytes(p.dtype)) // CHANNELS, 1) * CHANNELS
        self._fused = fuses and tile_blocks <= _FUSED_BLOCKS and pass_channels < KD * R
        if self._fused:
            slice_channels, slice_passes = R, -(-R // pass_channels)
            passes = KD * slice_passes
        else:
            slice_channels = pass_channels = max(KD * R, 1)
            slice_passes = passes = 1
        squares = scheme.taps * lane_count**2 if tiling.weights["turned"] else 0
        v_point, m_point = block_tiles * depth + line, block_tiles * width + line
        u_point = pass_channels * width + line
        nowhere_size = -(-p.G * L // line) * line
        weights = points * u_point if self._fused else 0
        each = points * (v_point + m_point) + depth + nowhere_size + weights + squares
        scheme_type = SchemeType(scheme)
        self.worker_bytes = each * item_bytes(p.dtype)
        if not self._fused:
            self.shared_bytes = aligned_bytes(p.G * blocks * points * u_point, p.dtype)
            chunks = -(-R // CHANNELS)
            self._transform = Task(
                winograd_weights_kernel.compiled_for(scheme=scheme_type), p.dtype, p.G * blocks * KD * chunks,
                "w u scratch", **tiling.weights, R=R, L=L, KD=KD, chunks=chunks, blocks=blocks, width=width,
                u_point=u_point, scratch_size=squares,
            )  # fmt: skip
        self.task = Task(
            winograd_kernel.compiled_for(scheme=scheme_type), p.dtype, tile_blocks * p.G * shares if tiles else 0,
            f"src w u dst scratch {EPILOGUE_ARRAYS}", **epilogue_fields(p, forward),
            **tiling.fields, **tiling.weights, G=p.G, R=R, L=L, KD=KD,
            block_tiles=block_tiles, blocks=blocks, width=width, shares=shares, share_blocks=share_blocks,
            depth=depth, v_rows=np.arange(max(ROWS, HALF_ROWS)) * depth,
            fused=self._fused, passes=passes, slice_passes=slice_passes, slice_channels=slice_channels,
            pass_channels=pass_channels, nowhere_size=nowhere_size,
            v_point=v_point, u_point=u_point, m_point=m_point, scratch_size=each,
        )  # fmt: skip

    def begin(self, base: int, shared: int, w: int) -> None:
        if not self._fused:
            self._transform.run(w, shared, base)

    def arguments(
        self, base: Any, shared: int, src: Any, w: int, epilogue: tuple[Any, ...], dst: int
    ) -> tuple[Any, ...]:
        return (src, w, shared, dst, base, *epilogue)


class _Winograd:
    """The same in a workspace."""

    def __init__(self, p: ConvProblem, scheme: Scheme, operation: Operation, scratch: Scratch):
        self._core = WinogradCore(p, scheme, operation)
        sizes = self._core.worker_bytes * most_threads(), self._core.shared_bytes
        self._at, self._shared_at = (scratch.reserve_bytes(size) for size in sizes)

    def run(self, base: int, src: int, w: int, epilogue: Epilogue, dst: int) -> None:
        own, shared = base + self._at, base + self._shared_at
        self._core.begin(own, shared, w)
        self._core.task.run(*self._core.arguments(own, shared, src, w, epilogue, dst))


class WinogradForward(Forward):
    """``y = activation(x * w + b)``, in the tiles that suit the problem."""

    choose_scheme = staticmethod(suited_tiles)

    @classmethod
    def make_core(cls, p: ConvProblem, forward: bool, scratch: Scratch) -> _Winograd:
        return _Winograd(p, cls.choose_scheme(p, "forward"), "forward", scratch)


class WinogradLargeForward(WinogradForward):
    """The same in tiles of F(4x4, 3x3)."""

    choose_scheme = staticmethod(large_tiles)


class WinogradSmallForward(WinogradForward):
    """The same in tiles of F(2x2, 3x3)."""

    choose_scheme = staticmethod(small_tiles)


class WinogradInputGradient(InputGradient):
    """``dx`` from ``dy`` and ``w``, in the tiles that suit the problem."""

    turns_weights = False
    choose_scheme = staticmethod(suited_tiles)

    @classmethod
    def make_core(cls, p: ConvProblem, forward: bool, scratch: Scratch) -> _Winograd:
        return _Winograd(p, cls.choose_scheme(p, "input_gradient"), "input_gradient", scratch)


class WinogradLargeInputGradient(WinogradInputGradient):
    """The same in tiles of F(4x4, 3x3)."""

    choose_scheme = staticmethod(large_tiles)


class WinogradSmallInputGradient(WinogradInputGradient):
    """The same in tiles of F(2x2, 3x3)."""

    choose_scheme = staticmethod(small_tiles)
