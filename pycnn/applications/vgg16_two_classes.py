"""VGG16 for two classes, as the lecture notes "Convolutional Neural Network" write it."""

from __future__ import annotations

from pycnn.applications.vgg16 import BLOCKS
from pycnn.layers import Conv2D, Dense, Flatten, Input, MaxPooling2D
from pycnn.models import Sequential


def vgg16_two_classes(input_shape: tuple[int, int, int] = (224, 224, 3)) -> Sequential:
    """VGG16 as a stack of layers with names that are made, and with two outputs instead of a thousand.

    Parameters: 134,268,738, 537 MB of them. It computes what :func:`pycnn.applications.VGG16` with ``classes=2`` does.

    Args:
        input_shape: (height, width, channels) of the images.

    Returns:
        The network, not compiled.

    Raises:
        ValueError: for images too small for five poolings (below 32 x 32).

    Source: lecture notes "Convolutional Neural Network", section "VGG16".

    >>> vgg16_two_classes((32, 32, 3)).output_shapes()[-5:]
    [(None, 1, 1, 512), (None, 512), (None, 4096), (None, 4096), (None, 2)]
    """
    model = Sequential([Input(input_shape)])
    for filters, number in BLOCKS:
        for _ in range(number):
            model.add(Conv2D(filters, kernel_size=(3, 3), padding="same", activation="relu"))
        model.add(MaxPooling2D(pool_size=(2, 2), strides=(2, 2)))
    model.add(Flatten())
    model.add(Dense(4096, activation="relu"))
    model.add(Dense(4096, activation="relu"))
    model.add(Dense(2, activation="softmax"))
    return model
