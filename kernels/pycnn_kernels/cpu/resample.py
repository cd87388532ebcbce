"""Weighted sums along one to three axes, and their gradient, which is the same with other tables.

A band of rows of y is one piece of work. The rows of x that it needs are summed along the depth, then along the width,
into lines, of which the last few are kept; the rows of y are sums of these lines. So each row of x is resampled along
its width once for a band, however many rows of y show it, and what is summed is in the cache. Sums have a fixed order:
bits repeat.
"""

from __future__ import annotations

from pycnn_kernels.cpu.host import item_bytes
from pycnn_kernels.cpu.inlined import inlined
from pycnn_kernels.cpu.launch import SMALL_WORK, Task, kernel, most_threads
from pycnn_kernels.cpu.tile import lanes_of, shift, tile_multiply_add, tile_shape, tile_store, tile_zeros
from pycnn_kernels.cpu.workspace import aligned_bytes, workspace
from pycnn_kernels.problem import ResampleProblem
from pycnn_kernels.resampling import bands, by_turns, of_elements, three

#: Pieces of work that there should be at least.
_PIECES = 16

#: Elements of a pixel below which each of them is a column of its own.
_FEW = 8


@kernel(
    x="array", y="array", lines="array", lines_size="int", line_size="int", row_size="int", x_size="int",
    d_begins="table", d_offsets="table", d_weights="array", band_begins="table", band_rows="table",
    h_needed="table", h_begins="table", h_offsets="table", h_weights="array", slots="int", w_begins="table",
    w_index="table", w_weights="array", turns="int", direct="int", bands="int", height="int",
    OD="int", OH="int", W="int", OW="int", inner="int",
)  # fmt: skip
def resample_kernel(a, item, worker):
    """``y[n, od, oh, ow, c]`` = the sum of ``x[n, d, h, w, c]`` times the weights along d, h and w.

    x (N, x_size), y (N, OD, OH, OW, inner). Along d: offsets in x and weights. Along h: the offsets of the rows that a
    band needs, for each row of y how many of them, and the offsets in the lines. Along w: indices and weights by turns
    where inner is 1 (:func:`~pycnn_kernels.resampling.by_turns`), otherwise offsets, row by row. ``lines`` is room of
    each worker, ``lines_size``: a row of x, of ``row_size`` with zeros behind it, and ``slots`` lines of ``line_size``.
    ``direct``: x has no depth, and its rows are read where they are.
    """
    plane, band = item // a.bands, item % a.bands
    n, d = plane // a.OD, plane % a.OD
    buffer = shift(a.lines, worker * a.lines_size)
    lines = shift(buffer, a.row_size)
    for i in range(a.W * a.inner, a.row_size):
        buffer[i] = 0
    x, first, done = shift(a.x, n * a.x_size), a.band_begins[band], 0
    for h in range(band * a.height, min((band + 1) * a.height, a.OH)):
        while done < a.h_needed[h]:
            row = shift(x, a.band_rows[first + done])
            if not a.direct:
                _sum(buffer, row, a.d_weights, a.d_offsets, a.d_begins[d], a.d_begins[d + 1], a.W * a.inner)
                row = buffer
            line = shift(lines, done % a.slots * a.line_size)
            if a.inner == 1:
                _sum_by_turns(a, row, line)
            else:
                for o in range(a.OW):
                    to = shift(line, o * a.inner)
                    _sum(to, row, a.w_weights, a.w_index, a.w_begins[o], a.w_begins[o + 1], a.inner)
            done += 1
        y = shift(a.y, (plane * a.OH + h) * a.OW * a.inner)
        _sum(y, lines, a.h_weights, a.h_offsets, a.h_begins[h], a.h_begins[h + 1], a.OW * a.inner)


@inlined
def _sum(dst, src, weights, offsets, begin, end, count):
    """``dst[i]`` = the sum of ``weights[e] * src[offsets[e] + i]`` over the entries e, for i < count."""
    i = 0
    while count - i >= 4 * lanes_of(dst):
        tile = tile_zeros(tile_shape(dst, 1, 4))
        for e in range(begin, end):
            tile = tile_multiply_add(tile, weights, e, None, src, offsets[e] + i, None)
        tile_store(tile, dst, i, 0, None)
        i += 4 * lanes_of(dst)
    while i < count:
        edge = min(count - i, lanes_of(dst))
        tile = tile_zeros(tile_shape(dst, 1, 1))
        for e in range(begin, end):
            tile = tile_multiply_add(tile, weights, e, None, src, offsets[e] + i, edge)
        tile_store(tile, dst, i, 0, edge)
        i += lanes_of(dst)


@inlined
def _sum_by_turns(a, row, line):
    """``line[o]`` = the sum of ``weight[t, o] * row[index[t, o]]`` over the turns t, two at a time."""
    for t in range(0, a.turns, 2):
        i0, w0 = shift(a.w_index, t * a.OW), shift(a.w_weights, t * a.OW)
        i1, w1 = shift(i0, a.OW), shift(w0, a.OW)
        if t == 0:
            for o in range(a.OW):
                line[o] = w0[o] * row[i0[o]] + w1[o] * row[i1[o]]
        else:
            for o in range(a.OW):
                line[o] += w0[o] * row[i0[o]] + w1[o] * row[i1[o]]


class Resample:
    """``y`` from ``x``; see :func:`resample_kernel`."""

    transposed = False

    def __init__(self, p: ResampleProblem):
        (depth, high, wide), (D, H, W), (OD, OH, OW) = three(p.axes, p.dtype, self.transposed)
        inner = p.inner
        direct = D == OD == 1 and inner >= _FEW
        if inner < _FEW:
            wide, W, OW, inner = of_elements(wide, inner), W * inner, OW * inner, 1
        bits = item_bytes(p.dtype)
        row_bytes, line_bytes = aligned_bytes(W * inner + 1, p.dtype), aligned_bytes(OW * inner, p.dtype)
        height = max(1, -(-OH // -(-_PIECES // max(p.N * OD, 1))))
        rows = bands(high, height)
        each = row_bytes + rows.slots * line_bytes
        index, weight = by_turns(wide, W) if inner == 1 else (wide.source * inner, wide.weight)
        count = rows.begins.size - 1
        items = p.N * OD * count if OW * inner else 0
        self.workspace_bytes = min(most_threads(), items) * each
        self._task = Task(
            resample_kernel, p.dtype, items, "x y lines", parallel=p.N * OD * OH * OW * inner > SMALL_WORK,
            lines_size=each // bits, line_size=line_bytes // bits, row_size=row_bytes // bits, x_size=D * H * W * inner,
            d_begins=depth.begins, d_offsets=depth.source * H * W * inner, d_weights=depth.weight,
            band_begins=rows.begins, band_rows=rows.rows * W * inner, slots=rows.slots,
            h_needed=rows.needed, h_begins=high.begins,
            h_offsets=rows.slot * (line_bytes // bits), h_weights=high.weight, w_begins=wide.begins, w_index=index,
            w_weights=weight, turns=len(index) if inner == 1 else 0, direct=direct, bands=count, height=height,
            OD=OD, OH=OH, W=W, OW=OW, inner=inner,
        )  # fmt: skip
        self.table_bytes = self._task.table_bytes

    def run(self, x: int, y: int) -> None:
        """Addresses."""
        self._task.run(x, y, workspace(self.workspace_bytes))


class ResampleGradient(Resample):
    """``dx`` from ``dy``: the weights transposed."""

    transposed = True
