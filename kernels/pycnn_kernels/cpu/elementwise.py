"""Single-pass kernels over flat arrays and over rows of channels."""

from __future__ import annotations

from pycnn_kernels.cpu.launch import Task, kernel
from pycnn_kernels.cpu.tile import shift
from pycnn_kernels.cpu.workspace import aligned_bytes, workspace
from pycnn_kernels.problem import ChannelsProblem

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
    dy="array", y="array", dz="array", parts="array",
    relu="int", want_bias="int", pixels="int", chunk="int", K="int", inner="int",
)  # fmt: skip
def bias_activation_gradient_kernel(a, item, worker):
    """The gradients in front of an activation and of the bias before it, in one pass.

    ``dz = dy where y > 0, else 0`` (a NaN in y passes dy on), and ``parts[item, k]`` = the sum of dz over the
    item's pixels. Element (pixel, k, i) of dy, y and dz lies at ``(pixel * K + k) * inner + i``: channels last is
    inner = 1, channels first has the pixels of an image inside. A piece of work is ``chunk`` pixels; without relu
    dz is dy and is not written.
    """
    first = item * a.chunk
    last = min(first + a.chunk, a.pixels)
    dy, y, dz = a.dy, a.y, a.dz
    sums = shift(a.parts, item * a.K)
    if a.want_bias:
        for k in range(a.K):
            sums[k] = 0
    if a.inner == 1:
        for pixel in range(first, last):
            start = pixel * a.K
            if a.relu:
                for k in range(a.K):
                    dz[start + k] = 0 if y[start + k] <= 0 else dy[start + k]
            if a.want_bias:
                source = dz if a.relu else dy
                for k in range(a.K):
                    sums[k] += source[start + k]
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


class BiasActivationGradient:
    """``dz, db`` from ``dy`` and ``y``; see :func:`bias_activation_gradient_kernel`."""

    def __init__(self, p: ChannelsProblem):
        # About 32 pieces, whatever the number of threads, so that the sums have the same bits for every number.
        chunk = max(-(-p.pixels // 32), 1)
        items = -(-p.pixels // chunk)
        self.workspace_bytes = aligned_bytes(max(items, 1) * p.channels, p.dtype)
        self._sums = Task(
            bias_activation_gradient_kernel, p.dtype, items, "dy y dz parts relu want_bias",
            parallel=p.pixels * p.channels * p.inner > 1 << 14,
            pixels=p.pixels, chunk=chunk, K=p.channels, inner=p.inner,
        )  # fmt: skip
        self._total = sum_parts(p.dtype, items, p.channels)

    def run(self, dy: int, y: int, dz: int, db: int) -> None:
        """Addresses; ``y`` and ``dz`` are 0 without relu, ``db`` is 0 when the bias has no gradient."""
        parts = workspace(self.workspace_bytes)
        self._sums.run(dy, y, dz, parts, dz != 0, db != 0)
        if db:
            self._total.run(parts, db)
