"""Convolution as products of matrices with im2col, in blocks that stay in the second-level cache.

im2col (Chellapilla, Puri and Simard, "High Performance Convolutional Neural Networks for Document Processing", 2006)
writes the window of each output pixel as one row of a matrix: T taps of R channels, zeros where a tap lies in the
padding. Then ``y = columns w``, ``dw = columns^T dy``, and dx is the sum of ``columns = dy w^T`` back to where they
came from (col2im). The whole matrix would be T times as large as x; here a piece of work has a block of rows and a
chunk of columns at a time, and multiplies them by ``gemm.py`` before they leave the cache.
"""

from __future__ import annotations

import math

from pycnn_kernels.cpu.conv_frame import Forward, InputGradient, Parts, Scratch, WeightGradient, split
from pycnn_kernels.cpu.cost import layout_cost, vectors
from pycnn_kernels.cpu.epilogue import EPILOGUE_ARRAYS, Epilogue, call_finish, epilogue_fields
from pycnn_kernels.cpu.gather import continuation_fits, shown_positions
from pycnn_kernels.cpu.gemm import (
    BLOCK_FIELDS,
    DEPTH,
    ROWS,
    SMALL_WORK,
    VECTORS,
    Matrix,
    multiply_block,
    packing_cost,
    panel_elements,
    product_cost,
    right_fields,
)
from pycnn_kernels.cpu.host import item_bytes, lanes
from pycnn_kernels.cpu.inlined import inlined
from pycnn_kernels.cpu.launch import Task, kernel, most_threads
from pycnn_kernels.cpu.tile import shift
from pycnn_kernels.problem import ConvProblem

COLUMN_FIELDS = BLOCK_FIELDS | {
    name: kind
    for kind, names in {
        "array": "x w dy scratch",
        "table": "d_positions h_positions w_positions",
        "int": "N D H W C R OD OH OW K L G KD KH KW stride_d stride_h stride_w dilation_d dilation_h dilation_w "
        "row_block row_blocks depth_block depth_blocks split_blocks part pitch panel_size scratch_size",
    }.items()
    for name in names.split()
}


@kernel(**COLUMN_FIELDS)
def im2col_kernel(a, item, worker):
    """``dst[p, l] = sum over taps t and channels r of x[p * stride + t, r] * w[t, r, l]``, finished.

    x (N, D, H, W, C), w (T, R, K) and dst (N, OD, OH, OW, K), channels last; the tables say which pixel of x each
    position shows, -1 for a zero. A piece of work is a group and ``row_block`` pixels; its sums of T * R products go in
    chunks of ``depth_block``. Bits repeat: the chunks depend on the problem alone.
    """
    block, group = item % a.row_blocks, item // a.row_blocks
    panel = shift(a.scratch, worker * a.scratch_size)
    columns = shift(panel, a.panel_size)
    first = block * a.row_block
    rows = min(a.row_block, a.N * a.OD * a.OH * a.OW - first)
    to = first * a.K + group * a.L
    for chunk in range(a.depth_blocks):
        at = chunk * a.depth_block
        depth = min(a.depth_block, a.KD * a.KH * a.KW * a.R - at)
        _read_columns(a, group, first, rows, at, depth, columns)
        multiply_block(
            a, (columns, a.pitch, 1), (shift(a.w, at * a.K + group * a.L), at), panel, shift(a.dst, to),
            (rows, a.L, depth), (first, group * a.L), chunk == 0, chunk == a.depth_blocks - 1,
        )  # fmt: skip
    if a.finish:
        for i in range(rows):
            call_finish(a, to + i * a.K, group * a.L, a.L)


@kernel(**COLUMN_FIELDS)
def im2col_weight_gradient_kernel(a, item, worker):
    """``dst[t, r, l] = sum over pixels p of x[p * stride + t, r] * dy[p, l]``, as :func:`im2col_kernel` has the arrays.

    Pieces of work: split of the pixels, group, ``row_block`` of the T * R rows of dw. Split s has ``split_blocks``
    chunks of ``depth_block`` pixels, and writes to ``dst[s * part:]``. Bits repeat: the splits depend on the problem
    alone.
    """
    block, group = item % a.row_blocks, item // a.row_blocks % a.G
    split = item // (a.row_blocks * a.G)
    panel = shift(a.scratch, worker * a.scratch_size)
    columns = shift(panel, a.panel_size)
    row = block * a.row_block
    rows = min(a.row_block, a.KD * a.KH * a.KW * a.R - row)
    to = split * a.part + row * a.K + group * a.L
    begin = split * a.split_blocks
    end = min(begin + a.split_blocks, a.depth_blocks)
    for chunk in range(begin, end):
        first = chunk * a.depth_block
        depth = min(a.depth_block, a.N * a.OD * a.OH * a.OW - first)
        _read_columns(a, group, first, depth, row, rows, columns)
        multiply_block(
            a, (columns, 1, a.pitch), (shift(a.dy, first * a.K + group * a.L), first), panel, shift(a.dst, to),
            (rows, a.L, depth), (row, group * a.L), chunk == begin, chunk == end - 1,
        )  # fmt: skip


@inlined
def _read_columns(a, group, first, pixels, at, count, columns):
    """``columns[i, j] = x[window of pixel first + i, at + j]`` for i < pixels, j < count.

    The elements of a window are the channels of tap 0, those of tap 1 and so on.
    """
    for i in range(pixels):
        n, d, h, w = _pixel(a, first + i)
        to = shift(columns, i * a.pitch)
        j = 0
        while j < count:
            tap, channel = (at + j) // a.R, (at + j) % a.R
            length = min(a.R - channel, count - j)
            there = _shown(a, n, d, h, w, tap)
            if there >= 0:
                source = shift(a.x, there + group * a.R + channel)
                for r in range(length):
                    to[j + r] = source[r]
            else:
                for r in range(length):
                    to[j + r] = 0
            j += length


@inlined
def _pixel(a, pixel):
    """The image of an output pixel, and where its window begins."""
    w, line = pixel % a.OW * a.stride_w, pixel // a.OW
    h, plane = line % a.OH * a.stride_h, line // a.OH
    return plane // a.OD, plane % a.OD * a.stride_d, h, w


@inlined
def _shown(a, n, d, h, w, tap):
    """The first element of the pixel of x that a tap shows, seen from the window at (d, h, w); -1 for a zero."""
    kw, line = tap % a.KW, tap // a.KW
    d = a.d_positions[d + line // a.KH * a.dilation_d]
    h = a.h_positions[h + line % a.KH * a.dilation_h]
    w = a.w_positions[w + kw * a.dilation_w]
    if d < 0 or h < 0 or w < 0:
        return -1
    return (((n * a.D + d) * a.H + h) * a.W + w) * a.C


@kernel(**COLUMN_FIELDS)
def col2im_kernel(a, item, worker):
    """``dx[p * stride + t, r] = sum over p, t and filters l of dy[p, l] * w[t, l, r]``.

    ``x`` is dx (N, D, H, W, C), ``dy`` (N, OD, OH, OW, K), channels last, ``w`` (T, K, R) with the taps in reverse. A
    piece of work is an image, a group and ``row_block`` channels: for each chunk of ``depth_block`` pixels and each tap
    it computes columns and adds them to dx, so bits repeat.
    """
    block, group, n = item % a.row_blocks, item // a.row_blocks % a.G, item // (a.row_blocks * a.G)
    panel = shift(a.scratch, worker * a.scratch_size)
    columns = shift(panel, a.panel_size)
    channel = block * a.row_block
    channels, first_channel = min(a.row_block, a.R - channel), group * a.R + channel
    for pixel in range(n * a.D * a.H * a.W, (n + 1) * a.D * a.H * a.W):
        to = shift(a.x, pixel * a.C + first_channel)
        for c in range(channels):
            to[c] = 0
    taps, pixels = a.KD * a.KH * a.KW, a.OD * a.OH * a.OW
    for at in range(0, pixels, a.depth_block):
        first, rows = n * pixels + at, min(a.depth_block, pixels - at)
        for tap in range(taps):
            w = shift(a.w, ((taps - 1 - tap) * a.K + group * a.L) * a.R + channel)
            for k in range(0, a.L, DEPTH):
                depth = min(DEPTH, a.L - k)
                left = (shift(a.dy, first * a.K + group * a.L + k), a.K, 1)
                multiply_block(
                    a, left, (shift(w, k * a.R), k), panel, columns, (rows, channels, depth), (0, 0),
                    k == 0, k + DEPTH >= a.L,
                )  # fmt: skip
            _add_columns(a, first, rows, tap, first_channel, channels, columns)


@inlined
def _add_columns(a, first, pixels, tap, channel, channels, columns):
    """Add what a tap's columns hold to the pixels of dx that it shows."""
    for i in range(pixels):
        n, d, h, w = _pixel(a, first + i)
        there = _shown(a, n, d, h, w, tap)
        if there >= 0:
            source, to = shift(columns, i * a.pitch), shift(a.x, there + channel)
            for c in range(channels):
                to[c] += source[c]


#: Bytes of a block of columns, in the second-level cache beside a panel of weights.
_BLOCK_BYTES = 512 * 1024
#: Pieces of work at least, for threads to share.
_PIECES = 16


class _Columns:
    """What the three kernels share: geometry, room for a block of columns and a panel, the task."""

    def __init__(self, p: ConvProblem, scratch: Scratch, pitch: int, rows: int, panel_depth: int):
        positions = shown_positions(p)
        line = 64 // item_bytes(p.dtype)
        # A line more than there is: distances of a power of two would share cache sets.
        self.pitch = -(-pitch // line) * line + line
        self.panel_size = panel_elements(panel_depth, p.dtype)
        self.each = self.panel_size + rows * self.pitch
        self.scratch_at = scratch.reserve(most_threads() * self.each)
        (D, H, W), (OD, OH, OW), (KD, KH, KW) = p.size, p.output, p.kernel
        self.fields = {
            "d_positions": positions[0], "h_positions": positions[1], "w_positions": positions[2],
            "N": p.N, "D": D, "H": H, "W": W, "C": p.C, "R": p.C // p.G,
            "OD": OD, "OH": OH, "OW": OW, "K": p.K, "L": p.K // p.G, "G": p.G, "KD": KD, "KH": KH, "KW": KW,
            "stride_d": p.stride[0], "stride_h": p.stride[1], "stride_w": p.stride[2],
            "dilation_d": p.dilation[0], "dilation_h": p.dilation[1], "dilation_w": p.dilation[2],
            "pitch": self.pitch, "panel_size": self.panel_size, "scratch_size": self.each,
        }  # fmt: skip


def _blocks(size: int, most: int, step: int = 1) -> tuple[int, int]:
    """Divide ``size`` into equal blocks of at most about ``most``, in whole steps: elements of a block, and blocks."""
    count = max(-(-size // most), 1)
    block = max(-(-size // (count * step)), 1) * step
    return block, -(-size // block)


class _Im2col:
    """The core of the forward."""

    def __init__(self, p: ConvProblem, forward: bool, scratch: Scratch):
        depth, pixels = math.prod(p.kernel) * (p.C // p.G), p.N * math.prod(p.output)
        depth_block, depth_blocks = _blocks(depth, DEPTH)
        depth_blocks = max(depth_blocks, 1)
        most = min(_BLOCK_BYTES // (max(depth_block, 1) * item_bytes(p.dtype)), max(pixels * p.G // _PIECES, 16 * ROWS))
        row_block, row_blocks = _blocks(pixels, max(most, ROWS), ROWS)
        columns = _Columns(p, scratch, depth_block, row_block, depth_block)
        self._scratch_at = columns.scratch_at
        self._multiply = Task(
            im2col_kernel, p.dtype, row_blocks * p.G, f"x w dst scratch {EPILOGUE_ARRAYS}",
            parallel=p.multiply_adds > SMALL_WORK, dst_row=p.K, **right_fields(Matrix(p.K, 1), depth_block, p.dtype),
            row_block=row_block, row_blocks=row_blocks, depth_block=depth_block, depth_blocks=depth_blocks,
            **columns.fields, **epilogue_fields(p, forward),
        )  # fmt: skip

    def run(self, base: int, src: int, w: int, epilogue: Epilogue, dst: int) -> None:
        self._multiply.run(src, w, dst, base + self._scratch_at, *epilogue)


class Im2colForward(Forward):
    """``y = activation(x * w + b)``."""

    make_core = _Im2col


class _Col2im:
    """The core of the input gradient."""

    def __init__(self, p: ConvProblem, forward: bool, scratch: Scratch):
        width = VECTORS * lanes(p.dtype)
        R, pixels = p.C // p.G, math.prod(p.output)
        channel_block, channel_blocks = _blocks(R, 4 * width, width)
        pixel_block, _ = _blocks(pixels, _BLOCK_BYTES // (channel_block * item_bytes(p.dtype)), ROWS)
        depth = min(p.K // p.G, DEPTH)
        columns = _Columns(p, scratch, channel_block, pixel_block, depth)
        self._scratch_at = columns.scratch_at
        self._multiply = Task(
            col2im_kernel, p.dtype, p.N * p.G * channel_blocks, "dy w x scratch",
            parallel=p.multiply_adds > SMALL_WORK, dst_row=columns.pitch,
            **right_fields(Matrix(R, 1), depth, p.dtype),
            row_block=channel_block, row_blocks=channel_blocks, depth_block=pixel_block, **columns.fields,
        )  # fmt: skip

    def run(self, base: int, src: int, w: int, epilogue: Epilogue, dst: int) -> None:
        self._multiply.run(src, w, dst, base + self._scratch_at)


class Im2colInputGradient(InputGradient):
    """``dx`` from ``dy`` and ``w``."""

    make_core = _Col2im


class _Im2colWeightGradient:
    """The core of the weight gradient."""

    def __init__(self, p: ConvProblem, scratch: Scratch):
        rows, pixels = math.prod(p.kernel) * (p.C // p.G), p.N * math.prod(p.output)
        depth_block, depth_blocks = _blocks(pixels, DEPTH)
        depth_blocks = max(depth_blocks, 1)  # a sum of nothing
        row_block, row_blocks = _blocks(rows, _BLOCK_BYTES // (depth_block * item_bytes(p.dtype)), ROWS)
        split_blocks, splits = split(depth_blocks, 1, -(-_PIECES // max(row_blocks * p.G, 1)))
        columns = _Columns(p, scratch, row_block, depth_block, depth_block)
        self._scratch_at = columns.scratch_at
        size = math.prod(p.w_shape)
        self._multiply = Task(
            im2col_weight_gradient_kernel, p.dtype, splits * row_blocks * p.G, "x dy dst scratch",
            parallel=p.multiply_adds > SMALL_WORK, dst_row=p.K, **right_fields(Matrix(p.K, 1), depth_block, p.dtype),
            row_block=row_block, row_blocks=row_blocks, depth_block=depth_block, depth_blocks=depth_blocks,
            split_blocks=split_blocks, part=size, **columns.fields,
        )  # fmt: skip
        self._parts = Parts(splits, size, scratch)

    def run(self, base: int, x: int, dy: int, dw: int) -> None:
        self._multiply.run(x, dy, self._parts.place(base, dw), base + self._scratch_at)
        self._parts.add(base, dw)


class Im2colWeightGradient(WeightGradient):
    """``dw`` from ``x`` and ``dy``."""

    make_core = _Im2colWeightGradient


def im2col_supports(p: ConvProblem) -> str | None:
    """None for a problem that im2col can do, otherwise the reason why not."""
    return continuation_fits(p)


def im2col_suits_forward(p: ConvProblem) -> str | None:
    """None where direct convolution reads its weights from too few cache sets, otherwise why it is the faster one."""
    if math.prod(p.kernel) == 1:
        return "kernels of more than one element"
    if p.G > 1 or p.K * item_bytes(p.dtype) % 1024 or p.C * math.prod(p.kernel) < 2048:
        return (
            "a multiple of 1,024 bytes of filters and sums of 2,048 products in one group; "
            f"received {p.K * item_bytes(p.dtype):,} and {p.C // p.G * math.prod(p.kernel):,} in {p.G}"
        )
    return None


def im2col_suits_weight_gradient(p: ConvProblem) -> str | None:
    """None for a problem with many channels, otherwise the reason why direct convolution is faster."""
    if math.prod(p.kernel) == 1:
        return "kernels of more than one element"
    if p.G > 1 or min(p.C, p.K) < _MANY_CHANNELS:
        return f"at least {_MANY_CHANNELS} channels and filters in one group; received {p.C} and {p.K} in {p.G}"
    return None


def im2col_suits_input_gradient(p: ConvProblem) -> str | None:
    """It is there by name: direct convolution has no columns to add up."""
    return "to be asked for by name: adding columns up costs more than direct convolution's gathering"


#: Channels whose columns of one tap are worth reading.
_MANY_CHANNELS = 128


def im2col_cost_forward(p: ConvProblem) -> float:
    """The expected time of the forward; see ``cost.py`` for the unit."""
    depth, pixels = math.prod(p.kernel) * (p.C // p.G), p.N * math.prod(p.output)
    columns = min(depth, DEPTH)
    block = min(_BLOCK_BYTES // max(columns * item_bytes(p.dtype), 1), max(pixels * p.G // _PIECES, 16 * ROWS))
    packed = packing_cost(p.K // p.G, depth, p.dtype) * max(pixels / block, 1)
    product = product_cost(pixels, p.K // p.G, depth, p.dtype)
    return p.G * (product + packed) + _columns_cost(p) + layout_cost(p)


def im2col_cost_input_gradient(p: ConvProblem) -> float:
    """The expected time of the input gradient."""
    R, L, T, pixels = p.C // p.G, p.K // p.G, math.prod(p.kernel), p.N * math.prod(p.output)
    product = product_cost(pixels, R, L, p.dtype) + packing_cost(R, L, p.dtype) * max(pixels // 512, p.N)
    return p.G * T * product + 2 * _columns_cost(p) + layout_cost(p, turns_weights=True)


def im2col_cost_weight_gradient(p: ConvProblem) -> float:
    """The expected time of the weight gradient."""
    rows, pixels = math.prod(p.kernel) * (p.C // p.G), p.N * math.prod(p.output)
    block = max(_BLOCK_BYTES // (max(min(pixels, DEPTH), 1) * item_bytes(p.dtype)), 1)
    packed = packing_cost(p.K // p.G, pixels, p.dtype) * max(rows / block, 1)
    return p.G * (product_cost(rows, p.K // p.G, pixels, p.dtype) + packed) + _columns_cost(p) + layout_cost(p)


def _columns_cost(p: ConvProblem) -> float:
    """Of writing columns: every tap of every pixel is looked up, and its channels copied."""
    taps = p.N * math.prod(p.output) * math.prod(p.kernel) * p.G
    return taps * (60 + 9 * vectors(p.C // p.G, p.dtype))
