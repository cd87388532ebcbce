"""Optimizer steps: one pass over a parameter, its gradient and its state, in place."""

from __future__ import annotations

import math

from pycnn_kernels.cpu.launch import Task, kernel
from pycnn_kernels.cpu.tile import scalar
from pycnn_kernels.problem import UpdateProblem

#: Elements of one piece of work.
PIECE = 16384


@kernel(
    w="array", g="array", m="array", v="array", size="int",
    rate="float", beta_1="float", beta_2="float", epsilon="float",
)  # fmt: skip
def adam_kernel(a, item, worker):
    """``m += (1 - beta_1) (g - m); v += (1 - beta_2) (g^2 - v); w -= rate * m / (sqrt(v) + epsilon)``.

    ``rate`` holds the bias correction: ``learning_rate * sqrt(1 - beta_2^t) / (1 - beta_1^t)``, the form before
    section 2.1 of Kingma and Ba, "Adam: A Method for Stochastic Optimization" (2015), which Keras uses.
    """
    w, g, m, v = a.w, a.g, a.m, a.v
    rate, epsilon = scalar(a.w, a.rate), scalar(a.w, a.epsilon)
    new_m, new_v = scalar(a.w, 1 - a.beta_1), scalar(a.w, 1 - a.beta_2)
    for i in range(item * PIECE, min((item + 1) * PIECE, a.size)):
        m[i] += new_m * (g[i] - m[i])
        v[i] += new_v * (g[i] * g[i] - v[i])
        w[i] -= rate * m[i] / (math.sqrt(v[i]) + epsilon)


@kernel(w="array", g="array", v="array", size="int", rate="float", momentum="float", nesterov="int")
def sgd_kernel(a, item, worker):
    """``v = momentum * v - rate * g``; ``w += v``, or with Nesterov ``w += momentum * v - rate * g``.

    Without momentum ``w -= rate * g``, and v is not read. Source: Keras, "SGD optimizer",
    https://keras.io/api/optimizers/sgd/
    """
    w, g, v = a.w, a.g, a.v
    rate, momentum = scalar(a.w, a.rate), scalar(a.w, a.momentum)
    first, last = item * PIECE, min((item + 1) * PIECE, a.size)
    if momentum == 0:
        for i in range(first, last):
            w[i] -= rate * g[i]
    elif a.nesterov:
        for i in range(first, last):
            v[i] = momentum * v[i] - rate * g[i]
            w[i] += momentum * v[i] - rate * g[i]
    else:
        for i in range(first, last):
            v[i] = momentum * v[i] - rate * g[i]
            w[i] += v[i]


class AdamStep:
    """One step of Adam; see :func:`adam_kernel`."""

    workspace_bytes = 0

    def __init__(self, p: UpdateProblem):
        given = "g w m v rate beta_1 beta_2 epsilon"
        self.run = Task(adam_kernel, p.dtype, -(-p.size // PIECE), given, size=p.size).run


class SgdStep:
    """One step of gradient descent with momentum; see :func:`sgd_kernel`."""

    workspace_bytes = 0

    def __init__(self, p: UpdateProblem):
        self._step = Task(sgd_kernel, p.dtype, -(-p.size // PIECE), "g w v nesterov rate momentum", size=p.size)

    def run(self, g: int, w: int, v: int, rate: float, momentum: float, nesterov: bool) -> None:
        self._step.run(g, w, v, nesterov, rate, momentum)
