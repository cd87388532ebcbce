"""Where arrays live and which array module computes on them: "cpu" is NumPy.

Nothing here is numerical. Code above this seam asks a backend for its array module ``xp`` and for arrays; code
below it (``pycnn_kernels``) is chosen by the backend's name.
"""

from __future__ import annotations

import importlib.util
from types import ModuleType
from typing import Any

import numpy as np


class Backend:
    """A place for arrays.

    Attributes:
        name: "cpu".
        xp: the array module, NumPy's interface.
    """

    def __init__(self, name: str, xp: ModuleType):
        self.name, self.xp = name, xp

    def asarray(self, data: Any, name: str = "data") -> np.ndarray:
        """``data`` as an array of this backend in native byte order, without a copy where it is one already.

        Raises:
            ValueError: nested lists with rows of different lengths; the message calls them ``name``.
        """
        try:
            array = np.asarray(data)
        except ValueError as error:
            raise ValueError(f"{name} must be an array or rows of equal lengths; received others ({error})") from None
        return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))

    def __repr__(self) -> str:
        return f"Backend({self.name!r})"


_CPU = Backend("cpu", np)


class BackendError(RuntimeError):
    """A backend was asked for that cannot be used here."""


def get(name: str | Backend | None = None) -> Backend:
    """The backend of a name; None is the default, "cpu".

    Raises:
        BackendError: the backend is known but cannot be used; says what is missing.
        ValueError: there is no such backend.

    >>> get("cpu").xp.__name__
    'numpy'
    """
    if isinstance(name, Backend):
        return name
    if name is None or name == "cpu":
        return _CPU
    if name == "cuda":
        raise BackendError(_what_cuda_lacks())
    raise ValueError(f"backend must be 'cpu' or 'cuda'; received {name!r}")


def _what_cuda_lacks() -> str:
    missing = [name for name in ("cupy", "numba_cuda") if importlib.util.find_spec(name) is None]
    packages = f" Of its packages, {' and '.join(missing)} are not installed either." if missing else ""
    return f"backend 'cuda' cannot be used: this version of pycnn has no CUDA kernels yet.{packages} Use backend='cpu'."
