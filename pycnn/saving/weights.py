"""Weights in files: what is written, and what is held against the model before anything in it is changed."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from pycnn.layers.layer import Layer
from pycnn.saving import archive, hdf5, legacy_hdf5, safetensors
from pycnn.saving.atomic import replaced_file
from pycnn.saving.errors import InvalidFileError
from pycnn.saving.matching import matched, take
from pycnn.saving.paths import joined, layers_by_path, weights_by_path


def save_weights(model: Layer, path: str | os.PathLike[str], overwrite: bool = True) -> None:
    """Write the weights of a model into a file; see :meth:`pycnn.models.Model.save_weights`."""
    check_target(path, overwrite, (".safetensors", ".weights.h5"))
    check_built(model)
    with replaced_file(path, "the weights") as file:
        if str(path).endswith(".safetensors"):
            safetensors.write(file, named_arrays(model), {"format": "pycnn weights"})
        else:
            hdf5.write(file, model)


def load_weights(
    model: Layer, path: str | os.PathLike[str], skip_mismatch: bool = False, by_name: bool = False
) -> None:
    """Read the weights of a model from a file; see :meth:`pycnn.models.Model.load_weights`."""
    check_built(model)
    source: bytes | Path = Path(path)
    name = str(path)
    if name.endswith((".keras", ".pycnn")):
        source, name = archive.weights_of(Path(path).read_bytes(), name)
    if not hdf5.is_hdf5(source):
        _refuse_names(name, by_name)
        data = source if isinstance(source, bytes) else source.read_bytes()
        take(matched(safetensors.read(data, name), model, name), name, skip_mismatch)
        return
    with hdf5.opened(source, name) as file:
        if legacy_hdf5.is_legacy(file):
            found = legacy_hdf5.found(file, model, name, by_name)
        else:
            _refuse_names(name, by_name)
            found = hdf5.found(file, model, name)
    take(found, name, skip_mismatch)


def named_arrays(model: Layer) -> dict[str, np.ndarray]:
    """Copies of all weights by their paths and names, for example ``layers/conv2d/kernel``."""
    return {
        joined(path, name): weight.detach().numpy()
        for path, weights in weights_by_path(model).items()
        for name, weight in weights.items()
    }


def check_target(path: str | os.PathLike[str], overwrite: bool, suffixes: Iterable[str]) -> None:
    """Find out whether a file may be written under a name.

    Raises:
        ValueError: for a name with another ending.
        FileExistsError: there is a file already, and it is to stay.
    """
    if not str(path).endswith(tuple(suffixes)):
        raise ValueError(f"expected the name of a file that ends in {' or '.join(suffixes)}, received {str(path)!r}")
    if not overwrite and Path(path).exists():
        raise FileExistsError(f"{path}: there is such a file already, and overwrite=False")


def check_built(model: Layer) -> None:
    """Raise a ValueError unless the model and all layers in it have their weights."""
    for path, layer in layers_by_path(model).items():
        if not layer.built:
            raise ValueError(
                f"{layer}{f' ({path})' if path else ''} has no weights yet: build the model first, by calling it on "
                "data or by giving it an input shape"
            )


def _refuse_names(what: str, by_name: bool) -> None:
    if by_name:
        raise InvalidFileError(
            f"{what}: by_name=True is for files in Keras' former format only, which holds names of layers"
        )
