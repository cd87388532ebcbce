"""Batch normalisation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeGuard

import numpy as np

from pycnn import functional as F
from pycnn import initializers
from pycnn.layers import arguments
from pycnn.layers.activation import is_relu
from pycnn.layers.layer import Layer
from pycnn.layers.pooling import MaxPooling2D
from pycnn.shapes import Shape
from pycnn.tensor import Tensor


class BatchNormalization(Layer):
    """Gives each channel the mean ``beta`` and the deviation ``gamma``.

    The result is ``(x - mean) / sqrt(variance + epsilon) * gamma + beta``. While training, mean and variance are those
    of the batch, and the moving ones follow them; otherwise, and where ``trainable`` is False, the moving ones serve.
    Weights: ``gamma`` and ``beta``, which are trained, ``moving_mean`` and ``moving_variance``, each (channels,).

    Args:
        axis: that of the channels.
        momentum: how much of the moving statistics a step of training keeps.
        epsilon: is added to the variance.
        center: whether there is a ``beta``.
        scale: whether there is a ``gamma``.
        beta_initializer, gamma_initializer, moving_mean_initializer, moving_variance_initializer: names or functions of
            (shape, dtype).
        beta_regularizer, gamma_regularizer: names or functions of the weight, added to the loss; see
            :mod:`pycnn.regularizers`.
        beta_constraint, gamma_constraint: names or functions that say what the weight becomes after each step of
            training; see :mod:`pycnn.constraints`.
        **kwargs: as for :class:`Layer`.

    Raises:
        ValueError: for a momentum outside [0, 1], an epsilon that is not positive, or an axis that is no integer; when
            called, for inputs without such an axis, with another number of channels, or in training with a single value
            per channel.

    Source: Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate
    Shift" (2015); Keras 3, keras.layers.BatchNormalization.

    >>> import numpy as np
    >>> layer = BatchNormalization(epsilon=1e-12)
    >>> layer(np.array([[1.0, 10.0], [3.0, 30.0]]), training=True).detach().numpy()
    array([[-1., -1.],
           [ 1.,  1.]], dtype=float32)
    >>> [weight.shape for weight in layer.weights], len(layer.trainable_weights)
    ([(2,), (2,), (2,), (2,)], 2)
    """

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: str | Callable[..., Any] = "zeros",
        gamma_initializer: str | Callable[..., Any] = "ones",
        moving_mean_initializer: str | Callable[..., Any] = "zeros",
        moving_variance_initializer: str | Callable[..., Any] = "ones",
        beta_regularizer: str | Callable[[Tensor], Tensor] | None = None,
        gamma_regularizer: str | Callable[[Tensor], Tensor] | None = None,
        beta_constraint: str | Callable[[Tensor], Tensor] | None = None,
        gamma_constraint: str | Callable[[Tensor], Tensor] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not isinstance(axis, int | np.integer) or isinstance(axis, bool):
            raise ValueError(f"{self}: expected an integer axis, received {axis!r}")
        if not _is_number(momentum) or not 0 <= momentum <= 1:
            raise ValueError(f"{self}: expected a momentum in [0, 1], received {momentum!r}")
        if not _is_number(epsilon) or not epsilon > 0:
            raise ValueError(f"{self}: expected a positive epsilon, received {epsilon!r}")
        self.axis, self.momentum, self.epsilon = int(axis), float(momentum), float(epsilon)
        self.center, self.scale = bool(center), bool(scale)
        self._read_rules("beta", beta_initializer, beta_regularizer, beta_constraint)
        self._read_rules("gamma", gamma_initializer, gamma_regularizer, gamma_constraint)
        self.moving_mean_initializer = initializers.get(moving_mean_initializer)
        self.moving_variance_initializer = initializers.get(moving_variance_initializer)
        self.gamma: Tensor | None = None
        self.beta: Tensor | None = None
        self.moving_mean: Tensor | None = None
        self.moving_variance: Tensor | None = None

    def build(self, input_shape: Shape) -> None:
        """Make the weights for the channels of ``input_shape``."""
        shape = (self._channels(input_shape),)
        if self.scale:
            self.gamma = self._add_by_rules("gamma", shape)
        if self.center:
            self.beta = self._add_by_rules("beta", shape)
        self.moving_mean = self.add_weight(shape, self.moving_mean_initializer, trainable=False, name="moving_mean")
        self.moving_variance = self.add_weight(
            shape, self.moving_variance_initializer, trainable=False, name="moving_variance"
        )

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """``inputs``, normalised."""
        return self._normalised(inputs, training)

    def _normalised(self, inputs: Tensor, training: bool, activation: str | None = None) -> Tensor:
        axis = self.axis % inputs.ndim
        first = axis == 1 and inputs.ndim > 2
        order = list(range(inputs.ndim))
        if not first and axis != inputs.ndim - 1:
            order.append(order.pop(axis))
            inputs = inputs.transpose(*order)
        outputs = F.batch_norm(
            inputs,
            self.moving_mean,
            self.moving_variance,
            self.gamma,
            self.beta,
            training=training and self.trainable,
            momentum=1 - self.momentum,
            eps=self.epsilon,
            data_format="channels_first" if first else "channels_last",
            activation=activation,
            correction=0,
        )
        return outputs if order == sorted(order) else outputs.transpose(*np.argsort(order).tolist())

    def follows_channels(self, data_format: arguments.DataFormat) -> bool:
        """Whether the layer normalises the channels of images in this format, by :meth:`call` of this very class."""
        return (
            type(self) is BatchNormalization
            and self.activity_regularizer is None
            and self.axis % 4 == arguments.channel_axis(2, data_format) % 4
        )

    def can_rectify(self, following: Layer | None) -> bool:
        """Whether :meth:`rectified` does what this layer and the following one do in turn."""
        return (
            type(self) is BatchNormalization
            and self.activity_regularizer is None
            and is_relu(following)
            and following.dtype == self.dtype
        )

    def rectified(self, inputs: Tensor, training: bool) -> Tensor:
        """The ReLU of the output for inputs that the layer has accepted, in one pass."""
        return self._normalised(inputs, training, "relu")

    def can_pool(self, following: Layer | None, training: bool = False) -> TypeGuard[MaxPooling2D]:
        """Whether :meth:`max_pooled` does what this layer and the following one do in turn."""
        return (
            type(following) is MaxPooling2D
            and following.dtype == self.dtype
            and following.activity_regularizer is None
            and self.follows_channels(following.data_format)
            and not (training and self.trainable)
        )

    def max_pooled(self, inputs: Tensor, pooling: MaxPooling2D) -> Tensor:
        """The output of ``pooling`` on that of this layer by the moving statistics, in one pass.

        Args:
            inputs: which the layer has accepted.
            pooling: see :meth:`can_pool`.

        Raises:
            ValueError: as calling the pooling.
        """
        return F.batch_norm_max_pool2d(
            inputs,
            *self.moving(inputs.shape),
            data_format=pooling.data_format,
            **pooling.windows_of(inputs.shape),
        )

    def moving(self, input_shape: Shape) -> F.RunningNorm:
        """The normalisation by the moving statistics of inputs of this shape.

        Raises:
            ValueError: when the layer cannot take such inputs.
        """
        self.accept_shape(input_shape)
        return F.RunningNorm(self.moving_mean, self.moving_variance, self.gamma, self.beta, self.epsilon)

    def of_batch(self, input_shape: Shape) -> F.BatchStatisticsNorm:
        """The normalisation of inputs of this shape while training.

        Raises:
            ValueError: when the layer cannot take such inputs.
        """
        self.accept_shape(input_shape)
        return F.BatchStatisticsNorm(
            self.moving_mean, self.moving_variance, self.gamma, self.beta, 1 - self.momentum, self.epsilon, 0
        )

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """``input_shape``.

        Raises:
            ValueError: for an input that the layer cannot take.
        """
        channels = self._channels(input_shape)
        known = None if self.moving_mean is None else self.moving_mean.shape[0]
        if known not in (None, channels):
            raise ValueError(f"{self}: expected {known} channels, received {channels} (input shape {input_shape})")
        return input_shape

    def _channels(self, input_shape: Shape) -> int:
        rank = len(input_shape)
        if rank < 2 or not -rank <= self.axis < rank or self.axis % rank == 0:
            raise ValueError(
                f"{self}: expected a batch of inputs with the axis {self.axis}, received input shape {input_shape}"
            )
        channels = input_shape[self.axis]
        if channels is None:
            raise ValueError(f"{self}: expected a known number of channels, received input shape {input_shape}")
        return channels


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
