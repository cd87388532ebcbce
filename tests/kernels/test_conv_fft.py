"""Convolution by Fourier transforms: the transforms against NumPy's, the three operations against the oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycnn_kernels import plan as plan_module
from pycnn_kernels.cpu import conv_fft
from pycnn_kernels.cpu.fft import (
    complex_transform,
    real_inverse,
    real_transform,
    tile_complex_product,
    tile_complex_transform,
    tile_half_complex_product,
    tile_real_inverse,
    tile_real_transform,
    tile_scale,
)
from pycnn_kernels.cpu.host import lanes
from pycnn_kernels.cpu.launch import Task, kernel
from pycnn_kernels.cpu.tile import lanes_of, shift, tile_load, tile_shape, tile_store, tile_zeros
from pycnn_kernels.memory import address
from pycnn_kernels.plan import explain, plan_for
from pycnn_kernels.problem import ConvProblem
from tests import reference as oracle
from tests.kernels.problems import (
    DTYPES,
    LAYOUTS,
    WEIGHT_LAYOUTS,
    conv_arrays,
    conv_problem,
    each_number_of_threads,
    expected_conv,
    numbers,
)


def run_fft(p: ConvProblem, x: np.ndarray, w: np.ndarray, b: np.ndarray, dy: np.ndarray) -> dict[str, np.ndarray]:
    """What the algorithm computes of y, dx and dw."""
    linear = p._replace(bias=False, activation=None)
    return {
        "y": plan_for("conv_forward", p, algorithm="fft").run(x, w, b if p.bias else None)[0],
        "dx": plan_for("conv_input_gradient", linear, algorithm="fft").run(dy, w)[0],
        "dw": plan_for("conv_weight_gradient", linear, algorithm="fft").run(x, dy)[0],
    }


def check_fft(p: ConvProblem) -> None:
    """Against the oracle, within the bounds of the direct algorithm."""
    arrays = conv_arrays(p)
    expected = expected_conv(p, **arrays)
    for name, array in run_fft(p, **arrays).items():
        assert array.dtype == p.dtype
        oracle.assert_close(array, expected[name])


# The transforms.


def spectrum(x: np.ndarray) -> np.ndarray:
    """``sum over j of x[j] e^(2 pi i j k / n)`` along the first axis."""
    return len(x) * np.fft.ifft(x.astype(np.complex128), axis=0)


def half_complex(x: np.ndarray) -> np.ndarray:
    """The half-complex spectrum of real elements along the first axis."""
    found, half = spectrum(x), len(x) // 2
    return np.concatenate([found.real[: half + 1], found.imag[1:half][::-1]]) if half else x


@pytest.mark.parametrize("n", [1, 2, 4, 8, 16, 32, 64])
def test_transforms_of_numbers(n: int) -> None:
    re, im = numbers((2, n), "float64")
    oracle.assert_close(np.array(complex_transform(list(re), list(im))[0]), spectrum(re + 1j * im).real)
    oracle.assert_close(np.array(complex_transform(list(re), list(im))[1]), spectrum(re + 1j * im).imag)
    oracle.assert_close(np.array(real_transform(list(re))), half_complex(re))
    oracle.assert_close(np.array(real_inverse(list(half_complex(re)))), n * re)


@kernel(x="array", y="array")
def transforms_kernel(a, item, worker):
    """Of x (2, 16, lanes) to y (8, 16, lanes): each intrinsic in turn."""
    lane_count = lanes_of(a.x)
    square = 16 * lane_count
    re = tile_load(tile_zeros(tile_shape(a.x, 16, 1)), a.x, 0, lane_count, None)
    im = tile_load(tile_zeros(tile_shape(a.x, 16, 1)), a.x, square, lane_count, None)
    found_re, found_im = tile_complex_transform(re, im)
    tile_store(found_re, a.y, 0, lane_count, None)
    tile_store(found_im, shift(a.y, square), 0, lane_count, None)
    tile_store(tile_real_transform(re), shift(a.y, 2 * square), 0, lane_count, None)
    tile_store(tile_real_inverse(re), shift(a.y, 3 * square), 0, lane_count, None)
    product_re, product_im = tile_complex_product(re, im, im, im)
    tile_store(product_re, shift(a.y, 4 * square), 0, lane_count, None)
    tile_store(product_im, shift(a.y, 5 * square), 0, lane_count, None)
    product = tile_half_complex_product(tile_real_transform(re), tile_real_transform(im))
    tile_store(tile_real_inverse(product), shift(a.y, 6 * square), 0, lane_count, None)
    tile_store(tile_scale(re, 0.75), shift(a.y, 7 * square), 0, lane_count, None)


@pytest.mark.parametrize("dtype", DTYPES)
def test_transforms_of_vectors(dtype: str) -> None:
    x = numbers((2, 16, lanes(dtype)), dtype)
    y = np.zeros((8, 16, lanes(dtype)), dtype)
    Task(transforms_kernel, dtype, 1, "x y").run(address(x), address(y))
    re, im = x.astype(np.float64)
    circular = sum(re[j] * np.roll(im, j, axis=0) for j in range(16))
    product = (re + 1j * im) * (im + 1j * im)
    found = spectrum(re + 1j * im)
    expected = [found.real, found.imag, half_complex(re), None, product.real, product.imag, 16 * circular, 0.75 * re]
    for part, values in zip(y, expected):
        if values is not None:
            oracle.assert_close(part, values)
    oracle.assert_close(half_complex(y[3].astype(np.float64)).astype(dtype), 16 * re)


# The operations.


@pytest.mark.parametrize("kernel_size", [1, 2, 3, 5, 8, 15, 16, 17, 31, (1, 9), (12, 2), (31, 1)])
@pytest.mark.parametrize("G", [1, 18])
def test_kernels(kernel_size: Any, G: int) -> None:
    for size, padding in (((33, 31), 0), ((40, 17), ((15, 14), (15, 15)))):
        check_fft(conv_problem(N=1, C=18, K=18, G=G, size=size, kernel=kernel_size, padding=padding, bias=True))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (3, 2), (13, 14), (27, 28), (29, 12)])
def test_image_sizes(size: tuple[int, int], dtype: str) -> None:
    """Smaller than a tile, larger, and where one tile holds the whole image because what is around it are zeros."""
    for G in (1, 3):
        check_fft(conv_problem(C=3, K=3, G=G, size=size, kernel=5, padding=2, dtype=dtype))
        check_fft(conv_problem(C=3, K=3, G=G, size=size, kernel=(5, 3), padding=((4, 0), (0, 2)), dtype=dtype))


PADDINGS = [0, 3, ((0, 1), (1, 0)), ((9, 0), (0, 12)), ((0, 8), (17, 1)), ((20, 20), (20, 20))]


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("G", [1, 4])
def test_padding(padding: Any, G: int) -> None:
    """Also more than the kernel is large, so that some windows hold nothing but padding."""
    check_fft(conv_problem(C=4, K=4, G=G, size=(14, 11), kernel=(7, 5), padding=padding))


@pytest.mark.parametrize("dilation", [2, (1, 4), (7, 3)])
@pytest.mark.parametrize("G", [1, 4])
def test_dilation(dilation: Any, G: int) -> None:
    check_fft(conv_problem(C=4, K=4, G=G, size=(24, 30), kernel=(3, 5), padding=3, dilation=dilation))


@pytest.mark.parametrize(("C", "K"), [(1, 1), (15, 17), (16, 32), (33, 1), (1, 70), (40, 65)])
def test_channels(C: int, K: int) -> None:
    for N in (0, 1, 3):
        check_fft(conv_problem(N=N, C=C, K=K, size=(14, 9), kernel=5, padding=2, bias=True, activation="relu"))
        check_fft(conv_problem(N=N, C=K, K=K, G=K, size=(14, 9), kernel=5, padding=2, bias=True, activation="relu"))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("weight_layout", WEIGHT_LAYOUTS)
@pytest.mark.parametrize("G", [1, 17])
def test_layouts(layout: str, weight_layout: str, G: int) -> None:
    form = {"layout": layout, "weight_layout": weight_layout}
    check_fft(conv_problem(C=17, K=17, G=G, size=(20, 9), kernel=(7, 4), padding=1, bias=True, **form))


def test_signals() -> None:
    check_fft(conv_problem(C=5, K=6, rank=1, size=(100,), kernel=25, padding=((3, 12),)))


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As few tiles in a block as there may be."""
    monkeypatch.setattr(conv_fft, "_BLOCK_BYTES", 1)
    plan_module._plans.clear()


@pytest.mark.parametrize("N", [3, 4, 5])
def test_more_tiles_than_one_block(N: int, small_blocks: None) -> None:
    check_fft(conv_problem(N=N, C=18, K=33, size=(33, 30), kernel=5, padding=2, bias=True))


@pytest.mark.parametrize("G", [1, 40])
def test_neither_runs_nor_threads_change_the_bits(G: int) -> None:
    p = conv_problem(N=3, C=40, K=40, G=G, size=(50, 41), kernel=9, padding=4, bias=True)
    arrays = conv_arrays(p)
    plain = run_fft(p, **arrays)
    for _ in each_number_of_threads():
        for name, array in [*run_fft(p, **arrays).items(), *run_fft(p, **arrays).items()]:
            np.testing.assert_array_equal(array, plain[name])


@st.composite
def problems(draw: st.DrawFn) -> ConvProblem:
    axes = []
    for _ in range(2):
        taps, dilation = draw(st.integers(1, 11)), draw(st.integers(1, 3))
        sides = draw(st.tuples(st.integers(0, 12), st.integers(0, 12)))
        extent = (taps - 1) * dilation + 1
        axes.append((draw(st.integers(max(1, extent - sum(sides)), max(extent, 40))), taps, sides, dilation))
    size, taps, padding, dilation = zip(*axes)
    C, K = draw(st.integers(1, 20)), draw(st.integers(1, 36))
    depthwise = draw(st.booleans())
    return conv_problem(
        N=draw(st.integers(0, 3)), C=C, K=C if depthwise else K, G=C if depthwise else 1, size=size, kernel=taps,
        padding=padding, dilation=dilation, dtype=draw(st.sampled_from(DTYPES)), bias=draw(st.booleans()),
        activation=draw(st.sampled_from([None, "relu"])),
    )  # fmt: skip


@given(problems())
@settings(max_examples=60)
def test_any_problem(p: ConvProblem) -> None:
    check_fft(p)


@pytest.mark.parametrize(("channels", "kernel_size"), [(256, 5), (32, 15)])
def test_rounding_of_deep_sums(channels: int, kernel_size: int) -> None:
    """In float32 against float64, relative to the largest result: within 1e-6, where direct has 3e-6."""
    p = conv_problem(N=1, C=channels, K=channels, size=20, kernel=kernel_size, padding=kernel_size // 2)
    arrays = conv_arrays(p)
    exact = run_fft(p._replace(dtype="float64"), **{name: array.astype(np.float64) for name, array in arrays.items()})
    for name, array in run_fft(p, **arrays).items():
        oracle.assert_close(array, exact[name], 1e-6)


@pytest.mark.parametrize("G", [1, 4])
def test_nan_reaches_the_windows_that_hold_it_and_no_other_image(G: int) -> None:
    p = conv_problem(N=2, C=4, K=4, G=G, size=(40, 8), kernel=5, padding=2)
    arrays = conv_arrays(p)
    clean = run_fft(p, **arrays)["y"]
    arrays["x"][1, 0, 4, 2] = np.nan
    found = run_fft(p, **arrays)["y"]
    channel = slice(2, 3) if G > 1 else slice(None)
    assert np.isnan(found[1, :3, 2:7, channel]).all()
    np.testing.assert_array_equal(found[0], clean[0])


# When it is taken.

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"stride": 2}, r"stride 1; received \(2, 2\)"),
    ({"C": 4, "K": 4, "G": 2}, "one group, or one for each input and output channel; received 4 and 4 channels in 2"),
    ({"size": 50, "kernel": 33}, "kernels of at most 32 elements along an axis; received 33 x 33"),
    ({"size": 80, "kernel": 65, "C": 4, "K": 4, "G": 4}, "kernels of at most 64 elements along an axis; received 65 x"),
    ({"padding": 1, "padding_mode": "reflect"}, "zeros as padding; received 'reflect'"),
    ({"rank": 3, "size": 5, "kernel": 3}, "images without depth; received the depth 5 and a kernel of depth 3"),
]


@pytest.mark.parametrize(("problem", "reason"), REFUSED, ids=str)
def test_problems_that_it_cannot_do(problem: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        plan_for("conv_forward", conv_problem(**problem), algorithm="fft")


CHOSEN: list[tuple[dict[str, Any], str]] = [
    ({"C": 64, "K": 64, "size": 56, "kernel": 7, "padding": 3}, "fft"),
    ({"C": 128, "K": 128, "size": 28, "kernel": 11, "padding": 5, "N": 8}, "fft"),
    ({"C": 128, "K": 128, "G": 128, "size": 56, "kernel": 31, "padding": 15}, "fft"),
    ({"C": 64, "K": 64, "size": 56, "kernel": 3, "padding": 1}, "winograd"),
    ({"C": 256, "K": 256, "size": 14, "kernel": 5, "padding": 2}, "winograd"),
    ({"C": 64, "K": 64, "size": 56, "kernel": 1}, "pointwise"),
    ({"C": 32, "K": 32, "G": 32, "size": 28, "kernel": 3, "padding": 1}, "depthwise"),
    ({"C": 3, "K": 6, "size": 56, "kernel": 11}, "few_channels"),
]


@pytest.mark.parametrize(("problem", "name"), CHOSEN, ids=str)
def test_which_problems_get_it(problem: dict[str, Any], name: str) -> None:
    assert next(v.name for v in explain("conv_forward", conv_problem(**problem)) if v.chosen) == name


def test_which_weight_gradients_get_it() -> None:
    for G, kernel_size, name in ((1, 5, "fft"), (64, 31, "fft"), (64, 7, "depthwise")):
        p = conv_problem(C=64, K=64, G=G, size=56, kernel=kernel_size, padding=kernel_size // 2)
        assert next(v.name for v in explain("conv_weight_gradient", p) if v.chosen) == name


def test_it_says_by_how_much_it_would_be_slower() -> None:
    verdicts = explain("conv_forward", conv_problem(C=256, K=256, size=14, kernel=5, padding=2))
    (reason,) = [v.reason for v in verdicts if v.name == "fft"]
    assert reason is not None
    assert "times as long as winograd" in reason
