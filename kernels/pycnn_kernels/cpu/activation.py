"""Activations and their gradients, element by element, in one pass over memory each."""

from __future__ import annotations

from pycnn_kernels.activations import missing_parameters
from pycnn_kernels.cpu.formula import ActivationFormula, evaluated
from pycnn_kernels.cpu.launch import Task, literal_kernel
from pycnn_kernels.cpu.tile import scalar
from pycnn_kernels.problem import ActivationProblem

#: Elements of one piece of work: 64 KB of each array of float32.
PIECE = 1 << 14

#: Elements from which on a second thread is worth waking.
_PARALLEL = 1 << 14


@literal_kernel(x="array", y="array", p0="float", p1="float", p2="float", size="int", formula="type")
def activation_kernel(a, item, worker):
    """``y[i] = f(x[i])`` for i < size, with the parameters p0 to p2."""
    x, y = a.x, a.y
    p0, p1, p2 = scalar(x, a.p0), scalar(x, a.p1), scalar(x, a.p2)
    for i in range(item * PIECE, min((item + 1) * PIECE, a.size)):
        y[i] = evaluated(a.formula, (x[i], p0, p1, p2))


@literal_kernel(dy="array", x="array", dx="array", size="int", p0="float", p1="float", p2="float", formula="type")
def activation_gradient_kernel(a, item, worker):
    """``dx[i] = dy[i] f'(x[i])``, or with the second derivative, for i < size."""
    dy, x, dx = a.dy, a.x, a.dx
    p0, p1, p2 = scalar(x, a.p0), scalar(x, a.p1), scalar(x, a.p2)
    for i in range(item * PIECE, min((item + 1) * PIECE, a.size)):
        dx[i] = evaluated(a.formula, (dy[i], x[i], p0, p1, p2))


class Activation:
    """``y`` from ``x``, or ``dx`` from ``dy`` and ``x``: what the problem's derivative says."""

    workspace_bytes = 0

    def __init__(self, p: ActivationProblem):
        kernel, arrays = (activation_gradient_kernel, "dy x dx") if p.derivative else (activation_kernel, "x y")
        self._missing = missing_parameters(p.name)
        self._task = Task(
            kernel.compiled_for(formula=ActivationFormula(p.name, p.derivative)), p.dtype, -(-p.size // PIECE),
            f"{arrays} p0 p1 p2", parallel=p.size > _PARALLEL, size=p.size,
        )  # fmt: skip

    def run(self, *arguments: float) -> None:
        """Addresses, and then the activation's parameters."""
        self._task.run(*arguments, *self._missing)
