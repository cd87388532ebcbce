"""VGG16: thirteen convolutions of 3 x 3 and three dense layers."""

from __future__ import annotations

from typing import Any

from pycnn.applications import _classifier as classifier
from pycnn.applications import imagenet_utils
from pycnn.applications.imagenet_utils import decode_predictions
from pycnn.layers import Conv2D, Dense, Flatten, MaxPooling2D
from pycnn.models import Model
from pycnn.shapes import Shape

__all__ = ["VGG16", "decode_predictions", "preprocess_input"]

#: Configuration D of the paper's table 1: filters and number of the convolutions of each block.
BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


def VGG16(
    include_top: bool = True,
    weights: classifier.Weights = None,
    input_tensor: Any = None,
    input_shape: Shape | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: classifier.Activation = "softmax",
    name: str = "vgg16",
) -> Model:
    """VGG16, 138,357,544 parameters: blocks of convolutions of 3 x 3, each halved by max pooling, and dense layers.

    The lecture notes "Convolutional Neural Network" call it "a pretty large network", and write it as
    :func:`pycnn.applications.vgg16_two_classes` does.

    Args:
        include_top: with the dense layers, which classify; otherwise the network ends in its maps of features.
        weights: None for random ones, or the path of a file: Keras' own of ImageNet, or one that was saved here.
            Unlike in Keras the default is None and nothing is downloaded.
        input_tensor: a symbolic tensor to use as the images, of ``pycnn.layers.Input`` or any layer.
        input_shape: (height, width, channels), at least 32 x 32; None is (224, 224, 3), without top any size.
        pooling: without top: None for the maps, "avg" or "max" for one number of each.
        classes: number of outputs, with the top.
        classifier_activation: of the last layer; None for its logits. "softmax" or None with weights from a file.
        name: of the model.

    Returns:
        The network, not compiled, for images that :func:`preprocess_input` has prepared.

    Raises:
        ValueError: for weights="imagenet" (the message has the address to download the file from), too small an
            input_shape, an unknown pooling, or weights that do not fit.
        FileNotFoundError: where there is no such file of weights.
        TypeError: for weights that are no path.

    Source: K. Simonyan and A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2014,
    https://arxiv.org/abs/1409.1556, table 1, D; names of layers as in keras.applications.VGG16.

    >>> VGG16(include_top=False, pooling="avg").count_params()
    14714688
    """
    return vgg(
        BLOCKS, include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation, name, "vgg16"
    )


def vgg(
    blocks: tuple[tuple[int, int], ...],
    include_top: bool,
    weights: classifier.Weights,
    input_tensor: Any,
    input_shape: Shape | None,
    pooling: str | None,
    classes: int,
    classifier_activation: classifier.Activation,
    name: str,
    file: str,
) -> Model:
    """The network of these blocks; ``file`` is Keras' name of its weights. The others: as of :func:`VGG16`."""
    published = classifier.published_by_keras(f"{file}/{file}", include_top)
    classifier.check_weights(weights, published, include_top, classifier_activation)
    images = classifier.image_input(input_tensor, input_shape, include_top, default_size=224, min_size=32)
    features = convolutions(images, blocks)
    outputs = (
        dense_top(features, classes, classifier_activation) if include_top else classifier.pooled(features, pooling)
    )
    return classifier.finished(images, outputs, name, weights)


def convolutions(x: Any, blocks: tuple[tuple[int, int], ...]) -> Any:
    """Blocks of (filters, number) convolutions, each followed by a pooling that halves height and width."""
    for block, (filters, number) in enumerate(blocks, 1):
        for i in range(1, number + 1):
            x = Conv2D(filters, (3, 3), activation="relu", padding="same", name=f"block{block}_conv{i}")(x)
        x = MaxPooling2D((2, 2), strides=(2, 2), name=f"block{block}_pool")(x)
    return x


def dense_top(x: Any, classes: int, activation: classifier.Activation) -> Any:
    """The three dense layers that classify."""
    x = Flatten(name="flatten")(x)
    x = Dense(4096, activation="relu", name="fc1")(x)
    x = Dense(4096, activation="relu", name="fc2")(x)
    return classifier.predictions(x, classes, activation)


def preprocess_input(x: Any, data_format: str | None = None) -> Any:
    """Photographs as VGG16 takes them: channels in the order blue, green, red, less their means over ImageNet.

    Arguments, result, errors and source: :func:`pycnn.applications.imagenet_utils.preprocess_input` in mode "caffe".

    >>> import numpy as np
    >>> preprocess_input(np.array([[[255, 0, 0]]]))
    array([[[-103.939, -116.779,  131.32 ]]], dtype=float32)
    """
    return imagenet_utils.preprocess_input(x, data_format, mode="caffe")
