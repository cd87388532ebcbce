"""Elements of planes by their positions: what unpooling and fractional pooling read and write.

A plane is all pixels of one image and channel; a position is the number of a pixel, ``(d * H + h) * W + w``. Pieces of
work are planes, or in channels last blocks of neighbouring ones, so that no two threads write the same plane, and what
meets in one element meets in the order of the pixels: bits repeat.
"""

from __future__ import annotations

import math

from pycnn_kernels.cpu.inlined import inlined
from pycnn_kernels.cpu.launch import SMALL_WORK, Task, kernel
from pycnn_kernels.cpu.tile import shift
from pycnn_kernels.problem import FractionalPoolProblem, PlanesProblem

#: Planes of a piece of work in channels last: a cache line of float32.
_PLANES = 16

#: How planes lie: the pixels of one are ``pixel_step`` apart, C in channels last and otherwise 1. A piece of work is
#: ``width`` planes of an image.
_PLACES = {"C": "int", "blocks": "int", "width": "int", "pixel_step": "int"}


@inlined
def _planes_of(a, item):
    """The image of a piece of work, and its first channel and the one behind its last."""
    n, block = item // a.blocks, item % a.blocks
    return n, block * a.width, min((block + 1) * a.width, a.C)


@inlined
def _first(a, n, c, pixels):
    """Where the plane of image n and channel c begins in an array of planes of so many pixels."""
    return n * a.C * pixels + (c if a.pixel_step > 1 else c * pixels)


@kernel(x="array", index="table", y="array", read="int", written="int", adds="int", **_PLACES)
def put_kernel(a, item, worker):
    """``y[index[i]] = x[i]`` for the pixels i of each plane of x, in their order, or ``+=`` if ``adds``; 0 elsewhere.

    x and index (N, C, read) and y (N, C, written), or (N, read, C) and (N, written, C).
    """
    n, begin, end = _planes_of(a, item)
    for c in range(begin, end):
        y = shift(a.y, _first(a, n, c, a.written))
        for i in range(a.written):
            y[i * a.pixel_step] = 0
    for c in range(begin, end):
        first = _first(a, n, c, a.read)
        x, index, y = shift(a.x, first), shift(a.index, first), shift(a.y, _first(a, n, c, a.written))
        for i in range(0, a.read * a.pixel_step, a.pixel_step):
            if index[i] >= 0:
                at = index[i] * a.pixel_step
                y[at] = y[at] + x[i] if a.adds else x[i]


@kernel(x="array", index="table", y="array", read="int", written="int", **_PLACES)
def pick_kernel(a, item, worker):
    """``y[i] = x[index[i]]`` for the pixels i of each plane of y; 0 where the position is -1.

    x (N, C, read), index and y (N, C, written), or (N, read, C) and (N, written, C).
    """
    n, begin, end = _planes_of(a, item)
    for c in range(begin, end):
        first = _first(a, n, c, a.written)
        x, index, y = shift(a.x, _first(a, n, c, a.read)), shift(a.index, first), shift(a.y, first)
        for i in range(0, a.written * a.pixel_step, a.pixel_step):
            y[i] = x[index[i] * a.pixel_step] if index[i] >= 0 else 0


@kernel(
    x="array", starts="table", y="array", index="table", D="int", H="int", W="int", OD="int", OH="int", OW="int",
    KD="int", KH="int", KW="int", **_PLACES,
)  # fmt: skip
def fractional_max_pool_kernel(a, item, worker):
    """The greatest of each window and its position in its plane; each plane has windows of its own.

    x (N, C, D, H, W), y and index (N, C, OD, OH, OW), or with C last. ``starts`` (N, C, OD + OH + OW): where windows
    begin along d, then along h, then along w. NaN wins, and of equal values the first.
    """
    n, begin, end = _planes_of(a, item)
    for c in range(begin, end):
        starts = shift(a.starts, (n * a.C + c) * (a.OD + a.OH + a.OW))
        first = _first(a, n, c, a.OD * a.OH * a.OW)
        x, y, index = shift(a.x, _first(a, n, c, a.D * a.H * a.W)), shift(a.y, first), shift(a.index, first)
        at = 0
        for od in range(a.OD):
            for oh in range(a.OH):
                for ow in range(a.OW):
                    place = _greatest(a, x, starts[od], starts[a.OD + oh], starts[a.OD + a.OH + ow])
                    y[at], index[at] = x[place * a.pixel_step], place
                    at += a.pixel_step


@inlined
def _greatest(a, x, d, h, w):
    """The position of the greatest element of a window that begins at d, h, w."""
    found = (d * a.H + h) * a.W + w
    best = x[found * a.pixel_step]
    for i in range(a.KD):
        for j in range(a.KH):
            line = ((d + i) * a.H + h + j) * a.W + w
            for k in range(a.KW):
                candidate = x[(line + k) * a.pixel_step]
                if candidate > best or candidate != candidate:
                    best, found = candidate, line + k
    return found


def _places(p: PlanesProblem | FractionalPoolProblem) -> tuple[int, dict[str, int]]:
    """The pieces of work, and the fields of :data:`_PLACES`."""
    last = p.layout == "channels_last"
    width = min(_PLANES, max(p.C, 1)) if last else 1
    blocks = -(-p.C // width)
    return p.N * blocks, {"C": p.C, "blocks": blocks, "width": width, "pixel_step": p.C if last else 1}


class _Planes:
    """What the operations on planes share."""

    workspace_bytes = 0
    _task: Task

    def run(self, *arrays: int) -> None:
        self._task.run(*arrays)


class Put(_Planes):
    """``y`` from ``x`` and ``index``."""

    adds = False

    def __init__(self, p: PlanesProblem):
        items, places = _places(p)
        self._task = Task(
            put_kernel, p.dtype, items, "x index y", parallel=p.N * p.C * p.written > SMALL_WORK,
            read=p.read, written=p.written, adds=self.adds, **places,
        )  # fmt: skip


class PutSums(Put):
    """The same; what has one position is added up."""

    adds = True


class Pick(_Planes):
    """``y`` from ``x`` and ``index``."""

    def __init__(self, p: PlanesProblem):
        items, places = _places(p)
        self._task = Task(
            pick_kernel, p.dtype, items, "x index y", parallel=p.N * p.C * p.written > SMALL_WORK,
            read=p.read, written=p.written, **places,
        )  # fmt: skip


class FractionalMaxPool(_Planes):
    """``y, index`` from ``x`` and ``starts``."""

    def __init__(self, p: FractionalPoolProblem):
        items, places = _places(p)
        (D, H, W), (OD, OH, OW), (KD, KH, KW) = p.size, p.output, p.kernel
        self._task = Task(
            fractional_max_pool_kernel, p.dtype, items, "x starts y index",
            parallel=p.N * p.C * math.prod(p.size) > SMALL_WORK,
            D=D, H=H, W=W, OD=OD, OH=OH, OW=OW, KD=KD, KH=KH, KW=KW, **places,
        )  # fmt: skip
