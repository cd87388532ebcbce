"""Activations of pieces of straight lines: cut off, or shrunk."""

from __future__ import annotations

from typing import Any

import numpy as np

from pycnn.functional.activation import activated, of_integers
from pycnn.functional.arguments import floating, holds_integers, integer_held, number
from pycnn.interop.arrays import drop_in


@drop_in
def hardtanh(
    input: Any, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False, *, backend: str | None = None
) -> Any:
    """The nearest number from ``min_val`` to ``max_val``, element by element; NaN stays NaN, with a gradient of 0.

    Args:
        input: float16, bfloat16, float32, float64 or integers, any shape.
        min_val: any number; for integers its whole part, which their dtype must hold.
        max_val: likewise.
        inplace: whether to write the result to the input's memory and return the input.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        An array or tensor of the input's shape and dtype.

    Raises:
        TypeError: the input holds something else, or a bound is no number.
        RuntimeError: ``inplace`` for a leaf that requires a gradient, while operations are recorded.
        ValueError: ``min_val`` is greater than ``max_val``, or the input is of integers whose dtype does not hold a
            bound; ``inplace`` for a read-only array.

    Source: ``torch.nn.functional.hardtanh``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.hardtanh.html

    >>> import numpy as np
    >>> hardtanh(np.array([-3.0, 0.5, 3.0]))
    array([-1. ,  0.5,  1. ])
    """
    low: float
    high: float
    if holds_integers(input):
        low, high = (integer_held(*each, input.dtype) for each in (("min_val", min_val), ("max_val", max_val)))
    else:
        low, high = number("min_val", min_val), number("max_val", max_val)
    if low > high:
        raise ValueError(f"min_val must be at most max_val; received {min_val} and {max_val}")
    if holds_integers(input):
        return of_integers(input, lambda x: np.clip(x, low, high), inplace)
    return activated("hardtanh", input, (low, high), inplace)


@drop_in
def relu6(input: Any, inplace: bool = False, *, backend: str | None = None) -> Any:
    """``min(max(x, 0), 6)``, element by element.

    Args:
        input, inplace, backend: as for :func:`hardtanh`.

    Returns:
        An array or tensor of the input's shape and dtype.

    Raises:
        TypeError, RuntimeError, ValueError: as :func:`hardtanh` for its input and ``inplace``.

    Source: ``torch.nn.functional.relu6``, https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.relu6.html

    >>> import numpy as np
    >>> relu6(np.array([-1.0, 2.0, 8.0]))
    array([0., 2., 6.])
    """
    return hardtanh(input, 0.0, 6.0, inplace)


@drop_in
def hardsigmoid(input: Any, inplace: bool = False, *, backend: str | None = None) -> Any:
    """``relu6(x + 3) / 6``, element by element.

    Args:
        input: float16, bfloat16 (both computed in float32 and rounded once), float32 or float64, any shape.
        inplace: whether to write the result to the input's memory and return the input.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        An array or tensor of the input's shape and dtype.

    Raises:
        TypeError: the input holds something else.
        RuntimeError: ``inplace`` for a leaf that requires a gradient, while operations are recorded.
        ValueError: ``inplace`` for a read-only array.

    Source: ``torch.nn.functional.hardsigmoid``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.hardsigmoid.html

    >>> import numpy as np
    >>> hardsigmoid(np.array([-4.0, 0.0, 4.0]))
    array([0. , 0.5, 1. ])
    """
    return activated("hardsigmoid", input, inplace=inplace)


@drop_in
def hardswish(input: Any, inplace: bool = False, *, backend: str | None = None) -> Any:
    """``x * relu6(x + 3) / 6``, element by element.

    Args:
        input: float16, bfloat16 (both computed in float32 and rounded once), float32 or float64, any shape.
        inplace: whether to write the result to the input's memory and return the input.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        An array or tensor of the input's shape and dtype.

    Raises:
        TypeError: the input holds something else.
        RuntimeError: ``inplace`` for a leaf that requires a gradient, while operations are recorded.
        ValueError: ``inplace`` for a read-only array.

    Sources: Howard et al., "Searching for MobileNetV3" (2019); ``torch.nn.functional.hardswish``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.hardswish.html

    >>> import numpy as np
    >>> hardswish(np.array([-3.0, 0.0, 4.0]))
    array([-0.,  0.,  4.])
    """
    return activated("hardswish", input, inplace=inplace)


@drop_in
def hardshrink(input: Any, lambd: float = 0.5, *, backend: str | None = None) -> Any:
    """0 from ``-lambd`` to ``lambd``, elsewhere ``x``, element by element; NaN stays NaN, with a gradient of 0.

    Args:
        input: float16, bfloat16, float32 or float64, any shape.
        lambd: any number.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        An array or tensor of the input's shape and dtype.

    Raises:
        TypeError: the input holds something else, or ``lambd`` is no number.

    Source: ``torch.nn.functional.hardshrink``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.hardshrink.html

    >>> import numpy as np
    >>> hardshrink(np.array([-2.0, 0.5, 2.0]))
    array([-2.,  0.,  2.])
    """
    return activated("hardshrink", input, (number("lambd", lambd),))


@drop_in
def softshrink(input: Any, lambd: float = 0.5, *, backend: str | None = None) -> Any:
    """``x`` brought closer to 0 by ``lambd``, at most to 0, element by element; NaN stays NaN, with a gradient of 0.

    Args:
        input: float16, bfloat16 (both computed in float32 and rounded once), float32 or float64, any shape.
        lambd: 0 or more, and no more than the input's dtype holds.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        An array or tensor of the input's shape and dtype.

    Raises:
        TypeError: the input holds something else, or ``lambd`` is no number.
        ValueError: ``lambd`` is negative, NaN or too large.

    Source: ``torch.nn.functional.softshrink``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.softshrink.html

    >>> import numpy as np
    >>> softshrink(np.array([-2.0, 0.5, 2.0]))
    array([-1.5,  0. ,  1.5])
    """
    lambd, x = number("lambd", lambd), floating("input", input)
    # NumPy has no limits of bfloat16, whose exponents are float32's.
    most = float(np.finfo(x.dtype if x.dtype.isbuiltin == 1 else np.float32).max)
    if not 0 <= lambd <= most:
        raise ValueError(f"lambd must be from 0 to {most} for {x.dtype}; received {lambd}")
    return activated("softshrink", x, (lambd,))
