"""Rectifiers: straight above 0, and something else below it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pycnn import backend as backends
from pycnn import random
from pycnn.autograd import Function, unbroadcast
from pycnn.elementary import Select, elementwise, where
from pycnn.functional.activation import Grads, activated, of_integers
from pycnn.functional.arguments import (
    apply,
    boolean,
    floating,
    holds_integers,
    in_place,
    integer_held,
    number,
    rounded,
    widened,
)
from pycnn.interop.arrays import drop_in
from pycnn.tensor import Tensor

#: Of SELU, such that mean 0 and variance 1 are kept from layer to layer.
SELU_SCALE, SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717


class Prelu(Function):
    """``x`` above 0, elsewhere ``weight * x``; the weight has the axes of x, those that it does not tell apart of 1."""

    def forward(self, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        self.above = elementwise(np.greater, x, x.dtype.type(0), dtype=bool)
        return where(self.above, x, elementwise(np.multiply, x, weight))

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        x, weight = self.inputs
        dx = dweight = None
        below = ~self.above
        if self.needs[0]:
            dx = Select.apply(dy, mask=self.above) + Select.apply(dy * weight, mask=below)
        if self.needs[1]:
            dweight = unbroadcast(Select.apply(dy * x, mask=below), weight.shape)
        return dx, dweight


class RandomRelu(Function):
    """``x`` above 0, elsewhere x times a slope of its own, drawn between two bounds on the CPU."""

    reads = ()

    def forward(self, x: np.ndarray, *, lower: float, upper: float) -> np.ndarray:
        here, drawn = backends.of(x), random.generator().uniform(lower, upper, x.shape)
        below = x <= x.dtype.type(0)
        self.slopes = where(below, here.asarray(np.asarray(drawn).astype(x.dtype)), x.dtype.type(1))
        return elementwise(np.multiply, x, self.slopes)

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        return (dy * self.slopes,)


@drop_in
def leaky_relu(input: Any, negative_slope: float = 0.01, inplace: bool = False, *, backend: str | None = None) -> Any:
    """``x`` above 0, elsewhere ``negative_slope * x``, element by element.

    Args:
        input: float16, bfloat16 (both computed in float32 and rounded once), float32 or float64, any shape.
        negative_slope: any number.
        inplace: whether to write the result to the input's memory and return the input.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        An array or tensor of the input's shape and dtype.

    Raises:
        TypeError: the input holds something else, or ``negative_slope`` is no number.
        RuntimeError: ``inplace`` for a leaf that requires a gradient, while operations are recorded.
        ValueError: ``inplace`` for a read-only array.

    Source: ``torch.nn.functional.leaky_relu``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.leaky_relu.html

    >>> import numpy as np
    >>> leaky_relu(np.array([-1.0, 2.0]), 0.5)
    array([-0.5,  2. ])
    """
    return activated("leaky_relu", input, (number("negative_slope", negative_slope),), inplace)


@drop_in
def prelu(input: Any, weight: Any, *, backend: str | None = None) -> Any:
    """``x`` above 0, elsewhere ``weight * x``, with one weight or one for each channel.

    Args:
        input: (N, C, ...), or any shape for a single weight; float16, bfloat16 (both computed in float32 and rounded
            once), float32 or float64.
        weight: (C,), (1,) or a single number in an array, of the input's dtype. An input of one axis has one channel.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        An array or tensor of the input's shape and dtype.

    Raises:
        TypeError: the input holds something else, or the weight another dtype than the input.
        ValueError: the weight has more than one axis, or as many elements as there are no channels.

    Sources: He, Zhang, Ren and Sun, "Delving Deep into Rectifiers" (2015); ``torch.nn.functional.prelu``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.prelu.html

    >>> import numpy as np
    >>> prelu(np.array([[-1.0, -1.0, 2.0]]), np.array([0.5, 0.1, 0.1]))
    array([[-0.5, -0.1,  2. ]])
    """
    x = floating("input", input)
    weight = floating("weight", weight, like=x)
    if weight.ndim > 1:
        raise ValueError(f"weight must be a number or have one axis; received the shape {tuple(weight.shape)}")
    channels = x.shape[1] if x.ndim > 1 else 1
    if weight.size != 1 and (weight.size != channels or x.ndim == 0):
        raise ValueError(
            f"weight must have one element, or one for each channel of the input: {channels}; received {weight.size}"
        )
    axes = [1] * x.ndim
    if weight.size != 1 and x.ndim > 1:
        axes[1] = channels
    y = apply(Prelu, widened(x), widened(weight).reshape(tuple(axes)))
    return rounded(y, x.dtype)


@drop_in
def rrelu(
    input: Any,
    lower: float = 1.0 / 8,
    upper: float = 1.0 / 3,
    training: bool = False,
    inplace: bool = False,
    *,
    backend: str | None = None,
) -> Any:
    """:func:`leaky_relu` whose slope is drawn for each element in training, and otherwise the mean of the bounds.

    Args:
        input: float16, bfloat16 (both computed in float32 and rounded once), float32 or float64, any shape.
        lower: of the slopes, which are distributed uniformly.
        upper: likewise.
        training: whether to draw, on the CPU, from :func:`pycnn.random.generator`.
        inplace: whether to write the result to the input's memory and return the input.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        An array or tensor of the input's shape and dtype.

    Raises:
        TypeError: the input holds something else, a bound is no number, or ``training`` neither True nor False.
        RuntimeError: ``inplace`` for a leaf that requires a gradient, while operations are recorded.
        ValueError: a bound is not finite, or the lower one the greater one; ``inplace`` for a read-only array.

    Sources: Xu, Wang, Chen and Li, "Empirical Evaluation of Rectified Activations in Convolutional Network" (2015);
    ``torch.nn.functional.rrelu``, https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.rrelu.html

    >>> import numpy as np
    >>> rrelu(np.array([-1.0, 2.0]), 0.25, 0.75)
    array([-0.5,  2. ])
    """
    lower, upper = number("lower", lower), number("upper", upper)
    if not -math.inf < lower <= upper < math.inf:
        raise ValueError(f"lower must be at most upper, and both finite; received {lower} and {upper}")
    if not boolean("training", training):
        return activated("leaky_relu", input, ((lower + upper) / 2,), inplace)
    x = floating("input", input)
    y = rounded(apply(RandomRelu, widened(x), lower=lower, upper=upper), x.dtype)
    return in_place(input, y) if inplace else y


@drop_in
def elu(input: Any, alpha: float = 1.0, inplace: bool = False, *, backend: str | None = None) -> Any:
    """``x`` above 0, elsewhere ``alpha * (exp(x) - 1)``, element by element.

    Args:
        input: float16, bfloat16 (both computed in float32 and rounded once), float32 or float64, any shape.
        alpha: any number.
        inplace: whether to write the result to the input's memory and return the input.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        An array or tensor of the input's shape and dtype.

    Raises:
        TypeError: the input holds something else, or ``alpha`` is no number.
        RuntimeError: ``inplace`` for a leaf that requires a gradient, while operations are recorded.
        ValueError: ``inplace`` for a read-only array.

    Sources: Clevert, Unterthiner and Hochreiter, "Fast and Accurate Deep Network Learning by Exponential Linear Units"
    (2016); ``torch.nn.functional.elu``, https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.elu.html

    >>> import numpy as np
    >>> elu(np.array([-np.inf, 2.0]), 3.0)
    array([-3.,  2.])
    """
    return activated("elu", input, (1.0, number("alpha", alpha), 1.0), inplace)


@drop_in
def selu(input: Any, inplace: bool = False, *, backend: str | None = None) -> Any:
    """``1.0507 * x`` above 0, elsewhere ``1.0507 * 1.67326 * (exp(x) - 1)``, element by element.

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

    Sources: Klambauer, Unterthiner, Mayr and Hochreiter, "Self-Normalizing Neural Networks" (2017);
    ``torch.nn.functional.selu``, https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.selu.html

    >>> import numpy as np
    >>> selu(np.array([0.0, 1.0])).round(4)
    array([0.    , 1.0507])
    """
    return activated("elu", input, (SELU_SCALE, SELU_SCALE * SELU_ALPHA, 1.0), inplace)


@drop_in
def celu(input: Any, alpha: float = 1.0, inplace: bool = False, *, backend: str | None = None) -> Any:
    """``x`` above 0, elsewhere ``alpha * (exp(x / alpha) - 1)``, element by element: the slope at 0 is 1.

    Args:
        input: float16, bfloat16 (both computed in float32 and rounded once), float32 or float64, any shape.
        alpha: any number but 0.
        inplace: whether to write the result to the input's memory and return the input.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        An array or tensor of the input's shape and dtype.

    Raises:
        TypeError: the input holds something else, or ``alpha`` is no number.
        RuntimeError: ``inplace`` for a leaf that requires a gradient, while operations are recorded.
        ValueError: ``alpha`` is 0; ``inplace`` for a read-only array.

    Sources: Barron, "Continuously Differentiable Exponential Linear Units" (2017); ``torch.nn.functional.celu``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.celu.html

    >>> import numpy as np
    >>> celu(np.array([-np.inf, 2.0]), 3.0)
    array([-3.,  2.])
    """
    alpha = number("alpha", alpha)
    if alpha == 0:
        raise ValueError("alpha must be another number than 0; received 0")
    return activated("elu", input, (1.0, alpha, 1 / alpha), inplace)


@drop_in
def threshold(input: Any, threshold: float, value: float, inplace: bool = False, *, backend: str | None = None) -> Any:
    """``x`` above the threshold, elsewhere ``value``, element by element; NaN stays NaN.

    Args:
        input: float16, bfloat16, float32, float64 or integers, any shape.
        threshold: any number; for integers its whole part, which their dtype must hold.
        value: likewise.
        inplace: whether to write the result to the input's memory and return the input.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        An array or tensor of the input's shape and dtype.

    Raises:
        TypeError: the input holds something else, or one of the others is no number.
        RuntimeError: ``inplace`` for a leaf that requires a gradient, while operations are recorded.
        ValueError: the input is of integers whose dtype does not hold the threshold or the value; ``inplace`` for a
            read-only array.

    Source: ``torch.nn.functional.threshold``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.threshold.html

    >>> import numpy as np
    >>> threshold(np.array([-1.0, 0.5, 2.0]), 0.5, 20)
    array([20., 20.,  2.])
    """
    if holds_integers(input):
        limit, shown = integer_held("threshold", threshold, input.dtype), integer_held("value", value, input.dtype)
        return of_integers(input, lambda x: np.where(x <= limit, x.dtype.type(shown), x), inplace)
    return activated("threshold", input, (number("threshold", threshold), number("value", value)), inplace)
