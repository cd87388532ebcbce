"""Optimizer steps: one pass over all parameters, their gradients and their state, in place."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from pycnn_kernels.cpu.launch import Kernel, Task, kernel
from pycnn_kernels.cpu.tile import elements_at, scalar
from pycnn_kernels.memory import address
from pycnn_kernels.problem import UpdatesProblem

#: Elements of one piece of work.
PIECE = 16384


@kernel(
    arrays="table", count="int", pieces="table", spans="table",
    rate="float", beta_1="float", beta_2="float", epsilon="float",
)  # fmt: skip
def adam_kernel(a, item, worker):
    """``m += (1 - beta_1) (g - m); v += (1 - beta_2) (g^2 - v); w -= rate * m / (sqrt(v) + epsilon)``.

    ``rate`` holds the bias correction: ``learning_rate * sqrt(1 - beta_2^t) / (1 - beta_1^t)``, the form before
    section 2.1 of Kingma and Ba, "Adam: A Method for Stochastic Optimization" (2015), which Keras uses.

    ``arrays`` has the addresses of the g of ``count`` parameters, then those of their w, m and v; for ``pieces`` and
    ``spans`` see :func:`divided`.
    """
    for span in range(a.pieces[item], a.pieces[item + 1]):
        which, first, last = a.spans[3 * span], a.spans[3 * span + 1], a.spans[3 * span + 2]
        g = elements_at(a, a.arrays[which])
        w = elements_at(a, a.arrays[a.count + which])
        m = elements_at(a, a.arrays[2 * a.count + which])
        v = elements_at(a, a.arrays[3 * a.count + which])
        rate, epsilon = scalar(w, a.rate), scalar(w, a.epsilon)
        new_m, new_v = scalar(w, 1 - a.beta_1), scalar(w, 1 - a.beta_2)
        for i in range(first, last):
            m[i] += new_m * (g[i] - m[i])
            v[i] += new_v * (g[i] * g[i] - v[i])
            w[i] -= rate * m[i] / (math.sqrt(v[i]) + epsilon)


@kernel(arrays="table", count="int", pieces="table", spans="table", rate="float")
def sgd_kernel(a, item, worker):
    """``w -= rate * g``; ``arrays`` has the addresses of all g, then of all w."""
    for span in range(a.pieces[item], a.pieces[item + 1]):
        which, first, last = a.spans[3 * span], a.spans[3 * span + 1], a.spans[3 * span + 2]
        g = elements_at(a, a.arrays[which])
        w = elements_at(a, a.arrays[a.count + which])
        rate = scalar(w, a.rate)
        for i in range(first, last):
            w[i] -= rate * g[i]


@kernel(
    arrays="table", count="int", pieces="table", spans="table", nesterov="int", rate="float", momentum="float",
)  # fmt: skip
def momentum_kernel(a, item, worker):
    """``v = momentum * v - rate * g``; ``w += v``, or with Nesterov ``w += momentum * v - rate * g``.

    ``arrays`` has the addresses of all g, then of all w and v. Source: Keras, "SGD optimizer",
    https://keras.io/api/optimizers/sgd/
    """
    for span in range(a.pieces[item], a.pieces[item + 1]):
        which, first, last = a.spans[3 * span], a.spans[3 * span + 1], a.spans[3 * span + 2]
        g = elements_at(a, a.arrays[which])
        w = elements_at(a, a.arrays[a.count + which])
        v = elements_at(a, a.arrays[2 * a.count + which])
        rate, momentum = scalar(w, a.rate), scalar(w, a.momentum)
        if a.nesterov:
            for i in range(first, last):
                v[i] = momentum * v[i] - rate * g[i]
                w[i] += momentum * v[i] - rate * g[i]
        else:
            for i in range(first, last):
                v[i] = momentum * v[i] - rate * g[i]
                w[i] += v[i]


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


class _Step:
    """A step over all parameters; ``kinds`` arrays belong to each."""

    workspace_bytes = 0

    def __init__(self, kernel: Kernel, p: UpdatesProblem, kinds: int, scalars: str):
        sizes = [math.prod(shape) for shape in p.shapes]
        pieces, spans = divided(sizes)
        self._many = len(pieces) > 2
        self._arrays = kinds * len(sizes)
        self._bytes = np.tile(np.array(sizes, np.int64) * np.dtype(p.dtype).itemsize, kinds)

        def task(parallel: bool) -> Task:
            fields = {"count": len(sizes), "pieces": pieces, "spans": spans}
            return Task(kernel, p.dtype, len(pieces) - 1, f"arrays {scalars}", parallel=parallel, **fields)

        self._shared_out, self._in_order = task(True), task(False)

    def run(self, *arguments: float) -> None:
        """The addresses of all g, all w and all arrays of state, kind by kind, and then numbers."""
        arrays = np.array(arguments[: self._arrays], np.int64)
        task = self._in_order if self._many and self._overlap(arrays) else self._shared_out
        task.run(address(arrays), *arguments[self._arrays :])

    def _overlap(self, arrays: np.ndarray) -> bool:
        """Whether arrays share memory, as those of two views can: threads would change it in any order."""
        begins, ends = np.sort(arrays), np.sort(arrays + self._bytes)
        return bool((begins[1:] < ends[:-1]).any())


class AdamStep(_Step):
    """One step of Adam; see :func:`adam_kernel`."""

    def __init__(self, p: UpdatesProblem):
        super().__init__(adam_kernel, p, 4, "rate beta_1 beta_2 epsilon")


class SgdStep(_Step):
    """One step of gradient descent; see :func:`sgd_kernel`."""

    def __init__(self, p: UpdatesProblem):
        super().__init__(sgd_kernel, p, 2, "rate")


class MomentumStep(_Step):
    """One step of gradient descent with momentum; see :func:`momentum_kernel`."""

    def __init__(self, p: UpdatesProblem):
        super().__init__(momentum_kernel, p, 3, "nesterov rate momentum")
