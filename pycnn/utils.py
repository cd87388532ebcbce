"""Small things that Keras keeps in keras.utils."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pycnn import random
from pycnn.layers import auto_name
from pycnn.layers.symbolic import KerasTensor
from pycnn.models.data import count


def set_random_seed(seed: int) -> None:
    """Make a run repeat bit for bit, whatever the number of threads.

    Initial weights, shuffling and dropout all draw from :func:`pycnn.random.generator`, which this sets.

    Raises:
        ValueError: when the seed is not an integer of at least 0.

    >>> from pycnn import initializers
    >>> set_random_seed(7)
    >>> first = initializers.get("glorot_uniform")((2, 3))
    >>> set_random_seed(7)
    >>> bool((first == initializers.get("glorot_uniform")((2, 3))).all())
    True
    """
    random.seed(seed)


def clear_session() -> None:
    """Begin the names of layers and models anew: the next Conv2D is ``conv2d`` again."""
    auto_name.reset()


def to_categorical(x: ArrayLike, num_classes: int | None = None) -> NDArray[np.float32]:
    """Class numbers as one-hot rows.

    Args:
        x: integers 0 .. num_classes - 1; a last axis of size 1 is dropped.
        num_classes: by default one more than the largest.

    Returns:
        Zeros and ones, float32, shape (*x.shape, num_classes).

    Raises:
        ValueError: when a label is negative, no integer, or not below ``num_classes``.

    >>> to_categorical([0, 2]).tolist()
    [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    labels = np.asarray(x)
    if labels.dtype.kind not in "biu":
        whole = labels.dtype.kind == "f" and bool((labels == np.floor(labels)).all())
        if not whole:
            raise ValueError(f"to_categorical: expected integer labels, received {labels.dtype} values")
        labels = labels.astype(np.int64)
    if labels.ndim > 1 and labels.shape[-1] == 1:
        labels = labels[..., 0]
    least, most = (int(labels.min()), int(labels.max())) if labels.size else (0, -1)
    classes = most + 1 if num_classes is None else num_classes
    if least < 0 or most >= classes:
        raise ValueError(f"to_categorical: expected labels in 0 .. {classes - 1}, received {least} to {most}")
    categorical = np.zeros((*labels.shape, classes), dtype=np.float32)
    np.put_along_axis(categorical, labels[..., np.newaxis].astype(np.int64), 1.0, axis=-1)
    return categorical


def get_source_inputs(tensor: KerasTensor) -> list[KerasTensor]:
    """The inputs that a symbolic tensor is computed from, in the order in which a walk back comes upon them.

    Args:
        tensor: of ``pycnn.layers.Input``, or the result of a layer.

    Returns:
        Tensors of ``Input``, each once; the tensor itself where it is one.

    Raises:
        TypeError: for anything else than a symbolic tensor.

    Source: Keras 3, keras.utils.get_source_inputs.

    >>> from pycnn.layers import Add, Dense, Input
    >>> a, b = Input((2,)), Input((3,))
    >>> get_source_inputs(Add()([Dense(4)(a), Dense(4)(b)])) == [a, b]
    True
    """
    if not isinstance(tensor, KerasTensor):
        raise TypeError(f"get_source_inputs: expected a symbolic tensor, received {tensor!r}")
    sources, met, waiting = [], {tensor}, [tensor]
    while waiting:
        found = waiting.pop()
        below = [] if found.node is None else found.node.inputs
        if not below:
            sources.append(found)
        new = [each for each in reversed(below) if each not in met]
        met.update(new)
        waiting += new
    return sources


class PyDataset:
    """Base class of a data set that makes its batches when they are asked for, for example from files.

    A subclass defines ``__getitem__(index)``, which gives a batch, (x,), (x, y) or (x, y, sample_weight), and
    ``__len__()``, how many there are. A data set without end has the property ``num_batches`` with the value None
    instead, and needs ``steps_per_epoch``. ``on_epoch_begin()`` and ``on_epoch_end()`` are called in each epoch of
    training, for example to shuffle or to change the samples.

    Args:
        workers: how many threads make batches. With more than one, batches are made before they are asked for, and
            ``__getitem__`` is called by several threads at the same time; they come in their order.
        use_multiprocessing: False only: there are no processes that make batches.
        max_queue_size: how many batches the threads make ahead, at most.

    Raises:
        ValueError: for anything else.

    Source: Keras 3, keras.utils.PyDataset, also called keras.utils.Sequence.

    >>> class Halves(PyDataset):
    ...     def __init__(self, x, y, **kwargs):
    ...         super().__init__(**kwargs)
    ...         self.x, self.y = x, y
    ...     def __len__(self):
    ...         return 2
    ...     def __getitem__(self, index):
    ...         half = len(self.x) // 2
    ...         part = slice(index * half, (index + 1) * half)
    ...         return self.x[part], self.y[part]
    >>> [batch[1].tolist() for batch in Halves(np.ones((4, 3)), np.arange(4))]
    [[0, 1], [2, 3]]
    """

    #: What a subclass has whose constructor has not called this one.
    workers, max_queue_size = 1, 10

    def __init__(self, workers: int = 1, use_multiprocessing: bool = False, max_queue_size: int = 10) -> None:
        if use_multiprocessing:
            raise ValueError("use_multiprocessing: expected False, since threads make the batches; received True")
        self.workers = count(workers, "workers", 0)
        self.max_queue_size = count(max_queue_size, "max_queue_size", 1)

    def __getitem__(self, index: int) -> Any:
        """The batch of a number, counted from 0."""
        raise NotImplementedError(f"{type(self).__name__} must define __getitem__(index)")

    def __iter__(self) -> Iterator[Any]:
        """All batches."""
        steps = self.num_batches
        for index in itertools.count() if steps is None else range(steps):
            yield self[index]

    @property
    def num_batches(self) -> int | None:
        """How many batches there are; None for no end of them."""
        if not hasattr(self, "__len__"):
            raise NotImplementedError(f"{type(self).__name__} must define __len__() or the property num_batches")
        return len(self)

    def on_epoch_begin(self) -> None:
        """Called before the first batch of an epoch of training."""

    def on_epoch_end(self) -> None:
        """Called after the last batch of an epoch of training."""


#: The name that it had in Keras 2.
Sequence = PyDataset
