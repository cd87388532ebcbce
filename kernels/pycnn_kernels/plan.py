"""Problem -> chosen algorithm, made ready once and kept.

``plan_for(operation, problem)`` is a dictionary hit after the first call. ``plan.run(...)`` checks the arrays
against the problem and hands their addresses to the algorithm: raw pointers are reached by no other road.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pycnn_kernels import autotune, choice
from pycnn_kernels.algorithms import Algorithm
from pycnn_kernels.autotune import Side, Timings
from pycnn_kernels.choice import Verdict
from pycnn_kernels.cpu import arrays as cpu_arrays
from pycnn_kernels.cpu.launch import get_num_threads
from pycnn_kernels.cpu.workspace import admit
from pycnn_kernels.cuda.device import current_device
from pycnn_kernels.memory import lent_bytes, pool
from pycnn_kernels.operations import Spec, array_bytes, prepare, specs


class Plan:
    """One operation on one problem, ready to run.

    A problem in float16 or bfloat16 gets the algorithm of the same problem in float32: its arrays are widened, and the
    results rounded once.

    Attributes:
        operation: for example "conv_forward".
        problem: what it was made for.
        algorithm: the chosen one.
        workspace_bytes: scratch memory that a run takes, shared by all runs of a thread; and the widened arrays of
            a problem in float16 or bfloat16.
        table_bytes: memory that it holds as long as it lives: where elements lie, and their weights. Only those of
            rearrangements and of resampling grow with their arrays, and are counted.
    """

    def __init__(self, backend: str, operation: str, problem: Any, algorithm: Algorithm):
        self.backend, self.operation, self.problem, self.algorithm = backend, operation, problem, algorithm
        self._arrays = arrays_of(backend)  # of the GPU for which it is made
        self.inputs, self.updated, self.outputs = specs(operation, problem)
        self._left_out = (None,) * len(self.inputs)
        self._prepared = prepare(algorithm, operation, problem)
        self.workspace_bytes = self._prepared.workspace_bytes
        self.table_bytes = getattr(self._prepared, "table_bytes", 0)
        borrowed = getattr(self._prepared, "borrowed", ())
        # What a run takes: of the thread's workspace, of the pool, and of it for each output.
        self._scratch_bytes = self.workspace_bytes - sum(borrowed)
        self._borrowed_bytes = sum(map(lent_bytes, borrowed))
        self._makers = [(spec.name, self._arrays.maker(spec.shape, spec.dtype)) for spec in self.outputs]
        self._output_bytes = {spec.name: lent_bytes(array_bytes(spec)) for spec in self.outputs}

    def run(
        self,
        *inputs: np.ndarray | None,
        updated: tuple[np.ndarray | None, ...] = (),
        skip: tuple[str, ...] = (),
        scalars: tuple[float, ...] = (),
    ) -> tuple[Any, ...]:
        """Compute the operation.

        Args:
            inputs: arrays of the plan's backend, shapes and dtypes; others than contiguous and aligned ones are copied.
                None for an optional one; the last ones may be left out.
            updated: arrays that change in place, contiguous, aligned and writable.
            skip: names of optional outputs that are not wanted.
            scalars: numbers that the operation takes beside its arrays.

        Returns:
            The outputs, None for those that were skipped.

        Raises:
            ValueError: an array has another shape than the problem says, or cannot be changed in place.
            TypeError: an array has another dtype than the problem says, or is no array.
            MemoryLimitError: the outputs and the workspace would exceed the memory limit.
        """
        if len(inputs) < len(self.inputs):
            inputs += self._left_out[len(inputs) :]
        copies: list[Any] = []  # which live as long as the run
        addresses = self._addresses(self.inputs, inputs, copies)
        if updated or self.updated:
            addresses += self._addresses(self.updated, updated, copies, in_place=True)
        if pool.limit is not None and self.backend == "cpu":
            self._admit(skip)
        outputs: list[Any] = []
        for name, make in self._makers:
            array = None if name in skip else make()
            outputs.append(array)
            addresses.append(0 if array is None else self._arrays.address(array))
        self._prepared.run(*addresses, *scalars)
        return tuple(outputs)

    def _addresses(
        self, specs: list[Spec], given: tuple[Any, ...], copies: list[Any], in_place: bool = False
    ) -> list[int]:
        """Where the arrays lie, or copies of those that a kernel cannot read where they are."""
        if len(given) != len(specs):
            kind = "arrays that change" if in_place else "inputs"
            raise ValueError(f"{self.operation} has {len(specs)} {kind}; received {len(given)}")
        arrays = self._arrays
        addresses: list[int] = arrays.usable_addresses(specs, given)
        while -1 in addresses:  # most arrays are what they should be
            place = addresses.index(-1)
            copies.append(_ready(arrays, specs[place], given[place], in_place))
            addresses[place] = arrays.address(copies[-1])
        return addresses

    def _admit(self, skip: tuple[str, ...]) -> None:
        """Ask for all that a run takes, before it takes the first of it."""
        results = sum(size for name, size in self._output_bytes.items() if name not in skip)
        admit(self.operation, results + self._borrowed_bytes, self._scratch_bytes)


def arrays_of(backend: str) -> Any:
    """What knows the arrays of a backend: a module for the CPU, the current GPU for "cuda".

    Raises:
        ValueError: there is no such backend.
        CudaError: it is "cuda", and a package, the driver or a GPU is missing.
    """
    if backend == "cpu":
        return cpu_arrays
    if backend == "cuda":
        return current_device()
    raise ValueError(f"backend must be 'cpu' or 'cuda'; received {backend!r}")


def _ready(arrays: Any, spec: Spec, array: Any, in_place: bool = False) -> Any:
    """The array as a kernel may read it, or change it in place; or an error that says what was expected."""
    if array is None:
        raise TypeError(f"{spec.name} must be an array of shape {spec.shape}; received None")
    if not arrays.is_array(array):
        raise TypeError(f"{spec.name} must be a {arrays.KIND}; received {arrays.described(array)}")
    if array.dtype != spec.dtype:
        raise TypeError(f"{spec.name} must have the dtype {spec.dtype}; received {array.dtype}")
    if array.shape != spec.shape:
        raise ValueError(f"{spec.name} must have the shape {spec.shape}; received {array.shape}")
    usable = arrays.is_usable(array)
    if in_place and not (usable and arrays.is_writable(array)):
        raise ValueError(f"{spec.name} is changed in place: it must be contiguous, aligned and writable")
    return array if usable else arrays.copied(array)


#: Plans are small, but a program that meets a new shape at every call must not keep them all.
_MOST_PLANS = 4096
#: Bytes of the tables of all plans, unless a single one has more.
_MOST_TABLE_BYTES = 1 << 28
_plans: dict[tuple[Any, ...], Plan] = {}


def plan_for(
    operation: str,
    problem: Any,
    *,
    backend: str = "cpu",
    algorithm: str = "auto",
    workspace_limit: int | None = None,
) -> Plan:
    """The plan of an operation for a problem, from the cache after the first call.

    Args:
        operation: for example "conv_forward".
        problem: for example a :class:`~pycnn_kernels.problem.ConvProblem`.
        backend: "cpu" or "cuda".
        algorithm: "auto" for the rule of :mod:`~pycnn_kernels.choice`, "autotune" for the fastest of those that can
            do the problem, measured once (see :mod:`~pycnn_kernels.autotune`), or a name.
        workspace_limit: bytes of workspace at most; None for no limit.

    Raises:
        ValueError: there is no such backend, operation or algorithm, it does not support the problem, or it needs more
            workspace than the limit.
        TypeError: the limit is no integer.
        CudaError: the backend is "cuda", and a package, the driver or a GPU is missing.

    >>> from pycnn_kernels.problem import RowsProblem
    >>> plan_for("softmax", RowsProblem("float32", 2, 10)).algorithm.name
    'rows'
    """
    if algorithm == "autotune":
        algorithm = _tuned(backend, operation, problem, workspace_limit)
    place = None if backend == "cpu" else arrays_of(backend).number
    key = (backend, place, operation, problem, algorithm, workspace_limit)
    plan = _plans.get(key)
    if plan is None:
        if len(_plans) >= _MOST_PLANS:
            _plans.clear()
        chosen = choice.choose(
            operation, problem, backend=backend, algorithm=algorithm, workspace_limit=workspace_limit
        )
        plan = Plan(backend, operation, problem, chosen)
        if plan.table_bytes:
            _make_room(plan.table_bytes)
        _plans[key] = plan
    return plan


def _make_room(needed: int) -> None:
    """Forget the oldest plans that have tables, until these and those of a new plan are not too many."""
    with_tables = [(key, plan.table_bytes) for key, plan in list(_plans.items()) if plan.table_bytes]
    total = needed + sum(size for _, size in with_tables)
    for key, size in with_tables:
        if total <= _MOST_TABLE_BYTES:
            break
        _plans.pop(key, None)  # another thread may have been faster
        total -= size


def explain(
    operation: str,
    problem: Any,
    *,
    backend: str = "cpu",
    algorithm: str = "auto",
    workspace_limit: int | None = None,
) -> list[Verdict]:
    """A verdict on each algorithm of an operation, in the order in which they are asked.

    The arguments and errors are those of :func:`plan_for`; "autotune" measures where it has not yet.

    >>> from pycnn_kernels.problem import RowsProblem
    >>> [(verdict.name, verdict.chosen) for verdict in explain("softmax", RowsProblem("float32", 2, 10))]
    [('rows', True)]
    """
    timings = None
    if algorithm == "autotune":
        timings = _timings(backend, operation, problem, workspace_limit)
        algorithm = timings.fastest
    return choice.explain(
        operation, problem, backend=backend, algorithm=algorithm, workspace_limit=workspace_limit, timings=timings
    )


def _tuned(backend: str, operation: str, problem: Any, workspace_limit: int | None) -> str:
    """The name of the fastest algorithm; the only one that can do a problem has nothing to be measured against."""
    known = autotune.recall(
        autotune.Key(arrays_of(backend).machine(), operation, problem, workspace_limit, get_num_threads())
    )
    if known is not None:
        return known.fastest
    able = choice.able(operation, problem, backend=backend, workspace_limit=workspace_limit)
    return able[0].name if len(able) == 1 else _timings(backend, operation, problem, workspace_limit).fastest


def _timings(backend: str, operation: str, problem: Any, workspace_limit: int | None) -> Timings:
    """The times of all algorithms that can do a problem within the limit, measured now if nobody has yet."""
    key = autotune.Key(arrays_of(backend).machine(), operation, problem, workspace_limit, get_num_threads())
    able = {a.name: a for a in choice.able(operation, problem, backend=backend, workspace_limit=workspace_limit)}
    return autotune.timings(key, list(able), lambda name: _side(Plan(backend, operation, problem, able[name])))


def _side(plan: Plan) -> Side:
    """A run of a plan on arrays of its own, filled with normally distributed numbers.

    Raises:
        ValueError: the operation takes labels or positions, which random numbers are not, or changes its arrays.
    """
    if plan.updated or any(spec.dtype.kind in "iu" for spec in plan.inputs):
        raise ValueError(f"{plan.operation} cannot be timed on random numbers: name one of its algorithms")
    random, arrays = np.random.default_rng(0), arrays_of(plan.backend)
    inputs = [
        None if spec.optional else arrays.from_host(random.standard_normal(spec.shape).astype(spec.dtype))
        for spec in plan.inputs
    ]

    def run() -> tuple[Any, ...]:
        results = plan.run(*inputs)
        arrays.synchronize()
        return results

    return run
