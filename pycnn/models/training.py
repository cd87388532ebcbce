"""The loops of training, evaluating and predicting."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from pycnn.autograd import no_grad
from pycnn.callbacks import Callback, CallbackList, History, ProgbarLogger
from pycnn.layers.layer import Parts
from pycnn.models.data import count, split
from pycnn.models.feed import Feed
from pycnn.models.intake import Intake, check_class_weight, gives_batches
from pycnn.structures import is_structure, leaves, mapped, packed
from pycnn.tensor import Tensor

if TYPE_CHECKING:
    from pycnn.models.model import Model


def fit(
    model: Model,
    x: Any,
    y: Any,
    *,
    batch_size: int | None,
    epochs: int,
    verbose: int | str,
    callbacks: Iterable[Callback] | Callback,
    validation_split: float,
    validation_data: Any,
    shuffle: bool | str,
    class_weight: Any,
    sample_weight: Any,
    initial_epoch: int,
    steps_per_epoch: int | None,
    validation_steps: int | None,
    validation_batch_size: int | None,
    validation_freq: int | Collection[int],
) -> History:
    """Train; see :meth:`pycnn.models.Model.fit`."""
    batch_size, steps = _at_least_one(batch_size, "batch_size"), _at_least_one(steps_per_epoch, "steps_per_epoch")
    validation_batch_size = _at_least_one(validation_batch_size, "validation_batch_size") or batch_size
    validation_steps = _at_least_one(validation_steps, "validation_steps")
    epochs, initial_epoch = count(epochs, "epochs", 0), count(initial_epoch, "initial_epoch", 0)
    if isinstance(shuffle, str) and shuffle != "batch":
        raise ValueError(f"shuffle: expected True, False or 'batch', received {shuffle!r}")
    check_class_weight(class_weight, sample_weight)
    _check_frequency(validation_freq)
    intake, validation = Intake(model, model.objective), None
    if gives_batches(x):
        if validation_split:
            raise ValueError(f"validation_split: expected arrays to split, received {type(x).__name__}")
        feed = intake.feed(
            x,
            y,
            sample_weight,
            batch_size=batch_size,
            steps=steps,
            class_weight=class_weight,
            shuffle=shuffle,
        )
    else:
        samples = intake.arrays(x, y, sample_weight)
        trained, validated = split(samples, validation_split)
        if validation_data is not None:
            trained = samples
        elif validated is not None:
            validation = intake.feed_of(validated, validation_batch_size, validation_steps)
        if class_weight is not None:
            trained = intake.weighed(trained, class_weight)
        feed = intake.feed_of(trained, batch_size, steps, shuffle)
    if validation_data is not None:
        validation = _validation(model, validation_data, validation_batch_size, validation_steps)
    params = {"epochs": epochs, "steps": feed.steps, "verbose": _verbosity(verbose)}
    called = _callback_list(model, callbacks, params, keeps_history=True)
    model.history = history = called.last(History)
    assert history is not None
    model.stop_training = False
    logs: dict[str, float] = {}
    called.call("on_train_begin")
    try:
        for epoch in range(initial_epoch, epochs):
            if not feed.has_more():
                _warn_of_the_end(f"training ends after {epoch - initial_epoch} of {epochs - initial_epoch} epochs")
                break
            called.call("on_epoch_begin", epoch)
            logs = _train_epoch(model, feed, called)
            if params["steps"] is None:
                params["steps"] = feed.taken
            if validation is not None and _is_validated(epoch, validation_freq):
                logs.update({f"val_{name}": value for name, value in _validate(model, validation, called).items()})
            called.call("on_epoch_end", epoch, logs)
            if model.stop_training:
                break
    finally:
        called.call("on_train_end", logs)
    return history


def train_on_batch(model: Model, x: Any, y: Any, sample_weight: Any, class_weight: Any) -> dict[str, float]:
    """One step of training; loss and metrics of the batch."""
    check_class_weight(class_weight, sample_weight)
    batch = Intake(model, model.objective).batch(x, y, sample_weight, class_weight=class_weight)
    model.objective.reset()
    _train_step(model, *batch)
    return model.objective.result()


def test_on_batch(model: Model, x: Any, y: Any, sample_weight: Any) -> dict[str, float]:
    """Loss and metrics of the batch."""
    batch = Intake(model, model.objective).batch(x, y, sample_weight)
    model.objective.reset()
    _test_step(model, *batch)
    return model.objective.result()


def predict_on_batch(model: Model, x: Any) -> Any:
    """The outputs for a batch."""
    return _predict_step(model, *Intake(model).batch(x))


def evaluate(
    model: Model,
    x: Any,
    y: Any,
    *,
    batch_size: int | None,
    verbose: int | str,
    sample_weight: Any,
    steps: int | None,
    callbacks: Iterable[Callback] | Callback,
) -> dict[str, float]:
    """Loss and metrics by name; see :meth:`pycnn.models.Model.evaluate`."""
    batch_size, steps = _at_least_one(batch_size, "batch_size"), _at_least_one(steps, "steps")
    feed = Intake(model, model.objective).feed(x, y, sample_weight, batch_size=batch_size, steps=steps)
    params = {"epochs": 1, "steps": feed.steps, "verbose": _verbosity(verbose)}
    return _test(model, feed, _callback_list(model, callbacks, params), params)


def predict(
    model: Model,
    x: Any,
    *,
    batch_size: int | None,
    verbose: int | str,
    steps: int | None,
    callbacks: Iterable[Callback] | Callback,
) -> Any:
    """Outputs; see :meth:`pycnn.models.Model.predict`."""
    batch_size, steps = _at_least_one(batch_size, "batch_size"), _at_least_one(steps, "steps")
    feed = Intake(model).feed(x, batch_size=batch_size, steps=steps)
    params = {"epochs": 1, "steps": feed.steps, "verbose": _verbosity(verbose)}
    called = _callback_list(model, callbacks, params)
    outputs: list[Any] = []
    called.call("on_predict_begin")
    try:
        feed.begin()
        while feed.is_ready():
            called.call("on_predict_batch_begin", feed.taken)
            outputs.append(_predict_step(model, *feed.take()))
            called.call("on_predict_batch_end", feed.taken - 1, {"outputs": outputs[-1]})
        _end(feed, params)
    finally:
        called.call("on_predict_end")
    return _joined(outputs)


def results(logs: dict[str, float], return_dict: bool) -> float | list[float] | dict[str, float]:
    """Logs as ``evaluate`` returns them: by name, as a list, or the loss alone when there is nothing else."""
    if return_dict:
        return logs
    values = list(logs.values())
    return values if len(values) > 1 else values[0]


# -- epochs and steps --------------------------------------------------------------------------------------------


def _train_epoch(model: Model, feed: Feed, called: CallbackList) -> dict[str, float]:
    objective = model.objective
    objective.reset()
    feed.begin()
    while feed.is_ready():
        step = feed.taken
        called.call("on_train_batch_begin", step)
        _train_step(model, *feed.take())  # no name keeps the batch while the next one is gathered
        called.call("on_train_batch_end", step, objective.result())
        if model.stop_training:
            break
    _end(feed)
    return objective.result()


def _train_step(model: Model, x: Any, y: Any, sample_weights: Any) -> None:
    """Forward, backward, update. What was computed on the way is free again when this returns."""
    optimizer, objective = model.optimizer, model.objective
    assert optimizer is not None  # compile() sets it together with the objective
    predictions = objective.predictions(model(x, training=True))
    found = objective.of_batch(y, predictions, sample_weights)
    parts = Parts(model)
    rules = model if model._has_rules_of_its_own else parts
    loss, weights = _total(model, found, rules), rules.trainable_weights
    if weights:
        # An interrupted step may have left some, and layers that are not trained get some that nobody takes.
        parts.drop_gradients()
        loss.backward()
        optimizer.apply(weights)
        rules.apply_constraints()
    objective.update(_size(x), loss, found, y, predictions, sample_weights)


def _test_step(model: Model, x: Any, y: Any, sample_weights: Any) -> None:
    objective = model.objective
    with no_grad():
        predictions = objective.predictions(model(x, training=False))
        found = objective.of_batch(y, predictions, sample_weights)
        objective.update(_size(x), _total(model, found, model), found, y, predictions, sample_weights)


def _predict_step(model: Model, x: Any, y: Any, sample_weights: Any) -> Any:
    with no_grad():
        return mapped(Tensor.numpy, model(x, training=False))


def _total(model: Model, found: list[Tensor | None], rules: Model | Parts) -> Tensor:
    """The loss of a batch, with what the layers add to it."""
    loss = model.objective.total(found)
    for added in rules.losses:
        loss = added if loss is None else loss + added
    if loss is None:
        raise ValueError(
            f"{model}: there is no loss to compute; give compile() one, for example 'sparse_categorical_crossentropy'"
        )
    return loss


def _validate(model: Model, feed: Feed, called: CallbackList) -> dict[str, float]:
    if not feed.has_more():
        _warn_of_the_end("there is no validation after this epoch")
        return {}
    feed.restart()
    return _test(model, feed, called, {})


def _test(model: Model, feed: Feed, called: CallbackList, params: dict[str, Any]) -> dict[str, float]:
    objective = model.objective
    objective.reset()
    called.call("on_test_begin")
    try:
        feed.begin()
        while feed.is_ready():
            step = feed.taken
            called.call("on_test_batch_begin", step)
            _test_step(model, *feed.take())
            called.call("on_test_batch_end", step, objective.result())
        _end(feed, params)
    finally:
        called.call("on_test_end", objective.result())
    return objective.result()


def _end(feed: Feed, params: dict[str, Any] | None = None) -> None:
    """End an epoch; the callbacks' parameters learn how many steps it had.

    Raises:
        ValueError: when it had none.
    """
    if not feed.taken:
        raise ValueError("x: expected at least one batch, received none")
    feed.end()
    if feed.ran_out:
        _warn_of_the_end(f"this epoch has {feed.taken} instead of {feed.steps} steps")
    if params is not None:
        params["steps"] = feed.taken


def _warn_of_the_end(what: str) -> None:
    level, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_globals["__name__"].startswith("pycnn."):  # up to the line that called fit
        level, frame = level + 1, frame.f_back
    message = f"the data has no more batches: {what}. Make sure that there are steps x epochs of them"
    warnings.warn(message, UserWarning, stacklevel=level)


def _size(x: Any) -> int:
    return len(leaves(x)[0])


def _joined(outputs: list[Any]) -> Any:
    """The outputs of several batches as those of one."""
    if not is_structure(outputs[0]):
        return np.concatenate(outputs)
    return packed(outputs[0], map(np.concatenate, zip(*map(leaves, outputs))))


# -- checks before anything is computed ----------------------------------------------------------------------------


def _validation(model: Model, given: Any, batch_size: int | None, steps: int | None) -> Feed:
    intake = Intake(model, model.objective, "validation ")
    if gives_batches(given):
        return intake.feed(given, steps=steps)
    if not isinstance(given, list | tuple) or len(given) not in (2, 3):
        length = f" of length {len(given)}" if hasattr(given, "__len__") else ""
        raise ValueError(
            f"validation_data: expected (x, y, sample_weight), something that gives batches, or a pair (x, y), "
            f"received an object of type {type(given).__name__}{length}"
        )
    return intake.feed(*given, batch_size=batch_size, steps=steps)


def _at_least_one(value: int | None, name: str) -> int | None:
    return None if value is None else count(value, name, 1)


def _check_frequency(frequency: int | Collection[int]) -> None:
    if isinstance(frequency, Collection) and all(isinstance(each, int | np.integer) for each in frequency):
        return
    count(frequency, "validation_freq", 1)


def _is_validated(epoch: int, frequency: int | Collection[int]) -> bool:
    """Whether there is a validation after an epoch counted from 0; in ``frequency`` they count from 1, as in Keras."""
    return epoch + 1 in frequency if isinstance(frequency, Collection) else (epoch + 1) % frequency == 0


def _verbosity(verbose: int | str) -> int | str:
    if verbose not in (0, 1, 2, "auto"):
        raise ValueError(f"verbose: expected 0, 1, 2 or 'auto', received {verbose!r}")
    return verbose


def _callback_list(
    model: Model, callbacks: Iterable[Callback] | Callback, params: dict[str, Any], keeps_history: bool = False
) -> CallbackList:
    """The callbacks, with a progress bar and, where it is kept, a history, unless the user gives these."""
    if isinstance(callbacks, Callback):
        callbacks = [callbacks]
    if not isinstance(callbacks, Iterable):
        raise TypeError(f"callbacks: expected a list of Callback objects, received {callbacks!r}")
    given = list(callbacks)
    wanted: list[type[Callback]] = [History, ProgbarLogger] if keeps_history else [ProgbarLogger]
    # The history comes behind the callbacks of the call, as in Keras, so that it has what they add to the logs; and
    # before the bar, so that it has what is shown.
    added = [kind() for kind in wanted if not any(isinstance(each, kind) for each in given)]
    return CallbackList([*given, *added], model, params)
