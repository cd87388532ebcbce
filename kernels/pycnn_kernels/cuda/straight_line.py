"""Code without loops, written by running a Python function: for what must stay in a thread's registers.

Registers have no addresses, so values that a loop would index lie in local memory, unless the compiler unrolls the
loop. Here the loop is unrolled before the compiler sees it. A function that computes with lists of numbers is run once
on symbols, and each operation that it does becomes a line of a device function, whose values are tuples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any

import numpy as np

from pycnn_kernels.cuda.compile import device_function


class Symbol:
    """A value of a program that is being written; arithmetic with it writes lines."""

    def __init__(self, program: _Program, name: str):
        self._program, self.name = program, name

    def __add__(self, other: Symbol) -> Symbol:
        return self._program.line(f"{self.name} + {other.name}")

    def __sub__(self, other: Symbol) -> Symbol:
        return self._program.line(f"{self.name} - {other.name}")

    def __rmul__(self, factor: Fraction | int) -> Symbol:
        if factor in (1, -1):
            return self if factor == 1 else self._program.line(f"-{self.name}")
        return self._program.line(f"{self._program.constant(Fraction(factor))} * {self.name}")


class _Program:
    """Lines of source, and the constants that they name."""

    def __init__(self, dtype: Any):
        self._dtype = dtype
        self.lines: list[str] = []
        self.constants: dict[str, Any] = {}

    def constant(self, factor: Fraction) -> str:
        sign = "minus_" if factor < 0 else ""
        name = f"{sign}{abs(factor.numerator)}_by_{factor.denominator}"
        self.constants[f"c_{name}"] = self._dtype(float(factor))
        return f"c_{name}"

    def line(self, operation: str) -> Symbol:
        result = Symbol(self, f"v{len(self.lines)}")
        self.lines.append(f"{result.name} = {operation}")
        return result


def straight_line(dtype: Any, count: int, function: Callable[[list[Any]], list[Any]]) -> Any:
    """``function`` of a list of ``count`` numbers as a device function from tuple to tuple.

    It may add and subtract the elements of its list, and multiply them by numbers from the left.
    """
    program = _Program(dtype)
    results = function([program.line(f"values[{i}]") for i in range(count)])
    return _written(
        "values", [*program.lines, f"return {_tuple(result.name for result in results)}"], program.constants
    )


def both_ways(along: Any, rows: int, columns: int, results: int) -> Any:
    """A device function: ``along`` of the columns of a matrix, then of the rows of what that gives.

    Matrices are tuples, row by row; ``along`` makes ``results`` values of as many as a column or a row has.
    """
    lines = [
        f"column{j} = along({_tuple(f'matrix[{i * columns + j}]' for i in range(rows))})" for j in range(columns)
    ] + [
        f"row{i} = along({_tuple(f'column{j}[{i}]' for j in range(columns))})" for i in range(results)
    ]  # fmt: skip
    elements = _tuple(f"row{i}[{j}]" for i in range(results) for j in range(results))
    return _written("matrix", [*lines, f"return {elements}"], {"along": along})


def in_lanes(function: Any, count: int, results: int, lanes: int) -> Any:
    """A device function: ``function`` of each lane of ``count`` tuples of ``lanes`` values; ``results`` such tuples."""
    lines = [f"lane{k} = function({_tuple(f'values[{i}][{k}]' for i in range(count))})" for k in range(lanes)]
    tuples = _tuple(_tuple(f"lane{k}[{i}]" for k in range(lanes)) for i in range(results))
    return _written("values", [*lines, f"return {tuples}"], {"function": function})


def got_each(rows: int, columns: int, get: Any) -> Any:
    """A device function ``run(a, at)``: the tuple of all ``get(a, at, i, j)``, row by row."""
    calls = _tuple(f"get(a, at, i{i}, i{j})" for i in range(rows) for j in range(columns))
    return _written("a, at", [f"return {calls}"], {"get": get} | _indices(rows, columns))


def put_each(rows: int, columns: int, put: Any) -> Any:
    """A device function ``run(a, at, values)``, which calls ``put(a, at, i, j, values[i * columns + j])`` for all."""
    calls = [f"put(a, at, i{i}, i{j}, values[{i * columns + j}])" for i in range(rows) for j in range(columns)]
    return _written("a, at, values", calls, {"put": put} | _indices(rows, columns))


def _indices(rows: int, columns: int) -> dict[str, np.int32]:
    """Numbers by names: Numba would compile a function anew for each literal that it is called with."""
    return {f"i{i}": np.int32(i) for i in range(max(rows, columns))}


def _tuple(elements: Iterable[str]) -> str:
    return f"({' '.join(f'{element},' for element in elements)})"


def _written(arguments: str, lines: list[str], names: dict[str, Any]) -> Any:
    namespace = {"__name__": __name__, **names}
    exec("\n    ".join([f"def run({arguments}):", *lines]), namespace)
    return device_function(namespace["run"])
