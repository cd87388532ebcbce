"""Symbolic tensors: what a layer is called on to build a model, before there are any numbers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from pycnn.layers.auto_name import auto_name
from pycnn.shapes import Shape
from pycnn.structures import is_structure, leaves

if TYPE_CHECKING:
    from pycnn.layers.layer import Layer


class History(NamedTuple):
    """Which output of which call of which layer a symbolic tensor is.

    >>> from pycnn.layers import Dense, Input
    >>> shared = Dense(2, name="shared")
    >>> first, second = shared(Input((3,))), shared(Input((3,)))
    >>> second.history
    History(layer=<Dense name=shared, built=True>, node_index=1, tensor_index=0)
    """

    layer: Layer
    #: Which of the layer's calls on symbolic tensors, counted from 0: its place in ``layer._nodes``.
    node_index: int
    #: Which of the outputs of that call.
    tensor_index: int


class KerasTensor:
    """A tensor without numbers: a shape and a dtype, and the call of a layer that it is an output of.

    ``Input(...)`` makes one, and so does calling a layer or model on one. ``Model(inputs, outputs)`` is what lies
    between such tensors. ``x + y``, ``2 * x``, ``x[:, 0]`` and the like are recorded as :mod:`pycnn.layers.arithmetic`.

    Args:
        shape: its shape, the batch axis first; None where a size is not known.
        dtype: its dtype.
        name: by default "keras_tensor", "keras_tensor_1", ...

    Attributes:
        node: the call that the tensor is an output of; None for one that no layer made.

    Source: Keras 3, keras.KerasTensor.

    >>> from pycnn.layers import Dense, Input
    >>> x = Input((3,), name="x")
    >>> y = Dense(2)(x)
    >>> x.shape, y.shape, y.dtype, y.history.layer.input is x
    ((None, 3), (None, 2), 'float32', True)
    """

    # NumPy's and CuPy's arrays leave ``array + tensor`` to the tensor.
    __array_ufunc__ = None

    def __init__(self, shape: Iterable[int | None], dtype: str = "float32", name: str | None = None) -> None:
        self.shape: Shape = tuple(shape)
        self.dtype = dtype
        self.name = name or auto_name(type(self).__name__)
        self.node: Node | None = None
        self._place = 0

    @property
    def ndim(self) -> int:
        """How many axes it has, that of the batch included."""
        return len(self.shape)

    @property
    def history(self) -> History | None:
        """The call that the tensor is an output of, by layer and places; None for one that no layer made."""
        return None if self.node is None else History(self.node.layer, self.node.index, self._place)

    # Arithmetic is recorded as a call of a layer, too.

    def __add__(self, other: Any) -> KerasTensor:
        return _recorded("Add", self, other)

    def __radd__(self, other: Any) -> KerasTensor:
        return _recorded("Add", other, self)

    def __sub__(self, other: Any) -> KerasTensor:
        return _recorded("Subtract", self, other)

    def __rsub__(self, other: Any) -> KerasTensor:
        return _recorded("Subtract", other, self)

    def __mul__(self, other: Any) -> KerasTensor:
        return _recorded("Multiply", self, other)

    def __rmul__(self, other: Any) -> KerasTensor:
        return _recorded("Multiply", other, self)

    def __truediv__(self, other: Any) -> KerasTensor:
        return _recorded("TrueDivide", self, other)

    def __rtruediv__(self, other: Any) -> KerasTensor:
        return _recorded("TrueDivide", other, self)

    def __pow__(self, other: Any) -> KerasTensor:
        return _recorded("Power", self, other)

    def __rpow__(self, other: Any) -> KerasTensor:
        return _recorded("Power", other, self)

    def __neg__(self) -> KerasTensor:
        return _recorded("Negative", self)

    def __abs__(self) -> KerasTensor:
        return _recorded("Absolute", self)

    def __getitem__(self, index: Any) -> KerasTensor:
        return _recorded("GetItem", self, index=index)

    def __repr__(self) -> str:
        return f"<KerasTensor shape={self.shape}, dtype={self.dtype}, name={self.name}>"

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        self._has_no_numbers("an array")

    def __bool__(self) -> NoReturn:
        self._has_no_numbers("a condition")

    def __float__(self) -> NoReturn:
        self._has_no_numbers("a number")

    def __len__(self) -> NoReturn:
        self._has_no_numbers("a sequence")

    def __iter__(self) -> NoReturn:
        self._has_no_numbers("a sequence")

    def _has_no_numbers(self, what: str) -> NoReturn:
        raise TypeError(
            f"{self!r} is symbolic: it has a shape, but no numbers, and cannot be used as {what}. Expected a layer or "
            "model to be called on it; what else is computed from it belongs into the call() of a layer of your own"
        )


def _recorded(operation: str, *operands: Any, **settings: Any) -> KerasTensor:
    """The symbolic result of an operation of :mod:`pycnn.layers.arithmetic`."""
    from pycnn.layers import arithmetic  # whose operations are layers, which are called on symbolic tensors

    dtype = next(each.dtype for each in operands if isinstance(each, KerasTensor))
    return arithmetic.recorded(getattr(arithmetic, operation)(dtype=dtype, **settings), *operands)


class Node:
    """A call of a layer on symbolic tensors; all of them together are the graph that a functional model is cut from.

    It enters itself into ``layer._nodes`` and into its outputs.

    Args:
        layer: what was called.
        arguments: what it was called on: a symbolic tensor, or a list, tuple or dictionary of them as it was given;
            None for an :class:`InputLayer`, which is called on nothing.
        outputs: what it gave, likewise.
        training: what the call said about it; None where it said nothing.

    Attributes:
        inputs: the symbolic tensors among the arguments, in the order of :func:`pycnn.structures.leaves`.
        outputs: those that came out, likewise.
        index: its place in ``layer._nodes``.
    """

    def __init__(self, layer: Layer, arguments: Any, outputs: Any, training: bool | None = None) -> None:
        self.layer, self.arguments, self.training = layer, arguments, training
        self.inputs: list[KerasTensor] = [each for each in leaves(arguments) if isinstance(each, KerasTensor)]
        self.outputs: list[KerasTensor] = leaves(outputs)
        self.index = len(layer._nodes)
        layer._nodes.append(self)
        for place, output in enumerate(self.outputs):
            output.node, output._place = self, place

    @property
    def is_input(self) -> bool:
        """Whether the graph begins here."""
        return not self.inputs

    def __repr__(self) -> str:
        return f"<Node layer={self.layer.name}, index={self.index}>"


def is_symbolic(value: Any) -> bool:
    """Whether a value is a symbolic tensor, or a list, tuple or dictionary with one in it.

    >>> is_symbolic([KerasTensor((None, 3)), 1.0]), is_symbolic([1.0])
    (True, False)
    """
    if is_structure(value):
        return any(isinstance(each, KerasTensor) for each in leaves(value))
    return isinstance(value, KerasTensor)
