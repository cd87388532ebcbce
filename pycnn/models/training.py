"""The loops of training, evaluating and predicting."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from pycnn.autograd import no_grad
from pycnn.callbacks import Callback, CallbackList, History, ProgbarLogger
from pycnn.models.data import Array, Batches, as_array, count, paired, split

if TYPE_CHECKING:
    from pycnn.models.model import Model
    from pycnn.tensor import Tensor


def fit(
    model: Model,
    x: ArrayLike,
    y: ArrayLike,
    *,
    batch_size: int | None,
    epochs: int,
    verbose: int | str,
    callbacks: Iterable[Callback],
    validation_split: float,
    validation_data: tuple[ArrayLike, ArrayLike] | None,
    shuffle: bool,
) -> History:
    """Train; see :meth:`pycnn.models.Model.fit`."""
    batch_size, epochs = _batch_size(batch_size), count(epochs, "epochs", 0)
    trained, validated = _training_data(model, x, y, validation_split, validation_data)
    batches = Batches(*trained, batch_size, model.dtype)
    validation = None if validated is None else Batches(*validated, batch_size, model.dtype)
    history = History()
    called = _callback_list(model, callbacks, history, epochs=epochs, steps=len(batches), verbose=_verbosity(verbose))
    model.history = history
    model.stop_training = False
    called.call("on_train_begin")
    try:
        for epoch in range(epochs):
            called.call("on_epoch_begin", epoch)
            logs = _train_epoch(model, batches, called, shuffle)
            if validation is not None:
                found = _test(model, validation, called)
                logs.update({f"val_{name}": value for name, value in found.items()})
            called.call("on_epoch_end", epoch, logs)
            if model.stop_training:
                break
    finally:
        called.call("on_train_end")
    return history


def train_on_batch(model: Model, x: ArrayLike, y: ArrayLike) -> dict[str, float]:
    """One step of training; loss and metrics of the batch."""
    samples, labels = _labelled(model, x, y)
    model.objective.reset()
    _train_step(model, np.ascontiguousarray(samples, dtype=model.dtype), labels)
    return model.objective.result()


def evaluate(
    model: Model,
    x: ArrayLike,
    y: ArrayLike,
    *,
    batch_size: int | None,
    verbose: int | str,
    callbacks: Iterable[Callback],
) -> dict[str, float]:
    """Loss and metrics by name; see :meth:`pycnn.models.Model.evaluate`."""
    batches = Batches(*_labelled(model, x, y), _batch_size(batch_size), model.dtype)
    called = _callback_list(model, callbacks, epochs=1, steps=len(batches), verbose=_verbosity(verbose))
    return _test(model, batches, called)


def predict(
    model: Model, x: ArrayLike, *, batch_size: int | None, verbose: int | str, callbacks: Iterable[Callback]
) -> Array:
    """Outputs; see :meth:`pycnn.models.Model.predict`."""
    samples = as_array(x, "x")
    _fit_to(model, samples)
    batches = Batches(samples, None, _batch_size(batch_size), model.dtype)
    called = _callback_list(model, callbacks, epochs=1, steps=len(batches), verbose=_verbosity(verbose))
    outputs = []
    called.call("on_predict_begin")
    try:
        for step, (inputs, _) in enumerate(batches.in_order()):
            called.call("on_predict_batch_begin", step)
            with no_grad():
                outputs.append(model(inputs).numpy())
            called.call("on_predict_batch_end", step)
    finally:
        called.call("on_predict_end")
    return np.concatenate(outputs)


def results(model: Model, logs: dict[str, float], return_dict: bool) -> float | list[float] | dict[str, float]:
    """Logs as ``evaluate`` returns them: by name, as a list, or the loss alone when there is nothing else."""
    if return_dict:
        return logs
    values = list(logs.values())
    return values if len(values) > 1 else values[0]


# -- steps -------------------------------------------------------------------------------------------------------


def _train_epoch(model: Model, batches: Batches, called: CallbackList, shuffle: bool) -> dict[str, float]:
    objective = model.objective
    objective.reset()
    gathered = batches.shuffled() if shuffle else batches.in_order()
    for step in range(len(batches)):
        called.call("on_train_batch_begin", step)
        _train_step(model, *next(gathered))  # no name keeps the batch while the next one is gathered
        called.call("on_train_batch_end", step, objective.result())
    return objective.result()


def _train_step(model: Model, x: Array, y: Array) -> None:
    """Forward, backward, update. What was computed on the way is free again when this returns."""
    optimizer = model.optimizer
    assert optimizer is not None  # compile() sets it together with the objective
    predictions = model(x, training=True)
    loss = _loss(model, y, predictions)
    weights = model.trainable_weights
    if weights:
        # An interrupted step may have left gradients, and layers that are not trained get some that nobody takes.
        for weight in model.weights:
            weight.grad = None
        loss.backward()
        optimizer.apply(weights)
        model.apply_constraints()
    model.objective.update(loss.item(), y, predictions.detach().numpy())


def _loss(model: Model, y: Array, predictions: Tensor) -> Tensor:
    """The loss of a batch, with what the layers add to it."""
    return sum(model.losses, model.objective.loss(y, predictions))


def _test(model: Model, batches: Batches, called: CallbackList) -> dict[str, float]:
    objective = model.objective
    objective.reset()
    called.call("on_test_begin")
    try:
        for step, (x, y) in enumerate(batches.in_order()):
            called.call("on_test_batch_begin", step)
            with no_grad():
                predictions = model(x)
                objective.update(_loss(model, y, predictions).item(), y, predictions.numpy())
            called.call("on_test_batch_end", step, objective.result())
    finally:
        called.call("on_test_end", objective.result())
    return objective.result()


# -- checks before anything is computed ----------------------------------------------------------------------------


def _training_data(
    model: Model,
    x: ArrayLike,
    y: ArrayLike,
    validation_split: float,
    validation_data: tuple[ArrayLike, ArrayLike] | None,
) -> tuple[tuple[Array, Array], tuple[Array, Array] | None]:
    samples, labels = _labelled(model, x, y)
    trained, validated = split(samples, labels, validation_split)
    if validation_data is None:
        return trained, validated
    if not isinstance(validation_data, list | tuple) or len(validation_data) != 2:
        length = f" of length {len(validation_data)}" if hasattr(validation_data, "__len__") else ""
        raise ValueError(
            f"validation_data: expected a pair (x, y), received an object of type "
            f"{type(validation_data).__name__}{length}"
        )
    return (samples, labels), _labelled(model, *validation_data, name="validation ")


def _labelled(model: Model, x: ArrayLike, y: ArrayLike, name: str = "") -> tuple[Array, Array]:
    """Checked samples and labels for a compiled model."""
    objective = model.objective
    samples, labels = paired(x, y, name)
    _fit_to(model, samples)
    objective.prepare(labels, model.output_shape)
    return samples, labels


def _fit_to(model: Model, samples: Array) -> None:
    """Build the model for these samples, or check that they have its input shape."""
    model.build_for((None, *samples.shape[1:]))


def _batch_size(value: int | None) -> int:
    return 32 if value is None else count(value, "batch_size", 1)


def _verbosity(verbose: int | str) -> int | str:
    if verbose not in (0, 1, 2, "auto"):
        raise ValueError(f"verbose: expected 0, 1, 2 or 'auto', received {verbose!r}")
    return verbose


def _callback_list(
    model: Model, callbacks: Iterable[Callback], history: History | None = None, **params: Any
) -> CallbackList:
    # The history comes first, as in Keras, so that other callbacks find the epoch in it.
    first = [] if history is None else [history]
    if not isinstance(callbacks, Iterable):
        raise TypeError(f"callbacks: expected a list of Callback objects, received {callbacks!r}")
    return CallbackList([*first, *callbacks, ProgbarLogger()], model, params)
