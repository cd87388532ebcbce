"""Elements by their positions on the GPU: unpooling, picking, and fractional pooling."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pycnn_kernels.cuda import planes
from pycnn_kernels.plan import plan_for
from pycnn_kernels.problem import FractionalPoolProblem, PlanesProblem
from tests import reference as oracle
from tests.cuda.sass import ARCHITECTURES, sass, spills
from tests.kernels.problems import DTYPES, LAYOUTS, numbers, run_on_host

#: Images, channels, pixels that are read and that are written: more than a warp takes at once, none at all.
SIZES = [(2, 3, 70, 9), (1, 9, 5, 40), (0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5), (1, 1, 40, 3)]


def _planes_first(array: np.ndarray, layout: str) -> np.ndarray:
    return np.moveaxis(array, -1, 1) if layout == "channels_last" else array


def _put(p: PlanesProblem, x: np.ndarray, index: np.ndarray, adds: bool) -> np.ndarray:
    y = np.zeros(p.shape(p.written), np.float64)
    x, index, planes = (_planes_first(array, p.layout) for array in (x, index, y))
    for n, c, i in np.ndindex(*x.shape):
        at = index[n, c, i]
        if at >= 0:
            planes[n, c, at] = x[n, c, i] + (planes[n, c, at] if adds else 0)
    return y


@pytest.mark.parametrize("adds", [False, True], ids=["put", "put_sums"])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_put(device: Any, dtype: str, layout: Any, size: tuple[int, int, int, int], adds: bool) -> None:
    p = PlanesProblem(dtype, layout, *size)
    x, index = numbers(p.shape(p.read), dtype), np.random.default_rng(0).integers(-1, p.written, p.shape(p.read))
    (y,) = run_on_host(plan_for("put_sums" if adds else "put", p, backend="cuda"), x, index)
    oracle.assert_close(y, _put(p, x, index, adds))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_at_one_position(device: Any, layout: Any) -> None:
    """The last of the pixels stays; sums have the bits of adding in the order of the pixels."""
    p = PlanesProblem("float32", layout, 1, 2, 67, 3)
    x, index = numbers(p.shape(67), "float32"), np.full(p.shape(67), 2)
    lines = _planes_first(x, layout)
    total = np.zeros((1, 2), np.float32)
    for i in range(67):
        total += lines[:, :, i]
    (y,) = run_on_host(plan_for("put", p, backend="cuda"), x, index)
    np.testing.assert_array_equal(_planes_first(y, layout)[:, :, 2], lines[:, :, -1])
    (sums,) = run_on_host(plan_for("put_sums", p, backend="cuda"), x, index)
    np.testing.assert_array_equal(_planes_first(sums, layout)[:, :, 2], total)
    assert not _planes_first(sums, layout)[:, :, :2].any()


@pytest.mark.parametrize("size", [(2, 3, 9, 70), (1, 5, 40, 5), (0, 3, 4, 5), (2, 3, 4, 0)], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_pick(device: Any, dtype: str, layout: Any, size: tuple[int, int, int, int]) -> None:
    p = PlanesProblem(dtype, layout, *size)
    x, index = numbers(p.shape(p.read), dtype), np.random.default_rng(0).integers(-1, p.read, p.shape(p.written))
    (y,) = run_on_host(plan_for("pick", p, backend="cuda"), x, index)
    axis = 1 if layout == "channels_last" else 2
    expected = np.where(index < 0, 0, np.take_along_axis(x, np.maximum(index, 0), axis))
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("N", "C"), [(2, 3), (1, 1), (0, 2), (2, 0)])
def test_fractional_windows(device: Any, N: int, C: int, dtype: str, layout: Any) -> None:
    p = FractionalPoolProblem(dtype, layout, N, C, (3, 4, 5), (1, 2, 2), (2, 2, 3), 3)
    x, random = numbers(p.x_shape, dtype), np.random.default_rng(1)
    lines = _planes_first(x, layout)
    lines[:, :, 0, 1, 1] = lines[:, :, 1, 2, 2] = 4  # equals
    lines[:1, :1, 2, 3, 4] = np.nan
    starts = np.sort(np.concatenate([random.integers(0, 3, (N, C, 4)), random.integers(0, 4, (N, C, 3))], 2), axis=2)
    starts[:, :, 3] = 2
    starts[:, :, 2] = 0
    starts[:, :, 1] = 2
    y, index = run_on_host(plan_for("fractional_max_pool", p, backend="cuda"), x, starts)
    for n, c, *o in np.ndindex(N, C, *p.output):
        corner = [int(starts[n, c, before + i]) for before, i in zip((0, 2, 4), o)]
        window = lines[n, c][tuple(slice(first, first + k) for first, k in zip(corner, p.kernel))]
        best = np.unravel_index(np.argmax(window), window.shape)  # the first NaN, or the first of the greatest
        at = tuple(first + i for first, i in zip(corner, best))
        np.testing.assert_array_equal(_planes_first(y, layout)[(n, c, *o)], lines[(n, c, *at)])
        assert _planes_first(index, layout)[(n, c, *o)] == np.ravel_multi_index(at, p.size)


def test_more_elements_than_are_counted_in_32_bits_are_refused() -> None:
    assert planes.supports(PlanesProblem("float32", "channels_last", 2, 1 << 10, 5, 1 << 20)) is not None
    fractional = FractionalPoolProblem("float32", "channels_last", 1 << 15, 1 << 16, (1, 2, 2), (1, 2, 2), (1, 1, 1))
    assert planes.fractional_supports(fractional) is not None


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_compiled(architecture: str) -> None:
    assert not spills(sass(planes.put_kernel.variant("float32", adds=True), architecture))


def test_others_compiled() -> None:
    for variant in (
        planes.put_kernel.variant("float64", adds=False),
        planes.pick_kernel.variant("float32"),
        planes.fractional_max_pool_kernel.variant("float32", flat=False),
    ):
        assert not spills(sass(variant))
