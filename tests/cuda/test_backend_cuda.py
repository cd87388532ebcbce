"""backend="cuda" above the kernels: tensors, operations and training, on the GPU that the fixture gives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import pycnn
import pycnn.functional as F
from pycnn import Tensor, backend, optimizers
from pycnn.in_place import assign_in_place


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


X, W = (np.random.default_rng(seed).standard_normal(shape) for seed, shape in enumerate([(1, 2, 6, 5), (3, 2, 3, 2)]))
PLACES = np.arange(X.size).reshape(X.shape) % 30
#: Operations on x and w, arrays or tensors, and with further arrays by their names.
CALLS: dict[str, Any] = {
    "conv2d": lambda x, w, **at: F.conv2d(x, w, bias=W[:, 0, 0, 0], padding=1, **at),
    "conv2d by name": lambda x, w, **at: F.conv2d(weight=w, input=x, scale=W[:, 0, 0, 0], **at),
    "conv2d by algorithm": lambda x, w, **at: F.conv2d(x, w, algorithm="direct", workspace_limit=1 << 20, **at),
    "conv1d": lambda x, w, **at: F.conv1d(x[..., 0], w[..., 0], **at),
    "conv3d": lambda x, w, **at: F.conv3d(x[..., None], w[..., None], **at),
    "conv_transpose2d": lambda x, w, **at: F.conv_transpose2d(x, w[:2], stride=2, output_padding=[1, 0], **at),
    "max_pool2d": lambda x, w, **at: F.max_pool2d(x, 2, **at),
    "max_pool2d with indices": lambda x, w, **at: F.max_pool2d(x, 2, return_indices=True, **at),
    "avg_pool2d": lambda x, w, **at: F.avg_pool2d(x, 3, 2, 1, True, **at),
    "lp_pool2d": lambda x, w, **at: F.lp_pool2d(x, 2, 2, **at),
    "lp_pool2d hanging over": lambda x, w, **at: F.lp_pool2d(x, 4, 2, ceil_mode=True, **at),
    "lp_pool2d to infinity": lambda x, w, **at: F.lp_pool2d(x, -np.inf, 2, **at),
    "adaptive_avg_pool2d": lambda x, w, **at: F.adaptive_avg_pool2d(x, (None, 2), **at),
    "adaptive_max_pool2d": lambda x, w, **at: F.adaptive_max_pool2d(x, 2, True, **at),
    "adaptive_max_pool2d of nothing": lambda x, w, **at: F.adaptive_max_pool2d(x, (0, 2), **at),
    "max_unpool2d": lambda x, w, **at: F.max_unpool2d(x, PLACES, 1, **at),
    "fractional_max_pool2d": lambda x, w, **at: F.fractional_max_pool2d(
        x, 2, 3, return_indices=True, _random_samples=np.full((1, 2, 2), 0.3), **at
    ),
}


def _each(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


@pytest.mark.parametrize("name", CALLS)
def test_a_backend_for_a_call(name: str, device: Any) -> None:
    """Arrays go there, and tensors with their gradients, whatever the default is."""
    call = CALLS[name]
    expected = _each(call(X, W))
    for default in ("cpu", "cuda"):
        with pycnn.use_backend(default):
            found = _each(call(X, W, backend="cuda"))
            stays = _each(call(X, W, backend="cpu"))
            back = _each(call(device.xp.asarray(X), device.xp.asarray(W), backend="cpu"))
        for right, there, here, returned in zip(expected, found, stays, back, strict=True):
            assert device.is_array(there)
            assert isinstance(here, np.ndarray)
            assert isinstance(returned, np.ndarray)
            assert there.dtype == here.dtype == returned.dtype == right.dtype
            np.testing.assert_allclose(there.get(), right, rtol=1e-12, atol=1e-12)
            np.testing.assert_array_equal(here, right)
            np.testing.assert_array_equal(returned, right)


@pytest.mark.parametrize("name", CALLS)
def test_gradients_come_back_from_a_call_elsewhere(name: str) -> None:
    grads = []
    for backend_of_call in ("cpu", "cuda"):
        x, w = Tensor(X, requires_grad=True), Tensor(W, requires_grad=True)
        y = _each(CALLS[name](x, w, backend=backend_of_call))[0]
        assert y.backend.name == backend_of_call
        (y * y).sum().backward()
        assert x.grad.backend.name == "cpu"
        grads.append([each.grad.numpy() for each in (x, w) if each.grad is not None])
    for found, expected in zip(grads[1], grads[0], strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", ["uint8", "int64"])
def test_the_greatest_of_integers_on_the_gpu(dtype: str, device: Any) -> None:
    x = np.arange(36).reshape(1, 6, 6).astype(dtype)
    y = F.max_pool2d(x, 2, backend="cuda")
    assert device.is_array(y)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y.get(), x[:, 1::2, 1::2])


def test_means_and_products_of_integers_on_the_gpu() -> None:
    x = np.arange(-8, 8).reshape(1, 1, 4, 4)
    there = Tensor(x).to("cuda")
    means = F.avg_pool2d(there, 3, 1, 1)
    np.testing.assert_array_equal(means.numpy(), F.avg_pool2d(x, 3, 1, 1), strict=True)
    products = F.linear(there, Tensor(x[0, 0]).to("cuda"))
    np.testing.assert_array_equal(products.numpy(), x @ x[0, 0].T, strict=True)
    assert means.backend.name == products.backend.name == "cuda"
    halved = F.leaky_relu(there.astype(np.float32), Tensor(0.5).to("cuda"))
    np.testing.assert_array_equal(halved.numpy(), np.where(x < 0, 0.5 * x, x))


@pytest.mark.parametrize(
    "optimizer",
    [
        optimizers.SGD,
        lambda: optimizers.SGD(0.1, 0.9, True, weight_decay=0.1),
        optimizers.Adam,
        lambda: optimizers.AdamW(clipnorm=0.5),
        lambda: optimizers.RMSprop(centered=True, momentum=0.5, clipvalue=0.5),
        lambda: optimizers.Nadam(global_clipnorm=0.5),
        lambda: optimizers.Adagrad(gradient_accumulation_steps=2),
    ],
)
def test_optimizers_step_as_on_the_cpu(optimizer: Any) -> None:
    found = []
    for name in ("cpu", "cuda"):
        w = Tensor(np.arange(5, dtype=np.float32), requires_grad=True, backend=name)
        steps = optimizer()
        for _ in range(4):
            (w * w).sum().backward()
            steps.apply([w])
        found.append(_host(w))
        again = optimizer()
        again.set_state([w], steps.state([w]))
        for name, array in steps.state([w]).items():
            np.testing.assert_array_equal(again.state([w])[name], array)
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6, atol=1e-7)


def test_the_same_seed_drops_the_same_elements() -> None:
    found = []
    for name in ("cpu", "cuda"):
        pycnn.utils.set_random_seed(3)
        found.append(_host(F.dropout(Tensor(np.ones((4, 5), np.float32), backend=name), 0.4)))
    np.testing.assert_array_equal(*found)


def test_halves_are_refused() -> None:
    with pytest.raises(ValueError, match="backend 'cuda' computes in float32 and float64; received float16"):
        F.linear(*(Tensor(np.ones((2, 3), np.float16), backend="cuda") for _ in range(2)))


def test_halves_are_refused_by_the_clock_too() -> None:
    x = Tensor(np.ones((1, 2, 5, 5), np.float16), backend="cuda")
    with pytest.raises(ValueError, match="backend 'cuda' computes in float32 and float64; received float16"):
        F.conv2d(x, x, algorithm="autotune")


def test_running_statistics_move_where_the_input_is(device: Any) -> None:
    values = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
    x, mean, variance = (device.xp.asarray(each) for each in (values, np.zeros(3, np.float32), np.ones(3, np.float32)))
    F.batch_norm(x, mean, variance, training=True, momentum=0.5)
    np.testing.assert_allclose(mean.get(), 0.5 * values.mean(axis=0), rtol=1e-5, atol=1e-6)
    with (
        pycnn.use_backend("cuda"),
        pytest.raises(TypeError, match="running_mean is changed in place: it must be on the backend of the input"),
    ):
        F.batch_norm(x, np.zeros(3, np.float32), np.ones(3, np.float32), training=True)


@pytest.mark.parametrize(("place", "default"), [("cpu", "cuda"), ("cuda", "cpu")])
@pytest.mark.parametrize(
    "compute",
    [
        lambda x: F.layer_norm(x, (3,)) * x,
        lambda x: F.batch_norm(x, None, None, training=True) * x,
        lambda x: F.cross_entropy(x, np.array([0, 2, 1, 1])),
        lambda x: pycnn.losses.binary_crossentropy(np.zeros((4, 3)), F.sigmoid(x)),
        lambda x: pycnn.losses.mean_squared_error(np.zeros((4, 3)), x),
        lambda x: F.conv1d(x.reshape(1, 4, 3), x.reshape(3, 4, 1), activation="tanh"),
        lambda x: x + [1.0, 2.0, 3.0],
    ],
    ids=["layer_norm", "batch_norm", "cross_entropy", "binary_crossentropy", "mean_squared_error", "conv1d", "list"],
)
def test_the_default_is_nothing_to_what_has_a_place(compute: Any, place: str, default: str) -> None:
    values = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    x = Tensor(values, requires_grad=True, backend=place)
    with pycnn.use_backend(default):
        y = compute(x)
        y.sum().backward()
    assert y.backend.name == x.grad.backend.name == place
    alone = Tensor(values, requires_grad=True, backend="cpu")
    compute(alone).sum().backward()
    np.testing.assert_allclose(_host(x.grad), _host(alone.grad), rtol=1e-4, atol=1e-6)


def test_operands() -> None:
    x = Tensor(np.array([1, 2, 3]), backend="cuda")
    assert _host(x + 1).tolist() == [2, 3, 4]
    assert _host(x > 1).tolist() == [False, True, True]
    assert _host(x == 2).tolist() == [False, True, False]
    for other in (np.ones(3), Tensor([1.0, 2.0, 3.0])):
        with pytest.raises(TypeError, match="both operands must be on one backend; received one on 'cpu' and one on"):
            x + other


def test_gradients_to_begin_with_go_to_the_tensor() -> None:
    x = Tensor([1.0, 2.0], requires_grad=True, backend="cuda")
    (x * 2).backward(np.array([1.0, 3.0]))
    assert x.grad.backend.name == "cuda"
    assert _host(x.grad).tolist() == [2, 6]


@pytest.mark.parametrize(
    ("a", "b"), [((2, 3), (3, 4)), ((3,), (3, 4)), ((2, 3), (3,)), ((3,), (3,)), ((2, 2, 3), (3, 4)), ((2, 0), (0, 4))]
)
def test_products(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    x, y = (random.standard_normal(shape).astype(np.float32) for shape in (a, b))
    found = Tensor(x, backend="cuda") @ Tensor(y, backend="cuda")
    assert found.shape == (x @ y).shape
    np.testing.assert_allclose(_host(found), x @ y, rtol=1e-5, atol=1e-6)


def test_products_of_integers_are_refused() -> None:
    x = Tensor(np.ones((2, 2), np.int64), backend="cuda")
    with pytest.raises(TypeError, match="matrices on a GPU must hold float32 or float64, both; received int64"):
        x @ x


@pytest.mark.parametrize(
    "index",
    [1, slice(1, 3), (slice(None), 0), (..., None), np.array([0, 0, 3, 0]), (np.array([1, 1]), np.array([2, 2]))],
    ids=str,
)
def test_gradients_of_elements(index: Any) -> None:
    values = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    found = []
    for name in ("cpu", "cuda"):
        x = Tensor(values, requires_grad=True, backend=name)
        (x[index] * x[index]).sum().backward()
        found.append(_host(x.grad))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6)


def test_changes_in_place() -> None:
    values = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    found = []
    for name in ("cpu", "cuda"):
        x = Tensor(values, requires_grad=True, backend=name)
        y = x * 2
        y += 1
        y *= x
        y[1, 1:] = x[0, :3]
        y[[0, 2], [3, 3]] = x[1, 0] * 5
        y[2].sub_(x[1])
        row = y.reshape(12)[4:8]
        row.mul_(3.0)
        assign_in_place(y, F.relu(y))
        (y * y).sum().backward()
        found.append((_host(y), _host(row), _host(x.grad)))
    for on_gpu, on_cpu in zip(found[1], found[0]):
        np.testing.assert_allclose(on_gpu, on_cpu, rtol=1e-5)


def test_changes_of_saved_values_are_noticed() -> None:
    x = Tensor(np.ones((3, 4), np.float32), requires_grad=True, backend="cuda")
    for change in (lambda: x.mul_(2.0), lambda: x[1].add_(1.0), lambda: x.detach().T[0].zero_()):
        y = (x * x).sum()
        with pycnn.no_grad():
            change()
        with pytest.raises(RuntimeError, match="has changed in place since"):
            y.backward()
    x.grad = Tensor(np.ones((3, 4), np.float32), backend="cuda")
    y = (x * x).sum()
    optimizers.SGD(1.0).apply([x])
    with pytest.raises(RuntimeError, match=r"which SGD\.apply has changed in place since"):
        y.backward()


def test_protocols(device: Any) -> None:
    x = Tensor(np.ones(3, np.float32), backend="cuda")
    assert x.__cuda_array_interface__ == x.data.__cuda_array_interface__
    assert backend.is_on_gpu(x)
    assert not hasattr(x, "__array_interface__")
    x.requires_grad = True
    assert not hasattr(x, "__cuda_array_interface__")
    assert not backend.is_on_gpu(x)
    with pytest.raises(BufferError, match="requires a gradient"):
        x.__dlpack__()


def test_parameters_in_another_order_of_memory() -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    w = Tensor(values.T, requires_grad=True, backend="cuda")
    assert not w.data.flags.c_contiguous
    w.sum().backward()
    optimizers.SGD(1.0).apply([w])
    np.testing.assert_array_equal(_host(w), values.T - 1)


def test_labels_and_samples_may_be_on_the_gpu(device: Any) -> None:
    labels, predictions = (device.xp.asarray(np.array(each)) for each in ([1, 0], [[0.2, 0.8], [0.9, 0.1]]))
    assert pycnn.metrics.sparse_categorical_accuracy(labels, predictions).tolist() == [1, 1]
    assert float(pycnn.losses.mean_squared_error(predictions, Tensor(predictions)).sum()) == 0
    model = pycnn.models.Sequential([pycnn.layers.Dense(2, input_shape=(2,))])
    model.compile(loss="mse")
    model.fit(predictions, predictions, epochs=1, verbose=0)


def test_arrays_of_another_gpu_are_refused(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    x = device.xp.asarray(np.ones((1, 3), np.float32))
    monkeypatch.setattr(type(x.data), "device_id", 1)
    with pytest.raises(TypeError, match="x must be a CuPy array on GPU 0; received one on GPU 1"):
        F.softmax(x, dim=1)
