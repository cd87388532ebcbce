"""Instruction sets: which one is chosen, and that each gives right results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pycnn_kernels.cpu import host

#: What runs again on each instruction set: every dtype and layout, channels around the vectors' width.
SUBSET = [
    "tests/kernels/test_conv.py::test_channels",
    "tests/kernels/test_conv.py::test_groups",
    "tests/kernels/test_conv.py::test_groups_of_four_channels",
    "tests/kernels/test_conv.py::test_relu_is_fused",
    "tests/kernels/test_conv.py::test_any_problem",
    "tests/kernels/test_conv.py::test_more_work_than_one_piece",
    "tests/kernels/test_winograd.py::test_every_scheme",
    "tests/kernels/test_pool.py::test_any_problem",
    "tests/kernels/test_layout.py",
    "tests/kernels/test_softmax.py",
    "tests/kernels/test_batch_norm.py::test_training",
]


def test_the_widest_is_first() -> None:
    names = host.supported()
    assert names[-1] == "portable"
    widths = [simd.vector_bytes for simd in host.INSTRUCTION_SETS if simd.name in names]
    assert widths == sorted(widths, reverse=True)


def test_lanes() -> None:
    assert host.lanes("float32") == 2 * host.lanes("float64") == host.SIMD.vector_bytes // 4


@pytest.mark.parametrize("wanted", ["avx1024", "AVX2"])
def test_unknown_instruction_sets(wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYCNN_SIMD", wanted)
    known = ", ".join(host.supported())
    with pytest.raises(ValueError, match=f"PYCNN_SIMD must be one of {known} on this processor; received '{wanted}'"):
        host.choose()


@pytest.mark.parametrize("simd", host.INSTRUCTION_SETS, ids=lambda simd: simd.name)
def test_each_instruction_set(simd: host.Simd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYCNN_SIMD", simd.name)
    if simd.name in host.supported():
        assert host.choose() == simd
    else:
        with pytest.raises(ValueError, match="on this processor; received"):
            host.choose()


@pytest.mark.parametrize("simd", [simd.name for simd in host.INSTRUCTION_SETS])
def test_results_on_each_instruction_set(simd: str, run_python: Callable[..., Any]) -> None:
    if simd not in host.supported():
        pytest.skip(f"this processor has no {simd}")
    if simd == host.SIMD.name:
        pytest.skip(f"{simd} is what this session runs on")
    options = ("-q", "-x", "-p", "no:cacheprovider")
    # Kernels of both dtypes would take minutes to compile.
    done = run_python("-m", "pytest", *options, *SUBSET, PYCNN_SIMD=simd, PYCNN_TEST_DTYPES="float32")
    assert done.returncode == 0, done.stdout + done.stderr
