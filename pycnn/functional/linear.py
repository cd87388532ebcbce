"""The matrix product of dense layers."""

from __future__ import annotations

import math
from typing import Any

from pycnn.elementary import matrix_problem
from pycnn.functional.arguments import apply, floating, one_of
from pycnn.functional.conv import Convolution
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
            rounded once.
        weight: w (O, I), or (I, O) for "IO"; or (I,) for a single output without an axis of its own.
        bias: b (O,) or None.
        weight_format: "OI" (PyTorch's) or "IO" (Keras').
        activation: None or "relu", applied to the result in the same pass.
        algorithm: "auto", or an algorithm by name.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        y (..., O).

    Raises:
        TypeError: other dtypes than those, or different ones.
        ValueError: shapes that do not fit each other.

    >>> import numpy as np
    >>> linear(np.array([[1.0, 2.0]]), np.array([[3.0, 4.0], [0.0, 1.0]]), np.array([0.5, 0.0]))
    array([[11.5,  2. ]])
    """
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
    if b is not None and tuple(b.shape) != (K,) and not (single and b.ndim == 0):
        raise ValueError(f"bias must have the shape ({K},); received {tuple(b.shape)}")
    if C == 0 or K == 0:
        raise ValueError(f"a linear layer needs at least one feature; received {C} in and {K} out")
    if b is not None and b.ndim == 0:
        b = b.reshape(1)
    outer = tuple(x.shape[:-1])
    problem = matrix_problem(
        math.prod(outer), C, K, x.dtype,
        weight_layout="OIHW" if weight_format == "OI" else "HWIO", bias=b is not None, activation=activation,
    )  # fmt: skip
    y = apply(Convolution, x.reshape(math.prod(outer), C), w, b, problem=problem, algorithm=algorithm)
    return y.reshape(outer if single else (*outer, K))
