"""Optimizer steps: one launch over all parameters, their gradients and their state, in place."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda

from pycnn_kernels.cuda.device import current_device
from pycnn_kernels.cuda.formula import Source
from pycnn_kernels.cuda.launch import THREADS, Task, counted, kernel
from pycnn_kernels.cuda.ptx import elements_at
from pycnn_kernels.formula import Term
from pycnn_kernels.problem import UpdatesProblem
from pycnn_kernels.updates import MOST_NUMBERS, MOST_STATES, RULES, missing_numbers, updated

#: Elements of one parameter that a block updates.
PIECE = 16 * THREADS

#: The fields of a kernel that have the numbers of a step.
NUMBERS = tuple(f"p{i}" for i in range(MOST_NUMBERS))


@kernel(
    addresses="addresses", count="int", last_kind="int", which="table", piece="table", sizes="table",
    **dict.fromkeys(NUMBERS, "float"),
)  # fmt: skip
def updates_kernel(dtype: Any, rule: str, elements: int) -> Any:
    """A step by a rule; block b updates the elements of piece ``piece[b]`` of parameter ``which[b]``.

    ``addresses`` has those of the g of ``count`` parameters, then of their w, and of each kind of state up to
    ``last_kind``; p0 to p6 are the numbers.
    """
    update_element = element_update(rule, dtype)

    def body(a):
        parameter = a.which[cuda.blockIdx.x]
        g, w = elements_at(a, a.addresses[parameter]), elements_at(a, a.addresses[a.count + parameter])
        # What a rule does not remember is not touched: any address serves.
        s0 = elements_at(a, a.addresses[min(2, a.last_kind) * a.count + parameter])
        s1 = elements_at(a, a.addresses[min(3, a.last_kind) * a.count + parameter])
        s2 = elements_at(a, a.addresses[min(4, a.last_kind) * a.count + parameter])
        begin = elements * a.piece[cuda.blockIdx.x]
        end = min(begin + elements, a.sizes[parameter])
        for i in range(begin + cuda.threadIdx.x, end, THREADS):
            update_element(g, w, s0, s1, s2, i, a.p0, a.p1, a.p2, a.p3, a.p4, a.p5, a.p6)

    return body


def element_update(rule: str, dtype: Any) -> Any:
    """A device function of g, w, three arrays of state, an index and the numbers: updates the element, by a rule."""
    source = Source(dtype)
    arrays = ["g", "w", *(f"s{i}" for i in range(MOST_STATES))]
    held = arrays[: 2 + len(RULES[rule].state)]
    g, w, *state = [source.line(f"{name}[i]") for name in held]
    results = updated(rule, g, w, state, [Term(source, name) for name in NUMBERS])
    stores = [f"{name}[i] = {source.number(term).code}" for name, term in zip(held[1:], results, strict=True)]
    return source.function([*arrays, "i", *NUMBERS], stores)


def divided(sizes: list[int], elements: int) -> tuple[np.ndarray, np.ndarray]:
    """Which parameter, and which of its pieces of so many elements, each block has.

    >>> divided([5, 0, 9], 4)
    (array([0, 0, 2, 2, 2], dtype=int32), array([0, 1, 0, 1, 2], dtype=int32))
    """
    pieces = [(which, piece) for which, size in enumerate(sizes) for piece in range(-(-size // elements))]
    table = np.array(pieces, np.int32).reshape(-1, 2)
    return table[:, 0].copy(), table[:, 1].copy()


class Updates:
    """A step over all parameters; see :func:`updates_kernel`."""

    workspace_bytes = 0

    def __init__(self, p: UpdatesProblem, piece: int = PIECE):
        kinds = 2 + len(RULES[p.rule].state)
        self._sizes = [math.prod(shape) for shape in p.shapes]
        self._arrays = kinds * len(self._sizes)
        self._bytes = np.tile(np.array(self._sizes, np.int64) * np.dtype(p.dtype).itemsize, kinds)
        self._missing = missing_numbers(p.rule)
        variant = updates_kernel.variant(p.dtype, rule=p.rule, elements=piece)

        def task(which: np.ndarray, pieces: np.ndarray) -> Task:
            tables = {"which": which, "piece": pieces, "sizes": np.array(self._sizes, np.int32)}
            given = " ".join(("addresses", *NUMBERS))
            return Task(variant, len(which), given, count=len(self._sizes), last_kind=kinds - 1, **tables)

        self._which, self._pieces = divided(self._sizes, piece)
        self._task = task
        self._together = task(self._which, self._pieces)
        self._one_by_one: list[Task] | None = None
        self._sent: tuple[Any, ...] | None = None

    def run(self, *arguments: float) -> None:
        """The addresses of all g, all w and all arrays of state, kind by kind; the decay, and the rule's numbers."""
        device, arrays = current_device(), arguments[: self._arrays]
        where = (arrays, device.stream())
        sent = self._sent
        if sent is None or sent[:2] != where:  # most steps have the arrays of the one before
            values = np.array(arrays, np.uint64)
            # Another thread may put its own in this place: what this one sent, it keeps until it has launched.
            sent = self._sent = (*where, device.sent(values), values)
        table = device.address(sent[2])
        for task in self._in_turn() if self._overlap(arrays) else (self._together,):
            task.run(table, *arguments[self._arrays :], *self._missing)

    def _in_turn(self) -> list[Task]:
        """A launch for each parameter."""
        if self._one_by_one is None:
            mine = [self._which == number for number in range(len(self._sizes))]
            self._one_by_one = [self._task(self._which[chosen], self._pieces[chosen]) for chosen in mine]
        return self._one_by_one

    def _overlap(self, arrays: tuple[float, ...]) -> bool:
        """Whether arrays share memory, as those of two views can: blocks would change it in any order."""
        begins = np.array(arrays, np.int64)
        order = np.argsort(begins, kind="stable")
        ends = (begins + self._bytes)[order]
        return bool((begins[order][1:] < ends[:-1]).any())


def updates_supported(p: UpdatesProblem) -> str | None:
    return counted(max(map(math.prod, p.shapes), default=0), "parameters")
