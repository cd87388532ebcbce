"""Zeros around signals, images and volumes, and borders cut off them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

from pycnn import functional as F
from pycnn.layers import arguments
from pycnn.layers.layer import Layer
from pycnn.shapes import Shape
from pycnn.tensor import Tensor

__all__ = ["Cropping1D", "Cropping2D", "Cropping3D", "ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D"]

#: Numbers of elements at the two ends of an axis.
Ends = tuple[int, int]

#: What the arguments take for one axis, and for several.
OneAxis = int | Iterable[int]
Axes = int | Iterable[int | Iterable[int]]


class _Border(Layer):
    """What padding and cropping share: so many elements at both ends of each spatial axis, added or taken away."""

    _RANK: int
    #: What becomes of an end: 1 where elements are added, -1 where they are taken away.
    _SIGN: int
    _NOT_CONFIGURED = (*Layer._NOT_CONFIGURED, "ends")

    def _keep(self, ends: tuple[Ends, ...], data_format: str | None) -> None:
        """What a constructor has read."""
        self._ends = ends
        self.data_format = arguments.data_format(data_format)
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        """``inputs`` with other borders."""
        numbers = tuple(self._SIGN * number for ends in reversed(self._ends) for number in ends)
        return F.pad(inputs, numbers, data_format=self.data_format)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The input shape with each spatial size longer or shorter; None stays None.

        Raises:
            ValueError: for inputs with another number of axes, or of which nothing would be left.
        """
        arguments.check_rank(self, self._RANK, self.data_format, input_shape)
        axes = arguments.spatial_axes(self._RANK, self.data_format)
        found = list(input_shape)
        for axis, ends in zip(axes, self._ends):
            size = input_shape[axis]
            if size is not None:
                found[axis] = left = size + self._SIGN * sum(ends)
                if left < 1:
                    raise ValueError(
                        f"{self}: expected more than {sum(ends)} elements along axis {axis}, of which so many are cut "
                        f"off, received input shape {input_shape}"
                    )
        return tuple(found)


def _ends_of_axes(value: Axes, rank: int, name: str) -> tuple[Ends, ...]:
    """(before, after) for each axis, from one integer, one for each axis, or a pair for each.

    >>> _ends_of_axes((1, (2, 3)), 2, "padding")
    ((1, 1), (2, 3))

    Raises:
        ValueError: anything else, and negative integers.
    """
    each = tuple(value) if isinstance(value, Iterable) else (value,) * rank
    if len(each) == rank:
        with contextlib.suppress(ValueError):
            return tuple(_ends(ends, name) for ends in each)
    raise ValueError(
        f"{name}: expected an integer of at least 0, {rank} such integers, or {rank} pairs (before, after), received "
        f"{value!r}"
    )


def _ends(value: OneAxis, name: str) -> Ends:
    """(before, after) from one integer or both; raises as :func:`_ends_of_axes`."""
    before, after = arguments.sizes(value, 2, name, least=0)
    return before, after


class ZeroPadding1D(_Border):
    """Zeros before and behind signals (batch, steps, channels).

    Args:
        padding: how many at both ends, or (before, after).
        data_format: "channels_last" (the default) or "channels_first".
        **kwargs: as for :class:`Layer`.

    Raises:
        ValueError: as for :class:`ZeroPadding2D`.

    Source: Keras 3, keras.layers.ZeroPadding1D.

    >>> import numpy as np
    >>> ZeroPadding1D((2, 1))(np.ones((1, 2, 1))).numpy().ravel()
    array([0., 0., 1., 1., 0.], dtype=float32)
    """

    _RANK, _SIGN = 1, 1

    def __init__(self, padding: OneAxis = 1, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.padding = _ends(padding, "padding")
        self._keep((self.padding,), data_format)


class ZeroPadding2D(_Border):
    """Rows and columns of zeros around images.

    Args:
        padding: how many on all sides; (vertically, horizontally); or ((top, bottom), (left, right)). A negative
            number, by which Keras cuts rows off where its backend does, is refused: ``Cropping2D`` is for that.
        data_format: "channels_last" (the default) or "channels_first".
        **kwargs: as for :class:`Layer`.

    Raises:
        ValueError: for a padding that is none of these, negative numbers or an unknown data_format; when called, for
            inputs with another number of axes.

    Source: Keras 3, keras.layers.ZeroPadding2D.

    >>> import numpy as np
    >>> ZeroPadding2D(((1, 0), (0, 2)))(np.ones((1, 1, 2, 1))).numpy()[0, :, :, 0]
    array([[0., 0., 0., 0.],
           [1., 1., 0., 0.]], dtype=float32)
    """

    _RANK, _SIGN = 2, 1

    def __init__(self, padding: Axes = (1, 1), data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.padding = _ends_of_axes(padding, self._RANK, "padding")
        self._keep(self.padding, data_format)


class ZeroPadding3D(_Border):
    """Zeros around volumes (batch, depth, height, width, channels); otherwise as :class:`ZeroPadding2D`.

    Source: Keras 3, keras.layers.ZeroPadding3D.

    >>> import numpy as np
    >>> ZeroPadding3D((1, 0, 2))(np.zeros((1, 4, 5, 6, 2))).shape
    (1, 6, 5, 10, 2)
    """

    _RANK, _SIGN = 3, 1

    def __init__(self, padding: Axes = ((1, 1), (1, 1), (1, 1)), data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.padding = _ends_of_axes(padding, self._RANK, "padding")
        self._keep(self.padding, data_format)


class Cropping1D(_Border):
    """Signals (batch, steps, channels) without their first and last steps.

    Args:
        cropping: how many steps are cut off both ends, or (first, last).
        **kwargs: as for :class:`Layer`.

    Raises:
        ValueError: as for :class:`Cropping2D`.

    Source: Keras 3, keras.layers.Cropping1D.

    >>> import numpy as np
    >>> Cropping1D((2, 1))(np.arange(5.0).reshape(1, 5, 1)).numpy().ravel()
    array([2., 3.], dtype=float32)
    """

    _RANK, _SIGN = 1, -1

    def __init__(self, cropping: OneAxis = (1, 1), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cropping = _ends(cropping, "cropping")
        self._keep((self.cropping,), None)


class Cropping2D(_Border):
    """Images without their border.

    Args:
        cropping: how many rows and columns are cut off all sides; (vertically, horizontally); or
            ((top, bottom), (left, right)).
        data_format: "channels_last" (the default) or "channels_first".
        **kwargs: as for :class:`Layer`.

    Raises:
        ValueError: for a cropping that is none of these, negative numbers or an unknown data_format; when called, for
            inputs with another number of axes, or of which nothing would be left.

    Source: Keras 3, keras.layers.Cropping2D.

    >>> import numpy as np
    >>> Cropping2D(((1, 0), (0, 2)))(np.arange(8.0).reshape(1, 2, 4, 1)).numpy()[0, :, :, 0]
    array([[4., 5.]], dtype=float32)
    """

    _RANK, _SIGN = 2, -1

    def __init__(self, cropping: Axes = ((0, 0), (0, 0)), data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cropping = _ends_of_axes(cropping, self._RANK, "cropping")
        self._keep(self.cropping, data_format)


class Cropping3D(_Border):
    """Volumes (batch, depth, height, width, channels) without their border; otherwise as :class:`Cropping2D`.

    Source: Keras 3, keras.layers.Cropping3D.

    >>> import numpy as np
    >>> Cropping3D()(np.zeros((1, 4, 5, 6, 2))).shape
    (1, 2, 3, 4, 2)
    """

    _RANK, _SIGN = 3, -1

    def __init__(
        self, cropping: Axes = ((1, 1), (1, 1), (1, 1)), data_format: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.cropping = _ends_of_axes(cropping, self._RANK, "cropping")
        self._keep(self.cropping, data_format)
