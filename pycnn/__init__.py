"""pycnn: a compiled-kernel convolution engine for Python."""

from pycnn import functional, random
from pycnn.autograd import no_grad
from pycnn.tensor import Tensor
from pycnn_kernels.cpu.launch import get_num_threads, set_num_threads

__version__ = "0.1.0"

__all__ = ["Tensor", "functional", "get_num_threads", "no_grad", "random", "set_num_threads"]
