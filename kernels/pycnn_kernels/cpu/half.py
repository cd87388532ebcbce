"""float16 and bfloat16 as bits: vectors of them from and to vectors of float32, in LLVM's instructions.

float16 is IEEE 754-2019's binary16: a sign, 5 bits of exponent, 10 of the fraction. bfloat16 is the upper half of a
float32: a sign, 8 bits of exponent, 7 of the fraction. Widening is exact. Narrowing rounds to nearest, ties to even:
what is too large becomes infinity, what is small becomes subnormal or 0 of its sign, NaN stays NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

SHORT, INT32 = ir.IntType(16), ir.IntType(32)

#: The bits of float32: its sign, infinity (all bits of the exponent), and by how much exponents are shifted.
SIGN, INFINITY, FRACTION = 1 << 31, 255 << 23, 23
#: What float16's exponents lack to float32's: their biases are 15 and 127. And the fraction's bits that it lacks.
BIAS, LOST = 127 - 15, 23 - 10

Convert = Callable[[Any, Any, Any], Any]


def has_float16(context: Any) -> bool:
    """Whether the processor that Numba compiles for converts float16: x86 with F16C, every 64-bit ARM.

    Elsewhere LLVM would call functions of a C runtime that is not there.
    """
    triple, _, features = context.codegen().magic_tuple()
    return "+f16c" in features.split(",") or triple.startswith(("aarch64", "arm64"))


def _constant(value: int, lanes: int) -> ir.Constant:
    return ir.Constant(ir.VectorType(INT32, lanes), [value] * lanes)


def widen_float16(context: Any, builder: Any, stored: Any) -> Any:
    """<n x float> from the bits of float16, <n x i16>."""
    n = stored.type.count
    if has_float16(context):
        return builder.fpext(builder.bitcast(stored, ir.VectorType(ir.HalfType(), n)), _floats(n))
    return widen_float16_by_integers(builder, stored)


def narrow_float16(context: Any, builder: Any, values: Any) -> Any:
    """The bits of float16, <n x i16>, from <n x float>."""
    n = values.type.count
    if has_float16(context):
        return builder.bitcast(builder.fptrunc(values, ir.VectorType(ir.HalfType(), n)), ir.VectorType(SHORT, n))
    return narrow_float16_by_integers(builder, values)


def widen_float16_by_integers(builder: Any, stored: Any) -> Any:
    """As :func:`widen_float16`, on any processor.

    The exponent is moved to its place and given the bias of float32. Source of this and of the way back: Fabian
    Giesen, "Half-to-float done quickly" (2012), https://fgiesen.wordpress.com/2012/03/28/half-to-float-done-quic/
    """
    n = stored.type.count
    integers, floats = ir.VectorType(INT32, n), _floats(n)
    bits = builder.zext(stored, integers)
    magnitude = builder.shl(builder.and_(bits, _constant(0x7FFF, n)), _constant(LOST, n))
    exponent = builder.and_(magnitude, _constant(31 << FRACTION, n))
    normal = builder.add(magnitude, _constant(BIAS << FRACTION, n))
    # Infinity and NaN have the greatest exponent in both: 31 becomes 255.
    special = builder.add(normal, _constant((255 - 31 - BIAS) << FRACTION, n))
    # A subnormal f * 2^-24 is the fraction of (2^-14 + f * 2^-24); without its leading 1 the difference is exact.
    smallest = _constant((BIAS + 1) << FRACTION, n)
    with_one = builder.bitcast(builder.add(normal, _constant(1 << FRACTION, n)), floats)
    subnormal = builder.bitcast(builder.fsub(with_one, builder.bitcast(smallest, floats)), integers)
    found = builder.select(
        builder.icmp_unsigned("==", exponent, _constant(0, n)),
        subnormal,
        builder.select(builder.icmp_unsigned("==", exponent, _constant(31 << FRACTION, n)), special, normal),
    )
    sign = builder.shl(builder.and_(bits, _constant(0x8000, n)), _constant(16, n))
    return builder.bitcast(builder.or_(found, sign), floats)


def narrow_float16_by_integers(builder: Any, values: Any) -> Any:
    """As :func:`narrow_float16`, on any processor."""
    n = values.type.count
    integers, floats = ir.VectorType(INT32, n), _floats(n)
    bits = builder.bitcast(values, integers)
    magnitude = builder.and_(bits, _constant(SIGN - 1, n))
    # A carry out of the fraction goes to the exponent, as it must; from the greatest one to infinity.
    rebiased = builder.sub(magnitude, _constant(BIAS << FRACTION, n))
    normal = _rounded_off(builder, rebiased, LOST)
    # The last bit of 0.5 is 2^-24, as that of float16's subnormals: the addition rounds.
    half = _constant(126 << FRACTION, n)
    shifted = builder.fadd(builder.bitcast(magnitude, floats), builder.bitcast(half, floats))
    subnormal = builder.sub(builder.bitcast(shifted, integers), half)
    special = builder.select(
        builder.icmp_unsigned(">", magnitude, _constant(INFINITY, n)), _constant(0x7E00, n), _constant(0x7C00, n)
    )
    found = builder.select(
        builder.icmp_unsigned("<", magnitude, _constant((BIAS + 1) << FRACTION, n)),
        subnormal,
        builder.select(builder.icmp_unsigned(">=", magnitude, _constant((BIAS + 31) << FRACTION, n)), special, normal),
    )
    sign = builder.lshr(builder.and_(bits, _constant(SIGN, n)), _constant(16, n))
    return builder.trunc(builder.or_(found, sign), ir.VectorType(SHORT, n))


def widen_bfloat16(context: Any, builder: Any, stored: Any) -> Any:
    """<n x float> from the bits of bfloat16, <n x i16>."""
    n = stored.type.count
    bits = builder.shl(builder.zext(stored, ir.VectorType(INT32, n)), _constant(16, n))
    return builder.bitcast(bits, _floats(n))


def narrow_bfloat16(context: Any, builder: Any, values: Any) -> Any:
    """The bits of bfloat16, <n x i16>, from <n x float>.

    By integers also where there is an instruction: x86's VCVTNEPS2BF16 takes subnormals for 0.
    """
    n = values.type.count
    bits = builder.bitcast(values, ir.VectorType(INT32, n))
    # Rounding might carry a NaN to infinity: it is cut off instead, and the first bit of its fraction set.
    quiet = builder.or_(builder.lshr(bits, _constant(16, n)), _constant(0x40, n))
    is_nan = builder.fcmp_unordered("uno", values, values)
    found = builder.select(is_nan, quiet, _rounded_off(builder, bits, 16))
    return builder.trunc(found, ir.VectorType(SHORT, n))


def _rounded_off(builder: Any, bits: Any, lost: int) -> Any:
    """``bits`` without the last ``lost`` of them, to nearest, ties to even."""
    n = bits.type.count
    odd = builder.and_(builder.lshr(bits, _constant(lost, n)), _constant(1, n))
    almost_half = _constant((1 << (lost - 1)) - 1, n)
    return builder.lshr(builder.add(builder.add(bits, almost_half), odd), _constant(lost, n))


def _floats(lanes: int) -> ir.VectorType:
    return ir.VectorType(ir.FloatType(), lanes)
