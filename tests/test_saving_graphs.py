"""Graphs of layers in files: frozen and shared layers, arithmetic, dictionaries, and how training goes on."""

import json
from itertools import pairwise

import numpy as np
import pytest

import pycnn
from pycnn.layers import (
    Add,
    BatchNormalization,
    Dense,
    Dropout,
    Input,
    Layer,
    ReLU,
)
from pycnn.models import Functional, Model, Sequential, graph_configuration, load_model, model_from_json
from pycnn.saving.registry import register_keras_serializable
from pycnn.saving.serialization import deserialize_keras_object, serialize_keras_object
from pycnn.utils import set_random_seed

X = np.random.default_rng(0).normal(size=(24, 4)).astype(np.float32)
Y = np.random.default_rng(1).normal(size=(24, 2)).astype(np.float32)


def as_json(value):
    return json.loads(json.dumps(value))


def saved_and_loaded(model, folder, suffix="pycnn", **how):
    if suffix == "keras":
        pytest.importorskip("h5py")
    model.save(folder / f"model.{suffix}")
    return load_model(folder / f"model.{suffix}", **how)


def same(first, second):
    return len(first) == len(second) and all((a == b).all() for a, b in zip(first, second))


def numbers(model, *inputs):
    return np.asarray(model(*inputs).detach().numpy())


# -- what is frozen --------------------------------------------------------------------------------------------------


def graph():
    x = Input((4,))
    h = Dropout(0.3)(Dense(4, activation="relu", name="one")(x))
    h = BatchNormalization(name="norm")(h)
    return Model(x, Dense(2)(Add()([h, Dense(4, name="two")(x)])))


def stack():
    return Sequential([Input((4,)), Dense(4, name="one"), Dense(4, name="two"), Dense(2)])


@pytest.mark.parametrize("suffix", ["pycnn", "keras"])
def test_frozen_layers_stay_frozen(suffix, tmp_path):
    model = graph()
    model.get_layer("one").trainable = model.get_layer("norm").trainable = False
    outer = Sequential([Input((4,)), model, Dense(2)])
    for each in (model, outer):
        again = saved_and_loaded(each, tmp_path, suffix)
        assert len(again.trainable_weights) == len(each.trainable_weights) < len(each.weights)
        assert [w.requires_grad for w in again.weights] == [w.requires_grad for w in each.weights]
    model.trainable = False
    assert not saved_and_loaded(model, tmp_path, suffix).trainable_weights
    assert len(Functional.from_config(model.get_config()).trainable_weights) == 0


def trained(model):
    model.fit(X, Y, epochs=2, batch_size=5, verbose=0)
    return model


@pytest.mark.parametrize("made", [graph, stack])
@pytest.mark.parametrize(
    ("first", "saved", "last"),
    [
        pytest.param(False, False, False, id="frozen always"),
        pytest.param(True, False, False, id="frozen when it is saved"),
        pytest.param(True, False, True, id="frozen while it is saved"),
    ],
)
def test_training_goes_on_with_the_same_bits(made, first, saved, last, tmp_path):
    set_random_seed(1)
    model = made()
    model.get_layer("one").trainable = first
    model.compile(pycnn.optimizers.Adam(0.01), "mse")
    trained(model).get_layer("one").trainable = saved
    model.save(tmp_path / "model.pycnn")
    model.get_layer("one").trainable = last
    expected = trained(model).get_weights()
    again = load_model(tmp_path / "model.pycnn", resume=True)
    again.get_layer("one").trainable = last
    assert same(trained(again).get_weights(), expected)


# -- what is shared --------------------------------------------------------------------------------------------------


def shared_with_the_outer(**how):
    shared = Dense(3, name="shared", **how)
    x, y = Input((3,)), Input((3,))
    inner = Model(x, shared(x), name="inner")
    return Model(y, Dense(2)(inner(shared(y))))


def shared_between_graphs(**how):
    shared = Dense(3, name="shared", **how)
    a, b, y = Input((3,)), Input((3,)), Input((3,))
    first, second = Model(a, shared(a), name="first"), Model(b, shared(b), name="second")
    return Model(y, Add()([first(y), second(y)]))


def shared_between_stacks(**how):
    shared = Dense(3, name="shared", **how)
    first = Sequential([Input((3,)), shared], name="first")
    second = Sequential([Input((3,)), shared], name="second")
    y = Input((3,))
    return Model(y, Add()([first(y), second(y)]))


SHARING = [shared_with_the_outer, shared_between_graphs, shared_between_stacks]


@pytest.mark.parametrize("made", SHARING)
@pytest.mark.parametrize("suffix", ["pycnn", "keras"])
def test_a_layer_that_models_share_is_one_layer_again(made, suffix, tmp_path):
    model = made()
    again = saved_and_loaded(model, tmp_path, suffix)
    assert [w.shape for w in again.weights] == [w.shape for w in model.weights]
    assert same(again.get_weights(), model.get_weights())
    data = np.ones((2, 3), np.float32)
    assert (numbers(again, data) == numbers(model, data)).all()
    assert model_from_json(model.to_json()).count_params() == model.count_params()


@pytest.mark.parametrize("made", SHARING)
def test_a_layer_that_models_share_is_regularised_once(made):
    model = made(kernel_regularizer="l2", activity_regularizer="l2")
    assert len(model.losses) == 1
    model(np.ones((2, 3), np.float32))
    # One of the kernel and, as the layer is called twice, two of what it gave.
    assert len(model.losses) == 3


# -- arithmetic ------------------------------------------------------------------------------------------------------


def arithmetic():
    x = Input((4, 6), name="x")
    h = abs(2 * x - 1.5) ** 2 / (x * x + np.arange(1, 7, dtype=np.float32)) - (1 - x) + -x
    parts = [h[:, 1:3], h[:, :1] + Dense(6)(h)[..., ::2][:, 0:2, None, 0], 2**x, 1 / (h + 9), h[:, -1], x[0:2]]
    return Model(x, parts)


def all_numbers(model, data):
    return [np.asarray(each.detach().numpy()) for each in model(data)]


@pytest.mark.parametrize("suffix", ["pycnn", "keras"])
def test_arithmetic_is_the_same_again(suffix, tmp_path):
    model, data = arithmetic(), np.random.default_rng(0).normal(size=(3, 4, 6)).astype(np.float32)
    again = saved_and_loaded(model, tmp_path, suffix)
    for before, after in zip(all_numbers(model, data), all_numbers(again, data), strict=True):
        assert (before == after).all()
    assert again.output_shape == model.output_shape
    assert [operation.name for operation in again.operations] == [operation.name for operation in model.operations]
    assert model_from_json(model.to_json()).to_json() == model.to_json()


def test_arithmetic_keeps_its_precision(tmp_path):
    x = Input((3,), dtype="float64")
    model = Model(x, 2 * x + np.full(3, 0.1))
    again = saved_and_loaded(model, tmp_path)
    assert again.output.dtype == "float64"
    assert (again(np.ones((1, 3))).numpy() == 2.1).all()


def test_keras_reads_arithmetic_and_writes_it(tmp_path):
    keras = pytest.importorskip("keras")
    data = np.random.default_rng(0).normal(size=(3, 4, 6)).astype(np.float32)
    model = arithmetic()
    model.save(tmp_path / "ours.keras")
    theirs = keras.models.load_model(tmp_path / "ours.keras")
    for before, after in zip(all_numbers(model, data), theirs(data), strict=True):
        np.testing.assert_allclose(keras.ops.convert_to_numpy(after), before, rtol=1e-5, atol=1e-5)
    x = keras.layers.Input((4, 6))
    y = abs(2 * x - 1.0) ** 2 / (x * x + np.ones(6, "float32"))
    original = keras.Model(x, keras.layers.Dense(2)(-y[:, 1:3] + (1 - x)[:, 0, None]))
    original.save(tmp_path / "theirs.keras")
    ours = load_model(tmp_path / "theirs.keras")
    expected = keras.ops.convert_to_numpy(original(data))
    np.testing.assert_allclose(numbers(ours, data), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"class_name": "Relu", "module": "keras.src.ops.nn"}, "unknown class 'Relu'"),
        ({"class_name": "Matmul"}, "unknown class 'Matmul'"),
        ({"class_name": "Operation"}, "unknown class 'Operation'"),
        ({"inbound_nodes": []}, "expected one call of an operation, received 0"),
        ({"inbound_nodes": [{"args": [1, 2], "kwargs": {}}]}, "expected a symbolic tensor"),
        ({"inbound_nodes": [{"args": [1], "kwargs": {}}]}, "expected 2 operands"),
        ({"inbound_nodes": [{"args": [["x", 0, 0], "text"], "kwargs": {}}]}, "received str"),
        ({"inbound_nodes": [{"args": [["x", 0, 0], 1], "kwargs": {"out": 1}}]}, "expected 2 operands"),
        ({"name": None}, "name"),
    ],
)
def test_operations_that_there_are_not_are_refused(changed, message):
    x = Input((3,), name="x")
    config = as_json(serialize_keras_object(Model(x, Dense(2, name="end")(x + 1))))
    config["config"]["layers"][1].update(changed)
    with pytest.raises((ValueError, TypeError), match=message):
        deserialize_keras_object(config)


# -- what is called on dictionaries ----------------------------------------------------------------------------------


@register_keras_serializable("tests")
class Merge(Layer):
    def build(self, input_shape):
        self.kernel = self.add_weight((input_shape["a"][-1], 2), name="kernel")

    def call(self, inputs):
        return inputs["a"] @ self.kernel + inputs["b"] @ self.kernel

    def compute_output_shape(self, input_shape):
        return (input_shape["a"][0], 2)


@register_keras_serializable("tests")
class OfDictionary(Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = Dense(2)

    def call(self, inputs):
        return self.dense(inputs["a"]) + self.dense(inputs["b"][0])


def test_layers_and_models_of_dictionaries_are_the_same_again(tmp_path):
    data = {"a": X[:, :3], "b": X[:, 1:]}
    inputs = {"a": Input((3,), name="a"), "b": Input((3,), name="b")}
    model = Model(inputs, Merge()(inputs))
    assert (numbers(saved_and_loaded(model, tmp_path), data) == numbers(model, data)).all()
    own, nested = OfDictionary(), {"a": X[:, :3], "b": [X[:, 1:]]}
    expected = numbers(own, nested)
    assert (numbers(saved_and_loaded(own, tmp_path), nested) == expected).all()


# -- long chains -----------------------------------------------------------------------------------------------------


def chain(length):
    def entry(kind, name, below, **config):
        calls = [{"args": [{"class_name": "__keras_tensor__", "config": {"keras_history": [below, 0, 0]}}]}]
        own = {"class_name": kind, "module": "keras.layers", "config": {"name": name, **config}, "name": name}
        return own | {"inbound_nodes": calls if below else []}

    names = ["x", *(f"relu{place}" for place in range(length))]
    entries = [entry("InputLayer", "x", None, batch_shape=[None, 3])]
    entries += [entry("ReLU", name, below) for below, name in pairwise(names)]
    config = {"name": "chain", "layers": entries[::-1], "input_layers": ["x", 0, 0]}
    return {"class_name": "Functional", "config": config | {"output_layers": [names[-1], 0, 0]}}


def test_a_chain_in_the_wrong_order_is_read_once(monkeypatch):
    looked, places_in = [], graph_configuration._places_in
    monkeypatch.setattr(graph_configuration, "_places_in", lambda value: looked.append(1) or places_in(value))
    model = deserialize_keras_object(chain(500))
    assert len(model.layers) == 501
    assert len(looked) < 5 * 500  # and not a part of 500 * 500


def test_one_relu_is_called_as_often_as_it_was():
    x, relu = Input((3,)), ReLU()
    y = relu(Dense(3)(relu(x) - 1))
    model = Model(x, relu(y - 1))
    again = deserialize_keras_object(as_json(serialize_keras_object(model)))
    again.set_weights(model.get_weights())
    assert (numbers(again, X[:, :3]) == numbers(model, X[:, :3])).all()
