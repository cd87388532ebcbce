"""Metrics that are averages of losses, and of their kin."""

from __future__ import annotations

import math

import numpy as np

from pycnn import losses
from pycnn.metrics.metric import Average, MeanMetricWrapper, Values, as_array, same_rank, spread_weights
from pycnn.tensor import Tensor


def cosine_similarity(y_true: Values, y_pred: Values, axis: int = -1) -> Tensor:
    """The cosine of the angle between targets and predictions: 1 where their directions agree, unlike the loss.

    >>> cosine_similarity([[1.0, 0.0]], [[3.0, 4.0]]).numpy().round(4)
    array([0.6], dtype=float32)
    """
    return -losses.cosine_similarity(y_true, y_pred, axis)


class AverageLoss(MeanMetricWrapper):
    """The average of a loss, of which less is better."""

    direction = "down"


class MeanSquaredError(AverageLoss):
    """The average of :func:`pycnn.losses.mean_squared_error`.

    >>> MeanSquaredError()([[0.0], [2.0]], [[1.0], [4.0]])
    2.5
    """

    def __init__(self, name: str = "mean_squared_error") -> None:
        super().__init__(losses.mean_squared_error, name)


class RootMeanSquaredError(Average):
    """The root of the average of squared errors.

    >>> RootMeanSquaredError()([[0.0], [0.0]], [[3.0], [3.0]])
    3.0
    """

    direction = "down"

    def __init__(self, name: str = "root_mean_squared_error") -> None:
        super().__init__(name)

    def update_state(self, y_true: Values, y_pred: Values, sample_weight: Values | None = None) -> None:
        """Take a batch into account, its samples with their weights."""
        truth, predictions = same_rank(as_array(y_true), as_array(y_pred))
        self.add(np.square(predictions - truth, dtype=np.float64), sample_weight)

    def result(self) -> float:
        """The root so far."""
        return math.sqrt(super().result())


class MeanAbsoluteError(AverageLoss):
    """The average of :func:`pycnn.losses.mean_absolute_error`."""

    def __init__(self, name: str = "mean_absolute_error") -> None:
        super().__init__(losses.mean_absolute_error, name)


class MeanAbsolutePercentageError(AverageLoss):
    """The average of :func:`pycnn.losses.mean_absolute_percentage_error`."""

    def __init__(self, name: str = "mean_absolute_percentage_error") -> None:
        super().__init__(losses.mean_absolute_percentage_error, name)


class MeanSquaredLogarithmicError(AverageLoss):
    """The average of :func:`pycnn.losses.mean_squared_logarithmic_error`."""

    def __init__(self, name: str = "mean_squared_logarithmic_error") -> None:
        super().__init__(losses.mean_squared_logarithmic_error, name)


class CosineSimilarity(MeanMetricWrapper):
    """The average of :func:`cosine_similarity`, 1 for predictions in the direction of the targets."""

    direction = "up"

    def __init__(self, name: str = "cosine_similarity", axis: int = -1) -> None:
        super().__init__(cosine_similarity, name, axis=axis)


class LogCoshError(AverageLoss):
    """The average of :func:`pycnn.losses.log_cosh`."""

    def __init__(self, name: str = "logcosh") -> None:
        super().__init__(losses.log_cosh, name)


class Hinge(AverageLoss):
    """The average of :func:`pycnn.losses.hinge`."""

    def __init__(self, name: str = "hinge") -> None:
        super().__init__(losses.hinge, name)


class SquaredHinge(AverageLoss):
    """The average of :func:`pycnn.losses.squared_hinge`."""

    def __init__(self, name: str = "squared_hinge") -> None:
        super().__init__(losses.squared_hinge, name)


class CategoricalHinge(AverageLoss):
    """The average of :func:`pycnn.losses.categorical_hinge`."""

    def __init__(self, name: str = "categorical_hinge") -> None:
        super().__init__(losses.categorical_hinge, name)


class KLDivergence(AverageLoss):
    """The average of :func:`pycnn.losses.kl_divergence`."""

    def __init__(self, name: str = "kl_divergence") -> None:
        super().__init__(losses.kl_divergence, name)


class Poisson(AverageLoss):
    """The average of :func:`pycnn.losses.poisson`."""

    def __init__(self, name: str = "poisson") -> None:
        super().__init__(losses.poisson, name)


class BinaryCrossentropy(AverageLoss):
    """The average of :func:`pycnn.losses.binary_crossentropy`."""

    def __init__(
        self, name: str = "binary_crossentropy", from_logits: bool = False, label_smoothing: float = 0
    ) -> None:
        super().__init__(losses.binary_crossentropy, name, from_logits=from_logits, label_smoothing=label_smoothing)


class CategoricalCrossentropy(AverageLoss):
    """The average of :func:`pycnn.losses.categorical_crossentropy`."""

    def __init__(
        self,
        name: str = "categorical_crossentropy",
        from_logits: bool = False,
        label_smoothing: float = 0,
        axis: int = -1,
    ) -> None:
        arguments = {"from_logits": from_logits, "label_smoothing": label_smoothing, "axis": axis}
        super().__init__(losses.categorical_crossentropy, name, **arguments)


class SparseCategoricalCrossentropy(AverageLoss):
    """The average of :func:`pycnn.losses.sparse_categorical_crossentropy`.

    Ignored labels count as 0 there; beside sample weights they do not count, as in Keras.
    """

    def __init__(
        self,
        name: str = "sparse_categorical_crossentropy",
        from_logits: bool = False,
        ignore_class: int | None = None,
        axis: int = -1,
    ) -> None:
        arguments = {"from_logits": from_logits, "ignore_class": ignore_class, "axis": axis}
        super().__init__(losses.sparse_categorical_crossentropy, name, **arguments)
        self.ignore_class = ignore_class

    def update_state(self, y_true: Values, y_pred: Values, sample_weight: Values | None = None) -> None:
        """Take a batch into account, its samples with their weights."""
        if self.ignore_class is not None and sample_weight is not None:
            labels, predictions = as_array(y_true), as_array(y_pred)
            counted = (labels != self.ignore_class).reshape(labels.shape[: predictions.ndim - 1])
            sample_weight = spread_weights(sample_weight, counted.shape) * counted
        super().update_state(y_true, y_pred, sample_weight)
