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
from collections.abc import Callable, Sequence
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


#: The architecture that Numba lowers kernels for, which has all that they use: what becomes of it on the one that they
#: are for is decided behind Numba.
_OLDEST = (8, 0)


class _DeviceFunction(CUDADispatcher):
    """A function that kernels call, lowered without asking which GPU there is; its code becomes a part of theirs."""

    def compile_device(self, args: Any, return_type: Any = None) -> Any:
        if args not in self.overloads:
            found = compile_cuda(self.py_func, return_type, args, forceinline=True, nvvm_options={"opt": 3}, cc=_OLDEST)
            found.target_context.insert_user_function(found.entry_point, found.fndesc, [found.library])
            self.overloads[args] = found
        return self.overloads[args]


#: The functions that kernels call, by what tells them apart.
_device_functions: dict[Any, _DeviceFunction] = {}


def device_function(function: Callable[..., Any]) -> Any:
    """A function that kernels call; it becomes a part of them.

    Factories define their functions anew for each variant. Where code and constants are those of an earlier one it is
    that one, and what it was lowered to is used again: most of the time that a variant takes is Numba's for its
    functions, of which other variants of the kernel have nearly all.
    """
    made = _DeviceFunction(function, targetoptions={"device": True})
    code, cells = function.__code__, function.__closure__ or ()
    names = (function.__globals__.get(name) for name in code.co_names)
    constants = *(cell.cell_contents for cell in cells), *names, *(function.__defaults__ or ())
    key = code, *((repr(each), each) for each in constants)  # True is 1 and -0.0 is 0.0, but for what they are called
    try:
        return _device_functions.setdefault(key, made)
    except TypeError:  # a constant has no hash
        return made


class Cubin(NamedTuple):
    """Machine code for one architecture, and the name of the kernel in it."""

    entry: str
    code: bytes


@global_compiler_lock
def compiled(variant: Any, architectures: Sequence[str]) -> list[Cubin]:
    """The machine code of a :class:`~pycnn_kernels.cuda.launch.Variant` for architectures such as "sm_90a".

    They differ only in what NVIDIA's compilers make of Numba's result, so that more of them take little longer.
    """
    block = BlockType(variant.kernel.name, getattr(types, variant.dtype), variant.kernel.fields.kinds)
    result = compile_cuda(variant.body(), types.void, (block,), cc=_OLDEST, nvvm_options={"opt": 3})
    library, name = result.library, result.fndesc.llvm_func_name
    library._entry_name = name
    function = library.get_function(name)
    kernel_fixup(function, False)
    nvvm.set_launch_bounds(function, (variant.threads, variant.resident) if variant.resident else variant.threads)
    return [Cubin(name, bytes(library.get_cubin(cc=_capability(each)).code)) for each in architectures]


def cubin(variant: Any, architecture: str) -> Cubin:
    """The machine code of a variant, from the cache on disk if it is there."""
    return cubins(variant, [architecture])[0]


def cubins(variant: Any, architectures: Sequence[str]) -> list[Cubin]:
    """The same for several architectures."""
    folder = cubin_cache_dir()
    names = {each: hashlib.sha256(repr((variant.key, each)).encode()).hexdigest()[:24] for each in architectures}
    paths = {each: folder / f"{name}.cubin" for each, name in names.items()}
    found = _kept(paths)
    if len(found) < len(paths):
        with one_process_at_a_time(repr(variant.key), folder):
            found |= _kept({each: path for each, path in paths.items() if each not in found})
            missing = [each for each in paths if each not in found]
            for each, code in zip(missing, compiled(variant, missing) if missing else []):
                found[each] = code
                _write(paths[each], code)
    return [found[each] for each in architectures]


def _kept(paths: dict[str, Path]) -> dict[str, Cubin]:
    """What these files hold, of those that there are."""
    return {each: code for each, path in paths.items() if (code := _read(path))}


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
