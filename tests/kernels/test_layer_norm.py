"""Layer normalisation and its gradients, row by row, against the oracle."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycnn_kernels.plan import plan_for
from pycnn_kernels.problem import RowsProblem
from tests import reference as oracle
from tests.kernels.problems import DTYPES, HALVES, each_number_of_threads, numbers

EPS = 1e-5

#: Around blocks of 1024 elements of a sum; and rows that are longer than a cache.
SHAPES = [
    (0, 4), (1, 1), (5, 1), (1, 10), (3, 17), (50, 10), (3, 1023), (3, 1024), (2, 1025), (2, 5000),
    (3000, 3), (2, 300_000),
]  # fmt: skip


def run(x: np.ndarray, *parameters: np.ndarray | None, eps: float = EPS) -> tuple[Any, ...]:
    """y and the statistics."""
    return plan_for("layer_norm", RowsProblem(x.dtype.name, *x.shape)).run(x, *parameters, scalars=(eps,))


def run_gradient(
    dy: np.ndarray, x: np.ndarray, weight: np.ndarray | None, eps: float = EPS, skip: tuple[str, ...] = ()
) -> tuple[Any, ...]:
    _, statistics = run(x, eps=eps)
    plan = plan_for("layer_norm_gradient", RowsProblem(x.dtype.name, *x.shape))
    return plan.run(dy, x, weight, statistics, skip=skip)


def arrays(rows: int, columns: int, dtype: str) -> list[np.ndarray]:
    """x, dy, weight and bias."""
    shapes = [(rows, columns), (rows, columns), (columns,), (columns,)]
    x, *others = (numbers(shape, dtype, seed) for seed, shape in enumerate(shapes))
    return [3 * x + 1, *others]


def check(rows: int, columns: int, dtype: str, weighted: bool, biased: bool) -> None:
    x, dy, weight, bias = arrays(rows, columns, dtype)
    w, b = weight if weighted else None, bias if biased else None
    oracle.assert_close(run(x, w, b)[0], oracle.layer_normalisation(x, w, b, EPS))
    expected = oracle.layer_normalisation_gradients(dy, x, w, EPS)
    # Where nearly all of a gradient cancels, as for rows of one element, its terms tell how much it is rounded.
    spreads = [oracle.normal_row(row, EPS)[1] for row in x.astype(np.float64)]
    largest = np.abs(dy).max(initial=1) * np.abs(weight).max(initial=1) / min(spreads, default=1)
    for found, other, least in zip(run_gradient(dy, x, w), expected, (largest, 1, 1)):
        oracle.assert_close(found, other, least=least)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_layer_norm(shape: tuple[int, int], dtype: str) -> None:
    for weighted, biased in itertools.product((False, True), repeat=2):
        check(*shape, dtype, weighted, biased)


@given(st.integers(0, 70), st.integers(1, 70), st.sampled_from(DTYPES), st.booleans(), st.booleans())
def test_any_shape(rows: int, columns: int, dtype: str, weighted: bool, biased: bool) -> None:
    check(rows, columns, dtype, weighted, biased)


@pytest.mark.parametrize("rows", [0, 4])
def test_rows_of_nothing(rows: int) -> None:
    x, dy, weight, bias = arrays(rows, 0, "float32")
    assert run(x, weight, bias)[0].shape == (rows, 0)
    assert [found.shape for found in run_gradient(dy, x, weight)] == [(rows, 0), (0,), (0,)]


@pytest.mark.parametrize("offset", [0, 1e2, 1e4, -1e6])
@pytest.mark.parametrize("columns", [3, 1000, 50_000])
def test_small_deviations_from_a_large_mean(columns: int, offset: float) -> None:
    """A variance from the mean of squares would be noise, and so would deviations from a mean in float32."""
    deviation = max(1e-2, 4 * np.spacing(np.float32(abs(offset))))
    x = (offset + deviation * numbers((4, columns), "float64")).astype(np.float32)
    dy, weight = numbers((4, columns), "float32", 1), numbers((columns,), "float32", 2)
    eps = 1e-12
    y, statistics = run(x, eps=eps)
    oracle.assert_close(y, oracle.layer_normalisation(x, eps=eps))
    np.testing.assert_allclose(1 / statistics[:, 1].astype(np.float64) ** 2, x.astype(np.float64).var(1), rtol=1e-5)
    expected = oracle.layer_normalisation_gradients(dy, x, weight, eps)
    for found, other in zip(run_gradient(dy, x, weight, eps), expected):
        oracle.assert_close(found, other, 1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [0.0, 0.1, -1e4, 1e15])
def test_rows_of_equal_numbers(value: float, dtype: str) -> None:
    x = np.full((2, 3001), value, dtype)
    y, statistics = run(x)
    np.testing.assert_allclose(y, 0, atol=1e-6)
    np.testing.assert_allclose(statistics[:, 1], EPS**-0.5, rtol=1e-5)


def test_no_deviation_and_no_eps() -> None:
    """0 over 0, not the root of a negative number nor an error."""
    assert np.isnan(run(np.full((1, 4), 3, np.float32), eps=0.0)[0]).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_fills_its_row_and_no_other(value: float) -> None:
    x, dy, weight, bias = arrays(3, 40, "float32")
    x[1, 4] = value
    np.testing.assert_array_equal(np.isnan(run(x, weight, bias)[0]).sum(axis=1), [0, 40, 0])
    np.testing.assert_array_equal(np.isnan(run_gradient(dy, x, weight)[0]).sum(axis=1), [0, 40, 0])


@pytest.mark.parametrize("wanted", [{"dx"}, {"dweight"}, {"dbias"}, {"dx", "dbias"}, {"dweight", "dbias"}])
def test_gradients_that_nobody_wants(wanted: set[str]) -> None:
    x, dy, weight, _ = arrays(70, 33, "float32")
    names = ("dx", "dweight", "dbias")
    found = run_gradient(dy, x, weight, skip=tuple(name for name in names if name not in wanted))
    for name, gradient, other in zip(names, found, run_gradient(dy, x, weight)):
        assert (gradient is not None) == (name in wanted)
        if gradient is not None:
            np.testing.assert_array_equal(gradient, other)


@pytest.mark.parametrize("half", HALVES)
def test_halves(half: str) -> None:
    """Rounded once; the statistics are not rounded to halves."""
    x, dy, weight, bias = arrays(20, 33, half)
    wide = [array.astype(np.float64) for array in (x, dy, weight, bias)]
    y, statistics = run(x, weight, bias)
    assert statistics.dtype == np.float32
    oracle.assert_rounded(y, oracle.layer_normalisation(wide[0], *wide[2:], EPS))
    expected = oracle.layer_normalisation_gradients(wide[1], wide[0], wide[2], EPS)
    for found, other in zip(run_gradient(dy, x, weight), expected):
        oracle.assert_rounded(found, other)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(700, 33), (5, 3000)])
def test_neither_runs_nor_threads_change_the_bits(shape: tuple[int, int], dtype: str) -> None:
    x, dy, weight, bias = arrays(*shape, dtype)
    plain = [*run(x, weight, bias), *run_gradient(dy, x, weight)]
    for _ in each_number_of_threads():
        for found, expected in zip([*run(x, weight, bias), *run_gradient(dy, x, weight)], plain, strict=True):
            np.testing.assert_array_equal(found, expected)


def rms_oracle(dy: np.ndarray, x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> list[np.ndarray]:
    """y and the gradients of root mean square normalisation, a row at a time in float64."""
    dy, x, weight, bias = (each.astype(np.float64) for each in (dy, x, weight, bias))
    y, dx, dweight = np.zeros_like(x), np.zeros_like(x), np.zeros_like(weight)
    for row, grad, out, into in zip(x, dy, y, dx):
        size = np.sqrt(np.mean(row * row) + EPS)
        out[:] = row / size * weight + bias
        into[:] = grad * weight / size - row * np.mean(grad * weight * row) / size**3
        dweight += grad * row / size
    return [y, dx, dweight, dy.sum(0)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0, 4), (1, 10), (3, 17), (50, 10), (2, 1025)])
def test_rms_norm(shape: tuple[int, int], dtype: str) -> None:
    """Whatever the mean: it is not subtracted."""
    x, dy, weight, bias = arrays(*shape, dtype)
    p = RowsProblem(dtype, *shape)
    y, statistics = plan_for("rms_norm", p).run(x, weight, bias, scalars=(EPS,))
    np.testing.assert_array_equal(statistics[:, [0, 2]], 0)
    gradients = plan_for("rms_norm_gradient", p).run(dy, x, weight, statistics)
    for found, other in zip((y, *gradients), rms_oracle(dy, x, weight, bias), strict=True):
        oracle.assert_close(found, other)
