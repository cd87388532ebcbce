"""The same weights in Keras give the same outputs, losses and training, where Keras is installed."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

from pycnn import initializers, losses
from pycnn import layers as L
from pycnn.applications import cifar10_cnn
from pycnn.models import Sequential
from pycnn.optimizers import SGD
from pycnn.utils import clear_session, set_random_seed

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
keras = pytest.importorskip("keras", reason="Keras is in the extra 'peers'")
RNG = np.random.default_rng(3)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    clear_session()
    set_random_seed(0)
    keras.utils.clear_session(free_memory=False)


def both(make: Any, shape: tuple[int, ...]) -> tuple[Sequential, Any]:
    """The same layers in pycnn and in Keras, with the same weights."""
    ours = Sequential([L.Input(shape), *make(L)])
    theirs = keras.Sequential([keras.Input(shape), *make(keras.layers)])
    theirs.set_weights(ours.get_weights())
    return ours, theirs


def layers_of(kind: Any) -> list[Any]:
    """A network with every layer of this version."""
    return [
        kind.Conv2D(8, 3, padding="same", activation="relu"),
        kind.Conv2D(8, (5, 3), strides=2, padding="same"),
        kind.BatchNormalization(momentum=0.7),
        kind.MaxPooling2D((3, 3), strides=2, padding="same"),
        kind.Activation("tanh"),
        kind.Conv2D(6, 2, dilation_rate=2, use_bias=False),
        kind.AveragePooling2D(2, strides=1, padding="same"),
        kind.Dropout(0.5),
        kind.Flatten(),
        kind.Dense(16, activation="sigmoid"),
        kind.BatchNormalization(momentum=0.8, scale=False, epsilon=0.01),
        kind.Dense(5, activation="softmax"),
    ]


def test_outputs_names_shapes_and_parameters() -> None:
    ours, theirs = both(layers_of, (23, 18, 3))
    x = RNG.normal(size=(4, 23, 18, 3)).astype(np.float32)
    np.testing.assert_allclose(ours.predict(x, verbose=0), theirs.predict(x, verbose=0), rtol=1e-4, atol=1e-6)
    assert [layer.name for layer in ours.layers] == [layer.name for layer in theirs.layers]
    assert ours.output_shapes() == [layer.output.shape for layer in theirs.layers]
    assert [layer.count_params() for layer in ours.layers] == [layer.count_params() for layer in theirs.layers]
    assert [w.shape for w in ours.weights] == [tuple(w.shape) for w in theirs.weights]


def test_steps_of_training() -> None:
    def make(kind: Any) -> list[Any]:
        return [layer for layer in layers_of(kind) if "dropout" not in layer.name]

    ours, theirs = both(make, (23, 18, 3))
    ours.compile(SGD(0.5, momentum=0.9), "sparse_categorical_crossentropy", metrics=["accuracy"])
    theirs.compile(keras.optimizers.SGD(0.5, momentum=0.9), "sparse_categorical_crossentropy", metrics=["accuracy"])
    x = RNG.normal(size=(20, 23, 18, 3)).astype(np.float32)
    y = RNG.integers(0, 5, (20, 1))
    arguments = {"batch_size": 8, "epochs": 3, "shuffle": False, "validation_split": 0.2, "verbose": 0}
    mine, keras_history = ours.fit(x, y, **arguments).history, theirs.fit(x, y, **arguments).history
    assert mine.keys() == keras_history.keys()
    for name, values in mine.items():
        np.testing.assert_allclose(values, keras_history[name], rtol=1e-3, err_msg=name)
    for a, b in zip(ours.get_weights(), theirs.get_weights()):
        np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("name", ["SparseCategoricalCrossentropy", "CategoricalCrossentropy", "BinaryCrossentropy"])
@pytest.mark.parametrize("from_logits", [False, True])
def test_losses(name: str, from_logits: bool) -> None:
    labels = RNG.integers(0, 4, 6)
    truth: np.ndarray = labels if name.startswith("Sparse") else np.eye(4)[labels]
    predictions = RNG.normal(size=(6, 4)).astype(np.float32)
    if not from_logits:
        predictions = np.exp(predictions) / np.exp(predictions).sum(axis=1, keepdims=True)
        predictions[0] = [0, 1, 0, 0]
    ours = getattr(losses, name)(from_logits=from_logits)(truth, predictions).item()
    theirs = float(getattr(keras.losses, name)(from_logits=from_logits)(truth, predictions))
    assert ours == pytest.approx(theirs, rel=1e-5)


@pytest.mark.parametrize("name", ["glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "lecun_normal"])
def test_initializers_have_the_same_distribution(name: str) -> None:
    shape = (3, 3, 64, 64)
    ours = initializers.get(name)(shape)
    theirs = np.asarray(keras.initializers.get(name)(shape))
    # Without the two extremes: Keras on PyTorch draws one in some thousands from beyond where it cuts the normal off.
    steps = np.linspace(0.01, 0.99, 11)
    # 36,864 values: the quantiles of two draws lie about a hundredth of the deviation apart.
    np.testing.assert_allclose(np.quantile(ours, steps), np.quantile(theirs, steps), atol=0.04 * theirs.std())
    fan_in, fan_out = 3 * 3 * 64, 3 * 3 * 64
    n = {"glorot": (fan_in + fan_out) / 2, "he": fan_in / 2, "lecun": fan_in}[name.split("_")[0]]
    limit = (3 / n) ** 0.5 if name.endswith("uniform") else 2 * (1 / n) ** 0.5 / 0.87962566103423978
    assert 0.98 * limit < abs(ours).max() <= np.float32(limit) * (1 + 1e-6)


def test_cifar10_cnn_is_the_documents_network() -> None:
    theirs = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            *(
                layer
                for filters in (32, 64, 128)
                for layer in (keras.layers.Conv2D(filters, 3, activation="relu"), keras.layers.MaxPooling2D())
            ),
            keras.layers.Flatten(),
            keras.layers.Dense(256, activation="relu"),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    ours = cifar10_cnn()
    ours.set_weights(theirs.get_weights())
    x = RNG.random((3, 32, 32, 3)).astype(np.float32)
    np.testing.assert_allclose(ours.predict(x, verbose=0), theirs.predict(x, verbose=0), rtol=1e-4, atol=1e-6)
    printed: list[str] = []
    theirs.summary(print_fn=lambda text, **_: printed.append(text))
    ours.summary(print_fn=printed.append)
    totals = [[line for line in text.splitlines() if "params:" in line] for text in printed]
    assert totals[0] == totals[1]
