"""Training, evaluating, predicting: weights, several inputs and outputs, generators, errors; also against Keras."""

from __future__ import annotations

import csv
import inspect
import itertools
import json
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from pycnn import Tensor, metrics
from pycnn import layers as L
from pycnn.callbacks import Callback, CSVLogger, EarlyStopping, History, ProgbarLogger
from pycnn.losses import Loss, MeanSquaredError
from pycnn.metrics import MeanMetricWrapper, SparseCategoricalAccuracy
from pycnn.models import Model, Sequential
from pycnn.models.feed import Items
from pycnn.models.results import save_results
from pycnn.optimizers import SGD
from pycnn.utils import PyDataset, Sequence, clear_session, set_random_seed

RNG = np.random.default_rng(7)
X = RNG.normal(size=(22, 4)).astype(np.float32)
REAL = RNG.normal(size=(22, 2)).astype(np.float32)
LABELS = RNG.integers(0, 3, 22)
ONE_HOT = np.eye(3, dtype=np.float32)[LABELS]
WEIGHTS = RNG.uniform(0.1, 3.0, 22).astype(np.float32)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    clear_session()
    set_random_seed(0)


class Heads(Model):
    """Two outputs, named."""

    output_names = ("a", "b")

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = L.Dense(2), L.Dense(3, activation="softmax")

    def call(self, inputs: Tensor) -> Any:
        return [self.a(inputs), self.b(inputs)]

    def compute_output_shape(self, input_shape: Any) -> Any:
        return [self.a.build_for(input_shape), self.b.build_for(input_shape)]


class Unnamed(Heads):
    output_names = None  # type: ignore[assignment]


class Named(Heads):
    """Two outputs in a dictionary."""

    output_names = None  # type: ignore[assignment]

    def call(self, inputs: Tensor) -> Any:
        return {"b": self.b(inputs), "a": self.a(inputs)}

    def compute_output_shape(self, input_shape: Any) -> Any:
        return {"b": self.b.build_for(input_shape), "a": self.a.build_for(input_shape)}


class Sum(Model):
    """Two inputs: a dictionary of "left" and "right", or a list."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = L.Dense(2), L.Dense(2)

    def accept(self, inputs: Any) -> Any:
        parts = inputs if isinstance(inputs, dict) else dict(zip(("left", "right"), inputs))
        return {name: Tensor(part) for name, part in parts.items()}

    def call(self, inputs: Any) -> Tensor:
        return self.left(inputs["left"]) + self.right(inputs["right"])

    def build_for(self, input_shape: Any) -> Any:
        shapes = input_shape if isinstance(input_shape, dict) else dict(zip(("left", "right"), input_shape))
        return self.right.build_for(shapes["right"]) and self.left.build_for(shapes["left"])


def classifier(**compiled: Any) -> Sequential:
    model = Sequential([L.Input((4,)), L.Dense(5, activation="tanh"), L.Dense(3, activation="softmax")])
    model.compile(**{"optimizer": SGD(0.1), "loss": "sparse_categorical_crossentropy", **compiled})
    return model


def line(rate: float = 0.0) -> Sequential:
    """A model of one number; at a rate of 0 its loss tells which samples were in the batches."""
    model = Sequential([L.Input((1,)), L.Dense(1, kernel_initializer="ones")])
    model.compile(SGD(rate), "mse")
    return model


def pairs(count: int, start: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of two samples, whose numbers are that of the batch."""
    for number in range(start, start + count):
        yield np.full((2, 1), number, np.float32), np.zeros((2, 1), np.float32)


def squares(*numbers: int) -> float:
    """The loss of :func:`line` over the batches of these numbers."""
    return float(np.mean(np.square(numbers)))


class Numbered(PyDataset):
    """The batches of :func:`pairs`, and the order in which everything was called."""

    def __init__(self, length: int = 3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.length = length
        self.calls: list[Any] = []

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        self.calls.append(index)
        return next(pairs(1, index))

    def on_epoch_begin(self) -> None:
        self.calls.append("begin")

    def on_epoch_end(self) -> None:
        self.calls.append("end")


# -- against Keras -----------------------------------------------------------------------------------------------------


@pytest.fixture
def keras() -> Any:
    found = pytest.importorskip("keras", reason="Keras is in the extra 'peers'")
    found.utils.clear_session()
    return found


def same(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """The same names and numbers; Keras sorts by name."""
    assert sorted(ours) == sorted(theirs)
    for name, values in ours.items():
        np.testing.assert_allclose(values, theirs[name], rtol=2e-5, atol=1e-6, err_msg=name)


def both_classifiers(keras: Any, loss: str, outputs: int = 3, activation: str = "softmax", **compiled: Any) -> Any:
    ours = Sequential([L.Input((4,)), L.Dense(5, activation="tanh"), L.Dense(outputs, activation=activation)])
    kind = keras.layers
    theirs = keras.Sequential(
        [keras.Input((4,)), kind.Dense(5, activation="tanh"), kind.Dense(outputs, activation=activation)]
    )
    theirs.set_weights(ours.get_weights())
    ours.compile(SGD(0.2), loss, **compiled)
    theirs.compile(keras.optimizers.SGD(0.2), loss, **compiled)
    return ours, theirs


def both_heads(keras: Any, **compiled: Any) -> Any:
    ours = Heads()
    ours.build_for((None, 4))
    inputs = keras.Input((4,))
    kind = keras.layers
    theirs = keras.Model(
        inputs, [kind.Dense(2, name="a")(inputs), kind.Dense(3, activation="softmax", name="b")(inputs)]
    )
    theirs.set_weights(ours.get_weights())
    ours.compile(SGD(0.2), **compiled)
    theirs.compile(keras.optimizers.SGD(0.2), **compiled)
    return ours, theirs


ARGUMENTS: dict[str, Any] = {"batch_size": 8, "epochs": 2, "shuffle": False, "verbose": 0}


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"sample_weight": WEIGHTS},
        {"sample_weight": WEIGHTS, "validation_split": 0.3},
        {"validation_data": (X[:9], LABELS[:9], WEIGHTS[:9]), "validation_freq": 2, "epochs": 3},
        {"validation_data": (X[:9], LABELS[:9]), "validation_steps": 2, "validation_batch_size": 3},
        {"validation_data": (X[:9], LABELS[:9]), "validation_freq": [1, 3], "initial_epoch": 1, "epochs": 4},
        {"steps_per_epoch": 2, "epochs": 2},
        {"steps_per_epoch": 4, "batch_size": None},
        {"class_weight": {0: 0.5, 2: 4.0}, "validation_split": 0.3},
    ],
    ids=lambda arguments: "-".join(arguments) or "plain",
)
def test_history_of_arrays(keras: Any, arguments: dict[str, Any]) -> None:
    ours, theirs = both_classifiers(
        keras, "sparse_categorical_crossentropy", metrics=["accuracy"], weighted_metrics=["accuracy"]
    )
    given = {**ARGUMENTS, **arguments}
    same(ours.fit(X, LABELS, **given).history, theirs.fit(X, LABELS, **given).history)
    for a, b in zip(ours.get_weights(), theirs.get_weights()):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("loss", "outputs", "activation", "y"),
    [
        ("categorical_crossentropy", 3, "softmax", ONE_HOT),
        ("sparse_categorical_crossentropy", 3, "softmax", LABELS[:, None]),
        ("binary_crossentropy", 1, "sigmoid", LABELS > 0),
        ("binary_crossentropy", 1, "sigmoid", (LABELS[:, None] > 0).astype(np.float32)),
        ("crossentropy", 3, "softmax", ONE_HOT),
        ("crossentropy", 1, "sigmoid", (LABELS[:, None] > 0).astype(np.float32)),
    ],
)
def test_class_weights_of_every_kind_of_label(
    keras: Any, loss: str, outputs: int, activation: str, y: np.ndarray
) -> None:
    ours, theirs = both_classifiers(keras, loss, outputs, activation, metrics=["accuracy"])
    given = {**ARGUMENTS, "class_weight": {0: 0.5, 1: 3.0}}
    same(ours.fit(X, y, **given).history, theirs.fit(X, y, **given).history)
    found = [model.train_on_batch(X, y, class_weight={0: 2, 1: 0.1}, return_dict=True) for model in (ours, theirs)]
    same(*found)


COMPILED: list[dict[str, Any]] = [
    {"loss": ["mse", "sparse_categorical_crossentropy"]},
    {"loss": ["mse", "sparse_categorical_crossentropy"], "metrics": ["accuracy", "accuracy"]},
    {
        "loss": {"a": "mse", "b": "sparse_categorical_crossentropy"},
        "loss_weights": {"a": 2.0, "b": 0.5},
        "metrics": {"b": ["accuracy", "sparse_categorical_accuracy"]},
        "weighted_metrics": {"b": "accuracy"},
    },
    {
        "loss": {"b": "crossentropy", "a": "mse"},
        "loss_weights": [0.25, 4.0],
        "metrics": [[], ["acc"]],
        "weighted_metrics": [None, ["acc"]],
    },
    {"loss": ["mse", None], "metrics": [None, "accuracy"]},
    {"loss": {"a": None, "b": "sparse_categorical_crossentropy"}, "loss_weights": {"a": None, "b": 3.0}},
]


BOTH = [WEIGHTS, WEIGHTS[::-1].copy()]


@pytest.mark.parametrize(
    ("compiled", "weights"), [*zip(COMPILED, [None, WEIGHTS, BOTH, BOTH, WEIGHTS, [None, WEIGHTS]])]
)
def test_several_outputs(keras: Any, compiled: dict[str, Any], weights: Any) -> None:
    ours, theirs = both_heads(keras, **compiled)
    y = [REAL, LABELS]
    given = {**ARGUMENTS, "sample_weight": weights, "validation_split": 0.2, "epochs": 2}
    if isinstance(weights, list):  # Keras splits no list with None in it
        del given["validation_split"]
    same(ours.fit(X, y, **given).history, theirs.fit(X, y, **given).history)
    given = {"batch_size": 5, "verbose": 0, "sample_weight": weights}
    same(ours.evaluate(X, y, return_dict=True, **given), theirs.evaluate(X, y, return_dict=True, **given))
    np.testing.assert_allclose(ours.evaluate(X, y, **given), theirs.evaluate(X, y, **given), rtol=2e-5)
    for call in ("train_on_batch", "test_on_batch"):
        found = [getattr(model, call)(X, y, sample_weight=weights) for model in (ours, theirs)]
        np.testing.assert_allclose(*found, rtol=2e-5)
    for a, b in zip(ours.predict(X, verbose=0, batch_size=5), theirs.predict(X, verbose=0)):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    for a, b in zip(ours.predict_on_batch(X), theirs.predict_on_batch(X)):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_targets_by_name(keras: Any) -> None:
    ours, theirs = both_heads(keras, loss=["mse", "sparse_categorical_crossentropy"])
    y = {"b": LABELS, "a": REAL}
    same(ours.fit(X, y, **ARGUMENTS).history, theirs.fit(X, y, **ARGUMENTS).history)
    # Keras finds no weights by name beside losses in a list.
    weights = {"b": WEIGHTS}
    found = ours.evaluate(X, y, sample_weight=weights, verbose=0)
    assert found == ours.evaluate(X, [REAL, LABELS], sample_weight=[None, WEIGHTS], verbose=0)
    assert found != ours.evaluate(X, y, verbose=0)


def test_one_loss_for_all_outputs_and_targets_of_those_with_a_loss(keras: Any) -> None:
    ours, theirs = both_heads(keras, loss="mse")
    given = {"verbose": 0, "return_dict": True}
    same(ours.evaluate(X, [REAL, ONE_HOT], **given), theirs.evaluate(X, [REAL, ONE_HOT], **given))
    ours, theirs = both_heads(keras, loss=["mse", None])
    same(ours.evaluate(X, [REAL], **given), theirs.evaluate(X, [REAL], **given))
    same(ours.evaluate(X, REAL, **given), theirs.evaluate(X, REAL, **given))


def test_outputs_without_names_are_called_by_their_losses(keras: Any) -> None:
    class Theirs(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = keras.layers.Dense(2), keras.layers.Dense(3, activation="softmax")

        def call(self, inputs: Any) -> Any:
            return [self.a(inputs), self.b(inputs)]

    ours, theirs = Unnamed(), Theirs()
    ours.build_for((None, 4))
    theirs(X)
    theirs.set_weights(ours.get_weights())
    compiled = {"loss": ["mse", "crossentropy"], "metrics": [["accuracy"], ["accuracy"]]}
    ours.compile(SGD(0.2), **compiled)
    theirs.compile(keras.optimizers.SGD(0.2), **compiled)
    same(ours.fit(X, [REAL, LABELS], **ARGUMENTS).history, theirs.fit(X, [REAL, LABELS], **ARGUMENTS).history)


@pytest.mark.parametrize("steps", [None, 2])
def test_generators(keras: Any, steps: int | None) -> None:
    ours, theirs = both_classifiers(keras, "sparse_categorical_crossentropy", weighted_metrics=["accuracy"])

    def batches() -> Iterator[Any]:
        for start in range(0, 20, 5):
            part = slice(start, start + 5)
            yield X[part], LABELS[part], WEIGHTS[part]

    given = {"verbose": 0, "epochs": 1 if steps is None else 2, "steps_per_epoch": steps, "shuffle": False}
    found = [
        model.fit(batches(), validation_data=batches(), validation_steps=1 if steps is None else 2, **given).history
        for model in (ours, theirs)
    ]
    if steps:  # Keras begins its second validation with its first two batches again
        for history in found:
            for name in [name for name in history if name.startswith("val_")]:
                del history[name][1:]
    same(*found)
    found = [model.evaluate(batches(), steps=steps, verbose=0, return_dict=True) for model in (ours, theirs)]
    same(*found)
    np.testing.assert_allclose(
        ours.predict(batches(), steps=steps, verbose=0), theirs.predict(batches(), steps=steps, verbose=0), rtol=1e-4
    )


@pytest.mark.parametrize("arguments", [{}, {"steps_per_epoch": 2}, {"class_weight": {1: 3.0}}], ids=str)
def test_data_sets_of_batches(keras: Any, arguments: dict[str, Any]) -> None:
    ours, theirs = both_classifiers(keras, "sparse_categorical_crossentropy", weighted_metrics=["accuracy"])

    def members(base: Any) -> Any:
        class Parts(base):
            def __len__(self) -> int:
                return 3

            def __getitem__(self, index: int) -> Any:
                part = slice(7 * index, 7 * index + 7)
                return X[part], LABELS[part]

        return Parts()

    given = {"verbose": 0, "epochs": 3, "shuffle": False, **arguments}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both: three batches are two epochs of two steps, one of them short
        mine = ours.fit(members(PyDataset), validation_data=members(PyDataset), **given).history
        same(mine, theirs.fit(members(keras.utils.PyDataset), validation_data=(X[:21], LABELS[:21]), **given).history)


def test_weights_of_positions(keras: Any) -> None:
    ours = Sequential([L.Input((3, 2)), L.Dense(4)])
    theirs = keras.Sequential([keras.Input((3, 2)), keras.layers.Dense(4)])
    theirs.set_weights(ours.get_weights())
    x, y = RNG.normal(size=(6, 3, 2)).astype(np.float32), RNG.normal(size=(6, 3, 4)).astype(np.float32)
    weights = RNG.uniform(size=(6, 3))
    for model, kind in ((ours, SGD), (theirs, keras.optimizers.SGD)):
        model.compile(kind(0.2), "mse")
    for given in (weights, weights[:, :1]):
        found = [
            model.fit(x, y, sample_weight=given, batch_size=4, epochs=2, shuffle=False, verbose=0).history
            for model in (ours, theirs)
        ]
        same(*found)


def test_a_model_whose_layers_alone_have_a_loss(keras: Any) -> None:
    ours = Sequential([L.Input((4,)), L.Dense(2, kernel_regularizer="l2")])
    theirs = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, kernel_regularizer="l2")])
    theirs.set_weights(ours.get_weights())
    ours.compile(SGD(0.2))
    theirs.compile(keras.optimizers.SGD(0.2))
    same(ours.fit(X, **ARGUMENTS).history, theirs.fit(X, **ARGUMENTS).history)
    assert ours.evaluate(X, verbose=0) == pytest.approx(theirs.evaluate(X, verbose=0), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "arguments", "loss"),
    [
        ("F1Score", {}, "categorical_crossentropy"),
        ("FBetaScore", {"beta": 2.0}, "categorical_crossentropy"),
        ("Precision", {"thresholds": [0.2, 0.5]}, "categorical_crossentropy"),
        ("Recall", {"thresholds": [0.3]}, "categorical_crossentropy"),
    ],
)
def test_metrics_of_several_numbers(
    keras: Any, name: str, arguments: dict[str, Any], loss: str, capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    ours, theirs = both_classifiers(keras, loss)
    ours.compile(SGD(0.2), loss, metrics=[getattr(metrics, name)(name="m", **arguments)])
    theirs.compile(keras.optimizers.SGD(0.2), loss, metrics=[getattr(keras.metrics, name)(name="m", **arguments)])
    given = {**ARGUMENTS, "validation_split": 0.2}
    logged = ours.fit(X, ONE_HOT, **{**given, "verbose": 2}, callbacks=[CSVLogger(tmp_path / "ours.csv")])
    expected = theirs.fit(X, ONE_HOT, **given, callbacks=[keras.callbacks.CSVLogger(str(tmp_path / "theirs.csv"))])
    same(logged.history, {name: [np.asarray(each) for each in v] for name, v in expected.history.items()})
    shape = np.shape(expected.history["m"][0])
    assert np.shape(logged.history["m"][0]) == shape
    if shape:
        first = ", ".join(f"{each:.4f}" for each in logged.history["m"][0])
        assert f" - m: [{first}]" in capsys.readouterr().out
    rows = [list(csv.reader((tmp_path / name).open())) for name in ("ours.csv", "theirs.csv")]
    assert rows[0][0] == rows[1][0]
    assert [cell.count(",") for row in rows[0] for cell in row] == [cell.count(",") for row in rows[1] for cell in row]
    assert np.shape(ours.evaluate(X, ONE_HOT, verbose=0)[1]) == shape
    save_results(tmp_path / "x.npz", ours, logged)
    with np.load(tmp_path / "x.npz") as file:
        np.testing.assert_allclose(json.loads(str(file["history"]))["m"], logged.history["m"])


def test_a_callback_that_watches_several_numbers() -> None:
    model = classifier(loss="categorical_crossentropy", metrics=[metrics.F1Score()])
    with pytest.raises(ValueError, match="EarlyStopping watches one number; 'f1_score' has 3"):
        model.fit(X, ONE_HOT, verbose=0, callbacks=[EarlyStopping("f1_score", mode="max")])


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.bool_])
def test_a_loss_function_of_a_user_gets_labels_as_floats(keras: Any, dtype: Any) -> None:
    ours, theirs = both_classifiers(keras, "mse")
    ours.compile(SGD(0.2), lambda y_true, y_pred: (-y_true * (y_pred + 1e-7).log()).sum(axis=-1))
    theirs.compile(keras.optimizers.SGD(0.2), lambda t, p: (-t * keras.ops.log(p + 1e-7)).sum(-1))
    y = ONE_HOT.astype(dtype)
    same(ours.fit(X, y, **ARGUMENTS).history, theirs.fit(X, y, **ARGUMENTS).history)


def test_an_output_without_an_entry_among_the_losses_has_none(keras: Any) -> None:
    ours = Named()
    ours.build_for((None, 4))
    inputs, kind = keras.Input((4,)), keras.layers
    outputs = {"a": kind.Dense(2)(inputs), "b": kind.Dense(3, activation="softmax")(inputs)}
    theirs = keras.Model(inputs, outputs)
    theirs.set_weights(ours.get_weights())
    ours.compile(SGD(0.2), {"a": "mse"}, loss_weights={"a": 0.5})
    theirs.compile(keras.optimizers.SGD(0.2), {"a": "mse"}, loss_weights={"a": 0.5})
    y = {"a": REAL, "b": ONE_HOT}
    same(ours.fit(X, y, **ARGUMENTS).history, theirs.fit(X, y, **ARGUMENTS).history)
    assert ours.evaluate(X, {"a": REAL}, verbose=0) == ours.evaluate(X, y, verbose=0)


def test_names_of_results_before_the_first_batch() -> None:
    model = Named()
    model.compile("sgd", {"b": "categorical_crossentropy", "a": "mse"}, metrics={"b": ["acc"]})
    before = model.metrics_names
    model.evaluate(X, {"a": REAL, "b": ONE_HOT}, verbose=0)
    assert before == model.metrics_names == ["loss", "a_loss", "b_loss", "b_acc"]


def test_batches_have_the_size_that_they_have(keras: Any) -> None:
    ours, theirs = both_classifiers(keras, "sparse_categorical_crossentropy")

    def batches() -> Any:
        return ((X[start : start + 4], LABELS[start : start + 4]) for start in range(0, 20, 4))

    given = {"batch_size": 7, "steps_per_epoch": 5, "verbose": 0}
    same(ours.fit(batches(), **given).history, theirs.fit(batches(), **given).history)
    found = ours.evaluate(batches(), batch_size=3, verbose=0)
    assert found == ours.evaluate(batches(), verbose=0)
    history = ours.fit(X, LABELS, batch_size=5, verbose=0, validation_data=batches()).history
    assert history["val_loss"] == [pytest.approx(ours.evaluate(batches(), verbose=0))]


def test_history_and_progress_of_the_user(keras: Any, capsys: pytest.CaptureFixture[str]) -> None:
    ours, theirs = both_classifiers(keras, "sparse_categorical_crossentropy")
    kept = History(), keras.callbacks.History()
    for _ in range(2):
        for model, history in zip((ours, theirs), kept):
            assert model.fit(X, LABELS, **ARGUMENTS, callbacks=[history]) is history is model.history
    same(kept[0].history, kept[1].history)
    assert kept[0].epoch == kept[1].epoch == [0, 1]
    ours.fit(X, LABELS, **{**ARGUMENTS, "verbose": 2}, callbacks=[ProgbarLogger()])
    assert capsys.readouterr().out.count("Epoch 1/2") == 1


def test_averages_begin_anew() -> None:
    model = classifier(metrics=["accuracy"])
    model.reset_metrics()
    model.evaluate(X, LABELS, verbose=0)
    assert model.metrics[0].result() > 0
    model.reset_metrics()
    assert model.metrics[0].result() == 0
    Sequential([L.Dense(1)]).reset_metrics()


@pytest.mark.parametrize("given", [{"run_eagerly": True}, {"jit_compile": False}, {"steps_per_execution": 1}])
def test_how_keras_computes_changes_nothing(given: dict[str, Any]) -> None:
    model = classifier(**given)
    found = model.evaluate(X, LABELS, verbose=0)
    model.compile(SGD(0.1), "sparse_categorical_crossentropy")
    assert model.evaluate(X, LABELS, verbose=0) == found


def test_signatures(keras: Any) -> None:
    for name in ("fit", "evaluate", "predict", "train_on_batch", "test_on_batch", "predict_on_batch"):
        ours, theirs = (
            [
                (each.name, each.default, each.kind)
                for each in inspect.signature(getattr(model, name)).parameters.values()
            ]
            for model in (Model, keras.Model)
        )
        assert ours == [each for each in theirs if each[0] != "kwargs"]
    ours, theirs = (list(inspect.signature(model.compile).parameters) for model in (Model, keras.Model))
    assert ours == theirs
    ours, theirs = (
        [each.default for each in inspect.signature(model.compile).parameters.values()]
        for model in (Model, keras.Model)
    )
    assert ours == theirs
    assert Sequence is PyDataset
    ours, theirs = (inspect.signature(base.__init__).parameters for base in (PyDataset, keras.utils.PyDataset))
    assert [(each.name, each.default) for each in ours.values()] == [
        (each.name, each.default) for each in theirs.values()
    ]


# -- weights -----------------------------------------------------------------------------------------------------------


def test_a_step_with_sample_weights_equals_numpy() -> None:
    model = Sequential([L.Input((4,)), L.Dense(2)])
    model.compile(SGD(0.1), "mse")
    kernel, bias = (weight.astype(np.float64) for weight in model.get_weights())
    loss = model.train_on_batch(X, REAL, sample_weight=WEIGHTS)
    error = X @ kernel + bias - REAL
    # The mean divides by the number of samples, not by the sum of their weights.
    assert loss == pytest.approx((WEIGHTS * (error**2).mean(axis=1)).sum() / len(X), rel=1e-5)
    slope = 2 * WEIGHTS[:, None] * error / error.size
    np.testing.assert_allclose(model.get_weights()[0], kernel - 0.1 * X.T @ slope, atol=1e-6)
    np.testing.assert_allclose(model.get_weights()[1], bias - 0.1 * slope.sum(axis=0), atol=1e-6)


def test_one_weight_per_sample_counts_for_all_its_positions() -> None:
    """Keras refuses these, or spreads them over the wrong axis when there are as many positions as samples."""
    model = Sequential([L.Input((3, 2)), L.Dense(4)])
    model.compile(
        SGD(0.1), "mse", weighted_metrics=[MeanMetricWrapper(lambda y, p: ((y - p) ** 2).mean(axis=-1), "mse")]
    )
    x, y, weights = RNG.normal(size=(3, 3, 2)), RNG.normal(size=(3, 3, 4)), np.array([1.0, 0.0, 4.0])
    squares_ = ((model.predict(x, verbose=0) - y) ** 2).mean(axis=(1, 2))
    loss, metric = model.evaluate(x, y, sample_weight=weights, verbose=0)
    assert loss == pytest.approx((weights * squares_).mean(), rel=1e-5)
    assert metric == pytest.approx((weights * squares_).sum() / weights.sum(), rel=1e-5)


def test_samples_of_weight_zero_teach_nothing() -> None:
    with_all, with_some = classifier(), classifier()
    with_some.set_weights(with_all.get_weights())
    with_all.train_on_batch(X, LABELS, sample_weight=np.arange(22) < 11)
    with_some.optimizer = SGD(0.05)  # half of the samples, and their mean divides by all
    with_some.train_on_batch(X[:11], LABELS[:11])
    for a, b in zip(with_all.get_weights(), with_some.get_weights()):
        np.testing.assert_allclose(a, b, atol=1e-7)


def test_metrics_count_without_weights_and_weighted_metrics_with_them() -> None:
    model = classifier(metrics=["accuracy"], weighted_metrics=["accuracy", SparseCategoricalAccuracy("mine")])
    right = model.predict(X, verbose=0).argmax(axis=1) == LABELS
    found = model.evaluate(X, LABELS, sample_weight=WEIGHTS, batch_size=5, verbose=0, return_dict=True)
    assert list(found) == ["loss", "accuracy", "weighted_accuracy", "mine"] == model.metrics_names
    assert found["accuracy"] == pytest.approx(right.mean())
    assert found["weighted_accuracy"] == found["mine"] == pytest.approx((right * WEIGHTS).sum() / WEIGHTS.sum())


# -- several inputs and outputs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["list", "tuple", "dict"])
def test_several_inputs_are_shuffled_and_cut_alike(form: str) -> None:
    left, right = np.arange(20.0)[:, None], 100 + np.arange(20)[:, None]
    x: Any = {"list": [left, right], "tuple": (left, right), "dict": {"left": left, "right": right}}[form]
    seen: list[Any] = []

    class Seen(Sum):
        def call(self, inputs: Any) -> Tensor:
            seen.append([inputs[name].numpy()[:, 0].tolist() for name in ("left", "right")])
            assert {part.dtype for part in inputs.values()} == {np.dtype("float32")}
            return super().call(inputs)

    model = Seen()
    model.compile(SGD(0.0), "mse")
    model.fit(x, np.zeros((20, 2)), batch_size=6, validation_split=0.2, verbose=0)
    assert [len(batch[0]) for batch in seen] == [6, 6, 4, 4]
    for batch in seen:
        assert [100 + number for number in batch[0]] == batch[1]
    assert sorted(number for batch in seen[:3] for number in batch[0]) == list(range(16))
    assert seen[3][0] == [16, 17, 18, 19]
    assert seen[0][0] != sorted(seen[0][0])
    assert model.predict(x, verbose=0, batch_size=7).shape == (20, 2)
    assert model.evaluate(x, np.zeros((20, 2)), verbose=0) > 0


def test_a_list_of_one_array_is_that_array() -> None:
    model = classifier()
    np.testing.assert_array_equal(model.predict([X], verbose=0), model.predict(X, verbose=0))
    assert model.evaluate([X], [LABELS], sample_weight=[WEIGHTS], verbose=0) == model.evaluate(
        X, LABELS, sample_weight=WEIGHTS, verbose=0
    )


def test_outputs_in_a_dictionary() -> None:
    model = Named()
    model.compile(SGD(0.1), {"a": "mse", "b": "crossentropy"}, metrics={"b": "accuracy"})
    history = model.fit(X, {"b": LABELS, "a": REAL}, verbose=0, epochs=2).history
    assert list(history) == ["loss", "a_loss", "b_loss", "b_accuracy"]
    assert history["loss"] == pytest.approx([a + b for a, b in zip(history["a_loss"], history["b_loss"])])
    found = model.predict(X, batch_size=5, verbose=0)
    assert {name: array.shape for name, array in found.items()} == {"b": (22, 3), "a": (22, 2)}
    np.testing.assert_array_equal(found["a"], model.predict_on_batch(X)["a"])


def test_the_same_loss_twice_without_names() -> None:
    model = Unnamed()
    model.compile(SGD(0.1), "mse", metrics=[["accuracy"], ["accuracy"]])
    found = model.evaluate(X, [REAL, ONE_HOT], verbose=0, return_dict=True)
    assert list(found) == ["loss", "mse_loss", "mse_loss_1", "accuracy", "accuracy_1"] == model.metrics_names
    assert found["loss"] == pytest.approx(found["mse_loss"] + found["mse_loss_1"])


# -- generators and other sources of batches ---------------------------------------------------------------------------


def quiet(model: Model, *arguments: Any, **given: Any) -> list[float]:
    """The losses of a fit that must not warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return model.fit(*arguments, **{"verbose": 0, **given}).history["loss"]


def test_a_generator_is_gone_through_once_and_goes_on_where_it_was() -> None:
    assert quiet(line(), pairs(3)) == [squares(0, 1, 2)]
    assert quiet(line(), pairs(4), steps_per_epoch=2, epochs=2) == [squares(0, 1), squares(2, 3)]
    assert quiet(line(), iter(list(pairs(3)))) == [squares(0, 1, 2)]
    endless = pairs(10**9)
    assert quiet(line(), endless, steps_per_epoch=2) == [squares(0, 1)]
    assert next(endless)[0][0, 0] == 2  # no batch is taken that nobody asked for


def test_what_can_be_iterated_over_again_begins_anew_in_each_epoch() -> None:
    class Loader:
        def __iter__(self) -> Iterator[Any]:
            return pairs(3)

    assert quiet(line(), Loader(), epochs=2) == [squares(0, 1, 2)] * 2
    assert quiet(line(), Loader(), epochs=2, steps_per_epoch=3) == [squares(0, 1, 2)] * 2
    assert quiet(line(), Loader(), epochs=2, steps_per_epoch=1) == [0, 1]
    torch = pytest.importorskip("torch")
    x = torch.arange(6.0)[:, None]
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, 0 * x), batch_size=4)
    assert quiet(line(), loader, epochs=2, validation_data=loader) == pytest.approx([squares(*range(6))] * 2)


def test_a_generator_that_ends_ends_the_training() -> None:
    model = line()
    with pytest.warns(UserWarning, match="training ends after 1 of 3 epochs") as found:
        history = model.fit(pairs(2), epochs=3, verbose=0)
    assert found[0].filename == __file__
    assert history.history["loss"] == [squares(0, 1)]
    with pytest.warns(UserWarning, match="this epoch has 1 instead of 2 steps"):
        history = model.fit(pairs(3), epochs=2, steps_per_epoch=2, verbose=0)
    assert history.history["loss"] == [squares(0, 1), squares(2)]
    with pytest.warns(UserWarning, match="1 instead of 4 steps"):
        assert model.evaluate(pairs(1, 3), steps=4, verbose=0) == 9
    with pytest.warns(UserWarning, match="there is no validation after this epoch"):
        history = model.fit(np.zeros((2, 1)), np.zeros(2), epochs=2, validation_data=pairs(2), verbose=0)
    assert history.history["val_loss"] == [squares(0, 1)]


def test_arrays_with_steps_go_on_behind_them() -> None:
    x = np.repeat(np.arange(4.0), 2)[:, None]
    given = {"batch_size": 2, "shuffle": False, "verbose": 0}
    losses = line().fit(x, 0 * x, steps_per_epoch=2, epochs=3, **given).history["loss"]
    assert losses == [squares(0, 1), squares(2, 3), squares(0, 1)]
    with pytest.warns(UserWarning, match="1 instead of 3 steps"):
        losses = line().fit(x, 0 * x, steps_per_epoch=3, epochs=3, **given).history["loss"]
    assert losses == [squares(0, 1, 2), squares(3), squares(0, 1, 2)]
    assert line().predict(x, batch_size=2, steps=3, verbose=0).shape == (6, 1)


def test_each_validation_of_arrays_begins_with_the_first_batch() -> None:
    x = np.repeat(np.arange(4.0), 2)[:, None]
    validation = {"validation_data": (x, 0 * x), "validation_batch_size": 2, "validation_steps": 2}
    history = line().fit(x, 0 * x, epochs=2, verbose=0, **validation).history
    assert history["val_loss"] == [squares(0, 1)] * 2


def test_order_of_a_data_sets_calls() -> None:
    data = Numbered()
    assert quiet(line(), data, epochs=2, shuffle=False) == [squares(0, 1, 2)] * 2
    assert data.calls == ["begin", 0, 1, 2, "end"] * 2
    data = Numbered()
    quiet(line(), data, epochs=2)
    first, second = data.calls[1:4], data.calls[6:9]
    assert sorted(first) == sorted(second) == [0, 1, 2]
    assert (first, second) != ([0, 1, 2], [0, 1, 2])
    data = Numbered(5)
    line().predict(data, steps=2, verbose=0)
    assert data.calls == ["begin", 0, 1, "end"]


@pytest.mark.parametrize("workers", [2, 5])
def test_threads_make_the_batches_ahead_in_their_order(workers: int) -> None:
    data = Numbered(20, workers=workers, max_queue_size=3)
    predicted = line().predict(data, verbose=0)
    assert predicted[::2, 0].tolist() == list(range(20))
    data.calls.clear()

    class Reads(Callback):
        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            assert len([call for call in data.calls if call != "begin"]) <= batch + 1 + 3

    quiet(line(), data, shuffle=False, callbacks=[Reads()])


@pytest.mark.parametrize("ahead", [1, 3])
def test_no_more_batches_than_the_queue_holds_are_under_way(ahead: int) -> None:
    data = Numbered(8, workers=8, max_queue_size=ahead)
    feed = Items(data, lambda given: given)
    begun = []
    for taken, _ in enumerate(feed.go_through(shuffle=False)):
        begun.append(len(data.calls) - taken)
    assert max(begun) <= ahead


def test_an_error_in_a_thread_reaches_the_caller() -> None:
    class Broken(Numbered):
        def __getitem__(self, index: int) -> Any:
            if index == 4:
                raise OSError("no such file")
            return super().__getitem__(index)

    with pytest.raises(OSError, match="no such file"):
        line().fit(Broken(9, workers=3), verbose=0)


def test_a_data_set_without_an_end_needs_steps() -> None:
    class Endless(PyDataset):
        num_batches = None  # type: ignore[assignment]

        def __getitem__(self, index: int) -> Any:
            return next(pairs(1, index))

    assert quiet(line(), Endless(), steps_per_epoch=2, epochs=2) == [squares(0, 1), squares(2, 3)]
    assert quiet(line(), Endless(workers=2), steps_per_epoch=3) == [squares(0, 1, 2)]
    with pytest.raises(ValueError, match="a number of steps for a Endless without an end"):
        line().fit(Endless(), verbose=0)
    assert len(list(itertools.islice(Endless(), 4))) == 4


def test_a_data_set_may_change_between_epochs() -> None:
    class Growing(Numbered):
        def on_epoch_end(self) -> None:
            self.length += 1

    assert quiet(line(), Growing(1), epochs=3, shuffle=False) == [squares(0), squares(0, 1), squares(0, 1, 2)]


def test_any_object_with_a_length_and_items_is_a_data_set() -> None:
    class Plain:
        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> Any:
            return next(pairs(1, index))

    assert quiet(line(), Plain(), validation_data=Plain()) == [squares(0, 1)]


@pytest.mark.parametrize("call", ["fit", "evaluate", "predict"])
def test_what_can_be_iterated_over_must_give_a_batch(call: str) -> None:
    class Nothing:
        def __iter__(self) -> Iterator[Any]:
            return iter(())

    with pytest.raises(ValueError, match="x: expected at least one batch, received none"):
        getattr(line(), call)(Nothing(), verbose=0)


def test_stopping_ends_a_generator_without_end() -> None:
    class Stop(Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.model.stop_training = batch == 4

    history = line().fit(pairs(10**9), epochs=3, verbose=0, callbacks=Stop())
    assert history.history["loss"] == [squares(*range(5))]
    assert history.params["steps"] == 5


def test_batches_are_converted_and_let_go() -> None:
    alive: list[weakref.ref[np.ndarray]] = []

    def images() -> Iterator[Any]:
        for _ in range(4):
            assert not any(reference() is not None for reference in alive)
            batch = np.full((2, 4), 255, np.uint8), np.zeros(2, np.int64)
            alive.extend(map(weakref.ref, batch))
            yield batch
            del batch

    model = classifier()
    model.fit(images(), verbose=0)
    assert len(alive) == 8
    alive.clear()
    model.evaluate(images(), verbose=0)
    alive.clear()
    model.predict(images(), verbose=0)
    assert len(alive) == 8


def test_shuffling_within_batches() -> None:
    order: list[float] = []

    def note(inputs: Tensor) -> Tensor:
        order.extend(inputs.data[:, 0].tolist())
        return inputs

    model = Sequential([L.Input((1,)), L.Activation(note), L.Dense(1)])
    model.compile(SGD(0.0), "mse")
    x = np.arange(20.0)[:, None]
    model.fit(x, x, batch_size=10, shuffle="batch", verbose=0)
    assert sorted(order[:10]) == list(range(10))
    assert sorted(order[10:]) == list(range(10, 20))
    assert order[:10] != sorted(order[:10])


def test_epochs_count_from_the_initial_one() -> None:
    seen: list[int] = []

    class Epochs(Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            seen.append(epoch)

    history = line().fit(np.zeros((2, 1)), np.zeros(2), epochs=5, initial_epoch=3, verbose=0, callbacks=[Epochs()])
    assert seen == history.epoch == [3, 4]


def test_progress_of_batches_whose_number_is_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    line().fit(pairs(3), verbose=2)
    line().evaluate(pairs(2), verbose=2)
    line().predict(pairs(2), verbose=2)
    starts = [text.split(" - ")[:2] for text in capsys.readouterr().out.splitlines()]
    assert starts == [["Epoch 1/1", "3/3"], ["Test", "2/2"], ["Predict", "2/2"]]


def test_predicted_outputs_reach_the_callbacks() -> None:
    seen: list[Any] = []

    class Outputs(Callback):
        def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
            seen.append(logs["outputs"])

    predicted = line().predict(np.arange(5.0)[:, None], batch_size=2, verbose=0, callbacks=[Outputs()])
    np.testing.assert_array_equal(np.concatenate(seen), predicted)


# -- errors ------------------------------------------------------------------------------------------------------------

Y = REAL[:, :1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": pairs(1), "y": Y}, "y: expected none beside a generator"),
        ({"x": pairs(1), "sample_weight": WEIGHTS}, "sample_weight: expected none beside a generator"),
        ({"x": pairs(1), "class_weight": {0: 1}}, "class_weight: expected none beside a generator"),
        ({"x": pairs(1), "validation_split": 0.5}, "validation_split: expected arrays to split, received generator"),
        ({"x": pairs(0)}, "x: expected a generator with at least one batch"),
        ({"x": Numbered(0)}, "x: expected at least one batch, received a Numbered of length 0"),
        ({"x": iter([(X, Y, WEIGHTS, X)])}, "received one of 4 parts"),
        ({"x": iter([X])}, "y: expected targets for the loss and the metrics, received None"),
        ({"x": iter([(X[:, :3], Y)])}, r"expected inputs of shape \(None, 4\), received \(None, 3\)"),
        ({"x": iter([(X, Y[:3])])}, "y: expected one label for each of the 22 samples, received 3"),
        ({"x": [X, X], "y": Y}, "x: expected one array for .*, received a list of 2; np.stack"),
        ({"x": {}, "y": Y}, "x: expected at least one array, received an empty dictionary"),
        ({"x": X}, "y: expected targets for the loss and the metrics, received None"),
        ({"x": X, "y": [Y, Y]}, "y: expected one array for the model's output, received 2"),
        ({"x": X, "y": Y, "sample_weight": WEIGHTS[:5]}, "sample_weight: expected one weight for each of the 22"),
        ({"x": X, "y": Y, "sample_weight": np.ones((22, 3))}, r"weights of shape \(22,\).* received \(22, 3\)"),
        ({"x": X, "y": Y, "sample_weight": WEIGHTS, "class_weight": {0: 1}}, "received both"),
        ({"x": X, "y": Y, "class_weight": [1, 2]}, r"a dictionary of numbers by class number, .*received \[1, 2\]"),
        ({"x": X, "y": Y, "class_weight": {"cat": 1}}, "a dictionary of numbers by class number"),
        ({"x": X, "y": Y, "steps_per_epoch": 0}, "steps_per_epoch: expected an integer of at least 1, received 0"),
        ({"x": X, "y": Y, "validation_steps": 0.5}, "validation_steps: .* received 0.5"),
        ({"x": X, "y": Y, "validation_batch_size": 0}, "validation_batch_size: "),
        ({"x": X, "y": Y, "validation_freq": 0}, "validation_freq: expected an integer of at least 1, received 0"),
        ({"x": X, "y": Y, "initial_epoch": -1}, "initial_epoch: expected an integer of at least 0, received -1"),
        ({"x": X, "y": Y, "shuffle": "batches"}, "shuffle: expected True, False or 'batch', received 'batches'"),
        ({"x": X, "y": Y, "validation_data": pairs(0)}, "validation x: expected a generator with at least one batch"),
        ({"x": X, "y": Y, "validation_data": (X, Y, WEIGHTS[:1])}, "validation sample_weight: expected one weight"),
        ({"x": X, "y": Y, "validation_data": (X, Y, WEIGHTS, X)}, r"a pair \(x, y\), .* of type tuple of length 4"),
    ],
)
def test_what_fit_refuses_before_it_begins(arguments: dict[str, Any], message: str) -> None:
    model = Sequential([L.Input((4,)), L.Dense(1)])
    model.compile(SGD(0.1), "mse")
    before = model.get_weights()
    begun: list[bool] = []

    class Begun(Callback):
        def on_train_begin(self, logs: Any = None) -> None:
            begun.append(True)

    with pytest.raises(ValueError, match=message):
        model.fit(**{"verbose": 0, "callbacks": [Begun()], **arguments})
    assert not begun
    assert all((a == b).all() for a, b in zip(before, model.get_weights()))


@pytest.mark.parametrize(
    ("compiled", "message"),
    [
        ({"loss": {"a": "mse", "b": "mse"}, "loss_weights": {"a": 2}}, "loss_weights: expected an entry.* for 'b'"),
        ({"loss": "mse", "steps_per_execution": 4}, "steps_per_execution: expected 1, .* received 4"),
        ({"loss": "mse", "auto_scale_loss": False}, "auto_scale_loss: expected True, .* received False"),
        ({"loss": "mse", "jit_compile": "fast"}, "jit_compile: expected False or True or 'auto'"),
        ({"loss": {"a": "mse", "c": "mse"}}, "loss: there is no output 'c'; the outputs are a, b"),
        ({"loss": ["mse"]}, r"loss: expected 2 entries, one for each output \(a, b\), received 1"),
        ({"loss": "mse", "loss_weights": 2.0}, "loss_weights: expected 2 numbers, .*received 2.0"),
        ({"loss": "mse", "loss_weights": [1, 2, 3]}, "loss_weights: expected 2 entries"),
        ({"loss": "mse", "loss_weights": ["much", 1]}, "loss_weights: expected numbers, received 'much'"),
        ({"loss": "mse", "metrics": ["accuracy"]}, "metrics: expected 2 entries"),
        ({"loss": "mse", "metrics": {"aa": "accuracy"}}, "metrics: there is no output 'aa'.*Did you mean 'a'"),
        ({"loss": "mse", "weighted_metrics": "accuracy"}, "weighted_metrics: expected a list"),
        ({"loss": ["mse", "mze"]}, "unknown loss 'mze'. Did you mean 'mse'"),
    ],
)
def test_what_compile_refuses(compiled: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Heads().compile("sgd", **compiled)


@pytest.mark.parametrize(
    ("y", "given", "message"),
    [
        ([REAL], {}, r"y: expected 2 arrays, one for each output \(a, b\), received 1"),
        ({"a": REAL}, {}, "y: expected targets for the loss and the metrics of output 'b', received none"),
        ({"a": REAL, "c": LABELS}, {}, "y: there is no output 'c'"),
        ([REAL, LABELS + 1], {}, r"labels in 0 \.\. 2"),
        ([REAL, LABELS[:4]], {}, "received 4"),
        ([REAL, LABELS], {"sample_weight": np.ones((22, 2))}, "one number per sample when several outputs share them"),
        ([REAL, LABELS], {"sample_weight": [WEIGHTS]}, "sample_weight: expected 2 arrays"),
        ([REAL, LABELS], {"class_weight": {0: 1.0}}, "class_weight: expected none for a model with several outputs"),
    ],
)
def test_what_a_model_with_several_outputs_refuses(y: Any, given: dict[str, Any], message: str) -> None:
    model = Heads()
    model.compile("sgd", ["mse", "sparse_categorical_crossentropy"])
    with pytest.raises(ValueError, match=message):
        model.fit(X, y, verbose=0, **given)


def test_labels_that_were_refused_settle_nothing() -> None:
    model = classifier(metrics=["accuracy"])
    right = (model.predict(X, verbose=0).argmax(axis=1) == LABELS).mean()
    with pytest.raises(ValueError, match="for one-hot labels use 'categorical_crossentropy'"):
        model.evaluate(X, ONE_HOT, verbose=0)
    assert model.evaluate(X, LABELS, verbose=0)[1] == pytest.approx(right)


def test_a_bad_batch_is_refused_before_anything_is_computed_with_it() -> None:
    model = line(0.1)
    seen: list[np.ndarray] = []

    def batches() -> Iterator[Any]:
        yield from pairs(2, 1)
        seen.extend(model.get_weights())
        yield np.zeros((2, 3)), np.zeros((2, 1))

    with pytest.raises(ValueError, match="expected inputs of shape"):
        model.fit(batches(), verbose=0)
    assert all((a == b).all() for a, b in zip(seen, model.get_weights()))


def test_a_loss_of_one_number_counts_for_each_weight() -> None:
    model = Sequential([L.Input((4,)), L.Dense(1)])
    model.compile("sgd", lambda y_true, y_pred: (y_pred * y_pred).mean())
    plain = model.evaluate(X, Y, batch_size=len(X), verbose=0)
    weighted = model.evaluate(X, Y, batch_size=len(X), sample_weight=WEIGHTS, verbose=0)
    assert weighted == pytest.approx(plain * WEIGHTS.mean(), rel=1e-5)


def test_losses_and_metrics_take_weights_by_themselves() -> None:
    loss = MeanSquaredError(reduction="none")
    assert loss([[0.0], [2.0]], [[1.0], [4.0]], sample_weight=Tensor([2.0, 0.5])).numpy().tolist() == [2.0, 2.0]
    assert MeanSquaredError(reduction="sum")([[0.0], [2.0]], [[1.0], [4.0]], [[3.0], [1.0]]).item() == 7.0
    metric = SparseCategoricalAccuracy()
    assert metric([0, 1], [[0.9, 0.1], [0.9, 0.1]], sample_weight=[3.0, 1.0]) == 0.75
    with pytest.raises(ValueError, match=r"received \(3,\)"):
        metric.update_state([0, 1], [[0.9, 0.1], [0.9, 0.1]], [1.0, 1.0, 1.0])
    with pytest.raises(ValueError, match=r"expected weights of shape \(2,\).*received \(2, 2\)"):
        loss([[0.0], [2.0]], [[1.0], [4.0]], sample_weight=np.ones((2, 2)))
    assert isinstance(loss, Loss)


def test_processes_and_negative_numbers_of_threads_are_refused() -> None:
    with pytest.raises(ValueError, match="use_multiprocessing: expected False"):
        PyDataset(use_multiprocessing=True)
    with pytest.raises(ValueError, match="workers"):
        PyDataset(workers=-1)
    with pytest.raises(NotImplementedError, match="must define __len__"):
        len(list(PyDataset()))
    with pytest.raises(NotImplementedError, match="must define __getitem__"):
        PyDataset()[0]


class Body(L.Layer):
    """Layers that say themselves what is trained, or what training adds to the loss or does after a step."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = L.Dense(3, kernel_regularizer="l2"), L.Dense(1)
        self.constrained = 0

    def call(self, inputs: Tensor) -> Tensor:
        return self.second(self.first(inputs))


class Frozen(Body):
    @property
    def trainable_weights(self) -> list[Tensor]:
        return self.second.trainable_weights


class Added(Body):
    @property
    def losses(self) -> list[Tensor]:
        return [*super().losses, Tensor(100.0)]


class Constrained(Body):
    def apply_constraints(self) -> None:
        super().apply_constraints()
        self.constrained += 1


class ModelOfBody(Model):
    def __init__(self, body: Body) -> None:
        super().__init__()
        self.body = body

    def call(self, inputs: Tensor) -> Tensor:
        return self.body(inputs)


class FrozenModel(ModelOfBody):
    @property
    def trainable_weights(self) -> list[Tensor]:
        return self.body.second.trainable_weights


class AddedModel(ModelOfBody):
    @property
    def losses(self) -> list[Tensor]:
        return [*super().losses, Tensor(100.0)]


class ConstrainedModel(ModelOfBody):
    def apply_constraints(self) -> None:
        super().apply_constraints()
        self.body.constrained += 1


@pytest.mark.parametrize(
    ("model", "frozen", "added", "constrained"),
    [
        (lambda: ModelOfBody(Body()), False, 0, 0), (lambda: ModelOfBody(Frozen()), True, 0, 0),
        (lambda: ModelOfBody(Added()), False, 100, 0), (lambda: ModelOfBody(Constrained()), False, 0, 1),
        (lambda: FrozenModel(Body()), True, 0, 0), (lambda: AddedModel(Body()), False, 100, 0),
        (lambda: ConstrainedModel(Constrained()), False, 0, 2), (lambda: AddedModel(Added()), False, 200, 0),
    ],
)  # fmt: skip
def test_what_layers_say_of_their_training_themselves_holds(
    model: Callable[[], ModelOfBody], frozen: bool, added: float, constrained: int
) -> None:
    found = model()
    x, y = np.ones((4, 2), np.float32), np.zeros((4, 1), np.float32)
    found.compile(optimizer="sgd", loss="mse")
    plain = float(np.mean(found.predict(x, verbose=0) ** 2))
    regular = 0.01 * float(np.square(found.body.first.kernel.data).sum())
    before = [weight.data.copy() for weight in (found.body.first.kernel, found.body.second.kernel)]
    loss = found.train_on_batch(x, y)
    assert loss == pytest.approx(plain + regular + added, rel=1e-5)
    after = [found.body.first.kernel.data, found.body.second.kernel.data]
    assert [np.array_equal(a, b) for a, b in zip(before, after)] == [frozen, False]
    assert found.body.constrained == constrained
    assert found.evaluate(x, y, verbose=0) > added


def test_gradients_of_weights_that_are_not_trained_do_not_add_up() -> None:
    class Scaled(L.Layer):
        def build(self, input_shape: Any) -> None:
            self.scale = self.add_weight((1,), "ones", trainable=False)
            self.scale.requires_grad = True

        def call(self, inputs: Tensor) -> Tensor:
            return inputs * self.scale

    model = Sequential([L.Input((2,)), L.Dense(1, kernel_initializer="ones"), scaled := Scaled()])
    model.compile(optimizer=SGD(0.0), loss="mse")
    x, y = np.ones((4, 2), np.float32), np.zeros((4, 1), np.float32)
    for _ in range(2):
        model.train_on_batch(x, y)
        assert scaled.scale.grad is not None
        assert scaled.scale.grad.item() == 8.0  # of (2 scale)^2 at 1
