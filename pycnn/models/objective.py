"""The losses and metrics of a compiled model, with running averages.

Source: Keras 3, keras.src.trainers.compile_utils, for what belongs to which output and for the names in the logs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from pycnn import losses, metrics
from pycnn.losses import Loss
from pycnn.metrics import Metric
from pycnn.models.data import Array
from pycnn.naming import nearest
from pycnn.shapes import Shape, is_shape
from pycnn.structures import leaves
from pycnn.tensor import Tensor

T = TypeVar("T")

#: What each argument of ``compile`` may hold for one output.
LossLike = str | Loss | Callable[..., Tensor]
MetricLike = str | Metric | Callable[..., Any]

#: The names of the cross-entropy that suits the shapes of labels and predictions.
_CROSSENTROPY = ("crossentropy", "ce")


class Objective:
    """What training minimises and what it reports.

    A model has one output or several; several have names, except those of a model that only its code describes.

    Args:
        loss: for all outputs, or a list or a dictionary by output name with one for each (None for an output without
            a loss, which a dictionary may leave out). Each is a name, a function or an object.
        loss_weights: for the losses, in the same form; None is 1 for each.
        requested: the metrics. For one output a list; for several a list with one entry per output, or a dictionary by
            output name, whose entries are metrics or lists of them.
        weighted: metrics that samples count for with their weights, in the same form.
        output_names: the names of the outputs, where they are known.

    Raises:
        ValueError: for an unknown name, a loss that is not one number per batch, and anything that has another form.
    """

    def __init__(
        self,
        loss: Any,
        loss_weights: Any = None,
        requested: Any = None,
        weighted: Any = None,
        output_names: Sequence[str] | None = None,
    ) -> None:
        for name, each in (("metrics", requested), ("weighted_metrics", weighted)):
            if each is not None and not isinstance(each, list | tuple | dict):
                raise ValueError(f"{name}: expected a list, for example ['accuracy'], received {each!r}")
        # Unknown names are found now; what "accuracy" means is known only with the shapes of the data.
        self.loss = _mapped(_loss, loss)
        self.loss_weights = _mapped(_loss_weight, loss_weights)
        self.metrics = _mapped(_metric, requested)
        self.weighted_metrics = _mapped(_metric, weighted)
        self._output_names = None if output_names is None else list(output_names)
        self._outputs: list[_Output] | None = None
        self._mean = _Mean()
        self._reported: dict[str, Metric | _Mean] = {"loss": self._mean}
        if self._output_names is not None:
            self._assigned(self._output_names)  # names of outputs that there are not show before there is data

    @property
    def names(self) -> list[str]:
        """ "loss" and the names of the metrics, as in the results; without "accuracy" settled those of one output."""
        if self._outputs is not None:
            return list(self._reported)
        unnamed: list[str | None] = [None] * (len(self.loss) if isinstance(self.loss, list) else 1)
        names = self._output_names or self._names_given() or unnamed
        return list(_reported(self._mean, self._assigned(names)))

    def _names_given(self) -> list[str]:
        """The names that losses and metrics are given by, in the order of a model's that returns a dictionary."""
        if not isinstance(self.loss, dict):
            return []
        by_output = (self.loss, self.metrics, self.weighted_metrics)
        return sorted({name for given in by_output if isinstance(given, dict) for name in given})

    @property
    def settled_metrics(self) -> list[Metric]:
        """The metrics whose kind is known, in the order of the results."""
        return [metric for metric in self._reported.values() if isinstance(metric, Metric)]

    @property
    def needs_targets(self) -> bool:
        """Whether there is a loss or a metric to compute."""
        return any(each is not None for each in leaves(self.loss)) or bool(self.metrics or self.weighted_metrics)

    # -- the outputs -----------------------------------------------------------------------------------------

    def targets(self, y: Any, shapes: Any, name: str) -> list[Array | None] | None:
        """Targets in a list with one entry per output.

        Args:
            y: an array, or a list or dictionary of arrays; None for none.
            shapes: the model's output shape, or a list or dictionary of them.
            name: of the argument.

        Raises:
            ValueError: when there are not as many as outputs, or as outputs with a loss.
        """
        names = self._names_of(shapes)
        if y is None:
            if self.needs_targets:
                raise ValueError(f"{name}: expected targets for the loss and the metrics, received None")
            return None
        if isinstance(y, dict):
            return by_name(y, names, name)
        given: list[Array | None] = leaves(y)
        if len(given) == len(names):
            return given
        with_loss = [output.loss is not None for output in self._assigned(names)]
        if len(given) != sum(with_loss):
            raise ValueError(f"{name}: expected {_count(names, 'array')}, received {len(given)}")
        rest = iter(given)
        return [next(rest) if used else None for used in with_loss]

    def weights(self, weights: Any, shapes: Any, name: str) -> list[Array | None] | None:
        """Sample weights in a list with one entry per output; a single array counts for all of them.

        Raises:
            ValueError: when there are not as many as outputs, or a single array for several has more than one axis.
        """
        if weights is None:
            return None
        names = self._names_of(shapes)
        shared = not isinstance(weights, dict | list)
        if shared and len(names) > 1 and weights.ndim > 1 and weights.shape[1:] != (1,):
            raise ValueError(
                f"{name}: expected one number per sample when several outputs share them, received shape "
                f"{weights.shape}; give one array per output instead"
            )
        return _per_output(name, weights, names, "array", "arrays")

    def prepare(self, y: list[Array | None] | None, weights: list[Array | None] | None, shapes: Any) -> None:
        """Check all targets and weights against the model's output shapes, and settle what "accuracy" means.

        Raises:
            ValueError: for labels that a loss cannot take, an output without the labels that it needs, and weights that
                are not of an output's shape.
        """
        names = self._names_of(shapes)
        flat: list[Shape] = ordered(shapes, names)
        outputs = self._outputs
        if outputs is None:
            outputs = self._assigned(names)
            for place, output in enumerate(outputs):
                output.settle(None if y is None else y[place], flat[place])
        for place, output in enumerate(outputs):
            output.check(None if y is None else y[place], None if weights is None else weights[place], flat[place])
        if self._outputs is None:
            self._outputs, self._reported = outputs, _reported(self._mean, outputs)

    def forget_shapes(self) -> None:
        """Settle anew what "accuracy" means at the next :meth:`prepare`."""
        self._outputs = None

    def predictions(self, outputs: Any) -> list[Tensor]:
        """What the model gave as a list, in the order of its outputs."""
        if isinstance(outputs, Tensor):  # as nearly always, and every step of training asks
            return [outputs]
        return ordered(outputs, self._names_of(outputs))

    def _names_of(self, outputs: Any) -> list[Any]:
        """The name of each output, None where it has none."""
        if isinstance(outputs, dict):
            known = self._output_names or ()
            return list(known) if set(known) == set(outputs) else sorted(outputs)
        count = len(outputs) if _is_several(outputs) else 1
        if self._output_names is not None and len(self._output_names) == count:
            return self._output_names
        return [None] * count

    def _assigned(self, names: Sequence[str | None]) -> list[_Output]:
        """The outputs with what ``compile`` was given for each."""
        if isinstance(self.loss_weights, float) and len(names) > 1:
            raise ValueError(f"loss_weights: expected {_count(names, 'number')}, received {self.loss_weights!r}")
        of_outputs = _per_output("loss", self.loss, names)
        loss_weights = _per_output("loss_weights", self.loss_weights, names)
        if isinstance(self.loss_weights, dict):
            _check_weighed(names, of_outputs, self.loss_weights)
        plain = _metrics_per_output("metrics", self.metrics, names)
        weighted = _metrics_per_output("weighted_metrics", self.weighted_metrics, names)
        several = sum(loss is not None for loss in of_outputs) > 1
        return [_Output(*each, several) for each in zip(names, of_outputs, loss_weights, plain, weighted)]

    # -- a batch -----------------------------------------------------------------------------------------------

    def of_batch(
        self, y: list[Any] | None, predictions: list[Tensor], weights: list[Any] | None
    ) -> list[Tensor | None]:
        """The loss of each output for a batch, None where it has none; not yet times its loss weight."""
        return [
            None
            if output.loss is None or y is None
            else _of_batch(output.loss, y[place], predictions[place], weights, place)
            for place, output in enumerate(self._outputs or ())
        ]

    def total(self, found: list[Tensor | None]) -> Tensor | None:
        """The sum of the outputs' losses times their loss weights; None without any."""
        total = None
        for output, loss in zip(self._outputs or (), found):
            if loss is not None:
                part = loss if output.loss_weight is None else loss * output.loss_weight
                total = part if total is None else total + part
        return total

    def reset(self) -> None:
        """Begin all averages anew."""
        for each in self._reported.values():
            each.reset_state()

    def update(
        self,
        samples: int,
        total: Tensor,
        found: list[Tensor | None],
        y: list[Any] | None,
        predictions: list[Tensor],
        weights: list[Any] | None,
    ) -> None:
        """Take a batch into account; losses count as often as it has samples."""
        self._mean.add(total.item(), samples)
        for place, output in enumerate(self._outputs or ()):
            loss = found[place]
            if loss is not None and output.mean is not None:
                output.mean.add(loss.item(), samples)
            if y is not None and (output.metrics or output.weighted):
                output.update(y[place], predictions[place], None if weights is None else weights[place])

    def result(self) -> dict[str, Any]:
        """The averages over all samples since the last reset; of a metric of several numbers an array."""
        return {name: _as_logged(each.result()) for name, each in self._reported.items()}


class _Mean:
    """The average of a loss over samples."""

    def __init__(self) -> None:
        self.reset_state()

    def reset_state(self) -> None:
        self._total, self._samples = 0.0, 0

    def add(self, value: float, samples: int) -> None:
        self._total += value * samples
        self._samples += samples

    def result(self) -> float:
        return self._total / self._samples if self._samples else 0.0


class _Output:
    """One output of a model, with its loss and metrics."""

    def __init__(
        self,
        name: str | None,
        loss: Loss | str | None,
        loss_weight: float | None,
        requested: list[str | Metric],
        weighted: list[str | Metric],
        is_reported: bool,
    ) -> None:
        self.name, self.loss_weight = name, loss_weight
        self.loss: Any = loss
        self.metrics: list[Any] = requested
        self.weighted: list[Any] = weighted
        #: The average of the loss, where it is reported beside the sum of several.
        self.mean = _Mean() if is_reported and loss is not None else None

    def settle(self, y: Array | None, shape: Shape) -> None:
        """Replace the names whose meaning depends on the shapes of targets and output."""
        if y is None:
            return  # check() refuses what needs targets
        if isinstance(self.loss, str):
            self.loss = _crossentropy(self.loss, y.shape, shape)
        self.metrics = [_settled(metric, y.shape, shape) for metric in self.metrics]
        self.weighted = [_settled(metric, y.shape, shape) for metric in self.weighted]

    def check(self, y: Array | None, weights: Array | None, shape: Shape) -> None:
        """Check targets and weights against the output shape.

        Raises:
            ValueError: when they do not fit.
        """
        of = "" if self.name is None else f" of output {self.name!r}"
        if y is None:
            if self.loss is not None or self.metrics or self.weighted:
                raise ValueError(f"y: expected targets for the loss and the metrics{of}, received none")
        elif self.loss is not None:
            self.loss.check_targets(y, shape)
        if weights is not None:
            _check_weights(weights, (len(weights), *shape[1:]), of)

    def update(self, y: Any, predictions: Tensor, weights: Any) -> None:
        """Take a batch into account in the metrics."""
        predicted = predictions.detach().numpy()
        for metric in self.metrics:
            metric.update_state(y, predicted)
        for metric in self.weighted:
            if weights is None:
                metric.update_state(y, predicted)
            else:
                metric.update_state(y, predicted, sample_weight=weights)


# -- the arguments of compile ------------------------------------------------------------------------------------------


def ordered(outputs: Any, names: Sequence[Any]) -> list[Any]:
    """Outputs or their shapes as a list: those of a dictionary in the order of ``names``."""
    if isinstance(outputs, dict):
        return [outputs[name] for name in names]
    return list(outputs) if _is_several(outputs) else [outputs]


def _is_several(outputs: Any) -> bool:
    return isinstance(outputs, list | tuple) and not is_shape(outputs)


def by_name(given: Mapping[str, T], names: Sequence[str | None], argument: str) -> list[T | None]:
    """The values of a dictionary in the order of the outputs; None for those that it leaves out.

    Raises:
        ValueError: for a name that no output has; the message names the nearest.
    """
    known = [name for name in names if name is not None]
    for name in given:
        if name not in known:
            there = f"the outputs are {', '.join(known)}" if known else "the outputs of this model have no names"
            raise ValueError(f"{argument}: there is no output {name!r}; {there}.{nearest(name, known)}")
    return [None if name is None else given.get(name) for name in names]


def _mapped(function: Callable[[Any], T], given: Any) -> Any:
    """``function`` of one entry, or of those of a list or dictionary, also of lists in them; None stays."""
    if given is None:
        return None
    if isinstance(given, dict):
        return {name: _mapped(function, each) for name, each in given.items()}
    if isinstance(given, list | tuple):
        return [_mapped(function, each) for each in given]
    return function(given)


def _loss(identifier: LossLike) -> Loss | str:
    if isinstance(identifier, str) and identifier.lower() in _CROSSENTROPY:
        return identifier
    found = losses.get(identifier)
    if found.reduction == "none":
        raise ValueError(f"loss: expected one number per batch, received {found.name} with reduction 'none'")
    if isinstance(identifier, str):
        found.name = identifier  # as metrics have it, below
    return found


def _loss_weight(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"loss_weights: expected numbers, received {value!r}") from None


def _metric(identifier: MetricLike) -> Metric | str:
    if isinstance(identifier, str) and identifier.lower() in metrics.BY_SHAPE:
        return identifier
    found = metrics.get(identifier)
    if isinstance(identifier, str):
        found.name = identifier  # "mse" is reported as "mse", as in Keras
    return found


def _settled(metric: str | Metric, labels: Shape, output: Shape) -> Metric:
    if not isinstance(metric, str):
        return metric
    found = metrics.resolve(metric.lower(), labels, output)
    found.name = metric
    return found


def _crossentropy(name: str, labels: Shape, output: Shape) -> Loss:
    kind = "sparse_categorical" if len(labels) < len(output) or labels[-1] == 1 else "categorical"
    found = losses.get(f"{'binary' if output[-1] == 1 else kind}_crossentropy")
    found.name = name
    return found


def _per_output(
    argument: str, given: Any, names: Sequence[str | None], one: str = "entry", several: str = "entries"
) -> list[Any]:
    """One entry for each output, of a list, of a dictionary by name, in which a missing one is None, or one for all."""
    if isinstance(given, dict):
        return by_name(given, names, argument)
    if isinstance(given, list):
        if len(given) != len(names):
            raise ValueError(f"{argument}: expected {_count(names, one, several)}, received {len(given)}")
        return given
    return [given] * len(names)


def _check_weighed(names: Sequence[str | None], of_outputs: list[Any], loss_weights: Mapping[str, Any]) -> None:
    for name, loss in zip(names, of_outputs):
        if loss is not None and name is not None and name not in loss_weights:
            raise ValueError(
                f"loss_weights: expected an entry, or None, for each output with a loss; there is none for {name!r}"
            )


def _metrics_per_output(argument: str, given: Any, names: Sequence[str | None]) -> list[list[Any]]:
    """The metrics of each output."""
    if not given:
        return [[] for _ in names]
    if isinstance(given, dict):
        found = by_name(given, names, argument) if names != [None] else list(given.values())
    elif len(names) == 1:
        return [list(_flat(given))]
    else:
        found = _per_output(argument, given, names)
    return [list(_flat(each)) for each in found]


def _flat(given: Any) -> Iterable[Any]:
    """One metric, or those of a list, also of lists in it, or a dictionary."""
    if isinstance(given, dict):
        given = list(given.values())
    if isinstance(given, list):
        for each in given:
            yield from _flat(each)
    elif given is not None:
        yield given


def _count(names: Sequence[str | None], one: str, several: str = "") -> str:
    """How many there have to be, and for what."""
    if len(names) == 1:
        return f"one {one} for the model's output"
    listed = f" ({', '.join(map(str, names))})" if None not in names else ""
    return f"{len(names)} {several or one + 's'}, one for each output{listed}"


# -- a batch, and names in the logs ----------------------------------------------------------------------------------


def _of_batch(loss: Loss, y: Any, predictions: Tensor, weights: list[Any] | None, place: int) -> Tensor:
    if weights is None or weights[place] is None:
        return loss(y, predictions)
    return loss(y, predictions, sample_weight=weights[place])


def _check_weights(weights: Array, shape: Shape, of: str) -> None:
    kept = weights.shape[: len(shape)]
    fits = all(size is None or given in (1, size) for given, size in zip(kept, shape))
    if not fits or any(size != 1 for size in weights.shape[len(shape) :]):
        raise ValueError(
            f"sample_weight: expected weights of shape ({len(weights)},), or with more of the axes of the output{of}, "
            f"whose shape is {(None, *shape[1:])}; received {weights.shape}"
        )


def _reported(mean: _Mean, outputs: list[_Output]) -> dict[str, Any]:
    """What is reported by its name in the logs.

    With one output the loss, then the metrics. With several, names begin with the output's; the losses follow the sum
    of them, then the metrics by name, as Keras' ``evaluate`` lists them. What has the name of another gets a number.
    """
    taken: Counter[str] = Counter()

    def free(name: str) -> str:
        number = taken[name]
        taken[name] += 1
        return f"{name}_{number}" if number else name

    several = len(outputs) > 1
    prefixes = [f"{output.name}_" if several and output.name else "" for output in outputs]
    means: dict[str, Any] = {free("loss"): mean}
    for output in outputs:
        if output.mean is not None:
            means[free(f"{output.name or _name(output.loss)}_loss")] = output.mean
    found: dict[str, Any] = {}
    for prefix, output in zip(prefixes, outputs):
        for metric in output.metrics:
            found[free(f"{prefix}{_name(metric)}")] = metric
    for prefix, output in zip(prefixes, outputs):
        for metric in output.weighted:
            name = f"{prefix}{_name(metric)}"
            found[free(f"{prefix}weighted_{_name(metric)}" if taken[name] else name)] = metric
    return {**means, **(dict(sorted(found.items())) if several else found)}


def _as_logged(value: Any) -> Any:
    """A number of its own as a float, several as an array."""
    if type(value) is float:
        return value
    if isinstance(value, Tensor):
        value = value.detach().numpy()
    return float(np.asarray(value).item()) if np.size(value) == 1 else np.array(value)


def _name(loss_or_metric: Any) -> str:
    return loss_or_metric if isinstance(loss_or_metric, str) else loss_or_metric.name
