"""Tensor: an array that remembers how it was computed."""

from __future__ import annotations

import copy
from typing import Any, NoReturn

import numpy as np

from pycnn import backend as backends
from pycnn import in_place
from pycnn.autograd import Function, starting_gradient
from pycnn.autograd import backward as walk_back
from pycnn.elementary import (
    Abs,
    Add,
    Cast,
    Clip,
    Divide,
    Exp,
    Index,
    Log,
    MatMul,
    Move,
    Multiply,
    Power,
    Reshape,
    Subtract,
    Sum,
    Transpose,
)
from pycnn.views import Look
from pycnn_kernels.problem import is_floating, is_half, numpy_dtype

Axes = int | tuple[int, ...] | None

_DETACH = "this tensor requires a gradient; use tensor.detach().numpy()"


class Tensor:
    """An array with an optional gradient.

    Args:
        data: an array, a number, or nested lists of numbers. An array keeps its dtype and is not copied; other
            floating-point data becomes float32.
        requires_grad: whether ``backward()`` of a result leaves a gradient in ``grad``.
        backend: "cpu" or "cuda"; None leaves an array on a GPU where it is; other data goes to the default backend.

    Attributes:
        data: the backing array, NumPy's or CuPy's.
        backend: where it is.
        grad: the gradient, a Tensor of the same shape, or None. Gradients add up until it is set to None.
        requires_grad: settable on leaves, the tensors that no operation made.

    Raises:
        TypeError: the data is not numeric, or integers were to have a gradient.
        ValueError: nested lists have rows of different lengths; there is no such backend.
        BackendError: the backend cannot be used; says what is missing.

    >>> x = Tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad.numpy()
    array([2., 4., 6.], dtype=float32)
    """

    # NumPy's and CuPy's arrays leave ``array + tensor`` to the tensor.
    __array_ufunc__ = None

    __slots__ = ("__weakref__", "_lent", "_logits", "_node", "_place", "_requires_grad", "_view", "data", "grad")

    def __init__(self, data: Any, requires_grad: bool = False, backend: str | backends.Backend | None = None):
        if isinstance(data, Tensor):
            data = data.data
        is_array = isinstance(data, np.ndarray | np.generic) or backends.is_on_gpu(data)
        array = backends.asarray(data, "data", backend)
        if array.dtype == np.float64 and not is_array:
            array = array.astype(np.float32)
        if array.dtype.kind not in "iub" and not is_floating(array.dtype):
            raise TypeError(f"a tensor holds real numbers; received an array of dtype {array.dtype}")
        self.data: Any = array
        self.grad: Tensor | None = None
        self._node: Function | None = None
        self._place = 0
        self._view: Look | None = None  # what it is a view of
        self._logits: tuple[str, Tensor, int] | None = None  # see functional.activation.logits_of
        self._requires_grad = False
        self.requires_grad = requires_grad

    @classmethod
    def _of(cls, array: np.ndarray, node: Function | None = None, place: int = 0) -> Tensor:
        """The output of an operation, without the constructor's conversions."""
        tensor = cls.__new__(cls)
        tensor.data = np.asarray(array) if isinstance(array, np.generic) else array
        tensor.grad = tensor._view = tensor._logits = None
        tensor._node, tensor._place = node, place
        tensor._requires_grad = node is not None
        return tensor

    def _take_history(self, other: Tensor) -> None:
        """Come from where another tensor comes from."""
        self._node, self._place, self._requires_grad = other._node, other._place, other._requires_grad

    # Copies. Without these they would be views of what the original is a view of, and pickles hold its whole history.

    def __copy__(self) -> Tensor:
        other = in_place.alias(self)
        other.grad, other._view = self.grad, self._view
        return other

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        """A leaf with a copy of the array and of the gradient.

        Raises:
            RuntimeError: the tensor is the result of an operation, and requires a gradient.
        """
        self._refuse_history("copied by copy.deepcopy")
        return _restored(copy.deepcopy(self.data, memo), copy.deepcopy(self.grad, memo), self._requires_grad)

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle; raises as a deep copy."""
        self._refuse_history("pickled")
        return _restored, (self.data, self.grad, self._requires_grad)

    def _refuse_history(self, what: str) -> None:
        if self.requires_grad and self._node is not None:
            raise RuntimeError(
                f"only tensors that no operation made can be {what}; received the result of one, which requires a "
                "gradient: use tensor.detach()"
            )

    @property
    def requires_grad(self) -> bool:
        if self._view is not None:
            self._view.refresh(self)
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if self._view is not None:
            self._view.refresh(self)
        if value and not is_floating(self.data.dtype):
            raise TypeError(f"only floating-point tensors have gradients; this one holds {self.data.dtype}")
        if not value and self._node is not None:
            raise ValueError("the result of an operation cannot stop requiring a gradient; use detach()")
        if value and self._node is None:
            self._view = None  # a leaf has no history from what it looks into
        self._requires_grad = bool(value)

    @property
    def backend(self) -> backends.Backend:
        return backends.of(self.data)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def dtype(self) -> np.dtype:
        return self.data.dtype

    @property
    def ndim(self) -> int:
        return self.data.ndim

    @property
    def size(self) -> int:
        return self.data.size

    @property
    def T(self) -> Tensor:
        """The tensor with its axes reversed."""
        return self.transpose()

    def numpy(self) -> np.ndarray:
        """The backing array itself, not a copy; of a tensor on a GPU, a copy on the CPU.

        Raises:
            RuntimeError: the tensor requires a gradient, which a change of the array would not know of.
        """
        if self.requires_grad:
            raise RuntimeError(_DETACH)
        return self.backend.to_host(self.data)

    def to(self, backend: str) -> Tensor:
        """The tensor on another backend, "cpu" or "cuda"; the tensor itself where it is there. Gradients flow back.

        Raises:
            BackendError, ValueError: as :func:`pycnn.backend.get`.

        >>> Tensor([1.0]).to("cpu").backend
        Backend('cpu')
        """
        there = backends.get(backend)
        return self if there is self.backend else Move.apply(self, backend=there)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    @property
    def __array_struct__(self) -> Any:
        """The memory of the array for NumPy: a capsule, which keeps the array.

        Raises:
            AttributeError: the tensor is on a GPU, requires a gradient, or holds bfloat16, for which there is no
                code; NumPy then goes by :meth:`__array__`, which says so or knows the dtype.
        """
        return self._described("__array_struct__").__array_struct__

    @property
    def __array_interface__(self) -> dict[str, Any]:
        """The memory of the array for others who do not know :attr:`__array_struct__`; raises as that."""
        interface: dict[str, Any] = self._described("__array_interface__").__array_interface__
        self._lend()
        return interface

    def _described(self, protocol: str) -> np.ndarray:
        """The array, if NumPy's protocol can tell what it is."""
        if self.requires_grad or not isinstance(self.data, np.ndarray):
            self._lacks(protocol, "is on a GPU")
        if np.dtype(self.dtype.str) != self.dtype:
            self._lacks(protocol, f"holds {self.dtype}")
        return self.data

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """The memory of an array on a GPU for CuPy, PyTorch, Numba and others.

        Raises:
            AttributeError: the tensor is on the CPU, or requires a gradient.
        """
        if self.requires_grad or isinstance(self.data, np.ndarray):
            self._lacks("__cuda_array_interface__", "is on the CPU")
        interface: dict[str, Any] = self.data.__cuda_array_interface__
        self._lend()
        return interface

    def _lacks(self, protocol: str, reason: str) -> NoReturn:
        # An AttributeError, so that hasattr() says no and other protocols are tried.
        raise AttributeError(_DETACH if self._requires_grad else f"a tensor that {reason} has no {protocol}")

    def _lend(self) -> None:
        """Keep the array for as long as the tensor: who has taken an interface keeps the tensor alone, and may do so
        when ``data`` has long been set to another array.
        """
        lent = getattr(self, "_lent", ())
        if all(array is not self.data for array in lent):
            self._lent = (*lent, self.data)

    def __dlpack__(self, **settings: Any) -> Any:
        """The array as a DLPack capsule; keyword arguments as its own ``__dlpack__`` takes them.

        Raises:
            BufferError: the tensor requires a gradient, or DLPack does not know its dtype.
        """
        if self.requires_grad:
            raise BufferError(_DETACH)
        return self.data.__dlpack__(**settings)

    def __dlpack_device__(self) -> tuple[int, int]:
        """DLPack's numbers of the kind of device and of the device."""
        kind, number = self.data.__dlpack_device__()
        return int(kind), int(number)

    def item(self) -> float:
        """The only element, as a Python number."""
        if self.size != 1:
            raise ValueError(f"item() needs a tensor of one element; this one has the shape {self.shape}")
        return self.data.item()

    def detach(self) -> Tensor:
        """The same array without a gradient or a history. A change of it in place is a change of this tensor."""
        return Tensor._of(self.data)

    def backward(self, grad: Any = None, *, retain_graph: bool = False, create_graph: bool = False) -> None:
        """Add the gradient of this tensor to ``grad`` of every leaf that it was computed from.

        Gradients are computed with the values that operations were recorded with. Where one of those was changed in
        place since, for example by ``Optimizer.apply`` before a second ``backward``, an error is raised: compute the
        result anew first. Changes of ``data``, or of an array that is shared with it, are not noticed.

        Args:
            grad: the gradient of some scalar with respect to this tensor; 1 when this tensor is a scalar.
            retain_graph: keep what was recorded, so that ``backward`` can be called again.
            create_graph: record the computation of the gradients, so that they can be differentiated.

        Raises:
            RuntimeError: the tensor has no gradient, or ``grad`` is missing for a tensor of several elements; the graph
                was released by an earlier call; values that a gradient is computed of were changed in place.
            ValueError: ``grad`` has another shape than the tensor.
        """
        if not self.requires_grad:
            raise RuntimeError("backward() of a tensor that does not require a gradient")
        walk_back(self, starting_gradient(self, grad, "backward()", "grad"), retain_graph, create_graph)

    # Arithmetic. Numbers stay weak: they take the tensor's dtype.

    def __add__(self, other: Any) -> Tensor:
        return Add.apply(self, _operand(other, self))

    __radd__ = __add__

    def __sub__(self, other: Any) -> Tensor:
        return Subtract.apply(self, _operand(other, self))

    def __rsub__(self, other: Any) -> Tensor:
        return Subtract.apply(_operand(other, self), self)

    def __mul__(self, other: Any) -> Tensor:
        return Multiply.apply(self, _operand(other, self))

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Tensor:
        return Divide.apply(self, _operand(other, self))

    def __rtruediv__(self, other: Any) -> Tensor:
        return Divide.apply(_operand(other, self), self)

    def __pow__(self, other: Any) -> Tensor:
        return Power.apply(self, _operand(other, self))

    def __rpow__(self, other: Any) -> Tensor:
        return Power.apply(_operand(other, self), self)

    def __neg__(self) -> Tensor:
        return self * -1

    def __matmul__(self, other: Any) -> Tensor:
        return MatMul.apply(self, _operand(other, self))

    def __rmatmul__(self, other: Any) -> Tensor:
        return MatMul.apply(_operand(other, self), self)

    def exp(self) -> Tensor:
        return Exp.apply(self)

    def log(self) -> Tensor:
        return Log.apply(self)

    def sqrt(self) -> Tensor:
        return self**0.5

    def abs(self) -> Tensor:
        return Abs.apply(self)

    def clip(self, low: float | None = None, high: float | None = None) -> Tensor:
        """Elements below ``low`` become ``low``, above ``high`` become ``high``; there the gradient is 0."""
        return Clip.apply(self, low=low, high=high)

    def sum(self, axis: Axes = None, keepdims: bool = False) -> Tensor:
        return Sum.apply(self, axis=axis, keepdims=keepdims)

    def mean(self, axis: Axes = None, keepdims: bool = False) -> Tensor:
        if is_half(self.dtype):  # the sum may be too large for it
            return self.astype(np.float32).mean(axis, keepdims).astype(self.dtype)
        total = self.sum(axis, keepdims)
        return total * (total.size / self.size if self.size else np.nan)

    def reshape(self, *shape: Any) -> Tensor:
        """The same elements in another shape; this tensor itself where it has that shape."""
        wanted = _flat(shape)
        return self if wanted == self.shape else Reshape.apply(self, shape=wanted)

    def transpose(self, *axes: Any) -> Tensor:
        """The axes in another order; reversed without arguments."""
        return Transpose.apply(self, axes=_flat(axes) or tuple(range(self.ndim))[::-1])

    def astype(self, dtype: Any) -> Tensor:
        return Cast.apply(self, dtype=numpy_dtype(dtype) if isinstance(dtype, str) else np.dtype(dtype))

    def __getitem__(self, index: Any) -> Tensor:
        return Index.apply(self, index=_plain(index))

    # Changes in place; PyTorch's names and rules, see pycnn.in_place.

    def __setitem__(self, index: Any, value: Any) -> None:
        """Put values, which broadcast and take this dtype, at an index; gradients flow to them, and to what is left.

        >>> x, w = Tensor([1.0, 2.0, 3.0]), Tensor(5.0, requires_grad=True)
        >>> x[1:] = w * 2
        >>> x.sum().backward()
        >>> x.detach().numpy(), w.grad.item()
        (array([ 1., 10., 10.], dtype=float32), 4.0)
        """
        value = _operand(value, self)
        in_place.overwrite(self, value, "Tensor.__setitem__", (Index, {"index": _plain(index)}))

    def add_(self, other: Any) -> Tensor:
        """Add in place: ``x += other``.

        Raises:
            RuntimeError: a leaf that requires a gradient, or a view of one, outside of :func:`pycnn.no_grad`.
            ValueError: the array is read-only, or the result would have another shape.
            TypeError: integers would become floating-point numbers.

        >>> x = Tensor([1.0, 2.0], requires_grad=True)
        >>> y = x * 3
        >>> y.add_(1) is y, y.detach().numpy()
        (True, array([4., 7.], dtype=float32))
        >>> x.add_(1)
        Traceback (most recent call last):
        RuntimeError: Tensor.add_ cannot change a leaf that requires a gradient while operations are recorded: ...
        """
        return in_place.update(self, Add, _operand(other, self), "Tensor.add_")

    def sub_(self, other: Any) -> Tensor:
        """Subtract in place: ``x -= other``; raises as :meth:`add_`."""
        return in_place.update(self, Subtract, _operand(other, self), "Tensor.sub_")

    def mul_(self, other: Any) -> Tensor:
        """Multiply in place: ``x *= other``; raises as :meth:`add_`."""
        return in_place.update(self, Multiply, _operand(other, self), "Tensor.mul_")

    def div_(self, other: Any) -> Tensor:
        """Divide in place: ``x /= other``; raises as :meth:`add_`."""
        return in_place.update(self, Divide, _operand(other, self), "Tensor.div_")

    def copy_(self, other: Any) -> Tensor:
        """Take the values of another tensor, which broadcast and take this dtype; raises as :meth:`add_`."""
        return in_place.overwrite(self, _operand(other, self), "Tensor.copy_")

    def fill_(self, value: Any) -> Tensor:
        """Make every element one number; raises as :meth:`add_`."""
        return in_place.overwrite(self, _operand(value, self), "Tensor.fill_")

    def zero_(self) -> Tensor:
        """Make every element 0; raises as :meth:`add_`."""
        return in_place.overwrite(self, _operand(0, self), "Tensor.zero_")

    __iadd__, __isub__, __imul__, __itruediv__ = add_, sub_, mul_, div_

    # Comparisons give plain boolean tensors; they have no gradient. What is no number, such as None, is not equal.

    def __eq__(self, other: object) -> Tensor:  # type: ignore[override]
        return Tensor._of(self.data == _operand(other, self).data) if _is_numeric(other) else NotImplemented

    def __ne__(self, other: object) -> Tensor:  # type: ignore[override]
        return Tensor._of(self.data != _operand(other, self).data) if _is_numeric(other) else NotImplemented

    # Tensors are looked up in sets and dictionaries by identity.
    __hash__ = object.__hash__

    def __gt__(self, other: Any) -> Tensor:
        return Tensor._of(self.data > _operand(other, self).data)

    def __ge__(self, other: Any) -> Tensor:
        return Tensor._of(self.data >= _operand(other, self).data)

    def __lt__(self, other: Any) -> Tensor:
        return Tensor._of(self.data < _operand(other, self).data)

    def __le__(self, other: Any) -> Tensor:
        return Tensor._of(self.data <= _operand(other, self).data)

    def __len__(self) -> int:
        if self.ndim == 0:
            raise TypeError("a tensor without axes has no length")
        return self.shape[0]

    def __float__(self) -> float:
        return float(self.item())

    def __bool__(self) -> bool:
        return bool(self.item())

    def __repr__(self) -> str:
        body = np.array2string(self.backend.to_host(self.data), separator=", ", prefix="Tensor(")
        notes = f", dtype={self.dtype}" if self.dtype != np.float32 else ""
        notes += ", backend='cuda'" if self.backend.name == "cuda" else ""
        notes += ", requires_grad=True" if self._requires_grad else ""
        return f"Tensor({body}{notes})"


def _restored(data: Any, grad: Tensor | None, requires_grad: bool) -> Tensor:
    """A tensor that was copied or pickled."""
    tensor = Tensor._of(data)
    tensor.grad, tensor._requires_grad = grad, requires_grad
    return tensor


def _flat(arguments: tuple[Any, ...]) -> tuple[int, ...]:
    """(2, 3) from both ``f(2, 3)`` and ``f((2, 3))``."""
    if len(arguments) == 1 and isinstance(arguments[0], tuple | list):
        return tuple(arguments[0])
    return arguments


def _plain(index: Any) -> Any:
    """An index with arrays in the place of tensors."""
    if isinstance(index, Tensor):
        return index.data
    return tuple(map(_plain, index)) if isinstance(index, tuple) else index


def _is_numeric(value: object) -> bool:
    plain = Tensor | np.ndarray | np.generic | bool | int | float | list | tuple
    return isinstance(value, plain) or backends.is_on_gpu(value)


def _operand(value: Any, like: Tensor) -> Tensor:
    """An operand as a tensor; a plain number takes the dtype of the tensor beside it, if that is floating.

    Raises:
        TypeError: an array or a tensor on another backend than the tensor beside it.
    """
    if isinstance(value, bool | int | float | np.integer) and is_floating(like.dtype):
        if isinstance(like.data, np.ndarray):
            return Tensor._of(np.asarray(value, like.dtype))
        return Tensor._of(like.backend.xp.full((), value, like.dtype))
    operand = value
    if not isinstance(value, Tensor):
        placed = isinstance(value, np.ndarray) or backends.is_on_gpu(value)
        operand = Tensor(value, backend=backends.of(value) if placed else like.backend)
    if type(operand.data) is not type(like.data):
        raise TypeError(
            f"both operands must be on one backend; received one on {operand.backend.name!r} and one on "
            f"{like.backend.name!r}: Tensor.to moves them"
        )
    return operand


Function.tensor_of, Function.tensor_type = Tensor._of, Tensor
