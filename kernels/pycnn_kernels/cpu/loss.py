"""Losses between numbers and targets, their sums and their gradients, in one pass over memory each."""

from __future__ import annotations

from numba import njit

from pycnn_kernels.cpu.formula import LossFormula, evaluated
from pycnn_kernels.cpu.inlined import INLINED_OPTIONS
from pycnn_kernels.cpu.launch import SMALL_WORK, Kernel, Task, kernel, literal_kernel, most_threads
from pycnn_kernels.cpu.tile import scalar, shift
from pycnn_kernels.cpu.workspace import aligned_bytes, workspace
from pycnn_kernels.problem import LossProblem

#: Elements of one piece of work: 64 KB of each array of float32.
PIECE = 1 << 14

#: Elements that are worked on at a time. Their losses are added up in whole vectors of the kernel's dtype; the sums of
#: such blocks are added in float64, so that those of large arrays are as accurate as those of small ones.
BLOCK = 1024


# The formulas are literal, and their sum is not: it may be taken in any order, always the same one.
@njit(fastmath={"reassoc", "nsz"}, **INLINED_OPTIONS)
def _sum_of(values, count):
    total = scalar(values, 0.0)
    for i in range(count):
        total += values[i]
    return total


@literal_kernel(
    x="array", t="array", parts="array", losses="array", factor="float", parameter="float", y="array", size="int",
    summed="int", formula="type",
)  # fmt: skip
def loss_kernel(a, item, worker):
    """``y[i]``, the loss between x[i] and t[i], for i < size; or ``parts[item]``, the sum of a piece times the factor.

    What is summed stands in ``losses``, each worker's own, first: in a loop that also writes, the order of a sum would
    depend on how far apart the arrays lie.
    """
    parameter, last = scalar(a.x, a.parameter), min((item + 1) * PIECE, a.size)
    total = 0.0
    for first in range(item * PIECE, last, BLOCK):
        x, t, count = shift(a.x, first), shift(a.t, first), min(BLOCK, last - first)
        y = shift(a.losses, worker * BLOCK) if a.summed else shift(a.y, first)
        for i in range(count):
            y[i] = evaluated(a.formula, (x[i], t[i], parameter))
        if a.summed:
            total += _sum_of(y, count)
    if a.summed:
        a.parts[item] = scalar(a.x, total * a.factor)


@kernel(parts="array", total="array", factor="float", count="int")
def total_kernel(a, item, worker):
    """``total[0]``, the sum of ``count`` parts times the factor, in float64."""
    total = 0.0
    for part in range(a.count):
        total += a.parts[part]
    a.total[0] = scalar(a.parts, total * a.factor)


@literal_kernel(
    dy="array", x="array", t="array", dx="array", grads="array", size="int", summed="int", factor="float",
    parameter="float", formula="type",
)  # fmt: skip
def loss_gradient_kernel(a, item, worker):
    """``dx[i]``, dy[i] times the derivative of the loss between x[i] and t[i] by one of them, for i < size.

    Where losses are ``summed``, ``dy[0]`` is the gradient of their sum times the factor; then a block of gradients
    stands in ``grads``, each worker's own.
    """
    parameter, last = scalar(a.x, a.parameter), min((item + 1) * PIECE, a.size)
    grads = shift(a.grads, worker * BLOCK)
    if a.summed:
        for i in range(BLOCK):
            grads[i] = scalar(a.x, a.dy[0] * a.factor)
    for first in range(item * PIECE, last, BLOCK):
        x, t, dx, count = shift(a.x, first), shift(a.t, first), shift(a.dx, first), min(BLOCK, last - first)
        dy = grads if a.summed else shift(a.dy, first)
        for i in range(count):
            dx[i] = evaluated(a.formula, (dy[i], x[i], t[i], parameter))


def _task(kernel: Kernel, p: LossProblem, given: str, items: int, **fields: int) -> Task:
    return Task(kernel, p.dtype, items, given, parallel=p.size > SMALL_WORK, size=p.size, **fields)


def _block_bytes(p: LossProblem) -> int:
    """A block for each worker that there may be."""
    return aligned_bytes((most_threads() if p.size > SMALL_WORK else 1) * BLOCK, p.dtype)


class Loss:
    """``y`` from ``x`` and ``t``: one loss for each element."""

    workspace_bytes = 0

    def __init__(self, p: LossProblem):
        of = loss_kernel.compiled_for(formula=LossFormula(p.name))
        self.run = _task(of, p, "x t y parameter", -(-p.size // PIECE), summed=0).run


class LossSum:
    """``total``, the sum of the losses times a factor, from ``x`` and ``t``.

    Pieces are as large whatever the number of threads, so that bits repeat.
    """

    def __init__(self, p: LossProblem):
        of = loss_kernel.compiled_for(formula=LossFormula(p.name))
        pieces = max(-(-p.size // PIECE), 1)  # the sum of nothing is written, too
        self._one, self._parts_at = pieces == 1, _block_bytes(p)
        self.workspace_bytes = self._parts_at + aligned_bytes(0 if self._one else pieces, p.dtype)
        self._pieces = _task(of, p, "x t parts losses factor parameter", pieces, summed=1)
        self._total = Task(total_kernel, p.dtype, 1, "parts total factor", parallel=False, count=pieces)

    def run(self, x: int, t: int, total: int, factor: float, parameter: float) -> None:
        """Addresses, the factor of the sum and the loss's parameter."""
        losses = workspace(self.workspace_bytes)
        if self._one:
            self._pieces.run(x, t, total, losses, factor, parameter)
        else:
            parts = losses + self._parts_at
            self._pieces.run(x, t, parts, losses, 1.0, parameter)
            self._total.run(parts, total, factor)


class LossGradient:
    """``dx`` from ``dy``, ``x`` and ``t``, for one of these two; where losses are summed, ``dy`` is of the sum."""

    def __init__(self, p: LossProblem):
        of = loss_gradient_kernel.compiled_for(formula=LossFormula(p.name, p.operand))
        given = "dy x t dx grads factor parameter" if p.summed else "dy x t dx parameter"
        self.workspace_bytes = _block_bytes(p) if p.summed else 0
        self._task = _task(of, p, given, -(-p.size // PIECE), summed=p.summed)

    def run(self, dy: int, x: int, t: int, dx: int, *scalars: float) -> None:
        """Addresses, for a sum its factor, and the loss's parameter."""
        grads = (workspace(self.workspace_bytes),) if self.workspace_bytes else ()
        self._task.run(dy, x, t, dx, *grads, *scalars)
