"""The engine's formulas computed with tensors: for derivatives of gradients, which kernels do not record."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from pycnn.elementary import Select
from pycnn.tensor import Tensor
from pycnn_kernels.formula import Formula, Operand, Target, Term

_ARITHMETIC = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
_COMPARISONS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


class Recorded(Target):
    """Operations that autograd records; a term's code is a tensor, a number, or an array that says where it holds."""

    def __init__(self, dtype: np.dtype) -> None:
        self._dtype = dtype

    def number(self, value: Operand) -> Term:
        return value if isinstance(value, Term) else Term(self, value)

    def binary(self, operator: str, left: Operand, right: Operand) -> Term:
        return Term(self, _ARITHMETIC[operator](self.number(left).code, self.number(right).code))

    def compare(self, operator: str, left: Operand, right: Operand) -> Term:
        return Term(self, _COMPARISONS[operator](*(_values(self.number(each).code) for each in (left, right))))

    def negative(self, x: Term) -> Term:
        return Term(self, -x.code)

    def absolute(self, x: Term) -> Term:
        """With the slope of what stands where 0 counts as positive: at 0 it is 1."""
        return self.where(x < 0, -x, x)

    def where(self, condition: Term, x: Operand, y: Operand) -> Term:
        there = condition.code
        return Term(self, self._only(there, self.number(x).code) + self._only(~there, self.number(y).code))

    def _only(self, mask: Any, value: Any) -> Tensor:
        """A value where a mask is true, 0 elsewhere."""
        if isinstance(value, Tensor):
            return Select.apply(value, mask=mask)
        return Tensor._of(mask.astype(self._dtype) * self._dtype.type(value))

    def exp(self, x: Term) -> Term:
        return Term(self, x.code.exp())

    def log(self, x: Term) -> Term:
        return Term(self, x.code.log())


def _values(code: Any) -> Any:
    return code.data if isinstance(code, Tensor) else code


def recorded(formula: Formula, *operands: Any) -> Tensor:
    """A formula with all derivatives that its operations have.

    Args:
        formula: of the operands.
        operands: tensors of one shape and dtype, the first one among them, and numbers.

    >>> x = Tensor([1.0, -2.0], requires_grad=True)
    >>> recorded(lambda x, slope: x * x * slope, x, 3.0).sum().backward()
    >>> x.grad.numpy()
    array([  6., -12.], dtype=float32)
    """
    target = Recorded(operands[0].dtype)
    found: Tensor = formula(*(Term(target, operand) for operand in operands)).code
    return found
