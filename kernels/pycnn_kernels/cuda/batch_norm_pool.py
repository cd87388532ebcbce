"""Batch normalisation whose result is max pooled, and its gradient: one after the other, through memory."""

from __future__ import annotations

from pycnn_kernels.cuda.conv_pool import Between, chosen
from pycnn_kernels.problem import PoolProblem, channels_problem


class BatchNormMaxPool:
    """``y, index`` and the mean and rstd of each channel from x; moves the running statistics."""

    def __init__(self, p: PoolProblem):
        pixels = channels_problem(p.dtype, p.layout, p.N, p.C, p.size)
        self._norm, self._pooling = chosen("batch_norm", pixels), chosen("max_pool", p._replace(normalised=False))
        self._between = Between(p.x_shape, p.dtype)
        self.workspace_bytes = self._between.bytes + max(self._norm.workspace_bytes, self._pooling.workspace_bytes)

    def run(
        self, x: int, weight: int, bias: int, running_mean: int, running_var: int, y: int, index: int, mean: int,
        rstd: int, correction: int, momentum: float, epsilon: float,
    ) -> None:  # fmt: skip
        """Addresses; 0 for a weight, a bias, running statistics and an index that are not there."""
        _kept, between = self._between.take()
        self._norm.run(
            x, weight, bias, running_mean, running_var, between, mean, rstd, False, correction, momentum, epsilon
        )
        self._pooling.run(between, 0, 0, 0, 0, y, index, False)


class BatchNormMaxPoolGradient:
    """``dx, dweight, dbias, db`` from ``dy``, the pooling's ``index``, x, and its mean and rstd.

    dx is in front of the normalisation, and where x is behind a ReLU in front of that; db is its sum over the pixels.
    """

    def __init__(self, p: PoolProblem):
        pixels = channels_problem(p.dtype, p.layout, p.N, p.C, p.size)
        self._pooling = chosen("max_pool_gradient", p._replace(normalised=False))
        self._norm = chosen("batch_norm_gradient", pixels)
        self._between = Between(p.x_shape, p.dtype)
        self.workspace_bytes = self._between.bytes + max(self._norm.workspace_bytes, self._pooling.workspace_bytes)

    def run(
        self, dy: int, index: int, x: int, weight: int, mean: int, rstd: int, dx: int, dweight: int, dbias: int,
        db: int, behind_relu: bool,
    ) -> None:  # fmt: skip
        """Addresses; 0 for a weight and gradients that are not there."""
        _kept, between = self._between.take()
        self._pooling.run(dy, index, between)
        self._norm.run(between, x, 0, weight, mean, rstd, dx, dweight, dbias, db, True, behind_relu)
