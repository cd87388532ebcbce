"""Layers that make one tensor of several: where the branches of a network meet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from typing import Any

from pycnn import elementary
from pycnn import functional as F
from pycnn.functional.arguments import rounded, widened
from pycnn.layers import arguments
from pycnn.layers.layer import Layer
from pycnn.shapes import Shape, is_shape
from pycnn.tensor import Tensor

Shapes = Sequence[Shape]


class _Merge(Layer):
    """What layers share that are called on a list of tensors; a subclass gives shape and result of one."""

    #: How many tensors the layer takes; None for any number of at least one.
    _COUNT: int | None = None

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.built = True

    def call(self, inputs: Sequence[Tensor]) -> Tensor:
        """What the inputs are merged to."""
        batches = {len(each) for each in inputs}
        if len(batches) > 1:
            raise ValueError(f"{self}: expected inputs of one batch size, received {_listed(x.shape for x in inputs)}")
        return rounded(self._merged([widened(each) for each in inputs]), inputs[0].dtype)

    def compute_output_shape(self, input_shape: Shapes) -> Shape:
        """The shape of what inputs of these shapes are merged to.

        Raises:
            ValueError: when they are no list, of another number than the layer takes, or do not fit each other.
        """
        count = self._COUNT
        if is_shape(input_shape) or not isinstance(input_shape, list | tuple) or not all(map(is_shape, input_shape)):
            raise ValueError(f"{self}: expected a list of tensors, received inputs of shape {input_shape}")
        if len(input_shape) < 1 or count not in (None, len(input_shape)):
            raise ValueError(
                f"{self}: expected a list of {'at least 1 tensor' if count is None else f'{count} tensors'}, "
                f"received {len(input_shape)}: {_listed(input_shape)}"
            )
        batches = {shape[0] for shape in input_shape if shape} - {None}
        if len(batches) > 1 or not all(input_shape):
            raise ValueError(f"{self}: expected inputs of one batch size, received {_listed(input_shape)}")
        merged = self._merged_sample([shape[1:] for shape in input_shape])
        return (batches.pop() if batches else None, *merged)

    def _merged_sample(self, shapes: Shapes) -> Shape:
        """The shape of a sample of the result, for samples of these shapes."""
        raise NotImplementedError

    def _merged(self, inputs: list[Tensor]) -> Tensor:
        raise NotImplementedError


class _Elementwise(_Merge):
    """Merges element by element: sizes of 1 stretch, and samples of fewer axes get axes of size 1 in front."""

    def _merged_sample(self, shapes: Shapes) -> Shape:
        rank = max(map(len, shapes))
        padded = [(1,) * (rank - len(shape)) + tuple(shape) for shape in shapes]
        return tuple(self._stretched(sizes, shapes) for sizes in zip(*padded))

    def _stretched(self, sizes: tuple[int | None, ...], shapes: Shapes) -> int | None:
        """The size that the sizes along one axis stretch to."""
        known = set(sizes) - {1, None}
        if len(known) > 1:
            raise ValueError(
                f"{self}: expected samples of the same shape, or sizes of 1, which stretch; received {_listed(shapes)}"
            )
        return None if None in sizes else known.pop() if known else 1

    def _merged(self, inputs: list[Tensor]) -> Tensor:
        rank = max(each.ndim for each in inputs)
        return self._of_one_rank([_with_axes(each, rank) for each in inputs])

    def _of_one_rank(self, inputs: list[Tensor]) -> Tensor:
        raise NotImplementedError


class Add(_Elementwise):
    """The sum of its inputs, a list of tensors.

    Sizes of 1 stretch to those of the others, and samples of fewer axes get axes of size 1 in front of theirs.

    Args:
        **kwargs: ``name``, ``dtype``, as for :class:`Layer`.

    Raises:
        ValueError: when called, on something else than a list of tensors, or on tensors whose batches or samples have
            different sizes.

    Source: Keras 3, keras.layers.Add.

    >>> import numpy as np
    >>> Add()([np.ones((2, 3)), np.full((2, 3), 4.0)]).numpy()
    array([[5., 5., 5.],
           [5., 5., 5.]], dtype=float32)
    """

    def _of_one_rank(self, inputs: list[Tensor]) -> Tensor:
        return reduce(lambda a, b: a + b, inputs)


class Subtract(_Elementwise):
    """The first of its two inputs minus the second; otherwise as :class:`Add`.

    Args:
        **kwargs: ``name``, ``dtype``, as for :class:`Layer`.

    Raises:
        ValueError: as :class:`Add`, and for another number of tensors than 2.

    Source: Keras 3, keras.layers.Subtract.

    >>> import numpy as np
    >>> Subtract()([np.ones((1, 3)), np.full((1, 3), 4.0)]).numpy()
    array([[-3., -3., -3.]], dtype=float32)
    """

    _COUNT = 2

    def _of_one_rank(self, inputs: list[Tensor]) -> Tensor:
        return inputs[0] - inputs[1]


class Multiply(_Elementwise):
    """The product of its inputs, element by element; otherwise as :class:`Add`.

    Args:
        **kwargs: ``name``, ``dtype``, as for :class:`Layer`.

    Raises:
        ValueError: as :class:`Add`.

    Source: Keras 3, keras.layers.Multiply.

    >>> import numpy as np
    >>> Multiply()([np.full((1, 3), 2.0), np.full((1, 3), 4.0)]).numpy()
    array([[8., 8., 8.]], dtype=float32)
    """

    def _of_one_rank(self, inputs: list[Tensor]) -> Tensor:
        return reduce(lambda a, b: a * b, inputs)


class Average(_Elementwise):
    """The mean of its inputs; otherwise as :class:`Add`.

    Args:
        **kwargs: ``name``, ``dtype``, as for :class:`Layer`.

    Raises:
        ValueError: as :class:`Add`.

    Source: Keras 3, keras.layers.Average.

    >>> import numpy as np
    >>> Average()([np.full((1, 3), 2.0), np.full((1, 3), 4.0)]).numpy()
    array([[3., 3., 3.]], dtype=float32)
    """

    def _of_one_rank(self, inputs: list[Tensor]) -> Tensor:
        return reduce(lambda a, b: a + b, inputs) / len(inputs)


class Maximum(_Elementwise):
    """The greatest of its inputs, element by element; otherwise as :class:`Add`.

    Where two are the same, each has half of the gradient.

    Args:
        **kwargs: ``name``, ``dtype``, as for :class:`Layer`.

    Raises:
        ValueError: as :class:`Add`.

    Source: Keras 3, keras.layers.Maximum.

    >>> import numpy as np
    >>> Maximum()([np.array([[1.0, 5.0]]), np.array([[2.0, 4.0]])]).numpy()
    array([[2., 5.]], dtype=float32)
    """

    def _of_one_rank(self, inputs: list[Tensor]) -> Tensor:
        return reduce(elementary.Maximum.apply, inputs)


class Minimum(_Elementwise):
    """The smallest of its inputs, element by element; otherwise as :class:`Maximum`.

    Args:
        **kwargs: ``name``, ``dtype``, as for :class:`Layer`.

    Raises:
        ValueError: as :class:`Add`.

    Source: Keras 3, keras.layers.Minimum.

    >>> import numpy as np
    >>> Minimum()([np.array([[1.0, 5.0]]), np.array([[2.0, 4.0]])]).numpy()
    array([[1., 4.]], dtype=float32)
    """

    def _of_one_rank(self, inputs: list[Tensor]) -> Tensor:
        return reduce(elementary.Minimum.apply, inputs)


class Concatenate(_Merge):
    """Its inputs, a list of tensors, one behind the other along an axis.

    Args:
        axis: which axis, that of the batch counted; not that of the batch itself. By default the last one, that of the
            channels.
        **kwargs: ``name``, ``dtype``, as for :class:`Layer`.

    Raises:
        ValueError: for an axis that is no integer; when called, on something else than a list of tensors, or on tensors
            that have not this axis, or whose other sizes are different.

    Source: Keras 3, keras.layers.Concatenate.

    >>> import numpy as np
    >>> Concatenate()([np.ones((5, 8, 8, 3)), np.ones((5, 8, 8, 4))]).shape
    (5, 8, 8, 7)
    """

    def __init__(self, axis: int = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        (self.axis,) = arguments.integers((axis,), "axis")

    def _merged_sample(self, shapes: Shapes) -> Shape:
        rank = len(shapes[0]) + 1
        if any(len(shape) + 1 != rank for shape in shapes) or not (-rank <= self.axis < rank and self.axis % rank):
            raise ValueError(
                f"{self}: expected inputs of one number of axes with an axis {self.axis} beside that of the batch, "
                f"received samples of shape {_listed(shapes)}"
            )
        along = self.axis % rank - 1
        return tuple(
            self._total(sizes) if place == along else self._common(sizes, shapes)
            for place, sizes in enumerate(zip(*shapes))
        )

    @staticmethod
    def _total(sizes: tuple[int | None, ...]) -> int | None:
        known = [size for size in sizes if size is not None]
        return sum(known) if len(known) == len(sizes) else None

    def _common(self, sizes: tuple[int | None, ...], shapes: Shapes) -> int | None:
        known = set(sizes) - {None}
        if len(known) > 1:
            raise ValueError(
                f"{self}: expected inputs of the same shape but for the axis {self.axis}, received samples of shape "
                f"{_listed(shapes)}"
            )
        return known.pop() if known else None

    def _merged(self, inputs: list[Tensor]) -> Tensor:
        if len(inputs) == 1:
            return inputs[0]
        found: Tensor = elementary.Concatenate.apply(*inputs, axis=self.axis % inputs[0].ndim)
        return found


class Dot(_Merge):
    """The products of its two inputs, added up along an axis of each, for each sample.

    Samples of shape ``(..., n, ...)`` and ``(..., n, ...)`` give the sizes of the first but ``n``, and then those of
    the second but ``n``; where nothing is left, 1.

    Args:
        axes: the axis of both, or that of the first and that of the second, that of the batch counted.
        normalize: whether both are divided by their norm along these axes first: the result is the cosine of the angle
            between them.
        **kwargs: ``name``, ``dtype``, as for :class:`Layer`.

    Raises:
        ValueError: for axes that are neither one integer nor two; when called, on something else than a list of two
            tensors, on such that have not these axes, or have different sizes there, or for the axis of the batch.

    Source: Keras 3, keras.layers.Dot.

    >>> import numpy as np
    >>> Dot(axes=(1, 2))([np.ones((1, 5, 2)), np.ones((1, 4, 5))]).numpy()
    array([[[5., 5., 5., 5.],
            [5., 5., 5., 5.]]], dtype=float32)
    """

    _COUNT = 2

    def __init__(self, axes: int | Sequence[int], normalize: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axes = axes
        self._pair = arguments.integers(axes, "axes", or_one=True)
        if isinstance(axes, int):
            self._pair *= 2
        if len(self._pair) != 2:
            raise ValueError(f"{self}: expected one axis, or one for each of two tensors, received axes={axes!r}")
        self.normalize = bool(normalize)

    def _merged_sample(self, shapes: Shapes) -> Shape:
        ranks = [len(shape) + 1 for shape in shapes]
        if not all(-rank <= axis < rank and axis % rank for axis, rank in zip(self._pair, ranks)):
            raise ValueError(
                f"{self}: expected inputs with axes {self._pair} beside that of the batch, received samples of shape "
                f"{_listed(shapes)}"
            )
        (a, b), first, second = self._along(ranks), list(shapes[0]), list(shapes[1])
        n, m = first.pop(a - 1), second.pop(b - 1)
        if n != m and None not in (n, m):
            raise ValueError(
                f"{self}: expected inputs of the same size along the axes {self._pair}, received {n} and {m}: samples "
                f"of shape {_listed(shapes)}"
            )
        return (*first, *second) or (1,)

    def _along(self, ranks: Sequence[int]) -> tuple[int, int]:
        """The two axes, counted from the front."""
        return self._pair[0] % ranks[0], self._pair[1] % ranks[1]

    def _merged(self, inputs: list[Tensor]) -> Tensor:
        x, y = inputs
        a, b = self._along((x.ndim, y.ndim))
        if self.normalize:
            # As in Keras on PyTorch, the least norm that is divided by.
            x, y = F.normalize(x, dim=a, eps=1e-12), F.normalize(y, dim=b, eps=1e-12)
        left, right = _without(x.shape, a), _without(y.shape, b)
        rows = _moved(x, a, x.ndim - 1).reshape(len(x), math.prod(left), x.shape[a])  # (N, sizes of x, n)
        columns = _moved(y, b, 1).reshape(len(y), y.shape[b], math.prod(right))  # (N, n, sizes of y)
        return (rows @ columns).reshape(len(x), *((*left, *right) or (1,)))


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """The sizes but that of the batch and that of an axis."""
    return (*shape[1:axis], *shape[axis + 1 :])


def _moved(x: Tensor, axis: int, place: int) -> Tensor:
    order = [each for each in range(x.ndim) if each != axis]
    return x.transpose(*order[:place], axis, *order[place:])


def _with_axes(x: Tensor, rank: int) -> Tensor:
    """With axes of size 1 behind that of the batch."""
    return x.reshape(x.shape[0], *(1,) * (rank - x.ndim), *x.shape[1:])


def _listed(shapes: Any) -> str:
    return ", ".join(map(str, shapes))


def add(inputs: Any, **kwargs: Any) -> Any:
    """A new :class:`Add`, called on ``inputs``; arguments and errors are those of the layer.

    >>> from pycnn.layers import Input
    >>> add([Input((3,)), Input((3,))]).shape
    (None, 3)
    """
    return Add(**kwargs)(inputs)


def subtract(inputs: Any, **kwargs: Any) -> Any:
    """A new :class:`Subtract`, called on ``inputs``; arguments and errors are those of the layer.

    >>> from pycnn.layers import Input
    >>> subtract([Input((3,)), Input((3,))]).shape
    (None, 3)
    """
    return Subtract(**kwargs)(inputs)


def multiply(inputs: Any, **kwargs: Any) -> Any:
    """A new :class:`Multiply`, called on ``inputs``; arguments and errors are those of the layer.

    >>> from pycnn.layers import Input
    >>> multiply([Input((3,)), Input((3,))]).shape
    (None, 3)
    """
    return Multiply(**kwargs)(inputs)


def average(inputs: Any, **kwargs: Any) -> Any:
    """A new :class:`Average`, called on ``inputs``; arguments and errors are those of the layer.

    >>> from pycnn.layers import Input
    >>> average([Input((3,)), Input((3,))]).shape
    (None, 3)
    """
    return Average(**kwargs)(inputs)


def maximum(inputs: Any, **kwargs: Any) -> Any:
    """A new :class:`Maximum`, called on ``inputs``; arguments and errors are those of the layer.

    >>> from pycnn.layers import Input
    >>> maximum([Input((3,)), Input((3,))]).shape
    (None, 3)
    """
    return Maximum(**kwargs)(inputs)


def minimum(inputs: Any, **kwargs: Any) -> Any:
    """A new :class:`Minimum`, called on ``inputs``; arguments and errors are those of the layer.

    >>> from pycnn.layers import Input
    >>> minimum([Input((3,)), Input((3,))]).shape
    (None, 3)
    """
    return Minimum(**kwargs)(inputs)


def concatenate(inputs: Any, axis: int = -1, **kwargs: Any) -> Any:
    """A new :class:`Concatenate`, called on ``inputs``; arguments and errors are those of the layer.

    >>> from pycnn.layers import Input
    >>> concatenate([Input((3,)), Input((3,))]).shape
    (None, 6)
    """
    return Concatenate(axis=axis, **kwargs)(inputs)


def dot(inputs: Any, axes: int | Sequence[int] = -1, **kwargs: Any) -> Any:
    """A new :class:`Dot`, called on ``inputs``; arguments and errors are those of the layer.

    >>> from pycnn.layers import Input
    >>> dot([Input((3,)), Input((3,))]).shape
    (None, 1)
    """
    return Dot(axes=axes, **kwargs)(inputs)
