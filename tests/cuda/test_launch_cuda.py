"""From a kernel to a launch: variants, the cache of cubins, and what reaches the driver, without a GPU."""

from __future__ import annotations

import ctypes
import struct
import sys
import threading
import types
import warnings
from array import array
from typing import Any, ClassVar

import numpy as np
import pytest
from numba import cuda
from numba.cuda import types as numba_types

from pycnn_kernels.cuda import compile as compiling
from pycnn_kernels.cuda import device as device_module
from pycnn_kernels.cuda.compile import cubin, cubin_cache_dir, cubins, device_function
from pycnn_kernels.cuda.device import CudaError, Device
from pycnn_kernels.cuda.launch import Kernel, Task, kernel
from pycnn_kernels.cuda.ptx import is_there, load4, store4
from tests.cuda.sass import count, sass, spills


@device_function
def _square(x: Any) -> Any:
    return x * x


@kernel(x="source", bias="source", y="array", count="int", factor="float")
def scaled_kernel(dtype: Any, threads: int, power: int) -> Any:
    """``y = factor * x ** power + bias``, a thread for four elements."""

    def body(a):
        i = 4 * (cuda.blockIdx.x * threads + cuda.threadIdx.x)
        if i < a.count:
            p, q, r, s = load4(a.x, i)
            if power == 2:
                p, q, r, s = _square(p), _square(q), _square(r), _square(s)
            added = a.bias[0] if is_there(a.bias) else dtype(0)
            store4(a.y, i, (a.factor * p + added, a.factor * q + added, a.factor * r + added, a.factor * s + added))

    return body


def _variant(power: int = 2, **options: Any) -> Any:
    return scaled_kernel.variant("float32", threads=32, power=power, **options)


@pytest.mark.parametrize("bias", [None, 10.0])
def test_task(device: Any, bias: float | None) -> None:
    x = device.xp.asarray(np.arange(200, dtype=np.float32))
    y = device.empty((200,), np.dtype(np.float32))
    added = device.xp.asarray(np.array([bias or 0], np.float32))
    task = Task(_variant(), 2, "x bias y factor", count=200)
    task.run(device.address(x), device.address(added) if bias else 0, device.address(y), 0.5)
    np.testing.assert_array_equal(y.get(), 0.5 * np.arange(200.0) ** 2 + (bias or 0))


def test_variants_are_made_once() -> None:
    assert _variant() is _variant()
    assert _variant() is not _variant(3)
    assert repr(_variant()).endswith("scaled_kernel(float32, 32 threads, power=2)")
    with pytest.raises(ValueError, match="can be compiled for float32, float64; received 'float16'"):
        scaled_kernel.variant("float16", power=2)
    with pytest.raises(TypeError, match="has the fields x, bias, y, count, factor; received z"):
        scaled_kernel.fields.slot("z")


def test_code() -> None:
    text = sass(_variant())
    assert count(text, r"LDG\.E\.128") == 1
    assert count(text, r"STG\.E\.128") == 1
    assert not spills(text)
    assert not count(text, r"\bCALL\b")
    assert count(text, r"FMUL|FFMA") >= 8  # the branch of the power was taken by the compiler


def test_functions_are_made_once() -> None:
    """Whose code and constants are equal: True is another constant than 1 is, and 0.0 another than -0.0."""

    def plus(constant: Any) -> Any:
        @device_function
        def added(x: Any) -> Any:
            return x + constant

        return added

    assert plus(1) is plus(1)
    constants = [1, True, 1.0, np.float32(1), 0.0, -0.0, (1,), (True,), numba_types.float32, _square, [1], "1"]
    assert len({id(each) for each in [plus(constant) for constant in constants]}) == len(constants)
    assert plus([1]) is not plus([1])  # which has no hash


def test_cubins_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(compiling, "cubin_cache_dir", lambda: tmp_path)
    compiled: list[tuple[Any, ...]] = []

    def one_more(variant: Any, architectures: Any) -> list[compiling.Cubin]:
        compiled.extend((variant, each) for each in architectures)
        return [compiling.Cubin("name", b"code") for _ in architectures]

    monkeypatch.setattr(compiling, "compiled", one_more)
    assert cubin(_variant(), "sm_90a") == cubin(_variant(), "sm_90a") == ("name", b"code")
    assert len(compiled) == 1
    cubin(_variant(), "sm_80")
    cubins(_variant(3), ["sm_90a", "sm_80"])
    cubins(_variant(2), ["sm_90a", "sm_80"])
    assert len(compiled) == 4
    cubins(_variant(2), ["sm_80", "sm_89"])
    assert compiled[4:] == [(_variant(2), "sm_89")]
    for file in tmp_path.glob("*.cubin"):
        file.write_bytes(file.read_bytes()[:-1])
    with pytest.warns(RuntimeWarning, match="is damaged; it is compiled again"):
        assert cubin(_variant(), "sm_90a").code == b"code"
    assert len(compiled) == 6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cubin(_variant(), "sm_90a")


def test_a_cache_that_cannot_be_written_costs_a_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(compiling, "cubin_cache_dir", lambda: tmp_path / "file" / "folder")
    monkeypatch.setattr(compiling, "compiled", lambda *each: [compiling.Cubin("name", b"code")])
    with pytest.warns(RuntimeWarning, match="compiled kernels cannot be kept in .*Set PYCNN_CACHE_DIR"):
        assert cubin(_variant(), "sm_90a").code == b"code"


def test_the_cache_knows_source_and_compiler() -> None:
    name = cubin_cache_dir().name
    assert compiling.source_hash() in name
    assert "0.30.4" in name


class _Driver(types.ModuleType):
    """CuPy's driver, which notes what would be launched."""

    def __init__(self) -> None:
        super().__init__("cupy_backends.cuda.api.driver")
        self.launches: list[tuple[Any, ...]] = []

    def launchKernel(self, *arguments: Any) -> None:
        *numbers, extra = arguments
        pointer_tag, block, size_tag, size, end = (ctypes.c_uint64 * 5).from_address(extra)
        assert (pointer_tag, size_tag, end) == (1, 2, 0)  # as cuda.h numbers CU_LAUNCH_PARAM_...
        bytes_of_block = ctypes.c_size_t.from_address(size).value
        self.launches.append((*numbers, ctypes.string_at(block, bytes_of_block)))


class _Module:
    loaded: ClassVar[list[bytes]] = []

    def load(self, code: bytes) -> None:
        self.loaded.append(code)

    def get_function(self, name: str) -> Any:
        return types.SimpleNamespace(ptr=77, name=name)


class _Here:
    def __init__(self, number: int) -> None:
        pass

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: Any) -> None:
        pass


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> tuple[Device, _Driver]:
    """A device whose CuPy and driver are not there."""
    driver = _Driver()
    package = types.ModuleType("cupy_backends.cuda.api")
    package.driver = driver  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cupy_backends.cuda.api", package)
    runtime = types.SimpleNamespace(
        getDeviceProperties=lambda number: {"name": b"NVIDIA H200", "major": 9, "minor": 0, "multiProcessorCount": 132}
    )
    namespace = types.SimpleNamespace(
        runtime=runtime,
        function=types.SimpleNamespace(Module=_Module),
        Device=_Here,
        get_current_stream=lambda: types.SimpleNamespace(ptr=123),
    )
    monkeypatch.setattr(device_module, "_cupy", lambda: types.SimpleNamespace(cuda=namespace))
    monkeypatch.setattr(_Module, "loaded", [])
    return Device(0), driver


def test_what_reaches_the_driver(fake: tuple[Device, _Driver]) -> None:
    device, driver = fake
    assert (device.name, device.architecture, device.processors) == ("NVIDIA H200", "sm_90a", 132)
    launch = device.load(_variant())
    launch((5, 2), array("q", [1000, 0, 3000, 7, struct.unpack("q", struct.pack("d", 0.5))[0]]))
    ((handle, *grid, shared, stream, parameters, block),) = driver.launches
    assert (handle, grid) == (77, [5, 2, 1, 32, 1, 1])
    assert (shared, stream, parameters) == (0, 123, 0)
    assert struct.unpack("qqqqd", block) == (1000, 0, 3000, 7, 0.5)
    assert _Module.loaded == [cubin(_variant(), "sm_90a").code]


def test_threads_that_need_a_kernel_at_once_load_it_once(fake: tuple[Device, _Driver]) -> None:
    device, _ = fake
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(device.load(_variant()))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1
    assert len(_Module.loaded) == 1


def test_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    device_module._cupy.cache_clear()
    with pytest.raises(CudaError, match="cupy, which is not installed"):
        device_module.current_device()


def test_kernels_say_what_they_are() -> None:
    assert isinstance(scaled_kernel, Kernel)
    assert "a thread for four elements" in (scaled_kernel.__doc__ or "")
