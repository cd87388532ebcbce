"""Descriptions of work, and all shape arithmetic.

A problem is one immutable, hashable value that says everything about a piece of work except the numbers in
the arrays. It is the key of the plan cache. Sizes follow the convention of the project: ``N C D H W`` in,
``K`` output channels, ``G`` groups, ``KD KH KW`` kernel, ``OD OH OW`` out. One and two dimensions are three
with missing axes of size 1.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import numpy as np

Triple = tuple[int, int, int]
#: (before, after) for each of the three spatial axes.
PaddingTriple = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
Layout = Literal["channels_last", "channels_first"]
WeightLayout = Literal["HWIO", "OIHW"]
PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]

#: The dtypes of problems, by the names that problems use. (NumPy takes microseconds to put ``dtype.name`` together.)
#: bfloat16 is not NumPy's own and joins them when :func:`dtype_name` meets its first array.
DTYPE_NAMES = {
    np.dtype(np.float16): "float16",
    np.dtype(np.float32): "float32",
    np.dtype(np.float64): "float64",
}

#: Dtypes in which arrays are stored and nothing is computed: their problems are those of float32 between conversions.
STORAGE_DTYPES = ("float16", "bfloat16")


def dtype_name(dtype: np.dtype) -> str | None:
    """The name that problems use for a dtype; None for one that they do not have.

    bfloat16 is known by its name, so that its package is not imported here: where it is not, there is no such array.

    >>> dtype_name(np.dtype("float16")), dtype_name(np.dtype("int8"))
    ('float16', None)
    """
    name = DTYPE_NAMES.get(dtype)
    if name is None and dtype.name == "bfloat16":
        name = DTYPE_NAMES[dtype] = "bfloat16"
    return name


def numpy_dtype(name: str) -> np.dtype:
    """The dtype of a name; for "bfloat16" from the package ml_dtypes.

    Raises:
        ModuleNotFoundError: "bfloat16", and ml_dtypes is not installed.

    >>> numpy_dtype("float16")
    dtype('float16')
    """
    if name != "bfloat16":
        return np.dtype(name)
    try:
        import ml_dtypes
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "the dtype bfloat16 needs the package ml_dtypes; pip install 'pycnn[bfloat16]' brings it"
        ) from None
    return np.dtype(ml_dtypes.bfloat16)


def is_half(dtype: np.dtype) -> bool:
    """Whether a dtype is float16 or bfloat16, of which numbers are widened before anything is computed."""
    return dtype.itemsize == 2 and dtype_name(dtype) in STORAGE_DTYPES


def is_floating(dtype: np.dtype) -> bool:
    """Whether a dtype is floating point: NumPy's, or bfloat16, which NumPy itself takes for raw bytes."""
    return dtype.kind == "f" or (dtype.kind == "V" and dtype_name(dtype) is not None)


def computed(problem: Any) -> Any:
    """The problem that is computed for one whose arrays are stored in float16 or bfloat16: the same in float32."""
    if problem.dtype not in STORAGE_DTYPES:
        return problem
    if isinstance(problem, ConvPoolProblem):
        return ConvPoolProblem(computed(problem.conv), computed(problem.pool))
    return problem._replace(dtype="float32")


def effective_kernel(kernel: int, dilation: int = 1) -> int:
    """The extent of a dilated kernel along one axis: ``dilation * (kernel - 1) + 1``.

    >>> effective_kernel(3, dilation=2)
    5
    """
    return dilation * (kernel - 1) + 1


def output_size(
    size: int,
    kernel: int,
    stride: int = 1,
    padding: tuple[int, int] = (0, 0),
    dilation: int = 1,
    ceil_mode: bool = False,
) -> int:
    """The output size along one axis: ``(W - F + 2P) / S + 1``, rounded down.

    Args:
        size: input size W.
        kernel: kernel size F before dilation.
        stride: step S.
        padding: elements before and after, together 2P.
        dilation: distance between kernel elements.
        ceil_mode: round up instead, for pooling; a last window that would begin in the padding after the
            input is dropped, as in PyTorch.

    Returns:
        The size, 0 or less when the kernel does not fit.

    >>> output_size(32, 5)
    28
    >>> output_size(224, 7, stride=2, padding=(3, 3))
    112
    """
    room = size + padding[0] + padding[1] - effective_kernel(kernel, dilation)
    if not ceil_mode:
        return room // stride + 1
    out = -(-room // stride) + 1
    if (out - 1) * stride >= size + padding[0]:
        out -= 1
    return out


def same_padding(size: int, kernel: int, stride: int = 1, dilation: int = 1) -> tuple[int, int]:
    """The padding of TensorFlow's "same": ``ceil(size / stride)`` outputs, an odd element goes after.

    Source: TensorFlow, "tf.nn: Notes on padding", https://www.tensorflow.org/api_docs/python/tf/nn

    >>> same_padding(5, 3)
    (1, 1)
    >>> same_padding(6, 3, stride=2)
    (0, 1)
    """
    out = -(-size // stride)
    total = max((out - 1) * stride + effective_kernel(kernel, dilation) - size, 0)
    return total // 2, total - total // 2


class ConvProblem(NamedTuple):
    """A convolution: ``y[n, o, k] = b[k] + sum over taps t and channels c of x[n, o * S + t * D - P, c] w[t, c, k]``.

    The arrays are x (N, D, H, W, C), w (KD, KH, KW, C / G, K) and y (N, OD, OH, OW, K) in the layouts
    "channels_last" and "HWIO"; x and y (N, C, D, H, W) in "channels_first"; w (K, C / G, KD, KH, KW) in "OIHW".
    Forward, input gradient and weight gradient of one layer share one problem.
    """

    dtype: str
    layout: Layout
    weight_layout: WeightLayout
    N: int
    C: int
    size: Triple
    K: int
    kernel: Triple
    stride: Triple
    padding: PaddingTriple
    dilation: Triple
    G: int = 1
    bias: bool = False
    #: None, "relu", "leaky_relu", "tanh" or "sigmoid".
    activation: str | None = None
    #: Spatial axes of the arrays; axes beyond are of size 1 in the problem and missing in the arrays.
    rank: int = 2
    #: What lies in the padding: zeros, or elements of x, as ``torch.nn.functional.pad`` names the ways.
    padding_mode: PaddingMode = "zeros"
    #: Whether each output channel is multiplied by an element of ``scale`` before the bias is added.
    scale: bool = False
    #: Whether an array like y is added in front of the activation.
    residual: bool = False
    #: What "leaky_relu" multiplies negative results with.
    slope: float = 0.01

    @property
    def output(self) -> Triple:
        """(OD, OH, OW)."""
        d, h, w = (output_size(*axis) for axis in zip(self.size, self.kernel, self.stride, self.padding, self.dilation))
        return d, h, w

    @property
    def x_shape(self) -> tuple[int, ...]:
        return _array_shape(self.layout, self.rank, self.N, self.C, self.size)

    @property
    def y_shape(self) -> tuple[int, ...]:
        return _array_shape(self.layout, self.rank, self.N, self.K, self.output)

    @property
    def w_shape(self) -> tuple[int, ...]:
        kernel = self.kernel[3 - self.rank :]
        if self.weight_layout == "HWIO":
            return (*kernel, self.C // self.G, self.K)
        return (self.K, self.C // self.G, *kernel)

    @property
    def linear(self) -> ConvProblem:
        """The problem without all that is done to the result of the convolution."""
        return self._replace(bias=False, activation=None, scale=False, residual=False, slope=0.01)

    @property
    def multiply_adds(self) -> int:
        """Multiplications of the direct algorithm."""
        pixels = self.N * math.prod(self.output)
        return pixels * self.K * (self.C // self.G) * math.prod(self.kernel)


class PoolProblem(NamedTuple):
    """A pooling of windows over x (N, D, H, W, C) or (N, C, D, H, W).

    The kinds: the greatest element of a window, its "average", or its "norm", the root of the sum of squares; or
    "stochastic", an element drawn with the probability of its share of the sum of all that are positive.

    With ``normalised`` an element of "max" is ``(x - mean) * scale + bias`` with the numbers of its channel.

    ``index``, where in its window each result of "max" and "stochastic" was found, is (N, OD, OH, OW, C) in both
    layouts. ``count_padding`` says whether an average counts the padding; ``divisor`` replaces the count when not 0.

    With ``target``, (OD, OH, OW), the pooling is adaptive: window o of O along an axis holds the elements from
    ``floor(o * size / O)`` up to ``ceil((o + 1) * size / O)``, whatever kernel, stride and padding say.
    """

    kind: Literal["max", "average", "norm", "stochastic"]
    dtype: str
    layout: Layout
    N: int
    C: int
    size: Triple
    kernel: Triple
    stride: Triple
    padding: PaddingTriple
    dilation: Triple = (1, 1, 1)
    ceil_mode: bool = False
    count_padding: bool = True
    divisor: int = 0
    rank: int = 2
    target: Triple | None = None
    normalised: bool = False

    @property
    def x_shape(self) -> tuple[int, ...]:
        return _array_shape(self.layout, self.rank, self.N, self.C, self.size)

    @property
    def y_shape(self) -> tuple[int, ...]:
        return _array_shape(self.layout, self.rank, self.N, self.C, self.output)

    @property
    def index_shape(self) -> tuple[int, ...]:
        return _array_shape("channels_last", self.rank, self.N, self.C, self.output)

    @property
    def index_dtype(self) -> str:
        """The least that holds every position of a window, and :attr:`no_position`."""
        return "uint16" if math.prod(self.window) < 1 << 16 else "uint32"

    @property
    def no_position(self) -> int:
        """What ``index`` holds for a window that lies in the padding altogether.

        At most 2^24, because kernels count positions in float32.
        """
        return (1 << 16) - 1 if self.index_dtype == "uint16" else 1 << 24

    @property
    def window(self) -> Triple:
        """The elements of the largest window along each axis."""
        if self.target is None:
            return self.kernel
        d, h, w = (int(np.max(self.ends(axis) - self.starts(axis))) for axis in range(3))
        return d, h, w

    def starts(self, axis: int) -> np.ndarray:
        """Where along an axis (0 to 2) each window begins, seen from the input's first element."""
        o = np.arange(self.output[axis])
        if self.target is None:
            return o * self.stride[axis] - self.padding[axis][0]
        return o * self.size[axis] // self.target[axis]

    def ends(self, axis: int) -> np.ndarray:
        """One behind the last element of each window."""
        if self.target is None:
            return self.starts(axis) + effective_kernel(self.kernel[axis], self.dilation[axis])
        return -(-(np.arange(self.target[axis]) + 1) * self.size[axis] // self.target[axis])

    @property
    def output(self) -> Triple:
        """(OD, OH, OW)."""
        if self.target is not None:
            return self.target
        d, h, w = (
            output_size(*axis, self.ceil_mode)
            for axis in zip(self.size, self.kernel, self.stride, self.padding, self.dilation)
        )
        return d, h, w


class FractionalPoolProblem(NamedTuple):
    """The greatest of windows that begin anywhere, elsewhere in each plane, over x (N, D, H, W, C) or (N, C, D, H, W).

    ``starts`` (N, C, OD + OH + OW) says where; ``index`` has each maximum's position in its plane, as y is laid out.
    """

    dtype: str
    layout: Layout
    N: int
    C: int
    size: Triple
    kernel: Triple
    output: Triple
    rank: int = 2

    @property
    def x_shape(self) -> tuple[int, ...]:
        return _array_shape(self.layout, self.rank, self.N, self.C, self.size)

    @property
    def y_shape(self) -> tuple[int, ...]:
        return _array_shape(self.layout, self.rank, self.N, self.C, self.output)


class PlanesProblem(NamedTuple):
    """Reading from planes of ``read`` pixels and writing to planes of ``written``, at positions in one of the two.

    The planes are (N, C, pixels), or (N, pixels, C).
    """

    dtype: str
    layout: Layout
    N: int
    C: int
    read: int
    written: int

    def shape(self, pixels: int) -> tuple[int, int, int]:
        """Of an array of planes of so many pixels."""
        return (self.N, pixels, self.C) if self.layout == "channels_last" else (self.N, self.C, pixels)


class ConvPoolProblem(NamedTuple):
    """The max pooling of a convolution's result: the pooling's x is the convolution's y."""

    conv: ConvProblem
    pool: PoolProblem

    @property
    def dtype(self) -> str:
        return self.conv.dtype

    @property
    def bias_is_pooled(self) -> bool:
        """Whether bias and ReLU, if any, come after the pooling: nothing else is done to the convolution's sums."""
        conv, pool = self
        return conv.activation in (None, "relu") and not (conv.scale or conv.residual or pool.normalised)


class ChannelsProblem(NamedTuple):
    """Work on an array of ``pixels`` x ``channels`` x ``inner``: inner is 1 in channels last."""

    dtype: str
    pixels: int
    channels: int
    inner: int = 1

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.pixels, self.channels, self.inner


def channels_problem(dtype: str, layout: Layout, N: int, channels: int, size: tuple[int, ...]) -> ChannelsProblem:
    """The pixels and channels of an array (N, *size, channels), or with the channels first."""
    if layout == "channels_last":
        return ChannelsProblem(dtype, N * math.prod(size), channels)
    return ChannelsProblem(dtype, N, channels, math.prod(size))


class RowsProblem(NamedTuple):
    """Work on a matrix of ``rows`` x ``columns``, row by row: softmax, its cross-entropy, layer normalisation."""

    dtype: str
    rows: int
    columns: int


class ActivationProblem(NamedTuple):
    """An activation of ``size`` elements, or with ``derivative`` 1 or 2 a gradient times f'(x) or f''(x).

    ``name`` is one of ``activations.ACTIVATIONS``.
    """

    dtype: str
    name: str
    size: int
    derivative: int = 0


class LossProblem(NamedTuple):
    """A loss of ``size`` numbers x and as many targets t, or its gradient for one of the two.

    ``name`` is one of ``losses.LOSSES``. Where the losses are ``summed`` their gradients are all the same number, that
    of the sum, times a factor; ``operand`` says whose gradient is computed: 0 is that of x, 1 that of t.
    """

    dtype: str
    name: str
    size: int
    summed: bool = False
    operand: int = 0


class CastProblem(NamedTuple):
    """The way of ``size`` elements between ``dtype``, float32, and ``storage``, "float16" or "bfloat16"."""

    storage: str
    size: int
    dtype: str = "float32"


class UpdatesProblem(NamedTuple):
    """An optimizer's step over parameters of these shapes, all of one dtype; ``rule`` is one of ``updates.RULES``."""

    dtype: str
    rule: str
    shapes: tuple[tuple[int, ...], ...]


#: How an axis continues beyond its elements: ``torch.nn.functional.pad``'s names, "constant" for what lies nowhere.
Continuation = Literal["constant", "reflect", "replicate", "circular"]


class Nearest(NamedTuple):
    """Element o of a resized axis of ``size`` elements shows the nearest of them.

    Which one that is depends on the precision in which ``scale``, elements of the input to one of the result, and its
    products are computed: ``dtype``. With ``centred`` centres of elements are compared, otherwise their beginnings.
    """

    size: int
    scale: float
    dtype: str
    centred: bool


class RearrangeProblem(NamedTuple):
    """Elements shown at other places: ``y[n, o, c] = x[n, f(o), c]``, or a number where f(o) is nowhere.

    x is (N, *size, inner), y (N, *counts, inner). Each axis of y belongs to one axis of x, and moves by a step along
    it: the position on axis j is ``starts[j]`` and the sum of ``step * o[i]`` over the axes i of y that belong to it,
    continued or resized as ``ways[j]`` says. So padding is an axis of y for each of x; cutting an image into windows
    two, where the window is and where in it; and a shuffle several of y for a channel.

    ``axes`` are those of y: (count, axis of x, step).
    """

    dtype: str
    N: int
    size: tuple[int, ...]
    axes: tuple[tuple[int, int, int], ...]
    starts: tuple[int, ...]
    ways: tuple[Continuation | Nearest, ...]
    inner: int = 1

    @property
    def x_shape(self) -> tuple[int, ...]:
        return (self.N, *self.size, self.inner)

    @property
    def y_shape(self) -> tuple[int, ...]:
        return (self.N, *(count for count, _, _ in self.axes), self.inner)


class ResampledAxis(NamedTuple):
    """How an axis of ``size`` elements becomes one of ``output``: each a weighted sum of some.

    Attributes:
        kind: "linear", weights of two neighbours, or "cubic", of four.
        scale: elements of the input to one of the result, as given; 0 for the quotient of the sizes.
        align_corners: whether the first and last elements lie upon each other, instead of the outer edges.
        antialias: whether the weights spread over ``scale`` times as many elements where that is above 1.
        of_bytes: whether the weights are rounded to 16 bits, as is usual where the elements are bytes.
    """

    kind: Literal["linear", "cubic"]
    size: int
    output: int
    scale: float = 0.0
    align_corners: bool = False
    antialias: bool = False
    of_bytes: bool = False


class ResampleProblem(NamedTuple):
    """Weighted sums along one to three axes: x (N, *sizes, inner), y (N, *outputs, inner).

    The gradient is the same with the weights' transposed tables.
    """

    dtype: str
    N: int
    axes: tuple[ResampledAxis, ...]
    inner: int = 1

    @property
    def x_shape(self) -> tuple[int, ...]:
        return (self.N, *(axis.size for axis in self.axes), self.inner)

    @property
    def y_shape(self) -> tuple[int, ...]:
        return (self.N, *(axis.output for axis in self.axes), self.inner)


def _array_shape(layout: Layout, rank: int, N: int, channels: int, size: Triple) -> tuple[int, ...]:
    spatial = size[3 - rank :]
    return (N, *spatial, channels) if layout == "channels_last" else (N, channels, *spatial)
