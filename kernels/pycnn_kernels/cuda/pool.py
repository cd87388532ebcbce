"""Pooling, forward and backward, channels last and channels first: every thread gathers what it writes.

Forward a thread gathers the elements of one window, backward the windows of an element, or of a *cell* of neighbouring
elements that lie in the same windows. So no two threads write the same element, and sums are added in a fixed order:
bits repeat. Threads follow the order of memory of what they write, so that neighbours access neighbouring addresses;
where channels are last and divide by 4, a thread has four of them and moves 16 bytes at a time.

Pooling is bound by memory, if little is computed beside the accesses. So windows that most networks have are constants
of the kernels, whose loops the compiler writes out: all loads of a window are on their way at once. All other windows
(large, dilated, adaptive ones) are read from tables, one for each axis. Where windows are so large that there are few
of them, as in global pooling, the threads of a block share each window.

Channels first is channels last of ``N * C`` images with one channel. Only the positions of maxima, and what a
stochastic pooling draws with, are kept in channels last in both layouts: in channels first they are transposed, which
adds less than a fifth to what is moved.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import cuda
from numba.cuda import types

from pycnn_kernels.cpu.pool import positions_fit
from pycnn_kernels.cpu.windows import backward_windows, window_counts
from pycnn_kernels.cuda.compile import device_function
from pycnn_kernels.cuda.device import current_device
from pycnn_kernels.cuda.launch import THREADS, Kernel, Task, blocks_for, counted, kernel
from pycnn_kernels.cuda.ptx import divided, division, is_there, load2, load4, quotient, store2, store4
from pycnn_kernels.cuda.reduce import WARP, threads_for
from pycnn_kernels.cuda.transpose import side_by_side, transposition
from pycnn_kernels.problem import FractionalPoolProblem, PoolProblem, Triple

#: Elements of windows, or of cells, that are written out one by one, at most.
MOST_WRITTEN_OUT = 9

#: Channels that a thread has where they divide by it: 16 bytes of float32.
WIDTH = 4

int32 = types.int32

# --- What a thread has to do ----------------------------------------------------------------------------------------

#: The targets of a kernel, (N, TD, TH, TW, C), are threads' in groups of neighbouring channels, ``groups`` of a pixel.
TARGET_FIELDS = {
    name: kind
    for kind, names in {
        "int": "targets groups TD TH TW channels",
        "long": "by_groups by_TD by_TH by_TW by_channels",
    }.items()
    for name in names.split()
}


class View(NamedTuple):
    """A problem's arrays as the kernels see them, (N, D, H, W, C): in channels first each plane is an image of its own.

    A thread has ``width`` channels.
    """

    N: int
    C: int
    width: int

    @property
    def flat(self) -> bool:
        """Whether an image has one channel, which then is that of the plane."""
        return self.C == 1


def view_of(p: PoolProblem | FractionalPoolProblem, most: int = WIDTH) -> View:
    """The view of a problem whose threads may have ``most`` channels."""
    if p.layout == "channels_first" or p.C == 1:
        return View(p.N * p.C, 1, 1)
    return View(p.N, p.C, 1 if p.C % most else most)


def targets_of(p: PoolProblem | FractionalPoolProblem, view: View, size: Triple) -> dict[str, int]:
    """The values of :data:`TARGET_FIELDS` for targets of so many pixels along each axis."""
    N, C, width = view
    numbers = {"groups": C // width, "TD": size[0], "TH": size[1], "TW": size[2], "channels": p.C}
    divisions = {f"by_{name}": division(max(number, 1)) for name, number in numbers.items()}
    return {"targets": N * math.prod(size) * (C // width)} | numbers | divisions


def place_of(width: int, flat: bool) -> Any:
    """A device function ``place(a, i)``: image, d, h, w and first channel of thread i's targets."""

    @device_function
    def place(a, i):
        pixel, c = int32(i), int32(0)
        if not flat:
            pixel = divided(i, a.by_groups)
            c = int32((i - pixel * a.groups) * width)
        row = divided(pixel, a.by_TW)
        plane = divided(row, a.by_TH)
        n = divided(plane, a.by_TD)
        return n, int32(plane - n * a.TD), int32(row - plane * a.TH), int32(pixel - row * a.TW), c

    return place


def channel_of(flat: bool) -> Any:
    """A device function ``channel(a, n, c)``: which of the problem's channels channel c of image n is."""

    @device_function
    def channel(a, n, c):
        if flat:
            return int32(n - divided(n, a.by_channels) * a.channels)
        return c

    return channel


def read_into(width: int) -> Any:
    """A device function ``read(pointer, place, values)``: ``width`` elements into registers."""

    @device_function
    def read(pointer, place, values):
        if width == 4:
            values[0], values[1], values[2], values[3] = load4(pointer, place)
        else:
            values[0] = pointer[place]

    return read


def write_from(width: int) -> Any:
    """A device function ``write(pointer, place, values)``: ``width`` elements from registers."""

    @device_function
    def write(pointer, place, values):
        if width == 4:
            store4(pointer, place, (values[0], values[1], values[2], values[3]))
        else:
            pointer[place] = values[0]

    return write


# --- Forward --------------------------------------------------------------------------------------------------------

#: Where windows lie in x (N, D, H, W, C): by the strides and the padding before, or from tables (targets, 3), of which
#: an entry is the first element along an axis, its position, and how many there are, ``step`` apart: ``step_w`` in
#: elements of x, the others in lines and planes. C is what lies between two pixels.
_WINDOW_FIELDS = TARGET_FIELDS | {
    name: kind
    for kind, names in {
        "source": "x",
        "array": "y",
        "table": "d_windows h_windows w_windows",
        "int": "D H W C KH KW stride_d stride_h stride_w before_h before_w step_d step_h step_w",
    }.items()
    for name in names.split()
}


def window_tables(p: PoolProblem) -> dict[str, np.ndarray]:
    """The tables of :data:`_WINDOW_FIELDS`."""
    return {f"{name}_windows": _windows_along(p, axis) for axis, name in enumerate("dhw")}


def _windows_along(p: PoolProblem, axis: int) -> np.ndarray:
    start, end, step = p.starts(axis), np.minimum(p.ends(axis), p.size[axis]), p.dilation[axis]
    position = -(np.minimum(start, 0) // step)
    first = start + position * step
    count = np.maximum(-(-(end - first) // step), 0)
    return np.stack((first, position, count), axis=1).astype(np.int32)


def over_window(take: Any, width: int, window: tuple[int, int] | None, paired: bool, parts: int = 1) -> Any:
    """A device function that takes the elements of a window in turn: ``over(a, place, part, values, state)``.

    ``place`` is the window's of :func:`place_of`. Each element, read into the registers ``values``, is given to
    ``take(a, values, position, state)``. With a ``window``, its lines and taps, those that lie in x altogether are
    written out; ``paired``, two taps of a line are one access. Without, windows are in tables, and may be in ``parts``:
    ``part`` has every so manieth element.
    """
    read = read_into(width)
    lines, taps = window or (0, 0)

    @device_function
    def over_box(a, n, c, along_d, along_h, along_w, values, state):
        for i in range(along_d[2]):
            for j in range(along_h[2]):
                line = (n * a.D + along_d[0] + i * a.step_d) * a.H + along_h[0] + j * a.step_h
                source = int32((line * a.W + along_w[0]) * a.C + c)
                position = int32(((along_d[1] + i) * a.KH + along_h[1] + j) * a.KW + along_w[1])
                for _ in range(along_w[2]):
                    read(a.x, source, values)
                    take(a, values, position, state)
                    source, position = int32(source + a.step_w), int32(position + 1)

    @device_function
    def over_part_of_line(a, n, c, along_d, along_h, along_w, part, values, state):
        """Apart from the rest, because the compiler writes out several steps of so simple a loop."""
        line = (n * a.D + along_d[0]) * a.H + along_h[0]
        first = int32((line * a.W + along_w[0]) * a.C + c)
        position = int32((along_d[1] * a.KH + along_h[1]) * a.KW + along_w[1])
        for k in range(int32(part), along_w[2], int32(parts)):
            read(a.x, int32(first + k * a.step_w), values)
            take(a, values, int32(position + k), state)

    @device_function
    def over_part(a, n, c, along_d, along_h, along_w, part, values, state):
        """Where the next element lies is added, with carries from axis to axis: only the first is divided for."""
        if along_d[2] == 1 and along_h[2] == 1:
            over_part_of_line(a, n, c, along_d, along_h, along_w, part, values, state)
        elif along_d[2] > 0 and along_h[2] > 0 and along_w[2] > 0:
            line, lines_on = int32(quotient(part, along_w[2])), int32(quotient(parts, along_w[2]))
            k, k_on = int32(part - line * along_w[2]), int32(parts - lines_on * along_w[2])
            i, i_on = int32(quotient(line, along_h[2])), int32(quotient(lines_on, along_h[2]))
            j, j_on = int32(line - i * along_h[2]), int32(lines_on - i_on * along_h[2])
            while i < along_d[2]:
                line = (n * a.D + along_d[0] + i * a.step_d) * a.H + along_h[0] + j * a.step_h
                read(a.x, int32((line * a.W + along_w[0]) * a.C + k * a.step_w + c), values)
                position = int32(((along_d[1] + i) * a.KH + along_h[1] + j) * a.KW + along_w[1] + k)
                take(a, values, position, state)
                i, j, k = int32(i + i_on), int32(j + j_on), int32(k + k_on)
                if k >= along_w[2]:
                    j, k = int32(j + 1), int32(k - along_w[2])
                if j >= along_h[2]:
                    i, j = int32(i + 1), int32(j - along_h[2])

    @device_function
    def entry(table, target):
        return table[3 * target], table[3 * target + 1], table[3 * target + 2]

    @device_function
    def from_tables(a, place, part, values, state):
        n, d, h, w, c = place
        along_d, along_h, along_w = entry(a.d_windows, d), entry(a.h_windows, h), entry(a.w_windows, w)
        if parts > 1:
            over_part(a, n, c, along_d, along_h, along_w, part, values, state)
        else:
            over_box(a, n, c, along_d, along_h, along_w, values, state)

    @device_function
    def inside(begin, count, size):
        first = int32(max(-begin, 0))
        return int32(begin + first), first, int32(min(count, size - begin) - first)

    @device_function
    def written_out(a, place, part, values, state):
        n, d, h, w, c = place
        d, h, w = int32(d * a.stride_d), int32(h * a.stride_h - a.before_h), int32(w * a.stride_w - a.before_w)
        if h >= 0 and h <= int32(a.H - lines) and w >= 0 and w <= int32(a.W - taps):
            corner = int32((((n * a.D + d) * a.H + h) * a.W + w) * a.C + c)
            for j in range(lines):
                if paired:
                    first, second = load2(a.x, corner + j * a.W)
                    values[0] = first
                    take(a, values, 2 * j, state)
                    values[0] = second
                    take(a, values, 2 * j + 1, state)
                else:
                    for k in range(taps):
                        read(a.x, corner + (j * a.W + k) * a.C, values)
                        take(a, values, j * taps + k, state)
        else:
            along_d = d, int32(0), int32(1)
            over_box(a, n, c, along_d, inside(h, lines, a.H), inside(w, taps, a.W), values, state)

    return from_tables if window is None else written_out


def target_and_part(threads: int, parts: int) -> Any:
    """A device function that gives a thread its target and its part of that: neighbours have neighbouring targets."""
    columns = threads // parts

    @device_function
    def share_of_block():
        if parts == 1:
            return int32(cuda.blockIdx.x * threads + cuda.threadIdx.x), int32(0)
        part = int32(quotient(cuda.threadIdx.x, columns))
        return int32(cuda.blockIdx.x * columns + cuda.threadIdx.x - part * columns), part

    return share_of_block


def sums_of_parts(dtype: Any, threads: int, width: int, parts: int) -> Any:
    """A device function ``add(values)`` that all threads of a block call; the block is in ``parts`` of neighbours.

    The threads of part 0 get the sums over the parts: one half of the threads is added to the other, again and again.
    """
    columns, size = threads // parts, threads * width

    @device_function
    def add(values):
        shared = cuda.shared.array(size, dtype)
        me, half = int32(cuda.threadIdx.x), threads >> 1
        for e in range(width):
            shared[e * threads + me] = values[e]
        while half >= columns:
            cuda.syncthreads()
            if me < half:
                for e in range(width):
                    values[e] += shared[e * threads + me + half]
                    shared[e * threads + me] = values[e]
            half >>= 1

    return add


def maxima_of_parts(dtype: Any, threads: int, width: int, parts: int, nowhere: int) -> Any:
    """A device function ``choose(best, found)``, like :func:`sums_of_parts`: what one thread would have found."""
    columns, size = threads // parts, threads * width

    @device_function
    def wins(best, found, other, other_found):
        if other_found == nowhere or found == nowhere:
            return other_found != nowhere
        if other != other:  # the last of several
            return best == best or other_found > found
        return other > best or (other == best and other_found < found)

    @device_function
    def choose(best, found):
        values = cuda.shared.array(size, dtype)
        positions = cuda.shared.array(size, int32)
        me, half = int32(cuda.threadIdx.x), threads >> 1
        for e in range(width):
            values[e * threads + me], positions[e * threads + me] = best[e], found[e]
        while half >= columns:
            cuda.syncthreads()
            if me < half:
                for e in range(width):
                    mine, other = e * threads + me, e * threads + me + half
                    if wins(best[e], found[e], values[other], positions[other]):
                        best[e], found[e] = values[other], positions[other]
                    values[mine], positions[mine] = best[e], found[e]
            half >>= 1

    return choose


#: What ``index`` holds for a window without elements, by the kind of field that it is.
_NOWHERE = {"index": (1 << 16) - 1, "long_index": 1 << 24}


def _max_pool(
    dtype: Any, threads: int, width: int, flat: bool, window: Any, paired: bool, parts: int, index: str | None,
    normalised: bool,
) -> Any:  # fmt: skip
    """``y = activation(m + bias)``, m the greatest element of each window, and its position in ``index``.

    x (N, D, H, W, C); y and index (N, OD, OH, OW, C). An element may be ``(x - mean) * scale + bias`` with the numbers
    of its channel (``norm_...``). Of equals the first is the greatest; NaN counts as greater than all. A window without
    elements has -inf. Each thread has ``width`` channels of one window, or of one of its ``parts``.
    """
    place_of_target, channel_of_image = place_of(width, flat), channel_of(flat)
    read, write = read_into(width), write_from(width)
    lowest, zero, nowhere = dtype(-math.inf), dtype(0), _NOWHERE[index or "index"]
    share_of_block, finds = target_and_part(threads, parts), index is not None or parts > 1

    @device_function
    def take(a, values, position, state):
        best, found, mean, scale, level = state
        for e in range(width):
            candidate = values[e]
            if normalised:
                candidate = (candidate - mean[e]) * scale[e] + level[e]
            wins = candidate > best[e] or candidate != candidate
            if finds:
                wins = wins or found[e] == nowhere  # the first: if all are -inf, it is the greatest
                found[e] = position if wins else found[e]
            best[e] = candidate if wins else best[e]

    over = over_window(take, width, window, paired, parts)
    choose = maxima_of_parts(dtype, threads, width, parts, nowhere)

    def body(a):
        i, part = share_of_block()
        if parts > 1 or i < a.targets:
            values, best = cuda.local.array(width, dtype), cuda.local.array(width, dtype)
            mean, scale = cuda.local.array(width, dtype), cuda.local.array(width, dtype)
            level, found = cuda.local.array(width, dtype), cuda.local.array(width, int32)
            place = place_of_target(a, min(i, int32(a.targets - 1)))
            for e in range(width):
                best[e], found[e], level[e] = lowest, nowhere, zero
            if normalised:
                channel = channel_of_image(a, place[0], place[4])
                read(a.norm_mean, channel, mean)
                read(a.norm_scale, channel, scale)
                if is_there(a.norm_bias):
                    read(a.norm_bias, channel, level)
            over(a, place, part, values, (best, found, mean, scale, level))
            if parts > 1:
                choose(best, found)
            if part == 0 and i < a.targets:
                if is_there(a.bias):
                    read(a.bias, channel_of_image(a, place[0], place[4]), values)
                    for e in range(width):
                        best[e] += values[e]
                if a.relu:
                    for e in range(width):
                        best[e] = zero if best[e] < zero else best[e]
                write(a.y, i * width, best)
                if index is not None:
                    write(a.index, i * width, found)

    return body


_MAX_FIELDS = _WINDOW_FIELDS | {
    "relu": "int", "bias": "source", "norm_mean": "source", "norm_scale": "source", "norm_bias": "source",
}  # fmt: skip
#: The kernels of which ``index`` is of a kind: what they are compiled for says which.
max_pool_kernels = {kind: kernel(index=kind, **_MAX_FIELDS)(_max_pool) for kind in _NOWHERE}


@kernel(
    count="float", d_counts="table", h_counts="table", w_counts="table", **_WINDOW_FIELDS,
)  # fmt: skip
def sum_pool_kernel(
    dtype: Any, threads: int, width: int, flat: bool, window: Any, paired: bool, parts: int, norm: bool, counted: bool
) -> Any:
    """``y = sum / count`` of the elements of each window, or with ``norm`` the root of the sum of their squares.

    x (N, D, H, W, C), y (N, OD, OH, OW, C). The count is one number for all windows, or where they are ``counted`` the
    product of those in the tables of the axes. Each thread has ``width`` channels of one window, or of one of its
    ``parts``.
    """
    place_of_target, write, zero = place_of(width, flat), write_from(width), dtype(0)
    share_of_block, add = target_and_part(threads, parts), sums_of_parts(dtype, threads, width, parts)

    @device_function
    def take(a, values, position, state):
        for e in range(width):
            state[e] += values[e] * values[e] if norm else values[e]

    over = over_window(take, width, window, paired, parts)

    def body(a):
        i, part = share_of_block()
        if parts > 1 or i < a.targets:
            values, total = cuda.local.array(width, dtype), cuda.local.array(width, dtype)
            place = place_of_target(a, min(i, int32(a.targets - 1)))
            for e in range(width):
                total[e] = zero
            over(a, place, part, values, total)
            if parts > 1:
                add(total)
            if part == 0 and i < a.targets:
                count = a.count
                if counted:
                    count = dtype(a.d_counts[place[1]] * a.h_counts[place[2]] * a.w_counts[place[3]])
                for e in range(width):
                    total[e] = math.sqrt(total[e]) if norm else total[e] / count
                write(a.y, i * width, total)

    return body


def _stochastic_pool(
    dtype: Any, threads: int, width: int, flat: bool, window: Any, paired: bool, index: str
) -> Any:  # fmt: skip
    """Of each window the positive element in which the running sum passes ``uniform`` times the whole; its position.

    x (N, D, H, W, C); y, index and uniform (N, OD, OH, OW, C). Where none is positive, 0. Each thread has ``width``
    channels of one window, which it goes over twice.
    """
    place_of_target, read, write = place_of(width, flat), read_into(width), write_from(width)
    zero, nowhere = dtype(0), _NOWHERE[index]

    @device_function
    def add_positive(a, values, position, total):
        for e in range(width):
            total[e] += zero if values[e] < zero else values[e]

    @device_function
    def draw(a, values, position, state):
        goal, passed, drawn, found = state
        for e in range(width):
            if values[e] > zero and passed[e] <= goal[e]:
                drawn[e], found[e] = values[e], position
            passed[e] += zero if values[e] < zero else values[e]

    over_to_add = over_window(add_positive, width, window, paired)
    over_to_draw = over_window(draw, width, window, paired)

    def body(a):
        i = int32(cuda.blockIdx.x * threads + cuda.threadIdx.x)
        if i < a.targets:
            values, goal = cuda.local.array(width, dtype), cuda.local.array(width, dtype)
            passed, drawn = cuda.local.array(width, dtype), cuda.local.array(width, dtype)
            found = cuda.local.array(width, int32)
            place = place_of_target(a, i)
            for e in range(width):
                passed[e], found[e] = zero, nowhere
            over_to_add(a, place, 0, values, passed)
            read(a.uniform, i * width, goal)
            for e in range(width):
                goal[e] *= passed[e]
                drawn[e] = zero * passed[e]  # what is not a number must not be lost
                passed[e] = zero
            over_to_draw(a, place, 0, values, (goal, passed, drawn, found))
            write(a.y, i * width, drawn)
            write(a.index, i * width, found)

    return body


stochastic_pool_kernels = {
    kind: kernel(index=kind, uniform="source", **_WINDOW_FIELDS)(_stochastic_pool) for kind in _NOWHERE
}


# --- Backward -------------------------------------------------------------------------------------------------------


def shares(dtype: Any, counted: bool) -> Any:
    """A device function ``share(a, d, h, w)``: the part of an average that each element of a window has."""
    one = dtype(1)

    @device_function
    def share(a, d, h, w):
        if counted:
            return one / dtype(a.d_counts[d] * a.h_counts[h] * a.w_counts[w])
        return one / a.count

    return share


_GRADIENT_FIELDS = TARGET_FIELDS | {
    name: kind
    for kind, names in {
        "source": "dy",
        "array": "dx",
        "table": "d_counts h_counts w_counts d_begins h_begins w_begins d_pairs h_pairs w_pairs",
        "float": "count",
        "int": "OD OH OW C KH KW H W before_h before_w",
    }.items()
    for name in names.split()
}


def _cells_gradient(
    dtype: Any, threads: int, width: int, flat: bool, kernel: tuple[int, int], stride: tuple[int, int], paired: bool,
    index: str | None, counted: bool,
) -> Any:  # fmt: skip
    """dx of windows of one plane: the sum of dy where ``index`` has an element's position; without, of shares of dy.

    dy and index (N, D, OH, OW, C), dx (N, D, H, W, C). Each thread has ``width`` channels of a cell: the elements from
    the begin of one window to that of the next, along both axes. What a cell's elements gather from are the window that
    begins with it and those before that reach into it: each is read once for all of them, and the positions, by which
    they compare, are constants. Cells (TH, TW) cover the padding before x, too; there nothing is written. ``paired``,
    the two elements of a line of a cell are one access.
    """
    place_of_cell, share = place_of(width, flat), shares(dtype, counted)
    read, read_index = read_into(width), read_into(width)
    (KH, KW), (SH, SW), zero = kernel, stride, dtype(0)
    size = SH * SW * width
    reach_h, reach_w = -(-KH // SH), -(-KW // SW)  # windows along each axis that have elements of a cell

    @device_function
    def gather(a, window, part, cell, before_h, before_w, values, found):
        read(a.dy, window, values)
        if index is not None:
            read_index(a.index, window, found)
        for i in range(SH):
            for j in range(SW):
                kh, kw = i + before_h * SH, j + before_w * SW
                if kh < KH and kw < KW:
                    for e in range(width):
                        if index is None:
                            cell[(i * SW + j) * width + e] += part * values[e]
                        else:
                            cell[(i * SW + j) * width + e] += values[e] if found[e] == kh * KW + kw else zero

    @device_function
    def write_cell(a, line, h, w, c, cell):
        for i in range(SH):
            if h + i >= 0 and h + i < a.H:
                at = ((line + h + i) * a.W + w) * a.C + c
                if paired:
                    store2(a.dx, at, (cell[2 * i], cell[2 * i + 1]))
                else:
                    for j in range(SW):
                        if w + j >= 0 and w + j < a.W:
                            if width == 4:
                                first = (i * SW + j) * 4
                                four = cell[first], cell[first + 1], cell[first + 2], cell[first + 3]
                                store4(a.dx, at + j * a.C, four)
                            else:
                                a.dx[at + j * a.C] = cell[i * SW + j]

    def body(a):
        thread = int32(cuda.blockIdx.x * threads + cuda.threadIdx.x)
        if thread < a.targets:
            values, found = cuda.local.array(width, dtype), cuda.local.array(width, int32)
            cell = cuda.local.array(size, dtype)
            n, d, h, w, c = place_of_cell(a, thread)
            for e in range(size):
                cell[e] = zero
            plane = n * a.TD + d
            for i in range(reach_h):
                oh = h - (reach_h - 1 - i)
                for j in range(reach_w):
                    ow = w - (reach_w - 1 - j)
                    if oh >= 0 and oh < a.OH and ow >= 0 and ow < a.OW:
                        window = int32(((plane * a.OH + oh) * a.OW + ow) * a.C + c)
                        part = zero
                        if index is None:
                            part = share(a, d, oh, ow)
                        gather(a, window, part, cell, reach_h - 1 - i, reach_w - 1 - j, values, found)
            write_cell(a, plane * a.H, int32(h * SH - a.before_h), int32(w * SW - a.before_w), c, cell)

    return body


def _gradient(dtype: Any, threads: int, width: int, flat: bool, index: str | None, counted: bool) -> Any:
    """dx of any windows: the sum of dy where ``index`` has an element's position; without, of shares of dy.

    dy and index (N, OD, OH, OW, C), dx (N, D, H, W, C). The windows of element i along an axis, and its position in
    each, are the pairs from ``begins[i]`` on. Each thread has ``width`` channels of one element.
    """
    place_of_element, share = place_of(width, flat), shares(dtype, counted)
    read, read_index, write, zero = read_into(width), read_into(width), write_from(width), dtype(0)

    def body(a):
        thread = int32(cuda.blockIdx.x * threads + cuda.threadIdx.x)
        if thread < a.targets:
            values, total = cuda.local.array(width, dtype), cuda.local.array(width, dtype)
            found = cuda.local.array(width, int32)
            n, d, h, w, c = place_of_element(a, thread)
            for e in range(width):
                total[e] = zero
            for i in range(a.d_begins[d], a.d_begins[d + 1]):
                od, kd = a.d_pairs[2 * i], a.d_pairs[2 * i + 1]
                for j in range(a.h_begins[h], a.h_begins[h + 1]):
                    oh, kh = a.h_pairs[2 * j], a.h_pairs[2 * j + 1]
                    line = ((n * a.OD + od) * a.OH + oh) * a.OW
                    for k in range(a.w_begins[w], a.w_begins[w + 1]):
                        ow, kw = a.w_pairs[2 * k], a.w_pairs[2 * k + 1]
                        window = int32((line + ow) * a.C + c)
                        read(a.dy, window, values)
                        if index is None:
                            part = share(a, od, oh, ow)
                            for e in range(width):
                                total[e] += part * values[e]
                        else:
                            position = (kd * a.KH + kh) * a.KW + kw
                            read_index(a.index, window, found)
                            for e in range(width):
                                total[e] += values[e] if found[e] == position else zero
            write(a.dx, thread * width, total)

    return body


cells_gradient_kernels = {kind: kernel(index=kind, **_GRADIENT_FIELDS)(_cells_gradient) for kind in _NOWHERE}
gradient_kernels = {kind: kernel(index=kind, **_GRADIENT_FIELDS)(_gradient) for kind in _NOWHERE}


# --- Algorithms -----------------------------------------------------------------------------------------------------


def supports(p: PoolProblem) -> str | None:
    """None for a problem whose elements are counted in 32 bits, otherwise the reason why not."""
    most = p.N * p.C * max(math.prod(p.size), math.prod(p.output))
    return counted(most)


def max_supports(p: PoolProblem) -> str | None:
    """The same, of a problem with positions, of which not every number is one."""
    return supports(p) or positions_fit(p)


def as_regular(p: PoolProblem) -> PoolProblem:
    """The same windows of the same elements in their simplest form.

    Adaptive windows that do not differ are windows with strides; and where windows are as wide as x, its lines are one.
    """
    if p.target is not None and not any(size < out or size % out for size, out in zip(p.size, p.target)):
        d, h, w = (size // out for size, out in zip(p.size, p.target))
        nothing = (0, 0)
        p = p._replace(
            kernel=(d, h, w), stride=(d, h, w), padding=(nothing, nothing, nothing), dilation=(1, 1, 1),
            ceil_mode=False, target=None,
        )  # fmt: skip
    return _with_joined_lines(p) if p.target is None else p


def _with_joined_lines(p: PoolProblem) -> PoolProblem:
    """Planes with one line where windows are as wide as x, without planes where they are then as large as one of x."""
    unpadded = p.padding == ((0, 0),) * 3 and p.dilation == (1, 1, 1)
    (D, H, W), (KD, KH, KW), (SD, SH, _) = p.size, p.kernel, p.stride
    if not unpadded or KW != W or (D, H) == (1, 1):
        return p
    if H > 1:
        joined = p._replace(size=(1, D, H * W), kernel=(1, KD, KH * W), stride=(1, SD, SH * W))
    else:
        joined = p._replace(size=(1, 1, D * W), kernel=(1, 1, KD * W), stride=(1, 1, SD * W))
    return _with_joined_lines(joined)


def _lies_in_planes(p: PoolProblem) -> bool:
    """Whether windows are some lines of one plane, without gaps: those that can be written out."""
    no_depth = p.kernel[0] == 1 and p.padding[0] == (0, 0)
    return p.target is None and no_depth and p.dilation == (1, 1, 1)


def _written_out(p: PoolProblem) -> tuple[int, int] | None:
    """Lines and taps of windows that the forward writes out."""
    few = math.prod(p.kernel) <= MOST_WRITTEN_OUT
    return p.kernel[1:] if few and _lies_in_planes(p) else None


def _are_pairs(p: PoolProblem) -> bool:
    """Whether each window has the two elements of a pair along w to itself, which begins at an even address."""
    return view_of(p).flat and p.kernel[2] == p.stride[2] == 2 and p.padding[2][0] == 0 and p.size[2] % 2 == 0


def _count_fields(p: PoolProblem) -> tuple[bool, dict[str, Any]]:
    """What averages divide by: whether windows differ in it, and the fields that say it."""
    if p.divisor:
        return False, {"count": p.divisor}
    counts = [window_counts(p, axis).astype(np.int32) for axis in range(3)]
    if all((along == along[:1]).all() and len(along) for along in counts):
        return False, {"count": math.prod(int(along[0]) for along in counts)}
    return True, {f"{axis}_counts": along for axis, along in zip("dhw", counts)}


#: Elements of windows that threads share, at least; and of how many targets there are threads enough without.
LEAST_SHARED, ENOUGH_TARGETS = 32, 1 << 16


def _power_of_two(count: int) -> int:
    """The least that is no less than a count, 32 at most."""
    return min(1 << max(count - 1, 0).bit_length(), WARP)


def _shared_by(p: PoolProblem, targets: int) -> tuple[int, int]:
    """Threads of a block, and how many windows (with their channels) they have: fewer where threads share them.

    Neighbouring threads should read neighbouring elements. In channels last they do where they have the channels of a
    window; in channels first where windows overlap, otherwise where all of them share one window.
    """
    elements, view = math.prod(p.window), view_of(p)
    if elements < LEAST_SHARED:
        return THREADS, THREADS
    if view.flat and p.size[2] // p.output[2] >= 8:  # windows begin in sectors of their own
        return threads_for(elements // 4), 1
    if targets < ENOUGH_TARGETS:
        return THREADS, WARP if view.flat else _power_of_two(p.C // view.width)
    return THREADS, THREADS


def forward_task(
    p: PoolProblem, kernel: Kernel, given: str, constants: dict[str, Any], shared: bool = True, **fields: Any
) -> Task:  # fmt: skip
    """A kernel over the windows of a problem, with the constants and the fields that are its own.

    ``shared``: whether it can share windows among threads.
    """
    p, view = as_regular(p), view_of(p)
    window = _written_out(p)
    paired = window is not None and _are_pairs(p)
    targets, tables = targets_of(p, view, p.output), {} if window else window_tables(p)
    threads, columns = THREADS, THREADS
    if shared:
        threads, columns = _shared_by(p, targets["targets"])
        constants = constants | {"parts": threads // columns}
    variant = kernel.variant(
        p.dtype, threads=threads, width=view.width, flat=view.flat, window=window, paired=paired, **constants
    )
    numbers = {
        "C": view.C, "D": p.size[0], "H": p.size[1], "W": p.size[2], "KH": p.window[1], "KW": p.window[2],
        "stride_d": p.stride[0], "stride_h": p.stride[1], "stride_w": p.stride[2],
        "before_h": p.padding[1][0], "before_w": p.padding[2][0],
        "step_d": p.dilation[0], "step_h": p.dilation[1], "step_w": p.dilation[2] * view.C,
    }  # fmt: skip
    blocks = blocks_for(targets["targets"], columns)
    return Task(variant, blocks, given, **targets, **tables, **numbers, **fields)


def gradient_task(p: PoolProblem, given: str, maxima: bool) -> Task:
    """dx from dy, and for max pooling from ``index`` as the view has it."""
    p, view = as_regular(p), view_of(p)
    counted, counts = (False, {}) if maxima else _count_fields(p)
    constants: dict[str, Any] = {
        "width": view.width, "flat": view.flat, "index": _index_kind(p) if maxima else None, "counted": counted,
    }  # fmt: skip
    size = p.size
    tables: dict[str, Any] = {}
    if _has_cells(p):
        cells = (-(-(p.size[axis] + p.padding[axis][0]) // p.stride[axis]) for axis in range(3))
        size = tuple(cells)  # type: ignore[assignment]
        kernel = cells_gradient_kernels[_index_kind(p)]
        constants |= {"kernel": p.kernel[1:], "stride": p.stride[1:], "paired": _are_pairs(p)}
    else:
        kernel = gradient_kernels[_index_kind(p)]
        for axis, name in enumerate("dhw"):
            begins, pairs = backward_windows(p, axis)
            tables |= {f"{name}_begins": begins.astype(np.int32), f"{name}_pairs": pairs.astype(np.int32)}
    targets = targets_of(p, view, size)
    return Task(
        kernel.variant(p.dtype, **constants), blocks_for(targets["targets"]), given, **targets, **counts, **tables,
        OD=p.output[0], OH=p.output[1], OW=p.output[2], C=view.C, KH=p.window[1], KW=p.window[2], H=p.size[1],
        W=p.size[2], before_h=p.padding[1][0], before_w=p.padding[2][0],
    )  # fmt: skip


def _has_cells(p: PoolProblem) -> bool:
    """Whether the backward writes out cells: few elements that lie in few windows."""
    if not _lies_in_planes(p) or p.stride[0] != 1:
        return False
    windows = math.prod(-(-k // s) for k, s in zip(p.kernel, p.stride))
    return math.prod(p.stride) <= MOST_WRITTEN_OUT and windows <= MOST_WRITTEN_OUT


def _index_kind(p: PoolProblem) -> str:
    return "index" if p.index_dtype == "uint16" else "long_index"


class _Transposed:
    """Arrays that plans have in channels last, and kernels in the layout of the problem; the same if it makes no odds.

    Args:
        p: the problem.
        element: the kind of the elements: "index", "long_index" or "array".
    """

    def __init__(self, p: PoolProblem, element: str):
        pixels = math.prod(p.output)
        self.needed = p.layout == "channels_first" and p.C > 1 and pixels > 1
        self._size = p.N * p.C * pixels
        self._dtype = np.dtype({"index": "uint16", "long_index": "uint32", "array": p.dtype}[element])
        self._to_planes = transposition(p.dtype, side_by_side(p.N, pixels, p.C), element)
        self._from_planes = transposition(p.dtype, side_by_side(p.N, p.C, pixels), element)

    @property
    def bytes(self) -> int:
        return self._size * self._dtype.itemsize if self.needed else 0

    def empty(self) -> Any:
        """Room for such an array as kernels have it."""
        return current_device().empty((self._size,), self._dtype)

    def to_planes(self, channels_last: int) -> Any:
        """A copy as kernels have it."""
        planes = self.empty()
        self._to_planes.run(channels_last, current_device().address(planes))
        return planes

    def from_planes(self, planes: Any, channels_last: int) -> None:
        self._from_planes.run(current_device().address(planes), channels_last)


class MaxPool:
    """``y, index`` from ``x``; see :func:`_max_pool`. ``index`` is 0 when the positions are not wanted."""

    def __init__(self, p: PoolProblem):
        kind = _index_kind(p)
        given = "x y index bias norm_mean norm_scale norm_bias relu"
        self._index = _Transposed(p, kind)
        self._with_index, self._alone = (
            forward_task(p, max_pool_kernels[kind], given, {"index": index, "normalised": p.normalised})
            for index in (kind, None)
        )
        self.workspace_bytes = self._index.bytes

    def run(
        self, x: int, bias: int, norm_mean: int, norm_scale: int, norm_bias: int, y: int, index: int, relu: bool = False
    ) -> None:
        """Addresses; 0 for a bias that is not there, and without normalisation for all that belongs to it."""
        others = bias, norm_mean, norm_scale, norm_bias, relu
        if not index:
            self._alone.run(x, y, 0, *others)
        elif self._index.needed:
            planes = self._index.empty()
            self._with_index.run(x, y, current_device().address(planes), *others)
            self._index.from_planes(planes, index)
        else:
            self._with_index.run(x, y, index, *others)


class MaxPoolGradient:
    """``dx`` from ``dy`` and the forward's ``index``; see :func:`_cells_gradient`."""

    def __init__(self, p: PoolProblem):
        self._task = gradient_task(p, "dy index dx", maxima=True)
        self._index = _Transposed(p, _index_kind(p))
        self.workspace_bytes = self._index.bytes

    def run(self, dy: int, index: int, dx: int) -> None:
        """Addresses."""
        if self._index.needed:
            planes = self._index.to_planes(index)
            self._task.run(dy, current_device().address(planes), dx)
        else:
            self._task.run(dy, index, dx)


class AveragePool:
    """``y`` from ``x``; see :func:`sum_pool_kernel`."""

    workspace_bytes = 0

    def __init__(self, p: PoolProblem):
        counted, counts = _count_fields(p)
        constants = {"norm": False, "counted": counted}
        self.run = forward_task(p, sum_pool_kernel, "x y", constants, **counts).run


class AveragePoolGradient:
    """``dx`` from ``dy``; see :func:`_cells_gradient`."""

    workspace_bytes = 0

    def __init__(self, p: PoolProblem):
        self.run = gradient_task(p, "dy dx", maxima=False).run


class NormPool:
    """``y`` from ``x``; see :func:`sum_pool_kernel`."""

    workspace_bytes = 0

    def __init__(self, p: PoolProblem):
        self.run = forward_task(p, sum_pool_kernel, "x y", {"norm": True, "counted": False}).run


class StochasticPool:
    """``y, index`` from ``x`` and ``uniform`` numbers from 0 to 1; see :func:`_stochastic_pool`."""

    def __init__(self, p: PoolProblem):
        kind = _index_kind(p)
        self._task = forward_task(p, stochastic_pool_kernels[kind], "x uniform y index", {"index": kind}, shared=False)
        self._index, self._uniform = _Transposed(p, kind), _Transposed(p, "array")
        self.workspace_bytes = self._index.bytes + self._uniform.bytes

    def run(self, x: int, uniform: int, y: int, index: int) -> None:
        """Addresses."""
        if self._index.needed:
            drawn, planes, address = self._uniform.to_planes(uniform), self._index.empty(), current_device().address
            self._task.run(x, address(drawn), y, address(planes))
            self._index.from_planes(planes, index)
        else:
            self._task.run(x, uniform, y, index)
