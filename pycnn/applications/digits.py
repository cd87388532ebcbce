"""A small network for the 8 x 8 digits of UCI."""

from __future__ import annotations

from pycnn.layers import Conv2D, Dense, Dropout, Flatten, MaxPooling2D
from pycnn.models import Sequential


def digits_cnn(input_shape: tuple[int, int, int] = (8, 8, 1), classes: int = 10) -> Sequential:
    """Two convolutions of 32 and 64 filters, one max pooling, and two dense layers with dropout between.

    Images of 8 x 8 pixels leave room for one pooling; "same" padding keeps their edges, and dropout makes up for
    the small number of them. Parameters: 320 + 18,496 + 131,200 + 1,290 = 151,306.

    Args:
        input_shape: (height, width, channels) of the images.
        classes: number of outputs.

    Returns:
        The network, not compiled.

    Source: the building blocks (convolution, pooling, fully connected layers) of the lecture notes "Convolutional
    Neural Network"; dropout after Srivastava et al., JMLR 15 (2014).

    >>> digits_cnn().count_params()
    151306
    """
    return Sequential(
        [
            Conv2D(32, kernel_size=(3, 3), padding="same", activation="relu", input_shape=input_shape),
            Conv2D(64, kernel_size=(3, 3), padding="same", activation="relu"),
            MaxPooling2D(pool_size=(2, 2)),
            Dropout(0.25),
            Flatten(),
            Dense(128, activation="relu"),
            Dropout(0.5),
            Dense(classes, activation="softmax"),
        ]
    )
