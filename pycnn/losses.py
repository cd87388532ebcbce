"""Losses by Keras' names and semantics.

A loss function takes (y_true, y_pred) and returns one value per sample; a loss object takes the mean of these
over the batch. Where ``y_pred`` is the output of softmax (sigmoid for two classes), the cross-entropies are computed
from its input, which is exact where the probabilities are too close to 0 or 1 for their logarithm.

Source: Keras 3, keras.losses.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pycnn import backend, changes
from pycnn import functional as F
from pycnn.elementary import cast
from pycnn.functional.activation import logits_of
from pycnn.naming import nearest
from pycnn.shapes import Shape, shape_of_weights, shapes_agree
from pycnn.tensor import Tensor
from pycnn_kernels.problem import is_floating, is_half

#: Probabilities are kept this far from 0 and 1 before their logarithm is taken, as in Keras.
EPSILON = 1e-7

LossFunction = Callable[..., Tensor]
_REDUCTIONS = ("sum_over_batch_size", "mean", "sum", "none", None)


# -- functions: one value per sample ---------------------------------------------------------------------------


def sparse_categorical_crossentropy(
    y_true: ArrayLike | Tensor, y_pred: ArrayLike | Tensor, from_logits: bool = False
) -> Tensor:
    """``-log(probability of the true class)`` for labels given as integers.

    Args:
        y_true: class numbers 0 .. classes - 1, shape (batch, ...) or (batch, ..., 1).
        y_pred: probabilities (batch, ..., classes).
        from_logits: whether ``y_pred`` holds logits instead of probabilities.

    Returns:
        Values of shape (batch, ...).

    Raises:
        TypeError: when one of the two holds no real numbers.
        ValueError: when the shapes do not agree, ``y_pred`` is a single number, or a label is no whole number in
            0 .. classes - 1.

    >>> loss = sparse_categorical_crossentropy([1, 2], [[0.05, 0.95, 0.0], [0.1, 0.8, 0.1]])
    >>> [round(value, 4) for value in loss.numpy().tolist()]
    [0.0513, 2.3026]
    """
    predictions = _tensor(y_pred)
    labels = _sparse_labels(_array(y_true), predictions.shape)
    _check_classes("y_true", labels, predictions.shape[-1])
    labels = labels.astype(np.int64)
    # Classes are the last axis here and the second one in F.cross_entropy: rows of classes serve both.
    rows = _logits(predictions, from_logits).reshape(labels.size, predictions.shape[-1])
    return F.cross_entropy(rows, labels.reshape(-1), reduction="none").reshape(*labels.shape)


def categorical_crossentropy(
    y_true: ArrayLike | Tensor,
    y_pred: ArrayLike | Tensor,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
) -> Tensor:
    """``-sum(y_true * log(y_pred))`` over classes, for one-hot labels or probabilities.

    Args:
        y_true: probabilities of the classes (batch, ..., classes), usually one-hot.
        y_pred: predicted probabilities, the same shape.
        from_logits: whether ``y_pred`` holds logits instead of probabilities.
        label_smoothing: part of each label, in [0, 1], that is spread evenly over all classes.

    Returns:
        Values of shape (batch, ...).

    Raises:
        TypeError: when one of the two holds no real numbers, or ``label_smoothing`` is none.
        ValueError: when the shapes differ, ``y_pred`` is a single number, or ``label_smoothing`` is not in [0, 1].

    >>> loss = categorical_crossentropy([[0, 1, 0], [0, 0, 1]], [[0.05, 0.95, 0.0], [0.1, 0.8, 0.1]])
    >>> [round(value, 4) for value in loss.numpy().tolist()]
    [0.0513, 2.3026]
    """
    label_smoothing = _fraction(label_smoothing, "label_smoothing")
    predictions = _tensor(y_pred)
    labels = _array(y_true)
    _check_categorical_shape(labels.shape, predictions.shape)
    classes = predictions.shape[-1]
    rows = _logits(predictions, from_logits).reshape(math.prod(labels.shape[:-1]), classes)
    targets = cast(labels, predictions.dtype).reshape(rows.shape)
    if label_smoothing:
        targets *= 1 - label_smoothing
        targets += label_smoothing / classes
    return F.cross_entropy(rows, _beside(targets, rows), reduction="none").reshape(*labels.shape[:-1])


def binary_crossentropy(
    y_true: ArrayLike | Tensor,
    y_pred: ArrayLike | Tensor,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
) -> Tensor:
    """``-(y_true * log(y_pred) + (1 - y_true) * log(1 - y_pred))``, averaged over the last axis.

    Args:
        y_true: labels in [0, 1], shape (batch, ..., outputs), or (batch,) for one output.
        y_pred: predicted probabilities (batch, ..., outputs).
        from_logits: whether ``y_pred`` holds logits instead of probabilities.
        label_smoothing: in [0, 1]; moves labels that far towards 0.5.

    Returns:
        Values of shape (batch, ...).

    Raises:
        TypeError: when one of the two holds no real numbers, or ``label_smoothing`` is none.
        ValueError: when the shapes do not agree, ``y_pred`` is a single number, or ``label_smoothing`` is not in
            [0, 1].

    >>> loss = binary_crossentropy([[0, 1], [0, 0]], [[0.6, 0.4], [0.4, 0.6]])
    >>> [round(value, 4) for value in loss.numpy().tolist()]
    [0.9163, 0.7136]
    """
    label_smoothing = _fraction(label_smoothing, "label_smoothing")
    predictions = _tensor(y_pred)
    labels = _like(y_true, predictions)
    if label_smoothing:
        labels *= 1 - label_smoothing
        labels += 0.5 * label_smoothing
    truth = _beside(labels, predictions)
    logits = predictions if from_logits else logits_of(predictions, "sigmoid")
    if logits is not None:
        return F.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean(axis=-1)
    probabilities = predictions.clip(EPSILON, 1 - EPSILON)
    likelihood = truth * probabilities.log() + (1 - truth) * (1 - probabilities).log()
    return -likelihood.mean(axis=-1)


def mean_squared_error(y_true: ArrayLike | Tensor, y_pred: ArrayLike | Tensor) -> Tensor:
    """``(y_true - y_pred) ** 2``, averaged over the last axis.

    Args:
        y_true: values (batch, ..., outputs), or (batch,) for one output.
        y_pred: predicted values (batch, ..., outputs).

    Returns:
        Values of shape (batch, ...).

    Raises:
        TypeError: when one of the two holds no real numbers.
        ValueError: when the shapes do not agree, or ``y_pred`` is a single number.

    >>> mean_squared_error([[0.0, 2.0]], [[1.0, 4.0]]).numpy().tolist()
    [2.5]
    """
    predictions = _tensor(y_pred)
    truth = _beside(_like(y_true, predictions), predictions)
    return F.mse_loss(predictions, truth, reduction="none").mean(axis=-1)


# -- objects: the mean over a batch ------------------------------------------------------------------------------


class Loss:
    """Base class: called with (y_true, y_pred), returns the loss of a batch as one number.

    Args:
        name: by default the name of the function.
        reduction: "sum_over_batch_size" (the mean over all values), "sum" or "none".

    Raises:
        ValueError: for an unknown reduction.
    """

    def __init__(self, name: str | None = None, reduction: str | None = "sum_over_batch_size") -> None:
        if reduction not in _REDUCTIONS:
            hint = nearest(str(reduction), [known for known in _REDUCTIONS if known])
            raise ValueError(f"reduction: expected one of {_REDUCTIONS}, received {reduction!r}.{hint}")
        self.name = name or type(self).__name__
        self.reduction = {"sum_over_batch_size": "mean", None: "none"}.get(reduction, reduction) or "none"

    def __call__(
        self,
        y_true: ArrayLike | Tensor,
        y_pred: ArrayLike | Tensor,
        sample_weight: ArrayLike | Tensor | None = None,
    ) -> Tensor:
        """The loss of a batch: one number, or one per sample when the reduction is "none".

        Args:
            y_true: targets.
            y_pred: predictions.
            sample_weight: what each value is multiplied by before the reduction, shape (batch,) or with more axes of
                the values. The mean still divides by the number of values, as in Keras.

        Raises:
            ValueError: for weights of a shape that the values do not have.

        >>> MeanSquaredError()([[0.0], [2.0]], [[1.0], [4.0]], sample_weight=[1.0, 0.5]).item()
        1.5
        """
        values = self.call(y_true, y_pred)
        if sample_weight is not None:
            values = values * _beside(_weights(sample_weight, values), values)
        return _reduce(values, self.reduction)

    def call(self, y_true: ArrayLike | Tensor, y_pred: ArrayLike | Tensor) -> Tensor:
        """One value per sample."""
        raise NotImplementedError(f"{type(self).__name__} must define call(y_true, y_pred)")

    def check_targets(self, y_true: NDArray[Any], output_shape: Shape) -> None:
        """Check all labels of a data set against a model's output shape, before training.

        Raises:
            ValueError: when a shape or a value is not what the loss can take.
        """


class LossFunctionWrapper(Loss):
    """A loss from a function of (y_true, y_pred) that returns one value per sample.

    >>> worst = LossFunctionWrapper(lambda y_true, y_pred: (y_pred - y_true).abs().mean(axis=-1), name="mae")
    >>> from pycnn import Tensor
    >>> worst(Tensor([[1.0, 2.0]]), Tensor([[2.0, 4.0]])).item()
    1.5
    """

    def __init__(
        self,
        fn: LossFunction,
        name: str | None = None,
        reduction: str | None = "sum_over_batch_size",
        **kwargs: Any,
    ) -> None:
        super().__init__(name or getattr(fn, "__name__", type(fn).__name__), reduction)
        self.fn = fn
        self._arguments = kwargs

    def call(self, y_true: ArrayLike | Tensor, y_pred: ArrayLike | Tensor) -> Tensor:
        """The values of the function."""
        return self.fn(y_true, y_pred, **self._arguments)


class SparseCategoricalCrossentropy(LossFunctionWrapper):
    """The mean of :func:`sparse_categorical_crossentropy` over a batch.

    Raises:
        TypeError, ValueError: as the function, and as :class:`Loss`.

    >>> loss = SparseCategoricalCrossentropy(from_logits=True)
    >>> round(loss([0], [[0.0, 0.0]]).item(), 4)
    0.6931
    """

    def __init__(
        self,
        from_logits: bool = False,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "sparse_categorical_crossentropy",
    ) -> None:
        super().__init__(sparse_categorical_crossentropy, name, reduction, from_logits=from_logits)

    def check_targets(self, y_true: NDArray[Any], output_shape: Shape) -> None:
        """Labels must be integers in 0 .. classes - 1, one for each prediction.

        Raises:
            ValueError: when they are not.
        """
        labels = _sparse_labels(y_true, (len(y_true), *output_shape[1:]))
        _check_classes(self.name, labels, output_shape[-1])


class CategoricalCrossentropy(LossFunctionWrapper):
    """The mean of :func:`categorical_crossentropy` over a batch.

    Raises:
        TypeError, ValueError: as the function, and as :class:`Loss`.

    >>> loss = CategoricalCrossentropy()
    >>> round(loss([[0, 1]], [[0.5, 0.5]]).item(), 4)
    0.6931
    """

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "categorical_crossentropy",
    ) -> None:
        smoothing = _fraction(label_smoothing, "label_smoothing")
        super().__init__(categorical_crossentropy, name, reduction, from_logits=from_logits, label_smoothing=smoothing)

    def check_targets(self, y_true: NDArray[Any], output_shape: Shape) -> None:
        """Labels must have the shape of the predictions, with values in [0, 1].

        Raises:
            ValueError: when they do not.
        """
        _check_categorical_shape(y_true.shape, (len(y_true), *output_shape[1:]))
        _check_range(self.name, y_true, 0, 1, "one-hot labels or probabilities in [0, 1]")


class BinaryCrossentropy(LossFunctionWrapper):
    """The mean of :func:`binary_crossentropy` over a batch.

    Raises:
        TypeError, ValueError: as the function, and as :class:`Loss`.

    >>> loss = BinaryCrossentropy(from_logits=True)
    >>> round(loss([[1]], [[0.0]]).item(), 4)
    0.6931
    """

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "binary_crossentropy",
    ) -> None:
        smoothing = _fraction(label_smoothing, "label_smoothing")
        super().__init__(binary_crossentropy, name, reduction, from_logits=from_logits, label_smoothing=smoothing)

    def check_targets(self, y_true: NDArray[Any], output_shape: Shape) -> None:
        """Labels must fit the predictions, with values in [0, 1].

        Raises:
            ValueError: when they do not.
        """
        _check_same_shape(self.name, y_true.shape, (len(y_true), *output_shape[1:]))
        _check_range(self.name, y_true, 0, 1, "labels in [0, 1]")


class MeanSquaredError(LossFunctionWrapper):
    """The mean of :func:`mean_squared_error` over a batch.

    Raises:
        TypeError, ValueError: as the function, and as :class:`Loss`.

    >>> MeanSquaredError()([[0.0], [2.0]], [[1.0], [4.0]]).item()
    2.5
    """

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str | None = "mean_squared_error") -> None:
        super().__init__(mean_squared_error, name, reduction)

    def check_targets(self, y_true: NDArray[Any], output_shape: Shape) -> None:
        """Targets must fit the predictions.

        Raises:
            ValueError: when they do not.
        """
        _check_same_shape(self.name, y_true.shape, (len(y_true), *output_shape[1:]))


# -- names ---------------------------------------------------------------------------------------------------------

_FUNCTION_CLASSES: dict[LossFunction, type[Loss]] = {
    sparse_categorical_crossentropy: SparseCategoricalCrossentropy,
    categorical_crossentropy: CategoricalCrossentropy,
    binary_crossentropy: BinaryCrossentropy,
    mean_squared_error: MeanSquaredError,
}
_KNOWN: dict[str, type[Loss]] = {
    **{function.__name__: kind for function, kind in _FUNCTION_CLASSES.items()},
    **{kind.__name__: kind for kind in _FUNCTION_CLASSES.values()},
    "bce": BinaryCrossentropy,
    "BCE": BinaryCrossentropy,
    "mse": MeanSquaredError,
    "MSE": MeanSquaredError,
}


def get(identifier: Any) -> Loss:
    """The loss object for a name, a function of (y_true, y_pred), a class, or an object (returned as it is).

    Raises:
        ValueError: for an unknown name (the message names the nearest) or anything that cannot be called.

    >>> get("mse").name
    'mean_squared_error'
    >>> get(sparse_categorical_crossentropy).name
    'sparse_categorical_crossentropy'
    """
    if isinstance(identifier, type):
        identifier = identifier()
    if isinstance(identifier, Loss):
        return identifier
    if isinstance(identifier, str):
        if identifier not in _KNOWN:
            names = ", ".join(function.__name__ for function in _FUNCTION_CLASSES)
            raise ValueError(f"unknown loss {identifier!r}.{nearest(identifier, _KNOWN)} Known: {names}")
        return _KNOWN[identifier]()
    if callable(identifier):
        if identifier in _FUNCTION_CLASSES:
            return _FUNCTION_CLASSES[identifier]()
        return LossFunctionWrapper(identifier)
    raise ValueError(f"loss: expected a name, a function or a Loss, received {identifier!r}")


# -- shared arithmetic and checks ------------------------------------------------------------------------------------


def _logits(predictions: Tensor, from_logits: bool) -> Tensor:
    """Numbers whose softmax is the predicted distribution."""
    if from_logits:
        return predictions
    logits = logits_of(predictions, "softmax")
    if logits is not None:
        return logits
    return predictions.clip(EPSILON, 1 - EPSILON).log()


def _reduce(values: Tensor, reduction: str) -> Tensor:
    if reduction == "mean":
        return values.mean()
    return values.sum() if reduction == "sum" else values


def _tensor(values: ArrayLike | Tensor) -> Tensor:
    """Predictions as a tensor; those in float16 and bfloat16 in float32, for 1 - EPSILON is 1 in them.

    Raises:
        TypeError: when they are no real numbers.
        ValueError: when they are a single one.
    """
    given = values if isinstance(values, Tensor) else backend.asarray(values, "y_pred")
    _check_numbers("y_pred", given.dtype)
    if not given.ndim:
        raise ValueError(f"y_pred: expected predictions of shape (batch, ...), received a single number, {values!r}")
    tensor = given if isinstance(given, Tensor) else Tensor(given).astype(np.float32)
    if not is_half(tensor.dtype):
        return tensor
    wide = tensor.astype(np.float32)
    for kind in ("softmax", "sigmoid"):
        logits = logits_of(tensor, kind)
        if logits is not None:
            wide._logits = kind, logits.astype(np.float32), changes.moment
    return wide


def _array(values: ArrayLike | Tensor) -> NDArray[Any]:
    """Targets as an array.

    Raises:
        TypeError: when they are no real numbers.
    """
    found: NDArray[Any] = values.detach().numpy() if isinstance(values, Tensor) else backend.on_host(values)
    _check_numbers("y_true", found.dtype)
    return found


def _beside(values: NDArray[Any], predictions: Tensor) -> Tensor:
    """Values where the predictions are."""
    return Tensor._of(predictions.backend.asarray(values))


def _like(y_true: ArrayLike | Tensor, predictions: Tensor) -> NDArray[Any]:
    """A copy of targets with dtype and shape of the predictions; a missing last axis of size 1 is added or dropped."""
    targets = _array(y_true)
    _check_same_shape("y_true", targets.shape, predictions.shape)
    return cast(targets, predictions.dtype).reshape(predictions.shape)


def _weights(sample_weight: ArrayLike | Tensor, values: Tensor) -> NDArray[Any]:
    """Weights with the dtype of the values, in a shape that spreads them over these."""
    held = sample_weight.detach().numpy() if isinstance(sample_weight, Tensor) else backend.on_host(sample_weight)
    _check_numbers("sample_weight", held.dtype)
    return cast(held, values.dtype).reshape(shape_of_weights(held.shape, values.shape))


def _sparse_labels(labels: NDArray[Any], output_shape: Shape) -> NDArray[Any]:
    """Labels without a last axis of size 1."""
    if labels.ndim == len(output_shape) and labels.shape[-1] == 1:
        labels = labels[..., 0]
    if not shapes_agree(labels.shape, output_shape[:-1]):
        one_hot = shapes_agree(labels.shape, output_shape)
        hint = "; for one-hot labels use 'categorical_crossentropy'" if one_hot else ""
        raise ValueError(
            f"sparse_categorical_crossentropy: expected labels of shape {output_shape[:-1]} for predictions of "
            f"shape {output_shape}, received {labels.shape}{hint}"
        )
    return labels


def _check_numbers(name: str, dtype: np.dtype) -> None:
    if not (dtype.kind in "biuf" or is_floating(dtype)):
        raise TypeError(f"{name}: expected real numbers, received {dtype}")


def _check_classes(name: str, labels: NDArray[Any], classes: int | None) -> None:
    if is_floating(labels.dtype) and not (labels == np.floor(labels)).all():
        raise ValueError(f"{name}: expected integer labels, received fractions or NaN among the labels")
    if classes is not None:
        _check_range(name, labels, 0, classes - 1, f"labels in 0 .. {classes - 1} for {classes} classes")


def _check_categorical_shape(labels: Shape, output_shape: Shape) -> None:
    if not shapes_agree(labels, output_shape):
        integers = shapes_agree(labels, output_shape[:-1]) or shapes_agree(labels, (*output_shape[:-1], 1))
        hint = "; for integer labels use 'sparse_categorical_crossentropy'" if integers else ""
        raise ValueError(
            f"categorical_crossentropy: expected one-hot labels of shape {output_shape}, received {labels}{hint}"
        )


def _check_same_shape(name: str, targets: Shape, output_shape: Shape) -> None:
    padded = (*targets, 1) if len(targets) == len(output_shape) - 1 else targets
    trimmed = targets[:-1] if len(targets) == len(output_shape) + 1 and targets[-1] == 1 else padded
    if not shapes_agree(trimmed, output_shape):
        raise ValueError(f"{name}: expected targets of shape {output_shape}, received {targets}")


def _check_range(name: str, values: NDArray[Any], low: float, high: float, expected: str) -> None:
    if not values.size:
        return
    least, most = values.min(), values.max()
    # NaN compares false with everything and flows through.
    if least < low or most > high:
        raise ValueError(f"{name}: expected {expected}, received values from {least} to {most}")


def _fraction(value: float, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name}: expected a number in [0, 1], received {value!r}")
    if not 0 <= value <= 1:
        raise ValueError(f"{name}: expected a number in [0, 1], received {value!r}")
    return value
