"""What the networks with Keras' arguments share: their input, their last layers, their weights.

A network without its top, the layers that classify, is one that extracts features: its last maps of features, or
these pooled to one number each.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pycnn import activations
from pycnn.layers import Dense, GlobalAveragePooling2D, GlobalMaxPooling2D, Input
from pycnn.layers.arguments import choice
from pycnn.layers.symbolic import KerasTensor
from pycnn.models import Model
from pycnn.shapes import Shape
from pycnn.utils import get_source_inputs

Weights = str | os.PathLike[str] | None
Activation = str | Callable[..., Any] | None

_PUBLISHED = "https://storage.googleapis.com/tensorflow/keras-applications"


def published_by_keras(name: str, include_top: bool) -> str:
    """The address of the weights that Keras publishes for a network, trained on ImageNet.

    >>> published_by_keras("vgg16/vgg16", include_top=False)[-49:]
    'vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5'
    """
    return f"{_PUBLISHED}/{name}_weights_tf_dim_ordering_tf_kernels{'' if include_top else '_notop'}.h5"


def check_weights(weights: Weights, published: str, include_top: bool, classifier_activation: Activation) -> None:
    """Refuse, before anything is made, weights that are no file, and an activation that trained ones have not had.

    Raises:
        ValueError: for "imagenet", with what to download instead, or with weights an activation of the last layer
            other than softmax and none.
        TypeError: for what is no path.
        FileNotFoundError: where there is no such file.
    """
    if weights is None:
        return
    if not isinstance(weights, str | os.PathLike):
        raise TypeError(f"weights: expected None or the path of a file, received {weights!r}")
    if weights == "imagenet":
        raise ValueError(
            f"weights: expected None or the path of a file, received 'imagenet'. pycnn downloads nothing: fetch "
            f"{published} and pass its path"
        )
    if not Path(weights).exists():
        raise FileNotFoundError(f"weights: expected None or the path of a file, received {weights!r}: nothing is there")
    known = (activations.softmax, activations.linear)
    if include_top and activations.get(classifier_activation) not in known:
        raise ValueError(
            f"classifier_activation: expected 'softmax' or None with trained weights, received "
            f"{classifier_activation!r}"
        )


def image_input(
    input_tensor: Any, input_shape: Shape | None, include_top: bool, *, default_size: int, min_size: int
) -> Any:
    """The symbolic tensor that a network begins with: ``input_tensor``, or a new input.

    Its shape is ``input_shape``, by default (default_size, default_size, 3), or without top (None, None, 3).

    Raises:
        ValueError: for a shape of other than three sizes, below ``min_size``, or open with the top.
        TypeError: for an input_tensor that is not symbolic.
    """
    size = default_size if include_top else None
    shape = (size, size, 3) if input_shape is None else tuple(input_shape)
    if len(shape) != 3:
        raise ValueError(f"input_shape: expected (height, width, channels), received {input_shape!r}")
    if include_top and None in shape:
        raise ValueError(f"input_shape: expected known sizes with include_top=True, received {input_shape!r}")
    if any(side is not None and side < min_size for side in shape[:2]):
        raise ValueError(f"input_shape: expected at least {min_size} x {min_size} pixels, received {input_shape!r}")
    if input_tensor is None:
        return Input(shape)
    if not isinstance(input_tensor, KerasTensor):
        raise TypeError(f"input_tensor: expected a symbolic tensor, as Input(...) gives, received {input_tensor!r}")
    return input_tensor


def predictions(x: Any, classes: int, activation: Activation) -> Any:
    """The last layer of a classifier."""
    return Dense(classes, activation=activation, name="predictions")(x)


def probabilities(units: int) -> Dense:
    """The last layer of a network that classifies: the probability of the second of two classes, or of each class."""
    return Dense(units, activation="sigmoid" if units == 1 else "softmax")


def pooled(x: Any, pooling: str | None, average_name: str | None = None, max_name: str | None = None) -> Any:
    """The features of a network without top, pooled over their maps: "avg", "max", or None for the maps themselves.

    Raises:
        ValueError: for an unknown pooling.
    """
    if pooling is None:
        return x
    choice(pooling, ("avg", "max"), "pooling")
    if pooling == "avg":
        return GlobalAveragePooling2D(name=average_name)(x)
    return GlobalMaxPooling2D(name=max_name)(x)


def finished(images: Any, outputs: Any, name: str, weights: Weights) -> Model:
    """The model from the inputs that its images come from to its outputs, with the weights of a file."""
    sources = get_source_inputs(images)
    model = Model(sources[0] if len(sources) == 1 else sources, outputs, name=name)
    if weights is not None:
        model.load_weights(weights)
    return model
