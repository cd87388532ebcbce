"""Convolution and max pooling in one operation, and its weight gradient: one after the other, through memory.

What lies between the two is written and read once, at some TB/s: beside the convolution that is little.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pycnn_kernels.cuda.device import current_device
from pycnn_kernels.problem import ConvPoolProblem, channels_problem


def chosen(operation: str, problem: Any) -> Any:
    """The algorithm that the rule of choice gives an operation on the GPU, ready for a problem."""
    from pycnn_kernels.choice import choose  # it knows the lists of algorithms, which have those of this file

    return choose(operation, problem, backend="cuda").prepare(problem)


class Between:
    """Memory for an array between two operations, taken for each run.

    A run keeps the array until it has launched all that uses it: later ones that get the same memory run later.
    """

    def __init__(self, shape: tuple[int, ...], dtype: str) -> None:
        self._shape, self._dtype = shape, np.dtype(dtype)
        self.bytes = math.prod(shape) * self._dtype.itemsize

    def take(self) -> tuple[Any, int]:
        """The array, and its address."""
        device = current_device()
        array = device.empty(self._shape, self._dtype)
        return array, device.address(array)


class TwoPasses:
    """``y`` and ``index`` of the pooled convolution."""

    def __init__(self, p: ConvPoolProblem):
        self._convolution, self._pooling = chosen("conv_forward", p.conv), chosen("max_pool", p.pool)
        self._between = Between(p.conv.y_shape, p.dtype)
        self.workspace_bytes = self._between.bytes + max(
            self._convolution.workspace_bytes, self._pooling.workspace_bytes
        )

    def run(
        self, x: int, w: int, b: int, scale: int, residual: int, norm_mean: int, norm_scale: int, norm_bias: int,
        y: int, index: int,
    ) -> None:  # fmt: skip
        """Addresses; 0 for what is not there."""
        _kept, between = self._between.take()
        self._convolution.run(x, w, b, scale, residual, between)
        self._pooling.run(between, 0, norm_mean, norm_scale, norm_bias, y, index, False)


class TwoPassesGradient:
    """``dw`` and ``db`` of a convolution with bias and ReLU, from the gradient of what was pooled."""

    def __init__(self, p: ConvPoolProblem):
        conv, pool = p
        pooled = channels_problem(p.dtype, pool.layout, pool.N, pool.C, pool.output)
        self._bias = chosen("bias_activation_gradient", pooled)
        self._pooling = chosen("max_pool_gradient", pool)
        self._weights = chosen("conv_weight_gradient", conv.linear)
        self._relu = conv.activation == "relu"
        self._masked, self._between = Between(pool.y_shape, p.dtype), Between(conv.y_shape, p.dtype)
        nested = max(task.workspace_bytes for task in (self._bias, self._pooling, self._weights))
        self.workspace_bytes = self._masked.bytes * self._relu + self._between.bytes + nested

    def run(self, x: int, dy: int, index: int, y: int, dw: int, db: int) -> None:
        """Addresses; ``y`` is 0 without a ReLU, ``db`` where it is not wanted."""
        if self._relu:
            _masked, masked = self._masked.take()
            self._bias.run(dy, y, masked, db)
            dy = masked
        elif db:
            self._bias.run(dy, 0, 0, db)
        _kept, between = self._between.take()
        self._pooling.run(dy, index, between)
        self._weights.run(x, between, dw)
