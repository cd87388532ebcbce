"""Convolution onto few channels: pixels take the lanes of the vectors.

The direct algorithm puts the channels of its target into the lanes; the 3 channels of an image, in the input
gradient of a first layer, leave 13 of 16 idle, and the 6 filters of LeNet leave 10. Here the tile's rows are the
channels of the target and its columns are neighbouring pixels: ``acc[l, pixel] += w[t, l, r] * src[r, pixel +
offset(t)]``. That needs the source with pixels as neighbours, so a band of its rows is transposed into planes in
the cache, one plane for each of its channels, with zeros around it. Rows of a plane follow each other without a
gap, and so do the pixels of a tile: it runs on from row to row, computing a few pixels between them that nobody
wants, instead of ending at each. The input gradient of a convolution with stride S has S x S phases of dx, as in
the direct algorithm, and each of them is such a plane.

A single channel of the target leaves a tile with one row, which reads a vector for each product, most of them across
two cache lines. So three neighbouring rows of a plane are computed together: they meet the same rows of the source, and
each vector that is read is multiplied up to three times.

The zeros around a plane take part in the products. So an infinite weight gives NaN at the border, as it does in
PyTorch, where the direct algorithm leaves the padding out.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from pycnn_kernels.cpu.conv_direct import SMALL_WORK
from pycnn_kernels.cpu.conv_frame import OneTask
from pycnn_kernels.cpu.epilogue import (
    EPILOGUE_ARRAYS,
    EPILOGUE_FIELDS,
    NO_EPILOGUE,
    Epilogue,
    call_finish,
    epilogue_fields,
    finish_pixels,
)
from pycnn_kernels.cpu.gather import needs_images, needs_zeros
from pycnn_kernels.cpu.host import SIMD, item_bytes, lanes
from pycnn_kernels.cpu.inlined import inlined
from pycnn_kernels.cpu.launch import Task, kernel, most_threads
from pycnn_kernels.cpu.layout import fill_planes, transpose_matrix
from pycnn_kernels.cpu.tile import (
    elements_between,
    lanes_of,
    local_table,
    prefetch_line,
    rows_of,
    shift,
    tile_fill_each,
    tile_multiply_add,
    tile_relu,
    tile_shape,
    tile_store,
    tile_zeros,
    vectors_of,
)
from pycnn_kernels.cpu.workspace import aligned_bytes, workspace
from pycnn_kernels.problem import ConvProblem, Triple, effective_kernel

MOST_CHANNELS = 10


def _vectors(rows: int) -> int:
    """Vectors of pixels in a tile of so many rows."""
    return max(min(SIMD.plane_vectors, SIMD.accumulators // rows), 1)


# Tiles have 1, 3, 4, 6, 8 or 10 rows; the last rows of a tile that is too tall repeat a channel, and are dropped.
V1, V3, V4, V6, V8, V10 = (_vectors(rows) for rows in (1, 3, 4, 6, 8, 10))

# Rows that are computed together where the target has one channel.
ROWS_TOGETHER = 3

# A phase: its first row and column in the target, its first tap and how many it has.
PHASE_FIELDS = 4
# A tap: its offset in a plane, and the offset of its weights.
TAP_FIELDS = 2


@kernel(
    **EPILOGUE_FIELDS, src="array", w="array", scratch="array", phases="table", taps="table",
    phase_count="int", channels_last="int",
    L="int", R="int", TH="int", TW="int", SH="int", SW="int",
    stride_h="int", stride_w="int", w_target="int", w_source="int",
    bands="int", band="int", grid_h="int", first_h="int", first_w="int",
    rows="int", width="int", plane="int", results="int", tile_rows="int", scratch_size="int", ahead="int",
    high="int", wide="int", line="int",
)  # fmt: skip
def few_channels_kernel(a, item, worker):
    """``dst[n, i, l] = sum over taps t and channels r of src[n, o(i, t), r] * w[t, l, r]``, finished.

    For a band of rows. src (N, SH, SW, R) and dst (N, TH, TW, L), or channels first. Element (t, l, r) of w lies
    ``w_target`` and ``w_source`` elements from its neighbours. A piece of work is one image's band of ``band`` rows of
    each phase. It uses ``scratch_size`` elements of scratch: R planes of ``rows`` x ``width``, each ``plane`` long,
    that begin at row ``first_h`` before the band's and at column ``first_w`` of src; then planes of results, each
    ``results`` long; then the weights, a tile's rows next to each other. Bits repeat: one piece sums an element,
    channel by channel, tap by tap.
    """
    n, first = item // a.bands, item % a.bands * a.band
    planes = shift(a.scratch, worker * a.scratch_size)
    results = shift(planes, a.R * a.plane)
    packed = shift(results, a.tile_rows * a.results)
    top = first + a.first_h
    fill_planes(a.src, a.channels_last, n, a.SH, a.SW, a.R, top, a.rows, a.first_w, a.width, planes, a.plane)
    height = min(a.band, a.grid_h - first)
    ahead = (n * a.SH + min(top + a.rows, a.SH)) * a.SW * a.R
    for phase in range(a.phase_count):
        _pack(a, phase, packed)
        if a.line != 0:
            together = height - height % ROWS_TOGETHER
            ahead = _rows_together(a, together, planes, results, packed, ahead, tile_shape(a.src, 1, V1))
            rest = shift(planes, together * a.width), shift(results, together * a.width)
            ahead = _phase(a, phase, height - together, rest[0], rest[1], packed, ahead, tile_shape(a.src, 1, V1))
        elif a.L == 1:
            ahead = _phase(a, phase, height, planes, results, packed, ahead, tile_shape(a.src, 1, V1))
        elif a.L <= 3:
            ahead = _phase(a, phase, height, planes, results, packed, ahead, tile_shape(a.src, 3, V3))
        elif a.L == 4:
            ahead = _phase(a, phase, height, planes, results, packed, ahead, tile_shape(a.src, 4, V4))
        elif a.L <= 6:
            ahead = _phase(a, phase, height, planes, results, packed, ahead, tile_shape(a.src, 6, V6))
        elif a.L <= 8:
            ahead = _phase(a, phase, height, planes, results, packed, ahead, tile_shape(a.src, 8, V8))
        else:
            ahead = _phase(a, phase, height, planes, results, packed, ahead, tile_shape(a.src, 10, V10))
        if a.finish:
            there = elements_between(a.dst, results)
            for c in range(a.L):
                call_finish(a, there + c * a.results, c, height * a.width)
        _write(a, n, phase, first, height, results)


@inlined
def _phase(a, phase, height, planes, results, packed, ahead, shape):
    """All pixels of one phase's band, the pixels between its rows included, into the planes of results.

    Meanwhile the rows of the source that the next piece will read, ``a.ahead`` cache lines for each channel of a
    tile from the element ``ahead`` on, come into the second-level cache. Returns where they go on.
    """
    channels = local_table(MOST_CHANNELS)
    for m in range(rows_of(shape)):
        channels[m] = min(m, a.L - 1)
    first_tap, taps = a.phases[phase * PHASE_FIELDS + 2], a.phases[phase * PHASE_FIELDS + 3]
    offsets = shift(a.taps, first_tap * TAP_FIELDS)
    src, R, plane, lines, has_bias, relu = a.src, a.R, a.plane, a.ahead, a.has_bias, a.relu
    for pixel in range(0, height * a.width, vectors_of(shape) * lanes_of(src)):
        acc = tile_zeros(shape)
        if has_bias:
            acc = tile_fill_each(acc, a.bias, 0, channels)
        w = 0
        for r in range(R):  # one plane after the other: its rows stay in the first-level cache for all taps
            for _ in range(lines):
                prefetch_line(src, ahead)
                ahead += lanes_of(src)
            b = pixel + r * plane
            for t in range(0, taps * TAP_FIELDS, TAP_FIELDS):
                acc = tile_multiply_add(acc, packed, w, None, planes, b + offsets[t], None)
                w += rows_of(shape)
        if relu:
            acc = tile_relu(acc)
        tile_store(acc, results, pixel, a.results, None)
    return ahead


@inlined
def _rows_together(a, height, planes, results, packed, ahead, shape):
    """As :func:`_phase` for the ``height`` rows of a single phase and a single channel, three at a time.

    Row i of the kernel lies ``a.line`` elements from row i - 1, downwards or upwards; in that direction the three rows
    are the first, the second and the third, so that the one behind meets a row of the source with the kernel's row
    before. Each sum has the order that it has in :func:`_phase`. The last tile of a row hangs over into the next row,
    whose first pixels it computes as that row does.
    """
    channels = local_table(1)
    channels[0] = 0
    src, R, plane, width, line, wide, has_bias, relu = (
        a.src, a.R, a.plane, a.width, a.line, a.wide, a.has_bias, a.relu,
    )  # fmt: skip
    begin = (1 - ROWS_TOGETHER) * min(line, 0)
    last = (a.high - 1) * wide
    for row in range(0, height, ROWS_TOGETHER):
        for column in range(0, width, vectors_of(shape) * lanes_of(src)):
            pixel = row * width + column + begin
            first, second, third = tile_zeros(shape), tile_zeros(shape), tile_zeros(shape)
            if has_bias:
                first = tile_fill_each(first, a.bias, 0, channels)
                second, third = first, first
            for r in range(R):
                for _ in range(ROWS_TOGETHER * a.ahead):
                    prefetch_line(src, ahead)
                    ahead += lanes_of(src)
                w, b = r * (last + wide), pixel + r * plane
                for t in range(wide):
                    there = b + a.taps[t * TAP_FIELDS]
                    first = tile_multiply_add(first, packed, w + t, None, planes, there, None)
                for t in range(wide):
                    there = b + line + a.taps[t * TAP_FIELDS]
                    first = tile_multiply_add(first, packed, w + wide + t, None, planes, there, None)
                    second = tile_multiply_add(second, packed, w + t, None, planes, there, None)
                for kh in range(2, a.high):
                    row_w = w + kh * wide
                    for t in range(wide):
                        there = b + kh * line + a.taps[t * TAP_FIELDS]
                        first = tile_multiply_add(first, packed, row_w + t, None, planes, there, None)
                        second = tile_multiply_add(second, packed, row_w - wide + t, None, planes, there, None)
                        third = tile_multiply_add(third, packed, row_w - 2 * wide + t, None, planes, there, None)
                for t in range(wide):
                    there = b + a.high * line + a.taps[t * TAP_FIELDS]
                    second = tile_multiply_add(second, packed, w + last + t, None, planes, there, None)
                    third = tile_multiply_add(third, packed, w + last - wide + t, None, planes, there, None)
                for t in range(wide):
                    there = b + (a.high + 1) * line + a.taps[t * TAP_FIELDS]
                    third = tile_multiply_add(third, packed, w + last + t, None, planes, there, None)
            if relu:
                first, second, third = tile_relu(first), tile_relu(second), tile_relu(third)
            tile_store(first, results, pixel, a.results, None)
            tile_store(second, results, pixel + line, a.results, None)
            tile_store(third, results, pixel + 2 * line, a.results, None)
    return ahead


@inlined
def _pack(a, phase, packed):
    """The weights of one phase in the order in which its tiles read them."""
    first_tap, taps = a.phases[phase * PHASE_FIELDS + 2], a.phases[phase * PHASE_FIELDS + 3]
    offsets = shift(a.taps, first_tap * TAP_FIELDS)
    to = 0
    for r in range(a.R):
        for t in range(taps):
            w = shift(a.w, offsets[t * TAP_FIELDS + 1] + r * a.w_source)
            for m in range(a.L):
                packed[to + m] = w[m * a.w_target]
            for m in range(a.L, a.tile_rows):
                packed[to + m] = w[(a.L - 1) * a.w_target]
            to += a.tile_rows


@inlined
def _write(a, n, phase, first, height, results):
    """One phase's band from the planes of results to the target."""
    start_h, start_w = a.phases[phase * PHASE_FIELDS], a.phases[phase * PHASE_FIELDS + 1]
    columns = -(-(a.TW - start_w) // a.stride_w)
    for r in range(height):
        h = start_h + (first + r) * a.stride_h
        if h < a.TH:
            row = shift(results, r * a.width)
            if a.channels_last:
                to = shift(a.dst, ((n * a.TH + h) * a.TW + start_w) * a.L)
                transpose_matrix(row, a.results, to, a.stride_w * a.L, a.L, columns)
            else:
                for c in range(a.L):
                    to = shift(a.dst, ((n * a.L + c) * a.TH + h) * a.TW + start_w)
                    for i in range(columns):
                        to[i * a.stride_w] = row[c * a.results + i]


class _Gather(NamedTuple):
    """A convolution onto few channels, whichever operation it is.

    Attributes:
        source, target: (channels, height, width).
        vertical, horizontal: for each start r < stride: (offset in the source, element of the kernel) of each tap
            that the target pixels r, r + stride, ... meet.
        stride: of the target's pixels that meet the same taps.
        w_target, w_source, w_tap: elements between neighbours in w along the target's channels, the source's, taps.
    """

    source: tuple[int, int, int]
    target: tuple[int, int, int]
    vertical: list[list[tuple[int, int]]]
    horizontal: list[list[tuple[int, int]]]
    stride: tuple[int, int]
    w_target: int
    w_source: int
    w_tap: int


def _weight_strides(p: ConvProblem) -> tuple[int, int, int]:
    """Elements between neighbours in w along the input channels, the filters and the taps."""
    taps = math.prod(p.kernel)
    return (p.K, 1, p.C * p.K) if p.weight_layout == "HWIO" else (taps, p.C * taps, 1)


def _forward_gather(p: ConvProblem) -> _Gather:
    (_, H, W), (_, OH, OW), (_, KH, KW) = p.size, p.output, p.kernel
    vertical = [[(k * p.dilation[1] - p.padding[1][0], k) for k in range(KH)]]
    horizontal = [[(k * p.dilation[2] - p.padding[2][0], k) for k in range(KW)]]
    w_source, w_target, w_tap = _weight_strides(p)
    return _Gather((p.C, H, W), (p.K, OH, OW), vertical, horizontal, (1, 1), w_target, w_source, w_tap)


def _input_gradient_gather(p: ConvProblem) -> _Gather:
    (_, H, W), (_, OH, OW), (_, KH, KW), (_, SH, SW) = p.size, p.output, p.kernel, p.stride
    vertical = _taps_along(KH, SH, p.padding[1][0], p.dilation[1])
    horizontal = _taps_along(KW, SW, p.padding[2][0], p.dilation[2])
    w_target, w_source, w_tap = _weight_strides(p)
    return _Gather((p.K, OH, OW), (p.C, H, W), vertical, horizontal, (SH, SW), w_target, w_source, w_tap)


def _taps_along(kernel: int, S: int, before: int, D: int) -> list[list[tuple[int, int]]]:
    """For each start r < S: (offset of the pixel of dy, element k of the kernel) that the pixels r, r + S, ... meet.

    Pixel i = r + j * S of dx meets pixel ``o = (i + P - k * D) / S = j + offset`` where that division leaves no rest.
    """
    return [[((r + before - k * D) // S, k) for k in range(kernel) if (r + before - k * D) % S == 0] for r in range(S)]


#: Bytes of planes that stay in the second-level cache beside the source and the results.
_PLANE_BYTES = 384 * 1024

#: Bytes of planes that a thread may take where a band of a single row exceeds that.
_MOST_PLANE_BYTES = 8 << 20


class _FewChannels(OneTask):
    """Tables and argument block of :func:`few_channels_kernel`."""

    def __init__(self, p: ConvProblem, g: _Gather, forward: bool):
        (R, SH, SW), (L, TH, TW), (stride_h, stride_w) = g.source, g.target, g.stride
        first_h, last_h = _extent(g.vertical)
        first_w, last_w = _extent(g.horizontal)
        grid_h, grid_w = -(-TH // stride_h), -(-TW // stride_w)
        width = grid_w + last_w - first_w
        itemsize = item_bytes(p.dtype)
        band = _PLANE_BYTES // (R * width * itemsize) - (last_h - first_h)
        bands = max(-(-grid_h // max(band, 1)), 1)
        band = -(-grid_h // bands)
        rows = band + last_h - first_h
        tile_rows = next(n for n in (1, 3, 4, 6, 8, 10) if n >= L)
        tile = _vectors(tile_rows) * lanes(p.dtype)
        plane, results = rows * width + tile, band * width + tile  # the last tile hangs over
        _, _, KW = p.kernel
        phases: list[list[int]] = []
        taps: list[list[int]] = []
        for r_h in range(min(stride_h, TH)):
            for r_w in range(min(stride_w, TW)):
                phases.append([r_h, r_w, len(taps), len(g.vertical[r_h]) * len(g.horizontal[r_w])])
                taps += [
                    [(oh - first_h) * width + ow - first_w, (kh * KW + kw) * g.w_tap]
                    for oh, kh in g.vertical[r_h]
                    for ow, kw in g.horizontal[r_w]
                ]
        high, wide = len(g.vertical[0]), len(g.horizontal[0])
        line = 0
        if rows_go_together(p, L, TW):
            line = (g.vertical[0][1][0] - g.vertical[0][0][0]) * width
        most_taps = max(phase[3] for phase in phases) if phases else 0
        self.worker_bytes = aligned_bytes(R * plane + tile_rows * (results + most_taps * R), p.dtype)
        self.workspace_bytes = self.worker_bytes * most_threads()
        # Cache lines of the next band's source, shared out among the steps that compute this band.
        steps = len(phases) * -(-band * width // tile) * R
        ahead = -(-band * SW * R // (lanes(p.dtype) * max(steps, 1))) if p.layout == "channels_last" else 0
        self.task = Task(
            few_channels_kernel, p.dtype, p.N * bands, f"src w dst scratch {EPILOGUE_ARRAYS}",
            parallel=p.multiply_adds > SMALL_WORK,
            phases=np.array(phases, np.int64), taps=np.array(taps or [[0, 0]], np.int64), phase_count=len(phases),
            **epilogue_fields(p, forward, finish_pixels),
            channels_last=int(p.layout == "channels_last"), L=L, R=R, TH=TH, TW=TW, SH=SH, SW=SW,
            stride_h=stride_h, stride_w=stride_w, w_target=g.w_target, w_source=g.w_source,
            bands=bands, band=band, grid_h=grid_h, first_h=first_h, first_w=first_w,
            rows=rows, width=width, plane=plane, results=results, tile_rows=tile_rows,
            scratch_size=self.worker_bytes // itemsize, ahead=ahead, high=high, wide=wide, line=line,
        )  # fmt: skip

    def arguments(
        self, base: Any, shared: int, src: Any, w: int, epilogue: tuple[Any, ...], dst: int
    ) -> tuple[Any, ...]:
        return (src, w, dst, base, *epilogue)

    def launch(self, src: int, w: int, epilogue: Epilogue, dst: int) -> None:
        self.task.run(*self.arguments(workspace(self.workspace_bytes), 0, src, w, epilogue, dst))


def rows_go_together(p: ConvProblem, L: int, target_width: int) -> bool:
    """Whether rows of a plane are computed together.

    Their tiles end with each row, instead of running on: what hangs over shall be at most a third of a row.
    """
    (_, KH, KW), (_, DH, DW) = p.kernel, p.dilation
    width, tile = target_width + effective_kernel(KW, DW) - 1, V1 * lanes(p.dtype)
    return L == 1 and p.stride[1:] == (1, 1) and KH > 1 and DH == 1 and 3 * -(-width // tile) * tile <= 4 * width


def _extent(taps: list[list[tuple[int, int]]]) -> tuple[int, int]:
    """The least and the greatest offset."""
    offsets = [offset for start in taps for offset, _ in start]
    return min(offsets), max(offsets)


class FewChannelsForward(_FewChannels):
    """``y = activation(scale * (x * w) + b)`` with few filters."""

    def __init__(self, p: ConvProblem):
        super().__init__(p, _forward_gather(p), forward=True)

    def run(self, x: int, w: int, b: int, scale: int, residual: int, y: int) -> None:
        self.launch(x, w, (b, scale, residual), y)


class FewChannelsInputGradient(_FewChannels):
    """``dx`` from ``dy`` and ``w`` with few input channels."""

    def __init__(self, p: ConvProblem):
        super().__init__(p, _input_gradient_gather(p), forward=False)

    def run(self, dy: int, w: int, dx: int) -> None:
        self.launch(dy, w, NO_EPILOGUE, dx)


def few_channels_supports_forward(p: ConvProblem) -> str | None:
    """None for a problem that :class:`FewChannelsForward` can do, otherwise the reason why not."""
    if p.stride[1:] != (1, 1):
        return f"stride 1; received {p.stride[1:]}"
    if p.residual:
        return "no residual to add: its results are planes until they are written"
    return _supports(p, p.K, p.C, "output channels")


def few_channels_supports_input_gradient(p: ConvProblem) -> str | None:
    """None for a problem that :class:`FewChannelsInputGradient` can do, otherwise the reason why not."""
    return _supports(p, p.C, p.K, "input channels")


def _supports(p: ConvProblem, channels: int, source_channels: int, what: str) -> str | None:
    if channels > MOST_CHANNELS or p.G > 1:
        return f"at most {MOST_CHANNELS} {what} in one group; received {channels} in {p.G}"
    if depth := needs_images(p):
        return depth
    band = _plane_bytes(p, source_channels)
    if band > _MOST_PLANE_BYTES:
        return f"planes of at most {_MOST_PLANE_BYTES >> 20} MB a thread; a band of one row takes {band >> 20}"
    return needs_zeros(p)


def few_channels_suits(p: ConvProblem) -> str | None:
    """None for a problem that this does faster than the direct algorithm."""
    if math.prod(p.kernel) < 2:
        return f"kernels of at least 2 taps, or the transposition costs too much; received {math.prod(p.kernel)}"
    return None


def _plane_bytes(p: ConvProblem, source_channels: int) -> int:
    """About the bytes of planes that a band of one row takes."""
    rows, columns = (
        -(-size // S) * (axis == 2) + -(-effective_kernel(kernel, D) // S) + 1
        for axis, (size, kernel, S, D) in enumerate(zip(p.size, p.kernel, p.stride, p.dilation))
        if axis > 0
    )
    return source_channels * rows * columns * item_bytes(p.dtype)


def few_channels_cost_forward(p: ConvProblem) -> float:
    """The expected time of the forward; see ``cost.py`` for the unit."""
    return _cost(p, p.K, p.C, p.output, p.size, math.prod(p.kernel))


def few_channels_cost_input_gradient(p: ConvProblem) -> float:
    """The expected time of the input gradient."""
    return _cost(p, p.C, p.K, p.size, p.output, math.prod(p.kernel) / math.prod(p.stride))


def _cost(p: ConvProblem, L: int, R: int, target: Triple, source: Triple, taps: float) -> float:
    """Products of a tile's rows with pixels, and bytes that become planes and come back from them."""
    pixels, source_pixels = math.prod(target), math.prod(source)
    rows = next(n for n in (1, 3, 4, 6, 8, 10) if n >= L)
    products = p.N * pixels * taps * R * rows / lanes(p.dtype)
    moved = 0.4 * source_pixels * R + 0.33 * pixels * L
    product = 0.8 if rows_go_together(p, L, target[2]) else 1.3
    return product * products + moved * p.N * item_bytes(p.dtype)
