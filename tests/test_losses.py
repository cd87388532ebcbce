"""Losses against float64 NumPy, with and without the softmax or sigmoid they follow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pycnn import Tensor, losses
from pycnn import functional as F

RNG = np.random.default_rng(5)
LOGITS = RNG.normal(0, 3, (6, 4))
LABELS = np.array([0, 3, 2, 1, 1, 0])
ONE_HOT = np.eye(4)[LABELS]


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def tensor(values: np.ndarray, **kwargs: bool) -> Tensor:
    return Tensor(values.astype(np.float32), **kwargs)


EXPECTED = -np.log(softmax(LOGITS))[np.arange(6), LABELS]


@pytest.mark.parametrize("labels", [LABELS, LABELS[:, None], LABELS.astype(np.uint8), LABELS.astype(np.float64)])
def test_sparse_categorical(labels: np.ndarray) -> None:
    fn = losses.sparse_categorical_crossentropy
    np.testing.assert_allclose(fn(labels, tensor(softmax(LOGITS))).numpy(), EXPECTED, rtol=1e-4)
    np.testing.assert_allclose(fn(labels, tensor(LOGITS), from_logits=True).numpy(), EXPECTED, rtol=1e-4)
    np.testing.assert_allclose(fn(labels, F.softmax(tensor(LOGITS), dim=-1)).numpy(), EXPECTED, rtol=1e-4)
    mean = losses.SparseCategoricalCrossentropy()(labels, tensor(softmax(LOGITS))).item()
    assert mean == pytest.approx(EXPECTED.mean(), rel=1e-4)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_categorical(smoothing: float) -> None:
    targets = ONE_HOT * (1 - smoothing) + smoothing / 4
    expected = -(targets * np.log(softmax(LOGITS))).sum(axis=-1)
    fn = losses.categorical_crossentropy
    for predictions, from_logits in (
        (tensor(softmax(LOGITS)), False),
        (tensor(LOGITS), True),
        (F.softmax(tensor(LOGITS), dim=-1), False),
    ):
        found = fn(ONE_HOT, predictions, from_logits=from_logits, label_smoothing=smoothing)
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4)
    mean = losses.CategoricalCrossentropy(label_smoothing=smoothing)(ONE_HOT, tensor(softmax(LOGITS)))
    assert mean.item() == pytest.approx(expected.mean(), rel=1e-4)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_binary(smoothing: float) -> None:
    truth = (RNG.random((6, 4)) > 0.5).astype(np.float64)
    targets = truth * (1 - smoothing) + 0.5 * smoothing
    p = sigmoid(LOGITS)
    expected = -(targets * np.log(p) + (1 - targets) * np.log(1 - p)).mean(axis=-1)
    fn = losses.binary_crossentropy
    for predictions, from_logits in (
        (tensor(p), False),
        (tensor(LOGITS), True),
        (F.sigmoid(tensor(LOGITS)), False),
    ):
        found = fn(truth, predictions, from_logits=from_logits, label_smoothing=smoothing)
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4)


def test_binary_takes_flat_labels_for_one_output() -> None:
    found = losses.binary_crossentropy([1, 0], tensor(np.array([[0.9], [0.2]])))
    np.testing.assert_allclose(found.numpy(), -np.log([0.9, 0.8]), rtol=1e-5)


def test_mean_squared_error() -> None:
    truth, predictions = RNG.normal(size=(5, 3)), RNG.normal(size=(5, 3))
    expected = ((truth - predictions) ** 2).mean(axis=-1)
    np.testing.assert_allclose(losses.mean_squared_error(truth, tensor(predictions)).numpy(), expected, rtol=1e-5)
    flat = losses.MeanSquaredError()(truth[:, 0], tensor(predictions[:, :1])).item()
    assert flat == pytest.approx(((truth[:, 0] - predictions[:, 0]) ** 2).mean(), rel=1e-5)


def test_probabilities_are_clipped_as_in_keras() -> None:
    found = losses.binary_crossentropy([[1.0]], tensor(np.array([[0.0]]))).item()
    assert found == pytest.approx(-np.log(1e-7), rel=1e-4)
    found = losses.sparse_categorical_crossentropy([0], tensor(np.array([[0.0, 1.0]]))).item()
    assert found == pytest.approx(-np.log(1e-7), rel=1e-4)


def test_softmax_and_sigmoid_keep_losses_exact_where_probabilities_vanish() -> None:
    logits = np.array([[0.0, 200.0]])
    found = losses.sparse_categorical_crossentropy([0], F.softmax(tensor(logits), dim=-1)).item()
    assert found == pytest.approx(200, rel=1e-6)
    found = losses.binary_crossentropy([[0.0, 1.0]], F.sigmoid(tensor(np.array([[300.0, -100.0]])))).item()
    assert found == pytest.approx(200, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "labels", "activation"),
    [
        ("binary_crossentropy", ONE_HOT, F.softmax),
        ("categorical_crossentropy", ONE_HOT, F.sigmoid),
        ("sparse_categorical_crossentropy", LABELS, F.sigmoid),
    ],
)
def test_logits_of_another_activation_are_not_taken(name: str, labels: np.ndarray, activation: Any) -> None:
    predictions = activation(tensor(LOGITS))
    expected = losses.get(name)(labels, Tensor(predictions.numpy())).item()
    assert losses.get(name)(labels, predictions).item() == pytest.approx(expected, rel=1e-5)


def test_label_smoothing_must_be_a_number() -> None:
    with pytest.raises(TypeError, match=r"label_smoothing: expected a number in \[0, 1\], received 'a'"):
        losses.BinaryCrossentropy(label_smoothing="a")


def test_gradient_of_softmax_and_loss_is_the_difference() -> None:
    x = tensor(LOGITS, requires_grad=True)
    losses.get("sparse_categorical_crossentropy")(LABELS, F.softmax(x, dim=-1)).backward()
    np.testing.assert_allclose(x.grad.numpy(), (softmax(LOGITS) - ONE_HOT) / 6, atol=1e-6)


@pytest.mark.parametrize("truth", [0.0, 0.25, 1.0])
def test_gradient_of_sigmoid_and_loss_is_the_difference_also_at_zero(truth: float) -> None:
    logits = np.array([[0.0], [-50.0], [50.0], [1.5]])
    x = tensor(logits, requires_grad=True)
    losses.get("binary_crossentropy")(np.full((4, 1), truth), F.sigmoid(x)).backward()
    np.testing.assert_allclose(x.grad.numpy(), (sigmoid(logits) - truth) / 4, atol=1e-6)


def test_images_of_labels() -> None:
    logits = RNG.normal(size=(2, 3, 3, 5))
    labels = RNG.integers(0, 5, (2, 3, 3))
    expected = -np.log(np.take_along_axis(softmax(logits), labels[..., None], axis=-1))[..., 0]
    found = losses.sparse_categorical_crossentropy(labels, tensor(logits), from_logits=True)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4)
    one_hot = np.eye(5)[labels]
    found = losses.categorical_crossentropy(one_hot, tensor(logits), from_logits=True)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4)


def test_reductions() -> None:
    truth, predictions = np.zeros((3, 2)), tensor(np.array([[1.0, 1], [2, 2], [3, 3]]))
    assert losses.MeanSquaredError(reduction="sum")(truth, predictions).item() == pytest.approx(14)
    assert losses.MeanSquaredError(reduction=None)(truth, predictions).numpy().tolist() == [1, 4, 9]


def test_nan_flows_through() -> None:
    predictions = F.softmax(tensor(np.array([[np.nan, 1.0], [0.0, 1.0]])), dim=-1)
    found = losses.sparse_categorical_crossentropy([0, 1], predictions).numpy()
    assert np.isnan(found[0])
    assert np.isfinite(found[1])


@pytest.mark.parametrize(
    ("loss", "labels", "output", "message"),
    [
        ("sparse_categorical_crossentropy", [0, 10], (None, 10), r"0 \.\. 9 for 10 classes, received.* 0 to 10"),
        ("sparse_categorical_crossentropy", [-1, 3], (None, 10), "received values from -1 to 3"),
        ("sparse_categorical_crossentropy", [0.5, 1.0], (None, 10), "integer labels"),
        ("sparse_categorical_crossentropy", [np.nan, 1.0], (None, 10), "integer labels"),
        ("sparse_categorical_crossentropy", np.eye(10), (None, 10), r"received \(10, 10\).*categorical_cross"),
        ("categorical_crossentropy", [0, 1], (None, 10), r"received \(2,\).*sparse_categorical_crossentropy"),
        ("categorical_crossentropy", 2 * np.eye(10), (None, 10), "received values from 0.0 to 2.0"),
        ("binary_crossentropy", [[-1], [1]], (None, 1), r"labels in \[0, 1\], received values from -1 to 1"),
        ("binary_crossentropy", [[0, 1]], (None, 1), r"expected targets of shape \(1, 1\), received \(1, 2\)"),
        ("mean_squared_error", np.zeros((4, 3)), (None, 2), r"shape \(4, 2\), received \(4, 3\)"),
    ],
)
def test_targets_are_checked(loss: str, labels: object, output: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        losses.get(loss).check_targets(np.asarray(labels), output)


def test_get_takes_names_functions_classes_and_objects() -> None:
    for identifier in (
        "sparse_categorical_crossentropy",
        "SparseCategoricalCrossentropy",
        losses.sparse_categorical_crossentropy,
        losses.SparseCategoricalCrossentropy,
    ):
        assert isinstance(losses.get(identifier), losses.SparseCategoricalCrossentropy)
    for alias, name in (("mse", "mean_squared_error"), ("bce", "binary_crossentropy")):
        assert losses.get(alias).name == name
    loss = losses.BinaryCrossentropy(from_logits=True)
    assert losses.get(loss) is loss

    def mean_absolute_error(y_true: np.ndarray, y_pred: Tensor) -> Tensor:
        return (y_pred - Tensor(y_true)).abs().mean(axis=-1)

    own = losses.get(mean_absolute_error)
    assert own.name == "mean_absolute_error"
    assert own(np.ones((2, 2), np.float32), tensor(np.zeros((2, 2)))).item() == 1


def test_errors_name_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"'sparse_categorical_crossentopy'.*sparse_categorical_crossentropy"):
        losses.get("sparse_categorical_crossentopy")
    with pytest.raises(ValueError, match="received 1"):
        losses.get(1)
    with pytest.raises(ValueError, match=r"reduction.*'avg'"):
        losses.MeanSquaredError(reduction="avg")
    with pytest.raises(ValueError, match="label_smoothing"):
        losses.CategoricalCrossentropy(label_smoothing=1.5)


P = [[0.2, 0.8], [0.5, 0.5]]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: losses.mean_squared_error(1.0, 2.0), ValueError, "y_pred: .* received a single number, 2.0"),
        (lambda: losses.binary_crossentropy(1.0, 2.0), ValueError, "y_pred: .* received a single number, 2.0"),
        (lambda: losses.categorical_crossentropy(1.0, 2.0), ValueError, "y_pred: .* received a single number, 2.0"),
        (lambda: losses.sparse_categorical_crossentropy(1, 2.0), ValueError, "y_pred: .* a single number, 2.0"),
        (lambda: losses.sparse_categorical_crossentropy(["a", "b"], P), TypeError, "y_true: expected real numbers"),
        (lambda: losses.sparse_categorical_crossentropy([0, 1], [["a"], ["b"]]), TypeError, "y_pred.* number"),
        (lambda: losses.sparse_categorical_crossentropy([0.5, 1], P), ValueError, "y_true: expected integer labels"),
        (lambda: losses.sparse_categorical_crossentropy([0, 2], P), ValueError, r"y_true: .* 0 \.\. 1 .* from 0 to 2"),
        (lambda: losses.sparse_categorical_crossentropy([0, -100], P), ValueError, "y_true: .* from -100 to 0"),
        (
            lambda: losses.categorical_crossentropy(P, P, label_smoothing=2),
            ValueError,
            "label_smoothing: .* received 2",
        ),
        (lambda: losses.categorical_crossentropy(P, P, label_smoothing="a"), TypeError, "label_smoothing: .* 'a'"),
        (lambda: losses.binary_crossentropy(P, P, label_smoothing=2), ValueError, "label_smoothing: .* received 2"),
        (lambda: losses.binary_crossentropy(P, P, label_smoothing="a"), TypeError, "label_smoothing: .* 'a'"),
        (lambda: losses.mean_squared_error([[1j]], [[1.0]]), TypeError, "y_true: expected real numbers.*complex128"),
    ],
)
def test_wrong_arguments_of_functions(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
