"""Optimizer steps: one launch over all parameters, their gradients and their state, in place."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda

from pycnn_kernels.cuda.device import current_device
from pycnn_kernels.cuda.launch import THREADS, Task, counted, kernel
from pycnn_kernels.cuda.ptx import elements_at
from pycnn_kernels.problem import UpdatesProblem

#: Elements of one parameter that a block updates.
PIECE = 16 * THREADS


@kernel(
    addresses="addresses", count="int", which="table", piece="table", sizes="table", nesterov="int", rate="float",
    beta_1="float", beta_2="float", epsilon="float", momentum="float",
)  # fmt: skip
def step_kernel(dtype: Any, rule: str, elements: int) -> Any:
    """A step by a rule; block b updates the elements of piece ``piece[b]`` of parameter ``which[b]``.

    "adam": ``m += (1 - beta_1) (g - m); v += (1 - beta_2) (g^2 - v); w -= rate * m / (sqrt(v) + epsilon)``, ``rate``
    with the bias correction, as on the CPU. "sgd": ``w -= rate * g``. "momentum": ``v = momentum * v - rate * g``;
    ``w += v``, or with Nesterov ``w += momentum * v - rate * g``.

    ``addresses`` has those of the g of ``count`` parameters, then of their w, and of each kind of state.
    """
    one = dtype(1)

    def body(a):
        parameter = a.which[cuda.blockIdx.x]
        g, w = elements_at(a, a.addresses[parameter]), elements_at(a, a.addresses[a.count + parameter])
        begin = elements * a.piece[cuda.blockIdx.x]
        end = min(begin + elements, a.sizes[parameter])
        if rule == "adam":
            m = elements_at(a, a.addresses[2 * a.count + parameter])
            v = elements_at(a, a.addresses[3 * a.count + parameter])
            new_m, new_v = one - a.beta_1, one - a.beta_2
            for i in range(begin + cuda.threadIdx.x, end, THREADS):
                mean = m[i] + new_m * (g[i] - m[i])
                square = v[i] + new_v * (g[i] * g[i] - v[i])
                m[i], v[i] = mean, square
                w[i] -= a.rate * mean / (math.sqrt(square) + a.epsilon)
        elif rule == "sgd":
            for i in range(begin + cuda.threadIdx.x, end, THREADS):
                w[i] -= a.rate * g[i]
        else:
            v = elements_at(a, a.addresses[2 * a.count + parameter])
            for i in range(begin + cuda.threadIdx.x, end, THREADS):
                step = a.rate * g[i]
                speed = a.momentum * v[i] - step
                v[i] = speed
                w[i] += a.momentum * speed - step if a.nesterov else speed

    return body


def divided(sizes: list[int], elements: int) -> tuple[np.ndarray, np.ndarray]:
    """Which parameter, and which of its pieces of so many elements, each block has.

    >>> divided([5, 0, 9], 4)
    (array([0, 0, 2, 2, 2], dtype=int32), array([0, 1, 0, 1, 2], dtype=int32))
    """
    pieces = [(which, piece) for which, size in enumerate(sizes) for piece in range(-(-size // elements))]
    table = np.array(pieces, np.int32).reshape(-1, 2)
    return table[:, 0].copy(), table[:, 1].copy()


class _Step:
    """A step over all parameters; ``kinds`` arrays belong to each."""

    workspace_bytes = 0

    def __init__(self, rule: str, p: UpdatesProblem, kinds: int, scalars: str, piece: int = PIECE):
        self._sizes = [math.prod(shape) for shape in p.shapes]
        self._arrays = kinds * len(self._sizes)
        self._bytes = np.tile(np.array(self._sizes, np.int64) * np.dtype(p.dtype).itemsize, kinds)
        variant = step_kernel.variant(p.dtype, rule=rule, elements=piece)

        def task(which: np.ndarray, pieces: np.ndarray) -> Task:
            tables = {"which": which, "piece": pieces, "sizes": np.array(self._sizes, np.int32)}
            return Task(variant, len(which), f"addresses {scalars}", count=len(self._sizes), **tables)

        self._which, self._pieces = divided(self._sizes, piece)
        self._task = task
        self._together = task(self._which, self._pieces)
        self._one_by_one: list[Task] | None = None
        self._sent: tuple[Any, ...] | None = None

    def run(self, *arguments: float) -> None:
        """The addresses of all g, all w and all arrays of state, kind by kind, and then numbers."""
        device, arrays = current_device(), arguments[: self._arrays]
        where = (arrays, device.stream())
        sent = self._sent
        if sent is None or sent[:2] != where:  # most steps have the arrays of the one before
            values = np.array(arrays, np.uint64)
            # Another thread may put its own in this place: what this one sent, it keeps until it has launched.
            sent = self._sent = (*where, device.sent(values), values)
        table = device.address(sent[2])
        for task in self._in_turn() if self._overlap(arrays) else (self._together,):
            task.run(table, *arguments[self._arrays :])

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


class AdamStep(_Step):
    """One step of Adam; see :func:`step_kernel`."""

    def __init__(self, p: UpdatesProblem):
        super().__init__("adam", p, 4, "rate beta_1 beta_2 epsilon")


class SgdStep(_Step):
    """One step of gradient descent; see :func:`step_kernel`."""

    def __init__(self, p: UpdatesProblem):
        super().__init__("sgd", p, 2, "rate")


class MomentumStep(_Step):
    """One step of gradient descent with momentum; see :func:`step_kernel`."""

    def __init__(self, p: UpdatesProblem):
        super().__init__("momentum", p, 3, "nesterov rate momentum")
