"""Losses between numbers and targets."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pycnn import backend as backends
from pycnn.elementary import Subtract, elementwise
from pycnn.functional.arguments import apply, boolean, data_of, number
from pycnn.functional.elementwise_loss import loss_between
from pycnn.functional.loss_arguments import (
    AtLeast,
    alike,
    as_tensor,
    broadcast_shape,
    in_dtype,
    on_tensors,
    read_reduction,
    warn_caller,
)
from pycnn.interop.arrays import drop_in


def _operands(input: Any, target: Any, weight: Any = None) -> tuple[list[Any], np.dtype]:
    """Input, target and, if there is one, the weight; PyTorch warns where the first two have to be broadcast."""
    given = {"input": input, "target": target} | ({} if weight is None else {"weight": weight})
    (x, t, *others), dtype = alike(single_numbers_count=True, **given)
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


def _weighted(name: str, x: Any, t: Any, weight: Any, reduction: str, dtype: np.dtype) -> Any:
    """Losses times their weights; their mean is over the sum of the weights."""
    if reduction != "mean":
        return loss_between(name, x, t, reduction, dtype, weight=weight)
    total = as_tensor(loss_between(name, x, t, "sum", x.dtype, weight=weight))
    return in_dtype(total / as_tensor(weight).sum(), dtype)


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
        return _weighted("squared_error", x, t, weights[0], reduction, dtype)
    return loss_between("squared_error", x, t, reduction, dtype)


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
    if weights:
        return _weighted("absolute_error", x, t, weights[0], reduction, dtype)
    return loss_between("absolute_error", x, t, reduction, dtype)


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
    return loss_between("smooth_l1" if beta else "absolute_error", x, t, reduction, dtype, beta)


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
    return loss_between("huber", x, t, reduction, dtype, delta, weights[0] if weights else None)


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
    (x, t), dtype = alike(integers_count=True, input=input, target=target)
    broadcast_shape(input=x, target=t)
    name = f"{'full_' if full else ''}{'log_' if log_input else ''}poisson"
    return loss_between(name, x, t, reduction, dtype, eps)


@drop_in
@on_tensors
@np.errstate(all="ignore")
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
    if isinstance(var, (bool, int, np.integer)):  # of a tuple: a union would be made for each call
        raise TypeError(f"var must be an array or a float; received {var!r}")
    if isinstance(var, float):
        if var < 0:
            raise ValueError(f"var must not be below 0; received {var}")
        (x, _), dtype = alike(integers_count=True, input=input, target=target)
        var = backends.of(data_of(x)).xp.full(x.shape, var, dtype)
    (x, t, v), dtype = alike(input=input, target=target, var=var)
    values = data_of(v)
    least = values.min() if values.size else eps
    if not least >= eps:  # or there is a NaN
        if (values < 0).any():
            raise ValueError(f"var must not be below 0; received {values[values < 0].min()}")
        v = apply(AtLeast, v, least=eps)
    if not x.shape == t.shape == v.shape:  # a few
        v = _beside(x.shape, v)
        broadcast_shape(input=x, target=t, var=v)
    losses = loss_between("gaussian", _errors(x, t), v, reduction, dtype if not full else x.dtype)
    if not full:
        return losses
    count = 1 if reduction != "sum" else math.prod(np.broadcast_shapes(x.shape, t.shape, v.shape))
    return in_dtype(as_tensor(losses) + count * 0.5 * math.log(2 * math.pi), dtype)


def _errors(x: Any, t: Any) -> Any:
    """``x - t`` of tensors, or of arrays, for which a record would take longer."""
    return elementwise(np.subtract, x, t) if type(x) is type(t) is np.ndarray else apply(Subtract, x, t)


def _beside(shape: tuple[int, ...], var: Any) -> Any:
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
