"""Names of layers and models: ``conv2d``, ``conv2d_1``, ``max_pooling2d``, counted per process as in Keras."""

from __future__ import annotations

import re
from collections import Counter

_given: Counter[str] = Counter()


def snake_case(class_name: str) -> str:
    """The lower-case form that Keras gives a class name.

    >>> snake_case("MaxPooling2D"), snake_case("InputLayer")
    ('max_pooling2d', 'input_layer')
    """
    name = re.sub(r"\W+", "", class_name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def auto_name(class_name: str) -> str:
    """The next free name for an object of a class: ``dense``, then ``dense_1``, then ``dense_2``."""
    base = snake_case(class_name)
    count = _given[base]
    _given[base] += 1
    return f"{base}_{count}" if count else base


def reset() -> None:
    """Begin counting anew; called by :func:`pycnn.utils.clear_session`."""
    _given.clear()
