"""Losses between predicted and true classes, labels and distributions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pycnn import backend as backends
from pycnn.autograd import Function, is_grad_enabled
from pycnn.backend import plan_on
from pycnn.elementary import dots
from pycnn.functional.activation import Activation, log_softmax, softmax
from pycnn.functional.arguments import apply, boolean, data_of, floating, fraction, integer, refuse_two_places, widened
from pycnn.functional.elementwise_loss import loss_between
from pycnn.functional.loss_arguments import (
    REDUCTIONS,
    alike,
    as_tensor,
    broadcast_shape,
    chosen,
    in_dtype,
    of_one_kind,
    on_tensors,
    read_reduction,
    reduced,
    refuse_gradient,
    refuse_larger,
    tensor,
    warn_caller,
)
from pycnn.functional.planes import Pick
from pycnn.interop.arrays import drop_in
from pycnn.tensor import Tensor
from pycnn_kernels.problem import DTYPE_NAMES, RowsProblem, is_floating

Grads = tuple[Tensor | None, ...]


class CrossEntropy(Function):
    """One loss for each row of logits, and integer labels; see ``cross_entropy_kernel``."""

    uses_numpy = False

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
        # Without a mask as the index, for whose count the host would wait for a GPU.
        target[on.xp.arange(rows), np.where(counted, self.labels, 0)] += (1 - self.smoothing) * counted.astype(x.dtype)
        per_row = chosen(counted, dlosses).reshape(rows, 1)  # 0 for rows that do not count, also of a mean of none
        if is_grad_enabled():
            # The kernel's softmax is a plain array: a gradient that is to be differentiated needs one with a history.
            return ((softmax(x, dim=1) - target) * per_row,)
        dx = np.subtract(self.softmax, target, out=target)
        dx *= per_row.data
        return (Tensor._of(dx),)


class SoftCrossEntropy(Function):
    """``-sum over c of t[c] * log softmax(x)[c]`` for each row of logits x and of targets t, (rows, columns)."""

    def forward(self, x: np.ndarray, t: np.ndarray) -> np.ndarray:
        problem = RowsProblem(DTYPE_NAMES[x.dtype], *x.shape)
        (self.log_softmax,) = plan_on(x, "log_softmax", problem).run(x)
        return -dots(t, self.log_softmax)

    def backward(self, dlosses: Tensor) -> Grads:  # type: ignore[override]
        x, t = self.inputs
        y = log_softmax(x, dim=1) if is_grad_enabled() else Tensor._of(self.log_softmax)
        per_row = dlosses.reshape(x.shape[0], 1)
        dx = (y.exp() * t.sum(1, keepdims=True) - t) * per_row if self.needs[0] else None
        return dx, -(y * per_row) if self.needs[1] else None


@drop_in
@on_tensors
@np.errstate(all="ignore")
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
        target: class numbers (), (N,) or (N, d1, ...), of any integer dtype, or probabilities of the shape of
            ``input``.
        weight: (C,), how much each class counts.
        size_average, reduce: PyTorch's former arguments; they win over ``reduction``, with a warning.
        ignore_index: class numbers that count nothing; below 0 for probabilities.
        reduction: "mean" (weighted by the classes' weights), "sum" or "none".
        label_smoothing: how much of the target is spread evenly over all classes, 0 to 1.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        The loss, a single number unless reduction is "none".

    Raises:
        TypeError: dtypes other than those above, a label_smoothing that is no number, a weight that requires a gradient
            beside class numbers.
        ValueError: shapes that do not fit, class numbers outside 0 to C - 1, an unknown reduction, an ignore_index
            beside probabilities.

    Source: ``torch.nn.functional.cross_entropy``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.cross_entropy.html

    >>> import numpy as np
    >>> float(round(cross_entropy(np.zeros((1, 4)), np.array([2])), 4))
    1.3863
    """
    reduction = read_reduction(reduction, size_average, reduce)
    label_smoothing, ignore = fraction("label_smoothing", label_smoothing), integer("ignore_index", ignore_index)
    x = floating("input", input)
    classes_axis = _classes_axis(x)
    if x.shape[classes_axis] == 0:
        raise ValueError(f"input needs at least one class; received the shape {x.shape}")
    weight = _class_weights(weight, x, classes_axis)
    t = placed(target)
    if is_floating(t.dtype):
        if ignore >= 0:
            raise ValueError(f"ignore_index is for class numbers; received {ignore} beside probabilities")
        return _probabilities(x, t, weight, classes_axis, reduction, label_smoothing)
    labels, all_count = _labels(x, t, classes_axis, ignore)
    rows, flat = _classes_last(widened(x), classes_axis), labels if labels.ndim == 1 else labels.reshape(-1)
    if all_count and weight is None:
        losses = apply(CrossEntropy, rows, labels=flat, ignore=ignore, smoothing=label_smoothing)
    else:
        refuse_gradient("weight", weight)
        losses, weights = _labelled(as_tensor(rows), flat, weight, ignore, label_smoothing)
        if reduction == "mean":
            return in_dtype(losses.sum() / _total(weights, losses), x.dtype)
    return reduced(losses if flat is labels else losses.reshape(labels.shape), reduction, x.dtype)


def placed(target: Any) -> Any:
    """Class numbers where they are, for they are looked at there."""
    there = backends.is_ready(target) or isinstance(target, Tensor) or backends.is_on_gpu(target)
    return target if there else backends.asarray(target, "target", "cpu")


def as_int64(labels: Any) -> Any:
    """Class numbers of any integer dtype as int64.

    Raises:
        ValueError: it does not hold one of them, which is the number of no class.
    """
    if labels.dtype.kind == "u" and labels.size and int(labels.max()) > _GREATEST:
        raise ValueError(f"target must hold class numbers; received {labels.max()}")
    return labels.astype(_INT64)


#: The dtype itself, for NumPy would look it up for its type; and the greatest number that it holds.
_INT64, _GREATEST = np.dtype(np.int64), np.iinfo(np.int64).max


def _total(weights: Any, losses: Tensor) -> Tensor:
    """The sum of weights, by which a mean is divided; NaN instead of 0, as the mean of nothing is."""
    total = weights.sum().astype(losses.dtype)
    return Tensor._of(backends.of(losses.data).xp.where(total == 0, total.dtype.type(math.nan), total))


def _classes_axis(x: Any) -> int:
    if x.ndim == 0:
        raise ValueError("input must have at least one axis, the classes; received a single number")
    return 0 if x.ndim == 1 else 1


def _class_weights(weight: Any, x: Any, classes_axis: int) -> Tensor | None:
    """A weight for each class in the dtype in which is computed."""
    if weight is None:
        return None
    weight = tensor("weight", weight, like=x)
    C = x.shape[classes_axis]
    if weight.shape != (C,):
        raise ValueError(f"weight must have the shape ({C},), one for each class; received {weight.shape}")
    return widened(weight)


def _labelled(
    rows: Tensor, labels: np.ndarray, weight: Tensor | None, ignore: int, smoothing: float
) -> tuple[Tensor, np.ndarray]:
    """The loss of each row, and the weights by whose sum a mean is divided."""
    per_row = _row_weights(labels, weight, ignore)
    if weight is None:
        return CrossEntropy.apply(rows, labels=labels, ignore=ignore, smoothing=smoothing), per_row
    plain = CrossEntropy.apply(rows, labels=labels, ignore=ignore, smoothing=0.0) * per_row
    if smoothing:
        spread = chosen(labels != ignore, -(log_softmax(rows, dim=1) * weight).sum(1))
        plain = plain * (1 - smoothing) + spread * (smoothing / rows.shape[1])
    return plain, per_row


def _row_weights(labels: np.ndarray, weight: Tensor | None, ignore: int) -> np.ndarray:
    """The weight of the class of each row, 0 for those that are ignored."""
    counted = labels != ignore
    return counted if weight is None else weight.data[np.where(counted, labels, 0)] * counted


def _probabilities(x: Any, t: Any, weight: Tensor | None, classes_axis: int, reduction: str, smoothing: float) -> Any:
    if tuple(t.shape) != x.shape:
        raise ValueError(
            f"target must hold class numbers, or probabilities of the input's shape {x.shape}; "
            f"received {t.dtype} of the shape {tuple(t.shape)}"
        )
    found, dtype = alike(input=x, target=t)
    x, t = of_one_kind(found)
    t, rows = _classes_last(t, classes_axis), _classes_last(x, classes_axis)
    if smoothing:
        t = t * (1 - smoothing) + smoothing / rows.shape[1]
    if weight is not None:
        t = t * weight
    losses = apply(SoftCrossEntropy, rows, t)
    return reduced(losses if rows is x else losses.reshape(_without(x.shape, classes_axis)), reduction, dtype)


def _classes_last(x: Any, classes_axis: int) -> Any:
    """(rows, classes) from logits in PyTorch's order of axes."""
    if x.ndim == 2:
        return x
    if x.ndim > 2:
        x = x.transpose((0, *range(2, x.ndim), 1))
    return x.reshape(x.size // x.shape[-1], x.shape[-1])


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return shape[:axis] + shape[axis + 1 :]


def _labels(x: Any, t: Any, classes_axis: int, ignore: int) -> tuple[np.ndarray, bool]:
    """Class numbers as int64, checked against the logits, and whether all of them count, one at least."""
    array = data_of(t)
    if array.dtype.kind not in "iu":
        raise TypeError(f"target must hold class numbers or probabilities; received {array.dtype}")
    expected = _without(x.shape, classes_axis)
    if array.shape != expected and not (expected == () and array.shape == (1,)):
        raise ValueError(f"target must have the shape {expected}, a class for each row; received {array.shape}")
    labels = as_int64(array)  # a copy: what is checked here is what kernels read
    if labels.shape != expected:
        labels = labels.reshape(expected)
    C = x.shape[classes_axis]
    all_count = _all_below(labels, C)
    if not all_count:
        wrong = labels[(labels != ignore) & ((labels < 0) | (labels >= C))]
        if wrong.size:
            raise ValueError(f"target must hold class numbers from 0 to {C - 1}; received {wrong[0]}")
    if not type(x) is type(labels) is np.ndarray:
        labels = backends.of(data_of(x)).asarray(labels)
    return labels, all_count and not 0 <= ignore < C


#: So many numbers are looked at by Python in less time than a function of NumPy takes to begin.
_FEW = 32


def _all_below(labels: np.ndarray, C: int) -> bool:
    """Whether there are labels, all of them from 0 to C - 1."""
    if not 0 < labels.size <= _FEW:
        # Without a sign a negative number is greater than any class.
        return bool(labels.size) and int(labels.view(np.uint64).max()) < C
    found = labels.reshape(-1).tolist()
    return min(found) >= 0 and max(found) < C


@drop_in
@on_tensors
@np.errstate(all="ignore")
def nll_loss(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    *,
    backend: str | None = None,
) -> Any:
    """The negative logarithms of the probabilities of the true classes.

    Args:
        input: logarithms of probabilities, (C,), (N, C) or (N, C, d1, ...); float16, bfloat16, float32 or float64.
        target: class numbers (), (N,) or (N, d1, ...), of any integer dtype.
        weight: (C,), how much each class counts.
        size_average, reduce: PyTorch's former arguments; they win over ``reduction``, with a warning.
        ignore_index: class numbers that count nothing.
        reduction: "mean" (weighted by the classes' weights), "sum" or "none".
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        The loss, a single number unless reduction is "none".

    Raises:
        TypeError: dtypes other than those above, a weight that requires a gradient.
        ValueError: shapes that do not fit, class numbers outside 0 to C - 1, an unknown reduction.

    Source: ``torch.nn.functional.nll_loss``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.nll_loss.html

    >>> import numpy as np
    >>> float(nll_loss(np.array([[-3.0, -0.5], [-2.0, -1.0]]), np.array([1, 0])))
    1.25
    """
    reduction = read_reduction(reduction, size_average, reduce)
    ignore = integer("ignore_index", ignore_index)
    x = floating("input", input)
    classes_axis = _classes_axis(x)
    weight = _class_weights(weight, x, classes_axis)
    labels, all_count = _labels(x, placed(target), classes_axis, ignore)
    if x.shape[classes_axis] == 0:
        raise ValueError(f"input needs at least one class; received the shape {x.shape}")
    refuse_gradient("weight", weight)
    if all_count and weight is None:
        return reduced(-picked(widened(x), labels, classes_axis), reduction, x.dtype)
    weights, counted = _row_weights(labels, weight, ignore), labels != ignore
    losses = -picked(widened(as_tensor(x)), np.where(counted, labels, 0), classes_axis)
    losses = chosen(counted, losses if weight is None else losses * weights)
    if reduction == "mean":
        return in_dtype(losses.sum() / _total(weights, losses), x.dtype)
    return reduced(losses, reduction, x.dtype)


def picked(x: Any, labels: np.ndarray, axis: int) -> Any:
    """For each label the element of x at it along an axis: a plane for each row, a position in it for each label."""
    before, after = math.prod(x.shape[:axis]), math.prod(x.shape[axis + 1 :])
    if labels.size == 0:
        return x.sum(axis)  # of no elements, and as differentiable
    planes, index = x.reshape(before, x.shape[axis], after), labels.reshape(before, 1, after)
    return apply(Pick, planes, index=index, layout="channels_last").reshape(labels.shape)


@drop_in
@on_tensors
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
        size_average, reduce: PyTorch's former arguments; they win over ``reduction``, with a warning.
        reduction: "mean", "sum" or "none".
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        The loss, a single number unless reduction is "none".

    Raises:
        TypeError: dtypes other than those above, a target of another dtype than the input.
        ValueError: shapes that differ, elements outside 0 to 1, NaN among them, an unknown reduction.

    Source: ``torch.nn.functional.binary_cross_entropy``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.binary_cross_entropy.html

    >>> import numpy as np
    >>> float(round(binary_cross_entropy(np.array([0.5]), np.array([1.0])), 4))
    0.6931
    """
    reduction = read_reduction(reduction, size_average, reduce)
    x = floating("input", input)
    t = floating("target", target, like=x)
    if x.shape != t.shape:
        raise ValueError(f"target must have the shape of the input, {x.shape}; received {t.shape}")
    dtype, x, t = x.dtype, widened(x), widened(t)
    for name, operand in (("input", x), ("target", t)):
        _refuse_no_probabilities(name, data_of(operand))
    weight = _beside("weight", weight, x)
    return loss_between("binary_cross_entropy", x, t, reduction, dtype, weight=weight)


#: Integers as long as the numbers, and the one that has the bits of 1.
_BITS_OF_ONE: dict[Any, tuple[Any, int]] = {
    np.dtype(np.float32): (np.dtype(np.uint32), 0x3F800000),
    np.dtype(np.float64): (np.dtype(np.uint64), 0x3FF0000000000000),
}


def _refuse_no_probabilities(name: str, values: np.ndarray) -> None:
    """Raise a ValueError for numbers below 0 or above 1, and for NaN."""
    if not values.size:
        return
    # The bits of a number from 0 to 1 are at most those of 1; those of -0, of negative numbers and of NaN are more.
    bits, one = _BITS_OF_ONE[values.dtype]
    if int(values.view(bits).max()) <= one:
        return
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"{name} must lie between 0 and 1; received {values.min()} to {values.max()}")


@drop_in
@on_tensors
def binary_cross_entropy_with_logits(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Any = None,
    *,
    backend: str | None = None,
) -> Any:
    """:func:`binary_cross_entropy` between ``sigmoid(x)`` and targets, exact for large x, too.

    ``(1 - t) x + (1 + (p - 1) t) log(1 + exp(-x))``, whose logarithm is taken as
    ``max(-x, 0) + log(1 + exp(-|x|))``.

    Args:
        input: logits x, any shape, float32 or float64; or float16 or bfloat16, computed in float32 with a loss that is
            rounded once.
        target: t, of the same shape, 0 to 1.
        weight: how much each element counts; broadcasts to the input's shape.
        size_average, reduce: PyTorch's former arguments; they win over ``reduction``, with a warning.
        reduction: "mean", "sum" or "none".
        pos_weight: p, how much more the positive class counts; broadcasts to the input's shape.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        The loss, a single number unless reduction is "none".

    Raises:
        TypeError: dtypes other than those above.
        ValueError: shapes that do not fit, an unknown reduction.

    Source: ``torch.nn.functional.binary_cross_entropy_with_logits``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.binary_cross_entropy_with_logits.html

    >>> import numpy as np
    >>> binary_cross_entropy_with_logits(np.array([1000.0, -1000.0]), np.array([0.0, 0.0]), reduction="none")
    array([1000.,    0.])
    """
    reduction = read_reduction(reduction, size_average, reduce)
    (x, t), dtype = alike(input=floating("input", input), target=floating("target", target))
    if x.shape != t.shape:
        raise ValueError(f"target must have the shape of the input, {x.shape}; received {t.shape}")
    pos_weight, weight = (_beside(name, value, x) for name, value in (("pos_weight", pos_weight), ("weight", weight)))
    if pos_weight is None:
        return loss_between("logistic", x, t, reduction, dtype, weight=weight)
    x, t = as_tensor(x), as_tensor(t)
    # -(p t log(s) + (1 - t) log(1 - s)) for s = sigmoid(x), whose logarithms differ by x
    losses = (1 - t) * x - Activation.apply(x, name="logsigmoid") * ((pos_weight - 1) * t + 1)
    return reduced(losses if weight is None else losses * weight, reduction, dtype)


def _beside(name: str, weight: Any, x: Any) -> Tensor | None:
    """Weights that broadcast to the shape of x, in its dtype."""
    if weight is None:
        return None
    weight = in_dtype(tensor(name, weight), x.dtype)
    refuse_two_places(name, weight, x)
    refuse_larger(name, weight, x.shape)
    return weight


@drop_in
@on_tensors
def kl_div(
    input: Any,
    target: Any,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
    *,
    backend: str | None = None,
) -> Any:
    """``t (log(t) - x)``: the Kullback-Leibler divergence of a distribution exp(x) from a distribution t.

    Args:
        input: x, logarithms of probabilities, any shape; float16, bfloat16 (both computed in float32 and rounded once),
            float32 or float64.
        target: t, of a shape that broadcasts with that of x.
        size_average, reduce: PyTorch's former arguments; they win over ``reduction``, with a warning.
        reduction: "batchmean", the sum over the size of the first axis, which is the divergence of its definition;
            "mean", over all elements, with a warning as in PyTorch; "sum" or "none".
        log_target: whether the target holds logarithms, too.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        The loss, a single number unless reduction is "none", in the wider dtype of the two.

    Raises:
        TypeError: dtypes other than those above, a ``log_target`` that is neither True nor False.
        ValueError: shapes that do not broadcast, an unknown reduction.

    Source: Kullback and Leibler, "On information and sufficiency" (1951); ``torch.nn.functional.kl_div``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.kl_div.html

    >>> import numpy as np
    >>> half = np.log(np.array([[0.5, 0.5]]))
    >>> float(round(kl_div(half, np.array([[0.0, 1.0]]), reduction="batchmean"), 4))
    0.6931
    """
    if size_average is None and reduce is None and reduction == "mean":
        warn_caller(
            "reduction='mean' is over all elements; 'batchmean' is over the batch alone, as the divergence is defined"
        )
    reduction = read_reduction(reduction, size_average, reduce, (*REDUCTIONS, "batchmean"))
    log_target = boolean("log_target", log_target)
    (x, t), dtype = alike(input=floating("input", input), target=floating("target", target))
    broadcast_shape(input=x, target=t)
    return loss_between("log_divergence" if log_target else "divergence", x, t, reduction, dtype)
