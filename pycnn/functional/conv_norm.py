"""A convolution together with the batch normalisation of its result by its own statistics, and max pooling."""

from __future__ import annotations

from typing import Any

import numpy as np

from pycnn.autograd import Function, is_grad_enabled
from pycnn.backend import plan_on
from pycnn.functional.arguments import apply, without_batch
from pycnn.functional.batch_norm import BatchNorm, BatchStatisticsNorm, NormNumbers, batch_norm, movable, note_moved
from pycnn.functional.conv import (
    Convolution,
    ConvolutionInputGradient,
    ConvolutionWeightGradient,
    read_convolution,
)
from pycnn.functional.conv_pool import pooled_problem
from pycnn.functional.pool import FoundGradient, MaxPool
from pycnn.interop.arrays import drop_in
from pycnn.tensor import Tensor
from pycnn_kernels.problem import STORAGE_DTYPES, ConvProblem, PoolProblem, channels_problem

Grads = tuple[Tensor | None, ...]


class ConvolutionNorm(Function):
    """``y = pool(norm(activation(x * w + b)))`` with an activation that is None or a ReLU; ``pool`` may be None.

    The gradient of the normalisation, that of the ReLU in front of it and the sum for the bias are one pass.
    """

    uses_numpy = False

    def forward(
        self,
        x: np.ndarray,
        w: np.ndarray,
        b: np.ndarray | None,
        weight: np.ndarray | None,
        bias: np.ndarray | None,
        *,
        conv: ConvProblem,
        pool: PoolProblem | None,
        running: tuple[np.ndarray | None, ...],
        numbers: NormNumbers,
        **choice: Any,
    ) -> np.ndarray:
        self.conv, self.pool, self.numbers, self.choice = conv, pool, numbers, choice
        self.pixels = channels_problem(conv.dtype, conv.layout, conv.N, conv.K, conv.output)
        (maps,) = plan_on(x, "conv_forward", conv, **choice).run(x, w, b)
        self.maps = maps
        if pool is None:
            y, self.mean, self.rstd = plan_on(maps, "batch_norm", self.pixels).run(
                maps.reshape(self.pixels.shape), weight, bias, updated=running, scalars=(False, *numbers)
            )
            return y.reshape(maps.shape)
        skip = () if any(self.needs) else ("index",)
        y, self.index, self.mean, self.rstd = plan_on(maps, "batch_norm_max_pool", pool).run(
            maps, weight, bias, updated=running, skip=skip, scalars=numbers
        )
        return y

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        if is_grad_enabled():
            return self._differentiable(dy)
        x, w, _, weight, _ = self.inputs
        needs_x, needs_w, needs_b, needs_weight, needs_bias = self.needs
        wanted = {"dx": needs_x or needs_w or needs_b, "dweight": needs_weight, "dbias": needs_bias, "db": needs_b}
        skip = tuple(name for name, needed in wanted.items() if not needed)
        scale = None if weight is None else weight.data
        relu = self.conv.activation == "relu"
        if self.pool is None:
            shape = self.pixels.shape
            dz, dweight, dbias, db = plan_on(dy.data, "batch_norm_gradient", self.pixels).run(
                dy.data.reshape(shape), self.maps.reshape(shape), None, scale, self.mean, self.rstd,
                skip=skip, scalars=(True, relu),
            )  # fmt: skip
        else:
            dz, dweight, dbias, db = plan_on(dy.data, "batch_norm_max_pool_gradient", self.pool).run(
                dy.data, self.index, self.maps, scale, self.mean, self.rstd, skip=skip, scalars=(relu,)
            )
        linear: dict[str, Any] = {"problem": self.conv.linear, **self.choice}
        dz = None if dz is None else Tensor._of(dz.reshape(self.maps.shape))
        dx = ConvolutionInputGradient.apply(dz, w, **linear) if needs_x else None
        dw = ConvolutionWeightGradient.apply(x, dz, **linear) if needs_w else None
        found = (None if each is None else Tensor._of(each) for each in (db, dweight, dbias))
        return dx, dw, *found

    def _differentiable(self, dy: Tensor) -> Grads:
        """The gradients by those of the functions in turn, which have gradients themselves."""
        x, w, b, weight, bias = self.inputs
        maps = Convolution.apply(x, w, b, problem=self.conv, **self.choice)
        if self.pool is not None:
            dy = FoundGradient.apply(dy, problem=self.pool, index=self.index)
        norm = BatchNorm.apply(
            maps, weight, bias, running=(None, None), layout=self.conv.layout, relu=False, numbers=self.numbers
        )
        dz, dweight, dbias = (None, None, None) if norm._node is None else norm._node.backward(dy)
        return *((None,) * 3 if maps._node is None or dz is None else maps._node.backward(dz)[:3]), dweight, dbias


@drop_in
def conv2d_batch_norm(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    norm: BatchStatisticsNorm,
    pool_size: Any = None,
    pool_stride: Any = None,
    pool_padding: Any = 0,
    ceil_mode: bool = False,
    data_format: str = "channels_first",
    weight_format: str = "OIHW",
    activation: str | None = None,
    padding_mode: str = "zeros",
    negative_slope: float = 0.01,
    workspace_limit: int | None = None,
    backend: str | None = None,
) -> Any:
    """2-D convolution and its normalisation by its own statistics, for training: ``batch_norm(conv2d(...), ...)``.

    With ``pool_size`` the greatest element of each window of that: ``max_pool2d(batch_norm(conv2d(...), ...), ...)``.
    What is normalised is not kept as a whole then: each element is on its way to the maximum. The gradient in front of
    the normalisation and of a ReLU before it is found in one pass. The values are those of the functions in turn, on a
    batch; an image without a batch axis is a batch of one.

    Args:
        input, weight, bias, stride, padding, dilation, groups: as for :func:`conv2d`.
        norm: how the result is normalised, behind the activation; its running statistics move.
        pool_size, pool_stride, pool_padding, ceil_mode: ``kernel_size``, ``stride``, ``padding`` and ``ceil_mode`` of
            :func:`max_pool2d`; no pooling where ``pool_size`` is None.
        data_format, weight_format, activation, padding_mode, negative_slope: as for :func:`conv2d`.
        workspace_limit: bytes of scratch memory of the convolution beside the arrays; None for no limit.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        y (N, K, OH, OW), or in channels last (N, OH, OW, K); without N if the input had none.

    Raises:
        TypeError, ValueError: as :func:`conv2d`, :func:`batch_norm` and :func:`max_pool2d`; a norm that is none.

    Source: ``torch.nn.functional.conv2d``, ``batch_norm`` and ``max_pool2d``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.batch_norm.html

    >>> import numpy as np
    >>> image = np.array([[[[1.0, 3.0, 5.0, 7.0]]]])
    >>> norm = BatchStatisticsNorm(None, None, eps=0.0)
    >>> conv2d_batch_norm(image, np.ones((1, 1, 1, 1)), norm=norm, pool_size=(1, 2)).round(3)
    array([[[[-0.447,  1.342]]]])
    """
    conv, arrays, single = read_convolution(
        2, input, weight, bias, stride, padding, dilation, groups, data_format, weight_format, activation,
        padding_mode, None, None, negative_slope,
    )  # fmt: skip
    pool = None
    if pool_size is not None:
        pool = pooled_problem(conv, pool_size, pool_stride, pool_padding, ceil_mode, False).pool
    if not isinstance(norm, BatchStatisticsNorm):
        raise TypeError(f"norm must be a BatchStatisticsNorm; received {norm!r}")
    scale, offset, running, numbers = norm.read(conv.K, arrays[0], "norm.")
    choice = {"workspace_limit": workspace_limit}
    if conv.activation not in (None, "relu") or conv.dtype in STORAGE_DTYPES or conv.N == 0:
        y = apply(Convolution, *arrays, problem=conv, **choice)
        y = batch_norm(
            y, *norm[:4], training=True, momentum=norm.momentum, eps=norm.eps, data_format=data_format,
            correction=norm.correction,
        )  # fmt: skip
        y = y if pool is None else apply(MaxPool, y, problem=pool, indices=False)[0]
    else:
        moving = movable(running, conv.y_shape, conv.K, "norm.")
        settings = {"conv": conv, "pool": pool, "running": moving, "numbers": numbers, **choice}
        y = apply(ConvolutionNorm, *arrays, scale, offset, **settings)
        note_moved(running, moving)
    return without_batch(y, single)
