"""A convolution and the max pooling of its result, where nobody else needs the result in between.

Gradients do not need it either: the pooling's goes by the positions of the maxima, and the convolution's by x and w. A
bias and a ReLU that nothing comes between are added to the pooled sums, because the greatest of ``relu(z + b)`` is
``relu(b + greatest of z)``: there are fewer of them.

The result in between is the largest array of many networks: four times the pooled one, and often more than the input.
In one pass it never reaches memory: the work is divided into *bands*, each of a few images or of a few rows of one,
whose convolution is still in the cache when it is pooled. (Alwani et al., "Fused-Layer CNN Accelerators", MICRO 2016,
section III. Where windows overlap, neighbouring bands both compute the rows that they share: their "recompute".)

A band is a convolution and a pooling of its own, so every algorithm of those operations can compute it. Arrays of
channels first and weights in "OIHW" are turned once; the result in between is never turned. A Winograd tile of a band
begins elsewhere than one of the whole image, and a band may get another algorithm: so one pass and two need not give
the same bits, though each gives its own for every run and every number of threads.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import NamedTuple

import numpy as np

from pycnn_kernels.cpu.conv_frame import ChannelsLast, Scratch
from pycnn_kernels.cpu.host import item_bytes
from pycnn_kernels.cpu.layout import to_channels_first, transposition
from pycnn_kernels.memory import address, aligned_empty
from pycnn_kernels.problem import ConvPoolProblem, ConvProblem, PoolProblem, effective_kernel

#: Bytes of the convolution's result in one band, at most. Of 256 KB to 2 MB the last was the fastest for all layers
#: measured: it is read from the second and third level as fast as it is pooled, and costs the fewest launches.
_BAND_BYTES = 2 << 20

#: What of a third-level cache a process can count on: a smaller result stays there from one pass to the next.
_CACHED_BYTES = 8 << 20

#: The time of writing a byte to memory and reading it back, and of launching the kernels of a band (10 microseconds);
#: see ``cost.py`` for the unit. A byte took from 0.2, where the convolution itself keeps the core busy, to 1.9.
_TRAFFIC, _LAUNCHES = 0.3, 75_000


class Band(NamedTuple):
    """A part of the work: its problem, and where it begins in x, in the convolution's result and in y, in pixels."""

    problem: ConvPoolProblem
    x: int
    between: int
    y: int


class _InBands:
    """``y = max_pool(norm(activation(scale * (x * w) + b + residual)))``, band by band. A subclass says which bands.

    The norm is that of a pooling problem with ``normalised``, and its arrays are 0 without it. ``index`` is 0, or gets
    the positions of the maxima in their windows, which are those of the whole problem.
    """

    @staticmethod
    def divide(p: ConvPoolProblem) -> list[Band]:
        """The bands of a problem in channels last."""
        raise NotImplementedError

    def __init__(self, p: ConvPoolProblem):
        from pycnn_kernels.choice import choose  # it knows the lists of algorithms, which have this one

        self._bias_pooled = p.bias_is_pooled
        self._relu_pooled = self._bias_pooled and p.conv.activation == "relu"
        if self._bias_pooled:
            p = p._replace(conv=p.conv._replace(bias=False, activation=None))
        conv, pool = p
        self._channels_first, self._filters_first = conv.layout == "channels_first", conv.weight_layout == "OIHW"
        bands = self.divide(_channels_last(p))
        parts = {band.problem for band in bands}
        prepared = {
            part: (
                choose("conv_forward", part.conv).prepare(part.conv),
                choose("max_pool", part.pool).prepare(part.pool),
            )
            for part in parts
        }
        x_pixel, y_pixel = conv.C * item_bytes(conv.dtype), conv.K * item_bytes(conv.dtype)
        index_pixel = conv.K * np.dtype(pool.index_dtype).itemsize
        self._bands = [
            (
                *prepared[band.problem], band.x * x_pixel, band.between * y_pixel, band.y * y_pixel,
                band.y * index_pixel,
            )
            for band in bands
        ]  # fmt: skip
        scratch = Scratch(conv.dtype)
        self._between_at = scratch.reserve(max((math.prod(part.conv.y_shape) for part in parts), default=0))
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
        self.borrowed = (scratch.size,)
        nested = max((task.workspace_bytes for tasks in prepared.values() for task in tasks), default=0)
        #: With the memory that is lent for a run.
        self.workspace_bytes = scratch.size + nested

    def run(
        self, x: int, w: int, b: int, scale: int, residual: int, norm_mean: int, norm_scale: int, norm_bias: int,
        y: int, index: int,
    ) -> None:  # fmt: skip
        """Addresses; 0 for arrays that the problem has not."""
        lent = aligned_empty(self.borrowed, np.uint8)  # the bands' own algorithms use the workspace
        base = address(lent)
        result = y
        if self._filters_first:
            self._turn_weights.run(w, base + self._w_at)
            w = base + self._w_at
        x = self._x.run(base, x)
        if self._residual:
            residual = self._residual.run(base, residual)
        if self._channels_first:
            result = base + self._y_at
        between = base + self._between_at
        pooled_bias, b = (b, 0) if self._bias_pooled else (0, b)
        for convolution, pooling, x_at, between_at, y_at, index_at in self._bands:
            convolution.run(x + x_at, w, b, scale, residual + between_at if self._residual else 0, between)
            pooling.run(
                between, pooled_bias, norm_mean, norm_scale, norm_bias, result + y_at,
                index + index_at if index else 0, self._relu_pooled,
            )  # fmt: skip
        if self._channels_first:
            self._write.run(result, y)


class OnePass(_InBands):
    """Bands whose convolution is still in the cache when it is pooled."""

    @staticmethod
    def divide(p: ConvPoolProblem) -> list[Band]:
        conv, pool = p
        images = _images(p)
        if not images:
            parts = _bands_of_rows(p)
            x, between, y = (math.prod(size) for size in (conv.size, conv.output, pool.output))
            return [
                Band(part, n * x + at_x, n * between + at_between, n * y + at_y)
                for n in range(conv.N)
                for part, at_x, at_between, at_y in parts
            ]
        bands = []
        for n in range(0, conv.N, images):
            N = min(images, conv.N - n)
            part = ConvPoolProblem(conv._replace(N=N), pool._replace(N=N))
            bands.append(Band(part, *(n * math.prod(size) for size in (conv.size, conv.output, pool.output))))
        return bands


class TwoPasses(_InBands):
    """All of the convolution, then all of the pooling."""

    @staticmethod
    def divide(p: ConvPoolProblem) -> list[Band]:
        return [Band(p, 0, 0, 0)]


def _channels_last(p: ConvPoolProblem) -> ConvPoolProblem:
    return ConvPoolProblem(
        p.conv._replace(layout="channels_last", weight_layout="HWIO"), p.pool._replace(layout="channels_last")
    )


def _images(p: ConvPoolProblem) -> int:
    """How many images a band has; 0 where one is more than a band."""
    image = math.prod(p.conv.output) * p.conv.K * item_bytes(p.conv.dtype)
    most = _BAND_BYTES // max(image, 1)
    if not most:
        return 0
    bands = max(-(-p.conv.N // most), 1)
    return max(-(-p.conv.N // bands), 1)


def _bands_of_rows(p: ConvPoolProblem) -> list[Band]:
    """The bands of the first image, of about as many pooled rows each."""
    (conv, pool), pooled = p, p.pool.output[1]
    row = conv.output[2] * conv.K * item_bytes(conv.dtype)
    most = max((_BAND_BYTES // row - _extent(pool)) // pool.stride[1] + 1, 1)
    rows = -(-pooled // -(-pooled // most))
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
    """None for a problem that can be divided into bands, otherwise the reason why not."""
    if _images(p):
        return None
    conv, pool = p
    if conv.size[0] > 1 or any(conv.padding[0]) or any(pool.padding[0]) or pool.kernel[0] > 1:
        return f"volumes whose convolution takes at most {_BAND_BYTES:,} bytes, or images; received {conv.size}"
    if conv.padding_mode != "zeros" and any(conv.padding[1]):
        return f"zeros above and below the images; received the padding mode {conv.padding_mode!r}"
    for part in p:
        if max(part.padding[1]) >= _extent(part):
            return f"windows that reach into the image; received the padding {part.padding[1]} for {_extent(part)} rows"
    return None


def one_pass_suits(p: ConvPoolProblem) -> str | None:
    """None for a problem whose result in between does not stay in the cache by itself, otherwise the reason why not."""
    size = _between_bytes(p)
    if size <= _CACHED_BYTES:
        return f"a convolution's result of more than {_CACHED_BYTES:,} bytes; received {size:,}"
    return None


def one_pass_cost(p: ConvPoolProblem) -> float:
    """The expected time of all but the pooling itself; see ``cost.py`` for the unit."""
    bands = Counter(band.problem.conv for band in OnePass.divide(_channels_last(p)))
    return sum(count * (_conv_cost(conv) + _LAUNCHES) for conv, count in bands.items())


def two_passes_cost(p: ConvPoolProblem) -> float:
    """The same: the convolution, and its result's way to memory and back, where it takes it."""
    size = _between_bytes(p)
    return _conv_cost(_channels_last(p).conv) + (_TRAFFIC * size if size > _CACHED_BYTES else 0) + _LAUNCHES


def _between_bytes(p: ConvPoolProblem) -> int:
    """Of the convolution's result."""
    return math.prod(p.conv.y_shape) * item_bytes(p.dtype)


def _conv_cost(conv: ConvProblem) -> float:
    """The expected time of the algorithm that "auto" takes."""
    from pycnn_kernels.choice import choose

    cost = choose("conv_forward", conv).cost
    assert cost is not None  # every algorithm of a forward convolution has a model
    return cost(conv)
