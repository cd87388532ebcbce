"""Softmax and its cross-entropy: a block of threads for each row, which it reads twice and writes once."""

from __future__ import annotations

import math
from typing import Any

from numba import cuda

from pycnn_kernels.cuda.launch import Kernel, Task, kernel
from pycnn_kernels.cuda.ptx import shift
from pycnn_kernels.cuda.reduce import block_reduction, greatest, plus, threads_for
from pycnn_kernels.problem import RowsProblem


@kernel(x="source", p="array", columns="int")
def softmax_kernel(dtype: Any, threads: int, logarithm: bool) -> Any:
    """``p[r, c] = exp(x[r, c] - m) / sum``, m the greatest of the row; or its logarithm. Block r has row r.

    Threads add in steps of the block's size, then the block adds up what its threads have: bits repeat.
    """
    maximum, total = block_reduction(dtype, threads, greatest, -math.inf), block_reduction(dtype, threads, plus, 0)
    lowest, zero = dtype(-math.inf), dtype(0)

    def body(a):
        row = cuda.blockIdx.x * a.columns
        x, p = shift(a.x, row), shift(a.p, row)
        most = lowest
        for c in range(cuda.threadIdx.x, a.columns, threads):
            most = greatest(most, x[c])
        most = maximum(most)
        mine = zero
        for c in range(cuda.threadIdx.x, a.columns, threads):
            mine += math.exp(x[c] - most)
        whole = total(mine)
        if logarithm:
            shifted = most + math.log(whole)
            for c in range(cuda.threadIdx.x, a.columns, threads):
                p[c] = x[c] - shifted
        else:
            for c in range(cuda.threadIdx.x, a.columns, threads):
                p[c] = math.exp(x[c] - most) / whole

    return body


@kernel(x="source", labels="labels", losses="array", p="array", columns="int", ignore="long", smoothing="float")
def cross_entropy_kernel(dtype: Any, threads: int) -> Any:
    """``losses[r] = -sum over c of t[c] * log softmax(x[r])[c]`` and the softmax p, for labels. Block r has row r.

    The target t is ``1 - smoothing`` at the label plus ``smoothing / columns`` everywhere. A row whose label is
    ``ignore`` has the loss 0.
    """
    maximum, total = block_reduction(dtype, threads, greatest, -math.inf), block_reduction(dtype, threads, plus, 0)
    lowest, zero, one = dtype(-math.inf), dtype(0), dtype(1)

    def body(a):
        row = cuda.blockIdx.x * a.columns
        x, p = shift(a.x, row), shift(a.p, row)
        most = lowest
        for c in range(cuda.threadIdx.x, a.columns, threads):
            most = greatest(most, x[c])
        most = maximum(most)
        exponentials, distances = zero, zero
        for c in range(cuda.threadIdx.x, a.columns, threads):
            exponentials += math.exp(x[c] - most)
            distances += x[c] - most
        whole, sum_of_x = total(exponentials), total(distances)
        for c in range(cuda.threadIdx.x, a.columns, threads):
            p[c] = math.exp(x[c] - most) / whole
        if cuda.threadIdx.x == 0:
            label = a.labels[cuda.blockIdx.x]
            loss = zero
            if label != a.ignore:
                log_total = math.log(whole)
                loss = (one - a.smoothing) * (log_total - (x[label] - most))
                if a.smoothing > zero:  # 0 * inf would turn a finite loss into NaN
                    loss += a.smoothing * (log_total - sum_of_x / dtype(a.columns))
            a.losses[cuda.blockIdx.x] = loss

    return body


def _rows_task(kernel: Kernel, p: RowsProblem, given: str, **constants: Any) -> Task:
    threads = threads_for(p.columns)
    variant = kernel.variant(p.dtype, threads=threads, **constants)
    return Task(variant, p.rows if p.columns else 0, given, columns=p.columns)


class Softmax:
    """``p`` from ``x``."""

    workspace_bytes = 0

    def __init__(self, p: RowsProblem):
        self.run = _rows_task(softmax_kernel, p, "x p", logarithm=False).run


class LogSoftmax:
    """The logarithm of ``p``, from ``x``."""

    workspace_bytes = 0

    def __init__(self, p: RowsProblem):
        self.run = _rows_task(softmax_kernel, p, "x p", logarithm=True).run


class CrossEntropy:
    """``losses`` and ``p`` from ``x`` and int64 ``labels``; see :func:`cross_entropy_kernel`."""

    workspace_bytes = 0

    def __init__(self, p: RowsProblem):
        self.run = _rows_task(cross_entropy_kernel, p, "x labels losses p ignore smoothing").run
