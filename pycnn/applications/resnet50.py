"""ResNet50: sixteen residual blocks of three convolutions."""

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
    ZeroPadding2D,
)
from pycnn.models import Model
from pycnn.shapes import Shape

__all__ = ["ResNet50", "decode_predictions", "preprocess_input"]

#: The paper's table 1: name of the stage, filters inside of its blocks, number of blocks, stride of the first one.
STAGES = (("conv2", 64, 3, 1), ("conv3", 128, 4, 2), ("conv4", 256, 6, 2), ("conv5", 512, 3, 2))

#: What Keras adds to variances, with which the weights that it publishes go.
EPSILON = 1.001e-5


def ResNet50(
    include_top: bool = True,
    weights: classifier.Weights = None,
    input_tensor: Any = None,
    input_shape: Shape | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: classifier.Activation = "softmax",
    name: str = "resnet50",
) -> Model:
    """ResNet50, 25,636,712 parameters: blocks that add what three convolutions make of their input to it.

    Arguments, result and errors: as of :func:`pycnn.applications.VGG16`.

    Source: K. He, X. Zhang, S. Ren and J. Sun, "Deep Residual Learning for Image Recognition", 2015,
    https://arxiv.org/abs/1512.03385, table 1; names of layers as in keras.applications.ResNet50.

    >>> ResNet50(include_top=False, input_shape=(64, 64, 3)).output_shape
    (None, 2, 2, 2048)
    """
    published = classifier.published_by_keras("resnet/resnet50", include_top)
    classifier.check_weights(weights, published, include_top, classifier_activation)
    images = classifier.image_input(input_tensor, input_shape, include_top, default_size=224, min_size=32)
    x = _stem(images)
    for stage, filters, blocks, strides in STAGES:
        x = _bottleneck(x, filters, f"{stage}_block1", strides, projected=True)
        for block in range(2, blocks + 1):
            x = _bottleneck(x, filters, f"{stage}_block{block}")
    if include_top:
        x = GlobalAveragePooling2D(name="avg_pool")(x)
        x = classifier.predictions(x, classes, classifier_activation)
    else:
        x = classifier.pooled(x, pooling, "avg_pool", "max_pool")
    return classifier.finished(images, x, name, weights)


def _stem(images: Any) -> Any:
    """A convolution and a pooling, which both halve height and width."""
    x = ZeroPadding2D(3, name="conv1_pad")(images)
    x = Conv2D(64, 7, strides=2, name="conv1_conv")(x)
    x = _normalised(x, "conv1")
    x = Activation("relu", name="conv1_relu")(x)
    x = ZeroPadding2D(1, name="pool1_pad")(x)
    return MaxPooling2D(3, strides=2, name="pool1_pool")(x)


def _bottleneck(x: Any, filters: int, name: str, strides: int = 1, projected: bool = False) -> Any:
    """``relu(shortcut + residual)``: 1 x 1 to few channels, 3 x 3 there, 1 x 1 to four times as many.

    The shortcut is ``x``, or projected by a convolution of 1 x 1 where the shape changes (the paper's option B).
    """
    shortcut = x
    if projected:
        shortcut = Conv2D(4 * filters, 1, strides=strides, name=f"{name}_0_conv")(x)
        shortcut = _normalised(shortcut, f"{name}_0")
    x = Conv2D(filters, 1, strides=strides, name=f"{name}_1_conv")(x)
    x = _normalised(x, f"{name}_1")
    x = Activation("relu", name=f"{name}_1_relu")(x)
    x = Conv2D(filters, 3, padding="same", name=f"{name}_2_conv")(x)
    x = _normalised(x, f"{name}_2")
    x = Activation("relu", name=f"{name}_2_relu")(x)
    x = Conv2D(4 * filters, 1, name=f"{name}_3_conv")(x)
    x = _normalised(x, f"{name}_3")
    x = Add(name=f"{name}_add")([shortcut, x])
    return Activation("relu", name=f"{name}_out")(x)


def _normalised(x: Any, name: str) -> Any:
    return BatchNormalization(epsilon=EPSILON, name=f"{name}_bn")(x)


def preprocess_input(x: Any, data_format: str | None = None) -> Any:
    """Photographs as ResNet50 takes them: channels in the order blue, green, red, less their means over ImageNet.

    Arguments, result, errors and source: :func:`pycnn.applications.imagenet_utils.preprocess_input` in mode "caffe".

    >>> import numpy as np
    >>> preprocess_input(np.array([[[255, 0, 0]]]))
    array([[[-103.939, -116.779,  131.32 ]]], dtype=float32)
    """
    return imagenet_utils.preprocess_input(x, data_format, mode="caffe")
