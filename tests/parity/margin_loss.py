"""Calls of losses that ask for a margin."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.parity.call import Call, Case, normal, seldom, shapes, up_to
from tests.parity.regression_loss import reductions, second_shapes

MARGINS = [0.5, 2, 0, -1.0, "1"]


@st.composite
def numbers(draw: st.DrawFn, **values: list[Any]) -> dict[str, Any]:
    """The reduction, and at times these."""
    keywords = draw(reductions())
    for name, choices in values.items():
        if seldom(draw, 3):
            keywords[name] = draw(st.sampled_from(choices))
    return keywords


def dtypes() -> st.SearchStrategy[Any]:
    return st.sampled_from([np.float64, np.float64, np.float32])


def signs(shape: tuple[int, ...], dtype: Any = np.int64) -> np.ndarray:
    return np.asarray(np.random.default_rng([3, *shape]).choice([-1, 1, 1, -1, 0, 2], shape)).astype(dtype)


@st.composite
def signed(draw: st.DrawFn, **values: list[Any]) -> Call:
    shape = draw(shapes())
    x = normal(*shape, dtype=draw(dtypes()))
    kind = draw(st.sampled_from([x.dtype, x.dtype, np.int64]))
    return Call((np.asarray(2 * x), signs(draw(second_shapes(shape)), kind)), draw(numbers(**values)), (1,))


@st.composite
def ranked(draw: st.DrawFn) -> Call:
    shape = draw(shapes())
    dtype = draw(dtypes())
    others = [draw(second_shapes(shape)) for _ in range(2)]
    a, b, t = (normal(*each, dtype=dtype, seed=seed) for seed, each in enumerate((shape, *others)))
    if draw(st.booleans()):
        t = signs(t.shape)
    return Call((a, b, t), draw(numbers(margin=MARGINS)))


EXPONENTS = [1, 2.0, 3, 1.5, 0.5, float("inf"), 0, "2"]


@st.composite
def triplets(draw: st.DrawFn) -> Call:
    shape = draw(shapes(most=3))
    dtype = draw(dtypes())
    vectors = [
        normal(*each, dtype=dtype, seed=seed)
        for seed, each in enumerate((shape, draw(second_shapes(shape)), draw(second_shapes(shape))))
    ]
    return Call(tuple(vectors), draw(numbers(margin=[0.5, 2, 0, "1"], p=EXPONENTS, eps=[1e-6, 0.1], swap=[True])))


@st.composite
def angles(draw: st.DrawFn) -> Call:
    shape = draw(shapes(least=1, most=2) if not seldom(draw, 5) else shapes())
    dtype = draw(dtypes())
    second = draw(second_shapes(shape))
    rows = shape[:-1] if not seldom(draw, 8) else draw(shapes(most=2))
    x, y = normal(*shape, dtype=dtype), normal(*second, dtype=dtype, seed=2)
    return Call((x, y, signs(rows)), draw(numbers(margin=MARGINS)))


@st.composite
def scored(draw: st.DrawFn, lists: bool) -> Call:
    shape = draw(
        st.lists(st.integers(1, 5), max_size=2) if not seldom(draw, 8) else st.lists(st.integers(0, 4), max_size=3)
    )
    x = 2 * normal(*shape, dtype=draw(dtypes()))
    if draw(st.booleans()):
        x = np.round(x)  # margins that are exactly kept: at their kink the gradient is a matter of agreement
    C = shape[-1] if shape else 1
    t_shape = tuple(shape if lists else shape[:-1])
    if seldom(draw, 10):
        t_shape = draw(shapes(most=2))
    wrong = seldom(draw, 10)
    t = np.asarray(np.random.default_rng([4, *shape]).integers(-1 if lists or wrong else 0, max(C + wrong, 1), t_shape))
    keywords = draw(numbers() if lists else numbers(margin=MARGINS, p=[1, 2, 2.0, 3]))
    if not lists and seldom(draw, 3):
        keywords["weight"] = np.abs(normal(C if not seldom(draw, 5) else C + 1, dtype=x.dtype))
    return Call((np.asarray(x), t), keywords, ("weight",))


@st.composite
def several(draw: st.DrawFn) -> Call:
    shape = draw(shapes())
    dtype = draw(dtypes())
    x, t = (normal(*each, dtype=dtype, seed=seed) for seed, each in enumerate((shape, draw(second_shapes(shape)))))
    if draw(st.booleans()):
        t = signs(t.shape)
    keywords = draw(numbers())
    if seldom(draw, 3):
        keywords["weight"] = normal(*draw(second_shapes(shape)), dtype=dtype, seed=5)
    return Call((x, t), keywords)


def _of_nothing(call: Call) -> str | None:
    return "PyTorch gives memory that nobody has written for a mean of nothing" if call.arguments[0].size == 0 else None


def _without_axes(call: Call) -> str | None:
    if call.arguments[0].ndim == 0 and call.arguments[1].ndim:
        return "PyTorch takes a target with an axis for a score without one"
    return _of_nothing(call)


CASES = {
    "hinge_embedding_loss": Case(
        signed(margin=MARGINS), integers="PyTorch takes them for all reductions but its default"
    ),
    "margin_ranking_loss": Case(ranked()),
    "soft_margin_loss": Case(signed()),
    "triplet_margin_loss": Case(triplets()),
    "cosine_embedding_loss": Case(angles(), bound32=1e-4),
    "multi_margin_loss": Case(
        scored(lists=False), derivatives=up_to(1, "PyTorch has no second derivative of it"), differs=_of_nothing
    ),
    "multilabel_margin_loss": Case(
        scored(lists=True), derivatives=up_to(1, "PyTorch has no second derivative of it"), differs=_without_axes
    ),
    "multilabel_soft_margin_loss": Case(several()),
}
