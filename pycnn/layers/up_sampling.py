"""Signals, images and volumes made several times as large."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pycnn import functional as F
from pycnn.layers import arguments
from pycnn.layers.layer import Layer
from pycnn.shapes import Shape
from pycnn.tensor import Tensor

__all__ = ["UpSampling1D", "UpSampling2D", "UpSampling3D"]

#: Keras' names of interpolations, and what the functional operation calls them. Of an enlarged pixel "nearest-exact"
#: takes the centre: rounding then cannot reach another pixel, whatever the factor is.
INTERPOLATIONS = {"nearest": "nearest-exact", "bilinear": "bilinear", "bicubic": "bicubic"}


def resizing_of(value: Any) -> str:
    """The name of an interpolation of images, in either case of letters.

    Raises:
        ValueError: when it is none of "nearest", "bilinear" and "bicubic"; Lanczos' are not computed, as in Keras on
            PyTorch.
    """
    found: str = arguments.choice(
        value.lower() if isinstance(value, str) else value, tuple(INTERPOLATIONS), "interpolation"
    )
    return found


class _UpSampling(Layer):
    """What enlarging shares: a factor for each spatial axis."""

    _RANK: int
    interpolation = "nearest"

    def __init__(self, factors: tuple[int, ...], data_format: str | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_format = arguments.data_format(data_format)
        self._factors = factors
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        """``inputs``, enlarged."""
        axes = arguments.spatial_axes(self._RANK, self.data_format)
        sizes = tuple(inputs.shape[axis] * factor for axis, factor in zip(axes, self._factors))
        return F.interpolate(inputs, sizes, mode=INTERPOLATIONS[self.interpolation], data_format=self.data_format)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The input shape with each spatial size so many times as large; None stays None.

        Raises:
            ValueError: for inputs with another number of axes.
        """
        arguments.check_rank(self, self._RANK, self.data_format, input_shape)
        found = list(input_shape)
        for axis, factor in zip(arguments.spatial_axes(self._RANK, self.data_format), self._factors):
            size = input_shape[axis]
            found[axis] = None if size is None else size * factor
        return tuple(found)


class UpSampling1D(_UpSampling):
    """Each step of signals (batch, steps, channels) ``size`` times.

    Args:
        size: how often, a positive integer.
        **kwargs: as for :class:`Layer`.

    Raises:
        ValueError: for a size that is no positive integer; when called, for inputs with another number of axes.

    Source: Keras 3, keras.layers.UpSampling1D.

    >>> import numpy as np
    >>> UpSampling1D(2)(np.array([[[1.0], [2.0]]])).numpy().ravel()
    array([1., 1., 2., 2.], dtype=float32)
    """

    _RANK = 1

    def __init__(self, size: int = 2, **kwargs: Any) -> None:
        if isinstance(size, bool):
            raise ValueError(f"size: expected a positive integer, received {size!r}")
        super().__init__((arguments.positive(size, "size"),), None, **kwargs)
        self.size = self._factors[0]


class UpSampling2D(_UpSampling):
    """Images several times as high and wide.

    "nearest" repeats pixels. "bilinear" and "bicubic" weight the neighbours of ``(o + 0.5) / size - 0.5``, where pixel
    o of the output lies; see :func:`pycnn.functional.interpolate`.

    Args:
        size: how many times as high and as wide, a positive integer or (height, width).
        data_format: "channels_last" (the default) or "channels_first".
        interpolation: "nearest", "bilinear" or "bicubic".
        **kwargs: as for :class:`Layer`.

    Raises:
        ValueError: for sizes that are no positive integers, or an unknown name, Keras' "lanczos3" and "lanczos5" among
            them; when called, for inputs with another number of axes.

    Source: Keras 3, keras.layers.UpSampling2D.

    >>> import numpy as np
    >>> UpSampling2D((1, 2))(np.array([[1.0, 2.0]]).reshape(1, 1, 2, 1)).numpy().ravel()
    array([1., 1., 2., 2.], dtype=float32)
    >>> UpSampling2D((1, 2), interpolation="bilinear")(np.array([[1.0, 2.0]]).reshape(1, 1, 2, 1)).numpy().ravel()
    array([1.  , 1.25, 1.75, 2.  ], dtype=float32)
    """

    _RANK = 2

    def __init__(
        self,
        size: int | Iterable[int] = (2, 2),
        data_format: str | None = None,
        interpolation: str = "nearest",
        **kwargs: Any,
    ) -> None:
        super().__init__(arguments.sizes(size, self._RANK, "size"), data_format, **kwargs)
        self.size = self._factors
        self.interpolation = resizing_of(interpolation)


class UpSampling3D(_UpSampling):
    """Each voxel of volumes (batch, depth, height, width, channels) several times along each axis.

    Args:
        size: how often, a positive integer or (depth, height, width).
        data_format: "channels_last" (the default) or "channels_first".
        **kwargs: as for :class:`Layer`.

    Raises:
        ValueError: for sizes that are no positive integers or an unknown data_format; when called, for inputs with
            another number of axes.

    Source: Keras 3, keras.layers.UpSampling3D.

    >>> import numpy as np
    >>> UpSampling3D((1, 2, 3))(np.zeros((1, 4, 5, 6, 2))).shape
    (1, 4, 10, 18, 2)
    """

    _RANK = 3

    def __init__(self, size: int | Iterable[int] = (2, 2, 2), data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(arguments.sizes(size, self._RANK, "size"), data_format, **kwargs)
        self.size = self._factors
