"""How affine_grid and grid_sample are called."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.parity.call import Call, Case, normal, spread, up_to

_FLOATS = [np.float64] * 3 + [np.float32]


@st.composite
def _samples(draw: st.DrawFn) -> Call:
    """Positions most of which are inside of the images; few are at the elements themselves, where slopes jump."""
    rank, dtype = draw(st.sampled_from([2, 2, 3])), draw(st.sampled_from(_FLOATS))
    N, C = draw(st.sampled_from([(1, 1), (2, 3), (2, 2), (1, 3)]))
    sizes = tuple(draw(st.integers(1, 5)) for _ in range(rank))
    out = tuple(draw(st.integers(0 if draw(st.integers(0, 9)) == 0 else 1, 4)) for _ in range(rank))
    x, grid = normal(N, C, *sizes, dtype=dtype), normal(N, *out, rank, dtype=dtype, seed=1) * dtype(draw(_SPREADS))
    if draw(st.integers(0, 14)) == 0:
        wrong = [grid[..., :1], grid[0], grid.astype(np.float16), np.concatenate([grid, grid]), grid.astype(np.int64)]
        grid = draw(st.sampled_from(wrong))
    if draw(st.integers(0, 29)) == 0:
        x = draw(st.sampled_from([x[:0], x[..., :0], x[0], x[:, :0], x.astype(np.int32)]))
    modes = ["bilinear", "nearest", *(["bicubic"] if rank == 2 or draw(st.integers(0, 9)) == 0 else [])]
    settings: dict[str, Any] = {
        "mode": draw(st.sampled_from(modes)),
        "padding_mode": draw(st.sampled_from(["zeros", "border", "reflection"])),
        "align_corners": draw(st.sampled_from([None, False, True])),
    }
    return draw(spread({"input": x, "grid": grid}, settings, ["linear", 2, "reflect"]))


_SPREADS = st.sampled_from([0.5, 1.0, 3.0])


@st.composite
def _grids(draw: st.DrawFn) -> Call:
    rank, dtype = draw(st.sampled_from([2, 3])), draw(st.sampled_from(_FLOATS))
    N = draw(st.integers(1, 3))
    size: Any = [N, draw(st.integers(1, 3)), *(draw(st.integers(1, 5)) for _ in range(rank))]
    theta = normal(N, rank, rank + 1, dtype=dtype)
    if draw(st.integers(0, 9)) == 0:
        theta = draw(st.sampled_from([theta[0], theta[:, :1], theta.astype(np.int64), np.concatenate([theta, theta])]))
    if draw(st.integers(0, 9)) == 0:
        size = draw(st.sampled_from([size[1:], [0, *size[1:]], [*size[:-1], -1], [*size, 2, 2], [*size[:-1], 1.5]]))
    size = draw(st.sampled_from([size, tuple(size)]))
    settings = {"size": size, "align_corners": draw(st.sampled_from([None, False, True]))}
    return draw(spread({"theta": theta}, settings, [2, "size", (2,)]))


CASES = {
    "grid_sample": Case(_samples(), derivatives=up_to(1, "PyTorch has no second derivative of it"), bound32=1e-4),
    "affine_grid": Case(_grids()),
}
