"""The rules by which optimizers change parameters, each said once: formulas for all backends.

A rule is a formula of a gradient g, the parameter's element w, what is remembered of that element, and numbers that are
the same for all elements. It returns w after the step, and then what is remembered from now on. The numbers come ready
to use: ``rate`` with its bias correction, and beside a decay of 0.999 the 0.001 that it leaves, which float32 would
lose in a difference.

>>> adam = RULES["adam"]
>>> adam.state, adam.numbers
(('momentum', 'velocity'), ('rate', 'new_mean', 'new_square', 'epsilon'))
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from pycnn_kernels.formula import Term, sqrt, where


class Rule(NamedTuple):
    """How one step changes an element.

    Attributes:
        step: the formula of (g, w, \\*state, \\*numbers), whose results are the new (w, \\*state).
        state: the names of what is remembered of each element, as Keras has them.
        numbers: the names of the numbers.
    """

    step: Callable[..., tuple[Term, ...]]
    state: tuple[str, ...]
    numbers: tuple[str, ...]


#: What kernels have room for: arrays of state beside each parameter, and numbers, of which the first is the decay of
#: weights.
MOST_STATES, MOST_NUMBERS = 3, 7


def _running(kept: Term, mean: Term, new: Term, x: Term) -> Term:
    """A running mean goes on: ``kept * mean + new * x``, where the two factors add up to 1."""
    return kept * mean + new * x


def _larger(x: Term, y: Term) -> Term:
    """The larger of both; y where one is a NaN."""
    return where(x > y, x, y)


def _sign(x: Term) -> Term:
    return where(x > 0, 1, where(x < 0, -1, x))


# --- Gradient descent -----------------------------------------------------------------------------------------------


def _momentum(g, w, speed, rate, momentum):
    speed = momentum * speed - rate * g
    return w + speed, speed


def _nesterov(g, w, speed, rate, momentum):
    """Sutskever et al., "On the importance of initialization and momentum in deep learning" (2013), as Keras has it."""
    speed = momentum * speed - rate * g
    return w + (momentum * speed - rate * g), speed


# --- Steps divided by a running mean of squared gradients -----------------------------------------------------------


def _rmsprop(g, w, square, rate, rho, new, epsilon):
    """Tieleman and Hinton, "Lecture 6.5: RMSProp" (2012)."""
    square = _running(rho, square, new, g * g)
    return w - rate * g / sqrt(square + epsilon), square


def _rmsprop_momentum(g, w, square, speed, rate, rho, new, epsilon, momentum):
    square = _running(rho, square, new, g * g)
    speed = momentum * speed + rate * g / sqrt(square + epsilon)
    return w - speed, square, speed


def _rmsprop_centered(g, w, square, mean, rate, rho, new, epsilon):
    """By the variance: Graves, "Generating Sequences With Recurrent Neural Networks" (2013), equations 38 to 43."""
    square, mean = _running(rho, square, new, g * g), _running(rho, mean, new, g)
    return w - rate * g / sqrt(square - mean * mean + epsilon), square, mean


def _rmsprop_centered_momentum(g, w, square, speed, mean, rate, rho, new, epsilon, momentum):
    square, mean = _running(rho, square, new, g * g), _running(rho, mean, new, g)
    speed = momentum * speed + rate * g / sqrt(square - mean * mean + epsilon)
    return w - speed, square, speed, mean


def _adagrad(g, w, squares, rate, epsilon):
    """Duchi, Hazan and Singer, "Adaptive Subgradient Methods" (2011)."""
    squares = squares + g * g
    return w - rate * g / sqrt(squares + epsilon), squares


def _adadelta(g, w, square, steps, rate, rho, new, epsilon):
    """Zeiler, "ADADELTA: An Adaptive Learning Rate Method" (2012), algorithm 1."""
    square = _running(rho, square, new, g * g)
    step = sqrt(steps + epsilon) * g / sqrt(square + epsilon)
    return w - rate * step, square, _running(rho, steps, new, step * step)


# --- Adam and its relatives -----------------------------------------------------------------------------------------


def _adam(g, w, mean, square, rate, new_mean, new_square, epsilon):
    """Kingma and Ba, "Adam: A Method for Stochastic Optimization" (2015), in the form before section 2.1.

    ``rate`` is ``learning_rate * sqrt(1 - beta_2^t) / (1 - beta_1^t)``.
    """
    mean, square = mean + new_mean * (g - mean), square + new_square * (g * g - square)
    return w - rate * mean / (sqrt(square) + epsilon), mean, square


def _amsgrad(g, w, mean, square, most, rate, new_mean, new_square, epsilon):
    """Reddi, Kale and Kumar, "On the Convergence of Adam and Beyond" (2018): by the largest mean so far."""
    mean, square = mean + new_mean * (g - mean), square + new_square * (g * g - square)
    most = _larger(most, square)
    return w - rate * mean / (sqrt(most) + epsilon), mean, square, most


def _adamax(g, w, mean, size, rate, new_mean, beta_2, epsilon):
    """Kingma and Ba, section 7.1; ``rate`` is ``learning_rate / (1 - beta_1^t)``."""
    mean, size = mean + new_mean * (g - mean), _larger(beta_2 * size, abs(g))
    return w - rate * mean / (size + epsilon), mean, size


def _nadam(g, w, mean, square, rate_of_mean, rate_of_g, new_mean, new_square, corrected, epsilon):
    """Dozat, "Incorporating Nesterov Momentum into Adam" (2016); the two rates have the learning rate in them."""
    mean, square = mean + new_mean * (g - mean), square + new_square * (g * g - square)
    step = rate_of_mean * mean + rate_of_g * g
    return w - step / (sqrt(square * corrected) + epsilon), mean, square


def _lion(g, w, mean, rate, beta_1, new_1, beta_2, new_2):
    """Chen et al., "Symbolic Discovery of Optimization Algorithms" (2023), algorithm 2."""
    return w - rate * _sign(_running(beta_1, mean, new_1, g)), _running(beta_2, mean, new_2, g)


_ADAM = ("rate", "new_mean", "new_square", "epsilon")
_RMSPROP = ("rate", "rho", "new", "epsilon")

#: All, by the names that problems have.
RULES: dict[str, Rule] = {
    "sgd": Rule(lambda g, w, rate: (w - rate * g,), (), ("rate",)),
    "sgd_momentum": Rule(_momentum, ("momentum",), ("rate", "momentum")),
    "sgd_nesterov": Rule(_nesterov, ("momentum",), ("rate", "momentum")),
    "rmsprop": Rule(_rmsprop, ("velocity",), _RMSPROP),
    "rmsprop_momentum": Rule(_rmsprop_momentum, ("velocity", "momentum"), (*_RMSPROP, "momentum")),
    "rmsprop_centered": Rule(_rmsprop_centered, ("velocity", "average_gradient"), _RMSPROP),
    "rmsprop_centered_momentum": Rule(
        _rmsprop_centered_momentum, ("velocity", "momentum", "average_gradient"), (*_RMSPROP, "momentum")
    ),
    "adagrad": Rule(_adagrad, ("accumulator",), ("rate", "epsilon")),
    "adadelta": Rule(_adadelta, ("accumulated_grad", "accumulated_delta_var"), _RMSPROP),
    "adam": Rule(_adam, ("momentum", "velocity"), _ADAM),
    "amsgrad": Rule(_amsgrad, ("momentum", "velocity", "velocity_hat"), _ADAM),
    "adamax": Rule(_adamax, ("momentum", "norm"), ("rate", "new_mean", "beta_2", "epsilon")),
    "nadam": Rule(
        _nadam,
        ("momentum", "velocity"),
        ("rate_of_mean", "rate_of_g", "new_mean", "new_square", "corrected", "epsilon"),
    ),
    "lion": Rule(_lion, ("momentum",), ("rate", "beta_1", "new_1", "beta_2", "new_2")),
}


def updated(name: str, g: Term, w: Term, state: list[Term], numbers: list[Term]) -> tuple[Term, ...]:
    """What a rule makes of w, and of the state: first w loses a part of itself, ``decay`` of it, the first number.

    Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2019).
    """
    rule, (decay, *others) = RULES[name], numbers
    w = w - where(decay > 0, decay * w, 0)  # without a decay an infinite w stays what it is
    return rule.step(g, w, *state, *others[: len(rule.numbers)])


def missing_numbers(name: str) -> tuple[float, ...]:
    """What a rule leaves empty of the room for numbers.

    >>> len(missing_numbers("adam"))
    2
    """
    return (0.0,) * (MOST_NUMBERS - 1 - len(RULES[name].numbers))
