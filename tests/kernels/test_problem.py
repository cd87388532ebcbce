"""Shape arithmetic against its definitions, counted one by one."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pycnn_kernels.problem import effective_kernel, output_size, same_padding
from tests import reference as oracle
from tests.kernels.problems import conv_problem, pool_problem

sizes, kernels = st.integers(0, 40), st.integers(1, 9)
strides, dilations = st.integers(1, 5), st.integers(1, 4)
paddings = st.tuples(st.integers(0, 6), st.integers(0, 6))


@given(kernels, dilations)
def test_effective_kernel(kernel: int, dilation: int) -> None:
    taps = [k * dilation for k in range(kernel)]
    assert effective_kernel(kernel, dilation) == taps[-1] - taps[0] + 1


@given(sizes, kernels, strides, paddings, dilations)
def test_output_size(size: int, kernel: int, stride: int, padding: tuple[int, int], dilation: int) -> None:
    found = output_size(size, kernel, stride, padding, dilation)
    assert max(found, 0) == oracle.places(size, kernel, stride, padding, dilation)


@given(sizes, kernels, strides, paddings, dilations)
def test_output_size_rounded_up(size: int, kernel: int, stride: int, padding: tuple[int, int], dilation: int) -> None:
    assume(max(padding) <= effective_kernel(kernel, dilation) // 2)  # what pooling allows
    found = output_size(size, kernel, stride, padding, dilation, ceil_mode=True)
    assert max(found, 0) == oracle.pooling_places(size, kernel, stride, padding, dilation, True)
    assert found - output_size(size, kernel, stride, padding, dilation) in (0, 1)


@given(st.integers(1, 40), kernels, strides, dilations)
def test_same_padding(size: int, kernel: int, stride: int, dilation: int) -> None:
    """The least padding that gives as many windows as steps begin in the input; the odd element goes after."""
    begins = len(range(0, size, stride))
    before, after = same_padding(size, kernel, stride, dilation)
    assert after - before in (0, 1)
    assert oracle.places(size, kernel, stride, (before, after), dilation) == begins
    if before + after:
        assert oracle.places(size, kernel, stride, (before, after - 1), dilation) < begins


@pytest.mark.parametrize("G", [1, 2])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_shapes_and_work_of_a_convolution(rank: int, G: int) -> None:
    size, kernel = (7, 9, 8)[:rank], (2, 3, 1)[:rank]
    p = conv_problem(N=3, C=4, K=6, G=G, size=size, kernel=kernel, stride=2, padding=1, rank=rank)
    counts = tuple(oracle.places(s, k, 2, (1, 1), 1) for s, k in zip(size, kernel))
    assert p.x_shape == (3, *size, 4)
    assert p.y_shape == (3, *counts, 6)
    assert p.w_shape == (*kernel, 4 // G, 6)
    first = p._replace(layout="channels_first", weight_layout="OIHW")
    assert first.x_shape == (3, 4, *size)
    assert first.y_shape == (3, 6, *counts)
    assert first.w_shape == (6, 4 // G, *kernel)
    work = 3 * 6 * (4 // G)
    for one in (*counts, *kernel):
        work *= one
    assert p.multiply_adds == work


def test_shapes_of_a_pooling() -> None:
    p = pool_problem(N=2, C=5, size=(7, 8), kernel=3, stride=2, ceil_mode=True)
    assert p.x_shape == (2, 7, 8, 5)
    assert p.y_shape == (2, 3, 4, 5)
    assert p._replace(layout="channels_first").y_shape == (2, 5, 3, 4)


def test_problems_are_values() -> None:
    """Equal problems are one key of a dictionary, in every process."""
    a, b = conv_problem(), conv_problem()
    assert a == b
    assert hash(a) == hash(b)
    assert a != conv_problem(stride=2)
    assert pickle.loads(pickle.dumps(a)) == a
    with pytest.raises(AttributeError):
        a.N = 5  # type: ignore[misc]
