"""Layers that pad, crop, enlarge and change images, and grids, on the GPU: the values and gradients of the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pycnn.functional as F
from pycnn import Tensor
from pycnn import layers as L

X = np.random.default_rng(0).standard_normal((3, 5, 4, 2)).astype(np.float32)

LAYERS: dict[str, tuple[type[L.Layer], dict[str, Any]]] = {
    "flip": (L.RandomFlip, {"seed": 1}),
    "rotation": (L.RandomRotation, {"factor": 0.3, "seed": 1}),
    "rotation, constant": (L.RandomRotation, {"factor": 0.3, "seed": 1, "fill_mode": "constant", "fill_value": 2.0}),
    "translation, nearest": (L.RandomTranslation, {"height_factor": 0.5, "width_factor": 0.5, "seed": 1,
                                                   "fill_mode": "nearest", "interpolation": "nearest"}),
    "zoom, wrap": (L.RandomZoom, {"height_factor": 0.5, "seed": 1, "fill_mode": "wrap"}),
    "zoom, channels first": (L.RandomZoom, {"height_factor": 0.5, "seed": 1, "data_format": "channels_first"}),
    "crop": (L.RandomCrop, {"height": 3, "width": 2, "seed": 1}),
    "brightness": (L.RandomBrightness, {"factor": 0.5, "value_range": (-2, 2), "seed": 1}),
    "contrast": (L.RandomContrast, {"factor": 0.5, "value_range": (-2, 2), "seed": 1}),
    "resizing": (L.Resizing, {"height": 3, "width": 7, "crop_to_aspect_ratio": True}),
    "normalization": (L.Normalization, {"mean": [1.0, 2.0], "variance": [3.0, 4.0]}),
    "noise": (L.GaussianNoise, {"stddev": 0.5, "seed": 1}),
    "gaussian dropout": (L.GaussianDropout, {"rate": 0.5, "seed": 1}),
    "alpha dropout": (L.AlphaDropout, {"rate": 0.5, "seed": 1}),
    "padding": (L.ZeroPadding2D, {"padding": ((1, 0), (0, 2))}),
    "cropping": (L.Cropping2D, {"cropping": ((1, 0), (0, 2))}),
    "enlarging": (L.UpSampling2D, {"size": (2, 3)}),
    "enlarging, bilinear": (L.UpSampling2D, {"size": (2, 3), "interpolation": "bilinear"}),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_values_and_gradients_are_those_of_the_cpu(name: str, device: Any) -> None:
    kind, arguments = LAYERS[name]
    found = []
    for place in ("cpu", "cuda"):
        x = Tensor(X, requires_grad=True, backend=place)
        y = kind(**arguments)(x, training=True)
        assert y.backend.name == place
        (y * y).sum().backward()
        found.append([Tensor(each).to("cpu").detach().numpy() for each in (y, x.grad)])
    for cpu, cuda in zip(*found):
        np.testing.assert_allclose(cuda, cpu, rtol=1e-5, atol=1e-5)


def test_normalization_adapts_where_the_data_are(device: Any) -> None:
    x = np.random.default_rng(1).standard_normal((2000, 3)).astype(np.float32)
    found = []
    for place in ("cpu", "cuda"):
        layer = L.Normalization()
        layer.adapt(Tensor(x, backend=place))
        y = layer(Tensor(x, backend=place))
        assert y.backend.name == place
        found.append([*layer.get_weights(), y.to("cpu").numpy()])
    for cpu, cuda in zip(*found):
        np.testing.assert_allclose(cuda, cpu, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
def test_grids(device: Any, mode: str, padding_mode: str) -> None:
    theta = np.random.default_rng(1).standard_normal((3, 2, 3)).astype(np.float32)
    found = []
    for place in ("cpu", "cuda"):
        x, maps = (Tensor(each, requires_grad=True, backend=place) for each in (X, theta))
        grid = F.affine_grid(maps, (3, 2, 4, 3), True)
        y = F.grid_sample(x, grid, mode, padding_mode, data_format="channels_last")
        assert y.backend.name == place
        (y * y).sum().backward()
        assert (maps.grad is None) == (mode == "nearest")
        wanted = [y, x.grad] if maps.grad is None else [y, x.grad, maps.grad]
        found.append([Tensor(each).to("cpu").detach().numpy() for each in wanted])
    for cpu, cuda in zip(*found):
        np.testing.assert_allclose(cuda, cpu, rtol=1e-4, atol=1e-4)
