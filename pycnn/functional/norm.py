"""Normalisation of rows, by mean and variance or by the mean of squares, and local response normalisation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pycnn.autograd import Function, is_grad_enabled
from pycnn.backend import plan_on
from pycnn.functional.arguments import apply, floating, integer, layout, number, refuse_two_places, rounded, widened
from pycnn.functional.pool import avg_pool2d
from pycnn.interop.arrays import drop_in
from pycnn.tensor import Tensor
from pycnn_kernels.problem import DTYPE_NAMES, ChannelsProblem, RowsProblem, is_half

Grads = tuple[Tensor | None, ...]


class LayerNorm(Function):
    """Each row of x (rows, columns) with mean 0 and variance 1, times weight plus bias (columns,), or without them.

    Or, with ``centred=False``, each with the mean of squares 1, whatever its mean.
    """

    reads = ((0, 1), (0,), ())
    uses_numpy = False

    def forward(
        self, x: np.ndarray, weight: np.ndarray | None, bias: np.ndarray | None, *, eps: float, centred: bool = True
    ) -> np.ndarray:
        self.eps, self.centred = eps, centred
        plan = plan_on(x, "layer_norm" if centred else "rms_norm", RowsProblem(DTYPE_NAMES[x.dtype], *x.shape))
        y, self.statistics = plan.run(x, weight, bias, scalars=(eps,))
        return y

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        x, weight, _ = self.inputs
        if is_grad_enabled():
            return self._composed(dy, x, weight)
        operation = "layer_norm_gradient" if self.centred else "rms_norm_gradient"
        plan = plan_on(x.data, operation, RowsProblem(DTYPE_NAMES[x.dtype], *x.shape))
        skip = tuple(name for name, needed in zip(("dx", "dweight", "dbias"), self.needs) if not needed)
        found = plan.run(dy.data, x.data, None if weight is None else weight.data, self.statistics, skip=skip)
        return tuple(None if gradient is None else Tensor._of(gradient) for gradient in found)

    def _composed(self, dy: Tensor, x: Tensor, weight: Tensor | None) -> Grads:
        """The same of operations that have gradients themselves: the kernel's statistics are plain numbers."""
        deviation = x - x.mean(1, keepdims=True) if self.centred else x
        rstd = ((deviation * deviation).mean(1, keepdims=True) + self.eps) ** -0.5
        normal = deviation * rstd
        g = dy if weight is None else dy * weight
        along = normal * (g * normal).mean(1, keepdims=True)
        dx = rstd * (g - g.mean(1, keepdims=True) - along if self.centred else g - along)
        return dx, (dy * normal).sum(0), dy.sum(0)


class ResponseNorm(Function):
    """``x / (k + alpha * mean of x^2 over windows of size channels)^beta`` for x (outer, channels, inner)."""

    uses_numpy = False

    def forward(self, x: np.ndarray, *, size: int, alpha: float, beta: float, k: float) -> np.ndarray:
        self.size, self.scalars = size, (size, alpha, beta, k)
        (y,) = plan_on(x, "response_norm", ChannelsProblem(DTYPE_NAMES[x.dtype], *x.shape)).run(x, scalars=self.scalars)
        return y

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        (x,) = self.inputs
        if is_grad_enabled():
            return (self._composed(dy, x),)
        plan = plan_on(x.data, "response_norm_gradient", ChannelsProblem(DTYPE_NAMES[x.dtype], *x.shape))
        (dx,) = plan.run(dy.data, x.data, scalars=self.scalars)
        return (Tensor._of(dx),)

    def _composed(self, dy: Tensor, x: Tensor) -> Tensor:
        """The same of operations that have gradients themselves."""
        if x.size == 0:  # which pooling refuses
            return dy * x
        size, alpha, beta, k = self.scalars
        before, after = size // 2, (size - 1) // 2
        d = _window_means(x * x, size, before, after) * alpha + k
        part = dy * d**-beta
        # The windows that hold a channel begin as far before it as its own ends behind it.
        return part - x * _window_means(part * x / d, size, after, before) * (2 * alpha * beta)


def _window_means(x: Tensor, size: int, before: int, after: int) -> Tensor:
    """For each channel of x (outer, channels, inner) the mean over ``size`` channels around it, zeros outside."""
    outer, channels, inner = x.shape
    before, after = min(before, channels - 1), min(after, channels - 1)  # as far as there is anything but zeros
    planes = x.reshape(outer, 1, channels, inner)
    means = avg_pool2d(planes, (before + 1 + after, 1), 1, ((before, after), (0, 0)), divisor_override=size)
    return means.reshape(x.shape)


@drop_in
def layer_norm(
    input: Any,
    normalized_shape: Any,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    *,
    backend: str | None = None,
) -> Any:
    """``(x - mean) / sqrt(variance + eps) * weight + bias``, mean and variance over the last axes.

    The variance is that of all elements, divided by their number.

    Args:
        input: x (..., *normalized_shape), float32 or float64; or float16 or bfloat16, which are computed in float32 and
            rounded once.
        normalized_shape: the sizes of the last axes, those over which mean and variance are taken; at least one.
        weight: of the shape ``normalized_shape``, in the dtype of the input, or float32 beside float16 and bfloat16; or
            None.
        bias: the same.
        eps: keeps the root away from 0.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        y, of the input's shape and dtype.

    Raises:
        TypeError: other dtypes than those; a normalized_shape that is no tuple or list of integers, an eps that is no
            number.
        ValueError: shapes that do not fit each other.

    Source: ``torch.nn.functional.layer_norm``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.layer_norm.html

    >>> import numpy as np
    >>> layer_norm(np.array([[1.0, 3.0], [20.0, 10.0]]), (2,), eps=0.0)
    array([[-1.,  1.],
           [ 1., -1.]])
    """
    x = floating("input", input)
    sizes = _normalized_sizes(normalized_shape)
    eps = number("eps", eps)
    w, b = (_parameter(name, value, x, sizes) for name, value in (("weight", weight), ("bias", bias)))
    refuse_two_dtypes(weight, bias)
    shape = tuple(x.shape)
    _refuse_other_ends(shape, sizes)
    columns = math.prod(sizes)
    rows = math.prod(shape[: -len(sizes)])
    y = apply(LayerNorm, widened(x).reshape(rows, columns), w, b, eps=eps)
    return rounded(y.reshape(shape), x.dtype)


def _normalized_sizes(normalized_shape: Any) -> tuple[int, ...]:
    if not isinstance(normalized_shape, tuple | list):
        raise TypeError(
            f"normalized_shape must be a tuple of integers, the sizes of the last axes; received {normalized_shape!r}"
        )
    if not normalized_shape:
        raise ValueError("normalized_shape must have at least one axis; received ()")
    return tuple(integer("each of normalized_shape", size) for size in normalized_shape)


def _refuse_other_ends(shape: tuple[int, ...], sizes: tuple[int, ...]) -> None:
    if shape[-len(sizes) :] != sizes:
        raise ValueError(f"input must end with the axes of normalized_shape, {sizes}; received the shape {shape}")


def refuse_two_dtypes(weight: Any, bias: Any) -> None:
    """Raise a TypeError where weight and bias are arrays or tensors of different dtypes."""
    dtypes = [each.dtype for each in (weight, bias) if hasattr(each, "dtype")]
    if len(dtypes) == 2 and dtypes[0].newbyteorder("=") != dtypes[1].newbyteorder("="):
        raise TypeError(f"weight and bias must have the same dtype; received {dtypes[0]} and {dtypes[1]}")


def _parameter(name: str, value: Any, x: Any, sizes: tuple[int, ...]) -> Any:
    """Weight or bias as a row in the dtype that is computed in, None for None."""
    if value is None:
        return None
    value = floating(name, value)
    if value.dtype != x.dtype and not (is_half(x.dtype) and value.dtype == np.float32):
        raise TypeError(f"{name} must have the dtype of the input, {x.dtype}; received {value.dtype}")
    if tuple(value.shape) != sizes:
        raise ValueError(f"{name} must have the shape of normalized_shape, {sizes}; received {tuple(value.shape)}")
    return widened(value).reshape(math.prod(sizes))


@drop_in
def rms_norm(
    input: Any,
    normalized_shape: Any,
    weight: Any = None,
    eps: float | None = None,
    *,
    backend: str | None = None,
) -> Any:
    """``x / sqrt(mean of x^2 + eps) * weight``, the mean over the last axes.

    Args:
        input: x (..., *normalized_shape), float32 or float64; or float16 or bfloat16, which are computed in float32 and
            rounded once.
        normalized_shape: the sizes of the last axes, those over which the mean is taken; at least one.
        weight: of the shape ``normalized_shape``, floating point; or None.
        eps: keeps the root away from 0; None is the distance from 1 to the next number of the dtype that is
            computed in.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        y, of the input's shape and dtype.

    Raises:
        TypeError: other dtypes than those; a normalized_shape that is no tuple or list of integers, an eps that is no
            number.
        ValueError: shapes that do not fit each other.

    Source: Zhang and Sennrich, "Root mean square layer normalization" (2019); ``torch.nn.functional.rms_norm``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.rms_norm.html

    >>> import numpy as np
    >>> rms_norm(np.array([[1.0, 7.0]]), (2,))
    array([[0.2, 1.4]])
    """
    x, sizes = floating("input", input), _normalized_sizes(normalized_shape)
    shape = tuple(x.shape)
    _refuse_other_ends(shape, sizes)
    wide, columns = widened(x), math.prod(sizes)
    eps = _EPSILON[wide.dtype] if eps is None else number("eps", eps)
    if weight is not None:
        weight = floating("weight", weight)
        refuse_two_places("weight", weight, x)
        if tuple(weight.shape) != sizes:
            raise ValueError(f"weight must have the shape of normalized_shape, {sizes}; received {weight.shape}")
        weight = rounded(weight, wide.dtype).reshape(columns)
    rows = wide.reshape(math.prod(shape[: -len(sizes)]), columns)
    return rounded(apply(LayerNorm, rows, weight, None, eps=eps, centred=False).reshape(shape), x.dtype)


#: The distance from 1 to the next number.
_EPSILON = {np.dtype(dtype): float(np.finfo(dtype).eps) for dtype in (np.float32, np.float64)}


@drop_in
def local_response_norm(
    input: Any,
    size: int,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 1.0,
    *,
    data_format: str = "channels_first",
    backend: str | None = None,
) -> Any:
    """``x / (k + alpha / size * sum of x^2 over a window of channels)^beta``, element by element.

    The window of a channel is itself, the ``size // 2`` channels before it and the ``(size - 1) // 2`` behind it;
    channels that do not exist count 0, and the sum is divided by ``size`` all the same.

    Args:
        input: x (N, C, ...), channels last (N, ..., C), at least three axes. float32 or float64; or float16 or
            bfloat16, which are computed in float32 and rounded once.
        size: the channels of a window, at least 1.
        alpha, beta, k: see above. 0.75 and 0.5 for beta are faster than others: roots instead of powers.
        data_format: "channels_first" or "channels_last".
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        y, of the input's shape and dtype.

    Raises:
        TypeError: another dtype than those, a size that is no integer, an alpha, beta or k that is no number. PyTorch
            takes integers, but divides by means that it has cut off behind the point.
        ValueError: fewer axes, a size below 1, an unknown data_format.

    Source: Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep Convolutional Neural Networks" (2012),
    section 3.3; ``torch.nn.functional.local_response_norm``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.local_response_norm.html

    >>> import numpy as np
    >>> x = np.array([1.0, 2.0, 2.0]).reshape(1, 3, 1)
    >>> local_response_norm(x, 2, alpha=2.0, beta=1.0, k=0.0).ravel()
    array([1.  , 0.4 , 0.25])
    """
    x = floating("input", input)
    first = layout(data_format) == "channels_first"
    if x.ndim < 3:
        axes = "(N, C, ...)" if first else "(N, ..., C)"
        raise ValueError(f"input must have at least three axes, {axes}; received the shape {tuple(x.shape)}")
    size = integer("size", size)
    if size < 1:
        raise ValueError(f"size must be at least 1; received {size}")
    settings = {"alpha": number("alpha", alpha), "beta": number("beta", beta), "k": number("k", k)}
    N, *rest = shape = tuple(x.shape)
    images = (N, rest[0], math.prod(rest[1:])) if first else (math.prod(shape[:-1]), shape[-1], 1)
    y = apply(ResponseNorm, widened(x).reshape(*images), size=size, **settings)
    return rounded(y.reshape(shape), x.dtype)
