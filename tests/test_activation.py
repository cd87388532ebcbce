"""Activations and dropouts beyond what the comparison with PyTorch shows: accuracy, halves, threads, memory, masks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pycnn
import pycnn.functional as F
from pycnn import Tensor, grad
from pycnn_kernels.activations import ACTIVATIONS, formula_of
from tests import reference as oracle
from tests.kernels.problems import each_number_of_threads

HALVES = ["float16", "bfloat16"]


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > 0 else math.exp(x) / (1 + math.exp(x))


def _log_of_one_and_exp(x: float) -> float:
    return max(x, 0) + math.log1p(math.exp(-abs(x)))


#: By the functions of Python's own library, number by number: the function, the slope, and by how much of the last
#: place of the result, or of x where that is greater, the value may be off in float32 and in float64.
CURVES: dict[str, tuple[Callable[[Any], Any], Callable[[float], float], float]] = {
    "tanh": (F.tanh, math.tanh, 3),
    "sigmoid": (F.sigmoid, _logistic, 3),
    "logsigmoid": (F.logsigmoid, lambda x: -_log_of_one_and_exp(-x), 4),
    "softplus": (lambda x: F.softplus(x, 1, 1000), _log_of_one_and_exp, 4),
    "elu": (F.elu, lambda x: x if x > 0 else math.expm1(x), 2),
    "silu": (F.silu, lambda x: x * _logistic(x), 4),
    "mish": (F.mish, lambda x: x * math.tanh(_log_of_one_and_exp(x)), 6),
    "gelu": (F.gelu, lambda x: x * math.erfc(-x / math.sqrt(2)) / 2, math.inf),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("range_", [1e-3, 1.0, 30.0])
def test_accuracy(name: str, range_: float, dtype: Any) -> None:
    function, exact, places = CURVES[name]
    x = np.linspace(-range_, range_, 5000, dtype=dtype)
    expected = np.array([exact(float(each)) for each in x])
    error = np.abs(function(x) - expected)
    assert (error <= places * np.spacing(np.abs(expected).astype(dtype))).all()
    assert (error <= 2 * np.finfo(dtype).eps * np.maximum(np.abs(x), 1)).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_error_function(dtype: Any) -> None:
    """By way of GELU, which is ``x / 2 (1 + erf(x / sqrt(2)))``: exact where it rounds to 0 and to x."""
    far = np.array([6.0, 10.0, 1e4, 1e30], dtype) * (1 if dtype == np.float32 else 2)
    np.testing.assert_array_equal(F.gelu(far), far)
    np.testing.assert_array_equal(F.gelu(-far), 0)


def _central(function: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> np.ndarray:
    step = 1e-4
    above, below = function(x + step), function(x - step)
    return (8 * (above - below) - (function(x + 2 * step) - function(x - 2 * step))) / (12 * step)


#: Some parameters of each that takes any.
PARAMETERS = {
    "leaky_relu": (0.1,), "threshold": (0.3, -2.0), "elu": (1.2, 0.7, 1.5), "hardtanh": (-0.55, 0.85),
    "hardshrink": (0.65,), "softshrink": (0.45,), "softplus": (1.5, 100.0),
}  # fmt: skip


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_derivative_is_the_one_of_the_formula_before(name: str) -> None:
    """Gradients against differences of values, curvatures against differences of gradients; away from the kinks.

    Those that are formulas of the result have no curvature of their own.
    """
    from pycnn.functional.activation import Activation, ActivationGradient

    settings = {"name": name, "parameters": PARAMETERS.get(name, ())}
    x = np.linspace(-4.03, 4.07, 97)
    one, is_by_result = np.ones_like(x), ACTIVATIONS[name].by_result

    def value(x: np.ndarray) -> np.ndarray:
        return Activation().compute(x, **settings)

    def slope(x: np.ndarray) -> np.ndarray:
        return ActivationGradient().compute(one, value(x) if is_by_result else x, derivative=1, **settings)

    np.testing.assert_allclose(slope(x), _central(value, x), atol=1e-9)
    if is_by_result:
        assert ACTIVATIONS[name].curvature is None
    elif ACTIVATIONS[name].curvature is None:
        np.testing.assert_allclose(_central(slope, x), 0, atol=1e-9)
    else:
        bend = ActivationGradient().compute(one, x, derivative=2, **settings)
        np.testing.assert_allclose(bend, _central(slope, x), atol=1e-9)


#: Functions that are curved, as PyTorch has them, too.
CURVED: dict[str, Callable[[Any, Any], Any]] = {
    "elu": lambda f, x: f.elu(x, 1.5),
    "selu": lambda f, x: f.selu(x),
    "celu": lambda f, x: f.celu(x, 2.0),
    "hardswish": lambda f, x: f.hardswish(x),
    "tanhshrink": lambda f, x: f.tanhshrink(x),
    "logsigmoid": lambda f, x: f.logsigmoid(x),
    "softplus": lambda f, x: f.softplus(x, 2.0, 3.0),
    "softsign": lambda f, x: f.softsign(x),
    "silu": lambda f, x: f.silu(x),
    "gelu": lambda f, x: f.gelu(x),
    "gelu_tanh": lambda f, x: f.gelu(x, approximate="tanh"),
    "mish": lambda f, x: f.mish(x),
}


@pytest.mark.parametrize("name", CURVED)
def test_third_and_fourth_derivatives(name: str) -> None:
    """The third against central differences of the second, and both against PyTorch's where it is installed."""
    points = np.array([-45.0, -2.5, -1.0, -0.3, 0.4, 1.0, 1.4, 2.0, 60.0])
    x = Tensor(points, requires_grad=True)

    def derivative(function: Any, variable: Any, gradient: Any, order: int) -> Any:
        y = CURVED[name](function, variable)
        for _ in range(order):
            (y,) = gradient(y.sum(), variable, create_graph=True)
        return y.detach().numpy()

    def second(at: np.ndarray) -> np.ndarray:
        return derivative(F, Tensor(at, requires_grad=True), grad, 2)

    np.testing.assert_allclose(derivative(F, x, grad, 3), _central(second, points), atol=1e-8)
    if name == "hardswish":  # of parabolas, of which PyTorch has no third derivative
        return
    torch = pytest.importorskip("torch")
    inner = points[1:-1]  # PyTorch's overflow beyond
    for order in (3, 4):
        theirs = derivative(torch.nn.functional, torch.tensor(inner, requires_grad=True), torch.autograd.grad, order)
        ours = derivative(F, Tensor(inner, requires_grad=True), grad, order)
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-11)


def test_what_has_no_curvature_says_why() -> None:
    for name, reason in (("relu", "of its result"), ("tanh", "of its result"), ("hardtanh", "straight lines")):
        with pytest.raises(ValueError, match=f"{name} has no curvature: .*{reason}"):
            formula_of(name, 2)


@pytest.mark.parametrize(("function", "third"), [(F.tanh, lambda y: (1 - y**2) * (6 * y**2 - 2)), (F.sigmoid, None)])
def test_third_derivatives_of_what_is_known_by_its_result(function: Any, third: Any) -> None:
    x = Tensor(np.array([0.5, -1.0]), requires_grad=True)
    y = derivative = function(x)
    for _ in range(3):
        (derivative,) = grad(derivative.sum(), x, create_graph=True)
    y = y.detach().numpy()
    expected = y * (1 - y) * (1 - 6 * y + 6 * y**2) if third is None else third(y)
    np.testing.assert_allclose(derivative.detach().numpy(), expected, rtol=1e-12)


def test_infinite_gradients_stop_where_a_function_is_flat() -> None:
    x = Tensor(np.array([-7.0, 7.0, 0.1]), requires_grad=True)
    for function, expected in (
        (F.relu, [0, np.inf, np.inf]), (F.relu6, [0, 0, np.inf]), (F.hardswish, [0, np.inf, np.inf]),
        (F.hardsigmoid, [0, 0, np.inf]), (F.hardshrink, [np.inf, np.inf, 0]), (F.softshrink, [np.inf, np.inf, 0]),
    ):  # fmt: skip
        x.grad = None
        function(x).backward(np.full(3, np.inf))
        np.testing.assert_array_equal(x.grad.numpy(), expected)


@pytest.mark.parametrize("function", [F.hardswish, F.elu, F.celu, F.selu, F.gelu, F.silu, F.softplus, F.tanh])
def test_derivatives_at_nan_are_nan(function: Any) -> None:
    x = Tensor(np.array([np.nan, 0.5]), requires_grad=True)
    (first,) = grad(function(x).sum(), x, create_graph=True)
    assert np.isnan(first.data).tolist() == [True, False]
    if function is not F.hardswish:  # whose slope is a straight line there
        (second,) = grad(first.sum(), x)
        assert np.isnan(second.data).tolist() == [True, False]


@pytest.mark.parametrize("approximate", ["none", "tanh"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_far_from_0_gelu_is_straight(approximate: str, dtype: Any) -> None:
    x = Tensor(np.array([-2e11, -41, 41, 50, 2e11], dtype), requires_grad=True)
    if approximate == "none":
        x = Tensor(
            np.append(x.data, np.array([-2e19, 2e19, np.sqrt(np.finfo(dtype).max) * 2], dtype)), requires_grad=True
        )
    (first,) = grad(F.gelu(x, approximate=approximate).sum(), x, create_graph=True)
    np.testing.assert_array_equal(first.data, x.data > 0)
    (second,) = grad(first.sum(), x)
    np.testing.assert_array_equal(second.data, 0)


@pytest.mark.parametrize("name", ["relu", "gelu", "softplus", "prelu", "glu", "hardswish"])
@pytest.mark.parametrize("half", HALVES)
def test_halves_are_computed_in_float32_and_rounded_once(name: str, half: str) -> None:
    function = (lambda x: F.prelu(x, x[0, :1])) if name == "prelu" else getattr(F, name)
    x = Tensor(3 * np.random.default_rng(0).standard_normal((7, 32))).astype(half).detach()
    wide = x.astype("float32")
    x.requires_grad = wide.requires_grad = True
    y, exact = function(x), function(wide)
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y.data, exact.detach().astype(half).data)
    y.backward(np.ones(y.shape, y.dtype))
    exact.backward(np.ones(y.shape, np.float32))
    if name != "prelu":  # whose weight is a part of x, so that x gets its gradient in two parts
        np.testing.assert_array_equal(x.grad.data, wide.grad.astype(half).data)


@pytest.mark.parametrize("size", [1, 1 << 14, 100_003])
def test_threads_do_not_change_the_bits_nor_does_the_place(size: int) -> None:
    x = np.random.default_rng(1).standard_normal(size).astype(np.float32)
    plain = F.gelu(x)
    for _ in each_number_of_threads():
        np.testing.assert_array_equal(F.gelu(x), plain)
    if size > 5:
        np.testing.assert_array_equal(F.gelu(x[5:]), plain[5:])


@pytest.mark.parametrize("function", [F.relu, F.elu, F.hardtanh, F.silu, F.mish, F.rrelu, F.dropout, F.alpha_dropout])
def test_in_place(function: Any) -> None:
    x = np.array([-1.5, 0.25, 3.0])
    view = np.stack([x, x], axis=1)[:, 0]
    for target in (x.copy(), view, Tensor(x.copy())):
        pycnn.random.seed(1)
        expected = function(x)
        pycnn.random.seed(1)
        assert function(target, inplace=True) is target
        np.testing.assert_array_equal(target.data if isinstance(target, Tensor) else target, expected)


def test_in_place_of_integers() -> None:
    x = np.array([-2, 3])
    assert F.threshold(x, 0, 7, inplace=True) is x
    assert x.tolist() == [7, 3]


def test_bounds_of_integers_are_their_whole_parts() -> None:
    x = np.array([-5, 0, 5], np.int8)
    assert F.hardtanh(x, -1.5, 2.7).tolist() == [-1, 0, 2]
    assert F.hardtanh(x, -128.5, 127.9).tolist() == x.tolist()
    assert F.hardtanh(np.array([0, 9], np.uint8), -0.5, 3).tolist() == [0, 3]
    assert F.threshold(x, 0.5, 7.9).tolist() == [7, 7, 5]
    long = np.array([2**53 + 1, 2**53 + 3])
    assert F.threshold(long, 2**53 + 1, 2**62 + 1).tolist() == [2**62 + 1, 2**53 + 3]


def test_what_cannot_be_changed_in_place() -> None:
    x = np.ones(3)
    x.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        F.relu(x, inplace=True)
    with pytest.raises(RuntimeError, match="requires a gradient"):
        F.relu(Tensor(np.ones(3), requires_grad=True), inplace=True)
    with pytest.raises(TypeError, match="inplace needs an array or a tensor; received list"):
        F.relu([1.0], inplace=True)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: F.celu(x, 0), "alpha must be another number than 0"),
        (lambda x: F.softshrink(x, -1), "lambd must be from 0 to"),
        (lambda x: F.softshrink(x, math.nan), "lambd must be from 0 to"),
        (lambda x: F.hardtanh(x, 2, 1), "min_val must be at most max_val; received 2 and 1"),
        (lambda x: F.rrelu(x, 0.5, 0.25), "lower must be at most upper"),
        (lambda x: F.rrelu(x, 0.5, math.inf, True), "both finite"),
        (lambda x: F.gelu(x, approximate="tan"), "approximate must be one of 'none', 'tanh'; received 'tan'"),
        (lambda x: F.glu(x), r"the axis -1 must have an even size; received the shape \(2, 3\)"),
        (lambda x: F.glu(x, 2), "dim must be an axis of the input; received 2"),
        (lambda x: F.prelu(x, x), "weight must be a number or have one axis"),
        (lambda x: F.prelu(x, np.ones(2)), "one for each channel of the input: 3; received 2"),
        (lambda x: F.hardtanh(np.ones(3, np.uint8)), "min_val must be a number that uint8 holds; received -1.0"),
        *(
            (lambda x, most=most: F.hardtanh(x.astype(np.int8), 0, most), "max_val must be a number that int8 holds")
            for most in (math.inf, math.nan, 1e300, 300, 10**400)
        ),
        (lambda x: F.threshold(x.astype(np.int8), math.inf, 1), "threshold must be a number that int8 holds"),
        (lambda x: F.threshold(x.astype(np.int8), math.nan, 1), "threshold must be a number that int8 holds"),
        (lambda x: F.threshold(x.astype(np.int8), 0, 300), "value must be a number that int8 holds; received 300"),
        (lambda x: F.threshold(x.astype(np.uint8), 0, -1), "value must be a number that uint8 holds; received -1"),
        (lambda x: F.dropout1d(x[0]), r"must have the axes \(N, C, L\) or \(C, L\); received the shape \(3,\)"),
        (lambda x: F.dropout2d(x[0]), r"at least 2 axes; received the shape \(3,\)"),
        (lambda x: F.feature_alpha_dropout(x[0], training=True), "at least 2 axes"),
    ],
)
def test_refusals(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(np.ones((2, 3)))


def test_logits_survive_integers_and_sigmoid_of_them() -> None:
    from pycnn.functional.activation import logits_of

    x = Tensor(np.array([1, 2]))
    y = F.sigmoid(x)
    assert y.dtype == np.float32
    assert logits_of(y, "sigmoid").dtype == np.float32


# --- What is drawn --------------------------------------------------------------------------------------------------

LARGE = (200, 50, 10, 10)


@pytest.mark.parametrize(
    ("drop", "shape", "mask"),
    [
        (F.dropout, LARGE, LARGE),
        (F.dropout1d, (200, 500, 10), (200, 500, 1)),
        (F.dropout1d, (50_000, 10), (50_000, 1)),
        (F.dropout2d, LARGE, (200, 50, 1, 1)),
        (F.dropout2d, (200, 500, 10), (200, 500, 1)),
        (F.dropout3d, (200, 50, 2, 2, 2), (200, 50, 1, 1, 1)),
        (F.dropout3d, (10_000, 2, 2, 2), (10_000, 1, 1, 1)),
    ],
)
def test_dropouts_drop_what_belongs_together(drop: Any, shape: Any, mask: Any) -> None:
    pycnn.random.seed(4)
    y = drop(np.ones(shape, np.float32), 0.25)
    assert set(np.unique(y)) == {0, np.float32(1 / 0.75)}
    drawn = y[tuple(slice(0, size) for size in mask)]
    np.testing.assert_array_equal(y, np.broadcast_to(drawn, shape))
    assert (drawn == 0).mean() == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("drop", [F.alpha_dropout, F.feature_alpha_dropout])
def test_alpha_dropouts_keep_mean_and_variance(drop: Any, p: float) -> None:
    pycnn.random.seed(5)
    x = np.random.default_rng(6).standard_normal((500, 400, 2, 2))
    y = drop(x, p, training=True)
    assert y.mean() == pytest.approx(0, abs=0.01)
    assert y.var() == pytest.approx(1, abs=0.02)
    if drop is F.feature_alpha_dropout:
        values, counts = np.unique(y, return_counts=True)
        dropped = y == values[counts.argmax()]
        assert dropped.mean() == pytest.approx(p, abs=0.01)
        np.testing.assert_array_equal(dropped.all(axis=(2, 3)), dropped.any(axis=(2, 3)))


def test_gradients_pass_where_nothing_was_dropped() -> None:
    for drop in (F.dropout, F.dropout2d, F.alpha_dropout, F.feature_alpha_dropout):
        x = Tensor(np.random.default_rng(0).standard_normal((4, 6, 2)), requires_grad=True)
        pycnn.random.seed(7)
        y = drop(x, 0.5, True)
        y.backward(np.ones(y.shape))
        pycnn.random.seed(7)
        moved = drop(x.data + 1.0, 0.5, True)
        oracle.assert_close(x.grad.numpy(), moved - y.data)


def test_slopes_of_rrelu_are_drawn_between_the_bounds() -> None:
    pycnn.random.seed(8)
    x = Tensor(np.full(10_000, -2.0), requires_grad=True)
    y = F.rrelu(x, 0.25, 0.75, training=True)
    y.backward(np.ones(10_000))
    slopes = x.grad.numpy()
    np.testing.assert_array_equal(y.data, -2 * slopes)
    assert slopes.min() >= 0.25
    assert slopes.max() <= 0.75
    assert slopes.mean() == pytest.approx(0.5, abs=0.01)
    np.testing.assert_array_equal(F.rrelu(np.array([np.nan, 3.0]), training=True), [np.nan, 3])


def test_gumbel_softmax_draws_classes_with_their_probabilities() -> None:
    pycnn.random.seed(9)
    logits = Tensor(np.broadcast_to(np.log([0.2, 0.5, 0.3]), (20_000, 3)).copy(), requires_grad=True)
    hard = F.gumbel_softmax(logits, tau=0.5, hard=True)
    np.testing.assert_allclose(hard.data.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(hard.data.mean(axis=0), [0.2, 0.5, 0.3], atol=0.01)
    hard[:, 0].sum().backward()
    assert (logits.grad.numpy()[:, 0] > 0).any()
    pycnn.random.seed(9)
    soft = F.gumbel_softmax(logits.data, tau=0.5)
    np.testing.assert_array_equal(soft.argmax(axis=1), hard.data.argmax(axis=1))
