"""Dropout."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from pycnn import functional as F
from pycnn import random
from pycnn.functional.dropout import kept_scale
from pycnn.layers.layer import Layer
from pycnn.shapes import Shape
from pycnn.tensor import Tensor


class Dropout(Layer):
    """Sets a random part of its inputs to zero while training; the rest grows by ``1 / (1 - rate)``.

    Outside training the inputs pass unchanged, so the expected value is the same in both.

    Args:
        rate: the part to drop, in [0, 1].
        noise_shape: shape of the random mask, None for a size taken from the input; a size of 1 drops or keeps
            that axis as a whole. By default every element is drawn for itself.
        seed: for draws of the layer's own; by default it draws from :func:`pycnn.random.generator`.
        **kwargs: as for :class:`Layer`.

    Raises:
        ValueError: for a rate outside [0, 1].

    Source: Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", JMLR 15
    (2014); Keras 3, keras.layers.Dropout.

    >>> import numpy as np
    >>> layer = Dropout(0.5, seed=0)
    >>> sorted(set(layer(np.ones((1, 100)), training=True).numpy().ravel().tolist()))
    [0.0, 2.0]
    >>> bool((layer(np.ones((1, 100))).numpy() == 1).all())
    True
    """

    def __init__(
        self,
        rate: float,
        noise_shape: Iterable[int | None] | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not isinstance(rate, int | float | np.integer | np.floating) or not 0 <= rate <= 1:
            raise ValueError(f"{self}: expected a rate in [0, 1], received {rate!r}")
        self.rate = float(rate)
        self.noise_shape = None if noise_shape is None else tuple(noise_shape)
        self.seed = seed
        self._generator = None if seed is None else np.random.default_rng(seed)
        self.built = True

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """``inputs``, with a part dropped while training."""
        if not training or self.rate == 0:
            return inputs
        if self._generator is None and self.noise_shape is None:
            return F.dropout(inputs, self.rate, training=True)
        generator = self._generator or random.generator()
        scale = kept_scale(generator, self._mask_shape(inputs), inputs.dtype, self.rate)
        return inputs * Tensor(inputs.backend.asarray(scale))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """``input_shape``."""
        return input_shape

    def _mask_shape(self, inputs: Tensor) -> tuple[int, ...]:
        if self.noise_shape is None:
            return inputs.shape
        if len(self.noise_shape) != inputs.ndim:
            raise ValueError(
                f"{self}: expected a noise_shape of {inputs.ndim} axes for inputs of shape {inputs.shape}, "
                f"received {self.noise_shape}"
            )
        return tuple(have if want is None else want for want, have in zip(self.noise_shape, inputs.shape))
