"""The registry's lists for the GPU: for each operation ONE ordered list of algorithms, as in ``algorithms.py``."""

from __future__ import annotations

from pycnn_kernels.algorithms import Algorithm
from pycnn_kernels.cuda import (
    activation,
    batch_norm,
    batch_norm_pool,
    channels,
    conv_depthwise,
    conv_direct,
    conv_im2col,
    conv_implicit_gemm,
    conv_pool,
    conv_winograd,
    layer_norm,
    loss,
    optimizer,
    planes,
    pool,
    rearrange,
    resample,
    response_norm,
    softmax,
)

_CELLS = "a thread for each cell of elements that lie in the same windows"
_DEPTHWISE = "rows of x in registers for results one below the other: for channels that have kernels of their own"
_DIRECT = "a tile of results in each thread's registers, no workspace for pixels: takes everything"
_IMPLICIT_GEMM = "a product of matrices, gathered in slices in shared memory, sums in registers: for many channels"
_IM2COL = "windows as rows of a matrix in the workspace, then a product: for many channels with any way of padding"
_ONE_PASS = "all parameters and their state in one launch"
_PLANES = "a warp for each plane, 32 pixels at a time in their order"
_RESULTS = "a thread for each result"
_WINOGRAD_2X2 = "F(2x2, 3x3): 4 multiplications for 9, rounds like direct sums: for many channels"
_WINOGRAD_4X4 = "F(4x4, 3x3): 9 multiplications for 36, at ten times the rounding error, by name"
_WINDOWS = "a thread for each window"

CUDA_ALGORITHMS: dict[str, list[Algorithm]] = {
    "conv_forward": [
        Algorithm("depthwise", conv_depthwise.DepthwiseForward, _DEPTHWISE, conv_depthwise.depthwise_supports),
        Algorithm(
            "winograd_2x2",
            conv_winograd.SmallTilesForward,
            _WINOGRAD_2X2,
            conv_winograd.winograd_supports,
            conv_winograd.small_tiles_suit,
        ),
        Algorithm(
            "winograd_4x4",
            conv_winograd.LargeTilesForward,
            _WINOGRAD_4X4,
            conv_winograd.winograd_supports,
            conv_winograd.by_name,
        ),
        Algorithm(
            "implicit_gemm",
            conv_implicit_gemm.ImplicitGemmForward,
            _IMPLICIT_GEMM,
            conv_implicit_gemm.implicit_gemm_supports,
            conv_implicit_gemm.implicit_gemm_suits,
        ),
        Algorithm(
            "im2col",
            conv_im2col.Im2colForward,
            _IM2COL,
            conv_im2col.im2col_supports,
            conv_im2col.im2col_suits,
        ),
        Algorithm("direct", conv_direct.DirectForward, _DIRECT, conv_direct.direct_supports),
    ],
    "conv_input_gradient": [
        Algorithm("depthwise", conv_depthwise.DepthwiseInputGradient, _DEPTHWISE, conv_depthwise.depthwise_supports),
        Algorithm(
            "winograd_2x2",
            conv_winograd.SmallTilesInputGradient,
            _WINOGRAD_2X2,
            conv_winograd.winograd_supports,
            conv_winograd.small_tiles_suit,
        ),
        Algorithm(
            "winograd_4x4",
            conv_winograd.LargeTilesInputGradient,
            _WINOGRAD_4X4,
            conv_winograd.winograd_supports,
            conv_winograd.by_name,
        ),
        Algorithm(
            "implicit_gemm",
            conv_implicit_gemm.ImplicitGemmInputGradient,
            _IMPLICIT_GEMM,
            conv_implicit_gemm.implicit_gemm_supports_input_gradient,
            conv_implicit_gemm.implicit_gemm_suits_input_gradient,
        ),
        Algorithm(
            "im2col",
            conv_im2col.Im2colInputGradient,
            _IM2COL,
            conv_im2col.im2col_supports,
            conv_im2col.im2col_suits_input_gradient,
        ),
        Algorithm("direct", conv_direct.DirectInputGradient, _DIRECT, conv_direct.direct_supports),
    ],
    "conv_weight_gradient": [
        Algorithm("depthwise", conv_depthwise.DepthwiseWeightGradient, _DEPTHWISE, conv_depthwise.depthwise_supports),
        Algorithm(
            "winograd_2x2",
            conv_winograd.SmallTilesWeightGradient,
            _WINOGRAD_2X2,
            conv_winograd.winograd_supports,
            conv_winograd.small_tiles_suit,
        ),
        Algorithm(
            "winograd_4x4",
            conv_winograd.LargeTilesWeightGradient,
            _WINOGRAD_4X4,
            conv_winograd.winograd_supports,
            conv_winograd.by_name,
        ),
        Algorithm(
            "implicit_gemm",
            conv_implicit_gemm.ImplicitGemmWeightGradient,
            _IMPLICIT_GEMM,
            conv_implicit_gemm.implicit_gemm_supports,
            conv_implicit_gemm.implicit_gemm_suits,
        ),
        Algorithm(
            "im2col",
            conv_im2col.Im2colWeightGradient,
            _IM2COL,
            conv_im2col.im2col_supports,
            conv_im2col.im2col_suits,
        ),
        Algorithm("direct", conv_direct.DirectWeightGradient, _DIRECT, conv_direct.direct_supports),
    ],
    "conv_max_pool": [Algorithm("two_passes", conv_pool.TwoPasses, "all of the convolution, then all of the pooling")],
    "conv_max_pool_weight_gradient": [
        Algorithm(
            "two_passes",
            conv_pool.TwoPassesGradient,
            "all of the gradient in front of the pooling, then the convolution's own weight gradient",
        )
    ],
    "max_pool": [Algorithm("gather", pool.MaxPool, _WINDOWS, pool.max_supports)],
    "max_pool_gradient": [Algorithm("gather", pool.MaxPoolGradient, _CELLS, pool.max_supports)],
    "average_pool": [Algorithm("gather", pool.AveragePool, _WINDOWS, pool.supports)],
    "average_pool_gradient": [Algorithm("gather", pool.AveragePoolGradient, _CELLS, pool.supports)],
    "norm_pool": [Algorithm("gather", pool.NormPool, _WINDOWS, pool.supports)],
    "stochastic_pool": [Algorithm("gather", pool.StochasticPool, _WINDOWS, pool.max_supports)],
    "fractional_max_pool": [Algorithm("planes", planes.FractionalMaxPool, _WINDOWS, planes.fractional_supports)],
    "rearrange": [Algorithm("elements", rearrange.Rearrange, _RESULTS, rearrange.supports)],
    "rearrange_gradient": [Algorithm("elements", resample.RearrangeGradient, _RESULTS, rearrange.supports)],
    "resample": [Algorithm("elements", resample.Resample, _RESULTS, resample.supports)],
    "resample_gradient": [Algorithm("elements", resample.ResampleGradient, _RESULTS, resample.supports)],
    "put": [Algorithm("planes", planes.Put, _PLANES, planes.supports)],
    "put_sums": [Algorithm("planes", planes.PutSums, _PLANES, planes.supports)],
    "pick": [Algorithm("planes", planes.Pick, _RESULTS, planes.supports)],
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
    "batch_norm_fold": [
        Algorithm("one_pass", batch_norm.RunningFold, "a factor and a bias for each channel", channels.axes_fit)
    ],
    "batch_norm_gradient": [
        Algorithm("two_passes", batch_norm.BatchNormGradient, "sums of parts, then dx", channels.axes_fit)
    ],
    "batch_norm_max_pool": [
        Algorithm("in_turn", batch_norm_pool.BatchNormMaxPool, "the normalisation, then the pooling", pool.max_supports)
    ],
    "batch_norm_max_pool_gradient": [
        Algorithm(
            "in_turn",
            batch_norm_pool.BatchNormMaxPoolGradient,
            "the pooling's gradient, then the normalisation's",
            pool.max_supports,
        )
    ],
    "layer_norm": [Algorithm("rows", layer_norm.LayerNorm, "threads keep a row in registers", layer_norm.rows_fit)],
    "layer_norm_gradient": [
        Algorithm("rows", layer_norm.LayerNormGradient, "dx row by row, then sums of columns", layer_norm.rows_fit)
    ],
    "rms_norm": [Algorithm("rows", layer_norm.RmsNorm, "threads keep a row in registers", layer_norm.rows_fit)],
    "rms_norm_gradient": [
        Algorithm("rows", layer_norm.RmsNormGradient, "dx row by row, then sums of columns", layer_norm.rows_fit)
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
    "activation": [Algorithm("one_pass", activation.Activation, "four elements a thread", activation.elements_fit)],
    "activation_gradient": [
        Algorithm("one_pass", activation.Activation, "the slope computed anew from x", activation.elements_fit)
    ],
    "updates": [Algorithm("one_pass", optimizer.Updates, _ONE_PASS, optimizer.updates_supported)],
    "loss": [Algorithm("one_pass", loss.Loss, "four elements a thread", loss.elements_fit)],
    "loss_sum": [Algorithm("one_pass", loss.LossSum, "sums of blocks, then theirs", loss.elements_fit)],
    "loss_gradient": [Algorithm("one_pass", loss.LossGradient, "the slope computed anew", loss.elements_fit)],
}
