"""The network of the article "Architecture of Convolutional Neural Networks (CNNs) demystified"."""

from __future__ import annotations

from pycnn.applications import _classifier as classifier
from pycnn.layers import Conv2D, Flatten, Input, MaxPooling2D
from pycnn.models import Sequential


def single_convolution_cnn(input_shape: tuple[int, int, int] = (300, 300, 3), units: int = 1) -> Sequential:
    """One convolution of ten 5 x 5 filters, one max pooling, one dense layer: cats and dogs.

    The article contradicts itself: its summary prints a last layer of one unit, 760 + 219,041 = 219,801 parameters,
    and its listing has one of two units with softmax, 760 + 438,082 = 438,842. Both are here. Of one unit a softmax
    is 1 whatever the image shows, so one unit has a sigmoid. The listing trains two with Adam, batches of 128 and the
    categorical cross-entropy; one unit takes the binary.

    Args:
        input_shape: (height, width, channels) of the images.
        units: 1 for the probability of the second class by a sigmoid, or one for each class with softmax.

    Returns:
        The network, not compiled.

    Raises:
        ValueError: for images too small for the convolution and the pooling (below 6 x 6), or units below 1.

    Source: the article, section 4, "Using CNN to classify images in KERAS".

    >>> single_convolution_cnn().count_params(), single_convolution_cnn(units=2).count_params()
    (219801, 438842)
    """
    return Sequential(
        [
            Input(input_shape),
            Conv2D(10, (5, 5), strides=(1, 1), padding="valid", activation="relu"),
            MaxPooling2D(pool_size=(2, 2)),
            Flatten(),
            classifier.probabilities(units),
        ]
    )
