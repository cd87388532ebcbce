"""How the shuffles are called."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.parity.call import Call, Case, Limit, normal, seldom


def _dtype(draw: st.DrawFn) -> Any:
    return draw(st.sampled_from([np.float64] * 4 + [np.float32, np.float16, np.int32, np.uint8, np.bool_]))


def _factors(most: int) -> st.SearchStrategy[Any]:
    usual = st.integers(1, most)
    return st.integers(0, 19).flatmap(lambda i: st.sampled_from([0, -1, 2.0]) if i == 0 else usual)


@st.composite
def _shuffles(draw: st.DrawFn, up: bool) -> Call:
    factor = draw(_factors(3))
    r = max(int(factor), 1)
    least = int(not seldom(draw, 7))
    image = [draw(st.integers(least, 3)), draw(st.integers(least, 4)), draw(st.integers(least, 4))]
    grown = [image[0] * r * r, *image[1:]] if up else [image[0], image[1] * r, image[2] * r]
    if seldom(draw, 7):
        grown[draw(st.integers(0, 2))] += 1
    batch = draw(st.lists(st.integers(least, 3), max_size=3))
    shape = (*batch, *grown)[seldom(draw, 31) :]
    return Call((normal(*shape, dtype=_dtype(draw)), factor))


@st.composite
def _channel_shuffles(draw: st.DrawFn) -> Call:
    groups = draw(_factors(4))
    C = max(int(groups), 1) * draw(st.integers(1, 3)) + seldom(draw, 10)
    rest = draw(st.lists(st.integers(0, 3), min_size=draw(st.sampled_from([0, 1, 1, 1, 1])), max_size=3))
    return Call((normal(draw(st.integers(0, 3)), C, *rest, dtype=_dtype(draw)), groups))


def _of_nothing(call: Call) -> Limit | None:
    return None if call.arguments[0].size else (0, "PyTorch cannot compute a gradient of empty images")


def _as_it_is(call: Call) -> str | None:
    return None if call.arguments[0].size else "PyTorch gives back an empty image as it is"


CASES = {
    "pixel_shuffle": Case(_shuffles(True), derivatives=_of_nothing),
    "pixel_unshuffle": Case(_shuffles(False), differs=_as_it_is),
    "channel_shuffle": Case(_channel_shuffles()),
}
