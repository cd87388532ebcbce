"""Max and average pooling, forward and backward, channels last and channels first.

Both directions gather: each element of the result is computed by one piece of work, in a fixed order, so that
no two threads write the same element and bits repeat. The forward of max pooling keeps the position of each
maximum in its window, two bytes an element, and the backward compares instead of searching again.

Inner loops run over channels, which are neighbours in channels last; channels first goes through a transposed
workspace. The positions of maxima are kept in channels last in both layouts.
"""

from __future__ import annotations

import math

from numba import njit

from pycnn_kernels.cpu.launch import Kernel, Task, kernel
from pycnn_kernels.cpu.layout import to_channels_first, to_channels_last
from pycnn_kernels.cpu.tile import (
    lanes_of,
    shift,
    tile_add_where,
    tile_fill,
    tile_greater,
    tile_greater_position,
    tile_load,
    tile_shape,
    tile_store,
    tile_store_positions,
    tile_zeros,
)
from pycnn_kernels.cpu.workspace import aligned_bytes, workspace
from pycnn_kernels.problem import PoolProblem

#: The fields that all pooling kernels share. ``pad_after`` bounds the windows that count the padding.
_GEOMETRY = dict.fromkeys(
    ["N", "D", "H", "W", "C", "OD", "OH", "OW", "KD", "KH", "KW", "stride_d", "stride_h", "stride_w"]
    + ["pad_d", "pad_h", "pad_w", "pad_after_d", "pad_after_h", "pad_after_w"]
    + ["dilation_d", "dilation_h", "dilation_w", "keep_index", "count_padding", "divisor"],
    "int",
)

#: The position of the maximum of a window that lies in the padding altogether.
NO_POSITION = (1 << 16) - 1

#: How many positions a window may have: the index of a maximum takes two bytes.
MOST_POSITIONS = NO_POSITION


@njit(error_model="numpy")
def _first_output(coordinate, stride):
    """The first o >= 0 with ``o * stride >= coordinate``."""
    return max(0, -(-coordinate // stride))


@njit(error_model="numpy")
def _outputs_end(coordinate, stride, outputs):
    """One after the last o < outputs with ``o * stride <= coordinate``."""
    return min(outputs, coordinate // stride + 1)


@njit(error_model="numpy")
def _taps(coordinate, dilation, kernel, size):
    """The taps k from first to end - 1 for which ``0 <= coordinate + k * dilation < size``."""
    first = max(0, -(coordinate // dilation))
    return first, max(first, min(kernel, (size - 1 - coordinate) // dilation + 1))


@kernel(x="array", y="array", index="index", **_GEOMETRY)
def max_pool_kernel(a, item, worker):
    """``y[n, o, c]`` = the greatest ``x[n, o * S + k * D - P, c]`` over k, and its position k in ``index``.

    x (N, D, H, W, C); y and index (N, OD, OH, OW, C); a piece of work is one row of y. Padding never wins, NaN
    always does, and of equal values the first; a window without elements is -inf, at NO_POSITION. ``keep_index``
    0 leaves index alone.
    """
    oh, od, n = item % a.OH, item // a.OH % a.OD, item // (a.OH * a.OD)
    d0, h0 = od * a.stride_d - a.pad_d, oh * a.stride_h - a.pad_h
    d_taps, h_taps = _taps(d0, a.dilation_d, a.KD, a.D), _taps(h0, a.dilation_h, a.KH, a.H)
    for ow in range(a.OW):
        w0 = ow * a.stride_w - a.pad_w
        w_taps = _taps(w0, a.dilation_w, a.KW, a.W)
        corner = (((n * a.D + d0) * a.H + h0) * a.W + w0) * a.C
        to = (item * a.OW + ow) * a.C
        if a.keep_index:
            _max_window(a, corner, to, d_taps, h_taps, w_taps, True)
        else:
            _max_window(a, corner, to, d_taps, h_taps, w_taps, None)


@njit(error_model="numpy")
def _max_window(a, corner, to, d_taps, h_taps, w_taps, keep):
    """All channels of one window; ``corner`` is where its first tap lies in x, ``keep`` None keeps no positions."""
    shape, lane_count = tile_shape(a.x, 1, 2), 2 * lanes_of(a.x)
    whole = a.C - a.C % lane_count
    for c in range(0, whole, lane_count):
        _max_channels(a, corner + c, to + c, d_taps, h_taps, w_taps, keep, shape, None)
    if whole < a.C:
        _max_channels(a, corner + whole, to + whole, d_taps, h_taps, w_taps, keep, shape, a.C - whole)


@njit(error_model="numpy")
def _max_channels(a, corner, to, d_taps, h_taps, w_taps, keep, shape, edge):
    """Two vectors of channels of one window, cut off by ``edge`` unless it is None."""
    best, positions = tile_fill(shape, -math.inf), tile_fill(shape, NO_POSITION)
    if d_taps[0] < d_taps[1] and h_taps[0] < h_taps[1] and w_taps[0] < w_taps[1]:
        # Where all are -inf nothing wins, and the first is the greatest.
        positions = tile_fill(shape, (d_taps[0] * a.KH + h_taps[0]) * a.KW + w_taps[0])
    for kd in range(d_taps[0], d_taps[1]):
        for kh in range(h_taps[0], h_taps[1]):
            row = corner + (kd * a.dilation_d * a.H + kh * a.dilation_h) * a.W * a.C
            for kw in range(w_taps[0], w_taps[1]):
                candidate = tile_load(best, a.x, row + kw * a.dilation_w * a.C, 0, edge)
                if keep is not None:
                    position = (kd * a.KH + kh) * a.KW + kw
                    positions = tile_greater_position(positions, position, best, candidate)
                best = tile_greater(best, candidate)
    tile_store(best, a.y, to, 0, edge)
    if keep is not None:
        tile_store_positions(positions, a.index, to, edge)


@kernel(dy="array", index="index", dx="array", **_GEOMETRY)
def max_pool_gradient_kernel(a, item, worker):
    """``dx`` = the sum of the ``dy`` of the windows whose maximum each element is; a piece is one row of dx."""
    h, d, n = item % a.H, item // a.H % a.D, item // (a.H * a.D)
    to = item * a.W * a.C
    dx = shift(a.dx, to)
    for i in range(a.W * a.C):
        dx[i] = 0
    for kd in range(a.KD):
        od = d + a.pad_d - kd * a.dilation_d
        for kh in range(a.KH):
            oh = h + a.pad_h - kh * a.dilation_h
            if od % a.stride_d == 0 and oh % a.stride_h == 0:
                od_, oh_ = od // a.stride_d, oh // a.stride_h
                if 0 <= od_ < a.OD and 0 <= oh_ < a.OH:
                    row = ((n * a.OD + od_) * a.OH + oh_) * a.OW * a.C
                    for kw in range(a.KW):
                        _max_gradient_tap(a, row, to, kw, (kd * a.KH + kh) * a.KW + kw)


@njit(error_model="numpy")
def _max_gradient_tap(a, row, to, kw, position):
    """Add, to one row of dx, the row of dy that it meets through the tap kw, where that tap was the maximum."""
    offset = kw * a.dilation_w - a.pad_w
    shape, lane_count = tile_shape(a.dx, 1, 2), 2 * lanes_of(a.dx)
    whole = a.C - a.C % lane_count
    for ow in range(_first_output(-offset, a.stride_w), _outputs_end(a.W - 1 - offset, a.stride_w, a.OW)):
        source, target = row + ow * a.C, to + (ow * a.stride_w + offset) * a.C
        for c in range(0, whole, lane_count):
            _add_maxima(a, source + c, target + c, position, shape, None)
        if whole < a.C:
            _add_maxima(a, source + whole, target + whole, position, shape, a.C - whole)


@njit(error_model="numpy")
def _add_maxima(a, source, target, position, shape, edge):
    acc = tile_load(tile_zeros(shape), a.dx, target, 0, edge)
    acc = tile_add_where(acc, a.dy, source, a.index, position, edge)
    tile_store(acc, a.dx, target, 0, edge)


@njit(error_model="numpy")
def _window_count(o, kernel, stride, pad, pad_after, size, count_padding):
    """Elements of window o along one axis that an average counts."""
    start = o * stride - pad
    if count_padding:
        return min(start + kernel, size + pad_after) - start
    return min(start + kernel, size) - max(start, 0)


@njit(error_model="numpy")
def _plane_divisor(a, od, oh):
    """The divisor of the windows of one row of y without its factor along w."""
    counted_d = _window_count(od, a.KD, a.stride_d, a.pad_d, a.pad_after_d, a.D, a.count_padding)
    return counted_d * _window_count(oh, a.KH, a.stride_h, a.pad_h, a.pad_after_h, a.H, a.count_padding)


@njit(error_model="numpy")
def _divisor(a, plane, ow):
    if a.divisor:
        return a.divisor
    return plane * _window_count(ow, a.KW, a.stride_w, a.pad_w, a.pad_after_w, a.W, a.count_padding)


@kernel(x="array", y="array", **_GEOMETRY)
def average_pool_kernel(a, item, worker):
    """``y[n, o, c]`` = the sum of ``x[n, o * S + k - P, c]`` over k, divided by the elements counted.

    x (N, D, H, W, C); y (N, OD, OH, OW, C); a piece of work is one row of y. Dilation is 1.
    """
    oh, od, n = item % a.OH, item // a.OH % a.OD, item // (a.OH * a.OD)
    y = shift(a.y, item * a.OW * a.C)
    for i in range(a.OW * a.C):
        y[i] = 0
    for kd in range(a.KD):
        d = od * a.stride_d - a.pad_d + kd
        for kh in range(a.KH):
            h = oh * a.stride_h - a.pad_h + kh
            if 0 <= d < a.D and 0 <= h < a.H:
                row = shift(a.x, ((n * a.D + d) * a.H + h) * a.W * a.C)
                for kw in range(a.KW):
                    offset = kw - a.pad_w
                    first = _first_output(-offset, a.stride_w)
                    for ow in range(first, _outputs_end(a.W - 1 - offset, a.stride_w, a.OW)):
                        x, to = shift(row, (ow * a.stride_w + offset) * a.C), shift(y, ow * a.C)
                        for c in range(a.C):
                            to[c] += x[c]
    plane = _plane_divisor(a, od, oh)
    for ow in range(a.OW):
        divisor = _divisor(a, plane, ow)
        for i in range(ow * a.C, (ow + 1) * a.C):
            y[i] /= divisor


@kernel(dy="array", dx="array", **_GEOMETRY)
def average_pool_gradient_kernel(a, item, worker):
    """``dx`` = the sum over the windows that hold each element of ``dy / divisor``; a piece is one row of dx."""
    h, d, n = item % a.H, item // a.H % a.D, item // (a.H * a.D)
    dx = shift(a.dx, item * a.W * a.C)
    for i in range(a.W * a.C):
        dx[i] = 0
    for kd in range(a.KD):
        od = d + a.pad_d - kd
        for kh in range(a.KH):
            oh = h + a.pad_h - kh
            if od % a.stride_d == 0 and oh % a.stride_h == 0:
                od_, oh_ = od // a.stride_d, oh // a.stride_h
                if 0 <= od_ < a.OD and 0 <= oh_ < a.OH:
                    row = shift(a.dy, ((n * a.OD + od_) * a.OH + oh_) * a.OW * a.C)
                    plane = _plane_divisor(a, od_, oh_)
                    for kw in range(a.KW):
                        offset = kw - a.pad_w
                        first = _first_output(-offset, a.stride_w)
                        for ow in range(first, _outputs_end(a.W - 1 - offset, a.stride_w, a.OW)):
                            divisor = _divisor(a, plane, ow)
                            dy, to = shift(row, ow * a.C), shift(dx, (ow * a.stride_w + offset) * a.C)
                            for c in range(a.C):
                                to[c] += dy[c] / divisor


def _geometry(p: PoolProblem) -> dict[str, int]:
    """The fields of :data:`_GEOMETRY`."""
    fields = {"N": p.N, "C": p.C, "count_padding": int(p.count_padding), "divisor": p.divisor}
    for axis, (size, out, kernel_size, stride, (before, after), dilation) in zip(
        "DHW", zip(p.size, p.output, p.kernel, p.stride, p.padding, p.dilation)
    ):
        low = axis.lower()
        fields |= {axis: size, f"O{axis}": out, f"K{axis}": kernel_size, f"stride_{low}": stride}
        fields |= {f"pad_{low}": before, f"pad_after_{low}": after, f"dilation_{low}": dilation}
    return fields


class _Pool:
    """What the four pooling operations share: the geometry, rows of a result as pieces, and the two layouts.

    Args:
        p: the problem.
        kernel: what to run.
        given: its fields for each run: the array it reads, the array it writes, then others.
        backward: whether the result is dx rather than y.
    """

    def __init__(self, p: PoolProblem, kernel: Kernel, given: str, backward: bool = False):
        pixels, out_pixels = math.prod(p.size), math.prod(p.output)
        rows = p.size[:2] if backward else p.output[:2]
        items = p.N * math.prod(rows) if p.C * pixels * out_pixels else 0
        self._task = Task(kernel, p.dtype, items, given, parallel=p.N * pixels * p.C > 1 << 14, **_geometry(p))
        # With one channel, or one pixel, both layouts are the same.
        self._transposed = p.layout == "channels_first" and p.C > 1 and max(pixels, out_pixels) > 1
        read, written = (out_pixels, pixels) if backward else (pixels, out_pixels)
        self._before = to_channels_last(p.dtype, p.N, p.C, read)
        self._after = to_channels_first(p.dtype, p.N, p.C, written)
        sizes = (p.N * p.C * read, p.N * p.C * written) if self._transposed else (0, 0)
        self._written_at = aligned_bytes(sizes[0], p.dtype)
        self.workspace_bytes = self._written_at + aligned_bytes(sizes[1], p.dtype)

    def _run(self, source: int, result: int, *others: int) -> None:
        if self._transposed:
            base = workspace(self.workspace_bytes)
            self._before.run(source, base)
            self._task.run(base, base + self._written_at, *others)
            self._after.run(base + self._written_at, result)
        else:
            self._task.run(source, result, *others)


class MaxPool(_Pool):
    """``y, index`` from ``x``; see :func:`max_pool_kernel`. ``index`` is 0 when the positions are not wanted."""

    def __init__(self, p: PoolProblem):
        super().__init__(p, max_pool_kernel, "x y index keep_index")

    def run(self, x: int, y: int, index: int) -> None:
        self._run(x, y, index, index != 0)


class MaxPoolGradient(_Pool):
    """``dx`` from ``dy`` and the forward's ``index``."""

    def __init__(self, p: PoolProblem):
        super().__init__(p, max_pool_gradient_kernel, "dy dx index", backward=True)

    def run(self, dy: int, index: int, dx: int) -> None:
        self._run(dy, dx, index)


class AveragePool(_Pool):
    """``y`` from ``x``; see :func:`average_pool_kernel`."""

    def __init__(self, p: PoolProblem):
        super().__init__(p, average_pool_kernel, "x y")

    def run(self, x: int, y: int) -> None:
        self._run(x, y)


class AveragePoolGradient(_Pool):
    """``dx`` from ``dy``."""

    def __init__(self, p: PoolProblem):
        super().__init__(p, average_pool_gradient_kernel, "dy dx", backward=True)

    def run(self, dy: int, dx: int) -> None:
        self._run(dy, dx)
