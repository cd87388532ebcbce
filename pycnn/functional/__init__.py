"""Operations with the names, argument order, defaults and semantics of ``torch.nn.functional``.

NumPy arrays in give NumPy arrays out, tensors in give tensors out (with gradients), and arrays of PyTorch, JAX and CuPy
give theirs: the first argument decides. What PyTorch's functions do not have is keyword-only: ``backend`` for a call,
``data_format`` ("channels_first", PyTorch's, or "channels_last"), of convolutions ``weight_format``, ``algorithm``,
``workspace_limit``, ``padding_mode``, and what is done to a result in the same pass: ``scale``, ``residual`` and
``activation``.
"""

from pycnn.functional.activation import gumbel_softmax, log_softmax, relu, sigmoid, softmax, softmin, tanh
from pycnn.functional.activation_in_place import celu_, elu_, hardtanh_, leaky_relu_, relu_, rrelu_, selu_, threshold_
from pycnn.functional.batch_norm import BatchStatisticsNorm, RunningNorm, batch_norm
from pycnn.functional.conv import conv1d, conv2d, conv3d
from pycnn.functional.conv_norm import conv2d_batch_norm
from pycnn.functional.conv_pool import batch_norm_max_pool2d, conv2d_max_pool2d
from pycnn.functional.conv_transpose import conv_transpose1d, conv_transpose2d, conv_transpose3d
from pycnn.functional.distance import cosine_similarity, normalize, pairwise_distance
from pycnn.functional.dropout import alpha_dropout, dropout, dropout1d, dropout2d, dropout3d, feature_alpha_dropout
from pycnn.functional.embedding import embedding, one_hot
from pycnn.functional.fold import fold, unfold
from pycnn.functional.grid_sample import affine_grid, grid_sample
from pycnn.functional.group_norm import group_norm, instance_norm
from pycnn.functional.interpolate import interpolate
from pycnn.functional.linear import bilinear, linear
from pycnn.functional.loss import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    kl_div,
    nll_loss,
)
from pycnn.functional.margin_loss import (
    cosine_embedding_loss,
    hinge_embedding_loss,
    margin_ranking_loss,
    multi_margin_loss,
    multilabel_margin_loss,
    multilabel_soft_margin_loss,
    soft_margin_loss,
    triplet_margin_loss,
)
from pycnn.functional.norm import layer_norm, local_response_norm, rms_norm
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
from pycnn.functional.regression_loss import (
    gaussian_nll_loss,
    huber_loss,
    l1_loss,
    mse_loss,
    poisson_nll_loss,
    smooth_l1_loss,
)
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
    "affine_grid",
    "alpha_dropout",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "batch_norm",
    "batch_norm_max_pool2d",
    "bilinear",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "celu",
    "celu_",
    "channel_shuffle",
    "conv1d",
    "conv2d",
    "conv2d_batch_norm",
    "conv2d_max_pool2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "cosine_embedding_loss",
    "cosine_similarity",
    "cross_entropy",
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "elu",
    "elu_",
    "embedding",
    "feature_alpha_dropout",
    "fold",
    "fractional_max_pool2d",
    "fractional_max_pool3d",
    "gaussian_nll_loss",
    "gelu",
    "glu",
    "grid_sample",
    "group_norm",
    "gumbel_softmax",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "hardtanh_",
    "hinge_embedding_loss",
    "huber_loss",
    "instance_norm",
    "interpolate",
    "kl_div",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
    "leaky_relu_",
    "linear",
    "local_response_norm",
    "log_softmax",
    "logsigmoid",
    "lp_pool1d",
    "lp_pool2d",
    "lp_pool3d",
    "margin_ranking_loss",
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
    "mse_loss",
    "multi_margin_loss",
    "multilabel_margin_loss",
    "multilabel_soft_margin_loss",
    "nll_loss",
    "normalize",
    "one_hot",
    "pad",
    "pairwise_distance",
    "pixel_shuffle",
    "pixel_unshuffle",
    "poisson_nll_loss",
    "prelu",
    "relu",
    "relu6",
    "relu_",
    "rms_norm",
    "rrelu",
    "rrelu_",
    "selu",
    "selu_",
    "sigmoid",
    "silu",
    "smooth_l1_loss",
    "soft_margin_loss",
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
    "threshold_",
    "triplet_margin_loss",
    "unfold",
]
