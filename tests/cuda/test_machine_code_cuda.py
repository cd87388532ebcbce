"""What the checks of machine code find, on code that is written here."""

from __future__ import annotations

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
        (["CALL.REL.NOINC `($kernel$_square)", "EXIT"], "_square"),
        (["@P0 BRA `(.L_x_1)", "CALL.ABS.NOINC `(__cuda_sm20_div_s64)", ".L_x_1:", "EXIT"], "div_s64"),
        (["LDG.E R0, [R2]", _DIVISION, "STG.E [R2], R0", "EXIT"], r"behind a call: .*STG"),
        (["@P0 BRA `(.L_x_1)", _DIVISION, "LDS R1, [R2]", ".L_x_1:", "EXIT"], r"behind a call: .*LDS"),
        ([_DIVISION, "EXIT"], r"behind a call: .*EXIT"),
    ],
)
def test_other_calls(lines: list[str], fault: str) -> None:
    with pytest.raises(AssertionError, match=fault):
        assert not faults_of_calls(_text(*lines), "kernel")


def test_code_that_is_not_understood() -> None:
    with pytest.raises(AssertionError, match=r"no way was found to .*STG"):
        faults_of_calls(_text("EXIT", "STG.E [R2], R0"), "kernel")
    with pytest.raises(AssertionError, match="a jump that this does not know"):
        faults_of_calls(_text("BRX R2 -0x10", "EXIT"), "kernel")
