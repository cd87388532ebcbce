"""The registry's lists for the GPU: for each operation ONE ordered list of algorithms, as in ``algorithms.py``."""

from __future__ import annotations

from pycnn_kernels.algorithms import Algorithm
from pycnn_kernels.cuda import conv_implicit_gemm, softmax

_IMPLICIT_GEMM = "a product of matrices, gathered in slices in shared memory, sums in registers: for many channels"

CUDA_ALGORITHMS: dict[str, list[Algorithm]] = {
    "conv_forward": [
        Algorithm(
            "implicit_gemm",
            conv_implicit_gemm.ImplicitGemmForward,
            _IMPLICIT_GEMM,
            conv_implicit_gemm.implicit_gemm_supports,
        )
    ],
    "conv_input_gradient": [
        Algorithm(
            "implicit_gemm",
            conv_implicit_gemm.ImplicitGemmInputGradient,
            _IMPLICIT_GEMM,
            conv_implicit_gemm.implicit_gemm_supports_input_gradient,
        )
    ],
    "conv_weight_gradient": [
        Algorithm(
            "implicit_gemm",
            conv_implicit_gemm.ImplicitGemmWeightGradient,
            _IMPLICIT_GEMM,
            conv_implicit_gemm.implicit_gemm_supports,
        )
    ],
    "softmax": [Algorithm("rows", softmax.Softmax, "a block for each row")],
    "log_softmax": [Algorithm("rows", softmax.LogSoftmax, "a block for each row")],
    "cross_entropy": [Algorithm("rows", softmax.CrossEntropy, "loss and softmax, a block for each row")],
}
