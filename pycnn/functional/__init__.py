"""Operations with the names, argument order, defaults and semantics of ``torch.nn.functional``.

NumPy arrays in give NumPy arrays out, tensors in give tensors out (with gradients). What PyTorch's functions do not
have is keyword-only: ``data_format`` ("channels_first", PyTorch's, or "channels_last"), ``weight_format``,
``algorithm``, ``padding_mode``, and what is done to a result in the same pass: ``scale``, ``residual`` and
``activation``.
"""

from pycnn.functional.activation import log_softmax, relu, sigmoid, softmax, tanh
from pycnn.functional.batch_norm import BatchStatisticsNorm, RunningNorm, batch_norm
from pycnn.functional.conv import conv1d, conv2d, conv3d
from pycnn.functional.conv_norm import conv2d_batch_norm
from pycnn.functional.conv_pool import batch_norm_max_pool2d, conv2d_max_pool2d
from pycnn.functional.conv_transpose import conv_transpose1d, conv_transpose2d, conv_transpose3d
from pycnn.functional.distance import cosine_similarity, normalize, pairwise_distance
from pycnn.functional.dropout import dropout
from pycnn.functional.embedding import embedding, one_hot
from pycnn.functional.group_norm import group_norm, instance_norm
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
from pycnn.functional.regression_loss import (
    gaussian_nll_loss,
    huber_loss,
    l1_loss,
    mse_loss,
    poisson_nll_loss,
    smooth_l1_loss,
)
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
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "batch_norm",
    "batch_norm_max_pool2d",
    "bilinear",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
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
    "embedding",
    "fractional_max_pool2d",
    "fractional_max_pool3d",
    "gaussian_nll_loss",
    "group_norm",
    "hinge_embedding_loss",
    "huber_loss",
    "instance_norm",
    "kl_div",
    "l1_loss",
    "layer_norm",
    "linear",
    "local_response_norm",
    "log_softmax",
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
    "pairwise_distance",
    "poisson_nll_loss",
    "relu",
    "rms_norm",
    "sigmoid",
    "smooth_l1_loss",
    "soft_margin_loss",
    "softmax",
    "stochastic_pool1d",
    "stochastic_pool2d",
    "stochastic_pool3d",
    "tanh",
    "triplet_margin_loss",
]
