"""Calls of losses between numbers and targets."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.parity.call import Call, Case, normal, seldom, shapes

REDUCTIONS = st.sampled_from(["mean", "mean", "sum", "sum", "none", "none", "none", "max", "max", None])
SOMETIMES_FORMER: st.SearchStrategy[dict[str, bool]] = st.just({}) | st.fixed_dictionaries(
    {}, optional={"size_average": st.booleans(), "reduce": st.booleans()}
)


@st.composite
def reductions(draw: st.DrawFn, former: bool = True, *more: str) -> dict[str, Any]:
    """The reduction by its name, PyTorch's default, a wrong one or a former argument."""
    reduction = draw(
        st.none()
        | REDUCTIONS.map(lambda name: {"reduction": name})
        | st.sampled_from([{"reduction": name} for name in more] or [{}])
    )
    return (reduction or {}) | (draw(SOMETIMES_FORMER) if former else {})


@st.composite
def second_shapes(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The same shape, mostly; or one that broadcasts with it, or one that does not."""
    kind = draw(st.integers(0, 9))
    if kind < 6:
        return shape
    if kind < 9:
        kept = shape[draw(st.integers(0, len(shape))) :]
        return tuple(1 if draw(st.booleans()) else size for size in kept)
    return draw(shapes())


@st.composite
def operands(draw: st.DrawFn, dtypes: bool = True, least: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Input and target, at times of two dtypes, those in which float64 keeps what float32 says."""
    shape = draw(shapes(least))
    second = draw(second_shapes(shape))
    kinds = [(np.float64, np.float64)] * 4 + [(np.float32, np.float32)]
    if dtypes:
        kinds += [(np.float64, np.float32), (np.float32, np.float64), (np.float64, np.int64), (np.float32, np.int32)]
    first, other = draw(st.sampled_from(kinds))
    return np.asarray(2 * normal(*shape, dtype=first)), np.asarray(2 * normal(*second, seed=5)).astype(other)


def narrower(x: np.ndarray, t: np.ndarray) -> tuple[int | str, ...]:
    """The position of the operand whose gradient would be a float32 beside another in float64."""
    return () if x.dtype == t.dtype else (int(x.dtype == np.float64),)


@st.composite
def differences(draw: st.DrawFn, weighted: bool = True, former: bool = True, **numbers: Any) -> Call:
    x, t = draw(operands())
    keywords = draw(reductions(former))
    if weighted and seldom(draw, 4):
        shape = x.shape if not seldom(draw, 5) else draw(shapes())
        keywords["weight"] = np.asarray(np.abs(normal(*shape, dtype=x.dtype, seed=7)) + 0.1)
    for name, values in numbers.items():
        if draw(st.booleans()):
            keywords[name] = draw(st.sampled_from(values))
    return Call((x, t), keywords, narrower(x, t))


@st.composite
def poisson(draw: st.DrawFn) -> Call:
    x, t = draw(operands())
    keywords = draw(reductions())
    log_input = draw(st.booleans())
    if not log_input:
        x = np.asarray(np.abs(x))
    if draw(st.booleans()) and t.dtype.kind == "f":
        keywords["full"] = True
        t = np.asarray(np.abs(t))
    if draw(st.booleans()):
        keywords["eps"] = draw(st.sampled_from([1e-8, 0.1]))
    return Call((x, t), keywords | {"log_input": log_input}, narrower(x, t))


@st.composite
def gaussian(draw: st.DrawFn) -> Call:
    x, t = draw(operands(dtypes=False))
    shape = list(x.shape)
    kind = draw(st.integers(0, 6))
    var: Any = None
    if kind == 0:
        var = draw(st.sampled_from([2.0, 0.0, 1e-9, -1.0, 2]))
    elif kind == 1:
        shape = shape[:-1]
    elif kind == 2 and shape:
        shape[draw(st.integers(0, len(shape) - 1))] = 1
    elif kind == 3:
        shape = list(draw(shapes()))
    if var is None:
        var = np.asarray(np.abs(normal(*shape, dtype=x.dtype, seed=9)))
        if draw(st.booleans()):
            var = np.asarray(np.maximum(var - 0.5, draw(st.sampled_from([0.0, 0.0, -0.1]))), x.dtype)
    keywords = draw(reductions(former=False))
    if draw(st.booleans()):
        keywords["full"] = True
    if draw(st.booleans()):
        keywords["eps"] = draw(st.sampled_from([1e-6, 0.3]))
    return Call((x, t, var), keywords)


def _two_dtypes(call: Call) -> str | None:
    x, t = call.arguments[:2]
    if x.dtype != t.dtype:
        return "PyTorch has it in the input's dtype and refuses its gradient; here it is in the wider one, with both"
    return None


_BUT_FOR_MEANS = "PyTorch takes some of them for all reductions but its default"

CASES = {
    "mse_loss": Case(differences(), integers=_BUT_FOR_MEANS),
    "l1_loss": Case(differences(), integers=_BUT_FOR_MEANS),
    "smooth_l1_loss": Case(differences(weighted=False, beta=[0, 0.0, 0.5, 2, 1e9, -1.0, "1"])),
    "huber_loss": Case(differences(former=False, delta=[0.5, 2, 1e9, 0.0, -1.0, None]), differs=_two_dtypes),
    "poisson_nll_loss": Case(poisson()),
    "gaussian_nll_loss": Case(gaussian()),
}
