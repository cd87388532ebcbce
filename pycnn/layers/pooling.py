"""Pooling of signals, images and volumes: of fixed windows, of windows that fit the input, and of all there is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from pycnn import functional as F
from pycnn.layers import arguments
from pycnn.layers.layer import Layer
from pycnn.shapes import Shape
from pycnn.tensor import Tensor

__all__ = [
    "AdaptiveAveragePooling1D",
    "AdaptiveAveragePooling2D",
    "AdaptiveAveragePooling3D",
    "AdaptiveMaxPooling1D",
    "AdaptiveMaxPooling2D",
    "AdaptiveMaxPooling3D",
    "AveragePooling1D",
    "AveragePooling2D",
    "AveragePooling3D",
    "AvgPool1D",
    "AvgPool2D",
    "AvgPool3D",
    "GlobalAveragePooling1D",
    "GlobalAveragePooling2D",
    "GlobalAveragePooling3D",
    "GlobalAvgPool1D",
    "GlobalAvgPool2D",
    "GlobalAvgPool3D",
    "GlobalMaxPool1D",
    "GlobalMaxPool2D",
    "GlobalMaxPool3D",
    "GlobalMaxPooling1D",
    "GlobalMaxPooling2D",
    "GlobalMaxPooling3D",
    "LpPooling2D",
    "MaxPool1D",
    "MaxPool2D",
    "MaxPool3D",
    "MaxPooling1D",
    "MaxPooling2D",
    "MaxPooling3D",
    "MixedPooling2D",
]

#: An operation for each number of spatial axes.
_ByRank = dict[int, Callable[..., Any]]


class _Pooling(Layer):
    """What pooling of fixed windows shares: arguments, shapes, padding."""

    _RANK: int

    def __init__(
        self,
        pool_size: int | Iterable[int] = 2,
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
        """The shape of the pooled signals, images or volumes.

        Raises:
            ValueError: for inputs with another number of axes, or smaller than the window.
        """
        arguments.check_rank(self, self._RANK, self.data_format, input_shape)
        axes = arguments.spatial_axes(self._RANK, self.data_format)
        spatial = arguments.window_output_shape(
            self, input_shape, axes, self.pool_size, self.strides, self.padding, (1,) * self._RANK
        )
        return (*input_shape[: axes.start], *spatial, *input_shape[axes.stop :])

    def padding_of(self, input_shape: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
        """The padding, (before, after) for each axis, of inputs of this shape."""
        spatial = arguments.spatial_sizes(input_shape, self.data_format)
        return arguments.window_padding(spatial, self.pool_size, self.strides, self.padding, (1,) * self._RANK)

    def _windows(self, inputs: Tensor) -> dict[str, Any]:
        """The arguments of an operation that pools the inputs."""
        return {
            "kernel_size": self.pool_size,
            "stride": self.strides,
            "padding": self.padding_of(inputs.shape),
            "data_format": self.data_format,
        }


class _MaxPooling(_Pooling):
    _OPERATIONS: ClassVar[_ByRank] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}

    def call(self, inputs: Tensor) -> Tensor:
        """The maxima of the windows of ``inputs``."""
        return self._OPERATIONS[self._RANK](inputs, **self._windows(inputs))


class MaxPooling1D(_MaxPooling):
    """The largest value of each window of signals (batch, steps, channels), per channel.

    ``MaxPool1D`` is the same class. Arguments and errors as for :class:`MaxPooling2D`, sizes with one number.

    Source: Keras 3, keras.layers.MaxPooling1D.

    >>> import numpy as np
    >>> MaxPooling1D(2)(np.array([[[3.0], [1.0], [2.0], [5.0]]])).numpy().ravel()
    array([3., 5.], dtype=float32)
    """

    _RANK = 1


class MaxPooling2D(_MaxPooling):
    """The largest value of each window, per channel. ``MaxPool2D`` is the same class.

    Each output size is ``(W - F + 2P) / S + 1``, rounded down.

    Args:
        pool_size: (height, width) of the window in pixels; an integer stands for both.
        strides: step of the window in pixels; by default ``pool_size``.
        padding: "valid" (none) or "same", split as in TensorFlow; padding is never the maximum.
        data_format: "channels_last" (the default) or "channels_first".
        name: as for :class:`Layer`; further arguments likewise.

    Raises:
        ValueError: for sizes that are not positive integers or an unknown name; when called, for inputs with another
            number of axes or smaller than the window.

    Source: Keras 3, keras.layers.MaxPooling2D.

    >>> import numpy as np
    >>> image = np.arange(16.0).reshape(1, 4, 4, 1)
    >>> MaxPooling2D(pool_size=(2, 2))(image).numpy()[0, :, :, 0]
    array([[ 5.,  7.],
           [13., 15.]], dtype=float32)
    """

    _RANK = 2

    def windows_of(self, input_shape: tuple[int, ...]) -> dict[str, Any]:
        """The arguments of a function that pools what it computes, of this shape; see :func:`F.conv2d_max_pool2d`.

        Raises:
            ValueError: as for :meth:`compute_output_shape`.
        """
        self.accept_shape(input_shape)
        padding = self.padding_of(input_shape)
        return {"pool_size": self.pool_size, "pool_stride": self.strides, "pool_padding": padding}


class MaxPooling3D(_MaxPooling):
    """The largest value of each window of volumes (batch, depth, height, width, channels), per channel.

    ``MaxPool3D`` is the same class. Arguments and errors as for :class:`MaxPooling2D`, sizes with three numbers.

    Source: Keras 3, keras.layers.MaxPooling3D.

    >>> import numpy as np
    >>> MaxPooling3D()(np.arange(8.0).reshape(1, 2, 2, 2, 1)).numpy().ravel()
    array([7.], dtype=float32)
    """

    _RANK = 3


class _AveragePooling(_Pooling):
    _OPERATIONS: ClassVar[_ByRank] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}

    def call(self, inputs: Tensor) -> Tensor:
        """The means of the windows of ``inputs``."""
        return self._OPERATIONS[self._RANK](inputs, **self._windows(inputs), count_include_pad=False)


class AveragePooling1D(_AveragePooling):
    """The mean of each window of signals, per channel; padding does not count. ``AvgPool1D`` is the same class.

    Arguments and errors as for :class:`MaxPooling1D`.

    Source: Keras 3, keras.layers.AveragePooling1D.

    >>> import numpy as np
    >>> AveragePooling1D(2)(np.array([[[3.0], [1.0], [2.0], [5.0]]])).numpy().ravel()
    array([2. , 3.5], dtype=float32)
    """

    _RANK = 1


class AveragePooling2D(_AveragePooling):
    """The mean of each window, per channel; padding does not count. ``AvgPool2D`` is the same class.

    Arguments and errors as for :class:`MaxPooling2D`.

    Source: Keras 3, keras.layers.AveragePooling2D.

    >>> import numpy as np
    >>> image = np.arange(16.0).reshape(1, 4, 4, 1)
    >>> AveragePooling2D(2)(image).numpy()[0, :, :, 0]
    array([[ 2.5,  4.5],
           [10.5, 12.5]], dtype=float32)
    """

    _RANK = 2


class AveragePooling3D(_AveragePooling):
    """The mean of each window of volumes, per channel; padding does not count. ``AvgPool3D`` is the same class.

    Arguments and errors as for :class:`MaxPooling3D`.

    Source: Keras 3, keras.layers.AveragePooling3D.

    >>> import numpy as np
    >>> AveragePooling3D(2)(np.arange(8.0).reshape(1, 2, 2, 2, 1)).numpy().ravel()
    array([3.5], dtype=float32)
    """

    _RANK = 3


class LpPooling2D(_Pooling):
    """The norm of each window, ``(sum of x^p)^(1 / p)``, per channel; padding is zeros.

    With p = 1 it is the sum of a window, and with growing p it comes near its maximum.

    Args:
        pool_size, strides, padding, data_format, name: as for :class:`MaxPooling2D`.
        norm_type: the power p, positive. Negative elements are for even powers only.

    Raises:
        ValueError: as for :class:`MaxPooling2D`, and for a power that is no positive number.

    Source: Sermanet, Chintala and LeCun, "Convolutional Neural Networks Applied to House Numbers Digit Classification"
    (2012); :func:`pycnn.functional.lp_pool2d`. Keras has no such layer.

    >>> import numpy as np
    >>> LpPooling2D(2)(np.array([[1.0, 2.0], [2.0, 4.0]]).reshape(1, 2, 2, 1)).numpy().ravel()
    array([5.], dtype=float32)
    """

    _RANK = 2

    def __init__(
        self,
        pool_size: int | Iterable[int] = 2,
        strides: int | Iterable[int] | None = None,
        padding: str = "valid",
        data_format: str | None = None,
        name: str | None = None,
        *,
        norm_type: float = 2.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(pool_size, strides, padding, data_format, name, **kwargs)
        self.norm_type = arguments.number(norm_type, "norm_type", above=0)

    def call(self, inputs: Tensor) -> Tensor:
        """The norms of the windows of ``inputs``."""
        windows = self._windows(inputs)
        (top, bottom), (left, right) = windows.pop("padding")
        if self.padding == "same":
            inputs = F.pad(inputs, (left, right, top, bottom), data_format=self.data_format)
        return F.lp_pool2d(inputs, self.norm_type, **windows)


class MixedPooling2D(_Pooling):
    """While training the maximum or the mean of the windows, as it is drawn; otherwise half of each.

    Args:
        pool_size, strides, padding, data_format, name: as for :class:`MaxPooling2D`.
        part: of the maximum, in [0, 1]: then nothing is drawn.
        drawn_per: what is drawn for: "call" or "window".

    Raises:
        ValueError: as for :class:`MaxPooling2D`, and for a part outside [0, 1].

    Source: Yu et al., "Mixed Pooling for Convolutional Neural Networks", RSKT 2014;
    :func:`pycnn.functional.mixed_pool2d`. Keras has no such layer.

    >>> import numpy as np
    >>> MixedPooling2D(2)(np.array([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 2, 1)).numpy().ravel()
    array([3.25], dtype=float32)
    """

    _RANK = 2

    def __init__(
        self,
        pool_size: int | Iterable[int] = 2,
        strides: int | Iterable[int] | None = None,
        padding: str = "valid",
        data_format: str | None = None,
        name: str | None = None,
        *,
        part: float | None = None,
        drawn_per: str = "call",
        **kwargs: Any,
    ) -> None:
        super().__init__(pool_size, strides, padding, data_format, name, **kwargs)
        self.part = None if part is None else arguments.number(part, "part", least=0, most=1)
        self.drawn_per = arguments.choice(drawn_per, ("call", "window"), "drawn_per")

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """Maxima and means of the windows of ``inputs``, mixed."""
        settings = {"part": self.part, "drawn_per": self.drawn_per, "training": training}
        return F.mixed_pool2d(inputs, **self._windows(inputs), **settings)


class _GlobalPooling(Layer):
    """What pooling of everything shares: one window as large as the input."""

    _RANK: int
    _OPERATIONS: ClassVar[_ByRank]

    def __init__(self, data_format: str | None = None, keepdims: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_format = arguments.data_format(data_format)
        self.keepdims = bool(keepdims)
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        """One number for each channel of each sample of ``inputs``."""
        outputs = self._OPERATIONS[self._RANK](inputs, 1, data_format=self.data_format)
        if self.keepdims:
            return outputs
        return outputs.reshape(outputs.shape[0], inputs.shape[arguments.channel_axis(self._RANK, self.data_format)])

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """(batch, channels), or with the spatial axes, of size 1, where they are kept.

        Raises:
            ValueError: for inputs with another number of axes.
        """
        arguments.check_rank(self, self._RANK, self.data_format, input_shape)
        channels = input_shape[arguments.channel_axis(self._RANK, self.data_format)]
        spatial = (1,) * self._RANK if self.keepdims else ()
        return arguments.of_channels(input_shape, spatial, channels, self.data_format)


class _GlobalMaxPooling(_GlobalPooling):
    _OPERATIONS: ClassVar[_ByRank] = {1: F.adaptive_max_pool1d, 2: F.adaptive_max_pool2d, 3: F.adaptive_max_pool3d}


class GlobalMaxPooling1D(_GlobalMaxPooling):
    """The largest value of each channel of signals. ``GlobalMaxPool1D`` is the same class.

    Arguments and errors as for :class:`GlobalMaxPooling2D`.

    Source: Keras 3, keras.layers.GlobalMaxPooling1D.

    >>> import numpy as np
    >>> GlobalMaxPooling1D()(np.zeros((2, 9, 4))).shape
    (2, 4)
    """

    _RANK = 1


class GlobalMaxPooling2D(_GlobalMaxPooling):
    """The largest value of each channel of images. ``GlobalMaxPool2D`` is the same class.

    Args:
        data_format: "channels_last" (the default) or "channels_first".
        keepdims: whether the spatial axes stay, with size 1.
        **kwargs: as for :class:`Layer`.

    Raises:
        ValueError: for an unknown name; when called, for inputs with another number of axes.

    Source: Keras 3, keras.layers.GlobalMaxPooling2D. (Where a channel has its largest value several times, the gradient
    goes to the first; some of Keras' backends divide it among them.)

    >>> import numpy as np
    >>> x = np.zeros((2, 9, 9, 4))
    >>> GlobalMaxPooling2D()(x).shape, GlobalMaxPooling2D(keepdims=True)(x).shape
    ((2, 4), (2, 1, 1, 4))
    """

    _RANK = 2


class GlobalMaxPooling3D(_GlobalMaxPooling):
    """The largest value of each channel of volumes. ``GlobalMaxPool3D`` is the same class.

    Arguments and errors as for :class:`GlobalMaxPooling2D`.

    Source: Keras 3, keras.layers.GlobalMaxPooling3D.

    >>> import numpy as np
    >>> GlobalMaxPooling3D()(np.zeros((2, 3, 3, 3, 4))).shape
    (2, 4)
    """

    _RANK = 3


class _GlobalAveragePooling(_GlobalPooling):
    _OPERATIONS: ClassVar[_ByRank] = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}


class GlobalAveragePooling1D(_GlobalAveragePooling):
    """The mean of each channel of signals. ``GlobalAvgPool1D`` is the same class.

    Arguments and errors as for :class:`GlobalMaxPooling2D`.

    Source: Keras 3, keras.layers.GlobalAveragePooling1D.

    >>> import numpy as np
    >>> GlobalAveragePooling1D()(np.array([[[1.0], [2.0], [6.0]]])).numpy()
    array([[3.]], dtype=float32)
    """

    _RANK = 1


class GlobalAveragePooling2D(_GlobalAveragePooling):
    """The mean of each channel of images. ``GlobalAvgPool2D`` is the same class.

    Arguments and errors as for :class:`GlobalMaxPooling2D`.

    Source: Lin, Chen and Yan, "Network In Network" (2014); Keras 3, keras.layers.GlobalAveragePooling2D.

    >>> import numpy as np
    >>> GlobalAveragePooling2D()(np.arange(4.0).reshape(1, 2, 2, 1)).numpy()
    array([[1.5]], dtype=float32)
    """

    _RANK = 2


class GlobalAveragePooling3D(_GlobalAveragePooling):
    """The mean of each channel of volumes. ``GlobalAvgPool3D`` is the same class.

    Arguments and errors as for :class:`GlobalMaxPooling2D`.

    Source: Keras 3, keras.layers.GlobalAveragePooling3D.

    >>> import numpy as np
    >>> GlobalAveragePooling3D()(np.arange(8.0).reshape(1, 2, 2, 2, 1)).numpy()
    array([[3.5]], dtype=float32)
    """

    _RANK = 3


class _AdaptivePooling(Layer):
    """What pooling into a given number of windows shares."""

    _RANK: int
    _OPERATIONS: ClassVar[_ByRank]

    def __init__(self, output_size: int | Iterable[int], data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.output_size = arguments.sizes(output_size, self._RANK, "output_size")
        self.data_format = arguments.data_format(data_format)
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        """So many windows of ``inputs``, pooled."""
        return self._OPERATIONS[self._RANK](inputs, self.output_size, data_format=self.data_format)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The input shape with ``output_size`` in the place of its spatial sizes.

        Raises:
            ValueError: for inputs with another number of axes.
        """
        arguments.check_rank(self, self._RANK, self.data_format, input_shape)
        channels = input_shape[arguments.channel_axis(self._RANK, self.data_format)]
        return arguments.of_channels(input_shape, self.output_size, channels, self.data_format)


class _AdaptiveAveragePooling(_AdaptivePooling):
    _OPERATIONS = _GlobalAveragePooling._OPERATIONS


class AdaptiveAveragePooling1D(_AdaptiveAveragePooling):
    """The means of as many windows of signals as are wanted; as :class:`AdaptiveAveragePooling2D`.

    Source: Keras 3, keras.layers.AdaptiveAveragePooling1D.

    >>> import numpy as np
    >>> AdaptiveAveragePooling1D(2)(np.array([[[1.0], [2.0], [6.0]]])).numpy().ravel()
    array([1.5, 4. ], dtype=float32)
    """

    _RANK = 1


class AdaptiveAveragePooling2D(_AdaptiveAveragePooling):
    """The means of as many windows of images as are wanted, which cover the input evenly.

    Window o of O along an axis of size W holds the pixels from ``floor(o * W / O)`` up to ``ceil((o + 1) * W / O)``.

    Args:
        output_size: (height, width) of the output; an integer stands for both.
        data_format: "channels_last" (the default) or "channels_first".
        **kwargs: as for :class:`Layer`.

    Raises:
        ValueError: for sizes that are not positive integers or an unknown name; when called, for inputs with another
            number of axes.

    Source: Keras 3, keras.layers.AdaptiveAveragePooling2D.

    >>> import numpy as np
    >>> AdaptiveAveragePooling2D(2)(np.arange(9.0).reshape(1, 3, 3, 1)).numpy()[0, :, :, 0]
    array([[2., 3.],
           [5., 6.]], dtype=float32)
    """

    _RANK = 2


class AdaptiveAveragePooling3D(_AdaptiveAveragePooling):
    """The means of as many windows of volumes as are wanted; as :class:`AdaptiveAveragePooling2D`.

    Source: Keras 3, keras.layers.AdaptiveAveragePooling3D.

    >>> import numpy as np
    >>> AdaptiveAveragePooling3D(1)(np.arange(8.0).reshape(1, 2, 2, 2, 1)).numpy().ravel()
    array([3.5], dtype=float32)
    """

    _RANK = 3


class _AdaptiveMaxPooling(_AdaptivePooling):
    _OPERATIONS = _GlobalMaxPooling._OPERATIONS


class AdaptiveMaxPooling1D(_AdaptiveMaxPooling):
    """The largest values of as many windows of signals as are wanted; as :class:`AdaptiveAveragePooling2D`.

    Source: Keras 3, keras.layers.AdaptiveMaxPooling1D.

    >>> import numpy as np
    >>> AdaptiveMaxPooling1D(2)(np.array([[[1.0], [2.0], [6.0]]])).numpy().ravel()
    array([2., 6.], dtype=float32)
    """

    _RANK = 1


class AdaptiveMaxPooling2D(_AdaptiveMaxPooling):
    """The largest values of as many windows of images as are wanted; as :class:`AdaptiveAveragePooling2D`.

    Source: Keras 3, keras.layers.AdaptiveMaxPooling2D.

    >>> import numpy as np
    >>> AdaptiveMaxPooling2D(2)(np.arange(9.0).reshape(1, 3, 3, 1)).numpy()[0, :, :, 0]
    array([[4., 5.],
           [7., 8.]], dtype=float32)
    """

    _RANK = 2


class AdaptiveMaxPooling3D(_AdaptiveMaxPooling):
    """The largest values of as many windows of volumes as are wanted; as :class:`AdaptiveAveragePooling2D`.

    Source: Keras 3, keras.layers.AdaptiveMaxPooling3D.

    >>> import numpy as np
    >>> AdaptiveMaxPooling3D(1)(np.arange(8.0).reshape(1, 2, 2, 2, 1)).numpy().ravel()
    array([7.], dtype=float32)
    """

    _RANK = 3


AvgPool1D, AvgPool2D, AvgPool3D = AveragePooling1D, AveragePooling2D, AveragePooling3D
MaxPool1D, MaxPool2D, MaxPool3D = MaxPooling1D, MaxPooling2D, MaxPooling3D
GlobalAvgPool1D, GlobalAvgPool2D, GlobalAvgPool3D = (
    GlobalAveragePooling1D,
    GlobalAveragePooling2D,
    GlobalAveragePooling3D,
)
GlobalMaxPool1D, GlobalMaxPool2D, GlobalMaxPool3D = GlobalMaxPooling1D, GlobalMaxPooling2D, GlobalMaxPooling3D
