"""The choice of an algorithm, and the reasons for it.

"auto" goes through the ordered list of an operation and takes the first algorithm that

1. supports the problem,
2. needs no more workspace than the limit, where there is one,
3. suits the problem: by a rule of its own (``Algorithm.suits``), and where the list says so by its expected cost, which
   must be clearly below that of each algorithm behind it that passes 1 and 2 and its own rule (``Algorithm.margin``).

Where a limit leaves no algorithm that suits, "auto" takes the first that passes 1 and 2: slow is better than nothing.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from pycnn_kernels.algorithms import Algorithm, algorithms_for
from pycnn_kernels.autotune import Timings
from pycnn_kernels.operations import array_bytes, prepare, specs
from pycnn_kernels.problem import STORAGE_DTYPES, computed


class Verdict(NamedTuple):
    """What became of one candidate of an operation.

    Attributes:
        name: of the algorithm.
        chosen: whether it is the one.
        reason: why it is not the one; None if it is.
        workspace_bytes: scratch memory that it takes, None where it cannot do the problem.
        peak_bytes: all that it takes beside its inputs: the results and the workspace.
        summary: what it does and when it wins.
        cost: the expected time on one core, in multiply-adds of whole vectors; None where it cannot do the problem, or
            where nobody has said.
        seconds: the median time that was measured, None where nothing was.
        runs: how many runs that is the median of.
    """

    name: str
    chosen: bool
    reason: str | None
    workspace_bytes: int | None
    peak_bytes: int | None
    summary: str
    cost: float | None = None
    seconds: float | None = None
    runs: int = 0


def choose(
    operation: str,
    problem: Any,
    *,
    backend: str = "cpu",
    algorithm: str = "auto",
    workspace_limit: int | None = None,
) -> Algorithm:
    """The algorithm of an operation for a problem.

    Args:
        operation: for example "conv_forward".
        problem: for example a :class:`~pycnn_kernels.problem.ConvProblem`.
        backend: "cpu" or "cuda".
        algorithm: "auto" for the rule above, or a name.
        workspace_limit: bytes of workspace at most; None for no limit.

    Raises:
        ValueError: there is no such operation or algorithm, it does not support the problem, or it needs more
            workspace than the limit.
        TypeError: the limit is no integer.

    >>> from pycnn_kernels.problem import RowsProblem
    >>> choose("softmax", RowsProblem("float32", 2, 10)).name
    'rows'
    """
    limit = _checked(workspace_limit)
    candidates = _candidates(backend, operation, problem)
    if algorithm != "auto":
        return _by_name(candidates, operation, problem, algorithm, limit)
    for place, candidate in enumerate(candidates):
        if (
            _obstacle(candidate, operation, problem, limit) is None
            and _unsuited(candidates, place, operation, problem, limit) is None
        ):
            return candidate
    return able(operation, problem, backend=backend, workspace_limit=limit)[0]


def expected_cost(operation: str, problem: Any) -> float:
    """The expected time of the algorithm that "auto" takes; see ``cpu/cost.py`` for the unit."""
    cost = choose(operation, problem).cost
    assert cost is not None, f"{operation} has algorithms without a model"
    return cost(problem)


def able(operation: str, problem: Any, *, backend: str = "cpu", workspace_limit: int | None = None) -> list[Algorithm]:
    """The algorithms of an operation that can do a problem within a workspace limit, in their order.

    Raises:
        ValueError: there is no such operation, or none of its algorithms can; with the least workspace that one needs.
        TypeError: the limit is no integer.
    """
    limit = _checked(workspace_limit)
    candidates = _candidates(backend, operation, problem)
    found = [candidate for candidate in candidates if _obstacle(candidate, operation, problem, limit) is None]
    if found:
        return found
    supporting = [candidate for candidate in candidates if candidate.supports(computed(problem)) is None]
    if not supporting:
        reasons = "; ".join(
            f"{candidate.name} needs {candidate.supports(computed(problem))}" for candidate in candidates
        )
        raise ValueError(f"no algorithm of {operation} can do this: {reasons}")
    least = min(supporting, key=lambda candidate: workspace_bytes(candidate, operation, problem))
    raise ValueError(
        f"no algorithm of {operation} can do this within the workspace limit of {limit:,} bytes: the least that one "
        f"needs is {workspace_bytes(least, operation, problem):,}, {least.name!r}"
    )


def explain(
    operation: str,
    problem: Any,
    *,
    backend: str = "cpu",
    algorithm: str = "auto",
    workspace_limit: int | None = None,
    timings: Timings | None = None,
) -> list[Verdict]:
    """A verdict on each algorithm of an operation, in the order in which they are asked.

    ``timings`` has the figures by which "autotune" chose ``algorithm``, which then is a name. Otherwise as
    :func:`choose`.

    >>> from pycnn_kernels.problem import RowsProblem
    >>> [(verdict.name, verdict.chosen) for verdict in explain("softmax", RowsProblem("float32", 2, 10))]
    [('rows', True)]
    """
    chosen = choose(operation, problem, backend=backend, algorithm=algorithm, workspace_limit=workspace_limit)
    candidates = _candidates(backend, operation, problem)
    _, _, outputs = specs(operation, problem)
    results = sum(map(array_bytes, outputs))
    verdicts = []
    for place, candidate in enumerate(candidates):
        supported = candidate.supports(computed(problem)) is None
        reason = None
        if candidate is not chosen:
            reason = _obstacle(candidate, operation, problem, workspace_limit)
            if reason is None and timings is not None:
                reason = f"{chosen.name} was faster"
            elif reason is None and algorithm != "auto":
                reason = f"{algorithm} was asked for"
            elif reason is None:
                unsuited = _unsuited(candidates, place, operation, problem, workspace_limit)
                reason = unsuited or f"{chosen.name} is asked first"
        workspace = workspace_bytes(candidate, operation, problem) if supported else None
        verdicts.append(
            Verdict(
                candidate.name,
                candidate is chosen,
                reason,
                workspace,
                None if workspace is None else results + workspace,
                candidate.summary,
                candidate.cost(computed(problem)) if supported and candidate.cost else None,
                timings.seconds.get(candidate.name) if timings else None,
                timings.runs.get(candidate.name, 0) if timings else 0,
            )
        )
    return verdicts


def _candidates(backend: str, operation: str, problem: Any) -> list[Algorithm]:
    """The list of an operation, for a problem whose dtype the backend has."""
    if backend == "cuda" and problem.dtype in STORAGE_DTYPES:
        raise ValueError(f"backend 'cuda' computes in float32 and float64; received {problem.dtype}")
    return algorithms_for(backend, operation)


@lru_cache(maxsize=1024)
def workspace_bytes(candidate: Algorithm, operation: str, problem: Any) -> int:
    """Scratch memory that an algorithm takes for a problem that it supports.

    With the widened arrays of a problem in float16 or bfloat16. Making it ready is the one way to know, and costs
    0.1 ms.
    """
    return prepare(candidate, operation, problem).workspace_bytes


def _checked(limit: Any) -> int | None:
    if limit is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, int | np.integer):
        raise TypeError(f"workspace_limit must be None or a number of bytes, an integer; received {limit!r}")
    if limit < 0:
        raise ValueError(f"workspace_limit must be at least 0 bytes; received {limit!r}")
    return int(limit)


def _by_name(candidates: list[Algorithm], operation: str, problem: Any, name: str, limit: int | None) -> Algorithm:
    for candidate in candidates:
        if candidate.name == name:
            reason = _obstacle(candidate, operation, problem, limit)
            if reason is not None:
                raise ValueError(f"algorithm {name!r} of {operation} {reason}")
            return candidate
    known = ", ".join(repr(candidate.name) for candidate in candidates)
    raise ValueError(
        f"algorithm of {operation} must be 'auto' or one of {known}, or 'autotune' to measure them; received {name!r}"
    )


def _obstacle(candidate: Algorithm, operation: str, problem: Any, limit: int | None) -> str | None:
    """Why an algorithm cannot do a problem, None if it can."""
    reason = candidate.supports(computed(problem))
    if reason is not None:
        return f"needs {reason}"
    if limit is not None:
        needed = workspace_bytes(candidate, operation, problem)
        if needed > limit:
            return f"needs {needed:,} bytes of workspace, the limit is {limit:,}"
    return None


def _unsuited(candidates: list[Algorithm], place: int, operation: str, problem: Any, limit: int | None) -> str | None:
    """Why "auto" passes on from an algorithm that can do a problem, None if it stays."""
    candidate = candidates[place]
    reason = candidate.suits(computed(problem))
    if reason is not None:
        return f"needs {reason}"
    if candidate.margin is None or candidate.cost is None:
        return None
    cost = candidate.cost(computed(problem))
    for other in candidates[place + 1 :]:
        passed = _obstacle(other, operation, problem, limit) or other.suits(computed(problem))
        if other.cost is not None and passed is None:
            others = other.cost(computed(problem))
            if cost > candidate.margin * others > 0:  # nothing takes no time: that of no images
                return f"is expected to take {cost / others:.1f} times as long as {other.name}"
    return None
