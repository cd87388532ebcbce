"""Convolution in three operations against the oracle, over a grid of problems and over drawn ones."""

from __future__ import annotations

import itertools
import os
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycnn_kernels.cpu.conv_few_channels import rows_go_together
from pycnn_kernels.plan import plan_for
from pycnn_kernels.problem import ConvProblem
from tests import reference as oracle
from tests.kernels.problems import (
    BOUNDS,
    DTYPES,
    LAYOUTS,
    WEIGHT_LAYOUTS,
    by_every_algorithm,
    check_conv,
    conv_arrays,
    conv_problem,
    each_number_of_threads,
    expected_conv,
    run_conv,
    run_on_host,
)


@pytest.fixture(params=itertools.product(DTYPES, LAYOUTS, WEIGHT_LAYOUTS), ids="-".join)
def form(request: pytest.FixtureRequest) -> dict[str, str]:
    """The dtype and layouts of a problem."""
    return dict(zip(("dtype", "layout", "weight_layout"), request.param))


KERNELS = [1, 2, 3, 4, 5, 6, 7, (1, 3), (3, 1), (2, 5), (7, 4)]
# Steps of 1 to 3, also where the step shares a factor with the dilation, and where it does not.
STEPS = [(1, 1), (2, 1), (3, 1), ((2, 1), 1), ((1, 3), 1), (1, 2), (2, 2), (3, 2), ((2, 3), (2, 1))]


@pytest.mark.parametrize("kernel", KERNELS)
def test_kernels_strides_and_dilations(kernel: Any, form: dict[str, str]) -> None:
    for stride, dilation in STEPS:
        padding = ((1, 2), (3, 0))
        check_conv(
            conv_problem(size=(13, 11), kernel=kernel, stride=stride, dilation=dilation, padding=padding, **form)
        )


# Around the vectors of every instruction set: 16 float32 or 8 float64 in AVX-512, 4 or 2 in the portable width.
CHANNELS = [1, 2, 3, 4, 5, 6, 8, 10, 16, 17, 32, 33, 64]


@pytest.mark.parametrize("C", CHANNELS)
def test_channels(C: int, form: dict[str, str]) -> None:
    """Every pair in the layouts of the kernels, a third of the pairs in each other form."""
    every = form["layout"] == "channels_last" and form["weight_layout"] == "HWIO"
    for K in CHANNELS if every else CHANNELS[CHANNELS.index(C) % 3 :: 3]:
        check_conv(conv_problem(N=1, C=C, K=K, size=(5, 6), padding=1, bias=True, **form))


GROUPS = [(2, 2, 2), (4, 6, 2), (6, 9, 3), (34, 66, 2), (3, 51, 3), (51, 3, 3)]
DEPTHWISE = [(3, 3, 3), (17, 17, 17), (32, 64, 32), (33, 33, 33)]


@pytest.mark.parametrize(("C", "K", "G"), GROUPS + DEPTHWISE)
def test_groups(C: int, K: int, G: int, form: dict[str, str]) -> None:
    for padding, stride in [(0, 1), (((0, 1), (1, 0)), 2)]:
        check_conv(conv_problem(N=1, C=C, K=K, G=G, stride=stride, padding=padding, bias=True, **form))


@pytest.mark.parametrize(("C", "K", "G"), [(17, 256, 1), (256, 40, 1), (176, 512, 1), (512, 512, 2), (256, 320, 1)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_of_weights_at_multiples_of_a_kilobyte(C: int, K: int, G: int, dtype: str) -> None:
    """Direct convolution copies them side by side; in passes over the channels where they are many."""
    for kernel, padding, stride in [((3, 3), 1, 1), ((2, 3), ((1, 1), (0, 2)), 1), ((3, 3), 1, 2)]:
        p = conv_problem(
            N=1, C=C, K=K, G=G, size=(12, 13), kernel=kernel, padding=padding, stride=stride, bias=True, dtype=dtype
        )
        check_conv(p)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kernel", [(2, 1), (3, 3), (5, 4)])
@pytest.mark.parametrize("height", [1, 3, 8])
def test_rows_of_one_channel(height: int, kernel: tuple[int, int], dtype: str) -> None:
    """Wide enough that few_channels takes three rows together, of which one or two may be left over."""
    for C, K, layout in ((1, 1, "channels_first"), (3, 1, "channels_last"), (1, 3, "channels_first")):
        p = conv_problem(
            N=2, C=C, K=K, size=(height, 90), kernel=kernel, padding=((2, 2), (1, 3)), dilation=(1, 2), dtype=dtype,
            layout=layout,
        )  # fmt: skip
        assert rows_go_together(p, 1, p.output[2])
        check_conv(p._replace(bias=True, activation="relu"))


# Groups of which a vector holds several, in numbers that leave a part of a vector over; filters for each channel.
FEW_IN_A_GROUP = [
    (8, 8, 2), (32, 32, 8), (36, 36, 9), (64, 64, 8), (24, 48, 6), (48, 24, 6), (64, 64, 4), (66, 66, 33),
    (12, 24, 12), (20, 80, 20), (34, 68, 34), (9, 72, 9), (80, 20, 20),
]  # fmt: skip
# As many channels of the source as of the target, more and fewer of them: to these run the kernels of steps, too. How
# a kernel picks the channels of a group does not depend on how its taps lie, which is compiled once more for each pair.
WITH_STEPS = [(8, 8, 2), (24, 48, 6), (12, 24, 12), (34, 68, 34)]


def few_in_a_group() -> list[Any]:
    """Each pair of sizes has kernels of its own, which take seconds to compile: a few of them in float64."""
    return [
        pytest.param(sizes, form, id="-".join(map(str, (*sizes, *form))))
        for form in itertools.product(DTYPES, LAYOUTS, WEIGHT_LAYOUTS)
        for sizes in (FEW_IN_A_GROUP[::6] if form[0] == "float64" else FEW_IN_A_GROUP)
    ]


@pytest.mark.parametrize(("sizes", "dtype_and_layouts"), few_in_a_group())
def test_groups_of_few_channels(sizes: tuple[int, int, int], dtype_and_layouts: tuple[str, ...]) -> None:
    C, K, G = sizes
    form = dict(zip(("dtype", "layout", "weight_layout"), dtype_and_layouts))
    steps = [(0, 1, 1, "zeros"), (2, 1, (2, 1), "zeros"), (2, 1, 1, "reflect")]
    if sizes in WITH_STEPS:
        steps += [(((0, 1), (3, 0)), 2, 1, "zeros"), (2, (1, 2), (2, 1), "zeros")]
    for padding, stride, dilation, mode in steps:
        p = conv_problem(
            N=2, C=C, K=K, G=G, size=(5, 17), stride=stride, padding=padding, dilation=dilation, padding_mode=mode,
            **form,
        )  # fmt: skip
        check_conv(p._replace(bias=True, activation="relu"))


@pytest.mark.parametrize(
    "problem",
    [
        {"rank": 1, "size": (31,), "kernel": 9, "padding": 4, "padding_mode": "circular"},
        {"rank": 1, "size": (9,), "kernel": 4, "stride": 3, "dilation": 2},
        {"rank": 3, "size": (3, 4, 9), "kernel": (2, 3, 3), "padding": 1, "stride": (1, 2, 1)},
        {"size": (1, 1), "kernel": 1},
        {"size": (9, 8), "kernel": (6, 4), "padding": ((4, 2), (3, 5)), "padding_mode": "replicate"},
        {"size": (6, 7), "scale": True, "residual": True, "activation": "tanh"},
        {"N": 0},
    ],
    ids=str,
)
def test_groups_of_four_channels(problem: dict[str, Any], form: dict[str, str]) -> None:
    check_conv(conv_problem(C=36, K=36, G=9, **problem, **form))


@pytest.mark.parametrize("H", range(1, 14))
def test_image_sizes(H: int, form: dict[str, str]) -> None:
    for W, stride in itertools.product((1, 5, 13) if H % 2 else (2, 12), (1, 2, 3)):
        check_conv(conv_problem(N=1, size=(H, W), K=17, stride=stride, padding=1, **form))


# Also more padding than the kernel is large, so that some windows hold nothing but padding.
PADDINGS = [0, 1, ((0, 1), (1, 0)), ((3, 0), (0, 4)), ((0, 5), (2, 1)), ((4, 4), (5, 5))]


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("kernel", [1, 2, 3, (3, 5)])
def test_padding(padding: Any, kernel: Any, form: dict[str, str]) -> None:
    for stride, C in itertools.product((1, 2, 3), (3, 9)):  # few channels and more take different roads
        check_conv(conv_problem(C=C, size=(5, 4) if kernel != (3, 5) else (5, 6), kernel=kernel, stride=stride,
                                padding=padding, **form))  # fmt: skip


MODES = ["reflect", "replicate", "circular"]
CONTINUED = [
    {"size": (5, 7), "kernel": 3, "padding": 1},
    {"size": (6, 5), "kernel": (3, 5), "padding": ((1, 2), (4, 3)), "K": 33},
    {"size": (9, 8), "kernel": 3, "stride": 2, "padding": ((3, 0), (1, 2)), "C": 17},
    {"size": (7, 9), "kernel": (2, 3), "stride": (3, 1), "dilation": (2, 3), "padding": 4, "C": 4, "K": 6, "G": 2},
    {"size": (6, 7), "kernel": 3, "padding": 2, "C": 20, "K": 20, "G": 20},
    {"size": (9,), "kernel": 4, "padding": ((5, 8),), "rank": 1},
    {"size": (2,), "kernel": 3, "padding": ((1, 1),), "rank": 1},
    {"size": (3, 4, 5), "kernel": 3, "padding": ((1, 2), (1, 1), (2, 0)), "rank": 3},
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("continued", CONTINUED, ids=str)
def test_padding_that_continues_the_image(continued: dict[str, Any], mode: str, form: dict[str, str]) -> None:
    check_conv(conv_problem(padding_mode=mode, bias=True, **continued, **form))


@pytest.mark.parametrize(("mode", "most"), [("reflect", 4), ("circular", 5)])
def test_more_padding_than_there_is_image_is_refused(mode: str, most: int) -> None:
    p = conv_problem(size=(5, 9), padding=((most + 1, 0), (0, 0)), padding_mode=mode)
    with pytest.raises(ValueError, match=f"at most {most} on an axis of 5 in the mode '{mode}'; received {most + 1}"):
        plan_for("conv_forward", p)


@pytest.mark.parametrize("N", [0, 1, 3])
@pytest.mark.parametrize("C", [3, 16])
def test_batches(N: int, C: int, form: dict[str, str]) -> None:
    for K in (6, 33):
        check_conv(conv_problem(N=N, C=C, size=(9, 10), K=K, padding=1, bias=True, **form))


@pytest.mark.parametrize("K", [3, 10, 16, 33, 40])
@pytest.mark.parametrize("bias", [False, True])
def test_relu_is_fused(K: int, bias: bool, form: dict[str, str]) -> None:
    check_conv(conv_problem(K=K, padding=1, bias=bias, activation="relu", **form))


EPILOGUES = [
    {"activation": "leaky_relu", "slope": 0.3},
    {"activation": "tanh", "bias": True},
    {"activation": "sigmoid", "scale": True},
    {"residual": True},
    {"scale": True, "bias": True, "residual": True, "activation": "relu"},
    {"scale": True, "bias": True, "activation": "leaky_relu"},
]


@pytest.mark.parametrize("epilogue", EPILOGUES, ids=str)
@pytest.mark.parametrize(
    "channels", [{"K": 5}, {"C": 17, "K": 70}, {"C": 4, "K": 6, "G": 2}, {"C": 33, "K": 33, "G": 33}], ids=str
)
def test_epilogues(epilogue: dict[str, Any], channels: dict[str, int], form: dict[str, str]) -> None:
    for size in ((7, 6), (1, 17)):
        check_conv(conv_problem(size=size, padding=1, **channels, **epilogue, **form))


@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_activations_keep_their_relative_accuracy(activation: str, dtype: str) -> None:
    """Against float64 functions of numbers from tiny to huge, through a 1x1 convolution with the weight 1."""
    magnitudes = np.concatenate([np.geomspace(1e-30, 200, 3000), np.linspace(0, 20, 3000)])
    x = np.concatenate([-magnitudes, magnitudes, [np.inf, -np.inf, np.nan]]).astype(dtype)
    p = conv_problem(N=1, C=1, K=1, size=(x.size,), kernel=1, rank=1, activation=activation, dtype=dtype)
    double = x.astype(np.longdouble)
    with np.errstate(over="ignore"):
        expected = np.tanh(double) if activation == "tanh" else 1 / (1 + np.exp(-double))
    for name, plan in by_every_algorithm("conv_forward", p):
        if name == "fft":  # adds a tile's elements to each other, of which some here are no numbers
            continue
        (y,) = run_on_host(plan, x.reshape(p.x_shape), np.ones(p.w_shape, dtype), None)
        assert np.isnan(y.flat[-1]), name
        assert y.flat[-2] == (-1 if activation == "tanh" else 0), name
        bound = 4 * np.finfo(dtype).eps * np.abs(expected) + np.finfo(dtype).tiny
        assert np.all(np.abs(y.ravel() - expected)[:-1] <= bound[:-1]), name


MUCH_WORK = [
    {"N": 2, "C": 3, "size": (61, 50), "K": 6, "kernel": (4, 6), "padding": 2},
    {"N": 40, "C": 1, "size": 12, "K": 10, "kernel": 3},
    {"N": 1, "C": 9, "size": (20, 700), "K": 7, "kernel": (2, 3), "padding": ((0, 1), (2, 0))},
    {"N": 64, "C": 3, "size": 31, "K": 16, "kernel": 3},
    {"N": 1, "C": 3, "size": (90, 66), "K": 64, "kernel": 3, "padding": 1},
    {"N": 1, "C": 4, "size": (130, 64), "K": 70, "kernel": 5, "stride": 2, "padding": 2},
    {"N": 2, "C": 700, "size": 1, "K": 100, "kernel": 1},
    {"N": 300, "C": 48, "size": 1, "K": 64, "kernel": 1},
    {"N": 1, "C": 600, "size": 4, "K": 40, "kernel": 3, "padding": 1},
]


@pytest.mark.parametrize("work", MUCH_WORK, ids=str)
def test_more_work_than_one_piece(work: dict[str, Any], form: dict[str, str]) -> None:
    """Pieces, bands, passes over the channels, splits of the weight gradient and their sums, threads."""
    check_conv(conv_problem(**work, **form))


VOLUMES = [
    {"size": (5, 6, 7), "kernel": 3, "padding": 1},
    {
        "size": (5, 6, 7),
        "kernel": (2, 3, 1),
        "stride": (2, 1, 3),
        "padding": ((0, 1), (1, 2), (0, 0)),
        "dilation": (2, 1, 2),
    },
    {"size": (4, 4, 4), "kernel": 2, "stride": 2, "C": 4, "K": 6, "G": 2},
    {"size": (1, 1, 1), "kernel": 1, "C": 17, "K": 33},
    # Images but for the padding of their depth, which has slices of y that see nothing of x.
    {"size": (1, 5, 6), "kernel": (1, 3, 3), "padding": 1, "K": 6},
    {"size": (1, 5, 6), "kernel": (1, 3, 2), "padding": ((1, 0), (0, 1), (0, 0)), "stride": (2, 1, 1), "K": 6},
]


@pytest.mark.parametrize("volume", VOLUMES)
def test_volumes(volume: dict[str, Any], form: dict[str, str]) -> None:
    check_conv(conv_problem(rank=3, **volume, **form))


SIGNALS = [
    {"size": (20,), "kernel": 3, "padding": 1},
    {"size": (20,), "kernel": 4, "stride": 3, "dilation": 2, "padding": ((2, 5),)},
    {"size": (9,), "kernel": 9, "C": 16, "K": 16, "G": 4},
]


@pytest.mark.parametrize("signal", SIGNALS)
def test_signals(signal: dict[str, Any], form: dict[str, str]) -> None:
    check_conv(conv_problem(rank=1, **signal, **form))


@pytest.mark.parametrize(("rows", "inner", "columns"), [(1, 1, 1), (50, 130, 10), (7, 33, 65), (0, 4, 5)])
def test_matrix_product_is_a_convolution_of_single_pixels(
    rows: int, inner: int, columns: int, form: dict[str, str]
) -> None:
    p = conv_problem(N=rows, C=inner, K=columns, size=(), kernel=(), stride=(), padding=(), dilation=(), rank=0, **form)
    check_conv(p)


# Steps that skip pixels of x, also the last ones; images that fill whole vectors in channels first and such that do
# not; sums of several chunks, several panels, and what those leave.
POINTWISE: list[dict[str, Any]] = [
    {"size": (), "rank": 0, "C": 33, "K": 70, "N": 65},
    {"size": (33,), "rank": 1, "stride": 3, "C": 70, "K": 20},
    {"size": (64,), "rank": 1, "C": 17, "K": 130},
    {"size": (8, 8), "C": 33, "K": 65, "N": 3, "bias": True, "activation": "relu"},
    {"size": (9, 11), "stride": 2, "C": 20, "K": 34, "bias": True},
    {"size": (16, 16), "stride": (2, 1), "C": 5, "K": 100},
    {"size": (17, 32), "stride": (1, 2), "C": 34, "K": 3, "N": 1},
    {"size": (6, 7), "stride": (3, 4), "padding": ((1, 2), (0, 3)), "C": 20, "K": 34},
    {"size": (5, 4, 6), "rank": 3, "stride": (2, 3, 1), "C": 18, "K": 40},
    {"size": (3, 4, 8), "rank": 3, "C": 18, "K": 40},
    {"size": (7, 7), "C": 700, "K": 150, "N": 1, "bias": True},
    {"size": (4, 8), "C": 1030, "K": 40, "bias": True, "activation": "relu"},
    {"size": (30, 32), "C": 6, "K": 300, "N": 1},
    {"size": (24, 24), "C": 300, "K": 40, "N": 2},
    {"size": (5, 5), "C": 20, "K": 34, "N": 0},
    {"size": (8, 4), "C": 18, "K": 50, "scale": True, "bias": True, "residual": True, "activation": "leaky_relu"},
    {"size": (3, 3), "C": 18, "K": 50, "scale": True, "residual": True, "activation": "tanh"},
    {"size": (1, 1), "C": 131, "K": 33, "N": 1, "bias": True, "activation": "relu"},
    {"size": (1, 1), "C": 7, "K": 4101, "N": 1, "scale": True, "bias": True, "residual": True, "activation": "sigmoid"},
]


@pytest.mark.parametrize("pointwise", POINTWISE, ids=str)
def test_kernels_of_one_element(pointwise: dict[str, Any], form: dict[str, str]) -> None:
    rank = pointwise.get("rank", 2)
    check_conv(conv_problem(**{"kernel": (1,) * rank, "stride": (1,) * rank, "dilation": (1,) * rank,
                               "padding": ((0, 0),) * rank} | pointwise | form))  # fmt: skip


@pytest.mark.parametrize(
    "columns",
    [
        {"C": 70, "K": 130, "size": (20, 21), "padding": 1},  # several chunks and blocks
        {"C": 300, "K": 20, "size": 4, "kernel": 2, "N": 1},  # several blocks of channels
        {"C": 140, "K": 36, "G": 2, "size": (9, 8), "stride": 2, "dilation": 2, "padding": 3},
        {"C": 3, "K": 600, "size": 5, "kernel": 2, "N": 1},  # several chunks of filters
    ],
    ids=str,
)
def test_columns_in_several_blocks(columns: dict[str, Any], form: dict[str, str]) -> None:
    check_conv(conv_problem(**columns, **form))


@st.composite
def conv_problems(draw: st.DrawFn) -> ConvProblem:
    """Any problem of up to three axes whose kernel fits the padded input."""
    rank = draw(st.integers(0, 3))
    axes = []
    for _ in range(rank):
        kernel, dilation = draw(st.integers(1, 5)), draw(st.integers(1, 3))
        sides = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
        extent = (kernel - 1) * dilation + 1
        size = draw(st.integers(max(1, extent - sum(sides)), max(extent, 9)))
        axes.append((size, kernel, draw(st.integers(1, 4)), sides, dilation))
    size, kernel, stride, padding, dilation = zip(*axes) if axes else ((),) * 5
    G = draw(st.sampled_from([1, 1, 1, 2, 3]))
    return conv_problem(
        N=draw(st.integers(0, 3)), C=G * draw(st.integers(1, 20)), K=G * draw(st.integers(1, 40)), G=G,
        size=size, kernel=kernel, stride=stride, padding=padding, dilation=dilation, rank=rank,
        dtype=draw(st.sampled_from(DTYPES)), layout=draw(st.sampled_from(LAYOUTS)),
        weight_layout=draw(st.sampled_from(WEIGHT_LAYOUTS)), bias=draw(st.booleans()),
        activation=draw(st.sampled_from([None, "relu", "leaky_relu", "tanh", "sigmoid"])),
        padding_mode=draw(st.sampled_from(["zeros", "zeros", "replicate"])),
        scale=draw(st.booleans()), residual=draw(st.booleans()),
    )  # fmt: skip


@given(conv_problems())
# Fewer where every kernel is compiled once more for another width of vectors.
@settings(max_examples=60 if "PYCNN_SIMD" in os.environ else 400)
def test_any_problem(p: ConvProblem) -> None:
    check_conv(p)


# The comparison itself: every test above would pass if it accepted anything.


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("planted", ["error", "nan", "inf"])
@pytest.mark.parametrize("name", ["y direct", "dx direct", "dw direct"])
def test_one_wrong_element_is_rejected(dtype: str, planted: str, name: str) -> None:
    p = conv_problem(padding=1, dtype=dtype)
    arrays = conv_arrays(p)
    found, expected = run_conv(p, **arrays)[name], expected_conv(p, **arrays)[name.split()[0]]
    oracle.assert_close(found, expected)
    wrong = found.copy()
    errors = {"error": wrong.flat[5] + 4 * oracle.BOUNDS[dtype] * np.abs(found).max(), "nan": np.nan, "inf": np.inf}
    wrong.flat[5] = errors[planted]
    with pytest.raises(AssertionError):
        oracle.assert_close(wrong, expected)


@pytest.mark.parametrize("wrong", [np.ones((2, 3)), np.ones(6), np.zeros((0, 2))])
def test_another_shape_is_rejected(wrong: np.ndarray) -> None:
    with pytest.raises(AssertionError, match="shape"):
        oracle.assert_close(wrong, np.ones((3, 2)))


# How arrays lie in memory.


def strided(a: np.ndarray) -> np.ndarray:
    wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)
    wide[..., ::2] = a
    return wide[..., ::2]


def reversed_in_memory(a: np.ndarray) -> np.ndarray:
    return a[::-1, ..., ::-1].copy()[::-1, ..., ::-1]


def read_only(a: np.ndarray) -> np.ndarray:
    copy = a.copy()
    copy.flags.writeable = False
    return copy


def unaligned(a: np.ndarray) -> np.ndarray:
    memory = np.zeros(a.nbytes + 1, np.uint8)
    view = memory[1:].view(a.dtype).reshape(a.shape)
    view[...] = a
    assert not view.flags.aligned
    return view


@pytest.mark.parametrize("lay", [strided, reversed_in_memory, np.asfortranarray, read_only, unaligned])
def test_any_memory_gives_the_same_bits(lay: Any, form: dict[str, str]) -> None:
    p = conv_problem(C=17, K=33, padding=1, bias=True, **form)
    arrays = conv_arrays(p)
    plain = run_conv(p, **arrays)
    laid = run_conv(p, **{name: lay(a) if a.ndim > 1 else a for name, a in arrays.items()})
    for name, array in plain.items():
        np.testing.assert_array_equal(laid[name], array)
        assert laid[name].flags.c_contiguous


def shifted(a: np.ndarray, elements: int) -> np.ndarray:
    """A copy that begins ``elements`` elements after a cache line."""
    memory = np.zeros(a.nbytes + 128, np.uint8)
    start = -memory.ctypes.data % 64 + elements * a.itemsize
    view = memory[start : start + a.nbytes].view(a.dtype).reshape(a.shape)
    view[...] = a
    assert view.ctypes.data % 64 == elements * a.itemsize
    return view


BIG: list[dict[str, Any]] = [
    {"C": 3, "K": 33, "padding": 1},
    {"C": 40, "K": 48, "padding": 1},
    {"C": 34, "K": 66, "G": 2, "padding": 1},
    {"C": 70, "K": 130, "kernel": 1},
    {"C": 40, "K": 33, "kernel": 1, "stride": 2},
    {"C": 290, "K": 150, "kernel": 1, "size": 1, "N": 1},
    {"C": 36, "K": 72, "G": 18, "padding": 1},
]


@pytest.mark.parametrize("channels", BIG, ids=str)
def test_alignment_does_not_change_the_bits(channels: dict[str, Any], form: dict[str, str]) -> None:
    p = conv_problem(**{"size": (13, 12), "N": 1} | channels, bias=True, **form)
    arrays = conv_arrays(p)
    plain = run_conv(p, **arrays)
    for elements in range(64 // arrays["x"].itemsize):
        found = run_conv(p, **{name: shifted(a, elements) for name, a in arrays.items()})
        for name, array in plain.items():
            np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("channels", BIG, ids=str)
def test_neither_runs_nor_threads_change_the_bits(channels: dict[str, Any], form: dict[str, str]) -> None:
    """Sizes at which the work is divided among threads."""
    p = conv_problem(**{"size": (13, 12), "N": 4} | channels, bias=True, **form)
    arrays = conv_arrays(p)
    plain = run_conv(p, **arrays)
    for _ in each_number_of_threads():
        for name, array in [*run_conv(p, **arrays).items(), *run_conv(p, **arrays).items()]:
            np.testing.assert_array_equal(array, plain[name])


# NaN and infinity.


def forward(p: ConvProblem, arrays: dict[str, np.ndarray]) -> np.ndarray:
    (y,) = plan_for("conv_forward", p).run(arrays["x"], arrays["w"], arrays["b"] if p.bias else None)
    return y


def touched(p: ConvProblem, x: np.ndarray) -> np.ndarray:
    """Whether the window of each element of y holds an element of x that is not 0."""
    ones = {"w": np.ones(p.w_shape), "b": np.zeros(p.K), "dy": np.zeros(p.y_shape)}
    return expected_conv(p._replace(bias=False, activation=None), x=(x != 0) * 1.0, **ones)["y"] > 0


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("geometry", [{"padding": 1}, {"stride": 2, "padding": ((0, 2), (1, 0))}, {"G": 2}], ids=str)
def test_nan_reaches_exactly_the_windows_that_hold_it(
    geometry: dict[str, Any], activation: str | None, form: dict[str, str]
) -> None:
    p = conv_problem(N=2, C=4, K=34, size=(9, 8), activation=activation, bias=True, **geometry, **form)
    arrays = conv_arrays(p)
    clean = forward(p, arrays)
    spot = np.zeros(p.x_shape)
    spot.flat[[40, 301]] = 1
    found = forward(p, arrays | {"x": np.where(spot, np.nan, arrays["x"]).astype(p.dtype)})
    np.testing.assert_array_equal(np.isnan(found), touched(p, spot))
    np.testing.assert_array_equal(found[~np.isnan(found)], clean[~touched(p, spot)])


@pytest.mark.parametrize("C", [3, 17])
def test_everything_nan_gives_nothing_but_nan(C: int, form: dict[str, str]) -> None:
    p = conv_problem(C=C, K=20, **form)
    arrays = {name: np.full_like(array, np.nan) for name, array in conv_arrays(p).items()}
    for array in run_conv(p, **arrays).values():
        assert np.isnan(array).all()


def test_infinity_flows_through(form: dict[str, str]) -> None:
    p = conv_problem(C=4, K=17, size=(6, 7), padding=1, **form)
    arrays = conv_arrays(p)
    arrays["x"].flat[50] = np.inf
    spot = np.zeros(p.x_shape)
    spot.flat[50] = 1
    np.testing.assert_array_equal(np.isinf(forward(p, arrays)), touched(p, spot))


@pytest.mark.parametrize("C", [3, 9])
@pytest.mark.parametrize("stride", [1, 2])
def test_padding_never_meets_a_weight(C: int, stride: int, form: dict[str, str]) -> None:
    """0 * inf is NaN: an infinite weight at a tap that lies in the padding must not be multiplied at all.

    Except by few_channels and im2col, whose planes and columns have zeros there, and by winograd and fft, which add the
    elements of a patch or of a tile before they multiply, as their descriptions say.
    """
    p = conv_problem(N=1, C=C, K=17, size=(6, 7), padding=1, stride=stride, **form)
    arrays = conv_arrays(p)
    oracle.taps_first(arrays["w"], p.weight_layout)[0, 0] = np.inf  # the tap at the top left
    arrays["x"], arrays["dy"] = np.abs(arrays["x"]) + 1, np.abs(arrays["dy"]) + 1
    # Pixel (h, w) of x meets the top left tap in window (h + 1, w + 1) / stride, where there is such a window.
    meets = np.outer(*(np.isin((np.arange(n) + 1) / stride, range(m)) for n, m in zip(p.size[1:], p.output[1:])))
    for name, array in run_conv(p, **arrays).items():
        plane = oracle.channels_last(array, p.layout)[0, :, :, 0]
        if name.endswith(("few_channels", "im2col", "fft")) or "winograd" in name:
            continue
        if name.startswith("y"):
            np.testing.assert_array_equal(np.isinf(plane), inside_of(plane.shape, first=1), err_msg=name)
        if name.startswith("dx"):
            np.testing.assert_array_equal(np.isinf(plane), meets, err_msg=name)
        if not name.startswith("dw"):
            assert not np.isnan(plane).any(), name


def inside_of(shape: tuple[int, ...], first: int) -> np.ndarray:
    inside = np.zeros(shape, bool)
    inside[first:, first:] = True
    return inside


def test_results_are_new_arrays(form: dict[str, str]) -> None:
    p = conv_problem(**form)
    arrays = conv_arrays(p)
    before = {name: array.copy() for name, array in arrays.items()}
    first, second = run_conv(p, **arrays), run_conv(p, **arrays)
    for name, array in first.items():
        assert not np.shares_memory(array, second[name])
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("channels", [64, 256, 512])
def test_rounding_of_deep_sums(channels: int) -> None:
    """In float32 against float64, relative to the largest result: direct 3e-6, Winograd 3e-5, its small tiles 1e-5."""
    p = conv_problem(N=1, C=channels, K=channels, size=12, padding=1, bias=True)
    arrays = conv_arrays(p)
    double = p._replace(dtype="float64")
    exact = run_conv(double, **{name: array.astype(np.float64) for name, array in arrays.items()})
    for name, array in run_conv(p, **arrays).items():
        result, algorithm = name.split()
        oracle.assert_close(array, exact[f"{result} direct"], BOUNDS.get((algorithm, "float32"), 3e-6))


def test_workspace_is_bounded_by_the_arrays() -> None:
    """No im2col buffer: channels last needs no scratch memory forward, and the weights' size for dx."""
    p = conv_problem(N=8, C=64, K=64, size=32, padding=1)
    weights = 4 * int(np.prod(p.w_shape))
    assert plan_for("conv_forward", p, algorithm="direct").workspace_bytes == 0
    assert plan_for("conv_input_gradient", p, algorithm="direct").workspace_bytes <= weights + 64
    largest = 4 * max(int(np.prod(p.x_shape)), int(np.prod(p.y_shape)))
    assert plan_for("conv_weight_gradient", p, algorithm="direct").workspace_bytes < largest


def test_plans_of_many_shapes_do_not_mix() -> None:
    """Workspace and tables belong to a problem: plans that alternate must not see each other's."""
    shapes = [
        {"C": 3, "size": 9},
        {"C": 16, "size": 5},
        {"C": 3, "size": 5, "stride": 2},
        {"C": 40, "size": 9, "padding": 1},
    ]
    problems = [conv_problem(layout="channels_first", weight_layout="OIHW", **shape) for shape in shapes]
    first = [run_conv(p, **conv_arrays(p)) for p in problems]
    for p, expected in reversed(list(zip(problems, first))):
        for name, array in run_conv(p, **conv_arrays(p)).items():
            np.testing.assert_array_equal(array, expected[name])
