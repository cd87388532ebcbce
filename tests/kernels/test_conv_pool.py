"""Convolution and max pooling in one pass and in two, against the oracle's convolution and pooling."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycnn_kernels.choice import choose
from pycnn_kernels.cpu import conv_pool
from pycnn_kernels.cpu.conv_pool import divide
from pycnn_kernels.plan import plan_for
from pycnn_kernels.problem import ConvPoolProblem
from tests import reference as oracle
from tests.kernels.problems import (
    DTYPES,
    EACH_HALF,
    LAYOUTS,
    WEIGHT_LAYOUTS,
    bands_of,
    check_conv_pool,
    conv_arrays,
    conv_pool_arrays,
    conv_pool_bound,
    conv_pool_problem,
    conv_problem,
    each_number_of_threads,
    expected_conv_pool,
    run_conv_pool,
)


@pytest.fixture(params=itertools.product(DTYPES, LAYOUTS, WEIGHT_LAYOUTS), ids="-".join)
def form(request: pytest.FixtureRequest) -> dict[str, str]:
    """The dtype and layouts of a problem."""
    return dict(zip(("dtype", "layout", "weight_layout"), request.param))


def image_bytes(p: ConvPoolProblem) -> int:
    return int(np.prod(p.conv.y_shape[1:])) * (8 if p.dtype == "float64" else 4)


def check_all_bands(p: ConvPoolProblem) -> None:
    """Bands of one pooled row, of some rows, of one image and of two."""
    image = image_bytes(p)
    check_conv_pool(p, 1, image // 2, image, 2 * image)


POOLINGS: list[dict[str, Any]] = [
    {"kernel": 2},
    {"kernel": 2, "stride": 1},
    {"kernel": 3, "stride": 2},
    {"kernel": 3, "padding": 1},
    {"kernel": 2, "stride": 3, "ceil_mode": True},
    {"kernel": 3, "padding": ((1, 0), (0, 1)), "ceil_mode": True},
    {"kernel": (3, 1), "stride": (1, 2), "dilation": (2, 1), "padding": ((2, 2), (0, 0))},
    {"kernel": 2, "stride": 1, "dilation": 4, "padding": 1},
]


@pytest.mark.parametrize("pooling", POOLINGS, ids=str)
def test_windows(pooling: dict[str, Any], form: dict[str, str]) -> None:
    for size in ((11, 9), (8, 12)):
        check_all_bands(conv_pool_problem(conv_problem(size=size, bias=True, activation="relu", **form), **pooling))


CONVOLUTIONS: list[dict[str, Any]] = [
    {"kernel": 1},
    {"kernel": 5, "padding": 2},
    {"kernel": (2, 3), "stride": 2, "padding": ((1, 0), (0, 2))},
    {"kernel": 3, "padding": ((2, 2), (2, 0)), "dilation": 2},
    {"kernel": 3, "stride": (3, 1), "dilation": (1, 2)},
    {"C": 33, "K": 40, "padding": 1},
    {"C": 8, "K": 12, "G": 4, "padding": 1},
    {"C": 17, "K": 17, "G": 17, "padding": 1},
]


@pytest.mark.parametrize("convolution", CONVOLUTIONS, ids=str)
def test_convolutions(convolution: dict[str, Any], form: dict[str, str]) -> None:
    conv = conv_problem(size=(13, 12), N=3, activation="relu", **convolution, **form)
    for pooling in ({"kernel": 2}, {"kernel": 3, "padding": 1}):
        check_all_bands(conv_pool_problem(conv, **pooling))


EPILOGUES: list[dict[str, Any]] = [
    {"residual": True},
    {"scale": True, "bias": True, "residual": True, "activation": "relu"},
    {"activation": "tanh", "bias": True},
    {"activation": "leaky_relu", "slope": 0.3},
]


@pytest.mark.parametrize("epilogue", EPILOGUES, ids=str)
def test_epilogues(epilogue: dict[str, Any], form: dict[str, str]) -> None:
    for K in (5, 33):
        check_all_bands(conv_pool_problem(conv_problem(K=K, size=(10, 7), padding=1, **epilogue, **form)))


@pytest.mark.parametrize("H", range(2, 12))
def test_image_sizes(H: int, form: dict[str, str]) -> None:
    for W, N in ((3, 1), (8, 5)):
        check_all_bands(conv_pool_problem(conv_problem(N=N, size=(H, W), padding=1, **form), kernel=2))


@pytest.mark.parametrize(
    ("convolution", "pooling", "computed"),
    [
        ({"size": (15, 14), "kernel": 3}, {"kernel": 2}, (12, 12)),
        ({"size": (15, 14), "kernel": 3, "padding": 1}, {"kernel": 3, "stride": 3}, (15, 12)),
        ({"size": (15, 14), "kernel": 3}, {"kernel": 2, "padding": 1}, (13, 12)),
        ({"size": (15, 14), "kernel": 3}, {"kernel": 2, "ceil_mode": True}, (13, 12)),
        ({"size": (17, 20), "kernel": 3, "stride": 2, "padding": 1, "dilation": 2}, {"kernel": 2, "stride": 3}, (8, 8)),
        ({"size": (15, 14), "kernel": 3, "residual": True}, {"kernel": 2}, (13, 12)),
    ],
    ids=str,
)  # fmt: skip
def test_what_no_window_covers_is_not_computed(
    convolution: dict[str, Any], pooling: dict[str, Any], computed: tuple[int, int], form: dict[str, str]
) -> None:
    p = conv_pool_problem(conv_problem(**convolution, **form), **pooling)
    conv, pool = conv_pool._pooled_part(p)
    assert conv.output[1:] == pool.size[1:] == computed
    assert pool.output == p.pool.output
    check_all_bands(p)


def test_no_images(form: dict[str, str]) -> None:
    check_conv_pool(conv_pool_problem(conv_problem(N=0, **form)), 1, 1 << 20)


@pytest.mark.parametrize("rank", [1, 3])
def test_other_ranks(rank: int, form: dict[str, str]) -> None:
    """Volumes in whole; a signal is one row."""
    p = conv_pool_problem(conv_problem(N=3, size=(9, 8, 7)[-rank:], rank=rank, padding=1, **form))
    check_conv_pool(p, *(size * image_bytes(p) for size in (1, 2)))
    if rank == 1:
        check_conv_pool(p, 1)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_padding_that_continues_the_image(mode: str, form: dict[str, str]) -> None:
    """Whole images have any; bands of rows only have it at the sides."""
    everywhere = conv_pool_problem(conv_problem(size=(9, 7), padding=1, padding_mode=mode, **form))
    check_conv_pool(everywhere, image_bytes(everywhere))
    check_all_bands(conv_pool_problem(conv_problem(size=(9, 7), padding=((0, 0), (2, 1)), padding_mode=mode, **form)))


REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"size": (4, 5, 6), "rank": 3}, {}, "volumes whose convolution takes at most 1 bytes, or images"),
    ({"padding": 1, "padding_mode": "reflect"}, {}, "zeros above and below the images; .* 'reflect'"),
    ({"padding": ((3, 0), (0, 0))}, {}, r"reach into the image; received the padding \(3, 0\) for 3 rows"),
]


@pytest.mark.parametrize(("convolution", "pooling", "reason"), REFUSED, ids=str)
def test_what_one_pass_refuses_takes_two(convolution: dict[str, Any], pooling: dict[str, Any], reason: str) -> None:
    p = conv_pool_problem(conv_problem(**convolution), **pooling)
    arrays = conv_arrays(p.conv)
    with bands_of(1):
        with pytest.raises(ValueError, match=reason):
            plan_for("conv_max_pool", p, algorithm="one_pass")
        expected = expected_conv_pool(p, arrays)
        oracle.assert_close(run_conv_pool(p, "auto", arrays), expected, conv_pool_bound(p, arrays, expected))


@pytest.mark.parametrize("half", EACH_HALF)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_halves_are_rounded_once(half: str, layout: str) -> None:
    p = conv_pool_problem(
        conv_problem(size=(11, 9), bias=True, residual=True, activation="relu", dtype=half, layout=layout), kernel=3
    )
    arrays = conv_arrays(p.conv)
    with bands_of(1000):
        for algorithm in ("one_pass", "two_passes"):
            found = run_conv_pool(p, algorithm, arrays)
            assert found.dtype.name == half
            oracle.assert_rounded(found, expected_conv_pool(p, arrays), 3e-5)


NORMALISED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"activation": "relu", "bias": True}, {"kernel": 2}),
    ({"K": 33, "size": (9, 13)}, {"kernel": (1, 3), "stride": (2, 1), "padding": ((0, 0), (1, 0)), "ceil_mode": True}),
]


def normalised_problem(convolution: dict[str, Any], pooling: dict[str, Any]) -> ConvPoolProblem:
    p = conv_pool_problem(conv_problem(**convolution), **pooling)
    return p._replace(pool=p.pool._replace(normalised=True))


@pytest.mark.parametrize(("convolution", "pooling"), NORMALISED, ids=str)
def test_normalised_between_convolution_and_pooling(
    convolution: dict[str, Any], pooling: dict[str, Any], form: dict[str, str]
) -> None:
    """Of two passes to the last bit the convolution's operation and then the pooling's."""
    p = normalised_problem({"size": (11, 9), **convolution, **form}, pooling)
    check_all_bands(p)
    arrays = conv_pool_arrays(p)
    (between,) = plan_for("conv_forward", p.conv).run(arrays["x"], arrays["w"], arrays["b"] if p.conv.bias else None)
    norm = [arrays[f"norm_{name}"] for name in ("mean", "scale", "bias")]
    expected, _ = plan_for("max_pool", p.pool).run(between, None, *norm, skip=("index",))
    if form["layout"] == "channels_last" and form["weight_layout"] == "HWIO":  # otherwise another algorithm may serve
        np.testing.assert_array_equal(run_conv_pool(p, "two_passes", arrays), expected)
    bound = conv_pool_bound(p, arrays, expected.astype(np.float64))
    oracle.assert_close(run_conv_pool(p, "two_passes", arrays), expected, bound)


@pytest.mark.parametrize("half", EACH_HALF)
def test_halves_that_are_normalised_are_rounded_once(half: str) -> None:
    p = normalised_problem({"size": (11, 9), "bias": True, "activation": "relu", "dtype": half}, {"kernel": 2})
    arrays = conv_pool_arrays(p)
    with bands_of(1000):
        for algorithm in ("one_pass", "two_passes"):
            oracle.assert_rounded(run_conv_pool(p, algorithm, arrays), expected_conv_pool(p, arrays), 3e-5)


def test_what_normalises_is_asked_for() -> None:
    p = normalised_problem({}, {"kernel": 2})
    with pytest.raises(TypeError, match=r"norm_mean must be an array of shape .*; received None"):
        plan_for("conv_max_pool", p).run(conv_arrays(p.conv)["x"], conv_arrays(p.conv)["w"])


def test_nan_stays_in_the_windows_that_hold_it() -> None:
    """Of a direct convolution; Winograd's spreads it over tiles."""
    conv = conv_problem(N=1, C=1, K=16, size=(12, 12), stride=2, padding=1)
    p = conv_pool_problem(conv, kernel=2)
    arrays = conv_arrays(conv)
    arrays["x"][0, 5, 5] = np.nan
    with bands_of(1):
        found = run_conv_pool(p, "one_pass", arrays)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected_conv_pool(p, arrays)))
    assert 0 < np.isnan(found).sum() < found.size


MUCH_WORK: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"N": 2, "C": 3, "K": 10, "size": (120, 90), "kernel": 5}, {"kernel": 2}),
    ({"N": 3, "C": 16, "K": 32, "size": 40, "padding": 1}, {"kernel": 3, "padding": 1}),
    ({"N": 20, "C": 8, "K": 33, "size": 20, "stride": 2}, {"kernel": 2}),
]


@pytest.mark.parametrize(("convolution", "pooling"), MUCH_WORK, ids=str)
def test_threads_and_repetition_do_not_change_the_bits(
    convolution: dict[str, Any], pooling: dict[str, Any], form: dict[str, str]
) -> None:
    p = conv_pool_problem(conv_problem(bias=True, activation="relu", **convolution, **form), **pooling)
    arrays = conv_arrays(p.conv)
    with bands_of(100_000):
        plain = run_conv_pool(p, "one_pass", arrays)
        expected = expected_conv_pool(p, arrays)
        oracle.assert_close(plain, expected, conv_pool_bound(p, arrays, expected))
        for _ in each_number_of_threads():
            for _ in range(2):
                np.testing.assert_array_equal(run_conv_pool(p, "one_pass", arrays), plain)


def test_bands_fit_the_cache_and_there_are_few_different_ones() -> None:
    """Not more of each kind than first, middle and last, for kernels and tables are made ready for each."""
    p = conv_pool_problem(conv_problem(N=4, C=3, K=64, size=224, kernel=7, stride=2, padding=3), kernel=3, padding=1)
    bands = divide(p)
    assert len(bands) > 4
    assert len({band.problem for band in bands}) <= 4
    assert max(image_bytes(band.problem) for band in bands) <= 512 << 10
    rows = [band.problem.pool.output[1] for band in bands if band.problem.conv.N]
    assert sum(rows) == 4 * p.pool.output[1]


def test_bands_of_which_some_bring_weights_together(form: dict[str, str]) -> None:
    """The first has 240 pixels, the next ones 280: from 256 on rows of 512 bytes are copied."""
    conv = conv_problem(N=1, C=4, K=128 if form["dtype"] == "float32" else 64, size=(22, 42), **form)
    check_conv_pool(conv_pool_problem(conv, kernel=3, stride=2, padding=1), 143_360)


@pytest.mark.parametrize("images", [1, 3, 7, 50, 1000])
@pytest.mark.parametrize("size", [14, 34, 130])
def test_bands_are_for_many_cores_and_cover_the_images_in_order(images: int, size: int) -> None:
    p = conv_pool_problem(conv_problem(N=images, C=3, K=32, size=size), kernel=2)
    bands = divide(p)
    assert len(bands) >= min(images * image_bytes(p) // (64 << 10), 25)
    begin = 0
    for band in bands:
        assert band.y == begin
        begin += band.problem.conv.N * int(np.prod(band.problem.pool.output))
    assert begin == images * np.prod(p.pool.output)


def test_one_pass_is_not_for_many_weights() -> None:
    """Each band would read them anew."""
    image = conv_pool_problem(conv_problem(N=16, C=3, K=10, size=300, kernel=5), kernel=2)
    small = conv_pool_problem(conv_problem(N=50, C=3, K=32, size=32), kernel=2)
    many_weights = conv_pool_problem(conv_problem(N=8, C=256, K=256, size=56, padding=1), kernel=2)
    names = [choose("conv_max_pool", p).name for p in (image, small, many_weights)]
    assert names == ["one_pass", "one_pass", "two_passes"]


@st.composite
def conv_pool_problems(draw: st.DrawFn) -> ConvPoolProblem:
    """Any images, windows that fit, and padding of less than a window."""
    conv_axes, pool_axes = [], []
    for _ in range(2):
        kernel, dilation, stride = draw(st.integers(1, 4)), draw(st.integers(1, 2)), draw(st.integers(1, 3))
        extent = (kernel - 1) * dilation + 1
        sides = draw(st.tuples(st.integers(0, extent - 1), st.integers(0, extent - 1)))
        size = draw(st.integers(max(1, extent - sum(sides)), extent + 12))
        conv_axes.append((size, kernel, stride, sides, dilation))
        out = (size + sum(sides) - extent) // stride + 1
        window = draw(st.integers(1, min(4, out)))
        half = st.integers(0, window // 2)
        pool_axes.append((window, draw(st.integers(1, 4)), draw(st.tuples(half, half))))
    size, kernel, stride, padding, dilation = zip(*conv_axes)
    conv = conv_problem(
        N=draw(st.integers(1, 3)), C=draw(st.integers(1, 9)), K=draw(st.sampled_from([1, 3, 10, 17, 33])), size=size,
        kernel=kernel, stride=stride, padding=padding, dilation=dilation, bias=draw(st.booleans()),
        residual=draw(st.booleans()), activation=draw(st.sampled_from([None, "relu", "sigmoid"])),
        layout=draw(st.sampled_from(LAYOUTS)), weight_layout=draw(st.sampled_from(WEIGHT_LAYOUTS)),
    )  # fmt: skip
    window, step, sides = zip(*pool_axes)
    return conv_pool_problem(conv, kernel=window, stride=step, padding=sides, ceil_mode=draw(st.booleans()))


@given(conv_pool_problems(), st.integers(1, 30_000))
@settings(max_examples=150, deadline=None)
def test_any_problem(p: ConvPoolProblem, size: int) -> None:
    check_conv_pool(p, size)
