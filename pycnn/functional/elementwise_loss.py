"""Losses between each number and its target, on the engine's formulas, and the reductions of these."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pycnn.autograd import Function, is_grad_enabled
from pycnn.backend import plan_on
from pycnn.elementary import Broadcast, Multiply
from pycnn.functional.arguments import apply
from pycnn.functional.formulas import recorded
from pycnn.functional.loss_arguments import as_tensor, in_dtype, reduced
from pycnn.tensor import Tensor
from pycnn_kernels.losses import LOSSES
from pycnn_kernels.problem import DTYPE_NAMES, LossProblem

Grads = tuple[Tensor | None, ...]


class ElementwiseLoss(Function):
    """One of the engine's losses between x and t, of one shape and dtype; with a factor their sum times it."""

    uses_numpy = False

    def forward(
        self, x: np.ndarray, t: np.ndarray, *, name: str, parameter: float = 0.0, factor: float | None = None
    ) -> np.ndarray:
        self.name, self.parameter, self.factor = name, parameter, factor
        if factor is None:
            problem = LossProblem(DTYPE_NAMES[x.dtype], name, x.size)
            (y,) = plan_on(x, "loss", problem).run(x.reshape(-1), t.reshape(-1), scalars=(parameter,))
            return y.reshape(x.shape)
        problem = LossProblem(DTYPE_NAMES[x.dtype], name, x.size, summed=True)
        (total,) = plan_on(x, "loss_sum", problem).run(x.reshape(-1), t.reshape(-1), scalars=(factor, parameter))
        return total.reshape(())

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        compute = self._recorded if is_grad_enabled() else self._computed
        wanted = [needed and gradient is not None for needed, gradient in zip(self.needs, LOSSES[self.name].gradients)]
        return tuple(compute(dy, operand) if there else None for operand, there in enumerate(wanted))

    def _computed(self, dy: Tensor, operand: int) -> Tensor:
        x, t = (each.data for each in self.inputs)
        problem = LossProblem(DTYPE_NAMES[x.dtype], self.name, x.size, self.factor is not None, operand)
        scalars = (self.parameter,) if self.factor is None else (self.factor, self.parameter)
        (dx,) = plan_on(x, "loss_gradient", problem).run(
            *(each.reshape(-1) for each in (dy.data, x, t)), scalars=scalars
        )
        return Tensor._of(dx.reshape(x.shape))

    def _recorded(self, dy: Tensor, operand: int) -> Tensor:
        """The same of operations that have gradients themselves."""
        x, t = self.inputs
        if self.factor is not None:
            dy = Broadcast.apply(dy * self.factor, shape=x.shape)
        formula = LOSSES[self.name].gradients[operand]
        assert formula is not None
        return recorded(formula, dy, x, t, *([self.parameter] if LOSSES[self.name].parameter else []))


def loss_between(
    name: str, x: Any, t: Any, reduction: str, dtype: np.dtype, parameter: float = 0.0, weight: Any = None
) -> Any:
    """A loss of operands whose shapes broadcast, in the dtype of the result; tensors, or arrays if all of them are.

    Args:
        name: one of ``LOSSES``.
        x, t: of the dtype in which to compute.
        reduction: "mean", "sum" or "none"; or "batchmean", the sum over the size of the first axis of x.
        dtype: of the result.
        parameter: of the loss.
        weight: by how much each loss is multiplied, broadcasts to them.
    """
    batch = x.shape[0] if x.shape else 1
    if x.shape != t.shape:
        shape = np.broadcast_shapes(x.shape, t.shape)
        x, t = (each if each.shape == shape else apply(Broadcast, each, shape=shape) for each in (x, t))
    if reduction == "none" or weight is not None:
        losses = apply(ElementwiseLoss, x, t, name=name, parameter=parameter)
        if weight is not None:
            losses = apply(Multiply, losses, weight)
        return in_dtype(losses, dtype) if reduction == "none" else reduced(as_tensor(losses), reduction, dtype)
    count = x.size if reduction == "mean" else batch if reduction == "batchmean" else 1
    factor = 1 / count if count else math.nan
    return in_dtype(apply(ElementwiseLoss, x, t, name=name, parameter=parameter, factor=factor), dtype)
