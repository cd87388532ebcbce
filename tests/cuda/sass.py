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
    program = disassembler()
    if program is None:
        pytest.skip("nvdisasm is not installed: the package nvidia-cuda-nvdisasm has it")
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(found.code)
        file.flush()
        done = subprocess.run([program, "-c", file.name], capture_output=True, text=True, check=True)
    return done.stdout


@functools.cache
def disassembler() -> str | None:
    """Where NVIDIA's disassembler is, None where it is not installed."""
    found = importlib.util.find_spec("nvidia")
    for folder in found.submodule_search_locations or () if found else ():
        for place in ("cu13/bin/nvdisasm", "cuda_nvdisasm/bin/nvdisasm"):
            if (Path(folder) / place).exists():
                return str(Path(folder) / place)
    return None


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
    r"__cuda_sm\w+?_(?:div_rn|rcp_rn|dblrcp_rn|sqrt_rn|dsqrt_rn|rsqrt|drsqrt|warpsync|shflsync|matchsync)"
)
_INSTRUCTION = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?P<condition>@!?U?P\w+ )?\s*(?P<name>[A-Z][\w.]*)(?P<operands>.*?);")
#: What is seen from outside of a thread: memory but for constants, and barriers.
_EFFECT = re.compile(r"(?:LD|ST|ATOM|RED)(?!C|UX)|BAR|EXIT")
#: Ends of a kernel's own functions, and jumps to what is not known.
_UNKNOWN = re.compile(r"RET|JM|BRX")


class _Instruction(NamedTuple):
    text: str
    name: str
    is_conditional: bool
    target: str

    @property
    def is_call(self) -> bool:
        """One to a label of the kernel is a jump: the end of threads is written so."""
        return self.name.startswith("CALL") and not self.target.startswith(".L")


def faults_of_calls(text: str, entry: str) -> list[str]:
    """What is wrong with the calls of a kernel's machine code: those of other functions than NVIDIA's, or on its way.

    From the beginning to each access to memory, each barrier and each end, and from these to an end, there is a way
    without a call. (A call in each pass of a loop that does nothing but compute is not found.)
    """
    instructions, labels = _parsed(text, entry)
    ways = [_next(number, instructions, labels) for number in range(len(instructions))]
    without_calls = [[] if each.is_call else then for each, then in zip(instructions, ways)]
    back: list[list[int]] = [[] for _ in instructions]
    for number, then in enumerate(without_calls):
        for other in then:
            back[other].append(number)
    ends = [number for number, each in enumerate(instructions) if each.name.startswith("EXIT")]
    anyhow, ahead, behind = _reached([0], ways), _reached([0], without_calls), _reached(ends, back)
    faults = []
    for number, each in enumerate(instructions):
        if number not in anyhow:
            if each.name not in ("NOP", "BRA"):
                faults.append(f"no way was found to {each.text}")
        elif _UNKNOWN.match(each.name) or (each.is_call and not _OF_NVIDIA.match(each.target)):
            faults.append(f"not known: {each.text}")
        elif _EFFECT.match(each.name) and number not in ahead:
            faults.append(f"only behind a call: {each.text}")
        elif _EFFECT.match(each.name) and number not in behind:
            faults.append(f"always before a call: {each.text}")
    return faults


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
            # Of a predicate in front or among the operands, or of threads that have parted.
            is_conditional = found["condition"] or re.search(r"\.DIV|\.CONV|\bU?P\d", name + operands.split("`")[0])
            instructions.append(_Instruction(line.strip(), name, bool(is_conditional), target[1] if target else ""))
    return instructions, labels


def _next(number: int, instructions: list[_Instruction], labels: dict[str, int]) -> list[int]:
    """The numbers of the instructions that may follow one."""
    each = instructions[number]
    jumps = each.name.startswith(("BRA", "CALL")) and not each.is_call
    found = [labels[each.target]] if jumps else []
    ends = jumps or each.name.startswith("EXIT") or _UNKNOWN.match(each.name)
    if (each.is_conditional or not ends) and number + 1 < len(instructions):
        found.append(number + 1)
    return found


def _reached(starts: list[int], ways: list[list[int]]) -> set[int]:
    """All numbers that ways from these lead to."""
    reached: set[int] = set()
    ahead = list(starts)
    while ahead:
        number = ahead.pop()
        if number not in reached:
            reached.add(number)
            ahead += ways[number]
    return reached


def faults_of_launched(architectures: Sequence[str], claims: Path, one_each: bool) -> list[str]:
    """What is wrong with the machine code of the variants that this process has made: spilled registers, and calls.

    Of all of them, or of one of each kernel. Processes of a run have the folder ``claims`` in common: the first that
    comes to one compiles it. What cannot be compiled raises.
    """
    kernels = [each for each in gc.get_objects() if type(each) is Kernel and each.name.startswith("pycnn_kernels.")]
    faults, compiled = [], 0
    for variant in (variant for each in kernels for variant in each._variants.values()):
        claim = variant.kernel.name if one_each else repr(variant.key)
        try:
            (claims / hashlib.sha256(claim.encode()).hexdigest()).touch(exist_ok=False)
        except FileExistsError:
            continue
        compiled += 1
        for architecture, found in zip(architectures, cubins(variant, architectures)):
            text = _disassembled(found)
            calls = faults_of_calls(text, found.entry)
            if spills(text) or calls:
                faults.append(f"{variant!r} for {architecture}: {spills(text)} accesses to local memory, calls {calls}")
    print(f"{compiled} variants of {len(kernels)} kernels compiled for {', '.join(architectures)}")
    return faults
