"""What weights are changed to after each step of training, by Keras' names and formulas.

A constraint is called with a weight, a tensor, and returns a tensor of the same shape: what the weight becomes. Layers
take one for each of their weights: ``kernel_constraint``, ``bias_constraint``, ...

The norms are those of the vectors along ``axis``: 0 for each unit of a dense kernel (features, units), [0, 1, 2] for
each filter of a kernel (height, width, channels, filters), None for the whole weight.

Source: Keras 3, keras.constraints.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pycnn import functional as F
from pycnn.configuration import Configurable
from pycnn.functional.arguments import widened
from pycnn.naming import named
from pycnn.shapes import axes_within, one_or_more_axes
from pycnn.tensor import Tensor

ConstraintFunction = Callable[[Tensor], Tensor]

#: Keeps a division by a norm finite; Keras' ``backend.epsilon()``.
_EPSILON = 1e-7


class Constraint(Configurable):
    """Base class: called with a weight, returns what it becomes."""

    def __call__(self, w: Tensor) -> Tensor:
        """The new weight."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__(w)")


class MaxNorm(Constraint):
    """Norms of at most ``max_value``: longer vectors are shortened to it.

    Args:
        max_value: the limit, at least 0.
        axis: along which the norms are taken: an integer, several of them, or None for all axes.

    Raises:
        ValueError: for a limit that is no number of at least 0, an axis that is no integer; when called, for an axis
            that the weight does not have, or that is named twice.

    Source: Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", JMLR 15 (2014).

    >>> MaxNorm(1.0)(Tensor([[3.0, 0.0], [4.0, 0.5]])).numpy().round(3)
    array([[0.6, 0. ],
           [0.8, 0.5]], dtype=float32)
    """

    def __init__(self, max_value: float = 2, axis: int | Sequence[int] | None = 0) -> None:
        self.max_value, self.axis = _limit("max_value", max_value), one_or_more_axes(axis)

    def __call__(self, w: Tensor) -> Tensor:
        """``w`` with norms of at most the limit."""
        w, norms = _with_norms(w, self.axis)
        return w * (norms.clip(0, self.max_value) / (norms + _EPSILON))


class NonNeg(Constraint):
    """No element below 0; takes no arguments, and any weight.

    >>> NonNeg()(Tensor([-1.0, 2.0])).numpy()
    array([0., 2.], dtype=float32)
    """

    def __call__(self, w: Tensor) -> Tensor:
        """``max(w, 0)``."""
        return F.relu(w)


class UnitNorm(Constraint):
    """Norms of 1.

    Args:
        axis: as for :class:`MaxNorm`.

    Raises:
        ValueError: as for :class:`MaxNorm`.

    >>> UnitNorm()(Tensor([[3.0], [4.0]])).numpy().round(3)
    array([[0.6],
           [0.8]], dtype=float32)
    """

    def __init__(self, axis: int | Sequence[int] | None = 0) -> None:
        self.axis = one_or_more_axes(axis)

    def __call__(self, w: Tensor) -> Tensor:
        """``w`` divided by its norms."""
        w, norms = _with_norms(w, self.axis)
        return w / (norms + _EPSILON)


class MinMaxNorm(Constraint):
    """Norms from ``min_value`` to ``max_value``.

    Args:
        min_value, max_value: the limits, at least 0.
        rate: how much of the way to the limits each step goes, in [0, 1]; 1 is all of it.
        axis: as for :class:`MaxNorm`.

    Raises:
        ValueError: as for :class:`MaxNorm`; for a ``min_value`` above ``max_value``, a rate outside [0, 1].

    >>> MinMaxNorm(min_value=1.0, max_value=2.0)(Tensor([[3.0, 0.3], [4.0, 0.4]])).numpy().round(3)
    array([[1.2, 0.6],
           [1.6, 0.8]], dtype=float32)
    """

    def __init__(
        self, min_value: float = 0.0, max_value: float = 1.0, rate: float = 1.0, axis: int | Sequence[int] | None = 0
    ) -> None:
        self.min_value, self.max_value = _limit("min_value", min_value), _limit("max_value", max_value)
        if self.min_value > self.max_value:
            raise ValueError(f"min_value: expected at most the max_value, {max_value!r}, received {min_value!r}")
        self.rate, self.axis = _limit("rate", rate, most=1), one_or_more_axes(axis)

    def __call__(self, w: Tensor) -> Tensor:
        """``w`` with norms between, or nearer to, the limits."""
        w, norms = _with_norms(w, self.axis)
        wanted = norms.clip(self.min_value, self.max_value) * self.rate + norms * (1 - self.rate)
        return w * (wanted / (norms + _EPSILON))


max_norm = MaxNorm
non_neg = NonNeg
unit_norm = UnitNorm
min_max_norm = MinMaxNorm

_CLASSES: dict[str, type[Constraint]] = {
    "max_norm": MaxNorm,
    "non_neg": NonNeg,
    "unit_norm": UnitNorm,
    "min_max_norm": MinMaxNorm,
}
_KNOWN = {**_CLASSES, **{kind.__name__: kind for kind in _CLASSES.values()}}


def get(identifier: Any) -> ConstraintFunction | None:
    """The constraint for a name ("max_norm" or "MaxNorm") or a class; a function as it is; None as it is.

    Raises:
        ValueError: for an unknown name (the message names the nearest) or anything that cannot be called.

    >>> get("max_norm").max_value
    2.0
    """
    return None if identifier is None else named("constraint", identifier, _KNOWN)


def _limit(name: str, value: Any, most: float = math.inf) -> float:
    """A number from 0 to ``most``.

    Raises:
        ValueError: anything else.
    """
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not number or not 0 <= value <= most:
        wanted = "of at least 0" if most == math.inf else f"from 0 to {most:g}"
        raise ValueError(f"{name}: expected a number {wanted}, received {value!r}")
    return float(value)


def _with_norms(w: Tensor, axis: int | tuple[int, ...] | None) -> tuple[Tensor, Tensor]:
    """The weight and its norms along ``axis``, which stays with size 1; halves in float32, where epsilon is not 0."""
    w = widened(w)
    return w, (w * w).sum(axes_within(axis, w.shape), keepdims=True).sqrt()
