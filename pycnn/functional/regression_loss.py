"""Losses between numbers and targets."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pycnn.autograd import Function, unbroadcast
from pycnn.elementary import elementwise
from pycnn.functional.arguments import boolean, number
from pycnn.functional.loss_arguments import (
    AtLeast,
    broadcast_shape,
    chosen,
    in_dtype,
    of_one_dtype,
    on_tensors,
    read_reduction,
    reduced,
    warn_caller,
)
from pycnn.interop.arrays import drop_in
from pycnn.tensor import Tensor

Grads = tuple[Tensor | None, ...]


class _OfDifference(Function):
    """A loss of ``d = x - t``, element by element."""

    def forward(self, x: np.ndarray, t: np.ndarray) -> np.ndarray:
        return self.loss(elementwise(np.subtract, x, t))

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        x, t = self.inputs
        dx = self.slope(x - t, dy)
        return (
            unbroadcast(dx, x.shape) if self.needs[0] else None,
            unbroadcast(-dx, t.shape) if self.needs[1] else None,
        )

    def loss(self, d: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def slope(self, d: Tensor, dy: Tensor) -> Tensor:
        """The derivative at d times dy."""
        raise NotImplementedError


class SquaredError(_OfDifference):
    """``d^2``."""

    def loss(self, d: np.ndarray) -> np.ndarray:
        return elementwise(np.multiply, d, d)

    def slope(self, d: Tensor, dy: Tensor) -> Tensor:
        return d * (dy * 2)


class SumOfSquaredErrors(SquaredError):
    """The sum of ``d^2`` over all elements."""

    def loss(self, d: np.ndarray) -> np.ndarray:
        if not isinstance(d, np.ndarray) or not d.flags.c_contiguous:
            return np.sum(d * d)
        # Squares and their sums in one pass, over rows so short that a sum in float32 loses little.
        whole = d.size // _ROW * _ROW
        rows, rest = d.reshape(-1)[:whole].reshape(-1, _ROW), d.reshape(-1)[whole:]
        return np.vecdot(rows, rows).sum() + np.vecdot(rest, rest)


_ROW = 1024


class AbsoluteError(_OfDifference):
    """``|d|``."""

    def loss(self, d: np.ndarray) -> np.ndarray:
        return elementwise(np.abs, d)

    def slope(self, d: Tensor, dy: Tensor) -> Tensor:
        return dy * np.sign(d.data)


class Huber(_OfDifference):
    """``d^2 / 2`` as far as delta from 0, and ``delta (|d| - delta / 2)``, which goes on straight, beyond."""

    def forward(self, x: np.ndarray, t: np.ndarray, *, delta: float) -> np.ndarray:  # type: ignore[override]
        self.delta = delta
        return super().forward(x, t)

    def loss(self, d: np.ndarray) -> np.ndarray:
        place = d if d.ndim else None  # of the difference, which nobody else has
        size = np.abs(d, out=place)
        near = elementwise(np.minimum, size, d.dtype.type(self.delta))
        # near (size - near / 2)
        twice = np.multiply(np.subtract(np.add(size, size, out=place), near, out=place), near, out=place)
        return np.multiply(twice, d.dtype.type(0.5), out=place)

    def slope(self, d: Tensor, dy: Tensor) -> Tensor:
        return d.clip(-self.delta, self.delta) * dy


def _operands(input: Any, target: Any, weight: Any = None) -> tuple[list[Tensor], np.dtype]:
    """Input, target and, if there is one, the weight; PyTorch warns where the first two have to be broadcast."""
    given = {"input": input, "target": target} | ({} if weight is None else {"weight": weight})
    (x, t, *others), dtype = of_one_dtype(single_numbers_count=True, **given)
    if x.shape != t.shape:
        broadcast_shape(input=x, target=t)
        warn_caller(
            f"target has the shape {t.shape} and input {x.shape}: they are broadcast, which is seldom meant; "
            "give both the same shape"
        )
    for w in others:
        if w.shape != x.shape:
            raise ValueError(f"weight must have the shape of the input, {x.shape}; received {w.shape}")
    return [x, t, *others], dtype


def _weighted(losses: Tensor, weight: Tensor, reduction: str, dtype: np.dtype) -> Tensor:
    """Losses times their weights; their mean is over the sum of the weights."""
    losses = losses * weight
    return in_dtype(losses.sum() / weight.sum(), dtype) if reduction == "mean" else reduced(losses, reduction, dtype)


@drop_in
@on_tensors
def mse_loss(
    input: Any,
    target: Any,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Any = None,
    *,
    backend: str | None = None,
) -> Any:
    """``(x - t)^2``, element by element, and the mean or the sum of these.

    Args:
        input: x, any shape; float16, bfloat16 (both computed in float32 and rounded once), float32 or float64, or
            integers beside a target of those.
        target: t, of the same shape; another one that broadcasts is taken with a warning.
        size_average, reduce: PyTorch's former arguments; they win over ``reduction``, with a warning.
        reduction: "mean", over the sum of the weights if there are any, "sum" or "none".
        weight: of the shape of ``input``, how much each element counts; or None.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        The loss, a single number unless reduction is "none", in the wider dtype of the two.

    Raises:
        TypeError: no real numbers, or no floating-point numbers among them.
        ValueError: shapes that do not broadcast, a weight of another shape, an unknown reduction.

    Source: ``torch.nn.functional.mse_loss``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.mse_loss.html

    >>> import numpy as np
    >>> float(mse_loss(np.array([1.0, 2.0]), np.array([1.0, 4.0])))
    2.0
    """
    reduction = read_reduction(reduction, size_average, reduce)
    (x, t, *weights), dtype = _operands(input, target, weight)
    if weights:
        return _weighted(SquaredError.apply(x, t), weights[0], reduction, dtype)
    if reduction == "none":
        return in_dtype(SquaredError.apply(x, t), dtype)
    total = SumOfSquaredErrors.apply(x, t)
    if reduction == "mean":
        size = math.prod(np.broadcast_shapes(x.shape, t.shape))
        total = total * (1 / size if size else math.nan)
    return in_dtype(total, dtype)


@drop_in
@on_tensors
def l1_loss(
    input: Any,
    target: Any,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Any = None,
    *,
    backend: str | None = None,
) -> Any:
    """``|x - t|``, element by element, and the mean or the sum of these.

    Args, Returns, Raises: as :func:`mse_loss`.

    Source: ``torch.nn.functional.l1_loss``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.l1_loss.html

    >>> import numpy as np
    >>> float(l1_loss(np.array([1.0, 2.0]), np.array([1.0, 4.0])))
    1.0
    """
    reduction = read_reduction(reduction, size_average, reduce)
    (x, t, *weights), dtype = _operands(input, target, weight)
    losses = AbsoluteError.apply(x, t)
    return _weighted(losses, weights[0], reduction, dtype) if weights else reduced(losses, reduction, dtype)


@drop_in
@on_tensors
def smooth_l1_loss(
    input: Any,
    target: Any,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    beta: float = 1.0,
    *,
    backend: str | None = None,
) -> Any:
    """``(x - t)^2 / (2 beta)`` where ``|x - t|`` is below beta, ``|x - t| - beta / 2`` elsewhere.

    Args:
        input, target, size_average, reduce, reduction, backend: as :func:`mse_loss`.
        beta: where the parabola ends; 0 for :func:`l1_loss`.

    Returns:
        As :func:`mse_loss`.

    Raises:
        TypeError: a beta that is no number, and as :func:`mse_loss`.
        ValueError: a beta below 0, and as :func:`mse_loss`.

    Source: Girshick, "Fast R-CNN" (2015); ``torch.nn.functional.smooth_l1_loss``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.smooth_l1_loss.html

    >>> import numpy as np
    >>> smooth_l1_loss(np.array([0.5, 3.0]), np.array([0.0, 0.0]), reduction="none")
    array([0.125, 2.5  ])
    """
    reduction = read_reduction(reduction, size_average, reduce)
    beta = number("beta", beta)
    if not beta >= 0:
        raise ValueError(f"beta must be at least 0; received {beta}")
    (x, t), dtype = _operands(input, target)
    losses = Huber.apply(x, t, delta=beta) / beta if beta else AbsoluteError.apply(x, t)
    return reduced(losses, reduction, dtype)


@drop_in
@on_tensors
def huber_loss(
    input: Any,
    target: Any,
    reduction: str = "mean",
    delta: float = 1.0,
    weight: Any = None,
    *,
    backend: str | None = None,
) -> Any:
    """``(x - t)^2 / 2`` where ``|x - t|`` is at most delta, ``delta (|x - t| - delta / 2)`` elsewhere.

    Args:
        input, target, weight, backend: as :func:`mse_loss`.
        reduction: "mean", over the number of elements even where they have weights, "sum" or "none".
        delta: where the parabola ends.

    Returns:
        As :func:`mse_loss`.

    Raises:
        TypeError: a delta that is no number, and as :func:`mse_loss`.
        ValueError: a delta that is not above 0, and as :func:`mse_loss`.

    Source: Huber, "Robust estimation of a location parameter" (1964); ``torch.nn.functional.huber_loss``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.huber_loss.html

    >>> import numpy as np
    >>> huber_loss(np.array([0.5, 3.0]), np.array([0.0, 0.0]), "none", delta=2.0)
    array([0.125, 4.   ])
    """
    reduction = read_reduction(reduction)
    delta = number("delta", delta)
    if not delta > 0:
        raise ValueError(f"delta must be above 0; received {delta}")
    (x, t, *weights), dtype = _operands(input, target, weight)
    losses = Huber.apply(x, t, delta=delta)
    return reduced(losses * weights[0] if weights else losses, reduction, dtype)


@drop_in
@on_tensors
def poisson_nll_loss(
    input: Any,
    target: Any,
    log_input: bool = True,
    full: bool = False,
    size_average: bool | None = None,
    eps: float = 1e-8,
    reduce: bool | None = None,
    reduction: str = "mean",
    *,
    backend: str | None = None,
) -> Any:
    """``exp(x) - t x``: the negative logarithm of the likelihood of counts t where ``exp(x)`` is expected.

    Args:
        input: x, any shape; dtypes as :func:`mse_loss`.
        target: t, of a shape that broadcasts with that of x.
        log_input: False where x itself is what is expected: ``x - t log(x + eps)``.
        full: add ``log(t!)`` in Stirling's approximation, ``t log(t) - t + log(2 pi t) / 2``, where t is above 1.
        size_average, reduce: PyTorch's former arguments; they win over ``reduction``, with a warning.
        eps: keeps the logarithm away from that of 0.
        reduction: "mean", "sum" or "none".
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        The loss, a single number unless reduction is "none".

    Raises:
        TypeError: no real numbers, or no floating-point numbers among them; an eps that is no number; a
            ``log_input`` or ``full`` that is neither True nor False.
        ValueError: shapes that do not broadcast, an unknown reduction.

    Source: ``torch.nn.functional.poisson_nll_loss``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.poisson_nll_loss.html

    >>> import numpy as np
    >>> float(poisson_nll_loss(np.array([0.0]), np.array([2.0])))
    1.0
    """
    reduction = read_reduction(reduction, size_average, reduce)
    eps, log_input, full = number("eps", eps), boolean("log_input", log_input), boolean("full", full)
    (x, t), dtype = of_one_dtype(integers_count=True, input=input, target=target)
    broadcast_shape(input=x, target=t)
    losses = x.exp() - t * x if log_input else x - t * (x + eps).log()
    if full:
        losses = losses + chosen(t.data > 1, t * t.log() - t + (t * (2 * math.pi)).log() * 0.5)
    return reduced(losses, reduction, dtype)


@drop_in
@on_tensors
def gaussian_nll_loss(
    input: Any,
    target: Any,
    var: Any,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
    *,
    backend: str | None = None,
) -> Any:
    """``(log(v) + (x - t)^2 / v) / 2``: the negative logarithm of the likelihood of targets around expectations.

    Args:
        input: x, the expectations, any shape; dtypes as :func:`mse_loss`.
        target: t, of a shape that broadcasts with that of x.
        var: v, the variances: of the shape of x, of that with a single axis of size 1 instead, or without its last
            axis; or a float. Those below ``eps`` count as ``eps``, with the gradient that they would have above it.
        full: add ``log(2 pi) / 2``.
        eps: the least variance.
        reduction: "mean", "sum" or "none".
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        The loss, a single number unless reduction is "none".

    Raises:
        TypeError: no real numbers, or no floating-point numbers among them; an eps that is no number.
        ValueError: variances below 0, shapes that do not fit, an unknown reduction.

    Source: Nix and Weigend, "Estimating the mean and variance of the target probability distribution" (1994);
    ``torch.nn.functional.gaussian_nll_loss``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.gaussian_nll_loss.html

    >>> import numpy as np
    >>> float(gaussian_nll_loss(np.array([1.0]), np.array([3.0]), 1.0))
    2.0
    """
    reduction = read_reduction(reduction)
    eps = number("eps", eps)
    if isinstance(var, bool | int | np.integer):
        raise TypeError(f"var must be an array or a float; received {var!r}")
    (x, _), dtype = of_one_dtype(integers_count=isinstance(var, float), input=input, target=target)
    if isinstance(var, float):
        if var < 0:
            raise ValueError(f"var must not be below 0; received {var}")
        var = Tensor._of(x.backend.xp.full(x.shape, var, dtype))
    (x, t, v), dtype = of_one_dtype(input=input, target=target, var=var)
    if (v.data < 0).any():
        raise ValueError(f"var must not be below 0; received {v.data.min()}")
    v = _beside(x.shape, v)
    broadcast_shape(input=x, target=t, var=v)
    v = AtLeast.apply(v, least=eps)
    d = x - t
    losses = (v.log() + d * d / v) * 0.5
    return reduced(losses + 0.5 * math.log(2 * math.pi) if full else losses, reduction, dtype)


def _beside(shape: tuple[int, ...], var: Tensor) -> Tensor:
    """Variances in a shape that broadcasts to that of the input."""
    if var.shape == shape:
        return var
    if var.shape == shape[:-1] and shape:
        return var.reshape(*var.shape, 1)
    if var.ndim == len(shape) and sum(have for want, have in zip(shape, var.shape) if want != have) == 1:
        return var
    raise ValueError(
        f"var must have the shape of the input, {shape}, that without its last axis, or with one axis of size 1; "
        f"received {var.shape}"
    )
