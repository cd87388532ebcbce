"""What layers share that change images at random while training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pycnn import random
from pycnn.layers import arguments
from pycnn.layers.layer import Layer
from pycnn.shapes import Shape
from pycnn.tensor import Tensor


class RandomImageLayer(Layer):
    """A layer that changes each image in a way of its own while training, and passes images unchanged otherwise.

    Inputs are batches of images or single ones, without the batch axis. A subclass defines ``change(images)`` and draws
    from ``generator``.

    Args:
        seed: for draws of the layer's own, an integer of at least 0; by default it draws from
            :func:`pycnn.random.generator`. The draws are made on the CPU for every backend.
        data_format: "channels_last" (the default) or "channels_first".
        **kwargs: as for :class:`Layer`.
    """

    def __init__(self, seed: int | None, data_format: str | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed = arguments.seed(seed)
        self.data_format = arguments.data_format(data_format)
        self._generator = None if self.seed is None else np.random.default_rng(self.seed)
        self.built = True

    @property
    def generator(self) -> np.random.Generator:
        """What the layer draws from."""
        return self._generator or random.generator()

    def change(self, images: Tensor) -> Tensor:
        """A batch of images, changed at random."""
        raise NotImplementedError(f"{type(self).__name__} must define change(images)")

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """``inputs``, changed while training."""
        if not training:
            return inputs
        if inputs.ndim == 3:
            return self.change(inputs.reshape(1, *inputs.shape)).reshape(inputs.shape)
        return self.change(inputs)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """``input_shape``.

        Raises:
            ValueError: for inputs that are neither images nor batches of them.
        """
        if len(input_shape) not in (3, 4):
            raise ValueError(
                f"{self}: expected images, 4 axes ({self.data_format}), or 3 of a single one, received input shape "
                f"{input_shape}"
            )
        return input_shape


def bounds(value: Any, name: str, **limits: float) -> tuple[float, float]:
    """The range that numbers are drawn from: two numbers in any order, or one for those up to it of either sign.

    >>> bounds((0.5, -0.25), "factor"), bounds(0.25, "factor")
    ((-0.25, 0.5), (-0.25, 0.25))

    Args:
        limits: those of each number, as for :func:`pycnn.layers.arguments.number`.

    Raises:
        ValueError: anything else, and numbers outside of the limits.
    """
    if not isinstance(value, Sequence) or isinstance(value, str):
        most = abs(arguments.number(value, name, **limits))
        return -most, most
    if len(value) != 2:
        raise ValueError(f"{name}: expected a number or two, (lower, upper), received {value!r}")
    lower, upper = sorted(arguments.number(each, name, **limits) for each in value)
    return lower, upper
