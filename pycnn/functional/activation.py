"""Activations."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from pycnn import backend as backends
from pycnn import changes
from pycnn.autograd import Function
from pycnn.backend import plan_on
from pycnn.elementary import Select, elementwise, where
from pycnn.functional.arguments import apply, floating, integer, rounded, tensor_or_array, widened
from pycnn.interop.arrays import drop_in
from pycnn.tensor import Tensor
from pycnn_kernels.problem import DTYPE_NAMES, RowsProblem, numpy_dtype

Grads = tuple[Tensor | None, ...]


class Relu(Function):
    """``max(x, 0)``; NaN stays NaN."""

    reads = ()

    def forward(self, x: np.ndarray) -> np.ndarray:
        self.y = elementwise(np.maximum, x, x.dtype.type(0))
        return self.y

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        closed = elementwise(np.less_equal, self.y, self.y.dtype.type(0), dtype=bool)
        return (Select.apply(dy, mask=np.logical_not(closed, out=closed if closed.ndim else None)),)


class Tanh(Function):
    reads = ()

    def forward(self, x: np.ndarray) -> np.ndarray:
        self.y = elementwise(np.tanh, x)
        return self.y

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        y = self.output(self.y)
        return (dy * (1 - y * y),)


class Sigmoid(Function):
    """``1 / (1 + exp(-x))``."""

    reads = ()

    def forward(self, x: np.ndarray) -> np.ndarray:
        self.y = sigmoid_of(x)
        return self.y

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        y = self.output(self.y)
        return (dy * y * (1 - y),)


def sigmoid_of(x: np.ndarray) -> np.ndarray:
    """``1 / (1 + exp(-x))``; below 0 as ``exp(x) / (1 + exp(x))``, so that nothing overflows or cancels."""
    zero, one = x.dtype.type(0), x.dtype.type(1)
    e = elementwise(np.exp, elementwise(np.negative, elementwise(np.abs, x)))
    above = elementwise(np.greater_equal, x, zero, dtype=bool)
    return elementwise(np.divide, where(above, one, e), elementwise(np.add, one, e))


def _by_rows(operation: str, x: np.ndarray, axis: int) -> np.ndarray:
    """Run a kernel that works on rows along any axis."""
    last = axis in (-1, x.ndim - 1)
    moved = x if last else np.moveaxis(x, axis, -1)
    problem = RowsProblem(DTYPE_NAMES[x.dtype], x.size // max(x.shape[axis], 1), x.shape[axis])
    (y,) = plan_on(moved, operation, problem).run(
        backends.of(moved).xp.ascontiguousarray(moved).reshape(problem.rows, problem.columns)
    )
    y = y.reshape(moved.shape)
    return y if last else np.moveaxis(y, -1, axis)


class Softmax(Function):
    reads = ()
    uses_numpy = False

    def forward(self, x: np.ndarray, *, axis: int) -> np.ndarray:
        self.axis = axis
        self.p = _by_rows("softmax", x, axis)
        return self.p

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        p = self.output(self.p)
        return (p * (dy - (dy * p).sum(self.axis, keepdims=True)),)


class LogSoftmax(Function):
    reads = ()
    uses_numpy = False

    def forward(self, x: np.ndarray, *, axis: int) -> np.ndarray:
        self.axis = axis
        self.y = _by_rows("log_softmax", x, axis)
        return self.y

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        p = self.output(self.y).exp()
        return (dy - p * dy.sum(self.axis, keepdims=True),)


@drop_in
def relu(input: Any, inplace: bool = False, *, backend: str | None = None) -> Any:
    """``max(x, 0)``, element by element; NaN stays NaN.

    Args:
        input: float16, bfloat16, float32 or float64, any shape.
        inplace: must be False: results are new arrays here.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    >>> import numpy as np
    >>> relu(np.array([-1.0, 0.0, 2.0]))
    array([0., 0., 2.])
    """
    refuse_inplace(inplace)
    return apply(Relu, floating("input", input))


@drop_in
def tanh(input: Any, *, backend: str | None = None) -> Any:
    """The hyperbolic tangent, element by element; of float16 and bfloat16 computed in float32 and rounded once.

    >>> import numpy as np
    >>> tanh(np.array([0.0]))
    array([0.])
    """
    x = floating("input", input)
    return rounded(apply(Tanh, widened(x)), x.dtype)


@drop_in
def sigmoid(input: Any, *, backend: str | None = None) -> Any:
    """``1 / (1 + exp(-x))``, element by element; of float16 and bfloat16 computed in float32 and rounded once.

    >>> import numpy as np
    >>> sigmoid(np.array([0.0]))
    array([0.5])
    """
    x = floating("input", input)
    y = rounded(apply(Sigmoid, widened(x)), x.dtype)
    if isinstance(y, Tensor):
        y._logits = ("sigmoid", input, changes.moment)
    return y


@drop_in
def softmax(
    input: Any, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None, *, backend: str | None = None
) -> Any:
    """``exp(x) / sum(exp(x))`` along one axis.

    Args:
        input: float16, bfloat16 (both computed in float32 and rounded once), float32 or float64, at least one axis.
        dim: the axis; None, as in PyTorch, is 1 for 2 and for 4 and more axes, otherwise 0.
        dtype: cast the input to this first.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Raises:
        ValueError: there is no such axis.

    >>> import numpy as np
    >>> softmax(np.array([[0.0, 0.0]]), dim=1)
    array([[0.5, 0.5]])
    """
    x, axis = _along(input, dim, dtype)
    y = rounded(apply(Softmax, widened(x), axis=axis), x.dtype)
    if isinstance(y, Tensor) and axis == x.ndim - 1:
        y._logits = ("softmax", x, changes.moment)
    return y


@drop_in
def log_softmax(
    input: Any, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None, *, backend: str | None = None
) -> Any:
    """The logarithm of :func:`softmax`, without its loss of accuracy; the same arguments.

    >>> import numpy as np
    >>> log_softmax(np.array([0.0, -1000.0]), dim=0)
    array([    0., -1000.])
    """
    x, axis = _along(input, dim, dtype)
    return rounded(apply(LogSoftmax, widened(x), axis=axis), x.dtype)


def logits_of(tensor: Tensor, kind: Literal["softmax", "sigmoid"]) -> Tensor | None:
    """What a tensor was before :func:`softmax` over its last axis, or before :func:`sigmoid`; None for others.

    Losses on probabilities use it to compute from the logits, which is faster and exact where a probability
    has rounded to 0 or 1. A loss must ask for the function that it undoes: the logits of another one give
    another probability.

    >>> x = Tensor([[1.0, 2.0]])
    >>> logits_of(sigmoid(x), "sigmoid") is x, logits_of(sigmoid(x), "softmax") is x
    (True, False)
    """
    if tensor._logits is None or tensor._logits[0] != kind:
        return None
    _, logits, moment = tensor._logits
    return None if changes.since(tensor.data, moment) or changes.since(logits.data, moment) else logits


def _along(input: Any, dim: int | None, dtype: Any) -> tuple[Any, int]:
    x = tensor_or_array("input", input)
    x = floating("input", x if dtype is None else x.astype(numpy_dtype(dtype) if isinstance(dtype, str) else dtype))
    if x.ndim == 0:
        raise ValueError("input must have at least one axis; received a single number")
    if dim is None:
        dim = 0 if x.ndim in (1, 3) else 1
    dim = integer("dim", dim)
    if not -x.ndim <= dim < x.ndim:
        raise ValueError(f"dim must be from {-x.ndim} to {x.ndim - 1} for the shape {tuple(x.shape)}; received {dim}")
    return x, dim % x.ndim


def refuse_inplace(inplace: bool) -> None:
    if inplace:
        raise ValueError("inplace must be False: pycnn gives results as new arrays")
