"""Which pixels a pixel gathers from: the arithmetic of taps, strides and padding along one axis.

A *gather* computes each pixel of a target from pixels of a source: y from x in the forward operation, dx from dy in
the input gradient. Along one axis, target pixel ``start + j * target_step`` meets the source pixels ``source + j *
source_step + offset`` for the taps (offset, element of the kernel) of its class. Axes do not depend on each other, so
the classes of an image are the products of the axes' classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from pycnn_kernels.problem import ConvProblem

#: Fields of a class in a table: those of :class:`AxisClass`, and what :meth:`Axis.tables` marks.
CLASS_FIELDS = 6
#: Fields of a tap in a table: its offset in the source and its offset in the weights, in elements.
TAP_FIELDS = 2
#: Fields of a target pixel in a table, see :func:`targets`.
TARGET_FIELDS = 3


def continued(positions: Any, size: int, mode: str) -> np.ndarray:
    """The elements of an axis that padding shows at ``positions``, which may lie outside; -1 for a zero.

    The modes are those of ``torch.nn.functional.pad``. An axis without elements shows none in any of them.

    >>> [continued(np.arange(-2, 6), 4, mode).tolist() for mode in ("reflect", "replicate", "circular")]
    [[2, 1, 0, 1, 2, 3, 2, 1], [0, 0, 0, 1, 2, 3, 3, 3], [2, 3, 0, 1, 2, 3, 0, 1]]
    """
    places = np.asarray(positions)
    if size == 0:
        return np.full(places.shape, -1)
    if mode == "reflect":
        return (size - 1) - np.abs(places % max(2 * (size - 1), 1) - (size - 1))
    if mode == "replicate":
        return np.clip(places, 0, size - 1)
    if mode == "circular":
        return places % size
    return np.where((places >= 0) & (places < size), places, -1)


def shown_positions(p: ConvProblem) -> list[np.ndarray]:
    """For each axis, the elements of x that its padded extent shows; -1 for a zero."""
    sides = zip(p.size, p.padding)
    return [continued(np.arange(-before, size + after), size, p.padding_mode) for size, (before, after) in sides]


def needs_zeros(p: ConvProblem) -> str | None:
    """None for a problem that is padded with zeros, or not at all; otherwise what it needs."""
    if p.padding_mode != "zeros" and any(map(any, p.padding)):
        return f"zeros as padding; received {p.padding_mode!r}"
    return None


def needs_images(p: ConvProblem) -> str | None:
    """None for a problem of signals or images; otherwise what an algorithm without depth needs."""
    if p.size[0] > 1 or p.kernel[0] > 1 or any(p.padding[0]):
        what = f"the depth {p.size[0]}, padding {p.padding[0]} and a kernel of depth {p.kernel[0]}"
        return f"images without depth; received {what}"
    return None


def continuation_fits(p: ConvProblem) -> str | None:
    """None where x is large enough for its way of padding, otherwise what it needs."""
    for size, sides in zip(p.size, p.padding):
        # Beyond that, a reflected or repeated image would have to be reflected or repeated again.
        most = {"reflect": size - 1, "circular": size, "replicate": max(sides) if size else 0}.get(p.padding_mode)
        if most is not None and max(sides) > most:
            return (
                f"padding of at most {most} on an axis of {size} in the mode {p.padding_mode!r}; received {max(sides)}"
            )
    return None


class AxisClass(NamedTuple):
    """Target pixels ``start, start + target_step, ...``, ``size`` of them, that meet the same taps.

    ``source``: what the taps' offsets are counted from for the first of them. The taps are ``taps`` entries of the
    axis' list from ``first`` on.
    """

    start: int
    size: int
    source: int
    first: int
    taps: int


class Axis(NamedTuple):
    """One axis of a gather.

    Attributes:
        classes: of its target pixels.
        taps: (offset in the source, position in the packed weights) of all classes' taps.
        source_step, target_step: from one pixel of a class to the next.
    """

    classes: list[AxisClass]
    taps: list[tuple[int, int]]
    source_step: int
    target_step: int

    def tables(
        self, source_elements: int, weight_elements: int, mark: Callable[[Axis, AxisClass], int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The classes and the taps for a kernel, offsets in elements.

        Args:
            source_elements, weight_elements: from one pixel of the source, one element of the kernel, to the next.
            mark: what the last field of a class says.
        """
        classes = [(*c, int(mark is not None and mark(self, c))) for c in self.classes]
        taps = [(offset * source_elements, element * weight_elements) for offset, element in self.taps]
        return _table(classes, CLASS_FIELDS), _table(taps, TAP_FIELDS)

    def spacing(self, c: AxisClass) -> int:
        """The source pixels from a tap of a class to the next, where they rise in equal steps; 0 elsewhere.

        1 for a single tap. The steps in the weights must be equal, too.
        """
        steps = set(self._distances(c)) or {(1, 1)}
        return max(min(steps)[0], 0) if len(steps) == 1 else 0

    def adjacent(self, c: AxisClass) -> bool:
        """Whether the taps of a class are neighbours in the source and in the weights."""
        return set(self._distances(c)) <= {(1, 1)}

    def _distances(self, c: AxisClass) -> list[tuple[int, int]]:
        taps = self.taps[c.first : c.first + c.taps]
        return [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(taps)]


def _table(rows: Sequence[tuple[int, ...]], fields: int) -> np.ndarray:
    """The rows as a table; a kernel's block wants an address even of a table without rows."""
    return np.array(rows or [(0,) * fields], np.int64)


def gather_axes(p: ConvProblem, forward: bool, divide: tuple[bool, bool, bool] = (True, True, True)) -> list[Axis]:
    """The axes d, h and w of a problem's forward operation, or of its input gradient.

    The packed weights of the input gradient hold the kernel's elements in reverse. An axis that ``divide`` excepts is
    left undivided by zeros in the padding: its classes have all taps, and the kernel must look where they lie.
    """
    make = _forward_axis if forward else _input_gradient_axis
    axes = zip(p.size, p.output, p.kernel, p.stride, p.padding, p.dilation, divide)
    return [
        make(size, out, kernel, S, sides, D, p.padding_mode, apart) for size, out, kernel, S, sides, D, apart in axes
    ]


def targets(axis: Axis, size: int) -> np.ndarray:
    """For each pixel of a target of ``size``: what its taps are counted from, its first tap, and how many it has."""
    table = np.zeros((size, TARGET_FIELDS), np.int64)
    for c in axis.classes:
        for j in range(c.size):
            table[c.start + j * axis.target_step] = c.source + j * axis.source_step, c.first, c.taps
    return table


def _forward_axis(
    size: int, out: int, kernel: int, S: int, padding: tuple[int, int], D: int, mode: str, divide: bool
) -> Axis:
    """Pixel o of y meets pixel ``o * S - P + k * D`` of x through the kernel's element k."""
    taps = [(k * D - padding[0], k) for k in range(kernel)]
    classes = _classes(out, S, taps, size, divide or mode != "zeros")
    if mode != "zeros":
        outside = [j for c in classes if c.taps < kernel for j in range(c.start, c.start + c.size)]
        beyond = {j: [(int(continued(j * S + at, size, mode)) - j * S, k) for at, k in taps] for j in outside}
        classes = _with_own_taps(classes, 1, S, taps, beyond)
    return Axis(classes, taps, S, 1)


def _input_gradient_axis(
    size: int, out: int, kernel: int, S: int, padding: tuple[int, int], D: int, mode: str, divide: bool
) -> Axis:
    """Pixel i of x meets pixel ``o = (i + P - k * D) / S`` of y where that division leaves no rest.

    The pixels ``i = r, r + S, ...`` meet the same elements k. Where the padding shows pixel i at the position q too,
    it meets what q meets.
    """

    def met(q: int) -> list[tuple[int, int]]:
        """(o, position of k) for the position q; o rises with the position, because the weights are in reverse."""
        places = [(q + padding[0] - (kernel - 1 - k) * D, k) for k in range(kernel)]
        return [(place // S, k) for place, k in places if place % S == 0]

    classes: list[AxisClass] = []
    taps: list[tuple[int, int]] = []
    beyond: dict[int, list[tuple[int, int]]] = {}
    for r in range(min(S, size)):
        here = met(r)
        found = _classes(-(-(size - r) // S), 1, here, out, divide or mode != "zeros")
        classes += [c._replace(start=r + c.start * S, first=len(taps) + c.first) for c in found]
        taps += here
    if mode != "zeros":
        for q in (*range(-padding[0], 0), *range(size, size + padding[1])):
            i = int(continued(q, size, mode))
            exist = [(o - i // S, k) for o, k in met(q) if 0 <= o < out]
            beyond.setdefault(i, []).extend(exist)
        for i, more in beyond.items():
            beyond[i] = [(o - i // S, k) for o, k in met(i) if 0 <= o < out] + more
        classes = _with_own_taps(classes, S, 1, taps, beyond)
    return Axis(classes, taps, 1, S)


def _classes(
    count: int, source_step: int, taps: list[tuple[int, int]], source_size: int, divide: bool
) -> list[AxisClass]:
    """Divide the pixels j < count of a target by the taps that lie inside the source; the offsets of taps rise."""
    if not taps or not divide:
        return [AxisClass(0, count, 0, 0, len(taps))] if count > 0 else []
    nearest = np.arange(count) * source_step + taps[0][0]
    tap_step = taps[1][0] - taps[0][0] if len(taps) > 1 else 1
    first = np.clip(-(nearest // tap_step), 0, len(taps))
    last = np.clip((source_size - 1 - nearest) // tap_step + 1, first, len(taps))
    edges = np.flatnonzero(np.diff(first) | np.diff(last)) + 1
    return [
        AxisClass(
            int(begin), int(end - begin), int(begin) * source_step, int(first[begin]), int(last[begin] - first[begin])
        )
        for begin, end in zip([0, *edges], [*edges, count])
        if end > begin
    ]


def _with_own_taps(
    classes: list[AxisClass],
    target_step: int,
    source_step: int,
    taps: list[tuple[int, int]],
    own: dict[int, list[tuple[int, int]]],
) -> list[AxisClass]:
    """The classes with the pixels of ``own`` in classes of their own; adds their taps to ``taps``."""
    result = []
    for c in classes:
        at = 0
        inside = sorted((i - c.start) // target_step for i in own if (i - c.start) % target_step == 0)
        for j in (j for j in inside if 0 <= j < c.size):
            result.append(_part(c, at, j - at, target_step, source_step))
            mine = own[c.start + j * target_step]
            result.append(_part(c, j, 1, target_step, source_step)._replace(first=len(taps), taps=len(mine)))
            taps += mine
            at = j + 1
        result.append(_part(c, at, c.size - at, target_step, source_step))
    return [c for c in result if c.size > 0]


def _part(c: AxisClass, first: int, size: int, target_step: int, source_step: int) -> AxisClass:
    """``size`` pixels of a class from its pixel ``first`` on."""
    return c._replace(start=c.start + first * target_step, size=size, source=c.source + first * source_step)
