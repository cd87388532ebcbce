"""Parts of images cut out at random."""

from __future__ import annotations

from typing import Any

from pycnn.layers import arguments
from pycnn.layers.augmentation.random_image_layer import RandomImageLayer
from pycnn.layers.image_layer import on_batch
from pycnn.layers.resizing import largest_part, part_of, resized, size_of
from pycnn.shapes import Shape
from pycnn.tensor import Tensor


class RandomCrop(RandomImageLayer):
    """Cuts a part of a size out of images, while training at a random place, which is the same for all of a batch.

    Otherwise, and of images that are lower or narrower than the output, the largest part in the middle with the
    output's proportions is resized.

    Args:
        height, width: of the output, in pixels.
        seed: for draws of the layer's own, an integer of at least 0; by default it draws from
            :func:`pycnn.random.generator`.
        data_format: "channels_last" (the default) or "channels_first".
        name: as for :class:`Layer`; further arguments likewise.

    Raises:
        ValueError: for sizes that are no positive integers, another seed, an unknown data_format; when called, for
            inputs that are no images.

    Source: Keras 3, keras.layers.RandomCrop, as its documentation has it. (Keras 3.15 passes images unchanged outside
    training, and distorts those that are smaller than the output.)

    >>> import numpy as np
    >>> layer = RandomCrop(1, 2, seed=0)
    >>> layer(np.arange(16.0).reshape(1, 4, 4, 1), training=True).numpy().ravel()
    array([13., 14.], dtype=float32)
    """

    def __init__(
        self,
        height: int,
        width: int,
        seed: int | None = None,
        data_format: str | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed, data_format, name=name, **kwargs)
        self.height, self.width = arguments.positive(height, "height"), arguments.positive(width, "width")

    def call(self, inputs: Tensor, training: bool = True) -> Tensor:
        """A part of ``inputs``, at a random place while training."""
        return on_batch(self.change if training else self._largest, inputs)

    def change(self, images: Tensor) -> Tensor:
        """A part of a batch of images at a random place, where they are large enough."""
        H, W = size_of(images, self.data_format)
        if min(H - self.height, W - self.width) < 0:
            return self._largest(images)
        top, left = (int(self.generator.integers(most + 1)) for most in (H - self.height, W - self.width))
        return part_of(images, top, left, self.height, self.width, self.data_format)

    def _largest(self, images: Tensor) -> Tensor:
        part = largest_part(images, self.height, self.width, self.data_format)
        return resized(part, self.height, self.width, self.data_format)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The input shape with the other height and width.

        Raises:
            ValueError: for inputs that are neither images nor batches of them.
        """
        return self.of_size(input_shape, self.height, self.width)
