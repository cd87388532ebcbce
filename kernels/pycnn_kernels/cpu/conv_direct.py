"""Direct convolution on the register tile, channels last: no im2col buffer.

Forward and input gradient are one kernel, :func:`gather_kernel`: each pixel of the target gathers, over taps,
rows of channels of the source times a matrix of weights. Target pixels are divided into phases, all of whose
pixels meet the same taps at the same distances. Padding divides them, because a tap that lies outside the source is
left out, or meets another pixel where the image is continued; and in the input gradient of a convolution with stride
S, so do the S x S classes of pixels that meet different elements of the kernel. So no product with a padded or
inserted zero is ever formed, and no padded copy is made. ``gather.py`` has the arithmetic.

The tile's rows are consecutive pixels of a phase, wherever they lie: a table holds the offset of each row's
source pixel, as in the indirect convolution of Dukhan ("The Indirect Convolution Algorithm", 2019), but one
table serves all taps. So the 16 pixels of a 4x4 map fill the tile as well as those of a 224x224 map.

Weights are read as they lie, but where their rows fall into few sets of the caches: there each worker copies those of
its piece, at most ``_WEIGHT_BYTES``, side by side.

The weight gradient is :func:`weight_gradient_kernel`: the tile is a block of dw, accumulated over pixels.
"""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np

from pycnn_kernels.cpu.chain import Chain, Stage
from pycnn_kernels.cpu.conv_frame import (
    Forward,
    InputGradient,
    OneTask,
    PaddedInput,
    Parts,
    Scratch,
    WeightGradient,
    split,
)
from pycnn_kernels.cpu.cost import layout_cost, meetings, part_met, vectors
from pycnn_kernels.cpu.epilogue import EPILOGUE_ARRAYS, EPILOGUE_FIELDS, Epilogue, call_finish, epilogue_fields
from pycnn_kernels.cpu.gather import CLASS_FIELDS, TAP_FIELDS, Axis, continuation_fits, gather_axes, shown_positions
from pycnn_kernels.cpu.host import SIMD, item_bytes, lanes
from pycnn_kernels.cpu.inlined import inlined
from pycnn_kernels.cpu.launch import Task, kernel, most_threads
from pycnn_kernels.cpu.tile import (
    lanes_of,
    local_table,
    rows_of,
    shift,
    tile_add,
    tile_fill_rows,
    tile_load,
    tile_load_rows,
    tile_multiply_add,
    tile_multiply_add_steps,
    tile_prefetch_rows,
    tile_relu,
    tile_shape,
    tile_store,
    tile_store_rows,
    tile_zeros,
    vectors_of,
    with_rows,
)
from pycnn_kernels.cpu.workspace import worker_panels, workspace
from pycnn_kernels.problem import ConvProblem

#: Vectors in a whole block of columns, and the rows of its tile.
BLOCK_VECTORS, WIDE_ROWS = SIMD.wide_tile
#: Rows of the tile of one or two vectors, for what a whole block leaves.
ROWS = SIMD.tile_rows
#: Rows of the small tiles that take what the last full tile leaves.
FEW_ROWS, FEW_WIDE_ROWS = 4, 2
#: Terms of the sum that a tile of one vector takes at a time, for each offset of a row that it reads.
STEPS = 4
GRADIENT_ROWS = SIMD.gradient_tile_rows
#: Pixels of one piece of work at most; their tables of offsets lie on the stack.
PIXELS = 384
#: Parts of phases in one piece of work at most.
MOST_PARTS = 16
TABLE = PIXELS + MOST_PARTS * ROWS


#: The fields of a kernel that gathers.
GATHER_FIELDS = EPILOGUE_FIELDS | {
    name: kind
    for kind, names in {
        "array": "src w panels",
        "table": "pieces parts d_classes h_classes w_classes d_taps h_taps w_taps",
        "int": "h_count w_count N SD SH SW SC R TD TH TW TC L G "
        "source_step_d source_step_h source_step_w target_step_d target_step_h target_step_w "
        "w_row w_tap w_group taps panel_size depth blocks",
    }.items()
    for name in names.split()
}


@kernel(**GATHER_FIELDS)
def gather_kernel(a, item, worker):
    """``dst[p, l] = sum over taps t and channels r of src[p * source_step + offset(t), r] * w[t, r, l]``, finished.

    src (N, SD, SH, SW, SC) and dst (N, TD, TH, TW, TC), channels last; group g reads R channels of the source
    from g * R and writes L channels from g * L. A row of weights is ``w_row`` elements long, a tap's weights begin
    ``w_tap`` elements after the last one's and a group's ``w_group``. If there are panels, a worker brings the rows of
    a whole block of columns together in its own, ``panels[worker * panel_size:]``, before it goes over the pixels.

    A phase is a class of pixels along each axis. Pieces of work: some parts of phases, group, block of
    columns. Piece i has the parts ``pieces[i]`` to ``pieces[i + 1] - 1``, each a phase, its first pixel
    and how many. Bits repeat: a target element is summed by one piece, in the order of the taps.
    """
    block = item % a.blocks
    group = item // a.blocks % a.G
    piece = item // (a.blocks * a.G)
    rows, outs, counts = local_table(TABLE), local_table(TABLE), local_table(MOST_PARTS)
    list_targets(a, piece, group, rows, outs, counts)
    lane_count = lanes_of(a.src)
    column, end = block * BLOCK_VECTORS * lane_count, min((block + 1) * BLOCK_VECTORS * lane_count, a.L)
    if end - column == BLOCK_VECTORS * lane_count:
        full, few = tile_shape(a.src, WIDE_ROWS, BLOCK_VECTORS), tile_shape(a.src, FEW_WIDE_ROWS, BLOCK_VECTORS)
        panel = shift(a.panels, worker * a.panel_size)
        _gather_columns(a, piece, rows, outs, counts, group, column, panel, full, few, None)
        column = end
    while end - column >= 2 * lane_count:
        full, few = tile_shape(a.src, ROWS, 2), tile_shape(a.src, FEW_ROWS, 2)
        _gather_columns(a, piece, rows, outs, counts, group, column, None, full, few, None)
        column += 2 * lane_count
    while column < end:
        full, few = tile_shape(a.src, ROWS, 1), tile_shape(a.src, FEW_ROWS, 1)
        edge = min(end - column, lane_count)
        _gather_columns(a, piece, rows, outs, counts, group, column, None, full, few, edge)
        column += lane_count
    if a.finish:
        first = block * BLOCK_VECTORS * lane_count
        finish_piece(a, piece, outs, counts, first, group * a.L + first, end - first)


@inlined
def classes_of(a, phase):
    """The classes of a phase along d, h and w."""
    d_class = shift(a.d_classes, phase // (a.h_count * a.w_count) * CLASS_FIELDS)
    h_class = shift(a.h_classes, phase // a.w_count % a.h_count * CLASS_FIELDS)
    w_class = shift(a.w_classes, phase % a.w_count * CLASS_FIELDS)
    return d_class, h_class, w_class


@inlined
def taps_of(a, classes):
    """Where the taps of the classes along d, h and w begin: pairs of an offset in src and one in w."""
    d_class, h_class, w_class = classes
    d_taps, h_taps = shift(a.d_taps, d_class[3] * TAP_FIELDS), shift(a.h_taps, h_class[3] * TAP_FIELDS)
    return d_taps, h_taps, shift(a.w_taps, w_class[3] * TAP_FIELDS)


@inlined
def list_targets(a, piece, group, rows, outs, counts):
    """For each part of a piece: how many pixels it has, and where they begin in src and dst.

    The table of a part is filled up to whole tiles: its last pixel is repeated, ROWS times.
    """
    at = 0
    for part in range(a.pieces[piece], a.pieces[piece + 1]):
        phase, first, count = a.parts[part * 3], a.parts[part * 3 + 1], a.parts[part * 3 + 2]
        counts[part - a.pieces[piece]] = count
        _list_part(a, phase, first, count, group, shift(rows, at), shift(outs, at))
        at += count + ROWS


@inlined
def _list_part(a, phase, first, size, group, rows, outs):
    """Offsets in src and dst of ``size`` pixels of a phase, from its pixel ``first`` on."""
    d_class, h_class, w_class = classes_of(a, phase)
    GD, GH, GW = d_class[1], h_class[1], w_class[1]
    source_step, target_step = a.source_step_w * a.SC, a.target_step_w * a.TC
    count = 0
    while count < size:
        line, w = (first + count) // GW, (first + count) % GW
        length = min(GW - w, size - count)
        n = line // (GH * GD)
        d = line // GH % GD
        h = line % GH
        sd, td = d_class[2] + d * a.source_step_d, d_class[0] + d * a.target_step_d
        sh, th = h_class[2] + h * a.source_step_h, h_class[0] + h * a.target_step_h
        sw, tw = w_class[2] + w * a.source_step_w, w_class[0] + w * a.target_step_w
        source = (((n * a.SD + sd) * a.SH + sh) * a.SW + sw) * a.SC + group * a.R
        target = (((n * a.TD + td) * a.TH + th) * a.TW + tw) * a.TC + group * a.L
        for i in range(length):
            rows[count + i] = source + i * source_step
            outs[count + i] = target + i * target_step
        count += length
    for i in range(count, count + ROWS):
        rows[i] = rows[count - 1]
        outs[i] = outs[count - 1]


@inlined
def _gather_columns(a, piece, rows, outs, counts, group, column, panel, full, few, edge):
    """One piece and one block of columns, which ``edge`` cuts off unless it is None.

    Deep sums are divided: each pass of ``a.depth`` channels goes over all tiles with weights that stay in the
    second-level cache, and leaves its sums in dst for the next to add: shorter sums round less, too.
    """
    for first in range(0, a.R, a.depth):
        channels = min(a.depth, a.R - first)
        weights = shift(a.w, group * a.w_group + first * a.w_row + column), a.w_row, a.w_tap
        if panel is not None and a.panel_size > 0:
            _pack_weights(a, weights[0], channels, panel, full)
            weights = panel, BLOCK_VECTORS * lanes_of(a.src), channels * BLOCK_VECTORS * lanes_of(a.src)
        at = 0
        for part in range(a.pieces[piece], a.pieces[piece + 1]):
            classes = classes_of(a, a.parts[part * 3])
            count = counts[part - a.pieces[piece]]
            whole = whole_tiles(count, full, few)
            there, to = shift(rows, at), shift(outs, at)
            _gather_tiles(a, there, to, whole, group, column, classes, first, channels, weights, full, edge)
            there, to, left = shift(rows, at + whole), shift(outs, at + whole), count - whole
            _gather_tiles(a, there, to, left, group, column, classes, first, channels, weights, few, edge)
            at += count + ROWS


@inlined
def _pack_weights(a, w, channels, panel, full):
    """Bring ``channels`` rows of every tap and of a whole block of columns together in the panel."""
    row, width = with_rows(full, 1), BLOCK_VECTORS * lanes_of(a.src)
    for tap in range(a.taps):
        there, to = shift(w, tap * a.w_tap), shift(panel, tap * channels * width)
        for r in range(channels):
            tile_store(tile_load(tile_zeros(row), there, r * a.w_row, 0, None), to, r * width, 0, None)


@inlined
def finish_piece(a, piece, outs, counts, column, channel, columns):
    """The epilogue of the pixels of a piece and of ``columns`` columns, the first of which is ``channel`` of y."""
    at = 0
    for part in range(a.pieces[piece + 1] - a.pieces[piece]):
        for i in range(at, at + counts[part]):
            call_finish(a, outs[i] + column, channel, columns)
        at += counts[part] + ROWS


@inlined
def whole_tiles(count, full, few):
    """Pixels that full tiles take, the last of them perhaps partly empty; up to two small ones take the rest."""
    return max(count + rows_of(full) - 2 * rows_of(few) - 1, 0) // rows_of(full) * rows_of(full)


@inlined
def _gather_tiles(a, rows, outs, count, group, column, classes, first, channels, weights, shape, edge):
    """The tiles of ``count`` pixels and ``channels`` channels from ``first`` on: the bias, the taps, the sums of
    the passes before, the activation. ``weights``: where those of this block and pass begin, and the elements from row
    to row and from tap to tap.

    A tile that hangs over the last pixel computes that pixel several times, all to the same bits. Between two
    tiles the processor must get from one's last products to the next one's first within the 320 instructions that
    it can hold back, or its multipliers idle. So whatever does not change is read from the block before the loop.
    """
    d_class, h_class, w_class = classes
    src, bias, dst = a.src, a.bias, a.dst
    w, w_row, w_tap = weights
    d_taps, h_taps, w_taps = taps_of(a, classes)
    runs, length = (1, w_class[4] * a.R) if w_class[5] else (w_class[4], channels)
    taps_d, taps_h = d_class[4], h_class[4]
    has_bias, bias_start = a.has_bias, group * a.L + column
    relu = a.relu and first + channels == a.R
    for i in range(0, count, rows_of(shape)):
        there, to = shift(rows, i), shift(outs, i)
        tile_prefetch_rows(shape, dst, column, to)
        acc = tile_zeros(shape)
        if has_bias and first == 0:
            acc = tile_fill_rows(acc, bias, bias_start, edge)
        for kd in range(taps_d):
            for kh in range(taps_h):
                for kw in range(runs):
                    tap = d_taps[2 * kd] + h_taps[2 * kh] + w_taps[2 * kw] + first
                    b = (d_taps[2 * kd + 1] + h_taps[2 * kh + 1] + w_taps[2 * kw + 1]) * w_tap
                    rest, end = tap, tap + length
                    if vectors_of(shape) == 1:
                        rest = end - length % STEPS
                        for r in range(tap, rest, STEPS):
                            acc = tile_multiply_add_steps(STEPS, acc, src, r, there, w, b, w_row, edge)
                            b += STEPS * w_row
                    for r in range(rest, end):
                        acc = tile_multiply_add(acc, src, r, there, w, b, edge)
                        b += w_row
        if first > 0:
            acc = tile_add(acc, tile_load_rows(tile_zeros(shape), dst, column, to, edge))
        if relu:
            acc = tile_relu(acc)
        tile_store_rows(acc, dst, column, to, edge)


#: Pixels whose rows of x and dy stay in the caches while the tiles of a block pass over them.
GRADIENT_PIXELS = 256
# A segment of dw: the offset of its tap along d, h and w; its first row of dw; how many rows.
SEGMENT_FIELDS = 5


@kernel(
    x="array", dy="array", dw="array", segments="table", row_offsets="table", segment_count="int",
    continued="int", d_positions="table", h_positions="table", w_positions="table",
    N="int", D="int", H="int", W="int", C="int", R="int",
    OD="int", OH="int", OW="int", K="int", L="int", G="int",
    stride_d="int", stride_h="int", stride_w="int",
    blocks="int", split_pixels="int", part="int",
)  # fmt: skip
def weight_gradient_kernel(a, item, worker):
    """``dw[t, r, l] = sum over pixels p of x[p * stride + offset(t), r] * dy[p, l]``.

    x (N, D, H, W, C) and dy (N, OD, OH, OW, K), channels last; dw (T, R, K), R = C / G. A segment is a range of
    the T * R rows of dw, all of one tap, or of any taps where x has no padding; ``row_offsets`` says where in x
    each row's channel lies, seen from the pixel of the segment's tap. Pieces of work: split of the
    pixels, segment, group, block of columns; split s writes its sum to ``dw[s * part:]``, for
    :func:`sum_parts` to add in order. Bits repeat: the splits depend on the problem alone.
    """
    block = item % a.blocks
    group = item // a.blocks % a.G
    segment = item // (a.blocks * a.G) % a.segment_count
    split = item // (a.blocks * a.G * a.segment_count)
    lane_count = lanes_of(a.x)
    column, end = block * BLOCK_VECTORS * lane_count, min((block + 1) * BLOCK_VECTORS * lane_count, a.L)
    xs, dys = local_table(GRADIENT_PIXELS), local_table(GRADIENT_PIXELS)
    first = split * a.split_pixels
    last = min(first + a.split_pixels, a.N * a.OD * a.OH * a.OW)
    fresh = True
    for chunk in range(first, max(last, first + 1), GRADIENT_PIXELS):
        count = list_pixels(a, chunk, min(chunk + GRADIENT_PIXELS, last), segment, group, xs, dys)
        row, height = a.segments[segment * SEGMENT_FIELDS + 3], a.segments[segment * SEGMENT_FIELDS + 4]
        offsets = shift(a.row_offsets, row)
        to = split * a.part + row * a.K + group * a.L
        at = column
        if end - at == BLOCK_VECTORS * lane_count:
            shape = tile_shape(a.x, 1, BLOCK_VECTORS)
            _add_wide_block(a, xs, dys, offsets, count, at, height, to + at, fresh, shape)
            at = end
        while end - at >= 2 * lane_count:
            _add_block(a, xs, dys, offsets, count, at, height, to + at, fresh, tile_shape(a.x, 1, 2), None)
            at += 2 * lane_count
        while at < end:
            edge = min(end - at, lane_count)
            _add_block(a, xs, dys, offsets, count, at, height, to + at, fresh, tile_shape(a.x, 1, 1), edge)
            at += lane_count
        fresh = False


@inlined
def list_pixels(a, first, last, segment, group, xs, dys):
    """Offsets in x and dy of the pixels from first to last for which the segment lies inside x; their number.

    Where x is ``continued`` into the padding, coordinates count from where the padding begins, and the tables say
    which pixels of x they show.
    """
    s = segment * SEGMENT_FIELDS
    dd, dh, dw = a.segments[s], a.segments[s + 1], a.segments[s + 2]
    count = 0
    pixel = first
    while pixel < last:
        ow = pixel % a.OW
        row = pixel // a.OW
        length = min(a.OW - ow, last - pixel)
        d = row // a.OH % a.OD * a.stride_d + dd
        h = row % a.OH * a.stride_h + dh
        n = row // (a.OH * a.OD)
        if a.continued:
            x = ((n * a.D + a.d_positions[d]) * a.H + a.h_positions[h]) * a.W
            for i in range(length):
                xs[count + i] = (x + a.w_positions[(ow + i) * a.stride_w + dw]) * a.C + group * a.R
                dys[count + i] = (pixel + i) * a.K + group * a.L
            count += length
        elif 0 <= d < a.D and 0 <= h < a.H:
            # 0 <= ow * stride + dw < W, solved for ow.
            least = max(ow, -(dw // a.stride_w))
            most = min(ow + length - 1, (a.W - 1 - dw) // a.stride_w)
            x = (((n * a.D + d) * a.H + h) * a.W + least * a.stride_w + dw) * a.C + group * a.R
            dy = (pixel + least - ow) * a.K + group * a.L
            for i in range(most - least + 1):
                xs[count + i] = x + i * a.stride_w * a.C
                dys[count + i] = dy + i * a.K
            count += max(most - least + 1, 0)
        pixel += length
    return count


@inlined
def _add_wide_block(a, xs, dys, offsets, count, column, height, to, fresh, shape):
    """Add ``count`` pixels to ``height`` rows and a whole block of columns of dw, in tiles of as many rows as fit."""
    r = 0
    while r < height:
        there, target, left = shift(offsets, r), to + r * a.K, height - r
        if left >= WIDE_ROWS:
            _add_tile(a, xs, dys, 0, there, count, column, target, fresh, with_rows(shape, WIDE_ROWS), None)
            r += WIDE_ROWS
        elif left >= 3:
            _add_tile(a, xs, dys, 0, there, count, column, target, fresh, with_rows(shape, 3), None)
            r += 3
        else:
            _add_tile(a, xs, dys, 0, there, count, column, target, fresh, shape, None)
            r += 1


@inlined
def _add_block(a, xs, dys, offsets, count, column, height, to, fresh, shape, edge):
    """Add ``count`` pixels to ``height`` rows and one or two vectors of dw, in tiles of as many rows as fit."""
    r = 0
    while r < height:
        there, target, left = shift(offsets, r), to + r * a.K, height - r
        if GRADIENT_ROWS > 9 and left >= 9 and there[8] - there[0] == 8 and left % GRADIENT_ROWS:
            # A row of 3 taps of 3 channels. Neighbours need no table, which counts where there is but one vector.
            _add_tile(a, xs, dys, there[0], None, count, column, target, fresh, with_rows(shape, 9), edge)
            r += 9
        elif left >= GRADIENT_ROWS:
            _add_tile(a, xs, dys, 0, there, count, column, target, fresh, with_rows(shape, GRADIENT_ROWS), edge)
            r += GRADIENT_ROWS
        elif left >= 4:
            _add_tile(a, xs, dys, 0, there, count, column, target, fresh, with_rows(shape, 4), edge)
            r += 4
        elif left >= 2:
            _add_tile(a, xs, dys, 0, there, count, column, target, fresh, with_rows(shape, 2), edge)
            r += 2
        else:
            _add_tile(a, xs, dys, 0, there, count, column, target, fresh, shape, edge)
            r += 1


@inlined
def _add_tile(a, xs, dys, offset, offsets, count, column, to, fresh, shape, edge):
    """``dw[to + m * K:] += sum over i of x[xs[i] + offset(m)] * dy[dys[i] + column:]`` for the rows m of a tile.

    ``offset(m)`` is ``offset + offsets[m]``, or ``offset + m`` where offsets is None.
    """
    acc = tile_zeros(shape)
    if not fresh:
        acc = tile_load(acc, a.dw, to, a.K, edge)
    for i in range(count):
        acc = tile_multiply_add(acc, a.x, xs[i] + offset, offsets, a.dy, dys[i] + column, edge)
    tile_store(acc, a.dw, to, a.K, edge)


def column_blocks(columns: int, dtype: str) -> int:
    """Blocks of BLOCK_VECTORS vectors that cover ``columns``."""
    return -(-columns // (BLOCK_VECTORS * lanes(dtype)))


def _gather_task(p: ConvProblem, forward: bool, least_pieces: int) -> tuple[Task, int]:
    """Makes the kernel that gathers ready: a task that takes the addresses of src, w, dst, panels and the epilogue; and
    the elements of a worker's panel."""
    axes = gather_axes(p, forward)
    source, target = (p.size, p.output) if forward else (p.output, p.size)
    SC, TC = (p.C, p.K) if forward else (p.K, p.C)
    G, R, L = p.G, SC // p.G, TC // p.G
    blocks = column_blocks(L, p.dtype)
    depth = _pass_depth(R, L, math.prod(p.kernel), p.dtype)
    phases = [p.N * d.size * h.size * w.size for d, h, w in product(*(axis.classes for axis in axes))]
    pieces, parts = _pieces(phases, blocks * G, R * math.prod(p.kernel), least_pieces)
    panel_size = _panel_elements(p, forward, sum(phases) // max(len(pieces) - 1, 1))
    _, KH, KW = p.kernel
    steps = ((source[1] * source[2] * SC, KH * KW), (source[2] * SC, KW), (SC, 1))
    # Neighbouring taps of all channels are one long row.
    marks = (None, None, Axis.adjacent if p.G == 1 and depth == R else None)
    d, h, w = (axis.tables(*step, mark) for axis, step, mark in zip(axes, steps, marks))
    task = Task(
        gather_kernel, p.dtype, (len(pieces) - 1) * blocks * G, f"src w dst panels {EPILOGUE_ARRAYS}",
        parallel=p.multiply_adds > SMALL_WORK,
        pieces=np.array(pieces, np.int64), parts=np.array(parts or [[0] * 3], np.int64),
        d_classes=d[0], h_classes=h[0], w_classes=w[0], d_taps=d[1], h_taps=h[1], w_taps=w[1],
        h_count=len(axes[1].classes), w_count=len(axes[2].classes),
        N=p.N, SD=source[0], SH=source[1], SW=source[2], SC=SC, R=R,
        TD=target[0], TH=target[1], TW=target[2], TC=TC, L=L, G=G,
        source_step_d=axes[0].source_step, source_step_h=axes[1].source_step, source_step_w=axes[2].source_step,
        target_step_d=axes[0].target_step, target_step_h=axes[1].target_step, target_step_w=axes[2].target_step,
        w_row=p.K if forward else L, w_group=L if forward else R * L, w_tap=p.K * (p.C // p.G),
        taps=math.prod(p.kernel), panel_size=panel_size, depth=depth, blocks=blocks,
        **epilogue_fields(p, forward),
    )  # fmt: skip
    return task, panel_size


def _pieces(phases: list[int], blocks: int, terms: int, least_pieces: int) -> tuple[list[int], list[list[int]]]:
    """Divide the pixels of all phases into pieces of work of about the same size.

    Args:
        phases: how many pixels each phase has.
        blocks: blocks of columns, each of which makes a piece of work of its own from every piece of pixels.
        terms: products in the sum of one element.
        least_pieces: how many there should be, if they are large enough.

    Returns:
        Where the parts of each piece begin, with the end of the last; and the parts: phase, first pixel, pixels.

    They depend on the problem alone. A piece of few pixels reads its weights too often, unless they are so few that
    they stay in the first-level cache.
    """
    least = 8 * ROWS if terms >= 256 else 2 * ROWS
    total = sum(phases)
    wanted = min(max(-(-total * blocks // least_pieces), least), PIXELS - ROWS)
    limit = -(-total // max(round(total / wanted), 1))  # pieces of one size rather than a small last one
    limit = min(limit, PIXELS)
    pieces, parts = [0], []
    room = limit
    for phase, pixels in enumerate(phases):
        first = 0
        while first < pixels:
            count = min(pixels - first, room)
            if count < pixels - first and count > ROWS:
                count -= count % ROWS  # a phase goes on in the next piece with whole tiles behind it
            parts.append([phase, first, count])
            first += count
            room -= count
            if room < ROWS or len(parts) - pieces[-1] == MOST_PARTS:
                pieces.append(len(parts))
                room = limit
    if len(parts) > pieces[-1]:
        pieces.append(len(parts))
    return pieces, parts


#: So many pieces let threads share the work evenly.
SHARED_PIECES = 32

#: Bytes of weights, of one block of columns, that stay in the second-level cache beside the pixels.
_WEIGHT_BYTES = 448 * 1024


def _pass_depth(R: int, L: int, taps: int, dtype: str) -> int:
    """Channels of one pass over a chunk: all of them, or equal parts whose weights take _WEIGHT_BYTES."""
    row_bytes = min(L * item_bytes(dtype), BLOCK_VECTORS * SIMD.vector_bytes)
    passes = -(-R * taps * row_bytes // _WEIGHT_BYTES)
    return -(-R // max(passes, 1))


#: Rows of weights at multiples of so many bytes fall into few sets of the caches, and each has a page of memory or a
#: half or quarter of one to itself. Bringing those of a block together made layers of 128 filters up to 1.3 times and
#: of 256 to 512 filters 1.1 to 1.6 times as fast, where the piece that they are brought together for has so many pixels
#: at least. Those of an input gradient were written a moment ago, and lie in the caches.
_PACKED_PIXELS, _PACKED_GRADIENT_PIXELS = {1024: 32, 512: 256}, {1024: 96}


def _panel_elements(p: ConvProblem, forward: bool, pixels: int) -> int:
    """Elements of a block's weights in one pass, if a piece of ``pixels`` pixels is to bring them together, else 0."""
    R, L = (p.C // p.G, p.K // p.G) if forward else (p.K // p.G, p.C // p.G)
    width, taps = BLOCK_VECTORS * lanes(p.dtype), math.prod(p.kernel)
    distance = (p.K if forward else L) * item_bytes(p.dtype)
    needed = _PACKED_PIXELS if forward else _PACKED_GRADIENT_PIXELS
    all_met = forward or math.prod(p.stride) == 1  # a pixel of a strided input gradient meets few of the taps
    many = any(distance % apart == 0 and pixels >= least for apart, least in needed.items())
    pays = width <= L and taps > 1 and all_met and many
    return taps * _pass_depth(R, L, taps, p.dtype) * width if pays else 0


#: Multiply-adds below which waking a second thread (3 us) costs more than it saves.
SMALL_WORK = 200_000

#: Rows of dw in one segment, where segments are free: 12 tiles share the list of their pixels.
_SEGMENT_ROWS = 96


def _pays_padding(p: ConvProblem) -> bool:
    """Whether the weight gradient is faster on a zero-padded copy of x.

    Padding keeps the rows of different taps apart, and the few rows of a tap with few channels leave the tile
    empty. The copy costs little just because the channels are few.
    """
    return p.C < 8 and p.G == 1 and math.prod(p.kernel) > 1 and p.padding_mode == "zeros"


def _gradient_segments(p: ConvProblem) -> tuple[list[list[int]], list[int]]:
    """The segments of dw and the offset in x of each of its rows; see :func:`weight_gradient_kernel`."""
    R = p.C // p.G
    _, H, W = p.size
    padded = any(map(any, p.padding))
    segments: list[list[int]] = []
    offsets: list[int] = []
    for kd, kh, kw in np.ndindex(*p.kernel):
        d, h, w = (k * D for k, D in zip((kd, kh, kw), p.dilation))
        if padded:
            (front, _), (top, _), (left, _) = p.padding if p.padding_mode == "zeros" else ((0, 0),) * 3
            for first in range(0, R, _SEGMENT_ROWS):
                rows = min(_SEGMENT_ROWS, R - first)
                segments.append([d - front, h - top, w - left, len(offsets), rows])
                offsets += range(first, first + rows)
        else:
            tap = ((d * H + h) * W + w) * p.C
            offsets += range(tap, tap + R)
    if not padded:
        starts = range(0, len(offsets), _SEGMENT_ROWS)
        segments = [[0, 0, 0, first, min(_SEGMENT_ROWS, len(offsets) - first)] for first in starts]
    return segments, offsets


class DirectCore(OneTask):
    """The core of forward and input gradient: the gather kernel."""

    def __init__(self, p: ConvProblem, forward: bool, scratch: Scratch, least_pieces: int = SHARED_PIECES):
        self.task, panel = _gather_task(p, forward, least_pieces)
        self.shared_bytes = panel * item_bytes(p.dtype) * most_threads()

    def arguments(
        self, base: Any, shared: int, src: Any, w: int, epilogue: tuple[Any, ...], dst: int
    ) -> tuple[Any, ...]:
        return (src, w, dst, shared, *epilogue)

    def run(self, base: int, src: int, w: int, epilogue: Epilogue, dst: int) -> None:
        self.task.run(*self.values(base, src, w, epilogue, dst))

    def values(self, base: int, src: int, w: int, epilogue: Epilogue, dst: int) -> tuple[int, ...]:
        """What the task is run with."""
        panels = worker_panels(self.shared_bytes) if self.shared_bytes else 0
        return self.arguments(base, panels, src, w, epilogue, dst)


def direct_supports(p: ConvProblem) -> str | None:
    """None for a problem that direct convolution can do, otherwise the reason why not."""
    return continuation_fits(p)


class DirectForward(Forward):
    """``y = activation(scale * (x * w) + b + residual)`` by gathering.

    Arrays that lie channels first take four tasks. Of a small problem their launches take longer than their work:
    there the tasks are a chain, which is one launch.
    """

    make_core = DirectCore

    def __init__(self, p: ConvProblem):
        super().__init__(p)
        self._chain: Chain | None = None
        tasks = [self.core.task if step is self.core else step for step, _ in self.steps(0, 0, 0, 0, 0, 0, 0)]
        if len(tasks) > 1 and not any(task.parallel for task in tasks):
            apart = [0] * sum(len(task.slots) for task in tasks)
            self._chain = Chain([Stage([task], {}) for task in tasks], 0, False, apart)
            self._chain_at = self.workspace_bytes
            self.workspace_bytes += self._chain.own_bytes

    def run(self, *arrays: int) -> None:
        if self._chain is None:
            super().run(*arrays)
            return
        base = workspace(self.workspace_bytes)
        given: list[int] = []
        for step, values in self.steps(base, *arrays):
            given += self.core.values(*values) if step is self.core else values
        self._chain.run(base + self._chain_at, *given)


class DirectInputGradient(InputGradient):
    """``dx`` from ``dy`` and ``w``."""

    make_core = DirectCore


class DirectSums:
    """The sums of dw: a task that takes the addresses of x, dy and parts.

    ``splits`` is how many parts it writes, so many that there are about ``pieces`` pieces of work.
    """

    worker_bytes = 0

    def __init__(self, p: ConvProblem, pieces: int = SHARED_PIECES):
        segments, offsets = _gradient_segments(p)
        continued = p.padding_mode != "zeros"
        positions = shown_positions(p) if continued else [np.zeros(0, np.int64)] * 3
        blocks = column_blocks(p.K // p.G, p.dtype)
        pixels = p.N * math.prod(p.output)
        # Few blocks of dw: split the pixels until there are as many pieces.
        split_pixels, self.splits = split(pixels, GRADIENT_PIXELS, -(-pieces // (len(segments) * p.G * blocks)))
        self.task = Task(
            weight_gradient_kernel, p.dtype, self.splits * len(segments) * p.G * blocks, "x dy dw",
            parallel=p.multiply_adds > SMALL_WORK,
            segments=np.array(segments, np.int64), row_offsets=np.array(offsets, np.int64), segment_count=len(segments),
            continued=continued,
            d_positions=positions[0], h_positions=positions[1], w_positions=positions[2],
            N=p.N, D=p.size[0], H=p.size[1], W=p.size[2], C=p.C, R=p.C // p.G,
            OD=p.output[0], OH=p.output[1], OW=p.output[2], K=p.K, L=p.K // p.G, G=p.G,
            stride_d=p.stride[0], stride_h=p.stride[1], stride_w=p.stride[2],
            blocks=blocks, split_pixels=split_pixels, part=math.prod(p.w_shape),
        )  # fmt: skip


class _DirectWeightGradient:
    """The core of the weight gradient."""

    def __init__(self, p: ConvProblem, scratch: Scratch):
        self._padded = PaddedInput(p, scratch) if _pays_padding(p) else None
        self._sums = DirectSums(self._padded.problem if self._padded else p)
        self._parts = Parts(self._sums.splits, math.prod(p.w_shape), scratch)

    def run(self, base: int, x: int, dy: int, dw: int) -> None:
        x = self._padded.run(base, x) if self._padded else x
        self._sums.task.run(x, dy, self._parts.place(base, dw))
        self._parts.add(base, dw)


class DirectWeightGradient(WeightGradient):
    """``dw`` from ``x`` and ``dy``."""

    make_core = _DirectWeightGradient


def direct_cost_forward(p: ConvProblem) -> float:
    """The expected time of the forward; see ``cost.py`` for the unit."""
    return _gather_cost(p, math.prod(p.output), p.C // p.G, p.K // p.G, 1) + layout_cost(p)


def direct_cost_input_gradient(p: ConvProblem) -> float:
    """The expected time of the input gradient."""
    phases = math.prod(p.stride)
    cost = _gather_cost(p, math.prod(p.size), p.K // p.G, p.C // p.G, phases)
    return cost + layout_cost(p, turns_weights=True)


def _gather_cost(p: ConvProblem, pixels: int, R: int, L: int, phases: int) -> float:
    """Of gathering onto ``pixels`` of an image: products, tiles, lists of pixels, and weights from memory."""
    wide, pairs, single = _column_tiles(L, p.dtype)
    pixels *= p.N
    products = meetings(p) * R * (4 * wide + 2 * pairs + 1.6 * single)  # one vector waits for loads
    # The pieces of work of one block of columns, and the parts into which borders and strides divide them.
    blocks = p.G * column_blocks(L, p.dtype)
    least = 8 * ROWS if R * math.prod(p.kernel) >= 256 else 2 * ROWS
    pieces = max(pixels // min(max(pixels * blocks // 32, least), PIXELS), 1)
    # Of an axis the borders and what lies between them, as far as there are so many pixels.
    parts = pieces + phases * math.prod(min(3 if kernel > 1 else 1, out) for kernel, out in zip(p.kernel, p.output))
    tiles = p.G * pixels * (wide / WIDE_ROWS + (pairs + single) / ROWS) + 3 * blocks * parts
    listed = blocks * (pixels + ROWS * parts)
    weights = part_met(p) * math.prod(p.w_shape) * item_bytes(p.dtype)
    return p.G * products + 130 * tiles + 8 * listed + 0.45 * weights


def _column_tiles(L: int, dtype: str) -> tuple[int, int, int]:
    """Tiles of a whole block, of two whole vectors and of one, perhaps cut off, that cover L columns."""
    wide, rest = divmod(L, BLOCK_VECTORS * lanes(dtype))
    pairs, rest = divmod(rest, 2 * lanes(dtype))
    return wide, pairs, vectors(rest, dtype)


def direct_cost_weight_gradient(p: ConvProblem) -> float:
    """The expected time of the weight gradient."""
    R, L, T = p.C // p.G, p.K // p.G, math.prod(p.kernel)
    pixels = p.N * math.prod(p.output)
    apart = any(map(any, p.padding)) and not _pays_padding(p)  # a tap's rows share no tile with another's
    segments, height = (T, R) if apart else (1, T * R)
    wide, pairs, single = _column_tiles(L, p.dtype)
    products = (
        1.16 * wide * _steps(height, 4, (WIDE_ROWS, 3, 1))
        + 1.16 * pairs * _steps(height, 2, (GRADIENT_ROWS, 4, 2, 1))
        + 1.23 * single * _steps(height, 1, (GRADIENT_ROWS, 4, 2, 1))
    )
    met = meetings(p) / T if apart else pixels
    lists = p.G * column_blocks(L, p.dtype) * segments * -(-height // _SEGMENT_ROWS)
    weights = math.prod(p.w_shape) * item_bytes(p.dtype)
    return (
        p.G * segments * met * products
        + lists * (2 * pixels + 1700 * -(-pixels // GRADIENT_PIXELS))
        + 0.1 * weights
        + layout_cost(p)
    )


def _steps(height: int, width: int, tiles: tuple[int, ...]) -> int:
    """The time in which one pixel passes the tiles that cover ``height`` rows; a small one waits for its own sums."""
    steps = 0
    for rows in tiles:
        steps += height // rows * max(rows * width, 8)
        height %= rows
    return steps
