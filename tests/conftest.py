"""What the whole test session shares: a kernel cache of its own, hypothesis' profile, and a fresh interpreter."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

# Before anything imports NumPy or PyTorch: small problems take half the time where no second thread waits for work.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Before anything imports Keras: it is compared on PyTorch, which computes float32 as such.
os.environ.setdefault("KERAS_BACKEND", "torch")

import hypothesis
import numpy as np
import pytest

# Before anything imports pycnn: kernels are compiled into a folder that is empty, so that the session tests this
# source and no leftover; the workers of pytest-xdist share the one of the process that started them.
# $PYCNN_TEST_CACHE_DIR names a folder to keep instead, for quick runs while editing tests.
_KEPT_CACHE = os.environ.get("PYCNN_TEST_CACHE_DIR")
_IS_WORKER = "PYTEST_XDIST_WORKER" in os.environ
if not _IS_WORKER:
    os.environ["PYCNN_CACHE_DIR"] = _KEPT_CACHE or tempfile.mkdtemp(prefix="pycnn-tests-")
_CACHE = os.environ["PYCNN_CACHE_DIR"]
for name in ("PYCNN_NUM_THREADS", "PYCNN_DATA", "PYCNN_MEMORY_LIMIT"):
    os.environ.pop(name, None)

# A compilation makes many objects that live to its end: with Python's own threshold of 700, looking for garbage among
# them takes a tenth of its time.
gc.set_threshold(50_000)

ROOT = Path(__file__).parents[1]

hypothesis.settings.register_profile(
    "pycnn",
    # A red test must stay red when it is run again, and a compilation may take seconds.
    derandomize=True,
    deadline=None,
    max_examples=60,
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.filter_too_much],
)
hypothesis.settings.load_profile("pycnn")


def pytest_unconfigure() -> None:
    if _KEPT_CACHE is None and not _IS_WORKER:
        shutil.rmtree(_CACHE, ignore_errors=True)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)


@pytest.fixture(autouse=True)
def _number_of_threads() -> Iterator[None]:
    """Whatever a test does to the number of threads ends with it."""
    import pycnn

    before = pycnn.get_num_threads()
    yield
    pycnn.set_num_threads(before)


@pytest.fixture(scope="module")
def few_objects() -> Iterator[None]:
    """A look for garbage leaves out what earlier tests have left behind: among the millions of objects that
    compilations make for good, each one would take seconds."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


RunPython = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def run_python() -> RunPython:
    """Run Python in a process of its own: ``run_python("-c", code, PYCNN_SIMD="avx2")``.

    Keyword arguments are environment variables, None to unset one. The process shares the session's kernel cache
    unless it is given another.
    """

    def run(*arguments: str, **environment: str | None) -> subprocess.CompletedProcess[str]:
        variables = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "kernels")]),
            "PYCNN_TEST_CACHE_DIR": _CACHE,
        }
        for name, value in environment.items():
            if value is None:
                variables.pop(name, None)
            else:
                variables[name] = value
        return subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, env=variables, capture_output=True, text=True, timeout=600
        )

    return run


@pytest.fixture
def python_prints(run_python: RunPython) -> Callable[..., str]:
    """What a piece of code prints in a process of its own, which must end well."""

    def prints(code: str, **environment: str | None) -> str:
        done = run_python("-c", code, **environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return prints
