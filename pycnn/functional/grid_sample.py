"""Images and volumes read at any positions, and the positions of affine maps: spatial transformers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pycnn import backend as backends
from pycnn.autograd import Function
from pycnn.elementary import MatMul
from pycnn.functional.arguments import apply, boolean, data_of, floating, integer, layout, one_of, rounded, widened
from pycnn.functional.sample import Tap, linear_taps, nearest_tap, weighted_elements, whole_and_part
from pycnn.interop.arrays import drop_in
from pycnn.tensor import Tensor

#: Of Keys' kernel.
_A = -0.75


@drop_in
def grid_sample(
    input: Any,
    grid: Any,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
    *,
    data_format: str = "channels_first",
    backend: str | None = None,
) -> Any:
    """The elements of images or volumes at the positions of a grid, interpolated.

    A position is (x, y) or (x, y, z), where -1 is the first and 1 the last end of an axis: ``((x + 1) W - 1) / 2`` in
    pixels, or with ``align_corners`` ``(x + 1) (W - 1) / 2``. "bilinear" takes the mean of the two neighbours along
    each axis, weighted by their distance, "nearest" the nearest element, the even one of two, and "bicubic" the four
    next ones, weighted by Keys' kernel with a = -0.75.

    Args:
        input: x (N, C, H, W) or (N, C, D, H, W), channels last (N, ..., C), float16, bfloat16, float32 or float64; the
            halves are computed in float32.
        grid: (N, OH, OW, 2) or (N, OD, OH, OW, 3), of the input's dtype.
        mode: "bilinear", which is linear along all axes of volumes, too, "nearest", or for images "bicubic".
        padding_mode: what there is outside: "zeros"; "border", the nearest element; or "reflection" at the outer edges
            of the first and last elements, with ``align_corners`` at their centres. In the last two a coordinate that
            is NaN stands for the first element.
        align_corners: whether -1 and 1 are the centres of the first and last elements, instead of their outer edges.
            None is False.
        data_format: "channels_first" or "channels_last".
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        y (N, C, OH, OW) or (N, C, OD, OH, OW), channels last (N, ..., C), of the dtype of the input.

    Raises:
        TypeError: another dtype than those, or two; an ``align_corners`` that is neither True nor False, nor None.
        ValueError: an input of other axes or without pixels; a grid of other axes, of another batch, or with another
            count of coordinates; an unknown mode or padding_mode; "bicubic" for volumes.

    Sources: Jaderberg, Simonyan, Zisserman and Kavukcuoglu, "Spatial Transformer Networks" (2015), section 3.3; R.
    Keys, "Cubic convolution interpolation for digital image processing" (1981); ``torch.nn.functional.grid_sample``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.grid_sample.html

    >>> import numpy as np
    >>> x = np.array([[[[1.0, 2.0, 3.0]]]])
    >>> grid_sample(x, np.array([[[[-1.0, 0.0], [0.5, 0.0]]]]), align_corners=True)
    array([[[[1. , 2.5]]]])
    """
    one_of("mode", mode, ("bilinear", "nearest", "bicubic"))
    one_of("padding_mode", padding_mode, ("zeros", "border", "reflection"))
    corners = False if align_corners is None else boolean("align_corners", align_corners)
    last = layout(data_format) == "channels_last"
    x = floating("input", input)
    grid = floating("grid", grid, like=x)
    rank, shape = x.ndim - 2, tuple(x.shape)
    sizes = shape[1:-1] if last else shape[2:]
    if rank not in (2, 3) or 0 in sizes:
        raise ValueError(f"input must have 4 or 5 axes, and pixels; received the shape {shape}")
    if grid.ndim != x.ndim or grid.shape[0] != shape[0] or grid.shape[-1] != rank:
        raise ValueError(
            f"grid must have {x.ndim} axes for an input of as many, a batch of {shape[0]}, and {rank} coordinates; "
            f"received the shape {tuple(grid.shape)} for the input's {shape}"
        )
    if mode == "bicubic" and rank != 2:
        raise ValueError(f"mode 'bicubic' is for images, an input of 4 axes; received the shape {shape}")
    out = tuple(grid.shape[1:-1])
    wide, positions = widened(x), widened(grid).reshape(shape[0], math.prod(out), rank)
    taps = []
    for axis, size in enumerate(sizes):
        along = positions[..., rank - 1 - axis]
        along = (along + 1) / 2 * (size - 1) if corners else ((along + 1) * size - 1) / 2
        taps.append(_taps(along, size, mode, padding_mode, corners))
    y = weighted_elements(wide, taps, layout(data_format))
    y = y.reshape((shape[0], *out, shape[-1]) if last else (*shape[:2], *out))
    return rounded(y, x.dtype)


def _taps(position: Any, size: int, mode: str, padding_mode: str, corners: bool) -> list[Tap]:
    """The elements of an axis that those at positions (N, pixels) are made of, and whether they are inside of it."""
    if mode == "bicubic":
        index, part = whole_and_part(position)
        near = [_element(index + k - 1, size, padding_mode, corners) for k in range(4)]
        taps = [Tap(element, weight) for element, weight in zip(near, _cubic_weights(part))]
    else:
        if padding_mode != "zeros":
            position = apply(_Continue, position, size=size, padding_mode=padding_mode, corners=corners)
        taps = nearest_tap(position) if mode == "nearest" else linear_taps(position, position.dtype)
    return [tap._replace(inside=(tap.index >= 0) & (tap.index < size)) for tap in taps]


def _element(index: Any, size: int, padding_mode: str, corners: bool) -> Any:
    """The number of the element that stands in for one, which may be outside."""
    return index if padding_mode == "zeros" else _continued(index, size, padding_mode, corners)[0].astype(np.int64)


def _cubic_weights(part: Any) -> list[Any]:
    """Keys' kernel at the distances 1 + part, part, 1 - part and 2 - part."""

    def near(t: Any) -> Any:
        return ((_A + 2) * t - (_A + 3)) * t * t + 1

    def far(t: Any) -> Any:
        return ((_A * t - 5 * _A) * t + 8 * _A) * t - 4 * _A

    return [far(part + 1), near(part), near(1 - part), far(2 - part)]


class _Continue(Function):
    """Positions brought into an axis by its continuation outside, with the slope of that, 0 at the border itself."""

    reads = ()

    def forward(self, position: Any, *, size: int, padding_mode: str, corners: bool) -> Any:
        found, self.slope = _continued(position, size, padding_mode, corners)
        return found

    def backward(self, dy: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        return (dy * self.slope,)


def _continued(position: Any, size: int, padding_mode: str, corners: bool) -> tuple[Any, Any]:
    """Positions inside of an axis for those anywhere, 0 for what is no number, and the slope, 1, -1 or 0."""
    xp, slope = backends.of(position).xp, None
    if padding_mode == "reflection":
        first, span = (0.0, size - 1) if corners else (-0.5, size)
        if span == 0:
            return xp.zeros_like(position), xp.zeros_like(position)
        behind = position - first
        far = xp.abs(behind)
        folds = xp.floor(far / span)
        beyond = xp.fmod(far, span)
        turned = folds % 2 == 1
        position = xp.where(turned, span - beyond, beyond) + first
        slope = xp.where(turned != (behind < 0), -1, 1)
    inside = (position > 0) & (position < size - 1)
    return xp.fmin(xp.fmax(position, 0), size - 1), (inside if slope is None else inside * slope).astype(position.dtype)


@drop_in
def affine_grid(theta: Any, size: Any, align_corners: bool | None = None, *, backend: str | None = None) -> Any:
    """The grid for :func:`grid_sample` of affine maps: where each element of the result is taken from.

    Args:
        theta: the maps, (N, 2, 3) for images or (N, 3, 4) for volumes, of (x, y, 1) or (x, y, z, 1), where -1 and 1 are
            the ends of an axis. float16, bfloat16, float32 or float64; the halves are computed in float32.
        size: the shape of the result, (N, C, H, W) or (N, C, D, H, W).
        align_corners: whether -1 and 1 are the centres of the first and last elements, instead of their outer edges;
            the same as for :func:`grid_sample`. None is False.
        backend: "cpu" or "cuda", where to compute; None is where ``theta`` is.

    Returns:
        (N, H, W, 2) or (N, D, H, W, 3), of the dtype of ``theta``.

    Raises:
        TypeError: another dtype than those, sizes that are no integers; an ``align_corners`` that is neither True nor
            False, nor None.
        ValueError: another count of sizes, or one below 1; maps of another shape.

    Sources: Jaderberg, Simonyan, Zisserman and Kavukcuoglu, "Spatial Transformer Networks" (2015), section 3.2;
    ``torch.nn.functional.affine_grid``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.affine_grid.html

    >>> import numpy as np
    >>> mirror = np.array([[[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    >>> grid_sample(np.array([[[[1.0, 2.0]]]]), affine_grid(mirror, (1, 1, 1, 2)))
    array([[[[2., 1.]]]])
    """
    corners = False if align_corners is None else boolean("align_corners", align_corners)
    theta = floating("theta", theta)
    if not isinstance(size, tuple | list) or len(size) not in (4, 5):
        raise ValueError(f"size must be the shape of a batch of images or volumes, 4 or 5 integers; received {size!r}")
    N, *sizes = (integer("each of size", each) for each in size)
    rank = len(size) - 2
    if min(N, *sizes) < 1:
        raise ValueError(f"size must have integers of at least 1; received {size!r}")
    if tuple(theta.shape) != (N, rank, rank + 1):
        raise ValueError(
            f"theta must have the shape {(N, rank, rank + 1)} for the size {tuple(size)}; received {tuple(theta.shape)}"
        )
    wide, xp = widened(theta), backends.of(data_of(theta)).xp
    axes = xp.meshgrid(*(_ends(n, corners, wide.dtype, xp) for n in sizes[1:]), indexing="ij")
    places = xp.stack([*(axis.reshape(-1) for axis in axes[::-1]), xp.ones(axes[0].size, wide.dtype)], axis=1)
    grid = apply(MatMul, places, wide.transpose(0, 2, 1))
    return rounded(grid.reshape(N, *sizes[1:], rank), theta.dtype)


def _ends(size: int, corners: bool, dtype: np.dtype, xp: Any) -> Any:
    """The places of an axis' elements, whose ends are at -1 and 1."""
    if size == 1:
        return xp.zeros(1, dtype)
    places = xp.linspace(-1, 1, size).astype(dtype)
    return places if corners else places * ((size - 1) / size)
