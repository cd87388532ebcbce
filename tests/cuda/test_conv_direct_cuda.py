"""Direct convolution on the GPU against the oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pycnn_kernels import plan as plan_module
from pycnn_kernels.cuda import conv_direct, parts
from pycnn_kernels.cuda.conv_direct import gather_kernel, weight_gradient_kernel
from pycnn_kernels.cuda.parts import merge_kernel
from pycnn_kernels.plan import plan_for
from tests import reference as oracle
from tests.cuda.sass import ARCHITECTURES, count, sass, spills
from tests.kernels.problems import (
    LAYOUTS,
    check_conv,
    conv_arrays,
    conv_problem,
    expected_conv,
    run_conv,
    run_on_host,
)

FORMS = [
    {"layout": "channels_last", "weight_layout": "HWIO"},
    {"layout": "channels_last", "weight_layout": "OIHW"},
    {"layout": "channels_first", "weight_layout": "OIHW"},
]


@pytest.fixture(params=FORMS, ids=lambda form: "-".join(form.values()))
def form(request: pytest.FixtureRequest) -> dict[str, str]:
    """The layouts of a problem."""
    return request.param


#: Strides, paddings on any side, dilations, groups, each rank; kernels larger than images.
GEOMETRIES: dict[str, dict[str, Any]] = {
    "padded": {"C": 3, "K": 2, "size": (4, 5), "kernel": 3, "padding": 1},
    "strided": {"C": 2, "K": 5, "size": (5, 6), "kernel": (3, 2), "stride": (2, 3), "padding": ((0, 1), (2, 0))},
    "dilated": {"size": 4, "kernel": (2, 3), "dilation": (3, 2), "stride": (1, 2), "padding": ((1, 2), (2, 1))},
    "grouped": {"C": 6, "K": 9, "G": 3, "size": 4, "kernel": 2, "stride": 2, "padding": ((1, 0), (0, 1))},
    "depthwise": {"C": 5, "K": 10, "G": 5, "size": (4, 5), "kernel": 3, "padding": 1},
    "signal": {"C": 4, "K": 3, "size": 11, "kernel": 4, "stride": 2, "padding": ((3, 1),), "rank": 1},
    "volume": {
        "size": (3, 2, 4),
        "kernel": (2, 1, 3),
        "stride": (2, 1, 1),
        "padding": ((1, 0), (0, 0), (1, 1)),
        "rank": 3,
    },
    "small": {"C": 1, "K": 1, "size": 2, "kernel": 5, "padding": 3},
}


@pytest.fixture
def large_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles as of a problem that has work for every processor."""
    monkeypatch.setattr(conv_direct, "_ENOUGH", 0)
    monkeypatch.setattr(conv_direct, "_MOST_WASTE", 4)


@pytest.mark.parametrize("name", GEOMETRIES)
def test_geometries(device: Any, name: str, form: dict[str, str]) -> None:
    check_conv(conv_problem(**{"N": 1, "C": 2, "K": 3, **GEOMETRIES[name]}, **form), backend="cuda", only="direct")


@pytest.mark.parametrize("name", ["padded", "strided", "signal"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_large_tiles(device: Any, large_tiles: None, name: str, layout: str) -> None:
    """Of pixels that leave a part of a tile."""
    check_conv(conv_problem(N=1, dtype="float64", layout=layout, **GEOMETRIES[name]), backend="cuda", only="direct")


@pytest.mark.parametrize(("C", "K", "G"), [(4, 8, 1), (8, 8, 2), (8, 6, 2), (2, 1, 1), (3, 3, 3)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_tiles_of_channels(device: Any, large_tiles: None, C: int, K: int, G: int, layout: str) -> None:
    """Four at once where counts divide by 4; tiles that fewer channels leave a part of."""
    dtype = "float64" if G == 2 else "float32"
    check_conv(
        conv_problem(N=1, C=C, K=K, G=G, size=(2, 5), kernel=2, padding=((0, 1), (1, 0)), dtype=dtype, layout=layout),
        backend="cuda",
        only="direct",
    )


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_continued_padding(device: Any, mode: str) -> None:
    """The input gradient sums what all positions show of a pixel."""
    for layout, stride in (("channels_last", 1), ("channels_first", 2)):
        p = conv_problem(
            N=1, C=2, K=3, size=(4, 5), kernel=(3, 2), stride=stride, padding=((2, 3), (1, 2)), padding_mode=mode,
            layout=layout,
        )  # fmt: skip
        check_conv(p, backend="cuda", only="direct")


EPILOGUES: list[dict[str, Any]] = [
    {"bias": True},
    {"bias": True, "scale": True, "residual": True, "activation": "relu"},
    {"activation": "leaky_relu", "slope": 0.2},
    {"residual": True, "activation": "tanh"},
    {"scale": True, "activation": "sigmoid"},
]


@pytest.mark.parametrize("finish", EPILOGUES, ids=lambda finish: "-".join(map(str, finish.values())))
@pytest.mark.parametrize("layout", LAYOUTS)
def test_epilogues(device: Any, layout: str, finish: dict[str, Any]) -> None:
    p = conv_problem(N=2, C=3, K=4, G=1, size=(2, 3), kernel=(1, 2), layout=layout, **finish)
    arrays = conv_arrays(p)
    inputs = (arrays["x"], arrays["w"], arrays["b"] if p.bias else None, arrays.get("scale"), arrays.get("residual"))
    y = run_on_host(plan_for("conv_forward", p, backend="cuda", algorithm="direct"), *inputs)[0]
    oracle.assert_close(y, expected_conv(p, **arrays)["y"])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_empty(device: Any, layout: str) -> None:
    """Sums of nothing are zeros, that the epilogue finishes."""
    problem = {"N": 1, "C": 2, "K": 3, "size": (2, 3), "kernel": 2, "bias": True, "layout": layout}
    for sizes in ({"N": 0}, {"C": 0}, {"K": 0}, {"size": (0, 3), "padding": 1}, {"kernel": (3, 1)}):
        p = conv_problem(**{**problem, **sizes})
        arrays = conv_arrays(p)
        found = run_conv(p, **arrays, backend="cuda", only="direct")
        bias = arrays["b"] if layout == "channels_last" else arrays["b"][:, None, None]
        np.testing.assert_array_equal(found["y direct"], np.broadcast_to(bias, p.y_shape))
        assert not found["dx direct"].any()
        assert not found["dw direct"].any()


def test_infinity_in_the_image_does_not_meet_padding(device: Any) -> None:
    """Taps in padding of zeros are left out: no product of zero and infinity."""
    p = conv_problem(N=1, C=1, K=1, size=3, kernel=3, padding=1)
    x, w = np.ones(p.x_shape, np.float32), np.full(p.w_shape, np.inf, np.float32)
    y = run_on_host(plan_for("conv_forward", p, backend="cuda", algorithm="direct"), x, w)[0]
    assert np.isinf(y).all()
    x[0, 0, 0, 0] = np.nan
    y = run_on_host(plan_for("conv_forward", p, backend="cuda", algorithm="direct"), x, w)[0]
    assert np.isnan(y[0, :2, :2]).all()
    assert np.isinf(y[0, 2]).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_parts(device: Any, monkeypatch: pytest.MonkeyPatch, layout: str) -> None:
    """Many parts, and lines that are shorter than a row; few parts, and one."""
    monkeypatch.setattr(conv_direct, "_LINE", 2)
    p = conv_problem(N=2, C=1, K=2, size=(5, 6), kernel=(2, 1), layout=layout)
    arrays = conv_arrays(p)
    expected = expected_conv(p, **arrays)["dw"]
    for most, busy in ((512, 2048), (7, 2048), (512, 0)):
        monkeypatch.setattr(parts, "_MOST_PARTS", most)
        monkeypatch.setattr(parts, "_BUSY", busy)
        plan_module._plans.clear()
        plan = plan_for("conv_weight_gradient", p, backend="cuda", algorithm="direct")
        found = run_on_host(plan, arrays["x"], arrays["dy"])[0]
        oracle.assert_close(found, expected)
        assert bool(plan.workspace_bytes) == bool(busy)


def test_refused() -> None:
    assert "elements" in str(conv_direct.direct_supports(conv_problem(N=1 << 20, C=64, size=(64, 64))))
    assert "padding" in str(conv_direct.direct_supports(conv_problem(size=2, padding=3, padding_mode="reflect")))


LINEAR = {"bias": False, "scale": False, "residual": False, "activation": None}
FINISHED = {"bias": True, "scale": True, "residual": True, "activation": "relu"}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_compiled(architecture: str) -> None:
    tile_of_dw = {"channels": 4, "filters": 4}
    tile = {"threads": 128, "resident": 3, "pixels": 4, "filters": 4}
    wide = sass(gather_kernel.variant("float32", **tile, channels_first=False, wide=True, **LINEAR), architecture)
    assert count(wide, r"LDG\.E\.128") >= 8
    assert count(wide, r"STG\.E\.128") == 4
    assert not spills(wide)
    if architecture == ARCHITECTURES[-1]:
        for variant in (
            gather_kernel.variant("float32", **tile, channels_first=True, wide=False, **FINISHED),
            gather_kernel.variant("float64", **{**tile, "resident": 2}, channels_first=False, wide=True, **LINEAR),
            weight_gradient_kernel.variant("float32", lanes=32, **tile_of_dw, channels_first=True, wide=False),
            weight_gradient_kernel.variant("float64", lanes=8, **tile_of_dw, channels_first=False, wide=True),
            merge_kernel.variant("float32", rows=32),
        ):
            assert not spills(sass(variant, architecture))
