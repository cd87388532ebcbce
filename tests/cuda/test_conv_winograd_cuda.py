"""Winograd's convolution on the GPU against float64."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pycnn_kernels.cuda import conv_implicit_gemm, conv_winograd
from pycnn_kernels.cuda.conv_winograd import (
    batched_product_kernel,
    patches_kernel,
    results_kernel,
    small_tiles_suit,
    weight_gradient_kernel,
    weights_kernel,
    winograd_supports,
)
from pycnn_kernels.cuda.launch import Variant
from pycnn_kernels.cuda.tile import SLICE, Tile
from pycnn_kernels.plan import explain, plan_for
from pycnn_kernels.problem import ConvProblem
from tests import reference as oracle
from tests.cuda.conftest import ON_A_GPU
from tests.cuda.sass import ARCHITECTURES, count, sass, spills
from tests.kernels.problems import (
    BOUNDS,
    LAYOUTS,
    WEIGHT_LAYOUTS,
    conv_arrays,
    conv_problem,
    expected_conv,
    largest_product,
    run_on_host,
)

NAMES = ("winograd_2x2", "winograd_4x4")
OPERATIONS = {"y": "conv_forward", "dx": "conv_input_gradient", "dw": "conv_weight_gradient"}
INPUTS = {"y": ("x", "w", "b", "scale", "residual"), "dx": ("dy", "w"), "dw": ("x", "dy")}
NO_EPILOGUE = {"bias": False, "scale": False, "residual": False, "activation": None}


def run(p: ConvProblem, name: str, result: str, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """y, dx or dw by one of the algorithms."""
    plan = plan_for(OPERATIONS[result], p if result == "y" else p.linear, backend="cuda", algorithm=name)
    found: np.ndarray = run_on_host(plan, *(arrays.get(key) for key in INPUTS[result]))[0]
    return found


def check(p: ConvProblem, names: tuple[str, ...] = NAMES, results: str = "y dx dw") -> None:
    """Results of an algorithm against the oracle."""
    arrays = conv_arrays(p)
    expected, sums = expected_conv(p, **arrays), expected_conv(p._replace(activation=None), **arrays)["y"]
    if not p.bias:
        del arrays["b"]
    for name in names:
        for result in results.split():
            factors = {key: arrays[key] for key in ("x", "w", "dy")}
            least = max(largest_product(result, **factors), float(np.abs(sums).max(initial=0)) if p.activation else 0)
            oracle.assert_close(run(p, name, result, arrays), expected[result], BOUNDS[name, "float32"], least)


@pytest.fixture
def division(device: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets the number of parts of all products, whose tiles are small ones; without that they have one part."""

    def use(parts: int) -> None:
        chosen = conv_implicit_gemm.Division(Tile(32, 32, 1, 1), parts)
        monkeypatch.setattr(conv_implicit_gemm, "division", lambda *sizes: chosen)

    use(1)
    return use


@pytest.fixture
def products(device: Any, division: Callable[[int], None], monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Has NumPy compute the products of a simulated GPU, which takes long, where a test is about all the rest."""
    load = device.load

    def loaded(variant: Variant) -> Callable[..., None]:
        return _numpy_product(variant) if variant.kernel is batched_product_kernel else load(variant)

    if not ON_A_GPU:
        monkeypatch.setattr(device, "load", loaded)
    return division


def _numpy_product(variant: Variant) -> Callable[..., None]:
    from tests.cuda.simulation import Arguments

    def launch(blocks: tuple[int, int], block: Any) -> None:
        a: Any = Arguments(variant.kernel.fields, variant.dtype, block)
        depth = a.slices * SLICE
        for across in range(blocks[1]):
            part, point = divmod(across, a.points)
            mine = slice(part * a.part_slices * SLICE, min((part + 1) * a.part_slices * SLICE, depth))
            left = _matrix(a.x, point * a.plane_x, a.rows, depth, a.pitch_x, variant._constants["left_along"])
            right = _matrix(a.w, point * a.plane_w, a.columns, depth, a.pitch_w, variant._constants["right_along"])
            to = _matrix(a.y, across * a.plane_y, a.rows, a.columns, a.pitch_y, True)
            to[...] = left[:, mine] @ right[:, mine].T

    return launch


def _matrix(pointer: Any, first: int, width: int, depth: int, pitch: int, along: bool) -> np.ndarray:
    """(width, depth)."""
    lines = width if along else depth
    found = pointer.elements[pointer.first + first :][: lines * pitch].reshape(lines, pitch)
    return found[:, :depth] if along else found[:, :width].T


# --- Products and operations ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("along", [(True, False), (False, False), (True, True)], ids=str)
def test_products(device: Any, division: Callable[[int], None], along: tuple[bool, bool], parts: int) -> None:
    """Across the borders of tiles, in either direction; the second part is shorter than the first."""
    division(parts)
    points, rows, columns, depth = 2, 36, 33, 3 * SLICE
    matrices = [
        conv_winograd._Matrix(width, depth) if lies_along else conv_winograd._Matrix(depth, width)
        for width, lies_along in zip((rows, columns), along)
    ]
    random = np.random.default_rng(0)
    left, right = (
        random.standard_normal((points, matrix.plane // matrix.pitch, matrix.pitch)).astype(np.float32)
        for matrix in matrices
    )
    product = conv_winograd._Product(points, matrices[0], along[0], matrices[1], along[1])
    x, w, y = device.table(left), device.table(right), device.empty((parts, product.size), np.dtype(np.float32))
    product.run(device.address(x), device.address(w), device.address(y))
    left = left if along[0] else left.transpose(0, 2, 1)
    right = right.transpose(0, 2, 1) if along[1] else right
    found = y.get().reshape(parts, points, -1, product.result.pitch)[:, :, :rows, :columns]
    halves = [slice(0, 2 * SLICE), slice(2 * SLICE, depth)] if parts == 2 else [slice(0, depth)]
    for part, half in zip(found, halves, strict=True):
        expected = left[:, :rows, half].astype(np.float64) @ right[:, half, :columns]
        oracle.assert_close(part, expected)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_operations(device: Any, division: Callable[[int], None], layout: Any) -> None:
    """All kernels together."""
    check(conv_problem(N=1, C=4, size=(3, 4), K=8, padding=1, layout=layout), ("winograd_2x2",))


#: Padding on any side, more of it than the kernel is large; sizes around whole tiles; less than a tile.
GEOMETRIES: list[dict[str, Any]] = [
    {"size": (5, 6), "padding": 1},
    {"size": (8, 4), "padding": ((0, 3), (2, 1))},
    {"size": (3, 7), "padding": ((4, 0), (0, 1)), "N": 3},
    {"size": (1, 1), "padding": ((1, 1), (2, 0))},
    {"size": (6, 9)},
    {"size": (3, 3), "N": 9},
]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_geometries(products: Any, geometry: dict[str, Any], layout: Any) -> None:
    check(conv_problem(**{"N": 1, "C": 3, "K": 2, **geometry}, layout=layout))


@pytest.mark.parametrize("weight_layout", WEIGHT_LAYOUTS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("C", "K"), [(4, 12), (9, 1)])
def test_channels(products: Any, C: int, K: int, layout: Any, weight_layout: Any) -> None:
    """Four at once, or one; more of them than a slice of the depth has."""
    check(conv_problem(N=1, C=C, K=K, size=(3, 4), padding=1, layout=layout, weight_layout=weight_layout))


def test_rounding(products: Any) -> None:
    """Sums over many channels stay within the bounds of their tiles, which are those of the CPU."""
    check(conv_problem(N=1, C=256, K=4, size=(4, 4), padding=1), results="y")


@pytest.mark.skipif(not ON_A_GPU, reason="takes a GPU: in Python it would take hours")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layers(device: Any, layout: Any) -> None:
    """Tiles of products as they are chosen, in parts and slices, with edges on all sides."""
    check(conv_problem(N=3, C=130, K=100, size=(37, 29), padding=1, layout=layout, bias=True, activation="relu"))
    check(conv_problem(N=40, C=64, K=68, size=(61, 58), padding=((0, 2), (1, 0)), layout=layout))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "epilogue",
    [
        {"bias": True, "activation": "relu"},
        {"bias": True, "scale": True, "residual": True, "activation": "leaky_relu", "slope": 0.2},
        {"scale": True, "activation": "tanh"},
        {"residual": True, "activation": "sigmoid"},
    ],
    ids=str,
)
def test_epilogue(products: Any, epilogue: dict[str, Any], layout: Any) -> None:
    for filters in (4, 3):
        check(conv_problem(N=1, C=2, K=filters, size=(3, 5), padding=1, layout=layout, **epilogue), results="y")


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_slices(products: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, layout: Any, parts: int) -> None:
    """Tiles that do not fit into the workspace at once: images and rows are cut anywhere, the last slice is shorter."""
    products(parts)
    monkeypatch.setattr(conv_winograd, "SLICE_BYTES", 1)
    p = conv_problem(N=2, C=12, K=4, size=(5, 9), padding=1, layout=layout, bias=True)
    assert len(conv_winograd._Convolution(p, 2, *conv_winograd._images(p), (1, 1), False)._tiles.starts) > 2
    check(p)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("empty", [{"N": 0}, {"C": 0}, {"K": 0}], ids=str)
def test_empty(products: Any, empty: dict[str, int], layout: Any, name: str) -> None:
    """What sums nothing is zero, and finished."""
    p = conv_problem(**{"N": 1, "C": 4, "K": 4, "size": (3, 3), "layout": layout, "bias": True} | empty)
    arrays = conv_arrays(p)
    bias = arrays["b"] if layout == "channels_last" else arrays["b"][:, None, None]
    np.testing.assert_array_equal(run(p, name, "y", arrays), np.broadcast_to(bias, p.y_shape))
    np.testing.assert_array_equal(run(p, name, "dx", arrays), np.zeros(p.x_shape))
    np.testing.assert_array_equal(run(p, name, "dw", arrays), np.zeros(p.w_shape))


def test_nan_reaches_whole_tiles_only(products: Any) -> None:
    p = conv_problem(N=1, C=4, K=4, size=(9, 9), padding=1)
    arrays = conv_arrays(p)
    del arrays["b"]
    arrays["x"][0, 0, 0, 1] = np.nan
    for name, tile in zip(NAMES, (2, 4)):
        y = run(p, name, "y", arrays)[0]
        assert np.isnan(y[:2, :2]).all()
        assert np.isfinite(y[tile:]).all()
        assert np.isfinite(y[:, tile:]).all()


def test_bits_repeat(products: Callable[[int], None]) -> None:
    products(2)
    p = conv_problem(N=2, C=4, size=(5, 5), K=4, padding=1)
    arrays = conv_arrays(p)
    del arrays["b"]
    for result in OPERATIONS:
        once, again = (run(p, "winograd_4x4", result, arrays) for _ in range(2))
        np.testing.assert_array_equal(once, again)


# --- What is taken --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unsuitable", "reason"),
    [
        ({"dtype": "float64"}, "float32; received float64"),
        ({"kernel": 5}, "kernels of 3 x 3; received 5 x 5"),
        ({"kernel": (3, 1)}, "kernels of 3 x 3; received 3 x 1"),
        ({"rank": 1, "size": 9}, "images, of two axes; received 1"),
        ({"rank": 3, "size": (3, 4, 5)}, "images, of two axes; received 3"),
        ({"stride": (1, 2)}, r"stride 1; received \(1, 2\)"),
        ({"dilation": 2}, r"dilation 1; received \(2, 2\)"),
        ({"C": 4, "K": 4, "G": 2}, "one group; received 2"),
        ({"padding": 1, "padding_mode": "reflect"}, "zeros as padding; received 'reflect'"),
        ({"N": 1 << 16, "C": 64, "size": (32, 32)}, "arrays of at most"),
    ],
    ids=str,
)
def test_problems_that_are_refused(device: Any, unsuitable: dict[str, Any], reason: str) -> None:
    p = conv_problem(**unsuitable)
    for operation in OPERATIONS.values():
        with pytest.raises(ValueError, match=f"'winograd_2x2' of {operation} needs {reason}"):
            plan_for(operation, p, backend="cuda", algorithm="winograd_2x2")


def test_padding_modes_without_padding(device: Any) -> None:
    assert winograd_supports(conv_problem(padding_mode="reflect")) is None


@pytest.mark.parametrize("operation", OPERATIONS.values())
def test_auto_takes_small_tiles_of_many_channels(device: Any, operation: str) -> None:
    verdicts = {
        verdict.name: verdict
        for verdict in explain(operation, conv_problem(N=32, C=256, K=256, size=14, padding=1), backend="cuda")
    }
    assert verdicts["winograd_2x2"].chosen
    for few in ({"N": 1, "C": 256, "K": 256, "size": 14}, {"N": 32, "C": 16, "K": 64, "size": 56}):
        p = conv_problem(padding=1, **few)
        assert "more channels, filters or pixels" in str(small_tiles_suit(p))
        verdicts = {verdict.name: verdict for verdict in explain(operation, p, backend="cuda")}
        assert not verdicts["winograd_2x2"].chosen
        assert "by name" in str(verdicts["winograd_4x4"].reason)


# --- What is compiled -----------------------------------------------------------------------------------------------


def _transform(kernel: Any, results: int, **constants: Any) -> Variant:
    made: Variant = kernel.variant("float32", threads=conv_winograd.THREADS, results=results, **constants)
    return made


def _product(tile: Tile, left_along: bool, right_along: bool) -> Variant:
    along = {"left_along": left_along, "right_along": right_along}
    return batched_product_kernel.variant(
        "float32", **conv_implicit_gemm.threads_of("float32", tile), tile=tile, **along
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_patches_compiled(architecture: str) -> None:
    """A quad for each element of a patch and each point, no branch around any of them, nothing outside of registers."""
    variant = _transform(patches_kernel, 2, channels_last=True, lanes=4, as_taps=False)
    text = sass(variant, architecture)
    assert count(text, r"LDG\.E\.128") == count(text, r"\bLDG\b") == 16
    assert count(text, r"STG\.E\.128") == count(text, r"\bSTG\b") == 16
    assert not count(text, r"\b(CALL|LDL|STL|BSSY)\b")


@pytest.mark.parametrize(
    ("variant", "loads", "stores"),
    [
        (_transform(patches_kernel, 4, channels_last=True, lanes=4, as_taps=False), 36, 36),
        (_transform(results_kernel, 4, channels_last=True, lanes=4, **NO_EPILOGUE | {"bias": True}), 36, 16),
    ],
    ids=str,
)
def test_large_tiles_compiled(variant: Variant, loads: int, stores: int) -> None:
    text = sass(variant)
    assert count(text, r"LDG\.E\.128") == loads
    assert count(text, r"STG\.E\.128") == stores
    assert not count(text, r"\b(CALL|LDL|STL)\b")


@pytest.mark.parametrize(
    "variant",
    [
        _transform(patches_kernel, 2, channels_last=False, lanes=1, as_taps=False),
        _transform(weights_kernel, 2),
        _transform(weight_gradient_kernel, 2),
    ],
    ids=str,
)
def test_others_compiled(variant: Variant) -> None:
    assert not spills(sass(variant))


@pytest.mark.parametrize("along", [(True, False), (False, False), (True, True)], ids=str)
def test_products_compiled(along: tuple[bool, bool]) -> None:
    """Of the whole kernel 512 multiply-adds, those of a slice, and the loop around them little else."""
    text = sass(_product(Tile(128, 128, 2, 2), *along))
    assert count(text, r"\bFFMA\b") == 512
    assert count(text, r"LDS\.128") == 4 * SLICE
    assert not count(text, r"\b(CALL|LDL|STL)\b")
    first, last = (found.start() for found in (*re.finditer(r"\bFFMA\b", text),)[::511])
    assert len(re.findall(r";\s*/\*", text[first:last])) < 620
