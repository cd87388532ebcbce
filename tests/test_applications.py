"""The documented networks: parameters, shapes, learning."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pycnn import initializers
from pycnn.applications import (
    batch_normalised_cnn,
    cats_and_dogs_cnn,
    cifar10_cnn,
    digits_cnn,
    lenet_cnn,
    mlp,
    simple_cnn,
    single_convolution_cnn,
    vgg16_two_classes,
)
from pycnn.datasets import digits
from pycnn.layers import Conv2D, Dense
from pycnn.models import Sequential
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
    for build in (cifar10_cnn, digits_cnn, batch_normalised_cnn, simple_cnn, lenet_cnn):
        assert build(classes=3).output_shape == (None, 3), build.__name__


def counts(model: Sequential) -> list[int]:
    return [layer.count_params() for layer in model.layers if layer.weights]


def activations(model: Sequential) -> list[str]:
    return [layer.activation.__name__ for layer in model.layers if isinstance(layer, Conv2D | Dense)]


def test_single_convolution_cnn_has_the_head_of_the_summary_or_that_of_the_listing() -> None:
    summary, listing = single_convolution_cnn(), single_convolution_cnn(units=2)
    shapes = [(None, 296, 296, 10), (None, 148, 148, 10), (None, 219_040)]
    assert summary.output_shapes() == [*shapes, (None, 1)]
    assert listing.output_shapes() == [*shapes, (None, 2)]
    assert counts(summary) == [760, 219_041]
    assert (summary.count_params(), listing.count_params()) == (219_801, 438_842)
    assert (activations(summary), activations(listing)) == (["relu", "sigmoid"], ["relu", "softmax"])


def test_cats_and_dogs_cnn_has_the_articles_number_of_parameters() -> None:
    model = cats_and_dogs_cnn()
    assert counts(model) == [896, 9_248, 802_944, 129]
    assert model.count_params() == 813_217
    assert activations(model) == ["relu", "relu", "relu", "sigmoid"]


def test_batch_normalised_cnn_has_the_filters_that_the_notes_print() -> None:
    model = batch_normalised_cnn()
    printed = []
    for layer in model.layers:
        if "conv" not in layer.name:
            continue
        filters, _ = layer.get_weights()
        printed.append((layer.name, filters.shape))
    assert printed == [
        ("conv2d", (3, 3, 3, 32)),
        ("conv2d_1", (3, 3, 32, 64)),
        ("conv2d_2", (3, 3, 64, 128)),
    ]
    assert model.count_params() == 2_618_446
    assert sum(weight.size for weight in model.non_trainable_weights) == 2 * (3 + 32 + 64 + 128) == 454


def test_simple_cnn_ends_in_1960_numbers() -> None:
    model = simple_cnn()
    shapes = [(None, 37, 37, 10), (None, 17, 17, 20), (None, 7, 7, 40), (None, 1960), (None, 10)]
    assert model.output_shapes() == shapes
    assert counts(model) == [280, 5_020, 20_040, 19_610]


def test_lenet_cnn_begins_with_six_filters_of_5_x_5() -> None:
    model = lenet_cnn()
    assert model.output_shapes()[:5] == [
        (None, 28, 28, 6),
        (None, 14, 14, 6),
        (None, 10, 10, 16),
        (None, 5, 5, 16),
        (None, 400),
    ]
    assert counts(model) == [456, 2_416, 48_120, 10_164, 850]


def test_mlp_shows_what_convolutions_save() -> None:
    assert mlp().count_params() == 2_700_021 > 12 * single_convolution_cnn().count_params()
    dense, convolution = mlp((32, 32, 3), hidden=[28 * 28 * 6], units=10).layers[1], lenet_cnn().layers[0]
    assert dense.count_params() == 14_455_392
    assert convolution.count_params() == 456
    assert np.prod(convolution.compute_output_shape((1, 32, 32, 3))) == 28 * 28 * 6
    assert activations(mlp(units=1)) == ["relu", "sigmoid"]
    assert activations(mlp((2, 2, 1), hidden=(), units=2)) == ["softmax"]


def test_vgg16_two_classes_is_the_notes_listing(monkeypatch: pytest.MonkeyPatch) -> None:
    # Half a gigabyte of random numbers would take longer to draw than all tests here.
    zeros = initializers.Zeros()
    monkeypatch.setattr(initializers.GlorotUniform, "__call__", lambda self, shape, dtype=None: zeros(shape, dtype))
    model = vgg16_two_classes()
    assert model.count_params() == 138_357_544 - (4096 + 1) * (1000 - 2) == 134_268_738
    assert [layer.name for layer in model.layers][:4] == ["conv2d", "conv2d_1", "max_pooling2d", "conv2d_2"]
    assert len(counts(model)) == 16
    assert model.output_shapes()[-5:] == [(None, 7, 7, 512), (None, 25_088), (None, 4096), (None, 4096), (None, 2)]
    assert activations(model) == ["relu"] * 15 + ["softmax"]


@pytest.mark.parametrize(
    ("build", "least"),
    [
        (single_convolution_cnn, 6),
        (cats_and_dogs_cnn, 10),
        (cifar10_cnn, 22),
        (batch_normalised_cnn, 22),
        (simple_cnn, 15),
        (lenet_cnn, 16),
        (vgg16_two_classes, 32),
    ],
)
def test_images_too_small_are_refused(build: Callable[..., Sequential], least: int) -> None:
    with pytest.raises(ValueError):
        build(input_shape=(least - 1, least, 1))
    with pytest.raises(ValueError):
        build(input_shape=(least, least - 1, 1))
    if build is not vgg16_two_classes:  # half a gigabyte
        assert build(input_shape=(least, least, 1)).built


def test_digits_cnn_learns_the_digits() -> None:
    (x_train, y_train), (x_test, y_test) = digits.load_data()
    model = digits_cnn()
    assert model.count_params() == 320 + 18_496 + 131_200 + 1_290
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x_train / np.float32(16), y_train, epochs=5, verbose=0)
    _, accuracy = model.evaluate(x_test / np.float32(16), y_test, verbose=0)
    assert accuracy > 0.93
