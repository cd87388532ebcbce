"""Correlation of one large image, one side an engine: ``pytest bench/bench_correlate2d.py``."""

from __future__ import annotations

import pytest

from bench.images import DTYPES, KERNELS, image_sides
from bench.peers import set_threads


@pytest.mark.parametrize("engine", ["pycnn", "SciPy"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", KERNELS)
def bench_correlate2d(benchmark, size: int, dtype: str, engine: str) -> None:
    set_threads(1)
    sides, flops = image_sides(size, dtype)
    if engine not in sides:
        pytest.skip(f"{engine} is not installed")
    benchmark.group = f"1024x1024, {dtype}, kernel {size}x{size}"
    benchmark.extra_info["GFLOP"] = flops / 1e9
    benchmark(sides[engine])
