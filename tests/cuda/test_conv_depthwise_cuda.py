"""Depthwise convolution on the GPU against the oracle."""

from __future__ import annotations

from typing import Any

import pytest

from pycnn_kernels import plan as plan_module
from pycnn_kernels.cuda import conv_depthwise, parts
from pycnn_kernels.cuda.conv_depthwise import depthwise_gradient_kernel, depthwise_kernel, depthwise_supports
from pycnn_kernels.plan import plan_for
from pycnn_kernels.problem import ConvProblem
from tests import reference as oracle
from tests.cuda.sass import ARCHITECTURES, count, sass, spills
from tests.kernels.problems import LAYOUTS, conv_arrays, conv_problem, expected_conv, run_on_host


def depthwise(C: int, **others: Any) -> ConvProblem:
    """A problem that the algorithm supports."""
    p = conv_problem(**{"N": 1, "C": C, "K": C, "G": C, **others})
    assert depthwise_supports(p) is None
    return p


def check(p: ConvProblem) -> None:
    """All three operations by this algorithm against the oracle."""
    arrays, linear = conv_arrays(p), p.linear
    expected = expected_conv(p, **arrays)
    x, w, dy = arrays["x"], arrays["w"], arrays["dy"]
    finish = (arrays["b"] if p.bias else None, arrays.get("scale"), arrays.get("residual"))
    runs = {
        "y": ("conv_forward", p, (x, w, *finish)),
        "dx": ("conv_input_gradient", linear, (dy, w)),
        "dw": ("conv_weight_gradient", linear, (x, dy)),
    }
    for result, (operation, problem, inputs) in runs.items():
        plan = plan_for(operation, problem, backend="cuda", algorithm="depthwise")
        oracle.assert_close(run_on_host(plan, *inputs)[0], expected[result])


#: One channel at a time and four; results that leave a part of a thread's rows; each size and stride.
GEOMETRIES: dict[str, dict[str, Any]] = {
    "3": {"C": 3, "size": (5, 6), "kernel": 3, "padding": 1},
    "3 of four": {"C": 8, "size": (5, 3), "kernel": 3, "padding": ((1, 0), (0, 2))},
    "3 by 2": {"C": 4, "size": (6, 5), "kernel": 3, "stride": 2, "padding": ((0, 1), (1, 0))},
    "3 by 2, padded": {"C": 3, "size": (11, 4), "kernel": (3, 2), "stride": (2, 3), "padding": ((1, 1), (1, 0))},
    "5": {"C": 4, "size": (6, 4), "kernel": (5, 2), "dilation": (1, 2), "padding": ((2, 2), (1, 1)), "N": 2},
    "5 by 2": {"C": 1, "size": (13, 3), "kernel": 5, "stride": (2, 1), "padding": 2},
    "7": {"C": 4, "size": (4, 5), "kernel": 7, "padding": 3},
    "7 by 2": {"C": 2, "size": (9, 4), "kernel": (7, 3), "stride": 2, "padding": ((3, 2), (1, 1))},
    "signal": {"C": 4, "size": 11, "kernel": 3, "stride": 2, "padding": 1, "rank": 1},
    "row": {"C": 3, "size": (2, 10), "kernel": (1, 5), "stride": (2, 1), "padding": ((0, 1), (2, 2))},
}


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_geometries(device: Any, name: str, layout: str) -> None:
    weight_layout = "HWIO" if len(name) % 2 else "OIHW"
    check(depthwise(**GEOMETRIES[name], layout=layout, weight_layout=weight_layout))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("weight_layout", ["HWIO", "OIHW"])
def test_double(device: Any, layout: str, weight_layout: str) -> None:
    for C in (4, 5):
        check(
            depthwise(C, size=(4, 3), kernel=3, padding=1, layout=layout, weight_layout=weight_layout, dtype="float64")
        )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_epilogues(device: Any, layout: str) -> None:
    same: dict[str, Any] = {"size": (3, 4), "kernel": 3, "padding": 1, "layout": layout}
    for C in (3, 4):
        check(depthwise(C, **same, bias=True, scale=True, residual=True, activation="relu"))
        check(depthwise(C, **same, bias=True, activation="sigmoid"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_empty(device: Any, layout: str) -> None:
    """Sums of nothing are zeros."""
    for sizes in ({"N": 0}, {"size": (2, 3)}):
        check(depthwise(**{"C": 4, "size": (4, 3), "kernel": 3, "layout": layout, **sizes}))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_parts(device: Any, monkeypatch: pytest.MonkeyPatch, layout: str) -> None:
    """Parts of several lines, lines that are shorter than a row, and all lines in one part."""
    monkeypatch.setattr(conv_depthwise, "_LINE", 2)
    for most in (3, 1):
        monkeypatch.setattr(parts, "_MOST_PARTS", most)
        plan_module._plans.clear()
        check(depthwise(4, N=2, size=(6, 5), kernel=3, layout=layout))


def test_refused() -> None:
    same: dict[str, Any] = {"C": 4, "K": 4, "G": 4, "size": 9}
    for others, reason in (
        ({"K": 8}, "group"),
        ({"kernel": 4}, "taps"),
        ({"stride": 3}, "taps"),
        ({"dilation": 2}, "taps"),
        ({"padding": 1, "padding_mode": "reflect"}, "zeros"),
        ({"rank": 3, "kernel": 3}, "depth"),
    ):
        assert reason in str(depthwise_supports(conv_problem(**{**same, **others})))


LINEAR = {"bias": False, "scale": False, "residual": False, "activation": None}
WIDE = {"threads": 128, "rows": 4, "vector": 4, "channels_first": False}
NARROW = {"threads": 128, "rows": 8, "vector": 1, "channels_first": True}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_compiled(architecture: str) -> None:
    text = sass(depthwise_kernel.variant("float32", forward=True, size=3, stride=1, **WIDE, **LINEAR), architecture)
    assert count(text, r"LDG\.E\.128") >= 6 + 3
    assert count(text, r"STG\.E\.128") == 4
    assert not spills(text)
    if architecture == ARCHITECTURES[-1]:
        for variant in (
            depthwise_kernel.variant("float32", forward=True, size=7, stride=2, **NARROW, **LINEAR),
            depthwise_kernel.variant("float32", forward=False, size=5, stride=2, **WIDE, **LINEAR),
            depthwise_gradient_kernel.variant("float32", lanes=1, taps=7, stride=2, **WIDE),
            depthwise_gradient_kernel.variant("float32", lanes=32, taps=3, stride=1, **NARROW),
        ):
            assert not spills(sass(variant, architecture))
