"""Activation functions by Keras' names: tensors in, tensors out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from pycnn import functional as F
from pycnn.elementary import Select
from pycnn.naming import nearest
from pycnn.tensor import Tensor

ActivationFunction = Callable[[Tensor], Tensor]


def linear(x: Tensor) -> Tensor:
    """``x`` unchanged."""
    return x


def relu(x: Tensor, negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0.0) -> Tensor:
    """``max(x, 0)``. Layers with weights compute it inside their kernel instead of calling this.

    In general: ``x`` above the threshold, there at most ``max_value``; ``negative_slope * (x - threshold)`` elsewhere.

    >>> relu(Tensor([-2.0, 0.5, 3.0, 9.0]), negative_slope=0.5, max_value=6.0, threshold=1.0).numpy()
    array([-1.5 , -0.25,  3.  ,  6.  ], dtype=float32)
    """
    y = Select.apply(x, mask=x.data > threshold) if threshold else F.relu(x)
    if max_value is not None:
        y = y.clip(high=max_value)
    return y - negative_slope * F.relu(threshold - x) if negative_slope else y


def leaky_relu(x: Tensor, negative_slope: float = 0.2) -> Tensor:
    """``x`` where it is positive, ``negative_slope * x`` elsewhere."""
    return relu(x, negative_slope)


def relu6(x: Tensor) -> Tensor:
    """``min(max(x, 0), 6)``."""
    return relu(x, max_value=6.0)


def elu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """``x`` where it is positive, ``alpha * (exp(x) - 1)`` elsewhere."""
    return F.relu(x) + alpha * (x.clip(high=0.0).exp() - 1)


def sigmoid(x: Tensor) -> Tensor:
    """``1 / (1 + exp(-x))``."""
    return F.sigmoid(x)


def tanh(x: Tensor) -> Tensor:
    """The hyperbolic tangent."""
    return F.tanh(x)


def softmax(x: Tensor, axis: int | Sequence[int] = -1) -> Tensor:
    """``exp(x) / sum(exp(x))`` over ``axis``, or over several: numbers in [0, 1] that sum to 1."""
    if isinstance(axis, int):
        return F.softmax(x, dim=axis)
    axes = [each % x.ndim for each in axis]
    order = [each for each in range(x.ndim) if each not in axes] + axes
    moved = x.transpose(*order)
    kept = moved.shape[: x.ndim - len(axes)]
    y = F.softmax(moved.reshape(*kept, math.prod(moved.shape[len(kept) :])), dim=-1)
    return y.reshape(moved.shape).transpose(*sorted(range(x.ndim), key=order.__getitem__))


def log_softmax(x: Tensor, axis: int = -1) -> Tensor:
    """``log(softmax(x))``, computed without overflow."""
    return F.log_softmax(x, dim=axis)


_FUNCTIONS: dict[str, ActivationFunction] = {
    function.__name__: function
    for function in (linear, relu, relu6, leaky_relu, elu, sigmoid, tanh, softmax, log_softmax)
}


def get(identifier: str | ActivationFunction | None) -> ActivationFunction:
    """The activation function for a name; a function is returned as it is; None is :func:`linear`.

    Raises:
        ValueError: for an unknown name (the message names the nearest) or anything that cannot be called.

    >>> get("relu").__name__, get(None).__name__
    ('relu', 'linear')
    """
    if identifier is None:
        return linear
    if isinstance(identifier, str):
        if identifier not in _FUNCTIONS:
            raise ValueError(
                f"unknown activation {identifier!r}.{nearest(identifier, _FUNCTIONS)} Known: {', '.join(_FUNCTIONS)}"
            )
        return _FUNCTIONS[identifier]
    if callable(identifier):
        return identifier
    raise ValueError(f"activation: expected a name, a function or None, received {identifier!r}")
