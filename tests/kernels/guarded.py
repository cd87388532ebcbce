"""Every array of an operation directly against memory that cannot be touched, on one side and then on the other.

Run as a program, because a touch of that memory ends the process::

    python -m tests.kernels.guarded conv        all operations of the problems below, or "pool" and so on
    python -m tests.kernels.guarded touch-after   touches the guard on purpose, as "touch-before" does

Linux and macOS.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import mmap
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from pycnn_kernels.cpu import conv_direct, elementwise, workspace
from pycnn_kernels.plan import Plan, plan_for
from pycnn_kernels.problem import ChannelsProblem, RowsProblem, UpdateProblem
from tests.kernels import problems

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
        kind = np.ctypeslib.as_ctypes_type(like.dtype)
        found = np.ctypeslib.as_array((kind * like.size).from_address(self.address)).reshape(like.shape)
        found[...] = like
        return found


def run_guarded(plan: Plan, arrays: dict[str, np.ndarray], at_end: bool, scalars: tuple[float, ...] = ()) -> None:
    """Run a plan with all its arrays, and all its workspace, against the guards, and compare with the plain run.

    ``plan.run`` allocates its outputs itself, so the prepared algorithm beneath it is given their addresses here.
    """
    names = [spec.name for spec in plan.inputs]
    updated = [spec.name for spec in plan.updated]
    keep: list[Guarded] = []

    def place(array: np.ndarray) -> np.ndarray:
        keep.append(Guarded(array.nbytes, at_end))
        return keep[-1].array(array)

    def scratch(size: int) -> int:
        keep.append(Guarded(size, at_end))
        return keep[-1].address

    given = [place(arrays[name]) for name in names + updated]
    outputs = [place(np.zeros(spec.shape, spec.dtype)) for spec in plan.outputs]
    with workspaces_from(scratch):
        plan._prepared.run(*(a.ctypes.data for a in given + outputs), *scalars)
    plain = [arrays[name].copy() for name in updated]
    expected = plan.run(*(arrays[name] for name in names), updated=tuple(plain), scalars=scalars)
    for found, other in zip(given[len(names) :] + outputs, [*plain, *expected]):
        np.testing.assert_array_equal(found, other)


@contextlib.contextmanager
def workspaces_from(scratch: Callable[[int], int]) -> Iterator[None]:
    """Inside this block the kernels' workspaces come from another function."""
    modules: tuple[Any, ...] = (conv_direct, elementwise)
    for module in modules:
        module.workspace = scratch
    try:
        yield
    finally:
        for module in modules:
            module.workspace = workspace.workspace


# Tails of vectors, odd images, padding on any side, steps, groups; both roads of the weight gradient.
CONVOLUTIONS = [
    {"C": 3, "K": 17, "size": (7, 5), "kernel": 3, "padding": 1, "bias": True, "activation": "relu"},
    {"C": 17, "K": 33, "size": (5, 9), "kernel": (3, 2), "stride": 2, "padding": ((0, 1), (2, 0)), "bias": True},
    {"C": 33, "K": 3, "size": (6, 7), "kernel": 2, "dilation": 2},
    {"C": 34, "K": 66, "size": 5, "kernel": 3, "G": 2, "stride": (1, 3), "padding": 1, "bias": True},
    {"C": 17, "K": 17, "size": (9, 4), "kernel": 3, "G": 17, "padding": ((1, 0), (0, 1))},
    {"C": 64, "K": 32, "size": 4, "kernel": 1, "N": 1},
    {"C": 1, "K": 1, "size": 1, "kernel": 1, "N": 1},
    {"C": 33, "K": 17, "size": (13, 11), "kernel": 5, "stride": 3, "padding": 2, "N": 3},
]
POOLS = [
    {"C": 17, "size": (7, 5), "kernel": 3, "stride": 2, "padding": 1},
    {"C": 1, "size": (9, 6), "kernel": (2, 3), "stride": 2, "ceil_mode": True},
    {"C": 33, "size": 5, "kernel": 2, "stride": 3, "padding": ((0, 1), (1, 0)), "ceil_mode": True},
]


def forms(*choices: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    return (dict(zip(("dtype", "layout", "weight_layout"), form)) for form in itertools.product(*choices))


def convolutions(at_end: bool) -> None:
    for convolution in CONVOLUTIONS:
        for form in forms(problems.DTYPES, problems.LAYOUTS, problems.WEIGHT_LAYOUTS):
            p = problems.conv_problem(**convolution, **form)
            arrays = problems.conv_arrays(p)
            run_guarded(plan_for("conv_forward", p._replace(bias=True)), arrays, at_end)
            linear = p._replace(bias=False, activation=None)
            run_guarded(plan_for("conv_input_gradient", linear), arrays, at_end)
            run_guarded(plan_for("conv_weight_gradient", linear), arrays, at_end)


def pools(at_end: bool) -> None:
    for pool in POOLS:
        for form in forms(problems.DTYPES, problems.LAYOUTS):
            p = problems.pool_problem(**pool, **form)
            arrays = {"x": problems.numbers(p.x_shape, p.dtype), "dy": problems.numbers(p.y_shape, p.dtype, 1)}
            arrays["index"] = plan_for("max_pool", p).run(arrays["x"])[1]
            for operation in ("max_pool", "max_pool_gradient", "average_pool", "average_pool_gradient"):
                run_guarded(plan_for(operation, p), arrays, at_end)


def rows(at_end: bool) -> None:
    for dtype, shape in itertools.product(problems.DTYPES, [(1, 1), (5, 17), (33, 10)]):
        p = RowsProblem(dtype, *shape)
        arrays = {"x": problems.numbers(shape, dtype), "labels": np.arange(shape[0], dtype=np.int64) % shape[1]}
        run_guarded(plan_for("softmax", p), arrays, at_end)
        run_guarded(plan_for("log_softmax", p), arrays, at_end)
        run_guarded(plan_for("cross_entropy", p), arrays, at_end, scalars=(-100, 0.1))


def updates(at_end: bool) -> None:
    for dtype, size in itertools.product(problems.DTYPES, [1, 17, 16385]):
        arrays = {name: np.abs(problems.numbers((size,), dtype, seed)) for seed, name in enumerate("wgmv")}
        p = UpdateProblem(dtype, size)
        run_guarded(plan_for("adam", p), arrays, at_end, scalars=(0.1, 0.9, 0.999, 1e-7))
        run_guarded(plan_for("sgd", p), arrays, at_end, scalars=(0.1, 0.9, 1))


def bias_and_relu(at_end: bool) -> None:
    for dtype, shape in itertools.product(problems.DTYPES, [(35, 17, 1), (2, 33, 15), (1, 1, 1)]):
        arrays = {"dy": problems.numbers(shape, dtype, 1), "y": problems.numbers(shape, dtype, 2)}
        run_guarded(plan_for("bias_activation_gradient", ChannelsProblem(dtype, *shape)), arrays, at_end)


def touch(offset: Callable[[Guarded], int]) -> None:
    memory = Guarded(PAGE, at_end=True)
    print("about to touch", flush=True)
    ctypes.c_char.from_address(memory.address + offset(memory)).value  # noqa: B018


OPERATIONS: dict[str, Callable[[bool], None]] = {
    "conv": convolutions,
    "pool": pools,
    "rows": rows,
    "updates": updates,
    "bias": bias_and_relu,
}


def main(what: str) -> None:
    if what == "touch-after":
        touch(lambda memory: PAGE)
    elif what == "touch-before":
        touch(lambda memory: -1)
    else:
        for at_end in (True, False):
            OPERATIONS[what](at_end)
    print("nothing outside was touched")


if __name__ == "__main__":
    main(sys.argv[1])
