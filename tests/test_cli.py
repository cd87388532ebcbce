"""The command line: what it prints, writes and refuses, and how Ctrl-C ends it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pycnn
from pycnn.applications import digits_cnn
from pycnn.callbacks import History
from pycnn.cli import main
from pycnn.models.results import save_results
from pycnn.utils import clear_session
from pycnn_kernels.cpu.launch import Kernel

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _fresh() -> None:
    clear_session()


def start(*arguments: str, stdout: int = subprocess.PIPE, **environment: str) -> subprocess.Popen[str]:
    paths = [str(ROOT), str(ROOT / "kernels"), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        [sys.executable, "-m", "pycnn", *arguments],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **environment},
        # A background job of a shell begins with SIGINT ignored, and so would this one.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
    )


def errors_of(capsys: pytest.CaptureFixture[str]) -> str:
    text = capsys.readouterr().err
    assert "Traceback" not in text
    assert len(text.splitlines()) == 1
    return text


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, expected in ((["--version"], f"pycnn {pycnn.__version__}"), (["train", "--help"], "examples:")):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 0
        assert expected in capsys.readouterr().out


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    printed = capsys.readouterr().out
    for part in (
        "pycnn",
        "Numba",
        "SIMD",
        "bits",
        "Threads",
        "Threading layer",
        "Cache folder",
        "GPUs",
        "backend='cuda'",
    ):
        assert part in printed


@pytest.mark.parametrize(
    ("options", "dtypes"),
    [([], {"float32"}), (["--dtype", "float64"], {"float64"}), (["--dtype", "all"], {"float32", "float64"})],
)
def test_warmup_compiles_every_kernel(
    options: list[str], dtypes: set[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    written = " ".join(path.read_text() for path in (ROOT / "kernels/pycnn_kernels/cpu").glob("*.py"))
    declared = re.findall(r"^@kernel\((.*?)^def (\w+)", written, re.MULTILINE | re.DOTALL)
    only = {name: re.findall(r'"(\w+)",', head.partition("=")[0]) for head, name in declared}
    only.pop("grouped_weight_gradient_kernel")  # compiled for groups of some size, none of which is usual
    literal = re.findall(r"^@literal_kernel\(.*?^def (\w+)", written, re.MULTILINE | re.DOTALL)
    usual = re.findall(r"(\w+)\.usually\(", written)
    only |= {name: [] for name in literal if name in usual}  # the others are for a formula each
    jobs = {(name, dtype) for name in only for dtype in dtypes if dtype in (only[name] or dtypes)}
    compiled = []
    entry = Kernel.entry

    def noted(kernel: Kernel, dtype: str) -> int:
        compiled.append((kernel.name.rpartition(".")[2], dtype))
        return entry(kernel, "float32")  # the cache of the tests has it

    monkeypatch.setattr(Kernel, "entry", noted)
    assert main(["warmup", *options]) == 0
    launched = ("softmax_kernel", "float32")  # by the warm-up itself, too
    assert set(compiled) - {launched} == jobs - {launched}
    kernels = [name for name in compiled if name != launched]
    assert f"{len(kernels) + (launched in jobs)} kernels are ready" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "value"), [("PYCNN_SIMD", "foo"), ("PYCNN_NUM_THREADS", "abc")])
def test_settings_that_the_engine_refuses_are_reported_in_one_line(name: str, value: str) -> None:
    process = start("info", **{name: value})
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert errors.startswith(f"pycnn: error: {name} must be ")
    assert value in errors
    assert len(errors.splitlines()) == 1


def test_train_writes_weights_and_history(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "digits.npz"
    assert main(["train", "digits", "--epochs", "2", "--batch-size", "64", "--seed", "3", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "1,438 images to train, 359 to test, 151,306 parameters" in printed
    assert "Epoch 2/2 - 23/23" in printed
    assert "Test loss" in printed
    assert "Test accuracy" in printed
    assert os.listdir(tmp_path) == ["digits.npz"]
    model = digits_cnn()
    with np.load(out, allow_pickle=False) as file:
        history = json.loads(str(file["history"]))
        weights = [file[name] for name in file.files if name != "history"]
        assert [name.partition("/")[2] for name in file.files][:2] == ["kernel", "bias"]
    assert {name: len(values) for name, values in history.items()} == {"loss": 2, "accuracy": 2}
    model.set_weights(weights)


def test_a_seed_repeats_a_run(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.npz", "b.npz", "c.npz")]
    for path, seed in zip(files, ("1", "1", "2")):
        clear_session()
        assert main(["train", "digits", "--epochs", "1", "--seed", seed, "--out", str(path)]) == 0
    assert files[0].read_bytes() == files[1].read_bytes()
    assert files[0].read_bytes() != files[2].read_bytes()


def test_ctrl_c_keeps_what_was_learnt(tmp_path: Path) -> None:
    out = tmp_path / "digits.npz"
    process = start("train", "digits", "--epochs", "100000", "--out", str(out))
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("Epoch 2/"):
            break
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == ""
    assert "Interrupted" in printed
    assert "Test accuracy" in printed
    with np.load(out, allow_pickle=False) as file:
        assert len(json.loads(str(file["history"]))["loss"]) >= 2
        assert len(file.files) == 9


def test_a_terminal_gets_a_live_bar_and_its_cursor_back(tmp_path: Path) -> None:
    pytest.importorskip("rich", reason="rich is in the extra 'train'")
    pty = pytest.importorskip("pty", reason="only Unix has pseudo-terminals")
    outside, inside = pty.openpty()
    process = start("train", "digits", "--epochs", "100000", stdout=inside, TERM="xterm-256color", COLUMNS="100")
    os.close(inside)
    shown = ""
    while "Epoch 3/" not in shown:
        shown += os.read(outside, 4096).decode()
    process.send_signal(signal.SIGINT)
    with contextlib.suppress(OSError):  # Linux reports the end of a pseudo-terminal as an error
        while more := os.read(outside, 4096):
            shown += more.decode(errors="replace")
    assert process.wait(timeout=60) == 130
    assert "Epoch 1/100000 \x1b[" in shown
    assert "━" in shown
    assert "ms/step - loss: " in shown
    assert "Epoch 2/100000 - 45/45 - " in shown
    assert "Test accuracy" in shown
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") > 0  # cursor hidden and shown


@pytest.mark.slow
def test_train_digits_reaches_the_promised_accuracy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "digits"]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("│"))
    assert float(row.split("│")[2]) >= 0.98


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "digits", "--data", "somewhere"], "--data"),
        (["train", "digits", "--backend", "cuda"], "cuda"),
        (["train", "digits", "--backend", "tpu"], "tpu"),
        (["train", "digits", "--threads", "100000"], "100000"),
        (["train", "cifar10", "--data", "/nowhere/at/all"], "/nowhere/at/all"),
    ],
)
def test_bad_input(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    text = errors_of(capsys)
    assert text.startswith("pycnn: error: ")
    assert message in text


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["learn"],
        ["train", "mnist"],
        ["train", "digits", "--epochs", "0"],
        ["train", "digits", "--batch-size", "-5"],
        ["train", "digits", "--batch-size", "many"],
        ["train", "digits", "--seed", "-1"],
    ],
)
def test_bad_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_an_output_that_cannot_be_written_is_found_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path, message in ((tmp_path / "no" / "x.npz", "existing folder"), (tmp_path, "received a folder")):
        assert main(["train", "digits", "--out", str(path)]) == 2
        assert message in errors_of(capsys)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    if os.access(closed, os.W_OK):
        pytest.skip("this user may write everywhere")
    assert main(["train", "digits", "--out", str(closed / "x.npz")]) == 2
    assert "cannot write" in errors_of(capsys)


def test_a_full_disk_leaves_an_existing_file_whole(tmp_path: Path) -> None:
    out = tmp_path / "digits.npz"
    out.write_bytes(b"as it was")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OSError, match=r"digits.npz: cannot write the results: .+"):
            save_results(out, digits_cnn(), History())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert out.read_bytes() == b"as it was"
    assert os.listdir(tmp_path) == ["digits.npz"]


@pytest.mark.parametrize("fails", [False, True])
def test_files_are_closed_before_they_are_renamed_or_removed(
    fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows demands it."""
    opened = []
    real_open, replace, unlink = open, os.replace, Path.unlink

    def noted(*arguments: Any, **settings: Any) -> Any:
        opened.append(real_open(*arguments, **settings))
        return opened[-1]

    def when_closed(action: Any) -> Any:
        def checked(*arguments: Any, **settings: Any) -> None:
            assert [file.closed for file in opened] == [True]
            if fails and action is replace:
                raise OSError("no")
            action(*arguments, **settings)

        return checked

    monkeypatch.setattr("builtins.open", noted)
    monkeypatch.setattr(os, "replace", when_closed(replace))
    monkeypatch.setattr(Path, "unlink", when_closed(unlink))
    with pytest.raises(OSError, match="no") if fails else contextlib.nullcontext():
        save_results(tmp_path / "digits.npz", digits_cnn(), History())
    assert os.listdir(tmp_path) == ([] if fails else ["digits.npz"])


def test_an_existing_file_is_replaced_only_by_a_complete_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "digits.npz"
    out.write_bytes(b"as it was")

    def interrupted(descriptor: int) -> None:
        assert out.read_bytes() == b"as it was"
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_results(out, digits_cnn(), History())
    assert out.read_bytes() == b"as it was"
    assert os.listdir(tmp_path) == ["digits.npz"]
    monkeypatch.undo()
    with open(out, "rb") as reader:  # who reads the old file while the new one comes sees the old one to its end
        save_results(out, digits_cnn(), History())
        assert reader.read() == b"as it was"
    with np.load(out, allow_pickle=False) as file:
        assert str(file["history"]) == "{}"
