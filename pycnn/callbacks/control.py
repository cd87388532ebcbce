"""Callbacks that act on training whatever its numbers are, or on a loss that is none."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from pycnn.callbacks.callback import Callback, Logs


class LearningRateScheduler(Callback):
    """Sets the learning rate at the beginning of each epoch.

    Args:
        schedule: a function of the epoch, counted from 0, or of the epoch and the learning rate so far, that returns
            the new one.
        verbose: 1 to print it.

    Raises:
        TypeError: ``schedule`` is no function of one or two arguments.
        ValueError: when called, for what is no float.

    >>> import numpy as np
    >>> from pycnn.layers import Dense, Input
    >>> from pycnn.models import Sequential
    >>> model = Sequential([Input((1,)), Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> halve = LearningRateScheduler(lambda epoch, rate: rate / 2)
    >>> _ = model.fit(np.ones((4, 1)), np.ones((4, 1)), epochs=2, verbose=0, callbacks=[halve])
    >>> model.optimizer.learning_rate
    0.0025
    """

    def __init__(self, schedule: Callable[..., float], verbose: int = 0) -> None:
        super().__init__()
        if not callable(schedule):
            raise TypeError(f"schedule: expected a function of an epoch, or of it and a rate, received {schedule!r}")
        self.schedule = schedule
        self.verbose = verbose

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Set the rate."""
        optimizer = self.model.optimizer
        assert optimizer is not None  # nothing is trained without one
        rate = self.schedule(*(epoch, optimizer.learning_rate)[: _positions(self.schedule)])
        if not isinstance(rate, float | np.float32 | np.float64):
            raise ValueError(f"schedule: expected to return a float, received {rate!r}")
        optimizer.learning_rate = float(rate)
        if self.verbose > 0:
            print(f"\nEpoch {epoch + 1}: LearningRateScheduler setting learning rate to {rate}.", flush=True)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Add "learning_rate" to the logs."""
        note_learning_rate(self, logs)


class TerminateOnNaN(Callback):
    """Ends training when the loss is infinite or no number.

    Args:
        raise_error: whether to raise an error instead of a quiet end.

    Raises:
        RuntimeError: when called, for such a loss, with ``raise_error``.

    >>> TerminateOnNaN(raise_error=True).on_train_batch_end(7, {"loss": float("nan")})
    Traceback (most recent call last):
        ...
    RuntimeError: batch 7: the loss is nan; training ends
    """

    def __init__(self, raise_error: bool = False) -> None:
        super().__init__()
        self.raise_error = raise_error

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Look at the loss."""
        loss = (logs or {}).get("loss")
        if loss is None or math.isfinite(loss):
            return
        if self.raise_error:
            raise RuntimeError(f"batch {batch}: the loss is {loss}; training ends")
        print(f"Batch {batch}: Invalid loss, terminating training", flush=True)
        self.model.stop_training = True


class LambdaCallback(Callback):
    """A callback of functions.

    Args:
        on_epoch_begin, on_epoch_end: functions of (epoch, logs).
        on_train_begin, on_train_end: functions of (logs).
        on_train_batch_begin, on_train_batch_end: functions of (batch, logs).
        **kwargs: functions for the other methods of :class:`Callback`, by their names.

    Raises:
        TypeError: there is no such method, or something is no function.

    >>> LambdaCallback(on_epoch_end=lambda epoch, logs: print(epoch, logs)).on_epoch_end(1, {"loss": 0.5})
    1 {'loss': 0.5}
    """

    def __init__(
        self,
        on_epoch_begin: Callable[..., Any] | None = None,
        on_epoch_end: Callable[..., Any] | None = None,
        on_train_begin: Callable[..., Any] | None = None,
        on_train_end: Callable[..., Any] | None = None,
        on_train_batch_begin: Callable[..., Any] | None = None,
        on_train_batch_end: Callable[..., Any] | None = None,
        **kwargs: Callable[..., Any],
    ) -> None:
        super().__init__()
        given = {
            "on_epoch_begin": on_epoch_begin,
            "on_epoch_end": on_epoch_end,
            "on_train_begin": on_train_begin,
            "on_train_end": on_train_end,
            "on_train_batch_begin": on_train_batch_begin,
            "on_train_batch_end": on_train_batch_end,
        } | kwargs
        for name, function in given.items():
            if not name.startswith("on_") or not hasattr(Callback, name):
                raise TypeError(f"LambdaCallback: there is no moment {name!r}")
            if function is not None:
                if not callable(function):
                    raise TypeError(f"{name}: expected a function, received {function!r}")
                setattr(self, name, function)


def note_learning_rate(callback: Callback, logs: Any) -> None:
    """Add "learning_rate" to the logs, which all callbacks of an epoch share."""
    optimizer = callback.model.optimizer
    if isinstance(logs, dict) and optimizer is not None:
        logs["learning_rate"] = optimizer.learning_rate


def _positions(schedule: Callable[..., float]) -> int:
    """Whether a schedule takes the epoch alone, or the rate as well."""
    try:
        parameters = inspect.signature(schedule).parameters.values()
    except ValueError:  # a built-in function
        return 1
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    several = any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters)
    return 2 if several else min(sum(parameter.kind in kinds for parameter in parameters), 2)
