"""The public operations: their values against the oracle and NumPy, forms of arguments, and errors."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pycnn
import pycnn.functional as F
from pycnn import Tensor
from pycnn.functional.activation import logits_of
from pycnn_kernels.plan import Plan
from tests import reference as oracle

DTYPES = ("float32", "float64")

MUST_HOLD = "must hold float16, bfloat16, float32 or float64; received"


def normal(*shape: int, dtype: str = "float64") -> np.ndarray:
    return np.random.default_rng(shape).standard_normal(shape).astype(dtype)


def shares(*shape: int, seed: int = 0) -> np.ndarray:
    """Numbers between 0 and 1."""
    return np.random.default_rng([seed, *shape]).random(shape)


def classes(count: int, *shape: int) -> np.ndarray:
    """Class numbers below ``count``."""
    return np.random.default_rng(shape).integers(0, count, shape)


def conv_expected(x: np.ndarray, w: np.ndarray, b: Any = None, **geometry: Any) -> np.ndarray:
    """The oracle on arrays in PyTorch's layouts, of any rank."""
    rank = x.ndim - 2
    geometry = {"stride": (1,) * rank, "dilation": (1,) * rank, "padding": ((0, 0),) * rank} | geometry
    y = oracle.convolution(oracle.channels_last(x, "channels_first"), oracle.taps_first(w, "OIHW"), b, **geometry)
    return oracle.in_layout(y, "channels_first")


def transposed_expected(x: np.ndarray, w: np.ndarray, b: Any = None, **geometry: Any) -> np.ndarray:
    """The oracle on arrays in PyTorch's layouts, of any rank."""
    rank = x.ndim - 2
    defaults = dict.fromkeys(("stride", "dilation"), (1,) * rank)
    defaults |= {"padding": ((0, 0),) * rank, "output_padding": (0,) * rank}
    y = oracle.transposed_convolution(
        oracle.channels_last(x, "channels_first"), oracle.taps_first(w, "OIHW"), b, **(defaults | geometry)
    )
    return oracle.in_layout(y, "channels_first")


def in_layout(x: np.ndarray, layout: str) -> np.ndarray:
    """From PyTorch's layout to the given one."""
    return oracle.in_layout(oracle.channels_last(x, "channels_first"), layout)


# Arrays in, arrays out; tensors in, tensors out.

X, W, B = normal(2, 3, 6, 5), normal(4, 3, 3, 3), normal(4)
CALLS: dict[str, tuple[Callable[..., Any], tuple[np.ndarray, ...]]] = {
    "conv2d": (F.conv2d, (X, W, B)),
    "conv2d relu": (lambda *a: F.conv2d(*a, activation="relu"), (X, W, B)),
    "conv1d": (F.conv1d, (X[..., 0], W[..., 0], B)),
    "conv3d": (F.conv3d, (normal(1, 2, 4, 3, 5), normal(3, 2, 2, 3, 2), B[:3])),
    "conv_transpose1d": (F.conv_transpose1d, (X[..., 0], W[:3, ..., 0], B[:3])),
    "conv_transpose2d": (F.conv_transpose2d, (X, W[:3], B[:3])),
    "conv_transpose2d relu": (lambda *a: F.conv_transpose2d(*a, activation="relu"), (X, W[:3], B[:3])),
    "conv_transpose2d leaky_relu": (lambda *a: F.conv_transpose2d(*a, activation="leaky_relu"), (X, W[:3])),
    "conv_transpose2d tanh": (lambda *a: F.conv_transpose2d(*a, activation="tanh"), (X, W[:3])),
    "conv_transpose2d sigmoid": (lambda *a: F.conv_transpose2d(*a, activation="sigmoid"), (X, W[:3])),
    "conv_transpose3d": (F.conv_transpose3d, (normal(1, 2, 4, 3, 5), normal(2, 3, 2, 3, 2), B[:3])),
    "max_pool2d": (lambda x: F.max_pool2d(x, 2), (X,)),
    "max_pool1d": (lambda x: F.max_pool1d(x, 2), (X[0],)),
    "max_pool3d": (lambda x: F.max_pool3d(x, 2), (X,)),
    "adaptive_max_pool2d": (lambda x: F.adaptive_max_pool2d(x, 2), (X,)),
    "adaptive_avg_pool2d": (lambda x: F.adaptive_avg_pool2d(x, 2), (X,)),
    "lp_pool2d": (lambda x: F.lp_pool2d(x, 2, 2), (X,)),
    "lp_pool2d of cubes": (lambda x: F.lp_pool2d(x, 3, 2), (np.abs(X),)),
    "max_unpool2d": (lambda x: F.max_unpool2d(x, np.arange(X.size).reshape(X.shape) % 30, 1), (X,)),
    "mixed_pool2d": (lambda x: F.mixed_pool2d(x, 2, training=False), (X,)),
    "stochastic_pool2d": (lambda x: F.stochastic_pool2d(x, 2, training=False), (X,)),
    "fractional_max_pool2d": (
        lambda x: F.fractional_max_pool2d(x, 2, 3, None, False, np.full((2, 3, 2), 0.3, x.dtype)),
        (X,),
    ),
    "avg_pool2d": (lambda x: F.avg_pool2d(x, 2), (X,)),
    "linear": (F.linear, (normal(2, 7, 5), normal(3, 5), normal(3))),
    "relu": (F.relu, (X,)),
    "tanh": (F.tanh, (X,)),
    "sigmoid": (F.sigmoid, (X,)),
    "softmax": (F.softmax, (X,)),
    "log_softmax": (F.log_softmax, (X,)),
    "cross_entropy": (lambda x: F.cross_entropy(x, np.array([1, 2])), (normal(2, 3),)),
    "cross_entropy weighted": (lambda x, w: F.cross_entropy(x, np.array([1, 2]), w), (normal(2, 3), np.abs(normal(3)))),
    "cross_entropy none": (lambda x: F.cross_entropy(x, np.array([1, 2]), reduction="none"), (normal(2, 3),)),
    "cross_entropy of probabilities": (F.cross_entropy, (normal(2, 3), np.abs(normal(2, 3)))),
    "binary_cross_entropy": (F.binary_cross_entropy, (shares(2, 3), shares(2, 3, seed=1))),
    "dropout": (lambda x: F.dropout(x, 0.5, training=False), (X,)),
    "layer_norm": (lambda x, *a: F.layer_norm(x, (6, 5), *a), (X, normal(6, 5), normal(6, 5) + 1)),
    "layer_norm alone": (lambda x: F.layer_norm(x, (5,)), (X,)),
    "local_response_norm": (lambda x: F.local_response_norm(x, 3), (X,)),
    "local_response_norm channels last": (lambda x: F.local_response_norm(x, 3, data_format="channels_last"), (X,)),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_out_comes_what_went_in(name: str, dtype: str) -> None:
    call, inputs = CALLS[name]
    arrays = [a.astype(dtype) for a in inputs]
    from_arrays, from_tensors = call(*arrays), call(*map(Tensor, arrays))
    mixed = call(Tensor(arrays[0]), *arrays[1:])
    assert isinstance(from_arrays, np.ndarray | np.generic)
    assert isinstance(from_tensors, Tensor)
    assert isinstance(mixed, Tensor)
    assert from_arrays.dtype == from_tensors.dtype == mixed.dtype == dtype
    np.testing.assert_array_equal(from_arrays, from_tensors.numpy())
    np.testing.assert_array_equal(from_arrays, mixed.numpy())


@pytest.mark.parametrize("name", CALLS)
def test_inputs_stay_as_they_are(name: str) -> None:
    call, inputs = CALLS[name]
    before = [a.copy() for a in inputs]
    call(*inputs)
    for array, copy in zip(inputs, before):
        np.testing.assert_array_equal(array, copy)


# Binary cross-entropy refuses what is no probability, NaN too, as in PyTorch.
@pytest.mark.parametrize("name", [name for name in CALLS if name != "binary_cross_entropy"])
def test_nan_flows_through(name: str) -> None:
    call, inputs = CALLS[name]
    nan = np.full_like(inputs[0], np.nan)
    assert np.isnan(call(nan, *inputs[1:])).all()


@pytest.mark.parametrize("name", CALLS)
def test_byte_order_does_not_matter(name: str) -> None:
    call, inputs = CALLS[name]
    swapped = call(*(a.astype(">f4") for a in inputs))
    np.testing.assert_array_equal(swapped, call(*(a.astype("<f4") for a in inputs)))


# Convolution


@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "expected"),
    [
        (1, 0, 1, {}),
        (2, 1, 1, {"stride": (2, 2), "padding": ((1, 1), (1, 1))}),
        ((2, 1), (1, 2), (1, 2), {"stride": (2, 1), "padding": ((1, 1), (2, 2)), "dilation": (1, 2)}),
        ([2, 1], [1, 2], [2, 1], {"stride": (2, 1), "padding": ((1, 1), (2, 2)), "dilation": (2, 1)}),
        ((2,), (1,), (1,), {"stride": (2, 2), "padding": ((1, 1), (1, 1))}),
        (1, ((0, 1), (2, 3)), 1, {"padding": ((0, 1), (2, 3))}),
        (np.int64(2), np.int32(1), 1, {"stride": (2, 2), "padding": ((1, 1), (1, 1))}),
        (1, "valid", 1, {}),
        (2, "valid", 1, {"stride": (2, 2)}),
        (1, "same", 1, {"padding": ((1, 1), (1, 1))}),
        (1, "same", 2, {"padding": ((2, 2), (2, 2)), "dilation": (2, 2)}),
    ],
    ids=str,
)
def test_forms_of_stride_padding_and_dilation(stride: Any, padding: Any, dilation: Any, expected: Any) -> None:
    y = F.conv2d(X, W, B, stride, padding, dilation)
    oracle.assert_close(y, conv_expected(X, W, B, **expected))


def test_same_puts_the_odd_element_of_padding_after() -> None:
    w = normal(4, 3, 2, 4)
    y = F.conv2d(X, w, padding="same")
    assert y.shape == (2, 4, 6, 5)
    oracle.assert_close(y, conv_expected(X, w, padding=((0, 1), (1, 2))))


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("groups", [1, 2])
def test_both_dialects(groups: int, activation: str | None) -> None:
    x, w, b = normal(2, 4, 6, 5), normal(6, 4 // groups, 3, 2), normal(6)
    settings = {"stride": 2, "padding": 1, "groups": groups, "activation": activation}
    first = F.conv2d(x, w, b, **settings)
    expected = conv_expected(x, w, b, padding=((1, 1), (1, 1)), stride=(2, 2), groups=groups)
    oracle.assert_close(first, np.maximum(expected, 0) if activation else expected)
    x_last, w_last = x.transpose(0, 2, 3, 1), w.transpose(2, 3, 1, 0)
    last = F.conv2d(x_last, w_last, b, **settings, data_format="channels_last", weight_format="HWIO")
    oracle.assert_close(last.transpose(0, 3, 1, 2), first)
    mixed = F.conv2d(x_last, w, b, **settings, data_format="channels_last")
    np.testing.assert_array_equal(mixed, last)


# For each rank: the function, sizes of x, of the kernel, and an argument for each axis.
RANKS: dict[int, tuple[Any, Any, tuple[int, ...], tuple[int, ...]]] = {
    1: (F.conv1d, F.conv_transpose1d, (9,), (3,)),
    2: (F.conv2d, F.conv_transpose2d, (6, 5), (2, 3)),
    3: (F.conv3d, F.conv_transpose3d, (4, 5, 6), (2, 1, 3)),
}
STRIDES, DILATIONS = (2, 1, 3), (1, 2, 2)
SIDES = ((1, 0), (0, 2), (1, 1))
WEIGHT_FORMATS = {1: ("OIW", "WIO"), 2: ("OIHW", "HWIO"), 3: ("OIDHW", "DHWIO")}
TRANSPOSED_WEIGHT_FORMATS = {1: ("IOW", "WOI"), 2: ("IOHW", "HWOI"), 3: ("IODHW", "DHWOI")}


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("per_side", [False, True])
@pytest.mark.parametrize("rank", RANKS)
def test_convolutions_of_every_rank_and_format(rank: int, per_side: bool, groups: int) -> None:
    conv, _, size, kernel = RANKS[rank]
    x, w, b = normal(2, 4, *size), normal(6, 4 // groups, *kernel), normal(6)
    stride, dilation, sides = STRIDES[:rank], DILATIONS[:rank], SIDES[:rank]
    sides = sides if per_side else tuple((p, p) for _, p in sides)
    padding = sides if per_side else tuple(p for _, p in sides)
    expected = conv_expected(x, w, b, stride=stride, padding=sides, dilation=dilation, groups=groups)
    for weight_format, weight_layout in zip(WEIGHT_FORMATS[rank], ("OIHW", "HWIO")):
        for layout in ("channels_first", "channels_last"):
            given = in_layout(x, layout)
            weight = oracle.in_weight_layout(oracle.taps_first(w, "OIHW"), weight_layout)
            found = conv(
                given, weight, b, stride, padding, dilation, groups, data_format=layout, weight_format=weight_format
            )
            oracle.assert_close(found, in_layout(expected, layout))
            single = conv(
                given[0], weight, b, stride, padding, dilation, groups, data_format=layout, weight_format=weight_format
            )
            np.testing.assert_array_equal(single, found[0])


@pytest.mark.parametrize("rank", RANKS)
def test_same_and_valid_in_every_rank(rank: int) -> None:
    conv, _, size, kernel = RANKS[rank]
    x, w = normal(2, 3, *size), normal(4, 3, *kernel)
    around = [(k - 1) * 2 for k in kernel]
    same = tuple((total // 2, total - total // 2) for total in around)
    two = (2,) * rank
    oracle.assert_close(conv(x, w, padding="same", dilation=2), conv_expected(x, w, padding=same, dilation=two))
    oracle.assert_close(conv(x, w, padding="valid", stride=2), conv_expected(x, w, stride=two))


# Transposed convolution

TRANSPOSED: dict[str, dict[str, Any]] = {
    "plain": {},
    "stride": {"stride": 2},
    "padding": {"stride": 3, "padding": 1},
    "output padding": {"stride": 3, "output_padding": 2},
    "output padding that padding would cut off": {"stride": 3, "padding": 1, "output_padding": 1},
    "output padding of a dilation": {"dilation": 3, "output_padding": 2},
    "output padding of a dilation beyond a stride": {"stride": 2, "padding": ((1, 0),), "dilation": 4,
                                                     "output_padding": 3},
    "padding on each side": {"stride": 2, "padding": ((0, 1),)},
    "more padding than a window": {"padding": ((3, 1),)},
}  # fmt: skip


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("name", TRANSPOSED)
@pytest.mark.parametrize("rank", RANKS)
def test_transposed_convolutions_of_every_rank_and_format(rank: int, name: str, groups: int) -> None:
    _, transpose, size, kernel = RANKS[rank]
    x, w, b = normal(2, 4, *size), normal(4, 6 // groups, *kernel), normal(6)
    given = dict(TRANSPOSED[name])
    if isinstance(given.get("padding"), tuple):
        given["padding"] *= rank
    wanted: dict[str, Any] = {n: (value,) * rank for n, value in given.items() if n != "padding"}
    sides = given.get("padding", 0)
    wanted["padding"] = sides if isinstance(sides, tuple) else ((sides, sides),) * rank
    expected = transposed_expected(x, w, b, **wanted, groups=groups)
    for weight_format, weight_layout in zip(TRANSPOSED_WEIGHT_FORMATS[rank], ("OIHW", "HWIO")):
        for layout in ("channels_first", "channels_last"):
            image = in_layout(x, layout)
            weight = oracle.in_weight_layout(oracle.taps_first(w, "OIHW"), weight_layout)
            formats = {"data_format": layout, "weight_format": weight_format}
            found = transpose(image, weight, b, **given, groups=groups, **formats)
            oracle.assert_close(found, in_layout(expected, layout))
            # By one algorithm: fewer images may have another one, with other bits.
            formats["algorithm"] = "direct"
            found = transpose(image, weight, b, **given, groups=groups, **formats)
            single = transpose(image[0], weight, b, **given, groups=groups, **formats)
            np.testing.assert_array_equal(single, found[0])


@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
@pytest.mark.parametrize("settings", [{"stride": 3, "output_padding": 2}, {"dilation": 3, "output_padding": (2, 1)}])
def test_where_no_window_reaches_is_the_bias(settings: dict[str, Any], data_format: str) -> None:
    x, b = np.ones((2, 4, 3, 5)), normal(6)
    x = in_layout(x, data_format)
    y = F.conv_transpose2d(x, np.full((4, 6, 1, 1), np.pi), b, **settings, data_format=data_format)
    y = oracle.channels_last(y, data_format)
    height = 1 + 2 * settings.get("stride", 1)
    assert y.shape[1] == height + 2
    np.testing.assert_array_equal(y[:, height:], np.broadcast_to(b, y[:, height:].shape))
    assert (y[:, 0, 0] != b).all()


def test_a_slope_of_0_has_no_sign() -> None:
    """Calls are remembered by arguments, of which 0 and -0 are equal."""
    x, w = np.array([[[[-2.0]]]]), np.ones((1, 1, 1, 1))
    for slope in (-0.0, 0.0, -0.0):
        y = F.conv2d(x, w, activation="leaky_relu", negative_slope=slope)
        assert np.signbit(y).all()


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "tanh", "sigmoid"])
@pytest.mark.parametrize("biased", [False, True])
def test_activations_of_transposed_convolution(activation: str, biased: bool) -> None:
    w, b = W[:3], B[:3] if biased else None
    y = F.conv_transpose2d(X, w, b, activation=activation, negative_slope=0.2)
    oracle.assert_close(y, ACTIVATED[activation](transposed_expected(X, w, b)))


ACTIVATED: dict[str | None, Callable[[np.ndarray], np.ndarray]] = {
    None: lambda z: z,
    "relu": lambda z: np.maximum(z, 0),
    "leaky_relu": lambda z: np.where(z > 0, z, 0.2 * z),
    "tanh": np.tanh,
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
}


@pytest.mark.parametrize("algorithm", ["direct", "few_channels", "winograd"])
def test_algorithm_of_a_transposed_convolution_by_name(algorithm: str) -> None:
    """Gradients take the algorithm of that name where there is one, otherwise the one that is chosen."""
    results = []
    for name in (algorithm, "auto"):
        # 12 channels are too many for few_channels in the convolution that is a gradient here.
        x, w = Tensor(normal(2, 12, 6, 5), requires_grad=True), Tensor(normal(12, 3, 3, 3), requires_grad=True)
        y = F.conv_transpose2d(x, w, algorithm=name)
        (y * y).sum().backward()
        results.append((y, x.grad, w.grad))
    for found, expected in zip(*results):
        oracle.assert_close(found.data, expected.data)


# Padding with elements of the input, and all that is done to a result in the same pass

NUMPY_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@pytest.mark.parametrize("padding_mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("padding", [1, ((0, 2), (1, 0), (2, 2)), "same"], ids=str)
@pytest.mark.parametrize("rank", RANKS)
def test_padding_modes(rank: int, padding: Any, padding_mode: str) -> None:
    conv, _, size, kernel = RANKS[rank]
    x, w, b = normal(2, 4, *size), normal(6, 2, *kernel), normal(6)
    given = padding[:rank] if isinstance(padding, tuple) else padding
    sides = tuple(((k - 1) // 2, k - 1 - (k - 1) // 2) for k in kernel) if padding == "same" else given
    sides = ((1, 1),) * rank if padding == 1 else sides
    stride = 1 if padding == "same" else 2
    expected = conv_expected(
        np.pad(x, [(0, 0), (0, 0), *sides], mode=NUMPY_MODES[padding_mode]), w, b, stride=(stride,) * rank, groups=2
    )
    for layout in ("channels_first", "channels_last"):
        image = in_layout(x, layout)
        found = conv(image, w, b, stride, given, groups=2, padding_mode=padding_mode, data_format=layout)
        oracle.assert_close(found, in_layout(expected, layout))


@pytest.mark.parametrize(("padding_mode", "most"), [("reflect", (5, 4)), ("circular", (6, 5)), ("replicate", (9, 11))])
def test_as_much_padding_as_a_mode_allows(padding_mode: str, most: tuple[int, int]) -> None:
    sides = [(0, 0), (0, 0), *((p, p) for p in most)]
    expected = conv_expected(np.pad(X, sides, mode=NUMPY_MODES[padding_mode]), W)
    oracle.assert_close(F.conv2d(X, W, padding=most, padding_mode=padding_mode), expected)


def test_no_padding_is_the_same_in_every_mode() -> None:
    """And as fast: the problem is that of zeros, which every algorithm takes."""
    expected = F.conv2d(X, W)
    for padding_mode in NUMPY_MODES:
        np.testing.assert_array_equal(F.conv2d(X, W, padding="valid", padding_mode=padding_mode), expected)


@pytest.mark.parametrize("activation", ACTIVATED)
@pytest.mark.parametrize("parts", ["", "scale", "residual", "bias scale", "bias residual", "bias scale residual"])
@pytest.mark.parametrize("rank", RANKS)
def test_epilogues(rank: int, parts: str, activation: str | None) -> None:
    conv, _, size, kernel = RANKS[rank]
    x, w = normal(2, 3, *size), normal(4, 3, *kernel)
    plain = conv_expected(x, w, padding=((1, 1),) * rank)
    per_channel = (4, *[1] * rank)
    bias = normal(4) if "bias" in parts else None
    scale = np.array([0.5, -2, 0, 1]) if "scale" in parts else None
    residual = normal(*plain.shape) if "residual" in parts else None
    z = plain if scale is None else plain * scale.reshape(per_channel)
    z = z if bias is None else z + bias.reshape(per_channel)
    z = z if residual is None else z + residual
    settings = {"padding": 1, "activation": activation, "negative_slope": 0.2, "scale": scale}
    y = conv(x, w, bias, residual=residual, **settings)
    oracle.assert_close(y, ACTIVATED[activation](z))
    single = conv(x[0], w, bias, residual=None if residual is None else residual[0], **settings)
    np.testing.assert_array_equal(single, y[0])


def test_the_gradient_of_a_scale_of_zero() -> None:
    x, w, scale = (Tensor(a, requires_grad=True) for a in (X, W, np.array([0.0, 1, 0, 2])))
    F.conv2d(x, w, scale=scale).sum().backward()
    oracle.assert_close(scale.grad.data, conv_expected(X, W).sum((0, 2, 3)))
    assert (w.grad.data[[0, 2]] == 0).all()


@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
def test_one_image_without_a_batch(data_format: str) -> None:
    batch = X if data_format == "channels_first" else X.transpose(0, 2, 3, 1)
    for call in (
        lambda x: F.conv2d(x, W, B, data_format=data_format),
        lambda x: F.max_pool2d(x, 2, data_format=data_format),
        lambda x: F.max_pool2d(x, 2, return_indices=True, data_format=data_format)[1],
        lambda x: F.avg_pool2d(x, 2, data_format=data_format),
    ):
        np.testing.assert_array_equal(call(batch[0]), call(batch[:1])[0])


def test_empty_batches() -> None:
    nothing = np.zeros((0, 3, 6, 5))
    assert F.conv2d(nothing, W, B, padding=1).shape == (0, 4, 6, 5)
    assert F.conv1d(nothing[..., 0], W[..., 0], B).shape == (0, 4, 4)
    assert F.conv3d(nothing[..., None], W[..., None], B).shape == (0, 4, 4, 3, 1)
    for layout in ("channels_first", "channels_last"):
        y = F.conv_transpose2d(in_layout(nothing, layout), W[:3], B[:3], 2, activation="tanh", data_format=layout)
        assert oracle.channels_last(y, layout).shape == (0, 13, 11, 3)
    assert F.max_pool2d(nothing, 2).shape == (0, 3, 3, 2)
    assert F.avg_pool2d(nothing, 2).shape == (0, 3, 3, 2)
    assert F.linear(np.zeros((0, 5)), normal(3, 5)).shape == (0, 3)
    assert F.softmax(np.zeros((0, 5))).shape == (0, 5)
    assert F.cross_entropy(np.zeros((0, 5)), np.zeros(0, int), reduction="none").shape == (0,)
    x, w = Tensor(nothing, requires_grad=True), Tensor(W, requires_grad=True)
    F.conv2d(x, w, padding=1).sum().backward()
    assert x.grad is not None
    assert x.grad.shape == nothing.shape
    np.testing.assert_array_equal(w.grad.data, np.zeros(W.shape))
    w, b = (Tensor(a[:3], requires_grad=True) for a in (W, B))
    F.conv_transpose2d(x, w, b, activation="relu").sum().backward()
    np.testing.assert_array_equal(w.grad.data, np.zeros((3, 3, 3, 3)))
    np.testing.assert_array_equal(b.grad.data, np.zeros(3))


@pytest.mark.parametrize("algorithm", ["direct", "few_channels", "winograd"])
def test_algorithm_by_name(algorithm: str) -> None:
    """Gradients take the algorithm of that name where there is one, otherwise the one that is chosen."""
    gradients = []
    for name in (algorithm, "auto"):
        x, w = Tensor(X, requires_grad=True), Tensor(W[:6], requires_grad=True)
        y = F.conv2d(x, w, algorithm=name)
        y.sum().backward()
        gradients.append((y, x.grad, w.grad))
    for found, expected in zip(*gradients):
        oracle.assert_close(found.data, expected.data, 3e-5 if found.dtype == np.float32 else None)


# Pooling


@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
@pytest.mark.parametrize(
    "arguments",
    [
        {"kernel_size": 2},
        {"kernel_size": (2, 3)},
        {"kernel_size": 3, "stride": 1, "padding": 1},
        {"kernel_size": [3, 2], "stride": [2, 1], "padding": [1, 0]},
        {"kernel_size": 3, "stride": 2, "padding": ((0, 1), (1, 0))},
        {"kernel_size": 2, "stride": 3, "ceil_mode": True},
        {"kernel_size": 2, "stride": []},
    ],
    ids=str,
)
def test_pooling(arguments: dict[str, Any], data_format: str) -> None:
    x = normal(2, 3, 7, 8)
    kernel = oracle_pair(arguments["kernel_size"])
    stride = oracle_pair(arguments.get("stride") or kernel)
    padding = arguments.get("padding", 0)
    sides = padding if isinstance(padding, tuple) else tuple((p, p) for p in oracle_pair(padding))
    geometry = (kernel, stride, sides, (1, 1), arguments.get("ceil_mode", False))
    last = x.transpose(0, 2, 3, 1)
    given = last if data_format == "channels_last" else x
    for call, expected in (
        (F.max_pool2d, oracle.max_pooling(last, *geometry)[0]),
        (F.avg_pool2d, oracle.average_pooling(last, *geometry)),
    ):
        found = call(given, **arguments, data_format=data_format)
        oracle.assert_close(oracle.channels_last(found, data_format), expected)


def oracle_pair(value: Any) -> tuple[int, int]:
    return tuple(value) if isinstance(value, tuple | list) else (value, value)


@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
@pytest.mark.parametrize("dilation", [1, 2])
def test_indices_point_at_the_maxima(data_format: str, dilation: int) -> None:
    x = normal(2, 9, 8, 3)
    given = oracle.in_layout(x, data_format)
    y, indices = F.max_pool2d(given, 3, (2, 1), 1, dilation, return_indices=True, data_format=data_format)
    assert indices.dtype == np.int64
    y, indices = (oracle.channels_last(a, data_format).reshape(2, -1, 3) for a in (y, indices))
    np.testing.assert_array_equal(np.take_along_axis(x.reshape(2, -1, 3), indices, axis=1), y)


def test_what_averages_divide_by() -> None:
    x = np.ones((1, 1, 3, 3))
    corner = F.avg_pool2d(x, 2, 1, 1)[0, 0, 0, 0]
    assert corner == 0.25
    assert F.avg_pool2d(x, 2, 1, 1, count_include_pad=False)[0, 0, 0, 0] == 1
    assert F.avg_pool2d(x, 2, 1, 1, divisor_override=8)[0, 0, 1, 1] == 0.5


# Linear


@pytest.mark.parametrize("outer", [(), (5,), (2, 3), (0,), (2, 0)])
@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_linear(outer: tuple[int, ...], activation: str | None, dtype: str) -> None:
    x, w, b = normal(*outer, 7, dtype=dtype), normal(4, 7, dtype=dtype), normal(4, dtype=dtype)
    expected = x.astype(np.float64) @ w.T.astype(np.float64) + b
    expected = np.maximum(expected, 0) if activation else expected
    oracle.assert_close(F.linear(x, w, b, activation=activation), expected)
    oracle.assert_close(F.linear(x, w.T, b, activation=activation, weight_format="IO"), expected)
    oracle.assert_close(F.linear(x, w), x.astype(np.float64) @ w.T)


def test_linear_with_a_single_output() -> None:
    x, w = normal(2, 3, 7), normal(7)
    oracle.assert_close(F.linear(x, w), x @ w)
    oracle.assert_close(F.linear(x, w, np.array(0.5), weight_format="IO"), x @ w + 0.5)


# Activations


@pytest.mark.parametrize("dtype", DTYPES)
def test_activations(dtype: str) -> None:
    x = np.array([-1e4, -50, -1, -1e-3, -0.0, 0, 1e-3, 1, 50, 1e4], dtype)
    wide = x.astype(np.float64)
    np.testing.assert_array_equal(F.relu(x), np.maximum(x, 0))
    oracle.assert_close(F.tanh(x), np.tanh(wide))
    with np.errstate(over="ignore"):
        oracle.assert_close(F.sigmoid(x), 1 / (1 + np.exp(-wide)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_sigmoid_keeps_its_digits_far_below_zero(dtype: str) -> None:
    x = np.array([-80, -20, -15, -10, -1e-3, 0, 10, 80], dtype)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(F.sigmoid(x), np.exp(wide) / (1 + np.exp(wide)), rtol=4 * np.finfo(dtype).eps)
    assert F.sigmoid(x).dtype == dtype


def test_infinity() -> None:
    x = np.array([-np.inf, np.inf])
    np.testing.assert_array_equal(F.relu(x), [0, np.inf])
    np.testing.assert_array_equal(F.tanh(x), [-1, 1])
    np.testing.assert_array_equal(F.sigmoid(x), [0, 1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize(
    ("shape", "dim"),
    [((5,), 0), ((5,), -1), ((3, 4), 0), ((3, 4), 1), ((2, 3, 4), 1), ((2, 3, 4), -3), ((2, 3, 4, 5), 2), ((4, 1), 1)],
)
def test_softmax_along_any_axis(name: str, shape: tuple[int, ...], dim: int, dtype: str) -> None:
    x = 4 * normal(*shape, dtype=dtype)
    found = getattr(F, name)(x, dim)
    oracle.assert_close(found, getattr(oracle, name)(x, axis=dim))
    oracle.assert_close(getattr(F, name)(np.asfortranarray(x), dim=dim), found)


def test_softmax_casts_first() -> None:
    x = np.array([[1, 2]])
    np.testing.assert_array_equal(F.softmax(x, 1, dtype=np.float64), F.softmax(x.astype(np.float64), 1))
    assert F.softmax(Tensor(np.float32([[1, 2]])), 1, dtype="float64").dtype == np.float64


@pytest.mark.parametrize("function", [F.softmax, F.softmin, F.log_softmax])
def test_softmax_takes_everybodys_dtypes(function: Callable[..., Any]) -> None:
    x = np.array([1, 2])
    expected = function(x.astype(np.float64), 0)
    for dtype in ("float64", np.float64, np.dtype("float64"), float):
        np.testing.assert_array_equal(function(x, 0, dtype=dtype), expected)
    for other in ("int64", np.int32, "float8", 3, [1]):
        with pytest.raises(TypeError, match=re.escape(f"float32 or float64; received {other!r}")):
            function(x, 0, dtype=other)
    torch = pytest.importorskip("torch")
    assert function(x, 0, dtype=torch.float32).dtype == np.float32
    assert function(torch.from_numpy(x), 0, dtype=torch.bfloat16).dtype == torch.bfloat16
    with pytest.raises(TypeError, match=r"^dtype must be .*; received torch\.int64"):
        function(x, 0, dtype=torch.int64)


def test_logits_are_remembered() -> None:
    x = Tensor(normal(2, 3), requires_grad=True)
    assert logits_of(F.softmax(x, -1), "softmax") is x
    assert logits_of(F.softmax(x, 1), "softmax") is x
    assert logits_of(F.softmax(x, 0), "softmax") is None
    assert logits_of(F.softmax(x, -1), "sigmoid") is None
    assert logits_of(F.sigmoid(x), "sigmoid") is x
    assert logits_of(F.sigmoid(x), "softmax") is None
    assert logits_of(F.softmax(x, -1) * 1, "softmax") is None
    assert logits_of(x, "softmax") is None


# Losses


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy(weighted: bool, smoothing: float, dtype: str) -> None:
    x = 3 * normal(20, 5, dtype=dtype)
    labels = classes(5, 20)
    labels[::6] = 4
    weight = np.abs(normal(5, dtype=dtype)) + 0.1 if weighted else None
    losses = oracle.cross_entropy(x, labels, 4, smoothing, weight)
    settings = {"weight": weight, "ignore_index": 4, "label_smoothing": smoothing}
    bound = 1e-5 if dtype == "float32" else 1e-13
    oracle.assert_close(F.cross_entropy(x, labels, **settings, reduction="none"), losses, bound)
    oracle.assert_close(F.cross_entropy(x, labels, **settings, reduction="sum"), losses.sum(), bound)
    counts = (np.ones(5) if weight is None else weight)[labels][labels != 4].sum()
    oracle.assert_close(F.cross_entropy(x, labels, **settings), losses.sum() / counts, bound)


def test_cross_entropy_of_images_and_of_one_row() -> None:
    x, labels = normal(2, 5, 3, 4), classes(5, 2, 3, 4)
    rows = oracle.cross_entropy(x.transpose(0, 2, 3, 1).reshape(-1, 5), labels.ravel())
    oracle.assert_close(F.cross_entropy(x, labels, reduction="none"), rows.reshape(2, 3, 4))
    oracle.assert_close(F.cross_entropy(x[0, :, 0, 0], labels[0, 0, 0]), rows[0])


def test_cross_entropy_of_probabilities() -> None:
    x, labels = normal(6, 5), classes(5, 6)
    one_hot = np.eye(5)[labels]
    for settings in ({}, {"label_smoothing": 0.2}):
        oracle.assert_close(F.cross_entropy(x, one_hot, **settings), F.cross_entropy(x, labels, **settings), 1e-13)


@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.int64, np.uint64])
def test_labels_of_any_integer_type(kind: type) -> None:
    x = normal(3, 4)
    np.testing.assert_array_equal(F.cross_entropy(x, np.array([0, 3, 1], kind)), F.cross_entropy(x, [0, 3, 1]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_binary_cross_entropy(dtype: str) -> None:
    x, t, w = (shares(3, 4, seed=seed).astype(dtype) for seed in range(3))
    wide = x.astype(np.float64)
    losses = -(t * np.log(wide) + (1.0 - t) * np.log(1 - wide))
    oracle.assert_close(F.binary_cross_entropy(x, t, reduction="none"), losses)
    oracle.assert_close(F.binary_cross_entropy(x, t), losses.mean())
    oracle.assert_close(F.binary_cross_entropy(x, t, w, reduction="sum"), (losses * w).sum())


def test_binary_cross_entropy_of_certainty_is_bounded() -> None:
    """Logarithms of at least -100, as in PyTorch."""
    losses = F.binary_cross_entropy(np.array([0.0, 1, 0, 1]), np.array([0.0, 1, 1, 0]), reduction="none")
    np.testing.assert_array_equal(losses, [0, 0, 100, 100])


# Normalisation


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_layer_norm_over_the_last_axes(axes: int, dtype: str) -> None:
    x = normal(2, 3, 4, dtype=dtype)
    shape = x.shape[-axes:]
    w, b = normal(*shape, dtype=dtype), normal(*shape, dtype=dtype) + 1
    rows = (x.reshape(-1, w.size), w.ravel(), b.ravel())
    for normalized_shape in (shape, list(shape)):
        found = F.layer_norm(x, normalized_shape, w, b, 0.5)
        oracle.assert_close(found, oracle.layer_normalisation(*rows, 0.5).reshape(x.shape))


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(2, 5, 7), (2, 5, 4, 3), (2, 5, 2, 3, 4), (1, 5, 2, 1, 3, 2)])
def test_local_response_norm(shape: tuple[int, ...], dtype: str, layout: str) -> None:
    x = oracle.channels_last(3 * normal(*shape, dtype=dtype), "channels_first")
    y = F.local_response_norm(oracle.in_layout(x, layout), 3, 0.2, 0.75, 1.5, data_format=layout)
    oracle.assert_close(oracle.channels_last(y, layout), oracle.response_normalisation(x, 3, 0.2, 0.75, 1.5))


@pytest.mark.parametrize("call", [lambda x: F.layer_norm(x, x.shape[1:]), lambda x: F.local_response_norm(x, 2)])
def test_normalisation_of_any_memory(call: Callable[..., Any]) -> None:
    """Arrays that are read-only, or lie in steps or out of order; and nothing at all."""
    x = normal(4, 6, 8)
    x.flags.writeable = False
    for view in (x, x[::2, ::-1], x.T, np.broadcast_to(x[0], x.shape)):
        np.testing.assert_array_equal(call(view), call(view.copy()))
    for shape in ((0, 6, 8), (4, 0, 8), (4, 6, 0)):
        for again in (False, True):
            nothing = Tensor(np.zeros(shape), requires_grad=True)
            call(nothing).sum().backward(create_graph=again)
            assert nothing.grad is not None
            assert nothing.grad.shape == shape
            assert nothing.grad.requires_grad == again


def test_gradients_of_weights_of_an_empty_batch() -> None:
    w, b = Tensor(normal(5), requires_grad=True), Tensor(normal(5), requires_grad=True)
    F.layer_norm(np.zeros((0, 5)), (5,), w, b).sum().backward()
    np.testing.assert_array_equal(w.grad.data, np.zeros(5))
    np.testing.assert_array_equal(b.grad.data, np.zeros(5))


@pytest.mark.parametrize("training", [True, False])
def test_gradients_of_batch_norm_of_an_empty_batch(training: bool) -> None:
    w, b = Tensor(normal(5), requires_grad=True), Tensor(normal(5), requires_grad=True)
    F.batch_norm(np.zeros((0, 5)), np.zeros(5), np.ones(5), w, b, training).sum().backward()
    np.testing.assert_array_equal(w.grad.data, np.zeros(5))
    np.testing.assert_array_equal(b.grad.data, np.zeros(5))


# Dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", DTYPES)
def test_dropout(p: float, dtype: str) -> None:
    pycnn.random.seed(1)
    x = np.ones(100_000, dtype)
    y = F.dropout(x, p)
    kept = y != 0
    np.testing.assert_allclose(y[kept], 1 / (1 - p), rtol=1e-6)
    # Five standard deviations of a binomial share.
    assert abs(kept.mean() - (1 - p)) < 5 * np.sqrt(p * (1 - p) / x.size)


def test_dropout_without_chance() -> None:
    x = normal(5)
    np.testing.assert_array_equal(F.dropout(x, 0.0), x)
    np.testing.assert_array_equal(F.dropout(x, 1.0), np.zeros(5))
    np.testing.assert_array_equal(F.dropout(x, 0.7, training=False), x)


def test_dropout_repeats_with_its_seed() -> None:
    results = []
    for seed in (3, 3, 4):
        pycnn.random.seed(seed)
        results.append(F.dropout(np.ones(50)))
    np.testing.assert_array_equal(results[0], results[1])
    assert (results[0] != results[2]).any()


def test_dropout_gives_its_gradient_to_what_it_kept() -> None:
    x = Tensor(np.ones(50), requires_grad=True)
    y = F.dropout(x)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.data, y.detach().numpy())


# Errors: one message that names what was expected and what was received, and no kernel runs.

OBJECTS = np.full((1, 3, 5, 5), None)
ROWS, LABELS = normal(4, 3), np.array([0, 1, 2, 0])
CONV_ERRORS = [
    ((X[0, 0], W), ValueError, "input must have the axes (N, C, H, W) or (C, H, W); received the shape (6, 5)"),
    ((X[None], W), ValueError, "(N, C, H, W) or (C, H, W); received the shape (1, 2, 3, 6, 5)"),
    ((X, W[0]), ValueError, "weight must have the axes (K, C / groups, KH, KW); received the shape (3, 3, 3)"),
    ((X, W[:, :2]), ValueError, "weight must have 3 input channels (the input has 3, groups is 1); received 2"),
    ((X, W, B[:3]), ValueError, "bias must have the shape (4,), one for each output channel; received (3,)"),
    ((X, W, B[None]), ValueError, "bias must have the shape (4,), one for each output channel; received (1, 4)"),
    ((X, normal(4, 3, 7, 3)), ValueError, "it extends over 7 in height, the input over 6 + 0 + 0"),
    ((X, W, None, 1, 0, (1, 3)), ValueError, "it extends over 7 in width, the input over 5 + 0 + 0"),
    ((X, W, None, 0), ValueError, "stride must be at least 1; received 0"),
    ((X, W, None, (1, -2)), ValueError, "stride must be at least 1; received (1, -2)"),
    ((X, W, None, (1, 1, 1)), ValueError, "stride must be an integer or a pair of integers; received (1, 1, 1)"),
    ((X, W, None, 1.5), TypeError, "stride must be an integer or a pair of integers; received 1.5"),
    ((X, W, None, "2"), TypeError, "stride must be an integer or a pair of integers; received '2'"),
    ((X, W, None, 1, -1), ValueError, "padding must be at least 0; received -1"),
    ((X, W, None, 1, "sane"), ValueError, "must be one of 'same', 'valid'; received 'sane'. Did you mean 'same'?"),
    ((X, W, None, 2, "same"), ValueError, "padding 'same' needs a stride of 1; received (2, 2)"),
    ((X, W, None, 1, ((1, 1),)), ValueError, "padding for each side must be ((top, bottom), (left, right))"),
    ((X, W, None, 1, 0, 0), ValueError, "dilation must be at least 1; received 0"),
    ((X, W, None, 1, 0, 1, 2), ValueError, "groups must divide the channels, 3 in and 4 out; received 2"),
    ((X, W, None, 1, 0, 1, 0), ValueError, "groups must be at least 1; received 0"),
    ((X, W, None, 1, 0, 1, 1.0), TypeError, "groups must be an integer; received 1.0"),
    ((X > 0, W), TypeError, f"input {MUST_HOLD} bool"),
    ((X.view("V8"), W), TypeError, f"input {MUST_HOLD} |V8"),
    ((X.astype(complex), W), TypeError, f"input {MUST_HOLD} complex128"),
    ((OBJECTS, W), TypeError, f"input {MUST_HOLD} object"),
    ((X, OBJECTS), TypeError, f"weight {MUST_HOLD} object"),
    ((X, W.astype("f4")), TypeError, "weight must have the dtype of the input, float64; received float32"),
    ((X, W, B.astype("f4")), TypeError, "bias must have the dtype of the input, float64; received float32"),
    ((None, W), TypeError, f"input {MUST_HOLD} object"),
    ((X[:, :0], W[:, :0]), ValueError, "a convolution needs at least one channel; received 0 in and 4 out"),
    ((X, normal(4, 3, 0, 3)), ValueError, "the kernel must be at least 1 in height; received 0"),
]  # fmt: skip
SIGNAL, VOLUME = X[..., 0], X[..., None]
FILTERS = {1: W[..., 0], 3: W[..., None]}
KEYWORDS: list[tuple[Any, tuple[Any, ...], dict[str, Any], type[Exception], str]] = [
    (F.conv2d, (X, W), {"padding_mode": "mirror"}, ValueError,
     "padding_mode must be one of 'zeros', 'reflect', 'replicate', 'circular'; received 'mirror'"),
    (F.conv2d, (X, W, None, 1, (6, 0)), {"padding_mode": "reflect"}, ValueError,
     "padding 'reflect' must be less than the input's size, 6 in height; received (6, 6)"),
    (F.conv2d, (X, W, None, 1, ((0, 0), (1, 5))), {"padding_mode": "reflect"}, ValueError,
     "padding 'reflect' must be less than the input's size, 5 in width; received (1, 5)"),
    (F.conv2d, (X, W, None, 1, (7, 0)), {"padding_mode": "circular"}, ValueError,
     "padding 'circular' must be at most the input's size, 6 in height; received (7, 7)"),
    (F.conv1d, (SIGNAL, FILTERS[1], None, 1, 6), {"padding_mode": "reflect"}, ValueError, "6 in width; received (6,"),
    (F.conv2d, (X, W), {"scale": B[:3]}, ValueError,
     "scale must have the shape (4,), one for each output channel; received (3,)"),
    (F.conv2d, (X, W), {"scale": 2.0}, ValueError, "one for each output channel; received ()"),
    (F.conv2d, (X, W), {"scale": B.astype("f4")}, TypeError, "scale must have the dtype of the input, float64"),
    (F.conv2d, (X, W), {"residual": X}, ValueError,
     "residual must have the shape of the result, (2, 4, 4, 3); received (2, 3, 6, 5)"),
    (F.conv2d, (X, W), {"residual": normal(4, 4, 3)}, ValueError, "(2, 4, 4, 3); received (4, 4, 3)"),
    (F.conv2d, (X[0], W), {"residual": normal(1, 4, 4, 3)}, ValueError, "(4, 4, 3); received (1, 4, 4, 3)"),
    (F.conv2d, (X, W), {"residual": normal(2, 4, 4, 3) > 0}, TypeError, "residual must hold float16, bfloat16,"),
    (F.conv2d, (X, W), {"activation": "gelu"}, ValueError,
     "activation must be one of None, 'relu', 'leaky_relu', 'tanh', 'sigmoid'; received 'gelu'"),
    (F.conv2d, (X, W), {"negative_slope": -0.1}, ValueError, "negative_slope must be a number of at least 0; rece"),
    (F.conv2d, (X, W), {"negative_slope": np.nan}, ValueError, "must be a number of at least 0; received nan"),
    (F.conv2d, (X, W), {"negative_slope": True}, TypeError, "must be a number of at least 0; received True"),
    (F.conv_transpose2d, (X, W[:3]), {"negative_slope": "1"}, TypeError, "must be a number of at least 0; received '1"),
    (F.conv_transpose2d, (X, W[:3]), {"activation": "elu"}, ValueError, "activation must be one of None, 'relu'"),
    (F.conv1d, (SIGNAL, FILTERS[1]), {"weight_format": "OIHW"}, ValueError,
     "weight_format must be one of 'OIW', 'WIO'; received 'OIHW'"),
    (F.conv3d, (VOLUME, FILTERS[3]), {"weight_format": "HWIO"}, ValueError,
     "weight_format must be one of 'OIDHW', 'DHWIO'; received 'HWIO'"),
    (F.conv_transpose2d, (X, W[:3]), {"weight_format": "OIHW"}, ValueError,
     "weight_format must be one of 'IOHW', 'HWOI'; received 'OIHW'"),
    (F.conv_transpose2d, (X, W[:3]), {"data_format": "NCHW"}, ValueError, "data_format must be 'channels_first' or"),
    (F.conv_transpose2d, (X, W[:3]), {"algorithm": "magic"}, ValueError,
     "algorithm of conv_input_gradient must be 'auto' or one of 'fft', 'depthwise'"),
]  # fmt: skip
TRANSPOSED_ERRORS = [
    ((X[0, 0], W), ValueError, "input must have the axes (N, C, H, W) or (C, H, W); received the shape (6, 5)"),
    ((X[:, :, :0], W[:3]), ValueError, "input must have at least one pixel; received the shape (2, 3, 0, 5)"),
    ((X, W[0]), ValueError, "weight must have the axes (C, K / groups, KH, KW); received the shape (3, 3, 3)"),
    ((X, W), ValueError, "weight must have 3 input channels, as the input has; received 4"),
    ((X, W[:3], B), ValueError, "bias must have the shape (3,), one for each output channel; received (4,)"),
    ((X, W[:3], B[:3], 1, 0, 0, 3, 1), ValueError, "bias must have the shape (9,), one for each output channel"),
    ((X, W[:3], None, 0), ValueError, "stride must be at least 1; received 0"),
    ((X, W[:3], None, 1.5), TypeError, "stride must be an integer or a pair of integers; received 1.5"),
    ((X, W[:3], None, 1, -1), ValueError, "padding must be at least 0; received -1"),
    ((X, W[:3], None, 1, "same"), TypeError, "padding must be an integer or a pair of integers; received 'same'"),
    ((X, W[:3], None, 1, (0, 4)), ValueError, "leaves nothing of the result: it would have the size (8, -1)"),
    ((X, W[:3], None, 2, 0, -1), ValueError, "output_padding must be at least 0; received -1"),
    ((X, W[:3], None, 2, 0, (0, 2)), ValueError,
     "output_padding must be less than the stride or the dilation, 2 and 1 in width; received 2"),
    ((X, W[:3], None, 1, 0, 2, 1, 2), ValueError, "stride or the dilation, 1 and 2 in height; received 2"),
    ((X, W[:3], None, 1, 0, 0, 2), ValueError, "groups must divide the channels, 3 in; received 2"),
    ((X, W[:3], None, 1, 0, 0, 0), ValueError, "groups must be at least 1; received 0"),
    ((X, W[:3], None, 1, 0, 0, 1, 0), ValueError, "dilation must be at least 1; received 0"),
    ((X, W[:3, :0]), ValueError, "a convolution needs at least one channel; received 3 in and 0 out"),
    ((X, normal(3, 4, 0, 3)), ValueError, "the kernel must be at least 1 in height; received 0"),
    ((X > 0, W), TypeError, "input must hold float16, bfloat16, float32 or float64; received bool"),
    ((X, W.astype("f4")), TypeError, "weight must have the dtype of the input, float64; received float32"),
]  # fmt: skip
ERRORS: list[tuple[Callable[..., Any], tuple[Any, ...], type[Exception], str]] = [
    *((F.conv2d, *case) for case in CONV_ERRORS),
    *((F.conv_transpose2d, *case) for case in TRANSPOSED_ERRORS),
    *((functools.partial(f, **keywords), *case) for f, arguments, keywords, *rest in KEYWORDS
      for case in [(arguments, *rest)]),
    (F.conv1d, (X, FILTERS[1]), ValueError, "input must have the axes (N, C, W) or (C, W); received the shape (2, 3, "),
    (F.conv1d, (SIGNAL, W), ValueError, "weight must have the axes (K, C / groups, KW); received the shape (4, 3,"),
    (F.conv1d, (SIGNAL, FILTERS[1], None, (1, 1)), ValueError, "stride must be an integer; received (1, 1)"),
    (F.conv1d, (SIGNAL, FILTERS[1], None, 1, ((1, 1), (1, 1))), ValueError,
     "padding for each side must be ((left, right),); received ((1, 1), (1, 1))"),
    (F.conv1d, (SIGNAL[..., :2], FILTERS[1]), ValueError, "it extends over 3 in width, the input over 2 + 0 + 0"),
    (F.conv3d, (X[0], FILTERS[3]), ValueError, "input must have the axes (N, C, D, H, W) or (C, D, H, W); received"),
    (F.conv3d, (VOLUME, W), ValueError, "weight must have the axes (K, C / groups, KD, KH, KW); received the shape"),
    (F.conv3d, (VOLUME, FILTERS[3], None, (1, 1)), ValueError, "stride must be an integer or three integers; received"),
    (F.conv3d, (VOLUME, FILTERS[3], None, 2, "same"), ValueError, "needs a stride of 1; received (2, 2, 2)"),
    (F.conv_transpose1d, (SIGNAL, FILTERS[1][:3], None, 1, 0, (0, 0)), ValueError,
     "output_padding must be an integer; received (0, 0)"),
    (F.conv_transpose3d, (VOLUME, W), ValueError, "weight must have the axes (C, K / groups, KD, KH, KW); received"),
    *(
        (pool, *case)
        for pool in (F.max_pool2d, F.avg_pool2d)
        for case in [
            ((X[0, 0], 2), ValueError, "input must have the axes (N, C, H, W) or (C, H, W); received the shape (6, 5)"),
            ((X > 0, 2), TypeError, f"input {MUST_HOLD} bool"),
            ((OBJECTS, 2), TypeError, f"input {MUST_HOLD} object"),
            ((X, 0), ValueError, "kernel_size must be at least 1; received 0"),
            ((X, 2.0), TypeError, "kernel_size must be an integer or a pair of integers; received 2.0"),
            ((X, 2, 0), ValueError, "stride must be at least 1; received 0"),
            ((X, 2, -1), ValueError, "stride must be at least 1; received -1"),
            ((X, 7), ValueError, "a window must fit the padded input: it extends over 7 in height, the input over 6"),
            ((X, 3, 1, 2), ValueError, "padding must be at most half a window, 1 in height; received (2, 2)"),
            ((X, 2, 1, ((0, 0), (0, 2))), ValueError, "padding must be at most half a window, 1 in width"),
        ]
    ),
    (F.max_pool2d, (X, 2, 1, 0, 0), ValueError, "dilation must be at least 1; received 0"),
    (F.avg_pool2d, (X, 2, 1, 0, False, True, 0), ValueError, "divisor_override must not be 0"),
    (F.avg_pool2d, (X, 2, 1, 0, False, True, 1.5), TypeError, "divisor_override must be an integer; received 1.5"),
    (F.linear, (X, normal(3, 4)), ValueError, "input must have 4 features in its last axis, as weight does; received"),
    (F.linear, (X, normal(3, 5), normal(2)), ValueError, "bias must have the shape (3,); received (2,)"),
    (F.linear, (X, W), ValueError, "weight must have the axes (O, I) and input at least one axis; received the shapes"),
    (F.linear, (X, normal(3, 5, dtype="float32")), TypeError, "weight must have the dtype of the input, float64"),
    (F.linear, (X.astype(int), normal(3, 5)), TypeError, "weight must have the dtype of the input, int64; received"),
    *((f, (X.astype(int),), TypeError, f"input {MUST_HOLD} int64")
      for f in (F.leaky_relu, F.gelu, F.silu, F.softmax, F.log_softmax, F.dropout)),
    (F.relu, (X > 0,), TypeError, f"input {MUST_HOLD} bool"),
    (F.softmax, (X, 4), ValueError, "dim must be from -4 to 3 for the shape (2, 3, 6, 5); received 4"),
    (F.softmax, (X, 1.0), TypeError, "dim must be an integer; received 1.0"),
    (F.log_softmax, (np.float64(1), 1), ValueError, "dim must be from -1 to 0 for the shape (); received 1"),
    (F.layer_norm, (X, 5), TypeError,
     "normalized_shape must be a tuple of integers, the sizes of the last axes; received 5"),
    (F.layer_norm, (X, ()), ValueError, "normalized_shape must have at least one axis; received ()"),
    (F.layer_norm, (X, (5.0,)), TypeError, "each of normalized_shape must be an integer; received 5.0"),
    (F.layer_norm, (X, (6,)), ValueError,
     "input must end with the axes of normalized_shape, (6,); received the shape (2, 3, 6, 5)"),
    (F.layer_norm, (X, (1, 2, 3, 6, 5)), ValueError, "must end with the axes of normalized_shape, (1, 2, 3, 6, 5);"),
    (F.layer_norm, (np.float64(1), (1,)), ValueError, "axes of normalized_shape, (1,); received the shape ()"),
    (F.layer_norm, (X, (6, 5), normal(30)), ValueError,
     "weight must have the shape of normalized_shape, (6, 5); received (30,)"),
    (F.layer_norm, (X, (5,), None, normal(1)), ValueError, "bias must have the shape of normalized_shape, (5,); rec"),
    (F.layer_norm, (X, (5,), normal(5, dtype="float32")), TypeError,
     "weight must have the dtype of the input, float64; received float32"),
    (F.layer_norm, (X.astype("f2"), (5,), normal(5)), TypeError, "dtype of the input, float16; received float64"),
    (F.layer_norm, (X.astype(int), (5,)), TypeError, f"input {MUST_HOLD} int64"),
    (F.layer_norm, (X, (5,), X[0, 0, 0] > 0), TypeError, f"weight {MUST_HOLD} bool"),
    (F.layer_norm, (X, (5,), None, None, None), TypeError, "eps must be a number; received None"),
    (F.local_response_norm, (X[0, 0], 2), ValueError,
     "input must have at least three axes, (N, C, ...); received the shape (6, 5)"),
    (lambda *a: F.local_response_norm(*a, data_format="channels_last"), (X[0, 0], 2), ValueError,
     "input must have at least three axes, (N, ..., C); received the shape (6, 5)"),
    (lambda *a: F.local_response_norm(*a, data_format="NHWC"), (X, 2), ValueError, "data_format must be 'channels_fi"),
    (F.local_response_norm, (X, 0), ValueError, "size must be at least 1; received 0"),
    (F.local_response_norm, (X, -3), ValueError, "size must be at least 1; received -3"),
    (F.local_response_norm, (X, 2.0), TypeError, "size must be an integer; received 2.0"),
    (F.local_response_norm, (X, 2**63), ValueError, "size must be an integer of 64 bits; received 9223372036854775808"),
    (F.local_response_norm, (X, 2, "1"), TypeError, "alpha must be a number; received '1'"),
    (F.local_response_norm, (X, 2, 1, True), TypeError, "beta must be a number; received True"),
    (F.local_response_norm, (X, 2, 1, 1, None), TypeError, "k must be a number; received None"),
    (F.local_response_norm, (X.astype(int), 2), TypeError, f"input {MUST_HOLD} int64"),
    (F.dropout, (X, 1.5), ValueError, "p must be a number from 0 to 1; received 1.5"),
    (F.dropout, (X, -0.1), ValueError, "p must be a number from 0 to 1; received -0.1"),
    (F.dropout, (X, np.nan), ValueError, "p must be a number from 0 to 1; received nan"),
    (F.dropout, (X, "a"), TypeError, "p must be a number from 0 to 1; received 'a'"),
    (F.conv2d, ([[1.0, 2.0], [3.0]], W), ValueError, "input must be an array or rows of equal lengths;"),
    (F.conv2d, (X, [[1.0, 2.0], [3.0]]), ValueError, "weight must be an array or rows of equal lengths"),
    (F.softmax, ([[1.0, 2.0], [3.0]],), ValueError, "input must be an array or rows of equal lengths"),
    (F.cross_entropy, (ROWS, [[1, 2], [3]]), ValueError, "target must be an array or rows of equal lengths"),
    (lambda *a: F.cross_entropy(*a, label_smoothing="a"), (ROWS, LABELS), TypeError,
     "label_smoothing must be a number from 0 to 1; received 'a'"),
    (F.cross_entropy, (ROWS, LABELS[:3]), ValueError, "must have the shape (4,), a class for each row; received (3,)"),
    (F.cross_entropy, (ROWS, LABELS[None]), ValueError, "shape (4,), a class for each row; received (1, 4)"),
    (F.cross_entropy, (ROWS, LABELS + 1), ValueError, "target must hold class numbers from 0 to 2; received 3"),
    (F.cross_entropy, (ROWS, LABELS - 1), ValueError, "target must hold class numbers from 0 to 2; received -1"),
    (F.cross_entropy, (ROWS, LABELS > 0), TypeError, "target must hold class numbers or probabilities; received bool"),
    (F.cross_entropy, (ROWS, LABELS.astype(object)), TypeError, "class numbers or probabilities; received object"),
    (F.cross_entropy, (ROWS, LABELS.astype(float)), ValueError,
     "class numbers, or probabilities of the input's shape (4, 3); received float64 of the shape (4,)"),
    (F.cross_entropy, (ROWS.astype(int), LABELS), TypeError, f"input {MUST_HOLD} int64"),
    (F.cross_entropy, (ROWS, LABELS, normal(2)), ValueError, "shape (3,), one for each class; received (2,)"),
    (F.cross_entropy, (ROWS[:, :0], LABELS), ValueError, "input needs at least one class; received the shape (4, 0)"),
    (lambda *a: F.cross_entropy(*a, reduction="men"), (ROWS, LABELS), ValueError,
     "reduction must be one of 'mean', 'sum', 'none'; received 'men'. Did you mean 'mean'?"),
    (lambda *a: F.cross_entropy(*a, label_smoothing=1.5), (ROWS, LABELS), ValueError,
     "label_smoothing must be a number from 0 to 1; received 1.5"),
    (F.binary_cross_entropy, (ROWS, ROWS), ValueError, "input must lie between 0 and 1; received"),
    (F.binary_cross_entropy, (ROWS * 0, ROWS), ValueError, "target must lie between 0 and 1; received"),
    (F.binary_cross_entropy, (ROWS * 0, ROWS[:2] * 0), ValueError,
     "target must have the shape of the input, (4, 3); received (2, 3)"),
    (F.binary_cross_entropy, (ROWS * 0, LABELS), TypeError, f"target {MUST_HOLD} int64"),
    (lambda *a: F.conv2d(*a, data_format="channel_last"), (X, W), ValueError,
     "data_format must be 'channels_first' or 'channels_last'; received 'channel_last'. Did you mean 'channels_last'?"),
    (lambda *a: F.conv2d(*a, weight_format="OHWI"), (X, W), ValueError, "weight_format must be one of 'OIHW', 'HWIO'"),
    (lambda *a: F.conv2d(*a, activation="rely"), (X, W), ValueError, "received 'rely'. Did you mean 'relu'?"),
    (lambda *a: F.conv2d(*a, algorithm="magic"), (X, W), ValueError,
     "algorithm of conv_forward must be 'auto' or one of 'fft', 'depthwise'"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "arguments", "error", "message"), ERRORS, ids=[message for *_, message in ERRORS])
@pytest.mark.parametrize("kind", ["arrays", "tensors"])
def test_errors(
    call: Callable[..., Any],
    arguments: tuple[Any, ...],
    error: type[Exception],
    message: str,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a kernel ran")

    monkeypatch.setattr(Plan, "run", refuse)
    if kind == "tensors":
        arguments = tuple(Tensor(a) if isinstance(a, np.ndarray) and a.dtype.kind in "fi" else a for a in arguments)
    with pytest.raises(error, match=re.escape(message)):
        call(*arguments)


def test_more_positions_than_an_index_holds() -> None:
    with pytest.raises(ValueError, match="windows of at most 16,777,216 elements; received 1 x 4097 x 4096"):
        F.max_pool2d(np.zeros((1, 1, 4097, 4096)), (4097, 4096))
    assert F.avg_pool2d(np.ones((1, 1, 4097, 4096)), (4097, 4096)).item() == pytest.approx(1)


def test_equal_arguments_that_are_not_the_same_are_read_anew() -> None:
    x, w = np.ones((1, 1, 4, 4)), np.ones((1, 1, 2, 2))
    F.conv2d(x, w, None, 1, (1, 1), negative_slope=1)
    for stride in (1.0, (1, 1.0), [1, 1.0]):
        with pytest.raises(TypeError, match=rf"stride must be .* integers; received {re.escape(repr(stride))}$"):
            F.conv2d(x, w, None, stride, (1, 1))
    with pytest.raises(TypeError, match="negative_slope"):
        F.conv2d(x, w, None, 1, (1, 1), activation="leaky_relu", negative_slope=True)
    F.max_pool2d(x, 2, 1)
    with pytest.raises(TypeError, match=r"kernel_size must be an integer or a pair of integers; received 2\.0"):
        F.max_pool2d(x, 2.0, 1)


# Convolutions of integers.


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "int64", ">i2"])
def test_convolutions_of_integers_are_exact_and_wrap_around(dtype: str) -> None:
    x, w, b = (np.round(20 * a) for a in (normal(2, 4, 8, 7), normal(3, 4, 3, 3), normal(3)))
    for call in (F.conv2d, lambda x, w, b: F.conv_transpose2d(x[:, :3], w, b.repeat(2)[:4])):
        given = [a.astype(np.int64).astype(dtype) for a in (x, w, b)]
        exact = call(*(a.astype(np.float64) for a in given))
        for y in (call(*given), call(Tensor(given[0]), *given[1:]).data):
            assert y.dtype == np.dtype(dtype).newbyteorder("=")
            np.testing.assert_array_equal(y, np.rint(exact).astype(np.int64).astype(y.dtype))


def test_neighbours_in_the_game_of_life() -> None:
    board = np.zeros((1, 5, 5), np.uint8)
    board[0, 2, 1:4] = 1
    around = np.ones((1, 1, 3, 3), np.uint8)
    around[0, 0, 1, 1] = 0
    assert F.conv2d(board, around, padding=1)[0].tolist() == [
        [0, 0, 0, 0, 0], [1, 2, 3, 2, 1], [1, 1, 2, 1, 1], [1, 2, 3, 2, 1], [0, 0, 0, 0, 0]
    ]  # fmt: skip


INTEGERS = np.ones((1, 2, 4, 4), np.int64)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: F.conv2d(INTEGERS, W), TypeError, "weight must have the dtype of the input, int64; received float64"),
        (lambda: F.conv2d(INTEGERS, INTEGERS, B), TypeError, "bias must have the dtype of the input, int64; received"),
        (lambda: F.conv2d(INTEGERS, INTEGERS, activation="relu"), TypeError, "input must hold floats for an"),
        (lambda: F.conv_transpose2d(INTEGERS, INTEGERS, activation="relu"), TypeError, "input must hold floats for an"),
        (lambda: F.conv2d(INTEGERS << 50, INTEGERS), ValueError, "sums of integers must be exact, at most 2**53"),
        (lambda: F.conv2d(INTEGERS > 0, INTEGERS), TypeError, "input must hold float16, bfloat16, float32 or float64"),
    ],
)  # fmt: skip
def test_integers_that_are_refused(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        call()


FLAGS: dict[str, Callable[[Any], Any]] = {
    "training of dropout": lambda flag: F.dropout(normal(3), 0.5, flag),
    "training of feature_alpha_dropout": lambda flag: F.feature_alpha_dropout(normal(3, 2), 0.5, flag),
    "training of rrelu": lambda flag: F.rrelu(normal(3), training=flag),
    "training of batch_norm": lambda flag: F.batch_norm(normal(3, 2), np.zeros(2), np.ones(2), training=flag),
    "training of mixed_pool1d": lambda flag: F.mixed_pool1d(normal(1, 4), 2, training=flag),
    "training of stochastic_pool1d": lambda flag: F.stochastic_pool1d(normal(1, 4), 2, training=flag),
    "use_input_stats": lambda flag: F.instance_norm(normal(3, 2, 4), np.zeros(2), np.ones(2), use_input_stats=flag),
    "scale_grad_by_freq": lambda flag: F.embedding([0], normal(3, 2), scale_grad_by_freq=flag),
    "sparse": lambda flag: F.embedding([0], normal(3, 2), sparse=flag),
    "keepdim": lambda flag: F.pairwise_distance(normal(3, 2), normal(3, 2), keepdim=flag),
    "log_input": lambda flag: F.poisson_nll_loss(normal(3), normal(3), log_input=flag),
    "full": lambda flag: F.poisson_nll_loss(normal(3), normal(3), full=flag),
    "log_target": lambda flag: F.kl_div(normal(3), normal(3), log_target=flag, reduction="sum"),
    "align_corners": lambda flag: F.interpolate(normal(1, 1, 4), 2, mode="linear", align_corners=flag),
}


@pytest.mark.parametrize("name", FLAGS)
def test_flags_are_true_or_false(name: str) -> None:
    call = FLAGS[name]
    for flag in (True, np.bool_(False)):
        call(flag)
    for other in ("no", 0, 1.0):
        with pytest.raises(TypeError, match=f"{name.split()[0]} must be True or False; received {other!r}"):
            call(other)


@pytest.mark.parametrize("wrap", [np.array, np.float32, Tensor])
def test_numbers_may_be_arrays_without_axes(wrap: Callable[[float], Any]) -> None:
    x = np.array([-2.0, 2.0])
    np.testing.assert_array_equal(F.leaky_relu(x, wrap(0.5)), [-1, 2])
    np.testing.assert_array_equal(F.dropout(x, wrap(1.0)), [0, 0])
    np.testing.assert_array_equal(F.lp_pool1d(x[None], wrap(1.0), 2), [[0]])
    for other in (wrap([0.5]), np.array("0.5"), np.array(True), Tensor(0.5, requires_grad=True)):
        with pytest.raises(TypeError, match="negative_slope must be a number; received"):
            F.leaky_relu(x, other)
        with pytest.raises(TypeError, match="p must be a number from 0 to 1; received"):
            F.dropout(x, other)


def test_numbers_may_be_tensors_of_pytorch_without_axes() -> None:
    torch = pytest.importorskip("torch")
    x = torch.tensor([-2.0, 2.0], requires_grad=True)
    for slope in (torch.tensor(0.5), torch.tensor(0.5, dtype=torch.bfloat16)):
        assert F.leaky_relu(x, slope).tolist() == [-1, 2]
        assert F.leaky_relu(x.detach(), slope).tolist() == [-1, 2]
        assert F.leaky_relu(x.detach().numpy(), slope.float().numpy()).tolist() == [-1, 2]


@pytest.mark.parametrize(
    ("value", "received"),
    [
        (2.5, "2.5"),
        (np.array([2, 2]), "array([2, 2]), neither a tuple nor a list"),
        (range(2, 4), "range(2, 4), neither a tuple nor a list"),
        ((2, "2"), "(2, '2')"),
    ],
)
def test_sizes_are_integers_or_pairs_of_them(value: Any, received: str) -> None:
    x, w = normal(1, 1, 4, 4), normal(1, 1, 2, 2)
    says = re.escape(f" must be an integer or a pair of integers; received {received}") + "$"
    with pytest.raises(TypeError, match="kernel_size" + says):
        F.max_pool2d(x, value)
    with pytest.raises(TypeError, match="stride" + says):
        F.conv2d(x, w, stride=value)


def test_normalize_writes_into_arrays_alone() -> None:
    x = normal(3, 2)
    with pytest.raises(TypeError, match=r"out must be an array or a tensor like the input; received list$"):
        F.normalize(x, out=[1])
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match=r"like the input; received torch\.Tensor$"):
        F.normalize(x, out=torch.empty(3, 2))
    out = torch.empty(3, 2, dtype=torch.float64)
    assert F.normalize(torch.from_numpy(x), out=out) is out
    np.testing.assert_array_equal(out.numpy(), F.normalize(x))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", ">i2"])
def test_linear_of_integers_is_exact_and_wraps_around(dtype: str) -> None:
    x, w, b = (np.round(20 * a).astype(np.int64).astype(dtype) for a in (normal(2, 5, 7), normal(3, 7), normal(3)))
    exact = x.astype(np.int64) @ w.astype(np.int64).T
    beside = np.arange(15).reshape(5, 3).astype(dtype)
    for given, expected in (((x, w), exact), ((x, w, b), exact + b), ((x, w, beside), exact + beside)):
        y = F.linear(*given)
        assert y.dtype == np.dtype(dtype).newbyteorder("=")
        np.testing.assert_array_equal(y, expected.astype(y.dtype))
    np.testing.assert_array_equal(F.linear(Tensor(x), w.T, weight_format="IO").numpy(), exact.astype(y.dtype))
    with pytest.raises(TypeError, match="input must hold floats for an activation; received"):
        F.linear(x, w, activation="relu")
    with pytest.raises(TypeError, match="weight must have the dtype of the input"):
        F.linear(x, w.astype(np.float32))


def test_means_of_integers_are_without_their_fractions() -> None:
    torch = pytest.importorskip("torch")
    generator = np.random.default_rng(0)
    for limit in (3, 50, 10**12):
        for kernel, settings in [
            (1, {}),
            (3, {"padding": 1}),
            (7, {"stride": 1}),
            ((5, 7), {"padding": (2, 3), "count_include_pad": False, "ceil_mode": True, "stride": 2}),
            (2, {"divisor_override": -3}),
            (2, {"divisor_override": 49}),
        ]:
            x = generator.integers(-limit, limit + 1, (2, 3, 9, 8))
            expected = torch.nn.functional.avg_pool2d(torch.from_numpy(x), kernel, **settings).numpy()
            y = F.avg_pool2d(x, kernel, **settings)
            np.testing.assert_array_equal(y, expected, strict=True)
            np.testing.assert_array_equal(F.avg_pool2d(np.full_like(x, limit), kernel, stride=1), limit)
    assert F.avg_pool1d(Tensor(x[0, 0]), 2).dtype == np.int64
    with pytest.raises(ValueError, match="sums of integers must be at most"):
        F.avg_pool1d(np.full((1, 4), 2**50), 2)
