"""im2col on the GPU against the oracle."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from pycnn_kernels.algorithms import ALGORITHMS, algorithms_for
from pycnn_kernels.choice import choose
from pycnn_kernels.cuda import conv_im2col, conv_implicit_gemm
from pycnn_kernels.cuda.conv_im2col import col2im_kernel, im2col_kernel
from pycnn_kernels.cuda.tile import Tile
from pycnn_kernels.cuda.transpose import transposing_kernels
from pycnn_kernels.plan import plan_for
from tests.cuda.conftest import ON_A_GPU
from tests.cuda.sass import ARCHITECTURES, count, sass, spills
from tests.kernels.problems import (
    LAYOUTS,
    WEIGHT_LAYOUTS,
    check_conv,
    conv_arrays,
    conv_problem,
    run_conv,
)

OPERATIONS = ("conv_forward", "conv_input_gradient", "conv_weight_gradient")

#: The smallest tile that the products can have.
SMALL_TILES = {dtype: {Tile(32, 32, 1, 1): 1.0} for dtype in ("float32", "float64")}

#: Channels that move four at once, and others.
GEOMETRIES: dict[str, dict[str, Any]] = {
    "padded": {"C": 4, "K": 3, "size": (3, 4), "kernel": (3, 2), "padding": 1},
    "strided": {"C": 2, "K": 5, "size": (5, 6), "kernel": (3, 2), "stride": (2, 3), "padding": ((0, 1), (2, 0))},
    "dilated": {"C": 4, "K": 4, "size": (6, 5), "kernel": (2, 3), "dilation": (3, 2), "stride": (1, 2), "padding": 2},
    "grouped": {"C": 8, "K": 6, "G": 2, "size": 4, "kernel": 2, "stride": 2, "padding": ((1, 0), (0, 1))},
    "depthwise": {"C": 5, "K": 10, "G": 5, "size": (3, 4), "kernel": 2, "padding": 1},
    "signal": {"C": 4, "K": 3, "size": 9, "kernel": 4, "stride": 2, "padding": ((3, 1),), "rank": 1},
    "volume": {"C": 2, "K": 4, "size": (3, 2, 4), "kernel": (2, 1, 3), "stride": (2, 1, 1), "padding": 1, "rank": 3},
    "small": {"C": 1, "K": 1, "size": 2, "kernel": 5, "padding": 3},
    "pointwise": {"C": 4, "K": 5, "size": 3, "kernel": 1, "stride": 2},
}
FORMS = [dict(zip(("layout", "weight_layout"), form)) for form in itertools.product(LAYOUTS, WEIGHT_LAYOUTS)]


@pytest.fixture
def im2col(device: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A device on which this algorithm is the only one; a simulated one multiplies in small tiles."""
    if not ON_A_GPU:
        monkeypatch.setattr(conv_implicit_gemm, "TILES", SMALL_TILES)
    for operation in OPERATIONS:
        only = [a for a in algorithms_for("cuda", operation) if a.name == "im2col"]
        monkeypatch.setitem(ALGORITHMS, ("cuda", operation), only)
    return device


@pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(form.values()))
def test_layouts(im2col: Any, form: dict[str, str]) -> None:
    check_conv(conv_problem(N=2, **GEOMETRIES["grouped"], **form), backend="cuda", only="im2col")


@pytest.mark.parametrize("name", GEOMETRIES)
def test_geometries(im2col: Any, name: str) -> None:
    form = FORMS[list(GEOMETRIES).index(name) % len(FORMS)]
    check_conv(conv_problem(N=1, **GEOMETRIES[name], **form), backend="cuda", only="im2col")


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_ways_of_padding(im2col: Any, mode: str) -> None:
    padding = ((2, 1), (0, 3))
    p = conv_problem(N=1, C=4, K=2, size=(4, 4), kernel=(3, 2), stride=(1, 2), padding=padding, padding_mode=mode)
    check_conv(p, backend="cuda", only="im2col")


def test_double_precision(im2col: Any) -> None:
    check_conv(
        conv_problem(N=1, **GEOMETRIES["padded"], dtype="float64", layout="channels_first"),
        backend="cuda",
        only="im2col",
    )
    check_conv(
        conv_problem(N=1, **GEOMETRIES["strided"], dtype="float64", weight_layout="OIHW"), backend="cuda", only="im2col"
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_epilogue(im2col: Any, layout: str) -> None:
    p = conv_problem(
        N=2, C=3, K=4, size=3, kernel=2, bias=True, scale=True, residual=True, activation="relu", layout=layout
    )
    check_conv(p, backend="cuda", only="im2col")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_slices_of_images(im2col: Any, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two slices of two images, and one of one."""
    p = conv_problem(N=5, C=3, K=5, size=3, kernel=2, padding=1, residual=True, bias=True, layout=layout)
    monkeypatch.setattr(conv_im2col, "MOST_BYTES", 2 * 4 * 16 * 4 * 3)
    assert conv_im2col.images_at_once(p) == 2
    check_conv(p, backend="cuda", only="im2col")


def test_workspace(im2col: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run takes what its plan says."""
    taken: list[int] = []
    empty = im2col.empty
    monkeypatch.setattr(
        im2col, "empty", lambda shape, dtype: taken.append(int(np.prod(shape)) * dtype.itemsize) or empty(shape, dtype)
    )
    p = conv_problem(N=2, C=3, K=5, size=3, kernel=2, layout="channels_first", weight_layout="OIHW", residual=True)
    arrays = conv_arrays(p)
    given = {
        "conv_forward": (arrays["x"], arrays["w"], None, None, arrays["residual"]),
        "conv_input_gradient": (arrays["dy"], arrays["w"]),
        "conv_weight_gradient": (arrays["x"], arrays["dy"]),
    }
    for operation, inputs in given.items():
        plan = plan_for(operation, p if operation == "conv_forward" else p.linear, backend="cuda", algorithm="im2col")
        on_device = [None if array is None else plan._arrays.from_host(array) for array in inputs]
        taken.clear()
        (result,) = plan.run(*on_device)
        assert sum(taken) == plan.workspace_bytes + result.nbytes, operation


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("empty", [{"N": 0}, {"C": 0}, {"K": 0}])
def test_empty_arrays(im2col: Any, empty: dict[str, int], layout: str) -> None:
    sizes = {"N": 1, "C": 2, "K": 2, **empty}
    p = conv_problem(**sizes, size=3, kernel=2, padding=1, bias=True, layout=layout, weight_layout="OIHW")
    arrays = conv_arrays(p)
    found = run_conv(p, **arrays, backend="cuda")
    bias = arrays["b"] if layout == "channels_last" else arrays["b"].reshape(-1, 1, 1)
    np.testing.assert_array_equal(found["y im2col"], np.broadcast_to(bias, p.y_shape))
    np.testing.assert_array_equal(found["dx im2col"], np.zeros(p.x_shape))
    np.testing.assert_array_equal(found["dw im2col"], np.zeros(p.w_shape))


def test_nan_stays_where_it_is_seen(im2col: Any) -> None:
    p = conv_problem(N=1, C=4, K=2, size=4, kernel=3, padding=1)
    arrays = conv_arrays(p)
    arrays["x"][0, 0, 0, 1] = arrays["dy"][0, 3, 3, 0] = np.nan
    found = run_conv(p, **arrays, backend="cuda")
    seen = np.isnan(found["y im2col"]).any(axis=-1)[0]
    assert seen[:2, :2].all()
    assert seen.sum() == 4
    seen = np.isnan(found["dx im2col"]).any(axis=-1)[0]
    assert seen[2:, 2:].all()
    assert seen.sum() == 4


def test_bits_repeat(im2col: Any) -> None:
    p = conv_problem(N=1, **GEOMETRIES["padded"])
    arrays = conv_arrays(p)
    first, second = run_conv(p, **arrays, backend="cuda"), run_conv(p, **arrays, backend="cuda")
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])


def test_chosen_where_the_product_cannot_gather(device: Any) -> None:
    p = conv_problem(N=1, C=16, K=16, size=8, kernel=3, padding=1)
    for operation in OPERATIONS:
        names = [
            choose(operation, p._replace(**change), backend="cuda").name
            for change in ({}, {"padding_mode": "reflect"}, {"padding_mode": "reflect", "C": 8})
        ]
        assert names[0] != "im2col"
        assert names[1] == "im2col"
        assert names[2] != "im2col"


def test_refused(device: Any) -> None:
    p = conv_problem(N=1, C=64, K=16, size=(2000, 2000), kernel=3, padding=1)
    assert "windows of an image of at most" in str(conv_im2col.im2col_supports(p))
    p = conv_problem(N=1, C=64, K=16, size=2, kernel=5, padding=2, padding_mode="reflect")
    assert "at most 1" in str(conv_im2col.im2col_supports(p))
    p = conv_problem(N=100_000, C=64, K=16, size=30, kernel=3, padding=1)
    assert conv_im2col.im2col_supports(p) is None


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_compiled(architecture: str) -> None:
    for kernel in (im2col_kernel, col2im_kernel):
        text = sass(kernel.variant("float32", quads=True), architecture)
        assert spills(text) == 0
        assert count(text, r"LDG\.E\.128") >= 1
        assert count(text, r"STG\.E\.128") >= 1


def test_compiled_without_spills() -> None:
    assert spills(sass(transposing_kernels["array"].variant("float32", element="array"))) == 0
    assert spills(sass(col2im_kernel.variant("float64", quads=True))) == 0
    assert spills(sass(im2col_kernel.variant("float32", quads=False))) == 0
