"""Depthwise convolution: each channel has a kernel of its own.

An element of y has but a few products, so the time is that of reading x and writing y. What must be avoided is reading
x once for each tap, even from the cache: a thread has some results one below the other, ``rows`` of them along h, and
goes through the kernel column by column. It loads the rows of x that a column of taps meets once, into registers, for
all its results. In channels last a thread has four channels, loaded as 16 bytes; neighbouring threads have neighbouring
channels there, and neighbouring columns of the image in channels first, so both read whole cache lines. A kernel of one
row turns the axes around.

The input gradient is the same gather: with a stride of 2, results in turn meet the even and the odd taps. The weight
gradient multiplies the same rows of x with those of dy, a thread for each column of a channel's kernel, and adds up
parts of the pixels as ``parts.py`` does. A tap that lies in padding is a product with 0, unlike in direct convolution.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda, int32

from pycnn_kernels.cpu.gather import gather_axes, needs_images, needs_zeros, shown_positions
from pycnn_kernels.cuda.conv_direct import (
    FIRST_TAP,
    SOURCE,
    START,
    TAPS,
    TILE_FIELDS,
    Forward,
    Gather,
    InputGradient,
    WeightStrides,
    array_strides,
    axis_taps,
    axis_tiles,
    direct_supports,
    lanes_for,
    roles,
)
from pycnn_kernels.cuda.epilogue import EPILOGUE_ARRAYS, EPILOGUE_FIELDS, epilogue, epilogue_constants
from pycnn_kernels.cuda.launch import Task, blocks_for, kernel
from pycnn_kernels.cuda.parts import Parts, divided, lane_sum
from pycnn_kernels.cuda.ptx import load4, quotient, remainder, shift, store4
from pycnn_kernels.problem import ConvProblem

#: Sizes of a kernel's columns, and their strides, that are constants of the variants.
_SIZES, _STRIDES = (3, 5, 7), (1, 2)

#: Threads of a block, and columns of a line in the weight gradient at most.
_THREADS, _LINE = 128, 256

_SOURCE_STRIDES = {f"src_{axis}": "int" for axis in ("n", "down", "across", "c")}
_TARGET_STRIDES = {f"dst_{axis}": "int" for axis in ("n", "down", "across", "c")}


@kernel(
    src="source", w="source", dst="array", **EPILOGUE_FIELDS, tiles="table", taps="table", columns="int",
    blocks_down="int", vectors="int", count="int", source_rows="int", target_rows="int", row_first="int",
    row_step="int", skew="int", **_SOURCE_STRIDES, **_TARGET_STRIDES,
    w_down="int", w_across="int", w_c="int",
)  # fmt: skip
def depthwise_kernel(
    dtype: Any, threads: int, forward: bool, size: int, stride: int, rows: int, vector: int, channels_first: bool,
    **finish: Any,
) -> Any:  # fmt: skip
    """``dst[n, i, c] = epilogue(sum over taps of src[n, i + tap, c] * w[tap, c])``.

    A thread has ``vector`` neighbouring channels (1, or 4 in channels last) of ``rows`` targets along the axis "down",
    where the kernel has ``size`` taps at a ``stride``: those from ``block * rows - skew`` on, whose sources begin
    ``row_first + block * row_step``. Along the other axis its column is a tile of :func:`axis_tiles`. No sum is shared,
    so bits repeat.
    """
    finished, zero = epilogue(dtype, **finish), dtype(0)
    # The rows that the first of a gradient's targets meets above the one that its tap 0 meets.
    above = (size - 1) // stride
    steps = rows if forward else rows // stride
    window = (rows - 1) * stride + size if forward else steps + above
    results, operands, weights = rows * vector, window * vector, size * vector

    def body(a):
        thread = cuda.blockIdx.x * threads + cuda.threadIdx.x
        if thread < a.count:
            if channels_first:
                column, rest = remainder(thread, a.columns), quotient(thread, a.columns)
                block, rest = remainder(rest, a.blocks_down), quotient(rest, a.blocks_down)
                channel, image = remainder(rest, a.vectors), quotient(rest, a.vectors)
            else:
                channel, rest = remainder(thread, a.vectors) * vector, quotient(thread, a.vectors)
                column, rest = remainder(rest, a.columns), quotient(rest, a.columns)
                block, image = remainder(rest, a.blocks_down), quotient(rest, a.blocks_down)
            tile = column * TILE_FIELDS
            row = a.row_first + block * a.row_step
            first = image * a.src_n + row * a.src_down + channel * a.src_c
            # Rows of the window that exist; in 32 bits, which halve the cost of the comparisons below.
            top, bottom = int32(-row), int32(a.source_rows - row)
            acc, values = cuda.local.array(results, dtype), cuda.local.array(operands, dtype)
            by = cuda.local.array(weights, dtype)
            for i in range(results):
                acc[i] = zero
            for tap in range(a.tiles[tile + FIRST_TAP], a.tiles[tile + FIRST_TAP] + a.tiles[tile + TAPS]):
                src = shift(a.src, first + (a.tiles[tile + SOURCE] + a.taps[2 * tap]) * a.src_across)
                w = shift(a.w, channel * a.w_c + a.taps[2 * tap + 1] * a.w_across)
                for t in range(size):
                    if vector == 4:
                        by[4 * t], by[4 * t + 1], by[4 * t + 2], by[4 * t + 3] = load4(w, 0)
                    else:
                        by[t] = w[0]
                    w = shift(w, a.w_down)
                for r in range(window):
                    for v in range(vector):
                        values[r * vector + v] = zero
                    if top <= r < bottom:
                        if vector == 4:
                            four = load4(src, 0)
                            values[4 * r], values[4 * r + 1] = four[0], four[1]
                            values[4 * r + 2], values[4 * r + 3] = four[2], four[3]
                        else:
                            values[r] = src[0]
                    src = shift(src, a.src_down)
                for step in range(steps):
                    for t in range(size):
                        i = step if forward else step * stride + t % stride
                        r = step * stride + t if forward else step - t // stride + above
                        for v in range(vector):
                            acc[i * vector + v] += values[r * vector + v] * by[t * vector + v]

            target = block * rows - a.skew
            corner = image * a.dst_n + a.tiles[tile + START] * a.dst_across + channel * a.dst_c
            for i in range(rows):
                if 0 <= target + i < a.target_rows:
                    place = corner + (target + i) * a.dst_down
                    if vector == 4:
                        four = (
                            finished(a, acc[4 * i], channel, place),
                            finished(a, acc[4 * i + 1], channel + 1, place + 1),
                            finished(a, acc[4 * i + 2], channel + 2, place + 2),
                            finished(a, acc[4 * i + 3], channel + 3, place + 3),
                        )
                        store4(a.dst, place, four)
                    else:
                        a.dst[place] = finished(a, acc[i], channel, place)

    return body


@kernel(
    x="source", dy="source", sums="array", shown="table", vectors="int", count="int", size="int", lines="int",
    lines_each="int", segment="int", segments="int", blocks_down="int", columns="int", source_rows="int",
    target_rows="int", padding="int", across_stride="int", across_dilation="int",
    **{f"{array}_{axis}": "int" for array in ("x", "dy") for axis in ("n", "down", "across", "c")},
    w_down="int", w_across="int", w_c="int",
)  # fmt: skip
def depthwise_gradient_kernel(
    dtype: Any, threads: int, lanes: int, taps: int, stride: int, rows: int, vector: int, channels_first: bool
) -> Any:
    """``sums[part][tap, c] = sum over the part's pixels of x[n, o * S + tap, c] * dy[n, o, c]``.

    A thread has ``vector`` channels and the ``taps`` of one column of the kernel, and of a line the columns of y whose
    number is its lane's. A line is up to ``segment`` columns of ``rows`` rows of y. The second axis of the grid are the
    parts, of ``lines_each`` lines. ``shown`` says which column of x a position shows, -1 for a zero. Sums are added up
    in a fixed order.
    """
    units, zero = threads // lanes, dtype(0)
    total = lane_sum(dtype, threads, lanes, adjacent=channels_first)
    window = (rows - 1) * stride + taps
    results, operands = taps * vector, window * vector

    def body(a):
        if channels_first:
            own, lane = cuda.threadIdx.x // lanes, cuda.threadIdx.x % lanes
        else:
            own, lane = cuda.threadIdx.x % units, cuda.threadIdx.x // units
        # All threads go through all barriers: those without channels of their own compute the last ones again.
        unit = min(cuda.blockIdx.x * units + own, a.count - 1)
        channel, column = remainder(unit, a.vectors) * vector, quotient(unit, a.vectors)
        acc, values = cuda.local.array(results, dtype), cuda.local.array(operands, dtype)
        for i in range(results):
            acc[i] = zero
        first_line = cuda.blockIdx.y * a.lines_each
        for line in range(first_line, min(first_line + a.lines_each, a.lines)):
            piece, rest = remainder(line, a.segments), quotient(line, a.segments)
            block, image = remainder(rest, a.blocks_down), quotient(rest, a.blocks_down)
            target = block * rows
            row = target * stride - a.padding
            top, bottom, end = int32(-row), int32(a.source_rows - row), int32(a.target_rows - target)
            x_line = image * a.x_n + row * a.x_down + channel * a.x_c
            dy_line = image * a.dy_n + target * a.dy_down + channel * a.dy_c
            for w in range(piece * a.segment + lane, min((piece + 1) * a.segment, a.columns), lanes):
                at = a.shown[w * a.across_stride + column * a.across_dilation]
                if at >= 0:
                    x, dy = shift(a.x, x_line + at * a.x_across), shift(a.dy, dy_line + w * a.dy_across)
                    for r in range(window):
                        for v in range(vector):
                            values[r * vector + v] = zero
                        if top <= r < bottom:
                            if vector == 4:
                                four = load4(x, 0)
                                values[4 * r], values[4 * r + 1] = four[0], four[1]
                                values[4 * r + 2], values[4 * r + 3] = four[2], four[3]
                            else:
                                values[r] = x[0]
                        x = shift(x, a.x_down)
                    for i in range(rows):
                        if i < end:
                            if vector == 4:
                                by = load4(dy, 0)
                                for t in range(taps):
                                    acc[4 * t] += values[4 * (i * stride + t)] * by[0]
                                    acc[4 * t + 1] += values[4 * (i * stride + t) + 1] * by[1]
                                    acc[4 * t + 2] += values[4 * (i * stride + t) + 2] * by[2]
                                    acc[4 * t + 3] += values[4 * (i * stride + t) + 3] * by[3]
                            else:
                                by_one = dy[0]
                                for t in range(taps):
                                    acc[t] += values[i * stride + t] * by_one
                        dy = shift(dy, a.dy_down)

        first = cuda.blockIdx.y * a.size + channel * a.w_c + column * a.w_across
        mine = lane == 0 and cuda.blockIdx.x * units + own < a.count
        for t in range(taps):
            for v in range(vector):
                whole = total(acc[t * vector + v])
                if mine:
                    a.sums[first + t * a.w_down + v * a.w_c] = whole

    return body


def _down(p: ConvProblem) -> tuple[int, int]:
    """The axis along which threads have several results, and the other one: h and w, or w and h for one row of taps."""
    return (1, 2) if p.kernel[1] > 1 else (2, 1)


def _strides(p: ConvProblem, size: tuple[int, int, int], name: str) -> dict[str, int]:
    """As :func:`array_strides`, by the names of this file's axes."""
    steps, names = array_strides(p, p.C, size, name), ("d", "h", "w")
    down, across = (names[axis] for axis in _down(p))
    return {
        f"{name}_n": steps[f"{name}_n"],
        f"{name}_down": steps[f"{name}_{down}"],
        f"{name}_across": steps[f"{name}_{across}"],
        f"{name}_c": steps[f"{name}_c"],
    }


def _weight_strides(p: ConvProblem, tap: int, channel: int) -> dict[str, int]:
    """From one tap to the one below and beside it, and from channel to channel."""
    steps = (0, p.kernel[2] * tap, tap)
    down, across = _down(p)
    return {"w_down": steps[down], "w_across": steps[across], "w_c": channel}


def _shape(p: ConvProblem, target_rows: int) -> dict[str, Any]:
    """The constants of a variant: four channels and rows, or a channel of up to eight rows, whose weights are fewer."""
    vector = 4 if p.layout == "channels_last" and p.C % 4 == 0 else 1
    rows = 8 if vector == 1 and target_rows > 4 else 4
    return {
        "stride": p.stride[_down(p)[0]],
        "rows": rows,
        "vector": vector,
        "channels_first": p.layout != "channels_last",
    }


class DepthwiseGather(Gather):
    """By :func:`depthwise_kernel`."""

    def task(self, p: ConvProblem, forward: bool, weights: WeightStrides) -> Task:
        role, (down, across) = roles(p, forward), _down(p)
        shape = _shape(p, role.target_size[down])
        size, stride, before, rows = p.kernel[down], p.stride[down], p.padding[down][0], shape["rows"]
        skew = 0 if forward else before % stride
        blocks = -(-(role.target_size[down] + skew) // rows)
        axis = gather_axes(p, forward)[across]
        tiles, vectors = axis_tiles(axis, 1), p.C // shape["vector"]
        count = p.N * blocks * len(tiles) * vectors
        variant = depthwise_kernel.variant(
            p.dtype, threads=_THREADS, forward=forward, size=size, **shape, **epilogue_constants(p, forward)
        )
        return Task(
            variant, blocks_for(count, _THREADS), f"src w dst {EPILOGUE_ARRAYS}", slope=p.slope,
            tiles=tiles, taps=axis_taps(axis, p.kernel[across], forward), columns=len(tiles), blocks_down=blocks,
            vectors=vectors, count=count, source_rows=role.source_size[down], target_rows=role.target_size[down],
            row_first=-before if forward else before // stride - (size - 1) // stride,
            row_step=rows * stride if forward else rows // stride, skew=skew,
            **_strides(p, role.source_size, "src"), **_strides(p, role.target_size, "dst"),
            **_weight_strides(p, weights.tap, weights.group),
        )  # fmt: skip


class DepthwiseForward(Forward):
    """The forward operation."""

    gather = DepthwiseGather


class DepthwiseInputGradient(InputGradient):
    """The input gradient."""

    gather = DepthwiseGather


class DepthwiseWeightGradient:
    """``dw`` from ``x`` and ``dy``."""

    def __init__(self, p: ConvProblem) -> None:
        down, across = _down(p)
        rows, columns = p.output[down], p.output[across]
        shape = _shape(p, rows)
        channels_first, vectors = shape["channels_first"], p.C // shape["vector"]
        blocks, segments = -(-rows // shape["rows"]), -(-columns // _LINE)
        count, lines, size = vectors * p.kernel[across], p.N * blocks * segments, math.prod(p.w_shape)
        lanes = lanes_for(min(columns, _LINE), count, channels_first)
        division = divided(lines, count * lanes)
        weights = roles(p, forward=True).weights
        variant = depthwise_gradient_kernel.variant(
            p.dtype, threads=_THREADS, lanes=lanes, taps=p.kernel[down], **shape
        )
        self._add = Task(
            variant, (blocks_for(count * lanes, _THREADS), division.parts), "x dy sums",
            shown=shown_positions(p)[across].astype(np.int32), vectors=vectors, count=count, size=size, lines=lines,
            lines_each=division.each, segment=_LINE, segments=segments, blocks_down=blocks, columns=columns,
            source_rows=p.size[down], target_rows=rows, padding=p.padding[down][0],
            across_stride=p.stride[across], across_dilation=p.dilation[across],
            **_strides(p, p.size, "x"), **_strides(p, p.output, "dy"),
            **_weight_strides(p, weights.tap, weights.group),
        )  # fmt: skip
        self._parts = Parts(p.dtype, size, division.parts)
        self.workspace_bytes = self._parts.workspace_bytes

    def run(self, x: int, dy: int, dw: int) -> None:
        self._parts.run(lambda sums: self._add.run(x, dy, sums), dw)


def depthwise_supports(p: ConvProblem) -> str | None:
    """None for a problem that depthwise convolution can do, otherwise the reason why not."""
    if not p.G == p.C == p.K:
        return f"a group for each input and output channel; received {p.C} and {p.K} channels in {p.G}"
    down, _ = _down(p)
    if p.kernel[down] not in _SIZES or p.stride[down] not in _STRIDES or p.dilation[down] != 1:
        what = f"the kernel {p.kernel}, stride {p.stride} and dilation {p.dilation}"
        return f"columns of {_SIZES} taps side by side with a stride of 1 or 2; received {what}"
    return needs_images(p) or needs_zeros(p) or direct_supports(p)
