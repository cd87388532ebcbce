"""Direct convolution: each thread adds up some neighbouring results in registers, straight from the arrays.

It takes every problem, so geometry is in tables and layouts are strides. Forward and input gradient are one *gather*
(see ``cpu/gather.py``): along each axis the pixels of the target fall into classes that meet the same taps, whatever
strides, dilations and ways of padding; a thread has a tile of pixels of one class times some channels of one group, and
goes through taps and source channels. Neighbouring threads have neighbouring channels in channels last, and
neighbouring pixels in channels first, so that they read and write neighbouring addresses; what all of them read, the
pixels or the weights, is one broadcast.

The weight gradient divides its sums over pixels into parts (see ``parts.py``). A thread adds up a tile of channels
times filters of one tap; in channels first neighbouring threads share a tile's pixels, in channels last they have
neighbouring filters.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import cuda, int64

from pycnn_kernels.cpu.gather import Axis, continuation_fits, gather_axes, shown_positions
from pycnn_kernels.cuda.device import current_device
from pycnn_kernels.cuda.epilogue import EPILOGUE_ARRAYS, EPILOGUE_FIELDS, epilogue, epilogue_constants
from pycnn_kernels.cuda.launch import THREADS, Task, blocks_for, counted, kernel
from pycnn_kernels.cuda.parts import Parts, divided, lane_sum
from pycnn_kernels.cuda.ptx import load4, quotient, remainder, shift, store4
from pycnn_kernels.cuda.reduce import WARP
from pycnn_kernels.problem import ConvProblem, Triple, numpy_dtype

#: Fields of a tile in a table, see :func:`axis_tiles`.
TILE_FIELDS = 6
START, SOURCE, FIRST_TAP, TAPS, SPREAD, PIXELS = range(TILE_FIELDS)

#: Pixels times channels of a gather's tile, the best first: products for each load, as long as there is work for all.
_TILES = ((4, 4), (4, 2), (4, 1), (1, 4), (1, 1))
#: Threads for each multiprocessor that a gather shall at least have, and products of a tile for each that is needed.
_ENOUGH, _MOST_WASTE = 512, 1.5

#: Threads of a gather's block, and blocks that a multiprocessor shall hold: the largest tile takes 156 registers of a
#: thread in float32, and 194 in float64.
_GATHER_THREADS, _RESIDENT = 128, {"float32": 3, "float64": 2}

#: Channels or filters of a thread in the weight gradient.
_ACROSS = (4, 2, 1)
#: Pixels of a line in the weight gradient at most.
_LINE = 256


# --- Arrays ---------------------------------------------------------------------------------------------------------


def array_strides(p: ConvProblem, channels: int, size: Triple, name: str) -> dict[str, int]:
    """The fields ``<name>_n``, ``_d``, ``_h``, ``_w`` and ``_c``: elements to the next image, pixel and channel."""
    D, H, W = size
    pixel, channel = (channels, 1) if p.layout == "channels_last" else (1, D * H * W)
    steps = {"n": channels * D * H * W, "d": H * W * pixel, "h": W * pixel, "w": pixel, "c": channel}
    return {f"{name}_{axis}": step for axis, step in steps.items()}


class WeightStrides(NamedTuple):
    """Elements of w from one tap, group, source channel and target channel of a group to the next."""

    tap: int
    group: int
    source: int
    target: int


class Roles(NamedTuple):
    """A convolution as a gather: from ``sources`` channels of ``source_size`` to ``targets`` of ``target_size``.

    ``weights`` are w's strides; the counts of channels are those of a group.
    """

    sources: int
    targets: int
    source_size: Triple
    target_size: Triple
    weights: WeightStrides


def roles(p: ConvProblem, forward: bool) -> Roles:
    """Who is gathered from, and for whom."""
    C, K, taps = p.C // p.G, p.K // p.G, math.prod(p.kernel)
    tap, c, k = (C * p.K, p.K, 1) if p.weight_layout == "HWIO" else (1, taps, C * taps)
    if forward:
        return Roles(C, K, p.size, p.output, WeightStrides(tap, K * k, c, k))
    return Roles(K, C, p.output, p.size, WeightStrides(tap, K * k, k, c))


@kernel(
    w="source", packed="array", size="int", columns="int", sources="int", targets="int",
    w_tap="int", w_group="int", w_source="int", w_target="int",
)  # fmt: skip
def pack_kernel(dtype: Any, threads: int) -> Any:
    """``packed[tap, source, target]`` from w, targets of all groups in one row. A thread for each element."""

    def body(a):
        i = cuda.blockIdx.x * threads + cuda.threadIdx.x
        if i < a.size:
            column, row = remainder(i, a.columns), quotient(i, a.columns)
            group, target = quotient(column, a.targets), remainder(column, a.targets)
            tap, source = quotient(row, a.sources), remainder(row, a.sources)
            a.packed[i] = a.w[tap * a.w_tap + group * a.w_group + source * a.w_source + target * a.w_target]

    return body


class PackedWeights:
    """w with neighbouring targets side by side for channels last, where neighbouring threads have them.

    Attributes:
        strides: of what :meth:`run` gives.
        workspace_bytes: of the copy; nothing where w itself will do.
    """

    def __init__(self, p: ConvProblem, forward: bool) -> None:
        role = roles(p, forward)
        tap, group, source, target = self.strides = role.weights
        side_by_side = (role.targets == 1 or target == 1) and (p.G == 1 or group == role.targets)
        usable = side_by_side or p.layout == "channels_first"
        columns = p.G * role.targets
        self._size = 0 if usable else math.prod(p.w_shape)
        self._dtype = numpy_dtype(p.dtype)
        self.workspace_bytes = self._size * self._dtype.itemsize
        if not usable:
            self.strides = WeightStrides(role.sources * columns, role.targets, columns, 1)
            self._pack = Task(
                pack_kernel.variant(p.dtype), blocks_for(self._size), "w packed", size=self._size, columns=columns,
                sources=role.sources, targets=role.targets, w_tap=tap, w_group=group, w_source=source, w_target=target,
            )  # fmt: skip

    def run(self, w: int) -> tuple[int, Any]:
        """The address of the weights, and what must be kept until their readers are launched."""
        if not self._size:
            return w, None
        device = current_device()
        memory = device.empty((self._size,), self._dtype)
        self._pack.run(w, device.address(memory))
        return device.address(memory), memory


# --- Forward and input gradient -------------------------------------------------------------------------------------


def axis_tiles(axis: Axis, pixels: int) -> np.ndarray:
    """The tiles of an axis: at most so many target pixels each, all of one class, in a table.

    The fields are the first pixel, what its taps are counted from, the first tap, the number of taps, how many pixels
    of the class lie between two of the tile, and how many pixels it has. Neighbouring tiles begin at neighbouring
    pixels: threads that have them access neighbouring addresses.
    """
    tables = [np.empty((0, TILE_FIELDS), np.int32)]
    for c in axis.classes:
        spread = -(-c.size // pixels)
        j = np.arange(spread)
        there = c.start + j * axis.target_step, c.source + j * axis.source_step
        same = (np.full_like(j, number) for number in (c.first, c.taps, spread))
        tables.append(np.stack((*there, *same, -(-(c.size - j) // spread)), axis=1).astype(np.int32))
    return np.concatenate(tables)


def axis_taps(axis: Axis, kernel: int, forward: bool) -> np.ndarray:
    """The taps of an axis, (offset in the source, element of the kernel), in a table."""
    return np.array([(offset, k if forward else kernel - 1 - k) for offset, k in axis.taps], np.int32)


_AXIS_FIELDS = {f"{axis}_{table}": "table" for axis in "dhw" for table in ("tiles", "taps")}
_SOURCE_STRIDES = {f"src_{axis}": "int" for axis in "ndhwc"}
_TARGET_STRIDES = {f"dst_{axis}": "int" for axis in "ndhwc"}
_WEIGHT_STRIDES = {f"w_{name}": "int" for name in WeightStrides._fields}


@kernel(
    src="source", w="source", dst="array", **EPILOGUE_FIELDS, **_AXIS_FIELDS, d_count="int", h_count="int",
    w_count="int", source_step="int", target_step="int", KH="int", KW="int", group_blocks="int", all_blocks="int",
    filters_first="int", filters_apart="int", sources="int", targets="int", count="int",
    **_SOURCE_STRIDES, **_TARGET_STRIDES, **_WEIGHT_STRIDES,
)  # fmt: skip
def gather_kernel(
    dtype: Any, threads: int, pixels: int, filters: int, channels_first: bool, wide: bool, **finish: Any
) -> Any:
    """``dst[n, i, t] = epilogue(sum over taps and source channels s of src[n, i + tap, s] * w[tap, s, t])``.

    A thread has ``pixels`` pixels along w times ``filters`` channels of a group, as far as they exist; in the place of
    others it computes its last ones again. A group's channels are divided into ``group_blocks``, those of all groups
    into ``all_blocks``: the block b of a group has its channels ``b * filters_first``, and others ``filters_apart``.
    ``wide``: four source channels are loaded at once, and the weights of the four neighbours that a block has; counts
    divide by 4. No sum is shared, so bits repeat.
    """
    finished = epilogue(dtype, **finish)
    zero, results, operands = dtype(0), pixels * filters, pixels * (4 if wide else 1)

    def body(a):
        thread = cuda.blockIdx.x * threads + cuda.threadIdx.x
        if thread < a.count:
            if channels_first:
                w_tile, rest = remainder(thread, a.w_count), quotient(thread, a.w_count)
            else:
                block, pixel = remainder(thread, a.all_blocks), quotient(thread, a.all_blocks)
                w_tile, rest = remainder(pixel, a.w_count), quotient(pixel, a.w_count)
            h_tile, rest = remainder(rest, a.h_count), quotient(rest, a.h_count)
            d_tile, image = remainder(rest, a.d_count), quotient(rest, a.d_count)
            if channels_first:
                block, image = remainder(image, a.all_blocks), quotient(image, a.all_blocks)
            d, h, w = d_tile * TILE_FIELDS, h_tile * TILE_FIELDS, w_tile * TILE_FIELDS
            group, channel = quotient(block, a.group_blocks), remainder(block, a.group_blocks) * a.filters_first
            last_filter = min(filters - 1, quotient(a.targets - 1 - channel, a.filters_apart))
            d_tap, h_tap, w_tap = a.d_tiles[d + FIRST_TAP], a.h_tiles[h + FIRST_TAP], a.w_tiles[w + FIRST_TAP]
            spread, last_pixel = a.w_tiles[w + SPREAD], a.w_tiles[w + PIXELS] - 1
            src_first = image * a.src_n + group * a.sources * a.src_c
            w_first = group * a.w_group + channel * a.w_target

            acc, values = cuda.local.array(results, dtype), cuda.local.array(operands, dtype)
            pixel_at, filter_at = cuda.local.array(pixels, int64), cuda.local.array(filters, int64)
            for i in range(results):
                acc[i] = zero
            for m in range(pixels):
                pixel_at[m] = min(m, last_pixel) * spread * a.source_step * a.src_w
            for f in range(filters):
                filter_at[f] = min(f, last_filter) * a.filters_apart * a.w_target
            for kd in range(d_tap, d_tap + a.d_tiles[d + TAPS]):
                at_d = src_first + (a.d_tiles[d + SOURCE] + a.d_taps[2 * kd]) * a.src_d
                for kh in range(h_tap, h_tap + a.h_tiles[h + TAPS]):
                    at_h = at_d + (a.h_tiles[h + SOURCE] + a.h_taps[2 * kh]) * a.src_h
                    line = (a.d_taps[2 * kd + 1] * a.KH + a.h_taps[2 * kh + 1]) * a.KW
                    for kw in range(w_tap, w_tap + a.w_tiles[w + TAPS]):
                        src = shift(a.src, at_h + (a.w_tiles[w + SOURCE] + a.w_taps[2 * kw]) * a.src_w)
                        weights = shift(a.w, w_first + (line + a.w_taps[2 * kw + 1]) * a.w_tap)
                        if wide:
                            for _ in range(0, a.sources, 4):
                                for m in range(pixels):
                                    four = load4(src, pixel_at[m])
                                    values[4 * m], values[4 * m + 1] = four[0], four[1]
                                    values[4 * m + 2], values[4 * m + 3] = four[2], four[3]
                                for i in range(4):
                                    four = load4(weights, i * a.w_source)
                                    for m in range(pixels):
                                        acc[m] += four[0] * values[4 * m + i]
                                        acc[pixels + m] += four[1] * values[4 * m + i]
                                        acc[2 * pixels + m] += four[2] * values[4 * m + i]
                                        acc[3 * pixels + m] += four[3] * values[4 * m + i]
                                src, weights = shift(src, 4), shift(weights, 4 * a.w_source)
                        else:
                            for _ in range(a.sources):
                                for m in range(pixels):
                                    values[m] = src[pixel_at[m]]
                                for f in range(filters):
                                    weight = weights[filter_at[f]]
                                    for m in range(pixels):
                                        acc[f * pixels + m] += weight * values[m]
                                src, weights = shift(src, a.src_c), shift(weights, a.w_source)

            target = group * a.targets + channel
            first = image * a.dst_n + target * a.dst_c
            first += a.d_tiles[d + START] * a.dst_d + a.h_tiles[h + START] * a.dst_h + a.w_tiles[w + START] * a.dst_w
            for m in range(pixels):
                pixel = first + m * spread * a.target_step * a.dst_w
                if m <= last_pixel and wide:
                    four = (
                        finished(a, acc[m], target, pixel),
                        finished(a, acc[pixels + m], target + 1, pixel + 1),
                        finished(a, acc[2 * pixels + m], target + 2, pixel + 2),
                        finished(a, acc[3 * pixels + m], target + 3, pixel + 3),
                    )
                    store4(a.dst, pixel, four)
                elif m <= last_pixel:
                    for f in range(filters):
                        if f <= last_filter:
                            place = pixel + f * a.filters_apart * a.dst_c
                            a.dst[place] = finished(a, acc[f * pixels + m], target + f * a.filters_apart, place)

    return body


class _Division(NamedTuple):
    """How the results are divided over threads: tiles of the axes, blocks of a group's channels."""

    pixels: int
    filters: int
    tiles: tuple[np.ndarray, np.ndarray, np.ndarray]
    blocks: int
    threads: int


def _division(p: ConvProblem, axes: list[Axis], role: Roles) -> _Division:
    """The largest tile that leaves enough threads and few results that are computed twice."""
    d, h, w = axes
    needed, enough = p.N * p.G * role.targets * math.prod(role.target_size), current_device().processors * _ENOUGH
    for pixels, filters in _TILES:
        tiles = axis_tiles(d, 1), axis_tiles(h, 1), axis_tiles(w, pixels)
        blocks = -(-role.targets // filters)
        threads = p.N * p.G * blocks * math.prod(map(len, tiles))
        found = _Division(pixels, filters, tiles, blocks, threads)
        if threads >= enough and threads * pixels * filters <= _MOST_WASTE * needed:
            break
    return found


class Gather:
    """The forward operation, or the input gradient: a task on weights that may have to be packed."""

    def __init__(self, p: ConvProblem, forward: bool) -> None:
        self._packed = PackedWeights(p, forward)
        self.workspace_bytes = self._packed.workspace_bytes
        self._task = self.task(p, forward, self._packed.strides)

    def task(self, p: ConvProblem, forward: bool, weights: WeightStrides) -> Task:
        """What is given the addresses of src, w, dst and the arrays of the epilogue."""
        raise NotImplementedError

    def run(self, src: int, w: int, dst: int, bias: int = 0, scale: int = 0, residual: int = 0) -> None:
        weights, keep = self._packed.run(w)
        self._task.run(src, weights, dst, bias, scale, residual)
        del keep  # the stream has its order: memory that is given back now is written again after this launch


class Forward:
    """``y`` from ``x``, ``w`` and what the epilogue takes."""

    gather: type[Gather]

    def __init__(self, p: ConvProblem) -> None:
        self._gather = self.gather(p, forward=True)
        self.workspace_bytes = self._gather.workspace_bytes

    def run(self, x: int, w: int, bias: int, scale: int, residual: int, y: int) -> None:
        self._gather.run(x, w, y, bias, scale, residual)


class InputGradient:
    """``dx`` from ``dy`` and ``w``."""

    gather: type[Gather]

    def __init__(self, p: ConvProblem) -> None:
        gather = self.gather(p, forward=False)
        self.workspace_bytes, self.run = gather.workspace_bytes, gather.run


class DirectGather(Gather):
    """By :func:`gather_kernel`."""

    def task(self, p: ConvProblem, forward: bool, weights: WeightStrides) -> Task:
        role, axes = roles(p, forward), gather_axes(p, forward)
        division = _division(p, axes, role)
        channels_first = p.layout == "channels_first"
        wide = not channels_first and division.filters == 4 and role.sources % 4 == role.targets % 4 == 0
        variant = gather_kernel.variant(
            p.dtype, threads=_GATHER_THREADS, resident=_RESIDENT[p.dtype], pixels=division.pixels,
            filters=division.filters, channels_first=channels_first, wide=wide, **epilogue_constants(p, forward),
        )  # fmt: skip
        (d_tiles, h_tiles, w_tiles), w_axis = division.tiles, axes[2]
        taps = {f"{name}_taps": axis_taps(axis, size, forward) for name, axis, size in zip("dhw", axes, p.kernel)}
        return Task(
            variant, blocks_for(division.threads, _GATHER_THREADS), f"src w dst {EPILOGUE_ARRAYS}", slope=p.slope,
            d_tiles=d_tiles, h_tiles=h_tiles, w_tiles=w_tiles, **taps,
            d_count=len(d_tiles), h_count=len(h_tiles), w_count=len(w_tiles),
            source_step=w_axis.source_step, target_step=w_axis.target_step, KH=p.kernel[1], KW=p.kernel[2],
            group_blocks=division.blocks, all_blocks=p.G * division.blocks, count=division.threads,
            filters_first=4 if wide else 1, filters_apart=1 if wide else division.blocks,
            sources=role.sources, targets=role.targets,
            **array_strides(p, p.G * role.sources, role.source_size, "src"),
            **array_strides(p, p.G * role.targets, role.target_size, "dst"),
            **{f"w_{name}": step for name, step in weights._asdict().items()},
        )  # fmt: skip


class DirectForward(Forward):
    """The forward operation."""

    gather = DirectGather


class DirectInputGradient(InputGradient):
    """The input gradient."""

    gather = DirectGather


# --- Weight gradient ------------------------------------------------------------------------------------------------


@kernel(
    x="source", dy="source", sums="array", d_shown="table", h_shown="table", w_shown="table", OD="int", OH="int",
    OW="int", SD="int", SH="int", SW="int", DD="int", DH="int", DW="int", KH="int", KW="int", C="int", K="int",
    c_blocks="int", k_blocks="int", c_first="int", k_first="int", c_apart="int", k_apart="int",
    columns="int", count="int", size="int", lines="int", lines_each="int", segment="int",
    segments="int", w_tap="int", w_group="int", w_c="int", w_k="int",
    **{f"{array}_{axis}": "int" for array in ("x", "dy") for axis in "ndhwc"},
)  # fmt: skip
def weight_gradient_kernel(
    dtype: Any, threads: int, lanes: int, channels: int, filters: int, channels_first: bool, wide: bool
) -> Any:
    """``sums[part][tap, c, k] = sum over the part's pixels of x[n, o * S + tap * D, c] * dy[n, o, k]``.

    A thread has one tap and ``channels`` times ``filters`` of one group, as far as they exist, and every pixel of a
    line whose number is its lane's. Channels are in ``c_blocks``, filters in ``k_blocks`` of ``columns`` in all, like
    those of :func:`gather_kernel`; ``wide``: blocks are four neighbours, which are loaded at once. Lines are up to
    ``segment`` pixels of a row of y; the second axis of the grid are the parts, of ``lines_each`` lines. ``shown`` says
    which element of x a position of the padded axis shows, -1 for a zero. Sums are added up in a fixed order.
    """
    units = threads // lanes
    total = lane_sum(dtype, threads, lanes, adjacent=channels_first)
    zero, results = dtype(0), channels * filters

    def body(a):
        if channels_first:
            own, lane = cuda.threadIdx.x // lanes, cuda.threadIdx.x % lanes
        else:
            own, lane = cuda.threadIdx.x % units, cuda.threadIdx.x // units
        # All threads go through all barriers: those without a tile of their own compute the last one again.
        unit = min(cuda.blockIdx.x * units + own, a.count - 1)
        column, rest = remainder(unit, a.columns), quotient(unit, a.columns)
        group, k = quotient(column, a.k_blocks), remainder(column, a.k_blocks) * a.k_first
        tap, c = quotient(rest, a.c_blocks), remainder(rest, a.c_blocks) * a.c_first
        tap_w, rest = remainder(tap, a.KW), quotient(tap, a.KW)
        tap_h, tap_d = remainder(rest, a.KH), quotient(rest, a.KH)
        last_channel = min(channels - 1, quotient(a.C - 1 - c, a.c_apart))
        last_filter = min(filters - 1, quotient(a.K - 1 - k, a.k_apart))
        x_first, dy_first = (group * a.C + c) * a.x_c, (group * a.K + k) * a.dy_c

        acc, values = cuda.local.array(results, dtype), cuda.local.array(channels, dtype)
        channel_at, filter_at = cuda.local.array(channels, int64), cuda.local.array(filters, int64)
        for i in range(results):
            acc[i] = zero
        for i in range(channels):
            channel_at[i] = min(i, last_channel) * a.c_apart * a.x_c
        for f in range(filters):
            filter_at[f] = min(f, last_filter) * a.k_apart * a.dy_c
        first_line = cuda.blockIdx.y * a.lines_each
        for line in range(first_line, min(first_line + a.lines_each, a.lines)):
            piece, row = remainder(line, a.segments), quotient(line, a.segments)
            h, rest = remainder(row, a.OH), quotient(row, a.OH)
            d, image = remainder(rest, a.OD), quotient(rest, a.OD)
            at_d, at_h = a.d_shown[d * a.SD + tap_d * a.DD], a.h_shown[h * a.SH + tap_h * a.DH]
            if at_d >= 0 and at_h >= 0:
                x_line = x_first + image * a.x_n + at_d * a.x_d + at_h * a.x_h
                dy_line = dy_first + image * a.dy_n + d * a.dy_d + h * a.dy_h
                for w in range(piece * a.segment + lane, min((piece + 1) * a.segment, a.OW), lanes):
                    at_w = a.w_shown[w * a.SW + tap_w * a.DW]
                    if at_w >= 0:
                        x, dy = shift(a.x, x_line + at_w * a.x_w), shift(a.dy, dy_line + w * a.dy_w)
                        if wide:
                            values[0], values[1], values[2], values[3] = load4(x, 0)
                            by = load4(dy, 0)
                            for i in range(4):
                                acc[i] += values[i] * by[0]
                                acc[4 + i] += values[i] * by[1]
                                acc[8 + i] += values[i] * by[2]
                                acc[12 + i] += values[i] * by[3]
                        else:
                            for i in range(channels):
                                values[i] = x[channel_at[i]]
                            for f in range(filters):
                                by_one = dy[filter_at[f]]
                                for i in range(channels):
                                    acc[f * channels + i] += values[i] * by_one

        part = cuda.blockIdx.y * a.size + group * a.w_group + tap * a.w_tap + c * a.w_c + k * a.w_k
        mine = lane == 0 and cuda.blockIdx.x * units + own < a.count
        for f in range(filters):
            for i in range(channels):
                whole = total(acc[f * channels + i])
                if mine and i <= last_channel and f <= last_filter:
                    a.sums[part + i * a.c_apart * a.w_c + f * a.k_apart * a.w_k] = whole

    return body


def _across(channels: int) -> int:
    """How many of so many channels a thread has: as many as leave few that are computed twice."""
    return next(n for n in _ACROSS if n == 1 or -(-channels // n) * n <= _MOST_WASTE * channels)


def lanes_for(pixels: int, units: int, channels_first: bool) -> int:
    """Lanes that share lines of so many pixels: neighbours along a line, or as many as fill a block with few units."""
    lanes = 1
    while lanes < min(pixels, WARP) and (channels_first or lanes * units < THREADS):
        lanes *= 2
    return lanes


class DirectWeightGradient:
    """``dw`` from ``x`` and ``dy``."""

    def __init__(self, p: ConvProblem) -> None:
        C, K, (OD, OH, OW) = p.C // p.G, p.K // p.G, p.output
        channels_first = p.layout == "channels_first"
        channels, filters = _across(C), _across(K)
        wide = not channels_first and C % 4 == K % 4 == 0
        c_blocks, k_blocks = -(-C // channels), -(-K // filters)
        count = math.prod(p.kernel) * c_blocks * p.G * k_blocks
        lanes = lanes_for(min(OW, _LINE), count, channels_first)
        segments = -(-OW // _LINE)
        lines, size = p.N * OD * OH * segments, math.prod(p.w_shape)
        division = divided(lines, count * lanes)
        weights = roles(p, forward=True).weights
        variant = weight_gradient_kernel.variant(
            p.dtype, lanes=lanes, channels=channels, filters=filters, channels_first=channels_first, wide=wide
        )
        self._add = Task(
            variant, (blocks_for(count * lanes), division.parts), "x dy sums",
            **dict(zip(("d_shown", "h_shown", "w_shown"), (table.astype(np.int32) for table in shown_positions(p)))),
            OD=OD, OH=OH, OW=OW, SD=p.stride[0], SH=p.stride[1], SW=p.stride[2],
            DD=p.dilation[0], DH=p.dilation[1], DW=p.dilation[2], KH=p.kernel[1], KW=p.kernel[2], C=C, K=K,
            c_blocks=c_blocks, k_blocks=k_blocks, c_first=4 if wide else 1, k_first=4 if wide else 1,
            c_apart=1 if wide else c_blocks, k_apart=1 if wide else k_blocks, columns=p.G * k_blocks,
            count=count, size=size, lines=lines, lines_each=division.each, segment=_LINE, segments=segments,
            w_tap=weights.tap, w_group=weights.group, w_c=weights.source, w_k=weights.target,
            **array_strides(p, p.C, p.size, "x"), **array_strides(p, p.K, p.output, "dy"),
        )  # fmt: skip
        self._parts = Parts(p.dtype, size, division.parts)
        self.workspace_bytes = self._parts.workspace_bytes

    def run(self, x: int, dy: int, dw: int) -> None:
        self._parts.run(lambda sums: self._add.run(x, dy, sums), dw)


def direct_supports(p: ConvProblem) -> str | None:
    """None for a problem that direct convolution can do, otherwise the reason why not."""
    most = max(math.prod(shape) for shape in (p.x_shape, p.w_shape, p.y_shape))
    return counted(most) or continuation_fits(p)
