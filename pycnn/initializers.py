"""Starting values of weights, by Keras' names and formulas.

An initializer is called with a shape and a dtype and returns an array. Random ones draw from
:func:`pycnn.random.generator`, or, when given a seed, the same values at every call.

Sources: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks" (2010);
He et al., "Delving Deep into Rectifiers" (2015); LeCun et al., "Efficient BackProp" (1998); Keras 3,
keras.initializers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pycnn import random
from pycnn.configuration import Configurable
from pycnn.naming import from_description, nearest

InitializerFunction = Callable[..., Any]

#: Standard deviation of a unit normal distribution cut off at two standard deviations.
_TRUNCATED_STDDEV = 0.87962566103423978


def compute_fans(shape: Sequence[int]) -> tuple[int, int]:
    """How many inputs and outputs one unit of a weight has: (fan in, fan out).

    A kernel (height, width, in, out) has ``height * width * in`` inputs and ``height * width * out`` outputs.

    >>> compute_fans((3, 3, 32, 64))
    (288, 576)
    """
    if len(shape) < 2:
        size = math.prod(shape)
        return size, size
    window = math.prod(shape[:-2])
    return shape[-2] * window, shape[-1] * window


class Initializer(Configurable):
    """Base class: called with (shape, dtype), returns an array."""

    def __call__(self, shape: Sequence[int], dtype: DTypeLike | None = None) -> NDArray[Any]:
        """Values of the given shape and dtype (float32 by default)."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__(shape, dtype)")


class Constant(Initializer):
    """Every element is ``value``."""

    def __init__(self, value: float = 0.0) -> None:
        self.value = value

    def __call__(self, shape: Sequence[int], dtype: DTypeLike | None = None) -> NDArray[Any]:
        """An array filled with the value."""
        return np.full(shape, self.value, dtype=dtype or np.float32)


class Zeros(Constant):
    """Zeros."""

    def __init__(self) -> None:
        super().__init__(0.0)


class Ones(Constant):
    """Ones."""

    def __init__(self) -> None:
        super().__init__(1.0)


class _Random(Initializer):
    """Draws from the library's generator, or from a new one of its seed at each call."""

    def __init__(self, seed: int | None = None) -> None:
        self.seed = seed

    def _generator(self) -> np.random.Generator:
        return random.generator() if self.seed is None else np.random.default_rng(self.seed)

    def _uniform(self, shape: Sequence[int], low: float, high: float, dtype: DTypeLike | None) -> NDArray[Any]:
        return self._generator().uniform(low, high, shape).astype(dtype or np.float32)

    def _normal(self, shape: Sequence[int], mean: float, stddev: float, dtype: DTypeLike | None) -> NDArray[Any]:
        return self._generator().normal(mean, stddev, shape).astype(dtype or np.float32)

    def _truncated_normal(
        self, shape: Sequence[int], mean: float, stddev: float, dtype: DTypeLike | None
    ) -> NDArray[Any]:
        generator = self._generator()
        values = generator.standard_normal(shape)
        outside = np.abs(values) > 2
        while outside.any():
            values[outside] = generator.standard_normal(int(outside.sum()))
            outside = np.abs(values) > 2
        return (mean + stddev * values).astype(dtype or np.float32)


class RandomUniform(_Random):
    """Uniform in [minval, maxval)."""

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: int | None = None) -> None:
        super().__init__(seed)
        self.minval, self.maxval = minval, maxval

    def __call__(self, shape: Sequence[int], dtype: DTypeLike | None = None) -> NDArray[Any]:
        """Uniform values."""
        return self._uniform(shape, self.minval, self.maxval, dtype)


class RandomNormal(_Random):
    """Normal with a mean and a standard deviation."""

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None) -> None:
        super().__init__(seed)
        self.mean, self.stddev = mean, stddev

    def __call__(self, shape: Sequence[int], dtype: DTypeLike | None = None) -> NDArray[Any]:
        """Normal values."""
        return self._normal(shape, self.mean, self.stddev, dtype)


class TruncatedNormal(RandomNormal):
    """Normal, with values beyond two standard deviations drawn again."""

    def __call__(self, shape: Sequence[int], dtype: DTypeLike | None = None) -> NDArray[Any]:
        """Normal values within two standard deviations of the mean."""
        return self._truncated_normal(shape, self.mean, self.stddev, dtype)


class VarianceScaling(_Random):
    """Mean 0 and variance ``scale / n``, with n the fan in, the fan out or their average.

    Args:
        scale: positive.
        mode: "fan_in", "fan_out" or "fan_avg".
        distribution: "truncated_normal", "untruncated_normal" or "uniform" (in
            ``[-sqrt(3 scale / n), sqrt(3 scale / n))``).
        seed: for the same values at every call.

    Raises:
        ValueError: for a scale that is not positive, or an unknown mode or distribution.

    >>> values = VarianceScaling(scale=1.0, mode="fan_avg", distribution="uniform")((100, 200))
    >>> bool(abs(values).max() <= (6 / 300) ** 0.5)
    True
    """

    _MODES = ("fan_in", "fan_out", "fan_avg")
    _DISTRIBUTIONS = ("truncated_normal", "untruncated_normal", "uniform")

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: int | None = None,
    ) -> None:
        super().__init__(seed)
        if not scale > 0:
            raise ValueError(f"scale: expected a positive number, received {scale!r}")
        for value, known in ((mode, self._MODES), (distribution, self._DISTRIBUTIONS)):
            if value not in known:
                raise ValueError(f"expected one of {known}, received {value!r}.{nearest(value, known)}")
        self.scale, self.mode, self.distribution = scale, mode, distribution

    def __call__(self, shape: Sequence[int], dtype: DTypeLike | None = None) -> NDArray[Any]:
        """Values with the variance that the shape's fans give."""
        fan_in, fan_out = compute_fans(shape)
        fans = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}
        variance = self.scale / max(1.0, fans[self.mode])
        if self.distribution == "uniform":
            limit = math.sqrt(3 * variance)
            return self._uniform(shape, -limit, limit, dtype)
        stddev = math.sqrt(variance)
        if self.distribution == "truncated_normal":
            return self._truncated_normal(shape, 0.0, stddev / _TRUNCATED_STDDEV, dtype)
        return self._normal(shape, 0.0, stddev, dtype)


class GlorotUniform(VarianceScaling):
    """Uniform within ``sqrt(6 / (fan in + fan out))``: the default of layers with weights."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(1.0, "fan_avg", "uniform", seed)


class GlorotNormal(VarianceScaling):
    """Truncated normal of standard deviation ``sqrt(2 / (fan in + fan out))``."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(1.0, "fan_avg", "truncated_normal", seed)


class HeUniform(VarianceScaling):
    """Uniform within ``sqrt(6 / fan in)``."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(2.0, "fan_in", "uniform", seed)


class HeNormal(VarianceScaling):
    """Truncated normal of standard deviation ``sqrt(2 / fan in)``."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(2.0, "fan_in", "truncated_normal", seed)


class LecunUniform(VarianceScaling):
    """Uniform within ``sqrt(3 / fan in)``."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(1.0, "fan_in", "uniform", seed)


class LecunNormal(VarianceScaling):
    """Truncated normal of standard deviation ``sqrt(1 / fan in)``."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(1.0, "fan_in", "truncated_normal", seed)


_CLASSES: dict[str, type[Initializer]] = {
    "constant": Constant,
    "zeros": Zeros,
    "ones": Ones,
    "random_uniform": RandomUniform,
    "random_normal": RandomNormal,
    "truncated_normal": TruncatedNormal,
    "variance_scaling": VarianceScaling,
    "glorot_uniform": GlorotUniform,
    "glorot_normal": GlorotNormal,
    "he_uniform": HeUniform,
    "he_normal": HeNormal,
    "lecun_uniform": LecunUniform,
    "lecun_normal": LecunNormal,
}
_KNOWN: dict[str, type[Initializer]] = {
    **_CLASSES,
    **{kind.__name__: kind for kind in _CLASSES.values()},
    "zero": Zeros,
    "one": Ones,
    "uniform": RandomUniform,
    "normal": RandomNormal,
}


def get(identifier: Any) -> InitializerFunction:
    """The initializer for a name ("he_normal" or "HeNormal"), a class or a description; a function as it is.

    An array stands for itself: a weight of its shape begins with its values.

    Raises:
        ValueError: for an unknown name (the message names the nearest).

    >>> get("zeros")((2,)).tolist()
    [0.0, 0.0]
    """
    identifier = from_description(identifier)
    if isinstance(identifier, str):
        if identifier not in _KNOWN:
            raise ValueError(
                f"unknown initializer {identifier!r}.{nearest(identifier, _KNOWN)} Known: {', '.join(_CLASSES)}"
            )
        return _KNOWN[identifier]()
    if isinstance(identifier, type):
        identifier = identifier()
    if callable(identifier):
        return identifier
    if isinstance(identifier, np.ndarray):
        return _given_values(identifier)
    raise ValueError(f"initializer: expected a name, a function or an array, received {identifier!r}")


def _given_values(values: NDArray[Any]) -> InitializerFunction:
    def initialize(shape: Sequence[int], dtype: DTypeLike | None = None) -> NDArray[Any]:
        if tuple(shape) != values.shape:
            raise ValueError(f"initializer: expected an array of shape {tuple(shape)}, received {values.shape}")
        return values.astype(dtype or np.float32)

    return initialize
