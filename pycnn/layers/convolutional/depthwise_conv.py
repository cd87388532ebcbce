"""Depthwise convolution: kernels of its own for each channel."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from pycnn.layers import arguments
from pycnn.layers.convolutional.window import CONVOLUTIONS, WindowLayer
from pycnn.tensor import Tensor


class DepthwiseLayer(WindowLayer):
    """What depthwise and separable convolutions share: ``depth_multiplier`` kernels for each channel."""

    depth_multiplier: int

    def _depthwise_shape(self, channels: int) -> tuple[int, ...]:
        return (*self.kernel_size, channels, self.depth_multiplier)

    def _depthwise(self, inputs: Tensor, kernel: Tensor, bias: Tensor | None, activation: str | None) -> Tensor:
        """The convolution of each channel with its kernels, whose outputs lie next to each other."""
        convolution, _ = CONVOLUTIONS[self._RANK]
        *window, channels, multiplier = kernel.shape
        kernel = kernel.reshape(*window, 1, channels * multiplier)
        return convolution(inputs, kernel, bias, groups=channels, activation=activation, **self._geometry(inputs))


class _DepthwiseConv(DepthwiseLayer):
    """Depthwise convolution in any number of dimensions."""

    def __init__(
        self,
        kernel_size: int | Iterable[int],
        strides: int | Iterable[int] = 1,
        padding: str = "valid",
        depth_multiplier: int = 1,
        data_format: str | None = None,
        dilation_rate: int | Iterable[int] = 1,
        activation: str | Callable[[Tensor], Tensor] | None = None,
        use_bias: bool = True,
        depthwise_initializer: str | Callable[..., Any] = "glorot_uniform",
        bias_initializer: str | Callable[..., Any] = "zeros",
        depthwise_regularizer: str | Callable[[Tensor], Tensor] | None = None,
        bias_regularizer: str | Callable[[Tensor], Tensor] | None = None,
        activity_regularizer: str | Callable[[Tensor], Tensor] | None = None,
        depthwise_constraint: str | Callable[[Tensor], Tensor] | None = None,
        bias_constraint: str | Callable[[Tensor], Tensor] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias,
            activity_regularizer=activity_regularizer, **kwargs,
        )  # fmt: skip
        self._read_rules("depthwise", depthwise_initializer, depthwise_regularizer, depthwise_constraint)
        self._read_rules("bias", bias_initializer, bias_regularizer, bias_constraint)
        self.depth_multiplier = arguments.positive(depth_multiplier, "depth_multiplier")
        self.kernel: Tensor | None = None

    def _make_kernels(self, channels: int) -> None:
        self.kernel = self._add_by_rules("depthwise", self._depthwise_shape(channels), name="kernel")

    def _filters(self, channels: int) -> int:
        return channels * self.depth_multiplier

    def call(self, inputs: Tensor) -> Tensor:
        """The depthwise convolution of ``inputs``, with bias and activation."""
        assert self.kernel is not None  # the layer is built
        return self._activated(self._depthwise(inputs, self.kernel, self.bias, self._fused_activation))


class DepthwiseConv1D(_DepthwiseConv):
    """Convolution of signals with kernels for each channel.

    Weights: ``kernel`` (size, channels, depth_multiplier) and ``bias`` (channels * depth_multiplier,). Arguments and
    errors as for :class:`DepthwiseConv2D`, sizes with one number.

    Source: Keras 3, keras.layers.DepthwiseConv1D.

    >>> import numpy as np
    >>> DepthwiseConv1D(3)(np.zeros((1, 10, 2))).shape
    (1, 8, 2)
    """

    _RANK = 1


class DepthwiseConv2D(_DepthwiseConv):
    """Slides ``depth_multiplier`` kernels of its own over each channel of images; channels are not added up.

    Weights: ``kernel`` (height, width, channels, depth_multiplier) and ``bias`` (channels * depth_multiplier,). The
    outputs of a channel lie next to each other.

    Args:
        kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias: as for :class:`Conv2D`; strides
            and dilation may both exceed 1.
        depth_multiplier: kernels for each channel.
        depthwise_initializer, depthwise_regularizer, depthwise_constraint: of the kernel, as for :class:`Conv2D`.
        bias_initializer, bias_regularizer, bias_constraint, activity_regularizer, **kwargs: as for :class:`Conv2D`.

    Raises:
        ValueError: for sizes that are not positive integers or an unknown name; when called, for inputs with another
            number of axes, with other channels than the kernel, or smaller than the kernel.

    Source: Keras 3, keras.layers.DepthwiseConv2D.

    >>> import numpy as np
    >>> layer = DepthwiseConv2D(3, padding="same", depth_multiplier=2)
    >>> layer(np.zeros((1, 8, 8, 5))).shape, layer.count_params()
    ((1, 8, 8, 10), 100)
    """

    _RANK = 2
