"""Depthwise convolution: each channel has a kernel of its own, and a lane of the vectors.

The direct algorithm sums over the channels of a group, of which there is one here, and leaves all lanes but one
idle. Here the lanes are channels: ``acc[pixel, c] += x[pixel + offset(t), c] * w[t, c]``. There is nothing to multiply
a value of x with but the weights of a few taps, so reading is what takes the time: a tile is a run of pixels of a line,
which read each value of the line once for the taps of all of them. A tap that lies in padding of zeros is a product
with 0, unlike in the direct algorithm.

Neighbouring lines meet the same lines of x, so a tile has three of them. The weight gradient goes through the same
tiles with the roles changed: the taps of a run are the sums, and the pixels of dy what they are multiplied with.

The correlation is written for groups of several channels, which ``conv_grouped.py`` has.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba.core import types
from numba.extending import overload

from pycnn_kernels.cpu.conv_direct import SMALL_WORK
from pycnn_kernels.cpu.conv_frame import Forward, InputGradient, Parts, Scratch, WeightGradient
from pycnn_kernels.cpu.cost import image_bytes, layout_cost, meetings, vectors
from pycnn_kernels.cpu.epilogue import EPILOGUE_ARRAYS, EPILOGUE_FIELDS, Epilogue, call_finish, epilogue_fields
from pycnn_kernels.cpu.gather import (
    CLASS_FIELDS,
    TAP_FIELDS,
    TARGET_FIELDS,
    Axis,
    AxisClass,
    continuation_fits,
    gather_axes,
    targets,
)
from pycnn_kernels.cpu.host import SIMD, item_bytes, lanes
from pycnn_kernels.cpu.inlined import INLINED_OPTIONS, inlined
from pycnn_kernels.cpu.launch import Task, kernel
from pycnn_kernels.cpu.tile import (
    GroupType,
    RunType,
    gradient_shape,
    lanes_of,
    line_run,
    lines_of,
    pixels_of,
    prefetch_line,
    run_shape,
    shift,
    sources_before,
    tap_run,
    taps_high,
    taps_wide,
    tile_correlate,
    tile_correlate_gradient,
    tile_fill_rows,
    tile_load,
    tile_prefetch_rows,
    tile_relu,
    tile_store,
    tile_store_first,
    tile_store_rows,
    tile_zeros,
)
from pycnn_kernels.problem import ConvProblem

#: Pixels of a tile's line: 7 divides the widths of most networks' maps, 112 to 7.
PIXELS = 7

#: Lines of a tile. The accumulators, the weights of three by three taps and a value of x fill 32 registers.
LINES = SIMD.few_lines

#: Taps of a line that a tile can take at once: one program is compiled for each number.
_WIDTHS = (3, 5, 7)

#: The fields of a kernel that goes through lines, see :func:`correlate_kernel`.
_LINE_FIELDS = {
    "run": "type", "src": "array",
    "d_targets": "table", "h_targets": "table", "w_classes": "table", "d_taps": "table", "h_taps": "table",
    "w_taps": "table", "outs": "table", "w_count": "int", "SD": "int", "SH": "int", "SW": "int", "SC": "int",
    "TD": "int", "TH": "int", "TW": "int", "TC": "int", "source_step": "int", "target_step": "int", "line_step": "int",
    "next_line": "int", "lines": "int", "band": "int", "lead": "int", "width": "int", "blocks": "int",
}  # fmt: skip


@kernel(**EPILOGUE_FIELDS, **_LINE_FIELDS, group="type", w="array")
def correlate_kernel(a, item, worker):
    """``dst[p, k] = sum over taps t and r < R of src[p * source_step + offset(t), k // L * R + r] * w[t, r, k]``.

    src (N, SD, SH, SW, SC) and dst (N, TD, TH, TW, TC), channels last; w (T, R, TC). A line is a row of pixels of dst,
    of which there are ``lines``. A piece of work is a band of ``band`` lines, the first of them ``lead`` lines shorter,
    and a block of ``width`` channels. ``d_targets`` and ``h_targets`` say for each coordinate of a line where in src
    its taps are counted from and which it has; the pixels of a line are divided into classes, see :mod:`gather`. Lines
    that are ``next_line`` apart share tiles. The results are finished. Bits repeat: an element is summed by one piece,
    in an order that depends on the problem.
    """
    _go_through(a, item, None)


@kernel(**_LINE_FIELDS, dy="array", dw="array", size="int")
def correlate_gradient_kernel(a, item, worker):
    """``dw[t, k] = sum over pixels p of src[p * source_step + offset(t), k] * dy[p, k]``.

    The lines and the pieces of work are those of :func:`correlate_kernel`, dy in the place of dst. Band b writes its
    sums to ``dw[b * size:]``, for :func:`sum_parts` to add in order. Bits repeat: bands depend on the problem alone.
    """
    sums = shift(a.dw, item // a.blocks * a.size)
    first = item % a.blocks * a.width
    for row in range(0, a.size, a.TC):
        for column in range(row + first, row + min(first + a.width, a.TC)):
            sums[column] = 0
    _go_through(a, item, sums)


@inlined
def _go_through(a, item, sums):
    """The lines of a piece of work; ``sums``: where a weight gradient is added up, or None for a correlation."""
    block, begin = item % a.blocks, item // a.blocks * a.band - a.lead
    first, last = max(begin, 0), min(begin + a.band, a.lines)
    columns = block * a.width, min((block + 1) * a.width, a.TC)
    line, several = first, lines_of(a.run) * a.next_line
    while line < last:
        together = lines_of(a.run) > 1 and line + several <= last and _alike(a, line)
        count = several if together else 1
        for number in range(a.w_count):
            w_class = shift(a.w_classes, number * CLASS_FIELDS)
            runs = w_class[5] == _RUNS
            if together and w_class[1] >= pixels_of(a.run) and (runs or taps_wide(a.run) == 1):
                for each in range(line, line + a.next_line):
                    _class(a, each, w_class, columns, a.run, sums)
            elif runs:
                for each in range(line, line + count):
                    _class(a, each, w_class, columns, line_run(a.run), sums)
            else:
                for each in range(line, line + count):
                    _class(a, each, w_class, columns, tap_run(line_run(a.run)), sums)
        _end_lines(a, line, count, columns, sums)
        line += count


def _end_lines(a, line, count, columns, sums):
    """What is to be done for ``count`` lines from ``line`` on when their tiles are there."""


@overload(_end_lines, jit_options=INLINED_OPTIONS)
def _compiled_end(a, line, count, columns, sums):
    return _finish_lines if isinstance(sums, types.NoneType) else _end_lines


def _finish_lines(a, line, count, columns, sums):
    if a.finish:
        for pixel in range(line * a.TW, (line + count) * a.TW):
            call_finish(a, pixel * a.TC + columns[0], columns[0], columns[1] - columns[0])


@inlined
def _alike(a, line):
    """Whether the next tiles' lines are of one image and each meets the same taps as those that share its tile."""
    h, further = line % a.TH, (lines_of(a.run) - 1) * a.next_line
    if h + further + a.next_line > a.TH:
        return False
    for each in range(h, h + a.next_line):
        this, last = shift(a.h_targets, each * TARGET_FIELDS), shift(a.h_targets, (each + further) * TARGET_FIELDS)
        if this[1] != last[1] or this[2] != last[2] or this[2] % taps_high(a.run) != 0:
            return False
    return True


@inlined
def _class(a, line, w_class, columns, run, sums):
    """The pixels of one class of a line, or of a tile's lines together, in tiles."""
    d_target = shift(a.d_targets, line // a.TH % a.TD * TARGET_FIELDS)
    h_target = shift(a.h_targets, line % a.TH * TARGET_FIELDS)
    n = line // (a.TD * a.TH)
    source_line = ((n * a.SD + d_target[0]) * a.SH + h_target[0]) * a.SW
    w_taps, taps, size, pixels = shift(a.w_taps, w_class[3] * TAP_FIELDS), w_class[4], w_class[1], pixels_of(run)
    whole = columns[1] - (columns[1] - columns[0]) % lanes_of(a.src)
    for pixel in range(0, size, pixels):
        begin, count, end = pixel, min(size - pixel, pixels), a.SW
        if sums is None and size >= pixels:
            # The last tile begins earlier, and computes some pixels a second time, to the same bits.
            begin, count = min(pixel, size - pixels), pixels
        position = w_class[2] + begin * a.source_step  # from which the taps along w are counted
        inside = False
        if w_class[5] != _SCATTERED and taps > 0:
            # Pixels that a tile has too many read nothing of their own.
            end = min(end, position + (count - 1) * a.source_step + w_taps[2 * taps - 2] + 1)
            furthest = position + (pixels - 1) * a.source_step + w_taps[2 * taps - 2]
            inside = position + w_taps[0] >= 0 and furthest < end
        there = d_target, h_target, w_taps, taps, position, count
        source, to = (source_line + position) * a.SC, (line * a.TW + w_class[0] + begin * a.target_step) * a.TC
        for column in range(columns[0], whole, lanes_of(a.src)):
            if inside:
                _tile(a, there, source, to, column, run, None, None, None, sums)
            else:
                _tile(a, there, source, to, column, run, None, end, count, sums)
        for each in range(lines_of(run) if whole < columns[1] else 0):
            at, to_line = source + each * a.line_step, to + each * a.next_line * a.TW * a.TC
            _tile(a, there, at, to_line, whole, line_run(run), columns[1] - whole, end, count, sums)


@inlined
def _ways(a, there, run):
    """The taps along d and h; from a place of src to the next, and from a line to the next, as a run meets them."""
    d_target, h_target, w_taps, _, _, _ = there
    d_taps, h_taps = shift(a.d_taps, d_target[1] * TAP_FIELDS), shift(a.h_taps, h_target[1] * TAP_FIELDS)
    # Those that taps meet, or neighbouring targets where a tap is taken at a time.
    unit = w_taps[2] - w_taps[0] if taps_wide(run) > 1 else a.source_step
    line_unit = h_taps[2] - h_taps[0] if taps_high(run) > 1 else a.line_step
    return d_taps, h_taps, unit, line_unit


def _correlation_tile(a, there, start, to, column, run, edge, size, count, sums):
    """The tile of dst from ``to`` on; taps along w are counted from src's ``start``, which is at ``position`` there."""
    d_target, h_target, w_taps, taps, position, pixels = there
    d_taps, h_taps, unit, line_unit = _ways(a, there, run)
    w_unit = w_taps[3] - w_taps[1] if taps_wide(run) > 1 else 0
    w_line_unit = h_taps[3] - h_taps[1] if taps_high(run) > 1 else 0
    shape = run_shape(a.src, run)
    tile_prefetch_rows(shape, a.dst, to + column, a.outs)
    acc = tile_zeros(shape)
    if a.has_bias:
        acc = tile_fill_rows(acc, a.bias, column, edge)
    first = start + sources_before(a.group, column)
    whole = taps - taps % taps_wide(run)
    for kd in range(d_target[2]):
        for kh in range(0, h_target[2], taps_high(run)):
            line = first + d_taps[2 * kd] + h_taps[2 * kh]
            w_line = d_taps[2 * kd + 1] + h_taps[2 * kh + 1] + column
            for kw in range(0, whole, taps_wide(run)):
                acc = tile_correlate(
                    acc, a.group, run, a.src, line + w_taps[2 * kw] * a.SC, line_unit, unit * a.SC,
                    a.w, w_line + w_taps[2 * kw + 1], w_line_unit, w_unit, a.TC,
                    position + w_taps[2 * kw], unit, size, edge,
                )  # fmt: skip
            for kw in range(whole, taps):
                acc = tile_correlate(
                    acc, a.group, tap_run(run), a.src, line + w_taps[2 * kw] * a.SC, a.line_step, a.source_step * a.SC,
                    a.w, w_line + w_taps[2 * kw + 1], 0, 0, a.TC,
                    position + w_taps[2 * kw], a.source_step, size, edge,
                )  # fmt: skip
    _ask_ahead(a, first + h_taps[2 * max(h_target[2] - 1, 0)], run)
    if a.relu:
        acc = tile_relu(acc)
    if lines_of(run) > 1 or pixels == pixels_of(run):
        tile_store_rows(acc, a.dst, to + column, a.outs, edge)
    else:
        tile_store_first(acc, a.dst, to + column, a.target_step * a.TC, pixels, edge)


@inlined
def _ask_ahead(a, last, run):
    """Ask for what the tile after the one below will read beyond that one; ``last``: the last line that this one reads.

    Nothing but these requests follows a tile's lines from one to the next. On 128 channels of 147x147, which come from
    memory, the forward took 1.8 ms when they went to the tile below, which is too late, and takes 1.15.
    """
    below = last + (1 + lines_of(run)) * a.line_step
    for m in range(lines_of(run) * pixels_of(run)):
        prefetch_line(a.src, below + m // pixels_of(run) * a.line_step + m % pixels_of(run) * a.source_step * a.SC)


def _gradient_tile(a, there, start, to, column, run, edge, size, count, sums):
    """Add a tile of dy, from ``to`` on, to the sums of all taps; see :func:`_correlation_tile`."""
    d_target, h_target, w_taps, taps, position, _ = there
    d_taps, h_taps, unit, line_unit = _ways(a, there, run)
    first, dy_line, dy_pixel = start + column, a.next_line * a.TW * a.TC, a.target_step * a.TC
    whole = taps - taps % taps_wide(run)
    for kd in range(d_target[2]):
        for kh in range(0, h_target[2], taps_high(run)):
            line = first + d_taps[2 * kd] + h_taps[2 * kh]
            w_line = d_taps[2 * kd + 1] + h_taps[2 * kh + 1] + column
            for kw in range(0, whole, taps_wide(run)):
                at = w_line + w_taps[2 * kw + 1]
                acc = tile_load(tile_zeros(gradient_shape(a.src, run)), sums, at, a.TC, edge)
                acc = tile_correlate_gradient(
                    acc, run, a.src, line + w_taps[2 * kw] * a.SC, line_unit, unit * a.SC,
                    a.dy, to + column, dy_line, dy_pixel, position + w_taps[2 * kw], unit, size, count, edge,
                )  # fmt: skip
                tile_store(acc, sums, at, a.TC, edge)
            for kw in range(whole, taps):
                at = w_line + w_taps[2 * kw + 1]
                acc = tile_load(tile_zeros(gradient_shape(a.src, tap_run(run))), sums, at, a.TC, edge)
                acc = tile_correlate_gradient(
                    acc, tap_run(run), a.src, line + w_taps[2 * kw] * a.SC, a.line_step, a.source_step * a.SC,
                    a.dy, to + column, dy_line, dy_pixel, position + w_taps[2 * kw], a.source_step, size, count, edge,
                )  # fmt: skip
                tile_store(acc, sums, at, a.TC, edge)
    _ask_ahead(a, first + h_taps[2 * max(h_target[2] - 1, 0)], run)
    for m in range(lines_of(run) * pixels_of(run)):
        below = m // pixels_of(run) + lines_of(run)
        prefetch_line(a.dy, to + column + below * dy_line + m % pixels_of(run) * dy_pixel)


def _tile(a, there, start, to, column, run, edge, size, count, sums):
    """One tile; ``size`` and ``count`` are None where all places and pixels exist."""


@overload(_tile, jit_options=INLINED_OPTIONS)
def _compiled_tile(a, there, start, to, column, run, edge, size, count, sums):
    return _correlation_tile if isinstance(sums, types.NoneType) else _gradient_tile


#: Pieces of work at least, where there are as many lines and blocks, and lines in one at most.
_PIECES, _MOST_LINES = 16, 64

#: Bytes of a line of a block at most: the lines that a tile and the next one meet are in the second-level cache.
_LINE_BYTES = 1 << 16

#: How the taps of a class lie: anywhere, evenly, or so that a run takes several at once.
_SCATTERED, _EVENLY, _RUNS = range(3)


def _three_by_three(distance: int) -> RunType:
    """The run of all taps of a kernel of 3x3."""
    return RunType(LINES, PIXELS, 3, 3, distance, distance) if LINES > 1 else RunType(1, PIXELS, 1, 3, 1, distance)


for distance in (1, 2):
    correlate_kernel.usually(group=GroupType(1, 1), run=_three_by_three(distance))
    correlate_gradient_kernel.usually(run=_three_by_three(distance))


def _run_of(p: ConvProblem, h: Axis, w: Axis, lines: int) -> RunType:
    """What a tile takes at once: some taps of a line, or three by three where neighbouring lines share them."""

    def distance(axis: Axis) -> int:
        """Taps between neighbouring targets, where these meet the same places; otherwise 0."""
        apart = axis.taps[1][0] - axis.taps[0][0] if len(axis.taps) > 1 and axis.target_step == 1 else 0
        return axis.source_step // apart if apart > 0 and axis.source_step % apart == 0 else 0

    _, KH, KW = p.kernel
    if distance(w) not in (1, 2) or min(_WIDTHS) > KW:
        return RunType(lines, PIXELS, 1, 1, 1, 1)
    if (KH, KW) == (3, 3) and distance(h) == distance(w) and lines == LINES:
        return _three_by_three(distance(w))
    return RunType(lines, PIXELS, 1, min(_WIDTHS, key=lambda width: (KW % width, -width)), 1, distance(w))


class _Lines:
    """How a kernel goes through the lines of a problem.

    Attributes:
        group, run: what the kernel is to be compiled for.
        bands, blocks: into how many pieces lines and channels are divided.
        fields: the values of :data:`_LINE_FIELDS` but for ``src``.
    """

    def __init__(self, p: ConvProblem, forward: bool, gradient: bool):
        d, h, w = gather_axes(p, forward, divide=(True, True, False))
        (SD, SH, SW), (TD, TH, TW) = (p.size, p.output) if forward else (p.output, p.size)
        SC, TC = (p.C, p.K) if forward else (p.K, p.C)
        (_, KH, KW), group = p.kernel, GroupType(SC // p.G, TC // p.G)
        tap = group.R * TC
        # Lines for the channels of several groups would be many more programs, for layers that are the fastest already.
        run = _run_of(p, h, w, LINES if group.R == group.L == 1 else 1)
        self.group, self.run = group, run

        def lie(axis: Axis, c: AxisClass) -> int:
            spacing = axis.spacing(c)
            runs = c.taps >= run.width > 1 and spacing * run.distance == axis.source_step
            return _RUNS if runs else _EVENLY if spacing > 0 else _SCATTERED

        w_classes, w_taps = w.tables(1, tap, lie)
        outs = [(m // PIXELS * h.target_step * TW + m % PIXELS * w.target_step) * TC for m in range(run.lines * PIXELS)]
        vector = lanes(p.dtype)
        width = max(_LINE_BYTES // (max(SW, 1) * item_bytes(p.dtype)) // vector, 4)
        wanted = _PIECES
        if gradient:
            # Each band has sums of its own, which shall not be many more than there are pixels of dy.
            wanted = min(_PIECES, max(2 * p.N * math.prod(p.output) // math.prod(p.kernel), 1))
        width = min(width, -(-TC // vector)) * vector
        self.blocks, lines = -(-TC // width), p.N * TD * TH
        several = run.lines * h.target_step
        band = min(max(lines * self.blocks // wanted, 1), lines if gradient else _MOST_LINES)
        band = max(-(-band // several), 1) * several
        # Lines at the edge of an image do not meet all taps; bands begin behind them.
        lead = -h.classes[0].size % run.lines if len(h.classes) > 1 and h.target_step == 1 else 0
        self.bands = -(-(lines + lead) // band)
        self.fields: dict[str, Any] = {
            "d_targets": targets(d, TD), "h_targets": targets(h, TH), "w_classes": w_classes,
            "w_count": len(w.classes), "d_taps": d.tables(SH * SW * SC, KH * KW * tap)[1],
            "h_taps": h.tables(SW * SC, KW * tap)[1], "w_taps": w_taps, "outs": np.array(outs, np.int64),
            "SD": SD, "SH": SH, "SW": SW, "SC": SC, "TD": TD, "TH": TH, "TW": TW, "TC": TC,
            "source_step": w.source_step, "target_step": w.target_step, "line_step": h.source_step * SW * SC,
            "next_line": h.target_step, "lines": lines, "band": band, "lead": lead, "width": width,
            "blocks": self.blocks,
        }  # fmt: skip


class Correlation:
    """The core of forward and input gradient."""

    def __init__(self, p: ConvProblem, forward: bool, scratch: Scratch):
        lines = _Lines(p, forward, gradient=False)
        self._correlate = Task(
            correlate_kernel.compiled_for(group=lines.group, run=lines.run), p.dtype, lines.bands * lines.blocks,
            f"src w dst {EPILOGUE_ARRAYS}",
            parallel=p.multiply_adds > SMALL_WORK, **lines.fields, **epilogue_fields(p, forward),
        )  # fmt: skip

    def run(self, base: int, src: int, w: int, epilogue: Epilogue, dst: int) -> None:
        self._correlate.run(src, w, dst, *epilogue)


class DepthwiseForward(Forward):
    """``y = activation(x * w + b)``."""

    make_core = Correlation


class DepthwiseInputGradient(InputGradient):
    """``dx`` from ``dy`` and ``w``."""

    make_core = Correlation


class _Gradient:
    """The core of the weight gradient."""

    def __init__(self, p: ConvProblem, scratch: Scratch):
        lines = _Lines(p, forward=True, gradient=True)
        size = math.prod(p.w_shape)
        bands = max(lines.bands, 1)  # without pixels, a sum of zero
        self._add = Task(
            correlate_gradient_kernel.compiled_for(run=lines.run), p.dtype, bands * lines.blocks, "src dy dw",
            parallel=p.multiply_adds > SMALL_WORK, size=size, **lines.fields,
        )  # fmt: skip
        self._parts = Parts(bands, size, scratch)

    def run(self, base: int, x: int, dy: int, dw: int) -> None:
        self._add.run(x, dy, self._parts.place(base, dw))
        self._parts.add(base, dw)


class DepthwiseWeightGradient(WeightGradient):
    """``dw`` from ``x`` and ``dy``."""

    make_core = _Gradient


def depthwise_supports(p: ConvProblem) -> str | None:
    """None for a problem that depthwise convolution can do, otherwise the reason why not."""
    if not p.G == p.C == p.K:
        return f"a group for each input and output channel; received {p.C} and {p.K} channels in {p.G}"
    return continuation_fits(p)


def depthwise_suits(p: ConvProblem) -> str | None:
    """None for a problem that this does faster than the direct algorithm."""
    return None if p.C > 1 else "more than one channel"


#: What a call costs beside its pixels.
_CALL = 60_000


def depthwise_cost_forward(p: ConvProblem) -> float:
    """The expected time of the forward; see ``cost.py`` for the unit."""
    return _gather_cost(p, math.prod(p.output)) + layout_cost(p)


def depthwise_cost_input_gradient(p: ConvProblem) -> float:
    """The expected time of the input gradient."""
    return _gather_cost(p, math.prod(p.size)) + layout_cost(p, turns_weights=True)


def _gather_cost(p: ConvProblem, pixels: int) -> float:
    """A product has two operands to load; a result is loaded, filled and stored."""
    return (2.8 * meetings(p) + 5 * p.N * pixels) * vectors(p.C, p.dtype) + 0.04 * image_bytes(p) + _CALL


def depthwise_cost_weight_gradient(p: ConvProblem) -> float:
    """The expected time of the weight gradient."""
    products = p.N * math.prod(p.output) * math.prod(p.kernel) * vectors(p.C, p.dtype)
    padded = p.N * p.C * math.prod(size + before + after for size, (before, after) in zip(p.size, p.padding))
    return 5.5 * products + 0.3 * padded * item_bytes(p.dtype) + layout_cost(p)
