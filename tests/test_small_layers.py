"""Noise, Lambda, Normalization, padding and enlarging beyond what is compared with Keras."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import pycnn
from pycnn import Tensor
from pycnn import layers as L
from pycnn.models import Sequential
from pycnn.utils import set_random_seed

RNG = np.random.default_rng(5)

NOISES = [L.GaussianNoise(0.5), L.GaussianDropout(0.2), L.AlphaDropout(0.2)]


@pytest.mark.parametrize("layer", NOISES)
def test_noise_only_while_training(layer: Any) -> None:
    x = RNG.normal(size=(50, 40)).astype(np.float32)
    np.testing.assert_array_equal(layer(x).numpy(), x)
    assert (layer(x, training=True).numpy() != x).mean() > 0.9
    same = type(layer)(0.0)(x, training=True)
    np.testing.assert_array_equal(same.numpy(), x)


@pytest.mark.parametrize("layer", NOISES)
def test_seeds_of_noise(layer: Any) -> None:
    x, kind, amount = np.ones((8, 5), np.float32), type(layer), 0.5

    def twice(layer: Any) -> list[np.ndarray]:
        return [layer(x, training=True).numpy() for _ in range(2)]

    set_random_seed(1)
    first = twice(layer)
    set_random_seed(1)
    np.testing.assert_array_equal(twice(layer), first)
    own = twice(kind(amount, seed=3))
    pycnn.random.generator().random(5)
    np.testing.assert_array_equal(twice(kind(amount, seed=3)), own)
    assert (own[0] != own[1]).any()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_distributions_of_noise(dtype: str) -> None:
    x = np.full((200, 200), 2.0)

    def of(layer: Any) -> np.ndarray:
        found = layer(x, training=True)
        assert str(found.dtype) == dtype
        return found.numpy().astype(np.float64)

    added = of(L.GaussianNoise(0.5, seed=0, dtype=dtype)) - 2
    multiplied = of(L.GaussianDropout(0.2, seed=0, dtype=dtype)) / 2 - 1
    for noise, deviation in ((added, 0.5), (multiplied, math.sqrt(0.2 / 0.8))):
        assert noise.mean() == pytest.approx(0, abs=0.02)
        assert noise.std() == pytest.approx(deviation, rel=0.02)
        assert (abs(noise) < deviation).mean() == pytest.approx(0.683, abs=0.02)


def test_noise_has_gradients() -> None:
    x = Tensor(RNG.normal(size=(4, 3)), requires_grad=True)
    for kind in (L.GaussianNoise, L.GaussianDropout, L.AlphaDropout):
        layer = kind(0.5, dtype="float64")

        def of(x: Tensor, layer: Any = layer) -> Tensor:
            set_random_seed(3)
            return layer(x, training=True)

        assert pycnn.gradcheck(of, x)


def test_alpha_dropout_keeps_mean_and_variance() -> None:
    """And puts the limit of SELU for negative numbers, -1.758, where it drops; Keras' formula for both."""
    x = RNG.normal(size=(400, 400)).astype(np.float32)
    found = L.AlphaDropout(0.3, seed=0)(x, training=True).numpy()
    assert found.mean() == pytest.approx(0, abs=0.02)
    assert found.std() == pytest.approx(1, abs=0.02)
    limit = -1.6732632423543772 * 1.0507009873554805
    a = (0.7 * (1 + 0.3 * limit**2)) ** -0.5
    b = -a * limit * 0.3
    dropped = np.isclose(found, a * limit + b, rtol=1e-5)
    assert dropped.mean() == pytest.approx(0.3, abs=0.01)
    np.testing.assert_allclose(found[~dropped], (a * x + b)[~dropped], rtol=1e-4, atol=1e-5)


def test_alpha_dropout_of_whole_axes() -> None:
    x = np.ones((30, 6, 5), np.float32)
    found = L.AlphaDropout(0.5, noise_shape=(None, 1, None), seed=0)(x, training=True).numpy()
    np.testing.assert_array_equal(found, np.broadcast_to(found[:, :1], found.shape))
    assert len(np.unique(found)) == 2
    half = L.AlphaDropout(0.5, noise_shape=(None, 1, None), seed=0, dtype="float16")(x, training=True).numpy()
    np.testing.assert_array_equal(half, found.astype(np.float16))
    with pytest.raises(ValueError, match="expected a noise_shape of 3 axes"):
        L.AlphaDropout(0.5, noise_shape=(1, None))(x, training=True)


@pytest.mark.parametrize("kind", [L.GaussianDropout, L.AlphaDropout])
def test_nothing_is_left_of_a_rate_of_one(kind: Any) -> None:
    with pytest.raises(ValueError, match=r"rate: expected a finite number of at least 0 and below 1, received 1\.0"):
        kind(1.0)


def test_lambda_is_told_whether_it_is_training() -> None:
    layer = L.Lambda(lambda x, training: x * (2 if training else 3))
    x = np.ones((1, 2))
    assert layer(x, training=True).numpy().tolist() == [[2, 2]]
    assert layer(x).numpy().tolist() == [[3, 3]]


def test_lambda_in_a_model() -> None:
    model = Sequential([L.Input((4,)), L.Lambda(lambda x: x[:, 1:3] * 2.0), L.Dense(1, kernel_initializer="ones")])
    assert model.predict(np.array([[1, 2, 3, 4]]), verbose=0).tolist() == [[10]]
    x = Tensor(np.ones((2, 4), np.float32), requires_grad=True)
    model(x).sum().backward()
    assert x.grad is not None
    np.testing.assert_array_equal(x.grad.numpy(), [[0, 2, 2, 0]] * 2)


def test_shapes_of_lambda() -> None:
    assert L.Lambda(lambda x: x.reshape(len(x), 6)).compute_output_shape((None, 2, 3)) == (None, 6)
    assert L.Lambda(lambda x: x, output_shape=(6,)).compute_output_shape((None, None, 3)) == (None, 6)
    assert L.Lambda(lambda x: x, output_shape=lambda s: [*s, 1]).compute_output_shape((None, 3)) == (None, 3, 1)
    with pytest.raises(ValueError, match="expected an input shape without None"):
        L.Lambda(lambda x: x).compute_output_shape((None, None, 3))


def test_what_lambda_refuses() -> None:
    with pytest.raises(TypeError, match="expected a function of a tensor, received 3"):
        L.Lambda(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected no mask"):
        L.Lambda(lambda x: x, mask=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected its function to give a tensor, received a ndarray"):
        L.Lambda(lambda x: x.numpy(), output_shape=(2,))(np.ones((1, 2)))


def test_what_normalization_refuses() -> None:
    x = np.ones((4, 3))
    with pytest.raises(ValueError, match="expected both mean and variance or neither"):
        L.Normalization(variance=1.0)
    with pytest.raises(ValueError, match="mean: expected numbers, received 'zero'"):
        L.Normalization(mean="zero", variance="one")
    with pytest.raises(ValueError, match="axis: expected an integer or several, received 'last'"):
        L.Normalization("last")  # type: ignore[arg-type]
    for axis in (0, -2, 2):
        with pytest.raises(ValueError, match="behind that of the batch"):
            L.Normalization(axis)(x)
    with pytest.raises(ValueError, match="of known sizes"):
        L.Normalization(1).build_for((None, None, 3))
    with pytest.raises(ValueError, match="expected no data, for the mean was given"):
        L.Normalization(mean=1.0, variance=1.0).adapt(x)
    layer = L.Normalization()
    for nothing in ([], x[:0], iter(())):
        with pytest.raises(ValueError, match="expected data to adapt to, received none"):
            layer.adapt(nothing)
    with pytest.raises(TypeError, match=r"expected an array or batches that are arrays, received 1\.0"):
        layer.adapt([1.0, 2.0])
    layer.adapt(x)
    with pytest.raises(ValueError, match=r"features \(1, 3\), received input shape \(None, 4\)"):
        layer.adapt(np.ones((4, 4)))
    with pytest.raises(ValueError, match="with 2 axes"):
        layer(np.ones((4, 3, 3)))


def test_normalization_before_and_after_it_adapts() -> None:
    layer = L.Normalization()
    assert (layer.mean, layer.variance) == (None, None)
    x = RNG.normal(size=(3000, 2)).astype(np.float32)
    np.testing.assert_allclose(layer(x).numpy(), x, rtol=1e-6)
    layer.adapt(x * 3 + 1)
    first = layer.get_weights()
    layer.adapt(x)  # which starts anew
    found = layer(x).numpy()
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(found.std(axis=0), 1, rtol=1e-6)
    np.testing.assert_allclose(L.Normalization(mean=first[0], variance=first[1])(x * 3 + 1).numpy(), found, atol=1e-5)
    back = L.Normalization(invert=True)
    back.adapt(x)
    np.testing.assert_allclose(back(found).numpy(), x, atol=1e-5)
    assert not layer.trainable_weights


def test_normalization_in_halves() -> None:
    x = RNG.normal(size=(50, 3)) * 10 + 100
    wide, half = L.Normalization(), L.Normalization(dtype="float16")
    half.adapt(x)
    wide.adapt(x)
    wide.set_weights(half.get_weights())
    x = x.astype(np.float16)
    np.testing.assert_array_equal(half(x).numpy(), wide(x).numpy().astype(np.float16))


@pytest.mark.parametrize(
    "layer",
    [
        L.ZeroPadding1D(2), L.Cropping1D(1), L.UpSampling1D(2), L.ZeroPadding2D((1, (0, 2))), L.Cropping2D(1),
        L.UpSampling2D(2), L.UpSampling2D((2, 1), interpolation="bilinear"), L.ZeroPadding3D(1), L.Cropping3D(),
        L.UpSampling3D((1, 2, 1)),
    ],
)  # fmt: skip
def test_unknown_sizes_empty_batches_bytes_and_halves(layer: Any) -> None:
    rank = int(type(layer).__name__[-2])
    x = RNG.integers(0, 200, (2, *(4, 5, 6)[:rank], 3)).astype(np.uint8)
    found = layer(x)
    assert found.dtype == np.float32
    assert layer(x[:0]).shape == (0, *found.shape[1:])
    assert layer.compute_output_shape((None,) * (rank + 1) + (3,)) == (None,) * (rank + 1) + (3,)
    assert layer.compute_output_shape((7, *x.shape[1:])) == (7, *found.shape[1:])
    half = type(layer)(**settings_of(layer), dtype="float16")(x)
    np.testing.assert_array_equal(half.numpy(), found.numpy().astype(np.float16))
    kept = type(layer)(**settings_of(layer), autocast=False)(x)
    assert kept.dtype == np.uint8
    if settings_of(layer).get("interpolation") != "bilinear":
        np.testing.assert_array_equal(kept.numpy(), found.numpy())


def settings_of(layer: Any) -> dict[str, Any]:
    names = ("padding", "cropping", "size", "interpolation")
    return {name: layer.__dict__[name] for name in names if name in layer.__dict__}


def test_borders_are_kept_as_keras_keeps_them() -> None:
    assert L.ZeroPadding1D(2).padding == (2, 2)
    assert L.Cropping1D([2, 1]).cropping == (2, 1)
    assert L.ZeroPadding2D((1, [0, 2])).padding == ((1, 1), (0, 2))
    assert L.Cropping3D(1).cropping == ((1, 1),) * 3
    assert L.UpSampling1D(3).size == 3
    assert L.UpSampling2D(3).size == (3, 3)
    with pytest.raises(ValueError, match=r"cropping: expected an integer of at least 0, 2 such integers, or 2 pairs"):
        L.Cropping2D((1, -1))
    with pytest.raises(
        ValueError, match=r"expected more than 4 elements along axis 2, .* input shape \(None, 9, 4, 3\)"
    ):
        L.Cropping2D((1, 2))(np.zeros((1, 9, 4, 3)))
    with pytest.raises(ValueError, match=r"interpolation: expected one of 'nearest', 'bilinear', 'bicubic'"):
        L.UpSampling2D(interpolation="lanczos3")
