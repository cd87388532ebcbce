"""Suggestions for names that are almost right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: object, known: Iterable[str]) -> str:
    """``" Did you mean 'adam'?"`` when one of the known names is close to ``name``, otherwise an empty string.

    >>> nearest("adma", ["adam", "sgd"])
    " Did you mean 'adam'?"
    >>> nearest("newton", ["adam", "sgd"])
    ''
    """
    close = difflib.get_close_matches(str(name).lower(), list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
