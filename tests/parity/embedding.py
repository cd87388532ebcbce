"""Calls with numbers of rows and of classes."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import strategies as st

from tests.parity.call import Call, Case, Limit, normal, seldom, shapes
from tests.parity.margin_loss import dtypes


@st.composite
def tables(draw: st.DrawFn) -> Call:
    V, D = draw(st.integers(1, 6)), draw(st.integers(0, 4))
    wrong = draw(st.integers(0, 19))
    index = np.asarray(np.random.default_rng(V).integers(-(wrong == 0), V + (wrong == 1), draw(shapes(most=3))))
    index = index.astype(np.float64 if wrong == 2 else draw(st.sampled_from([np.int64, np.int32])))
    weight = normal(*((V, D) if wrong != 3 else draw(shapes(most=3))), dtype=draw(dtypes()))
    keywords = draw(st.fixed_dictionaries({}, optional={
        "padding_idx": st.integers(-V, V - 1) | st.integers(-7, 6) | st.none(), "scale_grad_by_freq": st.booleans(),
    }))  # fmt: skip
    if draw(st.booleans()):
        return Call((index, weight), keywords, (0,))
    keywords["max_norm"] = draw(st.sampled_from([0.5, 1, 2.0, 0, -1.0, None, "1"]))
    keywords |= draw(st.fixed_dictionaries({}, optional={"norm_type": st.sampled_from([1, 2.0, 3, 0.5, math.inf, 0])}))
    # PyTorch changes no leaf that wants a gradient unless it looks away.
    return Call((index, weight), keywords, (0, 1), changed=(1,))


@st.composite
def numbers(draw: st.DrawFn) -> Call:
    array = np.asarray(np.random.default_rng(0).integers(-int(seldom(draw, 20)), 5, draw(shapes())))
    array = array.astype(draw(st.sampled_from([np.int64] * 19 + [np.float64])))
    classes = draw(st.sampled_from([5, 6, 7, 5, -1, 4, 0, -2]))
    return Call((array,) if draw(st.booleans()) else (array, classes), {}, (0,))


def _of_frequencies(call: Call) -> Limit | None:
    return (1, "PyTorch has no second derivative of it") if call.keywords.get("scale_grad_by_freq") else None


CASES = {
    "embedding": Case(tables(), derivatives=_of_frequencies),
    "one_hot": Case(numbers()),
}
