"""A function as a layer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pycnn.layers.layer import Layer, sample_shape
from pycnn.shapes import Shape
from pycnn.tensor import Tensor


class Lambda(Layer):
    """A function of a tensor as a layer, for what has no weights.

    Args:
        function: takes a tensor and gives one; it is also given ``training`` where it has an argument of that name.
        output_shape: of one sample, without the batch axis, or a function of the input shape with the batch axis. By
            default the function is called on a sample of zeros to find out.
        mask: None: there are no masks here.
        arguments: further arguments of the function by their names.
        **kwargs: as for :class:`Layer`.

    Raises:
        TypeError: for a function that cannot be called; when called, if the function gives no tensor.
        ValueError: for a mask, an output_shape that is none.

    Source: Keras 3, keras.layers.Lambda.

    >>> import numpy as np
    >>> Lambda(lambda x: x**2)(np.array([[1.0, 3.0]])).numpy()
    array([[1., 9.]], dtype=float32)
    >>> Lambda(lambda x, power: x**power, arguments={"power": 3})(np.array([[2.0]])).numpy()
    array([[8.]], dtype=float32)
    """

    def __init__(
        self,
        function: Callable[..., Tensor],
        output_shape: Iterable[int | None] | Callable[[Shape], Shape] | None = None,
        mask: None = None,
        arguments: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not callable(function):
            raise TypeError(f"{self}: expected a function of a tensor, received {function!r}")
        if mask is not None:
            raise ValueError(f"{self}: expected no mask, for layers have none here, received {mask!r}")
        self.function = function
        self.output_shape = (
            output_shape if output_shape is None or callable(output_shape) else sample_shape(output_shape)
        )
        self.mask = mask
        self.arguments = dict(arguments or {})
        self._function_takes_training = "training" in inspect.signature(function).parameters
        self.built = True

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """What the function gives for ``inputs``.

        Raises:
            TypeError: if that is no tensor.
        """
        further = {"training": training} if self._function_takes_training else {}
        outputs = self.function(inputs, **self.arguments, **further)
        if not isinstance(outputs, Tensor):
            raise TypeError(f"{self}: expected its function to give a tensor, received a {type(outputs).__name__}")
        return outputs

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The input's batch and ``output_shape``, or what that gives; by default the shape that the function gives.

        Raises:
            ValueError: by default, for sizes that are not known.
        """
        if self.output_shape is None:
            return super().compute_output_shape(input_shape)
        if callable(self.output_shape):
            return tuple(self.output_shape(input_shape))
        return (input_shape[0], *self.output_shape)
