"""Models: structure, training against NumPy, history, repeatability, progress, errors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import pycnn
from pycnn import Tensor
from pycnn import layers as L
from pycnn.callbacks import Callback, History
from pycnn.losses import sparse_categorical_crossentropy
from pycnn.models import Model, Sequential
from pycnn.optimizers import SGD, Adam
from pycnn.utils import clear_session, set_random_seed


@pytest.fixture(autouse=True)
def _fresh() -> None:
    clear_session()
    set_random_seed(0)


def classifier(**compiled: Any) -> Sequential:
    """A small network for images of 8 x 8 pixels and three classes."""
    model = Sequential(
        [
            L.Conv2D(8, 3, activation="relu", input_shape=(8, 8, 1)),
            L.MaxPooling2D(),
            L.Flatten(),
            L.Dense(3, activation="softmax"),
        ]
    )
    model.compile(**{"loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"], **compiled})
    return model


def bars(samples: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images with a horizontal bar, a vertical bar or none, and which it is."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, samples)
    images = rng.normal(0, 0.1, (samples, 8, 8, 1))
    places = rng.integers(0, 8, samples)
    for image, label, place in zip(images, labels, places):
        if label == 0:
            image[place] += 1
        elif label == 1:
            image[:, place] += 1
    return images, labels


class Recorder(Callback):
    """Takes down every call."""

    def __init__(self) -> None:
        super().__init__()
        self.moments: list[str] = []
        self.logs: list[dict[str, float]] = []

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("on_"):
            return super().__getattribute__(name)

        def record(*arguments: Any) -> None:
            self.moments.append(name)
            if arguments and isinstance(arguments[-1], dict):
                self.logs.append(dict(arguments[-1]))

        return record


# -- structure -----------------------------------------------------------------------------------------------------


def test_the_same_network_by_list_and_by_add() -> None:
    listed = Sequential([L.Input((8, 8, 1)), L.Conv2D(4, 3), L.Flatten(), L.Dense(2)])
    added = Sequential()
    for layer in (L.Conv2D(4, 3, input_shape=(8, 8, 1)), L.Flatten(), L.Dense(2)):
        added.add(layer)
    for model in (listed, added):
        assert model.built
        assert model.input_shape == (None, 8, 8, 1)
        assert model.output_shape == (None, 2)
        assert [type(layer).__name__ for layer in model.layers] == ["Conv2D", "Flatten", "Dense"]
        assert model.count_params() == 40 + 290
    assert [layer.name for layer in added.layers] == ["conv2d_1", "flatten_1", "dense_1"]
    assert added.name == "sequential_1"


def test_a_model_without_input_shape_is_built_by_the_first_data() -> None:
    model = Sequential([L.Flatten(), L.Dense(2)])
    assert not model.built
    with pytest.raises(AttributeError, match="no input shape"):
        _ = model.input_shape
    with pytest.raises(ValueError, match="before it is built"):
        model.count_params()
    assert model.predict(np.zeros((3, 4, 5)), verbose=0).shape == (3, 2)
    assert model.input_shape == (None, 4, 5)
    assert model.count_params() == 42


def test_pop_takes_the_top_layer_off() -> None:
    model = Sequential([L.Dense(4, input_shape=(3,)), L.Dense(2)])
    top = model.pop()
    assert top.name == "dense_1"
    assert model.output_shape == (None, 4)
    model.add(L.Dense(5))
    assert model.predict(np.zeros((1, 3)), verbose=0).shape == (1, 5)
    with pytest.raises(IndexError):
        Sequential().pop()


def test_models_can_be_layers() -> None:
    inner = Sequential([L.Dense(4, activation="relu", input_shape=(3,)), L.Dense(2)])
    outer = Sequential([inner, L.Dense(1)])
    assert outer.input_shape == (None, 3)
    assert outer.count_params() == inner.count_params() + 3
    assert next(iter(outer.named_weights())) == "sequential/dense/kernel"
    outer.compile("sgd", "mse")
    before = inner.get_weights()
    outer.fit(np.ones((4, 3)), np.ones(4), verbose=0)
    assert any((a != b).any() for a, b in zip(before, inner.get_weights()))


def test_weights_travel_between_models() -> None:
    a, b = classifier(), classifier()
    x = bars(5)[0]
    assert (a.predict(x, verbose=0) != b.predict(x, verbose=0)).any()
    b.set_weights(a.get_weights())
    assert (a.predict(x, verbose=0) == b.predict(x, verbose=0)).all()
    assert list(a.named_weights()) == ["conv2d/kernel", "conv2d/bias", "dense/kernel", "dense/bias"]


def test_get_layer() -> None:
    model = classifier()
    assert model.get_layer("dense") is model.layers[3]
    assert model.get_layer(index=0) is model.layers[0]
    with pytest.raises(ValueError, match=r"no layer 'dens'.*dense"):
        model.get_layer("dens")


def test_summary() -> None:
    printed: list[str] = []
    model = classifier()
    model.summary(print_fn=printed.append)
    text = "\n".join(printed)
    assert 'Model: "sequential"' in text
    for part in ("conv2d (Conv2D)", "(None, 6, 6, 8)", "max_pooling2d (MaxPooling2D)", "219"):
        assert part in text
    assert " Total params: 299 (1.17 KB)" in text
    assert " Trainable params: 299 (1.17 KB)" in text
    assert " Non-trainable params: 0 (0.00 B)" in text
    model.layers[0].trainable = False
    printed.clear()
    model.summary(print_fn=printed.append)
    assert " Non-trainable params: 80 (320.00 B)" in printed[0]


def test_summary_before_building(capsys: pytest.CaptureFixture[str]) -> None:
    Sequential([L.Dense(2)]).summary()
    printed = capsys.readouterr().out
    assert "0 (unbuilt)" in printed
    assert "?" in printed


# -- training --------------------------------------------------------------------------------------------------------


def test_a_step_of_gradient_descent_equals_numpy() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(5, 3)), rng.normal(size=(5, 2))
    model = Sequential([L.Dense(4, activation="tanh", input_shape=(3,)), L.Dense(2)])
    model.compile(SGD(learning_rate=0.1), "mse")
    w1, b1, w2, b2 = (w.astype(np.float64) for w in model.get_weights())
    loss = model.train_on_batch(x, y)
    hidden = np.tanh(x @ w1 + b1)
    out = hidden @ w2 + b2
    assert loss == pytest.approx(((out - y) ** 2).mean(), rel=1e-5)
    d_out = 2 * (out - y) / y.size
    d_hidden = d_out @ w2.T * (1 - hidden**2)
    expected = [
        w1 - 0.1 * x.T @ d_hidden,
        b1 - 0.1 * d_hidden.sum(axis=0),
        w2 - 0.1 * hidden.T @ d_out,
        b2 - 0.1 * d_out.sum(axis=0),
    ]
    for found, wanted in zip(model.get_weights(), expected):
        np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_a_convolutional_step_equals_finite_differences() -> None:
    x, y = bars(6)
    model = classifier(optimizer=SGD(learning_rate=1.0), metrics=None)
    before = [w.astype(np.float64) for w in model.get_weights()]

    def loss_at(weights: list[np.ndarray]) -> float:
        kernel, bias, dense, dense_bias = weights
        windows = np.lib.stride_tricks.sliding_window_view(x[..., 0], (3, 3), axis=(1, 2))
        maps = np.maximum(np.einsum("nijab,abk->nijk", windows, kernel[:, :, 0]) + bias, 0)
        pooled = maps.reshape(6, 3, 2, 3, 2, 8).max(axis=(2, 4))
        logits = pooled.reshape(6, -1) @ dense + dense_bias
        logits -= logits.max(axis=1, keepdims=True)
        return float((np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(6), y]).mean())

    found_loss = model.train_on_batch(x, y)
    assert found_loss == pytest.approx(loss_at(before), rel=1e-5)
    rng = np.random.default_rng(2)
    for number, (old, new) in enumerate(zip(before, model.get_weights())):
        direction = rng.normal(size=old.shape)
        shifted = [[*before[:number], old + sign * 1e-6 * direction, *before[number + 1 :]] for sign in (1, -1)]
        slope = (loss_at(shifted[0]) - loss_at(shifted[1])) / 2e-6
        assert ((old - new) * direction).sum() == pytest.approx(slope, rel=1e-3, abs=1e-5)


def test_fit_learns() -> None:
    x, y = bars(300)
    model = classifier(optimizer=Adam(learning_rate=0.01))
    history = model.fit(x, y, epochs=8, verbose=0, validation_data=bars(100, seed=1))
    assert history.history["val_accuracy"][-1] > 0.95
    assert history.history["loss"][-1] < 0.5 * history.history["loss"][0]
    loss, accuracy = model.evaluate(*bars(100, seed=1), verbose=0)
    assert loss == pytest.approx(history.history["val_loss"][-1], rel=1e-6)
    assert accuracy == history.history["val_accuracy"][-1]
    predicted = model.predict(bars(100, seed=1)[0], verbose=0)
    assert (predicted.argmax(axis=1) == bars(100, seed=1)[1]).mean() == pytest.approx(accuracy)


def test_a_loss_as_a_function_and_an_optimizer_as_an_object() -> None:
    model = classifier(loss=sparse_categorical_crossentropy, optimizer=Adam(), metrics=["accuracy"])
    history = model.fit(*bars(20), verbose=0)
    assert list(history.history) == ["loss", "accuracy"]
    assert model.metrics_names == ["loss", "accuracy"]


def test_history_averages_over_samples_with_a_smaller_last_batch() -> None:
    x, y = bars(10)
    model = classifier(optimizer=SGD(learning_rate=0.0))
    history = model.fit(x, y, batch_size=4, epochs=2, verbose=0)
    loss, accuracy = model.evaluate(x, y, batch_size=10, verbose=0)
    for epoch in range(2):
        assert history.history["loss"][epoch] == pytest.approx(loss, rel=1e-6)
        assert history.history["accuracy"][epoch] == pytest.approx(accuracy)
    assert history.epoch == [0, 1]
    assert history.params == {"epochs": 2, "steps": 3, "verbose": 0}
    assert model.history is history


def test_validation_split_takes_the_last_part_before_shuffling() -> None:
    x, y = bars(10)
    seen = []

    class Spy(L.Layer):
        def call(self, inputs: Tensor, training: bool = False) -> Tensor:
            seen.append((training, inputs.numpy().copy()))
            return inputs

        def compute_output_shape(self, input_shape: tuple) -> tuple:
            return input_shape

    model = Sequential([Spy(input_shape=(8, 8, 1)), L.Flatten(), L.Dense(3)])
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(x, y, batch_size=10, validation_split=0.25, verbose=0)
    (_, trained), (_, validated) = seen
    assert [training for training, _ in seen] == [True, False]
    # Keras keeps floor(10 * 0.75) = 7 to train on.
    images = x.astype(np.float32)
    assert (validated == images[7:]).all()
    assert sorted(trained[:, 0, 0, 0]) == sorted(images[:7, 0, 0, 0])
    assert (trained != images[:7]).any()


def test_without_shuffling_batches_keep_the_order() -> None:
    order: list[float] = []

    def note(inputs: Tensor) -> Tensor:
        order.extend(inputs.data[:, 0].tolist())
        return inputs

    model = Sequential([L.Activation(note, input_shape=(1,)), L.Dense(1)])
    model.compile("sgd", "mse")
    x = np.arange(7.0)[:, None]
    model.fit(x, x, batch_size=3, shuffle=False, verbose=0)
    assert order == x[:, 0].tolist()


@pytest.mark.parametrize("dtype", [np.uint8, np.float64, np.int32, bool])
def test_every_numeric_dtype_becomes_float32_per_batch(dtype: type) -> None:
    x = (np.random.default_rng(0).random((6, 8, 8, 1)) > 0.5).astype(dtype)
    model = classifier()
    assert model.predict(x, verbose=0).dtype == np.float32
    np.testing.assert_array_equal(model.predict(x, verbose=0), model.predict(x.astype(np.float32), verbose=0))
    model.fit(x, np.zeros(6), verbose=0)
    assert x.dtype == dtype


def weights_after_training(threads: int, seed: int) -> list[np.ndarray]:
    pycnn.set_num_threads(threads)
    clear_session()
    set_random_seed(seed)
    model = Sequential(
        [
            L.Conv2D(16, 3, activation="relu", padding="same", input_shape=(8, 8, 1)),
            L.Conv2D(16, 3, activation="relu"),
            L.MaxPooling2D(),
            L.AveragePooling2D(2, 1),
            L.Dropout(0.2),
            L.Flatten(),
            L.Dense(32, activation="relu"),
            L.Dense(3, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(*bars(70), batch_size=16, epochs=2, verbose=0)
    return model.get_weights()


def test_a_seed_repeats_a_run_bit_for_bit_for_any_number_of_threads() -> None:
    runs = [weights_after_training(threads, seed=5) for threads in (pycnn.get_num_threads(), 1, 1)]
    other = weights_after_training(1, seed=6)
    for again in runs[1:]:
        for a, b in zip(runs[0], again):
            np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(runs[0], other))


def test_frozen_layers_stay() -> None:
    model = classifier()
    model.layers[0].trainable = False
    before = model.get_weights()
    model.fit(*bars(20), verbose=0)
    after = model.get_weights()
    assert (before[0] == after[0]).all()
    assert (before[2] != after[2]).any()
    model.trainable = False
    model.fit(*bars(20), verbose=0)
    assert all((a == b).all() for a, b in zip(after, model.get_weights()))


def test_evaluate_and_predict_build_no_graph() -> None:
    seen = []
    model = Sequential([L.Dense(2, input_shape=(3,)), L.Activation(lambda t: (seen.append(t), t)[1])])
    model.compile("sgd", "mse")
    model.predict(np.ones((2, 3)), verbose=0)
    model.evaluate(np.ones((2, 3)), np.ones((2, 2)), verbose=0)
    assert not any(t.requires_grad for t in seen)
    model.train_on_batch(np.ones((2, 3)), np.ones((2, 2)))
    assert seen[-1].requires_grad


def test_results_of_evaluate() -> None:
    x, y = bars(20)
    model = classifier(metrics=None)
    assert isinstance(model.evaluate(x, y, verbose=0), float)
    model = classifier(metrics=["accuracy", "sparse_categorical_accuracy"])
    values = model.evaluate(x, y, verbose=0)
    assert len(values) == 3
    assert values[1] == values[2]
    named = model.evaluate(x, y, verbose=0, return_dict=True)
    assert list(named) == ["loss", "accuracy", "sparse_categorical_accuracy"]
    assert list(named.values()) == values


def test_binary_and_one_hot_accuracy() -> None:
    x, y = bars(40)
    binary = Sequential([L.Flatten(input_shape=(8, 8, 1)), L.Dense(1, activation="sigmoid")])
    binary.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    _, accuracy = binary.evaluate(x, y == 0, verbose=0)
    assert accuracy == ((binary.predict(x, verbose=0)[:, 0] > 0.5) == (y == 0)).mean()
    model = classifier(loss="categorical_crossentropy")
    _, accuracy = model.evaluate(x, np.eye(3)[y], verbose=0)
    assert accuracy == pytest.approx((model.predict(x, verbose=0).argmax(axis=1) == y).mean())


def test_no_samples_flow_through_predict() -> None:
    assert classifier().predict(np.zeros((0, 8, 8, 1)), verbose=0).shape == (0, 3)


def test_nan_flows_through() -> None:
    model = classifier()
    history = model.fit(np.full((4, 8, 8, 1), np.nan), np.zeros(4), verbose=0)
    assert math.isnan(history.history["loss"][0])


def test_zero_epochs() -> None:
    model = classifier()
    before = model.get_weights()
    assert model.fit(*bars(4), epochs=0, verbose=0).history == {}
    assert all((a == b).all() for a, b in zip(before, model.get_weights()))


# -- callbacks and progress -----------------------------------------------------------------------------------------


def test_order_of_callbacks() -> None:
    recorder = Recorder()
    model = classifier()
    model.fit(*bars(4), batch_size=2, verbose=0, callbacks=[recorder], validation_data=bars(2))
    assert recorder.moments == [
        "on_train_begin",
        "on_epoch_begin",
        *["on_train_batch_begin", "on_train_batch_end"] * 2,
        "on_test_begin",
        "on_test_batch_begin",
        "on_test_batch_end",
        "on_test_end",
        "on_epoch_end",
        "on_train_end",
    ]
    assert list(recorder.logs[-1]) == ["loss", "accuracy", "val_loss", "val_accuracy"]


def test_stop_training_ends_after_the_epoch() -> None:
    class Stop(Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.model.stop_training = True

    history = classifier().fit(*bars(8), batch_size=2, epochs=5, verbose=0, callbacks=[Stop()])
    assert history.epoch == [0]


def test_an_interrupted_fit_ends_cleanly_and_keeps_history_and_weights() -> None:
    class Interrupt(Callback):
        ended = False

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if len(self.model.history.epoch) == 2 and batch == 1:
                raise KeyboardInterrupt

        def on_train_end(self, logs: Any = None) -> None:
            self.ended = True

    model, interrupt = classifier(), Interrupt()
    before = model.get_weights()
    with pytest.raises(KeyboardInterrupt):
        model.fit(*bars(8), batch_size=2, epochs=5, verbose=0, callbacks=[interrupt])
    assert interrupt.ended
    assert isinstance(model.history, History)
    assert len(model.history.history["loss"]) == 2
    assert any((a != b).any() for a, b in zip(before, model.get_weights()))


def test_plain_progress_is_one_line_per_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    model = classifier()
    model.fit(*bars(10), batch_size=4, epochs=2, validation_split=0.2)
    model.evaluate(*bars(10))
    model.predict(bars(10)[0])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("Epoch 1/2 - 2/2 - ")
    assert "/step - loss: " in lines[0]
    assert " - accuracy: " in lines[0]
    assert " - val_accuracy: " in lines[0]
    assert lines[2].startswith("Test - 1/1 - ")
    assert lines[3].startswith("Predict - 1/1 - ")
    assert "loss" not in lines[3]
    model.fit(*bars(10), verbose=0)
    assert capsys.readouterr().out == ""


def test_time_per_step_leaves_out_the_first_step_and_the_validation(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Epoch begins, five steps end (the first compiled something), validation, the epoch ends.
    clock = iter([0.0, 7.0, 7.25, 7.5, 7.75, 8.0, 20.0])
    monkeypatch.setattr("pycnn.callbacks.callback.time.perf_counter", lambda: next(clock))
    classifier().fit(*bars(5), batch_size=1, verbose=2, validation_data=bars(2))
    assert capsys.readouterr().out.startswith("Epoch 1/1 - 5/5 - 20.0s - 250ms/step - loss: ")


# -- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["fit", "evaluate", "train_on_batch"])
def test_training_before_compiling(call: str) -> None:
    model = Sequential([L.Dense(1, input_shape=(2,))])
    with pytest.raises(RuntimeError, match=r"call compile"):
        getattr(model, call)(np.zeros((1, 2)), np.zeros(1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss": "sparse_categorical_crossentropi"}, "sparse_categorical_crossentropy"),
        ({"optimizer": "adm"}, "adam"),
        ({"metrics": ["acuracy"]}, "accuracy"),
        ({"metrics": "accuracy"}, r"expected a list"),
    ],
)
def test_compile_names_the_nearest(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        classifier(**arguments)


X, Y = bars(6)


@pytest.mark.parametrize("call", ["fit", "evaluate", "train_on_batch", "test_on_batch"])
def test_training_without_any_loss(call: str) -> None:
    model = classifier(loss=None)
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"there is no loss to compute; give compile\(\) one"):
        getattr(model, call)(X, Y)
    assert all((a == b).all() for a, b in zip(before, model.get_weights()))
    assert model.predict(X, verbose=0).shape == (6, 3)


@pytest.mark.parametrize(
    ("x", "y", "arguments", "message"),
    [
        (X, Y[:5], {}, "one label for each of the 6 samples, received 5"),
        (X, Y + 1, {}, r"labels in 0 \.\. 2 for 3 classes, received values from"),
        (X, np.eye(3)[Y], {}, r"received \(6, 3\).*categorical_crossentropy"),
        (X[..., 0], Y, {}, r"\(None, 8, 8, 1\), received \(None, 8, 8\); .*np.newaxis"),
        (X[:, :7], Y, {}, r"expected inputs of shape \(None, 8, 8, 1\), received \(None, 7, 8, 1\)"),
        (X[:0], Y[:0], {}, "at least one sample"),
        (X, Y, {"batch_size": 0}, "batch_size: expected an integer of at least 1, received 0"),
        (X, Y, {"batch_size": 2.5}, "batch_size.*received 2.5"),
        (X, Y, {"epochs": -1}, "epochs: expected an integer of at least 0, received -1"),
        (X, Y, {"validation_split": 1.0}, r"\[0, 1\), received 1.0"),
        (X, Y, {"validation_split": -0.1}, r"received -0.1"),
        (X, Y, {"validation_split": 0.9}, "samples on both sides"),
        (X, Y, {"validation_data": X}, r"a pair \(x, y\), received an object of type ndarray of length 6"),
        (X, Y, {"validation_data": 1}, r"a pair \(x, y\), received an object of type int$"),
        (X, Y, {"validation_data": (X, Y[:1])}, "validation y: .*6 samples, received 1"),
        (X, Y, {"validation_data": (X[..., 0], Y)}, "expected inputs of shape"),
        (X, Y, {"verbose": 3}, "verbose"),
        ([[1, 2], [3]], [0, 1], {}, "x: expected an array, received rows of different lengths"),
        (np.float32(3), Y, {}, "one entry per sample"),
    ],
)
def test_bad_data_is_refused_before_training(x: Any, y: Any, arguments: dict[str, Any], message: str) -> None:
    model = classifier()
    before = model.get_weights()
    with pytest.raises(ValueError, match=message):
        model.fit(x, y, **{"verbose": 0, **arguments})
    assert all((a == b).all() for a, b in zip(before, model.get_weights()))


@pytest.mark.parametrize(
    "bad", [np.full((6, 8, 8, 1), None), np.full((6, 8, 8, 1), "a"), np.zeros((6, 8, 8, 1), complex)]
)
def test_arrays_of_anything_but_numbers(bad: np.ndarray) -> None:
    with pytest.raises(TypeError, match="x: expected an array of numbers, received one of dtype"):
        classifier().fit(bad, Y, verbose=0)
    with pytest.raises(TypeError, match="y: expected an array of numbers"):
        classifier().fit(X, bad[:, 0, 0, 0], verbose=0)


def test_evaluating_needs_a_sample_and_predicting_does_not() -> None:
    model = classifier()
    with pytest.raises(ValueError, match="at least one sample"):
        model.evaluate(X[:0], Y[:0])
    with pytest.raises(ValueError, match="at least one sample"):
        model.train_on_batch(X[:0], Y[:0])
    assert model.predict(X[:0], verbose=0).shape == (0, 3)


def test_no_batch_size_is_one_of_32(capsys: pytest.CaptureFixture[str]) -> None:
    model = classifier()
    model.fit(*bars(33), batch_size=None)
    model.evaluate(*bars(33), batch_size=None)
    model.predict(bars(33)[0], batch_size=None)
    assert [" 2/2 " in line for line in capsys.readouterr().out.splitlines()] == [True] * 3


def test_gradients_of_an_interrupted_step_do_not_count() -> None:
    model, other = classifier(optimizer="sgd"), classifier(optimizer="sgd")
    other.set_weights(model.get_weights())
    for weight in model.weights:
        weight.grad = Tensor(np.ones(weight.shape, np.float32))
    for one in (model, other):
        one.train_on_batch(X, Y)
    for a, b in zip(model.get_weights(), other.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_a_model_that_is_not_trainable_stays_as_it_is() -> None:
    model = Sequential([L.Dense(3, input_shape=(2,)), L.Dense(1)], trainable=False)
    outer = Sequential([model, L.Dense(1)])
    assert model.trainable_weights == []
    assert len(model.non_trainable_weights) == 4
    assert len(outer.trainable_weights) == 2
    before = model.get_weights()
    for trained in (model, outer):
        trained.compile("sgd", "mse")
        trained.fit(np.ones((4, 2)), np.ones(4), verbose=0)
    assert all((a == b).all() for a, b in zip(before, model.get_weights()))


def test_callbacks_must_be_a_list() -> None:
    with pytest.raises(TypeError, match="callbacks: expected a list of Callback objects, received 1"):
        classifier().fit(X, Y, verbose=0, callbacks=1)


def test_callbacks_must_be_callbacks() -> None:
    with pytest.raises(TypeError, match="expected Callback objects"):
        classifier().fit(X, Y, verbose=0, callbacks=[print])


def test_add_refuses_what_does_not_fit_and_stays_as_it_was() -> None:
    model = Sequential([L.Conv2D(4, 3, input_shape=(6, 6, 1)), L.MaxPooling2D()])
    with pytest.raises(
        ValueError, match=r"Conv2D 'conv2d_1': a window of \(3, 3\) does not fit into its input of \(2, 2\)"
    ):
        model.add(L.Conv2D(4, 3))
    with pytest.raises(TypeError, match="expected a layer, received 'dense'"):
        model.add("dense")
    with pytest.raises(ValueError, match="a second 'conv2d'"):
        model.add(L.Conv2D(4, 1, name="conv2d"))
    with pytest.raises(ValueError, match="comes first and only once"):
        model.add(L.Input((3,)))
    assert len(model.layers) == 2
    assert model.output_shape == (None, 2, 2, 4)
    first = Sequential()
    with pytest.raises(ValueError, match="does not fit"):
        first.add(L.Conv2D(4, 9, input_shape=(6, 6, 1)))
    first.add(L.Conv2D(4, 3, input_shape=(8, 8, 1)))
    assert first.input_shape == (None, 8, 8, 1)


def test_flatten_and_dense_on_unknown_sizes() -> None:
    with pytest.raises(ValueError, match=r"Dense 'dense': expected a known size"):
        Sequential([L.Input((None, None, 3)), L.Flatten(), L.Dense(2)])


def test_a_model_without_layers() -> None:
    model = Sequential()
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="at least one layer"):
        model.fit(np.zeros((1, 2)), np.zeros(1))


def test_a_stack_refuses_a_layer_of_several_outputs() -> None:
    x = L.Input((4,))
    two = Model(x, [L.Dense(2)(x), L.Dense(3)(x)])
    model = Sequential([L.Input((4,)), L.Dense(4)])
    with pytest.raises(
        ValueError, match=r"one output, received Functional .* with a list of 2; Model\(inputs, outputs\)"
    ):
        model.add(two)
    assert model.output_shape == (None, 4)
    model = Sequential([L.Dense(4), two])
    with pytest.raises(ValueError, match="expected a layer with one output"):
        model(np.zeros((1, 4), np.float32))
