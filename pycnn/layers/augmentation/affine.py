"""Affine maps of images: rotation, scaling and translation, each image by a matrix of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pycnn.functional.arguments import floating, rounded, widened
from pycnn.functional.sample import Tap, linear_taps, nearest_tap, weighted_elements
from pycnn.layers import arguments
from pycnn.tensor import Tensor

#: How an image goes on outside of itself: the element that stands in for one with the number ``index``.
FILL_MODES: dict[str, Callable[[Any, Any, int], Any]] = {
    # (d c b a | a b c d | d c b a): the edge pixels twice, so that the pattern has a period of twice the size
    "reflect": lambda xp, index, size: xp.minimum(index % (2 * size), 2 * size - 1 - index % (2 * size)),
    "wrap": lambda xp, index, size: index % size,
    "nearest": lambda xp, index, size: xp.clip(index, 0, size - 1),
}


def affine_transform(
    images: Tensor,
    matrices: np.ndarray,
    interpolation: str,
    fill_mode: str,
    fill_value: float,
    layout: arguments.DataFormat,
) -> Tensor:
    """The images, each pixel of which is taken from where the matrix of its image leads.

    The pixel in row ``h`` and column ``w`` is taken from column ``a0 w + a1 h + a2`` and row ``b0 w + b1 h + b2``.

    Args:
        images: (N, H, W, C) or (N, C, H, W), any floating point; the halves are computed in float32.
        matrices: (N, 2, 3), float64, ((a0, a1, a2), (b0, b1, b2)), on the CPU.
        interpolation: "nearest" or "bilinear".
        fill_mode: what there is outside of an image: "constant" or one of :data:`FILL_MODES`.
        fill_value: the constant.
        layout: "channels_last" or "channels_first".

    Returns:
        A tensor of the images' shape and dtype.

    Raises:
        TypeError: images of another dtype.

    Source: Keras 3, keras.ops.image.affine_transform.
    """
    here = images.backend
    rows, columns = arguments.spatial_axes(2, layout)
    H, W = images.shape[rows], images.shape[columns]
    h, w = here.xp.arange(H)[:, None], here.xp.arange(W)[None, :]
    (a0, a1, a2), (b0, b1, b2) = here.asarray(matrices.transpose(1, 2, 0)[..., None, None])
    wide = widened(floating("images", images))
    taps = [
        [_extended(tap, size, fill_mode, here.xp) for tap in _taps(position, interpolation, wide.dtype)]
        for position, size in ((b0 * w + b1 * h + b2, H), (a0 * w + a1 * h + a2, W))
    ]
    outputs: Tensor = rounded(weighted_elements(wide, taps, layout, fill_value), images.dtype)
    return outputs.reshape(images.shape)


def _taps(position: Any, interpolation: str, dtype: np.dtype) -> list[Tap]:
    """The elements of an axis that positions (N, H, W) are made of."""
    flat = position.reshape(len(position), position.shape[1] * position.shape[2])
    return nearest_tap(flat) if interpolation == "nearest" else linear_taps(flat, dtype)


def _extended(tap: Tap, size: int, fill_mode: str, xp: Any) -> Tap:
    """A tap whose elements are inside of an axis of such a size, or known not to be."""
    if fill_mode == "constant":
        return tap._replace(inside=(tap.index >= 0) & (tap.index < size))
    return tap._replace(index=FILL_MODES[fill_mode](xp, tap.index, size))
