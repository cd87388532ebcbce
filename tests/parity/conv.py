"""Calls of convolutions and transposed convolutions."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.parity.call import (
    THEIR_REFUSALS,
    Call,
    Case,
    axes,
    normal,
    ours,
    seldom,
    spelled,
    spread,
    theirs,
    with_an_empty_axis,
)

#: Sizes of axes and kernels at most, so that volumes have not many more elements than images.
MOST = {1: (12, 5), 2: (9, 4), 3: (5, 3)}
#: Channels. Each pair of powers of two has grouped kernels of its own, which take seconds to compile, and tests
#: elsewhere: here is one such pair.
IN_AND_OUT_OF_A_GROUP = [(1, 1), (1, 3), (2, 3), (2, 7), (3, 1), (3, 8), (4, 4), (4, 6), (5, 2), (5, 5), (5, 7)]


@st.composite
def convolutions(draw: st.DrawFn, rank: int, transposed: bool) -> Call:
    """Arrays and the other arguments of a call, not all of which fit each other."""
    most_size, most_kernel = MOST[rank]
    G = draw(st.sampled_from([1, 1, 2, 3]))
    R, L = draw(st.sampled_from(IN_AND_OUT_OF_A_GROUP))
    # Mostly such that each group has as many.
    channels = (R * G, L, L * G) if transposed else (L * G, R, L * G)
    if seldom(draw, 20):
        channels = draw(st.tuples(*[st.integers(0, 6)] * 3))
    size = draw(st.tuples(*[st.integers(1, most_size)] * rank))
    kernel = draw(st.tuples(*[st.integers(1, most_kernel)] * rank))
    if seldom(draw, 20):
        size = draw(with_an_empty_axis(size))
    if seldom(draw, 20):
        kernel = draw(with_an_empty_axis(kernel))
    batch = (0,) if seldom(draw, 12) else draw(st.sampled_from([(), (1,), (3,), (3,)]))
    dtypes: list[Any] = [draw(st.sampled_from([np.float64] * 6 + [np.float32] * 2 + [np.int64]))] * 3
    if seldom(draw, 30):
        dtypes[draw(st.integers(0, 2))] = np.float16
    bias = draw(st.booleans())
    shapes = [(*batch, R * G, *size), (*channels[:2], *kernel), (channels[2],)][: 2 + bias]
    arrays = [
        (normal(*shape, seed=seed) * (9 if dtypes[0] is np.int64 else 1)).astype(dtype)
        for seed, (shape, dtype) in enumerate(zip(shapes, dtypes))
    ]
    stride, dilation = draw(axes(rank, 1, 3)), draw(axes(rank, 1, draw(st.sampled_from([1, 2, 3]))))
    padding = draw(axes(rank, 0, draw(st.sampled_from([0, 1, 1, 3]))))
    groups = draw(spelled(G))
    settings: dict[str, Any]
    if transposed:
        output_padding = draw(axes(rank, 0, draw(st.sampled_from([0, 0, 0, 1, 3]))))
        settings = {"stride": stride, "padding": padding, "output_padding": output_padding}
        settings |= {"groups": groups, "dilation": dilation}
    else:
        padding = draw(st.just(padding) | st.sampled_from(["same", "valid"]))
        settings = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return draw(spread(dict(zip(["input", "weight", "bias"], [*arrays, None])), settings, WRONG))


#: No argument of a convolution.
WRONG: list[Any] = [0, -1, (-1,), 1.5, None, (), [], True, (1, 1, 1, 1), "full", (1.0,), "1"]


def differs(call: Call, name: str) -> str | None:
    """Where PyTorch is not followed."""
    named = dict(zip(("input", "weight"), call.arguments)) | call.keywords
    if 0 in named["weight"].shape[:2]:
        return "PyTorch gives filters without input channels no output channels; here they are refused"
    if "transpose" in name and named["input"].dtype != np.float64:
        try:
            ours(name, call)
        except (TypeError, ValueError) as refusal:
            if "leaves nothing of the result" in str(refusal):
                return "PyTorch refuses results without elements in float64, and at times not in others"
    if named["input"].size == 0:
        one = np.zeros((1, *named["input"].shape[1:]), named["input"].dtype)
        of_one = Call((one, *call.arguments[1:])) if call.arguments else Call((), call.keywords | {"input": one})
        of_one.keywords.update(call.keywords if call.arguments else {})
        try:
            theirs(name, of_one)
        except THEIR_REFUSALS:
            return "PyTorch checks less of an empty batch; here it is refused what a batch of one is refused"
    return None


def case(name: str) -> Case:
    drawn = convolutions(int(name[-2]), "transpose" in name)
    return Case(drawn, bound=1e-12, differs=lambda call: differs(call, name))


NAMES = [f"{name}{rank}d" for name in ("conv", "conv_transpose") for rank in (1, 2, 3)]
CASES = {name: case(name) for name in NAMES}
