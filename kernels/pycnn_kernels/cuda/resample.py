"""Sums of elements at places that tables say, on the GPU: resampling, its gradient, and that of a rearrangement.

Along each of three axes a table says, for each element of the result, which offsets it is a sum of, and with which
weights. Each result has a thread, which adds up in the order of the tables: bits repeat.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import cuda

from pycnn_kernels.cuda.launch import Task, blocks_for, counted, kernel
from pycnn_kernels.cuda.pool import int32
from pycnn_kernels.cuda.ptx import divided, division
from pycnn_kernels.problem import RearrangeProblem, ResampleProblem
from pycnn_kernels.rearrangement import sources
from pycnn_kernels.resampling import three


@kernel(
    src="source", dst="array", count="int", size="int", d_begins="table", d_offsets="table", d_weights="source",
    h_begins="table", h_offsets="table", h_weights="source", w_begins="table", w_offsets="table", w_weights="source",
    D="int", H="int", W="int", inner="int", by_D="long", by_H="long", by_W="long", by_inner="long",
)  # fmt: skip
def sums_kernel(dtype: Any, threads: int, weighted: bool) -> Any:
    """``dst[n, d, h, w, c]`` = the sum of elements of src, times their weights along d, h and w if ``weighted``.

    dst (N, D, H, W, inner), together ``count`` elements; src (N, size). The offsets of element d are those from
    ``d_begins[d]`` to ``d_begins[d + 1] - 1``, likewise h and w; those of an element are sums of one of each.
    """
    zero = dtype(0)

    def body(a):
        i = int32(cuda.blockIdx.x * threads + cuda.threadIdx.x)
        if i < a.count:
            pixel = divided(i, a.by_inner)
            line = divided(pixel, a.by_W)
            plane = divided(line, a.by_H)
            n = divided(plane, a.by_D)
            d, h, w = plane - n * a.D, line - plane * a.H, pixel - line * a.W
            begin, end = a.w_begins[w], a.w_begins[w + 1]
            first = n * a.size + i - pixel * a.inner
            total = zero
            for e in range(a.d_begins[d], a.d_begins[d + 1]):
                of_plane = zero
                for f in range(a.h_begins[h], a.h_begins[h + 1]):
                    source, of_line = first + a.d_offsets[e] + a.h_offsets[f], zero
                    for g in range(begin, end):
                        if weighted:
                            of_line += a.w_weights[g] * a.src[source + a.w_offsets[g]]
                        else:
                            of_line += a.src[source + a.w_offsets[g]]
                    of_plane += a.h_weights[f] * of_line if weighted else of_line
                total += a.d_weights[e] * of_plane if weighted else of_plane
            a.dst[i] = total

    return body


def supports(p: ResampleProblem) -> str | None:
    """None for arrays whose elements are counted in 32 bits, otherwise the reason why not."""
    return counted(max(math.prod(p.x_shape), math.prod(p.y_shape)))


def _sums(
    dtype: str,
    N: int,
    shape: list[int],
    inner: int,
    size: int,
    tables: Sequence[tuple[np.ndarray, ...]],
    weighted: bool,
) -> Task:
    """The sums of (N, *shape, inner) from (N, size); ``tables``: begins, offsets and weights of each of three axes."""
    D, H, W = shape
    fields: dict[str, Any] = {}
    for name, (begins, offsets, *weights) in zip("dhw", tables):
        fields |= {f"{name}_begins": np.int32(begins), f"{name}_offsets": np.int32(offsets)}
        if weighted:
            fields[f"{name}_weights"] = weights[0]
    count = N * D * H * W * inner
    by_D, by_H, by_W, by_inner = (division(max(number, 1)) for number in (D, H, W, inner))
    return Task(
        sums_kernel.variant(dtype, weighted=weighted), blocks_for(count), "src dst", count=count, size=size,
        D=D, H=H, W=W, inner=inner, by_D=by_D, by_H=by_H, by_W=by_W, by_inner=by_inner, **fields,
    )  # fmt: skip


class Resample:
    """``y`` from ``x``; see :func:`sums_kernel`."""

    workspace_bytes = 0
    transposed = False

    def __init__(self, p: ResampleProblem):
        axes, sizes, outputs = three(p.axes, p.dtype, self.transposed)
        steps = [math.prod(sizes[place + 1 :]) * p.inner for place in range(3)]
        tables = [(w.begins, w.source * step, w.weight) for w, step in zip(axes, steps)]
        task = _sums(p.dtype, p.N, outputs, p.inner, math.prod(sizes) * p.inner, tables, weighted=True)
        self.run, self.table_bytes = task.run, task.table_bytes


class ResampleGradient(Resample):
    """``dx`` from ``dy``: the weights transposed."""

    transposed = True


class RearrangeGradient:
    """``dx`` from ``dy``: each element adds up the places that show it; see :func:`sums_kernel`."""

    workspace_bytes = 0

    def __init__(self, p: RearrangeProblem):
        missing = 3 - len(p.size)
        once = (np.array([0, 1]), np.array([0]))
        tables = [once] * missing + sources(p)
        size = math.prod(p.y_shape[1:])
        task = _sums(p.dtype, p.N, [1] * missing + list(p.size), p.inner, size, tables, weighted=False)
        self.run, self.table_bytes = task.run, task.table_bytes
