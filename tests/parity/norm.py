"""Calls of normalisations."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.parity.call import Call, Case, Limit, arrays, normal, seldom, shapes
from tests.parity.margin_loss import dtypes


@st.composite
def images(draw: st.DrawFn, least: int = 2, most: int = 5) -> tuple[np.ndarray, int]:
    """(N, C, ...) and C; at times fewer axes."""
    shape = draw(shapes(least, most) if not seldom(draw, 10) else shapes(0, most))
    return np.asarray(3 * normal(*shape, dtype=draw(dtypes())) + 1), shape[1] if len(shape) > 1 else 1


@st.composite
def parameters(draw: st.DrawFn, x: np.ndarray, shape: tuple[int, ...], *names: str) -> dict[str, Any]:
    """Weight and bias or one of them, mostly of the right shape and dtype."""
    found = {}
    for seed, name in enumerate(names):
        if draw(st.booleans()):
            right = draw(st.integers(0, 29))
            found[name] = normal(*(shape if right else (*shape, 2)), dtype=x.dtype, seed=seed + 1)
            if right == 1:
                found[name] = found[name].astype(np.float16)
    return found


@st.composite
def running(draw: st.DrawFn, x: np.ndarray, C: int) -> tuple[Any, Any]:
    """Running statistics, seldom one without the other or of another shape."""
    kind = draw(st.integers(0, 19))
    mean, var = normal(C, dtype=x.dtype, seed=4), np.abs(normal(C, dtype=x.dtype, seed=5)) + 0.5
    if kind < 3:
        return None, None
    if kind == 5:
        return mean, None
    if kind == 6:
        return mean[1:], var
    return mean, var


@st.composite
def batches(draw: st.DrawFn) -> Call:
    x, C = draw(images())
    keywords: dict[str, Any] = draw(st.fixed_dictionaries({}, optional={
        "training": st.sampled_from([True, True, False]),
        "momentum": st.sampled_from([0.3, 0, 1]),
        "eps": st.sampled_from([1e-3, 1e-3, 1e-3, 1.0, 1.0, 1, 0.0, -1.0, None]),
    })) | draw(parameters(x, (C,), "weight", "bias"))  # fmt: skip
    return Call((x, *draw(running(x, C))), keywords, (1, 2), changed=(1, 2))


@st.composite
def instances(draw: st.DrawFn) -> Call:
    x, C = draw(images(least=3))
    keywords: dict[str, Any] = draw(st.fixed_dictionaries({}, optional={
        "use_input_stats": st.booleans(),
        "momentum": st.sampled_from([0.3, 0, 1]),
        "eps": st.sampled_from([1e-3, 1.0, 1]),
    })) | draw(parameters(x, (C,), "weight", "bias"))  # fmt: skip
    return Call((x, *draw(running(x, C))), keywords, (1, 2), changed=(1, 2))


@st.composite
def groups(draw: st.DrawFn) -> Call:
    per_group, count = draw(st.sampled_from([2, 3, 2, 1])), draw(st.integers(1, 3))
    shape = draw(shapes(1, 3))
    x = 3 * normal(shape[0], per_group * count, *shape[1:], dtype=draw(dtypes())) + 1
    if seldom(draw, 10):
        x, count = x.reshape(-1), draw(st.integers(-1, 4))
    C = x.shape[1] if x.ndim > 1 else 1
    keywords = draw(parameters(x, (C,), "weight", "bias"))
    if draw(st.booleans()):
        keywords["eps"] = draw(st.sampled_from([1e-3, 1.0, 1, None]))
    return Call((x, count), keywords)


@st.composite
def rows(draw: st.DrawFn, *names: str) -> Call:
    sizes = draw(shapes(1, 3))
    # Gradients of rows of equal numbers are what rounding leaves of nothing, times 1 / sqrt(eps): too much in float32.
    dtype = np.float64 if np.prod(sizes) == 1 else draw(dtypes())
    x = np.asarray(3 * normal(*draw(shapes(0, 2)), *sizes, dtype=dtype) + 1)
    if x.ndim and x.dtype == np.float64 and seldom(draw, 4):
        x[:1] = 0  # rows of equal numbers
    keywords = draw(parameters(x, sizes, *names))
    if draw(st.booleans()):
        keywords["eps"] = draw(st.sampled_from([1e-3, 0.5, 1, "1"]))
    wrong = draw(st.integers(0, 19))
    given: Any = (sizes, list(sizes), sizes[0], (), (*sizes, 2))[wrong if wrong < 5 else 0]
    return Call((x, given), keywords)


@st.composite
def responses(draw: st.DrawFn) -> Call:
    x = draw(arrays(shapes(3, 5) if not seldom(draw, 10) else shapes(0, 3)))
    size = draw(st.integers(1, 9) | st.sampled_from([0, -1, 2.0, 100]))
    keywords = draw(st.fixed_dictionaries({}, optional={
        "alpha": st.sampled_from([1e-4, 1.0, 3]),
        "beta": st.sampled_from([0.75, 0.5, 1, -0.3]),
        "k": st.sampled_from([1.0, 2, 0.5, None]),
    }))  # fmt: skip
    return Call((np.asarray(draw(st.sampled_from([2, 100])) * x), size), keywords)


def _of_nothing(call: Call) -> str | None:
    x = call.arguments[0]
    return "nothing says anything: PyTorch moves the statistics to NaN" if x.size == 0 else None


def _unseen_arguments(call: Call) -> str | None:
    x, *statistics = call.arguments
    others = [*statistics, *(call.keywords[name] for name in ("weight", "bias") if name in call.keywords)]
    fit = all(each is not None and each.shape == x.shape[1:2] and each.dtype == x.dtype for each in others)
    if x.size == 0 and (x.ndim < 2 or x.shape[1] == 0 or not fit):
        return "PyTorch does not look at the arguments beside an input without elements"
    return None


def _failing_gradients(call: Call) -> Limit | None:
    x, _ = call.arguments
    if "bias" in call.keywords and "weight" not in call.keywords:
        return 0, "PyTorch's gradient fails where there is a bias without a weight"
    return (0, "PyTorch's gradients fail without elements") if x.size == 0 and call.keywords else None


def _single_values(call: Call) -> str | None:
    x, count = call.arguments
    if x.ndim > 1 and x.size == x.shape[0] * count:
        return "each group is a single value, of which PyTorch leaves what rounding left of it"
    return None


def _size_beside_nothing(call: Call) -> str | None:
    x = call.arguments[0]
    return "PyTorch does not look at the size" if x.ndim >= 3 and x.size == 0 else None


def _bias_alone(call: Call) -> Limit | None:
    if "weight" in call.keywords or "bias" not in call.keywords:
        return None
    return 1, "PyTorch fails to differentiate once more where there is a bias without a weight"


#: Gradients of numbers that are normalised are small differences of sums.
CANCELS = 1e-4

CASES = {
    "batch_norm": Case(batches(), bound32=CANCELS, derivatives=_bias_alone, differs=_unseen_arguments),
    "instance_norm": Case(instances(), bound32=CANCELS, derivatives=_bias_alone, differs=_of_nothing),
    "group_norm": Case(groups(), bound32=CANCELS, differs=_single_values, derivatives=_failing_gradients),
    "layer_norm": Case(rows("weight", "bias"), bound32=CANCELS, derivatives=_bias_alone),
    "rms_norm": Case(rows("weight"), bound32=CANCELS),
    "local_response_norm": Case(
        responses(),
        differs=_size_beside_nothing,
        integers="PyTorch computes with means that it has cut off behind the point",
    ),
}
