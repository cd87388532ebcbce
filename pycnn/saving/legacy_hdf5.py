"""Weights in HDF5 files of Keras 2, which are also those that Keras publishes for its applications.

The file, or its group ``model_weights``, has an attribute ``layer_names``; the group of each layer has an attribute
``weight_names``, and arrays of these names: first those that are trained, then the others. Layers are assigned by their
order (those without weights left out), or by their names.

Source: Keras 3, keras.src.legacy.saving.legacy_h5_format.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pycnn.layers.layer import Layer
from pycnn.models.model import Model
from pycnn.saving.errors import InvalidFileError
from pycnn.saving.hdf5 import array_of, child, dtype_of, is_group
from pycnn.saving.matching import Found, misfit


def is_legacy(file: Any) -> bool:
    """Whether a file is in this format, and not in that of Keras 3."""
    return any(_has_names(group, "layer_names") for group in (file, child(file, "model_weights")))


def found(file: Any, model: Layer, what: str, by_name: bool) -> Found:
    """What a file has for a model."""
    root = file if _has_names(file, "layer_names") else child(file, "model_weights")
    stored = {name: _stored(root, name, what) for name in _names(root, "layer_names", what)}
    layers = list(model.layers) if isinstance(model, Model) else [model]
    result = Found({}, [])
    if by_name:
        for layer in layers:
            if layer.name in stored:
                _compare(layer, stored[layer.name], layer.name, what, result)
        return result
    layers = [layer for layer in layers if layer.weights]
    stored = {name: arrays for name, arrays in stored.items() if arrays}
    if len(layers) != len(stored):
        result.problems.append(
            f"it has {len(stored)} layers with weights, and the model {len(layers)}; with by_name=True those of the "
            "same names are taken"
        )
    for layer, (name, arrays) in zip(layers, stored.items()):
        _compare(layer, arrays, name, what, result)
    top = child(root, "top_level_model_weights")
    if top is not None and _names(top, "weight_names", what):
        result.problems.append("it has weights of the model beside those of its layers")
    return result


def declared_bytes(file: Any, what: str) -> int:
    """How many bytes all weights of the file have together."""
    root = file if _has_names(file, "layer_names") else child(file, "model_weights")
    arrays = [stored for name in _names(root, "layer_names", what) for stored in _stored(root, name, what)]
    return sum(dtype_of(stored, what).itemsize * math.prod(stored.shape) for stored in arrays)


def _compare(layer: Layer, arrays: list[Any], name: str, what: str, result: Found) -> None:
    """Hold the arrays of a layer of the file against one of the model, in the former order of its weights."""
    weights = [*layer.trainable_weights, *layer.non_trainable_weights]
    of = f"the layer {layer.name}" + (f" ({name} in the file)" if name != layer.name else "")
    if len(weights) != len(arrays):
        result.problems.append(f"{of}: expected {len(weights)} weights, received {len(arrays)}")
        return
    for place, (weight, stored) in enumerate(zip(weights, arrays)):
        dtype = dtype_of(stored, what)
        problem = misfit(f"weight {place} of {of}", weight, stored.shape, dtype)
        if problem:
            result.problems.append(problem)
        else:
            result.pairs[f"{layer.name}/{place}"] = weight, array_of(stored, dtype)


def _stored(root: Any, name: str, what: str) -> list[Any]:
    """The arrays of a layer, not read yet."""
    group = _at(root, name)
    if not is_group(group):
        raise InvalidFileError(f"{what}: it names a layer {name!r}, which it does not have")
    arrays = [_at(group, weight) for weight in _names(group, "weight_names", what)]
    if any(array is None for array in arrays):
        raise InvalidFileError(f"{what}: {name}: it names weights that it does not have")
    return arrays


def _at(group: Any, path: str) -> Any:
    """What is at a path below a group, one step at a time, so that no link is followed."""
    for part in path.split("/"):
        group = None if group is None else child(group, part)
    return group


def _has_names(group: Any, attribute: str) -> bool:
    return group is not None and any(name in group.attrs for name in (attribute, f"{attribute}0"))


def _names(group: Any, attribute: str, what: str) -> list[str]:
    """Names in an attribute, or, where they are too long for one, in several that are numbered."""
    parts = [attribute] if attribute in group.attrs else []
    while not (parts and parts[0] == attribute) and f"{attribute}{len(parts)}" in group.attrs:
        parts.append(f"{attribute}{len(parts)}")
    listed = [name for part in parts for name in np.atleast_1d(group.attrs[part])]
    names = [name.decode() if isinstance(name, bytes) else str(name) for name in listed]
    if len(set(names)) < len(names):
        raise InvalidFileError(f"{what}: {attribute}: expected each name once")
    return names
