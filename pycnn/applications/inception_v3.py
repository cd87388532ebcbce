"""Inception V3: blocks of convolutions of several sizes side by side."""

from __future__ import annotations

from typing import Any

from pycnn.applications import _classifier as classifier
from pycnn.applications import imagenet_utils
from pycnn.applications.imagenet_utils import decode_predictions
from pycnn.layers import (
    Activation,
    AveragePooling2D,
    BatchNormalization,
    Concatenate,
    Conv2D,
    GlobalAveragePooling2D,
    MaxPooling2D,
)
from pycnn.models import Model
from pycnn.shapes import Shape

__all__ = ["InceptionV3", "decode_predictions", "preprocess_input"]

#: (filters, height, width) of a convolution.
Convolution = tuple[int, int, int]


def InceptionV3(
    include_top: bool = True,
    weights: classifier.Weights = None,
    input_tensor: Any = None,
    input_shape: Shape | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: classifier.Activation = "softmax",
    name: str = "inception_v3",
) -> Model:
    """Inception V3, 23,851,784 parameters: convolutions side by side, large ones split into a column and a row.

    Arguments, result and errors: as of :func:`pycnn.applications.VGG16`, but images are 299 x 299 by default, and at
    least 75 x 75.

    Source: C. Szegedy, V. Vanhoucke, S. Ioffe, J. Shlens and Z. Wojna, "Rethinking the Inception Architecture for
    Computer Vision", 2015, https://arxiv.org/abs/1512.00567, table 1 and figures 5 to 7 and 10; sizes and names of
    layers as in keras.applications.InceptionV3.

    >>> InceptionV3(include_top=False, input_shape=(75, 75, 3)).output_shape
    (None, 1, 1, 2048)
    """
    published = classifier.published_by_keras("inception_v3/inception_v3", include_top)
    classifier.check_weights(weights, published, include_top, classifier_activation)
    images = classifier.image_input(input_tensor, input_shape, include_top, default_size=299, min_size=75)

    x = _reduced(images, (32, 3, 3))
    x = _convolved(x, (32, 3, 3), padding="valid")
    x = _convolved(x, (64, 3, 3))
    x = MaxPooling2D((3, 3), strides=(2, 2))(x)
    x = _convolved(x, (80, 1, 1), padding="valid")
    x = _convolved(x, (192, 3, 3), padding="valid")
    x = MaxPooling2D((3, 3), strides=(2, 2))(x)

    for i, pool_filters in enumerate((32, 64, 64)):
        x = _mixed_5x5(x, pool_filters, f"mixed{i}")
    x = _reduction(x, [[(384, 3, 3)], [(64, 1, 1), (96, 3, 3), (96, 3, 3)]], "mixed3")
    for i, inner_filters in enumerate((128, 160, 160, 192), 4):
        x = _mixed_7x7(x, inner_filters, f"mixed{i}")
    x = _reduction(x, [[(192, 1, 1), (320, 3, 3)], [(192, 1, 1), (192, 1, 7), (192, 7, 1), (192, 3, 3)]], "mixed8")
    for i in range(2):
        x = _mixed_expanded(x, f"mixed{9 + i}", f"mixed9_{i}")

    if include_top:
        x = GlobalAveragePooling2D(name="avg_pool")(x)
        x = classifier.predictions(x, classes, classifier_activation)
    else:
        x = classifier.pooled(x, pooling)
    return classifier.finished(images, x, name, weights)


def _mixed_5x5(x: Any, pool_filters: int, name: str) -> Any:
    """The paper's figure 5, with one convolution of 5 x 5."""
    branches = [
        _convolved(x, (64, 1, 1)),
        _convolved(x, (48, 1, 1), (64, 5, 5)),
        _convolved(x, (64, 1, 1), (96, 3, 3), (96, 3, 3)),
        _convolved(_averaged(x), (pool_filters, 1, 1)),
    ]
    return Concatenate(name=name)(branches)


def _mixed_7x7(x: Any, inner: int, name: str) -> Any:
    """The paper's figure 6: a convolution of 7 x 7 as a row of 7 and a column of 7."""
    branches = [
        _convolved(x, (192, 1, 1)),
        _convolved(x, (inner, 1, 1), (inner, 1, 7), (192, 7, 1)),
        _convolved(x, (inner, 1, 1), (inner, 7, 1), (inner, 1, 7), (inner, 7, 1), (192, 1, 7)),
        _convolved(_averaged(x), (192, 1, 1)),
    ]
    return Concatenate(name=name)(branches)


def _mixed_expanded(x: Any, name: str, inner_name: str) -> Any:
    """The paper's figure 7: a row and a column beside each other, for more channels on the smallest maps."""
    branches = [
        _convolved(x, (320, 1, 1)),
        _row_and_column(_convolved(x, (384, 1, 1)), inner_name),
        _row_and_column(_convolved(x, (448, 1, 1), (384, 3, 3))),
        _convolved(_averaged(x), (192, 1, 1)),
    ]
    return Concatenate(name=name)(branches)


def _row_and_column(x: Any, name: str | None = None) -> Any:
    return Concatenate(name=name)([_convolved(x, (384, 1, 3)), _convolved(x, (384, 3, 1))])


def _reduction(x: Any, branches: list[list[Convolution]], name: str) -> Any:
    """The paper's figure 10: half the height and width, by strides of 2 at the end of each branch."""
    reduced = [_reduced(_convolved(x, *before), last) for *before, last in branches]
    return Concatenate(name=name)([*reduced, MaxPooling2D((3, 3), strides=(2, 2))(x)])


def _averaged(x: Any) -> Any:
    return AveragePooling2D((3, 3), strides=(1, 1), padding="same")(x)


def _reduced(x: Any, convolution: Convolution) -> Any:
    """A convolution that halves height and width."""
    return _convolved(x, convolution, padding="valid", strides=(2, 2))


def _convolved(x: Any, *convolutions: Convolution, padding: str = "same", strides: tuple[int, int] = (1, 1)) -> Any:
    """Convolutions one after another, each normalised and rectified."""
    for filters, height, width in convolutions:
        x = Conv2D(filters, (height, width), strides=strides, padding=padding, use_bias=False)(x)
        x = BatchNormalization(scale=False)(x)  # the next convolution can scale as well
        x = Activation("relu")(x)
    return x


def preprocess_input(x: Any, data_format: str | None = None) -> Any:
    """Photographs as Inception V3 takes them: 0 .. 255 becomes -1 .. 1.

    Arguments, result, errors and source: :func:`pycnn.applications.imagenet_utils.preprocess_input` in mode "tf".

    >>> import numpy as np
    >>> preprocess_input(np.array([[[255, 0, 0]]]))
    array([[[ 1., -1., -1.]]], dtype=float32)
    """
    return imagenet_utils.preprocess_input(x, data_format, mode="tf")
