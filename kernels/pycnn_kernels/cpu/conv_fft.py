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

The input gradient is the same correlation, of dy with the transposed, reversed weights. The weight gradient is a
correlation of x with dy: products of the spectra of tiles of both, summed over the tiles and then transformed back.

Rounding errors spread over a tile; they are less than 1e-6 of the largest result in float32. A NaN or an infinity in
the source reaches all results of the tiles that it lies in, as NaN.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from pycnn_kernels.cpu.conv_direct import whole_tiles
from pycnn_kernels.cpu.conv_frame import (
    Core,
    Forward,
    GradientCore,
    InputGradient,
    Parts,
    Scratch,
    WeightGradient,
    split,
)
from pycnn_kernels.cpu.cost import layout_cost
from pycnn_kernels.cpu.epilogue import EPILOGUE_ARRAYS, EPILOGUE_FIELDS, Epilogue, call_finish, epilogue_fields
from pycnn_kernels.cpu.fft import (
    tile_complex_product,
    tile_complex_transform,
    tile_half_complex_product,
    tile_real_inverse,
    tile_real_transform,
    tile_scale,
)
from pycnn_kernels.cpu.gather import needs_zeros
from pycnn_kernels.cpu.host import SIMD, item_bytes, lanes
from pycnn_kernels.cpu.inlined import inlined
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

#: Vectors in a block of columns, rows of its tile, and rows of the tiles that take what whole ones leave.
VECTORS, ROWS, FEW = 2, SIMD.tile_rows, 4

#: The largest n.
LARGEST = 64

#: Where an element of a tile lies that is zero whatever the source holds: far outside of it.
NOTHING = -(1 << 40)


@inlined
def _square_row(pointer, shape):
    """Elements of a row of the square in which one vector of channels of a tile is transformed.

    One vector more than it has: rows a power of two apart would share cache sets.
    """
    return (rows_of(shape) + 1) * lanes_of(pointer)


@inlined
def _nothing(a, s, shape):
    """Where a vector of zeros lies behind the square s, seen from src."""
    zeros = shift(s, rows_of(shape) * _square_row(s, shape))
    tile_store(tile_zeros(tile_shape(a.src, 1, 1)), zeros, 0, 0, None)
    return elements_between(a.src, zeros)


class _Images(NamedTuple):
    """What tiles are read from: pixels (N, height, width, channels), and where the tiles and their elements lie."""

    pixels: Any
    height: Any
    width: Any
    top: Any
    left: Any
    elements_h: Any
    elements_w: Any


@inlined
def _source(a):
    """The images of the fields :data:`_SOURCE`."""
    return _Images(a.src, a.SH, a.SW, a.top, a.left, a.elements_h, a.elements_w)


@inlined
def _read_columns(a, images, tile, channel, s, nothing, shape, edge):
    """Into the square s the transformed columns of one tile and one vector of channels; ``nothing``: a vector of zeros.

    Element (i, j) of the tile lies ``elements_h[i]``, ``elements_w[j]`` pixels from its first.
    """
    n = rows_of(shape)
    there = local_table(LARGEST)
    image, row, column = tile // (a.tiles_h * a.tiles_w), tile // a.tiles_w % a.tiles_h, tile % a.tiles_w
    top, left = row * a.step_h - images.top, column * a.step_w - images.left
    for j in range(n):
        w = left + images.elements_w[j]
        if 0 <= w < images.width:
            for i in range(n):
                h = top + images.elements_h[i]
                place = ((image * images.height + h) * images.width + w) * a.pixel + channel
                there[i] = place if 0 <= h < images.height else nothing
            x = tile_load_rows(tile_zeros(shape), images.pixels, 0, there, edge)
            tile_store(tile_real_transform(x), s, j * lanes_of(s), _square_row(s, shape), None)
        else:
            tile_store(tile_zeros(shape), s, j * lanes_of(s), _square_row(s, shape), None)


@inlined
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


@inlined
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


@inlined
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


@inlined
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
        if a.finish:
            for i in range(last):
                call_finish(a, to[i], channel, min(lanes_of(s), a.L - channel))


#: What :func:`_read_columns` and :func:`_write_columns` take beside the arrays.
_SOURCE = dict.fromkeys(["SH", "SW", "pixel", "top", "left", "step_h", "step_w", "tiles_h", "tiles_w"], "int") | {
    "elements_h": "table",
    "elements_w": "table",
}
_RESULTS = EPILOGUE_FIELDS | dict.fromkeys(["TH", "TW", "L", "step_h", "step_w", "tiles_h", "tiles_w"], "int")
_WEIGHTS_FIELDS = {
    "w": "array", "w_columns": "array", "elements_h": "table", "KW": "int", "R": "int", "L": "int",
    "slot": "int",
}  # fmt: skip
_PRODUCTS_FIELDS = {
    "v": "array", "w_columns": "array", "m": "array", "scratch": "array", "first": "int",
    "slots": "table", "v_rows": "table", "KW": "int", "R": "int", "tiles": "int", "block_tiles": "int",
    "depth": "int", "m_row": "int", "slot": "int", "v_point": "int", "u_point": "int", "m_point": "int",
    "scratch_size": "int",
}  # fmt: skip
_GRADIENT_PRODUCTS_FIELDS = {
    "v": "array", "e": "array", "dw_columns": "array", "scratch": "array", "first": "int",
    "slots": "table", "KW": "int", "R": "int", "tiles": "int", "block_tiles": "int",
    "depth": "int", "e_row": "int", "slot": "int", "v_point": "int", "e_point": "int", "m_point": "int",
    "scratch_size": "int",
}  # fmt: skip
_GRADIENTS_FIELDS = {
    "dw_columns": "array", "dw": "array", "scratch": "array", "elements_h": "table",
    "KW": "int", "R": "int", "L": "int", "slot": "int",
}  # fmt: skip
_SPECTRUM_FIELDS = {"src": "array", "u": "array", "scratch": "array"} | _SOURCE | {
    "L": "int", "u_vector": "int", "scratch_size": "int",
}  # fmt: skip
_TILES_FIELDS = {"src": "array", "v": "array", "scratch": "array", "first": "int"} | _SOURCE | {
    "R": "int", "tiles": "int", "chunks": "int", "chunk": "int", "depth": "int", "v_point": "int",
    "scratch_size": "int",
}  # fmt: skip
_RESULTS_FIELDS = _RESULTS | {
    "m": "array", "scratch": "array", "first": "int", "tiles": "int", "vectors": "int",
    "m_row": "int", "m_point": "int", "scratch_size": "int",
}  # fmt: skip
_DEPTHWISE_GRADIENT_FIELDS = {"src": "array", "dy": "array", "dw": "array", "scratch": "array"} | _SOURCE | {
    "TH": "int", "TW": "int", "reverse_h": "table", "reverse_w": "table", "taps_h": "table", "taps_w": "table",
    "KW": "int", "tiles": "int", "split_tiles": "int", "part": "int", "vectors": "int", "scratch_size": "int",
}  # fmt: skip
_DEPTHWISE_FIELDS = (
    _RESULTS
    | _SOURCE
    | {"src": "array", "u": "array", "scratch": "array"}
    | {"tiles": "int", "group_tiles": "int", "vectors": "int", "u_vector": "int", "scratch_size": "int"}
)


@inlined
def _transform_weight_columns(a, item, shape):
    """Item: a channel r and a block of columns; the transformed columns of their kernels.

    w (KH, KW, R, L) to ``w_columns[block, i, kw, r, column]``, i the n places of a half-complex column. Columns beyond
    L are zeros, and so is a last slot after kw = KW - 1. ``elements_h``: which tap is an element of the tile.
    """
    r, block = item % a.R, item // a.R
    n, width = rows_of(shape), VECTORS * lanes_of(a.w)
    there = local_table(LARGEST)
    row = (a.KW + 1) * a.slot
    to = shift(a.w_columns, block * n * row + r * width)
    for at in range(0, width, lanes_of(a.w)):
        column = block * width + at
        tile_store(tile_zeros(shape), to, a.KW * a.slot + at, row, None)
        nothing = elements_between(a.w, shift(to, a.KW * a.slot + at))
        for kw in range(a.KW):
            for i in range(n):
                kh = a.elements_h[i]
                there[i] = ((kh * a.KW + kw) * a.R + r) * a.L + column if kh >= 0 else nothing
            g = tile_load_rows(tile_zeros(shape), a.w, 0, there, min(max(a.L - column, 0), lanes_of(a.w)))
            tile_store(tile_real_transform(g), to, kw * a.slot + at, row, None)


@inlined
def _transform_spectrum(a, item, worker, shape):
    """Item: a vector of channels; the spectrum of their kernels to ``u[vector, place, lane]``.

    src (SH, SW, pixel): the kernels as an image.
    """
    s = shift(a.scratch, worker * a.scratch_size)
    channel = item * lanes_of(a.src)
    left = min(a.L - channel, lanes_of(a.src))
    _read_columns(a, _source(a), 0, channel, s, _nothing(a, s, shape), shape, left)
    _transform_rows(s, a.u, item * a.u_vector, lanes_of(a.src), shape)


@inlined
def _transform_tile(a, item, worker, shape):
    """Item: a tile of the block and a chunk of channels; ``v[place, tile, r]`` is the spectrum of the tile."""
    chunk, t = item % a.chunks, item // a.chunks
    if a.first + t >= a.tiles:
        return
    s = shift(a.scratch, worker * a.scratch_size)
    nothing = _nothing(a, s, shape)
    for r in range(chunk * a.chunk, min((chunk + 1) * a.chunk, a.R), lanes_of(a.src)):
        if r + lanes_of(a.src) <= a.R:
            _read_columns(a, _source(a), a.first + t, r, s, nothing, shape, None)
        else:
            _read_columns(a, _source(a), a.first + t, r, s, nothing, shape, a.R - r)
        _transform_rows(s, a.v, t * a.depth + r, a.v_point, shape)


@inlined
def _multiply(a, item, worker, shape):
    """Item: a block of columns and two rows of places; ``m[f, t, l] = sum over r of v[f, t, r] * u[f, r, l]``, complex.

    The rows are k and n - k, real and imaginary parts, or 0 and n / 2, both half-complex. The spectrum u of the
    weights, (2 n places, R, columns), is computed here, for the second-level cache: all of it at once would be n^2
    numbers for each weight.
    """
    n = rows_of(shape)
    k, block = item % (n // 2), item // (n // 2)
    other = n - k if k > 0 else n // 2
    width = VECTORS * lanes_of(a.v)
    u = shift(a.scratch, worker * a.scratch_size)
    u_other = shift(u, n * a.u_point)
    row = (a.KW + 1) * a.slot
    columns = shift(a.w_columns, (block * n + k) * row)
    columns_other = shift(a.w_columns, (block * n + other) * row)
    for at in range(0, a.R * width, lanes_of(a.v)):
        g = tile_load_rows(tile_zeros(shape), columns, at, a.slots, None)
        g_other = tile_load_rows(tile_zeros(shape), columns_other, at, a.slots, None)
        if k > 0:
            g, g_other = tile_complex_transform(g, g_other)
            tile_store(g, u, at, a.u_point, None)
            tile_store(g_other, u_other, at, a.u_point, None)
        else:
            tile_store(tile_real_transform(g), u, at, a.u_point, None)
            tile_store(tile_real_transform(g_other), u_other, at, a.u_point, None)
    v, v_other = shift(a.v, k * n * a.v_point), shift(a.v, other * n * a.v_point)
    m, m_other = shift(a.m, k * n * a.m_point + block * width), shift(a.m, other * n * a.m_point + block * width)
    if k > 0:
        for j in range(n):
            _complex_products(a, v, v_other, u, u_other, m, m_other, j, j)
        return
    for j in range(0, n, n // 2):
        _real_products(a, v, u, m, j)
        _real_products(a, v_other, u_other, m_other, j)
    for j in range(1, n // 2):
        _complex_products(a, v, v, u, u, m, m, j, n - j)
        _complex_products(a, v_other, v_other, u_other, u_other, m_other, m_other, j, n - j)


@inlined
def _real_products(a, v, u, m, j):
    """The products of place j of a row, for all tiles of the block."""
    v, u, m = shift(v, j * a.v_point), shift(u, j * a.u_point), shift(m, j * a.m_point)
    count = min(a.block_tiles, a.tiles - a.first)
    full, few = tile_shape(a.v, ROWS, VECTORS), tile_shape(a.v, FEW, VECTORS)
    whole = whole_tiles(count, full, few)
    _add_products(a, v, v, u, u, m, 0, whole, 0, full)
    _add_products(a, v, v, u, u, m, whole, count, 0, few)


@inlined
def _complex_products(a, v_re, v_im, u_re, u_im, m_re, m_im, re, im):
    """The products whose real parts are places ``re`` of the given rows, their imaginary parts places ``im``."""
    v_re, u_re, m_re = shift(v_re, re * a.v_point), shift(u_re, re * a.u_point), shift(m_re, re * a.m_point)
    v_im, u_im, m_im = shift(v_im, im * a.v_point), shift(u_im, im * a.u_point), shift(m_im, im * a.m_point)
    count = min(a.block_tiles, a.tiles - a.first)
    full, few = tile_shape(a.v, ROWS, VECTORS), tile_shape(a.v, FEW, VECTORS)
    whole = whole_tiles(count, full, few)
    _add_products(a, v_re, v_im, u_re, u_im, m_re, 0, whole, -1, full)
    _add_products(a, v_re, v_im, u_re, u_im, m_re, whole, count, -1, few)
    _add_products(a, v_re, v_im, u_im, u_re, m_im, 0, whole, 1, full)
    _add_products(a, v_re, v_im, u_im, u_re, m_im, whole, count, 1, few)


@inlined
def _add_products(a, v, v_2, u, u_2, m, first, last, sign, shape):
    """``m[t, l] = sum over r of v[t, r] * u[r, l] + sign * v_2[t, r] * u_2[r, l]``; the last rows may be of no tile."""
    depth, rows, m_row, R = a.depth, a.v_rows, a.m_row, a.R
    width = VECTORS * lanes_of(a.v)
    for t in range(first, last, rows_of(shape)):
        acc = tile_zeros(shape)
        for r in range(R):
            acc = tile_multiply_add(acc, v, t * depth + r, rows, u, r * width, None)
        if sign > 0:
            for r in range(R):
                acc = tile_multiply_add(acc, v_2, t * depth + r, rows, u_2, r * width, None)
        elif sign < 0:
            for r in range(R):
                acc = tile_multiply_subtract(acc, v_2, t * depth + r, rows, u_2, r * width, None)
        tile_store(acc, m, t * m_row, m_row, None)


@inlined
def _multiply_gradients(a, item, worker, shape):
    """Item: a block of columns and two rows of places, as in :func:`_multiply`; the products of v and e, summed.

    v (places, tiles, R) of x, e (places, tiles, L) of dy. The sums m[f, r, l] over the tiles of the block, transformed
    back along the rows, are added to ``dw_columns[block, i, kw, r, column]``, i the n places of a half-complex column.
    """
    n = rows_of(shape)
    k, block = item % (n // 2), item // (n // 2)
    other = n - k if k > 0 else n // 2
    width = VECTORS * lanes_of(a.v)
    m = shift(a.scratch, worker * a.scratch_size)
    m_other = shift(m, n * a.m_point)
    v, v_other = shift(a.v, k * n * a.v_point), shift(a.v, other * n * a.v_point)
    e, e_other = shift(a.e, k * n * a.e_point + block * width), shift(a.e, other * n * a.e_point + block * width)
    if k > 0:
        for j in range(n):
            _complex_sums(a, v, v_other, e, e_other, m, m_other, j, j)
    else:
        for j in range(0, n, n // 2):
            _real_sums(a, v, e, m, j)
            _real_sums(a, v_other, e_other, m_other, j)
        for j in range(1, n // 2):
            _complex_sums(a, v, v, e, e, m, m, j, n - j)
            _complex_sums(a, v_other, v_other, e_other, e_other, m_other, m_other, j, n - j)
    row = (a.KW + 1) * a.slot
    columns = shift(a.dw_columns, (block * n + k) * row)
    columns_other = shift(a.dw_columns, (block * n + other) * row)
    for at in range(0, a.R * width, lanes_of(a.v)):
        g = tile_load(tile_zeros(shape), m, at, a.m_point, None)
        g_other = tile_load(tile_zeros(shape), m_other, at, a.m_point, None)
        if k > 0:
            g_other, g = tile_complex_transform(g_other, g)
            _add_columns(a, g, columns, at)
            _add_columns(a, g_other, columns_other, at)
        else:
            _add_columns(a, tile_real_inverse(g), columns, at)
            _add_columns(a, tile_real_inverse(g_other), columns_other, at)


@inlined
def _add_columns(a, tile, columns, at):
    """Add a row's results to the columns; those of no tap to the slot after the last one."""
    if a.first > 0:
        tile = tile_add(tile, tile_load_rows(tile, columns, at, a.slots, None))
    tile_store_rows(tile, columns, at, a.slots, None)


@inlined
def _real_sums(a, v, e, m, j):
    """The sums of place j of a row."""
    v, e, m = shift(v, j * a.v_point), shift(e, j * a.e_point), shift(m, j * a.m_point)
    _add_tiles(a, v, v, e, e, m, 0)


@inlined
def _complex_sums(a, v_re, v_im, e_re, e_im, m_re, m_im, re, im):
    """The sums whose real parts are places ``re`` of the given rows, their imaginary parts places ``im``."""
    v_re, e_re, m_re = shift(v_re, re * a.v_point), shift(e_re, re * a.e_point), shift(m_re, re * a.m_point)
    v_im, e_im, m_im = shift(v_im, im * a.v_point), shift(e_im, im * a.e_point), shift(m_im, im * a.m_point)
    _add_tiles(a, v_re, v_im, e_re, e_im, m_re, -1)
    _add_tiles(a, v_re, v_im, e_im, e_re, m_im, 1)


@inlined
def _add_tiles(a, v, v_2, e, e_2, m, sign):
    """``m[r, l] = sum over tiles of v[t, r] * e[t, l] + sign * v_2[t, r] * e_2[t, l]``.

    The last rows may be of no channel.
    """
    depth, e_row, width = a.depth, a.e_row, VECTORS * lanes_of(a.v)
    count = min(a.block_tiles, a.tiles - a.first)
    for r in range(0, a.R, ROWS):
        acc = tile_zeros(tile_shape(a.v, ROWS, VECTORS))
        for t in range(count):
            acc = tile_multiply_add(acc, v, t * depth + r, None, e, t * e_row, None)
        if sign > 0:
            for t in range(count):
                acc = tile_multiply_add(acc, v_2, t * depth + r, None, e_2, t * e_row, None)
        elif sign < 0:
            for t in range(count):
                acc = tile_multiply_subtract(acc, v_2, t * depth + r, None, e_2, t * e_row, None)
        tile_store(acc, m, r * width, width, None)


@inlined
def _write_gradients(a, item, worker, shape):
    """Item: a channel r and a block of columns; dw (KH, KW, R, L), from the columns' spectra.

    ``elements_h``: which tap is an element of the tile.
    """
    r, block = item % a.R, item // a.R
    n, width = rows_of(shape), VECTORS * lanes_of(a.dw)
    to = local_table(LARGEST)
    nowhere = elements_between(a.dw, shift(a.scratch, worker * lanes_of(a.dw)))
    row = (a.KW + 1) * a.slot
    columns = shift(a.dw_columns, block * n * row + r * width)
    for at in range(0, width, lanes_of(a.dw)):
        column = block * width + at
        for kw in range(a.KW):
            for i in range(n):
                kh = a.elements_h[i]
                to[i] = ((kh * a.KW + kw) * a.R + r) * a.L + column if kh >= 0 else nowhere
            g = tile_load(tile_zeros(shape), columns, kw * a.slot + at, row, None)
            g = tile_scale(tile_real_inverse(g), 1 / (n * n))
            tile_store_rows(g, a.dw, 0, to, min(max(a.L - column, 0), lanes_of(a.dw)))


@inlined
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


@inlined
def _convolve_depthwise(a, item, worker, shape):
    """Item: a vector of channels and some tiles. The spectrum of their kernels is ``u[vector, place, lane]``."""
    vector, group = item % a.vectors, item // a.vectors
    s = shift(a.scratch, worker * a.scratch_size)
    channel = vector * lanes_of(a.src)
    u = shift(a.u, vector * a.u_vector)
    for tile in range(group * a.group_tiles, min((group + 1) * a.group_tiles, a.tiles)):
        nothing = _nothing(a, s, shape)
        if channel + lanes_of(a.src) <= a.L:
            _read_columns(a, _source(a), tile, channel, s, nothing, shape, None)
            _multiply_rows(s, u, shape)
            _write_columns(a, tile, channel, s, shape, None)
        else:
            _read_columns(a, _source(a), tile, channel, s, nothing, shape, a.L - channel)
            _multiply_rows(s, u, shape)
            _write_columns(a, tile, channel, s, shape, a.L - channel)


@inlined
def _depthwise_gradients(a, item, worker, shape):
    """Item: a vector of channels and a split of the tiles; dw (KH, KW, pixel).

    Split s writes its sum to ``dw[s * part:]``, for :func:`sum_parts` to add in order.
    """
    n, lane_count = rows_of(shape), lanes_of(a.src)
    vector, split = item % a.vectors, item // a.vectors
    s = shift(a.scratch, worker * a.scratch_size)
    e = shift(s, n * _square_row(s, shape) + lane_count)
    sums = shift(e, n * _square_row(s, shape) + lane_count)
    for k in range(n):
        tile_store(tile_zeros(shape), sums, k * n * lane_count, lane_count, None)
    channel = vector * lane_count
    edge = min(a.pixel - channel, lane_count)
    dy = _Images(a.dy, a.TH, a.TW, 0, 0, a.reverse_h, a.reverse_w)
    for tile in range(split * a.split_tiles, min((split + 1) * a.split_tiles, a.tiles)):
        nothing = _nothing(a, s, shape)
        _read_columns(a, _source(a), tile, channel, s, nothing, shape, edge)
        _read_columns(a, dy, tile, channel, e, nothing + elements_between(a.dy, a.src), shape, edge)
        _add_row_products(s, e, sums, shape)
    _inverse_rows(sums, 0, lane_count, s, shape)
    to = local_table(LARGEST)
    nowhere = elements_between(a.dw, e)
    for j in range(n):
        kw = a.taps_w[j]
        if kw >= 0:
            for i in range(n):
                kh = a.taps_h[i]
                to[i] = split * a.part + (kh * a.KW + kw) * a.pixel + channel if kh >= 0 else nowhere
            g = tile_load(tile_zeros(shape), s, j * lane_count, _square_row(s, shape), None)
            tile_store_rows(tile_scale(tile_real_inverse(g), 1 / (n * n)), a.dw, 0, to, edge)


@inlined
def _add_row_products(s, e, sums, shape):
    """To the spectrum ``sums`` the product of the spectra whose transformed columns are s and e."""
    n, lane_count = rows_of(shape), lanes_of(s)
    row, place = _square_row(s, shape), n * lanes_of(s)
    for k in range(0, n, n // 2):
        x = tile_real_transform(tile_load(tile_zeros(shape), s, k * row, lane_count, None))
        y = tile_real_transform(tile_load(tile_zeros(shape), e, k * row, lane_count, None))
        total = tile_load(tile_zeros(shape), sums, k * place, lane_count, None)
        tile_store(tile_add(total, tile_half_complex_product(x, y)), sums, k * place, lane_count, None)
    for k in range(1, n // 2):
        re = tile_load(tile_zeros(shape), s, k * row, lane_count, None)
        im = tile_load(tile_zeros(shape), s, (n - k) * row, lane_count, None)
        re, im = tile_complex_transform(re, im)
        e_re = tile_load(tile_zeros(shape), e, k * row, lane_count, None)
        e_im = tile_load(tile_zeros(shape), e, (n - k) * row, lane_count, None)
        e_re, e_im = tile_complex_transform(e_re, e_im)
        re, im = tile_complex_product(re, im, e_re, e_im)
        re = tile_add(re, tile_load(tile_zeros(shape), sums, k * place, lane_count, None))
        im = tile_add(im, tile_load(tile_zeros(shape), sums, (n - k) * place, lane_count, None))
        tile_store(re, sums, k * place, lane_count, None)
        tile_store(im, sums, (n - k) * place, lane_count, None)


@kernel(**_WEIGHTS_FIELDS)
def fft_weights_16_kernel(a, item, worker):
    """:func:`_transform_weight_columns` with n = 16."""
    _transform_weight_columns(a, item, tile_shape(a.w, 16, 1))


@kernel(**_WEIGHTS_FIELDS)
def fft_weights_32_kernel(a, item, worker):
    """:func:`_transform_weight_columns` with n = 32."""
    _transform_weight_columns(a, item, tile_shape(a.w, 32, 1))


@kernel(**_TILES_FIELDS)
def fft_tiles_16_kernel(a, item, worker):
    """:func:`_transform_tile` with n = 16."""
    _transform_tile(a, item, worker, tile_shape(a.src, 16, 1))


@kernel(**_TILES_FIELDS)
def fft_tiles_32_kernel(a, item, worker):
    """:func:`_transform_tile` with n = 32."""
    _transform_tile(a, item, worker, tile_shape(a.src, 32, 1))


@kernel(**_PRODUCTS_FIELDS)
def fft_products_16_kernel(a, item, worker):
    """:func:`_multiply` with n = 16."""
    _multiply(a, item, worker, tile_shape(a.v, 16, 1))


@kernel(**_PRODUCTS_FIELDS)
def fft_products_32_kernel(a, item, worker):
    """:func:`_multiply` with n = 32."""
    _multiply(a, item, worker, tile_shape(a.v, 32, 1))


@kernel(**_RESULTS_FIELDS)
def fft_results_16_kernel(a, item, worker):
    """:func:`_write_tile` with n = 16."""
    _write_tile(a, item, worker, tile_shape(a.m, 16, 1))


@kernel(**_RESULTS_FIELDS)
def fft_results_32_kernel(a, item, worker):
    """:func:`_write_tile` with n = 32."""
    _write_tile(a, item, worker, tile_shape(a.m, 32, 1))


@kernel(**_SPECTRUM_FIELDS)
def fft_spectrum_16_kernel(a, item, worker):
    """:func:`_transform_spectrum` with n = 16."""
    _transform_spectrum(a, item, worker, tile_shape(a.src, 16, 1))


@kernel(**_SPECTRUM_FIELDS)
def fft_spectrum_32_kernel(a, item, worker):
    """:func:`_transform_spectrum` with n = 32."""
    _transform_spectrum(a, item, worker, tile_shape(a.src, 32, 1))


@kernel(**_SPECTRUM_FIELDS)
def fft_spectrum_64_kernel(a, item, worker):
    """:func:`_transform_spectrum` with n = 64."""
    _transform_spectrum(a, item, worker, tile_shape(a.src, 64, 1))


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


@kernel(**_GRADIENT_PRODUCTS_FIELDS)
def fft_gradient_products_16_kernel(a, item, worker):
    """:func:`_multiply_gradients` with n = 16."""
    _multiply_gradients(a, item, worker, tile_shape(a.v, 16, 1))


@kernel(**_GRADIENT_PRODUCTS_FIELDS)
def fft_gradient_products_32_kernel(a, item, worker):
    """:func:`_multiply_gradients` with n = 32."""
    _multiply_gradients(a, item, worker, tile_shape(a.v, 32, 1))


@kernel(**_GRADIENTS_FIELDS)
def fft_gradients_16_kernel(a, item, worker):
    """:func:`_write_gradients` with n = 16."""
    _write_gradients(a, item, worker, tile_shape(a.dw, 16, 1))


@kernel(**_GRADIENTS_FIELDS)
def fft_gradients_32_kernel(a, item, worker):
    """:func:`_write_gradients` with n = 32."""
    _write_gradients(a, item, worker, tile_shape(a.dw, 32, 1))


@kernel(**_DEPTHWISE_GRADIENT_FIELDS)
def fft_depthwise_gradients_16_kernel(a, item, worker):
    """:func:`_depthwise_gradients` with n = 16."""
    _depthwise_gradients(a, item, worker, tile_shape(a.src, 16, 1))


@kernel(**_DEPTHWISE_GRADIENT_FIELDS)
def fft_depthwise_gradients_32_kernel(a, item, worker):
    """:func:`_depthwise_gradients` with n = 32."""
    _depthwise_gradients(a, item, worker, tile_shape(a.src, 32, 1))


@kernel(**_DEPTHWISE_GRADIENT_FIELDS)
def fft_depthwise_gradients_64_kernel(a, item, worker):
    """:func:`_depthwise_gradients` with n = 64."""
    _depthwise_gradients(a, item, worker, tile_shape(a.src, 64, 1))


#: The kernels for each n.
_WEIGHTS = {16: fft_weights_16_kernel, 32: fft_weights_32_kernel}
_TILES = {16: fft_tiles_16_kernel, 32: fft_tiles_32_kernel}
_PRODUCTS = {16: fft_products_16_kernel, 32: fft_products_32_kernel}
_RESULTS_OF = {16: fft_results_16_kernel, 32: fft_results_32_kernel}
_GRADIENT_PRODUCTS = {16: fft_gradient_products_16_kernel, 32: fft_gradient_products_32_kernel}
_GRADIENTS = {16: fft_gradients_16_kernel, 32: fft_gradients_32_kernel}
_SPECTRUM = {16: fft_spectrum_16_kernel, 32: fft_spectrum_32_kernel, 64: fft_spectrum_64_kernel}
_DEPTHWISE_GRADIENTS = {
    16: fft_depthwise_gradients_16_kernel,
    32: fft_depthwise_gradients_32_kernel,
    64: fft_depthwise_gradients_64_kernel,
}
_DEPTHWISE = {16: fft_depthwise_16_kernel, 32: fft_depthwise_32_kernel, 64: fft_depthwise_64_kernel}

#: Bytes of spectra of one block of tiles and of its products.
_BLOCK_BYTES = 8 * 1024 * 1024
#: Pieces of work at least, for the threads to share.
_PIECES = 8


#: The sides n of a tile.
_DENSE_SIDES, _DEPTHWISE_SIDES = (16, 32), (16, 32, 64)

#: Times in the unit of ``cost.py``, measured on AVX-512: for a place of a vector of weights and of a vector of channels
#: of a tile in a dense layer, and for a vector of a tile of a depthwise layer by its side, in the forward and in the
#: weight gradient. Those of the weights are times of memory: a column's spectrum is n numbers for its r, and with few
#: tiles to use them on (256 channels of 14 x 14) they take most of the time.
_WEIGHT_CYCLES, _PLACE_CYCLES = {16: 45, 32: 60}, 40
#: What a call costs beside its tiles.
_CALL = 100_000
_DEPTHWISE_CYCLES = {16: 10_000, 32: 75_000, 64: 620_000}
_DEPTHWISE_GRADIENT_CYCLES = {16: 20_000, 32: 150_000, 64: 700_000}


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
        self.n = n
        self.top, self.left = befores
        self.step_h, self.step_w = (
            target if n >= max(target, size + before, target + extent - 1 - before) else n - extent + 1
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

    def gradient(self, channels: int) -> dict[str, Any]:
        """The fields of a kernel that reads the same tiles of results: each its own results, in reverse modulo n.

        Then dw, a correlation of both tiles, is a product of the spectra.
        """
        elements = -np.arange(self.n) % self.n
        return self.source(channels) | {
            "SH": self.TH, "SW": self.TW, "top": 0, "left": 0,
            "elements_h": np.where(elements < self.step_h, elements, NOTHING),
            "elements_w": np.where(elements < self.step_w, elements, NOTHING),
        }  # fmt: skip

    def results(self, p: ConvProblem, forward: bool, L: int) -> dict[str, Any]:
        """The fields of a kernel that writes results."""
        return {
            "TH": self.TH, "TW": self.TW, "L": L, "step_h": self.step_h, "step_w": self.step_w,
            "tiles_h": self.tiles_h, "tiles_w": self.tiles_w,
            **epilogue_fields(p, forward),
        }  # fmt: skip


def _extents(p: ConvProblem) -> list[int]:
    """Height and width of the dilated kernel."""
    return [effective_kernel(taps, dilation) for taps, dilation in zip(p.kernel[1:], p.dilation[1:])]


def _taps_of(n: int, taps: int, dilation: int) -> np.ndarray:
    """Which tap is each element of a tile, along one axis; NOTHING where none is.

    The tap at distance d from the first is element -d modulo n: so the spectrum is the conjugate one, and a product
    with it is a correlation.
    """
    found = np.full(n, NOTHING)
    found[-dilation * np.arange(taps) % n] = np.arange(taps)
    return found


def _gradient_taps_of(n: int, taps: int, dilation: int) -> np.ndarray:
    """The same of a tile of the weight gradient: the tap at distance d from the first is element d."""
    return _taps_of(n, taps, dilation)[-np.arange(n) % n]


def _block_tiles(p: ConvProblem, tiling: _Tiling, each: int) -> int:
    """How many tiles are transformed before their products are taken; ``each``: elements of a place of a tile."""
    wanted = _BLOCK_BYTES // max(tiling.n * tiling.n * each * item_bytes(p.dtype), 1)
    blocks = max(round(tiling.tiles / max(wanted, ROWS)), 1)
    return max(-(-tiling.tiles // blocks), 1)


def _square(n: int, lane_count: int) -> int:
    """Elements of the square in which a tile is transformed, and a vector behind it."""
    return (n * (n + 1) + 1) * lane_count


class _DenseFft:
    """The core of forward and input gradient of a dense layer."""

    def __init__(self, p: ConvProblem, forward: bool, scratch: Scratch):
        R, L = (p.C, p.K) if forward else (p.K, p.C)
        n = dense_side(p, forward)
        tiling = _Tiling(p, forward, n)
        lane_count = lanes(p.dtype)
        vectors, places = -(-L // lane_count), n * n
        line = 64 // item_bytes(p.dtype)
        width = VECTORS * lane_count
        blocks = -(-L // width)
        depth, m_row = -(-R // lane_count) * lane_count, blocks * width
        self._tiles = tiling.tiles
        self._block_tiles = block_tiles = _block_tiles(p, tiling, depth + m_row)
        rows = block_tiles + ROWS  # the last tile of rows hangs over
        # One more cache line between places than they take: distances of a power of two would share cache sets.
        v_point, m_point, u_point = rows * depth + line, rows * m_row + line, R * width + line
        KW = p.kernel[2]
        taps = _taps_of(n, KW, p.dilation[2])
        square = _square(n, lane_count)
        self._v_at, self._m_at = scratch.reserve(places * v_point), scratch.reserve(places * m_point)
        self._columns_at = scratch.reserve(blocks * n * (KW + 1) * u_point)
        self._scratch_at = scratch.reserve(most_threads() * max(square, 2 * n * u_point))
        self._transform_weights = Task(
            _WEIGHTS[n], p.dtype, R * blocks, "w w_columns",
            R=R, L=L, KW=KW, slot=u_point, elements_h=_taps_of(n, p.kernel[1], p.dilation[1]),
        )  # fmt: skip
        chunks = min(-(-_PIECES // block_tiles), depth // lane_count)
        chunk = -(-(depth // lane_count) // max(chunks, 1)) * lane_count
        chunks = -(-depth // max(chunk, 1))
        self._transform_tiles = Task(
            _TILES[n], p.dtype, block_tiles * chunks, "src v scratch first",
            R=R, tiles=tiling.tiles, chunks=chunks, chunk=chunk, depth=depth, v_point=v_point, scratch_size=square,
            **tiling.source(R),
        )  # fmt: skip
        self._multiply = Task(
            _PRODUCTS[n], p.dtype, n // 2 * blocks, "v w_columns m scratch first",
            slots=np.where(taps == NOTHING, KW, taps) * u_point, v_rows=np.arange(max(ROWS, FEW)) * depth,
            KW=KW, R=R, tiles=tiling.tiles, block_tiles=block_tiles, depth=depth, m_row=m_row,
            slot=u_point, v_point=v_point, u_point=u_point, m_point=m_point, scratch_size=2 * n * u_point,
        )  # fmt: skip
        self._write = Task(
            _RESULTS_OF[n], p.dtype, block_tiles * vectors, f"m dst scratch first {EPILOGUE_ARRAYS}",
            tiles=tiling.tiles, vectors=vectors, m_row=m_row, m_point=m_point, scratch_size=square,
            **tiling.results(p, forward, L),
        )  # fmt: skip

    def run(self, base: int, src: int, w: int, epilogue: Epilogue, dst: int) -> None:
        columns, v, m, scratch = (base + at for at in (self._columns_at, self._v_at, self._m_at, self._scratch_at))
        self._transform_weights.run(w, columns)
        for first in range(0, self._tiles, self._block_tiles):
            self._transform_tiles.run(src, v, scratch, first)
            self._multiply.run(v, columns, m, scratch, first)
            self._write.run(m, dst, scratch, first, *epilogue)


class _DenseGradientFft:
    """The core of the weight gradient of a dense layer."""

    def __init__(self, p: ConvProblem, scratch: Scratch):
        R, L, KW, n = p.C, p.K, p.kernel[2], dense_side(p, True)
        tiling = _Tiling(p, True, n)
        lane_count, places, line = lanes(p.dtype), n * n, 64 // item_bytes(p.dtype)
        width = VECTORS * lane_count
        blocks = -(-L // width)
        depth, e_row = -(-R // lane_count) * lane_count, blocks * width
        self._tiles, self._block_tiles = tiling.tiles, _block_tiles(p, tiling, depth + e_row)
        v_point, e_point = self._block_tiles * depth + ROWS + line, self._block_tiles * e_row + line
        slot, square = R * width + line, _square(n, lane_count)
        m_point = (R + ROWS) * width + line  # the last tile of rows hangs over
        self._v_at, self._e_at = scratch.reserve(places * v_point), scratch.reserve(places * e_point)
        self._columns_at = scratch.reserve(blocks * n * (KW + 1) * slot)
        self._scratch_at = scratch.reserve(most_threads() * max(square, 2 * n * m_point))
        self._transform_x = Task(
            _TILES[n], p.dtype, self._block_tiles, "src v scratch first",
            R=R, tiles=tiling.tiles, chunks=1, chunk=depth, depth=depth, v_point=v_point, scratch_size=square,
            **tiling.source(R),
        )  # fmt: skip
        self._transform_dy = Task(
            _TILES[n], p.dtype, self._block_tiles, "src v scratch first",
            R=L, tiles=tiling.tiles, chunks=1, chunk=e_row, depth=e_row, v_point=e_point, scratch_size=square,
            **tiling.gradient(L),
        )  # fmt: skip
        taps = [_gradient_taps_of(n, k, d) for k, d in zip(p.kernel[1:], p.dilation[1:])]
        self._multiply = Task(
            _GRADIENT_PRODUCTS[n], p.dtype, n // 2 * blocks, "v e dw_columns scratch first",
            slots=np.where(taps[1] == NOTHING, KW, taps[1]) * slot, KW=KW, R=R, tiles=tiling.tiles,
            block_tiles=self._block_tiles, depth=depth, e_row=e_row, slot=slot,
            v_point=v_point, e_point=e_point, m_point=m_point, scratch_size=2 * n * m_point,
        )  # fmt: skip
        self._write = Task(
            _GRADIENTS[n], p.dtype, R * blocks, "dw_columns dw scratch",
            elements_h=taps[0], KW=KW, R=R, L=L, slot=slot,
        )  # fmt: skip

    def run(self, base: int, x: int, dy: int, dw: int) -> None:
        v, e, columns, scratch = (base + at for at in (self._v_at, self._e_at, self._columns_at, self._scratch_at))
        for first in range(0, max(self._tiles, 1), self._block_tiles):  # without tiles, a sum of zero
            self._transform_x.run(x, v, scratch, first)
            self._transform_dy.run(dy, e, scratch, first)
            self._multiply.run(v, e, columns, scratch, first)
        self._write.run(columns, dw, scratch)


class _DepthwiseFft:
    """The core of forward and input gradient of a depthwise layer."""

    def __init__(self, p: ConvProblem, forward: bool, scratch: Scratch):
        n = depthwise_side(p, forward, _DEPTHWISE_CYCLES)
        tiling = _Tiling(p, forward, n)
        lane_count = lanes(p.dtype)
        vectors = -(-p.C // lane_count)
        square, u_vector = _square(n, lane_count), n * n * lane_count
        self._u_at, self._scratch_at = scratch.reserve(vectors * u_vector), scratch.reserve(most_threads() * square)
        self._transform_weights = Task(
            _SPECTRUM[n], p.dtype, vectors, "src u scratch",
            SH=p.kernel[1], SW=p.kernel[2], pixel=p.C, step_h=1, step_w=1, tiles_h=1, tiles_w=1,
            elements_h=_taps_of(n, p.kernel[1], p.dilation[1]), elements_w=_taps_of(n, p.kernel[2], p.dilation[2]),
            L=p.C, u_vector=u_vector, scratch_size=square,
        )  # fmt: skip
        groups = max(min(tiling.tiles, -(-_PIECES // vectors)), 1)
        group_tiles = -(-tiling.tiles // groups)
        groups = -(-tiling.tiles // max(group_tiles, 1))
        self._convolve = Task(
            _DEPTHWISE[n], p.dtype, vectors * groups, f"src u dst scratch {EPILOGUE_ARRAYS}",
            tiles=tiling.tiles, group_tiles=group_tiles, vectors=vectors, u_vector=u_vector, scratch_size=square,
            **tiling.source(p.C) | tiling.results(p, forward, p.C),
        )  # fmt: skip

    def run(self, base: int, src: int, w: int, epilogue: Epilogue, dst: int) -> None:
        self._transform_weights.run(w, base + self._u_at, base + self._scratch_at)
        self._convolve.run(src, base + self._u_at, dst, base + self._scratch_at, *epilogue)


class _DepthwiseGradientFft:
    """The core of the weight gradient of a depthwise layer."""

    def __init__(self, p: ConvProblem, scratch: Scratch):
        n = depthwise_side(p, True, _DEPTHWISE_GRADIENT_CYCLES)
        tiling = _Tiling(p, True, n)
        lane_count, size = lanes(p.dtype), math.prod(p.w_shape)
        vectors = -(-p.C // lane_count)
        split_tiles, splits = split(tiling.tiles, 1, -(-_PIECES // vectors))
        each = 2 * _square(n, lane_count) + n * n * lane_count
        self._scratch_at = scratch.reserve(most_threads() * each)
        gradient = tiling.gradient(p.C)
        taps = [_gradient_taps_of(n, k, d) for k, d in zip(p.kernel[1:], p.dilation[1:])]
        self._sum = Task(
            _DEPTHWISE_GRADIENTS[n], p.dtype, splits * vectors, "src dy dw scratch",
            TH=tiling.TH, TW=tiling.TW, reverse_h=gradient["elements_h"], reverse_w=gradient["elements_w"],
            taps_h=taps[0], taps_w=taps[1], KW=p.kernel[2], tiles=tiling.tiles, split_tiles=split_tiles,
            part=size, vectors=vectors, scratch_size=each, **tiling.source(p.C),
        )  # fmt: skip
        self._parts = Parts(splits, size, scratch)

    def run(self, base: int, x: int, dy: int, dw: int) -> None:
        self._sum.run(x, dy, self._parts.place(base, dw), base + self._scratch_at)
        self._parts.add(base, dw)


def _gradient_core(p: ConvProblem, scratch: Scratch) -> GradientCore:
    return _DepthwiseGradientFft(p, scratch) if p.G > 1 else _DenseGradientFft(p, scratch)


def _core(p: ConvProblem, forward: bool, scratch: Scratch) -> Core:
    return _DepthwiseFft(p, forward, scratch) if p.G > 1 else _DenseFft(p, forward, scratch)


class FftForward(Forward):
    """``y = activation(x * w + b)``."""

    make_core = staticmethod(_core)


class FftWeightGradient(WeightGradient):
    """``dw`` from ``x`` and ``dy``."""

    make_core = staticmethod(_gradient_core)


class FftInputGradient(InputGradient):
    """``dx`` from ``dy`` and ``w``."""

    make_core = staticmethod(_core)


def _dense_cycles(p: ConvProblem, forward: bool, n: int) -> float:
    """About the cycles of a dense layer in tiles of side n. The weight gradient takes as many as the forward."""
    R, L = (p.C, p.K) if forward else (p.K, p.C)
    tiling = _Tiling(p, forward, n)
    lane_count, places = lanes(p.dtype), n * n
    depth, blocks = -(-R // lane_count), -(-L // (lane_count * VECTORS))
    block_tiles = _block_tiles(p, tiling, (depth + blocks * VECTORS) * lane_count)
    products = 2 * places * -(-tiling.tiles // FEW) * FEW * R * blocks * VECTORS
    weights = _WEIGHT_CYCLES[n] * places * R * blocks * VECTORS * -(-tiling.tiles // block_tiles)
    return products + weights + _PLACE_CYCLES * places * tiling.tiles * (depth + blocks * VECTORS)


def _depthwise_cycles(p: ConvProblem, forward: bool, n: int, tile_cycles: dict[int, int]) -> float:
    """About the cycles of a depthwise layer; the transform of the kernels is half that of a tile."""
    vectors = -(-p.C // lanes(p.dtype))
    return tile_cycles[n] * vectors * (_Tiling(p, forward, n).tiles + 0.5)


def dense_side(p: ConvProblem, forward: bool) -> int:
    """The side n of the tiles that take the fewest cycles."""
    return min(_possible(p, _DENSE_SIDES), key=lambda n: _dense_cycles(p, forward, n))


def depthwise_side(p: ConvProblem, forward: bool, tile_cycles: dict[int, int]) -> int:
    """The side n of the tiles that take the fewest cycles."""
    return min(_possible(p, _DEPTHWISE_SIDES), key=lambda n: _depthwise_cycles(p, forward, n, tile_cycles))


def _possible(p: ConvProblem, sides: tuple[int, ...]) -> list[int]:
    """The sides of which a tile has results."""
    return [n for n in sides if n >= max(_extents(p))]


def fft_supports(p: ConvProblem) -> str | None:
    """None for a problem that transforms of tiles can do, otherwise the reason why not."""
    if p.kernel[0] > 1 or p.size[0] > 1 or any(p.padding[0]):
        return f"images without depth; received the depth {p.size[0]} and a kernel of depth {p.kernel[0]}"
    if p.stride != (1, 1, 1):
        return f"stride 1; received {p.stride[3 - p.rank :]}"
    if p.G > 1 and not p.G == p.C == p.K:
        return f"one group, or one for each input and output channel; received {p.C} and {p.K} channels in {p.G}"
    most = max(_DEPTHWISE_SIDES if p.G > 1 else _DENSE_SIDES)
    if max(_extents(p)) > most:
        return f"kernels of at most {most} elements along an axis; received {' x '.join(map(str, _extents(p)))}"
    return needs_zeros(p)


def fft_suits(p: ConvProblem) -> str | None:
    """None for a problem that this may do faster than all others: its expected time decides."""
    if p.G == 1 and min(p.C, p.K) < lanes(p.dtype):
        return f"at least {lanes(p.dtype)} channels on either side; received {p.C} and {p.K}"
    if p.G == 1 and p.kernel == (1, 3, 3) and p.dilation == (1, 1, 1):
        return "another kernel than 3 x 3, for which winograd multiplies less"
    return None


def fft_cost_forward(p: ConvProblem) -> float:
    """The expected time of the forward; see ``cost.py`` for the unit."""
    return _cost(p, True, _DEPTHWISE_CYCLES) + layout_cost(p)


def fft_cost_input_gradient(p: ConvProblem) -> float:
    """The expected time of the input gradient."""
    return _cost(p, False, _DEPTHWISE_CYCLES) + layout_cost(p, turns_weights=True)


def fft_cost_weight_gradient(p: ConvProblem) -> float:
    """The expected time of the weight gradient; that of a dense layer takes as long as its forward."""
    return _cost(p, True, _DEPTHWISE_GRADIENT_CYCLES) + layout_cost(p)


def _cost(p: ConvProblem, forward: bool, depthwise_cycles: dict[int, int]) -> float:
    if p.G > 1:
        return _CALL + _depthwise_cycles(p, forward, depthwise_side(p, forward, depthwise_cycles), depthwise_cycles)
    return _CALL + _dense_cycles(p, forward, dense_side(p, forward))
