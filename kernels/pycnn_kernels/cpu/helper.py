"""Functions that kernels call."""

from __future__ import annotations

from numba import njit

#: Decorate a function that compiled code calls, and Python never: it is compiled without the two wrappers through
#: which Python and C would call it, a seventh of the time that kernels take to compile. Kernels are the same without.
helper = njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
