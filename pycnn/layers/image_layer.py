"""What layers share that take batches of images or single ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pycnn.layers import arguments
from pycnn.layers.layer import Layer
from pycnn.shapes import Shape
from pycnn.tensor import Tensor


class ImageLayer(Layer):
    """A layer of images, whose inputs are batches of them or single ones, without the batch axis.

    A subclass defines ``change(images)`` for a batch.

    Args:
        data_format: "channels_last" (the default) or "channels_first".
        **kwargs: as for :class:`Layer`.
    """

    def __init__(self, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_format = arguments.data_format(data_format)
        self.built = True

    def change(self, images: Tensor) -> Tensor:
        """A batch of images, changed."""
        raise NotImplementedError(f"{type(self).__name__} must define change(images)")

    def call(self, inputs: Tensor) -> Tensor:
        """``inputs``, changed."""
        return on_batch(self.change, inputs)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """``input_shape``.

        Raises:
            ValueError: for inputs that are neither images nor batches of them.
        """
        if len(input_shape) not in (3, 4):
            raise ValueError(
                f"{self}: expected images, 4 axes ({self.data_format}), or 3 of a single one, received input shape "
                f"{input_shape}"
            )
        return input_shape

    def of_size(self, input_shape: Shape, height: int, width: int) -> Shape:
        """The shape of such images with another height and width; raises as :meth:`compute_output_shape`."""
        found = list(ImageLayer.compute_output_shape(self, input_shape))
        # Counted from the last axis: a single image has them in the same places.
        rows, columns = (-3, -2) if self.data_format == "channels_last" else (-2, -1)
        found[rows], found[columns] = height, width
        return tuple(found)


def on_batch(change: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """What a function of batches gives for one, or for a single image."""
    if inputs.ndim == 4:
        return change(inputs)
    outputs = change(inputs.reshape(1, *inputs.shape))
    return outputs.reshape(outputs.shape[1:])
