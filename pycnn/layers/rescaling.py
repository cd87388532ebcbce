"""Rescaling of inputs, as a layer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pycnn.layers.layer import Layer
from pycnn.shapes import Shape
from pycnn.tensor import Tensor


class Rescaling(Layer):
    """``inputs * scale + offset``, for example 1 / 255 for bytes.

    Args:
        scale, offset: numbers, or arrays with one for each channel, the last axis.
        **kwargs: as for :class:`Layer`.

    Raises:
        ValueError: for what is no array of numbers; when called, for inputs that the numbers do not fit.

    Source: Keras 3, keras.layers.Rescaling.

    >>> import numpy as np
    >>> Rescaling(1 / 127.5, offset=-1)(np.array([[0, 255]], np.uint8)).numpy()
    array([[-1.,  1.]], dtype=float32)
    """

    def __init__(self, scale: ArrayLike, offset: ArrayLike = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale, self.offset = scale, offset
        self._numbers = [_numbers(name, value) for name, value in (("scale", scale), ("offset", offset))]
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        """``inputs``, rescaled."""
        scale, offset = (Tensor(inputs.backend.asarray(array.astype(inputs.dtype))) for array in self._numbers)
        return inputs * scale + offset

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """``input_shape``.

        Raises:
            ValueError: when scale or offset do not fit it.
        """
        for numbers in self._numbers:
            known = tuple(1 if size is None else size for size in input_shape)
            try:
                fits = np.broadcast_shapes(known, numbers.shape) == known
            except ValueError:
                fits = False
            if not fits:
                raise ValueError(
                    f"{self}: expected inputs that numbers of shape {numbers.shape} fit, received input shape "
                    f"{input_shape}"
                )
        return input_shape


def _numbers(name: str, value: ArrayLike) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{name}: expected numbers, received {value!r}")
    return array
