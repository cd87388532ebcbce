"""Convolution."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from pycnn import backend as backends
from pycnn.autograd import Function
from pycnn.backend import plan_on
from pycnn.elementary import elementwise, where
from pycnn.functional.arguments import (
    GREATEST_EXACT,
    apply,
    floating,
    holds_integers,
    magnitude,
    tensor_or_array,
    without_batch,
)
from pycnn.functional.bias import BiasGradient, ReluBiasGradient
from pycnn.functional.conv_arguments import problem_of
from pycnn.interop.arrays import drop_in
from pycnn.tensor import Tensor
from pycnn_kernels.choice import able
from pycnn_kernels.plan import Plan
from pycnn_kernels.problem import DTYPE_NAMES, ChannelsProblem, ConvProblem, channels_problem

Grads = tuple[Tensor | None, ...]


class BiasAndActivation(Function):
    """What functions share that end with a bias and an activation.

    Attributes:
        settings: what ``forward`` was given beside the arrays.
        y: its result, where the gradient of the activation needs it.
    """

    settings: dict[str, Any]
    y: np.ndarray | None

    def in_front_of_activation(
        self, dy: Tensor, activation: str | None, slope: float, pixels: ChannelsProblem, want_bias: bool
    ) -> tuple[Tensor, Tensor | None]:
        """dz, the gradient of what the activation was given, and that of the bias, the sum of dz over all pixels."""
        if activation == "relu":
            dz, db = ReluBiasGradient.apply(dy, problem=pixels, y=self.y, want_bias=want_bias)
            return dz, db
        dz = dy
        if activation == "leaky_relu":
            one, less = dy.dtype.type(1), dy.dtype.type(slope)
            closed = elementwise(np.less_equal, self.y, dy.dtype.type(0), dtype=bool)
            dz = dy * where(closed, less, one)
        elif activation == "tanh":
            assert self.y is not None  # kept wherever there is an activation
            y = self.output(self.y)
            dz = dy * (1 - y * y)
        elif activation == "sigmoid":
            assert self.y is not None
            y = self.output(self.y)
            dz = dy * (y * (1 - y))
        return dz, BiasGradient.apply(dz, problem=pixels) if want_bias else None


class Convolution(BiasAndActivation):
    """``y = activation(scale * (x * w) + b + residual)`` for a :class:`~pycnn_kernels.problem.ConvProblem`.

    ``epilogue`` is scale and residual, None for one that the problem has not; or nothing, where it has neither.
    ``choice`` is how to choose the algorithm, as ``plan_for`` takes it.
    """

    reads = ((1, 3), (0, 3), (), (0, 1), ())
    uses_numpy = False

    def forward(
        self,
        x: np.ndarray,
        w: np.ndarray,
        b: np.ndarray | None,
        *epilogue: np.ndarray | None,
        problem: ConvProblem,
        **choice: Any,
    ) -> np.ndarray:
        self.settings = {"problem": problem, **choice}
        (y,) = plan_on(x, "conv_forward", problem, **choice).run(x, w, b, *epilogue)
        self.y = None if problem.activation is None else y
        return y

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        x, w, _, scale, _ = (*self.inputs, None, None, None)[:5]
        needs_x, needs_w, needs_b, needs_scale, needs_residual = (*self.needs, False, False, False)[:5]
        p = self.settings["problem"]
        pixels = channels_problem(p.dtype, p.layout, p.N, p.K, p.output)
        dz, db = self.in_front_of_activation(dy, p.activation, p.slope, pixels, needs_b)
        linear = self.settings | {"problem": p.linear}
        filters = 0 if p.weight_layout == "OIHW" else w.ndim - 1
        factor = None if scale is None else scale.reshape(*(-1 if axis == filters else 1 for axis in range(w.ndim)))
        dx = dw = dscale = None
        if needs_x:
            dx = ConvolutionInputGradient.apply(dz, w if factor is None else w * factor, **linear)
        if needs_w or needs_scale:
            dw = ConvolutionWeightGradient.apply(x, dz, **linear)
        if needs_scale:
            # The sum of dz * (x * w) over the pixels: its products of dz and x are added up in dw, for each weight.
            dscale = (dw * w).sum(tuple(axis for axis in range(w.ndim) if axis != filters))
        if needs_w and factor is not None:
            dw = dw * factor
        return dx, dw, db, dscale, dz if needs_residual else None


class ConvolutionInputGradient(Function):
    """``dx`` from ``dy`` and ``w``."""

    reads = ((1,), (0,))
    uses_numpy = False

    def forward(self, dy: np.ndarray, w: np.ndarray, *, problem: ConvProblem, **choice: Any) -> np.ndarray:
        self.settings = {"problem": problem, **choice}
        (dx,) = gradient_plan(dy, "conv_input_gradient", problem, **choice).run(dy, w)
        return dx

    def backward(self, ddx: Tensor) -> Grads:  # type: ignore[override]
        dy, w = self.inputs
        ddy = ConvolutionGradient.apply(ddx, w, **self.settings) if self.needs[0] else None
        dw = ConvolutionWeightGradient.apply(ddx, dy, **self.settings) if self.needs[1] else None
        return ddy, dw


class ConvolutionWeightGradient(Function):
    """``dw`` from ``x`` and ``dy``."""

    reads = ((1,), (0,))
    uses_numpy = False

    def forward(self, x: np.ndarray, dy: np.ndarray, *, problem: ConvProblem, **choice: Any) -> np.ndarray:
        self.settings = {"problem": problem, **choice}
        (dw,) = gradient_plan(x, "conv_weight_gradient", problem, **choice).run(x, dy)
        return dw

    def backward(self, ddw: Tensor) -> Grads:  # type: ignore[override]
        x, dy = self.inputs
        dx = ConvolutionInputGradient.apply(dy, ddw, **self.settings) if self.needs[0] else None
        ddy = ConvolutionGradient.apply(x, ddw, **self.settings) if self.needs[1] else None
        return dx, ddy


class ConvolutionGradient(Convolution):
    """``x * w`` where it is a gradient: of an input gradient, or of a transposed convolution."""

    def forward(  # type: ignore[override]
        self, x: np.ndarray, w: np.ndarray, *, problem: ConvProblem, **choice: Any
    ) -> np.ndarray:
        self.settings = {"problem": problem, **choice}
        (y,) = gradient_plan(x, "conv_forward", problem, **choice).run(x, w, None)
        return y


def gradient_plan(
    x: np.ndarray, operation: str, problem: ConvProblem, algorithm: str = "auto", workspace_limit: int | None = None
) -> Plan:
    """The plan by the algorithm that the operation was told to use whose gradient this is, where it has it too."""
    if algorithm not in ("auto", "autotune"):
        backend = backends.of(x).name
        names = [a.name for a in able(operation, problem, backend=backend, workspace_limit=workspace_limit)]
        algorithm = algorithm if algorithm in names else "auto"
    return plan_on(x, operation, problem, algorithm=algorithm, workspace_limit=workspace_limit)


def read_convolution(
    rank: int,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    data_format: str,
    weight_format: str,
    activation: str | None,
    padding_mode: str,
    scale: Any,
    residual: Any,
    negative_slope: float,
) -> tuple[ConvProblem, tuple[Any, ...], bool]:
    """The problem of a call, its arrays as :class:`Convolution` takes them, and whether a batch axis was added.

    Raises:
        TypeError, ValueError: as :func:`conv2d` says.
    """
    x = floating("input", input)
    w = floating("weight", weight, like=x)
    b = None if bias is None else floating("bias", bias, like=x)
    if scale is not None:
        scale = floating("scale", scale, like=x)
    if residual is not None:
        residual = floating("residual", residual, like=x)
    problem = problem_of(
        DTYPE_NAMES[x.dtype], x.shape, w.shape, None if b is None else b.shape, stride, padding, dilation, groups,
        data_format, weight_format, activation, padding_mode, negative_slope,
        None if scale is None else scale.shape, None if residual is None else residual.shape, rank,
    )  # fmt: skip
    single = x.ndim == rank + 1
    if single:
        x = x.reshape(1, *x.shape)
        residual = None if residual is None else residual.reshape(1, *residual.shape)
    epilogue = () if scale is None and residual is None else (scale, residual)
    return problem, (x, w, b, *epilogue), single


def of_integers(convolve: Callable[..., Any], input: Any, weight: Any, bias: Any, **factors: Any) -> Any:
    """``convolve(x, w, b, *factors)`` in integers: computed in float64, in which their sums are exact up to 2**53.

    What the dtype does not hold wraps around, as integers do. Each product is of an element of x, one of w and one of
    each of the ``factors``.

    Raises:
        TypeError: the arrays have different dtypes.
        ValueError: the sums may exceed 2**53.
    """
    x, w = tensor_or_array("input", input), tensor_or_array("weight", weight)
    b = None if bias is None else tensor_or_array("bias", bias)
    others = {name: tensor_or_array(name, value) for name, value in factors.items()}
    for name, value in (("weight", w), ("bias", x if b is None else b), *others.items()):
        if value.dtype != x.dtype:
            raise TypeError(f"{name} must have the dtype of the input, {x.dtype}; received {value.dtype}")
    most = math.prod(map(magnitude, (x, w, *others.values()))) * w.size + (0 if b is None else magnitude(b))
    if most > GREATEST_EXACT:
        raise ValueError(f"sums of integers must be exact, at most 2**53; these may be up to {most}: convert to floats")
    y = convolve(*(None if each is None else each.astype(np.float64) for each in (x, w, b, *others.values())))
    return y.astype(np.int64).astype(x.dtype)


def _convolve(rank: int, input: Any, weight: Any, bias: Any, *arguments: Any, algorithm: str, **choice: Any) -> Any:
    """How to choose the algorithm comes by name, the other arguments are those of :func:`read_convolution`."""
    if holds_integers(input):
        *_, activation, _, scale, residual, _ = arguments
        if not activation is scale is residual is None:
            raise TypeError(f"input must hold floats for an activation, a scale or a residual; received {input.dtype}")
        exact = "direct" if algorithm in ("auto", "autotune") else algorithm  # others round
        return of_integers(
            lambda x, w, b: _convolve(rank, x, w, b, *arguments, algorithm=exact, **choice), input, weight, bias
        )
    problem, arrays, single = read_convolution(rank, input, weight, bias, *arguments)
    return without_batch(apply(Convolution, *arrays, problem=problem, algorithm=algorithm, **choice), single)


def ready_conv2d(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    scale: Tensor | None = None,
    residual: Tensor | None = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    data_format: str = "channels_first",
    weight_format: str = "OIHW",
    activation: str | None = None,
) -> Callable[..., Tensor]:
    """:func:`conv2d` of a batch, ready to be called again and again: with (input, weight, bias), or with scale and
    residual behind them, if one of the two is given here.

    The arguments are read and checked now. Whatever comes with a call must be tensors of the same shapes and dtypes;
    what is not is refused by the plan that runs.

    Raises:
        TypeError, ValueError: as :func:`conv2d`.
    """
    problem, _, _ = read_convolution(
        2, input, weight, bias, stride, padding, dilation, groups, data_format, weight_format, activation, "zeros",
        scale, residual, 0.01,
    )  # fmt: skip
    return partial(Convolution.apply, problem=problem, algorithm="auto", workspace_limit=None)


@drop_in
def conv1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    data_format: str = "channels_first",
    weight_format: str = "OIW",
    activation: str | None = None,
    algorithm: str = "auto",
    padding_mode: str = "zeros",
    scale: Any = None,
    residual: Any = None,
    negative_slope: float = 0.01,
    workspace_limit: int | None = None,
    backend: str | None = None,
) -> Any:
    """1-D convolution (cross-correlation) of signals with filters.

    The output size is ``(W - F + 2P) / S + 1``, rounded down, with the kernel's extent
    ``F = dilation * (kernel - 1) + 1``.

    Args:
        input: x (N, C, W) or (C, W); channels last (N, W, C) or (W, C). Dtypes as for :func:`conv2d`.
        weight: w (K, C / groups, KW), or (KW, C / groups, K) for "WIO".
        bias: b (K,) or None.
        stride, dilation: one integer.
        padding: one integer, ((left, right),), "valid" or "same", as for :func:`conv2d`.
        groups, data_format, activation, algorithm, padding_mode, scale, residual, negative_slope, workspace_limit:
            as for :func:`conv2d`.
        weight_format: "OIW" or "WIO".
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        y (N, K, OW), or in channels last (N, OW, K); without N if the input had none.

    Raises:
        TypeError, ValueError: as :func:`conv2d`.

    Source: ``torch.nn.functional.conv1d``, https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.conv1d.html

    >>> import numpy as np
    >>> conv1d(np.array([[1.0, 2.0, 4.0, 8.0]]), np.array([[[-1.0, 1.0]]]))
    array([[1., 2., 4.]])
    """
    return _convolve(
        1, input, weight, bias, stride, padding, dilation, groups, data_format, weight_format, activation,
        padding_mode, scale, residual, negative_slope, algorithm=algorithm, workspace_limit=workspace_limit,
    )  # fmt: skip


@drop_in
def conv2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    data_format: str = "channels_first",
    weight_format: str = "OIHW",
    activation: str | None = None,
    algorithm: str = "auto",
    padding_mode: str = "zeros",
    scale: Any = None,
    residual: Any = None,
    negative_slope: float = 0.01,
    workspace_limit: int | None = None,
    backend: str | None = None,
) -> Any:
    """2-D convolution (cross-correlation) of images with filters.

    Each output size is ``(W - F + 2P) / S + 1``, rounded down, with the kernel's extent
    ``F = dilation * (kernel - 1) + 1``. With everything that can be done to the result in the same pass:
    ``y = activation(scale * (x * w) + b + residual)``.

    Args:
        input: x (N, C, H, W) or (C, H, W); channels last (N, H, W, C) or (H, W, C). float32 or float64;
            or float16 or bfloat16, which are multiplied and added in float32, and each result rounded once;
            or integers, whose sums are exact, and wrap around where the dtype does not hold them.
        weight: w (K, C / groups, KH, KW), or (KH, KW, C / groups, K) for "HWIO".
        bias: b (K,) or None.
        stride: step between windows, one integer or (vertical, horizontal).
        padding: pixels around the input: one integer, (vertical, horizontal), ((top, bottom), (left, right)),
            "valid" for none, or "same" for an output of the input's size (stride 1 only; an odd element of
            padding goes to the bottom and right).
        dilation: distance between the elements of the kernel.
        groups: parts into which channels are divided; each output channel sees the channels of its part.
        data_format: "channels_first" or "channels_last".
        weight_format: "OIHW" or "HWIO".
        activation: None, "relu", "leaky_relu", "tanh" or "sigmoid".
        algorithm: "auto", or an algorithm by name; :func:`pycnn.explain` lists them. "winograd", which "auto" takes
            for most 3x3 layers, rounds to about 1e-5 of the largest result in float32 and spreads a NaN over its
            tiles of 4x4 pixels; "fft", which it takes for large kernels, rounds to 1e-6 and spreads a NaN over
            tiles of up to 64x64; "direct" rounds to 3e-6 and keeps a NaN to the windows that it lies in. Gradients
            take the algorithm of the same name where there is one.
            "autotune" times all algorithms on the first call with such shapes, and remembers the fastest (see
            :func:`pycnn.forget_timings`); so do the gradients. The fastest may be another one on another machine, and
            after measuring anew: of all choices this alone does not always give the same bits.
        padding_mode: what the padding holds: "zeros"; "reflect", the input mirrored at its outermost pixels (less
            padding than the input's size); "replicate", its outermost pixels; "circular", the input from its other
            end on (at most as much padding as the input's size).
        scale: (K,), multiplies each output channel before the bias is added, or None. Batch normalization with
            fixed statistics is a scale and a bias.
        residual: an array like the result, added in front of the activation, or None.
        negative_slope: what "leaky_relu" multiplies negative results with, at least 0.
        workspace_limit: bytes of scratch memory that the algorithm may take beside its arrays, and that of each
            gradient; None for no limit. Not counted are at most 0.5 MB for each thread, whatever the problem.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        y (N, K, OH, OW), or in channels last (N, OH, OW, K); without N if the input had none.

    Raises:
        TypeError: other dtypes than float16, bfloat16, float32, float64 and those of integers, or different ones;
            numbers that are no integers.
        ValueError: shapes that do not fit each other, a kernel larger than the padded input, a step below 1, more
            padding than the padding mode allows, an unknown name, a workspace limit below what the algorithm needs;
            integers whose sums could exceed 2**53; no channels, for which PyTorch gives a result without channels,
            however many filters there are.

    Source: ``torch.nn.functional.conv2d``, https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.conv2d.html;
    the padding modes of ``torch.nn.Conv2d``.

    >>> import numpy as np
    >>> image = np.arange(9, dtype="float32").reshape(1, 1, 3, 3)
    >>> conv2d(image, np.ones((1, 1, 2, 2), "float32"))[0, 0]
    array([[ 8., 12.],
           [20., 24.]], dtype=float32)
    """
    return _convolve(
        2, input, weight, bias, stride, padding, dilation, groups, data_format, weight_format, activation,
        padding_mode, scale, residual, negative_slope, algorithm=algorithm, workspace_limit=workspace_limit,
    )  # fmt: skip


@drop_in
def conv3d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    data_format: str = "channels_first",
    weight_format: str = "OIDHW",
    activation: str | None = None,
    algorithm: str = "auto",
    padding_mode: str = "zeros",
    scale: Any = None,
    residual: Any = None,
    negative_slope: float = 0.01,
    workspace_limit: int | None = None,
    backend: str | None = None,
) -> Any:
    """3-D convolution (cross-correlation) of volumes with filters.

    Each output size is ``(W - F + 2P) / S + 1``, rounded down, with the kernel's extent
    ``F = dilation * (kernel - 1) + 1``.

    Args:
        input: x (N, C, D, H, W) or (C, D, H, W); channels last (N, D, H, W, C) or (D, H, W, C). Dtypes as for
            :func:`conv2d`.
        weight: w (K, C / groups, KD, KH, KW), or (KD, KH, KW, C / groups, K) for "DHWIO".
        bias: b (K,) or None.
        stride, dilation: one integer, or one for each of depth, height and width.
        padding: one integer, one for each axis, ((front, back), (top, bottom), (left, right)), "valid" or "same", as
            for :func:`conv2d`.
        groups, data_format, activation, algorithm, padding_mode, scale, residual, negative_slope, workspace_limit:
            as for :func:`conv2d`.
        weight_format: "OIDHW" or "DHWIO".
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        y (N, K, OD, OH, OW), or in channels last (N, OD, OH, OW, K); without N if the input had none.

    Raises:
        TypeError, ValueError: as :func:`conv2d`.

    Source: ``torch.nn.functional.conv3d``, https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.conv3d.html

    >>> import numpy as np
    >>> conv3d(np.arange(8.0).reshape(1, 2, 2, 2), np.ones((1, 1, 2, 1, 1)))
    array([[[[ 4.,  6.],
             [ 8., 10.]]]])
    """
    return _convolve(
        3, input, weight, bias, stride, padding, dilation, groups, data_format, weight_format, activation,
        padding_mode, scale, residual, negative_slope, algorithm=algorithm, workspace_limit=workspace_limit,
    )  # fmt: skip
