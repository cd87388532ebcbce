"""Norms of vectors, and the distances and angles between them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pycnn import backend as backends
from pycnn.autograd import Function, is_grad_enabled
from pycnn.elementary import Broadcast, dots, elementwise
from pycnn.functional.arguments import apply, boolean, data_of, floating, integer, number, widened
from pycnn.functional.loss_arguments import (
    AtLeast,
    alike,
    broadcast_shape,
    chosen,
    in_dtype,
    of_one_kind,
    on_tensors,
)
from pycnn.interop.arrays import drop_in
from pycnn.tensor import Tensor

Grads = tuple[Tensor | None, ...]


class VectorNorm(Function):
    """``(sum of |x|^p)^(1 / p)`` over some axes, which are kept: the largest ``|x|`` for an infinite p, for
    -infinity the least, and for 0 how many elements are not 0.

    Source: ``torch.linalg.vector_norm``, also for the slopes where there is none: 0 at 0.
    """

    def forward(self, x: np.ndarray, *, p: float, axes: tuple[int, ...]) -> np.ndarray:
        self.p, self.axes = p, axes
        self.norm = _norm(x, p, axes)
        return self.norm

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        (x,), p = self.inputs, self.p
        norm = VectorNorm.apply(x, p=p, axes=self.axes) if is_grad_enabled() else Tensor._of(self.norm)
        if p == 0:
            return (x * 0,)
        none = norm.data == 0
        divisor = norm + none.astype(norm.dtype)  # never 0, for the sake of its own slope
        if p == 2:
            return (x * chosen(~none, dy / divisor),)
        sign = np.sign(x.data)
        if p == 1:
            return (dy * sign,)
        if math.isinf(p):  # the gradient is shared by all that are the largest
            extreme = np.abs(x.data) == norm.data
            shares = extreme / np.sum(extreme, axis=self.axes, keepdims=True)
            return (dy * (sign * shares.astype(x.dtype)),)
        steepness = x.abs() ** (p - 1)
        if p < 1:
            return (chosen(x.data != 0, steepness) * sign * (dy * norm ** (1 - p)),)
        return (steepness * sign * chosen(~none, dy / divisor ** (p - 1)),)


def _norm(x: np.ndarray, p: float, axes: tuple[int, ...], keepdims: bool = True) -> np.ndarray:
    """What :class:`VectorNorm` computes."""
    over: dict[str, Any] = {"axis": axes, "keepdims": keepdims}
    if p == 2 and len(axes) == 1:
        lengths, axis = np.sqrt(dots(x, x, axes[0])), axes[0]
        if not keepdims:
            return lengths
        return lengths[..., None] if axis == x.ndim - 1 else np.expand_dims(lengths, axis)
    if p == 2:
        return np.sqrt(np.sum(elementwise(np.multiply, x, x), **over))
    if p == 0:
        return np.sum(x != 0, **over).astype(x.dtype)
    size = elementwise(np.abs, x)
    if p == 1:
        return np.sum(size, **over)
    if math.isinf(p):
        return np.max(size, **over) if p > 0 else np.min(size, **over)
    return np.sum(size**p, **over) ** (1 / p)


class CosineSimilarity(Function):
    """The cosines of the angles between vectors of one shape along an axis, whose lengths are at least eps."""

    def forward(self, a: np.ndarray, b: np.ndarray, *, axis: int, eps: float) -> np.ndarray:
        self.axis, self.eps = axis, eps
        least = a.dtype.type(eps)
        a_length, b_length = (np.maximum(np.sqrt(dots(each, each, axis)), least) for each in (a, b))
        return dots(a, b, axis) / a_length / b_length

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        a, b = self.inputs
        (a_unit, a_length), (b_unit, b_length) = (self._unit(each) for each in (a, b))
        dy = dy.reshape(a_length.shape)
        cosine = (a / a_length * b).sum(self.axis, keepdims=True) / b_length
        da = (b / b_length - a_unit * cosine) * (dy / a_length) if self.needs[0] else None
        db = (a / a_length - b_unit * cosine) * (dy / b_length) if self.needs[1] else None
        return da, db

    def _unit(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors by their lengths, which is how these grow with them, 0 for those without any; and the lengths."""
        norm = VectorNorm.apply(x, p=2.0, axes=(self.axis,))
        none = norm.data == 0
        return x * chosen(~none, 1 / (norm + none.astype(norm.dtype))), AtLeast.apply(norm, least=self.eps)


def axis_of(dim: Any, ndim: int) -> tuple[int, ...]:
    """The axis ``dim``, as a tuple; of a single number, which has none, 0 and -1 name no axis.

    Raises:
        TypeError: no integer.
        ValueError: there is no such axis.
    """
    dim = integer("dim", dim)
    last = max(ndim - 1, 0)
    if not -last - 1 <= dim <= last:
        raise ValueError(f"dim must be from {-last - 1} to {last} for an array of {ndim} axes; received {dim}")
    return (dim % ndim,) if ndim else ()


def expanded(x: Any, shape: tuple[int, ...]) -> Any:
    """A tensor or an array repeated to a shape; itself where it has it."""
    return x if x.shape == shape else apply(Broadcast, x, shape=shape)


@drop_in
@on_tensors
def cosine_similarity(x1: Any, x2: Any, dim: int = 1, eps: float = 1e-8, *, backend: str | None = None) -> Any:
    """The cosine of the angle between vectors: ``sum of x1 x2 / (max(|x1|, eps) max(|x2|, eps))``.

    Args:
        x1, x2: shapes that broadcast; float16, bfloat16 (both computed in float32 and rounded once), float32 or
            float64.
        dim: the axis of both, after broadcasting, along which the vectors lie.
        eps: the least length of a vector.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        The cosines, without the axis ``dim``, in the wider dtype of the two.

    Raises:
        TypeError: no floating-point numbers, an eps that is no number, a dim that is no integer.
        ValueError: shapes that do not broadcast, an axis that does not exist, an eps below 0.

    Source: ``torch.nn.functional.cosine_similarity``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.cosine_similarity.html

    >>> import numpy as np
    >>> cosine_similarity(np.array([[1.0, 0.0], [2.0, 2.0]]), np.array([[0.0, 3.0], [1.0, 1.0]])).round(4)
    array([0., 1.])
    """
    eps = number("eps", eps)
    if eps < 0:
        raise ValueError(f"eps must be at least 0; received {eps}")
    (a, b), dtype = alike(x1=x1, x2=x2)
    shape = broadcast_shape(x1=a, x2=b)
    axes = axis_of(dim, len(shape))
    # A single number is a vector of one element.
    a, b = (expanded(each, shape).reshape(shape or (1,)) for each in (a, b))
    return in_dtype(apply(CosineSimilarity, a, b, axis=axes[0] if axes else 0, eps=eps), dtype)


@drop_in
@on_tensors
@np.errstate(all="ignore")
def pairwise_distance(
    x1: Any, x2: Any, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False, *, backend: str | None = None
) -> Any:
    """The p-norm of ``x1 - x2 + eps`` over the last axis.

    Args:
        x1, x2: shapes that broadcast; float16, bfloat16 (both computed in float32 and rounded once), float32 or
            float64. Integers alone give float32.
        p: the exponent of the norm, any number or infinity.
        eps: keeps the norm away from 0, where it has no slope.
        keepdim: keep the last axis, with the size 1.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        The distances, without the last axis, in the wider dtype of the two.

    Raises:
        TypeError: no real numbers, or booleans alone; a p or an eps that is no number; a keepdim that is neither True
            nor False.
        ValueError: shapes that do not broadcast; no elements where the norm needs one.

    Source: ``torch.nn.functional.pairwise_distance``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.pairwise_distance.html

    >>> import numpy as np
    >>> pairwise_distance(np.array([[3.0, 0.0]]), np.array([[0.0, 4.0]])).round(4)
    array([5.])
    """
    p, eps, keepdim = number("p", p), number("eps", eps), boolean("keepdim", keepdim)
    found, dtype = alike(integers_count=True, x1=x1, x2=x2)
    a, b = of_one_kind(found)
    broadcast_shape(x1=a, x2=b)
    return in_dtype(distances_between(a, b, p, eps, keepdim), dtype)


def distances_between(a: Any, b: Any, p: float, eps: float, keepdim: bool = False) -> Any:
    """Norms of ``a - b + eps`` over the last axis; of tensors, or of arrays."""
    d = a - b + eps
    axes = (d.ndim - 1,) if d.ndim else ()
    refuse_extremes_of_nothing(d.shape, p, axes)
    if type(d) is np.ndarray:
        return _norm(d, p, axes, keepdim)
    norms = apply(VectorNorm, d, p=p, axes=axes)
    return norms if keepdim or not norms.ndim else norms.reshape(norms.shape[:-1])


def refuse_extremes_of_nothing(shape: tuple[int, ...], p: float, axes: tuple[int, ...]) -> None:
    """Raise a ValueError for a norm of vectors without elements that is not 0."""
    if (p < 0 or math.isinf(p)) and any(shape[axis] == 0 for axis in axes):
        raise ValueError(f"the norm with p = {p} needs at least one element; received the shape {shape}")


@drop_in
def normalize(
    input: Any,
    p: float = 2.0,
    dim: int | tuple[int, ...] | None = 1,
    eps: float = 1e-12,
    out: Any = None,
    *,
    backend: str | None = None,
) -> Any:
    """``x / max(norm of x, eps)``, the p-norm taken over an axis.

    Args:
        input: x, any shape; float16, bfloat16 (both computed in float32 and rounded once), float32 or float64.
        p: the exponent of the norm, any number or infinity.
        dim: the axis, or several, over which the norm is taken; None for all.
        eps: the least norm that is divided by.
        out: an array of the input's shape and dtype, into which the result is written; it has no gradient then.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        An array or a tensor of the shape and dtype of the input; ``out`` if that is given.

    Raises:
        TypeError: another dtype, a p or an eps that is no number, a dim that is no integer, an ``out`` beside an input
            that requires a gradient, or that is no array.
        ValueError: an axis that does not exist or is named twice; no elements where the norm needs one; an ``out`` of
            another shape or dtype, or not writable.

    Source: ``torch.nn.functional.normalize``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.normalize.html

    >>> import numpy as np
    >>> normalize(np.array([[3.0, 4.0], [0.0, 2.0]]))
    array([[0.6, 0.8],
           [0. , 1. ]])
    """
    if out is not None and not isinstance(out, Tensor | np.ndarray) and not backends.is_on_gpu(out):
        kind = type(out)
        name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
        raise TypeError(f"out must be an array or a tensor like the input; received {name}")
    result = _normalized(input, p, dim, eps)
    return result if out is None else _written(out, result)


@on_tensors
def _normalized(input: Any, p: float, dim: int | tuple[int, ...] | None, eps: float) -> Any:
    p, eps = number("p", p), number("eps", eps)
    x = floating("input", input)
    dims = tuple(range(x.ndim)) if dim is None else dim if isinstance(dim, tuple | list) else (dim,)
    axes = tuple(axis for each in dims for axis in axis_of(each, x.ndim)) or tuple(range(x.ndim))
    if len(set(axes)) < len(axes) or len(dims) > max(x.ndim, 1):  # of a single number all name the same
        raise ValueError(f"dim must name each axis once; received {dim!r}")
    refuse_extremes_of_nothing(x.shape, p, axes)
    wide = widened(x)
    norm = apply(VectorNorm, wide, p=p, axes=axes)
    with np.errstate(all="ignore"):
        return in_dtype(wide / norm.clip(eps, None), x.dtype)


def _written(out: Any, result: Any) -> Any:
    """``out`` with a result in it."""
    if any(isinstance(each, Tensor) and each.requires_grad for each in (out, result)):
        raise TypeError(
            "out must be None where a gradient is required: what is written into it has none; "
            f"received one of the shape {tuple(out.shape)}"
        )
    array, values = data_of(out), data_of(result)
    if array.shape != values.shape or array.dtype != values.dtype:
        raise ValueError(
            f"out must have the input's shape {values.shape} and dtype {values.dtype}; "
            f"received {array.shape} and {array.dtype}"
        )
    if not backends.of(array).is_writable(array):
        raise ValueError("out must be writable; received a read-only array")
    array[...] = values
    return out
