"""Lists, tuples and dictionaries of tensors: what a layer or a model takes and gives where that is more than one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any


def leaves(structure: Any) -> list[Any]:
    """What is in lists, tuples and dictionaries, however deep; of a dictionary in the order of its sorted keys.

    >>> leaves({"b": 1, "a": [2, (3,)]}), leaves(4)
    ([2, 3, 1], [4])
    """
    return list(_leaves(structure))


def _leaves(structure: Any) -> Iterator[Any]:
    if isinstance(structure, list | tuple):
        for part in structure:
            yield from _leaves(part)
    elif isinstance(structure, dict):
        for key in sorted(structure):
            yield from _leaves(structure[key])
    else:
        yield structure


def mapped(function: Callable[[Any], Any], structure: Any) -> Any:
    """The same structure with ``function`` of each leaf in its place.

    >>> mapped(lambda x: -x, {"b": 1, "a": [2, (3,)]})
    {'b': -1, 'a': [-2, (-3,)]}
    """
    if isinstance(structure, list | tuple):
        return type(structure)([mapped(function, part) for part in structure])
    if isinstance(structure, dict):
        return {key: mapped(function, part) for key, part in structure.items()}
    return function(structure)


def packed(structure: Any, found: Iterable[Any]) -> Any:
    """The same structure with the leaves ``found``, which are in the order of :func:`leaves`.

    >>> packed({"b": 1, "a": [2, (3,)]}, "xyz")
    {'b': 'z', 'a': ['x', ('y',)]}
    """
    rest = iter(found)

    def filled(part: Any) -> Any:
        if isinstance(part, list | tuple):
            return type(part)([filled(each) for each in part])
        if isinstance(part, dict):
            by_key = {key: filled(part[key]) for key in sorted(part)}
            return {key: by_key[key] for key in part}
        return next(rest)

    return filled(structure)


def is_structure(value: Any) -> bool:
    """Whether a value is a list, tuple or dictionary.

    >>> is_structure([]), is_structure(1)
    (True, False)
    """
    return isinstance(value, list | tuple | dict)
