"""The registry's lists for the GPU: for each operation ONE ordered list of algorithms, as in ``algorithms.py``."""

from __future__ import annotations

from pycnn_kernels.algorithms import Algorithm
from pycnn_kernels.cuda import planes, pool, softmax

_WINDOWS = "a thread for each window"
_PLANES = "a warp for each plane, 32 pixels at a time in their order"
_CELLS = "a thread for each cell of elements that lie in the same windows"

CUDA_ALGORITHMS: dict[str, list[Algorithm]] = {
    "softmax": [Algorithm("rows", softmax.Softmax, "a block for each row")],
    "log_softmax": [Algorithm("rows", softmax.LogSoftmax, "a block for each row")],
    "cross_entropy": [Algorithm("rows", softmax.CrossEntropy, "loss and softmax, a block for each row")],
    "max_pool": [Algorithm("gather", pool.MaxPool, _WINDOWS, pool.max_supports)],
    "max_pool_gradient": [Algorithm("gather", pool.MaxPoolGradient, _CELLS, pool.max_supports)],
    "average_pool": [Algorithm("gather", pool.AveragePool, _WINDOWS, pool.supports)],
    "average_pool_gradient": [Algorithm("gather", pool.AveragePoolGradient, _CELLS, pool.supports)],
    "norm_pool": [Algorithm("gather", pool.NormPool, _WINDOWS, pool.supports)],
    "stochastic_pool": [Algorithm("gather", pool.StochasticPool, _WINDOWS, pool.max_supports)],
    "fractional_max_pool": [Algorithm("planes", planes.FractionalMaxPool, _WINDOWS, planes.fractional_supports)],
    "put": [Algorithm("planes", planes.Put, _PLANES, planes.supports)],
    "put_sums": [Algorithm("planes", planes.PutSums, _PLANES, planes.supports)],
    "pick": [Algorithm("planes", planes.Pick, "a thread for each result", planes.supports)],
}
