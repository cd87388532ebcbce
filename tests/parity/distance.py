"""Calls of distances and angles."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from tests.parity.call import Call, Case, Limit, arrays, normal, seldom, shapes
from tests.parity.margin_loss import dtypes
from tests.parity.regression_loss import second_shapes


@st.composite
def pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(shapes())
    dtype = draw(dtypes())
    x, y = (normal(*each, dtype=dtype, seed=seed) for seed, each in enumerate((shape, draw(second_shapes(shape)))))
    if x.ndim and seldom(draw, 6):
        x[:1] = 0
    return x, y


@st.composite
def angles(draw: st.DrawFn) -> Call:
    x, y = draw(pairs())
    keywords = draw(st.fixed_dictionaries({}, optional={"eps": st.sampled_from([0.5, 1e-3, -1.0])}))
    axes = max(x.ndim, y.ndim)
    if draw(st.booleans()) or axes < 2:
        keywords["dim"] = draw(st.integers(-axes, max(axes - 1, 0)) if not seldom(draw, 6) else st.integers(-4, 4))
    return Call((x, y), keywords)


@st.composite
def distances(draw: st.DrawFn) -> Call:
    optional = {
        "p": st.sampled_from([1, 2.0, 3, 1.5, 2.5, 0.5, 0, -1, float("inf"), float("-inf"), None, "2"]),
        "eps": st.sampled_from([0.1, 0, 1, None]),
        "keepdim": st.booleans(),
    }
    return Call(draw(pairs()), draw(st.fixed_dictionaries({}, optional=optional)))


@st.composite
def normalizations(draw: st.DrawFn) -> Call:
    x = draw(arrays(shapes()))
    keywords = draw(st.fixed_dictionaries({}, optional={
        "p": st.sampled_from([1, 2.0, 3, 1.5, 2.5, 0.5, 0, -1, float("inf"), float("-inf")]),
        "eps": st.sampled_from([1e-3, 2]),
    }))  # fmt: skip
    axis = st.integers(-x.ndim, max(x.ndim - 1, 0)) if not seldom(draw, 6) else st.integers(-4, 3)
    if not seldom(draw, 5):
        keywords["dim"] = draw(axis | axis | st.none() | st.tuples(axis, axis))
    if seldom(draw, 5):
        shape = x.shape if not seldom(draw, 6) else (2, *x.shape)
        keywords["out"] = np.zeros(shape, x.dtype if not seldom(draw, 6) else np.float16)
        # PyTorch gives it another shape, with a warning, or rounds to its dtype.
        is_wrong = shape != x.shape or keywords["out"].dtype != x.dtype
        return Call((x,), keywords, (0, "out"), changed=("out",), wrong=is_wrong)
    return Call((x,), keywords)


def _without_length(call: Call) -> Limit | None:
    if all((array != 0).all() for array in call.arguments):
        return None
    return 1, "PyTorch's second derivative is NaN at a vector without length, and here it is 0"


CASES = {
    # Gradients of angles and directions are small differences.
    "cosine_similarity": Case(angles(), bound=1e-9, bound32=1e-4, derivatives=_without_length),
    "pairwise_distance": Case(distances()),
    "normalize": Case(normalizations(), bound=1e-9, bound32=1e-4),
}
