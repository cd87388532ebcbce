"""Transposed convolution of signals, images and volumes: from small maps to larger ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, NamedTuple

from pycnn import functional as F
from pycnn.layers import arguments
from pycnn.layers.convolutional.window import WindowLayer
from pycnn.shapes import Shape
from pycnn.tensor import Tensor
from pycnn_kernels.problem import effective_kernel

#: For each number of spatial axes the operation and Keras' order of the kernel's axes.
_TRANSPOSED: dict[int, tuple[Callable[..., Any], str]] = {
    1: (F.conv_transpose1d, "WOI"),
    2: (F.conv_transpose2d, "HWOI"),
    3: (F.conv_transpose3d, "DHWOI"),
}


class _Sides(NamedTuple):
    """What is cut off the whole result along one axis, and what is added at its end."""

    before: int
    after: int
    added: int

    @classmethod
    def of(cls, kernel: int, stride: int, dilation: int, mode: str, output_padding: int | None) -> _Sides:
        """As Keras has it.

        The whole result has ``(W - 1) * S + F`` pixels, with ``F`` the extent of the kernel. For "valid" it is kept,
        with pixels added up to ``W * S`` where the kernel is smaller than the stride. For "same" it is cut to
        ``W * S``, or with an output padding to ``(W - 1) * S + F % 2 + output_padding``; an odd pixel is cut off the
        end.
        """
        extent = effective_kernel(kernel, dilation)
        if mode == "valid":
            return cls(0, 0, max(stride - extent, 0) if output_padding is None else output_padding)
        kept = stride - extent if output_padding is None else extent % 2 + output_padding - extent
        # kept is negative where something is cut off: so many pixels on both sides together.
        total = 2 * (extent - 1) + kept
        before = (extent - 1) - min((total + 1) // 2, extent - 1)
        after = -kept - before
        return cls(before, max(after, 0), max(-after, 0))

    def output(self, size: int | None, kernel: int, stride: int, dilation: int) -> int | None:
        """The size of what is left of the result for an input of ``size``."""
        if size is None:
            return None
        return (size - 1) * stride + effective_kernel(kernel, dilation) - self.before - self.after + self.added


@lru_cache(maxsize=1024)
def _sides(
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    dilation: tuple[int, ...],
    mode: str,
    output_padding: tuple[int, ...] | None,
) -> tuple[_Sides, ...]:
    extra = output_padding or (None,) * len(kernel)
    return tuple(_Sides.of(k, s, d, mode, e) for k, s, d, e in zip(kernel, strides, dilation, extra))


class _ConvTranspose(WindowLayer):
    """Transposed convolution in any number of dimensions."""

    def __init__(
        self,
        filters: int,
        kernel_size: int | Iterable[int],
        strides: int | Iterable[int] = 1,
        padding: str = "valid",
        output_padding: int | Iterable[int] | None = None,
        data_format: str | None = None,
        dilation_rate: int | Iterable[int] = 1,
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
        self.output_padding = (
            None if output_padding is None else arguments.sizes(output_padding, self._RANK, "output_padding", least=0)
        )
        for extra, stride in zip(self.output_padding or (), self.strides):
            if extra >= stride:
                raise ValueError(
                    f"{self}: expected an output_padding below the strides, {self.strides}, received "
                    f"{self.output_padding}"
                )
        self._refuse_steps_of_dilated_kernels()
        self.kernel: Tensor | None = None

    def _make_kernels(self, channels: int) -> None:
        self.kernel = self._add_by_rules("kernel", (*self.kernel_size, self.filters, channels))

    def _filters(self, channels: int) -> int:
        return self.filters

    def call(self, inputs: Tensor) -> Tensor:
        """The transposed convolution of ``inputs``, with bias and activation."""
        transposed, weight_format = _TRANSPOSED[self._RANK]
        sides = self._cut()
        outputs = transposed(
            inputs,
            self.kernel,
            self.bias,
            stride=self.strides,
            padding=tuple((axis.before, axis.after) for axis in sides),
            output_padding=tuple(axis.added for axis in sides),
            dilation=self.dilation_rate,
            data_format=self.data_format,
            weight_format=weight_format,
            activation=self._fused_activation,
        )
        return self._activated(outputs)

    def _spatial_output(self, input_shape: Shape) -> Shape:
        spatial = tuple(input_shape[axis] for axis in arguments.spatial_axes(self._RANK, self.data_format))
        axes = zip(self._cut(), spatial, self.kernel_size, self.strides, self.dilation_rate)
        found = tuple(sides.output(size, kernel, S, D) for sides, size, kernel, S, D in axes)
        if any(size is not None and size < 1 for size in found):
            raise ValueError(f"{self}: nothing is left of the output for the input shape {input_shape}: {found}")
        return found

    def _cut(self) -> tuple[_Sides, ...]:
        return _sides(self.kernel_size, self.strides, self.dilation_rate, self.padding, self.output_padding)


class Conv1DTranspose(_ConvTranspose):
    """Transposed convolution of signals (batch, steps, channels). ``Convolution1DTranspose`` is the same class.

    Weights: ``kernel`` (size, filters, channels) and ``bias`` (filters,). Arguments and errors as for
    :class:`Conv2DTranspose`, sizes with one number.

    Source: Keras 3, keras.layers.Conv1DTranspose.

    >>> import numpy as np
    >>> Conv1DTranspose(4, 3, strides=2, padding="same")(np.zeros((1, 10, 2))).shape
    (1, 20, 4)
    """

    _RANK = 1


class Conv2DTranspose(_ConvTranspose):
    """Each pixel adds its multiple of ``filters`` kernels to the output: the input gradient of :class:`Conv2D`.

    ``Convolution2DTranspose`` is the same class. Weights: ``kernel`` (height, width, filters, channels), in this order,
    and ``bias`` (filters,). With ``F`` the extent of the dilated kernel each output size is

    - ``(W - 1) * S + max(F, S)`` for "valid", ``W * S`` for "same";
    - with an output padding ``(W - 1) * S + F + output_padding``, and for "same"
      ``(W - 1) * S + F % 2 + output_padding``.

    Args:
        filters: number of output channels.
        kernel_size: (height, width) of the kernel in pixels; an integer stands for both.
        strides: distance in the output between the kernels of neighbouring pixels.
        padding: "valid" or "same".
        output_padding: pixels by which the output is longer at the bottom and right, below the strides; None for the
            sizes above.
        data_format: "channels_last" (batch, height, width, channels), the default, or "channels_first".
        dilation_rate: distance between the kernel's elements in pixels.
        activation, use_bias, kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer,
            activity_regularizer, kernel_constraint, bias_constraint, **kwargs: as for :class:`Conv2D`.

    Raises:
        ValueError: for sizes that are not positive integers, an output padding that is not below the strides, strides
            together with dilation (as in Keras), an unknown name; when called, for inputs with another number of axes
            or other channels than the kernel, or of which nothing is left.

    Source: Zeiler et al., "Deconvolutional Networks" (2010); Keras 3, keras.layers.Conv2DTranspose.

    >>> import numpy as np
    >>> layer = Conv2DTranspose(8, 3, strides=2, padding="same")
    >>> layer(np.zeros((1, 7, 7, 16))).shape, layer.kernel.shape
    ((1, 14, 14, 8), (3, 3, 8, 16))
    """

    _RANK = 2


class Conv3DTranspose(_ConvTranspose):
    """Transposed convolution of volumes (batch, depth, height, width, channels).

    ``Convolution3DTranspose`` is the same class. Weights: ``kernel`` (depth, height, width, filters, channels) and
    ``bias`` (filters,). Arguments and errors as for :class:`Conv2DTranspose`, sizes with three numbers; but here Keras
    has ``data_format`` in front of ``output_padding``.

    Source: Keras 3, keras.layers.Conv3DTranspose.

    >>> import numpy as np
    >>> Conv3DTranspose(4, 2, strides=2)(np.zeros((1, 3, 3, 3, 2))).shape
    (1, 6, 6, 6, 4)
    """

    _RANK = 3

    def __init__(
        self,
        filters: int,
        kernel_size: int | Iterable[int],
        strides: int | Iterable[int] = 1,
        padding: str = "valid",
        data_format: str | None = None,
        output_padding: int | Iterable[int] | None = None,
        *others: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__(filters, kernel_size, strides, padding, output_padding, data_format, *others, **kwargs)


Convolution1DTranspose, Convolution2DTranspose, Convolution3DTranspose = (
    Conv1DTranspose,
    Conv2DTranspose,
    Conv3DTranspose,
)
