"""The engine under threads and processes that are not its own: same bits, no deadlock, no crowd of threads."""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import pycnn
from pycnn import functional as F
from pycnn_kernels.cpu.launch import kernel, launch
from pycnn_kernels.cpu.workers import _atomic_add, _atomic_load
from pycnn_kernels.problem import ConvPoolProblem, ConvProblem
from tests.kernels.problems import (
    MOST_THREADS,
    by_every_algorithm,
    conv_arrays,
    conv_pool_problem,
    conv_problem,
    run_conv,
)
from tests.kernels.test_launch import SEVEN_CORES, in_threads, run_slowly

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="this system has no /proc")

#: Every algorithm, rank and layout, both dtypes, work of one piece and of many.
PROBLEMS = [
    conv_problem(N=2, C=32, K=48, size=20, padding=1, bias=True),
    conv_problem(N=4, C=3, K=6, size=(31, 40), kernel=5, padding=2, bias=True),
    conv_problem(N=1, C=64, K=64, G=64, size=17, padding=1),
    conv_problem(N=2, C=24, K=40, size=9, stride=2, G=2, layout="channels_first", weight_layout="OIHW"),
    conv_problem(N=1, C=16, K=33, size=(6, 7, 8), padding=1, rank=3, dtype="float64"),
    conv_problem(N=3, C=17, K=32, size=(200,), kernel=5, dilation=3, rank=1, layout="channels_first"),
    conv_problem(N=1, C=2, K=2, size=4),
    # Bands of rows and of images, of several heights, by each kind of convolution and of weight gradient.
    conv_pool_problem(conv_problem(N=2, C=3, K=6, size=(150, 140), kernel=5, bias=True, activation="relu"), kernel=2),
    conv_pool_problem(conv_problem(N=2, C=3, K=40, size=(90, 60), padding=1, bias=True), kernel=3, stride=2, padding=1),
    conv_pool_problem(conv_problem(N=30, C=20, K=48, size=20, padding=1, activation="relu"), kernel=2),
]


def arrays_of(p: ConvProblem | ConvPoolProblem) -> dict[str, np.ndarray]:
    return conv_arrays(p if isinstance(p, ConvProblem) else p.conv)


def results(p: ConvProblem | ConvPoolProblem, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Of all operations by every algorithm."""
    if isinstance(p, ConvProblem):
        found = run_conv(p, **arrays)
        return [found[name] for name in sorted(found)]
    x, w, b = (arrays[name] for name in ("x", "w", "b"))
    pooled = [plan.run(x, w, b if p.conv.bias else None) for _, plan in by_every_algorithm("conv_max_pool", p)]
    y, index = pooled[0]
    gradients = by_every_algorithm("conv_max_pool_weight_gradient", p)  # of any array like y
    return [array for arrays in (*pooled, *(plan.run(x, y, index, y) for _, plan in gradients)) for array in arrays]


def digest(p: ConvProblem | ConvPoolProblem, arrays: dict[str, np.ndarray] | None = None) -> str:
    """Of the bits of all results."""
    joined = b"".join(array.tobytes() for array in results(p, arrays or arrays_of(p)))
    return hashlib.sha256(joined).hexdigest()


def digests() -> list[str]:
    return [digest(p) for p in PROBLEMS]


def alone() -> list[str]:
    """What one thread computes."""
    before = pycnn.get_num_threads()
    pycnn.set_num_threads(1)
    try:
        return digests()
    finally:
        pycnn.set_num_threads(before)


def check_in_threads(count: int, rounds: int) -> None:
    """Python threads that meet in the engine with other problems at each moment get the bits of one thread alone."""
    expected = alone()
    inputs = [arrays_of(p) for p in PROBLEMS]

    def compute(number: int) -> None:
        order = random.Random(number)
        for _ in range(rounds):
            for which in order.sample(range(len(PROBLEMS)), len(PROBLEMS)):
                assert digest(PROBLEMS[which], inputs[which]) == expected[which]

    in_threads(count, compute)


def test_threads_with_different_problems() -> None:
    check_in_threads(count=8, rounds=5)


def test_threads_with_different_problems_on_many_cores(python_prints: Callable[..., str]) -> None:
    code = """
from tests.kernels.test_concurrency import check_in_threads
check_in_threads(count=12, rounds=5)
print("done")
"""
    assert python_prints(SEVEN_CORES + code).strip() == "done"


def test_first_uses_at_the_same_time(python_prints: Callable[..., str]) -> None:
    """Threads that start in a fresh process all find kernels, plans and workers that are not there yet."""
    code = """
from tests.kernels.test_concurrency import alone, digests
from tests.kernels.test_launch import in_threads
found = [None] * 6
def compute(number):
    found[number] = digests()
in_threads(6, compute)
assert found == [alone()] * 6
print("done")
"""
    assert python_prints(SEVEN_CORES + code).strip() == "done"


def test_gradients_recorded_in_several_threads() -> None:
    """Each thread records a graph of its own; one that records nothing does not stop the others."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 3, 9, 8), np.float32), rng.standard_normal((5, 3, 3, 3), np.float32)

    def gradients() -> tuple[np.ndarray, np.ndarray]:
        tx, tw = pycnn.Tensor(x, requires_grad=True), pycnn.Tensor(w, requires_grad=True)
        F.conv2d(tx, tw, padding=1).sum().backward()
        assert tx.grad is not None
        assert tw.grad is not None
        return tx.grad.numpy(), tw.grad.numpy()

    expected = gradients()

    def compute(number: int) -> None:
        for _ in range(30):
            if number % 2:
                with pycnn.no_grad():
                    assert not F.conv2d(pycnn.Tensor(x, requires_grad=True), pycnn.Tensor(w)).requires_grad
            else:
                for found, wanted in zip(gradients(), expected):
                    np.testing.assert_array_equal(found, wanted)

    in_threads(6, compute)


# Processes.


@needs_fork
def test_a_pool_of_forked_workers(python_prints: Callable[..., str]) -> None:
    """As data loaders have it: forked from a process whose engine has run, all at work at once, twice each."""
    code = """
import multiprocessing
from tests.kernels.test_concurrency import PROBLEMS, alone, digest, digests
expected = alone()
assert digests() == expected
with multiprocessing.get_context("fork").Pool(4) as pool:
    for _ in range(2):
        assert pool.map(digest, PROBLEMS * 4, chunksize=1) == expected * 4
    assert digests() == expected
print("done")
"""
    assert python_prints(SEVEN_CORES + code).strip() == "done"


def test_spawned_workers(python_prints: Callable[..., str]) -> None:
    code = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from tests.kernels.test_concurrency import PROBLEMS, alone, digest
with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
    assert list(pool.map(digest, PROBLEMS)) == alone()
print("done")
"""
    assert python_prints(code).strip() == "done"


@needs_fork
def test_a_thread_pool_inside_a_forked_worker(python_prints: Callable[..., str]) -> None:
    code = """
import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from tests.kernels.test_concurrency import PROBLEMS, alone, digest, engine_threads
def work(_):
    with ThreadPoolExecutor(5) as pool:
        found = list(pool.map(digest, PROBLEMS * 3))
    return found, len(engine_threads())
expected = alone() * 3
with ThreadPoolExecutor(5) as pool:
    assert list(pool.map(digest, PROBLEMS * 3)) == expected
with multiprocessing.get_context("fork").Pool(2) as pool:
    for found, threads in pool.map(work, range(4), chunksize=1):
        assert found == expected
        assert threads == 6, threads  # its own: those of its parent do not come along
print("done")
"""
    assert python_prints(SEVEN_CORES + code).strip() == "done"


@needs_fork
def test_a_fork_in_the_middle_of_other_threads_work(python_prints: Callable[..., str]) -> None:
    """The child has none of those threads, and must not wait for what they had begun."""
    code = """
import os, signal, threading
from tests.kernels.test_concurrency import alone, digests
expected = alone()
assert digests() == expected
stop = threading.Event()
def compute():
    while not stop.is_set():
        assert digests() == expected
threads = [threading.Thread(target=compute) for _ in range(3)]
for thread in threads:
    thread.start()
try:
    for _ in range(20):
        child = os.fork()
        if child == 0:
            signal.alarm(60)  # a child that waits for ever ends with a signal
            os._exit(0 if digests() == expected else 1)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status == 0, status
finally:
    stop.set()
    for thread in threads:
        thread.join()
print("done")
"""
    assert python_prints(SEVEN_CORES + code).strip() == "done"


# Crowds of threads.


def engine_threads() -> list[str]:
    """The names of this process's threads that are the engine's."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("pycnn-")]


def threads_after_nested_use(callers: int) -> tuple[int, int]:
    """How many threads of the engine there are once a pool's threads have computed, and how many unknown to Python.

    A library that calls for a convolution in each of its own threads must not get a team of threads for each.
    """
    before = set(os.listdir("/proc/self/task"))
    with ThreadPoolExecutor(callers) as pool:
        list(pool.map(digest, PROBLEMS * 4))
        known = {str(thread.native_id) for thread in threading.enumerate()}
        return len(engine_threads()), len(set(os.listdir("/proc/self/task")) - before - known)


@needs_proc
@pytest.mark.parametrize(("setting", "most"), [(None, 6), ("3", 2), ("1", 0)])
def test_nested_use_starts_no_crowd(setting: str | None, most: int, python_prints: Callable[..., str]) -> None:
    """One thread less than cores or PYCNN_NUM_THREADS: the caller's own thread is one of them."""
    code = "from tests.kernels.test_concurrency import threads_after_nested_use; print(*threads_after_nested_use(8))"
    # SciPy, where it is installed, is imported by Numba and has threads of its own unless it is told not to.
    found = python_prints(SEVEN_CORES + code, PYCNN_NUM_THREADS=setting, OPENBLAS_NUM_THREADS="1")
    assert found.split() == [str(most), "0"]


@kernel(counts="int", seen="array", delay="int")
def crowd_kernel(a, item, worker):  # type: ignore[no-untyped-def]
    """Says how many threads were inside kernels when this piece began; ``counts`` is the address of that number."""
    a.seen[item] = _atomic_add(a.counts, 1) + 1
    x = 1.0
    for i in range(a.delay):
        x = x / 3 + i
    a.seen[item] += 0 * x
    _atomic_add(a.counts, -1)


@pytest.mark.parametrize("callers", [1, 3])
def test_launches_at_the_same_time_share_the_workers(callers: int) -> None:
    """One of them has the workers; the others do their work themselves."""
    inside = np.zeros(1, np.int64)
    seen = np.zeros((callers, 20, 40), np.float32)

    def compute(number: int) -> None:
        for pieces in seen[number]:
            block = crowd_kernel.block(counts=inside.ctypes.data, seen=pieces.ctypes.data, delay=20_000)
            launch(crowd_kernel.entry("float32"), block, pieces.size)

    in_threads(callers, compute)
    assert inside[0] == 0
    assert seen.min() >= 1
    assert seen.max() <= callers + MOST_THREADS - 1


@kernel(begun="int", go="int")
def wait_kernel(a, item, worker):  # type: ignore[no-untyped-def]
    """Counts itself at the address ``begun`` and ends when the number at the address ``go`` is not 0."""
    _atomic_add(a.begun, 1)
    while _atomic_load(a.go) == 0:
        pass


def workers_of_a_second_launch() -> set[int]:
    """Who does the pieces of a launch while another one goes on."""
    begun, go = np.zeros(1, np.int64), np.zeros(1, np.int64)
    block = wait_kernel.block(begun=begun.ctypes.data, go=go.ctypes.data)
    first = threading.Thread(target=launch, args=(wait_kernel.entry("float32"), block, 2))
    first.start()
    while begun[0] == 0:
        time.sleep(1e-3)
    too_long = threading.Timer(20, go.__setitem__, (0, 1))
    too_long.start()
    _, workers = run_slowly(items=200, parallel=True)
    assert go[0] == 0, "the second launch waited for the first one"
    too_long.cancel()
    go[0] = 1
    first.join()
    return {int(worker) for worker in workers[:-1]}


def test_a_second_launch_is_worked_off_by_its_caller(python_prints: Callable[..., str]) -> None:
    code = """
from tests.kernels.test_concurrency import run_slowly, workers_of_a_second_launch
assert any(run_slowly(items=200, parallel=True)[1].max() > 0 for _ in range(50))
print(workers_of_a_second_launch())
"""
    assert python_prints(SEVEN_CORES + code).strip() == "{0}"


@kernel(out="array")
def rise_kernel(a, item, worker):  # type: ignore[no-untyped-def]
    a.out[item] += 1


@kernel(out="array")
def sink_kernel(a, item, worker):  # type: ignore[no-untyped-def]
    a.out[item] -= 1


def launch_many(callers: int, seconds: float) -> None:
    """Each piece of each launch is done once, by the kernel that was launched, before the launch returns."""
    end = time.perf_counter() + seconds

    def compute(number: int) -> None:
        choose = random.Random(number)
        while time.perf_counter() < end:
            ours, sign = choose.choice([(rise_kernel, 1), (sink_kernel, -1)])
            out = np.zeros(choose.choice([2, 7, 30, 200]), np.float32)
            launch(ours.entry("float32"), ours.block(out=out.ctypes.data), out.size)
            assert (out == sign).all()

    in_threads(callers, compute)


def test_many_small_launches_do_not_mix(python_prints: Callable[..., str]) -> None:
    code = "from tests.kernels.test_concurrency import launch_many; launch_many(callers=5, seconds=4); print('done')"
    assert python_prints(SEVEN_CORES + code).strip() == "done"


def test_an_error_in_one_thread_is_that_thread_s_alone() -> None:
    expected = alone()
    wrong = np.zeros((1, 2, 4, 4), np.float32)

    def compute(number: int) -> None:
        for _ in range(5):
            if number == 0:
                with pytest.raises(ValueError, match="channels"):
                    F.conv2d(wrong, np.zeros((3, 5, 3, 3), np.float32))
            else:
                assert digests() == expected

    in_threads(4, compute)
