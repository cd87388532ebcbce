"""Products of matrices on the register tile: the blocks of Goto and van de Geijn.

"Anatomy of High-Performance Matrix Multiplication" (2008) divides a product so that each operand is read from the cache
where it stays longest: a panel of the right matrix, a few vectors wide, is packed to lie in one piece in the
second-level cache, while the tiles of a block of rows pass over it. A tile reads the left matrix where it lies, since
a number that is broadcast may come from anywhere; it is copied only where the elements of a row lie so far apart that
they would push each other out of the cache. A few rows are not worth packing panels for: where the elements of a column
of the right matrix lie together, their products are sums of vectors; where those of a row do, its rows are added up as
they come from memory.

A matrix is given by the distance of its rows and of its columns, so each of the two may be a transposed one: a
panel is transposed in registers while it is packed. That is what makes one kernel of the three operations of a layer
in both layouts; see ``conv_pointwise.py``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pycnn_kernels.cpu.conv_frame import Parts, Scratch, split
from pycnn_kernels.cpu.cost import vectors
from pycnn_kernels.cpu.epilogue import EPILOGUE_ARRAYS, EPILOGUE_FIELDS, NO_EPILOGUE, Epilogue, call_finish
from pycnn_kernels.cpu.host import SIMD, item_bytes, lanes
from pycnn_kernels.cpu.inlined import inlined
from pycnn_kernels.cpu.launch import Task, kernel, most_threads
from pycnn_kernels.cpu.layout import transpose_matrix
from pycnn_kernels.cpu.tile import (
    lanes_of,
    local_table,
    prefetch_line,
    rows_of,
    shift,
    tile_add,
    tile_fill_each,
    tile_fill_rows,
    tile_load,
    tile_multiply_add,
    tile_multiply_add_steps,
    tile_multiply_vectors,
    tile_prefetch_rows,
    tile_relu,
    tile_shape,
    tile_store,
    tile_store_sums,
    tile_zeros,
    vectors_of,
    with_rows,
)

#: Vectors and rows of the tile of a whole panel, and of half a panel.
VECTORS, ROWS = SIMD.wide_tile
HALF, HALF_ROWS = VECTORS // 2, SIMD.tile_rows
#: Rows of the tile that takes what whole tiles leave.
FEW_ROWS = 2

#: Tiles whose products ask for the lines of the next panel.
AHEAD_TILES = VECTORS

#: The fields of a kernel that calls :func:`multiply_block`.
BLOCK_FIELDS = EPILOGUE_FIELDS | {
    "dst_row": "int", "right_step": "int", "right_column": "int", "pack_right": "int", "channels_are_rows": "int",
    "ahead_run": "int", "ahead_line": "int", "ahead_step": "int", "ahead_tile": "int",
}  # fmt: skip
PRODUCT_FIELDS = BLOCK_FIELDS | {
    name: kind
    for kind, names in {
        "array": "left right scratch",
        "int": "rows columns depth segments left_row left_step left_batch right_batch dst_batch left_segment "
        "right_segment batches row_block row_blocks column_block column_blocks depth_block depth_blocks split_chunks "
        "part copy_left copy_row scratch_size",
    }.items()
    for name in names.split()
}


@kernel(**PRODUCT_FIELDS)
def matrix_product_kernel(a, item, worker):
    """``dst[i, j] = sum over segments s and p of left[s, i, p] * right[s, p, j]``, finished; a batch of them.

    Element (s, i, p) of left lies at ``s * left_segment + i * left_row + p * left_step``, element (s, p, j) of right at
    ``s * right_segment + p * right_step + j * right_column``, one of the two distances 1; (i, j) of dst at
    ``i * dst_row + j``. The bias belongs to the columns, or to the rows.

    Pieces of work: split of the sum, batch, block of rows, block of columns. A sum goes in chunks of ``depth_block``
    of a segment; split s has ``split_chunks`` of them and writes to ``dst[s * part:]``. Bits repeat: the chunks depend
    on the problem alone.
    """
    column_block = item % a.column_blocks
    row_block = item // a.column_blocks % a.row_blocks
    batch = item // (a.column_blocks * a.row_blocks) % a.batches
    split = item // (a.column_blocks * a.row_blocks * a.batches)
    row, column = row_block * a.row_block, column_block * a.column_block
    rows, columns = min(a.row_block, a.rows - row), min(a.column_block, a.columns - column)
    panel = shift(a.scratch, worker * a.scratch_size)
    copy = shift(panel, a.depth_block * VECTORS * lanes_of(a.left))
    to = split * a.part + batch * a.dst_batch + row * a.dst_row + column
    first = split * a.split_chunks
    last = min(first + a.split_chunks, a.segments * a.depth_blocks)
    for chunk in range(first, last):
        segment, at = chunk // a.depth_blocks, chunk % a.depth_blocks * a.depth_block
        depth = min(a.depth_block, a.depth - at)
        start = batch * a.left_batch + segment * a.left_segment + row * a.left_row + at * a.left_step
        left, left_row, left_step = shift(a.left, start), a.left_row, a.left_step
        if a.copy_left:
            _copy_rows(left, left_step, copy, a.copy_row, depth, rows)
            left, left_row, left_step = copy, 1, a.copy_row
        start = batch * a.right_batch + segment * a.right_segment + at * a.right_step + column * a.right_column
        multiply_block(
            a, (left, left_row, left_step), (shift(a.right, start), at), panel, shift(a.dst, to),
            (rows, columns, depth), (row, column), chunk == first, chunk == last - 1,
        )  # fmt: skip
    if a.finish:
        for i in range(rows):
            call_finish(a, to + i * a.dst_row, row + i if a.channels_are_rows else column, columns)


@inlined
def _copy_rows(src, src_row, dst, dst_row, rows, columns):
    for i in range(rows):
        there, to = shift(src, i * src_row), shift(dst, i * dst_row)
        for j in range(columns):
            to[j] = there[j]


@inlined
def multiply_block(a, left, right, panel, dst, size, place, fresh, final):
    """``dst[i, j] (+)= sum over p of left[i, p] * right[p, j]``, panel by panel.

    Args:
        left: the matrix, and the distances of its rows and of its columns.
        right: a matrix of the block's ``right_step`` and ``right_column``, and how many of its rows lie before it.
        panel: room for :func:`panel_elements`.
        dst: rows ``dst_row`` apart.
        size: rows, columns and depth.
        place: the numbers of the first row and column, for the bias.
        fresh, final: whether sums begin here, rather than being added to those in dst; whether they end here.
    """
    (rows, columns, depth), (row, column), (start, before) = size, place, right
    lane_count = lanes_of(dst)
    for j in range(0, columns, VECTORS * lane_count):
        width = min(columns - j, VECTORS * lane_count)
        there, to = shift(start, j * a.right_column), shift(dst, j)
        # What is packed next: the next panel, or the next chunk of the sum, or the first one of the next block.
        ahead = shift(there, VECTORS * lane_count * a.right_column)
        if j + VECTORS * lane_count >= columns:
            ahead = shift(ahead, -before * a.right_step) if final else shift(start, depth * a.right_step)
        flags = (width, fresh, final)
        if width > HALF * lane_count:
            shape, few = tile_shape(dst, ROWS, VECTORS), tile_shape(dst, FEW_ROWS, VECTORS)
            packed, step = _packed(a, there, depth, width, panel, shape)
            _multiply_panel(a, left, (packed, step, ahead), to, rows, depth, (row, column + j), flags, shape, few)
        else:
            shape, few = tile_shape(dst, HALF_ROWS, HALF), tile_shape(dst, FEW_ROWS, HALF)
            packed, step = _packed(a, there, depth, width, panel, shape)
            _multiply_panel(a, left, (packed, step, ahead), to, rows, depth, (row, column + j), flags, shape, few)


@inlined
def _packed(a, right, depth, width, panel, shape):
    """A panel of ``depth`` x ``width`` elements as tiles read it, and the distance of its rows.

    In ``panel``, with zeros as far as the tile has vectors; or where it lies, if nothing is missing there.
    """
    whole = vectors_of(shape) * lanes_of(right)
    if width == whole and not a.pack_right:
        return right, a.right_step
    if a.right_column != 1:
        transpose_matrix(right, a.right_column, panel, whole, width, depth)
    elif width == whole:
        row = with_rows(shape, 1)
        for p in range(depth):
            tile_store(tile_load(tile_zeros(row), right, p * a.right_step, 0, None), panel, p * whole, 0, None)
    else:
        _copy_rows(right, a.right_step, panel, whole, depth, width)
    if width < whole:
        for p in range(depth):
            for j in range(width, whole):
                panel[p * whole + j] = 0
    return panel, whole


@inlined
def _multiply_panel(a, left, panels, dst, rows, depth, place, flags, shape, few):
    """The tiles of a block of rows on one panel."""
    (left, left_row, left_step), (row, column) = left, place
    whole = rows // rows_of(shape) * rows_of(shape)
    _multiply_tiles(
        a, (left, left_row, left_step), panels, (dst, a.dst_row), whole, depth, (row, 1, column), flags, shape
    )
    for i in range(whole, rows, rows_of(few)):
        # Both rows of the tile are the last one, if there is no other.
        step = 1 if rows - i > 1 else 0
        there, to = shift(left, i * left_row), shift(dst, i * a.dst_row)
        _multiply_tiles(
            a, (there, step * left_row, left_step), panels, (to, step * a.dst_row), rows_of(few), depth,
            (row + i, step, column), flags, few,
        )  # fmt: skip


@inlined
def _multiply_tiles(a, left, panels, dst, rows, depth, place, flags, shape):
    """``dst[i, :] (+)= sum over p < depth of left[i, p] * panel[p, :]`` for i < rows, in tiles.

    left and dst with their distances; ``place``: the row and the column of the first tile where its bias lies, and
    the distance of its rows there. Each product asks for a line of what is packed next, which would be waited for.
    """
    left, left_row, left_step = left
    panel, panel_step, ahead = panels
    dst, dst_row = dst
    row, row_step, column = place
    width, fresh, final = flags
    whole = vectors_of(shape) * lanes_of(left)
    bias, relu = a.bias, a.relu and final
    by_row, by_column = a.has_bias and fresh and a.channels_are_rows, a.has_bias and fresh and not a.channels_are_rows
    run, ahead_line, ahead_step, ahead_tile = a.ahead_run, a.ahead_line, a.ahead_step, a.ahead_tile
    for i in range(0, rows, rows_of(shape)):
        there, at = shift(left, i * left_row), i * dst_row
        tile_prefetch_rows(shape, dst, at, dst_row)
        acc = tile_zeros(shape)
        if by_column:
            acc = tile_fill_rows(acc, bias, column, width)
        if by_row:
            acc = tile_fill_each(acc, bias, row + i, row_step)
        soon = shift(ahead, i // rows_of(shape) % AHEAD_TILES * ahead_tile)
        for first in range(0, depth, run):
            for p in range(first, min(first + run, depth)):
                prefetch_line(soon, (p - first) * ahead_line)
                acc = tile_multiply_add(acc, there, p * left_step, left_row, panel, p * panel_step, None)
            soon = shift(soon, ahead_step)
        if width == whole:
            if not fresh:
                acc = tile_add(acc, tile_load(tile_zeros(shape), dst, at, dst_row, None))
            if relu:
                acc = tile_relu(acc)
            tile_store(acc, dst, at, dst_row, None)
        else:
            if not fresh:
                acc = tile_add(acc, tile_load(tile_zeros(shape), dst, at, dst_row, width))
            if relu:
                acc = tile_relu(acc)
            tile_store(acc, dst, at, dst_row, width)


#: Columns that are multiplied together: their sums keep both multipliers busy.
DOT_COLUMNS = 8
#: Columns of a piece of work, and rows at most.
DOT_BLOCK, DOT_ROWS = 64, 8


@kernel(
    **EPILOGUE_FIELDS, left="array", right="array", rows="int", columns="int", depth="int", left_row="int",
    right_column="int", dst_row="int",
)  # fmt: skip
def dot_products_kernel(a, item, worker):
    """``dst[i, j] = sum over p of left[i, p] * right[p, j]``, finished, where p runs through neighbours in both.

    Row i begins at ``i * left_row`` in left and at ``i * dst_row`` in dst, column j of right at ``j * right_column``.
    A piece of work is DOT_BLOCK columns, which few rows meet in the cache. Bits repeat: the lanes of a sum are those
    of its place in the row.
    """
    places, lane_count = local_table(DOT_COLUMNS), lanes_of(a.left)
    first, last = item * DOT_BLOCK, min((item + 1) * DOT_BLOCK, a.columns)
    whole = a.depth - a.depth % lane_count
    for column in range(first, last, DOT_COLUMNS):
        for m in range(DOT_COLUMNS):
            places[m] = min(column + m, last - 1) * a.right_column
        for i in range(a.rows):
            row = i * a.left_row
            acc = tile_zeros(tile_shape(a.left, DOT_COLUMNS, 1))
            for p in range(0, whole, lane_count):
                acc = tile_multiply_vectors(acc, a.right, p, places, a.left, row + p, 0, None)
            if whole < a.depth:
                left = a.depth - whole
                acc = tile_multiply_vectors(acc, a.right, whole, places, a.left, row + whole, 0, left)
            tile_store_sums(acc, a.dst, i * a.dst_row + column, last - column)
    for i in range(a.rows):
        _finish_row(a, i * a.dst_row, first, last)


#: Rows of the right matrix that are added up together: as many streams of memory as a core follows at full speed.
TOGETHER = 8
#: Columns whose sums stay in the first-level cache meanwhile, and rows of the right matrix in a piece at least.
ROW_COLUMNS, ROW_DEPTH = 4096, 64


@kernel(
    left="array", right="array", parts="array", columns="int", depth="int", right_row="int", column_blocks="int",
    split_depth="int",
)  # fmt: skip
def row_product_kernel(a, item, worker):
    """``parts[s, j] = sum over p of split s of left[p] * right[p, j]``, where j runs through neighbours.

    A piece of work is one split and ROW_COLUMNS columns. Row p of right begins at ``p * right_row``; each is read once
    and in one go, TOGETHER of them side by side, the way memory is fastest.
    """
    split, column = item // a.column_blocks, item % a.column_blocks * ROW_COLUMNS
    columns = min(ROW_COLUMNS, a.columns - column)
    first, last = split * a.split_depth, min((split + 1) * a.split_depth, a.depth)
    right, sums = shift(a.right, column), shift(a.parts, split * a.columns + column)
    shape, width = tile_shape(a.left, 1, VECTORS), VECTORS * lanes_of(a.left)
    for j in range(columns):
        sums[j] = 0
    whole = columns - columns % width
    together = first + (last - first) // TOGETHER * TOGETHER
    for p in range(first, together, TOGETHER):
        left, rows = shift(a.left, p), shift(right, p * a.right_row)
        for j in range(0, whole, width):
            acc = tile_load(tile_zeros(shape), sums, j, 0, None)
            acc = tile_multiply_add_steps(TOGETHER, acc, left, 0, None, rows, j, a.right_row, None)
            tile_store(acc, sums, j, 0, None)
        if whole < columns:
            acc = tile_load(tile_zeros(shape), sums, whole, 0, columns - whole)
            acc = tile_multiply_add_steps(TOGETHER, acc, left, 0, None, rows, whole, a.right_row, columns - whole)
            tile_store(acc, sums, whole, 0, columns - whole)
    for p in range(together, last):
        number, row = a.left[p], shift(right, p * a.right_row)
        for j in range(columns):
            sums[j] += number * row[j]


@kernel(**EPILOGUE_FIELDS, parts="array", splits="int", columns="int")
def finish_row_kernel(a, item, worker):
    """``dst[j] = parts[0, j] + parts[1, j] + ...`` in that order, finished; a piece is ROW_COLUMNS columns."""
    first, last = item * ROW_COLUMNS, min((item + 1) * ROW_COLUMNS, a.columns)
    for j in range(first, last):
        a.dst[j] = a.parts[j]
    for s in range(1, a.splits):
        part = shift(a.parts, s * a.columns)
        for j in range(first, last):
            a.dst[j] += part[j]
    _finish_row(a, 0, first, last)


@inlined
def _finish_row(a, row, first, last):
    """Bias, ReLU and whatever else is done to columns ``first`` to ``last`` of the row that begins at ``row``."""
    to, bias = shift(a.dst, row + first), shift(a.bias, first)
    if a.has_bias:
        for j in range(last - first):
            to[j] += bias[j]
    if a.relu:
        for j in range(last - first):
            to[j] = 0 if to[j] < 0 else to[j]
    if a.finish:
        call_finish(a, row + first, first, last - first)


class Matrix(NamedTuple):
    """Where the elements of a matrix lie, of a batch of them or of the segments of a sum.

    Attributes:
        row, column: elements from one row, one column, to the next.
        batch: from one product's matrix to the next.
        segment: from one segment of the sum to the next.
    """

    row: int
    column: int
    batch: int = 0
    segment: int = 0


def right_fields(right: Matrix, depth: int, dtype: str) -> dict[str, int]:
    """Where the right matrix of a block lies, and how to ask for the next panel of it, line by line.

    The products of one tile ask for ``depth`` lines, in runs of ``ahead_run`` lines ``ahead_line`` apart.
    """
    line = 64 // item_bytes(dtype)
    run = max(-(-depth // line), 16)
    packs = right.column != 1 or right.row != panel_elements(1, dtype)  # otherwise it is one panel as it lies
    fields = {"right_step": right.row, "right_column": right.column, "pack_right": packs, "ahead_run": run}
    if right.column == 1:  # a line of each row
        return fields | {"ahead_line": right.row, "ahead_step": run * right.row, "ahead_tile": line}
    # All of a column.
    return fields | {"ahead_line": line, "ahead_step": right.column, "ahead_tile": line * right.column}


def panel_elements(depth: int, dtype: str) -> int:
    """Room for a panel."""
    return depth * VECTORS * lanes(dtype)


#: Multiply-adds below which waking a second thread (3 us) costs more than it saves.
SMALL_WORK = 200_000

#: Elements of a sum in one chunk: with the vectors of a panel, a part of the second-level cache.
DEPTH = 512
#: Rows of a block at least, so that packing a panel costs little beside them, and pieces of work that threads share.
BLOCK_ROWS, PIECES = 384, 16
#: Columns of a block at least, where the block's rows of the left matrix are copied.
COPY_COLUMNS = 256
#: Bytes between the elements of a row of the left matrix from which on it is copied.
COPY_DISTANCE = 1024


class MatrixProduct:
    """A product made ready: ``dst = left @ right``.

    Args:
        dtype: of all arrays.
        size: rows, columns and the depth of a sum.
        left, right: the matrices, left ``rows`` x ``depth``, right ``depth`` x ``columns``.
        dst_row: elements from one row of dst to the next.
        scratch: takes what the workspace must hold.
        batches, dst_batch: how many products, and elements from one's result to the next one's.
        segments: how many matrices are multiplied and added for one result.
        divided: whether a sum may be divided into parts for threads to share; dst is then one piece.
        epilogue: the values of :data:`~pycnn_kernels.cpu.epilogue.EPILOGUE_FIELDS`.
        channels_are_rows: whether bias and scale belong to the rows of dst, not to its columns.
    """

    def __init__(
        self, dtype: str, size: tuple[int, int, int], left: Matrix, right: Matrix, dst_row: int, scratch: Scratch, *,
        batches: int = 1, dst_batch: int = 0, segments: int = 1, divided: bool = False,
        epilogue: dict[str, Any] | None = None, channels_are_rows: bool = False,
    ) -> None:  # fmt: skip
        rows, columns, depth = size
        if not segments:  # a sum of nothing
            segments, depth = 1, 0
        width = VECTORS * lanes(dtype)
        copies = left.column * item_bytes(dtype) >= COPY_DISTANCE and left.row == 1
        depth_blocks = max(-(-depth // DEPTH), 1)
        depth_block = -(-depth // depth_blocks)
        panels = max(-(-columns // width), 1)
        row_blocks = max(round(rows / BLOCK_ROWS), 1)
        row_block = max(-(-rows // (row_blocks * ROWS)), 1) * ROWS
        row_blocks = -(-rows // row_block)
        least = COPY_COLUMNS // width if copies else 1
        column_blocks = max(min(panels // least, -(-PIECES // max(row_blocks * batches, 1))), 1)
        block_panels = -(-panels // column_blocks)
        column_blocks = -(-panels // block_panels) if columns else 0
        pieces = row_blocks * column_blocks * batches
        chunks = segments * depth_blocks
        split_chunks, splits = split(chunks, 1, -(-PIECES // max(pieces, 1)) if divided else 1)
        size_of_part = rows * columns
        self._parts = Parts(splits, size_of_part, scratch)
        line = 64 // item_bytes(dtype)
        # A line more than the rows take: distances of a power of two would share cache sets.
        copy_row = -(-row_block // line) * line + line
        each = depth_block * (width + copy_row * copies)
        each = max(-(-each // line), 1) * line
        self._scratch_at = scratch.reserve(most_threads() * each)
        self._multiply = Task(
            matrix_product_kernel, dtype, pieces * splits, f"left right dst scratch {EPILOGUE_ARRAYS}",
            parallel=rows * columns * depth * batches * segments > SMALL_WORK,
            rows=rows, columns=columns, depth=depth, segments=segments,
            left_row=left.row, left_step=left.column, dst_row=dst_row, **right_fields(right, depth_block, dtype),
            left_batch=left.batch, right_batch=right.batch, dst_batch=dst_batch,
            left_segment=left.segment, right_segment=right.segment,
            batches=batches, row_block=row_block, row_blocks=row_blocks,
            column_block=block_panels * width, column_blocks=column_blocks,
            depth_block=depth_block, depth_blocks=depth_blocks, split_chunks=split_chunks, part=size_of_part,
            copy_left=copies, copy_row=copy_row, scratch_size=each, channels_are_rows=channels_are_rows,
            **(epilogue or {}),
        )  # fmt: skip

    def run(self, base: int, left: int, right: int, dst: int, epilogue: Epilogue = NO_EPILOGUE) -> None:
        """Multiply; ``base`` is the workspace."""
        self._multiply.run(left, right, self._parts.place(base, dst), base + self._scratch_at, *epilogue)
        self._parts.add(base, dst)


class DotProducts:
    """A product of few rows made ready: ``dst = left @ right``, the elements of a sum being neighbours in both.

    Args:
        dtype: of all arrays.
        size: rows, columns and the depth of a sum.
        left_row, right_column, dst_row: elements from one row of left, one column of right, one row of dst to the next.
        epilogue: the values of :data:`~pycnn_kernels.cpu.epilogue.EPILOGUE_FIELDS`; channels are columns.
    """

    def __init__(
        self, dtype: str, size: tuple[int, int, int], left_row: int, right_column: int, dst_row: int,
        epilogue: dict[str, Any],
    ) -> None:  # fmt: skip
        rows, columns, depth = size
        self._multiply = Task(
            dot_products_kernel, dtype, -(-columns // DOT_BLOCK), f"left right dst {EPILOGUE_ARRAYS}",
            parallel=rows * columns * depth > SMALL_WORK, rows=rows, columns=columns, depth=depth,
            left_row=left_row, right_column=right_column, dst_row=dst_row, **epilogue,
        )  # fmt: skip

    def run(self, base: int, left: int, right: int, dst: int, epilogue: Epilogue = NO_EPILOGUE) -> None:
        """Multiply; no workspace is needed."""
        self._multiply.run(left, right, dst, *epilogue)


class RowProduct:
    """A product of a single row made ready: ``dst = left @ right``, the elements of a row of right being neighbours.

    Args:
        dtype: of all arrays.
        columns, depth: of the right matrix.
        right_row: elements from one of its rows to the next.
        scratch: takes what the workspace must hold.
        epilogue: the values of :data:`~pycnn_kernels.cpu.epilogue.EPILOGUE_FIELDS`; channels are columns.
    """

    def __init__(
        self, dtype: str, columns: int, depth: int, right_row: int, scratch: Scratch, epilogue: dict[str, Any]
    ) -> None:
        blocks = max(-(-columns // ROW_COLUMNS), 1)
        split_depth, splits = split(depth, ROW_DEPTH, -(-PIECES // blocks))
        self._parts_at = scratch.reserve(splits * columns)
        self._multiply = Task(
            row_product_kernel, dtype, blocks * splits, "left right parts", parallel=columns * depth > SMALL_WORK,
            columns=columns, depth=depth, right_row=right_row, column_blocks=blocks, split_depth=split_depth,
        )  # fmt: skip
        self._finish = Task(
            finish_row_kernel, dtype, blocks, f"parts dst {EPILOGUE_ARRAYS}", parallel=splits * columns > SMALL_WORK,
            splits=splits, columns=columns, **epilogue,
        )  # fmt: skip

    def run(self, base: int, left: int, right: int, dst: int, epilogue: Epilogue = NO_EPILOGUE) -> None:
        """Multiply; ``base`` is the workspace."""
        parts = base + self._parts_at
        self._multiply.run(left, right, parts)
        self._finish.run(parts, dst, *epilogue)


def row_cost(columns: int, depth: int, dtype: str) -> float:
    """The expected time of :class:`RowProduct`: each element of the matrix comes from memory once."""
    return depth * vectors(columns, dtype) + 0.25 * columns * depth * item_bytes(dtype)


def dots_cost(rows: int, columns: int, depth: int, dtype: str) -> float:
    """The expected time of :class:`DotProducts`: each vector of a column is loaded for each row, from memory once."""
    return rows * columns * (1.1 * vectors(depth, dtype) + 12) + 0.25 * columns * depth * item_bytes(dtype)


def product_cost(rows: int, columns: int, depth: int, dtype: str, chunk: int = DEPTH) -> float:
    """The expected time of a product in sums of ``chunk``; see ``cost.py`` for the unit."""
    wide, rest = divmod(vectors(columns, dtype), VECTORS)
    # What is left of the columns takes a panel, or half of one.
    wide, half = wide + (rest > HALF), 0 < rest <= HALF
    chunks = -(-depth // chunk)
    whole, few = rows - rows % ROWS, -(-(rows % ROWS) // FEW_ROWS) * FEW_ROWS
    products = depth * (wide * VECTORS * (whole + few) + half * HALF * (rows + 2))
    tiles = (wide * (rows / ROWS + 1) + half * (rows / HALF_ROWS + 2)) * chunks
    return 1.03 * products + 90 * tiles


def packing_cost(columns: int, depth: int, dtype: str) -> float:
    """The expected time of packing a right matrix, or of copying a left one."""
    return 9 * depth * vectors(columns, dtype)
