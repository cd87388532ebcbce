"""Convolution as a product of matrices whose left one is never written: implicit GEMM.

im2col (``cpu/conv_im2col.py``) writes the window of each pixel as a row of a matrix and multiplies it by the weights.
Here a block of threads gathers its slices of that matrix straight from x into shared memory, while it multiplies the
slices before (``tile.py``); the tables of ``gather.py`` say where the elements lie. All three operations are this
product, in float32 or float64 throughout:

    forward:          rows: pixels of y,         columns: filters,   depth: taps and channels
    input gradient:   rows: pixels of dx,        columns: channels,  depth: taps and filters
    weight gradient:  rows: taps and channels,   columns: filters,   depth: pixels of y

The input gradient is one product for each phase of the strides: pixels that are a stride apart meet the same taps.
Weights that do not lie as the product reads them, in rows of a multiple of four elements, are packed first. A product
with too few tiles for all multiprocessors is cut along its depth into parts, and a second kernel adds them in their
order, so bits repeat.

Source: Chetlur et al., "cuDNN: Efficient Primitives for Deep Learning" (2014), section 3.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import cuda
from numba.cuda import types

from pycnn_kernels.cpu.gather import needs_zeros
from pycnn_kernels.cuda.compile import device_function
from pycnn_kernels.cuda.device import current_device
from pycnn_kernels.cuda.epilogue import EPILOGUE_ARRAYS, EPILOGUE_FIELDS, epilogue, epilogue_constants
from pycnn_kernels.cuda.gather import (
    Window,
    depth_table,
    forward_window,
    gradient_windows,
    numbered,
    pixel_table,
    tables_fit,
)
from pycnn_kernels.cuda.launch import MOST_BLOCKS_ACROSS, Kernel, Task, blocks_for, counted, ints, kernel
from pycnn_kernels.cuda.ptx import load2, load4, quotient, remainder, shift, store4
from pycnn_kernels.cuda.tile import (
    LACKING,
    NEEDED,
    NOWHERE,
    SLICE,
    STRIP,
    Tile,
    index,
    reader_of_depths,
    reader_of_quads,
    reader_of_rows,
    thread_place,
    tile_product,
)
from pycnn_kernels.problem import ConvProblem, numpy_dtype

#: Columns of the smallest tile are 32: with fewer than this most of its products would be thrown away.
_LEAST_COLUMNS = 8

int32 = types.int32


#: The fields of both products. Block (i, j) has the tile i, column by column, of group ``j % groups`` and of part
#: ``j // groups``, which are ``part_slices`` of the ``slices``, and whose result is written to
#: ``y[part * part_size:]``. Element (i, j) of it has the place
#: ``i // inner * outer_y + i % inner * inner_y + j * column_y``, or that with ``places[i % inner]``.
PRODUCT_FIELDS = {
    "x": "source",
    "w": "source",
    "y": "array",
    **EPILOGUE_FIELDS,
    "pixels": "table",
    "depths": "table",
    "places": "table",
    "part_size": "long",
} | ints(
    "rows columns column_tiles groups group_x group_w slices part_slices depth image_x pitch_w "
    "inner outer_y inner_y column_y"
)

# Constants of a product's variants:
#   reading  "quads": the gathered operand is channels last, and four channels move at once; "elements": one;
#            "planes": it is channels first.
#   writing  "columns": a thread writes four columns of a row at once; "rows": four rows of a column; "elements": one.
#   placing  "dense": rows follow each other in y; "split": they do within ``inner``; "table": ``places`` tells.


# --- What the products share ----------------------------------------------------------------------------------------


@device_function
def _its_tile(a, rows, columns):
    """Of a block: row, column, group, part, and the slices [begin, end) of its tile."""
    down = int32(quotient(cuda.blockIdx.x, a.column_tiles))
    across = int32(cuda.blockIdx.x - down * a.column_tiles)
    part = int32(quotient(cuda.blockIdx.y, a.groups))
    group = int32(cuda.blockIdx.y - part * a.groups)
    # A phase of few taps may have less slices than the parts that a longer one is cut into.
    begin = int32(min(part * a.part_slices, a.slices))
    return down * rows, across * columns, group, part, begin, int32(min(begin + a.part_slices, a.slices))


def _product_body(tile: Tile, product: Any, write: Any) -> Any:
    """The body of both products: a block's tile of sums, and its results.

    The product takes all registers that there are. So what only the results need, and is the same for the whole block,
    waits in shared memory.
    """
    tile_rows, tile_columns = tile.rows, tile.columns

    def body(a):
        row, column, group, part, begin, end = _its_tile(a, tile_rows, tile_columns)
        later = cuda.shared.array(4, int32)
        if cuda.threadIdx.x == 0:
            later[index(0)], later[index(1)], later[index(2)], later[index(3)] = row, column, group, part
        # There is a barrier in the product.
        sums = product(a, row, column, int32(group * a.group_x), int32(group * a.group_w), begin, end)
        y = shift(a.y, later[index(3)] * a.part_size)
        write(a, y, sums, later[index(0)], later[index(1)], later[index(2)])

    return body


@device_function
def _column(a, j):
    return j, (LACKING if j < a.columns else NOWHERE)


@device_function
def _first_row(a, depth):
    return depth


@device_function
def _matrix_row(a, depth):
    return int32(depth * a.pitch_w), (NEEDED if depth < a.depth else LACKING)


@device_function
def _next_row(a, depth):
    return int32(depth + SLICE)


#: The depths of an operand that lies as a matrix of ``depth`` rows.
_MATRIX_ROWS = _first_row, _matrix_row, _next_row


@device_function
def _first_quad_entry(a, depth):
    return _quad_entry(a, int32(quotient(depth, STRIP)))


@device_function
def _quad_entry(a, number):
    entry = load2(a.depths, 2 * number)
    return number, entry[0], entry[1]


@device_function
def _look_at_quad_entry(a, cursor):
    return cursor[1], cursor[2]


@device_function
def _next_quad_entry(a, cursor):
    return _quad_entry(a, int32(cursor[0] + SLICE // STRIP))


#: Depths from a table with an entry for each four. It is read a slice ahead.
_QUAD_ENTRIES = _first_quad_entry, _look_at_quad_entry, _next_quad_entry


@device_function
def _entries(a, depth):
    (i, p, j, q), (k, r, m, s) = load4(a.depths, 2 * depth), load4(a.depths, 2 * depth + 4)
    return i, j, k, m, p, q, r, s


#: Depths from a table with an entry for each, four at a time.
_ENTRIES = _first_row, _entries, _next_row


def _writer(dtype: Any, tile: Tile, writing: str, placing: str, finished: Any) -> Any:
    """A device function ``write(a, y, sums, row, column, group)``: the sums of a thread, finished, to their places."""
    two_rows, two_columns = tile.row_strips == 2, tile.column_strips == 2
    half_rows, half_columns = tile.rows // 2, tile.columns // 2
    dense, in_table = placing == "dense", placing == "table"
    by_columns, by_rows = writing == "columns", writing == "rows"
    place_of_thread = thread_place(tile, again=True)

    @device_function
    def place(a, row):
        if dense:
            return int32(row * a.inner_y)
        outer = int32(quotient(row, a.inner))
        rest = int32(row - outer * a.inner)
        return int32(outer * a.outer_y + (a.places[rest] if in_table else rest) * a.inner_y)

    @device_function
    def write_one(a, y, total, column, channel, to):
        if column < a.columns:
            to = int32(to + channel * a.column_y)
            y[to] = finished(a, total, channel, to)

    @device_function
    def write_row(a, y, s, t, u, v, row, column, group):
        if row < a.rows:
            to, k = place(a, row), int32(group * a.columns + column)
            if by_columns:
                if column < a.columns:
                    to = int32(to + k)
                    quad = (
                        finished(a, s, k, to), finished(a, t, k + 1, to + 1),
                        finished(a, u, k + 2, to + 2), finished(a, v, k + 3, to + 3),
                    )  # fmt: skip
                    store4(y, to, quad)
            else:
                write_one(a, y, s, column, k, to)
                write_one(a, y, t, int32(column + 1), int32(k + 1), to)
                write_one(a, y, u, int32(column + 2), int32(k + 2), to)
                write_one(a, y, v, int32(column + 3), int32(k + 3), to)

    @device_function
    def write_column(a, y, s, t, u, v, to, column, group):
        if column < a.columns:
            k = int32(group * a.columns + column)
            to = int32(to + k * a.column_y)
            quad = (
                finished(a, s, k, to), finished(a, t, k, to + 1), finished(a, u, k, to + 2), finished(a, v, k, to + 3)
            )  # fmt: skip
            store4(y, to, quad)

    @device_function
    def write_strip(a, y, s, row, column, group):
        if by_rows:
            if row < a.rows:
                to = place(a, row)
                write_column(a, y, s[0], s[4], s[8], s[12], to, column, group)
                write_column(a, y, s[1], s[5], s[9], s[13], to, int32(column + 1), group)
                write_column(a, y, s[2], s[6], s[10], s[14], to, int32(column + 2), group)
                write_column(a, y, s[3], s[7], s[11], s[15], to, int32(column + 3), group)
        else:
            write_row(a, y, s[0], s[1], s[2], s[3], row, column, group)
            write_row(a, y, s[4], s[5], s[6], s[7], int32(row + 1), column, group)
            write_row(a, y, s[8], s[9], s[10], s[11], int32(row + 2), column, group)
            write_row(a, y, s[12], s[13], s[14], s[15], int32(row + 3), column, group)

    @device_function
    def write(a, y, sums, row, column, group):
        my_row, my_column = place_of_thread()
        row, column = int32(row + my_row), int32(column + my_column)
        one, beside, below, across = sums
        write_strip(a, y, one, row, column, group)
        if two_columns:
            write_strip(a, y, beside, row, int32(column + half_columns), group)
        if two_rows:
            write_strip(a, y, below, int32(row + half_rows), column, group)
            if two_columns:
                write_strip(a, y, across, int32(row + half_rows), int32(column + half_columns), group)

    return write


# --- Forward and input gradient -------------------------------------------------------------------------------------


@kernel(**PRODUCT_FIELDS)
def gathered_product_kernel(
    dtype: Any, tile: Tile, reading: str, writing: str, placing: str,
    bias: bool, scale: bool, residual: bool, activation: str | None,
) -> Any:  # fmt: skip
    """``y[m, k] = finished(sum over depths d of x[pixels[m] + depths[d]] * w[d, k])``, for each group.

    x is an image in either layout; row m is pixel ``m % inner`` of image ``m // inner``, and ``pixels`` and ``depths``
    are tables of ``gather.py``. w is a matrix whose rows of ``columns`` elements are ``pitch_w`` apart, multiples of
    four. The fields say where the result goes. With parts, y is the workspace and nothing is finished. Bits repeat:
    each sum is one thread's, in the order of the depth.
    """

    @device_function
    def pixel(a, m):
        if m < a.rows:
            image = int32(quotient(m, a.inner))
            entry = load2(a.pixels, 2 * int32(m - image * a.inner))
            return int32(image * a.image_x + entry[0]), entry[1]
        return int32(0), int32(NOWHERE)

    make, depths = (reader_of_quads, _QUAD_ENTRIES) if reading == "quads" else (reader_of_depths, _ENTRIES)
    left = make(dtype, tile.threads, tile.rows, pixel, along_depth=reading != "planes")
    right = reader_of_quads(dtype, tile.threads, tile.columns, _column, along_depth=False)
    product = tile_product(dtype, tile, left, right, depths, _MATRIX_ROWS)
    write = _writer(dtype, tile, writing, placing, epilogue(dtype, bias, scale, residual, activation))
    return _product_body(tile, product, write)


# --- Weight gradient ------------------------------------------------------------------------------------------------


@kernel(**PRODUCT_FIELDS, **ints("images image_pixels step_images step_pixels image_w column_w"))
def weight_gradient_kernel(dtype: Any, tile: Tile, reading: str, writing: str, placing: str, dy_quads: bool) -> Any:
    """``y[d, k] = sum over pixels m of x[pixels[m] + depths[d]] * w[m, k]``, for each group: dw, and w is dy.

    As :func:`gathered_product_kernel`, with rows and depth exchanged: row d is tap ``d // inner`` and channel
    ``d % inner``, and the depth are the pixels of all ``images``. A thread walks along them eight at a time, which are
    ``step_images`` images and ``step_pixels`` pixels. In channels last w is a matrix whose rows are ``pitch_w`` apart;
    otherwise its images are ``image_w`` apart, its columns ``column_w``. Bits repeat.
    """
    channels_last, step = reading != "planes", STRIP if reading == "quads" else 1

    @device_function
    def tap(a, row):
        if row < a.rows:
            entry = load2(a.depths, 2 * int32(quotient(row, step)))
            return entry[0], entry[1]
        return int32(0), int32(NOWHERE)

    @device_function
    def first_pixel(a, m):
        image = int32(quotient(m, a.image_pixels))
        return image, int32(m - image * a.image_pixels)

    @device_function
    def next_pixel(a, image, pixel):
        image, pixel = int32(image + a.step_images), int32(pixel + a.step_pixels)
        if pixel >= a.image_pixels:
            return int32(image + 1), int32(pixel - a.image_pixels)
        return image, pixel

    @device_function
    def look_up(a, place):
        image, pixel = place
        if image < a.images:
            entry = load2(a.pixels, 2 * pixel)
            return image, pixel, int32(image * a.image_x + entry[0]), entry[1]
        return image, pixel, int32(0), int32(NOWHERE)

    @device_function
    def start(a, m):
        return look_up(a, first_pixel(a, m))

    @device_function
    def look(a, cursor):
        return cursor[2], cursor[3]

    @device_function
    def move(a, cursor):
        return look_up(a, next_pixel(a, cursor[0], cursor[1]))

    @device_function
    def filter_plane(a, k):
        return int32(k * a.column_w), (LACKING if k < a.columns else NOWHERE)

    @device_function
    def look_dy(a, cursor):
        return int32(cursor[0] * a.image_w + cursor[1]), (NEEDED if cursor[0] < a.images else LACKING)

    @device_function
    def move_dy(a, cursor):
        return next_pixel(a, cursor[0], cursor[1])

    make = reader_of_quads if reading == "quads" else reader_of_rows
    left = make(dtype, tile.threads, tile.rows, tap, along_depth=not channels_last)
    if channels_last:
        make = reader_of_quads if dy_quads else reader_of_rows
        right, right_depths = make(dtype, tile.threads, tile.columns, _column, along_depth=False), _MATRIX_ROWS
    else:
        right = reader_of_rows(dtype, tile.threads, tile.columns, filter_plane, along_depth=True, keep=False)
        right_depths = first_pixel, look_dy, move_dy
    product = tile_product(dtype, tile, left, right, (start, look, move), right_depths)
    write = _writer(dtype, tile, writing, placing, epilogue(dtype, False, False, False, None))
    return _product_body(tile, product, write)


# --- Before and behind the products ---------------------------------------------------------------------------------


@kernel(
    w="source", packed="array", taps="table", **ints("count tap_count rows columns pitch group_w tap_w row_w column_w")
)
def packing_kernel(dtype: Any, threads: int) -> Any:
    """``packed[g, t, r, l] = w[tap taps[t], row r, column l of group g]``, zeros from ``columns`` up to ``pitch``.

    A thread for each of the ``count`` elements of packed (groups, tap_count, rows, pitch); ``*_w`` are the strides of
    w.
    """
    zero = dtype(0)

    def body(a):
        i = int32(cuda.blockIdx.x * threads + cuda.threadIdx.x)
        if i < a.count:
            line = int32(quotient(i, a.pitch))
            column = int32(i - line * a.pitch)
            tap = int32(quotient(line, a.rows))
            row = int32(line - tap * a.rows)
            group = int32(quotient(tap, a.tap_count))
            tap = int32(tap - group * a.tap_count)
            value = zero
            if column < a.columns:
                value = a.w[int32(group * a.group_w + a.taps[tap] * a.tap_w + row * a.row_w + column * a.column_w)]
            a.packed[i] = value

    return body


@kernel(parts="source", y="array", **EPILOGUE_FIELDS, **ints("count part_count inner channels"))
def merging_kernel(
    dtype: Any, threads: int, bias: bool, scale: bool, residual: bool, activation: str | None
) -> Any:  # fmt: skip
    """``y[i] = finished(sum over parts s, in their order, of parts[s, i])``; channel ``i // inner % channels``.

    A thread for each of the ``count`` elements of y.
    """
    zero, finished = dtype(0), epilogue(dtype, bias, scale, residual, activation)

    def body(a):
        i = int32(cuda.blockIdx.x * threads + cuda.threadIdx.x)
        if i < a.count:
            total = zero
            parts = shift(a.parts, i)
            for part in range(a.part_count):
                total += parts[part * a.count]
            a.y[i] = finished(a, total, remainder(quotient(i, a.inner), a.channels), i)

    return body


# --- The choice of tile and parts -----------------------------------------------------------------------------------

#: The tiles to choose from, and the share of the arithmetic's rate that they reach where all multiprocessors are busy:
#: smaller ones load more operands for each product.
TILES = {
    "float32": {Tile(128, 128, 2, 2): 1.0, Tile(128, 64, 2, 1): 0.85, Tile(64, 64, 2, 1): 0.8, Tile(64, 32, 1, 1): 0.5},
    "float64": {Tile(64, 64, 2, 1): 1.0, Tile(64, 32, 1, 1): 0.7},
}
#: Multiply-adds of a multiprocessor in a cycle.
_LANES = {"float32": 128, "float64": 64}
#: The rate of a multiprocessor that has one block, which waits for its barriers and its memory alone.
_ALONE = 0.7
#: What a block does beside its slices, in slices.
_AROUND = 6
#: Cycles of one more launch, and bytes that all multiprocessors move in a cycle.
_LAUNCH, _BYTES = 4000, 2000
#: Parts at most, and bytes of the workspace that they may take.
_MOST_PARTS, _MOST_PART_BYTES = 64, 1 << 28


class Division(NamedTuple):
    """How a product is divided among blocks."""

    tile: Tile
    parts: int


def division(dtype: str, rows: int, columns: int, depth: int, groups: int, results: int) -> Division:
    """The tile and the number of parts with the least expected time.

    The busiest multiprocessor has its share of the blocks, rounded up, and takes the time of their products; with
    parts, all of the ``results`` are written once for each and read again. Products in small tiles are slower, but
    leave fewer multiprocessors idle, and so do parts.
    """
    device, item, slices = current_device(), numpy_dtype(dtype).itemsize, _slices(depth)
    most = min(_MOST_PARTS, slices, MOST_BLOCKS_ACROSS // max(groups, 1), _MOST_PART_BYTES // max(results * item, 1))

    def cycles(chosen: Division) -> float:
        tile, parts = chosen
        blocks = -(-rows // tile.rows) * -(-columns // tile.columns) * groups * parts
        busiest = -(-blocks // device.processors)
        rate = _LANES[dtype] * TILES[dtype][tile] * (_ALONE if busiest == 1 else 1)
        sums = busiest * tile.rows * tile.columns * (-(-slices // parts) + _AROUND) * SLICE / rate
        return sums + (_LAUNCH + (2 * parts + 1) * results * item / _BYTES if parts > 1 else 0)

    return min((Division(tile, parts) for tile in TILES[dtype] for parts in range(1, max(most, 1) + 1)), key=cycles)


def _slices(depth: int) -> int:
    return -(-depth // SLICE)


def threads_of(dtype: str, tile: Tile) -> dict[str, int]:
    """Threads of a block, and how many of these blocks a multiprocessor holds at least.

    That leaves a thread 128 registers, or 168 in float64, whose elements take two, so that some of the threads multiply
    while others wait at their barrier.
    """
    together = 512 if dtype == "float32" else 384
    return {"threads": tile.threads, "resident": together // tile.threads}


def _product_task(
    made: Kernel, p: ConvProblem, divided: Division, given: str, constants: dict[str, Any], **fields: Any
) -> Task:
    """The launch of a product in all its tiles and parts; ``fields`` has its rows, columns and depth."""
    tile, parts = divided
    variant = made.variant(p.dtype, **threads_of(p.dtype, tile), tile=tile, **constants)
    column_tiles, slices = -(-fields["columns"] // tile.columns), _slices(fields["depth"])
    return Task(
        variant, (-(-fields["rows"] // tile.rows) * column_tiles, p.G * parts), given, column_tiles=max(column_tiles,
        1), groups=max(p.G, 1), slices=slices, part_slices=-(-slices // parts), **fields,
    )  # fmt: skip


# --- The operations -------------------------------------------------------------------------------------------------


class Image(NamedTuple):
    """How x, y or their gradients lie in memory, in elements."""

    channels: int
    pixels: int
    channels_last: bool

    @property
    def size(self) -> int:
        return self.channels * self.pixels

    @property
    def pixel(self) -> int:
        """From one pixel to the next."""
        return self.channels if self.channels_last else 1

    @property
    def channel(self) -> int:
        """From one channel to the next."""
        return 1 if self.channels_last else self.pixels


def _images(p: ConvProblem) -> tuple[Image, Image]:
    """x and y."""
    channels_last = p.layout == "channels_last"
    return Image(p.C, math.prod(p.size), channels_last), Image(p.K, math.prod(p.output), channels_last)


def _reading(image: Image, channels: int) -> str:
    """How a group's channels of an image are read."""
    if not image.channels_last:
        return "planes"
    return "quads" if channels % STRIP == 0 else "elements"


class _Weights:
    """The weights as rows of a product's columns: as they are, or packed in the workspace.

    Attributes:
        elements: of the workspace that they take.
        tap, group, pitch: elements from one tap, group and row to the next.
    """

    def __init__(self, p: ConvProblem, taps: np.ndarray, backward: bool):
        channels, filters, count = p.C // p.G, p.K // p.G, math.prod(p.kernel)
        if p.weight_layout == "HWIO":
            tap_w, channel_w, filter_w = channels * p.K, p.K, 1
        else:
            tap_w, channel_w, filter_w = 1, count, channels * count
        rows, columns = (filters, channels) if backward else (channels, filters)
        row_w, column_w = (filter_w, channel_w) if backward else (channel_w, filter_w)
        group_w = filters * filter_w
        # A tap that is alone is at no distance from another one.
        strips = (columns, row_w, group_w, 0 if count == 1 else tap_w)
        if column_w == 1 and all(each % STRIP == 0 for each in strips):
            self.elements, self.pitch, self.tap, self.group = 0, row_w, tap_w, group_w
            return
        self.pitch = -(-columns // STRIP) * STRIP
        self.tap = rows * self.pitch
        self.group = taps.size * self.tap
        self.elements = p.G * self.group
        self._task = Task(
            packing_kernel.variant(p.dtype), blocks_for(self.elements), "w packed", taps=taps.astype(np.int32),
            count=self.elements, tap_count=max(taps.size, 1), rows=max(rows, 1), columns=columns, pitch=max(self.pitch,
            1), group_w=group_w, tap_w=tap_w, row_w=row_w, column_w=column_w,
        )  # fmt: skip

    def run(self, w: int, workspace: int) -> int:
        """Pack them if they need it; where they are then."""
        if not self.elements:
            return w
        self._task.run(w, workspace)
        return workspace


def _merging_task(p: ConvProblem, results: int, parts: int, image: Image | None) -> Task:
    """What adds up the parts of a result: an image, which it finishes, or something else."""
    channels, inner = (image.channels, image.channel) if image else (1, 1)
    return Task(
        merging_kernel.variant(p.dtype, **epilogue_constants(p, image is not None)), blocks_for(results),
        f"parts {EPILOGUE_ARRAYS} y", slope=p.slope, count=results, part_count=parts, inner=max(inner, 1),
        channels=max(channels, 1),
    )  # fmt: skip


class _GatheredProduct:
    """Forward and input gradient: each pixel of ``result`` gathers, as ``windows`` say, from ``source``.

    A group has ``depth`` channels of the source and ``columns`` of the result.
    """

    def __init__(
        self,
        p: ConvProblem,
        windows: list[Window],
        source: Image,
        result: Image,
        depth: int,
        columns: int,
        forward: bool,
    ):
        self._item, self._dtype = numpy_dtype(p.dtype).itemsize, numpy_dtype(p.dtype)
        taps = [numbered(window.taps, p.kernel) for window in windows]
        self._weights = _Weights(p, np.concatenate([np.zeros(0, np.int64), *taps]), backward=not forward)
        rows = p.N * max((window.pixels for window in windows), default=0)
        most = max((window.tap_count for window in windows), default=0) * depth
        results = p.N * result.size
        divided = division(p.dtype, rows, columns, most, p.G, results)
        self._parted = divided.parts > 1
        finish = forward and not self._parted
        whole = len(windows) == 1  # and has all pixels, in their order
        constants = epilogue_constants(p, finish) | {"reading": _reading(source, depth)}
        constants |= _result_constants(result, columns, whole)
        step = STRIP if constants["reading"] == "quads" else 1
        self._products, before = [], 0
        for window, its_taps in zip(windows, taps):
            task = _product_task(
                gathered_product_kernel, p, divided, f"x w {EPILOGUE_ARRAYS} y", constants, rows=p.N * window.pixels,
                columns=columns, depth=its_taps.size * depth, pixels=pixel_table(window, source.pixel),
                depths=depth_table(window, source.pixel, depth, source.channel, step), image_x=source.size,
                group_x=depth * source.channel, pitch_w=self._weights.pitch, group_w=self._weights.group,
                inner=max(window.pixels, 1), outer_y=result.size, inner_y=result.pixel, column_y=result.channel,
                places=0 if whole else numbered(window.places, p.size).astype(np.int32), part_size=results,
                slope=p.slope,
            )  # fmt: skip
            self._products.append((task, before * self._weights.tap * self._item))
            before += its_taps.size
        self._elements = self._weights.elements + (divided.parts * results if self._parted else 0)
        if self._parted:
            self._merging = _merging_task(p, results, divided.parts, result if forward else None)
        self.workspace_bytes = self._elements * self._item

    def run(self, x: int, w: int, bias: int, scale: int, residual: int, y: int) -> None:
        device = current_device()
        workspace = device.empty((self._elements,), self._dtype)
        start = device.address(workspace)
        parts = start + self._weights.elements * self._item
        rows = self._weights.run(w, start)
        for product, before in self._products:
            product.run(x, rows + before, bias, scale, residual, parts if self._parted else y)
        if self._parted:
            self._merging.run(parts, bias, scale, residual, y)


def _result_constants(result: Image, columns: int, whole: bool) -> dict[str, Any]:
    """How rows that are pixels, of which these are all or some, are written."""
    if result.channels_last:
        writing, placing = "columns" if columns % STRIP == 0 else "elements", "dense"
    else:
        writing, placing = "rows" if whole and result.pixels % STRIP == 0 else "elements", "split"
    return {"writing": writing, "placing": placing if whole else "table"}


class ImplicitGemmForward:
    """``y`` from ``x w b scale residual``."""

    def __init__(self, p: ConvProblem):
        x, y = _images(p)
        product = _GatheredProduct(p, [forward_window(p)], x, y, p.C // p.G, p.K // p.G, forward=True)
        self.workspace_bytes, self.run = product.workspace_bytes, product.run


class ImplicitGemmInputGradient:
    """``dx`` from ``dy w``."""

    def __init__(self, p: ConvProblem):
        x, y = _images(p)
        self._product = _GatheredProduct(p, gradient_windows(p), y, x, p.K // p.G, p.C // p.G, forward=False)
        self.workspace_bytes = self._product.workspace_bytes

    def run(self, dy: int, w: int, dx: int) -> None:
        self._product.run(dy, w, 0, 0, 0, dx)


class ImplicitGemmWeightGradient:
    """``dw`` from ``x dy``."""

    def __init__(self, p: ConvProblem):
        x, y = _images(p)
        self._dtype = numpy_dtype(p.dtype)
        window, channels, filters, taps = forward_window(p), p.C // p.G, p.K // p.G, math.prod(p.kernel)
        rows, depth, results = taps * channels, p.N * y.pixels, taps * channels * p.K
        divided = division(p.dtype, rows, filters, depth, p.G, results)
        reading, dy_quads = _reading(x, channels), filters % STRIP == 0
        constants: dict[str, Any] = {"reading": reading, "dy_quads": dy_quads}
        if p.weight_layout == "HWIO":
            constants |= {"writing": "columns" if dy_quads else "elements", "placing": "dense"}
            places = {"inner_y": p.K, "column_y": 1}
        else:
            constants |= {"writing": "elements", "placing": "split"}
            places = {"outer_y": 1, "inner_y": taps, "column_y": rows}
        pixels = max(y.pixels, 1)
        self._product = _product_task(
            weight_gradient_kernel, p, divided, "x w y", constants, rows=rows, columns=filters, depth=depth,
            pixels=pixel_table(window, x.pixel), image_x=x.size, group_x=channels * x.channel,
            depths=depth_table(window, x.pixel, channels, x.channel, STRIP if reading == "quads" else 1),
            pitch_w=p.K, group_w=filters * y.channel, image_w=y.size, column_w=y.channel, images=p.N,
            image_pixels=pixels, step_images=SLICE // pixels, step_pixels=SLICE % pixels, inner=max(channels, 1),
            part_size=results, **places,
        )  # fmt: skip
        self._elements = divided.parts * results if divided.parts > 1 else 0
        self._merging = _merging_task(p, results, divided.parts, None) if self._elements else None
        self.workspace_bytes = self._elements * self._dtype.itemsize

    def run(self, x: int, dy: int, dw: int) -> None:
        if self._merging is None:
            self._product.run(x, dy, dw)
            return
        device = current_device()
        workspace = device.empty((self._elements,), self._dtype)
        parts = device.address(workspace)
        self._product.run(x, dy, parts)
        self._merging.run(parts, 0, 0, 0, dw)


def implicit_gemm_supports(p: ConvProblem) -> str | None:
    """None, or why the operation cannot gather all of a forward product's elements by its tables."""
    x, y = _images(p)
    weights = math.prod(p.w_shape)
    largest = max(p.N * x.size, p.N * y.size, STRIP * weights, 2 * x.pixels, 2 * y.pixels, p.N * y.pixels)
    if p.G > MOST_BLOCKS_ACROSS:
        return f"at most {MOST_BLOCKS_ACROSS:,} groups; received {p.G:,}"
    return needs_zeros(p) or counted(largest) or tables_fit([forward_window(p)])


def implicit_gemm_supports_input_gradient(p: ConvProblem) -> str | None:
    """The same, for the products of the phases."""
    return implicit_gemm_supports(p) or tables_fit(gradient_windows(p))


def implicit_gemm_suits(p: ConvProblem) -> str | None:
    """None where enough columns of a tile have filters; otherwise what would be worth one."""
    return _enough("filters", p.K // p.G)


def implicit_gemm_suits_input_gradient(p: ConvProblem) -> str | None:
    """The same where the columns are channels."""
    return _enough("channels", p.C // p.G)


def _enough(what: str, columns: int) -> str | None:
    if columns < _LEAST_COLUMNS:
        return f"at least {_LEAST_COLUMNS} {what} in a group; received {columns}"
    return None
