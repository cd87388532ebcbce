"""Which elements the windows of a pooling hold, as tables for kernels.

Along each axis a window holds some elements of the input, each at a *position*: the number of its tap, from 0. The
same relation, sorted by elements, says which windows hold an element. So the forward and the backward of a pooling
gather alike: the forward the elements of each window, the backward the windows of each element.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pycnn_kernels.problem import PoolProblem


class Windows(NamedTuple):
    """The pairs (place, position) that each target along one axis gathers: those of target i from begins[i] on.

    begins (targets + 1), pairs (pairs, 2), int64.
    """

    begins: np.ndarray
    pairs: np.ndarray


def _meetings(p: PoolProblem, axis: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Window, element and position of all that meet along an axis, by windows, and in them by positions."""
    element = p.starts(axis)[:, np.newaxis] + np.arange(p.window[axis]) * p.dilation[axis]
    inside = (element >= 0) & (element < np.minimum(p.ends(axis), p.size[axis])[:, np.newaxis])
    window, position = np.nonzero(inside)
    return window, element[inside], position


def forward_windows(p: PoolProblem, axis: int) -> Windows:
    """The elements of each window."""
    window, element, position = _meetings(p, axis)
    return _windows(p.output[axis], window, element, position)


def backward_windows(p: PoolProblem, axis: int) -> Windows:
    """The windows of each element, and its position in each."""
    window, element, position = _meetings(p, axis)
    order = np.argsort(element, kind="stable")
    return _windows(p.size[axis], element[order], window[order], position[order])


def _windows(targets: int, target: np.ndarray, place: np.ndarray, position: np.ndarray) -> Windows:
    begins = np.zeros(targets + 1, np.int64)
    np.cumsum(np.bincount(target, minlength=targets), out=begins[1:])
    return Windows(begins, np.stack((place, position), axis=1).astype(np.int64))


def window_counts(p: PoolProblem, axis: int) -> np.ndarray:
    """How many elements of each window an average divides by, int64."""
    start, end, size = p.starts(axis), p.ends(axis), p.size[axis]
    if p.count_padding:
        return np.minimum(end, size + p.padding[axis][1]) - start
    return np.minimum(end, size) - np.maximum(start, 0)
