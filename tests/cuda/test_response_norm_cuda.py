"""Local response normalisation and its gradient on the GPU against the oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pycnn_kernels.cuda import response_norm
from pycnn_kernels.cuda.launch import MOST_ELEMENTS, Variant
from pycnn_kernels.cuda.response_norm import response_norm_gradient_kernel, response_norm_kernel
from pycnn_kernels.plan import plan_for
from pycnn_kernels.problem import ChannelsProblem
from tests import reference as oracle
from tests.cuda.sass import ARCHITECTURES, count, sass, spills
from tests.kernels.problems import DTYPES, numbers, run_on_host

Shape = tuple[int, int, int]

#: (outer, channels, inner): inner is 1 in channels last. Four channels at a time, four pixels, and single elements;
#: more than a block; and nothing.
SHAPES = [(0, 3, 1), (2, 0, 5), (2, 3, 0), (1, 1, 1), (7, 10, 1), (3, 16, 1), (2, 5, 7), (2, 6, 12), (70, 20, 1)]

#: alpha, beta and k: AlexNet's, with a larger alpha so that it matters; roots; any power, and a power of nothing.
SETTINGS = [(1.0, 0.75, 2.0), (0.3, 0.5, 1.0), (2.0, 1.3, 0.5), (0.5, -1.0, 1.0), (1.0, 0.0, 1.0)]


def run(x: np.ndarray, size: int, *settings: float) -> np.ndarray:
    plan = plan_for("response_norm", ChannelsProblem(x.dtype.name, *x.shape), backend="cuda")
    return run_on_host(plan, x, scalars=(size, *settings))[0]


def run_gradient(dy: np.ndarray, x: np.ndarray, size: int, *settings: float) -> np.ndarray:
    plan = plan_for("response_norm_gradient", ChannelsProblem(x.dtype.name, *x.shape), backend="cuda")
    return run_on_host(plan, dy, x, scalars=(size, *settings))[0]


def check(shape: Shape, dtype: str, size: int, *settings: float) -> None:
    x, dy = 2 * numbers(shape, dtype), numbers(shape, dtype, 1)
    last_x, last_dy = (np.moveaxis(array, 1, -1) for array in (x, dy))
    y, dx = (np.moveaxis(found, 1, -1) for found in (run(x, size, *settings), run_gradient(dy, x, size, *settings)))
    oracle.assert_close(y, oracle.response_normalisation(last_x, size, *settings))
    oracle.assert_close(dx, oracle.response_normalisation_gradient(last_dy, last_x, size, *settings))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_response_norm(device: Any, shape: Shape, dtype: str) -> None:
    check(shape, dtype, 5, *SETTINGS[0])


@pytest.mark.parametrize("settings", SETTINGS[1:])
@pytest.mark.parametrize("shape", [(3, 8, 1), (1, 6, 4), (1, 5, 3)])
def test_powers(device: Any, shape: Shape, settings: tuple[float, ...]) -> None:
    check(shape, "float32", 5, *settings)


@pytest.mark.parametrize("shape", [(2, 12, 1), (1, 6, 8), (1, 7, 3)])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 6, 11, 12, 16, 17, 40])
def test_windows(device: Any, size: int, shape: Shape) -> None:
    """Of even and odd sizes, larger than all channels, and than what kernels are compiled for."""
    check(shape, "float64", size, *SETTINGS[0])


@pytest.mark.parametrize("beta", [0.75, 0.5, 1.25])
@pytest.mark.parametrize("shape", [(3, 9, 1), (3, 12, 1), (3, 9, 4)])
def test_a_nan_fills_its_windows_and_no_others(device: Any, shape: Shape, beta: float) -> None:
    x = numbers(shape, "float32")
    x[1, 4, 0] = np.nan
    expected = np.zeros(shape, bool)
    expected[1, 3:7, 0] = True  # two before a channel belong to its window, and one behind it
    np.testing.assert_array_equal(np.isnan(run(x, 4, 1.0, beta, 1.0)), expected)
    expected[1, 1:8, 0] = True  # and those whose windows hold one of these
    np.testing.assert_array_equal(np.isnan(run_gradient(np.ones_like(x), x, 4, 1.0, beta, 1.0)), expected)


@pytest.mark.parametrize("beta", [0.75, 0.5, 1.25])
def test_divisors_of_zero_and_below(device: Any, beta: float) -> None:
    x = np.array([0, 0, 3], np.float32).reshape(1, 3, 1)
    assert np.isnan(run(x, 1, 1.0, beta, 0.0)[0, :2]).all()  # 0 / 0
    assert np.isnan(run(x, 1, 1.0, beta, -1.0)[0, :2]).all()
    assert run(np.ones((1, 1, 1), np.float32), 1, 0.0, beta, 0.0)[0, 0, 0] == np.inf


def test_elements_that_32_bits_do_not_count() -> None:
    assert response_norm.elements_fit(ChannelsProblem("float32", MOST_ELEMENTS // 3, 3)) is None
    more = ChannelsProblem("float32", MOST_ELEMENTS // 3 + 1, 3)
    assert "arrays of at most" in str(response_norm.elements_fit(more))


_LAST, _FIRST = ({"vector": 4, "across": across, "size": 5, "beta": 0.75} for across in (True, False))


@pytest.mark.parametrize(
    ("variant", "architecture", "loads"),
    [
        # A thread's own vector and what its windows need of those around it; a vector of each channel of a window.
        *((response_norm_kernel.variant("float32", **_LAST), architecture, 3) for architecture in ARCHITECTURES),
        (response_norm_kernel.variant("float32", **_FIRST), "sm_90a", 5),
        (response_norm_gradient_kernel.variant("float32", **_LAST), "sm_90a", 7),
    ],
)
def test_compiled(variant: Variant, architecture: str, loads: int) -> None:
    text = sass(variant, architecture)
    assert not spills(text)
    assert count(text, r"LDG") == loads
    assert count(text, r"STG\.E\.128") == 1
