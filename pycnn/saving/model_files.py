"""Whole models in files: architecture, weights, and what training goes on from.

A file ``.pycnn`` is a zip archive of

- ``metadata.json``: what it is, and the versions that it was written with;
- ``config.json``: the model as :func:`pycnn.saving.serialize_keras_object` describes it, and how it was compiled;
- ``weights.safetensors``: the weights by their paths, see :mod:`pycnn.saving.paths`;
- ``training.json`` and ``training.safetensors``: the random state, and what the optimizer remembers of each weight.

A file ``.keras`` is Keras' own archive, with the weights in HDF5. Neither holds code, and nothing that they name is
imported: classes of your own must be registered.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import pycnn
from pycnn import random
from pycnn.layers import weight_limit
from pycnn.models.model import Model
from pycnn.saving import archive, hdf5, json_text, legacy_hdf5, random_states, safetensors
from pycnn.saving.archive import CONFIG, KERAS_WEIGHTS, METADATA, TRAINING, TRAINING_ARRAYS, WEIGHTS
from pycnn.saving.atomic import replaced_file
from pycnn.saving.errors import InvalidFileError
from pycnn.saving.matching import matched, take
from pycnn.saving.serialization import deserialize_keras_object, serialize_keras_object, sharing_objects
from pycnn.saving.weights import check_built, check_target, named_arrays

#: Of the files that this version writes, and of those that it reads.
FORMAT_VERSION = 1
_FORMAT = "pycnn model"
#: What Keras is told wrote the file: the version whose form it has.
_KERAS_VERSION = "3.15.1"


def save_model(model: Model, filepath: str | os.PathLike[str], overwrite: bool = True) -> None:
    """Write a model into a file; see :meth:`pycnn.models.Model.save`."""
    check_target(filepath, overwrite, (".pycnn", ".keras"))
    check_built(model)
    with sharing_objects():
        config = serialize_keras_object(model)
    is_keras = str(filepath).endswith(".keras")
    parts = _keras_parts(model, config) if is_keras else _own_parts(model, config)
    with replaced_file(filepath, "the model") as file:
        archive.write(file, parts)


def load_model(
    filepath: str | os.PathLike[str],
    custom_objects: dict[str, Any] | None = None,
    compile: bool = True,
    safe_mode: bool = True,
    *,
    resume: bool = False,
) -> Model:
    """The model in a file ``.pycnn`` or ``.keras``, or in an HDF5 file of Keras 2.

    The model is on the CPU, as one that is built there. A file of pycnn has what its training goes on from: after
    ``load_model(path, resume=True)`` the next ``fit`` gives the bits that it would have given without the file between.
    What the optimizer remembers in a file of Keras is not read; a warning says so.

    Args:
        filepath: of the file; what it is is seen from its ending.
        custom_objects: classes and functions of your own by name, beside those that were registered with
            :func:`pycnn.saving.register_keras_serializable`.
        compile: whether to compile the model as it was compiled.
        safe_mode: True, as code in files is never executed.
        resume: whether the random generator of pycnn, :func:`pycnn.random.generator`, is to go on where it was, too.

    Returns:
        The model, built and with its weights.

    Raises:
        FileNotFoundError: there is no such file.
        InvalidFileError: it is damaged, hostile, or no model that can be built here; a ValueError. The message says
            why.
        ValueError: for another ending, ``safe_mode=False``, or ``resume=True`` of a file that is not pycnn's.
        ModuleNotFoundError: a file of Keras, and h5py is not installed.

    Source: Keras 3, keras.saving.load_model.

    >>> import tempfile
    >>> from pycnn.layers import Dense, Input
    >>> from pycnn.models import Sequential
    >>> model = Sequential([Input((3,)), Dense(2)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save(f"{folder}/model.pycnn")
    ...     again = load_model(f"{folder}/model.pycnn")
    >>> bool((again.get_weights()[0] == model.get_weights()[0]).all())
    True
    """
    name = str(filepath)
    readers = {".pycnn": _own_model, ".keras": _keras_model, ".h5": _old_model, ".hdf5": _old_model}
    reader = next((reader for suffix, reader in readers.items() if name.endswith(suffix)), None)
    if reader is None:
        raise ValueError(f"expected the name of a file that ends in {', '.join(readers)}, received {name!r}")
    if not safe_mode:
        raise ValueError("safe_mode: expected True, received False: code in files is never executed")
    if resume and reader is not _own_model:
        raise ValueError(f"resume: only files .pycnn have the state of a training, received {name!r}")
    data = Path(filepath).read_bytes()
    with _only_invalid(name):
        model, generator = reader(data, name, custom_objects, compile)
    if resume and generator is not None:
        random.continue_with(generator)
    return model


def model_from_json(json_string: str, custom_objects: dict[str, Any] | None = None) -> Model:
    """The model, not compiled and with new weights, that :meth:`pycnn.models.Model.to_json` or Keras' describes.

    Raises:
        InvalidFileError: it describes no model that can be built here; a ValueError.

    >>> from pycnn.layers import Dense, Input
    >>> from pycnn.models import Sequential
    >>> model_from_json(Sequential([Input((3,)), Dense(2)]).to_json()).output_shape
    (None, 2)
    """
    config = json_text.parsed(json_string.encode(), "json_string")
    config.pop("compile_config", None)
    with _only_invalid("json_string"), sharing_objects():
        model = deserialize_keras_object(config, custom_objects)
    if not isinstance(model, Model):
        raise InvalidFileError(f"json_string: expected a model, received {model!r}")
    return model


@contextmanager
def _only_invalid(what: str) -> Iterator[None]:
    """Whatever is wrong with what a file describes is wrong with the file."""
    try:
        yield
    except (InvalidFileError, ModuleNotFoundError):
        raise
    except Exception as error:  # constructors, of users' classes too, raise what they like for what a file gives them
        raise InvalidFileError(f"{what}: cannot build the model: {type(error).__name__}: {error}") from error


# -- pycnn's own files ---------------------------------------------------------------------------------------------


def _own_parts(model: Model, config: dict[str, Any]) -> dict[str, bytes]:
    metadata = {"format": _FORMAT, "format_version": FORMAT_VERSION, "pycnn_version": pycnn.__version__}
    training = {"random": random_states.described(random.generator()), "layers": random_states.of_layers(model)}
    return {
        METADATA: json_text.written(metadata),
        CONFIG: json_text.written(config),
        WEIGHTS: _safetensors(named_arrays(model)),
        TRAINING: json_text.written(training),
        TRAINING_ARRAYS: _safetensors(_optimizer_state(model)),
    }


def _own_model(
    data: bytes, what: str, custom_objects: dict[str, Any] | None, compiled: bool
) -> tuple[Model, np.random.Generator | None]:
    parts = archive.read(data, what, (METADATA, CONFIG, WEIGHTS, TRAINING, TRAINING_ARRAYS))
    metadata = json_text.parsed(parts[METADATA], f"{what}: {METADATA}")
    if metadata.get("format") != _FORMAT or metadata.get("format_version") != FORMAT_VERSION:
        raise InvalidFileError(
            f"{what}: expected the format {_FORMAT!r} of version {FORMAT_VERSION}, received "
            f"{metadata.get('format')!r} of version {metadata.get('format_version')!r}"
        )
    config = json_text.parsed(parts[CONFIG], f"{what}: {CONFIG}")
    training = json_text.parsed(parts[TRAINING], f"{what}: {TRAINING}")
    arrays = safetensors.read(parts[WEIGHTS], f"{what}: {WEIGHTS}")
    state = safetensors.read(parts[TRAINING_ARRAYS], f"{what}: {TRAINING_ARRAYS}")
    generator = random_states.made(training["random"])
    model = _built(config, custom_objects, compiled, sum(array.nbytes for array in arrays.values()))
    take(matched(arrays, model, what), what)
    random_states.put_back(model, training["layers"])
    if model.optimizer is not None and state:
        model.optimizer.set_state(model.weights, state)
    return model, generator


def _optimizer_state(model: Model) -> dict[str, np.ndarray]:
    # Of all weights: what is frozen now may be trained again.
    return {} if model.optimizer is None else model.optimizer.state(model.weights)


def _safetensors(arrays: dict[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    safetensors.write(file, arrays)
    return file.getvalue()


def _built(config: Any, custom_objects: dict[str, Any] | None, compiled: bool, size: int) -> Model:
    """The model of a description, whose weights have ``size`` bytes together."""
    if not isinstance(config, dict):
        raise InvalidFileError(f"expected the description of a model, received {config!r}")
    if not compiled:
        config = {name: value for name, value in config.items() if name != "compile_config"}
    with sharing_objects(), weight_limit.at_most(size):
        model = deserialize_keras_object(config, custom_objects)
    if not isinstance(model, Model):
        raise InvalidFileError(f"expected a model, received {model!r}")
    check_built(model)
    return model


# -- Keras' files --------------------------------------------------------------------------------------------------


def _keras_parts(model: Model, config: dict[str, Any]) -> dict[str, bytes]:
    weights = io.BytesIO()
    hdf5.write(weights, model)
    return {
        METADATA: json_text.written({"keras_version": _KERAS_VERSION, "date_saved": "1980-01-01@00:00:00"}),
        CONFIG: json_text.written(config),
        KERAS_WEIGHTS: weights.getvalue(),
    }


def _keras_model(
    data: bytes, what: str, custom_objects: dict[str, Any] | None, compiled: bool
) -> tuple[Model, np.random.Generator | None]:
    parts = archive.read(data, what, (METADATA, CONFIG, KERAS_WEIGHTS))
    config = json_text.parsed(parts[CONFIG], f"{what}: {CONFIG}")
    with hdf5.opened(parts[KERAS_WEIGHTS], f"{what}: {KERAS_WEIGHTS}") as file:
        size = hdf5.declared_bytes(file, what)
        model = _rethrown(what, config, custom_objects, compiled, size)
        take(hdf5.found(file, model, what), what)
        if model.optimizer is not None and hdf5.has_optimizer(file):
            warnings.warn(f"{what}: the state of the optimizer is not read; its training begins anew", stacklevel=3)
    return model, None


def _old_model(
    data: bytes, what: str, custom_objects: dict[str, Any] | None, compiled: bool
) -> tuple[Model, np.random.Generator | None]:
    """A model of Keras 2: its description is an attribute of the file. It is not compiled."""
    if not hdf5.is_hdf5(data):
        raise InvalidFileError(f"{what}: expected an HDF5 file")
    with hdf5.opened(data, what) as file:
        text = file.attrs.get("model_config")
        if text is None or not legacy_hdf5.is_legacy(file):
            raise InvalidFileError(f"{what}: expected a model, received weights alone: build the model and load them")
        config = json_text.parsed(text.encode() if isinstance(text, str) else bytes(text), f"{what}: model_config")
        model = _rethrown(what, config, custom_objects, False, legacy_hdf5.declared_bytes(file, what))
        take(legacy_hdf5.found(file, model, what, by_name=False), what)
    return model, None


def _rethrown(what: str, config: Any, custom_objects: dict[str, Any] | None, compiled: bool, size: int) -> Model:
    """The model of a description; what is wrong with that is told apart from what is wrong with the HDF5 file."""
    with _only_invalid(what):
        return _built(config, custom_objects, compiled, size)
