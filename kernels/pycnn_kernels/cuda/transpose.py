"""Transposed copies of matrices, of any kind of element.

Source: Ruetsch and Micikevicius, "Optimizing Matrix Transpose in CUDA" (2009).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numba import cuda
from numba.cuda import types

from pycnn_kernels.cuda.launch import Task, blocks_for, kernel
from pycnn_kernels.cuda.ptx import divided, division, shift

int32 = types.int32

#: Rows and columns of the square that a block copies; threads of a block.
EDGE, THREADS = 32, 256


class Matrices(NamedTuple):
    """Where so ``many`` matrices lie, and where their transposed copies shall.

    Element (i, j) of the matrix b has the place ``b * apart + i * pitch + j``, in the copy ``b * copies_apart + j *
    copy_pitch + i``.
    """

    many: int
    rows: int
    columns: int
    apart: int
    pitch: int
    copies_apart: int
    copy_pitch: int

    @property
    def reverse(self) -> Matrices:
        """From the copies back."""
        return Matrices(self.many, self.columns, self.rows, self.copies_apart, self.copy_pitch, self.apart, self.pitch)


def side_by_side(many: int, rows: int, columns: int) -> Matrices:
    """Those that have nothing between their rows and each other."""
    return Matrices(many, rows, columns, rows * columns, columns, rows * columns, rows)


def _transposing(dtype: Any, threads: int, element: str) -> Any:
    """Transposed copies of :class:`Matrices`. A block copies a square of :data:`EDGE` x :data:`EDGE` of one of them.

    It passes through shared memory, so that neighbouring threads read and write neighbouring elements; its lines are
    one element longer there, so that those of a column lie in different banks.
    """
    kind = {"array": dtype, "index": types.uint16, "long_index": types.uint32}[element]
    lines, pitch = threads // EDGE, EDGE + 1
    square = EDGE * pitch

    def body(a):
        held = cuda.shared.array(square, kind)
        band = divided(cuda.blockIdx.x, a.by_across)
        matrix = divided(band, a.by_down)
        row, column = int32((band - matrix * a.down) * EDGE), int32((cuda.blockIdx.x - band * a.across) * EDGE)
        given, copies = shift(a.given, matrix * a.apart), shift(a.copies, matrix * a.copies_apart)
        lane, first = cuda.threadIdx.x % EDGE, cuda.threadIdx.x // EDGE
        for step in range(0, EDGE, lines):
            i, j = int32(row + first + step), int32(column + lane)
            if i < a.rows and j < a.columns:
                held[(first + step) * pitch + lane] = given[int32(i * a.pitch + j)]
        cuda.syncthreads()
        for step in range(0, EDGE, lines):
            i, j = int32(row + lane), int32(column + first + step)
            if i < a.rows and j < a.columns:
                copies[int32(j * a.copy_pitch + i)] = held[lane * pitch + first + step]

    return body


#: For each kind of element that arrays of plans have.
transposing_kernels = {
    element: kernel(
        given=element, copies=element, rows="int", columns="int", down="int", across="int", by_down="long",
        by_across="long", apart="int", pitch="int", copies_apart="int", copy_pitch="int",
    )(_transposing)
    for element in ("array", "index", "long_index")
}  # fmt: skip


def transposition(dtype: str, m: Matrices, element: str = "array") -> Task:
    """From ``given`` to ``copies``; ``element`` is the kind of their fields."""
    down, across = blocks_for(m.rows, EDGE), blocks_for(m.columns, EDGE)
    return Task(
        transposing_kernels[element].variant(dtype, threads=THREADS, element=element), m.many * down * across,
        "given copies", rows=m.rows, columns=m.columns, down=down, across=across, by_down=division(max(down, 1)),
        by_across=division(max(across, 1)), apart=m.apart, pitch=m.pitch, copies_apart=m.copies_apart,
        copy_pitch=m.copy_pitch,
    )  # fmt: skip
