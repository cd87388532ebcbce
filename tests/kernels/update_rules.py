"""The optimizers' rules as their papers and Keras' documentation write them, on whole arrays of float64.

Each takes g, w, the arrays of state and the numbers by name, and returns the new w and the new state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Arrays = list[np.ndarray]


def sgd(g, w, *, rate):
    return w - rate * g, []


def sgd_momentum(g, w, v, *, rate, momentum):
    v = momentum * v - rate * g
    return w + v, [v]


def sgd_nesterov(g, w, v, *, rate, momentum):
    v = momentum * v - rate * g
    return w + momentum * v - rate * g, [v]


def rmsprop(g, w, *state, rate, rho, new, epsilon, momentum=None, centered=False):
    state = list(state)
    state[0] = rho * state[0] + new * g**2
    denominator = state[0] + epsilon
    if centered:
        state[-1] = rho * state[-1] + new * g
        denominator = denominator - state[-1] ** 2
    step = rate * g / np.sqrt(denominator)
    if momentum is not None:
        step = state[1] = momentum * state[1] + step
    return w - step, state


def adagrad(g, w, total, *, rate, epsilon):
    total = total + g**2
    return w - rate * g / np.sqrt(total + epsilon), [total]


def adadelta(g, w, squares, steps, *, rate, rho, new, epsilon):
    squares = rho * squares + new * g**2
    step = -np.sqrt(steps + epsilon) / np.sqrt(squares + epsilon) * g
    return w + rate * step, [squares, rho * steps + new * step**2]


def adam(g, w, m, v, *most, rate, new_mean, new_square, epsilon):
    m = (1 - new_mean) * m + new_mean * g
    v = (1 - new_square) * v + new_square * g**2
    most = [np.maximum(each, v) for each in most]
    return w - rate * m / (np.sqrt(most[0] if most else v) + epsilon), [m, v, *most]


def adamax(g, w, m, u, *, rate, new_mean, beta_2, epsilon):
    m = (1 - new_mean) * m + new_mean * g
    u = np.maximum(beta_2 * u, np.abs(g))
    return w - rate * m / (u + epsilon), [m, u]


def nadam(g, w, m, v, *, rate_of_mean, rate_of_g, new_mean, new_square, corrected, epsilon):
    m = (1 - new_mean) * m + new_mean * g
    v = (1 - new_square) * v + new_square * g**2
    return w - (rate_of_mean * m + rate_of_g * g) / (np.sqrt(v * corrected) + epsilon), [m, v]


def lion(g, w, m, *, rate, beta_1, new_1, beta_2, new_2):
    return w - rate * np.sign(beta_1 * m + new_1 * g), [beta_2 * m + new_2 * g]


Oracle = Callable[..., tuple[np.ndarray, Arrays]]
ORACLES: dict[str, Oracle] = {
    "sgd": sgd,
    "sgd_momentum": sgd_momentum,
    "sgd_nesterov": sgd_nesterov,
    "rmsprop": rmsprop,
    "rmsprop_momentum": rmsprop,
    "rmsprop_centered": lambda *arrays, **numbers: rmsprop(*arrays, **numbers, centered=True),
    "rmsprop_centered_momentum": lambda *arrays, **numbers: rmsprop(*arrays, **numbers, centered=True),
    "adagrad": adagrad,
    "adadelta": adadelta,
    "adam": adam,
    "amsgrad": adam,
    "adamax": adamax,
    "nadam": nadam,
    "lion": lion,
}

#: Numbers for each name, none of them 0 or 1, so that each of them shows.
NUMBERS = {
    "rate": 0.05, "momentum": 0.7, "rho": 0.9, "new": 0.1, "epsilon": 1e-2, "new_mean": 0.1, "new_square": 0.05,
    "beta_1": 0.8, "new_1": 0.2, "beta_2": 0.9, "new_2": 0.1, "rate_of_mean": 0.04, "rate_of_g": 0.02,
    "corrected": 1.7,
}  # fmt: skip


def stepped(name: str, numbers: dict[str, float], decay: float, g: Any, w: Any, state: Arrays) -> tuple[Any, Arrays]:
    """One step of a rule in float64, after the weights' decay."""
    g, w, *state = [np.asarray(array, np.float64) for array in (g, w, *state)]
    return ORACLES[name](g, w * (1 - decay), *state, **numbers)


def state_like(name: str, draws: Arrays) -> Arrays:
    """Arrays of any numbers as a state that steps could have left: no mean of squares is below 0, nor any variance."""
    state = [np.abs(array) for array in draws]
    if name.startswith("rmsprop_centered"):
        state[0], state[-1] = 1 + state[0], state[-1] / 10
    return [array.astype(drawn.dtype) for array, drawn in zip(state, draws)]
