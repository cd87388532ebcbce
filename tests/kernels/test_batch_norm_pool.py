"""The gradient in front of batch normalisation and max pooling, against the oracle of each, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycnn_kernels.plan import plan_for
from pycnn_kernels.problem import PoolProblem
from tests import reference as oracle
from tests.kernels.problems import (
    DTYPES,
    LAYOUTS,
    each_number_of_threads,
    numbers,
    pool_geometry,
    pool_problem,
)

EPSILON = 1e-3

#: Channels around the tiles of one, two and four vectors, and few of them; windows apart, side by side and overlapping.
PROBLEMS: list[dict[str, Any]] = [
    {},
    {"C": 16, "size": (9, 8)},
    {"C": 83, "size": (5, 7), "N": 3},
    {"C": 130, "size": (4, 6)},
    {"C": 1, "size": (6, 5)},
    {"C": 17, "size": (9, 7), "kernel": 3, "stride": 2, "padding": 1},
    {"C": 5, "size": (8, 9), "kernel": 3, "stride": 1},
    {"C": 6, "size": (11, 8), "kernel": 2, "stride": 3},
    {"C": 20, "size": (7, 5), "kernel": (3, 2), "stride": (2, 1), "ceil_mode": True},
    {"C": 4, "size": (4, 5, 6), "kernel": 2, "rank": 3},
    {"C": 9, "size": 13, "kernel": 4, "stride": 2, "dilation": 2, "rank": 1},
    {"C": 3, "size": (7, 6), "target": (3, 4)},
    {"C": 40, "size": (1, 1), "kernel": 1, "stride": 1, "N": 5},
]


def arrays_of(p: PoolProblem) -> dict[str, np.ndarray]:
    """In the order in which the operation takes them, and what the oracle needs beside them."""
    x = np.maximum(2 * numbers(p.x_shape, p.dtype) + 1, 0).astype(p.dtype)  # as behind a ReLU
    values = oracle.channels_last(x, p.layout).reshape(-1, p.C).astype(np.float64)
    mean, rstd = values.mean(axis=0), 1 / np.sqrt(values.var(axis=0) + EPSILON)
    weight = numbers((p.C,), p.dtype, 3)
    mean, rstd, scale = (array.astype(p.dtype) for array in (mean, rstd, weight * rstd))
    _, index = plan_for("max_pool", p._replace(normalised=True)).run(x, None, mean, scale, None)
    return {"dy": numbers(p.y_shape, p.dtype, 1), "index": index, "x": x, "weight": weight, "mean": mean, "rstd": rstd}


def expected(p: PoolProblem, arrays: dict[str, np.ndarray], relu: bool) -> list[np.ndarray]:
    x, dy = (oracle.channels_last(arrays[name], p.layout) for name in ("x", "dy"))
    dz = oracle.max_pooling_gradient(dy, arrays["index"], x.shape, *pool_geometry(p)).reshape(-1, p.C, 1)
    rows = x.reshape(-1, p.C, 1)
    statistics = rows.astype(np.float64).mean(axis=(0, 2)), rows.astype(np.float64).var(axis=(0, 2))
    dx, dweight, dbias = oracle.batch_normalisation_gradient(dz, rows, arrays["weight"], *statistics, EPSILON)
    dx = np.where(rows > 0, dx, 0) if relu else dx
    return [oracle.in_layout(dx.reshape(x.shape), p.layout), dweight, dbias, dx.sum(axis=(0, 2))]


def check(p: PoolProblem, relu: bool) -> None:
    arrays = arrays_of(p)
    found = plan_for("batch_norm_max_pool_gradient", p).run(*arrays.values(), scalars=(relu,))
    wanted = expected(p, arrays, relu)
    for array, other in zip(found[:3], wanted):
        oracle.assert_close(array, other, least=10)
    each = np.abs(oracle.channels_last(wanted[0], p.layout)).reshape(-1, p.C).sum(axis=0).max(initial=10)
    oracle.assert_close(found[3], wanted[3], least=float(each))


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", PROBLEMS, ids=str)
def test_the_gradients(form: dict[str, Any], dtype: str, layout: str, relu: bool) -> None:
    check(pool_problem(**form, dtype=dtype, layout=layout), relu)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 3), st.integers(1, 70), st.tuples(st.integers(3, 11), st.integers(3, 11)), st.integers(2, 3),
    st.integers(1, 3), st.integers(0, 1), st.booleans(), st.sampled_from(LAYOUTS),
)  # fmt: skip
def test_any_problem(
    N: int, C: int, size: tuple[int, int], kernel: int, stride: int, padding: int, relu: bool, layout: str
) -> None:
    check(pool_problem(N=N, C=C, size=size, kernel=kernel, stride=stride, padding=padding, layout=layout), relu)


def test_gradients_that_nobody_wants() -> None:
    p = pool_problem(C=20)
    arrays, plan = arrays_of(p), plan_for("batch_norm_max_pool_gradient", p)
    whole = plan.run(*arrays.values(), scalars=(1,))
    for skip in [("dx", "db"), ("dweight",), ("dbias",), ("db",)]:
        some = plan.run(*arrays.values(), skip=skip, scalars=(1,))
        for name, array, other in zip(("dx", "dweight", "dbias", "db"), some, whole):
            if name in skip:
                assert array is None
            else:
                np.testing.assert_array_equal(array, other)
    with pytest.raises(ValueError, match="db is the sum of dx"):
        plan.run(*arrays.values(), skip=("dx",), scalars=(1,))


def test_an_empty_batch() -> None:
    p = pool_problem(N=0)
    shapes = {name: np.zeros(shape, np.float32) for name, shape in (("dy", p.y_shape), ("x", p.x_shape))}
    each = np.ones(p.C, np.float32)
    index = np.zeros(p.index_shape, p.index_dtype)
    dx, *others = plan_for("batch_norm_max_pool_gradient", p).run(
        shapes["dy"], index, shapes["x"], each, each, each, scalars=(1,)
    )
    assert dx.shape == p.x_shape
    assert all((array == 0).all() for array in others)


def test_windows_without_elements_are_refused() -> None:
    p = pool_problem(size=(2, 2), kernel=2, stride=1, padding=1, dilation=3)
    with pytest.raises(ValueError, match="a window lies in the padding altogether"):
        plan_for("batch_norm_max_pool_gradient", p)


def results(p: PoolProblem) -> Iterator[np.ndarray]:
    yield from plan_for("batch_norm_max_pool_gradient", p).run(*arrays_of(p).values(), scalars=(1,))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "form", [{"N": 16, "C": 33, "size": (30, 20)}, {"N": 2, "C": 300, "size": (9, 9), "kernel": 3}]
)
def test_threads_do_not_change_the_bits(form: dict[str, Any], dtype: str) -> None:
    p = pool_problem(**form, dtype=dtype)
    plain = list(results(p))
    for _ in each_number_of_threads():
        for found, expected in zip(results(p), plain, strict=True):
            np.testing.assert_array_equal(found, expected)
