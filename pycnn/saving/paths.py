"""Where the weights of a model are in a file: under which path each layer is found.

Names of layers are counted per process and differ from run to run, so that paths are made of the names of attributes
and classes instead: ``layers/conv2d`` and ``layers/conv2d_1`` are the first and the second Conv2D of a model.

Source: Keras 3, keras.src.saving.saving_lib, whose files have the same paths.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pycnn.layers.auto_name import snake_case
from pycnn.layers.layer import Layer
from pycnn.models.functional import Functional
from pycnn.models.sequential import Sequential
from pycnn.tensor import Tensor


def layers_by_path(model: Layer) -> dict[str, Layer]:
    """The model itself, by "", and all layers in it; a layer that is met twice has the first of its paths.

    >>> from pycnn.layers import Dense, Input
    >>> from pycnn.models import Sequential
    >>> model = Sequential([Input((3,)), Dense(4), Dense(2)])
    >>> [path for path in layers_by_path(model)]
    ['', 'layers/dense', 'layers/dense_1']
    """
    found: dict[int, tuple[str, Layer]] = {}
    _collect(model, "", found)
    return dict(found.values())


def weights_by_path(model: Layer) -> dict[str, dict[str, Tensor]]:
    """The weights that layers have themselves, by the paths of the layers and by their names."""
    own = {path: layer.own_weights() for path, layer in layers_by_path(model).items()}
    return {path: weights for path, weights in own.items() if weights}


def joined(path: str, name: str) -> str:
    """``path/name``; the path of a model itself is empty."""
    return f"{path}/{name}" if path else name


def _collect(layer: Layer, path: str, found: dict[int, tuple[str, Layer]]) -> None:
    if id(layer) in found:
        return
    found[id(layer)] = path, layer
    for name, value in _places(layer):
        if isinstance(value, Layer):
            _collect(value, joined(path, name), found)
        else:
            _collect_from(value, joined(path, name), found)


def _places(layer: Layer) -> Iterator[tuple[str, Any]]:
    """The attributes that may hold layers; those whose names begin with _ come last."""
    if isinstance(layer, Sequential | Functional):
        yield "layers", layer.layers
    for name in sorted(layer.places_of_sublayers(), key=lambda name: (name.startswith("_"), name)):
        yield name, getattr(layer, name, None)


def _collect_from(container: Any, path: str, found: dict[int, tuple[str, Layer]]) -> None:
    """Collect the layers of a list, tuple or dictionary, counted by their classes."""
    used: dict[str, int] = {}
    parts: Iterable[Any] = container.values() if isinstance(container, dict) else container
    for part in parts if isinstance(container, dict | list | tuple) else ():
        if isinstance(part, Layer):
            _collect(part, joined(path, _unique(snake_case(type(part).__name__), used)), found)
        elif isinstance(part, dict | list | tuple):
            _collect_from(part, joined(path, _unique("container", used)), found)


def _unique(name: str, used: dict[str, int]) -> str:
    count = used.get(name, -1) + 1
    used[name] = count
    return f"{name}_{count}" if count else name
