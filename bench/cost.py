"""How far off expected times are: ``python -m bench.cost [words of a layer's name ...]``.

Measures every algorithm that can do a layer, in all three operations, against its model (``cpu/cost.py``), on one core.
The least of many runs counts, not the median: other programs on the machine only ever add to a time.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from typing import NamedTuple

import numpy as np

from bench.measure import pin_to_one_core
from bench.shapes import DOCUMENTED, FIRST_LAYERS, MOBILENET, RESNET50, VGG16, Shape
from pycnn.explanation import OPERATIONS
from pycnn_kernels.choice import able, choose
from pycnn_kernels.cpu.cost import gflops, milliseconds
from pycnn_kernels.cpu.launch import set_num_threads
from pycnn_kernels.plan import Plan

#: How long the algorithms of one layer and operation take turns.
SECONDS = 1.0


class Measured(NamedTuple):
    """Expected and least measured milliseconds of one algorithm, and whether "auto" takes it."""

    layer: str
    operation: str
    algorithm: str
    expected: float
    measured: float
    chosen: bool

    @property
    def ratio(self) -> float:
        return self.expected / self.measured


def measure(shape: Shape, what: str) -> list[Measured]:
    """All algorithms for one operation of a layer."""
    operation, p = OPERATIONS[what], shape.problem()._replace(bias=False)
    plans = [Plan("cpu", operation, p, candidate) for candidate in able(operation, p)]
    random = np.random.default_rng(0)
    inputs = [None if spec.optional else random.random(spec.shape, spec.dtype) for spec in plans[0].inputs]
    for plan in plans:
        plan.run(*inputs)
    least = [float("inf")] * len(plans)
    begin = time.perf_counter()
    while time.perf_counter() - begin < SECONDS:
        for place, plan in enumerate(plans):
            start = time.perf_counter()
            plan.run(*inputs)
            least[place] = min(least[place], time.perf_counter() - start)
    chosen = choose(operation, p).name
    return [
        Measured(shape.name, what, a.name, milliseconds(a.cost(p), p.dtype), seconds * 1e3, a.name == chosen)
        for a, seconds in zip((plan.algorithm for plan in plans), least)
        if a.cost is not None
    ]


def summary(name: str, found: list[Measured]) -> str:
    factors = np.exp(np.abs(np.log([m.ratio for m in found])))
    within = ", ".join(f"{100 * np.mean(factors <= factor):.0f}% within {factor}" for factor in (1.25, 1.5))
    return f"{name}: {len(found)} times, {within}, median factor {np.median(factors):.2f}, worst {factors.max():.2f}"


def main(words: list[str]) -> None:
    pin_to_one_core()
    set_num_threads(1)
    shapes = {s.problem(): s for s in (*DOCUMENTED, *FIRST_LAYERS, *VGG16, *RESNET50, *MOBILENET)}
    print(f"Expected on one core at {gflops('float32'):g} GFLOP/s, measured (least), and their ratio")
    found: list[Measured] = []
    regrets = []
    for shape in shapes.values():
        if all(word in shape.name for word in words):
            for what in OPERATIONS:
                here = measure(shape, what)
                found += here
                for m in here:
                    mark = "*" if m.chosen else " "
                    print(
                        f"{m.layer:40} {m.operation:15} {mark} {m.algorithm:12} "
                        f"{m.expected:8.3f} ms {m.measured:8.3f} ms {m.ratio:5.2f}",
                        flush=True,
                    )
                best, taken = min(here, key=lambda m: m.measured), next(m for m in here if m.chosen)
                if taken.measured > 1.05 * best.measured:
                    regrets.append((taken, best))
    groups: defaultdict[str, list[Measured]] = defaultdict(list)
    for m in found:
        groups[f"{m.algorithm}, {m.operation}"].append(m)
    for name, group in sorted(groups.items()):
        print(summary(name, group))
    print(summary("all", found))
    for taken, best in regrets:
        times = taken.measured / best.measured
        print(f"{taken.layer}, {taken.operation}: {taken.algorithm} took {times:.2f} times as long as {best.algorithm}")


if __name__ == "__main__":
    main(sys.argv[1:])
