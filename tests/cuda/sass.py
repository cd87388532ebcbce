"""Compiled kernels as text, and what must not be in it."""

from __future__ import annotations

import functools
import importlib.util
import re
import subprocess
import tempfile
from pathlib import Path

import pytest

from pycnn_kernels.cuda.compile import cubin
from pycnn_kernels.cuda.launch import Variant

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
