"""Dropout, of elements and of whole channels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from pycnn import functional as F
from pycnn import random
from pycnn.functional.arguments import rounded, widened
from pycnn.functional.dropout import AlphaDropout as AlphaDropoutFunction
from pycnn.functional.dropout import kept_scale
from pycnn.layers import arguments
from pycnn.layers.layer import Layer
from pycnn.shapes import Shape
from pycnn.tensor import Tensor


class Dropout(Layer):
    """Sets a random part of its inputs to zero while training; the rest grows by ``1 / (1 - rate)``.

    Outside training the inputs pass unchanged, so the expected value is the same in both.

    Args:
        rate: the part to drop, in [0, 1].
        noise_shape: shape of the random mask, each size 1 or the input's, None for a size taken from the input; a size
            of 1 drops or keeps that axis as a whole. By default every element is drawn for itself.
        seed: for draws of the layer's own, an integer of at least 0; by default it draws from
            :func:`pycnn.random.generator`.
        **kwargs: as for :class:`Layer`.

    Raises:
        ValueError: for a rate outside [0, 1], sizes that are neither positive integers nor None, another seed; when
            called, for inputs that the noise_shape does not fit.

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
        self.noise_shape = None if noise_shape is None else _mask_sizes(noise_shape)
        self.seed = arguments.seed(seed)
        self._generator = None if self.seed is None else np.random.default_rng(self.seed)
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
        if any(want not in (None, 1, have) for want, have in zip(self.noise_shape, inputs.shape)):
            raise ValueError(
                f"{self}: expected sizes of noise_shape that are 1, None or those of the inputs, {inputs.shape}, "
                f"received {self.noise_shape}"
            )
        return tuple(have if want is None else want for want, have in zip(self.noise_shape, inputs.shape))


class AlphaDropout(Dropout):
    """Dropout for what SELU gives: numbers with mean 0 and variance 1 keep both while training.

    A dropped element becomes the limit of SELU for negative numbers; then all are scaled and shifted.

    Args:
        rate: the part to drop, at least 0 and below 1.
        noise_shape, seed, **kwargs: as for :class:`Dropout`.

    Raises:
        ValueError: as for :class:`Dropout`, and for a rate of 1, with which nothing is left. (Keras takes it, and fails
            when it divides by 0.)

    Source: Klambauer, Unterthiner, Mayr and Hochreiter, "Self-Normalizing Neural Networks" (2017), section 2; Keras 3,
    keras.layers.AlphaDropout.

    >>> import numpy as np
    >>> layer = AlphaDropout(0.5, seed=0)
    >>> len(set(layer(np.zeros((1, 100)), training=True).numpy().ravel().tolist()))
    2
    """

    def __init__(
        self,
        rate: float,
        noise_shape: Iterable[int | None] | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(arguments.number(rate, "rate", least=0, below=1), noise_shape, seed, **kwargs)

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """``inputs``, with a part dropped and all of them scaled and shifted while training."""
        if not training or self.rate == 0:
            return inputs
        settings = {"p": self.rate, "mask_shape": self._mask_shape(inputs), "generator": self._generator}
        outputs: Tensor = rounded(AlphaDropoutFunction.apply(widened(inputs), **settings), inputs.dtype)
        return outputs


def _mask_sizes(noise_shape: Any) -> tuple[int | None, ...]:
    """Positive integers, and None for sizes that are the input's.

    Raises:
        ValueError: anything else.
    """
    try:
        return tuple(None if size is None else arguments.positive(size, "noise_shape") for size in noise_shape)
    except (TypeError, ValueError):
        raise ValueError(
            f"noise_shape: expected a tuple of positive integers or None, received {noise_shape!r}"
        ) from None


class _SpatialDropout(Dropout):
    """Dropout of whole channels in any number of dimensions."""

    _RANK: int
    #: The mask follows from the data format; and Keras' class takes no argument ``trainable``.
    _NOT_CONFIGURED = (*Dropout._NOT_CONFIGURED, "noise_shape", "trainable")

    def __init__(
        self,
        rate: float,
        data_format: str | None = None,
        seed: int | None = None,
        name: str | None = None,
        dtype: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(rate, seed=seed, name=name, dtype=dtype, **kwargs)
        self.data_format = arguments.data_format(data_format)
        kept: list[int | None] = [1] * (self._RANK + 2)
        kept[0] = kept[arguments.channel_axis(self._RANK, self.data_format)] = None
        self.noise_shape = tuple(kept)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """``input_shape``.

        Raises:
            ValueError: for another number of axes.
        """
        arguments.check_rank(self, self._RANK, self.data_format, input_shape)
        return input_shape


class SpatialDropout1D(_SpatialDropout):
    """Dropout of whole channels of signals (batch, steps, channels); otherwise as :class:`SpatialDropout2D`.

    Source: Keras 3, keras.layers.SpatialDropout1D.

    >>> import numpy as np
    >>> SpatialDropout1D(0.5)(np.ones((2, 9, 3)), training=True).shape
    (2, 9, 3)
    """

    _RANK = 1
    _NOT_CONFIGURED = (*_SpatialDropout._NOT_CONFIGURED, "data_format")

    def __init__(
        self, rate: float, seed: int | None = None, name: str | None = None, dtype: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(rate, None, seed, name, dtype, **kwargs)


class SpatialDropout2D(_SpatialDropout):
    """Sets whole channels of random samples to zero while training; the rest grows by ``1 / (1 - rate)``.

    Neighbouring pixels of a map tell nearly the same: dropping single ones would hide nothing.

    Args:
        rate: the part to drop, in [0, 1].
        data_format: "channels_last" (the default) or "channels_first".
        seed, name, dtype, **kwargs: as for :class:`Dropout`.

    Raises:
        ValueError: for a rate outside [0, 1]; when called, for inputs with another number of axes.

    Source: Tompson et al., "Efficient Object Localization Using Convolutional Networks" (2015); Keras 3,
    keras.layers.SpatialDropout2D.

    >>> import numpy as np
    >>> channels = SpatialDropout2D(0.5, seed=0)(np.ones((1, 4, 4, 100)), training=True).numpy().sum(axis=(1, 2))
    >>> sorted(set(channels.ravel().tolist()))
    [0.0, 32.0]
    """

    _RANK = 2


class SpatialDropout3D(_SpatialDropout):
    """Dropout of whole channels of volumes; otherwise as :class:`SpatialDropout2D`.

    Source: Keras 3, keras.layers.SpatialDropout3D.

    >>> import numpy as np
    >>> SpatialDropout3D(0.5)(np.ones((2, 3, 3, 3, 4)), training=True).shape
    (2, 3, 3, 3, 4)
    """

    _RANK = 3
