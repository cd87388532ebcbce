"""Where compiled kernels and downloaded data are kept.

Numba's own cache forgets that a kernel calls functions of other files, so an edited one goes
unnoticed (numba issue 1833). Here the folder itself is named after the version of Numba, the SIMD
width and a hash of every source file of the engine: any edit begins an empty folder.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import os
import time
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache, NullCache, _CacheLocator
from numba.misc.appdirs import AppDirs

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_SOURCE_FOLDER = Path(__file__).parent

#: How long a process waits for another one that compiles the same kernel; that one may have been suspended.
_PATIENCE_SECONDS = 60.0


def user_cache_dir() -> Path:
    """The folder for everything that pycnn can make again: compiled kernels and downloaded data.

    ``$PYCNN_CACHE_DIR`` when that is set, otherwise the platform's folder for caches.

    >>> user_cache_dir().name == "pycnn" or "PYCNN_CACHE_DIR" in os.environ
    True
    """
    chosen = os.environ.get("PYCNN_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser()
    return Path(AppDirs(appname="pycnn", appauthor=False).user_cache_dir)


@functools.cache
def source_hash() -> str:
    """Twelve hexadecimal digits over the text of every source file of the engine."""
    digest = hashlib.sha256()
    for path in sorted(_SOURCE_FOLDER.rglob("*.py")):
        digest.update(path.relative_to(_SOURCE_FOLDER).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _file_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def kernel_cache_dir(isa: str) -> Path:
    """The folder of the kernels compiled for the instruction set ``isa``, for example ``avx512``."""
    return user_cache_dir() / "kernels" / f"{source_hash()}-numba{numba.__version__}-{isa}"


def kernel_cache(function: Any, isa: str) -> FunctionCache | NullCache:
    """A Numba cache for one kernel function, in :func:`kernel_cache_dir`.

    A folder that cannot be written gives a warning, and kernels are compiled again in each process.
    """
    folder = kernel_cache_dir(isa)
    source = Path(inspect.getsourcefile(function) or "")
    # The folder's name speaks for the engine's own files; a kernel from elsewhere has its file beside that.
    stamp = source_hash() if source.is_relative_to(_SOURCE_FOLDER) else _file_hash(source)

    class Locator(_CacheLocator):
        def get_cache_path(self) -> str:
            return str(folder)

        def get_source_stamp(self) -> str:
            return stamp

        def get_disambiguator(self) -> str:
            return str(function.__code__.co_firstlineno)

        @classmethod
        def from_function(cls, py_func: Any, py_file: str) -> _CacheLocator:
            locator = cls()
            locator.ensure_cache_path()
            return locator

    class Implementation(FunctionCache._impl_class):
        _locator_classes = (Locator,)

    class KernelCache(FunctionCache):
        _impl_class = Implementation

        def load_overload(self, signature: Any, target_context: Any) -> Any:
            try:
                return super().load_overload(signature, target_context)
            except Exception as error:  # a damaged file must cost a compilation, not the program
                warnings.warn(
                    f"the cached kernel {function.__name__} in {folder} cannot be read "
                    f"({type(error).__name__}: {error}); it is compiled again",
                    RuntimeWarning,
                    stacklevel=2,
                )
                self._begin_anew()
                return None

        def _begin_anew(self) -> None:
            try:
                self.flush()
            except OSError as error:
                _warn_uncached(folder, error)

        def save_overload(self, signature: Any, data: Any) -> None:
            try:
                super().save_overload(signature, data)
            except OSError as error:
                _warn_uncached(folder, error)

    try:
        return KernelCache(function)
    except OSError as error:
        _warn_uncached(folder, error)
        return NullCache()


@contextlib.contextmanager
def one_process_at_a_time(kernel: str, folder: Path) -> Iterator[None]:
    """Processes that need a kernel at the same time: one compiles it while the others wait, and find it in the cache.

    Each kernel is a byte of a file in their folder that is locked. It is unlocked when its process ends, however that
    ends, and a forked child does not have the lock. Where it cannot be had, nobody waits.
    """
    with contextlib.ExitStack() as stack:
        if fcntl is not None:
            with contextlib.suppress(OSError):
                file = stack.enter_context(open(folder / "lock", "ab"))
                _wait_for(file.fileno(), zlib.crc32(kernel.encode()))
        yield


def _wait_for(descriptor: int, byte: int) -> None:
    end = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < end:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except (BlockingIOError, PermissionError):  # another process has it
            time.sleep(0.02)
        else:
            return


@functools.cache
def _warn_once(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=4)


def _warn_uncached(folder: Path, error: OSError) -> None:
    _warn_once(
        f"compiled kernels cannot be kept in {folder} ({error.strerror or error}); they are compiled again in "
        "each process. Set PYCNN_CACHE_DIR to a folder that can be written."
    )
