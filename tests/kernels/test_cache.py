"""The folder of compiled kernels: what names it, and that its troubles cost time and nothing else."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba
import pytest

from pycnn_kernels import cache

# The smallest use of the engine: one kernel and the loop over its work.
SOFTMAX = """
import numpy as np, warnings
warnings.simplefilter("always")
import pycnn.functional as F
print(F.softmax(np.array([[0.0, 0.0]]), dim=1).tolist())
"""
RIGHT = "[[0.5, 0.5]]"

RunPython = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def softmax(run_python: RunPython) -> Callable[..., str]:
    """Run the softmax with a cache folder; it must give the right result. Returns the warnings."""

    def run(folder: Path, before: str = "") -> str:
        done = run_python("-c", before + SOFTMAX, PYCNN_CACHE_DIR=str(folder))
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == RIGHT
        return done.stderr

    return run


@pytest.fixture(scope="module")
def whole_folder(softmax: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the kernels of a softmax, to be copied: nobody writes into it."""
    folder = tmp_path_factory.mktemp("whole")
    assert softmax(folder) == ""
    return folder


def kernel_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_user_cache_dir(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYCNN_CACHE_DIR", "~/somewhere")
    assert cache.user_cache_dir() == Path.home() / "somewhere"
    monkeypatch.delenv("PYCNN_CACHE_DIR")
    assert cache.user_cache_dir().name == "pycnn"
    monkeypatch.setenv("PYCNN_CACHE_DIR", "")
    assert cache.user_cache_dir().name == "pycnn"


def test_the_folder_is_named_for_sources_numba_and_instruction_set() -> None:
    folder = cache.kernel_cache_dir("avx2")
    assert folder.parent == cache.user_cache_dir() / "kernels"
    assert folder.name == f"{cache.source_hash()}-numba{numba.__version__}-avx2"


def test_every_edit_of_a_source_gives_another_hash(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cache, "_SOURCE_FOLDER", tmp_path)
    hashes = []

    def take() -> None:
        hashes.append(cache.source_hash.__wrapped__())

    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "pool.py").write_text("a = 1\n")
    take()
    (tmp_path / "cpu" / "pool.py").write_text("a = 2\n")
    take()
    (tmp_path / "problem.py").write_text("")
    take()
    (tmp_path / "problem.py").rename(tmp_path / "plan.py")
    take()
    assert len(set(hashes)) == 4
    (tmp_path / "notes.txt").write_text("no source")
    take()
    assert hashes[-1] == hashes[-2]


def test_a_second_process_compiles_nothing(softmax: Callable[..., str], whole_folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in kernel_files(whole_folder)}
    assert before
    assert softmax(whole_folder) == ""
    assert {path: path.stat().st_mtime_ns for path in kernel_files(whole_folder)} == before


# Kernels that differ in the types alone that they are compiled for: the sums of 2 and of 4 channels of ones.
GROUPED = """
import numpy as np
import pycnn.functional as F
for channels in (2, 4):
    x, w = np.ones((1, 8, 3, 3), "float32"), np.ones((8, channels, 1, 1), "float32")
    print(F.conv2d(x, w, groups=8 // channels, algorithm="grouped")[0, :, 0, 0].tolist())
"""


def test_a_second_process_tells_kernels_apart_that_one_function_is_compiled_to(
    run_python: RunPython, tmp_path: Path
) -> None:
    def run() -> dict[Path, int]:
        done = run_python("-c", GROUPED, PYCNN_CACHE_DIR=str(tmp_path))
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == [str([2.0] * 8), str([4.0] * 8)]
        return {path: path.stat().st_mtime_ns for path in kernel_files(tmp_path)}

    first = run()
    assert len([path for path in first if path.suffix == ".nbc" and "correlate_kernel" in path.name]) == 2
    assert run() == first


def test_processes_at_the_same_time_compile_a_kernel_once(run_python: RunPython, tmp_path: Path) -> None:
    """All of them begin on an empty folder; all but one wait, and find the kernel in the cache."""
    pytest.importorskip("fcntl", reason="files are not locked on this system")
    code = """if True:
        from pycnn_kernels.cpu.softmax import softmax_kernel
        softmax_kernel.entry("float64")
        print(softmax_kernel._compiled["float64"]._cache_hits)"""
    with ThreadPoolExecutor(3) as threads:
        done = list(threads.map(lambda _: run_python("-c", code, PYCNN_CACHE_DIR=str(tmp_path)), range(3)))
    assert sorted(process.stdout.strip() for process in done) == ["0", "1", "1"], [process.stderr for process in done]


# One process for many folders: what it has compiled or read from one of them it forgets before the next.
IN_EACH_FOLDER = """
import os, sys
import numpy as np, warnings
warnings.simplefilter("always")
import pycnn.functional as F
from pycnn_kernels import plan
from pycnn_kernels.cpu.softmax import softmax_kernel
for folder in sys.argv[1:]:
    os.environ["PYCNN_CACHE_DIR"] = folder
    softmax_kernel._entries.clear()
    plan._plans.clear()
    print(F.softmax(np.array([[0.0, 0.0]]), dim=1).tolist())
    print("end of folder", file=sys.stderr)
"""


def test_damaged_files(run_python: RunPython, whole_folder: Path, tmp_path: Path) -> None:
    """A warning and a compilation; the next process finds the folder whole again."""
    folders = []
    for suffix, damage in itertools.product(("nbc", "nbi"), ("garbage", "truncated", "empty")):
        folders.append(tmp_path / f"{damage} {suffix}")
        shutil.copytree(whole_folder, folders[-1])
        for path in kernel_files(folders[-1]):
            if path.suffix == f".{suffix}":
                content = path.read_bytes()
                path.write_bytes({"garbage": b"\x93no kernel", "truncated": content[:-40], "empty": b""}[damage])

    def warnings_in_each() -> list[str]:
        done = run_python("-c", IN_EACH_FOLDER, *map(str, folders))
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == [RIGHT] * len(folders)
        *found, rest = done.stderr.split("end of folder\n")
        assert rest == ""
        return found

    for folder, warning in zip(folders, warnings_in_each(), strict=True):
        assert f"RuntimeWarning: the cached kernel softmax_kernel in {folder}" in warning
        assert "it is compiled again" in warning
    assert warnings_in_each() == [""] * len(folders)


# A file where the folder should be stops even an administrator.
def test_a_folder_that_cannot_be_made(softmax: Callable[..., str], tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    warning = softmax(blocked)
    assert warning.count("RuntimeWarning: compiled kernels cannot be kept in") == 1
    assert str(blocked) in warning
    assert "Set PYCNN_CACHE_DIR to a folder that can be written" in warning
    assert blocked.read_text() == "in the way"


def test_a_full_disk(softmax: Callable[..., str], tmp_path: Path) -> None:
    """Files that cannot grow stand for a disk without room."""
    pytest.importorskip("resource", reason="limits of a process are not to be had on this system")
    full = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
    warning = softmax(tmp_path, before=full)
    assert warning.count("RuntimeWarning: compiled kernels cannot be kept in") == 1
    assert softmax(tmp_path) == ""
