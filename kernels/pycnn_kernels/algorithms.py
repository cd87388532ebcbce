"""The registry: for each backend and operation ONE ordered list of algorithms.

``auto`` takes the first of a list that supports the problem and suits it, so the order of a list is the rule of
choice; ``choice.py`` has the rule in full. The last entry of a list takes every problem that the operation has (windows
of max pooling have at most 2^24 elements; a convolution's padding, where it continues the image, has no more of it than
there is).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple, Protocol

from pycnn_kernels.cpu import (
    activation,
    batch_norm,
    batch_norm_pool,
    conv_depthwise,
    conv_direct,
    conv_few_channels,
    conv_few_filters,
    conv_fft,
    conv_grouped,
    conv_im2col,
    conv_kernel_rows,
    conv_pointwise,
    conv_pool,
    conv_pool_gradient,
    conv_winograd,
    conv_winograd_gradient,
    elementwise,
    layer_norm,
    loss,
    optimizer,
    planes,
    pool,
    rearrange,
    resample,
    response_norm,
    softmax,
    storage,
    winograd_tiling,
)
from pycnn_kernels.cuda.device import HOW_TO_INSTALL, CudaError


class Prepared(Protocol):
    """An algorithm made ready for one problem: tables, tuning, and the amount of workspace it needs.

    One that takes a part of its workspace from the pool of results, because its parts use the thread's own, has
    ``borrowed``: the bytes of each array that it takes.
    """

    workspace_bytes: int

    def run(self, *arguments: Any) -> None:
        """Compute. Arrays are given as addresses of contiguous, aligned memory that the plan has checked."""


def _everything(problem: Any) -> None:
    return None


class Algorithm(NamedTuple):
    """One way to do an operation.

    Attributes:
        name: what ``algorithm=`` calls it.
        prepare: makes it ready for a problem.
        supports: None for a problem that it can do, otherwise the reason why not.
        summary: one line on what it does and when it wins.
        suits: None for a problem that ``auto`` gives to it, otherwise the reason why a later one of the list is faster.
        cost: the expected time on one core, in multiply-adds of whole vectors at the full rate (see ``cpu/cost.py``);
            None where nobody needs to know.
        margin: where an expected time decides: ``auto`` gives a problem to it only if its cost is at most so many times
            the cost of each one behind it.
    """

    name: str
    prepare: Callable[[Any], Prepared]
    summary: str
    supports: Callable[[Any], str | None] = _everything
    suits: Callable[[Any], str | None] = _everything
    cost: Callable[[Any], float] | None = None
    margin: float | None = None


#: An expected time is off by a few per cent, often in the favour of the algorithm with more parts to forget.
_CLEARLY = 0.9
#: Transforms move more memory than the others, and lose more of it to neighbours.
_BY_FAR = 0.8

_DIRECT = "register tile over pixels x channels, no im2col buffer; channels first through a transposed workspace"
_WINOGRAD = "tiles of results: a quarter of the multiplications of a 3x3 kernel, at ten times the rounding error"
_WINOGRAD_4X4 = "F(4x4, 3x3) and its like along other axes: winograd's large tiles, by name"
_WINOGRAD_2X2 = "F(2x2, 3x3) and its like along other axes: winograd's small tiles, which round like direct sums"
_FFT = "products of spectra of overlapping tiles: for large kernels"
_POINTWISE = "one product of matrices, weights packed a panel at a time: for kernels of one element, in either layout"
_IM2COL = "windows as rows of a matrix, in blocks that stay in the cache: for many channels"
_DEPTHWISE = "channels in the lanes: for layers whose channels have kernels of their own"
_GROUPED = "channels of several groups in the lanes: for groups of few channels, and several filters for each channel"

ALGORITHMS: dict[tuple[str, str], list[Algorithm]] = {
    ("cpu", "conv_forward"): [
        Algorithm(
            "fft",
            conv_fft.FftForward,
            _FFT,
            conv_fft.fft_supports,
            conv_fft.fft_suits,
            conv_fft.fft_cost_forward,
            margin=_BY_FAR,
        ),
        Algorithm(
            "depthwise",
            conv_depthwise.DepthwiseForward,
            _DEPTHWISE,
            conv_depthwise.depthwise_supports,
            conv_depthwise.depthwise_suits,
            conv_depthwise.depthwise_cost_forward,
        ),
        Algorithm(
            "grouped",
            conv_grouped.GroupedForward,
            _GROUPED,
            conv_grouped.grouped_supports,
            conv_grouped.grouped_suits_forward,
            conv_grouped.grouped_cost_forward,
        ),
        Algorithm(
            "few_channels",
            conv_few_channels.FewChannelsForward,
            "pixels in the lanes, x as planes in the cache: for layers of few filters",
            conv_few_channels.few_channels_supports_forward,
            conv_few_channels.few_channels_suits,
            conv_few_channels.few_channels_cost_forward,
        ),
        Algorithm(
            "pointwise",
            conv_pointwise.PointwiseForward,
            _POINTWISE,
            conv_pointwise.pointwise_supports,
            conv_pointwise.pointwise_suits_forward,
            conv_pointwise.pointwise_cost_forward,
            margin=1.0,
        ),
        Algorithm(
            "winograd",
            conv_winograd.WinogradForward,
            _WINOGRAD,
            winograd_tiling.winograd_supports,
            cost=winograd_tiling.cost_of("forward"),
            margin=_CLEARLY,
        ),
        Algorithm(
            "winograd_4x4",
            conv_winograd.WinogradLargeForward,
            _WINOGRAD_4X4,
            winograd_tiling.sized_tiles_support,
            winograd_tiling.by_name,
            winograd_tiling.cost_of("forward", 0),
        ),
        Algorithm(
            "winograd_2x2",
            conv_winograd.WinogradSmallForward,
            _WINOGRAD_2X2,
            winograd_tiling.sized_tiles_support,
            winograd_tiling.by_name,
            winograd_tiling.cost_of("forward", 1),
        ),
        Algorithm(
            "im2col",
            conv_im2col.Im2colForward,
            _IM2COL,
            conv_im2col.im2col_supports,
            conv_im2col.im2col_suits_forward,
            conv_im2col.im2col_cost_forward,
            margin=_CLEARLY,
        ),
        Algorithm(
            "direct",
            conv_direct.DirectForward,
            _DIRECT,
            conv_direct.direct_supports,
            cost=conv_direct.direct_cost_forward,
        ),
    ],
    ("cpu", "conv_input_gradient"): [
        Algorithm(
            "fft",
            conv_fft.FftInputGradient,
            _FFT,
            conv_fft.fft_supports,
            conv_fft.fft_suits,
            conv_fft.fft_cost_input_gradient,
            margin=_BY_FAR,
        ),
        Algorithm(
            "depthwise",
            conv_depthwise.DepthwiseInputGradient,
            _DEPTHWISE,
            conv_depthwise.depthwise_supports,
            conv_depthwise.depthwise_suits,
            conv_depthwise.depthwise_cost_input_gradient,
        ),
        Algorithm(
            "grouped",
            conv_grouped.GroupedInputGradient,
            _GROUPED,
            conv_grouped.grouped_supports_input_gradient,
            conv_grouped.grouped_suits_input_gradient,
            conv_grouped.grouped_cost_input_gradient,
        ),
        Algorithm(
            "few_channels",
            conv_few_channels.FewChannelsInputGradient,
            "pixels in the lanes, dy as planes in the cache: for the first layer of a network",
            conv_few_channels.few_channels_supports_input_gradient,
            conv_few_channels.few_channels_suits,
            conv_few_channels.few_channels_cost_input_gradient,
        ),
        Algorithm(
            "pointwise",
            conv_pointwise.PointwiseInputGradient,
            _POINTWISE,
            conv_pointwise.pointwise_supports,
            conv_pointwise.pointwise_suits_input_gradient,
            conv_pointwise.pointwise_cost_input_gradient,
            margin=1.0,
        ),
        Algorithm(
            "winograd",
            conv_winograd.WinogradInputGradient,
            _WINOGRAD,
            winograd_tiling.winograd_supports_gradient,
            cost=winograd_tiling.cost_of("input_gradient"),
            margin=_CLEARLY,
        ),
        Algorithm(
            "winograd_4x4",
            conv_winograd.WinogradLargeInputGradient,
            _WINOGRAD_4X4,
            winograd_tiling.sized_tiles_support_gradient,
            winograd_tiling.by_name,
            winograd_tiling.cost_of("input_gradient", 0),
        ),
        Algorithm(
            "winograd_2x2",
            conv_winograd.WinogradSmallInputGradient,
            _WINOGRAD_2X2,
            winograd_tiling.sized_tiles_support_gradient,
            winograd_tiling.by_name,
            winograd_tiling.cost_of("input_gradient", 1),
        ),
        Algorithm(
            "im2col",
            conv_im2col.Im2colInputGradient,
            _IM2COL,
            conv_im2col.im2col_supports,
            conv_im2col.im2col_suits_input_gradient,
            conv_im2col.im2col_cost_input_gradient,
            margin=_CLEARLY,
        ),
        Algorithm(
            "direct",
            conv_direct.DirectInputGradient,
            _DIRECT,
            conv_direct.direct_supports,
            cost=conv_direct.direct_cost_input_gradient,
        ),
    ],
    ("cpu", "conv_weight_gradient"): [
        Algorithm(
            "fft",
            conv_fft.FftWeightGradient,
            _FFT,
            conv_fft.fft_supports,
            conv_fft.fft_suits,
            conv_fft.fft_cost_weight_gradient,
            margin=_BY_FAR,
        ),
        Algorithm(
            "depthwise",
            conv_depthwise.DepthwiseWeightGradient,
            _DEPTHWISE,
            conv_depthwise.depthwise_supports,
            conv_depthwise.depthwise_suits,
            conv_depthwise.depthwise_cost_weight_gradient,
        ),
        Algorithm(
            "grouped",
            conv_grouped.GroupedWeightGradient,
            _GROUPED,
            conv_grouped.grouped_supports,
            cost=conv_grouped.grouped_cost_weight_gradient,
        ),
        Algorithm(
            "kernel_rows",
            conv_kernel_rows.KernelRowsWeightGradient,
            "a row of the kernel in the lanes, x and dy as they lie: for first layers of few filters",
            conv_kernel_rows.kernel_rows_supports,
            conv_kernel_rows.kernel_rows_suits,
            conv_kernel_rows.kernel_rows_cost,
            _CLEARLY,
        ),
        Algorithm(
            "few_filters",
            conv_few_filters.FewFiltersWeightGradient,
            "pixels in the lanes, x and dy as planes in the cache: for layers of few filters",
            conv_few_filters.few_filters_supports,
            conv_few_filters.few_filters_suits,
            conv_few_filters.few_filters_cost,
            _CLEARLY,
        ),
        Algorithm(
            "pointwise",
            conv_pointwise.PointwiseWeightGradient,
            _POINTWISE,
            conv_pointwise.pointwise_supports,
            conv_pointwise.pointwise_suits,
            conv_pointwise.pointwise_cost_weight_gradient,
            margin=1.0,
        ),
        Algorithm(
            "winograd",
            conv_winograd_gradient.WinogradWeightGradient,
            _WINOGRAD,
            winograd_tiling.winograd_supports_gradient,
            cost=winograd_tiling.cost_of("weight_gradient"),
            margin=_CLEARLY,
        ),
        Algorithm(
            "winograd_4x4",
            conv_winograd_gradient.WinogradLargeWeightGradient,
            _WINOGRAD_4X4,
            winograd_tiling.sized_tiles_support_gradient,
            winograd_tiling.by_name,
            winograd_tiling.cost_of("weight_gradient", 0),
        ),
        Algorithm(
            "winograd_2x2",
            conv_winograd_gradient.WinogradSmallWeightGradient,
            _WINOGRAD_2X2,
            winograd_tiling.sized_tiles_support_gradient,
            winograd_tiling.by_name,
            winograd_tiling.cost_of("weight_gradient", 1),
        ),
        Algorithm(
            "im2col",
            conv_im2col.Im2colWeightGradient,
            _IM2COL,
            conv_im2col.im2col_supports,
            conv_im2col.im2col_suits_weight_gradient,
            conv_im2col.im2col_cost_weight_gradient,
            margin=_CLEARLY,
        ),
        Algorithm(
            "direct",
            conv_direct.DirectWeightGradient,
            _DIRECT,
            conv_direct.direct_supports,
            cost=conv_direct.direct_cost_weight_gradient,
        ),
    ],
    ("cpu", "bias_activation_gradient"): [
        Algorithm("one_pass", elementwise.BiasActivationGradient, "masks and sums in one pass")
    ],
    ("cpu", "batch_norm"): [
        Algorithm("two_passes", batch_norm.BatchNorm, "statistics of parts that stay in the cache, then y")
    ],
    ("cpu", "batch_norm_running"): [
        Algorithm("one_pass", batch_norm.RunningBatchNorm, "a multiplication and an addition each")
    ],
    ("cpu", "batch_norm_scale"): [
        Algorithm("one_pass", batch_norm.RunningScale, "a root and a division for each channel")
    ],
    ("cpu", "batch_norm_fold"): [Algorithm("one_pass", batch_norm.RunningFold, "a factor and a bias for each channel")],
    ("cpu", "batch_norm_gradient"): [
        Algorithm("two_passes", batch_norm.BatchNormGradient, "sums of parts in their order, then dx")
    ],
    ("cpu", "batch_norm_max_pool"): [
        Algorithm(
            "gather",
            batch_norm_pool.BatchNormMaxPool,
            "statistics first, then each element on its way to the maximum",
            pool.positions_fit,
        )
    ],
    ("cpu", "batch_norm_max_pool_gradient"): [
        Algorithm(
            "gather",
            batch_norm_pool.BatchNormMaxPoolGradient,
            "sums over the maxima, then dx",
            batch_norm_pool.gradient_supports,
        )
    ],
    ("cpu", "conv_max_pool"): [
        Algorithm(
            "one_pass",
            conv_pool.OnePass,
            "bands that one core convolves and pools: unless each would read many weights anew",
            conv_pool.one_pass_supports,
            cost=conv_pool.one_pass_cost,
            margin=1.0,
        ),
        Algorithm(
            "two_passes",
            conv_pool.TwoPasses,
            "all of the convolution, then all of the pooling",
            cost=conv_pool.two_passes_cost,
        ),
    ],
    ("cpu", "conv_max_pool_weight_gradient"): [
        Algorithm(
            "one_pass",
            conv_pool_gradient.OnePassGradient,
            "bands whose gradient one core spreads out and multiplies: where direct sums are about as fast as others",
            conv_pool_gradient.one_pass_gradient_supports,
            cost=conv_pool_gradient.one_pass_gradient_cost,
            margin=1.0,
        ),
        Algorithm(
            "two_passes",
            conv_pool_gradient.TwoPassesGradient,
            "all of the gradient in front of the pooling, then the convolution's own weight gradient",
            cost=conv_pool_gradient.two_passes_gradient_cost,
        ),
    ],
    ("cpu", "max_pool"): [Algorithm("gather", pool.MaxPool, "one row of y a piece", pool.positions_fit)],
    ("cpu", "max_pool_gradient"): [
        Algorithm("gather", pool.MaxPoolGradient, "compares kept positions, no atomics", pool.positions_fit)
    ],
    ("cpu", "stochastic_pool"): [
        Algorithm("gather", pool.StochasticPool, "one row of y a piece, each window twice", pool.positions_fit)
    ],
    ("cpu", "fractional_max_pool"): [
        Algorithm("planes", planes.FractionalMaxPool, "plane by plane, whose windows are its own")
    ],
    ("cpu", "put"): [Algorithm("planes", planes.Put, "plane by plane, in the order of the pixels")],
    ("cpu", "put_sums"): [Algorithm("planes", planes.PutSums, "plane by plane, in the order of the pixels")],
    ("cpu", "pick"): [Algorithm("planes", planes.Pick, "plane by plane")],
    ("cpu", "rearrange"): [Algorithm("rows", rearrange.Rearrange, "row by row, neighbours at once")],
    ("cpu", "rearrange_gradient"): [
        Algorithm("images", rearrange.RearrangeGradient, "image by image, in the order of the rows")
    ],
    ("cpu", "resample"): [Algorithm("bands", resample.Resample, "along the width into lines in the cache, then down")],
    ("cpu", "resample_gradient"): [
        Algorithm("bands", resample.ResampleGradient, "the same with the transposed weights")
    ],
    ("cpu", "norm_pool"): [Algorithm("gather", pool.NormPool, "one row of y a piece")],
    ("cpu", "average_pool"): [Algorithm("gather", pool.AveragePool, "one row of y a piece")],
    ("cpu", "average_pool_gradient"): [Algorithm("gather", pool.AveragePoolGradient, "one row of dx a piece")],
    ("cpu", "softmax"): [Algorithm("rows", softmax.Softmax, "a row stays in the cache")],
    ("cpu", "log_softmax"): [Algorithm("rows", softmax.LogSoftmax, "a row stays in the cache")],
    ("cpu", "cross_entropy"): [Algorithm("rows", softmax.CrossEntropy, "loss and softmax in one pass")],
    ("cpu", "layer_norm"): [Algorithm("rows", layer_norm.LayerNorm, "a row stays in the cache")],
    ("cpu", "layer_norm_gradient"): [
        Algorithm("rows", layer_norm.LayerNormGradient, "all gradients while a row is in the cache")
    ],
    ("cpu", "rms_norm"): [Algorithm("rows", layer_norm.RmsNorm, "a row stays in the cache")],
    ("cpu", "rms_norm_gradient"): [
        Algorithm("rows", layer_norm.RmsNormGradient, "all gradients while a row is in the cache")
    ],
    ("cpu", "response_norm"): [
        Algorithm("windows", response_norm.ResponseNorm, "windows of channels, channel by channel")
    ],
    ("cpu", "response_norm_gradient"): [
        Algorithm("windows", response_norm.ResponseNormGradient, "all channels of some pixels in the cache")
    ],
    ("cpu", "activation"): [Algorithm("one_pass", activation.Activation, "some thousand elements a piece, in vectors")],
    ("cpu", "activation_gradient"): [
        Algorithm("one_pass", activation.Activation, "the slope computed anew from x, in vectors")
    ],
    ("cpu", "loss"): [Algorithm("one_pass", loss.Loss, "some thousand elements a piece, in vectors")],
    ("cpu", "loss_sum"): [
        Algorithm("one_pass", loss.LossSum, "losses that stay in the cache, added up piece by piece")
    ],
    ("cpu", "loss_gradient"): [Algorithm("one_pass", loss.LossGradient, "the slope computed anew, in vectors")],
    ("cpu", "widen"): [Algorithm("one_pass", storage.widening, "float16 or bfloat16 to float32, a vector at a time")],
    ("cpu", "narrow"): [Algorithm("one_pass", storage.narrowing, "float32 to float16 or bfloat16, rounded to nearest")],
    ("cpu", "updates"): [Algorithm("one_pass", optimizer.Updates, "all parameters and their state in one pass")],
}


def algorithms_for(backend: str, operation: str) -> list[Algorithm]:
    """The ordered list of algorithms of an operation.

    Raises:
        ValueError: the backend has no such operation.
        CudaError: the backend is "cuda", and what it needs is not installed.
    """
    if backend == "cuda":
        _register_cuda()
    found = ALGORITHMS.get((backend, operation))
    if found is None:
        known = ", ".join(sorted(name for place, name in ALGORITHMS if place == backend)) or "no operations"
        raise ValueError(f"backend {backend!r} has {known}; received {operation!r}")
    return found


@cache
def _register_cuda() -> None:
    """Add the algorithms of the GPU: late, because their modules need packages that the CPU does not."""
    if importlib.util.find_spec("numba_cuda") is None:
        raise CudaError(f"backend 'cuda' needs the package numba-cuda, which is not installed; {HOW_TO_INSTALL}")
    from pycnn_kernels.cuda.algorithms import CUDA_ALGORITHMS

    ALGORITHMS.update({("cuda", operation): found for operation, found in CUDA_ALGORITHMS.items()})
