"""Sums and maxima over the threads of a block, in a fixed order.

Warps add up by exchanging registers (shuffles), then their results meet in shared memory: two barriers, whatever the
number of threads. Source: Harris, "Optimizing Parallel Reduction in CUDA" (2007), with shuffles in place of its last
steps.
"""

from __future__ import annotations

from typing import Any

from numba import cuda

from pycnn_kernels.cuda.compile import device_function

WARP = 32
ALL_LANES = 0xFFFFFFFF


@device_function
def plus(one, other):
    return one + other


@device_function
def greatest(one, other):
    """The greater of the two; NaN counts as greatest."""
    return other if other > one or other != other else one


def lane_reduction(combine: Any, team: int = WARP) -> Any:
    """A device function that combines the values of neighbouring lanes of a warp, each of which gets the result.

    ``team``: how many, a power of two up to 32. All lanes of the warp must call it.
    """
    most = team >> 1

    @device_function
    def reduced(value):
        distance = most
        while distance > 0:
            value = combine(value, cuda.shfl_xor_sync(ALL_LANES, value, distance))
            distance >>= 1
        return value

    return reduced


def block_reduction(dtype: Any, threads: int, combine: Any, nothing: float) -> Any:
    """A device function that combines the values of a block's ``threads``, each of which gets the result.

    All threads of the block must call it. ``threads`` is a multiple of 32, at most 1024; ``combine`` is commutative, so
    that all threads get the same bits; ``nothing`` changes no value that it is combined with.
    """
    within = lane_reduction(combine)
    if threads == WARP:
        return within
    warps, empty = threads // WARP, dtype(nothing)

    @device_function
    def reduced(value):
        parts = cuda.shared.array(WARP, dtype)
        lane, warp = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP
        value = within(value)
        if lane == 0:
            parts[warp] = value
        cuda.syncthreads()
        total = within(parts[lane] if lane < warps else empty)
        cuda.syncthreads()  # the next call writes the parts again
        return total

    return reduced


def team_reduction(dtype: Any, threads: int, team: int, combine: Any, nothing: float) -> Any:
    """A device function that combines the values of a team's threads, each of which gets the result.

    Args:
        dtype: of the values.
        threads: of a block, all of which must call the function.
        team: so many neighbouring threads: a power of two up to 32, or the block.
        combine, nothing: as for :func:`block_reduction`.
    """
    return block_reduction(dtype, threads, combine, nothing) if team > WARP else lane_reduction(combine, team)


def threads_for(columns: int, most: int = 256) -> int:
    """Threads of a block that works on so many elements: a power of two from 32 to ``most``.

    >>> threads_for(10), threads_for(100), threads_for(5000)
    (32, 128, 256)
    """
    threads = WARP
    while threads < min(columns, most):
        threads *= 2
    return threads
