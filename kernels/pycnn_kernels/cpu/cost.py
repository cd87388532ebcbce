"""The expected time of a convolution on one core, and what the models of all algorithms share.

Each algorithm has a model beside its kernels: it counts the vectors that are multiplied, the tiles that are begun and
the bytes that are copied, each with the time that one takes. The unit is the time in which a core multiplies and adds
one whole vector at its full rate, so that a model holds for processors with other vectors and other clocks: what counts
is how the parts compare.

The times were fitted to the least of many runs of the layers in ``bench/shapes.py`` (channels last, float32, one core
of an AMD EPYC of the Zen 5 generation, AVX-512); ``python -m bench.cost`` shows how far off they are.
"""

from __future__ import annotations

import math

from pycnn_kernels.cpu.host import item_bytes, lanes
from pycnn_kernels.problem import ConvProblem

#: Vectors that a core multiplies and adds in a second: two a cycle, at 3.75 GHz. For float32 on AVX-512 that is 240
#: GFLOP/s, where ``bench.measure.ceiling_side`` found 230 to 275. Two a cycle is what the cores of this decade do (AMD,
#: "Software Optimization Guide for the AMD Zen5 Microarchitecture", 2024; Zen 4 starts one of 512 bits, two of 256).
VECTORS_PER_SECOND = 7.5e9

#: The time of one byte that is transposed: of an array of images, and of weights.
COPY, COPY_WEIGHTS = 0.25, 0.3


def gflops(dtype: str) -> float:
    """The rate of one core, in billions of multiplications and additions a second."""
    return VECTORS_PER_SECOND * 2 * lanes(dtype) / 1e9


def milliseconds(cost: float, dtype: str, rate: float | None = None) -> float:
    """A cost in milliseconds on one core of ``rate`` GFLOP/s, by default the rate that the models assume."""
    return cost * 2 * lanes(dtype) / ((rate or gflops(dtype)) * 1e6)


def meetings(p: ConvProblem) -> int:
    """How many taps lie inside the input, over all output pixels of all images.

    >>> meetings(ConvProblem("float32", "channels_last", "HWIO", 1, 1, (1, 1, 4), 1, (1, 1, 3), (1, 1, 1),
    ...                      ((0, 0), (0, 0), (1, 1)), (1, 1, 1)))
    10
    """
    return p.N * math.prod(map(sum, _met(p)))


def part_met(p: ConvProblem) -> float:
    """The part of the kernel's elements that meet a pixel of the input at all: a ninth for 3x3 on a single one."""
    return math.prod(sum(map(bool, met)) / len(met) for met in _met(p))


def _met(p: ConvProblem) -> list[list[int]]:
    """For each axis and each of its taps, the output pixels at which the tap lies inside the input."""
    axes = zip(p.size, p.output, p.kernel, p.stride, p.padding, p.dilation)
    return [
        [
            max(min((size - 1 + before - k * D) // S, out - 1) - max(-((k * D - before) // S), 0) + 1, 0)
            for k in range(kernel)
        ]
        for size, out, kernel, S, (before, _), D in axes
    ]


def vectors(channels: int, dtype: str) -> int:
    """Vectors that hold so many channels."""
    return -(-channels // lanes(dtype))


def image_bytes(p: ConvProblem) -> int:
    """Bytes of x and y together."""
    elements = p.N * (p.C * math.prod(p.size) + p.K * math.prod(p.output))
    return elements * item_bytes(p.dtype)


def layout_cost(p: ConvProblem, turns_weights: bool = False) -> float:
    """Of bringing the arrays to channels last and back, as ``conv_frame`` does."""
    cost = 0.0
    if p.layout == "channels_first":
        cost += COPY * image_bytes(p)
    if turns_weights or p.weight_layout == "OIHW":
        cost += COPY_WEIGHTS * math.prod(p.w_shape) * item_bytes(p.dtype)
    return cost
