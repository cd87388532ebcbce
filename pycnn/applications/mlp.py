"""A multi-layer perceptron, to compare numbers of parameters with."""

from __future__ import annotations

from collections.abc import Iterable

from pycnn.applications import _classifier as classifier
from pycnn.layers import Dense, Flatten, Input
from pycnn.models import Sequential


def mlp(input_shape: tuple[int, int, int] = (300, 300, 3), hidden: Iterable[int] = (10,), units: int = 1) -> Sequential:
    """Dense layers on the pixels of an image, without any convolution.

    "Wonder how many would I have had if I had used an MLP in this case", says the article of its network of 219,801
    parameters, which has ten filters. Ten hidden units instead make 2,700,021, and see each pattern in one place only.

    The notes compare one layer that makes 28 x 28 x 6 numbers of 32 x 32 x 3: as six filters of 5 x 5 it has
    (5 * 5 * 3 + 1) * 6 = 456 parameters; as a dense layer (32 * 32 * 3 + 1) * 28 * 28 * 6 = 14,455,392.

    Args:
        input_shape: (height, width, channels) of the images.
        hidden: units of each hidden layer, which has ReLU.
        units: 1 for the probability of the second class by a sigmoid, or one for each class with softmax.

    Returns:
        The network, not compiled.

    Raises:
        ValueError: for sizes that are no positive integers.

    Source: "Architecture of Convolutional Neural Networks (CNNs) demystified", section 4; lecture notes
    "Convolutional Neural Network", section "Why convolutions?".

    >>> mlp().count_params()
    2700021
    >>> mlp((32, 32, 3), hidden=(28 * 28 * 6,), units=10).layers[1].count_params()
    14455392
    """
    layers = [Dense(each, activation="relu") for each in hidden]
    return Sequential([Input(input_shape), Flatten(), *layers, classifier.probabilities(units)])
