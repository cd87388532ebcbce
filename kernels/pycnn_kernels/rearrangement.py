"""Where the elements of a rearrangement come from, and where they go: the tables of its kernels.

The axes of y are divided into rows and columns, the last of them. The offset of an element of x is the sum of one for
the row and one for the column. An axis of x along which both move, and beyond whose end they get (windows at the border
of an image), is why rows choose among several tables of columns.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from pycnn_kernels.cpu.gather import continued
from pycnn_kernels.problem import Nearest, RearrangeProblem

#: An offset that is nowhere.
NOWHERE = -1

#: Elements of a row of y at least, where its axes have them: shorter ones cost more to begin than to copy.
_SHORT = 16
#: Elements of one pixel from which on it is a row of its own, so that there are rows enough to divide.
_LONG = 1024


class Rearrangement(NamedTuple):
    """The tables of one image.

    Attributes:
        base: for each row of y, the offset of its elements in x; NOWHERE for a row of which none is there.
        choice: for each row, its table of columns.
        columns: (tables, width), the offset of each column, NOWHERE for one that is not there.
        runs: for each table the first column of the longest run of neighbours that are neighbours in x, too, and the
            one behind its last.
        inner: elements of a column.
    """

    base: np.ndarray
    choice: np.ndarray
    columns: np.ndarray
    runs: np.ndarray
    inner: int

    @property
    def width(self) -> int:
        """Columns of a row."""
        return self.columns.shape[1]


def rearrangement(p: RearrangeProblem, least: int = 1) -> Rearrangement:
    """The tables of a problem; where columns have less than ``least`` elements, each element is a column.

    Raises:
        ValueError: they would show memory beyond the elements of x.

    >>> shifted = RearrangeProblem("uint8", 1, (3,), ((4, 0, 1),), (-1,), ("constant",))
    >>> rearrangement(shifted).columns, rearrangement(shifted).runs
    (array([[-1,  0,  1,  2]]), array([[1, 4]]))
    """
    counts = tuple(count for count, _, _ in p.axes)
    split = _columns_begin(p)
    high, wide = counts[:split], counts[split:]
    base, choice = np.zeros(high, np.int64), np.zeros(high, np.int64)
    tables = np.zeros((1, *wide), np.int64)
    for j, stride in enumerate(_strides(p.size, p.inner)):
        down, along = _positions(p, j, 0, split), _positions(p, j, split, len(counts))
        if not any(axis == j for _, axis, _ in p.axes[split:]):
            base = _plus(base, _shown(p, j, down), stride)
        elif not any(axis == j for _, axis, _ in p.axes[:split]):
            tables = _plus(tables, _shown(p, j, along), stride)
        elif _stays_inside(p, j):
            base, tables = _plus(base, down, stride), _plus(tables, along - p.starts[j], stride)
        else:
            starts, number = np.unique(down, return_inverse=True)
            choice = choice * len(starts) + number.reshape(high)
            there = _shown(p, j, starts.reshape(-1, *[1] * len(wide)) + along - p.starts[j])
            tables = _plus(tables[:, None], there, stride).reshape(-1, *wide)
    tables, inner = tables.reshape(len(tables), math.prod(wide)), p.inner
    if inner < least:
        each = np.where(tables[..., None] == NOWHERE, NOWHERE, tables[..., None] + np.arange(inner))
        tables, inner = each.reshape(len(tables), -1), 1
    _check_inside(p, base.ravel(), tables.max(axis=1, initial=NOWHERE)[choice.ravel()], inner)
    runs = np.array([_longest_run(table, inner) for table in tables], np.int64).reshape(-1, 2)
    return Rearrangement(base.ravel(), choice.ravel(), np.ascontiguousarray(tables), runs, inner)


def _check_inside(p: RearrangeProblem, base: np.ndarray, furthest: np.ndarray, inner: int) -> None:
    """Refuse tables that lead beyond x: kernels read and write where they say, and ask nobody.

    Args:
        base: of each row.
        furthest: of each row the greatest offset of its columns.
        inner: elements of a column.
    """
    ends = np.where((base < 0) | (furthest < 0), 0, base + furthest + inner)
    size = math.prod(p.size) * p.inner
    if ends.max(initial=0) > size:
        raise ValueError(f"a rearrangement of {size} elements must show none beyond; received {p}")


def sources(p: RearrangeProblem) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each axis of x, which elements of y show each of its elements.

    As offsets in y, those of element i from ``begins[i]`` to ``begins[i + 1] - 1``. Those of an element of x are the
    sums of one of each axis.

    >>> shifted = RearrangeProblem("uint8", 1, (3,), ((4, 0, 1),), (-1,), ("replicate",))
    >>> sources(shifted)
    [(array([0, 2, 3, 4]), array([0, 1, 2, 3]))]
    """
    counts = tuple(count for count, _, _ in p.axes)
    strides = _strides(counts, p.inner)
    found = []
    for j, size in enumerate(p.size):
        mine = [i for i, (_, axis, _) in enumerate(p.axes) if axis == j]
        own = tuple(counts[i] for i in mine)
        shown = np.broadcast_to(_shown(p, j, _position_of(p, j, mine)), own).ravel()
        offsets = np.zeros(own, np.int64)
        for place, i in enumerate(mine):
            offsets += _along(np.arange(counts[i]) * strides[i], place, len(mine))
        order = np.argsort(shown, kind="stable")
        order = order[shown[order] != NOWHERE]
        found.append((begins_of(shown[order], size), offsets.ravel()[order]))
    return found


def begins_of(rows: np.ndarray, count: int) -> np.ndarray:
    """Where the entries of each of ``count`` rows begin in a list sorted by row, and where the last ones end.

    >>> begins_of(np.array([0, 0, 2]), 3)
    array([0, 2, 2, 3])
    """
    return np.searchsorted(rows, np.arange(count + 1)).astype(np.int64)


def _strides(sizes: tuple[int, ...], inner: int) -> list[int]:
    return [math.prod(sizes[j + 1 :]) * inner for j in range(len(sizes))]


def _columns_begin(p: RearrangeProblem) -> int:
    """The first axis of y that is one of columns."""
    if p.inner >= _LONG:
        return len(p.axes)
    split = len(p.axes) - 1
    while split > 0 and math.prod(count for count, _, _ in p.axes[split:]) * p.inner < _SHORT:
        _, j, _ = p.axes[split - 1]
        moved = [axis for _, axis, _ in p.axes[: split - 1]]
        if j in moved and not _stays_inside(p, j):  # a table for every row
            break
        split -= 1
    return max(split, 0)


def _along(values: np.ndarray, place: int, axes: int) -> np.ndarray:
    """A vector along one of so many axes."""
    return values.reshape(*[1] * place, -1, *[1] * (axes - 1 - place))


def _position_of(p: RearrangeProblem, j: int, chosen: list[int]) -> np.ndarray:
    """Positions along axis j of x that the chosen axes of y, all of which belong to it, move to."""
    position = np.full((), p.starts[j], np.int64)
    for place, i in enumerate(chosen):
        count, _, step = p.axes[i]
        position = position + _along(np.arange(count) * step, place, len(chosen))
    return position


def _positions(p: RearrangeProblem, j: int, first: int, last: int) -> np.ndarray:
    """The same in the shape of the axes from ``first`` to ``last - 1``, some of which belong to others."""
    position = np.full((1,) * (last - first), p.starts[j], np.int64)
    for i in range(first, last):
        count, axis, step = p.axes[i]
        if axis == j:
            position = position + _along(np.arange(count) * step, i - first, last - first)
    return np.broadcast_to(position, tuple(count for count, _, _ in p.axes[first:last]))


def _stays_inside(p: RearrangeProblem, j: int) -> bool:
    """Whether no element of y lies beyond axis j of x."""
    furthest = p.starts[j] + sum((count - 1) * step for count, axis, step in p.axes if axis == j)
    return p.ways[j] == "constant" and p.starts[j] >= 0 and furthest < p.size[j]


def _shown(p: RearrangeProblem, j: int, positions: np.ndarray) -> np.ndarray:
    """The elements of axis j at positions; NOWHERE where there are none."""
    way, size = p.ways[j], p.size[j]
    return _nearest(way, positions) if isinstance(way, Nearest) else continued(positions, size, way)


def _nearest(way: Nearest, positions: np.ndarray) -> np.ndarray:
    """Source: PyTorch, ATen/native/UpSample.h, nearest_neighbor_compute_source_index and its like."""
    dtype = np.dtype(way.dtype).type
    places = positions.astype(dtype) + dtype(0.5 if way.centred else 0)
    found = np.floor((places * dtype(way.scale)).astype(np.float32)).astype(np.int64)
    return np.minimum(found, way.size - 1)


def _plus(offsets: np.ndarray, positions: np.ndarray, stride: int) -> np.ndarray:
    """The sum of offsets and of those of positions; NOWHERE where either is."""
    return np.where((offsets == NOWHERE) | (positions == NOWHERE), NOWHERE, offsets + positions * stride)


def _longest_run(table: np.ndarray, step: int) -> tuple[int, int]:
    """The longest stretch of offsets that rise by ``step``: its first place and the one behind its last."""
    there = np.flatnonzero(table != NOWHERE)
    if not there.size:
        return 0, 0
    breaks = np.flatnonzero((np.diff(there) != 1) | (np.diff(table[there]) != step)) + 1
    begins, ends = np.append(0, breaks), np.append(breaks, there.size)
    longest = int(np.argmax(ends - begins))
    return int(there[begins[longest]]), int(there[ends[longest] - 1]) + 1
