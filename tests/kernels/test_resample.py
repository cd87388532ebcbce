"""Rearrangements and resampling against loops that know no tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycnn_kernels.plan import plan_for
from pycnn_kernels.problem import Nearest, RearrangeProblem, ResampledAxis, ResampleProblem, numpy_dtype
from pycnn_kernels.rearrangement import rearrangement
from tests import reference as oracle
from tests.kernels.problems import BACKEND, DTYPES, HALVES, each_number_of_threads, numbers, run_on_host

WAYS = ("constant", "reflect", "replicate", "circular")

#: Rearrangements of one image: sizes, axes of y, starts, ways. Padding and cropping along one to three axes, windows
#: with steps, squares of channels as pixels, axes in another order, nothing at all.
KINDS: dict[str, tuple[Any, ...]] = {
    **{f"{way} signal": ((7,), ((12, 0, 1),), (-2,), (way,)) for way in WAYS},
    **{f"{way} image": ((5, 6), ((9, 0, 1), (10, 1, 1)), (-2, -3), (way, way)) for way in WAYS},
    **{f"{way} volume": ((3, 4, 5), ((5, 0, 1), (6, 1, 1), (7, 2, 1)), (-1, -1, -1), (way,) * 3) for way in WAYS},
    "cropped": ((6, 7), ((3, 0, 1), (4, 1, 1)), (2, 1), ("constant", "constant")),
    "far outside": ((3, 3), ((2, 0, 1), (9, 1, 1)), (7, -8), ("constant", "constant")),
    "windows": ((7, 8), ((3, 0, 2), (2, 1, 1), (4, 0, 2), (5, 1, 2)), (-2, -1), ("constant", "constant")),
    "windows as rows": ((7, 8), ((4, 0, 2), (5, 1, 2), (3, 0, 2), (2, 1, 1)), (-2, -1), ("constant", "constant")),
    "squares": ((8, 3, 5), ((2, 0, 4), (3, 1, 1), (2, 0, 2), (5, 2, 1), (2, 0, 1)), (0, 0, 0), ("constant",) * 3),
    "transposed": ((3, 5), ((5, 1, 1), (3, 0, 1)), (0, 0), ("constant", "constant")),
    "long rows": ((3, 200), ((5, 0, 1), (230, 1, 1)), (-1, -7), ("reflect", "reflect")),
    "nothing": ((3, 0), ((5, 0, 1), (0, 1, 1)), (-1, 0), ("constant", "constant")),
}


def _problem(kind: str, dtype: str, N: int, inner: int) -> RearrangeProblem:
    size, axes, starts, ways = KINDS[kind]
    return RearrangeProblem(dtype, N, size, axes, starts, ways, inner)


def _geometry(p: RearrangeProblem) -> tuple[Any, ...]:
    counts, along, steps = zip(*p.axes)
    return counts, along, steps, p.starts, p.size, p.ways


def _elements(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return numbers(shape, dtype)
    return np.random.default_rng(0).integers(0, 2 if dtype == "bool" else 100, shape).astype(kind)


#: Images and elements of a pixel: one, few, a piece, more than a row has, none.
BATCHES = [(2, 1), (1, 3), (3, 20), (1, 1100), (0, 1), (2, 0)]


@pytest.mark.parametrize(
    ("N", "inner", "dtype"),
    [*((*batch, "float32") for batch in BATCHES), (2, 1, "uint8"), (3, 20, "bool"), (1, 3, "int16"), (2, 1, "float64")],
)
@pytest.mark.parametrize("kind", KINDS)
def test_rearrangement(kind: str, N: int, inner: int, dtype: str) -> None:
    p = _problem(kind, dtype, N, inner)
    x = _elements(p.x_shape, dtype)
    value = np.array([77]).astype(dtype)
    (y,) = run_on_host(plan_for("rearrange", p, backend=BACKEND), x, value)
    np.testing.assert_array_equal(y, oracle.rearranged(x, *_geometry(p), value=value[0]))


@pytest.mark.parametrize(
    ("N", "inner", "dtype"),
    [
        *((*batch, "float32") for batch in [*BATCHES, (1, 150), (20, 9)]),
        *((2, 1, half) for half in HALVES),
        (3, 20, "float64"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_gradient_of_a_rearrangement(kind: str, N: int, inner: int, dtype: str) -> None:
    p = _problem(kind, dtype, N, inner)
    dy = numbers(p.y_shape, dtype)
    if dtype in HALVES and BACKEND == "cuda":
        pytest.skip("backend 'cuda' has no halves")
    (dx,) = run_on_host(plan_for("rearrange_gradient", p, backend=BACKEND), dy)
    expected = oracle.rearranged_gradient(dy.astype(np.float64), p.size, *_geometry(p))
    (oracle.assert_rounded if dtype in HALVES else oracle.assert_close)(dx, expected)


@pytest.mark.parametrize(("size", "output", "scale"), [(5, 10, 0.5), (7, 3, 7 / 3), (4, 9, 0.4), (6, 6, 1.0)])
@pytest.mark.parametrize("centred", [False, True])
def test_nearest(size: int, output: int, scale: float, centred: bool) -> None:
    """The element whose part of the axis a place lies in."""
    way = Nearest(size, scale, "float64", centred)
    p = RearrangeProblem("float64", 2, (size,), ((output, 0, 1),), (0,), (way,), 3)
    x = numbers(p.x_shape, "float64")
    (y,) = run_on_host(plan_for("rearrange", p, backend=BACKEND), x, np.zeros(1))
    shown = [min(int((o + centred / 2) * scale), size - 1) for o in range(output)]
    np.testing.assert_array_equal(y, x[:, shown])


@pytest.mark.parametrize("operation", ["rearrange", "rearrange_gradient"])
def test_tables_never_lead_beyond_the_elements(operation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An axis without elements shows none in any mode; and if a table were wrong, there would be no plan."""
    for way in WAYS:
        p = RearrangeProblem("uint8" if operation == "rearrange" else "float32", 1, (0,), ((3, 0, 1),), (-3,), (way,))
        assert (rearrangement(p).columns < 0).all()
    monkeypatch.setattr("pycnn_kernels.rearrangement.continued", lambda positions, size, way: positions + 1)
    with pytest.raises(ValueError, match="a rearrangement of 5 elements must show none beyond"):
        plan_for(operation, RearrangeProblem(p.dtype, 1, (5,), ((5, 0, 1),), (0,), ("reflect",)), backend=BACKEND)


def test_workspace_does_not_grow_with_cores_that_have_nothing_to_do() -> None:
    p = ResampleProblem("float32", 1, (ResampledAxis("linear", 1000, 3),))
    task_of_one = plan_for("resample", p, backend=BACKEND).workspace_bytes
    assert task_of_one <= 4 * (1000 + 3) + 256


def test_few_tables_hold_many_windows() -> None:
    """Of windows of 3x3, three tables of columns: one for each position of the kernel along the width."""
    p = RearrangeProblem(
        "float32", 1, (56, 56), ((3, 0, 1), (3, 1, 1), (56, 0, 1), (56, 1, 1)), (-1, -1), ("constant",) * 2
    )
    tables = rearrangement(p)
    assert tables.columns.shape == (3, 56)
    assert tables.runs.tolist() == [[1, 56], [0, 56], [0, 55]]


#: Axes as the oracle's matrix takes them: larger, smaller, the same, one element, corners aligned, a given scale.
AXES = [
    ("linear", 5, 10), ("linear", 9, 4), ("linear", 6, 6), ("linear", 1, 7), ("linear", 8, 1),
    ("linear", 5, 9, 0.0, True), ("linear", 5, 11, 0.45), ("cubic", 5, 10), ("cubic", 9, 4), ("cubic", 6, 6),
    ("cubic", 2, 5), ("cubic", 5, 9, 0.0, True), ("linear", 12, 5, 0.0, False, True),
    ("cubic", 12, 5, 0.0, False, True), ("cubic", 4, 9, 0.0, False, True), ("linear", 40, 3, 0.0, False, True),
    ("linear", 6, 6, 1 / 1.1, False, True), ("cubic", 6, 6, 1 / 1.1, False, True), ("cubic", 6, 6, 1 / 1.1),
]  # fmt: skip


def check_resampling(dtype: str, N: int, axes: list[tuple[Any, ...]], inner: int, backend: str = BACKEND) -> None:
    """Both directions."""
    p = ResampleProblem(dtype, N, tuple(ResampledAxis(*axis) for axis in axes), inner)
    matrices = [oracle.resampling_matrix(*axis) for axis in axes]
    x, dy = numbers(p.x_shape, dtype), numbers(p.y_shape, dtype, 1)
    (y,) = run_on_host(plan_for("resample", p, backend=backend), x)
    (dx,) = run_on_host(plan_for("resample_gradient", p, backend=backend), dy)
    close = oracle.assert_rounded if dtype in HALVES else oracle.assert_close
    close(y, oracle.resampled(x.astype(np.float64), matrices))
    close(dx, oracle.resampled(dy.astype(np.float64), [matrix.T for matrix in matrices]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("inner", [1, 3, 8, 37])
@pytest.mark.parametrize("axis", AXES, ids=str)
def test_signals(axis: tuple[Any, ...], inner: int, dtype: str) -> None:
    check_resampling(dtype, 3, [axis], inner)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("N", "inner"), [(2, 1), (1, 5), (3, 70), (0, 1), (2, 0)])
@pytest.mark.parametrize("high", AXES[::3], ids=str)
def test_images(high: tuple[Any, ...], N: int, inner: int, dtype: str) -> None:
    for wide in AXES[::2]:
        check_resampling(dtype, N, [high, wide], inner)


@pytest.mark.parametrize("dtype", [*DTYPES, *HALVES])
@pytest.mark.parametrize("inner", [1, 9])
def test_volumes(inner: int, dtype: str) -> None:
    if dtype in HALVES and BACKEND == "cuda":
        pytest.skip("backend 'cuda' has no halves")
    for deep, high, wide in zip(AXES, AXES[1:], AXES[2:]):
        check_resampling(dtype, 2, [deep, high, wide], inner)


@given(
    st.integers(1, 3),
    st.lists(
        st.tuples(
            st.sampled_from(["linear", "cubic"]), st.integers(1, 150), st.integers(1, 150), st.just(0.0),
            st.booleans(), st.just(False),
        ), min_size=1, max_size=2,
    ),
    st.integers(1, 17),
)  # fmt: skip
@settings(max_examples=40)
def test_drawn_resampling(N: int, axes: list[tuple[Any, ...]], inner: int) -> None:
    """In float64: positions on long axes are less exact in float32 than the weights of one element."""
    check_resampling("float64", N, axes, inner)


@pytest.mark.skipif(BACKEND != "cpu", reason="threads of the CPU")
def test_bits_are_those_of_every_number_of_threads() -> None:
    padding = RearrangeProblem("float32", 3, (30, 40), ((34, 0, 1), (46, 1, 1)), (-2, -3), ("replicate",) * 2, 20)
    larger = ResampleProblem("float32", 3, (ResampledAxis("cubic", 30, 51), ResampledAxis("linear", 40, 33)), 20)
    for operation, p in (
        ("rearrange", padding),
        ("rearrange_gradient", padding),
        ("resample", larger),
        ("resample_gradient", larger),
    ):
        array = numbers(p.y_shape if "gradient" in operation else p.x_shape, "float32")
        fill = (np.ones(1, np.float32),) if operation == "rearrange" else ()
        found = [plan_for(operation, p).run(array, *fill)[0].tobytes() for _ in each_number_of_threads()]
        assert len(set(found)) == 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_stays_where_it_is(value: float) -> None:
    """Results that an element has no part in do not see it; zeros beyond an edge are no elements."""
    p = ResampleProblem("float64", 1, (ResampledAxis("linear", 8, 16),), 1)
    x = np.ones(p.x_shape)
    x[0, 3] = value
    (y,) = run_on_host(plan_for("resample", p, backend=BACKEND), x)
    assert np.flatnonzero(~np.isfinite(y)).tolist() == [5, 6, 7, 8]
    dy = np.ones(p.y_shape)
    dy[0, -1] = value
    (dx,) = run_on_host(plan_for("resample_gradient", p, backend=BACKEND), dy)
    assert np.flatnonzero(~np.isfinite(dx)).tolist() == [7]
    assert numpy_dtype("float64") == dx.dtype
