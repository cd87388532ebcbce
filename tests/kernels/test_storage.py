"""float16 and bfloat16: every conversion of bits, and every operation on arrays that are stored so."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite.binding
import numpy as np
import pytest

from pycnn_kernels import plan as plan_module
from pycnn_kernels.cpu import host
from pycnn_kernels.plan import explain, plan_for
from pycnn_kernels.problem import CastProblem, ChannelsProblem, RowsProblem, UpdatesProblem, dtype_name, numpy_dtype
from tests import reference as oracle
from tests.kernels.problems import (
    BOUNDS,
    EACH_HALF,
    HALVES,
    LAYOUTS,
    WEIGHT_LAYOUTS,
    conv_arrays,
    conv_problem,
    each_number_of_threads,
    expected_conv,
    expected_pool,
    numbers,
    pool_problem,
    run_conv,
    run_pool,
)

each_half = pytest.mark.parametrize("half", EACH_HALF)


def widened(stored: np.ndarray) -> np.ndarray:
    (wide,) = plan_for("widen", CastProblem(stored.dtype.name, stored.size)).run(stored)
    return wide


def narrowed(wide: np.ndarray, half: str) -> np.ndarray:
    (stored,) = plan_for("narrow", CastProblem(half, wide.size)).run(wide)
    return stored


def value_of(bits: np.ndarray, half: str) -> np.ndarray:
    """What bits mean, from the definition of the formats: sign, exponent, fraction; in float64."""
    exponent_bits, fraction_bits = (5, 10) if half == "float16" else (8, 7)
    bits = bits.astype(np.int64)
    exponent = bits >> fraction_bits & (1 << exponent_bits) - 1
    fraction = bits & (1 << fraction_bits) - 1
    bias = (1 << exponent_bits - 1) - 1
    leading = (exponent > 0) << fraction_bits  # subnormals have no leading 1, and the exponent of the smallest normals
    value = np.ldexp((leading + fraction).astype(np.float64), np.maximum(exponent, 1) - bias - fraction_bits)
    special = exponent == (1 << exponent_bits) - 1
    value[special] = np.where(fraction[special] == 0, np.inf, np.nan)
    return np.where(bits >> 15, -value, value)


def check_conversions(half: str) -> None:
    """All bits one way; the other way numbers of all kinds, against NumPy's and ml_dtypes' own rounding."""
    bits = np.arange(1 << 16, dtype=np.uint16)
    stored = bits.view(numpy_dtype(half))
    wide = widened(stored)
    np.testing.assert_array_equal(wide, value_of(bits, half))
    np.testing.assert_array_equal(np.signbit(wide), bits >= 1 << 15)

    rng = np.random.default_rng(5)
    anything = rng.integers(0, 1 << 32, 1_000_003, dtype=np.uint32)
    lost = 13 if half == "float16" else 16  # bits of the fraction: ties lie half of their range above a number
    beside = np.array([0, 1, 2, (1 << lost - 1) - 1, 1 << lost - 1, (1 << lost - 1) + 1, (1 << lost) - 1], np.uint32)
    near = (wide.view(np.uint32)[:, None] + beside).ravel()
    # Between subnormals ties lie elsewhere: halfway between each two neighbours, and at their sides.
    with np.errstate(invalid="ignore", over="ignore"):
        middles = ((value_of(bits[:-1], half) + value_of(bits[1:], half)) / 2).astype(np.float32).view(np.uint32)
    ties = (middles[:, None] + np.array([0, 1, 0xFFFFFFFF], np.uint32)).ravel()
    values = np.concatenate([anything, near, ties]).view(np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        expected = values.astype(stored.dtype)
    found = narrowed(values, half)
    is_nan = np.isnan(values)
    assert np.isnan(found[is_nan].astype(np.float32)).all()
    np.testing.assert_array_equal(found[~is_nan].view(np.uint16), expected[~is_nan].view(np.uint16))


@each_half
def test_every_conversion(half: str) -> None:
    check_conversions(half)


@pytest.mark.parametrize("processor", ["host", "generic"])
@pytest.mark.parametrize("simd", [simd.name for simd in host.INSTRUCTION_SETS])
def test_every_conversion_on_other_processors(simd: str, processor: str, python_prints: Callable[..., str]) -> None:
    """A "generic" x86 converts no float16 itself: it takes integers for it, as wide as ``simd`` says."""
    if simd not in host.supported():
        pytest.skip(f"this processor has no {simd}")
    if (simd, processor) == (host.SIMD.name, "host"):
        pytest.skip("that is what this session runs on")
    code = """if True:
        from tests.kernels.test_storage import HALVES, check_conversions
        for half in HALVES:
            check_conversions(half)
        print(*HALVES)"""
    environment = {"NUMBA_CPU_NAME": processor} if processor == "generic" else {}
    assert python_prints(code, PYCNN_SIMD=simd, **environment).split() == list(HALVES)


@pytest.mark.parametrize("simd", ["avx512", "avx2", "portable"])
def test_float16_is_converted_by_the_processor(simd: str, tmp_path: Path, python_prints: Callable[..., str]) -> None:
    if not llvmlite.binding.get_host_cpu_features().get("f16c", False) or simd not in host.supported():
        pytest.skip(f"this processor has no {simd} or no F16C")
    code = """if True:
        from pycnn_kernels.cpu.storage import narrow_float16_kernel, widen_float16_kernel
        for kernel in (widen_float16_kernel, narrow_float16_kernel):
            kernel.entry("float32")
            print(kernel._compiled["float32"]._library.get_asm_str())"""
    # A cache of its own, for there is no assembly of kernels that come from a cache.
    assembly = python_prints(code, PYCNN_SIMD=simd, PYCNN_CACHE_DIR=str(tmp_path))
    assert "vcvtph2ps" in assembly
    assert "vcvtps2ph" in assembly
    assert "hf2" not in assembly  # __extendhfsf2 and __truncsfhf2, the functions of a C runtime


# Operations. The arrays of a problem hold halves; the oracle gets the same numbers in float64.

FORMS = [dict(zip(("layout", "weight_layout"), form)) for form in itertools.product(LAYOUTS, WEIGHT_LAYOUTS)]
CONVOLUTIONS: list[dict[str, Any]] = [
    {"C": 3, "K": 17, "padding": 1, "bias": True, "activation": "relu"},
    {"C": 17, "K": 33, "size": (9, 12), "padding": ((0, 1), (2, 0)), "stride": (1, 2)},
    {"C": 64, "K": 32, "size": (13, 14), "padding": 1, "bias": True},
    {"C": 8, "K": 4, "size": 9, "kernel": 5, "dilation": 2, "padding": 4},
    {"C": 18, "K": 18, "size": 8, "G": 18, "bias": True},
    {"C": 12, "K": 6, "G": 3, "kernel": (1, 2)},
    {"C": 700, "K": 5, "size": 1, "kernel": 1, "bias": True},
    {"N": 0},
    {"C": 4, "size": (5, 6, 7), "rank": 3, "padding": 1},
    {"C": 4, "size": (20,), "rank": 1, "kernel": 4},
]


@each_half
@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("convolution", CONVOLUTIONS, ids=str)
def test_convolutions_round_once(convolution: dict[str, Any], form: dict[str, Any], half: str) -> None:
    """Against the oracle, and bit by bit against the rounded results of the same problem in float32."""
    p = conv_problem(**convolution, **form, dtype=half)
    arrays = conv_arrays(p)
    assert {array.dtype for array in arrays.values()} == {numpy_dtype(half)}
    wide = {name: array.astype(np.float32) for name, array in arrays.items()}
    expected = expected_conv(p, **wide)
    in_float32 = run_conv(p._replace(dtype="float32"), **wide)
    found = run_conv(p, **arrays)
    assert found.keys() == in_float32.keys()
    for name, array in found.items():
        result, algorithm = name.split()
        assert array.dtype == numpy_dtype(half)
        oracle.assert_rounded(array, expected[result], BOUNDS.get((algorithm, "float32")))
        assert array.tobytes() == in_float32[name].astype(array.dtype).tobytes(), name


@each_half
def test_sums_do_not_stop_growing(half: str) -> None:
    """In bfloat16 a sum of ones ends at 256, in float16 at 2048."""
    p = conv_problem(N=1, C=3000, K=1, size=1, kernel=1, dtype=half)
    ones = {name: np.ones_like(array) for name, array in conv_arrays(p).items()}
    for name, y in run_conv(p, **ones).items():
        if name.startswith("y"):
            assert float(y.ravel()[0]) == float(np.float32(3000).astype(numpy_dtype(half))), name
    _, db = plan_for("bias_activation_gradient", ChannelsProblem(half, 3000, 1)).run(
        np.ones((3000, 1, 1), numpy_dtype(half)), None, skip=("dz",)
    )
    assert float(db[0]) == float(np.float32(3000).astype(numpy_dtype(half)))


@each_half
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["max", "average"])
@pytest.mark.parametrize(
    "window",
    [
        {"kernel": 2},
        {"kernel": 3, "stride": 2, "padding": 1, "C": 17},
        {"kernel": (2, 3), "stride": 1, "ceil_mode": True},
        {"size": 40, "C": 33, "kernel": 7, "stride": 7},
        {"N": 0},
    ],
    ids=str,
)
def test_pools_round_once(window: dict[str, Any], kind: str, layout: str, half: str) -> None:
    p = pool_problem(kind, **window, layout=layout, dtype=half)
    x, dy = numbers(p.x_shape, half, 1), numbers(p.y_shape, half, 2)
    found = run_pool(p, x, dy)
    expected = expected_pool(p, x.astype(np.float64), dy.astype(np.float64))
    for name in ("y", "dx"):
        assert found[name].dtype == numpy_dtype(half)
        oracle.assert_rounded(found[name], expected[name])
    if kind == "max":
        np.testing.assert_array_equal(found["y"].astype(np.float64), expected["y"])
        np.testing.assert_array_equal(found["index"], expected["index"])


@each_half
@pytest.mark.parametrize("shape", [(1, 1), (5, 17), (33, 1000)])
def test_rows_round_once(shape: tuple[int, int], half: str) -> None:
    x = (4 * numbers(shape, "float32")).astype(numpy_dtype(half))
    labels = np.arange(shape[0], dtype=np.int64) % shape[1]
    p, exact = RowsProblem(half, *shape), x.astype(np.float64)
    oracle.assert_rounded(plan_for("softmax", p).run(x)[0], oracle.softmax(exact))
    oracle.assert_rounded(plan_for("log_softmax", p).run(x)[0], oracle.log_softmax(exact))
    losses, softmax = plan_for("cross_entropy", p).run(x, labels, scalars=(-100, 0.1))
    oracle.assert_rounded(losses, oracle.cross_entropy(exact, labels, smoothing=0.1))
    oracle.assert_rounded(softmax, oracle.softmax(exact))


@each_half
@pytest.mark.parametrize("shape", [(35, 17, 1), (3, 5, 30), (0, 3, 1)])
def test_gradient_in_front_of_relu_and_bias(shape: tuple[int, ...], half: str) -> None:
    dy, y = numbers(shape, half, 1), numbers(shape, half, 2)
    dz, db = plan_for("bias_activation_gradient", ChannelsProblem(half, *shape)).run(dy, y)
    expected = np.where(y > 0, dy.astype(np.float64), 0)
    np.testing.assert_array_equal(dz.astype(np.float64), expected)
    oracle.assert_rounded(db, expected.sum(axis=(0, 2)))


@each_half
def test_optimizers_keep_their_state_in_float32(half: str) -> None:
    """A velocity in halves would lose gradients that are small beside it; and the weight is rounded once a step."""
    w = numbers((1001,), half)
    g = (1e-3 * numbers((1001,), "float32", 1)).astype(w.dtype)
    m, v = np.zeros(1001, np.float32), np.zeros(1001, np.float32)
    exact = w.astype(np.float64)
    p = UpdatesProblem(half, "adam", ((1001,),))
    plan_for("updates", p).run(g, updated=(w, m, v), scalars=(0.0, 0.01, 0.1, 0.001, 1e-7))
    oracle.assert_close(v, 0.001 * g.astype(np.float64) ** 2)
    gradient = g.astype(np.float64)
    step = 0.01 * 0.1 * gradient / (np.sqrt(0.001) * np.abs(gradient) + 1e-7)
    oracle.assert_rounded(w, exact - step)
    weight, velocity = plan_for("updates", p._replace(rule="sgd_momentum")).updated
    assert (weight.dtype, velocity.dtype) == (numpy_dtype(half), np.float32)


@each_half
def test_neither_runs_nor_threads_change_the_bits(half: str) -> None:
    """Sizes at which conversions are divided among threads."""
    p = conv_problem(N=4, C=40, K=48, size=(24, 25), padding=1, bias=True, dtype=half)
    arrays = conv_arrays(p)
    assert arrays["x"].size > 1 << 16
    plain = run_conv(p, **arrays)
    for _ in each_number_of_threads():
        for name, array in [*run_conv(p, **arrays).items(), *run_conv(p, **arrays).items()]:
            assert array.tobytes() == plain[name].tobytes(), name


@each_half
def test_choices_are_those_of_float32(half: str) -> None:
    for convolution in ({"C": 64, "K": 64, "size": 56, "padding": 1}, {"C": 3, "K": 6, "size": 30}, {"stride": 2}):
        p = conv_problem(**convolution, dtype=half)
        wide = p._replace(dtype="float32")
        for operation in ("conv_forward", "conv_input_gradient", "conv_weight_gradient"):
            assert plan_for(operation, p).algorithm is plan_for(operation, wide).algorithm
            verdicts, others = explain(operation, p), explain(operation, wide)
            assert [v._replace(workspace_bytes=None, peak_bytes=None) for v in verdicts] == [
                v._replace(workspace_bytes=None, peak_bytes=None) for v in others
            ]
            shapes = [p.x_shape, p.w_shape, p.y_shape]
            widened_bytes = sum(4 * math.prod(shape) for shape in shapes)
            for verdict, other in zip(verdicts, others):
                if verdict.workspace_bytes is not None:
                    assert verdict.workspace_bytes == other.workspace_bytes + widened_bytes
                    results = [v.peak_bytes - v.workspace_bytes for v in (verdict, other)]
                    assert 2 * results[0] == results[1]


@each_half
def test_arrays_of_another_dtype_are_refused(half: str) -> None:
    p = conv_problem(dtype=half)
    arrays = conv_arrays(p)
    with pytest.raises(TypeError, match=f"w must have the dtype {half}; received float32"):
        plan_for("conv_forward", p).run(arrays["x"], arrays["w"].astype(np.float32), None)
    with pytest.raises(TypeError, match=f"x must have the dtype float32; received {half}"):
        plan_for("conv_forward", p._replace(dtype="float32")).run(arrays["x"], arrays["w"], None)


def test_names_of_dtypes() -> None:
    for half in HALVES:
        assert dtype_name(numpy_dtype(half)) == half
    for other in (np.int16, np.complex64, np.dtype("V2"), object, np.longdouble):
        assert dtype_name(np.dtype(other)) is None


def test_bfloat16_is_not_imported_until_it_is_asked_for(python_prints: Callable[..., str]) -> None:
    code = """if True:
        import sys
        import numpy as np
        import pycnn.functional as F
        F.conv2d(np.ones((1, 1, 4, 4), np.float16), np.ones((1, 1, 2, 2), np.float16))
        print("ml_dtypes" in sys.modules)"""
    assert python_prints(code).strip() == "False"


def test_without_ml_dtypes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    monkeypatch.setattr(plan_module, "_plans", {})
    with pytest.raises(
        ModuleNotFoundError, match=r"bfloat16 needs the package ml_dtypes; pip install 'pycnn\[bfloat16\]'"
    ):
        plan_for("conv_forward", conv_problem(dtype="bfloat16"))
