"""Callbacks that watch one number of the logs: they stop training, slow it down, or save the model."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from pycnn import metrics
from pycnn.callbacks.callback import Callback, Logs
from pycnn.callbacks.control import note_learning_rate


class Monitor(Callback):
    """What watches a number.

    Args:
        monitor: its name in the logs: "loss", a metric's, or these with "val_" before.
        mode: "min" where smaller is better, "max" where larger is, "auto" for what the name says.
        baseline: the best value so far; None for none.
        min_delta: by how much a value must be better, so as to count as better.

    Raises:
        ValueError: for another mode.
    """

    def __init__(
        self, monitor: str = "val_loss", mode: str = "auto", baseline: float | None = None, min_delta: float = 0
    ) -> None:
        super().__init__()
        if mode not in ("auto", "min", "max"):
            raise ValueError(f"mode: expected 'auto', 'min' or 'max', received {mode!r}")
        self.monitor = monitor
        self.mode = mode
        self.best = baseline
        self.min_delta = abs(min_delta)

    def is_better(self, value: float, reference: float | None) -> bool:
        """Whether a value is better than another one, by more than ``min_delta``.

        Raises:
            ValueError: the mode is "auto", and the name does not say what is better.
        """
        up = self._is_up()
        if reference is None:
            return True
        return value - self.min_delta > reference if up else value + self.min_delta < reference

    def watched(self, logs: Logs | None) -> float | None:
        """The number; None, and a warning, where there is none of its name.

        Raises:
            ValueError: there are several numbers of that name.
        """
        found = (logs or {}).get(self.monitor)
        if found is None:
            warnings.warn(
                f"{type(self).__name__} watches {self.monitor!r}, which is not in the logs; there are: "
                f"{', '.join(logs or {}) or 'none'}",
                stacklevel=2,
            )
        elif np.ndim(found):
            raise ValueError(f"{type(self).__name__} watches one number; {self.monitor!r} has {np.size(found)}")
        return found

    def _is_up(self) -> bool:
        if self.mode != "auto":
            return self.mode == "max"
        name = self.monitor.removeprefix("val_")
        if name == "loss" or name.endswith("_loss"):
            return False
        # A metric among the weighted ones is reported with "weighted_" before its name where another one has this.
        directions = (self._direction_of(each) for each in (name, name.removeprefix("weighted_")))
        direction = next(filter(None, directions), None)
        if direction is None:
            raise ValueError(
                f"{type(self).__name__}: expected mode='min' or mode='max', for {self.monitor!r} does not say which is "
                "better; received mode='auto'"
            )
        return direction == "up"

    def _direction_of(self, name: str) -> str | None:
        own = [metric.direction for metric in getattr(self.model, "metrics", ()) if metric.name == name]
        return own[0] if own else metrics.direction_of(name)


class EarlyStopping(Monitor):
    """Ends training when a number has not become better for some epochs.

    Args:
        monitor: its name in the logs.
        min_delta: by how much it must become better.
        patience: how many epochs without that are one too many.
        verbose: 1 to print a line when training ends.
        mode: "min", "max" or "auto".
        baseline: a value that must be passed for the patience to begin anew.
        restore_best_weights: whether the model ends with the weights of its best epoch.
        start_from_epoch: epochs that are not looked at, from the first on.

    Raises:
        ValueError: for another mode; when called, where "auto" does not say what is better.

    Source: Keras 3, keras.callbacks.EarlyStopping.

    >>> import numpy as np
    >>> from pycnn.layers import Dense, Input
    >>> from pycnn.models import Sequential
    >>> model = Sequential([Input((1,)), Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> stop = EarlyStopping("loss", min_delta=100, patience=2)
    >>> history = model.fit(np.ones((4, 1)), np.ones((4, 1)), epochs=9, verbose=0, callbacks=[stop])
    >>> len(history.epoch), stop.stopped_epoch
    (3, 2)
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        super().__init__(monitor, mode, min_delta=min_delta)
        self.patience = patience
        self.verbose = verbose
        self.baseline = baseline
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = start_from_epoch
        self._begin()

    def _begin(self) -> None:
        self.wait = self.stopped_epoch = self.best_epoch = 0
        self.best = None
        self.best_weights: list[Any] | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Begin anew, so that the object can be used again."""
        self._begin()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Compare the number with the best so far."""
        value = self.watched(logs)
        if value is None or epoch < self.start_from_epoch:
            return
        if self.restore_best_weights and self.best_weights is None:
            self._keep(epoch)  # there may be none that is better than the first, as where it is a NaN
        self.wait += 1
        if self.is_better(value, self.best):
            self.best = value
            self._keep(epoch)
            if self.baseline is None or self.is_better(value, self.baseline):
                self.wait = 0
        elif self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def _keep(self, epoch: int) -> None:
        self.best_epoch = epoch
        if self.restore_best_weights:
            self.best_weights = self.model.get_weights()

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Say that training was ended, and put back the best weights."""
        if self.stopped_epoch > 0 and self.verbose > 0:
            print(f"Epoch {self.stopped_epoch + 1}: early stopping", flush=True)
        if self.best_weights is not None:
            if self.verbose > 0:
                print(
                    f"Restoring model weights from the end of the best epoch: {self.best_epoch + 1}.",
                    flush=True,
                )
            self.model.set_weights(self.best_weights)


class ReduceLROnPlateau(Monitor):
    """Multiplies the learning rate by a factor when a number has not become better for some epochs.

    Args:
        monitor: its name in the logs.
        factor: of the rate, below 1.
        patience: how many epochs without becoming better are one too many.
        verbose: 1 to print each reduction.
        mode: "min", "max" or "auto".
        min_delta: by how much the number must become better.
        cooldown: epochs after a reduction that are not counted.
        min_lr: the least rate.

    Raises:
        ValueError: for a factor of 1 or more, or another mode; when called, where "auto" does not say what is better.
        TypeError: when called, where the optimizer's rate follows a schedule.

    Source: Keras 3, keras.callbacks.ReduceLROnPlateau.

    >>> import numpy as np
    >>> from pycnn.layers import Dense, Input
    >>> from pycnn.models import Sequential
    >>> model = Sequential([Input((1,)), Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> slower = ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=100)
    >>> _ = model.fit(np.ones((4, 1)), np.ones((4, 1)), epochs=3, verbose=0, callbacks=[slower])
    >>> model.optimizer.learning_rate
    0.0025
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        super().__init__(monitor, mode, min_delta=min_delta)
        if factor >= 1.0:
            raise ValueError(f"factor: expected a number below 1, received {factor!r}")
        self.factor = factor
        self.patience = patience
        self.verbose = verbose
        self.cooldown = cooldown
        self.min_lr = min_lr
        self.cooldown_counter = self.wait = 0

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Begin anew, so that the object can be used again."""
        self.best = None
        self.cooldown_counter = self.wait = 0

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Compare the number with the best so far; add "learning_rate" to the logs, as it was in this epoch."""
        note_learning_rate(self, logs)
        value = self.watched(logs)
        if value is None:
            return
        if self.in_cooldown():
            self.cooldown_counter -= 1
            self.wait = 0
        if self.is_better(value, self.best):
            self.best = value
            self.wait = 0
        elif not self.in_cooldown():
            self.wait += 1
            if self.wait >= self.patience:
                self._reduce(epoch)

    def in_cooldown(self) -> bool:
        """Whether epochs are not counted at present."""
        return self.cooldown_counter > 0

    def _reduce(self, epoch: int) -> None:
        optimizer = self.model.optimizer
        assert optimizer is not None  # nothing is trained without one
        before = optimizer.learning_rate
        if before <= self.min_lr:
            return
        after = max(before * self.factor, self.min_lr)
        optimizer.learning_rate = after
        if self.verbose > 0:
            print(f"\nEpoch {epoch + 1}: ReduceLROnPlateau reducing learning rate to {after}.", flush=True)
        self.cooldown_counter = self.cooldown
        self.wait = 0


class ModelCheckpoint(Monitor):
    """Saves the model, or its weights, after epochs or after so many steps: always, or when it is better than before.

    A file appears under its name only when it is complete; see :meth:`pycnn.models.Model.save`. Its folder is made
    where there is none.

    Args:
        filepath: name of the file, in which ``{epoch}``, ``{batch}`` and the names of the logs stand for their values:
            ``"best.keras"``, ``"{epoch:02d}-{val_loss:.2f}.pycnn"``. Epochs and batches are counted from 1.
        monitor: the number to compare with ``save_best_only``.
        verbose: 1 to print a line for each decision.
        save_best_only: whether to save only what is better than all before it.
        save_weights_only: whether to save the weights alone.
        mode: "min", "max" or "auto".
        save_freq: "epoch", or after how many steps to save.
        initial_value_threshold: the best value so far; only what is better is saved.

    Raises:
        ValueError: for a name with another ending than the format's, or another ``save_freq`` or mode.
        KeyError: when called, for a name in ``filepath`` that is not in the logs.
        OSError: when called, where the file cannot be written, or is a folder.

    Source: Keras 3, keras.callbacks.ModelCheckpoint.

    >>> checkpoint = ModelCheckpoint("best.pycnn", monitor="val_accuracy", save_best_only=True)
    """

    #: Endings of files of whole models, and of weights alone.
    MODELS, WEIGHTS = (".pycnn", ".keras"), (".safetensors", ".weights.h5")

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold: float | None = None,
    ) -> None:
        super().__init__(monitor, mode, initial_value_threshold)
        self.filepath = os.fspath(filepath)
        self.verbose = verbose
        self.save_best_only = save_best_only
        self.save_weights_only = save_weights_only
        self.save_freq = save_freq
        if save_freq != "epoch" and (isinstance(save_freq, bool) or not isinstance(save_freq, int) or save_freq < 1):
            raise ValueError(f"save_freq: expected 'epoch' or a number of steps of at least 1, received {save_freq!r}")
        endings = self.WEIGHTS if save_weights_only else self.MODELS
        if not self.filepath.endswith(endings):
            what = "weights" if save_weights_only else "a model"
            raise ValueError(
                f"filepath: expected the name of a file of {what}, ending in {' or '.join(endings)}, "
                f"received {self.filepath!r}"
            )
        self._epoch = 0
        self._steps_since = 0

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Remember the epoch for files that are saved within it."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Save, where so many steps were taken."""
        if self.save_freq == "epoch":
            return
        self._steps_since += 1
        if self._steps_since >= int(self.save_freq):
            self._steps_since = 0
            self._save(self._epoch, {"batch": batch + 1} | dict(logs or {}))

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Save, where that is done after epochs."""
        if self.save_freq == "epoch":
            self._save(epoch, dict(logs or {}))

    def _save(self, epoch: int, logs: dict[str, float]) -> None:
        path = self._path(epoch, logs)
        if not self._is_wanted(epoch, logs, path):
            return
        if path.is_dir():
            raise IsADirectoryError(f"filepath: expected the name of a file, received that of a folder, {path}")
        path.parent.mkdir(parents=True, exist_ok=True)
        # By their names: the methods are those of whatever model is trained.
        save = getattr(self.model, "save_weights" if self.save_weights_only else "save")
        save(str(path), overwrite=True)
        self._say(f"\nEpoch {epoch + 1}: finished saving model to {path}")

    def _path(self, epoch: int, logs: dict[str, float]) -> Path:
        try:
            return Path(self.filepath.format(**{"epoch": epoch + 1} | logs))
        except KeyError as error:
            known = ", ".join(["epoch", *logs])
            raise KeyError(f"filepath: {self.filepath!r} names {error}; there are: {known}") from None

    def _is_wanted(self, epoch: int, logs: dict[str, float], path: Path) -> bool:
        value = self.watched(logs) if self.save_best_only else None
        if value is None:
            self._say(f"\nEpoch {epoch + 1}: saving model to {path}")
            return True
        before = "None" if self.best is None else f"{self.best:.5f}"
        if not self.is_better(value, self.best):
            self._say(f"\nEpoch {epoch + 1}: {self.monitor} did not improve from {before}")
            return False
        self._say(f"\nEpoch {epoch + 1}: {self.monitor} improved from {before} to {value:.5f}, saving model to {path}")
        self.best = value
        return True

    def _say(self, text: str) -> None:
        if self.verbose > 0:
            print(text, flush=True)
