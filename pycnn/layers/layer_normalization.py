"""Layer normalisation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pycnn import functional as F
from pycnn.layers import arguments
from pycnn.layers.layer import Layer
from pycnn.shapes import Shape
from pycnn.tensor import Tensor


class LayerNormalization(Layer):
    """Gives the features of each sample the mean ``beta`` and the deviation ``gamma``.

    The result is ``(x - mean) / sqrt(variance + epsilon) * gamma + beta``, mean and variance over ``axis``, in training
    and otherwise. Weights: ``gamma`` and ``beta``, each of the sizes of the axes.

    Args:
        axis: one axis or several, in whatever order.
        epsilon: is added to the variance.
        center: whether there is a ``beta``.
        scale: whether there is a ``gamma``.
        beta_initializer, gamma_initializer: names or functions of (shape, dtype).
        beta_regularizer, gamma_regularizer, beta_constraint, gamma_constraint: as for :class:`BatchNormalization`.
        rms_scaling: do not subtract the mean, and have a ``gamma`` only: ``x / sqrt(variance + epsilon) * gamma``.
        **kwargs: as for :class:`Layer`.

    Raises:
        ValueError: for an epsilon that is not positive or axes that are no integers; when called, for inputs without
            such axes, or with other sizes than the weights.

    Source: Ba, Kiros and Hinton, "Layer Normalization" (2016); Keras 3, keras.layers.LayerNormalization.

    >>> import numpy as np
    >>> LayerNormalization(epsilon=1e-12)(np.array([[1.0, 3.0], [30.0, 10.0]])).data
    array([[-1.,  1.],
           [ 1., -1.]], dtype=float32)
    """

    def __init__(
        self,
        axis: int | Sequence[int] = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: str | Callable[..., Any] = "zeros",
        gamma_initializer: str | Callable[..., Any] = "ones",
        beta_regularizer: str | Callable[[Tensor], Tensor] | None = None,
        gamma_regularizer: str | Callable[[Tensor], Tensor] | None = None,
        beta_constraint: str | Callable[[Tensor], Tensor] | None = None,
        gamma_constraint: str | Callable[[Tensor], Tensor] | None = None,
        *,
        rms_scaling: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        axes = tuple(axis) if isinstance(axis, list | tuple) else (axis,)
        if not axes or not all(isinstance(each, int | np.integer) and not isinstance(each, bool) for each in axes):
            raise ValueError(f"{self}: expected an axis or several, integers, received {axis!r}")
        self.axis = axis
        self._axes = axes
        self.epsilon = arguments.number(epsilon, "epsilon", above=0)
        self.center, self.scale, self.rms_scaling = bool(center), bool(scale), bool(rms_scaling)
        self._read_rules("beta", beta_initializer, beta_regularizer, beta_constraint)
        self._read_rules("gamma", gamma_initializer, gamma_regularizer, gamma_constraint)
        self.gamma: Tensor | None = None
        self.beta: Tensor | None = None
        #: The sizes of the axes that the layer was built for.
        self._built_sizes: tuple[int, ...] | None = None

    def build(self, input_shape: Shape) -> None:
        """Make the weights for the sizes of the axes of ``input_shape``."""
        self._built_sizes = self._sizes(input_shape)
        if self.scale or self.rms_scaling:
            self.gamma = self._add_by_rules("gamma", self._built_sizes)
        if self.center and not self.rms_scaling:
            self.beta = self._add_by_rules("beta", self._built_sizes)

    def call(self, inputs: Tensor) -> Tensor:
        """``inputs``, normalised."""
        axes = self._positive_axes(inputs.ndim)
        order = [axis for axis in range(inputs.ndim) if axis not in axes] + axes
        in_order = order == sorted(order)
        moved = inputs if in_order else inputs.transpose(*order)
        sizes = moved.shape[inputs.ndim - len(axes) :]
        if self.rms_scaling:
            last = tuple(range(inputs.ndim - len(axes), inputs.ndim))
            deviation = moved - moved.mean(last, keepdims=True)
            variance = (deviation * deviation).mean(last, keepdims=True)
            outputs = moved * (variance + self.epsilon) ** -0.5 * self.gamma
        else:
            outputs = F.layer_norm(moved, sizes, self.gamma, self.beta, self.epsilon)
        return outputs if in_order else outputs.transpose(*np.argsort(order).tolist())

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """``input_shape``.

        Raises:
            ValueError: for an input that the layer cannot take.
        """
        sizes = self._sizes(input_shape)
        if self._built_sizes not in (None, sizes):
            raise ValueError(
                f"{self}: expected the sizes {self._built_sizes} along axis {self.axis}, received {sizes} (input shape "
                f"{input_shape})"
            )
        return input_shape

    def _positive_axes(self, rank: int) -> list[int]:
        return sorted({axis % rank for axis in self._axes})

    def _sizes(self, input_shape: Shape) -> tuple[int, ...]:
        rank = len(input_shape)
        if rank < 2 or not all(-rank <= axis < rank and axis % rank for axis in self._axes):
            raise ValueError(f"{self}: expected inputs with the axis {self.axis}, received input shape {input_shape}")
        sizes = [input_shape[axis] for axis in self._positive_axes(rank)]
        known = tuple(size for size in sizes if size is not None)
        if len(known) < len(sizes):
            raise ValueError(f"{self}: expected known sizes along axis {self.axis}, received input shape {input_shape}")
        return known
