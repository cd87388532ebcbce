"""Arithmetic, reductions and views, written once against the array module."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from pycnn import backend as backends
from pycnn.autograd import Function, unbroadcast
from pycnn.backend import plan_on
from pycnn.views import View
from pycnn_kernels.memory import POOL_FROM, aligned_empty
from pycnn_kernels.problem import (
    DTYPE_NAMES,
    CastProblem,
    ConvProblem,
    PlanesProblem,
    WeightLayout,
    dtype_name,
    is_floating,
    is_half,
)

if TYPE_CHECKING:
    from pycnn.tensor import Tensor

Grads = tuple["Tensor | None", ...]

FLOAT32 = np.dtype(np.float32)
#: The dtypes in which is computed.
COMPUTED = (FLOAT32, np.dtype(np.float64))
_NUMPYS = (np.ndarray, np.generic)
#: Fewer elements than these are in arrays of NumPy's own, whatever their dtype.
_SMALL = POOL_FROM // 8


def cast(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """A copy in another dtype, or in the same one.

    Between float32 and the halves by the engine: NumPy takes thirty times as long for float16.
    """
    if not isinstance(x, _NUMPYS):
        return x.astype(dtype, order="C")
    for operation, half, other in (("widen", x.dtype, dtype), ("narrow", dtype, x.dtype)):
        if is_half(half) and other == FLOAT32:
            (found,) = plan_on(x, operation, CastProblem(DTYPE_NAMES[half], x.size)).run(x.reshape(-1))
            return found.reshape(x.shape)
    found = aligned_empty(x.shape, dtype)
    np.copyto(found, x, casting="unsafe")
    return found


def elementwise(ufunc: np.ufunc, *operands: Any, dtype: Any = None) -> Any:
    """``ufunc(*operands)``, a large result in memory that is used again: NumPy would take it anew, page by page.

    For operands of one dtype, which is the result's unless ``dtype`` says another. What has not the shape and order of
    its largest operand is left to NumPy, and what is on a GPU to CuPy, which has such memory of its own.

    >>> elementwise(np.add, np.ones(3), np.ones(1)), elementwise(np.less, np.ones(1), np.zeros(1), dtype=bool)
    (array([2., 2., 2.]), array([False]))
    """
    for operand in operands:
        if operand.size >= _SMALL:
            break
    else:
        return ufunc(*operands)
    largest = max(operands, key=_size)
    if not isinstance(largest, _NUMPYS):
        return ufunc(*operands)
    if largest.nbytes < POOL_FROM or not largest.flags.c_contiguous or not is_floating(largest.dtype):
        return ufunc(*operands)
    for operand in operands:
        if operand.dtype != largest.dtype or not _broadcasts(operand.shape, largest.shape):
            return ufunc(*operands)
    return ufunc(*operands, out=aligned_empty(largest.shape, largest.dtype if dtype is None else dtype))


#: Elements of a row up to which its sum of products in one go loses little in float32.
_ROW = 1024


def dots(a: np.ndarray, b: np.ndarray, axis: int = -1) -> np.ndarray:
    """The sums of ``a * b`` along an axis, for arrays of one shape; of short rows in one pass.

    >>> dots(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 1.0], [0.0, 2.0]]))
    array([3., 8.])
    """
    if isinstance(a, np.ndarray) and axis in (-1, a.ndim - 1) and a.shape[-1] <= _ROW:
        return np.asarray(np.vecdot(a, b))
    return (a * b).sum(axis)


_size = operator.attrgetter("size")


def _broadcasts(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    return shape == target or (
        len(shape) <= len(target) and all(a in (1, b) for a, b in zip(shape[::-1], target[::-1]))
    )


def where(mask: np.ndarray, x: Any, y: Any) -> np.ndarray:
    """``np.where(mask, x, y)`` for x and y of one dtype, likewise.

    On the bits of the numbers, where 0 times infinity is no NaN, and ``y + (x - y) * mask`` is x or y exactly. Without
    a branch it takes a tenth of the time of ``np.where`` on a mask that nobody can predict.

    >>> where(np.array([True, False]), np.float32(1), np.float32(2))
    array([1., 2.], dtype=float32)
    """
    bits = f"u{x.dtype.itemsize}"
    if not isinstance(mask, _NUMPYS):
        return np.where(mask, x, y)
    if mask.size * x.dtype.itemsize < POOL_FROM or any(z.shape not in ((), mask.shape) for z in (x, y)):
        return np.where(mask, x, y)
    found = aligned_empty(mask.shape, x.dtype)
    x, y, result = x.view(bits), y.view(bits), found.view(bits)
    np.subtract(x, y, out=result)
    np.multiply(result, mask, out=result)
    np.add(result, y, out=result)
    return found


def in_float32(compute: Callable[..., np.ndarray], *arrays: np.ndarray) -> np.ndarray:
    """``compute(*arrays)``; in float32 and rounded once where they are float16 or bfloat16.

    NumPy adds halves in halves: a sum of ones ends at 2048, or at 256 in bfloat16.
    """
    dtype = arrays[0].dtype
    if not is_half(dtype) or any(array.dtype != dtype for array in arrays):
        return compute(*arrays)
    return cast(compute(*(cast(array, FLOAT32) for array in arrays)), dtype)


class _Binary(Function):
    """An operation on two operands that broadcast; a subclass gives the two factors of the chain rule."""

    def grads(self, dy: Tensor, a: Any, b: Any) -> tuple[Any, Any]:
        """Functions that compute the gradient of each operand before it is summed over broadcast axes."""
        raise NotImplementedError

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        makers = self.grads(dy, *(self.inputs or (None, None)))
        return tuple(
            unbroadcast(make(), self.shape_of(place)) if needed else None
            for place, (make, needed) in enumerate(zip(makers, self.needs))
        )


class Add(_Binary):
    reads = ()

    def forward(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return elementwise(np.add, a, b)

    def grads(self, dy: Tensor, a: Any, b: Any) -> tuple[Any, Any]:
        return lambda: dy, lambda: dy


class Subtract(_Binary):
    reads = ()

    def forward(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return elementwise(np.subtract, a, b)

    def grads(self, dy: Tensor, a: Any, b: Any) -> tuple[Any, Any]:
        return lambda: dy, lambda: -dy


class Multiply(_Binary):
    reads = ((1,), (0,))

    def forward(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return elementwise(np.multiply, a, b)

    def grads(self, dy: Tensor, a: Any, b: Any) -> tuple[Any, Any]:
        return lambda: dy * b, lambda: dy * a


class Divide(_Binary):
    reads = ((1,), (0, 1))

    def forward(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return elementwise(np.divide, a, b)

    def grads(self, dy: Tensor, a: Any, b: Any) -> tuple[Any, Any]:
        return lambda: dy / b, lambda: -dy * a / (b * b)


class Power(_Binary):
    def forward(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return a**b

    def grads(self, dy: Tensor, a: Any, b: Any) -> tuple[Any, Any]:
        # Where a factor is 0 the other must not be infinite: x**0 has the slope 0 at 0, and so has 0**y for y >= 0.
        # Elsewhere the slope of x**0 must be b * x**-1 nevertheless: it is 0, but its derivative by b is 1 / x.
        with np.errstate(all="ignore"):
            no_power = ((b.data == 0) & np.isinf(1 / a.data)).astype(b.dtype)
        no_log = ((a.data == 0) & (b.data >= 0)).astype(a.dtype)
        return lambda: dy * b * a ** (b - 1 + no_power), lambda: dy * a**b * (a + no_log).log()


class _Extreme(_Binary):
    """The greater or the smaller of two; where both are the same, half of the gradient goes to each, as in PyTorch."""

    ufunc: np.ufunc

    def forward(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return elementwise(self.ufunc, a, b)

    def grads(self, dy: Tensor, a: Any, b: Any) -> tuple[Any, Any]:
        tie = (a.data == b.data).astype(dy.dtype) / dy.dtype.type(2)
        first = self.ufunc(a.data, b.data) == a.data
        # Of NaNs neither is the greater: no gradient flows.
        second = self.ufunc(a.data, b.data) == b.data
        return lambda: dy * (first.astype(dy.dtype) - tie), lambda: dy * (second.astype(dy.dtype) - tie)


class Maximum(_Extreme):
    ufunc = np.maximum


class Minimum(_Extreme):
    ufunc = np.minimum


class Concatenate(Function):
    """Arrays one behind the other along an axis."""

    reads = ()

    def forward(self, *arrays: np.ndarray, axis: int) -> np.ndarray:
        self.axis, self.ends = axis, np.cumsum([array.shape[axis] for array in arrays]).tolist()
        shape = (*arrays[0].shape[:axis], self.ends[-1], *arrays[0].shape[axis + 1 :])
        result = backends.of(arrays[0]).empty(shape, arrays[0].dtype)
        for array, part in zip(arrays, self._parts()):
            result[part] = array
        return result

    def _parts(self) -> list[tuple[slice, ...]]:
        """Where each of the arrays is in the result."""
        before = (slice(None),) * self.axis
        return [(*before, slice(start, end)) for start, end in zip((0, *self.ends), self.ends)]

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        return tuple(dy[part] if needed else None for part, needed in zip(self._parts(), self.needs))


class MatMul(Function):
    """``a @ b``: matrices on the engine's own product, stacks of them on the array module's."""

    reads = ((1,), (0,))

    def forward(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if a.ndim == b.ndim == 2 and a.dtype == b.dtype and dtype_name(a.dtype):
            if a.shape[1] != b.shape[0]:
                raise ValueError(f"matrices multiply as (M, N) @ (N, K); received {a.shape} @ {b.shape}")
            if 0 not in (*a.shape, *b.shape) or not isinstance(a, np.ndarray):
                problem = matrix_problem(a.shape[0], a.shape[1], b.shape[1], a.dtype)
                (product,) = plan_on(a, "conv_forward", problem).run(a, b, None)
                return product
        if not isinstance(a, np.ndarray):
            return self._on_a_gpu(a, b)
        return in_float32(np.matmul, a, b)

    def _on_a_gpu(self, a: Any, b: Any) -> Any:
        """Vectors and stacks of matrices, one product of the engine after the other: CuPy's would need cuBLAS."""
        if a.ndim == b.ndim == 2:
            raise TypeError(f"matrices on a GPU must hold float32 or float64, both; received {a.dtype} and {b.dtype}")
        rows, columns = (a[None] if a.ndim == 1 else a), (b[:, None] if b.ndim == 1 else b)
        stack = np.broadcast_shapes(rows.shape[:-2], columns.shape[:-2])
        xp, shape = backends.of(a).xp, (*stack, rows.shape[-2], columns.shape[-1])
        rows, columns = (xp.broadcast_to(each, stack + each.shape[-2:]) for each in (rows, columns))
        result = xp.zeros(shape, rows.dtype)
        for place in np.ndindex(*stack):
            result[place] = MatMul().forward(rows[place], columns[place])
        ends = ((0,) if a.ndim > 1 else ()) + ((1,) if b.ndim > 1 else ())
        return result.reshape(stack + tuple(shape[len(stack) + end] for end in ends))

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        a, b = self.inputs
        if a.ndim == 1 or b.ndim == 1:
            return self._vector_grads(dy, a, b)
        da = unbroadcast(dy @ _swap(b), a.shape) if self.needs[0] else None
        db = unbroadcast(_swap(a) @ dy, b.shape) if self.needs[1] else None
        return da, db

    def _vector_grads(self, dy: Tensor, a: Tensor, b: Tensor) -> Grads:
        """Treat a vector as a matrix of one row (left) or one column (right), as NumPy does."""
        rows = a.reshape(1, -1) if a.ndim == 1 else a
        columns = b.reshape(-1, 1) if b.ndim == 1 else b
        stack = rows.shape[:-2] if rows.ndim > columns.ndim else columns.shape[:-2]
        dy = dy.reshape(*stack, rows.shape[-2], columns.shape[-1])
        da = unbroadcast(dy @ _swap(columns), rows.shape).reshape(a.shape) if self.needs[0] else None
        db = unbroadcast(_swap(rows) @ dy, columns.shape).reshape(b.shape) if self.needs[1] else None
        return da, db


@lru_cache(maxsize=4096)
def matrix_problem(
    rows: int,
    inner: int,
    columns: int,
    dtype: np.dtype,
    weight_layout: WeightLayout = "HWIO",
    bias: bool = False,
    activation: str | None = None,
) -> ConvProblem:
    """The product of a (rows, inner) and an (inner, columns) matrix, as a convolution of ``rows`` single pixels."""
    one = (1, 1, 1)
    none = ((0, 0), (0, 0), (0, 0))
    return ConvProblem(
        DTYPE_NAMES[dtype], "channels_last", weight_layout, rows, inner, one, columns, one, one, none, one,
        bias=bias, activation=activation, rank=0,
    )  # fmt: skip


def _swap(matrix: Tensor) -> Tensor:
    axes = list(range(matrix.ndim))
    axes[-2:] = axes[-1], axes[-2]
    return matrix.transpose(*axes)


class Exp(Function):
    reads = ()

    def forward(self, x: np.ndarray) -> np.ndarray:
        self.y = elementwise(np.exp, x)
        return self.y

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        return (dy * self.output(self.y),)


class Log(Function):
    def forward(self, x: np.ndarray) -> np.ndarray:
        return elementwise(np.log, x)

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        return (dy / self.inputs[0],)


class Abs(Function):
    reads = ()

    def forward(self, x: np.ndarray) -> np.ndarray:
        if True in self.needs:
            self.sign = elementwise(np.sign, x)
        return elementwise(np.abs, x)

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        return (dy * self.sign,)


class Select(Function):
    """``x`` where a mask is true, 0 elsewhere; unlike a product with the mask it lets no infinity through."""

    reads = ()

    def forward(self, x: np.ndarray, *, mask: np.ndarray) -> np.ndarray:
        self.mask = mask
        return where(mask, x, x.dtype.type(0))

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        return (Select.apply(dy, mask=self.mask),)


class Clip(Function):
    reads = ()

    def forward(self, x: np.ndarray, *, low: float | None, high: float | None) -> np.ndarray:
        if True in self.needs:
            self.inside = backends.of(x).xp.ones(x.shape, bool)
            if low is not None:
                self.inside &= ~(x < low)
            if high is not None:
                self.inside &= ~(x > high)
        return in_float32(lambda x: np.clip(x, low, high), x)

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        return (Select.apply(dy, mask=self.inside),)


class Sum(Function):
    reads = ()

    def forward(self, x: np.ndarray, *, axis: Any, keepdims: bool) -> np.ndarray:
        self.shape = x.shape
        kept = in_float32(lambda x: np.sum(x, axis=axis, keepdims=True), x)
        self.kept_shape = kept.shape
        if keepdims:
            return kept
        axes = range(x.ndim) if axis is None else (axis if isinstance(axis, tuple) else (axis,))
        return kept.squeeze(tuple(axes))

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        return (Broadcast.apply(dy.reshape(self.kept_shape), shape=self.shape),)


class Broadcast(Function):
    reads = ()

    def forward(self, x: np.ndarray, *, shape: tuple[int, ...]) -> np.ndarray:
        self.shape = x.shape
        return np.broadcast_to(x, shape)

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        return (unbroadcast(dy, self.shape),)


class Reshape(View):
    def forward(self, x: np.ndarray, *, shape: tuple[int, ...]) -> np.ndarray:
        self.shape = x.shape
        return x.reshape(shape)

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        return (dy.reshape(self.shape),)


class Transpose(View):
    def forward(self, x: np.ndarray, *, axes: tuple[int, ...]) -> np.ndarray:
        self.inverse = tuple(np.argsort([axis % x.ndim for axis in axes]).tolist())
        return x.transpose(axes)

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        return (dy.transpose(self.inverse),)


class Cast(Function):
    """Another dtype, or the same one: always an array of its own."""

    reads = ()

    def forward(self, x: np.ndarray, *, dtype: np.dtype) -> np.ndarray:
        self.dtype = x.dtype
        return cast(x, dtype)

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        return (dy.astype(self.dtype),)


class Move(Function):
    """The same numbers on another backend."""

    reads = ()

    def forward(self, x: np.ndarray, *, backend: backends.Backend) -> np.ndarray:
        self.backend = backends.of(x)
        return backend.asarray(self.backend.to_host(x))

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        return (Move.apply(dy, backend=self.backend),)


class Index(View):
    def forward(self, x: np.ndarray, *, index: Any) -> np.ndarray:
        self.index, self.shape = index, x.shape
        found = x[index]
        if isinstance(found, np.generic):  # with an ellipsis NumPy gives the element's place, and not its value alone
            found = x[(*index, ...) if isinstance(index, tuple) else (index, ...)]
        return found

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        return (PutAt.apply(dy, index=self.index, shape=self.shape),)


def _meets_each_place_once(index: Any) -> bool:
    """Whether an index is made of slices, numbers and masks, none of which names an element twice."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(
        part is None or part is Ellipsis or isinstance(part, slice | int | np.integer) or _is_mask(part)
        for part in parts
    )


def _is_mask(part: Any) -> bool:
    return getattr(part, "dtype", None) == np.bool_


class PutAt(Function):
    """Zeros with ``x`` added at an index, repeated places added up: the gradient of :class:`Index`."""

    reads = ()

    def forward(self, x: np.ndarray, *, index: Any, shape: tuple[int, ...]) -> np.ndarray:
        self.index, self.shape = index, shape
        return in_float32(self._add, x)

    def _add(self, x: np.ndarray) -> np.ndarray:
        result = backends.of(x).empty(self.shape, x.dtype)
        result.fill(0)
        if _meets_each_place_once(self.index):
            result[self.index] = x
        elif isinstance(x, np.ndarray):
            np.add.at(result, self.index, x)
        else:
            return self._add_in_order(x)
        return result

    def _add_in_order(self, x: Any) -> Any:
        """On a GPU, whose own scattered additions come in any order."""
        xp, size = backends.of(x).xp, math.prod(self.shape)
        places = xp.arange(size).reshape(self.shape)[self.index]
        problem = PlanesProblem(DTYPE_NAMES[x.dtype], "channels_first", 1, 1, x.size, size)
        (sums,) = plan_on(x, "put_sums", problem).run(x.reshape(1, 1, -1), places.reshape(1, 1, -1))
        return sums.reshape(self.shape)

    def backward(self, dy: Tensor) -> Grads:  # type: ignore[override]
        return (dy[self.index],)
