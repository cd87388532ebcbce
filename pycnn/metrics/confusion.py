"""Metrics of right and wrong decisions: precision, recall, areas under curves, F scores.

A decision is positive where a prediction is above a threshold. All of these count true and false positives and
negatives, of each threshold, over all batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pycnn.losses import EPSILON
from pycnn.metrics.metric import Metric, Values, as_array, same_rank, spread_weights
from pycnn.naming import nearest

#: Below all predictions, as Keras has it: of the ``top_k`` largest all are positive.
_LOWEST = -1e10

Thresholds = float | Sequence[float] | None


class Counts(NamedTuple):
    """Weights of true and false positives and negatives, one for each threshold, or (thresholds, labels)."""

    true_positives: NDArray[np.float64]
    false_positives: NDArray[np.float64]
    true_negatives: NDArray[np.float64]
    false_negatives: NDArray[np.float64]


def count(labels: NDArray[Any], predictions: NDArray[Any], weights: NDArray[Any], thresholds: NDArray[Any]) -> Counts:
    """The decisions at ascending thresholds over values of one axis; a NaN is above none.

    >>> count(np.array([True, False]), np.array([0.6, 0.4]), np.ones(2), np.array([0.3, 0.5])).false_positives
    array([1., 0.])
    """
    # How many thresholds are below a prediction; thresholds of its dtype, so that 0.2 is not above 0.2.
    below = np.searchsorted(thresholds.astype(predictions.dtype), predictions, side="left")
    below[np.isnan(predictions)] = 0

    def above(chosen: NDArray[Any]) -> NDArray[np.float64]:
        held = np.bincount(below[chosen], weights[chosen].astype(np.float64), minlength=len(thresholds) + 1)
        return held[::-1].cumsum()[::-1]

    positive, negative = above(labels), above(~labels)
    return Counts(positive[1:], negative[1:], negative[0] - negative[1:], positive[0] - positive[1:])


class _Confusion(Metric):
    """What has thresholds, and a sum of :class:`Counts`.

    Args:
        thresholds: in [0, 1]; one, or several in any order, for as many results.
        top_k: take the k largest predictions of each sample for positive and the others for negative.
        class_id: of which class to count; None for all.
        name: the key in ``History.history``.
    """

    def __init__(
        self,
        thresholds: Thresholds = None,
        top_k: int | None = None,
        class_id: int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name or _SNAKES.get(type(self).__name__, type(self).__name__.lower()))
        self.init_thresholds = thresholds
        self.thresholds = _checked(thresholds, 0.5 if top_k is None else _LOWEST)
        self.top_k, self.class_id = top_k, class_id
        self.reset_state()

    def update_state(self, y_true: Values, y_pred: Values, sample_weight: Values | None = None) -> None:
        """Take a batch into account.

        Args:
            y_true: labels 0 or 1, shape (batch, ...), or (batch,) for one output.
            y_pred: predictions in [0, 1] of that shape.
            sample_weight: what a sample counts, shape (batch,), or more axes of the labels.

        Raises:
            ValueError: shapes do not agree, or there is no class of number ``class_id``.
        """
        labels, predictions = _paired(y_true, y_pred)
        if self.top_k is not None:
            predictions = _only_top(predictions, self.top_k)
        if self.class_id is not None:
            if predictions.ndim < 2 or not 0 <= self.class_id < predictions.shape[-1]:
                raise ValueError(
                    f"{self.name}: expected predictions with class {self.class_id}, received the shape "
                    f"{predictions.shape}"
                )
            labels, predictions = (each[..., self.class_id, None] for each in (labels, predictions))
        weights = np.ones(labels.shape) if sample_weight is None else spread_weights(sample_weight, labels.shape)
        order = np.argsort(self.thresholds, kind="stable")
        found = count(labels.ravel(), predictions.ravel(), weights.ravel(), np.array(self.thresholds)[order])
        for total, added in zip(self._counts, found):
            total[order] += added

    def reset_state(self) -> None:
        """Begin anew."""
        self._counts = Counts(*(np.zeros(len(self.thresholds)) for _ in Counts._fields))

    def _given(self, values: NDArray[Any]) -> Any:
        """One number for one threshold, otherwise an array."""
        return float(values[0]) if len(self.thresholds) == 1 else values


class _Count(_Confusion):
    """The weight of one kind of decisions."""

    def __init__(self, thresholds: Thresholds = None, name: str | None = None) -> None:
        super().__init__(thresholds, name=name)

    def result(self) -> Any:
        """The sum of the weights so far, of each threshold if there are several."""
        return self._given(getattr(self._counts, _SNAKES[type(self).__name__]).copy())


class TruePositives(_Count):
    """How many samples are labelled 1 and predicted above the threshold.

    >>> TruePositives()([0, 1, 1, 1], [1, 0, 1, 1])
    2.0
    """


class TrueNegatives(_Count):
    """How many samples are labelled 0 and not predicted above the threshold.

    >>> TrueNegatives()([0, 1, 0, 0], [1, 1, 0, 0])
    2.0
    """


class FalsePositives(_Count):
    """How many samples are labelled 0 and predicted above the threshold.

    >>> FalsePositives()([0, 1, 0, 0], [0, 0, 1, 1])
    2.0
    """


class FalseNegatives(_Count):
    """How many samples are labelled 1 and not predicted above the threshold.

    >>> FalseNegatives()([0, 1, 1, 1], [0, 1, 0, 0])
    2.0
    """


class Precision(_Confusion):
    """How many of the positive predictions are right: true positives through all positives.

    Args:
        thresholds: 0.5 by default, or of ``top_k`` none; several for as many results.
        top_k: take the k largest predictions of each sample for positive.
        class_id: of which class to count; None for all.
        name: "precision" by default.

    Raises:
        ValueError: for thresholds outside [0, 1].

    >>> Precision()([0, 1, 1, 1], [1, 0, 1, 1]) == 2 / 3
    True
    """

    direction = "up"

    def result(self) -> Any:
        """The part so far, of each threshold if there are several; 0 while nothing is positive."""
        right, wrong = self._counts.true_positives, self._counts.false_positives
        return self._given(_part(right, right + wrong))


class Recall(_Confusion):
    """How many of the positive labels are found: true positives through all that are labelled 1.

    Arguments and errors as of :class:`Precision`.

    >>> Recall()([0, 1, 1, 1], [1, 0, 1, 1]) == 2 / 3
    True
    """

    direction = "up"

    def result(self) -> Any:
        """The part so far, of each threshold if there are several; 0 while no label is."""
        found, missed = self._counts.true_positives, self._counts.false_negatives
        return self._given(_part(found, found + missed))


class AUC(Metric):
    """The area under the ROC curve, or under that of precision over recall, by a sum over thresholds.

    Args:
        num_thresholds: at least 2, evenly from 0 to 1.
        curve: "ROC", "PR" or "PRGAIN".
        summation_method: "interpolation" (trapezes; of "PR" the interpolation of Davis and Goadrich), "minoring" or
            "majoring" (the lower or the higher side of each interval).
        name: "auc" by default.
        thresholds: inner thresholds in [0, 1] instead of even ones.
        multi_label: an area for each label, the last axis, and their average.
        num_labels: how many there are, with ``multi_label``; found out by default.
        label_weights: of the labels, in the average or in the counts.
        from_logits: whether predictions are logits, and not in [0, 1].

    Raises:
        ValueError: for an unknown curve or method, or thresholds that are none.

    Source: Davis and Goadrich, "The relationship between Precision-Recall and ROC curves" (2006), as in Keras.

    >>> round(AUC(num_thresholds=3)([0, 0, 1, 1], [0, 0.5, 0.3, 0.9]), 4)
    0.75
    """

    direction = "up"

    def __init__(
        self,
        num_thresholds: int = 200,
        curve: str = "ROC",
        summation_method: str = "interpolation",
        name: str | None = None,
        thresholds: Sequence[float] | None = None,
        multi_label: bool = False,
        num_labels: int | None = None,
        label_weights: Sequence[float] | None = None,
        from_logits: bool = False,
    ) -> None:
        super().__init__(name or "auc")
        self.curve = _one_of("curve", curve, ("ROC", "PR", "PRGAIN"))
        self.summation_method = _one_of("summation_method", summation_method, ("interpolation", "minoring", "majoring"))
        if thresholds is None and num_thresholds < 2:
            raise ValueError(f"num_thresholds: expected at least 2, received {num_thresholds!r}")
        if num_labels and not multi_label:
            raise ValueError(f"num_labels: expected only beside multi_label=True, received {num_labels!r}")
        self.init_thresholds = thresholds
        inner = [i / (num_thresholds - 1) for i in range(1, num_thresholds - 1)]
        self.thresholds = [-EPSILON, *sorted(inner if thresholds is None else _checked(thresholds, 0)), 1 + EPSILON]
        self.num_thresholds = len(self.thresholds)
        self.multi_label, self.num_labels = multi_label, num_labels
        self.label_weights = None if label_weights is None else np.asarray(label_weights, np.float64)
        self.from_logits = from_logits
        self._counts = self._none()

    def update_state(self, y_true: Values, y_pred: Values, sample_weight: Values | None = None) -> None:
        """Take a batch into account.

        Args:
            y_true: labels 0 or 1, shape (batch, ...), or (batch,) for one output.
            y_pred: predictions of that shape.
            sample_weight: what a sample counts, shape (batch,), or more axes of the labels.

        Raises:
            ValueError: shapes do not agree, or are not (batch, labels) with ``multi_label``.
        """
        labels, predictions = _paired(y_true, y_pred)
        if self.from_logits:
            predictions = 0.5 * (1 + np.tanh(0.5 * predictions))
        predictions = predictions.clip(0, 1)
        weights = np.ones(labels.shape) if sample_weight is None else spread_weights(sample_weight, labels.shape)
        if not self.multi_label:
            if self.label_weights is not None:
                weights = weights * self.label_weights
            self._add(self._counted(labels, predictions, weights))
            return
        columns = (None, self.num_labels or (self._counts.true_positives.shape[1:] or (None,))[0])
        if labels.ndim != 2 or columns[1] not in (None, labels.shape[1]):
            raise ValueError(f"{self.name}: expected values of shape {columns}, received {labels.shape}")
        of_labels = [self._counted(*column) for column in zip(labels.T, predictions.T, weights.T)]
        self._add(Counts(*(np.stack(kind, axis=1) for kind in zip(*of_labels))))

    def _counted(self, labels: NDArray[Any], predictions: NDArray[Any], weights: NDArray[Any]) -> Counts:
        return count(labels.ravel(), predictions.ravel(), weights.ravel(), np.array(self.thresholds))

    def _add(self, found: Counts) -> None:
        before = self._counts
        if before.true_positives.ndim == found.true_positives.ndim:
            found = Counts(*(total + added for total, added in zip(before, found)))
        self._counts = found

    def reset_state(self) -> None:
        """Begin anew."""
        self._counts = self._none()

    def _none(self) -> Counts:
        """No counts; of labels whose number is not known yet, those of one."""
        shape = (self.num_thresholds, self.num_labels) if self.num_labels else (self.num_thresholds,)
        return Counts(*(np.zeros(shape) for _ in Counts._fields))

    def result(self) -> float:
        """The area so far, or the average of those of the labels."""
        areas = self._areas().sum(axis=0)
        if not self.multi_label:
            return float(areas)
        return float(np.average(areas, weights=self.label_weights))

    def _areas(self) -> NDArray[np.float64]:
        """The area of each interval between thresholds."""
        if self.curve == "PR" and self.summation_method == "interpolation":
            return self._interpolated()
        x, y = self._curve()
        heights = {
            "interpolation": (y[:-1] + y[1:]) / 2,
            "minoring": np.minimum(y[:-1], y[1:]),
            "majoring": np.maximum(y[:-1], y[1:]),
        }[self.summation_method]
        return (x[:-1] - x[1:]) * heights

    def _curve(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        tp, fp, tn, fn = self._counts
        if self.curve == "ROC":
            return _part(fp, fp + tn), _part(tp, tp + fn)
        if self.curve == "PR":
            return _part(tp, tp + fn), _part(tp, tp + fp)
        # Flach and Kull, "Precision-Recall-Gain Curves" (2015).
        odds = _part(tp + fn, tn + fp)
        none = tp == 0
        recall_gain = np.where(none, 0, 1 - odds * _part(fn, tp)).clip(0)
        return recall_gain, np.where(none, 1, 1 - odds * _part(fp, tp))

    def _interpolated(self) -> NDArray[np.float64]:
        """Between two thresholds, true positives grow linearly with all positives P, and precision is their quotient.

        Its integral over recall is ``slope (dTP + intercept log(P_B / P_A))`` through the number of positive labels.
        """
        tp, fp, _, fn = self._counts
        p = tp + fp
        d_tp, d_p = tp[:-1] - tp[1:], p[:-1] - p[1:]
        slope = _part(d_tp, d_p.clip(0))
        intercept = tp[1:] - slope * p[1:]
        both = (p[:-1] > 0) & (p[1:] > 0)
        ratio = np.where(both, _part(p[:-1], p[1:]), 1)
        return _part(slope * (d_tp + intercept * np.log(ratio)), tp[1:] + fn[1:])


class FBetaScore(Metric):
    """``(1 + beta^2) precision recall / (beta^2 precision + recall)`` of each class, or an average of the classes.

    Args:
        average: None for one number per class; "micro" counts all classes together, "macro" takes the mean of theirs,
            "weighted" by how often each is labelled.
        beta: how much more recall counts than precision; above 0.
        threshold: above which a prediction is positive, in (0, 1]; None for the largest of each sample.
        name: the key in ``History.history``.

    Raises:
        ValueError: for another average, ``beta`` or ``threshold``.

    >>> metric = FBetaScore(beta=2.0, threshold=0.5, average="micro")
    >>> round(metric([[1, 1], [1, 0]], [[0.2, 0.6], [0.2, 0.6]]), 4)
    0.3571
    """

    direction = "up"

    def __init__(
        self,
        average: str | None = None,
        beta: float = 1.0,
        threshold: float | None = None,
        name: str = "fbeta_score",
    ) -> None:
        super().__init__(name)
        self.average = None if average is None else _one_of("average", average, ("micro", "macro", "weighted"))
        if not beta > 0:
            raise ValueError(f"beta: expected a number above 0, received {beta!r}")
        if threshold is not None and not 0 < threshold <= 1:
            raise ValueError(f"threshold: expected a number above 0 and up to 1, or None, received {threshold!r}")
        self.beta, self.threshold = beta, threshold
        self._counts: NDArray[np.float64] | None = None

    def update_state(self, y_true: Values, y_pred: Values, sample_weight: Values | None = None) -> None:
        """Take a batch into account.

        Args:
            y_true: labels 0 or 1, shape (batch, classes).
            y_pred: predictions of that shape.
            sample_weight: what a sample counts, shape (batch,).

        Raises:
            ValueError: for other shapes.
        """
        truth, predictions = as_array(y_true).astype(np.float64), as_array(y_pred)
        if predictions.ndim != 2 or truth.shape != predictions.shape:
            raise ValueError(
                f"{self.name}: expected labels and predictions of one shape (batch, classes), received {truth.shape} "
                f"and {predictions.shape}"
            )
        if self.threshold is None:
            largest = predictions.max(axis=-1, keepdims=True)
            positive = (predictions >= largest) & (np.abs(predictions) > 1e-9)
        else:
            positive = predictions > self.threshold
        weights = np.ones(truth.shape) if sample_weight is None else spread_weights(sample_weight, truth.shape)
        kinds = (positive * truth, positive * (1 - truth), ~positive * truth)
        found = np.stack([(kind * weights).sum(axis=0) for kind in kinds])
        self._counts = found if self._counts is None else self._counts + found

    def result(self) -> Any:
        """The score so far; an array of one for each class where ``average`` is None."""
        if self._counts is None:
            return 0.0
        counts = self._counts.sum(axis=1, keepdims=True) if self.average == "micro" else self._counts
        right, wrong, missed = counts
        precision, recall = right / (right + wrong + EPSILON), right / (right + missed + EPSILON)
        square = self.beta**2
        scores = (1 + square) * precision * recall / (square * precision + recall + EPSILON)
        if self.average is None:
            return scores
        if self.average == "weighted":
            labelled = right + missed
            return float((scores * labelled).sum() / (labelled.sum() + EPSILON))
        return float(scores.mean())

    def reset_state(self) -> None:
        """Begin anew."""
        self._counts = None


class F1Score(FBetaScore):
    """The harmonic mean of precision and recall: :class:`FBetaScore` with a ``beta`` of 1.

    >>> F1Score(average="macro", threshold=0.5)([[1, 1], [1, 0]], [[0.2, 0.6], [0.9, 0.6]]).__round__(4)
    0.6667
    """

    def __init__(self, average: str | None = None, threshold: float | None = None, name: str = "f1_score") -> None:
        super().__init__(average, 1.0, threshold, name)


#: What metrics without a name are called.
_SNAKES = {
    "TruePositives": "true_positives",
    "TrueNegatives": "true_negatives",
    "FalsePositives": "false_positives",
    "FalseNegatives": "false_negatives",
}


def _paired(y_true: Values, y_pred: Values) -> tuple[NDArray[np.bool_], NDArray[Any]]:
    """Labels as truth values, and predictions in float32 or float64, of one shape."""
    labels, predictions = same_rank(as_array(y_true), as_array(y_pred))
    if labels.shape != predictions.shape:
        raise ValueError(
            f"y_true: expected labels of the predictions' shape {predictions.shape}, received {labels.shape}"
        )
    wide = predictions.dtype if predictions.dtype == np.float64 else np.dtype(np.float32)
    return labels.astype(bool), predictions.astype(wide)


def _only_top(predictions: NDArray[Any], k: int) -> NDArray[Any]:
    """Predictions, but those that are not among the k largest of the last axis so low that they are never positive."""
    order = np.argsort(-predictions, axis=-1, kind="stable")
    kept = np.full_like(predictions, _LOWEST)
    top = order[..., :k]
    np.put_along_axis(kept, top, np.take_along_axis(predictions, top, axis=-1), axis=-1)
    return kept


def _part(values: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """The quotient; 0 where the whole is 0."""
    return np.divide(values, whole, out=np.zeros_like(whole, np.float64), where=whole != 0)


def _checked(thresholds: Thresholds, default: float) -> list[float]:
    if thresholds is None:
        return [default]
    held = [float(each) for each in (thresholds if isinstance(thresholds, Sequence | np.ndarray) else [thresholds])]
    if not held or not all(0 <= each <= 1 for each in held):
        raise ValueError(f"thresholds: expected one or more numbers in [0, 1], received {thresholds!r}")
    return held


def _one_of(name: str, value: str, known: Sequence[str]) -> str:
    for each in known:
        if str(value).lower() == each.lower():
            return each
    raise ValueError(
        f"{name}: expected one of {', '.join(map(repr, known))}, received {value!r}.{nearest(value, known)}"
    )
