"""Transposition and zero padding against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from pycnn_kernels.cpu import layout
from tests.kernels.problems import DTYPES, conv_problem, each_number_of_threads, numbers

#: Around the squares of a vector's length and the 64 columns of a piece.
LENGTHS = [1, 2, 7, 8, 15, 16, 17, 33, 63, 64, 65, 130]
UNTOUCHED = -99


def canvas(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """An array to write into, larger than what is written, so that a write outside shows."""
    return np.full(shape, UNTOUCHED, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", LENGTHS)
def test_transpose(rows: int, dtype: str) -> None:
    for columns in LENGTHS:
        src = numbers((2, rows, columns), dtype)
        dst = canvas((2, columns + 1, rows), dtype)
        strides = (rows * columns, columns), ((columns + 1) * rows, rows)
        layout.transposition(dtype, src.shape, *strides).run(src.ctypes.data, dst.ctypes.data)
        np.testing.assert_array_equal(dst[:, :-1], src.transpose(0, 2, 1))
        assert (dst[:, -1] == UNTOUCHED).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_transpose_with_gaps_and_backwards(dtype: str) -> None:
    """Rows further apart than their length; matrices of the result in reverse, as weights are packed."""
    batch, rows, columns = 5, 19, 34
    src = numbers((batch, rows, columns + 3), dtype)
    dst = canvas((batch, columns, rows + 2), dtype)
    last = dst[-1].ctypes.data
    strides = (rows * (columns + 3), columns + 3), (-columns * (rows + 2), rows + 2)
    layout.transposition(dtype, (batch, rows, columns), *strides).run(src.ctypes.data, last)
    np.testing.assert_array_equal(dst[:, :, :rows], src[::-1, :, :columns].transpose(0, 2, 1))
    assert (dst[:, :, rows:] == UNTOUCHED).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("N", "C", "pixels"), [(0, 3, 5), (1, 3, 4), (2, 17, 33), (3, 64, 700)])
def test_channels_last_and_back(N: int, C: int, pixels: int, dtype: str) -> None:
    first = numbers((N, C, pixels), dtype)
    last, again = np.empty((N, pixels, C), dtype), np.empty((N, C, pixels), dtype)
    layout.to_channels_last(dtype, N, C, pixels).run(first.ctypes.data, last.ctypes.data)
    np.testing.assert_array_equal(last, first.transpose(0, 2, 1))
    layout.to_channels_first(dtype, N, C, pixels).run(last.ctypes.data, again.ctypes.data)
    np.testing.assert_array_equal(again, first)


def test_every_bit_survives() -> None:
    """A copy must not compute: NaN keeps its payload, -0 its sign."""
    bits = np.arange(2 * 40 * 40, dtype=np.uint32).reshape(2, 40, 40) * 0x00010101 + 0x7F800001
    dst = np.empty((2, 40, 40), np.uint32)
    layout.transposition("float32", bits.shape, (1600, 40), (1600, 40)).run(bits.ctypes.data, dst.ctypes.data)
    np.testing.assert_array_equal(dst, bits.transpose(0, 2, 1))


@pytest.mark.parametrize("batch", [1, 2, 40])
@pytest.mark.parametrize("length", [1, 3, 100])
def test_single_rows_and_columns(batch: int, length: int) -> None:
    """As in the weights of 1x1 kernels: neighbouring columns of a matrix that become rows, and back."""
    src = numbers((length, batch), "float32")
    dst = canvas((batch * length + 5,), "float32")
    layout.transposition("float32", (batch, length, 1), (1, batch), (length, length)).run(
        src.ctypes.data, dst.ctypes.data
    )
    np.testing.assert_array_equal(dst[:-5].reshape(batch, length), src.T)
    assert (dst[-5:] == UNTOUCHED).all()
    back = canvas((batch * length + 5,), "float32")
    layout.transposition("float32", (batch, 1, length), (length, length), (1, batch)).run(
        dst.ctypes.data, back.ctypes.data
    )
    np.testing.assert_array_equal(back[:-5].reshape(length, batch), src)
    assert (back[-5:] == UNTOUCHED).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("padding", [((1, 1), (1, 1)), ((0, 3), (2, 0)), ((0, 0), (0, 1)), ((5, 4), (0, 0))])
def test_pad(padding: tuple[tuple[int, int], ...], dtype: str) -> None:
    p = conv_problem(N=2, C=3, size=(4, 5), padding=padding, dtype=dtype)
    x = numbers(p.x_shape, dtype)
    expected = np.pad(x, [(0, 0), *padding, (0, 0)])
    dst = canvas((expected.size + 5,), dtype)
    layout.padding(p, (1, *expected.shape[1:3])).run(x.ctypes.data, dst.ctypes.data)
    np.testing.assert_array_equal(dst[:-5].reshape(expected.shape), expected)
    assert (dst[-5:] == UNTOUCHED).all()


def test_pad_volumes() -> None:
    padding = ((1, 0), (0, 2), (1, 1))
    p = conv_problem(N=2, C=2, size=(3, 2, 4), kernel=1, padding=padding, rank=3)
    x = numbers(p.x_shape, p.dtype)
    expected = np.pad(x, [(0, 0), *padding, (0, 0)])
    dst = np.full(expected.shape, np.nan, p.dtype)
    layout.padding(p, expected.shape[1:4]).run(x.ctypes.data, dst.ctypes.data)
    np.testing.assert_array_equal(dst, expected)


def test_threads_share_large_transpositions() -> None:
    src = numbers((3, 130, 700), "float32")
    for _ in each_number_of_threads():
        dst = np.empty((3, 700, 130), np.float32)
        layout.transposition("float32", src.shape, (91000, 700), (91000, 130)).run(src.ctypes.data, dst.ctypes.data)
        np.testing.assert_array_equal(dst, src.transpose(0, 2, 1))
