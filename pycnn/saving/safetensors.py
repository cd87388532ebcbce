"""Named arrays in the safetensors format: a header in JSON, then the bytes of the arrays, and nothing to execute.

The format is small, so it is read and written here: everyone has it then, bfloat16 included, and a header is held
against the file before any memory is taken.

A file is: the length of the header, 8 bytes, little endian; the header, for each array its dtype, its shape and where
its bytes begin and end, counted from the end of the header; the bytes, of one array directly behind those of another.

Source: https://github.com/huggingface/safetensors, "Format".
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from pycnn.saving.errors import InvalidFileError
from pycnn.saving.json_text import parsed, written
from pycnn_kernels.problem import numpy_dtype

_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}
_NAMES = {name: code for code, name in _DTYPES.items()}
#: As in NumPy before 2.0; no weight has more.
_MOST_AXES = 32
#: Elements of an array, axes of size 0 aside: NumPy counts its bytes without them.
_MOST_ELEMENTS = 2**48


def write(file: BinaryIO, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> None:
    """Write arrays by name.

    Args:
        file: open for writing.
        arrays: of any dtype of numbers but complex ones.
        metadata: text by name, beside the arrays.

    Raises:
        TypeError: an array has another dtype.

    >>> import io
    >>> file = io.BytesIO()
    >>> write(file, {"w": np.ones(2, np.float32)})
    >>> read(file.getvalue(), "file")["w"]
    array([1., 1.], dtype=float32)
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    # Larger elements first: each array then begins at a multiple of the size of its elements.
    ordered = dict(sorted(arrays.items(), key=lambda item: (-item[1].dtype.itemsize, item[0])))
    end = 0
    for name, array in ordered.items():
        if array.dtype.name not in _NAMES:
            raise TypeError(f"{name}: expected numbers, received an array of {array.dtype}")
        begin, end = end, end + array.nbytes
        header[name] = {"dtype": _NAMES[array.dtype.name], "shape": list(array.shape), "data_offsets": [begin, end]}
    text = written(header)
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)
    for array in ordered.values():
        little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        file.write(little.reshape(-1).view(np.uint8).data)


def read(data: bytes | memoryview, what: str) -> dict[str, np.ndarray]:
    """Arrays by name: views of ``data``, read-only where that is.

    Args:
        data: the whole file.
        what: its name in messages.

    Raises:
        InvalidFileError: it is no such file, or has been cut off, or its header does not agree with its size.
    """
    view = memoryview(data)
    if len(view) < 8:
        raise InvalidFileError(f"{what}: expected a safetensors file, received {len(view)} bytes")
    (length,) = struct.unpack("<Q", view[:8])
    if length > len(view) - 8:
        raise InvalidFileError(f"{what}: its header says that it has {length} bytes, and {len(view) - 8} are there")
    header = parsed(view[8 : 8 + length], f"{what}: header")
    header.pop("__metadata__", None)
    entries = sorted(((name, *_entry(f"{what}: {name}", entry)) for name, entry in header.items()), key=_order)
    body, at = view[8 + length :], 0
    for name, _, _, begin, end in entries:
        if begin != at or end > len(body):
            raise InvalidFileError(
                f"{what}: {name}: expected its bytes at {at} .. {len(body)}, received data_offsets {[begin, end]}"
            )
        at = end
    if at != len(body):
        raise InvalidFileError(f"{what}: expected {at} bytes of arrays, received {len(body)}")
    return {
        name: np.frombuffer(body[begin:end], dtype.newbyteorder("<")).astype(dtype, copy=False).reshape(shape)
        for name, dtype, shape, begin, end in entries
    }


def _order(entry: tuple[str, np.dtype, tuple[int, ...], int, int]) -> tuple[int, int]:
    return entry[3], entry[4]  # arrays without elements have no bytes, and come before what begins where they do


def _entry(what: str, entry: Any) -> tuple[np.dtype, tuple[int, ...], int, int]:
    """Dtype, shape and place of an array, which agree with each other."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise InvalidFileError(f"{what}: expected dtype, shape and data_offsets, received {str(entry)[:100]}")
    code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(code, str) or code not in _DTYPES:
        raise InvalidFileError(f"{what}: expected a dtype of {', '.join(_DTYPES)}, received {str(code)[:100]}")
    if not _are_sizes(shape) or len(shape) > _MOST_AXES:
        raise InvalidFileError(f"{what}: expected a shape of at most {_MOST_AXES} axes, received {str(shape)[:100]}")
    if not _are_sizes(offsets) or len(offsets) != 2:
        raise InvalidFileError(f"{what}: expected two data_offsets, received {str(offsets)[:100]}")
    dtype, (begin, end) = numpy_dtype(_DTYPES[code]), offsets
    if end - begin != math.prod(shape) * dtype.itemsize:
        raise InvalidFileError(
            f"{what}: expected {math.prod(shape) * dtype.itemsize} bytes for {code} {shape}, received {end - begin}"
        )
    if math.prod(size for size in shape if size) > _MOST_ELEMENTS:
        raise InvalidFileError(f"{what}: expected at most {_MOST_ELEMENTS} elements, received the shape {shape}")
    return dtype, tuple(shape), begin, end


def _are_sizes(value: Any) -> bool:
    """Whether it is a list of whole numbers of at least 0, none of them beyond what any file has."""
    return isinstance(value, list) and all(type(size) is int and 0 <= size < 2**48 for size in value)
