"""Where arrays lie in memory must not show: not in bits, and no kernel touches anything outside its arrays."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pycnn_kernels.cpu import host
from tests.kernels.cases import CASES, Case


class Arena:
    """One piece of memory in which arrays lie ``gap`` bytes from each other, in their order or in reverse."""

    def __init__(self, gap: int, in_reverse: bool):
        self.gap, self.in_reverse = gap, in_reverse
        self.memory = np.zeros(1 << 26, np.uint8)
        self.first = -self.memory.ctypes.data % 64
        self.last = self.first + (self.memory.size - 64) // 64 * 64

    def _take(self, size: int, alignment: int) -> np.ndarray:
        room = -(-(size + self.gap) // alignment) * alignment
        assert self.first + room <= self.last, "the arena is too small"
        if self.in_reverse:
            self.last -= room
            return self.memory[self.last : self.last + size]
        taken = self.memory[self.first : self.first + size]
        self.first += room
        return taken

    def place(self, array: np.ndarray) -> np.ndarray:
        placed = self._take(array.nbytes, array.itemsize).view(array.dtype).reshape(array.shape)
        placed[...] = array
        return placed

    def scratch(self, size: int) -> int:
        taken = self._take(size + 64, 8).ctypes.data
        return taken + -taken % 64


def run_in_arena(case: Case, gap: int, in_reverse: bool) -> list[np.ndarray]:
    arena = Arena(gap, in_reverse)
    return [array.copy() for array in case.run_placed(arena.place, arena.scratch)]


@pytest.mark.parametrize("what", CASES)
def test_distances_between_arrays_do_not_change_the_bits(what: str) -> None:
    """A compiler that cannot tell whether arrays overlap makes two loops, one of them for arrays that lie far
    enough apart; they must agree."""
    for case in CASES[what]():
        expected = run_in_arena(case, gap=4096, in_reverse=False)
        for gap in (0, 8, 64, 200):
            for in_reverse in (False, True):
                for found, other in zip(run_in_arena(case, gap, in_reverse), expected, strict=True):
                    assert found.tobytes() == other.tobytes(), f"{case.plan.operation} of {case.plan.problem}, {gap}"


@pytest.mark.skipif(sys.platform == "win32", reason="guard pages are made with mprotect")
@pytest.mark.parametrize("simd", [simd.name for simd in host.INSTRUCTION_SETS])
@pytest.mark.parametrize("what", CASES)
def test_nothing_outside_is_touched(what: str, simd: str, run_python: Callable[..., Any]) -> None:
    """See tests/kernels/guarded.py."""
    if simd not in host.supported():
        pytest.skip(f"this processor has no {simd}")
    # Kernels of both dtypes for all instruction sets would take minutes to compile.
    dtypes = "float32 float64" if simd == host.SIMD.name else "float32"
    done = run_python("-m", "tests.kernels.guarded", what, PYCNN_SIMD=simd, PYCNN_TEST_DTYPES=dtypes)
    assert done.returncode == 0, f"ended with {done.returncode}\n{done.stderr}"
    assert done.stdout.strip() == "nothing outside was touched"


@pytest.mark.skipif(sys.platform == "win32", reason="guard pages are made with mprotect")
@pytest.mark.parametrize("what", ["touch-before", "touch-after"])
def test_a_touch_would_show(what: str, run_python: Callable[..., Any]) -> None:
    """The guards themselves."""
    done = run_python("-m", "tests.kernels.guarded", what)
    assert done.returncode in (-signal.SIGSEGV, -signal.SIGBUS)
    assert done.stdout.strip() == "about to touch"
