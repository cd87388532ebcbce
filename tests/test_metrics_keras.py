"""Metrics over several batches beside Keras' own."""

from __future__ import annotations

import inspect
import re
from typing import Any

import numpy as np
import pytest

from pycnn import metrics

keras = pytest.importorskip("keras", exc_type=ImportError)

RNG = np.random.default_rng(7)
BATCHES = (8, 5, 1)


def of(*draw: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each batch labels and predictions, drawn by two functions of its size."""
    return [tuple(np.asarray(one(n), np.float32) for one in draw) for n in BATCHES]  # type: ignore[misc]


def flags(n: int) -> np.ndarray:
    return RNG.integers(0, 2, n)


def flags_of_4(n: int) -> np.ndarray:
    return RNG.integers(0, 2, (n, 4))


def classes(n: int) -> np.ndarray:
    return RNG.integers(0, 4, n)


def one_hot(n: int) -> np.ndarray:
    return np.eye(4)[RNG.integers(0, 4, n)]


def scores(n: int) -> np.ndarray:
    return RNG.uniform(0, 1, n)


def scores_of_4(n: int) -> np.ndarray:
    return RNG.uniform(0, 1, (n, 4))


def tenths(n: int) -> np.ndarray:
    """On the thresholds themselves, in float32."""
    return RNG.integers(0, 11, n) / 10


def distributions(n: int) -> np.ndarray:
    return RNG.dirichlet(np.ones(4), n)


def real(n: int) -> np.ndarray:
    return RNG.normal(0, 2, (n, 3))


CASES: list[tuple[str, dict[str, Any], Any]] = [
    ("Accuracy", {}, of(classes, classes)),
    ("BinaryAccuracy", {}, of(flags, scores)),
    ("BinaryAccuracy", {"threshold": 0.2}, of(flags_of_4, scores_of_4)),
    ("CategoricalAccuracy", {}, of(one_hot, scores_of_4)),
    ("SparseCategoricalAccuracy", {}, of(classes, scores_of_4)),
    ("TopKCategoricalAccuracy", {"k": 2}, of(one_hot, scores_of_4)),
    ("TopKCategoricalAccuracy", {"k": 2}, of(one_hot, lambda n: np.round(scores_of_4(n), 1))),
    ("SparseTopKCategoricalAccuracy", {"k": 3}, of(classes, scores_of_4)),
    (
        "SparseTopKCategoricalAccuracy",
        {"k": 2, "from_sorted_ids": True},
        of(classes, lambda n: np.argsort(scores_of_4(n), axis=-1)),
    ),
    *((kind, {}, of(flags, scores)) for kind in ("TruePositives", "TrueNegatives", "FalsePositives", "FalseNegatives")),
    ("TruePositives", {"thresholds": [0.3, 0.7]}, of(flags, scores)),
    *((kind, {}, of(flags, scores)) for kind in ("Precision", "Recall")),
    *((kind, {"thresholds": [0.8, 0.2, 0.35]}, of(flags, scores)) for kind in ("Precision", "Recall")),
    *((kind, {"thresholds": [0.0, 0.5, 1.0]}, of(flags, scores)) for kind in ("Precision", "Recall")),
    *((kind, {"top_k": 2}, of(flags_of_4, scores_of_4)) for kind in ("Precision", "Recall")),
    *((kind, {"class_id": 1}, of(flags_of_4, scores_of_4)) for kind in ("Precision", "Recall")),
    *((kind, {"top_k": 2, "class_id": 3}, of(flags_of_4, scores_of_4)) for kind in ("Precision", "Recall")),
    *(
        ("AUC", {"curve": curve, "summation_method": method}, of(flags, scores))
        for curve in ("ROC", "PR")
        for method in ("interpolation", "minoring", "majoring")
    ),
    ("AUC", {"curve": "PRGAIN"}, of(flags, scores)),
    ("AUC", {"num_thresholds": 11}, of(flags, tenths)),
    ("AUC", {"num_thresholds": 11, "curve": "PR"}, of(flags, tenths)),
    ("AUC", {"thresholds": [0.7, 0.1, 0.4]}, of(flags, scores)),
    ("AUC", {"from_logits": True}, of(flags, lambda n: RNG.normal(0, 2, n))),
    ("AUC", {}, of(flags_of_4, scores_of_4)),
    ("AUC", {"label_weights": [0.1, 0.5, 2.0, 1.0]}, of(flags_of_4, scores_of_4)),
    ("AUC", {"multi_label": True, "num_labels": 4}, of(flags_of_4, scores_of_4)),
    ("AUC", {"multi_label": True, "label_weights": [0.1, 0.5, 2.0, 1.0]}, of(flags_of_4, scores_of_4)),
    ("AUC", {"multi_label": True, "curve": "PR", "thresholds": [0.2, 0.3]}, of(flags_of_4, scores_of_4)),
    *(("F1Score", {"average": each}, of(one_hot, scores_of_4)) for each in (None, "micro", "macro", "weighted")),
    ("F1Score", {"threshold": 0.4}, of(flags_of_4, scores_of_4)),
    ("FBetaScore", {"beta": 2.0, "threshold": 0.6, "average": "weighted"}, of(flags_of_4, scores_of_4)),
    *(
        (kind, {}, of(real, real))
        for kind in (
            "MeanSquaredError",
            "RootMeanSquaredError",
            "MeanAbsoluteError",
            "MeanAbsolutePercentageError",
            "MeanSquaredLogarithmicError",
            "CosineSimilarity",
            "LogCoshError",
        )
    ),
    *((kind, {}, of(flags_of_4, scores_of_4)) for kind in ("Hinge", "SquaredHinge", "CategoricalHinge")),
    ("KLDivergence", {}, of(distributions, distributions)),
    ("Poisson", {}, of(scores_of_4, distributions)),
    ("BinaryCrossentropy", {"label_smoothing": 0.1}, of(flags_of_4, scores_of_4)),
    ("CategoricalCrossentropy", {"from_logits": True}, of(one_hot, scores_of_4)),
    ("SparseCategoricalCrossentropy", {"from_logits": True}, of(classes, scores_of_4)),
    ("SparseCategoricalCrossentropy", {"from_logits": True, "ignore_class": 2}, of(classes, scores_of_4)),
]
NAMES = [f"{name}-{arguments}" for name, arguments, _ in CASES]


@pytest.mark.parametrize(("name", "arguments", "batches"), CASES, ids=NAMES)
@pytest.mark.parametrize("weighted", [False, True])
def test_values(name: str, arguments: dict[str, Any], batches: Any, weighted: bool) -> None:
    theirs, ours = (getattr(package.metrics, name)(**arguments) for package in (keras, __import__("pycnn")))
    assert ours.name == re.sub(r"_\d+$", "", theirs.name)  # which Keras counts
    random = np.random.default_rng(3)
    for _ in range(2):
        for y_true, y_pred in batches:
            weights = random.uniform(0, 2, len(y_true)).astype(np.float32) if weighted else None
            theirs.update_state(y_true, y_pred, sample_weight=weights)
            ours.update_state(y_true, y_pred, sample_weight=weights)
            expected = keras.ops.convert_to_numpy(theirs.result())
            np.testing.assert_allclose(ours.result(), expected, rtol=2e-5, atol=2e-6)
        ours.reset_state()
        theirs.reset_state()


@pytest.mark.parametrize("name", sorted({name for name, _, _ in CASES}))
def test_arguments_and_defaults(name: str) -> None:
    ours, theirs = (
        inspect.signature(kind.__init__).parameters for kind in (getattr(metrics, name), getattr(keras.metrics, name))
    )
    expected = {p.name: p.default for p in theirs.values() if p.name != "dtype"}
    found = {p.name: p.default for p in ours.values()}
    if found["name"] is not None and expected["name"] is None:
        expected["name"] = found["name"]
    if "_Count" in {base.__name__ for base in getattr(metrics, name).__mro__}:
        assert list(found) == ["self", "thresholds", "name"]
        return
    assert list(found) == list(expected)
    assert found == expected


@pytest.mark.parametrize("values", [[1.0, 3.0, 5.0], 4.0, [[1.0, 2.0], [3.0, 6.0]]])
@pytest.mark.parametrize("weights", [None, [0.5], "each"])
def test_mean_and_sum(values: Any, weights: Any) -> None:
    if weights == "each":
        weights = None if np.ndim(values) == 0 else np.arange(1.0, 1 + len(values))
    elif weights is not None:
        weights = 0.5
    for kind in ("Mean", "Sum"):
        theirs, ours = getattr(keras.metrics, kind)(), getattr(metrics, kind)()
        for _ in range(2):
            theirs.update_state(np.float32(values), sample_weight=weights)
            ours.update_state(np.float32(values), sample_weight=weights)
        if kind == "Mean" or np.ndim(values) < 2:
            assert ours.result() == pytest.approx(float(theirs.result()))
        assert ours.name == kind.lower()


def test_the_sum_of_a_matrix_with_a_weight_for_each_row() -> None:
    assert metrics.Sum()([[1.0, 2.0], [3.0, 6.0]], sample_weight=[2.0, 1.0]) == 15


SHORT = [
    "mse",
    "MSE",
    "mae",
    "MAE",
    "mape",
    "msle",
    "bce",
    "BCE",
    "AUC",
    "auc",
    "precision",
    "Recall",
    "f1_score",
    "mean",
]


@pytest.mark.parametrize(
    "name", [*SHORT, "true_positives", "top_k_categorical_accuracy", "KLDivergence", "log_cosh_error"]
)
def test_names(name: str) -> None:
    assert type(metrics.get(name)).__name__ == type(keras.metrics.get(name)).__name__


def test_a_loss_without_a_metric_of_its_own() -> None:
    metric = metrics.get("huber")
    assert metric.name == "huber"
    assert metric([[0.0], [0.0]], [[1.0], [3.0]], sample_weight=[1.0, 3.0]) == (0.5 + 3 * 2.5) / 4


def test_a_nan_is_above_no_threshold() -> None:
    assert metrics.TruePositives()([1, 1], [np.nan, 0.9]) == 1


def test_recall_of_nothing_is_0() -> None:
    assert metrics.Recall()([0, 0], [0.0, 1.0]) == 0
    assert metrics.Precision().result() == 0
    assert metrics.F1Score().result() == 0
    assert metrics.AUC().result() == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.Precision(thresholds=1.5), r"thresholds: expected .* in \[0, 1\], received 1.5"),
        (lambda: metrics.Precision(thresholds=[]), r"thresholds: expected one or more .*received \[\]"),
        (lambda: metrics.AUC(curve="ROCK"), "curve: expected one of 'ROC', 'PR', 'PRGAIN', received 'ROCK'"),
        (lambda: metrics.AUC(num_thresholds=1), "num_thresholds: expected at least 2, received 1"),
        (lambda: metrics.AUC(num_labels=3), "num_labels: expected only beside multi_label=True, received 3"),
        (
            lambda: metrics.AUC(multi_label=True)([1], [0.5]),
            r"expected values of shape \(None, None\), received \(1,\)",
        ),
        (lambda: metrics.Recall(class_id=4)([[1, 0]], [[0.5, 0.5]]), r"class 4, received the shape \(1, 2\)"),
        (lambda: metrics.Recall()([1, 0, 1], [0.5, 0.5]), r"predictions' shape \(2,\), received \(3,\)"),
        (
            lambda: metrics.F1Score(average="mean"),
            "average: expected one of 'micro', 'macro', 'weighted', received 'mean'",
        ),
        (lambda: metrics.FBetaScore(beta=0.0), "beta: expected a number above 0, received 0.0"),
        (lambda: metrics.F1Score(threshold=2.0), "threshold: expected a number above 0 and up to 1, or None"),
        (lambda: metrics.F1Score()([1, 0], [1, 0]), r"of one shape \(batch, classes\), received \(2,\) and \(2,\)"),
        (lambda: metrics.Recall()([1, 0], [0.5, 0.5], sample_weight=[1, 2, 3]), "sample_weight: expected weights"),
    ],
)
def test_errors(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
