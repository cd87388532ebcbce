"""Scratch memory of the kernels: one growing buffer per Python thread, reused by every call.

Fresh buffers cost a page fault per 4 KB; a buffer that stays costs nothing after its first use.
"""

from __future__ import annotations

import threading

import numpy as np

from pycnn_kernels.cpu.host import item_bytes
from pycnn_kernels.memory import ALIGNMENT, MemoryLimitError, Scratch, address, pool


class _Buffer(threading.local):
    """One thread's buffer, how much of it can be used, and where that begins."""

    def __init__(self) -> None:
        self.counted = Scratch(pool)
        self.drop()

    def drop(self) -> None:
        """Begin anew with none. The size goes first: an interrupt must not leave one whose memory is gone."""
        self.size = self.counted.size = 0
        self.array = np.empty(ALIGNMENT, np.uint8)
        self.first = -(-address(self.array) // ALIGNMENT) * ALIGNMENT

    def holding(self, size: int) -> int:
        """The address of at least ``size`` bytes."""
        if self.size < size:
            self.drop()  # what is in it is lost in any case, and two need not be held at a time
            pool.make_room(size)
            self.array = np.empty(size + ALIGNMENT, np.uint8)
            self.first = -(-address(self.array) // ALIGNMENT) * ALIGNMENT
            self.size = self.counted.size = size
        return self.first


_workspace, _panels = _Buffer(), _Buffer()


def aligned_bytes(elements: int, dtype: str) -> int:
    """Bytes that ``elements`` of ``dtype`` take in a workspace, rounded up to whole cache lines."""
    return whole_lines(elements * item_bytes(dtype))


def whole_lines(size: int) -> int:
    """The bytes of as many whole cache lines as ``size`` bytes take."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def workspace(size: int) -> int:
    """The address of at least ``size`` bytes, aligned to a cache line, valid until this thread's next call."""
    return _workspace.holding(size)


def worker_panels(size: int) -> int:
    """The same beside the workspace, for what a kernel would keep on its workers' stacks if these were larger.

    At most some hundred KB for each of them, whatever the problem: it is not counted as workspace, so that there are
    algorithms that need none.
    """
    return _panels.holding(size)


def admit(what: str, results: int, scratch: int) -> None:
    """Refuse a run that would exceed the memory limit, before it begins.

    Args:
        what: the operation.
        results: bytes that it takes from the pool.
        scratch: bytes of workspace; what this thread has already is not needed again.

    Raises:
        MemoryLimitError: it would.
    """
    try:
        pool.admit(results + max(scratch - _workspace.size, 0), what)
    except MemoryLimitError:
        if _workspace.size <= scratch:
            raise
    else:
        return
    _workspace.drop()  # of an earlier, larger run: this one makes its own
    pool.admit(results + scratch, what)
