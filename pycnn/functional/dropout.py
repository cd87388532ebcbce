"""Dropout."""

from __future__ import annotations

from typing import Any

import numpy as np

from pycnn import backend as backends
from pycnn import random
from pycnn.autograd import Function
from pycnn.elementary import elementwise, where
from pycnn.functional.activation import refuse_inplace
from pycnn.functional.arguments import apply, floating, fraction, rounded, widened
from pycnn.interop.arrays import drop_in
from pycnn.tensor import Tensor
from pycnn_kernels.memory import aligned_empty


class Dropout(Function):
    reads = ()

    def forward(self, x: np.ndarray, *, p: float) -> np.ndarray:
        self.scale = backends.of(x).asarray(kept_scale(random.generator(), x.shape, x.dtype, p))
        return elementwise(np.multiply, x, self.scale)

    def backward(self, dy: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        return (dy * self.scale,)


def kept_scale(generator: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype, p: float) -> np.ndarray:
    """What to multiply with: 0 with probability ``p``, otherwise ``1 / (1 - p)``.

    Drawn on the CPU for every backend, so that the same seed drops the same elements everywhere.
    """
    drawn = generator.random(out=aligned_empty(shape, np.float32), dtype=np.float32)
    kept = elementwise(np.greater_equal, drawn, np.float32(p), dtype=bool)
    scale = np.asarray(1 / (1 - p) if p < 1 else 0.0).astype(dtype)
    return where(kept, scale, np.zeros((), dtype))


@drop_in
def dropout(
    input: Any, p: float = 0.5, training: bool = True, inplace: bool = False, *, backend: str | None = None
) -> Any:
    """Set each element to 0 with probability ``p`` and divide the others by ``1 - p``.

    Args:
        input: float16, bfloat16, float32 or float64, any shape.
        p: probability of an element to be dropped, 0 to 1.
        training: False returns the input as it is.
        inplace: must be False: results are new arrays here.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Raises:
        TypeError: ``p`` is no number, or the input holds another dtype.
        ValueError: ``p`` is no probability.

    >>> import numpy as np
    >>> dropout(np.ones(3), p=0.5, training=False)
    array([1., 1., 1.])
    """
    refuse_inplace(inplace)
    x = floating("input", input)
    p = fraction("p", p)
    if not training or p == 0:
        return x
    return rounded(apply(Dropout, widened(x), p=p), x.dtype)
