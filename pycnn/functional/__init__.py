"""Operations with the names, argument order, defaults and semantics of ``torch.nn.functional``.

NumPy arrays in give NumPy arrays out, tensors in give tensors out (with gradients). What PyTorch's functions do not
have is keyword-only: ``data_format`` ("channels_first", PyTorch's, or "channels_last"), ``weight_format``,
``algorithm``, ``padding_mode``, and what is done to a result in the same pass: ``scale``, ``residual`` and
``activation``.
"""

from pycnn.functional.activation import gumbel_softmax, log_softmax, relu, sigmoid, softmax, softmin, tanh
from pycnn.functional.batch_norm import BatchStatisticsNorm, RunningNorm, batch_norm
from pycnn.functional.conv import conv1d, conv2d, conv3d
from pycnn.functional.conv_norm import conv2d_batch_norm
from pycnn.functional.conv_pool import batch_norm_max_pool2d, conv2d_max_pool2d
from pycnn.functional.conv_transpose import conv_transpose1d, conv_transpose2d, conv_transpose3d
from pycnn.functional.dropout import alpha_dropout, dropout, dropout1d, dropout2d, dropout3d, feature_alpha_dropout
from pycnn.functional.fold import fold, unfold
from pycnn.functional.interpolate import interpolate
from pycnn.functional.linear import linear
from pycnn.functional.loss import binary_cross_entropy, cross_entropy
from pycnn.functional.norm import layer_norm, local_response_norm
from pycnn.functional.pad import pad
from pycnn.functional.piecewise import hardshrink, hardsigmoid, hardswish, hardtanh, relu6, softshrink
from pycnn.functional.pool import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    adaptive_max_pool3d,
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    lp_pool1d,
    lp_pool2d,
    lp_pool3d,
    max_pool1d,
    max_pool2d,
    max_pool3d,
)
from pycnn.functional.random_pool import (
    fractional_max_pool2d,
    fractional_max_pool3d,
    mixed_pool1d,
    mixed_pool2d,
    mixed_pool3d,
    stochastic_pool1d,
    stochastic_pool2d,
    stochastic_pool3d,
)
from pycnn.functional.rectifier import celu, elu, leaky_relu, prelu, rrelu, selu, threshold
from pycnn.functional.shuffle import channel_shuffle, pixel_shuffle, pixel_unshuffle
from pycnn.functional.smooth import gelu, glu, logsigmoid, mish, silu, softplus, softsign, tanhshrink
from pycnn.functional.unpool import max_unpool1d, max_unpool2d, max_unpool3d

__all__ = [
    "BatchStatisticsNorm",
    "RunningNorm",
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "alpha_dropout",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "batch_norm",
    "batch_norm_max_pool2d",
    "binary_cross_entropy",
    "celu",
    "channel_shuffle",
    "conv1d",
    "conv2d",
    "conv2d_batch_norm",
    "conv2d_max_pool2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "cross_entropy",
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "elu",
    "feature_alpha_dropout",
    "fold",
    "fractional_max_pool2d",
    "fractional_max_pool3d",
    "gelu",
    "glu",
    "gumbel_softmax",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "interpolate",
    "layer_norm",
    "leaky_relu",
    "linear",
    "local_response_norm",
    "log_softmax",
    "logsigmoid",
    "lp_pool1d",
    "lp_pool2d",
    "lp_pool3d",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "max_unpool1d",
    "max_unpool2d",
    "max_unpool3d",
    "mish",
    "mixed_pool1d",
    "mixed_pool2d",
    "mixed_pool3d",
    "pad",
    "pixel_shuffle",
    "pixel_unshuffle",
    "prelu",
    "relu",
    "relu6",
    "rrelu",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softmin",
    "softplus",
    "softshrink",
    "softsign",
    "stochastic_pool1d",
    "stochastic_pool2d",
    "stochastic_pool3d",
    "tanh",
    "tanhshrink",
    "threshold",
    "unfold",
]
