"""Calls of fractional max pooling, whose random numbers are given."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.parity.call import Call, Case, axes, normal, seldom, spread

#: No size.
WRONG: list[Any] = [-1, 1.5, (), (1, 1, 1, 1), "2", (2.0,), True, (1,)]


@st.composite
def fractional_max_pools(draw: st.DrawFn, rank: int) -> Call:
    kernel = draw(axes(rank, 1, 3).filter(lambda k: not isinstance(k, tuple | list) or len(k) == rank))
    size = draw(st.tuples(*[st.integers(4, 9 if rank == 2 else 6)] * rank))
    if seldom(draw, 20):
        size = (0, *size[1:])
    batch = draw(st.sampled_from([(2,), (1, 3), (3, 1), (0, 2)]))
    if seldom(draw, 20):
        batch = draw(st.sampled_from([(), (0,), (2, 0), (1, 1, 1)]))
    dtype = draw(st.sampled_from([np.float64] * 3 + [np.float32]))
    x = normal(*batch, *size, dtype=dtype)
    if draw(st.booleans()):
        x = np.round(x)
    elif x.size and seldom(draw, 10):
        x.flat[:: draw(st.integers(1, 4))] = draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    planes = (*((1,) * (2 - len(batch))), *batch)
    numbers = np.random.default_rng(draw(st.integers(0, 9))).random((*planes, rank)).astype(dtype)
    if seldom(draw, 20):
        wrong = [numbers.astype(np.float16), numbers[..., :1], numbers[..., 0], numbers[:, :1]]
        numbers = draw(st.sampled_from(wrong))
    out: dict[str, Any] = {"output_size": draw(axes(rank, 0, 3)), "output_ratio": None}
    if draw(st.booleans()):
        ratios = draw(st.tuples(*[st.sampled_from([0.1, 0.3, 0.5])] * rank))
        out = {"output_size": None, "output_ratio": draw(st.sampled_from([ratios, list(ratios)]))}
    settings = {"kernel_size": kernel, **out, "return_indices": draw(st.booleans()), "_random_samples": numbers}
    return draw(spread({"input": x}, settings, WRONG, constants=("_random_samples",)))


CASES = {
    f"fractional_max_pool{rank}d": Case(
        fractional_max_pools(rank), integers="the random numbers must be of the same dtype"
    )
    for rank in (2, 3)
}
