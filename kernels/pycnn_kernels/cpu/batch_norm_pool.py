"""Batch normalisation whose result is max pooled, and the gradient in front of both, and of a ReLU in front of that.

A convolution, its ReLU, a normalisation by the statistics of the batch and a pooling follow each other in many
networks. What is normalised need not be written: with the statistics each element is normalised on its way to the
maximum. Behind the normalisation only the maxima have a gradient: the sums over all pixels that the gradient of the
statistics needs go over a quarter of the elements where windows are 2x2. One pass over x then computes, for each
element, the gradient that the windows leave it, in front of the normalisation, and in front of the ReLU; and adds it up
for the bias of the convolution. One operation after the other reads or writes ten arrays of the size of x, this reads x
twice and writes dx.
"""

from __future__ import annotations

import math

import numpy as np

from pycnn_kernels.cpu.batch_norm import BatchNormStatistics, gradient_numbers
from pycnn_kernels.cpu.conv_frame import ChannelsLast, Scratch
from pycnn_kernels.cpu.elementwise import sum_parts
from pycnn_kernels.cpu.launch import most_threads
from pycnn_kernels.cpu.layout import to_channels_first
from pycnn_kernels.cpu.pool import BatchNormMaxGradient, BatchNormMaxSums, MaxPool, positions_fit
from pycnn_kernels.cpu.windows import forward_windows
from pycnn_kernels.cpu.workspace import aligned_bytes, workspace
from pycnn_kernels.memory import address, aligned_empty
from pycnn_kernels.problem import PoolProblem, channels_problem


class BatchNormMaxPool:
    """``y, index`` and the mean and rstd of each channel from x; moves the running statistics."""

    def __init__(self, p: PoolProblem):
        self._statistics = BatchNormStatistics(channels_problem(p.dtype, p.layout, p.N, p.C, p.size))
        self._pooling = MaxPool(p._replace(normalised=True))
        self._nested = max(self._statistics.workspace_bytes, self._pooling.workspace_bytes)
        self.borrowed = (aligned_bytes(p.C, p.dtype),)  # the pooling uses the workspace
        #: With the memory that is lent for a run.
        self.workspace_bytes = self._nested + self.borrowed[0]

    def run(
        self, x: int, weight: int, bias: int, running_mean: int, running_var: int, y: int, index: int, mean: int,
        rstd: int, correction: int, momentum: float, epsilon: float,
    ) -> None:  # fmt: skip
        """Addresses; 0 for a weight, a bias, running statistics and an index that are not there."""
        lent = aligned_empty(self.borrowed, np.uint8)
        scale, running = address(lent), (running_mean, running_var)
        base = workspace(self._nested)
        self._statistics.run(base, x, weight, *running, mean, rstd, scale, correction, momentum, epsilon)
        self._pooling.run(x, 0, mean, scale, bias, y, index)


def gradient_supports(p: PoolProblem) -> str | None:
    """None for a problem that the kernel can do, otherwise the reason why not."""
    if any(np.diff(forward_windows(p, axis).begins).min(initial=1) == 0 for axis in range(3)):
        return "a window lies in the padding altogether: its gradient belongs to no element"
    return positions_fit(p)


class BatchNormMaxPoolGradient:
    """``dx, dweight, dbias, db`` from ``dy``, the pooling's ``index``, x, and its mean and rstd.

    dx is in front of the normalisation, and where x is behind a ReLU in front of that; db is its sum over the pixels.
    """

    def __init__(self, p: PoolProblem):
        pixels, pooled = math.prod(p.size), math.prod(p.output)
        last = p._replace(layout="channels_last", normalised=False)
        scratch = Scratch(p.dtype)
        self._x = ChannelsLast(p.layout, p.N, p.C, pixels, scratch)
        self._dy = ChannelsLast(p.layout, p.N, p.C, pooled, scratch)
        self._channels_first = p.layout == "channels_first"
        if self._channels_first:
            self._dx_at = scratch.reserve(p.N * p.C * pixels)
            self._write = to_channels_first(p.dtype, p.N, p.C, pixels)
        self._sums, self._gradient = BatchNormMaxSums(last), BatchNormMaxGradient(last)
        self._numbers = gradient_numbers(p.dtype, p.C, self._sums.rows, p.N * pixels)
        self._total = sum_parts(p.dtype, self._gradient.rows, p.C)
        self._sums_at, self._products_at = (scratch.reserve(self._sums.rows * p.C) for _ in range(2))
        self._dx_sums_at = scratch.reserve(self._gradient.rows * p.C)
        self._numbers_at = [scratch.reserve(p.C) for _ in range(3)]
        lines = max(self._sums.worker_bytes, self._gradient.worker_bytes)
        self._lines_at = scratch.reserve_bytes(most_threads() * lines)
        self.workspace_bytes = scratch.size

    def run(
        self, dy: int, index: int, x: int, weight: int, mean: int, rstd: int, dx: int, dweight: int, dbias: int,
        db: int, behind_relu: bool,
    ) -> None:  # fmt: skip
        """Addresses; 0 for a weight and gradients that are not there."""
        if db and not dx:
            raise ValueError("db is the sum of dx: it cannot be had without")
        base = workspace(self.workspace_bytes)
        x, dy, lines = self._x.run(base, x), self._dy.run(base, dy), base + self._lines_at
        sums, products, dx_sums = base + self._sums_at, base + self._products_at, base + self._dx_sums_at
        level, slope, scale = (base + at for at in self._numbers_at)
        self._sums.task.run(lines, x, 0, index, dy, mean, sums, products)
        self._numbers.run(sums, products, weight, rstd, dweight, dbias, level, slope, scale, True)
        if dx:
            result = base + self._dx_at if self._channels_first else dx
            self._gradient.task.run(lines, dy, result, index, x, mean, level, slope, scale, dx_sums, behind_relu)
            if self._channels_first:
                self._write.run(result, dx)
        if db:
            self._total.run(dx_sums, db)
