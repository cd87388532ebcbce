"""Images as columns of windows, im2col, and columns added up to images, col2im."""

from __future__ import annotations

from typing import Any

from pycnn.functional.arguments import apply, floating, layout, per_axis, remembered
from pycnn.functional.rearrange import Rearrange, RearrangeGradient
from pycnn.interop.arrays import drop_in
from pycnn_kernels.problem import Continuation, RearrangeProblem
from pycnn_kernels.problem import output_size as size_of_output

Pair = tuple[int, int]

_ZEROS: Continuation = "constant"


@drop_in
def unfold(
    input: Any,
    kernel_size: Any,
    dilation: Any = 1,
    padding: Any = 0,
    stride: Any = 1,
    *,
    data_format: str = "channels_first",
    backend: str | None = None,
) -> Any:
    """The windows of images as columns of a matrix, or in channels last as its rows (im2col).

    Args:
        input: x (N, C, H, W) or (C, H, W); channels last (N, H, W, C) or (H, W, C). float16, bfloat16, float32 or
            float64.
        kernel_size: of a window, one integer or (KH, KW).
        dilation: distance between elements of a window.
        padding: zeros on each side of the images.
        stride: distance between windows.
        data_format: "channels_first" or "channels_last".
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        (N, C * KH * KW, L), L = OH * OW windows, ``OH = (H + 2 padding - dilation (KH - 1) - 1) / stride + 1``; in
        channels last (N, L, KH * KW * C), a window a row in the order of weights (KH, KW, C, K). Without the first
        axis for an image alone.

    Raises:
        TypeError: another dtype than those, numbers that are no integers.
        ValueError: another number of axes or an empty one, but for the batch; numbers that are too small; windows
            that do not fit into the image.

    Source: ``torch.nn.functional.unfold``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.unfold.html

    >>> import numpy as np
    >>> unfold(np.arange(6.0).reshape(1, 2, 3), 2)
    array([[0., 1.],
           [1., 2.],
           [3., 4.],
           [4., 5.]])
    """
    x = floating("input", input)
    shape, last = tuple(x.shape), layout(data_format) == "channels_last"
    if len(shape) not in (3, 4) or 0 in shape[-3:]:
        axes = "(N, H, W, C) or (H, W, C)" if last else "(N, C, H, W) or (C, H, W)"
        raise ValueError(f"input must have the axes {axes}, none empty but for the batch; received the shape {shape}")
    N, (H, W, C) = _batch(shape, 3), shape[-3:] if last else (*shape[-2:], shape[-3])
    problem = _windows(last, N, C, (H, W), kernel_size, dilation, padding, stride)
    features, positions = _columns(problem, last, C)
    columns = (positions, features) if last else (features, positions)
    return apply(Rearrange, x, problem=problem, shape=shape[:-3] + columns)


@drop_in
def fold(
    input: Any,
    output_size: Any,
    kernel_size: Any,
    dilation: Any = 1,
    padding: Any = 0,
    stride: Any = 1,
    *,
    data_format: str = "channels_first",
    backend: str | None = None,
) -> Any:
    """Images of which each element is the sum of what columns of windows have for it (col2im).

    The gradient of :func:`unfold`, not its inverse: where windows overlap, their elements are added up.

    Args:
        input: (N, C * KH * KW, L) or (C * KH * KW, L), L windows; channels last (N, L, KH * KW * C) or
            (L, KH * KW * C). float16, bfloat16, float32 or float64.
        output_size: of the images, one integer or (H, W).
        kernel_size, dilation, padding, stride: as of :func:`unfold`.
        data_format: "channels_first" or "channels_last".
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        (N, C, H, W), in channels last (N, H, W, C); without the first axis where the input has none.

    Raises:
        TypeError: another dtype than those, numbers that are no integers.
        ValueError: another number of axes or an empty one, but for the batch; numbers that are too small; another
            count of windows than the images have, or of features that KH * KW does not divide.

    Source: ``torch.nn.functional.fold``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.fold.html

    >>> import numpy as np
    >>> fold(np.ones((4, 2)), (2, 3), 2)
    array([[[1., 2., 1.],
            [1., 2., 1.]]])
    """
    x = floating("input", input)
    shape, last = tuple(x.shape), layout(data_format) == "channels_last"
    if len(shape) not in (2, 3) or 0 in shape[-2:]:
        axes = "(N, L, KH * KW * C) or (L, KH * KW * C)" if last else "(N, C * KH * KW, L) or (C * KH * KW, L)"
        raise ValueError(f"input must have the axes {axes}, none empty but for the batch; received the shape {shape}")
    size, (KH, KW) = _pair("output_size", output_size), _pair("kernel_size", kernel_size)
    features, positions = shape[-2:][::-1] if last else shape[-2:]
    if features % (KH * KW):
        raise ValueError(
            f"input must have a multiple of {KH} * {KW} features, those of a window; received the shape {shape}"
        )
    C = features // (KH * KW)
    problem = _windows(last, _batch(shape, 2), C, size, kernel_size, dilation, padding, stride)
    _, expected = _columns(problem, last, C)
    if positions != expected:
        raise ValueError(f"images of {size} have {expected} such windows; received {positions} in the shape {shape}")
    image = (*size, C) if last else (C, *size)
    return apply(RearrangeGradient, x, problem=problem, shape=shape[:-2] + image)


def _batch(shape: tuple[int, ...], image: int) -> int:
    """Images in an array of images of so many axes, or one."""
    return shape[0] if len(shape) > image else 1


def _pair(name: str, value: Any, least: int = 1) -> Pair:
    """One integer for both axes, or one for each; a tuple of one is neither."""
    first, second = per_axis(name, value, 2, least, spread=False)
    return first, second


@remembered()
def _windows(
    last: bool, N: int, C: int, size: Pair, kernel_size: Any, dilation: Any, padding: Any, stride: Any
) -> RearrangeProblem:
    """Where windows are and where in them, as axes of the columns."""
    kernel, steps = _pair("kernel_size", kernel_size), _pair("stride", stride)
    spread, pads = _pair("dilation", dilation), _pair("padding", padding, 0)
    counts = tuple(size_of_output(*axis) for axis in zip(size, kernel, steps, zip(pads, pads), spread))
    if min(counts) < 1:
        raise ValueError(
            f"windows of {kernel}, with the dilation {spread}, do not fit into images of {size} with the padding {pads}"
        )
    taps = tuple((count, axis, step) for axis, (count, step) in enumerate(zip(kernel, spread)))
    places = tuple((count, axis, step) for axis, (count, step) in enumerate(zip(counts, steps)))
    starts, ways = (-pads[0], -pads[1]), (_ZEROS, _ZEROS)
    if last:
        return RearrangeProblem("uint8", N, size, (*places, *taps), starts, ways, C)
    return RearrangeProblem("uint8", N * C, size, (*taps, *places), starts, ways)


def _columns(p: RearrangeProblem, last: bool, C: int) -> Pair:
    """The features of a window, and the windows of an image."""
    (a, _, _), (b, _, _), (c, _, _), (d, _, _) = p.axes
    return (c * d * C, a * b) if last else (C * a * b, c * d)
