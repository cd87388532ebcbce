"""The state of random generators as text and numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from pycnn.layers.layer import Layer
from pycnn.saving.paths import layers_by_path


def described(generator: np.random.Generator) -> dict[str, Any]:
    """The state of a generator of ``numpy.random.default_rng``."""
    return dict(generator.bit_generator.state)


def made(state: Any) -> np.random.Generator:
    """A generator that goes on where the described one was.

    Raises:
        ValueError, TypeError, KeyError, OverflowError: it is no such description.

    >>> first = np.random.default_rng(5)
    >>> second = made(described(first))
    >>> first.random() == second.random()
    True
    """
    generator = np.random.default_rng(0)
    generator.bit_generator.state = state
    return generator


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
