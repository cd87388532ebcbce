"""Numbers that the engine does not multiply, as planes of real numbers that it does: complex numbers and integers.

A convolution adds up products, and a product of complex numbers or of long integers is itself a sum of products of
their parts. So it is one real convolution, with the parts of an image as its channels and those of the result as its
filters.

Complex: ``y_re = x_re * w_re - x_im * w_im`` and ``y_im = x_re * w_im + x_im * w_re``.

Integers: their sums are whole numbers, which floating point adds exactly as long as no sum leaves 2^53 (2^24 in
float32), and what SciPy's integers drop beyond their range is dropped afterwards. Where a sum could be larger, numbers
are taken apart into digits of 16 bits, ``x = sum over i of x_i 2^(16 i)``, so that ``y = sum over s of 2^(16 s) sum
over i of x_i * w_(s - i)``; digits s beyond the width of the dtype are dropped like the overflow that they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from pycnn import backend as backends
from pycnn.elementary import cast
from pycnn_kernels.problem import Layout


class Planes(NamedTuple):
    """A convolution of images (N, H, W) with kernels (S, h, w), one of N and S being 1, as one of real numbers.

    Attributes:
        images: (N, C, H, W), or (N, H, W, C) in channels last.
        filters: (S * K, C, h, w).
        layout: "channels_first" or "channels_last".
        join: makes the results (N * S, OH, OW) of the engine's results for those.
    """

    images: Any
    filters: Any
    layout: Layout
    join: Callable[[Any], Any]


def real_planes(images: Any, filters: Any) -> Planes:
    """Tensors or arrays that the engine takes as they are."""
    (N, H, W), (S, h, w) = images.shape, filters.shape
    return Planes(images.reshape(N, 1, H, W), filters.reshape(S, 1, h, w), "channels_first", _first_axes_as_one)


def _first_axes_as_one(y: Any) -> Any:
    N, S, OH, OW = y.shape
    return y.reshape(N * S, OH, OW)


def complex_planes(images: Any, filters: Any, dtype: np.dtype) -> Planes:
    """Arrays whose results are complex: in memory their two parts are channels that lie last."""
    xp, real = backends.of(images).xp, np.dtype(f"f{dtype.itemsize // 2}")
    x, w = (xp.ascontiguousarray(each, dtype).view(real).reshape(*each.shape, 2) for each in (images, filters))
    re, im = w[..., 0], w[..., 1]
    S, *kernel = filters.shape
    weights = xp.stack([re, -im, im, re], axis=1).reshape(2 * S, 2, *kernel)

    def join(y: Any) -> Any:
        return _first_axes_as_one(xp.moveaxis(y.view(dtype), -1, 1))

    return Planes(x, weights, "channels_last", join)


#: Sums of whole numbers below these are exact in float32 and float64. Half of what they hold (2^24 and 2^53), because
#: the bound on a sum is itself a rounded sum.
_EXACT = {"float32": 2.0**23, "float64": 2.0**52}


def integer_planes(images: Any, filters: Any, dtype: np.dtype) -> Planes:
    """Arrays of integers whose results have an integer dtype."""
    weights = float(np.abs(filters.astype(np.float64)).sum(axis=(1, 2)).max(initial=0))
    for name, exact in _EXACT.items():
        if _largest(images) * weights < exact:
            return _whole_planes(cast(images, np.dtype(name)), cast(filters, np.dtype(name)), dtype)
    return _digits(images.astype(dtype), filters.astype(dtype), dtype)


def _whole_planes(images: Any, filters: Any, dtype: np.dtype) -> Planes:
    """Whole numbers in floating point, whose sums are exact."""
    planes = real_planes(images, filters)
    # Every sum fits into these integers, which wrap around when they become narrower ones, or lose their sign.
    whole = np.dtype(np.int64 if images.dtype == np.float64 or dtype.itemsize == 8 else np.int32)

    def join(y: Any) -> Any:
        found = cast(planes.join(y), whole)
        return found.view(dtype) if dtype.itemsize == whole.itemsize else cast(found, dtype)

    return planes._replace(join=join)


def _largest(x: Any) -> int:
    """A bound on the size of an array's integers; the least one where the dtype does not say enough."""
    if x.dtype.itemsize <= 2:
        return 2 ** (8 * x.dtype.itemsize)
    return max(abs(int(x.min())), abs(int(x.max()))) if x.size else 0


def _digits(images: Any, filters: Any, dtype: np.dtype) -> Planes:
    """Integers of any size by their digits: of 16 bits, or of 8 where a kernel has so many taps that those overflow."""
    xp, width, (S, h, w) = backends.of(images).xp, 8 * dtype.itemsize, filters.shape
    bits = 16 if max(width // 16, 1) * h * w * 2.0**32 < _EXACT["float64"] else 8
    count = max(width // bits, 1)

    def digits(x: Any) -> list[Any]:
        unsigned = x.astype(np.uint64)  # modulo 2^64, as are all sums of those below
        return [((unsigned >> bits * i) & (2**bits - 1)).astype(np.float64) for i in range(count)]

    def join(y: Any) -> Any:
        y = y.reshape(y.shape[0] * S, count, *y.shape[2:])
        total = y[:, 0].astype(np.uint64)
        for s in range(1, count):
            total += y[:, s].astype(np.uint64) << bits * s
        return total.astype(dtype)

    taps, none = digits(filters), xp.zeros(filters.shape)
    rows = [xp.stack([taps[s - i] if i <= s else none for i in range(count)], axis=1) for s in range(count)]
    weights = xp.stack(rows, axis=1).reshape(S * count, count, h, w)
    return Planes(xp.stack(digits(images), axis=1), weights, "channels_first", join)
