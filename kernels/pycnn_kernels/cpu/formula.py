"""Formulas as LLVM's instructions, and the elementary functions that they need, made of plain arithmetic.

The compiler turns arithmetic without branches into vector instructions, where a call of the C library would be made
element by element. Kernels of formulas must be literal ones: reordered, sums that round to integers would not, and a
product of an infinity with what underflows would be no NaN. So an element has the same bits wherever it lies, too.

Sources: Muller, "Elementary Functions", 3rd edition (2016), chapter 11, for the reductions of arguments; for the
logarithm FreeBSD's msun, e_log.c and e_logf.c; for the error function Cody, "Rational Chebyshev Approximations for the
Error Function" (1969), and in float32 the rational function of Eigen, GenericPacketMath functions.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic, register_model

from pycnn_kernels.activations import formula_of
from pycnn_kernels.cpu.named import NameModel, NameType
from pycnn_kernels.formula import Formula, Operand, Target, Term, taken, where
from pycnn_kernels.losses import loss_formula

#: ln 2 in two parts, the first of so few bits that its product with an exponent is exact. The rest has more digits
#: than a float holds; they come from a longer one.
LN2_HIGH = math.floor(math.log(2) * 2**11) / 2**11
LN2_LOW = float(Fraction("0.693147180559945309417232121458") - Fraction(LN2_HIGH))

#: Of the exponential function, up to the order that float64 needs.
TAYLOR = tuple(1 / math.factorial(k) for k in range(15))

#: Polynomials, from the highest power on, for the dtypes of so many bits. With ``f = v / (2 + v)``, the logarithm of
#: 1 + v is ``2 f + f R(f^2)``, and these are R's.
_LOGARITHM = {
    32: (0.24279078841, 0.28498786688, 0.40000972152, 0.66666662693),
    64: (
        1.479819860511658591e-01, 1.531383769920937332e-01, 1.818357216161805012e-01, 2.222219843214978396e-01,
        2.857142874366239149e-01, 3.999999999940941908e-01, 6.666666666666735130e-01,
    ),
}  # fmt: skip

#: erf(x) = x P(x^2) / Q(x^2) in float32.
_ERF_P = (
    -2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05, -7.34990630326855e-04,
    -2.95459980854025e-03, -1.60960333262415e-02,
)  # fmt: skip
_ERF_Q = (
    -1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03, -1.42647390514189e-02,
)  # fmt: skip

#: In float64, likewise for |x| below 1/2, and beyond it erf(x) = 1 - exp(-x^2) C(x) / D(x).
_CODY_A = (
    1.85777706184603153e-1, 3.16112374387056560e00, 1.13864154151050156e02, 3.77485237685302021e02,
    3.20937758913846947e03,
)  # fmt: skip
_CODY_B = (1.0, 2.36012909523441209e01, 2.44024637934444173e02, 1.28261652607737228e03, 2.84423683343917062e03)
_CODY_C = (
    2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e00, 6.61191906371416295e01,
    2.98635138197400131e02, 8.81952221241769090e02, 1.71204761263407058e03, 2.05107837782607147e03,
    1.23033935479799725e03,
)  # fmt: skip
_CODY_D = (
    1.0, 1.57449261107098347e01, 1.17693950891312499e02, 5.37181101862009858e02, 1.62138957456669019e03,
    3.29079923573345963e03, 4.36261909014324716e03, 3.43936767414372164e03, 1.23033935480374942e03,
)  # fmt: skip


class Instructions(Target):
    """Adds instructions on single numbers of one dtype, float32 or float64, to a function of LLVM's."""

    def __init__(self, builder: Any, kind: Any) -> None:
        self._builder, self._kind = builder, kind
        single = isinstance(kind, ir.FloatType)
        self.bits, self._fraction_bits, self._bias = (32, 23, 127) if single else (64, 52, 1023)
        self._integer = ir.IntType(self.bits)

    def number(self, value: Operand) -> Term:
        return value if isinstance(value, Term) else Term(self, ir.Constant(self._kind, float(value)))

    def _codes(self, *values: Operand) -> list[Any]:
        return [self.number(value).code for value in values]

    def binary(self, operator: str, left: Operand, right: Operand) -> Term:
        build = {"+": "fadd", "-": "fsub", "*": "fmul", "/": "fdiv"}[operator]
        return Term(self, getattr(self._builder, build)(*self._codes(left, right)))

    def compare(self, operator: str, left: Operand, right: Operand) -> Term:
        return Term(self, self._builder.fcmp_ordered(operator, *self._codes(left, right)))

    def negative(self, x: Term) -> Term:
        return Term(self, self._builder.fneg(x.code))

    def absolute(self, x: Term) -> Term:
        return self._call("fabs", x)

    def with_sign(self, size: Term, x: Term) -> Term:
        return self._call("copysign", size, x)

    def where(self, condition: Term, x: Operand, y: Operand) -> Term:
        return Term(self, self._builder.select(condition.code, *self._codes(x, y)))

    def _call(self, name: str, *values: Operand) -> Term:
        function = ir.FunctionType(self._kind, [self._kind] * len(values))
        intrinsic = cgutils.get_or_insert_function(self._builder.module, function, f"llvm.{name}.f{self.bits}")
        return Term(self, self._builder.call(intrinsic, self._codes(*values)))

    def multiply_add(self, x: Operand, y: Operand, z: Operand) -> Term:
        """``x * y + z``, rounded once where the processor can."""
        return self._call("fmuladd", x, y, z)

    def polynomial(self, coefficients: tuple[float, ...], x: Term) -> Term:
        """By Horner's rule, the highest power first."""
        total = self.number(coefficients[0])
        for coefficient in coefficients[1:]:
            total = self.multiply_add(total, x, coefficient)
        return total

    def exp(self, x: Term) -> Term:
        """``2^n (1 + p)``; 2^n in two factors, for results that are subnormal or just not infinite."""
        exponent, p = self._reduced(x, *((-110.0, 89.0) if self.bits == 32 else (-760.0, 710.0)))
        builder = self._builder
        half = builder.ashr(exponent, ir.Constant(self._integer, 1))
        return (1 + p) * self._power_of_two(half) * self._power_of_two(builder.sub(exponent, half))

    def expm1(self, x: Term) -> Term:
        """``2^n p + (2^n - 1)``, as twice its half, which does not overflow too early."""
        exponent, p = self._reduced(x, *((-80.0, 89.0) if self.bits == 32 else (-700.0, 710.0)))
        half = self._power_of_two(self._builder.sub(exponent, ir.Constant(self._integer, 1)))
        return 2 * self.multiply_add(half, p, half - 0.5)

    def _reduced(self, x: Term, low: float, high: float) -> tuple[Any, Term]:
        """The integer n and ``p = e^r - 1`` of ``x = n ln 2 + r``, |r| <= ln 2 / 2, for x brought into the bounds.

        A sum with 1.5 * 2^23, or 2^52, has no bits behind the point: it is rounded to n, which stands in its last bits.
        """
        x = where(x < low, low, where(x > high, high, x))  # a NaN stays one
        large = self.number(1.5 * 2.0**self._fraction_bits)
        sum_ = self.multiply_add(x, 1 / math.log(2), large)
        n = sum_ - large
        r = self.multiply_add(n, -LN2_LOW, self.multiply_add(n, -LN2_HIGH, x))
        terms = TAYLOR[7:1:-1] if self.bits == 32 else TAYLOR[14:1:-1]
        builder = self._builder
        exponent = builder.sub(*(builder.bitcast(each.code, self._integer) for each in (sum_, large)))
        return exponent, self.multiply_add(r * r, self.polynomial(terms, r), r)

    def _power_of_two(self, exponent: Any) -> Term:
        """``2^exponent``, for an integer that a normal number can have as its exponent."""
        builder = self._builder
        biased = builder.add(exponent, ir.Constant(self._integer, self._bias))
        bits = builder.shl(biased, ir.Constant(self._integer, self._fraction_bits))
        return Term(self, builder.bitcast(bits, self._kind))

    def log1p(self, x: Term) -> Term:
        """With ``1 + x = 2 (1 + v)`` where it is above the root of 2, so that |v| stays below 0.42."""
        above = x > math.sqrt(2) - 1
        v = where(above, 0.5 * (x - 1), x)
        half_square, product = self._log_near_one(v)
        return where(above, math.log(2), 0) + (v - (half_square - product))

    def _log_near_one(self, v: Term) -> tuple[Term, Term]:
        """``v^2 / 2`` and what is to be added to ``v - v^2 / 2`` for the logarithm of 1 + v, |v| below 0.42."""
        half_square = 0.5 * v * v
        f = v / (2 + v)
        square = f * f
        return half_square, f * (half_square + square * self.polynomial(_LOGARITHM[self.bits], square))

    def log(self, x: Term) -> Term:
        """``n ln 2 + log(1 + v)`` for ``x = 2^n (1 + v)`` with 1 + v from the root of 1/2 to that of 2."""
        builder = self._builder
        tiny = x < 2.0 ** (1 - self._bias)  # subnormal numbers have no exponent of their own
        bits = builder.bitcast(where(tiny, x * 2.0**self._fraction_bits, x).code, self._integer)
        least = builder.bitcast(self.number(math.sqrt(0.5)).code, self._integer)
        fraction_bits = ir.Constant(self._integer, self._fraction_bits)
        exponent = builder.ashr(builder.sub(bits, least), fraction_bits)
        v = Term(self, builder.bitcast(builder.sub(bits, builder.shl(exponent, fraction_bits)), self._kind)) - 1
        # In its last bits a number of this size has an integer.
        large = self.number(1.5 * 2.0**self._fraction_bits)
        shifted = builder.add(builder.bitcast(large.code, self._integer), exponent)
        n = Term(self, builder.bitcast(shifted, self._kind)) - large - where(tiny, self._fraction_bits, 0)
        half_square, product = self._log_near_one(v)
        found = self.multiply_add(n, LN2_HIGH, v - (half_square - self.multiply_add(n, LN2_LOW, product)))
        none = where(x < 0, math.nan, x - math.inf)  # and a NaN stays one
        return where(x > 0, where(x < math.inf, found, x), none)

    def erf(self, x: Term) -> Term:
        if self.bits == 32:
            square = x * x
            near = x * self.polynomial(_ERF_P, square) / self.polynomial(_ERF_Q, square)
            # Rounded, it is 1 from 3.92 on; a little before, the quotient exceeds 1 by a rounding or two.
            above, below = where(near > 1, 1, near), where(near < -1, -1, near)
            return where(x > 0, where(x > 3.92, 1, above), where(x < -3.92, -1, below))
        size = abs(x)
        size = where(size > 6, 6, size)
        square = size * size
        near = x * self.polynomial(_CODY_A, square) / self.polynomial(_CODY_B, square)
        far = 1 - self.exp(-square) * self.polynomial(_CODY_C, size) / self.polynomial(_CODY_D, size)
        return where(size <= 0.5, near, self.with_sign(far, x))

    def sqrt(self, x: Term) -> Term:
        return self._call("sqrt", x)


class FormulaType(NameType):
    """The type that says which formula a kernel computes."""

    formula: Formula


class ActivationFormula(FormulaType):
    """An activation's derivative of order 0, 1 or 2."""

    def __init__(self, activation: str, derivative: int):
        self.formula = formula_of(activation, derivative)
        super().__init__(activation, derivative)


class LossFormula(FormulaType):
    """A loss, or its gradient for the operand of a number, 0 or 1."""

    def __init__(self, loss: str, operand: int | None = None):
        self.formula = loss_formula(loss, operand)
        super().__init__(loss, operand)


register_model(ActivationFormula)(NameModel)
register_model(LossFormula)(NameModel)


@intrinsic
def evaluated(typing_context, formula, numbers):
    """The formula of a :class:`FormulaType` of a tuple of numbers; those that it does not take are left out."""

    def generate(context, builder, signature, arguments):
        target = Instructions(builder, context.get_value_type(numbers.dtype))
        terms = [Term(target, builder.extract_value(arguments[1], i)) for i in range(taken(formula.formula))]
        return target.number(formula.formula(*terms)).code

    return numbers.dtype(formula, numbers), generate


@intrinsic
def exponential(typing_context, x):
    """``exp(x)`` in vectors; only for functions whose arithmetic is done as it is written."""

    def generate(context, builder, signature, arguments):
        target = Instructions(builder, context.get_value_type(x))
        return target.exp(Term(target, arguments[0])).code

    return x(x), generate
