"""Pooling, forward and backward, channels last and channels first: one kernel that gathers.

Each element of the result is computed by one piece of work, in a fixed order: the forward gathers the elements of a
window, the backward the windows of an element (``windows.py`` has the tables of both). So no two threads write the same
element, and bits repeat. What is gathered, and how, says the kernel's field ``kind``: a type, for which the kernel is
compiled, and under whose name :data:`KINDS` has its functions.

The forward of max pooling keeps the position of each maximum in its window, two bytes an element (four where windows
have more than 65535), and the backward compares instead of searching again.

Inner loops run over channels, which are neighbours in channels last; channels first goes through a transposed
workspace. The positions of maxima are kept in channels last in both layouts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, overload, register_model

from pycnn_kernels.cpu.batch_norm import normalised
from pycnn_kernels.cpu.host import item_bytes, lanes
from pycnn_kernels.cpu.inlined import INLINED_OPTIONS, inlined
from pycnn_kernels.cpu.launch import INT64, SMALL_WORK, Kernel, Task, most_threads
from pycnn_kernels.cpu.layout import to_channels_first, to_channels_last
from pycnn_kernels.cpu.named import NameModel, NameType, named
from pycnn_kernels.cpu.tile import (
    ELEMENTS_AHEAD,
    is_there,
    lanes_of,
    shape_of,
    shift,
    tile_add,
    tile_add_product,
    tile_add_where,
    tile_divide,
    tile_draw,
    tile_fill,
    tile_greater,
    tile_greater_position,
    tile_load,
    tile_multiply,
    tile_prefetch,
    tile_relu,
    tile_shape,
    tile_square_root,
    tile_store,
    tile_store_positions,
    tile_subtract,
    tile_where_positive,
    tile_zeros,
)
from pycnn_kernels.cpu.windows import Windows, backward_windows, forward_windows, window_counts
from pycnn_kernels.cpu.workspace import aligned_bytes, whole_lines, workspace
from pycnn_kernels.problem import PoolProblem

#: Pieces of work that there should be at least: few rows are divided by their channels, in blocks of so many vectors,
#: of which every kind's tiles are whole parts.
PIECES, VECTORS = 16, 4

#: Bytes of the larger array in a piece of several rows: enough that beginning a piece costs nothing beside it.
PIECE_BYTES = 1 << 16

#: Windows whose taps are written out one by one, all without depth, so that their lines lie equally far apart; and
#: taps and steps along w that are, backward. Most networks'.
KNOWN_WINDOWS = ((1, 2, 2), (1, 3, 3))
KNOWN_STEPS = ((2, 2), (3, 1), (3, 2), (3, 3))

#: How many positions a window may have.
MOST_POSITIONS = 1 << 24


class PoolKind(NameType):
    """What a pooling gathers, known to the compiler: a name in :data:`KINDS`.

    Where windows are small, *plain* targets, which gather all that there could be, are computed by code of their own:
    forward, windows of ``lines`` x ``taps`` elements, which share ``old`` lines, and taps, with those before; backward,
    the elements of windows of ``taps`` at a ``step``.
    ``normalised``: whether elements are normalised on the way; see :func:`_element`.

    Attributes:
        vectors: of a tile: windows that are written out have loads enough that do not wait for each other, the others
            need more of them at a time.
        needed: lines of the source that a row needs to have plain targets; 0 for any number of them.
    """

    def __init__(
        self, name: str, lines: int = 0, taps: int = 0, step: int = 0, old: int = 0, normalised: bool = False
    ):  # fmt: skip
        self.lines, self.taps, self.step, self.old, self.normalised = lines, taps, step, old, normalised
        self.pairs = taps == step == 2
        self.vectors, self.needed = 2 if taps else 4, 1 if self.pairs else lines
        super().__init__(name, lines, taps, step, old, normalised)


register_model(PoolKind)(NameModel)


def _take_first(kind, a, there, source, position, channels):
    return _take(kind, a, _begin(kind, a, there, channels), source, position, 0, channels)


def _keep_nothing(kind, a, column, shape, edge):
    return 0


def _close_nothing(kind, a, row, column, shape, edge, kept):
    return 0


class Kind(NamedTuple):
    """How one kind gathers the tile of ``channels`` channels of one target.

    ``begin(kind, a, there, channels)`` is the state before anything is gathered,
    ``take(kind, a, state, source, position, count, channels)`` the state after what lies at ``source``, and
    ``end(kind, a, there, state, channels, kept)`` writes the result. Where it is known that there is something to
    gather, ``first(kind, a, there, source, position, channels)`` is the state after the first of it.

    ``counts``: whether ``take`` needs the ``count`` that the window at the source is divided by. It is backward that
    sources are windows: forward there are no counts for them.

    What is ``kept`` from one target of a row to the next: ``open(kind, a, column, shape, edge)`` before the first, what
    ``end`` returns after that; and ``close(kind, a, row, column, shape, edge, kept)`` comes behind the last.
    """

    begin: Callable[..., Any]
    take: Callable[..., Any]
    end: Callable[..., Any]
    first: Callable[..., Any] = _take_first
    counts: bool = False
    open: Callable[..., Any] = _keep_nothing
    close: Callable[..., Any] = _close_nothing


#: What is known of a line of the source that a row of targets gathers from: where it begins, the first position in it
#: of a window, and the factor of the counts along d and h.
_LINE_FIELDS = 3


def _pool_body(a, item, worker):
    """``dst[n, t, c]`` = what is gathered of ``src[n, s, c]`` over the pairs (s, position) of t along d, h and w.

    src (N, SD, SH, SW, C), dst (N, TD, TH, TW, C). ``index``, ``uniform`` and the counts: see :data:`KINDS`. A piece of
    work is a block of ``width`` channels of ``height`` of all the ``rows`` of dst. ``lines``: room for the lines of a
    row, ``lines_size`` for each worker. The plain targets of a row are ``plain`` to ``plain_end - 1``, those of the
    windows ``window`` to ``window_end - 1``. Forward, a plain window's elements lie ``line_step`` and ``tap_step``
    apart; what the next row gathers lies ``ahead``. In front of a batch normalisation: src is its x for the sums of
    ``dy``, and then dy, ``x`` beside it; ``level``, ``slope``, ``sums`` and ``products`` as in ``batch_norm.py``.
    """
    piece, first = item // a.blocks, item % a.blocks * a.width
    last = min(first + a.width, a.C)
    lines = shift(a.lines, worker * a.lines_size)
    begin = piece * a.height
    n, d, h = begin // (a.TH * a.TD), begin // a.TH % a.TD, begin % a.TH
    for row in range(begin, min(begin + a.height, a.rows)):
        _gather_row(a, a.kind, _list_lines(a, n, d, h, lines), row, first, last, lines)
        h += 1  # divisions for each row would be a tenth of the time
        if h == a.TH:
            h, d = 0, d + 1
            if d == a.TD:
                d, n = 0, n + 1


@inlined
def _list_lines(a, n, d, h, lines):
    """The lines of the source that row h of plane d of image n gathers from: how many, d and h."""
    count = 0
    for i in range(a.d_begins[d], a.d_begins[d + 1]):
        for j in range(a.h_begins[h], a.h_begins[h + 1]):
            line = shift(lines, count * _LINE_FIELDS)
            line[0] = ((n * a.SD + a.d_pairs[2 * i]) * a.SH + a.h_pairs[2 * j]) * a.SW * a.C
            line[1] = (a.d_pairs[2 * i + 1] * a.KH + a.h_pairs[2 * j + 1]) * a.KW
            line[2] = _lines_count(a.kind, a, a.d_pairs[2 * i], a.h_pairs[2 * j])
            count += 1
    return count, d, h


@intrinsic(prefer_literal=True)
def _known(typing_context, kind, name):
    """A number of the kind, by its (literal) name."""
    number = int(getattr(kind, name.literal_value))
    return types.int64(kind, name), lambda *_: ir.Constant(INT64, number)


@intrinsic
def _tile(typing_context, like, kind):
    """The shape of the kind's tiles, of arrays like the pointer ``like``."""
    return shape_of(like, 1, kind.vectors)(like, kind), lambda context, *_: context.get_dummy_value()


def _lines_count(kind, a, d, h):
    """The factor along d and h of the count of windows."""


def _count(kind, a, of_line, w):
    """The count of a window, whose factor along d and h is known."""


@overload(_lines_count, jit_options=INLINED_OPTIONS)
def _compiled_lines_count(kind, a, d, h):
    counts = KINDS[kind.text].counts
    return (lambda kind, a, d, h: a.d_counts[d] * a.h_counts[h]) if counts else (lambda kind, a, d, h: 0)


@overload(_count, jit_options=INLINED_OPTIONS)
def _compiled_count(kind, a, of_line, w):
    counts = KINDS[kind.text].counts
    return (lambda kind, a, of_line, w: of_line * a.w_counts[w]) if counts else (lambda kind, a, of_line, w: 0)


def _gather_row(a, kind, there, row, first, last, lines):
    """All targets of a row, of the channels from first to last."""


@overload(_gather_row, jit_options=INLINED_OPTIONS)
def _compiled_gather_row(a, kind, there, row, first, last, lines):
    if KINDS[kind.text].open is not _keep_nothing:
        return _gather_by_columns
    return _gather_plain_apart if kind.taps else _gather_in_turn


def _gather_in_turn(a, kind, there, row, first, last, lines):
    """The targets in turn, of each all channels: in the order of memory."""
    for w in range(a.TW):
        _over_channels(named("target"), a, kind, there, row, w, first, last, lines)


def _gather_plain_apart(a, kind, there, row, first, last, lines):
    begin, end = _plain_targets(a, kind, there)
    for w in range(begin):
        _over_channels(named("target"), a, kind, there, row, w, first, last, lines)
    if begin < end:
        # _over_channels in place: what all windows share stays in registers then, which is a tenth of the time.
        for o in range(a.window, a.window_end):
            c = first
            while last - c >= _known(kind, "vectors") * lanes_of(a.src):
                _gather_window(a, kind, there, row, o, c, lines, _tile(a.src, kind), None, 0)
                c += _known(kind, "vectors") * lanes_of(a.src)
            while c < last:
                edge = min(last - c, lanes_of(a.src))
                _gather_window(a, kind, there, row, o, c, lines, tile_shape(a.src, 1, 1), edge, 0)
                c += lanes_of(a.src)
    for w in range(end, a.TW):
        _over_channels(named("target"), a, kind, there, row, w, first, last, lines)


def _gather_by_columns(a, kind, there, row, first, last, lines):
    """The tiles of channels in turn, of each all targets: what is kept from target to target stays in registers."""
    _over_channels(named("column"), a, kind, there, row, 0, first, last, lines)


@inlined
def _over_channels(work, a, kind, there, row, w, first, last, lines):
    """Do a work of :data:`_WORKS` with each tile of channels, of target ``w`` if it is one target's."""
    c = first
    while last - c >= _known(kind, "vectors") * lanes_of(a.src):
        _do(work, a, kind, there, row, w, c, lines, _tile(a.src, kind), None)
        c += _known(kind, "vectors") * lanes_of(a.src)
    while c < last:
        edge = min(last - c, lanes_of(a.src))
        _do(work, a, kind, there, row, w, c, lines, tile_shape(a.src, 1, 1), edge)
        c += lanes_of(a.src)


def _do(work, a, kind, there, row, w, column, lines, shape, edge):
    """See :func:`_over_channels`."""


@overload(_do, jit_options=INLINED_OPTIONS)
def _compiled_do(work, a, kind, there, row, w, column, lines, shape, edge):
    return _WORKS[work.text]


def _do_target(work, a, kind, there, row, w, column, lines, shape, edge):
    _gather_any(a, kind, there, row, w, column, lines, shape, edge, 0)


def _do_column(work, a, kind, there, row, w, column, lines, shape, edge):
    _gather_column(a, kind, there, row, column, lines, shape, edge)


#: What is done with a tile of channels, by its name: one target of a row, or all.
_WORKS = {"target": _do_target, "column": _do_column}


def _gather_column(a, kind, there, row, column, lines, shape, edge):
    """One tile of channels of all targets of a row."""


@overload(_gather_column, jit_options=INLINED_OPTIONS)
def _compiled_gather_column(a, kind, there, row, column, lines, shape, edge):
    return _gather_column_plain_apart if kind.taps else _gather_column_in_turn


def _gather_column_in_turn(a, kind, there, row, column, lines, shape, edge):
    kept = _open(kind, a, column, shape, edge)
    for w in range(a.TW):
        kept = _gather_any(a, kind, there, row, w, column, lines, shape, edge, kept)
    _close(kind, a, row, column, shape, edge, kept)


def _gather_column_plain_apart(a, kind, there, row, column, lines, shape, edge):
    kept = _open(kind, a, column, shape, edge)
    begin, end = _plain_targets(a, kind, there)
    for w in range(begin):
        kept = _gather_any(a, kind, there, row, w, column, lines, shape, edge, kept)
    if begin < end:
        for o in range(a.window, a.window_end):
            kept = _gather_window(a, kind, there, row, o, column, lines, shape, edge, kept)
    for w in range(end, a.TW):
        kept = _gather_any(a, kind, there, row, w, column, lines, shape, edge, kept)
    _close(kind, a, row, column, shape, edge, kept)


@inlined
def _plain_targets(a, kind, there):
    """The first of a row's plain targets and the one behind the last; the same number twice if there are none.

    Forward, all lines of a window must be there; backward, pairs must have one.
    """
    there_are = _known(kind, "needed") == 0 or there[0] == _known(kind, "needed")
    return (a.plain, a.plain_end) if there_are else (a.TW, a.TW)


def _gather_window(a, kind, there, row, o, column, lines, shape, edge, kept):
    """The plain targets of window ``o``, of one tile of channels; returns what is kept."""


@overload(_gather_window, jit_options=INLINED_OPTIONS)
def _compiled_gather_window(a, kind, there, row, o, column, lines, shape, edge, kept):
    if kind.pairs:
        return _gather_pair
    return _gather_own_elements if kind.step else _gather_whole


def _gather_whole(a, kind, there, row, o, column, lines, shape, edge, kept):
    """The compiler knows the number of taps, and writes them out: the positions of a window's elements are 0, 1, ..."""
    count, d, h = there
    corner = lines[0] + a.plain_first + o * a.plain_step + column
    channels = (row * a.TW + o) * a.C + column, column, shape, edge, lines
    state = _first(kind, a, (count, d, h, o), corner, 0, channels)
    for i in range(_known(kind, "lines")):
        for k in range(_known(kind, "taps")):
            source = corner + i * a.line_step + k * a.tap_step
            if i >= _known(kind, "old") and k >= _known(kind, "old"):
                tile_prefetch(shape, a.src, source + a.ahead, 0)
            if i > 0 or k > 0:
                state = _take(kind, a, state, source, i * _known(kind, "taps") + k, 0, channels)
    return _end(kind, a, (count, d, h, o), state, channels, kept)


@inlined
def _first_target(a, kind, row, o, column):
    """Where the targets of a plain window begin."""
    return (row * a.TW + a.plain + (o - a.window) * _known(kind, "step")) * a.C + column


def _gather_own_elements(a, kind, there, row, o, column, lines, shape, edge, kept):
    """The elements of a window before the next one begins: they lie in it and in some of the windows before."""
    count, d, h = there
    target = _first_target(a, kind, row, o, column)
    for k in range(_known(kind, "step")):
        channels = target + k * a.C, column, shape, edge, lines
        state = _begin(kind, a, (count, d, h, 0), channels)
        for i in range(count):
            line = shift(lines, i * _LINE_FIELDS)
            start, position, counted = line[0] + column, line[1] + k, line[2]
            for before in range((_known(kind, "taps") - k + _known(kind, "step") - 1) // _known(kind, "step")):
                place = o - before
                source, at = start + place * a.C, position + before * _known(kind, "step")
                if k == 0 and before == 0:
                    tile_prefetch(shape, a.src, source + a.ahead, 0)
                state = _take(kind, a, state, source, at, _count(kind, a, counted, place), channels)
        kept = _end(kind, a, (count, d, h, 0), state, channels, kept)
    return kept


def _gather_pair(a, kind, there, row, o, column, lines, shape, edge, kept):
    """The same where each window has two elements of a row to itself, and the row's lines to themselves, too.

    What comes from the window is read once for both, before either is stored: for all that the compiler knows, over it.
    """
    count, d, h = there
    target = _first_target(a, kind, row, o, column)
    left, right = (target, column, shape, edge, lines), (target + a.C, column, shape, edge, lines)
    source, number = lines[0] + o * a.C + column, _count(kind, a, lines[2], o)
    tile_prefetch(shape, a.src, source + a.ahead, 0)
    first = _take(kind, a, _begin(kind, a, (count, d, h, 0), left), source, lines[1], number, left)
    second = _take(kind, a, _begin(kind, a, (count, d, h, 0), right), source, lines[1] + 1, number, right)
    kept = _end(kind, a, (count, d, h, 0), first, left, kept)
    return _end(kind, a, (count, d, h, 0), second, right, kept)


@inlined
def _gather_any(a, kind, there, row, w, column, lines, shape, edge, kept):
    """One tile of channels of target ``w``, which may gather any number of pairs; returns what is kept."""
    count, d, h = there
    channels = (row * a.TW + w) * a.C + column, column, shape, edge, lines
    state = _begin(kind, a, (count, d, h, w), channels)
    state = _walk(kind, a, (count, d, h, w), state, channels)
    return _end(kind, a, (count, d, h, w), state, channels, kept)


@inlined
def _walk(kind, a, there, state, channels):
    """Take everything that a target gathers."""
    count, _, _, w = there
    _, column, _, _, lines = channels
    first, last = a.w_begins[w], a.w_begins[w + 1]
    for i in range(count):
        line = shift(lines, i * _LINE_FIELDS)
        start, position, counted = line[0] + column, line[1], line[2]
        for k in range(first, last):
            place = a.w_pairs[2 * k]
            source, at, number = start + place * a.C, position + a.w_pairs[2 * k + 1], _count(kind, a, counted, place)
            state = _take(kind, a, state, source, at, number, channels)
    return state


def _open(kind, a, column, shape, edge):
    """See :class:`Kind`."""


def _close(kind, a, row, column, shape, edge, kept):
    """See :class:`Kind`."""


def _begin(kind, a, there, channels):
    """See :class:`Kind`."""


def _first(kind, a, there, source, position, channels):
    """See :class:`Kind`."""


def _take(kind, a, state, source, position, count, channels):
    """See :class:`Kind`."""


def _end(kind, a, there, state, channels, kept):
    """See :class:`Kind`."""


@overload(_open, jit_options=INLINED_OPTIONS)
def _compiled_open(kind, a, column, shape, edge):
    return KINDS[kind.text].open


@overload(_close, jit_options=INLINED_OPTIONS)
def _compiled_close(kind, a, row, column, shape, edge, kept):
    return KINDS[kind.text].close


@overload(_begin, jit_options=INLINED_OPTIONS)
def _compiled_begin(kind, a, there, channels):
    return KINDS[kind.text].begin


@overload(_first, jit_options=INLINED_OPTIONS)
def _compiled_first(kind, a, there, source, position, channels):
    return KINDS[kind.text].first


@overload(_take, jit_options=INLINED_OPTIONS)
def _compiled_take(kind, a, state, source, position, count, channels):
    return KINDS[kind.text].take


@overload(_end, jit_options=INLINED_OPTIONS)
def _compiled_end(kind, a, there, state, channels, kept):
    return KINDS[kind.text].end


def _element(kind, a, like, source, channels):
    """A tile of the elements at ``source``, like another tile; where the kind says so they are normalised."""


@overload(_element, jit_options=INLINED_OPTIONS)
def _compiled_element(kind, a, like, source, channels):
    return _normalised_element if kind.normalised else _plain_element


def _plain_element(kind, a, like, source, channels):
    return tile_load(like, a.src, source, 0, channels[3])


def _normalised_element(kind, a, like, source, channels):
    """What belongs to the channels is loaded once for all elements of a window: the compiler sees to that."""
    _, c, shape, edge, _ = channels
    mean, scale = tile_load(like, a.norm_mean, c, 0, edge), tile_load(like, a.norm_scale, c, 0, edge)
    bias = tile_load(like, a.norm_bias, c, 0, edge) if is_there(a.norm_bias) else tile_zeros(shape)
    return normalised(tile_load(like, a.src, source, 0, edge), mean, scale, bias)


def _zeros(kind, a, there, channels):
    return tile_zeros(channels[2])


def _store(kind, a, there, state, channels, kept):
    tile_store(state, a.dst, channels[0], 0, channels[3])
    return kept


def _least(kind, a, there, channels):
    return tile_fill(channels[2], -math.inf)


def _store_finished(kind, a, there, state, channels, kept):
    tile_store(_finished(a, state, channels), a.dst, channels[0], 0, channels[3])
    return kept


@inlined
def _finished(a, greatest, channels):
    """``activation(greatest + bias)``; the same as of the greatest of ``activation(x + bias)``, rounding included."""
    if is_there(a.bias):
        greatest = tile_add(greatest, tile_load(greatest, a.bias, channels[1], 0, channels[3]))
    return tile_relu(greatest) if a.relu else greatest


def _take_greater(kind, a, state, source, position, count, channels):
    return tile_greater(state, _element(kind, a, state, source, channels))


def _first_element(kind, a, there, source, position, channels):
    return _element(kind, a, tile_zeros(channels[2]), source, channels)


def _first_and_position(kind, a, there, source, position, channels):
    shape = channels[2]
    return _element(kind, a, tile_zeros(shape), source, channels), tile_fill(shape, position)


def _least_and_first(kind, a, there, channels):
    """-inf, and the first position of the window: where all are -inf nothing wins, and the first is the greatest."""
    count, _, _, w = there
    k, lines = a.w_begins[w], channels[4]
    first = lines[1] + a.w_pairs[2 * k + 1] if count > 0 and k < a.w_begins[w + 1] else a.no_position
    return tile_fill(channels[2], -math.inf), tile_fill(channels[2], first)


def _take_greater_and_position(kind, a, state, source, position, count, channels):
    best, positions = state
    candidate = _element(kind, a, best, source, channels)
    positions = tile_greater_position(positions, position, best, candidate)
    return tile_greater(best, candidate), positions


@inlined
def _store_found(a, found, positions, channels):
    tile_store(found, a.dst, channels[0], 0, channels[3])
    tile_store_positions(positions, a.index, channels[0], channels[3])


def _store_greatest(kind, a, there, state, channels, kept):
    _store_found(a, _finished(a, state[0], channels), state[1], channels)
    return kept


def _take_where_found(kind, a, state, source, position, count, channels):
    return tile_add_where(state, a.src, source, a.index, source, position, channels[3])


def _take_picked(kind, a, state, source, position, count, channels):
    return tile_add_where(state, a.src, source, a.index, channels[0], position, channels[3])


def _no_sums_of_two(kind, a, column, shape, edge):
    return tile_zeros(shape), tile_zeros(shape)


def _add_to_sums(kind, a, there, state, channels, kept):
    """The sums of dy, and of its products with the deviations from the mean of what was found."""
    target, c, _, edge, _ = channels
    sums, products = kept
    dy = tile_load(state, a.dy, target, 0, edge)
    deviation = tile_subtract(state, tile_load(state, a.norm_mean, c, 0, edge))
    return tile_add(sums, dy), tile_add_product(products, dy, deviation)


def _store_both_sums(kind, a, row, column, shape, edge, kept):
    tile_store(kept[0], a.sums, row * a.C + column, 0, edge)
    tile_store(kept[1], a.products, row * a.C + column, 0, edge)
    return 0


def _no_sums(kind, a, column, shape, edge):
    return tile_zeros(shape)


def _store_in_front_of_norm(kind, a, there, state, channels, kept):
    """``dx = (dy - level - (x - mean) * slope) * scale``, and 0 where x is what a ReLU has cut off."""
    target, c, _, edge, _ = channels
    x = tile_load(state, a.x, target, 0, edge)
    deviation = tile_subtract(x, tile_load(state, a.norm_mean, c, 0, edge))
    moved = tile_multiply(deviation, tile_load(state, a.slope, c, 0, edge))
    dx = tile_subtract(tile_subtract(state, tile_load(state, a.level, c, 0, edge)), moved)
    dx = tile_multiply(dx, tile_load(state, a.norm_scale, c, 0, edge))
    if a.relu:
        dx = tile_where_positive(dx, x)
    tile_store(dx, a.dst, target, 0, edge)
    return tile_add(kept, dx)


def _store_sums(kind, a, row, column, shape, edge, kept):
    tile_store(kept, a.sums, row * a.C + column, 0, edge)
    return 0


def _take_all(kind, a, state, source, position, count, channels):
    return tile_add(state, tile_load(state, a.src, source, 0, channels[3]))


def _store_mean(kind, a, there, state, channels, kept):
    _, d, h, w = there
    count = a.d_counts[d] * a.h_counts[h] * a.w_counts[w]
    tile_store(tile_divide(state, tile_fill(channels[2], count)), a.dst, channels[0], 0, channels[3])
    return kept


def _take_part(kind, a, state, source, position, count, channels):
    return tile_add_product(state, tile_load(state, a.src, source, 0, channels[3]), tile_fill(channels[2], 1 / count))


def _take_square(kind, a, state, source, position, count, channels):
    found = tile_load(state, a.src, source, 0, channels[3])
    return tile_add_product(state, found, found)


def _store_root(kind, a, there, state, channels, kept):
    tile_store(tile_square_root(state), a.dst, channels[0], 0, channels[3])
    return kept


def _take_positive(kind, a, state, source, position, count, channels):
    return tile_add(state, tile_relu(tile_load(state, a.src, source, 0, channels[3])))


def _goal(kind, a, there, channels):
    """The sum that is to be reached, what has been passed, what was drawn last, and where.

    Zero times the total: what is not a number must not be lost.
    """
    zeros = tile_zeros(channels[2])
    total = _walk(named("positive"), a, there, zeros, channels)
    goal = tile_multiply(tile_load(total, a.uniform, channels[0], 0, channels[3]), total)
    return goal, zeros, tile_multiply(total, zeros), tile_fill(channels[2], a.no_position)


def _take_up_to_the_goal(kind, a, state, source, position, count, channels):
    """The last positive element before which the goal was not passed is drawn."""
    goal, passed, drawn, positions = state
    candidate = tile_relu(tile_load(goal, a.src, source, 0, channels[3]))
    drawn = tile_draw(drawn, candidate, candidate, passed, goal)
    positions = tile_draw(positions, tile_fill(channels[2], position), candidate, passed, goal)
    return goal, tile_add(passed, candidate), drawn, positions


def _store_drawn(kind, a, there, state, channels, kept):
    _store_found(a, state[2], state[3], channels)
    return kept


#: What each kind gathers. "max" writes the greatest, with a bias and a ReLU where they are given, "max_index" its
#: position, too; both of elements that may be normalised first. "max_gradient" adds up src where ``index`` has the
#: position. In front of max pooling and a batch normalisation of ``x``, "batch_norm_max_sums" finds the elements whose
#: position ``index`` has and adds up, over each row, dy and its products with their deviations;
#: "batch_norm_max_gradient" makes dx of what "max_gradient" finds, and adds it up. "average_gradient" adds up src
#: divided by the count of the window. "norm" is the root of the sum of squares. "stochastic" draws a positive element:
#: that in which the running sum passes the part ``uniform`` of all.
KINDS = {
    "max": Kind(_least, _take_greater, _store_finished, _first_element),
    "max_index": Kind(_least_and_first, _take_greater_and_position, _store_greatest, _first_and_position),
    "max_gradient": Kind(_zeros, _take_where_found, _store),
    "batch_norm_max_sums": Kind(_zeros, _take_picked, _add_to_sums, open=_no_sums_of_two, close=_store_both_sums),
    "batch_norm_max_gradient": Kind(
        _zeros, _take_where_found, _store_in_front_of_norm, open=_no_sums, close=_store_sums
    ),
    "average": Kind(_zeros, _take_all, _store_mean),
    "average_gradient": Kind(_zeros, _take_part, _store, counts=True),
    "norm": Kind(_zeros, _take_square, _store_root),
    "positive": Kind(_zeros, _take_positive, _store),
    "stochastic": Kind(_goal, _take_up_to_the_goal, _store_drawn),
}

#: Of a kernel that pools; ``index`` is of the kind that its dtype has.
_FIELDS = {
    name: kind
    for kind, names in {
        "type": "kind",
        "array": "src dst uniform bias norm_mean norm_scale norm_bias x dy level slope sums products",
        "table": "lines d_begins h_begins w_begins d_pairs h_pairs w_pairs d_counts h_counts w_counts",
        "int": "SD SH SW TD TH TW C KH KW rows height width blocks no_position lines_size "
        "plain plain_end plain_step plain_first line_step tap_step window window_end ahead relu",
    }.items()
    for name in names.split()
}
_KERNELS = {
    "uint16": Kernel(_pool_body, _FIELDS | {"index": "index"}),
    "uint32": Kernel(_pool_body, _FIELDS | {"index": "long_index"}),
}

for name in ("max", "max_index", "average"):
    _KERNELS["uint16"].usually(kind=PoolKind(name, 2, 2))
_KERNELS["uint16"].usually(kind=PoolKind("max", 2, 2, normalised=True))
_KERNELS["uint16"].usually(kind=PoolKind("max_index", 2, 2, normalised=True))
_KERNELS["uint16"].usually(kind=PoolKind("batch_norm_max_sums", 2, 2))
for name in ("max_gradient", "batch_norm_max_gradient", "average_gradient"):
    _KERNELS["uint16"].usually(kind=PoolKind(name, 0, 2, 2))


def _windows(p: PoolProblem, backward: bool) -> list[Windows]:
    """What the targets along each axis gather."""
    return [backward_windows(p, axis) if backward else forward_windows(p, axis) for axis in range(3)]


def _task(p: PoolProblem, kind: str, backward: bool, given: str, windows: list[Windows]) -> Task:
    """The kernel that gathers for a problem in channels last, ready."""
    source, target = (p.output, p.size) if backward else (p.size, p.output)
    rows = p.N * math.prod(target[:2]) if p.C * math.prod(p.size) * math.prod(p.output) else 0
    vectors = -(-p.C // (VECTORS * lanes(p.dtype)))
    blocks = max(min(vectors, PIECES // max(rows, 1)), 1)
    width = -(-vectors // blocks) * VECTORS * lanes(p.dtype)
    blocks = max(-(-p.C // max(width, 1)), 1)
    row_bytes = p.C * math.prod(p.size) * p.N * item_bytes(p.dtype) // max(rows, 1)
    height = max(min(PIECE_BYTES // max(row_bytes, 1), rows // PIECES), 1)
    tables = {f"{axis}_begins": w.begins for axis, w in zip("dhw", windows)}
    tables |= {f"{axis}_pairs": w.pairs for axis, w in zip("dhw", windows)}
    tables |= {f"{axis}_counts": counts for axis, counts in zip("dhw", _counts(p))}
    known, plain = _plain(p, kind, backward, windows[2])
    return Task(
        _KERNELS[p.index_dtype].compiled_for(kind=known), p.dtype, -(-rows // height) * blocks, f"lines {given}",
        parallel=p.N * math.prod(p.size) * p.C > SMALL_WORK,
        SD=source[0], SH=source[1], SW=source[2], TD=target[0], TH=target[1], TW=target[2], C=p.C,
        KH=p.window[1], KW=p.window[2], rows=rows, height=height, width=width, blocks=blocks, no_position=p.no_position,
        lines_size=_lines_bytes(windows) // 8, **plain, **tables,
    )  # fmt: skip


def _lines_bytes(windows: list[Windows]) -> int:
    """What a worker notes of the lines that a row of targets gathers from, in cache lines of its own: two threads that
    note in one take it from each other at each row, and two of them are no faster than one."""
    most_lines = math.prod(int(np.diff(w.begins).max(initial=0)) for w in windows[:2])
    return whole_lines(most_lines * _LINE_FIELDS * 8)


def _plain(p: PoolProblem, kind: str, backward: bool, windows: Windows) -> tuple[PoolKind, dict[str, int]]:
    """The kind with what the compiler is to know of the taps, and the targets along w for which it holds.

    ``windows``: what the targets along w gather.
    """
    taps, (before, _), step = p.kernel[2], p.padding[2], p.stride[2]
    normalised = p.normalised and not backward
    if p.target is not None or (p.dilation[2] > 1 and backward):
        return PoolKind(kind, normalised=normalised), {}
    if backward:
        if (taps, step) not in KNOWN_STEPS:
            return PoolKind(kind), {}
        # Groups of elements that begin with a window's first: inside the input, and all windows before exist.
        first = max((taps - 1) // step, -(-before // step))
        end = min(p.output[2], (p.size[2] + before) // step)
        plain, plain_end = (first * step - before, end * step - before) if first < end else (0, 0)
        return PoolKind(kind, 0, taps, step), {
            "plain": plain, "plain_end": plain_end, "window": first, "window_end": end,
            "ahead": _ahead(p.output[2] * p.C),
        }  # fmt: skip
    if p.kernel not in KNOWN_WINDOWS:
        return PoolKind(kind, normalised=normalised), {}
    whole = np.flatnonzero(np.diff(windows.begins) == taps)
    first, end = (int(whole[0]), int(whole[-1]) + 1) if len(whole) else (0, 0)
    # Other steps along h ask again for what has been asked for, which does no harm.
    old = max(taps - step, 0) if p.stride[1] == step else 0
    return PoolKind(kind, math.prod(p.kernel[:2]), taps, old=old, normalised=normalised), {
        "plain": first, "plain_end": end, "window": first, "window_end": end,
        "plain_step": step * p.C, "plain_first": -before * p.C,
        "line_step": p.dilation[1] * p.size[2] * p.C, "tap_step": p.dilation[2] * p.C,
        "ahead": _ahead(p.stride[1] * p.size[2] * p.C),
    }  # fmt: skip


def _ahead(row: int) -> int:
    """How many elements ahead are asked for: what the next row gathers, ``row`` elements further on; or, where such
    rows would fill the first-level cache, what the same row gathers soon.

    A pooling of 2x2 of 16 MB in memory takes 250 microseconds on one core if it asks so, and 600 if it does not; in the
    caches, as long.
    """
    return row if row <= 2 * ELEMENTS_AHEAD else ELEMENTS_AHEAD


def _counts(p: PoolProblem) -> list[np.ndarray]:
    """For each axis and window a factor of what an average divides by."""
    if not p.divisor:
        return [window_counts(p, axis) for axis in range(3)]
    return [np.full(p.output[0], p.divisor), *(np.ones(out, np.int64) for out in p.output[1:])]


class _Pool:
    """A pooling in both layouts.

    Args:
        p: the problem.
        kind: which of :data:`KINDS`.
        given: the kernel's fields for each run: the array it reads, the array it writes, then others.
        backward: whether the result is dx rather than y.
    """

    def __init__(self, p: PoolProblem, kind: str, given: str, backward: bool = False):
        pixels, out_pixels = math.prod(p.size), math.prod(p.output)
        self._windows = _windows(p, backward)
        self.task = _task(p, kind, backward, given, self._windows)
        # With one channel, or one pixel, both layouts are the same.
        self._transposed = p.layout == "channels_first" and p.C > 1 and max(pixels, out_pixels) > 1
        read, written = (out_pixels, pixels) if backward else (pixels, out_pixels)
        self._before = to_channels_last(p.dtype, p.N, p.C, read)
        self._after = to_channels_first(p.dtype, p.N, p.C, written)
        sizes = (p.N * p.C * read, p.N * p.C * written) if self._transposed else (0, 0)
        self._written_at = aligned_bytes(sizes[0], p.dtype)
        self._lines_at = self._written_at + aligned_bytes(sizes[1], p.dtype)
        #: Of each worker, at the task's field "lines".
        self.worker_bytes = _lines_bytes(self._windows)
        self.workspace_bytes = self._lines_at + most_threads() * self.worker_bytes

    def arguments(self, base: Any, source: int, result: Any, *others: Any) -> tuple[Any, ...]:
        """What the tasks, or chains of them, are run with on channels last; ``base`` is the workspace."""
        return (base + self._lines_at, source, result, *others)

    def _run(self, task: Task, source: int, result: int, *others: int) -> None:
        base = workspace(self.workspace_bytes)
        if self._transposed:
            self._before.run(source, base)
            task.run(*self.arguments(base, base, base + self._written_at, *others))
            self._after.run(base + self._written_at, result)
        else:
            task.run(*self.arguments(base, source, result, *others))


class MaxPool(_Pool):
    """``y, index`` from ``x``. ``index`` is 0 when the positions are not wanted."""

    def __init__(self, p: PoolProblem):
        others = "bias norm_mean norm_scale norm_bias relu"
        super().__init__(p, "max_index", f"src dst index {others}")
        self.alone = _task(p, "max", False, f"src dst {others}", self._windows)

    def run(
        self, x: int, bias: int, norm_mean: int, norm_scale: int, norm_bias: int, y: int, index: int, relu: bool = False
    ) -> None:
        """Addresses; 0 for a bias that is not there, and without normalisation for all that belongs to it."""
        others = bias, norm_mean, norm_scale, norm_bias, relu
        if index:
            self._run(self.task, x, y, index, *others)
        else:
            self._run(self.alone, x, y, *others)


class MaxPoolGradient(_Pool):
    """``dx`` from ``dy`` and the forward's ``index``."""

    def __init__(self, p: PoolProblem):
        super().__init__(p, "max_gradient", "src dst index", backward=True)

    def run(self, dy: int, index: int, dx: int) -> None:
        self._run(self.task, dy, dx, index)


class BatchNormMaxSums(_Pool):
    """What the gradient of a batch normalisation in front of max pooling sums up, in channels last.

    The task takes its lines, x, 0, ``index``, dy, the mean of each channel, and the two sums of each row (rows, C): of
    dy and of its products with the deviations of the maxima from the mean.
    """

    def __init__(self, p: PoolProblem):
        super().__init__(p, "batch_norm_max_sums", "src dst index dy norm_mean sums products")
        self.rows = p.N * math.prod(p.output[:2])


class BatchNormMaxGradient(_Pool):
    """``dx`` in front of a batch normalisation and max pooling, in channels last, and the sums of its rows.

    The task takes its lines, dy, dx, ``index``, x, the mean, level, slope and scale of each channel, the sums (rows, C)
    and whether x is behind a ReLU, in front of which dx is.
    """

    def __init__(self, p: PoolProblem):
        given = "src dst index x norm_mean level slope norm_scale sums relu"
        super().__init__(p, "batch_norm_max_gradient", given, backward=True)
        self.rows = p.N * math.prod(p.size[:2])


class AveragePool(_Pool):
    """``y`` from ``x``."""

    def __init__(self, p: PoolProblem):
        super().__init__(p, "average", "src dst")

    def run(self, x: int, y: int) -> None:
        self._run(self.task, x, y)


class AveragePoolGradient(_Pool):
    """``dx`` from ``dy``."""

    def __init__(self, p: PoolProblem):
        super().__init__(p, "average_gradient", "src dst", backward=True)

    def run(self, dy: int, dx: int) -> None:
        self._run(self.task, dy, dx)


class NormPool(_Pool):
    """``y`` from ``x``."""

    def __init__(self, p: PoolProblem):
        super().__init__(p, "norm", "src dst")

    def run(self, x: int, y: int) -> None:
        self._run(self.task, x, y)


class StochasticPool(_Pool):
    """``y, index`` from ``x`` and ``uniform`` numbers from 0 to 1 in channels last."""

    def __init__(self, p: PoolProblem):
        super().__init__(p, "stochastic", "src dst uniform index")

    def run(self, x: int, uniform: int, y: int, index: int) -> None:
        self._run(self.task, x, y, uniform, index)


def positions_fit(p: PoolProblem) -> str | None:
    """None where two or four bytes hold every position, otherwise the reason why not."""
    if math.prod(p.window) > MOST_POSITIONS:
        return f"windows of at most {MOST_POSITIONS:,} elements; received {' x '.join(map(str, p.window))}"
    return None
