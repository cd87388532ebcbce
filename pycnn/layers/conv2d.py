"""Two-dimensional convolution."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeGuard, cast

from pycnn import activations, initializers
from pycnn import functional as F
from pycnn.layers import arguments
from pycnn.layers.batch_normalization import BatchNormalization
from pycnn.layers.layer import Layer
from pycnn.layers.pooling2d import MaxPooling2D
from pycnn.shapes import Shape
from pycnn.tensor import Tensor


class Conv2D(Layer):
    """Slides ``filters`` kernels over images and sums the products: cross-correlation, as every CNN uses it.

    Each output size is ``(W - F + 2P) / S + 1``, rounded down, with ``F`` the extent of the dilated kernel.
    Weights: ``kernel`` (height, width, channels / groups, filters) and ``bias`` (filters,).

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
        kernel_initializer: name or function of (shape, dtype).
        bias_initializer: the same for the bias.
        **kwargs: ``name``, ``trainable``, ``dtype``, ``input_shape``, as for :class:`Layer`.

    Raises:
        ValueError: for sizes that are not positive integers, filters or channels that the groups do not divide,
            strides together with dilation (as in Keras), an unknown name; when called, for inputs that are not
            four-dimensional, have other channels than the kernel, or are smaller than the kernel.

    Source: Keras 3, keras.layers.Conv2D.

    >>> import numpy as np
    >>> layer = Conv2D(8, (3, 3), activation="relu", padding="same")
    >>> layer(np.zeros((1, 28, 28, 1))).shape
    (1, 28, 28, 8)
    >>> layer.count_params()
    80
    """

    _RANK = 2

    def __init__(
        self,
        filters: int,
        kernel_size: int | Iterable[int],
        strides: int | Iterable[int] = (1, 1),
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: int | Iterable[int] = (1, 1),
        groups: int = 1,
        activation: str | Callable[[Tensor], Tensor] | None = None,
        use_bias: bool = True,
        kernel_initializer: str | Callable[..., Any] = "glorot_uniform",
        bias_initializer: str | Callable[..., Any] = "zeros",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = arguments.positive(filters, "filters")
        self.kernel_size = arguments.sizes(kernel_size, self._RANK, "kernel_size")
        self.strides = arguments.sizes(strides, self._RANK, "strides")
        self.padding = arguments.padding(padding)
        self.data_format = arguments.data_format(data_format)
        self.dilation_rate = arguments.sizes(dilation_rate, self._RANK, "dilation_rate")
        self.groups = arguments.positive(groups, "groups")
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        if self.filters % self.groups:
            raise ValueError(f"{self}: expected filters divisible by groups={groups}, received filters={filters}")
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ValueError(
                f"{self}: strides and dilation_rate cannot both exceed 1, received strides={self.strides}, "
                f"dilation_rate={self.dilation_rate}"
            )
        self.kernel: Tensor | None = None
        self.bias: Tensor | None = None

    def build(self, input_shape: Shape) -> None:
        """Make kernel and bias for the channels of ``input_shape``."""
        self.compute_output_shape(input_shape)
        channels = self._channels(input_shape)
        self.kernel = self.add_weight(
            (*self.kernel_size, channels // self.groups, self.filters), self.kernel_initializer, name="kernel"
        )
        if self.use_bias:
            self.bias = self.add_weight((self.filters,), self.bias_initializer, name="bias")

    def call(self, inputs: Tensor) -> Tensor:
        """The convolution of ``inputs``, with bias and activation."""
        outputs = F.conv2d(inputs, self.kernel, self.bias, **self._settings(inputs))
        return outputs if self.activation is activations.relu else self.activation(outputs)

    def can_pool(
        self, following: Layer | None, training: bool = False, norm: BatchNormalization | None = None
    ) -> TypeGuard[MaxPooling2D]:
        """Whether :meth:`max_pooled` does what this layer, the norm and the following one do in turn."""
        if norm is not None and not (norm.can_pool(following, training) and norm.dtype == self.dtype):
            return False
        return self._is_plain and self.has_maps_for(following)

    @property
    def _is_plain(self) -> bool:
        """Whether the layer is a convolution and nothing but a bias and perhaps a ReLU behind it."""
        return type(self) is Conv2D and self.activation in (activations.relu, activations.linear)

    def has_maps_for(self, following: Layer | None) -> TypeGuard[MaxPooling2D]:
        """Whether a layer pools maps of this layer's format and dtype."""
        return (
            type(following) is MaxPooling2D
            and following.data_format == self.data_format
            and following.dtype == self.dtype
        )

    def can_normalise(self, following: Layer | None, training: bool) -> TypeGuard[BatchNormalization]:
        """Whether :meth:`normalised` does what this layer and the following one do in turn, while training."""
        return (
            training
            and self._is_plain
            and isinstance(following, BatchNormalization)
            and following.follows_channels(self.data_format)
            and following.trainable
            and following.dtype == self.dtype
        )

    def normalised(self, inputs: Tensor, norm: BatchNormalization, pooling: MaxPooling2D | None) -> Tensor:
        """The output of ``norm`` on that of this layer while training, and of ``pooling`` on that, if there is one.

        Raises:
            ValueError: as calling the layers.
        """
        inputs = self.accept(inputs)
        shape = self._output_of(inputs)
        windows = {} if pooling is None else pooling.windows_of(shape)
        return F.conv2d_batch_norm(
            inputs, self.kernel, self.bias, norm=norm.of_batch(shape), **windows, **self._settings(inputs)
        )

    def _output_of(self, inputs: Tensor) -> tuple[int, ...]:
        """The shape of the output for inputs that were accepted: all of it is known, as theirs."""
        return inputs.shape[0], *cast(tuple[int, ...], self.accept_shape(inputs.shape)[1:])

    def max_pooled(self, inputs: Tensor, pooling: MaxPooling2D, norm: BatchNormalization | None = None) -> Tensor:
        """The output of ``pooling`` on that of this layer, in one pass where that is expected to be faster.

        With a norm by its moving statistics between the two.

        Raises:
            ValueError: as calling the two.
        """
        inputs = self.accept(inputs)
        shape = self._output_of(inputs)
        return F.conv2d_max_pool2d(
            inputs,
            self.kernel,
            self.bias,
            norm=None if norm is None else norm.moving(shape),
            **pooling.windows_of(shape),
            **self._settings(inputs),
        )

    def _settings(self, inputs: Tensor) -> dict[str, Any]:
        """The arguments of the convolution of ``inputs``, its activation only if it is computed in the same pass."""
        axes = arguments.spatial_axes(self._RANK, self.data_format)
        spatial = tuple(inputs.shape[axis] for axis in axes)
        return {
            "stride": self.strides,
            "padding": arguments.window_padding(
                spatial, self.kernel_size, self.strides, self.padding, self.dilation_rate
            ),
            "dilation": self.dilation_rate,
            "groups": self.groups,
            "data_format": self.data_format,
            "weight_format": "HWIO",
            "activation": "relu" if self.activation is activations.relu else None,
        }

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """(batch, height, width, filters), or with the filters second for "channels_first".

        Raises:
            ValueError: for an input that the layer cannot take.
        """
        self._channels(input_shape)
        spatial = arguments.window_output_shape(
            self,
            input_shape,
            arguments.spatial_axes(self._RANK, self.data_format),
            self.kernel_size,
            self.strides,
            self.padding,
            self.dilation_rate,
        )
        if self.data_format == "channels_last":
            return (input_shape[0], *spatial, self.filters)
        return (input_shape[0], self.filters, *spatial)

    def _channels(self, input_shape: Shape) -> int:
        if len(input_shape) != self._RANK + 2:
            raise ValueError(
                f"{self}: expected {self._RANK + 2} axes ({self.data_format}), received input shape {input_shape}"
            )
        channels = input_shape[arguments.channel_axis(self._RANK, self.data_format)]
        if channels is None:
            raise ValueError(f"{self}: expected a known number of channels, received input shape {input_shape}")
        if channels % self.groups:
            raise ValueError(
                f"{self}: expected channels divisible by groups={self.groups}, received {channels} "
                f"(input shape {input_shape})"
            )
        if self.kernel is not None and channels != self.kernel.shape[-2] * self.groups:
            raise ValueError(
                f"{self}: expected {self.kernel.shape[-2] * self.groups} channels, received {channels} "
                f"(input shape {input_shape})"
            )
        return channels
