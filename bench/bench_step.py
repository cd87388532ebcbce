"""A training step of the CIFAR-10 network at batch 50 on all cores: ``pytest bench/bench_step.py``."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from bench import peers

ENGINES: dict[str, Callable] = {
    "pycnn": peers.pycnn_step,
    "Keras 3 on TensorFlow": peers.keras_tensorflow_step,
    "PyTorch channels last": peers.torch_step,
}


@pytest.mark.parametrize("engine", ENGINES)
def bench_step(benchmark, engine: str) -> None:
    peers.set_threads(len(os.sched_getaffinity(0)))
    side = ENGINES[engine](*peers.cifar_batch())
    if side is None:
        pytest.skip(f"{engine} is not installed")
    benchmark.group = "CIFAR-10 network, batch 50"
    benchmark(side)
