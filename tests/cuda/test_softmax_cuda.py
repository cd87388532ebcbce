"""Softmax and cross-entropy on the GPU against float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pycnn_kernels.cuda.softmax import cross_entropy_kernel, softmax_kernel
from pycnn_kernels.plan import plan_for
from pycnn_kernels.problem import RowsProblem
from tests import reference as oracle
from tests.cuda.sass import ARCHITECTURES, sass, spills
from tests.kernels.problems import DTYPES, numbers, run_on_host

#: Teams of some lanes, of which a block has more than there are rows; of a warp; and of a block.
SHAPES = [(1, 1), (3, 10), (2, 33), (9, 300), (2, 700), (0, 4), (3, 0)]


def _softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x.astype(np.float64) - x.max(axis=1, keepdims=True, initial=-np.inf))
    return e / e.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_softmax(device: Any, dtype: str, shape: tuple[int, int]) -> None:
    p, x = RowsProblem(dtype, *shape), 4 * numbers(shape, dtype)
    oracle.assert_close(run_on_host(plan_for("softmax", p, backend="cuda"), x)[0], _softmax(x))
    expected = np.log(_softmax(x)) if x.size else x
    oracle.assert_close(run_on_host(plan_for("log_softmax", p, backend="cuda"), x)[0], expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("smoothing", [0, 0.1])
def test_cross_entropy(device: Any, dtype: str, smoothing: float) -> None:
    x, labels = 4 * numbers((5, 70), dtype), np.array([0, 69, -100, 3, 3])
    plan = plan_for("cross_entropy", RowsProblem(dtype, 5, 70), backend="cuda")
    losses, p = run_on_host(plan, x, labels, scalars=(-100, smoothing))
    expected = _softmax(x)
    target = np.full((5, 70), smoothing / 70)
    target[np.arange(5), labels % 70] += 1 - smoothing
    oracle.assert_close(p, expected)
    oracle.assert_close(losses, np.where(labels == -100, 0, -(target * np.log(expected)).sum(axis=1)))


@pytest.mark.parametrize(("dtype", "offset", "step"), [("float64", 1e15, 1.0), ("float32", 1e9, 64.0)])
def test_what_logits_have_in_common_costs_no_digits(device: Any, dtype: str, offset: float, step: float) -> None:
    near = np.array([[0, -3, 0, -1, -2], [0, 0, 0, 0, 0]]) * step
    p, x = RowsProblem(dtype, 2, 5), (near + offset).astype(dtype)
    expected = oracle.log_softmax(near)
    oracle.assert_close(run_on_host(plan_for("log_softmax", p, backend="cuda"), x)[0], expected)
    plan = plan_for("cross_entropy", p, backend="cuda")
    losses, _ = run_on_host(plan, x, np.array([3, 1]), scalars=(-100, 0))
    oracle.assert_close(losses, -expected[[0, 1], [3, 1]])


def test_nan_and_infinity_flow_through(device: Any) -> None:
    x = np.zeros((3, 40), np.float32)
    x[0, 33], x[1, 2], x[2, 39] = np.nan, -np.inf, np.inf
    found = run_on_host(plan_for("softmax", RowsProblem("float32", 3, 40), backend="cuda"), x)[0]
    assert np.isnan(found[0]).all()
    assert found[1, 2] == 0
    assert found[1].sum() == pytest.approx(1)
    assert np.isnan(found[2, 39])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_compiled(architecture: str) -> None:
    for variant in (
        softmax_kernel.variant("float32", threads=256, team=256, logarithm=False),
        cross_entropy_kernel.variant("float64", threads=128, team=16),
    ):
        assert not spills(sass(variant, architecture))
