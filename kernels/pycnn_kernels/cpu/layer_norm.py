"""Layer normalisation, row by row, and its gradient: each row is read from memory once.

Root mean square normalisation is the same with a mean of 0 that nobody asks the row for.
"""

from __future__ import annotations

import math

from pycnn_kernels.cpu.elementwise import sum_parts
from pycnn_kernels.cpu.launch import Task, kernel
from pycnn_kernels.cpu.tile import scalar, shift
from pycnn_kernels.cpu.workspace import aligned_bytes, workspace
from pycnn_kernels.problem import RowsProblem

#: Elements whose sum is kept in the kernel's dtype, in whole vectors; the sums of such blocks are added in float64, so
#: that rows of any length are as accurate as short ones.
BLOCK = 1024


@kernel(
    x="array", weight="array", bias="array", y="array", statistics="array",
    weighted="int", biased="int", eps="float", centred="int", rows="int", columns="int", chunk="int",
)  # fmt: skip
def layer_norm_kernel(a, item, worker):
    """``y[r, c] = normal(x[r, c]) * weight[c] + bias[c]``, with or without each of the two. A piece: ``chunk`` rows.

    ``normal(x) = (x - mean) * rstd - rest``, where ``rstd = 1 / sqrt(variance + eps)`` and ``rest`` is what the mean
    has lost in its rounding, times rstd: the deviations of large numbers that lie close to each other are smaller than
    that rounding. ``statistics[r]`` = mean, rstd and rest. Deviations from a first mean tell both the variance and how
    far off that mean is: the corrected algorithm of two passes in Chan, Golub and LeVeque, "Algorithms for Computing
    the Sample Variance" (1983). Unless ``centred``, the mean is 0, and the variance the mean of squares.

    Loops that sum do not write: otherwise the order of a sum would depend on how far apart the arrays lie.
    """
    columns, weight, bias = a.columns, a.weight, a.bias
    weighted, biased = a.weighted, a.biased
    zero = scalar(a.x, 0.0)
    for row in range(item * a.chunk, min((item + 1) * a.chunk, a.rows)):
        x, y, statistics = shift(a.x, row * columns), shift(a.y, row * columns), shift(a.statistics, row * 3)
        total = 0.0
        if a.centred:
            for first in range(0, columns, BLOCK):
                part = zero
                for c in range(first, min(first + BLOCK, columns)):
                    part += x[c]
                total += part
        mean = scalar(a.x, total / columns)
        lost = squares = 0.0
        for first in range(0, columns, BLOCK):
            part, square = zero, zero
            for c in range(first, min(first + BLOCK, columns)):
                part += x[c] - mean
                square += (x[c] - mean) * (x[c] - mean)
            lost += part
            squares += square
        lost = lost / columns if a.centred else 0.0
        variance = squares / columns - lost * lost
        if variance < 0:  # by the rounding of a row of equal numbers
            variance = 0.0
        exact = mean + lost
        mean = scalar(a.x, exact)
        lost = exact - mean
        factor = 1 / math.sqrt(variance + a.eps)
        rstd, rest = scalar(a.x, factor), scalar(a.x, lost * factor)
        statistics[0], statistics[1], statistics[2] = mean, rstd, rest
        if weighted and biased:
            for c in range(columns):
                y[c] = ((x[c] - mean) * rstd - rest) * weight[c] + bias[c]
        else:
            for c in range(columns):
                y[c] = (x[c] - mean) * rstd - rest
            if weighted:
                for c in range(columns):
                    y[c] *= weight[c]
            if biased:
                for c in range(columns):
                    y[c] += bias[c]


@kernel(
    dy="array", x="array", weight="array", statistics="array", dx="array", weight_parts="array", bias_parts="array",
    weighted="int", centred="int", want_dx="int", want_weight="int", want_bias="int", rows="int", columns="int",
    chunk="int",
)  # fmt: skip
def layer_norm_gradient_kernel(a, item, worker):
    """The gradients of :func:`layer_norm_kernel`; ``chunk`` rows a piece.

    With n = normal(x) and g = dy * weight, ``dx = rstd * (g - mean of g - n * mean of g * n)`` over each row. The
    sums of dy * n and of dy over the rows of a piece are its parts of the gradients of weight and bias. Unless
    ``centred``, the mean of g is left out.
    """
    columns, weight = a.columns, a.weight
    weighted, want_dx, want_weight, want_bias = a.weighted, a.want_dx, a.want_weight, a.want_bias
    weight_parts, bias_parts = shift(a.weight_parts, item * columns), shift(a.bias_parts, item * columns)
    zero = scalar(a.x, 0.0)
    if want_weight:
        for c in range(columns):
            weight_parts[c] = 0
    if want_bias:
        for c in range(columns):
            bias_parts[c] = 0
    for row in range(item * a.chunk, min((item + 1) * a.chunk, a.rows)):
        x, dy, dx = shift(a.x, row * columns), shift(a.dy, row * columns), shift(a.dx, row * columns)
        statistics = shift(a.statistics, row * 3)
        mean, rstd, rest = statistics[0], statistics[1], statistics[2]
        if want_dx:
            total = along = 0.0
            for first in range(0, columns, BLOCK):
                part, product = zero, zero
                if weighted:
                    for c in range(first, min(first + BLOCK, columns)):
                        part += dy[c] * weight[c]
                        product += dy[c] * weight[c] * ((x[c] - mean) * rstd - rest)
                else:
                    for c in range(first, min(first + BLOCK, columns)):
                        part += dy[c]
                        product += dy[c] * ((x[c] - mean) * rstd - rest)
                total += part
                along += product
            offset, slope = scalar(a.x, total / columns if a.centred else 0.0), scalar(a.x, along / columns)
            if weighted:
                for c in range(columns):
                    dx[c] = rstd * (dy[c] * weight[c] - offset - slope * ((x[c] - mean) * rstd - rest))
            else:
                for c in range(columns):
                    dx[c] = rstd * (dy[c] - offset - slope * ((x[c] - mean) * rstd - rest))
        # Loops of their own: the compiler does not ask whether more arrays overlap than each of these has.
        if want_weight:
            for c in range(columns):
                weight_parts[c] += dy[c] * ((x[c] - mean) * rstd - rest)
        if want_bias:
            for c in range(columns):
                bias_parts[c] += dy[c]


def _parallel(p: RowsProblem) -> bool:
    return p.rows * p.columns > 1 << 12


class LayerNorm:
    """``y`` and ``statistics`` from ``x``, ``weight`` and ``bias``; see :func:`layer_norm_kernel`."""

    workspace_bytes = 0

    def __init__(self, p: RowsProblem, centred: bool = True):
        chunk = max(1, min(-(-p.rows // 16), 4096 // max(p.columns, 1)))
        self._rows = Task(
            layer_norm_kernel, p.dtype, -(-p.rows // chunk) if p.columns else 0,
            "x weight bias y statistics weighted biased eps",
            parallel=_parallel(p), centred=centred, rows=p.rows, columns=p.columns, chunk=chunk,
        )  # fmt: skip

    def run(self, x: int, weight: int, bias: int, y: int, statistics: int, eps: float) -> None:
        """Addresses; 0 for no weight or no bias."""
        self._rows.run(x, weight, bias, y, statistics, weight != 0, bias != 0, eps)


class LayerNormGradient:
    """``dx, dweight, dbias`` from ``dy, x, weight`` and ``statistics``; see :func:`layer_norm_gradient_kernel`."""

    def __init__(self, p: RowsProblem, centred: bool = True):
        # About 32 pieces, whatever the number of threads, so that the sums have the same bits for every number.
        chunk = max(-(-p.rows // 32), 1)
        items = -(-p.rows // chunk)
        self._bias_at = aligned_bytes(max(items, 1) * p.columns, p.dtype)
        self.workspace_bytes = 2 * self._bias_at
        self._rows = Task(
            layer_norm_gradient_kernel, p.dtype, items if p.columns else 0,
            "dy x weight statistics dx weight_parts bias_parts weighted want_dx want_weight want_bias",
            parallel=_parallel(p), centred=centred, rows=p.rows, columns=p.columns, chunk=chunk,
        )  # fmt: skip
        self._total = sum_parts(p.dtype, items, p.columns)

    def run(self, dy: int, x: int, weight: int, statistics: int, dx: int, dweight: int, dbias: int) -> None:
        """Addresses; 0 for no weight, and for gradients that are not wanted."""
        parts = workspace(self.workspace_bytes)
        bias_parts = parts + self._bias_at
        wanted = (dx != 0, dweight != 0, dbias != 0)
        self._rows.run(dy, x, weight, statistics, dx, parts, bias_parts, weight != 0, *wanted)
        for total, of_pieces in ((dweight, parts), (dbias, bias_parts)):
            if total:
                self._total.run(of_pieces, total)


class RmsNorm(LayerNorm):
    """The same with a mean of 0."""

    def __init__(self, p: RowsProblem):
        super().__init__(p, centred=False)


class RmsNormGradient(LayerNormGradient):
    """Its gradients."""

    def __init__(self, p: RowsProblem):
        super().__init__(p, centred=False)
