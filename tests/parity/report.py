"""How many of the calls that are drawn for each operation are accepted, refused and left out, and what is wrong.

    python -m tests.parity.report [number of calls] [operation ...]

What is drawn is the same in each run. An operation is marked where less than 40 % of its calls are accepted, or less
than 5 % refused: then what is drawn says little of one of the two.
"""

from __future__ import annotations

import collections
import sys
import warnings
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.parity.call import DRESSES, Case, compare


def counted(name: str, case: Case, number: int) -> tuple[collections.Counter[str], dict[str, str]]:
    """How many calls of an operation are what, and of each kind of error the first call that has it."""
    found: collections.Counter[str] = collections.Counter()
    wrong: dict[str, str] = {}

    @given(case.calls, st.sampled_from(sorted(DRESSES)))
    @settings(max_examples=number, derandomize=True, database=None, deadline=None,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    def check(call: Any, dress: str) -> None:
        if case.differs(call) is not None:
            found["left out"] += 1
            return
        try:
            found["accepted" if compare(name, case, call, dress) else "refused"] += 1
        except (Exception, pytest.fail.Exception) as error:
            found["wrong"] += 1
            wrong.setdefault(type(error).__name__, f"{error}\n{dress}: {call}")

    check()
    return found, wrong


def main(arguments: list[str]) -> None:
    """Print a line for each operation, and what is wrong below it."""
    from tests.test_parity import CASES

    warnings.simplefilter("ignore")
    number = int(arguments[0]) if arguments else 100
    for name in arguments[1:] or CASES:
        found, wrong = counted(name, CASES[name], number)
        share = {kind: 100 * found[kind] / found.total() for kind in ("accepted", "refused", "left out", "wrong")}
        mark = "  <--" if share["accepted"] < 40 or share["refused"] < 5 else ""
        print(f"{name:34}", *(f"{kind} {part:5.1f} %" for kind, part in share.items()), mark, flush=True)
        for error, example in wrong.items():
            print(f"    {error}: {example}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
