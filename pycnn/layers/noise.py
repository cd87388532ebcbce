"""Noise on the inputs while training."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pycnn import random
from pycnn.layers import arguments
from pycnn.layers.layer import Layer
from pycnn.shapes import Shape
from pycnn.tensor import Tensor
from pycnn_kernels.memory import aligned_empty


class _Noise(Layer):
    """What layers with noise of a normal distribution share."""

    def __init__(self, seed: int | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed = arguments.seed(seed)
        self._generator = None if self.seed is None else np.random.default_rng(self.seed)
        self.built = True

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """``input_shape``."""
        return input_shape

    def _normal(self, inputs: Tensor, mean: float, deviation: float) -> Tensor:
        """Random numbers for the inputs, of their dtype.

        Drawn on the CPU for every backend and for all but float64 in float32, so that the same seed gives the same
        noise everywhere.
        """
        kind: type[np.float32 | np.float64] = np.float64 if inputs.dtype == np.float64 else np.float32
        noise = aligned_empty(inputs.shape, np.dtype(kind))
        (self._generator or random.generator()).standard_normal(out=noise, dtype=kind)
        noise *= kind(deviation)
        noise += kind(mean)
        return Tensor(inputs.backend.asarray(noise.astype(inputs.dtype, copy=False)))


class GaussianNoise(_Noise):
    """Adds noise of a normal distribution around 0 while training; otherwise the inputs pass unchanged.

    Args:
        stddev: the noise's standard deviation, in [0, 1].
        seed: for draws of the layer's own, an integer of at least 0; by default it draws from
            :func:`pycnn.random.generator`.
        **kwargs: as for :class:`Layer`.

    Raises:
        ValueError: for a deviation outside [0, 1], another seed.

    Source: Keras 3, keras.layers.GaussianNoise.

    >>> import numpy as np
    >>> layer = GaussianNoise(0.1, seed=0)
    >>> round(float(layer(np.zeros((100, 100)), training=True).numpy().std()), 2)
    0.1
    """

    def __init__(self, stddev: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(seed, **kwargs)
        self.stddev = arguments.number(stddev, "stddev", least=0, most=1)

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """``inputs``, with noise while training."""
        return inputs + self._normal(inputs, 0, self.stddev) if training and self.stddev else inputs


class GaussianDropout(_Noise):
    """Multiplies with noise of a normal distribution around 1 while training; otherwise the inputs pass unchanged.

    The noise's standard deviation is ``sqrt(rate / (1 - rate))``, that of what :class:`Dropout` multiplies with.

    Args:
        rate: as of :class:`Dropout`, at least 0 and below 1.
        seed: as for :class:`GaussianNoise`.
        **kwargs: as for :class:`Layer`.

    Raises:
        ValueError: for another rate, another seed. (Keras takes a rate of 1, and fails when it divides by 0.)

    Source: Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", JMLR 15 (2014),
    section 10; Keras 3, keras.layers.GaussianDropout.

    >>> import numpy as np
    >>> layer = GaussianDropout(0.5, seed=0)
    >>> round(float(layer(np.ones((100, 100)), training=True).numpy().std()), 1)
    1.0
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(seed, **kwargs)
        self.rate = arguments.number(rate, "rate", least=0, below=1)

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """``inputs``, times noise while training."""
        deviation = math.sqrt(self.rate / (1 - self.rate))
        return inputs * self._normal(inputs, 1, deviation) if training and self.rate else inputs
