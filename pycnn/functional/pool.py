"""Pooling."""

from __future__ import annotations

from typing import Any

import numpy as np

from pycnn.autograd import Function
from pycnn.functional.arguments import apply, floating, images, integer, layout, pair, per_side, without_batch
from pycnn.tensor import Tensor
from pycnn_kernels.cpu.pool import NO_POSITION
from pycnn_kernels.plan import plan_for
from pycnn_kernels.problem import DTYPE_NAMES, PoolProblem, Triple, effective_kernel

Grads = tuple[Tensor | None, ...]


class MaxPool(Function):
    """The greatest of each window, and its position in the input's plane where wanted."""

    outputs = 2

    def forward(self, x: np.ndarray, *, problem: PoolProblem, indices: bool) -> tuple[np.ndarray | None, ...]:
        self.problem = problem
        keep = indices or any(self.needs)
        y, self.index = plan_for("max_pool", problem).run(x, skip=() if keep else ("index",))
        return y, plane_positions(problem, self.index) if indices and self.index is not None else None

    def backward(self, dy: Tensor | None, _: Tensor | None) -> Grads:  # type: ignore[override]
        return (None if dy is None else MaxPoolGradient.apply(dy, problem=self.problem, index=self.index),)


class MaxPoolGradient(Function):
    def forward(self, dy: np.ndarray, *, problem: PoolProblem, index: np.ndarray) -> np.ndarray:
        self.problem, self.index = problem, index
        (dx,) = plan_for("max_pool_gradient", problem).run(dy, index)
        return dx

    def backward(self, ddx: Tensor) -> Grads:  # type: ignore[override]
        return (PickMaxima.apply(ddx, problem=self.problem, index=self.index),)


class PickMaxima(Function):
    """The elements of ``x`` at the positions of the maxima of another array; 0 for windows without elements."""

    def forward(self, x: np.ndarray, *, problem: PoolProblem, index: np.ndarray) -> np.ndarray:
        self.problem, self.index = problem, index
        channel_axis = -1 if problem.layout == "channels_last" else 1
        planes = np.moveaxis(x, channel_axis, 1).reshape(problem.N, problem.C, -1)
        positions = np.moveaxis(plane_positions(problem, index), channel_axis, 1)
        flat = positions.reshape(problem.N, problem.C, -1)
        picked = np.where(flat < 0, x.dtype.type(0), np.take_along_axis(planes, np.maximum(flat, 0), axis=2))
        return np.ascontiguousarray(np.moveaxis(picked.reshape(positions.shape), 1, channel_axis))

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        return (MaxPoolGradient.apply(dy, problem=self.problem, index=self.index),)


def plane_positions(p: PoolProblem, index: np.ndarray) -> np.ndarray:
    """From positions in windows to positions in the plane, ``(d * H + h) * W + w``, int64, in the problem's layout.

    A window that lies in the padding altogether has the position -1.
    """
    k = index.astype(np.int64)
    _, KH, KW = p.kernel
    flat = np.zeros_like(k)
    for axis, position in enumerate((k // (KH * KW), k // KW % KH, k % KW)):
        flat *= p.size[axis]
        flat += position * p.dilation[axis] - p.padding[axis][0]
        place = axis - (3 - p.rank)
        if place >= 0:
            shape = [1] * index.ndim
            shape[1 + place] = -1
            flat += (np.arange(p.output[axis]) * p.stride[axis]).reshape(shape)
    flat[index == NO_POSITION] = -1
    return flat if p.layout == "channels_last" else np.ascontiguousarray(np.moveaxis(flat, -1, 1))


class AveragePool(Function):
    def forward(self, x: np.ndarray, *, problem: PoolProblem) -> np.ndarray:
        self.problem = problem
        (y,) = plan_for("average_pool", problem).run(x)
        return y

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        return (AveragePoolGradient.apply(dy, problem=self.problem),)


class AveragePoolGradient(Function):
    def forward(self, dy: np.ndarray, *, problem: PoolProblem) -> np.ndarray:
        self.problem = problem
        (dx,) = plan_for("average_pool_gradient", problem).run(dy)
        return dx

    def backward(self, ddx: Tensor) -> Grads:  # type: ignore[override]
        return (AveragePool.apply(ddx, problem=self.problem),)


def max_pool2d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    data_format: str = "channels_first",
) -> Any:
    """The greatest element of each window.

    Each output size is ``(W - F + 2P) / S + 1``, rounded down, or up with ``ceil_mode``; then a last window that
    would begin in the padding after the input is dropped.

    Args:
        input: x (N, C, H, W) or (C, H, W); channels last (N, H, W, C) or (H, W, C). float32 or float64;
            or float16 or bfloat16, computed in float32 and rounded once.
        kernel_size: size of a window, one integer or (vertical, horizontal).
        stride: step between windows; None for the window's size.
        padding: elements around the input, at most half a window on each side, which never are the greatest:
            one integer, (vertical, horizontal) or ((top, bottom), (left, right)).
        dilation: distance between the elements of a window.
        ceil_mode: round the output size up.
        return_indices: also return where each maximum lies in its plane, ``h * W + w``, int64.
        data_format: "channels_first" or "channels_last".

    Returns:
        y (N, C, OH, OW), or in channels last (N, OH, OW, C); with ``return_indices`` a pair.

    Raises:
        TypeError: the dtype is none of float16, bfloat16, float32 and float64.
        ValueError: a window that does not fit the padded input, padding of more than half a window.

    Source: ``torch.nn.functional.max_pool2d``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.max_pool2d.html

    >>> import numpy as np
    >>> max_pool2d(np.arange(16.0).reshape(1, 4, 4), 2)
    array([[[ 5.,  7.],
            [13., 15.]]])
    """
    x, single, problem = _problem("max", input, kernel_size, stride, padding, dilation, ceil_mode, data_format)
    y, indices = apply(MaxPool, x, problem=problem, indices=bool(return_indices))
    if return_indices:
        return without_batch(y, single), without_batch(indices, single)
    return without_batch(y, single)


def avg_pool2d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    data_format: str = "channels_first",
) -> Any:
    """The mean of each window.

    Args:
        input, kernel_size, stride, padding, ceil_mode, data_format: as for :func:`max_pool2d`; padding is zeros.
        count_include_pad: whether the padding counts as elements of a window.
        divisor_override: divide by this instead of the number of elements.

    Returns:
        y (N, C, OH, OW), or in channels last (N, OH, OW, C).

    Raises:
        TypeError: the dtype is none of float16, bfloat16, float32 and float64.
        ValueError: a window that does not fit the padded input, padding of more than half a window, a divisor of 0.

    Source: ``torch.nn.functional.avg_pool2d``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.avg_pool2d.html

    >>> import numpy as np
    >>> avg_pool2d(np.arange(16.0).reshape(1, 4, 4), 2)
    array([[[ 2.5,  4.5],
            [10.5, 12.5]]])
    """
    x, single, problem = _problem("average", input, kernel_size, stride, padding, 1, ceil_mode, data_format)
    if divisor_override is not None:
        divisor = integer("divisor_override", divisor_override)
        if divisor == 0:
            raise ValueError("divisor_override must not be 0")
        problem = problem._replace(divisor=divisor)
    problem = problem._replace(count_padding=bool(count_include_pad))
    return without_batch(apply(AveragePool, x, problem=problem), single)


def _problem(
    kind: Any, input: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool, data_format: str
) -> tuple[Any, bool, PoolProblem]:
    x, single, N, C, H, W = images("input", floating("input", input), data_format)
    if C == 0 and kind == "max":
        raise ValueError(f"input must have at least one channel; received the shape {tuple(x.shape)}")
    return (
        x,
        single,
        windows_problem(
            kind, DTYPE_NAMES[x.dtype], data_format, N, C, (1, H, W), kernel_size, stride, padding, dilation, ceil_mode
        ),
    )


def windows_problem(
    kind: Any,
    dtype: str,
    data_format: str,
    N: int,
    C: int,
    size: Triple,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    names: tuple[str, str, str] = ("kernel_size", "stride", "padding"),
) -> PoolProblem:
    """The checked problem of pooling N images of C channels; ``names`` are those of the arguments in an error.

    Raises:
        TypeError, ValueError: as :func:`max_pool2d` says.
    """
    KH, KW = pair(names[0], kernel_size)
    no_stride = stride is None or (isinstance(stride, tuple | list) and not stride)
    SH, SW = (KH, KW) if no_stride else pair(names[1], stride)
    DH, DW = pair("dilation", dilation)
    vertical, horizontal = per_side(names[2], padding)
    for axis, kernel, D, sides in (("height", KH, DH, vertical), ("width", KW, DW, horizontal)):
        if max(sides) > effective_kernel(kernel, D) // 2:
            raise ValueError(
                f"{names[2]} must be at most half a window, {effective_kernel(kernel, D) // 2} in {axis}; "
                f"received {sides}"
            )
    problem = PoolProblem(
        kind, dtype, layout(data_format), N, C, size, (1, KH, KW), (1, SH, SW),
        ((0, 0), vertical, horizontal), (1, DH, DW), bool(ceil_mode),
    )  # fmt: skip
    for axis, pixels, out, kernel, (before, after), D in zip(
        ("depth", "height", "width"), problem.size, problem.output, problem.kernel, problem.padding, problem.dilation
    ):
        if out < 1:
            raise ValueError(
                f"a window must fit the padded input: it extends over {effective_kernel(kernel, D)} in {axis}, "
                f"the input over {pixels} + {before} + {after}"
            )
    return problem
