"""Kernels that blur, sharpen and find edges, for :func:`pycnn.signal.correlate2d` and ``convolve2d``.

Each is an array (h, w) of float32, or of the dtype asked for, made anew for each call. They are written as
``correlate2d`` lays them on an image; ``convolve2d`` flips them, which changes only those that are not symmetric: the
derivatives (:func:`sobel`, :func:`prewitt`, :func:`scharr`) change their sign, and :func:`emboss` its light.

Where a kernel adds up to 1, areas of one colour keep it; where to 0, they become 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pycnn.functional.arguments import integer, number, one_of, pair

__all__ = [
    "box_blur",
    "edges",
    "emboss",
    "gaussian",
    "identity",
    "laplacian",
    "laplacian_of_gaussian",
    "prewitt",
    "scharr",
    "sharpen",
    "sobel",
]


def identity(size: Any = 3, *, dtype: Any = np.float32) -> np.ndarray:
    """A 1 in the middle of zeros: leaves an image as it is.

    Args:
        size: of the kernel, one odd integer or (height, width).
        dtype: float32 or float64.

    Raises:
        TypeError: a size that is no integer, another dtype.
        ValueError: an even size, or one below 1.

    Source: the unit of convolution; Gonzalez and Woods, "Digital Image Processing", 4th edition, 2018, section 3.4.

    >>> identity()
    array([[0., 0., 0.],
           [0., 1., 0.],
           [0., 0., 0.]], dtype=float32)
    """
    height, width = _odd("size", size)
    kernel = np.zeros((height, width))
    kernel[height // 2, width // 2] = 1
    return _of_dtype(kernel, dtype)


def box_blur(size: Any = 3, *, dtype: Any = np.float32) -> np.ndarray:
    """The mean of the pixels in a window: blurs.

    Args:
        size: of the window, one integer or (height, width).
        dtype: float32 or float64.

    Raises:
        TypeError: a size that is no integer, another dtype.
        ValueError: a size below 1.

    Source: the documents' example of a filter that blurs, the mean of 3x3 pixels; ``scipy.ndimage.uniform_filter``.

    >>> box_blur((1, 2))
    array([[0.5, 0.5]], dtype=float32)
    """
    height, width = pair("size", size)
    return _of_dtype(np.full((height, width), 1 / (height * width)), dtype)


def gaussian(size: Any, sigma: float, *, dtype: Any = np.float32) -> np.ndarray:
    """The bell curve ``exp(-r^2 / (2 sigma^2))`` at distance r from the middle, with a sum of 1: blurs smoothly.

    A window of ``2 * ceil(3 * sigma) + 1`` pixels holds all of it but 0.5 per cent.

    Args:
        size: of the kernel, one integer or (height, width).
        sigma: the standard deviation in pixels, above 0.
        dtype: float32 or float64.

    Raises:
        TypeError: a size that is no integer, a sigma that is no number, another dtype.
        ValueError: a size below 1, a sigma not above 0.

    Source: Gonzalez and Woods, 4th edition, section 3.5; the weights of ``scipy.ndimage.gaussian_filter``.

    >>> gaussian((1, 3), 0.85).round(3)
    array([[0.25, 0.5 , 0.25]], dtype=float32)
    """
    return _of_dtype(_bell(pair("size", size), _positive("sigma", sigma)), dtype)


def sharpen(*, dtype: Any = np.float32) -> np.ndarray:
    """Five times a pixel less its four neighbours: what differs from its surroundings differs more.

    The identity less the Laplacian of four neighbours.

    Args:
        dtype: float32 or float64.

    Raises:
        TypeError: another dtype.

    Source: the documents' filter that sharpens: "neighbours are similar and negative, so only the centre pixel is
    magnified".

    >>> sharpen()
    array([[ 0., -1.,  0.],
           [-1.,  5., -1.],
           [ 0., -1.,  0.]], dtype=float32)
    """
    return _of_dtype([[0, -1, 0], [-1, 5, -1], [0, -1, 0]], dtype)


def edges(*, dtype: Any = np.float32) -> np.ndarray:
    """The eight neighbours of a pixel less eight times the pixel: 0 where all are the same, not at an edge.

    The same as ``laplacian(8)``.

    Args:
        dtype: float32 or float64.

    Raises:
        TypeError: another dtype.

    Source: the documents' filter that detects edges.

    >>> edges()
    array([[ 1.,  1.,  1.],
           [ 1., -8.,  1.],
           [ 1.,  1.,  1.]], dtype=float32)
    """
    return laplacian(8, dtype=dtype)


def laplacian(neighbours: int = 4, *, dtype: Any = np.float32) -> np.ndarray:
    """The sum of the second derivatives along both axes, by differences: finds edges in all directions.

    Args:
        neighbours: 4, those along the axes; or 8, with those along the diagonals.
        dtype: float32 or float64.

    Raises:
        TypeError: another dtype.
        ValueError: another number of neighbours.

    Source: Gonzalez and Woods, 4th edition, section 3.6; with 4 neighbours ``scipy.ndimage.laplace``.

    >>> laplacian()
    array([[ 0.,  1.,  0.],
           [ 1., -4.,  1.],
           [ 0.,  1.,  0.]], dtype=float32)
    """
    diagonal = 0 if one_of("neighbours", neighbours, (4, 8)) == 4 else 1
    return _of_dtype(
        [[diagonal, 1, diagonal], [1, -neighbours, 1], [diagonal, 1, diagonal]],
        dtype,
    )


def laplacian_of_gaussian(size: Any, sigma: float, *, dtype: Any = np.float32) -> np.ndarray:
    """The Laplacian of the bell curve, ``(r^2 - 2 sigma^2) / sigma^4`` times :func:`gaussian`: blurs and finds edges.

    Less its mean, so that the sum is 0 although the window ends somewhere. Negative in the middle.

    Args:
        size: of the kernel, one integer or (height, width); 8 sigma and more to hold nearly all of it.
        sigma: the standard deviation in pixels, above 0.
        dtype: float32 or float64.

    Raises:
        TypeError: as :func:`gaussian`.
        ValueError: as :func:`gaussian`; a sigma so small that the weights, which grow with 1 / sigma^2, cannot be
            computed in the dtype.

    Source: Marr and Hildreth, "Theory of edge detection", 1980; ``scipy.ndimage.gaussian_laplace``, whose weights these
    are up to their mean.

    >>> laplacian_of_gaussian(3, 0.5).round(2)
    array([[ 0.4 ,  0.8 ,  0.4 ],
           [ 0.8 , -4.82,  0.8 ],
           [ 0.4 ,  0.8 ,  0.4 ]], dtype=float32)
    """
    window, width = pair("size", size), _positive("sigma", sigma)
    with np.errstate(over="ignore", invalid="ignore"):  # refused below
        # (r / sigma)^2 / sigma^2: sigma^4 would be 0 long before sigma is.
        kernel = (_squared_distances(window) / width / width - 2) / width / width * _bell(window, width)
        found = _of_dtype(kernel - kernel.mean(), dtype)
    if not np.isfinite(found).all():
        raise ValueError(
            f"sigma must be so large that the weights can be computed in {found.dtype}; received {sigma!r}"
        )
    return found


def sobel(axis: int = -1, *, dtype: Any = np.float32) -> np.ndarray:
    """The derivative along an axis, smoothed across it with the weights 1, 2, 1.

    Args:
        axis: of the image: 0 or -2 for the derivative downwards, which finds horizontal edges, 1 or -1 for that to the
            right, which finds vertical ones.
        dtype: float32 or float64.

    Raises:
        TypeError: an axis that is no integer, another dtype.
        ValueError: another axis.

    Source: Sobel and Feldman, 1968; ``scipy.ndimage.sobel``.

    >>> sobel()
    array([[-1.,  0.,  1.],
           [-2.,  0.,  2.],
           [-1.,  0.,  1.]], dtype=float32)
    """
    return _derivative([1, 2, 1], axis, dtype)


def prewitt(axis: int = -1, *, dtype: Any = np.float32) -> np.ndarray:
    """The derivative along an axis, smoothed across it with equal weights; otherwise as :func:`sobel`.

    Source: Prewitt, "Object enhancement and extraction", 1970; ``scipy.ndimage.prewitt``.

    >>> prewitt(axis=0)
    array([[-1., -1., -1.],
           [ 0.,  0.,  0.],
           [ 1.,  1.,  1.]], dtype=float32)
    """
    return _derivative([1, 1, 1], axis, dtype)


def scharr(axis: int = -1, *, dtype: Any = np.float32) -> np.ndarray:
    """The derivative along an axis, smoothed across it with the weights 3, 10, 3; otherwise as :func:`sobel`.

    These weights make its length nearly the same for edges in all directions.

    Source: Scharr, "Optimale Operatoren in der digitalen Bildverarbeitung", dissertation, Heidelberg, 2000.

    >>> scharr()
    array([[ -3.,   0.,   3.],
           [-10.,   0.,  10.],
           [ -3.,   0.,   3.]], dtype=float32)
    """
    return _derivative([3, 10, 3], axis, dtype)


def emboss(*, dtype: Any = np.float32) -> np.ndarray:
    """The image as a relief with light from the top left: a derivative along the diagonal, and the pixel itself.

    Args:
        dtype: float32 or float64.

    Raises:
        TypeError: another dtype.

    Source: GIMP's documentation, "Convolution Matrix", https://docs.gimp.org/en/gimp-filter-convolution-matrix.html

    >>> emboss()
    array([[-2., -1.,  0.],
           [-1.,  1.,  1.],
           [ 0.,  1.,  2.]], dtype=float32)
    """
    return _of_dtype([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], dtype)


def _derivative(smoothing: list[int], axis: Any, dtype: Any) -> np.ndarray:
    """A central difference along an axis, times weights across it."""
    kernel = np.outer(smoothing, [-1, 0, 1])
    along_width = one_of("axis", integer("axis", axis), (0, 1, -1, -2)) in (1, -1)
    return _of_dtype(kernel if along_width else kernel.T, dtype)


def _bell(size: tuple[int, int], sigma: float) -> np.ndarray:
    """:func:`gaussian` in float64."""
    squares = _squared_distances(size)
    # Beyond the least distance, so that one weight is exp(0) however small sigma is; its square would be 0 before it.
    with np.errstate(over="ignore"):  # infinitely far away, where the weight is 0
        kernel = np.exp(-(squares - squares.min()) / sigma / sigma / 2)
    return kernel / kernel.sum()


def _squared_distances(size: tuple[int, int]) -> np.ndarray:
    """From the middle of the kernel, which for an even size lies between two pixels."""
    y, x = (np.arange(count) - (count - 1) / 2 for count in size)
    return y[:, None] ** 2 + x**2


def _odd(name: str, size: Any) -> tuple[int, int]:
    height, width = pair(name, size)
    if height % 2 == 0 or width % 2 == 0:
        raise ValueError(f"{name} must be odd, to have a middle; received {size!r}")
    return height, width


def _positive(name: str, value: Any) -> float:
    found = number(name, value)
    if not found > 0:
        raise ValueError(f"{name} must be above 0; received {value!r}")
    return found


def _of_dtype(kernel: Any, dtype: Any) -> np.ndarray:
    """The kernel in row-major order, in one of the two dtypes in which kernels are computed."""
    try:
        wanted = np.dtype(dtype)
    except TypeError:
        wanted = None
    if wanted not in (np.float32, np.float64):
        raise TypeError(f"dtype must be float32 or float64; received {dtype!r}")
    return np.ascontiguousarray(kernel, wanted)
