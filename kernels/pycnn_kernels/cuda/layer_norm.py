"""Layer normalisation, row by row, and its gradient.

A team of threads has a row: some lanes of a warp, which add up by exchanging registers, or for long rows a block. Each
thread reads all that it needs of a row at once, 16 bytes at a time, and keeps it: the loops over the row, which follow
each other, read the same addresses, and have as many steps as the compiler was told, so that it reads them once. Only
rows of more than 8192 columns (2048, where they are no multiple of four) are read anew by each loop, from the cache.

The gradients of weight and bias are sums over the columns, which ``channels.py`` has.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from numba import cuda
from numba.cuda import types

from pycnn_kernels.cuda.channels import VECTOR, WALK_FIELDS, Walk, block_sums, moving, sweep, total_kernel, walking
from pycnn_kernels.cuda.compile import device_function
from pycnn_kernels.cuda.device import current_device
from pycnn_kernels.cuda.launch import Kernel, Task, counted, kernel
from pycnn_kernels.cuda.ptx import shift
from pycnn_kernels.cuda.reduce import WARP, plus, team_reduction
from pycnn_kernels.problem import ChannelsProblem, RowsProblem

#: Steps of each thread along a row, of which the compiler keeps what they read; of more it makes a loop.
_MOST_STEPS = 4

#: Threads of a team: at most those of a block that can have 128 registers each.
_LEAST_TEAM, _MOST_TEAM = 4, 512

#: Threads of a block that has several teams.
_THREADS = 128


def rows_fit(p: RowsProblem) -> str | None:
    """None where 32 bits count rows and columns, otherwise a refusal. The elements together may be more."""
    return counted(max(p.rows, p.columns), "axes")


def along_rows(threads: int, team: int, vector: int, steps: int) -> tuple[Any, Any, Any]:
    """Device functions of a team's threads along its row.

    ``row_of(a)``: the row, its columns, the steps to take, and whether there is such a row; a team beyond the last one
    has no columns, and row 0. ``column_at(step)``: the first of ``vector`` columns, the row's or beyond.
    ``inside(column, columns)``: the same, or 0 beyond: what is read there is not used, but no thread takes a way of its
    own, so that the loads of all steps go out together.
    """
    teams = threads // team

    @device_function
    def row_of(a):
        row = types.int64(cuda.blockIdx.x) * teams + cuda.threadIdx.x // team
        count = types.int64(steps if steps > 0 else a.steps)
        if row < a.rows:
            return row, types.int64(a.columns), count, True
        return types.int64(0), types.int64(0), count, False

    @device_function
    def column_at(step):
        return (types.int64(step) * team + cuda.threadIdx.x % team) * vector

    @device_function
    def inside(column, columns):
        return column if column < columns else types.int64(0)

    return row_of, column_at, inside


@kernel(
    x="source", weight="source", bias="source", y="array", statistics="array", rows="long", columns="int", steps="int",
    eps="float",
)  # fmt: skip
def layer_norm_kernel(
    dtype: Any, threads: int, team: int, vector: int, steps: int, weighted: bool, biased: bool, centred: bool = True
) -> Any:
    """``y[r, c] = normal(x[r, c]) * weight[c] + bias[c]``, with or without each of the two.

    ``normal(x) = (x - mean) * rstd - rest``, where ``rstd = 1 / sqrt(variance + eps)`` and ``rest`` is what the mean
    has lost in its rounding, times rstd: the deviations of large numbers that lie close to each other are smaller than
    that rounding. ``statistics[r]`` = mean, rstd and rest. Deviations from a first mean tell both the variance and how
    far off that mean is: the corrected algorithm of two passes in Chan, Golub and LeVeque, "Algorithms for Computing
    the Sample Variance" (1983). Unless ``centred``, the mean is 0, and the variance the mean of squares.

    A team of threads has a row, see :func:`along_rows`; ``steps`` along it, or 0 if a field says how many. Bits repeat.
    """
    total = team_reduction(dtype, threads, team, plus, 0)
    row_of, column_at, inside = along_rows(threads, team, vector, steps)
    load, store = moving(vector)
    zero, one = dtype(0), dtype(1)

    def body(a):
        row, columns, count, there = row_of(a)
        x, y = shift(a.x, row * a.columns), shift(a.y, row * a.columns)
        values, scales = cuda.local.array(vector, dtype), cuda.local.array(vector, dtype)
        mine, square, mean, lost = zero, zero, zero, zero
        if centred:
            for step in range(count):
                column = column_at(step)
                load(values, 0, x, inside(column, columns))
                for i in range(vector):
                    mine += values[i] if column < columns else zero
            mean = total(mine) / dtype(a.columns)
            mine = zero
        for step in range(count):
            column = column_at(step)
            load(values, 0, x, inside(column, columns))
            for i in range(vector):
                apart = values[i] - mean if column < columns else zero
                mine += apart
                square += apart * apart
        if centred:
            lost = total(mine) / dtype(a.columns)
        variance = total(square) / dtype(a.columns) - lost * lost
        if variance < zero:  # by the rounding of a row of equal numbers
            variance = zero
        rstd = one / math.sqrt(variance + a.eps)
        exact = mean + lost
        rest = (lost - (exact - mean)) * rstd  # the difference in brackets has no error: lost is small beside the mean
        if there and cuda.threadIdx.x % team == 0:
            a.statistics[3 * row], a.statistics[3 * row + 1], a.statistics[3 * row + 2] = exact, rstd, rest
        for step in range(count):
            column = column_at(step)
            load(values, 0, x, inside(column, columns))
            for i in range(vector):
                values[i] = (values[i] - exact) * rstd - rest
            if weighted:
                load(scales, 0, a.weight, inside(column, columns))
                for i in range(vector):
                    values[i] *= scales[i]
            if biased:
                load(scales, 0, a.bias, inside(column, columns))
                for i in range(vector):
                    values[i] += scales[i]
            if column < columns:
                store(y, column, values, 0)

    return body


@kernel(
    dy="source", x="source", weight="source", statistics="source", dx="array", rows="long", columns="int", steps="int"
)
def layer_norm_gradient_kernel(
    dtype: Any, threads: int, team: int, vector: int, steps: int, weighted: bool, centred: bool = True
) -> Any:
    """The gradient of :func:`layer_norm_kernel` for x.

    With n = normal(x) and g = dy * weight, ``dx = rstd * (g - mean of g - n * mean of g * n)`` over each row. A team of
    threads has a row, see :func:`along_rows`; bits repeat. Unless ``centred``, the mean of g is left out.
    """
    total = team_reduction(dtype, threads, team, plus, 0)
    row_of, column_at, inside = along_rows(threads, team, vector, steps)
    load, store = moving(vector)
    zero = dtype(0)

    @device_function
    def read(a, x, dy, column, statistics, normal, g, scales):
        """Fills ``normal`` and ``g``."""
        mean, rstd, rest = statistics
        load(normal, 0, x, column)
        load(g, 0, dy, column)
        if weighted:
            load(scales, 0, a.weight, column)
        for i in range(vector):
            normal[i] = (normal[i] - mean) * rstd - rest
            if weighted:
                g[i] *= scales[i]

    def body(a):
        row, columns, count, _ = row_of(a)
        x, dy, dx = shift(a.x, row * a.columns), shift(a.dy, row * a.columns), shift(a.dx, row * a.columns)
        statistics = a.statistics[3 * row], a.statistics[3 * row + 1], a.statistics[3 * row + 2]
        normal, g = cuda.local.array(vector, dtype), cuda.local.array(vector, dtype)
        scales = cuda.local.array(vector, dtype)
        level, slope = zero, zero
        for step in range(count):
            column = column_at(step)
            read(a, x, dy, inside(column, columns), statistics, normal, g, scales)
            for i in range(vector):
                level += g[i] if column < columns else zero
                slope += g[i] * normal[i] if column < columns else zero
        level, slope = total(level) / dtype(a.columns) if centred else zero, total(slope) / dtype(a.columns)
        for step in range(count):
            column = column_at(step)
            read(a, x, dy, inside(column, columns), statistics, normal, g, scales)
            for i in range(vector):
                g[i] = statistics[1] * (g[i] - level - slope * normal[i])
            if column < columns:
                store(dx, column, g, 0)

    return body


@kernel(dy="source", x="source", statistics="source", parts="array", **WALK_FIELDS)
def layer_norm_sums_kernel(dtype: Any, threads: int, vector: int, planes: bool) -> Any:
    """``parts[0, p, c]`` and ``parts[1, p, c]``: the sums of ``dy * normal(x)`` and of dy over the rows of each part.

    Blocks and threads as a :class:`~pycnn_kernels.cuda.channels.Walk` has them, with the columns as its channels and
    the rows as its pixels; bits repeat.
    """
    walk, zero = walking(threads, vector, planes), dtype(0)
    onward = walk[1]
    load, _ = moving(vector)
    terms = 2 * vector

    def visit(places: int) -> Any:
        size, statistics_size = places * vector, places * 3

        @device_function
        def visited(a, place, numbers, sums):
            x, dy = cuda.local.array(size, dtype), cuda.local.array(size, dtype)
            statistics = cuda.local.array(statistics_size, dtype)
            for p in range(places):
                load(x, p * vector, a.x, place[1])
                load(dy, p * vector, a.dy, place[1])
                for i in range(3):
                    statistics[3 * p + i] = a.statistics[3 * place[0] + i]
                place = onward(a, place)
            for p in range(places):
                mean, rstd, rest = statistics[3 * p], statistics[3 * p + 1], statistics[3 * p + 2]
                for i in range(vector):
                    sums[i] += dy[p * vector + i] * ((x[p * vector + i] - mean) * rstd - rest)
                    sums[vector + i] += dy[p * vector + i]
            return place

        return visited

    swept = sweep(dtype, vector, walk, 2, visit)
    write = block_sums(dtype, threads, vector, planes, 2)

    def body(a):
        sums = cuda.local.array(terms, dtype)
        for i in range(terms):
            sums[i] = zero
        swept(a, 0, sums)
        write(a, sums)

    return body


class _Rows:
    """How rows are divided among teams, blocks and steps."""

    def __init__(self, p: RowsProblem):
        self._dtype, rows, columns = p
        vector = VECTOR if columns % VECTOR == 0 else 1
        vectors, team = -(-columns // vector), _LEAST_TEAM
        while team < min(vectors, WARP) or (team * _MOST_STEPS < vectors and team < _MOST_TEAM):
            team *= 2
        steps = -(-vectors // team)
        self._threads = team if team > WARP else _THREADS
        self._constants = {"team": team, "vector": vector, "steps": steps if steps <= _MOST_STEPS else 0}
        self._blocks = -(-rows * team // self._threads)
        self._fields = {"rows": rows, "columns": columns, "steps": steps}

    def task(self, of: Kernel, given: str, **constants: bool) -> Task:
        """A kernel over the rows, ready."""
        variant = of.variant(self._dtype, threads=self._threads, **self._constants, **constants)
        return Task(variant, self._blocks, given, **self._fields)


class LayerNorm:
    """``y`` and ``statistics`` from ``x``, ``weight`` and ``bias``; see :func:`layer_norm_kernel`."""

    workspace_bytes = 0

    def __init__(self, p: RowsProblem, centred: bool = True):
        self._rows, self._centred = _Rows(p), centred
        self._tasks = cache(self._task)

    def _task(self, weighted: bool, biased: bool) -> Task:
        given = "x weight bias y statistics eps"
        return self._rows.task(layer_norm_kernel, given, weighted=weighted, biased=biased, centred=self._centred)

    def run(self, x: int, weight: int, bias: int, y: int, statistics: int, eps: float) -> None:
        """Addresses; 0 for no weight or no bias."""
        self._tasks(weight != 0, bias != 0).run(x, weight, bias, y, statistics, eps)


class LayerNormGradient:
    """``dx, dweight, dbias`` from ``dy, x, weight`` and ``statistics``; see :func:`layer_norm_gradient_kernel`."""

    def __init__(self, p: RowsProblem, centred: bool = True):
        self._rows, self._centred = _Rows(p), centred
        self._walk = Walk(ChannelsProblem(p.dtype, p.rows, p.columns), summed=True, whole=True)
        self.workspace_bytes = self._walk.parts_bytes(2)
        self._sums = self._walk.task(layer_norm_sums_kernel, "dy x statistics parts")
        self._total = self._walk.merging(total_kernel, "parts total")
        self._tasks = cache(self._task)

    def _task(self, weighted: bool) -> Task:
        given = "dy x weight statistics dx"
        return self._rows.task(layer_norm_gradient_kernel, given, weighted=weighted, centred=self._centred)

    def run(self, dy: int, x: int, weight: int, statistics: int, dx: int, dweight: int, dbias: int) -> None:
        """Addresses; 0 for no weight, and for gradients that are not wanted."""
        if dx:
            self._tasks(weight != 0).run(dy, x, weight, statistics, dx)
        if dweight or dbias:
            parts = self._walk.parts(2)
            at = current_device().address(parts)
            self._sums.run(dy, x, statistics, at)
            for total, of_rows in ((dweight, at), (dbias, at + self._walk.parts_bytes(1))):
                if total:
                    self._total.run(of_rows, total)


class RmsNorm(LayerNorm):
    """The same with a mean of 0."""

    def __init__(self, p: RowsProblem):
        super().__init__(p, centred=False)


class RmsNormGradient(LayerNormGradient):
    """Its gradients."""

    def __init__(self, p: RowsProblem):
        super().__init__(p, centred=False)
