"""Scratch memory of the kernels: one growing buffer per Python thread, reused by every call.

Fresh buffers cost a page fault per 4 KB; a buffer that stays costs nothing after its first use.
"""

from __future__ import annotations

import threading

import numpy as np

from pycnn_kernels.cpu.host import item_bytes
from pycnn_kernels.memory import ALIGNMENT, address


class _Local(threading.local):
    """One thread's buffer, how much of it can be used, and where that begins."""

    def __init__(self) -> None:
        self.buffer = np.empty(ALIGNMENT, np.uint8)
        self.size, self.first = 0, -(-address(self.buffer) // ALIGNMENT) * ALIGNMENT


_local = _Local()


def aligned_bytes(elements: int, dtype: str) -> int:
    """Bytes that ``elements`` of ``dtype`` take in a workspace, rounded up to whole cache lines."""
    size = elements * item_bytes(dtype)
    return -(-size // ALIGNMENT) * ALIGNMENT


def workspace(size: int) -> int:
    """The address of at least ``size`` bytes, aligned to a cache line, valid until this thread's next call."""
    if _local.size < size:
        _local.buffer = np.empty(size + ALIGNMENT, np.uint8)
        _local.size, _local.first = size, -(-address(_local.buffer) // ALIGNMENT) * ALIGNMENT
    return _local.first
