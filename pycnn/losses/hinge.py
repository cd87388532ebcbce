"""Hinge losses: nothing is lost where a prediction is on the right side by a margin of 1."""

from __future__ import annotations

from numpy.typing import ArrayLike

from pycnn import functional as F
from pycnn.losses.loss import SameShapeLoss, as_predictions, beside, both, like
from pycnn.tensor import Tensor

Values = ArrayLike | Tensor


def hinge(y_true: Values, y_pred: Values) -> Tensor:
    """``max(1 - y_true y_pred, 0)``, averaged over the last axis.

    Args:
        y_true: -1 or 1; labels all of which are 0 or 1 are taken for those. Shapes as of :func:`mean_squared_error`.
        y_pred: predictions on the two sides of 0.

    >>> hinge([[0.0, 1.0]], [[0.5, 0.5]]).numpy().tolist()
    [1.0]
    """
    return _missing(y_true, y_pred).mean(axis=-1)


def squared_hinge(y_true: Values, y_pred: Values) -> Tensor:
    """``max(1 - y_true y_pred, 0)^2``, averaged over the last axis; arguments as of :func:`hinge`.

    >>> squared_hinge([[0.0, 1.0]], [[0.5, 0.5]]).numpy().tolist()
    [1.25]
    """
    missing = _missing(y_true, y_pred)
    return (missing * missing).mean(axis=-1)


def categorical_hinge(y_true: Values, y_pred: Values) -> Tensor:
    """``max(highest - true + 1, 0)``: the highest prediction of another class against that of the true class.

    Args:
        y_true: one-hot labels (batch, ..., classes).
        y_pred: predictions of that shape.

    >>> categorical_hinge([[0.0, 1.0, 0.0]], [[0.5, 1.0, 0.25]]).numpy().tolist()
    [0.5]
    """
    predictions, truth = both(y_true, y_pred)
    others = (1 - truth) * predictions
    highest = F.adaptive_max_pool1d(others.reshape(-1, 1, others.shape[-1]), 1).reshape(*others.shape[:-1])
    return F.relu(highest - (truth * predictions).sum(axis=-1) + 1)


def _missing(y_true: Values, y_pred: Values) -> Tensor:
    """How far each prediction is from its margin."""
    predictions = as_predictions(y_pred)
    labels = like(y_true, predictions)
    if ((labels == 0) | (labels == 1)).all():
        labels = 2 * labels - 1
    return F.relu(1 - beside(labels, predictions) * predictions)


class Hinge(SameShapeLoss):
    """The mean of :func:`hinge` over a batch.

    >>> Hinge()([[0.0, 1.0]], [[0.5, 0.5]]).item()
    1.0
    """

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str | None = "hinge") -> None:
        super().__init__(hinge, name, reduction)


class SquaredHinge(SameShapeLoss):
    """The mean of :func:`squared_hinge` over a batch.

    >>> SquaredHinge()([[0.0, 1.0]], [[0.5, 0.5]]).item()
    1.25
    """

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str | None = "squared_hinge") -> None:
        super().__init__(squared_hinge, name, reduction)


class CategoricalHinge(SameShapeLoss):
    """The mean of :func:`categorical_hinge` over a batch.

    >>> CategoricalHinge()([[0.0, 1.0, 0.0]], [[0.5, 1.0, 0.25]]).item()
    0.5
    """

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str | None = "categorical_hinge") -> None:
        super().__init__(categorical_hinge, name, reduction)
