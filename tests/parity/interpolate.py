"""How interpolate is called."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.parity.call import Call, Case, Limit, normal, rounded_later, seldom

_RANKS = {"linear": 1, "bilinear": 2, "trilinear": 3, "bicubic": 2}
_MODES = ["nearest", "nearest-exact", "area", *_RANKS]


@st.composite
def _interpolations(draw: st.DrawFn) -> Call:
    mode = draw(st.sampled_from(_MODES))
    rank = _RANKS.get(mode) or draw(st.integers(1, 3))
    if seldom(draw, 20):
        rank = draw(st.integers(0, 4))
    least = 0 if seldom(draw, 20) else 1
    shape = (draw(st.integers(0, 2)), draw(st.integers(least, 3)), *(draw(st.integers(least, 6)) for _ in range(rank)))
    kinds = [np.float64] * 5 + [np.float32] * 2
    if mode not in ("area", "linear", "trilinear"):
        kinds.append(np.uint8)
    if mode.startswith("nearest"):
        kinds.append(np.float16)
    dtype = draw(st.sampled_from(kinds))
    keywords: dict[str, Any] = {"mode": mode}

    def each(one: st.SearchStrategy[Any]) -> Any:
        many = st.lists(one, min_size=rank, max_size=rank)
        return draw(one | many | many.map(tuple))

    given_by = draw(
        st.sampled_from(["size"] * 4 + ["scale_factor"] * 4 + ["both", "neither"][: draw(st.integers(0, 2))])
    )
    if given_by in ("size", "both"):
        keywords["size"] = each(st.integers(least, 9))
    if given_by in ("scale_factor", "both"):
        keywords["scale_factor"] = each(st.floats(0.3, 3.0) | st.sampled_from([1, 2, 0.5, 3, 1.0, 2.0]))
    if seldom(draw, 3) and (mode in _RANKS or seldom(draw, 10)):
        keywords["align_corners"] = draw(st.booleans())
    if given_by == "scale_factor" or seldom(draw, 10):
        keywords["recompute_scale_factor"] = draw(st.sampled_from([None, False, True]))
    if draw(st.integers(0, 2 if mode in ("bilinear", "bicubic") else 19)) == 0:
        keywords["antialias"] = True
    return Call((normal(*shape, dtype=dtype),), keywords, rounded_later(dtype))


def _differs(call: Call) -> str | None:
    (x,), mode = call.arguments, call.keywords["mode"]
    if mode == "area" and (0 in x.shape[1:] or any(size < 1 for size in _sizes(call))):
        return "adaptive pooling refuses results and images without elements"
    if call.keywords.get("antialias") and _sizes(call)[-1:] == [1]:
        return "PyTorch gives every row the weights of the first one where the result is one element wide"
    return None


def _by_factor(call: Call) -> Limit | None:
    (x,) = call.arguments
    by_factor = call.keywords.get("antialias") and call.keywords.get("scale_factor") is not None
    if by_factor and x.dtype != np.uint8 and any(n == o for n, o in zip(x.shape[2:], _sizes(call))):
        return 0, "PyTorch's gradient has weights of the factor along an axis that its forward leaves as it is"
    return None


def _sizes(call: Call) -> list[int]:
    """Of the result."""
    (x,) = call.arguments
    wanted, factor = call.keywords.get("size"), call.keywords.get("scale_factor")
    if wanted is not None:
        return list(wanted) if isinstance(wanted, tuple | list) else [wanted] * (x.ndim - 2)
    factors = factor if isinstance(factor, tuple | list) else (factor or 1,) * (x.ndim - 2)
    return [int(n * f) for n, f in zip(x.shape[2:], factors)]


CASES = {"interpolate": Case(_interpolations(), differs=_differs, derivatives=_by_factor)}
