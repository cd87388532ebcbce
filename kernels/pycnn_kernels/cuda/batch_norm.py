"""Batch normalisation: each channel gets the mean 0 and the deviation 1 over its elements, then a scale and a shift.

Memory is what takes the time: training reads x twice, for the statistics and to normalise it, and its gradient reads x
and dy twice each. ``channels.py`` has the ways through an array, and the sums.

The statistics of a channel are sums of ``x - shift`` and of its square: of x itself, the difference of the mean square
and the squared mean would lose all digits where the mean is much larger than the deviation. The loss is a factor of
``1 + (mean - shift)^2 / variance``, so the shift has to lie among the numbers of the channel: it is the median of three
of them. By Chebyshev's inequality at most 1/d^2 of them are d deviations away from the mean, and so is the median of
three that were picked at random with a probability of at most 3/d^4. The sums of all parts of the array count from the
same shift, and are merged by adding them, in float64.

Source: Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate
Shift" (2015); Chan, Golub and LeVeque, "Algorithms for Computing the Sample Variance" (1983), on shifted data.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from numba import cuda
from numba.cuda import types

from pycnn_kernels.cuda.channels import (
    PARTS_FIELDS,
    WALK_FIELDS,
    Walk,
    block_sums,
    merged_parts,
    moving,
    sweep,
    total_kernel,
    walking,
)
from pycnn_kernels.cuda.compile import device_function
from pycnn_kernels.cuda.device import current_device
from pycnn_kernels.cuda.launch import THREADS, Task, blocks_for, kernel
from pycnn_kernels.cuda.ptx import is_there
from pycnn_kernels.problem import ChannelsProblem

#: Where the three numbers of a channel are picked, as parts of all pixels: neither at the edge of an image, where
#: padding leaves its traces, nor at a fraction that numbers of images are divided by. Multiples of the golden ratio.
_PICKED = (0.236068, 0.618034, 0.854102)

#: The offsets of the picked numbers in x, and the distance from a channel to the next.
_SHIFT_FIELDS = {"early": "long", "middle": "long", "late": "long", "inner": "long"}


def _shift_fields(p: ChannelsProblem) -> dict[str, int]:
    places = [int(part * p.pixels * p.inner) for part in _PICKED]
    offsets = [divmod(place, max(p.inner, 1)) for place in places]
    values = [pixel * p.channels * p.inner + inside for pixel, inside in offsets]
    return dict(zip(_SHIFT_FIELDS, [*values, p.inner]))


@device_function
def _shift_of(a, channel):
    """The median of the picked numbers of a channel; any number where one of them is NaN."""
    at = channel * a.inner
    early, middle, late = a.x[at + a.early], a.x[at + a.middle], a.x[at + a.late]
    least, most = (early, middle) if early < middle else (middle, early)
    return least if late < least else (most if late > most else late)


# --- Statistics -----------------------------------------------------------------------------------------------------


@kernel(x="source", parts="array", **WALK_FIELDS, **_SHIFT_FIELDS)
def moments_kernel(dtype: Any, threads: int, vector: int, planes: bool) -> Any:
    """``parts[0, p, c]`` and ``parts[1, p, c]``: the sums of ``x - shift`` and of its square over each part.

    Blocks and threads as a :class:`Walk` has them; bits repeat.
    """
    walk, zero = walking(threads, vector, planes), dtype(0)
    _, onward, first_channel, next_channel = walk
    load, _ = moving(vector)
    terms = 2 * vector

    def visit(places: int) -> Any:
        size = places * vector

        @device_function
        def visited(a, place, shift, sums):
            x = cuda.local.array(size, dtype)
            for p in range(places):
                load(x, p * vector, a.x, place[1])
                place = onward(a, place)
            for p in range(places):
                for i in range(vector):
                    apart = x[p * vector + i] - shift[i]
                    sums[i] += apart
                    sums[vector + i] += apart * apart
            return place

        return visited

    swept = sweep(dtype, vector, walk, 1, visit)
    write = block_sums(dtype, threads, vector, planes, 2)

    def body(a):
        shift, sums = cuda.local.array(vector, dtype), cuda.local.array(terms, dtype)
        channel = first_channel(a)
        for i in range(vector):
            shift[i] = _shift_of(a, channel)
            channel = next_channel(a, channel)
            sums[i] = zero
            sums[vector + i] = zero
        swept(a, shift, sums)
        write(a, sums)

    return body


@kernel(
    x="source", weight="source", running_mean="array", running_var="array", mean="array", rstd="array", scale="array",
    elements="long", correction="int", momentum="float", epsilon="float", **PARTS_FIELDS, **_SHIFT_FIELDS,
)  # fmt: skip
def statistics_kernel(dtype: Any, threads: int, lanes: int) -> Any:
    """For each channel its mean, ``rstd = 1 / sqrt(variance + epsilon)`` and ``scale = weight * rstd``.

    ``parts`` are those of :func:`moments_kernel`. ``running_mean`` and ``running_var``, if there are any, move towards
    mean and variance by ``momentum`` of the way; for that variance the squares are divided by the number of elements
    less ``correction``: 1 makes it unbiased. A block has ``lanes`` channels; bits repeat.
    """
    merge, double = merged_parts(threads, lanes, 2), types.float64

    def body(a):
        totals = cuda.local.array(2, double)
        channel = merge(a, totals)
        if channel < a.channels:
            shift, count = 0.0, max(a.elements, 1)
            if a.elements > 0:
                shift = double(_shift_of(a, channel))
            mean = shift + totals[0] / count
            squares = totals[1] - totals[0] * totals[0] / count
            if squares < 0:  # by rounding, where the numbers hardly differ
                squares = 0.0
            rstd = 1 / math.sqrt(squares / count + double(a.epsilon))
            a.mean[channel], a.rstd[channel] = dtype(mean), dtype(rstd)
            a.scale[channel] = dtype(rstd * double(a.weight[channel]) if is_there(a.weight) else rstd)
            if is_there(a.running_mean):
                momentum, variance = double(a.momentum), squares / max(a.elements - a.correction, 1)
                old_mean, old_variance = double(a.running_mean[channel]), double(a.running_var[channel])
                a.running_mean[channel] = dtype(old_mean + momentum * (mean - old_mean))
                a.running_var[channel] = dtype(old_variance + momentum * (variance - old_variance))

    return body


class BatchNormStatistics:
    """The ``mean``, ``rstd`` and ``scale`` of each channel by the statistics of x; moves the running ones."""

    def __init__(self, p: ChannelsProblem):
        self._walk, fields = Walk(p, summed=True), _shift_fields(p)
        self.workspace_bytes = self._walk.parts_bytes(2)
        self._moments = self._walk.task(moments_kernel, "x parts", fields=fields)
        self._merge = self._walk.merging(
            statistics_kernel,
            "parts x weight running_mean running_var mean rstd scale correction momentum epsilon",
            elements=p.pixels * p.inner, **fields,
        )  # fmt: skip

    def run(
        self, x: int, weight: int, running_mean: int, running_var: int, mean: int, rstd: int, scale: int,
        correction: int, momentum: float, epsilon: float,
    ) -> None:  # fmt: skip
        """Addresses; 0 for a weight and running statistics that are not there."""
        parts = self._walk.parts(2)
        at = current_device().address(parts)
        self._moments.run(x, at)
        running = running_mean, running_var
        self._merge.run(at, x, weight, *running, mean, rstd, scale, correction, momentum, epsilon)


@kernel(running_var="source", weight="source", scale="array", channels="int", epsilon="float")
def running_scale_kernel(dtype: Any, threads: int) -> Any:
    """``scale = weight / sqrt(running_var + epsilon)``, a thread for each channel."""
    one = dtype(1)

    def body(a):
        channel = cuda.blockIdx.x * threads + cuda.threadIdx.x
        if channel < a.channels:
            weight = a.weight[channel] if is_there(a.weight) else one
            a.scale[channel] = weight / math.sqrt(a.running_var[channel] + a.epsilon)

    return body


@kernel(
    running_mean="source", running_var="source", weight="source", bias="source", before="source", scale="array",
    offset="array", channels="int", epsilon="float",
)  # fmt: skip
def running_fold_kernel(dtype: Any, threads: int) -> Any:
    """``scale`` as above, and ``offset = (before - running_mean) * scale + bias``, a thread for each channel."""
    one, zero = dtype(1), dtype(0)

    def body(a):
        channel = cuda.blockIdx.x * threads + cuda.threadIdx.x
        if channel < a.channels:
            weight = a.weight[channel] if is_there(a.weight) else one
            scale = weight / math.sqrt(a.running_var[channel] + a.epsilon)
            before = a.before[channel] if is_there(a.before) else zero
            bias = a.bias[channel] if is_there(a.bias) else zero
            a.scale[channel] = scale
            a.offset[channel] = (before - a.running_mean[channel]) * scale + bias

    return body


# --- Forward --------------------------------------------------------------------------------------------------------


@kernel(x="source", mean="source", scale="source", bias="source", y="array", **WALK_FIELDS)
def normalise_kernel(dtype: Any, threads: int, vector: int, planes: bool, relu: bool, biased: bool) -> Any:
    """``y = (x - mean) * scale + bias`` with the numbers of each channel; then ReLU, if asked for.

    ``biased``: whether there is a bias. Blocks and threads as a :class:`Walk` has them.
    """
    walk, zero = walking(threads, vector, planes), dtype(0)
    _, onward, first_channel, next_channel = walk
    load, store = moving(vector)
    size_of_numbers = 3 * vector

    def visit(places: int) -> Any:
        size = places * vector

        @device_function
        def visited(a, place, numbers, sums):
            x, there = cuda.local.array(size, dtype), place
            for p in range(places):
                load(x, p * vector, a.x, place[1])
                place = onward(a, place)
            for p in range(places):
                for i in range(vector):
                    y = (x[p * vector + i] - numbers[i]) * numbers[vector + i]
                    if biased:
                        y += numbers[2 * vector + i]
                    if relu:
                        y = zero if y < zero else y
                    x[p * vector + i] = y
                store(a.y, there[1], x, p * vector)
                there = onward(a, there)
            return place

        return visited

    swept = sweep(dtype, vector, walk, 1, visit)

    def body(a):
        numbers = cuda.local.array(size_of_numbers, dtype)
        channel = first_channel(a)
        for i in range(vector):
            numbers[i], numbers[vector + i] = a.mean[channel], a.scale[channel]
            if biased:
                numbers[2 * vector + i] = a.bias[channel]
            channel = next_channel(a, channel)
        swept(a, numbers, 0)

    return body


class _Normalise:
    """``y`` from x, the mean, scale and bias of each channel; see :func:`normalise_kernel`."""

    def __init__(self, p: ChannelsProblem):
        self._walk = Walk(p, summed=False)
        self._tasks = cache(self._task)

    def _task(self, relu: bool, biased: bool) -> Task:
        return self._walk.task(normalise_kernel, "x mean scale bias y", relu=relu, biased=biased)

    def run(self, x: int, mean: int, scale: int, bias: int, y: int, relu: int) -> None:
        """Addresses; 0 for a bias that is not there."""
        self._tasks(bool(relu), bias != 0).run(x, mean, scale, bias, y)


class BatchNorm:
    """``y``, and the ``mean`` and ``rstd`` of each channel, by the statistics of x; moves the running ones."""

    def __init__(self, p: ChannelsProblem):
        self._statistics, self._normalise = BatchNormStatistics(p), _Normalise(p)
        self._channels = (p.channels,), np.dtype(p.dtype)
        self.workspace_bytes = self._statistics.workspace_bytes + p.channels * self._channels[1].itemsize

    def run(
        self, x: int, weight: int, bias: int, running_mean: int, running_var: int, y: int, mean: int, rstd: int,
        relu: int, correction: int, momentum: float, epsilon: float,
    ) -> None:  # fmt: skip
        """Addresses; 0 for a weight, a bias and running statistics that are not there."""
        scale = current_device().empty(*self._channels)
        at = current_device().address(scale)
        running = running_mean, running_var
        self._statistics.run(x, weight, *running, mean, rstd, at, correction, momentum, epsilon)
        self._normalise.run(x, mean, at, bias, y, relu)


class RunningScale:
    """What running statistics multiply each channel with: ``scale`` from the variance and the weight."""

    workspace_bytes = 0

    def __init__(self, p: ChannelsProblem):
        variant = running_scale_kernel.variant(p.dtype)
        given = "running_var weight scale epsilon"
        self.run = Task(variant, blocks_for(p.channels, THREADS), given, channels=p.channels).run


class RunningFold:
    """Normalisation of ``z + before`` by running statistics as ``z * scale + offset``, for each channel.

    z is the result of a convolution, and ``before`` its bias.
    """

    workspace_bytes = 0

    def __init__(self, p: ChannelsProblem):
        variant = running_fold_kernel.variant(p.dtype)
        given = "running_mean running_var weight bias before scale offset epsilon"
        self.run = Task(variant, blocks_for(p.channels, THREADS), given, channels=p.channels).run


class RunningBatchNorm:
    """``y`` by running statistics."""

    def __init__(self, p: ChannelsProblem):
        self._scale, self._normalise = RunningScale(p), _Normalise(p)
        self._channels = (p.channels,), np.dtype(p.dtype)
        self.workspace_bytes = p.channels * self._channels[1].itemsize

    def run(
        self, x: int, running_mean: int, running_var: int, weight: int, bias: int, y: int, relu: int, epsilon: float
    ) -> None:
        """Addresses; 0 for a weight and a bias that are not there."""
        scale = current_device().empty(*self._channels)
        at = current_device().address(scale)
        self._scale.run(running_var, weight, at, epsilon)
        self._normalise.run(x, running_mean, at, bias, y, relu)


# --- Gradient -------------------------------------------------------------------------------------------------------


def _gradient_visit(
    dtype: Any, vector: int, onward: Any, masked: bool, element: Any, written: bool, places: int
) -> Any:
    """What the kernels of the gradient have in common: a visit of places that reads x, dy and, if ``masked``, y.

    ``element(x, dz, numbers, sums, i)`` is what it does with each i-th element, for dz see
    :func:`gradient_sums_kernel`; what that returns is dx, if it is to be ``written``.
    """
    load, store = moving(vector)
    size, zero = places * vector, dtype(0)

    @device_function
    def visited(a, place, numbers, sums):
        x, dz = cuda.local.array(size, dtype), cuda.local.array(size, dtype)
        y, there = cuda.local.array(size, dtype), place
        for p in range(places):
            load(x, p * vector, a.x, place[1])
            load(dz, p * vector, a.dy, place[1])
            if masked:
                load(y, p * vector, a.y, place[1])
            place = onward(a, place)
        for p in range(places):
            for i in range(vector):
                at = p * vector + i
                if masked:
                    dz[at] = zero if y[at] <= zero else dz[at]
                dz[at] = element(x[at], dz[at], numbers, sums, i)
            if written:
                store(a.dx, there[1], dz, p * vector)
            there = onward(a, there)
        return place

    return visited


@kernel(x="source", dy="source", y="source", mean="source", parts="array", **WALK_FIELDS)
def gradient_sums_kernel(dtype: Any, threads: int, vector: int, planes: bool, masked: bool) -> Any:
    """``parts[0, p, c]`` and ``parts[1, p, c]``: the sums of dz and of ``dz * (x - mean)`` over each part.

    dz is dy, or if ``masked``, where y is behind a ReLU, 0 where y is not positive. Blocks and threads as a
    :class:`Walk` has them; bits repeat.
    """
    walk, zero = walking(threads, vector, planes), dtype(0)
    _, onward, first_channel, next_channel = walk
    terms = 2 * vector

    @device_function
    def add(x, dz, mean, sums, i):
        sums[i] += dz
        sums[vector + i] += dz * (x - mean[i])
        return dz

    def visit(places: int) -> Any:
        return _gradient_visit(dtype, vector, onward, masked, add, False, places)

    swept = sweep(dtype, vector, walk, 3 if masked else 2, visit)
    write = block_sums(dtype, threads, vector, planes, 2)

    def body(a):
        mean, sums = cuda.local.array(vector, dtype), cuda.local.array(terms, dtype)
        channel = first_channel(a)
        for i in range(vector):
            mean[i] = a.mean[channel]
            channel = next_channel(a, channel)
            sums[i] = zero
            sums[vector + i] = zero
        swept(a, mean, sums)
        write(a, sums)

    return body


@kernel(
    weight="source", rstd="source", dweight="array", dbias="array", level="array", slope="array", scale="array",
    moves="int", elements="long", **PARTS_FIELDS,
)  # fmt: skip
def gradient_numbers_kernel(dtype: Any, threads: int, lanes: int) -> Any:
    """For each channel dweight, dbias, and what :func:`input_gradient_kernel` needs.

    ``parts`` are those of :func:`gradient_sums_kernel`. ``moves``: whether mean and deviation are those of the
    ``elements`` of a channel and move with them; running ones do not. A block has ``lanes`` channels; bits repeat.
    """
    merge, double = merged_parts(threads, lanes, 2), types.float64

    def body(a):
        totals = cuda.local.array(2, double)
        channel = merge(a, totals)
        if channel < a.channels:
            rstd, count = double(a.rstd[channel]), max(a.elements, 1)
            along = totals[1] * rstd
            if is_there(a.dweight):
                a.dweight[channel] = dtype(along)
            if is_there(a.dbias):
                a.dbias[channel] = dtype(totals[0])
            a.level[channel] = dtype(totals[0] / count if a.moves else 0.0)
            a.slope[channel] = dtype(along * rstd / count if a.moves else 0.0)
            a.scale[channel] = dtype(rstd * double(a.weight[channel]) if is_there(a.weight) else rstd)

    return body


@kernel(
    x="source", dy="source", y="source", mean="source", level="source", slope="source", scale="source", dx="array",
    parts="array", **WALK_FIELDS,
)  # fmt: skip
def input_gradient_kernel(
    dtype: Any, threads: int, vector: int, planes: bool, masked: bool, behind_relu: bool, summed: bool
) -> Any:
    """``dx = (dz - level - (x - mean) * slope) * scale``; for dz see :func:`gradient_sums_kernel`.

    Args:
        masked: whether there is a y.
        behind_relu: whether x is, and dx the gradient in front of that ReLU: 0 where x is not positive.
        summed: whether ``parts[p, c]``, the sums of dx over each part, are wanted.

    Blocks and threads as a :class:`Walk` has them; bits repeat.
    """
    walk, zero = walking(threads, vector, planes), dtype(0)
    _, onward, first_channel, next_channel = walk
    size_of_numbers = 4 * vector

    @device_function
    def differentiated(x, dz, numbers, sums, i):
        mean, level, slope, scale = numbers[i], numbers[vector + i], numbers[2 * vector + i], numbers[3 * vector + i]
        dx = (dz - level - (x - mean) * slope) * scale
        if behind_relu:
            dx = zero if x <= zero else dx
        if summed:
            sums[i] += dx
        return dx

    def visit(places: int) -> Any:
        return _gradient_visit(dtype, vector, onward, masked, differentiated, True, places)

    swept = sweep(dtype, vector, walk, 3 if masked else 2, visit)
    write = block_sums(dtype, threads, vector, planes, 1)

    def body(a):
        numbers, sums = cuda.local.array(size_of_numbers, dtype), cuda.local.array(vector, dtype)
        channel = first_channel(a)
        for i in range(vector):
            numbers[i], numbers[vector + i] = a.mean[channel], a.level[channel]
            numbers[2 * vector + i], numbers[3 * vector + i] = a.slope[channel], a.scale[channel]
            channel = next_channel(a, channel)
            sums[i] = zero
        swept(a, numbers, sums)
        if summed:
            write(a, sums)

    return body


class BatchNormGradient:
    """``dx``, ``dweight`` and ``dbias`` from ``dy``, x, and the mean and rstd by which x was normalised.

    Where x is behind a ReLU, dx is the gradient in front of it; and ``db`` is the sum of dx over the pixels.
    """

    def __init__(self, p: ChannelsProblem):
        self._elements = p.pixels * p.channels * p.inner
        self._channels = (p.channels,), np.dtype(p.dtype)
        self._walk, self._alone = Walk(p, summed=True), Walk(p, summed=False)
        self.workspace_bytes = self._walk.parts_bytes(2) + 3 * p.channels * self._channels[1].itemsize
        self._numbers = self._walk.merging(
            gradient_numbers_kernel, "parts weight rstd dweight dbias level slope scale moves",
            elements=p.pixels * p.inner,
        )  # fmt: skip
        self._total = self._walk.merging(total_kernel, "parts total")
        self._sums, self._differentiate = cache(self._sums_task), cache(self._differentiate_task)

    def _sums_task(self, masked: bool) -> Task:
        given = "x dy y mean parts"
        return self._walk.task(gradient_sums_kernel, given, masked=masked)

    def _differentiate_task(self, masked: bool, behind_relu: bool, summed: bool) -> Task:
        walk, given = self._walk if summed else self._alone, "x dy y mean level slope scale dx parts"
        constants = {"masked": masked, "behind_relu": behind_relu, "summed": summed}
        return walk.task(input_gradient_kernel, given, **constants)

    def run(
        self, dy: int, x: int, y: int, weight: int, mean: int, rstd: int, dx: int, dweight: int, dbias: int, db: int,
        moves: int, behind_relu: int,
    ) -> None:  # fmt: skip
        """Addresses; ``y`` is 0 where no ReLU followed, and so are a weight and gradients that are not there."""
        if db and not dx and self._elements:  # an array of no elements has no address, either
            raise ValueError("db is the sum of dx: it cannot be had without")
        device = current_device()
        parts = self._walk.parts(2)
        each = [device.empty(*self._channels) for _ in range(3)]
        at, numbers = device.address(parts), [device.address(array) for array in each]
        self._sums(y != 0).run(x, dy, y, mean, at)
        self._numbers.run(at, weight, rstd, dweight, dbias, *numbers, moves)
        if dx:
            self._differentiate(y != 0, bool(behind_relu), db != 0).run(x, dy, y, mean, *numbers, dx, at)
        if db:
            self._total.run(at, db)
