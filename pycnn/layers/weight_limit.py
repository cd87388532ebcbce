"""How much memory the weights of layers may take that a file describes: as much as it has for them, and no more."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from contextvars import ContextVar

import numpy as np

#: The bytes that are left, None where nothing limits them.
_left: ContextVar[int | None] = ContextVar("bytes_left", default=None)


@contextlib.contextmanager
def at_most(size: int) -> Iterator[None]:
    """Within the scope all weights together may have ``size`` bytes.

    >>> with at_most(8):
    ...     allows((2,), np.dtype("float32"))
    True
    """
    token = _left.set(size)
    try:
        yield
    finally:
        _left.reset(token)


def allows(shape: Sequence[int], dtype: np.dtype) -> bool:
    """Whether a weight is one of a file, which then may be made; False where there is no limit.

    Raises:
        ValueError: it is too large.
    """
    left = _left.get()
    if left is None:
        return False
    size = math.prod(shape) * dtype.itemsize
    if size > left:
        raise ValueError(f"a weight of shape {tuple(shape)} has {size} bytes, and the file has {left} for it")
    _left.set(left - size)
    return True
