"""What ``explain`` says: the algorithm that a call gets, and why not another one."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pycnn
import pycnn.functional as F
from pycnn import cli
from pycnn.cli import main
from pycnn.functional.conv_arguments import problem_of
from pycnn_kernels import autotune
from pycnn_kernels.cpu.cost import gflops
from pycnn_kernels.plan import plan_for

CALLS: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any], str]] = [
    ((1, 64, 56, 56), (64, 64, 3, 3), {"padding": 1}, "winograd"),
    ((1, 64, 56, 56), (64, 64, 3, 3), {"stride": 2}, "direct"),
    ((1, 256, 14, 14), (64, 256, 1, 1), {}, "pointwise"),
    ((4, 3, 32, 32), (6, 3, 5, 5), {}, "few_channels"),
    ((1, 32, 28, 28), (32, 1, 3, 3), {"groups": 32, "padding": "same"}, "depthwise"),
    ((1, 32, 28, 28), (64, 1, 3, 3), {"groups": 32, "padding": 1}, "grouped"),
    ((1, 128, 56, 56), (128, 4, 3, 3), {"groups": 32, "padding": 1}, "grouped"),
    ((1, 64, 28, 28), (64, 32, 3, 3), {"groups": 2}, "winograd"),
    ((1, 64, 28, 28), (64, 32, 3, 3), {"groups": 2, "stride": 2}, "direct"),
    ((1, 64, 28, 28), (64, 64, 3, 3), {"dilation": 2, "padding": 2}, "winograd"),
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
            assert (v.cost is None) == (v.workspace_bytes is None) == (v.peak_bytes is None)
            assert v.seconds is None


def test_it_describes_the_call_itself() -> None:
    x, w = np.zeros((2, 5, 9, 8), "float32"), np.zeros((4, 5, 3, 3), "float32")
    y = F.conv2d(x, w, padding=(1, 0), stride=2)
    assert pycnn.explain("conv2d", x.shape, w.shape, padding=(1, 0), stride=2).problem.y_shape == y.shape


def test_the_peak_is_the_result_and_the_workspace() -> None:
    found = pycnn.explain("conv2d", (2, 8, 20, 20), (16, 8, 3, 3), dtype="float16")
    p = found.problem
    sizes = {"forward": p.y_shape, "input gradient": p.x_shape, "weight gradient": p.w_shape}
    widened = 4 * sum(math.prod(shape) for shape in sizes.values())  # each operation has all three, in float32
    for operation, shape in sizes.items():
        chosen = next(v for v in found.verdicts[operation] if v.chosen)
        assert chosen.workspace_bytes is not None
        assert chosen.workspace_bytes >= widened
        assert chosen.peak_bytes == 2 * math.prod(shape) + chosen.workspace_bytes == found.peak_bytes(operation)
        described = found.to_dict()["operations"][operation]
        assert [v["peak_bytes"] for v in described] == [v.peak_bytes for v in found.verdicts[operation]]
    with pytest.raises(ValueError, match="operation must be one of 'forward'"):
        pycnn.explain("conv2d", (2, 8, 20, 20), (16, 8, 3, 3), only="forward").peak_bytes("weight gradient")


def test_as_a_table() -> None:
    text = repr(pycnn.explain("conv2d", (1, 8, 9, 9), (16, 8, 3, 3), stride=2))
    assert text.startswith(
        "input (1, 8, 9, 9), weight (16, 8, 3, 3), channels_first, float32: 0.0 million multiply-adds"
    )
    assert "needs stride 1; received (2, 2)" in text
    assert "register tile" in text
    assert f"\nexpected: on one core at {gflops('float32'):g} GFLOP/s\n" in text


@pytest.mark.parametrize(
    ("operation", "x", "w", "settings"),
    [
        ("conv1d", (2, 4, 50), (6, 4, 5), {"padding": "same", "dilation": 2}),
        ("conv1d", (50, 4), (5, 4, 6), {"data_format": "channels_last", "weight_format": "WIO"}),
        ("conv2d", (2, 4, 9, 8), (6, 2, 3, 3), {"groups": 2, "padding": ((1, 0), (2, 1)), "padding_mode": "circular"}),
        ("conv3d", (2, 4, 9, 8, 7), (6, 4, 3, 3, 3), {"stride": (1, 2, 2), "activation": "tanh"}),
        ("conv3d", (2, 4, 9, 8, 7), (6, 4, 3, 3, 3), {"dtype": "float64", "scale": True, "residual": True}),
    ],
)
def test_one_to_three_dimensions(
    operation: str, x: tuple[int, ...], w: tuple[int, ...], settings: dict[str, Any]
) -> None:
    found = pycnn.explain(operation, x, w, **settings)
    p = found.problem
    assert p.rank == int(operation[4])
    assert p.x_shape == (x if len(x) == p.rank + 2 else (1, *x))
    assert p.w_shape == w
    for name, value in settings.items():
        if name in ("activation", "padding_mode", "dtype", "scale", "residual"):
            assert getattr(p, name) == value
    for operation in found.verdicts:
        assert found.chosen(operation)


def test_the_rate_scales_expected_times() -> None:
    arguments = ("conv2d", (1, 64, 56, 56), (64, 64, 3, 3))
    usual, slow = pycnn.explain(*arguments), pycnn.explain(*arguments, gflops=gflops("float32") / 10)
    for a, b in zip(usual.verdicts["forward"], slow.verdicts["forward"]):
        assert a == b
        if a.cost is not None:
            assert slow.expected_ms(b) == pytest.approx(10 * usual.expected_ms(a))  # type: ignore[operator]
    assert f"at {gflops('float32') / 10:g} GFLOP/s" in slow.title


def test_a_workspace_limit() -> None:
    arguments: tuple[Any, ...] = ("conv2d", (1, 64, 56, 56), (64, 64, 3, 3))
    free = pycnn.explain(*arguments)
    winograd = next(v for v in free.verdicts["forward"] if v.chosen)
    assert winograd.workspace_bytes is not None
    limit = winograd.workspace_bytes - 1
    found = pycnn.explain(*arguments, workspace_limit=limit)
    assert found.chosen() == "direct"
    assert found.title.endswith(f"; workspace: at most {limit:,} bytes")
    refused = next(v for v in found.verdicts["forward"] if v.name == "winograd")
    assert refused.reason == f"needs {limit + 1:,} bytes of workspace, the limit is {limit:,}"
    with pytest.raises(ValueError, match="no algorithm of conv_forward can do this within the workspace limit of 9 by"):
        pycnn.explain(*arguments, workspace_limit=9)


def test_a_single_operation() -> None:
    """What is left out is neither measured nor bound by the limit."""
    arguments: tuple[Any, ...] = ("conv2d", (1, 64, 56, 56), (64, 64, 3, 3))
    limit = 1_800_000  # enough for all but the weight gradient
    with pytest.raises(ValueError, match="no algorithm of conv_weight_gradient can do this within the workspace limit"):
        pycnn.explain(*arguments, workspace_limit=limit)
    found = pycnn.explain(*arguments, workspace_limit=limit, only="forward")
    assert list(found.verdicts) == ["forward"]
    assert {row[0] for row in found.rows} == {"forward"}
    with pytest.raises(ValueError, match="operation must be one of 'forward'; received 'weight gradient'"):
        found.chosen("weight gradient")
    with pytest.raises(ValueError, match="only must be one of None, 'forward', 'input gradient'"):
        pycnn.explain(*arguments, only="backward")


def test_an_algorithm_by_name() -> None:
    found = pycnn.explain("conv2d", (1, 64, 56, 56), (64, 64, 3, 3), algorithm="direct")
    assert {found.chosen(operation) for operation in found.verdicts} == {"direct"}
    assert next(v.reason for v in found.verdicts["forward"] if v.name == "winograd") == "direct was asked for"


@pytest.fixture
def kept_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Timings in an empty folder, after short measurements."""
    monkeypatch.setattr(autotune, "user_cache_dir", lambda: tmp_path)
    monkeypatch.setattr(autotune, "kernel_cache_dir", lambda isa: tmp_path / "kernels" / isa)
    monkeypatch.setattr(autotune, "_known", {})
    monkeypatch.setattr(autotune, "_SECONDS", 0.0)


@pytest.mark.usefixtures("kept_elsewhere")
def test_measured_times() -> None:
    found = pycnn.explain("conv2d", (1, 3, 12, 12), (4, 3, 3, 3), algorithm="autotune")
    assert found.header[-1] == "measured"
    assert f"; measured: on {pycnn.get_num_threads()} thread" in found.title
    for operation, verdicts in found.verdicts.items():
        measured = {v.name: v.seconds for v in verdicts if v.seconds is not None}
        assert found.chosen(operation) == min(measured, key=lambda name: measured[name])
        assert set(measured) == {v.name for v in verdicts if v.workspace_bytes is not None}
    assert all(row[-1] == "" or row[-1].endswith(")") for row in found.rows)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("conv4d", (1, 2, 3, 4), (1, 2, 1, 1)), ValueError, "must be one of 'conv1d', 'conv2d', 'conv3d'; received"),
        (("conv3d", (1, 2, 3, 4), (1, 2, 1, 1)), ValueError, "weight must have the axes"),
        (("conv1d", (1, 2), (1, 2, 3, 1)), ValueError, "weight must have the axes"),
        (("conv2d", (1, 2, 3, 4), "3x3"), TypeError, "weight must be a shape, a tuple of integers of at least 0"),
        (("conv2d", (1, 2, 3, -4), (1, 2, 1, 1)), TypeError, "input must be a shape"),
        (("conv2d", (1, 3, 8, 8), (1, 2, 3, 3)), ValueError, "weight must have 3 input channels"),
    ],
)
def test_errors(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        pycnn.explain(*arguments)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"algorithm": "magic"}, ValueError, "algorithm of conv_forward must be 'auto' or one of"),
        ({"dtype": "int8"}, ValueError, "dtype must be one of 'float32', 'float64'"),
        ({"padding_mode": "wrap"}, ValueError, "padding_mode must be one of 'zeros'"),
        ({"weight_format": "OIW"}, ValueError, "weight_format must be one of 'OIHW', 'HWIO'; received 'OIW'"),
        ({"workspace_limit": "1MB"}, TypeError, "workspace_limit must be None or a number of bytes"),
        ({"gflops": 0}, ValueError, "gflops must be positive; received 0"),
        ({"gflops": float("nan")}, ValueError, "gflops must be positive; received nan"),
        ({"gflops": "100"}, TypeError, "gflops must be None or a number; received '100'"),
    ],
)
def test_errors_of_settings(settings: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        pycnn.explain("conv2d", (1, 2, 3, 4), (1, 2, 1, 1), **settings)


def test_errors_of_the_answer() -> None:
    with pytest.raises(ValueError, match="operation must be one of 'forward'"):
        pycnn.explain("conv2d", (1, 2, 3, 4), (1, 2, 1, 1)).chosen("backward")


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("│|").replace("│", "|").split("|")]


def command(options: str, operation: str = "conv2d") -> int:
    return main(["explain", operation, *options.split()])


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
    ("operation", "options", "title"),
    [
        ("conv1d", "--input 16,8000,1 --filters 32 --kernel 80 --stride 4", "input (16, 8000, 1), weight (80, 1, 32)"),
        (
            "conv1d", "--input 1,4,50 --channels-first --filters 6 --kernel 5 --groups 2",
            "input (1, 4, 50), weight (6, 2, 5), channels_first",
        ),
        ("conv2d", "--input 8,9,4 --filters 6 --kernel 3 --padding same", "input (1, 8, 9, 4), weight (3, 3, 4, 6)"),
        (
            "conv3d", "--input 1,4,8,8,3 --filters 6 --kernel 1,3,3 --padding 0,1,1 --padding-mode replicate",
            "input (1, 4, 8, 8, 3), weight (1, 3, 3, 3, 6)",
        ),
    ],
)  # fmt: skip
def test_operations_on_the_command_line(
    operation: str, options: str, title: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(options, operation) == 0
    assert capsys.readouterr().out.startswith(title)


@pytest.mark.parametrize("only", ["forward", "input-gradient", "weight-gradient"])
def test_a_single_operation_on_the_command_line(only: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(f"--input 1,28,28,32 --filters 32 --kernel 3 --json --only {only}") == 0
    assert list(json.loads(capsys.readouterr().out)["operations"]) == [only.replace("-", " ")]


def test_json_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    options = (
        "--input 1,28,28,32 --filters 32 --kernel 3 --padding 1 --padding-mode reflect --activation relu --scale "
        "--residual --dtype float64 --workspace-limit 64MiB --gflops 50 --json"
    )
    assert command(options) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["workspace_limit"] == 64 << 20
    assert found["gflops"] == 50
    assert found["threads"] is None
    assert found["multiply_adds"] == 28 * 28 * 9 * 32 * 32
    expected = {"padding_mode": "reflect", "activation": "relu", "scale": True, "residual": True, "dtype": "float64"}
    assert expected.items() <= found["problem"].items()
    assert set(found["operations"]) == {"forward", "input gradient", "weight gradient"}
    for verdicts in found["operations"].values():
        (chosen,) = (v for v in verdicts if v["chosen"])
        assert chosen["reason"] is None
        assert chosen["expected_ms"] > 0
        assert chosen["measured_ms"] is None
        assert [v["algorithm"] for v in verdicts][-1] == "direct"


@pytest.mark.usefixtures("kept_elsewhere")
def test_timings_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("--input 1,12,12,3 --filters 4 --kernel 3 --algorithm autotune --json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["threads"] == pycnn.get_num_threads()
    assert all(v["measured_ms"] > 0 for v in found["operations"]["forward"] if v["expected_ms"] is not None)
    assert main(["autotune"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"3 problems in {autotune.timings_file()}"
    assert lines[1].startswith("cpu conv_forward ConvProblem(dtype='float32'")
    assert "direct 0." in lines[2]
    assert main(["autotune", "--clear"]) == 0
    assert capsys.readouterr().out == "Forgot all timings (1 file deleted)\n"
    assert not autotune.timings_file().exists()
    assert main(["autotune"]) == 0
    assert capsys.readouterr().out.startswith("0 problems in ")


@pytest.mark.parametrize(
    ("text", "size"),
    [("4096", 4096), ("64MB", 64_000_000), ("64 mb", 64_000_000), ("1.5GiB", 3 << 29), ("8k", 8192), ("1G", 1 << 30),
     ("2KiB", 2048), ("0", 0), ("8x", None), ("MB", None), ("-1", None), ("1.5.2MB", None), ("many", None), ("", None),
     ("1e6", None)],
)  # fmt: skip
def test_sizes_in_bytes(text: str, size: int | None, capsys: pytest.CaptureFixture[str]) -> None:
    if size is not None:
        assert cli._bytes(text) == size
        return
    with pytest.raises(SystemExit):
        main(
            ["explain", "conv2d", "--input", "1,8,8,4", "--filters", "4", "--kernel", "3", f"--workspace-limit={text}"]
        )
    assert f"expected bytes, such as 4096, 64MB or 1.5GiB, received {text!r}" in capsys.readouterr().err


def test_help_has_examples_that_work(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["explain", "--help"])
    examples = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("  pycnn explain")]
    assert len(examples) >= 5
    for example in examples:
        words = [word for word in example[1:] if word not in ("--algorithm", "autotune")]  # that takes seconds
        assert main(words) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--input 1,8,8 --filters 4 --kernel 9", "the kernel must fit the padded input"),
        ("--input 8,8 --filters 4 --kernel 3", "input must have the axes (N, H, W, C) or (H, W, C)"),
        ("--input 1,8,8,6 --filters 4 --kernel 3 --groups 4", "groups must divide the channels"),
        ("--input 1,8,8,6 --filters 4 --kernel 3,3,3", "weight must have the axes"),
        ("--input 1,8,8,6 --filters 4 --kernel 3 --dtype int8", "dtype must be one of 'float32', 'float64'"),
        ("--input 1,8,8,6 --filters 4 --kernel 3 --algorithm fft2", "algorithm of conv_forward must be 'auto' or one"),
        ("--input 1,8,8,6 --filters 4 --kernel 3 --workspace-limit 10", "within the workspace limit of 10 bytes"),
        ("--input 1,8,8,6 --filters 4 --kernel 3 --gflops 0", "gflops must be positive"),
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
