"""The kernels for NVIDIA GPUs. All files but ``device.py`` need Numba's CUDA target to be imported; none needs a GPU."""
