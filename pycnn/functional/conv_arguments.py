"""Reading the arguments of convolutions and transposed convolutions: from a call to a checked problem."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pycnn.functional.arguments import (
    array_sizes,
    integer,
    layout,
    one_of,
    per_axis,
    remembered,
    sides_per_axis,
    sides_triple,
    triple,
)
from pycnn_kernels.problem import ConvProblem, WeightLayout, effective_kernel, same_padding

#: For each number of spatial axes PyTorch's order of the weights' axes and Keras', of output and input channels.
WEIGHT_FORMATS = {1: ("OIW", "WIO"), 2: ("OIHW", "HWIO"), 3: ("OIDHW", "DHWIO")}
#: The same for transposed convolution, whose input channels are the output channels of the convolution it transposes.
TRANSPOSED_WEIGHT_FORMATS = {1: ("IOW", "WOI"), 2: ("IOHW", "HWOI"), 3: ("IODHW", "DHWOI")}

ACTIVATIONS = (None, "relu", "leaky_relu", "tanh", "sigmoid")
PADDING_MODES = ("zeros", "reflect", "replicate", "circular")
_AXES = ("depth", "height", "width")

Shape = tuple[int, ...]


@remembered(sure=4)
def problem_of(
    dtype: str,
    x_shape: Shape,
    w_shape: Shape,
    b_shape: Shape | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    data_format: str,
    weight_format: str,
    activation: Any,
    padding_mode: Any = "zeros",
    negative_slope: Any = 0.01,
    scale_shape: Shape | None = None,
    residual_shape: Shape | None = None,
    rank: int = 2,
) -> ConvProblem:
    """The checked problem of a call of ``conv1d``, ``conv2d`` or ``conv3d``, by ``rank``.

    Raises:
        TypeError, ValueError: as :func:`pycnn.functional.conv2d` says.
    """
    N, C, size = array_sizes("input", x_shape, data_format, rank)
    one_of("weight_format", weight_format, WEIGHT_FORMATS[rank])
    one_of("activation", activation, ACTIVATIONS)
    one_of("padding_mode", padding_mode, PADDING_MODES)
    w_layout: WeightLayout = "OIHW" if weight_format == WEIGHT_FORMATS[rank][0] else "HWIO"
    K, R, kernel = _weight_sizes(w_shape, w_layout, rank, "K", "C")
    groups = integer("groups", groups)
    _check_channels(C, K, R, groups)
    _check_per_channel("bias", b_shape, K)
    _check_per_channel("scale", scale_shape, K)
    steps = per_axis("stride", stride, rank)
    distances = per_axis("dilation", dilation, rank)
    sides = _padding(padding, size, kernel, steps, distances)
    _check_padding_mode(padding_mode, sides, size)
    problem = ConvProblem(
        dtype, layout(data_format), w_layout, N, C, triple(size), K, triple(kernel), triple(steps),
        sides_triple(sides), triple(distances), groups, b_shape is not None, activation, rank,
        padding_mode if any(map(any, sides)) else "zeros", scale_shape is not None, residual_shape is not None,
        read_slope(negative_slope, activation),
    )  # fmt: skip
    _check_fits(problem)
    y_shape = problem.y_shape[len(problem.y_shape) - len(x_shape) :]
    if residual_shape is not None and residual_shape != y_shape:
        raise ValueError(f"residual must have the shape of the result, {y_shape}; received {residual_shape}")
    return problem


@remembered(sure=4)
def transposed_problem_of(
    dtype: str,
    x_shape: Shape,
    w_shape: Shape,
    b_shape: Shape | None,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: Any,
    dilation: Any,
    data_format: str,
    weight_format: str,
    rank: int,
) -> ConvProblem:
    """The convolution whose input gradient is the transposed convolution of a call.

    Its input is the result of the call, and its output is the input of the call. Padding cuts rows off the result,
    and an output padding cuts off fewer at the end. What it adds beyond all padding are rows that no window meets;
    as many as a stride of them take another window: then the problem's output is larger than the input of the call,
    which is to be filled up with zeros.

    Raises:
        TypeError, ValueError: as :func:`pycnn.functional.conv_transpose2d` says.
    """
    N, C, size = array_sizes("input", x_shape, data_format, rank)
    one_of("weight_format", weight_format, TRANSPOSED_WEIGHT_FORMATS[rank])
    w_layout: WeightLayout = "OIHW" if weight_format == TRANSPOSED_WEIGHT_FORMATS[rank][0] else "HWIO"
    I, R, kernel = _weight_sizes(w_shape, w_layout, rank, "C", "K")  # noqa: E741
    groups = integer("groups", groups)
    K = R * groups
    _check_transposed_channels(C, I, R, groups)
    _check_per_channel("bias", b_shape, K)
    _check_kernel(kernel)
    steps = per_axis("stride", stride, rank)
    sides = sides_per_axis("padding", padding, rank)
    extra = per_axis("output_padding", output_padding, rank, least=0)
    distances = per_axis("dilation", dilation, rank)
    for axis, e, s, d in zip(_AXES[3 - rank :], extra, steps, distances):
        if e >= max(s, d):
            raise ValueError(
                f"output_padding must be less than the stride or the dilation, {s} and {d} in {axis}; received {e}"
            )
    out = tuple(
        (n - 1) * s - sum(p) + effective_kernel(k, d) + e
        for n, s, p, k, d, e in zip(size, steps, sides, kernel, distances, extra)
    )
    if min(out) < 1:
        raise ValueError(f"padding {sides} leaves nothing of the result: it would have the size {out}")
    kept = tuple((before, max(after - e, 0)) for (before, after), e in zip(sides, extra))
    return ConvProblem(
        dtype, layout(data_format), w_layout, N, K, triple(out), C, triple(kernel), triple(steps),
        sides_triple(kept), triple(distances), groups, rank=rank,
    )  # fmt: skip


@remembered()
def read_slope(negative_slope: Any, activation: str | None) -> float:
    """What "leaky_relu" multiplies negative results with; the same for every call of another activation.

    Raises:
        TypeError: not a number.
        ValueError: negative, infinite or NaN. (The sign of a result must be that of what the activation was given.)
    """
    if isinstance(negative_slope, bool) or not isinstance(negative_slope, int | float | np.integer | np.floating):
        raise TypeError(f"negative_slope must be a number of at least 0; received {negative_slope!r}")
    if not 0 <= negative_slope < math.inf:
        raise ValueError(f"negative_slope must be a number of at least 0; received {negative_slope!r}")
    # The sign of a 0, which an equal one of a former call would have lent, counts for nothing.
    return abs(float(negative_slope)) if activation == "leaky_relu" else 0.01


def _weight_sizes(
    shape: Shape, w_layout: WeightLayout, rank: int, first: str, second: str
) -> tuple[int, int, tuple[int, ...]]:
    """The two numbers of channels and the kernel; ``first`` and ``second`` are the channels' names in an error."""
    if len(shape) != rank + 2:
        kernel = [f"K{axis}" for axis in "DHW"[3 - rank :]]
        channels = [first, f"{second} / groups"]
        axes = ", ".join(channels + kernel if w_layout == "OIHW" else kernel + channels[::-1])
        raise ValueError(f"weight must have the axes ({axes}); received the shape {shape}")
    if w_layout == "OIHW":
        return shape[0], shape[1], shape[2:]
    return shape[-1], shape[-2], shape[:-2]


def _check_channels(C: int, K: int, R: int, groups: int) -> None:
    if groups < 1:
        raise ValueError(f"groups must be at least 1; received {groups}")
    if C % groups or K % groups:
        raise ValueError(f"groups must divide the channels, {C} in and {K} out; received {groups}")
    if C // groups != R:
        raise ValueError(
            f"weight must have {C // groups} input channels (the input has {C}, groups is {groups}); received {R}"
        )
    if C == 0 or K == 0:
        raise ValueError(f"a convolution needs at least one channel; received {C} in and {K} out")


def _check_transposed_channels(C: int, I: int, R: int, groups: int) -> None:  # noqa: E741
    if groups < 1:
        raise ValueError(f"groups must be at least 1; received {groups}")
    if I != C:
        raise ValueError(f"weight must have {C} input channels, as the input has; received {I}")
    if C % groups:
        raise ValueError(f"groups must divide the channels, {C} in; received {groups}")
    if C == 0 or R == 0:
        raise ValueError(f"a convolution needs at least one channel; received {C} in and {R * groups} out")


def _check_per_channel(name: str, shape: Shape | None, K: int) -> None:
    if shape is not None and shape != (K,):
        raise ValueError(f"{name} must have the shape ({K},), one for each output channel; received {shape}")


def _check_kernel(kernel: tuple[int, ...]) -> None:
    for axis, k in zip(_AXES[3 - len(kernel) :], kernel):
        if k < 1:
            raise ValueError(f"the kernel must be at least 1 in {axis}; received {k}")


def _check_fits(problem: ConvProblem) -> None:
    """The kernel must fit the padded input along each axis."""
    _check_kernel(problem.kernel)
    for axis, size, out, kernel, (before, after), D in zip(
        _AXES, problem.size, problem.output, problem.kernel, problem.padding, problem.dilation
    ):
        if out < 1:
            raise ValueError(
                f"the kernel must fit the padded input: it extends over {effective_kernel(kernel, D)} in {axis}, "
                f"the input over {size} + {before} + {after}"
            )


def _check_padding_mode(mode: str, sides: tuple[tuple[int, int], ...], size: tuple[int, ...]) -> None:
    """An element of the padding must lie in the input: "reflect" and "circular" do not reach around it twice."""
    for axis, pads, n in zip(_AXES[3 - len(size) :], sides, size):
        if mode == "reflect" and max(pads) >= n:
            raise ValueError(f"padding 'reflect' must be less than the input's size, {n} in {axis}; received {pads}")
        if mode == "circular" and max(pads) > n:
            raise ValueError(f"padding 'circular' must be at most the input's size, {n} in {axis}; received {pads}")


def _padding(
    padding: Any,
    size: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
) -> tuple[tuple[int, int], ...]:
    if isinstance(padding, str):
        one_of("padding", padding, ("same", "valid"))
        if padding == "valid":
            return ((0, 0),) * len(size)
        if max(stride) > 1:
            raise ValueError(f"padding 'same' needs a stride of 1; received {stride}")
        return tuple(same_padding(s, k, 1, d) for s, k, d in zip(size, kernel, dilation))
    return sides_per_axis("padding", padding, len(size))
