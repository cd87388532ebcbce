"""What layers share that change images at random while training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pycnn import random
from pycnn.layers import arguments
from pycnn.layers.image_layer import ImageLayer
from pycnn.tensor import Tensor


class RandomImageLayer(ImageLayer):
    """A layer that changes images at random while training, and passes them unchanged otherwise.

    A subclass defines ``change(images)`` and draws from ``generator``.

    Args:
        seed: for draws of the layer's own, an integer of at least 0; by default it draws from
            :func:`pycnn.random.generator`. The draws are made on the CPU for every backend.
        data_format: "channels_last" (the default) or "channels_first".
        **kwargs: as for :class:`Layer`.
    """

    def __init__(self, seed: int | None, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(data_format, **kwargs)
        self.seed = arguments.seed(seed)
        self._generator = None if self.seed is None else np.random.default_rng(self.seed)

    @property
    def generator(self) -> np.random.Generator:
        """What the layer draws from."""
        return self._generator or random.generator()

    def call(self, inputs: Tensor, training: bool = True) -> Tensor:
        """``inputs``, changed while training."""
        return super().call(inputs) if training else inputs


def bounds(value: Any, name: str, **limits: float) -> tuple[float, float]:
    """The range that numbers are drawn from: two numbers in any order, or one for those up to it of either sign.

    >>> bounds((0.5, -0.25), "factor"), bounds(0.25, "factor")
    ((-0.25, 0.5), (-0.25, 0.25))

    Args:
        limits: those of each number, as for :func:`pycnn.layers.arguments.number`.

    Raises:
        ValueError: anything else, and numbers outside of the limits.
    """
    if isinstance(value, Sequence) and not isinstance(value, str):
        return pair(value, name, **limits)
    most = abs(arguments.number(value, name, **limits))
    return -most, most


def pair(value: Any, name: str, **limits: float) -> tuple[float, float]:
    """Two numbers in any order, as (lower, upper); limits and errors as for :func:`bounds`."""
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise ValueError(f"{name}: expected two numbers, (lower, upper), received {value!r}")
    lower, upper = sorted(arguments.number(each, name, **limits) for each in value)
    return lower, upper
