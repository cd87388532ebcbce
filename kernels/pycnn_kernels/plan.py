"""Problem -> chosen algorithm, made ready once and kept.

``plan_for(operation, problem)`` is a dictionary hit after the first call. ``plan.run(...)`` checks the arrays
against the problem and hands their addresses to the algorithm: raw pointers are reached by no other road.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from pycnn_kernels.algorithms import Algorithm, Prepared, algorithms_for
from pycnn_kernels.cpu.storage import Widened
from pycnn_kernels.memory import Shape, address, aligned_empty
from pycnn_kernels.problem import STORAGE_DTYPES, computed, numpy_dtype


class Spec(NamedTuple):
    """What an array of an operation must be."""

    name: str
    shape: Shape
    dtype: np.dtype
    optional: bool = False


def _conv_arrays(p: Any) -> dict[str, Spec]:
    dtype = numpy_dtype(p.dtype)
    return {
        "x": Spec("x", p.x_shape, dtype),
        "w": Spec("w", p.w_shape, dtype),
        "b": Spec("b", (p.K,), dtype, optional=not p.bias),
        "y": Spec("y", p.y_shape, dtype),
        "dx": Spec("dx", p.x_shape, dtype),
        "dw": Spec("dw", p.w_shape, dtype),
        "dy": Spec("dy", p.y_shape, dtype),
    }


def _pool_arrays(p: Any) -> dict[str, Spec]:
    dtype = numpy_dtype(p.dtype)
    return {
        "x": Spec("x", p.x_shape, dtype),
        "y": Spec("y", p.y_shape, dtype),
        "dx": Spec("dx", p.x_shape, dtype),
        "dy": Spec("dy", p.y_shape, dtype),
        "index": Spec("index", p.index_shape, np.dtype(np.uint16), optional=True),
    }


def _rows_arrays(p: Any) -> dict[str, Spec]:
    dtype = numpy_dtype(p.dtype)
    return {
        "x": Spec("x", (p.rows, p.columns), dtype),
        "y": Spec("y", (p.rows, p.columns), dtype),
        "labels": Spec("labels", (p.rows,), np.dtype(np.int64)),
        "losses": Spec("losses", (p.rows,), dtype),
    }


def _channels_arrays(p: Any) -> dict[str, Spec]:
    dtype = numpy_dtype(p.dtype)
    shape = (p.pixels, p.channels, p.inner)
    return {
        "dy": Spec("dy", shape, dtype),
        "y": Spec("y", shape, dtype, optional=True),
        "dz": Spec("dz", shape, dtype, optional=True),
        "db": Spec("db", (p.channels,), dtype, optional=True),
    }


def _cast_arrays(p: Any) -> dict[str, Spec]:
    return {
        "stored": Spec("stored", (p.size,), numpy_dtype(p.storage)),
        "wide": Spec("wide", (p.size,), numpy_dtype(p.dtype)),
    }


def _update_arrays(p: Any) -> dict[str, Spec]:
    dtype = numpy_dtype(p.dtype)
    state = numpy_dtype(computed(p).dtype)  # averages lose what each step adds when they are rounded to a half
    return {
        "w": Spec("w", (p.size,), dtype),
        "g": Spec("g", (p.size,), dtype),
        "m": Spec("m", (p.size,), state),
        "v": Spec("v", (p.size,), state, optional=True),
    }


#: For each operation: its arrays, and which of them are inputs, updated in place, and outputs.
_OPERATIONS: dict[str, tuple[Any, str, str, str]] = {
    "conv_forward": (_conv_arrays, "x w b", "", "y"),
    "conv_input_gradient": (_conv_arrays, "dy w", "", "dx"),
    "conv_weight_gradient": (_conv_arrays, "x dy", "", "dw"),
    "bias_activation_gradient": (_channels_arrays, "dy y", "", "dz db"),
    "max_pool": (_pool_arrays, "x", "", "y index"),
    "max_pool_gradient": (_pool_arrays, "dy index", "", "dx"),
    "average_pool": (_pool_arrays, "x", "", "y"),
    "average_pool_gradient": (_pool_arrays, "dy", "", "dx"),
    "softmax": (_rows_arrays, "x", "", "y"),
    "log_softmax": (_rows_arrays, "x", "", "y"),
    "cross_entropy": (_rows_arrays, "x labels", "", "losses y"),
    "widen": (_cast_arrays, "stored", "", "wide"),
    "narrow": (_cast_arrays, "wide", "", "stored"),
    "adam": (_update_arrays, "g", "w m v", ""),
    "sgd": (_update_arrays, "g", "w v", ""),
}


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
    """

    def __init__(self, backend: str, operation: str, problem: Any, algorithm: Algorithm):
        describe, inputs, updated, outputs = _OPERATIONS[operation]
        arrays = describe(problem)
        self.backend, self.operation, self.problem, self.algorithm = backend, operation, problem, algorithm
        self.inputs: list[Spec] = [arrays[name] for name in inputs.split()]
        self.updated: list[Spec] = [arrays[name] for name in updated.split()]
        self.outputs: list[Spec] = [arrays[name] for name in outputs.split()]
        self._prepared = _prepare(algorithm, problem, self.inputs, self.updated, self.outputs)
        self.workspace_bytes = self._prepared.workspace_bytes

    def run(
        self,
        *inputs: np.ndarray | None,
        updated: tuple[np.ndarray | None, ...] = (),
        skip: tuple[str, ...] = (),
        scalars: tuple[float, ...] = (),
    ) -> tuple[Any, ...]:
        """Compute the operation.

        Args:
            inputs: arrays of the plan's shapes and dtypes; others than contiguous and aligned ones are copied.
                None for an optional one.
            updated: arrays that change in place, contiguous, aligned and writable.
            skip: names of optional outputs that are not wanted.
            scalars: numbers that the operation takes beside its arrays.

        Returns:
            The outputs, None for those that were skipped.

        Raises:
            ValueError: an array has another shape than the problem says, or cannot be changed in place.
            TypeError: an array has another dtype than the problem says, or is no array.
        """
        ready = [_ready(spec, array) for spec, array in zip(self.inputs, inputs, strict=True)]
        for spec, array in zip(self.updated, updated, strict=True):
            ready.append(_ready_in_place(spec, array))
        outputs = [None if spec.name in skip else aligned_empty(spec.shape, spec.dtype) for spec in self.outputs]
        self._prepared.run(*map(_address, ready), *map(_address, outputs), *scalars)
        return tuple(outputs)


def _prepare(
    algorithm: Algorithm, problem: Any, inputs: list[Spec], updated: list[Spec], outputs: list[Spec]
) -> Prepared:
    """The algorithm ready for the problem; where that is stored in halves, between their conversions."""
    prepared = algorithm.prepare(computed(problem))
    if problem.dtype not in STORAGE_DTYPES:
        return prepared
    stored = numpy_dtype(problem.dtype)
    sizes = [
        [math.prod(spec.shape) if spec.dtype == stored else None for spec in specs]
        for specs in (inputs, updated, outputs)
    ]
    return Widened(prepared, problem.dtype, *sizes)


def _address(array: np.ndarray | None) -> int:
    return 0 if array is None else address(array)


def _ready(spec: Spec, array: np.ndarray | None) -> np.ndarray | None:
    """The array as a kernel may read it, or an error that says what was expected."""
    if array is None:
        if not spec.optional:
            raise TypeError(f"{spec.name} must be an array of shape {spec.shape}; received None")
        return None
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{spec.name} must be a NumPy array; received {type(array).__name__}")
    if array.dtype != spec.dtype:
        raise TypeError(f"{spec.name} must have the dtype {spec.dtype}; received {array.dtype}")
    if array.shape != spec.shape:
        raise ValueError(f"{spec.name} must have the shape {spec.shape}; received {array.shape}")
    if not array.flags.carray and not (array.flags.c_contiguous and array.flags.aligned):
        return np.require(array, requirements=["C", "A"])
    return array


def _ready_in_place(spec: Spec, array: np.ndarray | None) -> np.ndarray | None:
    ready = _ready(spec, array)
    if ready is not array or (array is not None and not array.flags.writeable):
        raise ValueError(f"{spec.name} is changed in place: it must be contiguous, aligned and writable")
    return ready


#: Plans are small, but a program that meets a new shape at every call must not keep them all.
_MOST_PLANS = 4096
_plans: dict[tuple[str, str, Any, str], Plan] = {}


def plan_for(operation: str, problem: Any, *, backend: str = "cpu", algorithm: str = "auto") -> Plan:
    """The plan of an operation for a problem, from the cache after the first call.

    Args:
        operation: for example "conv_forward".
        problem: for example a :class:`~pycnn_kernels.problem.ConvProblem`.
        backend: "cpu".
        algorithm: "auto" for the first of the operation's list that supports the problem and suits it, or a name.

    Raises:
        ValueError: there is no such operation or algorithm, or it does not support the problem.

    >>> from pycnn_kernels.problem import RowsProblem
    >>> plan_for("softmax", RowsProblem("float32", 2, 10)).algorithm.name
    'rows'
    """
    key = (backend, operation, problem, algorithm)
    plan = _plans.get(key)
    if plan is None:
        if len(_plans) >= _MOST_PLANS:
            _plans.clear()
        plan = _plans[key] = Plan(backend, operation, problem, _choose(backend, operation, problem, algorithm))
    return plan


class Verdict(NamedTuple):
    """What became of one candidate of an operation.

    Attributes:
        name: of the algorithm.
        chosen: whether it is the one.
        reason: why it is not the one; None if it is.
        workspace_bytes: scratch memory that it takes, None where it cannot do the problem. For float16 and bfloat16
            with the widened arrays: they are what the algorithm computes on.
        summary: what it does and when it wins.
    """

    name: str
    chosen: bool
    reason: str | None
    workspace_bytes: int | None
    summary: str


def explain(operation: str, problem: Any, *, backend: str = "cpu") -> list[Verdict]:
    """A verdict on each algorithm of an operation, in the order in which they are asked.

    Raises:
        ValueError: there is no such operation, or no algorithm for the problem.

    >>> from pycnn_kernels.problem import RowsProblem
    >>> [(verdict.name, verdict.chosen) for verdict in explain("softmax", RowsProblem("float32", 2, 10))]
    [('rows', True)]
    """
    chosen = _choose(backend, operation, problem, "auto")
    asked = computed(problem)
    verdicts = []
    for candidate in algorithms_for(backend, operation):
        cannot = candidate.supports(asked)
        workspace = None if cannot else Plan(backend, operation, problem, candidate).workspace_bytes
        needs = cannot or candidate.suits(asked)
        reason = f"needs {needs}" if needs else f"{chosen.name} is asked first" if candidate is not chosen else None
        verdicts.append(Verdict(candidate.name, candidate is chosen, reason, workspace, candidate.summary))
    return verdicts


def _choose(backend: str, operation: str, problem: Any, name: str) -> Algorithm:
    candidates = algorithms_for(backend, operation)
    problem = computed(problem)
    if name == "auto":
        verdicts = []
        for candidate in candidates:
            reason = candidate.supports(problem) or candidate.suits(problem)
            if reason is None:
                return candidate
            verdicts.append(f"{candidate.name} needs {reason}")
        raise ValueError(f"no algorithm of {operation} can do this: {'; '.join(verdicts)}")
    for candidate in candidates:
        if candidate.name == name:
            reason = candidate.supports(problem)
            if reason is not None:
                raise ValueError(f"algorithm {name!r} of {operation} needs {reason}")
            return candidate
    known = ", ".join(repr(candidate.name) for candidate in candidates)
    raise ValueError(f"algorithm of {operation} must be 'auto' or one of {known}; received {name!r}")
