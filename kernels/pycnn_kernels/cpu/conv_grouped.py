"""Convolution in groups of few channels: the lanes are the output channels of several groups.

The direct algorithm puts the columns of one group into the lanes: four of sixteen, in ResNeXt (Xie et al., "Aggregated
Residual Transformations for Deep Neural Networks", 2017). Here a vector holds the channels of neighbouring groups, as
in depthwise convolution: lane i sums the products of its group's R source channels, ``src[pixel, i // L * R + r]``. The
sources of all lanes are neighbours in memory, and are read at once; for each r a permutation brings every lane the
channel that it meets. R = 1 is depthwise convolution with L filters for each channel.

The kernels are those of ``conv_depthwise.py``. One is compiled for each pair R, L on its first use: the permutations
are constants of the program.
"""

from __future__ import annotations

import functools
import math

from pycnn_kernels.cpu.conv_depthwise import (
    ADD_FIELDS,
    TapsGradient,
    add_pixels,
    correlate_task,
)
from pycnn_kernels.cpu.conv_direct import SMALL_WORK
from pycnn_kernels.cpu.conv_frame import Forward, InputGradient, Scratch, WeightGradient
from pycnn_kernels.cpu.cost import image_bytes, layout_cost, meetings, vectors
from pycnn_kernels.cpu.epilogue import Epilogue
from pycnn_kernels.cpu.gather import continuation_fits
from pycnn_kernels.cpu.host import item_bytes, lanes
from pycnn_kernels.cpu.launch import Kernel, Task, kernel
from pycnn_kernels.cpu.tile import group_of, shift
from pycnn_kernels.problem import ConvProblem


@functools.cache
def grouped_weight_gradient_kernel(R: int, L: int) -> Kernel:
    """:func:`add_pixels` for groups of R channels of x and L of y."""

    @kernel(**ADD_FIELDS)
    def grouped_weight_gradient(a, item, worker):
        add_pixels(a, item, group_of(R, L))

    return grouped_weight_gradient


@kernel(src="array", dst="array", G="int", L="int", R="int")
def regroup_kernel(a, item, worker):
    """Bring the weights of a tap from (G, L, R) to (L, G, R); a piece is one of the taps."""
    source, to = shift(a.src, item * a.G * a.L * a.R), shift(a.dst, item * a.G * a.L * a.R)
    for k in range(a.L):
        for g in range(a.G):
            for r in range(a.R):
                to[(k * a.G + g) * a.R + r] = source[(g * a.L + k) * a.R + r]


class _Grouped:
    """The core of forward and input gradient."""

    def __init__(self, p: ConvProblem, forward: bool, scratch: Scratch):
        R, L = p.C // p.G, p.K // p.G
        self._correlate = correlate_task(p, forward)
        # The frame's weights of the input gradient are (T, G, L, R), with R the target's channels of a group.
        self._regroups = not forward and L > 1
        if self._regroups:
            self._w_at = scratch.reserve(math.prod(p.w_shape))
            parallel = math.prod(p.w_shape) > SMALL_WORK
            self._regroup = Task(
                regroup_kernel, p.dtype, math.prod(p.kernel), "src dst", parallel=parallel, G=p.G, L=L, R=R
            )

    def run(self, base: int, src: int, w: int, epilogue: Epilogue, dst: int) -> None:
        if self._regroups:
            self._regroup.run(w, base + self._w_at)
            w = base + self._w_at
        self._correlate.run(src, w, dst, *epilogue)


class GroupedForward(Forward):
    """``y = activation(x * w + b)``."""

    make_core = _Grouped


class GroupedInputGradient(InputGradient):
    """``dx`` from ``dy`` and ``w``."""

    make_core = _Grouped


class GroupedWeightGradient(WeightGradient):
    """``dw`` from ``x`` and ``dy``."""

    @staticmethod
    def make_core(p: ConvProblem, scratch: Scratch) -> TapsGradient:
        """The core for a problem."""
        return TapsGradient(p, scratch, grouped_weight_gradient_kernel(p.C // p.G, p.K // p.G))


#: A vector of the target meets so many vectors of the source at most.
_MOST_SOURCES = 4


def grouped_supports(p: ConvProblem) -> str | None:
    """None for a problem that this can do in forward and weight gradient, otherwise the reason why not."""
    return _groups_fit(p, p.C // p.G, p.K // p.G)


def grouped_supports_input_gradient(p: ConvProblem) -> str | None:
    """None for a problem that this can do in the input gradient, otherwise the reason why not."""
    return _groups_fit(p, p.K // p.G, p.C // p.G)


def _groups_fit(p: ConvProblem, R: int, L: int) -> str | None:
    if p.G == 1 or R == L == 1:
        return f"groups, of more than one channel; received {p.C} and {p.K} channels in {p.G}"
    # Each pair is a kernel to be compiled: those of networks have groups of 2, 4, 8 ... channels.
    if lanes(p.dtype) % R or lanes(p.dtype) % L:
        return f"groups of 1, 2, 4 ... {lanes(p.dtype)} channels; received {R} of the source and {L} of the target"
    if R > _MOST_SOURCES * L:
        return f"at most {_MOST_SOURCES} times as many channels of the source as of the target; received {R} and {L}"
    return continuation_fits(p)


def grouped_suits_forward(p: ConvProblem) -> str | None:
    """None for a problem whose forward this does faster than the direct algorithm."""
    return _several_groups(p, p.K // p.G)


def grouped_suits_input_gradient(p: ConvProblem) -> str | None:
    """None for a problem whose input gradient this does faster than the direct algorithm."""
    return _several_groups(p, p.C // p.G)


def _several_groups(p: ConvProblem, L: int) -> str | None:
    """A group that fills a vector leaves the direct algorithm no idle lanes: it takes 0.7 to 1.0 of the time."""
    if lanes(p.dtype) <= L:
        return f"several groups in a vector of {lanes(p.dtype)} channels; received {L} channels in a group"
    return None


#: What a call costs beside its pixels.
_CALL = 120_000


def grouped_cost_forward(p: ConvProblem) -> float:
    """The expected time of the forward; see ``cost.py`` for the unit."""
    return _gather_cost(p, math.prod(p.output), p.C // p.G, p.K) + layout_cost(p)


def grouped_cost_input_gradient(p: ConvProblem) -> float:
    """The expected time of the input gradient."""
    regrouped = 2.0 * math.prod(p.w_shape)
    return _gather_cost(p, math.prod(p.size), p.K // p.G, p.C) + regrouped + layout_cost(p, turns_weights=True)


def _gather_cost(p: ConvProblem, pixels: int, R: int, target: int) -> float:
    """A place is read once and picked from R times; a result is loaded, filled and stored."""
    products = meetings(p) * vectors(target, p.dtype)
    joined = 4.4 * max(R * p.G / target - 1, 0)  # picking from more than one vector of sources
    tiles = 5 * p.N * pixels * vectors(target, p.dtype)
    return (2 + 1.3 * R + joined) * products + tiles + 0.04 * image_bytes(p) + _CALL


def grouped_cost_weight_gradient(p: ConvProblem) -> float:
    """The expected time of the weight gradient."""
    products = p.N * math.prod(p.output) * math.prod(p.kernel) * vectors(p.K, p.dtype)
    padded = p.N * p.C * math.prod(size + before + after for size, (before, after) in zip(p.size, p.padding))
    return (1.2 + 1.3 * (p.C // p.G)) * products + 0.3 * padded * item_bytes(p.dtype) + layout_cost(p)
