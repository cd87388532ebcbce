"""The arrays of plans on a GPU, CuPy's; ``cpu/arrays.py`` has the same for the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np

from pycnn_kernels.cuda.device import current_device
from pycnn_kernels.memory import Shape

#: What messages call such an array.
KIND = "CuPy array"

#: What every array of a kernel begins at a multiple of, so that a thread can move 16 bytes at once.
_ALIGNMENT = 16


def device() -> int:
    """The number of the GPU: plans belong to it, for they hold tables in its memory."""
    return current_device().number


def machine() -> str:
    """What timings of plans belong to."""
    return f"cuda on {current_device().name}"


def synchronize() -> None:
    """Wait until all plans that run have ended."""
    current_device().synchronize()


def from_host(values: np.ndarray) -> Any:
    """An array with these values."""
    return current_device().xp.asarray(values)


def is_array(candidate: Any) -> bool:
    return current_device().is_array(candidate)


def is_usable(array: Any) -> bool:
    """Whether kernels can read its elements where they are: contiguous, and aligned to 16 bytes."""
    return array.flags.c_contiguous and address(array) % _ALIGNMENT == 0


def is_writable(array: Any) -> bool:
    return True  # CuPy knows no others


def empty(shape: Shape, dtype: np.dtype) -> Any:
    return current_device().empty(shape, dtype)


def address(array: Any) -> int:
    return current_device().address(array)


def copied(array: Any) -> Any:
    """A contiguous, aligned copy."""
    copy = empty(array.shape, array.dtype)
    copy[...] = array
    return copy
