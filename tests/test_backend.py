"""The seam between places for arrays."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator

import numpy as np
import pytest

from pycnn import Tensor, backend, functional
from pycnn_kernels import algorithms
from pycnn_kernels.cuda import device
from pycnn_kernels.cuda.device import CudaError


@pytest.mark.parametrize("name", [None, "cpu", backend.get("cpu")])
def test_cpu(name: str | backend.Backend | None) -> None:
    found = backend.get(name)
    assert found is backend.get()
    assert found.name == "cpu"
    assert found.xp is np
    assert repr(found) == "Backend('cpu')"


def test_arrays_are_native_and_not_copied() -> None:
    a = np.ones(3)
    assert backend.get().asarray(a) is a
    assert backend.get().asarray(a.astype(">f8")).dtype.isnative


@pytest.mark.parametrize("name", ["gpu", "", "CPU", 1])
def test_unknown_backends(name: str) -> None:
    with pytest.raises(ValueError, match=f"backend must be 'cpu' or 'cuda'; received {name!r}"):
        backend.get(name)


@pytest.fixture(autouse=True)
def _no_cupy_is_known() -> Iterator[None]:
    """A session that has a GPU has found CuPy before."""
    device._cupy.cache_clear()
    yield
    device._cupy.cache_clear()


class _Runtime:
    """CUDA's runtime on a machine with so many GPUs, or without a driver."""

    class CUDARuntimeError(RuntimeError):
        pass

    def __init__(self, gpus: int | None) -> None:
        self.gpus = gpus

    def getDeviceCount(self) -> int:
        if self.gpus is None:
            raise self.CUDARuntimeError("cudaErrorInsufficientDriver")
        return self.gpus


def _with_cupy(monkeypatch: pytest.MonkeyPatch, gpus: int | None) -> None:
    cupy = types.SimpleNamespace(cuda=types.SimpleNamespace(runtime=_Runtime(gpus)))
    monkeypatch.setitem(sys.modules, "cupy", cupy)


def test_cuda_says_that_its_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    missing = r"needs the package cupy, which is not installed .*pip install 'pycnn\[cuda\]'"
    with pytest.raises(backend.BackendError, match=missing):
        Tensor([1.0], backend="cuda")
    with pytest.raises(backend.BackendError, match=missing):
        backend.set_backend("cuda")
    assert backend.get().name == "cpu"


X, W = np.ones((1, 2, 5, 5)), np.ones((3, 2, 2, 2))
CALLS = {
    "conv2d": lambda backend: functional.conv2d(X, W, backend=backend),
    "conv_transpose2d of tensors": lambda backend: functional.conv_transpose2d(Tensor(X), W[:2], backend=backend),
    "max_pool2d": lambda backend: functional.max_pool2d(X, 2, backend=backend),
    "max_pool2d by name": lambda backend: functional.max_pool2d(input=X, kernel_size=2, backend=backend),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_backend_for_a_call(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it is not, and what is missing, is said before anything is computed."""
    assert type(CALLS[name]("cpu")) is type(CALLS[name](None))
    with pytest.raises(ValueError, match="backend must be 'cpu' or 'cuda'; received 'cude'"):
        CALLS[name]("cude")
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(backend.BackendError, match="needs the package cupy, which is not installed"):
        CALLS[name]("cuda")
    assert backend.get().name == "cpu"


@pytest.mark.parametrize(
    ("gpus", "message"),
    [(None, "needs an NVIDIA GPU and its driver.*CUDA says: cudaErrorInsufficientDriver"), (0, "CUDA sees none")],
)
def test_cuda_says_that_driver_or_gpu_is_missing(
    monkeypatch: pytest.MonkeyPatch, gpus: int | None, message: str
) -> None:
    _with_cupy(monkeypatch, gpus)
    with pytest.raises(backend.BackendError, match=message):
        backend.get("cuda")


def test_compiler_of_cuda_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    algorithms._register_cuda.cache_clear()
    monkeypatch.setattr(algorithms.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CudaError, match="needs the package numba-cuda, which is not installed"):
        algorithms.algorithms_for("cuda", "softmax")


class _LikeTorchs:
    """A tensor whose package knows GPUs, and which is on the CPU or on one."""

    def __init__(self, values: np.ndarray, on_gpu: bool) -> None:
        self.values, self.on_gpu = values, on_gpu

    @property
    def __cuda_array_interface__(self) -> dict[str, object]:
        if not self.on_gpu:
            raise AttributeError("not on a GPU")
        return {}

    def __array__(self, dtype: object = None, copy: bool | None = None) -> np.ndarray:
        return self.values


def test_arrays_of_other_packages_say_where_they_are() -> None:
    values = np.array([-1.0, 2.0], np.float32)
    assert functional.relu(_LikeTorchs(values, False)).tolist() == [0, 2]
    assert backend.of(_LikeTorchs(values, False)).name == "cpu"
    assert backend.of(_LikeTorchs(values, True)).name == "cuda"


def test_a_default_ends_with_its_block() -> None:
    with backend.use_backend("cpu"):
        assert backend.get().name == "cpu"
    with pytest.raises(ValueError, match="backend must be"), backend.use_backend("tpu"):
        pass
    assert backend.get().name == "cpu"


def test_tensor_moves_nowhere_where_it_is() -> None:
    x = Tensor([1.0], requires_grad=True)
    assert x.to("cpu") is x
    assert x.backend is backend.get("cpu")
