"""Activation functions by Keras' names: tensors in, tensors out.

Each computes with the functions of :mod:`pycnn.functional`, and raises what they raise: a TypeError for an input that
holds something else than numbers, and TypeError or ValueError for a setting that they cannot take.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from pycnn import functional as F
from pycnn.elementary import Exp
from pycnn.functional.arguments import apply, tensor_or_array
from pycnn.interop.arrays import drop_in
from pycnn.naming import from_description, nearest
from pycnn.shapes import axes_within
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
    y = F.threshold(x, threshold, 0.0) if threshold else F.relu(x)
    if max_value is not None:
        y = y.clip(high=max_value)
    return y - negative_slope * F.relu(threshold - x) if negative_slope else y


def relu6(x: Tensor) -> Tensor:
    """``min(max(x, 0), 6)``."""
    return F.relu6(x)


def leaky_relu(x: Tensor, negative_slope: float = 0.2) -> Tensor:
    """``x`` above 0, ``negative_slope * x`` elsewhere."""
    return F.leaky_relu(x, negative_slope)


def elu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """``x`` above 0, ``alpha * (exp(x) - 1)`` elsewhere."""
    return F.elu(x, alpha)


def celu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """``x`` above 0, ``alpha * (exp(x / alpha) - 1)`` elsewhere."""
    return F.celu(x, alpha)


def selu(x: Tensor) -> Tensor:
    """ELU, scaled such that deep networks keep mean 0 and variance 1."""
    return F.selu(x)


def gelu(x: Tensor, approximate: bool = False) -> Tensor:
    """``x`` times the probability that a standard normal number is below it, or an approximation of that by tanh."""
    return F.gelu(x, approximate="tanh" if approximate else "none")


def silu(x: Tensor) -> Tensor:
    """``x * sigmoid(x)``, which is also called swish."""
    return F.silu(x)


def mish(x: Tensor) -> Tensor:
    """``x * tanh(softplus(x))``."""
    return F.mish(x)


def softplus(x: Tensor) -> Tensor:
    """``log(1 + exp(x))``."""
    return F.softplus(x)


def softsign(x: Tensor) -> Tensor:
    """``x / (1 + |x|)``."""
    return F.softsign(x)


@drop_in
def exponential(x: Tensor) -> Tensor:
    """``exp(x)``.

    >>> exponential(Tensor([0.0, 1.0])).numpy().round(3)
    array([1.   , 2.718], dtype=float32)
    """
    found: Tensor = apply(Exp, tensor_or_array("x", x))
    return found


def hard_sigmoid(x: Tensor) -> Tensor:
    """``x / 6 + 1 / 2`` within [0, 1]."""
    return F.hardsigmoid(x)


def hard_silu(x: Tensor) -> Tensor:
    """``x * hard_sigmoid(x)``, which is also called hard swish."""
    return F.hardswish(x)


def hard_tanh(x: Tensor) -> Tensor:
    """``x`` within [-1, 1]."""
    return F.hardtanh(x)


def hard_shrink(x: Tensor, threshold: float = 0.5) -> Tensor:
    """``x`` outside of [-threshold, threshold], 0 inside."""
    return F.hardshrink(x, threshold)


def soft_shrink(x: Tensor, threshold: float = 0.5) -> Tensor:
    """``x`` nearer to 0 by the threshold, 0 within [-threshold, threshold]."""
    return F.softshrink(x, threshold)


def tanh_shrink(x: Tensor) -> Tensor:
    """``x - tanh(x)``."""
    return F.tanhshrink(x)


def log_sigmoid(x: Tensor) -> Tensor:
    """``log(sigmoid(x))``, computed without overflow."""
    return F.logsigmoid(x)


def sigmoid(x: Tensor) -> Tensor:
    """``1 / (1 + exp(-x))``."""
    return F.sigmoid(x)


def tanh(x: Tensor) -> Tensor:
    """The hyperbolic tangent."""
    return F.tanh(x)


def softmax(x: Tensor, axis: int | Sequence[int] | None = -1) -> Tensor:
    """``exp(x) / sum(exp(x))`` over ``axis``, over several, or over all (None): numbers in [0, 1] that sum to 1.

    Raises:
        ValueError: for an axis that is no integer, that ``x`` does not have, or that is named twice.

    >>> softmax(Tensor([[0.0, 0.0], [0.0, 0.0]]), axis=None).numpy()
    array([[0.25, 0.25],
           [0.25, 0.25]], dtype=float32)
    """
    axes = axes_within(axis, x.shape)
    if len(axes) == 1:
        return F.softmax(x, dim=axes[0])
    order = [*(each for each in range(x.ndim) if each not in axes), *axes]
    moved = x.transpose(*order)
    kept = moved.shape[: x.ndim - len(axes)]
    y = F.softmax(moved.reshape(*kept, math.prod(moved.shape[len(kept) :])), dim=-1)
    return y.reshape(moved.shape).transpose(*sorted(range(x.ndim), key=order.__getitem__))


def log_softmax(x: Tensor, axis: int = -1) -> Tensor:
    """``log(softmax(x))``, computed without overflow."""
    return F.log_softmax(x, dim=axis)


swish = silu
hard_swish = hard_silu

_ALL: tuple[Callable[..., Tensor], ...] = (
    linear, relu, relu6, leaky_relu, elu, celu, selu, gelu, silu, mish, softplus, softsign, exponential, sigmoid,
    hard_sigmoid, hard_silu, tanh, hard_tanh, hard_shrink, soft_shrink, tanh_shrink, softmax, log_softmax, log_sigmoid,
)  # fmt: skip
_FUNCTIONS: dict[str, ActivationFunction] = {
    **{function.__name__: function for function in _ALL},
    "swish": silu,
    "hard_swish": hard_silu,
}


def get(identifier: str | ActivationFunction | None) -> ActivationFunction:
    """The activation function for a name or a description; a function as it is; None is :func:`linear`.

    Raises:
        ValueError: for an unknown name (the message names the nearest) or anything that cannot be called.

    >>> get("relu").__name__, get(None).__name__
    ('relu', 'linear')
    """
    identifier = from_description(identifier)
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
