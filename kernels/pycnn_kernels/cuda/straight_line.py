"""Code without loops, written by running a Python function: for what must stay in a thread's registers.

Registers have no addresses, so values that a loop would index lie in local memory, unless the compiler unrolls the loop.
Here the loop is unrolled before the compiler sees it. A function that computes with lists of numbers is run once on
symbols, and each operation that it does becomes a line of a device function, whose values are tuples.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from pycnn_kernels.cuda.compile import device_function


class Symbol:
    """A value of a program that is being written, in each of its lanes; arithmetic with it writes lines."""

    def __init__(self, program: _Program, name: str):
        self._program, self.name = program, name

    def __add__(self, other: Symbol) -> Symbol:
        return self._program.add("{} + {}", self, other)

    def __sub__(self, other: Symbol) -> Symbol:
        return self._program.add("{} - {}", self, other)

    def __rmul__(self, factor: Fraction | int) -> Symbol:
        if factor in (1, -1):
            return self if factor == 1 else self._program.add("-{}", self)
        return self._program.add(f"{self._program.constant(factor)} * {{}}", self)


class _Program:
    """Lines of source, each for all lanes, and the constants that they name."""

    def __init__(self, dtype: Any, lanes: int):
        self._dtype, self._lanes = dtype, range(lanes)
        self._count = 0
        self.lines: list[str] = []
        self.constants: dict[str, Any] = {}

    def constant(self, factor: Fraction | int) -> str:
        ratio = Fraction(factor)
        name = f"c{ratio.numerator}_{ratio.denominator}".replace("-", "minus")
        self.constants[name] = self._dtype(float(ratio))
        return name

    def symbol(self) -> Symbol:
        self._count += 1
        return Symbol(self, f"v{self._count}")

    def add(self, operation: str, *operands: Symbol) -> Symbol:
        result = self.symbol()
        for lane in self._lanes:
            right = operation.format(*(f"{operand.name}_{lane}" for operand in operands))
            self.lines.append(f"{result.name}_{lane} = {right}")
        return result

    def lanes_of(self, value: Symbol) -> str:
        """As a tuple."""
        return f"({' '.join(f'{value.name}_{lane},' for lane in self._lanes)})"


def straight_line(dtype: Any, count: int, lanes: int, function: Callable[[list[Any]], list[Any]]) -> Any:
    """A device function of a tuple of ``count`` tuples of ``lanes`` values: ``function`` of the tuples, lane by lane.

    ``function`` may add and subtract elements of its list, and multiply them by numbers from the left.
    """
    program = _Program(dtype, lanes)
    given = [program.symbol() for _ in range(count)]
    unpacked = [f"{program.lanes_of(value)} = values[{i}]" for i, value in enumerate(given)]
    results = " ".join(f"{program.lanes_of(value)}," for value in function(given))
    return _written("values", [*unpacked, *program.lines, f"return ({results})"], program.constants)


def got_each(rows: int, columns: int, get: Any) -> Any:
    """A device function ``run(a, at)``: the tuple of all ``get(a, at, i, j)``, row by row."""
    calls = "".join(f"get(a, at, {i}, {j}), " for i in range(rows) for j in range(columns))
    return _written("a, at", [f"return ({calls})"], {"get": get})


def put_each(rows: int, columns: int, put: Any) -> Any:
    """A device function ``run(a, at, values)``, which calls ``put(a, at, i, j, values[i * columns + j])`` for all."""
    calls = [f"put(a, at, {i}, {j}, values[{i * columns + j}])" for i in range(rows) for j in range(columns)]
    return _written("a, at, values", calls, {"put": put})


def _written(arguments: str, lines: list[str], names: dict[str, Any]) -> Any:
    namespace = {"__name__": __name__, **names}
    exec("\n    ".join([f"def run({arguments}):", *lines]), namespace)
    return device_function(namespace["run"])
