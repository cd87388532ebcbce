"""Each rule of an optimizer's step against the same formula on whole arrays of float64."""

from __future__ import annotations

import numpy as np
import pytest

from pycnn_kernels.cpu.optimizer import PIECE
from pycnn_kernels.plan import plan_for
from pycnn_kernels.problem import UpdatesProblem
from pycnn_kernels.updates import MOST_NUMBERS, MOST_STATES, RULES
from tests import reference as oracle
from tests.kernels.problems import DTYPES, EACH_HALF, each_number_of_threads, numbers
from tests.kernels.update_rules import NUMBERS, ORACLES, Arrays, state_like, stepped

SIZES = (PIECE + 3, 0, 1, 40)


def arrays_of(name: str, dtype: str) -> list[Arrays]:
    """For each size g, w and the state."""
    kinds = len(RULES[name].state)
    drawn = [[numbers((n,), dtype, 9 * n + kind) for kind in range(2 + kinds)] for n in SIZES]
    return [[g, w, *state_like(name, state)] for g, w, *state in drawn]


def run(name: str, arrays: list[Arrays], decay: float) -> None:
    plan = plan_for("updates", UpdatesProblem(arrays[0][0].dtype.name, name, tuple((n,) for n in SIZES)))
    g, *updated = zip(*arrays)
    scalars = (decay, *(NUMBERS[number] for number in RULES[name].numbers))
    plan.run(*g, updated=tuple(array for kind in updated for array in kind), scalars=scalars)


def test_every_rule_has_an_oracle_and_fits() -> None:
    assert set(ORACLES) == set(RULES)
    for rule in RULES.values():
        assert len(rule.state) <= MOST_STATES
        assert len(rule.numbers) < MOST_NUMBERS


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("decay", [0.0, 0.25])
def test_rules(name: str, dtype: str, decay: float) -> None:
    given = {number: NUMBERS[number] for number in RULES[name].numbers}
    for _ in each_number_of_threads():
        arrays = arrays_of(name, dtype)
        wanted = [stepped(name, given, decay, g, w, state) for g, w, *state in arrays]
        before = [g.copy() for g, *_ in arrays]
        run(name, arrays, decay)
        for (g, w, *state), untouched, (expected, others) in zip(arrays, before, wanted):
            oracle.assert_close(w, expected)
            for found, other in zip(state, others, strict=True):
                oracle.assert_close(found, other)
            np.testing.assert_array_equal(g, untouched)


@pytest.mark.parametrize("name", RULES)
def test_an_element_has_the_same_bits_wherever_it_lies(name: str) -> None:
    """In a vector, behind the last one, or alone."""
    together = arrays_of(name, "float32")
    alone = [[array[-1:].copy() for array in arrays] for arrays in together]
    run(name, together, 0.01)
    scalars = (0.01, *(NUMBERS[number] for number in RULES[name].numbers))
    for arrays, (g, *updated) in zip(together, alone):
        plan_for("updates", UpdatesProblem("float32", name, (g.shape,))).run(g, updated=(*updated,), scalars=scalars)
        for found, other in zip(arrays[1:], updated):
            np.testing.assert_array_equal(found[-1:], other)


def test_without_a_decay_an_infinite_weight_stays_infinite() -> None:
    w, g = np.full(3, np.inf, np.float32), np.ones(3, np.float32)
    plan_for("updates", UpdatesProblem("float32", "sgd", ((3,),))).run(g, updated=(w,), scalars=(0.0, 0.5))
    np.testing.assert_array_equal(w, np.inf)


@pytest.mark.parametrize("half", EACH_HALF)
def test_weights_in_halves_keep_a_state_in_float32(half: str) -> None:
    plan = plan_for("updates", UpdatesProblem(half, "amsgrad", ((5,),)))
    assert [spec.dtype.name for spec in plan.updated] == [half, "float32", "float32", "float32"]
    assert [spec.name for spec in plan.updated] == ["w0", "momentum0", "velocity0", "velocity_hat0"]
