"""A large layer on two threads while another process keeps one of their cores busy: ``python -m bench.contended``.

A fair share of the machine is then one core and a half, 0.75 of two. A library that gives each thread the same work
and waits for all of them ends up at half: the thread on the shared core takes twice as long. The cores that the process
had (its processor time over the time that passed) tell what the machine left to it, and what it spent on waiting.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from bench.measure import Side
from bench.shapes import Shape
from bench.tables import Options, Table, progress

LAYER = Shape("56x56x256, 3x3", 1, 256, 56, 256, 3, padding=1)

_REPEATS = 9


def layer_sides() -> dict[str, Side]:
    """The layer's forward operation on each installed engine."""
    from bench.peers import arrays, pycnn_side, torch_sides

    data = arrays(LAYER)
    sides = {
        "pycnn direct": pycnn_side("forward", LAYER, data, "direct"),
        "pycnn auto": pycnn_side("forward", LAYER, data),
    }
    for layout in ("last", "first"):
        theirs = torch_sides(LAYER, data, channels_last=layout == "last")
        if theirs is not None:
            sides[f"PyTorch channels {layout}"] = theirs["forward"]
    return sides


@contextlib.contextmanager
def busy_core(core: int) -> Iterator[subprocess.Popen]:
    """A process that does nothing but keep a core busy, stopped at first; SIGCONT starts it, SIGSTOP stops it."""
    code = f"import os\nos.sched_setaffinity(0, {{{core}}})\nprint('ready', flush=True)\nwhile True: pass"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        yield process
    finally:
        process.kill()
        process.wait()


class Rate(NamedTuple):
    """Calls a second, and how many cores the process had meanwhile."""

    calls: float
    cores: float


def rate(side: Side, seconds: float) -> Rate:
    """Over a stretch of time: a median of calls would not see those that were interrupted."""
    time.sleep(0.05)  # the threads of the engine that ran before fall asleep
    side()
    calls, begin, begin_cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - begin < seconds:
        side()
        calls += 1
    elapsed = time.perf_counter() - begin
    return Rate(calls / elapsed, (time.process_time() - begin_cpu) / elapsed)


def measure(options: Options) -> None:
    """Rates of the sides in turns, without and with the other process, on two cores."""
    cores = sorted(os.sched_getaffinity(0))[-2:]
    if len(cores) < 2:
        raise SystemExit("two cores are needed; this process may run on one")
    os.sched_setaffinity(0, set(cores))
    from bench.peers import set_threads

    set_threads(2)
    sides = layer_sides()
    idle: dict[str, list[Rate]] = {name: [] for name in sides}
    contended: dict[str, list[Rate]] = {name: [] for name in sides}
    with busy_core(cores[-1]) as other:
        for _ in progress(range(_REPEATS), "contended"):
            for name, side in sides.items():
                idle[name].append(rate(side, options.seconds))
                other.send_signal(signal.SIGCONT)
                contended[name].append(rate(side, options.seconds))
                other.send_signal(signal.SIGSTOP)
    gigaflops = 2 * LAYER.problem().multiply_adds / 1e9
    columns = Table(
        options, f"{LAYER.name}, GFLOP/s (cores had)", "idle      ", "contended ", "ratio", "least to most ratio"
    )
    for name in sides:
        cells = []
        for rates in (idle[name], contended[name]):
            calls, had = np.median(rates, axis=0)
            cells.append(f"{calls * gigaflops:.0f} ({had:.2f})")
        ratios = [after.calls / before.calls for before, after in zip(idle[name], contended[name])]
        columns.row(name, *cells, f"{np.median(ratios):.2f}", f"{min(ratios):.2f} to {max(ratios):.2f}")


if __name__ == "__main__":
    measure(Options())
