"""No kernel touches memory outside its arrays: see :mod:`tests.kernels.guarded`."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import Any

import pytest

from pycnn_kernels.cpu import host

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="guard pages are made with mprotect")

OPERATIONS = ("conv", "pool", "rows", "updates", "bias")


@pytest.mark.parametrize("simd", [s.name for s in host.INSTRUCTION_SETS])
@pytest.mark.parametrize("what", OPERATIONS)
def test_nothing_outside_is_touched(what: str, simd: str, run_python: Callable[..., Any]) -> None:
    if simd not in host.supported():
        pytest.skip(f"this processor has no {simd}")
    done = run_python("-m", "tests.kernels.guarded", what, PYCNN_SIMD=simd)
    assert done.returncode == 0, f"ended with {done.returncode}\n{done.stderr}"
    assert done.stdout.strip() == "nothing outside was touched"


@pytest.mark.parametrize("what", ["touch-before", "touch-after"])
def test_a_touch_would_show(what: str, run_python: Callable[..., Any]) -> None:
    """The guards themselves."""
    done = run_python("-m", "tests.kernels.guarded", what)
    assert done.returncode in (-signal.SIGSEGV, -signal.SIGBUS)
    assert done.stdout.strip() == "about to touch"
