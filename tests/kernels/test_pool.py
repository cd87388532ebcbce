"""Pooling of every kind, forward and backward, against the oracle."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycnn_kernels.cpu import pool
from pycnn_kernels.plan import plan_for
from pycnn_kernels.problem import ChannelsProblem, PoolProblem
from tests import reference as oracle
from tests.kernels.problems import (
    DTYPES,
    EACH_HALF,
    LAYOUTS,
    channel_norm,
    check_pool,
    each_number_of_threads,
    expected_pool,
    numbers,
    pool_problem,
    run_pool,
    uniform,
)

KINDS = ("max", "average", "norm", "stochastic")


@pytest.fixture(params=itertools.product(KINDS, DTYPES, LAYOUTS), ids="-".join)
def form(request: pytest.FixtureRequest) -> dict[str, str]:
    """The kind, dtype and layout of a problem."""
    return dict(zip(("kind", "dtype", "layout"), request.param))


WINDOWS = [1, 2, 3, 4, (1, 3), (3, 2), (5, 1)]


@pytest.mark.parametrize("kernel", WINDOWS)
@pytest.mark.parametrize("stride", [1, 2, 3, (2, 1)])
def test_windows_and_strides(kernel: Any, stride: Any, form: dict[str, Any]) -> None:
    KH, KW = (kernel, kernel) if isinstance(kernel, int) else kernel
    half = ((KH // 2, KH // 2), (KW // 2, KW // 2))
    lopsided = ((0, KH // 2), (KW // 2, 0))
    for padding, ceil_mode in itertools.product((0, half, lopsided), (False, True)):
        check_pool(
            pool_problem(size=(9, 7), kernel=kernel, stride=stride, padding=padding, ceil_mode=ceil_mode, **form)
        )


@pytest.mark.parametrize("C", [1, 3, 10, 16, 17, 33])
@pytest.mark.parametrize("N", [0, 1, 3])
def test_channels_and_batches(C: int, N: int, form: dict[str, Any]) -> None:
    check_pool(pool_problem(N=N, C=C, size=(6, 7), kernel=3, stride=2, padding=1, **form))


def test_pieces_of_rows_of_several_images_and_planes(form: dict[str, Any]) -> None:
    for kernel, stride in (((1, 2, 2), (1, 2, 2)), ((2, 2, 1), (1, 1, 1)), ((1, 3, 3), (2, 1, 1))):
        check_pool(pool_problem(N=97, C=2, rank=3, size=(3, 4, 5), kernel=kernel, stride=stride, **form))


def test_nothing_is_pooled_from_no_channels(form: dict[str, Any]) -> None:
    check_pool(pool_problem(C=0, size=(4, 6), **form))


def test_one_window_holds_a_long_axis(form: dict[str, Any]) -> None:
    """Whatever a table has for each window, a line of the source has none in it."""
    size = (3_000_000, 1)
    x = np.zeros((1, 1, *size) if form["layout"] == "channels_first" else (1, *size, 1), form["dtype"])
    x.flat[7] = 3
    p = pool_problem(N=1, C=1, size=size, target=1, **form)
    drawn = (uniform(p),) if p.kind == "stochastic" else ()
    y = plan_for(f"{p.kind}_pool", p).run(x, *drawn)[0]
    assert y.item() == pytest.approx(3 / 3_000_000 if p.kind == "average" else 3)


def test_workers_note_in_cache_lines_of_their_own() -> None:
    for values in ({}, {"kernel": 3, "stride": 1}, {"rank": 3, "size": 5, "kernel": 3}):
        assert pool.MaxPool(pool_problem(**values)).worker_bytes % 64 == 0


@pytest.mark.parametrize("H", range(1, 12, 2))
def test_image_sizes(H: int, form: dict[str, Any]) -> None:
    for W in (1, 2, 5, 11):
        check_pool(pool_problem(size=(H, W), kernel=2, stride=2, padding=1, **form))


@pytest.mark.parametrize("dilation", [2, 3, (1, 2)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_dilated_maxima(dilation: Any, layout: str) -> None:
    for stride, padding in itertools.product((1, 2), (0, 1)):
        check_pool(pool_problem(size=9, kernel=3, stride=stride, padding=padding, dilation=dilation, layout=layout))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_dilated_windows_that_reach_around_the_input(layout: str) -> None:
    """They hold no element: -inf, as in PyTorch, and a gradient for nobody."""
    p = pool_problem(size=(1, 2), kernel=2, stride=1, padding=1, dilation=2, layout=layout)
    found = run_pool(p, numbers(p.x_shape, p.dtype), np.ones(p.y_shape, p.dtype))
    assert (found["y"] == -np.inf).all()
    assert (found["dx"] == 0).all()


@pytest.mark.parametrize("divisor", [0, 1, 7, -2])
@pytest.mark.parametrize("count_padding", [False, True])
@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_an_average_divides_by(divisor: int, count_padding: bool, ceil_mode: bool, layout: str) -> None:
    for kernel, padding in ((3, 1), (2, ((1, 0), (0, 1))), ((4, 3), ((2, 1), (0, 1)))):
        check_pool(
            pool_problem("average", size=(8, 6), kernel=kernel, stride=3, padding=padding, ceil_mode=ceil_mode,
                         count_padding=count_padding, divisor=divisor, layout=layout)
        )  # fmt: skip


@pytest.mark.parametrize(
    "volume",
    [
        {"rank": 3, "size": (5, 6, 7), "kernel": (2, 3, 2), "stride": (2, 1, 2), "padding": ((0, 1), (1, 1), (0, 0))},
        {"rank": 1, "size": (17,), "kernel": 4, "stride": 3, "padding": ((2, 1),)},
    ],
    ids=["volumes", "signals"],
)
def test_other_ranks(volume: dict[str, Any], form: dict[str, Any]) -> None:
    check_pool(pool_problem(**volume, **form))


@st.composite
def pool_problems(draw: st.DrawFn) -> PoolProblem:
    """Any problem whose windows fit the padded input, padding at most half a window."""
    kind = draw(st.sampled_from(KINDS))
    rank = draw(st.integers(1, 3))
    axes = []
    for _ in range(rank):
        kernel = draw(st.integers(1, 5))
        dilation = draw(st.integers(1, 2)) if kind == "max" else 1
        extent = (kernel - 1) * dilation + 1
        sides = draw(st.tuples(st.integers(0, extent // 2), st.integers(0, extent // 2)))
        size = draw(st.integers(max(1, extent - sum(sides)), max(extent, 9)))
        axes.append((size, kernel, draw(st.integers(1, 4)), sides, dilation))
    size, kernel, stride, padding, dilation = zip(*axes)
    return pool_problem(
        kind, N=draw(st.integers(0, 2)), C=draw(st.integers(1, 20)), size=size, kernel=kernel, stride=stride,
        padding=padding, dilation=dilation, rank=rank, ceil_mode=draw(st.booleans()),
        count_padding=draw(st.booleans()), divisor=draw(st.sampled_from([0, 0, 3])),
        dtype=draw(st.sampled_from(DTYPES)), layout=draw(st.sampled_from(LAYOUTS)),
    )  # fmt: skip


@given(pool_problems())
@settings(max_examples=300)
def test_any_problem(p: PoolProblem) -> None:
    check_pool(p)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("values", [0.0, -np.inf, 5.0])
def test_the_first_of_equals_wins(layout: str, values: float) -> None:
    p = pool_problem(kernel=3, stride=1, padding=1, layout=layout)
    x = np.full(p.x_shape, values, p.dtype)
    dy = numbers(p.y_shape, p.dtype)
    found, expected = run_pool(p, x, dy), expected_pool(p, x, dy)
    np.testing.assert_array_equal(found["index"], expected["index"])
    np.testing.assert_array_equal(found["y"], expected["y"])
    oracle.assert_close(found["dx"], expected["dx"])


def test_nan_reaches_exactly_the_windows_that_hold_it(form: dict[str, Any]) -> None:
    p = pool_problem(C=17, size=9, kernel=3, stride=2, padding=1, **form)
    x = np.abs(numbers(p.x_shape, p.dtype)) + 1
    spot = np.zeros(p.x_shape)
    spot.flat[[40, 301]] = 1
    clean = run_pool(p, x, numbers(p.y_shape, p.dtype))["y"]
    found = run_pool(p, np.where(spot, np.nan, x).astype(p.dtype), numbers(p.y_shape, p.dtype))["y"]
    touched = expected_pool(p._replace(kind="max"), spot, np.zeros(p.y_shape))["y"] > 0
    np.testing.assert_array_equal(np.isnan(found), touched)
    np.testing.assert_array_equal(found[~touched], clean[~touched])


@pytest.mark.parametrize("size", range(1, 9))
def test_adaptive_windows(size: int, form: dict[str, Any]) -> None:
    for target in (1, 2, 3, size, size + 3):
        check_pool(pool_problem(size=(size, 7), target=(target, 3), C=17, **form))


@pytest.mark.parametrize(("rank", "target"), [(1, (4,)), (3, (2, 3, 1))])
def test_adaptive_windows_of_other_ranks(rank: int, target: tuple[int, ...], form: dict[str, Any]) -> None:
    check_pool(pool_problem(rank=rank, size=(5, 6, 7)[:rank], target=target, **form))


def test_one_window_is_shared_by_blocks_of_channels(form: dict[str, Any]) -> None:
    """With few rows of results the channels are divided, so that every thread has something to do."""
    for C in (1, 40, 130):
        check_pool(pool_problem(N=1, C=C, size=(9, 8), target=1, **form))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_gradient_goes_to_the_nan(layout: str) -> None:
    p = pool_problem(C=1, N=1, size=4, kernel=2, layout=layout)
    x = numbers(p.x_shape, p.dtype)
    x.flat[5] = np.nan
    dx = run_pool(p, x, np.full(p.y_shape, 3, p.dtype))["dx"]
    assert dx.flat[5] == 3


@pytest.mark.parametrize("values", [np.inf, -np.inf])
def test_infinity_flows_through(values: float, form: dict[str, Any]) -> None:
    p = pool_problem(size=6, **form)
    y = run_pool(p, np.full(p.x_shape, values, p.dtype), numbers(p.y_shape, p.dtype))["y"]
    expected = {"norm": np.inf, "stochastic": max(values, 0)}.get(p.kind, values)  # nothing negative is drawn
    np.testing.assert_array_equal(y, np.full(p.y_shape, expected))


def test_draws_are_in_proportion() -> None:
    """Of 1, 0, 3 and -5 the first is drawn in a quarter of all cases, the third in three."""
    p = pool_problem("stochastic", N=1, C=20_000, size=(1, 4), kernel=(1, 4), stride=1)
    x = np.broadcast_to(np.array([1, 0, 3, -5], np.float32)[:, np.newaxis], (4, 20_000)).reshape(p.x_shape)
    y, index = plan_for("stochastic_pool", p).run(x, uniform(p))
    share = (y == 1).mean()
    assert abs(share - 0.25) < 0.015  # five standard deviations
    np.testing.assert_array_equal(y == 3, index == 2)
    np.testing.assert_array_equal(y == 1, index == 0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_largest_and_the_least_draw(dtype: str, layout: str) -> None:
    p = pool_problem("stochastic", C=17, size=6, kernel=3, stride=3, dtype=dtype, layout=layout)
    x = np.abs(numbers(p.x_shape, p.dtype)) + p.C
    for part, position in ((0.0, 0), (np.nextafter(np.array(1, p.dtype), np.array(0, p.dtype)), 8)):
        y, index = plan_for("stochastic_pool", p).run(x, np.full(p.index_shape, part, p.dtype))
        assert (index == position).all()
        corner = slice(position // 4, None, 3)
        np.testing.assert_array_equal(
            oracle.channels_last(y, p.layout), oracle.channels_last(x, p.layout)[:, corner, corner]
        )


def test_neither_runs_nor_threads_change_the_bits(form: dict[str, Any]) -> None:
    p = pool_problem(N=4, C=17, size=33, kernel=3, stride=2, padding=1, **form)  # large enough for threads
    x, dy = numbers(p.x_shape, p.dtype, 1), numbers(p.y_shape, p.dtype, 2)
    plain = run_pool(p, x, dy)
    for _ in each_number_of_threads():
        for name, array in run_pool(p, x, dy).items():
            np.testing.assert_array_equal(array, plain[name])


def test_positions_are_not_kept_unless_wanted() -> None:
    p = pool_problem()
    x = numbers(p.x_shape, p.dtype)
    y, index = plan_for("max_pool", p).run(x, skip=("index",))
    assert index is None
    np.testing.assert_array_equal(y, plan_for("max_pool", p).run(x)[0])


@pytest.mark.parametrize("skip", [(), ("index",)])
def test_bias_and_relu_after_the_greatest(form: dict[str, Any], skip: tuple[str, ...]) -> None:
    """To the last bit what they give before it; where nothing is greater than zero, too, and with NaN."""
    p = pool_problem(N=2, C=37, size=9, kernel=3, stride=2, padding=1, **form)
    x, bias = numbers(p.x_shape, p.dtype), numbers((p.C,), p.dtype, 5) - 1
    x.reshape(-1)[[3, 500]] = np.nan
    channels = (1, -1, 1, 1) if p.layout == "channels_first" else (-1,)
    before = x + bias.reshape(channels)
    for relu, changed in ((0, before), (1, np.maximum(before, 0))):
        y, _ = plan_for("max_pool", p).run(x, bias, skip=skip, scalars=(relu,))
        np.testing.assert_array_equal(y, plan_for("max_pool", p).run(changed)[0])


def normalised_apart(p: PoolProblem, x: np.ndarray, norm: dict[str, np.ndarray]) -> np.ndarray:
    """x, normalised by the operation of its own."""
    last = p.layout == "channels_last"
    q = ChannelsProblem(p.dtype, x.size // p.C if last else p.N, p.C, 1 if last else x[0, 0].size)
    # A variance of 1, whose root is exact, leaves the weight as it is.
    (y,) = plan_for("batch_norm_running", q).run(
        x.reshape(q.shape), norm["norm_mean"], np.ones(p.C, p.dtype), norm["norm_scale"], norm.get("norm_bias"),
        scalars=(0, 0),
    )  # fmt: skip
    return y.reshape(x.shape)


NORMALISED: list[dict[str, Any]] = [
    {"C": 70, "size": (9, 7), "kernel": 2},
    {"C": 17, "size": (7, 10), "kernel": 2, "stride": 1, "padding": 1},
    {"C": 3, "size": (6, 9), "kernel": 2, "ceil_mode": True},
    {"C": 1, "size": 8, "kernel": 2},
    {"C": 33, "size": (9, 8), "kernel": (1, 3), "stride": 2, "padding": ((0, 0), (1, 0))},
]


@pytest.mark.parametrize("pool", NORMALISED, ids=str)
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_elements_normalised_on_the_way(dtype: str, layout: str, with_bias: bool, pool: dict[str, Any]) -> None:
    """To the last bit what normalising them before gives, whatever the sign of the scale, with NaN and infinity."""
    p = pool_problem(dtype=dtype, layout=layout, **pool)
    x, norm = numbers(p.x_shape, dtype), channel_norm(p)
    if not with_bias:
        norm.pop("norm_bias")
    arrays = [norm.get(f"norm_{name}") for name in ("mean", "scale", "bias")]
    plan = plan_for("max_pool", p._replace(normalised=True))
    y, _ = plan.run(x, None, *arrays, skip=("index",))
    mean, scale, bias = (
        0 if array is None else array.reshape((-1, 1, 1) if layout == "channels_first" else -1).astype(np.float64)
        for array in arrays
    )
    exact = expected_pool(p, (x - mean) * scale + bias, np.zeros(p.y_shape))["y"]
    oracle.assert_close(y, exact)
    x.reshape(-1)[[0, 20, -1]] = np.nan, -np.inf, np.inf
    y, _ = plan.run(x, None, *arrays, skip=("index",))
    apart = normalised_apart(p, x, norm)
    expected = plan_for("max_pool", p).run(apart, skip=("index",))[0]
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(np.signbit(y), np.signbit(expected))


def test_elements_normalised_on_the_way_to_a_bias_and_a_relu_and_where_they_were_found() -> None:
    p = pool_problem(C=20, size=(9, 7), kernel=(1, 3))
    x, norm, bias = numbers(p.x_shape, p.dtype), channel_norm(p), numbers((p.C,), p.dtype, 5)
    found = plan_for("max_pool", p._replace(normalised=True)).run(x, bias, *norm.values(), scalars=(1,))
    for array, expected in zip(
        found, plan_for("max_pool", p).run(normalised_apart(p, x, norm), bias, scalars=(1,)), strict=True
    ):
        np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("half", EACH_HALF)
def test_halves_normalised_on_the_way_are_rounded_once(half: str) -> None:
    p = pool_problem(C=20, size=(9, 7), kernel=2, dtype=half)._replace(normalised=True)
    x, norm = numbers(p.x_shape, half), channel_norm(p)
    y, _ = plan_for("max_pool", p).run(x, None, *norm.values(), skip=("index",))
    wide, _ = plan_for("max_pool", p._replace(dtype="float32")).run(
        x.astype(np.float32), None, *norm.values(), skip=("index",)
    )
    np.testing.assert_array_equal(y, wide.astype(x.dtype))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_threads_do_not_change_the_bits_of_what_is_normalised(layout: str) -> None:
    p = pool_problem(N=4, C=17, size=33, kernel=2, layout=layout)._replace(normalised=True)
    arrays = numbers(p.x_shape, p.dtype), None, *channel_norm(p).values()
    plain, _ = plan_for("max_pool", p).run(*arrays, skip=("index",))
    for _ in each_number_of_threads():
        np.testing.assert_array_equal(plan_for("max_pool", p).run(*arrays, skip=("index",))[0], plain)


def test_what_normalises_is_asked_for() -> None:
    p = pool_problem()._replace(normalised=True)
    x, norm = numbers(p.x_shape, p.dtype), channel_norm(p)
    with pytest.raises(TypeError, match=r"norm_mean must be an array of shape .*; received None"):
        plan_for("max_pool", p).run(x)
    with pytest.raises(TypeError, match=r"norm_scale must be an array of shape .*; received None"):
        plan_for("max_pool", p).run(x, None, norm["norm_mean"])


def test_a_gradient_needs_the_positions() -> None:
    p = pool_problem()
    with pytest.raises(TypeError, match=r"index must be an array of shape .*; received None"):
        plan_for("max_pool_gradient", p).run(numbers(p.y_shape, p.dtype), None)


@pytest.mark.parametrize(("kernel", "dtype"), [((257, 255), "uint16"), ((256, 256), "uint32"), ((1000, 70), "uint32")])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_positions_in_two_or_four_bytes(kernel: tuple[int, int], dtype: str, layout: str) -> None:
    # The greatest number of two bytes stands for a window without elements.
    p = pool_problem(C=3, N=1, size=kernel, kernel=kernel, stride=1, layout=layout)
    x = np.zeros(p.x_shape, np.float32)
    for c, place in enumerate([0, math.prod(kernel) - 1, math.prod(kernel) // 2]):
        oracle.channels_last(x, layout).reshape(-1, 3)[place, c] = 1
    y, index = plan_for("max_pool", p).run(x)
    assert index.dtype == dtype
    assert index.ravel().tolist() == [0, math.prod(kernel) - 1, math.prod(kernel) // 2]
    np.testing.assert_array_equal(plan_for("max_pool_gradient", p).run(y, index)[0], x)


def test_windows_of_more_positions_than_float32_counts_are_refused() -> None:
    p = pool_problem(C=1, N=1, size=(4097, 4096), kernel=(4097, 4096), stride=1)
    with pytest.raises(ValueError, match=r"at most 16,777,216 elements; received 1 x 4097 x 4096"):
        plan_for("max_pool", p)


def test_one_pixel_with_several_windows(form: dict[str, Any]) -> None:
    """The two layouts are the same only where neither side has more than one pixel."""
    check_pool(pool_problem(C=3, size=1, kernel=2, stride=1, padding=1, **form))
