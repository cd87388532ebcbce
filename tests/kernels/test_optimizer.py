"""The optimizers' kernels over several steps against the oracle, for one parameter and for many in one launch."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from pycnn_kernels.cpu import launch
from pycnn_kernels.cpu.optimizer import PIECE, divided
from pycnn_kernels.plan import plan_for
from pycnn_kernels.problem import UpdatesProblem
from tests import reference as oracle
from tests.kernels.problems import DTYPES, each_number_of_threads, numbers

SIZES = [0, 1, 7, 16, 33, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 5]
#: Empty ones at both ends and in between, around vectors and pieces, and small ones that share a piece.
MANY = [0, 1, 3, 4, 0, 7, 8, 9, 15, 16, 17, *[33] * 40, PIECE - 1, 5, PIECE, 64, 65, PIECE + 1, 2 * PIECE + 5, 2, 0]
STEPS = 4

Arrays = list[np.ndarray]
Rule = Callable[[Arrays, list[Arrays]], None]


def parameters(sizes: Sequence[int], dtype: str) -> Arrays:
    return [numbers((size,), dtype, seed) for seed, size in enumerate(sizes)]


def gradients(sizes: Sequence[int], dtype: str) -> list[Arrays]:
    """Of each step."""
    return [
        [numbers((size,), dtype, 100 * step + seed) for seed, size in enumerate(sizes)] for step in range(1, STEPS + 1)
    ]


def run(rule: tuple[str, int], scalars: Callable[[int], tuple[float, ...]], w: Arrays, grads: list[Arrays]) -> None:
    name, slots = rule
    state = [np.zeros_like(array) for _ in range(slots) for array in w]
    plan = plan_for("updates", UpdatesProblem(w[0].dtype.name, name, tuple(array.shape for array in w)))
    for t, g in enumerate(grads, start=1):
        assert plan.run(*g, updated=(*w, *state), scalars=(0.0, *scalars(t))) == ()


def adam(rate: float = 0.01, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-7) -> Rule:
    def scalars(t: int) -> tuple[float, ...]:
        return rate * np.sqrt(1 - beta_2**t) / (1 - beta_1**t), 1 - beta_1, 1 - beta_2, epsilon

    return lambda w, grads: run(("adam", 2), scalars, w, grads)


def sgd(momentum: float, nesterov: bool) -> Rule:
    if not momentum:
        return lambda w, grads: run(("sgd", 0), lambda t: (0.05,), w, grads)
    name = "sgd_nesterov" if nesterov else "sgd_momentum"
    return lambda w, grads: run((name, 1), lambda t: (0.05, momentum), w, grads)


RULES: list[tuple[Rule, Any]] = [
    (adam(), lambda w, grads: oracle.adam(w, grads, 0.01, 0.9, 0.999, 1e-7)),
    (adam(0.3, 0.0, 0.5, 0.1), lambda w, grads: oracle.adam(w, grads, 0.3, 0.0, 0.5, 0.1)),
    (sgd(0.0, False), lambda w, grads: oracle.sgd(w, grads, 0.05)),
    (sgd(0.9, False), lambda w, grads: oracle.sgd(w, grads, 0.05, 0.9)),
    (sgd(0.9, True), lambda w, grads: oracle.sgd(w, grads, 0.05, 0.9, True)),
]
each_rule = pytest.mark.parametrize(
    ("rule", "expected"), RULES, ids=["adam", "adam_other_settings", "sgd", "momentum", "nesterov"]
)


@each_rule
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", [*[[size] for size in SIZES], MANY], ids=lambda sizes: f"{len(sizes)}x{sizes[0]}")
def test_steps(rule: Rule, expected: Any, sizes: list[int], dtype: str) -> None:
    w, grads = parameters(sizes, dtype), gradients(sizes, dtype)
    wanted = [expected(array, [step[number] for step in grads]) for number, array in enumerate(w)]
    rule(w, grads)
    for found, other in zip(w, wanted):
        oracle.assert_close(found, other)


@each_rule
@pytest.mark.parametrize("dtype", DTYPES)
def test_neither_company_nor_threads_change_the_bits(rule: Rule, expected: Any, dtype: str) -> None:
    grads = gradients(MANY, dtype)
    alone = parameters(MANY, dtype)
    for number, w in enumerate(alone):
        rule([w], [[step[number]] for step in grads])
    for _ in each_number_of_threads():
        together = parameters(MANY, dtype)
        rule(together, grads)
        for found, other in zip(together, alone):
            np.testing.assert_array_equal(found, other)


@each_rule
def test_parameters_that_share_memory_change_one_after_the_other(rule: Rule, expected: Any) -> None:
    sizes = [2 * PIECE, 2 * PIECE]
    grads = gradients(sizes, "float32")[:1]

    def views() -> tuple[np.ndarray, Arrays]:
        memory = numbers((2 * PIECE + 3,), "float32")
        return memory, [memory[3:], memory[:-3]]

    alone, (first, second) = views()
    rule([first], [[grads[0][0]]])
    rule([second], [[grads[0][1]]])
    for _ in each_number_of_threads():
        memory, w = views()
        rule(w, grads)
        np.testing.assert_array_equal(memory, alone)


@each_rule
def test_only_parameters_that_share_memory_keep_to_one_thread(
    rule: Rule, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    alone = launch._workers.run_alone

    def noted(entry: int, block: int, items: int, threads: int = 1) -> None:
        asked.append(threads)
        alone(entry, block, items)

    monkeypatch.setattr(launch, "_threads", 2)
    monkeypatch.setattr(launch._workers, "run", noted)
    monkeypatch.setattr(launch._workers, "run_alone", noted)
    memory = numbers((3 * PIECE,), "float32")
    beside, shared = [memory[:PIECE], memory[PIECE:]], [memory[: PIECE + 1], memory[PIECE:]]
    for w in (beside, shared):
        rule(w, gradients([array.size for array in w], "float32")[:1])
    assert asked == [2, 1]


def test_a_nan_gradient_spoils_its_own_weight_only() -> None:
    w, grads = parameters([20, 20], "float32"), gradients([20, 20], "float32")[:1]
    grads[0][1][3] = np.nan
    adam()(w, grads)
    assert not np.isnan(w[0]).any()
    np.testing.assert_array_equal(np.isnan(w[1]), np.arange(20) == 3)


@pytest.mark.parametrize("sizes", [[], [0], [1], [0, 0, 3, 0], [PIECE], [PIECE + 1], MANY, [1] * (PIECE + 1)])
def test_every_element_is_in_one_piece(sizes: list[int]) -> None:
    pieces, spans = divided(sizes)
    found: list[list[int]] = [[] for _ in sizes]
    for begin, end in itertools.pairwise(pieces):
        elements = 0
        for which, first, last in spans.reshape(-1, 3)[begin:end]:
            found[which] += range(first, last)
            elements += last - first
        assert 0 < elements <= PIECE
    assert found == [list(range(size)) for size in sizes]


def test_small_parameters_share_a_piece() -> None:
    assert len(divided([64] * 50)[0]) - 1 == 1
    assert len(divided([PIECE + 1, 64] * 50)[0]) - 1 == 2 * 50


GOOD = {"g0": (3,), "g1": (2, 4), "w0": (3,), "w1": (2, 4)}
GOOD |= {"momentum0": (3,), "momentum1": (2, 4), "velocity0": (3,), "velocity1": (2, 4)}


@pytest.mark.parametrize(
    ("name", "spoil", "error", "message"),
    [
        ("g1", lambda a: a[:1], ValueError, "g1 must have the shape (2, 4); received (1, 4)"),
        ("w0", lambda a: a[:0], ValueError, "w0 must have the shape (3,); received (0,)"),
        ("velocity1", lambda a: a.reshape(-1), ValueError, "velocity1 must have the shape (2, 4); received (8,)"),
        ("g0", lambda a: a.astype("f8"), TypeError, "g0 must have the dtype float32; received float64"),
        ("momentum1", lambda a: a.astype("f2"), TypeError, "momentum1 must have the dtype float32; received float16"),
        ("g1", lambda a: None, TypeError, "g1 must be an array of shape (2, 4); received None"),
        ("velocity0", lambda a: None, TypeError, "velocity0 must be an array of shape (3,); received None"),
        ("w1", lambda a: a.tolist(), TypeError, "w1 must be a NumPy array; received list"),
        ("w1", lambda a: np.asfortranarray(a), ValueError, "w1 is changed in place: it must be contiguous"),
        (
            "momentum0",
            lambda a: np.broadcast_to(a, a.shape),
            ValueError,
            "momentum0 is changed in place: it must be contiguous",
        ),
    ],
)
def test_arrays_that_do_not_fit(name: str, spoil: Any, error: type[Exception], message: str) -> None:
    arrays: dict[str, Any] = {name: np.ones(shape, np.float32) for name, shape in GOOD.items()}
    before = dict(arrays)
    arrays[name] = spoil(arrays[name])
    given = list(arrays.values())
    plan = plan_for("updates", UpdatesProblem("float32", "adam", ((3,), (2, 4))))
    with pytest.raises(error, match=re.escape(message)):
        plan.run(*given[:2], updated=tuple(given[2:]), scalars=(0.0, 0.1, 0.1, 0.001, 1e-7))
    for array in before.values():
        assert (array == 1).all()


def test_a_list_of_another_length() -> None:
    g, w = np.ones(3, np.float32), np.ones(3, np.float32)
    plan = plan_for("updates", UpdatesProblem("float32", "sgd", ((3,), (3,))))
    with pytest.raises(TypeError, match="g1 must be an array"):
        plan.run(g, updated=(w, w), scalars=(0.0, 0.1))
    with pytest.raises(ValueError, match="updates has 2 arrays that change; received 1"):
        plan.run(g, g, updated=(w,), scalars=(0.0, 0.1))
    assert (w == 1).all()


def test_gradients_may_be_strided_or_read_only() -> None:
    memory = numbers((4, 6), "float64")
    for g in (memory.T, memory[::-1, ::-1].T, np.broadcast_to(memory[0, 0], (6, 4))):
        w = numbers((6, 4), "float64", 1)
        expected = w - 0.1 * g
        plan_for("updates", UpdatesProblem("float64", "sgd", ((6, 4),))).run(g, updated=(w,), scalars=(0.0, 0.1))
        oracle.assert_close(w, expected)
