"""The simulated GPU catches what it says it catches: without that, no test that runs on it would mean much."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numba import cuda

from pycnn_kernels.cuda.launch import Task, kernel
from pycnn_kernels.cuda.ptx import load4, quotient, shift, store4_shared
from pycnn_kernels.cuda.reduce import block_reduction, plus
from tests.cuda.conftest import ON_A_GPU
from tests.cuda.simulation import DeviceArray, SimulatedAccessError, SimulatedDevice, to_device

pytestmark = pytest.mark.skipif(ON_A_GPU, reason="a GPU does not forgive what is tried here")

THREADS = 64


def _run(device: Any, factory: Any, x: np.ndarray, blocks: int = 1, given: int = 0) -> np.ndarray:
    """A kernel that has x, y of the same shape, and a number."""
    made = kernel(x="source", y="array", number="int")(factory)
    there, y = to_device(x), device.empty(x.shape, x.dtype)
    task = Task(made.variant("float32", threads=THREADS), blocks, "x y", number=given)
    task.run(there.data.ptr, y.data.ptr)
    return y.get()


def _numbers(count: int = 2 * THREADS) -> np.ndarray:
    return np.arange(count, dtype=np.float32)


def test_plain_kernel(device: Any) -> None:
    def copy(dtype: Any) -> Any:
        def body(a):
            i = cuda.blockIdx.x * THREADS + cuda.threadIdx.x
            a.y[i] = a.x[i]

        return body

    np.testing.assert_array_equal(_run(device, copy, _numbers(), 2), _numbers())


@pytest.mark.parametrize("index", [-1, 128, 1000])
def test_reads_outside_of_an_array(device: Any, index: int) -> None:
    def reads(dtype: Any) -> Any:
        def body(a):
            a.y[0] = a.x[a.number]

        return body

    with pytest.raises(SimulatedAccessError, match=rf"x\[{index}\] is outside of its 128 elements"):
        _run(device, reads, _numbers(), given=index)


def test_writes_outside_of_an_array(device: Any) -> None:
    def writes(dtype: Any) -> Any:
        def body(a):
            shift(a.y, 100)[28] = dtype(1)

        return body

    with pytest.raises(SimulatedAccessError, match=r"y\[28\] is outside"):
        _run(device, writes, _numbers())


def test_writes_to_what_is_only_read(device: Any) -> None:
    def writes(dtype: Any) -> Any:
        def body(a):
            a.x[0] = dtype(1)

        return body

    with pytest.raises(SimulatedAccessError, match="x is written, which its kernel said it only reads"):
        _run(device, writes, _numbers())


def test_vectors_that_are_not_aligned(device: Any) -> None:
    def loads(dtype: Any) -> Any:
        def body(a):
            a.y[0] = load4(a.x, a.number)[0]

        return body

    assert _run(device, loads, _numbers(), given=4)[0] == 4
    with pytest.raises(SimulatedAccessError, match=r"x\[2\] is not aligned to 16 bytes"):
        _run(device, loads, _numbers(), given=2)


def test_shared_memory_is_checked_and_fresh(device: Any) -> None:
    def fresh(dtype: Any) -> Any:
        def body(a):
            shared = cuda.shared.array(8, dtype)
            a.y[cuda.threadIdx.x] = shared[a.number]

        return body

    assert np.isnan(_run(device, fresh, _numbers())[:THREADS]).all()
    with pytest.raises(SimulatedAccessError, match=r"\[8\] is outside of an array of shape \(8,\)"):
        _run(device, fresh, _numbers(), given=8)

    def crooked(dtype: Any) -> Any:
        def body(a):
            shared = cuda.shared.array(8, dtype)
            store4_shared(shared, 2, load4(a.x, 0))

        return body

    with pytest.raises(SimulatedAccessError, match=r"\[2\] of shared memory is not aligned"):
        _run(device, crooked, _numbers())


def test_memory_that_nobody_wrote(device: Any) -> None:
    def nothing(dtype: Any) -> Any:
        def body(a):
            pass

        return body

    assert np.isnan(_run(device, nothing, _numbers())).all()
    assert (device.empty((3,), np.dtype(np.int64)).get() == -1).all()


def _reversed_in_the_block(barrier: bool) -> Any:
    def factory(dtype: Any) -> Any:
        def body(a):
            shared = cuda.shared.array(THREADS, dtype)
            shared[cuda.threadIdx.x] = a.x[cuda.threadIdx.x]
            if barrier:
                cuda.syncthreads()
            a.y[cuda.threadIdx.x] = shared[THREADS - 1 - cuda.threadIdx.x]

        return body

    return factory


def test_a_forgotten_barrier_shows_in_either_order() -> None:
    found = [_run_on(order, _reversed_in_the_block(True)) for order in (1, -1)]
    np.testing.assert_array_equal(found[0], found[1])
    found = [_run_on(order, _reversed_in_the_block(False)) for order in (1, -1)]
    assert all(np.isnan(each[:THREADS]).any() for each in found)
    assert not np.array_equal(*found, equal_nan=True)


def _run_on(order: int, factory: Any) -> np.ndarray:
    device = SimulatedDevice(order)
    from pycnn_kernels.cuda import device as device_module

    before = device_module._current
    device_module._current = lambda: device
    try:
        return _run(device, factory, _numbers())
    finally:
        device_module._current = before


def test_barriers_that_some_threads_never_reach(device: Any) -> None:
    def leaves(dtype: Any) -> Any:
        def body(a):
            if cuda.threadIdx.x >= 3:
                cuda.syncthreads()
                a.y[cuda.threadIdx.x] = a.x[0]

        return body

    with pytest.raises(SimulatedAccessError, match="wait for others of their block that wait elsewhere or have ended"):
        _run(device, leaves, _numbers())


def test_sums_of_a_block(device: Any) -> None:
    def sums(dtype: Any) -> Any:
        total = block_reduction(dtype, THREADS, plus, 0)

        def body(a):
            a.y[cuda.threadIdx.x] = total(a.x[cuda.threadIdx.x]) + total(a.x[THREADS + cuda.threadIdx.x])

        return body

    np.testing.assert_array_equal(_run(device, sums, _numbers())[:THREADS], _numbers().sum())


def test_integers_of_32_bits(device: Any) -> None:
    def divides(dtype: Any) -> Any:
        def body(a):
            a.y[0] = quotient(a.number, 3)

        return body

    assert _run(device, divides, _numbers(), given=10)[0] == 3
    with pytest.raises(SimulatedAccessError, match="-1 is divided as an integer of 32 bits without a sign"):
        _run(device, divides, _numbers(), given=-1)
    with pytest.raises(SimulatedAccessError, match="number is 2147483648, which 32 bits do not hold"):
        _run(device, divides, _numbers(), given=1 << 31)


def test_mathematics_has_no_exceptions(device: Any) -> None:
    def overflows(dtype: Any) -> Any:
        def body(a):
            a.y[0] = math.exp(a.x[127] * a.x[127])
            a.y[1] = math.log(a.x[0])

        return body

    assert _run(device, overflows, _numbers())[:2].tolist() == [math.inf, -math.inf]


def test_addresses_that_are_not_alive(device: Any) -> None:
    def reads(dtype: Any) -> Any:
        def body(a):
            a.y[0] = a.x[0]

        return body

    made = kernel(x="source", y="array")(reads).variant("float32", threads=32)
    gone = to_device(_numbers()).data.ptr
    with pytest.raises(SimulatedAccessError, match="nothing that is alive lies at the address"):
        Task(made, 1, "x y").run(gone, to_device(_numbers()).data.ptr)


def test_arrays_are_not_numpys() -> None:
    x = to_device(_numbers(6).reshape(2, 3))
    with pytest.raises(TypeError, match="Implicit conversion to a NumPy array is not allowed"):
        np.asarray(x)
    with pytest.raises(TypeError, match="Unsupported type"):
        x + np.ones(3, np.float32)
    assert isinstance(x + 1, DeviceArray)
    assert isinstance(np.sum(x, axis=0), DeviceArray)
    view = x[1]
    view[...] = 0
    assert x.get().tolist() == [[0, 1, 2], [0, 0, 0]]
    assert view.data.ptr == x.data.ptr + 12
