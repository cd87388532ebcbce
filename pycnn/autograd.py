"""Reverse-mode differentiation: operations that know their gradients, and the walk back through them.

Each operation is a class with ``forward`` and ``backward`` next to each other. ``backward`` is written with
operations on tensors, so gradients can be differentiated again.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pycnn import backend as backends
from pycnn_kernels.problem import is_floating

if TYPE_CHECKING:
    from pycnn.tensor import Tensor


class _Mode(threading.local):
    recording = True


_mode = _Mode()


@contextlib.contextmanager
def no_grad() -> Iterator[None]:
    """Inside this block operations are not recorded, so that their results have no gradient.

    >>> import pycnn
    >>> x = pycnn.Tensor([1.0, 2.0], requires_grad=True)
    >>> with pycnn.no_grad():
    ...     y = x * 2
    >>> y.requires_grad
    False
    """
    with _recording(False):
        yield


@contextlib.contextmanager
def _recording(on: bool) -> Iterator[None]:
    before = _mode.recording
    _mode.recording = on
    try:
        yield
    finally:
        _mode.recording = before


def is_grad_enabled() -> bool:
    """Whether operations are being recorded."""
    return _mode.recording


class Function:
    """One operation in the recorded graph.

    A subclass defines ``forward(*arrays, **settings)``, which computes on arrays and may keep what its gradient
    needs on ``self``, and ``backward(*grads)``, which takes one gradient tensor for each output (None for an
    output that nothing depends on) and returns one for each input, None where there is none.

    Attributes:
        inputs: the input tensors, while the graph is kept.
        needs: for each input, whether its gradient is wanted.
        outputs: how many outputs ``forward`` returns: one, or a tuple of them.
        uses_numpy: whether ``forward`` calculates with NumPy, which warns; kernels do not.
    """

    outputs = 1
    uses_numpy = True

    #: Makes a tensor of an output: ``Tensor._of``, put here by the module of tensors, which imports this one.
    tensor_of: ClassVar[Callable[[np.ndarray, Function | None, int], Tensor]]

    def __init__(self) -> None:
        # Any: the gradients use inputs that are known to be there without asking again.
        self.inputs: tuple[Any, ...] = ()
        self.needs: tuple[bool, ...] = ()
        self.released = False

    def forward(self, *arrays: Any, **settings: Any) -> Any:
        raise NotImplementedError

    def backward(self, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        raise NotImplementedError

    @classmethod
    def apply(cls, *inputs: Tensor | None, **settings: Any) -> Any:
        """Compute, and record when gradients are wanted: a tensor, or a tuple of them."""
        function = cls()
        # Where nothing is recorded, nobody will ask for a gradient.
        recording = _mode.recording
        function.needs = tuple([recording and t is not None and t._requires_grad for t in inputs])
        result = function.compute(*[None if t is None else t.data for t in inputs], **settings)
        node = None
        if True in function.needs:
            node, function.inputs = function, inputs
        if cls.outputs == 1:
            return _output(result, node, 0)
        return tuple([_output(array, node, place) for place, array in enumerate(result)])

    def compute(self, *arrays: Any, **settings: Any) -> Any:
        """``forward`` with floating-point's own rules: 1 / 0 is infinity, 0 * infinity is NaN, and neither is news.

        On a GPU these are the only rules; there the first array's GPU is the one that computes.
        """
        first = arrays[0]
        if not isinstance(first, np.ndarray):
            with backends.of(first).at_hand(first):
                return self.forward(*arrays, **settings)
        if not self.uses_numpy:
            return self.forward(*arrays, **settings)
        with np.errstate(all="ignore"):
            return self.forward(*arrays, **settings)

    def release(self) -> None:
        """Let go of everything that the gradient needed."""
        self.__dict__ = {"inputs": (), "needs": (), "released": True}


def _output(array: Any, node: Function | None, place: int) -> Tensor | None:
    """An output of an operation as a tensor that remembers the operation, if it was recorded and has a gradient."""
    if array is None:
        return None
    return Function.tensor_of(array, node if node is not None and is_floating(array.dtype) else None, place)


def backward(root: Tensor, grad: Tensor, retain_graph: bool = False, create_graph: bool = False) -> None:
    """Add the gradients of ``root``, weighted by ``grad``, to the ``grad`` of every leaf it depends on."""
    if root._node is None:
        _accumulate(root, grad, is_alone=False)
        return
    waiting: dict[int, list[Tensor | None]] = {id(root._node): _place(root, grad, None)}
    with _recording(create_graph), backends.of(root.data).at_hand(root.data):
        for node in _topological_order(root._node):
            grads = waiting.pop(id(node), None)
            if grads is None:
                continue
            if node.released:
                raise RuntimeError(
                    "backward() through a graph that an earlier backward() has released; "
                    "pass retain_graph=True to the earlier call"
                )
            found = _input_gradients(node, grads)
            for tensor, gradient in found:
                if tensor._node is None:
                    _accumulate(tensor, gradient, is_alone=_is_alone(gradient, [*grads, *(g for _, g in found)]))
                else:
                    known = waiting.get(id(tensor._node))
                    waiting[id(tensor._node)] = _place(tensor, gradient, known)
            if not (retain_graph or create_graph):
                node.release()


def _place(tensor: Tensor, grad: Tensor, known: list[Tensor | None] | None) -> list[Tensor | None]:
    """The gradients of the outputs of a tensor's node, with ``grad`` added to that of this tensor."""
    place = tensor._place
    grads: list[Tensor | None] = [None] * tensor._node.outputs if known is None else known  # type: ignore[union-attr]
    present = grads[place]
    grads[place] = grad if present is None else present + grad
    return grads


def _input_gradients(node: Function, grads: list[Tensor | None]) -> list[tuple[Tensor, Tensor]]:
    """The inputs of a node that want a gradient, each with what this node adds to it, in the input's dtype."""
    found = []
    for tensor, needed, gradient in zip(node.inputs, node.needs, node.backward(*grads)):
        if needed and gradient is not None:
            if gradient.dtype != tensor.dtype:  # an operand of a wider dtype widened the result
                gradient = gradient.astype(tensor.dtype)
            found.append((tensor, gradient))
    return found


def _is_alone(gradient: Tensor, all_of_node: list[Tensor | None]) -> bool:
    """Whether no other gradient that a node was given, or has computed, is in the memory of this one."""
    owner = _memory_owner(gradient)
    return sum(each is not None and _memory_owner(each) is owner for each in all_of_node) == 1


def _memory_owner(tensor: Tensor) -> np.ndarray:
    """The array whose memory a tensor's array is, or is a view of."""
    array = tensor.data
    while isinstance(array.base, type(array)):
        array = array.base
    return array


def _accumulate(leaf: Tensor, grad: Tensor, is_alone: bool) -> None:
    """Add to a leaf's gradient, whose array belongs to the leaf alone: callers may change it in place.

    ``is_alone`` says that a node has just computed ``grad``, for this leaf and for nothing else.
    """
    if not leaf.requires_grad:
        return
    if leaf.grad is not None:
        leaf.grad = leaf.grad + grad
        return
    owned = is_alone and backends.of(grad.data).is_writable(grad.data) and grad.data.flags.c_contiguous
    leaf.grad = grad if owned else grad.astype(grad.dtype)


def _topological_order(root: Function) -> list[Function]:
    """The nodes below ``root``, each before those that it depends on; iterative, so that depth has no limit."""
    order: list[Function] = []
    seen = {id(root)}
    stack: list[tuple[Function, Iterator[Any]]] = [(root, iter(root.inputs))]
    while stack:
        node, inputs = stack[-1]
        for tensor in inputs:
            if tensor is not None and tensor._node is not None and id(tensor._node) not in seen:
                seen.add(id(tensor._node))
                stack.append((tensor._node, iter(tensor._node.inputs)))
                break
        else:
            order.append(node)
            stack.pop()
    return order[::-1]


def unbroadcast(grad: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Sum a gradient over the axes along which an operand of ``shape`` was broadcast."""
    if grad.shape == shape:
        return grad
    extra = grad.ndim - len(shape)
    axes = tuple(range(extra)) + tuple(
        extra + i for i, size in enumerate(shape) if size == 1 and grad.shape[extra + i] != 1
    )
    return grad.sum(axis=axes, keepdims=True).reshape(shape)


def check_gradient(grad: Any, shape: tuple[int, ...], dtype: np.dtype, backend: backends.Backend) -> np.ndarray:
    """A starting gradient as an array of the output's shape and dtype.

    Raises:
        ValueError: it has another shape.
    """
    array = backends.asarray(grad, "the gradient", backend).astype(dtype, copy=False)
    if array.shape != shape:
        raise ValueError(f"the gradient must have the shape of the output, {shape}; received {array.shape}")
    return array
