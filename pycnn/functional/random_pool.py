"""Pooling that draws: mixed, stochastic and fractional max pooling."""

from __future__ import annotations

from typing import Any

import numpy as np

from pycnn import backend as backends
from pycnn import random
from pycnn.autograd import Function
from pycnn.backend import plan_on
from pycnn.elementary import Select
from pycnn.functional.activation import relu
from pycnn.functional.arguments import (
    apply,
    boolean,
    data_of,
    floating,
    fraction,
    layout,
    one_of,
    per_axis,
    rounded,
    triple,
    widened,
    without_batch,
)
from pycnn.functional.planes import Put
from pycnn.functional.pool import AveragePool, FoundGradient, MaxPool, batch_of, windows_kept, windows_of_call
from pycnn.interop.arrays import drop_in
from pycnn.tensor import Tensor
from pycnn_kernels.problem import DTYPE_NAMES, FractionalPoolProblem, PoolProblem

Grads = tuple[Tensor | None, ...]


class StochasticPool(Function):
    """An element of each window, drawn with the probability of its share of the positive ones' sum."""

    reads = ()
    uses_numpy = False

    def forward(self, x: np.ndarray, *, problem: PoolProblem) -> np.ndarray:
        self.problem = problem
        uniform = backends.of(x).asarray(_uniform(problem.index_shape, problem.dtype))
        y, self.index = plan_on(x, "stochastic_pool", problem).run(x, uniform)
        return y

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        return (FoundGradient.apply(dy, problem=self.problem, index=self.index),)


class FractionalMaxPool(Function):
    """The greatest of each window, and its position in the input's plane."""

    reads = ()
    uses_numpy = False
    outputs = 2

    def forward(
        self, x: np.ndarray, *, problem: FractionalPoolProblem, starts: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        self.layout, self.shape = problem.layout, x.shape
        y, self.index = plan_on(x, "fractional_max_pool", problem).run(x, starts)
        return y, self.index

    def backward(self, dy: Tensor | None, _: Tensor | None) -> Grads:  # type: ignore[override]
        if dy is None:
            return (None,)
        return (Put.apply(dy, index=self.index, layout=self.layout, shape=self.shape, adds=True),)


@drop_in
def mixed_pool1d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    *,
    part: float | None = None,
    drawn_per: str = "call",
    training: bool = True,
    data_format: str = "channels_first",
    backend: str | None = None,
) -> Any:
    """Mixed pooling of signals (N, C, W) or (C, W); otherwise as :func:`mixed_pool2d`.

    Raises:
        TypeError, ValueError: as :func:`mixed_pool2d`.

    Source: that of :func:`mixed_pool2d`.

    >>> import numpy as np
    >>> mixed_pool1d(np.array([[3.0, 1.0, 2.0, 5.0]]), 2, part=0.5)
    array([[2.5 , 4.25]])
    """
    settings = (part, drawn_per, training, data_format)
    return _mixed_pool(1, input, kernel_size, stride, padding, ceil_mode, *settings)


@drop_in
def mixed_pool2d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    *,
    part: float | None = None,
    drawn_per: str = "call",
    training: bool = True,
    data_format: str = "channels_first",
    backend: str | None = None,
) -> Any:
    """Mixed pooling: ``part * max + (1 - part) * mean`` of each window.

    Args:
        input, kernel_size, stride, padding, ceil_mode, data_format: as for :func:`max_pool2d`. Padding is neither
            the greatest nor counted.
        part: of the maximum, in [0, 1]. None while training draws 0 or 1, both as likely, from
            :func:`pycnn.random.generator`; otherwise it takes their mean, 1/2.
        drawn_per: what is drawn for: "call" or "window".
        training: whether to draw.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        y (N, C, OH, OW), or in channels last (N, OH, OW, C).

    Raises:
        TypeError: the dtype is none of float16, bfloat16, float32 and float64; the part is no number;
            ``training`` is neither True nor False.
        ValueError: a window that does not fit the padded input, padding of more than half a window; a part
            outside [0, 1].

    Source: Yu et al., "Mixed Pooling for Convolutional Neural Networks", RSKT 2014.

    >>> import numpy as np
    >>> mixed_pool2d(np.arange(16.0).reshape(1, 4, 4), 2, part=0.5)
    array([[[ 3.75,  5.75],
            [11.75, 13.75]]])
    """
    settings = (part, drawn_per, training, data_format)
    return _mixed_pool(2, input, kernel_size, stride, padding, ceil_mode, *settings)


@drop_in
def mixed_pool3d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    *,
    part: float | None = None,
    drawn_per: str = "call",
    training: bool = True,
    data_format: str = "channels_first",
    backend: str | None = None,
) -> Any:
    """Mixed pooling of volumes (N, C, D, H, W) or (C, D, H, W); otherwise as :func:`mixed_pool2d`.

    Raises:
        TypeError, ValueError: as :func:`mixed_pool2d`.

    Source: that of :func:`mixed_pool2d`.

    >>> import numpy as np
    >>> mixed_pool3d(np.arange(8.0).reshape(1, 2, 2, 2), 2, part=0.5)
    array([[[[5.25]]]])
    """
    settings = (part, drawn_per, training, data_format)
    return _mixed_pool(3, input, kernel_size, stride, padding, ceil_mode, *settings)


@drop_in
def stochastic_pool1d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    *,
    training: bool = True,
    data_format: str = "channels_first",
    backend: str | None = None,
) -> Any:
    """Stochastic pooling of signals (N, C, W) or (C, W); otherwise as :func:`stochastic_pool2d`.

    Raises:
        TypeError, ValueError: as :func:`stochastic_pool2d`.

    Source: that of :func:`stochastic_pool2d`.

    >>> import numpy as np
    >>> stochastic_pool1d(np.array([[3.0, 1.0, 0.0, 5.0]]), 2, training=False)
    array([[2.5, 5. ]])
    """
    return _stochastic_pool(1, input, kernel_size, stride, padding, ceil_mode, training, data_format)


@drop_in
def stochastic_pool2d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    *,
    training: bool = True,
    data_format: str = "channels_first",
    backend: str | None = None,
) -> Any:
    """An element of each window, drawn with a probability in proportion to itself; otherwise their weighted mean.

    For activations that are not negative. Negative elements count as zeros: they are never drawn, and a window without
    a positive element gives 0.

    Args:
        input, kernel_size, stride, padding, ceil_mode, data_format: as for :func:`max_pool2d`.
        training: True draws from :func:`pycnn.random.generator`; False gives the expected value,
            ``sum of a**2 / sum of a``.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        y (N, C, OH, OW), or in channels last (N, OH, OW, C).

    Raises:
        TypeError: the dtype is none of float16, bfloat16, float32 and float64, or ``training`` neither True nor
            False.
        ValueError: a window that does not fit the padded input, padding of more than half a window.

    Source: Zeiler and Fergus, "Stochastic Pooling for Regularization of Deep Convolutional Neural Networks", ICLR 2013.

    >>> import numpy as np
    >>> stochastic_pool2d(np.array([[[1.0, 0.0], [0.0, 3.0]]]), 2, training=False)
    array([[[2.5]]])
    """
    return _stochastic_pool(2, input, kernel_size, stride, padding, ceil_mode, training, data_format)


@drop_in
def stochastic_pool3d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    *,
    training: bool = True,
    data_format: str = "channels_first",
    backend: str | None = None,
) -> Any:
    """Stochastic pooling of volumes (N, C, D, H, W) or (C, D, H, W); otherwise as :func:`stochastic_pool2d`.

    Raises:
        TypeError, ValueError: as :func:`stochastic_pool2d`.

    Source: that of :func:`stochastic_pool2d`.

    >>> import numpy as np
    >>> stochastic_pool3d(np.full((1, 2, 2, 2), 4.0), 2)
    array([[[[4.]]]])
    """
    return _stochastic_pool(3, input, kernel_size, stride, padding, ceil_mode, training, data_format)


@drop_in
def fractional_max_pool2d(
    input: Any,
    kernel_size: Any,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    _random_samples: Any = None,
    *,
    data_format: str = "channels_first",
    backend: str | None = None,
) -> Any:
    """The greatest of overlapping windows at steps that are drawn, between a floor and a ceiling of the wanted step.

    Each plane has windows of its own.

    Args:
        input: x (N, C, H, W) or (C, H, W); channels last (N, H, W, C) or (H, W, C). float32 or float64; or
            float16 or bfloat16.
        kernel_size: size of a window, one integer or (vertical, horizontal).
        output_size: (OH, OW), or one integer for both.
        output_ratio: without it, the part of the input's size, from 0 to 1: one number or one for each axis.
        return_indices: also return where each maximum lies in its plane, ``h * W + w``, int64.
        _random_samples: (N, C, 2), numbers in [0, 1) for the windows along w and along h of each plane, of the
            input's dtype; drawn from :func:`pycnn.random.generator` by default.
        data_format: "channels_first" or "channels_last".
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        y (N, C, OH, OW), or in channels last (N, OH, OW, C); with ``return_indices`` a pair.

    Raises:
        TypeError: the dtype is none of float16, bfloat16, float32 and float64; samples of another dtype.
        ValueError: neither size nor ratio; windows that do not fit the input; samples of another shape, or outside
            of [0, 1); a batch without channels.

    Source: Graham, "Fractional Max-Pooling", 2014, https://arxiv.org/abs/1412.6071, the pseudorandom overlapping kind;
    ``torch.nn.functional.fractional_max_pool2d``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.fractional_max_pool2d.html

    >>> import numpy as np
    >>> x = np.arange(25.0).reshape(1, 5, 5)
    >>> fractional_max_pool2d(x, 2, output_size=3, _random_samples=np.full((1, 1, 2), 0.5))
    array([[[ 6.,  8.,  9.],
            [16., 18., 19.],
            [21., 23., 24.]]])
    """
    arguments = (kernel_size, output_size, output_ratio, return_indices, _random_samples, data_format)
    return _fractional_max_pool(2, input, *arguments)


@drop_in
def fractional_max_pool3d(
    input: Any,
    kernel_size: Any,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    _random_samples: Any = None,
    *,
    data_format: str = "channels_first",
    backend: str | None = None,
) -> Any:
    """The same of volumes (N, C, D, H, W) or (C, D, H, W); samples (N, C, 3) for d, h and w.

    Otherwise as :func:`fractional_max_pool2d`, but that ``output_size + kernel_size - 1`` must be less than the
    input's size, as in PyTorch.

    Source: ``torch.nn.functional.fractional_max_pool3d``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.fractional_max_pool3d.html

    >>> import numpy as np
    >>> fractional_max_pool3d(np.arange(27.0).reshape(1, 3, 3, 3), 2, output_size=1)
    array([[[[26.]]]])
    """
    arguments = (kernel_size, output_size, output_ratio, return_indices, _random_samples, data_format)
    return _fractional_max_pool(3, input, *arguments)


def _uniform(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Numbers from 0 up to 1 in the dtype in which a kernel for ``dtype`` computes."""
    return random.generator().random(shape, _drawn_dtype(dtype))


def _drawn_dtype(dtype: str) -> Any:
    return np.float64 if dtype == "float64" else np.float32


def _mixed_pool(
    rank: int, input: Any, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool, part: float | None,
    drawn_per: str, training: bool, data_format: str,
) -> Any:  # fmt: skip
    one_of("drawn_per", drawn_per, ("call", "window"))
    training = boolean("training", training)
    x, single, problem = windows_of_call(rank, "max", input, kernel_size, stride, padding, 1, ceil_mode, data_format)
    mean = problem._replace(kind="average", count_padding=False)
    if part is None and training and drawn_per == "window":
        drawn = random.generator().random(problem.y_shape, np.float32)
        greatest = backends.of(data_of(x)).asarray(drawn) < 0.5
        y, _ = apply(MaxPool, x, problem=problem, indices=False)
        y = apply(Select, y, mask=greatest) + apply(Select, apply(AveragePool, x, problem=mean), mask=~greatest)
        return without_batch(y, single)
    if part is None:
        share = float(random.generator().integers(2)) if training else 0.5
    else:
        share = fraction("part", part)
    if share == 0:
        return without_batch(apply(AveragePool, x, problem=mean), single)
    y, _ = apply(MaxPool, x, problem=problem, indices=False)
    if share < 1:
        kind = x.dtype.type
        y = y * kind(share) + apply(AveragePool, x, problem=mean) * kind(1 - share)
    return without_batch(y, single)


def _stochastic_pool(
    rank: int, input: Any, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool, training: bool,
    data_format: str,
) -> Any:  # fmt: skip
    kind = "stochastic" if boolean("training", training) else "average"
    x, single, problem = windows_of_call(rank, kind, input, kernel_size, stride, padding, 1, ceil_mode, data_format)
    if training:
        return without_batch(apply(StochasticPool, x, problem=problem), single)
    a = relu(widened(x))
    sums = problem._replace(dtype=DTYPE_NAMES[a.dtype], divisor=1)
    total, squares = apply(AveragePool, a, problem=sums), apply(AveragePool, a * a, problem=sums)
    nothing = ((total.data if isinstance(total, Tensor) else total) == 0).astype(a.dtype)
    return without_batch(rounded(squares / (total + nothing), x.dtype), single)


def _fractional_max_pool(
    rank: int, input: Any, kernel_size: Any, output_size: Any, output_ratio: Any, return_indices: bool, samples: Any,
    data_format: str,
) -> Any:  # fmt: skip
    x, single, N, C, size = batch_of(input, rank, data_format)
    if C == 0 and not single:  # as in PyTorch: without a batch axis the channels are what may be empty
        raise ValueError(f"input must have at least one channel; received the shape {tuple(x.shape)}")
    kernel = per_axis("kernel_size", kernel_size, rank, spread=False)
    out = _fractional_size(rank, size, output_size, output_ratio)
    for n, k, o in zip(size, kernel, out):
        # PyTorch's windows of volumes must leave an element over.
        if o + k - 1 + (rank == 3) > n:
            over = " and one more" if rank == 3 else ""
            raise ValueError(f"{o} windows of {k} do not fit {n} elements: output_size + kernel_size - 1{over} is more")
    drawn = _samples(samples, x, N, C, rank)
    if rank == 2:  # PyTorch's order is w, h for images, and d, h, w for volumes
        drawn = drawn[..., ::-1]
    starts = [_starts(drawn[..., axis], n, max(o, 1), k) for axis, (n, o, k) in enumerate(zip(size, out, kernel))]
    xp = backends.of(drawn).xp
    starts = [xp.zeros((N, C, 1), np.int64)] * (3 - rank) + starts
    problem = FractionalPoolProblem(
        DTYPE_NAMES[x.dtype], layout(data_format), N, C, triple(size), triple(kernel),
        triple(tuple(max(o, 1) for o in out)), rank,
    )  # fmt: skip
    found = apply(FractionalMaxPool, x, problem=problem, starts=np.concatenate(starts, axis=-1))
    found = tuple(windows_kept(without_batch(each, single), out, data_format) for each in found)
    return found if return_indices else found[0]


def _samples(samples: Any, x: Any, N: int, C: int, rank: int) -> Any:
    """Numbers (N, C, rank) from 0 up to 1, those of a call or new ones, in the dtype in which windows are placed."""
    here = backends.of(data_of(x))
    if samples is None:
        return here.asarray(_uniform((N, C, rank), DTYPE_NAMES[x.dtype]))
    given = here.asarray(data_of(floating("_random_samples", samples, like=x)))
    if given.shape[1:] != (C, rank) or given.shape[0] < N:
        raise ValueError(f"_random_samples must have the shape {(N, C, rank)}; received {given.shape}")
    given = given[:N]
    if given.size and not (given.min() >= 0 and given.max() < 1):
        raise ValueError(f"_random_samples must be at least 0 and less than 1; received {given.min()} to {given.max()}")
    return given.astype(_drawn_dtype(DTYPE_NAMES[x.dtype]))


def _starts(samples: np.ndarray, size: int, out: int, kernel: int) -> np.ndarray:
    """Where the windows of each plane begin along an axis (N, C, out), for samples (N, C); as PyTorch computes it."""
    xp = backends.of(samples).xp
    starts = xp.full((*samples.shape, out), size - kernel, np.int64)
    if out > 1:
        dtype = samples.dtype.type
        alpha = dtype(size - kernel) / dtype(out - 1)
        u = samples[..., np.newaxis]
        starts[..., :-1] = ((xp.arange(out - 1, dtype=dtype) + u) * alpha).astype(np.int64)
        starts[..., :-1] -= (u * alpha).astype(np.int64)
    return starts


def _fractional_size(rank: int, size: tuple[int, ...], output_size: Any, output_ratio: Any) -> tuple[int, ...]:
    if output_size is not None:
        return per_axis("output_size", output_size, rank, least=0, spread=False)
    if output_ratio is None:
        raise ValueError("output_size or output_ratio must be given; received None and None")
    ratios = tuple(output_ratio) if isinstance(output_ratio, tuple | list) else (output_ratio,) * rank
    if len(ratios) != rank:
        raise ValueError(f"output_ratio must have {rank} numbers, one for each axis; received {output_ratio!r}")
    parts = [fraction("output_ratio", ratio) for ratio in ratios]
    return tuple(int(n * ratio) for n, ratio in zip(size, parts))
