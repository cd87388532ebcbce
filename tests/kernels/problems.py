"""Problems in few words, their arrays, and their operations against the oracle."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import pycnn
from pycnn.functional.pool import plane_positions
from pycnn_kernels import plan as plan_module
from pycnn_kernels.algorithms import algorithms_for
from pycnn_kernels.cpu import conv_pool, host
from pycnn_kernels.plan import Plan, plan_for
from pycnn_kernels.problem import ConvPoolProblem, ConvProblem, PoolProblem, numpy_dtype
from tests import reference as oracle

#: Fewer where a test runs others in a process of its own, whose kernels are compiled for another instruction set.
DTYPES = tuple(os.environ.get("PYCNN_TEST_DTYPES", "float32 float64").split())
#: Whether kernels are compiled for the widest instruction set of this processor. Those of another one are compiled
#: beside them: there tests leave out kernels that differ from others in what no width of vectors touches.
ON_THE_WIDEST = host.SIMD.name == host.supported()[0]
LAYOUTS = ("channels_last", "channels_first")

#: The backend whose algorithms the checks below run where a test names none: "cuda" on a machine that has a GPU.
BACKEND = os.environ.get("PYCNN_TEST_BACKEND", "cpu")
WEIGHT_LAYOUTS = ("HWIO", "OIHW")

#: The dtypes that arrays are stored in and nothing is computed in, as far as they can be had here.
HALVES = ("float16", "bfloat16") if importlib.util.find_spec("ml_dtypes") else ("float16",)
#: The same for a test's parameters: what cannot be had is skipped visibly.
EACH_HALF = [
    pytest.param(half, marks=pytest.mark.skipif(half not in HALVES, reason="ml_dtypes is not installed"))
    for half in ("float16", "bfloat16")
]

#: A session begins with as many threads as there are cores.
MOST_THREADS = pycnn.get_num_threads()

Sizes = int | tuple[int, ...]


def each_number_of_threads() -> Iterator[int]:
    """Set each possible number of threads in turn, and forget the plans that were made for another one."""
    for threads in range(1, MOST_THREADS + 1):
        pycnn.set_num_threads(threads)
        plan_module._plans.clear()
        yield threads


def per_axis(value: Sizes, rank: int, missing: int) -> tuple[int, int, int]:
    """One number for every axis, or one each; axes that the arrays lack get ``missing``."""
    values = (value,) * rank if isinstance(value, int) else value
    assert len(values) == rank
    return (missing,) * (3 - rank) + tuple(values)  # type: ignore[return-value]


def per_side(value: Any, rank: int) -> Any:
    """Padding from one number, or from (before, after) for each axis."""
    sides = ((value, value),) * rank if isinstance(value, int) else value
    assert len(sides) == rank
    return ((0, 0),) * (3 - rank) + tuple(sides)


def conv_problem(
    *,
    N: int = 2,
    C: int = 3,
    size: Sizes = (7, 6),
    K: int = 10,
    kernel: Sizes = 3,
    stride: Sizes = 1,
    padding: Any = 0,
    dilation: Sizes = 1,
    G: int = 1,
    dtype: str = "float32",
    layout: Any = "channels_last",
    weight_layout: Any = "HWIO",
    bias: bool = False,
    activation: str | None = None,
    rank: int = 2,
    padding_mode: Any = "zeros",
    scale: bool = False,
    residual: bool = False,
    slope: float = 0.01,
) -> ConvProblem:
    return ConvProblem(
        dtype, layout, weight_layout, N, C, per_axis(size, rank, 1), K, per_axis(kernel, rank, 1),
        per_axis(stride, rank, 1), per_side(padding, rank), per_axis(dilation, rank, 1), G, bias, activation, rank,
        padding_mode, scale, residual, slope,
    )  # fmt: skip


def pool_problem(
    kind: Any = "max",
    *,
    N: int = 2,
    C: int = 3,
    size: Sizes = (7, 6),
    kernel: Sizes = 2,
    stride: Sizes = 2,
    padding: Any = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    count_padding: bool = True,
    divisor: int = 0,
    dtype: str = "float32",
    layout: Any = "channels_last",
    rank: int = 2,
    target: Sizes | None = None,
) -> PoolProblem:
    return PoolProblem(
        kind, dtype, layout, N, C, per_axis(size, rank, 1), per_axis(kernel, rank, 1), per_axis(stride, rank, 1),
        per_side(padding, rank), per_axis(dilation, rank, 1), ceil_mode, count_padding, divisor, rank,
        None if target is None else per_axis(target, rank, 1),
    )  # fmt: skip


def numbers(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    """Normally distributed; another seed for each array of a problem."""
    return np.random.default_rng(seed).standard_normal(shape).astype(numpy_dtype(dtype))


def conv_arrays(p: ConvProblem) -> dict[str, np.ndarray]:
    """x, w, b and dy of a problem, and what else its epilogue takes."""
    arrays = {
        "x": numbers(p.x_shape, p.dtype, 1),
        "w": numbers(p.w_shape, p.dtype, 2),
        "b": numbers((p.K,), p.dtype, 3),
        "dy": numbers(p.y_shape, p.dtype, 4),
    }
    if p.scale:
        arrays["scale"] = numbers((p.K,), p.dtype, 5)
    if p.residual:
        arrays["residual"] = numbers(p.y_shape, p.dtype, 6)
    return arrays


def spatial(p: Any, *names: str) -> dict[str, Any]:
    """Fields of a problem without the axes that its arrays lack."""
    return {name: getattr(p, name)[3 - p.rank :] for name in names}


def expected_conv(
    p: ConvProblem,
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray,
    dy: np.ndarray,
    scale: np.ndarray | None = None,
    residual: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """y, dx and dw of the oracle, in the problem's layouts. The gradients are those in front of the epilogue."""
    geometry = spatial(p, "stride", "padding", "dilation") | {"groups": p.G, "padding_mode": p.padding_mode}
    x, w, dy = (
        oracle.channels_last(x, p.layout),
        oracle.taps_first(w, p.weight_layout),
        oracle.channels_last(dy, p.layout),
    )
    y = oracle.convolution(x, w, **geometry)
    there = None if residual is None else oracle.channels_last(residual, p.layout)
    y = oracle.epilogue(y, b if p.bias else None, scale, there, p.activation, p.slope)
    dx = oracle.convolution_input_gradient(dy, w, x.shape, **geometry)
    dw = oracle.convolution_weight_gradient(x, dy, w.shape[:-2], **geometry)
    return {
        "y": oracle.in_layout(y, p.layout),
        "dx": oracle.in_layout(dx, p.layout),
        "dw": oracle.in_weight_layout(dw, p.weight_layout),
    }


def by_every_algorithm(
    operation: str, p: Any, backend: str = BACKEND, only: str | None = None
) -> list[tuple[str, Plan]]:
    """The plans of all algorithms that support a problem, with their names; or of the one that is named."""
    names = [a.name for a in algorithms_for(backend, operation) if only in (None, a.name) and a.supports(p) is None]
    return [(name, plan_for(operation, p, backend=backend, algorithm=name)) for name in names]


def run_on_host(plan: Plan, *inputs: Any, updated: tuple[Any, ...] = (), **others: Any) -> tuple[Any, ...]:
    """Run a plan of any backend on NumPy arrays, of which ``updated`` change; the results are NumPy arrays."""
    if plan.backend == "cpu":
        return plan.run(*inputs, updated=updated, **others)
    there = [None if array is None else plan._arrays.from_host(array) for array in (*inputs, *updated)]
    changed = tuple(there[len(inputs) :])
    results = plan.run(*there[: len(inputs)], updated=changed, **others)
    for array, new in zip(updated, changed):
        if array is not None:
            array[...] = new.get()
    return tuple(None if result is None else result.get() for result in results)


def run_conv(
    p: ConvProblem,
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray,
    dy: np.ndarray,
    scale: np.ndarray | None = None,
    residual: np.ndarray | None = None,
    backend: str = BACKEND,
    only: str | None = None,
) -> dict[str, np.ndarray]:
    """y, dx and dw of every algorithm of a backend, or of one: "y direct", "dx direct" and so on."""
    linear = p._replace(bias=False, activation=None, scale=False, residual=False)
    runs = [
        ("y", "conv_forward", p, (x, w, b if p.bias else None, scale, residual)),
        ("dx", "conv_input_gradient", linear, (dy, w)),
        ("dw", "conv_weight_gradient", linear, (x, dy)),
    ]
    return {
        f"{result} {name}": run_on_host(plan, *arrays)[0]
        for result, operation, problem, arrays in runs
        for name, plan in by_every_algorithm(operation, problem, backend, only)
    }


#: Errors of algorithms that round more than a sum of products, against the largest result.
BOUNDS = {("winograd", "float32"): 3e-5, ("winograd_4x4", "float32"): 3e-5, ("winograd_2x2", "float32"): 1e-5}


def check_conv(p: ConvProblem, backend: str = BACKEND, only: str | None = None) -> None:
    """All three operations of a problem, by every algorithm or by one, against the oracle."""
    arrays = conv_arrays(p)
    found, expected = run_conv(p, **arrays, backend=backend, only=only), expected_conv(p, **arrays)
    assert found or only is None, f"{only} does none of the operations on {p}"
    for name, array in found.items():
        assert array.dtype == p.dtype
        result, algorithm = name.split()
        bound = BOUNDS.get((algorithm, p.dtype), oracle.BOUNDS[p.dtype])
        least = largest_product(result, **arrays)
        if result == "y" and p.activation:  # an error is one of the sums, which may be larger than what is left of them
            sums = expected_conv(p._replace(activation=None), **arrays)["y"]
            least = max(least, float(np.abs(sums).max(initial=0)))
        oracle.assert_close(array, expected[result], bound, least)


def largest_product(result: str, x: np.ndarray, w: np.ndarray, dy: np.ndarray, **others: np.ndarray) -> float:
    """The largest product that a result may sum: what sums round to, even where they cancel to almost nothing."""
    factors = {"y": (x, w), "dx": (dy, w), "dw": (x, dy)}[result]
    return float(np.prod([np.abs(factor).max(initial=0) for factor in factors]))


def run_pool(p: PoolProblem, x: np.ndarray, dy: np.ndarray, backend: str = BACKEND) -> dict[str, np.ndarray]:
    """y; dx, where there is a kernel for it; and where an element was found, which is kept in channels last."""

    def run(operation: str, *arrays: np.ndarray) -> tuple[Any, ...]:
        return run_on_host(plan_for(operation, p, backend=backend), *arrays)

    if p.kind == "norm":
        return {"y": run("norm_pool", x)[0]}
    if p.kind in ("max", "stochastic"):
        drawn = (uniform(p),) if p.kind == "stochastic" else ()
        y, index = run(f"{p.kind}_pool", x, *drawn)
        (dx,) = run("max_pool_gradient", dy, index)
        return {"y": y, "dx": dx, "index": oracle.in_layout(index, p.layout)}
    (y,) = run("average_pool", x)
    (dx,) = run("average_pool_gradient", dy)
    return {"y": y, "dx": dx}


def channel_norm(p: PoolProblem) -> dict[str, np.ndarray]:
    """What the elements of a pooling are normalised with, by the names of the arrays; scales of both signs, and 0."""
    dtype = numpy_dtype(p.dtype)
    arrays = {f"norm_{name}": numbers((p.C,), p.dtype, seed) for seed, name in enumerate(("mean", "scale", "bias"))}
    arrays["norm_scale"][p.C // 2] = 0
    return {name: array.astype(np.float32 if dtype.itemsize == 2 else dtype) for name, array in arrays.items()}


def uniform(p: PoolProblem) -> np.ndarray:
    """What a stochastic pooling draws with."""
    return np.random.default_rng(3).random(p.index_shape, numpy_dtype(p.dtype))


def pool_geometry(p: PoolProblem) -> tuple[Any, ...]:
    """As the oracle takes it."""
    if p.target is not None:
        return tuple(spatial(p, "target").values())
    return (*spatial(p, "kernel", "stride", "padding", "dilation").values(), p.ceil_mode)


def expected_pool(p: PoolProblem, x: np.ndarray, dy: np.ndarray) -> dict[str, np.ndarray]:
    geometry = pool_geometry(p)
    x, dy = oracle.channels_last(x, p.layout), oracle.channels_last(dy, p.layout)
    if p.kind == "norm":
        found = {"y": oracle.norm_pooling(x, *geometry)}
    elif p.kind in ("max", "stochastic"):
        drawn = oracle.stochastic_pooling(x, uniform(p), *geometry) if p.kind == "stochastic" else None
        y, index = drawn or oracle.max_pooling(x, *geometry)
        found = {"y": y, "dx": oracle.max_pooling_gradient(dy, index, x.shape, *geometry), "index": index}
    else:
        count = {"count_padding": p.count_padding, "divisor": p.divisor}
        y = oracle.average_pooling(x, *geometry, **count)
        found = {"y": y, "dx": oracle.average_pooling_gradient(dy, x.shape, *geometry, **count)}
    return {name: oracle.in_layout(array, p.layout) for name, array in found.items()}


def check_pool(p: PoolProblem, backend: str = BACKEND) -> None:
    """All that a pooling problem has kernels for against the oracle."""
    arrays = {"x": numbers(p.x_shape, p.dtype, 1), "dy": numbers(p.y_shape, p.dtype, 2)}
    found, expected = run_pool(p, **arrays, backend=backend), expected_pool(p, **arrays)
    for name in found.keys() - {"index"}:
        oracle.assert_close(found[name], expected[name])
    if "index" in found:
        somewhere = expected["index"] >= 0
        np.testing.assert_array_equal(found["index"][somewhere], expected["index"][somewhere])
        assert (found["index"][~somewhere] == p.no_position).all()


def conv_pool_problem(conv: ConvProblem, **pooling: Any) -> ConvPoolProblem:
    """The max pooling, as :func:`pool_problem` takes it, of a convolution's result."""
    rank = conv.rank
    return ConvPoolProblem(
        conv,
        pool_problem(
            N=conv.N, C=conv.K, size=conv.output[3 - rank :], dtype=conv.dtype, layout=conv.layout, rank=rank, **pooling
        ),
    )


@contextlib.contextmanager
def bands_of(size: int) -> Iterator[None]:
    """Inside this block plans are made whose bands have at most so many bytes of the convolution's result."""
    before = conv_pool._BAND_BYTES
    conv_pool._BAND_BYTES = size
    plan_module._plans.clear()
    try:
        yield
    finally:
        conv_pool._BAND_BYTES = before
        plan_module._plans.clear()


def conv_pool_arrays(p: ConvPoolProblem) -> dict[str, np.ndarray]:
    """Those of the convolution and of the norm."""
    return conv_arrays(p.conv) | channel_norm(p.pool)


def expected_conv_pool(p: ConvPoolProblem, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """y of the oracle, in the problem's layout; ``arrays`` may have those of the norm."""
    geometry = spatial(p.pool, "kernel", "stride", "padding", "dilation").values()
    pooled, _ = oracle.max_pooling(_between(p, arrays), *geometry, p.pool.ceil_mode)
    return oracle.in_layout(pooled, p.pool.layout)


def _between(p: ConvPoolProblem, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """What is pooled, of the oracle, in channels last."""
    conv, norm = _apart(arrays)
    between = oracle.channels_last(expected_conv(p.conv, **conv)["y"], p.conv.layout)
    if p.pool.normalised:
        mean, scale, bias = (array.astype(np.float64) for array in norm.values())
        between = (between - mean) * scale + bias
    return between


def conv_pool_bound(p: ConvPoolProblem, arrays: dict[str, np.ndarray], expected: np.ndarray) -> float:
    """Against the largest of the pooled: an error of the sums, of which any may be the largest.

    A band may be computed by Winograd's algorithm.
    """
    conv, norm = _apart(arrays)
    sums = expected_conv(p.conv._replace(activation=None), **conv)["y"]
    largest = np.abs(expected[np.isfinite(expected)]).max(initial=0)
    bound = BOUNDS.get(("winograd", p.dtype), oracle.BOUNDS[p.dtype])
    scale = np.abs(norm["norm_scale"]).max() if p.pool.normalised else 1
    return bound * max(1, scale * np.abs(sums).max(initial=0) / largest) if largest else bound


def _apart(arrays: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The arrays of the convolution, and those of the norm."""
    norm = {name: array for name, array in arrays.items() if name.startswith("norm_")}
    return {name: array for name, array in arrays.items() if name not in norm}, norm


def run_conv_pool(p: ConvPoolProblem, algorithm: str, arrays: dict[str, np.ndarray]) -> np.ndarray:
    return run_conv_pool_found(p, algorithm, arrays)[0]


def run_conv_pool_found(p: ConvPoolProblem, algorithm: str, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    """y and index."""
    inputs = (arrays["x"], arrays["w"], arrays["b"] if p.conv.bias else None, *map(arrays.get, ("scale", "residual")))
    norm = tuple(map(arrays.get, ("norm_mean", "norm_scale", "norm_bias"))) if p.pool.normalised else ()
    plan = plan_for("conv_max_pool", p, algorithm=algorithm)
    y, index = plan.run(*inputs, *norm)
    (alone,) = [a for a in plan.run(*inputs, *norm, skip=("index",)) if a is not None]
    np.testing.assert_array_equal(alone, y)
    return [y, index]


def check_conv_pool(p: ConvPoolProblem, *sizes: int) -> None:
    """In two passes, and in one with bands of each of these sizes in bytes, against the oracle."""
    arrays = conv_pool_arrays(p)
    expected = expected_conv_pool(p, arrays)
    bound = conv_pool_bound(p, arrays, expected)

    def check(algorithm: str) -> None:
        y, index = run_conv_pool_found(p, algorithm, arrays)
        oracle.assert_close(y, expected, bound)
        oracle.assert_close(_found(p, arrays, index), expected, bound)

    check("two_passes")
    for size in sizes:
        with bands_of(size):
            check("one_pass")


def _found(p: ConvPoolProblem, arrays: dict[str, np.ndarray], index: np.ndarray) -> np.ndarray:
    """The elements of the oracle's convolution at the positions that were found; of equal ones, any may be."""
    elements = _between(p, arrays)
    positions = plane_positions(p.pool, index)
    positions = positions if p.pool.layout == "channels_last" else np.moveaxis(positions, 1, -1)
    N, *pixels, K = positions.shape
    flat = positions.reshape(N, math.prod(pixels), K)
    picked = np.take_along_axis(elements.reshape(N, math.prod(p.pool.size), K), flat, axis=1)
    picked[flat < 0] = -np.inf
    return oracle.in_layout(picked.reshape(positions.shape), p.pool.layout)


def conv_pool_gradient_arrays(p: ConvPoolProblem) -> dict[str, np.ndarray]:
    """x, dy, and what the forward kept: index, and y behind a ReLU."""
    arrays = conv_pool_arrays(p)
    with bands_of(1):
        y, index = run_conv_pool_found(p, "two_passes", arrays)
    found = {"x": arrays["x"], "dy": numbers(p.pool.y_shape, p.dtype, 7), "index": index}
    return found | ({"y": y} if p.conv.activation else {})


def expected_conv_pool_gradient(
    p: ConvPoolProblem, x: np.ndarray, dy: np.ndarray, index: np.ndarray, y: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """dw, in the problem's layout, and db, of the oracle."""
    dz = oracle.channels_last(dy, p.conv.layout).astype(np.float64)
    if y is not None:
        dz = np.where(oracle.channels_last(y, p.conv.layout) <= 0, 0, dz)
    position = np.where(index == p.pool.no_position, -1, index.astype(np.int64))
    shape = (p.conv.N, *spatial(p.conv, "output")["output"], p.conv.K)
    geometry = (*spatial(p.pool, "kernel", "stride", "padding", "dilation").values(), p.pool.ceil_mode)
    between = oracle.in_layout(oracle.max_pooling_gradient(dz, position, shape, *geometry), p.conv.layout)
    linear = p.conv.linear
    weights = expected_conv(linear, x, numbers(p.conv.w_shape, "float64"), np.zeros(p.conv.K), between)
    return {"dw": weights["dw"], "db": oracle.bias_gradient(dz)}


def check_conv_pool_gradient(p: ConvPoolProblem, *sizes: int) -> None:
    """In two passes, and in one with bands of each of these sizes in bytes, against the oracle."""
    arrays = conv_pool_gradient_arrays(p)
    expected = expected_conv_pool_gradient(p, **arrays)
    least = largest_product("dw", w=np.zeros(0), **{name: arrays[name] for name in ("x", "dy")})

    def check(algorithm: str) -> None:
        plan = plan_for("conv_max_pool_weight_gradient", p, algorithm=algorithm)
        dw, db = plan.run(*arrays.values())
        oracle.assert_close(dw, expected["dw"], BOUNDS.get(("winograd", p.dtype)), least)
        oracle.assert_close(db, expected["db"], None, np.abs(arrays["dy"]).max(initial=0))
        (alone,) = [array for array in plan.run(*arrays.values(), skip=("db",)) if array is not None]
        np.testing.assert_array_equal(alone, dw)

    check("two_passes")
    for size in sizes:
        with bands_of(size):
            check("one_pass")
