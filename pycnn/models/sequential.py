"""A model that is a plain stack of layers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

from pycnn.layers.input import InputLayer
from pycnn.layers.layer import Layer, shape_from_config
from pycnn.layers.symbolic import KerasTensor
from pycnn.models.model import Model
from pycnn.models.schedule import Call, Schedule, Slot
from pycnn.saving.serialization import deserialize_keras_object, serialize_keras_object
from pycnn.shapes import Shape
from pycnn.structures import leaves
from pycnn.tensor import Tensor


class Sequential(Model):
    """Layers applied one after another.

    The weights are made as soon as the input shape is known: from an ``Input`` in front, from ``input_shape=`` of
    the first layer, or from the first data.

    Args:
        layers: the layers, in order, perhaps with ``Input(...)`` in front; more can follow with :meth:`add`.
        trainable: as for :class:`pycnn.layers.Layer`.
        name: by default "sequential", "sequential_1", ...

    Raises:
        TypeError: for something that is no layer.
        ValueError: for a name given twice, an input layer behind others, or a layer that cannot take the output
            of the one before.

    Source: Keras 3, keras.Sequential.

    >>> from pycnn.layers import Conv2D, Dense, Flatten, MaxPooling2D
    >>> model = Sequential()
    >>> model.add(Conv2D(8, kernel_size=(3, 3), activation="relu", input_shape=(28, 28, 1)))
    >>> model.add(MaxPooling2D(pool_size=(2, 2)))
    >>> model.add(Flatten())
    >>> model.add(Dense(10, activation="softmax"))
    >>> model.output_shape, model.count_params()
    ((None, 10), 13610)
    """

    def __init__(
        self, layers: Iterable[Layer | KerasTensor] | None = None, trainable: bool = True, name: str | None = None
    ) -> None:
        super().__init__(trainable=trainable, name=name)
        self._input: InputLayer | None = None
        self._layers: list[Layer] = []
        #: The symbolic output of each layer; empty while the input shape is unknown.
        self._symbolic_outputs: list[KerasTensor] = []
        self._schedule = Schedule([], [Slot(0)], [Slot(0)])
        for layer in layers or ():
            self.add(layer)

    @property
    def layers(self) -> list[Layer]:
        """The layers without the input layer, as in Keras."""
        return list(self._layers)

    @property
    def declared_input_shape(self) -> Shape | None:
        """The input shape with the batch axis; None while it is unknown."""
        return None if self._input is None else self._input.batch_shape

    @property
    def inputs(self) -> list[KerasTensor]:
        """The symbolic input in a list.

        Raises:
            AttributeError: while the input shape is unknown.
        """
        return [self.input]

    @property
    def outputs(self) -> list[KerasTensor]:
        """The symbolic output in a list; raises as :attr:`inputs`."""
        return [self.output]

    @property
    def input(self) -> KerasTensor:
        """What the first layer is called on, a symbolic tensor; raises as :attr:`inputs`."""
        found: KerasTensor = self._declared().output
        return found

    @property
    def output(self) -> KerasTensor:
        """What the last layer gives, a symbolic tensor; raises as :attr:`inputs`."""
        below = self._declared().output
        return self._symbolic_outputs[-1] if self._symbolic_outputs else below

    @property
    def input_names(self) -> list[str]:
        """The name of the input layer in a list; raises as :attr:`inputs`."""
        return [self._declared().name]

    @property
    def output_names(self) -> list[str]:
        """The name of the last layer in a list; raises as :attr:`inputs`."""
        return [(self._layers or [self._declared()])[-1].name]

    def _declared(self) -> InputLayer:
        if self._input is None:
            raise AttributeError(
                f"{self} has no symbolic input or output before its input shape is known: begin it with Input(shape)"
            )
        return self._input

    def add(self, layer: Layer | KerasTensor) -> None:
        """Put a layer on top.

        Raises:
            TypeError: when it is neither a layer nor what ``Input(...)`` gives.
            ValueError: when its name is taken, it is an input layer behind others, or it cannot take the output
                of the layer before, or gives several outputs. The model is unchanged then.
        """
        if isinstance(layer, KerasTensor) and layer.node is not None and isinstance(layer.node.layer, InputLayer):
            layer = layer.node.layer
        if not isinstance(layer, Layer):
            raise TypeError(f"{self}: expected a layer, received {layer!r} of type {type(layer).__name__}")
        if isinstance(layer, InputLayer):
            self._add_input(layer)
            return
        if any(layer.name == other.name for other in self._layers):
            raise ValueError(f"{self}: expected a layer with a name of its own, received a second {layer.name!r}")
        declared = self._input
        if declared is None and not self._layers and layer.declared_input_shape is not None:
            declared = InputLayer(batch_shape=layer.declared_input_shape, dtype=layer.dtype)
        if declared is not None:
            below = self._symbolic_outputs[-1] if self._symbolic_outputs else declared.output
            self._symbolic_outputs.append(self._on_top(layer, below))
        self._input = declared
        self._layers.append(layer)
        self._changed()

    def _on_top(self, layer: Layer, below: KerasTensor) -> KerasTensor:
        """What a layer gives on top of another, symbolically."""
        found = layer(below)
        if not isinstance(found, KerasTensor):
            count = len(leaves(found))
            raise ValueError(
                f"{self}: expected a layer with one output, received {layer} with a {type(found).__name__} of {count}; "
                "Model(inputs, outputs) has several"
            )
        return found

    def pop(self) -> Layer:
        """Take the top layer off and return it.

        Raises:
            IndexError: when there is none.
        """
        if not self._layers:
            raise IndexError(f"{self}: there is no layer to take off")
        if self._symbolic_outputs:
            self._symbolic_outputs.pop()
        layer = self._layers.pop()
        self._changed()
        return layer

    def build(self, input_shape: Shape) -> None:
        """Make the weights of all layers for inputs of ``input_shape``, whose first axis is the batch.

        Raises:
            ValueError: when a layer cannot take its input or gives several outputs, or the model has no layers.
        """
        if not self._layers:
            raise ValueError(f"{self}: expected at least one layer, received none; use add()")
        if self._input is not None:
            self._input.compute_output_shape(input_shape)
            return
        first = InputLayer(batch_shape=input_shape, dtype=self._layers[0].dtype)
        tensors: list[KerasTensor] = [first.output]
        for layer in self._layers:
            tensors.append(self._on_top(layer, tensors[-1]))
        self._input, self._symbolic_outputs = first, tensors[1:]
        self._changed()

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        """The output of the last layer."""
        return self._schedule.run([inputs], training)[0]

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The output shape for an input shape.

        Raises:
            ValueError: when it is not the model's input shape.
        """
        if self._input is not None:
            try:
                input_shape = self._input.compute_output_shape(input_shape)
            except ValueError as error:
                raise ValueError(f"{self}: {error}") from None
        for layer in self._layers:
            input_shape = layer.compute_output_shape(input_shape)
        return input_shape

    def output_shapes(self) -> list[Shape | None]:
        """The output shape of each layer; None while it is unknown."""
        return [tensor.shape for tensor in self._symbolic_outputs] or [None] * len(self._layers)

    def get_config(self) -> dict[str, Any]:
        """Name and layers, and the shape that they are built for."""
        layers = [layer for layer in (self._input, *self._layers) if layer is not None]
        config = super().get_config() | {"layers": [serialize_keras_object(layer) for layer in layers]}
        return config | ({"build_input_shape": self.declared_input_shape} if self._symbolic_outputs else {})

    def get_build_config(self) -> dict[str, Any] | None:
        """The input shape, None while it is unknown."""
        return {"input_shape": self.declared_input_shape} if self._symbolic_outputs else None

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Self:
        """The model that :meth:`get_config` describes, its layers built where they were.

        Args:
            config: the description, also Keras'.
            custom_objects: classes and functions of your own by name.

        Raises:
            ValueError, TypeError: it is no description of a stack of layers.
        """
        layers = config.get("layers")
        if not isinstance(layers, list):
            raise ValueError(f"{cls.__name__}: expected a description with layers, received {config!r}")
        model = cls(name=config.get("name"), trainable=config.get("trainable", True))
        for layer in layers:
            model.add(deserialize_keras_object(layer, custom_objects))
        shape = config.get("build_input_shape")
        if shape is not None and model._layers and not model.built:
            model.build(shape_from_config(shape))
        return model

    def _add_input(self, layer: InputLayer) -> None:
        if self._layers or self._input is not None:
            raise ValueError(f"{self}: an input layer comes first and only once, received {layer} behind others")
        self._input = layer
        self.dtype = layer.dtype

    def _changed(self) -> None:
        """The stack is another: what is known of it is known anew."""
        self.dtype = self._layers[0].dtype if self._layers else self.dtype
        self.built = bool(self._symbolic_outputs)
        calls = [Call(layer, Slot(place), [Slot(place + 1)]) for place, layer in enumerate(self._layers)]
        self._schedule = Schedule(calls, [Slot(0)], [Slot(len(calls))])
        self._accepted = None, (), None
        self._forget_compiled_shapes()
