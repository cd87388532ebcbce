"""Losses between numbers and targets: four neighbouring elements a thread, 16 bytes of float32.

Sums take two launches: blocks go over the array side by side and add up what their threads have, then the blocks' sums
are added, both in a fixed order: no atomics, the same bits in every run on the same kind of GPU.
"""

from __future__ import annotations

from typing import Any

from numba import cuda
from numba.cuda import types

from pycnn_kernels.cuda.channels import VECTOR, moving
from pycnn_kernels.cuda.device import current_device
from pycnn_kernels.cuda.formula import compiled_formula
from pycnn_kernels.cuda.launch import THREADS, Task, blocks_for, counted, kernel
from pycnn_kernels.cuda.parts import Parts
from pycnn_kernels.cuda.reduce import block_reduction, plus
from pycnn_kernels.losses import loss_formula
from pycnn_kernels.problem import LossProblem

#: Blocks of a sum for each multiprocessor.
_BLOCKS_EACH = 8


@kernel(x="source", t="source", y="array", size="int", parameter="float")
def loss_kernel(dtype: Any, threads: int, name: str) -> Any:
    """``y[i]``, the loss between x[i] and t[i], for i < size; the last thread has what four do not divide."""
    evaluated = compiled_formula(loss_formula(name), dtype, 3)
    load, store = moving(VECTOR)

    def body(a):
        first = (types.int64(cuda.blockIdx.x) * threads + cuda.threadIdx.x) * VECTOR
        if first + VECTOR <= a.size:
            values, targets = cuda.local.array(VECTOR, dtype), cuda.local.array(VECTOR, dtype)
            load(values, 0, a.x, first)
            load(targets, 0, a.t, first)
            for i in range(VECTOR):
                values[i] = evaluated(values[i], targets[i], a.parameter)
            store(a.y, first, values, 0)
        else:
            for i in range(first, a.size):
                a.y[i] = evaluated(a.x[i], a.t[i], a.parameter)

    return body


@kernel(x="source", t="source", parts="array", size="int", stride="long", factor="float", parameter="float")
def loss_sum_kernel(dtype: Any, threads: int, name: str) -> Any:
    """``parts[block]``, the sum of the losses of a block's threads times the factor.

    Each thread has the elements that lie ``stride`` apart, four of them together.
    """
    evaluated = compiled_formula(loss_formula(name), dtype, 3)
    load, _ = moving(VECTOR)
    total, zero = block_reduction(dtype, threads, plus, 0), dtype(0)

    def body(a):
        values, targets = cuda.local.array(VECTOR, dtype), cuda.local.array(VECTOR, dtype)
        mine = zero
        first = (types.int64(cuda.blockIdx.x) * threads + cuda.threadIdx.x) * VECTOR
        while first < a.size:  # a range would count its steps first, by a division of 64 bits
            if first + VECTOR <= a.size:
                load(values, 0, a.x, first)
                load(targets, 0, a.t, first)
                for i in range(VECTOR):
                    mine += evaluated(values[i], targets[i], a.parameter)
            else:
                for i in range(first, a.size):
                    mine += evaluated(a.x[i], a.t[i], a.parameter)
            first += a.stride
        mine = total(mine)
        if cuda.threadIdx.x == 0:
            a.parts[cuda.blockIdx.x] = mine * a.factor

    return body


@kernel(dy="source", x="source", t="source", dx="array", size="int", factor="float", parameter="float")
def loss_gradient_kernel(dtype: Any, threads: int, name: str, operand: int, summed: bool) -> Any:
    """``dx[i]``, dy[i] times the derivative of the loss between x[i] and t[i] by one of them, for i < size.

    Where losses are ``summed``, ``dy[0]`` is the gradient of their sum times the factor.
    """
    evaluated = compiled_formula(loss_formula(name, operand), dtype, 4)
    load, store = moving(VECTOR)

    def body(a):
        first = (types.int64(cuda.blockIdx.x) * threads + cuda.threadIdx.x) * VECTOR
        if first + VECTOR <= a.size:
            values, targets = cuda.local.array(VECTOR, dtype), cuda.local.array(VECTOR, dtype)
            grads = cuda.local.array(VECTOR, dtype)
            load(values, 0, a.x, first)
            load(targets, 0, a.t, first)
            if summed:
                for i in range(VECTOR):
                    grads[i] = a.dy[0] * a.factor
            else:
                load(grads, 0, a.dy, first)
            for i in range(VECTOR):
                grads[i] = evaluated(grads[i], values[i], targets[i], a.parameter)
            store(a.dx, first, grads, 0)
        else:
            for i in range(first, a.size):
                g = a.dy[0] * a.factor if summed else a.dy[i]
                a.dx[i] = evaluated(g, a.x[i], a.t[i], a.parameter)

    return body


def elements_fit(p: LossProblem) -> str | None:
    return counted(p.size)


def _blocks(p: LossProblem) -> int:
    return blocks_for(-(-p.size // VECTOR), THREADS)


class Loss:
    """``y`` from ``x`` and ``t``: one loss for each element."""

    workspace_bytes = 0

    def __init__(self, p: LossProblem):
        self.run = Task(loss_kernel.variant(p.dtype, name=p.name), _blocks(p), "x t y parameter", size=p.size).run


class LossSum:
    """``total``, the sum of the losses times a factor, from ``x`` and ``t``; see :func:`loss_sum_kernel`."""

    def __init__(self, p: LossProblem):
        blocks = max(min(_blocks(p), _BLOCKS_EACH * current_device().processors), 1)  # the sum of nothing, too
        self._parts = Parts(p.dtype, 1, blocks)
        self.workspace_bytes = self._parts.workspace_bytes
        self._blocks = Task(
            loss_sum_kernel.variant(p.dtype, name=p.name), blocks, "x t parts factor parameter",
            size=p.size, stride=blocks * THREADS * VECTOR,
        )  # fmt: skip

    def run(self, x: int, t: int, total: int, factor: float, parameter: float) -> None:
        """Addresses, the factor of the sum and the loss's parameter."""
        self._parts.run(lambda parts: self._blocks.run(x, t, parts, factor, parameter), total)


class LossGradient:
    """``dx`` from ``dy``, ``x`` and ``t``, for one of these two; where losses are summed, ``dy`` is of the sum."""

    workspace_bytes = 0

    def __init__(self, p: LossProblem):
        variant = loss_gradient_kernel.variant(p.dtype, name=p.name, operand=p.operand, summed=p.summed)
        given = "dy x t dx factor parameter" if p.summed else "dy x t dx parameter"
        self.run = Task(variant, _blocks(p), given, size=p.size).run
