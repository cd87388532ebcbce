"""What plans ask of their arrays on the CPU, NumPy's; for a GPU its ``Device`` answers (``cuda/device.py``)."""

from __future__ import annotations

from typing import Any

import numpy as np

from pycnn_kernels.memory import Shape, address, aligned_empty

__all__ = [
    "KIND", "address", "copied", "described", "empty", "fits", "from_host", "is_array", "is_usable", "is_writable",
    "machine", "synchronize",
]  # fmt: skip

#: What messages call such an array.
KIND = "NumPy array"

empty = aligned_empty


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


def fits(candidate: Any, shape: Shape, dtype: np.dtype) -> bool:
    """Whether it is an array of this shape and dtype whose elements kernels can read and change where they are.

    False for some that are, with a dtype that is equal and not the same: NumPy's own are.
    """
    return (
        type(candidate) is np.ndarray
        and candidate.shape == shape
        and candidate.dtype is dtype
        and candidate.flags.carray
    )


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
