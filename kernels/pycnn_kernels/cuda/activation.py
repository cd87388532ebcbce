"""Activations and their gradients, element by element: four neighbouring elements a thread, 16 bytes of float32."""

from __future__ import annotations

from typing import Any

from numba import cuda
from numba.cuda import types

from pycnn_kernels.activations import MOST_PARAMETERS, formula_of, missing_parameters
from pycnn_kernels.cuda.channels import VECTOR, moving
from pycnn_kernels.cuda.formula import compiled_formula
from pycnn_kernels.cuda.launch import THREADS, Task, blocks_for, counted, kernel
from pycnn_kernels.problem import ActivationProblem


@kernel(x="source", y="array", size="int", p0="float", p1="float", p2="float")
def activation_kernel(dtype: Any, threads: int, name: str) -> Any:
    """``y[i] = f(x[i])`` for i < size, with the parameters p0 to p2; the last thread has what four do not divide."""
    evaluated = compiled_formula(formula_of(name, 0), dtype, 1 + MOST_PARAMETERS)
    load, store = moving(VECTOR)

    def body(a):
        first = (types.int64(cuda.blockIdx.x) * threads + cuda.threadIdx.x) * VECTOR
        if first + VECTOR <= a.size:
            values = cuda.local.array(VECTOR, dtype)
            load(values, 0, a.x, first)
            for i in range(VECTOR):
                values[i] = evaluated(values[i], a.p0, a.p1, a.p2)
            store(a.y, first, values, 0)
        else:
            for i in range(first, a.size):
                a.y[i] = evaluated(a.x[i], a.p0, a.p1, a.p2)

    return body


@kernel(dy="source", x="source", dx="array", size="int", p0="float", p1="float", p2="float")
def activation_gradient_kernel(dtype: Any, threads: int, name: str, derivative: int) -> Any:
    """``dx[i] = dy[i] f'(x[i])``, or with the second derivative, likewise."""
    evaluated = compiled_formula(formula_of(name, derivative), dtype, 2 + MOST_PARAMETERS)
    load, store = moving(VECTOR)

    def body(a):
        first = (types.int64(cuda.blockIdx.x) * threads + cuda.threadIdx.x) * VECTOR
        if first + VECTOR <= a.size:
            values, grads = cuda.local.array(VECTOR, dtype), cuda.local.array(VECTOR, dtype)
            load(values, 0, a.x, first)
            load(grads, 0, a.dy, first)
            for i in range(VECTOR):
                grads[i] = evaluated(grads[i], values[i], a.p0, a.p1, a.p2)
            store(a.dx, first, grads, 0)
        else:
            for i in range(first, a.size):
                a.dx[i] = evaluated(a.dy[i], a.x[i], a.p0, a.p1, a.p2)

    return body


def elements_fit(p: ActivationProblem) -> str | None:
    return counted(p.size)


class Activation:
    """``y`` from ``x``, or ``dx`` from ``dy`` and ``x``: what the problem's derivative says."""

    workspace_bytes = 0

    def __init__(self, p: ActivationProblem):
        if p.derivative:
            variant = activation_gradient_kernel.variant(p.dtype, name=p.name, derivative=p.derivative)
        else:
            variant = activation_kernel.variant(p.dtype, name=p.name)
        arrays = "dy x dx" if p.derivative else "x y"
        blocks = blocks_for(-(-p.size // VECTOR), THREADS)
        self._missing = missing_parameters(p.name)
        self._task = Task(variant, blocks, f"{arrays} p0 p1 p2", size=p.size)

    def run(self, *arguments: float) -> None:
        """Addresses, and then the activation's parameters."""
        self._task.run(*arguments, *self._missing)
