"""Threads: how many, from where, and that they cannot be seen in results."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable

import numba
import numpy as np
import pytest

import pycnn
from pycnn_kernels.cpu.launch import kernel, threading_layer
from tests.kernels.problems import conv_arrays, conv_problem, run_conv

MOST = numba.config.NUMBA_NUM_THREADS


@pytest.mark.parametrize("n", range(1, MOST + 1))
def test_set_num_threads(n: int) -> None:
    pycnn.set_num_threads(n)
    assert pycnn.get_num_threads() == n
    pycnn.set_num_threads(np.int64(n))
    assert pycnn.get_num_threads() == n


@pytest.mark.parametrize("n", [0, -1, MOST + 1, 1.0, "2", None, True])
def test_impossible_numbers_of_threads(n: object) -> None:
    before = pycnn.get_num_threads()
    message = f"the number of threads must be an integer from 1 to {MOST}; received {n!r}"
    with pytest.raises(ValueError, match=re.escape(message)):
        pycnn.set_num_threads(n)  # type: ignore[arg-type]
    assert pycnn.get_num_threads() == before


PRINT_THREADS = "import pycnn; print(pycnn.get_num_threads())"


@pytest.mark.parametrize(("wanted", "found"), [(None, 3), ("1", 1), ("3", 3), ("64", 3)])
def test_number_of_threads_from_the_environment(
    wanted: str | None, found: int, python_prints: Callable[..., str]
) -> None:
    """At most as many as Numba starts with."""
    printed = python_prints(PRINT_THREADS, PYCNN_NUM_THREADS=wanted, NUMBA_NUM_THREADS="3")
    assert int(printed) == found


@pytest.mark.parametrize("wanted", ["0", "-1", "two", "", "1.5"])
def test_impossible_numbers_from_the_environment(wanted: str, run_python: Callable[..., object]) -> None:
    done = run_python("-c", PRINT_THREADS, PYCNN_NUM_THREADS=wanted)
    assert done.returncode != 0
    assert f"PYCNN_NUM_THREADS must be a positive integer; received {wanted!r}" in done.stderr


def test_unknown_fields_of_a_block() -> None:
    @kernel(x="array", size="int")
    def nothing_kernel(a, item, worker):  # type: ignore[no-untyped-def]
        pass

    with pytest.raises(TypeError, match=r"nothing_kernel has the fields x, size; received width"):
        nothing_kernel.block(x=0, width=3)


def test_threading_layer() -> None:
    assert threading_layer() in ("omp", "tbb", "workqueue")


PROBLEM = conv_problem(N=4, C=16, K=48, size=20, padding=1, bias=True, layout="channels_first", weight_layout="OIHW")


def test_concurrent_launches() -> None:
    """Several Python threads at once: each has a workspace of its own, and the kernels' threads serve them all."""
    arrays = conv_arrays(PROBLEM)
    expected = run_conv(PROBLEM, **arrays)
    failures: list[BaseException] = []
    start = threading.Barrier(6)

    def compute() -> None:
        try:
            start.wait()
            for _ in range(20):
                for name, array in run_conv(PROBLEM, **arrays).items():
                    np.testing.assert_array_equal(array, expected[name])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=compute) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]


def test_more_threads_than_cores(python_prints: Callable[..., str]) -> None:
    """The bits of every number of threads in processes of their own, on any machine."""
    code = """
import hashlib, pycnn
from tests.kernels.problems import conv_arrays, run_conv
from tests.kernels.test_launch import PROBLEM
for threads in (1, 2, 3, 7):
    pycnn.set_num_threads(threads)
    print(hashlib.sha256(b"".join(a.tobytes() for a in run_conv(PROBLEM, **conv_arrays(PROBLEM)).values())).hexdigest())
"""
    assert len(set(python_prints(code, NUMBA_NUM_THREADS="7").split())) == 1


@pytest.mark.parametrize("layer", ["default", "workqueue"])
def test_layers(layer: str, python_prints: Callable[..., str]) -> None:
    """Numba's own layer, workqueue, aborts when two Python threads enter it; there launches take turns."""
    code = """
import pycnn_kernels.cpu.launch as launch
from tests.kernels.test_launch import test_concurrent_launches
test_concurrent_launches()
print(launch.threading_layer())
"""
    layers = ("omp", "tbb", "workqueue") if layer == "default" else (layer,)
    assert python_prints(code, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS="2").strip() in layers


@pytest.mark.skipif("not hasattr(__import__('os'), 'fork')", reason="this system has no fork")
@pytest.mark.parametrize("layer", ["default", "workqueue"])
@pytest.mark.parametrize("grandchild", [False, True])
def test_a_forked_child_computes(layer: str, grandchild: bool, python_prints: Callable[..., str]) -> None:
    """After its parent used threads, which a fork does not bring along."""
    code = f"""
import os, numpy as np, pycnn
from tests.kernels.problems import conv_arrays, run_conv
from tests.kernels.test_launch import PROBLEM
arrays = conv_arrays(PROBLEM)
expected = run_conv(PROBLEM, **arrays)
def check():
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
    assert python_prints(code, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS="2").strip() == "done 2"


def test_import_compiles_and_starts_nothing(python_prints: Callable[..., str], tmp_path: object) -> None:
    """Neither kernels nor threads: they come with the first operation."""
    code = "import pycnn, threading, os; print(threading.active_count(), os.listdir(os.environ['PYCNN_CACHE_DIR']))"
    assert python_prints(code, PYCNN_CACHE_DIR=str(tmp_path)).strip() == "1 []"
