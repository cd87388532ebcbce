"""The frame around a convolution's kernels: arrays in any layout, kernels in channels last.

An algorithm is written for x and y in channels last and for weights with a matrix (source channels, target
channels) for each tap. The frame brings arrays of other layouts there and back, through the workspace. An algorithm
gives it a *core*, made by ``core(problem, forward, scratch)`` and run by ``core.run(base, src, w, bias, dst)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

from pycnn_kernels.cpu.elementwise import sum_parts
from pycnn_kernels.cpu.epilogue import NO_EPILOGUE, Epilogue
from pycnn_kernels.cpu.host import item_bytes
from pycnn_kernels.cpu.launch import Task
from pycnn_kernels.cpu.layout import padding, to_channels_first, to_channels_last, transposition
from pycnn_kernels.cpu.workspace import aligned_bytes, workspace
from pycnn_kernels.problem import ConvProblem


class Scratch:
    """Divides one workspace into named pieces."""

    def __init__(self, dtype: str):
        self.dtype, self.size = dtype, 0

    def reserve(self, elements: int) -> int:
        """The offset of room for ``elements``."""
        offset = self.size
        self.size += aligned_bytes(elements, self.dtype)
        return offset

    def reserve_bytes(self, size: int) -> int:
        """The offset of room for so many bytes."""
        return self.reserve(-(-size // item_bytes(self.dtype)))


def split(units: int, chunk: int, pieces: int) -> tuple[int, int]:
    """Divide ``units`` of a sum into splits of whole chunks: units of a split, and how many splits.

    About ``pieces`` of them, at least one; they depend on the problem alone, so that sums have the same bits for any
    number of threads.
    """
    chunks = -(-units // chunk)
    wanted = max(1, min(chunks, pieces))
    size = max(-(-chunks // wanted), 1) * chunk
    return size, max(1, -(-units // size))


class Parts:
    """Partial sums of an array of ``size`` elements, one from each split; a single one is the array itself."""

    def __init__(self, splits: int, size: int, scratch: Scratch):
        self._many = splits > 1
        if self._many:
            self._at = scratch.reserve(splits * size)
            self._total = sum_parts(scratch.dtype, splits, size)

    def place(self, base: int, result: int) -> int:
        """Where the splits write."""
        return base + self._at if self._many else result

    def add(self, base: int, result: int) -> None:
        """Bring the total to ``result``."""
        if self._many:
            self._total.run(base + self._at, result)


def unpadded(p: ConvProblem) -> ConvProblem:
    """The problem whose x has the padding in it."""
    d, h, w = (size + before + after for size, (before, after) in zip(p.size, p.padding))
    return p._replace(size=(d, h, w), padding=((0, 0), (0, 0), (0, 0)), padding_mode="zeros")


class PaddedInput:
    """A padded copy of x, in channels last, where the problem has padding; ``problem`` is the one without it."""

    def __init__(self, p: ConvProblem, scratch: Scratch):
        self.problem = unpadded(p)
        self._copies = any(map(any, p.padding))
        if self._copies:
            self._at = scratch.reserve(p.N * p.C * math.prod(self.problem.size))
            self._pad = padding(p, self.problem.size)

    def run(self, base: int, x: int) -> int:
        """The address of the padded x."""
        if not self._copies:
            return x
        self._pad.run(x, base + self._at)
        return base + self._at


#: Tasks, and the core among them, one after the other, each with the values that it is run with.
Steps = list[tuple[Any, tuple[Any, ...]]]


class ChannelsLast:
    """An array of images that is read: as it lies in channels last, channels first as a copy in the workspace."""

    def __init__(self, layout: str, N: int, C: int, pixels: int, scratch: Scratch):
        self._turns = layout == "channels_first"
        if self._turns:
            self._at = scratch.reserve(N * C * pixels)
            self._turn = to_channels_last(scratch.dtype, N, C, pixels)

    def run(self, base: int, array: int) -> int:
        """The address in channels last."""
        steps: Steps = []
        there = self.place(base, array, steps)
        for task, values in steps:
            task.run(*values)
        return there

    def place(self, base: int, array: int, steps: Steps) -> int:
        """The address in channels last; adds what brings it there to the steps."""
        if not self._turns:
            return array
        steps.append((self._turn, (array, base + self._at)))
        return base + self._at


class WeightsResult:
    """dw, which kernels write as (T, R, K); "OIHW" is turned at the end."""

    def __init__(self, p: ConvProblem, scratch: Scratch):
        R, T = p.C // p.G, math.prod(p.kernel)
        self._turns = p.weight_layout == "OIHW"
        if self._turns:
            self._at = scratch.reserve(T * R * p.K)
            self._turn = transposition(p.dtype, (R, T, p.K), (p.K, R * p.K), (T, R * T))

    def place(self, base: int, dw: int) -> int:
        """Where the kernels write."""
        return base + self._at if self._turns else dw

    def finish(self, base: int, dw: int) -> None:
        """Bring the result to ``dw``."""
        if self._turns:
            self._turn.run(base + self._at, dw)


class OneTask:
    """A convolution that is a single task, after what all its bands share: see ``chain.py``.

    Attributes:
        task: what each band runs.
        worker_bytes: memory of each worker, at the task's field "scratch" if there is any.
        shared_bytes: memory that it shares with other bands of the same convolution; some may need less than others.
    """

    task: Task
    worker_bytes = shared_bytes = 0

    def begin(self, base: int, shared: int, w: int) -> None:
        """Bring into the shared memory what all bands read; ``base`` is the memory of all workers."""

    def arguments(
        self, base: Any, shared: int, src: Any, w: int, epilogue: tuple[Any, ...], dst: int
    ) -> tuple[Any, ...]:
        """What the task is run with, or a chain of it with arrays of numbers; ``base`` is the memory of all workers."""
        raise NotImplementedError


class Core(Protocol):
    """The part of an algorithm that computes, in channels last.

    ``base`` is the workspace; src, w, dst and the arrays of the epilogue are addresses. The weights of the forward are
    (T, R, K); those of the input gradient are (T, K, R) with the taps in reverse, so that both are a correlation of src
    with w; or those of the forward, for a core that turns them itself.
    """

    def run(self, base: int, src: int, w: int, epilogue: Epilogue, dst: int) -> None: ...


MakeCore = Callable[[ConvProblem, bool, Scratch], Core]


class Forward:
    """``y = activation(scale * (x * w) + b + residual)`` in any layout. A subclass says which core."""

    make_core: MakeCore

    def __init__(self, p: ConvProblem):
        pixels, out_pixels = math.prod(p.size), math.prod(p.output)
        R, T = p.C // p.G, math.prod(p.kernel)
        scratch = Scratch(p.dtype)
        self._channels_first, self._filters_first = p.layout == "channels_first", p.weight_layout == "OIHW"
        self._x = ChannelsLast(p.layout, p.N, p.C, pixels, scratch)
        self._residual = ChannelsLast(p.layout, p.N, p.K, out_pixels, scratch) if p.residual else None
        if self._channels_first:
            self._y_at = scratch.reserve(p.N * p.K * out_pixels)
            self._write = to_channels_first(p.dtype, p.N, p.K, out_pixels)
        if self._filters_first:
            self._w_at = scratch.reserve(math.prod(p.w_shape))
            self._turn_weights = transposition(p.dtype, (R, p.K, T), (T, R * T), (p.K, R * p.K))
        self.core = type(self).make_core(p, True, scratch)
        self.workspace_bytes = scratch.size

    def run(self, x: int, w: int, b: int, scale: int, residual: int, y: int) -> None:
        for step, values in self.steps(workspace(self.workspace_bytes), x, w, b, scale, residual, y):
            step.run(*values)

    def steps(self, base: int, x: int, w: int, b: int, scale: int, residual: int, y: int) -> Steps:
        """What a run consists of: tasks, and the core, each with the values that it is run with."""
        steps: Steps = []
        if self._filters_first:
            steps.append((self._turn_weights, (w, base + self._w_at)))
            w = base + self._w_at
        x = self._x.place(base, x, steps)
        if self._residual:
            residual = self._residual.place(base, residual, steps)
        to = base + self._y_at if self._channels_first else y
        steps.append((self.core, (base, x, w, (b, scale, residual), to)))
        if self._channels_first:
            steps.append((self._write, (to, y)))
        return steps


class InputGradient:
    """``dx`` from ``dy`` and ``w`` in any layout; weights are transposed and reversed in the workspace."""

    make_core: MakeCore
    #: False where the core takes HWIO weights as they are.
    turns_weights = True

    def __init__(self, p: ConvProblem):
        pixels, out_pixels = math.prod(p.size), math.prod(p.output)
        R, K, T = p.C // p.G, p.K, math.prod(p.kernel)
        scratch = Scratch(p.dtype)
        self._turns_weights = self.turns_weights or p.weight_layout == "OIHW"
        self._w_at = scratch.reserve(math.prod(p.w_shape)) if self._turns_weights else 0
        self._last_tap = self._w_at + (T - 1) * K * R * item_bytes(p.dtype)
        if p.weight_layout == "HWIO":
            self._turn_weights = transposition(p.dtype, (T, R, K), (R * K, K), (-K * R, R))
        else:
            self._turn_weights = transposition(p.dtype, (K, R, T), (R * T, T), (R, -K * R))
        self._channels_first = p.layout == "channels_first"
        self._dy = ChannelsLast(p.layout, p.N, K, out_pixels, scratch)
        if self._channels_first:
            self._dx_at = scratch.reserve(p.N * p.C * pixels)
            self._write = to_channels_first(p.dtype, p.N, p.C, pixels)
        self._core = type(self).make_core(p, False, scratch)
        self.workspace_bytes = scratch.size

    def run(self, dy: int, w: int, dx: int) -> None:
        base = workspace(self.workspace_bytes)
        if self._turns_weights:
            self._turn_weights.run(w, base + self._last_tap)
            w = base + self._w_at
        dy = self._dy.run(base, dy)
        if self._channels_first:
            self._core.run(base, dy, w, NO_EPILOGUE, base + self._dx_at)
            self._write.run(base + self._dx_at, dx)
        else:
            self._core.run(base, dy, w, NO_EPILOGUE, dx)


class GradientCore(Protocol):
    """The part of a weight gradient that computes: x and dy in channels last, dw (T, R, K)."""

    def run(self, base: int, x: int, dy: int, dw: int) -> None: ...


class WeightGradient:
    """``dw`` from ``x`` and ``dy`` in any layout."""

    make_core: Callable[[ConvProblem, Scratch], GradientCore]

    def __init__(self, p: ConvProblem):
        scratch = Scratch(p.dtype)
        self._x = ChannelsLast(p.layout, p.N, p.C, math.prod(p.size), scratch)
        self._dy = ChannelsLast(p.layout, p.N, p.K, math.prod(p.output), scratch)
        self._dw = WeightsResult(p, scratch)
        self._core = type(self).make_core(p, scratch)
        self.workspace_bytes = scratch.size

    def run(self, x: int, dy: int, dw: int) -> None:
        base = workspace(self.workspace_bytes)
        self._core.run(base, self._x.run(base, x), self._dy.run(base, dy), self._dw.place(base, dw))
        self._dw.finish(base, dw)
