"""The README's examples say what the commands say, and its snippets run."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from pycnn import backend
from tests.readme import MACHINE, README, examples, here, output

EXAMPLES = examples(README.read_text(encoding="utf-8"))


def test_examples_are_found() -> None:
    """Finding none would pass the test below."""
    assert len(EXAMPLES) >= 5


@pytest.mark.parametrize(("command", "shown"), EXAMPLES, ids=[command for command, _ in EXAMPLES])
def test_what_the_readme_shows(command: str, shown: str) -> None:
    printed = output(command)  # it runs, on every machine
    assert printed.startswith("input (1, ")
    if here() != MACHINE:
        pytest.skip(f"the README shows the output on {MACHINE}; this machine is {here()}")
    assert printed == shown, "README.md is not up to date: make readme (python -m tests.readme) writes its outputs anew"


def _section(heading: str) -> str:
    text = README.read_text(encoding="utf-8")
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


SECTIONS = {
    heading: re.findall(r"```python\n(.*?)```", _section(heading), re.DOTALL)
    for heading in ("Models, files and networks of Keras", "Use it in your code")
}

#: Packages of others that snippets may import; where one is missing, or CuPy finds no GPU, the snippet is skipped.
PACKAGES = ("cupy", "jax", "scipy", "torch")


@pytest.mark.parametrize("heading", SECTIONS)
def test_snippets_run(
    heading: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other, as a reader would; what the comments behind ``print`` say is printed."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    skipped = []
    for snippet in SECTIONS[heading]:
        needed = [package for package in PACKAGES if re.search(rf"^(?:import|from) {package}\b", snippet, re.MULTILINE)]
        missing = [package for package in needed if not _can_be_used(package)]
        skipped += missing
        if missing:
            continue
        exec(snippet, names)
        printed = capsys.readouterr().out.splitlines()
        assert printed == re.findall(r"^print\(.*\)  # (.*)$", snippet, re.MULTILINE)
    assert len(SECTIONS[heading]) > 1
    if skipped:
        pytest.skip(f"the other snippets ran; these packages cannot be used here: {', '.join(skipped)}")


def _can_be_used(package: str) -> bool:
    if importlib.util.find_spec(package) is None:
        return False
    if package != "cupy":
        return True
    try:
        backend.get("cuda")
    except backend.BackendError:
        return False
    return True
