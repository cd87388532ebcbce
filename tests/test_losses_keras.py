"""Losses, their gradients and their objects beside Keras' own."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

from pycnn import Tensor, losses

keras = pytest.importorskip("keras", exc_type=ImportError)
LossFunctionWrapper = pytest.importorskip(
    "keras.src.losses.losses"
).LossFunctionWrapper  # what compile makes of functions

RNG = np.random.default_rng(11)
REAL = (RNG.normal(0, 2, (5, 3)), RNG.normal(0, 2, (5, 3)))
POSITIVE = tuple(np.abs(each) + 0.1 for each in REAL)
PROBABILITIES = RNG.dirichlet(np.ones(4), 6)
ONE_HOT = np.eye(4)[RNG.integers(0, 4, 6)]
LABELS = RNG.integers(0, 4, (6,))
BINARY = (RNG.integers(0, 2, (5, 3)).astype(float), RNG.uniform(0.05, 0.95, (5, 3)))
LOGITS = RNG.normal(0, 2, (6, 4))

CASES: list[tuple[str, dict[str, Any], Any]] = [
    ("mean_squared_error", {}, REAL),
    ("mean_absolute_error", {}, REAL),
    ("mean_absolute_percentage_error", {}, REAL),
    ("mean_squared_logarithmic_error", {}, POSITIVE),
    ("mean_squared_logarithmic_error", {}, REAL),
    ("huber", {}, REAL),
    ("huber", {"delta": 0.4}, REAL),
    ("log_cosh", {}, REAL),
    ("poisson", {}, POSITIVE),
    ("kl_divergence", {}, (RNG.dirichlet(np.ones(4), 6), PROBABILITIES)),
    ("cosine_similarity", {}, REAL),
    ("cosine_similarity", {"axis": 0}, REAL),
    ("hinge", {}, (BINARY[0], REAL[1])),
    ("hinge", {}, (np.sign(REAL[0]), REAL[1])),
    ("squared_hinge", {}, (BINARY[0], REAL[1])),
    ("categorical_hinge", {}, (ONE_HOT, LOGITS)),
    ("categorical_crossentropy", {}, (ONE_HOT, PROBABILITIES)),
    ("categorical_crossentropy", {"from_logits": True, "label_smoothing": 0.2}, (ONE_HOT, LOGITS)),
    ("categorical_crossentropy", {"from_logits": True, "axis": 0}, (ONE_HOT.T, LOGITS.T)),
    ("sparse_categorical_crossentropy", {}, (LABELS, PROBABILITIES)),
    ("sparse_categorical_crossentropy", {"from_logits": True, "ignore_class": 2}, (LABELS, LOGITS)),
    ("binary_crossentropy", {}, BINARY),
    ("binary_crossentropy", {"from_logits": True, "label_smoothing": 0.1}, (BINARY[0], REAL[1])),
    ("binary_crossentropy", {"axis": 0}, BINARY),
    ("binary_focal_crossentropy", {}, BINARY),
    ("binary_focal_crossentropy", {"apply_class_balancing": True, "alpha": 0.3, "gamma": 1.5}, BINARY),
    ("binary_focal_crossentropy", {"from_logits": True, "label_smoothing": 0.1}, (BINARY[0], REAL[1])),
    ("categorical_focal_crossentropy", {}, (ONE_HOT, PROBABILITIES)),
    ("categorical_focal_crossentropy", {"gamma": 1.0, "alpha": 0.5, "from_logits": True}, (ONE_HOT, LOGITS)),
    ("categorical_focal_crossentropy", {"label_smoothing": 0.1}, (ONE_HOT, PROBABILITIES)),
    ("dice", {}, BINARY),
    ("dice", {"axis": (0,)}, BINARY),
    ("tversky", {}, BINARY),
    ("tversky", {"alpha": 0.3, "beta": 0.8, "axis": (1,)}, BINARY),
]


def tensor(values: np.ndarray) -> Any:
    return keras.ops.convert_to_tensor(values.astype(np.float32)).clone().requires_grad_()


@pytest.mark.parametrize(("name", "arguments", "values"), CASES, ids=[f"{name}-{a}" for name, a, _ in CASES])
def test_values_and_gradients(name: str, arguments: dict[str, Any], values: Any) -> None:
    y_true, y_pred = values
    theirs = tensor(y_pred)
    expected = getattr(keras.losses, name)(keras.ops.convert_to_tensor(y_true.astype(np.float32)), theirs, **arguments)
    ours = Tensor(y_pred.astype(np.float32), requires_grad=True)
    found = getattr(losses, name)(y_true, ours, **arguments)
    np.testing.assert_allclose(found.detach().numpy(), expected.detach().numpy(), rtol=2e-5, atol=2e-6)
    weights = np.random.default_rng(1).normal(size=found.shape).astype(np.float32)
    (expected * keras.ops.convert_to_tensor(weights)).sum().backward()
    (found * Tensor(weights)).sum().backward()
    np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy(), rtol=1e-4, atol=2e-5)


#: Rows that no softmax gives: of any sum, with numbers above 1, one-hot, even, and negative.
UNNORMALISED = np.array([[0.2, 4.0, 1.5, 3.0], [1, 1, 1, 1], [0, 1, 0, 0], [0.5, 0.5, 0, 0], [-0.2, 1.3, 0.5, 0.5]])


@pytest.mark.parametrize("name", ["categorical", "sparse_categorical", "categorical_focal"])
def test_predictions_that_are_no_probabilities(name: str) -> None:
    labels = np.array([1, 0, 1, 2, 1]) if name.startswith("sparse") else np.eye(4)[[1, 0, 1, 2, 1]]
    test_values_and_gradients(f"{name}_crossentropy", {}, (labels, UNNORMALISED))


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "mean_with_sample_weight", "sum", "none"])
@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 0.0, 1.5, 3.0, 0.25]])
@pytest.mark.parametrize("ignored", [[0, 2, 1, 2, 3, 0], [2, 2, 2, 2, 2, 2]])
def test_ignored_labels_and_weights(reduction: str, weights: Any, ignored: list[int]) -> None:
    theirs, ours = (
        package.SparseCategoricalCrossentropy(ignore_class=2, reduction=reduction)(
            np.array(ignored), PROBABILITIES.astype(np.float32), sample_weight=weights
        )
        for package in (keras.losses, losses)
    )
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.bool_, np.float64, np.float32])
@pytest.mark.parametrize("is_class", [False, True])
def test_code_of_a_user_gets_labels_in_the_dtype_of_predictions(dtype: Any, is_class: bool) -> None:
    def function(y_true: Any, y_pred: Any) -> Any:
        return (0 - y_true * (y_pred - 0.5) * y_pred).sum(axis=-1)

    found = []
    for package, wrapper in ((keras.losses, LossFunctionWrapper), (losses, losses.get)):
        kind = type("Mine", (package.Loss,), {"call": lambda self, y_true, y_pred: function(y_true, y_pred)})
        loss = kind() if is_class else wrapper(function)
        found.append(loss(ONE_HOT.astype(dtype), PROBABILITIES.astype(np.float32)).numpy())
    assert found[1].dtype == np.float32
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5)


@pytest.mark.parametrize(
    ("labels", "predictions"), [((6,), (6, 1)), ((6, 1), (6,)), ((6, 3), (6, 3, 1)), ((6, 3, 1), (6, 3))]
)
def test_a_function_of_a_user_gets_labels_and_predictions_of_the_same_rank(labels: Any, predictions: Any) -> None:
    y_true, y_pred = (RNG.normal(size=shape).astype(np.float32) for shape in (labels, predictions))
    theirs, ours = (
        wrap(lambda y_true, y_pred: ((y_true - y_pred) * y_pred).mean(axis=-1), reduction="none")(
            y_true, y_pred
        ).numpy()
        for wrap in (LossFunctionWrapper, losses.LossFunctionWrapper)
    )
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "mean_with_sample_weight", "sum", "none"])
def test_one_number_for_all_samples_and_weights(reduction: str) -> None:
    y_true, y_pred = (each.astype(np.float32) for each in REAL)
    theirs, ours = (
        wrap(lambda y_true, y_pred: ((y_true - y_pred) * y_pred).mean(), reduction=reduction)(
            y_true, y_pred, sample_weight=np.array([0.5, 2.0, 0.0, 1.5, 3.0])
        )
        for wrap in (LossFunctionWrapper, losses.LossFunctionWrapper)
    )
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-5)


def kind_of(name: str) -> str:
    return losses.FUNCTION_CLASSES[getattr(losses, name)].__name__


@pytest.mark.parametrize(("name", "arguments", "values"), CASES, ids=[f"{name}-{a}" for name, a, _ in CASES])
@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "mean_with_sample_weight", "sum", "none"])
def test_objects(name: str, arguments: dict[str, Any], values: Any, reduction: str) -> None:
    y_true, y_pred = (each.astype(np.float32) for each in values)
    theirs, ours = (
        getattr(package, kind_of(name))(reduction=reduction, **arguments) for package in (keras.losses, losses)
    )
    assert ours.name == theirs.name
    found = ours(y_true, y_pred)
    np.testing.assert_allclose(found.numpy(), theirs(y_true, y_pred).numpy(), rtol=2e-5, atol=2e-6)
    if found.ndim == 0 and reduction == "none":
        return
    weights = np.linspace(0, 2, ours.call(y_true, y_pred).size).astype(np.float32)
    if ours.call(y_true, y_pred).ndim == 1:
        expected = theirs(y_true, y_pred, sample_weight=weights).numpy()
        np.testing.assert_allclose(ours(y_true, y_pred, sample_weight=weights).numpy(), expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("kind", [kind.__name__ for kind in losses.FUNCTION_CLASSES.values()])
def test_arguments_and_defaults(kind: str) -> None:
    ours, theirs = (inspect.signature(getattr(package, kind).__init__) for package in (losses, keras.losses))
    expected = [(p.name, p.default) for p in theirs.parameters.values() if p.name != "dtype"]
    assert [(p.name, p.default) for p in ours.parameters.values()] == expected


@pytest.mark.parametrize("name", [*losses.SHORT_NAMES, *(name.upper() for name in losses.SHORT_NAMES)])
def test_short_names(name: str) -> None:
    theirs = keras.losses.get(name)
    assert losses.get(name).name == theirs.__name__


@pytest.mark.parametrize("function", losses.FUNCTION_CLASSES, ids=lambda function: function.__name__)
def test_the_function_of_a_name(function: Any) -> None:
    assert type(losses.get(function.__name__)) is losses.FUNCTION_CLASSES[function]
    assert type(losses.get(function)) is losses.FUNCTION_CLASSES[function]


def test_an_axis_that_is_none() -> None:
    for axis, error in ((2, ValueError), (-3, ValueError), (True, TypeError), (0.5, TypeError)):
        with pytest.raises(error, match="axis: expected"):
            losses.categorical_crossentropy(ONE_HOT, PROBABILITIES, axis=axis)
        with pytest.raises(error, match="axis: expected"):
            losses.SparseCategoricalCrossentropy(axis=axis)(LABELS, PROBABILITIES)


def test_all_samples_ignored() -> None:
    loss = losses.SparseCategoricalCrossentropy(ignore_class=-1)
    assert loss([-1, -1], PROBABILITIES[:2]).item() == 0
    loss.check_targets(np.array([-1, 3]), (None, 4))
    with pytest.raises(ValueError, match=r"labels in 0 \.\. 3 for 4 classes"):
        loss.check_targets(np.array([-1, 4]), (None, 4))


def test_weights_that_are_all_0() -> None:
    loss = losses.MeanSquaredError(reduction="mean_with_sample_weight")
    assert loss([[1.0], [2.0]], [[0.0], [0.0]], sample_weight=[0.0, 0.0]).item() == 0
