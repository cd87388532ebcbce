"""Callbacks that write the numbers of training into files."""

from __future__ import annotations

import csv
import importlib.util
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from pycnn.callbacks.callback import Callback, Logs


class CSVLogger(Callback):
    """Writes a line for each epoch into a file of comma-separated values: the epoch, from 0, and the logs by name.

    The file is closed between epochs, so that it is whole whatever ends the training. Names that the first epoch does
    not have get no column; what is missing later is written as NA.

    Args:
        filename: of the file.
        separator: between values.
        append: whether lines are added to a file that is there; its columns stay as they are.

    Raises:
        OSError: when called, where the file cannot be written.

    Source: Keras 3, keras.callbacks.CSVLogger.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     logger = CSVLogger(f"{folder}/log.csv")
    ...     logger.on_train_begin()
    ...     logger.on_epoch_end(0, {"loss": 0.5, "val_loss": 0.75})
    ...     print(Path(f"{folder}/log.csv").read_text())
    epoch,loss,val_loss
    0,0.5,0.75
    <BLANKLINE>
    """

    def __init__(self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False) -> None:
        super().__init__()
        self.filename = os.fspath(filename)
        self.sep = separator
        self.append = append
        self.keys: list[str] | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Empty the file, or read the columns that it has."""
        self.keys = None
        if not self.append:
            Path(self.filename).write_text("", encoding="utf-8")
        elif Path(self.filename).is_file():
            with open(self.filename, newline="", encoding="utf-8") as file:
                self.keys = next(csv.reader(file, delimiter=self.sep), [])[1:] or None

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Write the line, and before the first one the names."""
        values = logs or {}
        lines: list[list[Any]] = []
        if self.keys is None:
            self.keys = _columns(values)
            lines.append(["epoch", *self.keys])
        lines.append([epoch, *(_cell(values.get(key, "NA")) for key in self.keys)])
        before = "" if _ends_a_line(self.filename) else "\n"
        with open(self.filename, "a", newline="", encoding="utf-8") as file:
            file.write(before)
            csv.writer(file, delimiter=self.sep, lineterminator="\n").writerows(lines)


def _columns(logs: Logs) -> list[str]:
    """The names in order; with those of a validation that comes in later epochs only, as in Keras."""
    keys = sorted(logs)
    return keys if any(key.startswith("val_") for key in keys) else [*keys, *(f"val_{key}" for key in keys)]


def _cell(value: Any) -> Any:
    """What stands for a value; several numbers of a metric are one, as Keras writes them."""
    return f'"[{", ".join(map(str, value))}]"' if np.ndim(value) else value


def _ends_a_line(filename: str) -> bool:
    """Whether a file is empty or ends with a whole line; a process that was killed may have left half of one."""
    try:
        with open(filename, "rb") as file:
            if not file.seek(0, os.SEEK_END):
                return True
            file.seek(-1, os.SEEK_END)
            return file.read(1) in b"\r\n"
    except FileNotFoundError:
        return True


class TensorBoard(Callback):
    """Writes the logs for TensorBoard, which draws them: ``tensorboard --logdir logs``.

    Of a metric of several numbers there is a curve for each: ``epoch_f1_score/0`` and so on.

    The names are Keras': ``epoch_loss``, ``epoch_learning_rate`` and so on, those of training in the folder
    ``train``, those of validation in ``validation``. Needs the package tensorboard.

    Args:
        log_dir: folder for the files.
        histogram_freq, write_graph, write_images, profile_batch, embeddings_freq, embeddings_metadata: what Keras can
            write beside numbers and this callback cannot: histograms and pictures of weights, graphs, profiles and
            embeddings. Anything but Keras' defaults is refused; ``write_graph`` is of no effect.
        write_steps_per_second: whether to write how many steps an epoch took in a second.
        update_freq: "epoch"; or "batch", or a number of steps, to write ``batch_loss`` and so on after each step, or
            after each so many steps.

    Raises:
        ValueError: for what cannot be written.
        ModuleNotFoundError: the package tensorboard is not installed.

    Source: Keras 3, keras.callbacks.TensorBoard.

    >>> board = TensorBoard("logs/first")  # doctest: +SKIP
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str] = "logs",
        histogram_freq: int = 0,
        write_graph: bool = True,
        write_images: bool = False,
        write_steps_per_second: bool = False,
        update_freq: str | int = "epoch",
        profile_batch: Any = 0,
        embeddings_freq: int = 0,
        embeddings_metadata: Any = None,
    ) -> None:
        super().__init__()
        refused = {
            "histogram_freq": histogram_freq,
            "write_images": write_images,
            "profile_batch": profile_batch,
            "embeddings_freq": embeddings_freq,
            "embeddings_metadata": embeddings_metadata,
        }
        for name, value in refused.items():
            if value:
                raise ValueError(f"{name}: only numbers are written for TensorBoard, received {value!r}")
        if update_freq not in ("epoch", "batch") and (isinstance(update_freq, str) or update_freq < 1):
            raise ValueError(f"update_freq: expected 'epoch', 'batch' or a number of steps, received {update_freq!r}")
        if importlib.util.find_spec("tensorboard") is None:
            raise ModuleNotFoundError(
                "TensorBoard needs the package tensorboard, which is not installed: pip install 'pycnn[tensorboard]'"
            )
        self.log_dir = os.fspath(log_dir)
        self.write_graph = write_graph
        self.write_steps_per_second = write_steps_per_second
        self.update_freq = 1 if update_freq == "batch" else update_freq
        self._writers: dict[str, Any] = {}
        self._training = False
        self._steps = self._steps_before = 0
        self._began = 0.0

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Begin to count steps."""
        self._training = True
        self._steps = 0

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Take the time."""
        self._steps_before, self._began = self._steps, time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Write the numbers so far, where steps are written."""
        self._steps += 1
        if isinstance(self.update_freq, int) and self._steps % self.update_freq == 0:
            self._write("train", {f"batch_{name}": value for name, value in (logs or {}).items()}, self._steps)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Write the numbers of the epoch, and the learning rate."""
        values = dict(logs or {})
        optimizer = self.model.optimizer
        if optimizer is not None:
            values["learning_rate"] = optimizer.learning_rate
        if self.write_steps_per_second:
            values["steps_per_second"] = (self._steps - self._steps_before) / (time.perf_counter() - self._began)
        of_training = {f"epoch_{name}": value for name, value in values.items() if not name.startswith("val_")}
        of_validation = {f"epoch_{name[4:]}": value for name, value in values.items() if name.startswith("val_")}
        self._write("train", of_training, epoch)
        self._write("validation", of_validation, epoch)

    def on_test_end(self, logs: Logs | None = None) -> None:
        """Write the numbers of an evaluation, over the optimizer's steps."""
        optimizer = self.model.optimizer
        if optimizer is not None and logs:
            named = {f"evaluation_{name}_vs_iterations": value for name, value in logs.items()}
            self._write("validation", named, optimizer.iterations)
        if not self._training:
            self._close()

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Close the files."""
        self._training = False
        self._close()

    def _write(self, folder: str, values: Logs, step: int) -> None:
        if not values:
            return
        if folder not in self._writers:
            from tensorboard.summary import Writer

            self._writers[folder] = Writer(os.path.join(self.log_dir, folder))
        for name, value in values.items():
            if np.ndim(value):  # of a metric of several numbers: one curve for each
                for place, each in enumerate(value):
                    self._writers[folder].add_scalar(f"{name}/{place}", float(each), step)
            else:
                self._writers[folder].add_scalar(name, value, step)
        self._writers[folder].flush()

    def _close(self) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers = {}
