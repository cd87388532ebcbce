"""The state of random generators as text and numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from pycnn.layers.arguments import choice
from pycnn.layers.layer import Layer
from pycnn.saving.paths import layers_by_path
from pycnn.saving.serialization import deserialize_keras_object, serialize_keras_object

#: NumPy's, by the names that their states have.
_BIT_GENERATORS: dict[str, Any] = {
    kind.__name__: kind
    for kind in (np.random.PCG64, np.random.PCG64DXSM, np.random.MT19937, np.random.Philox, np.random.SFC64)
}


def described(generator: np.random.Generator) -> dict[str, Any]:
    """The state of a generator; its arrays are dictionaries as :func:`serialize_keras_object` gives them."""
    described: dict[str, Any] = serialize_keras_object(generator.bit_generator.state)
    return described


def made(state: Any) -> np.random.Generator:
    """A generator that goes on where the described one was.

    Raises:
        ValueError, TypeError, KeyError, OverflowError: it is no such description, or that of a bit generator that is
            not NumPy's.

    >>> first = np.random.default_rng(5)
    >>> second = made(described(first))
    >>> first.random() == second.random()
    True
    """
    name = state["bit_generator"]
    bit_generator = _BIT_GENERATORS[choice(name, tuple(_BIT_GENERATORS), "bit_generator")](0)
    bit_generator.state = deserialize_keras_object(state)
    return np.random.Generator(bit_generator)


def of_layers(model: Layer) -> dict[str, dict[str, Any]]:
    """The states of the generators that layers have of their own, by the paths of the layers and their attributes."""
    found = {
        path: {name: described(value) for name, value in vars(layer).items() if _is_generator(value)}
        for path, layer in layers_by_path(model).items()
    }
    return {path: states for path, states in found.items() if states}


def put_back(model: Layer, states: Any) -> None:
    """Let the generators of layers go on where :func:`of_layers` has found them.

    Raises:
        ValueError, TypeError, KeyError, OverflowError: the states are not those of the model.
    """
    layers = layers_by_path(model)
    expected = {path: set(names) for path, names in of_layers(model).items()}
    if {path: set(names) for path, names in states.items()} != expected:
        raise ValueError(f"expected the states of the generators {expected}, received {states}")
    generators = {(path, name): made(state) for path, names in states.items() for name, state in names.items()}
    for (path, name), generator in generators.items():
        setattr(layers[path], name, generator)


def _is_generator(value: Any) -> bool:
    return isinstance(value, np.random.Generator)
