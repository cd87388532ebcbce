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
    for C in (3, 4):
        check_pool(pool_problem(kind, C=C, layout=layout, **windows), "cuda")


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
        check_pool(pool_problem(kind, C=4, layout=layout, **volume), "cuda")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_adaptive_windows(device: Any, kind: str, layout: str) -> None:
    for target in (1, (2, 3), (3, 2), (5, 4)):
        check_pool(pool_problem(kind, C=4, size=(4, 6), target=target, layout=layout), "cuda")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_dilated_maxima(device: Any, layout: str) -> None:
    for dilation, stride, padding in ((2, 1, 1), ((1, 3), 2, 0)):
        p = pool_problem(C=3, size=(5, 8), kernel=3, stride=stride, padding=padding, dilation=dilation, layout=layout)
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
    check_pool(pool_problem(N=1, C=36, size=(12, 14), layout=layout), "cuda")


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
def test_nan_and_infinity_flow_as_on_the_cpu(device: Any, kind: str, layout: str) -> None:
    for special, kernel in itertools.product((np.nan, np.inf, -np.inf), (3, 4)):
        p = pool_problem(kind, C=4, size=6, kernel=kernel, stride=2, padding=1, layout=layout)
        x, dy = numbers(p.x_shape, p.dtype), numbers(p.y_shape, p.dtype, 1)
        x.flat[[7, 40, 41, 100, 101]] = special
        expected = run_pool(p, x, dy)
        for name, found in run_pool(p, x, dy, "cuda").items():
            np.testing.assert_allclose(found, expected[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("skip", [(), ("index",)])
def test_bias_and_relu_after_the_greatest(device: Any, skip: tuple[str, ...], layout: str) -> None:
    p = pool_problem(C=4, size=(4, 5), kernel=2, stride=1, layout=layout)
    x, bias = numbers(p.x_shape, p.dtype), numbers((p.C,), p.dtype, 5) - 1
    before = x + bias.reshape((-1, 1, 1) if layout == "channels_first" else -1)
    plan = plan_for("max_pool", p, backend="cuda")
    for relu, changed in ((0, before), (1, np.maximum(before, 0))):
        y, index = run_on_host(plan, x, bias, skip=skip, scalars=(relu,))
        np.testing.assert_array_equal(y, plan_for("max_pool", p).run(changed)[0])
        assert (index is None) == bool(skip)


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_elements_normalised_on_the_way(device: Any, layout: str, dtype: str, with_bias: bool) -> None:
    p = pool_problem(C=4, size=(4, 5), kernel=2, stride=1, padding=1, dtype=dtype, layout=layout)
    x, norm = numbers(p.x_shape, dtype), channel_norm(p)
    if not with_bias:
        norm.pop("norm_bias")
    arrays = [norm.get(f"norm_{name}") for name in ("mean", "scale", "bias")]
    normalised = p._replace(normalised=True)
    y, index = run_on_host(plan_for("max_pool", normalised, backend="cuda"), x, None, *arrays)
    expected, there = plan_for("max_pool", normalised).run(x, None, *arrays)
    oracle.assert_close(y, expected.astype(np.float64))
    np.testing.assert_array_equal(index, there)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_positions_in_four_bytes(device: Any, layout: str) -> None:
    p = pool_problem(C=2, N=1, size=(256, 256), kernel=(256, 256), stride=1, layout=layout)
    assert p.index_dtype == "uint32"
    kind = {"index": 1 << 16}
    x = np.zeros(p.x_shape, np.float32)
    for c, place in enumerate([7, 256 * 256 - 1]):
        oracle.channels_last(x, layout).reshape(-1, 2)[place, c] = 1
    y, index = run_on_host(plan_for("max_pool", p, backend="cuda"), x)
    assert index.ravel().tolist() == [7, kind["index"] - 1]
    assert y.ravel().tolist() == [1, 1]


def test_a_gradient_of_positions_in_four_bytes(device: Any) -> None:
    """Any windows may be so large: that they are is known by the problem, whatever of them lies in x."""
    p = pool_problem(C=3, N=1, size=(1, 3), kernel=(256, 256), stride=1, padding=((128, 128), (128, 128)))
    x, dy = numbers(p.x_shape, p.dtype), numbers(p.y_shape, p.dtype)
    found, expected = run_pool(p, x, dy, "cuda"), run_pool(p, x, dy)
    assert found["index"].dtype == np.uint32
    for name, array in found.items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-5)


def test_more_elements_than_are_counted_in_32_bits_are_refused() -> None:
    p: PoolProblem = pool_problem(N=1 << 12, C=1 << 10, size=1 << 5)
    reason = pool.supports(p)
    assert reason is not None
    assert "at most 2,147,418,112 elements; received 4,294,967,296" in reason
    assert pool.max_supports(pool_problem(C=1, N=1, size=(4097, 4096), kernel=(4097, 4096), stride=1)) is not None


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_compiled(architecture: str) -> None:
    forward = pool.max_pool_kernels["index"].variant(
        "float32", width=4, flat=False, window=(2, 2), paired=False, index="index", normalised=False
    )
    text = sass(forward, architecture)
    assert not spills(text)
    assert count(text, r"LDG\.E\.128") >= 4
    assert count(text, r"STG\.E\.128") == count(text, r"STG\.E\.64") == 1
    backward = pool.cells_gradient_kernels["index"].variant(
        "float32", width=4, flat=False, kernel=(3, 3), stride=(2, 2), paired=False, index="index", counted=False
    )
    text = sass(backward, architecture)
    assert not spills(text)
    assert count(text, r"STG\.E\.128") == count(text, r"LDG\.E\.128") == 4


def test_others_compiled() -> None:
    drawn = pool.stochastic_pool_kernels["index"].variant(
        "float32", width=4, flat=False, window=None, paired=False, index="index"
    )
    average = pool.sum_pool_kernel.variant(
        "float64", width=1, flat=True, window=(2, 2), paired=True, norm=False, counted=True
    )
    gradient = pool.gradient_kernels["long_index"].variant(
        "float64", width=4, flat=False, index="long_index", counted=False
    )
    for variant in (drawn, average, gradient):
        assert not spills(sass(variant))
