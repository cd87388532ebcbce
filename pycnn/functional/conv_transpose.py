"""Transposed convolution: the input gradient of a convolution, as an operation of its own."""

from __future__ import annotations

from typing import Any

import numpy as np

from pycnn.backend import plan_on
from pycnn.elementary import PutAt
from pycnn.functional.activation import computed
from pycnn.functional.arguments import apply, floating, holds_integers, one_of, rounded, widened, without_batch
from pycnn.functional.conv import (
    BiasAndActivation,
    ConvolutionGradient,
    ConvolutionWeightGradient,
    Grads,
    of_integers,
)
from pycnn.functional.conv_arguments import (
    ACTIVATIONS,
    read_slope,
    transposed_problem_of,
)
from pycnn.interop.arrays import drop_in
from pycnn.tensor import Tensor
from pycnn_kernels.problem import DTYPE_NAMES, ConvProblem, channels_problem


class ConvolutionTranspose(BiasAndActivation):
    """``y = activation(dx + b)``, where dx is the input gradient of ``problem`` from x in the place of dy."""

    reads = ((1,), (0,), ())

    def forward(
        self,
        x: np.ndarray,
        w: np.ndarray,
        b: np.ndarray | None,
        *,
        problem: ConvProblem,
        activation: str | None,
        slope: float,
        **choice: Any,
    ) -> np.ndarray:
        self.settings = {"problem": problem, "activation": activation, "slope": slope, **choice}
        self.choice = choice
        (y,) = plan_on(x, "conv_input_gradient", problem, **choice).run(x, w)
        if b is not None:
            _add_bias(y, b, problem)
        if activation is not None:
            y = computed(activation, y, (slope,) if activation == "leaky_relu" else ())
        self.y = None if activation is None else y
        return y

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        x, w, _ = self.inputs
        p = self.settings["problem"]
        pixels = channels_problem(p.dtype, p.layout, p.N, p.C, p.size)
        dz, db = self.in_front_of_activation(
            dy, self.settings["activation"], self.settings["slope"], pixels, self.needs[2]
        )
        dx = ConvolutionGradient.apply(dz, w, problem=p, **self.choice) if self.needs[0] else None
        dw = ConvolutionWeightGradient.apply(dz, x, problem=p, **self.choice) if self.needs[1] else None
        return dx, dw, db


def _add_bias(y: np.ndarray, b: np.ndarray, p: ConvProblem) -> None:
    """Add b to each pixel of y (N, *p.size, C) or (N, C, *p.size), in place.

    The engine's input gradient has no bias. In place the sum takes no memory, and one more pass over a result that was
    just written: 2 % of the time of a layer of 256 channels to 128. In channels last NumPy is given rows of pixels:
    with loops as short as the channels of a pixel it takes 2 (128 channels) to 4 times (3 channels) as long.
    """
    D, H, W = p.size
    if p.layout == "channels_first":
        planes = y.reshape(p.N, p.C, D * H * W)
        planes += b[:, None]
    else:
        rows = y.reshape(p.N * D * H, W * p.C)
        rows += np.tile(b, W)


def _transpose(
    rank: int,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: Any,
    dilation: Any,
    data_format: str,
    weight_format: str,
    activation: str | None,
    algorithm: str,
    negative_slope: float,
    workspace_limit: int | None,
) -> Any:
    if holds_integers(input):
        if activation is not None:
            raise TypeError(f"input must hold floats for an activation; received {input.dtype}")
        exact = "direct" if algorithm in ("auto", "autotune") else algorithm  # others round
        others = (stride, padding, output_padding, groups, dilation, data_format, weight_format, None)
        return of_integers(
            lambda x, w, b: _transpose(rank, x, w, b, *others, exact, negative_slope, workspace_limit),
            input, weight, bias,
        )  # fmt: skip
    x = floating("input", input)
    w = floating("weight", weight, like=x)
    b = None if bias is None else floating("bias", bias, like=x)
    one_of("activation", activation, ACTIVATIONS)
    slope = read_slope(negative_slope, activation)
    dtype = x.dtype
    if b is not None or activation is not None:  # what they are applied to is not rounded before
        x, w, b = widened(x), widened(w), None if b is None else widened(b)
    geometry = (stride, padding, output_padding, groups, dilation)
    shapes = (x.shape, w.shape, None if b is None else b.shape)
    problem = transposed_problem_of(DTYPE_NAMES[x.dtype], *shapes, *geometry, data_format, weight_format, rank)
    single = x.ndim == rank + 1
    if single:
        x = x.reshape(1, *x.shape)
    if x.shape != problem.y_shape:
        x = apply(PutAt, x, index=tuple(map(slice, x.shape)), shape=problem.y_shape)
    settings = {"problem": problem, "activation": activation, "slope": slope}
    settings |= {"algorithm": algorithm, "workspace_limit": workspace_limit}
    return without_batch(rounded(apply(ConvolutionTranspose, x, w, b, **settings), dtype), single)


@drop_in
def conv_transpose1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    *,
    data_format: str = "channels_first",
    weight_format: str = "IOW",
    activation: str | None = None,
    algorithm: str = "auto",
    negative_slope: float = 0.01,
    workspace_limit: int | None = None,
    backend: str | None = None,
) -> Any:
    """1-D transposed convolution of signals with filters.

    The output size is ``(W - 1) * S - 2P + F + output_padding``, with the kernel's extent
    ``F = dilation * (kernel - 1) + 1``.

    Args:
        input: x (N, C, W) or (C, W); channels last (N, W, C) or (W, C). Dtypes as for
            :func:`conv_transpose2d`.
        weight: w (C, K / groups, KW), or (KW, K / groups, C) for "WOI".
        bias: b (K,) or None.
        stride, output_padding, dilation: one integer.
        padding: one integer, or ((left, right),).
        weight_format: "IOW" or "WOI".
        groups, data_format, activation, algorithm, negative_slope, workspace_limit: as for :func:`conv_transpose2d`.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        y (N, K, OW), or in channels last (N, OW, K); without N if the input had none.

    Raises:
        TypeError, ValueError: as :func:`conv_transpose2d`.

    Source: ``torch.nn.functional.conv_transpose1d``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.conv_transpose1d.html

    >>> import numpy as np
    >>> conv_transpose1d(np.array([[1.0, 2.0]]), np.array([[[1.0, 10.0, 100.0]]]), stride=2)
    array([[  1.,  10., 102.,  20., 200.]])
    """
    return _transpose(
        1, input, weight, bias, stride, padding, output_padding, groups, dilation, data_format, weight_format,
        activation, algorithm, negative_slope, workspace_limit,
    )  # fmt: skip


@drop_in
def conv_transpose2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    *,
    data_format: str = "channels_first",
    weight_format: str = "IOHW",
    activation: str | None = None,
    algorithm: str = "auto",
    negative_slope: float = 0.01,
    workspace_limit: int | None = None,
    backend: str | None = None,
) -> Any:
    """2-D transposed convolution of images with filters: each pixel adds its multiple of the filters to the result.

    It is the input gradient of :func:`conv2d` with the same weight: from what would be that convolution's output to
    what would be its input. Each output size is ``(W - 1) * S - 2P + F + output_padding``, with the kernel's extent
    ``F = dilation * (kernel - 1) + 1``.

    Args:
        input: x (N, C, H, W) or (C, H, W); channels last (N, H, W, C) or (H, W, C). Dtypes as for
            :func:`~pycnn.functional.conv2d`.
        weight: w (C, K / groups, KH, KW), or (KH, KW, K / groups, C) for "HWOI".
        bias: b (K,) or None.
        stride: distance in the result between the windows of neighbouring pixels, one integer or (vertical,
            horizontal).
        padding: pixels that are cut off around the result: one integer, (vertical, horizontal) or
            ((top, bottom), (left, right)).
        output_padding: pixels that the result is longer at the bottom and right, less than the stride or the
            dilation: of the sizes that a convolution with a stride maps to one size, it says which. Where no window
            reaches, the result is the bias.
        groups: parts into which channels are divided; each input channel adds to the output channels of its part.
        dilation: distance between the elements of the kernel.
        data_format: "channels_first" or "channels_last".
        weight_format: "IOHW", PyTorch's, or "HWOI", Keras'. I and O are input and output channels of this operation;
            those of the convolution that it transposes are the other way round.
        activation: None, "relu", "leaky_relu", "tanh" or "sigmoid".
        algorithm: "auto", or an algorithm of the input gradient by name; :func:`pycnn.explain` lists them. Gradients
            take the algorithm of the same name where there is one.
        negative_slope: what "leaky_relu" multiplies negative results with, at least 0.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        y (N, K, OH, OW), or in channels last (N, OH, OW, K); without N if the input had none.

    Raises:
        TypeError: other dtypes than float16, bfloat16, float32, float64 and those of integers, or different ones.
        ValueError: shapes that do not fit each other, padding that leaves nothing of the result, an output padding
            that is too large, a step below 1, an unknown name; integers whose sums could exceed 2**53.

    Source: ``torch.nn.functional.conv_transpose2d``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.conv_transpose2d.html

    >>> import numpy as np
    >>> conv_transpose2d(np.array([[[1.0, 2.0]]]), np.array([[[[1.0, 1.0], [1.0, 3.0]]]]))
    array([[[1., 3., 2.],
            [1., 5., 6.]]])
    """
    return _transpose(
        2, input, weight, bias, stride, padding, output_padding, groups, dilation, data_format, weight_format,
        activation, algorithm, negative_slope, workspace_limit,
    )  # fmt: skip


@drop_in
def conv_transpose3d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    *,
    data_format: str = "channels_first",
    weight_format: str = "IODHW",
    activation: str | None = None,
    algorithm: str = "auto",
    negative_slope: float = 0.01,
    workspace_limit: int | None = None,
    backend: str | None = None,
) -> Any:
    """3-D transposed convolution of volumes with filters.

    Each output size is ``(W - 1) * S - 2P + F + output_padding``, with the kernel's extent
    ``F = dilation * (kernel - 1) + 1``.

    Args:
        input: x (N, C, D, H, W) or (C, D, H, W); channels last (N, D, H, W, C) or (D, H, W, C). Dtypes as for
            :func:`conv_transpose2d`.
        weight: w (C, K / groups, KD, KH, KW), or (KD, KH, KW, K / groups, C) for "DHWOI".
        bias: b (K,) or None.
        stride, output_padding, dilation: one integer, or one for each of depth, height and width.
        padding: one integer, one for each axis, or ((front, back), (top, bottom), (left, right)).
        weight_format: "IODHW" or "DHWOI".
        groups, data_format, activation, algorithm, negative_slope, workspace_limit: as for :func:`conv_transpose2d`.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        y (N, K, OD, OH, OW), or in channels last (N, OD, OH, OW, K); without N if the input had none.

    Raises:
        TypeError, ValueError: as :func:`conv_transpose2d`.

    Source: ``torch.nn.functional.conv_transpose3d``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.conv_transpose3d.html

    >>> import numpy as np
    >>> conv_transpose3d(np.ones((1, 1, 1, 2)), np.ones((1, 1, 2, 1, 2)))
    array([[[[1., 2., 1.]],
    <BLANKLINE>
            [[1., 2., 1.]]]])
    """
    return _transpose(
        3, input, weight, bias, stride, padding, output_padding, groups, dilation, data_format, weight_format,
        activation, algorithm, negative_slope, workspace_limit,
    )  # fmt: skip
