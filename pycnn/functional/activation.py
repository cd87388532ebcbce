"""Activations: how they are computed, the common ones, and softmax."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from pycnn import backend as backends
from pycnn import changes, random
from pycnn.autograd import Function, is_grad_enabled
from pycnn.backend import plan_on
from pycnn.elementary import FLOAT32
from pycnn.functional.arguments import (
    apply,
    data_of,
    floating,
    holds_integers,
    in_place,
    integer,
    number,
    rounded,
    tensor_or_array,
    widened,
)
from pycnn.interop.arrays import drop_in
from pycnn.tensor import Tensor
from pycnn_kernels.activations import ACTIVATIONS
from pycnn_kernels.problem import DTYPE_NAMES, ActivationProblem, RowsProblem, dtype_name, numpy_dtype

Grads = tuple[Tensor | None, ...]


class Activation(Function):
    """One of the engine's activations, element by element; NaN stays NaN."""

    uses_numpy = False

    def forward(self, x: np.ndarray, *, name: str, parameters: tuple[float, ...] = ()) -> np.ndarray:
        self.settings: dict[str, Any] = {"name": name, "parameters": parameters}
        return computed(name, x, parameters)

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        return (ActivationGradient.apply(dy, self.inputs[0], derivative=1, **self.settings),)


class ActivationByResult(Function):
    """One of those whose gradient needs the result, which what follows keeps anyway, and not the input."""

    reads = ()
    uses_numpy = False

    def forward(self, x: np.ndarray, *, name: str, parameters: tuple[float, ...]) -> np.ndarray:
        self.name, self.y = name, computed(name, x, parameters)
        return self.y

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        y = self.output(self.y)
        if is_grad_enabled() and self.name != "relu":  # of operations that have derivatives of every order
            return (dy * (1 - y * y) if self.name == "tanh" else dy * y * (1 - y),)
        return (ActivationGradient.apply(dy, y, derivative=1, name=self.name, parameters=()),)


class ActivationGradient(Function):
    """``dy`` times the first or second derivative of an activation at x."""

    uses_numpy = False

    def forward(
        self, dy: np.ndarray, x: np.ndarray, *, name: str, parameters: tuple[float, ...], derivative: int
    ) -> np.ndarray:
        self.settings: dict[str, Any] = {"name": name, "parameters": parameters}
        self.derivative = derivative
        (dx,) = plan_on(x, "activation_gradient", _problem(name, x, derivative)).run(
            dy.reshape(-1), x.reshape(-1), scalars=parameters
        )
        return dx.reshape(x.shape)

    def backward(self, ddx: Tensor) -> Grads:  # type: ignore[override]
        dy, x = self.inputs
        is_curved = ACTIVATIONS[self.settings["name"]].curvature is not None
        along = bent = None
        if self.needs[0]:
            along = ActivationGradient.apply(ddx, x, derivative=self.derivative, **self.settings)
        if self.needs[1] and is_curved:
            bent = self._bent(ddx * dy, x)
        return along, bent

    def _bent(self, dx: Tensor, x: Tensor) -> Tensor:
        """``dx`` times the next derivative."""
        if self.derivative == 1:
            return ActivationGradient.apply(dx, x, derivative=2, **self.settings)
        from pycnn.functional.third_derivative import THIRD_DERIVATIVES  # composed of operations, which need this file

        return dx * THIRD_DERIVATIVES[self.settings["name"]](x, *self.settings["parameters"])


def computed(name: str, x: np.ndarray, parameters: tuple[float, ...] = ()) -> np.ndarray:
    """The values of an activation of float32 or float64."""
    (y,) = plan_on(x, "activation", _problem(name, x)).run(x.reshape(-1), scalars=parameters)
    return y.reshape(x.shape)


def _problem(name: str, x: np.ndarray, derivative: int = 0) -> ActivationProblem:
    return ActivationProblem(DTYPE_NAMES[x.dtype], name, x.size, derivative)


def activated(name: str, input: Any, parameters: tuple[float, ...] = (), inplace: bool = False) -> Any:
    """An activation of a tensor or an array; of halves computed in float32 and rounded once.

    Raises:
        TypeError: it holds no floating-point numbers.
    """
    x = floating("input", input)
    function = ActivationByResult if ACTIVATIONS[name].by_result else Activation
    y = rounded(apply(function, widened(x), name=name, parameters=parameters), x.dtype)
    return in_place(input, y) if inplace else y


def of_integers(input: Any, compute: Callable[[Any], Any], inplace: bool = False) -> Any:
    """What is computed of integers, which have no gradient: integers of their dtype."""
    x = tensor_or_array("input", input)
    y = compute(data_of(x)).astype(x.dtype)
    y = Tensor._of(y) if isinstance(x, Tensor) else y
    return in_place(input, y) if inplace else y


def in_floats(input: Any, or_booleans: bool = False) -> Any:
    """Integers in float32, as PyTorch makes them for functions whose results are fractions; all else as it is."""
    if not holds_integers(input, or_booleans):
        return input
    return tensor_or_array("input", input).astype(FLOAT32)


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
    """``max(x, 0)``, element by element; NaN stays NaN, and the slope at 0 is 0.

    Args:
        input: float16, bfloat16, float32, float64 or integers, any shape.
        inplace: whether to write the result to the input's memory and return the input.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        An array or tensor of the input's shape and dtype.

    Raises:
        TypeError: the input holds something else.
        RuntimeError: ``inplace`` for a leaf that requires a gradient, while operations are recorded.
        ValueError: ``inplace`` for a read-only array.

    Source: ``torch.nn.functional.relu``, https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.relu.html

    >>> import numpy as np
    >>> relu(np.array([-1.0, 0.0, 2.0]))
    array([0., 0., 2.])
    """
    if holds_integers(input):
        return of_integers(input, lambda x: np.maximum(x, 0), inplace)
    return activated("relu", input, inplace=inplace)


@drop_in
def tanh(input: Any, *, backend: str | None = None) -> Any:
    """The hyperbolic tangent, element by element.

    Args:
        input: any shape; float16, bfloat16 (both computed in float32 and rounded once), float32 or float64. Integers
            and booleans give float32.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        An array or tensor of the input's shape.

    Raises:
        TypeError: the input holds something else.

    Source: ``torch.nn.functional.tanh``, https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.tanh.html

    >>> import numpy as np
    >>> tanh(np.array([0.0]))
    array([0.])
    """
    return activated("tanh", in_floats(input, or_booleans=True))


@drop_in
def sigmoid(input: Any, *, backend: str | None = None) -> Any:
    """``1 / (1 + exp(-x))``, element by element.

    Args:
        input: any shape; float16, bfloat16 (both computed in float32 and rounded once), float32 or float64. Integers
            and booleans give float32.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        An array or tensor of the input's shape.

    Raises:
        TypeError: the input holds something else.

    Source: ``torch.nn.functional.sigmoid``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.sigmoid.html

    >>> import numpy as np
    >>> sigmoid(np.array([0.0]))
    array([0.5])
    """
    x = in_floats(input, or_booleans=True)
    y = activated("sigmoid", x)
    if isinstance(y, Tensor):
        y._logits = ("sigmoid", x, changes.moment)
    return y


@drop_in
def softmax(
    input: Any, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None, *, backend: str | None = None
) -> Any:
    """``exp(x) / sum(exp(x))`` along one axis.

    Args:
        input: float16, bfloat16 (both computed in float32 and rounded once), float32 or float64, any shape.
        dim: the axis; None, as in PyTorch, is 1 for 2 and for 4 and more axes, otherwise 0.
        dtype: cast the input, which may then hold integers, too, to this first: float16, bfloat16, float32 or float64,
            as NumPy's dtype, its name, or PyTorch's dtype.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        An array or tensor of the input's shape.

    Raises:
        TypeError: the input holds something else, ``dim`` is no integer, or ``dtype`` is none of those.
        ValueError: there is no such axis.

    Source: ``torch.nn.functional.softmax``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.softmax.html

    >>> import numpy as np
    >>> softmax(np.array([[0.0, 0.0]]), dim=1)
    array([[0.5, 0.5]])
    """
    x, axis = _along(input, dim, dtype)
    y = rounded(_by_axis(Softmax, widened(x), axis), x.dtype)
    if isinstance(y, Tensor) and axis == x.ndim - 1:
        y._logits = ("softmax", x, changes.moment)
    return y


@drop_in
def softmin(
    input: Any, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None, *, backend: str | None = None
) -> Any:
    """:func:`softmax` of -x; the same arguments, results and errors, and a TypeError for booleans, which have no -x.

    Source: ``torch.nn.functional.softmin``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.softmin.html

    >>> import numpy as np
    >>> softmin(np.array([0.0, 1000.0]), dim=0)
    array([1., 0.])
    """
    given = tensor_or_array("input", input)
    if given.dtype == bool:
        raise TypeError("input must hold numbers, which have a sign; received bool")
    x, axis = _along(given, dim, dtype)
    return softmax(-x, axis)


@drop_in
def log_softmax(
    input: Any, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None, *, backend: str | None = None
) -> Any:
    """The logarithm of :func:`softmax`, without its loss of accuracy; the same arguments and errors.

    Source: ``torch.nn.functional.log_softmax``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.log_softmax.html

    >>> import numpy as np
    >>> log_softmax(np.array([0.0, -1000.0]), dim=0)
    array([    0., -1000.])
    """
    x, axis = _along(input, dim, dtype)
    return rounded(_by_axis(LogSoftmax, widened(x), axis), x.dtype)


@drop_in
def gumbel_softmax(
    logits: Any, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1, *, backend: str | None = None
) -> Any:
    """Draws from classes with the probabilities of a softmax, such that the draw has a gradient.

    ``softmax((logits + g) / tau)`` with noise g of Gumbel's distribution: its greatest element is at each place with
    the probability of ``softmax(logits)``.

    Args:
        logits: float16, bfloat16, float32 or float64, any shape.
        tau: the temperature: the smaller, the closer to 1 is the greatest element.
        hard: whether to give 1 for the greatest element and 0 for the others, with the gradient of the soft ones.
        eps: without effect, as in PyTorch.
        dim: the axis of the classes.
        backend: "cpu" or "cuda", where to compute; None is where the logits are.

    Returns:
        An array or tensor of the shape and dtype of the logits.

    Raises:
        TypeError: the logits hold something else, ``tau`` is no number, or ``dim`` no integer.
        ValueError: there is no such axis, or with ``hard`` one without any class.

    Sources: Jang, Gu and Poole, "Categorical Reparameterization with Gumbel-Softmax" (2017);
    ``torch.nn.functional.gumbel_softmax``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.gumbel_softmax.html

    >>> import numpy as np
    >>> gumbel_softmax(np.array([0.0, 1000.0]), hard=True)
    array([0., 1.])
    """
    x, axis = _along(logits, integer("dim", dim), None)
    if hard and 0 in x.shape[axis : axis + 1]:
        raise ValueError(f"the axis {dim} must have a class at least; received the shape {tuple(x.shape)}")
    wide, place = widened(x), backends.of(data_of(x))
    noise = place.asarray(np.asarray(-np.log(random.generator().standard_exponential(x.shape))).astype(wide.dtype))
    soft = softmax((wide + noise) / number("tau", tau), axis)
    if not hard or not x.size:
        return rounded(soft, x.dtype)
    # Of the greatest ones the first; the difference of the two is a constant for the gradient.
    values = np.moveaxis(data_of(soft).reshape(x.shape or (1,)), axis if x.ndim else 0, -1)
    first = place.xp.arange(values.shape[-1]) == values.argmax(-1)[..., None]
    chosen = np.moveaxis(first, -1, axis if x.ndim else 0).reshape(x.shape).astype(wide.dtype)
    return rounded(soft + (chosen - data_of(soft)), x.dtype)


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
    x = floating("input", x if dtype is None else x.astype(_floating_dtype(dtype)))
    if dim is None:
        dim = 0 if x.ndim in (0, 1, 3) else 1
    dim, axes = integer("dim", dim), max(x.ndim, 1)
    if not -axes <= dim < axes:
        raise ValueError(f"dim must be from {-axes} to {axes - 1} for the shape {tuple(x.shape)}; received {dim}")
    return x, dim % axes


def _floating_dtype(dtype: Any) -> np.dtype:
    """The dtype that an argument names: one of NumPy's, its name, or one of PyTorch's, which is read by its name.

    Raises:
        TypeError: it names none, or one that holds no floating-point numbers.
    """
    name = str(dtype)
    with contextlib.suppress(TypeError, ValueError):
        if isinstance(dtype, str) or name.startswith("torch."):
            found = numpy_dtype(name.removeprefix("torch."))
        else:
            found = np.dtype(dtype)
        if dtype_name(found) is not None:
            return found
    raise TypeError(f"dtype must be float16, bfloat16, float32 or float64; received {dtype!r}")


def _by_axis(function: type[Function], x: Any, axis: int) -> Any:
    """An operation along an axis; a single number is an axis of one element."""
    return apply(function, x, axis=axis) if x.ndim else apply(function, x.reshape(1), axis=0).reshape(())
