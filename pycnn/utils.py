"""Small things that Keras keeps in keras.utils."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pycnn import random
from pycnn.layers import auto_name
from pycnn.layers.symbolic import KerasTensor


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
