"""The input of a model: a declared shape."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pycnn.layers.arguments import positive
from pycnn.layers.layer import Layer, sample_shape
from pycnn.layers.symbolic import KerasTensor, Node
from pycnn.shapes import Shape, shapes_agree
from pycnn.tensor import Tensor


class InputLayer(Layer):
    """Declares the shape of what a model takes, and checks it; its ``output`` is the symbolic tensor of that shape.

    Args:
        shape: of one sample, without the batch axis; None where a size is left open.
        batch_size: fixed number of samples per batch; None (the default) leaves it open.
        dtype: "float32" (the default), "float64", "float16" or "bfloat16".
        batch_shape: shape with the batch axis, instead of ``shape`` and ``batch_size``.
        **kwargs: ``name``, as for :class:`Layer`.

    Raises:
        ValueError: unless exactly one of ``shape`` and ``batch_shape`` is given, of positive integers.

    >>> InputLayer(shape=(28, 28, 1)).batch_shape
    (None, 28, 28, 1)
    """

    #: ``batch_shape`` says them both; and Keras' class takes no argument ``trainable``.
    _NOT_CONFIGURED = (*Layer._NOT_CONFIGURED, "shape", "batch_size", "trainable")

    def __init__(
        self,
        shape: Iterable[int | None] | None = None,
        batch_size: int | None = None,
        dtype: str | None = None,
        *,
        batch_shape: Iterable[int | None] | None = None,
        **kwargs: Any,
    ) -> None:
        if "input_shape" in kwargs and shape is None:
            shape = kwargs.pop("input_shape")
        super().__init__(dtype=dtype, **kwargs)
        if (shape is None) == (batch_shape is None):
            raise ValueError(
                f"{self}: expected exactly one of shape and batch_shape, received shape={shape!r}, "
                f"batch_shape={batch_shape!r}"
            )
        if batch_shape is not None:
            self.batch_shape = sample_shape(batch_shape)
        else:
            batch = None if batch_size is None else positive(batch_size, "batch_size")
            self.batch_shape = (batch, *sample_shape(shape or ()))
        self.built = True
        Node(self, None, KerasTensor(self.batch_shape, self.dtype, kwargs.get("name")))

    def call(self, inputs: Tensor) -> Tensor:
        """``inputs``, unchanged."""
        return inputs

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """``input_shape``, when it agrees with the declared shape.

        Raises:
            ValueError: when it does not.
        """
        expected = self.batch_shape
        if not shapes_agree(input_shape, expected):
            raise ValueError(
                f"expected inputs of shape {expected}, received {input_shape}{_missing_channels(input_shape, expected)}"
            )
        return input_shape


def Input(
    shape: Iterable[int | None] | None = None,
    batch_size: int | None = None,
    dtype: str | None = None,
    *,
    batch_shape: Iterable[int | None] | None = None,
    name: str | None = None,
) -> KerasTensor:
    """The symbolic tensor that a model begins with: the inputs of a functional model, or the first entry of a
    :class:`pycnn.models.Sequential`.

    Arguments and errors as for :class:`InputLayer`, which is ``Input(...).history.layer``.

    >>> from pycnn.models import Model, Sequential
    >>> from pycnn.layers import Dense
    >>> Sequential([Input((3,)), Dense(2)]).output_shape
    (None, 2)
    >>> x = Input((3,))
    >>> Model(x, Dense(2)(x)).output_shape
    (None, 2)
    """
    tensor: KerasTensor = InputLayer(shape, batch_size, dtype, batch_shape=batch_shape, name=name).output
    return tensor


def _missing_channels(received: Shape, expected: Shape) -> str:
    if expected[-1] == 1 and received == expected[:-1]:
        return "; images of one channel need a last axis of size 1: x[..., np.newaxis]"
    return ""
