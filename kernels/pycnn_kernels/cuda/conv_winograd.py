"""Winograd's convolution on the GPU: F(2x2, 3x3) and F(4x4, 3x3), for images and kernels of 3 x 3 with stride 1.

A tile of m x m results comes from a patch of n x n elements, n = m + 2. Patches and taps are transformed to n x n
*points*; at each point the sum over the channels is a product of matrices, tiles x channels by channels x filters; and
the products at all points of a tile are transformed to its results. That is n^2 / m^2 multiplications for a result, a
channel and a filter instead of 9: 4 in tiles of 2 x 2, which round like direct sums, and 2.25 in tiles of 4 x 4, which
round ten times as much.

    U[t, c, k]      from the weights, a thread for each channel and filter
    V[t, tile, c]   from the patches, a thread for each tile and four channels
    M[t] = V[t] U[t], in the register tiles of ``tile.py``, one product for each point
    y               from M, a thread for each tile and four filters, with the epilogue

In channels first the transforms have neighbouring tiles in neighbouring threads, V and M are transposed, and so is the
product: M[t] = U[t]^T V[t]. The input gradient is the forward convolution of dy with the taps turned by half a circle,
channels and filters exchanged, and padding 2 - P. The weight gradient is F(3x3, m x m): patches of x by tiles of dy in
the place of taps, and the sum over tiles is the product. V and M are a workspace; beyond :data:`SLICE_BYTES` the tiles
are computed in slices. Bits repeat: each sum has a fixed order.

The transforms are those of the CPU (``cpu/winograd_transforms.py``), unrolled by ``straight_line.py``.

Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, section 4.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import cuda
from numba.cuda import types

from pycnn_kernels.cpu.gather import needs_zeros
from pycnn_kernels.cpu.winograd_transforms import transform_patch, transform_products, transform_taps
from pycnn_kernels.cuda import conv_implicit_gemm
from pycnn_kernels.cuda.compile import device_function
from pycnn_kernels.cuda.conv_implicit_gemm import threads_of
from pycnn_kernels.cuda.device import current_device
from pycnn_kernels.cuda.epilogue import EPILOGUE_ARRAYS, EPILOGUE_FIELDS, epilogue, epilogue_constants
from pycnn_kernels.cuda.launch import Task, blocks_for, counted, ints, kernel
from pycnn_kernels.cuda.parts import Parts
from pycnn_kernels.cuda.ptx import load4, quotient, remainder, shift, store4
from pycnn_kernels.cuda.straight_line import both_ways, got_each, in_lanes, put_each, straight_line
from pycnn_kernels.cuda.tile import (
    LACKING,
    NEEDED,
    NOWHERE,
    SLICE,
    STRIP,
    Tile,
    reader_of_quads,
    thread_place,
    tile_product,
)
from pycnn_kernels.problem import ConvProblem

int32 = types.int32

#: Taps along each axis.
TAPS = 3
#: Bytes of V and M together, beyond which the tiles are computed in slices.
SLICE_BYTES = 1 << 28
#: Threads of a block of the transforms, which have up to 200 registers each.
THREADS = 128


# --- The transforms -------------------------------------------------------------------------------------------------


def _transform(dtype: Any, along: Callable[[list[Any]], list[Any]], size: int, results: int, lanes: int) -> Any:
    """A device function: the transform ``along`` both axes, of size x size tuples of lanes to results x results."""
    plane = both_ways(straight_line(dtype, size, along), size, size, results)
    return in_lanes(plane, size * size, results * results, lanes)


def _taps_transform(dtype: Any, taps: int, points: int, lanes: int) -> Any:
    """``G g G^T``, of taps x taps to points x points."""
    return _transform(dtype, lambda line: transform_taps(line, points), taps, points, lanes)


def _patch_transform(dtype: Any, points: int, lanes: int) -> Any:
    """``B^T d B``."""
    return _transform(dtype, transform_patch, points, points, lanes)


def _products_transform(dtype: Any, points: int, results: int, lanes: int) -> Any:
    """``A^T m A``, of points x points to results x results."""
    return _transform(dtype, lambda line: transform_products(line, results), points, results, lanes)


# --- Weights --------------------------------------------------------------------------------------------------------

#: The tap (i, j) of row r and column k is ``w[start + r * row_w + k * column_w + (3 i + j) * tap_w]``.
WEIGHT_FIELDS = ints("rows columns pitch plane start row_w column_w tap_w")


@kernel(w="source", u="array", **WEIGHT_FIELDS)
def weights_kernel(dtype: Any, threads: int, results: int) -> Any:
    """``u[t, r, k] = (G g G^T)[t]`` of the taps g of row r and column k: channels and filters, or the other way round.

    A thread for each element of a point's matrix, of which there are ``plane``; its lines are ``pitch`` elements. Where
    w has no such row or column they are zeros: the product may read lines in fours.
    """
    points, zero = results + TAPS - 1, dtype(0)

    @device_function
    def get(a, at, i, j):
        return (a.w[int32(at[0] + (TAPS * i + j) * a.tap_w)] if at[1] else zero,)

    @device_function
    def put(a, at, i, j, value):
        a.u[int32(at + (points * i + j) * a.plane)] = value[0]

    taps, put_points = got_each(TAPS, TAPS, get), put_each(points, points, put)
    transform = _taps_transform(dtype, TAPS, points, 1)

    def body(a):
        number = int32(cuda.blockIdx.x * threads + cuda.threadIdx.x)
        if number < a.plane:
            r = int32(quotient(number, a.pitch))
            k = int32(number - r * a.pitch)
            at = int32(a.start + r * a.row_w + k * a.column_w), (r < a.rows) & (k < a.columns)
            put_points(a, number, transform(taps(a, at)))

    return body


@kernel(m="source", w="array", **WEIGHT_FIELDS)
def weight_gradient_kernel(dtype: Any, threads: int, results: int) -> Any:
    """The taps of row r and column k of dw, here w, are ``A^T m[:, r, k] A``, that of F(3x3, results x results).

    A thread for each element of a point's matrix, of which there are ``plane``.
    """
    points = results + TAPS - 1

    @device_function
    def get(a, at, i, j):
        return (a.m[int32(at + (points * i + j) * a.plane)],)

    @device_function
    def put(a, at, i, j, value):
        a.w[int32(at + (TAPS * i + j) * a.tap_w)] = value[0]

    products, put_taps = got_each(points, points, get), put_each(TAPS, TAPS, put)
    transform = _products_transform(dtype, points, TAPS, 1)

    def body(a):
        number = int32(cuda.blockIdx.x * threads + cuda.threadIdx.x)
        r = int32(quotient(number, a.pitch))
        k = int32(number - r * a.pitch)
        if (r < a.rows) & (k < a.columns):
            put_taps(a, int32(a.start + r * a.row_w + k * a.column_w), transform(products(a, number)))

    return body


# --- Patches and results --------------------------------------------------------------------------------------------

#: Of both: ``plane`` elements of a point, in lines of ``pitch``, for the tiles from ``first`` on, of which there are
#: ``tiles`` in all, ``tiles_w`` in a row and ``tiles_image`` in an image; and an image in memory, ``height`` x
#: ``width`` pixels of ``channels``, with the distances of images, rows, pixels and channels.
TILE_FIELDS = ints(
    "first plane pitch tiles tiles_w tiles_image channels height width before_h before_w image row pixel channel"
)


def _tile_places(threads: int, results: int, channels_last: bool, lanes: int) -> Any:
    """A device function: element of V or M, row, column, channel, place in the image, and whether there is such a tile.

    A thread has ``lanes`` neighbouring elements, which are channels in channels last, otherwise tiles.
    """

    @device_function
    def places(a):
        number = int32((cuda.blockIdx.x * threads + cuda.threadIdx.x) * lanes)
        line = int32(quotient(number, a.pitch))
        rest = int32(number - line * a.pitch)
        if channels_last:
            tile, channel = int32(a.first + line), rest
        else:
            tile, channel = int32(a.first + rest), line
        image = int32(quotient(tile, a.tiles_image))
        of_image = int32(tile - image * a.tiles_image)
        down = int32(quotient(of_image, a.tiles_w))
        row = int32(down * results - a.before_h)
        column = int32((of_image - down * a.tiles_w) * results - a.before_w)
        place = int32(image * a.image + row * a.row + column * a.pixel + channel * a.channel)
        there = (number < a.plane) & (tile < a.tiles) & (channel < a.channels)
        return number, row, column, channel, place, there

    return places


@kernel(x="source", v="array", **TILE_FIELDS)
def patches_kernel(dtype: Any, threads: int, results: int, channels_last: bool, lanes: int, as_taps: bool) -> Any:
    """``v[t, tile, c] = (B^T d B)[t]`` of the patch d of channel c; in channels first ``v[t, c, tile]``.

    A patch begins ``before`` the tile's first result; what of it is beyond the image is zero, and so are patches of
    tiles and channels that are not there. ``as_taps``: the ``results x results`` elements of dy that are the tile,
    in the place of taps, ``G e G^T``. A thread has ``lanes`` channels, 1 or 4.
    """
    points, zero = results + TAPS - 1, dtype(0)
    size = results if as_taps else points
    places, four = _tile_places(threads, results, channels_last, lanes), lanes == STRIP

    @device_function
    def get(a, at, i, j):
        _, row, column, _, place, there = at
        inside = there & (row + i >= 0) & (row + i < a.height) & (column + j >= 0) & (column + j < a.width)
        place = int32(place + i * a.row + j * a.pixel)
        if four:
            quad = (zero, zero, zero, zero)
            if inside:
                quad = load4(a.x, place)
            return quad
        return (a.x[place] if inside else zero,)

    @device_function
    def put(a, at, i, j, values):
        at = int32(at + (points * i + j) * a.plane)
        if four:
            store4(a.v, at, values)
        else:
            a.v[at] = values[0]

    patch, put_points = got_each(size, size, get), put_each(points, points, put)
    if as_taps:
        transform = _taps_transform(dtype, results, points, lanes)
    else:
        transform = _patch_transform(dtype, points, lanes)

    def body(a):
        at = places(a)
        if at[0] < a.plane:
            put_points(a, at[0], transform(patch(a, at)))

    return body


@kernel(m="source", y="array", **EPILOGUE_FIELDS, **TILE_FIELDS)
def results_kernel(
    dtype: Any, threads: int, results: int, channels_last: bool, lanes: int,
    bias: bool, scale: bool, residual: bool, activation: str | None,
) -> Any:  # fmt: skip
    """The results of a tile and filter k are ``finished(A^T m[:, tile, k] A)``; in channels first ``m[:, k, tile]``.

    A thread has ``lanes`` filters, 1 or 4. Results beyond the edge of the image are dropped.
    """
    points = results + TAPS - 1
    places, four = _tile_places(threads, results, channels_last, lanes), lanes == STRIP
    finished = epilogue(dtype, bias, scale, residual, activation)

    @device_function
    def get(a, at, i, j):
        at = int32(at + (points * i + j) * a.plane)
        if four:
            return load4(a.m, at)
        return (a.m[at],)

    @device_function
    def finish(a, values, channel, place):
        if four:
            return (
                finished(a, values[0], channel, place), finished(a, values[1], channel + 1, place + 1),
                finished(a, values[2], channel + 2, place + 2), finished(a, values[3], channel + 3, place + 3),
            )  # fmt: skip
        return (finished(a, values[0], channel, place),)

    @device_function
    def put(a, at, i, j, values):
        _, row, column, channel, place, _ = at
        place = int32(place + i * a.row + j * a.pixel)
        if not residual:  # whose elements lie in the image: bias and scale are read once for all results
            values = finish(a, values, channel, place)
        if (row + i < a.height) & (column + j < a.width):
            if residual:
                values = finish(a, values, channel, place)
            if four:
                store4(a.y, place, values)
            else:
                a.y[place] = values[0]

    products, put_results = got_each(points, points, get), put_each(results, results, put)
    transform = _products_transform(dtype, points, results, lanes)

    def body(a):
        at = places(a)
        if at[5]:
            put_results(a, at, transform(products(a, at[0])))

    return body


# --- The products ---------------------------------------------------------------------------------------------------


def _operand(dtype: Any, tile: Tile, is_left: bool, along_depth: bool) -> tuple[Any, Any]:
    """The reader of an operand, and its depths; see ``tile.py``. Its matrix has lines of ``pitch`` elements."""

    @device_function
    def lines(a, count):
        return int32(count * (a.pitch_x if is_left else a.pitch_w))

    @device_function
    def across(a, i):
        there = i < (a.rows if is_left else a.columns)
        return (lines(a, i) if along_depth else i), (LACKING if there else NOWHERE)

    @device_function
    def start(a, depth):
        return depth if along_depth else lines(a, depth)

    @device_function
    def look(a, offset):
        return offset, NEEDED

    @device_function
    def move(a, offset):
        return int32(offset + (SLICE if along_depth else lines(a, SLICE)))

    width = tile.rows if is_left else tile.columns
    return reader_of_quads(dtype, tile.threads, width, across, along_depth), (start, look, move)


@kernel(
    x="source", w="source", y="array",
    **ints("rows columns column_tiles points slices part_slices pitch_x plane_x pitch_w plane_w pitch_y plane_y"),
)  # fmt: skip
def batched_product_kernel(dtype: Any, tile: Tile, left_along: bool, right_along: bool) -> Any:
    """``y[part, t] = x[t] w[t]``, a product of matrices for each point t.

    The left matrix is (rows, depth), its lines its rows, if it lies ``left_along`` the depth, otherwise (depth, rows);
    the right one is (columns, depth) or (depth, columns). Lines are ``pitch`` apart, matrices ``plane``; the depth is
    ``slices`` whole slices. Block (i, j) has the tile i, of point ``j % points`` and of part ``j // points``, which are
    ``part_slices`` of the slices. Bits repeat.
    """
    left, left_depths = _operand(dtype, tile, True, left_along)
    right, right_depths = _operand(dtype, tile, False, right_along)
    product = tile_product(dtype, tile, left, right, left_depths, right_depths)
    place_of_thread = thread_place(tile)
    two_rows, two_columns = tile.row_strips == 2, tile.column_strips == 2
    tile_rows, tile_columns = tile.rows, tile.columns
    half_rows, half_columns = tile.rows // 2, tile.columns // 2

    @device_function
    def write_row(a, y, values, row, column):
        if (row < a.rows) & (column < a.columns):
            store4(y, int32(row * a.pitch_y + column), values)

    @device_function
    def write_strip(a, y, s, row, column):
        write_row(a, y, (s[0], s[1], s[2], s[3]), row, column)
        write_row(a, y, (s[4], s[5], s[6], s[7]), int32(row + 1), column)
        write_row(a, y, (s[8], s[9], s[10], s[11]), int32(row + 2), column)
        write_row(a, y, (s[12], s[13], s[14], s[15]), int32(row + 3), column)

    def body(a):
        down = int32(quotient(cuda.blockIdx.x, a.column_tiles))
        row, column = int32(down * tile_rows), int32((cuda.blockIdx.x - down * a.column_tiles) * tile_columns)
        begin = int32(quotient(cuda.blockIdx.y, a.points) * a.part_slices)
        end = int32(min(begin + a.part_slices, a.slices))
        point = int32(remainder(cuda.blockIdx.y, a.points))
        one, beside, below, across = product(
            a, row, column, int32(point * a.plane_x), int32(point * a.plane_w), begin, end
        )
        y = shift(a.y, int32(cuda.blockIdx.y * a.plane_y))
        my_row, my_column = place_of_thread()
        row, column = int32(row + my_row), int32(column + my_column)
        write_strip(a, y, one, row, column)
        if two_columns:
            write_strip(a, y, beside, row, int32(column + half_columns))
        if two_rows:
            write_strip(a, y, below, int32(row + half_rows), column)
            if two_columns:
                write_strip(a, y, across, int32(row + half_rows), int32(column + half_columns))

    return body


class _Matrix(NamedTuple):
    """The matrices of all points in the workspace, padded in both directions so that any depth is whole slices.

    What they are padded with are zeros, in V and in U.
    """

    lines: int
    width: int

    @property
    def pitch(self) -> int:
        """From one line to the next."""
        return _in_slices(self.width)

    @property
    def plane(self) -> int:
        """Elements of one point."""
        return _in_slices(self.lines) * self.pitch


def _in_slices(count: int) -> int:
    """
    >>> _in_slices(9)
    16
    """
    return -(-count // SLICE) * SLICE


class _Product:
    """``y[t] = left[t] right[t]`` for each point, in parts if it has few results of great depth."""

    def __init__(self, points: int, left: _Matrix, left_along: bool, right: _Matrix, right_along: bool):
        rows, depth = left if left_along else (left.width, left.lines)
        columns = right.lines if right_along else right.width
        self.result = _Matrix(rows, columns)
        size, slices = points * self.result.plane, -(-depth // SLICE)
        tile, parts = conv_implicit_gemm.division("float32", rows, columns, depth, points, size)
        variant = batched_product_kernel.variant(
            "float32", **threads_of("float32", tile), tile=tile, left_along=left_along, right_along=right_along
        )
        column_tiles = -(-columns // tile.columns)
        self.run = Task(
            variant, (-(-rows // tile.rows) * column_tiles, points * parts), "x w y", rows=rows, columns=columns,
            column_tiles=max(column_tiles, 1), points=points, slices=slices,
            part_slices=-(-slices // parts), pitch_x=left.pitch, plane_x=left.plane, pitch_w=right.pitch,
            plane_w=right.plane, pitch_y=self.result.pitch, plane_y=self.result.plane,
        ).run  # fmt: skip
        self.parts, self.size = parts, size


# --- The operations -------------------------------------------------------------------------------------------------


class _Image(NamedTuple):
    """An image that is read or written: x, y or a gradient."""

    channels: int
    height: int
    width: int
    channels_last: bool

    @property
    def lanes(self) -> int:
        """Channels that a thread moves at once."""
        return STRIP if self.channels_last and self.channels % STRIP == 0 else 1

    def fields(self) -> dict[str, int]:
        """Those of :data:`TILE_FIELDS` that say how it lies in memory."""
        pixel, channel = (self.channels, 1) if self.channels_last else (1, self.height * self.width)
        return {
            "channels": self.channels, "height": self.height, "width": self.width, "pixel": pixel, "channel": channel,
            "row": self.width * pixel, "image": self.channels * self.height * self.width,
        }  # fmt: skip


def _images(p: ConvProblem) -> tuple[_Image, _Image]:
    """x and y."""
    channels_last = p.layout == "channels_last"
    return _Image(p.C, *p.size[1:], channels_last), _Image(p.K, *p.output[1:], channels_last)


class _Tiles:
    """The tiles of the results of all images, computed in slices.

    Attributes:
        each: how many tiles a slice has, a multiple of :data:`SLICE`.
        starts: the first tile of each slice; there is a slice where there are no tiles.
    """

    def __init__(self, N: int, target: _Image, results: int, source: _Image, slice_bytes: int):
        self._results, self._channels_last = results, target.channels_last
        down, self._across = -(-target.height // results), -(-target.width // results)
        self._of_image = down * self._across
        self._count = N * self._of_image
        item = np.dtype(np.float32).itemsize
        of_tile = (results + TAPS - 1) ** 2 * (_in_slices(source.channels) + _in_slices(target.channels)) * item
        slices = max(-(-self._count * of_tile // slice_bytes), 1)
        self.each = _in_slices(max(-(-self._count // slices), 1))
        self.starts = range(0, max(self._count, 1), self.each)

    def matrix(self, image: _Image) -> _Matrix:
        """V or M of a slice, with the channels of an image."""
        return _Matrix(self.each, image.channels) if self._channels_last else _Matrix(image.channels, self.each)

    def task(
        self, made: Any, image: _Image, given: str, before: tuple[int, int], constants: dict[str, Any], **fields: float
    ) -> Task:
        """The transform from or to an image; ``before``: how far a tile begins before its first result."""
        matrix, lanes = self.matrix(image), image.lanes
        shape = {"results": self._results, "channels_last": self._channels_last, "lanes": lanes}
        return Task(
            made.variant("float32", threads=THREADS, **shape, **constants), blocks_for(matrix.plane // lanes, THREADS),
            given, plane=matrix.plane, pitch=max(matrix.pitch, 1), tiles=self._count, tiles_w=max(self._across, 1),
            tiles_image=max(self._of_image, 1), before_h=before[0], before_w=before[1], **image.fields(), **fields,
        )  # fmt: skip


def _weights_task(made: Any, p: ConvProblem, results: int, given: str, matrix: _Matrix, backward: bool) -> Task:
    """The transform from w, or to dw. Backward, the taps are turned, and rows and columns are filters and channels."""
    if p.weight_layout == "HWIO":
        tap_w, channel_w, filter_w = p.C * p.K, p.K, 1
    else:
        tap_w, channel_w, filter_w = 1, TAPS * TAPS, TAPS * TAPS * p.C
    rows, columns, row_w, column_w, start = p.C, p.K, channel_w, filter_w, 0
    if backward:
        rows, columns, row_w, column_w = p.K, p.C, filter_w, channel_w
        start, tap_w = (TAPS * TAPS - 1) * tap_w, -tap_w
    return Task(
        made.variant("float32", threads=THREADS, results=results), blocks_for(matrix.plane, THREADS), given, rows=rows,
        columns=columns, pitch=max(matrix.pitch, 1), plane=matrix.plane, start=start, row_w=row_w, column_w=column_w,
        tap_w=tap_w,
    )  # fmt: skip


class _Workspace:
    """Arrays one behind the other, each of so many elements."""

    def __init__(self, *sizes: int):
        self._sizes, self._dtype = sizes, np.dtype(np.float32)
        self.bytes = sum(sizes) * self._dtype.itemsize

    def arrays(self) -> tuple[Any, list[int]]:
        """Fresh memory, to be kept until the last launch is queued, and where in it the arrays begin."""
        device = current_device()
        memory = device.empty((sum(self._sizes),), self._dtype)
        first = device.address(memory)
        return memory, [first + sum(self._sizes[:i]) * self._dtype.itemsize for i in range(len(self._sizes))]


class _Convolution:
    """A convolution with stride 1 of ``source``, padded ``before`` and as far behind as ``target`` has results."""

    def __init__(
        self, p: ConvProblem, results: int, source: _Image, target: _Image, before: tuple[int, int], backward: bool
    ):
        points = (results + TAPS - 1) ** 2
        tiles = self._tiles = _Tiles(p.N, target, results, source, SLICE_BYTES)
        patches, weights = tiles.matrix(source), _Matrix(source.channels, target.channels)
        self._weights = _weights_task(weights_kernel, p, results, "w u", weights, backward)
        self._patches = tiles.task(patches_kernel, source, "x v first", before, {"as_taps": False})
        self._weights_are_left = not source.channels_last
        if self._weights_are_left:
            self._product = _Product(points, weights, False, patches, False)
        else:
            self._product = _Product(points, patches, True, weights, False)
        self._parts = Parts("float32", self._product.size, self._product.parts)
        constants = epilogue_constants(p, not backward)
        given = f"m {EPILOGUE_ARRAYS} y first"
        self._results = tiles.task(results_kernel, target, given, (0, 0), constants, slope=p.slope)
        self._workspace = _Workspace(points * weights.plane, points * patches.plane, self._product.size)
        self.workspace_bytes = self._workspace.bytes + self._parts.workspace_bytes

    def run(self, x: int, w: int, bias: int, scale: int, residual: int, y: int) -> None:
        _memory, (u, v, m) = self._workspace.arrays()
        left, right = (u, v) if self._weights_are_left else (v, u)
        self._weights.run(w, u)
        for first in self._tiles.starts:
            self._patches.run(x, v, first)
            self._parts.run(lambda parts: self._product.run(left, right, parts), m)
            self._results.run(m, bias, scale, residual, y, first)


class _Forward:
    """``y`` from ``x w b scale residual``."""

    def __init__(self, p: ConvProblem, results: int):
        before = p.padding[1][0], p.padding[2][0]
        convolution = _Convolution(p, results, *_images(p), before, backward=False)
        self.workspace_bytes, self.run = convolution.workspace_bytes, convolution.run


class _InputGradient:
    """``dx`` from ``dy w``: element i of x met tap t in pixel ``i + P - t`` of y, the first of them ``i - (2 - P)``."""

    def __init__(self, p: ConvProblem, results: int):
        x, y = _images(p)
        before = TAPS - 1 - p.padding[1][0], TAPS - 1 - p.padding[2][0]
        self._convolution = _Convolution(p, results, y, x, before, backward=True)
        self.workspace_bytes = self._convolution.workspace_bytes

    def run(self, dy: int, w: int, dx: int) -> None:
        self._convolution.run(dy, w, 0, 0, 0, dx)


class _WeightGradient:
    """``dw`` from ``x dy``."""

    def __init__(self, p: ConvProblem, results: int):
        (x, y), points = _images(p), (results + TAPS - 1) ** 2
        products = _Matrix(p.C, p.K)
        # Each slice has products of its own, so it is larger than they are; its elements are counted in 32 bits.
        slice_bytes = min(max(SLICE_BYTES, 4 * _Workspace(points * products.plane).bytes), 1 << 32)
        tiles = self._tiles = _Tiles(p.N, y, results, x, slice_bytes)
        self._patches = tiles.task(
            patches_kernel, x, "x v first", (p.padding[1][0], p.padding[2][0]), {"as_taps": False}
        )
        self._dy_tiles = tiles.task(patches_kernel, y, "x v first", (0, 0), {"as_taps": True})
        along = not x.channels_last
        self._product = _Product(points, tiles.matrix(x), along, tiles.matrix(y), along)
        self._parts = Parts("float32", self._product.size, self._product.parts * len(tiles.starts))
        self._taps = _weights_task(weight_gradient_kernel, p, results, "m w", products, False)
        sizes = points * tiles.matrix(x).plane, points * tiles.matrix(y).plane, self._product.size
        self._workspace = _Workspace(*sizes)
        self.workspace_bytes = self._workspace.bytes + self._parts.workspace_bytes

    def run(self, x: int, dy: int, dw: int) -> None:
        _memory, (v, e, m) = self._workspace.arrays()

        def add(parts: int) -> None:
            for number, first in enumerate(self._tiles.starts):
                self._patches.run(x, v, first)
                self._dy_tiles.run(dy, e, first)
                before = number * self._product.parts * self._product.size * np.dtype(np.float32).itemsize
                self._product.run(v, e, parts + before)

        self._parts.run(add, m)
        self._taps.run(m, dw)


class SmallTilesForward(_Forward):
    """F(2x2, 3x3); ``y`` from ``x w b scale residual``."""

    def __init__(self, p: ConvProblem):
        super().__init__(p, 2)


class SmallTilesInputGradient(_InputGradient):
    """F(2x2, 3x3); ``dx`` from ``dy w``."""

    def __init__(self, p: ConvProblem):
        super().__init__(p, 2)


class SmallTilesWeightGradient(_WeightGradient):
    """F(3x3, 2x2); ``dw`` from ``x dy``."""

    def __init__(self, p: ConvProblem):
        super().__init__(p, 2)


class LargeTilesForward(_Forward):
    """F(4x4, 3x3); ``y`` from ``x w b scale residual``."""

    def __init__(self, p: ConvProblem):
        super().__init__(p, 4)


class LargeTilesInputGradient(_InputGradient):
    """F(4x4, 3x3); ``dx`` from ``dy w``."""

    def __init__(self, p: ConvProblem):
        super().__init__(p, 4)


class LargeTilesWeightGradient(_WeightGradient):
    """F(3x3, 4x4); ``dw`` from ``x dy``."""

    def __init__(self, p: ConvProblem):
        super().__init__(p, 4)


# --- What it is for -------------------------------------------------------------------------------------------------


def winograd_supports(p: ConvProblem) -> str | None:
    """None for a problem that the GPU can do in tiles, otherwise what it would need."""
    sizes = " x ".join(map(str, p.kernel[3 - p.rank :]))
    if p.dtype != "float32":
        return f"float32; received {p.dtype}"
    if p.rank != 2:
        return f"images, of two axes; received {p.rank}"
    if p.kernel != (1, TAPS, TAPS):
        return f"kernels of 3 x 3; received {sizes}"
    if p.stride != (1, 1, 1):
        return f"stride 1; received {p.stride[1:]}"
    if p.dilation != (1, 1, 1):
        return f"dilation 1; received {p.dilation[1:]}"
    if p.G != 1:
        return f"one group; received {p.G}"
    points = (4 + TAPS - 1) ** 2
    most = max(*map(math.prod, (p.x_shape, p.y_shape)), points * _in_slices(p.C) * _in_slices(p.K))
    return counted(most) or needs_zeros(p)


#: Multiply-adds in the time in which a byte goes to or comes from memory, and in that of the launches which a single
#: product does not have: of an H200 by its data sheet, 33.5e12 and 4.8e12 a second, and 10 microseconds. Not measured.
_BYTE, _LAUNCHES = 7, 330_000_000


def small_tiles_suit(p: ConvProblem) -> str | None:
    """None where tiles of 2 x 2 save more arithmetic than their workspace takes time to be written and read.

    A tile needs 16 multiply-adds for each channel and filter instead of 36, but its 16 elements of V for each channel
    and of M for each filter go to memory and come back. So 96 channels and as many filters are the least, for many
    images; one image of 28 x 28 pixels needs 400. That is an estimate: it has not been compared with times on a GPU.
    """
    tiles = p.N * -(-p.output[1] // 2) * -(-p.output[2] // 2)
    saved = (36 - 16) * tiles * p.C * p.K
    moved = 2 * 16 * 4 * (tiles * (p.C + p.K) + p.C * p.K)
    if saved < _BYTE * moved + _LAUNCHES:
        return "more channels, filters or pixels: the transforms take longer than the multiplications that they save"
    return None


def by_name(p: ConvProblem) -> str | None:
    """The reason why "auto" never takes tiles of 4 x 4."""
    return "to be asked for by name: it rounds ten times as much as direct sums"
