"""``workspace_limit`` and ``algorithm="autotune"`` of the public operations, gradients included."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import pycnn
import pycnn.functional as F
from pycnn_kernels import autotune
from pycnn_kernels import plan as plans
from pycnn_kernels.autotune import Key, Timings

X, W = (np.random.default_rng(s).standard_normal(shape) for s, shape in ((0, (2, 32, 20, 20)), (1, (32, 32, 3, 3))))
OPERATIONS = ("conv_forward", "conv_input_gradient", "conv_weight_gradient")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The plans that a test makes, by operation."""
    monkeypatch.setattr(plans, "_plans", {})
    found: dict[str, Any] = {}
    make = plans.Plan.__init__

    def note(self: Any, backend: str, operation: str, *rest: Any) -> None:
        make(self, backend, operation, *rest)
        found[operation] = self

    monkeypatch.setattr(plans.Plan, "__init__", note)
    return found


def backward(**settings: Any) -> tuple[np.ndarray, ...]:
    x, w = (pycnn.Tensor(a.astype("float32"), requires_grad=True) for a in (X, W))
    y = F.conv2d(x, w, padding=1, **settings)
    y.sum().backward()
    return tuple(t.detach().numpy() for t in (y, x.grad, w.grad))


def test_a_limit_holds_for_gradients_too(made: dict[str, Any]) -> None:
    free = backward()
    assert {made[name].algorithm.name for name in OPERATIONS} == {"winograd"}
    limit = min(made[name].workspace_bytes for name in OPERATIONS) - 1
    bound = backward(workspace_limit=limit)
    for name in OPERATIONS:
        assert made[name].algorithm.name == "direct"
        assert made[name].workspace_bytes <= limit
    for a, b in zip(free, bound):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)


def test_a_gradient_whose_algorithm_exceeds_the_limit_takes_another(made: dict[str, Any]) -> None:
    backward(algorithm="winograd")
    needed = {name: made[name].workspace_bytes for name in OPERATIONS}
    limit = needed["conv_forward"]
    assert limit < max(needed.values())
    plans._plans.clear()
    backward(algorithm="winograd", workspace_limit=limit)
    for name in OPERATIONS:
        assert made[name].algorithm.name == ("winograd" if needed[name] <= limit else "direct")


def test_limits_that_nothing_keeps_to() -> None:
    x, w = X.astype("float32"), W.astype("float32")
    with pytest.raises(ValueError, match="can do this within the workspace limit of 1,000 bytes"):
        F.conv2d(x, w, workspace_limit=1000)
    with pytest.raises(ValueError, match=r"algorithm 'winograd' of conv_forward needs .* the limit is 1,000"):
        F.conv2d(x, w, algorithm="winograd", workspace_limit=1000)
    with pytest.raises(TypeError, match="workspace_limit must be None or a number of bytes"):
        F.conv2d(x, w, workspace_limit="64MB")


def test_gradients_are_tuned_too(monkeypatch: pytest.MonkeyPatch, made: dict[str, Any]) -> None:
    """Each operation gets the algorithm that was the fastest at that operation."""
    fastest = dict(zip(OPERATIONS, ("direct", "winograd", "direct")))
    asked: dict[str, Key] = {}

    def timings(key: Key, names: list[str], side: Any) -> Timings:
        asked[key.operation] = key
        assert {"winograd", "im2col", "direct"} <= set(names)
        assert side(names[0])() is not None  # it runs, on arrays of its own
        return Timings({name: 1.0 + (name != fastest[key.operation]) for name in names}, dict.fromkeys(names, 3))

    monkeypatch.setattr(autotune, "timings", timings)
    before = X.copy()
    backward(algorithm="autotune", workspace_limit=10**9)
    assert {name: made[name].algorithm.name for name in OPERATIONS} == fastest
    assert {key.workspace_limit for key in asked.values()} == {10**9}
    assert {key.threads for key in asked.values()} == {pycnn.get_num_threads()}
    np.testing.assert_array_equal(X, before)
