"""The third derivatives of the activations that are curved, as operations on tensors.

The engine has formulas of the value, the gradient and the curvature of an activation, which is what training needs.
What is asked for beyond them is composed of operations that have derivatives of every order: so has this.

With the sigmoid s of x: ``s' = s (1 - s)``, ``s'' = s' (1 - 2 s)`` and ``s''' = s' (1 - 6 s')``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from pycnn.functional.activation import sigmoid, tanh
from pycnn.functional.loss_arguments import chosen
from pycnn.functional.smooth import softplus
from pycnn.tensor import Tensor


def _sigmoid_derivatives(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    s = sigmoid(x)
    slope = s * (1 - s)
    return s, slope, slope * (1 - 2 * s), slope * (1 - 6 * slope)


def _near(x: Tensor) -> Tensor:
    """x no further from 0 than where densities and slopes have become 0, so that its powers do not become infinite."""
    return x.clip(-40, 40)


def _elu(x: Tensor, above: float, below: float, rate: float) -> Tensor:
    return chosen(x.data < 0, (x.clip(None, 0) * rate).exp() * (rate**3 * below))


def _hardswish(x: Tensor) -> Tensor:
    """It consists of parabolas."""
    return x * 0


def _tanhshrink(x: Tensor) -> Tensor:
    square = tanh(x) * tanh(x)
    return 2 * (1 - square) * (1 - 3 * square)


def _logsigmoid(x: Tensor) -> Tensor:
    return -_sigmoid_derivatives(x)[2]


def _softplus(x: Tensor, beta: float, limit: float) -> Tensor:
    return chosen(x.data * beta < limit, _sigmoid_derivatives(x * beta)[2] * beta**2)


def _softsign(x: Tensor) -> Tensor:
    return 6 / (1 + x.abs()) ** 4


def _silu(x: Tensor) -> Tensor:
    *_, second, third = _sigmoid_derivatives(x)
    return 3 * second + x * third


def _gelu(x: Tensor) -> Tensor:
    x = _near(x)
    return x * (x * x - 4) * (x * x * -0.5).exp() * (1 / math.sqrt(2 * math.pi))


def _gelu_tanh(x: Tensor) -> Tensor:
    """Of ``x s(v)``, where ``v = scale (x + cube x^3)``: ``3 s(v)'' + x s(v)'''``."""
    x = _near(x)
    scale, cube = 2 * math.sqrt(2 / math.pi), 0.044715
    v, v1, v2, v3 = (
        scale * (x + cube * x * x * x),
        scale * (1 + 3 * cube * x * x),
        6 * scale * cube * x,
        6 * scale * cube,
    )
    _, s1, s2, s3 = _sigmoid_derivatives(v)
    return 3 * (s2 * v1 * v1 + s1 * v2) + x * (s3 * v1 * v1 * v1 + 3 * s2 * v1 * v2 + s1 * v3)


def _mish(x: Tensor) -> Tensor:
    """Of ``x t``, where ``t = tanh(softplus(x))``: ``3 t'' + x t'''``.

    With ``d = 1 - t^2``, whose slope is ``-2 t d s``: ``t' = d s``, and ``t'' = d (s' - 2 t s^2)``.
    """
    t = tanh(softplus(x))
    s, s1, s2, _ = _sigmoid_derivatives(x)
    d = 1 - t * t
    bend = s1 - 2 * t * s * s
    third = d * (s2 - 2 * d * s * s * s - 4 * t * s * s1 - 2 * t * s * bend)
    return 3 * d * bend + x * third


#: Functions of (x, *parameters), by the names of the activations.
THIRD_DERIVATIVES: dict[str, Callable[..., Tensor]] = {
    "elu": _elu,
    "hardswish": _hardswish,
    "tanhshrink": _tanhshrink,
    "logsigmoid": _logsigmoid,
    "softplus": _softplus,
    "softsign": _softsign,
    "silu": _silu,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "mish": _mish,
}
