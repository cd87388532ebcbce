"""Channels to pixels and back, and channels in another order."""

from __future__ import annotations

import math
from typing import Any

from pycnn.functional.arguments import apply, integer, layout, remembered
from pycnn.functional.rearrange import Rearrange, Shape, movable, stored_name
from pycnn.interop.arrays import drop_in
from pycnn_kernels.problem import Continuation, RearrangeProblem

#: Axes of y, as a problem has them.
_Axes = tuple[tuple[int, int, int], ...]

#: No element lies beyond an axis.
_INSIDE: Continuation = "constant"


@drop_in
def pixel_shuffle(
    input: Any, upscale_factor: int, *, data_format: str = "channels_first", backend: str | None = None
) -> Any:
    """Each square of channels as a square of pixels, ``y[c, h r + i, w r + j] = x[c r^2 + i r + j, h, w]``.

    Args:
        input: x (..., C * r^2, H, W), in channels last (..., H, W, C * r^2); booleans, integers, real or
            complex floating-point numbers.
        upscale_factor: r.
        data_format: "channels_first" or "channels_last".
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        y (..., C, H * r, W * r), in channels last (..., H * r, W * r, C).

    Raises:
        TypeError: another dtype than those; a factor that is no integer.
        ValueError: fewer than three axes, a factor below 1, channels that r^2 does not divide.

    Source: Shi et al., "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional
    Neural Network" (2016), section 3.2; ``torch.nn.functional.pixel_shuffle``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.pixel_shuffle.html

    >>> import numpy as np
    >>> pixel_shuffle(np.array([1, 2, 3, 4]).reshape(4, 1, 1), 2)
    array([[[1, 2],
            [3, 4]]])
    """
    x = movable("input", input)
    squares, pixels, shape = _to_pixels(tuple(x.shape), upscale_factor, data_format, stored_name(x.dtype))
    return apply(Rearrange, x, problem=squares, inverse=pixels, shape=shape)


@drop_in
def pixel_unshuffle(
    input: Any, downscale_factor: int, *, data_format: str = "channels_first", backend: str | None = None
) -> Any:
    """Each square of pixels as a square of channels: the inverse of :func:`pixel_shuffle`.

    Args:
        input: x (..., C, H * r, W * r), in channels last (..., H * r, W * r, C); booleans, integers, real
            or complex floating-point numbers.
        downscale_factor: r.
        data_format: "channels_first" or "channels_last".
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        y (..., C * r^2, H, W), in channels last (..., H, W, C * r^2).

    Raises:
        TypeError: another dtype than those; a factor that is no integer.
        ValueError: fewer than three axes, a factor below 1 or one that does not divide height and width.

    Source: ``torch.nn.functional.pixel_unshuffle``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.pixel_unshuffle.html

    >>> import numpy as np
    >>> pixel_unshuffle(np.array([[[1, 2], [3, 4]]]), 2).ravel()
    array([1, 2, 3, 4])
    """
    x = movable("input", input)
    squares, pixels, shape = _to_channels(tuple(x.shape), downscale_factor, data_format, stored_name(x.dtype))
    return apply(Rearrange, x, problem=pixels, inverse=squares, shape=shape)


@drop_in
def channel_shuffle(input: Any, groups: int, *, data_format: str = "channels_first", backend: str | None = None) -> Any:
    """The channels in an order that takes one of each group in turn.

    Args:
        input: x (N, C, ...), in channels last (N, ..., C), at least three axes; booleans, integers, real or
            complex floating-point numbers.
        groups: into how many the channels are divided.
        data_format: "channels_first" or "channels_last".
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        y, of the shape and dtype of the input.

    Raises:
        TypeError: another dtype than those; groups that are no integer.
        ValueError: fewer than three axes, groups below 1 or that do not divide the channels.

    Source: Zhang et al., "ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices" (2018),
    section 3.1; ``torch.nn.functional.channel_shuffle``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.ChannelShuffle.html

    >>> import numpy as np
    >>> channel_shuffle(np.arange(6).reshape(1, 6, 1), 2).ravel()
    array([0, 3, 1, 4, 2, 5])
    """
    x = movable("input", input)
    shape = tuple(x.shape)
    there, back = _turns(shape, groups, data_format, stored_name(x.dtype))
    return apply(Rearrange, x, problem=there, inverse=back, shape=shape)


@remembered()
def _turns(shape: Shape, groups: Any, data_format: str, dtype: str) -> tuple[RearrangeProblem, RearrangeProblem]:
    """The shuffle of the channels of an array, and its inverse."""
    G, last = _factor("groups", groups), layout(data_format) == "channels_last"
    if len(shape) < 3:
        raise ValueError(f"input must have at least three axes; received the shape {shape}")
    C = shape[-1] if last else shape[1]
    if C % G:
        raise ValueError(f"groups must divide the {C} channels; received {G}")
    N, inner = (math.prod(shape[:-1]), 1) if last else (shape[0], math.prod(shape[2:]))

    def turned(rows: int, columns: int) -> RearrangeProblem:
        return _moved(dtype, N, (rows, columns), ((columns, 1, 1), (rows, 0, 1)), inner)

    return turned(G, C // G), turned(C // G, G)


@remembered()
def _to_pixels(
    shape: Shape, factor: Any, data_format: str, dtype: str
) -> tuple[RearrangeProblem, RearrangeProblem, Shape]:
    """The squares of channels of an array as pixels, the inverse, and the shape of the result."""
    r = _factor("upscale_factor", factor)
    batch, (C, H, W), last = _image(shape, data_format)
    if C % (r * r):
        raise ValueError(f"input must have a multiple of {r} * {r} channels; received {C} in the shape {shape}")
    C //= r * r
    squares, pixels = _problems(dtype, last, math.prod(batch), C, H, W, r)
    return squares, pixels, batch + ((H * r, W * r, C) if last else (C, H * r, W * r))


@remembered()
def _to_channels(
    shape: Shape, factor: Any, data_format: str, dtype: str
) -> tuple[RearrangeProblem, RearrangeProblem, Shape]:
    """The inverse of the squares of pixels of an array as channels, these, and the shape of the result."""
    r = _factor("downscale_factor", factor)
    batch, (C, H, W), last = _image(shape, data_format)
    if H % r or W % r:
        raise ValueError(f"input must have a height and a width that {r} divides; received {H} and {W}")
    H, W = H // r, W // r
    squares, pixels = _problems(dtype, last, math.prod(batch), C, H, W, r)
    return squares, pixels, batch + ((H, W, C * r * r) if last else (C * r * r, H, W))


def _factor(name: str, value: Any) -> int:
    factor = integer(name, value)
    if factor < 1:
        raise ValueError(f"{name} must be at least 1; received {value!r}")
    return factor


def _image(shape: Shape, data_format: str) -> tuple[Shape, tuple[int, int, int], bool]:
    """The axes of the batch, (C, H, W), and whether the channels are last."""
    last = layout(data_format) == "channels_last"
    if len(shape) < 3:
        axes = "(..., H, W, C)" if last else "(..., C, H, W)"
        raise ValueError(f"input must have the axes {axes}; received the shape {shape}")
    first, second, third = shape[-3:]
    return shape[:-3], (third, first, second) if last else (first, second, third), last


def _problems(
    dtype: str, last: bool, N: int, C: int, H: int, W: int, r: int
) -> tuple[RearrangeProblem, RearrangeProblem]:
    """From C * r^2 channels to pixels, and back."""
    if last:
        return (
            _moved(dtype, N, (H, W, C * r * r), ((H, 0, 1), (r, 2, r), (W, 1, 1), (r, 2, 1), (C, 2, r * r))),
            _moved(dtype, N, (H * r, W * r, C), ((H, 0, r), (W, 1, r), (C, 2, 1), (r, 0, 1), (r, 1, 1))),
        )
    return (
        _moved(dtype, N, (C * r * r, H, W), ((C, 0, r * r), (H, 1, 1), (r, 0, r), (W, 2, 1), (r, 0, 1))),
        _moved(dtype, N, (C, H * r, W * r), ((C, 0, 1), (r, 1, 1), (r, 2, 1), (H, 1, r), (W, 2, r))),
    )


def _moved(dtype: str, N: int, size: Shape, axes: _Axes, inner: int = 1) -> RearrangeProblem:
    return RearrangeProblem(dtype, N, size, axes, (0,) * len(size), (_INSIDE,) * len(size), inner)
