"""Max unpooling."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pycnn import backend as backends
from pycnn.functional.arguments import apply, data_of, per_axis, tensor_or_array, without_batch
from pycnn.functional.planes import Put
from pycnn.functional.pool import batch_of
from pycnn.interop.arrays import drop_in
from pycnn.tensor import Tensor


@drop_in
def max_unpool1d(
    input: Any,
    indices: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
    *,
    data_format: str = "channels_first",
    backend: str | None = None,
) -> Any:
    """Signals (N, C, W) or (C, W) to where :func:`max_pool1d` found them; otherwise as :func:`max_unpool2d`.

    Source: ``torch.nn.functional.max_unpool1d``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.max_unpool1d.html

    >>> import numpy as np
    >>> max_unpool1d(np.array([[3.0, 5.0]]), np.array([[0, 3]]), 2)
    array([[3., 0., 0., 5.]])
    """
    return _max_unpool(1, input, indices, kernel_size, stride, padding, output_size, data_format)


@drop_in
def max_unpool2d(
    input: Any,
    indices: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
    *,
    data_format: str = "channels_first",
    backend: str | None = None,
) -> Any:
    """The elements of ``input`` where :func:`max_pool2d` found them, zeros elsewhere.

    Where windows overlapped, several elements may have one position: the last of them is kept.

    Args:
        input: x (N, C, H, W) or (C, H, W); channels last (N, H, W, C) or (H, W, C). float16, bfloat16, float32 or
            float64.
        indices: positions in the planes of the result, ``h * OW + w``, int64 in the shape of the input.
        kernel_size, stride, padding: those of the pooling; they give the size of the result,
            ``(H - 1) * stride - 2 * padding + kernel_size``, one integer or (vertical, horizontal).
        output_size: (OH, OW), or the shape of a batch, instead of that size: less than a stride from it.
        data_format: "channels_first" or "channels_last".
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        y (N, C, OH, OW), or in channels last (N, OH, OW, C).

    Raises:
        TypeError: the dtype is none of float16, bfloat16, float32 and float64; indices that are not int64; an
            ``output_size`` that is no tuple of integers.
        ValueError: indices of another shape, or outside of the result's planes; a result without pixels; an
            ``output_size`` of other axes, or further from the pooling's; a batch without channels.

    Source: ``torch.nn.functional.max_unpool2d``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.max_unpool2d.html

    >>> import numpy as np
    >>> max_unpool2d(np.array([[[7.0]]]), np.array([[[2]]]), 2)
    array([[[0., 0.],
            [7., 0.]]])
    """
    return _max_unpool(2, input, indices, kernel_size, stride, padding, output_size, data_format)


@drop_in
def max_unpool3d(
    input: Any,
    indices: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
    *,
    data_format: str = "channels_first",
    backend: str | None = None,
) -> Any:
    """Volumes (N, C, D, H, W) or (C, D, H, W) to where :func:`max_pool3d` found them; else as :func:`max_unpool2d`.

    Source: ``torch.nn.functional.max_unpool3d``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.max_unpool3d.html

    >>> import numpy as np
    >>> max_unpool3d(np.array([[[[7.0]]]]), np.array([[[[1]]]]), (1, 1, 2))
    array([[[[0., 7.]]]])
    """
    return _max_unpool(3, input, indices, kernel_size, stride, padding, output_size, data_format)


def _max_unpool(
    rank: int, input: Any, indices: Any, kernel_size: Any, stride: Any, padding: Any, output_size: Any, data_format: str
) -> Any:
    x, single, N, C, size = batch_of(input, rank, data_format)
    if C == 0 and not single:  # as in PyTorch: without a batch axis the channels are what may be empty
        raise ValueError(f"input must have at least one channel; received the shape {tuple(x.shape)}")
    out = _unpooled_size(rank, size, kernel_size, stride, padding, output_size, data_format)
    index = tensor_or_array("indices", indices)
    index = index.data if isinstance(index, Tensor) else index
    if index.dtype != np.int64:
        raise TypeError(f"indices must be int64, as the poolings give them; received {index.dtype}")
    index = index.reshape(1, *index.shape) if single and index.ndim == rank + 1 else index
    if index.shape != tuple(x.shape):
        raise ValueError(f"indices must have the shape of the input, {tuple(x.shape)}; received {index.shape}")
    pixels = math.prod(out)
    if index.size and (index.min() < 0 or index.max() >= pixels):
        raise ValueError(
            f"indices must be from 0 to {pixels - 1}, positions in planes of {' x '.join(map(str, out))}; "
            f"received {index.min()} to {index.max()}"
        )
    shape = (N, *out, C) if data_format == "channels_last" else (N, C, *out)
    index = backends.of(data_of(x)).asarray(index)
    settings = {"index": backends.of(index).xp.ascontiguousarray(index), "layout": data_format, "shape": shape}
    return without_batch(apply(Put, x, adds=False, **settings), single)


def _unpooled_size(
    rank: int, size: tuple[int, ...], kernel_size: Any, stride: Any, padding: Any, output_size: Any, data_format: str
) -> tuple[int, ...]:
    kernel = per_axis("kernel_size", kernel_size, rank, spread=False)
    steps = kernel if stride is None else per_axis("stride", stride, rank, spread=False)
    pads = per_axis("padding", padding, rank, least=-math.inf, spread=False)
    out = tuple((n - 1) * s - 2 * p + k for n, s, p, k in zip(size, steps, pads, kernel))
    if output_size is not None:
        out = _wanted_size(rank, out, steps, output_size, data_format)
    if min(out) < 1:
        raise ValueError(f"padding {pads} leaves nothing of the result: it would have the size {out}")
    return out


def _wanted_size(
    rank: int, usual: tuple[int, ...], steps: tuple[int, ...], output_size: Any, data_format: str
) -> tuple[int, ...]:
    """The size that a call wants, less than a step from the ``usual`` one: a pooling maps all these to the input's.

    Raises:
        TypeError: not a tuple of integers.
        ValueError: neither a size nor a shape, or one that the pooling does not map to the input's.
    """
    if not isinstance(output_size, tuple | list):
        raise TypeError(f"output_size must be a tuple of {rank} integers, or a shape; received {output_size!r}")
    wanted = tuple(output_size)
    if len(wanted) == rank + 2:
        wanted = wanted[1:-1] if data_format == "channels_last" else wanted[2:]
    if len(wanted) != rank:
        raise ValueError(
            f"output_size must have {rank} numbers, one for each axis, or be a shape of {rank + 2}; "
            f"received {output_size!r}"
        )
    wanted = per_axis("output_size", wanted, rank, least=-math.inf)
    for size, middle, step in zip(wanted, usual, steps):
        if not middle - step < size < middle + step:
            raise ValueError(
                f"output_size must be from {middle - step + 1} to {middle + step - 1} along an axis of this pooling; "
                f"received {output_size!r}"
            )
    return wanted
