"""The "Simple Convolutional Network Example" of the lecture notes "Convolutional Neural Network"."""

from __future__ import annotations

from pycnn.layers import Conv2D, Dense, Flatten, Input
from pycnn.models import Sequential


def simple_cnn(input_shape: tuple[int, int, int] = (39, 39, 3), classes: int = 10) -> Sequential:
    """Three convolutions without pooling, from 39 x 39 x 3 to 7 x 7 x 40 = 1960 numbers, and a classifier.

    The notes say that ten filters of 3 x 3 give 37 x 37 x 10, and that this is convolved further to 7 x 7 x 40. What
    lies between is in their figure: twenty filters of 5 x 5 in strides of 2, 17 x 17 x 20, and forty likewise.
    Parameters: 280 + 5,020 + 20,040 + 19,610 = 44,950.

    Args:
        input_shape: (height, width, channels) of the images.
        classes: number of outputs.

    Returns:
        The network, not compiled.

    Raises:
        ValueError: for images too small for three convolutions (below 15 x 15).

    Source: lecture notes "Convolutional Neural Network", section "Simple Convolutional Network Example"; the sizes
    between are those of A. Ng's lecture of the same name (deeplearning.ai, "Convolutional Neural Networks", week 1).

    >>> simple_cnn().output_shapes()[:4]
    [(None, 37, 37, 10), (None, 17, 17, 20), (None, 7, 7, 40), (None, 1960)]
    """
    return Sequential(
        [
            Input(input_shape),
            Conv2D(10, (3, 3), activation="relu"),
            Conv2D(20, (5, 5), strides=2, activation="relu"),
            Conv2D(40, (5, 5), strides=2, activation="relu"),
            Flatten(),
            Dense(classes, activation="softmax"),
        ]
    )
