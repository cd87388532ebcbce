"""Local response normalisation across channels, and its gradient, in both layouts without transposition.

The arrays are ``outer`` x ``channels`` x ``inner``, inner 1 in channels last. All of an image's elements lie one after
the other, and the same pixel of the next channel ``inner`` elements on: to kernels the layouts differ in that number.
"""

from __future__ import annotations

import math

from pycnn_kernels.cpu.host import item_bytes
from pycnn_kernels.cpu.launch import Task, kernel, most_threads
from pycnn_kernels.cpu.tile import scalar, shift
from pycnn_kernels.cpu.workspace import aligned_bytes, workspace
from pycnn_kernels.problem import ChannelsProblem

#: Elements that are worked on together, so that they stay in the first-level cache.
SEGMENT = 1024

#: Elements of a piece of work.
PIECE = 4096

#: Elements of a tile of the gradient: all channels of some pixels, which stay in the second-level cache.
TILE = 16384


@kernel(
    x="array", y="array", size="int", share="float", beta="float", k="float", C="int", inner="int", together="int",
    width="int", steps="int", segments="int", chunk="int",
)  # fmt: skip
def response_norm_kernel(a, item, worker):
    """``y = x * d^-beta``, ``d = k + share * sum of x^2`` over ``size`` channels, from size // 2 before x's own.

    Channels outside count 0. A segment is ``together`` channels of ``width`` pixels, whose elements are neighbours:
    pixels of one channel, or all pixels of some. A piece of work: ``chunk`` of the ``segments``, channels first.
    """
    C, inner = a.C, a.inner
    share, k, beta, one = scalar(a.x, a.share), scalar(a.x, a.k), scalar(a.x, a.beta), scalar(a.x, 1.0)
    blocks = (inner + a.width - 1) // a.width
    for segment in range(item * a.chunk, min((item + 1) * a.chunk, a.segments)):
        image, place = segment // (blocks * a.steps), segment % (blocks * a.steps)
        c, pixel = place % a.steps * a.together, place // a.steps * a.width
        count = min(a.together, C - c) * min(a.width, inner - pixel)
        first = (image * C + c) * inner + pixel
        x, y = shift(a.x, first), shift(a.y, first)
        for i in range(count):
            y[i] = 0
        for t in range(max(-(a.size // 2), 1 - C), min((a.size - 1) // 2, C - 1) + 1):
            other = shift(x, t * inner)
            for i in range(max(0, -(c + t) * inner), min(count, (C - c - t) * inner)):
                y[i] += other[i] * other[i]
        if a.beta == 0.75:
            for i in range(count):
                root = one / math.sqrt(k + share * y[i])
                y[i] = x[i] * root * math.sqrt(root)
        elif a.beta == 0.5:
            for i in range(count):
                y[i] = x[i] / math.sqrt(k + share * y[i])
        else:
            for i in range(count):
                y[i] = x[i] / (k + share * y[i]) ** beta


@kernel(
    dy="array", x="array", dx="array", scratch="array", size="int", C="int", inner="int", together="int",
    width="int", tiles="int", chunk="int", scratch_size="int", share="float", beta="float", k="float",
)  # fmt: skip
def response_norm_gradient_kernel(a, item, worker):
    """``dx = dy * d^-beta - 2 share beta x * sum of dy * x * d^-(beta + 1)`` over the channels whose windows hold x.

    d is that of :func:`response_norm_kernel`, computed again: it costs less than memory would. A tile is all channels
    of ``width`` pixels, in segments of ``together`` channels; a piece of work: ``chunk`` of the ``tiles``. Scratch
    holds the terms of that sum, channel by channel, ``scratch_size`` elements for each worker.
    """
    C, inner, width, together = a.C, a.inner, a.width, a.together
    share, k, beta, one = scalar(a.x, a.share), scalar(a.x, a.k), scalar(a.x, a.beta), scalar(a.x, 1.0)
    slope = scalar(a.x, 2 * a.share * a.beta)
    blocks = (inner + width - 1) // width
    before, after = a.size // 2, (a.size - 1) // 2
    terms = shift(a.scratch, worker * a.scratch_size)
    for tile in range(item * a.chunk, min((item + 1) * a.chunk, a.tiles)):
        image, pixel = tile // blocks, tile % blocks * width
        pixels = min(width, inner - pixel)
        for c in range(0, C, together):
            count = min(together, C - c) * pixels
            first = (image * C + c) * inner + pixel
            x, dy, dx, term = shift(a.x, first), shift(a.dy, first), shift(a.dx, first), shift(terms, c * width)
            for i in range(count):
                dx[i] = 0
            for t in range(max(-before, 1 - C), min(after, C - 1) + 1):
                other = shift(x, t * inner)
                for i in range(max(0, -(c + t) * inner), min(count, (C - c - t) * inner)):
                    dx[i] += other[i] * other[i]
            if a.beta == 0.75:
                for i in range(count):
                    root = one / math.sqrt(k + share * dx[i])
                    power = dy[i] * root * math.sqrt(root)
                    dx[i] = power
                    term[i] = power * x[i] * root * root
            elif a.beta == 0.5:
                for i in range(count):
                    root = one / math.sqrt(k + share * dx[i])
                    power = dy[i] * root
                    dx[i] = power
                    term[i] = power * x[i] * root * root
            else:
                for i in range(count):
                    d = k + share * dx[i]
                    power = dy[i] / d**beta
                    dx[i] = power
                    term[i] = power * x[i] / d
        for c in range(0, C, together):
            count = min(together, C - c) * pixels
            first = (image * C + c) * inner + pixel
            x, dx, term = shift(a.x, first), shift(a.dx, first), shift(terms, c * width)
            for t in range(max(-after, 1 - C), min(before, C - 1) + 1):
                other = shift(term, t * width)
                for i in range(max(0, -(c + t) * width), min(count, (C - c - t) * width)):
                    dx[i] -= slope * x[i] * other[i]


class ResponseNorm:
    """``y`` from ``x``; see :func:`response_norm_kernel`."""

    workspace_bytes = 0

    def __init__(self, p: ChannelsProblem):
        width = max(1, min(p.inner, SEGMENT))
        together = max(1, min(SEGMENT // width, p.channels)) if width == p.inner else 1
        steps = -(-p.channels // together)
        segments = p.pixels * steps * -(-p.inner // width)
        chunk = max(1, PIECE // (together * width))
        self._segments = Task(
            response_norm_kernel, p.dtype, -(-segments // chunk), "x y size share beta k",
            parallel=p.pixels * p.channels * p.inner > 1 << 12, C=p.channels, inner=p.inner,
            together=together, width=width, steps=steps, segments=segments, chunk=chunk,
        )  # fmt: skip

    def run(self, x: int, y: int, size: int, alpha: float, beta: float, k: float) -> None:
        self._segments.run(x, y, size, alpha / size, beta, k)


class ResponseNormGradient:
    """``dx`` from ``dy`` and ``x``; see :func:`response_norm_gradient_kernel`."""

    def __init__(self, p: ChannelsProblem):
        # Blocks of pixels of about the same size, whole cache lines of float32.
        most = max(TILE // max(p.channels, 1) // 16 * 16, 16)
        blocks = max(-(-p.inner // most), 1)
        width = p.inner if blocks == 1 else -(-p.inner // (blocks * 16)) * 16
        tiles = p.pixels * -(-p.inner // max(width, 1)) if p.channels else 0
        chunk = max(1, PIECE // max(p.channels * width, 1))
        each = aligned_bytes(p.channels * width, p.dtype)
        self.workspace_bytes = most_threads() * each
        self._tiles = Task(
            response_norm_gradient_kernel, p.dtype, -(-tiles // chunk), "dy x dx scratch size share beta k",
            parallel=p.pixels * p.channels * p.inner > 1 << 12, C=p.channels, inner=p.inner,
            together=max(1, SEGMENT // max(width, 1)) if width == p.inner else 1, width=width,
            tiles=tiles, chunk=chunk, scratch_size=each // item_bytes(p.dtype),
        )  # fmt: skip

    def run(self, dy: int, x: int, dx: int, size: int, alpha: float, beta: float, k: float) -> None:
        self._tiles.run(dy, x, dx, workspace(self.workspace_bytes), size, alpha / size, beta, k)
