"""Batch normalisation, its gradients and its running statistics on the GPU against the oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pycnn_kernels.cuda import channels
from pycnn_kernels.cuda.batch_norm import input_gradient_kernel, moments_kernel, normalise_kernel
from pycnn_kernels.cuda.launch import Variant
from pycnn_kernels.plan import plan_for
from pycnn_kernels.problem import ChannelsProblem
from tests import reference as oracle
from tests.cuda.sass import ARCHITECTURES, count, sass, spills
from tests.kernels.problems import DTYPES, numbers, run_on_host

Shape = tuple[int, int, int]

#: (pixels, channels, inner): inner is 1 in channels last. Rows of one, two and four pixels, planes of whole vectors and
#: others, one channel, several parts.
SHAPES = [
    (2, 1, 1), (1, 2, 2), (7, 10, 1), (8, 12, 1), (36, 3, 1), (24, 6, 1), (90, 16, 1), (2, 3, 35), (6, 5, 12),
    (1, 1, 50), (300, 5, 1), (10, 3, 70), (3, 0, 1), (3, 0, 2),
]  # fmt: skip
EPSILON = 1e-3


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several of them for arrays that are simulated in a moment, and more steps than are made together."""
    monkeypatch.setattr(channels, "_THREADS", 32)
    monkeypatch.setattr(channels, "_LEAST_STEPS", 12)


def run(operation: str, *arrays: Any, **others: Any) -> tuple[Any, ...]:
    """Of channels alone, too, of which there is then one pixel."""
    shape = arrays[0].shape if arrays[0].ndim == 3 else (1, *arrays[0].shape, 1)
    plan = plan_for(operation, ChannelsProblem(arrays[0].dtype.name, *shape), backend="cuda")
    return run_on_host(plan, *arrays, **others)


def run_forward(x: np.ndarray, *others: Any, updated: Any = (None, None), scalars: Any = (0, 1, 0, EPSILON)) -> Any:
    return run("batch_norm", x, *others, updated=updated, scalars=scalars)


def of_channels(shape: Shape, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Weights and biases."""
    return numbers((shape[1],), dtype, 3), numbers((shape[1],), dtype, 4)


def by_channels(x: np.ndarray) -> np.ndarray:
    """A row of float64 for each channel."""
    return np.moveaxis(x.astype(np.float64), 1, 0).reshape(x.shape[1], x.size // max(x.shape[1], 1))


@pytest.mark.parametrize(
    ("shape", "dtype"), [(shape, "float32") for shape in SHAPES] + [((24, 6, 1), "float64"), ((3, 2, 10), "float64")]
)
def test_training(device: Any, shape: Shape, dtype: str) -> None:
    x, dy = 2 * numbers(shape, dtype) + 1, numbers(shape, dtype, 1)
    weight, bias = of_channels(shape, dtype)
    plain, means, variances = oracle.batch_normalisation(x, weight, bias, EPSILON)
    oracle.assert_close(run_forward(x, weight, bias)[0], plain)
    y, mean, rstd = run_forward(x, weight, bias, scalars=(1, 1, 0, EPSILON))
    oracle.assert_close(y, np.maximum(plain, 0))
    oracle.assert_close(mean, means, least=1)
    oracle.assert_close(rstd, 1 / np.sqrt(variances + EPSILON))
    for relu in (None, y):
        dz = dy if relu is None else np.where(y > 0, dy, 0)
        expected = oracle.batch_normalisation_gradient(dz, x, weight, means, variances, EPSILON)
        *found, db = run("batch_norm_gradient", dy, x, relu, weight, mean, rstd, scalars=(1, 0))
        # Of two values of a channel dx is 0 but for rounding of what is about as large as dy.
        for name, array, other in zip(("dx", "dweight", "dbias"), found, expected):
            oracle.assert_close(array, other, least=10 if name == "dx" else 1)
        check_sums(db, found[0])
    *masked, db = run("batch_norm_gradient", dy, x, y, weight, mean, rstd, scalars=(1, 1))  # x behind a ReLU
    np.testing.assert_array_equal(masked[0], np.where(x > 0, found[0], 0))
    for array, other in zip(masked[1:], found[1:]):
        np.testing.assert_array_equal(array, other)
    check_sums(db, masked[0])


def check_sums(db: np.ndarray, dx: np.ndarray) -> None:
    """``db`` is the sum of dx over all but the channels."""
    rows = by_channels(dx)
    oracle.assert_close(db, rows.sum(axis=1), least=float(np.abs(rows).sum(axis=1).max(initial=1)))


@pytest.mark.parametrize("shape", [(0, 3, 1), (2, 3, 0), (0, 3, 4)])
def test_of_nothing_the_mean_is_zero(device: Any, shape: Shape) -> None:
    x = np.zeros(shape, np.float32)
    running = np.full(3, 4, np.float32), np.full(3, 6, np.float32)
    y, mean, rstd = run_forward(x, updated=running, scalars=(0, 0, 0.5, 0.25))
    assert y.shape == shape
    for found, expected in ((mean, 0), (rstd, 2), (running[0], 2), (running[1], 3)):
        np.testing.assert_array_equal(found, expected)
    for found in run("batch_norm_gradient", x, x, None, None, mean, rstd, scalars=(1, 0))[1:]:
        np.testing.assert_array_equal(found, 0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(24, 6, 1), (6, 5, 12), (2, 3, 35)])
def test_running_statistics(device: Any, shape: Shape, dtype: str) -> None:
    x, dy = numbers(shape, dtype), numbers(shape, dtype, 1)
    (weight, bias), (mean, variance) = of_channels(shape, dtype), of_channels(shape, dtype)
    mean, variance = mean + 1, np.abs(variance) + 0.5
    (y,) = run("batch_norm_running", x, mean, variance, weight, bias, scalars=(1, EPSILON))
    plain, *_ = oracle.batch_normalisation(x, weight, bias, EPSILON, (mean, variance))
    oracle.assert_close(y, np.maximum(plain, 0))
    rstd = (1 / np.sqrt(variance.astype(np.float64) + EPSILON)).astype(dtype)
    found = run("batch_norm_gradient", dy, x, y, weight, mean, rstd, skip=("db",), scalars=(0, 0))[:3]
    masked = np.where(y > 0, dy, 0)
    expected = oracle.batch_normalisation_gradient(masked, x, weight, mean, variance, EPSILON, moves=False)
    for array, other in zip(found, expected):
        oracle.assert_close(array, other, least=1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 300])
def test_the_scale_of_running_statistics(device: Any, channels: int, dtype: str) -> None:
    variance, weight = np.abs(numbers((channels,), dtype)) + 0.5, numbers((channels,), dtype, 1)
    exact = 1 / np.sqrt(variance.astype(np.float64) + EPSILON)
    oracle.assert_close(run("batch_norm_scale", variance, weight, scalars=(EPSILON,))[0], weight * exact)
    oracle.assert_close(run("batch_norm_scale", variance, scalars=(EPSILON,))[0], exact)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 300])
def test_running_statistics_folded_into_a_convolution(device: Any, channels: int, dtype: str) -> None:
    mean, weight, bias, before = (numbers((channels,), dtype, seed) for seed in range(4))
    variance = np.abs(numbers((channels,), dtype, 4)) + 0.5
    rstd = 1 / np.sqrt(variance.astype(np.float64) + EPSILON)
    scale, offset = run("batch_norm_fold", mean, variance, weight, bias, before, scalars=(EPSILON,))
    oracle.assert_close(scale, weight * rstd)
    oracle.assert_close(offset, (before.astype(np.float64) - mean) * weight * rstd + bias)
    scale, offset = run("batch_norm_fold", mean, variance, scalars=(EPSILON,))
    oracle.assert_close(scale, rstd)
    oracle.assert_close(offset, -mean * rstd)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(33, 20, 1), (3, 5, 7)])
def test_running_statistics_move(device: Any, shape: Shape, dtype: str) -> None:
    x = numbers(shape, dtype) + 3
    for correction in (0, 1):
        running = np.full(shape[1], 2, dtype), np.full(shape[1], 5, dtype)
        run_forward(x, updated=running, scalars=(0, correction, 0.25, EPSILON))
        values = by_channels(x)
        oracle.assert_close(running[0], 2 + 0.25 * (values.mean(axis=1) - 2))
        oracle.assert_close(running[1], 5 + 0.25 * (values.var(axis=1, ddof=correction) - 5))


@pytest.mark.parametrize("shape", [(800, 5, 1), (10, 3, 70), (1, 1, 1500)])
@pytest.mark.parametrize(("mean", "deviation"), [(1e3, 1), (1e4, 0.01), (-1e6, 1)])
def test_a_mean_far_larger_than_the_deviation(device: Any, shape: Shape, mean: float, deviation: float) -> None:
    """The mean square less the squared mean has no correct digit here."""
    x = (mean + deviation * numbers(shape, "float64", 7)).astype(np.float32)
    x[0, 0, 0] = 0  # far from the others: a number that the sums must not count from
    _, means, rstd = run_forward(x, scalars=(0, 1, 0, 0))
    values = by_channels(x)
    oracle.assert_close(means, values.mean(axis=1), 6e-8)
    oracle.assert_close(rstd[1:], 1 / values.std(axis=1)[1:], 1e-6)
    oracle.assert_close(rstd[:1], 1 / values.std(axis=1)[:1], 1e-5)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e15])
def test_channels_of_equal_numbers(device: Any, value: float) -> None:
    x = np.full((50, 3, 1), value, np.float32)
    y, mean, rstd = run_forward(x)
    np.testing.assert_array_equal(y, 0)
    np.testing.assert_array_equal(mean, np.float32(value))
    np.testing.assert_allclose(rstd, EPSILON**-0.5, rtol=1e-6)


@pytest.mark.parametrize("place", [3, 7])
def test_what_is_not_finite_stays_in_its_channel(device: Any, place: int) -> None:
    """Whether or not it is one of the numbers that the shift is picked from: pixels 2, 7 and 10 of 12."""
    x = numbers((12, 8, 1), "float32")
    x[place, 5], x[4, 6] = np.nan, np.inf
    y, *_ = run_forward(x, scalars=(1, 1, 0, EPSILON))
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(y).any(axis=(0, 2))), [5, 6])


def test_a_masked_gradient_is_dropped_even_if_it_is_not_finite(device: Any) -> None:
    x, y = numbers((8, 2, 1), "float32"), np.ones((8, 2, 1), np.float32)
    dy = np.ones((8, 2, 1), np.float32)
    y[3], dy[3] = 0, np.nan
    each = np.zeros(2, np.float32), np.ones(2, np.float32)
    found = run("batch_norm_gradient", dy, x, y, None, *each, scalars=(1, 0))
    assert all(np.isfinite(array).all() for array in found)


def test_gradients_that_nobody_wants(device: Any) -> None:
    x, dy = numbers((33, 20, 1), "float32"), numbers((33, 20, 1), "float32", 1)
    arrays = dy, x, None, None, np.zeros(20, np.float32), np.ones(20, np.float32)
    whole = run("batch_norm_gradient", *arrays, scalars=(1, 0))
    names = ("dx", "dweight", "dbias", "db")
    for skip in [("dx", "db"), ("dweight",), ("dbias",), ("db",)]:
        some = run("batch_norm_gradient", *arrays, skip=skip, scalars=(1, 0))
        for name, array, other in zip(names, some, whole):
            if name in skip:
                assert array is None
            else:
                np.testing.assert_array_equal(array, other)


def test_the_sum_of_a_gradient_that_is_skipped_is_refused(device: Any) -> None:
    x, each = np.ones((8, 2, 1), np.float32), np.ones(2, np.float32)
    with pytest.raises(ValueError, match="db is the sum of dx"):
        run("batch_norm_gradient", x, x, None, None, each, each, skip=("dx",), scalars=(1, 0))


_SIZES: dict[str, Any] = {"threads": 256, "vector": 4, "planes": False}
_GRADIENT = input_gradient_kernel.variant("float32", resident=3, masked=True, behind_relu=True, summed=True, **_SIZES)


@pytest.mark.parametrize(
    ("variant", "architecture"),
    [
        *((_GRADIENT, architecture) for architecture in ARCHITECTURES),
        (moments_kernel.variant("float32", resident=3, **_SIZES), "sm_90a"),
        (normalise_kernel.variant("float64", resident=2, relu=True, biased=True, **_SIZES), "sm_90a"),
    ],
)
def test_compiled(variant: Variant, architecture: str) -> None:
    text = sass(variant, architecture)
    assert not spills(text)
    assert count(text, r"LDG\.E\.128") >= 4  # on their way together
