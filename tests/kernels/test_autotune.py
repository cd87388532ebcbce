"""Choosing by the clock: what is measured, what is remembered, and what becomes of a damaged file."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pycnn
from pycnn_kernels import algorithms, autotune, cache
from pycnn_kernels import plan as plans
from pycnn_kernels.algorithms import Algorithm
from pycnn_kernels.autotune import Key, Timings, forget_timings, measure, timings_file
from pycnn_kernels.choice import able
from pycnn_kernels.cpu.host import SIMD
from pycnn_kernels.plan import explain, plan_for
from tests.kernels.problems import conv_arrays, conv_problem

PROBLEM = conv_problem(N=1, C=2, K=3, size=(5, 5))
KEY = Key("cpu", "conv_forward", PROBLEM, None, 1)
RunPython = Callable[..., "subprocess.CompletedProcess[str]"]


def keep_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep timings in another folder than compiled kernels."""
    monkeypatch.setattr(autotune, "user_cache_dir", lambda: folder)
    monkeypatch.setattr(autotune, "kernel_cache_dir", lambda isa: folder / "kernels" / isa)


@pytest.fixture(autouse=True)
def _own_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """An empty folder, nothing known, and short measurements."""
    keep_in(tmp_path, monkeypatch)
    monkeypatch.setattr(autotune, "_known", {})
    monkeypatch.setattr(plans, "_plans", {})
    monkeypatch.setattr(autotune, "_SECONDS", 0.0)
    yield
    plans._plans.clear()


class Sleeper:
    """A prepared algorithm that counts its runs and takes its time."""

    def __init__(self, name: str, seconds: float, workspace: int, runs: Counter[str]):
        self.name, self.seconds, self.workspace_bytes, self.runs = name, seconds, workspace, runs

    def run(self, *addresses: int) -> None:
        self.runs[self.name] += 1
        time.sleep(self.seconds)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """A list of made-up algorithms of the forward: how often each one ran."""
    runs: Counter[str] = Counter()

    def made_up(name: str, seconds: float, workspace: int, supports: str | None = None) -> Algorithm:
        return Algorithm(
            name, lambda p: Sleeper(name, seconds, workspace, runs), f"what {name} does", lambda p: supports
        )

    candidates = [
        made_up("slow", 0.004, 0),
        made_up("quick", 0.0, 1000),
        made_up("quicker", 0.0, 0, supports="luck"),
        made_up("middling", 0.002, 0),
    ]
    monkeypatch.setitem(algorithms.ALGORITHMS, ("cpu", "conv_forward"), candidates)
    return runs


def ask(problem: Any = PROBLEM, **settings: Any) -> str:
    return plan_for("conv_forward", problem, algorithm="autotune", **settings).algorithm.name


def test_the_fastest_is_what_runs(runs: Counter[str]) -> None:
    plan = plan_for("conv_forward", PROBLEM, algorithm="autotune")
    assert plan.algorithm.name == "quick"
    assert plan_for("conv_forward", PROBLEM).algorithm.name == "slow"
    assert runs["quicker"] == 0
    before = runs.copy()
    plan.run(*(conv_arrays(PROBLEM)[name] for name in ("x", "w")), None)
    assert runs - before == {"quick": 1}


def test_measured_once(runs: Counter[str]) -> None:
    assert ask() == "quick"
    before = runs.copy()
    assert ask() == "quick"
    assert runs == before
    assert ask(PROBLEM._replace(N=2)) == "quick"
    assert runs != before


def test_within_the_limit(runs: Counter[str]) -> None:
    assert ask(workspace_limit=999) == "middling"
    assert runs["quick"] == 0
    assert ask(workspace_limit=1000) == "quick"
    with pytest.raises(ValueError, match="workspace_limit must be at least 0 bytes"):
        ask(workspace_limit=-1)


def test_another_number_of_threads_is_measured_anew(runs: Counter[str]) -> None:
    most = pycnn.get_num_threads()
    if most == 1:
        pytest.skip("one core")
    ask()
    before = runs.copy()
    pycnn.set_num_threads(most - 1)
    ask()
    assert runs != before


def test_the_only_one_is_not_measured(monkeypatch: pytest.MonkeyPatch, runs: Counter[str]) -> None:
    listed = algorithms.ALGORITHMS["cpu", "conv_forward"]
    monkeypatch.setitem(algorithms.ALGORITHMS, ("cpu", "conv_forward"), listed[:1])
    assert ask() == "slow"
    assert not runs
    assert not timings_file().exists()


def test_what_explain_shows(runs: Counter[str]) -> None:
    by_name = {v.name: v for v in explain("conv_forward", PROBLEM, algorithm="autotune")}
    assert [v.name for v in by_name.values() if v.chosen] == ["quick"]
    assert by_name["quick"].reason is None
    assert by_name["slow"].reason == "quick was faster"
    assert by_name["quicker"].reason == "needs luck"
    assert by_name["quicker"].seconds is None
    assert by_name["quicker"].runs == 0
    for name in ("slow", "quick", "middling"):
        assert by_name[name].seconds == autotune._known[KEY._replace(threads=pycnn.get_num_threads())].seconds[name]
        assert by_name[name].runs >= 3
    assert by_name["slow"].seconds >= 0.004  # type: ignore[operator]
    assert ask() == "quick"
    assert all(v.seconds is None for v in explain("conv_forward", PROBLEM))


def test_it_says_what_it_measures(runs: Counter[str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="pycnn.autotune"):
        ask()
    (line,) = caplog.messages
    assert "cpu conv_forward ConvProblem(dtype='float32'" in line
    assert "slow 4." in line


@pytest.mark.parametrize("operation", ["conv_forward", "conv_input_gradient", "conv_weight_gradient"])
def test_real_algorithms(operation: str) -> None:
    p = conv_problem(N=1, C=3, K=6, size=(12, 12))
    tuned = plan_for(operation, p, algorithm="autotune")
    (entry,) = autotune.kept().values()
    assert set(entry.seconds) == {algorithm.name for algorithm in able(operation, p)}
    assert tuned.algorithm.name == entry.fastest
    arrays = [None if spec.optional else conv_arrays(p)[spec.name] for spec in tuned.inputs]
    named = plan_for(operation, p, algorithm=tuned.algorithm.name)
    np.testing.assert_array_equal(tuned.run(*arrays)[0], named.run(*arrays)[0])


# -- measuring -----------------------------------------------------------------------------------------------------


def test_the_first_run_does_not_count() -> None:
    """It compiles."""
    runs: Counter[str] = Counter()

    def first_is_slow() -> None:
        runs["a"] += 1
        if runs["a"] == 1:
            time.sleep(0.05)

    found = measure({"a": first_is_slow, "b": lambda: time.sleep(0.001)})
    assert found.fastest == "a"
    assert found.seconds["a"] < 0.05
    assert found.runs["a"] == runs["a"] - 1


def test_they_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    measure({name: (lambda name=name: order.append(name) or time.sleep(0.001)) for name in "ab"})  # type: ignore[misc]
    assert order[:8] == ["a", "b"] * 4


def test_slow_ones_drop_out() -> None:
    found = measure({"slow": lambda: time.sleep(0.01), "quick": lambda: time.sleep(0.001)})
    assert found.runs == {"slow": autotune._QUALIFYING_ROUNDS, "quick": autotune._ROUNDS}


def test_the_bound_on_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """No round begins after it, but one there is."""
    monkeypatch.setattr(autotune, "_MOST_SECONDS", 0.0)
    assert measure({"a": lambda: time.sleep(0.001), "b": lambda: None}).runs == {"a": 1, "b": 1}
    monkeypatch.setattr(autotune, "_MOST_SECONDS", 0.02)
    found = measure({"a": lambda: time.sleep(0.015), "b": lambda: time.sleep(0.015)})
    assert found.runs == {"a": 1, "b": 1}


# -- the file ------------------------------------------------------------------------------------------------------


def forget_in_memory() -> None:
    autotune._known.clear()
    plans._plans.clear()


def test_another_process_finds_the_timings(runs: Counter[str]) -> None:
    ask()
    before = runs.copy()
    forget_in_memory()
    assert ask() == "quick"
    assert runs == before
    content = json.loads(timings_file().read_text())
    assert content["processor"] == autotune.processor()
    (text,) = content["timings"]
    assert text.startswith("cpu conv_forward ConvProblem(dtype='float32', layout='channels_last'")
    assert text.endswith(f"workspace_limit=none threads={pycnn.get_num_threads()}")


def test_the_file_lies_beside_the_compiled_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose folder is named for the engine's sources, Numba and the instruction set; the file, for the processor."""
    monkeypatch.setattr(autotune, "kernel_cache_dir", cache.kernel_cache_dir)
    assert timings_file().parent == cache.kernel_cache_dir(SIMD.name)
    here = timings_file().name
    monkeypatch.setattr(autotune, "processor", lambda: "another one")
    assert timings_file().name != here


def test_an_algorithm_that_is_new_is_measured(monkeypatch: pytest.MonkeyPatch, runs: Counter[str]) -> None:
    ask()
    forget_in_memory()
    listed = algorithms.ALGORITHMS["cpu", "conv_forward"]
    newer = listed[1]._replace(name="newer")
    monkeypatch.setitem(algorithms.ALGORITHMS, ("cpu", "conv_forward"), [newer, *listed])
    before = runs.copy()
    ask()
    assert runs != before
    assert set(next(iter(autotune.kept().values())).seconds) == {"slow", "quick", "middling", "newer"}


def test_forgetting(runs: Counter[str]) -> None:
    ask()
    before = runs.copy()
    assert pycnn.forget_timings() == 1
    assert not timings_file().exists()
    assert ask() == "quick"
    assert runs != before
    assert forget_timings() == 1
    assert forget_timings() == 0


DAMAGE = {
    "empty": b"",
    "truncated": b'{"processor": "x", "timings": {"cpu conv_f',
    "no text": b"\xff\xfe\x00",
    "a list": b"[]",
    "no timings": b"{}",
    "timings of another kind": b'{"timings": [1, 2]}',
    "an entry of another kind": b'{"timings": {"cpu": 3}}',
    "an entry without algorithms": b'{"timings": {"cpu": {}}}',
    "times that are none": b'{"timings": {"cpu": {"a": ["soon", 3]}}}',
    "negative times": b'{"timings": {"cpu": {"a": [-1, 3]}}}',
    "no number": b'{"timings": {"cpu": {"a": [NaN, 3]}}}',
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_files(damage: str, runs: Counter[str]) -> None:
    """A warning, a measurement, and a file that is whole again."""
    file = timings_file()
    file.parent.mkdir(parents=True)
    file.write_bytes(DAMAGE[damage])
    with pytest.warns(RuntimeWarning, match=r"the timings in .* cannot be read .*; algorithms are measured again"):
        assert ask() == "quick"
    forget_in_memory()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = runs.copy()
        assert ask() == "quick"
    assert runs == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, runs: Counter[str]) -> None:
    """A file where the folder should be stops even an administrator."""
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    keep_in(blocked, monkeypatch)
    with pytest.warns(RuntimeWarning) as told:
        assert ask() == "quick"
    messages = [str(warning.message) for warning in told]
    assert any("timings of algorithms cannot be kept in" in m and "Set PYCNN_CACHE_DIR" in m for m in messages)
    before = runs.copy()
    assert ask() == "quick"  # remembered all the same
    assert runs == before
    assert blocked.read_text() == "in the way"


def test_a_disk_that_is_full_leaves_the_old_file(monkeypatch: pytest.MonkeyPatch, runs: Counter[str]) -> None:
    ask()
    before = timings_file().read_text()

    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(autotune.os, "replace", full)
    with pytest.warns(RuntimeWarning, match="cannot be kept in .* \\(No space left on device\\)"):
        ask(PROBLEM._replace(N=2))
    assert timings_file().read_text() == before
    assert [path.name for path in timings_file().parent.iterdir()] == [timings_file().name]


WRITER = """
import sys, time, warnings
warnings.simplefilter("error")
from pycnn_kernels import autotune
from pycnn_kernels.autotune import Key, timings
autotune._SECONDS = 0.0
for problem in range(int(sys.argv[1]), int(sys.argv[1]) + 40):
    timings(Key("cpu", "conv_forward", problem, None, 1), ["a", "b"], lambda name: lambda: time.sleep(1e-5))
"""


def test_two_processes_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Both write all the time: what a third one reads is whole, and at the end a process has kept all of its own."""
    monkeypatch.undo()
    monkeypatch.setenv("PYCNN_CACHE_DIR", str(tmp_path))
    root = Path(__file__).parents[2]
    environment = {"PYTHONPATH": f"{root}:{root / 'kernels'}", "PYCNN_CACHE_DIR": str(tmp_path)}
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(first)], env=autotune.os.environ | environment)
        for first in (0, 1000)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        while any(writer.poll() is None for writer in writers):
            autotune.kept()
    assert [writer.returncode for writer in writers] == [0, 0]
    kept = {int(text.split()[2]) for text in autotune.kept()}
    assert any(set(range(first, first + 40)) <= kept for first in (0, 1000))
    assert len(list(timings_file().parent.iterdir())) == 1


def test_timings_name_the_fastest() -> None:
    assert Timings({"a": 2.0, "b": 1.0}, {"a": 3, "b": 3}).fastest == "b"
