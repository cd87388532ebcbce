"""Pooling of images: the maximum or the average of each window."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pycnn import functional as F
from pycnn.layers import arguments
from pycnn.layers.layer import Layer
from pycnn.shapes import Shape
from pycnn.tensor import Tensor


class _Pooling2D(Layer):
    """What both kinds of pooling share: arguments, shapes, padding."""

    _RANK = 2

    def __init__(
        self,
        pool_size: int | Iterable[int] = (2, 2),
        strides: int | Iterable[int] | None = None,
        padding: str = "valid",
        data_format: str | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.pool_size = arguments.sizes(pool_size, self._RANK, "pool_size")
        self.strides = self.pool_size if strides is None else arguments.sizes(strides, self._RANK, "strides")
        self.padding = arguments.padding(padding)
        self.data_format = arguments.data_format(data_format)
        self.built = True

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The shape of the pooled images.

        Raises:
            ValueError: for inputs that are not four-dimensional or smaller than the window.
        """
        if len(input_shape) != self._RANK + 2:
            raise ValueError(
                f"{self}: expected {self._RANK + 2} axes ({self.data_format}), received input shape {input_shape}"
            )
        axes = arguments.spatial_axes(self._RANK, self.data_format)
        spatial = arguments.window_output_shape(
            self, input_shape, axes, self.pool_size, self.strides, self.padding, (1,) * self._RANK
        )
        return (*input_shape[: axes.start], *spatial, *input_shape[axes.stop :])

    def padding_of(self, input_shape: Sequence[int]) -> tuple[tuple[int, int], ...]:
        """The padding, (before, after) for each axis, of inputs of this shape."""
        axes = arguments.spatial_axes(self._RANK, self.data_format)
        spatial = tuple(input_shape[axis] for axis in axes)
        return arguments.window_padding(spatial, self.pool_size, self.strides, self.padding, (1,) * self._RANK)


class MaxPooling2D(_Pooling2D):
    """The largest value of each window, per channel. ``MaxPool2D`` is the same class.

    Each output size is ``(W - F + 2P) / S + 1``, rounded down.

    Args:
        pool_size: (height, width) of the window in pixels; an integer stands for both.
        strides: step of the window in pixels; by default ``pool_size``.
        padding: "valid" (none) or "same", split as in TensorFlow; padding is never the maximum.
        data_format: "channels_last" (the default) or "channels_first".
        name: as for :class:`Layer`; further arguments likewise.

    Raises:
        ValueError: as for :class:`Conv2D`.

    Source: Keras 3, keras.layers.MaxPooling2D.

    >>> import numpy as np
    >>> image = np.arange(16.0).reshape(1, 4, 4, 1)
    >>> MaxPooling2D(pool_size=(2, 2))(image).numpy()[0, :, :, 0]
    array([[ 5.,  7.],
           [13., 15.]], dtype=float32)
    """

    def windows_of(self, input_shape: tuple[int, ...]) -> dict[str, Any]:
        """The arguments of a function that pools what it computes, of this shape; see :func:`F.conv2d_max_pool2d`.

        Raises:
            ValueError: as for :meth:`compute_output_shape`.
        """
        self.accept_shape(input_shape)
        padding = self.padding_of(input_shape)
        return {"pool_size": self.pool_size, "pool_stride": self.strides, "pool_padding": padding}

    def call(self, inputs: Tensor) -> Tensor:
        """The maxima of the windows of ``inputs``."""
        return F.max_pool2d(
            inputs,
            self.pool_size,
            stride=self.strides,
            padding=self.padding_of(inputs.shape),
            data_format=self.data_format,
        )


class AveragePooling2D(_Pooling2D):
    """The mean of each window, per channel; padding does not count. ``AvgPool2D`` is the same class.

    Arguments and errors as for :class:`MaxPooling2D`.

    Source: Keras 3, keras.layers.AveragePooling2D.

    >>> import numpy as np
    >>> image = np.arange(16.0).reshape(1, 4, 4, 1)
    >>> AveragePooling2D(2)(image).numpy()[0, :, :, 0]
    array([[ 2.5,  4.5],
           [10.5, 12.5]], dtype=float32)
    """

    def call(self, inputs: Tensor) -> Tensor:
        """The means of the windows of ``inputs``."""
        return F.avg_pool2d(
            inputs,
            self.pool_size,
            stride=self.strides,
            padding=self.padding_of(inputs.shape),
            count_include_pad=False,
            data_format=self.data_format,
        )


MaxPool2D = MaxPooling2D
AvgPool2D = AveragePooling2D
