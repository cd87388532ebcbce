"""pycnn.signal on the GPU gives what it gives on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pycnn import Tensor, signal


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "complex64"])
@pytest.mark.parametrize(
    ("mode", "boundary", "fillvalue"),
    [("full", "fill", 0), ("same", "symm", 0), ("valid", "wrap", 0), ("full", "fill", 3)],
)
def test_modes_and_boundaries(
    device: Any, rng: np.random.Generator, dtype: str, mode: str, boundary: str, fillvalue: int
) -> None:
    image, kernel = (rng.integers(0, 200, shape).astype(dtype) for shape in ((2, 5, 6), (3, 2)))
    expected = signal.convolve2d(image, kernel, mode, boundary, fillvalue)
    found = signal.convolve2d(device.xp.asarray(image), device.xp.asarray(kernel), mode, boundary, fillvalue)
    assert device.is_array(found)
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found.get(), expected, rtol=1e-6)


def test_gradients(device: Any, rng: np.random.Generator) -> None:
    image, kernel = rng.standard_normal((5, 6)), rng.standard_normal((3, 2))
    gradients = []
    for backend in ("cpu", "cuda"):
        x, w = (Tensor(a, requires_grad=True, backend=backend) for a in (image, kernel))
        signal.correlate2d(x, w, boundary="wrap").sum().backward()
        gradients.append([t.grad.to("cpu").numpy() for t in (x, w)])
    for cpu, gpu in zip(*gradients):
        np.testing.assert_allclose(gpu, cpu, rtol=1e-9)


def test_arrays_of_two_places_do_not_meet(device: Any) -> None:
    with pytest.raises(TypeError, match="in2 must be on the backend of the input, 'cuda'"):
        signal.correlate2d(device.xp.asarray(np.ones((4, 4))), np.ones((2, 2)))
