"""Compiled kernels as text, and what must not be in it."""

from __future__ import annotations

import functools
import gc
import importlib.util
import re
import subprocess
import tempfile
from pathlib import Path

import pytest

from pycnn_kernels.cuda.compile import cubin
from pycnn_kernels.cuda.launch import Kernel, Variant

#: Those of the A100, the L4 and RTX 40, and the H100 and H200.
ARCHITECTURES = ("sm_80", "sm_89", "sm_90a")


def sass(variant: Variant, architecture: str = "sm_90a") -> str:
    """The instructions of a compiled variant, one a line."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin(variant, architecture).code)
        file.flush()
        done = subprocess.run([_disassembler(), "-c", file.name], capture_output=True, text=True, check=True)
    return done.stdout


@functools.cache
def _disassembler() -> str:
    found = importlib.util.find_spec("nvidia")
    for folder in found.submodule_search_locations or () if found else ():
        for place in ("cu13/bin/nvdisasm", "cuda_nvdisasm/bin/nvdisasm"):
            if (Path(folder) / place).exists():
                return str(Path(folder) / place)
    pytest.skip("nvdisasm is not installed: the package nvidia-cuda-nvdisasm has it")


def spills(text: str) -> int:
    """Accesses to local memory: registers that did not suffice, or an array that is indexed by a variable."""
    return len(re.findall(r"\b(?:LDL|STL)\b", text))


def count(text: str, pattern: str) -> int:
    """How many instructions match, for example ``LDG\\.E\\.128``."""
    return len(re.findall(pattern, text))


#: What a kernel may call: where a quotient or a root is rounded exactly, the part for numbers that hardly occur.
_ALLOWED_CALLS = re.compile(
    r"CALL\.REL\.NOINC|CALL\.ABS\.NOINC `\(__cuda_sm\w+_slowpath|CALL\.ABS\.NOINC `\(__internal_"
)


def faults_of_launched(architecture: str) -> list[str]:
    """What is wrong with the machine code of the variants that this process has made: spilled registers, and calls.

    A variant that cannot be compiled raises.
    """
    kernels = [each for each in gc.get_objects() if type(each) is Kernel and each.name.startswith("pycnn_kernels.")]
    faults, compiled = [], 0
    for variant in (variant for each in kernels for variant in each._variants.values()):
        text = sass(variant, architecture)
        compiled += 1
        calls = [line for line in text.splitlines() if re.search(r"\bCALL\b", line) and not _ALLOWED_CALLS.search(line)]
        if spills(text) or calls:
            faults.append(f"{variant!r} for {architecture}: {spills(text)} accesses to local memory, calls {calls}")
    print(f"{compiled} variants of {len(kernels)} kernels compiled for {architecture}")
    return faults
