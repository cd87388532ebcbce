"""Implicit GEMM on the GPU against float64."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from pycnn_kernels.cuda import conv_implicit_gemm
from pycnn_kernels.cuda.conv_implicit_gemm import (
    Division,
    division,
    gathered_product_kernel,
    implicit_gemm_supports,
    implicit_gemm_supports_input_gradient,
    weight_gradient_kernel,
)
from pycnn_kernels.cuda.launch import Variant
from pycnn_kernels.cuda.tile import SLICE, Tile
from pycnn_kernels.plan import plan_for
from tests import reference as oracle
from tests.cuda.conftest import ON_A_GPU
from tests.cuda.sass import ARCHITECTURES, count, sass, spills
from tests.kernels.problems import DTYPES, LAYOUTS, WEIGHT_LAYOUTS, check_conv, conv_arrays, conv_problem, run_on_host

LARGE, MEDIUM, SMALL = Tile(128, 128, 2, 2), Tile(64, 64, 2, 1), Tile(32, 32, 1, 1)
NO_EPILOGUE = {"bias": False, "scale": False, "residual": False, "activation": None}


@pytest.fixture
def tiles(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets the tile, and the number of parts, of all products; without that they are small ones, in one part."""

    def use(tile: Tile, parts: int = 1) -> None:
        monkeypatch.setattr(conv_implicit_gemm, "division", lambda *sizes: Division(tile, parts))

    if not ON_A_GPU:
        use(SMALL)
    return use


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weight_layout", WEIGHT_LAYOUTS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(device: Any, tiles: Any, layout: Any, weight_layout: Any, dtype: str) -> None:
    """Channels and filters in fours, and pixels in fours."""
    check_conv(
        conv_problem(
            N=2, C=4, size=(5, 4), K=8, padding=1, dtype=dtype, layout=layout, weight_layout=weight_layout
        ),
        "cuda",
        "implicit_gemm",
    )  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "shape",
    [
        {"C": 3, "K": 5, "kernel": (3, 2), "stride": (2, 1), "padding": ((1, 0), (0, 2))},
        {"C": 1, "K": 1, "kernel": 2, "size": (3, 5), "stride": 3},
        {"C": 8, "K": 4, "kernel": 1, "stride": 2, "size": (5, 3)},
        {"C": 4, "K": 12, "G": 2, "kernel": (2, 3), "dilation": (2, 1), "padding": 2, "stride": (1, 2), "size": (4, 5)},
        {"C": 2, "K": 3, "rank": 1, "size": (9,), "kernel": 4, "stride": 3, "dilation": 2, "padding": 3, "N": 3},
        {"C": 2, "K": 4, "rank": 3, "size": (3, 2, 3), "kernel": (2, 1, 3), "padding": 1, "stride": (2, 1, 1), "N": 1},
        {"C": 2, "K": 2, "kernel": 1, "size": (1, 1), "padding": 1, "N": 11},
    ],
    ids=str,
)
def test_shapes(device: Any, tiles: Any, shape: dict[str, Any], layout: Any) -> None:
    """Odd sizes, strides with phases that no tap reaches, groups, one to three axes, images of less than a slice."""
    for weight_layout in WEIGHT_LAYOUTS[: 1 + (shape.get("G", 1) > 1)]:
        check_conv(
            conv_problem(layout=layout, weight_layout=weight_layout, **{"size": (4, 5)} | shape),
            "cuda",
            "implicit_gemm",
        )


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "epilogue",
    [
        {"bias": True, "activation": "relu"},
        {"bias": True, "scale": True, "residual": True, "activation": "leaky_relu", "slope": 0.2},
    ],
    ids=str,
)
@pytest.mark.parametrize("parts", [1, 2])
def test_epilogue(device: Any, tiles: Any, epilogue: dict[str, Any], layout: Any, parts: int) -> None:
    """Finished where the sums are, or where parts are added up."""
    tiles(SMALL, parts)
    p = conv_problem(N=1, C=2, size=(2, 5), K=4 if parts == 1 else 3, kernel=(1, 2), layout=layout, **epilogue)
    check_conv(p, "cuda", "implicit_gemm")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_parts(device: Any, tiles: Any, layout: Any) -> None:
    """Parts of different lengths, one of them empty, in phases and groups."""
    tiles(SMALL, 4)
    shape = {"C": 4, "K": 4, "G": 2, "kernel": 3, "stride": 2, "padding": 1, "size": (5, 4)}
    check_conv(conv_problem(layout=layout, weight_layout="OIHW", **shape), "cuda", "implicit_gemm")


@pytest.mark.skipif(ON_A_GPU, reason="which tiles a GPU gets is its choice")
def test_large_tile(device: Any, tiles: Any) -> None:
    """Beyond the border of a tile in both directions, and two slices deep."""
    tiles(LARGE)
    p = conv_problem(N=1, C=12, size=(LARGE.rows + 3,), K=LARGE.columns + 4, kernel=1, rank=1)
    x, w = conv_arrays(p)["x"], conv_arrays(p)["w"]
    (y,) = run_on_host(plan_for("conv_forward", p, backend="cuda", algorithm="implicit_gemm"), x, w, None)
    oracle.assert_close(y, x.astype(np.float64) @ w[0].astype(np.float64))


@pytest.mark.parametrize("empty", [{"N": 0}, {"C": 0}, {"K": 0}], ids=str)
def test_empty(device: Any, tiles: Any, empty: dict[str, int]) -> None:
    """What sums nothing is zero, and finished."""
    p = conv_problem(**{"N": 1, "C": 4, "K": 4, "size": (3, 3), "stride": 2, "bias": True} | empty)
    arrays = conv_arrays(p)
    x, w, b, dy = (arrays[name] for name in ("x", "w", "b", "dy"))

    def run(operation: str, problem: Any, *inputs: np.ndarray) -> np.ndarray:
        return run_on_host(plan_for(operation, problem, backend="cuda", algorithm="implicit_gemm"), *inputs)[0]

    np.testing.assert_array_equal(run("conv_forward", p, x, w, b), np.broadcast_to(b, p.y_shape))
    np.testing.assert_array_equal(run("conv_input_gradient", p.linear, dy, w), np.zeros(p.x_shape))
    np.testing.assert_array_equal(run("conv_weight_gradient", p.linear, x, dy), np.zeros(p.w_shape))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nan_and_infinity_flow_through(device: Any, tiles: Any, layout: Any) -> None:
    """To where they are summed, and nowhere else: what is beyond the edges is zero, not multiplied by zero."""
    p = conv_problem(N=1, C=4, size=(4, 4), K=4, padding=1, layout=layout)
    x, w = np.ones(p.x_shape, np.float32), np.ones(p.w_shape, np.float32)
    pixels = oracle.channels_last(x, layout)
    pixels[0, 0, 0, 1], pixels[0, 3, 3, 2] = np.nan, np.inf
    (y,) = run_on_host(plan_for("conv_forward", p, backend="cuda", algorithm="implicit_gemm"), x, w, None)
    found = oracle.channels_last(y, layout)[0]
    assert np.isnan(found[:2, :2]).all()
    assert np.isinf(found[2:, 2:]).all()
    assert np.isfinite(found[:2, 2:]).all()
    assert np.isfinite(found[2:, :2]).all()


def test_bits_repeat(device: Any, tiles: Any) -> None:
    tiles(SMALL, 3)
    p = conv_problem(N=1, C=4, size=(5, 5), K=4)
    arrays = conv_arrays(p)
    plan = plan_for("conv_weight_gradient", p, backend="cuda", algorithm="implicit_gemm")
    once, again = (run_on_host(plan, arrays["x"], arrays["dy"])[0] for _ in range(2))
    np.testing.assert_array_equal(once, again)


def test_supports() -> None:
    assert implicit_gemm_supports(conv_problem()) is None
    assert "zeros" in str(implicit_gemm_supports(conv_problem(padding=1, padding_mode="reflect")))
    many = conv_problem(N=1 << 16, C=64, size=(32, 32), padding=1)
    assert "2,147,418,112 elements" in str(implicit_gemm_supports(many))
    assert "groups" in str(implicit_gemm_supports(conv_problem(N=1, C=70000, K=70000, G=70000)))
    wide = conv_problem(size=(40, 40), kernel=31, padding=15)
    assert "padding" in str(implicit_gemm_supports(wide))
    assert implicit_gemm_supports(wide._replace(padding=((0, 0),) * 3)) is None
    assert "padding" in str(implicit_gemm_supports_input_gradient(wide._replace(padding=((0, 0),) * 3)))


def test_division(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many results: large tiles; few: small ones; few of great depth: parts, as many as there are slices at most."""
    monkeypatch.setattr(type(device), "processors", 132, raising=False)
    if ON_A_GPU:
        pytest.skip("for the number of multiprocessors of the H200")
    assert division("float32", 1 << 20, 256, 576, 1, 1 << 28) == (LARGE, 1)
    assert division("float32", 1 << 20, 64, 576, 1, 1 << 26).tile.columns == 64
    assert division("float32", 49, 512, 4608, 1, 49 * 512).parts > 4
    few = division("float32", 27, 64, 1 << 20, 1, 27 * 64)
    assert few.tile.rows < 128
    assert few.parts > 16
    assert division("float32", 100, 10, 8, 1, 1000).parts == 1
    assert division("float32", 0, 0, 0, 1, 0).parts == 1


# --- What is compiled -----------------------------------------------------------------------------------------------


def _gathered(tile: Tile, dtype: str = "float32", **constants: Any) -> Variant:
    chosen = NO_EPILOGUE | {"reading": "quads", "writing": "columns", "placing": "dense"} | constants
    return gathered_product_kernel.variant(dtype, **conv_implicit_gemm.threads_of(dtype, tile), tile=tile, **chosen)


def _gradient(tile: Tile, dtype: str = "float32", **constants: Any) -> Variant:
    chosen = {"reading": "quads", "writing": "columns", "placing": "dense", "dy_quads": True} | constants
    return weight_gradient_kernel.variant(dtype, **conv_implicit_gemm.threads_of(dtype, tile), tile=tile, **chosen)


def _main_loop(text: str) -> list[str]:
    """The instructions of the loop that multiplies most."""
    instructions: list[str] = []
    labels: dict[str, int] = {}
    best: list[str] = []
    for line in text.splitlines():
        if label := re.match(r"\s*(\.L_x_\d+):", line):
            labels[label[1]] = len(instructions)
        if instruction := re.search(r"/\*[0-9a-f]{4,}\*/\s+(.*);", line):
            instructions.append(instruction[1])
            back = re.search(r"BRA.*`\((\.L_x_\d+)\)", instruction[1])
            loop = instructions[labels[back[1]] :] if back and back[1] in labels else []
            best = max(best, loop, key=lambda body: count("\n".join(body), r"\b[FD]FMA"))
    return best


@pytest.mark.parametrize("architecture", [ARCHITECTURES[0], ARCHITECTURES[-1]])
def test_compiled(architecture: str) -> None:
    """A slice is 512 multiply-adds a thread, and few instructions besides, with as few registers as two blocks have."""
    text = sass(_gathered(LARGE, bias=True, residual=True, activation="relu"), architecture)
    loop = "\n".join(_main_loop(text))
    assert count(loop, r"\bFFMA\b") == 8 * 8 * SLICE
    assert len(loop.splitlines()) <= 620
    assert count(loop, r"LDS\.128") == 4 * SLICE
    assert count(loop, r"LDG\.E\.128") == 2
    assert count(loop, r"BAR\.SYNC") == 1
    # On the older ones the loop's end is a call that does not return; a division would be one of another kind.
    assert not count(loop, r"\bCALL\.(?!REL\.NOINC)")
    assert not spills(text)
    # The loads are issued long before their elements are stored.
    first_load, first_store = loop.index("LDG.E.128"), loop.index("STS")
    assert count(loop[first_load:first_store], r"\bFFMA\b") > 128


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(
    ("variant", "most"),
    [
        (_gathered(LARGE, reading="planes", writing="rows", placing="split"), 640),
        (_gradient(LARGE), 620),
        (_gradient(LARGE, reading="planes", writing="elements", placing="split"), 660),
        (_gathered(MEDIUM, "float64"), 380),
    ],
    ids=str,
)
def test_variants_compiled(variant: Variant, most: int, architecture: str) -> None:
    text = sass(variant, architecture)
    loop = _main_loop(text)
    strips = variant._constants["tile"].row_strips * variant._constants["tile"].column_strips
    assert count("\n".join(loop), r"\b[FD]FMA\b") == 16 * strips * SLICE
    assert len(loop) <= most
    assert not spills(text)


@pytest.mark.parametrize("device", [1], indirect=True, ids=["upwards"])
@pytest.mark.skipif(ON_A_GPU, reason="a GPU has the multiprocessors that it has")
def test_more_parts_than_a_phase_has_slices(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The phases of a stride have taps of different numbers, and as many parts as the one with most."""
    monkeypatch.setattr(device, "processors", 132)
    p = conv_problem(N=1, C=32, K=64, size=(4, 4), stride=2, padding=1)
    check_conv(p, "cuda", "implicit_gemm")
