"""What ``explain`` says: the algorithm that a call gets, and why not another one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pycnn
import pycnn.functional as F
from pycnn.cli import main
from pycnn.functional.conv import problem_of
from pycnn_kernels.plan import plan_for

CALLS: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any], str]] = [
    ((1, 64, 56, 56), (64, 64, 3, 3), {"padding": 1}, "winograd"),
    ((1, 64, 56, 56), (64, 64, 3, 3), {"stride": 2}, "direct"),
    ((1, 256, 14, 14), (64, 256, 1, 1), {}, "direct"),
    ((4, 3, 32, 32), (6, 3, 5, 5), {}, "few_channels"),
    ((1, 32, 28, 28), (32, 1, 3, 3), {"groups": 32, "padding": "same"}, "depthwise"),
]


@pytest.mark.parametrize(("x", "w", "settings", "expected"), CALLS)
def test_the_algorithm_that_a_call_gets(
    x: tuple[int, ...], w: tuple[int, ...], settings: dict[str, Any], expected: str
) -> None:
    found = pycnn.explain("conv2d", x, w, **settings)
    assert found.chosen() == expected
    for operation, verdicts in found.verdicts.items():
        name = {"forward": "conv_forward", "input gradient": "conv_input_gradient"}.get(
            operation, "conv_weight_gradient"
        )
        assert plan_for(name, found.problem).algorithm.name == found.chosen(operation)
        assert [v.chosen for v in verdicts].count(True) == 1
        for v in verdicts:
            assert (v.reason is None) == v.chosen
            assert v.workspace_bytes is not None or not v.chosen


def test_it_describes_the_call_itself() -> None:
    x, w = np.zeros((2, 5, 9, 8), "float32"), np.zeros((4, 5, 3, 3), "float32")
    y = F.conv2d(x, w, padding=(1, 0), stride=2)
    assert pycnn.explain("conv2d", x.shape, w.shape, padding=(1, 0), stride=2).problem.y_shape == y.shape


def test_as_a_table() -> None:
    text = repr(pycnn.explain("conv2d", (1, 8, 9, 9), (16, 8, 3, 3), stride=2))
    assert text.startswith(
        "input (1, 8, 9, 9), weight (16, 8, 3, 3), channels_first, float32: 0.0 million multiply-adds"
    )
    assert "needs stride 1 and dilation 1; received (2, 2) and (1, 1)" in text
    assert "register tile" in text


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("conv3d", (1, 2, 3, 4), (1, 2, 1, 1)), ValueError, "operation must be one of 'conv2d'; received 'conv3d'"),
        (("conv2d", (1, 2, 3, 4), "3x3"), TypeError, "weight must be a shape, a tuple of integers of at least 0"),
        (("conv2d", (1, 2, 3, -4), (1, 2, 1, 1)), TypeError, "input must be a shape"),
        (("conv2d", (1, 3, 8, 8), (1, 2, 3, 3)), ValueError, "weight must have 3 input channels"),
    ],
)
def test_errors(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        pycnn.explain(*arguments)
    with pytest.raises(ValueError, match="operation must be one of 'forward'"):
        pycnn.explain("conv2d", (1, 2, 3, 4), (1, 2, 1, 1)).chosen("backward")


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("│|").replace("│", "|").split("|")]


def command(options: str) -> int:
    return main(["explain", "conv2d", *options.split()])


def test_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("--input 1,56,56,256 --filters 256 --kernel 3 --padding 1") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        "input (1, 56, 56, 256), weight (3, 3, 256, 256), channels_last, float32: 1,849.7 million multiply-adds"
    )
    assert ["forward", "winograd", "yes"] in [cells(line)[:3] for line in lines]
    assert command("--input 2,6,8,8 --filters 6 --kernel 3,1 --groups 6 --channels-first") == 0
    assert ["forward", "depthwise", "yes"] in [cells(line)[:3] for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--input 1,8,8 --filters 4 --kernel 9", "the kernel must fit the padded input"),
        ("--input 8,8 --filters 4 --kernel 3", "input must have the axes (N, H, W, C) or (H, W, C)"),
        ("--input 1,8,8,6 --filters 4 --kernel 3 --groups 4", "groups must divide the channels"),
    ],
)
def test_errors_on_the_command_line(options: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(options) == 2
    assert message in capsys.readouterr().err


def test_bad_sizes_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command("--input 1x8 --filters 4 --kernel 3")
    assert "expected integers with commas between them, received '1x8'" in capsys.readouterr().err


def test_a_problem_read_from_numbers() -> None:
    problem = problem_of("float32", (1, 2, 3, 4), (5, 2, 1, 1), (5,), 1, 0, 1, 1, "channels_first", "OIHW", "relu")
    assert problem.bias
    assert problem.activation == "relu"
