"""Reverse-mode differentiation: operations that know their gradients, and the walk back through them.

Each operation is a class with ``forward`` and ``backward`` next to each other. ``backward`` is written with
operations on tensors, so gradients can be differentiated again.
"""

from __future__ import annotations

import contextlib
import copy
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pycnn import backend as backends
from pycnn import changes
from pycnn_kernels.problem import is_floating

if TYPE_CHECKING:
    from pycnn.tensor import Tensor


@np.errstate(all="ignore")  # in half the time of a with statement
def without_news(forward: Callable[..., Any], arrays: tuple[Any, ...], settings: dict[str, Any]) -> Any:
    """``forward`` of arrays of NumPy's, by floating-point's own rules: see :meth:`Function.compute`."""
    return forward(*arrays, **settings)


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
    with recording(False):
        yield


@contextlib.contextmanager
def recording(on: bool) -> Iterator[None]:
    """Inside this block operations are recorded, or they are not."""
    before = _mode.recording
    _mode.recording = on
    try:
        yield
    finally:
        _mode.recording = before


def is_grad_enabled() -> bool:
    """Whether operations are being recorded."""
    return _mode.recording


#: Which output of a node an input of another one is, and its shape and dtype. A plain tuple: one is made for each input
#: of each operation, and a NamedTuple takes four times as long.
_Output = tuple["Function", int, tuple[int, ...], np.dtype]


class Function:
    """One operation and its gradient: the base class of all operations, and of those that users write.

    A subclass defines two methods next to each other. ``Function.apply`` calls the first, on tensors or on what becomes
    one, and gives tensors; a walk back through the graph calls the second.

    ``forward(self, *arrays, **settings)`` computes. It takes the array of each input (NumPy's, or CuPy's on a GPU; None
    for None) and the keyword arguments of ``apply`` as they are, and returns a new array, or a tuple of ``outputs``
    arrays, None for one that there is not. It must not change what it is given. What the gradient needs beside the
    inputs it keeps on ``self``.

    ``backward(self, *grads)`` takes a gradient for each output, a tensor of its shape, or None where nothing depends
    on it. It returns a gradient for each input, tensors of their shapes or None where there is none: a tuple, or
    the tensor alone where there is one input. Gradients that nobody wants, see ``needs``, may be None. It computes with
    *tensors*: then gradients can be differentiated again. What it computes with arrays is a constant to the second
    derivative, which :func:`pycnn.gradgradcheck` finds. What it puts on ``self`` may be gone afterwards: where some of
    the gradients are not wanted a copy is asked.

    What backward reads must hold what it held in forward. Arrays that are kept on ``self`` and the inputs that
    ``reads`` tells are looked after: if one of them is changed in place in between, the walk raises a RuntimeError.

    Attributes:
        inputs: the input tensors, as ``apply`` was given them, views as tensors of the same memory; while the graph is
            kept. None of them where ``reads`` is ``()``: then their memory is free as soon as nobody else needs it.
        needs: for each input, whether its gradient is wanted; in forward, too.
        outputs: of the class: how many arrays ``forward`` returns. 1 is an array itself, others are a tuple.
        reads: of the class: for each input, the places of the inputs whose *values* its gradient is computed of; places
            that it does not reach read nothing. ``()``: of no input, as the gradient of a sum. None: perhaps of all.
        uses_numpy: of the class: whether ``forward`` calculates with NumPy, which warns; kernels do not.

    An operation of one input, which keeps something:

    >>> import numpy as np
    >>> from pycnn import Tensor
    >>> class Cube(Function):
    ...     def forward(self, x):
    ...         self.square = x * x
    ...         return self.square * x
    ...
    ...     def backward(self, dy):
    ...         (x,) = self.inputs
    ...         return dy * 3 * x * x
    >>> x = Tensor([1.0, 2.0], requires_grad=True)
    >>> y = Cube.apply(x)
    >>> y.sum().backward()
    >>> y.detach().numpy(), x.grad.numpy()
    (array([1., 8.], dtype=float32), array([ 3., 12.], dtype=float32))

    Several inputs, of which some may be arrays, several outputs and a setting:

    >>> class Rotate(Function):
    ...     outputs = 2
    ...     reads = ()  # the operation is linear: its gradient depends on the angle alone
    ...
    ...     def forward(self, x, y, *, angle):
    ...         self.angle = angle
    ...         cos, sin = np.cos(angle), np.sin(angle)
    ...         return cos * x - sin * y, sin * x + cos * y
    ...
    ...     def backward(self, dx, dy):
    ...         missing = dx if dy is None else dy
    ...         dx, dy = (missing * 0 if each is None else each for each in (dx, dy))
    ...         return Rotate.apply(dx, dy, angle=-self.angle)
    >>> x = Tensor(np.array([1.0, 0.0]), requires_grad=True)
    >>> a, b = Rotate.apply(x, np.array([0.0, 1.0]), angle=np.pi / 2)
    >>> b.sum().backward()
    >>> x.grad.numpy().round(3)
    array([1., 1.])

    What is kept of the results is to the second derivative a function of the inputs if it is taken by :meth:`output`:

    >>> class Logistic(Function):
    ...     reads = ()
    ...
    ...     def forward(self, x):
    ...         self.y = 1 / (1 + np.exp(-x))
    ...         return self.y
    ...
    ...     def backward(self, dy):
    ...         y = self.output(self.y)
    ...         return dy * y * (1 - y)
    >>> import pycnn
    >>> pycnn.gradgradcheck(Logistic.apply, Tensor(np.array([-1.0, 2.0]), requires_grad=True))
    True
    """

    outputs: ClassVar[int] = 1
    reads: ClassVar[tuple[tuple[int, ...], ...] | None] = None
    uses_numpy: ClassVar[bool] = True

    #: Of views, see :mod:`pycnn.views`: notes that the result lies in the memory of the input.
    sees: ClassVar[Any] = None
    #: Makes a tensor of an output: ``Tensor._of``, and the class itself; put here by the module of tensors, which
    #: imports this one.
    tensor_of: ClassVar[Callable[[np.ndarray, Function | None, int], Tensor]]
    tensor_type: ClassVar[type[Tensor]]

    # What is not recorded has these of its class: to set them for each call takes time.
    # Any: the gradients use inputs that are known to be there without asking again.
    inputs: tuple[Any, ...] = ()
    needs: tuple[bool, ...] = ()
    sources: tuple[Tensor | _Output | None, ...] = ()
    moment = 0
    released = False
    _original: Function | None = None  # whom it stands in for, see asked_for

    def forward(self, *arrays: Any, **settings: Any) -> Any:
        raise NotImplementedError

    def backward(self, *grads: Tensor | None) -> Any:
        raise NotImplementedError

    @classmethod
    def apply(cls, *inputs: Any, **settings: Any) -> Any:
        """Compute, and record when gradients are wanted: a tensor, or a tuple of them.

        Args:
            inputs: tensors, or what :class:`pycnn.Tensor` takes; None where an input is optional.
            settings: keyword arguments for ``forward``.

        Raises:
            TypeError: ``forward`` returned something else than ``outputs`` arrays.
        """
        function = cls()
        recording = _mode.recording  # where nothing is recorded, nobody will ask for a gradient
        views = False
        try:
            if recording:
                for t in inputs:
                    if t is not None and t._view is not None:
                        t._view.refresh(t)
                        views = True
            function.needs = tuple([t is not None and t._requires_grad and recording for t in inputs])
        except AttributeError:
            if all(t is None or isinstance(t, cls.tensor_type) for t in inputs):
                raise
            return cls.apply(*_tensors(inputs), **settings)
        result = function.compute(*[None if t is None else t.data for t in inputs], **settings)
        node = None
        if True in function.needs:
            node = function
            function._record(inputs, views)
        if cls.outputs == 1:
            y = _output(result, function, node, 0)
            if recording and cls.sees is not None:
                cls.sees(y, inputs[0], cls, settings)
            return y
        if type(result) is not tuple or len(result) != cls.outputs:
            raise TypeError(
                f"{cls.__name__}.forward must return a tuple of {cls.outputs} arrays, which its class says by outputs; "
                f"received {_kind(result)}"
            )
        return tuple([_output(array, function, node, place) for place, array in enumerate(result)])

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
        return without_news(self.forward, arrays, settings)

    def _record(self, inputs: tuple[Any, ...], views: bool) -> None:
        """Become a node of the graph; ``views`` says that there are views among its inputs.

        Where the inputs that need a gradient come from is remembered beside them: the leaves themselves, or which
        outputs they are. Changed in place they come from somewhere else.

        In the place of views aliases are kept. A view holds what it looks into, which may become a result of this node.
        """
        if self.reads != ():
            self.inputs = inputs if not views else tuple([
                t if t is None or t._view is None else Function.tensor_of(t.data, t._node, t._place) for t in inputs
            ])  # fmt: skip
        self.moment = changes.moment
        self.sources = tuple(
            [
                None if not needed else t if t._node is None else (t._node, t._place, t.data.shape, t.data.dtype)
                for t, needed in zip(inputs, self.needs)
            ]
        )

    def asked_for(self, needs: tuple[bool, ...]) -> Function:
        """This node where all gradients are wanted, or one that is asked for some of them and stands in for it.

        The node itself stays as it is: another thread may walk through it at the same time.
        """
        if needs == self.needs:
            return self
        asked = copy.copy(self)
        asked.needs, asked._original = needs, self
        return asked

    def output(self, array: np.ndarray, place: int = 0) -> Tensor:
        """For ``backward``: an output that ``forward`` has kept, as the tensor that it is, with its history."""
        return Function.tensor_of(array, (self._original or self) if _mode.recording else None, place)

    def shape_of(self, place: int) -> tuple[int, ...]:
        """For ``backward``: the shape of an input whose gradient is wanted."""
        return _form(self.sources[place])[0]

    def places_read(self) -> set[int]:
        """Which inputs the wanted gradients are computed of."""
        there = set(range(len(self.inputs)))
        if self.reads is None:
            return there
        return there & {place for read, needed in zip(self.reads, self.needs) if needed for place in read}

    def release(self) -> None:
        """Let go of everything that the gradient needed."""
        self.__dict__ = {"released": True}


def _tensors(inputs: tuple[Any, ...]) -> list[Tensor | None]:
    """Inputs of an operation, of which some are no tensors yet."""
    kind = Function.tensor_type
    return [each if each is None or isinstance(each, kind) else kind(each) for each in inputs]


def _output(array: Any, function: Function, node: Function | None, place: int) -> Tensor | None:
    """An output of an operation as a tensor that remembers the operation, if it was recorded and has a gradient."""
    if type(array) is not np.ndarray:
        if array is None:
            return None
        array = _checked(array, function)
    return Function.tensor_of(array, node if node is not None and is_floating(array.dtype) else None, place)


def _checked(output: Any, function: Function) -> Any:
    """An output that is not simply NumPy's array."""
    if isinstance(output, np.ndarray | np.generic):
        return np.asarray(output)
    if isinstance(output, Function.tensor_type) or not backends.is_on_gpu(output):
        name = type(function).__name__
        expected = "an array" if function.outputs == 1 else "arrays"
        hint = ""
        if isinstance(output, tuple | list):
            hint = f"; the class of an operation with several outputs says how many: outputs = {len(output)}"
        raise TypeError(f"{name}.forward must return {expected}; received {_kind(output)}{hint}")
    return output


def _kind(value: Any) -> str:
    """What something is, for an error."""
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    name = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    return "None" if value is None else f"{value!r}" if isinstance(value, bool | int | float) else f"a {name}"


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Any = None,
    *,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Tensor | None, ...]:
    """The gradients of some tensors with respect to others, given back; ``grad`` of no tensor is touched.

    Only what lies between outputs and inputs is computed.

    Args:
        outputs: a tensor or several, whose gradients add up.
        inputs: a tensor or several; leaves, or results of operations on the way.
        grad_outputs: for each output the gradient of some scalar with respect to it, a tensor or an array; None for 1,
            where it has a single element. One alone for one output.
        retain_graph: keep what was recorded, so that it can be walked again; None does as ``create_graph`` says.
        create_graph: record the computation of the gradients, so that they can be differentiated.
        allow_unused: give None for an input that the outputs do not depend on.

    Returns:
        A tuple with a gradient for each input, of its shape and dtype.

    Raises:
        RuntimeError: an output or input that does not require a gradient; an input that no output depends on, unless
            ``allow_unused``; a missing gradient for an output of several elements; a graph that was released; values
            that were changed in place since, see :meth:`pycnn.Tensor.backward`.
        ValueError: another number of gradients than of outputs, or one of another shape than its output.
        TypeError: what are no tensors.

    Source: ``torch.autograd.grad``, https://docs.pytorch.org/docs/stable/generated/torch.autograd.grad.html

    >>> from pycnn import Tensor
    >>> x = Tensor([1.0, 2.0], requires_grad=True)
    >>> y = x * x
    >>> (slope,) = grad(y.sum(), x, create_graph=True)
    >>> slope.detach().numpy()
    array([2., 4.], dtype=float32)
    >>> (curvature,) = grad(slope.sum(), x)
    >>> curvature.numpy(), x.grad
    (array([2., 2.], dtype=float32), None)
    """
    ends, begins = _listed("outputs", outputs), _listed("inputs", inputs)
    one_alone = grad_outputs is None or (isinstance(outputs, Function.tensor_type) and not _is_list(grad_outputs))
    given = [grad_outputs] * len(ends) if one_alone else list(grad_outputs)
    if len(given) != len(ends):
        raise ValueError(f"grad_outputs must have a gradient for each of {len(ends)} outputs; received {len(given)}")
    for name, tensors in (("outputs", ends), ("inputs", begins)):
        for place, tensor in enumerate(tensors):
            if not tensor.requires_grad:
                raise RuntimeError(f"{name}[{place}] does not require a gradient")
    starts = [(end, starting_gradient(end, g, "grad()", "grad_outputs")) for end, g in zip(ends, given)]
    wanted = _Wanted(begins)
    _walk(starts, create_graph if retain_graph is None else retain_graph, create_graph, wanted)
    found = [wanted.found.get(_origin(tensor)) for tensor in begins]
    if None in found and wanted.met_released:
        _Leaves().at_released()
    for place, gradient in enumerate(found):
        if gradient is None and not allow_unused:
            raise RuntimeError(
                f"the outputs do not depend on inputs[{place}]; allow_unused=True gives None for its gradient"
            )
    return tuple(found)


def _is_list(value: Any) -> bool:
    return isinstance(value, tuple | list)


def _listed(name: str, value: Any) -> list[Tensor]:
    tensors = list(value) if _is_list(value) else [value]
    for each in tensors:
        if not isinstance(each, Function.tensor_type):
            raise TypeError(f"{name} must be a tensor, or a tuple of tensors; received {_kind(each)}")
    if not tensors:
        raise ValueError(f"{name} must have at least one tensor; received none")
    return tensors


def backward(root: Tensor, grad: Tensor, retain_graph: bool = False, create_graph: bool = False) -> None:
    """Add the gradients of ``root``, weighted by ``grad``, to the ``grad`` of every leaf it depends on."""
    _walk([(root, grad)], retain_graph, create_graph, _Leaves())


_Origin = tuple[int, int]


def _origin(tensor: Tensor) -> _Origin:
    """What a gradient with respect to a tensor is filed by: its place among the outputs of its node, or the leaf."""
    return (id(tensor), 0) if tensor._node is None else (id(tensor._node), tensor._place)


class _Leaves:
    """Gradients that are added to ``grad`` of the leaves, and of all of them."""

    def narrow(self, order: list[Function]) -> None:
        """Nothing is left out."""

    def needs(self, node: Function) -> tuple[bool, ...]:
        """Which gradients of its inputs a node is asked for."""
        return node.needs

    def at_released(self) -> None:
        """Where a graph ends that an earlier walk has released."""
        raise RuntimeError(
            "backward() through a graph that an earlier backward() has released; "
            "pass retain_graph=True to the earlier call"
        )

    def at_outputs(self, node: Function, grads: list[Tensor | None]) -> None:
        """The whole gradients of the outputs of a node."""

    def at_leaf(self, leaf: Tensor, grad: Tensor, is_alone: bool) -> None:
        """A part of the gradient of a leaf; ``is_alone`` as :func:`_owned` takes it."""
        if leaf._requires_grad:
            leaf.grad = _owned(grad, is_alone) if leaf.grad is None else leaf.grad + grad


class _Wanted(_Leaves):
    """Gradients of chosen tensors, which are given back; what leads to none of them is left out.

    Attributes:
        found: what was found so far, by :func:`_origin`.
        met_released: whether something may be missing, because a part of the graph has been released.
    """

    def __init__(self, tensors: list[Tensor]):
        self.origins = {_origin(tensor) for tensor in tensors}
        self.useful: set[int] = set()
        self.found: dict[_Origin, Tensor] = {}
        self.met_released = False

    def narrow(self, order: list[Function]) -> None:
        for node in reversed(order):
            if node.released or True in self.needs(node):  # what was released may have led anywhere
                self.useful.add(id(node))

    def needs(self, node: Function) -> tuple[bool, ...]:
        return tuple([
            source is not None and (_source_origin(source) in self.origins or id(_above(source)) in self.useful)
            for source in node.sources
        ])  # fmt: skip

    def at_released(self) -> None:
        self.met_released = True

    def at_outputs(self, node: Function, grads: list[Tensor | None]) -> None:
        for place, grad in enumerate(grads):
            if grad is not None and (id(node), place) in self.origins:
                self.found[id(node), place] = _owned(grad, is_alone=False)

    def at_leaf(self, leaf: Tensor, grad: Tensor, is_alone: bool) -> None:
        if (key := (id(leaf), 0)) in self.origins:
            known = self.found.get(key)
            self.found[key] = _owned(grad, is_alone) if known is None else known + grad


def _source_origin(source: Tensor | _Output) -> _Origin:
    """The :func:`_origin` of an input as it was when the node was recorded."""
    return (id(source[0]), source[1]) if type(source) is tuple else (id(source), 0)


def _above(source: Tensor | _Output | None) -> Function | None:
    """The node that made an input."""
    return source[0] if type(source) is tuple else None


def _form(source: Any) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of an input that needs a gradient."""
    return source[2:] if type(source) is tuple else (source.shape, source.dtype)


def _walk(starts: list[tuple[Tensor, Tensor]], retain_graph: bool, create_graph: bool, results: _Leaves) -> None:
    """Go back from tensors, each given with its gradient, and hand what is found to ``results``."""
    first = starts[0][0].data
    waiting: dict[int, list[Tensor | None]] = {}
    with recording(create_graph), backends.of(first).at_hand(first):
        for tensor, gradient in starts:
            if tensor._node is None:
                results.at_leaf(tensor, gradient, is_alone=False)
            else:
                _add(waiting, tensor._node, tensor._place, gradient)
        order = _topological_order([tensor._node for tensor, _ in starts])
        results.narrow(order)
        for node in order:
            grads = waiting.pop(id(node), None)
            if grads is None:
                continue
            results.at_outputs(node, grads)
            if node.released:
                results.at_released()
                continue
            needs = results.needs(node)
            if True not in needs:
                continue
            found = _input_gradients(node, grads, needs)
            for source, gradient in found:
                if type(source) is tuple:
                    _add(waiting, source[0], source[1], gradient)
                else:
                    results.at_leaf(source, gradient, _is_alone(gradient, [*grads, *(g for _, g in found)]))
            if not (retain_graph or create_graph):
                node.release()


def _add(waiting: dict[int, list[Tensor | None]], node: Function, place: int, grad: Tensor) -> None:
    """Add to the gradient of an output of a node that waits for its turn."""
    grads = waiting.setdefault(id(node), [None] * node.outputs)
    present = grads[place]
    grads[place] = grad if present is None else present + grad


def _input_gradients(node: Function, grads: list[Tensor | None], needs: tuple[bool, ...]) -> list[tuple[Any, Tensor]]:
    """The gradients that are wanted of a node, each with where its input came from, in that input's dtype."""
    if node.moment != changes.moment:
        _refuse_changed(node)
    returned = node.asked_for(needs).backward(*grads)
    if type(returned) is not tuple:
        returned = tuple(returned) if isinstance(returned, list) else (returned,)
    if len(returned) < len(needs) or any(extra is not None for extra in returned[len(needs) :]):
        raise ValueError(
            f"{type(node).__name__}.backward must return a gradient for each of its {len(needs)} inputs, None where "
            f"there is none; received {len(returned)}"
        )
    found = []
    for place, (needed, source, gradient) in enumerate(zip(needs, node.sources, returned)):
        if needed and gradient is not None:
            found.append((source, _checked_gradient(gradient, node, place, *_form(source))))
    return found


def _checked_gradient(gradient: Any, node: Function, place: int, shape: tuple[int, ...], dtype: np.dtype) -> Tensor:
    """A gradient in the dtype of the input that it is of.

    Raises:
        TypeError: it is no tensor.
        ValueError: it has another shape.
    """
    if not isinstance(gradient, Function.tensor_type):
        raise TypeError(
            f"{type(node).__name__}.backward must return tensors of pycnn, computed with operations on tensors; "
            f"received {_kind(gradient)} for input {place}"
        )
    if gradient.data.shape != shape:
        raise ValueError(
            f"{type(node).__name__}.backward must return a gradient of the shape of its input {place}, "
            f"{shape}; received {gradient.shape}"
        )
    # An operand of a wider dtype widens the result.
    return gradient if gradient.dtype == dtype else gradient.astype(dtype)


def _refuse_changed(node: Function) -> None:
    """Raise a RuntimeError where values that a node's backward reads were changed in place after it was recorded."""
    read = [(f"its input {place}", node.inputs[place]) for place in sorted(node.places_read())]
    kept = [(f"what it kept as {name!r}", each) for name, each in kept_by(node)]
    for description, value in read + kept:
        for array in arrays_in(value):
            what = changes.since(array, node.moment)
            if what is not None:
                raise RuntimeError(
                    f"the gradient of {type(node).__name__} is computed of {description}, of the shape "
                    f"{tuple(array.shape)}, which {what} has changed in place since: it would be wrong. Change a copy "
                    "instead (x = x + 1 makes one), or change it after backward() and then compute the result anew"
                )


#: Attributes of nodes that the walk itself uses.
_OF_NODES = {"inputs", "sources", "needs", "moment", "released"}


#: Types that were met on nodes and are no arrays; to find that out takes a microsecond.
_WITHOUT_ARRAYS: set[type] = set()


def kept_by(node: Function) -> list[tuple[str, Any]]:
    """What ``forward`` has put on a node, by its names."""
    return [(name, each) for name, each in vars(node).items() if name not in _OF_NODES]


def arrays_in(value: Any) -> Iterator[Any]:
    """The arrays of a value: an array, a tensor, or tuples, lists and dictionaries with some of them."""
    kind = type(value)
    if kind in _WITHOUT_ARRAYS:
        return
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, Function.tensor_type):
        yield value.data
    elif isinstance(value, tuple | list | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from arrays_in(each)
    elif backends.is_on_gpu(value):
        yield value
    elif not hasattr(kind, "__cuda_array_interface__"):
        _WITHOUT_ARRAYS.add(kind)


def _is_alone(gradient: Tensor, all_of_node: list[Tensor | None]) -> bool:
    """Whether no other gradient that a node was given, or has computed, is in the memory of this one."""
    memory = changes.memory_of(gradient.data)
    return sum(each is not None and changes.memory_of(each.data) == memory for each in all_of_node) == 1


def _owned(grad: Tensor, is_alone: bool) -> Tensor:
    """A gradient whose array belongs to whom it is handed alone: callers may change it in place.

    ``is_alone`` says that a node has just computed ``grad``, for this and for nothing else.
    """
    owned = is_alone and backends.of(grad.data).is_writable(grad.data) and grad.data.flags.c_contiguous
    return grad if owned else grad.astype(grad.dtype)


def _topological_order(roots: Iterable[Function | None]) -> list[Function]:
    """The nodes below some, each before those that it depends on; iterative, so that depth has no limit."""
    order: list[Function] = []
    seen: set[int] = set()
    for root in roots:
        if root is None or id(root) in seen:
            continue
        seen.add(id(root))
        stack = [(root, iter(root.sources))]
        while stack:
            node, sources = stack[-1]
            for source in sources:
                above = _above(source)
                if above is not None and id(above) not in seen:
                    seen.add(id(above))
                    stack.append((above, iter(above.sources)))
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


def starting_gradient(output: Tensor, gradient: Any, call: str, argument: str) -> Tensor:
    """The gradient that a walk starts with at an output: the given one, or 1.

    Raises:
        RuntimeError: it is missing for an output of several elements; says that ``call`` needs the ``argument``.
        ValueError: it has another shape than the output.
    """
    if gradient is None:
        if output.size != 1:
            raise RuntimeError(f"{call} of a tensor of shape {output.shape} needs the argument {argument}")
        gradient = output.backend.xp.ones(output.shape, output.dtype)
    if not isinstance(gradient, Function.tensor_type):
        return Function.tensor_of(_fitted(gradient, output), None, 0)
    # Not the array alone: the gradient may have a history.
    return gradient if _fitted(gradient.data, output) is gradient.data else gradient.astype(output.dtype)


def _fitted(gradient: Any, output: Tensor) -> Any:
    """A starting gradient as an array of the output's shape and dtype."""
    array = backends.asarray(gradient, "the gradient", output.backend).astype(output.dtype, copy=False)
    if array.shape != output.shape:
        raise ValueError(f"the gradient must have the shape of the output, {output.shape}; received {array.shape}")
    return array
