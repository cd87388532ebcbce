"""The registry's lists for the GPU: for each operation ONE ordered list of algorithms, as in ``algorithms.py``."""

from __future__ import annotations

from pycnn_kernels.algorithms import Algorithm
from pycnn_kernels.cuda import conv_depthwise, conv_direct, softmax

_DEPTHWISE = "rows of x in registers for results one below the other: for channels that have kernels of their own"
_DIRECT = "a tile of results in each thread's registers, no workspace for pixels: takes everything"

CUDA_ALGORITHMS: dict[str, list[Algorithm]] = {
    "conv_forward": [
        Algorithm("depthwise", conv_depthwise.DepthwiseForward, _DEPTHWISE, conv_depthwise.depthwise_supports),
        Algorithm("direct", conv_direct.DirectForward, _DIRECT, conv_direct.direct_supports),
    ],
    "conv_input_gradient": [
        Algorithm("depthwise", conv_depthwise.DepthwiseInputGradient, _DEPTHWISE, conv_depthwise.depthwise_supports),
        Algorithm("direct", conv_direct.DirectInputGradient, _DIRECT, conv_direct.direct_supports),
    ],
    "conv_weight_gradient": [
        Algorithm("depthwise", conv_depthwise.DepthwiseWeightGradient, _DEPTHWISE, conv_depthwise.depthwise_supports),
        Algorithm("direct", conv_direct.DirectWeightGradient, _DIRECT, conv_direct.direct_supports),
    ],
    "softmax": [Algorithm("rows", softmax.Softmax, "a block for each row")],
    "log_softmax": [Algorithm("rows", softmax.LogSoftmax, "a block for each row")],
    "cross_entropy": [Algorithm("rows", softmax.CrossEntropy, "loss and softmax, a block for each row")],
}
