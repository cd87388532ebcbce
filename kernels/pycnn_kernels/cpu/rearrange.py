"""Elements shown at other places, and the sums that are the gradient: padding, cropping, nearest neighbours, windows.

The forward copies elements of any dtype by their size, row by row of y. Most of a row are neighbours that are
neighbours in x, too, and are copied at once. The gradient has the same tables: an image, or in channels last a block of
its channels, belongs to one piece of work, which adds the rows of dy in their order. So bits repeat.
"""

from __future__ import annotations

import math
from typing import Any

from numba.core import cgutils, types
from numba.extending import intrinsic

from pycnn_kernels.cpu.host import item_bytes
from pycnn_kernels.cpu.inlined import inlined
from pycnn_kernels.cpu.launch import SMALL_WORK, Task, kernel
from pycnn_kernels.cpu.tile import lanes_of, shift, tile_add, tile_load, tile_shape, tile_store, tile_zeros
from pycnn_kernels.problem import RearrangeProblem, numpy_dtype
from pycnn_kernels.rearrangement import rearrangement

#: Elements of one piece of work.
_PIECE = 1 << 14

#: Bytes of a column from which on it is copied as a whole.
_WHOLE = 32

#: Channels of a piece of work of the gradient.
_CHANNELS = 64

_TABLES = {
    "base": "table", "choice": "table", "columns": "table", "runs": "table", "rows": "int", "width": "int",
    "inner": "int", "x_size": "int",
}  # fmt: skip


@intrinsic
def copy_elements(typing_context: Any, dst: Any, src: Any, count: Any) -> Any:
    """``dst[i] = src[i]`` for i < count, of arrays that do not overlap."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        size = context.get_abi_sizeof(context.get_value_type(dst.dtype))
        cgutils.raw_memcpy(builder, *arguments, size, align=1)
        return context.get_dummy_value()

    return types.void(dst, src, count), generate


@kernel(
    "uint8", "uint16", "uint32", "uint64", x="array", fill="array", y="array", total="int", height="int", **_TABLES
)  # fmt: skip
def rearrange_kernel(a, item, worker):
    """``y[r, j] = x[base[r] + columns[choice[r], j]]`` for ``inner`` elements each; fill[0] where one is nowhere.

    x (N, x_size), y (N, rows, width, inner); base and choice (rows,), columns (tables, width). A piece of work is
    ``height`` of the ``total`` rows of all images.
    """
    first, length = item * a.height, a.width * a.inner
    n, row = first // a.rows, first % a.rows
    for r in range(first, min(first + a.height, a.total)):
        y = shift(a.y, r * length)
        if a.base[row] < 0:
            for i in range(length):
                y[i] = a.fill[0]
        elif r > first and row > 0 and a.base[row] == a.base[row - 1] and a.choice[row] == a.choice[row - 1]:
            copy_elements(y, shift(y, -length), length)
        else:
            x, choice = shift(a.x, n * a.x_size + a.base[row]), a.choice[row]
            columns, begin, end = shift(a.columns, choice * a.width), a.runs[2 * choice], a.runs[2 * choice + 1]
            _show(a, x, y, columns, 0, begin)
            if begin < end:
                copy_elements(shift(y, begin * a.inner), shift(x, columns[begin]), (end - begin) * a.inner)
            _show(a, x, y, columns, end, a.width)
        row += 1
        if row == a.rows:
            n, row = n + 1, 0


@inlined
def _show(a, x, y, columns, begin, end):
    """The columns from ``begin`` to ``end - 1`` of a row."""
    if a.inner == 1:
        for j in range(begin, end):
            y[j] = x[columns[j]] if columns[j] >= 0 else a.fill[0]
    else:
        for j in range(begin, end):
            to = shift(y, j * a.inner)
            if columns[j] >= 0:
                copy_elements(to, shift(x, columns[j]), a.inner)
            else:
                for i in range(a.inner):
                    to[i] = a.fill[0]


@kernel(dy="array", dx="array", blocks="int", channels="int", **_TABLES)
def rearrange_gradient_kernel(a, item, worker):
    """``dx[base[r] + columns[choice[r], j]] += dy[r, j]`` for all rows r in their order, beginning with 0.

    dy (N, rows, width, inner), dx (N, x_size). A piece of work is ``channels`` of the ``inner`` elements of every
    column of an image; all of them where there is one block.
    """
    n, c = item // a.blocks, item % a.blocks * a.channels
    count = min(a.channels, a.inner - c)
    dx = shift(a.dx, n * a.x_size + c)
    if a.blocks == 1:
        for i in range(a.x_size):
            dx[i] = 0
    else:
        for pixel in range(0, a.x_size, a.inner):
            for i in range(count):
                dx[pixel + i] = 0
    for row in range(a.rows):
        if a.base[row] >= 0:
            dy, to = shift(a.dy, (n * a.rows + row) * a.width * a.inner + c), shift(dx, a.base[row])
            choice = a.choice[row]
            columns, begin, end = shift(a.columns, choice * a.width), a.runs[2 * choice], a.runs[2 * choice + 1]
            if a.blocks > 1:
                end = begin
            _add_columns(a, to, dy, columns, 0, begin, count)
            if begin < end:
                _add(shift(to, columns[begin]), shift(dy, begin * a.inner), (end - begin) * a.inner)
            _add_columns(a, to, dy, columns, end, a.width, count)


@inlined
def _add_columns(a, dx, dy, columns, begin, end, count):
    """``count`` elements of each of the columns from ``begin`` to ``end - 1`` of a row."""
    if a.inner == 1:
        for j in range(begin, end):
            if columns[j] >= 0:
                dx[columns[j]] += dy[j]
    else:
        for j in range(begin, end):
            if columns[j] >= 0:
                _add(shift(dx, columns[j]), shift(dy, j * a.inner), count)


@inlined
def _add(total, addend, count):
    """``total[i] += addend[i]`` for i < count."""
    i = 0
    while count - i >= 4 * lanes_of(total):
        tile = tile_load(tile_zeros(tile_shape(total, 1, 4)), total, i, 0, None)
        tile_store(
            tile_add(tile, tile_load(tile_zeros(tile_shape(total, 1, 4)), addend, i, 0, None)), total, i, 0, None
        )
        i += 4 * lanes_of(total)
    while i < count:
        edge = min(count - i, lanes_of(total))
        tile = tile_load(tile_zeros(tile_shape(total, 1, 1)), total, i, 0, edge)
        tile_store(
            tile_add(tile, tile_load(tile_zeros(tile_shape(total, 1, 1)), addend, i, 0, edge)), total, i, 0, edge
        )
        i += lanes_of(total)


class Rearrange:
    """``y`` from ``x`` and ``fill``, of any dtype; see :func:`rearrange_kernel`."""

    workspace_bytes = 0

    def __init__(self, p: RearrangeProblem):
        item = numpy_dtype(p.dtype).itemsize
        tables = rearrangement(p, least=-(-_WHOLE // item))
        rows, length = tables.base.size, tables.width * tables.inner
        height = max(1, min(_PIECE // max(length, 1), -(-p.N * rows // 16)))
        total = p.N * rows if length else 0
        task = Task(
            rearrange_kernel, f"uint{8 * item}", -(-total // height), "x fill y", parallel=total * length > SMALL_WORK,
            total=total, height=height, rows=rows, width=tables.width, inner=tables.inner, base=tables.base,
            choice=tables.choice, columns=tables.columns, runs=tables.runs, x_size=math.prod(p.size) * p.inner,
        )  # fmt: skip
        self.run, self.table_bytes = task.run, task.table_bytes


class RearrangeGradient:
    """``dx`` from ``dy``; see :func:`rearrange_gradient_kernel`."""

    workspace_bytes = 0

    def __init__(self, p: RearrangeProblem):
        tables = rearrangement(p, least=-(-_WHOLE // item_bytes(p.dtype)))
        x_size, inner = math.prod(p.size) * p.inner, tables.inner
        blocks = -(-inner // _CHANNELS) if 0 < p.N < 16 else 1
        task = Task(
            rearrange_gradient_kernel, p.dtype, p.N * blocks if x_size else 0, "dy dx",
            parallel=p.N * max(x_size, math.prod(p.y_shape[1:])) > SMALL_WORK, blocks=blocks,
            channels=inner if blocks == 1 else _CHANNELS, rows=tables.base.size, width=tables.width, inner=inner,
            base=tables.base, choice=tables.choice, columns=tables.columns, runs=tables.runs, x_size=x_size,
        )  # fmt: skip
        self.run, self.table_bytes = task.run, task.table_bytes
