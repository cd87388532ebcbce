"""Memory for results: used again, and never while anything still looks at it."""

from __future__ import annotations

import gc
import signal
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pycnn.functional as F
from pycnn import Tensor
from pycnn_kernels import memory
from pycnn_kernels.memory import aligned_empty, release_memory
from pycnn_kernels.problem import numpy_dtype
from tests.conftest import RunPython
from tests.kernels.problems import EACH_HALF

#: Large enough to come from the pool.
SHAPE = (64, 1024)


@pytest.fixture(autouse=True)
def _empty_pool() -> None:
    release_memory()


@pytest.mark.parametrize("shape", [(), (0,), (3,), (1000,), (5000, 3), (2, 100, 100), (1 << 20,)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint16", *EACH_HALF])
def test_arrays_are_ordinary(shape: tuple[int, ...], dtype: str) -> None:
    a = aligned_empty(shape, numpy_dtype(dtype))
    assert type(a) is np.ndarray
    assert a.shape == shape
    assert a.dtype == dtype
    assert a.flags.c_contiguous
    assert a.flags.aligned
    assert a.flags.writeable
    a[...] = 3
    assert (a == 3).all()
    if a.nbytes >= 32 * 1024:
        assert a.ctypes.data % 64 == 0


def test_memory_is_used_again() -> None:
    first = aligned_empty(SHAPE, "float32")
    address = first.ctypes.data
    assert aligned_empty(SHAPE, "float32").ctypes.data != address
    del first
    assert aligned_empty(SHAPE, "float32").ctypes.data == address


@pytest.mark.parametrize("half", EACH_HALF)
def test_memory_of_halves_is_used_again(half: str) -> None:
    dtype = numpy_dtype(half)
    first = aligned_empty(SHAPE, dtype)
    address = first.ctypes.data
    part = first[1:]
    del first
    assert aligned_empty(SHAPE, dtype).ctypes.data != address
    del part
    assert aligned_empty(SHAPE, dtype).ctypes.data == address


VIEWS: dict[str, Callable[[np.ndarray], Any]] = {
    "slice": lambda a: a[3:5],
    "element": lambda a: a[0, :1],
    "reshape": lambda a: a.reshape(-1),
    "transpose": lambda a: a.T,
    "view": lambda a: a.view(np.uint8),
    "view of a view": lambda a: a[1:][2:].T[::2],
    "asarray": lambda a: np.asarray(a),
    "broadcast": lambda a: np.broadcast_to(a, (2, *a.shape)),
    "iterator": lambda a: iter(a),
    "memoryview": lambda a: memoryview(a),
    "frombuffer": lambda a: np.frombuffer(a, np.float32),
    "ctypes": lambda a: a.ctypes.data_as(__import__("ctypes").c_void_p),
    "tensor": lambda a: Tensor(a)[2:],
    "list": lambda a: [a],
}


@pytest.mark.parametrize("name", VIEWS)
def test_memory_is_not_used_again_while_something_looks_at_it(name: str) -> None:
    first = aligned_empty(SHAPE, "float32")
    address = first.ctypes.data
    view = VIEWS[name](first)
    del first
    gc.collect()
    assert aligned_empty(SHAPE, "float32").ctypes.data != address
    del view
    gc.collect()
    addresses = {a.ctypes.data for a in [aligned_empty(SHAPE, "float32") for _ in range(3)]}
    assert address in addresses


def waiting_bytes() -> int:
    return sum(size * len(queue) for size, queue in memory._pool.waiting.items())


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory of sizes that nothing asks for any more makes room for that of sizes in use."""
    size = 4 * SHAPE[0] * SHAPE[1]
    monkeypatch.setattr(memory, "_MOST_WAITING", 3 * size + 1)
    arrays = [aligned_empty(SHAPE, "float32") for _ in range(10)]
    arrays.clear()
    assert waiting_bytes() >= 10 * size
    first = aligned_empty((2 * SHAPE[0], SHAPE[1]), "float32")
    assert waiting_bytes() <= 3 * size + 1
    address = first.ctypes.data
    del first
    assert aligned_empty((2 * SHAPE[0], SHAPE[1]), "float32").ctypes.data == address
    release_memory()
    assert waiting_bytes() == 0


INTERRUPTED = """
import random, signal, time
import numpy as np
import pycnn.functional as F

class Interrupt(Exception):
    pass

armed = False

def interrupt(*_):
    global armed
    signal.setitimer(signal.ITIMER_REAL, random.random() * 0.002 + 1e-5)
    if armed:
        armed = False
        raise Interrupt

x, w = np.ones((4, 32, 32, 32), np.float32), np.ones((32, 32, 3, 3), np.float32)
expected = F.conv2d(x, w)
signal.signal(signal.SIGALRM, interrupt)
end, caught = time.monotonic() + 2, 0
signal.setitimer(signal.ITIMER_REAL, 0.001)
while time.monotonic() < end:
    try:
        armed = True
        while time.monotonic() < end:
            F.conv2d(x, w)
        armed = False
    except Interrupt:
        caught += 1
signal.signal(signal.SIGALRM, signal.SIG_IGN)
signal.setitimer(signal.ITIMER_REAL, 0)
assert (F.conv2d(x, w) == expected).all()
print("caught", caught)
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timers")
def test_interrupts_at_any_moment(run_python: RunPython) -> None:
    """Ctrl-C may come anywhere: nothing hangs, and none is lost in the return of a buffer."""
    done = run_python("-c", INTERRUPTED)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[1]) > 10
    assert "Exception ignored" not in done.stderr


def test_results_that_are_kept_stay_as_they_are() -> None:
    """Kept views of results of many sizes, checked after the memory of all others went round."""
    random = np.random.default_rng(0)
    kept: list[tuple[np.ndarray, np.ndarray]] = []
    w = random.standard_normal((8, 4, 3, 3)).astype(np.float32)
    for _ in range(120):
        side = int(random.integers(30, 60))
        y = F.conv2d(random.standard_normal((2, 4, side, side)).astype(np.float32), w)
        if random.random() < 0.3:
            view = [y, y[0, ::2], y.transpose(1, 0, 2, 3), y[..., 1:]][random.integers(4)]
            kept.append((view, view.copy()))
        if len(kept) > 10:
            kept.pop(int(random.integers(len(kept))))
        for view, copy in kept:
            np.testing.assert_array_equal(view, copy)


def test_a_graph_keeps_what_its_gradients_need() -> None:
    random = np.random.default_rng(0)
    x, w = random.standard_normal((2, 4, 40, 40)), random.standard_normal((4, 4, 3, 3))

    def gradient(disturb: bool) -> np.ndarray:
        weights = Tensor(w, requires_grad=True)
        y = F.relu(F.conv2d(Tensor(x), weights))
        y = F.max_pool2d(F.conv2d(y, weights, activation="relu"), 2)
        if disturb:
            for _ in range(20):
                F.conv2d(np.full_like(x, np.nan), w)
        (y * y).sum().backward()
        return weights.grad.data

    np.testing.assert_array_equal(gradient(disturb=True), gradient(disturb=False))


def test_many_threads() -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for i in range(200):
                a, b = aligned_empty(SHAPE, "float32"), aligned_empty((SHAPE[0] + i % 3, 1024), "float32")
                a[...], b[...] = number, -number
                assert (a == number).all()
                assert (b == -number).all()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]
