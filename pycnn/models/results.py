"""What a training run leaves behind: one file with weights and history."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from pycnn.callbacks import History
from pycnn.functional.arguments import widened
from pycnn.models.model import Model
from pycnn.saving.atomic import new_file_beside, replaced_file


def check_writable(path: Path) -> None:
    """Find out before training whether :func:`save_results` can write to ``path``.

    Raises:
        OSError: when ``path`` is a folder, its folder does not exist, or no file can be made there.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path}: expected the name of a file, received a folder")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: expected an existing folder, received {path.parent}, which is none")
    try:
        with new_file_beside(path):
            pass
    except OSError as error:
        raise type(error)(f"{path}: cannot write into {path.parent}: {error.strerror or error}") from error


def save_results(path: Path, model: Model, history: History) -> None:
    """Write all weights of a model and the history of its training into one ``.npz`` file.

    The arrays are named as in :meth:`Model.named_weights` (``conv2d/kernel``, ...) and come in the order of
    :meth:`Model.get_weights`, float16 and bfloat16 as float32, for the format has no bfloat16; ``history`` is
    ``History.history`` as JSON text. There are no pickles in it:

        >>> with np.load("cifar10.npz", allow_pickle=False) as file:  # doctest: +SKIP
        ...     history = json.loads(str(file["history"]))
        ...     model.set_weights([file[name] for name in file.files if name != "history"])

    The file appears under its name only when it is complete: whatever happens before, an existing one stays.

    Raises:
        OSError: when the disk is full, or the file cannot be written for another reason.
    """
    arrays: dict[str, Any] = {name: widened(weight.detach().numpy()) for name, weight in model.named_weights().items()}
    arrays["history"] = np.array(json.dumps(history.history, default=np.ndarray.tolist))
    # In memory first: a full disk then meets one plain write, not an archive that is half built.
    archive = io.BytesIO()
    np.savez(archive, **arrays)
    with replaced_file(path, "the results") as file:
        file.write(archive.getbuffer())
