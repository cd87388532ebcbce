"""Changes of tensors in place, by PyTorch's rules.

A tensor that operations have made, or that takes part in none, goes on as the result of the change: its history is
that of the new values. What looks into the same memory changes with it, see :mod:`pycnn.views`. A leaf that requires a
gradient is not changed while operations are recorded: its gradient would be that of values which are gone. What was
recorded before and needs the old values refuses to compute its gradient, see :mod:`pycnn.changes`.

Views that are made inside :func:`pycnn.no_grad` are not known to be views: changed in place outside of it, they have a
history of their own, and what they look into knows nothing of it. PyTorch refuses such changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from pycnn import backend as backends
from pycnn import changes
from pycnn.autograd import Function, is_grad_enabled, unbroadcast
from pycnn.elementary import Index, Select, cast
from pycnn.views import Path, through
from pycnn_kernels.problem import is_floating

if TYPE_CHECKING:
    from pycnn.tensor import Tensor

Target = TypeVar("Target")


class Overwrite(Function):
    """``x`` with ``value`` in the place of what a path of views shows of it, in the memory of x."""

    reads = ()

    def forward(self, x: np.ndarray, value: np.ndarray, *, path: Path) -> np.ndarray:
        self.path, self.shape = path, value.shape
        if self.needs[0]:
            self.left = np.ones_like(x, dtype=bool)
            _write(self.left, path, False)
        self.written = _written(x, path) if self.needs[1] else None
        _write(x, path, value)
        return x

    def backward(self, dy: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        dx = Select.apply(dy, mask=self.left) if self.needs[0] else None
        if not self.needs[1]:
            return dx, None
        dvalue = through(self.path, dy)
        if self.written is not None:
            dvalue = Select.apply(dvalue, mask=self.written)
        return dx, unbroadcast(dvalue, self.shape)


def _write(array: Any, path: Path, value: Any) -> None:
    """Change what a path of views shows of an array; the last of them may be an index that is no view."""
    for function, settings in path[:-1]:
        array = function().forward(array, **settings)
    index: Any = ...
    for function, settings in path[-1:]:
        if function is Index:
            index = settings["index"]
        else:
            array = function().forward(array, **settings)
    array[index] = value


def _written(x: np.ndarray, path: Path) -> np.ndarray | None:
    """Which elements of a value end up in x: of those for one place the last; None for all of them."""
    if not path or path[-1][0] is not Index or path[-1][1]["index"] is ...:
        return None
    xp = backends.of(x).xp
    places = xp.zeros(x.shape, np.int64)
    for function, settings in path:
        shown = places
        places = function().forward(places, **settings)
    if changes.same_memory(shown, places):
        return None
    order = xp.arange(places.size).reshape(places.shape)
    shown[path[-1][1]["index"]] = order
    return shown[path[-1][1]["index"]] == order


def overwrite(target: Tensor, value: Tensor, what: str, *last: tuple[type[Function], dict[str, Any]]) -> Tensor:
    """Put a value in the place of a tensor's elements, or of those that ``last`` shows of it.

    Args:
        target: what is changed.
        value: of a shape that broadcasts to that place.
        what: the caller, for errors.

    Raises:
        RuntimeError, ValueError: as :func:`assign_in_place`.
    """
    refuse_fixed(target, what)
    look = target._view
    whole = target if look is None else look.whole
    path = (*(() if look is None else look.path), *last)
    place = target.data
    for function, settings in last:
        place = function().forward(place, **settings)
    value = _fitted(value, place, what)
    with target.backend.at_hand(target.data):
        if is_grad_enabled() and (whole._requires_grad or value._requires_grad):
            whole._take_history(Overwrite.apply(alias(whole), value, path=path))
            if look is not None:
                look.refresh(target)
        else:
            _write(target.data, last, value.data)
    target._logits = None
    changes.note(target.data, what)
    return target


def update(target: Tensor, function: type[Function], operand: Tensor, what: str) -> Tensor:
    """Change a tensor to ``function`` of itself and an operand.

    Raises:
        RuntimeError, ValueError: as :func:`assign_in_place`.
        TypeError: the result is floating-point, and the tensor is not.
    """
    refuse_fixed(target, what)
    old = alias(target)
    result = function.apply(old, operand)
    if result.shape != target.shape:
        raise ValueError(f"{what} must not change the shape {target.shape}; the result would have {result.shape}")
    if is_floating(result.dtype) and not is_floating(target.dtype):
        raise TypeError(f"{what} must not change the dtype {target.dtype}; the result would be {result.dtype}")
    if result._node is not None:
        _keep_what_is_read(result._node, target)
    return _become(target, result, what)


def assign_in_place(target: Target, result: Any, what: str = "an operation with inplace=True") -> Target:
    """Write what an operation has computed of ``target`` into its memory, for operations with ``inplace=True``.

    The history of a tensor becomes that of the result. Where the gradient of the result needs the values that are
    overwritten, it is given a copy of them.

    Args:
        target: a tensor or an array.
        result: of the same kind and shape.
        what: the operation, for errors.

    Returns:
        ``target``.

    Raises:
        RuntimeError: a leaf that requires a gradient, or a view of one, while operations are recorded.
        ValueError: a read-only array; a result of another shape.

    >>> import numpy as np
    >>> from pycnn import functional as F
    >>> x = np.array([-1.0, 2.0])
    >>> assign_in_place(x, F.relu(x)) is x, x
    (True, array([0., 2.]))
    """
    if result is target:
        return target
    if not isinstance(target, Function.tensor_type):
        _refuse_read_only(target, what)
        _fitting_shape(result, target, what)
        target[...] = result  # type: ignore[index]
        changes.note(target, what)
        return target
    refuse_fixed(target, what)
    if result._node is not None:
        _detach_from_history(target, result._node)
    _become(target, result, what)
    return target


def _become(target: Tensor, result: Tensor, what: str) -> Tensor:
    """Give a tensor the values and the history of a result that was computed of it."""
    if target._view is not None or not (is_grad_enabled() and result._requires_grad):
        return overwrite(target, result, what)
    result = _fitted(result, target.data, what)
    with target.backend.at_hand(target.data):
        target.data[...] = result.data
    target._take_history(result)
    target._logits = None
    changes.note(target.data, what)
    return target


def _detach_from_history(target: Tensor, node: Function) -> None:
    """Put an alias in the place of a tensor wherever it is read on the way to a result, which it will become itself.

    Otherwise the tensor would hold a node that holds the tensor, and its memory until someone looks for such circles.
    """
    old = alias(target)
    stack, seen = [node], {id(target._node)}
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if any(each is target for each in node.inputs):
            node.inputs = tuple([old if each is target else each for each in node.inputs])
        _keep_what_is_read(node, target)
        stack.extend(source[0] for source in node.sources if type(source) is tuple)


def _keep_what_is_read(node: Function, target: Tensor) -> None:
    """Give a node copies of what its gradient needs and the change of a tensor will overwrite."""
    inputs = list(node.inputs)
    for place in node.places_read():
        tensor = inputs[place]
        if tensor is not None and changes.same_memory(tensor.data, target.data):
            inputs[place] = kept = alias(tensor)
            kept.data = cast(tensor.data, tensor.dtype)
    node.inputs = tuple(inputs)


def alias(tensor: Tensor) -> Tensor:
    """Another tensor with the same memory and the same history, which keeps both when the tensor is changed."""
    other = Function.tensor_of(tensor.data, None, 0)
    other._take_history(tensor)
    return other


def refuse_fixed(target: Tensor, what: str) -> None:
    """Raise an error where a tensor cannot be changed in place; see :func:`assign_in_place`."""
    if target._view is not None:
        target._view.refresh(target)
    look = target._view
    whole = target if look is None else look.whole
    if is_grad_enabled() and whole._requires_grad and whole._node is None:
        kind = "a leaf" if look is None else "a view of a leaf"
        raise RuntimeError(
            f"{what} cannot change {kind} that requires a gradient while operations are recorded: do it inside "
            "pycnn.no_grad(), or change a result of an operation on it"
        )
    _refuse_read_only(target.data, what)


def _refuse_read_only(array: Any, what: str) -> None:
    if not backends.of(array).is_writable(array):
        raise ValueError(f"{what} changes an array in place: it must be writable; received a read-only one")


def _fitted(value: Tensor, place: Any, what: str) -> Tensor:
    """A value in the dtype of the place that it goes to, without axes of size 1 that the place has not."""
    _fitting_shape(value, place, what)
    if value.ndim > place.ndim:
        value = value.reshape(value.shape[value.ndim - place.ndim :])
    return value if value.dtype == place.dtype else value.astype(place.dtype)


def _fitting_shape(value: Any, place: Any, what: str) -> None:
    """Raise a ValueError where a value does not broadcast to its place."""
    extra = value.ndim - place.ndim
    sizes = value.shape[max(extra, 0) :]
    fits = all(size in (1, there) for size, there in zip(sizes[::-1], place.shape[::-1]))
    if not fits or any(size != 1 for size in value.shape[: max(extra, 0)]):
        raise ValueError(
            f"{what} needs values that broadcast to the shape {tuple(place.shape)}; received {tuple(value.shape)}"
        )
