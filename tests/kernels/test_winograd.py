"""Winograd's algorithm: its transforms, every scheme along every axis, padding modes, and which tiles are taken."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycnn_kernels.algorithms import algorithms_for
from pycnn_kernels.cpu.gather import continued
from pycnn_kernels.cpu.winograd_tiling import Roles, roles_of, schemes_of, suited_tiles
from pycnn_kernels.cpu.winograd_transforms import PAIRS, transform_patch, transform_products, transform_taps
from pycnn_kernels.plan import explain, plan_for
from pycnn_kernels.problem import ConvProblem
from tests import reference as oracle
from tests.kernels.problems import (
    BOUNDS,
    DTYPES,
    LAYOUTS,
    ON_THE_WIDEST,
    WEIGHT_LAYOUTS,
    by_every_algorithm,
    conv_arrays,
    conv_problem,
    each_number_of_threads,
    expected_conv,
)

OPERATIONS = {"y": "conv_forward", "dx": "conv_input_gradient", "dw": "conv_weight_gradient"}
FORMS = [dict(zip(("dtype", "layout", "weight_layout"), f)) for f in itertools.product(DTYPES, LAYOUTS, WEIGHT_LAYOUTS)]


def run_winograd(p: ConvProblem) -> dict[str, np.ndarray]:
    """y, dx and dw by every algorithm of Winograd's: "y winograd" and so on."""
    arrays = conv_arrays(p)
    inputs = {
        "y": (arrays["x"], arrays["w"], arrays["b"] if p.bias else None),
        "dx": (arrays["dy"], arrays["w"]),
        "dw": (arrays["x"], arrays["dy"]),
    }
    found = {}
    for result, operation in OPERATIONS.items():
        problem = p if result == "y" else p._replace(bias=False, activation=None)
        for name, plan in by_every_algorithm(operation, problem):
            if name.startswith("winograd"):
                found[f"{result} {name}"] = plan.run(*inputs[result])[0]
    return found


def check_winograd(p: ConvProblem) -> None:
    found, expected = run_winograd(p), expected_conv(p, **conv_arrays(p))
    assert {"y winograd", "dx winograd", "dw winograd"} <= set(found)
    for name, array in found.items():
        result, algorithm = name.split()
        oracle.assert_close(array, expected[result], BOUNDS.get((algorithm, p.dtype)))


# The transforms, in exact arithmetic.


@pytest.mark.parametrize(("m", "r"), [(m, n + 1 - m) for n in PAIRS for m in range(2, n)])
def test_transforms_are_exact(m: int, r: int) -> None:
    """F(m, r) of every size that the points allow; m and r change places in the weight gradient."""
    random = np.random.default_rng(m)
    n = m + r - 1
    d, g = ([Fraction(int(v), 7) for v in random.integers(-99, 99, size)] for size in (n, r))
    products = [a * b for a, b in zip(transform_patch(d), transform_taps(g, n), strict=True)]
    assert transform_products(products, m) == [sum(d[i + k] * g[k] for k in range(r)) for i in range(m)]


def test_transforms_of_one_result_along_an_axis_without_taps() -> None:
    assert transform_products([a * b for a, b in zip(transform_patch([3]), transform_taps([5], 1))], 1) == [15]


# Every scheme, rank and role of the axes; sizes around whole tiles, padding on any side.

GEOMETRIES: list[dict[str, Any]] = [
    {"kernel": 3, "size": (7, 9), "padding": ((0, 3), (2, 1))},
    {"kernel": 3, "size": (4, 8), "padding": 1},
    {"kernel": 5, "size": (6, 7), "padding": ((2, 1), (0, 4))},
    {"kernel": (3, 5), "size": (5, 6), "padding": 1},
    {"kernel": (5, 3), "size": (6, 5), "padding": 1},
    {"kernel": (1, 7), "size": (3, 9), "padding": ((0, 0), (3, 2))},
    {"kernel": (7, 1), "size": (9, 4), "padding": ((3, 3), (1, 0))},
    {"kernel": (3, 1), "size": (6, 3)},
    {"kernel": (2, 3), "size": (5, 6), "padding": ((1, 1), (0, 2))},
    {"kernel": (5, 4), "size": (6, 7), "padding": 1},
    {"kernel": 3, "size": (9, 14), "padding": ((2, 3), (4, 0)), "dilation": (2, 3)},
    {"kernel": (5, 3), "size": (11, 7), "padding": 2, "dilation": (2, 1)},
    {"kernel": (1, 7), "size": (3, 15), "padding": ((0, 0), (5, 6)), "dilation": 2},
    {"kernel": 2, "size": 11, "padding": ((1, 0),), "rank": 1},
    {"kernel": 2, "size": 13, "padding": ((4, 0),), "dilation": 4, "rank": 1},
    {"kernel": 3, "size": 11, "padding": 1, "rank": 1},
    {"kernel": 3, "size": 23, "padding": ((8, 8),), "dilation": 8, "rank": 1},
    {"kernel": 5, "size": 10, "padding": ((1, 3),), "rank": 1},
    {"kernel": 7, "size": 8, "padding": 3, "rank": 1},
    {"kernel": 3, "size": (3, 5, 6), "padding": ((1, 1), (0, 2), (1, 0)), "rank": 3},
    {"kernel": (3, 1, 1), "size": (6, 2, 3), "padding": ((1, 0), (0, 1), (0, 0)), "rank": 3},
    {"kernel": 3, "size": (5, 6, 5), "padding": ((2, 2), (0, 3), (1, 0)), "dilation": (2, 3, 1), "rank": 3},
    {"kernel": (3, 2, 3), "size": (5, 4, 6), "padding": ((1, 1), (0, 1), (2, 0)), "rank": 3},
    {"kernel": (3, 3, 2), "size": (5, 4, 3), "padding": 1, "rank": 3},
    {"kernel": (2, 1, 5), "size": (3, 2, 6), "padding": ((0, 1), (0, 0), (2, 2)), "rank": 3},
]
if not ON_THE_WIDEST:
    # Of 2 and 3 taps: the transforms of a scheme, which compute with numbers that are in one lane, know no width.
    GEOMETRIES = [g for g in GEOMETRIES if np.max(g["kernel"]) <= 3]


def with_forms(problems: list[dict[str, Any]], also_double: int) -> list[Any]:
    """Problems in each form; in float64 the first ones alone, because each scheme's kernels take seconds to compile."""
    return [
        pytest.param(problem, form, id=f"{'-'.join(form.values())}-{problem}")
        for form in FORMS
        for problem in (problems[:also_double] if form["dtype"] == "float64" else problems)
    ]


@pytest.mark.parametrize(("geometry", "form"), with_forms(GEOMETRIES, also_double=4))
def test_every_scheme(geometry: dict[str, Any], form: dict[str, str]) -> None:
    for C, K, G in [(1, 3, 1), (17, 33, 1), (64, 16, 1), (34, 66, 2)]:
        check_winograd(conv_problem(C=C, K=K, G=G, bias=True, activation="relu", **geometry, **form))


MUCH_WORK: list[dict[str, Any]] = [
    {"C": 16, "K": 70, "size": (60, 61), "kernel": 3, "padding": 1},
    {"C": 150, "K": 136, "size": 7, "kernel": 3, "padding": 1},
    {"C": 20, "K": 150, "size": 3000, "kernel": 3, "rank": 1},
    {"C": 70, "K": 130, "size": (3, 6, 5), "kernel": 3, "padding": 1, "rank": 3},
    {"C": 450, "K": 33, "size": 40, "kernel": 5, "padding": 2, "rank": 1},
    {"C": 320, "K": 640, "G": 2, "size": 7, "kernel": 3, "padding": 1},
    {"C": 96, "K": 144, "G": 6, "size": (21, 20), "kernel": 3, "padding": 2, "dilation": 2},
]


@pytest.mark.parametrize(("work", "form"), with_forms(MUCH_WORK, also_double=2))
def test_more_work_than_one_piece(work: dict[str, Any], form: dict[str, str]) -> None:
    """Pieces, blocks of columns, passes over the channels of few tiles, splits of the weight gradient, threads."""
    check_winograd(conv_problem(N=1, **work, **form))


@pytest.mark.parametrize("N", [0, 1, 5])
def test_batches(N: int) -> None:
    for geometry in GEOMETRIES[2::4]:
        check_winograd(conv_problem(N=N, C=5, K=20, bias=True, **geometry))


@pytest.mark.parametrize("geometry", GEOMETRIES[::5], ids=str)
def test_neither_runs_nor_threads_change_the_bits(geometry: dict[str, Any]) -> None:
    p = conv_problem(N=30, C=33, K=70, **geometry)
    first = run_winograd(p)
    for _ in each_number_of_threads():
        for name, array in run_winograd(p).items():
            np.testing.assert_array_equal(array, first[name])


@st.composite
def winograd_problems(draw: st.DrawFn) -> ConvProblem:
    """Any problem that the algorithm supports."""
    rank = draw(st.integers(1, 3))
    kernel = draw(st.tuples(*[st.sampled_from([1, 2, 3, 3, 5, 7])] * rank).filter(lambda k: roles_of(triple(k))))
    dilation = [draw(st.sampled_from([1, 1, 2, 3])) for _ in range(rank)]
    sides = [draw(st.tuples(st.integers(0, 4), st.integers(0, 4))) for _ in range(rank)]
    least = [max(1, (k - 1) * d + 1 - sum(s)) for k, d, s in zip(kernel, dilation, sides)]
    sizes = [draw(st.integers(size, max(size, 10))) for size in least]
    G = draw(st.sampled_from([1, 1, 2, 3]))
    return conv_problem(
        N=draw(st.integers(0, 3)), C=G * draw(st.integers(1, 70 // G)), K=G * draw(st.integers(1, 70 // G)), G=G,
        size=tuple(sizes), kernel=kernel, dilation=tuple(dilation), padding=tuple(sides), rank=rank,
        dtype=draw(st.sampled_from(DTYPES)),
        layout=draw(st.sampled_from(LAYOUTS)), weight_layout=draw(st.sampled_from(WEIGHT_LAYOUTS)),
        bias=draw(st.booleans()), activation=draw(st.sampled_from([None, "relu"])),
    )  # fmt: skip


def triple(kernel: tuple[int, ...]) -> tuple[int, int, int]:
    d, h, w = (1,) * (3 - len(kernel)) + kernel
    return d, h, w


@given(winograd_problems())
@settings(max_examples=150)
def test_any_problem(p: ConvProblem) -> None:
    check_winograd(p)


# Rounding.

DEEP: list[dict[str, Any]] = [
    {"size": 12, "kernel": 5, "padding": 2, "C": 96},
    {"size": 17, "kernel": (1, 7), "padding": ((0, 0), (3, 3)), "C": 192},
    {"size": 17, "kernel": (7, 1), "padding": ((3, 3), (0, 0)), "C": 192},
    {"size": 200, "kernel": 3, "padding": 1, "C": 256, "rank": 1},
    {"size": 200, "kernel": 5, "padding": 2, "C": 256, "rank": 1},
    {"size": (4, 8, 8), "kernel": 3, "padding": 1, "C": 128, "rank": 3},
]


@pytest.mark.parametrize("layer", DEEP, ids=str)
def test_rounding(layer: dict[str, Any]) -> None:
    """In float32, against float64, relative to the largest result: within 3e-5, small tiles within 1e-5."""
    p = conv_problem(N=1, K=64, **layer)
    expected = expected_conv(p, **conv_arrays(p))
    for name, array in run_winograd(p).items():
        result, algorithm = name.split()
        oracle.assert_close(array, expected[result], BOUNDS[algorithm, "float32"])


# Padding modes.

MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("mode", MODES)
def test_source_positions(mode: Any, size: int) -> None:
    """What numpy.pad puts into the padding, also where that is longer than the source."""
    for before, after in itertools.product(range(8), range(8)):
        expected = np.pad(np.arange(size), (before, after), mode=MODES[mode])  # type: ignore[call-overload]
        np.testing.assert_array_equal(continued(np.arange(expected.size) - before, size, mode), expected)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_padding_modes(geometry: dict[str, Any], mode: Any, dtype: str, layout: str) -> None:
    p = conv_problem(C=9, K=20, bias=True, dtype=dtype, layout=layout, **geometry, padding_mode=mode)
    arrays = conv_arrays(p)
    sides = p.padding[3 - p.rank :]
    x = np.pad(oracle.channels_last(arrays["x"], layout), [(0, 0), *sides, (0, 0)], mode=MODES[mode])
    padded = {"stride": [1] * p.rank, "padding": [(0, 0)] * p.rank, "dilation": p.dilation[3 - p.rank :]}
    expected = oracle.convolution(x, arrays["w"], arrays["b"], **padded)  # type: ignore[arg-type]
    plan = plan_for("conv_forward", p, algorithm="winograd")
    (y,) = plan.run(arrays["x"], arrays["w"], arrays["b"])
    oracle.assert_close(y, oracle.in_layout(expected, layout), BOUNDS.get(("winograd", dtype)))


@pytest.mark.parametrize("operation", ["conv_input_gradient", "conv_weight_gradient"])
@pytest.mark.parametrize("algorithm", ["winograd", "winograd_4x4", "winograd_2x2"])
def test_gradients_of_other_padding_modes_are_refused(operation: str, algorithm: str) -> None:
    p = conv_problem(padding=1, padding_mode="reflect")
    with pytest.raises(ValueError, match=f"'{algorithm}' of {operation} needs zeros as padding; received 'reflect'"):
        plan_for(operation, p, algorithm=algorithm)


@pytest.mark.parametrize("mode", MODES)
def test_gradients_without_padding_in_any_mode(mode: Any) -> None:
    """The places around dy are zeros, whatever would be shown around x."""
    geometries: list[dict[str, Any]] = [{"kernel": 3, "size": (7, 9)}, {"kernel": 2, "size": 5, "rank": 1}]
    for geometry in geometries:
        check_winograd(conv_problem(C=5, K=18, padding_mode=mode, **geometry))


# What is taken.

ROLES = [
    ((1, 3, 3), (0, 1, 2)),
    ((1, 1, 7), (0, 1, 2)),
    ((1, 7, 1), (0, 2, 1)),
    ((3, 1, 1), (1, 2, 0)),
    ((5, 1, 5), (1, 0, 2)),
    ((3, 3, 3), (0, 1, 2)),
    ((3, 3, 4), (2, 0, 1)),
    ((1, 2, 3), (1, 0, 2)),
    ((1, 5, 3), (0, 2, 1)),
    ((1, 1, 2), (0, 1, 2)),
    ((1, 2, 2), (1, 0, 2)),
    ((2, 3, 3), (0, 1, 2)),
]
UNSUPPORTED = [(1, 1, 1), (2, 2, 2), (1, 7, 7), (1, 3, 7), (2, 2, 3), (4, 6, 3), (1, 1, 9)]


@pytest.mark.parametrize(("kernel", "roles"), ROLES)
def test_roles(kernel: Any, roles: Any) -> None:
    assert roles_of(kernel) == Roles(*roles)


@pytest.mark.parametrize("kernel", UNSUPPORTED)
def test_kernels_that_are_refused(kernel: Any) -> None:
    p = conv_problem(kernel=kernel, size=(9, 9, 9), rank=3)
    for operation in OPERATIONS.values():
        with pytest.raises(ValueError, match=f"kernels of 3 or 5 .*; received {' x '.join(map(str, kernel))}"):
            plan_for(operation, p, algorithm="winograd")


@pytest.mark.parametrize(
    ("unsuitable", "reason"),
    [
        ({"stride": 2}, r"stride 1; received \(2, 2\)"),
        ({"stride": (1, 3)}, r"stride 1; received \(1, 3\)"),
    ],
)
def test_problems_that_are_refused(unsuitable: dict[str, Any], reason: str) -> None:
    p = conv_problem(padding=1, **unsuitable)
    for operation, name in itertools.product(OPERATIONS.values(), ("winograd", "winograd_4x4", "winograd_2x2")):
        with pytest.raises(ValueError, match=f"'{name}' of {operation} needs {reason}"):
            plan_for(operation, p, algorithm=name)


def test_sizes_by_name_need_a_choice() -> None:
    p = conv_problem(kernel=5, size=9)
    with pytest.raises(ValueError, match="needs kernels of 3 along an axis, or of 5 along one; received 5 x 5"):
        plan_for("conv_forward", p, algorithm="winograd_2x2")


def test_large_tiles_are_taken_where_they_fill() -> None:
    large, small = schemes_of((1, 3, 3))
    assert (large.results, small.results) == (16, 4)
    for operation in ("forward", "input_gradient", "weight_gradient"):
        assert suited_tiles(conv_problem(C=64, K=64, size=56, padding=1), operation) == large  # type: ignore[arg-type]
        assert suited_tiles(conv_problem(C=64, K=64, size=2, padding=1), operation) == small  # type: ignore[arg-type]


LAYERS: list[dict[str, Any]] = [
    {"C": 64, "K": 64, "size": 56, "kernel": 3, "padding": 1},
    {"C": 64, "K": 192, "size": 27, "kernel": 5, "padding": 2},
    {"C": 192, "K": 192, "size": 17, "kernel": (1, 7), "padding": ((0, 0), (3, 3))},
    {"C": 64, "K": 64, "size": (16, 56, 56), "kernel": 3, "padding": 1, "rank": 3},
    {"C": 128, "K": 128, "size": 1000, "kernel": 3, "padding": 1, "rank": 1},
]


@pytest.mark.parametrize("layer", LAYERS, ids=str)
@pytest.mark.parametrize("operation", OPERATIONS.values())
def test_auto_takes_it_for_layers_with_many_channels(layer: dict[str, Any], operation: str) -> None:
    verdicts = {verdict.name: verdict for verdict in explain(operation, conv_problem(N=1, **layer))}
    assert verdicts["winograd"].chosen
    assert verdicts["direct"].reason == "winograd is asked first"


def test_auto_leaves_small_layers_to_others() -> None:
    """There sizes by name must not be taken either."""
    p = conv_problem(N=1, C=3, K=40, size=5, padding=1)
    for operation in OPERATIONS.values():
        for verdict in explain(operation, p):
            if verdict.name.startswith("winograd"):
                assert not verdict.chosen
                assert verdict.reason is not None
                wanted = "times as long as direct" if verdict.name == "winograd" else "to be asked for by name"
                assert wanted in verdict.reason


def test_each_operation_has_the_three() -> None:
    for operation in OPERATIONS.values():
        names = [algorithm.name for algorithm in algorithms_for("cpu", operation)]
        at = names.index("winograd")
        assert names[at : at + 3] == ["winograd", "winograd_4x4", "winograd_2x2"]
