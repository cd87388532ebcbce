"""Calls of losses between predicted and true classes, labels and distributions."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.parity.call import Call, Case, normal, seldom, shapes
from tests.parity.regression_loss import operands, reductions, second_shapes


@st.composite
def class_shapes(draw: st.DrawFn) -> tuple[tuple[int, ...], int, tuple[int, ...]]:
    """Of logits, the classes, and of their labels."""
    C = draw(st.integers(1, 5))
    batch = draw(st.lists(st.integers(0, 4), max_size=3))
    return (*batch[:1], C, *batch[1:]), C, tuple(batch)


@st.composite
def classes(draw: st.DrawFn, name: str) -> Call:
    shape, C, outer = draw(class_shapes())
    x = 3 * normal(*shape, dtype=draw(st.sampled_from([np.float64, np.float64, np.float32])))
    keywords = draw(reductions(True, "elementwise_mean"))
    constants: tuple[int | str, ...] = ("weight",)
    if name == "cross_entropy":
        keywords |= draw(
            st.just({})
            | st.fixed_dictionaries({"label_smoothing": st.sampled_from([0.0, 0.1, 0.1, 0.5, 1.0, 1, 1.5, "a"])})
        )
    if seldom(draw, 4):
        w = np.abs(normal(C if not seldom(draw, 6) else C + 1, dtype=x.dtype)) + 0.1
        keywords["weight"] = w
    target: Any
    if name == "cross_entropy" and seldom(draw, 3):
        t_shape = shape if not seldom(draw, 6) else draw(shapes())
        target = np.asarray(np.abs(normal(*t_shape, dtype=x.dtype, seed=3)))
        constants = ()
        keywords |= {"ignore_index": 0} if seldom(draw, 10) else {}
    else:
        t_shape = outer if not seldom(draw, 8) else draw(shapes(most=3, side=2))
        least, most = draw(st.sampled_from([(0, C - 1)] * 16 + [(0, C), (-1, C - 1)]))
        target = np.random.default_rng(draw(st.integers(0, 9))).integers(least, most + 1, t_shape)
        target = np.asarray(target)
        keywords |= {"ignore_index": draw(st.sampled_from([0, 1, -1, -100]))} if draw(st.booleans()) else {}
        target = target.astype(draw(st.sampled_from([np.int64] * 19 + [np.float64])))
        if "weight" in keywords and seldom(draw, 10):
            keywords["weight"] = keywords["weight"].astype(np.float16)
    return Call((x, target), keywords, constants)


@st.composite
def binary(draw: st.DrawFn, logits: bool) -> Call:
    shape = draw(shapes())
    dtype = draw(st.sampled_from([np.float64, np.float64, np.float32]))
    x, t = (
        normal(*s, dtype=dtype, seed=i) for i, s in enumerate((shape, shape if not seldom(draw, 8) else draw(shapes())))
    )
    t = np.asarray(1 / (1 + np.exp(-t)))
    x = np.asarray(30 * x if logits else 1 / (1 + np.exp(-x)))
    wrong = draw(st.integers(0, 19))
    if wrong < 2:
        x, t = (np.asarray(2 * x), t) if wrong else (x, np.asarray(-t))
    if wrong == 2:
        t = t.astype(np.int64)
    keywords = draw(reductions(True, "elementwise_mean"))
    for name in ("weight", "pos_weight")[: 1 + logits]:
        if seldom(draw, 3):
            w_shape = draw(second_shapes(shape))
            keywords[name] = np.asarray(np.abs(normal(*w_shape, dtype=dtype, seed=5)))
    return Call((x, t), keywords, ("weight", "pos_weight"))


@st.composite
def divergences(draw: st.DrawFn) -> Call:
    x, t = draw(operands())
    keywords = draw(reductions(True, "batchmean", "batchmean"))
    if draw(st.booleans()):
        keywords["log_target"] = True
    elif t.dtype.kind == "f":
        t = np.asarray(np.abs(t))
    return Call((x, t), keywords)


def _unlike(call: Call) -> str | None:
    x, t = call.arguments
    if x.ndim == 1 and t.shape == (1,) and t.dtype.kind in "iu":
        return "PyTorch refuses some of the reductions of a single row with a target of one axis"
    return None


def _divided_twice(call: Call) -> str | None:
    if call.keywords.get("reduction") == "batchmean" and len(call.keywords.keys() & {"size_average", "reduce"}):
        return "PyTorch divides a mean by the batch once more"
    return None


CASES = {
    "cross_entropy": Case(classes("cross_entropy"), differs=_unlike),
    "nll_loss": Case(classes("nll_loss"), differs=_unlike),
    "binary_cross_entropy": Case(binary(False), bound=1e-10),
    "binary_cross_entropy_with_logits": Case(binary(True)),
    "kl_div": Case(divergences(), differs=_divided_twice),
}
