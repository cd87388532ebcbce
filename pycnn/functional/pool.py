"""Pooling of windows: the greatest, the mean, the norm; of fixed windows and of adaptive ones, in 1 to 3 dimensions.

The engine has one algorithm for each of these operations, on each backend. So there is nothing that ``algorithm`` and
``workspace_limit``, which convolutions have, could choose from, and poolings do not have them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pycnn import backend as backends
from pycnn.autograd import Function
from pycnn.backend import plan_on
from pycnn.elementary import Abs, Power, Select
from pycnn.functional.arguments import (
    FORMS,
    GREATEST_EXACT,
    apply,
    array_sizes,
    boolean,
    data_of,
    floating,
    holds_integers,
    integer,
    layout,
    magnitude,
    number,
    per_axis,
    remembered,
    rounded,
    sides_per_axis,
    sides_triple,
    triple,
    widened,
    without_batch,
)
from pycnn.functional.bias import BiasGradient, ReluBiasGradient
from pycnn.functional.planes import run_on_planes
from pycnn.interop.arrays import drop_in
from pycnn.tensor import Tensor
from pycnn_kernels.problem import DTYPE_NAMES, PoolProblem, channels_problem, effective_kernel

Grads = tuple[Tensor | None, ...]

_AXES = ("depth", "height", "width")


class MaxPool(Function):
    """The greatest of each window, and its position in the input's plane where wanted.

    With a bias for each channel or a ReLU, what the greatest of ``activation(x + bias)`` is: the gradients in front of
    the ReLU and of the bias are then computed of the results, which are fewer than the elements of x.

    Of a problem with ``normalised``, ``norm`` is mean, scale and bias; no gradients are recorded then.
    """

    reads = ()
    uses_numpy = False
    outputs = 2

    def forward(
        self,
        x: np.ndarray,
        bias: np.ndarray | None = None,
        *,
        problem: PoolProblem,
        indices: bool,
        relu: bool = False,
        norm: tuple[np.ndarray | None, ...] = (),
    ) -> tuple[np.ndarray | None, ...]:
        self.problem = problem
        skip = () if indices or any(self.needs) else ("index",)
        y, self.index = plan_on(x, "max_pool", problem).run(x, bias, *norm, skip=skip, scalars=(relu,))
        self.y = y if relu else None
        return y, plane_positions(problem, self.index) if indices and self.index is not None else None

    def backward(self, dy: Tensor | None, _: Tensor | None) -> Grads:  # type: ignore[override]
        if dy is None:
            return (None, None)
        needs_x, needs_bias = (*self.needs, False)[:2]
        found = gradients_of_found(self.problem, dy, self.index, self.y, needs_x, needs_bias)
        return found[: len(self.needs)]


def gradients_of_found(
    p: PoolProblem, dy: Tensor, index: np.ndarray | None, y: np.ndarray | None, needs_x: bool, needs_bias: bool
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of what was pooled and of the bias, which are wanted as it is said; y behind a ReLU, or None."""
    dz, dbias = dy, None
    pixels = channels_problem(p.dtype, p.layout, p.N, p.C, p.output)
    if y is not None:
        dz, dbias = ReluBiasGradient.apply(dy, problem=pixels, y=y, want_bias=needs_bias)
    elif needs_bias:
        dbias = BiasGradient.apply(dy, problem=pixels)
    return FoundGradient.apply(dz, problem=p, index=index) if needs_x else None, dbias


class FoundGradient(Function):
    """The gradient goes to the element of each window that was found."""

    reads = ()
    uses_numpy = False

    def forward(self, dy: np.ndarray, *, problem: PoolProblem, index: np.ndarray) -> np.ndarray:
        self.problem, self.index = problem, index
        (dx,) = plan_on(dy, "max_pool_gradient", problem).run(dy, index)
        return dx

    def backward(self, ddx: Tensor) -> Grads:  # type: ignore[override]
        return (PickFound.apply(ddx, problem=self.problem, index=self.index),)


class PickFound(Function):
    """The elements of ``x`` at the positions that were found in another array; 0 for windows without elements."""

    reads = ()
    uses_numpy = False

    def forward(self, x: np.ndarray, *, problem: PoolProblem, index: np.ndarray) -> np.ndarray:
        self.problem, self.index = problem, index
        return run_on_planes("pick", x, plane_positions(problem, index), problem.layout, problem.y_shape)

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        return (FoundGradient.apply(dy, problem=self.problem, index=self.index),)


def plane_positions(p: PoolProblem, index: np.ndarray) -> np.ndarray:
    """From positions in windows to positions in the plane, ``(d * H + h) * W + w``, int64, in the problem's layout.

    A window in which nothing was found, because it lies in the padding altogether, has the position -1.
    """
    k = index.astype(np.int64)
    _, KH, KW = p.window
    flat = np.zeros_like(k)
    for axis, position in enumerate((k // (KH * KW), k // KW % KH, k % KW)):
        flat *= p.size[axis]
        flat += position * p.dilation[axis]
        place = axis - (3 - p.rank)
        if place >= 0:
            shape = [1] * index.ndim
            shape[1 + place] = -1
            flat += backends.of(k).asarray(p.starts(axis)).reshape(shape)
    flat = np.where(index == p.no_position, -1, flat)
    return flat if p.layout == "channels_last" else backends.of(k).xp.ascontiguousarray(np.moveaxis(flat, -1, 1))


class AveragePool(Function):
    reads = ()
    uses_numpy = False

    def forward(self, x: np.ndarray, *, problem: PoolProblem) -> np.ndarray:
        self.problem = problem
        (y,) = plan_on(x, "average_pool", problem).run(x)
        return y

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        return (AveragePoolGradient.apply(dy, problem=self.problem),)


class AveragePoolGradient(Function):
    reads = ()
    uses_numpy = False

    def forward(self, dy: np.ndarray, *, problem: PoolProblem) -> np.ndarray:
        self.problem = problem
        (dx,) = plan_on(dy, "average_pool_gradient", problem).run(dy)
        return dx

    def backward(self, ddx: Tensor) -> Grads:  # type: ignore[override]
        return (AveragePool.apply(ddx, problem=self.problem),)


class NormPool(Function):
    """The root of the sum of squares of each window."""

    uses_numpy = False

    def forward(self, x: np.ndarray, *, problem: PoolProblem) -> np.ndarray:
        self.problem = problem
        (y,) = plan_on(x, "norm_pool", problem).run(x)
        return y

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        x = self.inputs[0]
        y = NormPool.apply(x, problem=self.problem)
        # A window of zeros has no slope; zero, the least of those that it could have, is taken.
        parts = dy / (y + (y.data == 0).astype(y.dtype))
        return (x * AveragePoolGradient.apply(parts, problem=self.problem._replace(kind="average", divisor=1)),)


@drop_in
def max_pool1d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    data_format: str = "channels_first",
    backend: str | None = None,
) -> Any:
    """The greatest element of each window of signals (N, C, W) or (C, W); otherwise as :func:`max_pool2d`.

    Source: ``torch.nn.functional.max_pool1d``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.max_pool1d.html

    >>> import numpy as np
    >>> max_pool1d(np.array([[3.0, 1.0, 2.0, 5.0]]), 2)
    array([[3., 5.]])
    """
    return _max_pool(1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices, data_format)


@drop_in
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
    backend: str | None = None,
) -> Any:
    """The greatest element of each window.

    Each output size is ``(W - F + 2P) / S + 1``, rounded down, or up with ``ceil_mode``; then a last window that
    would begin in the padding after the input is dropped.

    Args:
        input: x (N, C, H, W) or (C, H, W); channels last (N, H, W, C) or (H, W, C). float32 or float64;
            or float16 or bfloat16, computed in float32 and rounded once; or integers from -2**53 to 2**53.
        kernel_size: size of a window, one integer or (vertical, horizontal).
        stride: step between windows; None or () for the window's size.
        padding: elements around the input, at most half the window's size on each side, which never are the greatest:
            one integer, (vertical, horizontal) or ((top, bottom), (left, right)).
        dilation: distance between the elements of a window.
        ceil_mode: round the output size up.
        return_indices: also return where each maximum lies in its plane, ``h * W + w``, int64.
        data_format: "channels_first" or "channels_last".
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        y (N, C, OH, OW), or in channels last (N, OH, OW, C), of the input's dtype; with ``return_indices`` a pair.

    Raises:
        TypeError: the dtype is none of float16, bfloat16, float32 and float64, nor one of integers; a size that is
            no integer, ``ceil_mode`` that is neither True nor False.
        ValueError: a window that does not fit the padded input, padding of more than half a window, no channels,
            integers that float64 does not hold.

    Source: ``torch.nn.functional.max_pool2d``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.max_pool2d.html

    >>> import numpy as np
    >>> max_pool2d(np.arange(16.0).reshape(1, 4, 4), 2)
    array([[[ 5.,  7.],
            [13., 15.]]])
    """
    return _max_pool(2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices, data_format)


@drop_in
def max_pool3d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    data_format: str = "channels_first",
    backend: str | None = None,
) -> Any:
    """The greatest element of each window of volumes (N, C, D, H, W) or (C, D, H, W); else as :func:`max_pool2d`.

    Source: ``torch.nn.functional.max_pool3d``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.max_pool3d.html

    >>> import numpy as np
    >>> max_pool3d(np.arange(8.0).reshape(1, 2, 2, 2), 2)
    array([[[[7.]]]])
    """
    return _max_pool(3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices, data_format)


@drop_in
def avg_pool1d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    *,
    data_format: str = "channels_first",
    backend: str | None = None,
) -> Any:
    """The mean of each window of signals (N, C, W) or (C, W); otherwise as :func:`avg_pool2d`.

    Source: ``torch.nn.functional.avg_pool1d``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.avg_pool1d.html

    >>> import numpy as np
    >>> avg_pool1d(np.array([[3.0, 1.0, 2.0, 5.0]]), 2)
    array([[2. , 3.5]])
    """
    count = (count_include_pad, None)
    return _avg_pool(1, input, kernel_size, stride, padding, ceil_mode, *count, data_format)


@drop_in
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
    backend: str | None = None,
) -> Any:
    """The mean of each window.

    Args:
        input, kernel_size, stride, padding, ceil_mode, data_format: as for :func:`max_pool2d`; padding is zeros. The
            means of integers are integers, without their fractions.
        count_include_pad: whether the padding counts as elements of a window.
        divisor_override: divide by this instead of the number of elements.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        y (N, C, OH, OW), or in channels last (N, OH, OW, C).

    Raises:
        TypeError: the dtype is none of float16, bfloat16, float32 and float64, nor one of integers; a size or divisor
            that is no integer, ``ceil_mode`` or ``count_include_pad`` that is neither True nor False.
        ValueError: a window that does not fit the padded input, padding of more than half a window, no channels, a
            divisor of 0, integers whose sums may exceed 2**50. For volumes also a window larger than the input without
            its padding, as in PyTorch.

    Source: ``torch.nn.functional.avg_pool2d``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.avg_pool2d.html

    >>> import numpy as np
    >>> avg_pool2d(np.arange(16.0).reshape(1, 4, 4), 2)
    array([[[ 2.5,  4.5],
            [10.5, 12.5]]])
    """
    count = (count_include_pad, divisor_override)
    return _avg_pool(2, input, kernel_size, stride, padding, ceil_mode, *count, data_format)


@drop_in
def avg_pool3d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    data_format: str = "channels_first",
    backend: str | None = None,
) -> Any:
    """The mean of each window of volumes (N, C, D, H, W) or (C, D, H, W); otherwise as :func:`avg_pool2d`.

    Source: ``torch.nn.functional.avg_pool3d``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.avg_pool3d.html

    >>> import numpy as np
    >>> avg_pool3d(np.arange(8.0).reshape(1, 2, 2, 2), 2)
    array([[[[3.5]]]])
    """
    count = (count_include_pad, divisor_override)
    return _avg_pool(3, input, kernel_size, stride, padding, ceil_mode, *count, data_format)


@drop_in
def lp_pool1d(
    input: Any,
    norm_type: float,
    kernel_size: Any,
    stride: Any = None,
    ceil_mode: bool = False,
    *,
    data_format: str = "channels_first",
    backend: str | None = None,
) -> Any:
    """The norm of each window of signals (N, C, W) or (C, W); otherwise as :func:`lp_pool2d`.

    Raises:
        TypeError, ValueError: as :func:`lp_pool2d`; a size in a tuple or a list.

    Source: ``torch.nn.functional.lp_pool1d``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.lp_pool1d.html

    >>> import numpy as np
    >>> lp_pool1d(np.array([[3.0, 4.0, 0.0, 5.0]]), 2, 2)
    array([[5., 5.]])
    """
    return _lp_pool(1, input, norm_type, kernel_size, stride, ceil_mode, data_format)


@drop_in
def lp_pool2d(
    input: Any,
    norm_type: float,
    kernel_size: Any,
    stride: Any = None,
    ceil_mode: bool = False,
    *,
    data_format: str = "channels_first",
    backend: str | None = None,
) -> Any:
    """The norm of each window, ``(sum of x**p) ** (1 / p)`` for p = ``norm_type``.

    Args:
        input, kernel_size, stride, data_format: as for :func:`max_pool2d`.
        norm_type: the power p, any number but 0; 2 has a kernel of its own. Odd powers of negative elements are
            negative, and what is no root of their sum is NaN. Infinity gives the greatest absolute value, and
            minus infinity the least.
        ceil_mode: round the output size up. Of a window that hangs over the end the sum is divided by the share of
            the window that lies inside.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        y (N, C, OH, OW), or in channels last (N, OH, OW, C). A window with the sum 0 has the gradient 0.

    Raises:
        TypeError: the dtype is none of float16, bfloat16, float32 and float64, the power is no number. PyTorch takes
            integers, but takes the root of means that it has cut off behind the point.
        ValueError: a window that does not fit the input, no channels, a power of 0.

    Source: ``torch.nn.functional.lp_pool2d``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.lp_pool2d.html

    >>> import numpy as np
    >>> lp_pool2d(np.array([[[1.0, 2.0], [2.0, 4.0]]]), 2, 2)
    array([[[5.]]])
    """
    return _lp_pool(2, input, norm_type, kernel_size, stride, ceil_mode, data_format)


@drop_in
def lp_pool3d(
    input: Any,
    norm_type: float,
    kernel_size: Any,
    stride: Any = None,
    ceil_mode: bool = False,
    *,
    data_format: str = "channels_first",
    backend: str | None = None,
) -> Any:
    """The norm of each window of volumes (N, C, D, H, W) or (C, D, H, W); otherwise as :func:`lp_pool2d`.

    Raises:
        TypeError, ValueError: as :func:`lp_pool2d`.

    Source: ``torch.nn.functional.lp_pool3d``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.lp_pool3d.html

    >>> import numpy as np
    >>> lp_pool3d(np.full((1, 1, 2, 2), 3.0), 2, (1, 2, 2))
    array([[[[6.]]]])
    """
    return _lp_pool(3, input, norm_type, kernel_size, stride, ceil_mode, data_format)


@drop_in
def adaptive_avg_pool1d(
    input: Any, output_size: Any, *, data_format: str = "channels_first", backend: str | None = None
) -> Any:
    """The means of ``output_size`` windows of signals (N, C, W) or (C, W); otherwise as :func:`adaptive_avg_pool2d`.

    Source: ``torch.nn.functional.adaptive_avg_pool1d``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.adaptive_avg_pool1d.html

    >>> import numpy as np
    >>> adaptive_avg_pool1d(np.array([[1.0, 2.0, 6.0]]), 1)
    array([[3.]])
    """
    return _adaptive_avg_pool(1, input, output_size, data_format)


@drop_in
def adaptive_avg_pool2d(
    input: Any, output_size: Any, *, data_format: str = "channels_first", backend: str | None = None
) -> Any:
    """The means of as many windows as are wanted, which cover the input evenly.

    Window o of O along an axis of size W holds the elements from ``floor(o * W / O)`` up to ``ceil((o + 1) * W / O)``.
    An ``output_size`` of 1 is global average pooling.

    Args:
        input: x (N, C, H, W) or (C, H, W); channels last (N, H, W, C) or (H, W, C). float32 or float64;
            or float16 or bfloat16, computed in float32 and rounded once.
        output_size: (OH, OW), or one integer for both; None in the pair keeps the input's size along an axis.
        data_format: "channels_first" or "channels_last".
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        y (N, C, OH, OW), or in channels last (N, OH, OW, C).

    Raises:
        TypeError: the dtype is none of float16, bfloat16, float32 and float64; a size that is no integer.
        ValueError: a negative size, an input without pixels, or without channels where the result has a maximum.

    Source: ``torch.nn.functional.adaptive_avg_pool2d``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.adaptive_avg_pool2d.html

    >>> import numpy as np
    >>> adaptive_avg_pool2d(np.arange(9.0).reshape(1, 3, 3), 2)
    array([[[2., 3.],
            [5., 6.]]])
    """
    return _adaptive_avg_pool(2, input, output_size, data_format)


@drop_in
def adaptive_avg_pool3d(
    input: Any, output_size: Any, *, data_format: str = "channels_first", backend: str | None = None
) -> Any:
    """The means of windows of volumes (N, C, D, H, W) or (C, D, H, W); otherwise as :func:`adaptive_avg_pool2d`.

    Source: ``torch.nn.functional.adaptive_avg_pool3d``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.adaptive_avg_pool3d.html

    >>> import numpy as np
    >>> adaptive_avg_pool3d(np.arange(8.0).reshape(1, 2, 2, 2), 1)
    array([[[[3.5]]]])
    """
    return _adaptive_avg_pool(3, input, output_size, data_format)


@drop_in
def adaptive_max_pool1d(
    input: Any,
    output_size: Any,
    return_indices: bool = False,
    *,
    data_format: str = "channels_first",
    backend: str | None = None,
) -> Any:
    """The greatest of windows of signals (N, C, W) or (C, W); otherwise as :func:`adaptive_max_pool2d`.

    Source: ``torch.nn.functional.adaptive_max_pool1d``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.adaptive_max_pool1d.html

    >>> import numpy as np
    >>> adaptive_max_pool1d(np.array([[1.0, 6.0, 2.0]]), 2)
    array([[6., 6.]])
    """
    return _adaptive_max_pool(1, input, output_size, return_indices, data_format)


@drop_in
def adaptive_max_pool2d(
    input: Any,
    output_size: Any,
    return_indices: bool = False,
    *,
    data_format: str = "channels_first",
    backend: str | None = None,
) -> Any:
    """The greatest element of as many windows as are wanted, those of :func:`adaptive_avg_pool2d`.

    Args:
        input, output_size, data_format: as for :func:`adaptive_avg_pool2d`.
        return_indices: also return where each maximum lies in its plane, ``h * W + w``, int64.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        y (N, C, OH, OW), or in channels last (N, OH, OW, C); with ``return_indices`` a pair.

    Raises:
        TypeError, ValueError: as :func:`adaptive_avg_pool2d`.

    Source: ``torch.nn.functional.adaptive_max_pool2d``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.adaptive_max_pool2d.html

    >>> import numpy as np
    >>> adaptive_max_pool2d(np.arange(9.0).reshape(1, 3, 3), (1, 2))
    array([[[7., 8.]]])
    """
    return _adaptive_max_pool(2, input, output_size, return_indices, data_format)


@drop_in
def adaptive_max_pool3d(
    input: Any,
    output_size: Any,
    return_indices: bool = False,
    *,
    data_format: str = "channels_first",
    backend: str | None = None,
) -> Any:
    """The greatest of windows of volumes (N, C, D, H, W) or (C, D, H, W); otherwise as :func:`adaptive_max_pool2d`.

    Source: ``torch.nn.functional.adaptive_max_pool3d``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.adaptive_max_pool3d.html

    >>> import numpy as np
    >>> adaptive_max_pool3d(np.arange(8.0).reshape(1, 2, 2, 2), 1)
    array([[[[7.]]]])
    """
    return _adaptive_max_pool(3, input, output_size, return_indices, data_format)


def _max_pool(
    rank: int, input: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool,
    return_indices: bool, data_format: str,
) -> Any:  # fmt: skip
    if holds_integers(input):
        arguments = (kernel_size, stride, padding, dilation, ceil_mode, return_indices, data_format)
        found = _max_pool(rank, _in_float64(input), *arguments)
        dtype = input.dtype.newbyteorder("=")
        return (found[0].astype(dtype), found[1]) if return_indices else found.astype(dtype)
    x, single, problem = windows_of_call(
        rank, "max", input, kernel_size, stride, padding, dilation, ceil_mode, data_format
    )
    return _greatest(x, single, problem, return_indices)


def _in_float64(input: Any) -> Any:
    """Integers as the same numbers in float64.

    Raises:
        ValueError: there are some which it does not hold.
    """
    if data_of(input).itemsize == 8 and magnitude(input) > GREATEST_EXACT:
        raise ValueError(f"integers that are pooled must be from -2**53 to 2**53; received up to {magnitude(input)}")
    return input.astype(np.float64)


def _greatest(x: Any, single: bool, problem: PoolProblem, return_indices: bool) -> Any:
    y, indices = apply(MaxPool, x, problem=problem, indices=bool(return_indices))
    if return_indices:
        return without_batch(y, single), without_batch(indices, single)
    return without_batch(y, single)


def _avg_pool(
    rank: int, input: Any, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool, count_include_pad: bool,
    divisor_override: int | None, data_format: str,
) -> Any:  # fmt: skip
    if holds_integers(input):
        return _avg_pool_of_integers(
            rank, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, data_format
        )
    x, single, problem = windows_of_call(
        rank, "average", input, kernel_size, stride, padding, 1, ceil_mode, data_format
    )
    if divisor_override is not None:
        divisor = integer("divisor_override", divisor_override)
        if divisor == 0:
            raise ValueError(f"divisor_override must not be 0; received {divisor_override!r}")
        problem = problem._replace(divisor=divisor)
    if not boolean("count_include_pad", count_include_pad):
        problem = problem._replace(count_padding=False)
    return without_batch(apply(AveragePool, x, problem=problem), single)


def _avg_pool_of_integers(rank: int, input: Any, kernel_size: Any, *arguments: Any) -> Any:
    """Means of integers, without their fractions: computed in float64.

    Means that are no integers are at least ``1 / most`` away from one, ``most`` being the greatest divisor, and float64
    is less than half of that away from them: so this half tells what has rounded below an integer.

    Raises:
        ValueError: the sums may exceed 2**50.
    """
    means = _avg_pool(rank, _in_float64(input), kernel_size, *arguments)
    window = math.prod(per_axis("kernel_size", kernel_size, rank))
    most = max(window, abs(arguments[-2] or 0))
    if magnitude(input) * most > GREATEST_EXACT // 8:
        raise ValueError(
            f"sums of integers must be at most 2**50; these may be up to {magnitude(input) * most}: convert to floats"
        )
    values = data_of(means)
    whole = np.trunc(values + np.copysign(0.5 / most, values)).astype(np.int64).astype(input.dtype.newbyteorder("="))
    return Tensor(whole) if isinstance(means, Tensor) else whole


def _lp_pool(
    rank: int, input: Any, norm_type: Any, kernel_size: Any, stride: Any, ceil_mode: bool, data_format: str
) -> Any:
    power = _power(norm_type)
    # PyTorch multiplies the sizes as they are given, and so takes no tuple of one.
    kernel = per_axis(
        "kernel_size", integer("kernel_size", kernel_size) if rank == 1 else kernel_size, rank, spread=False
    )
    if math.isinf(power):
        least = power < 0
        sizes = apply(Abs, floating("input", input))
        y = _max_pool(rank, -sizes if least else sizes, kernel, stride, 0, 1, ceil_mode, False, data_format)
        return -y if least else y
    x, single, problem = windows_of_call(rank, "norm", input, kernel, stride, 0, 1, ceil_mode, data_format)
    dtype, x = x.dtype, widened(x)
    problem = problem._replace(dtype=DTYPE_NAMES[x.dtype])
    if power == 2 and not _hangs_over(problem):
        return without_batch(rounded(apply(NormPool, x, problem=problem), dtype), single)
    means = problem._replace(kind="average")
    mean = apply(AveragePool, x if power == 1 else _raised(x, power), problem=means)
    # A sum of 0, at which a root has no slope, has the gradient 0.
    total = apply(Select, mean, mask=data_of(mean) != 0) * math.prod(problem.kernel)
    return without_batch(rounded(total if power == 1 else _raised(total, 1 / power), dtype), single)


def _raised(x: Any, power: float) -> Any:
    """``x ** power``, without a warning where that is NaN."""
    return apply(Power, x, backends.of(data_of(x)).xp.asarray(power, x.dtype))


def _power(norm_type: Any) -> float:
    """The power of a norm.

    Raises:
        TypeError: not a number.
        ValueError: zero.
    """
    # A boolean is a number in PyTorch's powers.
    power = number("norm_type", int(norm_type) if isinstance(norm_type, bool) else norm_type)
    if power == 0:
        raise ValueError(f"norm_type must be a number other than 0; received {norm_type!r}")
    return power


def _hangs_over(p: PoolProblem) -> bool:
    """Whether the last window along an axis holds fewer elements than the others."""
    return any((out - 1) * step + taps > n for n, out, step, taps in zip(p.size, p.output, p.stride, p.kernel))


def batch_of(input: Any, rank: int, data_format: str) -> tuple[Any, bool, int, int, tuple[int, ...]]:
    """The input with a batch axis, whether that axis was added, and its sizes N, C and those of the spatial axes."""
    x = floating("input", input)
    N, C, size = array_sizes("input", tuple(x.shape), data_format, rank)
    single = x.ndim == rank + 1
    return (x.reshape(1, *x.shape) if single else x), single, N, C, size


def windows_of_call(
    rank: int, kind: Any, input: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool,
    data_format: str, **names: tuple[str, str, str],
) -> tuple[Any, bool, PoolProblem]:  # fmt: skip
    """What a call pools: the input with a batch axis, whether that was added, and the problem."""
    x = floating("input", input)
    problem = windows_problem(
        DTYPE_NAMES[x.dtype], x.shape, rank, kind, data_format, kernel_size, stride, padding, dilation, ceil_mode,
        **names,
    )  # fmt: skip
    single = x.ndim == rank + 1
    return (x.reshape(1, *x.shape) if single else x), single, problem


def _adaptive_avg_pool(rank: int, input: Any, output_size: Any, data_format: str) -> Any:
    x, single, problem, out = _adaptive(rank, "average", input, output_size, data_format)
    return windows_kept(without_batch(apply(AveragePool, x, problem=problem), single), out, data_format)


def _adaptive_max_pool(rank: int, input: Any, output_size: Any, return_indices: bool, data_format: str) -> Any:
    x, single, problem, out = _adaptive(rank, "max", input, output_size, data_format)
    found = _greatest(x, single, problem, return_indices)
    if return_indices:
        return tuple(windows_kept(each, out, data_format) for each in found)
    return windows_kept(found, out, data_format)


def windows_kept(y: Any, out: tuple[int, ...], data_format: str) -> Any:
    """A result of the size that a call wants, which may have no windows along an axis: one was computed there."""
    if 0 not in out:
        return y
    kept = tuple(slice(0, wanted) for wanted in out)
    return y[(..., *kept) if data_format == "channels_first" else (..., *kept, slice(None))]


def _adaptive(
    rank: int, kind: Any, input: Any, output_size: Any, data_format: str
) -> tuple[Any, bool, PoolProblem, tuple[int, ...]]:
    """What a call of an adaptive pooling pools, as :func:`windows_of_call`, and the size that it wants.

    The problem has at least one window along each axis.
    """
    x, single, N, C, size = batch_of(input, rank, data_format)
    out = _adaptive_size(rank, size, output_size)
    if C == 0 and not single and (kind == "max" or rank == 3):  # which empty inputs are refused is PyTorch's rule
        raise ValueError(f"input must have at least one channel; received the shape {tuple(x.shape)}")
    ones, none = (1, 1, 1), ((0, 0),) * 3
    return x, single, PoolProblem(
        kind, DTYPE_NAMES[x.dtype], layout(data_format), N, C, triple(size), ones, ones, none,
        rank=rank, target=triple(tuple(max(wanted, 1) for wanted in out)),
    ), out  # fmt: skip


def _adaptive_size(rank: int, size: tuple[int, ...], output_size: Any) -> tuple[int, ...]:
    """How many windows are wanted along each axis.

    Raises:
        TypeError: not integers; or None instead of one for each axis, or for the axis of a signal.
        ValueError: another number of them, or negative ones.
    """
    if output_size is None or (rank == 1 and output_size in ((None,), [None])):
        raise TypeError(f"output_size must be {FORMS[rank]}; received {output_size!r}")
    if not isinstance(output_size, tuple | list):
        return per_axis("output_size", output_size, rank, least=0)
    if len(output_size) != rank:
        raise ValueError(f"output_size must have {rank} numbers, one for each axis; received {output_size!r}")
    wanted = tuple(n if want is None else want for n, want in zip(size, output_size))
    return per_axis("output_size", wanted, rank, least=0)


@remembered(sure=3)
def windows_problem(
    dtype: str,
    shape: tuple[int, ...],
    rank: int,
    kind: Any,
    data_format: str,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    names: tuple[str, str, str] = ("kernel_size", "stride", "padding"),
) -> PoolProblem:
    """The checked problem of pooling an array of this shape; ``names`` are those of the arguments in an error.

    Raises:
        TypeError, ValueError: as :func:`max_pool2d` says.
    """
    N, C, size = array_sizes("input", shape, data_format, rank)
    if C == 0:
        raise ValueError(f"input must have at least one channel; received the shape {shape}")
    kernel = per_axis(names[0], kernel_size, rank)
    no_stride = stride is None or (isinstance(stride, tuple | list) and not stride)
    steps = kernel if no_stride else per_axis(names[1], stride, rank)
    distances = per_axis("dilation", dilation, rank)
    sides = sides_per_axis(names[2], padding, rank)
    for axis, taps, pads in zip(_AXES[3 - rank :], kernel, sides):
        if max(pads) > taps // 2:
            raise ValueError(f"{names[2]} must be at most half a window, {taps // 2} in {axis}; received {pads}")
    problem = PoolProblem(
        kind, dtype, layout(data_format), N, C, triple(size), triple(kernel), triple(steps),
        sides_triple(sides), triple(distances), boolean("ceil_mode", ceil_mode), rank=rank,
    )  # fmt: skip
    for axis, pixels, out, taps, (before, after), D in zip(
        _AXES, problem.size, problem.output, problem.kernel, problem.padding, problem.dilation
    ):
        if out < 1:
            raise ValueError(
                f"a window must fit the padded input: it extends over {effective_kernel(taps, D)} in {axis}, "
                f"the input over {pixels} + {before} + {after}"
            )
        # PyTorch does not let the windows of volumes hang over on both sides, padding or not.
        if rank == 3 and kind in ("average", "norm") and taps > pixels:
            raise ValueError(f"{names[0]} must be at most the input's size, {pixels} in {axis}; received {taps}")
    return problem
