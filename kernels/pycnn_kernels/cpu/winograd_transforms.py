"""The transforms of Winograd's convolution F(m, r), for every m and r that its points allow.

F(m, r) computes m neighbouring results of a kernel of r taps from n = m + r - 1 elements of the source, with n
multiplications instead of m * r: ``A^T [(G g) * (B^T d)]``, where ``*`` multiplies element by element. It evaluates
polynomials at n points, one of them infinity, multiplies the values, and interpolates (Winograd, "Arithmetic
Complexity of Computations", 1980; Toom and Cook before him). The points here are 0, pairs +p and -p, and infinity, so
n is even. In two dimensions the transforms are applied to columns, then to rows (Lavin and Gray, "Fast Algorithms for
Convolutional Neural Networks", 2015).

B depends on the points alone; G, which evaluates, and A, which interpolates, also on the number of their elements. So
F(r, m), the weight gradient of a layer whose forward is F(m, r), has the same patches, evaluates m elements of dy in
the place of r taps, and interpolates r. The three transforms are written for lists of any numbers: of vectors in a
kernel, of fractions in the tests, which show that they are exact. A pair of points shares the even and the odd part of
its rows: with fused multiply-adds, 12 operations for a patch of F(4, 3) and 10 for its results.

The pairs are those with which rounding grows least (Barabasz et al., "Error Analysis and Improving the Accuracy of
Winograd Convolution for Deep Neural Networks", 2018): 1, then 2, then 1/2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

from numba.core import types
from numba.extending import intrinsic, models, register_model

from pycnn_kernels.cpu.tile import TileShape, TileType, number_of, table_on_stack, transform_both_ways

#: The pairs +p and -p among the points, for each number of points; a single one is no transform.
PAIRS = {1: (), 4: (Fraction(1),), 6: (Fraction(1), Fraction(2)), 8: (Fraction(1), Fraction(2), Fraction(1, 2))}


class Axis(NamedTuple):
    """F(results, taps) along one axis."""

    results: int
    taps: int

    @property
    def points(self) -> int:
        return self.results + self.taps - 1


class Scheme(NamedTuple):
    """A Winograd scheme for tiles of rows x columns. An axis without taps to sum is F(1, 1)."""

    rows: Axis
    columns: Axis

    @property
    def points(self) -> int:
        return self.rows.points * self.columns.points

    @property
    def results(self) -> int:
        return self.rows.results * self.columns.results

    @property
    def taps(self) -> int:
        return self.rows.taps * self.columns.taps


def weighted_sum(factors: list[Any], terms: list[Any]) -> Any:
    """``factors[0] * terms[0] + ...`` without multiplications by 0, 1 and -1."""
    weighted = [(factor, term) for factor, term in zip(factors, terms) if factor]
    weighted.sort(key=lambda pair: pair[0] != 1)  # a term that stands for itself begins the sum
    (factor, term), *rest = weighted
    total = term if factor == 1 else factor * term
    for factor, term in rest:
        if factor in (1, -1):
            total = total + term if factor == 1 else total - term
        else:
            total = total + factor * term
    return total


def even_polynomial(pairs: tuple[Fraction, ...]) -> list[Fraction]:
    """The coefficients of 1, x^2, x^4 ... in the product of ``x^2 - p^2`` over the pairs.

    >>> [int(c) for c in even_polynomial((Fraction(1), Fraction(2)))]
    [4, -5, 1]
    """
    coefficients = [Fraction(1)]
    for p in pairs:
        raised, lowered = [Fraction(0), *coefficients], [*coefficients, Fraction(0)]
        coefficients = [a - p * p * b for a, b in zip(raised, lowered)]
    return coefficients


def transform_patch(d: list[Any]) -> list[Any]:
    """``B^T d``: n elements of the source to n points. A row of B^T is the product of ``x - q`` over other points q.

    >>> [int(v) for v in transform_patch([0, 0, 1, 0, 0, 0])]
    [-5, -4, -4, -1, -1, 0]
    """
    pairs = PAIRS[len(d)]
    if len(d) == 1:
        return d
    even, odd = d[0::2], d[1::2]
    whole = even_polynomial(pairs)
    values = [weighted_sum(whole, even)]
    for p in pairs:
        others = even_polynomial(tuple(q for q in pairs if q != p))
        high, low = weighted_sum(others, even[1:]), weighted_sum(others, odd)
        values += [weighted_sum([1, p], [high, low]), weighted_sum([1, -p], [high, low])]
    return [*values, weighted_sum(whole, odd)]


def transform_taps(g: list[Any], points: int) -> list[Any]:
    """``G g``: the value of the polynomial g at each point, over the product of the distances to the other points."""
    pairs = PAIRS[points]
    if points == 1:
        return g
    values = [1 / even_polynomial(pairs)[0] * g[0]]
    for p in pairs:
        distances = 2 * p * p * math.prod(p * p - q * q for q in pairs if q != p)
        powers = [p**k / distances for k in range(len(g))]
        even, odd = weighted_sum(powers[0::2], g[0::2]), weighted_sum(powers[1::2], g[1::2])
        values += [even + odd, even - odd]
    return [*values, g[-1]]


def transform_products(m: list[Any], results: int) -> list[Any]:
    """``A^T m``: n products to the results: m[0], sums over the pairs of p^k times m, and at last that of infinity."""
    if len(m) == 1:
        return m
    pairs = PAIRS[len(m)]
    sums = [m[i] + m[i + 1] for i in range(1, len(m) - 1, 2)]
    differences = [m[i] - m[i + 1] for i in range(1, len(m) - 1, 2)]
    found = []
    for k in range(results):
        terms = sums if k % 2 == 0 else differences
        total = weighted_sum([p**k for p in pairs], terms)
        if k == 0:
            total = m[0] + total
        if k == results - 1:
            total = total + m[-1]
        found.append(total)
    return found


class SchemeType(types.Type):
    """A scheme that a kernel is compiled for: an argument without contents."""

    def __init__(self, scheme: Scheme):
        self.scheme = scheme
        (m, r), (m_columns, r_columns) = scheme
        super().__init__(f"F({m} x {m_columns}, {r} x {r_columns})")


@register_model(SchemeType)
class SchemeModel(models.OpaqueModel):
    pass


@intrinsic
def points_of(typing_context, scheme):
    """Points of a tile: elements of its patch, and of its transforms."""
    return number_of(scheme, scheme.scheme.points)


@intrinsic
def patch_rows(typing_context, scheme):
    """Rows of a patch."""
    return number_of(scheme, scheme.scheme.rows.points)


@intrinsic
def patch_columns(typing_context, scheme):
    """Columns of a patch."""
    return number_of(scheme, scheme.scheme.columns.points)


@intrinsic
def result_rows(typing_context, scheme):
    """Rows of a tile of results."""
    return number_of(scheme, scheme.scheme.rows.results)


@intrinsic
def result_columns(typing_context, scheme):
    """Columns of a tile of results."""
    return number_of(scheme, scheme.scheme.columns.results)


@intrinsic
def taps_of(typing_context, scheme):
    """Taps of the kernel in a plane."""
    return number_of(scheme, scheme.scheme.taps)


def _vectors(scheme, like, count: int):
    shape = TileShape(TileType(like.dtype, count, 1))
    return shape(scheme, like), lambda context, *_: context.get_dummy_value()


@intrinsic
def points_shape(typing_context, scheme, like):
    """The shape of a tile with one vector for each point."""
    return _vectors(scheme, like, scheme.scheme.points)


@intrinsic
def results_shape(typing_context, scheme, like):
    """The shape of a tile with one vector for each result."""
    return _vectors(scheme, like, scheme.scheme.results)


@intrinsic
def taps_shape(typing_context, scheme, like):
    """The shape of a tile with one vector for each tap."""
    return _vectors(scheme, like, scheme.scheme.taps)


@intrinsic
def patch_table(typing_context, scheme):
    """A table on the stack with an entry for each element of a patch."""
    return table_on_stack(scheme, scheme.scheme.points)


@intrinsic
def result_table(typing_context, scheme):
    """A table on the stack with an entry for each result of a tile."""
    return table_on_stack(scheme, scheme.scheme.results)


def _transform(scheme, tile, sizes: tuple[int, int], along: Callable[[list, Axis], list]):
    """The signature and code of a transform of a tile that holds a matrix of the given sizes."""
    rows, columns = scheme.scheme
    transforms = (lambda terms: along(terms, rows)), (lambda terms: along(terms, columns))
    result, generate = transform_both_ways(tile, sizes, *transforms)
    return result(scheme, tile), generate


@intrinsic
def tile_transform_patch(typing_context, scheme, tile):
    """``B^T d B`` of a patch of vectors."""
    rows, columns = scheme.scheme
    return _transform(scheme, tile, (rows.points, columns.points), lambda d, axis: transform_patch(d))


@intrinsic
def tile_transform_taps(typing_context, scheme, tile):
    """``G g G^T`` of the taps: a vector for each point."""
    rows, columns = scheme.scheme
    return _transform(scheme, tile, (rows.taps, columns.taps), lambda g, axis: transform_taps(g, axis.points))


@intrinsic
def tile_transform_products(typing_context, scheme, tile):
    """``A^T m A`` of the products at all points: a vector for each result."""
    rows, columns = scheme.scheme
    return _transform(scheme, tile, (rows.points, columns.points), lambda m, axis: transform_products(m, axis.results))


@intrinsic
def tile_transform_gradient(typing_context, scheme, tile):
    """The results' gradients in the place of taps: a vector for each point. The ``G`` of F(r, m)."""
    rows, columns = scheme.scheme
    return _transform(scheme, tile, (rows.results, columns.results), lambda e, axis: transform_taps(e, axis.points))


@intrinsic
def tile_transform_tap_gradient(typing_context, scheme, tile):
    """The products at all points to a vector for each tap. The ``A^T`` of F(r, m)."""
    rows, columns = scheme.scheme
    return _transform(scheme, tile, (rows.points, columns.points), lambda m, axis: transform_products(m, axis.taps))
