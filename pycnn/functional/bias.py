"""The gradients in front of a ReLU and of a bias for each channel."""

from __future__ import annotations

import numpy as np

from pycnn.autograd import Function
from pycnn.backend import plan_on
from pycnn.elementary import Broadcast
from pycnn.tensor import Tensor
from pycnn_kernels.problem import ChannelsProblem

Grads = tuple[Tensor | None, ...]


class ReluBiasGradient(Function):
    """``dz = dy where y > 0`` and ``db`` = the sum of dz over all pixels, in one pass."""

    reads = ()
    uses_numpy = False
    outputs = 2

    def forward(
        self, dy: np.ndarray, *, problem: ChannelsProblem, y: np.ndarray, want_bias: bool
    ) -> tuple[np.ndarray | None, ...]:
        self.problem, self.y, self.shape = problem, y, dy.shape
        skip = () if want_bias else ("db",)
        plan = plan_on(dy, "bias_activation_gradient", problem)
        dz, db = plan.run(dy.reshape(problem.shape), y.reshape(problem.shape), skip=skip)
        return dz.reshape(dy.shape), db

    def backward(self, ddz: Tensor | None, ddb: Tensor | None) -> Grads:  # type: ignore[override]
        total = ddz
        if ddb is not None:
            spread = _over_pixels(ddb, self.problem, self.shape)
            total = spread if total is None else total + spread
        if total is None:
            return (None,)
        return (ReluBiasGradient.apply(total, problem=self.problem, y=self.y, want_bias=False)[0],)


class BiasGradient(Function):
    """``db`` = the sum of dy over all pixels."""

    reads = ()
    uses_numpy = False

    def forward(self, dy: np.ndarray, *, problem: ChannelsProblem) -> np.ndarray:
        self.problem, self.shape = problem, dy.shape
        _, db = plan_on(dy, "bias_activation_gradient", problem).run(dy.reshape(problem.shape), None, skip=("dz",))
        return db

    def backward(self, ddb: Tensor) -> Grads:  # type: ignore[override]
        return (_over_pixels(ddb, self.problem, self.shape),)


def _over_pixels(per_channel: Tensor, problem: ChannelsProblem, shape: tuple[int, ...]) -> Tensor:
    """One value a channel, repeated for each pixel of an array of ``shape``."""
    return Broadcast.apply(per_channel.reshape(1, problem.channels, 1), shape=problem.shape).reshape(shape)
