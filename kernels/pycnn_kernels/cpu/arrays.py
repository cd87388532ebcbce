"""What plans ask of their arrays on the CPU, NumPy's; for a GPU its ``Device`` answers (``cuda/device.py``)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from pycnn_kernels.memory import POOL_FROM, Shape, address, aligned_empty

__all__ = [
    "KIND", "address", "copied", "described", "from_host", "is_array", "is_usable", "is_writable", "machine", "maker",
    "synchronize", "usable_address",
]  # fmt: skip

#: What messages call such an array.
KIND = "NumPy array"


def maker(shape: Shape, dtype: np.dtype) -> Callable[[], np.ndarray]:
    """What makes uninitialised arrays of a shape and dtype."""
    if math.prod(shape) * dtype.itemsize < POOL_FROM:
        return partial(np.empty, shape, dtype)
    return partial(aligned_empty, shape, dtype)


def machine() -> str:
    """What timings of plans belong to; the processor is in the name of their file."""
    return "cpu"


def synchronize() -> None:
    """A plan that has run has ended."""


def from_host(values: np.ndarray) -> np.ndarray:
    """An array with these values."""
    return values


def is_array(candidate: Any) -> bool:
    return isinstance(candidate, np.ndarray)


def described(candidate: Any) -> str:
    """What messages call something that is none."""
    return type(candidate).__name__


def usable_address(candidate: Any, shape: Shape, dtype: np.dtype) -> int:
    """The address of an array of this shape and dtype whose elements kernels can read and change where they are.

    0 for all else, and for some that are such arrays: without elements, or with a dtype that is equal and not the same
    (NumPy's own are).
    """
    if (
        type(candidate) is np.ndarray
        and candidate.shape == shape
        and candidate.dtype is dtype
        and candidate.flags.carray
    ):
        return address(candidate)
    return 0


def is_usable(array: np.ndarray) -> bool:
    """Whether kernels can read its elements where they are: contiguous and aligned."""
    return array.flags.c_contiguous and array.flags.aligned


def is_writable(array: np.ndarray) -> bool:
    return array.flags.writeable


def copied(array: np.ndarray) -> np.ndarray:
    """A contiguous, aligned copy."""
    copy = aligned_empty(array.shape, array.dtype)
    copy[...] = array
    return copy
