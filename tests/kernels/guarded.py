"""Every array of an operation directly against memory that cannot be touched, on one side and then on the other.

Run as a program, because a touch of that memory ends the process::

    python -m tests.kernels.guarded conv            all cases of this name in tests/kernels/cases.py
    python -m tests.kernels.guarded touch-after     touches the guard on purpose, as "touch-before" does

Linux and macOS.
"""

from __future__ import annotations

import ctypes
import mmap
import sys

import numpy as np

from tests.kernels.cases import CASES, Case

PAGE = mmap.PAGESIZE
NOTHING_ALLOWED = 0  # PROT_NONE

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


class Guarded:
    """``size`` bytes between two pages that cannot be touched: at the end of their pages, or at the beginning."""

    def __init__(self, size: int, at_end: bool):
        pages = -(-size // PAGE) * PAGE
        self._memory = mmap.mmap(-1, pages + 2 * PAGE)
        base = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        for guard in (base, base + PAGE + pages):
            if _libc.mprotect(guard, PAGE, NOTHING_ALLOWED):
                raise OSError(ctypes.get_errno(), "mprotect")
        self.address = base + PAGE + (pages - size if at_end else 0)

    def array(self, like: np.ndarray) -> np.ndarray:
        """The memory as an array like ``like``, holding its elements."""
        memory = np.ctypeslib.as_array((ctypes.c_uint8 * like.nbytes).from_address(self.address))
        found = memory.view(like.dtype).reshape(like.shape)
        found[...] = like
        return found


def run_guarded(case: Case, at_end: bool) -> None:
    """Run a case with all its arrays and its workspace against the guards, and compare with the ordinary run."""
    keep: list[Guarded] = []

    def place(array: np.ndarray) -> np.ndarray:
        keep.append(Guarded(array.nbytes, at_end))
        return keep[-1].array(array)

    def scratch(size: int) -> int:
        keep.append(Guarded(size, at_end))
        return keep[-1].address

    for found, expected in zip(case.run_placed(place, scratch), case.run(), strict=True):
        np.testing.assert_allclose(found.astype(np.float64), expected.astype(np.float64), rtol=1e-5)


def touch(offset: int) -> None:
    memory = Guarded(PAGE, at_end=True)
    print("about to touch", flush=True)
    print(ctypes.c_char.from_address(memory.address + offset).value)


def main(what: str) -> None:
    if what == "touch-after":
        touch(PAGE)
    elif what == "touch-before":
        touch(-1)
    else:
        for case in CASES[what]():
            run_guarded(case, at_end=True)
            run_guarded(case, at_end=False)
    print("nothing outside was touched")


if __name__ == "__main__":
    main(sys.argv[1])
