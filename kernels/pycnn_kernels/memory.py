"""Memory for results, used again and again, and a limit to all memory of the engine.

A fresh buffer costs a page fault for each 4 KB, and a training step that allocates its activations anew spends
a third of its time on them (measured on the CIFAR-10 network: 20 ms a step, 12.5 without page faults). Buffers
of results come back here when their last array is gone, and the next result of their size gets them.

A buffer is *lent* while an array is on it, and *waits* otherwise. Beside buffers there is scratch memory, which belongs
to a thread (``cpu/workspace.py``); it is counted here, for the limit is one to all of them together.
"""

from __future__ import annotations

import ctypes
import itertools
import math
import os
import sys
import weakref
from collections import deque
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

#: Arrays begin at a cache line, so that no vector of theirs crosses one.
ALIGNMENT = 64

#: Smaller arrays come from NumPy, whose allocator keeps such sizes at hand itself.
POOL_FROM = 32 * 1024

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


class MemoryLimitError(MemoryError):
    """What an operation needs exceeds the limit of :func:`set_memory_limit`; nothing was computed or changed.

    Attributes:
        what: what was refused.
        needed: bytes that it asked for.
        used: bytes of the results that are lent, and of scratch memory.
        limit: bytes at most.

    >>> raise MemoryLimitError("softmax", needed=4096, used=1024, limit=4096)
    Traceback (most recent call last):
        ...
    pycnn_kernels.memory.MemoryLimitError: softmax needs 4,096 bytes beside the 1,024 in use; the memory limit is 4,096
    """

    def __init__(self, what: str, needed: int, used: int, limit: int):
        self.what, self.needed, self.used, self.limit = what, needed, used, limit
        super().__init__(f"{what} needs {needed:,} bytes beside the {used:,} in use; the memory limit is {limit:,}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.what, self.needed, self.used, self.limit)


class MemoryStats(NamedTuple):
    """What :func:`memory_stats` returns.

    Attributes:
        lent: bytes of the buffers that arrays are on.
        peak: the most that was lent at a time.
        waiting: bytes of the buffers that the next results get.
        workspace: bytes of scratch memory, of all threads.
        made: buffers that had to be made.
        reused: results that got a buffer that was there.
    """

    lent: int
    peak: int
    waiting: int
    workspace: int
    made: int
    reused: int


class _Return(weakref.ref):
    """A buffer on loan, and the way back: when the loan's end is near this goes into the pool's queue."""

    __slots__ = ("buffer", "shelf")

    buffer: np.ndarray
    shelf: _Shelf


class _Loan(ctypes.Array):
    """What a pooled array has as its base: it lives as long as any array on the buffer.

    There is a subclass for each size. Of what Python offers as memory for an array at a given address, ctypes' arrays
    take the least time to make.
    """

    _type_, _length_ = ctypes.c_char, 0

    way_back: _Return


class _Made(weakref.ref):
    """A buffer that there is. Arrays have no hash, and that of a weak reference is the array's: this has its own."""

    __slots__ = ()
    __hash__ = object.__hash__
    __eq__ = object.__eq__


class _Shelf:
    """The buffers of one size: those that wait, and all that there are."""

    __slots__ = ("last_use", "loan", "made", "size", "waiting")

    def __init__(self, size: int) -> None:
        self.size, self.last_use = size, 0
        self.loan: type[_Loan] = type("_Loan", (_Loan,), {"_type_": ctypes.c_char, "_length_": size})
        self.waiting: deque[np.ndarray] = deque()
        self.made: set[_Made] = set()

    @property
    def waiting_bytes(self) -> int:
        return self.size * len(self.waiting)


class Scratch:
    """How much scratch memory a thread has; counted as long as this lives, which is as long as the thread."""

    __slots__ = ("__weakref__", "size")

    def __init__(self, pool: Pool) -> None:
        self.size = 0
        pool.scratch.add(weakref.ref(self, pool.scratch.discard))


class Pool:
    """Buffers that wait for use, by size.

    No lock and no Python code on the way back: a buffer returns while garbage is collected, at any moment and on
    any thread, and an interrupt (Ctrl-C) there would be lost. The way back is one call of ``deque.append``, and the
    next loan puts what came back on its shelf.

    How much is lent is a running count: exact on one thread, and off by a buffer or two where threads meet in the same
    microsecond, or where an interrupt came between a buffer and its count. What there is, and what of it waits, say
    it exactly (:meth:`recount`), and are asked whenever a buffer is made.

    Attributes:
        limit: bytes at most of buffers and scratch memory together, or None.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self.shelves: dict[int, _Shelf] = {}
        self.returned: deque[_Return] = deque()
        self.scratch: set[weakref.ref[Scratch]] = set()
        self.clock = itertools.count()
        self.lent = self.peak = self.made = self.reused = 0

    def lend(self, size: int, shape: Shape, dtype: np.dtype) -> np.ndarray:
        if self.returned:
            self.collect()
        shelf = self.shelves.get(size) or self.shelves.setdefault(size, _Shelf(size))
        shelf.last_use = next(self.clock)
        try:
            buffer = shelf.waiting.pop()
        except IndexError:
            buffer = None
        if buffer is None:
            buffer = self.make(shelf)
        else:
            self.lent += size
            self.reused += 1
        if self.lent > self.peak:
            self.peak = self.lent
        first = address(buffer)
        loan = shelf.loan.from_address(first + -first % ALIGNMENT)
        loan.way_back = way_back = _Return(loan, self.returned.append)
        way_back.buffer, way_back.shelf = buffer, shelf
        return np.ndarray(shape, dtype, loan)  # type: ignore[arg-type]  # the stub does not know ctypes

    def collect(self) -> None:
        """Put what came back on the shelves."""
        try:
            while self.returned:
                back = self.returned.popleft()
                self.lent -= back.shelf.size
                back.shelf.waiting.append(back.buffer)
        except IndexError:  # another thread took it
            pass

    def make(self, shelf: _Shelf) -> np.ndarray:
        self.admit(shelf.size, "a result")
        self.make_room(shelf.size)
        buffer = np.empty(shelf.size + ALIGNMENT, np.uint8)
        shelf.made.add(_Made(buffer, shelf.made.discard))
        self.made += 1
        self.recount()
        return buffer

    def admit(self, needed: int, what: str) -> None:
        """Refuse what exceeds the limit even when no buffer waits any more.

        Raises:
            MemoryLimitError: it does.
        """
        limit = self.limit
        if limit is None or not needed or self.used + needed <= limit:
            return
        self.collect()
        self.recount()
        if self.used + needed > limit:
            raise MemoryLimitError(what, needed, self.used, limit)

    def make_room(self, size: int = 0) -> None:
        """Let go of buffers, of the sizes first that were not used for longest, until few enough wait.

        ``size`` is what is about to be allocated.
        """
        self.collect()
        most = _MOST_WAITING if self.limit is None else min(_MOST_WAITING, self.limit - self.used - size)
        shelves = list(self.shelves.values())
        total = sum(shelf.waiting_bytes for shelf in shelves)
        if total <= most:
            return
        for shelf in sorted(shelves, key=lambda shelf: shelf.last_use):
            total -= shelf.waiting_bytes
            shelf.waiting.clear()
            if total <= most:
                return

    def recount(self) -> None:
        """Count what is lent: all buffers but those that wait, and those that came back since."""
        there = sum(shelf.size * len(shelf.made) - shelf.waiting_bytes for shelf in list(self.shelves.values()))
        self.lent = there - sum(back.shelf.size for back in self.returned.copy())

    @property
    def used(self) -> int:
        """Bytes that are lent, and of scratch memory."""
        return self.lent + self.scratch_bytes

    @property
    def scratch_bytes(self) -> int:
        found = [reference() for reference in self.scratch.copy()]
        return sum(scratch.size for scratch in found if scratch is not None)

    def clear(self) -> None:
        self.collect()
        for shelf in list(self.shelves.values()):
            shelf.waiting.clear()


def aligned_empty(shape: Shape, dtype: DTypeLike) -> np.ndarray:
    """An uninitialised array; one of 32 KB or more begins at a cache line and comes from the pool.

    Raises:
        MemoryLimitError: it would exceed the memory limit.

    >>> aligned_empty((128, 128), "float32").ctypes.data % 64
    0
    """
    kind = dtype if isinstance(dtype, np.dtype) else np.dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    if size < POOL_FROM:
        return np.empty(shape, kind)
    return pool.lend(_size_class(size), shape, kind)


def lent_bytes(size: int) -> int:
    """Bytes of the pool that an array of ``size`` bytes takes: none where it is small.

    >>> lent_bytes(1000), lent_bytes(100_000)
    (0, 106496)
    """
    return 0 if size < POOL_FROM else _size_class(size)


def _size_class(size: int) -> int:
    """``size`` rounded up to an eighth of its power of two, so that similar sizes share buffers."""
    step = 1 << max(size.bit_length() - 4, 0)
    return -(-size // step) * step


def release_memory() -> None:
    """Give the buffers that wait for use back to the system.

    >>> release_memory()
    >>> memory_stats().waiting
    0
    """
    pool.clear()


def memory_stats() -> MemoryStats:
    """The engine's memory: results, and the scratch memory of its algorithms.

    Arrays of less than 32 KB are not counted, nor are arrays that others made. ``peak``, ``made`` and ``reused`` count
    from the last :func:`reset_memory_stats`.

    >>> before = memory_stats()
    >>> result = aligned_empty((1024, 1024), "float32")
    >>> memory_stats().lent - before.lent
    4194304
    >>> del result
    >>> memory_stats().lent - before.lent
    0
    """
    pool.collect()
    pool.recount()
    waiting = sum(shelf.waiting_bytes for shelf in list(pool.shelves.values()))
    return MemoryStats(pool.lent, max(pool.peak, pool.lent), waiting, pool.scratch_bytes, pool.made, pool.reused)


def reset_memory_stats() -> None:
    """Let the peak of :func:`memory_stats` begin at what is lent now, and its counts at 0.

    >>> reset_memory_stats()
    >>> memory_stats().made
    0
    """
    pool.collect()
    pool.recount()
    pool.peak, pool.made, pool.reused = pool.lent, 0, 0


def set_memory_limit(limit: int | None) -> None:
    """Refuse operations that would take more memory than this, from now on.

    The limit is one to results (those of 32 KB and more) and scratch memory together; arrays that others made are not
    counted, nor are at most 0.5 MB for each thread, whatever the problem. Buffers that wait for use are given back to
    the system first. Where that does not suffice, an operation raises :class:`MemoryLimitError`, which is a
    ``MemoryError``, before it computes anything. The environment variable ``PYCNN_MEMORY_LIMIT`` sets the limit that a
    program begins with: bytes, or a number with a unit (``64MB``, ``1.5GiB``; ``512M`` is 512 MiB).

    Args:
        limit: bytes, or None for no limit.

    Raises:
        TypeError: no integer.
        ValueError: less than 0.

    >>> set_memory_limit(1_000_000)
    >>> aligned_empty((1024, 1024), "float32")
    Traceback (most recent call last):
        ...
    pycnn_kernels.memory.MemoryLimitError: a result needs 4,194,304 bytes ...; the memory limit is 1,000,000
    >>> set_memory_limit(None)
    """
    if limit is not None:
        if isinstance(limit, bool) or not isinstance(limit, int | np.integer):
            raise TypeError(f"the memory limit must be None or a number of bytes, an integer; received {limit!r}")
        if limit < 0:
            raise ValueError(f"the memory limit must be at least 0 bytes; received {limit!r}")
    pool.limit = None if limit is None else int(limit)
    pool.make_room()


def get_memory_limit() -> int | None:
    """The limit of :func:`set_memory_limit`, in bytes; None where there is none."""
    return pool.limit


_UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_UNITS |= {"k": 2**10, "m": 2**20, "g": 2**30}


def bytes_of(text: str) -> int:
    """A number of bytes from text; K, M and G alone are powers of 1,024, as everywhere where memory is limited.

    Raises:
        ValueError: it is none.

    >>> bytes_of("4096"), bytes_of("64MB"), bytes_of("1.5 GiB"), bytes_of("512M")
    (4096, 64000000, 1610612736, 536870912)
    """
    number = text.strip().rstrip("BbGgIiKkMm ")
    unit = text.strip()[len(number) :].strip().lower() or "b"
    if unit not in _UNITS or not (number.isascii() and number.replace(".", "", 1).isdecimal()):
        raise ValueError(f"expected bytes, such as 4096, 64MB or 1.5GiB, received {text!r}")
    return int(float(number) * _UNITS[unit])


def _default_limit() -> int | None:
    wanted = os.environ.get("PYCNN_MEMORY_LIMIT")
    if not wanted:
        return None
    try:
        return bytes_of(wanted)
    except ValueError as error:
        raise ValueError(f"PYCNN_MEMORY_LIMIT: {error}") from None


pool = Pool(_default_limit())
