"""Weights in Keras 3's HDF5 files: ``model.weights.h5`` in a ``.keras`` file, and files ``*.weights.h5``.

The weights of a layer are ``<path>/vars/0``, ``<path>/vars/1``, ... in the order of making, those for training first;
the paths are those of :mod:`pycnn.saving.paths`.

Source: Keras 3, keras.src.saving.saving_lib.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from pycnn.layers.layer import Layer
from pycnn.saving.errors import InvalidFileError
from pycnn.saving.matching import Found, misfit
from pycnn.saving.paths import joined, layers_by_path, weights_by_path
from pycnn.tensor import Tensor
from pycnn_kernels.problem import numpy_dtype

#: The first bytes of every HDF5 file.
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
#: How many times as large as its bytes in the file an array may be, if it is large at all: compression of weights gains
#: little, and that of an array of nothing a great deal.
_MOST_EXPANSION, _SMALL = 100, 2**26
#: Groups within each other, and all that there are.
_DEEPEST, _MOST = 64, 200_000


def is_hdf5(source: bytes | Path) -> bool:
    """Whether a file, or its bytes, is in this format at all."""
    if isinstance(source, bytes):
        return source.startswith(_SIGNATURE)
    with open(source, "rb") as file:
        return file.read(len(_SIGNATURE)) == _SIGNATURE


def h5py() -> Any:
    """The package that reads the format.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    try:
        import h5py as package
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "Keras' files .keras, .weights.h5 and .h5 need the package h5py; pip install 'pycnn[keras]' brings it. "
            "pycnn's own files .pycnn and .safetensors need nothing"
        ) from None
    return package


@contextlib.contextmanager
def opened(source: bytes | Path, what: str) -> Iterator[Any]:
    """A file for reading, or its bytes.

    Raises:
        InvalidFileError: it is damaged.
    """
    package = h5py()
    try:
        with package.File(io.BytesIO(source) if isinstance(source, bytes) else source, "r") as file:
            yield file
    except InvalidFileError:
        raise
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, OverflowError, MemoryError) as error:
        raise InvalidFileError(f"{what}: a damaged HDF5 file; {error}") from error  # so h5py names all that is wrong


def write(file: BinaryIO, model: Layer, more: dict[str, list[np.ndarray]] | None = None) -> None:
    """Write the weights of a model.

    Args:
        file: open for writing and reading.
        model: all whose layers are built.
        more: other arrays, in order, by the path that they have as if they were weights of a layer.
    """
    named = {path: [*weights.values()] for path, weights in weights_by_path(model).items()}
    layers = layers_by_path(model)
    with h5py().File(file, "w") as store:
        store.create_group("vars").attrs["name"] = layers[""].name
        for path, weights in named.items():
            group = store.require_group(joined(path, "vars"))
            group.attrs["name"] = layers[path].name
            _write_arrays(group, [weight.detach().numpy() for weight in weights])
        for path, arrays in (more or {}).items():
            _write_arrays(store.require_group(joined(path, "vars")), arrays)


def _write_arrays(group: Any, arrays: list[np.ndarray]) -> None:
    for place, array in enumerate(arrays):
        stored = group.create_dataset(str(place), data=array)
        if array.dtype.name == "bfloat16":  # which HDF5 takes for bytes
            stored.attrs["dtype"] = "bfloat16"


def found(file: Any, model: Layer, what: str) -> Found:
    """What a file has for a model; of no weight more than its shape is read before that is held against the model."""
    pairs: dict[str, tuple[Tensor, np.ndarray]] = {}
    problems: list[str] = []
    read = set()
    for path, weights in weights_by_path(model).items():
        group = _group_of_layer(file, path)
        for place, (name, weight) in enumerate(weights.items()):
            full, stored = joined(path, name), None if group is None else child(group, str(place))
            if stored is None:
                problems.append(f"{full} ({joined(path, f'vars/{place}')}) is missing")
                continue
            read.add(stored.name)
            dtype = dtype_of(stored, what)
            problem = misfit(full, weight, stored.shape, dtype)
            if problem:
                problems.append(problem)
            else:
                pairs[full] = weight, array_of(stored, dtype)
    rest = sorted(set(_names_of_weights(file)) - read)
    problems += [f"the model has no {name.removeprefix('/')}" for name in rest]
    return Found(pairs, problems)


def _group_of_layer(file: Any, path: str) -> Any:
    """The group of a layer's weights, None where there is none; Keras 2.13 called the layers otherwise."""
    for way in (path, path.replace("layers", "_layer_checkpoint_dependencies")):
        group = file
        for part in joined(way, "vars").split("/"):
            group = None if group is None else child(group, part)
        if group is not None:
            return group
    return None


def _names_of_weights(file: Any) -> Iterator[str]:
    """The names of all arrays of layers; what is beside them, as the state of an optimizer, is none of a model's."""
    waiting, seen = [(file, 0)], 0
    while waiting:
        group, depth = waiting.pop()
        for name in group:
            seen += 1
            if depth > _DEEPEST or seen > _MOST:
                raise InvalidFileError(f"{file.filename}: its groups are too many, or nest too deep")
            if depth == 0 and name not in ("layers", "_layer_checkpoint_dependencies", "vars"):
                continue
            each = child(group, name)
            if each is None:
                raise InvalidFileError(f"{file.filename}: {group.name}: it lists {name!r}, which it does not have")
            if is_group(each):
                waiting.append((each, depth + 1))
            else:
                yield each.name


# -- reading with care ---------------------------------------------------------------------------------------------


def child(group: Any, name: str) -> Any:
    """What a group has under a name; None where there is nothing.

    Raises:
        InvalidFileError: it is a link to another place or another file.
    """
    if not is_group(group) or name not in group:
        return None
    link = group.get(name, getclass=True, getlink=True)
    if link is not h5py().HardLink:
        raise InvalidFileError(f"{group.name}/{name}: expected an array or a group, received a {link.__name__}")
    return group[name]


def is_group(value: Any) -> bool:
    """Whether it is a group, and no array."""
    return isinstance(value, h5py().Group)


def dtype_of(stored: Any, what: str) -> np.dtype:
    """The dtype of an array in the file, which lies there itself.

    Raises:
        InvalidFileError: it is no array, lies in another file, or is far larger than its bytes.
    """
    if not isinstance(stored, h5py().Dataset):
        raise InvalidFileError(f"{what}: {stored.name}: expected an array, received a {type(stored).__name__.lower()}")
    if stored.shape is None or stored.is_virtual or stored.external:
        raise InvalidFileError(f"{what}: {stored.name}: expected an array whose numbers are in the file")
    size = math.prod(stored.shape) * stored.dtype.itemsize
    if size > _SMALL and size > _MOST_EXPANSION * stored.id.get_storage_size():
        raise InvalidFileError(
            f"{what}: {stored.name}: expected about as many bytes in the file as the array has, {size}, received "
            f"{stored.id.get_storage_size()}"
        )
    is_bfloat16 = stored.dtype.kind == "V" and stored.dtype.itemsize == 2 and stored.attrs.get("dtype") == "bfloat16"
    return numpy_dtype("bfloat16") if is_bfloat16 else stored.dtype


def array_of(stored: Any, dtype: np.dtype) -> np.ndarray:
    """The numbers themselves; to be called when the shape is known to be right."""
    numbers: np.ndarray = stored[()]
    return np.asarray(numbers).view(dtype) if dtype.name == "bfloat16" else np.asarray(numbers)


def has_optimizer(file: Any) -> bool:
    """Whether the state of an optimizer is beside the weights."""
    return child(child(file, "optimizer"), "vars") is not None


def declared_bytes(file: Any, what: str) -> int:
    """How many bytes all weights of the file have together."""
    sizes = 0
    for name in _names_of_weights(file):
        stored = file[name]
        sizes += dtype_of(stored, what).itemsize * math.prod(stored.shape)
    return sizes
