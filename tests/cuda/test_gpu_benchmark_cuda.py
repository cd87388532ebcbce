"""The GPU's benchmark prints its tables: on a simulated GPU, by a clock that stands still."""

from __future__ import annotations

from typing import Any

import pytest

from bench import gpu
from bench.bandwidth import BatchNorm, Pooling
from bench.shapes import Shape
from bench.tables import Options
from pycnn_kernels.cuda import device as device_module
from pycnn_kernels.cuda.device import CudaError
from tests.cuda.conftest import ON_A_GPU

pytestmark = pytest.mark.skipif(ON_A_GPU, reason="on a GPU the benchmark itself runs")


class _Timer:
    """Every side takes a millisecond, and runs once."""

    def medians(self, sides: dict[str, Any]) -> dict[str, float]:
        for side in sides.values():
            side()
        return dict.fromkeys(sides, 1e-3)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "BATCH", 1)
    monkeypatch.setattr(gpu, "POOLINGS", [Pooling("pool", "max", 1, 3, 4), Pooling("mean", "average", 1, 3, 4)])
    monkeypatch.setattr(gpu, "BATCH_NORMS", [BatchNorm("norm", 1, 3, 4)])
    monkeypatch.setattr(gpu, "SOFTMAX_ROWS", 2)


@pytest.mark.parametrize("device", [1], indirect=True, ids=["upwards"])
def test_tables(device: Any, small: None, capsys: pytest.CaptureFixture[str]) -> None:
    timer: Any = _Timer()
    gpu.layers("some layers", [Shape("a layer", 1, 3, 5, 4, 3)], timer, None, Options())
    gpu.gemm(timer, None, Options(), sizes=(8,))
    gpu.bandwidth(timer, Options())
    printed = capsys.readouterr().out
    assert printed.count("a layer") == 3
    assert "weight gradient" in printed
    assert "8         0.0" in printed
    assert "norm, gradient" in printed
    assert "100%" in printed


def test_without_a_gpu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def missing() -> Any:
        raise CudaError("backend 'cuda' needs an NVIDIA GPU")

    monkeypatch.setattr(device_module, "_current", missing)
    assert gpu.main([]) == 2
    assert capsys.readouterr().err == "bench.gpu: error: backend 'cuda' needs an NVIDIA GPU\n"
