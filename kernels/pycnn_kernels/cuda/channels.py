"""Going over an array of ``pixels`` x ``channels`` x ``inner`` with sums for each channel, at the speed of memory.

A thread keeps to its channels: what belongs to them (a mean, a scale) it reads once, and their sums stay in registers.

- Channels last (inner is 1): the array is a matrix of ``rows`` x ``width``. A thread has four neighbouring columns and
  goes down the rows: 16 bytes at a time. Where the channels are no multiple of four, two or four pixels make a row.
- Channels first: a block has one channel, and its threads go along its elements, from image to image; 16 bytes at a
  time where the pixels of an image are a multiple of four.

All blocks move through the array side by side, so that what is read at a time lies together. Several loads are on their
way at once: one alone would be waited for most of the time.

Sums take two launches. The first adds what each thread has within its block and writes ``parts[term, part, channel]``;
the second adds the parts in float64. Both do it pairwise in a fixed order: no atomics, the same bits in every run on
the same kind of GPU. The number of parts fits its multiprocessors; small arrays have one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba import cuda
from numba.cuda import types

from pycnn_kernels.cuda.compile import device_function
from pycnn_kernels.cuda.device import current_device
from pycnn_kernels.cuda.launch import MOST_BLOCKS_ACROSS, Kernel, Task, counted, kernel
from pycnn_kernels.cuda.ptx import load4, quotient, remainder, store4
from pycnn_kernels.cuda.reduce import block_reduction, plus, threads_for
from pycnn_kernels.problem import ChannelsProblem

#: Elements of a vector of 16 bytes of float32; of float64 it takes two accesses.
VECTOR = 4

#: Threads of a block that goes over the elements.
_THREADS = 256

#: Threads at most along the columns of a matrix, each with a vector: 1 KB together.
_MOST_LANES = 64

#: Channels at most whose pixels are put together to make whole vectors; above, single elements are about as fast.
_MOST_FOLDED = 1 << 16

#: Blocks that a multiprocessor has room for, which limits the registers of their threads: to 80 or 128.
_RESIDENT = {"float32": 3, "float64": 2}

#: Steps of each thread of a part at least: every part has to be merged.
_LEAST_STEPS = 8

#: How many times as many blocks there are as there is room for, so that they end closer together. Where parts are to be
#: merged there are as many as there is room for; unless so many blocks lie side by side, more than an eighth of these,
#: that whole rows of them would leave much of the room empty.
_TURNS, _EIGHTH = 4, 8

#: Channels of a block that merges parts: 32 bytes of float32, the least that memory is read by.
_MERGED_CHANNELS = 8

#: How the threads go over the elements: see :func:`walking`.
WALK_FIELDS = {
    "count": "long", "stride": "long", "step": "long", "width": "long", "channels": "int", "lanes": "int",
    "groups": "int", "plane": "int", "inside_step": "int", "carry": "long",
}  # fmt: skip

#: What kernels that merge parts have: ``parts[term, part, channel]``, of ``count`` parts.
PARTS_FIELDS = {"parts": "source", "count": "int", "channels": "int"}


def axes_fit(p: ChannelsProblem) -> str | None:
    """None where 32 bits count along each axis, otherwise a refusal. The elements together may be more."""
    return counted(max(p.pixels, p.channels, p.inner), "axes")


class Walk:
    """How the elements of an array are divided among blocks and threads.

    Args:
        p: the array.
        summed: whether sums of parts are to be merged.
        whole: whether a row must be a pixel.

    Attributes:
        blocks: along two axes: those of columns or of channels, and parts.
        count: parts of each channel that are to be merged.
        fields: the values of :data:`WALK_FIELDS`.
        constants: what factories are called with, for :func:`walking` and :func:`moving`.
    """

    def __init__(self, p: ChannelsProblem, summed: bool, whole: bool = False) -> None:
        self._dtype, pixels, channels, inner = p
        if inner == 0:  # nothing, in either layout
            pixels, inner = 0, 1
        if channels == 1:  # one row, in either layout
            pixels, inner = pixels * inner, 1
        self.threads, self.channels = _THREADS, channels
        self._summed, self._room = summed, _RESIDENT[p.dtype] * current_device().processors
        if inner == 1:
            self._go_down_rows(pixels, 1 if whole else _fold(pixels, channels))
        else:
            self._go_along_planes(pixels, inner)

    def _go_down_rows(self, pixels: int, fold: int) -> None:
        width, rows = fold * self.channels, pixels // fold
        vector = VECTOR if width % VECTOR == 0 else 1
        across = -(-width // (vector * _MOST_LANES))
        lanes = -(-width // (vector * max(across, 1)))
        groups = self.threads // max(lanes, 1)
        parts = self._parts(across, rows, groups)
        self.blocks, self.count = (across, parts), parts * fold
        self.constants = {"vector": vector, "planes": False}
        self.fields = {
            "count": rows, "stride": parts * groups, "step": parts * groups * width, "width": width,
            "channels": self.channels, "lanes": lanes, "groups": groups,
        }  # fmt: skip

    def _go_along_planes(self, pixels: int, inner: int) -> None:
        vector = VECTOR if inner % VECTOR == 0 else 1
        plane = inner // vector
        parts = self._parts(self.channels, pixels * plane, self.threads)
        images, inside = divmod(parts * self.threads, plane)
        self.blocks, self.count = (self.channels, parts), parts
        self.constants = {"vector": vector, "planes": True}
        self.fields = {
            "count": pixels * plane, "stride": parts * self.threads,
            "step": images * self.channels * inner + inside * vector, "width": inner, "channels": self.channels,
            "plane": plane, "inside_step": inside, "carry": (self.channels - 1) * inner,
        }  # fmt: skip

    def _parts(self, across: int, steps: int, at_once: int) -> int:
        """Of as many steps of which a block makes ``at_once`` at a time; ``across`` blocks lie side by side."""
        turns = 1 if self._summed and across * _EIGHTH <= self._room else _TURNS
        fitting = max(turns * self._room // max(across, 1), 1)
        return min(fitting, -(-steps // (at_once * _LEAST_STEPS)), MOST_BLOCKS_ACROSS) if at_once else 0

    def task(self, of: Kernel, given: str, *, fields: Any = None, **constants: Any) -> Task:
        """A kernel that goes over the elements, ready; ``fields`` are its own."""
        resident = _RESIDENT[self._dtype]
        constants |= self.constants
        variant = of.variant(self._dtype, threads=self.threads, resident=resident, **constants)
        return Task(variant, self.blocks, given, **self.fields, **(fields or {}))

    def merging(self, of: Kernel, given: str, **fields: int) -> Task:
        """A kernel that merges the parts of each channel, ready."""
        lanes = threads_for_channels(self.channels)
        variant = of.variant(self._dtype, threads=threads_for(lanes * self.count, 1024), lanes=lanes)
        blocks = -(-self.channels // lanes)
        return Task(variant, blocks, given, count=self.count, channels=self.channels, **fields)

    def parts(self, terms: int) -> Any:
        """Room for the parts of so many sums."""
        return current_device().empty((terms * self.count * self.channels,), np.dtype(self._dtype))

    def parts_bytes(self, terms: int) -> int:
        """How much room that is."""
        return terms * self.count * self.channels * np.dtype(self._dtype).itemsize


def _fold(pixels: int, channels: int) -> int:
    """How many pixels make a row, so that it has whole vectors; 1 if they cannot be divided so.

    >>> _fold(12, 3), _fold(12, 6), _fold(12, 8), _fold(13, 3)
    (4, 2, 1, 1)
    """
    fold = 1
    while fold * channels % VECTOR:
        fold *= 2
    return fold if pixels % fold == 0 and channels <= _MOST_FOLDED else 1


def threads_for_channels(channels: int) -> int:
    """Threads side by side that merge parts, a channel each: a power of two.

    >>> threads_for_channels(3), threads_for_channels(1000)
    (4, 8)
    """
    lanes = 1
    while lanes < min(channels, _MERGED_CHANNELS):
        lanes *= 2
    return lanes


# --- Within kernels -------------------------------------------------------------------------------------------------


@cache
def walking(threads: int, vector: int, planes: bool) -> tuple[Any, Any, Any, Any]:
    """Device functions: ``begin(a)``, ``onward(a, place)``, ``first_channel(a)`` and ``next_channel(a, channel)``.

    A place is where a thread is: its number, below ``a.count`` if there is one; the index of the first of ``vector``
    elements; and the same in its plane. The channels of a thread's elements are the same at all of its places.
    """
    if planes:

        @device_function
        def begin(a):
            number = cuda.blockIdx.y * threads + cuda.threadIdx.x
            image, inside = quotient(number, a.plane), remainder(number, a.plane)
            row = types.int64(image) * a.channels + cuda.blockIdx.x
            return types.int64(number), row * a.width + inside * vector, types.int64(inside)

        @device_function
        def onward(a, place):
            number, at, inside = place
            number, at, inside = number + a.stride, at + a.step, inside + a.inside_step
            if inside >= a.plane:
                inside -= a.plane
                at += a.carry
            return number, at, inside

        @device_function
        def first_channel(a):
            return types.int64(cuda.blockIdx.x)

        @device_function
        def next_channel(a, channel):
            return channel

    else:

        @device_function
        def begin(a):
            column = _column(a, vector)
            row = types.int64(cuda.blockIdx.y * a.groups + quotient(cuda.threadIdx.x, a.lanes))
            at = row * a.width + column
            if column >= a.width or quotient(cuda.threadIdx.x, a.lanes) >= a.groups:
                row = a.count
            return row, at, types.int64(0)

        @device_function
        def onward(a, place):
            return place[0] + a.stride, place[1] + a.step, place[2]

        @device_function
        def first_channel(a):
            return types.int64(remainder(_column(a, vector), a.channels))

        @device_function
        def next_channel(a, channel):
            return channel + 1 if channel + 1 < a.channels else types.int64(0)

    return begin, onward, first_channel, next_channel


@device_function
def _column(a, vector):
    """The first of a thread's columns, those of the matrix or beyond."""
    return (cuda.blockIdx.x * a.lanes + types.int64(remainder(cuda.threadIdx.x, a.lanes))) * vector


@cache
def moving(vector: int) -> tuple[Any, Any]:
    """Device functions between memory and registers, ``vector`` elements: ``load(values, first, pointer, at)`` fills
    ``values`` from ``first`` on, and ``store(pointer, at, values, first)`` writes them."""
    if vector == 1:

        @device_function
        def load(values, first, pointer, at):
            values[first] = pointer[at]

        @device_function
        def store(pointer, at, values, first):
            pointer[at] = values[first]

    else:

        @device_function
        def load(values, first, pointer, at):
            values[first], values[first + 1], values[first + 2], values[first + 3] = load4(pointer, at)

        @device_function
        def store(pointer, at, values, first):
            store4(pointer, at, (values[first], values[first + 1], values[first + 2], values[first + 3]))

    return load, store


def sweep(dtype: Any, vector: int, walk: tuple[Any, ...], arrays: int, visit: Callable[[int], Any]) -> Any:
    """A device function ``swept(a, numbers, sums)`` that visits all places of a thread, some at a time.

    As many as load 64 to 96 bytes at once, of all the ``arrays`` that are read; half as much where vectors are single
    elements. ``visit(n)`` is a device function ``visited(a, place, numbers, sums)`` for n places, which returns the
    next one.
    ``numbers`` and ``sums`` are what the kernel keeps in registers.
    """
    begin = walk[0]
    together = (4 if arrays == 1 else 2) * 32 // dtype.bitwidth * (2 if vector == 1 else 1)
    several, single = visit(together), visit(1)
    others = together - 1

    @device_function
    def swept(a, numbers, sums):
        place = begin(a)
        while place[0] + others * a.stride < a.count:
            place = several(a, place, numbers, sums)
        while place[0] < a.count:
            place = single(a, place, numbers, sums)

    return swept


def block_sums(dtype: Any, threads: int, vector: int, planes: bool, terms: int) -> Any:
    """A device function ``write(a, sums)`` that adds up what the threads of a block have, and writes it to ``a.parts``.

    ``sums[term * vector + i]`` belong to a thread's i-th element. All threads of the block must call it.
    """
    if planes:
        return _sums_of_a_channel(dtype, threads, vector, terms)
    return _sums_of_columns(dtype, threads, vector, terms)


def _sums_of_a_channel(dtype: Any, threads: int, vector: int, terms: int) -> Any:
    """Channels first: all threads of a block have the same channel."""
    total = block_reduction(dtype, threads, plus, 0)

    @device_function
    def write(a, sums):
        for term in range(terms):
            mine = sums[term * vector]
            for i in range(1, vector):
                mine += sums[term * vector + i]
            whole = total(mine)
            if cuda.threadIdx.x == 0:
                part = types.int64(term) * cuda.gridDim.y + cuda.blockIdx.y
                a.parts[part * a.channels + cuda.blockIdx.x] = whole

    return write


def _sums_of_columns(dtype: Any, threads: int, vector: int, terms: int) -> Any:
    """Channels last: in each step half of the groups of threads, which have the same columns, give theirs to others."""
    _, store = moving(vector)
    size = terms * vector
    room = size * threads

    @device_function
    def write(a, sums):
        shared = cuda.shared.array(room, dtype)
        thread = cuda.threadIdx.x
        group, groups = types.int64(quotient(thread, a.lanes)), types.int64(a.groups)
        for i in range(size):
            shared[i * threads + thread] = sums[i]
        cuda.syncthreads()
        while groups > 1:
            half = (groups + 1) >> 1
            if group + half < groups:
                for i in range(size):
                    shared[i * threads + thread] += shared[i * threads + thread + half * a.lanes]
            cuda.syncthreads()
            groups = half
        column = _column(a, vector)
        if group == 0 and column < a.width:
            for i in range(size):
                sums[i] = shared[i * threads + thread]
            for term in range(terms):
                part = types.int64(term) * cuda.gridDim.y + cuda.blockIdx.y
                store(a.parts, part * a.width + column, sums, term * vector)

    return write


def merged_parts(threads: int, lanes: int, terms: int) -> Any:
    """A device function ``merge(a, totals)``: the sums of all parts of the block's channels, in float64.

    It returns the channel that a thread has to finish, or one beyond the last where it has none. A block has ``lanes``
    channels, whose parts its threads take turns with. All threads of the block must call it.
    """
    groups, room, double = threads // lanes, threads * terms, types.float64

    @device_function
    def merge(a, totals):
        shared = cuda.shared.array(room, double)
        thread = cuda.threadIdx.x
        lane, group = thread % lanes, thread // lanes
        channel = types.int64(cuda.blockIdx.x) * lanes + lane
        for term in range(terms):
            totals[term] = 0.0
        if channel < a.channels:
            for part in range(group, a.count, groups):
                for term in range(terms):
                    totals[term] += a.parts[(types.int64(term) * a.count + part) * a.channels + channel]
        for term in range(terms):
            shared[term * threads + thread] = totals[term]
        cuda.syncthreads()
        half = groups >> 1
        while half > 0:
            if group < half:
                for term in range(terms):
                    shared[term * threads + thread] += shared[term * threads + thread + half * lanes]
            cuda.syncthreads()
            half >>= 1
        for term in range(terms):
            totals[term] = shared[term * threads + lane]
        return channel if group == 0 else types.int64(a.channels)

    return merge


@kernel(total="array", **PARTS_FIELDS)
def total_kernel(dtype: Any, threads: int, lanes: int) -> Any:
    """``total[c] = sum of parts[p, c]`` over the ``count`` parts. A block has ``lanes`` channels; bits repeat."""
    merge, double = merged_parts(threads, lanes, 1), types.float64

    def body(a):
        totals = cuda.local.array(1, double)
        channel = merge(a, totals)
        if channel < a.channels:
            a.total[channel] = dtype(totals[0])

    return body


# --- The gradients of an activation and a bias ----------------------------------------------------------------------


@kernel(dy="source", y="source", dz="array", parts="array", **WALK_FIELDS)
def bias_activation_gradient_kernel(
    dtype: Any, threads: int, vector: int, planes: bool, masked: bool, written: bool, summed: bool
) -> Any:
    """``dz = dy where y > 0, else 0`` (a NaN in y passes dy on), and the sums of dz of each channel of a part.

    Args:
        masked: whether there is a y, behind a ReLU; otherwise dz is dy.
        written: whether dz is wanted.
        summed: whether the sums are.

    Blocks and threads as a :class:`Walk` has them; bits repeat.
    """
    walk, zero = walking(threads, vector, planes), dtype(0)
    onward = walk[1]
    load, store = moving(vector)

    def visit(places: int) -> Any:
        size = places * vector

        @device_function
        def visited(a, place, numbers, sums):
            dz, y, there = cuda.local.array(size, dtype), cuda.local.array(size, dtype), place
            for p in range(places):
                load(dz, p * vector, a.dy, place[1])
                if masked:
                    load(y, p * vector, a.y, place[1])
                place = onward(a, place)
            for p in range(places):
                for i in range(vector):
                    if masked:
                        dz[p * vector + i] = zero if y[p * vector + i] <= zero else dz[p * vector + i]
                    if summed:
                        sums[i] += dz[p * vector + i]
                if written:
                    store(a.dz, there[1], dz, p * vector)
                there = onward(a, there)
            return place

        return visited

    swept = sweep(dtype, vector, walk, 2 if masked else 1, visit)
    write = block_sums(dtype, threads, vector, planes, 1)

    def body(a):
        sums = cuda.local.array(vector, dtype)
        for i in range(vector):
            sums[i] = zero
        swept(a, 0, sums)
        if summed:
            write(a, sums)

    return body


class BiasActivationGradient:
    """``dz, db`` from ``dy`` and ``y``; see :func:`bias_activation_gradient_kernel`."""

    def __init__(self, p: ChannelsProblem):
        self._walk = Walk(p, summed=True)
        self.workspace_bytes = self._walk.parts_bytes(1)
        self._total = self._walk.merging(total_kernel, "parts total")
        self._gradient = cache(self._task)

    def _task(self, **constants: bool) -> Task:
        return self._walk.task(bias_activation_gradient_kernel, "dy y dz parts", **constants)

    def run(self, dy: int, y: int, dz: int, db: int) -> None:
        """Addresses; ``y`` and ``dz`` are 0 without relu, ``db`` is 0 when the bias has no gradient."""
        parts = self._walk.parts(1)
        at = current_device().address(parts)
        if dz or db:
            self._gradient(masked=y != 0, written=dz != 0, summed=db != 0).run(dy, y, dz, at)
        if db:
            self._total.run(at, db)
