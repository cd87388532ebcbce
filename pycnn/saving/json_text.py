"""JSON from files of unknown origin."""

from __future__ import annotations

import json
from typing import Any

from pycnn.saving.errors import InvalidFileError

#: The descriptions of the largest published models take about half a million bytes.
LONGEST = 64 * 2**20


def parsed(data: bytes | memoryview, what: str) -> dict[str, Any]:
    """The dictionary that ``data`` holds.

    Raises:
        InvalidFileError: it is too long, nests too deep, names an entry twice, or is no dictionary in JSON.

    >>> parsed(b'{"a": 1}', "text")
    {'a': 1}
    """
    if len(data) > LONGEST:
        raise InvalidFileError(f"{what}: expected at most {LONGEST} bytes of JSON, received {len(data)}")
    try:
        found = json.loads(str(data, "utf-8"), object_pairs_hook=_each_once)
    except RecursionError:
        raise InvalidFileError(f"{what}: its lists and dictionaries nest too deep") from None
    except ValueError as error:  # also that of text that is no UTF-8
        raise InvalidFileError(f"{what}: expected JSON; {error}") from None
    if not isinstance(found, dict):
        raise InvalidFileError(f"{what}: expected a dictionary in JSON, received a {type(found).__name__}")
    return found


def written(value: dict[str, Any]) -> bytes:
    """A dictionary as :func:`parsed` reads it.

    >>> written({"a": (1, None)})
    b'{"a": [1, null]}'
    """
    return json.dumps(value).encode()


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a dictionary has two entries of one name")
    return found
