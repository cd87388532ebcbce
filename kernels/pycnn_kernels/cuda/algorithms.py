"""The registry's lists for the GPU: for each operation ONE ordered list of algorithms, as in ``algorithms.py``."""

from __future__ import annotations

from pycnn_kernels.algorithms import Algorithm
from pycnn_kernels.cuda import batch_norm, channels, layer_norm, response_norm, softmax

CUDA_ALGORITHMS: dict[str, list[Algorithm]] = {
    "bias_activation_gradient": [
        Algorithm("one_pass", channels.BiasActivationGradient, "masks and sums in one pass", channels.axes_fit)
    ],
    "batch_norm": [Algorithm("two_passes", batch_norm.BatchNorm, "shifted sums of parts, then y", channels.axes_fit)],
    "batch_norm_running": [
        Algorithm("one_pass", batch_norm.RunningBatchNorm, "a multiplication and an addition each", channels.axes_fit)
    ],
    "batch_norm_scale": [
        Algorithm("one_pass", batch_norm.RunningScale, "a root and a division for each channel", channels.axes_fit)
    ],
    "batch_norm_gradient": [
        Algorithm("two_passes", batch_norm.BatchNormGradient, "sums of parts, then dx", channels.axes_fit)
    ],
    "layer_norm": [Algorithm("rows", layer_norm.LayerNorm, "threads keep a row in registers", layer_norm.rows_fit)],
    "layer_norm_gradient": [
        Algorithm("rows", layer_norm.LayerNormGradient, "dx row by row, then sums of columns", layer_norm.rows_fit)
    ],
    "response_norm": [
        Algorithm(
            "windows", response_norm.ResponseNorm, "windows of channels, from the cache", response_norm.elements_fit
        )
    ],
    "response_norm_gradient": [
        Algorithm(
            "windows", response_norm.ResponseNormGradient, "the terms of its sums, then dx", response_norm.elements_fit
        )
    ],
    "softmax": [Algorithm("rows", softmax.Softmax, "a block for each row")],
    "log_softmax": [Algorithm("rows", softmax.LogSoftmax, "a block for each row")],
    "cross_entropy": [Algorithm("rows", softmax.CrossEntropy, "loss and softmax, a block for each row")],
}
