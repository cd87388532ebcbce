"""The inputs as they are."""

from __future__ import annotations

from typing import Any

from pycnn.layers.layer import Layer
from pycnn.shapes import Shape
from pycnn.tensor import Tensor


class Identity(Layer):
    """Passes its inputs on unchanged, for a place that wants a layer.

    Args:
        **kwargs: as for :class:`Layer`.

    Source: Keras 3, keras.layers.Identity.

    >>> import numpy as np
    >>> Identity()(np.array([[1.0, 2.0]])).numpy()
    array([[1., 2.]], dtype=float32)
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        """``inputs``."""
        return inputs

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """``input_shape``."""
        return input_shape
