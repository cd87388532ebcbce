"""Convolution."""

from __future__ import annotations

from typing import Any

import numpy as np

from pycnn.autograd import Function
from pycnn.functional.arguments import apply, floating, one_of, without_batch
from pycnn.functional.conv_arguments import is_plain, known_problem, linear_part, problem_of
from pycnn.tensor import Tensor
from pycnn_kernels.choice import able
from pycnn_kernels.plan import Plan, plan_for
from pycnn_kernels.problem import DTYPE_NAMES, ChannelsProblem, ConvProblem

Grads = tuple[Tensor | None, ...]


class Convolution(Function):
    """``y = activation(x * w + b)`` for a :class:`~pycnn_kernels.problem.ConvProblem`."""

    uses_numpy = False

    def forward(
        self, x: np.ndarray, w: np.ndarray, b: np.ndarray | None, *, problem: ConvProblem, **choice: Any
    ) -> np.ndarray:
        self.problem, self.choice = problem, choice  # how to choose the algorithm, as plan_for takes it
        (y,) = plan_for("conv_forward", problem, **choice).run(x, w, b)
        self.y = y if problem.activation == "relu" else None  # the gradient needs it to know where relu cut off
        return y

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        x, w, b = self.inputs
        problem = linear_part(self.problem)
        dz, db = self._in_front_of_activation(dy, b is not None and self.needs[2])
        settings = {"problem": problem, **self.choice}
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

    def forward(self, dy: np.ndarray, w: np.ndarray, *, problem: ConvProblem, **choice: Any) -> np.ndarray:
        self.settings = {"problem": problem, **choice}
        (dx,) = _gradient_plan("conv_input_gradient", problem, **choice).run(dy, w)
        return dx

    def backward(self, ddx: Tensor) -> Grads:  # type: ignore[override]
        dy, w = self.inputs
        ddy = Convolution.apply(ddx, w, None, **self.settings) if self.needs[0] else None
        dw = ConvolutionWeightGradient.apply(ddx, dy, **self.settings) if self.needs[1] else None
        return ddy, dw


class ConvolutionWeightGradient(Function):
    """``dw`` from ``x`` and ``dy``."""

    uses_numpy = False

    def forward(self, x: np.ndarray, dy: np.ndarray, *, problem: ConvProblem, **choice: Any) -> np.ndarray:
        self.settings = {"problem": problem, **choice}
        (dw,) = _gradient_plan("conv_weight_gradient", problem, **choice).run(x, dy)
        return dw

    def backward(self, ddw: Tensor) -> Grads:  # type: ignore[override]
        x, dy = self.inputs
        dx = ConvolutionInputGradient.apply(dy, ddw, **self.settings) if self.needs[0] else None
        ddy = Convolution.apply(x, ddw, None, **self.settings) if self.needs[1] else None
        return dx, ddy


def _gradient_plan(
    operation: str, problem: ConvProblem, algorithm: str = "auto", workspace_limit: int | None = None
) -> Plan:
    """The plan by the algorithm that the forward operation was told to use, where the gradient has it too."""
    if algorithm not in ("auto", "autotune"):
        names = [a.name for a in able(operation, problem, workspace_limit=workspace_limit)]
        algorithm = algorithm if algorithm in names else "auto"
    return plan_for(operation, problem, algorithm=algorithm, workspace_limit=workspace_limit)


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
    workspace_limit: int | None = None,
) -> Any:
    """2-D convolution (cross-correlation) of images with filters.

    Each output size is ``(W - F + 2P) / S + 1``, rounded down, with the kernel's extent
    ``F = dilation * (kernel - 1) + 1``.

    Args:
        input: x (N, C, H, W) or (C, H, W); channels last (N, H, W, C) or (H, W, C). float32 or float64;
            or float16 or bfloat16, which are multiplied and added in float32, and each result rounded once.
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
            for most 3x3 layers, rounds to about 1e-5 of the largest result in float32 and spreads a NaN over its
            tiles of 4x4 pixels; "direct" rounds to 3e-6 and keeps a NaN to the windows that it lies in. Gradients
            take the algorithm of the same name where there is one.
            "autotune" times all algorithms on the first call with such shapes, and remembers the fastest (see
            :func:`pycnn.forget_timings`); so do the gradients. The fastest may be another one on another machine, and
            after measuring anew: of all choices this alone does not always give the same bits.
        workspace_limit: bytes of scratch memory that the algorithm may take beside its arrays, and that of each
            gradient; None for no limit.

    Returns:
        y (N, K, OH, OW), or in channels last (N, OH, OW, K); without N if the input had none.

    Raises:
        TypeError: other dtypes than float16, bfloat16, float32 and float64, or different ones.
        ValueError: shapes that do not fit each other, a kernel larger than the padded input, a step below 1; a
            workspace limit below what the algorithm needs, or all of them.

    Source: ``torch.nn.functional.conv2d``, https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.conv2d.html

    >>> import numpy as np
    >>> image = np.arange(9, dtype="float32").reshape(1, 1, 3, 3)
    >>> conv2d(image, np.ones((1, 1, 2, 2), "float32"))[0, 0]
    array([[ 8., 12.],
           [20., 24.]], dtype=float32)
    """
    one_of("activation", activation, (None, "relu"))
    x = floating("input", input)
    w = floating("weight", weight, like=x)
    b = None if bias is None else floating("bias", bias, like=x)
    geometry = (stride, padding, dilation, groups)
    read = known_problem if all(map(is_plain, geometry)) else problem_of
    shapes = (tuple(x.shape), tuple(w.shape), None if b is None else tuple(b.shape))
    problem = read(DTYPE_NAMES[x.dtype], *shapes, *geometry, data_format, weight_format, activation)
    single = x.ndim == 3
    if single:
        x = x.reshape(1, *x.shape)
    choice = {"algorithm": algorithm, "workspace_limit": workspace_limit}
    return without_batch(apply(Convolution, x, w, b, problem=problem, **choice), single)
