"""The documented networks: parameters, shapes, learning."""

from __future__ import annotations

import numpy as np
import pytest

from pycnn.applications import cifar10_cnn, digits_cnn
from pycnn.datasets import digits
from pycnn.utils import clear_session, set_random_seed


@pytest.fixture(autouse=True)
def _fresh() -> None:
    clear_session()
    set_random_seed(0)


def test_cifar10_cnn_has_the_documents_parameters_and_shapes() -> None:
    model = cifar10_cnn()
    counts = [layer.count_params() for layer in model.layers if layer.weights]
    assert counts == [896, 18_496, 73_856, 131_328, 32_896, 1_290]
    assert model.count_params() == 258_762
    assert model.output_shapes() == [
        (None, 30, 30, 32),
        (None, 15, 15, 32),
        (None, 13, 13, 64),
        (None, 6, 6, 64),
        (None, 4, 4, 128),
        (None, 2, 2, 128),
        (None, 512),
        (None, 256),
        (None, 128),
        (None, 10),
    ]
    assert [layer.name for layer in model.layers if "conv" in layer.name] == ["conv2d", "conv2d_1", "conv2d_2"]


def test_cifar10_cnn_takes_a_step_on_bytes() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (50, 32, 32, 3), dtype=np.uint8)
    labels = rng.integers(0, 10, (50, 1), dtype=np.uint8)
    model = cifar10_cnn()
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    losses = [model.train_on_batch(images / 255, labels)[0] for _ in range(8)]
    assert losses[0] == pytest.approx(np.log(10), abs=0.1)
    assert losses[-1] < losses[0]


def test_cifar10_cnn_names_the_layer_that_an_image_is_too_small_for() -> None:
    with pytest.raises(ValueError, match="'max_pooling2d_2'"):
        cifar10_cnn(input_shape=(18, 18, 3))


def test_other_numbers_of_classes() -> None:
    assert cifar10_cnn(classes=2).output_shape == (None, 2)
    assert digits_cnn(classes=2).output_shape == (None, 2)


def test_digits_cnn_learns_the_digits() -> None:
    (x_train, y_train), (x_test, y_test) = digits.load_data()
    model = digits_cnn()
    assert model.count_params() == 320 + 18_496 + 131_200 + 1_290
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x_train / np.float32(16), y_train, epochs=5, verbose=0)
    _, accuracy = model.evaluate(x_test / np.float32(16), y_test, verbose=0)
    assert accuracy > 0.93
