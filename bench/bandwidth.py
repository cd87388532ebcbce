"""Operations bound by memory against a copy of as many bytes, and against PyTorch.

A side of a pooling reads x and writes y (and the positions of maxima, where it is to be differentiated), or the other
way round. Batch normalisation reads x twice and writes y; its gradient reads x and dy twice and writes dx. A copy of
half as many bytes reads and writes as many, on as many threads. Both find their arrays where the turn before left them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from bench.measure import Side
from bench.peers import has
from pycnn_kernels.cpu.launch import Task, kernel
from pycnn_kernels.cpu.tile import lanes_of, tile_load, tile_shape, tile_store, tile_zeros
from pycnn_kernels.memory import address, aligned_empty
from pycnn_kernels.plan import plan_for
from pycnn_kernels.problem import ChannelsProblem, PoolProblem


class Pooling(NamedTuple):
    """A pooling layer over N images of C channels, square images and windows; ``target`` makes it adaptive."""

    name: str
    kind: Any
    N: int
    C: int
    size: int
    kernel: int = 2
    stride: int = 2
    padding: int = 0
    target: int = 0

    def problem(self, layout: Any = "channels_last") -> PoolProblem:
        sides = ((0, 0), (self.padding,) * 2, (self.padding,) * 2)
        target = (1, self.target, self.target) if self.target else None
        return PoolProblem(
            self.kind, "float32", layout, self.N, self.C, (1, self.size, self.size), (1, self.kernel, self.kernel),
            (1, self.stride, self.stride), sides, target=target,
        )  # fmt: skip


#: Of the documented networks, VGG16, ResNet50 and Inception V3.
POOLINGS = [
    Pooling("CIFAR-10 pool 1, 50 images", "max", 50, 32, 32),
    Pooling("CIFAR-10 pool 2, 50 images", "max", 50, 64, 16),
    Pooling("cats/dogs 64 pool 1, 32 images", "max", 32, 32, 62),
    Pooling("batch-norm 64 pool 1, 32 images", "max", 32, 32, 64),
    Pooling("LeNet-style pool, 50 images", "max", 50, 6, 28),
    Pooling("VGG16 pool 1", "max", 1, 64, 224),
    Pooling("VGG16 pool 3", "max", 1, 256, 56),
    Pooling("VGG16 pool 5", "max", 1, 512, 14),
    Pooling("ResNet50 pool, 3x3 stride 2", "max", 1, 64, 112, 3, 2, 1),
    Pooling("Inception pool, 3x3 stride 2", "max", 1, 192, 71, 3, 2),
    Pooling("Inception average, 3x3 stride 1", "average", 1, 192, 35, 3, 1, 1),
    Pooling("average 2x2, 50 images", "average", 50, 32, 32),
    Pooling("ResNet50 global average, 8 images", "average", 8, 2048, 7, target=1),
    Pooling("global maximum, 8 images", "max", 8, 512, 14, target=1),
]


def pooling_sides(layer: Pooling, layout: Any = "channels_last") -> dict[str, tuple[Side, int]]:
    """Forward with what the backward needs, forward alone, backward; each with the bytes that it moves."""
    p = layer.problem(layout)
    random = np.random.default_rng(0)
    x, dy = (random.standard_normal(shape, np.float32) for shape in (p.x_shape, p.y_shape))
    forward, backward = plan_for(f"{p.kind}_pool", p), plan_for(f"{p.kind}_pool_gradient", p)
    arrays = x.nbytes + dy.nbytes
    if p.kind == "average":
        return {
            "forward": (lambda: forward.run(x)[0], arrays),
            "inference": (lambda: forward.run(x)[0], arrays),
            "backward": (lambda: backward.run(dy)[0], arrays),
        }
    index = forward.run(x)[1]
    return {
        "forward": (lambda: forward.run(x)[0], arrays + index.nbytes),
        "inference": (lambda: forward.run(x, skip=("index",))[0], arrays),
        "backward": (lambda: backward.run(dy, index)[0], arrays + index.nbytes),
    }


def torch_pooling_sides(layer: Pooling, channels_last: bool) -> dict[str, Side] | None:
    """The same in PyTorch, in one of its two memory formats."""
    if not has("torch"):
        return None
    import torch
    from torch.nn import functional

    p = layer.problem("channels_first")
    random = np.random.default_rng(0)
    memory = torch.channels_last if channels_last else torch.contiguous_format
    last = layer.problem()
    x, dy = (
        torch.tensor(random.standard_normal(shape, np.float32).transpose(0, 3, 1, 2)).contiguous(memory_format=memory)
        for shape in (last.x_shape, last.y_shape)
    )
    pool: Any
    if layer.target:
        pool = functional.adaptive_avg_pool2d if p.kind == "average" else functional.adaptive_max_pool2d
        sizes: tuple[int, ...] = (layer.target,)
    else:
        pool = functional.avg_pool2d if p.kind == "average" else functional.max_pool2d
        sizes = (layer.kernel, layer.stride, layer.padding)

    def inference() -> Any:
        with torch.no_grad():
            return pool(x, *sizes)

    # The forward with its positions, the backward alone: its graph is kept.
    differentiated = x.clone(memory_format=torch.preserve_format).requires_grad_()
    y = pool(differentiated, *sizes)
    return {
        "forward": lambda: pool(differentiated, *sizes).detach(),
        "inference": inference,
        "backward": lambda: torch.autograd.grad(y, differentiated, dy, retain_graph=True)[0],
    }


class BatchNorm(NamedTuple):
    """A batch normalisation of N square images of C channels."""

    name: str
    N: int
    C: int
    size: int


#: Of the batch-normalised network of the documents, and of ResNet50 at a batch of 8.
BATCH_NORMS = [
    BatchNorm("batch-norm 64 images, 32 of them", 32, 3, 64),
    BatchNorm("batch-norm 64 norm 1, 32 images", 32, 32, 62),
    BatchNorm("batch-norm 64 norm 2, 32 images", 32, 64, 29),
    BatchNorm("batch-norm 64 norm 3, 32 images", 32, 128, 12),
    BatchNorm("ResNet50 1, 8 images", 8, 64, 112),
    BatchNorm("ResNet50 2 out, 8 images", 8, 256, 56),
    BatchNorm("ResNet50 3, 8 images", 8, 128, 28),
    BatchNorm("ResNet50 4 out, 8 images", 8, 1024, 14),
    BatchNorm("ResNet50 5, 8 images", 8, 512, 7),
    BatchNorm("ResNet50 5 out, 8 images", 8, 2048, 7),
]


def _batch_norm_arrays(layer: BatchNorm) -> tuple[np.ndarray, ...]:
    """x, dy, weight, bias, running mean and running variance."""
    random = np.random.default_rng(0)
    x, dy = (random.standard_normal((layer.N, layer.size, layer.size, layer.C), np.float32) for _ in range(2))
    weight, bias, mean = random.standard_normal((3, layer.C), np.float32)
    return x, dy, weight, bias, mean, random.random(layer.C, np.float32) + 1


def batch_norm_sides(layer: BatchNorm) -> dict[str, tuple[Side, int]]:
    """Training, inference and the gradient of training; each with the bytes that it moves."""
    x, dy, weight, bias, mean, variance = _batch_norm_arrays(layer)
    p = ChannelsProblem("float32", layer.N * layer.size**2, layer.C)
    flat, dflat, moved = x.reshape(p.shape), dy.reshape(p.shape), (mean.copy(), variance.copy())
    forward, inference, backward = (plan_for(f"batch_norm{kind}", p) for kind in ("", "_running", "_gradient"))
    _, of_x, rstd = forward.run(flat, weight, bias, updated=moved, scalars=(0, 1, 0.1, 1e-5))

    def run(plan: Any, *arrays: Any, **options: Any) -> Any:
        return plan.run(*arrays, **options)[0].reshape(x.shape)

    return {
        "forward": (
            lambda: run(forward, flat, weight, bias, updated=moved, scalars=(0, 1, 0.1, 1e-5)), 3 * x.nbytes,
        ),
        "inference": (lambda: run(inference, flat, mean, variance, weight, bias, scalars=(0, 1e-5)), 2 * x.nbytes),
        "backward": (
            lambda: run(backward, dflat, flat, None, weight, of_x, rstd, skip=("db",), scalars=(1, 0)), 5 * x.nbytes,
        ),
    }  # fmt: skip


def torch_batch_norm_sides(layer: BatchNorm, channels_last: bool) -> dict[str, Side] | None:
    """The same in PyTorch, in one of its two memory formats."""
    if not has("torch"):
        return None
    import torch
    from torch.nn.functional import batch_norm

    memory = torch.channels_last if channels_last else torch.contiguous_format
    x, dy, *others = (torch.from_numpy(array) for array in _batch_norm_arrays(layer))
    x, dy = (array.permute(0, 3, 1, 2).contiguous(memory_format=memory) for array in (x, dy))
    weight, bias, mean, variance = others
    moved = mean.clone(), variance.clone()
    leaves = [array.clone(memory_format=torch.preserve_format).requires_grad_() for array in (x, weight, bias)]
    y = batch_norm(leaves[0], None, None, *leaves[1:], True)

    def inference() -> Any:
        with torch.no_grad():
            return batch_norm(x, mean, variance, weight, bias)

    return {
        "forward": lambda: batch_norm(leaves[0], *moved, *leaves[1:], True).detach(),
        "inference": inference,
        "backward": lambda: torch.autograd.grad(y, leaves, dy, retain_graph=True)[0],
    }


#: Elements of a piece of a copy: 16 KB.
_PIECE = 4096


@kernel(x="array", y="array")
def copy_kernel(a, item, worker):
    """``y = x``, _PIECE elements a piece."""
    tile = tile_zeros(tile_shape(a.x, 1, 4))
    for i in range(item * _PIECE, (item + 1) * _PIECE, 4 * lanes_of(a.x)):
        tile_store(tile_load(tile, a.x, i, 0, None), a.y, i, 0, None)


def copy_of(size: int) -> tuple[Side, int]:
    """A copy that reads and writes about ``size`` bytes on all threads, and how many it does."""
    pieces = max(round(size / (2 * 4 * _PIECE)), 1)
    x, y = (aligned_empty((pieces * _PIECE,), "float32") for _ in range(2))
    x.fill(1)
    task = Task(copy_kernel, "float32", pieces, "x y")
    return lambda: task.run(address(x), address(y)), 2 * x.nbytes
