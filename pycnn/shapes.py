"""Shapes with sizes that are not known yet."""

from __future__ import annotations

#: A shape with the batch axis first; None where a size is not known yet.
Shape = tuple[int | None, ...]


def shapes_agree(a: Shape, b: Shape) -> bool:
    """Whether two shapes can be the same; None agrees with every size.

    >>> shapes_agree((None, 28, 28, 1), (50, 28, 28, 1)), shapes_agree((2, 3), (2, 3, 1))
    (True, False)
    """
    return len(a) == len(b) and all(i is None or j is None or i == j for i, j in zip(a, b))
