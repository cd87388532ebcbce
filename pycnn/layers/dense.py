"""The fully connected layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pycnn import activations
from pycnn import functional as F
from pycnn.layers import arguments
from pycnn.layers.layer import Layer
from pycnn.shapes import Shape
from pycnn.tensor import Tensor


class Dense(Layer):
    """``activation(inputs @ kernel + bias)`` over the last axis.

    Weights: ``kernel`` (features, units) and ``bias`` (units,).

    Args:
        units: size of the output's last axis.
        activation: name or function applied to the output; None is linear. "relu" costs nothing extra.
        use_bias: whether to add a bias.
        kernel_initializer, bias_initializer: name or function of (shape, dtype).
        kernel_regularizer, bias_regularizer: name or function of the weight, whose result is added to the loss; see
            :mod:`pycnn.regularizers`.
        activity_regularizer: the same of the output.
        kernel_constraint, bias_constraint: name or function that says what the weight becomes after each step of
            training; see :mod:`pycnn.constraints`.
        **kwargs: ``name``, ``trainable``, ``dtype``, ``input_shape``, ``input_dim``, as for :class:`Layer`.

    Raises:
        ValueError: for units that are not a positive integer or an unknown name; when called, for inputs of one
            axis or of other features than the kernel's.

    Source: Keras 3, keras.layers.Dense.

    >>> import numpy as np
    >>> layer = Dense(10, activation="softmax")
    >>> layer(np.zeros((4, 128))).shape
    (4, 10)
    >>> layer.count_params()
    1290
    """

    def __init__(
        self,
        units: int,
        activation: str | Callable[[Tensor], Tensor] | None = None,
        use_bias: bool = True,
        kernel_initializer: str | Callable[..., Any] = "glorot_uniform",
        bias_initializer: str | Callable[..., Any] = "zeros",
        kernel_regularizer: str | Callable[[Tensor], Tensor] | None = None,
        bias_regularizer: str | Callable[[Tensor], Tensor] | None = None,
        activity_regularizer: str | Callable[[Tensor], Tensor] | None = None,
        kernel_constraint: str | Callable[[Tensor], Tensor] | None = None,
        bias_constraint: str | Callable[[Tensor], Tensor] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.units = arguments.positive(units, "units")
        self.activation = activations.get(activation)
        self.use_bias = bool(use_bias)
        self._read_rules("kernel", kernel_initializer, kernel_regularizer, kernel_constraint)
        self._read_rules("bias", bias_initializer, bias_regularizer, bias_constraint)
        self.kernel: Tensor | None = None
        self.bias: Tensor | None = None

    def build(self, input_shape: Shape) -> None:
        """Make kernel and bias for the features of ``input_shape``."""
        features = self._features(input_shape)
        self.kernel = self._add_by_rules("kernel", (features, self.units))
        if self.use_bias:
            self.bias = self._add_by_rules("bias", (self.units,))

    def call(self, inputs: Tensor) -> Tensor:
        """The product of ``inputs`` with the kernel, with bias and activation."""
        fused = self.activation is activations.relu
        outputs = F.linear(inputs, self.kernel, self.bias, weight_format="IO", activation="relu" if fused else None)
        return outputs if fused else self.activation(outputs)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """``input_shape`` with ``units`` as its last size.

        Raises:
            ValueError: for an input that the layer cannot take.
        """
        self._features(input_shape)
        return (*input_shape[:-1], self.units)

    def _features(self, input_shape: Shape) -> int:
        if len(input_shape) < 2:
            raise ValueError(f"{self}: expected at least 2 axes, received input shape {input_shape}")
        features = input_shape[-1]
        if features is None:
            raise ValueError(
                f"{self}: expected a known size of the last axis, received input shape {input_shape}; give the "
                "model's input shape without None"
            )
        if self.kernel is not None and features != self.kernel.shape[0]:
            raise ValueError(
                f"{self}: expected {self.kernel.shape[0]} features, received {features} (input shape {input_shape})"
            )
        return features
