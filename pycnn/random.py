"""The one random state of the library: initial weights, shuffling and dropout draw from it."""

from __future__ import annotations

import numpy as np

_generator = np.random.default_rng()


def generator() -> np.random.Generator:
    """The generator that everything in pycnn draws from."""
    return _generator


def seed(n: int) -> None:
    """Begin the sequence that belongs to ``n``, an integer of 0 or more.

    >>> seed(1)
    >>> first = generator().random()
    >>> seed(1)
    >>> first == generator().random()
    True
    """
    global _generator
    if not isinstance(n, int | np.integer) or isinstance(n, bool) or n < 0:
        raise ValueError(f"a seed must be an integer of 0 or more; received {n!r}")
    _generator = np.random.default_rng(int(n))


def continue_with(state: np.random.Generator) -> None:
    """Draw from this generator from now on.

    >>> continue_with(np.random.default_rng(1))
    >>> seed(1)
    """
    global _generator
    if not isinstance(state, np.random.Generator):
        raise TypeError(f"expected a numpy.random.Generator; received {state!r}")
    _generator = state
