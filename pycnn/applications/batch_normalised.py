"""The batch-normalised network of the lecture notes "Convolutional Neural Network"."""

from __future__ import annotations

from pycnn.layers import BatchNormalization, Conv2D, Dense, Flatten, Input, MaxPooling2D
from pycnn.models import Sequential


def batch_normalised_cnn(input_shape: tuple[int, int, int] = (64, 64, 3), classes: int = 2) -> Sequential:
    """Three convolutions, each normalised over the batch and halved by max pooling, and four dense layers.

    The images are normalised, too. The notes take this network to show its filters: of the shapes (3, 3, 3, 32),
    (3, 3, 32, 64) and (3, 3, 64, 128). Parameters: 2,618,446, of which the 454 moving averages are not trained.

    Args:
        input_shape: (height, width, channels) of the images.
        classes: number of outputs.

    Returns:
        The network, not compiled.

    Raises:
        ValueError: for images too small for three poolings (below 22 x 22).

    Source: lecture notes "Convolutional Neural Network", section "How to Visualize Filters".

    >>> model = batch_normalised_cnn()
    >>> for layer in model.layers:
    ...     if "conv" in layer.name:
    ...         filters, biases = layer.get_weights()
    ...         print(filters.shape)
    (3, 3, 3, 32)
    (3, 3, 32, 64)
    (3, 3, 64, 128)
    """
    model = Sequential([Input(input_shape), BatchNormalization()])
    for filters in (32, 64, 128):
        model.add(Conv2D(filters, (3, 3), activation="relu"))
        model.add(BatchNormalization())
        model.add(MaxPooling2D(2, 2))
    model.add(Flatten())
    for units in (512, 256, 128):
        model.add(Dense(units, activation="relu"))
    model.add(Dense(classes, activation="softmax"))
    return model
