"""Batch normalisation."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from pycnn import backend as backends
from pycnn import changes
from pycnn.autograd import Function, is_grad_enabled
from pycnn.backend import plan_on
from pycnn.elementary import COMPUTED, Select, cast
from pycnn.functional.arguments import (
    ArrayLike,
    apply,
    boolean,
    data_of,
    floating,
    layout,
    number,
    one_of,
    refuse_two_places,
    remembered,
    rounded,
    widened,
)
from pycnn.interop.arrays import drop_in
from pycnn.tensor import Tensor
from pycnn_kernels.problem import DTYPE_NAMES, ChannelsProblem, Layout, channels_problem, is_half

Grads = tuple[Tensor | None, ...]


class _Normalisation(Function):
    """``y = activation((x - mean) * rstd * weight + bias)`` for each channel.

    Attributes:
        moves: whether the statistics are those of x, and its gradient goes through them, too.
        mean, rstd: of each channel.
        y: the result, if a ReLU is in it.
    """

    reads = ((0, 1), (0,), ())
    uses_numpy = False
    moves: bool
    layout: Layout
    problem: ChannelsProblem
    mean: np.ndarray
    rstd: np.ndarray
    y: np.ndarray | None

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        x, weight, _ = self.inputs
        if is_grad_enabled() or x.size == 0:  # kernels write no sums of nothing
            return self.differentiable(dy if self.y is None else Select.apply(dy, mask=~(self.y <= 0)))
        shape = self.problem.shape
        skip = tuple(name for name, needed in zip(("dx", "dweight", "dbias"), self.needs) if not needed)
        dx, dweight, dbias, _ = plan_on(x.data, "batch_norm_gradient", self.problem).run(
            dy.data.reshape(shape), x.data.reshape(shape), None if self.y is None else self.y.reshape(shape),
            None if weight is None else weight.data, self.mean, self.rstd,
            skip=(*skip, "db"), scalars=(self.moves, False),
        )  # fmt: skip
        found = (None if dx is None else dx.reshape(x.shape), dweight, dbias)
        return tuple(None if each is None else Tensor._of(each) for each in found)

    def differentiable(self, dz: Tensor) -> Grads:
        """The gradients by operations on tensors, which have gradients themselves; dz is in front of the activation."""
        raise NotImplementedError


class NormNumbers(NamedTuple):
    """What kernels of :class:`BatchNorm` take beside arrays; as :func:`batch_norm` takes them."""

    correction: int
    momentum: float
    eps: float


class BatchNorm(_Normalisation):
    """By the statistics of x; ``forward`` moves the running ones, if there are any."""

    moves = True

    def forward(
        self,
        x: np.ndarray,
        weight: np.ndarray | None,
        bias: np.ndarray | None,
        *,
        running: tuple[np.ndarray | None, np.ndarray | None],
        layout: Layout,
        relu: bool,
        numbers: NormNumbers,
    ) -> np.ndarray:
        self.layout, self.eps = layout, numbers.eps
        self.problem = _channels_problem(x, layout)
        y, self.mean, self.rstd = plan_on(x, "batch_norm", self.problem).run(
            x.reshape(self.problem.shape), weight, bias, updated=running, scalars=(relu, *numbers)
        )
        y = y.reshape(x.shape)
        self.y = y if relu else None
        return y

    def differentiable(self, dz: Tensor) -> Grads:
        x, weight, _ = self.inputs
        axes = _other_axes(x.ndim, self.layout)
        count = max(self.problem.pixels * self.problem.inner, 1)

        def mean(values: Tensor) -> Tensor:
            return values.sum(axes, keepdims=True) / count

        deviations = x - mean(x)
        rstd = (mean(deviations * deviations) + self.eps) ** -0.5
        normalised = deviations * rstd
        dweight = (dz * normalised).sum(axes) if self.needs[1] else None
        dbias = dz.sum(axes) if self.needs[2] else None
        scale = rstd if weight is None else rstd * weight.reshape(_beside(x.ndim, self.layout))
        dx = (dz - mean(dz) - normalised * mean(dz * normalised)) * scale if self.needs[0] else None
        return dx, dweight, dbias


class RunningBatchNorm(_Normalisation):
    """By running statistics."""

    moves = False

    def forward(
        self,
        x: np.ndarray,
        weight: np.ndarray | None,
        bias: np.ndarray | None,
        *,
        running: tuple[np.ndarray, np.ndarray],
        layout: Layout,
        relu: bool,
        eps: float,
    ) -> np.ndarray:
        self.layout, (self.mean, variance) = layout, running
        if any(self.needs):
            self.rstd = (1 / np.sqrt(variance.astype(np.float64) + eps)).astype(x.dtype)
        self.problem = _channels_problem(x, layout)
        (y,) = plan_on(x, "batch_norm_running", self.problem).run(
            x.reshape(self.problem.shape), self.mean, variance, weight, bias, scalars=(relu, eps)
        )
        y = y.reshape(x.shape)
        self.y = y if relu else None
        return y

    def differentiable(self, dz: Tensor) -> Grads:
        x, weight, _ = self.inputs
        beside, axes = _beside(x.ndim, self.layout), _other_axes(x.ndim, self.layout)
        rstd = Tensor._of(self.rstd.reshape(beside))
        scale = rstd if weight is None else rstd * weight.reshape(beside)
        dweight = (dz * (x - self.mean.reshape(beside)) * rstd).sum(axes) if self.needs[1] else None
        return dz * scale, dweight, dz.sum(axes) if self.needs[2] else None


def _channels_problem(x: np.ndarray, layout: Layout) -> ChannelsProblem:
    """x, whose first axis is the batch, as pixels, channels and what lies inside of a channel."""
    return _problem_of_shape(DTYPE_NAMES[x.dtype], x.shape, layout)


@lru_cache(maxsize=4096)
def _problem_of_shape(dtype: str, shape: tuple[int, ...], layout: Layout) -> ChannelsProblem:
    sizes = tuple(shape[axis] for axis in _other_axes(len(shape), layout))
    return channels_problem(dtype, layout, sizes[0], shape[channel_axis(len(shape), layout)], sizes[1:])


def channel_axis(ndim: int, layout: Layout) -> int:
    return ndim - 1 if layout == "channels_last" else 1


def _other_axes(ndim: int, layout: Layout) -> tuple[int, ...]:
    return tuple(axis for axis in range(ndim) if axis != channel_axis(ndim, layout))


def _beside(ndim: int, layout: Layout) -> tuple[int, ...]:
    """The shape in which one number for each channel stands beside an array."""
    return tuple(-1 if axis == channel_axis(ndim, layout) else 1 for axis in range(ndim))


class RunningNorm(NamedTuple):
    """The normalisation of :func:`batch_norm` by running statistics, as an argument of a function that does it, too.

    Attributes:
        running_mean, running_var, weight, bias, eps: as :func:`batch_norm` takes them.

    >>> import numpy as np
    >>> RunningNorm(np.zeros(3), np.ones(3)).eps
    1e-05
    """

    running_mean: Any
    running_var: Any
    weight: Any = None
    bias: Any = None
    eps: float = 1e-5

    def arrays(self, channels: int, like: Any, prefix: str = "") -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """``mean``, ``scale`` and ``bias`` of ``(x - mean) * scale + bias``, in the dtype in which kernels compute.

        Args:
            channels: how many the input has.
            like: has the dtype of the input.
            prefix: what errors put in front of the names of the attributes.

        Raises:
            TypeError, ValueError: as :func:`batch_norm`.
        """
        mean, variance, weight, bias, eps = self._read(channels, like, prefix)
        problem = ChannelsProblem(DTYPE_NAMES[mean.dtype], 1, channels)
        (scale,) = plan_on(variance, "batch_norm_scale", problem).run(variance, weight, scalars=(eps,))
        return mean, scale, bias

    def folding(self, channels: int, like: Any) -> Callable[[np.ndarray | None], tuple[np.ndarray, np.ndarray]]:
        """What gives ``scale`` and ``offset`` of ``z * scale + offset``, which normalises ``z + before``.

        z is the result of a convolution, and ``before`` its bias, (channels,), or None. The arguments are read now, and
        their elements with each call.

        Args:
            channels, like: as for :meth:`arrays`.

        Raises:
            TypeError, ValueError: as :func:`batch_norm`.

        >>> norm = RunningNorm(np.array([1.0]), np.array([4.0]), eps=0.0)
        >>> norm.folding(1, np.zeros(1))(np.array([3.0]))
        (array([0.5]), array([1.]))
        """
        mean, *_, eps = self._read(channels, like)
        problem = ChannelsProblem(DTYPE_NAMES[mean.dtype], 1, channels)

        def compute(before: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
            given = [each if each is None else widened(data_of(each)) for each in self[:4]]
            scale, offset = plan_on(given[1], "batch_norm_fold", problem).run(*given, before, scalars=(eps,))
            return scale, offset

        return compute

    def _read(self, channels: int, like: Any, prefix: str = "") -> tuple[Any, ...]:
        """Mean, variance, weight and bias as arrays that kernels take, and eps."""
        weight, bias, (mean, variance) = _read(like, channels, *self[:4], prefix)
        if mean is None or variance is None:
            raise ValueError(f"{prefix}running_mean and {prefix}running_var must be given; received None")
        eps = number(f"{prefix}eps", self.eps)
        return widened(mean), widened(variance), data_of(weight), data_of(bias), eps


class BatchStatisticsNorm(NamedTuple):
    """The normalisation of :func:`batch_norm` in training, as an argument of a function that does it, too.

    Attributes:
        running_mean, running_var, weight, bias, momentum, eps, correction: as :func:`batch_norm` takes them.

    >>> BatchStatisticsNorm(None, None).momentum
    0.1
    """

    running_mean: Any
    running_var: Any
    weight: Any = None
    bias: Any = None
    momentum: float = 0.1
    eps: float = 1e-5
    correction: int = 1

    def read(self, channels: int, like: Any, prefix: str = "") -> tuple[Any, Any, Any, NormNumbers]:
        """Weight and bias, the running statistics, and the numbers as :class:`BatchNorm` takes them.

        Args:
            channels: how many the input has.
            like: has the dtype of the input.
            prefix: what errors put in front of the names of the attributes.

        Raises:
            TypeError, ValueError: as :func:`batch_norm`.
        """
        weight, bias, running = _read(like, channels, *self[:4], prefix)
        return weight, bias, running, _numbers(prefix, self.momentum, self.eps, self.correction)


@remembered()
def _numbers(prefix: str, momentum: Any, eps: Any, correction: Any) -> NormNumbers:
    """The numbers of a :class:`BatchStatisticsNorm`; the same for equal ones."""
    one_of(f"{prefix}correction", correction, (0, 1))
    return NormNumbers(correction, number(f"{prefix}momentum", momentum), number(f"{prefix}eps", eps))


@drop_in
def batch_norm(
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    data_format: str = "channels_first",
    activation: str | None = None,
    correction: int = 1,
    backend: str | None = None,
) -> Any:
    """``(x - mean) / sqrt(variance + eps) * weight + bias`` for each channel, over the batch and all pixels.

    Args:
        input: (N, C) or (N, C, ...), or (N, ..., C) for "channels_last"; float32 or float64, or float16 or bfloat16,
            which are computed in float32 and rounded once.
        running_mean, running_var: (C,), or None, in the dtype of the input, or float32 beside float16 and bfloat16.
            Without ``training`` they are what is normalised by. With it the mean
            and the variance of the input are, and these arrays, if there are any, move towards them in place.
        weight, bias: (C,) or None, which stands for ones and zeros.
        training: normalise by the statistics of the input.
        momentum: how much of the way the running statistics move towards those of the input.
        eps: is added to the variance, at least 0, above it with ``training``.
        data_format: "channels_first" or "channels_last".
        activation: "relu" for ``max(y, 0)`` in the same pass, or None.
        correction: 1 to move ``running_var`` towards the unbiased variance, as PyTorch does, 0 towards that which is
            normalised by, as Keras does.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        An array or a tensor of the shape and dtype of the input.

    Raises:
        TypeError: dtypes other than those above, or not the input's; running statistics that are tensors to be trained;
            a ``training`` that is neither True nor False.
        ValueError: shapes that do not fit; running statistics that are missing where they are needed, one without the
            other, or not writable; a single value per channel, which has no variance, in training; an eps below 0, or
            of 0 in training.

    Source: ``torch.nn.functional.batch_norm``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.batch_norm.html

    >>> import numpy as np
    >>> x = np.array([[1.0, 10.0], [3.0, 30.0]])
    >>> batch_norm(x, None, None, training=True, eps=1e-12)
    array([[-1., -1.],
           [ 1.,  1.]])
    >>> batch_norm(x, np.array([1.0, 10.0]), np.array([4.0, 100.0]), eps=0.0)
    array([[0., 0.],
           [1., 2.]])
    """
    x = floating("input", input)
    where, relu, numbers = _settings(data_format, training, activation, momentum, eps, correction)
    if x.ndim < 2:
        raise ValueError(f"input must have the axes (N, C) or more; received the shape {tuple(x.shape)}")
    channels = x.shape[channel_axis(x.ndim, where)]
    scale, offset, running = _read(x, channels, running_mean, running_var, weight, bias)
    if not training:
        mean, variance = running
        if mean is None or variance is None:
            raise ValueError("running_mean and running_var must be given unless training is True; received None")
        wide = widened(mean), widened(variance)
        y = apply(RunningBatchNorm, widened(x), scale, offset, running=wide, layout=where, relu=relu, eps=numbers.eps)
        return rounded(y, x.dtype)
    moving = movable(running, x.shape, channels)
    y = apply(BatchNorm, widened(x), scale, offset, running=moving, layout=where, relu=relu, numbers=numbers)
    note_moved(running, moving)
    return rounded(y, x.dtype)


@remembered()
def _settings(
    data_format: Any, training: Any, activation: Any, momentum: Any, eps: Any, correction: Any
) -> tuple[Layout, bool, NormNumbers]:
    """The layout, whether there is a ReLU, and the numbers.

    Raises:
        TypeError, ValueError: as :func:`batch_norm`.
    """
    where, relu = layout(data_format), one_of("activation", activation, (None, "relu")) == "relu"
    training, numbers = boolean("training", training), _numbers("", momentum, eps, correction)
    if numbers.eps < 0 or (training and numbers.eps == 0):
        raise ValueError(f"eps must be at least 0, and above it in training; received {eps}")
    return where, relu, numbers


def movable(
    running: tuple[np.ndarray | None, np.ndarray | None], shape: tuple[int, ...], channels: int, prefix: str = ""
) -> tuple[np.ndarray | None, ...]:
    """Running statistics as kernels move them in place, for an input of this shape: themselves, or copies.

    What has moved is for :func:`note_moved`.

    Raises:
        ValueError: as :func:`batch_norm` in training.
    """
    values = math.prod(shape) // max(channels, 1)
    if values == 1:
        raise ValueError(
            f"training needs more than one value per channel, whose variance it takes; received the shape {shape}"
        )
    mean, variance = running
    moving = _movable("running_mean", mean, prefix), _movable("running_var", variance, prefix)
    return moving if values else (None, None)  # an empty batch says nothing about its channels


def note_moved(running: tuple[np.ndarray | None, ...], moving: tuple[np.ndarray | None, ...]) -> None:
    """Write what has moved back to where it is a copy, and note the changes."""
    for given, array in zip(running, moving):
        if given is not None and array is not None:
            if array is not given:
                given[...] = cast(array, given.dtype)
            changes.note(given, "the training of a batch normalisation")


def refuse_read_only(name: str, running: np.ndarray | None) -> None:
    """Raise a ValueError for running statistics that cannot be moved in place."""
    if running is not None and not backends.of(running).is_writable(running):
        raise ValueError(f"{name} is changed in place: it must be writable; received a read-only array")


def _movable(name: str, running: np.ndarray | None, prefix: str) -> np.ndarray | None:
    """The array itself, or a copy that kernels can change."""
    if running is None:
        return None
    if type(running) is np.ndarray and running.flags.carray and running.dtype in COMPUTED:
        return running  # as most are
    refuse_read_only(prefix + name, running)
    wide = widened(running)
    return wide if backends.of(wide).is_ready(wide) else cast(wide, wide.dtype)


def _read(
    x: ArrayLike, channels: int, running_mean: Any, running_var: Any, weight: Any, bias: Any, prefix: str = ""
) -> tuple[Any, Any, tuple[np.ndarray | None, np.ndarray | None]]:
    """Weight and bias in the dtype in which the kernel computes, and the running statistics."""
    scale = None if weight is None else widened(_one_each(prefix + "weight", weight, channels, x))
    offset = None if bias is None else widened(_one_each(prefix + "bias", bias, channels, x))
    mean = None if running_mean is None else _running(prefix + "running_mean", running_mean, channels, x)
    variance = None if running_var is None else _running(prefix + "running_var", running_var, channels, x)
    if (mean is None) != (variance is None):
        alone = "running_mean" if variance is None else "running_var"
        raise ValueError(
            f"{prefix}running_mean and {prefix}running_var must be given both, or neither of them; "
            f"received {prefix}{alone} alone"
        )
    return scale, offset, (mean, variance)


def _one_each(name: str, value: Any, channels: int, x: ArrayLike) -> Any:
    if _fits(value, channels, x):
        return value
    # As in PyTorch, float32 may stand beside an input in float16 or bfloat16.
    value = floating(name, value)
    if value.dtype != np.float32 or not is_half(x.dtype):
        value = floating(name, value, like=x)
    refuse_two_places(name, value, x)
    if tuple(value.shape) != (channels,):
        raise ValueError(f"{name} must have the shape ({channels},), one for each channel; received {value.shape}")
    return value


def _fits(value: Any, channels: int, x: ArrayLike) -> bool:
    """Whether it is one number for each channel as it is: in most calls, which shall not take long, it is."""
    if type(x) is np.ndarray:  # and so is made ready, where the default backend is
        return type(value) is np.ndarray and value.dtype is x.dtype and value.shape == (channels,)
    data, like = data_of(value), data_of(x)
    fits = type(data) is type(like) is np.ndarray and data.dtype is like.dtype and data.shape == (channels,)
    # Where a GPU is the default an array of NumPy's goes there.
    return fits and (data is not value or backends.is_ready(value))


def _running(name: str, value: Any, channels: int, x: ArrayLike) -> np.ndarray:
    """The array of running statistics, or of a tensor that holds them."""
    if type(value) is np.ndarray and _fits(value, channels, x):
        return value
    if isinstance(value, Tensor):
        if value.requires_grad:
            raise TypeError(f"{name} must not require a gradient: it is moved in place; received one that does")
        value = value.data
    elif not (isinstance(value, np.ndarray) or backends.is_on_gpu(value)):
        raise TypeError(
            f"{name} must be an array or a tensor, which is moved in place; received {type(value).__name__}"
        )
    # A copy where x is would be moved in place of what the caller gave.
    refuse_two_places(name, value, x, "is changed in place: it ")
    found: np.ndarray = _one_each(name, value, channels, x)
    return found
