"""Calls of poolings: of windows, and adaptive."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.parity.call import Call, Case, Limit, axes, normal, seldom, spread, with_an_empty_axis

#: Sizes of axes at most.
MOST = {1: 12, 2: 9, 3: 6}
#: No size, step, padding or flag.
WRONG: list[Any] = [-1, 1.5, (), (1, 1, 1, 1), "2", (2.0,)]


@st.composite
def inputs(draw: st.DrawFn, rank: int) -> np.ndarray:
    """Planes of few elements; of equal ones at times, NaN and infinity among them at times; and empty batches."""
    least = draw(st.sampled_from([1, 3, 4]))
    size = draw(st.tuples(*[st.integers(least, MOST[rank])] * rank))
    batch = draw(st.sampled_from([(2,), (1, 3), (3, 1), (0, 2)]))
    if seldom(draw, 12):
        batch = draw(st.sampled_from([(), (0,), (2, 0), (1, 1, 1)]))
    if seldom(draw, 20):
        size = draw(with_an_empty_axis(size))
    x = normal(*batch, *size, dtype=draw(st.sampled_from([np.float64] * 3 + [np.float32])))
    return np.round(x) if draw(st.booleans()) else x


def several(value: Any, rank: int) -> tuple[int, ...]:
    """One for each axis, of an argument for all of them."""
    values = tuple(value) if isinstance(value, tuple | list) else (value,)
    return values if len(values) == rank else values * rank


@st.composite
def windows(draw: st.DrawFn, rank: int, dilated: bool = False, padded: bool = True) -> tuple[Any, dict[str, Any]]:
    """An input, and windows most of which fit it."""
    x = draw(inputs(rank))
    kernel = draw(axes(rank, 1, 4))
    most = min(several(kernel, rank)) // 2
    settings = {"kernel_size": kernel, "stride": draw(st.none() | st.sampled_from([(), []]) | axes(rank, 1, 4))}
    if padded:
        settings["padding"] = draw(axes(rank, 0, most + seldom(draw, 20)))
    if dilated:
        settings["dilation"] = draw(axes(rank, 1, 2))
    return x, settings | {"ceil_mode": draw(st.booleans())}


@st.composite
def max_pools(draw: st.DrawFn, rank: int) -> Call:
    x, settings = draw(windows(rank, dilated=True))
    if seldom(draw, 10):
        x = normal(2, 3, *x.shape[-rank:]) * 9
        x = x.astype(draw(st.sampled_from([np.int64, np.int32, np.int8, np.uint8])))
    elif x.size and seldom(draw, 10):
        x.flat[:: draw(st.integers(1, 4))] = draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    return draw(spread({"input": x}, settings | {"return_indices": draw(st.booleans())}, [*WRONG, 0, True]))


def steps_over_all(call: Call) -> Limit | None:
    named = dict(zip(("input", "kernel_size", "stride", "padding", "dilation"), call.arguments)) | call.keywords
    x, dilation = named["input"], named.get("dilation")
    steps = dilation if isinstance(dilation, tuple | list) else (dilation,)
    if (
        x.size
        and all(isinstance(step, int | np.integer) for step in steps)
        and max(steps, default=0) > min(x.shape[1:], default=0)
    ):
        return 0, "between the elements of a window may lie all of it: PyTorch's gradient writes beside its memory"
    return None


def max_pool_differs(call: Call) -> str | None:
    x = call.keywords.get("input", call.arguments[0] if call.arguments else None)
    if x.dtype.kind in "iu" and x.ndim < 4 and not _asks_for_indices(call):
        return "PyTorch refuses signals of integers, but neither with their indices nor images and volumes of them"
    return None


def _asks_for_indices(call: Call) -> bool:
    return bool(call.keywords.get("return_indices", len(call.arguments) > 6 and call.arguments[6]))


@st.composite
def avg_pools(draw: st.DrawFn, rank: int) -> Call:
    x, settings = draw(windows(rank))
    settings["count_include_pad"] = draw(st.booleans())
    if rank > 1:
        settings["divisor_override"] = draw(st.none() | st.sampled_from([1, 5, -2, np.int64(3)]))
    return draw(spread({"input": x}, settings, [*WRONG, 0, True]))


@st.composite
def lp_pools(draw: st.DrawFn, rank: int) -> Call:
    x, settings = draw(windows(rank, padded=False))
    power = draw(st.sampled_from([1, 2, 2.0, 3, 4, 0.5, 1.5, -1, -2, math.inf, -math.inf, np.int64(2), True, math.nan]))
    if abs(power) not in (1, 2, 4):
        x = np.abs(x)
    x = x + np.sign(x) * 0.1 + (x == 0)  # powers of 0 have no second slopes
    return draw(spread({"input": x}, {"norm_type": power} | settings, [*WRONG, 0, "2"]))


def lp_pool_differs(call: Call) -> str | None:
    named = dict(zip(("input", "norm_type", "kernel_size"), call.arguments)) | call.keywords
    one = isinstance(named["kernel_size"], tuple | list) and len(named["kernel_size"]) == 1
    if one and isinstance(named["norm_type"], float) and math.isinf(named["norm_type"]):
        return "PyTorch refuses a tuple of one size, but not for the norm of infinity"
    return None


@st.composite
def adaptive_pools(draw: st.DrawFn, rank: int, returns_indices: bool) -> Call:
    x = draw(inputs(rank))
    one = st.sampled_from([0, 1, 1, 2, 2, 3, 3, 7, None, 2])
    size = draw(
        st.just((-1,) * rank)
        if seldom(draw, 15)
        else st.integers(0, 9) | st.tuples(*[one] * rank) | st.tuples(*[one] * rank).map(list)
    )
    settings = {"output_size": size}
    if returns_indices:
        settings["return_indices"] = draw(st.booleans())
    # PyTorch has no gradient of a result without elements.
    constants = ("input",) if 0 in several(size, rank) else ()
    return draw(spread({"input": x}, settings, [*WRONG, None, True, (None,), (1, 2)], constants))


def adaptive_average_differs(call: Call, rank: int) -> str | None:
    x = call.keywords.get("input", call.arguments[0] if call.arguments else None)
    if x.ndim not in (rank + 1, rank + 2) or 0 in x.shape[-rank:]:
        return "PyTorch does not look at the shape where the result is one element"
    return None


#: Norms of integers come from means of powers.
_CUT_MEANS = "PyTorch computes with means that it has cut off behind the point"

CASES = {
    f"max_pool{rank}d": Case(max_pools(rank), derivatives=steps_over_all, differs=max_pool_differs)
    for rank in (1, 2, 3)
}
CASES |= {f"avg_pool{rank}d": Case(avg_pools(rank)) for rank in (1, 2, 3)}
CASES |= {f"lp_pool{rank}d": Case(lp_pools(rank), differs=lp_pool_differs, integers=_CUT_MEANS) for rank in (1, 2, 3)}
CASES |= {
    f"adaptive_avg_pool{rank}d": Case(
        adaptive_pools(rank, False),
        differs=functools.partial(adaptive_average_differs, rank=rank),
        integers="PyTorch takes them where the result has no elements",
    )
    for rank in (1, 2, 3)
}
CASES |= {f"adaptive_max_pool{rank}d": Case(adaptive_pools(rank, True)) for rank in (1, 2, 3)}
