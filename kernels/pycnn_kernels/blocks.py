"""Argument blocks: the arguments of a kernel by name, eight bytes each, in one piece of memory.

Both backends have them. A CPU kernel gets the block's address; a CUDA kernel gets the block itself as its parameters.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Iterator
from typing import Any

#: A float, and the integer of the same bits.
_FLOAT, _BITS = struct.Struct("d"), struct.Struct("q")


def float_bits(value: float) -> int:
    """The integer that has a float's bits.

    >>> hex(float_bits(1.0))
    '0x3ff0000000000000'
    """
    return _BITS.unpack(_FLOAT.pack(value))[0]


class Fields:
    """The fields of a kernel's argument block, in their order, and what kind of value each holds."""

    def __init__(self, kernel: str, kinds: dict[str, str]) -> None:
        self.kernel, self.kinds = kernel, kinds
        self._slots = {name: slot for slot, name in enumerate(kinds)}

    def __len__(self) -> int:
        return len(self.kinds)

    def is_float(self, name: str) -> bool:
        return self.kinds.get(name) == "float"

    def slot(self, name: str) -> int:
        """The position of a field in the block.

        Raises:
            TypeError: there is no such field.
        """
        slot = self._slots.get(name)
        if slot is None:
            raise TypeError(f"{self.kernel} has the fields {', '.join(self.kinds)}; received {name}")
        return slot

    def filled(self, **values: float) -> array[int]:
        """A block with these values, and 0 elsewhere.

        Raises:
            TypeError: a name is not a field.
        """
        block = array("q", bytes(8 * len(self.kinds)))
        for name, value in values.items():
            block[self.slot(name)] = float_bits(value) if self.is_float(name) else int(value)
        return block


class Block:
    """A block that was filled in once, but for the fields that each run gives.

    Attributes:
        values: the block without the given fields.
        slots: those of the given fields that are no floats.
    """

    def __init__(self, fields: Fields, given: str, **values: float) -> None:
        # An array of Python's own is copied, filled in and asked for its address in a third of the time of NumPy's.
        self.values = fields.filled(**values)
        names = given.split()
        self._given = len(names)
        self.slots = [fields.slot(name) for name in names if not fields.is_float(name)]
        self._stretches = list(_stretches(fields, names))

    def filled(self, values: tuple[Any, ...]) -> array[int]:
        """A copy with the given fields' values, in their order.

        Raises:
            ValueError: there are more values than fields, or fewer.
        """
        if len(values) != self._given:
            raise ValueError(f"{self._given} fields are given for each run; received {len(values)} values")
        block = self.values[:]
        for pack_into, at, first, last in self._stretches:
            pack_into(block, at, *values[first:last])
        return block


def _stretches(fields: Fields, names: list[str]) -> Iterator[tuple[Callable[..., None], int, int, int]]:
    """Given fields that lie behind one another in the block, in the order in which they are given, so that one call
    fills them in: what packs them, the byte where it begins, and which of the given values."""
    slots = [fields.slot(name) for name in names]
    first = 0
    for last in range(1, len(names) + 1):
        if last == len(names) or slots[last] != slots[last - 1] + 1:
            formats = ["d" if fields.is_float(name) else "q" for name in names[first:last]]
            yield struct.Struct("".join(formats)).pack_into, 8 * slots[first], first, last
            first = last
