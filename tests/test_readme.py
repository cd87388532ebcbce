"""The README's examples say what the commands say."""

from __future__ import annotations

import pytest

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
