"""Max pooling together with what is in front of it: a convolution, or batch normalisation by running statistics."""

from __future__ import annotations

from typing import Any

import numpy as np

from pycnn.autograd import Function, is_grad_enabled
from pycnn.backend import plan_on
from pycnn.functional.arguments import apply, remembered, without_batch
from pycnn.functional.batch_norm import RunningNorm, batch_norm
from pycnn.functional.conv import (
    Convolution,
    ConvolutionInputGradient,
    ConvolutionWeightGradient,
    read_convolution,
)
from pycnn.functional.pool import MaxPool, gradients_of_found, windows_of_call, windows_problem
from pycnn.interop.arrays import drop_in
from pycnn.tensor import Tensor
from pycnn_kernels.problem import ConvPoolProblem, ConvProblem, PoolProblem

Grads = tuple[Tensor | None, ...]

#: What the arguments of the pooling are called, for errors.
_NAMES = ("pool_size", "pool_stride", "pool_padding")


class ConvolutionMaxPool(Function):
    """The pooled convolution of a :class:`~pycnn_kernels.problem.ConvPoolProblem`.

    Gradients are recorded where bias and ReLU come after the pooling; then nobody needs the convolution's result.
    """

    reads = ((1,), (0,), ())
    uses_numpy = False

    def forward(
        self,
        *arrays: np.ndarray | None,
        problem: ConvPoolProblem,
        norm: tuple[np.ndarray | None, ...] = (),
        **choice: Any,
    ) -> np.ndarray:
        """``arrays``: x, w, b, scale and residual, the last ones only where they are there.

        ``norm``: mean, scale and bias of a problem that is normalised.
        """
        self.problem, self.choice = problem, choice
        missing = (None,) * (5 - len(arrays))
        skip = () if any(self.needs) else ("index",)
        y, self.index = plan_on(arrays[0], "conv_max_pool", problem, **choice).run(*arrays, *missing, *norm, skip=skip)
        self.y = y if problem.conv.activation == "relu" else None
        return y

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        x, w, _ = self.inputs
        needs_x, needs_w, needs_b = self.needs
        conv, pool = self.problem
        if needs_w and not (needs_x or is_grad_enabled()):
            return None, *self._of_parameters(x, dy, needs_b)
        dz, db = gradients_of_found(pool, dy, self.index, self.y, needs_x or needs_w, needs_b)
        linear = {"problem": conv.linear, **self.choice}
        dx = ConvolutionInputGradient.apply(dz, w, **linear) if needs_x else None
        dw = ConvolutionWeightGradient.apply(x, dz, **linear) if needs_w else None
        return dx, dw, db

    def _of_parameters(self, x: Tensor, dy: Tensor, needs_b: bool) -> Grads:
        """dw and db where nobody needs dx, nor the gradients of gradients."""
        plan = plan_on(x.data, "conv_max_pool_weight_gradient", self.problem, **self.choice)
        dw, db = plan.run(x.data, dy.data, self.index, self.y, skip=() if needs_b else ("db",))
        return Tensor._of(dw), None if db is None else Tensor._of(db)


@remembered()
def pooled_problem(
    conv: ConvProblem, pool_size: Any, pool_stride: Any, pool_padding: Any, ceil_mode: bool, normalised: bool
) -> ConvPoolProblem:
    """The checked problem of pooling the result of a convolution."""
    pool = windows_problem(
        conv.dtype, conv.y_shape, 2, "max", conv.layout, pool_size, pool_stride, pool_padding, 1, ceil_mode, _NAMES,
    )  # fmt: skip
    return ConvPoolProblem(conv, pool._replace(normalised=normalised))


def _in_turn(
    problem: ConvPoolProblem, arrays: tuple[Any, ...], norm: RunningNorm | None, workspace_limit: int | None
) -> Any:
    """Convolution, norm and pooling one after the other."""
    conv, pool = problem.conv, problem.pool._replace(normalised=False)
    maps = apply(Convolution, *arrays, problem=conv, workspace_limit=workspace_limit)
    if norm is not None:
        maps = _normalised(maps, norm, pool)
    return apply(MaxPool, maps, problem=pool, indices=False)[0]


@drop_in
def batch_norm_max_pool2d(
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    *,
    pool_size: Any,
    pool_stride: Any = None,
    pool_padding: Any = 0,
    ceil_mode: bool = False,
    data_format: str = "channels_first",
    backend: str | None = None,
) -> Any:
    """Batch normalisation and the greatest element of each window of it: ``max_pool2d(batch_norm(...), ...)``.

    Where no gradient is recorded this is one pass over the input, in which each element is normalised on its way to the
    maximum: a channel whose weight is negative has the maximum where the input is least. The bits are those of the two
    functions in turn.

    Args:
        input: x (N, C, H, W) or (C, H, W), or the same in channels last, as for :func:`max_pool2d`.
        running_mean, running_var, weight, bias, eps: as for :func:`batch_norm`; the statistics must be given.
        pool_size, pool_stride, pool_padding, ceil_mode: ``kernel_size``, ``stride``, ``padding`` and ``ceil_mode`` of
            :func:`max_pool2d`.
        data_format: "channels_first" or "channels_last".
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        y (N, C, OH, OW), or in channels last (N, OH, OW, C); without N if the input had none.

    Raises:
        TypeError, ValueError: as :func:`batch_norm` and :func:`max_pool2d`.

    Source: ``torch.nn.functional.batch_norm`` and ``max_pool2d``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.batch_norm.html

    >>> import numpy as np
    >>> image = np.array([[[1.0, 2.0], [3.0, 5.0]]])
    >>> batch_norm_max_pool2d(image, np.array([1.0]), np.array([4.0]), np.array([-2.0]), eps=0.0, pool_size=(1, 2))
    array([[[ 0.],
            [-2.]]])
    """
    x, single, problem = windows_of_call(
        2, "max", input, pool_size, pool_stride, pool_padding, 1, ceil_mode, data_format, names=_NAMES
    )
    norm = RunningNorm(running_mean, running_var, weight, bias, eps)
    arrays = norm.arrays(problem.C, x)
    if _records(x, norm.weight, norm.bias):
        y = apply(MaxPool, _normalised(x, norm, problem), problem=problem, indices=False)[0]
    else:
        y = apply(MaxPool, x, problem=problem._replace(normalised=True), indices=False, norm=arrays)[0]
    return without_batch(y, single)


def _records(*arrays: Any) -> bool:
    """Whether gradients of some of the arrays are recorded."""
    return is_grad_enabled() and any(isinstance(array, Tensor) and array.requires_grad for array in arrays)


def _normalised(x: Any, norm: RunningNorm, problem: PoolProblem) -> Any:
    """What is pooled, normalised by itself; x has a batch axis."""
    return batch_norm(x, *norm[:4], eps=norm.eps, data_format=problem.layout)


@drop_in
def conv2d_max_pool2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    pool_size: Any,
    pool_stride: Any = None,
    pool_padding: Any = 0,
    ceil_mode: bool = False,
    data_format: str = "channels_first",
    weight_format: str = "OIHW",
    activation: str | None = None,
    padding_mode: str = "zeros",
    scale: Any = None,
    residual: Any = None,
    negative_slope: float = 0.01,
    norm: RunningNorm | None = None,
    workspace_limit: int | None = None,
    backend: str | None = None,
) -> Any:
    """2-D convolution and the greatest element of each window of its result: ``max_pool2d(conv2d(...), ...)``.

    The result of the convolution is never kept as a whole: if it is large and cheap to compute, each part of it is
    pooled while it is in the cache; with ``norm`` each element is normalised on its way to the maximum; a bias and a
    ReLU come after the pooling, where there are fewer elements that they and their gradients go over. Only where
    gradients are recorded of scale, residual, norm or another activation is this the functions in turn. The values are
    those of the functions within the rounding of a convolution, not always to the last bit; they are the same for every
    call and number of threads.

    Args:
        input, weight, bias, stride, padding, dilation, groups: as for :func:`conv2d`.
        pool_size, pool_stride, pool_padding, ceil_mode: ``kernel_size``, ``stride``, ``padding`` and ``ceil_mode`` of
            :func:`max_pool2d`.
        data_format, weight_format, activation, padding_mode, scale, residual, negative_slope: as for :func:`conv2d`;
            the residual is like the result of the convolution.
        norm: batch normalisation of that result, behind the activation and in front of the pooling.
        workspace_limit: bytes of scratch memory beside the arrays; None for no limit. These are also the bytes of the
            convolution's result, or of the part that is kept, unless it is the functions in turn.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        y (N, K, OH, OW), or in channels last (N, OH, OW, K); without N if the input had none.

    Raises:
        TypeError, ValueError: as :func:`conv2d`, :func:`batch_norm` and :func:`max_pool2d`; a norm that is none.

    Source: ``torch.nn.functional.conv2d`` and ``max_pool2d``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.max_pool2d.html

    >>> import numpy as np
    >>> image = np.arange(25, dtype="float32").reshape(1, 1, 5, 5)
    >>> conv2d_max_pool2d(image, np.ones((1, 1, 2, 2), "float32"), activation="relu", pool_size=2)[0, 0]
    array([[36., 44.],
           [76., 84.]], dtype=float32)
    """
    conv, arrays, single = read_convolution(
        2, input, weight, bias, stride, padding, dilation, groups, data_format, weight_format, activation,
        padding_mode, scale, residual, negative_slope,
    )  # fmt: skip
    problem = pooled_problem(conv, pool_size, pool_stride, pool_padding, ceil_mode, norm is not None)
    normalisation: tuple[np.ndarray | None, ...] = ()
    if norm is not None:
        if not isinstance(norm, RunningNorm):
            raise TypeError(f"norm must be None or a RunningNorm; received {norm!r}")
        normalisation = norm.arrays(conv.K, arrays[0], "norm.")
    if _records(*arrays, *(norm or ())[2:4]) and not problem.bias_is_pooled:
        y = _in_turn(problem, arrays, norm, workspace_limit)
    else:
        y = apply(ConvolutionMaxPool, *arrays, problem=problem, norm=normalisation, workspace_limit=workspace_limit)
    return without_batch(y, single)
