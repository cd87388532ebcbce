"""Layers that pad, crop, enlarge and change images at random on the GPU: the values and gradients of the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

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
