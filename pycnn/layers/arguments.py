"""Checks of the arguments that several layers share."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Literal

from pycnn.naming import nearest
from pycnn.shapes import Shape
from pycnn_kernels.problem import effective_kernel, output_size, same_padding

DataFormat = Literal["channels_last", "channels_first"]


def sizes(value: int | Iterable[int], count: int, name: str) -> tuple[int, ...]:
    """``value`` as ``count`` positive integers; one integer stands for all of them.

    >>> sizes(3, 2, "kernel_size")
    (3, 3)

    Raises:
        ValueError: when it is anything but one or ``count`` positive integers.
    """
    try:
        found = (operator.index(value),) * count  # type: ignore[arg-type]
    except TypeError:
        try:
            found = tuple(operator.index(size) for size in value)  # type: ignore[union-attr]
        except TypeError:
            found = ()
    if len(found) != count or min(found) < 1:
        expected = "a positive integer" if count == 1 else f"a positive integer or {count} of them"
        raise ValueError(f"{name}: expected {expected}, received {value!r}")
    return found


def positive(value: Any, name: str) -> int:
    """``value`` as a positive integer.

    Raises:
        ValueError: when it is anything else.
    """
    return sizes(value, 1, name)[0]


def choice(value: Any, known: tuple[str, ...], name: str) -> Any:
    """``value``, which must be one of ``known``.

    Raises:
        ValueError: when it is not; the message names the nearest.
    """
    if value not in known:
        hint = nearest(str(value), known)
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, known))}, received {value!r}.{hint}")
    return value


def data_format(value: str | None) -> DataFormat:
    """The order of axes: None is ``"channels_last"``, as in Keras.

    Raises:
        ValueError: when it is neither ``"channels_last"`` nor ``"channels_first"``.
    """
    found: DataFormat = choice(value or "channels_last", ("channels_last", "channels_first"), "data_format")
    return found


def padding(value: str) -> str:
    """``"valid"`` or ``"same"``, in either case of letters.

    Raises:
        ValueError: when it is neither.
    """
    found: str = choice(value.lower() if isinstance(value, str) else value, ("valid", "same"), "padding")
    return found


def spatial_axes(rank: int, layout: DataFormat) -> range:
    """Where the spatial axes are in an array of ``rank`` spatial axes, a batch axis and a channel axis."""
    return range(1, rank + 1) if layout == "channels_last" else range(2, rank + 2)


def channel_axis(rank: int, layout: DataFormat) -> int:
    """Where the channels are in an array of ``rank`` spatial axes, a batch axis and a channel axis."""
    return rank + 1 if layout == "channels_last" else 1


def window_output(size: int | None, window: int, stride: int, dilation: int, mode: str) -> int | None:
    """The output size along one axis for padding ``"valid"`` or ``"same"``; 0 or less where nothing fits."""
    if size is None:
        return None
    before_after = same_padding(size, window, stride, dilation) if mode == "same" else (0, 0)
    return output_size(size, window, stride, before_after, dilation)


@lru_cache(maxsize=4096)
def window_padding(
    spatial: tuple[int, ...],
    window: tuple[int, ...],
    strides: tuple[int, ...],
    mode: str,
    dilation: tuple[int, ...],
) -> tuple[tuple[int, int], ...]:
    """(before, after) for each spatial axis, split as TensorFlow does for ``"same"``.

    >>> window_padding((6, 6), (3, 3), (2, 2), "same", (1, 1))
    ((0, 1), (0, 1))
    """
    if mode == "valid":
        return ((0, 0),) * len(spatial)
    return tuple(same_padding(*axis) for axis in zip(spatial, window, strides, dilation))


@lru_cache(maxsize=4096)
def _window_outputs(
    spatial: tuple[int | None, ...],
    window: tuple[int, ...],
    strides: tuple[int, ...],
    mode: str,
    dilation: tuple[int, ...],
) -> tuple[tuple[int | None, ...], bool]:
    """The output sizes, and whether the window fits along each axis; every step of a training run asks again."""
    found = tuple(window_output(*axis, mode) for axis in zip(spatial, window, strides, dilation))
    return found, all(size is None or size > 0 for size in found)


def window_output_shape(
    layer: object,
    input_shape: Shape,
    axes: range,
    window: tuple[int, ...],
    strides: tuple[int, ...],
    mode: str,
    dilation: tuple[int, ...],
) -> tuple[int | None, ...]:
    """The spatial output sizes of a convolution or pooling layer.

    Raises:
        ValueError: when the window does not fit into the input; the message names the layer.
    """
    spatial = input_shape[axes.start : axes.stop]
    found, fits = _window_outputs(spatial, window, strides, mode, dilation)
    if not fits:
        extent = tuple(effective_kernel(*axis) for axis in zip(window, dilation))
        raise ValueError(
            f"{layer}: a window of {extent} does not fit into its input of {spatial} pixels (input shape "
            f"{input_shape}). Expected an input at least as large as the window: use padding='same', a smaller "
            "window, or fewer layers that shrink the image before this one"
        )
    return found
