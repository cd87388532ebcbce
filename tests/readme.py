"""The outputs of ``pycnn explain`` in README.md, written by the command itself.

``make readme`` (``python -m tests.readme``) writes them anew; ``tests/test_readme.py`` compares.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path

from pycnn.cli import main
from pycnn_kernels.cpu.host import SIMD
from pycnn_kernels.cpu.launch import most_threads

README = Path(__file__).parents[1] / "README.md"

#: The machine that the README shows: others have other vectors, and workspace for another number of threads.
MACHINE = ("avx512", 2)

#: A block with a command, and the block behind it with its output.
_EXAMPLE = re.compile(r"```sh\n(pycnn explain [^\n]*)\n```\n\n```\n(.*?)```", re.DOTALL)


def here() -> tuple[str, int]:
    """This machine: its instruction set and its number of cores."""
    return SIMD.name, most_threads()


def examples(text: str) -> list[tuple[str, str]]:
    """Each command with the output that the text shows."""
    return [(found[1], found[2]) for found in _EXAMPLE.finditer(text)]


def output(command: str) -> str:
    """What a command prints.

    Raises:
        RuntimeError: it ends with an error.
    """
    printed = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with contextlib.redirect_stdout(printed):
        if main(shlex.split(command)[1:]) != 0:
            raise RuntimeError(f"{command} ended with an error")
        printed.flush()
    return printed.buffer.getvalue().decode()  # type: ignore[attr-defined]


def with_outputs(text: str) -> str:
    """The text with the outputs of today."""
    return _EXAMPLE.sub(lambda found: f"```sh\n{found[1]}\n```\n\n```\n{output(found[1])}```", text)


if __name__ == "__main__":
    if here() != MACHINE:
        raise SystemExit(f"README.md shows the output on {MACHINE}; this machine is {here()}")
    README.write_text(with_outputs(README.read_text(encoding="utf-8")), encoding="utf-8")
