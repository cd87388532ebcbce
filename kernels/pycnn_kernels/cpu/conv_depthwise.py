"""Depthwise convolution: each channel has a kernel of its own, and a lane of the vectors.

The direct algorithm sums over the channels of a group, of which there is one here, and leaves all lanes but one
idle. Here the lanes are channels: ``acc[pixel, c] += x[pixel + offset(t), c] * w[t, c]``. There is nothing to multiply
a value of x with but the weights of a few taps, so reading is what takes the time: a tile is a run of pixels of a line,
which read each value of the line once for the taps of all of them. A tap that lies in padding of zeros is a product
with 0, unlike in the direct algorithm.

The weight gradient is a tile of taps for each vector of channels, summed over the pixels of a zero-padded x.

Both are written for groups of R source and L target channels, here one and one; ``conv_grouped.py`` has the others.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from pycnn_kernels.cpu.conv_direct import BLOCK_VECTORS, GRADIENT_PIXELS, SMALL_WORK, column_blocks, list_pixels
from pycnn_kernels.cpu.conv_frame import Forward, InputGradient, PaddedInput, Parts, Scratch, WeightGradient, split
from pycnn_kernels.cpu.cost import image_bytes, layout_cost, meetings, vectors
from pycnn_kernels.cpu.epilogue import EPILOGUE_ARRAYS, EPILOGUE_FIELDS, Epilogue, call_finish, epilogue_fields
from pycnn_kernels.cpu.gather import (
    CLASS_FIELDS,
    TAP_FIELDS,
    TARGET_FIELDS,
    Axis,
    continuation_fits,
    gather_axes,
    targets,
)
from pycnn_kernels.cpu.host import SIMD, item_bytes
from pycnn_kernels.cpu.launch import Kernel, Task, kernel
from pycnn_kernels.cpu.tile import (
    group_of,
    lanes_of,
    local_table,
    rows_of,
    shift,
    sources_before,
    taps_of,
    taps_shape,
    tile_correlate,
    tile_fill_rows,
    tile_load,
    tile_multiply_groups,
    tile_prefetch_rows,
    tile_relu,
    tile_shape,
    tile_store,
    tile_store_first,
    tile_zeros,
)
from pycnn_kernels.problem import ConvProblem

#: Pixels and vectors of a tile: 7 divides the widths of most networks' maps, 112 to 7.
PIXELS, VECTORS = 7, SIMD.few_vectors

#: Taps that a tile takes at once.
RUN = 3

#: Pixels that all taps of the weight gradient pass over in turn.
_CHUNK = 128


#: The fields of a kernel that is :func:`correlate_lines`.
CORRELATE_FIELDS = EPILOGUE_FIELDS | {
    name: kind
    for kind, names in {
        "array": "src w",
        "table": "d_targets h_targets w_classes d_taps h_taps w_taps",
        "int": "w_count SD SH SW SC TD TH TW TC source_step target_step lines band blocks",
    }.items()
    for name in names.split()
}


@kernel(**CORRELATE_FIELDS)
def depthwise_kernel(a, item, worker):
    """``dst[p, c] = sum over taps t of src[p * source_step + offset(t), c] * w[t, c]``, finished."""
    correlate_lines(a, item, group_of(1, 1))


@njit(error_model="numpy")
def correlate_lines(a, item, group):
    """``dst[p, k] = sum over taps t and r < R of src[p * source_step + offset(t), k // L * R + r] * w[t, r, k]``.

    src (N, SD, SH, SW, SC) and dst (N, TD, TH, TW, TC), channels last; w (T, R, TC). A line is a row of pixels of dst,
    of which there are ``lines``. A piece of work is a band of ``band`` lines and a block of channels. ``d_targets`` and
    ``h_targets`` say for each coordinate of a line where in src its taps are counted from and which it has; the pixels
    of a line are divided into classes, see :mod:`gather`. The results are finished. Bits repeat: an element is summed
    by one piece, in the order of the taps.
    """
    block, first = item % a.blocks, item // a.blocks * a.band
    last = min(first + a.band, a.lines)
    width = BLOCK_VECTORS * lanes_of(a.src)
    column, end = block * width, min((block + 1) * width, a.TC)
    for line in range(first, last):
        for number in range(a.w_count):
            _class(a, line, shift(a.w_classes, number * CLASS_FIELDS), column, end, group)
        if a.finish:
            for pixel in range(line * a.TW, (line + 1) * a.TW):
                call_finish(a, pixel * a.TC + column, column, end - column)


@njit(error_model="numpy")
def _class(a, line, w_class, column, end, group):
    """The pixels of one class of a line, in tiles; the channels from ``column`` to ``end``."""
    d_target = shift(a.d_targets, line // a.TH % a.TD * TARGET_FIELDS)
    h_target = shift(a.h_targets, line % a.TH * TARGET_FIELDS)
    n = line // (a.TD * a.TH)
    source_line = ((n * a.SD + d_target[0]) * a.SH + h_target[0]) * a.SW
    w_taps, taps, size = shift(a.w_taps, w_class[3] * TAP_FIELDS), w_class[4], w_class[1]
    # Where pixels are once or twice as far from each other as taps, neighbours share what they read.
    evenly = w_class[5] and taps > 0
    unit = w_taps[2] - w_taps[0] if evenly and taps >= RUN else 0
    distance = 1 if a.source_step == unit else 2 if a.source_step == 2 * unit else 0
    pixels, reach = min(size, PIXELS), (PIXELS - 1) * a.source_step
    for pixel in range(0, size, PIXELS):
        # The last tile begins earlier, and computes some pixels a second time, to the same bits.
        begin = max(min(pixel, size - PIXELS), 0)
        position = w_class[2] + begin * a.source_step  # from which the taps along w are counted
        inside = evenly and position + w_taps[0] >= 0 and position + w_taps[2 * taps - 2] + reach < a.SW
        source = (source_line + position) * a.SC
        to = (line * a.TW + w_class[0] + begin * a.target_step) * a.TC
        at = column
        while at < end:
            taps_there = (d_target, h_target, w_taps, taps, unit, distance, position, inside)
            if end - at >= VECTORS * lanes_of(a.src):
                _tile(a, taps_there, source, to, pixels, at, group, tile_shape(a.src, PIXELS, VECTORS), None)
                at += VECTORS * lanes_of(a.src)
            elif VECTORS > 2 and end - at >= 2 * lanes_of(a.src):
                _tile(a, taps_there, source, to, pixels, at, group, tile_shape(a.src, PIXELS, 2), None)
                at += 2 * lanes_of(a.src)
            else:
                edge = min(end - at, lanes_of(a.src))
                _tile(a, taps_there, source, to, pixels, at, group, tile_shape(a.src, PIXELS, 1), edge)
                at += lanes_of(a.src)


@njit(error_model="numpy")
def _tile(a, taps_there, start, to, pixels, column, group, shape, edge):
    """The tile of ``pixels`` pixels of dst from ``to`` on, whose taps along w are counted from src's ``start``."""
    d_target, h_target, w_taps, taps, unit, distance, position, inside = taps_there
    d_taps, h_taps = shift(a.d_taps, d_target[1] * TAP_FIELDS), shift(a.h_taps, h_target[1] * TAP_FIELDS)
    src, w, w_row, SW, pixel_unit = a.src, a.w, a.TC, a.SW, a.source_step
    pixel_step, step = pixel_unit * a.SC, unit * a.SC
    w_step = w_taps[3] - w_taps[1] if distance > 0 else 0
    tile_prefetch_rows(shape, a.dst, to + column, a.target_step * a.TC)
    acc = tile_zeros(shape)
    if a.has_bias:
        acc = tile_fill_rows(acc, a.bias, column, edge)
    for kd in range(d_target[2]):
        for kh in range(h_target[2]):
            line = start + sources_before(group, column) + d_taps[2 * kd] + h_taps[2 * kh]
            w_line = column + d_taps[2 * kd + 1] + h_taps[2 * kh + 1]
            kw = 0
            while kw < taps:
                x, b, place = line + w_taps[2 * kw] * a.SC, w_line + w_taps[2 * kw + 1], position + w_taps[2 * kw]
                run = kw + RUN <= taps
                if run and inside and distance == 1:
                    acc = tile_correlate(acc, group, src, x, step, w, b, w_step, w_row, 0, 0, None, edge, RUN, 1)
                elif run and distance == 1:
                    acc = tile_correlate(acc, group, src, x, step, w, b, w_step, w_row, place, unit, SW, edge, RUN, 1)
                elif run and inside and distance == 2:
                    acc = tile_correlate(acc, group, src, x, step, w, b, w_step, w_row, 0, 0, None, edge, RUN, 2)
                elif run and distance == 2:
                    acc = tile_correlate(acc, group, src, x, step, w, b, w_step, w_row, place, unit, SW, edge, RUN, 2)
                elif inside:
                    acc = tile_correlate(acc, group, src, x, pixel_step, w, b, 0, w_row, 0, 0, None, edge, 1, 1)
                else:
                    acc = tile_correlate(
                        acc, group, src, x, pixel_step, w, b, 0, w_row, place, pixel_unit, SW, edge, 1, 1
                    )
                kw += RUN if run and distance > 0 else 1
    if a.relu:
        acc = tile_relu(acc)
    if pixels == PIXELS:
        tile_store(acc, a.dst, to + column, a.target_step * a.TC, edge)
    else:
        tile_store_first(acc, a.dst, to + column, a.target_step * a.TC, pixels, edge)


#: The fields of a kernel that is :func:`add_pixels`.
ADD_FIELDS = {
    name: kind
    for kind, names in {
        "array": "x dy dw",
        "table": "segments tap_offsets d_positions h_positions w_positions",
        "int": "continued N D H W C R OD OH OW K L stride_d stride_h stride_w taps blocks split_pixels part",
    }.items()
    for name in names.split()
}


@kernel(**ADD_FIELDS)
def depthwise_weight_gradient_kernel(a, item, worker):
    """``dw[t, c] = sum over pixels p of x[p * stride + tap_offsets[t], c] * dy[p, c]``."""
    add_pixels(a, item, group_of(1, 1))


@njit(error_model="numpy")
def add_pixels(a, item, group):
    """``dw[t, r, k] = sum over pixels p of x[p * stride + tap_offsets[t], k // L * R + r] * dy[p, k]``.

    x (N, D, H, W, C), its padding included, and dy (N, OD, OH, OW, K), channels last; dw (T, R, K). Pieces of work:
    split of the pixels, block of channels; split s writes its sum to ``dw[s * part:]``, for :func:`sum_parts` to add in
    order. All taps pass over some pixels before the next come into the first-level cache. Bits repeat: the splits
    depend on the problem.
    """
    block, split = item % a.blocks, item // a.blocks
    lane_count = lanes_of(a.x)
    xs, dys = local_table(GRADIENT_PIXELS), local_table(GRADIENT_PIXELS)
    first = split * a.split_pixels
    last = min(first + a.split_pixels, a.N * a.OD * a.OH * a.OW)
    column, end = block * BLOCK_VECTORS * lane_count, min((block + 1) * BLOCK_VECTORS * lane_count, a.K)
    for chunk in range(first, max(last, first + 1), _CHUNK):
        count = list_pixels(a, chunk, min(chunk + _CHUNK, last), 0, 0, xs, dys)
        for k in range(column, end, lane_count):
            to = split * a.part + k
            if k + lane_count <= end:
                _add_taps(a, xs, dys, count, k, to, chunk == first, group, None)
            else:
                _add_taps(a, xs, dys, count, k, to, chunk == first, group, end - k)


@njit(error_model="numpy")
def _add_taps(a, xs, dys, count, column, to, fresh, group, edge):
    """Add ``count`` pixels to all taps of one vector of channels, the taps of a tile together."""
    many, few, one = taps_shape(a.x, group, 9), taps_shape(a.x, group, 3), taps_shape(a.x, group, 1)
    tap = 0
    while tap < a.taps:
        offsets, target, left = shift(a.tap_offsets, tap), to + tap * rows_of(one) * a.K, a.taps - tap
        if left >= taps_of(group, many):
            _add(a, xs, dys, offsets, count, column, target, fresh, group, many, edge)
            tap += taps_of(group, many)
        elif left >= taps_of(group, few):
            _add(a, xs, dys, offsets, count, column, target, fresh, group, few, edge)
            tap += taps_of(group, few)
        else:
            _add(a, xs, dys, offsets, count, column, target, fresh, group, one, edge)
            tap += 1


@njit(error_model="numpy")
def _add(a, xs, dys, offsets, count, column, to, fresh, group, shape, edge):
    """Add ``count`` pixels to the taps of one tile and one vector of channels."""
    acc = tile_zeros(shape)
    if not fresh:
        acc = tile_load(acc, a.dw, to, a.K, edge)
    x_column = sources_before(group, column)
    for i in range(count):
        acc = tile_multiply_groups(acc, group, a.x, xs[i] + x_column, offsets, a.dy, dys[i] + column, edge)
    tile_store(acc, a.dw, to, a.K, edge)


#: Pieces of work at least, where there are as many lines and blocks, and lines in one at most.
_PIECES, _MOST_LINES = 32, 64


def correlate_task(p: ConvProblem, forward: bool, correlate: Kernel) -> Task:
    """Makes ready a kernel that is :func:`correlate_lines`: a task that takes src, w, dst and the epilogue."""
    axes = gather_axes(p, forward, divide=(True, True, False))
    (SD, SH, SW), (TD, TH, TW) = (p.size, p.output) if forward else (p.output, p.size)
    SC, TC = (p.C, p.K) if forward else (p.K, p.C)
    (_, KH, KW), tap = p.kernel, SC // p.G * TC
    d, h, w = axes
    w_classes, w_taps = w.tables(1, tap, Axis.evenly_spaced)
    blocks = column_blocks(TC, p.dtype)
    lines = p.N * TD * TH
    band = min(max(lines * blocks // _PIECES, 1), _MOST_LINES)
    return Task(
        correlate, p.dtype, -(-lines // band) * blocks, f"src w dst {EPILOGUE_ARRAYS}",
        parallel=p.multiply_adds > SMALL_WORK,
        d_targets=targets(d, TD), h_targets=targets(h, TH), w_classes=w_classes, w_count=len(w.classes),
        d_taps=d.tables(SH * SW * SC, KH * KW * tap)[1], h_taps=h.tables(SW * SC, KW * tap)[1], w_taps=w_taps,
        SD=SD, SH=SH, SW=SW, SC=SC, TD=TD, TH=TH, TW=TW, TC=TC, source_step=w.source_step, target_step=w.target_step,
        lines=lines, band=band, blocks=blocks, **epilogue_fields(p, forward),
    )  # fmt: skip


class _Depthwise:
    """The core of forward and input gradient."""

    def __init__(self, p: ConvProblem, forward: bool, scratch: Scratch):
        self._correlate = correlate_task(p, forward, depthwise_kernel)

    def run(self, base: int, src: int, w: int, epilogue: Epilogue, dst: int) -> None:
        self._correlate.run(src, w, dst, *epilogue)


class DepthwiseForward(Forward):
    """``y = activation(x * w + b)``."""

    make_core = _Depthwise


class DepthwiseInputGradient(InputGradient):
    """``dx`` from ``dy`` and ``w``."""

    make_core = _Depthwise


class TapsGradient:
    """The core of a weight gradient whose kernel, ``add``, is :func:`add_pixels`."""

    def __init__(self, p: ConvProblem, scratch: Scratch, add: Kernel):
        # With zeros around x all taps meet all pixels; the copy costs less than nine lists of pixels.
        self._padded = PaddedInput(p, scratch)
        D, H, W = self._padded.problem.size
        offsets = [
            ((kd * p.dilation[0] * H + kh * p.dilation[1]) * W + kw * p.dilation[2]) * p.C
            for kd, kh, kw in np.ndindex(*p.kernel)
        ]
        blocks = column_blocks(p.K, p.dtype)
        pixels = p.N * math.prod(p.output)
        split_pixels, splits = split(pixels, _CHUNK, -(-32 // blocks))
        size = math.prod(p.w_shape)
        self._multiply = Task(
            add, p.dtype, splits * blocks, "x dy dw",
            parallel=p.multiply_adds > SMALL_WORK,
            segments=np.zeros(5, np.int64), tap_offsets=np.array(offsets, np.int64),
            N=p.N, D=D, H=H, W=W, C=p.C, R=p.C // p.G,
            OD=p.output[0], OH=p.output[1], OW=p.output[2], K=p.K, L=p.K // p.G,
            stride_d=p.stride[0], stride_h=p.stride[1], stride_w=p.stride[2],
            taps=len(offsets), blocks=blocks, split_pixels=split_pixels, part=size,
        )  # fmt: skip
        self._parts = Parts(splits, size, scratch)

    def run(self, base: int, x: int, dy: int, dw: int) -> None:
        self._multiply.run(self._padded.run(base, x), dy, self._parts.place(base, dw))
        self._parts.add(base, dw)


class DepthwiseWeightGradient(WeightGradient):
    """``dw`` from ``x`` and ``dy``."""

    @staticmethod
    def make_core(p: ConvProblem, scratch: Scratch) -> TapsGradient:
        """The core for a problem."""
        return TapsGradient(p, scratch, depthwise_weight_gradient_kernel)


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
