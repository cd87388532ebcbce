"""The GPU: its arrays, its compiled kernels, and launching them on CuPy's current stream.

What plans ask of their arrays (``cpu/arrays.py``) a :class:`Device` answers for those in its memory.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from array import array
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pycnn_kernels.memory import Shape


class CudaError(RuntimeError):
    """CUDA cannot be used here; the message says what is missing and how to get it."""


#: The end of messages about what is missing.
HOW_TO_INSTALL = "pip install 'pycnn[cuda]' installs what it needs; backend='cpu' needs none of it"


@functools.cache
def _cupy() -> Any:
    """CuPy with at least one GPU.

    Raises:
        CudaError: it is not installed, or has no driver or no GPU.
    """
    try:
        import cupy
    except ImportError as error:
        raise CudaError(
            f"backend 'cuda' needs the package cupy, which is not installed ({error}); {HOW_TO_INSTALL}"
        ) from None
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise CudaError(
            f"backend 'cuda' needs an NVIDIA GPU and its driver, release 580 or newer for CUDA 13; CUDA says: {error}. "
            "backend='cpu' needs neither"
        ) from None
    if not count:
        raise CudaError("backend 'cuda' needs an NVIDIA GPU; CUDA sees none. backend='cpu' needs none")
    return cupy


#: What every array of a kernel begins at a multiple of, so that a thread can move 16 bytes at once.
_ALIGNMENT = 16

#: One buffer as the parameters of a launch, in ``extra`` of ``cuLaunchKernel``: CU_LAUNCH_PARAM_BUFFER_POINTER,
#: CU_LAUNCH_PARAM_BUFFER_SIZE and CU_LAUNCH_PARAM_END. Source: NVIDIA, "CUDA Driver API", cuda.h.
_BUFFER, _BUFFER_SIZE, _END = 1, 2, 0


class Device:
    """One GPU, through CuPy.

    Attributes:
        number: CuPy's number of the GPU.
        name: for example "NVIDIA H200".
        architecture: what kernels are compiled for, for example "sm_90a".
        processors: its multiprocessors.
        xp: the array module, CuPy.
    """

    def __init__(self, number: int) -> None:
        self.xp = _cupy()
        self.number = number
        properties = self.xp.cuda.runtime.getDeviceProperties(number)
        self.name = properties["name"].decode()
        self.architecture = architecture_of(properties["major"], properties["minor"])
        self.processors = properties["multiProcessorCount"]
        self._loaded: dict[Any, Callable[..., None]] = {}
        self._loading = threading.Lock()

    @property
    def KIND(self) -> str:
        """What messages call an array of it."""
        return f"CuPy array on GPU {self.number}"

    def machine(self) -> str:
        """What timings of plans belong to."""
        return f"cuda on {self.name}"

    def is_array(self, candidate: Any) -> bool:
        """Whether it is an array in this GPU's memory."""
        return isinstance(candidate, self.xp.ndarray) and candidate.data.device_id == self.number

    def usable_addresses(self, specs: Sequence[Any], given: Sequence[Any]) -> list[int]:
        """The addresses of arrays that are what their specs say and that kernels can use in place.

        0 for an optional one that is None, -1 for all else.
        """
        return [self._usable_address(spec, array) for spec, array in zip(specs, given)]

    def _usable_address(self, spec: Any, array: Any) -> int:
        if array is None and spec.optional:
            return 0
        as_said = self.is_array(array) and array.shape == spec.shape and array.dtype == spec.dtype
        return self.address(array) if as_said and self.is_usable(array) else -1

    def described(self, candidate: Any) -> str:
        """What messages call something that is none."""
        if isinstance(candidate, self.xp.ndarray):
            return f"one on GPU {candidate.data.device_id}"
        return f"{type(candidate).__module__}.{type(candidate).__name__}"

    def is_usable(self, device_array: Any) -> bool:
        """Whether kernels can read its elements where they are: contiguous, and aligned to 16 bytes."""
        return device_array.flags.c_contiguous and device_array.data.ptr % _ALIGNMENT == 0

    def is_writable(self, device_array: Any) -> bool:
        """CuPy has no others."""
        return True

    def copied(self, device_array: Any) -> Any:
        """A contiguous, aligned copy."""
        copy = self.empty(device_array.shape, device_array.dtype)
        copy[...] = device_array
        return copy

    def from_host(self, values: np.ndarray) -> Any:
        """An array with these values."""
        return self.xp.asarray(values)

    def empty(self, shape: Shape, dtype: np.dtype) -> Any:
        """An uninitialised array from CuPy's memory pool, which hands out multiples of 512 bytes."""
        return self.xp.empty(shape, dtype)

    def maker(self, shape: Shape, dtype: np.dtype) -> Callable[[], Any]:
        """What makes uninitialised arrays of a shape and dtype."""
        return functools.partial(self.empty, shape, dtype)

    def address(self, device_array: Any) -> int:
        """Where its elements begin; 0 for an array without elements."""
        return device_array.data.ptr

    def table(self, values: np.ndarray) -> Any:
        """A copy of an array on the GPU, there before anything else is computed, on whatever stream."""
        table = self.xp.asarray(values)
        self.xp.cuda.get_current_stream().synchronize()
        return table

    def stream(self) -> int:
        """The current stream."""
        return self.xp.cuda.get_current_stream().ptr

    def sent(self, values: np.ndarray) -> Any:
        """A copy of a small array, there before what is launched on the current stream from now on.

        The host does not wait: the driver has taken its copy when the call returns, as it does with memory that is not
        pinned ("CUDA Runtime API", API synchronization behavior).
        """
        made = self.xp.empty(values.shape, values.dtype)
        made.data.copy_from_host_async(values.ctypes.data, values.nbytes)
        return made

    def synchronize(self) -> None:
        """Wait until all that was launched has been computed."""
        self.xp.cuda.runtime.deviceSynchronize()

    def load(self, variant: Any) -> Callable[..., None]:
        """What launches a variant: a function of the blocks along two axes, and of the filled argument block."""
        launch = self._loaded.get(variant.key)
        if launch is None:
            with self._loading:
                launch = self._loaded.get(variant.key) or self._load(variant)
                self._loaded[variant.key] = launch
        return launch

    def _load(self, variant: Any) -> Callable[..., None]:
        from cupy_backends.cuda.api import driver

        from pycnn_kernels.cuda.compile import cubin

        found = cubin(variant, self.architecture)
        with self.xp.cuda.Device(self.number):
            module = self.xp.cuda.function.Module()
            module.load(found.code)
        function = module.get_function(found.entry)
        handle, threads = function.ptr, variant.threads
        launch_kernel, current_stream = driver.launchKernel, self.stream

        size = ctypes.c_size_t(8 * len(variant.kernel.fields))
        size_at = ctypes.addressof(size)

        def launch(blocks: tuple[int, int], block: array[int]) -> None:
            # The driver copies the parameters before it returns.
            extra = array("Q", (_BUFFER, block.buffer_info()[0], _BUFFER_SIZE, size_at, _END))
            launch_kernel(handle, *blocks, 1, threads, 1, 1, 0, current_stream(), 0, extra.buffer_info()[0])

        launch.keeps = function, module, size  # type: ignore[attr-defined]  # what handle and size_at point to
        return launch


def architecture_of(major: int, minor: int) -> str:
    """What kernels are compiled for: of Hopper and newer also what only that generation has.

    >>> architecture_of(9, 0), architecture_of(8, 6)
    ('sm_90a', 'sm_86')
    """
    return f"sm_{major}{minor}{'a' if major >= 9 else ''}"


@functools.cache
def _device(number: int) -> Device:
    return Device(number)


class _Bound(threading.local):
    """The GPUs whose context this thread has."""

    def __init__(self) -> None:
        self.numbers: set[int] = set()


_bound = _Bound()


def _current() -> Device:
    runtime = _cupy().cuda.runtime
    number = runtime.getDevice()
    if number not in _bound.numbers:
        # The driver's launches need the context that the runtime makes current in a thread with its first call.
        runtime.memGetInfo()
        _bound.numbers.add(number)
    return _device(number)


def current_device() -> Device:
    """The GPU that CuPy computes on in this thread.

    Raises:
        CudaError: CuPy, the driver or a GPU is missing.
    """
    return _current()
