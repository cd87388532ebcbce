"""Shapes with sizes that are not known yet."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

#: A shape with the batch axis first; None where a size is not known yet.
Shape = tuple[int | None, ...]


def shapes_agree(a: Shape, b: Shape) -> bool:
    """Whether two shapes can be the same; None agrees with every size.

    >>> shapes_agree((None, 28, 28, 1), (50, 28, 28, 1)), shapes_agree((2, 3), (2, 3, 1))
    (True, False)
    """
    return len(a) == len(b) and all(i is None or j is None or i == j for i, j in zip(a, b))


def is_shape(value: Any) -> bool:
    """Whether a value is one shape, and no list, tuple or dictionary of shapes.

    >>> is_shape((None, 3)), is_shape([(None, 3), (None, 4)]), is_shape(((None, 3),))
    (True, False, False)
    """
    return isinstance(value, tuple) and all(size is None or isinstance(size, int) for size in value)


def one_or_more_axes(value: int | Iterable[int] | None, name: str = "axis") -> int | tuple[int, ...] | None:
    """``value`` as an axis, several of them, or None, which stands for all axes.

    Raises:
        ValueError: when it is anything else.

    >>> one_or_more_axes([0, -1]), one_or_more_axes(2)
    ((0, -1), 2)
    """
    if value is None:
        return None
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        pass
    try:
        found = tuple(operator.index(axis) for axis in value)  # type: ignore[union-attr]
    except TypeError:
        found = ()
    if not found:
        raise ValueError(f"{name}: expected an integer, several of them, or None for all axes, received {value!r}")
    return found


def axes_within(value: Any, shape: tuple[int, ...], name: str = "axis") -> tuple[int, ...]:
    """The axes of ``shape`` that :func:`one_or_more_axes` names, counted from 0.

    Raises:
        ValueError: when it names anything else, an axis that the shape does not have, or an axis twice.

    >>> axes_within([0, -1], (5, 6, 7)), axes_within(None, (5, 6, 7))
    ((0, 2), (0, 1, 2))
    """
    read, rank = one_or_more_axes(value, name), len(shape)
    if read is None:
        return tuple(range(rank))
    given = read if isinstance(read, tuple) else (read,)
    found = tuple(axis % rank for axis in given if -rank <= axis < rank)
    if len(set(found)) < len(given):
        raise ValueError(
            f"{name}: expected axes from {-rank} to {rank - 1}, each once, for the shape {shape}, received {value!r}"
        )
    return found


def shape_of_weights(weights: tuple[int, ...], values: tuple[int, ...]) -> tuple[int, ...]:
    """The shape in which weights spread over values: their axes are the first ones of the values, or of size 1.

    Raises:
        ValueError: when they are not.

    >>> shape_of_weights((8,), (8, 5, 5)), shape_of_weights((8, 1), (8,))
    ((8, 1, 1), (8,))
    """
    kept = weights[: len(values)]
    fits = all(weight in (1, size) for weight, size in zip(kept, values))
    if not kept or not fits or any(size != 1 for size in weights[len(values) :]):
        raise ValueError(
            f"sample_weight: expected weights of shape {values[:1]}, or with more of the axes of the values that they "
            f"weigh, whose shape is {values}; received {weights}"
        )
    return (*kept, *(1,) * (len(values) - len(kept)))
