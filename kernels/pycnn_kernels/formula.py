"""Formulas that are written once and become code on every backend: terms, and what makes code of them.

A formula is a Python function of terms: ``def silu(x): return x * sigmoid(x)``. It is called once, when a kernel is
compiled, with terms that stand for what the kernel has in registers; every operation on them goes to their
:class:`Target`, which adds to the code. There are no branches: :func:`where` computes both sides and selects.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Operand = Any  # a term or a number
Formula = Callable[..., "Term"]


class Term:
    """A number that a kernel will have, or whether something holds: ``code`` is what the target knows it by."""

    def __init__(self, target: Target, code: Any) -> None:
        self.target, self.code = target, code

    def __add__(self, other: Operand) -> Term:
        return self.target.binary("+", self, other)

    def __radd__(self, other: Operand) -> Term:
        return self.target.binary("+", other, self)

    def __sub__(self, other: Operand) -> Term:
        return self.target.binary("-", self, other)

    def __rsub__(self, other: Operand) -> Term:
        return self.target.binary("-", other, self)

    def __mul__(self, other: Operand) -> Term:
        return self.target.binary("*", self, other)

    def __rmul__(self, other: Operand) -> Term:
        return self.target.binary("*", other, self)

    def __truediv__(self, other: Operand) -> Term:
        return self.target.binary("/", self, other)

    def __rtruediv__(self, other: Operand) -> Term:
        return self.target.binary("/", other, self)

    def __neg__(self) -> Term:
        return self.target.negative(self)

    def __abs__(self) -> Term:
        return self.target.absolute(self)

    # Comparisons with a NaN do not hold.

    def __lt__(self, other: Operand) -> Term:
        return self.target.compare("<", self, other)

    def __le__(self, other: Operand) -> Term:
        return self.target.compare("<=", self, other)

    def __gt__(self, other: Operand) -> Term:
        return self.target.compare(">", self, other)

    def __ge__(self, other: Operand) -> Term:
        return self.target.compare(">=", self, other)


class Target:
    """What makes code of the operations on terms; a backend's kernels are of one dtype each."""

    def number(self, value: Operand) -> Term:
        """A number, rounded to the kernel's dtype, as a term; a term as it is."""
        raise NotImplementedError

    def binary(self, operator: str, left: Operand, right: Operand) -> Term:
        """``left operator right``, for + - * and /."""
        raise NotImplementedError

    def compare(self, operator: str, left: Operand, right: Operand) -> Term:
        """Whether ``left operator right``, for < <= > and >=."""
        raise NotImplementedError

    def negative(self, x: Term) -> Term:
        raise NotImplementedError

    def absolute(self, x: Term) -> Term:
        raise NotImplementedError

    def with_sign(self, size: Term, x: Term) -> Term:
        raise NotImplementedError

    def where(self, condition: Term, x: Operand, y: Operand) -> Term:
        raise NotImplementedError

    def exp(self, x: Term) -> Term:
        raise NotImplementedError

    def expm1(self, x: Term) -> Term:
        raise NotImplementedError

    def log1p(self, x: Term) -> Term:
        """Of numbers from 0 to 1."""
        raise NotImplementedError

    def log(self, x: Term) -> Term:
        raise NotImplementedError

    def erf(self, x: Term) -> Term:
        raise NotImplementedError

    def sqrt(self, x: Term) -> Term:
        raise NotImplementedError


def where(condition: Term, x: Operand, y: Operand) -> Term:
    """``x`` where the condition holds, elsewhere ``y``; not even a NaN of the other one gets through."""
    return condition.target.where(condition, x, y)


def with_sign(size: Term, x: Term) -> Term:
    """``size`` with the sign of x, and be it that of a 0."""
    return size.target.with_sign(size, x)


def exp(x: Term) -> Term:
    return x.target.exp(x)


def expm1(x: Term) -> Term:
    """``exp(x) - 1``, without its cancellation."""
    return x.target.expm1(x)


def log1p(x: Term) -> Term:
    """``log(1 + x)`` for x from 0 to 1, without its cancellation."""
    return x.target.log1p(x)


def log(x: Term) -> Term:
    """The natural logarithm: -infinity of 0, NaN below."""
    return x.target.log(x)


def erf(x: Term) -> Term:
    """The error function, ``2 / sqrt(pi)`` times the integral of ``exp(-t^2)`` from 0 to x."""
    return x.target.erf(x)


def sqrt(x: Term) -> Term:
    """The square root, a NaN below 0."""
    return x.target.sqrt(x)


def taken(formula: Formula) -> int:
    """How many numbers a formula takes.

    >>> taken(lambda x, slope: x * slope)
    2
    """
    return formula.__code__.co_argcount
