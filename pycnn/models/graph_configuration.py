"""Functional models as dictionaries, in the form in which Keras' files hold them, and back.

Each layer has, beside its own description, ``inbound_nodes``: for each of its calls what it was called on. A symbolic
tensor is there as the layer that it comes from, the number of that layer's call, and its place among the outputs.

Source: Keras 3, keras.src.models.functional; for the lists in which older files hold calls, Keras 2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pycnn.layers.input import InputLayer
from pycnn.layers.layer import Layer
from pycnn.layers.symbolic import KerasTensor, Node
from pycnn.saving.serialization import deserialize_keras_object, serialize_keras_object
from pycnn.structures import leaves, mapped

if TYPE_CHECKING:
    from pycnn.models.functional import Functional

#: The name of a layer, the number of its call, the place among the outputs.
_Place = tuple[str, int, int]


def described_graph(model: Functional) -> dict[str, Any]:
    """Layers, inputs and outputs of a functional model."""
    numbers: dict[Node, int] = {}
    calls: dict[Layer, list[Node]] = {}
    within = set(model.graph.nodes)
    for layer in model.layers:
        calls[layer] = [node for node in layer._nodes if node in within]
        numbers |= {node: number for number, node in enumerate(calls[layer])}

    def place(tensor: KerasTensor) -> list[Any]:
        node, history = tensor.node, tensor.history
        assert node is not None  # the graph has refused others
        assert history is not None
        return [node.layer.name, numbers[node], history.tensor_index]

    def call(node: Node) -> dict[str, Any]:
        kwargs = {} if node.training is None else {"training": node.training}
        return {"args": [mapped(lambda each: _argument(each, place), node.arguments)], "kwargs": kwargs}

    layers = [
        serialize_keras_object(layer)
        | {"name": layer.name, "inbound_nodes": [call(node) for node in calls[layer] if not node.is_input]}
        for layer in model.layers
    ]
    return {
        "layers": layers,
        "input_layers": mapped(place, model.input_structure),
        "output_layers": mapped(place, model.output_structure),
    }


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
    outputs: dict[tuple[str, int], list[KerasTensor]] = {}
    waiting: list[tuple[Layer, list[Any], int]] = []
    for entry in entries:
        own = {name: part for name, part in entry.items() if name not in ("name", "inbound_nodes")}
        layer = deserialize_keras_object(own, custom_objects)
        if not isinstance(layer, Layer) or layer.name != entry.get("name", layer.name):
            raise ValueError(f"expected a layer named {entry.get('name')!r}, received {layer!r}")
        if (layer.name, 0) in outputs or any(layer.name == other.name for other, _, _ in waiting):
            raise ValueError(f"expected layers with names of their own, received a second {layer.name!r}")
        if isinstance(layer, InputLayer):
            outputs[layer.name, 0] = leaves(layer.output)
        waiting.append((layer, _calls(entry.get("inbound_nodes", [])), 0))
    _call_all(waiting, outputs)
    return (
        _at_places(config.get("input_layers"), outputs),
        _at_places(config.get("output_layers"), outputs),
    )


def _call_all(waiting: list[tuple[Layer, list[Any], int]], outputs: dict[tuple[str, int], list[KerasTensor]]) -> None:
    """Call each layer as often as it was called, as soon as all that a call reads is there."""
    while waiting:
        still = []
        for layer, calls, done in waiting:
            while done < len(calls) and _is_there(calls[done], outputs):
                arguments, training = _arguments(layer, calls[done], outputs)
                result = layer(arguments) if training is None else layer(arguments, training=training)
                outputs[layer.name, done] = leaves(result)
                done += 1
            if done < len(calls):
                still.append((layer, calls, done))
        if [done for *_, done in still] == [done for *_, done in waiting] and len(still) == len(waiting):
            names = ", ".join(layer.name for layer, *_ in still)
            raise ValueError(f"layers that are called on what no layer gives: {names}")
        waiting = still


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


def _is_there(call: dict[str, Any], outputs: dict[tuple[str, int], list[KerasTensor]]) -> bool:
    return all((name, number) in outputs for name, number, _ in _places_in(call.get("args")))


def _arguments(
    layer: Layer, call: dict[str, Any], outputs: dict[tuple[str, int], list[KerasTensor]]
) -> tuple[Any, bool | None]:
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


def _at_places(value: Any, outputs: dict[tuple[str, int], list[KerasTensor]]) -> Any:
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
