"""What all metrics share, averages, and how often predictions are right, by Keras' names and semantics.

Source: Keras 3, keras.metrics.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pycnn import backend
from pycnn.configuration import Configurable
from pycnn.shapes import shape_of_weights
from pycnn.tensor import Tensor

MetricFunction = Callable[..., Any]
Values = ArrayLike | Tensor


# -- functions: one value per sample ---------------------------------------------------------------------------


def accuracy(y_true: Values, y_pred: Values) -> NDArray[Any]:
    """1 where the prediction equals the label, otherwise 0.

    >>> accuracy([1, 2, 3], [1, 2, 4]).tolist()
    [1.0, 1.0, 0.0]
    """
    truth, predictions = same_rank(as_array(y_true), as_array(y_pred))
    return (truth == predictions).astype(np.float32)


def binary_accuracy(y_true: Values, y_pred: Values, threshold: float = 0.5) -> NDArray[Any]:
    """1 where ``y_pred > threshold`` agrees with the label 0 or 1, otherwise 0.

    >>> binary_accuracy([1, 1, 0, 0], [0.98, 1, 0, 0.6]).tolist()
    [1.0, 1.0, 1.0, 0.0]
    """
    truth, predictions = same_rank(as_array(y_true), as_array(y_pred))
    return (truth == (predictions > threshold)).astype(np.float32)


def categorical_accuracy(y_true: Values, y_pred: Values) -> NDArray[Any]:
    """1 where the largest prediction is at the largest value of the one-hot label, otherwise 0.

    Args:
        y_true: (batch, ..., classes).
        y_pred: probabilities or logits (batch, ..., classes).

    >>> categorical_accuracy([[0, 0, 1], [0, 1, 0]], [[0.1, 0.9, 0.8], [0.05, 0.95, 0]]).tolist()
    [0.0, 1.0]
    """
    return (as_array(y_true).argmax(axis=-1) == as_array(y_pred).argmax(axis=-1)).astype(np.float32)


def sparse_categorical_accuracy(y_true: Values, y_pred: Values) -> NDArray[Any]:
    """1 where the largest prediction is that of the labelled class, otherwise 0.

    Args:
        y_true: class numbers (batch, ...) or (batch, ..., 1).
        y_pred: probabilities or logits (batch, ..., classes).

    >>> sparse_categorical_accuracy([2, 1], [[0.1, 0.6, 0.3], [0.05, 0.95, 0]]).tolist()
    [0.0, 1.0]
    """
    labels, predictions = as_array(y_true), as_array(y_pred)
    if labels.ndim == predictions.ndim and labels.shape[-1] == 1:
        labels = labels[..., 0]
    return (labels == predictions.argmax(axis=-1)).astype(np.float32)


def top_k_categorical_accuracy(y_true: Values, y_pred: Values, k: int = 5) -> NDArray[Any]:
    """1 where the largest value of the one-hot label is among the k largest predictions, otherwise 0.

    Args:
        y_true: (batch, ..., classes).
        y_pred: probabilities or logits (batch, ..., classes).
        k: how many predictions count; as many more as are equal to the last of them.

    >>> top_k_categorical_accuracy([[0, 0, 1], [0, 1, 0]], [[0.1, 0.9, 0.8], [0.5, 0.1, 0.2]], k=2).tolist()
    [1.0, 0.0]
    """
    return sparse_top_k_categorical_accuracy(as_array(y_true).argmax(axis=-1), y_pred, k)


def sparse_top_k_categorical_accuracy(
    y_true: Values, y_pred: Values, k: int = 5, from_sorted_ids: bool = False
) -> NDArray[Any]:
    """1 where the labelled class is among the k largest predictions, otherwise 0.

    Args:
        y_true: class numbers (batch, ...) or (batch, ..., 1).
        y_pred: probabilities or logits (batch, ..., classes).
        k: how many predictions count; as many more as are equal to the last of them.
        from_sorted_ids: whether ``y_pred`` holds class numbers instead, the best first.

    >>> sparse_top_k_categorical_accuracy([2, 1], [[0.1, 0.9, 0.8], [0.5, 0.1, 0.2]], k=2).tolist()
    [1.0, 0.0]
    """
    labels, predictions = as_array(y_true), as_array(y_pred)
    if labels.ndim == predictions.ndim and labels.shape[-1] == 1:
        labels = labels[..., 0]
    if from_sorted_ids:
        return (labels[..., None] == predictions[..., :k]).any(axis=-1).astype(np.float32)
    chosen = np.take_along_axis(predictions, labels.astype(np.int64)[..., None], axis=-1)
    found = ((predictions > chosen).sum(axis=-1) < k) & np.isfinite(chosen[..., 0])
    return found.astype(np.float32)


# -- objects: averages over samples ----------------------------------------------------------------------------


class Metric(Configurable):
    """Base class: a number that is updated batch by batch.

    Args:
        name: the key in ``History.history``.

    Attributes:
        direction: "up" where larger is better, "down" where smaller is; None where neither can be said.
    """

    direction: str | None = None

    def __init__(self, name: str) -> None:
        self.name = name

    def update_state(self, y_true: Values, y_pred: Values, sample_weight: Values | None = None) -> None:
        """Take a batch into account, its samples with their weights."""
        raise NotImplementedError(f"{type(self).__name__} must define update_state(y_true, y_pred, sample_weight)")

    def result(self) -> float:
        """The value over everything since the last reset."""
        raise NotImplementedError(f"{type(self).__name__} must define result()")

    def reset_state(self) -> None:
        """Begin anew."""
        raise NotImplementedError(f"{type(self).__name__} must define reset_state()")

    def __call__(self, *args: Any, **kwargs: Any) -> float:
        """Take a batch into account, as :meth:`update_state` does; return the value so far."""
        self.update_state(*args, **kwargs)
        return self.result()


class Average(Metric):
    """What is an average of values, weighted or not."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._total, self._count = 0.0, 0.0

    def add(self, values: Values, sample_weight: Values | None) -> None:
        """Take values into account; with weights, shape (batch,) or more axes of the values, their weighted average.

        Raises:
            ValueError: for weights of a shape that the values do not have.
        """
        held = as_array(values)
        if sample_weight is None:
            self._total += float(held.sum(dtype=np.float64))
            self._count += held.size
            return
        weights = spread_weights(sample_weight, held.shape)
        self._total += float((held * weights).sum(dtype=np.float64))
        self._count += float(weights.sum(dtype=np.float64))

    def result(self) -> float:
        """The average so far; 0 before the first batch."""
        return self._total / self._count if self._count else 0.0

    def reset_state(self) -> None:
        """Begin anew."""
        self._total, self._count = 0.0, 0.0


class Mean(Average):
    """The average of values that are given themselves.

    >>> metric = Mean()
    >>> metric.update_state([1, 3], sample_weight=[3, 1])
    >>> metric.result()
    1.5
    """

    def __init__(self, name: str = "mean") -> None:
        super().__init__(name)

    def update_state(self, values: Values, sample_weight: Values | None = None) -> None:  # type: ignore[override]
        """Take values into account."""
        self.add(values, sample_weight)


class Sum(Mean):
    """The sum of values, each times its weight.

    >>> Sum()([1, 3], sample_weight=[3, 1])
    6.0
    """

    def __init__(self, name: str = "sum") -> None:
        super().__init__(name)

    def result(self) -> float:
        """The sum so far."""
        return self._total


class MeanMetricWrapper(Average):
    """The average of a function of (y_true, y_pred) that gives one value per sample.

    >>> metric = MeanMetricWrapper(accuracy)
    >>> metric.update_state([1, 2], [1, 2])
    >>> metric.update_state([3, 4], [4, 3])
    >>> metric.result()
    0.5
    """

    def __init__(self, fn: MetricFunction, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name or str(getattr(fn, "__name__", type(fn).__name__)))
        self._fn = fn
        self._arguments = kwargs

    def update_state(self, y_true: Values, y_pred: Values, sample_weight: Values | None = None) -> None:
        """Take a batch into account, its samples with their weights."""
        self.add(self._fn(y_true, y_pred, **self._arguments), sample_weight)


class Accuracy(MeanMetricWrapper):
    """The average of :func:`accuracy`."""

    direction = "up"

    def __init__(self, name: str = "accuracy") -> None:
        super().__init__(accuracy, name)


class BinaryAccuracy(MeanMetricWrapper):
    """The average of :func:`binary_accuracy`.

    >>> BinaryAccuracy()([[1], [1], [0], [0]], [[0.98], [1], [0], [0.6]])
    0.75
    """

    direction = "up"

    def __init__(self, name: str = "binary_accuracy", threshold: float = 0.5) -> None:
        super().__init__(binary_accuracy, name, threshold=threshold)


class CategoricalAccuracy(MeanMetricWrapper):
    """The average of :func:`categorical_accuracy`."""

    direction = "up"

    def __init__(self, name: str = "categorical_accuracy") -> None:
        super().__init__(categorical_accuracy, name)


class SparseCategoricalAccuracy(MeanMetricWrapper):
    """The average of :func:`sparse_categorical_accuracy`."""

    direction = "up"

    def __init__(self, name: str = "sparse_categorical_accuracy") -> None:
        super().__init__(sparse_categorical_accuracy, name)


class TopKCategoricalAccuracy(MeanMetricWrapper):
    """The average of :func:`top_k_categorical_accuracy`."""

    direction = "up"

    def __init__(self, k: int = 5, name: str = "top_k_categorical_accuracy") -> None:
        super().__init__(top_k_categorical_accuracy, name, k=k)


class SparseTopKCategoricalAccuracy(MeanMetricWrapper):
    """The average of :func:`sparse_top_k_categorical_accuracy`."""

    direction = "up"

    def __init__(
        self, k: int = 5, name: str = "sparse_top_k_categorical_accuracy", from_sorted_ids: bool = False
    ) -> None:
        super().__init__(sparse_top_k_categorical_accuracy, name, k=k, from_sorted_ids=from_sorted_ids)


def spread_weights(sample_weight: Values, shape: tuple[int, ...]) -> NDArray[Any]:
    """Weights of samples, or of more axes of values, for each of the values.

    Raises:
        ValueError: for weights of a shape that the values do not have.
    """
    weights = as_array(sample_weight)
    if weights.ndim == 0:
        return np.broadcast_to(weights, shape)
    return np.broadcast_to(weights.reshape(shape_of_weights(weights.shape, shape)), shape)


def as_array(values: Values) -> NDArray[Any]:
    return values.detach().numpy() if isinstance(values, Tensor) else backend.on_host(values)


def same_rank(a: NDArray[Any], b: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The longer shape loses a last axis of size 1 where the ranks differ by one."""
    if a.ndim == b.ndim + 1 and a.shape[-1] == 1:
        return a[..., 0], b
    if b.ndim == a.ndim + 1 and b.shape[-1] == 1:
        return a, b[..., 0]
    return a, b
