"""Images mirrored at random."""

from __future__ import annotations

from typing import Any

import numpy as np

from pycnn import backend as backends
from pycnn.autograd import Function
from pycnn.layers import arguments
from pycnn.layers.augmentation.random_image_layer import RandomImageLayer
from pycnn.tensor import Tensor

_HORIZONTAL, _VERTICAL, _BOTH = "horizontal", "vertical", "horizontal_and_vertical"


class _Mirror(Function):
    """Some images of a batch with the order of their pixels reversed along an axis; its own inverse."""

    reads = ()

    def forward(self, x: Any, *, chosen: np.ndarray, axis: int) -> Any:
        self.chosen, self.axis = chosen, axis
        here = backends.of(x)
        places, y = here.asarray(chosen), x.copy()
        y[places] = here.xp.flip(x[places], axis)
        return y

    def backward(self, dy: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        return (_Mirror.apply(dy, chosen=self.chosen, axis=self.axis),)


class RandomFlip(RandomImageLayer):
    """Mirrors each image with a probability of 1/2 while training; otherwise images pass unchanged.

    Args:
        mode: "horizontal", left becomes right; "vertical", top becomes bottom; or "horizontal_and_vertical", each of
            both, drawn for itself.
        seed: for draws of the layer's own, an integer of at least 0; by default it draws from
            :func:`pycnn.random.generator`.
        data_format: "channels_last" (the default) or "channels_first".
        **kwargs: as for :class:`Layer`.

    Raises:
        ValueError: for an unknown mode or data_format, another seed; when called, for inputs that are no images.

    Source: Keras 3, keras.layers.RandomFlip. (Its "horizontal_and_vertical" draws once for both, so that it mirrors
    images in both directions or not at all; earlier versions drew for each, as it is done here.)

    >>> import numpy as np
    >>> layer = RandomFlip("horizontal", seed=0)
    >>> layer(np.array([[1.0, 2.0]] * 4).reshape(4, 1, 2, 1), training=True).numpy()[:, 0, :, 0]
    array([[1., 2.],
           [2., 1.],
           [2., 1.],
           [2., 1.]], dtype=float32)
    """

    def __init__(
        self, mode: str = _BOTH, seed: int | None = None, data_format: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(seed, data_format, **kwargs)
        self.mode: str = arguments.choice(mode, (_HORIZONTAL, _VERTICAL, _BOTH), "mode")

    def change(self, images: Tensor) -> Tensor:
        """A batch of images, some of them mirrored."""
        rows, columns = arguments.spatial_axes(2, self.data_format)
        for axis, alone in ((columns, _HORIZONTAL), (rows, _VERTICAL)):
            if self.mode in (alone, _BOTH):
                chosen = np.flatnonzero(self.generator.random(len(images)) < 0.5)
                images = _Mirror.apply(images, chosen=chosen, axis=axis)
        return images
