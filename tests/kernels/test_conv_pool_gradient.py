"""The gradients of weights and bias behind max pooling, in one pass and in two, against the oracle's."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from pycnn_kernels.choice import able, choose
from pycnn_kernels.plan import plan_for
from pycnn_kernels.problem import ConvPoolProblem
from tests import reference as oracle
from tests.kernels.problems import (
    DTYPES,
    EACH_HALF,
    LAYOUTS,
    WEIGHT_LAYOUTS,
    bands_of,
    check_conv_pool_gradient,
    conv_pool_gradient_arrays,
    conv_pool_problem,
    conv_problem,
    each_number_of_threads,
    expected_conv_pool_gradient,
)
from tests.kernels.test_conv_pool import CONVOLUTIONS, MUCH_WORK, POOLINGS, conv_pool_problems, image_bytes

OPERATION = "conv_max_pool_weight_gradient"


@pytest.fixture(params=itertools.product(DTYPES, LAYOUTS, WEIGHT_LAYOUTS), ids="-".join)
def form(request: pytest.FixtureRequest) -> dict[str, str]:
    """The dtype and layouts of a problem."""
    return dict(zip(("dtype", "layout", "weight_layout"), request.param))


def check_all_bands(p: ConvPoolProblem) -> None:
    """Bands of one pooled row, of some rows, of one image and of two."""
    image = image_bytes(p)
    check_conv_pool_gradient(p, 1, image // 2, image, 2 * image)


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("pooling", POOLINGS, ids=str)
def test_windows(pooling: dict[str, Any], activation: str | None, form: dict[str, str]) -> None:
    """Windows that overlap, leave rows out, reach into padding and lie in it altogether."""
    for size in ((11, 9), (8, 12)):
        conv = conv_problem(size=size, bias=True, activation=activation, **form)
        check_all_bands(conv_pool_problem(conv, **pooling))


@pytest.mark.parametrize("convolution", CONVOLUTIONS, ids=str)
def test_convolutions(convolution: dict[str, Any], form: dict[str, str]) -> None:
    conv = conv_problem(size=(13, 12), N=3, bias=True, activation="relu", **convolution, **form)
    for pooling in ({"kernel": 2}, {"kernel": 3, "padding": 1}):
        check_all_bands(conv_pool_problem(conv, **pooling))


@pytest.mark.parametrize("K", [1, 6, 8])
@pytest.mark.parametrize("C", [1, 3, 4])
def test_few_channels_and_filters(C: int, K: int, form: dict[str, str]) -> None:
    """So many pixels that a row of the kernel takes the lanes."""
    conv = conv_problem(N=2, C=C, K=K, size=(40, 23), kernel=5, bias=True, activation="relu", padding=1, **form)
    check_all_bands(conv_pool_problem(conv, kernel=2))


def test_no_images(form: dict[str, str]) -> None:
    check_conv_pool_gradient(conv_pool_problem(conv_problem(N=0, bias=True, activation="relu", **form)), 1, 1 << 20)


@pytest.mark.parametrize("rank", [1, 3])
def test_other_ranks(rank: int, form: dict[str, str]) -> None:
    """Volumes in whole; a signal is one row."""
    conv = conv_problem(N=3, size=(9, 8, 7)[-rank:], rank=rank, padding=1, bias=True, activation="relu", **form)
    p = conv_pool_problem(conv)
    check_conv_pool_gradient(p, *(size * image_bytes(p) for size in (1, 2)))


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_padding_that_continues_the_image(mode: str, form: dict[str, str]) -> None:
    check_all_bands(conv_pool_problem(conv_problem(size=(9, 7), padding=1, padding_mode=mode, **form)))


@pytest.mark.parametrize("half", EACH_HALF)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_halves_are_rounded_once(half: str, layout: str) -> None:
    conv = conv_problem(size=(11, 9), bias=True, activation="relu", dtype=half, layout=layout)
    p = conv_pool_problem(conv, kernel=3)
    arrays = conv_pool_gradient_arrays(p)
    expected = expected_conv_pool_gradient(p, **arrays)
    with bands_of(1000):
        for algorithm in ("one_pass", "two_passes"):
            found = plan_for(OPERATION, p, algorithm=algorithm).run(*arrays.values())
            for array, name in zip(found, ("dw", "db")):
                assert array.dtype.name == half
                oracle.assert_rounded(array, expected[name], 3e-5)


def test_nothing_flows_through_a_closed_relu() -> None:
    p = conv_pool_problem(conv_problem(size=12, bias=True, activation="relu"), kernel=2)
    arrays = conv_pool_gradient_arrays(p)
    arrays["y"] = np.zeros_like(arrays["y"])
    arrays["dy"][...] = np.nan
    for algorithm in ("one_pass", "two_passes"):
        for array in plan_for(OPERATION, p, algorithm=algorithm).run(*arrays.values()):
            assert not array.any()


def test_arrays_are_asked_for() -> None:
    p = conv_pool_problem(conv_problem(size=12, bias=True, activation="relu"), kernel=2)
    arrays = conv_pool_gradient_arrays(p)
    with pytest.raises(TypeError, match=r"y must be an array of shape .*; received None"):
        plan_for(OPERATION, p).run(arrays["x"], arrays["dy"], arrays["index"])
    with pytest.raises(TypeError, match="index must have the dtype uint16; received int64"):
        plan_for(OPERATION, p).run(arrays["x"], arrays["dy"], arrays["index"].astype(np.int64), arrays["y"])


@pytest.mark.parametrize(("convolution", "pooling"), MUCH_WORK, ids=str)
def test_threads_and_repetition_do_not_change_the_bits(
    convolution: dict[str, Any], pooling: dict[str, Any], form: dict[str, str]
) -> None:
    p = conv_pool_problem(conv_problem(bias=True, activation="relu", **convolution, **form), **pooling)
    arrays = conv_pool_gradient_arrays(p)
    with bands_of(100_000):
        plain = plan_for(OPERATION, p, algorithm="one_pass").run(*arrays.values())
        expected = expected_conv_pool_gradient(p, **arrays)
        for array, name in zip(plain, ("dw", "db")):
            oracle.assert_close(array, expected[name])
        for _ in each_number_of_threads():
            for _ in range(2):
                again = plan_for(OPERATION, p, algorithm="one_pass").run(*arrays.values())
                for one, other in zip(again, plain):
                    np.testing.assert_array_equal(one, other)


def test_one_pass_is_for_direct_sums() -> None:
    first = conv_pool_problem(conv_problem(N=50, C=3, K=32, size=32), kernel=2)
    many_channels = conv_pool_problem(conv_problem(N=8, C=128, K=128, size=56, padding=1), kernel=2)
    assert [choose(OPERATION, p).name for p in (first, many_channels)] == ["one_pass", "two_passes"]


@given(conv_pool_problems(), st.integers(1, 30_000))
@settings(max_examples=100, deadline=None)
def test_any_problem(p: ConvPoolProblem, size: int) -> None:
    conv = p.conv._replace(residual=False, bias=True, activation="relu" if p.conv.activation else None)
    q = ConvPoolProblem(conv, p.pool)
    with bands_of(size):
        fits = "one_pass" in [algorithm.name for algorithm in able(OPERATION, q)]
    event(f"one pass: {fits}")
    check_conv_pool_gradient(q, *((size,) if fits else ()))
