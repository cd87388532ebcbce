"""Single-pass kernels over flat arrays and over rows of channels."""

from __future__ import annotations

import math

from pycnn_kernels.cpu.host import item_bytes
from pycnn_kernels.cpu.launch import Task, kernel, most_threads
from pycnn_kernels.cpu.tile import shift
from pycnn_kernels.cpu.workspace import aligned_bytes, workspace
from pycnn_kernels.problem import ChannelsProblem

#: Elements that compiled loops take at once, four vectors of the widest: what is left over goes one by one.
_AT_ONCE = 64

#: Elements of the pixels that a sum over them takes together at least, where one pixel has fewer.
_TOGETHER = 256

#: Elements of one piece of work: 16 KB of float32, so that a piece and its sum stay in the first-level cache.
PIECE = 4096


@kernel(parts="array", total="array", count="int", size="int")
def sum_parts_kernel(a, item, worker):
    """``total[i] = 0 + parts[0, i] + parts[1, i] + ...`` over ``count`` parts of ``size`` elements, in that order."""
    first = item * PIECE
    last = min(first + PIECE, a.size)
    parts, total = a.parts, a.total
    for i in range(first, last):
        total[i] = 0
    for p in range(a.count):
        part = p * a.size
        for i in range(first, last):
            total[i] += parts[part + i]


def sum_parts(dtype: str, count: int, size: int) -> Task:
    """Makes ready to add ``count`` partial sums of ``size`` elements in their order; see :func:`sum_parts_kernel`.

    Returns:
        A task that takes the addresses of the parts and of the total.
    """
    parallel = count * size > 1 << 15
    return Task(sum_parts_kernel, dtype, -(-size // PIECE), "parts total", parallel=parallel, count=count, size=size)


@kernel(
    dy="array", y="array", dz="array", parts="array", wide="array",
    relu="int", want_bias="int", pixels="int", chunk="int", K="int", inner="int", width="int", wide_size="int",
)  # fmt: skip
def bias_activation_gradient_kernel(a, item, worker):
    """The gradients in front of an activation and of the bias before it, in one pass.

    ``dz = dy where y > 0, else 0`` (a NaN in y passes dy on), and ``parts[item, k]`` = the sum of dz over the
    item's pixels. Element (pixel, k, i) of dy, y and dz lies at ``(pixel * K + k) * inner + i``: channels last is
    inner = 1, channels first has the pixels of an image inside. A piece of work is ``chunk`` pixels; without relu
    dz is dy and is not written. In channels last some pixels of ``width`` elements together are added up in ``wide``,
    each worker's own: loops over few channels alone would leave the vectors empty.
    """
    first = item * a.chunk
    last = min(first + a.chunk, a.pixels)
    dy, y, dz = a.dy, a.y, a.dz
    sums = shift(a.parts, item * a.K)
    if a.want_bias:
        for k in range(a.K):
            sums[k] = 0
    if a.inner == 1:
        source = dz if a.relu else dy
        wide = shift(a.wide, worker * a.wide_size)
        for i in range(a.width):
            wide[i] = 0
        for begin in range(first * a.K, last * a.K, a.width):
            count = min(a.width, last * a.K - begin)
            if a.relu:
                for i in range(begin, begin + count):
                    dz[i] = 0 if y[i] <= 0 else dy[i]
            if a.want_bias:
                for i in range(count):
                    wide[i] += source[begin + i]
        if a.want_bias:
            for i in range(0, a.width, a.K):
                for k in range(a.K):
                    sums[k] += wide[i + k]
        return
    for row in range(first * a.K, last * a.K):
        start = row * a.inner
        if a.relu:
            for i in range(start, start + a.inner):
                dz[i] = 0 if y[i] <= 0 else dy[i]
        if a.want_bias:
            source = dz if a.relu else dy
            total = sums[row % a.K]
            for i in range(start, start + a.inner):
                total += source[i]
            sums[row % a.K] = total


def _width(channels: int) -> int:
    """Elements of the pixels that are added up together: whole loops of whole pixels."""
    if channels == 0 or channels >= _TOGETHER:
        return channels
    least = math.lcm(channels, _AT_ONCE)
    return least * max(_TOGETHER // least, 1)


class BiasSums:
    """The kernel made ready: a task that takes dy, y, dz, parts, scratch, and whether there are a ReLU and a bias.

    ``splits`` is how many parts it writes, about ``pieces``; ``worker_bytes`` the scratch of each worker.
    """

    def __init__(self, p: ChannelsProblem, pieces: int = 32):
        # As many pieces whatever the number of threads, so that the sums have the same bits for every number.
        chunk = max(-(-p.pixels // pieces), 1)
        self.splits = -(-p.pixels // chunk)
        width = _width(p.channels) if p.inner == 1 else 0
        self.worker_bytes = aligned_bytes(width, p.dtype)  # no cache line is of two workers
        self.task = Task(
            bias_activation_gradient_kernel, p.dtype, self.splits if p.channels else 0,
            "dy y dz parts wide relu want_bias", parallel=p.pixels * p.channels * p.inner > 1 << 14,
            pixels=p.pixels, chunk=chunk, K=p.channels, inner=p.inner, width=width,
            wide_size=self.worker_bytes // item_bytes(p.dtype),
        )  # fmt: skip


class BiasActivationGradient:
    """``dz, db`` from ``dy`` and ``y``; see :func:`bias_activation_gradient_kernel`."""

    def __init__(self, p: ChannelsProblem):
        self._sums = BiasSums(p)
        self._scratch_at = aligned_bytes(max(self._sums.splits, 1) * p.channels, p.dtype)
        self.workspace_bytes = self._scratch_at + self._sums.worker_bytes * most_threads()
        self._total = sum_parts(p.dtype, self._sums.splits, p.channels)

    def run(self, dy: int, y: int, dz: int, db: int) -> None:
        """Addresses; ``y`` and ``dz`` are 0 without relu, ``db`` is 0 when the bias has no gradient."""
        parts = workspace(self.workspace_bytes)
        self._sums.task.run(dy, y, dz, parts, parts + self._scratch_at, dz != 0, db != 0)
        if db:
            self._total.run(parts, db)
