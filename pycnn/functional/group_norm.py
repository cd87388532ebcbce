"""Normalisation of single samples: channel by channel, or groups of channels together."""

from __future__ import annotations

import math
from typing import Any

from pycnn import backend as backends
from pycnn.elementary import Broadcast
from pycnn.functional.arguments import apply, boolean, data_of, floating, integer, layout, number, widened
from pycnn.functional.batch_norm import (
    BatchNorm,
    BatchStatisticsNorm,
    RunningBatchNorm,
    batch_norm,
    channel_axis,
    refuse_read_only,
)
from pycnn.functional.loss_arguments import in_dtype, of_one_kind
from pycnn.functional.norm import LayerNorm, refuse_two_dtypes
from pycnn.interop.arrays import drop_in

#: Elements that the caches of a core hold, and the registers of a block on a GPU.
_SHORT_ROW = 8192


@drop_in
def instance_norm(
    input: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    data_format: str = "channels_first",
    backend: str | None = None,
) -> Any:
    """``(x - mean) / sqrt(variance + eps) * weight + bias`` for each channel of each sample, over its pixels.

    A batch normalisation of one image with N * C channels, weight and bias repeated for each sample: the kernel does
    all of it in its two passes. Without weight, bias and running statistics, small channels are the rows of a layer
    normalisation, which reads each once. Channels last costs a transposition there and one back.

    Args:
        input: (N, C, ...), or (N, ..., C) for "channels_last"; float32 or float64, or float16 or bfloat16, which are
            computed in float32 and rounded once.
        running_mean, running_var: (C,), or None, in the dtype of the input, or float32 beside float16 and bfloat16.
            They move in place towards the means over the samples of what is normalised by. Without ``use_input_stats``
            they are what is normalised by.
        weight, bias: (C,) or None, which stands for ones and zeros.
        use_input_stats: normalise by the statistics of the input.
        momentum: how much of the way the running statistics move.
        eps: is added to the variance.
        data_format: "channels_first" or "channels_last".
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        An array or a tensor of the shape and dtype of the input.

    Raises:
        TypeError: dtypes other than those above, or not the input's; running statistics that are tensors to be trained;
            a ``use_input_stats`` that is neither True nor False.
        ValueError: shapes that do not fit; running statistics that are missing where they are needed, one without the
            other, or not writable; a single pixel, which has no variance, where the statistics of the input are taken.

    Source: Ulyanov, Vedaldi and Lempitsky, "Instance normalization: the missing ingredient for fast stylization"
    (2016); ``torch.nn.functional.instance_norm``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.instance_norm.html

    >>> import numpy as np
    >>> instance_norm(np.array([[[1.0, 3.0], [20.0, 10.0]]]), eps=0.0)
    array([[[-1.,  1.],
            [ 1., -1.]]])
    """
    where, x = layout(data_format), floating("input", input)
    if not boolean("use_input_stats", use_input_stats):
        return batch_norm(x, running_mean, running_var, weight, bias, eps=eps, data_format=data_format)
    if x.ndim < 2:
        raise ValueError(f"input must have the axes (N, C, ...); received the shape {x.shape}")
    C = x.shape[channel_axis(x.ndim, where)]
    norm = BatchStatisticsNorm(running_mean, running_var, weight, bias, momentum, eps)
    scale, offset, running, numbers = norm.read(C, x)
    first = _channels_first(x) if where == "channels_last" else x
    N, pixels = x.shape[0], math.prod(first.shape[2:])
    if pixels == 1:
        raise ValueError(
            f"the statistics of the input need more than one pixel, which has no variance; received the shape {x.shape}"
        )
    for name, each in zip(("running_mean", "running_var"), running):
        refuse_read_only(name, each)
    if x.size == 0:
        return _of_nothing(x, scale, offset)
    if pixels <= _SHORT_ROW and scale is None and offset is None and running[0] is None:
        return _as_given(x, _of_rows(first, N * C, numbers.eps), first.shape, where)
    moving = [None if each is None else backends.of(each).xp.tile(widened(each), N) for each in running]
    y = apply(
        BatchNorm, widened(first).reshape(1, N * C, pixels), _repeated(scale, N), _repeated(offset, N),
        running=tuple(moving), layout="channels_first", relu=False, numbers=numbers,
    )  # fmt: skip
    for each, moved in zip(running, moving):
        if each is not None and moved is not None:
            each[...] = moved.reshape(N, C).mean(0).astype(each.dtype)
    return _as_given(x, y, first.shape, where)


def _of_nothing(x: Any, scale: Any, offset: Any) -> Any:
    """The result for an input without elements, on which the gradients of weight and bias, zeros, depend."""
    y, *others = of_one_kind([widened(each) for each in (x, scale, offset) if each is not None])
    y = y * 1
    for each in others:
        y = y + each.sum()
    return in_dtype(y, x.dtype)


def _repeated(per_channel: Any, samples: int) -> Any:
    """Numbers for each channel as numbers for each channel of each sample, in the dtype in which is computed."""
    if per_channel is None:
        return None
    one = widened(per_channel)
    return apply(Broadcast, one.reshape(1, -1), shape=(samples, one.size)).reshape(samples * one.size)


def _channels_first(x: Any) -> Any:
    return x.transpose(0, x.ndim - 1, *range(1, x.ndim - 1))


def _as_given(x: Any, y: Any, channels_first: tuple[int, ...], where: str) -> Any:
    """What was computed of an input, of this shape in channels first, in the input's layout and dtype."""
    y = y.reshape(channels_first)
    return in_dtype(y.transpose(0, *range(2, y.ndim), 1) if where == "channels_last" else y, x.dtype)


@drop_in
def group_norm(
    input: Any,
    num_groups: int,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    *,
    data_format: str = "channels_first",
    backend: str | None = None,
) -> Any:
    """``(x - mean) / sqrt(variance + eps) * weight + bias``, mean and variance over each group of channels of a sample.

    A group is a row of a layer normalisation, which reads it once; weight and bias of the channels follow in the single
    pass of a batch normalisation with the mean 0 and the variance 1. Channels last costs a transposition there and one
    back.

    Args:
        input: (N, C, ...), or (N, ..., C) for "channels_last"; float32 or float64, or float16 or bfloat16, which are
            computed in float32 and rounded once.
        num_groups: into how many groups of neighbours the channels are divided.
        weight, bias: (C,) or None, which stands for ones and zeros; in the dtype of the input, or float32 beside
            float16 and bfloat16.
        eps: is added to the variance.
        data_format: "channels_first" or "channels_last".
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        An array or a tensor of the shape and dtype of the input.

    Raises:
        TypeError: dtypes other than those above; a num_groups that is no integer, an eps that is no number.
        ValueError: shapes that do not fit; channels that are no multiple of the groups, or groups below 1; a single
            value for each group of the whole batch, which has no variance.

    Source: Wu and He, "Group normalization" (2018); ``torch.nn.functional.group_norm``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.group_norm.html

    >>> import numpy as np
    >>> group_norm(np.array([[1.0, 3.0, 20.0, 10.0]]), 2, eps=0.0)
    array([[-1.,  1.,  1., -1.]])
    """
    where, x = layout(data_format), floating("input", input)
    groups, eps = integer("num_groups", num_groups), number("eps", eps)
    if x.ndim < 2:
        raise ValueError(f"input must have the axes (N, C, ...); received the shape {x.shape}")
    C = x.shape[channel_axis(x.ndim, where)]
    if groups < 1 or C % groups:
        raise ValueError(f"num_groups must divide the {C} channels of the input; received {groups}")
    scale, offset, _, _ = BatchStatisticsNorm(None, None, weight, bias).read(C, x)
    refuse_two_dtypes(weight, bias)
    first = _channels_first(x) if where == "channels_last" else x
    N, pixels = x.shape[0], math.prod(first.shape[2:])
    if N * C // groups * pixels == 1:
        raise ValueError(f"a group needs more than one value, whose variance is taken; received the shape {x.shape}")
    if x.size == 0:
        return _of_nothing(x, scale, offset)
    y = _of_rows(first, N * groups, eps)
    if scale is not None or offset is not None:
        y = _of_channels(y.reshape(N, C, pixels), scale, offset)
    return _as_given(x, y, first.shape, where)


def _of_rows(x: Any, rows: int, eps: float) -> Any:
    """``(x - mean) / sqrt(variance + eps)`` of so many rows that x is, in the dtype in which is computed."""
    return apply(LayerNorm, widened(x).reshape(rows, x.size // rows), None, None, eps=eps)


def _of_channels(y: Any, scale: Any, offset: Any) -> Any:
    """``y * scale + offset`` for each channel of (N, C, pixels), in one pass."""
    xp, C = backends.of(data_of(y)).xp, y.shape[1]
    statistics = xp.zeros(C, y.dtype), xp.ones(C, y.dtype)
    return apply(RunningBatchNorm, y, scale, offset, running=statistics, layout="channels_first", relu=False, eps=0.0)
