"""Rows of a table by their numbers, and numbers as rows of zeros with a one."""

from __future__ import annotations

from typing import Any

import numpy as np

from pycnn import backend as backends
from pycnn.autograd import Function
from pycnn.elementary import PutAt
from pycnn.functional.arguments import boolean, data_of, integer, number, rounded, tensor_or_array, widened
from pycnn.functional.distance import VectorNorm, refuse_extremes_of_nothing
from pycnn.functional.loss import placed
from pycnn.functional.loss_arguments import as_tensor, numbers, on_tensors, tensor
from pycnn.interop.arrays import drop_in
from pycnn.tensor import Tensor

Grads = tuple[Tensor | None, ...]


class Rows(Function):
    """Rows of a table (V, D) at an index; the gradients of a row are added up in the order of the index."""

    reads = ()

    def forward(self, table: np.ndarray, *, index: np.ndarray, padding: int | None, by_frequency: bool) -> np.ndarray:
        self.index, self.padding, self.by_frequency, self.shape = index, padding, by_frequency, table.shape
        return table[index]

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        index, shares = self.index, None
        if self.by_frequency:
            shares = 1 / np.bincount(index.reshape(-1), minlength=self.shape[0])[index]
        if self.padding is not None:
            counted = index != self.padding
            shares = counted if shares is None else shares * counted
        dtype = dy.dtype
        if shares is not None:
            dy = widened(dy)
            dy = dy * shares.astype(dy.dtype)[..., None]
        return (rounded(PutAt.apply(dy, index=index, shape=self.shape), dtype),)


@drop_in
@on_tensors
def embedding(
    input: Any,
    weight: Any,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
    *,
    backend: str | None = None,
) -> Any:
    """The rows of a table with given numbers.

    Args:
        input: numbers of rows, 0 to V - 1, any shape and integer dtype.
        weight: the table (V, D), of any dtype.
        padding_idx: the number of a row without a gradient, from -V to V - 1; or None.
        max_norm: rows that are asked for and longer than this are shortened to it first, in the table itself, which
            must be floating point.
        norm_type: of which p-norm that length is.
        scale_grad_by_freq: divide the gradient of a row by how often it is asked for.
        sparse: PyTorch's for gradients in another form; the same gradients, as arrays, here.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        The rows, of the shape (*input.shape, D) and the dtype of the table.

    Raises:
        TypeError: numbers of rows that are no integers, a table of integers with ``max_norm``, or on another backend; a
            ``scale_grad_by_freq`` or ``sparse`` that is neither True nor False.
        ValueError: numbers outside of the table, a table with other axes, or one to be changed that is not writable.

    Source: ``torch.nn.functional.embedding``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.embedding.html

    >>> import numpy as np
    >>> embedding(np.array([2, 0]), np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]))
    array([[4., 5.],
           [0., 1.]])
    """
    by_frequency, _ = boolean("scale_grad_by_freq", scale_grad_by_freq), boolean("sparse", sparse)
    table = as_tensor(numbers("weight", weight)) if max_norm is None else tensor("weight", weight)
    if table.ndim != 2:
        raise ValueError(f"weight must have the axes (V, D); received the shape {table.shape}")
    V = table.shape[0]
    if padding_idx is not None:
        padding_idx = integer("padding_idx", padding_idx)
        if not -V <= padding_idx < V:
            raise ValueError(f"padding_idx must be from {-V} to {V - 1}; received {padding_idx}")
        padding_idx %= V
    index = data_of(placed(input))
    if index.dtype.kind not in "iu":
        raise TypeError(f"input must hold numbers of rows, integers; received {index.dtype}")
    index = index.astype(np.int64)
    if ((index < 0) | (index >= V)).any():
        raise ValueError(f"input must hold numbers from 0 to {V - 1}; received {index.min()} to {index.max()}")
    index = backends.of(table.data).asarray(index)
    if max_norm is not None:
        _shorten(table, index, number("max_norm", max_norm), number("norm_type", norm_type))
    return Rows.apply(table, index=index, padding=padding_idx, by_frequency=by_frequency)


def _shorten(table: Tensor, index: np.ndarray, longest: float, p: float) -> None:
    """Scale the rows at an index to a length, in place, where they are longer; PyTorch's 1e-7 keeps from 0 / 0."""
    if not backends.of(table.data).is_writable(table.data):
        raise ValueError("weight is changed in place for max_norm: it must be writable; received a read-only one")
    refuse_extremes_of_nothing(table.shape, p, (1,))
    asked = np.unique(index)
    rows = widened(Tensor._of(table.data[asked]))
    lengths = VectorNorm.apply(rows, p=p, axes=(1,)).data
    shortened = np.where(lengths > longest, rows.data * (longest / (lengths + 1e-7)), rows.data)
    table.data[asked] = shortened.astype(table.dtype)


@drop_in
@on_tensors
def one_hot(input: Any, num_classes: int = -1, *, backend: str | None = None) -> Any:
    """For each number a row of zeros with a one at it.

    Args:
        input: class numbers, any shape and integer dtype.
        num_classes: the length of a row; -1 is one more than the largest number.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        int64, of the shape (*input.shape, num_classes).

    Raises:
        TypeError: no integers.
        ValueError: numbers below 0 or not below num_classes; no numbers, where there is no largest one.

    Source: ``torch.nn.functional.one_hot``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.one_hot.html

    >>> import numpy as np
    >>> one_hot(np.array([0, 2]))
    array([[1, 0, 0],
           [0, 0, 1]])
    """
    num_classes = integer("num_classes", num_classes)
    classes = data_of(tensor_or_array("input", input))
    if classes.dtype.kind not in "iu":
        raise TypeError(f"input must hold class numbers, integers; received {classes.dtype}")
    if classes.size == 0 and num_classes <= 0:
        raise ValueError(f"num_classes must be at least 1 where there are no numbers; received {num_classes}")
    if classes.size:
        least, most = int(classes.min()), int(classes.max())
        num_classes = most + 1 if num_classes == -1 else num_classes
        if least < 0 or most >= num_classes:
            raise ValueError(f"input must hold numbers from 0 to {num_classes - 1}; received {least} to {most}")
    rows = classes.astype(np.int64)[..., None] == backends.of(classes).xp.arange(num_classes)
    return Tensor._of(rows.astype(np.int64))
