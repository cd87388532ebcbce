"""Where arrays live and which array module computes on them: "cpu" is NumPy, "cuda" is CuPy.

Nothing here is numerical. An array says by its type which backend it is of, and that backend computes with it:
``plan_on(x, "softmax", problem).run(x)`` runs where x is. The *default* backend decides about data that is nowhere
yet: lists, and NumPy arrays, which go to the GPU where the default is "cuda".
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from pycnn_kernels.cuda.device import CudaError, current_device
from pycnn_kernels.memory import Shape, aligned_empty
from pycnn_kernels.plan import Plan, plan_for


class BackendError(RuntimeError):
    """A backend was asked for that cannot be used here."""


class Backend:
    """A place for arrays.

    Attributes:
        name: "cpu" or "cuda".
    """

    name = "cpu"

    @property
    def xp(self) -> Any:
        """The array module, NumPy's interface."""
        return np

    def asarray(self, data: Any, name: str = "data") -> Any:
        """``data`` as an array of this backend in native byte order, without a copy where it is one already.

        Raises:
            ValueError: nested lists with rows of different lengths; the message calls them ``name``.
        """
        try:
            array = np.asarray(data)
        except ValueError as error:
            raise ValueError(f"{name} must be an array or rows of equal lengths; received others ({error})") from None
        return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))

    def empty(self, shape: Shape, dtype: np.dtype) -> Any:
        """An uninitialised array."""
        return aligned_empty(shape, dtype)

    def to_host(self, array: Any) -> np.ndarray:
        """The array as NumPy's: itself, or a copy of one on a GPU."""
        return array

    def is_writable(self, array: Any) -> bool:
        """Whether its elements may be changed."""
        return array.flags.writeable

    def is_ready(self, array: Any) -> bool:
        """Whether kernels can change its elements where they are."""
        return array.flags.carray

    def at_hand(self, array: Any) -> contextlib.AbstractContextManager[Any]:
        """Inside this block the array's device is the current one."""
        return contextlib.nullcontext()

    def __repr__(self) -> str:
        return f"Backend({self.name!r})"


class _Cuda(Backend):
    name = "cuda"

    @property
    def xp(self) -> Any:
        return current_device().xp

    def asarray(self, data: Any, name: str = "data") -> Any:
        """Likewise; arrays of other packages on the GPU are taken where they are, others go there."""
        if not is_on_gpu(data):
            data = super().asarray(data, name)
        return self.xp.asarray(data)

    def empty(self, shape: Shape, dtype: np.dtype) -> Any:
        return current_device().empty(shape, dtype)

    def to_host(self, array: Any) -> np.ndarray:
        return array.get()

    def is_writable(self, array: Any) -> bool:
        return True  # CuPy knows no others

    def is_ready(self, array: Any) -> bool:
        return current_device().is_usable(array)

    def at_hand(self, array: Any) -> contextlib.AbstractContextManager[Any]:
        return array.device


_CPU, _CUDA = Backend(), _Cuda()


class _Default(threading.local):
    """What a thread has set; another thread does not see it."""

    backend = _CPU


_default = _Default()


def is_on_gpu(data: Any) -> bool:
    """Whether data is an array in a GPU's memory, of whatever package: CuPy, PyTorch, Numba, ..."""
    if isinstance(data, np.ndarray):
        return False
    # CuPy's arrays always are; to ask one would have it make a dictionary. PyTorch's tensors have the interface, and
    # raise an AttributeError where they are on the CPU.
    kind = type(data)
    if kind.__module__.partition(".")[0] == "cupy" and kind.__name__ == "ndarray":
        return True
    return hasattr(kind, "__cuda_array_interface__") and hasattr(data, "__cuda_array_interface__")


def of(array: Any) -> Backend:
    """The backend of an array: "cuda" for one on a GPU, "cpu" for all others.

    >>> of(np.zeros(3))
    Backend('cpu')
    """
    return _CUDA if is_on_gpu(array) else _CPU


def plan_on(
    array: Any, operation: str, problem: Any, algorithm: str = "auto", workspace_limit: int | None = None
) -> Plan:
    """The plan of an operation where an array is; the other arguments as :func:`pycnn_kernels.plan.plan_for` takes."""
    backend = "cpu" if isinstance(array, np.ndarray) else of(array).name
    return plan_for(operation, problem, backend=backend, algorithm=algorithm, workspace_limit=workspace_limit)


def asarray(data: Any, name: str = "data", backend: str | Backend | None = None) -> Any:
    """Data as an array of a backend; None is the GPU for what is there already, otherwise the default.

    Arrays of other packages are read by whatever protocol they have, without a copy where their memory allows it.

    Raises:
        BackendError, ValueError: as :func:`get`, and as :meth:`Backend.asarray`.

    >>> asarray([1.0, 2.0])
    array([1., 2.])
    """
    if backend is None and type(data) is np.ndarray:  # most are, and a call asks for each of its arrays
        return _default.backend.asarray(data, name)
    if not isinstance(data, _PLAIN):
        data = _read(data)
    there = _CUDA if backend is None and is_on_gpu(data) else get(backend)
    return there.asarray(on_host(data) if there is _CPU and is_on_gpu(data) else data, name)


def is_ready(data: Any) -> bool:
    """Whether :func:`asarray` gives back data itself. This takes a fraction of its time; True for most arrays.

    >>> is_ready(np.zeros(3)), is_ready([0.0])
    (True, False)
    """
    return type(data) is np.ndarray and data.dtype.isnative and _default.backend is _CPU


#: What is read as it is.
_PLAIN = (np.ndarray, np.generic, list, tuple, bool, int, float)


def _read(data: Any) -> Any:
    """An array of another package as one of NumPy or CuPy; anything else as it is."""
    from pycnn.interop.arrays import kind_of  # which imports this module

    return kind_of(data).read(data)


def on_host(data: Any) -> np.ndarray:
    """Data as NumPy's array: itself where it is one, a copy of one on a GPU.

    >>> on_host([1, 2])
    array([1, 2])
    """
    return _CUDA.to_host(_CUDA.asarray(data)) if is_on_gpu(data) else np.asarray(data)


def get(name: str | Backend | None = None) -> Backend:
    """The backend of a name; None is the default, "cpu" unless :func:`set_backend` has said otherwise.

    Raises:
        BackendError: the backend is known but cannot be used; says what is missing.
        ValueError: there is no such backend.

    >>> get("cpu").xp.__name__
    'numpy'
    """
    if name is None:
        return _default.backend
    if isinstance(name, Backend):
        return name
    if name == "cpu":
        return _CPU
    if name == "cuda":
        try:
            current_device()
        except CudaError as error:
            raise BackendError(str(error)) from None
        return _CUDA
    raise ValueError(f"backend must be 'cpu' or 'cuda'; received {name!r}")


def set_backend(name: str | Backend) -> None:
    """Let data that is nowhere yet go to a backend from now on, in this thread.

    Arrays and tensors stay where they are; operations on a GPU's arrays are computed there whatever the default.

    Raises:
        BackendError, ValueError: as :func:`get`.

    >>> set_backend("cpu")
    """
    _default.backend = get(name)


@contextlib.contextmanager
def use_backend(name: str | Backend) -> Iterator[None]:
    """Inside this block another default backend is set; see :func:`set_backend`.

    >>> with use_backend("cpu"):
    ...     print(get())
    Backend('cpu')
    """
    before = _default.backend
    set_backend(name)
    try:
        yield
    finally:
        _default.backend = before
