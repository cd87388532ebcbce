"""backend="cuda" above the kernels: tensors, operations and training, on the GPU that the fixture gives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import pycnn
import pycnn.functional as F
from pycnn import Tensor, backend, optimizers


@pytest.fixture(autouse=True)
def _any_device(device: Any) -> Iterator[None]:
    yield
    backend.set_backend("cpu")


def _host(value: Any) -> np.ndarray:
    return value.detach().numpy() if isinstance(value, Tensor) else value.get()


def test_default_backend_takes_what_is_nowhere_yet(device: Any) -> None:
    with pycnn.use_backend("cuda"):
        x = Tensor([1.0, 2.0])
        assert x.backend.name == "cuda"
        assert device.is_array(x.data)
        assert device.is_array(F.relu(np.ones(3, np.float32)))
        assert Tensor([1.0], backend="cpu").backend.name == "cpu"
    assert Tensor([1.0]).backend.name == "cpu"
    assert x.backend.name == "cuda"


def test_arrays_of_the_gpu_stay_there(device: Any) -> None:
    x = device.xp.asarray(np.array([[1.0, 2.0]], np.float32))
    assert Tensor(x).data is x
    assert device.is_array(F.softmax(x, dim=1))
    np.testing.assert_allclose(_host(F.softmax(x, dim=1)), [[0.26894143, 0.7310586]], rtol=1e-6)


def test_tensors_move_and_gradients_come_back(device: Any) -> None:
    x = Tensor([1.0, 2.0, 3.0], requires_grad=True)
    there = x.to("cuda")
    assert there.backend.name == "cuda"
    (there * there).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [2, 4, 6])
    assert there.to("cuda") is there
    np.testing.assert_array_equal(there.to("cpu").detach().numpy(), [1, 2, 3])
    assert repr(Tensor([1.0], backend="cuda")) == "Tensor([1.], backend='cuda')"


def test_arrays_of_two_places_do_not_meet() -> None:
    x = Tensor(np.ones((2, 3), np.float32), backend="cuda")
    with pytest.raises(
        TypeError, match="weight must be on the backend of the input, 'cuda'; received an array on 'cpu'"
    ):
        F.linear(x, np.ones((4, 3), np.float32))


@pytest.mark.parametrize(
    "compute",
    [
        lambda x: (x * 2 + 1 - x / 3) ** 2,
        lambda x: (x.abs() + 1).log() * x.exp(),
        lambda x: x.clip(-0.5, 0.5).mean(axis=0),
        lambda x: x.transpose().reshape(-1)[1:5],
        lambda x: F.relu(x) + F.sigmoid(x) * F.tanh(x),
        lambda x: F.softmax(x, dim=0) - F.log_softmax(x, dim=1),
        lambda x: F.cross_entropy(x, np.array([0, 2, 1, -100]), label_smoothing=0.1),
        lambda x: F.cross_entropy(x, np.array([0, 2, 1, 1]), weight=x.data[0] * x.data[0], reduction="sum"),
        lambda x: F.binary_cross_entropy(F.sigmoid(x), F.sigmoid(x.detach() * 2)),
        lambda x: (x > 0).astype("float32") + x.sqrt().detach() * 0,
    ],
    ids=[
        "arithmetic",
        "exp and log",
        "clip",
        "views",
        "activations",
        "softmax",
        "labels",
        "weights",
        "binary",
        "masks",
    ],
)
def test_values_and_gradients_are_those_of_the_cpu(compute: Any) -> None:
    values = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    found = {}
    for name in ("cpu", "cuda"):
        x = Tensor(values, requires_grad=True, backend=name)
        y = compute(x)
        assert y.backend.name == name
        if y.requires_grad:
            y.sum().backward()
            assert x.grad.backend.name == name
        found[name] = _host(y), None if x.grad is None else _host(x.grad)
    for cpu, cuda in zip(found["cpu"], found["cuda"]):
        if cpu is not None:
            np.testing.assert_allclose(cuda, cpu, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("optimizer", [optimizers.SGD, lambda: optimizers.SGD(0.1, 0.9, True), optimizers.Adam])
def test_optimizers_step_as_on_the_cpu(optimizer: Any) -> None:
    found = []
    for name in ("cpu", "cuda"):
        w = Tensor(np.arange(5, dtype=np.float32), requires_grad=True, backend=name)
        steps = optimizer()
        for _ in range(3):
            (w * w).sum().backward()
            steps.apply([w])
        found.append(_host(w))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6)


def test_the_same_seed_drops_the_same_elements() -> None:
    found = []
    for name in ("cpu", "cuda"):
        pycnn.utils.set_random_seed(3)
        found.append(_host(F.dropout(Tensor(np.ones((4, 5), np.float32), backend=name), 0.4)))
    np.testing.assert_array_equal(*found)


def test_halves_are_refused() -> None:
    with pytest.raises(ValueError, match="backend 'cuda' computes in float32 and float64; received float16"):
        F.linear(*(Tensor(np.ones((2, 3), np.float16), backend="cuda") for _ in range(2)))
