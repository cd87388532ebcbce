"""Losses between numbers and targets, their sums and their gradients, in one pass over memory each."""

from __future__ import annotations

from numba import njit

from pycnn_kernels.cpu.formula import LossFormula, evaluated
from pycnn_kernels.cpu.inlined import INLINED_OPTIONS
from pycnn_kernels.cpu.launch import SMALL_WORK, Task, kernel, literal_kernel, most_threads
from pycnn_kernels.cpu.tile import scalar, shift
from pycnn_kernels.cpu.workspace import aligned_bytes, workspace
from pycnn_kernels.problem import LossProblem

#: Elements of one piece of work: 64 KB of each array of float32.
PIECE = 1 << 14

#: Losses that are added up at a time, in whole vectors of the kernel's dtype; the sums of such blocks are added in
#: float64, so that those of large arrays are as accurate as those of small ones.
BLOCK = 1024


@literal_kernel(x="array", t="array", y="array", size="int", parameter="float", formula="type")
def loss_kernel(a, item, worker):
    """``y[i]``, the loss between x[i] and t[i], for i < size."""
    x, t, y, parameter = a.x, a.t, a.y, scalar(a.x, a.parameter)
    for i in range(item * PIECE, min((item + 1) * PIECE, a.size)):
        y[i] = evaluated(a.formula, (x[i], t[i], parameter))


# The formulas are literal, and their sum is not: it may be taken in any order, always the same one.
@njit(fastmath={"reassoc", "nsz"}, **INLINED_OPTIONS)
def _sum_of(values, count):
    total = scalar(values, 0.0)
    for i in range(count):
        total += values[i]
    return total


@literal_kernel(
    x="array", t="array", parts="array", losses="array", size="int", factor="float", parameter="float", formula="type"
)
def loss_sum_kernel(a, item, worker):
    """``parts[item]``, the sum of the piece's losses times the factor. They are kept in ``losses``, each worker's own.

    Loops that sum do not write: otherwise the order of a sum would depend on how far apart the arrays lie.
    """
    losses, parameter = shift(a.losses, worker * BLOCK), scalar(a.x, a.parameter)
    last = min((item + 1) * PIECE, a.size)
    total = 0.0
    for first in range(item * PIECE, last, BLOCK):
        x, t, count = shift(a.x, first), shift(a.t, first), min(BLOCK, last - first)
        for i in range(count):
            losses[i] = evaluated(a.formula, (x[i], t[i], parameter))
        total += _sum_of(losses, count)
    a.parts[item] = scalar(a.x, total * a.factor)


@kernel(parts="array", total="array", count="int", factor="float")
def total_kernel(a, item, worker):
    """``total[0]``, the sum of ``count`` parts times the factor, in float64."""
    total = 0.0
    for part in range(a.count):
        total += a.parts[part]
    a.total[0] = scalar(a.parts, total * a.factor)


@literal_kernel(dy="array", x="array", t="array", dx="array", size="int", parameter="float", formula="type")
def loss_gradient_kernel(a, item, worker):
    """``dx[i]``, dy[i] times the derivative of the loss between x[i] and t[i] by one of them, for i < size."""
    dy, x, t, dx, parameter = a.dy, a.x, a.t, a.dx, scalar(a.x, a.parameter)
    for i in range(item * PIECE, min((item + 1) * PIECE, a.size)):
        dx[i] = evaluated(a.formula, (dy[i], x[i], t[i], parameter))


@literal_kernel(
    dy="array", x="array", t="array", dx="array", size="int", factor="float", parameter="float", formula="type"
)
def loss_sum_gradient_kernel(a, item, worker):
    """The same for the gradient ``dy[0]`` of the sum of all losses times the factor."""
    x, t, dx, parameter = a.x, a.t, a.dx, scalar(a.x, a.parameter)
    g = scalar(a.x, a.dy[0] * a.factor)
    for i in range(item * PIECE, min((item + 1) * PIECE, a.size)):
        dx[i] = evaluated(a.formula, (g, x[i], t[i], parameter))


def _pieces(p: LossProblem) -> int:
    return -(-p.size // PIECE)


class Loss:
    """``y`` from ``x`` and ``t``: one loss for each element."""

    workspace_bytes = 0

    def __init__(self, p: LossProblem):
        of = loss_kernel.compiled_for(formula=LossFormula(p.name))
        self.run = Task(of, p.dtype, _pieces(p), "x t y parameter", parallel=p.size > SMALL_WORK, size=p.size).run


class LossSum:
    """``total``, the sum of the losses times a factor, from ``x`` and ``t``; see :func:`loss_sum_kernel`.

    Pieces are as large whatever the number of threads, and so is what is added up first.
    """

    def __init__(self, p: LossProblem):
        pieces = max(_pieces(p), 1)  # the sum of nothing is written, too
        self._one, self._parallel = pieces == 1, p.size > SMALL_WORK
        self._losses_at = aligned_bytes(0 if self._one else pieces, p.dtype)
        workers = most_threads() if self._parallel else 1
        self.workspace_bytes = self._losses_at + aligned_bytes(workers * BLOCK, p.dtype)
        self._pieces = Task(
            loss_sum_kernel.compiled_for(formula=LossFormula(p.name)), p.dtype, pieces,
            "x t parts losses factor parameter", parallel=self._parallel, size=p.size,
        )  # fmt: skip
        self._total = Task(total_kernel, p.dtype, 1, "parts total factor", parallel=False, count=pieces)

    def run(self, x: int, t: int, total: int, factor: float, parameter: float) -> None:
        """Addresses, the factor of the sum and the loss's parameter."""
        parts = workspace(self.workspace_bytes)
        if self._one:
            self._pieces.run(x, t, total, parts, factor, parameter)
        else:
            self._pieces.run(x, t, parts, parts + self._losses_at, 1.0, parameter)
            self._total.run(parts, total, factor)


class LossGradient:
    """``dx`` from ``dy``, ``x`` and ``t``, for one of these two; where losses are summed, ``dy`` is of the sum."""

    workspace_bytes = 0

    def __init__(self, p: LossProblem):
        of, given = (
            (loss_sum_gradient_kernel, "dy x t dx factor parameter")
            if p.summed
            else (loss_gradient_kernel, "dy x t dx parameter")
        )
        of = of.compiled_for(formula=LossFormula(p.name, p.operand))
        self.run = Task(of, p.dtype, _pieces(p), given, parallel=p.size > SMALL_WORK, size=p.size).run
