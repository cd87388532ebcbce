"""VGG19: VGG16 with one more convolution in each of its last three blocks."""

from __future__ import annotations

from typing import Any

from pycnn.applications import _classifier as classifier
from pycnn.applications.imagenet_utils import decode_predictions
from pycnn.applications.vgg16 import preprocess_input, vgg
from pycnn.models import Model
from pycnn.shapes import Shape

__all__ = ["VGG19", "decode_predictions", "preprocess_input"]

#: Configuration E of the paper's table 1: filters and number of the convolutions of each block.
BLOCKS = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))


def VGG19(
    include_top: bool = True,
    weights: classifier.Weights = None,
    input_tensor: Any = None,
    input_shape: Shape | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: classifier.Activation = "softmax",
    name: str = "vgg19",
) -> Model:
    """VGG19, 143,667,240 parameters.

    Arguments, result and errors: as of :func:`pycnn.applications.VGG16`.

    Source: K. Simonyan and A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2014,
    https://arxiv.org/abs/1409.1556, table 1, E; names of layers as in keras.applications.VGG19.

    >>> VGG19(include_top=False).count_params()
    20024384
    """
    return vgg(
        BLOCKS, include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation, name, "vgg19"
    )
