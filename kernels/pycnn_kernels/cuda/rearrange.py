"""Elements shown at other places on the GPU: padding, cropping, nearest neighbours, windows, of any dtype.

The tables are those of the CPU (``rearrangement.py``). Neighbouring threads write neighbouring elements, and read
neighbours as far as there are any.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda

from pycnn_kernels.cuda.launch import Task, blocks_for, counted, kernel
from pycnn_kernels.cuda.pool import int32
from pycnn_kernels.cuda.ptx import divided, division
from pycnn_kernels.problem import RearrangeProblem, numpy_dtype
from pycnn_kernels.rearrangement import rearrangement


@kernel(
    "uint8", "uint16", "uint32", "uint64", x="source", y="array", fill="source", count="int", base="table",
    choice="table", columns="table", rows="int", width="int", inner="int", x_size="int", by_rows="long",
    by_width="long", by_inner="long",
)  # fmt: skip
def rearrange_kernel(dtype: Any, threads: int) -> Any:
    """``y[r, j] = x[base[r] + columns[choice[r], j]]`` for ``inner`` elements each; fill[0] where one is nowhere.

    x (N, x_size), y (N, rows, width, inner), together ``count`` elements, of which each has a thread; base and choice
    (rows,), columns (tables, width).
    """

    def body(a):
        i = int32(cuda.blockIdx.x * threads + cuda.threadIdx.x)
        if i < a.count:
            pixel = divided(i, a.by_inner)
            line = divided(pixel, a.by_width)
            n = divided(line, a.by_rows)
            row = line - n * a.rows
            base, column = a.base[row], a.columns[a.choice[row] * a.width + pixel - line * a.width]
            shown = a.fill[0]
            if base >= 0 and column >= 0:
                shown = a.x[n * a.x_size + base + column + i - pixel * a.inner]
            a.y[i] = shown

    return body


def supports(p: RearrangeProblem) -> str | None:
    """None for arrays whose elements are counted in 32 bits, otherwise the reason why not."""
    return counted(max(math.prod(p.x_shape), math.prod(p.y_shape)))


class Rearrange:
    """``y`` from ``x`` and ``fill``, of any dtype; see :func:`rearrange_kernel`."""

    workspace_bytes = 0

    def __init__(self, p: RearrangeProblem):
        tables = rearrangement(p)
        rows, width, inner = tables.base.size, tables.width, tables.inner
        by_rows, by_width, by_inner = (division(max(number, 1)) for number in (rows, width, inner))
        base, choice, columns = (np.int32(each) for each in (tables.base, tables.choice, tables.columns))
        count = p.N * rows * width * inner
        task = Task(
            rearrange_kernel.variant(f"uint{8 * numpy_dtype(p.dtype).itemsize}"), blocks_for(count), "x fill y",
            count=count, base=base, choice=choice, columns=columns, rows=rows, width=width, inner=inner,
            x_size=math.prod(p.size) * p.inner, by_rows=by_rows, by_width=by_width, by_inner=by_inner,
        )  # fmt: skip
        self.run, self.table_bytes = task.run, task.table_bytes
