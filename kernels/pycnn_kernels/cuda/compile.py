"""From a variant of a kernel to machine code: compiled once, kept on disk.

The only file that reaches below Numba's public interface for CUDA. It needs no GPU: an architecture is named.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import os
import re
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from numba.core.compiler_lock import global_compiler_lock
from numba.cuda import types
from numba.cuda.compiler import compile_cuda, kernel_fixup
from numba.cuda.cudadrv import nvvm
from numba.cuda.dispatcher import CUDADispatcher

from pycnn_kernels.cache import one_process_at_a_time, source_hash, user_cache_dir
from pycnn_kernels.cuda.block import BlockType

#: The packages that decide which machine code comes out.
_COMPILERS = ("numba-cuda", "nvidia-nvvm", "nvidia-nvjitlink")


#: The architecture that parts of kernels are lowered for: what becomes of them is decided with the kernel.
_OLDEST = (8, 0)


class _DeviceFunction(CUDADispatcher):
    """A function that kernels call, lowered without asking which GPU there is; its code becomes a part of theirs."""

    def compile_device(self, args: Any, return_type: Any = None) -> Any:
        if args not in self.overloads:
            found = compile_cuda(self.py_func, return_type, args, forceinline=True, nvvm_options={"opt": 3}, cc=_OLDEST)
            found.target_context.insert_user_function(found.entry_point, found.fndesc, [found.library])
            self.overloads[args] = found
        return self.overloads[args]


def device_function(function: Callable[..., Any]) -> Any:
    """A function that kernels call; it becomes a part of them."""
    return _DeviceFunction(function, targetoptions={"device": True})


class Cubin(NamedTuple):
    """Machine code for one architecture, and the name of the kernel in it."""

    entry: str
    code: bytes


@global_compiler_lock
def compiled(variant: Any, architecture: str) -> Cubin:
    """The machine code of a :class:`~pycnn_kernels.cuda.launch.Variant` for an architecture such as "sm_90a"."""
    block = BlockType(variant.kernel.name, getattr(types, variant.dtype), variant.kernel.fields.kinds)
    capability = _capability(architecture)
    result = compile_cuda(variant.body(), types.void, (block,), cc=capability, nvvm_options={"opt": 3})
    library, name = result.library, result.fndesc.llvm_func_name
    library._entry_name = name
    function = library.get_function(name)
    kernel_fixup(function, False)
    nvvm.set_launch_bounds(function, (variant.threads, variant.resident) if variant.resident else variant.threads)
    return Cubin(name, bytes(library.get_cubin(cc=capability).code))


def cubin(variant: Any, architecture: str) -> Cubin:
    """The same, from the cache on disk if it is there."""
    folder = cubin_cache_dir()
    path = folder / f"{hashlib.sha256(repr((variant.key, architecture)).encode()).hexdigest()[:24]}.cubin"
    found = _read(path)
    if found is None:
        with one_process_at_a_time(f"{variant.key} {architecture}", folder):
            found = _read(path)
            if found is None:
                found = compiled(variant, architecture)
                _write(path, found)
    return found


@functools.cache
def cubin_cache_dir() -> Path:
    """The folder of the compiled kernels; its name says which source and which compiler they come from."""
    versions = "-".join(importlib.metadata.version(name) for name in _COMPILERS)
    folder = user_cache_dir() / "kernels" / f"{source_hash()}-cuda{versions}"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def _read(path: Path) -> Cubin | None:
    """What a file holds, None where there is none or it is damaged: a compilation then, not the end of the program."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, rest = content[:32], content[32:]
    if hashlib.sha256(rest).digest() != digest:
        warnings.warn(f"the cached kernel {path} is damaged; it is compiled again", RuntimeWarning, stacklevel=4)
        return None
    entry, _, code = rest.partition(b"\0")
    return Cubin(entry.decode(), code)


def _write(path: Path, found: Cubin) -> None:
    """Under another name first: a reader never sees half of a file."""
    rest = found.entry.encode() + b"\0" + found.code
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(hashlib.sha256(rest).digest() + rest)
        os.replace(file.name, path)
    except OSError as error:
        _warn_uncached(str(path.parent), error.strerror or str(error))


@functools.cache
def _warn_uncached(folder: str, reason: str) -> None:
    warnings.warn(
        f"compiled kernels cannot be kept in {folder} ({reason}); they are compiled again in each process. Set "
        "PYCNN_CACHE_DIR to a folder that can be written.",
        RuntimeWarning,
        stacklevel=4,
    )


def _capability(architecture: str) -> tuple[Any, ...]:
    """As Numba takes it.

    >>> _capability("sm_90a"), _capability("sm_80")
    ((9, 0, 'a'), (8, 0))
    """
    found = re.fullmatch(r"sm_(\d+)(\d)([af]?)", architecture)
    if found is None:
        raise ValueError(f"an architecture is named like 'sm_90a'; received {architecture!r}")
    major, minor, suffix = found.groups()
    return (int(major), int(minor), suffix) if suffix else (int(major), int(minor))
