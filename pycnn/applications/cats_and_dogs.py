"""The network for cats and dogs of the Data Science Blogathon's article on convolutional neural networks."""

from __future__ import annotations

from pycnn.layers import Conv2D, Dense, Flatten, Input, MaxPooling2D
from pycnn.models import Sequential


def cats_and_dogs_cnn(input_shape: tuple[int, int, int] = (64, 64, 3)) -> Sequential:
    """Two convolutions of 32 filters, each halved by max pooling, a dense layer of 128 units, and one with one unit.

    Parameters: 896 + 9,248 + 802,944 + 129 = 813,217, which is what the article names. Its listing ends in a second
    dense layer of 128 units instead (829,600 parameters), which the binary cross-entropy that it is compiled with
    cannot compare with one label for each image: the last layer here has the one unit, with a sigmoid, that the number
    asks for. The article trains it with Adam, batches of 32, on pixels divided by 255.

    Args:
        input_shape: (height, width, channels) of the images.

    Returns:
        The network, not compiled; its output is the probability of the second class.

    Raises:
        ValueError: for images too small for two poolings (below 10 x 10).

    Source: the article, section "Implementation".

    >>> cats_and_dogs_cnn().count_params()
    813217
    """
    return Sequential(
        [
            Input(input_shape),
            Conv2D(filters=32, kernel_size=3, activation="relu"),
            MaxPooling2D(pool_size=2, strides=2),
            Conv2D(filters=32, kernel_size=3, activation="relu"),
            MaxPooling2D(pool_size=2, strides=2),
            Flatten(),
            Dense(units=128, activation="relu"),
            Dense(units=1, activation="sigmoid"),
        ]
    )
