"""Images made brighter or darker, and of more or less contrast, at random."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pycnn.functional.arguments import rounded, widened
from pycnn.layers import arguments
from pycnn.layers.augmentation.random_image_layer import RandomImageLayer, bounds, pair
from pycnn.tensor import Tensor


class _RandomTone(RandomImageLayer):
    """What these layers share: a number is drawn for each image, and results are limited to a range."""

    def __init__(self, value_range: Sequence[float], seed: int | None, **kwargs: Any) -> None:
        super().__init__(seed, **kwargs)
        self.value_range = pair(value_range, "value_range")

    def drawn(self) -> tuple[float, float]:
        """The range that the numbers are drawn from."""
        raise NotImplementedError(f"{type(self).__name__} must define drawn()")

    def toned(self, images: Tensor, amount: Tensor) -> Tensor:
        """A batch of images of float32 or float64, with numbers (N, 1, 1, 1) that were drawn for them."""
        raise NotImplementedError(f"{type(self).__name__} must define toned(images, amount)")

    def change(self, images: Tensor) -> Tensor:
        """A batch of images, each with another tone."""
        wide = widened(images)
        amount = self.generator.uniform(*self.drawn(), (len(images), 1, 1, 1)).astype(wide.dtype)
        outputs = self.toned(wide, Tensor(images.backend.asarray(amount))).clip(*self.value_range)
        return rounded(outputs, images.dtype)


class RandomBrightness(_RandomTone):
    """Adds a random number to each image while training; otherwise images pass unchanged.

    Args:
        factor: range of the number in parts of the value range, (lower, upper), each in [-1, 1], or one number for
            (-factor, factor).
        value_range: the least and the greatest value of a pixel; what is less or more becomes that.
        seed: for draws of the layer's own, an integer of at least 0; by default it draws from
            :func:`pycnn.random.generator`.
        **kwargs: ``data_format``, "channels_last" (the default) or "channels_first", and as for :class:`Layer`.

    Raises:
        ValueError: for a factor or a value_range that is no such range, another seed; when called, for inputs that are
            no images.

    Source: Keras 3, keras.layers.RandomBrightness.

    >>> import numpy as np
    >>> RandomBrightness((0.2, 0.2))(np.full((1, 1, 1, 3), [0.0, 100.0, 250.0]), training=True).numpy().ravel()
    array([ 51., 151., 255.], dtype=float32)
    """

    def __init__(
        self,
        factor: float | Sequence[float],
        value_range: Sequence[float] = (0, 255),
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(value_range, seed, **kwargs)
        self.factor = bounds(factor, "factor", least=-1, most=1)

    def drawn(self) -> tuple[float, float]:
        """The factor, in values."""
        least, most = self.value_range
        lower, upper = self.factor
        return lower * (most - least), upper * (most - least)

    def toned(self, images: Tensor, amount: Tensor) -> Tensor:
        """Brighter or darker images."""
        return images + amount


class RandomContrast(_RandomTone):
    """Draws the pixels of each image away from their mean or towards it while training, each channel for itself.

    A pixel x becomes ``(x - mean) * amount + mean``, with an amount of the image between ``1 - lower`` and
    ``1 + upper``. Otherwise images pass unchanged.

    Args:
        factor: (lower, upper), each in [0, 1], the smaller one first in any case; one number stands for both.
        value_range, seed, **kwargs: as for :class:`RandomBrightness`.

    Raises:
        ValueError: as for :class:`RandomBrightness`.

    Source: Keras 3, keras.layers.RandomContrast, as its documentation has it. (In Keras 3.15 one number is ``upper``
    alone, and ``lower`` is 0.)

    >>> import numpy as np
    >>> RandomContrast((0, 0))(np.arange(3.0).reshape(1, 1, 3, 1), training=True).numpy().ravel()
    array([0., 1., 2.], dtype=float32)
    """

    def __init__(
        self,
        factor: float | Sequence[float],
        value_range: Sequence[float] = (0, 255),
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(value_range, seed, **kwargs)
        _, upper = limits = bounds(factor, "factor", least=0, most=1)
        self.factor = limits if isinstance(factor, Sequence) else (upper, upper)

    def drawn(self) -> tuple[float, float]:
        """The amounts."""
        lower, upper = self.factor
        return 1 - lower, 1 + upper

    def toned(self, images: Tensor, amount: Tensor) -> Tensor:
        """Images of more or less contrast."""
        mean = images.mean(axis=tuple(arguments.spatial_axes(2, self.data_format)), keepdims=True)
        return (images - mean) * amount + mean
