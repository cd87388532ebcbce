"""Losses of numbers, by how far they are from the targets, and of directions and distributions."""

from __future__ import annotations

import math

from numpy.typing import ArrayLike

from pycnn import functional as F
from pycnn.losses.loss import EPSILON, SameShapeLoss, both
from pycnn.tensor import Tensor

Values = ArrayLike | Tensor


def mean_absolute_error(y_true: Values, y_pred: Values) -> Tensor:
    """``|y_true - y_pred|``, averaged over the last axis; arguments and errors as of :func:`mean_squared_error`.

    >>> mean_absolute_error([[0.0, 2.0]], [[1.0, 4.0]]).numpy().tolist()
    [1.5]
    """
    predictions, truth = both(y_true, y_pred)
    return F.l1_loss(predictions, truth, reduction="none").mean(axis=-1)


def mean_absolute_percentage_error(y_true: Values, y_pred: Values) -> Tensor:
    """``100 |y_true - y_pred| / |y_true|``, averaged over the last axis, with a divisor of at least 1e-7.

    Arguments and errors as of :func:`mean_squared_error`.

    >>> mean_absolute_percentage_error([[1.0, 2.0]], [[2.0, 4.0]]).numpy().tolist()
    [100.0]
    """
    predictions, truth = both(y_true, y_pred)
    return 100 * ((truth - predictions) / truth.abs().clip(EPSILON)).abs().mean(axis=-1)


def mean_squared_logarithmic_error(y_true: Values, y_pred: Values) -> Tensor:
    """``(log(y_true + 1) - log(y_pred + 1))^2``, averaged over the last axis; what is below 1e-7 counts as that.

    Arguments and errors as of :func:`mean_squared_error`.

    >>> mean_squared_logarithmic_error([[0.0]], [[1.718281828]]).numpy().round(4)
    array([1.], dtype=float32)
    """
    predictions, truth = both(y_true, y_pred)
    ratio = (predictions.clip(EPSILON) + 1).log() - (truth.clip(EPSILON) + 1).log()
    return (ratio * ratio).mean(axis=-1)


def huber(y_true: Values, y_pred: Values, delta: float = 1.0) -> Tensor:
    """Half the squared error up to an error of ``delta``, and a straight line beyond it, averaged over the last axis.

    Args:
        y_true, y_pred: as of :func:`mean_squared_error`.
        delta: above 0.

    Source: Huber, "Robust Estimation of a Location Parameter" (1964).

    >>> huber([[0.0, 0.0]], [[1.0, 3.0]]).numpy().tolist()
    [1.5]
    """
    predictions, truth = both(y_true, y_pred)
    return F.huber_loss(predictions, truth, reduction="none", delta=delta).mean(axis=-1)


def log_cosh(y_true: Values, y_pred: Values) -> Tensor:
    """``log(cosh(y_pred - y_true))``, averaged over the last axis: half the square near 0, a straight line far from it.

    Arguments and errors as of :func:`mean_squared_error`.

    >>> log_cosh([[0.0, 0.0]], [[0.0, 1.0]]).numpy().round(4)
    array([0.2169], dtype=float32)
    """
    predictions, truth = both(y_true, y_pred)
    error = predictions - truth
    return (error + F.softplus(-2 * error) - math.log(2)).mean(axis=-1)


def poisson(y_true: Values, y_pred: Values) -> Tensor:
    """``y_pred - y_true log(y_pred)``, averaged over the last axis; arguments as of :func:`mean_squared_error`.

    >>> poisson([[1.0, 0.0]], [[1.0, 2.0]]).numpy().round(4)
    array([1.5], dtype=float32)
    """
    predictions, truth = both(y_true, y_pred)
    return (predictions - truth * (predictions + EPSILON).log()).mean(axis=-1)


def kl_divergence(y_true: Values, y_pred: Values) -> Tensor:
    """``sum(y_true log(y_true / y_pred))`` over the last axis, of probabilities, which count as 1e-7 at least.

    Arguments and errors as of :func:`mean_squared_error`.

    >>> kl_divergence([[0.5, 0.5]], [[0.25, 0.75]]).numpy().round(4)
    array([0.1438], dtype=float32)
    """
    predictions, truth = both(y_true, y_pred)
    truth = truth.clip(EPSILON, 1)
    return (truth * (truth / predictions.clip(EPSILON, 1)).log()).sum(axis=-1)


def cosine_similarity(y_true: Values, y_pred: Values, axis: int = -1) -> Tensor:
    """The cosine of the angle between targets and predictions, times -1: -1 where their directions agree.

    Args:
        y_true, y_pred: as of :func:`mean_squared_error`.
        axis: along which the vectors lie.

    >>> cosine_similarity([[1.0, 0.0]], [[3.0, 4.0]]).numpy().round(4)
    array([-0.6], dtype=float32)
    """
    predictions, truth = both(y_true, y_pred)
    return -F.cosine_similarity(predictions, truth, dim=axis, eps=1e-12)


class MeanAbsoluteError(SameShapeLoss):
    """The mean of :func:`mean_absolute_error` over a batch.

    >>> MeanAbsoluteError()([[0.0], [2.0]], [[1.0], [4.0]]).item()
    1.5
    """

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str | None = "mean_absolute_error") -> None:
        super().__init__(mean_absolute_error, name, reduction)


class MeanAbsolutePercentageError(SameShapeLoss):
    """The mean of :func:`mean_absolute_percentage_error` over a batch.

    >>> MeanAbsolutePercentageError()([[1.0], [2.0]], [[2.0], [4.0]]).item()
    100.0
    """

    def __init__(
        self, reduction: str | None = "sum_over_batch_size", name: str | None = "mean_absolute_percentage_error"
    ) -> None:
        super().__init__(mean_absolute_percentage_error, name, reduction)


class MeanSquaredLogarithmicError(SameShapeLoss):
    """The mean of :func:`mean_squared_logarithmic_error` over a batch.

    >>> MeanSquaredLogarithmicError()([[1.0], [2.0]], [[1.0], [2.0]]).item()
    0.0
    """

    def __init__(
        self, reduction: str | None = "sum_over_batch_size", name: str | None = "mean_squared_logarithmic_error"
    ) -> None:
        super().__init__(mean_squared_logarithmic_error, name, reduction)


class Huber(SameShapeLoss):
    """The mean of :func:`huber` over a batch.

    >>> Huber(delta=2.0)([[0.0]], [[1.0]]).item()
    0.5
    """

    def __init__(
        self, delta: float = 1.0, reduction: str | None = "sum_over_batch_size", name: str | None = "huber_loss"
    ) -> None:
        super().__init__(huber, name, reduction, delta=delta)


class LogCosh(SameShapeLoss):
    """The mean of :func:`log_cosh` over a batch.

    >>> round(LogCosh()([[0.0]], [[1.0]]).item(), 4)
    0.4338
    """

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str | None = "log_cosh") -> None:
        super().__init__(log_cosh, name, reduction)


class Poisson(SameShapeLoss):
    """The mean of :func:`poisson` over a batch.

    >>> round(Poisson()([[0.0]], [[2.0]]).item(), 4)
    2.0
    """

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str | None = "poisson") -> None:
        super().__init__(poisson, name, reduction)


class KLDivergence(SameShapeLoss):
    """The mean of :func:`kl_divergence` over a batch.

    >>> round(KLDivergence()([[0.5, 0.5]], [[0.25, 0.75]]).item(), 4)
    0.1438
    """

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str | None = "kl_divergence") -> None:
        super().__init__(kl_divergence, name, reduction)


class CosineSimilarity(SameShapeLoss):
    """The mean of :func:`cosine_similarity` over a batch.

    >>> round(CosineSimilarity()([[1.0, 0.0]], [[3.0, 4.0]]).item(), 4)
    -0.6
    """

    def __init__(
        self, axis: int = -1, reduction: str | None = "sum_over_batch_size", name: str | None = "cosine_similarity"
    ) -> None:
        super().__init__(cosine_similarity, name, reduction, axis=axis)
