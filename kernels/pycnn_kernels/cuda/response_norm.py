"""Local response normalisation across channels, and its gradient, in both layouts without transposition.

The arrays are ``outer`` x ``channels`` x ``inner``, inner 1 in channels last: the same pixel of the next channel lies
``inner`` elements on. A thread has four neighbouring elements, 16 bytes: pixels of one channel, whose windows hold as
many of each channel around; or channels of one pixel, whose windows overlap. Where neither are a multiple of four it
has one element. Windows come from the cache: their elements are those of threads nearby.

The gradient takes two launches, for each of its sums is over elements that need a window of their own: what is summed
is written to memory in between.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from numba import cuda
from numba.cuda import types

from pycnn_kernels.cuda.channels import VECTOR, moving
from pycnn_kernels.cuda.compile import device_function
from pycnn_kernels.cuda.device import current_device
from pycnn_kernels.cuda.launch import THREADS, Kernel, Task, blocks_for, counted, kernel
from pycnn_kernels.cuda.ptx import quotient, remainder
from pycnn_kernels.problem import ChannelsProblem

#: Channels of a window at most that kernels are compiled for; larger ones are counted by a loop.
_MOST_COMPILED = 16

#: Powers of the divisor that roots make, which are faster and rounded less.
_ROOTS = (0.75, 0.5)

#: ``plane``: vectors of a channel of an image; ``size``: channels of a window.
_WINDOW_FIELDS = {
    "units": "int", "channels": "int", "inner": "long", "plane": "int", "size": "int", "share": "float",
    "beta": "float", "k": "float",
}  # fmt: skip


def elements_fit(p: ChannelsProblem) -> str | None:
    """None where 32 bits count the elements, otherwise a refusal."""
    return counted(p.pixels * p.channels * p.inner)


def _place_of(threads: int, vector: int, across: bool) -> Any:
    """A device function: the number of a thread's unit of ``vector`` elements, the first of them, and its channel."""

    @device_function
    def place(a):
        unit = types.int64(cuda.blockIdx.x) * threads + cuda.threadIdx.x
        if across:
            return unit, unit * vector, types.int64(remainder(unit, quotient(a.channels, vector))) * vector
        return unit, unit * vector, types.int64(remainder(quotient(unit, a.plane), a.channels))

    return place


def _window_sums(dtype: Any, vector: int, across: bool, size: int, squared: bool, mirrored: bool) -> Any:
    """A device function ``fill(a, source, at, channel, totals)``: the sums over the windows of a thread's elements.

    Args:
        dtype: of the elements.
        vector: how many a thread has, from ``at`` on.
        across: whether they are neighbouring channels, rather than pixels.
        size: channels of a window, from size // 2 before the element's own; 0 if a field says how many.
        squared: whether squares are summed.
        mirrored: whether the windows are those of channels whose windows hold the element's own.

    Channels outside count 0: in their place an element is read that is there, so that no load waits for a branch.
    """
    load, _ = moving(vector)
    zero = dtype(0)
    before, after = (size - 1) // 2 if mirrored else size // 2, size // 2 if mirrored else (size - 1) // 2
    ahead, behind = -(-before // vector), -(-after // vector)  # vectors of channels around those of the thread
    room = (ahead + 1 + behind) * vector

    if across:

        @device_function
        def fill(a, source, at, channel, totals):
            values = cuda.local.array(room, dtype)
            for v in range(-ahead, behind + 1):
                there = 0 <= channel + v * vector < a.channels
                load(values, (v + ahead) * vector, source, at + (v * vector if there else 0))
                for i in range(vector):
                    value = values[(v + ahead) * vector + i]
                    value = value * value if squared else value
                    values[(v + ahead) * vector + i] = value if there else zero
            for i in range(vector):
                totals[i] = zero
                for t in range(-before, after + 1):
                    totals[i] += values[ahead * vector + i + t]

    else:

        @device_function
        def fill(a, source, at, channel, totals):
            values = cuda.local.array(vector, dtype)
            first, beyond = types.int64(-before), types.int64(after + 1)
            if size == 0:
                first = -types.int64((a.size - 1) >> 1 if mirrored else a.size >> 1)
                beyond = first + a.size
            for i in range(vector):
                totals[i] = zero
            for t in range(first, beyond):
                there = 0 <= channel + t < a.channels
                load(values, 0, source, at + (t * a.inner if there else 0))
                for i in range(vector):
                    value = values[i] * values[i] if squared else values[i]
                    totals[i] += value if there else zero

    return fill


def _inverse_power(dtype: Any, beta: float | None) -> Any:
    """A device function: the divisor d to the power of minus ``beta``, or of minus a field's."""
    one = dtype(1)

    @device_function
    def power(a, d):
        if beta == 0.75:
            root = one / math.sqrt(d)
            return root * math.sqrt(root)
        if beta == 0.5:
            return one / math.sqrt(d)
        return one / math.pow(d, a.beta)

    return power


@kernel(x="source", y="array", **_WINDOW_FIELDS)
def response_norm_kernel(dtype: Any, threads: int, vector: int, across: bool, size: int, beta: float | None) -> Any:
    """``y = x * d^-beta``, ``d = k + share * sum of x^2`` over ``size`` channels, from size // 2 before x's own.

    A thread has ``vector`` elements, see :func:`_window_sums`; bits repeat.
    """
    place, power = _place_of(threads, vector, across), _inverse_power(dtype, beta)
    squares = _window_sums(dtype, vector, across, size, True, False)
    load, store = moving(vector)

    def body(a):
        unit, at, channel = place(a)
        if unit < a.units:
            totals, x = cuda.local.array(vector, dtype), cuda.local.array(vector, dtype)
            squares(a, a.x, at, channel, totals)
            load(x, 0, a.x, at)
            for i in range(vector):
                x[i] *= power(a, a.k + a.share * totals[i])
            store(a.y, at, x, 0)

    return body


@kernel(dy="source", x="source", terms="array", **_WINDOW_FIELDS)
def response_norm_terms_kernel(
    dtype: Any, threads: int, vector: int, across: bool, size: int, beta: float | None
) -> Any:
    """``terms = dy * x * d^-(beta + 1)``: what :func:`response_norm_gradient_kernel` sums; d as in the forward."""
    place, power = _place_of(threads, vector, across), _inverse_power(dtype, beta)
    squares = _window_sums(dtype, vector, across, size, True, False)
    load, store = moving(vector)

    def body(a):
        unit, at, channel = place(a)
        if unit < a.units:
            totals = cuda.local.array(vector, dtype)
            x, dy = cuda.local.array(vector, dtype), cuda.local.array(vector, dtype)
            squares(a, a.x, at, channel, totals)
            load(x, 0, a.x, at)
            load(dy, 0, a.dy, at)
            for i in range(vector):
                d = a.k + a.share * totals[i]
                dy[i] *= power(a, d) * x[i] / d
            store(a.terms, at, dy, 0)

    return body


@kernel(dy="source", x="source", terms="source", dx="array", slope="float", **_WINDOW_FIELDS)
def response_norm_gradient_kernel(
    dtype: Any, threads: int, vector: int, across: bool, size: int, beta: float | None
) -> Any:
    """``dx = dy * d^-beta - slope * x * sum of terms`` over the channels whose windows hold x; d as in the forward.

    ``slope`` is ``2 * share * beta``; for ``terms`` see :func:`response_norm_terms_kernel`.
    """
    place, power = _place_of(threads, vector, across), _inverse_power(dtype, beta)
    squares = _window_sums(dtype, vector, across, size, True, False)
    sums = _window_sums(dtype, vector, across, size, False, True)
    load, store = moving(vector)

    def body(a):
        unit, at, channel = place(a)
        if unit < a.units:
            totals, along = cuda.local.array(vector, dtype), cuda.local.array(vector, dtype)
            x, dy = cuda.local.array(vector, dtype), cuda.local.array(vector, dtype)
            squares(a, a.x, at, channel, totals)
            sums(a, a.terms, at, channel, along)
            load(x, 0, a.x, at)
            load(dy, 0, a.dy, at)
            for i in range(vector):
                dy[i] = dy[i] * power(a, a.k + a.share * totals[i]) - a.slope * x[i] * along[i]
            store(a.dx, at, dy, 0)

    return body


class _Windows:
    """Kernels over the windows of a problem, each made ready for the sizes and powers that it is run with."""

    def __init__(self, p: ChannelsProblem):
        self._problem = p
        self.task = cache(self._task)

    def _task(self, of: Kernel, given: str, size: int, beta: float) -> Task:
        dtype, pixels, channels, inner = self._problem
        compiled = size if size <= _MOST_COMPILED else 0
        across = inner == 1 and channels % VECTOR == 0 and compiled > 0
        vector = VECTOR if across or inner % VECTOR == 0 else 1
        units, power = pixels * channels * inner // vector, beta if beta in _ROOTS else None
        variant = of.variant(dtype, vector=vector, across=across, size=compiled, beta=power)
        return Task(
            variant, blocks_for(units, THREADS), given + " size share beta k",
            units=units, channels=channels, inner=inner, plane=max(inner // vector, 1),
        )  # fmt: skip


class ResponseNorm:
    """``y`` from ``x``; see :func:`response_norm_kernel`."""

    workspace_bytes = 0

    def __init__(self, p: ChannelsProblem):
        self._windows = _Windows(p)

    def run(self, x: int, y: int, size: int, alpha: float, beta: float, k: float) -> None:
        self._windows.task(response_norm_kernel, "x y", size, beta).run(x, y, size, alpha / size, beta, k)


class ResponseNormGradient:
    """``dx`` from ``dy`` and ``x``; see :func:`response_norm_gradient_kernel`."""

    def __init__(self, p: ChannelsProblem):
        self._windows = _Windows(p)
        self._terms = (p.pixels * p.channels * p.inner,), np.dtype(p.dtype)
        self.workspace_bytes = self._terms[0][0] * self._terms[1].itemsize

    def run(self, dy: int, x: int, dx: int, size: int, alpha: float, beta: float, k: float) -> None:
        terms, share = current_device().empty(*self._terms), alpha / size
        at, settings = current_device().address(terms), (share, beta, k)
        self._windows.task(response_norm_terms_kernel, "dy x terms", size, beta).run(dy, x, at, size, *settings)
        gradient = self._windows.task(response_norm_gradient_kernel, "dy x terms dx slope", size, beta)
        gradient.run(dy, x, at, dx, 2 * share * beta, size, *settings)
