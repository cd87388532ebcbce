"""Networks train on the GPU with the code of the CPU, and the same seed gives the same losses within rounding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import pycnn
import pycnn.functional as F
from pycnn import Tensor, backend, layers, optimizers, utils
from pycnn.models import Sequential
from tests.cuda.conftest import ON_A_GPU

#: A step of a simulation takes seconds: images are small, and threads run in one order.
pytestmark = pytest.mark.parametrize("device", [1], indirect=True, ids=["gpu" if ON_A_GPU else "upwards"])

X = np.random.default_rng(0).random((4, 8, 8, 2), np.float32)
LABELS = np.array([0, 2, 1, 2])


@pytest.fixture(autouse=True)
def _any_device(device: Any) -> Iterator[None]:
    yield
    backend.set_backend("cpu")


def _plain() -> list[Any]:
    """The CIFAR-10 network in small."""
    return [
        layers.Conv2D(3, (3, 3), activation="relu", input_shape=(8, 8, 2)),
        layers.MaxPooling2D(pool_size=(2, 2)),
        layers.Flatten(),
        layers.Dropout(0.2),
        layers.Dense(5, activation="relu"),
        layers.Dense(3, activation="softmax"),
    ]


def _normalised() -> list[Any]:
    """The batch-normalised network in small."""
    return [
        layers.Conv2D(3, (3, 3), activation="relu", input_shape=(8, 8, 2)),
        layers.BatchNormalization(),
        layers.MaxPooling2D(pool_size=(2, 2)),
        layers.Conv2D(4, (2, 2)),
        layers.BatchNormalization(),
        layers.Flatten(),
        layers.Dense(3, activation="softmax"),
    ]


def _of_many_kinds() -> list[Any]:
    """Each family of layers once, with what is added to the loss and done to weights after a step."""
    return [
        layers.Rescaling(2.0, -1.0, input_shape=(8, 8, 2)),
        layers.SeparableConv2D(3, 2, padding="same", strides=2, depthwise_regularizer="l2"),
        layers.PReLU(shared_axes=[1, 2]),
        layers.LayerNormalization(gamma_constraint="non_neg"),
        layers.SpatialDropout2D(0.25),
        layers.Conv2DTranspose(2, 2, strides=2, padding="same", kernel_constraint="unit_norm"),
        layers.Permute((3, 1, 2)),
        layers.GlobalAveragePooling2D("channels_first"),
        layers.RepeatVector(4),
        layers.Conv1D(2, 2, padding="causal", activity_regularizer="l1"),
        layers.ReLU(6.0, 0.1, 0.01),
        layers.Flatten(),
        layers.Dense(3, activation="softmax"),
    ]


def _trained(make: Callable[[], list[Any]], name: str, optimizer: Any) -> tuple[list[float], np.ndarray, np.ndarray]:
    """The losses of three epochs of two steps, what is predicted then, and all weights."""
    with pycnn.use_backend(name):
        utils.set_random_seed(1)
        model = Sequential(make())
        model.compile(optimizer=optimizer(), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
        history = model.fit(X, LABELS, batch_size=2, epochs=2, verbose=0)
        assert all(weight.backend.name == name for weight in model.weights)
        weights = np.concatenate([weight.ravel() for weight in model.get_weights()])
        return history.history["loss"], model.predict(X, verbose=0), weights


@pytest.mark.parametrize(
    ("make", "optimizer"),
    [
        (_plain, optimizers.Adam),
        (_normalised, lambda: optimizers.SGD(0.05, momentum=0.9)),
        (_of_many_kinds, lambda: optimizers.SGD(0.05)),
    ],
    ids=["plain, Adam", "normalised, SGD", "of many kinds, SGD"],
)
def test_the_same_seed_learns_the_same(make: Callable[[], list[Any]], optimizer: Any) -> None:
    """Sums of other orders differ by some units in the last place; steps let the difference grow."""
    expected = _trained(make, "cpu", optimizer)
    found = _trained(make, "cuda", optimizer)
    for cpu, cuda in zip(expected, found):
        np.testing.assert_allclose(cuda, cpu, rtol=2e-4, atol=2e-5)


def _values(name: str, compute: Callable[..., Any], *arrays: np.ndarray) -> list[np.ndarray]:
    """A result, and the gradients of its sum of cubes: that of squares is constant behind a normalisation."""
    inputs = [Tensor(array, requires_grad=True, backend=name) for array in arrays]
    y = compute(*inputs)
    (y * y * y).sum().backward()
    assert y.backend.name == name
    return [y.detach().numpy(), *(x.grad.numpy() for x in inputs)]


OPERATIONS: dict[str, Callable[..., Any]] = {
    "conv2d": lambda x, w: F.conv2d(x, w, padding=1, stride=2, activation="leaky_relu"),
    "conv2d in channels last": lambda x, w: F.conv2d(
        x.transpose(0, 2, 3, 1), w, padding=1, data_format="channels_last", activation="tanh"
    ),
    "reflected": lambda x, w: F.conv2d(x, w, padding=1, padding_mode="reflect"),
    "conv_transpose2d": lambda x, w: F.conv_transpose2d(x, w.transpose(1, 0, 2, 3), stride=2, activation="sigmoid"),
    "conv_transpose2d, leaky": lambda x, w: F.conv_transpose2d(
        x, w.transpose(1, 0, 2, 3), activation="leaky_relu", negative_slope=0.3
    ),
    "pooled": lambda x, w: F.conv2d_max_pool2d(x, w, activation="relu", pool_size=2),
    "max_pool2d": lambda x, w: F.max_pool2d(x, 2, return_indices=True)[0] * w.sum(),
    "avg_pool2d": lambda x, w: F.avg_pool2d(x, 3, 2, 1) * w.sum(),
    "lp_pool2d": lambda x, w: F.lp_pool2d(x * x + 1, 2, 2) * w.sum(),
    "adaptive_avg_pool2d": lambda x, w: F.adaptive_avg_pool2d(x, 2) * w.sum(),
    "max_unpool2d": lambda x, w: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2) * w.sum(),
    "batch_norm": lambda x, w: F.batch_norm(x, None, None, w[:, 0, 0, 0], training=True),
    "layer_norm": lambda x, w: F.layer_norm(x, (5, 4)) * w.sum(),
    "local_response_norm": lambda x, w: F.local_response_norm(x, 2) * w.sum(),
    "linear": lambda x, w: F.linear(x.reshape(5, 8), w.reshape(4, 9)[:, :8]),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_and_gradients_are_those_of_the_cpu(name: str) -> None:
    generator = np.random.default_rng(1)
    x, w = generator.standard_normal((1, 2, 5, 4)), generator.standard_normal((2, 2, 3, 3))
    arrays = [array.astype(np.float32) for array in (x, w)]
    for cpu, cuda in zip(_values("cpu", OPERATIONS[name], *arrays), _values("cuda", OPERATIONS[name], *arrays)):
        np.testing.assert_allclose(cuda, cpu, rtol=1e-4, atol=1e-5)


def test_second_derivatives(device: Any) -> None:
    found = []
    for name in ("cpu", "cuda"):
        x = Tensor(X[:1, :4, :4].transpose(0, 3, 1, 2).copy(), requires_grad=True, backend=name)
        w = Tensor(np.ones((1, 2, 2, 2), np.float32), requires_grad=True, backend=name)
        y = F.tanh(F.conv2d(x, w))
        y.sum().backward(create_graph=True)
        gradient = x.grad
        x.grad = w.grad = None
        (gradient * gradient).sum().backward()
        found.append(w.grad.numpy())
    np.testing.assert_allclose(found[1], found[0], rtol=1e-4, atol=1e-6)


def test_arrays_go_where_the_weights_of_a_model_are() -> None:
    with pycnn.use_backend("cuda"):
        model = Sequential([layers.Flatten(input_shape=(8, 8, 2)), layers.Dense(3, activation="softmax")])
        model.compile(optimizer="sgd", loss="sparse_categorical_crossentropy")
    model.fit(X, LABELS, epochs=1, verbose=0)
    assert model(X).backend.name == "cuda"
    assert isinstance(model.predict(X, verbose=0), np.ndarray)
    assert layers.Flatten()(X).backend.name == "cpu"
