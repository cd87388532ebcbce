"""Operations with the names, argument order, defaults and semantics of ``torch.nn.functional``.

NumPy arrays in give NumPy arrays out, tensors in give tensors out (with gradients). What PyTorch's functions do not
have is keyword-only: ``data_format`` ("channels_first", PyTorch's, or "channels_last"), ``weight_format``,
``algorithm``, ``padding_mode``, and what is done to a result in the same pass: ``scale``, ``residual`` and
``activation``.
"""

from pycnn.functional.activation import log_softmax, relu, sigmoid, softmax, tanh
from pycnn.functional.conv import conv1d, conv2d, conv3d
from pycnn.functional.conv_pool import conv2d_max_pool2d
from pycnn.functional.conv_transpose import conv_transpose1d, conv_transpose2d, conv_transpose3d
from pycnn.functional.dropout import dropout
from pycnn.functional.linear import linear
from pycnn.functional.loss import binary_cross_entropy, cross_entropy
from pycnn.functional.pool import avg_pool2d, max_pool2d

__all__ = [
    "avg_pool2d",
    "binary_cross_entropy",
    "conv1d",
    "conv2d",
    "conv2d_max_pool2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "cross_entropy",
    "dropout",
    "linear",
    "log_softmax",
    "max_pool2d",
    "relu",
    "sigmoid",
    "softmax",
    "tanh",
]
