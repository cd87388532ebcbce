"""Batch normalisation: each channel gets the mean 0 and the deviation 1 over its elements, then a scale and a shift.

Arrays are ``pixels`` x ``C`` x ``inner``: channels last has inner = 1 and the channels in the lanes of the vectors,
channels first has the pixels of an image inside, a row of one channel after the other. Memory is what takes the time:
training reads x twice (for the statistics, and to normalise it), its gradient x and dy twice each.

The statistics of a part of the array are found in two passes while it is in the cache, the mean and then the squares of
the deviations from it, and parts are merged by the formula of Chan, Golub and LeVeque ("Updating formulae and a
pairwise algorithm for computing sample variances", 1979). The difference of the mean square and the squared mean would
lose all digits of a channel whose mean is much larger than its deviation. Parts depend on the problem alone, so results
have the same bits for every number of threads.

Source: Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate
Shift" (2015).
"""

from __future__ import annotations

import math

from numba.extending import overload

from pycnn_kernels.cpu.elementwise import sum_parts
from pycnn_kernels.cpu.epilogue import multiply_add
from pycnn_kernels.cpu.host import item_bytes, lanes
from pycnn_kernels.cpu.inlined import INLINED_OPTIONS, inlined
from pycnn_kernels.cpu.launch import SMALL_WORK, Kernel, Task, kernel
from pycnn_kernels.cpu.named import named
from pycnn_kernels.cpu.tile import (
    ELEMENTS_AHEAD,
    is_there,
    lanes_of,
    local_sums,
    rows_of,
    scalar,
    shift,
    tile_add,
    tile_add_product,
    tile_load,
    tile_multiply,
    tile_prefetch,
    tile_relu,
    tile_shape,
    tile_store,
    tile_subtract,
    tile_sum_rows,
    tile_where_positive,
    tile_zeros,
)
from pycnn_kernels.cpu.workspace import aligned_bytes, workspace
from pycnn_kernels.problem import ChannelsProblem

#: Pixels that are taken together, so that what belongs to their channels is loaded once for all of them.
PIXELS = 8

#: Vectors of channels that are taken together.
VECTORS = 4

#: Channels of a piece of work of the kernels that merge parts.
CHANNELS = 64

#: Bytes of x in a part, so that it stays in the first-level cache between two passes. But parts of many channels have
#: this many pixels, and stay in the second-level cache: the sums of each part are written and merged, and for 8 pixels
#: of 1024 channels they were a third of the traffic.
_PART_BYTES, _LEAST_PIXELS = 1 << 15, 96

#: Pieces of work at least, where there are as many pixels: enough for all threads; and parts in one at most.
_PIECES, _MOST_PARTS = 16, 8

#: Elements of a row that are added up in the kernel's dtype, before the sums of such stretches are added in float64.
_STRETCH = 4096

#: How the elements are divided: see :class:`_Parts`.
_PART_FIELDS = {
    "pixels": "int", "C": "int", "inner": "int", "chunk": "int", "group": "int", "parts": "int", "fold": "int"
}  # fmt: skip

#: Channels last: pixels that are taken as one, where one has too few channels to fill vectors; and channels of it.
_MOST_FOLDED, _MOST_WIDE = 64, 256


@inlined
def _over_elements(a, item, work):
    """Do a work of :data:`_WORKS` with all rows, or all parts, of a piece."""
    if a.inner > 1:
        for row in range(item * a.chunk, min((item + 1) * a.chunk, a.pixels * a.C)):
            _do_row(work, a, row, row * a.inner, row % a.C)
    else:
        for part in range(item * a.group, min((item + 1) * a.group, a.parts)):
            _do_part(work, a, part)


def _do_row(work, a, row, at, c):
    """Channels first: the work with a row, one channel c of an image, whose first element lies ``at``."""


def _do_part(work, a, part):
    """Channels last: the work with a part."""


@overload(_do_row, jit_options=INLINED_OPTIONS)
def _compiled_row(work, a, row, at, c):
    return _WORKS[work.text][0]


@overload(_do_part, jit_options=INLINED_OPTIONS)
def _compiled_part(work, a, part):
    return _WORKS[work.text][1]


@inlined
def _over_pixels(a, part, step):
    """Channels last: do a step of :data:`_STEPS` with each tile of a part: some pixels by some channels.

    A tile has one pixel and several vectors of channels, or several pixels and one vector, so that sums need not wait
    for each other.
    """
    first = part * a.chunk
    last = min(first + a.chunk, a.pixels)
    for pixel in range(first, last, PIXELS):
        count, c = min(PIXELS, last - pixel), 0
        while a.C - c >= VECTORS * lanes_of(a.x):
            _do(step, a, part, pixel, count, c, tile_shape(a.x, 1, VECTORS), None)
            c += VECTORS * lanes_of(a.x)
        while a.C - c >= lanes_of(a.x):
            if count == PIXELS:
                _do(step, a, part, pixel, count, c, tile_shape(a.x, VECTORS, 1), None)
            else:
                _do(step, a, part, pixel, count, c, tile_shape(a.x, 1, 1), None)
            c += lanes_of(a.x)
        if c < a.C:
            _do(step, a, part, pixel, count, c, tile_shape(a.x, 1, 1), a.C - c)


def _do(step, a, part, pixel, count, c, shape, edge):
    """A step with ``count`` pixels from ``pixel`` on and a tile's channels from c on; ``edge`` cuts the tile off."""


@overload(_do, jit_options=INLINED_OPTIONS)
def _compiled_step(step, a, part, pixel, count, c, shape, edge):
    return _STEPS[step.text]


@kernel(x="array", means="array", rests="array", squares="array", **_PART_FIELDS)
def moments_kernel(a, item, worker):
    """About the mean of each channel of a part, and the sums of the deviations from it and of their squares.

    Channels last: ``means[part, c]``, ``rests[part, c]``, ``squares[part, c]``; channels first: those of row r, one
    channel of one image, are ``means[r]``, ``rests[r]`` and ``squares[r]``. The deviations' sum is what rounding has
    left out of the mean: with a mean of a million deviations it is not small beside them.
    """
    _over_elements(a, item, named("moments"))


def _moments_of_row(work, a, row, at, c):
    x, total = shift(a.x, at), 0.0
    for begin in range(0, a.inner, _STRETCH):
        part = scalar(a.x, 0.0)
        for i in range(begin, min(begin + _STRETCH, a.inner)):
            part += x[i]
        total += part
    mean, rest, squares = scalar(a.x, total / a.inner), 0.0, 0.0
    for begin in range(0, a.inner, _STRETCH):
        part, part_squares = scalar(a.x, 0.0), scalar(a.x, 0.0)
        for i in range(begin, min(begin + _STRETCH, a.inner)):
            part += x[i] - mean
            part_squares += (x[i] - mean) * (x[i] - mean)
        rest += part
        squares += part_squares
    a.means[row], a.rests[row], a.squares[row] = mean, rest, squares


def _moments_of_part(work, a, part):
    means, rests, squares = shift(a.means, part * a.C), shift(a.rests, part * a.C), shift(a.squares, part * a.C)
    for c in range(a.C):
        means[c] = 0
        rests[c] = 0
        squares[c] = 0
    _over_pixels(a, part, named("add_elements"))
    count = scalar(a.x, 1.0 * _elements_of(a, part))
    for c in range(a.C):
        means[c] /= count
    _over_pixels(a, part, named("add_squares"))


def _add_elements(step, a, part, pixel, count, c, shape, edge):
    total = tile_zeros(shape)
    for p in range(pixel, pixel + count, rows_of(shape)):
        total = tile_add(total, tile_load(total, a.x, p * a.C + c, a.C, edge))
    _add_to(a.means, part * a.C + c, total, edge)


@inlined
def _add_to(sums, at, tile, edge):
    """Add the pixels of a tile to the sums of their channels."""
    total = tile_sum_rows(tile)
    tile_store(tile_add(tile_load(total, sums, at, 0, edge), total), sums, at, 0, edge)


def _add_squares(step, a, part, pixel, count, c, shape, edge):
    rest = total = tile_zeros(shape)
    mean = tile_load(total, a.means, part * a.C + c, 0, edge)
    for p in range(pixel, pixel + count, rows_of(shape)):
        deviation = tile_subtract(tile_load(mean, a.x, p * a.C + c, a.C, edge), mean)
        rest, total = tile_add(rest, deviation), tile_add_product(total, deviation, deviation)
        tile_prefetch(shape, a.x, (p + a.chunk) * a.C + c, a.C)  # the next part comes from memory meanwhile
    _add_to(a.rests, part * a.C + c, rest, edge)
    _add_to(a.squares, part * a.C + c, total, edge)


@kernel(
    means="array", rests="array", squares="array", weight="array", running_mean="array", running_var="array",
    mean="array", rstd="array", scale="array", correction="int", momentum="float", epsilon="float", **_PART_FIELDS,
)  # fmt: skip
def merge_moments_kernel(a, item, worker):
    """For each channel of a block its mean, ``rstd = 1 / sqrt(variance + epsilon)`` and ``scale = weight * rstd``.

    ``running_mean`` and ``running_var``, if there are any, move towards mean and variance by ``momentum`` of the way.
    The sum of squares is divided by the count less ``correction`` for that variance: 1 makes it unbiased.
    """
    _merge_moments(a, item)


@inlined
def _merge_moments(a, item):
    first, count = item * CHANNELS, max(a.pixels * a.inner, 1)
    channels, means, squares = min(CHANNELS, a.C - first), local_sums(CHANNELS), local_sums(CHANNELS)
    for p in range(a.parts):
        part, rests = shift(a.means, p * a.C + first), shift(a.rests, p * a.C + first)
        share = _elements_of(a, p) / count
        for c in range(channels):
            means[c] += share * part[c] + rests[c] / count
    for p in range(a.parts):
        part, rests = shift(a.means, p * a.C + first), shift(a.rests, p * a.C + first)
        part_squares, elements = shift(a.squares, p * a.C + first), _elements_of(a, p)
        for c in range(channels):
            apart = part[c] - means[c]  # of what the deviations are counted from
            squares[c] += part_squares[c] + apart * (2 * rests[c] + elements * apart)
    for c in range(channels):
        k = first + c
        rstd = 1 / math.sqrt(squares[c] / count + a.epsilon)
        a.mean[k], a.rstd[k] = means[c], rstd
        a.scale[k] = rstd * (a.weight[k] if is_there(a.weight) else 1.0)
        if is_there(a.running_mean):
            a.running_mean[k] += a.momentum * (means[c] - a.running_mean[k])
            a.running_var[k] += a.momentum * (squares[c] / max(count - a.correction, 1) - a.running_var[k])


@inlined
def _elements_of(a, part):
    """Elements of a channel in a part; of folded pixels, each place in them counts as a part of its own."""
    return a.inner if a.inner > 1 else min(a.chunk, a.pixels // a.fold - part // a.fold * a.chunk)


@kernel(running_var="array", weight="array", scale="array", epsilon="float", C="int")
def running_scale_kernel(a, item, worker):
    """``scale = weight / sqrt(running_var + epsilon)`` of each channel of a block."""
    for c in range(item * CHANNELS, min((item + 1) * CHANNELS, a.C)):
        a.scale[c] = (a.weight[c] if is_there(a.weight) else 1.0) / math.sqrt(a.running_var[c] + a.epsilon)


@kernel(
    running_mean="array", running_var="array", weight="array", bias="array", before="array", scale="array",
    offset="array", C="int", epsilon="float",
)  # fmt: skip
def running_fold_kernel(a, item, worker):
    """``scale`` as above, and ``offset = (before - running_mean) * scale + bias``, of each channel of a block."""
    for c in range(item * CHANNELS, min((item + 1) * CHANNELS, a.C)):
        scale = (a.weight[c] if is_there(a.weight) else 1.0) / math.sqrt(a.running_var[c] + a.epsilon)
        deviation = (a.before[c] if is_there(a.before) else 0.0) - a.running_mean[c]
        a.scale[c] = scale
        a.offset[c] = deviation * scale + (a.bias[c] if is_there(a.bias) else 0.0)


@kernel(x="array", mean="array", scale="array", bias="array", y="array", relu="int", **_PART_FIELDS)
def normalise_kernel(a, item, worker):
    """``y = (x - mean) * scale + bias`` for each channel of a part; then ReLU."""
    _over_elements(a, item, named("normalise"))


def _normalise_row(work, a, row, at, c):
    x, y, mean, scale = shift(a.x, at), shift(a.y, at), a.mean[c], a.scale[c]
    bias = a.bias[c] if is_there(a.bias) else scalar(a.x, 0.0)
    if a.relu:
        for i in range(a.inner):
            found = multiply_add(x[i] - mean, scale, bias)
            y[i] = scalar(a.x, 0.0) if found < 0 else found
    else:
        for i in range(a.inner):
            y[i] = multiply_add(x[i] - mean, scale, bias)


def _normalise_part(work, a, part):
    _over_pixels(a, part, named("normalise"))


@inlined
def normalised(x, mean, scale, bias):
    """``(x - mean) * scale + bias`` of tiles, the product and the sum rounded together: the bits of both layouts."""
    return tile_add_product(bias, tile_subtract(x, mean), scale)


def _normalise(step, a, part, pixel, count, c, shape, edge):
    mean = tile_load(tile_zeros(shape), a.mean, c, 0, edge)
    scale = tile_load(mean, a.scale, c, 0, edge)
    bias = tile_load(mean, a.bias, c, 0, edge) if is_there(a.bias) else tile_zeros(shape)
    for p in range(pixel, pixel + count, rows_of(shape)):
        tile_prefetch(shape, a.x, p * a.C + c + ELEMENTS_AHEAD, a.C)
        y = normalised(tile_load(mean, a.x, p * a.C + c, a.C, edge), mean, scale, bias)
        tile_store(tile_relu(y) if a.relu else y, a.y, p * a.C + c, a.C, edge)


@kernel(
    x="array", means="array", rests="array", squares="array", weight="array", bias="array", running_mean="array",
    running_var="array", mean="array", rstd="array", scale="array", y="array", relu="int", correction="int",
    momentum="float", epsilon="float", pieces="int", **_PART_FIELDS,
)  # fmt: skip
def small_batch_norm_kernel(a, item, worker):
    """The three kernels above behind one another, for arrays that take less time than a launch."""
    for piece in range(a.pieces):
        _over_elements(a, piece, named("moments"))
    for block in range(-(-a.C // CHANNELS)):
        _merge_moments(a, block)
    for piece in range(a.pieces):
        _over_elements(a, piece, named("normalise"))


@kernel(x="array", dy="array", y="array", mean="array", sums="array", products="array", **_PART_FIELDS)
def gradient_sums_kernel(a, item, worker):
    """The sums of dz and of ``dz * (x - mean)`` of each channel of a part, placed as by :func:`moments_kernel`.

    dz is dy, or where there is a y, which is behind a ReLU, dy where y is positive and 0 elsewhere.
    """
    _over_elements(a, item, named("gradient_sums"))


def _gradient_sums_of_row(work, a, row, at, c):
    x, dy, y = shift(a.x, at), shift(a.dy, at), shift(a.y, at)
    mean, total, products, masked = a.mean[c], 0.0, 0.0, is_there(a.y)
    for begin in range(0, a.inner, _STRETCH):
        part, part_products = scalar(a.x, 0.0), scalar(a.x, 0.0)
        if masked:
            for i in range(begin, min(begin + _STRETCH, a.inner)):
                dz = scalar(a.x, 0.0) if y[i] <= 0 else dy[i]
                part += dz
                part_products += dz * (x[i] - mean)
        else:
            for i in range(begin, min(begin + _STRETCH, a.inner)):
                part += dy[i]
                part_products += dy[i] * (x[i] - mean)
        total += part
        products += part_products
    a.sums[row], a.products[row] = total, products


def _gradient_sums_of_part(work, a, part):
    for c in range(part * a.C, (part + 1) * a.C):
        a.sums[c] = 0
        a.products[c] = 0
    _over_pixels(a, part, named("add_gradients"))


@inlined
def _masked(a, at, shape, edge):
    """dz; see :func:`gradient_sums_kernel`."""
    tile_prefetch(shape, a.dy, at + ELEMENTS_AHEAD, a.C)
    dy = tile_load(tile_zeros(shape), a.dy, at, a.C, edge)
    if is_there(a.y):
        tile_prefetch(shape, a.y, at + ELEMENTS_AHEAD, a.C)
        dy = tile_where_positive(dy, tile_load(dy, a.y, at, a.C, edge))
    return dy


def _add_gradients(step, a, part, pixel, count, c, shape, edge):
    total = products = tile_zeros(shape)
    mean = tile_load(total, a.mean, c, 0, edge)
    for p in range(pixel, pixel + count, rows_of(shape)):
        tile_prefetch(shape, a.x, p * a.C + c + ELEMENTS_AHEAD, a.C)
        dz = _masked(a, p * a.C + c, shape, edge)
        total = tile_add(total, dz)
        products = tile_add_product(products, dz, tile_subtract(tile_load(mean, a.x, p * a.C + c, a.C, edge), mean))
    _add_to(a.sums, part * a.C + c, total, edge)
    _add_to(a.products, part * a.C + c, products, edge)


@kernel(
    sums="array", products="array", weight="array", rstd="array", dweight="array", dbias="array", level="array",
    slope="array", scale="array", moves="int", count="int", C="int", parts="int",
)  # fmt: skip
def merge_gradients_kernel(a, item, worker):
    """For each channel of a block dweight, dbias, and what :func:`input_gradient_kernel` needs.

    ``moves``: whether mean and deviation are those of the ``count`` elements of a channel and move with them; running
    ones do not.
    """
    first, count = item * CHANNELS, max(a.count, 1)
    channels, sums, products = min(CHANNELS, a.C - first), local_sums(CHANNELS), local_sums(CHANNELS)
    for p in range(a.parts):
        part, part_products = shift(a.sums, p * a.C + first), shift(a.products, p * a.C + first)
        for c in range(channels):
            sums[c] += part[c]
            products[c] += part_products[c]
    for c in range(channels):
        k = first + c
        rstd = a.rstd[k]
        if is_there(a.dweight):
            a.dweight[k] = products[c] * rstd
        if is_there(a.dbias):
            a.dbias[k] = sums[c]
        a.level[k] = sums[c] / count if a.moves else 0.0
        a.slope[k] = products[c] * rstd * rstd / count if a.moves else 0.0
        a.scale[k] = rstd * (a.weight[k] if is_there(a.weight) else 1.0)


@kernel(
    x="array", dy="array", y="array", mean="array", level="array", slope="array", scale="array", dx="array",
    dx_sums="array", behind_relu="int", **_PART_FIELDS,
)  # fmt: skip
def input_gradient_kernel(a, item, worker):
    """``dx = (dz - level - (x - mean) * slope) * scale`` of a part; for dz see :func:`gradient_sums_kernel`.

    Where x is behind a ReLU, dx is the gradient in front of it: 0 where x is not positive. ``dx_sums``, if it is there,
    gets the sums of dx of each channel, placed as by :func:`moments_kernel`.
    """
    _over_elements(a, item, named("differentiate"))


def _differentiate_row(work, a, row, at, c):
    x, dy, y, dx = shift(a.x, at), shift(a.dy, at), shift(a.y, at), shift(a.dx, at)
    mean, level, slope, scale = a.mean[c], a.level[c], a.slope[c], a.scale[c]
    if is_there(a.y):
        for i in range(a.inner):
            dz = scalar(a.x, 0.0) if y[i] <= 0 else dy[i]
            dx[i] = (dz - level - (x[i] - mean) * slope) * scale
    else:
        for i in range(a.inner):
            dx[i] = (dy[i] - level - (x[i] - mean) * slope) * scale
    if a.behind_relu:
        for i in range(a.inner):
            dx[i] = scalar(a.x, 0.0) if x[i] <= 0 else dx[i]
    if is_there(a.dx_sums):
        total = 0.0
        for begin in range(0, a.inner, _STRETCH):
            part = scalar(a.x, 0.0)
            for i in range(begin, min(begin + _STRETCH, a.inner)):
                part += dx[i]
            total += part
        a.dx_sums[row] = total


def _differentiate_part(work, a, part):
    if is_there(a.dx_sums):
        for c in range(part * a.C, (part + 1) * a.C):
            a.dx_sums[c] = 0
    _over_pixels(a, part, named("differentiate"))


def _differentiate(step, a, part, pixel, count, c, shape, edge):
    mean = tile_load(tile_zeros(shape), a.mean, c, 0, edge)
    level, slope = tile_load(mean, a.level, c, 0, edge), tile_load(mean, a.slope, c, 0, edge)
    scale, total = tile_load(mean, a.scale, c, 0, edge), tile_zeros(shape)
    for p in range(pixel, pixel + count, rows_of(shape)):
        at = p * a.C + c
        tile_prefetch(shape, a.x, at + ELEMENTS_AHEAD, a.C)
        x = tile_load(mean, a.x, at, a.C, edge)
        dz = tile_subtract(_masked(a, at, shape, edge), level)
        dx = tile_multiply(tile_subtract(dz, tile_multiply(tile_subtract(x, mean), slope)), scale)
        if a.behind_relu:
            dx = tile_where_positive(dx, x)
        tile_store(dx, a.dx, at, a.C, edge)
        total = tile_add(total, dx)
    if is_there(a.dx_sums):
        _add_to(a.dx_sums, part * a.C + c, total, edge)


#: The works of :func:`_over_elements`, by their names: with a row, and with a part.
_WORKS = {
    "moments": (_moments_of_row, _moments_of_part),
    "normalise": (_normalise_row, _normalise_part),
    "gradient_sums": (_gradient_sums_of_row, _gradient_sums_of_part),
    "differentiate": (_differentiate_row, _differentiate_part),
}

#: The steps of :func:`_over_pixels`, by their names.
_STEPS = {
    "add_elements": _add_elements,
    "add_squares": _add_squares,
    "normalise": _normalise,
    "add_gradients": _add_gradients,
    "differentiate": _differentiate,
}


@kernel(narrow="array", wide="array", C="int", times="int")
def repeat_kernel(a, item, worker):
    """``wide[i * C + c] = narrow[c]``, ``times`` times."""
    for i in range(a.times):
        for c in range(a.C):
            a.wide[i * a.C + c] = a.narrow[c]


class _Repeated:
    """Arrays of a number for each channel as kernels over elements take them: once for each pixel of a folded one."""

    def __init__(self, parts: _Parts, dtype: str, arrays: int):
        self._folded = parts.fold > 1
        self._bytes = aligned_bytes(parts.fold * parts.channels, dtype) if self._folded else 0
        self.workspace_bytes = arrays * self._bytes
        self._repeat = Task(
            repeat_kernel, dtype, 1, "narrow wide", parallel=False, C=parts.channels, times=parts.fold
        )  # fmt: skip

    def run(self, base: int, *arrays: int) -> tuple[int, ...]:
        """The addresses of the arrays, 0 for those that are not there; ``base`` has room for them."""
        if not self._folded:
            return arrays
        places = [base + number * self._bytes if array else 0 for number, array in enumerate(arrays)]
        for array, place in zip(arrays, places):
            if array:
                self._repeat.run(array, place)
        return tuple(places)


class _Parts:
    """How the elements of a problem are divided.

    Channels last: a part is ``chunk`` pixels, a piece of work ``group`` parts. Where the channels of a pixel would
    leave lanes of a vector empty, ``fold`` neighbouring pixels count as one of ``fold`` times the channels, if their
    number allows. Channels first: a part is an image, a piece of work ``chunk`` rows, each one channel of an image.

    Attributes:
        items: pieces of work of the kernels that go over elements.
        count: results for each channel that these have to be merged from.
        fold: pixels that count as one.
        fields: the values of :data:`_PART_FIELDS` for the kernels over elements; a pixel is a folded one.
        merged: the same for the kernels that merge: pixels and channels are the problem's.
    """

    def __init__(self, p: ChannelsProblem):
        _, pixels, channels, inner = p
        if inner == 0:  # nothing, in either layout
            pixels, inner = 0, 1
        if channels == 1:  # one row, in either layout
            pixels, inner = 1, pixels * inner
        fold = _folded(pixels, channels, p.dtype) if inner == 1 else 1
        wide, folded = fold * channels, pixels // fold
        if inner == 1:
            fitting = max(_PART_BYTES // max(wide * item_bytes(p.dtype), 1), _LEAST_PIXELS)
            chunk = -(-max(min(fitting, folded // _PIECES), 1) // PIXELS) * PIXELS
            parts = -(-folded // chunk)
            group = min(max(parts // _PIECES, 1), _MOST_PARTS)
            self.items = -(-parts // group)
        else:
            rows, group, parts = pixels * channels, 1, pixels
            chunk = max(min(_PART_BYTES // max(inner * item_bytes(p.dtype), 1), rows // _PIECES), 1)
            self.items = -(-rows // chunk)
        self.channels, self.fold, self.count = channels, fold, parts * fold
        self.parallel = pixels * channels * inner > SMALL_WORK
        self.fields = {
            "pixels": folded, "C": wide, "inner": inner, "chunk": chunk, "group": group, "parts": parts, "fold": 1
        }  # fmt: skip
        self.merged = self.fields | {"pixels": pixels, "C": channels, "parts": self.count, "fold": fold}

    def task(self, kernel: Kernel, dtype: str, given: str, **fields: int) -> Task:
        """A kernel over the elements, ready."""
        return Task(kernel, dtype, self.items, given, parallel=self.parallel, **self.fields, **fields)

    def merging(self, kernel: Kernel, dtype: str, given: str, **fields: int) -> Task:
        """A kernel over the channels that merges the parts, ready."""
        parallel = self.count * self.channels > SMALL_WORK
        blocks = -(-self.channels // CHANNELS)
        return Task(kernel, dtype, blocks, given, parallel=parallel, **self.merged, **fields)


def _folded(pixels: int, channels: int, dtype: str) -> int:
    """How many pixels count as one: a power of two that their number is a multiple of."""
    fold = 1
    if channels % lanes(dtype):
        while 2 * fold <= _MOST_FOLDED and 2 * fold * channels <= _MOST_WIDE and pixels % (2 * fold) == 0:
            fold *= 2
    return fold


class BatchNormStatistics:
    """The ``mean``, ``rstd`` and ``scale`` of each channel by the statistics of x; moves the running ones.

    ``workspace_bytes``: what each run is given of a workspace.
    """

    def __init__(self, p: ChannelsProblem):
        parts = _Parts(p)
        self._part_bytes = aligned_bytes(parts.count * p.channels, p.dtype)
        self.workspace_bytes = 3 * self._part_bytes
        self._moments = parts.task(moments_kernel, p.dtype, "x means rests squares")
        self._merge = parts.merging(
            merge_moments_kernel, p.dtype,
            "means rests squares weight running_mean running_var mean rstd scale correction momentum epsilon",
        )  # fmt: skip

    def parts_of(self, base: int) -> tuple[int, int, int]:
        """Where means, rests and squares of the parts lie in the workspace."""
        return base, base + self._part_bytes, base + 2 * self._part_bytes

    def run(
        self, base: int, x: int, weight: int, running_mean: int, running_var: int, mean: int, rstd: int, scale: int,
        correction: int, momentum: float, epsilon: float,
    ) -> None:  # fmt: skip
        """Addresses, of the workspace first; 0 for a weight and running statistics that are not there."""
        parts = self.parts_of(base)
        self._moments.run(x, *parts)
        self._merge.run(*parts, weight, running_mean, running_var, mean, rstd, scale, correction, momentum, epsilon)


class BatchNorm:
    """``y``, and the ``mean`` and ``rstd`` of each channel, by the statistics of x; moves the running ones."""

    def __init__(self, p: ChannelsProblem):
        parts = _Parts(p)
        self._statistics, self._repeated = BatchNormStatistics(p), _Repeated(parts, p.dtype, 3)
        self._scale_at = self._statistics.workspace_bytes
        self._repeated_at = self._scale_at + aligned_bytes(p.channels, p.dtype)
        self.workspace_bytes = self._repeated_at + self._repeated.workspace_bytes
        self._normalise = parts.task(normalise_kernel, p.dtype, "x mean scale bias y relu")
        self._small = None if parts.parallel or parts.fold > 1 else Task(
            small_batch_norm_kernel, p.dtype, 1,
            "x means rests squares weight bias running_mean running_var mean rstd scale y relu correction momentum "
            "epsilon", parallel=False, pieces=parts.items, **parts.fields,
        )  # fmt: skip

    def run(
        self, x: int, weight: int, bias: int, running_mean: int, running_var: int, y: int, mean: int, rstd: int,
        relu: bool, correction: int, momentum: float, epsilon: float,
    ) -> None:  # fmt: skip
        """Addresses; 0 for a weight, a bias and running statistics that are not there."""
        base = workspace(self.workspace_bytes)
        scale = base + self._scale_at
        running = running_mean, running_var
        if self._small is not None:
            parts = self._statistics.parts_of(base)
            self._small.run(
                x, *parts, weight, bias, *running, mean, rstd, scale, y, relu, correction, momentum, epsilon
            )
            return
        self._statistics.run(base, x, weight, *running, mean, rstd, scale, correction, momentum, epsilon)
        self._normalise.run(x, *self._repeated.run(base + self._repeated_at, mean, scale, bias), y, relu)


class RunningScale:
    """What running statistics multiply each channel with: ``scale`` from the variance and the weight."""

    workspace_bytes = 0

    def __init__(self, p: ChannelsProblem):
        self._scale = Task(
            running_scale_kernel, p.dtype, -(-p.channels // CHANNELS), "running_var weight scale epsilon",
            parallel=False, C=p.channels,
        )  # fmt: skip

    def run(self, running_var: int, weight: int, scale: int, epsilon: float) -> None:
        """Addresses; 0 for a weight that is not there."""
        self._scale.run(running_var, weight, scale, epsilon)


class RunningFold:
    """Normalisation of ``z + before`` by running statistics as ``z * scale + offset``, for each channel.

    z is the result of a convolution, and ``before`` its bias.
    """

    workspace_bytes = 0

    def __init__(self, p: ChannelsProblem):
        self._fold = Task(
            running_fold_kernel, p.dtype, -(-p.channels // CHANNELS),
            "running_mean running_var weight bias before scale offset epsilon", parallel=False, C=p.channels,
        )  # fmt: skip

    def run(
        self, running_mean: int, running_var: int, weight: int, bias: int, before: int, scale: int, offset: int,
        epsilon: float,
    ) -> None:  # fmt: skip
        """Addresses; 0 for a weight, a bias and a bias before that are not there."""
        self._fold.run(running_mean, running_var, weight, bias, before, scale, offset, epsilon)


class RunningBatchNorm:
    """``y`` by running statistics."""

    def __init__(self, p: ChannelsProblem):
        parts = _Parts(p)
        self._repeated, self._channel_bytes = _Repeated(parts, p.dtype, 3), aligned_bytes(p.channels, p.dtype)
        self.workspace_bytes = self._channel_bytes + self._repeated.workspace_bytes
        self._scale = RunningScale(p)
        self._normalise = parts.task(normalise_kernel, p.dtype, "x mean scale bias y relu")

    def run(
        self, x: int, running_mean: int, running_var: int, weight: int, bias: int, y: int, relu: bool, epsilon: float
    ) -> None:
        """Addresses; 0 for a weight and a bias that are not there."""
        scale = workspace(self.workspace_bytes)
        self._scale.run(running_var, weight, scale, epsilon)
        self._normalise.run(x, *self._repeated.run(scale + self._channel_bytes, running_mean, scale, bias), y, relu)


def gradient_numbers(dtype: str, channels: int, parts: int, count: int) -> Task:
    """Makes ready to merge ``parts`` sums of each channel; ``count``: elements of a channel of what was normalised.

    Returns:
        A task that takes the addresses of the sums and products, of weight and rstd, of dweight and dbias, of level,
        slope and scale; and whether mean and deviation move; see :func:`merge_gradients_kernel`.
    """
    return Task(
        merge_gradients_kernel, dtype, -(-channels // CHANNELS),
        "sums products weight rstd dweight dbias level slope scale moves",
        parallel=parts * channels > SMALL_WORK, C=channels, parts=parts, count=count,
    )  # fmt: skip


class BatchNormGradient:
    """``dx``, ``dweight`` and ``dbias`` from ``dy``, x, and the mean and rstd by which x was normalised.

    Where x is behind a ReLU, dx is the gradient in front of it; and ``db`` is the sum of dx over the pixels.
    """

    def __init__(self, p: ChannelsProblem):
        parts = _Parts(p)
        self._part_bytes = aligned_bytes(parts.count * p.channels, p.dtype)
        self._channel_bytes = aligned_bytes(p.channels, p.dtype)
        # The mean is needed twice: for the sums, and for dx.
        self._mean, self._repeated = _Repeated(parts, p.dtype, 1), _Repeated(parts, p.dtype, 3)
        repeated = self._mean.workspace_bytes + self._repeated.workspace_bytes
        self.workspace_bytes = 3 * self._part_bytes + 3 * self._channel_bytes + repeated
        self._sums = parts.task(gradient_sums_kernel, p.dtype, "x dy y mean sums products")
        self._numbers = gradient_numbers(p.dtype, p.channels, parts.count, p.pixels * p.inner)
        self._differentiate = parts.task(
            input_gradient_kernel, p.dtype, "x dy y mean level slope scale dx dx_sums behind_relu"
        )
        self._total = sum_parts(p.dtype, parts.count, p.channels)

    def run(
        self, dy: int, x: int, y: int, weight: int, mean: int, rstd: int, dx: int, dweight: int, dbias: int, db: int,
        moves: bool, behind_relu: bool,
    ) -> None:  # fmt: skip
        """Addresses; ``y`` is 0 where no ReLU followed, and so are a weight and gradients that are not there."""
        if db and not dx:
            raise ValueError("db is the sum of dx: it cannot be had without")
        sums = workspace(self.workspace_bytes)
        products, dx_sums, level = (sums + number * self._part_bytes for number in (1, 2, 3))
        slope, scale = level + self._channel_bytes, level + 2 * self._channel_bytes
        wide = scale + self._channel_bytes
        (mean,) = self._mean.run(wide, mean)
        self._sums.run(x, dy, y, mean, sums, products)
        self._numbers.run(sums, products, weight, rstd, dweight, dbias, level, slope, scale, moves)
        if dx:
            numbers = self._repeated.run(wide + self._mean.workspace_bytes, level, slope, scale)
            self._differentiate.run(x, dy, y, mean, *numbers, dx, dx_sums if db else 0, behind_relu)
        if db:
            self._total.run(dx_sums, db)
