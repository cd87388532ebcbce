"""The registry's lists for the GPU: for each operation ONE ordered list of algorithms, as in ``algorithms.py``."""

from __future__ import annotations

from pycnn_kernels.algorithms import Algorithm
from pycnn_kernels.cuda import optimizer, softmax

_ONE_PASS = "all parameters and their state in one launch"

CUDA_ALGORITHMS: dict[str, list[Algorithm]] = {
    "adam": [Algorithm("one_pass", optimizer.AdamStep, _ONE_PASS, optimizer.updates_supported)],
    "sgd": [Algorithm("one_pass", optimizer.SgdStep, _ONE_PASS, optimizer.updates_supported)],
    "sgd_momentum": [Algorithm("one_pass", optimizer.MomentumStep, _ONE_PASS, optimizer.updates_supported)],
    "softmax": [Algorithm("rows", softmax.Softmax, "a block for each row")],
    "log_softmax": [Algorithm("rows", softmax.LogSoftmax, "a block for each row")],
    "cross_entropy": [Algorithm("rows", softmax.CrossEntropy, "loss and softmax, a block for each row")],
}
