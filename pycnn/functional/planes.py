"""Elements of planes by their positions, differentiable: what unpooling and the gradients of pooling read and write."""

from __future__ import annotations

import math

import numpy as np

from pycnn.autograd import Function
from pycnn.backend import plan_on
from pycnn.tensor import Tensor
from pycnn_kernels.problem import DTYPE_NAMES, Layout, PlanesProblem

Grads = tuple[Tensor | None, ...]


def run_on_planes(
    operation: str, x: np.ndarray, index: np.ndarray, layout: Layout, shape: tuple[int, ...]
) -> np.ndarray:
    """An operation on planes, x (N, C, ...) or (N, ..., C), whose result has such a shape, too."""
    N, C = shape[0], shape[-1] if layout == "channels_last" else shape[1]
    planes = max(N * C, 1)
    read, positions, written = x.size // planes, index.size // planes, math.prod(shape) // planes
    problem = PlanesProblem(DTYPE_NAMES[x.dtype], layout, N, C, read, written)
    (y,) = plan_on(x, operation, problem).run(_shaped(x, problem.shape(read)), _shaped(index, problem.shape(positions)))
    return _shaped(y, shape)


def _shaped(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """An array in a shape; itself where it has it, for a view takes longer to make than to ask."""
    return array if array.shape == shape else array.reshape(shape)


class Put(Function):
    """Elements to their positions in planes, zero elsewhere; where several meet, the last of them, or their sum."""

    reads = ()
    uses_numpy = False

    def forward(
        self, x: np.ndarray, *, index: np.ndarray, layout: Layout, shape: tuple[int, ...], adds: bool
    ) -> np.ndarray:
        self.index, self.layout = index, layout
        return run_on_planes("put_sums" if adds else "put", x, index, layout, shape)

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        return (Pick.apply(dy, index=self.index, layout=self.layout),)


class Pick(Function):
    """The elements at positions in planes, 0 where a position is -1."""

    reads = ()
    uses_numpy = False

    def forward(self, x: np.ndarray, *, index: np.ndarray, layout: Layout) -> np.ndarray:
        self.index, self.layout, self.shape = index, layout, x.shape
        return run_on_planes("pick", x, index, layout, index.shape)

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        return (Put.apply(dy, index=self.index, layout=self.layout, shape=self.shape, adds=True),)
