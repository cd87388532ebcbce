"""How unfold and fold are called."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from pycnn_kernels.problem import output_size
from tests.parity.call import Call, Case, normal, rounded_later, seldom


def _numbers(least: int, most: int) -> st.SearchStrategy[Any]:
    """One integer for both axes, or one for each; now and then something else."""
    one = st.integers(least, most)
    usual = one | st.tuples(one, one) | st.lists(one, min_size=2, max_size=2)
    return st.integers(0, 59).flatmap(lambda i: st.sampled_from([(1,), least - 1, 1.5, (1, 1, 1)]) if i == 0 else usual)


@st.composite
def _geometry(draw: st.DrawFn) -> dict[str, Any]:
    settings = {
        "kernel_size": draw(_numbers(1, 3)), "dilation": draw(_numbers(1, 2)), "padding": draw(_numbers(0, 2)),
        "stride": draw(_numbers(1, 3)),
    }  # fmt: skip
    left_out = draw(st.sets(st.sampled_from(["dilation", "padding", "stride"])))
    return {name: value for name, value in settings.items() if name not in left_out}


@st.composite
def _unfolds(draw: st.DrawFn) -> Call:
    least = 0 if seldom(draw, 10) else 1
    shape = (draw(st.integers(least, 3)), draw(st.integers(least, 6)), draw(st.integers(least, 7)))
    batch = draw(st.sampled_from([(), (), (0,), (1,), (1,), (2,), (2,), (2,), (3,), (1, 1)]))
    dtype = draw(st.sampled_from([np.float64] * 10 + [np.float32, np.float16, np.int32]))
    x = normal(*batch, *shape, dtype=dtype)
    settings = draw(_geometry())
    if draw(st.booleans()):
        return Call((x, settings.pop("kernel_size")), settings, rounded_later(dtype))
    return Call((x,), settings, rounded_later(dtype))


@st.composite
def _folds(draw: st.DrawFn) -> Call:
    settings = draw(_geometry())
    size = draw(_numbers(5, 8))
    try:
        pairs = [
            value if isinstance(value, tuple | list) else (value, value)
            for value in (size, *(settings.get(name, 0 if name == "padding" else 1)
                                  for name in ("kernel_size", "stride", "padding", "dilation")))
        ]  # fmt: skip
        sizes, kernel, stride, padding, dilation = pairs
        counts = [output_size(*axis) for axis in zip(sizes, kernel, stride, [(p, p) for p in padding], dilation)]
        columns, features = int(np.prod(counts)), int(np.prod(kernel))
    except (TypeError, ValueError, ZeroDivisionError):
        columns = features = 1
    wrong = seldom(draw, 10)
    shape = (max(features * draw(st.integers(1, 3)), 0) + wrong, max(columns, 0) + draw(st.integers(0, int(wrong))))
    batch = draw(st.sampled_from([(), (), (0,), (1,), (1,), (2,), (2,), (2,), (3,), (1, 1)]))
    dtype = draw(st.sampled_from([np.float64] * 10 + [np.float32] * 2 + [np.int32]))
    return Call((normal(*batch, *shape, dtype=dtype), size), settings)


CASES = {"unfold": Case(_unfolds()), "fold": Case(_folds())}
