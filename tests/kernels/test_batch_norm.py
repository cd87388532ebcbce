"""Batch normalisation, its gradients and its running statistics against the oracle."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycnn_kernels.cpu import batch_norm
from pycnn_kernels.plan import plan_for
from pycnn_kernels.problem import ChannelsProblem
from tests import reference as oracle
from tests.kernels.problems import DTYPES, each_number_of_threads, numbers

Shape = tuple[int, int, int]

#: (pixels, channels, inner): inner is 1 in channels last. Around the pixels and channels that are taken together, rows
#: longer than a stretch, and more parts than one.
SHAPES = [
    (2, 1, 1), (1, 2, 2), (7, 10, 1), (8, 16, 1), (33, 64, 1), (9, 83, 1), (700, 3, 1), (2000, 40, 1), (40, 600, 1),
    (2, 3, 35), (40, 17, 9), (1, 3, 5000), (5, 1, 2), (3, 0, 1), (6400, 3, 1), (2592, 20, 1),
]  # fmt: skip
EPSILON = 1e-3


def channels(shape: Shape, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Weights and biases."""
    return numbers((shape[1],), dtype, 3), numbers((shape[1],), dtype, 4)


def check(shape: Shape, dtype: str, relu: bool) -> None:
    p, x, dy = ChannelsProblem(dtype, *shape), 2 * numbers(shape, dtype) + 1, numbers(shape, dtype, 1)
    weight, bias = channels(shape, dtype)
    y, mean, rstd = plan_for("batch_norm", p).run(x, weight, bias, updated=(None, None), scalars=(relu, 1, 0, EPSILON))
    plain, means, variances = oracle.batch_normalisation(x, weight, bias, EPSILON)
    oracle.assert_close(y, np.maximum(plain, 0) if relu else plain)
    oracle.assert_close(mean, means, least=1)
    oracle.assert_close(rstd, 1 / np.sqrt(variances + EPSILON))
    arrays = dy, x, y if relu else None, weight, mean, rstd
    *found, db = plan_for("batch_norm_gradient", p).run(*arrays, scalars=(1, 0))
    dz = np.where(y > 0, dy, 0) if relu else dy
    expected = oracle.batch_normalisation_gradient(dz, x, weight, means, variances, EPSILON)
    # Of two values of a channel dx is 0 but for rounding of what is about as large as dy.
    for name, array, other in zip(("dx", "dweight", "dbias"), found, expected):
        oracle.assert_close(array, other, least=10 if name == "dx" else 1)
    dx = found[0].astype(np.float64)
    oracle.assert_close(db, dx.sum(axis=(0, 2)), least=float(np.abs(dx).sum(axis=(0, 2)).max(initial=1)))
    *masked, db = plan_for("batch_norm_gradient", p).run(*arrays, scalars=(1, 1))  # x behind a ReLU
    np.testing.assert_array_equal(masked[0], np.where(x > 0, found[0], 0))
    for array, other in zip(masked[1:], found[1:]):
        np.testing.assert_array_equal(array, other)
    dx = masked[0].astype(np.float64)
    oracle.assert_close(db, dx.sum(axis=(0, 2)), least=float(np.abs(dx).sum(axis=(0, 2)).max(initial=1)))


@pytest.mark.parametrize("shape", [(0, 3, 1), (2, 3, 0), (0, 3, 4)])
def test_of_nothing_the_mean_is_zero(shape: Shape) -> None:
    """Of an empty array, too, everything that is returned has been computed."""
    p, x = ChannelsProblem("float32", *shape), np.zeros(shape, np.float32)
    for _ in range(3):  # of memory that others have written
        np.full(1 << 12, np.nan, np.float32)
        y, mean, rstd = plan_for("batch_norm", p).run(x, updated=(None, None), scalars=(0, 0, 0, 0.25))
        assert y.shape == shape
        np.testing.assert_array_equal(mean, 0)
        np.testing.assert_array_equal(rstd, 2)
        for found in plan_for("batch_norm_gradient", p).run(x, x, None, None, mean, rstd, scalars=(1, 0))[1:]:
            np.testing.assert_array_equal(found, 0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_training(shape: Shape, relu: bool, dtype: str) -> None:
    check(shape, dtype, relu)


@settings(max_examples=30, deadline=None)
@given(st.tuples(st.integers(2, 40), st.integers(1, 90), st.just(1) | st.integers(1, 40)), st.booleans())
def test_training_in_any_shape(shape: Shape, relu: bool) -> None:
    check(shape, "float32", relu)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_running_statistics(shape: Shape, dtype: str) -> None:
    p, x, dy = ChannelsProblem(dtype, *shape), numbers(shape, dtype), numbers(shape, dtype, 1)
    (weight, bias), (mean, variance) = channels(shape, dtype), channels(shape, dtype)
    mean, variance = mean + 1, np.abs(variance) + 0.5
    (y,) = plan_for("batch_norm_running", p).run(x, mean, variance, weight, bias, scalars=(1, EPSILON))
    plain, *_ = oracle.batch_normalisation(x, weight, bias, EPSILON, (mean, variance))
    oracle.assert_close(y, np.maximum(plain, 0))
    rstd = (1 / np.sqrt(variance.astype(np.float64) + EPSILON)).astype(dtype)
    found = plan_for("batch_norm_gradient", p).run(dy, x, y, weight, mean, rstd, skip=("db",), scalars=(0, 0))[:3]
    expected = oracle.batch_normalisation_gradient(
        np.where(y > 0, dy, 0), x, weight, mean, variance, EPSILON, moves=False
    )
    for array, other in zip(found, expected):
        oracle.assert_close(array, other, least=1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 64, 83])
def test_the_scale_of_running_statistics(channels: int, dtype: str) -> None:
    variance, weight = np.abs(numbers((channels,), dtype)) + 0.5, numbers((channels,), dtype, 1)
    plan = plan_for("batch_norm_scale", ChannelsProblem(dtype, 1, channels))
    exact = 1 / np.sqrt(variance.astype(np.float64) + EPSILON)
    oracle.assert_close(plan.run(variance, weight, scalars=(EPSILON,))[0], weight * exact)
    oracle.assert_close(plan.run(variance, scalars=(EPSILON,))[0], exact)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 64, 83])
def test_running_statistics_folded_into_a_convolution(channels: int, dtype: str) -> None:
    mean, weight, bias, before = (numbers((channels,), dtype, seed) for seed in range(4))
    variance = np.abs(numbers((channels,), dtype, 4)) + 0.5
    plan = plan_for("batch_norm_fold", ChannelsProblem(dtype, 1, channels))
    rstd = 1 / np.sqrt(variance.astype(np.float64) + EPSILON)
    scale, offset = plan.run(mean, variance, weight, bias, before, scalars=(EPSILON,))
    oracle.assert_close(scale, weight * rstd)
    oracle.assert_close(offset, (before.astype(np.float64) - mean) * weight * rstd + bias)
    scale, offset = plan.run(mean, variance, scalars=(EPSILON,))
    oracle.assert_close(scale, rstd)
    oracle.assert_close(offset, -mean * rstd)


def test_running_statistics_are_asked_for() -> None:
    x, mean = numbers((9, 5, 1), "float32"), np.zeros(5, np.float32)
    with pytest.raises(TypeError, match=r"running_var must be an array of shape \(5,\); received None"):
        plan_for("batch_norm_running", ChannelsProblem("float32", 9, 5)).run(x, mean)
    with pytest.raises(TypeError, match=r"running_var must be an array of shape \(5,\); received None"):
        plan_for("batch_norm_scale", ChannelsProblem("float32", 9, 5)).run()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(33, 20, 1), (3, 5, 7)])
def test_running_statistics_move(shape: Shape, dtype: str) -> None:
    x = numbers(shape, dtype) + 3
    for correction in (0, 1):
        running = np.full(shape[1], 2, dtype), np.full(shape[1], 5, dtype)
        plan_for("batch_norm", ChannelsProblem(dtype, *shape)).run(
            x, updated=running, scalars=(0, correction, 0.25, EPSILON)
        )
        values = np.moveaxis(x.astype(np.float64), 1, 0).reshape(shape[1], -1)
        oracle.assert_close(running[0], 2 + 0.25 * (values.mean(axis=1) - 2))
        oracle.assert_close(running[1], 5 + 0.25 * (values.var(axis=1, ddof=correction) - 5))


@pytest.mark.parametrize("shape", [(3000, 5, 1), (10, 5, 300), (1, 1, 9000), (40, 700, 1)])
def test_a_mean_far_larger_than_the_deviation(shape: Shape) -> None:
    """The mean square less the squared mean has no correct digit here: 1e8 of which the variance is 1e-4."""
    x = (1e4 + 0.01 * numbers(shape, "float64", 7)).astype(np.float32)
    _, mean, rstd = plan_for("batch_norm", ChannelsProblem("float32", *shape)).run(
        x, updated=(None, None), scalars=(0, 1, 0, 0)
    )
    values = np.moveaxis(x.astype(np.float64), 1, 0).reshape(shape[1], -1)
    oracle.assert_close(mean, values.mean(axis=1), 6e-8)
    oracle.assert_close(rstd, 1 / values.std(axis=1), 1e-6)


def test_what_is_not_finite_stays_in_its_channel() -> None:
    x = numbers((30, 40, 1), "float32")
    x[3, 5], x[4, 6] = np.nan, np.inf
    y, *_ = plan_for("batch_norm", ChannelsProblem("float32", *x.shape)).run(
        x, updated=(None, None), scalars=(1, 1, 0, EPSILON)
    )
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(y).any(axis=(0, 2))), [5, 6])


def test_a_masked_gradient_is_dropped_even_if_it_is_not_finite() -> None:
    x, y = numbers((8, 2, 1), "float32"), np.ones((8, 2, 1), np.float32)
    dy = np.ones((8, 2, 1), np.float32)
    y[3], dy[3] = 0, np.nan
    found = plan_for("batch_norm_gradient", ChannelsProblem("float32", 8, 2)).run(
        dy, x, y, None, np.zeros(2, np.float32), np.ones(2, np.float32), scalars=(1, 0)
    )
    assert all(np.isfinite(array).all() for array in found)


def test_gradients_that_nobody_wants() -> None:
    shape = (33, 20, 1)
    p, x, dy = ChannelsProblem("float32", *shape), numbers(shape, "float32"), numbers(shape, "float32", 1)
    arrays = dy, x, None, None, np.zeros(20, np.float32), np.ones(20, np.float32)
    whole = plan_for("batch_norm_gradient", p).run(*arrays, scalars=(1, 0))
    names = ("dx", "dweight", "dbias", "db")
    for skip in [("dx", "db"), ("dweight",), ("dbias",), ("db",)]:
        some = plan_for("batch_norm_gradient", p).run(*arrays, skip=skip, scalars=(1, 0))
        for name, array, other in zip(names, some, whole):
            if name in skip:
                assert array is None
            else:
                np.testing.assert_array_equal(array, other)


def test_the_sum_of_a_gradient_that_is_skipped_is_refused() -> None:
    plan = plan_for("batch_norm_gradient", ChannelsProblem("float32", 8, 2))
    x, each = np.ones((8, 2, 1), np.float32), np.ones(2, np.float32)
    with pytest.raises(ValueError, match="db is the sum of dx"):
        plan.run(x, x, None, None, each, each, skip=("dx",), scalars=(1, 0))


def results(shape: Shape, dtype: str) -> Iterator[np.ndarray]:
    p, x, dy = ChannelsProblem(dtype, *shape), numbers(shape, dtype), numbers(shape, dtype, 1)
    weight, bias = channels(shape, dtype)
    y, mean, rstd = plan_for("batch_norm", p).run(x, weight, bias, updated=(None, None), scalars=(1, 1, 0, EPSILON))
    yield from (y, mean, rstd)
    yield from plan_for("batch_norm_gradient", p).run(dy, x, y, weight, mean, rstd, scalars=(1, 1))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(5000, 17, 1), (200, 520, 1), (64, 10, 300)])
def test_threads_do_not_change_the_bits(shape: Shape, dtype: str) -> None:
    assert batch_norm._Parts(ChannelsProblem(dtype, *shape)).items > 1
    plain = list(results(shape, dtype))
    for _ in each_number_of_threads():
        for found, expected in zip(results(shape, dtype), plain, strict=True):
            np.testing.assert_array_equal(found, expected)
