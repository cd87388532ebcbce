"""Local response normalisation and its gradient against the oracle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycnn_kernels.plan import plan_for
from pycnn_kernels.problem import ChannelsProblem
from tests import reference as oracle
from tests.kernels.problems import DTYPES, HALVES, each_number_of_threads, numbers

#: (outer, channels, inner): inner is 1 in channels last. Pixels around those that are worked on together, and more
#: channels than these.
SHAPES = [
    (0, 3, 1), (2, 0, 5), (2, 3, 0), (1, 1, 1), (7, 10, 1), (300, 64, 1), (2, 5, 35), (4, 17, 9), (2, 3, 1023),
    (1, 2, 1024), (2, 3, 1025), (1, 2500, 1), (2, 1500, 3), (1, 300, 170),
]  # fmt: skip

#: alpha, beta and k: AlexNet's, with a larger alpha so that it matters; roots; any power, and a power of nothing.
SETTINGS = [(1.0, 0.75, 2.0), (0.3, 0.5, 1.0), (2.0, 1.3, 0.5), (0.5, -1.0, 1.0), (1.0, 0.0, 1.0)]


def run(x: np.ndarray, size: int, *settings: float) -> np.ndarray:
    plan = plan_for("response_norm", ChannelsProblem(x.dtype.name, *x.shape))
    return plan.run(x, scalars=(size, *settings))[0]


def run_gradient(dy: np.ndarray, x: np.ndarray, size: int, *settings: float) -> np.ndarray:
    plan = plan_for("response_norm_gradient", ChannelsProblem(x.dtype.name, *x.shape))
    return plan.run(dy, x, scalars=(size, *settings))[0]


def check(shape: tuple[int, int, int], dtype: str, size: int, *settings: float) -> None:
    x, dy = 2 * numbers(shape, dtype), numbers(shape, dtype, 1)
    last_x, last_dy = (np.moveaxis(array, 1, -1) for array in (x, dy))
    y, dx = (np.moveaxis(found, 1, -1) for found in (run(x, size, *settings), run_gradient(dy, x, size, *settings)))
    oracle.assert_close(y, oracle.response_normalisation(last_x, size, *settings))
    oracle.assert_close(dx, oracle.response_normalisation_gradient(last_dy, last_x, size, *settings))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_response_norm(shape: tuple[int, int, int], dtype: str) -> None:
    for settings in SETTINGS:
        check(shape, dtype, 5, *settings)


@pytest.mark.parametrize("shape", [(3, 6, 1), (2, 6, 20), (1, 6, 1500)])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 6, 11, 12, 13, 40])
def test_windows(size: int, shape: tuple[int, int, int]) -> None:
    """Of even and odd sizes, and larger than all channels."""
    check(shape, "float64", size, *SETTINGS[0])


@given(
    st.tuples(st.integers(1, 5), st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from(DTYPES),
    st.integers(1, 9),
    st.sampled_from(SETTINGS),
)
def test_any_shape(shape: tuple[int, int, int], dtype: str, size: int, settings: tuple[float, ...]) -> None:
    check(shape, dtype, size, *settings)


@pytest.mark.parametrize("beta", [0.75, 0.5, 1.25])
@pytest.mark.parametrize("shape", [(3, 9, 1), (3, 9, 7)])
def test_a_nan_fills_its_windows_and_no_others(shape: tuple[int, int, int], beta: float) -> None:
    x = numbers(shape, "float32")
    x[1, 4, 0] = np.nan
    expected = np.zeros(shape, bool)
    expected[1, 3:7, 0] = True  # two before a channel belong to its window, and one behind it
    np.testing.assert_array_equal(np.isnan(run(x, 4, 1.0, beta, 1.0)), expected)
    expected[1, 1:8, 0] = True  # and those whose windows hold one of these
    np.testing.assert_array_equal(np.isnan(run_gradient(np.ones_like(x), x, 4, 1.0, beta, 1.0)), expected)


@pytest.mark.parametrize("beta", [0.75, 0.5, 1.25])
def test_divisors_of_zero_and_below(beta: float) -> None:
    x = np.array([0, 0, 3], np.float32).reshape(1, 3, 1)
    assert np.isnan(run(x, 1, 1.0, beta, 0.0)[0, :2]).all()  # 0 / 0
    assert np.isnan(run(x, 1, 1.0, beta, -1.0)[0, :2]).all()
    assert run(np.ones((1, 1, 1), np.float32), 1, 0.0, beta, 0.0)[0, 0, 0] == np.inf


@pytest.mark.parametrize("half", HALVES)
def test_halves(half: str) -> None:
    x, dy = numbers((3, 9, 7), half), numbers((3, 9, 7), half, 1)
    last_x, last_dy = (np.moveaxis(array, 1, -1).astype(np.float64) for array in (x, dy))
    settings = (5, *SETTINGS[0])
    y, dx = (np.moveaxis(found, 1, -1) for found in (run(x, *settings), run_gradient(dy, x, *settings)))
    oracle.assert_rounded(y, oracle.response_normalisation(last_x, *settings))
    oracle.assert_rounded(dx, oracle.response_normalisation_gradient(last_dy, last_x, *settings))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3000, 17, 1), (4, 96, 300), (1, 3, 9000)])
def test_neither_runs_nor_threads_change_the_bits(shape: tuple[int, int, int], dtype: str) -> None:
    x, dy = numbers(shape, dtype), numbers(shape, dtype, 1)
    settings = (5, *SETTINGS[0])
    plain = [run(x, *settings), run_gradient(dy, x, *settings)]
    for _ in each_number_of_threads():
        for found, expected in zip([run(x, *settings), run_gradient(dy, x, *settings)], plain):
            np.testing.assert_array_equal(found, expected)
