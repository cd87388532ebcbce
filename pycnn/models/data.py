"""Arrays for training: checks, batches, the validation split."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pycnn import backend, random
from pycnn.tensor import Tensor
from pycnn_kernels.memory import aligned_empty
from pycnn_kernels.problem import is_floating, numpy_dtype

Array = NDArray[Any]


def as_array(values: ArrayLike | Tensor, name: str) -> Array:
    """``values`` as an array of numbers, not copied where it is one.

    Raises:
        TypeError: when it does not hold numbers.
        ValueError: when it is no rectangular array with at least one axis.
    """
    try:
        # Batches are put together on the CPU.
        array = values.detach().numpy() if isinstance(values, Tensor) else backend.on_host(values)
    except ValueError as error:
        raise ValueError(f"{name}: expected an array, received rows of different lengths ({error})") from None
    if array.dtype.kind not in "biu" and not is_floating(array.dtype):
        raise TypeError(f"{name}: expected an array of numbers, received one of dtype {array.dtype}")
    if array.ndim == 0:
        raise ValueError(f"{name}: expected an array with one entry per sample, received the number {array}")
    return array


def paired(x: ArrayLike, y: ArrayLike, name: str = "") -> tuple[Array, Array]:
    """Samples and labels as arrays of the same, positive length.

    Raises:
        TypeError, ValueError: when they are not.
    """
    samples, labels = as_array(x, f"{name}x"), as_array(y, f"{name}y")
    if len(samples) != len(labels):
        raise ValueError(f"{name}y: expected one label for each of the {len(samples)} samples, received {len(labels)}")
    if not len(samples):
        raise ValueError(f"{name}x: expected at least one sample, received shape {samples.shape}")
    return samples, labels


def split(x: Array, y: Array, part: float) -> tuple[tuple[Array, Array], tuple[Array, Array] | None]:
    """(x, y) to train on and to validate with; the last ``part`` of the samples validates.

    Raises:
        ValueError: when ``part`` is outside [0, 1) or leaves one side without samples.
    """
    if not isinstance(part, int | float | np.number) or not 0 <= part < 1:
        raise ValueError(f"validation_split: expected a number in [0, 1), received {part!r}")
    if part == 0:
        return (x, y), None
    kept = math.floor(len(x) * (1 - part))
    if not 0 < kept < len(x):
        raise ValueError(f"validation_split: expected samples on both sides, received {part} of {len(x)} samples")
    return (x[:kept], y[:kept]), (x[kept:], y[kept:])


def count(value: Any, name: str, least: int) -> int:
    """``value`` as an integer of at least ``least``.

    Raises:
        ValueError: when it is anything else.
    """
    try:
        found = operator.index(value)
    except TypeError:
        found = least - 1
    if found < least:
        raise ValueError(f"{name}: expected an integer of at least {least}, received {value!r}")
    return found


class Batches:
    """Cuts arrays into batches, gathered one at a time.

    Args:
        x: samples.
        y: labels; None gives None in their place.
        batch_size: samples per batch; the last may have fewer.
        dtype: of the samples in a batch.
    """

    def __init__(self, x: Array, y: Array | None, batch_size: int, dtype: str) -> None:
        self._x, self._y = x, y
        self._batch_size, self._dtype = batch_size, dtype

    def __len__(self) -> int:
        """How many batches there are: at least one, which is empty when there are no samples."""
        return max(1, math.ceil(len(self._x) / self._batch_size))

    def in_order(self) -> Iterator[tuple[Array, Any]]:
        """The batches in the order of the samples."""
        for start in range(0, max(1, len(self._x)), self._batch_size):
            yield self._gather(slice(start, start + self._batch_size))

    def shuffled(self) -> Iterator[tuple[Array, Any]]:
        """The batches in a new random order of the samples."""
        order = random.generator().permutation(len(self._x))
        for start in range(0, len(order), self._batch_size):
            yield self._gather(order[start : start + self._batch_size])

    def _gather(self, index: slice | NDArray[np.intp]) -> tuple[Array, Any]:
        x = _converted(_taken(self._x, index), numpy_dtype(self._dtype))
        return x, None if self._y is None else _taken(self._y, index)


def _taken(array: Array, index: slice | NDArray[np.intp]) -> Array:
    """``array[index]``, which does not take new memory for each batch."""
    if isinstance(index, slice) or not array.flags.c_contiguous:  # np.take would copy all of a scattered array
        return array[index]
    taken = aligned_empty((len(index), *array.shape[1:]), array.dtype)
    # "clip", since "raise" would make a copy of the result; an index is a part of a permutation.
    return np.take(array, index, axis=0, out=taken, mode="clip")


def _converted(array: Array, dtype: np.dtype) -> Array:
    """The array, or a contiguous copy in another dtype."""
    if array.dtype == dtype and array.flags.c_contiguous:
        return array
    found = aligned_empty(array.shape, dtype)
    np.copyto(found, array, casting="unsafe")
    return found
