"""The seam between places for arrays."""

from __future__ import annotations

import numpy as np
import pytest

from pycnn import Tensor, backend


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


def test_cuda_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend.importlib.util, "find_spec", lambda name: None)
    missing = "no CUDA kernels yet. Of its packages, cupy and numba_cuda are not installed either. Use backend='cpu'."
    with pytest.raises(backend.BackendError, match=missing):
        Tensor([1.0], backend="cuda")
    monkeypatch.setattr(backend.importlib.util, "find_spec", lambda name: object())
    with pytest.raises(backend.BackendError, match=r"no CUDA kernels yet\. Use backend='cpu'\."):
        backend.get("cuda")
