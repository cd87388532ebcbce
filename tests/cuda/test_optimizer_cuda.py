"""Optimizer steps on the GPU against the same formulas in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pycnn_kernels.cuda import optimizer
from pycnn_kernels.cuda.optimizer import step_kernel
from pycnn_kernels.plan import plan_for
from pycnn_kernels.problem import UpdatesProblem
from tests import reference as oracle
from tests.cuda.sass import ARCHITECTURES, sass, spills
from tests.kernels.problems import DTYPES, numbers, run_on_host

#: One of several pieces, one of none, and two that leave threads without work.
SHAPES = ((500,), (0, 3), (3, 5), (1,))


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizer._Step.__init__, "__defaults__", (300,))


def _arrays(dtype: str, kinds: int) -> list[list[np.ndarray]]:
    """So many arrays of each parameter, none below 0, as a running mean of squares is."""
    return [[np.abs(numbers(shape, dtype, 10 * kind + i)) for i, shape in enumerate(SHAPES)] for kind in range(kinds)]


def _run(operation: str, dtype: str, arrays: list[list[np.ndarray]], *scalars: float) -> None:
    """g first, then what changes."""
    g, *updated = arrays
    plan = plan_for(operation, UpdatesProblem(dtype, SHAPES), backend="cuda")
    run_on_host(plan, *g, updated=tuple(array for kind in updated for array in kind), scalars=scalars)


@pytest.mark.parametrize("dtype", DTYPES)
def test_adam(device: Any, dtype: str) -> None:
    arrays = _arrays(dtype, 4)
    before = [[array.astype(np.float64) for array in kind] for kind in arrays]
    _run("adam", dtype, arrays, 0.1, 0.9, 0.999, 1e-7)
    for i in range(len(SHAPES)):
        g, w, m, v = (kind[i] for kind in before)
        m, v = m + 0.1 * (g - m), v + 0.001 * (g * g - v)
        for found, expected in zip((kind[i] for kind in arrays[1:]), (w - 0.1 * m / (np.sqrt(v) + 1e-7), m, v)):
            oracle.assert_close(found, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("nesterov", [0, 1])
def test_momentum(device: Any, dtype: str, nesterov: int) -> None:
    arrays = _arrays(dtype, 3)
    before = [[array.astype(np.float64) for array in kind] for kind in arrays]
    _run("sgd_momentum", dtype, arrays, nesterov, 0.1, 0.9)
    for i in range(len(SHAPES)):
        g, w, v = (kind[i] for kind in before)
        v = 0.9 * v - 0.1 * g
        oracle.assert_close(arrays[2][i], v)
        oracle.assert_close(arrays[1][i], w + (0.9 * v - 0.1 * g if nesterov else v))


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradient_descent(device: Any, dtype: str) -> None:
    g, w = _arrays(dtype, 2)
    expected = [w_i - 0.1 * g_i.astype(np.float64) for g_i, w_i in zip(g, w)]
    _run("sgd", dtype, [g, w], 0.1)
    for found, wanted in zip(w, expected):
        oracle.assert_close(found, wanted)


def test_arrays_that_share_memory_are_updated_in_turn(device: Any) -> None:
    memory = device.xp.asarray(np.zeros(8, np.float32))
    plan = plan_for("sgd", UpdatesProblem("float32", ((8,), (4,))), backend="cuda")
    g = [device.xp.asarray(np.ones(n, np.float32)) for n in (8, 4)]
    plan.run(*g, updated=(memory, memory[4:]), scalars=(1.0,))
    np.testing.assert_array_equal(memory.get(), [-1] * 4 + [-2] * 4)


def test_steps_with_other_arrays(device: Any) -> None:
    plan = plan_for("sgd", UpdatesProblem("float32", ((4,),)), backend="cuda")
    for factor in (1, 2):
        w, g = (device.xp.asarray(np.full(4, value, np.float32)) for value in (5, factor))
        plan.run(g, updated=(w,), scalars=(1.0,))
        np.testing.assert_array_equal(w.get(), [5 - factor] * 4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_compiled(architecture: str) -> None:
    variant = step_kernel.variant("float32", rule="adam", elements=optimizer.PIECE)
    assert not spills(sass(variant, architecture))
