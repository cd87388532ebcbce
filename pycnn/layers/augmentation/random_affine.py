"""Images rotated, moved and zoomed at random."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pycnn.layers import arguments
from pycnn.layers.augmentation.affine import FILL_MODES, affine_transform
from pycnn.layers.augmentation.random_image_layer import RandomImageLayer, bounds
from pycnn.tensor import Tensor

#: A range of random numbers: (lower, upper), or one number for a range around 0.
Factor = float | Sequence[float]


class _RandomAffine(RandomImageLayer):
    """What these layers share: a matrix is drawn for each image, and tells where its pixels are taken from."""

    def __init__(
        self,
        fill_mode: str,
        interpolation: str,
        seed: int | None,
        fill_value: float,
        data_format: str | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed, data_format, **kwargs)
        self.fill_mode: str = arguments.choice(fill_mode, ("constant", *FILL_MODES), "fill_mode")
        self.interpolation: str = arguments.choice(interpolation, ("nearest", "bilinear"), "interpolation")
        self.fill_value = arguments.number(fill_value, "fill_value")

    def matrices(self, N: int, H: int, W: int) -> np.ndarray:
        """A random matrix (2, 3) for each of N images of H x W pixels; see :func:`affine_transform`."""
        raise NotImplementedError(f"{type(self).__name__} must define matrices(N, H, W)")

    def change(self, images: Tensor) -> Tensor:
        """A batch of images, each by a map of its own."""
        rows, columns = arguments.spatial_axes(2, self.data_format)
        matrices = self.matrices(len(images), images.shape[rows], images.shape[columns])
        settings = self.interpolation, self.fill_mode, self.fill_value, self.data_format
        return affine_transform(images, matrices, *settings)

    def _drawn(self, N: int, limits: tuple[float, float]) -> np.ndarray:
        return self.generator.uniform(*limits, N)


def _as_given(factor: Factor | None) -> float | tuple[float, ...] | None:
    """A factor to be kept, one that cannot be changed."""
    return tuple(factor) if isinstance(factor, Sequence) else factor


def _around_the_centre(matrices: np.ndarray, H: int, W: int) -> np.ndarray:
    """Linear maps (N, 2, 2) as affine ones (N, 2, 3) that leave the middle of the image where it is."""
    centre = np.array([(W - 1) / 2, (H - 1) / 2])
    return np.concatenate([matrices, (centre - matrices @ centre)[..., None]], axis=2)


class RandomRotation(_RandomAffine):
    """Rotates each image around its middle by a random angle while training; otherwise images pass unchanged.

    Args:
        factor: range of the angle in turns, (lower, upper), each in [-1, 1], or one number for (-factor, factor).
            Positive angles turn counter-clockwise.
        fill_mode: what there is outside of an image: "reflect" (d c b a | a b c d | d c b a), "wrap" (a b c d | a b c d
            | a b c d), "nearest" (a a a a | a b c d | d d d d) or "constant", the fill_value.
        interpolation: "bilinear", weighted sums of the four pixels around a place, or "nearest", one of them.
        seed: for draws of the layer's own, an integer of at least 0; by default it draws from
            :func:`pycnn.random.generator`.
        fill_value: of the fill_mode "constant".
        data_format: "channels_last" (the default) or "channels_first".
        **kwargs: as for :class:`Layer`.

    Raises:
        ValueError: for a factor that is no such range, an unknown fill_mode, interpolation or data_format, a fill_value
            that is no finite number, another seed; when called, for inputs that are no images.

    Source: Keras 3, keras.layers.RandomRotation.

    >>> import numpy as np
    >>> quarter = RandomRotation((0.25, 0.25), interpolation="nearest")
    >>> quarter(np.arange(4.0).reshape(1, 2, 2, 1), training=True).numpy()[0, :, :, 0]
    array([[1., 3.],
           [0., 2.]], dtype=float32)
    """

    def __init__(
        self,
        factor: Factor,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(fill_mode, interpolation, seed, fill_value, data_format, **kwargs)
        self.factor = bounds(factor, "factor", least=-1, most=1)

    def matrices(self, N: int, H: int, W: int) -> np.ndarray:
        """Rotations by random angles."""
        angle = 2 * math.pi * self._drawn(N, self.factor)
        cos, sin = np.cos(angle), np.sin(angle)
        return _around_the_centre(np.array([[cos, -sin], [sin, cos]]).transpose(2, 0, 1), H, W)


class RandomTranslation(_RandomAffine):
    """Moves each image by random distances while training; otherwise images pass unchanged.

    Args:
        height_factor: range of the distance in heights of the image, (lower, upper), each in [-1, 1], or one number for
            (-factor, factor). Positive distances lead down.
        width_factor: likewise in widths, to the right.
        fill_mode, interpolation, seed, fill_value, data_format, **kwargs: as for :class:`RandomRotation`.

    Raises:
        ValueError: as for :class:`RandomRotation`.

    Source: Keras 3, keras.layers.RandomTranslation.

    >>> import numpy as np
    >>> to_the_right = RandomTranslation(0, (0.25, 0.25), fill_mode="constant")
    >>> to_the_right(np.arange(1.0, 5.0).reshape(1, 1, 4, 1), training=True).numpy().ravel()
    array([0., 1., 2., 3.], dtype=float32)
    """

    def __init__(
        self,
        height_factor: Factor,
        width_factor: Factor,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(fill_mode, interpolation, seed, fill_value, data_format, **kwargs)
        self._height_range = bounds(height_factor, "height_factor", least=-1, most=1)
        self._width_range = bounds(width_factor, "width_factor", least=-1, most=1)
        self.height_factor, self.width_factor = _as_given(height_factor), _as_given(width_factor)

    def matrices(self, N: int, H: int, W: int) -> np.ndarray:
        """Translations by random distances, the way back: where a pixel comes from."""
        found = np.tile(np.eye(2, 3), (N, 1, 1))
        found[:, 1, 2] = -H * self._drawn(N, self._height_range)
        found[:, 0, 2] = -W * self._drawn(N, self._width_range)
        return found


class RandomZoom(_RandomAffine):
    """Zooms each image around its middle by random factors while training; otherwise images pass unchanged.

    Args:
        height_factor: range of what is added to 1 for the part of the height that is shown, (lower, upper), each above
            -1 and at most 1, or one number for (-factor, factor): 0.5 shows 1.5 times the height, and so zooms out,
            -0.5 shows half of it, and so zooms in.
        width_factor: likewise of the width; by default the factor drawn for the height is also that of the width.
        fill_mode, interpolation, seed, fill_value, data_format, **kwargs: as for :class:`RandomRotation`.

    Raises:
        ValueError: as for :class:`RandomRotation`.

    Source: Keras 3, keras.layers.RandomZoom.

    >>> import numpy as np
    >>> twice_the_width = RandomZoom((0, 0), (1, 1), fill_mode="constant", interpolation="nearest")
    >>> twice_the_width(np.arange(1.0, 6.0).reshape(1, 1, 5, 1), training=True).numpy().ravel()
    array([0., 1., 3., 5., 0.], dtype=float32)
    """

    def __init__(
        self,
        height_factor: Factor,
        width_factor: Factor | None = None,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(fill_mode, interpolation, seed, fill_value, data_format, **kwargs)
        self._height_range = bounds(height_factor, "height_factor", above=-1, most=1)
        self._width_range = None if width_factor is None else bounds(width_factor, "width_factor", above=-1, most=1)
        self.height_factor, self.width_factor = _as_given(height_factor), _as_given(width_factor)

    def matrices(self, N: int, H: int, W: int) -> np.ndarray:
        """Scalings by random factors."""
        height = self._drawn(N, self._height_range)
        width = height if self._width_range is None else self._drawn(N, self._width_range)
        found = np.zeros((N, 2, 2))
        found[:, 0, 0], found[:, 1, 1] = 1 + width, 1 + height
        return _around_the_centre(found, H, W)
