"""Max pooling as one function with a convolution or batch normalisation, and in models that predict."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import pycnn
import pycnn.functional as F
from pycnn import Tensor
from pycnn import layers as L
from pycnn.backend import plan_on
from pycnn.functional import conv_norm, conv_pool, pool
from pycnn.models import Sequential
from pycnn_kernels.plan import Plan
from tests import reference as oracle


def normal(*shape: int, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(shape).standard_normal(shape).astype(dtype)


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """The plans that the function under test has used."""
    used = []

    def noted(*arguments: Any, **choice: Any) -> Plan:
        used.append(plan_on(*arguments, **choice))
        return used[-1]

    for module in (conv_norm, conv_pool, pool):
        monkeypatch.setattr(module, "plan_on", noted)
    return used


def poolings(plans: list[Plan]) -> list[str]:
    """The operations that pooled, with " norm" where they normalised, too."""
    used = [plan for plan in plans if "max_pool" in plan.operation]
    pools = [(plan, plan.problem.pool if "conv_max_pool" in plan.operation else plan.problem) for plan in used]
    return [plan.operation + " norm" * problem.normalised for plan, problem in pools]


SETTINGS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"kernel_size": 2}),
    ({"padding": "same", "activation": "relu"}, {"kernel_size": (3, 2), "stride": (2, 1)}),
    ({"stride": 2, "dilation": (1, 2)}, {"kernel_size": 3, "padding": 1, "ceil_mode": True}),
    ({"groups": 2, "activation": "sigmoid"}, {"kernel_size": 2, "padding": ((0, 1), (1, 0))}),
    ({"padding": 2, "padding_mode": "reflect", "activation": "leaky_relu", "negative_slope": 0.3}, {"kernel_size": 2}),
]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_it_is_the_two_functions(settings: tuple[dict[str, Any], dict[str, Any]], dtype: str) -> None:
    conv, pool = settings
    groups = conv.get("groups", 1)
    x, w, b = normal(2, 4, 13, 11), normal(6, 4 // groups, 3, 3), normal(6)
    expected = F.max_pool2d(F.conv2d(*(a.astype("float64") for a in (x, w, b)), **conv), **pool)
    named = {name if name == "ceil_mode" else f"pool_{name.removeprefix('kernel_')}": v for name, v in pool.items()}
    found = F.conv2d_max_pool2d(*(a.astype(dtype) for a in (x, w, b)), **conv, **named)
    assert found.dtype == dtype
    oracle.assert_close(found, expected, {"float16": 3e-3, "float32": 3e-5, "float64": 1e-13}[dtype])
    last = F.conv2d_max_pool2d(
        x.transpose(0, 2, 3, 1).astype(dtype), w.transpose(2, 3, 1, 0).astype(dtype), b.astype(dtype),
        data_format="channels_last", weight_format="HWIO", **conv, **named,
    )  # fmt: skip
    oracle.assert_close(
        last.transpose(0, 3, 1, 2), expected, {"float16": 3e-3, "float32": 3e-5, "float64": 1e-13}[dtype]
    )


def test_one_image_with_scale_and_residual() -> None:
    x, w, b, scale, residual = normal(3, 9, 8), normal(5, 3, 3, 3), normal(5), normal(5, 1)[:, 0], normal(5, 7, 6)
    epilogue = {"scale": scale, "residual": residual, "activation": "relu"}
    found = F.conv2d_max_pool2d(x, w, b, **epilogue, pool_size=2)
    assert found.shape == (5, 3, 3)
    oracle.assert_close(found, F.max_pool2d(F.conv2d(x, w, b, **epilogue), 2), 3e-5)


def test_a_large_cheap_convolution_takes_one_pass(plans: list[Plan]) -> None:
    x, w = normal(1, 3, 500, 600), normal(10, 3, 3, 3)
    found = F.conv2d_max_pool2d(x, w, pool_size=2)
    assert [plan.algorithm.name for plan in plans] == ["one_pass"]
    oracle.assert_close(found, F.max_pool2d(F.conv2d(x, w), 2), 3e-5)


def test_a_workspace_limit_holds(plans: list[Plan]) -> None:
    """One pass needs less than the convolution's result."""
    x, w = normal(1, 500, 600, 3), normal(3, 3, 3, 10)
    last: dict[str, Any] = {"data_format": "channels_last", "weight_format": "HWIO", "pool_size": 2}
    F.conv2d_max_pool2d(x, w, workspace_limit=8 << 20, **last)
    assert plans[0].workspace_bytes <= 8 << 20 < 498 * 598 * 10 * 4
    with pytest.raises(ValueError, match="no algorithm of conv_max_pool can do this within the workspace limit of 100"):
        F.conv2d_max_pool2d(x, w, workspace_limit=100, **last)


@pytest.mark.parametrize("activation", ["relu", None, "tanh"])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
def test_recorded_gradients_are_those_of_the_two_functions(
    activation: str | None, with_bias: bool, data_format: str, plans: list[Plan]
) -> None:
    last = data_format == "channels_last"
    arrays = [normal(2, 9, 8, 3) if last else normal(2, 3, 9, 8), normal(5, 3, 3, 3), normal(5) / 2][: 2 + with_bias]
    settings: dict[str, Any] = {"padding": 1, "activation": activation, "data_format": data_format}
    found = []
    for run in (
        lambda *inputs: F.max_pool2d(F.conv2d(*inputs, **settings), 3, 2, 1, data_format=data_format),
        lambda *inputs: F.conv2d_max_pool2d(*inputs, **settings, pool_size=3, pool_stride=2, pool_padding=1),
    ):
        tensors = [Tensor(array, requires_grad=True) for array in arrays]
        y = run(*tensors)
        (y**2).sum().backward()
        found.append([y.data, *(tensor.grad.data for tensor in tensors)])
    assert ("conv_max_pool" in poolings(plans)) == (activation != "tanh")
    for expected, other in zip(*found, strict=True):
        if activation != "tanh":  # bias added after the sum instead of before it; perhaps by another algorithm
            oracle.assert_close(other, expected)
        else:
            np.testing.assert_array_equal(other, expected)


def test_recorded_gradients_of_one_pass(plans: list[Plan]) -> None:
    """Of bands, whose positions are those in the whole. Whole numbers: sums are exact in whatever order."""
    arrays = [np.round(3 * normal(*shape)) for shape in ((2, 400, 300, 3), (5, 5, 3, 10), (10,))]
    last: dict[str, Any] = {"data_format": "channels_last", "weight_format": "HWIO", "activation": "relu"}
    found = []
    for run in (
        lambda *inputs: F.max_pool2d(F.conv2d(*inputs, **last), 2, data_format="channels_last"),
        lambda *inputs: F.conv2d_max_pool2d(*inputs, **last, pool_size=2),
    ):
        tensors = [Tensor(array, requires_grad=True) for array in arrays]
        y = run(*tensors)
        y.backward(Tensor(np.round(normal(*y.shape))))
        found.append([y.data, *(tensor.grad.data for tensor in tensors)])
    assert [plan.algorithm.name for plan in plans if plan.operation == "conv_max_pool"] == ["one_pass"]
    for expected, other in zip(*found, strict=True):
        np.testing.assert_array_equal(other, expected)


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("activation", ["relu", None])
@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
def test_parameters_of_a_first_layer(
    data_format: Any, activation: str | None, with_bias: bool, plans: list[Plan]
) -> None:
    """Whose input has no gradient: those of the parameters come from one operation. Whole numbers, exact sums."""
    last = data_format == "channels_last"
    x = Tensor(np.round(3 * normal(4, 41, 30, 3) if last else 3 * normal(4, 3, 41, 30)))
    arrays = [np.round(3 * normal(10, 3, 5, 5)), np.round(3 * normal(10))][: 1 + with_bias]
    settings: dict[str, Any] = {"activation": activation, "data_format": data_format, "padding": 2}
    found = []
    for run in (
        lambda *inputs: F.max_pool2d(F.conv2d(x, *inputs, **settings), 3, 2, data_format=data_format),
        lambda *inputs: F.conv2d_max_pool2d(x, *inputs, **settings, pool_size=3, pool_stride=2),
    ):
        tensors = [Tensor(array, requires_grad=True) for array in arrays]
        y = run(*tensors)
        y.backward(Tensor(np.round(normal(*y.shape))))
        found.append([y.data, *(tensor.grad.data for tensor in tensors)])
    assert [plan.operation for plan in plans][-2:] == ["conv_max_pool", "conv_max_pool_weight_gradient"]
    for expected, other in zip(*found, strict=True):
        np.testing.assert_array_equal(other, expected)


def test_gradients_of_gradients_of_a_first_layer(plans: list[Plan]) -> None:
    """Gradients that are recorded come from the functions in turn; the last ones, which are not, from one operation."""
    x, v = Tensor(normal(2, 3, 9, 8, dtype="float64")), Tensor(normal(4, 3, 3, 3, dtype="float64"))
    found = []
    for run in (
        lambda w: F.max_pool2d(F.conv2d(x, w, activation="relu"), 2),
        lambda w: F.conv2d_max_pool2d(x, w, activation="relu", pool_size=2),
    ):
        w = Tensor(normal(4, 3, 3, 3, dtype="float64") / 3, requires_grad=True)
        (run(w) ** 3).sum().backward(create_graph=True)
        dw, w.grad = w.grad, None
        (dw * v).sum().backward()
        found.append([dw.data, w.grad.data])
    assert poolings(plans)[-3:] == ["conv_max_pool", "max_pool_gradient", "conv_max_pool_weight_gradient"]
    for expected, other in zip(*found, strict=True):
        oracle.assert_close(other, expected)


def test_without_a_gradient_tensors_are_pooled_at_once(plans: list[Plan]) -> None:
    x, w = Tensor(normal(2, 3, 8, 7)), Tensor(normal(4, 3, 3, 3), requires_grad=True)
    with pycnn.no_grad():
        y = F.conv2d_max_pool2d(x, w, pool_size=2)
    assert isinstance(y, Tensor)
    assert not y.requires_grad
    assert [plan.operation for plan in plans] == ["conv_max_pool"]


X, W = normal(2, 3, 6, 5), normal(4, 3, 3, 3)
ERRORS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"pool_size": 0}, ValueError, "pool_size must be at least 1; received 0"),
    ({"pool_size": 2.5}, TypeError, "pool_size must be an integer or a pair of integers; received 2.5"),
    ({"pool_size": 2, "pool_stride": (1, 2, 3)}, ValueError, "pool_stride must be an integer or a pair of integers"),
    ({"pool_size": 2, "pool_padding": 2}, ValueError, "pool_padding must be at most half a window, 1 in height; rec"),
    ({"pool_size": 5}, ValueError, "a window must fit the padded input: it extends over 5 in height, the input over 4"),
    ({"pool_size": 2, "activation": "elu"}, ValueError, "activation must be one of None, 'relu'"),
    ({"pool_size": 2, "residual": X}, ValueError, "residual must have the shape of the result, (2, 4, 4, 3); received"),
    ({"pool_size": 2, "bias": X}, ValueError, "bias must have the shape (4,), one for each output channel"),
    ({"pool_size": 2, "workspace_limit": 1.5}, TypeError, "workspace_limit must be None or a number of bytes"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), ERRORS, ids=str)
def test_errors(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        F.conv2d_max_pool2d(X, W, **arguments)
    if "workspace_limit" not in arguments:
        with pytest.raises(error, match=re.escape(message)):
            F.conv2d_max_pool2d(Tensor(X, requires_grad=True), W, **arguments)


# Batch normalisation.


def channel_norm(channels: int, dtype: str = "float32") -> F.RunningNorm:
    """Scales of both signs."""
    mean, variance, weight, bias = normal(4, channels)
    return F.RunningNorm(*(a.astype(dtype) for a in (mean, np.abs(variance) + 0.5, weight, bias)), 1e-3)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("shape", [(2, 7, 9, 8), (7, 9, 8)])
def test_normalising_and_pooling_is_the_two_functions(shape: tuple[int, ...], dtype: str, plans: list[Plan]) -> None:
    x, norm = normal(*shape, dtype=dtype), channel_norm(7, dtype)
    settings: dict[str, Any] = {"stride": (2, 1), "ceil_mode": True}
    expected = F.max_pool2d(F.batch_norm(x.reshape(-1, 7, 9, 8), *norm[:4], eps=norm.eps), 2, **settings)
    plans.clear()
    named = {"pool_size": 2, "pool_stride": (2, 1), "ceil_mode": True}
    found = F.batch_norm_max_pool2d(x, *norm, **named)
    np.testing.assert_array_equal(found, expected.reshape(found.shape))
    last = F.batch_norm_max_pool2d(np.moveaxis(x, -3, -1), *norm, **named, data_format="channels_last")
    np.testing.assert_array_equal(np.moveaxis(last, -1, -3), found)
    without = F.batch_norm_max_pool2d(x, *norm[:2], **named)
    assert poolings(plans) == ["max_pool norm"] * 3
    assert found.dtype == without.dtype == dtype
    np.testing.assert_array_equal(
        without, F.max_pool2d(F.batch_norm(x.reshape(-1, 7, 9, 8), *norm[:2]), 2, **settings).reshape(found.shape)
    )


def test_normalising_and_pooling_tensors(plans: list[Plan]) -> None:
    """In turn where gradients are recorded, otherwise in one pass."""
    x, norm = Tensor(normal(2, 7, 9, 8), requires_grad=True), channel_norm(7)
    weight = Tensor(norm.weight, requires_grad=True)
    y = F.batch_norm_max_pool2d(x, *norm._replace(weight=weight), pool_size=2)
    assert y.requires_grad
    frozen = F.batch_norm_max_pool2d(x.detach(), *norm._replace(weight=weight), pool_size=2)
    assert frozen.requires_grad
    assert poolings(plans) == ["max_pool"] * 2
    with pycnn.no_grad():
        plain = F.batch_norm_max_pool2d(x, *norm._replace(weight=weight), pool_size=2)
    assert not plain.requires_grad
    assert poolings(plans)[2:] == ["max_pool norm"]
    np.testing.assert_array_equal(plain.data, y.data)


NORM_ERRORS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"pool_size": 0}, ValueError, "pool_size must be at least 1; received 0"),
    ({"pool_padding": 2}, ValueError, "pool_padding must be at most half a window, 1 in height; received (2, 2)"),
    ({"running_var": None}, ValueError, "running_mean and running_var must be given both, or neither of them"),
    ({"running_mean": None, "running_var": None}, ValueError, "running_mean and running_var must be given; received"),
    ({"running_mean": np.zeros(4, "float32")}, ValueError, "running_mean must have the shape (3,), one for each chan"),
    ({"weight": np.ones(3)}, TypeError, "weight must have the dtype of the input, float32; received float64"),
    ({"eps": "1"}, TypeError, "eps must be a number; received '1'"),
    ({"input": np.zeros((2, 3), "float32")}, ValueError, "input must have the axes (N, C, H, W) or (C, H, W); receiv"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), NORM_ERRORS, ids=str)
def test_errors_of_normalising_and_pooling(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    given = {"input": X, **channel_norm(3)._asdict(), "pool_size": 2}
    with pytest.raises(error, match=re.escape(message)):
        F.batch_norm_max_pool2d(**(given | arguments))


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("shape", [(2, 3, 9, 8), (3, 9, 8)])
def test_normalising_between_convolution_and_pooling(shape: tuple[int, ...], dtype: str, plans: list[Plan]) -> None:
    x, w, b = normal(*shape, dtype=dtype), normal(5, 3, 3, 3, dtype=dtype), normal(5, dtype=dtype)
    norm = channel_norm(5, dtype)
    found = F.conv2d_max_pool2d(x, w, b, activation="relu", pool_size=2, norm=norm)
    assert poolings(plans) == ["conv_max_pool norm"]
    assert found.dtype == dtype
    maps = F.conv2d(x.reshape(-1, 3, 9, 8), w, b, activation="relu")
    expected = F.max_pool2d(F.batch_norm(maps, *norm[:4], eps=norm.eps), 2).reshape(found.shape)
    oracle.assert_close(found, expected, {"float16": 3e-3, "float32": 3e-5, "float64": 1e-13}[dtype])
    weight = Tensor(norm.weight, requires_grad=True)
    recorded = F.conv2d_max_pool2d(x, w, b, activation="relu", pool_size=2, norm=norm._replace(weight=weight))
    assert recorded.requires_grad
    np.testing.assert_array_equal(recorded.data, expected)


def test_a_norm_that_is_none_or_does_not_fit() -> None:
    with pytest.raises(TypeError, match=re.escape("norm must be None or a RunningNorm; received 'batch'")):
        F.conv2d_max_pool2d(X, W, pool_size=2, norm="batch")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=re.escape("norm.weight must have the shape (4,), one for each channel; rec")):
        F.conv2d_max_pool2d(X, W, pool_size=2, norm=channel_norm(3))


# Models.

STACKS: list[tuple[dict[str, Any], dict[str, Any], int]] = [
    ({"activation": "relu"}, {}, 1),
    ({"padding": "same", "use_bias": False}, {"pool_size": 3, "strides": 2, "padding": "same"}, 1),
    ({"strides": 2, "activation": "relu", "dtype": "float64"}, {"dtype": "float64"}, 1),
    ({"activation": "relu", "data_format": "channels_first"}, {"data_format": "channels_first"}, 1),
    ({"activation": "tanh"}, {}, 0),
    ({"activation": "relu", "data_format": "channels_first"}, {}, 0),
    ({"activation": "relu"}, {"dtype": "float64"}, 0),
]


@pytest.mark.parametrize(("conv", "pool", "pooled"), STACKS, ids=str)
def test_a_model_predicts_what_its_layers_give(
    conv: dict[str, Any], pool: dict[str, Any], pooled: int, plans: list[Plan]
) -> None:
    model = Sequential([L.Conv2D(5, 3, input_shape=(12, 11, 8), **conv), L.MaxPooling2D(**pool), L.Flatten()])
    x = normal(3, 12, 11, 8)
    expected: Any = x
    for layer in model.layers:
        expected = layer(expected)
    expected = expected.detach().numpy()
    assert "conv_max_pool" not in poolings(plans)
    for run in (lambda: model.predict(x, verbose=0), lambda: model(x).detach().numpy()):
        plans.clear()
        found = run()
        assert poolings(plans) == (["conv_max_pool"] if pooled else ["max_pool"])
        assert found.dtype == expected.dtype
        oracle.assert_close(found, expected, 3e-5)


NORM_STACKS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({}, {}, "max_pool norm"),
    ({"axis": 3, "scale": False}, {"pool_size": (1, 3), "padding": "same"}, "max_pool norm"),
    ({"axis": 1, "center": False}, {"data_format": "channels_first"}, "max_pool norm"),
    ({"axis": -3, "dtype": "float64"}, {"data_format": "channels_first", "dtype": "float64"}, "max_pool norm"),
    ({"axis": 2}, {}, "max_pool"),
    ({}, {"data_format": "channels_first"}, "max_pool"),
    ({"dtype": "float64"}, {}, "max_pool"),
]


def moved(model: Sequential) -> Sequential:
    """With weights and statistics that are not those of a new model; scales of both signs."""
    for layer in model.layers:
        for name, weight in layer.named_weights().items():
            values = normal(*weight.shape)
            weight.data[...] = values**2 + 0.5 if name == "moving_variance" else values
    return model


@pytest.mark.parametrize(("norm", "pool", "pooled"), NORM_STACKS, ids=str)
def test_a_model_normalises_on_the_way_to_the_maximum(
    norm: dict[str, Any], pool: dict[str, Any], pooled: str, plans: list[Plan]
) -> None:
    """To the last bit what its layers give; in training they are called one by one."""
    layers = [L.BatchNormalization(input_shape=(12, 11, 8), **norm), L.MaxPooling2D(**pool)]
    model = moved(Sequential(layers))
    x = normal(3, 12, 11, 8)
    expected = model(x).detach().numpy()
    with pycnn.no_grad():
        model(x, training=True)
    assert set(poolings(plans)) == {"max_pool"}
    model = moved(model)  # training has moved the statistics
    plans.clear()
    predicted = model.predict(x, verbose=0)
    assert poolings(plans) == [pooled]
    assert predicted.dtype == expected.dtype
    np.testing.assert_array_equal(predicted, expected)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_a_model_normalises_between_convolution_and_pooling(data_format: Any, plans: list[Plan]) -> None:
    axis = -1 if data_format == "channels_last" else 1
    model = moved(
        Sequential([
            L.Conv2D(5, 3, activation="relu", data_format=data_format, input_shape=(12, 11, 8)),
            L.BatchNormalization(axis), L.MaxPooling2D(data_format=data_format), L.Flatten(),
        ])
    )  # fmt: skip
    x = normal(3, 12, 11, 8)
    expected = model(x).detach().numpy()
    plans.clear()
    predicted = model.predict(x, verbose=0)
    assert poolings(plans) == ["conv_max_pool norm"]
    oracle.assert_close(predicted, expected, 3e-5)
    with pycnn.no_grad():
        model(x, training=True)
    assert poolings(plans)[1:] == ["batch_norm_max_pool"]  # by the statistics of the batch


@pytest.mark.parametrize(
    ("conv", "norm"), [({"activation": "tanh"}, {}), ({}, {"dtype": "float64"}), ({}, {"axis": 1})], ids=str
)
def test_stacks_that_are_not_one_run(conv: dict[str, Any], norm: dict[str, Any], plans: list[Plan]) -> None:
    layers = [L.Conv2D(5, 3, input_shape=(8, 8, 2), **conv), L.BatchNormalization(**norm), L.MaxPooling2D()]
    model = moved(Sequential(layers))
    x = normal(3, 8, 8, 2)
    expected = model(x).detach().numpy()
    plans.clear()
    np.testing.assert_array_equal(model.predict(x, verbose=0), expected)
    assert "conv_max_pool norm" not in poolings(plans)


def test_frozen_normalisation_is_pooled_while_the_rest_is_trained(plans: list[Plan]) -> None:
    model = Sequential([L.BatchNormalization(input_shape=(8, 8, 2), trainable=False), L.MaxPooling2D()])
    model(normal(3, 8, 8, 2), training=True)
    assert poolings(plans) == ["max_pool norm"]


def test_layers_of_other_classes_are_called(plans: list[Plan]) -> None:
    class Doubled(L.MaxPooling2D):
        def call(self, inputs: Tensor) -> Tensor:
            return super().call(inputs) * 2.0

    model = Sequential([L.Conv2D(5, 3, input_shape=(8, 8, 2)), Doubled()])
    x = normal(3, 8, 8, 2)
    np.testing.assert_array_equal(model.predict(x, verbose=0), model(x).detach().numpy())
    assert set(poolings(plans)) == {"max_pool"}


def test_images_too_small_for_the_window_get_the_error_of_the_layer() -> None:
    model = Sequential([L.Conv2D(5, 3, name="conv"), L.MaxPooling2D(4, name="pool")])
    model(normal(1, 8, 8, 2))
    with pycnn.no_grad(), pytest.raises(ValueError, match="MaxPooling2D 'pool'"):
        model.call(Tensor(normal(1, 5, 5, 2)))
