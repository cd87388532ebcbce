"""What the host's processor offers, and the tile shapes that follow from it."""

from __future__ import annotations

import functools
import os
import platform
from typing import NamedTuple

import llvmlite.binding


class Simd(NamedTuple):
    """An instruction set as the register tile sees it."""

    name: str
    vector_bytes: int
    #: The tile of a whole block of columns, (vectors, rows): its accumulators, a row of weights and a broadcast must
    #: fit the registers. A wide tile leaves general registers for the addresses of its rows, and needs fewer loads.
    wide_tile: tuple[int, int]
    #: Rows of the tile of the one or two vectors that a whole block leaves.
    tile_rows: int
    #: Rows of the weight gradient's tile; rows that it leaves over take tiles of 4, 2 and 1.
    gradient_tile_rows: int
    #: Where the rows of a tile are channels and its columns are pixels: at most so many vectors and accumulators.
    plane_vectors: int
    accumulators: int
    #: Lines of a tile of a depthwise convolution, of seven pixels each, beside the weights of its taps.
    few_lines: int


#: From the widest to the one that every processor has. AVX-512 and NEON have 32 vector registers, the others 16.
INSTRUCTION_SETS = (
    Simd("avx512", 64, (4, 6), tile_rows=12, gradient_tile_rows=12, plane_vectors=6, accumulators=24, few_lines=3),
    Simd("avx2", 32, (4, 3), tile_rows=6, gradient_tile_rows=4, plane_vectors=3, accumulators=12, few_lines=1),
    Simd("neon", 16, (4, 6), tile_rows=8, gradient_tile_rows=8, plane_vectors=6, accumulators=24, few_lines=3),
    Simd("portable", 16, (2, 6), tile_rows=6, gradient_tile_rows=4, plane_vectors=3, accumulators=12, few_lines=1),
)

_REQUIRED_FEATURES = {
    "avx512": ("avx512f", "fma"),
    "avx2": ("avx2", "fma"),
    "neon": ("neon",),
    "portable": (),
}


def supported() -> list[str]:
    """Names of the instruction sets that this processor runs, widest first."""
    try:
        features = llvmlite.binding.get_host_cpu_features()
    except RuntimeError:  # LLVM does not know this system's way to ask
        features = {}
    if platform.machine().lower() in ("arm64", "aarch64"):
        features["neon"] = True  # every 64-bit ARM processor has it, whatever LLVM reports
    return [
        simd.name
        for simd in INSTRUCTION_SETS
        if all(features.get(feature, False) for feature in _REQUIRED_FEATURES[simd.name])
    ]


def choose() -> Simd:
    """The widest instruction set of this processor, or the one that ``$PYCNN_SIMD`` names.

    Raises:
        ValueError: ``$PYCNN_SIMD`` names an instruction set that is unknown or that this processor lacks.
    """
    available = supported()
    wanted = os.environ.get("PYCNN_SIMD") or available[0]
    if wanted not in available:
        raise ValueError(f"PYCNN_SIMD must be one of {', '.join(available)} on this processor; received {wanted!r}")
    return next(simd for simd in INSTRUCTION_SETS if simd.name == wanted)


SIMD = choose()


@functools.cache
def processor() -> str:
    """The processor's model, as the system calls it, and LLVM's name for its kind.

    >>> processor().endswith(")")
    True
    """
    name = ""
    if os.path.exists("/proc/cpuinfo"):  # Linux, where platform.processor() says no more than x86_64
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    name = name or platform.processor() or platform.machine()
    return f"{name} ({llvmlite.binding.get_host_cpu_name()})"


def item_bytes(dtype: str) -> int:
    """Bytes of one element of ``dtype``, "float32" or "float64"."""
    return 4 if dtype == "float32" else 8


def lanes(dtype: str) -> int:
    """Elements of ``dtype`` in one vector register."""
    return SIMD.vector_bytes // item_bytes(dtype)
