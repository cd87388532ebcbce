"""Convolution by shape and operation, one side an engine: ``pytest bench/bench_conv2d.py``.

pytest-benchmark groups the sides of a shape and an operation; ``python -m bench.report conv`` measures the same
with the sides taking turns.
"""

from __future__ import annotations

import pytest

from bench.measure import ceiling_side
from bench.peers import OPERATIONS, arrays, has, pycnn_sides, set_threads, torch_sides
from bench.shapes import DOCUMENTED, FIRST_LAYERS, Shape

ENGINES = ("pycnn", "torch channels first", "torch channels last")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("shape", DOCUMENTED + FIRST_LAYERS, ids=lambda shape: shape.name)
def bench_conv2d(benchmark, shape: Shape, operation: str, engine: str) -> None:
    if engine != "pycnn" and not has("torch"):
        pytest.skip("PyTorch is not installed")
    set_threads(1)
    data = arrays(shape)
    sides = pycnn_sides(shape, data) if engine == "pycnn" else torch_sides(shape, data, engine.endswith("last"))
    assert sides is not None
    benchmark.group = f"{shape.name}: {operation}"
    benchmark.extra_info["GFLOP"] = 2 * shape.problem().multiply_adds / 1e9
    benchmark(sides[operation])


def bench_ceiling(benchmark) -> None:
    run, flops = ceiling_side()
    benchmark.group = "ceiling: fused multiply-adds alone"
    benchmark.extra_info["GFLOP"] = flops / 1e9
    benchmark(run)
