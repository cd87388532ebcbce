"""Memory for results: used again, never while anything still looks at it, counted, and limited."""

from __future__ import annotations

import gc
import pickle
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import pycnn.functional as F
from pycnn import Tensor
from pycnn_kernels import memory
from pycnn_kernels.choice import able
from pycnn_kernels.cpu.workspace import workspace
from pycnn_kernels.memory import (
    MemoryLimitError,
    aligned_empty,
    get_memory_limit,
    memory_stats,
    release_memory,
    reset_memory_stats,
    set_memory_limit,
)
from pycnn_kernels.plan import Plan
from pycnn_kernels.problem import ConvPoolProblem, ConvProblem, PoolProblem, numpy_dtype
from tests.conftest import RunPython
from tests.kernels.problems import EACH_HALF

pytestmark = pytest.mark.usefixtures("few_objects")

#: Large enough to come from the pool.
SHAPE = (64, 1024)


#: Bytes of an array of that shape in float32, which is a size of buffers.
SIZE = 256 * 1024


@pytest.fixture(autouse=True)
def _empty_pool() -> Iterator[None]:
    gc.collect()
    release_memory()
    reset_memory_stats()
    yield
    set_memory_limit(None)


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


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory of sizes that nothing asks for any more makes room for that of sizes in use."""
    size = 4 * SHAPE[0] * SHAPE[1]
    monkeypatch.setattr(memory, "_MOST_WAITING", 3 * size + 1)
    arrays = [aligned_empty(SHAPE, "float32") for _ in range(10)]
    arrays.clear()
    assert memory_stats().waiting >= 10 * size
    first = aligned_empty((2 * SHAPE[0], SHAPE[1]), "float32")
    assert memory_stats().waiting <= 3 * size + 1
    address = first.ctypes.data
    del first
    assert aligned_empty((2 * SHAPE[0], SHAPE[1]), "float32").ctypes.data == address
    release_memory()
    assert memory_stats().waiting == 0


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
from pycnn import memory_stats
from pycnn_kernels.memory import lent_bytes
assert memory_stats().lent == lent_bytes(expected.nbytes), memory_stats()
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


# -- counting ------------------------------------------------------------------------------------------------------


def test_counts() -> None:
    begin = memory_stats()
    assert begin.made == begin.reused == begin.waiting == 0
    assert begin.peak == begin.lent
    first, second = aligned_empty(SHAPE, "float32"), aligned_empty(SHAPE, "float32")
    view = first[1:]
    del first
    assert memory_stats() == begin._replace(lent=begin.lent + 2 * SIZE, peak=begin.lent + 2 * SIZE, made=2)
    del view
    assert memory_stats()[:3] == (begin.lent + SIZE, begin.lent + 2 * SIZE, SIZE)
    third = aligned_empty(SHAPE, "float32")
    assert memory_stats() == begin._replace(lent=begin.lent + 2 * SIZE, peak=begin.lent + 2 * SIZE, made=2, reused=1)
    del second, third
    reset_memory_stats()
    assert memory_stats() == begin._replace(waiting=2 * SIZE)
    release_memory()
    assert memory_stats() == begin


def test_small_arrays_are_not_counted() -> None:
    begin = memory_stats()
    kept = aligned_empty((1000,), "float32")
    assert memory_stats() == begin
    assert kept.nbytes < 32 * 1024


def test_the_peak_is_between_calls() -> None:
    """What was lent and came back before anyone asked."""
    begin = memory_stats()
    for _ in range(3):
        arrays = [aligned_empty(SHAPE, "float32") for _ in range(5)]
        arrays.clear()
    found = memory_stats()
    assert found.peak == begin.lent + 5 * SIZE
    assert (found.made, found.reused) == (5, 10)


def test_scratch_memory_is_counted_while_its_thread_lives() -> None:
    begin = memory_stats().workspace
    seen = []

    def work() -> None:
        workspace(1 << 20)
        seen.append(memory_stats().workspace)
        workspace(1 << 10)
        workspace(3 << 20)
        seen.append(memory_stats().workspace)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [begin + (1 << 20), begin + (3 << 20)]
    gc.collect()
    assert memory_stats().workspace == begin


def test_threads_leave_the_count_right() -> None:
    begin = memory_stats().lent

    def work() -> None:
        for i in range(2000):
            aligned_empty((SHAPE[0] + i % 5, 1024), "float32")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert memory_stats().lent == begin


# -- the limit -----------------------------------------------------------------------------------------------------


def test_a_limit_lets_go_of_what_waits_first() -> None:
    used = memory_stats().lent + memory_stats().workspace
    arrays = [aligned_empty(SHAPE, "float32") for _ in range(4)]
    set_memory_limit(used + 5 * SIZE)
    assert get_memory_limit() == used + 5 * SIZE
    del arrays[1:]
    assert memory_stats().waiting == 3 * SIZE
    large = aligned_empty((4 * SHAPE[0], SHAPE[1]), "float32")
    assert memory_stats().waiting == 0
    with pytest.raises(MemoryLimitError) as refused:
        aligned_empty(SHAPE, "float32")
    error = refused.value
    assert isinstance(error, MemoryError)
    assert (error.needed, error.used, error.limit) == (SIZE, used + 5 * SIZE, used + 5 * SIZE)
    assert str(error) == (
        f"a result needs {SIZE:,} bytes beside the {used + 5 * SIZE:,} in use; the memory limit is {used + 5 * SIZE:,}"
    )
    del large
    assert aligned_empty(SHAPE, "float32").shape == SHAPE
    set_memory_limit(None)
    assert aligned_empty((100, *SHAPE), "float32").nbytes == 100 * SIZE


def test_lowering_the_limit_lets_go_at_once() -> None:
    arrays = [aligned_empty(SHAPE, "float32") for _ in range(4)]
    arrays.clear()
    set_memory_limit(memory_stats().lent + memory_stats().workspace)
    assert memory_stats().waiting == 0
    with pytest.raises(MemoryLimitError):
        aligned_empty(SHAPE, "float32")


def test_the_error_survives_pickling() -> None:
    error = MemoryLimitError("softmax", 3, 2, 4)
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.needed, copy.used, copy.limit) == (str(error), 3, 2, 4)


CONV = ConvProblem(
    "float32",
    "channels_last",
    "HWIO",
    2,
    32,
    (1, 40, 40),
    32,
    (1, 3, 3),
    (1, 1, 1),
    ((0, 0), (1, 1), (1, 1)),
    (1, 1, 1),
)
POOL = PoolProblem(
    "max", "float32", "channels_last", 2, 32, (1, 40, 40), (1, 2, 2), (1, 2, 2), ((0, 0), (0, 0), (0, 0))
)
RUNS = [
    ("conv_forward", CONV),
    ("conv_forward", CONV._replace(layout="channels_first", weight_layout="OIHW")),
    ("conv_forward", CONV._replace(dtype="float16")),
    ("conv_input_gradient", CONV),
    ("conv_weight_gradient", CONV),
    ("conv_max_pool", ConvPoolProblem(CONV._replace(layout="channels_first"), POOL._replace(layout="channels_first"))),
    ("conv_max_pool_weight_gradient", ConvPoolProblem(CONV._replace(activation="relu"), POOL)),
]


@pytest.mark.parametrize("place", range(len(RUNS)))
def test_an_operation_is_refused_before_it_takes_anything(place: int) -> None:
    """By one byte; and what is not refused keeps to the limit."""
    operation, problem = RUNS[place]
    random = np.random.default_rng(0)
    for algorithm in able(operation, problem)[-3:]:
        plan = Plan("cpu", operation, problem, algorithm)
        inputs = [
            None if spec.optional else random.standard_normal(spec.shape).astype(spec.dtype) for spec in plan.inputs
        ]
        expected = plan.run(*inputs)
        workspace(1 << 24)  # of a larger operation; the run gives it up
        release_memory()
        set_memory_limit(0)
        with pytest.raises(MemoryLimitError) as refused:
            plan.run(*inputs)
        assert refused.value.needed >= sum(array.nbytes for array in expected)
        before = memory_stats()
        reset_memory_stats()
        least = refused.value.used + refused.value.needed
        set_memory_limit(least - 1)
        with pytest.raises(MemoryLimitError, match=f"{operation} needs {refused.value.needed:,} bytes beside"):
            plan.run(*inputs)
        assert memory_stats() == before._replace(peak=before.lent, made=0, reused=0)
        set_memory_limit(least)
        for found, wanted in zip(plan.run(*inputs), expected):
            np.testing.assert_array_equal(found, wanted)
        after = memory_stats()
        assert after.peak + after.workspace <= least
        set_memory_limit(None)


def test_a_refused_step_changes_nothing() -> None:
    from pycnn.optimizers import Adam

    w = Tensor(np.ones((200, 200), np.float32), requires_grad=True)
    optimizer = Adam()
    (w * w).sum().backward()
    gradient = w.grad
    optimizer.apply([w])
    w.grad = gradient
    before = w.detach().numpy().copy()
    set_memory_limit(0)
    with pytest.raises(MemoryLimitError):
        F.softmax(w, dim=1)
    np.testing.assert_array_equal(w.detach().numpy(), before)
    optimizer.apply([w])  # in place: it takes nothing
    assert (w.detach().numpy() != before).all()


@pytest.mark.parametrize("limit", [-1, 1.5, True, "1G"])
def test_limits_that_are_none(limit: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="the memory limit must be"):
        set_memory_limit(limit)
    assert get_memory_limit() is None


@pytest.mark.parametrize(("text", "limit"), [("512M", 512 << 20), ("64MB", 64_000_000), ("4096", 4096), ("", None)])
def test_the_limit_of_the_environment(text: str, limit: int | None, python_prints: Callable[..., str]) -> None:
    assert python_prints("import pycnn; print(pycnn.get_memory_limit())", PYCNN_MEMORY_LIMIT=text).strip() == str(limit)


def test_a_wrong_limit_of_the_environment(run_python: RunPython) -> None:
    done = run_python("-m", "pycnn", "info", PYCNN_MEMORY_LIMIT="much")
    assert done.returncode == 2
    assert (
        "pycnn: error: PYCNN_MEMORY_LIMIT: expected bytes, such as 4096, 64MB or 1.5GiB, received 'much'" in done.stderr
    )
