"""A model that is a graph of layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from pycnn import backend
from pycnn.layers.arithmetic import Operation
from pycnn.layers.layer import Layer
from pycnn.layers.symbolic import KerasTensor
from pycnn.models.graph import Graph, begun_at
from pycnn.models.graph_configuration import described_graph, rebuilt_graph
from pycnn.models.model import Model
from pycnn.naming import nearest
from pycnn.shapes import Shape, mapped_shapes
from pycnn.structures import is_structure, leaves, mapped, packed
from pycnn.tensor import Tensor


class Functional(Model):
    """What ``Model(inputs, outputs)`` gives: the layers between symbolic tensors.

    Branches, layers that are called several times (with the same weights), several inputs and outputs, and models
    that are called as layers are all calls on symbolic tensors. A model may begin and end anywhere in the graph of
    another, with which it shares the layers then.

    Args:
        inputs: a symbolic tensor, or a list, tuple or dictionary of them; of ``Input(...)``, or results of layers.
        outputs: likewise, computed from them.
        name: by default "functional", "functional_1", ...
        trainable: is set on the model, and so on all of its layers; None leaves them as they are.

    Attributes:
        inputs, outputs: the symbolic tensors as flat lists, those of a dictionary by its sorted keys.
        graph: the calls between them; see :class:`pycnn.models.graph.Graph`.

    Raises:
        TypeError: for something else than symbolic tensors.
        ValueError: for none of them; for an output that depends on tensors that are not among the inputs; for layers of
            the same name.

    Source: Keras 3, keras.Model.

    >>> from pycnn.layers import Add, Conv2D, Dense, GlobalAveragePooling2D, Input
    >>> from pycnn.models import Model
    >>> images = Input((32, 32, 3))
    >>> x = Conv2D(8, 3, padding="same", activation="relu")(images)
    >>> y = Conv2D(8, 3, padding="same")(x)
    >>> classes = Dense(10, activation="softmax")(GlobalAveragePooling2D()(Add()([x, y])))
    >>> model = Model(images, classes)
    >>> model.output_shape, model.count_params()
    ((None, 10), 898)
    >>> [type(layer).__name__ for layer in model.layers]
    ['InputLayer', 'Conv2D', 'Conv2D', 'Add', 'GlobalAveragePooling2D', 'Dense']
    """

    def __init__(
        self, inputs: Any, outputs: Any, name: str | None = None, trainable: bool | None = None, **kwargs: Any
    ) -> None:
        super().__init__(name=name, **kwargs)
        for what, given in (("inputs", inputs), ("outputs", outputs)):
            _check(self, what, given)
        begin, end = begun_at(leaves(inputs), leaves(outputs))
        try:
            self.graph = Graph(begin, end)
        except ValueError as error:
            raise ValueError(f"{self}: {error}") from None
        self.input_structure, self.output_structure = packed(inputs, begin), packed(outputs, end)
        self.inputs, self.outputs = begin, end
        self._schedule = self.graph.schedule()
        self.dtype = begin[0].dtype
        self.built = True
        if trainable is not None:
            self.trainable = trainable

    @property
    def layers(self) -> list[Layer]:
        """The layers in Keras' order: from the inputs to the outputs, by depth."""
        return [layer for layer in self.graph.layers if not isinstance(layer, Operation)]

    @property
    def operations(self) -> list[Layer]:
        """The layers, and what arithmetic on symbolic tensors has recorded, in the same order."""
        return list(self.graph.layers)

    @property
    def input(self) -> Any:
        """The symbolic inputs as they were given."""
        return self.input_structure

    @property
    def output(self) -> Any:
        """The symbolic outputs as they were given."""
        return self.output_structure

    @property
    def input_names(self) -> list[str]:
        """The names of the input layers, in the order of :attr:`inputs`."""
        return [_layer_of(tensor).name for tensor in self.inputs]

    @property
    def output_names(self) -> list[str]:
        """The names of the layers that give the outputs, in the order of :attr:`outputs`."""
        return [_layer_of(tensor).name for tensor in self.outputs]

    @property
    def declared_input_shape(self) -> Any:
        """The shape of the input, or a list of them, with the batch axis."""
        return self.input_shape

    @property
    def input_shape(self) -> Any:
        """The shape of the input, whose first axis is the batch; a list of them where there are several."""
        return _one_or_list([tensor.shape for tensor in self.inputs])

    @property
    def output_shape(self) -> Any:
        """The shape of the output, whose first axis is the batch; a list of them where there are several."""
        return _one_or_list([tensor.shape for tensor in self.outputs])

    def output_shapes(self) -> list[Any]:
        """The output shape of each of the :attr:`operations`."""
        return [_one_or_list([tensor.shape for tensor in layer._nodes[-1].outputs]) for layer in self.operations]

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """The outputs, in the structure that the model was given; the output itself where that is a list of one."""
        return self._packed(self._schedule.run(self._in_order(inputs), training))

    def _packed(self, outputs: Sequence[Any]) -> Any:
        """What is there for the outputs, in the structure that the model gives."""
        structure = self.output_structure
        return outputs[0] if _is_list_of_one(structure) else packed(structure, outputs)

    def accept(self, inputs: Any) -> list[Tensor]:
        """The inputs as a flat list of tensors, each of the dtype of its symbolic input.

        Args:
            inputs: in the structure that the model was given, or in its order; or a dictionary by the names of the
                symbolic inputs.

        Raises:
            TypeError: they hold no numbers.
            ValueError: another number of inputs, or a name that is missing; shapes that do not agree with the declared.
        """
        accepted = [self._cast(value, symbol) for value, symbol in zip(self._in_order(inputs), self.inputs)]
        shapes = [tensor.shape for tensor in accepted]
        self.accept_shape(shapes[0] if len(shapes) == 1 else shapes)
        return accepted

    def _cast(self, value: Any, symbol: KerasTensor) -> Tensor:
        if value is None:
            raise TypeError(f"{self}: expected an array or a tensor for the input '{symbol.name}', received None")
        if not isinstance(value, Tensor):
            value = Tensor(backend.asarray(value, "inputs", self._place_of(value)))
        return value if value.dtype == symbol.dtype else value.astype(symbol.dtype)

    def _in_order(self, inputs: Any) -> list[Any]:
        """What is given for the inputs, as a flat list in their order."""
        expected, count = self.input_structure, len(self.inputs)
        if isinstance(inputs, dict):
            return self._by_name(inputs)
        if count == 1 and not _is_list_of_one(inputs):
            return [inputs]
        flat = not is_structure(expected) or not any(map(is_structure, expected))
        found = list(inputs) if flat and isinstance(inputs, list | tuple) else leaves(inputs)
        if len(found) != count:
            names = ", ".join(repr(each.name) for each in self.inputs)
            raise ValueError(f"{self}: expected {count} inputs, {names}, received {len(found)}")
        return found

    def _by_name(self, inputs: dict[str, Any]) -> list[Any]:
        """What a dictionary gives for the inputs; what else is in it is not read."""
        expected = self.input_structure
        named = isinstance(expected, dict)
        names = list(expected) if named else [tensor.name for tensor in self.inputs]
        for name in names:
            if name not in inputs:
                raise ValueError(
                    f"{self}: expected inputs named {', '.join(map(repr, names))}, received "
                    f"{', '.join(map(repr, inputs)) or 'none'}: {name!r} is missing.{nearest(name, list(inputs))}"
                )
        return leaves({name: inputs[name] for name in names}) if named else [inputs[name] for name in names]

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shapes of the outputs for shapes of the inputs, in the structure that the model gives.

        Raises:
            ValueError: when they are not those that the model takes.
        """
        symbols = mapped_shapes(lambda shape: KerasTensor(shape, name="input"), input_shape)
        shapes = [symbol.shape for symbol in self._in_order(symbols)]
        for shape, declared in zip(shapes, self.inputs):
            try:
                _layer_of(declared).compute_output_shape(shape)
            except ValueError as error:
                which = f"the input '{declared.name}': " if len(shapes) > 1 else ""
                raise ValueError(f"{self}: {which}{error}") from None
        return self._packed(self._shapes_for(shapes))

    def _shapes_for(self, shapes: Sequence[Shape]) -> list[Shape]:
        """The shapes of the outputs as a flat list."""
        if all(shape == declared.shape for shape, declared in zip(shapes, self.inputs)):
            return [tensor.shape for tensor in self.outputs]
        found = dict(zip(self.inputs, shapes))

        def shape_of(argument: Any) -> Shape:
            return found[argument] if isinstance(argument, KerasTensor) else np.shape(argument)

        for node in self.graph.nodes:
            if not node.is_input:
                outputs = node.layer.compute_output_shape(mapped(shape_of, node.arguments))
                found.update(zip(node.outputs, _shapes_in(outputs), strict=True))
        return [found[tensor] for tensor in self.outputs]

    def get_config(self) -> dict[str, Any]:
        """The layers with their calls, inputs and outputs, as in Keras.

        Of a class of your own with a constructor of its own, what that was given.
        """
        if self._has_users_constructor():
            return super().get_config()
        return {"name": self.name, "trainable": self.trainable, **described_graph(self)}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Self:
        """The model that :meth:`get_config` describes, its layers built.

        Args:
            config: the description, also Keras'.
            custom_objects: classes and functions of your own by name.

        Raises:
            ValueError, TypeError: it is no description of a functional model.
        """
        if "layers" not in config:  # a class of the user's own, whose arguments these are
            return super().from_config(config)
        inputs, outputs = rebuilt_graph(config, custom_objects)
        model = cls(inputs, outputs, name=config.get("name"))
        model._trainable = bool(config.get("trainable", True))  # and not that of the layers, which say it themselves
        return model

    def _symbols(self, shapes: Any) -> Any:
        dtypes = [tensor.dtype for tensor in self.outputs]
        return self._packed([KerasTensor(shape, dtype) for shape, dtype in zip(_shapes_in(shapes), dtypes)])


def _check(model: Model, what: str, given: Any) -> None:
    """Raise unless symbolic tensors are given."""
    for each in leaves(given):
        if not isinstance(each, KerasTensor):
            raise TypeError(
                f"{model}: expected {what} that are symbolic tensors, as Input(...) and layers called on them give, "
                f"received {each!r} of type {type(each).__name__}"
            )
    if not leaves(given):
        raise ValueError(f"{model}: expected at least one symbolic tensor as {what}, received {given!r}")


def _layer_of(tensor: KerasTensor) -> Layer:
    """The layer that a symbolic tensor of a model comes from."""
    assert tensor.node is not None  # the graph has refused others
    return tensor.node.layer


def _is_list_of_one(value: Any) -> bool:
    """Whether a value is a list of one tensor or array, and not one of plain numbers, which is an array."""
    return isinstance(value, list | tuple) and len(value) == 1 and not isinstance(value[0], int | float | list | tuple)


def _one_or_list(shapes: list[Shape]) -> Any:
    return shapes[0] if len(shapes) == 1 else shapes


def _shapes_in(shapes: Any) -> list[Shape]:
    """The shapes in a structure of them, in the order of :func:`pycnn.structures.leaves`."""
    return [symbol.shape for symbol in leaves(mapped_shapes(lambda shape: KerasTensor(shape, name="shape"), shapes))]
