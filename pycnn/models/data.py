"""Arrays for training: reading and checking them, the validation split, class weights, batches."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pycnn import backend, random
from pycnn.shapes import Shape
from pycnn.structures import leaves, mapped
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


def read(values: Any, name: str) -> Any:
    """One array, or those of a list or a dictionary, in which a target or a weight may be None.

    A list is one of arrays when each of its entries has axes, as in Keras; every other is read as one array.

    Raises:
        TypeError, ValueError: as :func:`as_array`.
    """
    if isinstance(values, dict):
        if not values:
            raise ValueError(f"{name}: expected at least one array, received an empty dictionary")
        return {key: _entry(each, f"{name}[{key!r}]") for key, each in values.items()}
    if isinstance(values, list | tuple) and any(map(_has_axes, values)) and all(map(_is_entry, values)):
        return [_entry(each, f"{name}[{place}]") for place, each in enumerate(values)]
    return as_array(values, name)


def _has_axes(value: Any) -> bool:
    return getattr(value, "ndim", 0) > 0


def _is_entry(value: Any) -> bool:
    return value is None or _has_axes(value)


def _entry(value: Any, name: str) -> Array | None:
    return None if value is None else as_array(value, name)


def each_array(function: Callable[[Array], Any], arrays: Any) -> Any:
    """A function's results for the arrays of a structure, in the same structure; None stays."""
    return mapped(lambda array: None if array is None else function(array), arrays)


class Samples(NamedTuple):
    """A data set, or a batch of one.

    Attributes:
        x: an array, or a list or a dictionary of arrays, as the model's ``call`` takes them.
        y: the targets of each output, None for those that need none; None without any.
        weights: the sample weights of each output; None without any.
    """

    x: Any
    y: list[Array | None] | None = None
    weights: list[Array | None] | None = None

    @property
    def size(self) -> int:
        """How many samples these are."""
        return len(leaves(self.x)[0])

    def part(self, start: int, end: int) -> Samples:
        """The samples from ``start`` up to ``end``, not copied."""
        return Samples(*(each_array(lambda array: array[start:end], each) for each in self))


def check_lengths(x: Any, y: Any, weights: Any, name: str = "") -> None:
    """Check that there is the same number of samples in all arrays, and at least one.

    Raises:
        ValueError: when there is not.
    """
    first, *others = leaves(x)
    samples = len(first)
    for array in others:
        if len(array) != samples:
            raise ValueError(f"{name}x: expected as many samples in each input, received {samples} and {len(array)}")
    for kind, label, arrays in (("y", "label", y), ("sample_weight", "weight", weights)):
        for array in leaves(arrays):
            if array is not None and len(array) != samples:
                raise ValueError(
                    f"{name}{kind}: expected one {label} for each of the {samples} samples, received {len(array)}"
                )
    if not samples:
        raise ValueError(f"{name}x: expected at least one sample, received shape {first.shape}")


def split(samples: Samples, part: float) -> tuple[Samples, Samples | None]:
    """What to train on and what to validate with; the last ``part`` of the samples validates.

    Raises:
        ValueError: when ``part`` is outside [0, 1) or leaves one side without samples.
    """
    if not isinstance(part, int | float | np.number) or not 0 <= part < 1:
        raise ValueError(f"validation_split: expected a number in [0, 1), received {part!r}")
    if part == 0:
        return samples, None
    kept = math.floor(samples.size * (1 - part))
    if not 0 < kept < samples.size:
        raise ValueError(f"validation_split: expected samples on both sides, received {part} of {samples.size} samples")
    return samples.part(0, kept), samples.part(kept, samples.size)


def weights_of_classes(y: Array, class_weight: Mapping[int, float], output_shape: Shape) -> NDArray[np.float32]:
    """The weight of each label's class, 1 for classes that have none.

    Args:
        y: class numbers, with or without a last axis of size 1, or one-hot labels.
        class_weight: weights by class number.
        output_shape: of the model; labels of as many axes are one-hot unless their last axis has size 1.

    Returns:
        One weight for each label.

    >>> weights_of_classes(np.array([0, 1, 2]), {1: 5.0}, (None, 3)).tolist()
    [1.0, 5.0, 1.0]
    >>> weights_of_classes(np.array([[0, 1], [1, 0]]), {1: 5.0}, (None, 2)).tolist()
    [5.0, 1.0]
    """
    if y.ndim > 1 and y.ndim >= len(output_shape):
        y = y[..., 0] if y.shape[-1] == 1 else y.argmax(axis=-1)
    classes, places = np.unique(np.round(y).astype(np.int64), return_inverse=True)
    by_class = np.array([class_weight.get(int(each), 1.0) for each in classes], np.float32)
    return by_class[places].reshape(y.shape)


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
        samples: the arrays.
        batch_size: samples per batch; the last may have fewer.
        dtype: of the inputs in a batch.
    """

    #: Whether the batches can be gone through only once.
    is_spent_by_use = False

    def __init__(self, samples: Samples, batch_size: int, dtype: str) -> None:
        self._samples = samples
        self._batch_size, self._dtype = batch_size, numpy_dtype(dtype)

    @property
    def steps(self) -> int:
        """How many batches there are: at least one, which is empty when there are no samples."""
        return max(1, math.ceil(self._samples.size / self._batch_size))

    def go_through(self, shuffle: bool | str) -> Iterator[Samples]:
        """All batches: in the order of the samples, in a new random one, or with "batch" in one within each batch."""
        size = self._samples.size
        order = random.generator().permutation(size) if shuffle and shuffle != "batch" else None
        for start in range(0, max(1, size), self._batch_size):
            end = min(start + self._batch_size, size)
            if order is not None:
                yield self._gather(order[start:end])
            elif shuffle == "batch":
                yield self._gather(start + random.generator().permutation(end - start))
            else:
                yield self._gather(slice(start, end))

    def on_epoch_begin(self) -> None:
        """Arrays stay as they are."""

    def on_epoch_end(self) -> None:
        """Arrays stay as they are."""

    def _gather(self, index: slice | NDArray[np.intp]) -> Samples:
        x, y, weights = self._samples
        return Samples(
            each_array(lambda array: converted(_taken(array, index), self._dtype), x),
            None if y is None else [None if array is None else _taken(array, index) for array in y],
            None if weights is None else [None if array is None else _taken(array, index) for array in weights],
        )


def _taken(array: Array, index: slice | NDArray[np.intp]) -> Array:
    """``array[index]``, which does not take new memory for each batch."""
    if isinstance(index, slice) or not array.flags.c_contiguous:  # np.take would copy all of a scattered array
        return array[index]
    taken = aligned_empty((len(index), *array.shape[1:]), array.dtype)
    # "clip", since "raise" would make a copy of the result; an index is a part of a permutation.
    return np.take(array, index, axis=0, out=taken, mode="clip")


def converted(array: Array, dtype: np.dtype) -> Array:
    """The array, or a contiguous copy in another dtype."""
    if array.dtype == dtype and array.flags.c_contiguous:
        return array
    found = aligned_empty(array.shape, dtype)
    np.copyto(found, array, casting="unsafe")
    return found
