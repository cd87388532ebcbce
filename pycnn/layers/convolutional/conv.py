"""Convolution of signals, images and volumes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeGuard, cast

from pycnn import activations
from pycnn import functional as F
from pycnn.functional.conv import ready_conv2d
from pycnn.layers import arguments
from pycnn.layers.activation import is_relu
from pycnn.layers.batch_normalization import BatchNormalization
from pycnn.layers.convolutional.window import CONVOLUTIONS, WindowLayer
from pycnn.layers.layer import Layer
from pycnn.layers.pooling import MaxPooling2D
from pycnn.shapes import Shape
from pycnn.tensor import Tensor

#: Computes an output for inputs.
Computation = Callable[[Tensor], Tensor]


class _Conv(WindowLayer):
    """Convolution in any number of dimensions."""

    def __init__(
        self,
        filters: int,
        kernel_size: int | Iterable[int],
        strides: int | Iterable[int] = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: int | Iterable[int] = 1,
        groups: int = 1,
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
        super().__init__(
            kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias,
            activity_regularizer=activity_regularizer, **kwargs,
        )  # fmt: skip
        self._read_rules("kernel", kernel_initializer, kernel_regularizer, kernel_constraint)
        self._read_rules("bias", bias_initializer, bias_regularizer, bias_constraint)
        self.filters = arguments.positive(filters, "filters")
        self.groups = arguments.positive(groups, "groups")
        if self.filters % self.groups:
            raise ValueError(f"{self}: expected filters divisible by groups={groups}, received filters={filters}")
        self._refuse_steps_of_dilated_kernels()
        self.kernel: Tensor | None = None

    def _make_kernels(self, channels: int) -> None:
        self.kernel = self._add_by_rules("kernel", (*self.kernel_size, channels // self.groups, self.filters))

    def _filters(self, channels: int) -> int:
        return self.filters

    def call(self, inputs: Tensor) -> Tensor:
        """The convolution of ``inputs``, with bias and activation."""
        convolution, _ = CONVOLUTIONS[self._RANK]
        return self._activated(convolution(inputs, self.kernel, self.bias, **self._settings(inputs)))

    def _settings(self, inputs: Tensor, relu: bool = False) -> dict[str, Any]:
        """The arguments of the convolution of ``inputs``, its activation only if it is computed in the same pass.

        Args:
            inputs: of the layer.
            relu: whether a ReLU is the activation, whatever the layer says.
        """
        return self._geometry(inputs) | {
            "groups": self.groups,
            "activation": "relu" if relu else self._fused_activation,
        }

    def _known_channels(self, input_shape: Shape) -> int:
        channels = super()._known_channels(input_shape)
        if channels % self.groups:
            raise ValueError(
                f"{self}: expected channels divisible by groups={self.groups}, received {channels} "
                f"(input shape {input_shape})"
            )
        return channels


class Conv1D(_Conv):
    """Slides ``filters`` kernels over signals and sums the products. ``Convolution1D`` is the same class.

    Weights: ``kernel`` (size, channels / groups, filters) and ``bias`` (filters,).

    Args:
        padding: "valid", "same", or "causal": zeros in front only, so that an output depends on no later input.
        data_format: "channels_last" (batch, steps, channels), the default, or "channels_first".

    The other arguments and errors are those of :class:`Conv2D`, sizes with one number.

    Source: Keras 3, keras.layers.Conv1D.

    >>> import numpy as np
    >>> layer = Conv1D(4, 3, padding="causal", dilation_rate=2)
    >>> layer(np.zeros((1, 100, 2))).shape, layer.count_params()
    ((1, 100, 4), 28)
    """

    _RANK = 1
    _PADDINGS = ("valid", "same", "causal")


class Conv2D(_Conv):
    """Slides ``filters`` kernels over images and sums the products: cross-correlation, as every CNN uses it.

    ``Convolution2D`` is the same class. Each output size is ``(W - F + 2P) / S + 1``, rounded down, with ``F`` the
    extent of the dilated kernel. Weights: ``kernel`` (height, width, channels / groups, filters) and ``bias``
    (filters,).

    Args:
        filters: number of output channels.
        kernel_size: (height, width) of the kernel in pixels; an integer stands for both.
        strides: step of the kernel in pixels.
        padding: "valid" (none) or "same": zeros such that the output has ``ceil(W / S)`` pixels, split as in
            TensorFlow, where an odd pixel goes to the bottom and right.
        data_format: "channels_last" (batch, height, width, channels), the default, or "channels_first".
        dilation_rate: distance between the kernel's elements in pixels.
        groups: input channels and filters are split into so many independent groups.
        activation: name or function applied to the output; None is linear. "relu" costs nothing extra.
        use_bias: whether to add a bias to each filter's output.
        kernel_initializer, bias_initializer: name or function of (shape, dtype).
        kernel_regularizer, bias_regularizer: name or function of the weight, whose result is added to the loss; see
            :mod:`pycnn.regularizers`.
        activity_regularizer: the same of the output.
        kernel_constraint, bias_constraint: name or function that says what the weight becomes after each step of
            training; see :mod:`pycnn.constraints`.
        **kwargs: ``name``, ``trainable``, ``dtype``, ``input_shape``, as for :class:`Layer`.

    Raises:
        ValueError: for sizes that are not positive integers, filters or channels that the groups do not divide,
            strides together with dilation (as in Keras), an unknown name; when called, for inputs with another number
            of axes, with other channels than the kernel, or smaller than the kernel.

    Source: Keras 3, keras.layers.Conv2D.

    >>> import numpy as np
    >>> layer = Conv2D(8, (3, 3), activation="relu", padding="same")
    >>> layer(np.zeros((1, 28, 28, 1))).shape
    (1, 28, 28, 8)
    >>> layer.count_params()
    80
    """

    _RANK = 2

    @property
    def is_plain(self) -> bool:
        """Whether the layer is a convolution and nothing but a bias and perhaps a ReLU behind it."""
        return (
            type(self) is Conv2D
            and self.activation in (activations.relu, activations.linear)
            and self.activity_regularizer is None
        )

    def can_rectify(self, following: Layer | None) -> bool:
        """Whether a layer is a ReLU of this layer's results, and there is none before it."""
        return self.activation is activations.linear and is_relu(following) and following.dtype == self.dtype

    def can_normalise(self, following: Layer | None) -> TypeGuard[BatchNormalization]:
        """Whether a layer normalises maps of this layer's format and dtype."""
        return (
            isinstance(following, BatchNormalization)
            and following.follows_channels(self.data_format)
            and following.dtype == self.dtype
        )

    def can_pool(self, following: Layer | None) -> TypeGuard[MaxPooling2D]:
        """Whether a layer pools maps of this layer's format and dtype."""
        return (
            type(following) is MaxPooling2D
            and following.data_format == self.data_format
            and following.dtype == self.dtype
            and following.activity_regularizer is None
        )

    # What computes this layer together with others, for inputs of the shape of those that are given, which the layer
    # has accepted: everything is read once, and what is left is called with the inputs of each batch.

    def alone(self, inputs: Tensor, relu: bool = False) -> Computation:
        """What computes the output, or with ``relu`` the ReLU of it."""
        conv2d = ready_conv2d(inputs, self.kernel, self.bias, **self._settings(inputs, relu))
        return lambda inputs: conv2d(inputs, self.kernel, self.bias)

    def normalised(
        self, inputs: Tensor, norm: BatchNormalization, pooling: MaxPooling2D | None, relu: bool = False
    ) -> Computation:
        """What computes the output of ``norm`` on that of this layer while training, and of ``pooling`` on that.

        With ``relu``, one between this layer and the norm.

        Raises:
            ValueError: the other layers cannot take what this one gives.
        """
        shape = self._output_of(inputs)
        windows = {} if pooling is None else pooling.windows_of(shape)
        settings = {"norm": norm.of_batch(shape), **windows, **self._settings(inputs, relu)}
        return lambda inputs: F.conv2d_batch_norm(inputs, self.kernel, self.bias, **settings)

    def _output_of(self, inputs: Tensor) -> tuple[int, ...]:
        """The shape of the output for inputs that were accepted: all of it is known, as theirs."""
        return inputs.shape[0], *cast(tuple[int, ...], self.accept_shape(inputs.shape)[1:])

    def max_pooled(
        self, inputs: Tensor, pooling: MaxPooling2D, norm: BatchNormalization | None = None, relu: bool = False
    ) -> Computation:
        """What computes the output of ``pooling`` on that of this layer, in one pass where that may be faster.

        With a norm by its moving statistics between the two, and with ``relu`` one behind this layer.

        Raises:
            ValueError: the other layers cannot take what this one gives.
        """
        shape = self._output_of(inputs)
        settings = {**pooling.windows_of(shape), **self._settings(inputs, relu)}
        if norm is not None:
            settings["norm"] = norm.moving(shape)
        return lambda inputs: F.conv2d_max_pool2d(inputs, self.kernel, self.bias, **settings)

    def can_add(self, residual: Tensor, inputs: Tensor) -> bool:
        """Whether :meth:`folded` can add a tensor to what it gives for inputs."""
        shape = inputs.shape
        return residual.dtype == self.dtype and residual.shape == (shape[0], *self.accept_shape(shape)[1:])

    def folded(
        self, inputs: Tensor, norm: BatchNormalization | None, residual: Tensor | None, relu: bool
    ) -> Callable[[Tensor, Tensor | None], Tensor]:
        """What computes the output, normalises it by the moving statistics of ``norm``, adds a residual, and rectifies.

        A norm, the residual (one of this shape) and the ReLU only where they are given. A normalisation by fixed
        numbers is a factor and a bias for each channel: they take the place of this layer's bias, and the result of the
        convolution is written once. The gradients are those of convolution and residual.

        Raises:
            ValueError: the norm cannot take what this layer gives.
        """
        settings = self._settings(inputs, relu)
        if norm is None:
            conv2d = ready_conv2d(inputs, self.kernel, self.bias, None, residual, **settings)
            if residual is None:
                return lambda inputs, _: conv2d(inputs, self.kernel, self.bias)
            return lambda inputs, residual: conv2d(inputs, self.kernel, self.bias, None, residual)
        folding = norm.moving(self._output_of(inputs)).folding(self.filters, inputs)

        def numbers() -> list[Tensor]:
            return [Tensor._of(each) for each in folding(None if self.bias is None else self.bias.data)]

        scale, offset = numbers()
        normalising = ready_conv2d(inputs, self.kernel, offset, scale, residual, **settings)

        def compute(inputs: Tensor, residual: Tensor | None) -> Tensor:
            scale, offset = numbers()
            return normalising(inputs, self.kernel, offset, scale, residual)

        return compute


class Conv3D(_Conv):
    """Slides ``filters`` kernels over volumes and sums the products. ``Convolution3D`` is the same class.

    Weights: ``kernel`` (depth, height, width, channels / groups, filters) and ``bias`` (filters,).

    Args:
        data_format: "channels_last" (batch, depth, height, width, channels), the default, or "channels_first".

    The other arguments and errors are those of :class:`Conv2D`, sizes with three numbers.

    Source: Keras 3, keras.layers.Conv3D.

    >>> import numpy as np
    >>> layer = Conv3D(4, 3, strides=2)
    >>> layer(np.zeros((1, 9, 9, 9, 1))).shape, layer.count_params()
    ((1, 4, 4, 4, 4), 112)
    """

    _RANK = 3


Convolution1D, Convolution2D, Convolution3D = Conv1D, Conv2D, Conv3D
