"""Metrics against counted examples."""

from __future__ import annotations

import numpy as np
import pytest

from pycnn import Tensor, metrics


def test_accuracy_drops_a_last_axis_of_one() -> None:
    assert metrics.accuracy([[1], [2], [3]], [1, 2, 4]).tolist() == [1, 1, 0]
    assert metrics.accuracy([1, 2, 3], [[1], [2], [4]]).tolist() == [1, 1, 0]


def test_binary_accuracy_is_strictly_above_the_threshold() -> None:
    assert metrics.binary_accuracy([1, 0, 1], [[0.5], [0.5], [0.51]]).tolist() == [0, 1, 1]
    assert metrics.binary_accuracy([1, 0], [0.3, 0.1], threshold=0.2).tolist() == [1, 1]


@pytest.mark.parametrize("labels", [[0, 2], [[0], [2]], np.array([[0.0], [2.0]])])
def test_sparse_categorical_accuracy_takes_columns_and_floats(labels: object) -> None:
    assert metrics.sparse_categorical_accuracy(labels, [[0.6, 0.3, 0.1], [0.5, 0.2, 0.3]]).tolist() == [1, 0]


def test_categorical_accuracy_takes_tensors() -> None:
    found = metrics.categorical_accuracy(np.eye(3)[[0, 2]], Tensor(np.array([[3.0, 1, 2], [3.0, 1, 2]])))
    assert found.tolist() == [1, 0]


def test_averages_weigh_samples_not_batches() -> None:
    metric = metrics.SparseCategoricalAccuracy()
    predictions = np.eye(2)[[0, 0, 0, 0]]
    metric.update_state([0, 0, 0], predictions[:3])
    metric.update_state([1], predictions[:1])
    assert metric.result() == 0.75
    metric.reset_state()
    assert metric.result() == 0
    assert metric([1, 0], predictions[:2]) == 0.5


@pytest.mark.parametrize(
    ("labels", "output", "kind"),
    [
        ((50, 1), (50, 10), metrics.SparseCategoricalAccuracy),
        ((50,), (50, 10), metrics.SparseCategoricalAccuracy),
        ((50, 10), (None, 10), metrics.CategoricalAccuracy),
        ((50,), (None, 1), metrics.BinaryAccuracy),
        ((50, 1), (None, 1), metrics.BinaryAccuracy),
        ((50, 8, 8), (None, 8, 8, 3), metrics.SparseCategoricalAccuracy),
    ],
)
def test_accuracy_is_resolved_by_shapes(labels: tuple, output: tuple, kind: type) -> None:
    for name in ("accuracy", "acc"):
        metric = metrics.resolve(name, labels, output)
        assert type(metric) is kind
        assert metric.name == name


def test_get_takes_names_functions_classes_and_objects() -> None:
    metric = metrics.BinaryAccuracy(threshold=0.3)
    assert metrics.get(metric) is metric
    assert isinstance(metrics.get("BinaryAccuracy"), metrics.BinaryAccuracy)
    assert isinstance(metrics.get(metrics.BinaryAccuracy), metrics.BinaryAccuracy)
    assert metrics.get(metrics.categorical_accuracy).name == "categorical_accuracy"
    assert metrics.get(lambda y_true, y_pred: np.array([0.25, 0.75]))([0, 0], [0, 0]) == 0.5


def test_errors_name_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"'acuracy'.*accuracy"):
        metrics.get("acuracy")
    with pytest.raises(ValueError, match="received 7"):
        metrics.get(7)
