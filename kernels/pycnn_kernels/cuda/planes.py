"""Elements of planes by their positions: what unpooling and fractional pooling read and write.

A plane is all pixels of one image and channel; a position is the number of a pixel, ``(d * H + h) * W + w``. What is
read by position is gathered, one thread for each result.

What is written by position may meet in one element, and then the order of the pixels decides. So a plane belongs to one
warp, which takes 32 pixels at a time, in their order, and finds out with one instruction which of its threads have the
same position (``match_any``): bits repeat, without atomics and without sorting. It takes as many warps as planes to be
as fast as memory; a single plane is slow. In channels last the warps of a block have neighbouring planes, and share the
sectors of memory that they read.
"""

from __future__ import annotations

import math
from typing import Any

from numba import cuda

from pycnn_kernels.cuda.compile import device_function
from pycnn_kernels.cuda.launch import Task, blocks_for, counted, kernel
from pycnn_kernels.cuda.pool import TARGET_FIELDS, int32, place_of, targets_of, view_of
from pycnn_kernels.cuda.ptx import divided, division, shift
from pycnn_kernels.cuda.reduce import ALL_LANES, WARP, greatest, lane_reduction
from pycnn_kernels.problem import FractionalPoolProblem, PlanesProblem

#: How planes lie: the pixels of one are ``step`` apart, C in channels last and otherwise 1.
_PLACES = {"planes": "int", "C": "int", "step": "int", "read": "int", "written": "int", "by_C": "long"}


@device_function
def first_of(a, plane, pixels):
    """Where a plane begins in an array of planes of so many pixels."""
    n = divided(plane, a.by_C)
    if a.step == 1:
        return plane * pixels
    return n * a.C * pixels + plane - n * a.C


@kernel(y="array", count="int")
def zero_kernel(dtype: Any, threads: int) -> Any:
    """``y[i] = 0`` for i < count, a thread for each."""
    zero = dtype(0)

    def body(a):
        i = cuda.blockIdx.x * threads + cuda.threadIdx.x
        if i < a.count:
            a.y[i] = zero

    return body


@kernel(x="source", index="labels", y="array", **_PLACES)
def put_kernel(dtype: Any, threads: int, adds: bool) -> Any:
    """``y[index[i]] = x[i]`` for the pixels i of each plane of x, in their order, or ``+=`` if it ``adds``.

    x and index (N, C, read) and y (N, C, written), or (N, read, C) and (N, written, C). A negative position is none.
    Each warp has a plane. Of threads with one position the last writes; where all are added, each waits for its turn.
    """
    most = lane_reduction(greatest)

    def body(a):
        lane = cuda.threadIdx.x % WARP
        plane = int32((cuda.blockIdx.x * threads + cuda.threadIdx.x) // WARP)
        if plane < a.planes:  # a warp is here with all of its threads, or with none
            first = first_of(a, plane, a.read)
            x, index, y = shift(a.x, first), shift(a.index, first), shift(a.y, first_of(a, plane, a.written))
            i, last = int32(lane), int32(a.read - 1)
            position, value = int32(index[min(i, last) * a.step]), x[min(i, last) * a.step]
            for _ in range(0, a.read, WARP):
                there = i <= last and position >= 0
                same = cuda.match_any_sync(ALL_LANES, position if there else int32(-1)) & ALL_LANES
                at, new, i = position * a.step, value, int32(i + WARP)
                # What comes next is on its way while this is written.
                position, value = int32(index[min(i, last) * a.step]), x[min(i, last) * a.step]
                if adds:
                    turn = int32(cuda.popc(same & ((1 << lane) - 1))) if there else int32(0)
                    for now in range(most(turn) + 1):
                        if there and turn == now:
                            y[at] += new
                        cuda.syncwarp()
                elif there and same >> lane == 1:
                    y[at] = new
                cuda.syncwarp()

    return body


@kernel(x="source", index="labels", y="array", count="int", by_written="long", by_step="long", **_PLACES)
def pick_kernel(dtype: Any, threads: int) -> Any:
    """``y[i] = x[index[i]]`` for the pixels i of each plane of y; 0 where the position is negative.

    x (N, C, read), index and y (N, C, written), or (N, read, C) and (N, written, C). A thread for each element of y.
    """
    zero = dtype(0)

    def body(a):
        i = int32(cuda.blockIdx.x * threads + cuda.threadIdx.x)
        if i < a.count:
            position = a.index[i]
            pixel = divided(i, a.by_step)
            outer, within = divided(pixel, a.by_written), i - pixel * a.step
            picked = zero
            if position >= 0:
                picked = a.x[(outer * a.read + position) * a.step + within]
            a.y[i] = picked

    return body


@kernel(
    x="source", starts="labels", y="array", index="positions", D="int", H="int", W="int", KD="int", KH="int", KW="int",
    C="int", **TARGET_FIELDS,
)  # fmt: skip
def fractional_max_pool_kernel(dtype: Any, threads: int, flat: bool) -> Any:
    """The greatest of each window and its position in its plane; each plane has windows of its own.

    x (N, C, D, H, W), y and index (N, C, TD, TH, TW), or with C last. ``starts`` (N, C, TD + TH + TW): where windows
    begin along d, then along h, then along w. NaN wins, and of equal values the first. A thread for each window.
    """
    place_of_window = place_of(1, flat)

    def body(a):
        i = int32(cuda.blockIdx.x * threads + cuda.threadIdx.x)
        if i < a.targets:
            n, d, h, w, c = place_of_window(a, i)
            plane = n * a.C + c
            starts = shift(a.starts, plane * (a.TD + a.TH + a.TW))
            x = shift(a.x, n * a.D * a.H * a.W * a.C + c)
            d, h, w = int32(starts[d]), int32(starts[a.TD + h]), int32(starts[a.TD + a.TH + w])
            found = int32((d * a.H + h) * a.W + w)
            best = x[found * a.C]
            for j in range(a.KD):
                for k in range(a.KH):
                    line = ((d + j) * a.H + h + k) * a.W + w
                    for m in range(a.KW):
                        candidate = x[(line + m) * a.C]
                        if candidate > best or candidate != candidate:
                            best, found = candidate, int32(line + m)
            a.y[i] = best
            a.index[i] = found

    return body


def supports(p: PlanesProblem) -> str | None:
    """None for planes whose elements are counted in 32 bits, otherwise the reason why not."""
    return counted(p.N * p.C * max(p.read, p.written))


def fractional_supports(p: FractionalPoolProblem) -> str | None:
    return counted(p.N * p.C * max(math.prod(p.size), math.prod(p.output), sum(p.output)))


def _places(p: PlanesProblem) -> dict[str, int]:
    """The fields of :data:`_PLACES`."""
    step = p.C if p.layout == "channels_last" else 1
    return {
        "planes": p.N * p.C, "C": p.C, "step": step, "read": p.read, "written": p.written,
        "by_C": division(max(p.C, 1)),
    }  # fmt: skip


class Put:
    """``y`` from ``x`` and ``index``; see :func:`put_kernel`."""

    workspace_bytes = 0
    adds = False

    def __init__(self, p: PlanesProblem):
        count = p.N * p.C * p.written
        self._zero = Task(zero_kernel.variant(p.dtype), blocks_for(count), "y", count=count)
        planes = p.N * p.C if p.read and p.written else 0
        variant = put_kernel.variant(p.dtype, adds=self.adds)
        self._put = Task(variant, blocks_for(planes * WARP), "x index y", **_places(p))

    def run(self, x: int, index: int, y: int) -> None:
        """Addresses."""
        self._zero.run(y)
        self._put.run(x, index, y)


class PutSums(Put):
    """The same; what has one position is added up."""

    adds = True


class Pick:
    """``y`` from ``x`` and ``index``; see :func:`pick_kernel`."""

    workspace_bytes = 0

    def __init__(self, p: PlanesProblem):
        places, count = _places(p), p.N * p.C * p.written
        by_step, by_written = (division(max(number, 1)) for number in (places["step"], p.written))
        self.run = Task(
            pick_kernel.variant(p.dtype), blocks_for(count), "x index y", count=count, by_step=by_step,
            by_written=by_written, **places,
        ).run  # fmt: skip


class FractionalMaxPool:
    """``y, index`` from ``x`` and ``starts``; see :func:`fractional_max_pool_kernel`."""

    workspace_bytes = 0

    def __init__(self, p: FractionalPoolProblem):
        (D, H, W), (KD, KH, KW) = p.size, p.kernel
        view = view_of(p, most=1)
        targets = targets_of(p, view, p.output)
        self.run = Task(
            fractional_max_pool_kernel.variant(p.dtype, flat=view.flat), blocks_for(targets["targets"]),
            "x starts y index", D=D, H=H, W=W, KD=KD, KH=KH, KW=KW, C=view.C, **targets,
        ).run  # fmt: skip
