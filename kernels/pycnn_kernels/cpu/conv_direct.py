"""Direct convolution on the register tile, channels last: no im2col buffer, weights unpacked.

Forward and input gradient are one kernel, :func:`gather_kernel`: each pixel of the target gathers, over a
list of taps, rows of channels of the source times a matrix of weights. The forward has one list. The input
gradient of a convolution with stride S has one list for each of the S x S classes of target pixels that meet
the same taps (its "phases"), so no product with an inserted zero is ever formed.

The tile's rows are consecutive target pixels, wherever they lie: a table holds the offset of each row's
source pixel, as in the indirect convolution of Dukhan ("The Indirect Convolution Algorithm", 2019), but one
table serves all taps of a tile, and only tiles that touch the padding get a table per tap, in which rows
outside the source point at zeros. So a 4x4 map fills the tile as well as a 224x224 map.

The weight gradient is :func:`weight_gradient_kernel`: the tile is a block of dw, accumulated over pixels.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from numba import njit

from pycnn_kernels.cpu.elementwise import sum_parts
from pycnn_kernels.cpu.host import SIMD, lanes
from pycnn_kernels.cpu.launch import kernel, launch
from pycnn_kernels.cpu.layout import pad_kernel, to_channels_first, to_channels_last, transpose
from pycnn_kernels.cpu.tile import (
    lanes_of,
    local_table,
    tile_fill_rows,
    tile_load,
    tile_multiply_add,
    tile_relu,
    tile_store,
    tile_store_rows,
    tile_zeros,
    tile_zeros_like,
)
from pycnn_kernels.cpu.workspace import aligned_bytes, workspace
from pycnn_kernels.problem import ConvProblem, Triple

ROWS = SIMD.tile_rows
GRADIENT_ROWS = SIMD.gradient_tile_rows

# A phase in the table of phases: its first piece of work; its grid (d, h, w) of target pixels and their first
# coordinates; its first tap and their number; its first segment and their number; the least and greatest
# offset of its taps along d, h and w.
PHASE_FIELDS = 17
# A tap: its offset along d, h, w; the same as source elements; the offset of its weights.
TAP_FIELDS = 5
# A segment: its offset in source elements; its length; the offset of its weights.
SEGMENT_FIELDS = 3


@kernel(
    src="array", w="array", bias="array", dst="array", phases="table", taps="table", segments="table",
    phase_count="int", zeros="int", has_bias="int", relu="int",
    N="int", SD="int", SH="int", SW="int", SC="int", R="int",
    TD="int", TH="int", TW="int", TC="int", L="int", G="int",
    source_step_d="int", source_step_h="int", source_step_w="int",
    target_step_d="int", target_step_h="int", target_step_w="int",
    w_row="int", w_group="int", blocks="int", chunk="int",
)  # fmt: skip
def gather_kernel(a, item, worker):
    """``dst[p, l] = bias[l] + sum over taps t, channels r of src[p * source_step + offset(t), r] * w[t, r, l]``.

    src (N, SD, SH, SW, SC) and dst (N, TD, TH, TW, TC), channels last; group g reads R channels of the source
    from g * R and writes L channels from g * L. A row of weights is ``w_row`` elements long, a group's weights
    begin ``w_group`` elements after the last one's. ``zeros`` is the offset, from src, of R zeros. Pieces of
    work: phase, chunk of pixels, group, block of two vectors of columns. Bits repeat: a target element is
    summed by one piece, in the order of the taps.
    """
    phase = 0
    while phase + 1 < a.phase_count and item >= a.phases[(phase + 1) * PHASE_FIELDS]:
        phase += 1
    item -= a.phases[phase * PHASE_FIELDS]
    block = item % a.blocks
    group = item // a.blocks % a.G
    first = item // (a.blocks * a.G) * a.chunk
    lane_count = lanes_of(a.src)
    column = block * 2 * lane_count
    width = min(2 * lane_count, a.L - column)
    if width == 2 * lane_count:
        _gather_tiles(a, phase, first, group, column, tile_zeros(a.src, ROWS, 2), None)
    else:
        _gather_tiles(a, phase, first, group, column, tile_zeros(a.src, ROWS, 1), width)
        if width > lane_count:
            column += lane_count
            _gather_tiles(a, phase, first, group, column, tile_zeros(a.src, ROWS, 1), width - lane_count)


@njit(error_model="numpy")
def _gather_tiles(a, phase, first, group, column, blank, edge):
    """The tiles of one chunk of pixels and one block of columns, which ``edge`` cuts off unless it is None."""
    rows, masked = local_table(ROWS), local_table(ROWS)
    outs = local_table(ROWS)
    ds, hs, ws = local_table(ROWS), local_table(ROWS), local_table(ROWS)
    ph = phase * PHASE_FIELDS
    GD, GH, GW = a.phases[ph + 1], a.phases[ph + 2], a.phases[ph + 3]
    d0, h0, w0 = a.phases[ph + 4], a.phases[ph + 5], a.phases[ph + 6]
    d_least, d_greatest = a.phases[ph + 11], a.phases[ph + 12]
    h_least, h_greatest = a.phases[ph + 13], a.phases[ph + 14]
    w_least, w_greatest = a.phases[ph + 15], a.phases[ph + 16]
    last = min(first + a.chunk, a.N * GD * GH * GW)
    weights = group * a.w_group + column
    # Coordinates of the next pixel in the phase's grid, stepped instead of divided.
    n, rest = first // (GD * GH * GW), first % (GD * GH * GW)
    d, rest = rest // (GH * GW), rest % (GH * GW)
    h, w = rest // GW, rest % GW
    for tile_start in range(first, last, ROWS):
        count = min(ROWS, last - tile_start)
        inside = True
        for m in range(ROWS):
            if m < count:
                sd, sh, sw = d * a.source_step_d, h * a.source_step_h, w * a.source_step_w
                ds[m], hs[m], ws[m] = sd, sh, sw
                rows[m] = (((n * a.SD + sd) * a.SH + sh) * a.SW + sw) * a.SC + group * a.R
                td, th, tw = d0 + d * a.target_step_d, h0 + h * a.target_step_h, w0 + w * a.target_step_w
                outs[m] = (((n * a.TD + td) * a.TH + th) * a.TW + tw) * a.TC + group * a.L + column
                inside &= sd + d_least >= 0 and sd + d_greatest < a.SD
                inside &= sh + h_least >= 0 and sh + h_greatest < a.SH
                inside &= sw + w_least >= 0 and sw + w_greatest < a.SW
                w += 1
                if w == GW:
                    w = 0
                    h += 1
                    if h == GH:
                        h = 0
                        d += 1
                        if d == GD:
                            d = 0
                            n += 1
            else:  # rows beyond the last pixel repeat it; they are not stored
                ds[m], hs[m], ws[m] = ds[m - 1], hs[m - 1], ws[m - 1]
                rows[m] = rows[m - 1]
        acc = blank
        if a.has_bias:
            acc = tile_fill_rows(acc, a.bias, group * a.L + column, edge)
        if inside:
            for s in range(a.phases[ph + 9], a.phases[ph + 9] + a.phases[ph + 10]):
                offset = a.segments[s * SEGMENT_FIELDS]
                b = weights + a.segments[s * SEGMENT_FIELDS + 2]
                for r in range(offset, offset + a.segments[s * SEGMENT_FIELDS + 1]):
                    acc = tile_multiply_add(acc, a.src, r, rows, a.w, b, edge)
                    b += a.w_row
        else:
            for t in range(a.phases[ph + 7], a.phases[ph + 7] + a.phases[ph + 8]):
                dd, dh, dw = a.taps[t * TAP_FIELDS], a.taps[t * TAP_FIELDS + 1], a.taps[t * TAP_FIELDS + 2]
                offset = a.taps[t * TAP_FIELDS + 3]
                touched = False
                for m in range(ROWS):
                    exists = 0 <= ds[m] + dd < a.SD and 0 <= hs[m] + dh < a.SH and 0 <= ws[m] + dw < a.SW
                    masked[m] = rows[m] + offset if exists else a.zeros
                    touched |= exists
                if touched:
                    b = weights + a.taps[t * TAP_FIELDS + 4]
                    for r in range(a.R):
                        acc = tile_multiply_add(acc, a.src, r, masked, a.w, b, edge)
                        b += a.w_row
        if a.relu:
            acc = tile_relu(acc)
        tile_store_rows(acc, a.dst, 0, outs, count, edge)


#: Pixels whose rows of x and dy stay in the first-level cache while the tiles of a block pass over them.
PIXELS = 256
# A segment of dw: the offset of its taps along d, h and w; the rows of dw that it has; its offset in dw.
GRADIENT_SEGMENT_FIELDS = 5


@kernel(
    x="array", dy="array", dw="array", segments="table", segment_count="int",
    N="int", D="int", H="int", W="int", C="int", R="int",
    OD="int", OH="int", OW="int", K="int", L="int", G="int",
    stride_d="int", stride_h="int", stride_w="int",
    blocks="int", split_pixels="int", part="int",
)  # fmt: skip
def weight_gradient_kernel(a, item, worker):
    """``dw[t, r, l] = sum over pixels p of x[p * stride + offset(t), r] * dy[p, l]``.

    x (N, D, H, W, C) and dy (N, OD, OH, OW, K), channels last; dw (T, R, K), R = C / G. A segment is one tap,
    or all taps of a row of the kernel, whose channels are neighbours in x. Pieces of work: split of the
    pixels, segment, group, block of two vectors of columns; split s writes its sum to ``dw[s * part:]``, for
    :func:`sum_parts` to add in order. Bits repeat: the splits depend on the problem alone.
    """
    block = item % a.blocks
    group = item // a.blocks % a.G
    segment = item // (a.blocks * a.G) % a.segment_count
    split = item // (a.blocks * a.G * a.segment_count)
    lane_count = lanes_of(a.x)
    column = block * 2 * lane_count
    width = min(2 * lane_count, a.L - column)
    xs, dys = local_table(PIXELS), local_table(PIXELS)
    first = split * a.split_pixels
    last = min(first + a.split_pixels, a.N * a.OD * a.OH * a.OW)
    fresh = True
    for chunk in range(first, max(last, first + 1), PIXELS):
        count = _list_pixels(a, chunk, min(chunk + PIXELS, last), segment, group, xs, dys)
        to = split * a.part + a.segments[segment * GRADIENT_SEGMENT_FIELDS + 4] + group * a.L + column
        height = a.segments[segment * GRADIENT_SEGMENT_FIELDS + 3]
        if width == 2 * lane_count:
            _add_block(a, xs, dys, count, column, height, to, fresh, tile_zeros(a.x, 1, 2), None)
        else:
            one = tile_zeros(a.x, 1, 1)
            _add_block(a, xs, dys, count, column, height, to, fresh, one, width)
            if width > lane_count:
                rest = width - lane_count
                _add_block(a, xs, dys, count, column + lane_count, height, to + lane_count, fresh, one, rest)
        fresh = False


@njit(error_model="numpy")
def _list_pixels(a, first, last, segment, group, xs, dys):
    """Offsets in x and dy of the pixels from first to last for which the segment lies inside x; their number."""
    s = segment * GRADIENT_SEGMENT_FIELDS
    dd, dh, dw = a.segments[s], a.segments[s + 1], a.segments[s + 2]
    count = 0
    pixel = first
    while pixel < last:
        ow = pixel % a.OW
        row = pixel // a.OW
        length = min(a.OW - ow, last - pixel)
        d = row // a.OH % a.OD * a.stride_d + dd
        h = row % a.OH * a.stride_h + dh
        n = row // (a.OH * a.OD)
        if 0 <= d < a.D and 0 <= h < a.H:
            # 0 <= ow * stride + dw < W, solved for ow.
            least = max(ow, -(dw // a.stride_w))
            most = min(ow + length - 1, (a.W - 1 - dw) // a.stride_w)
            x = (((n * a.D + d) * a.H + h) * a.W + least * a.stride_w + dw) * a.C + group * a.R
            dy = (pixel + least - ow) * a.K + group * a.L
            for i in range(most - least + 1):
                xs[count + i] = x + i * a.stride_w * a.C
                dys[count + i] = dy + i * a.K
            count += max(most - least + 1, 0)
        pixel += length
    return count


@njit(error_model="numpy")
def _add_block(a, xs, dys, count, column, height, to, fresh, one_row, edge):
    """Add ``count`` pixels to ``height`` rows of dw: in tiles of GRADIENT_ROWS rows, the rest in 4, 2 and 1."""
    r = 0
    while height - r >= GRADIENT_ROWS:
        blank = tile_zeros_like(one_row, GRADIENT_ROWS)
        _add_tile(a, xs, dys, count, column, r, to + r * a.K, fresh, blank, edge)
        r += GRADIENT_ROWS
    if GRADIENT_ROWS > 4 and height - r >= 4:
        _add_tile(a, xs, dys, count, column, r, to + r * a.K, fresh, tile_zeros_like(one_row, 4), edge)
        r += 4
    if height - r >= 2:
        _add_tile(a, xs, dys, count, column, r, to + r * a.K, fresh, tile_zeros_like(one_row, 2), edge)
        r += 2
    if height > r:
        _add_tile(a, xs, dys, count, column, r, to + r * a.K, fresh, one_row, edge)


@njit(error_model="numpy")
def _add_tile(a, xs, dys, count, column, r, to, fresh, blank, edge):
    """``dw[to + m * K:] += sum over i of x[xs[i] + r + m] * dy[dys[i] + column:]`` for the rows m of one tile."""
    acc = blank
    if not fresh:
        acc = tile_load(acc, a.dw, to, a.K, edge)
    for i in range(count):
        acc = tile_multiply_add(acc, a.x, xs[i] + r, None, a.dy, dys[i] + column, edge)
    tile_store(acc, a.dw, to, a.K, edge)


def column_blocks(columns: int, dtype: str) -> int:
    """Blocks of two vectors that cover ``columns``."""
    return -(-columns // (2 * lanes(dtype)))


@functools.lru_cache(maxsize=8)
def _zeros(dtype: str, size: int) -> np.ndarray:
    return np.zeros(size, dtype)


def _zero_row(dtype: str, size: int) -> int:
    """The address of ``size`` zeros that live as long as the process and are never written."""
    return _zeros(dtype, 1 << max(size - 1, 4095).bit_length()).ctypes.data


class Tap(NamedTuple):
    """One element of the kernel, as a target pixel sees it: where its source pixel lies, and its weights."""

    d: int
    h: int
    w: int
    weights: int


class Phase(NamedTuple):
    """Target pixels that meet the same taps: a grid of ``size`` pixels that begins at ``start``."""

    start: Triple
    size: Triple
    taps: list[Tap]


def _segments(taps: list[Tap], rows: int, width: int, fuse: bool) -> list[tuple[Tap, int]]:
    """Join taps that follow each other along w: their channels and their weights follow each other in memory.

    Args:
        taps: in the order of their weights.
        rows: channels of one tap.
        width: elements of weights in one row of channels.
        fuse: False keeps each tap alone.

    Returns:
        The first tap and the number of taps of each segment.
    """
    joined: list[tuple[Tap, int]] = []
    for tap in taps:
        if fuse and joined:
            first, count = joined[-1]
            follows = Tap(first.d, first.h, first.w + count, first.weights + count * rows * width)
            if tap == follows:
                joined[-1] = (first, count + 1)
                continue
        joined.append((tap, 1))
    return joined


class _Gather:
    """The tables and the argument block of one use of :func:`gather_kernel`."""

    def __init__(
        self,
        problem: ConvProblem,
        source: Triple,
        target: Triple,
        source_step: Triple,
        target_step: Triple,
        phases: list[Phase],
        forward: bool,
    ):
        C, K, G = problem.C, problem.K, problem.G
        SC, TC = (C, K) if forward else (K, C)
        R, L = SC // G, TC // G
        row = K if forward else L
        self.dtype = problem.dtype
        self.itemsize = 4 if problem.dtype == "float32" else 8
        self.zeros = _zero_row(problem.dtype, R)
        blocks = column_blocks(L, problem.dtype)

        def offset(tap: Tap) -> int:
            return ((tap.d * source[1] + tap.h) * source[2] + tap.w) * SC

        # As many pieces as make 64 of them, so that threads share the work evenly, but 4 to 32 tiles in each:
        # fewer would read the weights too often, more would leave the cache.
        tiles = sum(-(-problem.N * int(np.prod(phase.size)) // ROWS) for phase in phases)
        chunk = min(max(tiles * blocks * G // 64, 4), 32) * ROWS
        phase_table, tap_table, segment_table = [], [], []
        self.items = 0
        for phase in phases:
            pixels = problem.N * int(np.prod(phase.size))
            segments = _segments(phase.taps, R, row, fuse=G == 1)
            extents = [f([getattr(tap, axis) for tap in phase.taps] or [0]) for axis in "dhw" for f in (min, max)]
            phase_table.append(
                [self.items, *phase.size, *phase.start, len(tap_table), len(phase.taps)]
                + [len(segment_table), len(segments), *extents]
            )
            tap_table += [[tap.d, tap.h, tap.w, offset(tap), tap.weights] for tap in phase.taps]
            segment_table += [[offset(tap), count * R, tap.weights] for tap, count in segments]
            self.items += -(-pixels // chunk) * G * blocks
        # The block holds the addresses of the tables; keeping the arrays here keeps them alive.
        self._tables = [np.array(t or [[0]], np.int64) for t in (phase_table, tap_table, segment_table)]
        phases_at, taps_at, segments_at = (table.ctypes.data for table in self._tables)
        self.template = gather_kernel.block(
            phases=phases_at, taps=taps_at, segments=segments_at, phase_count=len(phases),
            has_bias=int(forward and problem.bias), relu=int(forward and problem.activation == "relu"),
            N=problem.N, SD=source[0], SH=source[1], SW=source[2], SC=SC, R=R,
            TD=target[0], TH=target[1], TW=target[2], TC=TC, L=L, G=G,
            source_step_d=source_step[0], source_step_h=source_step[1], source_step_w=source_step[2],
            target_step_d=target_step[0], target_step_h=target_step[1], target_step_w=target_step[2],
            w_row=row, w_group=L if forward else R * L, blocks=blocks, chunk=chunk,
        )  # fmt: skip
        self.parallel = problem.multiply_adds > _SMALL

    def launch(self, src: int, w: int, bias: int, dst: int) -> None:
        block = self.template.copy()
        block[_SRC], block[_W], block[_BIAS], block[_DST] = src, w, bias, dst
        block[_ZEROS] = (self.zeros - src) // self.itemsize
        launch(gather_kernel.entry(self.dtype), block, self.items, parallel=self.parallel)


_SRC, _W, _BIAS, _DST, _ZEROS = (gather_kernel.slot(name) for name in ("src", "w", "bias", "dst", "zeros"))
_X, _DY, _DW = (weight_gradient_kernel.slot(name) for name in ("x", "dy", "dw"))

#: Multiply-adds below which waking a second thread (3 us) costs more than it saves.
_SMALL = 200_000


def _taps(kernel: Triple) -> list[tuple[int, int, int]]:
    return [(kd, kh, kw) for kd in range(kernel[0]) for kh in range(kernel[1]) for kw in range(kernel[2])]


def _forward_phase(p: ConvProblem) -> Phase:
    """The one phase of a forward convolution; weights in HWIO."""
    taps = []
    for t, place in enumerate(_taps(p.kernel)):
        d, h, w = (k * D - before for k, D, (before, _) in zip(place, p.dilation, p.padding))
        taps.append(Tap(d, h, w, t * (p.C // p.G) * p.K))
    return Phase((0, 0, 0), p.output, taps)


def _input_gradient_phases(p: ConvProblem) -> list[Phase]:
    """The phases of an input gradient.

    Pixel i of x meets pixel ``o = (i + P - k * D) / S`` of y through the kernel's element k, where that
    division leaves no rest. The pixels ``i = start, start + S, ...`` meet the same elements k. Weights are
    packed in the reverse order of their elements, (reversed T, K, C / G), so that o rises with their offset.
    """
    axes = []
    for size, kernel, S, (before, _), D in zip(p.size, p.kernel, p.stride, p.padding, p.dilation):
        classes = []
        for start in range(min(S, size)):
            meets = [(k, (start + before - k * D) // S) for k in reversed(range(kernel))]
            meets = [(k, o) for k, o in meets if (start + before - k * D) % S == 0]
            classes.append((start, -(-(size - start) // S), meets))
        axes.append(classes)
    KD, KH, KW = p.kernel
    elements = p.K * (p.C // p.G)
    phases = []
    for d_start, d_size, d_meets in axes[0]:
        for h_start, h_size, h_meets in axes[1]:
            for w_start, w_size, w_meets in axes[2]:
                taps = [
                    Tap(od, oh, ow, (KD * KH * KW - 1 - ((kd * KH + kh) * KW + kw)) * elements)
                    for kd, od in d_meets
                    for kh, oh in h_meets
                    for kw, ow in w_meets
                ]
                phases.append(Phase((d_start, h_start, w_start), (d_size, h_size, w_size), taps))
    return phases


def _padded(p: ConvProblem) -> ConvProblem | None:
    """The problem on a zero-padded copy of x, where that copy is worth making.

    With few channels a tap alone is too short a sum for the tile; without padding the taps of a row of the
    kernel join into one segment. The copy costs little just because the channels are few.
    """
    few_channels = p.C < 8 and p.G == 1 and p.kernel[2] > 1 and p.dilation[2] == 1
    if not few_channels or not any(map(any, p.padding)):
        return None
    d, h, w = (size + before + after for size, (before, after) in zip(p.size, p.padding))
    return p._replace(size=(d, h, w), padding=((0, 0), (0, 0), (0, 0)))


class _Scratch:
    """Divides one workspace into named pieces."""

    def __init__(self, dtype: str):
        self.dtype, self.size = dtype, 0

    def reserve(self, elements: int) -> int:
        """The offset of room for ``elements``."""
        offset = self.size
        self.size += aligned_bytes(elements, self.dtype)
        return offset


class _ChannelsLastInput:
    """Brings x into channels last, and into its padded copy where the problem wants one."""

    def __init__(self, p: ConvProblem, scratch: _Scratch):
        self.problem = p
        self.padded = _padded(p)
        self.pixels = int(np.prod(p.size))
        self.transposed_at = scratch.reserve(p.N * p.C * self.pixels) if p.layout == "channels_first" else None
        if self.padded is not None:
            self.padded_at = scratch.reserve(p.N * p.C * int(np.prod(self.padded.size)))

    def prepare(self, x: int, base: int) -> int:
        """The address of the prepared x."""
        p = self.problem
        if self.transposed_at is not None:
            to_channels_last(p.dtype, x, base + self.transposed_at, p.N, p.C, self.pixels)
            x = base + self.transposed_at
        if self.padded is not None:
            (D, H, W), (PD, PH, PW) = p.size, self.padded.size
            (front, _), (top, _), (left, _) = p.padding
            to = base + self.padded_at
            block = pad_kernel.block(
                src=x, dst=to, C=p.C, D=D, H=H, W=W, PD=PD, PH=PH, PW=PW, front=front, top=top, left=left
            )
            launch(pad_kernel.entry(p.dtype), block, p.N * PD * PH)
            x = to
        return x


class DirectForward:
    """``y = activation(x * w + b)``."""

    def __init__(self, p: ConvProblem):
        self.problem = p
        scratch = _Scratch(p.dtype)
        self.input = _ChannelsLastInput(p, scratch)
        q = self.input.padded or p
        self.gather = _Gather(q, q.size, q.output, q.stride, (1, 1, 1), [_forward_phase(q)], forward=True)
        self.out_pixels = int(np.prod(p.output))
        self.w_at = scratch.reserve(int(np.prod(p.w_shape))) if p.weight_layout == "OIHW" else None
        self.y_at = scratch.reserve(p.N * p.K * self.out_pixels) if p.layout == "channels_first" else None
        self.workspace_bytes = scratch.size

    def run(self, x: int, w: int, b: int, y: int) -> None:
        p = self.problem
        base = workspace(self.workspace_bytes)
        x = self.input.prepare(x, base)
        if self.w_at is not None:
            R, T = p.C // p.G, int(np.prod(p.kernel))
            transpose(p.dtype, w, base + self.w_at, (R, p.K, T), (T, R * T), (p.K, R * p.K))
            w = base + self.w_at
        if self.y_at is None:
            self.gather.launch(x, w, b, y)
        else:
            self.gather.launch(x, w, b, base + self.y_at)
            to_channels_first(p.dtype, base + self.y_at, y, p.N, p.K, self.out_pixels)


class DirectInputGradient:
    """``dx`` from ``dy`` and ``w``: a gather over the weights, transposed and reversed in the workspace."""

    def __init__(self, p: ConvProblem):
        self.problem = p
        scratch = _Scratch(p.dtype)
        self.gather = _Gather(p, p.output, p.size, (1, 1, 1), p.stride, _input_gradient_phases(p), forward=False)
        self.w_at = scratch.reserve(int(np.prod(p.w_shape)))
        self.pixels, self.out_pixels = int(np.prod(p.size)), int(np.prod(p.output))
        first = p.layout == "channels_first"
        self.dy_at = scratch.reserve(p.N * p.K * self.out_pixels) if first else 0
        self.dx_at = scratch.reserve(p.N * p.C * self.pixels) if first else 0
        self.workspace_bytes = scratch.size

    def run(self, dy: int, w: int, dx: int) -> None:
        p = self.problem
        base = workspace(self.workspace_bytes)
        packed = base + self.w_at
        R, K, T = p.C // p.G, p.K, int(np.prod(p.kernel))
        last_tap = packed + (T - 1) * K * R * self.gather.itemsize
        if p.weight_layout == "HWIO":
            transpose(p.dtype, w, last_tap, (T, R, K), (R * K, K), (-K * R, R))
        else:
            transpose(p.dtype, w, last_tap, (K, R, T), (R * T, T), (R, -K * R))
        if p.layout == "channels_last":
            self.gather.launch(dy, packed, 0, dx)
        else:
            to_channels_last(p.dtype, dy, base + self.dy_at, p.N, K, self.out_pixels)
            self.gather.launch(base + self.dy_at, packed, 0, base + self.dx_at)
            to_channels_first(p.dtype, base + self.dx_at, dx, p.N, p.C, self.pixels)


class DirectWeightGradient:
    """``dw`` from ``x`` and ``dy``."""

    def __init__(self, p: ConvProblem):
        self.problem = p
        scratch = _Scratch(p.dtype)
        self.input = _ChannelsLastInput(p, scratch)
        q = self.input.padded or p
        R, L = q.C // q.G, q.K // q.G
        phase = _forward_phase(q)
        # Taps join only without padding along w, where all of them lie inside x for every pixel.
        segments = _segments(phase.taps, R, q.K, fuse=q.G == 1 and q.padding[2] == (0, 0))
        table = [[tap.d, tap.h, tap.w, count * R, tap.weights] for tap, count in segments]
        self._segment_table = np.array(table, np.int64)
        blocks = column_blocks(L, q.dtype)
        pixels = q.N * int(np.prod(q.output))
        self.size = int(np.prod(q.w_shape))
        chunks = -(-pixels // PIXELS)
        # Few blocks of dw: split the pixels until there are 32 pieces, whatever the number of threads.
        splits = max(1, min(chunks, -(-32 // (len(segments) * q.G * blocks))))
        split_pixels = -(-chunks // splits) * PIXELS
        self.splits = max(1, -(-pixels // max(split_pixels, 1)))
        self.items = self.splits * len(segments) * q.G * blocks
        self.template = weight_gradient_kernel.block(
            segments=self._segment_table.ctypes.data, segment_count=len(segments),
            N=q.N, D=q.size[0], H=q.size[1], W=q.size[2], C=q.C, R=R,
            OD=q.output[0], OH=q.output[1], OW=q.output[2], K=q.K, L=L, G=q.G,
            stride_d=q.stride[0], stride_h=q.stride[1], stride_w=q.stride[2],
            blocks=blocks, split_pixels=split_pixels, part=self.size,
        )  # fmt: skip
        self.out_pixels = int(np.prod(p.output))
        self.dy_at = scratch.reserve(p.N * p.K * self.out_pixels) if p.layout == "channels_first" else None
        self.parts_at = scratch.reserve(self.splits * self.size) if self.splits > 1 else None
        self.dw_at = scratch.reserve(self.size) if p.weight_layout == "OIHW" else None
        self.workspace_bytes = scratch.size

    def run(self, x: int, dy: int, dw: int) -> None:
        p = self.problem
        base = workspace(self.workspace_bytes)
        x = self.input.prepare(x, base)
        if self.dy_at is not None:
            to_channels_last(p.dtype, dy, base + self.dy_at, p.N, p.K, self.out_pixels)
            dy = base + self.dy_at
        result = dw if self.dw_at is None else base + self.dw_at
        parts = result if self.parts_at is None else base + self.parts_at
        block = self.template.copy()
        block[_X], block[_DY], block[_DW] = x, dy, parts
        launch(weight_gradient_kernel.entry(p.dtype), block, self.items, parallel=p.multiply_adds > _SMALL)
        if self.parts_at is not None:
            sum_parts(p.dtype, parts, result, self.splits, self.size)
        if self.dw_at is not None:
            R, T = p.C // p.G, int(np.prod(p.kernel))
            transpose(p.dtype, result, dw, (R, T, p.K), (p.K, R * p.K), (T, R * T))
