"""The comparison behind the tests of convolutions: every one of them would pass if it accepted anything."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import pytest

from pycnn_kernels.problem import ConvProblem
from tests import reference as oracle
from tests.kernels import problems
from tests.kernels.problems import DTYPES, LAYOUTS, check_conv, conv_arrays, conv_problem, expected_conv, run_conv

Arrays = dict[str, np.ndarray]

#: Supported by winograd, im2col and direct; with the problems below, every algorithm there is but pointwise.
WIDE = {"C": 17, "K": 18, "size": (9, 8), "padding": 1, "bias": True}
NARROW = {"C": 3, "K": 5, "size": (9, 8), "padding": 1, "bias": True}
DEPTHWISE = {"C": 17, "K": 17, "G": 17, "size": (9, 8), "padding": 1, "bias": True}
GROUPED = {"C": 12, "K": 24, "G": 6, "size": (9, 8), "padding": 1, "bias": True}


@functools.cache
def right(p: ConvProblem) -> tuple[Arrays, Arrays]:
    """What the engine and the oracle compute, once for all faults: nobody writes into it."""
    return run_conv(p, **conv_arrays(p)), expected_conv(p, **conv_arrays(p))


def check_with_a_fault(monkeypatch: pytest.MonkeyPatch, p: ConvProblem, name: str, wrong: np.ndarray) -> None:
    """check_conv on an engine whose result ``name`` is another array."""
    found, expected = right(p)
    with monkeypatch.context() as patch:
        patch.setattr(problems, "run_conv", lambda p, **arrays: found | {name: wrong})
        patch.setattr(problems, "expected_conv", lambda p, **arrays: expected)
        check_conv(p)


def rejects(monkeypatch: pytest.MonkeyPatch, p: ConvProblem, name: str, wrong: np.ndarray) -> None:
    with pytest.raises(AssertionError):
        check_with_a_fault(monkeypatch, p, name, wrong)


def small_error(a: np.ndarray, bound: float) -> np.ndarray:
    """One element, off by twice the bound."""
    wrong = a.copy()
    wrong.flat[a.size // 2] += np.sign(wrong.flat[a.size // 2]) * 2 * bound * np.abs(a).max()
    return wrong


def one_pixel_off(a: np.ndarray, bound: float) -> np.ndarray:
    """One column of one channel, a pixel down."""
    wrong = a.copy()
    wrong[-1, :, -1, -1] = np.roll(a[-1, :, -1, -1], 1)
    return wrong


def swapped_channels(a: np.ndarray, bound: float) -> np.ndarray:
    wrong = a.copy()
    wrong[..., [0, 1]] = a[..., [1, 0]]
    return wrong


def last_one_missing(a: np.ndarray, bound: float) -> np.ndarray:
    """The last element was never written."""
    wrong = a.copy()
    wrong.flat[-1] = 0
    return wrong


def other_dtype(a: np.ndarray, bound: float) -> np.ndarray:
    return a.astype("float64" if a.dtype == np.float32 else "float32")


def one_row_less(a: np.ndarray, bound: float) -> np.ndarray:
    return a[:, 1:].copy()


def nothing(a: np.ndarray, bound: float) -> np.ndarray:
    return np.zeros_like(a)


FAULTS = [small_error, one_pixel_off, swapped_channels, last_one_missing, other_dtype, one_row_less, nothing]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [WIDE, NARROW, DEPTHWISE, GROUPED], ids=["wide", "narrow", "depthwise", "grouped"])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_faults_in_any_result_of_any_algorithm_are_rejected(
    fault: Callable[[np.ndarray, float], np.ndarray], shape: dict, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    p = conv_problem(**shape, dtype=dtype)
    found, _ = right(p)
    assert {name.split()[0] for name in found} == {"y", "dx", "dw"}
    for name, array in found.items():
        check_with_a_fault(monkeypatch, p, name, array.copy())
        bound = problems.BOUNDS.get((name.split()[1], dtype), oracle.BOUNDS[dtype])
        rejects(monkeypatch, p, name, fault(array, bound))


def without_a_tap(p: ConvProblem, arrays: Arrays, place: tuple[int, int]) -> np.ndarray:
    """y, but for one pixel whose window has lost the tap in the middle of its first row."""
    whole = oracle.convolution(
        arrays["x"], arrays["w"], arrays["b"], **problems.spatial(p, "stride", "padding", "dilation")
    )
    w = arrays["w"].copy()
    w[0, 1] = 0
    less = oracle.convolution(arrays["x"], w, arrays["b"], **problems.spatial(p, "stride", "padding", "dilation"))
    whole[(0, *place)] = less[(0, *place)]
    return whole.astype(p.dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("place", [(8, 0), (8, 7), (1, 4)], ids=str)
@pytest.mark.parametrize("algorithm", ["direct", "winograd"])
def test_a_missing_border_tap_is_rejected(
    algorithm: str, place: tuple[int, int], dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    p = conv_problem(**WIDE, dtype=dtype)
    rejects(monkeypatch, p, f"y {algorithm}", without_a_tap(p, conv_arrays(p), place))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_weights_in_the_other_direction_are_rejected(layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolution as mathematics has it turns the kernel around; networks do not."""
    p = conv_problem(**WIDE, layout=layout)
    arrays = conv_arrays(p)
    turned = run_conv(p, **arrays | {"w": arrays["w"][::-1, ::-1].copy()})
    for name in turned:
        if not name.startswith("dw"):
            rejects(monkeypatch, p, name, turned[name])


def test_a_bias_that_is_missing_in_one_channel_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    p = conv_problem(**WIDE)
    arrays = conv_arrays(p)
    b = arrays["b"].copy()
    b[-1] = 0
    rejects(monkeypatch, p, "y direct", run_conv(p, **arrays | {"b": b})["y direct"])


@pytest.mark.parametrize("planted", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_rejected(planted: float, monkeypatch: pytest.MonkeyPatch) -> None:
    p = conv_problem(**WIDE)
    for name, array in right(p)[0].items():
        wrong = array.copy()
        wrong.flat[-1] = planted
        rejects(monkeypatch, p, name, wrong)
