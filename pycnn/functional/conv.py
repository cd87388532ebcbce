"""Convolution."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from pycnn.autograd import Function
from pycnn.functional.arguments import (
    apply,
    floating,
    image_sizes,
    integer,
    layout,
    one_of,
    pair,
    per_side,
    without_batch,
)
from pycnn.tensor import Tensor
from pycnn_kernels.algorithms import algorithms_for
from pycnn_kernels.plan import Plan, plan_for
from pycnn_kernels.problem import (
    DTYPE_NAMES,
    ChannelsProblem,
    ConvProblem,
    WeightLayout,
    effective_kernel,
    same_padding,
)

Grads = tuple[Tensor | None, ...]


class Convolution(Function):
    """``y = activation(x * w + b)`` for a :class:`~pycnn_kernels.problem.ConvProblem`."""

    uses_numpy = False

    def forward(
        self, x: np.ndarray, w: np.ndarray, b: np.ndarray | None, *, problem: ConvProblem, algorithm: str = "auto"
    ) -> np.ndarray:
        self.problem, self.algorithm = problem, algorithm
        (y,) = plan_for("conv_forward", problem, algorithm=algorithm).run(x, w, b)
        self.y = y if problem.activation == "relu" else None  # the gradient needs it to know where relu cut off
        return y

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        x, w, b = self.inputs
        problem = linear_part(self.problem)
        dz, db = self._in_front_of_activation(dy, b is not None and self.needs[2])
        settings = {"problem": problem, "algorithm": self.algorithm}
        dx = ConvolutionInputGradient.apply(dz, w, **settings) if self.needs[0] else None
        dw = ConvolutionWeightGradient.apply(x, dz, **settings) if self.needs[1] else None
        return dx, dw, db

    def _in_front_of_activation(self, dy: Tensor, want_bias: bool) -> tuple[Tensor, Tensor | None]:
        p = self.problem
        inner = 1 if p.layout == "channels_last" else int(np.prod(p.output))
        pixels = p.N * (int(np.prod(p.output)) if inner == 1 else 1)
        problem = ChannelsProblem(p.dtype, pixels, p.K, inner)
        if p.activation == "relu":
            dz, db = ReluBiasGradient.apply(dy, problem=problem, y=self.y, want_bias=want_bias)
            return dz, db
        return dy, BiasGradient.apply(dy, problem=problem) if want_bias else None


class ConvolutionInputGradient(Function):
    """``dx`` from ``dy`` and ``w``."""

    uses_numpy = False

    def forward(self, dy: np.ndarray, w: np.ndarray, *, problem: ConvProblem, algorithm: str = "auto") -> np.ndarray:
        self.settings = {"problem": problem, "algorithm": algorithm}
        (dx,) = _gradient_plan("conv_input_gradient", problem, algorithm).run(dy, w)
        return dx

    def backward(self, ddx: Tensor) -> Grads:  # type: ignore[override]
        dy, w = self.inputs
        ddy = Convolution.apply(ddx, w, None, **self.settings) if self.needs[0] else None
        dw = ConvolutionWeightGradient.apply(ddx, dy, **self.settings) if self.needs[1] else None
        return ddy, dw


class ConvolutionWeightGradient(Function):
    """``dw`` from ``x`` and ``dy``."""

    uses_numpy = False

    def forward(self, x: np.ndarray, dy: np.ndarray, *, problem: ConvProblem, algorithm: str = "auto") -> np.ndarray:
        self.settings = {"problem": problem, "algorithm": algorithm}
        (dw,) = _gradient_plan("conv_weight_gradient", problem, algorithm).run(x, dy)
        return dw

    def backward(self, ddw: Tensor) -> Grads:  # type: ignore[override]
        x, dy = self.inputs
        dx = ConvolutionInputGradient.apply(dy, ddw, **self.settings) if self.needs[0] else None
        ddy = Convolution.apply(x, ddw, None, **self.settings) if self.needs[1] else None
        return dx, ddy


def _gradient_plan(operation: str, problem: ConvProblem, algorithm: str) -> Plan:
    """The plan by the algorithm that the forward operation was told to use, where the gradient has it too."""
    if algorithm != "auto":
        names = [a.name for a in algorithms_for("cpu", operation) if a.supports(problem) is None]
        algorithm = algorithm if algorithm in names else "auto"
    return plan_for(operation, problem, algorithm=algorithm)


class ReluBiasGradient(Function):
    """``dz = dy where y > 0`` and ``db`` = the sum of dz over all pixels, in one pass."""

    uses_numpy = False
    outputs = 2

    def forward(
        self, dy: np.ndarray, *, problem: ChannelsProblem, y: np.ndarray, want_bias: bool
    ) -> tuple[np.ndarray | None, ...]:
        self.problem, self.y, self.shape = problem, y, dy.shape
        flat = (problem.pixels, problem.channels, problem.inner)
        skip = () if want_bias else ("db",)
        dz, db = plan_for("bias_activation_gradient", problem).run(dy.reshape(flat), y.reshape(flat), skip=skip)
        return dz.reshape(dy.shape), db

    def backward(self, ddz: Tensor | None, ddb: Tensor | None) -> Grads:  # type: ignore[override]
        total = ddz
        if ddb is not None:
            spread = _over_pixels(ddb, self.problem, self.shape)
            total = spread if total is None else total + spread
        if total is None:
            return (None,)
        return (ReluBiasGradient.apply(total, problem=self.problem, y=self.y, want_bias=False)[0],)


class BiasGradient(Function):
    """``db`` = the sum of dy over all pixels."""

    uses_numpy = False

    def forward(self, dy: np.ndarray, *, problem: ChannelsProblem) -> np.ndarray:
        self.problem, self.shape = problem, dy.shape
        flat = dy.reshape(problem.pixels, problem.channels, problem.inner)
        _, db = plan_for("bias_activation_gradient", problem).run(flat, None, skip=("dz",))
        return db

    def backward(self, ddb: Tensor) -> Grads:  # type: ignore[override]
        return (_over_pixels(ddb, self.problem, self.shape),)


def _over_pixels(per_channel: Tensor, problem: ChannelsProblem, shape: tuple[int, ...]) -> Tensor:
    """One value a channel, repeated for each pixel of an array of ``shape``."""
    zeros = Tensor(np.zeros((problem.pixels, problem.channels, problem.inner), problem.dtype))
    return (zeros + per_channel.reshape(1, problem.channels, 1)).reshape(shape)


@lru_cache(maxsize=1024)
def linear_part(problem: ConvProblem) -> ConvProblem:
    return problem._replace(bias=False, activation=None)


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
) -> Any:
    """2-D convolution (cross-correlation) of images with filters.

    Each output size is ``(W - F + 2P) / S + 1``, rounded down, with the kernel's extent
    ``F = dilation * (kernel - 1) + 1``.

    Args:
        input: x (N, C, H, W) or (C, H, W); channels last (N, H, W, C) or (H, W, C). float32 or float64.
        weight: w (K, C / groups, KH, KW), or (KH, KW, C / groups, K) for "HWIO".
        bias: b (K,) or None.
        stride: step between windows, one integer or (vertical, horizontal).
        padding: zeros around the input: one integer, (vertical, horizontal), ((top, bottom), (left, right)),
            "valid" for none, or "same" for an output of the input's size (stride 1 only; an odd element of
            padding goes to the bottom and right).
        dilation: distance between the elements of the kernel.
        groups: parts into which channels are divided; each output channel sees the channels of its part.
        data_format: "channels_first" or "channels_last".
        weight_format: "OIHW" or "HWIO".
        activation: None or "relu", applied to the result in the same pass.
        algorithm: "auto", or an algorithm by name; :func:`pycnn.explain` lists them. "winograd", which "auto" takes
            for most layers of 3x3 and 5x5, rounds to about 1e-5 of the largest result in float32 and spreads a NaN
            over its tiles of 4x4 or 2x2 pixels; "winograd_2x2" has 2x2 tiles for 3x3 too, which round like
            "direct"; that rounds to 3e-6 at most and keeps a NaN to the windows that it lies in. Gradients take the
            algorithm of the same name where there is one.

    Returns:
        y (N, K, OH, OW), or in channels last (N, OH, OW, K); without N if the input had none.

    Raises:
        TypeError: other dtypes than float32 and float64, or different ones.
        ValueError: shapes that do not fit each other, a kernel larger than the padded input, a step below 1.

    Source: ``torch.nn.functional.conv2d``, https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.conv2d.html

    >>> import numpy as np
    >>> image = np.arange(9, dtype="float32").reshape(1, 1, 3, 3)
    >>> conv2d(image, np.ones((1, 1, 2, 2), "float32"))[0, 0]
    array([[ 8., 12.],
           [20., 24.]], dtype=float32)
    """
    x = floating("input", input)
    w = floating("weight", weight, like=x)
    b = None if bias is None else floating("bias", bias, like=x)
    geometry = (stride, padding, dilation, groups)
    read = _known_problem if all(map(_is_plain, geometry)) else problem_of
    shapes = (tuple(x.shape), tuple(w.shape), None if b is None else tuple(b.shape))
    problem = read(DTYPE_NAMES[x.dtype], *shapes, *geometry, data_format, weight_format, activation)
    single = x.ndim == 3
    if single:
        x = x.reshape(1, *x.shape)
    return without_batch(apply(Convolution, x, w, b, problem=problem, algorithm=algorithm), single)


def _is_plain(value: Any) -> bool:
    """An integer, a string or a tuple of such: equal ones are the same argument, where 1 == 1.0 == True is not."""
    return type(value) is int or type(value) is str or (type(value) is tuple and all(map(_is_plain, value)))


def problem_of(
    dtype: str,
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    b_shape: tuple[int, ...] | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    data_format: str,
    weight_format: str,
    activation: str | None,
) -> ConvProblem:
    """The checked problem of a call of :func:`conv2d`."""
    N, C, H, W = image_sizes("input", x_shape, data_format)
    one_of("weight_format", weight_format, ("OIHW", "HWIO"))
    one_of("activation", activation, (None, "relu"))
    if len(w_shape) != 4:
        axes = "(K, C / groups, KH, KW)" if weight_format == "OIHW" else "(KH, KW, C / groups, K)"
        raise ValueError(f"weight must have the axes {axes}; received the shape {w_shape}")
    K, R, KH, KW = w_shape if weight_format == "OIHW" else (w_shape[3], w_shape[2], *w_shape[:2])
    groups = integer("groups", groups)
    _check_channels(C, K, R, groups)
    if b_shape is not None and b_shape != (K,):
        raise ValueError(f"bias must have the shape ({K},), one for each output channel; received {b_shape}")
    SH, SW = pair("stride", stride)
    DH, DW = pair("dilation", dilation)
    vertical, horizontal = _padding(padding, (H, W), (KH, KW), (SH, SW), (DH, DW))
    w_layout: WeightLayout = "OIHW" if weight_format == "OIHW" else "HWIO"
    problem = ConvProblem(
        dtype, layout(data_format), w_layout, N, C, (1, H, W), K, (1, KH, KW), (1, SH, SW),
        ((0, 0), vertical, horizontal), (1, DH, DW), groups, b_shape is not None, activation,
    )  # fmt: skip
    _check_fits(problem)
    return problem


#: Reading the arguments anew takes longer than a small convolution.
_known_problem = lru_cache(maxsize=4096)(problem_of)


def _check_channels(C: int, K: int, R: int, groups: int) -> None:
    if groups < 1:
        raise ValueError(f"groups must be at least 1; received {groups}")
    if C % groups or K % groups:
        raise ValueError(f"groups must divide the channels, {C} in and {K} out; received {groups}")
    if C // groups != R:
        raise ValueError(
            f"weight must have {C // groups} input channels (the input has {C}, groups is {groups}); received {R}"
        )
    if C == 0 or K == 0:
        raise ValueError(f"a convolution needs at least one channel; received {C} in and {K} out")


def _check_fits(problem: ConvProblem) -> None:
    """The kernel must fit the padded input along each axis."""
    for axis, size, out, kernel, (before, after), D in zip(
        ("depth", "height", "width"),
        problem.size, problem.output, problem.kernel, problem.padding, problem.dilation,
    ):  # fmt: skip
        if kernel < 1:
            raise ValueError(f"the kernel must be at least 1 in {axis}; received {kernel}")
        if out < 1:
            raise ValueError(
                f"the kernel must fit the padded input: it extends over {effective_kernel(kernel, D)} in {axis}, "
                f"the input over {size} + {before} + {after}"
            )


def _padding(
    padding: Any, size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    if isinstance(padding, str):
        one_of("padding", padding, ("same", "valid"))
        if padding == "valid":
            return (0, 0), (0, 0)
        if stride != (1, 1):
            raise ValueError(f"padding 'same' needs a stride of 1; received {stride}")
        vertical, horizontal = (same_padding(s, k, 1, d) for s, k, d in zip(size, kernel, dilation))
        return vertical, horizontal
    return per_side("padding", padding)
