"""Calls of linear maps."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.parity.call import Call, Case, normal, seldom, shapes
from tests.parity.margin_loss import dtypes


@st.composite
def maps(draw: st.DrawFn) -> Call:
    C, K = draw(st.integers(0, 5)), draw(st.integers(0, 5))
    outer = draw(shapes(most=3))
    dtype = draw(dtypes())
    kind = draw(st.integers(0, 19))
    weight: tuple[int, ...] = (K, C) if kind < 16 else (C,) if kind < 18 else draw(shapes(most=3))
    x, w = normal(*outer, C, dtype=dtype), normal(*weight, dtype=dtype, seed=1)
    biases = (
        [None, (K,), (K,), (K,), (1,), (), (1, K) if outer else (K,), (K + 1,)]
        if len(weight) > 1
        else [None, (), (), (1,)]
    )
    bias: Any = draw(st.sampled_from(biases))
    if seldom(draw, 20):
        w = w.astype(np.float32)
    return Call((x, w) if bias is None else (x, w, normal(*bias, dtype=dtype, seed=2)))


@st.composite
def products(draw: st.DrawFn) -> Call:
    first, second, K = (draw(st.integers(0 if seldom(draw, 10) else 1, 4)) for _ in range(3))
    outer = draw(shapes(most=2))
    dtype = draw(dtypes())
    other = outer if not seldom(draw, 10) else draw(shapes(most=2))
    x1, x2 = normal(*outer, first, dtype=dtype), normal(*other, second, dtype=dtype, seed=1)
    arguments = [x1, x2, normal(K, first, second, dtype=dtype, seed=2)]
    if draw(st.booleans()):
        arguments.append(normal(K + seldom(draw, 10), dtype=dtype, seed=3))
    return Call(tuple(arguments))


def _accident(call: Call) -> str | None:
    x, w, *bias = call.arguments
    if x.ndim == 2 and w.ndim == 1 and bias and bias[0].ndim == 0:
        return "PyTorch refuses a bias for rows beside a weight of one axis, but not for other inputs"
    return None


CASES = {
    "linear": Case(maps(), differs=_accident),
    "bilinear": Case(products()),
}
