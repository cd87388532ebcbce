"""Weighted sums of elements at positions between them, differentiable: what warping of images and volumes reads."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pycnn import backend as backends
from pycnn.functional.arguments import apply, data_of, rounded
from pycnn.functional.planes import Pick
from pycnn_kernels.problem import Layout


class Tap(NamedTuple):
    """For each position one of the elements along an axis that its value is made of.

    Attributes:
        index: (N, pixels), int64, the element's number.
        weight: (N, pixels), an array or, where its gradient is wanted, a tensor; None for 1.
        inside: (N, pixels), where there is such an element; None for everywhere. Elsewhere ``index`` is not looked at.
    """

    index: Any
    weight: Any = None
    inside: Any = None


def weighted_elements(x: Any, taps: Sequence[Sequence[Tap]], layout: Layout, fill: float = 0.0) -> Any:
    """``sum of x[n, c, i, j, ...] * weight(i) * weight(j) * ...`` over the taps i of the first axis, j of the next ...

    Args:
        x: a tensor or an array of float32 or float64, (N, C, *sizes), or channels last (N, *sizes, C).
        taps: those of each spatial axis, likewise for all channels.
        layout: "channels_first" or "channels_last".
        fill: what an element is that is not inside.

    Returns:
        (N, C, pixels), or channels last (N, pixels, C).
    """
    last = layout == "channels_last"
    sizes = x.shape[1:-1] if last else x.shape[2:]
    steps = [math.prod(sizes[axis + 1 :]) for axis in range(len(sizes))]
    total: Any = None
    for combination in itertools.product(*taps):
        index: Any = sum(tap.index * step for tap, step in zip(combination, steps))
        inside = _product([tap.inside for tap in combination])
        if inside is not None:
            index = _xp(index).where(inside, index, -1)
        weight = _product([tap.weight for tap in combination])
        terms = apply(Pick, x, index=_for_channels(index, x.shape, last), layout=layout)
        if inside is not None and fill:
            terms = terms + _of_pixels((~inside * fill).astype(x.dtype), last)
        if weight is not None:
            terms = terms * _of_pixels(weight, last)
        total = terms if total is None else total + terms
    return total


def _product(factors: list[Any]) -> Any:
    """The product of arrays or tensors, or the conjunction of masks, None being 1."""
    given = [factor for factor in factors if factor is not None]
    return math.prod(given[1:], start=given[0]) if given else None


def _of_pixels(value: Any, last: bool) -> Any:
    """(N, pixels) with an axis for the channels."""
    N, pixels = value.shape
    return value.reshape((N, pixels, 1) if last else (N, 1, pixels))


def _for_channels(index: Any, shape: tuple[int, ...], last: bool) -> Any:
    """Positions (N, pixels) for each channel of x."""
    N, pixels = index.shape
    C = shape[-1] if last else shape[1]
    xp = _xp(index)
    return xp.ascontiguousarray(xp.broadcast_to(_of_pixels(index, last), (N, pixels, C) if last else (N, C, pixels)))


def _xp(value: Any) -> Any:
    return backends.of(data_of(value)).xp


def nearest_tap(position: Any) -> list[Tap]:
    """The element that each position, (N, pixels), is nearest to; the even one of two."""
    return [Tap(_as_index(_xp(position).rint(data_of(position))))]


def linear_taps(position: Any, dtype: np.dtype) -> list[Tap]:
    """The elements in front of and behind each position, weighted by the other's distance, in a dtype."""
    index, part = whole_and_part(position)
    part = rounded(part, dtype)
    return [Tap(index, 1 - part), Tap(index + 1, part)]


def whole_and_part(position: Any) -> tuple[Any, Any]:
    """The element in front of each position, and how far behind it that is, with the position's gradient."""
    below = _xp(position).floor(data_of(position))
    with np.errstate(invalid="ignore"):  # infinity less infinity is NaN, and no news
        return _as_index(below), position - below


#: Further from any element than there are, and exact in float32.
_FAR = 2.0**31


def _as_index(whole: Any) -> Any:
    """Whole numbers as int64; what is too large for it, or no number at all, is far outside."""
    xp = _xp(whole)
    return xp.fmin(xp.fmax(whole, -_FAR), _FAR).astype(np.int64)
