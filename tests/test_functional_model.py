"""Models that are graphs of layers: alone, and beside Keras where it is installed."""

from __future__ import annotations

import copy
import pickle
import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import pycnn
from pycnn import Input, KerasTensor, Model, Sequential, Tensor, activations, no_grad
from pycnn import layers as L
from pycnn.models import Functional, schedule
from pycnn.models.schedule import Call, Chain, Schedule, Slot
from pycnn.utils import clear_session, set_random_seed
from tests.reference import assert_close

RNG: np.random.Generator  # anew for each test


@pytest.fixture(autouse=True)
def _fresh() -> None:
    global RNG
    clear_session()
    set_random_seed(0)
    RNG = np.random.default_rng(3)


@pytest.fixture
def keras() -> Any:
    found = pytest.importorskip("keras", reason="Keras is in the extra 'peers'")
    if found.backend.backend() != "torch":
        pytest.skip("the comparison is with Keras on PyTorch: set KERAS_BACKEND=torch")
    found.utils.clear_session(free_memory=False)
    return found


# -- networks, built by the names that both packages have ------------------------------------------------------------


def residual(k: Any) -> Any:
    """Residual blocks as ResNet50 has them: the ReLUs are layers."""
    images = k.Input((8, 8, 3), name="images")
    x = k.layers.Conv2D(8, 3, padding="same", name="stem")(images)
    x = k.layers.Activation("relu")(k.layers.BatchNormalization()(x))
    for filters, strides in ((8, 1), (12, 2)):
        shortcut = x
        if strides > 1:
            shortcut = k.layers.BatchNormalization()(k.layers.Conv2D(filters, 1, strides)(x))
        y = k.layers.Conv2D(filters, 3, strides, padding="same")(x)
        y = k.layers.ReLU()(k.layers.BatchNormalization()(y))
        y = k.layers.BatchNormalization()(k.layers.Conv2D(filters, 3, padding="same")(y))
        x = k.layers.Activation("relu")(k.layers.Add()([shortcut, y]))
    return k.Model(images, k.layers.Dense(3)(k.layers.GlobalAveragePooling2D()(x)))


def inception(k: Any) -> Any:
    """Branches that are concatenated, and two outputs."""
    images = k.Input((9, 9, 2))
    x = k.layers.MaxPooling2D()(k.layers.BatchNormalization()(k.layers.Conv2D(4, 3, activation="relu")(images)))
    branches = [
        k.layers.Conv2D(3, 1, activation="relu")(x),
        k.layers.Conv2D(2, 3, padding="same")(k.layers.Activation("relu")(k.layers.Conv2D(3, 1)(x))),
        k.layers.AveragePooling2D(3, 1, padding="same")(x),
    ]
    merged = k.layers.Concatenate()(branches)
    maps = k.layers.Conv2D(2, 1, name="maps")(merged)
    return k.Model(inputs=images, outputs=[k.layers.Flatten()(merged), maps], name="inception")


def siamese(k: Any) -> Any:
    """A shared model, which has a shared layer, on two inputs."""
    one = k.Input((5,))
    dense = k.layers.Dense(5, activation="tanh")
    shared = k.Model(one, dense(dense(one)), name="shared")
    left, right = k.Input((5,), name="left"), k.Input((5,), name="right")
    a, b = shared(left), shared(right)
    distance = k.layers.Dot(axes=1, normalize=True)([a, b])
    return k.Model([left, right], k.layers.Dense(1)(k.layers.concatenate([distance, k.layers.subtract([a, b])])))


def arithmetic(k: Any) -> Any:
    """Operators on symbolic tensors, a Sequential as a layer, dictionaries."""
    x, y = k.Input((4,), name="x"), k.Input((4,), name="y")
    stack = k.Sequential([k.Input((4,)), k.layers.Dense(6, activation="relu"), k.layers.Dense(4)], name="stack")
    z = 2 * stack(x) - y / 4 + 1
    z = abs(-z) ** 2 + z[:, 1:2]
    return k.Model({"x": x, "y": y}, {"sum": x + y, "all": k.layers.Dense(2)(z)})


def deep(k: Any) -> Any:
    """Branches of different lengths from one tensor, which is an output, too; an input that nobody reads."""
    x, unused = k.Input((3,)), k.Input((2,), name="unused")
    trunk = k.layers.Dense(4, name="trunk")(x)
    long = trunk
    for _ in range(3):
        long = k.layers.Dense(4)(long)
    short = k.layers.Activation("tanh")(trunk)
    return k.Model([x, unused], [k.layers.Multiply()([long, short]), trunk])


NETWORKS: list[Callable[[Any], Any]] = [residual, inception, siamese, arithmetic, deep]
#: What the networks find here by Keras' names.
OURS = SimpleNamespace(layers=L, Input=Input, Model=Model, Sequential=Sequential)
by_name = pytest.mark.parametrize("build", NETWORKS, ids=lambda build: build.__name__)


def random_weights(model: Any) -> list[np.ndarray]:
    """Weights of a model: positive for variances, and small enough for its depth."""
    return [RNG.uniform(0.3, 1.0, weight.shape) * 0.6 for weight in model.get_weights()]


def samples(model: Any, batch: int = 4) -> Any:
    """Inputs in the structure of a model's."""
    return pycnn.structures.mapped(
        lambda tensor: RNG.normal(size=(batch, *tensor.shape[1:])).astype("float32"), model.input
    )


# -- beside Keras ----------------------------------------------------------------------------------------------------


@by_name
def test_structure_is_that_of_keras(build: Any, keras: Any) -> None:
    ours, theirs = build(OURS), build(keras)
    assert type(ours).__name__ == type(theirs).__name__ == "Functional"
    assert [layer.name for layer in ours.layers] == [layer.name for layer in theirs.layers]
    assert [type(layer).__name__ for layer in ours.layers] == [type(layer).__name__ for layer in theirs.layers]
    assert [operation.name for operation in ours.operations] == [operation.name for operation in theirs.operations]
    assert ours.output_names == theirs.output_names
    assert ours.input_shape == theirs.input_shape
    assert ours.output_shape == theirs.output_shape
    assert [x.name for x in ours.inputs if x.name != "keras_tensor"] == [
        x.name for x in theirs.inputs if x.name != "keras_tensor"
    ]
    assert [w.shape for w in ours.weights] == [tuple(w.shape) for w in theirs.weights]
    assert [w.shape for w in ours.trainable_weights] == [tuple(w.shape) for w in theirs.trainable_weights]
    # Keras counts the models that a layer was in when it was built; here it is those that it is in.
    paths = [weight.path for weight in theirs.weights]
    assert [name.split("/")[-2:] for name in ours.named_weights()] == [path.split("/")[-2:] for path in paths]


@by_name
@pytest.mark.parametrize("training", [False, True])
def test_outputs_and_gradients_are_those_of_keras(build: Any, training: bool, keras: Any) -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = build(OURS), build(keras)
    weights = random_weights(ours)
    ours.set_weights(weights)
    theirs.set_weights(weights)
    x = samples(ours)
    y, z = (pycnn.structures.leaves(model(x, training=training)) for model in (ours, theirs))
    assert len(y) == len(z)
    for a, b in zip(y, z):
        b = b.detach().numpy()
        np.testing.assert_allclose(a.data, b, rtol=2e-4, atol=2e-5 * abs(b).max())
        dy = RNG.normal(size=b.shape).astype("float32")
        if a.requires_grad:  # the sum of two inputs has no gradient
            a.backward(dy, retain_graph=True)
        b_tensor = z[[each is a for each in y].index(True)]
        if b_tensor.requires_grad:
            b_tensor.backward(torch.tensor(dy), retain_graph=True)
    for a, b in zip(ours.trainable_weights, theirs.trainable_weights):
        expected = b.value.grad.numpy()
        np.testing.assert_allclose(a.grad.data, expected, rtol=2e-3, atol=2e-4 * max(1, abs(expected).max()))
    for a, b in zip(ours.weights, theirs.weights):
        np.testing.assert_allclose(a.data, b.value.detach().numpy(), rtol=1e-4, atol=1e-5, err_msg=b.path)


@by_name
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"show_trainable": True},
        {"expand_nested": True},
        {"positions": [0.4, 0.6, 0.7, 1.0]},
        {"layer_range": ["input|images|left|x", ".*(dense|add|maps|trunk)"]},
    ],
    ids=str,
)
def test_summaries_are_those_of_keras(
    build: Any, settings: dict[str, Any], keras: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    printed: list[str] = []
    for model in (build(OURS), build(keras)):
        model.layers[-1].trainable = False
        model.summary(print_fn=lambda text, **_: printed.append(text), **settings)
    # The names of models are counted, and a Sequential of Keras is a functional model, too, which has one.
    ours, theirs = (text.rstrip("\n").replace("functional_1", "functional").split("\n") for text in printed)
    assert ours == theirs


@pytest.mark.parametrize("columns", ["60", "80"])
def test_summaries_of_stacks_are_those_of_keras(columns: str, keras: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    printed: list[str] = []
    for k in (OURS, keras):
        layers = [k.layers.Conv2D(4, 3), k.layers.SpatialDropout2D(0.5), k.layers.GlobalAveragePooling2D()]
        model = k.Sequential([k.Input((8, 8, 1)), *layers, k.layers.Dense(3)])
        model.summary(print_fn=lambda text, **_: printed.append(text.rstrip("\n")))
    assert printed[0].split("\n") == printed[1].split("\n")


def test_models_cut_out_of_models_are_those_of_keras(keras: Any) -> None:
    ours, theirs = residual(OURS), residual(keras)
    weights = random_weights(ours)
    ours.set_weights(weights)
    theirs.set_weights(weights)
    x = samples(ours)

    def cut(k: Any, model: Any) -> tuple[Any, Any]:
        features = k.Model(model.input, model.get_layer("add").output)
        head = k.Model(model.get_layer("add").output, model.output)
        return features, head

    (features, head), (their_features, their_head) = cut(OURS, ours), cut(keras, theirs)
    assert [layer.name for layer in features.layers] == [layer.name for layer in their_features.layers]
    assert [layer.name for layer in head.layers][1:] == [layer.name for layer in their_head.layers][1:]
    maps = features(x)
    np.testing.assert_allclose(maps.data, their_features(x).detach().numpy(), rtol=2e-4, atol=1e-4)
    assert_close(head(maps).data, ours(x).data, 1e-5)


# -- standing alone --------------------------------------------------------------------------------------------------


def test_symbolic_tensors() -> None:
    x = Input((8, 3), 4, name="x")
    assert isinstance(x, KerasTensor)
    assert (x.shape, x.dtype, x.name, x.ndim) == ((4, 8, 3), "float32", "x", 3)
    assert x.history.layer.name == "x"
    layer = L.Dense(2)
    y, z = layer(x), layer(x)
    assert y.shape == (4, 8, 2)
    assert y.history == (layer, 0, 0)
    assert z.history == (layer, 1, 0)
    assert [node.inputs for node in layer._nodes] == [[x], [x]]
    assert [node.outputs for node in layer._nodes] == [[y], [z]]
    assert layer.input is x
    assert layer.output is y  # of the first call, as in Keras
    assert KerasTensor((None, 2)).history is None
    for use in (np.asarray, bool, float, len, list):
        with pytest.raises(TypeError, match="is symbolic: it has a shape, but no numbers"):
            use(x)


def test_a_layer_that_was_never_called_has_no_output() -> None:
    layer = L.Dense(2)
    layer(np.ones((1, 3)))
    assert not hasattr(layer, "output")
    with pytest.raises(AttributeError, match="Dense 'dense' has no input: it was never called on a symbolic tensor"):
        _ = layer.input


def test_layers_of_a_sequential_model_have_inputs_and_outputs() -> None:
    model = Sequential([L.Dense(4, activation="relu", input_shape=(3,)), L.Dense(2, name="top")])
    model.add(L.Activation("softmax"))
    assert model.layers[0].input is model.input
    assert model.layers[-1].output is model.output
    features = Model(model.input, model.get_layer("top").output)
    x = samples(features)
    np.testing.assert_array_equal(features(x).data, model.layers[1](model.layers[0](x)).data)
    assert features.get_layer("top") is model.get_layer("top")
    unknown = Sequential([L.Dense(2)])
    with pytest.raises(AttributeError, match="before its input shape is known"):
        _ = unknown.output
    unknown.build((None, 3))
    assert unknown.output.shape == (None, 2)
    assert (unknown.input_names, unknown.output_names) == (["input_layer_1"], [unknown.layers[0].name])


def test_weights_of_shared_layers_are_there_once_and_get_the_sum_of_the_gradients() -> None:
    layer = L.Dense(2, use_bias=False)
    a, b = Input((3,)), Input((3,))
    model = Model([a, b], L.add([layer(a), layer(b)]))
    assert len(model.weights) == 1
    x, y = samples(model)
    model([x, y]).sum().backward()
    np.testing.assert_allclose(layer.kernel.grad.numpy(), (x + y).sum(0)[:, None].repeat(2, 1), rtol=1e-5)


def test_inputs_in_every_structure() -> None:
    a, b = Input((2,), name="a"), Input((3,), name="b")
    y = L.concatenate([L.Dense(2)(a), L.Dense(2)(b)])
    x = {"a": np.ones((4, 2)), "b": np.full((4, 3), 2.0)}
    listed, tupled, named = Model([a, b], y), Model((a, b), y), Model({"b": b, "a": a}, y)
    expected = listed([x["a"], x["b"]]).data
    forms = [[x["a"], x["b"]], (x["a"], Tensor(x["b"])), x, {**x, "more": 3}, {"a": x["a"].tolist(), "b": x["b"]}]
    for model in (listed, tupled, named):
        assert model.input_names == ["a", "b"]
        for form in forms[:-1]:
            np.testing.assert_array_equal(model(form).data, expected)
    single = Model(a, L.Dense(1)(a))
    for form in (x["a"], [x["a"]], (x["a"],), {"a": x["a"]}, x["a"].tolist(), Tensor(x["a"]).astype("float64")):
        np.testing.assert_array_equal(single(form).data, single(x["a"]).data)


def test_outputs_in_every_structure() -> None:
    x = Input((3,))
    y, z = L.Dense(2)(x), L.Dense(1)(x)
    ones = np.ones((5, 3))
    assert isinstance(Model(x, [y, z])(ones), list)
    assert isinstance(Model(x, (y, z))(ones), tuple)
    named = Model(x, {"z": z, "y": y})(ones)
    assert {key: value.shape for key, value in named.items()} == {"z": (5, 1), "y": (5, 2)}
    assert Model(x, [y])(ones).shape == (5, 2)
    assert Model(x, [y, x, y])(ones)[1].shape == (5, 3)
    nested = Model(x, {"z": z, "y": y})(Input((3,)))
    assert {key: value.shape for key, value in nested.items()} == {"z": (None, 1), "y": (None, 2)}


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: m([np.ones((1, 2))]), ValueError, "expected 2 inputs, 'a', 'b', received 1"),
        (lambda m: m(np.ones((1, 2))), ValueError, "expected 2 inputs, 'a', 'b', received 1"),
        (lambda m: m({"a": np.ones((1, 2)), "bb": 1}), ValueError, "inputs named 'a', 'b'.*'b' is missing.*'bb'"),
        (
            lambda m: m([np.ones((1, 2)), np.ones((1, 4))]),
            ValueError,
            r"input 'b': .*\(None, 3\), received \(None, 4\)",
        ),
        (lambda m: m([np.ones((1, 2)), None]), TypeError, "for the input 'b', received None"),
        (
            lambda m: Model(m.inputs[0], m.output),
            ValueError,
            "disconnected: the tensor .*name=b.*'dense_1'.*inputs, 'a'",
        ),
        (lambda m: Model(m.input, KerasTensor((2,), name="lost")), ValueError, "name=lost.* is an output"),
        (lambda m: Model(m.input, 3), TypeError, "expected outputs that are symbolic tensors.*received 3"),
        (lambda m: Model(np.ones(3), m.output), TypeError, "expected inputs that are symbolic tensors"),
        (lambda m: Model([], m.output), ValueError, "at least one symbolic tensor as inputs"),
        (lambda m: Model(m.input, []), ValueError, "at least one symbolic tensor as outputs"),
        (
            lambda m: Model(m.inputs[0], L.Dense(1, name="a")(m.inputs[0])),
            ValueError,
            "names of their own, received 2 with the name 'a'",
        ),
        (lambda m: m(np.ones((1, 2)), np.ones((1, 3))), TypeError, "training to be True, False or None.*ndarray"),
        (lambda m: m.inputs[0] + "1", TypeError, "received str"),
        (lambda m: m.inputs[0] + m.inputs[1], ValueError, r"stretch to one, received \(None, 2\), \(None, 3\)"),
        (lambda m: m.inputs[0][:, 2], IndexError, "from -2 to 1, received 2"),
        (lambda m: m.inputs[0][0, 0, 0], IndexError, "for 2 axes"),
        (lambda m: m.inputs[0][[0, 1]], TypeError, "an index of integers"),
        (lambda m: Sequential([L.Dense(1)(m.inputs[0])]), TypeError, "expected a layer, received <KerasTensor"),
    ],
)
def test_refusals(call: Any, error: Any, message: str) -> None:
    a, b = Input((2,), name="a"), Input((3,), name="b")
    model = Model([a, b], L.concatenate([L.Dense(2)(a), L.Dense(2)(b)]))
    with pytest.raises(error, match=message):
        call(model)


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda x: x[:, 1:, ::2], (None, 3, 3)),
        (lambda x: x[..., 0], (None, 4)),
        (lambda x: x[:, None, -1], (None, 1, 5)),
        (lambda x: (x * np.arange(5.0))[:, 0], (None, 5)),
        (lambda x: 1 - x**2 / 3, (None, 4, 5)),
        (lambda x: 2 / (1 + abs(x)) - 2**x, (None, 4, 5)),
        (lambda x: np.ones((4, 1)) + x * x, (None, 4, 5)),
        (lambda x: -x + x[:, :1], (None, 4, 5)),
    ],
)
def test_arithmetic_is_that_of_the_numbers(make: Any, shape: Any) -> None:
    x = Input((4, 5))
    y = make(x)
    assert y.shape == shape
    model = Model(x, y)
    assert model.layers == [x.history.layer]
    given = RNG.normal(size=(3, 4, 5)).astype("float32")
    found = model(given)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.data, make(given), rtol=1e-5, atol=1e-6)
    assert model.compute_output_shape((7, 4, 5)) == (7, *shape[1:])


def test_a_subclass_may_give_inputs_and_outputs() -> None:
    class Classifier(Model):
        def __init__(self, classes: int) -> None:
            images = Input((6, 6, 1))
            super().__init__(inputs=images, outputs=L.Dense(classes)(L.Flatten()(images)), name="mine")
            self.classes = classes

    model = Classifier(4)
    assert isinstance(model, Functional)
    assert (model.name, model.output_shape, model.classes) == ("mine", (None, 4), 4)
    assert model(np.ones((2, 6, 6, 1))).shape == (2, 4)
    assert Classifier(5).output_shape == (None, 5)


def test_what_a_call_says_about_training_counts() -> None:
    """As in Keras' guide of transfer learning: a model that is called with training=False is never trained."""
    x = Input((50,))
    dropout = L.Dropout(0.5)
    model = Model(x, [dropout(x), dropout(x, training=False), dropout(x, training=True)])
    ones = np.ones((2, 50))
    for training in (False, True):
        found = [bool((each.data == 0).any()) for each in model(ones, training=training)]
        assert found == [training, False, True]


def test_layers_in_the_call_of_another_are_called_with_its_training() -> None:
    class Own(Model):
        def __init__(self) -> None:
            super().__init__()
            self.dropout = L.Dropout(0.5)
            self.norm = L.BatchNormalization()

        def call(self, inputs: Tensor) -> Tensor:
            return self.norm(self.dropout(inputs))

    model = Own()
    ones = np.ones((4, 50))
    model(ones, training=True)
    moved = model.norm.get_weights()
    assert (moved[2] > 0).any()
    assert moved[2].max() <= 0.01 * 2 * (1 + 1e-6)  # by one step: looking for the shape of the output has moved nothing
    x = Input((50,))
    outer = Model(x, model(x))
    for training in (False, None, True):
        before = model.norm.get_weights()
        outer(ones, training=training)
        assert all((a == b).all() for a, b in zip(before, model.norm.get_weights())) == (not training)
    assert not (L.Dropout(0.5)(ones).data == 0).any()


def test_very_deep_graphs() -> None:
    x = Input((2,))
    layer, y = L.Activation("tanh"), x
    for _ in range(1500):
        y = layer(y)
    model = Model(x, y)
    assert len(layer._nodes) == 1500
    assert model(np.ones((1, 2))).shape == (1, 2)
    assert Model(layer._nodes[5].outputs[0], y).layers[1] is layer


@pytest.mark.parametrize(
    "make", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["copy", "pickle"]
)
def test_copies(make: Any) -> None:
    x = y = Input((3,))
    for _ in range(200):
        y = L.add([x, L.Dense(3)(y)])
    model = Model(x, y)
    copied = make(model)
    given = samples(model)
    expected = model(given).data
    np.testing.assert_array_equal(copied(given).data, expected)
    model.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
    np.testing.assert_array_equal(copied(given).data, expected)
    assert copied.layers[1].output.history.layer is copied.layers[1]


def test_training() -> None:
    images = Input((6, 6, 1))
    x = L.Conv2D(4, 3, padding="same", activation="relu")(images)
    x = L.add([x, L.BatchNormalization()(L.Conv2D(4, 3, padding="same")(x))])
    model = Model(images, L.Dense(2, activation="softmax")(L.Flatten()(x)))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    data = RNG.normal(size=(64, 6, 6, 1))
    labels = (data.mean(axis=(1, 2, 3)) > 0).astype(int)
    history = model.fit(data, labels, batch_size=16, epochs=15, verbose=0).history
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    predictions = model.predict(data, verbose=0)
    np.testing.assert_allclose(predictions, model(data).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_freezing_a_model_in_a_model() -> None:
    base = inception(OURS)
    images = Input((9, 9, 2))
    model = Model(images, L.Dense(2)(base(images)[0]), trainable=True)
    base.trainable = False
    assert len(model.trainable_weights) == 2
    x = samples(model)
    before = base.get_weights()
    model(x, training=True).sum().backward()
    for old, new in zip(before, base.get_weights()):
        np.testing.assert_array_equal(old, new)
    assert Model(images, base(images), trainable=False).trainable_weights == []


def test_users_layers_of_several_inputs_and_outputs() -> None:
    class Swapped(L.Layer):
        def build(self, input_shape: Any) -> None:
            self.shapes = copy.copy(input_shape)

        def call(self, inputs: Any) -> Any:
            return {"first": inputs[1] * 2.0, "second": inputs[0]}

    layer = Swapped()
    a, b = Input((2,)), Input((3,))
    found = layer([a, b])
    assert layer.shapes == [(None, 2), (None, 3)]
    assert {key: value.shape for key, value in found.items()} == {"first": (None, 3), "second": (None, 2)}
    assert layer.output == [found["first"], found["second"]]
    model = Model([a, b], L.concatenate([found["second"], found["first"]]))
    np.testing.assert_array_equal(model([np.ones((1, 2)), np.ones((1, 3))]).data, [[1, 1, 2, 2, 2]])


# -- fusion and memory -----------------------------------------------------------------------------------------------


CHAINS: dict[str, tuple[list[Callable[[], L.Layer]], set[bool], set[bool]]] = {
    # The layers, and whether all of them are one pass while training and otherwise.
    "conv relu": ([lambda: L.Conv2D(4, 3), lambda: L.ReLU()], {True}, {True}),
    "conv activation": ([lambda: L.Conv2D(4, 3), lambda: L.Activation("relu")], {True}, {True}),
    "conv pool": ([lambda: L.Conv2D(4, 3, activation="relu"), lambda: L.MaxPooling2D()], {True}, {True}),
    "conv relu pool": ([lambda: L.Conv2D(4, 3), lambda: L.ReLU(), lambda: L.MaxPooling2D()], {True}, {True}),
    "conv norm": ([lambda: L.Conv2D(4, 3), lambda: L.BatchNormalization()], {True}, {True}),
    "conv norm relu": (
        [lambda: L.Conv2D(4, 3), lambda: L.BatchNormalization(), lambda: L.ReLU()],
        {False},
        {True},
    ),
    "conv relu norm": ([lambda: L.Conv2D(4, 3), lambda: L.ReLU(), lambda: L.BatchNormalization()], {True}, {False}),
    "conv norm pool": (
        [lambda: L.Conv2D(4, 3, use_bias=False), lambda: L.BatchNormalization(), lambda: L.MaxPooling2D()],
        {True},
        {True},
    ),
    "norm relu": ([lambda: L.BatchNormalization(), lambda: L.Activation("relu")], {True}, {True}),
    "norm pool": ([lambda: L.BatchNormalization(), lambda: L.MaxPooling2D()], {False}, {True}),
    "conv relu6": ([lambda: L.Conv2D(4, 3), lambda: L.ReLU(6)], {False}, {False}),
    "conv tanh": ([lambda: L.Conv2D(4, 3, activation="tanh"), lambda: L.ReLU()], {False}, {False}),
    "other dtype": ([lambda: L.Conv2D(4, 3), lambda: L.ReLU(dtype="float64")], {False}, {False}),
    "regularised": ([lambda: L.Conv2D(4, 3), lambda: L.ReLU(activity_regularizer="l2")], {False}, {False}),
}


def in_turn(model: Functional) -> None:
    """No call of the model is one pass with another."""
    for call in model._schedule.calls:
        call.chain = None


def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of how many layers each pass is that is computed from now on."""
    lengths: list[int] = []
    run = Chain.run

    def watched(chain: Chain, values: list[Any], training: bool | None) -> tuple[Tensor, int] | None:
        found = run(chain, values, training)
        lengths.append(1 if found is None else found[1])
        return found

    monkeypatch.setattr(Chain, "run", watched)
    return lengths


def results(model: Functional, x: Any, training: bool, gradients: bool) -> list[np.ndarray]:
    """Outputs, and gradients or moved statistics."""
    if not gradients:
        with no_grad():
            return [model(x, training=training).numpy()]
    for weight in model.weights:
        weight.grad = None
    x = Tensor(x, requires_grad=True)
    y = model(x, training=training)
    y.backward(np.linspace(-1, 1, y.size, dtype=np.float32).reshape(y.shape))
    assert x.grad is not None
    return [y.data, x.grad.data, *(weight.grad.data for weight in model.trainable_weights)]


@pytest.mark.parametrize(("training", "gradients"), [(False, False), (False, True), (True, True)])
@pytest.mark.parametrize("name", CHAINS)
def test_one_pass_gives_what_the_layers_give_in_turn(
    name: str, training: bool, gradients: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, *fused = CHAINS[name]
    images = Input((9, 10, 3))
    x = images
    for make in made:
        x = make()(x)
    model = Model(images, L.Flatten()(x))
    weights = random_weights(model)
    given = RNG.normal(size=(3, 9, 10, 3)).astype("float32")
    model.set_weights(weights)
    ran: list[L.Layer] = []
    for layer in model.layers[1:-1]:
        watched(layer, ran)
    lengths = passes(monkeypatch)
    found = results(model, given, training, gradients)
    moved = model.get_weights()
    if not gradients or training:
        assert {lengths == [len(made)]} == fused[0 if training else 1], lengths
    in_turn(model)
    model.set_weights(weights)
    ran.clear()
    expected = results(model, given, training, gradients)
    assert len(ran) == len(made)
    for a, b in zip([*found, *moved], [*expected, *model.get_weights()], strict=True):
        # The gradient of a bias in front of a norm is what rounding leaves of a sum that is 0.
        assert_close(a, b, 1e-5, least=1)


def watched(layer: L.Layer, ran: list[L.Layer]) -> None:
    """Append the layer to ``ran`` when it is called."""
    run = layer._called

    def called(*arguments: Any) -> Any:
        ran.append(layer)
        return run(*arguments)

    layer._called = called  # type: ignore[method-assign]


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize(("training", "gradients"), [(False, False), (False, True), (True, True)])
@pytest.mark.parametrize("merge", [lambda a, b: L.Add()([a, b]), lambda a, b: a + b], ids=["Add", "+"])
def test_residuals_are_added_in_the_pass_of_the_convolution(
    merge: Any, training: bool, gradients: bool, normalised: bool, order: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = Input((6, 6, 4))
    shortcut = L.Conv2D(8, 1, name="shortcut")(images)
    y = L.Conv2D(8, 3, padding="same", name="conv")(images)
    if normalised:
        y = L.BatchNormalization(name="norm")(y)
    model = Model(images, L.Flatten()(L.ReLU(name="relu")(merge(*[(shortcut, y), (y, shortcut)][order]))))
    weights = random_weights(model)
    model.set_weights(weights)
    ran: list[L.Layer] = []
    for layer in model.operations[1:]:
        watched(layer, ran)
    x = samples(model)
    lengths = passes(monkeypatch)
    found = results(model, x, training, gradients)
    if not (normalised and gradients):
        # Whichever branch comes last takes the sum and the ReLU, for then the residual is there; the other is a pass of
        # its own.
        assert [layer.name for layer in ran] == ["flatten"]
        assert lengths == ([1, 3 + normalised] if order == 0 else [1 + normalised, 3])
    in_turn(model)
    model.set_weights(weights)
    for a, b in zip(found, results(model, x, training, gradients), strict=True):
        assert_close(a, b, 1e-5, least=1)


def test_attributes_that_are_set_change_what_is_one_pass() -> None:
    images = Input((6, 6, 3))
    conv, relu, pool = L.Conv2D(4, 3), L.ReLU(), L.MaxPooling2D()
    norm = L.BatchNormalization()
    model = Model(images, pool(norm(relu(conv(images)))))
    weights = random_weights(model)
    x = samples(model)

    def check() -> None:
        for training, gradients in [(False, False), (False, True), (True, True)]:
            model.set_weights(weights)
            found = [*results(model, x, training, gradients), *model.get_weights()]
            again = Functional.from_config(model.get_config())
            in_turn(again)
            again.set_weights(weights)
            for mine, other in zip(model.layers, again.layers):
                other.trainable = mine.trainable
            expected = [*results(again, x, training, gradients), *again.get_weights()]
            for a, b in zip(found, expected, strict=True):
                assert_close(a, b, 1e-5, least=1)

    check()
    conv.activation = activations.tanh
    check()
    conv.activation = activations.linear
    norm.trainable = False
    check()
    norm.trainable = True
    norm.epsilon = 0.5
    check()
    pool.strides = (1, 1)
    check()
    relu.negative_slope = 0.5
    check()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_of_a_model_that_was_called_computes_with_its_own_weights(copied: Callable[[Any], Any]) -> None:
    images = Input((6, 6, 3))
    y = L.BatchNormalization()(L.Conv2D(4, 3)(images))
    model = Model(images, L.MaxPooling2D()(L.Conv2D(2, 1, activation="relu")(L.ReLU()(y))))
    model.set_weights(random_weights(model))
    x = samples(model)
    expected = results(model, x, False, False)[0]
    other = copied(model)
    np.testing.assert_array_equal(results(other, x, False, False)[0], expected)
    other.set_weights([np.zeros_like(weight) for weight in other.get_weights()])
    assert not results(other, x, False, False)[0].any()
    np.testing.assert_array_equal(results(model, x, False, False)[0], expected)


def test_passes_are_found_once_also_beside_a_layer_that_keeps_what_it_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    class Seeing(L.Layer):
        def call(self, inputs: Tensor) -> Tensor:
            self.seen = inputs
            return inputs

    images = Input((6, 6, 3))
    model = Model(images, Seeing()(L.ReLU()(L.Conv2D(4, 3)(images))))
    x = samples(model)
    found: list[Any] = []
    find = schedule.pass_of

    def pass_of(*arguments: Any) -> Any:
        found.append(arguments)
        return find(*arguments)

    monkeypatch.setattr(schedule, "pass_of", pass_of)
    for _ in range(5):
        with no_grad():
            model(x)
    assert len(found) <= 2  # once more where a layer was built by the first call
    model.layers[1].activation = activations.relu
    with no_grad():
        model(x)
        model(x)
    assert len(found) <= 3


def test_a_call_that_is_put_on_a_layer_is_called() -> None:
    images = Input((6, 6, 3))
    layers = [L.Conv2D(4, 3), L.BatchNormalization(), L.ReLU(), L.MaxPooling2D()]
    x = images
    for layer in layers:
        x = layer(x)
    model, given = Model(images, x), RNG.normal(size=(2, 6, 6, 3)).astype("float32")
    expected = model.predict(given, verbose=0)
    for layer in layers:
        seen: list[Any] = []

        def call(inputs: Tensor, run: Any = layer.call, seen: list[Any] = seen, **settings: Any) -> Tensor:
            seen.append(inputs)
            return run(inputs, **settings)

        layer.call = call
        assert_close(model.predict(given, verbose=0), expected, 1e-5)
        assert len(seen) == 1
        del layer.call
        assert_close(model.predict(given, verbose=0), expected, 1e-6)
        assert len(seen) == 1


def test_a_residual_that_stretches_is_added_by_itself() -> None:
    images = Input((6, 6, 4))
    row = L.AveragePooling2D((6, 1))(images)
    model = Model(images, L.ReLU()(L.add([row, L.Conv2D(4, 3, padding="same")(images)])))
    model.set_weights(random_weights(model))
    x = samples(model)
    found = results(model, x, False, False)[0]
    in_turn(model)
    assert_close(found, results(model, x, False, False)[0], 1e-6)


def test_a_result_with_two_readers_or_that_is_an_output_is_made() -> None:
    images = Input((6, 6, 2))
    x = L.Conv2D(3, 3)(images)
    y = L.ReLU()(x)
    given = RNG.normal(size=(2, 6, 6, 2)).astype("float32")
    both = Model(images, [x, y])(given)
    np.testing.assert_array_equal(np.maximum(both[0].data, 0), both[1].data)
    assert both[0].data.min() < 0
    twice = Model(images, L.subtract([y, x]))
    np.testing.assert_array_equal(twice(given).data, both[1].data - both[0].data)
    squared = Model(images, L.multiply([y, y]))
    np.testing.assert_array_equal(squared(given).data, both[1].data ** 2)


def test_results_are_let_go_when_their_last_reader_is_done() -> None:
    alive: list[int] = []
    made: list[Any] = []

    class Watching(L.Layer):
        def call(self, inputs: Tensor) -> Tensor:
            alive.append(sum(reference() is not None for reference in made))
            found = inputs + 1.0
            made.append(weakref.ref(found))
            return found

    x = Input((3,))
    y = Watching()(x)
    z = Watching()(Watching()(Watching()(y)))
    model = Model(x, Watching()(L.add([y, z])))
    made.clear()
    alive.clear()
    with no_grad():
        result = model(np.ones((2, 3)))
    # The first stays until the sum, the others until the next one is made.
    assert alive == [0, 1, 2, 2, 0]
    np.testing.assert_array_equal(result.data, np.full((2, 3), 8))


def test_a_schedule_refuses_another_number_of_outputs() -> None:
    class Pair(L.Layer):
        def call(self, inputs: Tensor) -> Any:
            return [inputs, inputs]

    schedule = Schedule([Call(Pair(name="pair"), Slot(0), [Slot(1)])], [Slot(0)], [Slot(1)])
    with pytest.raises(ValueError, match=r"Pair 'pair': expected 1 outputs.*received 2"):
        schedule.run([Tensor(np.ones((1, 1)))], training=False)


def test_users_layers_that_say_that_they_take_one_tensor() -> None:
    class One(L.Layer):
        def call(self, inputs: Tensor) -> Tensor:
            return inputs * 2.0

    assert One()([[1.0, 2.0]]).shape == (1, 2)
    assert One()([np.ones(2), np.ones(2)]).shape == (2, 2)
    with pytest.raises(ValueError, match=r"expected one tensor, received a list of 2: \(None, 1\), \(None, 2\)"):
        One()([Input((1,)), Input((2,))])
