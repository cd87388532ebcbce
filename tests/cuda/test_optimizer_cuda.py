"""Optimizer steps on the GPU against the same formulas in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pycnn_kernels.cuda import optimizer
from pycnn_kernels.cuda.optimizer import updates_kernel
from pycnn_kernels.plan import plan_for
from pycnn_kernels.problem import UpdatesProblem
from pycnn_kernels.updates import RULES
from tests import reference as oracle
from tests.cuda.sass import ARCHITECTURES, sass, spills
from tests.kernels.problems import DTYPES, numbers, run_on_host
from tests.kernels.update_rules import NUMBERS, state_like, stepped

#: One of several pieces, one of none, and two that leave threads without work.
SHAPES = ((500,), (0, 3), (3, 5), (1,))


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizer.Updates.__init__, "__defaults__", (300,))


def _arrays(dtype: str, kinds: int) -> list[list[np.ndarray]]:
    """So many arrays of each parameter."""
    return [[numbers(shape, dtype, 10 * kind + i) for i, shape in enumerate(SHAPES)] for kind in range(kinds)]


def _run(name: str, dtype: str, arrays: list[list[np.ndarray]], *scalars: float) -> None:
    """g first, then what changes."""
    g, *updated = arrays
    plan = plan_for("updates", UpdatesProblem(dtype, name, SHAPES), backend="cuda")
    run_on_host(plan, *g, updated=tuple(array for kind in updated for array in kind), scalars=scalars)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("decay", [0.0, 0.25])
def test_rules(device: Any, name: str, dtype: str, decay: float) -> None:
    rule = RULES[name]
    g, w, *drawn = _arrays(dtype, 2 + len(rule.state))
    states = [state_like(name, list(state)) for state in zip(*drawn)] or [[]] * len(g)
    arrays = [g, w, *map(list, zip(*states))]
    given = {number: NUMBERS[number] for number in rule.numbers}
    wanted = [stepped(name, given, decay, g, w, state) for g, w, *state in zip(*arrays)]
    _run(name, dtype, arrays, decay, *given.values())
    for (_, w, *state), (expected, others) in zip(zip(*arrays), wanted):
        oracle.assert_close(w, expected)
        for found, other in zip(state, others, strict=True):
            oracle.assert_close(found, other)


def test_arrays_that_share_memory_are_updated_in_turn(device: Any) -> None:
    memory = device.xp.asarray(np.zeros(8, np.float32))
    plan = plan_for("updates", UpdatesProblem("float32", "sgd", ((8,), (4,))), backend="cuda")
    g = [device.xp.asarray(np.ones(n, np.float32)) for n in (8, 4)]
    plan.run(*g, updated=(memory, memory[4:]), scalars=(0.0, 1.0))
    np.testing.assert_array_equal(memory.get(), [-1] * 4 + [-2] * 4)


def test_steps_with_other_arrays(device: Any) -> None:
    plan = plan_for("updates", UpdatesProblem("float32", "sgd", ((4,),)), backend="cuda")
    for factor in (1, 2):
        w, g = (device.xp.asarray(np.full(4, value, np.float32)) for value in (5, factor))
        plan.run(g, updated=(w,), scalars=(0.0, 1.0))
        np.testing.assert_array_equal(w.get(), [5 - factor] * 4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_compiled(architecture: str) -> None:
    variant = updates_kernel.variant("float32", rule="adam", elements=optimizer.PIECE)
    assert not spills(sass(variant, architecture))
