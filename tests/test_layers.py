"""Layers: values against loops, shapes, names, weights, errors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from pycnn import Tensor, activations
from pycnn import layers as L
from pycnn.utils import clear_session, set_random_seed, to_categorical

RNG = np.random.default_rng(11)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    clear_session()
    set_random_seed(0)


def windows(x: np.ndarray, window: int, stride: int, mode: str, dilation: int = 1, fill: float = 0.0) -> np.ndarray:
    """The windows of images (N, H, W, C) as (N, OH, OW, window, window, C), padded as TensorFlow's notes say."""
    n, h, w, c = x.shape
    extent = dilation * (window - 1) + 1
    pads = [(0, 0), (0, 0)]
    if mode == "same":
        for axis, size in enumerate((h, w)):
            total = max((math.ceil(size / stride) - 1) * stride + extent - size, 0)
            pads[axis] = (total // 2, total - total // 2)
    padded = np.pad(x.astype(np.float64), [(0, 0), *pads, (0, 0)], constant_values=fill)
    oh = (padded.shape[1] - extent) // stride + 1
    ow = (padded.shape[2] - extent) // stride + 1
    out = np.empty((n, oh, ow, window, window, c))
    for i in range(oh):
        for j in range(ow):
            rows = slice(i * stride, i * stride + extent, dilation)
            columns = slice(j * stride, j * stride + extent, dilation)
            out[:, i, j] = padded[:, rows, columns]
    return out


CASES = [
    (window, stride, mode, dilation)
    for window in (1, 2, 3, 5)
    for stride in (1, 2, 3)
    for mode in ("valid", "same")
    for dilation in (1, 2)
    if stride == 1 or dilation == 1
]


@pytest.mark.parametrize(("window", "stride", "mode", "dilation"), CASES)
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_conv2d(window: int, stride: int, mode: str, dilation: int, data_format: str) -> None:
    x = RNG.normal(size=(2, 9, 10, 3)).astype(np.float32)
    layer = L.Conv2D(4, window, stride, mode, data_format, dilation, activation="relu", bias_initializer="ones")
    first = data_format == "channels_first"
    found = layer(x.transpose(0, 3, 1, 2) if first else x).data
    kernel, bias = layer.get_weights()
    expected = np.einsum("nijabc,abck->nijk", windows(x, window, stride, mode, dilation), kernel) + bias
    expected = np.maximum(expected, 0)
    np.testing.assert_allclose(found.transpose(0, 2, 3, 1) if first else found, expected, atol=1e-5)
    shape = (None, *expected.shape[1:])
    asked = (None, 3, 9, 10) if first else (None, 9, 10, 3)
    assert layer.compute_output_shape(asked) == ((None, 4, *shape[1:3]) if first else shape)


def test_conv2d_groups() -> None:
    x = RNG.normal(size=(2, 5, 5, 4)).astype(np.float32)
    layer = L.Conv2D(6, 3, groups=2)
    found = layer(x).data
    kernel, _ = layer.get_weights()
    assert kernel.shape == (3, 3, 2, 6)
    seen = windows(x, 3, 1, "valid")
    halves = [(seen[..., :2], kernel[..., :3]), (seen[..., 2:], kernel[..., 3:])]
    parts = [np.einsum("nijabc,abck->nijk", images, filters) for images, filters in halves]
    np.testing.assert_allclose(found, np.concatenate(parts, axis=-1), atol=1e-5)


POOLINGS = [(2, None, "valid"), (3, 2, "same"), (2, 2, "same"), (3, 1, "same")]


@pytest.mark.parametrize(("window", "stride", "mode"), POOLINGS)
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_pooling(window: int, stride: int | None, mode: str, data_format: str) -> None:
    x = RNG.normal(size=(2, 7, 8, 3)).astype(np.float32)
    first = data_format == "channels_first"
    given = x.transpose(0, 3, 1, 2) if first else x
    step = stride or window
    largest = windows(x, window, step, mode, fill=-np.inf).max(axis=(3, 4))
    # The mean of what lies inside the image: padding does not count.
    mean = np.nanmean(windows(x, window, step, mode, fill=np.nan), axis=(3, 4))
    for kind, expected in ((L.MaxPooling2D, largest), (L.AveragePooling2D, mean)):
        layer = kind(window, stride, mode, data_format)
        found = layer(given).numpy()
        np.testing.assert_allclose(found.transpose(0, 2, 3, 1) if first else found, expected, atol=1e-6)
        assert layer.compute_output_shape((None, *given.shape[1:])) == (None, *found.shape[1:])


def test_dense() -> None:
    x = RNG.normal(size=(4, 5)).astype(np.float32)
    layer = L.Dense(3, activation="tanh", bias_initializer="random_normal")
    found = layer(x).data
    kernel, bias = layer.get_weights()
    np.testing.assert_allclose(found, np.tanh(x.astype(np.float64) @ kernel + bias), atol=1e-6)
    deeper = RNG.normal(size=(2, 3, 5)).astype(np.float32)
    np.testing.assert_allclose(layer(deeper).data[1], layer(deeper[1]).data, atol=1e-6)


@pytest.mark.parametrize(("shape", "axis"), [((6, 3), -1), ((2, 3, 4, 3), -1), ((2, 3, 4, 3), 1), ((2, 3, 4, 3), 2)])
def test_batch_normalization(shape: tuple[int, ...], axis: int) -> None:
    x = RNG.normal(3, 2, size=shape).astype(np.float32)
    layer = L.BatchNormalization(axis, momentum=0.75, gamma_initializer="random_normal", beta_initializer="ones")
    values = np.moveaxis(x.astype(np.float64), axis, -1).reshape(-1, shape[axis])
    found = layer(x, training=True).data
    gamma, beta, mean, variance = layer.get_weights()
    expected = (values - values.mean(axis=0)) / np.sqrt(values.var(axis=0) + 1e-3) * gamma + beta
    np.testing.assert_allclose(np.moveaxis(found, axis, -1).reshape(values.shape), expected, atol=1e-5)
    np.testing.assert_allclose(mean, 0.25 * values.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(variance, 0.75 + 0.25 * values.var(axis=0), rtol=1e-5)
    found = layer(x).data
    expected = (values - mean) / np.sqrt(variance + 1e-3) * gamma + beta
    np.testing.assert_allclose(np.moveaxis(found, axis, -1).reshape(values.shape), expected, atol=1e-5)
    for array, before in zip(layer.get_weights(), (gamma, beta, mean, variance)):
        np.testing.assert_array_equal(array, before)


def test_frozen_batch_normalization_uses_the_moving_statistics() -> None:
    x = RNG.normal(3, 2, size=(6, 3)).astype(np.float32)
    layer = L.BatchNormalization(center=False, scale=False)
    layer.trainable = False
    np.testing.assert_array_equal(layer(x, training=True).numpy(), layer(x).numpy())
    assert [weight.tolist() for weight in layer.get_weights()] == [[0, 0, 0], [1, 1, 1]]


def test_flatten_orders_channels_last_in_both_formats() -> None:
    x = RNG.normal(size=(2, 3, 4, 5)).astype(np.float32)
    expected = x.reshape(2, 60)
    assert (L.Flatten()(x).numpy() == expected).all()
    assert (L.Flatten("channels_first")(x.transpose(0, 3, 1, 2)).numpy() == expected).all()
    assert L.Flatten().compute_output_shape((None, 7, 7, 40)) == (None, 1960)
    assert L.Flatten()(np.zeros((0, 3, 4, 5))).shape == (0, 60)


def test_activation_by_name_and_function() -> None:
    x = np.array([[-1.0, 2.0]])
    assert L.Activation("relu")(x).numpy().tolist() == [[0, 2]]
    assert L.Activation(lambda t: t * 3.0)(x).numpy().tolist() == [[-3, 6]]
    np.testing.assert_allclose(L.Activation("softmax")(x).numpy().sum(), 1, rtol=1e-6)


@pytest.mark.parametrize("name", ["linear", "relu", "sigmoid", "tanh", "softmax", "log_softmax"])
def test_activations(name: str) -> None:
    x = RNG.normal(size=(3, 4))
    e = np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)
    expected = {
        "linear": x,
        "relu": np.maximum(x, 0),
        "sigmoid": 1 / (1 + np.exp(-x)),
        "tanh": np.tanh(x),
        "softmax": e,
        "log_softmax": np.log(e),
    }[name]
    np.testing.assert_allclose(activations.get(name)(Tensor(x)).numpy(), expected, rtol=1e-6, atol=1e-12)


def test_dropout_only_while_training() -> None:
    x = np.ones((100, 100), np.float32)
    layer = L.Dropout(0.25)
    assert (layer(x).numpy() == 1).all()
    dropped = layer(x, training=True).numpy()
    assert set(np.unique(dropped).tolist()) == {0.0, np.float32(1 / 0.75)}
    assert (dropped == 0).mean() == pytest.approx(0.25, abs=0.02)
    assert (L.Dropout(1)(x, training=True).numpy() == 0).all()


def test_dropout_repeats_with_the_seed_and_drops_whole_axes() -> None:
    x = np.ones((50, 4, 4, 8), np.float32)
    set_random_seed(3)
    first = L.Dropout(0.5)(x, training=True).numpy()
    set_random_seed(3)
    assert (L.Dropout(0.5)(x, training=True).numpy() == first).all()
    channels = L.Dropout(0.5, noise_shape=(None, 1, 1, None))(x, training=True).numpy()
    assert (channels == channels[:, :1, :1]).all()
    assert 0 < (channels == 0).mean() < 1
    assert (L.Dropout(1, seed=1)(x, training=True).numpy() == 0).all()


def test_names_count_per_class() -> None:
    made = [L.Conv2D(1, 1), L.Conv2D(1, 1), L.MaxPooling2D(), L.Dense(1), L.Dense(1, name="head"), L.Dense(1)]
    assert [layer.name for layer in made] == ["conv2d", "conv2d_1", "max_pooling2d", "dense", "head", "dense_1"]
    clear_session()
    assert L.Conv2D(1, 1).name == "conv2d"
    assert L.InputLayer((1,)).name == "input_layer"


def test_aliases() -> None:
    assert L.MaxPool2D is L.MaxPooling2D
    assert L.AvgPool2D is L.AveragePooling2D


def test_weights_are_float32_tensors_with_gradients() -> None:
    layer = L.Conv2D(32, (3, 3))
    layer.build_for((None, 32, 32, 3))
    assert [w.shape for w in layer.weights] == [(3, 3, 3, 32), (32,)]
    assert all(isinstance(w, Tensor) and w.requires_grad and w.dtype == np.float32 for w in layer.weights)
    assert layer.count_params() == 896
    assert list(layer.named_weights()) == ["kernel", "bias"]
    limit = math.sqrt(6 / (27 + 288))
    assert 0.95 * limit < np.abs(layer.get_weights()[0]).max() <= limit
    assert (layer.get_weights()[1] == 0).all()
    assert len(L.Dense(3, use_bias=False)(np.ones((1, 2))).shape) == 2


def test_float64_layers() -> None:
    layer = L.Dense(2, dtype="float64")
    assert layer(np.ones((1, 3), np.float32)).dtype == np.float64


def test_set_weights_copies_into_place_or_changes_nothing() -> None:
    layer = L.Dense(2)
    layer(np.ones((1, 3)))
    kernel, bias = layer.weights
    layer.set_weights([np.full((3, 2), 2.0), np.ones(2)])
    assert layer(np.ones((1, 3))).data.tolist() == [[7, 7]]
    assert layer.weights[0] is kernel
    with pytest.raises(ValueError, match=r"Dense 'dense'.*\[\(3, 2\), \(2,\)\], received \[\(3, 2\), \(3,\)\]"):
        layer.set_weights([np.zeros((3, 2)), np.zeros(3)])
    assert (bias.data == 1).all()
    assert (kernel.data == 2).all()
    copies = layer.get_weights()
    copies[0][:] = 0
    assert (kernel.data == 2).all()


def test_trainable() -> None:
    layer = L.Dense(2)
    layer(np.ones((1, 3)))
    layer.trainable = False
    assert layer.trainable_weights == []
    assert len(layer.non_trainable_weights) == 2
    assert not any(w.requires_grad for w in layer.weights)
    layer.trainable = True
    assert len(layer.trainable_weights) == 2
    frozen = L.Dense(2, trainable=False)
    frozen(np.ones((1, 3)))
    assert not any(w.requires_grad for w in frozen.weights)


def test_own_layers() -> None:
    class Scale(L.Layer):
        def build(self, input_shape: tuple) -> None:
            self.factor = self.add_weight((input_shape[-1],), "ones", name="factor")
            self.seen = self.add_weight((), "zeros", trainable=False, name="seen")

        def call(self, inputs: Tensor) -> Tensor:
            return inputs * self.factor

        def compute_output_shape(self, input_shape: tuple) -> tuple:
            return input_shape

    layer = Scale()
    out = layer(np.full((2, 3), 4.0))
    assert (out.data == 4).all()
    out.sum().backward()
    assert layer.factor.grad.numpy().tolist() == [8, 8, 8]
    assert layer.trainable_weights == [layer.factor]
    assert layer.non_trainable_weights == [layer.seen]


def test_initial_values_are_copied_and_their_shape_is_checked() -> None:
    mine = np.ones(2, np.float32)
    layer = L.Dense(2, bias_initializer=lambda shape, dtype: mine)
    layer(np.ones((1, 3)))
    layer.set_weights([np.zeros((3, 2)), np.zeros(2)])
    assert (mine == 1).all()
    with pytest.raises(ValueError, match=r"initializer of bias to give \(3,\), received \(2,\)"):
        L.Dense(3, bias_initializer=lambda shape, dtype: mine)(np.ones((1, 3)))


def test_input_layer_forms() -> None:
    assert L.Input((28, 28, 1)).shape == (None, 28, 28, 1)
    assert L.InputLayer(input_shape=(3,)).batch_shape == (None, 3)
    assert L.InputLayer((3,), batch_size=5).batch_shape == (5, 3)
    assert L.InputLayer(batch_shape=(None, 3)).batch_shape == (None, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: L.Conv2D(0, 3), "filters: expected a positive integer"),
        (lambda: L.Conv2D(8, (3, 3, 3)), r"kernel_size: expected a positive integer or 2.*\(3, 3, 3\)"),
        (lambda: L.Conv2D(8, 3, strides=0), "strides.*received 0"),
        (lambda: L.Conv2D(8, 3, strides=-1), "strides.*received -1"),
        (lambda: L.Conv2D(8, 3.5), "kernel_size.*received 3.5"),
        (lambda: L.Conv2D(8, 3, padding="smae"), r"padding.*'smae'.*same"),
        (lambda: L.Conv2D(8, 3, data_format="channel_last"), r"data_format.*channels_last"),
        (lambda: L.Conv2D(8, 3, groups=3), "divisible by groups=3, received filters=8"),
        (lambda: L.Conv2D(8, 3, strides=2, dilation_rate=2), "cannot both exceed 1"),
        (lambda: L.Conv2D(8, 3, activation="rleu"), r"unknown activation 'rleu'.*relu"),
        (lambda: L.Conv2D(8, 3, kernel_initializer="zeroes"), r"unknown initializer 'zeroes'.*zeros"),
        (lambda: L.Conv2D(8, 3, input_shpe=(1, 2, 3)), r"Conv2D has no argument 'input_shpe'.*input_shape"),
        (lambda: L.Dense(10, activaton="relu"), r"Dense has no argument 'activaton'.*activation"),
        (lambda: L.Dense(-1), "units.*received -1"),
        (lambda: L.MaxPooling2D(0), "pool_size.*received 0"),
        (lambda: L.BatchNormalization(axis=1.0), "expected an integer axis, received 1.0"),
        (lambda: L.BatchNormalization(momentum=1.5), r"a momentum in \[0, 1\], received 1.5"),
        (lambda: L.BatchNormalization(epsilon=0), "a positive epsilon, received 0"),
        (lambda: L.Dropout(1.5), r"\[0, 1\], received 1.5"),
        (lambda: L.Dropout("half"), "received 'half'"),
        (lambda: L.Dropout(0.5, noise_shape=5), "noise_shape: expected a tuple.* received 5"),
        (lambda: L.Dropout(0.5, noise_shape=("a", 1, 1, 1)), r"noise_shape: .* received \('a', 1, 1, 1\)"),
        (lambda: L.Dropout(0.5, noise_shape=(1, -1)), r"noise_shape: .* received \(1, -1\)"),
        (lambda: L.Dropout(0.5, seed="a"), "seed: .* received 'a'"),
        (lambda: L.SpatialDropout2D(0.5, seed=-1), "seed: .* received -1"),
        (lambda: L.Reshape(5), "target_shape: expected a tuple of integers, received 5"),
        (lambda: L.Reshape("ab"), "target_shape: .* received 'ab'"),
        (lambda: L.Permute(1), "dims: expected a tuple of integers, received 1"),
        (lambda: L.PReLU(shared_axes="a"), "shared_axes: expected an integer or several, received 'a'"),
        (lambda: L.Input(), "exactly one of shape and batch_shape"),
        (lambda: L.Input((0, 3)), r"received \(0, 3\)"),
        (lambda: L.Input(28), "received 28"),
        (lambda: L.Dense(1, dtype="int8"), "dtype.*int8"),
        (lambda: L.Dense(1, name="a/b"), "name"),
    ],
)
def test_bad_arguments(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (L.Conv2D(8, 5, name="c"), (1, 4, 9, 3), r"Conv2D 'c': a window of \(5, 5\) does not fit.*\(4, 9\) pixels"),
        (L.Conv2D(8, 3, dilation_rate=3, name="c"), (1, 6, 6, 3), r"window of \(7, 7\)"),
        (L.Conv2D(8, 3, name="c"), (1, 6, 6), r"expected 4 axes.*\(None, 6, 6\)"),
        (L.Conv2D(8, 3, groups=2, name="c"), (1, 6, 6, 3), "divisible by groups=2, received 3"),
        (L.MaxPooling2D(3, name="p"), (1, 2, 2, 1), r"MaxPooling2D 'p': a window of \(3, 3\)"),
        (L.AveragePooling2D(name="p"), (4, 4), "expected 4 axes"),
        (L.Dense(2, name="d"), (3,), "at least 2 axes"),
        (L.BatchNormalization(3, name="b"), (1, 2, 2), r"BatchNormalization 'b': .* the axis 3, received input shape"),
        (L.BatchNormalization(0, name="b"), (1, 2), "the axis 0"),
    ],
)
def test_bad_inputs(layer: L.Layer, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        layer(np.zeros(shape))


def test_a_built_layer_keeps_its_channels() -> None:
    conv, dense = L.Conv2D(8, 3), L.Dense(2)
    conv(np.zeros((1, 5, 5, 3)))
    dense(np.zeros((1, 3)))
    with pytest.raises(ValueError, match="expected 3 channels, received 4"):
        conv(np.zeros((1, 5, 5, 4)))
    with pytest.raises(ValueError, match="expected 3 features, received 4"):
        dense(np.zeros((1, 4)))


def test_unknown_sizes() -> None:
    assert L.Conv2D(8, 3).build_for((None, None, None, 3)) == (None, None, None, 8)
    assert L.Flatten().build_for((None, None, 8)) == (None, None)
    with pytest.raises(ValueError, match="known number of channels"):
        L.Conv2D(8, 3).build_for((None, 5, 5, None))
    with pytest.raises(ValueError, match="known size of the last axis"):
        L.Dense(8).build_for((None, None))


def test_count_params_before_building() -> None:
    with pytest.raises(ValueError, match="before it is built"):
        L.Dense(3).count_params()


def test_to_categorical() -> None:
    assert to_categorical([[1], [0]]).tolist() == [[0, 1], [1, 0]]
    assert to_categorical([0, 1], num_classes=3).shape == (2, 3)
    assert to_categorical(np.zeros((2, 3), int), 2).shape == (2, 3, 2)
    with pytest.raises(ValueError, match=r"0 \.\. 2, received 0 to 3"):
        to_categorical([0, 3], num_classes=3)
    with pytest.raises(ValueError, match="integer labels"):
        to_categorical([0.5])
    with pytest.raises(ValueError, match="received -1"):
        to_categorical([-1, 2])


def test_set_random_seed_rejects_nonsense() -> None:
    with pytest.raises(ValueError, match="received -1"):
        set_random_seed(-1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("given", ["float64", "float32", "int64", "uint8"])
def test_inputs_are_cast_to_the_layers_dtype(given: str, dtype: str) -> None:
    values = np.arange(6).reshape(2, 3).astype(given)
    for layer in (L.Dense(2, dtype=dtype), L.Dropout(0.0, dtype=dtype)):
        from_array, from_tensor = layer(values), layer(Tensor(values))
        assert from_array.dtype == from_tensor.dtype == dtype
        np.testing.assert_array_equal(from_array.detach().numpy(), from_tensor.detach().numpy())


def test_the_gradient_goes_through_the_cast() -> None:
    x = Tensor(np.ones((1, 3)), requires_grad=True)
    L.Dense(2)(x).sum().backward()
    assert x.grad.dtype == np.float64


def test_inputs_of_different_lengths() -> None:
    with pytest.raises(ValueError, match="inputs must be an array or rows of equal lengths"):
        L.Dense(2)([[1.0], [2.0, 3.0]])


def test_dropout_takes_numbers_of_numpy() -> None:
    layer = L.Dropout(np.float32(0.5))
    assert set(np.unique(layer(np.ones((4, 50)), training=True).numpy())) == {0.0, 2.0}


def test_one_size_is_asked_for_in_the_singular() -> None:
    with pytest.raises(ValueError, match=r"^filters: expected a positive integer, received 0$"):
        L.Conv2D(0, 3)


EVERY: list[tuple[str, tuple[object, ...], tuple[int, ...]]] = [
    ("Conv1D", (2, 3), (9, 2)),
    ("Conv2D", (2, 3), (9, 9, 2)),
    ("Conv3D", (2, 3), (5, 5, 5, 2)),
    ("Conv1DTranspose", (2, 3, 2, "same"), (9, 2)),
    ("Conv2DTranspose", (2, 3, 2), (9, 9, 2)),
    ("Conv3DTranspose", (2, 3), (5, 5, 5, 2)),
    ("DepthwiseConv1D", (3,), (9, 2)),
    ("DepthwiseConv2D", (3,), (9, 9, 2)),
    ("SeparableConv1D", (3, 3), (9, 2)),
    ("SeparableConv2D", (3, 3), (9, 9, 2)),
    *((f"{kind}Pooling2D", (2,), (4, 4, 2)) for kind in ("Max", "Average", "AdaptiveMax", "AdaptiveAverage")),
    *((f"{kind}Pooling{rank}D", (), (4,) * rank + (2,)) for kind in ("GlobalMax", "GlobalAverage") for rank in (1, 2)),
    ("LpPooling2D", (2, None, "same"), (5, 5, 2)),
    ("MixedPooling2D", (2,), (5, 5, 2)),
    ("LayerNormalization", (1,), (3, 4)),
    ("BatchNormalization", (), (3, 4)),
    ("Dropout", (0.5,), (3,)),
    ("SpatialDropout2D", (0.5,), (3, 3, 2)),
    ("Reshape", ((6,),), (2, 3)),
    ("Permute", ((2, 1),), (2, 3)),
    ("RepeatVector", (2,), (3,)),
    ("Rescaling", (0.5, 1), (3,)),
    ("Flatten", (), (3, 2)),
    ("Dense", (3,), (4,)),
    ("Activation", ("tanh",), (3,)),
    ("ReLU", (1.0, 0.1, 0.2), (3,)),
    ("LeakyReLU", (), (3,)),
    ("PReLU", (), (3,)),
    ("ELU", (), (3,)),
    ("Softmax", ((1, 2),), (3, 2)),
]


@pytest.mark.parametrize(("name", "arguments", "shape"), EVERY)
@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
@pytest.mark.parametrize("batch", [2, 0])
def test_every_dtype_and_no_samples(
    name: str, arguments: tuple[object, ...], shape: tuple[int, ...], dtype: str, batch: int
) -> None:
    layer = getattr(L, name)(*arguments, dtype=dtype)
    x = Tensor(RNG.normal(size=(batch, *shape)), requires_grad=True)
    y = layer(x, training=batch > 0)
    assert str(y.dtype) == dtype
    assert y.shape == layer.compute_output_shape((batch, *shape))
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.shape == x.shape
    for weight in layer.trainable_weights:
        assert weight.grad is not None
        assert weight.grad.dtype == weight.dtype


@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("mode", ["valid", "same"])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_lp_pooling(norm_type: float, mode: str, data_format: str) -> None:
    x = RNG.uniform(0.1, 1, size=(2, 7, 8, 3)).astype(np.float32)
    first = data_format == "channels_first"
    layer = L.LpPooling2D(3, 2, mode, data_format, norm_type=norm_type)
    found = layer(x.transpose(0, 3, 1, 2) if first else x).numpy()
    expected = (windows(x, 3, 2, mode) ** norm_type).sum(axis=(3, 4)) ** (1 / norm_type)
    np.testing.assert_allclose(found.transpose(0, 2, 3, 1) if first else found, expected, rtol=1e-5)
    with pytest.raises(ValueError, match="norm_type: expected a finite number above 0, received -1"):
        L.LpPooling2D(norm_type=-1)


def test_mixed_pooling_draws_while_training() -> None:
    x = RNG.normal(size=(2, 7, 8, 3)).astype(np.float32)
    largest = windows(x, 3, 2, "same", fill=-np.inf).max(axis=(3, 4))
    mean = np.nanmean(windows(x, 3, 2, "same", fill=np.nan), axis=(3, 4))
    layer = L.MixedPooling2D(3, 2, "same")
    np.testing.assert_allclose(layer(x).numpy(), (largest + mean) / 2, atol=1e-6)
    kinds: set[str] = set()
    for _ in range(20):
        found = layer(x, training=True).numpy()
        kinds |= {name for name, each in (("max", largest), ("mean", mean)) if np.allclose(found, each, atol=1e-6)}
    assert kinds == {"max", "mean"}
    found = L.MixedPooling2D(3, 2, "same", part=0.25)(x).numpy()
    np.testing.assert_allclose(found, largest / 4 + mean * 0.75, atol=1e-6)
    with pytest.raises(ValueError, match="part: expected a finite number of at least 0 and of at most 1, received 2"):
        L.MixedPooling2D(part=2)


def test_the_former_name_of_a_slope() -> None:
    assert L.LeakyReLU(alpha=0.1).negative_slope == 0.1


@pytest.mark.parametrize("axis", [[1, 6], [1, 1], [1, -3], 4, -5, "a", 1.5, [0.5], []])
def test_softmax_over_axes_that_do_not_exist(axis: Any) -> None:
    x = np.zeros((2, 3, 4, 5), np.float32)
    with pytest.raises(ValueError, match=r"axis: expected .* received"):
        activations.softmax(Tensor(x), axis)
    with pytest.raises(ValueError, match=r"axis: expected .* received"):
        L.Softmax(axis)(x)


@pytest.mark.parametrize("axis", [None, -2, [1, -1], (3, 0, 1), np.int64(1)])
def test_softmax_over_one_axis_several_or_all(axis: Any) -> None:
    x = np.random.default_rng(3).normal(size=(2, 3, 4, 5)).astype(np.float32)
    axes = tuple(range(4)) if axis is None else tuple(np.atleast_1d(axis).tolist())
    e = np.exp(x.astype(np.float64))
    np.testing.assert_allclose(L.Softmax(axis)(x).numpy(), e / e.sum(axes, keepdims=True), rtol=1e-5)


def test_the_sizes_of_a_mask_are_1_or_the_inputs() -> None:
    x = np.ones((2, 8, 8, 3), np.float32)
    with pytest.raises(ValueError, match=r"sizes of noise_shape .* \(2, 8, 8, 3\), received \(2, 7, 8, 3\)"):
        L.Dropout(0.5, noise_shape=(2, 7, 8, 3))(x, training=True)
    mask = L.Dropout(0.5, noise_shape=(2, 1, np.int64(8), None), seed=np.int64(1))(x, training=True).numpy()
    assert (mask == mask[:, :1]).all()


def test_shared_axes_are_numbers_of_any_package() -> None:
    assert L.PReLU(shared_axes=np.int64(1)).shared_axes == [1]
    assert L.PReLU(shared_axes=np.array([1, 2])).shared_axes == [1, 2]


def test_the_exponential_of_an_array_is_an_array() -> None:
    found = activations.exponential(np.ones(2))  # type: ignore[arg-type]
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, np.e)
