"""Losses and normalisations beyond what is drawn to be compared with PyTorch: warnings, halves, layouts, limits."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pycnn.functional as F
from pycnn import Tensor
from pycnn_kernels.problem import numpy_dtype
from tests.kernels.problems import EACH_HALF
from tests.reference import assert_close, assert_rounded


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


X, T = normal(4, 3), normal(4, 3, seed=1)
LABELS = np.array([0, 2, 1, 1])


@pytest.mark.parametrize(
    ("former", "reduction"),
    [
        ({"size_average": True}, "mean"),
        ({"size_average": False}, "sum"),
        ({"reduce": True}, "mean"),
        ({"reduce": False}, "none"),
        ({"size_average": False, "reduce": False}, "none"),
    ],
)
def test_former_arguments_win_with_a_warning(former: dict[str, bool], reduction: str) -> None:
    with pytest.warns(UserWarning, match=f"former arguments: use reduction='{reduction}'") as caught:
        found = F.l1_loss(X, T, **former, reduction="max")
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(found, F.l1_loss(X, T, reduction=reduction))


@pytest.mark.parametrize("loss", [F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss])
def test_targets_of_another_shape_are_warned_of(loss: Callable[..., Any]) -> None:
    with pytest.warns(
        UserWarning, match=r"target has the shape \(3,\) and input \(4, 3\): they are broadcast"
    ) as caught:
        found = loss(X, T[0])
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(found, loss(X, np.repeat(T[:1], 4, axis=0)))
    with pytest.raises(ValueError, match="input, target must have shapes that broadcast"):
        loss(X, T[:2])


def test_the_mean_divergence_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="'batchmean' is over the batch alone"):
        F.kl_div(X, np.abs(T))


@pytest.mark.parametrize("size", [1, 1023, 5000])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_sum_of_squares_keeps_its_digits(size: int, dtype: str) -> None:
    x, t = (normal(size, seed=seed).astype(dtype) + 100 * seed for seed in range(2))
    d = x.astype(np.float64) - t
    assert_close(
        F.mse_loss(x, t.astype(dtype), reduction="sum"), (d * d).sum(), {"float32": 1e-6, "float64": 1e-14}[dtype]
    )


HALVES: dict[str, Callable[[Any, Any], Any]] = {
    "cross_entropy": lambda x, t: F.cross_entropy(x, LABELS, t[0] * t[0]),
    "nll_loss": lambda x, t: F.nll_loss(x, LABELS),
    "probabilities": lambda x, t: F.cross_entropy(x, t * t),
    "binary_cross_entropy_with_logits": lambda x, t: F.binary_cross_entropy_with_logits(x, t, t * t, pos_weight=t[0]),
    "kl_div": lambda x, t: F.kl_div(x, t * t, reduction="batchmean"),
    "mse_loss": lambda x, t: F.mse_loss(x, t),
    "l1_loss": lambda x, t: F.l1_loss(x, t, reduction="none"),
    "smooth_l1_loss": lambda x, t: F.smooth_l1_loss(x, t),
    "huber_loss": lambda x, t: F.huber_loss(x, t, weight=t * t),
    "poisson_nll_loss": lambda x, t: F.poisson_nll_loss(x, t * t, full=True),
    "gaussian_nll_loss": lambda x, t: F.gaussian_nll_loss(x, t, t * t + 1),
    "soft_margin_loss": lambda x, t: F.soft_margin_loss(x, LABELS[:, None]),
    "hinge_embedding_loss": lambda x, t: F.hinge_embedding_loss(x, LABELS[:, None]),
    "triplet_margin_loss": lambda x, t: F.triplet_margin_loss(x, t, t * t, swap=True),
    "cosine_embedding_loss": lambda x, t: F.cosine_embedding_loss(x, t, LABELS),
    "multi_margin_loss": lambda x, t: F.multi_margin_loss(x, LABELS, 2),
    "multilabel_margin_loss": lambda x, t: F.multilabel_margin_loss(x, np.array([[1, -1, 0]] * 4)),
    "multilabel_soft_margin_loss": lambda x, t: F.multilabel_soft_margin_loss(x, t * t),
    "cosine_similarity": lambda x, t: F.cosine_similarity(x, t),
    "pairwise_distance": lambda x, t: F.pairwise_distance(x, t, 3),
    "normalize": lambda x, t: F.normalize(x),
    "rms_norm": lambda x, t: F.rms_norm(x, (3,), t[0], 1e-3),
    "instance_norm": lambda x, t: F.instance_norm(x.reshape(2, 2, 3), weight=t[:2, 0]),
    "group_norm": lambda x, t: F.group_norm(x.reshape(2, 2, 3), 1, t[:2, 0], t[2:, 0]),
    "bilinear": lambda x, t: F.bilinear(x, t, t.reshape(4, 3, 1) * t[0]),
    "embedding": lambda x, t: F.embedding(LABELS, x),
}


@pytest.mark.parametrize("half", EACH_HALF)
@pytest.mark.parametrize("name", HALVES)
def test_halves_are_computed_in_float32_and_rounded_once(name: str, half: str) -> None:
    dtype = numpy_dtype(half)
    # Few digits, whose products above are exact.
    x, t = (np.round(2 * values).clip(-3, 3).astype(dtype) / dtype.type(2) for values in (X, T))
    t = t + (t == 0).astype(dtype)
    found = HALVES[name](x, t)
    assert found.dtype == dtype
    assert_rounded(found, HALVES[name](x.astype(np.float64), t.astype(np.float64)))


def test_float32_parameters_beside_halves() -> None:
    x, ones = normal(4, 3, 2).astype(np.float16), np.ones(3, np.float32)
    mean, var = np.zeros(3, np.float32), np.ones(3, np.float32)
    assert F.batch_norm(x, mean, var, ones, ones, training=True, momentum=1.0).dtype == np.float16
    assert_close(mean, x.astype(np.float64).mean((0, 2)), 1e-6)
    assert F.instance_norm(x, mean, var, ones, ones).dtype == np.float16
    assert F.group_norm(x, 3, ones, ones).dtype == np.float16
    with pytest.raises(TypeError, match="weight and bias must have the same dtype; received float32 and float16"):
        F.group_norm(x, 3, ones, ones.astype(np.float16))
    with pytest.raises(TypeError, match="weight must have the dtype of the input, float64; received float32"):
        F.batch_norm(x.astype(np.float64), None, None, ones, training=True)


@pytest.mark.parametrize("shape", [(2, 4, 3), (2, 4, 3, 5), (3, 4, 2, 1, 2)])
@pytest.mark.parametrize("kind", ["instance", "running", "group", "one group", "groups of one"])
def test_channels_last(shape: tuple[int, ...], kind: str) -> None:
    """The results and gradients of channels first, in the other order."""
    found = []
    for data_format in ("channels_first", "channels_last"):
        last = data_format == "channels_last"
        x = Tensor(np.moveaxis(normal(*shape), 1, -1) if last else normal(*shape), requires_grad=True)
        w, b = (Tensor(normal(4, seed=seed), requires_grad=True) for seed in (1, 2))
        mean, var = normal(4, seed=3), np.abs(normal(4, seed=4))
        if kind in ("instance", "running"):
            y = F.instance_norm(x, mean, var, w, b, kind == "instance", 0.3, data_format=data_format)
        else:
            y = F.group_norm(x, {"group": 2, "one group": 1}.get(kind, 4), w, b, data_format=data_format)
        up = normal(*shape, seed=5)
        y.backward(np.moveaxis(up, 1, -1) if last else up)
        arrays = [y.detach().data, x.grad.data]
        found.append([np.moveaxis(a, -1, 1) if last else a for a in arrays] + [w.grad.data, b.grad.data, mean, var])
    for one, other in zip(*found):
        assert_close(other, one, 1e-12)


def test_a_bias_without_a_weight() -> None:
    x, b = normal(2, 4, 3), normal(4, seed=1)
    up = normal(2, 4, 3, seed=2)
    bias = Tensor(b, requires_grad=True)
    y = F.group_norm(Tensor(x), 2, None, bias)
    y.backward(up)
    assert_close(y.detach().data, F.group_norm(x, 2, np.ones(4), b), 1e-14)
    assert_close(bias.grad.data, up.sum((0, 2)), 1e-13)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64])
def test_class_numbers_of_any_integer_dtype(dtype: Any) -> None:
    labels = LABELS.astype(dtype)
    for loss in (F.cross_entropy, F.nll_loss, F.multi_margin_loss):
        np.testing.assert_array_equal(loss(X, labels), loss(X, LABELS))
    np.testing.assert_array_equal(F.one_hot(labels), np.eye(3, dtype=np.int64)[LABELS])
    np.testing.assert_array_equal(F.embedding(labels, X), X[LABELS])


def test_nothing_overflows() -> None:
    large = np.array([1e4, -1e4])
    np.testing.assert_array_equal(F.soft_margin_loss(large, np.array([-1, 1]), reduction="none"), [1e4, 1e4])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = Tensor(large, requires_grad=True)
        F.binary_cross_entropy_with_logits(x, np.array([0.0, 1.0]), reduction="sum").backward()
    np.testing.assert_array_equal(x.grad.data, [1, -1])


def test_rows_of_a_table_are_shortened_in_place() -> None:
    table = np.array([[3.0, 4.0], [0.3, 0.4], [6.0, 8.0]])
    found = F.embedding(np.array([0, 1, 0]), table, max_norm=1.0)
    assert_close(found, [[0.6, 0.8], [0.3, 0.4], [0.6, 0.8]], 1e-6)
    np.testing.assert_array_equal(table[0], found[0])
    np.testing.assert_array_equal(table[2], [6, 8])
    table.flags.writeable = False
    with pytest.raises(ValueError, match="weight is changed in place for max_norm: it must be writable"):
        F.embedding(np.array([0]), table, max_norm=1.0)


def test_normalize_writes_into_an_array() -> None:
    x, out = normal(3, 4), np.empty((3, 4))
    assert F.normalize(x, out=out) is out
    np.testing.assert_array_equal(out, F.normalize(x))
    for wrong, message in ((np.empty((3, 1)), r"out must have the input's shape \(3, 4\)"), (x.astype(int), "dtype")):
        with pytest.raises(ValueError, match=message):
            F.normalize(x, out=wrong)
    with pytest.raises(TypeError, match="out must be None where a gradient is required"):
        F.normalize(Tensor(x, requires_grad=True), out=out)


#: -100, which "ignore_index" is, when it is taken for an int64.
BEYOND_INT64 = np.array([0, 2**64 - 100, 1, 1], np.uint64)

ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: F.mse_loss(X.astype(int), LABELS), TypeError, "one of input, target must hold floating-point numbers"),
    (lambda: F.mse_loss(X, T.astype(complex)), TypeError, "target must hold real numbers; received complex128"),
    (lambda: F.mse_loss(X, T, weight=T[0]), ValueError, r"weight must have the shape of the input, \(4, 3\)"),
    (lambda: F.mse_loss(X, T, reduction="men"), ValueError, "received 'men'. Did you mean 'mean'?"),
    (lambda: F.smooth_l1_loss(X, T, beta=-1.0), ValueError, "beta must be at least 0; received -1.0"),
    (lambda: F.huber_loss(X, T, delta=0), ValueError, "delta must be above 0; received 0"),
    (lambda: F.gaussian_nll_loss(X, T, T), ValueError, "var must not be below 0; received -"),
    (lambda: F.gaussian_nll_loss(X, T, T[:2] ** 2), ValueError, "var must have the shape of the input"),
    (lambda: F.cross_entropy(X, T * T, ignore_index=1), ValueError, "ignore_index is for class numbers; received 1"),
    (lambda: F.cross_entropy(X, LABELS, ignore_index=2**63), ValueError, "ignore_index must be an integer of 64 bits"),
    (lambda: F.nll_loss(X, LABELS, ignore_index=-(2**70)), ValueError, "ignore_index must be an integer of 64 bits"),
    (lambda: F.nll_loss(X, LABELS, Tensor(X[0], True)), TypeError, "weight must not require a gradient"),
    (lambda: F.nll_loss(X, LABELS + 1), ValueError, "target must hold class numbers from 0 to 2; received 3"),
    (lambda: F.binary_cross_entropy_with_logits(X, T[0]), ValueError, "target must have the shape of the input"),
    (lambda: F.binary_cross_entropy(X * 0, T * 0, normal(2, 4, 3)), ValueError, r"weight .* broadcasts to \(4, 3\)"),
    (lambda: F.triplet_margin_loss(X, T, X, 0.0), ValueError, "margin must be above 0; received 0.0"),
    (lambda: F.triplet_margin_loss(X, T, X[0]), ValueError, "anchor, positive and negative must have as many axes"),
    (lambda: F.margin_ranking_loss(X, T, X[0]), ValueError, "input1, input2 and target must have as many axes"),
    (lambda: F.cosine_embedding_loss(X, T, X), ValueError, r"or \(N, D\) beside one with a single axis"),
    (lambda: F.multi_margin_loss(X, LABELS, 3), ValueError, "p must be 1 or 2; received 3"),
    (lambda: F.multi_margin_loss(X, LABELS[:2]), ValueError, r"shape \(4,\), a class for each row; received \(2,\)"),
    (lambda: F.multilabel_margin_loss(X, LABELS), ValueError, r"target must have the shape of the input, \(4, 3\)"),
    (lambda: F.multilabel_margin_loss(X, T), TypeError, "target must hold class numbers, integers; received float64"),
    (lambda: F.mse_loss(X, T, reduction=X), ValueError, "one of 'mean', 'sum', 'none'; received array"),
    (lambda: F.mse_loss(X, T, reduction=np.array(["mean"])), ValueError, "reduction must be one of"),
    (lambda: F.pixel_shuffle(X, 1, data_format=X), ValueError, "data_format must be 'channels_first' or"),
    (lambda: F.cross_entropy(X, BEYOND_INT64), ValueError, "numbers; received 18446744073709551516"),
    (lambda: F.nll_loss(X, BEYOND_INT64), ValueError, "numbers; received 18446744073709551516"),
    (lambda: F.multi_margin_loss(X, BEYOND_INT64), ValueError, "class numbers; received 18446744073709551516"),
    (lambda: F.multilabel_margin_loss(X[:, 0], BEYOND_INT64 + 99), ValueError, "received 18446744073709551615"),
    (lambda: F.binary_cross_entropy(X * np.nan, X * 0), ValueError, "input must lie between 0 and 1; received nan"),
    (lambda: F.binary_cross_entropy(X * 0, X * np.nan), ValueError, "target must lie between 0 and 1"),
    (lambda: F.cosine_similarity(X, T, 2), ValueError, "dim must be from -2 to 1 for an array of 2 axes; received 2"),
    (lambda: F.normalize(X, dim=(0, -2)), ValueError, r"dim must name each axis once; received \(0, -2\)"),
    (lambda: F.normalize(X[:, :0], np.inf), ValueError, "the norm with p = inf needs at least one element"),
    (lambda: F.instance_norm(X), ValueError, "need more than one pixel"),
    (lambda: F.group_norm(X, 2), ValueError, "num_groups must divide the 3 channels of the input; received 2"),
    (lambda: F.group_norm(X[:1], 3), ValueError, "a group needs more than one value"),
    (lambda: F.batch_norm(X, None, None, training=True, eps=0), ValueError, "eps must be at least 0, and above it in"),
    (lambda: F.rms_norm(X, 3), TypeError, "normalized_shape must be a tuple of integers"),
    (lambda: F.bilinear(X, T, X), ValueError, r"weight must have the axes \(O, I, J\)"),
    (lambda: F.embedding(LABELS + 3, X), ValueError, "input must hold numbers from 0 to 3; received 3 to 5"),
    (lambda: F.embedding(T, X), TypeError, "input must hold numbers of rows, integers; received float64"),
    (lambda: F.embedding(LABELS, X, 4), ValueError, "padding_idx must be from -4 to 3; received 4"),
    (lambda: F.one_hot(LABELS, 2), ValueError, "input must hold numbers from 0 to 1; received 0 to 2"),
    (lambda: F.one_hot(LABELS[:0]), ValueError, "num_classes must be at least 1 where there are no numbers"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), ERRORS, ids=[message for *_, message in ERRORS])
def test_errors(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("x", [0.0, -0.0, 1.5, -700.0])
def test_slopes_of_slopes_where_a_formula_has_a_seam(x: float) -> None:
    """The sigmoid is taken of |x|, whose slope at 0 is that of one side: also there it has to be s (1 - s)."""
    logit = Tensor(np.array([x]), requires_grad=True)
    F.binary_cross_entropy_with_logits(logit, np.array([1.0])).backward(create_graph=True)
    first, logit.grad = logit.grad, None
    first.backward(create_graph=True)
    second = logit.grad
    s = 1 / (1 + np.exp(-x))
    np.testing.assert_allclose(first.detach().numpy(), [s - 1], rtol=1e-12)
    np.testing.assert_allclose(second.detach().numpy(), [s * (1 - s)], rtol=1e-12)
    logit.grad = None
    second.backward()
    np.testing.assert_allclose(logit.grad.numpy(), [s * (1 - s) * (1 - 2 * s)], rtol=1e-12, atol=1e-16)


#: Of a loss at NaN: what PyTorch has as its gradient by the input.
AT_NAN: dict[str, tuple[Callable[[Any], Any], float]] = {
    "l1": (lambda x: F.l1_loss(x, np.zeros(1)), 0.0),
    "hinge_embedding": (lambda x: F.hinge_embedding_loss(x, np.array([-1])), 0.0),
    "hinge_embedding, alike": (lambda x: F.hinge_embedding_loss(x, np.array([1])), 1.0),
    "margin_ranking": (lambda x: F.margin_ranking_loss(x, np.zeros(1), np.ones(1)), 0.0),
    "multi_margin": (lambda x: F.multi_margin_loss(x * np.array([[1.0, 0.0]]), np.array([1])), 0.0),
    "smooth_l1": (lambda x: F.smooth_l1_loss(x, np.zeros(1)), np.nan),
}


@pytest.mark.parametrize("name", AT_NAN)
@pytest.mark.parametrize("create_graph", [False, True])
def test_gradients_at_nan(name: str, create_graph: bool) -> None:
    loss, expected = AT_NAN[name]
    x = Tensor(np.array([np.nan]), requires_grad=True)
    loss(x).backward(create_graph=create_graph)
    np.testing.assert_array_equal(x.grad.detach().numpy(), [expected])


def test_margins_that_are_exactly_kept_have_no_slope() -> None:
    for loss, target in ((F.multi_margin_loss, [0]), (F.multilabel_margin_loss, [[0, -1, -1]])):
        x = Tensor(np.array([[1.0, 0.0, 2.0]]), requires_grad=True)
        loss(x, np.array(target)).backward()
        np.testing.assert_allclose(x.grad.numpy(), [[-1 / 3, 0, 1 / 3]])


def test_the_huber_loss_has_no_curvature_where_its_parabola_ends() -> None:
    x = Tensor(np.array([-2.5, -2.0, 1.0, 2.0, 2.5]), requires_grad=True)
    F.huber_loss(x, np.zeros(5), "sum", 2.0).backward(create_graph=True)
    first, x.grad = x.grad, None
    np.testing.assert_array_equal(first.detach().numpy(), [-2, -2, 1, 2, 2])
    first.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [0, 0, 1, 0, 0])


def test_certain_probabilities_have_finite_slopes_of_slopes() -> None:
    x = Tensor(np.array([0.0, 1.0, 0.0, 1.0, 0.5]), requires_grad=True)
    t = Tensor(np.array([0.0, 1.0, 1.0, 0.0, 0.5]), requires_grad=True)
    F.binary_cross_entropy(x, t, reduction="sum").backward(create_graph=True)
    by_target, x.grad, t.grad = t.grad, None, None
    np.testing.assert_allclose(by_target.detach().numpy(), [100, -100, 100, -100, 0], atol=1e-15)
    by_target.sum().backward()
    # -1 / x - 1 / (1 - x), of which a logarithm that was raised to -100 leaves one half out.
    np.testing.assert_allclose(x.grad.numpy(), [-1, -1, -1, -1, -4])


def test_a_mean_of_classes_without_weight_is_none() -> None:
    weight = np.array([0.0, 1.0, 1.0])
    for smoothing in (0.0, 0.1):
        assert np.isnan(F.cross_entropy(X, LABELS * 0, weight, label_smoothing=smoothing))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_what_the_engine_does_not_reduce(reduction: str) -> None:
    """The weights multiply what the engine computes, and a constant of the gaussian loss is added as often as that."""
    x, t, w = X, T, np.abs(normal(4, 3, seed=2))
    d = x - t
    losses = np.where(np.abs(d) <= 0.4, d * d / 2, 0.4 * (np.abs(d) - 0.2)) * w
    expected = {"mean": losses.mean(), "sum": losses.sum(), "none": losses}[reduction]
    np.testing.assert_allclose(F.huber_loss(x, t, reduction, 0.4, w), expected, rtol=1e-12)
    losses = (np.log(w) + d * d / w) / 2 + np.log(2 * np.pi) / 2
    expected = {"mean": losses.mean(), "sum": losses.sum(), "none": losses}[reduction]
    np.testing.assert_allclose(F.gaussian_nll_loss(x, t, w, True, 1e-9, reduction), expected, rtol=1e-12)
