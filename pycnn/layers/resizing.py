"""Images brought to a size: resized, or cut to their middle."""

from __future__ import annotations

from typing import Any

from pycnn import functional as F
from pycnn.layers import arguments
from pycnn.layers.image_layer import ImageLayer
from pycnn.layers.up_sampling import INTERPOLATIONS, resizing_of
from pycnn.shapes import Shape
from pycnn.tensor import Tensor


def size_of(images: Tensor, layout: arguments.DataFormat) -> tuple[int, int]:
    """The height and the width of a batch of images."""
    rows, columns = arguments.spatial_axes(2, layout)
    return images.shape[rows], images.shape[columns]


def part_of(images: Tensor, top: int, left: int, height: int, width: int, layout: arguments.DataFormat) -> Tensor:
    """The part of a batch of images that begins at (top, left), where it lies."""
    part = (slice(top, top + height), slice(left, left + width))
    return images[(slice(None), *part)] if layout == "channels_last" else images[(slice(None), slice(None), *part)]


def largest_part(images: Tensor, height: int, width: int, layout: arguments.DataFormat) -> Tensor:
    """The largest part in the middle of images whose height is to its width as given."""
    H, W = size_of(images, layout)
    most_rows, most_columns = _in_proportion(H, W, height, width)
    rows, columns = max(min(H, most_rows), 1), max(min(W, most_columns), 1)
    return part_of(images, (H - rows) // 2, (W - columns) // 2, rows, columns, layout)


def _in_proportion(H: int, W: int, height: int, width: int) -> tuple[int, int]:
    """The height that fits the width W in the proportion of height to width, and the width that fits the height H."""
    return int(W * height / width), int(H * width / height)


def resized(
    images: Tensor,
    height: int,
    width: int,
    layout: arguments.DataFormat,
    interpolation: str = "bilinear",
    antialias: bool = False,
) -> Tensor:
    """A batch of images in another size."""
    smooth = antialias and interpolation != "nearest"
    mode = INTERPOLATIONS[interpolation]
    outputs: Tensor = F.interpolate(images, (height, width), mode=mode, antialias=smooth, data_format=layout)
    return outputs


class Resizing(ImageLayer):
    """Images, or a single one without the batch axis, resized to a height and a width.

    As all layers do, it makes floating-point numbers of integers, and leaves them as they come: Keras rounds the
    result for images of integers, and gives it their dtype.

    Args:
        height, width: of the output, in pixels.
        interpolation: "nearest", "bilinear" or "bicubic"; see :func:`pycnn.functional.interpolate`.
        crop_to_aspect_ratio: whether to cut images to the proportions of the output first, instead of distorting them.
        pad_to_aspect_ratio: whether to pad them to these proportions instead.
        fill_mode: of what is padded: "constant".
        fill_value: the constant.
        antialias: whether "bilinear" and "bicubic" take the mean of more pixels where images shrink.
        data_format: "channels_last" (the default) or "channels_first".
        **kwargs: as for :class:`Layer`.

    Raises:
        ValueError: for sizes that are no positive integers, an unknown name, Keras' "lanczos3" and "lanczos5" among
            them, both cropping and padding, a fill_value that is no finite number; when called, for inputs that are no
            images.

    Source: Keras 3, keras.layers.Resizing.

    >>> import numpy as np
    >>> image = np.arange(16.0).reshape(1, 4, 4, 1)
    >>> Resizing(2, 2)(image).numpy()[0, :, :, 0]
    array([[ 2.5,  4.5],
           [10.5, 12.5]], dtype=float32)
    >>> Resizing(1, 2, interpolation="nearest", crop_to_aspect_ratio=True)(image).numpy().ravel()
    array([ 9., 11.], dtype=float32)
    """

    def __init__(
        self,
        height: int,
        width: int,
        interpolation: str = "bilinear",
        crop_to_aspect_ratio: bool = False,
        pad_to_aspect_ratio: bool = False,
        fill_mode: str = "constant",
        fill_value: float = 0.0,
        antialias: bool = False,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format, **kwargs)
        self.height, self.width = arguments.positive(height, "height"), arguments.positive(width, "width")
        self.interpolation = resizing_of(interpolation)
        self.crop_to_aspect_ratio, self.pad_to_aspect_ratio = bool(crop_to_aspect_ratio), bool(pad_to_aspect_ratio)
        if self.crop_to_aspect_ratio and self.pad_to_aspect_ratio:
            raise ValueError(
                f"{self}: expected one of crop_to_aspect_ratio and pad_to_aspect_ratio at most, received both"
            )
        self.fill_mode: str = arguments.choice(fill_mode, ("constant",), "fill_mode")
        self.fill_value = arguments.number(fill_value, "fill_value")
        self.antialias = bool(antialias)

    def change(self, images: Tensor) -> Tensor:
        """A batch of images, resized."""
        if self.crop_to_aspect_ratio:
            images = largest_part(images, self.height, self.width, self.data_format)
        elif self.pad_to_aspect_ratio:
            images = self._padded(images)
        return resized(images, self.height, self.width, self.data_format, self.interpolation, self.antialias)

    def _padded(self, images: Tensor) -> Tensor:
        """Images with borders that bring them to the proportions of the output, up to a pixel."""
        H, W = size_of(images, self.data_format)
        height, width = _in_proportion(H, W, self.height, self.width)
        rows, columns = max(height - H, 0) // 2, max(width - W, 0) // 2
        return F.pad(images, (columns, columns, rows, rows), value=self.fill_value, data_format=self.data_format)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The input shape with the other height and width.

        Raises:
            ValueError: for inputs that are neither images nor batches of them.
        """
        return self.of_size(input_shape, self.height, self.width)


class CenterCrop(ImageLayer):
    """The middle of images, or of a single one without the batch axis.

    Of images that are lower or narrower than the output, the largest part in the middle with the output's proportions
    is resized.

    Args:
        height, width: of the output, in pixels.
        data_format: "channels_last" (the default) or "channels_first".
        **kwargs: as for :class:`Layer`.

    Raises:
        ValueError: for sizes that are no positive integers, an unknown data_format; when called, for inputs that are no
            images.

    Source: Keras 3, keras.layers.CenterCrop.

    >>> import numpy as np
    >>> CenterCrop(2, 2)(np.arange(16.0).reshape(1, 4, 4, 1)).numpy()[0, :, :, 0]
    array([[ 5.,  6.],
           [ 9., 10.]], dtype=float32)
    """

    def __init__(self, height: int, width: int, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(data_format, **kwargs)
        self.height, self.width = arguments.positive(height, "height"), arguments.positive(width, "width")

    def change(self, images: Tensor) -> Tensor:
        """The middle of a batch of images."""
        H, W = size_of(images, self.data_format)
        if min(H - self.height, W - self.width) < 0:
            part = largest_part(images, self.height, self.width, self.data_format)
            return resized(part, self.height, self.width, self.data_format)
        top, left = (H - self.height) // 2, (W - self.width) // 2
        return part_of(images, top, left, self.height, self.width, self.data_format)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The input shape with the other height and width.

        Raises:
            ValueError: for inputs that are neither images nor batches of them.
        """
        return self.of_size(input_shape, self.height, self.width)
