"""Copies that bring arrays into the layout that a kernel reads: transposition and padding."""

from __future__ import annotations

from pycnn_kernels.cpu.gather import shown_positions
from pycnn_kernels.cpu.inlined import inlined
from pycnn_kernels.cpu.launch import Task, kernel
from pycnn_kernels.cpu.tile import interleave, lanes_of, separate, shift, transpose_square
from pycnn_kernels.problem import ConvProblem, Triple

#: Columns of one piece of work: a few squares of the largest vector.
_COLUMNS = 64

#: A matrix with so few rows is transposed element by element.
FEW = 4

#: Channels of an image, for which there is a shorter way.
RGB = 3


@inlined
def transpose_matrix(src, src_row, dst, dst_row, rows, columns):
    """``dst[j * dst_row + i] = src[i * src_row + j]`` for i < rows, j < columns.

    Squares of a vector's length go through registers. The last square along each axis overlaps the one before
    it; of a matrix that is smaller than a square, only what exists is read and written. Where there are but a few
    rows, going element by element is faster.
    """
    side = lanes_of(src)
    height, width = min(rows, side), min(columns, side)
    if columns == RGB and src_row == RGB:
        _separate(src, dst, dst_row, rows)
    elif rows == RGB and dst_row == RGB:
        _interleave(src, src_row, dst, columns)
    elif rows <= FEW or columns == 1 or (rows < side and columns < side):
        for i in range(rows):
            for j in range(columns):
                dst[j * dst_row + i] = src[i * src_row + j]
    else:
        for i in range(0, rows, side):
            i0 = min(i, rows - height)
            for j in range(0, columns, side):
                j0 = min(j, columns - width)
                transpose_square(src, i0 * src_row + j0, src_row, dst, j0 * dst_row + i0, dst_row, height, width)


@inlined
def _separate(src, dst, dst_row, pixels):
    """The channels of RGB pixels as rows."""
    whole = pixels - pixels % lanes_of(src)
    for i in range(0, whole, lanes_of(src)):
        separate(src, i * RGB, dst, i, dst_row, RGB)
    for i in range(whole, pixels):
        for c in range(RGB):
            dst[c * dst_row + i] = src[i * RGB + c]


@inlined
def _interleave(src, src_row, dst, pixels):
    """Rows of channels as RGB pixels."""
    whole = pixels - pixels % lanes_of(src)
    for i in range(0, whole, lanes_of(src)):
        interleave(src, i, src_row, dst, i * RGB, RGB)
    for i in range(whole, pixels):
        for c in range(RGB):
            dst[i * RGB + c] = src[c * src_row + i]


@inlined
def fill_planes(src, channels_last, n, H, W, C, first_h, rows, first_w, width, planes, plane):
    """Rows and columns of image n of src, (N, H, W, C) or channels first, as C planes of ``rows`` x ``width``.

    They begin at row ``first_h`` and column ``first_w`` of the image, and have zeros where it has no pixels. Plane c
    begins at ``planes[c * plane]``.
    """
    begin, end = max(-first_w, 0), min(W - first_w, width)  # columns of a plane that lie in the image
    begin, end = min(begin, width), max(end, begin)
    for r in range(rows):
        h = first_h + r
        exists = 0 <= h < H
        if exists and channels_last:
            source = shift(src, ((n * H + h) * W + begin + first_w) * C)
            transpose_matrix(source, C, shift(planes, r * width + begin), plane, end - begin, C)
        for c in range(C):
            row = shift(planes, c * plane + r * width)
            if exists and not channels_last:
                source = shift(src, ((n * C + c) * H + h) * W + first_w)
                for i in range(begin, end):
                    row[i] = source[i]
            for i in range(begin if exists else width):
                row[i] = 0
            for i in range(end if exists else width, width):
                row[i] = 0


@kernel(
    src="array", dst="array", batch="int", rows="int", columns="int",
    src_batch="int", src_row="int", dst_batch="int", dst_row="int", pieces="int",
)  # fmt: skip
def transpose_kernel(a, item, worker):
    """``dst[b, j, i] = src[b, i, j]`` for a batch of matrices with any distances between batches and rows.

    src: element (b, i, j) at ``b * src_batch + i * src_row + j``, i < rows, j < columns.
    dst: element (b, j, i) at ``b * dst_batch + j * dst_row + i``. Distances may be negative.
    """
    b = item // a.pieces
    first = (item - b * a.pieces) * _COLUMNS
    columns = min(_COLUMNS, a.columns - first)
    src = shift(a.src, b * a.src_batch + first)
    dst = shift(a.dst, b * a.dst_batch + first * a.dst_row)
    transpose_matrix(src, a.src_row, dst, a.dst_row, a.rows, columns)


def transposition(
    dtype: str, shape: tuple[int, int, int], src_strides: tuple[int, int], dst_strides: tuple[int, int]
) -> Task:
    """Makes ready to transpose each of a batch of matrices; see :func:`transpose_kernel`.

    Args:
        dtype: of the elements.
        shape: (batch, rows, columns) of src.
        src_strides, dst_strides: elements from one matrix to the next, and from one row to the next.

    Returns:
        A task that takes the addresses of the first elements of src and dst.
    """
    batch, rows, columns = shape
    # A batch of single columns, or of single rows, that lie next to each other is one matrix: the weights of 1x1
    # kernels. Alone each of them would be read or written element by element, a cache line for every one.
    if columns == 1 and src_strides[0] == 1:
        batch, columns = 1, batch
        src_strides, dst_strides = (0, src_strides[1]), (0, dst_strides[0])
    elif rows == 1 and dst_strides[0] == 1:
        batch, rows = 1, batch
        src_strides, dst_strides = (0, src_strides[0]), (0, dst_strides[1])
    pieces = -(-columns // _COLUMNS)
    return Task(
        transpose_kernel, dtype, batch * pieces, "src dst", parallel=batch * rows * columns > 1 << 15,
        batch=batch, rows=rows, columns=columns, pieces=pieces,
        src_batch=src_strides[0], src_row=src_strides[1], dst_batch=dst_strides[0], dst_row=dst_strides[1],
    )  # fmt: skip


def to_channels_last(dtype: str, N: int, C: int, pixels: int) -> Task:
    """Makes ready to bring (N, C, pixels) to (N, pixels, C)."""
    return transposition(dtype, (N, C, pixels), (C * pixels, pixels), (C * pixels, C))


def to_channels_first(dtype: str, N: int, C: int, pixels: int) -> Task:
    """Makes ready to bring (N, pixels, C) to (N, C, pixels)."""
    return transposition(dtype, (N, pixels, C), (C * pixels, C), (C * pixels, pixels))


@kernel(
    src="array", dst="array", d_positions="table", h_positions="table", w_positions="table",
    C="int", D="int", H="int", W="int", PD="int", PH="int", PW="int", left="int",
)  # fmt: skip
def pad_kernel(a, item, worker):
    """Copy x (N, D, H, W, C) into the middle of (N, PD, PH, PW, C); a piece is one row of PW.

    The tables say which element of x each position shows; -1 for a zero.
    """
    n, d, h = item // (a.PH * a.PD), a.d_positions[item // a.PH % a.PD], a.h_positions[item % a.PH]
    to = shift(a.dst, item * a.PW * a.C)
    if d < 0 or h < 0:
        for i in range(a.PW * a.C):
            to[i] = 0
        return
    source = shift(a.src, ((n * a.D + d) * a.H + h) * a.W * a.C)
    _show_pixels(a, source, to, 0, a.left)
    middle = shift(to, a.left * a.C)
    for i in range(a.W * a.C):
        middle[i] = source[i]
    _show_pixels(a, source, to, a.left + a.W, a.PW)


@inlined
def _show_pixels(a, source, to, first, last):
    """The pixels from first to last of a padded row."""
    for w in range(first, last):
        shown = a.w_positions[w]
        for c in range(a.C):
            to[w * a.C + c] = source[shown * a.C + c] if shown >= 0 else 0


def padding(problem: ConvProblem, padded_size: Triple) -> Task:
    """Makes ready to copy the x of a channels-last problem into a padded array of ``padded_size``.

    Returns:
        A task that takes the addresses of x and of the padded array.
    """
    (D, H, W), (PD, PH, PW) = problem.size, padded_size
    d, h, w = shown_positions(problem)
    return Task(
        pad_kernel, problem.dtype, problem.N * PD * PH, "src dst", d_positions=d, h_positions=h, w_positions=w,
        C=problem.C, D=D, H=H, W=W, PD=PD, PH=PH, PW=PW, left=problem.padding[2][0],
    )  # fmt: skip
