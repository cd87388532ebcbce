"""What arithmetic on symbolic tensors records: ``x + y``, ``2 * x``, ``-x``, ``x[:, 0]``.

Each operation is a layer without weights that is called on the list of its operands, numbers and arrays among them. Its
class and its name are those of Keras' operation. It is among ``model.operations``, but not among ``model.layers``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pycnn.layers.layer import Layer
from pycnn.layers.symbolic import KerasTensor
from pycnn.shapes import Shape, broadcast
from pycnn.structures import mapped
from pycnn.tensor import Tensor


class Operation(Layer):
    """An operation on a list of operands, of which at least one is a tensor; a subclass says which.

    Args:
        **kwargs: ``name``, ``dtype``, as for :class:`Layer`.

    >>> from pycnn.layers import Input
    >>> x = Input((3,))
    >>> (2 * x + 1).shape, (x - x).history.layer.input == [x, x]
    ((None, 3), True)
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.built = True

    def accept(self, inputs: Any) -> Any:
        """The operands: tensors and arrays in the operation's dtype, numbers as they are."""
        return mapped(lambda each: each if isinstance(each, int | float) else self._accepted_tensor(each), inputs)

    def _shapes_of(self, inputs: Any) -> Any:
        return mapped(lambda each: each.shape if isinstance(each, KerasTensor) else np.shape(each), inputs)

    def compute_output_shape(self, input_shape: Any) -> Shape:
        """The shape that those of the operands stretch to.

        Raises:
            ValueError: when they do not fit each other.
        """
        try:
            return broadcast(*input_shape)
        except ValueError as error:
            raise ValueError(f"{self}: {error}") from None


class Add(Operation):
    """``a + b``."""

    def call(self, inputs: Any) -> Tensor:
        """The sum of two operands."""
        a, b = inputs
        return a + b


class Subtract(Operation):
    """``a - b``."""

    def call(self, inputs: Any) -> Tensor:
        """The difference of two operands."""
        a, b = inputs
        return a - b


class Multiply(Operation):
    """``a * b``."""

    def call(self, inputs: Any) -> Tensor:
        """The product of two operands, element by element."""
        a, b = inputs
        return a * b


class TrueDivide(Operation):
    """``a / b``."""

    def call(self, inputs: Any) -> Tensor:
        """The quotient of two operands."""
        a, b = inputs
        return a / b


class Power(Operation):
    """``a ** b``."""

    def call(self, inputs: Any) -> Tensor:
        """The first operand to the power of the second."""
        a, b = inputs
        return a**b


class Negative(Operation):
    """``-a``."""

    def call(self, inputs: Any) -> Tensor:
        """Minus the operand."""
        return -inputs[0]


class Absolute(Operation):
    """``abs(a)``."""

    def call(self, inputs: Any) -> Tensor:
        """The operand without its sign."""
        return inputs[0].abs()


class GetItem(Operation):
    """``a[index]``.

    Args:
        index: integers, slices, None and an ellipsis.
        **kwargs: ``name``, ``dtype``, as for :class:`Layer`.

    Raises:
        TypeError: for something else in the index.
        IndexError: when called, for an index beyond an axis, or more of them than there are axes.
    """

    def __init__(self, index: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.index = index if isinstance(index, tuple) else (index,)
        for part in self.index:
            if part is not None and part is not Ellipsis and not isinstance(part, int | np.integer | slice):
                raise TypeError(
                    f"{self}: expected an index of integers, slices, None and an ellipsis, received {part!r}"
                )

    def call(self, inputs: Any) -> Tensor:
        """The part of the operand at the index."""
        return inputs[0][self.index]

    def compute_output_shape(self, input_shape: Any) -> Shape:
        """The shape of the part; None where it is not known."""
        (shape,) = input_shape
        used = sum(part is not None and part is not Ellipsis for part in self.index)
        if used > len(shape) or self.index.count(Ellipsis) > 1:
            raise IndexError(f"{self}: expected an index for {len(shape)} axes, received {self.index}")
        rest = (slice(None),) * (len(shape) - used)
        index = self.index if Ellipsis in self.index else (*self.index, Ellipsis)
        place = index.index(Ellipsis)
        found: list[int | None] = []
        sizes = iter(shape)
        for part in (*index[:place], *rest, *index[place + 1 :]):
            if part is None:
                found.append(1)
                continue
            size = next(sizes)
            if isinstance(part, slice):
                found.append(None if size is None else len(range(*part.indices(size))))
            elif size is not None and not -size <= part < size:
                raise IndexError(f"{self}: expected an index from {-size} to {size - 1}, received {part}")
        return tuple(found)


def recorded(operation: Operation, *operands: Any) -> KerasTensor:
    """The symbolic result of an operation on operands.

    Raises:
        TypeError: for operands that are no symbolic tensors, numbers or arrays.
        ValueError: for shapes that do not fit each other.
    """
    for each in operands:
        if not isinstance(each, KerasTensor | int | float | np.ndarray | np.generic):
            raise TypeError(
                f"{operation}: expected symbolic tensors, numbers and arrays, received {type(each).__name__}"
            )
    found: KerasTensor = operation(list(operands))
    return found
