"""Small calls, whose time is not that of computing: ``pycnn.functional`` on NumPy's arrays, PyTorch on its tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import pycnn.functional as F
from bench.measure import Side
from bench.peers import has


def _arrays(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    return [np.random.default_rng(sum(shape)).random(shape, dtype=np.float32) for shape in shapes]


#: What is called of a functional module, and the arrays that it is called with.
CALLS: dict[str, tuple[Callable[..., Any], list[np.ndarray]]] = {
    "conv2d": (lambda f, x, w: f.conv2d(x, w), _arrays((1, 3, 4, 4), (8, 3, 3, 3))),
    "conv2d with bias, stride and padding": (
        lambda f, x, w, b: f.conv2d(x, w, b, 2, 1), _arrays((1, 3, 4, 4), (8, 3, 3, 3), (8,)),
    ),
    "max_pool2d": (lambda f, x: f.max_pool2d(x, 2), _arrays((1, 3, 4, 4))),
    "linear": (lambda f, x, w: f.linear(x, w), _arrays((1, 8), (4, 8))),
    "relu": (lambda f, x: f.relu(x), _arrays((1, 3, 4, 4))),
    "softmax": (lambda f, x: f.softmax(x, 1), _arrays((1, 10))),
    "layer_norm": (lambda f, x: f.layer_norm(x, (8,)), _arrays((2, 8))),
}  # fmt: skip


def call_sides(name: str, repeated: int = 100) -> dict[str, Side]:
    """The call of each library, so many times in a row: a clock of its own would take as long as a call."""
    call, arrays = CALLS[name]
    sides: dict[str, Side] = {"pycnn": _repeat(lambda: call(F, *arrays), repeated)}
    if has("torch"):
        import torch

        tensors = [torch.from_numpy(array) for array in arrays]
        sides["torch"] = _repeat(torch.no_grad()(lambda: call(torch.nn.functional, *tensors)), repeated)
    return sides


def _repeat(call: Callable[[], object], times: int) -> Side:
    def side() -> None:
        for _ in range(times):
            call()

    return side
