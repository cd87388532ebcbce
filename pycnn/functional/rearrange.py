"""Elements shown at other places, and weighted sums of neighbours, differentiable: what padding and resizing are."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from pycnn import backend as backends
from pycnn.autograd import Function
from pycnn.backend import plan_on
from pycnn.tensor import Tensor
from pycnn_kernels.problem import RearrangeProblem, ResampleProblem, dtype_name, is_half

Grads = tuple[Tensor | None, ...]
Shape = tuple[int, ...]


def _name(x: Any) -> str:
    """The problems' name of the dtype of an array of floating point."""
    return dtype_name(x.dtype) or x.dtype.name


@lru_cache(maxsize=64)
def _stored(dtype: np.dtype) -> tuple[np.dtype, str]:
    """As what elements of a dtype are moved, and its name: halves as integers, which are not converted."""
    stored = np.dtype(np.uint16) if is_half(dtype) else dtype
    return stored, stored.name


class Rearrange(Function):
    """x of any dtype with its elements at other places, ``value`` where there is none; the result in a shape.

    ``inverse`` is the problem that leads back, where each element of x has one place in y.
    """

    reads = ()
    uses_numpy = False

    def forward(
        self,
        x: Any,
        *,
        problem: RearrangeProblem,
        shape: Shape,
        value: float = 0,
        inverse: RearrangeProblem | None = None,
    ) -> Any:
        self.problem, self.inverse, self.shape = problem, inverse, x.shape
        fill = backends.of(x).xp.full(1, value, x.dtype)
        stored, name = _stored(x.dtype)
        plan = plan_on(x, "rearrange", problem._replace(dtype=name))
        (y,) = plan.run(x.reshape(problem.x_shape).view(stored), fill.view(stored))
        return y.view(x.dtype).reshape(shape)

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        if self.inverse is not None:
            return (Rearrange.apply(dy, problem=self.inverse, shape=self.shape, inverse=self.problem),)
        return (RearrangeGradient.apply(dy, problem=self.problem, shape=self.shape),)


class RearrangeGradient(Function):
    """For each element of x the sum of those of dy that show it; the result in a shape."""

    reads = ()
    uses_numpy = False

    def forward(self, dy: Any, *, problem: RearrangeProblem, shape: Shape) -> Any:
        self.problem, self.shape = problem, dy.shape
        plan = plan_on(dy, "rearrange_gradient", problem._replace(dtype=_name(dy)))
        (dx,) = plan.run(dy.reshape(problem.y_shape))
        return dx.reshape(shape)

    def backward(self, ddx: Tensor) -> Grads:  # type: ignore[override]
        return (Rearrange.apply(ddx, problem=self.problem, shape=self.shape),)


class Resample(Function):
    """x with some of its axes resized to weighted sums of their elements, or with the transposed weights."""

    reads = ()
    uses_numpy = False

    def forward(self, x: Any, *, problem: ResampleProblem, shape: Shape, transposed: bool = False) -> Any:
        self.problem, self.shape, self.transposed = problem, x.shape, transposed
        plan = plan_on(x, "resample_gradient" if transposed else "resample", problem._replace(dtype=_name(x)))
        (y,) = plan.run(x.reshape(problem.y_shape if transposed else problem.x_shape))
        return y.reshape(shape)

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        return (Resample.apply(dy, problem=self.problem, shape=self.shape, transposed=not self.transposed),)
