"""The weights of resampling: for each element of a resized axis, which elements it is a sum of.

Along each axis a resampling is a matrix with few entries a row, kept row by row: those of element o are from
``begins[o]`` to ``begins[o + 1] - 1``, each a source and a weight. The gradient has the transposed matrix.

The arithmetic is PyTorch's, in the precision of the elements: ATen/native/UpSample.h and ATen/native/cpu/
UpSampleKernel.cpp. The gradient is that of this matrix. PyTorch's gradient of an antialiased axis that keeps its size
has the weights of a given scale, though its forward has left the axis as it is.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from pycnn_kernels.problem import ResampledAxis
from pycnn_kernels.rearrangement import begins_of

#: The free number of Keys' cubic convolution; antialiased weights have the one that Pillow has.
_CUBIC, _CUBIC_ANTIALIASED = -0.75, -0.5


class Weights(NamedTuple):
    """A matrix of few entries a row."""

    begins: np.ndarray
    source: np.ndarray
    weight: np.ndarray

    @property
    def most(self) -> int:
        """Entries of the longest row."""
        return int(np.diff(self.begins).max(initial=0))


@lru_cache(maxsize=256)
def weights(axis: ResampledAxis, dtype: str, transposed: bool = False) -> Weights:
    """The weights of an axis in a dtype; of its gradient if transposed.

    >>> doubled = weights(ResampledAxis("linear", 2, 4), "float32")
    >>> doubled.source, doubled.weight
    (array([0, 1, 0, 1, 0, 1, 1, 1]), array([1.  , 0.  , 0.75, 0.25, 0.25, 0.75, 0.75, 0.25], dtype=float32))
    """
    computed = np.float64 if axis.of_bytes else np.dtype(dtype).type
    if axis.size == axis.output and (axis.antialias or axis.of_bytes):  # whatever the scale is
        rows, index, weight = _unchanged(axis, computed)
    else:
        rows, index, weight = (_antialiased if axis.antialias else _KINDS[axis.kind])(axis, computed)
    if axis.of_bytes:
        places, entry = np.unique(rows * axis.size + index, return_inverse=True)  # those on the edge together
        rows, index, weight = places // axis.size, places % axis.size, _in_16_bits(np.bincount(entry, weight))
    count = axis.output
    if transposed:
        rows, index, count = index, rows, axis.size
    order = np.lexsort((index, rows)) if transposed else np.argsort(rows, kind="stable")
    rows, index, weight = rows[order], index[order], weight[order]
    return Weights(begins_of(rows, count), index, weight.astype(dtype))


def identity(size: int, dtype: str) -> Weights:
    """The weights of an axis that stays as it is."""
    return Weights(np.arange(size + 1), np.arange(size), np.ones(size, dtype))


def _scale(axis: ResampledAxis, dtype: Any) -> Any:
    """Elements of the input to one of the result."""
    if axis.align_corners:
        return dtype(axis.size - 1) / dtype(axis.output - 1) if axis.output > 1 else dtype(0)
    return dtype(axis.scale) if axis.scale else dtype(axis.size) / dtype(axis.output)


def _places(axis: ResampledAxis, dtype: Any) -> np.ndarray:
    """Where in the input the elements of the result lie."""
    o = np.arange(axis.output)
    scale = _scale(axis, dtype)
    if axis.align_corners:
        return scale * o.astype(dtype)
    return (np.float64(scale) * (o + 0.5) - 0.5).astype(dtype)


def _unchanged(axis: ResampledAxis, dtype: Any) -> tuple[np.ndarray, ...]:
    rows = np.arange(axis.output)
    return rows, rows, np.ones(axis.output, dtype)


def _linear(axis: ResampledAxis, dtype: Any) -> tuple[np.ndarray, ...]:
    if axis.size == axis.output:
        return _unchanged(axis, dtype)
    places = np.maximum(_places(axis, dtype), dtype(0))
    first = np.minimum(places.astype(np.int64), axis.size - 1)
    second = np.minimum(first + 1, axis.size - 1)
    share = np.clip(places - first.astype(dtype), dtype(0), dtype(1))
    return np.repeat(np.arange(axis.output), 2), _alternating(first, second), _alternating(dtype(1) - share, share)


def _cubic(axis: ResampledAxis, dtype: Any) -> tuple[np.ndarray, ...]:
    places = _places(axis, dtype)
    first = np.floor(places)
    share = places - first
    taps = np.arange(-1, 3)
    index = np.clip(first.astype(np.int64)[:, None] + taps, 0, axis.size - 1)
    distance = np.abs(share[:, None] - taps.astype(dtype))
    return np.repeat(np.arange(axis.output), 4), index.ravel(), _keys(distance, dtype(_CUBIC)).ravel()


def _keys(distance: np.ndarray, a: Any) -> np.ndarray:
    """Keys' cubic kernel.

    Source: R. Keys, "Cubic convolution interpolation for digital image processing" (1981), equation 15.
    """
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0)).astype(distance.dtype)


def _antialiased(axis: ResampledAxis, dtype: Any) -> tuple[np.ndarray, ...]:
    """Weights of all elements under the kernel, which is as wide as ``scale`` elements of the result would be."""
    scale = _scale(axis, dtype)
    reach = {"linear": 1, "cubic": 2}[axis.kind]
    stretch = max(scale, dtype(1))
    support, rows, index, found = dtype(reach) * stretch, [], [], []
    for o in range(axis.output):
        centre = scale * (dtype(o) + dtype(0.5))
        first = max(int(centre - support + dtype(0.5)), 0)
        last = min(int(centre + support + dtype(0.5)), axis.size)
        under = np.arange(first, max(last, first))
        distance = np.abs((under.astype(dtype) - centre + dtype(0.5)) / stretch)
        kernel = np.maximum(1 - distance, 0) if axis.kind == "linear" else _keys(distance, dtype(_CUBIC_ANTIALIASED))
        total = kernel.sum()
        rows += [o] * under.size
        index += under.tolist()
        found += (kernel / total if total else kernel).tolist()
    return np.array(rows, np.int64), np.array(index, np.int64), np.array(found, dtype)


def _in_16_bits(weight: np.ndarray) -> np.ndarray:
    """Weights rounded to multiples of the least power of 2 for which 15 bits hold the largest of them.

    Sums of such weights times bytes are exact in float64. In float32 they are not where the weights are many and small:
    they then have up to 22 bits behind the point. Source: Pillow, Resample.c, whose way with bytes PyTorch has.
    """
    largest = float(weight.max(initial=0))
    bits = 0
    while bits < 22 and int(0.5 + largest * (1 << (bits + 1))) < 1 << 15:
        bits += 1
    return np.trunc(weight * (1 << bits) + np.copysign(0.5, weight)) / (1 << bits)


_KINDS = {"linear": _linear, "cubic": _cubic}


def _alternating(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.stack([first, second], 1).ravel()


def by_turns(w: Weights, beyond: int) -> tuple[np.ndarray, np.ndarray]:
    """The first entries of all rows, then the second ones, and so on: indices and weights, an even number of turns.

    Where a row has no more entries, the weight is 0 and the index ``beyond`` the last element.

    >>> by_turns(identity(2, "float64"), beyond=2)
    (array([[0, 1],
           [2, 2]]), array([[1., 1.],
           [0., 0.]]))
    """
    rows = w.begins.size - 1
    turns = max(w.most + w.most % 2, 2)
    index, weight = np.full((turns, rows), beyond), np.zeros((turns, rows), w.weight.dtype)
    entry = np.arange(w.source.size)
    row = np.searchsorted(w.begins, entry, side="right") - 1
    turn = entry - w.begins[row]
    index[turn, row], weight[turn, row] = w.source, w.weight
    return index, weight


def of_elements(w: Weights, inner: int) -> Weights:
    """The weights of an axis whose elements are the ``inner`` elements of each of its pixels.

    >>> of_elements(identity(1, "float64"), 2)
    Weights(begins=array([0, 1, 2]), source=array([0, 1]), weight=array([1., 1.]))
    """
    if inner == 1:
        return w
    pixels = np.repeat(np.arange(w.begins.size - 1), np.diff(w.begins))
    rows, index = ((each[:, None] * inner + np.arange(inner)).ravel() for each in (pixels, w.source))
    order = np.argsort(rows, kind="stable")
    begins = begins_of(rows[order], (w.begins.size - 1) * inner)
    return Weights(begins, index[order], np.repeat(w.weight, inner)[order])


class Bands(NamedTuple):
    """Rows of a result in bands, each with the rows of the input that it needs, which are made one after the other.

    Attributes:
        begins: where in ``rows`` those of each band begin, and where the last end.
        rows: of the input.
        needed: of each row of the result, how many of its band's rows must have been made.
        slot: of each entry of the weights, where its row is kept.
        slots: how many rows are kept at a time: a new one takes the place of one that is not needed any more.
    """

    begins: np.ndarray
    rows: np.ndarray
    needed: np.ndarray
    slot: np.ndarray
    slots: int


def bands(w: Weights, height: int) -> Bands:
    """The bands of so many rows.

    >>> bands(identity(3, "float64"), 2)
    Bands(begins=array([0, 2, 3]), rows=array([0, 1, 2]), needed=array([1, 2, 1]), slot=array([0, 0, 0]), slots=1)
    """
    count = w.begins.size - 1
    rows, places, needed, slots = [], [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], 1
    for o in range(0, count, height):
        begins = w.begins[o : o + height + 1]
        there, place = np.unique(w.source[begins[0] : begins[-1]], return_inverse=True)
        ends = begins[1:] - begins[0]
        made = np.maximum.accumulate(np.append(0, place + 1))[ends]  # up to the last entry of each row
        used = np.repeat(made, np.diff(begins)) - place
        slots = max(slots, int(used.max(initial=0)))
        rows.append(there)
        places.append(place)
        needed.append(made)
    begins = np.cumsum([0, *(there.size for there in rows)])
    slot = np.concatenate(places) % slots
    return Bands(begins, np.concatenate([*rows, places[0]]), np.concatenate(needed), slot, slots)


def three(axes: tuple[ResampledAxis, ...], dtype: str, transposed: bool) -> tuple[list[Weights], list[int], list[int]]:
    """The weights of depth, height and width, and what of them is read and written; missing axes are of size 1."""
    missing = 3 - len(axes)
    found = [identity(1, dtype)] * missing + [weights(axis, dtype, transposed) for axis in axes]
    sizes, outputs = ([1] * missing + [getattr(axis, name) for axis in axes] for name in ("size", "output"))
    return found, *((outputs, sizes) if transposed else (sizes, outputs))
