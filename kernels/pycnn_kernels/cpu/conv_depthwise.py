"""Depthwise convolution: each channel has a kernel of its own, and a lane of the vectors.

The direct algorithm sums over the channels of a group, of which there is one here, and leaves all lanes but one
idle. Here the lanes are channels: ``acc[pixel, c] += x[pixel + offset(t), c] * w[t, c]``. Otherwise forward and input
gradient are the gather of ``conv_direct``, with its phases of pixels that meet the same taps and its tables.

The weight gradient is a tile of taps for each vector of channels, summed over the pixels of a zero-padded x.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from pycnn_kernels.cpu.conv_direct import (
    BLOCK_VECTORS,
    FEW_ROWS,
    FEW_WIDE_ROWS,
    GATHER_FIELDS,
    GRADIENT_PIXELS,
    MOST_PARTS,
    ROWS,
    SMALL_WORK,
    TABLE,
    WIDE_ROWS,
    classes_of,
    column_blocks,
    gather_task,
    list_pixels,
    list_targets,
    whole_tiles,
)
from pycnn_kernels.cpu.conv_frame import Forward, InputGradient, PaddedInput, Parts, Scratch, WeightGradient, split
from pycnn_kernels.cpu.cost import image_bytes, layout_cost, meetings, vectors
from pycnn_kernels.cpu.host import item_bytes
from pycnn_kernels.cpu.launch import Task, kernel
from pycnn_kernels.cpu.tile import (
    lanes_of,
    local_table,
    rows_of,
    shift,
    tile_fill_rows,
    tile_load,
    tile_multiply_rows,
    tile_prefetch_rows,
    tile_relu,
    tile_shape,
    tile_store,
    tile_store_rows,
    tile_zeros,
)
from pycnn_kernels.problem import ConvProblem

#: Pixels that all taps of the weight gradient pass over in turn.
_CHUNK = 128


@kernel(**GATHER_FIELDS)
def depthwise_kernel(a, item, worker):
    """``dst[p, c] = bias[c] + sum over taps t of src[p * source_step + t * tap_step, c] * w[t, c]``.

    The fields are those of :func:`gather_kernel`, with L channels in one group. A piece of work is some parts of
    phases and a block of channels. Bits repeat: an element is summed by one piece, in the order of the taps.
    """
    block, piece = item % a.blocks, item // a.blocks
    rows, outs, counts = local_table(TABLE), local_table(TABLE), local_table(MOST_PARTS)
    list_targets(a, piece, 0, rows, outs, counts)
    lane_count = lanes_of(a.src)
    column, end = block * BLOCK_VECTORS * lane_count, min((block + 1) * BLOCK_VECTORS * lane_count, a.L)
    if end - column == BLOCK_VECTORS * lane_count:
        full, few = tile_shape(a.src, WIDE_ROWS, BLOCK_VECTORS), tile_shape(a.src, FEW_WIDE_ROWS, BLOCK_VECTORS)
        _columns(a, piece, rows, outs, counts, column, full, few, None)
        column = end
    while column < end:
        full, few = tile_shape(a.src, ROWS, 1), tile_shape(a.src, FEW_ROWS, 1)
        _columns(a, piece, rows, outs, counts, column, full, few, min(end - column, lane_count))
        column += lane_count


@njit(error_model="numpy")
def _columns(a, piece, rows, outs, counts, column, full, few, edge):
    """One piece and one block of channels, which ``edge`` cuts off unless it is None."""
    at = 0
    for part in range(a.pieces[piece], a.pieces[piece + 1]):
        classes = classes_of(a, a.parts[part * 3])
        count = counts[part - a.pieces[piece]]
        whole = whole_tiles(count, full, few)
        _tiles(a, shift(rows, at), shift(outs, at), whole, column, classes, full, edge)
        _tiles(a, shift(rows, at + whole), shift(outs, at + whole), count - whole, column, classes, few, edge)
        at += count + ROWS


@njit(error_model="numpy")
def _tiles(a, rows, outs, count, column, classes, shape, edge):
    """The tiles of ``count`` pixels; one that hangs over computes the last pixel several times, to the same bits."""
    d_class, h_class, w_class = classes
    src, w, dst = a.src, a.w, a.dst
    src_d, src_h, src_w = a.tap_step_d * a.SH * a.SW * a.SC, a.tap_step_h * a.SW * a.SC, a.tap_step_w * a.SC
    w_d, w_h, w_w = d_class[5], h_class[5], w_class[5]
    w_start = column + d_class[4] + h_class[4] + w_class[4]
    taps_d, taps_h, taps_w = d_class[3], h_class[3], w_class[3]
    has_bias, relu = a.has_bias, a.relu
    for i in range(0, count, rows_of(shape)):
        there, to = shift(rows, i), shift(outs, i)
        tile_prefetch_rows(shape, dst, column, to)
        acc = tile_zeros(shape)
        if has_bias:
            acc = tile_fill_rows(acc, a.bias, column, edge)
        for kd in range(taps_d):
            for kh in range(taps_h):
                for kw in range(taps_w):
                    tap = kd * src_d + kh * src_h + kw * src_w + column
                    acc = tile_multiply_rows(acc, src, tap, there, w, w_start + kd * w_d + kh * w_h + kw * w_w, edge)
        if relu:
            acc = tile_relu(acc)
        tile_store_rows(acc, dst, column, to, edge)


@kernel(
    x="array", dy="array", dw="array", segments="table", tap_offsets="table",
    N="int", D="int", H="int", W="int", C="int", R="int", OD="int", OH="int", OW="int", K="int", L="int",
    stride_d="int", stride_h="int", stride_w="int", taps="int", blocks="int", split_pixels="int", part="int",
)  # fmt: skip
def depthwise_weight_gradient_kernel(a, item, worker):
    """``dw[t, c] = sum over pixels p of x[p * stride + tap_offsets[t], c] * dy[p, c]``.

    x (N, D, H, W, C), its padding included, and dy (N, OD, OH, OW, C), channels last; dw (T, C). Pieces of work: split
    of the pixels, block of channels; split s writes its sum to ``dw[s * part:]``, for :func:`sum_parts` to add in
    order. All taps pass over some pixels before the next come into the first-level cache. Bits repeat: the splits
    depend on the problem.
    """
    block, split = item % a.blocks, item // a.blocks
    lane_count = lanes_of(a.x)
    xs, dys = local_table(GRADIENT_PIXELS), local_table(GRADIENT_PIXELS)
    first = split * a.split_pixels
    last = min(first + a.split_pixels, a.N * a.OD * a.OH * a.OW)
    column, end = block * BLOCK_VECTORS * lane_count, min((block + 1) * BLOCK_VECTORS * lane_count, a.C)
    for chunk in range(first, max(last, first + 1), _CHUNK):
        count = list_pixels(a, chunk, min(chunk + _CHUNK, last), 0, 0, xs, dys)
        for c in range(column, end, lane_count):
            to = split * a.part + c
            if c + lane_count <= end:
                _add_taps(a, xs, dys, count, c, to, chunk == first, None)
            else:
                _add_taps(a, xs, dys, count, c, to, chunk == first, end - c)


@njit(error_model="numpy")
def _add_taps(a, xs, dys, count, column, to, fresh, edge):
    """Add ``count`` pixels to all taps of one vector of channels, the taps of a tile together."""
    tap = 0
    while tap < a.taps:
        offsets, target, left = shift(a.tap_offsets, tap), to + tap * a.C, a.taps - tap
        if left >= 9:
            _add(a, xs, dys, offsets, count, column, target, fresh, tile_shape(a.x, 9, 1), edge)
            tap += 9
        elif left >= 3:
            _add(a, xs, dys, offsets, count, column, target, fresh, tile_shape(a.x, 3, 1), edge)
            tap += 3
        else:
            _add(a, xs, dys, offsets, count, column, target, fresh, tile_shape(a.x, 1, 1), edge)
            tap += 1


@njit(error_model="numpy")
def _add(a, xs, dys, offsets, count, column, to, fresh, shape, edge):
    """Add ``count`` pixels to the taps of one tile and one vector of channels."""
    acc = tile_zeros(shape)
    if not fresh:
        acc = tile_load(acc, a.dw, to, a.C, edge)
    for i in range(count):
        acc = tile_multiply_rows(acc, a.x, xs[i] + column, offsets, a.dy, dys[i] + column, edge)
    tile_store(acc, a.dw, to, a.C, edge)


class _Depthwise:
    """The core of forward and input gradient."""

    def __init__(self, p: ConvProblem, forward: bool, scratch: Scratch):
        self._gather = gather_task(p, forward, depthwise_kernel, depthwise=True)

    def run(self, base: int, src: int, w: int, bias: int, dst: int) -> None:
        self._gather.run(src, w, bias, dst)


class DepthwiseForward(Forward):
    """``y = activation(x * w + b)``."""

    make_core = _Depthwise


class DepthwiseInputGradient(InputGradient):
    """``dx`` from ``dy`` and ``w``."""

    make_core = _Depthwise


class _DepthwiseWeightGradient:
    """The core of the weight gradient."""

    def __init__(self, p: ConvProblem, scratch: Scratch):
        # With zeros around x all taps meet all pixels; the copy costs less than nine lists of pixels.
        self._padded = PaddedInput(p, scratch)
        D, H, W = self._padded.problem.size
        offsets = [
            ((kd * p.dilation[0] * H + kh * p.dilation[1]) * W + kw * p.dilation[2]) * p.C
            for kd, kh, kw in np.ndindex(*p.kernel)
        ]
        blocks = column_blocks(p.C, p.dtype)
        pixels = p.N * math.prod(p.output)
        split_pixels, splits = split(pixels, _CHUNK, -(-32 // blocks))
        size = len(offsets) * p.C
        self._multiply = Task(
            depthwise_weight_gradient_kernel, p.dtype, splits * blocks, "x dy dw",
            parallel=p.multiply_adds > SMALL_WORK,
            segments=np.zeros(5, np.int64), tap_offsets=np.array(offsets, np.int64),
            N=p.N, D=D, H=H, W=W, C=p.C, R=1,
            OD=p.output[0], OH=p.output[1], OW=p.output[2], K=p.K, L=1,
            stride_d=p.stride[0], stride_h=p.stride[1], stride_w=p.stride[2],
            taps=len(offsets), blocks=blocks, split_pixels=split_pixels, part=size,
        )  # fmt: skip
        self._parts = Parts(splits, size, scratch)

    def run(self, base: int, x: int, dy: int, dw: int) -> None:
        self._multiply.run(self._padded.run(base, x), dy, self._parts.place(base, dw))
        self._parts.add(base, dw)


class DepthwiseWeightGradient(WeightGradient):
    """``dw`` from ``x`` and ``dy``."""

    make_core = _DepthwiseWeightGradient


def depthwise_supports(p: ConvProblem) -> str | None:
    """None for a problem that depthwise convolution can do, otherwise the reason why not."""
    if not p.G == p.C == p.K:
        return f"a group for each input and output channel; received {p.C} and {p.K} channels in {p.G}"
    return None


def depthwise_suits(p: ConvProblem) -> str | None:
    """None for a problem that this does faster than the direct algorithm."""
    return None if p.C > 1 else "more than one channel"


#: What a call costs beside its pixels.
_CALL = 120_000


def depthwise_cost_forward(p: ConvProblem) -> float:
    """The expected time of the forward; see ``cost.py`` for the unit."""
    return _gather_cost(p, math.prod(p.output)) + layout_cost(p)


def depthwise_cost_input_gradient(p: ConvProblem) -> float:
    """The expected time of the input gradient."""
    return _gather_cost(p, math.prod(p.size)) + layout_cost(p, turns_weights=True)


def _gather_cost(p: ConvProblem, pixels: int) -> float:
    """A product has two operands to load; a result is loaded, filled and stored."""
    return (3 * meetings(p) + 5 * p.N * pixels) * vectors(p.C, p.dtype) + 0.04 * image_bytes(p) + _CALL


def depthwise_cost_weight_gradient(p: ConvProblem) -> float:
    """The expected time of the weight gradient."""
    products = p.N * math.prod(p.output) * math.prod(p.kernel) * vectors(p.C, p.dtype)
    padded = p.N * p.C * math.prod(size + before + after for size, (before, after) in zip(p.size, p.padding))
    return 5.5 * products + 0.3 * padded * item_bytes(p.dtype) + layout_cost(p)
