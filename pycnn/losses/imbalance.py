"""Losses for classes of very different size: focal cross-entropies, and those of overlaps of regions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from numpy.typing import ArrayLike

from pycnn import functional as F
from pycnn.losses.loss import (
    EPSILON,
    SameShapeLoss,
    beside,
    binary_crossentropies,
    binary_targets,
    both,
    distribution,
    fraction,
    one_hot_targets,
)
from pycnn.tensor import Tensor

Values = ArrayLike | Tensor
Axes = int | tuple[int, ...] | list[int] | None


def binary_focal_crossentropy(
    y_true: Values,
    y_pred: Values,
    apply_class_balancing: bool = False,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Tensor:
    """The binary cross-entropy times ``(1 - p)^gamma``, p the probability of the true label, averaged over an axis.

    Args:
        y_true, y_pred, from_logits, label_smoothing, axis: as of :func:`binary_crossentropy`.
        apply_class_balancing: multiply by ``alpha`` for the label 1, and by ``1 - alpha`` for 0.
        alpha: weight of the label 1.
        gamma: how much less easy samples count.

    Source: Lin et al., "Focal Loss for Dense Object Detection" (2017).

    >>> binary_focal_crossentropy([[1.0]], [[0.5]]).numpy().round(4)
    array([0.1733], dtype=float32)
    """
    predictions, truth = binary_targets(y_true, y_pred, label_smoothing)
    losses = binary_crossentropies(truth, predictions, from_logits)
    probabilities = F.sigmoid(predictions) if from_logits else predictions
    likely = truth * probabilities + (1 - truth) * (1 - probabilities)
    losses = (1 - likely) ** gamma * losses
    if apply_class_balancing:
        losses = losses * (truth * alpha + (1 - truth) * (1 - alpha))
    return losses.mean(axis=axis)


def categorical_focal_crossentropy(
    y_true: Values,
    y_pred: Values,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Tensor:
    """The categorical cross-entropy, each class's part times ``alpha (1 - p)^gamma``, p its probability.

    Args:
        y_true, y_pred, from_logits, label_smoothing, axis: as of :func:`categorical_crossentropy`.
        alpha: factor of all.
        gamma: how much less easy samples count.

    Source: Lin et al., "Focal Loss for Dense Object Detection" (2017).

    >>> categorical_focal_crossentropy([[0, 1]], [[0.5, 0.5]]).numpy().round(4)
    array([0.0433], dtype=float32)
    """
    predictions, targets = one_hot_targets(y_true, y_pred, label_smoothing, axis)
    if from_logits:
        predictions = F.softmax(predictions, dim=-1)
    probabilities = distribution(predictions)
    parts = beside(targets, predictions) * probabilities.log() * (1 - probabilities) ** gamma
    return -alpha * parts.sum(axis=-1)


def dice(y_true: Values, y_pred: Values, axis: Axes = None) -> Tensor:
    """``1 - 2 sum(y_true y_pred) / (sum(y_true) + sum(y_pred))``: how little two regions overlap.

    Args:
        y_true: 1 inside the region and 0 outside, shape (batch, ...).
        y_pred: predictions of that shape.
        axis: of the sums; None for all.

    Source: Milletari, Navab and Ahmadi, "V-Net" (2016).

    >>> round(dice([[0.0, 1.0, 1.0, 0.0]], [[0.0, 1.0, 0.0, 0.0]]).item(), 4)
    0.3333
    """
    predictions, truth = both(y_true, y_pred)
    axes = _axes(axis)
    overlap = (truth * predictions).sum(axis=axes)
    return 1 - 2 * overlap / (truth.sum(axis=axes) + predictions.sum(axis=axes) + EPSILON)


def tversky(y_true: Values, y_pred: Values, alpha: float = 0.5, beta: float = 0.5, axis: Axes = None) -> Tensor:
    """``1 - T``; T is the overlap divided by itself, ``alpha`` of what is missing and ``beta`` of what is too much.

    Args:
        y_true, y_pred, axis: as of :func:`dice`.
        alpha: weight of the target's part that is not predicted.
        beta: weight of predictions outside the target.

    Source: Salehi, Erdogmus and Gholipour, "Tversky loss function for image segmentation" (2017).

    >>> round(tversky([[0.0, 1.0, 1.0, 0.0]], [[0.0, 1.0, 0.0, 0.0]], alpha=1.0).item(), 4)
    0.5
    """
    predictions, truth = both(y_true, y_pred)
    axes = _axes(axis)
    overlap = (truth * predictions).sum(axis=axes)
    missing = ((1 - predictions) * truth).sum(axis=axes)
    excess = (predictions * (1 - truth)).sum(axis=axes)
    return 1 - overlap / (overlap + missing * alpha + excess * beta + EPSILON)


def _axes(axis: Axes) -> Any:
    return tuple(axis) if isinstance(axis, Iterable) else axis


class BinaryFocalCrossentropy(SameShapeLoss):
    """The mean of :func:`binary_focal_crossentropy` over a batch.

    >>> round(BinaryFocalCrossentropy(gamma=0.0)([[1.0]], [[0.5]]).item(), 4)
    0.6931
    """

    def __init__(
        self,
        apply_class_balancing: bool = False,
        alpha: float = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "binary_focal_crossentropy",
    ) -> None:
        super().__init__(
            binary_focal_crossentropy,
            name,
            reduction,
            apply_class_balancing=apply_class_balancing,
            alpha=alpha,
            gamma=gamma,
            from_logits=from_logits,
            label_smoothing=fraction(label_smoothing, "label_smoothing"),
            axis=axis,
        )


class CategoricalFocalCrossentropy(SameShapeLoss):
    """The mean of :func:`categorical_focal_crossentropy` over a batch.

    >>> round(CategoricalFocalCrossentropy(alpha=1.0, gamma=0.0)([[0, 1]], [[0.5, 0.5]]).item(), 4)
    0.6931
    """

    def __init__(
        self,
        alpha: float = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "categorical_focal_crossentropy",
    ) -> None:
        super().__init__(
            categorical_focal_crossentropy,
            name,
            reduction,
            alpha=alpha,
            gamma=gamma,
            from_logits=from_logits,
            label_smoothing=fraction(label_smoothing, "label_smoothing"),
            axis=axis,
        )


class Dice(SameShapeLoss):
    """:func:`dice` of a batch, by default of all its samples as one region.

    >>> round(Dice()([[0.0, 1.0, 1.0, 0.0]], [[0.0, 1.0, 0.0, 0.0]]).item(), 4)
    0.3333
    """

    def __init__(
        self, reduction: str | None = "sum_over_batch_size", name: str | None = "dice", axis: Axes = None
    ) -> None:
        super().__init__(dice, name, reduction, axis=axis)


class Tversky(SameShapeLoss):
    """:func:`tversky` of a batch, by default of all its samples as one region.

    >>> round(Tversky()([[0.0, 1.0, 1.0, 0.0]], [[0.0, 1.0, 0.0, 0.0]]).item(), 4)
    0.3333
    """

    def __init__(
        self,
        alpha: float = 0.5,
        beta: float = 0.5,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "tversky",
        axis: Axes = None,
    ) -> None:
        super().__init__(tversky, name, reduction, alpha=alpha, beta=beta, axis=axis)
