"""Padding, windows, resizing and shuffles: layouts, dtypes and refusals; values and gradients are in test_parity."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pycnn.functional as F
from pycnn import Tensor
from pycnn_kernels.problem import numpy_dtype
from tests import reference as oracle
from tests.kernels.problems import EACH_HALF, numbers

#: Operations on images, and how the axes of their results stand in channels last.
OPERATIONS: dict[str, Callable[..., Any]] = {
    "constant": lambda x, **s: F.pad(x, (1, 2, -1, 3), value=2.0, **s),
    "reflect": lambda x, **s: F.pad(x, (1, 2, 3, -1), "reflect", **s),
    "replicate": lambda x, **s: F.pad(x, (7, 0, 1, 1), "replicate", **s),
    "circular": lambda x, **s: F.pad(x, (1, 4, -2, 1), "circular", **s),
    "nearest": lambda x, **s: F.interpolate(x, scale_factor=(1.7, 0.6), **s),
    "nearest-exact": lambda x, **s: F.interpolate(x, (3, 9), mode="nearest-exact", **s),
    "area": lambda x, **s: F.interpolate(x, (3, 2), mode="area", **s),
    "bilinear": lambda x, **s: F.interpolate(x, (9, 4), mode="bilinear", **s),
    "bicubic": lambda x, **s: F.interpolate(x, (9, 4), mode="bicubic", align_corners=True, **s),
    "antialias": lambda x, **s: F.interpolate(x, (2, 3), mode="bicubic", antialias=True, **s),
    "pixel_shuffle": lambda x, **s: F.pixel_shuffle(x, 2, **s),
    "pixel_unshuffle": lambda x, **s: F.pixel_unshuffle(x, 3, **s),
    "channel_shuffle": lambda x, **s: F.channel_shuffle(x, 4, **s),
}


def _gradient(compute: Callable[..., Any], x: np.ndarray, dy: np.ndarray, **settings: Any) -> np.ndarray:
    tensor = Tensor(x, requires_grad=True)
    compute(tensor, **settings).backward(dy)
    return tensor.grad.numpy()


@pytest.mark.parametrize("channels", [8, 24])
@pytest.mark.parametrize("name", OPERATIONS)
def test_channels_last(name: str, channels: int) -> None:
    compute, x = OPERATIONS[name], numbers((2, channels, 6, 6), "float64")
    y = compute(x)
    dy = numbers(y.shape, "float64", 1)
    x_last, dy_last = (np.ascontiguousarray(np.moveaxis(each, 1, -1)) for each in (x, dy))
    oracle.assert_close(np.moveaxis(compute(x_last, data_format="channels_last"), -1, 1), y)
    found = _gradient(compute, x_last, dy_last, data_format="channels_last")
    oracle.assert_close(np.moveaxis(found, -1, 1), _gradient(compute, x, dy))


def test_windows_in_channels_last() -> None:
    """A window is a row in the order of weights (KH, KW, C, K), so that a product with them is a convolution."""
    x, w = numbers((2, 6, 5, 3), "float64"), numbers((3, 2, 3, 4), "float64", 1)
    geometry = {"padding": (1, 0), "stride": (2, 1), "dilation": (1, 2)}
    rows = F.unfold(x, (3, 2), data_format="channels_last", **geometry)
    y = F.conv2d(x, w, data_format="channels_last", weight_format="HWIO", **geometry)
    oracle.assert_close((rows @ w.reshape(-1, 4)).reshape(y.shape), y)
    columns = F.unfold(np.ascontiguousarray(np.moveaxis(x, -1, 1)), (3, 2), **geometry)
    in_order = columns.reshape(2, 3, 6, -1).transpose(0, 3, 2, 1).reshape(rows.shape)
    np.testing.assert_array_equal(rows, in_order)
    back = F.fold(rows, (6, 5), (3, 2), data_format="channels_last", **geometry)
    oracle.assert_close(np.moveaxis(back, -1, 1), F.fold(columns, (6, 5), (3, 2), **geometry))


@pytest.mark.parametrize("half", EACH_HALF)
@pytest.mark.parametrize("name", OPERATIONS)
def test_halves(name: str, half: str) -> None:
    """Computed in float32 and rounded once; what is only moved keeps its bits."""
    compute, x = OPERATIONS[name], numbers((2, 8, 6, 6), half)
    y = compute(x)
    assert y.dtype == numpy_dtype(half)
    oracle.assert_rounded(y, compute(x.astype(np.float64)))
    dy = numbers(y.shape, half, 1)
    oracle.assert_rounded(_gradient(compute, x, dy), _gradient(compute, x.astype(np.float64), dy.astype(np.float64)))


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_bytes_are_resized_as_pytorch_does(mode: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: no second opinion")
    x = np.random.default_rng(0).integers(0, 256, (2, 3, 9, 7)).astype(np.uint8)
    for size in ((4, 5), (13, 3), (9, 7), (20, 21)):
        for settings in ({}, {"align_corners": True}, {"antialias": True}):
            right = torch.nn.functional.interpolate(torch.tensor(x), size, mode=mode, **settings)
            np.testing.assert_array_equal(F.interpolate(x, size, mode=mode, **settings), right.numpy())
    assert F.interpolate(Tensor(x), 3, mode=mode).dtype == np.uint8


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_axes_that_keep_their_size_are_left_as_they_are_if_antialiased_or_of_bytes(mode: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: no second opinion")
    x = np.random.default_rng(0).integers(0, 256, (2, 3, 9, 7)).astype(np.uint8)
    for factors in ((1.1, 1.1), (1.1, 1.5), (0.5, 1.13), (1.1, 1.0)):
        for array, antialias in ((x, False), (x, True), (x.astype(np.float32), False), (x.astype(np.float32), True)):
            settings = {"scale_factor": factors, "mode": mode, "antialias": antialias}
            right = torch.nn.functional.interpolate(torch.tensor(array), **settings).numpy()
            np.testing.assert_allclose(F.interpolate(array, **settings), right, atol=0 if array is x else 1e-3)


def test_bytes_that_shrink_much_are_summed_exactly() -> None:
    x = np.full((1, 1, 4000, 1), 17, np.uint8)
    x[:, :, ::2] = 18
    assert F.interpolate(x, (3, 1), mode="bilinear", antialias=True).ravel().tolist() == [18, 18, 17]


#: Operations that only move elements.
MOVES = (
    "constant",
    "reflect",
    "circular",
    "nearest",
    "nearest-exact",
    "pixel_shuffle",
    "pixel_unshuffle",
    "channel_shuffle",
)


@pytest.mark.parametrize("dtype", [object, np.longdouble, np.clongdouble, "U3", "S2", "M8[s]", "i4,i4"])
@pytest.mark.parametrize("name", MOVES)
def test_only_numbers_are_moved(name: str, dtype: Any) -> None:
    """Elements are copied as bits: a reference to one of Python's objects would not be counted."""
    x = np.zeros((1, 36, 6, 6), dtype)
    with pytest.raises(TypeError, match=f"at most 64 bits; received {re.escape(str(x.dtype))}"):
        OPERATIONS[name](x)


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
@pytest.mark.parametrize("name", MOVES)
def test_complex_numbers_are_moved(name: str, dtype: Any) -> None:
    real, imaginary = numbers((1, 36, 6, 6), "float32"), numbers((1, 36, 6, 6), "float32", 1)
    compute = OPERATIONS[name]
    y = compute((real + 1j * imaginary).astype(dtype))
    assert y.dtype == dtype
    np.testing.assert_array_equal(y.real, compute(real))
    np.testing.assert_array_equal(y.imag, compute(imaginary) if name != "constant" else F.pad(imaginary, (1, 2, -1, 3)))


@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.uint16, np.int32, np.int64, np.float16])
def test_any_dtype_is_moved(dtype: Any) -> None:
    x = (10 * numbers((1, 4, 4, 6), "float64")).astype(dtype)
    as_numbers = x.astype(np.float64)
    for name in ("reflect", "circular", "nearest", "nearest-exact", "pixel_shuffle", "channel_shuffle"):
        y = OPERATIONS[name](x)
        assert y.dtype == dtype
        np.testing.assert_array_equal(y.astype(np.float64), OPERATIONS[name](as_numbers))
    assert F.pad(x, (1, 0), value=1).dtype == dtype


def test_nearest_elements_of_long_axes() -> None:
    """The same as PyTorch's, whose positions depend on the dtype, and in float64 on how much there is to resize."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: no second opinion")
    random = np.random.default_rng(0)
    for _ in range(60):
        rank = int(random.integers(1, 3))
        sizes, factors = random.integers(1, 150, rank).tolist(), random.uniform(0.1, 2.5, rank).tolist()
        if min(int(n * f) for n, f in zip(sizes, factors)) < 1:
            continue
        for dtype in (np.float32, np.float64):
            x = random.integers(0, 1000, (1, 2, *sizes)).astype(dtype)
            for mode in ("nearest", "nearest-exact"):
                right = torch.nn.functional.interpolate(torch.tensor(x), scale_factor=factors, mode=mode)
                np.testing.assert_array_equal(F.interpolate(x, scale_factor=factors, mode=mode), right.numpy())


def test_nothing_to_pad_is_a_copy() -> None:
    x = np.ones((2, 3))
    for numbers_ in ((), (0, 0)):
        y = F.pad(x, numbers_)
        assert y is not x
        assert not np.shares_memory(x, y)


def test_many_axes_are_padded_in_turn() -> None:
    x = numbers((2, 1, 3, 2, 1, 2, 3), "float32")
    y = F.pad(x, (1, 0, 0, 1, 0, 0, 2, 1, 0, 0, 1, 1, 0, 3), value=7.0)
    sides = [(0, 3), (1, 1), (0, 0), (2, 1), (0, 0), (0, 1), (1, 0)]
    np.testing.assert_array_equal(y, np.pad(x, sides, constant_values=7.0))


X = np.ones((1, 4, 4, 4))
REFUSED: list[tuple[Callable[[], Any], str]] = [
    (lambda: F.pad(X, 1), "pad must be a tuple of integers"),
    (lambda: F.pad(X, (1, 1, 1)), "pad must have two numbers for each axis"),
    (lambda: F.pad(X, (1, 1) * 5), "at most two numbers for each axis that can be padded; received 10 numbers"),
    (lambda: F.pad(X, (-3, -2)), "must not take away more than there is"),
    (lambda: F.pad(X, (1, 1), "mirror"), "mode must be one of"),
    (lambda: F.pad(X[0], (1, 1), "reflect", 2.0), "value is of the mode 'constant' alone"),
    (lambda: F.pad(X, (1, 1), "reflect"), "the mode 'reflect' pads the last one to three axes"),
    (lambda: F.pad(X, (4, 1, 0, 0), "reflect"), "pads an axis of 4 elements by at most 3"),
    (lambda: F.pad(X, (5, 1, 0, 0), "circular"), "pads an axis of 4 elements by at most 4"),
    (lambda: F.pad(X[:, :0], (1, 1, 1, 1), "replicate"), "needs axes with elements"),
    (lambda: F.pad(X, (3, -4, 0, 0), "circular"), r"leave something of an axis to add it again; received \(3, -4\)"),
    (lambda: F.pad(X, (-4, 3, 1, 1), "circular"), r"leave something of an axis to add it again; received \(-4, 3\)"),
    (lambda: F.pad(X.astype(np.uint8), (1, 1), value=-1), "value must be a number that uint8 holds; received -1"),
    (lambda: F.pad(X.astype(np.int8), (1, 1), value=10**400), "value must be a number that int8 holds"),
    (lambda: F.pad(X, (1, 1), value=10**400), "value must be a number that float64 holds"),
    (lambda: F.pad(X.astype(np.complex64), (1, 1), value=1e300), "value must be a number that complex64 holds"),
    (lambda: F.pad(X.astype(np.complex64), (1, 1), value=2j), "value must be a number; received 2j"),
    (lambda: F.pad(X, (1, 1), value="a"), "value must be a number; received 'a'"),
    (lambda: F.pad(X[0, 0, 0], (1, 1), data_format="channels_last"), "received 2 numbers for the shape"),
    (lambda: F.unfold(X, 5), "do not fit into images of"),
    (lambda: F.unfold(X, (2,)), "kernel_size must be an integer or a pair of integers"),
    (lambda: F.unfold(X[0, 0], 2), "input must have the axes"),
    (lambda: F.unfold(X.astype(int), 2), "input must hold float16, bfloat16, float32 or float64"),
    (lambda: F.fold(X[0], 4, 2), "have 9 such windows; received 4"),
    (lambda: F.fold(X[0], 4, 3), "must have a multiple of 3 \\* 3 features"),
    (lambda: F.interpolate(X), "either size or scale_factor must be given"),
    (lambda: F.interpolate(X, 2, 2), "either size or scale_factor must be given"),
    (lambda: F.interpolate(X, (2, 2, 2)), "size must be one number, or one for each of 2 axes"),
    (lambda: F.interpolate(X, 0), "sizes and channels must be at least 1"),
    (lambda: F.interpolate(X, 2.0), "size must be an integer"),
    (lambda: F.interpolate(X, True), "size must be an integer"),
    (lambda: F.interpolate(X, scale_factor=float("nan")), "scale_factor must be finite"),
    (lambda: F.interpolate(X, 2, mode="linear"), "input must have 3 axes in the mode 'linear'"),
    (lambda: F.interpolate(X, 2, align_corners=True), "align_corners is of the modes"),
    (lambda: F.interpolate(X, 2, antialias=True), "antialias is of the modes"),
    (lambda: F.interpolate(X, 2, mode="bilinear", antialias="no"), "antialias must be True or False; received 'no'"),
    (lambda: F.interpolate(X, scale_factor=2, recompute_scale_factor=1), "recompute_scale_factor must be True or Fals"),
    (lambda: F.interpolate(X, 2, mode=X), "mode must be one of"),
    (lambda: F.interpolate(X, 2, recompute_scale_factor=True), "recompute_scale_factor is of scale_factor alone"),
    (lambda: F.interpolate(X.astype(np.int32), 2, mode="bilinear"), "input must hold float16"),
    (lambda: F.interpolate(X, 2, mode="lanczos"), "mode must be one of"),
    (lambda: F.pixel_shuffle(X, 3), "must have a multiple of 3 \\* 3 channels; received 4"),
    (lambda: F.pixel_shuffle(X, 0), "upscale_factor must be at least 1"),
    (lambda: F.pixel_unshuffle(X, 3), "a height and a width that 3 divides"),
    (lambda: F.channel_shuffle(X, 3), "groups must divide the 4 channels; received 3"),
    (lambda: F.channel_shuffle(X[0, 0], 2), "at least three axes"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_refusals(call: Callable[[], Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        call()
