"""Layer normalisation and its gradients on the GPU, row by row, against the oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pycnn_kernels.cuda import channels, layer_norm
from pycnn_kernels.cuda.launch import MOST_ELEMENTS, Variant
from pycnn_kernels.cuda.layer_norm import layer_norm_gradient_kernel, layer_norm_kernel, layer_norm_sums_kernel
from pycnn_kernels.plan import plan_for
from pycnn_kernels.problem import RowsProblem
from tests import reference as oracle
from tests.cuda.sass import ARCHITECTURES, count, sass, spills
from tests.kernels.problems import DTYPES, numbers, run_on_host

EPS = 1e-5

#: Teams of some lanes, of a warp and of a block; one step, several, and more than are kept; a block with less rows than
#: teams; no rows.
SHAPES = [
    (0, 4),
    (1, 1),
    (5, 1),
    (230, 3),
    (3, 17),
    (100, 20),
    (2, 33),
    (3, 140),
    (2, 67),
    (2, 149),
    (1, 300),
    (1, 516),
]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several of them for arrays that are simulated in a moment."""
    monkeypatch.setattr(channels, "_THREADS", 64)
    monkeypatch.setattr(channels, "_LEAST_STEPS", 6)
    monkeypatch.setattr(layer_norm, "_THREADS", 64)
    monkeypatch.setattr(layer_norm, "_MOST_TEAM", 64)
    monkeypatch.setattr(layer_norm, "_MOST_STEPS", 2)


def run(x: np.ndarray, *parameters: np.ndarray | None, eps: float = EPS) -> tuple[Any, ...]:
    """y and the statistics."""
    plan = plan_for("layer_norm", RowsProblem(x.dtype.name, *x.shape), backend="cuda")
    return run_on_host(plan, x, *parameters, scalars=(eps,))


def run_gradient(
    dy: np.ndarray, x: np.ndarray, weight: np.ndarray | None, eps: float = EPS, skip: tuple[str, ...] = ()
) -> tuple[Any, ...]:
    _, statistics = run(x, eps=eps)
    plan = plan_for("layer_norm_gradient", RowsProblem(x.dtype.name, *x.shape), backend="cuda")
    return run_on_host(plan, dy, x, weight, statistics, skip=skip)


def arrays(rows: int, columns: int, dtype: str) -> list[np.ndarray]:
    """x, dy, weight and bias."""
    shapes = [(rows, columns), (rows, columns), (columns,), (columns,)]
    x, *others = (numbers(shape, dtype, seed) for seed, shape in enumerate(shapes))
    return [3 * x + 1, *others]


def check(rows: int, columns: int, dtype: str, weighted: bool, biased: bool) -> None:
    x, dy, weight, bias = arrays(rows, columns, dtype)
    w, b = weight if weighted else None, bias if biased else None
    oracle.assert_close(run(x, w, b)[0], oracle.layer_normalisation(x, w, b, EPS))
    if weighted != biased:  # of the gradients a bias changes nothing
        return
    expected = oracle.layer_normalisation_gradients(dy, x, w, EPS)
    # Where nearly all of a gradient cancels, as for rows of one element, its terms tell how much it is rounded.
    spreads = [oracle.normal_row(row, EPS)[1] for row in x.astype(np.float64)]
    largest = np.abs(dy).max(initial=1) * np.abs(weight).max(initial=1) / min(spreads, default=1)
    for found, other, least in zip(run_gradient(dy, x, w), expected, (largest, 1, 1)):
        oracle.assert_close(found, other, least=least)


@pytest.mark.parametrize("shape", SHAPES)
def test_layer_norm(device: Any, shape: tuple[int, int]) -> None:
    check(*shape, "float32", True, True)
    check(*shape, "float32", False, False)


@pytest.mark.parametrize("shape", [(3, 17), (9, 20), (2, 149)])
def test_float64(device: Any, shape: tuple[int, int]) -> None:
    check(*shape, "float64", True, True)


def test_weight_alone_and_bias_alone(device: Any) -> None:
    check(3, 17, "float32", True, False)
    check(3, 20, "float32", False, True)


@pytest.mark.parametrize("rows", [0, 4])
def test_rows_of_nothing(device: Any, rows: int) -> None:
    x, dy, weight, bias = arrays(rows, 0, "float32")
    y, statistics = run(x, weight, bias)
    assert y.shape == (rows, 0)
    assert np.isnan(statistics).all()  # there is no mean of nothing
    assert [found.shape for found in run_gradient(dy, x, weight)] == [(rows, 0), (0,), (0,)]


def test_of_no_rows_the_sums_are_zero(device: Any) -> None:
    x, dy, weight, _ = arrays(0, 5, "float32")
    _, dweight, dbias = run_gradient(dy, x, weight)
    np.testing.assert_array_equal([dweight, dbias], np.zeros((2, 5)))


@pytest.mark.parametrize("offset", [0, 1e2, 1e4, -1e6])
@pytest.mark.parametrize("columns", [3, 140])
def test_small_deviations_from_a_large_mean(device: Any, columns: int, offset: float) -> None:
    """A variance from the mean of squares would be noise, and so would deviations from a mean in float32."""
    deviation = max(1e-2, 4 * np.spacing(np.float32(abs(offset))))
    x = (offset + deviation * numbers((4, columns), "float64")).astype(np.float32)
    dy, weight = numbers((4, columns), "float32", 1), numbers((columns,), "float32", 2)
    eps = 1e-12
    y, statistics = run(x, eps=eps)
    oracle.assert_close(y, oracle.layer_normalisation(x, eps=eps))
    np.testing.assert_allclose(1 / statistics[:, 1].astype(np.float64) ** 2, x.astype(np.float64).var(1), rtol=1e-5)
    expected = oracle.layer_normalisation_gradients(dy, x, weight, eps)
    for found, other in zip(run_gradient(dy, x, weight, eps), expected):
        oracle.assert_close(found, other, 1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [0.0, 0.1, -1e4, 1e15])
def test_rows_of_equal_numbers(device: Any, value: float, dtype: str) -> None:
    y, statistics = run(np.full((2, 101), value, dtype))
    np.testing.assert_allclose(y, 0, atol=1e-6)
    np.testing.assert_allclose(statistics[:, 1], EPS**-0.5, rtol=1e-5)


def test_no_deviation_and_no_eps(device: Any) -> None:
    """0 over 0, not the root of a negative number nor an error."""
    assert np.isnan(run(np.full((1, 4), 3, np.float32), eps=0.0)[0]).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_fills_its_row_and_no_other(device: Any, value: float) -> None:
    x, dy, weight, bias = arrays(3, 10, "float32")  # several rows in a warp
    x[1, 4] = value
    np.testing.assert_array_equal(np.isnan(run(x, weight, bias)[0]).sum(axis=1), [0, 10, 0])
    np.testing.assert_array_equal(np.isnan(run_gradient(dy, x, weight)[0]).sum(axis=1), [0, 10, 0])


@pytest.mark.parametrize("wanted", [{"dx"}, {"dweight"}, {"dbias"}, {"dx", "dbias"}, {"dweight", "dbias"}])
def test_gradients_that_nobody_wants(device: Any, wanted: set[str]) -> None:
    x, dy, weight, _ = arrays(20, 13, "float32")
    names = ("dx", "dweight", "dbias")
    found = run_gradient(dy, x, weight, skip=tuple(name for name in names if name not in wanted))
    for name, gradient, other in zip(names, found, run_gradient(dy, x, weight)):
        assert (gradient is not None) == (name in wanted)
        if gradient is not None:
            np.testing.assert_array_equal(gradient, other)


def test_rows_that_32_bits_do_not_count() -> None:
    assert layer_norm.rows_fit(RowsProblem("float32", MOST_ELEMENTS, 3)) is None
    assert "axes of at most" in str(layer_norm.rows_fit(RowsProblem("float32", MOST_ELEMENTS + 1, 3)))


def _row_constants(team: int, steps: int) -> dict[str, Any]:
    return {"threads": max(team, 128), "team": team, "vector": 4, "steps": steps, "weighted": True}


@pytest.mark.parametrize(
    ("variant", "architecture", "loads"),
    [
        # x, weight and bias are read once, and x and dy; the loads of all steps.
        *((layer_norm_kernel.variant("float32", biased=True, **_row_constants(32, 4)), a, 12) for a in ARCHITECTURES),
        (layer_norm_gradient_kernel.variant("float32", **_row_constants(512, 4)), "sm_90a", 12),
        (layer_norm_gradient_kernel.variant("float64", **_row_constants(512, 4)), "sm_90a", 24),
        (layer_norm_sums_kernel.variant("float32", threads=256, resident=3, vector=4, planes=False), "sm_90a", 6),
    ],
)
def test_compiled(variant: Variant, architecture: str, loads: int) -> None:
    text = sass(variant, architecture)
    assert not spills(text)
    assert count(text, r"LDG\.E\.128") == loads


@pytest.mark.parametrize("shape", [(3, 17), (9, 20), (2, 149)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rms_norm_is_that_of_the_cpu(device: Any, shape: tuple[int, int], dtype: str) -> None:
    x, dy, weight, bias = arrays(*shape, dtype)
    p, found = RowsProblem(dtype, *shape), []
    for backend in ("cpu", "cuda"):
        y, statistics = run_on_host(plan_for("rms_norm", p, backend=backend), x, weight, bias, scalars=(EPS,))
        plan = plan_for("rms_norm_gradient", p, backend=backend)
        found.append([y, statistics, *run_on_host(plan, dy, x, weight, statistics)])
    for cpu, cuda in zip(*found, strict=True):
        oracle.assert_close(cuda, cpu)
