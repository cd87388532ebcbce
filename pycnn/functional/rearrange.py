"""Elements shown at other places, and weighted sums of neighbours, differentiable: what padding and resizing are."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from pycnn import backend as backends
from pycnn.autograd import Function
from pycnn.backend import plan_on
from pycnn.functional.arguments import rounded, tensor_or_array, widened
from pycnn.tensor import Tensor
from pycnn_kernels.problem import RearrangeProblem, ResampleProblem, dtype_name, is_half

Grads = tuple[Tensor | None, ...]
Shape = tuple[int, ...]


def _name(x: Any) -> str:
    """The problems' name of the dtype of an array of floating point."""
    return dtype_name(x.dtype) or x.dtype.name


@lru_cache(maxsize=64)
def _stored(dtype: np.dtype) -> tuple[np.dtype, str] | None:
    """As what elements of a dtype are moved, and its name: integers of their size; None for those that cannot be.

    What is a pointer to something else, as Python's objects are, must not be copied without counting it.
    """
    if (dtype.kind in "biufc" or is_half(dtype)) and dtype.itemsize in (1, 2, 4, 8):
        name = f"uint{8 * dtype.itemsize}"
        return np.dtype(name), name
    return None


def stored_name(dtype: np.dtype) -> str:
    """What problems call a dtype that :func:`movable` takes; complex128 is moved as float64."""
    return (_stored(dtype) or (None, "uint64"))[1]


@lru_cache(maxsize=64)
def _nothing(dtype: np.dtype) -> np.ndarray:
    """A zero for where there is no element; kernels read it."""
    return np.zeros(1, dtype)


def movable(name: str, value: Any) -> Any:
    """A tensor, or an array made ready, of a dtype whose elements :class:`Rearrange` moves.

    Raises:
        TypeError: it holds something else.
    """
    value = tensor_or_array(name, value)
    if value.dtype != np.complex128 and _stored(value.dtype) is None:
        raise TypeError(
            f"{name} must hold booleans, integers, or real or complex floating-point numbers whose parts have at most "
            f"64 bits; received {value.dtype}"
        )
    return value


class Rearrange(Function):
    """x with its elements at other places, ``value`` where there is none; the result in a shape.

    x is of a dtype that :func:`movable` takes; complex128 is moved as two arrays, its real and its imaginary parts.

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
        if x.dtype != np.complex128:
            return _moved(x, problem, value).reshape(shape)
        xp = backends.of(x).xp
        words = xp.ascontiguousarray(x).reshape(problem.x_shape).view(np.float64)
        parts = _moved(words[..., ::2], problem, value), _moved(words[..., 1::2], problem, 0)
        return xp.stack(parts, axis=-1).view(x.dtype).reshape(shape)

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        if self.inverse is not None:
            return (Rearrange.apply(dy, problem=self.inverse, shape=self.shape, inverse=self.problem),)
        return (RearrangeGradient.apply(dy, problem=self.problem, shape=self.shape),)


def _moved(x: Any, problem: RearrangeProblem, value: float) -> Any:
    """y of a problem, of x as bits, which are not converted."""
    found = _stored(x.dtype)
    assert found is not None, x.dtype  # by movable
    stored, name = found
    if type(value) is int and value == 0 and isinstance(x, np.ndarray):
        fill = _nothing(stored)
    else:
        fill = backends.of(x).xp.full(1, value, x.dtype).view(stored)
    plan = plan_on(x, "rearrange", problem if problem.dtype == name else problem._replace(dtype=name))
    (y,) = plan.run(x.reshape(problem.x_shape).view(stored), fill)
    return y.view(x.dtype)


class RearrangeGradient(Function):
    """For each element of x the sum of those of dy that show it; the result in a shape."""

    reads = ()
    uses_numpy = False

    def forward(self, dy: Any, *, problem: RearrangeProblem, shape: Shape) -> Any:
        self.problem, self.shape = problem, dy.shape
        wide = widened(dy)
        plan = plan_on(wide, "rearrange_gradient", problem._replace(dtype=_name(wide)))
        (dx,) = plan.run(wide.reshape(problem.y_shape))
        return rounded(dx.reshape(shape), dy.dtype)

    def backward(self, ddx: Tensor) -> Grads:  # type: ignore[override]
        return (Rearrange.apply(ddx, problem=self.problem, shape=self.shape),)


class Resample(Function):
    """x with some of its axes resized to weighted sums of their elements, or with the transposed weights."""

    reads = ()
    uses_numpy = False

    def forward(self, x: Any, *, problem: ResampleProblem, shape: Shape, transposed: bool = False) -> Any:
        self.problem, self.shape, self.transposed = problem, x.shape, transposed
        wide = widened(x)
        name = _name(wide)
        of_name = problem if problem.dtype == name else problem._replace(dtype=name)
        plan = plan_on(wide, "resample_gradient" if transposed else "resample", of_name)
        (y,) = plan.run(wide.reshape(problem.y_shape if transposed else problem.x_shape))
        return rounded(y.reshape(shape), x.dtype)

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        return (Resample.apply(dy, problem=self.problem, shape=self.shape, transposed=not self.transposed),)
