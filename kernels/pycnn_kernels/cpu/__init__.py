"""Kernels for the CPU: Numba functions around a register tile."""
