"""Losses that ask for a margin between what belongs together and what does not."""

from __future__ import annotations

from typing import Any

import numpy as np

from pycnn import backend as backends
from pycnn.elementary import Subtract
from pycnn.functional.arguments import apply, data_of, floating, number, widened
from pycnn.functional.distance import distances_between, expanded
from pycnn.functional.elementwise_loss import loss_between
from pycnn.functional.loss import as_int64, picked, placed
from pycnn.functional.loss_arguments import (
    alike,
    as_tensor,
    broadcast_shape,
    chosen,
    in_dtype,
    numbers,
    of_one_dtype,
    of_one_kind,
    on_tensors,
    read_reduction,
    reduced,
    refuse_gradient,
    refuse_larger,
    tensor,
)
from pycnn.interop.arrays import drop_in
from pycnn.tensor import Tensor

#: PyTorch's, which keeps the cosine of a vector without length away from 0 / 0.
COSINE_EPSILON = 1e-12


@drop_in
@on_tensors
def hinge_embedding_loss(
    input: Any,
    target: Any,
    margin: float = 1.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    *,
    backend: str | None = None,
) -> Any:
    """The distance x of a pair that belongs together (t = 1), ``max(0, margin - x)`` of one that does not (t = -1).

    Args:
        input: x, any shape; float16, bfloat16 (both computed in float32 and rounded once), float32 or float64.
        target: t, 1 or -1, of a shape that broadcasts with that of x. Other numbers count as both.
        margin: see above.
        size_average, reduce: PyTorch's former arguments; they win over ``reduction``, with a warning.
        reduction: "mean", "sum" or "none".
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        The loss, a single number unless reduction is "none", in the dtype of the input.

    Raises:
        TypeError: other dtypes than those, a margin that is no number.
        ValueError: shapes that do not broadcast, an unknown reduction.

    Source: ``torch.nn.functional.hinge_embedding_loss``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.hinge_embedding_loss.html

    >>> import numpy as np
    >>> hinge_embedding_loss(np.array([0.5, 0.5, 2.0]), np.array([1, -1, -1]), 2.0, reduction="none")
    array([0.5, 1.5, 0. ])
    """
    reduction, margin = read_reduction(reduction, size_average, reduce), number("margin", margin)
    x = floating("input", input)
    t = data_of(numbers("target", target, like=x))
    broadcast_shape(input=x, target=t)
    dtype, x = x.dtype, widened(x)
    if t.dtype != x.dtype:  # 0 for whatever is neither 1 nor -1, and might be rounded to it
        t = (t == 1).astype(x.dtype) - (t == -1).astype(x.dtype)
    return loss_between("hinge_embedding", x, t, reduction, dtype, margin)


@drop_in
@on_tensors
def margin_ranking_loss(
    input1: Any,
    input2: Any,
    target: Any,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    *,
    backend: str | None = None,
) -> Any:
    """``max(0, margin - t (x1 - x2))``: x1 has to be ranked above x2 where t is 1, below it where t is -1.

    Args:
        input1, input2: x1 and x2, shapes that broadcast, as many axes; float16, bfloat16 (both computed in float32 and
            rounded once), float32 or float64. Integers alone give float32.
        target: t, 1 or -1, likewise.
        margin: see above.
        size_average, reduce: PyTorch's former arguments; they win over ``reduction``, with a warning.
        reduction: "mean", "sum" or "none".
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        The loss, a single number unless reduction is "none", in the widest dtype of the three.

    Raises:
        TypeError: no real numbers, or booleans alone; a margin that is no number.
        ValueError: shapes that do not broadcast or have different numbers of axes, an unknown reduction.

    Source: ``torch.nn.functional.margin_ranking_loss``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.margin_ranking_loss.html

    >>> import numpy as np
    >>> margin_ranking_loss(np.array([2.0, 2.0]), np.array([1.0, 3.0]), np.array([1, 1]), 0.5, reduction="none")
    array([0. , 1.5])
    """
    reduction, margin = read_reduction(reduction, size_average, reduce), number("margin", margin)
    (a, b, t), dtype = alike(integers_count=True, input1=input1, input2=input2, target=target)
    if not a.ndim == b.ndim == t.ndim:
        raise ValueError(
            f"input1, input2 and target must have as many axes; received the shapes {a.shape}, {b.shape}, {t.shape}"
        )
    broadcast_shape(input1=a, input2=b, target=t)
    return loss_between("margin_ranking", apply(Subtract, a, b), t, reduction, dtype, margin)


@drop_in
@on_tensors
def soft_margin_loss(
    input: Any,
    target: Any,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    *,
    backend: str | None = None,
) -> Any:
    """``log(1 + exp(-t x))``, exact for large x, too, where PyTorch's overflows.

    Args:
        input: x, any shape; float16, bfloat16 (both computed in float32 and rounded once), float32 or float64.
        target: t, 1 or -1, of a shape that broadcasts to that of x.
        size_average, reduce: PyTorch's former arguments; they win over ``reduction``, with a warning.
        reduction: "mean", "sum" or "none".
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        The loss, a single number unless reduction is "none", in the dtype of the input.

    Raises:
        TypeError: other dtypes than those.
        ValueError: shapes that do not broadcast to that of x, an unknown reduction.

    Source: ``torch.nn.functional.soft_margin_loss``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.soft_margin_loss.html

    >>> import numpy as np
    >>> soft_margin_loss(np.array([1000.0, 0.0]), np.array([-1, 1]), reduction="none").round(4)
    array([1.000e+03, 6.931e-01])
    """
    reduction = read_reduction(reduction, size_average, reduce)
    x = floating("input", input)
    dtype, x = x.dtype, widened(x)
    t = in_dtype(numbers("target", target, like=x), x.dtype)
    refuse_larger("target", t, x.shape)
    return loss_between("soft_margin", x, t, reduction, dtype)


@drop_in
@on_tensors
@np.errstate(all="ignore")
def triplet_margin_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    *,
    backend: str | None = None,
) -> Any:
    """``max(0, margin + |a - p| - |a - n|)``: an anchor a has to be closer to the positive p than to the negative n.

    Args:
        anchor, positive, negative: vectors along the last axis, in shapes that broadcast, of as many axes; float16,
            bfloat16 (both computed in float32 and rounded once), float32 or float64. Integers alone give float32.
        margin: by how much closer, above 0.
        p, eps: of the distance, as :func:`pairwise_distance` takes them.
        swap: take the distance of p and n where it is less than that of a and n.
        size_average, reduce: PyTorch's former arguments; they win over ``reduction``, with a warning.
        reduction: "mean", "sum" or "none".
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        The loss, a single number unless reduction is "none", in the widest dtype of the three.

    Raises:
        TypeError: no real numbers, or booleans alone; a margin, p or eps that is no number.
        ValueError: shapes that do not broadcast or have different numbers of axes, a margin that is not above 0, an
            unknown reduction.

    Source: Balntas et al., "Learning local feature descriptors with triplets and shallow convolutional neural networks"
    (2016); ``torch.nn.functional.triplet_margin_loss``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.triplet_margin_loss.html

    >>> import numpy as np
    >>> a, p, n = (np.array([each]) for each in ([0.0, 0.0], [3.0, 4.0], [0.0, 2.0]))
    >>> float(triplet_margin_loss(a, p, n).round(4))
    4.0
    """
    reduction = read_reduction(reduction, size_average, reduce)
    margin, p, eps = number("margin", margin), number("p", p), number("eps", eps)
    if not margin > 0:
        raise ValueError(f"margin must be above 0; received {margin}")
    vectors, dtype = alike(integers_count=True, anchor=anchor, positive=positive, negative=negative)
    a, same, other = of_one_kind(vectors)
    if not a.shape == same.shape == other.shape:  # as they are in most calls
        if not a.ndim == same.ndim == other.ndim:
            raise ValueError(
                "anchor, positive and negative must have as many axes; received the shapes "
                f"{a.shape}, {same.shape}, {other.shape}"
            )
        broadcast_shape(anchor=a, positive=same)
        broadcast_shape(anchor=a, negative=other)
    near, far = distances_between(a, same, p, eps), distances_between(a, other, p, eps)
    if swap:
        broadcast_shape(positive=same, negative=other)
        far = _smaller(far, distances_between(same, other, p, eps))
    if near.shape != far.shape:
        broadcast_shape(positive=near, negative=far)
    losses = margin + near - far
    losses = np.maximum(losses, losses.dtype.type(0)) if type(losses) is np.ndarray else losses.clip(0, None)
    return reduced(losses, reduction, dtype)


def _smaller(a: Any, b: Any) -> Any:
    """The smaller of two, whose gradient is shared where they are equal."""
    broadcast_shape(anchor=a, positive=b)
    one, other = data_of(a), data_of(b)
    share = (one < other).astype(a.dtype) + 0.5 * (one == other).astype(a.dtype)
    return a * share + b * (1 - share)


@drop_in
@on_tensors
def cosine_embedding_loss(
    input1: Any,
    input2: Any,
    target: Any,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    *,
    backend: str | None = None,
) -> Any:
    """``1 - cos`` of the angle between two vectors where t is 1, ``max(0, cos - margin)`` where t is -1.

    Args:
        input1, input2: (N, D) or (D,), shapes that broadcast; float16, bfloat16 (both computed in float32 and rounded
            once), float32 or float64. Integers alone give float32.
        target: t, (N,) or (): 1, -1, or another number for a loss of 0.
        margin: see above.
        size_average, reduce: PyTorch's former arguments; they win over ``reduction``, with a warning.
        reduction: "mean", "sum" or "none".
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        The loss, a single number unless reduction is "none", in the wider dtype of the inputs.

    Raises:
        TypeError: no real numbers, or booleans alone; a margin that is no number.
        ValueError: other shapes than those, an unknown reduction.

    Source: ``torch.nn.functional.cosine_embedding_loss``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.cosine_embedding_loss.html

    >>> import numpy as np
    >>> x, y = np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([[0.0, 1.0], [1.0, 0.0]])
    >>> cosine_embedding_loss(x, y, np.array([1, -1]), reduction="none").round(4)
    array([1., 1.])
    """
    reduction, margin = read_reduction(reduction, size_average, reduce), number("margin", margin)
    (a, b), dtype = of_one_dtype(integers_count=True, input1=input1, input2=input2)
    t = as_tensor(numbers("target", target, like=a))
    if t.ndim > 1 or not a.ndim == b.ndim == t.ndim + 1:
        raise ValueError(
            "input1 and input2 must be vectors (D,) beside a target without axes, or (N, D) beside one with a single "
            f"axis; received the shapes {a.shape}, {b.shape} and {t.shape}"
        )
    broadcast_shape(input1=a, input2=b)
    cosines = (a * b).sum(-1) / (((a * a).sum(-1) + COSINE_EPSILON) * ((b * b).sum(-1) + COSINE_EPSILON)).sqrt()
    shape = broadcast_shape(cosines=cosines, target=t)
    cosines, t = expanded(cosines, shape), expanded(t, shape)
    losses = chosen(t.data == 1, 1 - cosines) + chosen(t.data == -1, (cosines - margin).clip(0, None))
    return reduced(losses, reduction, dtype)


@drop_in
@on_tensors
def multi_margin_loss(
    input: Any,
    target: Any,
    p: int = 1,
    margin: float = 1.0,
    weight: Any = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    *,
    backend: str | None = None,
) -> Any:
    """The mean over the classes j of ``max(0, margin - x_t + x_j)^p``, where j is not the true class t.

    Args:
        input: x, (N, C) or (C,), scores of at least one class; float16, bfloat16 (both computed in float32 and rounded
            once), float32 or float64.
        target: t, class numbers (N,) or (), of any integer dtype.
        p: 1 or 2.
        margin: see above.
        weight: (C,), by how much the loss of each true class is multiplied; or None.
        size_average, reduce: PyTorch's former arguments; they win over ``reduction``, with a warning.
        reduction: "mean", "sum" or "none".
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        The loss, a single number unless reduction is "none".

    Raises:
        TypeError: other dtypes than those, a margin that is no number, a weight that requires a gradient.
        ValueError: another p, shapes that do not fit, class numbers outside 0 to C - 1, an unknown reduction.

    Source: ``torch.nn.functional.multi_margin_loss``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.multi_margin_loss.html

    >>> import numpy as np
    >>> float(multi_margin_loss(np.array([0.5, 1.0, 0.0, -3.0]), np.array(1)))
    0.125
    """
    reduction, margin = read_reduction(reduction, size_average, reduce), number("margin", margin)
    if p not in (1, 2):
        raise ValueError(f"p must be 1 or 2; received {p!r}")
    x = tensor("input", input)
    rows = _rows_of_scores(x)
    N, C = rows.shape
    labels = _class_numbers(target, x, 0, C)
    shape = labels.shape
    if shape != (N,) and not (N == 1 and shape == ()):
        raise ValueError(f"target must have the shape {(N,)}, a class for each row; received {shape}")
    labels = labels.reshape(N)
    losses = margin - expanded(picked(rows, labels, 1).reshape(N, 1), (N, C)) + rows
    others = backends.of(rows.data).xp.arange(C) != labels.reshape(N, 1)
    losses = chosen(others & (losses.data > 0), losses)  # PyTorch's: no slope at 0, and nothing of a NaN
    losses = losses if p == 1 else losses * losses
    if weight is not None:
        refuse_gradient("weight", weight)
        w = tensor("weight", weight, like=x)
        if w.shape != (C,):
            raise ValueError(f"weight must have the shape ({C},), one for each class; received {w.shape}")
        losses = losses * widened(w).data[labels].reshape(N, 1)
    return reduced((losses.sum(1) * (1 / C)).reshape(shape), reduction, x.dtype)


def _rows_of_scores(x: Tensor) -> Tensor:
    """Scores as (N, C), in the dtype in which is computed."""
    C = x.shape[-1] if x.ndim else 1
    if x.ndim > 2 or C == 0:
        raise ValueError(f"input must have the shape (N, C) or (C,) with at least one class; received {x.shape}")
    return widened(x).reshape(x.size // C, C)


def _class_numbers(target: Any, x: Tensor, least: int, C: int) -> np.ndarray:
    """Class numbers as int64 where the scores are, checked where they were."""
    labels = data_of(placed(target))
    if labels.dtype.kind not in "iu":
        raise TypeError(f"target must hold class numbers, integers; received {labels.dtype}")
    labels = as_int64(labels)
    if ((labels < least) | (labels >= C)).any():
        raise ValueError(
            f"target must hold class numbers from {least} to {C - 1}; received {labels.min()} to {labels.max()}"
        )
    return backends.of(x.data).asarray(labels)


@drop_in
@on_tensors
def multilabel_margin_loss(
    input: Any,
    target: Any,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    *,
    backend: str | None = None,
) -> Any:
    """The sum of ``max(0, 1 - x_t + x_j)`` over the true classes t and the others j, divided by the number of classes.

    Args:
        input: x, (N, C) or (C,), scores of at least one class; float16, bfloat16 (both computed in float32 and rounded
            once), float32 or float64. C squared numbers are computed for each row.
        target: of the same shape: the numbers of the true classes in front of the first -1, of any integer dtype.
        size_average, reduce: PyTorch's former arguments; they win over ``reduction``, with a warning.
        reduction: "mean", "sum" or "none".
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        The loss, a single number unless reduction is "none".

    Raises:
        TypeError: other dtypes than those.
        ValueError: shapes that do not fit, class numbers outside -1 to C - 1, an unknown reduction.

    Source: ``torch.nn.functional.multilabel_margin_loss``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.multilabel_margin_loss.html

    >>> import numpy as np
    >>> float(multilabel_margin_loss(np.array([0.1, 0.2, 0.4, 0.8]), np.array([3, 0, -1, 1])).round(4))
    0.85
    """
    reduction = read_reduction(reduction, size_average, reduce)
    x = tensor("input", input)
    rows = _rows_of_scores(x)
    N, C = rows.shape
    labels = _class_numbers(target, x, -1, C)
    if labels.shape != x.shape and not (x.size == labels.size == 1 and max(x.ndim, labels.ndim) == 1):
        raise ValueError(f"target must have the shape of the input, {x.shape}; received {labels.shape}")
    labels = labels.reshape(N, C)
    listed = np.cumsum(labels == -1, axis=1) == 0
    xp = backends.of(rows.data).xp
    # One row of zeros and ones for each place of the list, none of which is read behind its end.
    true = ((labels.reshape(N, C, 1) == xp.arange(C)) & listed.reshape(N, C, 1)).any(axis=1)
    scores = rows[xp.arange(N).reshape(N, 1), np.where(listed, labels, 0)] if N else rows
    margins = 1 - expanded(scores.reshape(N, C, 1), (N, C, C)) + rows.reshape(N, 1, C)
    losses = chosen(listed.reshape(N, C, 1) & ~true.reshape(N, 1, C) & (margins.data > 0), margins)  # as above at 0
    return reduced((losses.sum((1, 2)) * (1 / C)).reshape(x.shape[:-1]), reduction, x.dtype)


@drop_in
@on_tensors
def multilabel_soft_margin_loss(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    *,
    backend: str | None = None,
) -> Any:
    """The mean over the classes of ``-(t log(s) + (1 - t) log(1 - s))``, where s is ``sigmoid(x)``.

    Args:
        input: x, (..., C); float16, bfloat16 (both computed in float32 and rounded once), float32 or float64.
        target: t, 0 or 1, of a shape that broadcasts with that of x.
        weight: how much each element counts, of a shape that broadcasts with these; or None.
        size_average, reduce: PyTorch's former arguments; they win over ``reduction``, with a warning.
        reduction: "mean", "sum" or "none".
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        The loss, a single number unless reduction is "none", in the widest dtype of the three.

    Raises:
        TypeError: other dtypes than those.
        ValueError: an input without axes, shapes that do not broadcast, an unknown reduction.

    Source: ``torch.nn.functional.multilabel_soft_margin_loss``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.multilabel_soft_margin_loss.html

    >>> import numpy as np
    >>> float(multilabel_soft_margin_loss(np.array([[0.0, 1000.0]]), np.array([[1, 1]])).round(4))
    0.3466
    """
    reduction = read_reduction(reduction, size_average, reduce)
    given = {"input": tensor("input", input), "target": target} | ({} if weight is None else {"weight": weight})
    (x, t, *weights), dtype = of_one_dtype(**given)
    if x.ndim == 0:
        raise ValueError("input must have at least one axis, the classes; received a single number")
    broadcast_shape(**dict(zip(given, (x, t, *weights))))
    losses = as_tensor(loss_between("logistic", x, t, "none", x.dtype))
    for w in weights:
        losses = losses * w
    return reduced(losses.sum(x.ndim - 1) / x.shape[-1], reduction, dtype)
