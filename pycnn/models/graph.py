"""The graph of a functional model: the calls of layers between its inputs and its outputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from pycnn.layers.input import InputLayer
from pycnn.layers.layer import Layer
from pycnn.layers.symbolic import KerasTensor, Node
from pycnn.models.schedule import Call, Schedule, Slot
from pycnn.structures import mapped


class Graph:
    """The calls between symbolic inputs and outputs.

    Args:
        inputs: outputs of input layers.
        outputs: what is computed from them.

    Attributes:
        nodes: the calls, each behind those whose outputs it reads; those of the input layers among them.
        by_depth: the calls by their depth, the greatest first: how many calls are between them and an output, at most.
        layers: the layers in Keras' order: by depth, and at the same depth in the order in which a search from the
            outputs meets them.

    Raises:
        ValueError: an output that depends on something else than the inputs, or layers of the same name.
    """

    def __init__(self, inputs: Sequence[KerasTensor], outputs: Sequence[KerasTensor]) -> None:
        # The calls come first: a deep copy or a pickle takes them one by one then, and does not begin at the outputs.
        self.nodes: list[Node] = []
        self.inputs, self.outputs = list(inputs), list(outputs)
        met: dict[Layer, int] = {}
        for output in outputs:
            self._collect(output, met)
        depths = self._depths()
        layer_depths: dict[Layer, int] = {}
        for node, depth in depths.items():
            layer_depths[node.layer] = max(depth, layer_depths.get(node.layer, 0))
        for unused in [tensor.node for tensor in inputs if tensor.node not in depths]:
            assert unused is not None  # an input is the output of an input layer
            depths[unused] = layer_depths[unused.layer] = 0
            met[unused.layer] = -1
            self.nodes.insert(0, unused)
        self.layers = sorted(layer_depths, key=lambda layer: (-layer_depths[layer], met[layer]))
        self.by_depth: dict[int, list[Node]] = {depth: [] for depth in sorted(set(depths.values()), reverse=True)}
        for node, depth in depths.items():
            self.by_depth[depth].append(node)
        self._refuse_same_names()

    def _collect(self, output: KerasTensor, met: dict[Layer, int]) -> None:
        """Append the calls that an output depends on, each behind those that it depends on itself."""
        finished = set(self.nodes)
        first = self._node_of(output, None)
        if first in finished:
            return
        met.setdefault(first.layer, len(met))
        waiting: list[tuple[Node, Iterator[KerasTensor]]] = [(first, iter(first.inputs))]
        while waiting:  # and not by recursion: networks are deeper than Python's stack
            node, rest = waiting[-1]
            tensor = next(rest, None)
            if tensor is None:
                waiting.pop()
                finished.add(node)
                self.nodes.append(node)
                continue
            above = self._node_of(tensor, node)
            if above not in finished:
                met.setdefault(above.layer, len(met))
                waiting.append((above, iter(above.inputs)))

    def _node_of(self, tensor: KerasTensor, reader: Node | None) -> Node:
        """The call that a tensor is an output of."""
        node = tensor.node
        if node is None or (node.is_input and all(tensor is not each for each in self.inputs)):
            where = "is an output" if reader is None else f"is read by the layer '{reader.layer.name}'"
            given = ", ".join(f"'{each.name}'" for each in self.inputs)
            raise ValueError(
                f"the graph is disconnected: the tensor {tensor} {where}, but does not come from the model's inputs, "
                f"{given}. Expected each tensor that the outputs are computed from to be among the inputs, or to be "
                "computed from them"
            )
        return node

    def _depths(self) -> dict[Node, int]:
        """The depth of each call: at least one more than that of its readers."""
        depths: dict[Node, int] = {}
        of_layers: dict[Layer, int] = {}
        known = set(self.nodes)
        for node in reversed(self.nodes):
            depth = max(depths.setdefault(node, 0), of_layers.get(node.layer, 0))
            depths[node] = of_layers[node.layer] = depth
            for tensor in node.inputs:
                if tensor.node in known:
                    depths[tensor.node] = max(depth + 1, depths.get(tensor.node, 0))
        return depths

    def _refuse_same_names(self) -> None:
        ((name, count),) = Counter(layer.name for layer in self.layers).most_common(1)
        if count > 1:
            raise ValueError(f"expected layers with names of their own, received {count} with the name {name!r}")

    def nodes_of(self, layer: Layer) -> list[Node]:
        """The calls of a layer that are in this graph, in their order: it may have been called elsewhere, too."""
        known = set(self.nodes)
        return [node for node in layer._nodes if node in known]

    def schedule(self) -> Schedule:
        """How it runs: depth first, so that what one branch has computed is let go before the next begins."""
        slots: dict[KerasTensor, Slot] = {}
        for node in self.nodes:
            for tensor in node.outputs:
                slots[tensor] = Slot(len(slots))
        calls = [
            Call(
                node.layer,
                mapped(lambda each: slots.get(each, each) if isinstance(each, KerasTensor) else each, node.arguments),
                [slots[tensor] for tensor in node.outputs],
                node.training,
            )
            for node in self.nodes
            if not node.is_input
        ]
        return Schedule(calls, [slots[x] for x in self.inputs], [slots[y] for y in self.outputs])


def begun_at(
    inputs: Sequence[KerasTensor], outputs: Sequence[KerasTensor]
) -> tuple[list[KerasTensor], list[KerasTensor]]:
    """Inputs and outputs of the graph that begins at ``inputs``, which may be results of layers.

    In their places new inputs come, and the calls between them and the outputs are recorded anew, with the same layers.
    Inputs that are outputs of input layers already stay, and if all are, so do the outputs.
    """
    if all(_is_input(tensor) for tensor in inputs):
        return list(inputs), list(outputs)
    new: dict[KerasTensor, KerasTensor] = {}
    for tensor in inputs:
        new[tensor] = tensor if _is_input(tensor) else _input_like(tensor)
    waiting = [tensor for tensor in outputs if tensor not in new]
    while waiting:
        tensor = waiting[-1]
        node = tensor.node
        missing = [] if node is None else [each for each in node.inputs if each not in new]
        if node is None or node.is_input:
            new[tensor] = tensor
        elif missing:
            waiting += missing
            continue
        elif tensor not in new:
            copies = [KerasTensor(each.shape, each.dtype, f"{each.name}_clone") for each in node.outputs]
            Node(
                node.layer,
                mapped(lambda each: new[each] if isinstance(each, KerasTensor) else each, node.arguments),
                copies,
                node.training,
            )
            for old, copy in zip(node.outputs, copies):
                new.setdefault(old, copy)
        waiting.pop()
    return [new[tensor] for tensor in inputs], [new[tensor] for tensor in outputs]


def _is_input(tensor: KerasTensor) -> bool:
    return tensor.node is not None and tensor.node.is_input


def _input_like(tensor: KerasTensor) -> KerasTensor:
    """A new input in the place of a result."""
    layer = InputLayer(batch_shape=tensor.shape, dtype=tensor.dtype, name=f"{tensor.name}CLONE")
    found: KerasTensor = layer.output
    return found
