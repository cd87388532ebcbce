"""The networks that Keras has, too: the same layers, parameters and summaries, and with the same weights the same
predictions."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pycnn import applications, initializers
from pycnn.layers import Concatenate, Conv2D, Input
from pycnn.utils import clear_session, set_random_seed

keras = pytest.importorskip("keras", reason="Keras is in the extra 'peers'")

#: Parameters with the top, as the documents and Keras give them, and the smallest images.
NETWORKS = {
    "VGG16": (138_357_544, 32),
    "VGG19": (143_667_240, 32),
    "ResNet50": (25_636_712, 32),
    "InceptionV3": (23_851_784, 75),
    "Xception": (22_910_480, 71),
}


@pytest.fixture(autouse=True)
def _fresh(few_objects: None) -> Iterator[None]:
    clear_session()
    keras.utils.clear_session(free_memory=False)
    set_random_seed(0)
    keras.utils.set_random_seed(0)
    yield
    gc.collect()  # half a gigabyte for a VGG


@pytest.fixture
def _without_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels of zeros: for 138 million numbers, drawing them takes longer than all the rest."""
    zeros = initializers.Zeros()
    monkeypatch.setattr(initializers.GlorotUniform, "__call__", lambda self, shape, dtype=None: zeros(shape, dtype))


def without_numbers(name: str, **arguments: Any) -> Any:
    """Keras' network with shapes only: on PyTorch's device "meta" weights take no memory and no time."""
    with keras.device("meta"):
        return getattr(keras.applications, name)(weights=None, **arguments)


def summary(model: Any) -> list[str]:
    printed: list[str] = []
    model.summary(print_fn=lambda text, **_: printed.append(text))
    return [line.rstrip() for line in "\n".join(printed).strip().splitlines()]


def assert_same_layers(ours: Any, theirs: Any) -> None:
    assert [layer.name for layer in ours.layers] == [layer.name for layer in theirs.layers]
    for mine, other in zip(ours.layers, theirs.layers):
        assert type(mine).__name__ == type(other).__name__, mine.name
        assert mine.output.shape == other.output.shape, mine.name
        assert [w.shape for w in mine.weights] == [tuple(w.shape) for w in other.weights], mine.name
    assert ours.name == theirs.name


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.usefixtures("_without_draws")
def test_full_size(name: str) -> None:
    ours, theirs = getattr(applications, name)(), without_numbers(name)
    assert ours.count_params() == theirs.count_params() == NETWORKS[name][0]
    assert_same_layers(ours, theirs)
    assert [w.shape for w in ours.weights] == [tuple(w.shape) for w in theirs.weights]
    assert len(ours.trainable_weights) == len(theirs.trainable_weights)
    assert summary(ours) == summary(theirs)


@pytest.mark.parametrize(
    ("name", "pooling"),
    [("ResNet50", "avg"), ("ResNet50", "max"), ("InceptionV3", None), ("VGG16", "avg"), ("Xception", "max")],
)
@pytest.mark.usefixtures("_without_draws")
def test_without_top(name: str, pooling: str | None) -> None:
    ours = getattr(applications, name)(include_top=False, pooling=pooling)
    theirs = without_numbers(name, include_top=False, pooling=pooling)
    assert_same_layers(ours, theirs)
    assert ours.input_shape == theirs.input_shape == (None, None, None, 3)


def test_files_with_other_weights_are_refused(tmp_path: Path) -> None:
    ours = applications.VGG16(include_top=False, input_shape=(32, 32, 3))
    ours.save_weights(tmp_path / "vgg16.weights.h5")
    with pytest.raises(ValueError, match=r"vgg16\.weights\.h5"):
        applications.VGG19(include_top=False, input_shape=(32, 32, 3), weights=tmp_path / "vgg16.weights.h5")


def trained(theirs: Any, x: np.ndarray) -> Any:
    """The network with biases that are not zero, and averages of what its normalisations have seen."""
    rng = np.random.default_rng(5)
    for layer in theirs.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.5
        for weight in layer.weights:
            if weight.name in ("bias", "beta"):
                weight.assign(rng.normal(size=weight.shape) * 0.1)
            elif weight.name == "gamma":
                weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    theirs(x, training=True)
    return theirs


LOGITS = {"classes": 7, "classifier_activation": None}


@pytest.mark.parametrize(
    ("name", "ending", "top"),
    [
        ("VGG16", ".weights.h5", LOGITS),
        ("VGG19", ".h5", {"include_top": False, "pooling": "max"}),
        ("ResNet50", ".h5", LOGITS),
        ("InceptionV3", ".h5", LOGITS),
        ("Xception", ".keras", LOGITS),
    ],
)
@pytest.mark.usefixtures("_without_draws")
def test_files_predict_the_same(name: str, ending: str, top: dict[str, Any], tmp_path: Path) -> None:
    """Keras' files here and ours there.

    In Keras' former format, ".h5", in which it publishes weights, layers are taken by their order.
    """
    size, path = NETWORKS[name][1], tmp_path / f"network{ending}"
    arguments = {"input_shape": (size, size + 3, 3), **top}
    x = np.random.default_rng(3).normal(size=(3, size, size + 3, 3)).astype(np.float32)
    theirs = trained(getattr(keras.applications, name)(weights=None, **arguments), x)
    theirs.save_weights(path) if ending == ".weights.h5" else theirs.save(path)
    ours = getattr(applications, name)(weights=path, **arguments)
    expected = theirs.predict(x, verbose=0)
    assert expected.std() > 0.01
    np.testing.assert_allclose(ours.predict(x, verbose=0), expected, rtol=1e-4, atol=1e-5 * abs(expected).max())

    ours.set_weights([weight * np.float32(0.97) for weight in ours.get_weights()])
    ours.save_weights(tmp_path / "back.weights.h5")
    theirs.load_weights(tmp_path / "back.weights.h5")
    back = theirs.predict(x, verbose=0)
    assert abs(back - expected).max() > 1e-3 * abs(expected).max()
    np.testing.assert_allclose(ours.predict(x, verbose=0), back, rtol=1e-4, atol=1e-5 * abs(back).max())


DOCUMENTS: dict[str, tuple[Callable[[], Any], tuple[int, ...], Callable[[Any], list[Any]]]] = {
    "single_convolution": (
        lambda: applications.single_convolution_cnn(units=2),
        (300, 300, 3),
        lambda L: [
            L.Conv2D(10, (5, 5), strides=(1, 1), padding="valid", data_format="channels_last", activation="relu"),
            L.MaxPooling2D(pool_size=(2, 2)),
            L.Flatten(),
            L.Dense(units=2, activation="softmax"),
        ],
    ),
    "cats_and_dogs": (
        applications.cats_and_dogs_cnn,
        (64, 64, 3),
        lambda L: [
            L.Conv2D(filters=32, kernel_size=3, activation="relu"),
            L.MaxPool2D(pool_size=2, strides=2),
            L.Conv2D(filters=32, kernel_size=3, activation="relu"),
            L.MaxPool2D(pool_size=2, strides=2),
            L.Flatten(),
            L.Dense(units=128, activation="relu"),
            L.Dense(units=1, activation="sigmoid"),
        ],
    ),
    "batch_normalised": (
        applications.batch_normalised_cnn,
        (64, 64, 3),
        lambda L: [
            L.BatchNormalization(),
            L.Conv2D(32, (3, 3), activation="relu"),
            L.BatchNormalization(),
            L.MaxPooling2D(2, 2),
            L.Conv2D(64, (3, 3), activation="relu"),
            L.BatchNormalization(),
            L.MaxPooling2D(2, 2),
            L.Conv2D(128, (3, 3), activation="relu"),
            L.BatchNormalization(),
            L.MaxPooling2D(2, 2),
            L.Flatten(),
            L.Dense(512, activation="relu"),
            L.Dense(256, activation="relu"),
            L.Dense(128, activation="relu"),
            L.Dense(2, activation="softmax"),
        ],
    ),
    "simple": (
        applications.simple_cnn,
        (39, 39, 3),
        lambda L: [
            L.Conv2D(10, 3, activation="relu"),
            L.Conv2D(20, 5, strides=2, activation="relu"),
            L.Conv2D(40, 5, strides=2, activation="relu"),
            L.Flatten(),
            L.Dense(10, activation="softmax"),
        ],
    ),
    "lenet": (
        applications.lenet_cnn,
        (32, 32, 3),
        lambda L: [
            L.Conv2D(6, 5, activation="relu"),
            L.MaxPooling2D(),
            L.Conv2D(16, 5, activation="relu"),
            L.MaxPooling2D(),
            L.Flatten(),
            L.Dense(120, activation="relu"),
            L.Dense(84, activation="relu"),
            L.Dense(10, activation="softmax"),
        ],
    ),
    "mlp": (
        lambda: applications.mlp((32, 32, 3), hidden=(70, 50), units=10),
        (32, 32, 3),
        lambda L: [
            L.Flatten(),
            L.Dense(70, activation="relu"),
            L.Dense(50, activation="relu"),
            L.Dense(10, activation="softmax"),
        ],
    ),
    "digits": (
        applications.digits_cnn,
        (8, 8, 1),
        lambda L: [
            L.Conv2D(32, 3, padding="same", activation="relu"),
            L.Conv2D(64, 3, padding="same", activation="relu"),
            L.MaxPooling2D(),
            L.Dropout(0.25),
            L.Flatten(),
            L.Dense(128, activation="relu"),
            L.Dropout(0.5),
            L.Dense(10, activation="softmax"),
        ],
    ),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_documents_listings(name: str) -> None:
    build, shape, listing = DOCUMENTS[name]
    x = np.random.default_rng(3).normal(size=(2, *shape)).astype(np.float32)
    theirs = trained(keras.Sequential([keras.Input(shape), *listing(keras.layers)]), x)
    ours = build()
    assert_same_layers(ours, theirs)
    assert summary(ours) == summary(theirs)
    ours.set_weights(theirs.get_weights())
    np.testing.assert_allclose(ours.predict(x, verbose=0), theirs.predict(x, verbose=0), rtol=1e-4, atol=1e-6)
    ours = build()  # and the other way
    theirs.set_weights(ours.get_weights())
    np.testing.assert_allclose(ours.predict(x, verbose=0), theirs.predict(x, verbose=0), rtol=1e-4, atol=1e-6)


def test_the_documents_vgg16_is_vgg16() -> None:
    shape = (32, 32, 3)
    ours, theirs = applications.vgg16_two_classes(shape), applications.VGG16(input_shape=shape, classes=2)
    ours.set_weights(theirs.get_weights())
    x = np.random.default_rng(3).normal(size=(2, *shape)).astype(np.float32)
    np.testing.assert_array_equal(ours.predict(x, verbose=0), theirs.predict(x, verbose=0))


def test_features_of_another_models_tensor() -> None:
    """``input_tensor``: the new model begins where the tensor's own does."""
    images = Input((40, 50, 1), name="grey")
    three = Conv2D(3, 3, padding="same", name="colours")(images)
    ours = applications.Xception(include_top=False, input_tensor=three, pooling="max")
    assert [layer.name for layer in ours.layers[:3]] == ["grey", "colours", "block1_conv1"]
    assert (ours.input_shape, ours.output_shape) == ((None, 40, 50, 1), (None, 2048))
    assert ours.predict(np.ones((1, 40, 50, 1)), verbose=0).shape == (1, 2048)
    merged = Concatenate()([Input((32, 32, 1)), Input((32, 32, 2))])
    assert applications.ResNet50(input_tensor=merged, classes=2).input_shape == [(None, 32, 32, 1), (None, 32, 32, 2)]
    with pytest.raises(TypeError, match="input_tensor: expected a symbolic tensor, as Input"):
        applications.VGG16(input_tensor=np.zeros((1, 32, 32, 3)))
