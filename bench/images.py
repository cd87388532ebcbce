"""``pycnn.signal.correlate2d`` beside SciPy's on one large image."""

from __future__ import annotations

import math

import numpy as np

from bench.measure import Side
from bench.networks import has

DTYPES = ("float32", "float64")

#: Sides of the kernels.
KERNELS = (3, 5, 7, 9, 11, 13, 15)

#: Of the image.
SIZE = (1024, 1024)


def image_sides(size: int, dtype: str) -> tuple[dict[str, Side], int]:
    """For ours and SciPy's, where it is installed, a call with a kernel of size x size; and the operations of one."""
    from pycnn import signal

    random = np.random.default_rng(0)
    image, kernel = (random.standard_normal(shape).astype(dtype) for shape in (SIZE, (size, size)))
    sides: dict[str, Side] = {"pycnn": lambda: signal.correlate2d(image, kernel, mode="same")}
    if has("scipy"):
        from scipy.signal import correlate2d

        sides["SciPy"] = lambda: correlate2d(image, kernel, mode="same")
    return sides, 2 * math.prod(SIZE) * size**2
