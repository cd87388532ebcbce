"""Convolutions on the GPU by every algorithm, over drawn problems; and what "auto" takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pycnn
from pycnn_kernels.cuda import conv_implicit_gemm
from pycnn_kernels.cuda.conv_implicit_gemm import Division
from pycnn_kernels.cuda.tile import Tile
from pycnn_kernels.plan import plan_for
from tests.cuda.conftest import ON_A_GPU
from tests.kernels.problems import LAYOUTS, WEIGHT_LAYOUTS, check_conv, conv_arrays, conv_problem, run_on_host

ONE_ORDER = pytest.mark.parametrize("device", [1], indirect=True, ids=["gpu" if ON_A_GPU else "upwards"])


@pytest.fixture
def _small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    if not ON_A_GPU:
        monkeypatch.setattr(conv_implicit_gemm, "division", lambda *sizes: Division(Tile(32, 32, 1, 1), 1))


@st.composite
def problems(draw: st.DrawFn) -> Any:
    rank = draw(st.integers(1, 3))
    G = draw(st.sampled_from([1, 1, 2, 3]))
    C, K = (G * draw(st.sampled_from([1, 2, 3, 4, 8])) for _ in range(2))
    mode = draw(st.sampled_from(["zeros", "zeros", "reflect", "replicate", "circular"]))

    def axis(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(rank))

    kernel, stride, dilation = axis(1, 3), axis(1, 3), axis(1, 2)
    padding = tuple((draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in range(rank))
    size = tuple((n - 1) * d + draw(st.integers(1, 3)) for n, d in zip(kernel, dilation))
    if mode == "reflect":  # no more than there is beside the edge
        size = tuple(max(n, 3) for n in size)
    elif mode == "circular":
        size = tuple(max(n, 2) for n in size)
    return conv_problem(
        N=draw(st.integers(1, 2)), C=C, size=size, K=K, kernel=kernel, stride=stride, padding=padding,
        dilation=dilation, G=G, layout=draw(st.sampled_from(LAYOUTS)),
        weight_layout=draw(st.sampled_from(WEIGHT_LAYOUTS)), bias=draw(st.booleans()),
        activation=draw(st.sampled_from([None, "relu", "leaky_relu", "tanh", "sigmoid"])), rank=rank,
        padding_mode=mode, scale=draw(st.booleans()), residual=draw(st.booleans()), slope=0.2,
    )  # fmt: skip


@ONE_ORDER
@pytest.mark.usefixtures("_small_tiles")
@settings(max_examples=300 if ON_A_GPU else 25, suppress_health_check=list(HealthCheck))
@given(p=problems())
def test_drawn_problems(device: Any, p: Any) -> None:
    check_conv(p, "cuda")


@ONE_ORDER
@pytest.mark.usefixtures("_small_tiles")
@pytest.mark.parametrize("weight_layout", WEIGHT_LAYOUTS)
@pytest.mark.parametrize(("C", "K", "G"), [(3, 4, 1), (4, 3, 1), (8, 8, 2), (12, 4, 2), (6, 8, 1)])
def test_pointwise(device: Any, C: int, K: int, G: int, weight_layout: Any) -> None:
    """Rows of weights that are whole strips are read as they lie, others are packed first."""
    for stride in (1, 2):
        p = conv_problem(N=1, C=C, K=K, G=G, size=(3, 4), kernel=1, stride=stride, weight_layout=weight_layout)
        check_conv(p, "cuda")


@ONE_ORDER
@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        ({"C": 64, "K": 64, "kernel": 1}, ["implicit_gemm"] * 3),
        ({"C": 64, "K": 64, "kernel": 5}, ["implicit_gemm"] * 3),
        ({"C": 3, "K": 64, "kernel": 7, "stride": 2}, ["implicit_gemm", "direct", "implicit_gemm"]),
        ({"C": 64, "K": 64, "G": 64}, ["depthwise"] * 3),
        ({"C": 64, "K": 64, "G": 32}, ["direct"] * 3),
        ({"C": 32, "K": 32, "padding": 1, "padding_mode": "reflect"}, ["im2col"] * 3),
    ],
    ids=str,
)
def test_choice(device: Any, layer: dict[str, Any], expected: list[str]) -> None:
    p = conv_problem(N=1, size=(16, 16), **layer)
    operations = ("conv_forward", "conv_input_gradient", "conv_weight_gradient")
    assert [plan_for(operation, p, backend="cuda").algorithm.name for operation in operations] == expected


@ONE_ORDER
def test_explanation(device: Any) -> None:
    found = pycnn.explain("conv2d", (1, 64, 16, 16), (64, 64, 3, 3), padding_mode="reflect", padding=1, backend="cuda")
    assert found.chosen() == "im2col"
    printed = repr(found)
    assert f"on {device.name}" in printed
    assert "needs zeros as padding; received 'reflect'" in printed
    assert "im2col is asked first" in printed
    assert found.to_dict()["backend"] == "cuda"


@ONE_ORDER
def test_algorithms_by_name_and_by_the_clock(device: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("PYCNN_CACHE_DIR", str(tmp_path))
    p = conv_problem(N=1, C=4, K=8, size=(3, 3), kernel=2)
    arrays = conv_arrays(p)
    expected = run_on_host(plan_for("conv_forward", p, backend="cuda", algorithm="direct"), arrays["x"], arrays["w"])
    measured = plan_for("conv_forward", p, backend="cuda", algorithm="autotune")
    np.testing.assert_allclose(run_on_host(measured, arrays["x"], arrays["w"])[0], expected[0], rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="algorithm 'depthwise' of conv_forward needs a group for each"):
        plan_for("conv_forward", p, backend="cuda", algorithm="depthwise")


def test_memory_is_16_byte_aligned_for_kernels(device: Any) -> None:
    """A view that begins elsewhere is copied, and one that changes in place is refused."""
    p = conv_problem(N=1, C=4, K=4, size=(2, 2), kernel=1)
    arrays = conv_arrays(p)
    buffer = device.xp.asarray(np.concatenate([[0], arrays["x"].ravel()]).astype(np.float32))
    view = buffer[1:].reshape(p.x_shape)
    plan = plan_for("conv_forward", p, backend="cuda")
    (y,) = plan.run(view, device.xp.asarray(arrays["w"]))
    expected = arrays["x"].reshape(4, 4) @ arrays["w"].reshape(4, 4)
    np.testing.assert_allclose(y.get().reshape(4, 4), expected, rtol=1e-5, atol=1e-6)
