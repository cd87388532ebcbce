"""pycnn: a compiled-kernel convolution engine for Python."""

__version__ = "0.1.0"
