"""Pooling on the GPU, forward and backward, against the oracle."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from pycnn_kernels.cuda import pool
from pycnn_kernels.plan import plan_for
from pycnn_kernels.problem import PoolProblem
from tests import reference as oracle
from tests.cuda.sass import ARCHITECTURES, count, sass, spills
from tests.kernels.problems import (
    DTYPES,
    LAYOUTS,
    channel_norm,
    check_pool,
    expected_pool,
    numbers,
    pool_problem,
    run_on_host,
    run_pool,
)

KINDS = ("max", "average", "norm", "stochastic")

#: Written out and in tables, with and without overlaps, gaps and padding.
WINDOWS: list[dict[str, Any]] = [
    {"kernel": 2},
    {"size": (5, 6), "kernel": 2, "stride": 1, "padding": ((0, 1), (1, 0))},
    {"size": (4, 5), "kernel": 3, "stride": 2, "padding": 1, "ceil_mode": True},
    {"size": (4, 7), "kernel": (1, 3), "stride": (1, 3)},
    {"size": (6, 5), "kernel": (4, 3), "stride": 3, "padding": ((2, 1), (0, 1))},
    {"size": (5, 5), "kernel": 2, "stride": 3},
]


@pytest.mark.parametrize("windows", WINDOWS, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_windows(device: Any, kind: str, layout: str, windows: dict[str, Any]) -> None:
    for C in (3, 4) if layout == "channels_last" else (2,):
        check_pool(pool_problem(kind, **{"N": 1, "C": C, "size": (4, 5), "layout": layout} | windows), "cuda")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_double_precision(device: Any, kind: str, layout: str) -> None:
    check_pool(pool_problem(kind, C=4, size=(4, 5), dtype="float64", layout=layout), "cuda")
    check_pool(pool_problem(kind, C=2, kernel=3, padding=1, dtype="float64", layout=layout), "cuda")


VOLUMES: list[dict[str, Any]] = [
    {"rank": 3, "size": (3, 4, 5), "kernel": (2, 3, 2), "stride": (2, 1, 2), "padding": ((0, 1), (1, 1), (0, 0))},
    {"rank": 3, "size": (4, 4, 3), "kernel": (1, 2, 2), "stride": (2, 2, 1)},
    {"rank": 3, "size": (3, 4, 4), "kernel": (1, 2, 2), "stride": (1, 2, 2)},
    {"rank": 1, "size": (9,), "kernel": 4, "stride": 3, "padding": ((2, 1),)},
    {"rank": 1, "size": (8,), "kernel": 2, "stride": 2},
]


@pytest.mark.parametrize("volume", VOLUMES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_other_ranks(device: Any, layout: str, volume: dict[str, Any]) -> None:
    for kind in KINDS[:2]:
        check_pool(pool_problem(kind, N=1, C=4 if layout == "channels_last" else 2, layout=layout, **volume), "cuda")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_adaptive_windows(device: Any, kind: str, layout: str) -> None:
    for target in (1, (2, 3), (3, 2), (5, 4)):
        check_pool(pool_problem(kind, N=1, C=2, size=(4, 6), target=target, layout=layout), "cuda")


#: Global ones, of two planes, and such that no line has as many elements as there are threads.
LARGE: list[dict[str, Any]] = [
    {"size": (7, 9), "target": 1},
    {"size": (8, 9), "kernel": (5, 7), "stride": (4, 2), "padding": ((1, 0), (2, 0))},
    {"rank": 3, "size": (2, 5, 23), "target": (1, 2, 2)},
    {"rank": 3, "size": (3, 4, 3), "kernel": (3, 4, 3), "stride": 1},
    {"rank": 3, "size": (4, 4, 3), "kernel": (3, 4, 3), "stride": 1},
]


@pytest.mark.parametrize("windows", LARGE, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["max", "average"])
def test_windows_that_threads_share(device: Any, kind: str, layout: str, windows: dict[str, Any]) -> None:
    check_pool(pool_problem(kind, N=1, C=8 if layout == "channels_last" else 2, layout=layout, **windows), "cuda")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_equals_and_nan_in_windows_that_threads_share(device: Any, layout: str) -> None:
    p = pool_problem(N=1, C=4, size=(7, 9), target=1, layout=layout)
    x = np.zeros(p.x_shape, p.dtype)
    lines = oracle.channels_last(x, layout)
    lines[0, 3, 4, 0] = lines[0, 3, 5, 0] = 1
    lines[0, 5, 1, 1] = np.nan
    lines[..., 2] = -np.inf
    y, index = run_on_host(plan_for("max_pool", p, backend="cuda"), x)
    np.testing.assert_array_equal(y.ravel(), [1, np.nan, -np.inf, 0])
    assert index.ravel().tolist() == [3 * 9 + 4, 5 * 9 + 1, 0, 0]
    alone, _ = run_on_host(plan_for("max_pool", p, backend="cuda"), x, skip=("index",))
    np.testing.assert_array_equal(alone, y)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_dilated_maxima(device: Any, layout: str) -> None:
    for dilation, stride, padding in ((2, 1, 1), ((1, 3), 2, 0)):
        p = pool_problem(C=2, size=(5, 8), kernel=3, stride=stride, padding=padding, dilation=dilation, layout=layout)
        check_pool(p, "cuda")


def test_dilated_windows_that_reach_around_the_input(device: Any) -> None:
    p = pool_problem(size=(1, 2), kernel=2, stride=1, padding=1, dilation=2)
    found = run_pool(p, numbers(p.x_shape, p.dtype), np.ones(p.y_shape, p.dtype), "cuda")
    assert (found["y"] == -np.inf).all()
    assert (found["dx"] == 0).all()
    assert (found["index"] == p.no_position).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nothing_to_pool(device: Any, layout: str) -> None:
    for kind, nothing in itertools.product(KINDS, ({"N": 0}, {"C": 0})):
        check_pool(pool_problem(kind, size=(4, 6), layout=layout, **nothing), "cuda")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_several_blocks_and_tiles(device: Any, layout: str) -> None:
    """More elements than a block has threads; positions of more channels and pixels than a tile has lines."""
    check_pool(pool_problem(N=1, C=33, size=(12, 11), ceil_mode=True, layout=layout), "cuda")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("divisor", [0, 7, -2])
@pytest.mark.parametrize("count_padding", [False, True])
def test_what_an_average_divides_by(device: Any, count_padding: bool, divisor: int, layout: str) -> None:
    for kernel, padding in ((3, 1), ((4, 3), ((2, 1), (0, 1)))):
        p = pool_problem("average", size=(6, 4), kernel=kernel, stride=3, padding=padding, ceil_mode=True,
                         count_padding=count_padding, divisor=divisor, layout=layout)  # fmt: skip
        check_pool(p, "cuda")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("values", [0.0, -np.inf])
def test_the_first_of_equals_wins(device: Any, values: float, layout: str) -> None:
    for kernel, padding in ((3, 1), ((4, 4), 2)):
        p = pool_problem(size=(4, 5), kernel=kernel, stride=2, padding=padding, layout=layout)
        x, dy = np.full(p.x_shape, values, p.dtype), numbers(p.y_shape, p.dtype)
        found, expected = run_pool(p, x, dy, "cuda"), expected_pool(p, x, dy)
        np.testing.assert_array_equal(found["index"], expected["index"])
        np.testing.assert_array_equal(found["y"], expected["y"])
        oracle.assert_close(found["dx"], expected["dx"])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_nan_reaches_exactly_the_windows_that_hold_it(device: Any, kind: str, layout: str) -> None:
    for kernel in (3, 4):
        p = pool_problem(kind, N=1, C=4, size=5, kernel=kernel, stride=2, padding=1, layout=layout)
        x, dy = np.abs(numbers(p.x_shape, p.dtype)) + 1, numbers(p.y_shape, p.dtype)
        spot = np.zeros(p.x_shape)
        spot.flat[[7, 61]] = 1
        clean, found = (run_pool(p, np.where(spot, at_it, x).astype(p.dtype), dy, "cuda") for at_it in (x, np.nan))
        marked = expected_pool(p._replace(kind="max"), spot, np.zeros(p.y_shape))
        np.testing.assert_array_equal(np.isnan(found["y"]), marked["y"] > 0)
        np.testing.assert_array_equal(found["y"][marked["y"] == 0], clean["y"][marked["y"] == 0])
        if kind == "max":
            np.testing.assert_array_equal(found["index"][marked["y"] > 0], marked["index"][marked["y"] > 0])


@pytest.mark.parametrize("values", [np.inf, -np.inf])
@pytest.mark.parametrize("kind", KINDS)
def test_infinity_flows_through(device: Any, kind: str, values: float) -> None:
    p = pool_problem(kind, N=1, size=4)
    y = run_pool(p, np.full(p.x_shape, values, p.dtype), numbers(p.y_shape, p.dtype), "cuda")["y"]
    expected = {"norm": np.inf, "stochastic": max(values, 0)}.get(kind, values)  # nothing negative is drawn
    np.testing.assert_array_equal(y, np.full(p.y_shape, expected))


def _along_channels(array: np.ndarray, layout: str) -> np.ndarray:
    return array.reshape((-1, 1, 1) if layout == "channels_first" else -1)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("skip", [(), ("index",)])
def test_bias_and_relu_after_the_greatest(device: Any, skip: tuple[str, ...], layout: str) -> None:
    """To the last bit what they give before it."""
    p = pool_problem(C=4, size=(3, 4), kernel=2, stride=1, layout=layout)
    x, bias = numbers(p.x_shape, p.dtype), numbers((p.C,), p.dtype, 5) - 1
    before = x + _along_channels(bias, layout)
    plan = plan_for("max_pool", p, backend="cuda")
    for relu, changed in ((0, before), (1, np.maximum(before, 0))):
        y, index = run_on_host(plan, x, bias, skip=skip, scalars=(relu,))
        np.testing.assert_array_equal(y, expected_pool(p, changed, np.zeros(p.y_shape))["y"])
        assert (index is None) == bool(skip)


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_elements_normalised_on_the_way(device: Any, layout: str, dtype: str, with_bias: bool) -> None:
    p = pool_problem(C=4, size=(3, 4), kernel=2, stride=1, padding=1, dtype=dtype, layout=layout)
    x, norm = numbers(p.x_shape, dtype), channel_norm(p)
    if not with_bias:
        norm["norm_bias"] = np.zeros_like(norm["norm_bias"])
    mean, scale, bias = (_along_channels(array.astype(np.float64), layout) for array in norm.values())
    expected = expected_pool(p, (x - mean) * scale + bias, np.zeros(p.y_shape))
    arrays = [*list(norm.values())[:2], norm["norm_bias"] if with_bias else None]
    plan = plan_for("max_pool", p._replace(normalised=True), backend="cuda")
    y, index = run_on_host(plan, x, None, *arrays)
    oracle.assert_close(y, expected["y"])
    np.testing.assert_array_equal(oracle.in_layout(index, layout), expected["index"])


def test_positions_in_four_bytes(device: Any) -> None:
    """Of windows that hold all of x, whatever little of them that is."""
    p = pool_problem(C=3, N=1, size=(1, 3), kernel=256, stride=1, padding=((127, 128), (126, 128)))
    assert p.index_dtype == "uint32"
    x, dy = numbers(p.x_shape, p.dtype), numbers(p.y_shape, p.dtype, 1)
    y, index = run_on_host(plan_for("max_pool", p, backend="cuda"), x)
    np.testing.assert_array_equal(y, np.broadcast_to(x.max(axis=2, keepdims=True), p.y_shape))
    _, oh, ow, _ = np.indices(p.index_shape)
    chosen = np.broadcast_to(x.argmax(axis=2, keepdims=True), p.index_shape)
    np.testing.assert_array_equal(index, (127 - oh) * 256 + chosen + 126 - ow)
    (dx,) = run_on_host(plan_for("max_pool_gradient", p, backend="cuda"), dy, index)
    expected = [np.where(chosen == w, dy, 0).sum(axis=(1, 2))[0] for w in range(3)]
    oracle.assert_close(dx[0, 0], np.stack(expected).astype(np.float64))


def test_more_elements_than_are_counted_in_32_bits_are_refused() -> None:
    p: PoolProblem = pool_problem(N=1 << 12, C=1 << 10, size=1 << 5)
    reason = pool.supports(p)
    assert reason is not None
    assert "at most 2,147,418,112 elements; received 4,294,967,296" in reason
    assert pool.max_supports(pool_problem(C=1, N=1, size=(4097, 4096), kernel=(4097, 4096), stride=1)) is not None


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_compiled(architecture: str) -> None:
    forward = pool.max_pool_kernels["index"].variant(
        "float32", width=4, flat=False, window=(2, 2), paired=False, parts=1, index="index", normalised=False
    )
    text = sass(forward, architecture)
    assert not spills(text)
    assert count(text, r"LDG\.E\.128") >= 4
    assert count(text, r"STG\.E\.128") == count(text, r"STG\.E\.64") == 1


def test_others_compiled() -> None:
    backward = pool.cells_gradient_kernels["index"].variant(
        "float32", width=4, flat=False, kernel=(3, 3), stride=(2, 2), paired=False, index="index", counted=False
    )
    text = sass(backward)
    assert not spills(text)
    assert count(text, r"STG\.E\.128") == count(text, r"LDG\.E\.128") == 4
    average = pool.sum_pool_kernel.variant(
        "float64", width=1, flat=True, window=(2, 2), paired=True, parts=1, norm=False, counted=True
    )
    gradient = pool.gradient_kernels["long_index"].variant(
        "float64", width=4, flat=False, index="long_index", counted=False
    )
    shared = pool.max_pool_kernels["index"].variant(
        "float32", width=4, flat=False, window=None, paired=False, parts=8, index="index", normalised=False
    )
    for variant in (average, gradient, shared):
        assert not spills(sass(variant))
