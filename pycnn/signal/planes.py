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


class Planes(NamedTuple):
    """A convolution of other numbers as one of real numbers.

    Attributes:
        images: (N, C, H, W).
        filters: (S, K, C, h, w) for S kernels.
        fill: the number beyond the boundary, as a real one for each of the C planes.
        join: makes the results (N * S, OH, OW) of the planes (N * S, K, OH, OW).
    """

    images: Any
    filters: Any
    fill: tuple[Any, ...]
    join: Callable[[Any], Any]


def real_planes(images: Any, filters: Any, fill: Any) -> Planes:
    """Images (N, H, W) and kernels (S, h, w), tensors or arrays, that the engine takes as they are."""
    (N, H, W), (S, h, w) = images.shape, filters.shape
    join: Callable[[Any], Any] = lambda y: y.reshape(y.shape[0], *y.shape[2:])  # noqa: E731
    return Planes(images.reshape(N, 1, H, W), filters.reshape(S, 1, 1, h, w), (fill,), join)


def complex_planes(images: Any, filters: Any, fill: Any, dtype: np.dtype) -> Planes:
    """Arrays (N, H, W) and (S, h, w) whose results are complex."""
    xp, real = backends.of(images).xp, np.dtype(f"f{dtype.itemsize // 2}")
    x_re, x_im, w_re, w_im = (
        xp.asarray(part, real) for a in (images.astype(dtype), filters.astype(dtype)) for part in (a.real, a.imag)
    )
    rows = xp.stack([w_re, -w_im], axis=1), xp.stack([w_im, w_re], axis=1)

    def join(y: Any) -> Any:
        return xp.ascontiguousarray(xp.moveaxis(y, 1, -1)).view(dtype)[..., 0]

    return Planes(xp.stack([x_re, x_im], axis=1), xp.stack(rows, axis=1), (fill.real, fill.imag), join)


#: Sums of whole numbers below these are exact in float32 and float64. Half of what they hold (2^24 and 2^53), because
#: the bound on a sum is itself a rounded sum.
_EXACT = {"float32": 2.0**23, "float64": 2.0**52}


def integer_planes(images: Any, filters: Any, fill: int, dtype: np.dtype) -> Planes:
    """Arrays (N, H, W) and (S, h, w) of integers whose results have an integer dtype."""
    weights = float(np.abs(filters.astype(np.float64)).sum(axis=(1, 2)).max(initial=0))
    most = max(_largest(images), abs(fill)) * weights
    for name, exact in _EXACT.items():
        if most < exact:
            return _whole_planes(cast(images, np.dtype(name)), cast(filters, np.dtype(name)), fill, dtype)
    return _digits(images.astype(dtype), filters.astype(dtype), fill, dtype)


def _whole_planes(images: Any, filters: Any, fill: int, dtype: np.dtype) -> Planes:
    """Whole numbers in floating point, whose sums are exact."""
    planes = real_planes(images, filters, fill)
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


def _digits(images: Any, filters: Any, fill: int, dtype: np.dtype) -> Planes:
    """Integers of any size by their digits: of 16 bits, or of 8 where a kernel has so many taps that those overflow."""
    xp, width, (_, h, w) = backends.of(images).xp, 8 * dtype.itemsize, filters.shape
    bits = 16 if max(width // 16, 1) * h * w * 2.0**32 < _EXACT["float64"] else 8
    count = max(width // bits, 1)

    def digits(x: Any) -> list[Any]:
        unsigned = x.astype(np.uint64)  # modulo 2^64, as are all sums of those below
        return [((unsigned >> bits * i) & (2**bits - 1)).astype(np.float64) for i in range(count)]

    def join(y: Any) -> Any:
        total = y[:, 0].astype(np.uint64)
        for s in range(1, count):
            total += y[:, s].astype(np.uint64) << bits * s
        return total.astype(dtype)

    x, taps, none = digits(images), digits(filters), xp.zeros(filters.shape)
    rows = [xp.stack([taps[s - i] if i <= s else none for i in range(count)], axis=1) for s in range(count)]
    fills = tuple(float(digit) for digit in digits(np.asarray(fill % 2**64, np.uint64)))
    return Planes(xp.stack(x, axis=1), xp.stack(rows, axis=1), fills, join)
