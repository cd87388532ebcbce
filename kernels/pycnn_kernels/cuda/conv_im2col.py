"""Convolution as a product of matrices that is written out: im2col.

The window of each output pixel becomes a row of a matrix in the workspace: for each group T taps of R channels, zeros
where a tap lies in the padding. Then each operation is one product, of a grouped convolution of single pixels, and
``conv_implicit_gemm.py`` has the products::

    forward          y = windows w
    weight gradient  dw = windows^T dy
    input gradient   windows = dy w^T, and each pixel of dx is the sum of its elements of all windows (col2im)

The implicit product gathers the same matrix from x and never writes it, but only where the padding is zeros and its
tables suffice. Here elements are copied, so any way of padding will do; the matrix is T times as large as x, and is
written and read once, which the product is worth where it has many filters. Beyond 256 MiB it is made for some images
at a time.

Channels are last here. What is channels first, and weights that are not HWIO, go through transposed copies.

Source: Chellapilla, Puri and Simard, "High Performance Convolutional Neural Networks for Document Processing" (2006).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import cuda
from numba.cuda import types

from pycnn_kernels.cpu.gather import continuation_fits, shown_positions
from pycnn_kernels.cuda.compile import device_function
from pycnn_kernels.cuda.conv_implicit_gemm import (
    ImplicitGemmForward,
    ImplicitGemmInputGradient,
    ImplicitGemmWeightGradient,
    implicit_gemm_supports,
    implicit_gemm_supports_input_gradient,
)
from pycnn_kernels.cuda.conv_pool import Between
from pycnn_kernels.cuda.launch import Task, blocks_for, counted, ints, kernel
from pycnn_kernels.cuda.parts import Parts
from pycnn_kernels.cuda.ptx import load4, quotient, shift, store4
from pycnn_kernels.cuda.transpose import Matrices, transposition
from pycnn_kernels.problem import ConvProblem, Triple, numpy_dtype

int32 = types.int32

#: Bytes of the matrix at most, unless the windows of a single image take more.
MOST_BYTES = 1 << 28
#: Channels and filters of a group from which on "auto" writes the matrix: each element is then used as often.
_WORTH_IT = 16

#: Elements that a thread moves at once, where a group's channels divide by it.
QUAD = 4
#: Neighbouring rows of the matrix of which a thread writes the elements at the same depth.
ROWS = 4


# --- Windows and back -----------------------------------------------------------------------------------------------


@device_function
def _divided(number, divisor):
    """Quotient and remainder."""
    whole = int32(quotient(number, divisor))
    return whole, int32(number - whole * divisor)


@kernel(
    x="source", windows="array", depths="table", d_places="table", h_places="table", w_places="table",
    **ints("rows across OD OH OW stride_d stride_h stride_w image_x"),
)  # fmt: skip
def im2col_kernel(dtype: Any, threads: int, quads: bool) -> Any:
    """``windows[row, l] = x[image, the pixel that the row's window shows at l, channel of l]``, 0 in the padding.

    x (N, D, H, W, C), windows (``rows`` = N * OD * OH * OW, G * T * R). ``depths`` has, for each l or each fourth,
    where its tap is along the three axes of a padded window, and its channel; ``*_places`` have the offset in x of what
    the padded axes show, -1 for a zero. A thread copies one element, or four with ``quads``, of :data:`ROWS` rows;
    neighbouring threads have neighbouring elements, of which there are ``across``.
    """
    step, zero = QUAD if quads else 1, dtype(0)
    nothing = (zero, zero, zero, zero) if quads else zero

    @device_function
    def first_window(a, row):
        rest, w = _divided(row, a.OW)
        rest, h = _divided(rest, a.OH)
        image, d = _divided(rest, a.OD)
        return row, image, d, h, w

    @device_function
    def next_window(a, window):
        row, image, d, h, w = window
        row, w = int32(row + 1), int32(w + 1)
        if w == a.OW:
            w, h = int32(0), int32(h + 1)
            if h == a.OH:
                h, d = int32(0), int32(d + 1)
                if d == a.OD:
                    d, image = int32(0), int32(image + 1)
        return row, image, d, h, w

    @device_function
    def read(a, window, depth):
        row, image, d, h, w = window
        tap_d, tap_h, tap_w, channel = depth
        at_d = a.d_places[int32(d * a.stride_d + tap_d)]
        at_h = a.h_places[int32(h * a.stride_h + tap_h)]
        at_w = a.w_places[int32(w * a.stride_w + tap_w)]
        if row < a.rows and (at_d | at_h | at_w) >= 0:
            at = int32(image * a.image_x + at_d + at_h + at_w + channel)
            return load4(a.x, at) if quads else a.x[at]
        return nothing

    @device_function
    def write(a, row, number, value):
        if row < a.rows:
            to = int32((row * a.across + number) * step)
            if quads:
                store4(a.windows, to, value)
            else:
                a.windows[to] = value

    def body(a):
        chunk, number = _divided(cuda.blockIdx.x * threads + cuda.threadIdx.x, a.across)
        row = int32(chunk * ROWS)
        if row < a.rows:
            depth = load4(a.depths, int32(4 * number))
            first = first_window(a, row)
            second = next_window(a, first)
            third = next_window(a, second)
            fourth = next_window(a, third)
            # All are read before the first is written, so that their loads are under way together.
            one, two = read(a, first, depth), read(a, second, depth)
            three, four = read(a, third, depth), read(a, fourth, depth)
            write(a, row, number, one)
            write(a, int32(row + 1), number, two)
            write(a, int32(row + 2), number, three)
            write(a, int32(row + 3), number, four)

    return body


@kernel(
    windows="source", dx="array", d_firsts="table", d_places="table", h_firsts="table", h_places="table",
    w_firsts="table", w_places="table", **ints("count across D H W image_windows group_channels group_windows"),
)  # fmt: skip
def col2im_kernel(dtype: Any, threads: int, quads: bool) -> Any:
    """``dx[n, d, h, w, c]``, the sum of all elements of ``windows`` that :func:`im2col_kernel` would copy from there.

    Along an axis, element i is shown at the offsets ``places[firsts[i]:firsts[i + 1]]`` of an image's windows, each of
    them a window plus a tap. A thread adds up one element of dx, or four neighbouring channels with ``quads``;
    neighbouring threads have neighbouring ones. Bits repeat: each sum is one thread's, in the order of the tables.
    """
    step, zero = QUAD if quads else 1, dtype(0)

    @device_function
    def plus(total, windows, at):
        if quads:
            more = load4(windows, at)
            return total[0] + more[0], total[1] + more[1], total[2] + more[2], total[3] + more[3]
        return total + windows[at]

    def body(a):
        i = int32(cuda.blockIdx.x * threads + cuda.threadIdx.x)
        if i < a.count:
            pixel, channel = _divided(i, a.across)
            rest, w = _divided(pixel, a.W)
            rest, h = _divided(rest, a.H)
            image, d = _divided(rest, a.D)
            group, channel = _divided(channel * step, a.group_channels)
            windows = shift(a.windows, int32(image * a.image_windows + group * a.group_windows + channel))
            total = (zero, zero, zero, zero) if quads else zero
            for kd in range(a.d_firsts[d], a.d_firsts[d + 1]):
                for kh in range(a.h_firsts[h], a.h_firsts[h + 1]):
                    line = int32(a.d_places[kd] + a.h_places[kh])
                    for kw in range(a.w_firsts[w], a.w_firsts[w + 1]):
                        total = plus(total, windows, int32(line + a.w_places[kw]))
            if quads:
                store4(a.dx, i * QUAD, total)
            else:
                a.dx[i] = total

    return body


def _steps(size: Triple, pixel: int) -> Triple:
    """Elements from one place of each axis to the next."""
    _, h, w = size
    return h * w * pixel, w * pixel, pixel


def _is_quad(p: ConvProblem) -> bool:
    return p.C // p.G % QUAD == 0


def _im2col_task(p: ConvProblem) -> Task:
    """``x windows``."""
    quads = _is_quad(p)
    axes = zip("dhw", shown_positions(p), _steps(p.size, p.C))
    places = {f"{axis}_places": np.where(shown < 0, -1, shown * step).astype(np.int32) for axis, shown, step in axes}
    depths = _depths(p, QUAD if quads else 1)
    rows = p.N * math.prod(p.output)
    OD, OH, OW = (max(size, 1) for size in p.output)
    return Task(
        im2col_kernel.variant(p.dtype, quads=quads), blocks_for(-(-rows // ROWS) * len(depths)), "x windows",
        depths=depths, **places, rows=rows, across=max(len(depths), 1), OD=OD, OH=OH, OW=OW, stride_d=p.stride[0],
        stride_h=p.stride[1], stride_w=p.stride[2], image_x=math.prod(p.size) * p.C,
    )  # fmt: skip


def _depths(p: ConvProblem, at_once: int) -> np.ndarray:
    """Of every ``at_once``-th element of a row of windows: the place of its tap on each axis, and its channel."""
    channels, dilation = p.C // p.G, np.array(p.dilation)
    taps = np.indices(p.kernel).reshape(3, -1).T * dilation
    table = np.empty((p.G, len(taps), channels // at_once, 4), np.int32)
    table[..., :3] = taps[:, None, :]
    table[..., 3] = np.arange(p.C).reshape(p.G, 1, channels)[..., ::at_once]
    return table.reshape(-1, 4)


def _col2im_task(p: ConvProblem) -> Task:
    """``windows dx``."""
    quads, channels, taps = _is_quad(p), p.C // p.G, math.prod(p.kernel)
    row = taps * p.C
    count = p.N * math.prod(p.size) * p.C // (QUAD if quads else 1)
    D, H, W = (max(size, 1) for size in p.size)
    tables: dict[str, np.ndarray] = {}
    axes = zip("dhw", shown_positions(p), p.size, p.output, p.kernel, p.stride, p.dilation)
    steps = zip(_steps(p.output, row), _steps(p.kernel, channels))
    for (axis, shown, size, output, taps_along, stride, dilation), (pixel, tap) in zip(axes, steps):
        o, t = np.indices((output, taps_along)).reshape(2, -1)
        element = shown[o * stride + t * dilation]
        order = np.argsort(element, kind="stable")
        tables[f"{axis}_firsts"] = np.searchsorted(element[order], np.arange(size + 1))
        tables[f"{axis}_places"] = (o * pixel + t * tap)[order]
    return Task(
        col2im_kernel.variant(p.dtype, quads=quads), blocks_for(count), "windows dx",
        **{name: table.astype(np.int32) for name, table in tables.items()}, count=count,
        across=max(p.C // (QUAD if quads else 1), 1), D=D, H=H, W=W, image_windows=math.prod(p.output) * row,
        group_channels=max(channels, 1), group_windows=taps * channels,
    )  # fmt: skip


# --- Transposed copies ----------------------------------------------------------------------------------------------


class Arranged:
    """An array as the products take it: as it lies, or through a transposed copy in the workspace.

    Attributes:
        bytes: of the copy.
    """

    def __init__(self, dtype: str, matrices: Matrices | None) -> None:
        self.bytes = 0
        self._copy: Between | None = None
        if matrices is not None:
            self._copy = Between((matrices.many, matrices.rows, matrices.columns), dtype)
            self.bytes = self._copy.bytes
            self._there, self._back = (transposition(dtype, m) for m in (matrices, matrices.reverse))

    def read(self, address: int) -> tuple[Any, int]:
        """What must be kept until its readers are launched, and where to read."""
        if self._copy is None or not address:
            return None, address
        kept, copy = self._copy.take()
        self._there.run(address, copy)
        return kept, copy

    def write(self, product: Callable[[int], None], address: int) -> None:
        """``product`` writes the array to an address."""
        if self._copy is None:
            product(address)
            return
        _kept, copy = self._copy.take()
        product(copy)
        self._back.run(copy, address)


def _image(p: ConvProblem, channels: int, size: Triple) -> Arranged:
    """x, y or a gradient, with its channels last."""
    pixels = math.prod(size)
    if p.layout == "channels_last" or channels == 1 or pixels == 1:
        return Arranged(p.dtype, None)
    image = channels * pixels
    return Arranged(p.dtype, Matrices(p.N, channels, pixels, image, pixels, image, channels))


def _weights(p: ConvProblem) -> Arranged:
    """w or its gradient as HWIO (T, R, K); OIHW is (K, R, T), a matrix for each channel, or one if there is one tap."""
    channels, taps = p.C // p.G, math.prod(p.kernel)
    if p.weight_layout == "HWIO":
        return Arranged(p.dtype, None)
    if taps == 1:
        return Arranged(p.dtype, Matrices(1, p.K, channels, 0, channels, 0, p.K))
    return Arranged(p.dtype, Matrices(channels, p.K, taps, taps, channels * taps, p.K, channels * p.K))


# --- Slices of images -----------------------------------------------------------------------------------------------


def _window_elements(p: ConvProblem) -> int:
    """Of the windows of an image."""
    return math.prod(p.output) * math.prod(p.kernel) * p.C


def images_at_once(p: ConvProblem) -> int:
    """Images whose windows are written before the product reads them, as evenly divided as may be; at least one."""
    item = numpy_dtype(p.dtype).itemsize
    most = max(MOST_BYTES // max(_window_elements(p) * item, 1), 1)
    slices = -(-p.N // most)
    return -(-p.N // max(slices, 1)) or 1


def windows_product(p: ConvProblem) -> ConvProblem:
    """The product of all windows and the weights: a convolution of single pixels, whose channels are the windows'."""
    one, none = (1, 1, 1), ((0, 0), (0, 0), (0, 0))
    return ConvProblem(
        p.dtype, "channels_last", "HWIO", p.N * math.prod(p.output), math.prod(p.kernel) * p.C, one, p.K, one, one,
        none, one, p.G, p.bias, p.activation, 0, "zeros", p.scale, p.residual, p.slope,
    )  # fmt: skip


class _Images:
    """What the operations have in common for some images: their windows, and x and y with the channels last."""

    def __init__(self, p: ConvProblem, product: Any) -> None:
        self.x, self.y = _image(p, p.C, p.size), _image(p, p.K, p.output)
        self.windows = Between((p.N, _window_elements(p)), p.dtype)
        self.product = product
        self.workspace_bytes = self.windows.bytes + self.x.bytes + self.y.bytes + product.workspace_bytes


class _ForwardImages(_Images):
    def __init__(self, p: ConvProblem) -> None:
        super().__init__(p, ImplicitGemmForward(windows_product(p)))
        self._im2col, self._residual = _im2col_task(p), _image(p, p.K, p.output)
        self.workspace_bytes += self._residual.bytes * p.residual

    def run(self, x: int, w: int, bias: int, scale: int, residual: int, y: int) -> None:
        _x, x = self.x.read(x)
        _residual, residual = self._residual.read(residual)
        _windows, windows = self.windows.take()
        self._im2col.run(x, windows)
        self.y.write(lambda to: self.product.run(windows, w, bias, scale, residual, to), y)


class _InputGradientImages(_Images):
    def __init__(self, p: ConvProblem) -> None:
        super().__init__(p, ImplicitGemmInputGradient(windows_product(p)))
        self._col2im = _col2im_task(p)

    def run(self, dy: int, w: int, dx: int) -> None:
        _dy, dy = self.y.read(dy)
        _windows, windows = self.windows.take()
        self.product.run(dy, w, windows)
        self.x.write(lambda to: self._col2im.run(windows, to), dx)


class _WeightGradientImages(_Images):
    def __init__(self, p: ConvProblem) -> None:
        super().__init__(p, ImplicitGemmWeightGradient(windows_product(p)))
        self._im2col = _im2col_task(p)

    def run(self, x: int, dy: int, dw: int) -> None:
        _x, x = self.x.read(x)
        _dy, dy = self.y.read(dy)
        _windows, windows = self.windows.take()
        self._im2col.run(x, windows)
        self.product.run(windows, dy, dw)


class _Slices:
    """The images of a problem in slices: the first image of each, and what runs it."""

    def __init__(self, p: ConvProblem, make: Callable[[ConvProblem], Any]) -> None:
        each = images_at_once(p)
        firsts = range(0, max(p.N, 1), each)
        sizes = [min(each, p.N - first) for first in firsts]
        made = {images: make(p._replace(N=images)) for images in set(sizes)}
        self._slices = [(first, made[images]) for first, images in zip(firsts, sizes)]
        self.count = len(sizes)
        self.workspace_bytes = max(prepared.workspace_bytes for prepared in made.values())
        item = numpy_dtype(p.dtype).itemsize
        self._x_bytes, self._y_bytes = (
            math.prod(size) * channels * item for size, channels in ((p.size, p.C), (p.output, p.K))
        )

    def each(self) -> Any:
        """What runs each slice, and how many bytes lie before it in x and in y."""
        return ((prepared, first * self._x_bytes, first * self._y_bytes) for first, prepared in self._slices)


# --- The operations -------------------------------------------------------------------------------------------------


class Im2colForward:
    """``y`` from ``x w b scale residual``."""

    def __init__(self, p: ConvProblem) -> None:
        self._weights, self._slices = _weights(p), _Slices(p, _ForwardImages)
        self.workspace_bytes = self._weights.bytes + self._slices.workspace_bytes

    def run(self, x: int, w: int, bias: int, scale: int, residual: int, y: int) -> None:
        _w, w = self._weights.read(w)
        for images, in_x, in_y in self._slices.each():
            images.run(x + in_x, w, bias, scale, residual and residual + in_y, y + in_y)


class Im2colInputGradient:
    """``dx`` from ``dy w``."""

    def __init__(self, p: ConvProblem) -> None:
        self._weights, self._slices = _weights(p), _Slices(p, _InputGradientImages)
        self.workspace_bytes = self._weights.bytes + self._slices.workspace_bytes

    def run(self, dy: int, w: int, dx: int) -> None:
        _w, w = self._weights.read(w)
        for images, in_x, in_y in self._slices.each():
            images.run(dy + in_y, w, dx + in_x)


class Im2colWeightGradient:
    """``dw`` from ``x dy``; what the slices give is added up in their order."""

    def __init__(self, p: ConvProblem) -> None:
        self._weights, self._slices = _weights(p), _Slices(p, _WeightGradientImages)
        self._part_bytes = math.prod(p.w_shape) * numpy_dtype(p.dtype).itemsize
        self._parts = Parts(p.dtype, math.prod(p.w_shape), self._slices.count)
        self.workspace_bytes = self._weights.bytes + self._parts.workspace_bytes + self._slices.workspace_bytes

    def run(self, x: int, dy: int, dw: int) -> None:
        def add(parts: int) -> None:
            for number, (images, in_x, in_y) in enumerate(self._slices.each()):
                images.run(x + in_x, dy + in_y, parts + number * self._part_bytes)

        self._weights.write(lambda to: self._parts.run(add, to), dw)


# --- The choice -----------------------------------------------------------------------------------------------------


def im2col_supports(p: ConvProblem) -> str | None:
    """None for a problem whose slices are counted in 32 bits, otherwise what is too large."""
    at_once = p._replace(N=images_at_once(p))
    windows, weights = at_once.N * _window_elements(p), math.prod(p.w_shape)
    largest = max(windows, weights, math.prod(at_once.x_shape), math.prod(at_once.y_shape))
    return (
        counted(largest, "arrays and windows of an image")
        or continuation_fits(p)
        or implicit_gemm_supports(windows_product(at_once))
    )


def im2col_suits(p: ConvProblem) -> str | None:
    """None where the implicit product refuses a problem of forward or weight gradient whose matrix is worth writing."""
    return _suits(p, implicit_gemm_supports(p))


def im2col_suits_input_gradient(p: ConvProblem) -> str | None:
    """The same for the input gradient."""
    return _suits(p, implicit_gemm_supports_input_gradient(p))


def _suits(p: ConvProblem, refused: str | None) -> str | None:
    if refused is None:
        return "a problem that implicit_gemm cannot do: that has the same product without writing its matrix"
    if min(p.C, p.K) // p.G < _WORTH_IT:
        return f"at least {_WORTH_IT} channels and filters in a group, so that what is written has some use"
    return None
