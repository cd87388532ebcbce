"""The losses between a number and a target, each said once: its value and its gradients, as formulas for all backends.

Of an input x and a target t. With g the gradient of the loss, ``gradients`` are g times the derivatives by x and by t.
At kinks they are those of PyTorch. They are written so that their own derivatives are right, too, wherever there are
any: where a formula takes a size ``abs(x)`` apart from a sign, 0 counts as positive in both.

>>> LOSSES["huber"].parameter, LOSSES["hinge_embedding"].gradients[1] is None
('delta', True)
"""

from __future__ import annotations

import math
from typing import NamedTuple

from pycnn_kernels.activations import sigmoid, softplus
from pycnn_kernels.formula import Formula, Term, exp, log, where


class Loss(NamedTuple):
    """A function of two numbers, and of a parameter that is the same for all elements.

    Attributes:
        value: the formula of (x, t, parameter).
        gradients: those of (g, x, t, parameter), by x and by t; None where there is none.
        parameter: its name; empty where there is none, and no formula takes it.
    """

    value: Formula
    gradients: tuple[Formula | None, Formula | None]
    parameter: str = ""


def _of_difference(value: Formula, slope: Formula, parameter: str = "") -> Loss:
    """A loss of ``d = x - t``: ``value(d, parameter)``, and ``slope(g, d, parameter)``, g times its derivative."""
    if parameter:
        return Loss(
            value=lambda x, t, p: value(x - t, p),
            gradients=(lambda g, x, t, p: slope(g, x - t, p), lambda g, x, t, p: -slope(g, x - t, p)),
            parameter=parameter,
        )
    return Loss(
        value=lambda x, t: value(x - t),
        gradients=(lambda g, x, t: slope(g, x - t), lambda g, x, t: -slope(g, x - t)),
    )


def _sign(d: Term) -> Term:
    return where(d > 0, 1, where(d < 0, -1, 0))


# --- Of the difference ----------------------------------------------------------------------------------------------

squared_error = _of_difference(lambda d: d * d, lambda g, d: g * 2 * d)

absolute_error = _of_difference(abs, lambda g, d: g * _sign(d))

#: A parabola as far as delta from 0, and its tangents beyond.
huber = _of_difference(
    lambda d, delta: where(abs(d) <= delta, 0.5 * d * d, delta * (abs(d) - 0.5 * delta)),
    lambda g, d, delta: where(d <= -delta, -delta * g, where(d >= delta, delta * g, d * g)),
    "delta",
)

#: The same over beta, which is where its parabola ends.
smooth_l1 = _of_difference(
    lambda d, beta: where(abs(d) < beta, 0.5 * d * d / beta, abs(d) - 0.5 * beta),
    lambda g, d, beta: where(d <= -beta, -g, where(d >= beta, g, g * d / beta)),
    "beta",
)

# --- Of probabilities and their logarithms --------------------------------------------------------------------------


def _clamped_log(x: Term) -> Term:
    """The logarithm, at least -100: a probability of 0 shall cost much, and not everything.

    Of a 0, whose logarithm has no slope, none is taken.
    """
    return where(x <= 0, -100, _at_least_minus_100(log(where(x <= 0, 1, x))))


def _clamped_log_of_rest(x: Term) -> Term:
    """The logarithm of 1 - x, likewise, without the rounding of the difference: its error e tells ``log(d + e)``."""
    rest = 1 - x
    some = where(rest <= 0, 1, rest)
    return where(rest <= 0, -100, _at_least_minus_100(log(some) + ((1 - rest) - x) / some))


def _at_least_minus_100(x: Term) -> Term:
    return where(x < -100, -100, x)


def _product_at_least(x: Term) -> Term:
    """``x (1 - x)``, which PyTorch divides by, and so keeps away from 0."""
    product = x * (1 - x)
    return where(product < 1e-12, 1e-12, product)


binary_cross_entropy = Loss(
    value=lambda x, t: -(t * _clamped_log(x) + (1 - t) * _clamped_log_of_rest(x)),
    gradients=(
        lambda g, x, t: g * (x - t) / _product_at_least(x),
        lambda g, x, t: g * (_clamped_log_of_rest(x) - _clamped_log(x)),
    ),
)

#: Of the sigmoid s of x: ``-(t log(s) + (1 - t) log(1 - s))``, whose logarithms differ by x.
logistic = Loss(
    value=lambda x, t: (1 - t) * x + softplus(-x),
    gradients=(lambda g, x, t: g * (sigmoid(x) - t), lambda g, x, t: -g * x),
)

#: ``t (log(t) - x)``, and 0 for a t of 0.
divergence = Loss(
    value=lambda x, t: where(abs(t) > 0, t * log(t), t) - t * x,
    gradients=(lambda g, x, t: -g * t, lambda g, x, t: g * (log(t) + 1) - g * x),
)

#: The same for the logarithm of the target.
log_divergence = Loss(
    value=lambda x, t: exp(t) * (t - x),
    gradients=(lambda g, x, t: -g * exp(t), lambda g, x, t: g * exp(t) * (t - x + 1)),
)

# --- Likelihoods ----------------------------------------------------------------------------------------------------

#: Counts t where x is expected.
poisson = Loss(
    value=lambda x, t, eps: x - t * log(x + eps),
    gradients=(lambda g, x, t, eps: g * (1 - t / (x + eps)), lambda g, x, t, eps: -g * log(x + eps)),
    parameter="eps",
)

#: Counts t where exp(x) is expected.
log_poisson = Loss(
    value=lambda x, t: exp(x) - t * x,
    gradients=(lambda g, x, t: g * (exp(x) - t), lambda g, x, t: -g * x),
)

#: The same with ``log(t!)`` in Stirling's approximation, which is left out where t is at most 1.


def _stirling(t: Term) -> Term:
    return where(t > 1, t * log(t) - t + 0.5 * log(2 * math.pi * t), 0)


def _stirling_slope(g: Term, t: Term) -> Term:
    return where(t > 1, g * (log(t) + 0.5 / t), 0)


full_poisson = Loss(
    value=lambda x, t, eps: x - t * log(x + eps) + _stirling(t),
    gradients=(
        lambda g, x, t, eps: g * (1 - t / (x + eps)),
        lambda g, x, t, eps: _stirling_slope(g, t) - g * log(x + eps),
    ),
    parameter="eps",
)

full_log_poisson = Loss(
    value=lambda x, t: exp(x) - t * x + _stirling(t),
    gradients=(lambda g, x, t: g * (exp(x) - t), lambda g, x, t: _stirling_slope(g, t) - g * x),
)

#: A distance x from what is expected, and its variance t.
gaussian = Loss(
    value=lambda x, t: 0.5 * (log(t) + x * x / t),
    gradients=(lambda g, x, t: g * x / t, lambda g, x, t: g * 0.5 * (1 - x * x / t) / t),
)

# --- Margins, of targets 1 and -1 -----------------------------------------------------------------------------------

soft_margin = Loss(
    value=lambda x, t: softplus(-(t * x)),
    gradients=(
        lambda g, x, t: -g * t * sigmoid(-(t * x)),
        lambda g, x, t: -g * x * sigmoid(-(t * x)),
    ),
)


def _unless(t: Term, value: float, x: Term) -> Term:
    """0 where t is the value, elsewhere x."""
    return where(t <= value, where(t >= value, 0, x), x)


def _positive(x: Term) -> Term:
    return where(x < 0, 0, x)


hinge_embedding = Loss(
    value=lambda x, t, margin: _unless(t, 1, _positive(margin - x)) + _unless(t, -1, x),
    gradients=(
        lambda g, x, t, margin: _unless(t, 1, where(margin - x >= 0, -g, 0)) + _unless(t, -1, g),
        None,
    ),
    parameter="margin",
)

#: By how much x, a difference, is to have the sign of t.
margin_ranking = Loss(
    value=lambda x, t, margin: _positive(margin - t * x),
    gradients=(
        lambda g, x, t, margin: where(margin - t * x >= 0, -g * t, 0),
        lambda g, x, t, margin: where(margin - t * x >= 0, -g * x, 0),
    ),
    parameter="margin",
)

#: All, by the names that problems have.
LOSSES: dict[str, Loss] = {
    "squared_error": squared_error,
    "absolute_error": absolute_error,
    "huber": huber,
    "smooth_l1": smooth_l1,
    "binary_cross_entropy": binary_cross_entropy,
    "logistic": logistic,
    "divergence": divergence,
    "log_divergence": log_divergence,
    "poisson": poisson,
    "log_poisson": log_poisson,
    "full_poisson": full_poisson,
    "full_log_poisson": full_log_poisson,
    "gaussian": gaussian,
    "soft_margin": soft_margin,
    "hinge_embedding": hinge_embedding,
    "margin_ranking": margin_ranking,
}


def loss_formula(name: str, operand: int | None = None) -> Formula:
    """The value of a loss, or its gradient for the operand of a number, 0 or 1.

    Raises:
        KeyError: there is no such loss.
        ValueError: it has no such gradient.
    """
    loss = LOSSES[name]
    formula = loss.value if operand is None else loss.gradients[operand]
    if formula is None:
        raise ValueError(f"{name} has no gradient for its {('input', 'target')[operand or 0]}")
    return formula
