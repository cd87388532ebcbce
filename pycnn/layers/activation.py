"""Activation functions as layers of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeGuard

from pycnn import activations
from pycnn.functional.arguments import rounded, widened
from pycnn.functional.rectifier import Prelu
from pycnn.layers import arguments
from pycnn.layers.layer import Layer
from pycnn.shapes import Shape, one_or_more_axes
from pycnn.tensor import Tensor


class _Elementwise(Layer):
    """What layers share whose output has the shape of the input, and that have no weights."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.built = True

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """``input_shape``."""
        return input_shape


class Activation(_Elementwise):
    """Applies a function to each element.

    Args:
        activation: name ("relu", "tanh", "sigmoid", "softmax", ...) or function of a tensor.
        **kwargs: as for :class:`Layer`.

    Raises:
        ValueError: for an unknown name.

    Source: Keras 3, keras.layers.Activation.

    >>> import numpy as np
    >>> Activation("relu")(np.array([[-3.0, 2.0]])).numpy()
    array([[0., 2.]], dtype=float32)
    """

    def __init__(self, activation: str | Callable[[Tensor], Tensor], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.activation = activations.get(activation)

    def call(self, inputs: Tensor) -> Tensor:
        """The function of ``inputs``."""
        return self.activation(inputs)


class ReLU(_Elementwise):
    """``x`` above the threshold, there at most ``max_value``; ``negative_slope * (x - threshold)`` elsewhere.

    Args:
        max_value: the largest output, at least 0; None for no limit.
        negative_slope, threshold: at least 0; 0 for both is the usual ``max(x, 0)``.
        **kwargs: as for :class:`Layer`.

    Raises:
        ValueError: for numbers below 0.

    Source: Keras 3, keras.layers.ReLU.

    >>> import numpy as np
    >>> ReLU(max_value=6)(np.array([[-3.0, 2.0, 9.0]])).numpy()
    array([[0., 2., 6.]], dtype=float32)
    """

    def __init__(
        self, max_value: float | None = None, negative_slope: float = 0.0, threshold: float = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.max_value = None if max_value is None else arguments.number(max_value, "max_value", least=0)
        self.negative_slope = arguments.number(negative_slope, "negative_slope", least=0)
        self.threshold = arguments.number(threshold, "threshold", least=0)

    def call(self, inputs: Tensor) -> Tensor:
        """The function of ``inputs``."""
        return activations.relu(inputs, self.negative_slope, self.max_value, self.threshold)


class LeakyReLU(_Elementwise):
    """``x`` where it is positive, ``negative_slope * x`` elsewhere.

    Args:
        negative_slope: at least 0; ``alpha`` is its former name.
        **kwargs: as for :class:`Layer`.

    Raises:
        ValueError: for a slope below 0.

    Source: Maas, Hannun and Ng, "Rectifier Nonlinearities Improve Neural Network Acoustic Models" (2013); Keras 3,
    keras.layers.LeakyReLU.

    >>> import numpy as np
    >>> LeakyReLU(0.5)(np.array([[-3.0, 2.0]])).numpy()
    array([[-1.5,  2. ]], dtype=float32)
    """

    def __init__(self, negative_slope: float = 0.3, **kwargs: Any) -> None:
        negative_slope = kwargs.pop("alpha", negative_slope)
        super().__init__(**kwargs)
        self.negative_slope = arguments.number(negative_slope, "negative_slope", least=0)

    def call(self, inputs: Tensor) -> Tensor:
        """The function of ``inputs``."""
        return activations.leaky_relu(inputs, self.negative_slope)


class ELU(_Elementwise):
    """``x`` where it is positive, ``alpha * (exp(x) - 1)`` elsewhere.

    Args:
        alpha: minus the limit for very negative inputs.
        **kwargs: as for :class:`Layer`.

    Raises:
        ValueError: for an alpha that is no finite number.

    Source: Clevert, Unterthiner and Hochreiter, "Fast and Accurate Deep Network Learning by Exponential Linear Units"
    (2016); Keras 3, keras.layers.ELU.

    >>> import numpy as np
    >>> ELU()(np.array([[-100.0, 2.0]])).numpy()
    array([[-1.,  2.]], dtype=float32)
    """

    def __init__(self, alpha: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.alpha = arguments.number(alpha, "alpha")

    def call(self, inputs: Tensor) -> Tensor:
        """The function of ``inputs``."""
        return activations.elu(inputs, self.alpha)


class Softmax(_Elementwise):
    """``exp(x) / sum(exp(x))`` over an axis, or over several together.

    Args:
        axis: an integer, several of them, or None for all axes, that of the batch included.
        **kwargs: as for :class:`Layer`.

    Raises:
        ValueError: for an axis that is no integer; when called, for one that the inputs do not have, or named twice.

    Source: Keras 3, keras.layers.Softmax.

    >>> import numpy as np
    >>> Softmax()(np.array([[0.0, 0.0]])).numpy()
    array([[0.5, 0.5]], dtype=float32)
    """

    def __init__(self, axis: int | Sequence[int] | None = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis = one_or_more_axes(axis)

    def call(self, inputs: Tensor) -> Tensor:
        """The function of ``inputs``."""
        return activations.softmax(inputs, self.axis)


class PReLU(Layer):
    """``x`` where it is positive, ``alpha * x`` elsewhere, with an ``alpha`` for each element of a sample, trained.

    Args:
        alpha_initializer: name or function of (shape, dtype).
        alpha_regularizer, alpha_constraint: as for the kernel of :class:`Conv2D`.
        shared_axes: axes, counted from 1, along which all elements have the same ``alpha``: [1, 2] for one for each
            channel of images.
        **kwargs: as for :class:`Layer`.

    Raises:
        ValueError: for an unknown name, axes that are no integers; when called, for inputs with other sizes than those
            of ``alpha``, or without such axes.

    Source: He et al., "Delving Deep into Rectifiers" (2015); Keras 3, keras.layers.PReLU.

    >>> import numpy as np
    >>> layer = PReLU(alpha_initializer="ones", shared_axes=[1, 2])
    >>> layer(np.full((1, 4, 4, 3), -2.0)).data.max(), layer.alpha.shape
    (np.float32(-2.0), (1, 1, 3))
    """

    def __init__(
        self,
        alpha_initializer: str | Callable[..., Any] = "zeros",
        alpha_regularizer: str | Callable[[Tensor], Tensor] | None = None,
        alpha_constraint: str | Callable[[Tensor], Tensor] | None = None,
        shared_axes: int | Iterable[int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._read_rules("alpha", alpha_initializer, alpha_regularizer, alpha_constraint)
        self.shared_axes = None
        if shared_axes is not None:
            self.shared_axes = list(arguments.integers(shared_axes, "shared_axes", or_one=True))
        self.alpha: Tensor | None = None

    def build(self, input_shape: Shape) -> None:
        """Make ``alpha`` for samples of ``input_shape``."""
        self.alpha = self._add_by_rules("alpha", self._sizes(input_shape))

    def call(self, inputs: Tensor) -> Tensor:
        """The function of ``inputs``."""
        assert self.alpha is not None  # the layer is built
        outputs = Prelu.apply(widened(inputs), widened(self.alpha).reshape(1, *self.alpha.shape))
        return rounded(outputs, inputs.dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """``input_shape``.

        Raises:
            ValueError: for an input that the layer cannot take.
        """
        sizes = self._sizes(input_shape)
        if self.alpha is not None and sizes != self.alpha.shape:
            raise ValueError(f"{self}: expected samples for an alpha of {self.alpha.shape}, received {input_shape}")
        return input_shape

    def _sizes(self, input_shape: Shape) -> tuple[int, ...]:
        """The shape of ``alpha``."""
        sizes: list[int] = []
        shared_axes = self.shared_axes or ()
        for axis, size in enumerate(input_shape[1:], start=1):
            shared = axis in shared_axes
            if size is None and not shared:
                raise ValueError(
                    f"{self}: expected known sizes of the axes that are not shared, received input shape {input_shape}"
                )
            sizes.append(1 if shared or size is None else size)
        if any(not 0 < axis <= len(sizes) for axis in shared_axes):
            raise ValueError(f"{self}: expected shared_axes from 1 to {len(sizes)}, received {shared_axes}")
        return tuple(sizes)


def is_relu(layer: Layer | None) -> TypeGuard[Activation | ReLU]:
    """Whether a layer is ``max(x, 0)`` and nothing else, which a layer in front of it may compute in its own pass.

    >>> is_relu(Activation("relu")), is_relu(ReLU()), is_relu(ReLU(max_value=6)), is_relu(None)
    (True, True, False, False)
    """
    if type(layer) is ReLU:
        found = layer.max_value is None and layer.negative_slope == layer.threshold == 0
    else:
        found = type(layer) is Activation and layer.activation is activations.relu
    return found and layer.activity_regularizer is None  # type: ignore[union-attr]
