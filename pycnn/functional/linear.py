"""Linear and bilinear maps: the matrix products of dense layers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pycnn.elementary import matrix_problem
from pycnn.functional.activation import relu
from pycnn.functional.arguments import apply, floating, holds_integers, one_of, rounded, widened
from pycnn.functional.conv import Convolution, of_integers
from pycnn.functional.loss_arguments import in_dtype, numbers, on_tensors, tensor
from pycnn.interop.arrays import drop_in


@drop_in
def linear(
    input: Any,
    weight: Any,
    bias: Any = None,
    *,
    weight_format: str = "OI",
    activation: str | None = None,
    algorithm: str = "auto",
    backend: str | None = None,
) -> Any:
    """``y = x w^T + b`` over the last axis.

    Args:
        input: x (..., I), float32 or float64; or float16 or bfloat16, which are multiplied and added in float32 and
            rounded once; or integers, computed in float64, whose sums must not exceed 2**53, and which wrap around.
        weight: w (O, I), or (I, O) for "IO"; or (I,) for a single output without an axis of its own.
        bias: b (O,), which is added in the same pass, another shape that broadcasts to that of y, or None. A
            single number beside a weight (I,).
        weight_format: "OI" (PyTorch's) or "IO" (Keras').
        activation: None or "relu", applied to the result in the same pass.
        algorithm: "auto", or an algorithm by name.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        y (..., O).

    Raises:
        TypeError: other dtypes than those, or different ones; an activation of integers.
        ValueError: shapes that do not fit each other; integers whose sums may exceed 2**53.

    Source: ``torch.nn.functional.linear``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.linear.html

    >>> import numpy as np
    >>> linear(np.array([[1.0, 2.0]]), np.array([[3.0, 4.0], [0.0, 1.0]]), np.array([0.5, 0.0]))
    array([[11.5,  2. ]])
    """
    if holds_integers(input):
        if activation is not None:
            raise TypeError(f"input must hold floats for an activation; received {input.dtype}")
        exact = "direct" if algorithm == "auto" else algorithm  # others round

        def in_floats(x: Any, w: Any, b: Any) -> Any:
            return linear(x, w, b, weight_format=weight_format, algorithm=exact)

        return of_integers(in_floats, input, weight, bias)
    x = floating("input", input)
    w = floating("weight", weight, like=x)
    b = None if bias is None else floating("bias", bias, like=x)
    one_of("weight_format", weight_format, ("OI", "IO"))
    one_of("activation", activation, (None, "relu"))
    single = w.ndim == 1
    if single:
        w = w.reshape(1, -1) if weight_format == "OI" else w.reshape(-1, 1)
    if w.ndim != 2 or x.ndim < 1:
        raise ValueError(
            f"weight must have the axes ({', '.join(weight_format)}) and input at least one axis; "
            f"received the shapes {tuple(w.shape)} and {tuple(x.shape)}"
        )
    K, C = w.shape if weight_format == "OI" else w.shape[::-1]
    if x.shape[-1] != C:
        raise ValueError(f"input must have {C} features in its last axis, as weight does; received {x.shape[-1]}")
    outer = tuple(x.shape[:-1])
    shape = outer if single else (*outer, K)
    if b is not None:
        _refuse_other_bias(tuple(b.shape), shape, single)
    fused = b is not None and tuple(b.shape) == (K,) and not single
    dtype = x.dtype
    if b is not None and not fused:  # what is added to is not rounded before
        x, w, b = widened(x), widened(w), widened(b)
    if 0 in (C, K):  # sums of no products
        y = (x.sum(-1, keepdims=True) + w.sum(1 if weight_format == "OI" else 0)).reshape(shape)
        fused = False
    else:
        problem = matrix_problem(
            math.prod(outer), C, K, x.dtype, weight_layout="OIHW" if weight_format == "OI" else "HWIO",
            bias=fused, activation=activation if fused or b is None else None,
        )  # fmt: skip
        rows = x.reshape(math.prod(outer), C)
        y = apply(Convolution, rows, w, b if fused else None, problem=problem, algorithm=algorithm).reshape(shape)
    if b is None or fused:
        return y
    y = rounded((y + b).reshape(shape), dtype)
    return relu(y) if activation == "relu" else y


def _refuse_other_bias(bias: tuple[int, ...], shape: tuple[int, ...], single: bool) -> None:
    """A bias may be of any shape that broadcasts to the result's, beside a weight of one axis only a single number."""
    if single and bias:
        raise ValueError(f"bias beside a weight (I,) must be a single number; received the shape {bias}")
    if bias == shape[-1:]:  # most are
        return
    try:
        fits = np.broadcast_shapes(bias, shape) in (shape, (1, *shape) if len(shape) == 1 else shape)
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"bias must have the shape {shape[-1:]}; received {bias}")


@drop_in
@on_tensors
def bilinear(input1: Any, input2: Any, weight: Any, bias: Any = None, *, backend: str | None = None) -> Any:
    """``y_o = x1^T W_o x2 + b_o`` over the last axes.

    The product with x1 is one matrix product of the engine, that with x2 is taken element by element.

    Args:
        input1: x1 (..., I), float32 or float64; or float16 or bfloat16, which are computed in float32 and rounded once;
            or integers, computed in float64, whose sums must not exceed 2**53, and which wrap around.
        input2: x2 (..., J), of the same leading axes and dtype.
        weight: W (O, I, J), at least one feature each way.
        bias: b (O,) or None.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        y (..., O).

    Raises:
        TypeError: other dtypes than those, or different ones.
        ValueError: shapes that do not fit each other; integers whose sums may exceed 2**53.

    Source: ``torch.nn.functional.bilinear``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.bilinear.html

    >>> import numpy as np
    >>> bilinear(np.array([1.0, 2.0]), np.array([3.0]), np.array([[[1.0], [10.0]]]))
    array([63.])
    """
    if holds_integers(input1):
        x1 = numbers("input1", input1)
        return of_integers(lambda x1, w, b, x2: bilinear(x1, x2, w, b), x1, weight, bias, input2=input2)
    x1 = tensor("input1", input1)
    x2, w = tensor("input2", input2, like=x1), tensor("weight", weight, like=x1)
    b = None if bias is None else tensor("bias", bias, like=x1)
    if w.ndim != 3 or 0 in w.shape[1:]:
        raise ValueError(f"weight must have the axes (O, I, J), I and J at least 1; received the shape {w.shape}")
    K, first, second = w.shape
    outer = x1.shape[:-1]
    if x1.ndim < 1 or x1.shape[-1] != first or x2.shape != (*outer, second):
        raise ValueError(
            f"input1 must have the shape (..., {first}) and input2 (..., {second}), as weight has it, with the same "
            f"leading axes; received {x1.shape} and {x2.shape}"
        )
    if b is not None and b.shape != (K,):
        raise ValueError(f"bias must have the shape ({K},); received {b.shape}")
    rows = math.prod(outer)
    columns = widened(w).transpose(1, 0, 2).reshape(first, K * second)
    products = (widened(x1).reshape(rows, first) @ columns).reshape(rows, K, second)
    y = (products * widened(x2).reshape(rows, 1, second)).sum(2)
    y = y if b is None else y + widened(b)
    return in_dtype(y.reshape(*outer, K), x1.dtype)
