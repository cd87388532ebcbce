"""ImageNet's images and classes: what networks that were trained on them take, and what their outputs say.

Keras keeps this in a module of the same name.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pycnn import backend as backends
from pycnn.functional.arguments import rounded, widened
from pycnn.functional.loss_arguments import numbers
from pycnn.interop.arrays import drop_in
from pycnn.layers.arguments import choice, positive
from pycnn.layers.arguments import data_format as order_of_axes
from pycnn.tensor import Tensor
from pycnn_kernels.problem import is_floating

#: Of red, green and blue over the training images, as shares of 255; of Caffe's networks of blue, green and red.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CAFFE_MEAN = (103.939, 116.779, 123.68)

_CLASSES = 1000

#: ("n02123045", "tabby", 0.83): WordNet's number of the class, its name, and the network's score for it.
Guess = tuple[str, str, float]


@drop_in
def preprocess_input(x: Any, data_format: str | None = None, mode: str = "caffe") -> Any:
    """Photographs as a network was trained on them.

    Mode "caffe" (VGG, ResNet) orders the channels blue, green, red and subtracts their means over ImageNet. "tf"
    (Inception, Xception) takes 0 .. 255 to -1 .. 1. "torch" divides by 255, subtracts the means of red, green and
    blue, and divides by their standard deviations.

    Keras writes the result over ``x`` where the dtypes allow it; here ``x`` stays as it is.

    Args:
        x: images of any numeric dtype, red, green, blue, 0 to 255, shape (n, height, width, 3) or (height, width, 3).
        data_format: "channels_last" (the default) or "channels_first": (n, 3, height, width), (3, height, width).
        mode: "caffe", "tf" or "torch".

    Returns:
        The images, of the shape and the floating-point dtype of ``x``; float32 where that holds integers. Arrays for
        arrays, a tensor for a tensor, with its gradient.

    Raises:
        TypeError: for images that are no real numbers.
        ValueError: for an unknown mode or data_format; in "caffe" and "torch" for images of another shape.

    Source: Keras 3, keras.applications.imagenet_utils.preprocess_input. The means in "caffe" are those of
    K. Simonyan and A. Zisserman, https://www.robots.ox.ac.uk/~vgg/research/very_deep/

    >>> white = np.full((1, 1, 3), 255, np.uint8)
    >>> preprocess_input(white, mode="tf")
    array([[[1., 1., 1.]]], dtype=float32)
    >>> preprocess_input(white)
    array([[[151.061  , 138.22101, 131.32   ]]], dtype=float32)
    """
    choice(mode, ("caffe", "tf", "torch"), "mode")
    format = order_of_axes(data_format)
    given = numbers("x", x)
    if not is_floating(given.dtype):
        given = given.astype(np.float32)
    images = widened(given)
    if mode == "tf":
        return rounded(images / 127.5 - 1.0, given.dtype)
    _check_images(images.shape, format)
    if mode == "torch":
        of_channels = _constants(images, format, _MEAN, _DEVIATION)
        return rounded((images / 255.0 - of_channels[0]) / of_channels[1], given.dtype)
    backwards = images[..., ::-1] if format == "channels_last" else images[..., ::-1, :, :]
    return rounded(backwards - _constants(images, format, _CAFFE_MEAN)[0], given.dtype)


def _check_images(shape: tuple[int, ...], data_format: str) -> None:
    channels = -1 if data_format == "channels_last" else -3
    if len(shape) not in (3, 4) or shape[channels] != 3:
        expected = "(n, height, width, 3)" if channels == -1 else "(n, 3, height, width)"
        raise ValueError(f"x: expected colour images of shape {expected}, or one without n, received {shape}")


def _constants(images: Any, data_format: str, *values: tuple[float, ...]) -> list[Any]:
    """For each of ``values`` an array of one number per channel, where and as ``images`` are."""
    place = images.backend if isinstance(images, Tensor) else backends.of(images)
    shape = (3,) if data_format == "channels_last" else (3, 1, 1)
    return [place.asarray(np.array(each, images.dtype).reshape(shape)) for each in values]


def decode_predictions(
    preds: ArrayLike, top: int = 5, class_index: str | os.PathLike[str] | None = None
) -> list[list[Guess]]:
    """The classes that a network holds most likely.

    Args:
        preds: scores of shape (n, 1000), real numbers of any dtype.
        top: how many classes for each image, the likeliest first; of equal scores the class of the lower number.
        class_index: path of Keras' file of class names, ``imagenet_class_index.json``: a dictionary of
            ``"0": ["n01440764", "tench"]`` to "999". None leaves the classes without names: their numbers stand for
            WordNet's number and the name.

    Returns:
        For each image a list of (WordNet's number, name, score).

    Raises:
        TypeError: for scores that are no real numbers.
        ValueError: for scores of another shape, ``top`` below 1, or a file that holds anything else.
        FileNotFoundError: where there is no such file. Keras downloads it; pycnn does not.

    Source: Keras 3, keras.applications.imagenet_utils.decode_predictions. The file is at
    https://storage.googleapis.com/download.tensorflow.org/data/imagenet_class_index.json

    >>> scores = np.zeros((1, 1000))
    >>> scores[0, [281, 7]] = 0.75, 0.25
    >>> decode_predictions(scores, top=2)
    [[('281', '281', 0.75), ('7', '7', 0.25)]]
    """
    scores = preds.detach().numpy() if isinstance(preds, Tensor) else np.asarray(preds)
    if scores.ndim != 2 or scores.shape[1] != _CLASSES:
        raise ValueError(f"preds: expected scores of shape (n, {_CLASSES}), received {scores.shape}")
    names = [(str(number),) * 2 for number in range(_CLASSES)] if class_index is None else _class_names(class_index)
    # The complement of integers is in the opposite order, too, and does not overflow.
    descending = -scores if is_floating(numbers("preds", scores).dtype) else ~scores
    likeliest = np.argsort(descending, axis=1, kind="stable")[:, : positive(top, "top")]
    return [[(*names[k], float(row[k])) for k in order] for row, order in zip(scores, likeliest)]


def _class_names(path: str | os.PathLike[str]) -> list[tuple[str, str]]:
    """(WordNet's number, name) of each class."""
    try:
        index = json.loads(Path(path).read_text(encoding="utf-8"))
        names = [(number, name) for number, name in (index[str(k)] for k in range(_CLASSES))]
        if not all(isinstance(part, str) for pair in names for part in pair):
            raise ValueError("names that are no text")
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{path}: expected the class names of ImageNet, a dictionary of "
            f'"0": ["n01440764", "tench"] to "{_CLASSES - 1}", received something else ({error})'
        ) from error
    return names
