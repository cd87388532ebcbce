"""Single-pass kernels over flat arrays and over rows of channels."""

from __future__ import annotations

from pycnn_kernels.cpu.launch import kernel, launch

#: Elements of one piece of work: 16 KB of float32, so that a piece and its sum stay in the first-level cache.
PIECE = 4096


@kernel(parts="array", total="array", count="int", size="int")
def sum_parts_kernel(a, item, worker):
    """``total[i] = parts[0, i] + parts[1, i] + ...`` over ``count`` parts of ``size`` elements, in that order."""
    first = item * PIECE
    last = min(first + PIECE, a.size)
    parts, total = a.parts, a.total
    for i in range(first, last):
        total[i] = parts[i]
    for p in range(1, a.count):
        part = p * a.size
        for i in range(first, last):
            total[i] += parts[part + i]


def sum_parts(dtype: str, parts: int, total: int, count: int, size: int) -> None:
    """Add partial sums in their order; see :func:`sum_parts_kernel`. The arguments are addresses and sizes."""
    block = sum_parts_kernel.block(parts=parts, total=total, count=count, size=size)
    launch(sum_parts_kernel.entry(dtype), block, -(-size // PIECE), parallel=count * size > 1 << 15)
