"""The input gradient of a first layer: few input channels, so pixels take the lanes of the vectors.

The direct algorithm puts the channels of dx into the lanes, and an image of 3 channels leaves 13 of 16 idle.
Here the tile's rows are the channels of dx and its columns are neighbouring pixels: ``acc[c, pixel] += w[t, c, k]
* dy[k, pixel + offset(t)]``. That needs dy with pixels as neighbours, so a band of its rows is transposed into
planes in the cache, one plane for each of the K channels, with zeros around it. Rows of a plane follow each
other without a gap, and so do the pixels of a tile: it runs on from row to row, computing a few pixels between
them that nobody wants, instead of ending at each. A convolution with stride S has S x S phases of dx, as in
the direct algorithm, and each of them is such a plane.

The zeros around a plane take part in the products. So an infinite weight gives NaN at the border, as it does in
PyTorch, where the direct algorithm leaves the padding out.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from pycnn_kernels.cpu.conv_direct import SMALL_WORK
from pycnn_kernels.cpu.host import SIMD, item_bytes, lanes
from pycnn_kernels.cpu.launch import kernel, launch, most_threads
from pycnn_kernels.cpu.layout import transpose_matrix
from pycnn_kernels.cpu.tile import (
    lanes_of,
    local_table,
    shift,
    tile_multiply_add,
    tile_shape,
    tile_store,
    tile_zeros,
    with_rows,
)
from pycnn_kernels.cpu.workspace import aligned_bytes, workspace
from pycnn_kernels.problem import ConvProblem, effective_kernel

VECTORS = SIMD.plane_vectors
MOST_CHANNELS = 4

# A phase: its first row and column in dx, its first tap and how many it has.
PHASE_FIELDS = 4
# A tap: its offset in a plane, and the offset of its weights.
TAP_FIELDS = 2


@kernel(
    dy="array", w="array", dx="array", scratch="array", phases="table", taps="table",
    phase_count="int", channels_last="int", C="int", K="int", H="int", W="int", OH="int", OW="int",
    stride_h="int", stride_w="int", w_channel="int", w_filter="int",
    bands="int", band="int", grid_h="int", first_h="int", first_w="int",
    rows="int", width="int", plane="int", results="int", scratch_size="int",
)  # fmt: skip
def few_channels_kernel(a, item, worker):
    """``dx[n, i, c] = sum over taps t and filters k of dy[n, o(i, t), k] * w[t, c, k]`` for a band of rows of dx.

    dy (N, OH, OW, K) and dx (N, H, W, C), or channels first. Element (t, c, k) of w lies ``w_channel`` and
    ``w_filter`` elements from its neighbours. A piece of work is one image's band of ``band`` rows of each
    phase. It uses ``scratch_size`` elements of scratch: K planes of ``rows`` x ``width``, each ``plane`` long,
    that begin at row ``first_h`` before the band's and at column ``first_w`` of dy; then C planes of results,
    each ``results`` long. Bits repeat: one piece sums an element, filter by filter, tap by tap.
    """
    n, first = item // a.bands, item % a.bands * a.band
    planes = shift(a.scratch, worker * a.scratch_size)
    results = shift(planes, a.K * a.plane)
    _fill_planes(a, n, first + a.first_h, planes)
    height = min(a.band, a.grid_h - first)
    for phase in range(a.phase_count):
        one = tile_shape(a.dy, 1, VECTORS)
        if a.C == 1:
            _phase(a, phase, height, planes, results, one)
        elif a.C == 2:
            _phase(a, phase, height, planes, results, with_rows(one, 2))
        elif a.C == 3:
            _phase(a, phase, height, planes, results, with_rows(one, 3))
        else:
            _phase(a, phase, height, planes, results, with_rows(one, 4))
        _write(a, n, phase, first, height, results)


@njit(error_model="numpy")
def _fill_planes(a, n, first, planes):
    """The rows of dy from ``first`` on as K planes, zeros where dy has no pixels."""
    begin, end = max(-a.first_w, 0), min(a.OW - a.first_w, a.width)  # columns of a plane that lie in dy
    begin, end = min(begin, a.width), max(end, begin)
    for r in range(a.rows):
        h = first + r
        exists = 0 <= h < a.OH
        if exists and a.channels_last:
            source = shift(a.dy, ((n * a.OH + h) * a.OW + begin + a.first_w) * a.K)
            transpose_matrix(source, a.K, shift(planes, r * a.width + begin), a.plane, end - begin, a.K)
        for k in range(a.K):
            row = shift(planes, k * a.plane + r * a.width)
            if exists and not a.channels_last:
                source = shift(a.dy, ((n * a.K + k) * a.OH + h) * a.OW + a.first_w)
                for i in range(begin, end):
                    row[i] = source[i]
            for i in range(begin if exists else a.width):
                row[i] = 0
            for i in range(end if exists else a.width, a.width):
                row[i] = 0


@njit(error_model="numpy")
def _phase(a, phase, height, planes, results, shape):
    """All pixels of one phase's band, the pixels between its rows included, into the planes of results."""
    channels = local_table(MOST_CHANNELS)
    for c in range(a.C):
        channels[c] = c * a.w_channel
    first_tap, taps = a.phases[phase * PHASE_FIELDS + 2], a.phases[phase * PHASE_FIELDS + 3]
    for pixel in range(0, height * a.width, VECTORS * lanes_of(a.dy)):
        acc = tile_zeros(shape)
        for k in range(a.K):  # one plane after the other: its rows stay in the first-level cache for all taps
            b, w = pixel + k * a.plane, k * a.w_filter
            for t in range(first_tap * TAP_FIELDS, (first_tap + taps) * TAP_FIELDS, TAP_FIELDS):
                acc = tile_multiply_add(acc, a.w, w + a.taps[t + 1], channels, planes, b + a.taps[t], None)
        tile_store(acc, results, pixel, a.results, None)


@njit(error_model="numpy")
def _write(a, n, phase, first, height, results):
    """One phase's band from the planes of results to dx."""
    start_h, start_w = a.phases[phase * PHASE_FIELDS], a.phases[phase * PHASE_FIELDS + 1]
    columns = -(-(a.W - start_w) // a.stride_w)
    for r in range(height):
        h = start_h + (first + r) * a.stride_h
        if h < a.H:
            row = shift(results, r * a.width)
            if a.channels_last:
                to = shift(a.dx, ((n * a.H + h) * a.W + start_w) * a.C)
                for i in range(columns):
                    for c in range(a.C):
                        to[i * a.stride_w * a.C + c] = row[c * a.results + i]
            else:
                for c in range(a.C):
                    to = shift(a.dx, ((n * a.C + c) * a.H + h) * a.W + start_w)
                    for i in range(columns):
                        to[i * a.stride_w] = row[c * a.results + i]


def few_channels_supports(p: ConvProblem) -> str | None:
    """None for a problem that :class:`FewChannelsInputGradient` can do, otherwise the reason why not."""
    if p.C > MOST_CHANNELS or p.G > 1:
        return f"at most {MOST_CHANNELS} input channels in one group; received {p.C} in {p.G}"
    if p.size[0] > 1 or p.kernel[0] > 1:
        return f"images without depth; received the depth {p.size[0]} and a kernel of depth {p.kernel[0]}"
    band = _plane_bytes(p)
    if band > _MOST_PLANE_BYTES:
        return f"planes of at most {_MOST_PLANE_BYTES >> 20} MB a thread; a band of one row takes {band >> 20}"
    if math.prod(p.kernel) * p.K < 64:
        products = math.prod(p.kernel) * p.K
        return f"sums of at least 64 products, or the transposition costs too much; received {products}"
    return None


def _taps_along(kernel: int, S: int, before: int, D: int) -> list[list[tuple[int, int]]]:
    """For each start r < S: (offset of the pixel of dy, element k of the kernel) that the pixels r, r + S, ... meet.

    Pixel i = r + j * S of dx meets pixel ``o = (i + P - k * D) / S = j + offset`` where that division leaves no rest.
    """
    return [[((r + before - k * D) // S, k) for k in range(kernel) if (r + before - k * D) % S == 0] for r in range(S)]


#: Bytes of planes that stay in the second-level cache beside dy and the results.
_PLANE_BYTES = 640 * 1024

#: Bytes of planes that a thread may take where a band of a single row exceeds that.
_MOST_PLANE_BYTES = 8 << 20


def _plane_bytes(p: ConvProblem) -> int:
    """About the bytes of planes that a band of one row takes."""
    rows, columns = (
        -(-size // S) * (axis == 2) + -(-effective_kernel(kernel, D) // S) + 1
        for axis, (size, kernel, S, D) in enumerate(zip(p.size, p.kernel, p.stride, p.dilation))
        if axis > 0
    )
    return p.K * rows * columns * item_bytes(p.dtype)


class FewChannelsInputGradient:
    """``dx`` from ``dy`` and ``w``; see :func:`few_channels_kernel`."""

    def __init__(self, p: ConvProblem):
        self.dtype = p.dtype
        (_, H, W), (_, OH, OW), (_, KH, KW), (_, SH, SW) = p.size, p.output, p.kernel, p.stride
        vertical = _taps_along(KH, SH, p.padding[1][0], p.dilation[1])
        horizontal = _taps_along(KW, SW, p.padding[2][0], p.dilation[2])
        first_h, last_h = _extent(vertical)
        first_w, last_w = _extent(horizontal)
        grid_h, grid_w = -(-H // SH), -(-W // SW)
        width = grid_w + last_w - first_w
        itemsize = item_bytes(p.dtype)
        band = _PLANE_BYTES // (p.K * width * itemsize) - (last_h - first_h)
        band = min(max(band, 1), grid_h)
        rows = band + last_h - first_h
        tile = VECTORS * lanes(p.dtype)
        plane, results = rows * width + tile, band * width + tile  # the last tile hangs over
        if p.weight_layout == "HWIO":
            w_tap, w_channel, w_filter = p.C * p.K, p.K, 1
        else:
            w_tap, w_channel, w_filter = 1, KH * KW, p.C * KH * KW
        phases: list[list[int]] = []
        taps: list[list[int]] = []
        for r_h in range(min(SH, H)):
            for r_w in range(min(SW, W)):
                phases.append([r_h, r_w, len(taps), len(vertical[r_h]) * len(horizontal[r_w])])
                taps += [
                    [(oh - first_h) * width + ow - first_w, (kh * KW + kw) * w_tap]
                    for oh, kh in vertical[r_h]
                    for ow, kw in horizontal[r_w]
                ]
        self._tables = [np.array(phases, np.int64), np.array(taps or [[0, 0]], np.int64)]
        bands = -(-grid_h // band)
        self.items = p.N * bands
        scratch = aligned_bytes(p.K * plane + p.C * results, p.dtype)
        self.workspace_bytes = scratch * most_threads()
        self.template = few_channels_kernel.block(
            phases=self._tables[0].ctypes.data, taps=self._tables[1].ctypes.data, phase_count=len(phases),
            channels_last=int(p.layout == "channels_last"), C=p.C, K=p.K, H=H, W=W, OH=OH, OW=OW,
            stride_h=SH, stride_w=SW, w_channel=w_channel, w_filter=w_filter,
            bands=bands, band=band, grid_h=grid_h, first_h=first_h, first_w=first_w,
            rows=rows, width=width, plane=plane, results=results, scratch_size=scratch // itemsize,
        )  # fmt: skip
        self.parallel = p.multiply_adds > SMALL_WORK

    def run(self, dy: int, w: int, dx: int) -> None:
        block = self.template.copy()
        block[_DY], block[_W], block[_DX], block[_SCRATCH] = dy, w, dx, workspace(self.workspace_bytes)
        launch(few_channels_kernel.entry(self.dtype), block, self.items, parallel=self.parallel)


_DY, _W, _DX, _SCRATCH = (few_channels_kernel.slot(name) for name in ("dy", "w", "dx", "scratch"))


def _extent(taps: list[list[tuple[int, int]]]) -> tuple[int, int]:
    """The least and the greatest offset."""
    offsets = [offset for start in taps for offset, _ in start]
    return min(offsets), max(offsets)
