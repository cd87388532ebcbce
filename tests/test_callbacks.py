"""Callbacks: beside Keras' own on the same numbers, and in the training of a model."""

from __future__ import annotations

import csv
import inspect
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pycnn import callbacks, metrics, optimizers
from pycnn.callbacks import (
    Callback,
    CallbackList,
    CSVLogger,
    EarlyStopping,
    LambdaCallback,
    LearningRateScheduler,
    ModelCheckpoint,
    ReduceLROnPlateau,
    TensorBoard,
    TerminateOnNaN,
)
from pycnn.layers import Dense, Input
from pycnn.models import Sequential


def linear() -> Sequential:
    model = Sequential([Input((2,)), Dense(1)])
    model.compile(optimizers.SGD(0.1), "mse")
    return model


X, Y = np.random.default_rng(0).normal(size=(12, 2)), np.arange(12.0)


class Rate:
    """An optimizer as far as callbacks see it."""

    def __init__(self) -> None:
        self.learning_rate = 0.5
        self.iterations = 0


class Toy:
    """A model as far as callbacks see it; its weights are the epoch that is over."""

    metrics = ()

    def __init__(self) -> None:
        self.optimizer = Rate()
        self.stop_training = False
        self.weights: list[Any] = []
        self.saved: list[tuple[str, str]] = []

    def get_weights(self) -> list[Any]:
        return list(self.weights)

    def set_weights(self, weights: list[Any]) -> None:
        self.weights = list(weights)

    def save(self, filepath: str, overwrite: bool = False) -> None:
        assert overwrite
        self.saved.append(("model", filepath))

    def save_weights(self, filepath: str, overwrite: bool = False) -> None:
        assert overwrite
        self.saved.append(("weights", filepath))


def drive(callback: Any, epochs: list[dict[str, float]], steps: int = 0) -> Toy:
    """The calls of a training that these logs come from."""
    model = Toy()
    callback.set_model(model)
    callback.on_train_begin()
    for epoch, logs in enumerate(epochs):
        callback.on_epoch_begin(epoch)
        for step in range(steps):
            callback.on_train_batch_end(step, {"loss": logs["loss"] + step})
        model.weights = [epoch]
        callback.on_epoch_end(epoch, dict(logs))
        if model.stop_training:
            break
    callback.on_train_end()
    return model


def numbers(*values: float, name: str = "val_loss") -> list[dict[str, float]]:
    return [{"loss": 1.0, name: value} for value in values]


FALLING = numbers(5, 4, 4, 3.95, 4.2, 3.5, 3.6, 3.7, 3.8, 3.9, 1.0, 1.1, 1.2, 1.3)
WITH_NAN = numbers(float("nan"), float("nan"), 3, 4, 5, 6, 7)


def both(name: str, arguments: dict[str, Any]) -> list[Any]:
    return [kind(**arguments) for kind in kinds(name)]


def kinds(name: str) -> list[Any]:
    """The callback of Keras and ours, where Keras is installed."""
    keras = pytest.importorskip("keras", exc_type=ImportError)
    return [getattr(keras.callbacks, name), getattr(callbacks, name)]


@pytest.mark.parametrize("logs", [FALLING, WITH_NAN, numbers(1, 2, 3), numbers(3, 2, 1)])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"patience": 2},
        {"patience": 2, "restore_best_weights": True},
        {"patience": 3, "min_delta": 0.2, "restore_best_weights": True},
        {"patience": 1, "mode": "max", "restore_best_weights": True},
        {"patience": 2, "baseline": 3.8},
        {"patience": 1, "start_from_epoch": 4, "restore_best_weights": True},
    ],
    ids=str,
)
def test_early_stopping(arguments: dict[str, Any], logs: Any, capsys: pytest.CaptureFixture[str]) -> None:
    found = []
    for callback in both("EarlyStopping", arguments | {"verbose": 1}):
        model = drive(callback, logs)
        state = (model.stop_training, model.weights, callback.stopped_epoch, callback.wait, callback.best)
        found.append((*map(str, state), capsys.readouterr().out))
    assert found[0] == found[1]


@pytest.mark.parametrize("logs", [FALLING, WITH_NAN, numbers(1, 1, 1, 1, 1, 1)])
@pytest.mark.parametrize(
    "arguments",
    [
        {"patience": 1},
        {"patience": 2, "factor": 0.5, "min_delta": 0.2},
        {"patience": 1, "cooldown": 2, "factor": 0.25},
        {"patience": 1, "min_lr": 0.1, "factor": 0.5},
        {"patience": 1, "mode": "max"},
    ],
    ids=str,
)
def test_reduce_lr_on_plateau(arguments: dict[str, Any], logs: Any, capsys: pytest.CaptureFixture[str]) -> None:
    found = []
    for callback in both("ReduceLROnPlateau", arguments | {"verbose": 1}):
        model = drive(callback, logs)
        found.append((model.optimizer.learning_rate, callback.wait, callback.cooldown_counter, capsys.readouterr().out))
    assert found[0] == found[1]


@pytest.mark.parametrize("schedule", [lambda epoch: 0.5 / (epoch + 1), lambda epoch, rate: rate * 0.5])
def test_learning_rate_scheduler(schedule: Any, capsys: pytest.CaptureFixture[str]) -> None:
    found = []
    for callback in both("LearningRateScheduler", {"schedule": schedule, "verbose": 1}):
        model = drive(callback, FALLING[:3])
        logs: dict[str, float] = {}
        callback.on_epoch_end(3, logs)
        found.append((model.optimizer.learning_rate, logs or None, capsys.readouterr().out))
    assert found[0][0] == found[1][0]
    assert found[1][1] == {"learning_rate": found[1][0]}
    assert found[0][2] == found[1][2]


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"save_best_only": True},
        {"save_best_only": True, "mode": "max"},
        {"save_best_only": True, "initial_value_threshold": 3.6},
        {"save_freq": 3, "filepath": "{epoch}-{batch}.keras"},
        {"filepath": "{epoch:02d}-{val_loss:.2f}.keras"},
        {"filepath": "w-{epoch}.weights.h5", "save_weights_only": True},
    ],
    ids=str,
)
def test_model_checkpoint(
    arguments: dict[str, Any], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = []
    for callback in both("ModelCheckpoint", {"filepath": "a.keras", "verbose": 1} | arguments):
        model = drive(callback, FALLING, steps=4)
        found.append((model.saved, str(callback.best), capsys.readouterr().out))
    assert found[0] == found[1]
    assert found[0][0]


@pytest.mark.parametrize("separator", [",", ";"])
@pytest.mark.parametrize("logs", [FALLING, [{"loss": 1.0, "b": 2.0}, {"loss": 0.5}], [{"val_a": 1.0}, {"a": 2.0}]])
def test_csv_logger(logs: Any, separator: str, tmp_path: Path) -> None:
    rows = []
    for number, kind in enumerate(kinds("CSVLogger")):
        path = tmp_path / f"{number}.csv"
        drive(kind(str(path), separator=separator), logs)
        drive(kind(str(path), separator=separator, append=True), logs[:2])
        with open(path, newline="") as file:
            rows.append(list(csv.reader(file, delimiter=separator)))
    assert rows[0] == rows[1]


@pytest.mark.parametrize("loss", [1.0, float("nan"), float("inf"), float("-inf")])
def test_terminate_on_nan(loss: float, capsys: pytest.CaptureFixture[str]) -> None:
    found = []
    for callback in both("TerminateOnNaN", {}):
        model = Toy()
        callback.set_model(model)
        callback.on_train_batch_end(3, {"loss": loss})
        found.append((model.stop_training, capsys.readouterr().out))
    assert found[0] == found[1]
    if not np.isfinite(loss):
        with pytest.raises(RuntimeError, match="batch 3: the loss is"):
            TerminateOnNaN(raise_error=True).on_train_batch_end(3, {"loss": loss})


@pytest.mark.parametrize(
    "name",
    [
        "EarlyStopping",
        "ReduceLROnPlateau",
        "LearningRateScheduler",
        "ModelCheckpoint",
        "CSVLogger",
        "TerminateOnNaN",
        "LambdaCallback",
        "TensorBoard",
    ],
)
def test_arguments_and_defaults(name: str) -> None:
    theirs, ours = (inspect.signature(kind.__init__).parameters for kind in kinds(name))
    expected = [(p.name, p.default) for p in theirs.values() if (name, p.name) != ("ReduceLROnPlateau", "kwargs")]
    assert [(p.name, p.default) for p in ours.values()] == expected


# -- in the training of a model --------------------------------------------------------------------------------------


def test_learning_rates_of_a_training() -> None:
    model = linear()
    seen: list[float] = []
    watch = LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(logs["learning_rate"]))
    plateau = ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=1e9)
    model.fit(X, Y, epochs=4, verbose=0, callbacks=[plateau, watch])
    assert seen == [0.1, 0.1, 0.05, 0.025]
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[LearningRateScheduler(lambda epoch: 0.1 * (epoch + 1)), watch])
    assert seen[4:] == [0.1, 0.2]


def test_training_ends_with_the_best_weights() -> None:
    model = linear()
    weights: list[Any] = []
    keep = LambdaCallback(on_epoch_end=lambda epoch, logs: weights.append(model.get_weights()))
    rise = LearningRateScheduler(lambda epoch: 0.05 if epoch < 3 else 30.0)
    stop = EarlyStopping("loss", patience=2, restore_best_weights=True)
    history = model.fit(X, Y, epochs=20, verbose=0, callbacks=[keep, rise, stop])
    best = int(np.argmin(history.history["loss"]))
    assert len(history.epoch) == best + 3
    for found, expected in zip(model.get_weights(), weights[best], strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_loss_that_is_no_number_ends_training() -> None:
    model = linear()
    steps: list[int] = []
    count = LambdaCallback(on_train_batch_end=lambda batch, logs: steps.append(batch))
    model.fit(X, Y * np.nan, epochs=3, batch_size=12, verbose=0, callbacks=[TerminateOnNaN(), count])
    assert steps == [0]


def test_the_log_is_whole_when_training_is_interrupted(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"

    class Interrupt(Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if epoch == 1:
                raise KeyboardInterrupt

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of files that are left open
        with pytest.raises(KeyboardInterrupt):
            linear().fit(X, Y, epochs=4, verbose=0, callbacks=[CSVLogger(path), Interrupt()])
    lines = path.read_text().splitlines()
    assert lines[0] == "epoch,loss,val_loss"
    assert [line.partition(",")[0] for line in lines[1:]] == ["0", "1"]


def test_a_half_line_stays_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("epoch,loss\n0,1.0\n1,0.")
    drive(CSVLogger(path, append=True), [{"loss": 0.25, "accuracy": 1.0}])
    assert path.read_text() == "epoch,loss\n0,1.0\n1,0.\n0,0.25\n"


def test_all_callbacks_are_called_at_the_end() -> None:
    ended: list[str] = []

    class Fails(Callback):
        def on_train_end(self, logs: Any = None) -> None:
            ended.append("first")
            raise RuntimeError("disk full")

    last = LambdaCallback(on_train_end=lambda logs: ended.append("last"))
    with pytest.raises(RuntimeError, match="disk full"):
        linear().fit(X, Y, verbose=0, callbacks=[Fails(), last])
    assert ended == ["first", "last"]
    with pytest.raises(RuntimeError, match="disk full"):
        CallbackList([Fails(), last], linear(), {}).call("on_train_end", {})
    assert ended == ["first", "last"] * 2


def test_functions_without_defaults_get_logs() -> None:
    seen: list[Any] = []
    moments = {
        name: (lambda *arguments, name=name: seen.append((name, len(arguments))))
        for name in dir(Callback)
        if name[:3] == "on_"
    }
    linear().fit(X, Y, epochs=1, batch_size=12, verbose=0, callbacks=[LambdaCallback(**moments)])
    assert ("on_train_begin", 1) in seen
    assert ("on_train_end", 1) in seen
    for name, count in seen:
        assert count == (2 if "epoch" in name or "batch" in name else 1), name


def test_a_folder_for_checkpoints_is_made(tmp_path: Path) -> None:
    model = drive(ModelCheckpoint(tmp_path / "new" / "{epoch}.pycnn"), FALLING[:2])
    assert model.saved == [("model", str(tmp_path / "new" / f"{epoch}.pycnn")) for epoch in (1, 2)]
    (tmp_path / "new" / "1.pycnn").mkdir()
    with pytest.raises(IsADirectoryError, match="received that of a folder"):
        drive(ModelCheckpoint(tmp_path / "new" / "{epoch}.pycnn"), FALLING[:2])


@pytest.mark.parametrize(
    ("monitor", "better"),
    [
        ("val_accuracy", "up"),
        ("auc_2", "up"),
        ("val_precision", "up"),
        ("cosine_similarity", "up"),
        ("val_mae", "down"),
        ("root_mean_squared_error", "down"),
        ("huber", "down"),
        ("val_out_loss", "down"),
    ],
)
def test_what_is_better_is_known_by_name(monitor: str, better: str) -> None:
    callback = EarlyStopping(monitor)
    callback.set_model(Toy())  # type: ignore[arg-type]
    assert callback.is_better(2.0, 1.0) == (better == "up")
    assert callback.is_better(1.0, 2.0) == (better == "down")


def test_what_is_better_is_known_by_a_weighted_metric() -> None:
    model = Sequential([Input((2,)), Dense(1, activation="sigmoid")])
    watched = EarlyStopping("val_weighted_acc")
    model.compile("sgd", "mse", metrics=["acc"], weighted_metrics=["acc"])
    given = {"validation_data": (X, Y > 5), "sample_weight": Y, "verbose": 0}
    history = model.fit(X, Y > 5, epochs=2, callbacks=[watched], **given).history
    assert "val_weighted_acc" in history
    assert watched.is_better(2.0, 1.0)
    watched = EarlyStopping("weighted_mae")
    watched.set_model(Toy())  # type: ignore[arg-type]
    assert watched.is_better(1.0, 2.0)


def test_moments_by_the_names_without_train() -> None:
    found: dict[str, list[Any]] = {}
    for name, kind in zip(("theirs", "ours"), kinds("Callback")):
        calls: list[Any] = []
        methods = {
            "on_batch_begin": lambda self, batch, logs=None, calls=calls: calls.append(("begin", batch)),
            "on_batch_end": lambda self, batch, logs=None, calls=calls: calls.append(("end", batch, sorted(logs))),
        }
        callback = type("Both", (kind,), methods)()
        for batch in range(2):
            callback.on_train_batch_begin(batch)
            callback.on_train_batch_end(batch, {"loss": 1.0})
        found[name] = calls
    assert found["ours"] == found["theirs"]
    ends: list[int] = []
    given = LambdaCallback(on_batch_end=lambda batch, logs: ends.append(batch))
    linear().fit(X, Y, batch_size=6, verbose=0, callbacks=[given])
    assert ends == [0, 1]


def test_what_is_better_is_known_by_the_metric() -> None:
    model = Toy()
    model.metrics = (metrics.Recall(name="mine"),)  # type: ignore[assignment]
    callback = EarlyStopping("val_mine")
    callback.set_model(model)  # type: ignore[arg-type]
    assert callback.is_better(2.0, 1.0)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: EarlyStopping(mode="least"), ValueError, "mode: expected 'auto', 'min' or 'max', received 'least'"),
        (lambda: drive(EarlyStopping("val_mine"), numbers(1, name="val_mine")), ValueError, "'val_mine' does not say"),
        (lambda: ReduceLROnPlateau(factor=1.0), ValueError, "factor: expected a number below 1, received 1.0"),
        (lambda: LearningRateScheduler(0.5), TypeError, "schedule: expected a function"),  # type: ignore[arg-type]
        (lambda: drive(LearningRateScheduler(lambda e: None), FALLING), ValueError, "a float, received None"),  # type: ignore[arg-type,return-value]
        (lambda: LambdaCallback(on_epoch=print), TypeError, "there is no moment 'on_epoch'"),
        (lambda: LambdaCallback(on_epoch_end=3), TypeError, "on_epoch_end: expected a function"),  # type: ignore[arg-type]
        (lambda: ModelCheckpoint("a.h5"), ValueError, r"ending in .pycnn or .keras, received 'a.h5'"),
        (lambda: ModelCheckpoint("a.keras", save_weights_only=True), ValueError, "ending in .safetensors or"),
        (lambda: ModelCheckpoint("a.keras", save_freq="step"), ValueError, "save_freq: expected 'epoch' or"),
        (lambda: ModelCheckpoint("a.keras", save_freq=0), ValueError, "at least 1, received 0"),
        (lambda: drive(ModelCheckpoint("{val_acc}.keras"), FALLING), KeyError, "there are: epoch, loss, val_loss"),
        (lambda: TensorBoard(histogram_freq=1), ValueError, "histogram_freq: only numbers are written"),
        (lambda: TensorBoard(update_freq="step"), ValueError, "update_freq: expected 'epoch', 'batch' or a number"),
    ],
)
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("callback", [EarlyStopping("val_acc"), ReduceLROnPlateau("val_acc")])
def test_a_number_that_is_missing_is_said(callback: Any) -> None:
    with pytest.warns(UserWarning, match=r"watches 'val_acc', which is not in the logs; there are: .*loss"):
        drive(callback, FALLING[:1])


# -- TensorBoard -----------------------------------------------------------------------------------------------------


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard itself reads."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        name: [(event.step, float(make_ndarray(event.tensor_proto))) for event in events.Tensors(name)]
        for name in events.Tags()["tensors"]
    }


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    model = linear()
    board = TensorBoard(tmp_path, update_freq="batch", write_steps_per_second=True)
    history = model.fit(
        X, Y, batch_size=6, epochs=3, validation_data=(X, Y), verbose=0, shuffle=False, callbacks=[board]
    ).history
    assert not board._writers
    train, validation = scalars(tmp_path / "train"), scalars(tmp_path / "validation")
    assert set(train) == {"epoch_loss", "epoch_learning_rate", "epoch_steps_per_second", "batch_loss"}
    assert train["epoch_loss"] == [(epoch, pytest.approx(value)) for epoch, value in enumerate(history["loss"])]
    assert validation["epoch_loss"] == [(e, pytest.approx(value)) for e, value in enumerate(history["val_loss"])]
    assert [step for step, _ in train["batch_loss"]] == [1, 2, 3, 4, 5, 6]
    assert [step for step, _ in validation["evaluation_loss_vs_iterations"]] == [2, 4, 6]
    assert train["epoch_learning_rate"][0] == (0, pytest.approx(0.1))


def test_tensorboard_has_a_curve_for_each_number_of_a_metric(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    model = Sequential([Input((2,)), Dense(1, activation="sigmoid")])
    model.compile("sgd", "mse", metrics=[metrics.Recall(thresholds=[0.2, 0.8], name="found")])
    history = model.fit(X, Y > 5, verbose=0, callbacks=[TensorBoard(tmp_path)]).history
    written = scalars(tmp_path / "train")
    for place in (0, 1):
        assert written[f"epoch_found/{place}"] == [(0, pytest.approx(history["found"][0][place]))]


def test_without_tensorboard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'pycnn\[tensorboard\]'"):
        TensorBoard()
