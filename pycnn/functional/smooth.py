"""Smooth activations: gated by a sigmoid or the like, or bent at 0."""

from __future__ import annotations

from typing import Any

from pycnn.functional.activation import activated, in_floats, sigmoid
from pycnn.functional.arguments import floating, integer, number, one_of, rounded, widened
from pycnn.interop.arrays import drop_in


@drop_in
def gelu(input: Any, *, approximate: str = "none", backend: str | None = None) -> Any:
    """``x`` times the distribution function of the standard normal distribution, element by element.

    Args:
        input: float16, bfloat16 (both computed in float32 and rounded once), float32 or float64, any shape.
        approximate: "none", by the error function; or "tanh",
            ``x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2``.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        An array or tensor of the input's shape and dtype. Far below 0 its error is small beside x, not beside itself.

    Raises:
        TypeError: the input holds something else.
        ValueError: ``approximate`` is something else.

    Sources: Hendrycks and Gimpel, "Gaussian Error Linear Units" (2016); ``torch.nn.functional.gelu``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.gelu.html

    >>> import numpy as np
    >>> gelu(np.array([-1.0, 0.0, 1.0])).round(4)
    array([-0.1587,  0.    ,  0.8413])
    """
    one_of("approximate", approximate, ("none", "tanh"))
    return activated("gelu" if approximate == "none" else "gelu_tanh", input)


@drop_in
def silu(input: Any, inplace: bool = False, *, backend: str | None = None) -> Any:
    """``x * sigmoid(x)``, element by element; also called swish.

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

    Sources: Elfwing, Uchibe and Doya, "Sigmoid-Weighted Linear Units for Neural Network Function Approximation in
    Reinforcement Learning" (2017); ``torch.nn.functional.silu``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.silu.html

    >>> import numpy as np
    >>> silu(np.array([0.0, 1.0])).round(4)
    array([0.    , 0.7311])
    """
    return activated("silu", input, inplace=inplace)


@drop_in
def mish(input: Any, inplace: bool = False, *, backend: str | None = None) -> Any:
    """``x * tanh(softplus(x))``, element by element.

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

    Sources: Misra, "Mish: A Self Regularized Non-Monotonic Neural Activation Function" (2019);
    ``torch.nn.functional.mish``, https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.mish.html

    >>> import numpy as np
    >>> mish(np.array([0.0, 1.0])).round(4)
    array([0.    , 0.8651])
    """
    return activated("mish", input, inplace=inplace)


@drop_in
def softplus(input: Any, beta: float = 1, threshold: float = 20, *, backend: str | None = None) -> Any:
    """``log(1 + exp(beta * x)) / beta``, element by element; ``x`` itself where ``beta * x`` exceeds the threshold.

    Args:
        input: float16, bfloat16 (both computed in float32 and rounded once), float32 or float64, any shape.
        beta: any number.
        threshold: any number.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        An array or tensor of the input's shape and dtype.

    Raises:
        TypeError: the input holds something else, or one of the others is no number.

    Source: ``torch.nn.functional.softplus``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.softplus.html

    >>> import numpy as np
    >>> softplus(np.array([-1000.0, 0.0, 30.0])).round(4)
    array([ 0.    ,  0.6931, 30.    ])
    """
    return activated("softplus", input, (number("beta", beta), number("threshold", threshold)))


@drop_in
def logsigmoid(input: Any, *, backend: str | None = None) -> Any:
    """The logarithm of :func:`sigmoid`, without its loss of accuracy, element by element.

    Args:
        input: float16, bfloat16 (both computed in float32 and rounded once), float32 or float64, any shape.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        An array or tensor of the input's shape and dtype.

    Raises:
        TypeError: the input holds something else.

    Source: ``torch.nn.functional.logsigmoid``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.logsigmoid.html

    >>> import numpy as np
    >>> logsigmoid(np.array([-1000.0, 0.0])).round(4)
    array([-1.000e+03, -6.931e-01])
    """
    return activated("logsigmoid", input)


@drop_in
def softsign(input: Any, *, backend: str | None = None) -> Any:
    """``x / (1 + abs(x))``, element by element.

    Args:
        input: any shape; float16, bfloat16 (both computed in float32 and rounded once), float32 or float64. Integers
            give float32.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        An array or tensor of the input's shape.

    Raises:
        TypeError: the input holds something else.

    Source: ``torch.nn.functional.softsign``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.softsign.html

    >>> import numpy as np
    >>> softsign(np.array([-1.0, 0.0, 3.0]))
    array([-0.5 ,  0.  ,  0.75])
    """
    return activated("softsign", in_floats(input))


@drop_in
def tanhshrink(input: Any, *, backend: str | None = None) -> Any:
    """``x - tanh(x)``, element by element.

    Args:
        input: any shape; float16, bfloat16 (both computed in float32 and rounded once), float32 or float64. Integers
            give float32.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        An array or tensor of the input's shape.

    Raises:
        TypeError: the input holds something else.

    Source: ``torch.nn.functional.tanhshrink``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.tanhshrink.html

    >>> import numpy as np
    >>> tanhshrink(np.array([0.0, 1.0])).round(4)
    array([0.    , 0.2384])
    """
    return activated("tanhshrink", in_floats(input))


@drop_in
def glu(input: Any, dim: int = -1, *, backend: str | None = None) -> Any:
    """The first half of the input along an axis, times the sigmoid of the second half.

    Args:
        input: float16, bfloat16 (both computed in float32 and rounded once), float32 or float64, at least one axis.
        dim: the axis, of an even size.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        An array or tensor of the input's dtype, half as long along the axis.

    Raises:
        TypeError: the input holds something else, or ``dim`` is no integer.
        ValueError: there is no such axis, or its size is odd.

    Sources: Dauphin, Fan, Auli and Grangier, "Language Modeling with Gated Convolutional Networks" (2017);
    ``torch.nn.functional.glu``, https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.glu.html

    >>> import numpy as np
    >>> glu(np.array([2.0, 3.0, 0.0, -1000.0]))
    array([1., 0.])
    """
    x, dim = floating("input", input), integer("dim", dim)
    if not -x.ndim <= dim < x.ndim:
        raise ValueError(f"dim must be an axis of the input; received {dim} for the shape {tuple(x.shape)}")
    half, odd = divmod(x.shape[dim], 2)
    if odd:
        raise ValueError(f"the axis {dim} must have an even size; received the shape {tuple(x.shape)}")
    wide, before = widened(x), (slice(None),) * (dim % x.ndim)
    return rounded(wide[(*before, slice(half))] * sigmoid(wide[(*before, slice(half, None))]), x.dtype)
