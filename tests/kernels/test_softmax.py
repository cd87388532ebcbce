"""Softmax, its logarithm and its cross-entropy, row by row, against the oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pycnn_kernels.plan import plan_for
from pycnn_kernels.problem import RowsProblem
from tests import reference as oracle
from tests.kernels.problems import DTYPES, each_number_of_threads, numbers

SHAPES = [(0, 4), (1, 1), (1, 10), (3, 17), (50, 10), (2, 5000), (3000, 3)]
ORACLES = {"softmax": oracle.softmax, "log_softmax": oracle.log_softmax}


def run(operation: str, x: np.ndarray) -> np.ndarray:
    (y,) = plan_for(operation, RowsProblem(x.dtype.name, *x.shape)).run(x)
    return y


def run_cross_entropy(x: np.ndarray, labels: Any, ignore: int = -100, smoothing: float = 0.0) -> Any:
    plan = plan_for("cross_entropy", RowsProblem(x.dtype.name, *x.shape))
    return plan.run(x, np.asarray(labels, np.int64), scalars=(ignore, smoothing))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("operation", ORACLES)
@pytest.mark.parametrize("shape", SHAPES)
def test_softmax(operation: str, shape: tuple[int, int], dtype: str) -> None:
    x = 5 * numbers(shape, dtype)
    if x.size:
        oracle.assert_close(run(operation, x), ORACLES[operation](x))
    assert run(operation, x).shape == shape


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("offset", [-1e4, 0, 1e4])
def test_large_logits_do_not_overflow(offset: float, dtype: str) -> None:
    x = (np.array([[-700, 0, 500]]) + offset).astype(dtype)
    np.testing.assert_allclose(run("softmax", x), [[0, 0, 1]], atol=1e-30)
    np.testing.assert_allclose(run("log_softmax", x), [[-1200, -500, 0]], rtol=1e-5)


#: What the logits have in common, and the least that they differ by beside it.
FAR_OFF = [("float64", 1e12, 1.0), ("float64", -1e15, 1.0), ("float32", 1e9, 64.0), ("float32", 1e15, 2.0**27)]


@pytest.mark.parametrize(("dtype", "offset", "step"), FAR_OFF)
def test_what_logits_have_in_common_costs_no_digits(dtype: str, offset: float, step: float) -> None:
    near = np.array([[0, -3, 0, -1, -2], [-5, -1, -2, -1, -9], [0, 0, 0, 0, 0]]) * step
    x = (near + offset).astype(dtype)
    near = x.astype(np.float64) - offset  # rounded as x is
    near -= near.max(axis=1, keepdims=True)
    oracle.assert_close(run("log_softmax", x), oracle.log_softmax(near))
    labels = np.array([3, 1, 4])
    for smoothing in (0.0, 0.1):
        losses, _ = run_cross_entropy(x, labels, smoothing=smoothing)
        oracle.assert_close(losses, oracle.cross_entropy(near, labels, smoothing=smoothing))


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_row_of_softmax_sums_to_1(dtype: str) -> None:
    total = run("softmax", numbers((64, 33), dtype)).sum(axis=1)
    np.testing.assert_allclose(total, 1, rtol=1e-6 if dtype == "float32" else 1e-14)


def test_a_class_with_no_chance() -> None:
    x = np.array([[0, -np.inf, 0]], np.float32)
    np.testing.assert_array_equal(run("softmax", x), [[0.5, 0, 0.5]])
    assert run("log_softmax", x)[0, 1] == -np.inf


@pytest.mark.parametrize("operation", ORACLES)
@pytest.mark.parametrize("values", [np.nan, np.inf])
def test_a_nan_fills_its_row_and_no_other(operation: str, values: float) -> None:
    x = numbers((3, 7), "float32")
    x[1, 4] = values
    y = run(operation, x)
    np.testing.assert_array_equal(np.isnan(y).any(axis=1), [False, True, False])


def test_a_nan_row_is_nan_throughout() -> None:
    x = numbers((1, 7), "float32")
    x[0, 0] = np.nan
    assert np.isnan(run("softmax", x)).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape[0]])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_cross_entropy(shape: tuple[int, int], smoothing: float, dtype: str) -> None:
    x = 3 * numbers(shape, dtype)
    labels = np.random.default_rng(1).integers(0, shape[1], shape[0])
    losses, p = run_cross_entropy(x, labels, smoothing=smoothing)
    bound = 2e-6 if dtype == "float32" else 1e-13
    oracle.assert_close(losses, oracle.cross_entropy(x, labels, smoothing=smoothing), bound)
    oracle.assert_close(p, oracle.softmax(x))


def test_ignored_rows_cost_nothing() -> None:
    x = numbers((4, 3), "float64")
    losses, _ = run_cross_entropy(x, [0, -1, 2, -1], ignore=-1, smoothing=0.2)
    oracle.assert_close(losses, oracle.cross_entropy(x, np.array([0, -1, 2, -1]), ignore=-1, smoothing=0.2))
    assert losses[1] == losses[3] == 0


def test_a_class_with_no_chance_costs_infinity_only_where_it_is_the_label() -> None:
    x = np.array([[0, -np.inf], [0, -np.inf]], np.float64)
    losses, _ = run_cross_entropy(x, [0, 1])
    np.testing.assert_array_equal(losses, [0, np.inf])


@pytest.mark.parametrize("dtype", DTYPES)
def test_neither_runs_nor_threads_change_the_bits(dtype: str) -> None:
    x = numbers((700, 33), dtype)
    labels = np.arange(700) % 33
    plain = [run("softmax", x), *run_cross_entropy(x, labels)]
    for _ in each_number_of_threads():
        for found, expected in zip([run("softmax", x), *run_cross_entropy(x, labels)], plain):
            np.testing.assert_array_equal(found, expected)
