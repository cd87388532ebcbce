"""An activation function as a layer of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pycnn import activations
from pycnn.layers.layer import Layer
from pycnn.shapes import Shape
from pycnn.tensor import Tensor


class Activation(Layer):
    """Applies a function to each element.

    Args:
        activation: name ("relu", "tanh", "sigmoid", "softmax", ...) or function of a tensor.
        **kwargs: as for :class:`Layer`.

    Raises:
        ValueError: for an unknown name.

    Source: Keras 3, keras.layers.Activation.

    >>> import numpy as np
    >>> Activation("relu")(np.array([[-3.0, 2.0]])).numpy()
    array([[0., 2.]], dtype=float32)
    """

    def __init__(self, activation: str | Callable[[Tensor], Tensor], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.activation = activations.get(activation)
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        """The function of ``inputs``."""
        return self.activation(inputs)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """``input_shape``."""
        return input_shape
