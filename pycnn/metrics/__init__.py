"""Metrics by Keras' names and semantics.

A metric object is updated batch by batch, with weights of samples if there are some, and gives its value over all of
them.

Source: Keras 3, keras.metrics.
"""

from __future__ import annotations

import re
from typing import Any

from pycnn import losses
from pycnn.layers.auto_name import snake_case
from pycnn.metrics.confusion import (
    AUC,
    F1Score,
    FalseNegatives,
    FalsePositives,
    FBetaScore,
    Precision,
    Recall,
    TrueNegatives,
    TruePositives,
)
from pycnn.metrics.metric import (
    Accuracy,
    BinaryAccuracy,
    CategoricalAccuracy,
    Mean,
    MeanMetricWrapper,
    Metric,
    MetricFunction,
    SparseCategoricalAccuracy,
    SparseTopKCategoricalAccuracy,
    Sum,
    TopKCategoricalAccuracy,
    accuracy,
    binary_accuracy,
    categorical_accuracy,
    sparse_categorical_accuracy,
    sparse_top_k_categorical_accuracy,
    top_k_categorical_accuracy,
)
from pycnn.metrics.of_losses import (
    AverageLoss,
    BinaryCrossentropy,
    CategoricalCrossentropy,
    CategoricalHinge,
    CosineSimilarity,
    Hinge,
    KLDivergence,
    LogCoshError,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    MeanSquaredLogarithmicError,
    Poisson,
    RootMeanSquaredError,
    SparseCategoricalCrossentropy,
    SquaredHinge,
    cosine_similarity,
)
from pycnn.naming import nearest
from pycnn.shapes import Shape

__all__ = [
    "AUC",
    "Accuracy",
    "BinaryAccuracy",
    "BinaryCrossentropy",
    "CategoricalAccuracy",
    "CategoricalCrossentropy",
    "CategoricalHinge",
    "CosineSimilarity",
    "F1Score",
    "FBetaScore",
    "FalseNegatives",
    "FalsePositives",
    "Hinge",
    "KLDivergence",
    "LogCoshError",
    "Mean",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanMetricWrapper",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "Metric",
    "MetricFunction",
    "Poisson",
    "Precision",
    "Recall",
    "RootMeanSquaredError",
    "SparseCategoricalAccuracy",
    "SparseCategoricalCrossentropy",
    "SparseTopKCategoricalAccuracy",
    "SquaredHinge",
    "Sum",
    "TopKCategoricalAccuracy",
    "TrueNegatives",
    "TruePositives",
    "accuracy",
    "binary_accuracy",
    "categorical_accuracy",
    "cosine_similarity",
    "direction_of",
    "get",
    "resolve",
    "sparse_categorical_accuracy",
    "sparse_top_k_categorical_accuracy",
    "top_k_categorical_accuracy",
]

_CLASSES: tuple[Any, ...] = (
    Accuracy,
    BinaryAccuracy,
    CategoricalAccuracy,
    SparseCategoricalAccuracy,
    TopKCategoricalAccuracy,
    SparseTopKCategoricalAccuracy,
    Precision,
    Recall,
    AUC,
    TruePositives,
    TrueNegatives,
    FalsePositives,
    FalseNegatives,
    FBetaScore,
    F1Score,
    Mean,
    Sum,
    MeanSquaredError,
    RootMeanSquaredError,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredLogarithmicError,
    CosineSimilarity,
    LogCoshError,
    Hinge,
    SquaredHinge,
    CategoricalHinge,
    KLDivergence,
    Poisson,
    BinaryCrossentropy,
    CategoricalCrossentropy,
    SparseCategoricalCrossentropy,
)
_SHORT: dict[str, Any] = {
    "bce": BinaryCrossentropy,
    "kld": KLDivergence,
    "mae": MeanAbsoluteError,
    "mse": MeanSquaredError,
    "mape": MeanAbsolutePercentageError,
    "msle": MeanSquaredLogarithmicError,
}
_KNOWN: dict[str, Any] = {
    **{snake_case(kind.__name__): kind for kind in _CLASSES},
    **{kind.__name__: kind for kind in _CLASSES},
    **_SHORT,
    **{name.upper(): kind for name, kind in _SHORT.items()},
}
#: Losses that have no metric of their own: any name of one stands for its average.
_LOSSES = {function.__name__: function for function in losses.FUNCTION_CLASSES if function.__name__ not in _KNOWN}
#: Names whose meaning depends on the shapes of labels and predictions.
BY_SHAPE = ("accuracy", "acc")


def get(identifier: Any) -> Metric:
    """The metric object for a name, a function of (y_true, y_pred), a class, or an object (returned as it is).

    "accuracy" and "acc" depend on shapes and are resolved by :func:`resolve`. A loss' name stands for its average.

    Raises:
        ValueError: for an unknown name (the message names the nearest) or anything that cannot be called.

    >>> get("sparse_categorical_accuracy").name, get("mse").name, get("huber").name
    ('sparse_categorical_accuracy', 'mean_squared_error', 'huber')
    """
    if isinstance(identifier, type):
        identifier = identifier()
    if isinstance(identifier, Metric):
        return identifier
    if isinstance(identifier, str):
        if identifier in _LOSSES:
            return AverageLoss(_LOSSES[identifier])
        if identifier not in _KNOWN:
            known = (*BY_SHAPE, *_KNOWN, *_LOSSES)
            raise ValueError(
                f"unknown metric {identifier!r}.{nearest(identifier, known)} "
                f"Known: accuracy, {', '.join(snake_case(kind.__name__) for kind in _CLASSES[1:])}"
            )
        found: Metric = _KNOWN[identifier]()
        return found
    if callable(identifier):
        return (AverageLoss if identifier in losses.FUNCTION_CLASSES else MeanMetricWrapper)(identifier)
    raise ValueError(f"metric: expected a name, a function or a Metric, received {identifier!r}")


def direction_of(name: str) -> str | None:
    """ "up" where a larger value of the metric of a name is better, "down" where a smaller one is, None if unknown.

    >>> direction_of("accuracy"), direction_of("mse"), direction_of("auc_1"), direction_of("mine")
    ('up', 'down', 'up', None)
    """
    name = re.sub(r"_\d+$", "", name)
    if name in BY_SHAPE:
        return "up"
    return get(name).direction if name in _KNOWN or name in _LOSSES else None


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
