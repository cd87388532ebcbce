"""A convolution and the max pooling of its result, where nobody else needs the result in between.

Gradients do not need it either: the pooling's goes by the positions of the maxima, and the convolution's by x and w. A
bias and a ReLU that nothing comes between are added to the pooled sums, because the greatest of ``relu(z + b)`` is
``relu(b + greatest of z)``: there are fewer of them.

The result in between is the largest array of many networks: four times the pooled one, and often more than the input.
In one pass it never leaves a core: the work is divided into *bands*, each of a few images or of a few rows of one, and
the core that convolves a band pools it, from its own cache (``chain.py``). (Alwani et al., "Fused-Layer CNN
Accelerators", MICRO 2016, section III. Where windows overlap, neighbouring bands both compute the rows that they share:
their "recompute".)

A band is a convolution and a pooling of its own. The convolution is one of those that are a single task, which need
nothing from the other cores. Arrays of channels first and weights in "OIHW" are turned once; the result in between is
never turned. In one pass and in two the algorithm may be another, so they need not give the same bits, though each
gives its own for every run and every number of threads.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

from pycnn_kernels.cpu import conv_direct, conv_few_channels, conv_winograd
from pycnn_kernels.cpu.chain import Chain, Own, Stage
from pycnn_kernels.cpu.conv_direct import SMALL_WORK
from pycnn_kernels.cpu.conv_frame import ChannelsLast, OneTask, Scratch
from pycnn_kernels.cpu.epilogue import Epilogue
from pycnn_kernels.cpu.host import item_bytes
from pycnn_kernels.cpu.launch import most_threads
from pycnn_kernels.cpu.layout import to_channels_first, transposition
from pycnn_kernels.cpu.pool import MaxPool
from pycnn_kernels.cpu.winograd_tiling import cost_of, suited_tiles
from pycnn_kernels.cpu.workspace import aligned_bytes, whole_lines
from pycnn_kernels.memory import address, aligned_empty
from pycnn_kernels.problem import ConvPoolProblem, ConvProblem, PoolProblem, effective_kernel

#: Bytes of the convolution's result in one band, at most: the second-level cache of a core has the convolution's own
#: workspace beside it. And how many bands there should be for the cores to share, if they have so many bytes at least.
_BAND_BYTES, _BANDS, _LEAST_BYTES = 512 << 10, 32, 64 << 10

#: The time of a byte that one core writes and the same or another one reads later; see ``cost.py`` for the unit. It was
#: 0.3 to 0.7 with two threads, in the third-level cache as well as in memory.
_TRAFFIC = 0.4


class Band(NamedTuple):
    """A part of the work: its problem, and where it begins in x, in the convolution's result and in y, in pixels."""

    problem: ConvPoolProblem
    x: int
    between: int
    y: int

    def offsets(self) -> tuple[int, int, int, int]:
        """Where the band begins in x, in the convolution's result, in y and in index, in bytes."""
        conv, pool = self.problem
        C, K = conv.C * item_bytes(conv.dtype), conv.K * item_bytes(conv.dtype)
        return self.x * C, self.between * K, self.y * K, self.y * conv.K * np.dtype(pool.index_dtype).itemsize


class _Inner(Protocol):
    """Runs convolution and pooling in channels last; its memory lies in the ``scratch`` it was given.

    ``pooled_bias`` and ``relu`` are what comes after the pooling; ``norm`` is mean, scale and bias of a pooling with
    ``normalised``.
    """

    #: Of the algorithms that it runs, beside the scratch.
    workspace_bytes: int

    def run(
        self, base: int, x: int, w: int, epilogue: Epilogue, pooled_bias: int, norm: tuple[int, int, int], relu: bool,
        y: int, index: int,
    ) -> None: ...  # fmt: skip


class _AfterAll:
    """All of the convolution, then all of the pooling."""

    def __init__(self, p: ConvPoolProblem, scratch: Scratch):
        from pycnn_kernels.choice import choose  # it knows the lists of algorithms, which have this one

        self._convolution = choose("conv_forward", p.conv).prepare(p.conv)
        self._pooling = MaxPool(p.pool)
        self._between_at = scratch.reserve(math.prod(p.conv.y_shape))
        self.workspace_bytes = max(self._convolution.workspace_bytes, self._pooling.workspace_bytes)

    def run(
        self, base: int, x: int, w: int, epilogue: Epilogue, pooled_bias: int, norm: tuple[int, int, int], relu: bool,
        y: int, index: int,
    ) -> None:  # fmt: skip
        between = base + self._between_at
        self._convolution.run(x, w, *epilogue, between)
        self._pooling.run(between, pooled_bias, *norm, y, index, relu)


class _ByBands:
    """Each band on one core, the cores at different bands."""

    workspace_bytes = 0

    def __init__(self, p: ConvPoolProblem, scratch: Scratch):
        bands = divide(p)
        prepare = _fastest(p).prepare
        made = {band.problem: (prepare(p.conv, band.problem.conv), MaxPool(band.problem.pool)) for band in bands}
        convolutions, poolings = zip(*(made[band.problem] for band in bands))
        self._convolution, self._pooling = max(convolutions, key=lambda made: made.shared_bytes), poolings[0]
        self._shared_at = scratch.reserve_bytes(self._convolution.shared_bytes)
        between = aligned_bytes(max(math.prod(band.problem.conv.y_shape) for band in bands), scratch.dtype)
        scratches = [each.worker_bytes for each in convolutions]
        lines_at = between + whole_lines(max(scratches))
        stages_bytes = lines_at + max(each.worker_bytes for each in poolings)
        x_at, between_at, y_at, index_at = np.array([band.offsets() for band in bands], np.int64).T
        convolved = self._convolution.arguments(0, 0, x_at, 0, (0, 0, between_at if p.conv.residual else 0), 0)
        own = {"dst": Own(0)} | ({"scratch": Own(between, scratches)} if max(scratches) else {})
        convolve = Stage([each.task for each in convolutions], own)
        own = {"src": Own(0), "lines": Own(lines_at, [each.worker_bytes for each in poolings])}
        parallel = p.conv.multiply_adds > SMALL_WORK
        self._finding, self._alone = (
            Chain(
                [convolve, Stage(tasks, own)], stages_bytes, parallel,
                (*convolved, *self._pooling.arguments(0, 0, y_at, *found, 0, 0, 0, 0, 0)),
            )
            for tasks, found in (
                ([each.task for each in poolings], (index_at,)),
                ([each.alone for each in poolings], ()),
            )
        )  # fmt: skip
        own_bytes = max(self._finding.own_bytes, self._alone.own_bytes)
        self._own_at = scratch.reserve_bytes(most_threads() * own_bytes)

    def run(
        self, base: int, x: int, w: int, epilogue: Epilogue, pooled_bias: int, norm: tuple[int, int, int], relu: bool,
        y: int, index: int,
    ) -> None:  # fmt: skip
        own, shared = base + self._own_at, base + self._shared_at
        self._convolution.begin(own, shared, w)
        first = self._convolution.arguments(0, shared, x, w, epilogue, 0)
        found = (index,) if index else ()
        then = self._pooling.arguments(0, 0, y, *found, pooled_bias, *norm, relu)
        (self._finding if index else self._alone).run(own, *first, *then)


class _ConvolutionMaxPool:
    """``y = max_pool(norm(activation(scale * (x * w) + b + residual)))`` in any layout. A subclass says how.

    The norm is that of a pooling problem with ``normalised``, and its arrays are 0 without it. ``index`` is 0, or gets
    the positions of the maxima in their windows.
    """

    make_inner: Callable[[ConvPoolProblem, Scratch], _Inner]

    def __init__(self, p: ConvPoolProblem):
        self._bias_pooled = p.bias_is_pooled
        self._relu_pooled = self._bias_pooled and p.conv.activation == "relu"
        if self._bias_pooled:
            p = p._replace(conv=p.conv._replace(bias=False, activation=None))
        conv, pool = p
        self._channels_first, self._filters_first = conv.layout == "channels_first", conv.weight_layout == "OIHW"
        scratch = Scratch(conv.dtype)
        self._inner = type(self).make_inner(_pooled_part(p), scratch) if conv.N else None
        self._x = ChannelsLast(conv.layout, conv.N, conv.C, math.prod(conv.size), scratch)
        self._residual = None
        if conv.residual:
            self._residual = ChannelsLast(conv.layout, conv.N, conv.K, math.prod(conv.output), scratch)
        if self._channels_first:
            pooled = math.prod(pool.output)
            self._y_at = scratch.reserve(conv.N * conv.K * pooled)
            self._write = to_channels_first(conv.dtype, conv.N, conv.K, pooled)
        if self._filters_first:
            R, T = conv.C // conv.G, math.prod(conv.kernel)
            self._w_at = scratch.reserve(T * R * conv.K)
            self._turn_weights = transposition(conv.dtype, (R, conv.K, T), (T, R * T), (conv.K, R * conv.K))
        self._scratch_bytes = scratch.size
        self.borrowed = (scratch.size,)
        #: With the memory that is lent for a run.
        self.workspace_bytes = scratch.size + (self._inner.workspace_bytes if self._inner else 0)

    def run(
        self, x: int, w: int, b: int, scale: int, residual: int, norm_mean: int, norm_scale: int, norm_bias: int,
        y: int, index: int,
    ) -> None:  # fmt: skip
        """Addresses; 0 for arrays that the problem has not."""
        if not self._inner:
            return
        # The convolution's own algorithm uses the workspace.
        lent = aligned_empty((self._scratch_bytes,), np.uint8)
        base = address(lent)
        if self._filters_first:
            self._turn_weights.run(w, base + self._w_at)
            w = base + self._w_at
        x = self._x.run(base, x)
        if self._residual:
            residual = self._residual.run(base, residual)
        result = base + self._y_at if self._channels_first else y
        pooled_bias, b = (b, 0) if self._bias_pooled else (0, b)
        norm = norm_mean, norm_scale, norm_bias
        self._inner.run(base, x, w, (b, scale, residual), pooled_bias, norm, self._relu_pooled, result, index)
        if self._channels_first:
            self._write.run(result, y)


class OnePass(_ConvolutionMaxPool):
    """Bands whose convolution is still in the core's cache when it is pooled."""

    make_inner = _ByBands


class TwoPasses(_ConvolutionMaxPool):
    """All of the convolution, then all of the pooling."""

    make_inner = _AfterAll


def in_channels_last(p: ConvPoolProblem) -> ConvPoolProblem:
    """The problem with arrays of channels last and weights as their kernels take them."""
    return ConvPoolProblem(
        p.conv._replace(layout="channels_last", weight_layout="HWIO"), p.pool._replace(layout="channels_last")
    )


def _pooled_part(p: ConvPoolProblem) -> ConvPoolProblem:
    """The problem in channels last, without what lies behind the pooling's last windows in the convolution's result.

    The convolution's padding there becomes less, or negative. In the second layer of the CIFAR-10 network, 13x13 pixels
    and windows of 2x2, this leaves 9 of 16 tiles of Winograd's.
    """
    conv, pool = last = in_channels_last(p)
    if conv.residual:  # which is as large as all of the result
        return last
    (top, behind), (left, beside) = conv.padding[1:]
    (_, below), (_, right) = pool.padding[1:]
    unused_rows, unused_columns = _unused(pool, 1), _unused(pool, 2)
    if unused_rows:
        behind, below = _padding_behind(conv, 1, unused_rows), 0
    if unused_columns:
        beside, right = _padding_behind(conv, 2, unused_columns), 0
    conv = conv._replace(padding=(conv.padding[0], (top, behind), (left, beside)))
    sides = (pool.padding[0], (pool.padding[1][0], below), (pool.padding[2][0], right))
    return ConvPoolProblem(conv, pool._replace(size=conv.output, padding=sides))


def _unused(pool: PoolProblem, axis: int) -> int:
    """How many rows or columns lie behind the last windows, not counting padding."""
    extent = effective_kernel(pool.kernel[axis], pool.dilation[axis])
    end = (pool.output[axis] - 1) * pool.stride[axis] + extent - pool.padding[axis][0]
    return max(pool.size[axis] - end, 0) if end > 0 else 0


def _padding_behind(conv: ConvProblem, axis: int, left_out: int) -> int:
    """Rows or columns of padding behind an image so that so many of the result are not computed."""
    extent = effective_kernel(conv.kernel[axis], conv.dilation[axis])
    last = (conv.output[axis] - left_out - 1) * conv.stride[axis]
    return last + extent - conv.size[axis] - conv.padding[axis][0]


def divide(p: ConvPoolProblem) -> list[Band]:
    """The bands of a problem in channels last."""
    conv, pool = p
    pixels = [math.prod(size) for size in (conv.size, conv.output, pool.output)]
    images = _images(p)
    if not images:
        parts = _bands_of_rows(p)
        return [
            Band(part, *(n * each + begin for each, begin in zip(pixels, begins)))
            for n in range(conv.N)
            for part, *begins in parts
        ]
    bands = []
    for n in range(0, conv.N, images):
        N = min(images, conv.N - n)
        part = ConvPoolProblem(conv._replace(N=N), pool._replace(N=N))
        bands.append(Band(part, *(n * each for each in pixels)))
    return bands


def _size(p: ConvPoolProblem) -> int:
    """Bytes of a band's result of the convolution at most: they are not larger than the cores can share evenly."""
    whole = math.prod(p.conv.y_shape) * item_bytes(p.conv.dtype)
    return min(_BAND_BYTES, max(whole // _BANDS, _LEAST_BYTES))


def _images(p: ConvPoolProblem) -> int:
    """How many images a band has; 0 where one is divided into bands itself."""
    image = math.prod(p.conv.output) * p.conv.K * item_bytes(p.conv.dtype)
    if image > _BAND_BYTES or (image > _size(p) and not _rows_refused(p)):
        return 0
    most = max(_size(p) // max(image, 1), 1)
    return -(-p.conv.N // max(-(-p.conv.N // most), 1))


def _bands_of_rows(p: ConvPoolProblem) -> list[Band]:
    """The bands of the first image, of about as many pooled rows each; an even number, for the tiles of Winograd."""
    (conv, pool), pooled = p, p.pool.output[1]
    row = conv.output[2] * conv.K * item_bytes(conv.dtype)
    most = max((_size(p) // row - _extent(pool)) // pool.stride[1] + 1, 1)
    rows = -(-pooled // -(-pooled // most))
    rows += rows % 2 if rows < most else 0
    return [_rows(p, first, min(first + rows, pooled)) for first in range(0, pooled, rows)]


def _rows(p: ConvPoolProblem, first: int, end: int) -> Band:
    """The band of the pooled rows from first to end of the first image."""
    conv, pool = p
    conv_first, conv_end, pool_sides = _covered(pool, conv.output[1], first, end)
    x_first, x_end, conv_sides = _covered(conv, conv.size[1], conv_first, conv_end)
    convolution = conv._replace(
        N=1, size=(1, x_end - x_first, conv.size[2]), padding=((0, 0), conv_sides, conv.padding[2])
    )
    # Where the number of columns was rounded up, the last window reaches into padding that the problem has not.
    left = pool.padding[2][0]
    last = (pool.output[2] - 1) * pool.stride[2] + effective_kernel(pool.kernel[2], pool.dilation[2])
    pooling = pool._replace(
        N=1,
        size=convolution.output,
        padding=((0, 0), pool_sides, (left, max(last - pool.size[2] - left, 0))),
        ceil_mode=False,
    )
    return Band(
        ConvPoolProblem(convolution, pooling),
        x_first * conv.size[2],
        conv_first * conv.output[2],
        first * pool.output[2],
    )


def _covered(p: ConvProblem | PoolProblem, size: int, first: int, end: int) -> tuple[int, int, tuple[int, int]]:
    """The input rows, of ``size``, that the windows of the output rows from first to end cover.

    The first of them, the one behind the last, and the rows of padding on both sides.
    """
    top = first * p.stride[1] - p.padding[1][0]
    bottom = (end - 1) * p.stride[1] - p.padding[1][0] + _extent(p)
    inside, inside_end = max(top, 0), min(bottom, size)
    return inside, inside_end, (inside - top, bottom - inside_end)


def _extent(p: ConvProblem | PoolProblem) -> int:
    """Rows that one window covers."""
    return effective_kernel(p.kernel[1], p.dilation[1])


def one_pass_supports(p: ConvPoolProblem) -> str | None:
    """None for a problem that :class:`OnePass` can do, otherwise the reason why not."""
    return conv_direct.direct_supports(p.conv) or bands_fit(p)


def bands_fit(p: ConvPoolProblem) -> str | None:
    """None for a problem that can be divided into bands, otherwise the reason why not."""
    return _rows_refused(p) if not _images(p) else None


def _rows_refused(p: ConvPoolProblem) -> str | None:
    """The reason why an image cannot be divided into bands of rows, None where it can."""
    conv, pool = p
    if conv.size[0] > 1 or any(conv.padding[0]) or any(pool.padding[0]) or pool.kernel[0] > 1:
        return f"volumes whose convolution takes at most {_BAND_BYTES:,} bytes, or images; received {conv.size}"
    if conv.padding_mode != "zeros" and any(conv.padding[1]):
        return f"zeros above and below the images; received the padding mode {conv.padding_mode!r}"
    for part in p:
        if max(part.padding[1]) >= _extent(part):
            return f"windows that reach into the image; received the padding {part.padding[1]} for {_extent(part)} rows"
    return None


class _ByTask(NamedTuple):
    """A convolution that is a single task: its bands are made ready of the whole problem and theirs."""

    name: str
    prepare: Callable[[ConvProblem, ConvProblem], OneTask]
    cost: Callable[[ConvProblem], float]


#: In the order in which they are asked.
_BY_TASK = (
    _ByTask(
        "few_channels",
        lambda p, band: conv_few_channels.FewChannelsForward(band),
        conv_few_channels.few_channels_cost_forward,
    ),
    _ByTask(
        "winograd",
        lambda p, band: conv_winograd.WinogradCore(band, suited_tiles(p, "forward"), "forward", fuses=False),
        cost_of("forward"),
    ),
    _ByTask(
        "direct",
        lambda p, band: conv_direct.DirectCore(band, True, Scratch(band.dtype), least_pieces=1),
        conv_direct.direct_cost_forward,
    ),
)


def _fastest(p: ConvPoolProblem) -> _ByTask:
    """The convolution of the bands of a problem in channels last."""
    from pycnn_kernels.choice import able

    names = {algorithm.name for algorithm in able("conv_forward", p.conv) if not algorithm.suits(p.conv)}
    return min((each for each in _BY_TASK if each.name in names), key=lambda each: _bands_cost(p, each.cost))


def _bands_cost(p: ConvPoolProblem, cost: Callable[[ConvProblem], float]) -> float:
    """The time of all bands, by the cost of each; what does not depend on the number of images is done once for all."""
    bands = Counter(band.problem.conv for band in divide(p))
    once = cost(p.conv._replace(N=0))
    return once + sum(count * (cost(conv) - once) for conv, count in bands.items())


def one_pass_cost(p: ConvPoolProblem) -> float:
    """The expected time of all but the pooling itself; see ``cost.py`` for the unit."""
    last = _pooled_part(p)
    return _bands_cost(last, _fastest(last).cost)


def two_passes_cost(p: ConvPoolProblem) -> float:
    """The same: the convolution, and its result's way from one core to the other."""
    from pycnn_kernels.choice import expected_cost

    conv = _pooled_part(p).conv
    return expected_cost("conv_forward", conv) + _TRAFFIC * math.prod(conv.y_shape) * item_bytes(p.dtype)
