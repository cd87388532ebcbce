"""Losses by Keras' names and semantics.

A loss function takes (y_true, y_pred) and returns one value per sample; a loss object takes the mean of these
over the batch. Where ``y_pred`` is the output of softmax (sigmoid for two classes), the cross-entropies are computed
from its input, which is exact where the probabilities are too close to 0 or 1 for their logarithm.

Source: Keras 3, keras.losses.
"""

from __future__ import annotations

from typing import Any

from pycnn.losses.hinge import CategoricalHinge, Hinge, SquaredHinge, categorical_hinge, hinge, squared_hinge
from pycnn.losses.imbalance import (
    BinaryFocalCrossentropy,
    CategoricalFocalCrossentropy,
    Dice,
    Tversky,
    binary_focal_crossentropy,
    categorical_focal_crossentropy,
    dice,
    tversky,
)
from pycnn.losses.loss import (
    EPSILON,
    BinaryCrossentropy,
    CategoricalCrossentropy,
    Loss,
    LossFunction,
    LossFunctionWrapper,
    MeanSquaredError,
    SparseCategoricalCrossentropy,
    binary_crossentropy,
    categorical_crossentropy,
    mean_squared_error,
    sparse_categorical_crossentropy,
)
from pycnn.losses.regression import (
    CosineSimilarity,
    Huber,
    KLDivergence,
    LogCosh,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredLogarithmicError,
    Poisson,
    cosine_similarity,
    huber,
    kl_divergence,
    log_cosh,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_logarithmic_error,
    poisson,
)
from pycnn.naming import nearest

__all__ = [
    "EPSILON",
    "BinaryCrossentropy",
    "BinaryFocalCrossentropy",
    "CategoricalCrossentropy",
    "CategoricalFocalCrossentropy",
    "CategoricalHinge",
    "CosineSimilarity",
    "Dice",
    "Hinge",
    "Huber",
    "KLDivergence",
    "LogCosh",
    "Loss",
    "LossFunction",
    "LossFunctionWrapper",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "Poisson",
    "SparseCategoricalCrossentropy",
    "SquaredHinge",
    "Tversky",
    "binary_crossentropy",
    "binary_focal_crossentropy",
    "categorical_crossentropy",
    "categorical_focal_crossentropy",
    "categorical_hinge",
    "cosine_similarity",
    "dice",
    "get",
    "hinge",
    "huber",
    "kl_divergence",
    "log_cosh",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_error",
    "mean_squared_logarithmic_error",
    "poisson",
    "sparse_categorical_crossentropy",
    "squared_hinge",
    "tversky",
]

#: Each function, and the class of its mean.
FUNCTION_CLASSES: dict[LossFunction, type[Loss]] = {
    sparse_categorical_crossentropy: SparseCategoricalCrossentropy,
    categorical_crossentropy: CategoricalCrossentropy,
    categorical_focal_crossentropy: CategoricalFocalCrossentropy,
    binary_crossentropy: BinaryCrossentropy,
    binary_focal_crossentropy: BinaryFocalCrossentropy,
    mean_squared_error: MeanSquaredError,
    mean_absolute_error: MeanAbsoluteError,
    mean_absolute_percentage_error: MeanAbsolutePercentageError,
    mean_squared_logarithmic_error: MeanSquaredLogarithmicError,
    huber: Huber,
    log_cosh: LogCosh,
    hinge: Hinge,
    squared_hinge: SquaredHinge,
    categorical_hinge: CategoricalHinge,
    kl_divergence: KLDivergence,
    poisson: Poisson,
    cosine_similarity: CosineSimilarity,
    dice: Dice,
    tversky: Tversky,
}
#: Short names that Keras has, too.
SHORT_NAMES: dict[str, LossFunction] = {
    "bce": binary_crossentropy,
    "kld": kl_divergence,
    "mae": mean_absolute_error,
    "mse": mean_squared_error,
    "mape": mean_absolute_percentage_error,
    "msle": mean_squared_logarithmic_error,
}
_KNOWN: dict[str, type[Loss]] = {
    **{function.__name__: kind for function, kind in FUNCTION_CLASSES.items()},
    **{kind.__name__: kind for kind in FUNCTION_CLASSES.values()},
    **{name: FUNCTION_CLASSES[function] for name, function in SHORT_NAMES.items()},
    **{name.upper(): FUNCTION_CLASSES[function] for name, function in SHORT_NAMES.items()},
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
            names = ", ".join(function.__name__ for function in FUNCTION_CLASSES)
            raise ValueError(f"unknown loss {identifier!r}.{nearest(identifier, _KNOWN)} Known: {names}")
        return _KNOWN[identifier]()
    if callable(identifier):
        if identifier in FUNCTION_CLASSES:
            return FUNCTION_CLASSES[identifier]()
        return LossFunctionWrapper(identifier)
    raise ValueError(f"loss: expected a name, a function or a Loss, received {identifier!r}")
