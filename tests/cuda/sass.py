"""Compiled kernels as text, and what must not be in it."""

from __future__ import annotations

import functools
import gc
import hashlib
import importlib.util
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from pycnn_kernels.cuda.compile import Cubin, cubin, cubins
from pycnn_kernels.cuda.launch import Kernel, Variant

#: Those of the A100, the L4 and RTX 40, and the H100 and H200.
ARCHITECTURES = ("sm_80", "sm_89", "sm_90a")


def sass(variant: Variant, architecture: str = "sm_90a") -> str:
    """The instructions of a compiled variant, one a line."""
    return _disassembled(cubin(variant, architecture))


def _disassembled(found: Cubin) -> str:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(found.code)
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


# --- Calls ----------------------------------------------------------------------------------------------------------
#
# A kernel's own functions are parts of it. What it may call are NVIDIA's, and only beside the way: quotients and roots
# of numbers near the ends of a dtype's range, and exchanges between threads of a warp that have parted.

_OF_NVIDIA = re.compile(
    r"__cuda_sm\w+?_(?:div_rn|rcp_rn|dblrcp_rn|sqrt_rn|dsqrt_rn|rsqrt|drsqrt|warpsync|shflsync|matchsync)|__internal_"
)
_INSTRUCTION = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?P<condition>@!?U?P\w+ )?\s*(?P<name>[A-Z][\w.]*)(?P<operands>.*?);")
_MEMORY = re.compile(r"(?:LD|ST|ATOM|RED)(?:G|S|L|$)?\b")


class _Instruction(NamedTuple):
    text: str
    name: str
    is_conditional: bool
    target: str | None

    @property
    def is_call(self) -> bool:
        return self.name.startswith("CALL") and not (self.target or "").startswith(".L")


def faults_of_calls(text: str, entry: str) -> list[str]:
    """The calls of a kernel's machine code that are no function of NVIDIA's, and what only calls lead to.

    Every access to memory and every end of the kernel can be reached without a call; only arithmetic cannot.
    """
    instructions, labels = _parsed(text, entry)
    calls = [each for each in instructions if each.is_call]
    faults = [each.text for each in calls if not _OF_NVIDIA.search(each.target or "")]
    without = _reached(instructions, labels, through_calls=False)
    with_them = _reached(instructions, labels, through_calls=True)
    unknown = [
        each.text for n, each in enumerate(instructions) if n not in with_them and each.name not in ("NOP", "BRA")
    ]
    assert not unknown, f"no way was found to {unknown}"
    behind_calls = [instructions[number] for number in sorted(with_them - without)]
    behind_calls = [each for each in behind_calls if _MEMORY.match(each.name) or each.name == "EXIT"]
    return faults + [f"behind a call: {each.text}" for each in behind_calls]


def _parsed(text: str, entry: str) -> tuple[list[_Instruction], dict[str, int]]:
    """The instructions of the kernel, and which of them each label stands before."""
    code = text.split(f"\n.text.{entry}:", 1)[1].split("//-----", 1)[0]
    instructions: list[_Instruction] = []
    labels: dict[str, int] = {}
    for line in code.splitlines():
        if label := re.match(r"(\.L\w+):", line):
            labels[label[1]] = len(instructions)
        elif found := _INSTRUCTION.search(line):
            name, operands = found["name"], found["operands"]
            target = re.search(r"`\(([^)]+)\)", operands)
            # Of threads that have parted, or of a predicate that is an operand.
            conditional = bool(found["condition"]) or bool(
                re.search(r"\.DIV|\.CONV|\bU?P\d", name + operands.split("`")[0])
            )
            instructions.append(_Instruction(line.strip(), name, conditional, target[1] if target else None))
    return instructions, labels


def _reached(instructions: list[_Instruction], labels: dict[str, int], through_calls: bool) -> set[int]:
    """The numbers of the instructions that the kernel can come to, with or without its calls."""
    reached: set[int] = set()
    ahead = [0]
    while ahead:
        number = ahead.pop()
        if number in reached or number >= len(instructions):
            continue
        reached.add(number)
        each = instructions[number]
        assert not each.name.startswith(("BRX", "JMX")), f"a jump that this does not know: {each.text}"
        jumps = each.name.startswith(("BRA", "CALL")) and not each.is_call
        if jumps:
            ahead.append(labels[str(each.target)])
        ends = jumps or each.name.startswith(("EXIT", "RET")) or (each.is_call and not through_calls)
        if each.is_conditional or not ends:
            ahead.append(number + 1)
    return reached


def faults_of_launched(architectures: Sequence[str], claims: Path) -> list[str]:
    """What is wrong with the machine code of the variants that this process has made: spilled registers, and calls.

    Processes of a run have the folder ``claims`` in common: the first that comes to a variant compiles it. One that
    cannot be compiled raises.
    """
    kernels = [each for each in gc.get_objects() if type(each) is Kernel and each.name.startswith("pycnn_kernels.")]
    faults, count = [], 0
    for variant in (variant for each in kernels for variant in each._variants.values()):
        try:
            (claims / hashlib.sha256(repr(variant.key).encode()).hexdigest()).touch(exist_ok=False)
        except FileExistsError:
            continue
        count += 1
        for architecture, found in zip(architectures, cubins(variant, architectures)):
            text = _disassembled(found)
            calls = faults_of_calls(text, found.entry)
            if spills(text) or calls:
                faults.append(f"{variant!r} for {architecture}: {spills(text)} accesses to local memory, calls {calls}")
    print(f"{count} variants of {len(kernels)} kernels compiled for {', '.join(architectures)}")
    return faults
