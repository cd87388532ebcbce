"""How pad is called."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.parity.call import Call, Case, normal, rounded_later, seldom


@st.composite
def _pads(draw: st.DrawFn) -> Call:
    mode = draw(st.sampled_from(["constant", "constant", "reflect", "replicate", "circular"]))
    if mode == "constant":
        shape = tuple(draw(st.lists(st.integers(0, 4), max_size=6)))
        axes = draw(st.integers(0, len(shape) + seldom(draw, 10)))
    else:
        axes = draw(st.integers(1, 3))
        count = axes + draw(st.sampled_from([1, 2, 2, 2, 0, 3])) if seldom(draw, 4) else axes + 2
        least = 0 if seldom(draw, 10) else 1
        shape = (
            draw(st.integers(0, 3)),
            *draw(st.lists(st.integers(least, 5), min_size=count - 1, max_size=count - 1)),
        )
    numbers = draw(st.lists(st.integers(-2, 3), min_size=2 * axes, max_size=2 * axes))
    if seldom(draw, 20):
        numbers = numbers[:-1]
    dtype = draw(st.sampled_from([np.float64, np.float64, np.float32, np.int32, np.uint8, np.bool_, np.float16]))
    keywords: dict[str, Any] = {}
    value = draw(st.sampled_from([None, None, 0, 0.0, 1, 2.5, -3, 1e6, float("inf"), float("nan"), True]))
    if mode == "constant" or value in (None, 0):
        keywords["value"] = value
    sides = draw(st.sampled_from([tuple, list]))(numbers)
    return Call((normal(*shape, dtype=dtype), sides, mode), keywords, rounded_later(dtype))


def _differs(call: Call) -> str | None:
    x, numbers, mode = call.arguments
    sizes = [n + sum(sides) for n, sides in zip(x.shape[::-1], zip(numbers[::2], numbers[1::2]))]
    if mode == "reflect" and x.size == 0 and min(sizes) < 1:
        return "PyTorch does not look at the axes of an empty batch"
    if mode == "circular":
        for axis, sides in enumerate(zip(numbers[::2], numbers[1::2]), start=1):
            left = x.shape[-axis] + min(sides[0], 0) + min(sides[1], 0) if axis <= x.ndim else 0
            if max(sides) > left:
                return "PyTorch shows memory that nothing was written to, if more is added than it has left of the axis"
    if x.dtype == np.bool_ and mode in ("reflect", "replicate"):
        return "PyTorch has no kernel for booleans"
    return None


CASES = {"pad": Case(_pads(), differs=_differs)}
