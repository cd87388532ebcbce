"""Checks of the arguments that several layers share."""

from __future__ import annotations

import contextlib
import math
import operator
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Literal, TypeVar

import numpy as np

from pycnn.naming import nearest
from pycnn.shapes import Shape
from pycnn_kernels.problem import effective_kernel, output_size, same_padding

_Size = TypeVar("_Size", int, int | None)

DataFormat = Literal["channels_last", "channels_first"]


def sizes(value: int | Iterable[int], count: int, name: str, least: int = 1) -> tuple[int, ...]:
    """``value`` as ``count`` integers, positive ones or at least ``least``; one integer stands for all of them.

    >>> sizes(3, 2, "kernel_size")
    (3, 3)

    Raises:
        ValueError: when it is anything but one or ``count`` such integers.
    """
    try:
        found = (operator.index(value),) * count  # type: ignore[arg-type]
    except TypeError:
        try:
            found = tuple(operator.index(size) for size in value)  # type: ignore[union-attr]
        except TypeError:
            found = ()
    if len(found) != count or min(found) < least:
        expected = "a positive integer" if least == 1 else f"an integer of at least {least}"
        expected += "" if count == 1 else f" or {count} of them"
        raise ValueError(f"{name}: expected {expected}, received {value!r}")
    return found


def positive(value: Any, name: str) -> int:
    """``value`` as a positive integer.

    Raises:
        ValueError: when it is anything else.
    """
    return sizes(value, 1, name)[0]


def integers(value: int | Iterable[int], name: str, or_one: bool = False) -> tuple[int, ...]:
    """``value`` as integers of any count; with ``or_one`` a single one stands for itself.

    >>> integers([2, -1], "target_shape"), integers(1, "shared_axes", or_one=True)
    ((2, -1), (1,))

    Raises:
        ValueError: when it is anything else.
    """
    given: Any = value
    if or_one:
        with contextlib.suppress(TypeError):
            return (operator.index(given),)
    try:
        return tuple(map(operator.index, given))
    except TypeError:
        expected = "an integer or several" if or_one else "a tuple of integers"
        raise ValueError(f"{name}: expected {expected}, received {value!r}") from None


def seed(value: Any) -> int | None:
    """``value`` as a seed of random numbers, an integer of at least 0, or None.

    Raises:
        ValueError: when it is anything else.
    """
    return None if value is None else sizes(value, 1, "seed", least=0)[0]


def number(
    value: Any,
    name: str,
    *,
    least: float = -math.inf,
    above: float = -math.inf,
    most: float = math.inf,
    below: float = math.inf,
) -> float:
    """``value`` as a finite number within limits.

    >>> number(1, "rate", least=0, most=1)
    1.0

    Raises:
        ValueError: when it is anything else.
    """
    numeric = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not numeric or not (least <= value <= most and above < value < below):
        limits = [("of at least", least), ("above", above), ("of at most", most), ("below", below)]
        said = " and ".join(f"{word} {limit:g}" for word, limit in limits if math.isfinite(limit))
        raise ValueError(f"{name}: expected a finite number {said}".rstrip() + f", received {value!r}")
    return float(value)


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


def padding(value: str, known: tuple[str, ...] = ("valid", "same")) -> str:
    """``"valid"`` or ``"same"``, or whatever else is ``known``, in either case of letters.

    Raises:
        ValueError: when it is none of them.
    """
    found: str = choice(value.lower() if isinstance(value, str) else value, known, "padding")
    return found


def check_rank(layer: object, rank: int, layout: DataFormat, input_shape: Shape) -> None:
    """Raise a ValueError unless an input shape has ``rank`` spatial axes, a batch axis and a channel axis."""
    if len(input_shape) != rank + 2:
        raise ValueError(f"{layer}: expected {rank + 2} axes ({layout}), received input shape {input_shape}")


def known_channels(layer: object, rank: int, layout: DataFormat, input_shape: Shape) -> int:
    """The channels of an input shape.

    Raises:
        ValueError: when it has another number of axes, or its channels are not known.
    """
    check_rank(layer, rank, layout, input_shape)
    channels = input_shape[channel_axis(rank, layout)]
    if channels is None:
        raise ValueError(f"{layer}: expected a known number of channels, received input shape {input_shape}")
    return channels


def of_channels(input_shape: Shape, spatial: Shape, channels: int | None, layout: DataFormat) -> Shape:
    """The shape of a batch with such spatial sizes and channels."""
    if layout == "channels_last":
        return (input_shape[0], *spatial, channels)
    return (input_shape[0], channels, *spatial)


def spatial_axes(rank: int, layout: DataFormat) -> range:
    """Where the spatial axes are in an array of ``rank`` spatial axes, a batch axis and a channel axis."""
    return range(1, rank + 1) if layout == "channels_last" else range(2, rank + 2)


def spatial_sizes(input_shape: tuple[_Size, ...], layout: DataFormat) -> tuple[_Size, ...]:
    """The spatial sizes of the shape of a batch."""
    return input_shape[1:-1] if layout == "channels_last" else input_shape[2:]


def channel_axis(rank: int, layout: DataFormat) -> int:
    """Where the channels are in an array of ``rank`` spatial axes, a batch axis and a channel axis."""
    return rank + 1 if layout == "channels_last" else 1


def axis_padding(size: int, window: int, stride: int, dilation: int, mode: str) -> tuple[int, int]:
    """(before, after) along one axis: none for "valid", all of it before for "causal", split as TensorFlow for "same".

    >>> axis_padding(6, 3, 2, 1, "same"), axis_padding(6, 3, 1, 2, "causal")
    ((0, 1), (4, 0))
    """
    if mode == "same":
        return same_padding(size, window, stride, dilation)
    return (effective_kernel(window, dilation) - 1 if mode == "causal" else 0), 0


def window_output(size: int | None, window: int, stride: int, dilation: int, mode: str) -> int | None:
    """The output size along one axis for a padding; 0 or less where nothing fits."""
    if size is None:
        return None
    return output_size(size, window, stride, axis_padding(size, window, stride, dilation, mode), dilation)


@lru_cache(maxsize=4096)
def window_padding(
    spatial: tuple[int, ...],
    window: tuple[int, ...],
    strides: tuple[int, ...],
    mode: str,
    dilation: tuple[int, ...],
) -> tuple[tuple[int, int], ...]:
    """(before, after) for each spatial axis; see :func:`axis_padding`.

    >>> window_padding((6, 6), (3, 3), (2, 2), "same", (1, 1))
    ((0, 1), (0, 1))
    """
    return tuple(axis_padding(*axis, mode) for axis in zip(spatial, window, strides, dilation))


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
) -> Shape:
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
