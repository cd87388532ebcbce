"""What is added to the loss for the size of weights or outputs, by Keras' names and formulas.

A regularizer is called with a tensor and returns a scalar tensor. Layers take one for each of their weights
(``kernel_regularizer``, ``bias_regularizer``, ...), which is added to the loss in training and in evaluation as long as
the weight is trained; and one for their outputs (``activity_regularizer``), which is divided by the size of the batch.

Source: Keras 3, keras.regularizers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from pycnn.configuration import Configurable
from pycnn.functional.arguments import widened
from pycnn.naming import named
from pycnn.tensor import Tensor

RegularizerFunction = Callable[[Tensor], Tensor]


class Regularizer(Configurable):
    """Base class: called with a tensor, returns a scalar tensor."""

    def __call__(self, x: Tensor) -> Tensor:
        """What to add to the loss."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__(x)")


class L1L2(Regularizer):
    """``l1 * sum(|x|) + l2 * sum(x^2)``.

    Args:
        l1, l2: the two factors, at least 0.

    Raises:
        ValueError: for a factor that is no finite number of at least 0.

    >>> L1L2(l1=0.5, l2=2.0)(Tensor([1.0, -3.0])).item()
    22.0
    """

    def __init__(self, l1: float = 0.0, l2: float = 0.0) -> None:
        self.l1, self.l2 = _factor("l1", l1), _factor("l2", l2)

    def __call__(self, x: Tensor) -> Tensor:
        """The sum of the two parts; a part whose factor is 0 is not computed."""
        parts = [factor * part(x) for factor, part in ((self.l1, _absolutes), (self.l2, _squares)) if factor]
        return sum(parts[1:], parts[0]) if parts else x.sum() * 0


class L1(Regularizer):
    """``l1 * sum(|x|)``; raises as :class:`L1L2`.

    >>> L1(0.5)(Tensor([1.0, -3.0])).item()
    2.0
    """

    def __init__(self, l1: float = 0.01) -> None:
        self.l1 = _factor("l1", l1)

    def __call__(self, x: Tensor) -> Tensor:
        """The sum of the absolute values times the factor."""
        return self.l1 * _absolutes(x)


class L2(Regularizer):
    """``l2 * sum(x^2)``; raises as :class:`L1L2`.

    >>> L2(0.5)(Tensor([1.0, -3.0])).item()
    5.0
    """

    def __init__(self, l2: float = 0.01) -> None:
        self.l2 = _factor("l2", l2)

    def __call__(self, x: Tensor) -> Tensor:
        """The sum of the squares times the factor."""
        return self.l2 * _squares(x)


l1 = L1
l2 = L2
l1_l2 = L1L2

_KNOWN: dict[str, Callable[[], Regularizer]] = {
    "l1": L1,
    "l2": L2,
    "l1_l2": lambda: L1L2(l1=0.01, l2=0.01),  # as Keras' documentation has it
    "l1l2": L1L2,
    "L1": L1,
    "L2": L2,
    "L1L2": L1L2,
}


def get(identifier: Any) -> RegularizerFunction | None:
    """The regularizer for a name ("l2" or "L2", of the default factor) or a class; a function as it is; None as it is.

    Raises:
        ValueError: for an unknown name (the message names the nearest) or anything that cannot be called.

    >>> get("l2").l2
    0.01
    """
    return None if identifier is None else named("regularizer", identifier, _KNOWN)


def _absolutes(x: Tensor) -> Tensor:
    return widened(x).abs().sum()


def _squares(x: Tensor) -> Tensor:
    x = widened(x)  # the sum of many halves may be too large for one
    return (x * x).sum()


def _factor(name: str, value: Any) -> float:
    """A finite number of at least 0.

    Raises:
        ValueError: anything else.
    """
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not number or not 0 <= value < math.inf:
        raise ValueError(f"{name}: expected a finite number of at least 0, received {value!r}")
    return float(value)
