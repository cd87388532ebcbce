"""The CIFAR-10 network of the lecture notes "Convolutional Neural Network"."""

from __future__ import annotations

from pycnn.layers import Conv2D, Dense, Flatten, MaxPooling2D
from pycnn.models import Sequential


def cifar10_cnn(input_shape: tuple[int, int, int] = (32, 32, 3), classes: int = 10) -> Sequential:
    """Three convolutions of 32, 64 and 128 filters, each halved by max pooling, then three dense layers.

    Parameters: 896 + 18,496 + 73,856 + 131,328 + 32,896 + 1,290 = 258,762. The document trains it with Adam, batches
    of 50 and the sparse categorical cross-entropy on pixels divided by 255.

    Args:
        input_shape: (height, width, channels) of the images.
        classes: number of outputs.

    Returns:
        The network, not compiled.

    Raises:
        ValueError: for images too small for three poolings (below 22 x 22).

    Source: lecture notes "Convolutional Neural Network", section "Building a CNN for CIFAR-10".

    >>> cifar10_cnn().count_params()
    258762
    """
    model = Sequential()
    model.add(Conv2D(32, kernel_size=(3, 3), activation="relu", input_shape=input_shape))
    model.add(MaxPooling2D(pool_size=(2, 2)))
    model.add(Conv2D(64, kernel_size=(3, 3), activation="relu"))
    model.add(MaxPooling2D(pool_size=(2, 2)))
    model.add(Conv2D(128, kernel_size=(3, 3), activation="relu"))
    model.add(MaxPooling2D(pool_size=(2, 2)))
    model.add(Flatten())
    model.add(Dense(256, activation="relu"))
    model.add(Dense(128, activation="relu"))
    model.add(Dense(classes, activation="softmax"))
    return model
