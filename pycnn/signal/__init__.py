"""Convolution of plain images with the names, argument order, defaults and semantics of ``scipy.signal``.

NumPy arrays in give NumPy arrays out, tensors in give tensors out (with gradients), and so for the arrays of PyTorch,
JAX and others. What SciPy's functions do not have: stacks of images in one call, float16 and bfloat16, and the
keyword-only ``algorithm``, ``workspace_limit`` and ``backend``.
:mod:`pycnn.signal.kernels` has kernels that blur, sharpen and find edges.
"""

from pycnn.signal import kernels
from pycnn.signal.convolution import convolve2d, correlate2d

__all__ = ["convolve2d", "correlate2d", "kernels"]
