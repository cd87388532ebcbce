"""What all losses share, and the cross-entropies and the mean squared error, by Keras' names and semantics.

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
from pycnn.configuration import Configurable, is_ours
from pycnn.elementary import cast
from pycnn.functional.activation import logits_of
from pycnn.naming import nearest
from pycnn.shapes import Shape, shape_of_weights, shapes_agree
from pycnn.tensor import Tensor
from pycnn_kernels.problem import is_floating, is_half

#: Probabilities are kept this far from 0 and 1 before their logarithm is taken, as in Keras.
EPSILON = 1e-7

LossFunction = Callable[..., Tensor]
_REDUCTIONS = ("sum_over_batch_size", "mean", "mean_with_sample_weight", "sum", "none", None)


# -- functions: one value per sample ---------------------------------------------------------------------------


def sparse_categorical_crossentropy(
    y_true: ArrayLike | Tensor,
    y_pred: ArrayLike | Tensor,
    from_logits: bool = False,
    ignore_class: int | None = None,
    axis: int = -1,
) -> Tensor:
    """``-log(probability of the true class)`` for labels given as integers.

    Args:
        y_true: class numbers 0 .. classes - 1, shape (batch, ...) or (batch, ..., 1).
        y_pred: probabilities (batch, ..., classes).
        from_logits: whether ``y_pred`` holds logits instead of probabilities.
        ignore_class: a label, of whatever number, whose values are 0.
        axis: of the classes among those of ``y_pred``.

    Returns:
        Values of shape (batch, ...).

    Raises:
        TypeError: when one of the two holds no real numbers, or ``axis`` is no integer.
        ValueError: when the shapes do not agree, ``y_pred`` is a single number or has no such axis, or a label is no
            whole number in 0 .. classes - 1.

    >>> loss = sparse_categorical_crossentropy([1, 2], [[0.05, 0.95, 0.0], [0.1, 0.8, 0.1]])
    >>> [round(value, 4) for value in loss.numpy().tolist()]
    [0.0513, 2.3026]
    """
    predictions = classes_last(as_predictions(y_pred), axis)
    labels = _sparse_labels(as_targets(y_true), predictions.shape)
    ignored = None if ignore_class is None else labels == ignore_class
    if ignored is not None:
        labels = np.where(ignored, 0, labels)
    _check_classes("y_true", labels, predictions.shape[-1])
    values = _crossentropies(labels.astype(np.int64), predictions, from_logits)
    return values if ignored is None else values * beside(~ignored, values).astype(values.dtype)


def categorical_crossentropy(
    y_true: ArrayLike | Tensor,
    y_pred: ArrayLike | Tensor,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Tensor:
    """``-sum(y_true * log(y_pred))`` over classes, for one-hot labels or probabilities.

    Args:
        y_true: probabilities of the classes (batch, ..., classes), usually one-hot.
        y_pred: predicted probabilities, the same shape.
        from_logits: whether ``y_pred`` holds logits instead of probabilities.
        label_smoothing: part of each label, in [0, 1], that is spread evenly over all classes.
        axis: of the classes.

    Returns:
        Values of shape (batch, ...).

    Raises:
        TypeError: when one of the two holds no real numbers, ``label_smoothing`` is none, or ``axis`` no integer.
        ValueError: when the shapes differ, ``y_pred`` is a single number or has no such axis, or ``label_smoothing``
            is not in [0, 1].

    >>> loss = categorical_crossentropy([[0, 1, 0], [0, 0, 1]], [[0.05, 0.95, 0.0], [0.1, 0.8, 0.1]])
    >>> [round(value, 4) for value in loss.numpy().tolist()]
    [0.0513, 2.3026]
    """
    predictions, targets = one_hot_targets(y_true, y_pred, label_smoothing, axis)
    return _crossentropies(targets, predictions, from_logits)


def binary_crossentropy(
    y_true: ArrayLike | Tensor,
    y_pred: ArrayLike | Tensor,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Tensor:
    """``-(y_true * log(y_pred) + (1 - y_true) * log(1 - y_pred))``, averaged over the last axis.

    Args:
        y_true: labels in [0, 1], shape (batch, ..., outputs), or (batch,) for one output.
        y_pred: predicted probabilities (batch, ..., outputs).
        from_logits: whether ``y_pred`` holds logits instead of probabilities.
        label_smoothing: in [0, 1]; moves labels that far towards 0.5.
        axis: that is averaged.

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
    predictions, truth = binary_targets(y_true, y_pred, label_smoothing)
    return binary_crossentropies(truth, predictions, from_logits).mean(axis=axis)


def binary_crossentropies(truth: Tensor, predictions: Tensor, from_logits: bool) -> Tensor:
    """``-(t log(p) + (1 - t) log(1 - p))`` of each element."""
    logits = predictions if from_logits else logits_of(predictions, "sigmoid")
    if logits is not None:
        return F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    probabilities = predictions.clip(EPSILON, 1 - EPSILON)
    return -(truth * probabilities.log() + (1 - truth) * (1 - probabilities).log())


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
    predictions, truth = both(y_true, y_pred)
    return F.mse_loss(predictions, truth, reduction="none").mean(axis=-1)


# -- objects: the mean over a batch ------------------------------------------------------------------------------


class Loss(Configurable):
    """Base class: called with (y_true, y_pred), returns the loss of a batch as one number.

    Args:
        name: by default the name of the function.
        reduction: "sum_over_batch_size" or "mean", the mean over all values; "mean_with_sample_weight", which divides
            by the sum of the weights instead; "sum"; or "none".

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
                the values; where there is one value for all samples, it counts for each of the weights. The mean still
                divides by the number of values, as in Keras.

        Raises:
            ValueError: for weights of a shape that the values do not have.

        >>> MeanSquaredError()([[0.0], [2.0]], [[1.0], [4.0]], sample_weight=[1.0, 0.5]).item()
        1.5
        """
        if self._is_of_a_user():
            y_true, y_pred = _as_tensors(y_true, y_pred)
        values = self.call(y_true, y_pred)
        weights = self._weights(y_true, values, sample_weight)
        if weights is None:
            return _reduce(values, self.reduction)
        values = values * beside(weights, values)
        if self.reduction != "mean_with_sample_weight":
            return _reduce(values, self.reduction)
        total = float(np.asarray(weights, np.float64).sum())
        return values.sum() / total if total else values.sum() * 0

    def call(self, y_true: ArrayLike | Tensor, y_pred: ArrayLike | Tensor) -> Tensor:
        """One value per sample.

        A ``call`` of your own gets both as tensors of the same floating dtype, whatever the labels are, as in Keras.
        """
        raise NotImplementedError(f"{type(self).__name__} must define call(y_true, y_pred)")

    def _is_of_a_user(self) -> bool:
        """Whether the values come from code outside this package, which has no checks of labels to make itself."""
        return not is_ours(type(self).call)

    def _weights(
        self, y_true: ArrayLike | Tensor, values: Tensor, sample_weight: ArrayLike | Tensor | None
    ) -> NDArray[Any] | None:
        """What the values are multiplied by; None for nothing."""
        return None if sample_weight is None else _spread(sample_weight, values)

    def _argument(self, name: str) -> Any:
        kept = super()._argument(name)
        return "sum_over_batch_size" if (name, kept) == ("reduction", "mean") else kept

    def check_targets(self, y_true: NDArray[Any], output_shape: Shape) -> None:
        """Check all labels of a data set against a model's output shape, before training.

        Raises:
            ValueError: when a shape or a value is not what the loss can take.
        """


class LossFunctionWrapper(Loss):
    """A loss from a function of (y_true, y_pred) that returns one value per sample.

    A function of your own gets tensors of the same floating dtype, whatever the labels are; where one of them has a
    last axis of size 1 that the other one lacks, they get the same number of axes. Both is as in Keras.

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
        if isinstance(y_true, Tensor) and isinstance(y_pred, Tensor) and not is_ours(self.fn):
            y_true, y_pred = _of_same_rank(y_true, y_pred)
        return self.fn(y_true, y_pred, **self._arguments)

    def _is_of_a_user(self) -> bool:
        return super()._is_of_a_user() or not is_ours(self.fn)


class SameShapeLoss(LossFunctionWrapper):
    """A loss whose targets have the shape of the predictions."""

    def check_targets(self, y_true: NDArray[Any], output_shape: Shape) -> None:
        """Targets must fit the predictions.

        Raises:
            ValueError: when they do not.
        """
        check_same_shape(self.name, y_true.shape, (len(y_true), *output_shape[1:]))


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
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        axis: int = -1,
        name: str | None = "sparse_categorical_crossentropy",
    ) -> None:
        arguments = {"from_logits": from_logits, "ignore_class": ignore_class, "axis": axis}
        super().__init__(sparse_categorical_crossentropy, name, reduction, **arguments)
        self.ignore_class = ignore_class
        self.axis = axis

    def call(self, y_true: ArrayLike | Tensor, y_pred: ArrayLike | Tensor) -> Tensor:
        """The values of the function; where some are ignored, such that their mean is that of the others."""
        values = super().call(y_true, y_pred)
        if self.ignore_class is None or self.reduction != "mean":
            return values
        counted = int((as_targets(y_true) != self.ignore_class).sum())
        return values * (values.size / max(counted, 1))

    def _weights(
        self, y_true: ArrayLike | Tensor, values: Tensor, sample_weight: ArrayLike | Tensor | None
    ) -> NDArray[Any] | None:
        """Those of ignored labels are 0, so that they are no part of the sum of the weights."""
        weights = super()._weights(y_true, values, sample_weight)
        if self.ignore_class is None or self.reduction != "mean_with_sample_weight":
            return weights
        counted = (as_targets(y_true) != self.ignore_class).reshape(values.shape).astype(values.dtype)
        return counted if weights is None else weights * counted

    def check_targets(self, y_true: NDArray[Any], output_shape: Shape) -> None:
        """Labels must be integers in 0 .. classes - 1, one for each prediction.

        Raises:
            ValueError: when they are not.
        """
        shape = moved_last((len(y_true), *output_shape[1:]), self.axis)
        labels = _sparse_labels(y_true, shape)
        if self.ignore_class is not None:
            labels = labels[labels != self.ignore_class]
        _check_classes(self.name, labels, shape[-1])


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
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "categorical_crossentropy",
    ) -> None:
        smoothing = fraction(label_smoothing, "label_smoothing")
        arguments = {"from_logits": from_logits, "label_smoothing": smoothing, "axis": axis}
        super().__init__(categorical_crossentropy, name, reduction, **arguments)

    def check_targets(self, y_true: NDArray[Any], output_shape: Shape) -> None:
        """Labels must have the shape of the predictions, with values in [0, 1].

        Raises:
            ValueError: when they do not.
        """
        check_categorical_shape(y_true.shape, (len(y_true), *output_shape[1:]))
        check_range(self.name, y_true, 0, 1, "one-hot labels or probabilities in [0, 1]")


class BinaryCrossentropy(SameShapeLoss):
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
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "binary_crossentropy",
    ) -> None:
        smoothing = fraction(label_smoothing, "label_smoothing")
        arguments = {"from_logits": from_logits, "label_smoothing": smoothing, "axis": axis}
        super().__init__(binary_crossentropy, name, reduction, **arguments)

    def check_targets(self, y_true: NDArray[Any], output_shape: Shape) -> None:
        """Labels must fit the predictions, with values in [0, 1].

        Raises:
            ValueError: when they do not.
        """
        super().check_targets(y_true, output_shape)
        check_range(self.name, y_true, 0, 1, "labels in [0, 1]")


class MeanSquaredError(SameShapeLoss):
    """The mean of :func:`mean_squared_error` over a batch.

    Raises:
        TypeError, ValueError: as the function, and as :class:`Loss`.

    >>> MeanSquaredError()([[0.0], [2.0]], [[1.0], [4.0]]).item()
    2.5
    """

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str | None = "mean_squared_error") -> None:
        super().__init__(mean_squared_error, name, reduction)


# -- shared arithmetic and checks ------------------------------------------------------------------------------------


def both(y_true: ArrayLike | Tensor, y_pred: ArrayLike | Tensor) -> tuple[Tensor, Tensor]:
    """Predictions, and targets of their shape and dtype beside them.

    Raises:
        TypeError, ValueError: as the losses say.
    """
    predictions = as_predictions(y_pred)
    return predictions, beside(like(y_true, predictions), predictions)


def binary_targets(
    y_true: ArrayLike | Tensor, y_pred: ArrayLike | Tensor, label_smoothing: float
) -> tuple[Tensor, Tensor]:
    """Predictions, and labels from 0 to 1 beside them, smoothed.

    Raises:
        TypeError, ValueError: as :func:`binary_crossentropy`.
    """
    label_smoothing = fraction(label_smoothing, "label_smoothing")
    predictions = as_predictions(y_pred)
    labels = like(y_true, predictions)
    if label_smoothing:
        labels *= 1 - label_smoothing
        labels += 0.5 * label_smoothing
    return predictions, beside(labels, predictions)


def one_hot_targets(
    y_true: ArrayLike | Tensor, y_pred: ArrayLike | Tensor, label_smoothing: float, axis: int
) -> tuple[Tensor, NDArray[Any]]:
    """Predictions whose classes are the last axis, and smoothed labels of their shape and dtype.

    Raises:
        TypeError, ValueError: as :func:`categorical_crossentropy`.
    """
    label_smoothing = fraction(label_smoothing, "label_smoothing")
    predictions = as_predictions(y_pred)
    labels = as_targets(y_true)
    check_categorical_shape(labels.shape, predictions.shape)
    predictions = classes_last(predictions, axis)
    targets = cast(np.moveaxis(labels, axis, -1), predictions.dtype)
    if label_smoothing:
        targets *= 1 - label_smoothing
        targets += label_smoothing / targets.shape[-1]
    return predictions, targets


def classes_last(predictions: Tensor, axis: int) -> Tensor:
    """Predictions with their axis of the classes behind the others.

    Raises:
        TypeError: ``axis`` is no integer.
        ValueError: there is no such axis.
    """
    order = moved_last(tuple(range(predictions.ndim)), axis)
    return predictions if order == tuple(range(predictions.ndim)) else predictions.transpose(*order)


def moved_last(shape: Shape, axis: int) -> Any:
    """A shape with one axis behind the others.

    >>> moved_last((8, 3, 5), 1)
    (8, 5, 3)
    """
    if isinstance(axis, bool) or not isinstance(axis, int | np.integer):
        raise TypeError(f"axis: expected an integer, received {axis!r}")
    rank = len(shape)
    if not -rank <= axis < rank:
        raise ValueError(f"axis: expected one of {-rank} .. {rank - 1} for {rank} axes, received {axis}")
    axis %= rank
    return (*shape[:axis], *shape[axis + 1 :], shape[axis])


def _crossentropies(truth: NDArray[Any], predictions: Tensor, from_logits: bool) -> Tensor:
    """``-sum(truth * log(predictions))`` over the last axis, for the numbers of classes or their probabilities."""
    shape = predictions.shape[:-1]
    # Classes are the last axis here and the second one in the functional losses: rows of classes serve both.
    rows = (math.prod(shape), predictions.shape[-1])
    is_sparse = truth.ndim < predictions.ndim
    logits = predictions if from_logits else logits_of(predictions, "softmax")
    if logits is not None:
        flat = truth.reshape(-1) if is_sparse else beside(truth.reshape(rows), predictions)
        return F.cross_entropy(logits.reshape(*rows), flat, reduction="none").reshape(*shape)
    logarithms = distribution(predictions).log()
    if is_sparse:
        return F.nll_loss(logarithms.reshape(*rows), truth.reshape(-1), reduction="none").reshape(*shape)
    return -(beside(truth, predictions) * logarithms).sum(axis=-1)


def distribution(predictions: Tensor) -> Tensor:
    """Probabilities of the classes, on the last axis: predictions divided by their sum, and kept from 0 and 1."""
    return (predictions / predictions.sum(axis=-1, keepdims=True)).clip(EPSILON, 1 - EPSILON)


def _reduce(values: Tensor, reduction: str) -> Tensor:
    if reduction in ("mean", "mean_with_sample_weight"):
        return values.mean()
    return values.sum() if reduction == "sum" else values


def as_predictions(values: ArrayLike | Tensor) -> Tensor:
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


def as_targets(values: ArrayLike | Tensor) -> NDArray[Any]:
    """Targets as an array.

    Raises:
        TypeError: when they are no real numbers.
    """
    found: NDArray[Any] = values.detach().numpy() if isinstance(values, Tensor) else backend.on_host(values)
    _check_numbers("y_true", found.dtype)
    return found


def beside(values: NDArray[Any], predictions: Tensor) -> Tensor:
    """Values where the predictions are."""
    return Tensor._of(predictions.backend.asarray(values))


def like(y_true: ArrayLike | Tensor, predictions: Tensor) -> NDArray[Any]:
    """A copy of targets with dtype and shape of the predictions; a missing last axis of size 1 is added or dropped."""
    targets = as_targets(y_true)
    check_same_shape("y_true", targets.shape, predictions.shape)
    return cast(targets, predictions.dtype).reshape(predictions.shape)


def _as_tensors(y_true: ArrayLike | Tensor, y_pred: ArrayLike | Tensor) -> tuple[Tensor, Tensor]:
    """Targets and predictions as tensors of one floating dtype in one place.

    Raises:
        TypeError, ValueError: as :func:`as_predictions` and :func:`as_targets`.
    """
    predictions = as_predictions(y_pred)
    if isinstance(y_true, Tensor):
        _check_numbers("y_true", y_true.dtype)
        return y_true.astype(predictions.dtype), predictions
    return beside(cast(as_targets(y_true), predictions.dtype), predictions), predictions


def _of_same_rank(y_true: Tensor, y_pred: Tensor) -> tuple[Tensor, Tensor]:
    """One axis of size 1 behind the others goes where the other one lacks it; one comes where that has the batch alone.

    Source: Keras 3, keras.src.losses.loss.squeeze_or_expand_to_same_rank.
    """
    if y_true.ndim == y_pred.ndim + 1:
        y_pred, y_true = _of_same_rank(y_pred, y_true)
    elif y_pred.ndim == y_true.ndim + 1 and y_pred.shape[-1] == 1:
        if y_true.ndim == 1:
            y_true = y_true.reshape(-1, 1)
        else:
            y_pred = y_pred.reshape(*y_pred.shape[:-1])
    return y_true, y_pred


def _spread(sample_weight: ArrayLike | Tensor, values: Tensor) -> NDArray[Any]:
    """Weights with the dtype of the values, in a shape that spreads them over these."""
    held = sample_weight.detach().numpy() if isinstance(sample_weight, Tensor) else backend.on_host(sample_weight)
    _check_numbers("sample_weight", held.dtype)
    if not values.ndim:  # one value for all samples
        return cast(held, values.dtype)
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
        check_range(name, labels, 0, classes - 1, f"labels in 0 .. {classes - 1} for {classes} classes")


def check_categorical_shape(labels: Shape, output_shape: Shape) -> None:
    if not shapes_agree(labels, output_shape):
        integers = shapes_agree(labels, output_shape[:-1]) or shapes_agree(labels, (*output_shape[:-1], 1))
        hint = "; for integer labels use 'sparse_categorical_crossentropy'" if integers else ""
        raise ValueError(
            f"categorical_crossentropy: expected one-hot labels of shape {output_shape}, received {labels}{hint}"
        )


def check_same_shape(name: str, targets: Shape, output_shape: Shape) -> None:
    padded = (*targets, 1) if len(targets) == len(output_shape) - 1 else targets
    trimmed = targets[:-1] if len(targets) == len(output_shape) + 1 and targets[-1] == 1 else padded
    if not shapes_agree(trimmed, output_shape):
        raise ValueError(f"{name}: expected targets of shape {output_shape}, received {targets}")


def check_range(name: str, values: NDArray[Any], low: float, high: float, expected: str) -> None:
    if not values.size:
        return
    least, most = values.min(), values.max()
    # NaN compares false with everything and flows through.
    if least < low or most > high:
        raise ValueError(f"{name}: expected {expected}, received values from {least} to {most}")


def fraction(value: float, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name}: expected a number in [0, 1], received {value!r}")
    if not 0 <= value <= 1:
        raise ValueError(f"{name}: expected a number in [0, 1], received {value!r}")
    return value
