"""What the checks of machine code find, on code that is written here."""

from __future__ import annotations

import re

import pytest

from tests.cuda.sass import faults_of_calls

_DIVISION = "CALL.ABS.NOINC `(__cuda_sm20_div_rn_f64_full)"


def _text(*lines: str) -> str:
    """Instructions and labels as the disassembler writes them, with a jump to itself and padding behind."""
    lines = (*lines, ".L_x_99:", "BRA `(.L_x_99)", "NOP")
    numbered = [line if line.endswith(":") else f"        /*{16 * i:04x}*/    {line} ;" for i, line in enumerate(lines)]
    return "\n".join(["", ".text.kernel:", *numbered, "//-------- .text.another --------"])


@pytest.mark.parametrize(
    "lines",
    [
        ["LDG.E R0, [R2]", "STG.E [R2], R0", "EXIT"],
        # A division whose last part is for rare numbers.
        ["LDG.E R0, [R2]", "@P0 BRA P3, `(.L_x_1)", _DIVISION, ".L_x_1:", "STG.E [R2], R0", "EXIT"],
        # Exchanges between threads that have parted, behind the kernel's end.
        [
            "BRA.DIV ~URZ, `(.L_x_1)", "SHFL.BFLY PT, R1, R0, 0x10, 0x1f", ".L_x_2:", "STG.E [R2], R1", "EXIT",
            ".L_x_1:", "CALL.ABS.NOINC `(__cuda_sm70_shflsync_bfly_p)", "FADD R0, R0, R1",
            "CALL.ABS.NOINC `(__cuda_sm70_shflsync_bfly_p)", "BRA `(.L_x_2)",
        ],
        # The end of some threads, which is written as a call.
        ["@!P0 CALL.REL.NOINC `(.L_x_1)", "BRA `(.L_x_2)", ".L_x_1:", "EXIT", ".L_x_2:", "STG.E [R2], R0", "EXIT"],
    ],
)  # fmt: skip
def test_calls_beside_the_way(lines: list[str]) -> None:
    assert faults_of_calls(_text(*lines), "kernel") == []


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        (["CALL.REL.NOINC `($kernel$_square)", "EXIT"], "not known: .*_square"),
        (["@P0 BRA `(.L_x_1)", "CALL.ABS.NOINC `(__cuda_sm20_div_s64)", ".L_x_1:", "EXIT"], "not known: .*div_s64"),
        (["@P0 CALL.REL.NOINC `(.L_x_1)", "EXIT", ".L_x_1:", "FADD R0, R0, R1", "RET.REL R4"], "not known: .*RET"),
        (["LDG.E R0, [R2]", _DIVISION, "STG.E [R2], R0", "EXIT"], "only behind a call: .*STG"),
        (["@P0 BRA `(.L_x_1)", _DIVISION, "LDS R1, [R2]", ".L_x_1:", "EXIT"], "only behind a call: .*LDS"),
        (["@P0 BRA `(.L_x_1)", _DIVISION, "LDGSTS.E [R1], [R2]", ".L_x_1:", "EXIT"], "only behind a call: .*LDGSTS"),
        ([_DIVISION, "EXIT"], "only behind a call: .*EXIT"),
        # In each pass of a loop, with its condition behind or in front.
        (
            ["@P0 BRA `(.L_x_2)", ".L_x_1:", "LDG.E R0, [R2]", _DIVISION, "@P1 BRA `(.L_x_1)", ".L_x_2:", "EXIT"],
            "always before a call: .*LDG",
        ),
        (
            [".L_x_1:", "@P0 BRA `(.L_x_2)", "LDG.E R0, [R2]", _DIVISION, "BRA `(.L_x_1)", ".L_x_2:", "EXIT"],
            "always before a call: .*LDG",
        ),
        (["EXIT", "STG.E [R2], R0"], "no way was found to .*STG"),
        (["BRX R2 -0x10"], "not known: .*BRX"),
        (["JMP R2"], "not known: .*JMP"),
    ],
)  # fmt: skip
def test_other_calls(lines: list[str], fault: str) -> None:
    assert any(re.match(fault, each) for each in faults_of_calls(_text(*lines), "kernel"))
