"""A GPU in Python: runs the kernels' own functions, thread by thread, on arrays that are not NumPy's.

What it catches that a look at results would not: an access outside of an array or of shared memory, an access of 16
bytes at another address than a multiple of them, a read of memory that nobody wrote (fresh memory holds NaN and -1), a
write to what a kernel said that it only reads, a number that does not fit its field, a barrier that threads which have
ended never reach; and, because the threads of a block run in either order, a barrier that was forgotten.

It says nothing about speed, about what the compiler makes of a kernel, or about blocks that run at the same time.
"""

from __future__ import annotations

import bisect
import contextlib
import contextvars
import functools
import math
import types as python_types
import weakref
from array import array
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import greenlet
import numpy as np
from numba import cuda
from numba.core.extending import _Intrinsic as _CoreIntrinsic
from numba.cuda import types
from numba.cuda.dispatcher import CUDADispatcher
from numba.cuda.extending import intrinsic as _cuda_intrinsic

from pycnn_kernels.blocks import Fields
from pycnn_kernels.cuda.device import Device

_INTRINSICS: tuple[type, ...] = (_CoreIntrinsic, type(_cuda_intrinsic(lambda typingctx: None)))

#: Lanes of a warp.
WARP = 32
#: What lies between two allocations, so that no access beyond one meets the next.
_GUARD = 4096


class SimulatedAccessError(AssertionError):
    """A kernel did what a GPU would not have forgiven."""


# --- Memory ---------------------------------------------------------------------------------------------------------


class Allocation:
    """Bytes of simulated device memory from an address on; fresh ones hold NaN, and -1 for integers."""

    def __init__(self, first: int, size: int) -> None:
        self.first, self.bytes = first, np.full(size, 0xFF, np.uint8)

    @property
    def end(self) -> int:
        return self.first + self.bytes.size


class Memory:
    """All allocations that are alive."""

    def __init__(self) -> None:
        self._next = 1 << 20
        self._alive: weakref.WeakValueDictionary[int, Allocation] = weakref.WeakValueDictionary()
        self._of_bytes: weakref.WeakValueDictionary[int, Allocation] = weakref.WeakValueDictionary()
        self._firsts: list[int] = []

    def allocate(self, size: int) -> Allocation:
        made = Allocation(self._next, size)
        self._next += -(-(size + _GUARD) // 512) * 512
        self._firsts.append(made.first)
        self._alive[made.first] = self._of_bytes[id(made.bytes)] = made
        return made

    def at(self, address: int) -> Allocation:
        place = bisect.bisect_right(self._firsts, address) - 1
        found = self._alive.get(self._firsts[place]) if place >= 0 else None
        if found is None or not found.first <= address <= found.end:
            raise SimulatedAccessError(f"nothing that is alive lies at the address {address}")
        return found

    def that_has(self, values: np.ndarray) -> Allocation | None:
        """The allocation whose bytes an array is a view of."""
        base: Any = values
        while isinstance(base, np.ndarray) and base.base is not None:
            base = base.base
        return self._of_bytes.get(id(base))


class _Data:
    device_id = 0

    def __init__(self, ptr: int) -> None:
        self.ptr = ptr


class _Flags(NamedTuple):
    """Those that CuPy's arrays have."""

    c_contiguous: bool
    f_contiguous: bool


class DeviceArray(np.lib.mixins.NDArrayOperatorsMixin):
    """An array of simulated device memory with the interface of CuPy's: no NumPy array, nor silently made one."""

    def __init__(self, host: np.ndarray, allocation: Allocation) -> None:
        self._host, self._allocation = host, allocation

    @property
    def data(self) -> _Data:
        if not self._host.size:
            return _Data(0)  # as CuPy has it for an array without elements
        return _Data(self._allocation.first + self._host.ctypes.data - self._allocation.bytes.ctypes.data)

    @property
    def flags(self) -> _Flags:
        return _Flags(self._host.flags.c_contiguous, self._host.flags.f_contiguous)

    @property
    def device(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    @property
    def base(self) -> DeviceArray | None:
        whole = self._host.size * self._host.itemsize == self._allocation.bytes.size
        return None if whole else _on_device(self._allocation.bytes)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {"data": (self.data.ptr, False), "shape": self.shape, "typestr": self.dtype.str, "version": 3}

    @property
    def T(self) -> DeviceArray:
        return _on_device(self._host.T)

    def get(self) -> np.ndarray:
        """A copy on the host."""
        return self._host.copy()

    def set(self, values: np.ndarray) -> None:
        self._host[...] = values

    def item(self) -> Any:
        return self._host.item()

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct one")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return _through(getattr(ufunc, method))(*inputs, **kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return _through(function)(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        found = getattr(self._host, name)
        return _through(found) if callable(found) else found

    def __getitem__(self, index: Any) -> Any:
        found = self._host[_off_device(index)]
        return _on_device(np.asarray(found) if not isinstance(found, np.ndarray) else found)

    def __setitem__(self, index: Any, value: Any) -> None:
        _refuse_host_arrays(value)
        self._host[_off_device(index)] = _off_device(value)

    def __len__(self) -> int:
        return len(self._host)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        return bool(self._host)

    def __float__(self) -> float:
        return float(self._host)

    def __int__(self) -> int:
        return int(self._host)

    def __repr__(self) -> str:
        return repr(self._host)

    __hash__ = None  # type: ignore[assignment]


_memory = Memory()


def _new(shape: Any, dtype: Any) -> DeviceArray:
    kind = np.dtype(dtype)
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    size = math.prod(shape) * kind.itemsize
    allocation = _memory.allocate(size)
    return DeviceArray(allocation.bytes[:size].view(kind).reshape(shape), allocation)


def to_device(values: Any, dtype: Any = None) -> DeviceArray:
    """A copy of an array in simulated device memory."""
    if isinstance(values, DeviceArray):
        values = values._host
    values = np.asarray(values, dtype)
    made = _new(values.shape, values.dtype)
    if values.flags.f_contiguous and not values.flags.c_contiguous:  # CuPy keeps the order in memory
        made = _new(values.shape[::-1], values.dtype).T
    made._host[...] = values
    return made


def _on_device(value: Any) -> Any:
    """A result of NumPy's as a device array: the view that it is, or a copy."""
    if isinstance(value, tuple | list):
        return type(value)(map(_on_device, value))
    if not isinstance(value, np.ndarray | np.generic):
        return value
    if isinstance(value, np.ndarray) and value.size:
        allocation = _memory.that_has(value)
        if allocation is not None:
            return DeviceArray(value, allocation)
    return to_device(value)


def _off_device(value: Any) -> Any:
    if isinstance(value, DeviceArray):
        return value._host
    if isinstance(value, tuple | list):
        return type(value)(map(_off_device, value))
    return value


def _refuse_host_arrays(value: Any) -> None:
    if isinstance(value, tuple | list):
        for one in value:
            _refuse_host_arrays(one)
    elif isinstance(value, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")


def _through(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of NumPy's as one of CuPy's: from device arrays to device arrays."""

    def call(*args: Any, **kwargs: Any) -> Any:
        _refuse_host_arrays((args, tuple(kwargs.values())))
        if isinstance(getattr(function, "__self__", None), np.ufunc) and "where" in kwargs:
            raise TypeError("Wrong arguments {'where'}")  # which CuPy's functions do not have
        out = kwargs.get("out")
        kwargs = {name: _off_device(value) for name, value in kwargs.items()}
        with np.errstate(all="ignore"):
            result = function(*(_off_device(value) for value in args), **kwargs)
        if out is not None:
            return out[0] if isinstance(out, tuple) and len(out) == 1 else out
        return _on_device(result)

    return call


class ArrayModule:
    """NumPy's functions as CuPy's."""

    ndarray = DeviceArray

    def __getattr__(self, name: str) -> Any:
        found = getattr(np, name)
        if isinstance(found, type) or not callable(found):
            return found
        return _through(found)

    @staticmethod
    def asarray(values: Any, dtype: Any = None, **_: Any) -> DeviceArray:
        same = isinstance(values, DeviceArray) and dtype in (None, values.dtype)
        return values if same else to_device(values, dtype)

    array = staticmethod(to_device)

    @staticmethod
    def empty(shape: Any, dtype: Any = float) -> DeviceArray:
        return _new(shape, dtype)

    @staticmethod
    def asnumpy(values: Any) -> np.ndarray:
        return values.get() if isinstance(values, DeviceArray) else np.asarray(values)


# --- What a kernel sees ---------------------------------------------------------------------------------------------


class Pointer:
    """The address of elements, whose accesses stay inside of the allocation that it points into."""

    __slots__ = ("address", "constant", "elements", "first", "name")

    def __init__(self, name: str, address: int, dtype: Any, constant: bool) -> None:
        self.name, self.address, self.constant = name, address, constant
        self.first, self.elements = 0, np.empty(0, dtype)
        if address:
            allocation = _memory.at(address)
            size = np.dtype(dtype).itemsize
            offset = (address - allocation.first) % size
            if offset:
                raise SimulatedAccessError(f"{name} begins at an address that its elements cannot have")
            self.first = (address - allocation.first) // size
            self.elements = allocation.bytes[: allocation.bytes.size // size * size].view(dtype)

    def moved(self, offset: int) -> Pointer:
        moved = object.__new__(Pointer)
        moved.name, moved.constant, moved.elements = self.name, self.constant, self.elements
        moved.first = self.first + int(offset)
        moved.address = self.address and self.address + int(offset) * self.elements.itemsize
        return moved

    def place(self, index: Any) -> int:
        place = self.first + int(index)
        if not 0 <= place < self.elements.size:
            raise SimulatedAccessError(f"{self.name}[{index}] is outside of its {self.elements.size} elements")
        return place

    def __getitem__(self, index: Any) -> Any:
        return self.elements[self.place(index)]

    def __setitem__(self, index: Any, value: Any) -> None:
        if self.constant:
            raise SimulatedAccessError(f"{self.name} is written, which its kernel said it only reads")
        self.elements[self.place(index)] = value

    def places(self, index: Any, count: int) -> range:
        """Of so many elements that one access moves."""
        first = self.place(index)
        self.place(int(index) + count - 1)
        alignment = min(16, count * self.elements.itemsize)
        if (self.address + int(index) * self.elements.itemsize) % alignment:
            raise SimulatedAccessError(f"{self.name}[{index}] is not aligned to {alignment} bytes")
        return range(first, first + count)


class _Registers:
    """An array in shared memory or registers: every index is checked."""

    def __init__(self, shape: Any, dtype: Any) -> None:
        self.values = _nans(shape, dtype)

    def _checked(self, index: Any) -> Any:
        each = index if isinstance(index, tuple) else (index,)
        if len(each) != self.values.ndim or not all(0 <= int(i) < n for i, n in zip(each, self.values.shape)):
            raise SimulatedAccessError(f"[{index}] is outside of an array of shape {self.values.shape}")
        return tuple(map(int, each))

    def __getitem__(self, index: Any) -> Any:
        return self.values[self._checked(index)]

    def __setitem__(self, index: Any, value: Any) -> None:
        self.values[self._checked(index)] = value


def _numpy(dtype: Any) -> np.dtype:
    return np.dtype(str(getattr(dtype, "kind", dtype)))


def _nans(shape: Any, dtype: Any) -> np.ndarray:
    kind = _numpy(dtype)
    made = np.empty(shape, kind)
    made.reshape(-1).view(np.uint8)[...] = 0xFF
    return made


class _Axis:
    def __init__(self, x: int, y: int = 1, z: int = 1) -> None:
        self.x, self.y, self.z = x, y, z


class _Thread:
    """One thread: where it is, and what it waits for."""

    def __init__(self, number: int, block: _Block) -> None:
        self.number, self.block = number, block
        self.arrays = 0
        self.waiting: Any = None
        self.answer: Any = None
        self.run: greenlet.greenlet | None = None


class _Block:
    """What the threads of a block share."""

    def __init__(self, place: tuple[int, int], threads: int) -> None:
        self.place = _Axis(*place)
        self.shared: list[_Registers] = []
        self.threads = [_Thread(number, self) for number in range(threads)]

    def go(self, body: Callable[[Any], None], arguments: Any, order: int, waits: bool) -> None:
        if not waits:
            for thread in self.threads[::order]:
                _Cuda.now = thread
                body(arguments)
            return
        for thread in self.threads:
            thread.run = greenlet.greenlet(body)
            thread.run.gr_context = contextvars.copy_context()  # NumPy's way with warnings is in it
        alive = sorted(self._step(self.threads[::order], arguments), key=lambda thread: thread.number)
        while alive:
            ready = self._released(alive)
            others = [thread for thread in alive if thread.waiting is not None]
            alive = sorted(others + self._step(ready[::order]), key=lambda thread: thread.number)

    def _step(self, threads: list[_Thread], *arguments: Any) -> list[_Thread]:
        """Run each until it waits or ends; those that wait are returned."""
        left = []
        for thread in threads:
            _Cuda.now = thread
            thread.run.switch(*arguments)  # type: ignore[union-attr]
            if not thread.run.dead:  # type: ignore[union-attr]
                left.append(thread)
        return left

    def _released(self, alive: list[_Thread]) -> list[_Thread]:
        """Those whose wait is over: all at the barrier, or the lanes of warps that exchange values."""
        ready = []
        for first in range(0, len(self.threads), WARP):
            lanes = self.threads[first : first + WARP]
            if all(lane.waiting is not None and lane.waiting[0] == "exchange" for lane in lanes):
                values = [lane.waiting[1] for lane in lanes]
                for lane in lanes:
                    lane.answer, lane.waiting = values, None
                ready += lanes
        if not ready and len(alive) == len(self.threads) and all(t.waiting[0] == "barrier" for t in alive):
            for thread in alive:
                thread.waiting = None
            ready = alive
        if not ready:
            raise SimulatedAccessError("threads wait for others of their block that wait elsewhere or have ended")
        return ready


def _wait(kind: str, value: Any = None) -> Any:
    thread = _Cuda.now
    thread.waiting = (kind, value)
    greenlet.getcurrent().parent.switch()
    return thread.answer


class _Shared:
    @staticmethod
    def array(shape: Any, dtype: Any, alignment: int = 16) -> _Registers:
        thread = _Cuda.now
        if thread.arrays == len(thread.block.shared):
            thread.block.shared.append(_Registers(shape, dtype))
        thread.arrays += 1
        return thread.block.shared[thread.arrays - 1]


class _Local:
    @staticmethod
    def array(shape: Any, dtype: Any) -> _Registers:
        return _Registers(shape, dtype)


class _Cuda:
    """What kernels use of ``numba.cuda``."""

    now: _Thread
    blocks: tuple[int, int]
    shared, local = _Shared(), _Local()

    @property
    def threadIdx(self) -> _Axis:
        return _Axis(_Cuda.now.number, 0, 0)

    @property
    def blockIdx(self) -> _Axis:
        return _Cuda.now.block.place

    @property
    def blockDim(self) -> _Axis:
        return _Axis(len(_Cuda.now.block.threads))

    @property
    def gridDim(self) -> _Axis:
        return _Axis(*_Cuda.blocks)

    @staticmethod
    def syncthreads() -> None:
        _wait("barrier")

    @staticmethod
    def shfl_down_sync(mask: int, value: Any, distance: int) -> Any:
        lane = _Cuda.now.number % WARP
        values = _wait("exchange", value)
        return values[lane + distance] if lane + distance < len(values) else value

    @staticmethod
    def shfl_xor_sync(mask: int, value: Any, distance: int) -> Any:
        lane = _Cuda.now.number % WARP
        values = _wait("exchange", value)
        return values[lane ^ distance]

    @staticmethod
    def shfl_sync(mask: int, value: Any, source: int) -> Any:
        return _wait("exchange", value)[source]

    @staticmethod
    def match_any_sync(mask: int, value: Any) -> int:
        values = _wait("exchange", value)
        return sum(1 << lane for lane, other in enumerate(values) if other == values[_Cuda.now.number % WARP])

    @staticmethod
    def syncwarp() -> None:
        _wait("exchange")

    @staticmethod
    def popc(bits: Any) -> int:
        return int(bits).bit_count()


#: What a function waits with: one that does not, nor calls one that does, needs no thread of its own.
_WAITS = {"syncthreads", "shfl_down_sync", "shfl_xor_sync", "shfl_sync", "match_any_sync", "syncwarp"}


def _quotient(number: Any, divisor: Any) -> int:
    return _unsigned(number) // _unsigned(divisor)


def _remainder(number: Any, divisor: Any) -> int:
    return _unsigned(number) % _unsigned(divisor)


def _divided(number: Any, by: Any) -> int:
    if not 0 <= int(number) < 1 << 31:
        raise SimulatedAccessError(f"{number} is divided as an integer of 31 bits")
    return int(number) * (int(by) & 0xFFFFFFFF) >> 31 + (int(by) >> 32)


def _unsigned(number: Any) -> int:
    if not 0 <= int(number) < 1 << 32:
        raise SimulatedAccessError(f"{number} is divided as an integer of 32 bits without a sign")
    return int(number)


def _load(count: int) -> Callable[[Any, Any], tuple[Any, ...]]:
    return lambda pointer, index: tuple(pointer.elements[place] for place in pointer.places(index, count))


def _store(count: int) -> Callable[[Any, Any, Any], None]:
    def store(pointer: Pointer, index: Any, values: Any) -> None:
        places = pointer.places(index, count)
        pointer[index] = values[0]  # checks whether it may
        for place, value in zip(places, values, strict=True):
            pointer.elements[place] = value

    return store


def _load4_shared(array: _Registers, index: Any) -> tuple[Any, ...]:
    first = _aligned(array, index)
    return tuple(array.values[first : first + 4])


def _store4_shared(array: _Registers, index: Any, values: Any) -> None:
    first = _aligned(array, index)
    array.values[first : first + 4] = values


def _aligned(array: _Registers, index: Any) -> int:
    """The index of four elements of shared memory that are there, together at a multiple of 16 bytes."""
    first = int(index)
    if not 0 <= first <= array.values.size - 4:
        raise SimulatedAccessError(f"[{index}] and the three behind it are outside of {array.values.size} elements")
    if first * array.values.itemsize % 16:
        raise SimulatedAccessError(f"[{index}] of shared memory is not aligned to 16 bytes")
    return first


def _elements_at(arguments: Any, address: Any) -> Pointer:
    return Pointer("an array of addresses", int(address), arguments.dtype, False)


@functools.cache
def _integer(kind: types.Integer) -> Callable[[Any], int]:
    """What makes an integer of this type: one that fits."""

    def cast(value: Any) -> int:
        number = int(value)
        if not kind.minval <= number <= kind.maxval:
            raise SimulatedAccessError(f"{number} does not fit {kind}")
        return number

    cast.kind = kind  # type: ignore[attr-defined]  # what an array of such numbers is made of
    return cast


class _Math:
    """``math`` as a GPU has it: in the dtype of its argument, and without exceptions."""

    inf, nan, pi = math.inf, math.nan, math.pi
    exp, log, sqrt, tanh, pow = np.exp, np.log, np.sqrt, np.tanh, np.power
    expm1, log1p, copysign = np.expm1, np.log1p, np.copysign
    fabs, isnan, isinf = np.fabs, np.isnan, np.isinf

    @staticmethod
    def erf(x: Any) -> Any:
        return type(x)(math.erf(x))


#: The functions of ``ptx.py``, by name.
PTX: dict[str, Callable[..., Any]] = {
    "quotient": _quotient,
    "remainder": _remainder,
    "divided": _divided,
    "shift": lambda pointer, offset: pointer.moved(offset),
    "is_there": lambda pointer: pointer.address != 0,
    "elements_at": _elements_at,
    "thread_again": lambda: _Cuda.now.number,
    "load2": _load(2),
    "load4": _load(4),
    "store2": _store(2),
    "store4": _store(4),
    "load4_shared": _load4_shared,
    "store4_shared": _store4_shared,
}


#: What the elements of a pointer are, where not of the kernel's dtype; and which are only read.
_DTYPES = {
    "table": "int32", "labels": "int64", "positions": "int64", "index": "uint16", "long_index": "uint32",
    "addresses": "uint64",
}  # fmt: skip
_CONSTANT = {"source", "table", "labels", "addresses"}


class Arguments:
    """The argument block as a kernel sees it."""

    def __init__(self, fields: Fields, dtype: str, block: array) -> None:
        self.dtype = dtype
        for slot, (name, kind) in enumerate(fields.kinds.items()):
            setattr(self, name, self._value(name, kind, block[slot]))

    def _value(self, name: str, kind: str, bits: int) -> Any:
        if kind == "float":
            return np.dtype(self.dtype).type(np.array(bits, np.int64).view(np.float64))
        if kind == "int" and not -(1 << 31) <= bits < 1 << 31:
            raise SimulatedAccessError(f"{name} is {bits}, which 32 bits do not hold")
        if kind in ("int", "long"):
            return bits
        return Pointer(name, bits, _DTYPES.get(kind, self.dtype), kind in _CONSTANT)


# --- Running a kernel -----------------------------------------------------------------------------------------------


class _Copy:
    """Copies functions so that they call the simulation where they called the GPU."""

    def __init__(self) -> None:
        self.waits = False
        self._made: dict[Any, Any] = {}

    def of(self, function: python_types.FunctionType) -> Callable[..., Any]:
        if function in self._made:
            return self._made[function]
        names = set(_names(function.__code__))
        self.waits |= bool(names & _WAITS)
        there = function.__globals__
        namespace = {name: self._stand_in(name, there[name]) for name in names if name in there}
        namespace["__builtins__"] = there["__builtins__"]
        cells = tuple(
            python_types.CellType(self._stand_in(name, cell.cell_contents))
            for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ())
        )
        made = python_types.FunctionType(function.__code__, namespace, function.__name__, function.__defaults__, cells)
        self._made[function] = made
        return made

    def _stand_in(self, name: str, value: Any) -> Any:
        if value is cuda:
            return _Cuda()
        if value is math:
            return _Math
        if isinstance(value, types.Integer):
            return _integer(value)
        if isinstance(value, CUDADispatcher):
            return self.of(value.py_func)
        if isinstance(value, _INTRINSICS):
            known = next((k for k, v in _ptx_by_object().items() if v is value), name)
            return PTX[known]
        return value


def _ptx_by_object() -> dict[str, Any]:
    from pycnn_kernels.cuda import ptx

    return {name: getattr(ptx, name) for name in PTX}


def _names(code: python_types.CodeType) -> Iterator[str]:
    yield from code.co_names
    yield from code.co_freevars
    for constant in code.co_consts:
        if isinstance(constant, python_types.CodeType):
            yield from _names(constant)


class SimulatedDevice(Device):
    """Stands in for a GPU.

    Args:
        order: 1 or -1, the order of the blocks and of the threads of a block.
    """

    number, name, architecture, processors = 0, "a simulated GPU", "sm_90a", 4

    def __init__(self, order: int = 1) -> None:
        self.order = order
        self.xp = ArrayModule()
        self.launched: list[str] = []
        self._loaded: dict[Any, Callable[..., None]] = {}

    def empty(self, shape: Any, dtype: Any) -> DeviceArray:
        return _new(shape, dtype)

    def table(self, values: np.ndarray) -> DeviceArray:
        return to_device(values)

    def sent(self, values: np.ndarray) -> DeviceArray:
        return to_device(values)

    def stream(self) -> int:
        return 0

    def synchronize(self) -> None:
        pass

    def load(self, variant: Any) -> Callable[..., None]:
        if variant.key not in self._loaded:
            self._loaded[variant.key] = self._simulate(variant)
        return self._loaded[variant.key]

    def _simulate(self, variant: Any) -> Callable[..., None]:
        copy = _Copy()
        body = copy.of(variant.body())

        def launch(blocks: tuple[int, int], block: array) -> None:
            self.launched.append(variant.kernel.name)
            arguments = Arguments(variant.kernel.fields, variant.dtype, block)
            _Cuda.blocks = blocks
            with np.errstate(all="ignore"):
                run_all(blocks, arguments)

        def run_all(blocks: tuple[int, int], arguments: Arguments) -> None:
            for y in range(blocks[1])[:: self.order]:
                for x in range(blocks[0])[:: self.order]:
                    _Block((x, y), variant.threads).go(body, arguments, self.order, copy.waits)

        return launch
