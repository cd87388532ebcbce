"""``pycnn.functional.batch_norm``: what surrounds its kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pycnn.functional as F
from pycnn import Tensor
from tests import reference as oracle
from tests.kernels.problems import EACH_HALF

X = np.random.default_rng(0).standard_normal((4, 3, 5, 2)).astype(np.float32)
WEIGHT, BIAS = np.array([1, -2, 0.5], np.float32), np.array([0, 1, 2], np.float32)


def statistics(dtype: Any = np.float32) -> tuple[np.ndarray, np.ndarray]:
    return np.array([0.5, 0, -1]).astype(dtype), np.array([1, 2, 0.5]).astype(dtype)


@pytest.mark.parametrize("training", [True, False])
def test_both_layouts_agree(training: bool) -> None:
    first, last = statistics(), statistics()
    y = F.batch_norm(X, *first, WEIGHT, BIAS, training)
    same = F.batch_norm(np.moveaxis(X, 1, -1), *last, WEIGHT, BIAS, training, data_format="channels_last")
    oracle.assert_close(np.moveaxis(same, -1, 1), y)
    for found, expected in zip(last, first):
        oracle.assert_close(found, expected)


@pytest.mark.parametrize("training", [True, False])
def test_relu_in_the_same_pass(training: bool) -> None:
    y = F.batch_norm(X, *statistics(), WEIGHT, BIAS, training)
    np.testing.assert_array_equal(
        F.batch_norm(X, *statistics(), WEIGHT, BIAS, training, activation="relu"), np.maximum(y, 0)
    )


def test_arrays_as_they_come() -> None:
    """Scattered and read-only inputs, statistics that lie in a larger array, tensors of statistics."""
    expected_mean, expected_variance = statistics()
    expected = F.batch_norm(X, expected_mean, expected_variance, WEIGHT, BIAS, True)
    scattered = np.zeros((4, 3, 5, 4), np.float32)[..., ::2]
    scattered[...] = X
    scattered.flags.writeable = False
    table = np.stack(statistics(), axis=1)
    np.testing.assert_array_equal(F.batch_norm(scattered, table[:, 0], table[:, 1], WEIGHT, BIAS, True), expected)
    np.testing.assert_array_equal(table, np.stack([expected_mean, expected_variance], axis=1))
    mean, variance = map(Tensor, statistics())
    y = F.batch_norm(Tensor(X), mean, variance, Tensor(WEIGHT), Tensor(BIAS), True)
    np.testing.assert_array_equal(y.data, expected)
    np.testing.assert_array_equal(mean.data, expected_mean)


@pytest.mark.parametrize("half", EACH_HALF)
@pytest.mark.parametrize("training", [True, False])
def test_halves(half: str, training: bool) -> None:
    x, w, b = (Tensor(array).astype(half).data for array in (X, WEIGHT, BIAS))
    mean, variance = (Tensor(array).astype(half).data for array in statistics())
    wide = [array.astype(np.float32) for array in (x, mean, variance, w, b)]
    y = F.batch_norm(x, mean, variance, w, b, training)
    assert y.dtype == x.dtype
    oracle.assert_rounded(y, F.batch_norm(*wide, training))
    oracle.assert_rounded(mean, wide[1])
    oracle.assert_rounded(variance, wide[2])


def test_refused_arguments_change_nothing() -> None:
    mean, variance = statistics()
    read_only = variance.copy()
    read_only.flags.writeable = False
    with pytest.raises(ValueError, match="running_var is changed in place: it must be writable"):
        F.batch_norm(X, mean, read_only, training=True)
    np.testing.assert_array_equal(mean, statistics()[0])
    assert F.batch_norm(X, mean, read_only).shape == X.shape


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"input": X[0, 0, 0]}, ValueError, r"the axes \(N, C\) or more; received the shape \(2,\)"),
        ({"input": X.astype(int)}, TypeError, "input must hold float16"),
        (
            {"input": X[:1, :, :1, :1]},
            ValueError,
            r"more than one value per channel.* \(1, 3, 1, 1\)",
        ),
        (
            {"weight": WEIGHT[:2]},
            ValueError,
            r"weight must have the shape \(3,\), .* received \(2,\)",
        ),
        ({"bias": BIAS.astype(float)}, TypeError, "bias must have the dtype of the input, float32; received float64"),
        ({"running_mean": None}, ValueError, "running_mean and running_var must be given both"),
        ({"running_mean": [0.0, 0.0, 0.0]}, TypeError, "running_mean must be an array or a tensor.*received list"),
        ({"running_var": np.ones(4, np.float32)}, ValueError, r"running_var must have the shape \(3,\)"),
        ({"running_var": Tensor(WEIGHT, requires_grad=True)}, TypeError, "running_var must not require a gradient"),
        ({"training": False, "running_mean": None, "running_var": None}, ValueError, "unless training is True"),
        ({"momentum": "0.1"}, TypeError, "momentum must be a number; received '0.1'"),
        ({"eps": None}, TypeError, "eps must be a number; received None"),
        ({"activation": "tanh"}, ValueError, "activation must be one of None, 'relu'; received 'tanh'"),
        ({"correction": 2}, ValueError, "correction must be one of 0, 1; received 2"),
        ({"data_format": "NCHW"}, ValueError, "data_format must be 'channels_first' or 'channels_last'"),
    ],
)
def test_errors(change: dict[str, Any], error: type[Exception], message: str) -> None:
    mean, variance = statistics()
    arguments = {
        "input": X, "running_mean": mean, "running_var": variance, "weight": WEIGHT, "bias": BIAS, "training": True
    }  # fmt: skip
    with pytest.raises(error, match=message):
        F.batch_norm(**(arguments | change))
    np.testing.assert_array_equal(mean, statistics()[0])


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(
    "normalise", [lambda x, w, b: F.group_norm(x, 2, w, b), lambda x, w, b: F.instance_norm(x, None, None, w, b)]
)
def test_an_empty_batch_gives_a_new_array_and_gradients_of_zero(normalise: Any, dtype: str) -> None:
    x, weight, bias = np.zeros((0, 4, 3), dtype), np.ones(4, dtype), np.ones(4, dtype)
    y = normalise(x, weight, bias)
    assert y is not x
    assert (y.shape, y.dtype) == (x.shape, x.dtype)
    tensors = [Tensor(each, requires_grad=True) for each in (x, weight, bias)]
    normalise(*tensors).sum().backward()
    for tensor in tensors:
        assert tensor.grad is not None
        np.testing.assert_array_equal(tensor.grad.data, np.zeros(tensor.shape))
