"""Separable convolution: kernels of its own for each channel, then sums over the channels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from pycnn.layers import arguments
from pycnn.layers.convolutional.depthwise_conv import DepthwiseLayer
from pycnn.layers.convolutional.window import CONVOLUTIONS
from pycnn.tensor import Tensor


class _SeparableConv(DepthwiseLayer):
    """Separable convolution in any number of dimensions."""

    def __init__(
        self,
        filters: int,
        kernel_size: int | Iterable[int],
        strides: int | Iterable[int] = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: int | Iterable[int] = 1,
        depth_multiplier: int = 1,
        activation: str | Callable[[Tensor], Tensor] | None = None,
        use_bias: bool = True,
        depthwise_initializer: str | Callable[..., Any] = "glorot_uniform",
        pointwise_initializer: str | Callable[..., Any] = "glorot_uniform",
        bias_initializer: str | Callable[..., Any] = "zeros",
        depthwise_regularizer: str | Callable[[Tensor], Tensor] | None = None,
        pointwise_regularizer: str | Callable[[Tensor], Tensor] | None = None,
        bias_regularizer: str | Callable[[Tensor], Tensor] | None = None,
        activity_regularizer: str | Callable[[Tensor], Tensor] | None = None,
        depthwise_constraint: str | Callable[[Tensor], Tensor] | None = None,
        pointwise_constraint: str | Callable[[Tensor], Tensor] | None = None,
        bias_constraint: str | Callable[[Tensor], Tensor] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias,
            activity_regularizer=activity_regularizer, **kwargs,
        )  # fmt: skip
        self._read_rules("depthwise", depthwise_initializer, depthwise_regularizer, depthwise_constraint)
        self._read_rules("pointwise", pointwise_initializer, pointwise_regularizer, pointwise_constraint)
        self._read_rules("bias", bias_initializer, bias_regularizer, bias_constraint)
        self.filters = arguments.positive(filters, "filters")
        self.depth_multiplier = arguments.positive(depth_multiplier, "depth_multiplier")
        self.depthwise_kernel: Tensor | None = None
        self.pointwise_kernel: Tensor | None = None

    def _make_kernels(self, channels: int) -> None:
        depthwise = self._depthwise_shape(channels)
        pointwise = (*(1,) * self._RANK, channels * self.depth_multiplier, self.filters)
        self.depthwise_kernel = self._add_by_rules("depthwise", depthwise, name="depthwise_kernel")
        self.pointwise_kernel = self._add_by_rules("pointwise", pointwise, name="pointwise_kernel")

    def _filters(self, channels: int) -> int:
        return self.filters

    def call(self, inputs: Tensor) -> Tensor:
        """The separable convolution of ``inputs``, with bias and activation."""
        assert self.depthwise_kernel is not None  # the layer is built
        convolution, weight_format = CONVOLUTIONS[self._RANK]
        outputs = convolution(
            self._depthwise(inputs, self.depthwise_kernel, None, None),
            self.pointwise_kernel,
            self.bias,
            data_format=self.data_format,
            weight_format=weight_format,
            activation=self._fused_activation,
        )
        return self._activated(outputs)


class SeparableConv1D(_SeparableConv):
    """Separable convolution of signals. ``SeparableConvolution1D`` is the same class.

    Weights: ``depthwise_kernel`` (size, channels, depth_multiplier), ``pointwise_kernel`` (1, channels *
    depth_multiplier, filters) and ``bias`` (filters,). Arguments and errors as for :class:`SeparableConv2D`, sizes with
    one number.

    Source: Keras 3, keras.layers.SeparableConv1D.

    >>> import numpy as np
    >>> SeparableConv1D(4, 3)(np.zeros((1, 10, 2))).shape
    (1, 8, 4)
    """

    _RANK = 1


class SeparableConv2D(_SeparableConv):
    """A depthwise convolution and a 1x1 convolution of its result. ``SeparableConvolution2D`` is the same class.

    Weights: ``depthwise_kernel`` (height, width, channels, depth_multiplier), ``pointwise_kernel`` (1, 1, channels *
    depth_multiplier, filters) and ``bias`` (filters,).

    Args:
        filters: number of output channels.
        kernel_size, strides, padding, data_format, dilation_rate: of the depthwise convolution, as for
            :class:`DepthwiseConv2D`.
        depth_multiplier: depthwise kernels for each channel.
        activation, use_bias: behind the 1x1 convolution.
        depthwise_initializer, depthwise_regularizer, depthwise_constraint, pointwise_initializer,
            pointwise_regularizer, pointwise_constraint: of the two kernels, as for :class:`Conv2D`.
        bias_initializer, bias_regularizer, bias_constraint, activity_regularizer, **kwargs: as for :class:`Conv2D`.

    Raises:
        ValueError: as for :class:`DepthwiseConv2D`.

    Source: Chollet, "Xception: Deep Learning with Depthwise Separable Convolutions" (2017); Keras 3,
    keras.layers.SeparableConv2D.

    >>> import numpy as np
    >>> layer = SeparableConv2D(16, 3, padding="same")
    >>> layer(np.zeros((1, 8, 8, 5))).shape, layer.count_params()
    ((1, 8, 8, 16), 141)
    """

    _RANK = 2


SeparableConvolution1D, SeparableConvolution2D = SeparableConv1D, SeparableConv2D
