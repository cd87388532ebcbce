"""The gradients of weights and bias behind max pooling, where nobody needs that of the convolution's input.

That is the first layer of a network, whose maps are the largest. The gradient of the convolution's result, zeros but
for the maxima, is four times that of the pooled one. In one pass it never leaves a core: the core that spreads out a
*band* of it (``conv_pool.py``) multiplies it with x, from its own cache.
"""

from __future__ import annotations

import math
from itertools import accumulate
from typing import Any

import numpy as np

from pycnn_kernels.cpu.chain import Chain, Own, Stage
from pycnn_kernels.cpu.conv_direct import SMALL_WORK, DirectSums, direct_cost_weight_gradient
from pycnn_kernels.cpu.conv_frame import ChannelsLast, PaddedInput, Scratch, WeightsResult, unpadded
from pycnn_kernels.cpu.conv_kernel_rows import KernelRowsSums, kernel_rows_cost, kernel_rows_suits, kernel_rows_supports
from pycnn_kernels.cpu.conv_pool import Band, bands_fit, divide, in_channels_last
from pycnn_kernels.cpu.elementwise import BiasActivationGradient, BiasSums, sum_parts
from pycnn_kernels.cpu.host import item_bytes
from pycnn_kernels.cpu.launch import most_threads
from pycnn_kernels.cpu.pool import MaxPoolGradient
from pycnn_kernels.cpu.workspace import whole_lines, workspace
from pycnn_kernels.memory import address, aligned_empty
from pycnn_kernels.problem import ChannelsProblem, ConvPoolProblem, ConvProblem, channels_problem

#: The time of a byte of the gradient of the convolution's result, which one core writes and the same or another one
#: reads; see ``cost.py`` for the unit.
_TRAFFIC = 0.9


class OnePassGradient:
    """``dw, db`` from ``x``, ``dy`` and the pooling's ``index`` and ``y``: bands that pass all stages on one core."""

    def __init__(self, p: ConvPoolProblem):
        conv, pool = p
        scratch = Scratch(p.dtype)
        pixels, pooled = math.prod(conv.size), math.prod(pool.output)
        self._x = ChannelsLast(conv.layout, conv.N, conv.C, pixels, scratch)
        self._dy, self._y = (ChannelsLast(conv.layout, conv.N, conv.K, pooled, scratch) for _ in range(2))
        self._dw = WeightsResult(conv, scratch)
        last = in_channels_last(p)
        self._padded = PaddedInput(last.conv.linear, scratch)
        self._relu = conv.activation == "relu"
        bands = divide(ConvPoolProblem(self._padded.problem, last.pool))
        make_sums = KernelRowsSums if _kernel_rows(conv.linear) else DirectSums
        splits = self._make_chain(bands, make_sums, scratch) if bands else 0
        self._total = sum_parts(p.dtype, splits, math.prod(conv.w_shape))
        self._bias_total = sum_parts(p.dtype, len(bands), conv.K)
        self._some = bool(bands)
        self.workspace_bytes = scratch.size

    def _make_chain(
        self, bands: list[Band], make_sums: type[KernelRowsSums] | type[DirectSums], scratch: Scratch
    ) -> int:
        """Make the stages of all bands ready, whose convolution has no padding; how many parts of dw they write."""
        conv = bands[0].problem.conv
        size, itemsize = math.prod(conv.w_shape), item_bytes(conv.dtype)
        made = {
            q: (BiasSums(_pooled_pixels(q), 1), MaxPoolGradient(q.pool), make_sums(q.conv, 1))
            for q in {band.problem for band in bands}
        }
        biases, poolings, sums = zip(*(made[band.problem] for band in bands))
        firsts = list(accumulate((task.splits for task in sums), initial=0))
        self._parts_at, self._bias_parts_at = scratch.reserve(firsts[-1] * size), scratch.reserve(len(bands) * conv.K)
        x_at, _, y_at, index_at = np.array([band.offsets() for band in bands], np.int64).T
        parts_at = np.array(firsts[:-1]) * size * itemsize
        bias_parts_at = np.arange(len(bands)) * conv.K * itemsize
        masked, between = (
            max(whole_lines(math.prod(shape) * itemsize) for shape in shapes)
            for shapes in ([q.pool.y_shape for q in made], [q.conv.y_shape for q in made])
        )
        masked = masked if self._relu else 0
        scratches = [[each.worker_bytes for each in tasks] for tasks in (biases, poolings, sums)]
        at = list(accumulate((whole_lines(max(each)) for each in scratches), initial=masked + between))
        wide, lines, room = (Own(offset, apart) for offset, apart in zip(at, scratches))
        stages = [
            Stage([each.task for each in biases], {"wide": wide} | ({"dz": Own(0)} if self._relu else {})),
            Stage(
                [each.task for each in poolings],
                {"lines": lines, "dst": Own(masked)} | ({"src": Own(0)} if self._relu else {}),
            ),
            Stage([each.task for each in sums], {"dy": Own(masked)} | ({"scratch": room} if max(scratches[2]) else {})),
        ]
        self._pooling, self._has_scratch = poolings[0], max(scratches[2]) > 0
        work = sum(band.problem.conv.multiply_adds for band in bands)
        apart = self._given(x_at, y_at, index_at, y_at, parts_at, bias_parts_at, False, False)
        self._chain = Chain(stages, at[-1], work > SMALL_WORK, apart)
        self._own_at = scratch.reserve_bytes(most_threads() * self._chain.own_bytes)
        return firsts[-1]

    def run(self, x: int, dy: int, index: int, y: int, dw: int, db: int) -> None:
        """Addresses; ``y`` is 0 without a ReLU, ``db`` where it is not wanted."""
        base = workspace(self.workspace_bytes)
        result = self._dw.place(base, dw)
        parts = bias_parts = 0
        if self._some:
            parts, bias_parts = base + self._parts_at, base + self._bias_parts_at
            x, dy = self._padded.run(base, self._x.run(base, x)), self._dy.run(base, dy)
            y = self._y.run(base, y) if self._relu else 0
            given = self._given(x, dy, index, y, parts, bias_parts, self._relu, db != 0)
            self._chain.run(base + self._own_at, *given)
        self._total.run(parts, result)
        if db:
            self._bias_total.run(bias_parts, db)
        self._dw.finish(base, dw)

    def _given(
        self, x: Any, dy: Any, index: Any, y: Any, parts: Any, bias_parts: Any, relu: bool, want_bias: bool
    ) -> tuple[Any, ...]:
        """The given fields of all stages: their values, or what each band adds to them."""
        bias = (dy, y, 0, bias_parts, 0, relu, want_bias)
        sums = (x, 0, parts, *((0,) if self._has_scratch else ()))
        return *bias, *self._pooling.arguments(0, dy, 0, index), *sums


class TwoPassesGradient:
    """The same: all of the gradient of the convolution's result, then the convolution's own weight gradient."""

    def __init__(self, p: ConvPoolProblem):
        from pycnn_kernels.choice import choose  # it knows the lists of algorithms, which have this one

        conv, pool = p
        self._bias, self._pooling = BiasActivationGradient(_pooled_pixels(p)), MaxPoolGradient(pool)
        self._weights = choose("conv_weight_gradient", conv.linear).prepare(conv.linear)
        scratch = Scratch(p.dtype)
        self._between_at = scratch.reserve(math.prod(conv.y_shape))
        self._relu = conv.activation == "relu"
        self._masked_at = scratch.reserve(math.prod(pool.y_shape)) if self._relu else 0
        self.borrowed = (scratch.size,)
        nested = max(task.workspace_bytes for task in (self._bias, self._pooling, self._weights))
        #: With the memory that is lent for a run.
        self.workspace_bytes = scratch.size + nested

    def run(self, x: int, dy: int, index: int, y: int, dw: int, db: int) -> None:
        """Addresses; ``y`` is 0 without a ReLU, ``db`` where it is not wanted."""
        lent = aligned_empty(self.borrowed, np.uint8)  # the algorithms use the workspace
        base = address(lent)
        if self._relu:
            self._bias.run(dy, y, base + self._masked_at, db)
            dy = base + self._masked_at
        elif db:
            self._bias.run(dy, 0, 0, db)
        self._pooling.run(dy, index, base + self._between_at)
        self._weights.run(x, base + self._between_at, dw)


def _pooled_pixels(p: ConvPoolProblem) -> ChannelsProblem:
    """Of the pooling's result."""
    return channels_problem(p.dtype, p.pool.layout, p.pool.N, p.pool.C, p.pool.output)


def _kernel_rows(p: ConvProblem) -> bool:
    """Whether rows of the kernel fill the lanes better than filters."""
    able = not (kernel_rows_supports(p) or kernel_rows_suits(p))
    return able and kernel_rows_cost(p) <= direct_cost_weight_gradient(p)


def one_pass_gradient_supports(p: ConvPoolProblem) -> str | None:
    """None for a problem that can be divided into bands, otherwise the reason why not."""
    return bands_fit(ConvPoolProblem(unpadded(p.conv), p.pool))


def one_pass_gradient_cost(p: ConvPoolProblem) -> float:
    """The expected time of all but the pooling itself; see ``cost.py`` for the unit."""
    conv = p.conv.linear
    return kernel_rows_cost(conv) if _kernel_rows(conv) else direct_cost_weight_gradient(conv)


def two_passes_gradient_cost(p: ConvPoolProblem) -> float:
    """The same: the weight gradient, and what it reads."""
    from pycnn_kernels.choice import expected_cost

    between = math.prod(p.conv.y_shape) * item_bytes(p.dtype)
    return expected_cost("conv_weight_gradient", p.conv.linear) + _TRAFFIC * between
