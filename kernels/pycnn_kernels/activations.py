"""The activations, each said once: its value, its gradient and its curvature, as formulas for all backends.

With g the gradient of a result, ``gradient(g, x)`` is g times the slope f'(x), and ``curvature(g, x)`` g times f''(x).
Both take g, because where a function is flat no infinity or NaN of g may come through: a product with 0 would make
one. At kinks, and of infinities, the gradients are those of PyTorch.

>>> silu = ACTIVATIONS["silu"]
>>> silu.parameters, silu.curvature is None, ACTIVATIONS["leaky_relu"].parameters
((), False, ('negative_slope',))
"""

from __future__ import annotations

import math
from typing import NamedTuple

from pycnn_kernels.formula import Formula, Term, erf, exp, expm1, log1p, where, with_sign


class Activation(NamedTuple):
    """A function of a number and of parameters, which are the same for all elements.

    Attributes:
        value: the formula of (x, \\*parameters).
        gradient: that of (g, x, \\*parameters).
        curvature: likewise; None where it is 0 wherever there is one, or ``by_result``.
        parameters: their names.
        by_result: whether the gradient is a formula of the result in place of x: what follows keeps that anyway.
    """

    value: Formula
    gradient: Formula
    curvature: Formula | None = None
    parameters: tuple[str, ...] = ()
    by_result: bool = False


#: Parameters that kernels have room for.
MOST_PARAMETERS = 3

# --- What several are made of ---------------------------------------------------------------------------------------


def sigmoid(x: Term) -> Term:
    """``1 / (1 + e^-x)``; below 0 as ``e^x / (1 + e^x)``, so that nothing overflows or cancels."""
    e = exp(-abs(x))
    return where(x >= 0, 1, e) / (1 + e)


def sigmoid_slope(x: Term) -> Term:
    """``s (1 - s)`` of the sigmoid s, on both sides alike."""
    e = exp(-abs(x))
    return e / ((1 + e) * (1 + e))


def sigmoid_curvature(x: Term) -> Term:
    """``s (1 - s) (1 - 2 s)``, where ``1 - 2 s = -tanh(x / 2)``."""
    return -sigmoid_slope(x) * tanh(0.5 * x)


def tanh(x: Term) -> Term:
    """``(1 - e^(-2|x|)) / (1 + e^(-2|x|))`` with the sign of x, through e^t - 1, so that small x lose nothing."""
    fall = expm1(-2 * abs(x))
    return with_sign(-fall / (2 + fall), x)


def tanh_slope(x: Term) -> Term:
    """``1 - tanh(x)^2``."""
    return 4 * sigmoid_slope(2 * x)


def softplus(x: Term) -> Term:
    """``log(1 + e^x)``."""
    return where(x < 0, 0, x) + log1p(exp(-abs(x)))


def normal(x: Term) -> Term:
    """The distribution function of the standard normal distribution."""
    return 0.5 * (1 + erf(x * math.sqrt(0.5)))


def density(x: Term) -> Term:
    """Its density."""
    return exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi))


def _near(x: Term) -> Term:
    """x no further from 0 than where densities and slopes have become 0, so that its powers do not become infinite."""
    return where(x > 40, 40, where(x < -40, -40, x))


def _sign(x: Term) -> Term:
    return where(x > 0, 1, where(x < 0, -1, 0 * x))


# --- Rectifiers -----------------------------------------------------------------------------------------------------

relu = Activation(
    value=lambda x: where(x < 0, 0, x),
    gradient=lambda g, y: where(y <= 0, 0, g),
    by_result=True,
)

leaky_relu = Activation(
    value=lambda x, slope: where(x > 0, x, x * slope),
    gradient=lambda g, x, slope: where(x > 0, g, g * slope),
    parameters=("negative_slope",),
)

threshold = Activation(
    value=lambda x, limit, value: where(x <= limit, value, x),
    gradient=lambda g, x, limit, value: where(x <= limit, 0, g),
    parameters=("threshold", "value"),
)

#: ELU, and with other parameters SELU and CELU.
elu = Activation(
    value=lambda x, above, below, rate: where(x > 0, x * above, below * expm1(x * rate)),
    gradient=lambda g, x, above, below, rate: where(x > 0, g * above, g * rate * below * exp(x * rate)),
    curvature=lambda g, x, above, below, rate: where(x >= 0, 0, g * rate * rate * below * exp(x * rate)),
    parameters=("above", "below", "rate"),
)

# --- Pieces of straight lines ---------------------------------------------------------------------------------------

hardtanh = Activation(
    value=lambda x, low, high: where(x < low, low, where(x > high, high, x)),
    gradient=lambda g, x, low, high: where(x > low, where(x < high, g, 0), 0),
    parameters=("min_val", "max_val"),
)

hardsigmoid = Activation(
    value=lambda x: where(x <= -3, 0, where(x >= 3, 1, (x + 3) / 6)),
    gradient=lambda g, x: where(x > -3, where(x < 3, g / 6, 0), 0),
)

hardswish = Activation(
    value=lambda x: x * where(x <= -3, 0, where(x >= 3, 1, (x + 3) / 6)),
    gradient=lambda g, x: where(x <= -3, 0, where(x >= 3, g, g * (x / 3 + 0.5))),
    curvature=lambda g, x: where(x > -3, where(x < 3, g / 3, 0), 0),
)

hardshrink = Activation(
    value=lambda x, width: where(x >= -width, where(x <= width, 0, x), x),
    gradient=lambda g, x, width: where(x > width, g, where(x < -width, g, 0)),
    parameters=("lambd",),
)

softshrink = Activation(
    value=lambda x, width: where(x > width, x - width, where(x < -width, x + width, x * 0)),
    gradient=lambda g, x, width: where(x > width, g, where(x < -width, g, 0)),
    parameters=("lambd",),
)

# --- Curves ---------------------------------------------------------------------------------------------------------

tanh_activation = Activation(
    value=tanh,
    gradient=lambda g, y: g * (1 - y * y),
    by_result=True,
)

tanhshrink = Activation(
    value=lambda x: x - tanh(x),
    gradient=lambda g, x: g * tanh(x) * tanh(x),
    curvature=lambda g, x: g * 2 * tanh(x) * tanh_slope(x),
)

sigmoid_activation = Activation(
    value=sigmoid,
    gradient=lambda g, y: g * y * (1 - y),
    by_result=True,
)

logsigmoid = Activation(
    value=lambda x: -softplus(-x),
    gradient=lambda g, x: g * sigmoid(-x),
    curvature=lambda g, x: -g * sigmoid_slope(x),
)

#: Beyond the limit a straight line, as far as PyTorch says that the difference does not show.
softplus_activation = Activation(
    value=lambda x, beta, limit: where(x * beta > limit, x, softplus(x * beta) / beta),
    gradient=lambda g, x, beta, limit: where(x * beta > limit, g, g * sigmoid(x * beta)),
    curvature=lambda g, x, beta, limit: where(x * beta >= limit, 0, g * beta * sigmoid_slope(x * beta)),
    parameters=("beta", "threshold"),
)

softsign = Activation(
    value=lambda x: x / (1 + abs(x)),
    gradient=lambda g, x: g / (1 + abs(x)) / (1 + abs(x)),
    curvature=lambda g, x: g * -2 * _sign(x) / (1 + abs(x)) / (1 + abs(x)) / (1 + abs(x)),
)

silu = Activation(
    value=lambda x: x * sigmoid(x),
    gradient=lambda g, x: g * (sigmoid(x) + x * sigmoid_slope(x)),
    curvature=lambda g, x: g * (2 * sigmoid_slope(x) + x * sigmoid_curvature(x)),
)

gelu = Activation(
    value=lambda x: x * normal(x),
    gradient=lambda g, x: g * (normal(x) + x * density(x)),
    curvature=lambda g, x: g * (2 - _near(x) * _near(x)) * density(x),
)

# With tanh for the error function: x s(v) of the sigmoid s, since (1 + tanh(v / 2)) / 2 = s(v).
_SCALE, _CUBE = 2 * math.sqrt(2 / math.pi), 0.044715


def _v(x: Term) -> Term:
    return _SCALE * (x + _CUBE * x * x * x)


def _v_slope(x: Term) -> Term:
    return _SCALE * (1 + 3 * _CUBE * x * x)


gelu_tanh = Activation(
    value=lambda x: x * sigmoid(_v(x)),
    gradient=lambda g, x: g * (sigmoid(_v(x)) + x * sigmoid_slope(_v(x)) * _v_slope(x)),
    curvature=lambda g, x: _gelu_tanh_curvature(g, _near(x)),
)


def _gelu_tanh_curvature(g: Term, x: Term) -> Term:
    return g * (2 * sigmoid_slope(_v(x)) * _v_slope(x) + x * _gate_curvature(x))


def _gate_curvature(x: Term) -> Term:
    """The second derivative of s(v(x))."""
    bend = sigmoid_curvature(_v(x)) * _v_slope(x) * _v_slope(x)
    return bend + sigmoid_slope(_v(x)) * (6 * _CUBE * _SCALE * x)


def _mish_gate(x: Term) -> tuple[Term, Term]:
    """t = tanh(softplus(x)) and 1 - t^2, through u = (1 + e^x)^2: ``t = (u - 1) / (u + 1)``, ``4 u / (u + 1)^2``.

    Where x is above 0, numerators and denominators are divided by e^(2x), so that nothing overflows.
    """
    e = exp(-abs(x))
    less = where(x < 0, e * (e + 2), 1 + 2 * e)  # u - 1
    unit = where(x < 0, 1, e * e)
    whole = less + 2 * unit  # u + 1
    return less / whole, 4 * unit * (less + unit) / (whole * whole)


def _mish_gradient(g: Term, x: Term) -> Term:
    t, fall = _mish_gate(x)
    return g * (t + x * sigmoid(x) * fall)


def _mish_curvature(g: Term, x: Term) -> Term:
    t, fall = _mish_gate(x)
    s = sigmoid(x)
    return g * fall * s * (2 + x * (sigmoid(-x) - 2 * t * s))


mish = Activation(value=lambda x: x * _mish_gate(x)[0], gradient=_mish_gradient, curvature=_mish_curvature)

#: All, by the names that problems have.
ACTIVATIONS: dict[str, Activation] = {
    "relu": relu,
    "leaky_relu": leaky_relu,
    "threshold": threshold,
    "elu": elu,
    "hardtanh": hardtanh,
    "hardsigmoid": hardsigmoid,
    "hardswish": hardswish,
    "hardshrink": hardshrink,
    "softshrink": softshrink,
    "tanh": tanh_activation,
    "tanhshrink": tanhshrink,
    "sigmoid": sigmoid_activation,
    "logsigmoid": logsigmoid,
    "softplus": softplus_activation,
    "softsign": softsign,
    "silu": silu,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "mish": mish,
}


def formula_of(name: str, derivative: int) -> Formula:
    """Value, gradient or curvature of an activation: its derivative of order 0, 1 or 2.

    Raises:
        KeyError: there is no such activation.
        ValueError: there is no formula of the curvature.
    """
    activation = ACTIVATIONS[name]
    formula = (activation.value, activation.gradient, activation.curvature)[derivative]
    if formula is None:
        why = "its gradient is a formula of its result" if activation.by_result else "it consists of straight lines"
        raise ValueError(f"{name} has no curvature: {why}")
    return formula


def missing_parameters(name: str) -> tuple[float, ...]:
    """What an activation leaves empty of the room for parameters.

    >>> missing_parameters("leaky_relu")
    (0.0, 0.0)
    """
    return (0.0,) * (MOST_PARAMETERS - len(ACTIVATIONS[name].parameters))
