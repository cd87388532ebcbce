"""Functional models as dictionaries, in the form in which Keras' files hold them, and back.

Each layer has, beside its own description, ``inbound_nodes``: for each of its calls what it was called on. A symbolic
tensor is there as the layer that it comes from, the number of that layer's call, and its place among the outputs. What
arithmetic on symbolic tensors has recorded is among the layers, as Keras' operations of the same names.

Source: Keras 3, keras.src.models.functional; for the lists in which older files hold calls, Keras 2.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from pycnn.layers import arithmetic
from pycnn.layers.arithmetic import GetItem, Operation
from pycnn.layers.input import InputLayer
from pycnn.layers.layer import Layer
from pycnn.layers.symbolic import KerasTensor, Node
from pycnn.saving.serialization import deserialize_keras_object, serialize_keras_object
from pycnn.structures import leaves, mapped

if TYPE_CHECKING:
    from pycnn.models.functional import Functional

#: The name of a layer, the number of its call, the place among the outputs.
_Place = tuple[str, int, int]
#: The symbolic tensors that each call of each layer gives.
_Outputs = dict[tuple[str, int], list[KerasTensor]]

#: Where Keras has the operations of :mod:`pycnn.layers.arithmetic`; it writes the first.
_HOMES_OF_OPERATIONS = ("keras.src.ops.numpy", "keras.src.ops.core")


def described_graph(model: Functional) -> dict[str, Any]:
    """Layers, inputs and outputs of a functional model."""
    numbers: dict[Node, int] = {}
    calls: dict[Layer, list[Node]] = {layer: [] for layer in model.operations}
    for node in sorted(model.graph.nodes, key=lambda node: node.index):  # in this graph: it may be called elsewhere
        numbers[node] = len(calls[node.layer])
        calls[node.layer].append(node)

    def place(tensor: KerasTensor) -> list[Any]:
        node, history = tensor.node, tensor.history
        assert node is not None  # the graph has refused others
        assert history is not None
        return [node.layer.name, numbers[node], history.tensor_index]

    def call(node: Node) -> dict[str, Any]:
        kwargs = {} if node.training is None else {"training": node.training}
        arguments = mapped(lambda each: _argument(each, place), node.arguments)
        if not isinstance(node.layer, Operation):
            return {"args": [arguments], "kwargs": kwargs}
        index = [serialize_keras_object(list(node.layer.index))] if isinstance(node.layer, GetItem) else []
        return {"args": [*arguments, *index], "kwargs": kwargs}

    layers = [
        (_described_operation(layer) if isinstance(layer, Operation) else serialize_keras_object(layer))
        | {"name": layer.name, "inbound_nodes": [call(node) for node in calls[layer] if not node.is_input]}
        for layer in model.operations
    ]
    return {
        "layers": layers,
        "input_layers": mapped(place, model.input_structure),
        "output_layers": mapped(place, model.output_structure),
    }


def _described_operation(operation: Operation) -> dict[str, Any]:
    name = type(operation).__name__
    config = {"name": operation.name}
    return {"module": _HOMES_OF_OPERATIONS[0], "class_name": name, "config": config, "registered_name": name}


def _argument(value: Any, place: Callable[[KerasTensor], list[Any]]) -> Any:
    if not isinstance(value, KerasTensor):
        return serialize_keras_object(value)
    config = {"shape": value.shape, "dtype": value.dtype, "keras_history": place(value)}
    return {"class_name": "__keras_tensor__", "config": config}


def rebuilt_graph(config: dict[str, Any], custom_objects: dict[str, Any] | None) -> tuple[Any, Any]:
    """The symbolic inputs and outputs of the model that :func:`described_graph` has described.

    Raises:
        ValueError, TypeError: it describes no such model.
    """
    entries = config.get("layers")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"expected the description of a functional model with layers, received {entries!r}")
    outputs: _Outputs = {}
    waiting: list[_Call] = []
    names: set[str] = set()
    for entry in entries:
        kind = _operation(entry)
        layer = None if kind else _layer(entry, custom_objects)
        name = entry.get("name") if layer is None else layer.name
        if not isinstance(name, str) or name in names:
            raise ValueError(f"expected layers with names of their own, received a second {name!r}")
        names.add(name)
        if isinstance(layer, InputLayer):
            outputs[name, 0] = leaves(layer.output)
        nodes = _calls(entry.get("inbound_nodes", []))
        if layer is None and len(nodes) != 1:
            raise ValueError(f"{name}: expected one call of an operation, received {len(nodes)}")
        waiting += [_Call(name, number, layer or kind, described) for number, described in enumerate(nodes)]
    _call_all(waiting, outputs)
    return (
        _at_places(config.get("input_layers"), outputs),
        _at_places(config.get("output_layers"), outputs),
    )


def _operation(entry: dict[str, Any]) -> type[Operation] | None:
    """The class of an operation of arithmetic; None where something else is described."""
    if entry.get("module") not in _HOMES_OF_OPERATIONS:
        return None
    found = getattr(arithmetic, str(entry.get("class_name")), None)
    return found if isinstance(found, type) and issubclass(found, Operation) and found is not Operation else None


def _layer(entry: dict[str, Any], custom_objects: dict[str, Any] | None) -> Layer:
    own = {name: part for name, part in entry.items() if name not in ("name", "inbound_nodes")}
    layer = deserialize_keras_object(own, custom_objects)
    if not isinstance(layer, Layer) or layer.name != entry.get("name", layer.name):
        raise ValueError(f"expected a layer named {entry.get('name')!r}, received {layer!r}")
    return layer


class _Call(NamedTuple):
    """A call that is to be made: the name of the layer, which of its calls, the layer itself, and what is said of it.

    An operation is there as its class: it is made when its operands are known.
    """

    name: str
    number: int
    layer: Any
    described: dict[str, Any]

    def made(self, outputs: _Outputs) -> list[KerasTensor]:
        """The outputs of the call for those of the calls before it."""
        if not isinstance(self.layer, Layer):
            return [_operation_called(self.layer, self.name, self.described, outputs)]
        arguments, training = _arguments(self.layer, self.described, outputs)
        return leaves(self.layer(arguments) if training is None else self.layer(arguments, training=training))

    def needs(self, outputs: _Outputs) -> set[tuple[str, int]]:
        """The calls that come first and have not been made: those that it reads, and the layer's own before it."""
        before = {(self.name, self.number - 1)} if self.number else set()
        read = {(name, number) for name, number, _ in _places_in(self.described.get("args"))}
        return {call for call in before | read if call not in outputs}


def _call_all(calls: list[_Call], outputs: _Outputs) -> None:
    """Call each layer as often as it was called, as soon as all that a call reads is there."""
    missing: list[int] = []
    readers: dict[tuple[str, int], list[int]] = {}
    for place, call in enumerate(calls):
        needed = call.needs(outputs)
        missing.append(len(needed))
        for each in needed:
            readers.setdefault(each, []).append(place)
    ready = deque(place for place, count in enumerate(missing) if not count)
    while ready:
        call = calls[ready.popleft()]
        outputs[call.name, call.number] = call.made(outputs)
        for place in readers.get((call.name, call.number), ()):
            missing[place] -= 1
            if not missing[place]:
                ready.append(place)
    lost = dict.fromkeys(call.name for call, count in zip(calls, missing) if count)
    if lost:
        raise ValueError(f"layers that are called on what no layer gives: {', '.join(lost)}")


def _operation_called(kind: type[Operation], name: str, call: dict[str, Any], outputs: _Outputs) -> KerasTensor:
    """The result of an operation, in the dtype of the first symbolic tensor that it is called on."""
    args, kwargs = call.get("args"), call.get("kwargs") or {}
    count = 1 if issubclass(kind, arithmetic.Negative | arithmetic.Absolute) else 2
    if not isinstance(args, list) or len(args) != count or kwargs:
        raise ValueError(f"{name}: expected {count} operands, received args={args!r}, kwargs={kwargs!r}")
    index = {}
    if issubclass(kind, GetItem):
        *args, described = args
        found = deserialize_keras_object(described)
        index["index"] = tuple(found) if isinstance(found, list) else found
    operands = [_at_places(each, outputs) if _place(each) else deserialize_keras_object(each) for each in args]
    symbol = next((each for each in operands if isinstance(each, KerasTensor)), None)
    if symbol is None:
        raise ValueError(f"{name}: expected a symbolic tensor among the operands, received {args!r}")
    return arithmetic.recorded(kind(name=name, dtype=symbol.dtype, **index), *operands)


def _calls(nodes: Any) -> list[Any]:
    """The calls of a layer in the form of Keras 3."""
    if not isinstance(nodes, list):
        raise ValueError(f"inbound_nodes: expected a list, received {nodes!r}")
    return [node if isinstance(node, dict) else _old_call(node) for node in nodes]


def _old_call(node: Any) -> dict[str, Any]:
    """A call of Keras 2: a list of what it reads, each ``[layer, call, place, keywords]``."""
    if not isinstance(node, list) or not all(isinstance(each, list) and len(each) in (3, 4) for each in node):
        raise ValueError(f"inbound_nodes: expected calls, received {node!r}")
    tensors = [{"class_name": "__keras_tensor__", "config": {"keras_history": each[:3]}} for each in node]
    kwargs = node[0][3] if node and len(node[0]) == 4 else {}
    return {"args": [tensors[0] if len(tensors) == 1 else tensors], "kwargs": kwargs}


def _arguments(layer: Layer, call: dict[str, Any], outputs: _Outputs) -> tuple[Any, bool | None]:
    """What a layer is called on, and what is said about training."""
    args, kwargs = call.get("args"), call.get("kwargs") or {}
    unknown = {name: value for name, value in kwargs.items() if name != "training" and value is not None}
    training = kwargs.get("training")
    if not isinstance(args, list) or len(args) != 1 or unknown or training not in (None, True, False):
        raise ValueError(f"{layer}: expected a call on one argument, received args={args!r}, kwargs={kwargs!r}")
    return _at_places(args[0], outputs), training


def _places_in(value: Any) -> list[_Place]:
    place = _place(value)
    if place is not None:
        return [place]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [found for part in parts for found in _places_in(part)]


def _place(value: Any) -> _Place | None:
    """The place of a symbolic tensor, where ``value`` describes one."""
    if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
        value = value["config"]["keras_history"]
    if isinstance(value, list) and len(value) == 3 and isinstance(value[0], str):
        name, number, place = value
        if type(number) is int and type(place) is int and place >= 0:
            return name, number, place
    return None


def _at_places(value: Any, outputs: _Outputs) -> Any:
    """The structure of symbolic tensors that ``value`` describes.

    Raises:
        ValueError: it describes something else, or tensors that there are not.
    """
    place = _place(value)
    if place is not None:
        name, number, index = place
        tensors = outputs.get((name, number), [])
        if index >= len(tensors):
            raise ValueError(f"there is no output {index} of call {number} of a layer {name!r}")
        return tensors[index]
    if isinstance(value, dict):
        return {name: _at_places(part, outputs) for name, part in value.items()}
    if isinstance(value, list):
        return [_at_places(part, outputs) for part in value]
    raise ValueError(f"expected symbolic tensors, received {value!r}")
