"""Suggestions for names that are almost right."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any


def nearest(name: object, known: Iterable[str]) -> str:
    """``" Did you mean 'adam'?"`` when one of the known names is close to ``name``, otherwise an empty string.

    >>> nearest("adma", ["adam", "sgd"])
    " Did you mean 'adam'?"
    >>> nearest("newton", ["adam", "sgd"])
    ''
    """
    close = difflib.get_close_matches(str(name).lower(), list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def from_description(identifier: Any) -> Any:
    """The object that a dictionary describes, which Keras takes wherever it takes a name; anything else as it is.

    Raises:
        ValueError, TypeError: as :func:`pycnn.saving.deserialize_keras_object`.

    >>> config = {"module": "keras.regularizers", "class_name": "L2", "config": {"l2": 0.5}}
    >>> from_description(config).l2, from_description("l2")
    (0.5, 'l2')
    """
    if not isinstance(identifier, dict):
        return identifier
    from pycnn.saving.serialization import deserialize_keras_object

    return deserialize_keras_object(identifier)


def named(kind: str, identifier: Any, known: Mapping[str, Callable[[], Any]]) -> Any:
    """What the function of a name, or a class, makes without arguments, or a dictionary describes; a function as it is.

    Raises:
        ValueError: for an unknown name (the message names the nearest) or anything that cannot be called.

    >>> named("number", "real", {"real": float})
    0.0
    """
    identifier = from_description(identifier)
    if isinstance(identifier, str):
        if identifier not in known:
            raise ValueError(f"unknown {kind} {identifier!r}.{nearest(identifier, known)} Known: {', '.join(known)}")
        return known[identifier]()
    if isinstance(identifier, type):
        return identifier()
    if callable(identifier):
        return identifier
    raise ValueError(f"{kind}: expected a name or a function, received {identifier!r}")
