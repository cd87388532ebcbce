"""Training steps of the documented networks on all cores: ``pytest bench/bench_step.py``."""

from __future__ import annotations

import pytest

from bench.networks import ENGINES, NETWORKS, Served, installed


@pytest.mark.parametrize("network", [name for name, network in NETWORKS.items() if network.batch > 1])
@pytest.mark.parametrize("engine", [name for name, engine in ENGINES.items() if engine.trains])
def bench_step(benchmark, engine: str, network: str) -> None:
    if not installed(engine):
        pytest.skip(f"{engine} is not installed")
    benchmark.group = network
    with Served(engine, network) as served:
        served.ask("step 3")
        benchmark(served.ask, "step 1")
