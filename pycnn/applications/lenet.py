"""The "CNN Example" of the lecture notes "Convolutional Neural Network", a network in the manner of LeNet-5."""

from __future__ import annotations

from pycnn.layers import Conv2D, Dense, Flatten, Input, MaxPooling2D
from pycnn.models import Sequential


def lenet_cnn(input_shape: tuple[int, int, int] = (32, 32, 3), classes: int = 10) -> Sequential:
    """Two convolutions of 5 x 5, six filters and sixteen, each halved by max pooling, then three dense layers.

    The notes give the first convolution: six 5 x 5 filters make 28 x 28 x 6 of 32 x 32 x 3, with 456 parameters,
    where a dense layer (:func:`pycnn.applications.mlp`) needs 14 million. The others are those of LeNet-5, with ReLU
    and max pooling for its tanh and trained averages. Parameters: 456 + 2,416 + 48,120 + 10,164 + 850 = 62,006.

    Args:
        input_shape: (height, width, channels) of the images.
        classes: number of outputs.

    Returns:
        The network, not compiled.

    Raises:
        ValueError: for images too small for two poolings (below 16 x 16).

    Source: lecture notes "Convolutional Neural Network", sections "CNN Example" and "Why convolutions?"; Y. LeCun,
    L. Bottou, Y. Bengio and P. Haffner, "Gradient-Based Learning Applied to Document Recognition", 1998, figure 2.

    >>> lenet_cnn().count_params()
    62006
    """
    return Sequential(
        [
            Input(input_shape),
            Conv2D(6, (5, 5), activation="relu"),
            MaxPooling2D((2, 2)),
            Conv2D(16, (5, 5), activation="relu"),
            MaxPooling2D((2, 2)),
            Flatten(),
            Dense(120, activation="relu"),
            Dense(84, activation="relu"),
            Dense(classes, activation="softmax"),
        ]
    )
