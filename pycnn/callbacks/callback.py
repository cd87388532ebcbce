"""What all callbacks share, and the two that every training has: the history and the progress bar."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from pycnn.console import LiveLine, duration, has_live_terminal

if TYPE_CHECKING:
    from pycnn.models.model import Model

#: Numbers by their names; of a metric of several numbers an array.
Logs = Mapping[str, Any]

#: When callbacks close what they have open.
_ENDS = ("on_train_end", "on_test_end", "on_predict_end")


class Callback:
    """Base class: override the methods of the moments you want.

    ``logs`` holds the loss and metrics so far by name; ``self.model`` is the model and ``self.params`` a dictionary
    with "epochs", "steps" (per epoch, None while it is not known) and "verbose". Setting
    ``self.model.stop_training = True`` ends training after the running step, with which its epoch ends.

    >>> class Announce(Callback):
    ...     def on_epoch_end(self, epoch, logs=None):
    ...         print("epoch", epoch, "is over")
    >>> Announce().on_epoch_end(0)
    epoch 0 is over
    """

    def __init__(self) -> None:
        self.params: dict[str, Any] = {}
        self._model: Model | None = None

    @property
    def model(self) -> Model:
        """The model that is being trained, tested or asked."""
        if self._model is None:
            raise AttributeError(f"{type(self).__name__} belongs to no model before fit, evaluate or predict")
        return self._model

    def set_params(self, params: dict[str, Any]) -> None:
        """Called before everything else."""
        self.params = params

    def set_model(self, model: Model) -> None:
        """Called before everything else."""
        self._model = model

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Called before the first epoch."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Called after the last epoch, also when training is interrupted."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Called before an epoch, counted from 0."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Called after an epoch and its validation."""

    def on_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Another name of :meth:`on_train_batch_begin`, as in Keras."""

    def on_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Another name of :meth:`on_train_batch_end`, as in Keras."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Called before a step of training, counted from 0; calls :meth:`on_batch_begin`."""
        self.on_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Called after a step of training; calls :meth:`on_batch_end`."""
        self.on_batch_end(batch, logs)

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Called before an evaluation or validation."""

    def on_test_end(self, logs: Logs | None = None) -> None:
        """Called after it, also when it is interrupted."""

    def on_test_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Called before a batch of it."""

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Called after a batch of it."""

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        """Called before a prediction."""

    def on_predict_end(self, logs: Logs | None = None) -> None:
        """Called after it, also when it is interrupted."""

    def on_predict_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Called before a batch of it."""

    def on_predict_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Called after a batch of it."""


C = TypeVar("C", bound=Callback)


class CallbackList:
    """Calls several callbacks as one; the lists of one run share their model and parameters."""

    def __init__(self, callbacks: Iterable[Callback], model: Model, params: dict[str, Any]) -> None:
        self.callbacks = list(callbacks)
        for callback in self.callbacks:
            if not isinstance(callback, Callback):
                raise TypeError(f"callbacks: expected Callback objects, received {callback!r}")
            callback.set_params(params)
            callback.set_model(model)

    def last(self, kind: type[C]) -> C | None:
        """The last callback of a kind; None where there is none."""
        return next((each for each in reversed(self.callbacks) if isinstance(each, kind)), None)

    def call(self, moment: str, *arguments: Any) -> None:
        """Call the method named ``moment`` of every callback; at the very end, of all even where one of them fails.

        What is called without logs gets None for them: a user's function may have no default.
        """
        counted = "_epoch_" in moment or "_batch_" in moment
        if len(arguments) == counted:
            arguments = (*arguments, None)
        if moment in _ENDS:
            with contextlib.ExitStack() as stack:
                for callback in reversed(self.callbacks):
                    stack.callback(getattr(callback, moment), *arguments)
            return
        for callback in self.callbacks:
            getattr(callback, moment)(*arguments)


class History(Callback):
    """Keeps loss and metrics of every epoch; ``fit`` returns it.

    Attributes:
        history: a list with one number per epoch for "loss", each metric and, with validation data, the same
            with "val_" before; of a metric of several numbers an array per epoch.
        epoch: the numbers of the epochs of the last training.
    """

    def __init__(self) -> None:
        super().__init__()
        self.history: dict[str, list[Any]] = {}
        self.epoch: list[int] = []

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Count epochs anew; the numbers of another training stay before those of this one, as in Keras."""
        self.epoch = []

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Take down the numbers of an epoch."""
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)


class ProgbarLogger(Callback):
    """Shows progress: a live bar on a terminal that has rich, otherwise one line per epoch.

    ``verbose`` is 0 for silence, 1 or "auto" for the bar, 2 for the lines. The bar is redrawn five times per
    second at most; each time takes 0.7 ms.
    """

    _SECONDS_BETWEEN_DRAWINGS = 0.2

    def __init__(self) -> None:
        super().__init__()
        self._training = False
        self._line: LiveLine | None = None
        self._title = ""
        self._steps_done = 0
        self._started = self._first_step_ended = self._last_step_ended = self._drawn = 0.0

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Validation within training shows no progress of its own."""
        self._training = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Leave a bar that was interrupted where it is."""
        self._training = False
        self._close(keep=True)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Begin a bar."""
        self._begin(f"Epoch {epoch + 1}/{self.params['epochs']}")

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Advance the bar."""
        self._advance(batch, logs)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Replace the bar by a line for the record, also of an epoch that was ended before its last step."""
        self._complete(logs, is_whole=True)

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Begin a bar, outside training."""
        if not self._training:
            self._begin("Test")

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Advance the bar, outside training."""
        if not self._training:
            self._advance(batch, logs)

    def on_test_end(self, logs: Logs | None = None) -> None:
        """Replace the bar by a line for the record, outside training."""
        if not self._training:
            self._complete(logs)

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        """Begin a bar."""
        self._begin("Predict")

    def on_predict_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Advance the bar."""
        self._advance(batch, None)

    def on_predict_end(self, logs: Logs | None = None) -> None:
        """Replace the bar by a line for the record."""
        self._complete(None)

    def _begin(self, title: str) -> None:
        self._title = title
        self._steps_done = 0
        self._started = self._first_step_ended = self._last_step_ended = self._drawn = time.perf_counter()
        if self.params["verbose"] in (1, "auto") and has_live_terminal():
            self._line = LiveLine()

    def _advance(self, batch: int, logs: Logs | None) -> None:
        now = self._last_step_ended = time.perf_counter()
        self._steps_done = batch + 1
        if batch == 0:
            self._first_step_ended = now
        if self._line is not None and now - self._drawn >= self._SECONDS_BETWEEN_DRAWINGS:
            self._drawn = now
            steps = self.params["steps"]
            if steps is None:  # batches that come until there are no more
                self._line.update(self._title, 0.0, self._summary(duration(now - self._started), logs))
                return
            left = duration((steps - self._steps_done) * self._seconds_per_step())
            summary = self._summary(f"{left} left", logs)
            self._line.update(self._title, self._steps_done / steps, summary)

    def _complete(self, logs: Logs | None, is_whole: bool = False) -> None:
        complete = is_whole or self._steps_done == self.params["steps"]
        self._close(keep=not complete)
        if complete and self.params["verbose"]:
            elapsed = duration(time.perf_counter() - self._started)
            # One line for the record, whole even where the terminal is too narrow for it and the bar.
            print(f"{self._title} - {self._summary(elapsed, logs)}", flush=True)

    def _summary(self, clock: str, logs: Logs | None) -> str:
        values = "".join(f" - {name}: {_number(value)}" for name, value in (logs or {}).items())
        known = self.params["steps"]
        steps = f"{self._steps_done}" if known is None else f"{self._steps_done}/{known}"
        return f"{steps} - {clock} - {duration(self._seconds_per_step())}/step{values}"

    def _seconds_per_step(self) -> float:
        """Time per step, without validation; the first, which may compile kernels, counts only when alone."""
        if self._steps_done > 1:
            return (self._last_step_ended - self._first_step_ended) / (self._steps_done - 1)
        return self._last_step_ended - self._started

    def _close(self, keep: bool) -> None:
        if self._line is not None:
            self._line.close(keep)
            self._line = None


def _number(value: Any) -> str:
    if np.ndim(value):  # of a metric of several
        return f"[{', '.join(map(_number, value))}]"
    return f"{value:.4e}" if 0 < abs(value) < 1e-3 else f"{value:.4f}"
