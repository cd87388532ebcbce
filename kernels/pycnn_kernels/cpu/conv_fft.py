"""Convolution by Fourier transforms of overlapping tiles, for large kernels.

A tile is a square of n x n elements of the source. The circular correlation with a kernel of r x r, a product of
their spectra, is the wanted sum for n - r + 1 results along each axis, whose windows lie within the tile; the
next tile begins as many elements further on. That is overlap-save, of Stockham, "High-speed convolution and
correlation" (1966). Channels lie in the lanes of the vectors, so that a transform is arithmetic between whole vectors.

In a dense layer each product of two frequencies is summed over channels: one complex matrix product for each frequency,
(tiles, R) x (R, L), as in Mathieu, Henaff and LeCun, "Fast training of convolutional networks through FFTs" (2014),
and, with small tiles, Zlateski et al., "FFT convolutions are faster than Winograd on modern CPUs, here is why" (2018).
Elements are real, so half of the spectrum says everything: 2 n^2 multiplications for (n - r + 1)^2 results, which with
n = 16 are 3.6 for a result of a 5 x 5 kernel instead of 25.

A spectrum is a square of n^2 *places*, as many real numbers as the tile has. The columns are transformed first, to
half-complex ones (see :mod:`~pycnn_kernels.cpu.fft`). Row 0 and row n / 2 are then real and become half-complex; rows k
and n - k, the real and the imaginary parts of one complex row, stay its real and its imaginary parts.

The input gradient is the same correlation, of dy with the transposed, reversed weights. The rounding errors are those
of a transform, about 1e-6 of the largest result in float32, and spread over the tile. A NaN or an infinity in the
source reaches all results of the tiles that it lies in, as NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from pycnn_kernels.cpu.conv_frame import Core, Forward, InputGradient, Scratch
from pycnn_kernels.cpu.fft import (
    tile_complex_product,
    tile_complex_transform,
    tile_half_complex_product,
    tile_real_inverse,
    tile_real_transform,
    tile_scale,
)
from pycnn_kernels.cpu.host import SIMD, item_bytes, lanes
from pycnn_kernels.cpu.launch import Task, kernel, most_threads
from pycnn_kernels.cpu.tile import (
    elements_between,
    lanes_of,
    local_table,
    rows_of,
    shift,
    tile_add,
    tile_fill_rows,
    tile_load,
    tile_load_rows,
    tile_multiply_add,
    tile_multiply_subtract,
    tile_relu,
    tile_shape,
    tile_store,
    tile_store_rows,
    tile_zeros,
)
from pycnn_kernels.problem import ConvProblem, effective_kernel

#: Vectors in a block of columns and the rows of its tile; a last block of half the width has a tile of its own. Rows
#: that whole tiles leave have tiles of FEW rows.
VECTORS, ROWS = SIMD.wide_tile
HALF, HALF_ROWS = VECTORS // 2, SIMD.tile_rows
FEW = 2

#: The largest n.
LARGEST = 64

#: The element of a tile that is zero whatever the source holds: far outside of it.
NOTHING = -(1 << 40)


@njit(error_model="numpy")
def _square_row(pointer, shape):
    """Elements of a row of the square in which one vector of channels of a tile is transformed.

    One vector more than it has: rows a power of two apart would share cache sets.
    """
    return (rows_of(shape) + 1) * lanes_of(pointer)


@njit(error_model="numpy")
def _nothing(a, s, shape):
    """Where a vector of zeros lies behind the square s, seen from src."""
    zeros = shift(s, rows_of(shape) * _square_row(s, shape))
    tile_store(tile_zeros(tile_shape(a.src, 1, 1)), zeros, 0, 0, None)
    return elements_between(a.src, zeros)


@njit(error_model="numpy")
def _read_columns(a, tile, channel, s, nothing, shape, edge):
    """Into the square s the transformed columns of one tile and one vector of channels; ``nothing``: a vector of zeros.

    src (N, SH, SW, pixel). Element (i, j) of the tile lies ``elements_h[i]``, ``elements_w[j]`` pixels from its first.
    """
    n = rows_of(shape)
    there = local_table(LARGEST)
    image, row, column = tile // (a.tiles_h * a.tiles_w), tile // a.tiles_w % a.tiles_h, tile % a.tiles_w
    top, left = row * a.step_h - a.top, column * a.step_w - a.left
    for j in range(n):
        w = left + a.elements_w[j]
        if 0 <= w < a.SW:
            for i in range(n):
                h = top + a.elements_h[i]
                there[i] = ((image * a.SH + h) * a.SW + w) * a.pixel + channel if 0 <= h < a.SH else nothing
            x = tile_load_rows(tile_zeros(shape), a.src, 0, there, edge)
            tile_store(tile_real_transform(x), s, j * lanes_of(s), _square_row(s, shape), None)
        else:
            tile_store(tile_zeros(shape), s, j * lanes_of(s), _square_row(s, shape), None)


@njit(error_model="numpy")
def _transform_rows(s, to, at, point, shape):
    """The spectrum of the transformed columns in s, place p to ``to[at + p * point]``."""
    n = rows_of(shape)
    row = _square_row(s, shape)
    for k in range(0, n, n // 2):
        x = tile_load(tile_zeros(shape), s, k * row, lanes_of(s), None)
        tile_store(tile_real_transform(x), to, at + k * n * point, point, None)
    for k in range(1, n // 2):
        re = tile_load(tile_zeros(shape), s, k * row, lanes_of(s), None)
        im = tile_load(tile_zeros(shape), s, (n - k) * row, lanes_of(s), None)
        re, im = tile_complex_transform(re, im)
        tile_store(re, to, at + k * n * point, point, None)
        tile_store(im, to, at + (n - k) * n * point, point, None)


@njit(error_model="numpy")
def _inverse_rows(source, at, point, s, shape):
    """Into s the columns' spectra, n times as large, of the spectrum whose place p is ``source[at + p * point]``."""
    n = rows_of(shape)
    row = _square_row(s, shape)
    for k in range(0, n, n // 2):
        x = tile_load(tile_zeros(shape), source, at + k * n * point, point, None)
        tile_store(tile_real_inverse(x), s, k * row, lanes_of(s), None)
    for k in range(1, n // 2):
        re = tile_load(tile_zeros(shape), source, at + k * n * point, point, None)
        im = tile_load(tile_zeros(shape), source, at + (n - k) * n * point, point, None)
        im, re = tile_complex_transform(im, re)
        tile_store(re, s, k * row, lanes_of(s), None)
        tile_store(im, s, (n - k) * row, lanes_of(s), None)


@njit(error_model="numpy")
def _multiply_rows(s, u, shape):
    """Rows of s transformed, multiplied by the spectrum u and transformed back, n times as large."""
    n, lane_count = rows_of(shape), lanes_of(s)
    row = _square_row(s, shape)
    for k in range(0, n, n // 2):
        x = tile_load(tile_zeros(shape), s, k * row, lane_count, None)
        weights = tile_load(tile_zeros(shape), u, k * n * lane_count, lane_count, None)
        x = tile_half_complex_product(tile_real_transform(x), weights)
        tile_store(tile_real_inverse(x), s, k * row, lane_count, None)
    for k in range(1, n // 2):
        re = tile_load(tile_zeros(shape), s, k * row, lane_count, None)
        im = tile_load(tile_zeros(shape), s, (n - k) * row, lane_count, None)
        re, im = tile_complex_transform(re, im)
        u_re = tile_load(tile_zeros(shape), u, k * n * lane_count, lane_count, None)
        u_im = tile_load(tile_zeros(shape), u, (n - k) * n * lane_count, lane_count, None)
        re, im = tile_complex_product(re, im, u_re, u_im)
        im, re = tile_complex_transform(im, re)
        tile_store(re, s, k * row, lane_count, None)
        tile_store(im, s, (n - k) * row, lane_count, None)


@njit(error_model="numpy")
def _write_columns(a, tile, channel, s, shape, edge):
    """The results of one tile and one vector of channels, from the columns' spectra in s, which has room behind it."""
    n = rows_of(shape)
    nowhere = elements_between(a.dst, shift(s, n * _square_row(s, shape)))
    to = local_table(LARGEST)
    image, row, column = tile // (a.tiles_h * a.tiles_w), tile // a.tiles_w % a.tiles_h, tile % a.tiles_w
    top, left = row * a.step_h, column * a.step_w
    last = min(a.step_h, a.TH - top)
    for j in range(min(a.step_w, a.TW - left)):
        for i in range(n):
            place = ((image * a.TH + top + i) * a.TW + left + j) * a.L + channel
            to[i] = place if i < last else nowhere
        x = tile_load(tile_zeros(shape), s, j * lanes_of(s), _square_row(s, shape), None)
        y = tile_scale(tile_real_inverse(x), 1 / (n * n))
        if a.has_bias:
            y = tile_add(y, tile_fill_rows(tile_zeros(shape), a.bias, channel, edge))
        if a.relu:
            y = tile_relu(y)
        tile_store_rows(y, a.dst, 0, to, edge)


#: What :func:`_read_columns` and :func:`_write_columns` take beside the arrays.
_SOURCE = dict.fromkeys("SH SW pixel top left step_h step_w tiles_h tiles_w".split(), "int") | {
    "elements_h": "table",
    "elements_w": "table",
}
_RESULTS = dict.fromkeys("TH TW L has_bias relu step_h step_w tiles_h tiles_w".split(), "int")
_WEIGHTS_FIELDS = {"src": "array", "u": "array", "scratch": "array"} | _SOURCE | {
    "R": "int", "L": "int", "width": "int", "blocks": "int", "u_point": "int", "scratch_size": "int",
}  # fmt: skip
_TILES_FIELDS = {"src": "array", "v": "array", "scratch": "array", "first": "int"} | _SOURCE | {
    "R": "int", "tiles": "int", "chunks": "int", "chunk": "int", "depth": "int", "v_point": "int", "scratch_size": "int",
}  # fmt: skip
_RESULTS_FIELDS = {"m": "array", "bias": "array", "dst": "array", "scratch": "array", "first": "int"} | _RESULTS | {
    "tiles": "int", "vectors": "int", "m_row": "int", "m_point": "int", "scratch_size": "int",
}  # fmt: skip
_DEPTHWISE_FIELDS = {"src": "array", "u": "array", "bias": "array", "dst": "array", "scratch": "array"} | _SOURCE | (
    _RESULTS | {"tiles": "int", "group_tiles": "int", "vectors": "int", "u_vector": "int", "scratch_size": "int"}
)


@njit(error_model="numpy")
def _transform_weights(a, item, worker, shape):
    """Item: a channel r and a block of columns; ``u[block, place, r, column]`` is the spectrum of their kernels.

    src (1, SH, SW, pixel): the kernels as an image of R x L channels. Columns beyond L are zeros.
    """
    r, block = item % a.R, item // a.R
    s = shift(a.scratch, worker * a.scratch_size)
    nothing = _nothing(a, s, shape)
    for at in range(0, a.width, lanes_of(a.src)):
        column = block * a.width + at
        left = min(max(a.L - column, 0), lanes_of(a.src))
        _read_columns(a, 0, r * a.L + column, s, nothing, shape, left)
        place = block * rows_of(shape) * rows_of(shape) * a.u_point + r * a.width + at
        _transform_rows(s, a.u, place, a.u_point, shape)


@njit(error_model="numpy")
def _transform_tile(a, item, worker, shape):
    """Item: a tile of the block and a chunk of channels; ``v[place, tile, r]`` is the spectrum of the tile."""
    chunk, t = item % a.chunks, item // a.chunks
    if a.first + t >= a.tiles:
        return
    s = shift(a.scratch, worker * a.scratch_size)
    nothing = _nothing(a, s, shape)
    for r in range(chunk * a.chunk, min((chunk + 1) * a.chunk, a.R), lanes_of(a.src)):
        if r + lanes_of(a.src) <= a.R:
            _read_columns(a, a.first + t, r, s, nothing, shape, None)
        else:
            _read_columns(a, a.first + t, r, s, nothing, shape, a.R - r)
        _transform_rows(s, a.v, t * a.depth + r, a.v_point, shape)


@njit(error_model="numpy")
def _write_tile(a, item, worker, shape):
    """Item: a tile of the block and a vector of columns; the results, from ``m[place, tile, column]``."""
    vector, t = item % a.vectors, item // a.vectors
    if a.first + t >= a.tiles:
        return
    s = shift(a.scratch, worker * a.scratch_size)
    column = vector * lanes_of(a.m)
    _inverse_rows(a.m, t * a.m_row + column, a.m_point, s, shape)
    if column + lanes_of(a.m) <= a.L:
        _write_columns(a, a.first + t, column, s, shape, None)
    else:
        _write_columns(a, a.first + t, column, s, shape, a.L - column)


@njit(error_model="numpy")
def _convolve_depthwise(a, item, worker, shape):
    """Item: a vector of channels and some tiles. The spectrum of the channels' kernels is ``u[vector, place, lane]``."""
    vector, group = item % a.vectors, item // a.vectors
    s = shift(a.scratch, worker * a.scratch_size)
    channel = vector * lanes_of(a.src)
    u = shift(a.u, vector * a.u_vector)
    for tile in range(group * a.group_tiles, min((group + 1) * a.group_tiles, a.tiles)):
        nothing = _nothing(a, s, shape)
        if channel + lanes_of(a.src) <= a.L:
            _read_columns(a, tile, channel, s, nothing, shape, None)
            _multiply_rows(s, u, shape)
            _write_columns(a, tile, channel, s, shape, None)
        else:
            _read_columns(a, tile, channel, s, nothing, shape, a.L - channel)
            _multiply_rows(s, u, shape)
            _write_columns(a, tile, channel, s, shape, a.L - channel)


@kernel(**_WEIGHTS_FIELDS)
def fft_weights_16_kernel(a, item, worker):
    """:func:`_transform_weights` with n = 16."""
    _transform_weights(a, item, worker, tile_shape(a.src, 16, 1))


@kernel(**_WEIGHTS_FIELDS)
def fft_weights_32_kernel(a, item, worker):
    """:func:`_transform_weights` with n = 32."""
    _transform_weights(a, item, worker, tile_shape(a.src, 32, 1))


@kernel(**_WEIGHTS_FIELDS)
def fft_weights_64_kernel(a, item, worker):
    """:func:`_transform_weights` with n = 64."""
    _transform_weights(a, item, worker, tile_shape(a.src, 64, 1))


@kernel(**_TILES_FIELDS)
def fft_tiles_16_kernel(a, item, worker):
    """:func:`_transform_tile` with n = 16."""
    _transform_tile(a, item, worker, tile_shape(a.src, 16, 1))


@kernel(**_TILES_FIELDS)
def fft_tiles_32_kernel(a, item, worker):
    """:func:`_transform_tile` with n = 32."""
    _transform_tile(a, item, worker, tile_shape(a.src, 32, 1))


@kernel(**_TILES_FIELDS)
def fft_tiles_64_kernel(a, item, worker):
    """:func:`_transform_tile` with n = 64."""
    _transform_tile(a, item, worker, tile_shape(a.src, 64, 1))


@kernel(**_RESULTS_FIELDS)
def fft_results_16_kernel(a, item, worker):
    """:func:`_write_tile` with n = 16."""
    _write_tile(a, item, worker, tile_shape(a.m, 16, 1))


@kernel(**_RESULTS_FIELDS)
def fft_results_32_kernel(a, item, worker):
    """:func:`_write_tile` with n = 32."""
    _write_tile(a, item, worker, tile_shape(a.m, 32, 1))


@kernel(**_RESULTS_FIELDS)
def fft_results_64_kernel(a, item, worker):
    """:func:`_write_tile` with n = 64."""
    _write_tile(a, item, worker, tile_shape(a.m, 64, 1))


@kernel(**_DEPTHWISE_FIELDS)
def fft_depthwise_16_kernel(a, item, worker):
    """:func:`_convolve_depthwise` with n = 16."""
    _convolve_depthwise(a, item, worker, tile_shape(a.src, 16, 1))


@kernel(**_DEPTHWISE_FIELDS)
def fft_depthwise_32_kernel(a, item, worker):
    """:func:`_convolve_depthwise` with n = 32."""
    _convolve_depthwise(a, item, worker, tile_shape(a.src, 32, 1))


@kernel(**_DEPTHWISE_FIELDS)
def fft_depthwise_64_kernel(a, item, worker):
    """:func:`_convolve_depthwise` with n = 64."""
    _convolve_depthwise(a, item, worker, tile_shape(a.src, 64, 1))


#: The kernels for each n.
_WEIGHTS = {16: fft_weights_16_kernel, 32: fft_weights_32_kernel, 64: fft_weights_64_kernel}
_TILES = {16: fft_tiles_16_kernel, 32: fft_tiles_32_kernel, 64: fft_tiles_64_kernel}
_WRITE = {16: fft_results_16_kernel, 32: fft_results_32_kernel, 64: fft_results_64_kernel}
_DEPTHWISE = {16: fft_depthwise_16_kernel, 32: fft_depthwise_32_kernel, 64: fft_depthwise_64_kernel}


@kernel(
    v="array", u="array", m="array", first="int", frequencies="table", v_rows="table",
    tiles="int", block_tiles="int", R="int", L="int", depth="int", m_row="int", spectra="int", frequency_chunk="int",
    count="int", places="int", v_point="int", u_point="int", m_point="int", chunks="int",
)  # fmt: skip
def fft_products_kernel(a, item, worker):
    """``m[f, t, l] = sum over r of v[f, t, r] * u[f, r, l]``, complex, for some frequencies and a block of columns.

    ``frequencies`` holds the places of real and imaginary parts, -1 where there is no imaginary part. Bits repeat: a
    sum is computed by one piece.
    """
    chunk, block = item % a.chunks, item // a.chunks
    count = min(a.block_tiles, a.tiles - a.first)
    column = block * VECTORS * lanes_of(a.v)
    u, m = shift(a.u, block * a.places * a.u_point), shift(a.m, column)
    for f in range(chunk * a.frequency_chunk, min((chunk + 1) * a.frequency_chunk, a.spectra)):
        if a.L - column > HALF * lanes_of(a.v):
            whole = count - count % ROWS
            _products(a, f, u, m, 0, whole, tile_shape(a.v, ROWS, VECTORS))
            _products(a, f, u, m, whole, count, tile_shape(a.v, FEW, VECTORS))
        else:
            whole = count - count % HALF_ROWS
            _products(a, f, u, m, 0, whole, tile_shape(a.v, HALF_ROWS, HALF))
            _products(a, f, u, m, whole, count, tile_shape(a.v, FEW, HALF))


@njit(error_model="numpy")
def _products(a, f, u, m, first, last, shape):
    """The products of one frequency for tiles from ``first`` to ``last``; the last rows may be of no tile."""
    depth, rows, m_row = a.depth, a.v_rows, a.m_row
    width = VECTORS * lanes_of(a.v)
    real, imaginary = a.frequencies[2 * f], a.frequencies[2 * f + 1]
    v_re, u_re, m_re = shift(a.v, real * a.v_point), shift(u, real * a.u_point), shift(m, real * a.m_point)
    if imaginary < 0:
        for t in range(first, last, rows_of(shape)):
            acc = tile_zeros(shape)
            for r in range(a.R):
                acc = tile_multiply_add(acc, v_re, t * depth + r, rows, u_re, r * width, None)
            tile_store(acc, m_re, t * m_row, m_row, None)
        return
    v_im, u_im = shift(a.v, imaginary * a.v_point), shift(u, imaginary * a.u_point)
    m_im = shift(m, imaginary * a.m_point)
    for t in range(first, last, rows_of(shape)):
        acc = tile_zeros(shape)
        for r in range(a.R):
            acc = tile_multiply_add(acc, v_re, t * depth + r, rows, u_re, r * width, None)
        for r in range(a.R):
            acc = tile_multiply_subtract(acc, v_im, t * depth + r, rows, u_im, r * width, None)
        tile_store(acc, m_re, t * m_row, m_row, None)
        acc = tile_zeros(shape)
        for r in range(a.R):
            acc = tile_multiply_add(acc, v_re, t * depth + r, rows, u_im, r * width, None)
        for r in range(a.R):
            acc = tile_multiply_add(acc, v_im, t * depth + r, rows, u_re, r * width, None)
        tile_store(acc, m_im, t * m_row, m_row, None)


#: Bytes of spectra of one block of tiles and of its products.
_BLOCK_BYTES = 8 * 1024 * 1024
#: Real numbers of the spectra of the weights that one piece of the products reads, at most about.
_PIECE_WEIGHTS = 64 * 1024
#: Pieces of work at least, for the threads to share.
_PIECES = 8


class _Tiling:
    """How a problem's results are divided into tiles of n x n elements.

    Along an axis a tile gives n - r + 1 results; or all of them, where what is counted modulo n is padding, which is
    zeros on either side: then one tile holds the whole axis.
    """

    def __init__(self, p: ConvProblem, forward: bool, n: int):
        (_, SH, SW), (_, TH, TW) = (p.size, p.output) if forward else (p.output, p.size)
        extents = _extents(p)
        befores = [before for before, _ in p.padding[1:]]
        if not forward:
            befores = [extent - 1 - before for extent, before in zip(extents, befores)]
        self.n, self.N = n, p.N
        self.top, self.left = befores
        self.step_h, self.step_w = (
            target if n >= max(size + before, target + extent - 1 - before) else n - extent + 1
            for size, target, extent, before in zip((SH, SW), (TH, TW), extents, befores)
        )
        self.SH, self.SW, self.TH, self.TW = SH, SW, TH, TW
        self.tiles_h, self.tiles_w = -(-TH // max(self.step_h, 1)), -(-TW // max(self.step_w, 1))
        self.tiles = p.N * self.tiles_h * self.tiles_w

    def source(self, channels: int) -> dict[str, Any]:
        """The fields of a kernel that reads tiles of the source."""
        return {
            "SH": self.SH, "SW": self.SW, "pixel": channels, "top": self.top, "left": self.left,
            "step_h": self.step_h, "step_w": self.step_w, "tiles_h": self.tiles_h, "tiles_w": self.tiles_w,
            "elements_h": np.arange(self.n), "elements_w": np.arange(self.n),
        }  # fmt: skip

    def weights(self, p: ConvProblem, channels: int) -> dict[str, Any]:
        """The fields of a kernel that reads the weights, an image of so many channels, as one tile.

        The tap at distance d from the first is element -d modulo n: the spectrum is conjugate, and a product with it
        is a correlation.
        """
        elements = []
        for taps, dilation in zip(p.kernel[1:], p.dilation[1:]):
            of_axis = np.full(self.n, NOTHING)
            of_axis[-dilation * np.arange(taps) % self.n] = np.arange(taps)
            elements.append(of_axis)
        return {
            "SH": p.kernel[1], "SW": p.kernel[2], "pixel": channels, "top": 0, "left": 0,
            "step_h": 1, "step_w": 1, "tiles_h": 1, "tiles_w": 1, "elements_h": elements[0], "elements_w": elements[1],
        }  # fmt: skip

    def results(self, p: ConvProblem, forward: bool, L: int) -> dict[str, Any]:
        """The fields of a kernel that writes results."""
        return {
            "TH": self.TH, "TW": self.TW, "L": L, "step_h": self.step_h, "step_w": self.step_w,
            "tiles_h": self.tiles_h, "tiles_w": self.tiles_w,
            "has_bias": forward and p.bias, "relu": forward and p.activation == "relu",
        }  # fmt: skip


def _extents(p: ConvProblem) -> list[int]:
    """Height and width of the dilated kernel."""
    return [effective_kernel(taps, dilation) for taps, dilation in zip(p.kernel[1:], p.dilation[1:])]


def _square(n: int, lane_count: int) -> int:
    """Elements of the square in which a tile is transformed, and a vector behind it."""
    return (n * (n + 1) + 1) * lane_count


def _frequencies(n: int) -> np.ndarray:
    """The places of the real and the imaginary part of each frequency, -1 for none."""
    found = [(k * n + j, (n - k) * n + j) for k in range(1, n // 2) for j in range(n)]
    for k in (0, n // 2):
        found += [(k * n + j, k * n + n - j if 0 < j < n // 2 else -1) for j in range(n // 2 + 1)]
    return np.array(found, np.int64)


class _DenseFft:
    """The core of forward and input gradient of a dense layer."""

    def __init__(self, p: ConvProblem, forward: bool, scratch: Scratch):
        R, L = (p.C, p.K) if forward else (p.K, p.C)
        n = _dense_n(p, forward)
        tiling = _Tiling(p, forward, n)
        lane_count = lanes(p.dtype)
        vectors, places = -(-L // lane_count), n * n
        line = 64 // item_bytes(p.dtype)
        width = VECTORS * lane_count
        blocks = -(-L // width)
        depth, m_row = -(-R // lane_count) * lane_count, blocks * width
        wanted = _BLOCK_BYTES // (places * (depth + m_row) * item_bytes(p.dtype))
        self._tiles = tiling.tiles
        tile_blocks = max(round(tiling.tiles / max(wanted, 2 * ROWS)), 1)
        self._block_tiles = block_tiles = max(-(-tiling.tiles // tile_blocks), 1)
        rows = -(-block_tiles // FEW) * FEW
        # One more cache line between places than they take: distances of a power of two would share cache sets.
        v_point, m_point, u_point = rows * depth + line, rows * m_row + line, R * width + line
        square = _square(n, lane_count)
        self._v_at, self._m_at = scratch.reserve(places * v_point), scratch.reserve(places * m_point)
        self._u_at, self._scratch_at = scratch.reserve(blocks * places * u_point), scratch.reserve(most_threads() * square)
        self._transform_weights = Task(
            _WEIGHTS[n], p.dtype, R * blocks, "src u scratch",
            R=R, L=L, width=width, blocks=blocks, u_point=u_point, scratch_size=square, **tiling.weights(p, R * L),
        )  # fmt: skip
        chunks = min(-(-_PIECES // block_tiles), depth // lane_count)
        chunk = -(-(depth // lane_count) // max(chunks, 1)) * lane_count
        chunks = -(-depth // max(chunk, 1))
        self._transform_tiles = Task(
            _TILES[n], p.dtype, block_tiles * chunks, "src v scratch first",
            R=R, tiles=tiling.tiles, chunks=chunks, chunk=chunk, depth=depth, v_point=v_point, scratch_size=square,
            **tiling.source(R),
        )  # fmt: skip
        frequencies = _frequencies(n)
        frequency_chunk = max(min(_PIECE_WEIGHTS // (2 * max(R, 1) * width), len(frequencies) // _PIECES), 1)
        frequency_chunks = -(-len(frequencies) // frequency_chunk)
        self._multiply = Task(
            fft_products_kernel, p.dtype, frequency_chunks * blocks, "v u m first",
            frequencies=frequencies, spectra=len(frequencies), frequency_chunk=frequency_chunk, chunks=frequency_chunks,
            v_rows=np.arange(max(ROWS, HALF_ROWS)) * depth, tiles=tiling.tiles, block_tiles=block_tiles,
            R=R, L=L, depth=depth, m_row=m_row, places=places, v_point=v_point, u_point=u_point, m_point=m_point,
        )  # fmt: skip
        self._write = Task(
            _WRITE[n], p.dtype, block_tiles * vectors, "m bias dst scratch first",
            tiles=tiling.tiles, vectors=vectors, m_row=m_row, m_point=m_point, scratch_size=square,
            **tiling.results(p, forward, L),
        )  # fmt: skip

    def run(self, base: int, src: int, w: int, bias: int, dst: int) -> None:
        u, v, m, scratch = (base + at for at in (self._u_at, self._v_at, self._m_at, self._scratch_at))
        self._transform_weights.run(w, u, scratch)
        for first in range(0, self._tiles, self._block_tiles):
            self._transform_tiles.run(src, v, scratch, first)
            self._multiply.run(v, u, m, first)
            self._write.run(m, bias, dst, scratch, first)


class _DepthwiseFft:
    """The core of forward and input gradient of a depthwise layer."""

    def __init__(self, p: ConvProblem, forward: bool, scratch: Scratch):
        n = _depthwise_n(p, forward)
        tiling = _Tiling(p, forward, n)
        lane_count = lanes(p.dtype)
        vectors = -(-p.C // lane_count)
        square, u_vector = _square(n, lane_count), n * n * lane_count
        self._u_at, self._scratch_at = scratch.reserve(vectors * u_vector), scratch.reserve(most_threads() * square)
        self._transform_weights = Task(
            _WEIGHTS[n], p.dtype, vectors, "src u scratch",
            R=1, L=p.C, width=lane_count, blocks=vectors, u_point=lane_count, scratch_size=square,
            **tiling.weights(p, p.C),
        )  # fmt: skip
        groups = max(min(tiling.tiles, -(-_PIECES // vectors)), 1)
        group_tiles = -(-tiling.tiles // groups)
        self._convolve = Task(
            _DEPTHWISE[n], p.dtype, vectors * -(-tiling.tiles // max(group_tiles, 1)), "src u bias dst scratch",
            tiles=tiling.tiles, group_tiles=group_tiles, vectors=vectors, u_vector=u_vector, scratch_size=square,
            **tiling.source(p.C) | tiling.results(p, forward, p.C),
        )  # fmt: skip

    def run(self, base: int, src: int, w: int, bias: int, dst: int) -> None:
        self._transform_weights.run(w, base + self._u_at, base + self._scratch_at)
        self._convolve.run(src, base + self._u_at, bias, dst, base + self._scratch_at)


def _core(p: ConvProblem, forward: bool, scratch: Scratch) -> Core:
    return _DepthwiseFft(p, forward, scratch) if p.G > 1 else _DenseFft(p, forward, scratch)


class FftForward(Forward):
    """``y = activation(x * w + b)``."""

    make_core = _core


class FftInputGradient(InputGradient):
    """``dx`` from ``dy`` and ``w``."""

    make_core = _core


import os
def _dense_n(p, forward):
    if os.environ.get("FFTN"): return int(os.environ["FFTN"])
    return next(n for n in (16, 32, 64) if n > max(_extents(p)) + 3)


_depthwise_n = _dense_n


def fft_supports(p: ConvProblem) -> str | None:
    """None for a problem that transforms of tiles can do, otherwise the reason why not."""
    if p.kernel[0] > 1 or p.size[0] > 1:
        return f"images; received {' x '.join(map(str, p.size))}"
    if p.stride != (1, 1, 1):
        return f"stride 1; received {p.stride[3 - p.rank :]}"
    if p.G > 1 and not p.G == p.C == p.K:
        return f"one group, or one for each input and output channel; received {p.C} and {p.K} channels in {p.G}"
    if max(_extents(p)) > LARGEST // 2:
        return f"kernels of at most {LARGEST // 2} elements along an axis; received {' x '.join(map(str, _extents(p)))}"
    return None
