"""Convolution in groups of few channels: the lanes are the output channels of several groups.

The direct algorithm puts the columns of one group into the lanes: four of sixteen, in ResNeXt (Xie et al., "Aggregated
Residual Transformations for Deep Neural Networks", 2017). Here a vector holds the channels of neighbouring groups, as
in depthwise convolution: lane i sums the products of its group's R source channels, ``src[pixel, i // L * R + r]``. The
sources of all lanes are neighbours in memory, and are read at once; for each r a permutation brings every lane the
channel that it meets. R = 1 is depthwise convolution with L filters for each channel.

Forward and input gradient are the kernel of ``conv_depthwise.py``, compiled for each pair R, L on its first use: the
permutations are constants of the program. The weight gradient is a tile of as many taps as fit the registers, summed
over the pixels of a zero-padded x.
"""

from __future__ import annotations

import math

import numpy as np

from pycnn_kernels.cpu.conv_depthwise import Correlation
from pycnn_kernels.cpu.conv_direct import BLOCK_VECTORS, GRADIENT_PIXELS, SMALL_WORK, column_blocks, list_pixels
from pycnn_kernels.cpu.conv_frame import Forward, InputGradient, PaddedInput, Parts, Scratch, WeightGradient, split
from pycnn_kernels.cpu.cost import image_bytes, layout_cost, meetings, vectors
from pycnn_kernels.cpu.epilogue import Epilogue
from pycnn_kernels.cpu.gather import continuation_fits
from pycnn_kernels.cpu.host import item_bytes, lanes
from pycnn_kernels.cpu.inlined import inlined
from pycnn_kernels.cpu.launch import Task, kernel
from pycnn_kernels.cpu.tile import (
    GroupType,
    lanes_of,
    local_table,
    rows_of,
    shift,
    sources_before,
    taps_of,
    taps_shape,
    tile_load,
    tile_multiply_groups,
    tile_store,
    tile_zeros,
)
from pycnn_kernels.problem import ConvProblem


@kernel(src="array", dst="array", G="int", L="int", R="int")
def regroup_kernel(a, item, worker):
    """Bring the weights of a tap from (G, L, R) to (L, G, R); a piece is one of the taps."""
    source, to = shift(a.src, item * a.G * a.L * a.R), shift(a.dst, item * a.G * a.L * a.R)
    for k in range(a.L):
        for g in range(a.G):
            for r in range(a.R):
                to[(k * a.G + g) * a.R + r] = source[(g * a.L + k) * a.R + r]


#: Pixels that all taps of the weight gradient pass over in turn.
_CHUNK = 128


@kernel(
    group="type", x="array", dy="array", dw="array", segments="table", tap_offsets="table", d_positions="table",
    h_positions="table", w_positions="table", continued="int", N="int", D="int", H="int", W="int", C="int", R="int",
    OD="int", OH="int", OW="int", K="int", L="int", stride_d="int", stride_h="int", stride_w="int", taps="int",
    blocks="int", split_pixels="int", part="int",
)  # fmt: skip
def grouped_weight_gradient_kernel(a, item, worker):
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
                _add_taps(a, xs, dys, count, k, to, chunk == first, None)
            else:
                _add_taps(a, xs, dys, count, k, to, chunk == first, end - k)


@inlined
def _add_taps(a, xs, dys, count, column, to, fresh, edge):
    """Add ``count`` pixels to all taps of one vector of channels, the taps of a tile together."""
    many, few, one = taps_shape(a.x, a.group, 9), taps_shape(a.x, a.group, 3), taps_shape(a.x, a.group, 1)
    tap = 0
    while tap < a.taps:
        offsets, target, left = shift(a.tap_offsets, tap), to + tap * rows_of(one) * a.K, a.taps - tap
        if left >= taps_of(a.group, many):
            _add(a, xs, dys, offsets, count, column, target, fresh, many, edge)
            tap += taps_of(a.group, many)
        elif left >= taps_of(a.group, few):
            _add(a, xs, dys, offsets, count, column, target, fresh, few, edge)
            tap += taps_of(a.group, few)
        else:
            _add(a, xs, dys, offsets, count, column, target, fresh, one, edge)
            tap += 1


@inlined
def _add(a, xs, dys, offsets, count, column, to, fresh, shape, edge):
    """Add ``count`` pixels to the taps of one tile and one vector of channels."""
    acc = tile_zeros(shape)
    if not fresh:
        acc = tile_load(acc, a.dw, to, a.K, edge)
    x_column = sources_before(a.group, column)
    for i in range(count):
        acc = tile_multiply_groups(acc, a.group, a.x, xs[i] + x_column, offsets, a.dy, dys[i] + column, edge)
    tile_store(acc, a.dw, to, a.K, edge)


class _Grouped:
    """The core of forward and input gradient."""

    def __init__(self, p: ConvProblem, forward: bool, scratch: Scratch):
        R, L = p.C // p.G, p.K // p.G
        self._correlate = Correlation(p, forward, scratch)
        # The frame's weights of the input gradient are (T, G, L, R), with R the target's channels of a group.
        self._regroups = not forward and L > 1
        if self._regroups:
            self._w_at = scratch.reserve(math.prod(p.w_shape))
            parallel = math.prod(p.w_shape) > SMALL_WORK
            self._regroup = Task(
                regroup_kernel, p.dtype, math.prod(p.kernel), "src dst", parallel=parallel, G=p.G, L=L, R=R
            )

    def run(self, base: int, src: int, w: int, epilogue: Epilogue, dst: int) -> None:
        if self._regroups:
            self._regroup.run(w, base + self._w_at)
            w = base + self._w_at
        self._correlate.run(base, src, w, epilogue, dst)


class GroupedForward(Forward):
    """``y = activation(x * w + b)``."""

    make_core = _Grouped


class GroupedInputGradient(InputGradient):
    """``dx`` from ``dy`` and ``w``."""

    make_core = _Grouped


class _Gradient:
    """The core of the weight gradient."""

    def __init__(self, p: ConvProblem, scratch: Scratch):
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
            grouped_weight_gradient_kernel.compiled_for(group=GroupType(p.C // p.G, p.K // p.G)), p.dtype,
            splits * blocks, "x dy dw",
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


class GroupedWeightGradient(WeightGradient):
    """``dw`` from ``x`` and ``dy``."""

    make_core = _Gradient


#: A vector of the target meets so many vectors of the source at most.
_MOST_SOURCES = 4


def grouped_supports(p: ConvProblem) -> str | None:
    """None for a problem that this can do in forward and weight gradient, otherwise the reason why not."""
    return _groups_fit(p, p.C // p.G, p.K // p.G)


def grouped_supports_input_gradient(p: ConvProblem) -> str | None:
    """None for a problem that this can do in the input gradient, otherwise the reason why not."""
    return _groups_fit(p, p.K // p.G, p.C // p.G)


def _groups_fit(p: ConvProblem, R: int, L: int) -> str | None:
    if p.G == 1 or R == L == 1:
        return f"groups, of more than one channel; received {p.C} and {p.K} channels in {p.G}"
    # Each pair is a kernel to be compiled: those of networks have groups of 2, 4, 8 ... channels.
    if lanes(p.dtype) % R or lanes(p.dtype) % L:
        return f"groups of 1, 2, 4 ... {lanes(p.dtype)} channels; received {R} of the source and {L} of the target"
    if R > _MOST_SOURCES * L:
        return f"at most {_MOST_SOURCES} times as many channels of the source as of the target; received {R} and {L}"
    return continuation_fits(p)


def grouped_suits_forward(p: ConvProblem) -> str | None:
    """None for a problem whose forward this does faster than the direct algorithm."""
    return _several_groups(p, p.K // p.G)


def grouped_suits_input_gradient(p: ConvProblem) -> str | None:
    """None for a problem whose input gradient this does faster than the direct algorithm."""
    return _several_groups(p, p.C // p.G)


def _several_groups(p: ConvProblem, L: int) -> str | None:
    """A group that fills a vector leaves the direct algorithm no idle lanes: it takes 0.7 to 1.0 of the time."""
    if lanes(p.dtype) <= L:
        return f"several groups in a vector of {lanes(p.dtype)} channels; received {L} channels in a group"
    return None


#: What a call costs beside its pixels.
_CALL = 120_000


def grouped_cost_forward(p: ConvProblem) -> float:
    """The expected time of the forward; see ``cost.py`` for the unit."""
    return _gather_cost(p, math.prod(p.output), p.C // p.G, p.K) + layout_cost(p)


def grouped_cost_input_gradient(p: ConvProblem) -> float:
    """The expected time of the input gradient."""
    regrouped = 2.0 * math.prod(p.w_shape)
    return _gather_cost(p, math.prod(p.size), p.K // p.G, p.C) + regrouped + layout_cost(p, turns_weights=True)


def _gather_cost(p: ConvProblem, pixels: int, R: int, target: int) -> float:
    """A place is read once and picked from R times; a result is loaded, filled and stored."""
    products = meetings(p) * vectors(target, p.dtype)
    joined = 4.4 * max(R * p.G / target - 1, 0)  # picking from more than one vector of sources
    tiles = 5 * p.N * pixels * vectors(target, p.dtype)
    return (2 + 1.3 * R + joined) * products + tiles + 0.04 * image_bytes(p) + _CALL


def grouped_cost_weight_gradient(p: ConvProblem) -> float:
    """The expected time of the weight gradient."""
    products = p.N * math.prod(p.output) * math.prod(p.kernel) * vectors(p.K, p.dtype)
    padded = p.N * p.C * math.prod(size + before + after for size, (before, after) in zip(p.size, p.padding))
    return (1.2 + 1.3 * (p.C // p.G)) * products + 0.3 * padded * item_bytes(p.dtype) + layout_cost(p)
