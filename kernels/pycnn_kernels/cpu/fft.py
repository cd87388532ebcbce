"""Fourier transforms whose elements are whole vectors: a lane is a channel, and all lanes are transformed alike.

A transform of n elements is ``X[k] = sum over j of x[j] e^(2 pi i j k / n)``; the inverse has the opposite sign in the
exponent. Neither divides by n. Both come from the decimation in time of Cooley and Tukey, "An algorithm for the machine
calculation of complex Fourier series" (1965), down to single elements, with the butterflies of Linzer and Feig,
"Implementation of efficient FFT algorithms on fused multiply-add architectures" (1993): six fused operations each.
Written out in full, without loops, a transform needs no bit reversal: an order is only a matter of names.

The spectrum of n real elements is *half-complex*, n real numbers in the order of FFTW: the real parts of
``X[0] .. X[n / 2]``, then the imaginary parts of ``X[n / 2 - 1] .. X[1]``, so that those of X[k] are elements k and
n - k. The imaginary parts of X[0] and X[n / 2] are 0 and the other half of X is conjugate to this one.
"""

from __future__ import annotations

import math

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from pycnn_kernels.cpu.tile import Term, TileType


def multiply_add(factor, x, y):
    """``factor * x + y``, of vectors in one instruction."""
    if not isinstance(x, Term):
        return factor * x + y
    builder, vector = x.builder, x.value.type
    bits = 32 if vector.element == ir.FloatType() else 64
    # fmuladd, not fma: on a processor without fused multiply-add the latter becomes a library call.
    fma = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fmuladd.v{vector.count}f{bits}"
    )
    spread = ir.Constant(vector, [float(factor)] * vector.count)
    return Term(builder, builder.call(fma, [spread, x.value, y.value]))


def negative(x):
    """``-x``."""
    return Term(x.builder, x.builder.fneg(x.value)) if isinstance(x, Term) else -x


def turned(re, im, k, n):
    """``e^(2 pi i k / n) (re + i im) / cos(2 pi k / n)``, and the cosine, for k from 1 to n / 2 - 1 but n / 4."""
    cosine, tangent = math.cos(2 * math.pi * k / n), math.tan(2 * math.pi * k / n)
    return multiply_add(-tangent, im, re), multiply_add(tangent, re, im), cosine


def complex_transform(re, im):
    """The transform of n elements, n a power of 2; of (im, re), with its parts exchanged again, it is the inverse.

    >>> complex_transform([1, 2], [0, 5])
    ([3, -1], [5, -5])
    """
    n = len(re)
    if n == 1:
        return re, im
    (a_re, a_im), (b_re, b_im) = complex_transform(re[::2], im[::2]), complex_transform(re[1::2], im[1::2])
    sums, differences = [], []
    for k, (a, b) in enumerate(zip(zip(a_re, a_im), zip(b_re, b_im))):
        if k == 0:
            sums.append((a[0] + b[0], a[1] + b[1]))
            differences.append((a[0] - b[0], a[1] - b[1]))
        elif 4 * k == n:
            sums.append((a[0] - b[1], a[1] + b[0]))
            differences.append((a[0] + b[1], a[1] - b[0]))
        else:
            t_re, t_im, cosine = turned(*b, k, n)
            sums.append((multiply_add(cosine, t_re, a[0]), multiply_add(cosine, t_im, a[1])))
            differences.append((multiply_add(-cosine, t_re, a[0]), multiply_add(-cosine, t_im, a[1])))
    both = sums + differences
    return [part[0] for part in both], [part[1] for part in both]


def real_transform(x):
    """The half-complex spectrum of n real elements, n a power of 2.

    ``X[k] = a[k] + w b[k]`` of the spectra a and b of even and odd elements, and ``X[n / 2 - k]`` is the conjugate of
    ``a[k] - w b[k]``.

    >>> real_transform([1, 2, 3, 5])
    [11, -2, -3, -3]
    """
    n = len(x)
    if n == 1:
        return x
    half = n // 2
    a, b = real_transform(x[::2]), real_transform(x[1::2])
    found = [None] * n
    found[0], found[half] = a[0] + b[0], a[0] - b[0]
    if n >= 4:
        found[half // 2], found[n - half // 2] = a[half // 2], b[half // 2]
    for k in range(1, half // 2):
        t_re, t_im, cosine = turned(b[k], b[half - k], k, n)
        found[k], found[n - k] = multiply_add(cosine, t_re, a[k]), multiply_add(cosine, t_im, a[half - k])
        found[half - k] = multiply_add(-cosine, t_re, a[k])
        found[half + k] = multiply_add(cosine, t_im, negative(a[half - k]))
    return found


def real_inverse(spectrum):
    """n times the real elements whose half-complex spectrum this is.

    >>> real_inverse([11, -2, -3, -3])
    [4, 8, 12, 20]
    """
    n = len(spectrum)
    if n == 1:
        return spectrum
    half = n // 2
    a, b = [None] * half, [None] * half
    a[0], b[0] = spectrum[0] + spectrum[half], spectrum[0] - spectrum[half]
    if n >= 4:
        a[half // 2], b[half // 2] = 2 * spectrum[half // 2], 2 * spectrum[n - half // 2]
    for k in range(1, half // 2):
        a[k], a[half - k] = spectrum[k] + spectrum[half - k], spectrum[n - k] - spectrum[half + k]
        t_re, t_im, cosine = turned(spectrum[k] - spectrum[half - k], spectrum[n - k] + spectrum[half + k], -k, n)
        b[k], b[half - k] = cosine * t_re, cosine * t_im
    found = [None] * n
    found[::2], found[1::2] = real_inverse(a), real_inverse(b)
    return found


def _terms(builder, tile):
    """The rows of a tile of one vector a row."""
    return [Term(builder, builder.extract_value(tile, row)) for row in range(tile.type.count)]


def _tile(builder, tile: TileType, terms):
    value = tile.zeros()
    for row, term in enumerate(terms):
        value = builder.insert_value(value, term.value, row)
    return value


def _of_one_tile(tile: TileType, function):
    def generate(context, builder, signature, arguments):
        return _tile(builder, tile, function(_terms(builder, arguments[0])))

    return tile(tile), generate


@intrinsic
def tile_real_transform(typing_context, tile):
    """The half-complex spectrum of the rows of a tile."""
    return _of_one_tile(tile, real_transform)


@intrinsic
def tile_real_inverse(typing_context, tile):
    """The rows, times their number, of which a tile is the half-complex spectrum."""
    return _of_one_tile(tile, real_inverse)


@intrinsic
def tile_complex_transform(typing_context, re, im):
    """The transform of complex rows: its real and its imaginary parts. Of (im, re) it is the inverse, as (im, re)."""
    result = types.UniTuple(re, 2)

    def generate(context, builder, signature, arguments):
        parts = complex_transform(*(_terms(builder, argument) for argument in arguments))
        return context.make_tuple(builder, result, [_tile(builder, re, part) for part in parts])

    return result(re, im), generate


@intrinsic
def tile_complex_product(typing_context, a_re, a_im, b_re, b_im):
    """``a * b`` row by row and lane by lane: real and imaginary parts."""
    result = types.UniTuple(a_re, 2)

    def generate(context, builder, signature, arguments):
        rows = list(zip(*(_terms(builder, argument) for argument in arguments)))
        re = [_product(a, c) - _product(b, d) for a, b, c, d in rows]
        im = [_product(a, d) + _product(b, c) for a, b, c, d in rows]
        return context.make_tuple(builder, result, [_tile(builder, a_re, part) for part in (re, im)])

    return result(a_re, a_im, b_re, b_im), generate


@intrinsic
def tile_half_complex_product(typing_context, a, b):
    """The product of two half-complex spectra."""

    def generate(context, builder, signature, arguments):
        left, right = (_terms(builder, argument) for argument in arguments)
        n = len(left)
        found = [_product(x, y) for x, y in zip(left, right)]  # stays so at 0 and n / 2
        for k in range(1, n // 2):
            found[k] = _product(left[k], right[k]) - _product(left[n - k], right[n - k])
            found[n - k] = _product(left[k], right[n - k]) + _product(left[n - k], right[k])
        return _tile(builder, a, found)

    return a(a, b), generate


def _product(a: Term, b: Term) -> Term:
    return Term(a.builder, a.builder.fmul(a.value, b.value, flags=("contract",)))


@intrinsic
def tile_scale(typing_context, tile, factor):
    """A tile times a number."""

    def generate(context, builder, signature, arguments):
        number = context.cast(builder, arguments[1], signature.args[1], tile.dtype)
        undefined = ir.Constant(tile.vector, ir.Undefined)
        first = builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), tile.lanes), [0] * tile.lanes)
        spread = Term(builder, builder.shuffle_vector(first, undefined, zeros))
        return _tile(builder, tile, [_product(spread, term) for term in _terms(builder, arguments[0])])

    return tile(tile, factor), generate
