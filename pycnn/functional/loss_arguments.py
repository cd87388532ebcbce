"""What losses share: operands of one dtype, former names of arguments, and the reduction to one number."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np

from pycnn.autograd import Function
from pycnn.elementary import COMPUTED, FLOAT32, Select, elementwise
from pycnn.functional.arguments import floating, one_of, refuse_two_places, rounded, tensor_or_array
from pycnn.tensor import Tensor
from pycnn_kernels.problem import is_floating, is_half

REDUCTIONS = ("mean", "sum", "none")

Grads = tuple[Tensor | None, ...]

_Operation = TypeVar("_Operation", bound=Callable[..., Any])


def on_tensors(operation: _Operation) -> _Operation:
    """An operation that is written with tensors: where no argument is one, its result becomes an array or a number.

    An operation that itself computes with arrays of NumPy's has ``@np.errstate(all="ignore")`` beside it, once for all
    that is in it: 1 / 0 is infinity, and no news.
    """

    @wraps(operation)
    def with_arrays(*arguments: Any, **settings: Any) -> Any:
        result = operation(*arguments, **settings)
        if isinstance(result, Tensor):
            for value in (*arguments, *settings.values()):
                if isinstance(value, Tensor):
                    return result
            result = result.data
        return result[()]

    return cast(_Operation, with_arrays)


def tensor(name: str, value: Any, like: Any = None) -> Tensor:
    """Floating-point numbers as a tensor; raises as :func:`pycnn.functional.arguments.floating`."""
    return as_tensor(floating(name, value, like))


def numbers(name: str, value: Any, like: Any = None) -> Any:
    """Floating-point numbers or integers, a tensor or an array, on the backend of ``like``.

    Raises:
        TypeError: no real numbers; an array on another backend.
    """
    value = tensor_or_array(name, value)
    if value.dtype.kind not in "iub" and not is_floating(value.dtype):
        raise TypeError(f"{name} must hold real numbers; received {value.dtype}")
    if like is not None:
        refuse_two_places(name, value, like)
    return value


def as_tensor(value: Any) -> Tensor:
    """A tensor as it is, an array as a tensor of the same memory."""
    return value if isinstance(value, Tensor) else Tensor._of(value)


def of_one_kind(values: list[Any]) -> list[Any]:
    """Tensors if one of them is, otherwise arrays as they are: arithmetic on these takes less time. None stays."""
    for value in values:  # a generator would take three times as long
        if isinstance(value, Tensor):
            return [None if each is None else as_tensor(each) for each in values]
    return values


def of_one_dtype(
    *, single_numbers_count: bool = False, integers_count: bool = False, **values: Any
) -> tuple[list[Tensor], np.dtype]:
    """Operands as tensors of the dtype in which to compute, and the dtype of the result; as :func:`alike`."""
    found, dtype = alike(single_numbers_count=single_numbers_count, integers_count=integers_count, **values)
    return [as_tensor(each) for each in found], dtype


def alike(
    *, single_numbers_count: bool = False, integers_count: bool = False, **values: Any
) -> tuple[list[Any], np.dtype]:
    """Operands, tensors or arrays, in the dtype in which to compute, and the dtype of the result.

    As in PyTorch the widest floating-point dtype wins; that of a number without axes only where there is nothing else,
    or where such numbers are to count. Where integers are to count, nothing but integers is computed in float32.

    Raises:
        TypeError: no real numbers, no floating-point numbers among them, or arrays on two backends.
    """
    found = [tensor_or_array(name, value) for name, value in values.items()]
    x = found[0]
    if x.dtype in COMPUTED:  # most are, and small calls count in microseconds
        for each in found:
            if type(each) is not np.ndarray or each.dtype is not x.dtype:
                break
        else:
            return found, x.dtype
    for name, value in zip(values, found):
        numbers(name, value, like=x)
    floats = {each.dtype for each in found if (each.ndim or single_numbers_count) and is_floating(each.dtype)}
    floats = floats or {each.dtype for each in found if is_floating(each.dtype)}
    if not floats and integers_count and all(each.dtype.kind in "iu" for each in found):
        floats = {FLOAT32}
    if not floats:
        raise TypeError(f"one of {', '.join(values)} must hold floating-point numbers; received {x.dtype}")
    dtype = floats.pop() if len(floats) == 1 else np.dtype(np.float64 if np.dtype(np.float64) in floats else np.float32)
    return [in_dtype(each, computed_in(dtype)) for each in found], dtype


def computed_in(dtype: np.dtype) -> np.dtype:
    """float32 for float16 and bfloat16."""
    return FLOAT32 if is_half(dtype) else dtype


def in_dtype(value: Any, dtype: np.dtype) -> Any:
    """A tensor or an array of a dtype, itself where it has it."""
    return rounded(value, dtype)


def broadcast_shape(**values: Any) -> tuple[int, ...]:
    """The shape that operands broadcast to.

    Raises:
        ValueError: they do not.
    """
    shapes = [value.shape for value in values.values()]
    first = shapes[0]
    for shape in shapes:
        if shape != first:
            break
    else:  # most are alike
        return first
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        received = ", ".join(map(str, shapes))
        raise ValueError(f"{', '.join(values)} must have shapes that broadcast; received {received}") from None


def refuse_larger(name: str, value: Tensor, shape: tuple[int, ...]) -> None:
    """Raise a ValueError unless a tensor broadcasts to a shape."""
    if value.shape != shape and broadcast_shape(**{name: value, "input": Tensor._of(np.empty(shape, bool))}) != shape:
        raise ValueError(f"{name} must have a shape that broadcasts to {shape}; received {value.shape}")


def refuse_gradient(name: str, value: Any) -> None:
    """Raise a TypeError for a tensor that requires a gradient which there is not."""
    if isinstance(value, Tensor) and value.requires_grad:
        raise TypeError(f"{name} must not require a gradient: it is a constant of this loss; received one that does")


def read_reduction(
    reduction: Any, size_average: bool | None = None, reduce: bool | None = None, known: tuple[str, ...] = REDUCTIONS
) -> str:
    """One of the known reductions, by its name or by PyTorch's former arguments, which win.

    Raises:
        ValueError: there is no such reduction.
    """
    if size_average is not None or reduce is not None:
        reduction = "none" if reduce is not None and not reduce else "sum" if size_average is False else "mean"
        warn_caller(f"size_average and reduce are former arguments: use reduction={reduction!r}")
        return reduction
    if isinstance(reduction, str) and reduction == "elementwise_mean":
        warn_caller("reduction='elementwise_mean' is a former name: use reduction='mean'")
        return "mean"
    return str(one_of("reduction", reduction, known))


def warn_caller(message: str) -> None:
    """Warn about the line outside of this package that has called it."""
    level = 1
    frame: Any = sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("pycnn."):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)


def reduced(losses: Any, reduction: str, dtype: np.dtype) -> Any:
    """The mean, NaN of nothing at all, or the sum of losses, or themselves, in the dtype of the result.

    Of a tensor, or of an array in a dtype in which is computed.
    """
    if reduction == "none":
        return in_dtype(losses, dtype)
    # NumPy's function itself takes half the time of the array's method.
    found = np.add.reduce(losses, axis=None) if type(losses) is np.ndarray else losses.sum()
    if reduction == "mean":
        found = found / losses.size if losses.size else found * math.nan
    return in_dtype(found, dtype)


def chosen(mask: Any, x: Tensor) -> Tensor:
    """``x`` where a mask of its shape is true, 0 elsewhere, also in place of infinities and NaN."""
    return Select.apply(x, mask=mask)


class AtLeast(Function):
    """``max(x, least)`` with the gradient of x itself, below ``least``, too."""

    reads = ()

    def forward(self, x: np.ndarray, *, least: float) -> np.ndarray:
        return elementwise(np.maximum, x, x.dtype.type(least))

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        return (dy,)
