"""The kernels for NVIDIA GPUs. All files but ``device.py`` need Numba's CUDA target; none needs a GPU to be there."""
