"""Which arrays were changed in place, and when: gradients computed from values that are no longer there are refused.

Time is counted in changes: an operation remembers how many there had been when it was recorded, and its backward asks
whether what it reads was changed since. So nothing is counted beside each array, and calls pay for it only once
something was changed. What counts is the memory: a view is changed with the array that it looks into, and the other way
round. PyTorch counts the same in "versions".
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Hashable
from typing import Any

import numpy as np

#: The last change of an array: when, what changed it, and what keeps the entry from outliving the array. A plain tuple
#: is made in a tenth of the time of a named one.
_Change = tuple[int, str, "weakref.ref[np.ndarray] | None"]

#: How many changes there have been.
moment = 0
_last: dict[Hashable, _Change] = {}
_lock = threading.Lock()


def note(array: Any, what: str) -> None:
    """Remember that ``what`` has changed an array in place.

    >>> from pycnn import changes
    >>> before, x = changes.moment, np.zeros(3)
    >>> note(x[1:], "a test")
    >>> since(x, before), since(x, changes.moment)
    ('a test', None)
    """
    global moment
    owner: Any = array
    key: Hashable = id(array)
    if type(array) is not np.ndarray or array.base is not None:  # as few are, and a call may note two arrays
        owner = _owner(array)
        key = _key(owner)
    with _lock:
        moment += 1
        known = _last.get(key)
        life = None if known is None else known[2]
        if life is None and isinstance(owner, np.ndarray):
            life = weakref.ref(owner, lambda _: _forget(key))
        _last[key] = moment, what, life


def _forget(key: Hashable) -> None:
    _last.pop(key, None)


def since(array: Any, past: int) -> str | None:
    """What has changed an array last, if that was after a moment; None where nothing has."""
    change = _last.get(memory_of(array))
    if change is None:
        return None
    when, what, _ = change
    return what if when > past else None


def _owner(array: Any) -> Any:
    """The array whose memory an array is a view of, or itself."""
    if array.base is None:
        return array
    if not isinstance(array, np.ndarray):
        return array.base
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _key(owner: Any) -> Hashable:
    """NumPy's arrays by their identity. Those on a GPU by their address: where an array has gone, another may begin
    there, but it can only be read by what is recorded after the change.
    """
    return id(owner) if isinstance(owner, np.ndarray) else ("cuda", owner.data.ptr)


def memory_of(array: Any) -> Hashable:
    """Whose memory an array is in: equal for an array and its views."""
    return _key(_owner(array))


def same_memory(one: Any, other: Any) -> bool:
    """Whether two arrays are views of one array, or one of them a view of the other.

    >>> x = np.zeros((2, 3))
    >>> same_memory(x[0], x.T), same_memory(x, x.copy())
    (True, False)
    """
    return memory_of(one) == memory_of(other)
