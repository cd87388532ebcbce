"""Threads: how many, from where, and that they cannot be seen in results."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

import pycnn
from pycnn_kernels.cpu.inlined import inlined
from pycnn_kernels.cpu.launch import kernel, launch
from pycnn_kernels.plan import plan_for
from tests.kernels.problems import MOST_THREADS, conv_arrays, conv_problem, run_conv

#: First line of a process that takes the machine for one of seven cores.
SEVEN_CORES = "import os; os.sched_getaffinity = lambda process: range(7)\n"


@pytest.mark.parametrize("n", range(1, MOST_THREADS + 1))
def test_set_num_threads(n: int) -> None:
    pycnn.set_num_threads(n)
    assert pycnn.get_num_threads() == n
    pycnn.set_num_threads(np.int64(n))  # type: ignore[arg-type]
    assert pycnn.get_num_threads() == n


@pytest.mark.parametrize("n", [0, -1, MOST_THREADS + 1, 1.0, "2", None, True])
def test_impossible_numbers_of_threads(n: object) -> None:
    before = pycnn.get_num_threads()
    message = f"the number of threads must be an integer from 1 to {MOST_THREADS}; received {n!r}"
    with pytest.raises(ValueError, match=re.escape(message)):
        pycnn.set_num_threads(n)  # type: ignore[arg-type]
    assert pycnn.get_num_threads() == before


PRINT_THREADS = "import pycnn; print(pycnn.get_num_threads())"


@pytest.mark.parametrize(("wanted", "found"), [(None, 7), ("", 7), ("1", 1), ("03", 3), ("64", 7)])
def test_number_of_threads_from_the_environment(
    wanted: str | None, found: int, python_prints: Callable[..., str]
) -> None:
    """At most as many as there are cores."""
    assert int(python_prints(SEVEN_CORES + PRINT_THREADS, PYCNN_NUM_THREADS=wanted)) == found


@pytest.mark.parametrize("wanted", ["0", "-1", "+2", "two", "²", "1.5", "2,4", " "])
def test_impossible_numbers_from_the_environment(wanted: str, run_python: Callable[..., object]) -> None:
    done = run_python("-c", PRINT_THREADS, PYCNN_NUM_THREADS=wanted)
    assert done.returncode != 0
    assert f"PYCNN_NUM_THREADS must be a positive integer; received {wanted!r}" in done.stderr


def test_a_part_of_kernels_cannot_be_called_from_python() -> None:
    """It has no machine code of its own."""

    @inlined
    def double(x):  # type: ignore[no-untyped-def]
        return 2 * x

    with pytest.raises(TypeError):
        double(1)
    with pytest.raises(TypeError):  # now that it is compiled
        double(1)


def test_unknown_fields_of_a_block() -> None:
    @kernel(x="array", size="int")
    def nothing_kernel(a, item, worker):  # type: ignore[no-untyped-def]
        pass

    with pytest.raises(TypeError, match=r"nothing_kernel has the fields x, size; received width"):
        nothing_kernel.block(x=0, width=3)


@kernel(done="array", workers="array", delay="int")
def slow_kernel(a, item, worker):  # type: ignore[no-untyped-def]
    """A long piece of work, whose last act is to count itself and to say who did it."""
    x = 1.0
    for i in range(a.delay):
        x = x / 3 + i
    a.workers[item] = worker
    a.done[item] += 1 + 0 * x


def run_slowly(items: int, parallel: bool) -> tuple[np.ndarray, np.ndarray]:
    done, workers = np.zeros(items + 1, np.float32), np.zeros(items + 1, np.float32)
    block = slow_kernel.block(done=done.ctypes.data, workers=workers.ctypes.data, delay=20_000)
    launch(slow_kernel.entry("float32"), block, items, parallel=parallel)
    return done, workers


@pytest.mark.parametrize("items", [0, 1, 2, 7, 100])
@pytest.mark.parametrize("parallel", [False, True])
def test_a_launch_ends_when_every_piece_is_done(items: int, parallel: bool) -> None:
    """Each once, by one of the threads that the launch may use."""
    for _ in range(10):
        done, workers = run_slowly(items, parallel)
        np.testing.assert_array_equal(done, [1] * items + [0])
        assert workers.max() < (min(MOST_THREADS, max(items, 1)) if parallel else 1)


@pytest.mark.skipif(MOST_THREADS == 1, reason="this machine has one core")
def test_each_thread_begins_with_its_own_share() -> None:
    """In one of some launches: another process may keep a worker off its core for the whole of one."""
    pycnn.set_num_threads(2)
    for _ in range(200):
        _, workers = run_slowly(64, parallel=True)
        if (workers[:8] == 0).all() and (workers[32:40] == 1).all():
            return
    pytest.fail("the first pieces of a share were never its own thread's")


@pytest.mark.skipif(MOST_THREADS == 1, reason="this machine has one core")
def test_work_is_shared() -> None:
    """In one of some launches: another process may keep a worker off its core for the whole of one."""
    assert any(len(set(run_slowly(items=400, parallel=True)[1][:-1])) > 1 for _ in range(50))


PROBLEM = conv_problem(N=4, C=16, K=48, size=20, padding=1, bias=True, layout="channels_first", weight_layout="OIHW")


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Run ``work(number)`` in Python threads that start together; an error in one is an error here."""
    failures: list[BaseException] = []
    start = threading.Barrier(count)

    def begin(number: int) -> None:
        try:
            start.wait()
            work(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=begin, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def test_concurrent_launches() -> None:
    """Several Python threads at once: each has a workspace of its own."""
    arrays = conv_arrays(PROBLEM)
    expected = run_conv(PROBLEM, **arrays)

    def compute(_: int) -> None:
        for _ in range(20):
            for name, array in run_conv(PROBLEM, **arrays).items():
                np.testing.assert_array_equal(array, expected[name])

    in_threads(6, compute)


def test_many_launches_with_and_without_pauses(python_prints: Callable[..., str]) -> None:
    """Workers fall asleep, wake, and meet jobs of other sizes; more of them than this machine has cores."""
    code = """
from tests.kernels import test_launch
test_launch.launch_and_pause()
print("done")
"""
    assert python_prints(SEVEN_CORES + code).strip() == "done"


def launch_and_pause() -> None:
    problems = [conv_problem(N=N, C=8, K=16, size=18, padding=1) for N in (1, 3, 8)]
    plans = [plan_for("conv_forward", p) for p in problems]
    inputs = [[conv_arrays(p)["x"], conv_arrays(p)["w"], None] for p in problems]
    expected = [plan.run(*arrays)[0] for plan, arrays in zip(plans, inputs)]

    def compute(number: int) -> None:
        random = np.random.default_rng(number)
        for _ in range(400):
            pycnn.set_num_threads(int(random.integers(1, 8)))
            which = random.integers(len(plans))
            np.testing.assert_array_equal(plans[which].run(*inputs[which])[0], expected[which])
            if random.random() < 0.1:
                time.sleep(random.choice([50e-6, 300e-6, 2e-3]))

    compute(0)
    in_threads(3, compute)


def test_more_threads_than_cores(python_prints: Callable[..., str]) -> None:
    code = """
import hashlib
from tests.kernels.problems import conv_arrays, each_number_of_threads, run_conv
from tests.kernels.test_launch import PROBLEM
for threads in each_number_of_threads():
    print(hashlib.sha256(b"".join(a.tobytes() for a in run_conv(PROBLEM, **conv_arrays(PROBLEM)).values())).hexdigest())
"""
    printed = python_prints(SEVEN_CORES + code).split()
    assert len(printed) == 7
    assert len(set(printed)) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("grandchild", [False, True])
def test_a_forked_child_computes(grandchild: bool, python_prints: Callable[..., str]) -> None:
    """After its parent used threads, which a fork does not bring along."""
    code = f"""
import os, numpy as np, pycnn
from tests.kernels.problems import conv_arrays, run_conv
from tests.kernels.test_launch import PROBLEM
arrays = conv_arrays(PROBLEM)
expected = run_conv(PROBLEM, **arrays)
def check():
    for _ in range(5):
        for name, array in run_conv(PROBLEM, **arrays).items():
            np.testing.assert_array_equal(array, expected[name])
def fork(work):
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as error:
            print(error)
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
def in_child():
    check()
    if {grandchild}:
        fork(check)
fork(in_child)
check()
print("done", pycnn.get_num_threads())
"""
    assert python_prints(SEVEN_CORES + code).strip() == "done 7"


def test_the_interpreter_ends_while_workers_look_out(python_prints: Callable[..., str]) -> None:
    code = """
from tests.kernels.problems import conv_arrays, run_conv
from tests.kernels.test_launch import PROBLEM
run_conv(PROBLEM, **conv_arrays(PROBLEM))
"""
    for pause in ("", "import time; time.sleep(0.1)\n"):
        python_prints(SEVEN_CORES + code + pause)


def test_import_compiles_and_starts_nothing(python_prints: Callable[..., str], tmp_path: object) -> None:
    """Neither kernels nor threads: they come with the first operation."""
    code = "import pycnn, threading, os; print(threading.active_count(), os.listdir(os.environ['PYCNN_CACHE_DIR']))"
    assert python_prints(code, PYCNN_CACHE_DIR=str(tmp_path)).strip() == "1 []"
