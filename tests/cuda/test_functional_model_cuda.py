"""Models that are graphs compute on the GPU what they compute on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import pycnn
from pycnn import Input, Model, Tensor, backend, layers, no_grad, utils
from tests.cuda.conftest import ON_A_GPU

pytestmark = pytest.mark.parametrize("device", [1], indirect=True, ids=["gpu" if ON_A_GPU else "upwards"])

X = np.random.default_rng(0).random((2, 5, 5, 2), np.float32)


@pytest.fixture(autouse=True)
def _any_device(device: Any) -> Iterator[None]:
    yield
    backend.set_backend("cpu")


def _network() -> Model:
    """A residual block, every merging layer, and arithmetic."""
    images = Input((5, 5, 2))
    x = layers.Conv2D(2, 3, padding="same")(images)
    x = layers.ReLU()(layers.Add()([images, layers.BatchNormalization()(x)]))
    y = 1 - images[..., ::-1] / 2
    pairs = [[x, y], [x, images], [y, images]]
    kinds = (layers.Maximum, layers.Minimum, layers.Multiply)
    merged = layers.Concatenate()([kind()(pair) for kind, pair in zip(kinds, pairs)])
    merged = layers.Average()([merged, layers.Subtract()([merged, 2 * merged])])
    pooled = layers.GlobalAveragePooling2D()(merged)
    return Model(images, [layers.Dot(1, normalize=True)([pooled, pooled * pooled]), pooled])


def _results(name: str) -> list[np.ndarray]:
    """Outputs without gradients, where all that can be is one pass, then while training, and gradients."""
    with pycnn.use_backend(name):
        utils.set_random_seed(1)
        model = _network()
        with no_grad():
            found = model(X)
        assert {each.backend.name for each in found} == {name}
        x = Tensor(X, requires_grad=True, backend=name)
        trained = model(x, training=True)
        (trained[0].sum() + (trained[1] * trained[1]).sum()).backward()
        assert x.grad is not None
        gradients = [x.grad, *(weight.grad for weight in model.trainable_weights)]
        return [each.detach().to("cpu").numpy() for each in (*found, *trained, *gradients)]


def test_graphs() -> None:
    for found, expected in zip(_results("cuda"), _results("cpu"), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_model_moves_with_what_its_optimizer_remembers() -> None:
    """One step on the CPU, one on the GPU, one on the CPU are three steps on the CPU."""

    def trained(places: list[str]) -> list[np.ndarray]:
        utils.set_random_seed(2)
        model = pycnn.Sequential([Input((5, 5, 2)), layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(2)])
        model.compile(pycnn.optimizers.SGD(0.1, momentum=0.9), "mse")
        for place in places:
            assert model.to(place) is model
            model.train_on_batch(X, np.zeros((2, 2), np.float32))
            assert {weight.backend.name for weight in model.weights} == {place}
        return model.to("cpu").get_weights()

    for found, expected in zip(trained(["cpu", "cuda", "cpu"]), trained(["cpu"] * 3), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
