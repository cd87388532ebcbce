"""What layers share that slide a kernel over their input."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from pycnn import activations
from pycnn import functional as F
from pycnn.layers import arguments
from pycnn.layers.layer import Layer
from pycnn.shapes import Shape
from pycnn.tensor import Tensor

#: For each number of spatial axes the operation and Keras' order of the kernel's axes.
CONVOLUTIONS: dict[int, tuple[Callable[..., Any], str]] = {
    1: (F.conv1d, "WIO"),
    2: (F.conv2d, "HWIO"),
    3: (F.conv3d, "DHWIO"),
}


class WindowLayer(Layer):
    """A kernel of ``_RANK`` spatial axes that slides over the input, with a bias and an activation behind it.

    A subclass makes its kernels (:meth:`_make_kernels`), knows how many channels its output has (:meth:`_filters`), and
    computes it (``call``).
    """

    _RANK: int
    _PADDINGS: tuple[str, ...] = ("valid", "same")

    def __init__(
        self,
        kernel_size: int | Iterable[int],
        strides: int | Iterable[int],
        padding: str,
        data_format: str | None,
        dilation_rate: int | Iterable[int],
        activation: str | Callable[[Tensor], Tensor] | None,
        use_bias: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.kernel_size = arguments.sizes(kernel_size, self._RANK, "kernel_size")
        self.strides = arguments.sizes(strides, self._RANK, "strides")
        self.padding = arguments.padding(padding, self._PADDINGS)
        self.data_format = arguments.data_format(data_format)
        self.dilation_rate = arguments.sizes(dilation_rate, self._RANK, "dilation_rate")
        self.activation = activations.get(activation)
        self.use_bias = bool(use_bias)
        self.bias: Tensor | None = None
        #: Of the inputs that the layer was built for.
        self._channels: int | None = None

    def _make_kernels(self, channels: int) -> None:
        """Make the weights in front of the bias, for inputs of so many channels."""
        raise NotImplementedError

    def _filters(self, channels: int) -> int:
        """How many channels the output has, for inputs of so many."""
        raise NotImplementedError

    def build(self, input_shape: Shape) -> None:
        """Make kernels and bias for the channels of ``input_shape``."""
        self.compute_output_shape(input_shape)
        self._channels = self._known_channels(input_shape)
        self._make_kernels(self._channels)
        if self.use_bias:
            self.bias = self._add_by_rules("bias", (self._filters(self._channels),))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The input shape with other spatial sizes, and with the filters in the place of the channels.

        Raises:
            ValueError: for an input that the layer cannot take.
        """
        filters = self._filters(self._known_channels(input_shape))
        return arguments.of_channels(input_shape, self._spatial_output(input_shape), filters, self.data_format)

    def _spatial_output(self, input_shape: Shape) -> Shape:
        axes = arguments.spatial_axes(self._RANK, self.data_format)
        return arguments.window_output_shape(
            self, input_shape, axes, self.kernel_size, self.strides, self.padding, self.dilation_rate
        )

    def _known_channels(self, input_shape: Shape) -> int:
        channels = arguments.known_channels(self, self._RANK, self.data_format, input_shape)
        if self._channels not in (None, channels):
            raise ValueError(
                f"{self}: expected {self._channels} channels, received {channels} (input shape {input_shape})"
            )
        return channels

    def _refuse_steps_of_dilated_kernels(self) -> None:
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ValueError(
                f"{self}: strides and dilation_rate cannot both exceed 1, received strides={self.strides}, "
                f"dilation_rate={self.dilation_rate}"
            )

    def _geometry(self, inputs: Tensor) -> dict[str, Any]:
        """The arguments of the convolution of ``inputs``."""
        spatial = arguments.spatial_sizes(inputs.shape, self.data_format)
        return {
            "stride": self.strides,
            "padding": arguments.window_padding(
                spatial, self.kernel_size, self.strides, self.padding, self.dilation_rate
            ),
            "dilation": self.dilation_rate,
            "data_format": self.data_format,
            "weight_format": CONVOLUTIONS[self._RANK][1],
        }

    @property
    def _fused_activation(self) -> str | None:
        """The activation, if it is one that is computed in the same pass."""
        return "relu" if self.activation is activations.relu else None

    def _activated(self, outputs: Tensor) -> Tensor:
        """The activation of what was computed with :attr:`_fused_activation`."""
        return outputs if self._fused_activation else self.activation(outputs)
