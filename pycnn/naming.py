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


def named(kind: str, identifier: Any, known: Mapping[str, Callable[[], Any]]) -> Any:
    """What the function of a name, or a class, makes without arguments; what can be called as it is.

    Raises:
        ValueError: for an unknown name (the message names the nearest) or anything that cannot be called.

    >>> named("number", "real", {"real": float})
    0.0
    """
    if isinstance(identifier, str):
        if identifier not in known:
            raise ValueError(f"unknown {kind} {identifier!r}.{nearest(identifier, known)} Known: {', '.join(known)}")
        return known[identifier]()
    if isinstance(identifier, type):
        return identifier()
    if callable(identifier):
        return identifier
    raise ValueError(f"{kind}: expected a name or a function, received {identifier!r}")
