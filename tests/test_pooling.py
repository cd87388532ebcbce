"""Pooling in the functional layer: ranks, adaptive windows, norms, unpooling, and what is drawn."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pycnn
import pycnn.functional as F
from pycnn import Tensor
from pycnn_kernels.plan import Plan
from tests import reference as oracle

FORMATS = ("channels_first", "channels_last")
SIZES = {1: (9,), 2: (7, 8), 3: (4, 5, 6)}


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape)


def of_rank(name: str, rank: int) -> Callable[..., Any]:
    return getattr(F, f"{name}{rank}d")


def batch(rank: int) -> np.ndarray:
    """In channels last, as the oracle has it."""
    return normal(2, *SIZES[rank], 3)


def geometry(rank: int, kernel: int = 3, stride: int = 2, padding: int = 0, ceil_mode: bool = False) -> tuple[Any, ...]:
    """As the oracle takes it."""
    return ((kernel,) * rank, (stride,) * rank, ((padding, padding),) * rank, (1,) * rank, ceil_mode)


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_every_rank(rank: int, data_format: str) -> None:
    x = batch(rank)
    given = oracle.in_layout(x, data_format)
    expected = {
        "max_pool": oracle.max_pooling(x, *geometry(rank, padding=1))[0],
        "avg_pool": oracle.average_pooling(x, *geometry(rank, padding=1)),
    }
    for name, values in expected.items():
        found = of_rank(name, rank)(given, 3, 2, 1, data_format=data_format)
        oracle.assert_close(oracle.channels_last(found, data_format), values)
        single = of_rank(name, rank)(given[1], 3, 2, 1, data_format=data_format)
        np.testing.assert_array_equal(single, found[1])


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("norm", [1, 2, 3, 2.5, -1])
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_norms(ceil_mode: bool, norm: float, rank: int, data_format: str) -> None:
    """A sum is the mean of what the window holds, times the elements that it would hold inside."""
    x = np.abs(batch(rank))
    sums = 3**rank * oracle.average_pooling(x**norm, *geometry(rank, ceil_mode=ceil_mode))
    found = of_rank("lp_pool", rank)(oracle.in_layout(x, data_format), norm, 3, 2, ceil_mode, data_format=data_format)
    oracle.assert_close(oracle.channels_last(found, data_format), sums ** (1 / norm))


@pytest.mark.parametrize("data_format", FORMATS)
def test_norms_of_infinity(data_format: str) -> None:
    x = batch(2)
    given, windows = oracle.in_layout(x, data_format), geometry(2, ceil_mode=True)
    for norm, sign in ((np.inf, 1), (-np.inf, -1)):
        found = F.lp_pool2d(given, norm, 3, 2, True, data_format=data_format)
        expected = sign * oracle.max_pooling(sign * np.abs(x), *windows)[0]
        np.testing.assert_array_equal(oracle.channels_last(found, data_format), expected)


def test_the_norm_of_nothing_has_no_slope() -> None:
    x = Tensor(np.array([[[[0.0, 0.0, 3.0, 4.0]]]]), requires_grad=True)
    y = F.lp_pool2d(x, 2, (1, 2))
    y.sum().backward()
    np.testing.assert_array_equal(y.data.ravel(), [0, 5])
    np.testing.assert_allclose(x.grad.data.ravel(), [0, 0, 0.6, 0.8])


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("out", [1, 3, 5, 11])
def test_adaptive_pooling(out: int, rank: int, data_format: str) -> None:
    x = batch(rank)
    given, target = oracle.in_layout(x, data_format), (out,) * rank
    mean = of_rank("adaptive_avg_pool", rank)(given, out, data_format=data_format)
    oracle.assert_close(oracle.channels_last(mean, data_format), oracle.average_pooling(x, target))
    y, indices = of_rank("adaptive_max_pool", rank)(given, target, return_indices=True, data_format=data_format)
    y, indices = (oracle.channels_last(array, data_format) for array in (y, indices))
    np.testing.assert_array_equal(y, oracle.max_pooling(x, target)[0])
    pixels = x.reshape(2, -1, 3)
    np.testing.assert_array_equal(np.take_along_axis(pixels, indices.reshape(2, -1, 3), axis=1), y.reshape(2, -1, 3))


def test_none_keeps_a_size() -> None:
    x = oracle.in_layout(batch(2), "channels_first")
    assert F.adaptive_avg_pool2d(x, (None, 1)).shape == (2, 3, 7, 1)
    assert F.adaptive_max_pool2d(x, (None, None)).shape == x.shape


@pytest.mark.parametrize("data_format", FORMATS)
def test_no_windows_give_nothing(data_format: str) -> None:
    x = Tensor(oracle.in_layout(batch(2), data_format), requires_grad=True)
    y, indices = F.adaptive_max_pool2d(x, (0, 2), return_indices=True, data_format=data_format)
    mean = F.adaptive_avg_pool2d(x, (0, 2), data_format=data_format)
    fraction = F.fractional_max_pool2d(x, 2, (0, 2), data_format=data_format)
    for each in (y, indices, mean, fraction):
        assert oracle.channels_last(each.data, data_format).shape == (2, 0, 2, 3)
    (y.sum() + mean.sum() + fraction.sum()).backward()
    assert not x.grad.data.any()


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "int64", ">i4"])
def test_the_greatest_of_integers(dtype: str, data_format: str) -> None:
    x = np.round(20 * np.abs(batch(2)))
    expected, _ = oracle.max_pooling(x, *geometry(2))
    given = oracle.in_layout(x, data_format).astype(dtype)
    for y in (
        F.max_pool2d(given, 3, 2, data_format=data_format),
        F.max_pool2d(Tensor(given), 3, 2, data_format=data_format).data,
    ):
        assert y.dtype == np.dtype(dtype).newbyteorder("=")
        np.testing.assert_array_equal(oracle.channels_last(y, data_format), expected)


def test_integers_that_are_no_floats_are_refused() -> None:
    for last in (2**53 + 1, -(2**53) - 1, -(2**63)):
        with pytest.raises(ValueError, match="integers that are pooled must be from -2"):
            F.max_pool1d(np.array([[0, last]]), 2)
    np.testing.assert_array_equal(F.max_pool1d(np.array([[2**53, -(2**53)]]), 1), [[2**53, -(2**53)]])


def test_windows_of_any_size_have_positions() -> None:
    """More than two bytes hold."""
    x = np.zeros((1, 2, 300, 300), np.float32)
    x[0, 0, 250, 17] = x[0, 1, 299, 299] = 1
    for y, indices in (F.max_pool2d(x, 300, return_indices=True), F.adaptive_max_pool2d(x, 1, return_indices=True)):
        assert y.ravel().tolist() == [1, 1]
        assert indices.ravel().tolist() == [250 * 300 + 17, 300 * 300 - 1]


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_unpooling_puts_maxima_back(rank: int, data_format: str) -> None:
    x = batch(rank)
    given = oracle.in_layout(x, data_format)
    y, indices = of_rank("max_pool", rank)(given, 2, return_indices=True, data_format=data_format)
    back = of_rank("max_unpool", rank)(y, indices, 2, output_size=SIZES[rank], data_format=data_format)
    assert back.shape == given.shape
    found = oracle.max_pooling_gradient(*oracle.max_pooling(x, *geometry(rank, 2)), x.shape, *geometry(rank, 2))
    np.testing.assert_array_equal(oracle.channels_last(back, data_format), found)
    whole = of_rank("max_unpool", rank)(y, indices, 2, output_size=given.shape, data_format=data_format)
    np.testing.assert_array_equal(whole, back)


def test_of_elements_that_meet_the_last_is_kept() -> None:
    x, indices = np.array([[1.0, 2.0, 3.0]]), np.array([[1, 1, 0]])
    np.testing.assert_array_equal(F.max_unpool1d(x, indices, 1), [[3, 2, 0]])


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("part", [0, 0.3, 1])
def test_a_mixture(part: float, rank: int, data_format: str) -> None:
    x = batch(rank)
    windows = geometry(rank, padding=1)
    greatest = oracle.max_pooling(x, *windows)[0]
    mean = oracle.average_pooling(x, *windows, count_padding=False)
    given = oracle.in_layout(x, data_format)
    found = of_rank("mixed_pool", rank)(given, 3, 2, 1, part=part, data_format=data_format)
    oracle.assert_close(oracle.channels_last(found, data_format), part * greatest + (1 - part) * mean)


@pytest.mark.parametrize("drawn_per", ["call", "window"])
def test_what_a_mixture_draws(drawn_per: str) -> None:
    """Of 400 draws of 0 or 1 about half are 1; a seed repeats them; inference takes the expectation."""
    x = normal(1, 1, 40, 40)
    greatest, mean = F.max_pool2d(x, 2), F.avg_pool2d(x, 2)
    pycnn.random.seed(3)
    if drawn_per == "window":
        drawn = [F.mixed_pool2d(x, 2, drawn_per=drawn_per) == greatest]
    else:
        drawn = []
        for _ in range(400):
            y = F.mixed_pool2d(x, 2, drawn_per=drawn_per)
            assert (y == greatest).all() or (y == mean).all()
            drawn.append((y == greatest).all())
    assert 0.4 < np.mean(drawn) < 0.6
    pycnn.random.seed(3)
    again = F.mixed_pool2d(x, 2, drawn_per=drawn_per) == greatest
    assert (again == drawn[0]).all()
    oracle.assert_close(F.mixed_pool2d(x, 2, drawn_per=drawn_per, training=False), (greatest + mean) / 2)


def test_infinity_reaches_only_the_windows_of_a_mixture_that_hold_it() -> None:
    x = np.zeros((1, 1, 4, 4))
    x[0, 0, 0, 0] = np.inf
    y = F.mixed_pool2d(x, 2, drawn_per="window")
    assert y[0, 0, 0, 0] == np.inf
    assert (y.ravel()[1:] == 0).all()


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_stochastic_pooling(rank: int, data_format: str) -> None:
    x = batch(rank)
    given = oracle.in_layout(x, data_format)
    pool = of_rank("stochastic_pool", rank)
    pycnn.random.seed(5)
    drawn = oracle.channels_last(pool(given, 3, 2, 1, data_format=data_format), data_format)
    shape = drawn.shape
    pycnn.random.seed(5)
    uniform = pycnn.random.generator().random(shape)
    np.testing.assert_array_equal(drawn, oracle.stochastic_pooling(x, uniform, *geometry(rank, padding=1))[0])
    positive = np.maximum(x, 0)
    sums = [oracle.average_pooling(a, *geometry(rank, padding=1), divisor=1) for a in (positive, positive**2)]
    expected = np.divide(sums[1], sums[0], out=np.zeros(shape), where=sums[0] > 0)
    mean = pool(given, 3, 2, 1, training=False, data_format=data_format)
    oracle.assert_close(oracle.channels_last(mean, data_format), expected)


def test_the_gradient_of_a_draw_goes_to_what_was_drawn() -> None:
    x = Tensor(np.array([[[[2.0, 0.0, -1.0, -3.0]]]]), requires_grad=True)
    y = F.stochastic_pool2d(x, (1, 2))
    y.backward(np.full(y.shape, 7.0))
    np.testing.assert_array_equal(y.data.ravel(), [2, 0])
    np.testing.assert_array_equal(x.grad.data.ravel(), [7, 0, 0, 0])  # of nothing positive nothing is drawn


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("rank", [2, 3])
def test_fractional_windows(rank: int, data_format: str) -> None:
    """Each result is an element of its plane; the last window lies at the end."""
    size, out, kernel = (11, 9, 8)[:rank], (5, 4, 3)[:rank], 2
    x = normal(2, *size, 3)
    given = oracle.in_layout(x, data_format)
    call = of_rank("fractional_max_pool", rank)
    y, indices = call(given, kernel, out, return_indices=True, data_format=data_format)
    y, indices = (oracle.channels_last(a, data_format) for a in (y, indices))
    assert y.shape == (2, *out, 3)
    np.testing.assert_array_equal(
        np.take_along_axis(x.reshape(2, -1, 3), indices.reshape(2, -1, 3), axis=1), y.reshape(2, -1, 3)
    )
    last = x[:, *(slice(n - kernel, None) for n in size)].max(axis=tuple(range(1, rank + 1)))
    np.testing.assert_array_equal(y[:, *(-1 for _ in out)], last)


def test_steps_of_fractional_windows() -> None:
    """On rising numbers each maximum is a window's last element."""
    x = np.arange(2 * 25.0).reshape(1, 2, 1, 25)
    for seed in range(20):
        pycnn.random.seed(seed)
        _, indices = F.fractional_max_pool2d(x, (1, 2), (1, 10), return_indices=True)
        ends = indices[0, :, 0]
        assert set(np.diff(ends).ravel().tolist()) <= {2, 3}  # the wanted step is 23 / 9
        assert (ends[:, 0] == 1).all()
        assert (ends[:, -1] == 24).all()


def test_planes_have_fractional_windows_of_their_own() -> None:
    x = np.broadcast_to(np.arange(25.0), (1, 50, 1, 25)).copy()
    assert len(np.unique(F.fractional_max_pool2d(x, (1, 2), (1, 10))[0, :, 0], axis=0)) > 1


def test_a_ratio_gives_the_size() -> None:
    assert F.fractional_max_pool2d(normal(1, 2, 13, 8), 2, output_ratio=(0.5, 0.7)).shape == (1, 2, 6, 5)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_out_comes_the_dtype_that_went_in(dtype: str) -> None:
    x = np.abs(normal(1, 2, 8, 8)).astype(dtype)
    calls: list[Callable[[Any], Any]] = [
        lambda x: F.lp_pool2d(x, 2, 2),
        lambda x: F.lp_pool2d(x, 3, 2),
        lambda x: F.adaptive_avg_pool2d(x, 3),
        lambda x: F.adaptive_max_pool2d(x, 3),
        lambda x: F.mixed_pool2d(x, 2, part=0.5),
        lambda x: F.mixed_pool2d(x, 2, drawn_per="window"),
        lambda x: F.stochastic_pool2d(x, 2),
        lambda x: F.stochastic_pool2d(x, 2, training=False),
        lambda x: F.fractional_max_pool2d(x, 2, 4),
        lambda x: F.max_unpool2d(x, np.arange(128).reshape(x.shape) % 64, 1),
    ]
    for call in calls:
        y = call(x)
        assert isinstance(y, np.ndarray)
        assert y.dtype == dtype
        tensor = call(Tensor(x, requires_grad=True))
        assert isinstance(tensor, Tensor)
        tensor.sum().backward()


@pytest.mark.parametrize("data_format", FORMATS)
def test_empty_batches(data_format: str) -> None:
    nothing = oracle.in_layout(np.zeros((0, 6, 6, 3)), data_format)
    for y in (
        F.lp_pool2d(nothing, 2, 2, data_format=data_format),
        F.mixed_pool2d(nothing, 2, data_format=data_format),
        F.stochastic_pool2d(nothing, 2, data_format=data_format),
        F.adaptive_avg_pool2d(nothing, 3, data_format=data_format),
        F.adaptive_max_pool2d(nothing, 3, data_format=data_format),
        F.fractional_max_pool2d(nothing, 2, 3, data_format=data_format),
    ):
        assert oracle.channels_last(y, data_format).shape == (0, 3, 3, 3)


X = normal(2, 3, 6, 5)
PLACES = np.zeros(X.shape, np.int64)
ERRORS: list[tuple[Callable[..., Any], tuple[Any, ...], type[Exception], str]] = [
    (F.max_pool1d, (X, 2), ValueError, "input must have the axes (N, C, W) or (C, W); received the shape (2, 3, 6, 5)"),
    (F.max_pool3d, (X, 2, (1, 1)), ValueError, "stride must be an integer or three integers; received (1, 1)"),
    (F.avg_pool3d, (X, 7), ValueError, "it extends over 7 in depth, the input over 3 + 0 + 0"),
    (F.avg_pool1d, (X[0, 0], 3, 1, 2), ValueError, "padding must be at most half a window, 1 in width; received"),
    (F.max_pool2d, (X, True), TypeError, "kernel_size must be an integer or a pair of integers; received True"),
    (F.max_pool2d, (X, 2, 1, 0, 1, 1), TypeError, "ceil_mode must be True or False; received 1"),
    (F.max_pool2d, (X, 3, 1, 2, 3), ValueError, "padding must be at most half a window, 1 in height; received (2, 2)"),
    (F.avg_pool2d, (X, 2, 1, 0, False, 0), TypeError, "count_include_pad must be True or False; received 0"),
    (F.avg_pool2d, (X[:, :0], 2), ValueError, "input must have at least one channel"),
    (F.avg_pool3d, (X, 4, 1, 1), ValueError, "kernel_size must be at most the input's size, 3 in depth; received 4"),
    (F.lp_pool2d, (X, "2", 2), TypeError, "norm_type must be a number; received '2'"),
    (F.lp_pool2d, (X, 0, 2), ValueError, "norm_type must be a number other than 0; received 0"),
    (F.lp_pool2d, (X, 2, (2,)), ValueError, "kernel_size must be an integer or a pair of integers; received (2,)"),
    (F.lp_pool1d, (X[0], 2, (2,)), TypeError, "kernel_size must be an integer; received (2,)"),
    (F.adaptive_avg_pool2d, (X, -1), ValueError, "output_size must be at least 0; received -1"),
    (F.adaptive_avg_pool2d, (X, None), TypeError, "output_size must be an integer or a pair of integers; received"),
    (F.adaptive_max_pool1d, (X[0], (None,)), TypeError, "output_size must be an integer; received (None,)"),
    (F.adaptive_avg_pool2d, (X, (1, 2, 3)), ValueError, "output_size must have 2 numbers, one for each axis; received"),
    (F.adaptive_max_pool2d, (X, 1.5), TypeError, "output_size must be an integer or a pair of integers; received 1.5"),
    (F.adaptive_max_pool2d, (X[:, :0], 1), ValueError, "input must have at least one channel"),
    (F.max_unpool2d, (X, PLACES.astype(float), 2), TypeError, "indices must be int64, as the poolings give"),
    (F.max_unpool2d, (X[:, :0], PLACES[:, :0], 2), ValueError, "input must have at least one channel"),
    (F.max_unpool2d, (X, PLACES, 2, ()), ValueError, "stride must be an integer or a pair of integers; received ()"),
    (F.max_unpool2d, (X, PLACES, 2, 2, 0, 12), TypeError, "output_size must be a tuple of 2 integers, or a shape"),
    (F.max_unpool2d, (X, PLACES, 2, 2, 0, (14, 10)), ValueError, "output_size must be from 11 to 13 along an axis"),
    (F.max_unpool2d, (X, PLACES[0], 2), ValueError, "indices must have the shape of the input, (2, 3, 6, 5); received"),
    (F.max_unpool2d, (X, PLACES + 120, 2), ValueError, "indices must be from 0 to 119, positions in planes of 12 x 10"),
    (F.max_unpool2d, (X, PLACES - 1, 2), ValueError, "received -1 to -1"),
    (F.max_unpool2d, (X, PLACES, 1, 1, 3), ValueError, "leaves nothing of the result: it would have the size (0, -1)"),
    (F.max_unpool2d, (X, PLACES, 2, 2, 0, (1,)), ValueError, "output_size must have 2 numbers"),
    (lambda x: F.mixed_pool2d(x, 2, part=1.5), (X,), ValueError, "part must be a number from 0 to 1; received 1.5"),
    (lambda x: F.mixed_pool2d(x, 2, drawn_per="image"), (X,), ValueError, "drawn_per must be one of 'call', 'window'"),
    (F.fractional_max_pool2d, (X, 2), ValueError, "output_size or output_ratio must be given; received None and None"),
    (F.fractional_max_pool2d, (X[:, :0], 2, 3), ValueError, "input must have at least one channel"),
    (F.fractional_max_pool2d, (X, 2, 3, None, False, np.zeros((2, 3, 2), "f")), TypeError,
     "_random_samples must have the dtype of the input, float64; received float32"),
    (F.fractional_max_pool3d, (X, 2, (1, 1, 4)), ValueError, "4 windows of 2 do not fit 5 elements"),
    (F.fractional_max_pool2d, (X, 3, 4), ValueError, "4 windows of 3 do not fit 5 elements"),
    (F.fractional_max_pool2d, (X, 2, None, 1.5), ValueError, "output_ratio must be a number from 0 to 1; received 1.5"),
    (F.fractional_max_pool2d, (X, 2, 3, None, False, np.zeros((2, 2))), ValueError,
     "_random_samples must have the shape (2, 3, 2); received (2, 2)"),
    (F.fractional_max_pool2d, (X, 2, 3, None, False, np.ones((2, 3, 2))), ValueError,
     "_random_samples must be at least 0 and less than 1; received 1.0 to 1.0"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "arguments", "error", "message"), ERRORS, ids=[message for *_, message in ERRORS])
def test_errors(
    call: Callable[..., Any],
    arguments: tuple[Any, ...],
    error: type[Exception],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a kernel ran")

    monkeypatch.setattr(Plan, "run", refuse)
    with pytest.raises(error, match=re.escape(message)):
        call(*arguments)
