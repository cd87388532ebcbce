"""Formulas as device functions: a formula is written down as Python, one operation a line, and compiled as such."""

from __future__ import annotations

import math
from typing import Any

from pycnn_kernels.cuda.compile import device_function
from pycnn_kernels.formula import Formula, Operand, Target, Term, taken

Names = dict[str, Any]


class Source(Target):
    """Lines of Python; a term's code is the name of a variable, or of a constant of the kernel's dtype.

    Attributes:
        lines: what was written so far.
        constants: the constants by their names.
    """

    def __init__(self, dtype: Any) -> None:
        self._dtype = dtype
        self.lines: list[str] = []
        self.constants: Names = {}

    def number(self, value: Operand) -> Term:
        if isinstance(value, Term):
            return value
        name = f"c{len(self.constants)}"
        self.constants[name] = self._dtype(value)
        return Term(self, name)

    def line(self, code: str, *operands: Operand) -> Term:
        """A line that computes ``code``, its gaps filled with the names of the operands."""
        name = f"t{len(self.lines)}"
        self.lines.append(f"{name} = {code.format(*(self.number(each).code for each in operands))}")
        return Term(self, name)

    def function(self, names: list[str], end: list[str]) -> Any:
        """A device function of arguments of these names: the lines so far, and those at its end."""
        lines = [f"def evaluated({', '.join(names)}):", *self.lines, *end]
        namespace: Names = {"math": math} | self.constants
        exec("\n    ".join(lines), namespace)
        return device_function(namespace["evaluated"])

    def binary(self, operator: str, left: Operand, right: Operand) -> Term:
        return self.line(f"{{}} {operator} {{}}", left, right)

    def compare(self, operator: str, left: Operand, right: Operand) -> Term:
        return self.binary(operator, left, right)

    def negative(self, x: Term) -> Term:
        return self.line("-{}", x)

    def absolute(self, x: Term) -> Term:
        return self.line("math.fabs({})", x)

    def with_sign(self, size: Term, x: Term) -> Term:
        return self.line("math.copysign({}, {})", size, x)

    def where(self, condition: Term, x: Operand, y: Operand) -> Term:
        return self.line("{1} if {0} else {2}", condition, x, y)

    def exp(self, x: Term) -> Term:
        return self.line("math.exp({})", x)

    def expm1(self, x: Term) -> Term:
        return self.line("math.expm1({})", x)

    def log1p(self, x: Term) -> Term:
        return self.line("math.log1p({})", x)

    def log(self, x: Term) -> Term:
        return self.line("math.log({})", x)

    def erf(self, x: Term) -> Term:
        return self.line("math.erf({})", x)

    def sqrt(self, x: Term) -> Term:
        return self.line("math.sqrt({})", x)


def compiled_formula(formula: Formula, dtype: Any, numbers: int) -> Any:
    """A device function of so many numbers of a dtype: the formula of the first, as many as it takes."""
    source = Source(dtype)
    names = [f"x{i}" for i in range(numbers)]
    result = source.number(formula(*(Term(source, name) for name in names[: taken(formula)])))
    return source.function(names, [f"return {result.code}"])
