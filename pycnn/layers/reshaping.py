"""The same numbers in another shape or order."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from pycnn.layers import arguments
from pycnn.layers.layer import Layer
from pycnn.shapes import Shape
from pycnn.tensor import Tensor


class Flatten(Layer):
    """Lays out each sample as one vector, in the order (height, width, channels).

    Args:
        data_format: order of the input's axes, "channels_last" (the default) or "channels_first"; in both the
            channels vary fastest in the output, so that weights of the next layer mean the same.
        **kwargs: as for :class:`Layer`.

    Raises:
        ValueError: for another data_format.

    Source: Keras 3, keras.layers.Flatten.

    >>> import numpy as np
    >>> Flatten()(np.zeros((5, 7, 7, 40))).shape
    (5, 1960)
    """

    def __init__(self, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_format = arguments.data_format(data_format)
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        """``inputs`` as (batch, features)."""
        if self.data_format == "channels_first" and inputs.ndim > 2:
            inputs = inputs.transpose(0, *range(2, inputs.ndim), 1)
        # Not -1: a batch of zero samples has no size from which to infer the other axis.
        return inputs.reshape(inputs.shape[0], math.prod(inputs.shape[1:]))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """(batch, product of the other sizes); None where one of them is unknown."""
        features = 1
        for size in input_shape[1:]:
            if size is None:
                return (input_shape[0], None)
            features *= size
        return (input_shape[0], features)


class Reshape(Layer):
    """Gives each sample another shape.

    Args:
        target_shape: of one sample, without the batch axis; one size may be -1, what is left for it.
        **kwargs: as for :class:`Layer`.

    Raises:
        ValueError: for sizes that are neither positive integers nor -1, or several of -1; when called, for samples
            with another number of elements.

    Source: Keras 3, keras.layers.Reshape.

    >>> import numpy as np
    >>> Reshape((-1, 4))(np.zeros((2, 3, 8))).shape
    (2, 6, 4)
    """

    def __init__(self, target_shape: Iterable[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.target_shape = arguments.integers(target_shape, "target_shape")
        if any(size < 1 and size != -1 for size in self.target_shape) or self.target_shape.count(-1) > 1:
            raise ValueError(
                f"{self}: expected a target_shape of positive integers, one of which may be -1, received "
                f"{target_shape!r}"
            )
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        """``inputs`` in the other shape."""
        _, *shape = self.compute_output_shape(inputs.shape)
        return inputs.reshape(inputs.shape[0], *shape)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The batch and ``target_shape``, with None for -1 where a size of the input is not known.

        Raises:
            ValueError: for samples with another number of elements.
        """
        known = math.prod(size for size in self.target_shape if size != -1)
        sizes = input_shape[1:]
        if None in sizes:
            return (input_shape[0], *(None if size == -1 else size for size in self.target_shape))
        elements = math.prod(size for size in sizes if size is not None)
        left, rest = divmod(elements, known)
        if rest or (-1 not in self.target_shape and left != 1):
            raise ValueError(
                f"{self}: expected samples of as many elements as {self.target_shape}, received input shape "
                f"{input_shape}"
            )
        return (input_shape[0], *(left if size == -1 else size for size in self.target_shape))


class Permute(Layer):
    """Puts the axes of each sample into another order.

    Args:
        dims: for each axis of the output that of the input, counted from 1; the batch axis stays.
        **kwargs: as for :class:`Layer`.

    Raises:
        ValueError: unless ``dims`` has each of 1, 2, ... once; when called, for inputs with another number of axes.

    Source: Keras 3, keras.layers.Permute.

    >>> import numpy as np
    >>> Permute((3, 1, 2))(np.zeros((1, 5, 6, 7))).shape
    (1, 7, 5, 6)
    """

    def __init__(self, dims: Iterable[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dims = arguments.integers(dims, "dims")
        if sorted(self.dims) != list(range(1, len(self.dims) + 1)):
            raise ValueError(f"{self}: expected each of 1, 2, ... once in dims, received {self.dims}")
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        """``inputs`` with its axes in the other order."""
        return inputs.transpose(0, *self.dims)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The sizes of ``input_shape`` in the other order.

        Raises:
            ValueError: for another number of axes.
        """
        if len(input_shape) != len(self.dims) + 1:
            raise ValueError(f"{self}: expected {len(self.dims) + 1} axes, received input shape {input_shape}")
        return (input_shape[0], *(input_shape[axis] for axis in self.dims))


class RepeatVector(Layer):
    """Each sample, a vector, ``n`` times: (batch, features) becomes (batch, n, features).

    Args:
        n: how often.
        **kwargs: as for :class:`Layer`.

    Raises:
        ValueError: for an ``n`` that is no positive integer; when called, for inputs that are no vectors.

    Source: Keras 3, keras.layers.RepeatVector.

    >>> import numpy as np
    >>> RepeatVector(2)(np.array([[1.0, 2.0]])).numpy()
    array([[[1., 2.],
            [1., 2.]]], dtype=float32)
    """

    def __init__(self, n: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.n = arguments.positive(n, "n")
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        """``inputs``, repeated."""
        batch, features = inputs.shape
        ones = inputs.backend.xp.ones((self.n, 1), inputs.dtype)
        return inputs.reshape(batch, 1, features) * Tensor(ones)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """(batch, n, features).

        Raises:
            ValueError: for inputs that are no vectors.
        """
        if len(input_shape) != 2:
            raise ValueError(f"{self}: expected 2 axes, received input shape {input_shape}")
        return (input_shape[0], self.n, input_shape[1])
