"""The kernels over flat arrays and rows of channels against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from pycnn_kernels.cpu.elementwise import PIECE, sum_parts
from pycnn_kernels.plan import plan_for
from pycnn_kernels.problem import ChannelsProblem
from tests import reference as oracle
from tests.kernels.problems import DTYPES, each_number_of_threads, numbers

#: (pixels, channels, inner): inner is 1 in channels last.
SHAPES = [(0, 3, 1), (1, 1, 1), (7, 10, 1), (33, 64, 1), (5000, 3, 1), (2, 3, 35), (40, 17, 9), (0, 4, 6), (3, 5, 0)]


def arrays(shape: tuple[int, ...], dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """dy and y, where y is 0 for about half of the elements."""
    return numbers(shape, dtype, 1), np.maximum(numbers(shape, dtype, 2), 0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_in_front_of_relu_and_bias(shape: tuple[int, ...], dtype: str) -> None:
    dy, y = arrays(shape, dtype)
    dz, db = plan_for("bias_activation_gradient", ChannelsProblem(dtype, *shape)).run(dy, y)
    expected = np.where(y > 0, dy, 0)
    np.testing.assert_array_equal(dz, expected)
    oracle.assert_close(db, expected.astype(np.float64).sum(axis=(0, 2)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_bias_alone_and_relu_alone(shape: tuple[int, ...], dtype: str) -> None:
    dy, y = arrays(shape, dtype)
    plan = plan_for("bias_activation_gradient", ChannelsProblem(dtype, *shape))
    dz, db = plan.run(dy, None, skip=("dz",))
    assert dz is None
    oracle.assert_close(db, dy.astype(np.float64).sum(axis=(0, 2)))
    dz, db = plan.run(dy, y, skip=("db",))
    assert db is None
    np.testing.assert_array_equal(dz, np.where(y > 0, dy, 0))


def test_nan() -> None:
    """A NaN in y passes its gradient on; the gradient of a masked element is dropped, NaN or not."""
    y = np.array([np.nan, 0, 1, 0], np.float32).reshape(1, 4, 1)
    dy = np.array([5, np.nan, np.nan, 3], np.float32).reshape(1, 4, 1)
    dz, db = plan_for("bias_activation_gradient", ChannelsProblem("float32", 1, 4)).run(dy, y)
    np.testing.assert_array_equal(dz.ravel(), [5, 0, np.nan, 0])
    np.testing.assert_array_equal(db, [5, 0, np.nan, 0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(5000, 17, 1), (64, 10, 300)])
def test_threads_do_not_change_the_bits(shape: tuple[int, ...], dtype: str) -> None:
    dy, y = arrays(shape, dtype)
    problem = ChannelsProblem(dtype, *shape)
    plain = plan_for("bias_activation_gradient", problem).run(dy, y)
    for _ in each_number_of_threads():
        for found, expected in zip(plan_for("bias_activation_gradient", problem).run(dy, y), plain):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [0, 1, 2, 33])
@pytest.mark.parametrize("size", [1, 17, PIECE, PIECE + 1])
def test_parts_are_added_in_their_order(count: int, size: int, dtype: str) -> None:
    parts = numbers((count, size), dtype)
    total = np.full(size + 1, 7, dtype)  # the last element lies behind the sum and must stay
    sum_parts(dtype, count, size).run(parts.ctypes.data, total.ctypes.data)
    expected = np.zeros(size, dtype)
    for part in parts:
        expected += part
    np.testing.assert_array_equal(total[:-1], expected)
    assert total[-1] == 7
