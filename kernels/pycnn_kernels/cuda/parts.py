"""Sums that many threads share: lanes of a block add up, then a second kernel adds what the blocks have, in its order.

A weight gradient has few results, each a sum over the pixels of all images. The pixels are divided into *lines*, the
lines into *parts*: a block adds up one part's lines, whose pixels its *lanes* share, and writes its sums to a workspace
laid out like the result. The parts are merged in a fixed order, so that bits repeat on one kind of GPU; how many parts
there are depends on its multiprocessors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import cuda

from pycnn_kernels.cuda.compile import device_function
from pycnn_kernels.cuda.device import current_device
from pycnn_kernels.cuda.launch import THREADS, Task, blocks_for, kernel
from pycnn_kernels.cuda.reduce import WARP, plus, team_reduction

#: Threads of a multiprocessor that a division into parts is to keep busy, and parts at most.
_BUSY, _MOST_PARTS = 2048, 512


def lane_sum(dtype: Any, threads: int, lanes: int, adjacent: bool) -> Any:
    """A device function that adds up a value of ``lanes`` threads of a block; the first of them gets the sum.

    ``lanes`` is a power of two. Adjacent ones, at most 32, are neighbouring threads, and exchange registers; others are
    ``threads // lanes`` apart, and meet in shared memory. All threads of the block must call it.
    """
    if lanes == 1:

        @device_function
        def same(value):
            return value

        return same

    if adjacent:
        return team_reduction(dtype, threads, lanes, plus, 0)

    apart = threads // lanes

    @device_function
    def added(value):
        values = cuda.shared.array(threads, dtype)
        values[cuda.threadIdx.x] = value
        cuda.syncthreads()
        if cuda.threadIdx.x < apart:
            for lane in range(1, lanes):
                value += values[lane * apart + cuda.threadIdx.x]
        cuda.syncthreads()  # the next call writes the values again
        return value

    return added


@kernel(parts="source", sums="array", size="int", count="int")
def merge_kernel(dtype: Any, threads: int, rows: int) -> Any:
    """``sums[i]``, the sum over ``count`` parts of ``parts[part, i]``. Parts go to the ``rows`` of a block in turn.

    A block has ``threads // rows`` elements. Where there are many parts of few elements, it is the rows that keep
    loads under way.
    """
    columns, zero = threads // rows, dtype(0)
    total = lane_sum(dtype, threads, rows, adjacent=False)

    def body(a):
        i, row = cuda.blockIdx.x * columns + cuda.threadIdx.x % columns, cuda.threadIdx.x // columns
        mine = zero
        if i < a.size:
            for part in range(row, a.count, rows):
                mine += a.parts[part * a.size + i]
        mine = total(mine)
        if row == 0 and i < a.size:
            a.sums[i] = mine

    return body


class Division(NamedTuple):
    """``parts`` of ``each`` lines, the last one of what is left."""

    parts: int
    each: int


def divided(lines: int, threads: int) -> Division:
    """The division of lines for a kernel that has so many threads for each part; one part where there are no lines."""
    wanted = current_device().processors * _BUSY // max(threads, 1)
    each = -(-lines // max(min(wanted, _MOST_PARTS), 1))
    return Division(-(-lines // each) if lines else 1, each)


class Parts:
    """The parts' sums of one problem, and their way to the result.

    Attributes:
        workspace_bytes: of all parts; nothing where one part is the result.
    """

    def __init__(self, dtype: str, size: int, count: int) -> None:
        self._dtype, self._elements = np.dtype(dtype), count * size if count > 1 else 0
        self.workspace_bytes = self._elements * self._dtype.itemsize
        rows = 1 if count <= 8 else 8 if count <= 64 else WARP
        variant = merge_kernel.variant(dtype, rows=rows)
        self._merge = Task(variant, blocks_for(size, THREADS // rows), "parts sums", size=size, count=count)

    def run(self, add: Callable[[int], None], sums: int) -> None:
        """``add`` writes the parts' sums from an address on."""
        if not self._elements:
            add(sums)
            return
        device = current_device()
        memory = device.empty((self._elements,), self._dtype)
        add(device.address(memory))
        self._merge.run(device.address(memory), sums)
