"""The base class of every layer."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pycnn import backend, changes, initializers
from pycnn.layers.arguments import choice
from pycnn.layers.auto_name import auto_name
from pycnn.naming import nearest
from pycnn.shapes import Shape
from pycnn.tensor import Tensor
from pycnn_kernels.problem import STORAGE_DTYPES, numpy_dtype


class Layer:
    """A function of one tensor with weights: the base class of all layers and models.

    A subclass defines ``build(input_shape)``, which makes weights with :meth:`add_weight`; ``call(inputs)`` or
    ``call(inputs, training=False)``; and ``compute_output_shape(input_shape)``. A layer is built once, by the
    first input shape that it meets.

    Args:
        trainable: whether the weights take part in training.
        dtype: of weights and inputs, "float32" (the default), "float64", "float16" or "bfloat16". The last two are
            computed in float32, each result rounded once.
        name: unique within a model; made from the class name by default (``dense``, ``dense_1``, ...).
        input_shape: shape of one sample, without the batch axis, when this is the first layer of a model.

    Raises:
        ValueError: for an unknown argument (the message names the nearest), dtype, name or input shape.

    Source: the layer interface of Keras 3.

    >>> import numpy as np
    >>> class Doubling(Layer):
    ...     def call(self, inputs):
    ...         return inputs * 2.0
    ...
    ...     def compute_output_shape(self, input_shape):
    ...         return input_shape
    >>> Doubling()(np.ones((1, 2))).numpy()
    array([[2., 2.]], dtype=float32)
    """

    _call_takes_training = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._call_takes_training = "training" in inspect.signature(cls.call).parameters

    def __init__(
        self,
        *,
        trainable: bool = True,
        dtype: str | None = None,
        name: str | None = None,
        input_shape: Iterable[int | None] | None = None,
        **unknown: Any,
    ) -> None:
        if unknown:
            raise ValueError(_unknown_argument(type(self), next(iter(unknown))))
        if name is not None and (not isinstance(name, str) or not name or "/" in name):
            raise ValueError(f"name: expected text without '/', received {name!r}")
        self.name = name or auto_name(type(self).__name__)
        self.dtype: str = choice(dtype or "float32", ("float32", "float64", *STORAGE_DTYPES), "dtype")
        numpy_dtype(self.dtype)  # bfloat16 needs a package: its absence must not show at the first batch only
        self.built = False
        self._trainable = bool(trainable)
        self._declared_shape = None if input_shape is None else (None, *sample_shape(input_shape))
        self._trainable_weights: dict[str, Tensor] = {}
        self._non_trainable_weights: dict[str, Tensor] = {}
        #: The last input shape, and its output shape: one value, for threads may call at the same time.
        self._accepted: tuple[Shape | None, Shape] = None, ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}, built={self.built}>"

    def __str__(self) -> str:
        return f"{type(self).__name__} '{self.name}'"

    # -- what a subclass defines ---------------------------------------------------------------------------

    def build(self, input_shape: Shape) -> None:
        """Make the weights for inputs of ``input_shape``, whose first axis is the batch (None)."""

    def call(self, inputs: Tensor) -> Tensor:
        """The output for ``inputs``; a subclass may take a second argument ``training``."""
        raise NotImplementedError(f"{type(self).__name__} must define call(inputs)")

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The output shape for an input shape; raises ValueError where the layer cannot take it."""
        raise NotImplementedError(f"{type(self).__name__} must define compute_output_shape(input_shape)")

    # -- calling ---------------------------------------------------------------------------------------------

    def __call__(self, inputs: Tensor | ArrayLike, training: bool | None = None) -> Tensor:
        """Apply the layer to a batch, building it first where that has not happened yet.

        Args:
            inputs: a tensor or an array, of the layer's dtype or cast to it; the first axis is the batch.
            training: whether dropout and the like are active; None is False.

        Raises:
            TypeError: the inputs are no numbers.
            ValueError: the layer cannot take inputs of this shape, or they are lists of different lengths.
        """
        x = self.accept(inputs)
        if self._call_takes_training:
            return self.call(x, training=bool(training))  # type: ignore[call-arg]
        return self.call(x)

    def accept(self, inputs: Tensor | ArrayLike) -> Tensor:
        """The inputs as ``call`` takes them; builds the layer where that has not happened yet.

        What is no tensor and on no GPU goes to the backend of the layer's weights, or without weights to the default.

        Raises:
            TypeError, ValueError: as calling the layer.
        """
        x = inputs if isinstance(inputs, Tensor) else Tensor(backend.asarray(inputs, "inputs", self._place_of(inputs)))
        if x.dtype != self.dtype:
            x = x.astype(self.dtype)
        self.accept_shape(x.shape)
        return x

    def _place_of(self, inputs: ArrayLike) -> backend.Backend | None:
        weight = None if backend.is_on_gpu(inputs) else self._some_weight()
        return None if weight is None else weight.backend

    def _some_weight(self) -> Tensor | None:
        """One of the layer's weights, None where it has none."""
        for group in (self._trainable_weights, self._non_trainable_weights):
            for weight in group.values():
                return weight
        return None

    def accept_shape(self, shape: Shape) -> Shape:
        """The output shape for inputs of ``shape``, its batch None; builds the layer as :meth:`accept` does.

        Raises:
            ValueError: when the layer cannot take inputs of this shape.
        """
        accepted, output = self._accepted
        if shape != accepted:
            output = self.build_for((None, *shape[1:]))
            self._accepted = shape, output
        return output

    def build_for(self, input_shape: Shape) -> Shape:
        """Build the layer unless it is built; return the output shape.

        Raises:
            ValueError: when the layer cannot take inputs of this shape.
        """
        if not self.built:
            self.build(input_shape)
            self.built = True
        return self.compute_output_shape(input_shape)

    # -- weights ---------------------------------------------------------------------------------------------

    def add_weight(
        self,
        shape: Sequence[int] = (),
        initializer: str | Callable[..., Any] | None = None,
        dtype: str | None = None,
        trainable: bool = True,
        *,
        name: str,
    ) -> Tensor:
        """Make a weight; it appears in :attr:`weights` in the order of making.

        Args:
            shape: its shape.
            initializer: a name or function of (shape, dtype); by default "glorot_uniform".
            dtype: by default that of the layer.
            trainable: whether it has a gradient.
            name: unique within the layer, for example "kernel".

        Raises:
            ValueError: when the initializer gives another shape.
        """
        fill = initializers.get("glorot_uniform" if initializer is None else initializer)
        shape, kind = tuple(shape), dtype or self.dtype
        values = np.array(fill(shape, dtype=kind), dtype=kind)  # a copy, for training changes it in place
        if values.shape != shape:
            raise ValueError(f"{self}: expected the initializer of {name} to give {shape}, received {values.shape}")
        weight = Tensor(values, requires_grad=trainable and self._trainable)
        group = self._trainable_weights if trainable else self._non_trainable_weights
        group[name] = weight
        return weight

    @property
    def trainable(self) -> bool:
        """Whether the weights take part in training; settable."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = bool(value)
        for weight in self._trainable_weights.values():
            weight.requires_grad = self._trainable

    def named_weights(self) -> dict[str, Tensor]:
        """Every weight by its name within the layer, in the order of :attr:`weights`."""
        return {**self._trainable_weights, **self._non_trainable_weights}

    @property
    def weights(self) -> list[Tensor]:
        """All weights: first those made for training, then the others, as in Keras."""
        return list(self.named_weights().values())

    @property
    def trainable_weights(self) -> list[Tensor]:
        """The weights that training changes; none when :attr:`trainable` is False."""
        return list(self._trainable_weights.values()) if self._trainable else []

    @property
    def non_trainable_weights(self) -> list[Tensor]:
        """The weights that training leaves alone."""
        trained = set(map(id, self.trainable_weights))
        return [weight for weight in self.weights if id(weight) not in trained]

    def get_weights(self) -> list[NDArray[Any]]:
        """Copies of all weights, in the order of :attr:`weights`."""
        return [weight.detach().numpy().copy() for weight in self.weights]

    def set_weights(self, weights: Sequence[ArrayLike]) -> None:
        """Overwrite all weights, in the order of :meth:`get_weights`.

        Raises:
            ValueError: when the number of arrays or one of their shapes differs; nothing is changed then.
        """
        targets = self.weights
        arrays = [backend.asarray(weight, "a weight", "cpu") for weight in weights]
        expected, received = [w.shape for w in targets], [a.shape for a in arrays]
        if expected != received:
            raise ValueError(f"{self}: expected weights of shapes {expected}, received {received}")
        for target, array in zip(targets, arrays):
            target.data[...] = target.backend.asarray(array)
            changes.note(target.data, "set_weights")

    def count_params(self) -> int:
        """How many numbers the weights hold.

        Raises:
            ValueError: before the layer is built.
        """
        if not self.built:
            raise ValueError(f"{self} has no weights to count before it is built: call it, or give input_shape")
        return sum(math.prod(weight.shape) for weight in self.weights)

    @property
    def declared_input_shape(self) -> Shape | None:
        """The input shape that the layer was given, with the batch axis; None when it was given none."""
        return self._declared_shape


def sample_shape(shape: Iterable[int | None]) -> Shape:
    """``shape`` as the shape of one sample: positive integers, or None where unknown.

    Raises:
        ValueError: when it is anything else.
    """
    try:
        found = tuple(shape)
    except TypeError:
        found = (-1,)
    if not all(size is None or (isinstance(size, int | np.integer) and size > 0) for size in found):
        raise ValueError(
            f"input shape: expected positive integers for one sample, for example (32, 32, 3), received {shape!r}"
        )
    return tuple(None if size is None else int(size) for size in found)


def _unknown_argument(layer: type[Layer], name: str) -> str:
    known = [
        parameter.name
        for method in (layer.__init__, Layer.__init__)
        for parameter in inspect.signature(method).parameters.values()
        if parameter.name != "self" and parameter.kind is not parameter.VAR_KEYWORD
    ]
    return (
        f"{layer.__name__} has no argument {name!r}.{nearest(name, known)} "
        f"Its arguments are: {', '.join(dict.fromkeys(known))}"
    )
