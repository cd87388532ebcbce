"""Losses."""

from __future__ import annotations

from typing import Any

import numpy as np

from pycnn import backend as backends
from pycnn.autograd import Function, is_grad_enabled
from pycnn.backend import plan_on
from pycnn.functional.activation import log_softmax, softmax
from pycnn.functional.arguments import (
    apply,
    data_of,
    floating,
    fraction,
    integer,
    one_of,
    rounded,
    tensor_or_array,
    widened,
)
from pycnn.interop.arrays import drop_in
from pycnn.tensor import Tensor
from pycnn_kernels.problem import DTYPE_NAMES, RowsProblem, is_floating, is_half

Grads = tuple[Tensor | None, ...]


class CrossEntropy(Function):
    """One loss for each row of logits, and integer labels; see ``cross_entropy_kernel``."""

    def forward(self, x: np.ndarray, *, labels: np.ndarray, ignore: int, smoothing: float) -> np.ndarray:
        self.labels, self.ignore, self.smoothing = labels, ignore, smoothing
        problem = RowsProblem(DTYPE_NAMES[x.dtype], *x.shape)
        losses, self.softmax = plan_on(x, "cross_entropy", problem).run(x, labels, scalars=(ignore, smoothing))
        return losses

    def backward(self, dlosses: Tensor) -> Grads:  # type: ignore[override]
        (x,) = self.inputs
        rows, columns = x.shape
        counted = self.labels != self.ignore
        on = backends.of(x.data)
        target = on.empty(x.shape, x.dtype)
        target.fill(self.smoothing / columns)
        counts = counted.astype(x.dtype)
        # Without a mask as the index, for whose count the host would wait for a GPU.
        target[on.xp.arange(rows), np.where(counted, self.labels, 0)] += (1 - self.smoothing) * counts
        if is_grad_enabled():
            # The kernel's softmax is a plain array: a gradient that is to be differentiated needs one with a history.
            return ((softmax(x, dim=1) - target) * (dlosses * counts).reshape(rows, 1),)
        dx = np.subtract(self.softmax, target, out=target)
        dx *= (dlosses.data * counts).reshape(rows, 1)
        return (Tensor._of(dx),)


class BinaryCrossEntropy(Function):
    """``-(t log x + (1 - t) log(1 - x))`` for each element, the logarithms at least -100 as in PyTorch."""

    def forward(self, x: np.ndarray, t: np.ndarray) -> np.ndarray:
        return -(t * np.maximum(np.log(x), -100) + (1 - t) * np.maximum(np.log1p(-x), -100))

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        x, t = self.inputs
        dx = dy * (x - t) / (x * (1 - x)).clip(1e-12, None) if self.needs[0] else None
        dt = dy * ((1 - x).log().clip(-100, None) - x.log().clip(-100, None)) if self.needs[1] else None
        return dx, dt


@drop_in
def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    *,
    backend: str | None = None,
) -> Any:
    """The cross-entropy between logits and classes.

    Args:
        input: unnormalised logits (C,), (N, C) or (N, C, d1, ...), float32 or float64; or float16 or bfloat16,
            computed in float32 with a loss that is rounded once.
        target: class numbers (), (N,) or (N, d1, ...), or probabilities of the shape of ``input``.
        weight: (C,), how much each class counts.
        size_average, reduce: PyTorch's former names for ``reduction``; must be None.
        ignore_index: class numbers that count nothing.
        reduction: "mean" (weighted by the classes' weights), "sum" or "none".
        label_smoothing: how much of the target is spread evenly over all classes, 0 to 1.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        The loss, a single number unless reduction is "none".

    Raises:
        TypeError: dtypes other than those above, a label_smoothing that is no number.
        ValueError: shapes that do not fit, class numbers outside 0 to C - 1, an unknown reduction.

    Source: ``torch.nn.functional.cross_entropy``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.cross_entropy.html

    >>> import numpy as np
    >>> float(round(cross_entropy(np.zeros((1, 4)), np.array([2])), 4))
    1.3863
    """
    _refuse_former_names(size_average, reduce)
    one_of("reduction", reduction, ("mean", "sum", "none"))
    label_smoothing = fraction("label_smoothing", label_smoothing)
    x = floating("input", input)
    if is_half(x.dtype):
        wide, t, w = _widened(x, target=target, weight=weight)
        loss = cross_entropy(wide, t, w, None, ignore_index, None, reduction, label_smoothing)
        return rounded(loss, x.dtype)
    if x.ndim == 0:
        raise ValueError("input must have at least one axis, the classes; received a single number")
    classes_axis = 0 if x.ndim == 1 else 1
    C = x.shape[classes_axis]
    if weight is not None:
        weight = floating("weight", weight, like=x)
        if tuple(weight.shape) != (C,):
            raise ValueError(f"weight must have the shape ({C},), one for each class; received {tuple(weight.shape)}")
    if C == 0:
        raise ValueError(f"input needs at least one class; received the shape {tuple(x.shape)}")
    placed = isinstance(target, Tensor) or backends.is_on_gpu(target)
    t = target if placed else backends.asarray(target, "target", "cpu")  # class numbers are looked at where they are
    if is_floating(t.dtype):
        return _probabilities(x, t, weight, classes_axis, reduction, label_smoothing)
    labels = _labels(x, t, classes_axis, integer("ignore_index", ignore_index))
    rows = _classes_last(x, classes_axis)
    losses, weights = _labelled(rows, labels.reshape(-1), weight, ignore_index, label_smoothing)
    if reduction == "none":
        return losses.reshape(labels.shape)
    return _mean(losses, weights) if reduction == "mean" else losses.sum()


def _widened(x: Any, **others: Any) -> list[Any]:
    """The input in float32, and the others that must have its dtype; class numbers and None as they are."""
    found = [widened(x)]
    for name, value in others.items():
        read = None if value is None else tensor_or_array(name, value)
        is_number = read is not None and is_floating(read.dtype)
        found.append(widened(floating(name, read, like=x)) if is_number else read)
    return found


def _mean(losses: Any, count: Any) -> Any:
    """The sum over a count, NaN for nothing at all as in PyTorch, in the dtype of the losses."""
    with np.errstate(all="ignore"):
        dtype = losses.dtype
        return losses.sum() / (dtype.type(count) if isinstance(count, int | np.generic) else count.astype(dtype))


def _labelled(rows: Any, labels: np.ndarray, weight: Any, ignore: int, smoothing: float) -> tuple[Any, Any]:
    """The loss of each row, and the sum of the weights by which a mean is divided."""
    counted = labels != ignore
    if weight is None:
        return apply(CrossEntropy, rows, labels=labels, ignore=ignore, smoothing=smoothing), counted.sum()
    weight = weight.data if isinstance(weight, Tensor) else weight
    per_row = weight[np.where(counted, labels, 0)] * counted
    plain = apply(CrossEntropy, rows, labels=labels, ignore=ignore, smoothing=0.0) * per_row
    if smoothing:
        spread = -(log_softmax(rows, dim=1) * weight).sum(1) * counted.astype(weight.dtype)
        plain = plain * (1 - smoothing) + spread * (smoothing / rows.shape[1])
    return plain, per_row.sum()


def _probabilities(x: Any, t: Any, weight: Any, classes_axis: int, reduction: str, smoothing: float) -> Any:
    if tuple(t.shape) != tuple(x.shape):
        raise ValueError(
            f"target must hold class numbers, or probabilities of the input's shape {tuple(x.shape)}; "
            f"received {t.dtype} of the shape {tuple(t.shape)}"
        )
    t = _classes_last(floating("target", t, like=x), classes_axis)
    rows = _classes_last(x, classes_axis)
    if smoothing:
        t = t * (1 - smoothing) + smoothing / rows.shape[1]
    terms = t * log_softmax(rows, dim=1)
    losses = -(terms if weight is None else terms * weight).sum(1)
    if reduction == "none":
        return losses.reshape(tuple(x.shape[:classes_axis]) + tuple(x.shape[classes_axis + 1 :]))
    return _mean(losses, losses.size) if reduction == "mean" else losses.sum()


def _classes_last(x: Any, classes_axis: int) -> Any:
    """(rows, classes) from logits in PyTorch's order of axes."""
    if x.ndim > 2:
        x = x.transpose((0, *range(2, x.ndim), 1))
    return x.reshape(-1, x.shape[-1]) if x.size else x.reshape(0, x.shape[-1])


def _labels(x: Any, t: Any, classes_axis: int, ignore: int) -> np.ndarray:
    """Class numbers as int64, checked against the logits."""
    array = t.data if isinstance(t, Tensor) else t
    if array.dtype.kind not in "iu":
        raise TypeError(f"target must hold class numbers or probabilities; received {array.dtype}")
    expected = tuple(x.shape[:classes_axis]) + tuple(x.shape[classes_axis + 1 :])
    if array.shape != expected:
        raise ValueError(f"target must have the shape {expected}, a class for each row; received {array.shape}")
    labels = array.astype(np.int64)
    C = x.shape[classes_axis]
    wrong = labels[(labels != ignore) & ((labels < 0) | (labels >= C))]
    if wrong.size:
        raise ValueError(f"target must hold class numbers from 0 to {C - 1}; received {wrong[0]}")
    return backends.of(data_of(x)).asarray(labels)


@drop_in
def binary_cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    *,
    backend: str | None = None,
) -> Any:
    """The cross-entropy between probabilities and targets of two classes.

    Args:
        input: probabilities, any shape, float32 or float64; or float16 or bfloat16, computed in float32 with a loss
            that is rounded once.
        target: of the same shape, 0 to 1.
        weight: how much each element counts; broadcasts to the input's shape.
        size_average, reduce: PyTorch's former names for ``reduction``; must be None.
        reduction: "mean", "sum" or "none".
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Raises:
        ValueError: shapes that differ, elements outside 0 to 1, an unknown reduction.

    >>> import numpy as np
    >>> float(round(binary_cross_entropy(np.array([0.5]), np.array([1.0])), 4))
    0.6931
    """
    _refuse_former_names(size_average, reduce)
    one_of("reduction", reduction, ("mean", "sum", "none"))
    x = floating("input", input)
    if is_half(x.dtype):
        wide, t, w = _widened(x, target=target, weight=weight)
        return rounded(binary_cross_entropy(wide, t, w, reduction=reduction), x.dtype)
    t = floating("target", target, like=x)
    if tuple(x.shape) != tuple(t.shape):
        raise ValueError(f"target must have the shape of the input, {tuple(x.shape)}; received {tuple(t.shape)}")
    for name, values in (("input", x), ("target", t)):
        array = values.data if isinstance(values, Tensor) else values
        if ((array < 0) | (array > 1)).any():
            raise ValueError(f"{name} must lie between 0 and 1; received {array.min()} to {array.max()}")
    losses = apply(BinaryCrossEntropy, x, t)
    if weight is not None:
        losses = losses * floating("weight", weight, like=x)
    if reduction == "none":
        return losses
    return _mean(losses, losses.size) if reduction == "mean" else losses.sum()


def _refuse_former_names(size_average: bool | None, reduce: bool | None) -> None:
    if size_average is not None or reduce is not None:
        raise ValueError("size_average and reduce are former names: use reduction='mean', 'sum' or 'none'")
