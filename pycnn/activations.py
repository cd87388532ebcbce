"""Activation functions by Keras' names: tensors in, tensors out."""

from __future__ import annotations

from collections.abc import Callable

from pycnn import functional as F
from pycnn.naming import nearest
from pycnn.tensor import Tensor

ActivationFunction = Callable[[Tensor], Tensor]


def linear(x: Tensor) -> Tensor:
    """``x`` unchanged."""
    return x


def relu(x: Tensor) -> Tensor:
    """``max(x, 0)``. Layers with weights compute it inside their kernel instead of calling this."""
    return F.relu(x)


def sigmoid(x: Tensor) -> Tensor:
    """``1 / (1 + exp(-x))``."""
    return F.sigmoid(x)


def tanh(x: Tensor) -> Tensor:
    """The hyperbolic tangent."""
    return F.tanh(x)


def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """``exp(x) / sum(exp(x))`` over ``axis``: numbers in [0, 1] that sum to 1."""
    return F.softmax(x, dim=axis)


def log_softmax(x: Tensor, axis: int = -1) -> Tensor:
    """``log(softmax(x))``, computed without overflow."""
    return F.log_softmax(x, dim=axis)


_FUNCTIONS: dict[str, ActivationFunction] = {
    function.__name__: function for function in (linear, relu, sigmoid, tanh, softmax, log_softmax)
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
