"""Calls of max unpooling."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.parity.call import Call, Case, normal, seldom, spread

#: No size, step or padding.
WRONG: list[Any] = [1.5, (), (1, 1, 1, 1), "2", (2.0,), True]


@st.composite
def max_unpools(draw: st.DrawFn, rank: int) -> Call:
    """Elements and where they go, no two to one place, most of which are in the result."""
    one = st.integers(1, 3)
    size, kernel, step, padding = (
        draw(st.tuples(*[each] * rank)) for each in (st.integers(1, 4), one, one, st.sampled_from([0, 0, 0, 1, -1]))
    )
    stride = draw(st.sampled_from([None, step, list(step), step[0]]))
    steps = {None: kernel, step[0]: (step[0],) * rank}.get(stride, step) if not isinstance(stride, list) else step
    if any((n - 1) * s - 2 * p + k < 1 for n, s, p, k in zip(size, steps, padding, kernel)):
        padding = (0,) * rank  # PyTorch puts elements into volumes without any
    out = tuple((n - 1) * s - 2 * p + k for n, s, p, k in zip(size, steps, padding, kernel))
    wanted: Any = None
    if draw(st.booleans()):
        wanted = out = tuple(max(n + draw(st.integers(1 - s, s - 1)), 1) for n, s in zip(out, steps))
        wanted = draw(st.sampled_from([out, list(out), (2, 3, *out)]))
    batch = draw(st.sampled_from([(2,), (1, 2), (2, 1), (0, 2)]))
    if seldom(draw, 20):
        batch = draw(st.sampled_from([(), (0,), (2, 0), (1, 1, 1)]))
    pixels = max(math.prod(out), math.prod(size))
    order = np.random.default_rng(draw(st.integers(0, 9)))
    places = [order.permutation(pixels)[: math.prod(size)] for _ in range(math.prod(batch))]
    indices = np.array(places, np.int64).reshape(*batch, *size)
    if seldom(draw, 30):
        indices = draw(st.sampled_from([indices.astype(np.int32), indices - 2, indices[:1], indices[..., 0]]))
    x = normal(*batch, *size, dtype=draw(st.sampled_from([np.float64] * 3 + [np.float32])))
    settings = {"kernel_size": draw(st.sampled_from([kernel, list(kernel)])), "stride": stride, "padding": padding}
    return draw(spread({"input": x, "indices": indices}, settings | {"output_size": wanted}, WRONG))


CASES = {f"max_unpool{rank}d": Case(max_unpools(rank)) for rank in (1, 2, 3)}
