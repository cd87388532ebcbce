"""Memory for results, used again and again.

A fresh buffer costs a page fault for each 4 KB, and a training step that allocates its activations anew spends
a third of its time on them (measured on the CIFAR-10 network: 20 ms a step, 12.5 without page faults). Buffers
of results come back here when their last array is gone, and the next result of their size gets them.
"""

from __future__ import annotations

import ctypes
import itertools
import math
import sys
import weakref
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

#: Arrays begin at a cache line, so that no vector of theirs crosses one.
ALIGNMENT = 64

#: Smaller arrays come from NumPy, whose allocator keeps such sizes at hand itself.
_POOL_FROM = 32 * 1024

#: Bytes that may wait for use when another buffer is made.
_MOST_WAITING = 1 << 30

Shape = tuple[int, ...]


def address(array: np.ndarray) -> int:
    """Where the elements of an array begin, as ``array.ctypes.data`` says in a microsecond.

    A call of a small operation asks six times. In CPython an object's ``id`` is its place in memory, and NumPy's
    binary interface puts the address of the elements right behind the object's header.

    >>> a = np.zeros(3)
    >>> address(a[1:]) - address(a)
    8
    """
    return _read(id(array) + _HEADER_BYTES).value or 0


def _slow_address(array: np.ndarray) -> int:
    return array.ctypes.data


_read = ctypes.c_void_p.from_address
_HEADER_BYTES = object.__basicsize__
if sys.implementation.name != "cpython":
    address = _slow_address


class _Return(weakref.ref):
    """A buffer on loan, and the way back: when the loan's end is near this goes into the pool's queue."""

    __slots__ = ("buffer",)

    buffer: np.ndarray


class _Loan:
    """What a pooled array has as its base: it lives as long as any array on the buffer."""

    __slots__ = ("__array_interface__", "__weakref__", "way_back")

    __array_interface__: dict[str, Any]
    way_back: _Return


class _Pool:
    """Buffers that wait for use, by size.

    No lock and no Python code on the way back: a buffer returns while garbage is collected, at any moment and on
    any thread, and an interrupt (Ctrl-C) there would be lost. The way back is one call of ``deque.append``.
    """

    def __init__(self) -> None:
        self.waiting: dict[int, deque[_Return]] = {}
        self.last_use: dict[int, int] = {}
        self.clock = itertools.count()

    def lend(self, size: int, shape: Shape, typestr: str) -> np.ndarray:
        queue = self.waiting.setdefault(size, deque())
        self.last_use[size] = next(self.clock)
        try:
            buffer = queue.pop().buffer
        except IndexError:
            self.make_room()
            buffer = np.empty(size + ALIGNMENT, np.uint8)
        first = address(buffer)
        loan = _Loan()
        loan.__array_interface__ = {
            "version": 3,
            "shape": shape,
            "typestr": typestr,
            "data": (first + -first % ALIGNMENT, False),
        }
        loan.way_back = _Return(loan, queue.append)
        loan.way_back.buffer = buffer
        return np.asarray(loan)

    def make_room(self) -> None:
        """Let go of buffers, of the sizes first that were not used for longest, until few enough wait."""
        total = sum(size * len(queue) for size, queue in list(self.waiting.items()))
        for size in sorted(self.last_use, key=self.last_use.__getitem__):
            if total <= _MOST_WAITING:
                return
            queue = self.waiting[size]
            total -= size * len(queue)
            queue.clear()

    def clear(self) -> None:
        for queue in list(self.waiting.values()):
            queue.clear()


_pool = _Pool()


def aligned_empty(shape: Shape, dtype: DTypeLike) -> np.ndarray:
    """An uninitialised array; one of 32 KB or more begins at a cache line and comes from the pool.

    >>> aligned_empty((128, 128), "float32").ctypes.data % 64
    0
    """
    kind = dtype if isinstance(dtype, np.dtype) else np.dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    if size < _POOL_FROM:
        return np.empty(shape, kind)
    if kind.kind == "V":  # bfloat16, whose typestr says no more than two bytes
        return _pool.lend(_size_class(size), shape, np.dtype(f"u{kind.itemsize}").str).view(kind)
    return _pool.lend(_size_class(size), shape, kind.str)


def _size_class(size: int) -> int:
    """``size`` rounded up to an eighth of its power of two, so that similar sizes share buffers."""
    step = 1 << max(size.bit_length() - 4, 0)
    return -(-size // step) * step


def release_memory() -> None:
    """Give the buffers that wait for use back to the system."""
    _pool.clear()
