"""The optimizers' kernels over several steps against the oracle."""

from __future__ import annotations

import numpy as np
import pytest

from pycnn_kernels.cpu.optimizer import PIECE
from pycnn_kernels.plan import plan_for
from pycnn_kernels.problem import UpdateProblem
from tests import reference as oracle
from tests.kernels.problems import DTYPES, each_number_of_threads, numbers

SIZES = [0, 1, 7, 16, 33, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 5]
STEPS = 4


def gradients(size: int, dtype: str) -> list[np.ndarray]:
    return [numbers((size,), dtype, seed) for seed in range(1, STEPS + 1)]


def run_adam(w: np.ndarray, grads: list[np.ndarray], rate: float, beta_1: float, beta_2: float, epsilon: float) -> None:
    m, v = np.zeros_like(w), np.zeros_like(w)
    plan = plan_for("adam", UpdateProblem(w.dtype.name, w.size))
    for t, g in enumerate(grads, start=1):
        corrected = rate * np.sqrt(1 - beta_2**t) / (1 - beta_1**t)
        assert plan.run(g, updated=(w, m, v), scalars=(corrected, beta_1, beta_2, epsilon)) == ()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
def test_adam(size: int, dtype: str) -> None:
    w, grads = numbers((size,), dtype), gradients(size, dtype)
    settings = (0.01, 0.9, 0.999, 1e-7)
    expected = oracle.adam(w, grads, *settings)
    run_adam(w, grads, *settings)
    oracle.assert_close(w, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_adam_with_other_settings(dtype: str) -> None:
    w, grads = numbers((50,), dtype), gradients(50, dtype)
    settings = (0.3, 0.0, 0.5, 0.1)
    expected = oracle.adam(w, grads, *settings)
    run_adam(w, grads, *settings)
    oracle.assert_close(w, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
def test_sgd(size: int, momentum: float, nesterov: bool, dtype: str) -> None:
    w, grads = numbers((size,), dtype), gradients(size, dtype)
    expected = oracle.sgd(w, grads, 0.05, momentum, nesterov)
    velocity = np.zeros_like(w) if momentum else None
    plan = plan_for("sgd", UpdateProblem(dtype, size))
    for g in grads:
        plan.run(g, updated=(w, velocity), scalars=(0.05, momentum, nesterov))
    oracle.assert_close(w, expected)


def test_a_nan_gradient_spoils_its_own_weight_only() -> None:
    w, g = numbers((20,), "float32"), numbers((20,), "float32", 1)
    g[3] = np.nan
    run_adam(w, [g], 0.1, 0.9, 0.999, 1e-7)
    np.testing.assert_array_equal(np.isnan(w), np.arange(20) == 3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_threads_do_not_change_the_bits(dtype: str) -> None:
    results = []
    for _ in each_number_of_threads():
        w = numbers((5 * PIECE + 3,), dtype)
        run_adam(w, gradients(w.size, dtype), 0.01, 0.9, 0.999, 1e-7)
        results.append(w)
    for w in results:
        np.testing.assert_array_equal(w, results[0])
