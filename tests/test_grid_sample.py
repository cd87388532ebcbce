"""Grids beyond what is compared with PyTorch: second derivatives, layouts, halves, positions that are no numbers."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy as np
import pytest

import pycnn
import pycnn.functional as F
from pycnn import Tensor
from pycnn.layers.augmentation.affine import affine_transform

RNG = np.random.default_rng(5)
WAYS = [(mode, way) for mode in ("bilinear", "bicubic") for way in ("zeros", "border", "reflection")]


@pytest.mark.parametrize(("mode", "padding_mode"), WAYS)
@pytest.mark.parametrize("align_corners", [False, True])
def test_derivatives(mode: str, padding_mode: str, align_corners: bool) -> None:
    """The first and the second, by the input and by the grid, most of which is inside of the image."""
    x = Tensor(RNG.normal(size=(1, 2, 3, 2)), requires_grad=True)
    grid = Tensor(RNG.normal(size=(1, 1, 2, 2)) * 0.7, requires_grad=True)

    def of(x: Tensor, grid: Tensor) -> Tensor:
        return F.grid_sample(x, grid, mode, padding_mode, align_corners)

    assert pycnn.gradcheck(of, (x, grid))
    if not align_corners:  # which changes the scale of positions alone
        assert pycnn.gradgradcheck(of, (x, grid))


def test_derivatives_in_volumes_and_of_maps() -> None:
    x = Tensor(RNG.normal(size=(2, 1, 2, 3, 4)), requires_grad=True)
    theta = Tensor(RNG.normal(size=(2, 3, 4)) * 0.4, requires_grad=True)

    def of(x: Tensor, theta: Tensor) -> Tensor:
        return F.grid_sample(x, F.affine_grid(theta, (2, 1, 2, 2, 3)), padding_mode="border")

    assert pycnn.gradcheck(of, (x, theta))


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_the_layout_of_the_channels_makes_no_difference(mode: str) -> None:
    x, grid = RNG.normal(size=(2, 3, 4, 5)), RNG.normal(size=(2, 3, 2, 2))
    first = F.grid_sample(x, grid, mode)
    last = F.grid_sample(x.transpose(0, 2, 3, 1), grid, mode, data_format="channels_last")
    np.testing.assert_array_equal(last, first.transpose(0, 2, 3, 1))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_are_computed_in_float32(dtype: str) -> None:
    x, grid, theta = (Tensor(RNG.normal(size=shape)).astype(dtype) for shape in ((2, 3, 4, 5), (2, 3, 2, 2), (2, 2, 3)))
    found = F.grid_sample(x, grid, "bicubic")
    assert found.dtype == x.dtype
    exact = F.grid_sample(x.astype("float32"), grid.astype("float32"), "bicubic")
    np.testing.assert_array_equal(found.numpy(), exact.astype(dtype).numpy())
    maps = F.affine_grid(theta, (2, 1, 3, 3))
    np.testing.assert_array_equal(
        maps.numpy(), F.affine_grid(theta.astype("float32"), (2, 1, 3, 3)).astype(dtype).numpy()
    )


def test_the_identity_and_a_shift_by_whole_pixels() -> None:
    x = RNG.normal(size=(2, 3, 4, 5))
    for corners in (False, True):
        for mode in ("bilinear", "nearest", "bicubic"):
            grid = F.affine_grid(np.tile(np.eye(2, 3), (2, 1, 1)), x.shape, corners)
            np.testing.assert_allclose(F.grid_sample(x, grid, mode, align_corners=corners), x, atol=1e-13)
    right = np.array([[[1.0, 0.0, 2 * 2 / 5], [0.0, 1.0, 0.0]]] * 2)  # two of five pixels
    moved = F.grid_sample(x, F.affine_grid(right, x.shape))
    np.testing.assert_allclose(moved[..., :3], x[..., 2:], atol=1e-13)
    np.testing.assert_allclose(moved[..., 3:], 0, atol=1e-13)


@pytest.mark.parametrize(("fill_mode", "padding_mode"), [("constant", "zeros"), ("nearest", "border")])
def test_the_layers_map_is_the_same_in_pixels(fill_mode: str, padding_mode: str) -> None:
    x = RNG.normal(size=(2, 6, 5, 3))
    theta = RNG.normal(size=(2, 2, 3))
    # Of places from -1 to 1 along W and H, which are the pixels 0 to W - 1 and 0 to H - 1.
    to_pixels = np.array([[2.0, 0, 2], [0, 2.5, 2.5], [0, 0, 1]])
    maps = to_pixels @ np.concatenate([theta, [[[0, 0, 1]]] * 2], axis=1) @ np.linalg.inv(to_pixels)
    for mode in ("bilinear", "nearest"):
        grid = F.affine_grid(theta, (2, 3, 6, 5), True)
        expected = F.grid_sample(x, grid, mode, padding_mode, True, data_format="channels_last")
        found = affine_transform(Tensor(x), maps[:, :2], mode, fill_mode, 0.0, "channels_last")
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_positions_that_are_no_numbers_or_far_away(bad: float, dtype: Any) -> None:
    """Nothing is read outside of the image, and there are no warnings; the other positions are what they are."""
    x = RNG.normal(size=(1, 2, 3, 4)).astype(dtype)
    grid = np.array([[[[0.1, 0.2], [bad, 0.1], [0.1, bad]]]], dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for mode, way in itertools.product(("bilinear", "nearest", "bicubic"), ("zeros", "border", "reflection")):
            found = F.grid_sample(x, grid, mode, way)
            np.testing.assert_array_equal(found[..., :1], F.grid_sample(x, grid[:, :, :1], mode, way))
            if way != "zeros" and mode != "bicubic":
                assert np.isfinite(found).all()
            if mode == "nearest" or abs(bad) == 1e30:
                assert way != "zeros" or (found[..., 1:] == 0).all()
    first = F.grid_sample(x, grid, "nearest", "border")[0, :, 0, 1]
    if bad != 1e30 and not bad > 0:
        np.testing.assert_array_equal(first, x[0, :, 1, 0])


def test_what_is_refused() -> None:
    x, grid = np.zeros((2, 3, 4, 5)), np.zeros((2, 1, 1, 2))
    with pytest.raises(ValueError, match=r"grid must have 4 axes .* received the shape \(1, 1, 1, 2\)"):
        F.grid_sample(x, grid[:1])
    with pytest.raises(ValueError, match=r"and 2 coordinates"):
        F.grid_sample(x, np.zeros((2, 1, 1, 3)))
    with pytest.raises(ValueError, match=r"padding_mode must be one of .*'reflection'"):
        F.grid_sample(x, grid, padding_mode="reflect")
    with pytest.raises(ValueError, match="mode 'bicubic' is for images"):
        F.grid_sample(np.zeros((2, 1, 2, 2, 2)), np.zeros((2, 1, 1, 1, 3)), "bicubic")
    with pytest.raises(TypeError, match="grid must have the dtype of the input, float64; received float32"):
        F.grid_sample(x, grid.astype(np.float32))
    with pytest.raises(ValueError, match=r"theta must have the shape \(2, 2, 3\)"):
        F.affine_grid(np.zeros((2, 3, 4)), (2, 3, 4, 5))
    with pytest.raises(ValueError, match="size must have integers of at least 1"):
        F.affine_grid(np.zeros((2, 2, 3)), (2, 3, 0, 5))
