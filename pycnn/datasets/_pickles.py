"""Reading pickles from the network without running what they say.

A pickle is a program: it may import any function of any module and call it. The one here may name
four things, what uint8 arrays in plain containers are made of, and gets a stand-in for each.
NumPy's own functions are not among the stand-ins, because they trust the state they are handed: a
crafted dtype, for one, can place a field of object pointers outside the memory of its array.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pycnn.datasets._errors import DataError


def read_pickle(raw: bytes, origin: str) -> Any:
    """The object pickled in ``raw``: containers, numbers, strings and :class:`PickledArray`.

    Strings of Python 2 arrive as ``bytes``. ``origin`` is the name of the file, for the message.

    Raises:
        DataError: if ``raw`` is not a complete pickle, or names anything else.
    """
    try:
        _check_announcements(raw)
        return _ArrayUnpickler(io.BytesIO(raw), encoding="bytes").load()
    # Damaged pickles raise nearly anything: UnpicklingError, EOFError, KeyError, IndexError,
    # AttributeError, TypeError, OverflowError, MemoryError ...; the documentation gives no full list.
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise DataError(
            f"{origin}: expected a pickle of uint8 arrays and plain containers, received {len(raw):,} bytes "
            f"that cannot be read as one: {reason}"
        ) from error


def _check_announcements(raw: bytes) -> None:
    """Refuse a pickle that announces more than it holds, since the unpickler allocates what is announced.

    Twenty bytes can announce a string of 2**60 bytes, which genops refuses, or a memo entry with an
    index of 2**32, for which the memo, an array, would grow to 64 GiB. Picklers number the memo from
    0 or 1 upwards, so no index exceeds the number of opcodes before it.
    """
    for count, (opcode, argument, _position) in enumerate(pickletools.genops(raw)):
        if isinstance(argument, int) and opcode.name.endswith("PUT") and not 0 <= argument <= count:
            raise pickle.UnpicklingError(f"expected a memo index of at most {count}, received {describe(argument)}")


def describe(value: object) -> str:
    """``value`` in a few words: one from a hostile file must neither flood nor break the message."""
    if type(value) is int and abs(value) < 1_000_000_000:
        return str(value)
    if isinstance(value, (str, bytes)):
        return repr(value[:60])
    if isinstance(value, PickledArray) and value.array is not None:
        return f"an array of shape {value.array.shape}"
    if isinstance(value, dict):
        if not value:
            return "an empty dict"
        return f"a dict with the keys {', '.join(describe(key) for key in list(value)[:6])}"
    if isinstance(value, (list, tuple)):
        return f"a {type(value).__name__} of length {len(value)}"
    return f"an object of type {type(value).__name__}"


class PickledArray:
    """Stands in for ``numpy.ndarray`` and for the function that pickles call to make an empty one.

    ``array`` is None until the pickle has handed over shape and contents.
    """

    array: NDArray[np.uint8] | None = None

    def __init__(self, subtype: object, shape: object, typecode: object) -> None:
        # They describe the empty array that NumPy would begin with; __setstate__ brings the real one.
        pass

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _version, shape, dtype, is_fortran, contents = state
        if not isinstance(dtype, PickledDtype) or not isinstance(contents, bytes):
            raise pickle.UnpicklingError(
                f"expected an array's dtype and bytes, received {describe(dtype)} and {describe(contents)}"
            )
        if math.prod(shape) != len(contents):
            raise pickle.UnpicklingError(
                f"expected the bytes of a uint8 array of shape {str(shape)[:60]}, received {len(contents):,}"
            )
        pixels = np.frombuffer(contents, dtype=np.uint8)
        self.array = pixels.reshape(shape, order="F" if is_fortran else "C")


class PickledDtype:
    """Stands in for ``numpy.dtype``: uint8 and nothing else."""

    def __init__(self, code: object, align: object = False, copy: object = False) -> None:
        if code not in (b"u1", "u1"):
            raise pickle.UnpicklingError(f"expected arrays of dtype 'u1' (uint8), received {describe(code)}")

    def __setstate__(self, state: object) -> None:
        # Byte order, fields and alignment: of no meaning for single bytes.
        pass


def _bytes_from_text() -> Callable[[object, object], bytes]:
    """Stands in for ``_codecs.encode``, with which Python 3 writes bytes in protocol 2.

    Made anew for each pickle, since a pickle can set attributes of the functions it is given.
    """

    def encode(text: object, encoding: object) -> bytes:
        if not isinstance(text, str) or encoding != "latin1":
            raise pickle.UnpicklingError(
                f"expected text to encode as 'latin1', received {describe(text)} and {describe(encoding)}"
            )
        return text.encode("latin1")

    return encode


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        match module, name:
            # NumPy 2 renamed numpy.core; the published files carry the old name.
            case ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") | ("numpy", "ndarray"):
                return PickledArray
            case ("numpy", "dtype"):
                return PickledDtype
            case ("_codecs", "encode"):
                return _bytes_from_text()
        raise pickle.UnpicklingError(
            f"it asks for {describe(f'{module}.{name}')}, which no array or plain container needs; "
            "nothing of it was run"
        )
