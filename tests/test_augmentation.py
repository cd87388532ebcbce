"""Layers that change images at random: what is drawn, and how; the maps themselves are compared with Keras'."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

import pycnn
from pycnn import Tensor
from pycnn import layers as L
from pycnn.layers.augmentation.affine import affine_transform
from pycnn.models import Sequential
from pycnn.utils import set_random_seed

RNG = np.random.default_rng(5)

#: A layer of each class with a range to draw from.
LAYERS: dict[str, tuple[type[L.Layer], dict[str, Any]]] = {
    "flip": (L.RandomFlip, {}),
    "rotation": (L.RandomRotation, {"factor": 0.3}),
    "translation": (L.RandomTranslation, {"height_factor": 0.3, "width_factor": (0.1, 0.4)}),
    "zoom": (L.RandomZoom, {"height_factor": 0.3}),
    "brightness": (L.RandomBrightness, {"factor": 0.3, "value_range": (-3, 3)}),
    "contrast": (L.RandomContrast, {"factor": 0.9, "value_range": (-3, 3)}),
}


def made(name: str, **more: Any) -> Any:
    kind, arguments = LAYERS[name]
    return kind(**arguments, **more)


def images(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def extended(image: np.ndarray, mode: str, fill: float) -> np.ndarray:
    """An image that goes on outside of itself, by NumPy, for 30 pixels on all sides."""
    name = {"reflect": "symmetric", "nearest": "edge"}.get(mode, mode)
    more: Any = {"constant_values": fill} if mode == "constant" else {}
    return np.pad(image, ((30, 30), (30, 30), (0, 0)), mode=name, **more)


@pytest.mark.parametrize("mode", ["constant", "reflect", "wrap", "nearest"])
@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
def test_affine_map_pixel_by_pixel(mode: str, interpolation: str) -> None:
    x = RNG.normal(size=(2, 4, 5, 2))
    matrices = RNG.normal(size=(2, 2, 3)) + np.eye(2, 3)
    found = affine_transform(Tensor(x), matrices, interpolation, mode, 0.5, "channels_last").numpy()
    around = [extended(image, mode, 0.5) for image in x]
    for n, h, w in itertools.product(range(2), range(4), range(5)):
        column, row = matrices[n] @ [w, h, 1] + 30
        if interpolation == "nearest":
            expected = around[n][round(row), round(column)]
        else:
            expected = np.zeros(2)
            for i, j in itertools.product((0, 1), (0, 1)):
                weight = abs(1 - i - row + math.floor(row)) * abs(1 - j - column + math.floor(column))
                expected = expected + weight * around[n][math.floor(row) + i, math.floor(column) + j]
        np.testing.assert_allclose(found[n, h, w], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mode", ["constant", "reflect", "wrap", "nearest"])
@pytest.mark.parametrize("layout", ["channels_last", "channels_first"])
def test_gradient_of_an_affine_map(mode: str, layout: Any) -> None:
    x = Tensor(RNG.normal(size=(2, 3, 4, 3)), requires_grad=True)
    matrices = RNG.normal(size=(2, 2, 3)) + np.eye(2, 3)

    def of(x: Tensor) -> Tensor:
        return affine_transform(x, matrices, "bilinear", mode, 0.5, layout)

    assert pycnn.gradcheck(of, x)
    assert pycnn.gradgradcheck(of, x)


def test_gradient_of_flips() -> None:
    layer = L.RandomFlip(dtype="float64")

    def of(x: Tensor) -> Tensor:
        set_random_seed(3)
        return layer(x, training=True)

    assert pycnn.gradcheck(of, Tensor(RNG.normal(size=(6, 2, 3, 1)), requires_grad=True))


@pytest.mark.parametrize("name", LAYERS)
def test_only_while_training(name: str) -> None:
    x = images(8, 6, 5, 2)
    layer = made(name)
    np.testing.assert_array_equal(layer(x, training=False).numpy(), x)
    assert (layer(x, training=True).numpy() != x).any()
    assert (layer(x).numpy() != x).any(), "called alone, it changes images, as in Keras"


@pytest.mark.parametrize("name", LAYERS)
def test_each_image_is_drawn_for(name: str) -> None:
    x = np.repeat(images(1, 6, 5, 2), 16, axis=0)
    found = made(name)(x, training=True).numpy()
    kinds = len(np.unique(found.reshape(16, -1), axis=0))
    assert kinds > 1 if name == "flip" else kinds == 16


@pytest.mark.parametrize("name", LAYERS)
def test_seeds(name: str) -> None:
    """The library's seed, or the layer's own, whose sequence does not depend on others'; each call draws anew."""
    x = images(8, 6, 5, 2)

    def calls(layer: Any) -> list[np.ndarray]:
        return [layer(x, training=True).numpy() for _ in range(2)]

    set_random_seed(1)
    first = calls(made(name))
    set_random_seed(1)
    np.testing.assert_array_equal(calls(made(name)), first)
    own = calls(made(name, seed=7))
    pycnn.random.generator().random(5)
    np.testing.assert_array_equal(calls(made(name, seed=7)), own)
    assert (own[0] != own[1]).any()


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_layouts_single_images_and_empty_batches(name: str, data_format: str) -> None:
    x = images(4, 6, 5, 2)
    last = made(name, seed=2)(x, training=True).numpy()
    layer = made(name, seed=2, data_format=data_format)
    y = x.transpose(0, 3, 1, 2) if data_format == "channels_first" else x
    found = layer(y, training=True).numpy()
    np.testing.assert_array_equal(found.transpose(0, 2, 3, 1) if data_format == "channels_first" else found, last)
    alone = made(name, seed=2, data_format=data_format)(y[0], training=True)
    np.testing.assert_array_equal(alone.numpy(), made(name, seed=2, data_format=data_format)(y[:1], training=True)[0])
    assert layer(y[:0], training=True).shape == (0, *y.shape[1:])


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_dtypes(name: str, dtype: str) -> None:
    """The halves are computed in float32 and rounded once; bytes become the layer's dtype."""
    x = RNG.integers(0, 200, (4, 6, 5, 2)).astype(np.uint8)
    exact = made(name, seed=2)(x, training=True)
    found = made(name, seed=2, dtype=dtype)(x, training=True)
    assert exact.dtype == np.float32
    if dtype == "float64":
        np.testing.assert_allclose(found.numpy(), exact.numpy(), rtol=1e-5, atol=1e-4)
    else:
        np.testing.assert_array_equal(found.numpy(), exact.astype(dtype).numpy())


def test_flips_are_drawn_for_each_direction() -> None:
    x = np.repeat(np.arange(4, dtype=np.float32).reshape(1, 2, 2, 1), 4000, axis=0)
    orders, counts = np.unique(
        L.RandomFlip(seed=0)(x, training=True).numpy().reshape(4000, 4), axis=0, return_counts=True
    )
    np.testing.assert_array_equal(orders, [[0, 1, 2, 3], [1, 0, 3, 2], [2, 3, 0, 1], [3, 2, 1, 0]])
    assert abs(counts / 4000 - 0.25).max() < 0.03
    for mode, order in (("horizontal", [1, 0, 3, 2]), ("vertical", [2, 3, 0, 1])):
        found = L.RandomFlip(mode, seed=0)(x, training=True).numpy().reshape(4000, 4)
        np.testing.assert_array_equal(np.unique(found, axis=0), [[0, 1, 2, 3], order])
        assert abs((found == order).all(axis=1).mean() - 0.5) < 0.03


def test_infinities_do_not_spread_by_flips() -> None:
    x = np.array([np.inf, np.nan, 1.0], np.float32).reshape(1, 1, 3, 1).repeat(8, axis=0)
    found = L.RandomFlip(seed=0)(x, training=True).numpy()
    assert np.isfinite(found).sum() == 8


@pytest.mark.parametrize(
    ("factor", "least", "most"), [(0.25, -0.25, 0.25), (-0.25, -0.25, 0.25), ((0.5, -0.125), -0.125, 0.5)]
)
def test_ranges(factor: Any, least: float, most: float) -> None:
    """Uniform within the range, the numbers of which may come in any order; the matrices say what was drawn."""
    N, H, W = 5000, 8, 16
    turned = L.RandomRotation(factor, seed=0).matrices(N, H, W)
    moved = L.RandomTranslation(factor, factor, seed=0).matrices(N, H, W)
    zoomed = L.RandomZoom(factor, factor, seed=0).matrices(N, H, W)
    both = L.RandomZoom(factor, seed=0).matrices(N, H, W)
    np.testing.assert_array_equal(both[:, 0, 0], both[:, 1, 1])
    assert (zoomed[:, 0, 0] != zoomed[:, 1, 1]).all()
    drawn = {
        "turns": np.arctan2(turned[:, 1, 0], turned[:, 0, 0]) / (2 * math.pi),
        "rows": -moved[:, 1, 2] / H,
        "columns": -moved[:, 0, 2] / W,
        "width": zoomed[:, 0, 0] - 1,
        "height": zoomed[:, 1, 1] - 1,
    }
    for name, values in drawn.items():
        assert least <= values.min() < values.max() <= most, name
        expected = np.linspace(least, most, 9)
        np.testing.assert_allclose(np.quantile(values, np.linspace(0, 1, 9)), expected, atol=0.02, err_msg=name)


@pytest.mark.parametrize(
    ("layer", "least", "most"),
    [
        (L.RandomBrightness(0.25, (0, 8), seed=0), -2, 2),
        (L.RandomBrightness((0.5, -0.25), (8, 0), seed=0), -2, 4),
        (L.RandomContrast(0.25, seed=0), 0.75, 1.25),
        (L.RandomContrast((0.25, 0.5), seed=0), 0.75, 1.5),
    ],
)
def test_ranges_of_tones(layer: Any, least: float, most: float) -> None:
    """Of images with the pixels 3 and 5, whose mean is 4: their sum and their difference say what was drawn."""
    x = np.tile(np.array([3.0, 5.0]), (5000, 1)).reshape(5000, 1, 2, 1)
    found = type(layer)(layer.factor, (-1000, 1000), seed=0)(x, training=True).numpy()[:, 0, :, 0]
    scale = (layer.value_range[1] - layer.value_range[0]) / 2000
    if isinstance(layer, L.RandomBrightness):
        drawn = (found.mean(axis=1) - 4) * scale
    else:
        np.testing.assert_allclose(found.mean(axis=1), 4, rtol=1e-6)
        drawn = (found[:, 1] - found[:, 0]) / 2
    expected = np.linspace(least, most, 9)
    np.testing.assert_allclose(np.quantile(drawn, np.linspace(0, 1, 9)), expected, atol=0.02 * (most - least) + 1e-3)


def test_tones_stay_in_their_range() -> None:
    x = RNG.uniform(0, 255, (4, 5, 5, 3))
    for layer in (L.RandomBrightness(1.0, seed=0), L.RandomContrast(1.0, seed=0)):
        found = layer(x, training=True).numpy()
        assert (found.min(), found.max()) == (0, 255)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_crops(data_format: Any) -> None:
    """Of every place, one for a batch; the middle one of the largest outside training and of small images."""
    x = np.arange(2 * 5 * 6, dtype=np.float32).reshape(2, 5, 6, 1)
    y = x.transpose(0, 3, 1, 2) if data_format == "channels_first" else x
    layer = L.RandomCrop(3, 4, seed=0, data_format=data_format)
    firsts = set()
    for _ in range(200):
        found = layer(y, training=True).numpy()
        found = found.transpose(0, 2, 3, 1) if data_format == "channels_first" else found
        top, left = divmod(int(found[0, 0, 0, 0]), 6)
        np.testing.assert_array_equal(found, x[:, top : top + 3, left : left + 4])
        firsts.add((top, left))
    assert firsts == set(itertools.product(range(3), range(3)))
    same = L.Resizing(3, 4, crop_to_aspect_ratio=True, data_format=data_format)(y).numpy()
    np.testing.assert_array_equal(layer(y, training=False).numpy(), same)
    larger = L.RandomCrop(7, 4, data_format=data_format)(y, training=True).numpy()
    same = L.Resizing(7, 4, crop_to_aspect_ratio=True, data_format=data_format)(y).numpy()
    np.testing.assert_array_equal(larger, same)
    assert (
        layer.compute_output_shape((None, *y.shape[1:]))[1:]
        == found[0].transpose((2, 0, 1) if data_format == "channels_first" else (0, 1, 2)).shape
    )


@pytest.mark.parametrize("layer", [L.Resizing(3, 2), L.CenterCrop(3, 2), L.CenterCrop(7, 2), L.RandomCrop(3, 2)])
def test_sizes_of_single_images_empty_batches_and_bytes(layer: Any) -> None:
    x = RNG.integers(0, 200, (2, 5, 6, 3)).astype(np.uint8)
    found = layer(x, training=False)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(layer(x[0], training=False).numpy(), found.numpy()[0])
    assert layer(x[:0]).shape == (0, *found.shape[1:])
    half = type(layer)(layer.height, layer.width, dtype="float16")(x, training=False)
    np.testing.assert_array_equal(half.numpy(), found.astype("float16").numpy())


def test_in_a_model() -> None:
    """Each step of training draws anew, the same in each run; evaluation and prediction see the images as they are."""
    x, y = RNG.integers(0, 256, (24, 8, 8, 1)).astype(np.uint8), RNG.integers(0, 2, 24)

    def trained(with_augmentation: bool = True) -> tuple[Sequential, list[float]]:
        set_random_seed(4)
        head = [L.Rescaling(1 / 255), L.Conv2D(4, 3, activation="relu"), L.Flatten(), L.Dense(2, activation="softmax")]
        random_layers = [made(name) for name in ("flip", "rotation", "translation", "zoom")]
        model = Sequential([L.Input((8, 8, 1)), *(random_layers if with_augmentation else []), *head])
        model.compile("sgd", "sparse_categorical_crossentropy")
        return model, model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0).history["loss"]

    (model, losses), (again, same), (plain, others) = trained(), trained(), trained(False)
    assert losses == same
    assert losses != others
    np.testing.assert_array_equal(model.predict(x, verbose=0), again.predict(x, verbose=0))
    plain.set_weights(model.get_weights())
    np.testing.assert_array_equal(model.predict(x, verbose=0), plain.predict(x, verbose=0))


def test_bytes_that_are_not_cast_are_refused() -> None:
    layer = L.RandomRotation(0.5, autocast=False)
    with pytest.raises(TypeError, match="images must hold float16, bfloat16, float32 or float64; received uint8"):
        layer(np.zeros((1, 4, 4, 1), np.uint8), training=True)


def test_what_was_given_is_kept() -> None:
    layer = L.RandomZoom((0.5, -0.5), None, "wrap", "nearest", 3, 0.25, "channels_first")
    assert (layer.height_factor, layer.width_factor) == ((0.5, -0.5), None)
    assert (layer.fill_mode, layer.interpolation, layer.seed) == ("wrap", "nearest", 3)
    assert (layer.fill_value, layer.data_format) == (0.25, "channels_first")
    assert L.RandomRotation(0.25).factor == (-0.25, 0.25)


@pytest.mark.parametrize("name", LAYERS)
def test_inputs_that_are_no_images(name: str) -> None:
    with pytest.raises(ValueError, match=r"expected images, 4 axes .* received input shape \(None, 5\)"):
        made(name)(images(4, 5))


def test_unknown_names_name_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"mode: .*'horizontal'"):
        L.RandomFlip("horisontal")
    with pytest.raises(ValueError, match=r"fill_mode: .*'reflect'"):
        L.RandomRotation(0.5, "reflekt")
    with pytest.raises(ValueError, match=r"factor: expected two numbers, \(lower, upper\), received \[0.5\]"):
        L.RandomRotation([0.5])
    with pytest.raises(ValueError, match="fill_value: expected a finite number, received inf"):
        L.RandomRotation(0.5, fill_value=math.inf)
