"""The threads that run kernels: a pool that shares out pieces of work and never waits for a sleeper.

A job is a compiled kernel, its argument block and a number of pieces. Each thread has a share of them, neighbours, and
takes one after the other from the share's counter; when its own share is done it takes from the others'. So a thread
computes the same part of a batch in each layer, as far as the cores are equally fast, and finds what it reads in its
own core's cache: what the other core has written comes from there, and slowly if the two do not share a third-level
cache. At the end the launching thread waits only for workers that hold a piece: one that another process keeps off its
core has taken none, and is not missed. (A barrier over all threads, as in OpenMP, waits for that worker's next time
slice, some milliseconds, at every launch.)

A worker that finds no job looks out for one for a moment, then sleeps on a lock. Everything but the
sleeping is compiled code that runs without Python's lock.
"""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit
from numba.core import cgutils, types
from numba.extending import intrinsic

from pycnn_kernels.cache import kernel_cache
from pycnn_kernels.cpu.host import SIMD

INT64 = ir.IntType(64)

# The pool's shared memory: positions of int64, those that threads poll on cache lines of their own.
# After ASLEEP, the number of sleepers, comes a line for each thread: the counter of its share, and a flag that is set
# while the worker sleeps.
JOB, ACTIVE, ENTRY, BLOCK, ITEMS, THREADS, BUSY, JOBS, ASLEEP, LINES = 0, 8, 16, 17, 18, 19, 20, 21, 24, 32
LINE, SHARE, SLEEPS = 8, 0, 1

#: How long a worker looks out for a job before it sleeps: longer than the pauses between the layers of a network.
_LOOKOUT_SECONDS = 1e-3

#: A worker looks up this often by itself, should an interrupt have come between waking it and ringing its bell.
_SLEEP_SECONDS = 10.0


@intrinsic
def _atomic_add(typing_context: Any, address: Any, value: Any) -> Any:
    """Add to the int64 at an address; its former value."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], INT64.as_pointer())
        return builder.atomic_rmw("add", pointer, arguments[1], "seq_cst")

    return types.int64(types.int64, types.int64), generate


@intrinsic
def _atomic_swap(typing_context: Any, address: Any, value: Any) -> Any:
    """Replace the int64 at an address; its former value."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], INT64.as_pointer())
        return builder.atomic_rmw("xchg", pointer, arguments[1], "seq_cst")

    return types.int64(types.int64, types.int64), generate


@intrinsic
def _atomic_load(typing_context: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], INT64.as_pointer())
        return builder.load_atomic(pointer, "seq_cst", 8)

    return types.int64(types.int64), generate


@intrinsic
def _relax(typing_context: Any) -> Any:
    """Tell the processor that this is a waiting loop."""
    machine = platform.machine().lower()

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def declare(name: str, *parameters: Any) -> Any:
            return cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.VoidType(), parameters), name)

        if machine in ("x86_64", "amd64"):
            builder.call(declare("llvm.x86.sse2.pause"), [])
        elif machine in ("aarch64", "arm64"):
            builder.call(declare("llvm.aarch64.hint", ir.IntType(32)), [ir.Constant(ir.IntType(32), 1)])  # yield
        return context.get_dummy_value()

    return types.void(), generate


#: Let another thread have this core. Without it a worker that wakes on the launching thread's own core, because
#: the others are taken, would keep that thread from publishing the job that the worker is looking out for.
_yield_core = types.ExternalFunction("SwitchToThread" if os.name == "nt" else "sched_yield", types.int32())

#: Looks between two offers of the core.
_LOOKS_PER_YIELD = 32


@intrinsic
def call_kernel(typing_context: Any, entry: Any, block: Any, item: Any, worker: Any) -> Any:
    """Call the compiled kernel at the address ``entry``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        entry, block, item, worker = arguments
        kernel_type = ir.FunctionType(ir.VoidType(), [INT64.as_pointer(), INT64, INT64])
        kernel = builder.inttoptr(entry, kernel_type.as_pointer())
        builder.call(kernel, [builder.inttoptr(block, INT64.as_pointer()), item, worker])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64), generate


#: Times that counters are taken in one job, about. Each takes its cache line from the other threads, a quarter of
#: a microsecond; where there are more pieces than this, several neighbours are taken at once.
_CLAIMS = 64


@njit
def _line(shared, thread):
    """The address of a thread's line."""
    return shared + 8 * (LINES + thread * LINE)


@njit
def _work(shared, entry, block, items, threads, worker):
    """Take pieces of the worker's own share until none is left, and then of the others', beginning with the next."""
    step = max(1, items // _CLAIMS)
    for other in range(worker, worker + threads):
        share = other % threads
        last = items * (share + 1) // threads
        counter = _line(shared, share) + 8 * SHARE
        first = _atomic_add(counter, step)
        while first < last:
            for item in range(first, min(first + step, last)):
                call_kernel(entry, block, item, worker)
            first = _atomic_add(counter, step)


def _run_alone(entry, block, items):
    for item in range(items):
        call_kernel(entry, block, item, 0)


def _run_together(shared, entry, block, items, threads):
    """Publish a job, work on it, close it, and wait for the workers that hold a piece of it.

    A second job at the same time, from another Python thread, is worked off alone rather than crowd the cores.
    All of this is compiled code because an interrupt (Ctrl-C) cannot come in between.
    """
    if _atomic_swap(shared + 8 * BUSY, 1) != 0:
        for item in range(items):
            call_kernel(entry, block, item, 0)
        return
    for share in range(threads):
        _atomic_swap(_line(shared, share) + 8 * SHARE, items * share // threads)
    _atomic_swap(shared + 8 * ENTRY, entry)
    _atomic_swap(shared + 8 * BLOCK, block)
    _atomic_swap(shared + 8 * ITEMS, items)
    _atomic_swap(shared + 8 * THREADS, threads)
    _atomic_swap(shared + 8 * JOB, _atomic_add(shared + 8 * JOBS, 1) + 1)
    _work(shared, entry, block, items, threads, 0)
    _atomic_swap(shared + 8 * JOB, 0)
    # A worker counts itself active and then looks whether the job is open; here the job is closed first and the
    # count read then. One of the two sees the other, so no worker is left inside a job that has ended.
    looks = 0
    while _atomic_load(shared + 8 * ACTIVE) > 0:
        looks += 1
        if looks % _LOOKS_PER_YIELD == 0:
            _yield_core()  # a worker with the last piece may be waiting for this very core
        _relax()
    _atomic_swap(shared + 8 * BUSY, 0)


def _look_out(shared, worker, patience):
    """A worker's life between two sleeps: join jobs until none has come for ``patience`` looks."""
    idle = 0
    last = 0
    while idle < patience:
        job = _atomic_load(shared + 8 * JOB)
        if job != 0 and job != last:
            _atomic_add(shared + 8 * ACTIVE, 1)
            if _atomic_load(shared + 8 * JOB) == job:
                last = job
                threads = _atomic_load(shared + 8 * THREADS)
                if worker < threads:
                    entry, block = _atomic_load(shared + 8 * ENTRY), _atomic_load(shared + 8 * BLOCK)
                    _work(shared, entry, block, _atomic_load(shared + 8 * ITEMS), threads, worker)
                    idle = 0
            _atomic_add(shared + 8 * ACTIVE, -1)
        idle += 1
        if idle % _LOOKS_PER_YIELD == 0:
            _yield_core()
        _relax()
    if _atomic_swap(_line(shared, worker) + 8 * SLEEPS, 1) == 0:
        _atomic_add(shared + 8 * ASLEEP, 1)


def _wake(shared, worker):
    """Whether a worker was asleep; it counts as awake from now on."""
    if _atomic_swap(_line(shared, worker) + 8 * SLEEPS, 0) == 0:
        return False
    _atomic_add(shared + 8 * ASLEEP, -1)
    return True


#: What owns the machine code.
_loops: list[Any] = []


def _compile(body: Any, arguments: int) -> Any:
    loop = njit(nogil=True)(body)
    loop._cache = kernel_cache(body, SIMD.name)
    signature = (types.int64,) * arguments
    loop.compile(signature)
    _loops.append(loop)
    return loop.overloads[signature].entry_point  # which is called without a look at the types of its arguments


class Workers:
    """The pool of one process. Its threads start with the first launch that can use them.

    Attributes:
        most: threads at most.
        run_alone: runs a kernel over its pieces on this thread; takes its entry, its block, and their number.
    """

    run_alone: Callable[[int, int, int], None]
    _started: int  # how many threads there are

    def __init__(self, most: int):
        self.most = most
        self.run_alone = self._first_run
        self._setup = threading.Lock()
        self._ready = False
        self._forget_threads()
        if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
            os.register_at_fork(after_in_child=self._after_fork)

    def run(self, entry: int, block: int, items: int, threads: int) -> None:
        """Run a kernel over its pieces on at most ``threads`` threads, two or more, this one included."""
        if not self._ready:
            self._prepare()
        if self._started < threads - 1:
            self._start(threads - 1)
        if self._memory[ASLEEP] > 0:
            for worker, bell in enumerate(self._bells[: threads - 1], start=1):
                if self._wake(self._shared, worker) and bell.locked():
                    bell.release()
        self._run_together(self._shared, entry, block, items, threads)

    def _first_run(self, entry: int, block: int, items: int) -> None:
        self._prepare()
        self.run_alone(entry, block, items)

    def _prepare(self) -> None:
        with self._setup:
            if self._ready:
                return
            self.run_alone = _compile(_run_alone, 3)
            self._run_together = _compile(_run_together, 5)
            self._look_out = _compile(_look_out, 3)
            self._wake = _compile(_wake, 2)
            self._patience = self._measure_patience()
            self._ready = True

    def _measure_patience(self) -> int:
        """How many looks fit into the time of looking out."""
        quiet = np.zeros(LINES + 2 * LINE, np.int64)
        looks = 1000
        begin = time.perf_counter()
        self._look_out(quiet.ctypes.data, 1, looks)
        return max(1, int(looks * _LOOKOUT_SECONDS / (time.perf_counter() - begin)))

    def _start(self, workers: int) -> None:
        with self._setup:
            self._start_missing(workers)

    def _start_missing(self, workers: int) -> None:
        for worker in range(self._started + 1, workers + 1):
            bell = threading.Lock()
            bell.acquire()
            self._bells.append(bell)
            threading.Thread(target=self._live, args=(worker, bell), name=f"pycnn-{worker}", daemon=True).start()
            self._started = worker

    def _live(self, worker: int, bell: threading.Lock) -> None:
        shared, memory = self._shared, self._memory  # the memory lives as long as its threads
        while memory is not None:
            self._look_out(shared, worker, self._patience)
            bell.acquire(timeout=_SLEEP_SECONDS)

    def _forget_threads(self) -> None:
        memory = np.zeros(LINES + (self.most + 1) * LINE, np.int64)
        first = -(memory.ctypes.data // 8) % 8  # the first cache line
        self._memory = memory[first:]
        self._shared = self._memory.ctypes.data
        # A worker sleeps on its bell, a lock that is released to wake it. (threading.Semaphore is Python code,
        # which fights the launching thread for Python's lock.)
        self._bells: list[threading.Lock] = []
        self._started = 0

    def _after_fork(self) -> None:
        # Threads do not survive a fork: the child begins with none, and starts its own when it needs them.
        self._setup = threading.Lock()
        self._forget_threads()
