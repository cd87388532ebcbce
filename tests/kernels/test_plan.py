"""Plans: found again, and errors that name what was expected and received."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from pycnn_kernels import plan as plans
from pycnn_kernels.plan import plan_for
from pycnn_kernels.problem import RearrangeProblem, RowsProblem, UpdatesProblem
from tests.kernels.problems import conv_arrays, conv_problem, pool_problem

PROBLEM = conv_problem(C=3, K=4, size=(5, 6), bias=True)
X, W, B = (conv_arrays(PROBLEM)[name] for name in ("x", "w", "b"))


def test_a_plan_is_made_once() -> None:
    assert plan_for("conv_forward", PROBLEM) is plan_for("conv_forward", conv_problem(C=3, K=4, size=(5, 6), bias=True))
    assert plan_for("conv_forward", PROBLEM) is not plan_for("conv_forward", PROBLEM._replace(N=3))
    assert plan_for("conv_forward", PROBLEM) is not plan_for("conv_input_gradient", PROBLEM)


def test_plans_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "_plans", {})
    monkeypatch.setattr(plans, "_MOST_PLANS", 5)
    for rows in range(1, 20):
        (y,) = plan_for("softmax", RowsProblem("float32", rows, 1)).run(np.zeros((rows, 1), np.float32))
        assert (y == 1).all()
        assert len(plans._plans) <= 5


def test_tables_of_plans_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest plans that have some are forgotten first, those without any never."""
    monkeypatch.setattr(plans, "_plans", {})
    monkeypatch.setattr(plans, "_MOST_TABLE_BYTES", 10_000)
    without = plan_for("softmax", RowsProblem("float32", 2, 1))
    made = []
    for size in (300, 301, 302, 303, 304, 5000, 305):
        p = RearrangeProblem("uint8", 1, (size,), ((size, 0, 1),), (0,), ("constant",))
        made.append(plan_for("rearrange", p))
        assert made[-1].table_bytes >= 8 * size
        assert plan_for("rearrange", p) is made[-1]
        kept = [plan for plan in plans._plans.values() if plan is not without]
        assert kept == made[-len(kept) :]
        assert sum(plan.table_bytes for plan in kept) <= 10_000 or kept == [made[-1]]
    assert plan_for("softmax", without.problem) is without


@pytest.mark.parametrize("operation", ["conv_forward", "conv_input_gradient", "conv_weight_gradient"])
def test_an_algorithm_by_name(operation: str) -> None:
    assert plan_for(operation, PROBLEM, algorithm="direct").algorithm.name == "direct"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("conv_sideways", PROBLEM), "backend 'cpu' has .*conv_forward.*; received 'conv_sideways'"),
        (("conv_forward", PROBLEM, "tpu"), "backend must be 'cpu' or 'cuda'; received 'tpu'"),
        (
            ("conv_forward", PROBLEM, "cpu", "magic"),
            "must be 'auto' or one of 'fft', .*'direct', or 'autotune' to measure them; received 'magic'",
        ),
        (
            ("max_pool", pool_problem(size=4097, kernel=4097), "cpu", "gather"),
            "algorithm 'gather' of max_pool needs windows of at most 16,777,216 elements; received 1 x 4097 x 4097",
        ),
        (
            ("max_pool", pool_problem(size=4097, kernel=4097)),
            "no algorithm of max_pool can do this: gather needs windows of at most 16,777,216 elements",
        ),
    ],
)
def test_what_there_is_not(arguments: Any, message: str) -> None:
    operation, problem, *rest = arguments
    with pytest.raises(ValueError, match=message):
        plan_for(operation, problem, **dict(zip(("backend", "algorithm"), rest)))


@pytest.mark.parametrize(
    ("operation", "problem"),
    [
        ("cross_entropy", RowsProblem("float32", 2, 3)),
        ("max_pool_gradient", pool_problem(N=1, C=2)),
        ("updates", UpdatesProblem("float32", "adam", ((4,),))),
    ],
)
def test_operations_that_take_no_random_numbers(operation: str, problem: Any) -> None:
    """Labels and positions out of range would be read and written as addresses."""
    with pytest.raises(ValueError, match=f"{operation} cannot be timed on random numbers: name one of its algorithms"):
        plans.explain(operation, problem, algorithm="autotune")
    assert plan_for(operation, problem, algorithm="autotune") is plan_for(
        operation, problem, algorithm=plan_for(operation, problem).algorithm.name
    )


@pytest.mark.parametrize(
    ("arrays", "error", "message"),
    [
        ((X[:1], W, B), ValueError, "x must have the shape (2, 5, 6, 3); received (1, 5, 6, 3)"),
        ((X, W[..., 0], B), ValueError, "w must have the shape (3, 3, 3, 4); received (3, 3, 3)"),
        ((X, W, B[:3]), ValueError, "b must have the shape (4,); received (3,)"),
        ((X.astype("f8"), W, B), TypeError, "x must have the dtype float32; received float64"),
        ((X.astype(">f4"), W, B), TypeError, "x must have the dtype float32; received >f4"),
        ((X, W.astype(object), B), TypeError, "w must have the dtype float32; received object"),
        ((X, W, None), TypeError, "b must be an array of shape (4,); received None"),
        ((None, W, B), TypeError, "x must be an array of shape (2, 5, 6, 3); received None"),
        ((X.tolist(), W, B), TypeError, "x must be a NumPy array; received list"),
    ],
)
def test_arrays_that_do_not_fit(arrays: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        plan_for("conv_forward", PROBLEM).run(*arrays)


def read_only(a: np.ndarray) -> np.ndarray:
    a.flags.writeable = False
    return a


@pytest.mark.parametrize("spoil", [lambda a: read_only(a[:4]), lambda a: a[::2], lambda a: a[::-2]])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_arrays_that_cannot_be_changed_in_place(spoil: Any, place: int) -> None:
    g = np.ones(4, np.float32)
    arrays = [np.ones(4, np.float32) for _ in range(3)]
    arrays[place] = spoil(np.ones(8, np.float32))
    plan = plan_for("updates", UpdatesProblem("float32", "adam", ((4,),)))
    with pytest.raises(ValueError, match="is changed in place: it must be contiguous, aligned and writable"):
        plan.run(g, updated=tuple(arrays), scalars=(0.0, 0.1, 0.1, 0.001, 1e-7))
    for array in arrays:
        assert (array == 1).all()
