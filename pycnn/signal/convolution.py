"""Convolution and cross-correlation of images, as ``scipy.signal`` has them."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from pycnn import backend as backends
from pycnn.functional.arguments import (
    apply,
    data_of,
    one_of,
    refuse_two_places,
    remembered,
    rounded,
    sides_triple,
    tensor_or_array,
    triple,
)
from pycnn.functional.conv import Convolution
from pycnn.interop.arrays import drop_in
from pycnn.signal.extension import Extend, Sides
from pycnn.signal.planes import Planes, complex_planes, integer_planes, real_planes
from pycnn.tensor import Tensor
from pycnn_kernels.choice import able
from pycnn_kernels.problem import DTYPE_NAMES, ConvProblem, Layout, dtype_name, is_floating

MODES = ("full", "valid", "same")

#: The boundaries, with the other names that SciPy knows them by.
BOUNDARIES = {
    "fill": "fill", "wrap": "wrap", "symm": "symm", "pad": "fill", "circular": "wrap", "symmetric": "symm",
}  # fmt: skip

#: Algorithms that do nothing but multiply and add, in the order in which they are asked: exact on whole numbers.
EXACT_ALGORITHMS = ("few_channels", "direct")


@drop_in
def convolve2d(
    in1: Any,
    in2: Any,
    mode: str = "full",
    boundary: str = "fill",
    fillvalue: Any = 0,
    *,
    algorithm: str = "auto",
    workspace_limit: int | None = None,
    backend: str | None = None,
) -> Any:
    """2-D convolution of images with a kernel: ``y[i] = sum over j of in1[i - j] * in2[j]``.

    The kernel is flipped along both axes, and then slides over the image as :func:`correlate2d` says; what neural
    networks call convolution, and :func:`pycnn.functional.conv2d` computes, does not flip it. For a kernel that is
    the same upside down and left to right, as most that blur and sharpen are, that makes no difference.

    Args:
        in1, in2, mode, boundary, fillvalue, algorithm, workspace_limit, backend: as for :func:`correlate2d`.

    Returns:
        As :func:`correlate2d`.

    Raises:
        TypeError, ValueError: as :func:`correlate2d`.

    Source: ``scipy.signal.convolve2d``,
    https://docs.scipy.org/doc/scipy/reference/generated/scipy.signal.convolve2d.html

    >>> convolve2d([[0, 0, 0], [0, 1, 0], [0, 0, 0]], [[1, 2], [3, 4]], mode="same")
    array([[0, 0, 0],
           [0, 1, 2],
           [0, 3, 4]])
    """
    return _filter(True, in1, in2, mode, boundary, fillvalue, algorithm=algorithm, workspace_limit=workspace_limit)


@drop_in
def correlate2d(
    in1: Any,
    in2: Any,
    mode: str = "full",
    boundary: str = "fill",
    fillvalue: Any = 0,
    *,
    algorithm: str = "auto",
    workspace_limit: int | None = None,
    backend: str | None = None,
) -> Any:
    """2-D cross-correlation of images with a kernel: ``y[i] = sum over j of in1[i + j] * conj(in2[j])``.

    Args:
        in1: the image (H, W), or a stack of them (..., H, W), each of which is correlated with the same kernel, all in
            one call of the engine; SciPy takes one.
        in2: the kernel (h, w). An array, a tensor, or rows of numbers, as ``in1``.
        mode: the part that is computed of all places where the kernel meets the image: "full" for all of them,
            (H + h - 1, W + w - 1); "same" for its middle of the size of the image, where a kernel of even size reaches
            one pixel further down and right than up and left (that of :func:`convolve2d` the other way round);
            "valid" for those where the smaller of the two lies in the larger one altogether,
            (|H - h| + 1, |W - w| + 1), whichever that is.
        boundary: what lies beyond the image: "fill", the number ``fillvalue``; "wrap", the image from its other end
            on; "symm", the image mirrored, its outermost pixels twice. The kernel may be larger than the image. SciPy's
            other names "pad", "circular" and "symmetric" mean the same.
        fillvalue: a number, for integers cut to a whole one. It is multiplied like the pixels: infinite weights times
            0 are NaN, as in SciPy.
        algorithm: by name, as for :func:`pycnn.functional.conv2d`, which does the work. On the CPU "auto" takes
            "few_channels", which multiplies and adds as SciPy does. On a GPU it may be "winograd" for kernels of 3x3,
            with more rounding; "direct" multiplies and adds there.
        workspace_limit: bytes of scratch memory that the algorithm may take; None for no limit.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        An array of the dtype that NumPy gives ``in1 * in2``. Integers stay integers, and sums beyond their range wrap
        around as SciPy's do (uint8 counts modulo 256), exactly; where a sum may pass 2^52 that takes up to 16 times as
        long. Complex numbers are computed from real ones in one call. float16 and bfloat16, which SciPy does not have,
        are computed in float32 and rounded once. A tensor where one of the two is, and otherwise an array of the
        package that the first of them is of (PyTorch, JAX, ...); gradients flow to both, for real floating point, and
        can be differentiated again.

        The padding costs nothing with "fill" and 0; otherwise a copy of the image, 0.2 ms for 1024x1024 of float32.

    Raises:
        TypeError: numbers of other kinds (as in SciPy, two arrays of booleans, objects), wider than float64 and
            complex128; one array on a GPU and one not.
        ValueError: axes other than these; no pixels; "valid" where neither lies in the other; an unknown mode or
            boundary; a fillvalue that is no single number, or that the dtype of the result cannot hold; for integers
            an algorithm that is not exact.

    Source: ``scipy.signal.correlate2d``,
    https://docs.scipy.org/doc/scipy/reference/generated/scipy.signal.correlate2d.html

    Its quirk is kept: where "valid" swaps the two, ``in1`` is conjugated.

    >>> import numpy as np
    >>> image = np.array([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]])
    >>> correlate2d(image, [[-1.0, 1.0]], mode="valid")
    array([[ 1.,  2.],
           [ 8., 16.]])
    >>> correlate2d(image, [[-1.0, 1.0]], mode="same", boundary="wrap")
    array([[  1.,   2.,  -3.],
           [  8.,  16., -24.]])
    """
    return _filter(False, in1, in2, mode, boundary, fillvalue, algorithm=algorithm, workspace_limit=workspace_limit)


def _filter(flips: bool, in1: Any, in2: Any, mode: str, boundary: str, fillvalue: Any, **choice: Any) -> Any:
    """Both functions; ``choice`` is how to choose the algorithm."""
    x, w = tensor_or_array("in1", in1), tensor_or_array("in2", in2)
    refuse_two_places("in2", w, x)
    sides, boundary, swapped = _geometry(x.shape, w.shape, mode, boundary, flips)
    dtype = _result_dtype(x.dtype, w.dtype)
    fill = _fill(fillvalue, dtype)
    stack = x.shape[:-2]
    images, filters = x.reshape(math.prod(stack), *x.shape[-2:]), w.reshape(1, *w.shape)
    if swapped:
        images, filters = filters, images
        if 0 in stack:  # no kernels for one image have the results of one kernel for no images
            images, filters = images[:0], backends.of(data_of(w)).xp.zeros((1, *x.shape[-2:]), dtype)
    if flips:
        filters = filters[:, ::-1, ::-1]
    elif dtype.kind == "c":
        filters = filters.conj()
    if any(map(any, sides)) and (boundary != "fill" or fill != 0):
        if boundary == "fill":
            images = rounded(images, dtype)  # which holds the fillvalue
        images = apply(Extend, images, sides=sides, boundary=boundary, fill=fill)
        sides = ((0, 0), (0, 0))
    y = _correlate(images, filters, sides, dtype, **choice)
    if swapped and not flips:
        y = y[:, ::-1, ::-1]
    return y.reshape(*stack, *y.shape[1:])


@remembered()
def _geometry(
    image: tuple[int, ...], kernel: tuple[int, ...], mode: str, boundary: str, flips: bool
) -> tuple[tuple[Sides, Sides], str, bool]:
    """The pixels around the image that a mode takes, what they are, and whether image and kernel change their places.

    Raises:
        ValueError: as :func:`correlate2d` says.
    """
    if len(image) < 2 or len(kernel) != 2:
        raise ValueError(f"in1 must have the axes (..., H, W) and in2 (h, w); received the shapes {image} and {kernel}")
    if 0 in image[-2:] or 0 in kernel:
        raise ValueError(f"in1 and in2 must have at least one pixel; received the shapes {image} and {kernel}")
    boundary = BOUNDARIES[one_of("boundary", boundary, tuple(BOUNDARIES))]
    one_of("mode", mode, MODES)
    h, w = kernel
    if mode == "full":
        return ((h - 1, h - 1), (w - 1, w - 1)), boundary, False
    if mode == "same":
        # The middle tap of a kernel of even size is the one before its centre; flipped, the one behind it.
        vertical, horizontal = ((h - 1) // 2, h // 2), ((w - 1) // 2, w // 2)
        return (vertical[::-1], horizontal[::-1]) if flips else (vertical, horizontal), boundary, False
    fits = all(size >= other for size, other in zip(image[-2:], kernel))
    if not (fits or all(size <= other for size, other in zip(image[-2:], kernel))):
        raise ValueError(
            "for mode 'valid' one of in1 and in2 must be at least as large as the other along both axes; received "
            f"images of {image[-2:]} pixels and a kernel of {kernel}"
        )
    return ((0, 0), (0, 0)), boundary, not fits


@lru_cache
def _result_dtype(x: np.dtype, w: np.dtype) -> np.dtype:
    """The dtype that NumPy gives a product.

    Raises:
        TypeError: as :func:`correlate2d` says.
    """
    try:
        dtype = np.result_type(x, w)
    except TypeError:
        dtype = None
    if dtype is None or not (dtype.kind in "iu" or dtype.char in "FD" or dtype_name(dtype)):
        raise TypeError(
            "in1 and in2 must hold numbers, of which the products are integers, float16, bfloat16, float32, float64, "
            f"complex64 or complex128; received {x} and {w}"
        )
    return dtype


def _fill(value: Any, dtype: np.dtype) -> Any:
    """A fillvalue as a Python number that an array of the result's dtype can hold.

    Raises:
        ValueError: as :func:`correlate2d` says.
    """
    if type(value) is int and value == 0:
        return 0
    given = np.asarray(backends.on_host(data_of(value)))
    if given.size != 1 or not (given.dtype.kind in "biufc" or is_floating(given.dtype)):
        raise ValueError(f"fillvalue must be one number; received {value!r}")
    number = given.item()
    if isinstance(number, complex) and dtype.kind != "c":
        raise ValueError(f"fillvalue must be real for a result of {dtype}; received {value!r}")
    if dtype.kind not in "iu":
        return number
    most = np.iinfo(dtype)
    if not (math.isfinite(number) and most.min <= int(number) <= most.max):
        raise ValueError(f"fillvalue must be from {most.min} to {most.max} for a result of {dtype}; received {value!r}")
    return int(number)


def _correlate(
    images: Any,
    filters: Any,
    sides: tuple[Sides, Sides],
    dtype: np.dtype,
    algorithm: str,
    workspace_limit: int | None,
) -> Any:
    """Images (N, H, W) with kernels (S, h, w), one of N and S being 1: the results (N * S, OH, OW)."""
    if is_floating(dtype):
        planes = real_planes(rounded(images, dtype), rounded(filters, dtype))
        return _correlate_planes(planes, sides, algorithm, workspace_limit)
    x, w = data_of(images), data_of(filters)
    with backends.of(x).at_hand(x):
        if dtype.kind == "c":
            y = _correlate_planes(complex_planes(x, w, dtype), sides, algorithm, workspace_limit)
        else:
            planes = integer_planes(x, w, dtype)
            exact = _exact(_problem_of(planes, sides), algorithm, workspace_limit, backends.of(x).name)
            y = _correlate_planes(planes, sides, exact, workspace_limit)
    return Tensor(y) if isinstance(images, Tensor) or isinstance(filters, Tensor) else y


def _correlate_planes(planes: Planes, sides: tuple[Sides, Sides], algorithm: str, workspace_limit: int | None) -> Any:
    y = apply(
        Convolution, planes.images, planes.filters, None, problem=_problem_of(planes, sides), algorithm=algorithm,
        workspace_limit=workspace_limit,
    )  # fmt: skip
    return planes.join(y)


def _problem_of(planes: Planes, sides: tuple[Sides, Sides]) -> ConvProblem:
    x = planes.images
    return _problem(DTYPE_NAMES[x.dtype], planes.layout, x.shape, planes.filters.shape, sides)


@lru_cache(maxsize=4096)
def _problem(
    dtype: str, layout: Layout, images: tuple[int, ...], filters: tuple[int, ...], sides: tuple[Sides, Sides]
) -> ConvProblem:
    K, C, *kernel = filters
    size = images[2:] if layout == "channels_first" else images[1:-1]
    return ConvProblem(
        dtype, layout, "OIHW", images[0], C, triple(size), K, triple(tuple(kernel)), (1, 1, 1), sides_triple(sides),
        (1, 1, 1),
    )  # fmt: skip


@lru_cache(maxsize=1024)
def _exact(problem: ConvProblem, algorithm: str, workspace_limit: int | None, backend: str) -> str:
    """The algorithm for whole numbers.

    Raises:
        ValueError: the one that was asked for rounds, or none can do it within the workspace limit.
    """
    if algorithm != "auto":
        return one_of("algorithm for integers", algorithm, EXACT_ALGORITHMS)
    known = [each.name for each in able("conv_forward", problem, backend=backend, workspace_limit=workspace_limit)]
    return next((name for name in EXACT_ALGORITHMS if name in known), "direct")
