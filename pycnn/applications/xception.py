"""Xception: residual blocks of separable convolutions."""

from __future__ import annotations

from typing import Any

from pycnn.applications import _classifier as classifier
from pycnn.applications import imagenet_utils
from pycnn.applications.imagenet_utils import decode_predictions
from pycnn.layers import (
    Activation,
    Add,
    BatchNormalization,
    Conv2D,
    GlobalAveragePooling2D,
    MaxPooling2D,
    SeparableConv2D,
)
from pycnn.models import Model
from pycnn.shapes import Shape

__all__ = ["Xception", "decode_predictions", "preprocess_input"]

#: The paper's figure 5: the blocks that halve height and width, by number, with the filters of both convolutions.
ENTRY_FLOW = ((2, (128, 128)), (3, (256, 256)), (4, (728, 728)))
MIDDLE_FLOW = range(5, 13)
EXIT_FLOW = ((13, (728, 1024)),)


def Xception(
    include_top: bool = True,
    weights: classifier.Weights = None,
    input_tensor: Any = None,
    input_shape: Shape | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: classifier.Activation = "softmax",
    name: str = "xception",
) -> Model:
    """Xception, 22,910,480 parameters: each channel is convolved for itself, then all are mixed by 1 x 1.

    Arguments, result and errors: as of :func:`pycnn.applications.VGG16`, but images are 299 x 299 by default, and at
    least 71 x 71.

    Source: F. Chollet, "Xception: Deep Learning with Depthwise Separable Convolutions", 2016,
    https://arxiv.org/abs/1610.02357, figure 5; names of layers as in keras.applications.Xception.

    >>> Xception(include_top=False, input_shape=(71, 71, 3)).output_shape
    (None, 3, 3, 2048)
    """
    published = classifier.published_by_keras("xception/xception", include_top)
    classifier.check_weights(weights, published, include_top, classifier_activation)
    images = classifier.image_input(input_tensor, input_shape, include_top, default_size=299, min_size=71)

    x = _convolved(images, 32, "block1_conv1", strides=(2, 2))
    x = _convolved(x, 64, "block1_conv2")
    for block, filters in ENTRY_FLOW:
        x = _halving_block(x, filters, block)
    for block in MIDDLE_FLOW:
        x = _block(x, block)
    for block, filters in EXIT_FLOW:
        x = _halving_block(x, filters, block)
    x = _rectified(_separable(x, 1536, "block14_sepconv1"), "block14_sepconv1")
    x = _rectified(_separable(x, 2048, "block14_sepconv2"), "block14_sepconv2")

    if include_top:
        x = GlobalAveragePooling2D(name="avg_pool")(x)
        x = classifier.predictions(x, classes, classifier_activation)
    else:
        x = classifier.pooled(x, pooling)
    return classifier.finished(images, x, name, weights)


def _halving_block(x: Any, filters: tuple[int, int], block: int) -> Any:
    """Two separable convolutions and a pooling, added to their input, which a strided convolution makes as small."""
    shortcut = Conv2D(filters[1], (1, 1), strides=(2, 2), padding="same", use_bias=False)(x)
    shortcut = BatchNormalization()(shortcut)
    for i, count in enumerate(filters, 1):
        name = f"block{block}_sepconv{i}"
        if name != "block2_sepconv1":  # what comes into the first of these blocks is rectified already
            x = _rectified(x, name)
        x = _separable(x, count, name)
    x = MaxPooling2D((3, 3), strides=(2, 2), padding="same", name=f"block{block}_pool")(x)
    return Add()([x, shortcut])


def _block(x: Any, block: int) -> Any:
    """Three separable convolutions, added to their input."""
    shortcut = x
    for i in (1, 2, 3):
        name = f"block{block}_sepconv{i}"
        x = _separable(_rectified(x, name), 728, name)
    return Add()([x, shortcut])


def _convolved(x: Any, filters: int, name: str, strides: tuple[int, int] = (1, 1)) -> Any:
    x = Conv2D(filters, (3, 3), strides=strides, use_bias=False, name=name)(x)
    return _rectified(BatchNormalization(name=f"{name}_bn")(x), name)


def _separable(x: Any, filters: int, name: str) -> Any:
    x = SeparableConv2D(filters, (3, 3), padding="same", use_bias=False, name=name)(x)
    return BatchNormalization(name=f"{name}_bn")(x)


def _rectified(x: Any, name: str) -> Any:
    return Activation("relu", name=f"{name}_act")(x)


def preprocess_input(x: Any, data_format: str | None = None) -> Any:
    """Photographs as Xception takes them: 0 .. 255 becomes -1 .. 1.

    Arguments, result, errors and source: :func:`pycnn.applications.imagenet_utils.preprocess_input` in mode "tf".

    >>> import numpy as np
    >>> preprocess_input(np.array([[[255, 0, 0]]]))
    array([[[ 1., -1., -1.]]], dtype=float32)
    """
    return imagenet_utils.preprocess_input(x, data_format, mode="tf")
