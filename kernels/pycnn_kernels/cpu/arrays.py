"""What plans ask of their arrays on the CPU, NumPy's; for a GPU its ``Device`` answers (``cuda/device.py``)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from pycnn_kernels.memory import POOL_FROM, Shape, address, aligned_empty

__all__ = [
    "KIND", "address", "copied", "described", "from_host", "is_array", "is_usable", "is_writable", "machine", "maker",
    "synchronize", "usable_addresses",
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


def usable_addresses(specs: Sequence[Any], given: Sequence[Any]) -> list[int]:
    """The addresses of arrays that are what their specs say and whose elements kernels can read and change in place.

    0 for an optional one that is None. -1 for all else, and for some that are such arrays: with a dtype that is equal
    and not the same (NumPy's own are).
    """
    addresses = []  # filled by one loop: small calls count in microseconds
    for (_, shape, dtype, optional), array in zip(specs, given):
        if array is None and optional:
            addresses.append(0)
        elif type(array) is np.ndarray and array.shape == shape and array.dtype is dtype and array.flags.carray:
            addresses.append(address(array))
        else:
            addresses.append(-1)
    return addresses


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
