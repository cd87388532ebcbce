"""Dropout, of elements and of channels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pycnn import backend as backends
from pycnn import random
from pycnn.autograd import Function
from pycnn.elementary import elementwise, where
from pycnn.functional.arguments import apply, boolean, floating, fraction, in_place, rounded, tensor_or_array, widened
from pycnn.interop.arrays import drop_in
from pycnn.tensor import Tensor
from pycnn_kernels.memory import aligned_empty

#: What SELU approaches for negative numbers, without its sign; alpha dropout puts it in the place of what it drops.
SELU_LIMIT = 1.7580993408473766


class Dropout(Function):
    """``x * scale``, for the elements of a mask or for those whose axes the mask has in one piece."""

    reads = ()

    def forward(self, x: np.ndarray, *, p: float, mask_shape: tuple[int, ...]) -> np.ndarray:
        self.scale = backends.of(x).asarray(kept_scale(random.generator(), mask_shape, x.dtype, p))
        return elementwise(np.multiply, x, self.scale)

    def backward(self, dy: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        return (dy * self.scale,)


class AlphaDropout(Function):
    """``a x + b`` where the mask keeps, and ``-a SELU_LIMIT + b`` elsewhere, where a and b keep mean and variance.

    Source: Klambauer, Unterthiner, Mayr and Hochreiter, "Self-Normalizing Neural Networks" (2017), section 2.
    """

    reads = ()

    def forward(
        self, x: np.ndarray, *, p: float, mask_shape: tuple[int, ...], generator: np.random.Generator | None = None
    ) -> np.ndarray:
        kept, number = _kept(generator or random.generator(), mask_shape, p), x.dtype.type
        a = 1 / math.sqrt((1 + p * SELU_LIMIT**2) * (1 - p))
        b = a * p * SELU_LIMIT
        here = backends.of(x)
        self.scale = here.asarray(where(kept, number(a), number(0)))
        shift = here.asarray(where(kept, number(b), number(b - a * SELU_LIMIT)))
        return elementwise(np.add, elementwise(np.multiply, x, self.scale), shift)

    def backward(self, dy: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        return (dy * self.scale,)


def _kept(generator: np.random.Generator, shape: tuple[int, ...], p: float) -> np.ndarray:
    """Where what is drawn is kept, with probability ``1 - p``.

    Drawn on the CPU for every backend, so that the same seed drops the same elements everywhere.
    """
    drawn = generator.random(out=aligned_empty(shape, np.float32), dtype=np.float32)
    return elementwise(np.greater_equal, drawn, np.float32(p), dtype=bool)


def kept_scale(generator: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype, p: float) -> np.ndarray:
    """What to multiply with: 0 with probability ``p``, otherwise ``1 / (1 - p)``."""
    scale = np.asarray(1 / (1 - p) if p < 1 else 0.0).astype(dtype)
    return where(_kept(generator, shape, p), scale, np.zeros((), dtype))


@drop_in
def dropout(
    input: Any, p: float = 0.5, training: bool = True, inplace: bool = False, *, backend: str | None = None
) -> Any:
    """Set each element to 0 with probability ``p`` and divide the others by ``1 - p``.

    Args:
        input: float16, bfloat16, float32 or float64, any shape; where nothing is drawn, integers and booleans, too.
        p: probability of an element to be dropped, 0 to 1.
        training: False returns the input as it is.
        inplace: whether to write the result to the input's memory and return the input.
        backend: "cpu" or "cuda", where to compute; None is where the input is. The mask is drawn on the CPU, from
            :func:`pycnn.random.generator`.

    Returns:
        An array or tensor of the input's shape and dtype.

    Raises:
        TypeError: ``p`` is no number, ``training`` neither True nor False, or the input holds another dtype.
        RuntimeError: ``inplace`` for a leaf that requires a gradient, while operations are recorded.
        ValueError: ``p`` is no probability; ``inplace`` for a read-only array.

    Sources: Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting" (2014);
    ``torch.nn.functional.dropout``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.dropout.html

    >>> import numpy as np
    >>> dropout(np.ones(3), p=0.5, training=False)
    array([1., 1., 1.])
    """
    p = fraction("p", p)
    return _dropped(Dropout, input, p, training, inplace)


@drop_in
def alpha_dropout(
    input: Any, p: float = 0.5, training: bool = False, inplace: bool = False, *, backend: str | None = None
) -> Any:
    """:func:`dropout` for what SELU gives: mean and variance of numbers with mean 0 and variance 1 are kept.

    A dropped element becomes the limit of SELU for negative numbers; then all are scaled and shifted. The arguments
    and errors are those of :func:`dropout`, but ``training`` is False by default.

    Returns:
        An array or tensor of the input's shape and dtype; with ``p`` of 1, zeros.

    Source: ``torch.nn.functional.alpha_dropout``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.alpha_dropout.html

    >>> import numpy as np
    >>> alpha_dropout(np.ones(3), p=0.5)
    array([1., 1., 1.])
    """
    return _dropped(AlphaDropout, input, fraction("p", p), training, inplace)


@drop_in
def dropout1d(
    input: Any, p: float = 0.5, training: bool = True, inplace: bool = False, *, backend: str | None = None
) -> Any:
    """Set whole channels to 0 with probability ``p`` and divide the others by ``1 - p``.

    Args:
        input: (N, C, L) or (C, L); the dtypes and the other arguments are those of :func:`dropout`.

    Raises:
        TypeError, ValueError: as :func:`dropout`; or the input has another number of axes.

    Sources: Tompson et al., "Efficient Object Localization Using Convolutional Networks" (2015);
    ``torch.nn.functional.dropout1d``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.dropout1d.html

    >>> import numpy as np
    >>> dropout1d(np.ones((2, 3)), p=0.0)
    array([[1., 1., 1.],
           [1., 1., 1.]])
    """
    p, x = fraction("p", p), tensor_or_array("input", input)
    if x.ndim not in (2, 3):
        raise ValueError(f"input must have the axes (N, C, L) or (C, L); received the shape {tuple(x.shape)}")
    return _dropped(Dropout, input, p, training, inplace, 2 if x.ndim == 3 else 1)


@drop_in
def dropout2d(
    input: Any, p: float = 0.5, training: bool = True, inplace: bool = False, *, backend: str | None = None
) -> Any:
    """Set whole channels to 0 with probability ``p`` and divide the others by ``1 - p``.

    Args:
        input: (N, C, H, W); as in PyTorch, the first two axes of any other shape count as N and C, also those of
            three axes. The dtypes and the other arguments are those of :func:`dropout`.

    Raises:
        TypeError, ValueError: as :func:`dropout`; or channels are to be drawn of less than two axes.

    Source: ``torch.nn.functional.dropout2d``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.dropout2d.html

    >>> import numpy as np
    >>> dropout2d(np.ones((1, 2, 1, 1)), p=1.0).ravel()
    array([0., 0.])
    """
    return _dropped(Dropout, input, fraction("p", p), training, inplace, 2)


@drop_in
def dropout3d(
    input: Any, p: float = 0.5, training: bool = True, inplace: bool = False, *, backend: str | None = None
) -> Any:
    """Set whole channels to 0 with probability ``p`` and divide the others by ``1 - p``.

    Args:
        input: (N, C, D, H, W) or (C, D, H, W); as in PyTorch, the first axis of any other shape counts as C. The
            dtypes and the other arguments are those of :func:`dropout`.

    Raises:
        TypeError, ValueError: as :func:`dropout`; or channels are to be drawn of a single number.

    Source: ``torch.nn.functional.dropout3d``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.dropout3d.html

    >>> import numpy as np
    >>> dropout3d(np.ones((2, 1, 1, 1)), p=1.0).ravel()
    array([0., 0.])
    """
    p, x = fraction("p", p), tensor_or_array("input", input)
    return _dropped(Dropout, input, p, training, inplace, 2 if x.ndim == 5 else 1)


@drop_in
def feature_alpha_dropout(
    input: Any, p: float = 0.5, training: bool = False, inplace: bool = False, *, backend: str | None = None
) -> Any:
    """:func:`alpha_dropout` of whole channels.

    Args:
        input: (N, C, ...); the dtypes and the other arguments are those of :func:`alpha_dropout`.

    Raises:
        TypeError, ValueError: as :func:`dropout`; or channels are to be drawn of less than two axes.

    Source: ``torch.nn.functional.feature_alpha_dropout``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.feature_alpha_dropout.html

    >>> import numpy as np
    >>> feature_alpha_dropout(np.ones((1, 2)), p=0.5)
    array([[1., 1.]])
    """
    return _dropped(AlphaDropout, input, fraction("p", p), training, inplace, 2)


def _dropped(
    function: type[Function], input: Any, p: float, training: bool, inplace: bool, features: int | None = None
) -> Any:
    """A dropout of single elements, or of all that has the same place along the first ``features`` axes."""
    x = tensor_or_array("input", input)
    if not boolean("training", training) or p == 0 or not x.size:
        return x
    if p == 1:  # of either kind: a NaN or an infinity times 0 is NaN
        y = x * x.dtype.type(0)
    else:
        x = floating("input", x)
        if features is not None and x.ndim < features:
            raise ValueError(f"input must have at least {features} axes; received the shape {tuple(x.shape)}")
        drawn = x.ndim if features is None else features
        mask_shape = tuple(x.shape[:drawn]) + (1,) * (x.ndim - drawn)
        y = rounded(apply(function, widened(x), p=p, mask_shape=mask_shape), x.dtype)
    return in_place(input, y) if inplace else y
