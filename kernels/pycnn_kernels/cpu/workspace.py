"""Scratch memory of the kernels: one growing buffer per Python thread, reused by every call.

Fresh buffers cost a page fault per 4 KB; a buffer that stays costs nothing after its first use.
"""

from __future__ import annotations

import threading

import numpy as np

from pycnn_kernels.cpu.host import item_bytes
from pycnn_kernels.memory import ALIGNMENT

_local = threading.local()


def aligned_bytes(elements: int, dtype: str) -> int:
    """Bytes that ``elements`` of ``dtype`` take in a workspace, rounded up to whole cache lines."""
    size = elements * item_bytes(dtype)
    return -(-size // ALIGNMENT) * ALIGNMENT


def workspace(size: int) -> int:
    """The address of at least ``size`` bytes, aligned to a cache line, valid until this thread's next call."""
    buffer = getattr(_local, "buffer", None)
    if buffer is None or buffer.nbytes < size + ALIGNMENT:
        buffer = _local.buffer = np.empty(size + ALIGNMENT, np.uint8)
    address: int = buffer.ctypes.data
    return -(-address // ALIGNMENT) * ALIGNMENT
