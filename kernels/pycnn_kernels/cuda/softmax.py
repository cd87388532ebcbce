"""Softmax and its cross-entropy: a team of threads for each row, which it reads twice and writes once.

A team is some lanes of a warp, which exchange registers, or for long rows a block.
"""

from __future__ import annotations

import math
from typing import Any

from numba import cuda
from numba.cuda import types

from pycnn_kernels.cuda.compile import device_function
from pycnn_kernels.cuda.launch import Kernel, Task, kernel
from pycnn_kernels.cuda.ptx import shift
from pycnn_kernels.cuda.reduce import WARP, greatest, plus, team_reduction, threads_for
from pycnn_kernels.problem import RowsProblem

#: Threads of a block that has several teams, and the columns from which on a block has one row.
_THREADS, _LONG = 128, 16 * WARP


def _rows_of(threads: int, team: int) -> Any:
    """A device function: a team's row, the place of its first element, its columns (none beyond the last row), and the
    thread's number in the team."""
    teams = threads // team

    @device_function
    def row_of(a):
        row = types.int64(cuda.blockIdx.x) * teams + cuda.threadIdx.x // team
        if row < a.rows:
            return row, row * a.columns, types.int64(a.columns), cuda.threadIdx.x % team
        return row, types.int64(0), types.int64(0), cuda.threadIdx.x % team

    return row_of


@kernel(x="source", p="array", rows="long", columns="int")
def softmax_kernel(dtype: Any, threads: int, team: int, logarithm: bool) -> Any:
    """``p[r, c] = exp(x[r, c] - m) / sum``, m the greatest of the row; or its logarithm. A team has a row.

    Threads add in steps of the team's size, then the team adds up what its threads have: bits repeat.
    """
    maximum = team_reduction(dtype, threads, team, greatest, -math.inf)
    total = team_reduction(dtype, threads, team, plus, 0)
    row_of, lowest, zero = _rows_of(threads, team), dtype(-math.inf), dtype(0)

    def body(a):
        _, begin, columns, first = row_of(a)
        x, p = shift(a.x, begin), shift(a.p, begin)
        most = lowest
        for c in range(first, columns, team):
            most = greatest(most, x[c])
        most = maximum(most)
        mine = zero
        for c in range(first, columns, team):
            mine += math.exp(x[c] - most)
        whole = total(mine)
        if logarithm:
            log_total = math.log(whole)
            for c in range(first, columns, team):
                p[c] = (x[c] - most) - log_total
        else:
            for c in range(first, columns, team):
                p[c] = math.exp(x[c] - most) / whole

    return body


@kernel(
    x="source", labels="labels", losses="array", p="array", rows="long", columns="int", ignore="long",
    smoothing="float",
)  # fmt: skip
def cross_entropy_kernel(dtype: Any, threads: int, team: int) -> Any:
    """``losses[r] = -sum over c of t[c] * log softmax(x[r])[c]`` and the softmax p, for labels. A team has a row.

    The target t is ``1 - smoothing`` at the label plus ``smoothing / columns`` everywhere. A row whose label is
    ``ignore`` has the loss 0.
    """
    maximum = team_reduction(dtype, threads, team, greatest, -math.inf)
    total = team_reduction(dtype, threads, team, plus, 0)
    row_of, lowest, zero, one = _rows_of(threads, team), dtype(-math.inf), dtype(0), dtype(1)

    def body(a):
        row, begin, columns, first = row_of(a)
        x, p = shift(a.x, begin), shift(a.p, begin)
        most = lowest
        for c in range(first, columns, team):
            most = greatest(most, x[c])
        most = maximum(most)
        exponentials, distances = zero, zero
        for c in range(first, columns, team):
            exponentials += math.exp(x[c] - most)
            distances += x[c] - most
        whole, sum_of_x = total(exponentials), total(distances)
        for c in range(first, columns, team):
            p[c] = math.exp(x[c] - most) / whole
        if first == 0 and row < a.rows:
            label = a.labels[row]
            loss = zero
            if label != a.ignore:
                log_total = math.log(whole)
                loss = (one - a.smoothing) * (log_total - (x[label] - most))
                if a.smoothing > zero:  # 0 * inf would turn a finite loss into NaN
                    loss += a.smoothing * (log_total - sum_of_x / dtype(a.columns))
            a.losses[row] = loss

    return body


def _rows_task(kernel: Kernel, p: RowsProblem, given: str, **constants: Any) -> Task:
    """Short rows share a block."""
    if p.columns > _LONG:
        threads = team = threads_for(p.columns)
    else:
        threads, team = _THREADS, 4
        while team < min(p.columns, WARP):
            team *= 2
    blocks = -(-p.rows * team // threads) if p.columns else 0
    variant = kernel.variant(p.dtype, threads=threads, team=team, **constants)
    return Task(variant, blocks, given, rows=p.rows, columns=p.columns)


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
