"""Optimizer steps: one pass over all parameters, their gradients and their state, in place."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numba.core import types
from numba.extending import intrinsic

from pycnn_kernels.cpu.formula import Instructions
from pycnn_kernels.cpu.launch import Task, literal_kernel
from pycnn_kernels.cpu.named import NameType
from pycnn_kernels.cpu.tile import elements_at, scalar
from pycnn_kernels.formula import Term
from pycnn_kernels.memory import address
from pycnn_kernels.problem import UpdatesProblem
from pycnn_kernels.updates import MOST_NUMBERS, RULES, missing_numbers, updated

#: Elements of one piece of work.
PIECE = 16384

#: The fields of a kernel that have the numbers of a step.
NUMBERS = tuple(f"p{i}" for i in range(MOST_NUMBERS))


@intrinsic
def update_element(typing_context, rule, arrays, i, numbers):
    """Element i of a parameter and of its state by a rule, named by a ``NameType``; ``arrays`` is a tuple of pointers.

    They are g, w and the state, in the rule's order; those that it does not have are left alone.
    """

    def generate(context, builder, signature, arguments):
        _, pointers, index, values = arguments
        target = Instructions(builder, context.get_value_type(numbers.dtype))
        count = 2 + len(RULES[rule.text].state)
        places = [builder.gep(builder.extract_value(pointers, k), [index]) for k in range(count)]
        g, w, *state = [Term(target, builder.load(place)) for place in places]
        terms = [Term(target, builder.extract_value(values, k)) for k in range(MOST_NUMBERS)]
        for place, term in zip(places[1:], updated(rule.text, g, w, state, terms), strict=True):
            builder.store(target.number(term).code, place)
        return context.get_dummy_value()

    return types.void(rule, arrays, i, numbers), generate


@literal_kernel(
    arrays="table", count="int", last_kind="int", pieces="table", spans="table", rule="type",
    **dict.fromkeys(NUMBERS, "float"),
)  # fmt: skip
def updates_kernel(a, item, worker):
    """A step by a rule, with the numbers p0 to p6.

    ``arrays`` has the addresses of the g of ``count`` parameters, then those of their w, and of each kind of state up
    to ``last_kind``; for ``pieces`` and ``spans`` see :func:`divided`.
    """
    for span in range(a.pieces[item], a.pieces[item + 1]):
        which, first, last = a.spans[3 * span], a.spans[3 * span + 1], a.spans[3 * span + 2]
        g = elements_at(a, a.arrays[which])
        w = elements_at(a, a.arrays[a.count + which])
        # What a rule does not remember is not touched: any address serves.
        s0 = elements_at(a, a.arrays[min(2, a.last_kind) * a.count + which])
        s1 = elements_at(a, a.arrays[min(3, a.last_kind) * a.count + which])
        s2 = elements_at(a, a.arrays[min(4, a.last_kind) * a.count + which])
        p0, p1, p2, p3 = scalar(w, a.p0), scalar(w, a.p1), scalar(w, a.p2), scalar(w, a.p3)
        p4, p5, p6 = scalar(w, a.p4), scalar(w, a.p5), scalar(w, a.p6)
        for i in range(first, last):
            update_element(a.rule, (g, w, s0, s1, s2), i, (p0, p1, p2, p3, p4, p5, p6))


for _rule in ("adam", "sgd"):
    updates_kernel.usually(rule=NameType(_rule))


def divided(sizes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Parameters of these sizes in pieces of at most :data:`PIECE` elements, small ones together.

    Returns:
        Where the spans of each piece begin, and behind the last piece their number; and the spans in the order of the
        parameters, three numbers each: which parameter, its first element, and the one behind its last.

    >>> divided([5, 0, 20000])
    (array([0, 1, 2, 3]), array([    0,     0,     5,     2,     0, 16384,     2, 16384, 20000]))
    """
    pieces: list[int] = []
    spans: list[tuple[int, int, int]] = []
    room = 0
    for which, size in enumerate(sizes):
        for first in range(0, size, PIECE):  # so that no vector crosses a cache line
            last = min(first + PIECE, size)
            if last - first > room:
                pieces.append(len(spans))
                room = PIECE
            spans.append((which, first, last))
            room -= last - first
    return np.array([*pieces, len(spans)], np.int64), np.array(spans, np.int64).reshape(-1)


class Updates:
    """A step over all parameters; see :func:`updates_kernel`."""

    workspace_bytes = 0

    def __init__(self, p: UpdatesProblem):
        sizes = [math.prod(shape) for shape in p.shapes]
        pieces, spans = divided(sizes)
        kinds = 2 + len(RULES[p.rule].state)
        self._many = len(pieces) > 2
        self._arrays = kinds * len(sizes)
        self._bytes = np.tile(np.array(sizes, np.int64) * np.dtype(p.dtype).itemsize, kinds)
        self._missing = missing_numbers(p.rule)
        kernel = updates_kernel.compiled_for(rule=NameType(p.rule))

        def task(parallel: bool) -> Task:
            fields = {"count": len(sizes), "last_kind": kinds - 1, "pieces": pieces, "spans": spans}
            given = " ".join(("arrays", *NUMBERS))
            return Task(kernel, p.dtype, len(pieces) - 1, given, parallel=parallel, **fields)

        self._shared_out, self._in_order = task(True), task(False)

    def run(self, *arguments: float) -> None:
        """The addresses of all g, all w and all arrays of state, kind by kind; the decay, and the rule's numbers."""
        arrays = np.array(arguments[: self._arrays], np.int64)
        task = self._in_order if self._many and self._overlap(arrays) else self._shared_out
        task.run(address(arrays), *arguments[self._arrays :], *self._missing)

    def _overlap(self, arrays: np.ndarray) -> bool:
        """Whether arrays share memory, as those of two views can: threads would change it in any order."""
        begins, ends = np.sort(arrays), np.sort(arrays + self._bytes)
        return bool((begins[1:] < ends[:-1]).any())
