"""The order in which the layers of a model run, and where their results are kept meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from pycnn.autograd import is_grad_enabled
from pycnn.layers.layer import Layer, configuration, running_training
from pycnn.models.fusion import LONGEST_PASS, Others, Pass, begins_pass, pass_of
from pycnn.structures import leaves, mapped
from pycnn.tensor import Tensor

#: Shapes for which a chain of calls remembers how it is computed.
_MOST_KNOWN = 64


class Slot(int):
    """The place of a tensor among the values of a :class:`Schedule`."""


class Call:
    """One call of a layer in a schedule.

    Args:
        layer: what is called.
        arguments: what it is called on: a slot, or a list, tuple or dictionary with slots in the places of the tensors.
        writes: the slots of its outputs.
        training: what the call itself says about it; None for what the model is called with.
    """

    def __init__(self, layer: Layer, arguments: Any, writes: Sequence[Slot], training: bool | None = None) -> None:
        self.layer, self.arguments, self.writes, self.training = layer, arguments, tuple(writes), training
        self.reads = tuple(each for each in leaves(arguments) if isinstance(each, Slot))
        #: The slots that nobody reads any more when this call is done.
        self.releases: tuple[Slot, ...] = ()
        #: This call and those after it that may be one pass.
        self.chain: Chain | None = None

    def run(self, values: list[Any], training: bool | None) -> Any:
        """The output, or a structure of outputs, for the values in the slots."""
        arguments = self.arguments
        if isinstance(arguments, Slot):
            inputs = values[arguments]
        else:
            inputs = mapped(lambda each: values[each] if isinstance(each, Slot) else each, arguments)
        return self.layer(inputs, training=training if self.training is None else self.training)


class Chain:
    """Calls of which each alone reads the result of the one before.

    Attributes:
        places: in the schedule.
        layers: what is called.
        reads: the slot that the first of them reads.
        others: for each call the slots that it reads beside the result of the one before.
    """

    def __init__(self, places: Sequence[int], calls: Sequence[Call]) -> None:
        self.places = tuple(places)
        self.layers = [call.layer for call in calls]
        (self.reads,) = calls[0].reads
        self.others: list[tuple[Slot, ...]] = [()]
        for before, call in pairwise(calls):
            self.others.append(tuple(slot for slot in call.reads if slot not in before.writes))
        self._beside = tuple(slot for slots in self.others for slot in slots)
        self._none: Others = [()] * len(self.others)
        #: The configuration of all layers for which passes are known, and these; with whether the inputs are cast.
        self._known: tuple[object, dict[Any, tuple[Pass | None, bool]]] = None, {}

    def __getstate__(self) -> dict[str, Any]:
        """For copies, whose layers are others than those that the known passes compute."""
        return {**self.__dict__, "_known": (None, {})}

    def run(self, values: list[Any], training: bool | None) -> tuple[Tensor, int] | None:
        """Compute as many calls as can be one pass: the output, and how many; None where there are none.

        How they are computed is found once for each shape, and again when an attribute of any layer was set.
        """
        inputs = values[self.reads]
        key = _form(inputs), training, is_grad_enabled(), *[_form(values[slot]) for slot in self._beside]
        others: Others = [[values[slot] for slot in slots] for slots in self.others] if self._beside else self._none
        now, (moment, known) = configuration(), self._known
        if moment is not now:
            known = {}
        found = known.get(key)
        if found is None:
            if len(known) >= _MOST_KNOWN:
                known = {}
            accepted = self.layers[0].accept(inputs)
            found = known[key] = pass_of(self.layers, others, accepted, training), accepted is not inputs
            self._known = now, known
        one_pass, is_cast = found
        if one_pass is None:
            return None
        if is_cast:
            inputs = self.layers[0].accept(inputs)
        return one_pass.run(inputs, others), one_pass.length


def _form(value: Tensor | None) -> tuple[Any, ...] | None:
    return None if value is None else (value.data.shape, value.data.dtype)


class Schedule:
    """The calls of the layers of a model, each behind those whose results it reads.

    Each result is in a slot and is let go when the last call that reads it is done, so that without gradients its
    memory is free for the next. A result that is no output of the model and that only one call reads may never be made:
    that call may be one pass with the one before, see :mod:`pycnn.models.fusion`.

    Args:
        calls: in their order.
        inputs, outputs: the slots of those of the model.
    """

    def __init__(self, calls: Sequence[Call], inputs: Sequence[Slot], outputs: Sequence[Slot]) -> None:
        self.calls = tuple(calls)
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        written = [slot for call in self.calls for slot in call.writes]
        self._slots = max((*self.inputs, *written), default=-1) + 1
        kept = set(self.outputs)
        readers = Counter(slot for call in self.calls for slot in call.reads)
        reader_of = {slot: place for place, call in enumerate(self.calls) for slot in call.reads}
        released: set[Slot] = set()
        for call in reversed(self.calls):
            last = {*call.reads, *call.writes} - kept - released
            call.releases = tuple(last)
            released |= last
        for place, call in enumerate(self.calls):
            if begins_pass(call.layer):
                call.chain = self._chain(place, readers, reader_of)

    def _chain(self, place: int, readers: Counter[Slot], reader_of: dict[Slot, int]) -> Chain | None:
        """The calls from a place on that may be one pass; None where the first says by itself whether it trains."""
        found: list[int] = []
        while len(found) < LONGEST_PASS and self.calls[place].training is None:
            found.append(place)
            (slot, *more) = self.calls[place].writes
            if more or readers[slot] != 1 or slot in self.outputs:
                break
            place = reader_of[slot]
        return Chain(found, [self.calls[place] for place in found]) if found else None

    def run(self, inputs: Sequence[Tensor], training: bool | None) -> list[Tensor]:
        """The outputs for inputs, each in the order of the slots that the schedule was made with.

        ``training`` None is what the layer at work was called with, as in the call of a layer.
        """
        if training is None:
            training = running_training()
        values: list[Any] = [None] * self._slots
        for slot, tensor in zip(self.inputs, inputs):
            values[slot] = tensor
        del inputs
        done: set[int] = set()
        for place, call in enumerate(self.calls):
            if place not in done and not (call.chain and self._run_chain(call.chain, values, training, done)):
                self._keep(call, call.run(values, training), values)
            for slot in call.releases:
                values[slot] = None
        return [values[slot] for slot in self.outputs]

    def _run_chain(self, chain: Chain, values: list[Any], training: bool | None, done: set[int]) -> bool:
        """Run as many calls of a chain as can be one pass; whether there were any."""
        found = chain.run(values, training)
        if found is None:
            return False
        output, count = found
        self._keep(self.calls[chain.places[count - 1]], output, values)
        done.update(chain.places[1:count])
        return True

    @staticmethod
    def _keep(call: Call, outputs: Any, values: list[Any]) -> None:
        if type(outputs) is Tensor and len(call.writes) == 1:  # as nearly always
            values[call.writes[0]] = outputs
            return
        found = leaves(outputs)
        if len(found) != len(call.writes):
            raise ValueError(
                f"{call.layer}: expected {len(call.writes)} outputs, as its call on symbolic tensors has, received "
                f"{len(found)}"
            )
        for slot, value in zip(call.writes, found):
            values[slot] = value
