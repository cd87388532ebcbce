"""Resizing of signals, images and volumes."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

from pycnn.functional.arguments import (
    apply,
    array_sizes,
    boolean,
    data_of,
    floating,
    integer,
    layout,
    number,
    one_of,
    remembered,
    tensor_or_array,
)
from pycnn.functional.pool import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d
from pycnn.functional.rearrange import Rearrange, Resample, movable
from pycnn.interop.arrays import drop_in
from pycnn.tensor import Tensor
from pycnn_kernels.problem import Nearest, RearrangeProblem, ResampledAxis, ResampleProblem

#: The modes of weighted sums: how many axes they resize, and the kind of their weights.
_WEIGHTED: dict[str, tuple[int, Literal["linear", "cubic"]]] = {
    "linear": (1, "linear"),
    "bilinear": (2, "linear"),
    "trilinear": (3, "linear"),
    "bicubic": (2, "cubic"),
}
_MODES = ("nearest", "nearest-exact", "area", *_WEIGHTED)

_AREA = {1: adaptive_avg_pool1d, 2: adaptive_avg_pool2d, 3: adaptive_avg_pool3d}

#: Results up to so many elements along their axes together PyTorch computes by a loop of its own, whose positions are
#: float32 whatever the elements are (ATen/native/cpu/UpSampleKernel.cpp, _use_vectorized_kernel_cond_2d and _3d).
_SMALL = {1: 0, 2: 128, 3: 512}


@drop_in
def interpolate(
    input: Any,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
    *,
    data_format: str = "channels_first",
    backend: str | None = None,
) -> Any:
    """Signals, images or volumes resized to ``size``, or ``scale_factor`` times as large.

    Element o of the result lies at ``(o + 0.5) * scale - 0.5`` in the input, ``scale`` being the size of the input by
    that of the result; with ``align_corners`` at ``o * (size - 1) / (output - 1)``. From there "nearest-exact" takes
    the nearest element, and "nearest" the one at ``floor(o * scale)``; "linear", "bilinear" and "trilinear" take the
    mean of the two neighbours along each axis, weighted by their distance, "bicubic" the four next ones, weighted by
    Keys' kernel with a = -0.75, elements beyond the edge being that on the edge. "area" is adaptive average pooling.

    Args:
        input: x (N, C, W), (N, C, H, W) or (N, C, D, H, W), channels last (N, ..., C). float16, bfloat16, float32 or
            float64; in "nearest" and "nearest-exact" also booleans, integers and complex numbers; in "bilinear" and
            "bicubic" also uint8, with weights of 16 bits, rounded and clipped along each axis.
        size: of the result, one integer or one for each axis.
        scale_factor: instead of ``size``, one number or one for each axis; sizes are rounded down.
        mode: "nearest", "nearest-exact", "area"; "linear" for signals, "bilinear" and "bicubic" for images, and
            "trilinear" for volumes.
        align_corners: in the last four modes, whether the first and last elements lie upon each other, instead of the
            outer edges of elements. None is False.
        recompute_scale_factor: whether ``scale`` is computed from the sizes though ``scale_factor`` is given, which
            rounding may make another.
        antialias: in "bilinear" and "bicubic" of images that shrink, whether weights spread over as many elements as
            an element of the result covers (with a = -0.5 for "bicubic"). An axis that keeps its size is left as it
            is, whatever its factor, and so is its gradient; PyTorch's gradient has the factor's weights there.
        data_format: "channels_first" or "channels_last".
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        y, of the dtype of the input, with other sizes.

    Raises:
        TypeError: another dtype than those; sizes that are no integers, factors that are no numbers; an
            ``align_corners`` or ``recompute_scale_factor`` that is neither True nor False, nor None; an ``antialias``
            that is neither True nor False.
        ValueError: both or neither of ``size`` and ``scale_factor``; as many of them as there are no axes; sizes below
            1 (in "area" below 0); an unknown mode, or one for another number of axes; an input without channels or
            pixels; align_corners, antialias or recompute_scale_factor where they do not apply.

    Source: ``torch.nn.functional.interpolate``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.interpolate.html; R. Keys, "Cubic convolution
    interpolation for digital image processing" (1981)

    >>> import numpy as np
    >>> x = np.array([[[1.0, 2.0]]])
    >>> interpolate(x, scale_factor=2)
    array([[[1., 1., 2., 2.]]])
    >>> interpolate(x, 4, mode="linear")
    array([[[1.  , 1.25, 1.75, 2.  ]]])
    """
    x = tensor_or_array("input", input)
    shape, arguments = tuple(x.shape), (size, scale_factor, mode, align_corners, recompute_scale_factor, antialias)
    problem, resized = _resizing(shape, *arguments, data_format, x.dtype == np.float64)
    if problem is None:
        return _AREA[len(resized)](x, resized, data_format=data_format)
    if isinstance(problem, ResampleProblem):
        return _resampled(x, problem, resized)
    return apply(Rearrange, movable("input", x), problem=problem, shape=resized)


@remembered()
def _resizing(
    shape: tuple[int, ...],
    size: Any,
    scale_factor: Any,
    mode: str,
    align_corners: bool | None,
    recompute_scale_factor: bool | None,
    antialias: bool,
    data_format: str,
    is_double: bool,
) -> tuple[ResampleProblem | RearrangeProblem | None, tuple[int, ...]]:
    """What a call does, and the shape of the result; None and the sizes of the result for a mean over areas.

    Problems are those of float64 where that is the dtype, otherwise of float32.
    """
    one_of("mode", mode, _MODES)
    last = layout(data_format) == "channels_last"
    rank = len(shape) - 2
    expected = _WEIGHTED[mode][0] if mode in _WEIGHTED else rank
    if rank not in (1, 2, 3) or rank != expected:
        wanted = f"{expected + 2} axes" if mode in _WEIGHTED else "3 to 5 axes"
        raise ValueError(f"input must have {wanted} in the mode {mode!r}; received the shape {shape}")
    if align_corners is not None:
        align_corners = boolean("align_corners", align_corners)
        if mode not in _WEIGHTED:
            raise ValueError(f"align_corners is of the modes {', '.join(_WEIGHTED)} alone; received it in {mode!r}")
    antialias = boolean("antialias", antialias)
    if recompute_scale_factor is not None:
        recompute_scale_factor = boolean("recompute_scale_factor", recompute_scale_factor)
    if antialias and mode not in ("bilinear", "bicubic"):
        raise ValueError(f"antialias is of the modes 'bilinear' and 'bicubic' alone; received it in {mode!r}")
    sizes = shape[1:-1] if last else shape[2:]
    by_sizes = bool(recompute_scale_factor) or mode == "area"
    out, factors = _sizes_and_factors(sizes, size, scale_factor, recompute_scale_factor, by_sizes)
    if mode == "area":
        return None, out
    N, C, _ = array_sizes("input", shape, data_format, rank)
    if min(out) < 1 or C == 0:
        raise ValueError(f"sizes and channels must be at least 1; received the sizes {out} for the shape {shape}")
    images, inner = (N, C) if last else (N * C, 1)
    resized = (N, *out, C) if last else (N, C, *out)
    if mode in _WEIGHTED:
        kind, corners = _WEIGHTED[mode][1], bool(align_corners)
        resampled = tuple(
            ResampledAxis(kind, n, o, 1 / factor if factor else 0.0, corners, antialias)
            for n, o, factor in zip(sizes, out, factors)
        )
        return ResampleProblem("float64" if is_double else "float32", images, resampled, inner), resized
    in_loops = sum(out) <= _SMALL[rank] or (last and rank > 1 and C > 3)
    ways = tuple(_nearest(*axis, mode == "nearest-exact", is_double, in_loops) for axis in zip(sizes, out, factors))
    moved = tuple((count, axis, 1) for axis, count in enumerate(out))
    bits = "uint64" if is_double else "uint32"
    return RearrangeProblem(bits, images, tuple(sizes), moved, (0,) * rank, ways, inner), resized


def _sizes_and_factors(
    sizes: tuple[int, ...], size: Any, scale_factor: Any, recompute: bool | None, by_sizes: bool
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """The sizes of the result, and the factors that positions are computed with; 0 for those of the sizes."""
    if (size is None) == (scale_factor is None):
        raise ValueError(f"either size or scale_factor must be given; received {size!r} and {scale_factor!r}")
    if size is not None:
        if recompute:
            raise ValueError("recompute_scale_factor is of scale_factor alone; received it with size")
        return tuple(integer("size", each) for each in _for_each("size", size, len(sizes))), (0.0,) * len(sizes)
    factors = tuple(_factor(each) for each in _for_each("scale_factor", scale_factor, len(sizes)))
    return tuple(int(n * factor) for n, factor in zip(sizes, factors)), (0.0,) * len(sizes) if by_sizes else factors


def _for_each(name: str, value: Any, rank: int) -> tuple[Any, ...]:
    """One number for each axis."""
    values = tuple(value) if isinstance(value, tuple | list) else (value,) * rank
    if len(values) != rank:
        raise ValueError(f"{name} must be one number, or one for each of {rank} axes; received {value!r}")
    return values


def _factor(value: Any) -> float:
    factor = number("scale_factor", value)
    if not math.isfinite(factor):
        raise ValueError(f"scale_factor must be finite; received {value!r}")
    return factor


def _resampled(x: Any, problem: ResampleProblem, shape: tuple[int, ...]) -> Any:
    """Weighted sums; of bytes in float64, where they are exact, rounded along the width and then along the height."""
    if x.dtype != np.uint8 or len(problem.axes) != 2:
        return apply(Resample, floating("input", x), problem=problem, shape=shape)
    high, wide = (axis._replace(of_bytes=True) for axis in problem.axes)
    rows = ResampleProblem("float64", problem.N * high.size, (wide,), problem.inner)
    columns = ResampleProblem("float64", problem.N, (high,), wide.output * problem.inner)
    y = data_of(x)
    for one in (rows, columns):
        y = apply(Resample, y.astype(np.float64), problem=one, shape=one.y_shape)
        y = np.clip(np.floor(y + 0.5), 0, 255).astype(np.uint8)
    y = y.reshape(shape)
    return Tensor._of(y) if isinstance(x, Tensor) else y


def _nearest(size: int, output: int, factor: float, exact: bool, is_double: bool, in_loops: bool) -> Nearest:
    """How elements of the result find the nearest ones: in float64 where the elements are, unless ``in_loops``."""
    kind = np.float64 if is_double and not in_loops else np.float32
    scale = kind(1 / factor) if factor else kind(size) / kind(output)
    if in_loops and not exact and output in (size, 2 * size):  # whatever the factor is
        scale = kind(size / output)
    return Nearest(size, float(scale), np.dtype(kind).name, exact)
