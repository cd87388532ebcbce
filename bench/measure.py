"""Timing: interleaved sides, medians, and the ceiling of the machine in the same run."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import numpy as np

from pycnn_kernels.cpu.host import SIMD, lanes
from pycnn_kernels.cpu.launch import kernel, launch
from pycnn_kernels.cpu.tile import tile_multiply_add, tile_shape, tile_store, tile_zeros
from pycnn_kernels.memory import aligned_empty

Side = Callable[[], object]

#: Accumulators and operands together fit the registers, so that the compiler leaves nothing in the loop but arithmetic.
ROWS = 8 if SIMD.tile_rows >= 8 else 4
STEPS = 4096


def pin_to_one_core() -> int:
    """Keep this process on its last core, before any library counts the cores; the core's number."""
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    return core


#: Threads of an engine spin for a while after its turn (libgomp's for some milliseconds, ours for one): a pause lets
#: them fall asleep before another engine needs their cores.
_PAUSE_SECONDS = 0.01

#: A turn on several threads lasts about as long as the pause before it, so that a rate settles.
_TURN_SECONDS = 0.01


def medians(sides: dict[str, Side], seconds: float = 1.0, least: int = 7, threads: int = 1) -> dict[str, float]:
    """Median seconds of each side; see :func:`in_turns`."""
    return {name: float(np.median(values)) for name, values in in_turns(sides, seconds, least, threads).items()}


def in_turns(sides: dict[str, Side], seconds: float = 1.0, least: int = 7, threads: int = 1) -> dict[str, list[float]]:
    """The seconds of each call of each side; the sides take turns, so that drift of the machine meets all of them.

    On one thread a turn is one call. On several it is a pause, a call that wakes the side's own threads, and then
    calls that count.
    """
    calls = {}
    for name, side in sides.items():
        side()
        calls[name] = 1 if threads == 1 else min(100, 1 + int(_TURN_SECONDS / seconds_of(side)))
    times: dict[str, list[float]] = {name: [] for name in sides}
    begin = time.perf_counter()
    rounds = 0
    while rounds < least or time.perf_counter() - begin < seconds:
        for name, side in sides.items():
            if threads > 1:
                time.sleep(_PAUSE_SECONDS)
                side()
            times[name] += [seconds_of(side) for _ in range(calls[name])]
        rounds += 1
    return times


def seconds_of(side: Side) -> float:
    """Of one call."""
    start = time.perf_counter()
    side()
    return time.perf_counter() - start


@kernel(x="array", y="array")
def ceiling_kernel(a, item, worker):
    """Nothing but fused multiply-adds of operands in registers: the rate that no convolution can exceed."""
    acc = tile_zeros(tile_shape(a.x, ROWS, 2))
    for _ in range(STEPS):
        acc = tile_multiply_add(acc, a.x, 0, None, a.x, 0, None)
    tile_store(acc, a.y, 0, 2 * 16, None)


def ceiling_side(dtype: str = "float32") -> tuple[Side, int]:
    """A call that runs at the processor's rate of fused multiply-adds, and its floating-point operations."""
    x = aligned_empty((16384,), dtype)
    y = aligned_empty((16384,), dtype)
    x.fill(0)
    entry = ceiling_kernel.entry(dtype)
    items = 64

    def run() -> None:
        block = ceiling_kernel.block(x=x.ctypes.data, y=y.ctypes.data)
        launch(entry, block, items, parallel=False)

    return run, 2 * items * STEPS * ROWS * 2 * lanes(dtype)


def copy_side(megabytes: float) -> tuple[Side, int]:
    """A copy of that much memory, and the bytes that it reads and writes."""
    source = aligned_empty((int(megabytes * 2**18),), "float32")
    target = aligned_empty(source.shape, "float32")
    source.fill(1)
    return lambda: np.copyto(target, source), 2 * source.nbytes
