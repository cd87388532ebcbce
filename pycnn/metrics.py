"""Metrics by Keras' names and semantics: how often predictions are right.

A metric object is updated batch by batch and gives the average over all samples.

Source: Keras 3, keras.metrics.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pycnn import backend
from pycnn.naming import nearest
from pycnn.shapes import Shape, shape_of_weights
from pycnn.tensor import Tensor

MetricFunction = Callable[..., Any]
Values = ArrayLike | Tensor


# -- functions: one value per sample ---------------------------------------------------------------------------


def accuracy(y_true: Values, y_pred: Values) -> NDArray[Any]:
    """1 where the prediction equals the label, otherwise 0.

    >>> accuracy([1, 2, 3], [1, 2, 4]).tolist()
    [1.0, 1.0, 0.0]
    """
    truth, predictions = _same_rank(_array(y_true), _array(y_pred))
    return (truth == predictions).astype(np.float32)


def binary_accuracy(y_true: Values, y_pred: Values, threshold: float = 0.5) -> NDArray[Any]:
    """1 where ``y_pred > threshold`` agrees with the label 0 or 1, otherwise 0.

    >>> binary_accuracy([1, 1, 0, 0], [0.98, 1, 0, 0.6]).tolist()
    [1.0, 1.0, 1.0, 0.0]
    """
    truth, predictions = _same_rank(_array(y_true), _array(y_pred))
    return (truth == (predictions > threshold)).astype(np.float32)


def categorical_accuracy(y_true: Values, y_pred: Values) -> NDArray[Any]:
    """1 where the largest prediction is at the largest value of the one-hot label, otherwise 0.

    Args:
        y_true: (batch, ..., classes).
        y_pred: probabilities or logits (batch, ..., classes).

    >>> categorical_accuracy([[0, 0, 1], [0, 1, 0]], [[0.1, 0.9, 0.8], [0.05, 0.95, 0]]).tolist()
    [0.0, 1.0]
    """
    return (_array(y_true).argmax(axis=-1) == _array(y_pred).argmax(axis=-1)).astype(np.float32)


def sparse_categorical_accuracy(y_true: Values, y_pred: Values) -> NDArray[Any]:
    """1 where the largest prediction is that of the labelled class, otherwise 0.

    Args:
        y_true: class numbers (batch, ...) or (batch, ..., 1).
        y_pred: probabilities or logits (batch, ..., classes).

    >>> sparse_categorical_accuracy([2, 1], [[0.1, 0.6, 0.3], [0.05, 0.95, 0]]).tolist()
    [0.0, 1.0]
    """
    labels, predictions = _array(y_true), _array(y_pred)
    if labels.ndim == predictions.ndim and labels.shape[-1] == 1:
        labels = labels[..., 0]
    return (labels == predictions.argmax(axis=-1)).astype(np.float32)


# -- objects: averages over samples ----------------------------------------------------------------------------


class Metric:
    """Base class: a number that is updated batch by batch.

    Args:
        name: the key in ``History.history``.
    """

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


class MeanMetricWrapper(Metric):
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
        self._total, self._count = 0.0, 0.0

    def update_state(self, y_true: Values, y_pred: Values, sample_weight: Values | None = None) -> None:
        """Take a batch into account; with weights, shape (batch,) or more axes of the values, their weighted average.

        Raises:
            ValueError: for weights of a shape that the values do not have.
        """
        values = _array(self._fn(y_true, y_pred, **self._arguments))
        if sample_weight is None:
            self._total += float(values.sum())
            self._count += values.size
            return
        weights = _array(sample_weight)
        weights = np.broadcast_to(weights.reshape(shape_of_weights(weights.shape, values.shape)), values.shape)
        self._total += float((values * weights).sum())
        self._count += float(weights.sum())

    def result(self) -> float:
        """The average so far; 0 before the first batch."""
        return self._total / self._count if self._count else 0.0

    def reset_state(self) -> None:
        """Begin anew."""
        self._total, self._count = 0.0, 0.0


class Accuracy(MeanMetricWrapper):
    """The average of :func:`accuracy`."""

    def __init__(self, name: str = "accuracy") -> None:
        super().__init__(accuracy, name)


class BinaryAccuracy(MeanMetricWrapper):
    """The average of :func:`binary_accuracy`.

    >>> BinaryAccuracy()([[1], [1], [0], [0]], [[0.98], [1], [0], [0.6]])
    0.75
    """

    def __init__(self, name: str = "binary_accuracy", threshold: float = 0.5) -> None:
        super().__init__(binary_accuracy, name, threshold=threshold)


class CategoricalAccuracy(MeanMetricWrapper):
    """The average of :func:`categorical_accuracy`."""

    def __init__(self, name: str = "categorical_accuracy") -> None:
        super().__init__(categorical_accuracy, name)


class SparseCategoricalAccuracy(MeanMetricWrapper):
    """The average of :func:`sparse_categorical_accuracy`."""

    def __init__(self, name: str = "sparse_categorical_accuracy") -> None:
        super().__init__(sparse_categorical_accuracy, name)


# -- names -------------------------------------------------------------------------------------------------------

_FUNCTION_CLASSES: dict[MetricFunction, Any] = {
    binary_accuracy: BinaryAccuracy,
    categorical_accuracy: CategoricalAccuracy,
    sparse_categorical_accuracy: SparseCategoricalAccuracy,
}
_KNOWN: dict[str, Callable[[], Metric]] = {
    **{function.__name__: kind for function, kind in _FUNCTION_CLASSES.items()},
    **{kind.__name__: kind for kind in (*_FUNCTION_CLASSES.values(), Accuracy)},
}
#: Names whose meaning depends on the shapes of labels and predictions.
BY_SHAPE = ("accuracy", "acc")


def get(identifier: Any) -> Metric:
    """The metric object for a name, a function of (y_true, y_pred), a class, or an object (returned as it is).

    "accuracy" and "acc" depend on shapes and are resolved by :func:`resolve`.

    Raises:
        ValueError: for an unknown name (the message names the nearest) or anything that cannot be called.

    >>> get("sparse_categorical_accuracy").name
    'sparse_categorical_accuracy'
    """
    if isinstance(identifier, type):
        identifier = identifier()
    if isinstance(identifier, Metric):
        return identifier
    if isinstance(identifier, str):
        if identifier not in _KNOWN:
            known = (*BY_SHAPE, *_KNOWN)
            raise ValueError(
                f"unknown metric {identifier!r}.{nearest(identifier, known)} "
                f"Known: accuracy, {', '.join(function.__name__ for function in _FUNCTION_CLASSES)}"
            )
        return _KNOWN[identifier]()
    if callable(identifier):
        return MeanMetricWrapper(identifier)
    raise ValueError(f"metric: expected a name, a function or a Metric, received {identifier!r}")


def resolve(identifier: Any, label_shape: Shape, output_shape: Shape) -> Metric:
    """The metric object for these shapes: "accuracy" becomes binary, sparse or categorical, as in Keras.

    >>> type(resolve("accuracy", (50, 1), (50, 10))).__name__
    'SparseCategoricalAccuracy'
    """
    if identifier not in BY_SHAPE:
        return get(identifier)
    if output_shape[-1] == 1:
        return BinaryAccuracy(name=identifier)
    if len(label_shape) < len(output_shape) or label_shape[-1] == 1:
        return SparseCategoricalAccuracy(name=identifier)
    return CategoricalAccuracy(name=identifier)


def _array(values: Values) -> NDArray[Any]:
    return values.detach().numpy() if isinstance(values, Tensor) else backend.on_host(values)


def _same_rank(a: NDArray[Any], b: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The longer shape loses a last axis of size 1 where the ranks differ by one."""
    if a.ndim == b.ndim + 1 and a.shape[-1] == 1:
        return a[..., 0], b
    if b.ndim == a.ndim + 1 and b.shape[-1] == 1:
        return a, b[..., 0]
    return a, b
