"""Losses between numbers and targets, their sums and gradients, against Python's own functions number by number."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from pycnn_kernels.cpu.loss import BLOCK, PIECE
from pycnn_kernels.losses import LOSSES, loss_formula
from pycnn_kernels.plan import plan_for
from pycnn_kernels.problem import LossProblem
from tests import reference as oracle
from tests.kernels.problems import DTYPES, each_number_of_threads, numbers

PARAMETER = 0.7


def _log_of_one_and_exp(x: float) -> float:
    return max(x, 0) + math.log1p(math.exp(-abs(x)))


def _log(x: float) -> float:
    return max(math.log(x), -100) if x else -100


def _stirling(t: float) -> float:
    return t * math.log(t) - t + math.log(2 * math.pi * t) / 2 if t > 1 else 0


#: Of x, t and the parameter, in float64.
ORACLES: dict[str, Callable[[float, float, float], float]] = {
    "squared_error": lambda x, t, p: (x - t) ** 2,
    "absolute_error": lambda x, t, p: abs(x - t),
    "huber": lambda x, t, p: (x - t) ** 2 / 2 if abs(x - t) <= p else p * (abs(x - t) - p / 2),
    "smooth_l1": lambda x, t, p: (x - t) ** 2 / (2 * p) if abs(x - t) < p else abs(x - t) - p / 2,
    "binary_cross_entropy": lambda x, t, p: -t * _log(x) - (1 - t) * (math.log1p(-x) if x < 1 else -100),
    "logistic": lambda x, t, p: t * _log_of_one_and_exp(-x) + (1 - t) * _log_of_one_and_exp(x),
    "divergence": lambda x, t, p: (t * math.log(t) if t else 0) - t * x,
    "log_divergence": lambda x, t, p: math.exp(t) * (t - x),
    "poisson": lambda x, t, p: x - t * math.log(x + p),
    "log_poisson": lambda x, t, p: math.exp(x) - t * x,
    "full_poisson": lambda x, t, p: x - t * math.log(x + p) + _stirling(t),
    "full_log_poisson": lambda x, t, p: math.exp(x) - t * x + _stirling(t),
    "gaussian": lambda x, t, p: (math.log(t) + x * x / t) / 2,
    "soft_margin": lambda x, t, p: _log_of_one_and_exp(-t * x),
    "hinge_embedding": lambda x, t, p: (max(0, p - x) if t != 1 else 0) + (x if t != -1 else 0),
    "margin_ranking": lambda x, t, p: max(0, p - t * x),
}

assert ORACLES.keys() == LOSSES.keys()
PROBABILITIES, COUNTS, SIGNS = ("binary_cross_entropy",), ("poisson", "full_poisson"), ("hinge", "margin")


def operands(name: str, size: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """x and t such as the loss is made for."""
    x, t = (2 * numbers((size,), dtype, seed) for seed in range(2))
    if name in PROBABILITIES or name == "logistic":
        t = np.abs(t) / (1 + np.abs(t))
    if name in PROBABILITIES:
        x = np.abs(x) / (1 + np.abs(x))
    if name in COUNTS:
        x = np.abs(x)
    if name in ("divergence", "gaussian") or "poisson" in name:
        t = np.abs(t) + np.asarray(0.1, dtype)
    if any(part in name for part in SIGNS):
        t = np.sign(t)
    return x.astype(dtype), t.astype(dtype)


def expected(name: str, x: np.ndarray, t: np.ndarray) -> np.ndarray:
    parameter = float(np.asarray(PARAMETER, x.dtype))
    return np.array([ORACLES[name](float(a), float(b), parameter) for a, b in zip(x, t)], np.float64)


def losses(name: str, x: np.ndarray, t: np.ndarray) -> np.ndarray:
    return plan_for("loss", LossProblem(x.dtype.name, name, x.size)).run(x, t, scalars=(PARAMETER,))[0]


def total(name: str, x: np.ndarray, t: np.ndarray, factor: float) -> np.ndarray:
    problem = LossProblem(x.dtype.name, name, x.size, summed=True)
    return plan_for("loss_sum", problem).run(x, t, scalars=(factor, PARAMETER))[0]


def gradient(name: str, dy: np.ndarray, x: np.ndarray, t: np.ndarray, operand: int, factor: float | None = None):  # type: ignore[no-untyped-def]
    problem = LossProblem(x.dtype.name, name, x.size, factor is not None, operand)
    scalars = (PARAMETER,) if factor is None else (factor, PARAMETER)
    return plan_for("loss_gradient", problem).run(dy, x, t, scalars=scalars)[0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LOSSES)
def test_values_and_sums(name: str, dtype: str) -> None:
    for size in (1, 37, BLOCK + 3):
        x, t = operands(name, size, dtype)
        exact = expected(name, x, t)
        oracle.assert_close(losses(name, x, t), exact)
        found, bound = total(name, x, t, 0.25), {"float32": 3e-7, "float64": 1e-15}[dtype]
        assert found.shape == (1,)
        assert found.dtype == dtype
        assert abs(found[0] - exact.sum() / 4) <= bound * np.abs(exact).sum() / 4


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_the_slopes_of_the_values(name: str) -> None:
    """By central differences, away from kinks; of the losses one by one and of their sum."""
    x, t = operands(name, 41, "float64")
    dy, step = numbers((41,), "float64", 2), 1e-6
    for operand, formula in enumerate(LOSSES[name].gradients):
        if formula is None:
            continue
        moved = [[x + sign * step, t] if operand == 0 else [x, t + sign * step] for sign in (1, -1)]
        slope = (expected(name, *moved[0]) - expected(name, *moved[1])) / (2 * step)
        np.testing.assert_allclose(gradient(name, dy, x, t, operand), dy * slope, rtol=1e-6, atol=1e-7)
        of_sum = gradient(name, dy[:1], x, t, operand, 0.5)
        np.testing.assert_allclose(of_sum, dy[0] * 0.5 * slope, rtol=1e-6, atol=1e-7)
        halves = [each.astype(np.float32) for each in (dy, x, t)]
        oracle.assert_close(gradient(name, *halves, operand), gradient(name, dy, x, t, operand), 1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_sums_lose_nothing(dtype: str) -> None:
    """Of more than one piece of work, whose last block is not whole."""
    x, t = (numbers((3 * PIECE + BLOCK + 5,), dtype, seed) for seed in range(2))
    d = x.astype(np.float64) - t
    found = total("squared_error", x, t, 1 / x.size)[0]
    assert abs(found - (d * d).mean()) <= {"float32": 1e-7, "float64": 1e-15}[dtype] * (d * d).mean()
    dx = gradient("squared_error", np.ones(1, dtype), x, t, 0, 1 / x.size)
    oracle.assert_close(dx, 2 * d / x.size)
    oracle.assert_close(losses("squared_error", x, t), d * d)


def test_the_sum_of_nothing() -> None:
    nothing = np.empty(0, np.float32)
    assert losses("huber", nothing, nothing).shape == (0,)
    np.testing.assert_array_equal(total("huber", nothing, nothing, 1.0), [0])
    np.testing.assert_array_equal(total("huber", nothing, nothing, math.nan), [math.nan])
    assert gradient("huber", np.ones(1, np.float32), nothing, nothing, 0, 1.0).shape == (0,)


@pytest.mark.parametrize("dtype", DTYPES)
def test_neither_runs_nor_threads_change_the_bits(dtype: str) -> None:
    x, t = (np.abs(numbers((5 * PIECE + 77,), dtype, seed)) for seed in range(2))

    def run() -> list[np.ndarray]:
        dx = [gradient("divergence", x[:1], x, t, 1, 0.1), gradient("divergence", x, x, t, 0)]
        return [losses("divergence", x, t), total("divergence", x, t, 0.1), *dx]

    plain = run()
    for _ in each_number_of_threads():
        for found, before in zip(run(), plain):
            np.testing.assert_array_equal(found, before)


@pytest.mark.parametrize("name", [name for name in LOSSES if not any(part in name for part in SIGNS)])
def test_nan_and_no_other_element(name: str) -> None:
    x, t = operands(name, 20, "float32")
    x[3], t[11] = math.nan, math.nan
    found = np.isnan(losses(name, x, t))
    assert np.flatnonzero(found).tolist() == [3, 11]
    assert np.isnan(total(name, x, t, 1.0)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_logarithm(dtype: str) -> None:
    """By way of the gaussian loss at 0, half of it: of all sizes, subnormal ones, and next to 1."""
    limits = np.finfo(dtype)
    t = np.concatenate([
        np.exp2(np.linspace(np.log2(limits.smallest_subnormal), limits.maxexp - 1, 4000)),
        1 + np.arange(-50, 50) * limits.eps, np.linspace(0.4, 2.5, 3000), [limits.smallest_normal],
    ]).astype(dtype)  # fmt: skip
    exact = np.array([math.log(float(each)) / 2 for each in t])
    error = np.abs(losses("gaussian", np.zeros_like(t), t) - exact)
    assert (error <= 1.1 * np.spacing(np.abs(exact).astype(dtype))).all()
    special = np.array([0, -0.0, -1, math.inf, -math.inf, math.nan], dtype)
    x = special - np.asarray(PARAMETER, dtype)  # to which the loss adds it again
    np.testing.assert_array_equal(
        losses("poisson", x, np.full_like(x, -1)), [-math.inf, -math.inf, math.nan, math.inf, math.nan, math.nan]
    )


def test_probabilities_of_0_and_1_cost_100() -> None:
    x, t = np.array([0, 1, 0, 1, 1e-8, 1e-30], np.float32), np.array([0, 1, 1, 0, 0, 1], np.float32)
    np.testing.assert_allclose(
        losses("binary_cross_entropy", x, t), [0, 0, 100, 100, 1e-8, -math.log(np.float32(1e-30))], rtol=1e-6
    )
    assert not gradient("binary_cross_entropy", np.ones(2, np.float32), x[:2], t[:2], 0).any()


def test_names_that_there_are_not() -> None:
    with pytest.raises(ValueError, match="hinge_embedding has no gradient for its target"):
        loss_formula("hinge_embedding", 1)
