"""What a model is given, checked before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pycnn.models.data import (
    Batches,
    Samples,
    check_lengths,
    converted,
    each_array,
    read,
    weights_of_classes,
)
from pycnn.models.feed import Feed, Items, Iterated, Source
from pycnn.models.objective import Objective, ordered
from pycnn.shapes import is_shape
from pycnn.structures import mapped
from pycnn.tensor import Tensor
from pycnn_kernels.problem import numpy_dtype

if TYPE_CHECKING:
    from pycnn.models.model import Model


class Intake:
    """Reads what a model is given into the form in which the loops of training take it, and checks it.

    Args:
        model: it is built by the first inputs.
        objective: what the targets are for; None where there are none.
        name: goes before the names of the arguments in messages.
    """

    def __init__(self, model: Model, objective: Objective | None = None, name: str = "") -> None:
        self._model, self._objective, self._name = model, objective, name
        self._output_shapes: Any = None

    def arrays(self, x: Any, y: Any = None, sample_weight: Any = None, class_weight: Any = None) -> Samples:
        """Arrays as samples; builds the model where that has not happened yet.

        Raises:
            TypeError, ValueError: for anything that the model, its losses or its metrics cannot take.
        """
        inputs = self._inputs(read(x, f"{self._name}x"))
        if self._objective is None:
            self._fit(inputs)
            return Samples(inputs)
        targets = None if y is None else read(y, f"{self._name}y")
        weights = None if sample_weight is None else read(sample_weight, f"{self._name}sample_weight")
        check_lengths(inputs, targets, weights, self._name)
        self._fit(inputs)
        shapes, objective = self._output_shapes, self._objective
        aligned = objective.targets(targets, shapes, f"{self._name}y")
        of_samples = objective.weights(weights, shapes, f"{self._name}sample_weight")
        objective.prepare(aligned, of_samples, shapes)
        samples = Samples(inputs, aligned, of_samples)
        return samples if class_weight is None else self.weighed(samples, class_weight)

    def weighed(self, samples: Samples, class_weight: Mapping[int, float]) -> Samples:
        """The samples with the weights of their classes.

        Raises:
            ValueError: when the model has several outputs, or there are no labels.
        """
        if samples.y is None or len(samples.y) != 1 or samples.y[0] is None:
            raise ValueError("class_weight: expected none for a model with several outputs, or without labels")
        (shape,) = ordered(self._output_shapes, list(self._output_shapes))
        return samples._replace(weights=[weights_of_classes(samples.y[0], class_weight, shape)])

    def batch(self, x: Any, y: Any = None, sample_weight: Any = None, *, class_weight: Any = None) -> Samples:
        """Arrays as one batch, the inputs of the model's dtype.

        Raises:
            TypeError, ValueError: as :meth:`arrays`.
        """
        samples = self.arrays(x, y, sample_weight, class_weight)
        dtype = numpy_dtype(self._model.dtype)
        return samples._replace(x=each_array(lambda array: converted(array, dtype), samples.x))

    def feed(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        batch_size: int | None = None,
        steps: int | None = None,
        class_weight: Any = None,
        shuffle: bool | str = False,
    ) -> Feed:
        """Everything that ``fit`` takes, as what hands out its batches.

        Raises:
            TypeError, ValueError: as :meth:`arrays`; for targets or weights beside a source of batches; for a source
                without any.
        """
        if not gives_batches(x):
            return self.feed_of(self.arrays(x, y, sample_weight, class_weight), batch_size, steps, shuffle)
        kind = type(x).__name__
        for argument, value in (("y", y), ("sample_weight", sample_weight)):
            if value is not None:
                raise ValueError(
                    f"{self._name}{argument}: expected none beside a {kind}, whose batches are (x, y) or "
                    f"(x, y, sample_weight); received {_described(value)}"
                )
        source: Source
        if _has_items(x):
            source = Items(x, lambda given: self._read_batch(given, class_weight))
            if source.steps is None and steps is None:
                raise ValueError(
                    f"{self._name}x: expected a number of steps for a {kind} without an end, received None"
                )
        elif class_weight is None:
            source = Iterated(x, self._read_batch)
        else:
            raise ValueError(
                f"class_weight: expected none beside a {kind}; its batches may be (x, y, sample_weight) instead"
            )
        feed = Feed(source, steps, shuffle)
        if not feed.has_more():
            raise ValueError(f"{self._name}x: expected a {kind} with at least one batch, received one without any")
        return feed

    def feed_of(self, samples: Samples, batch_size: int | None, steps: int | None, shuffle: bool | str = False) -> Feed:
        """What hands out the batches of samples; without a size 32 of them, or as many as ``steps`` batches need."""
        if batch_size is None:
            batch_size = 32 if steps is None else max(1, math.ceil(samples.size / steps))
        return Feed(Batches(samples, batch_size, self._model.dtype), steps, shuffle)

    def _read_batch(self, given: Any, class_weight: Any = None) -> Samples:
        """What a source gave as a batch: (x,), (x, y) or (x, y, sample_weight), or inputs alone."""
        parts = tuple(given) if isinstance(given, tuple | list) else (given,)
        if not 1 <= len(parts) <= 3:
            raise ValueError(
                f"{self._name}x: expected batches of (x,), (x, y) or (x, y, sample_weight), received one of "
                f"{len(parts)} parts"
            )
        if class_weight is not None and len(parts) == 3:
            raise ValueError("class_weight: expected none beside batches with sample weights")
        return self.batch(*parts, class_weight=class_weight)

    def _inputs(self, x: Any) -> Any:
        """Inputs as the model takes them: a list of one for a model of one input is that one."""
        if isinstance(x, list) and is_shape(self._model.declared_input_shape):
            if len(x) != 1:
                raise ValueError(
                    f"{self._name}x: expected one array for {self._model}, received a list of {len(x)}; np.stack makes "
                    f"one of arrays that are samples"
                )
            return x[0]
        return x

    def _fit(self, x: Any) -> None:
        """Build the model for these inputs, or check that they have its input shapes."""
        self._output_shapes = self._model.accept_shape(mapped(lambda array: array.shape, x))


def check_class_weight(class_weight: Any, sample_weight: Any) -> None:
    """Check weights of classes by themselves.

    Raises:
        ValueError: when they are no numbers by class number, or there are sample weights, too.
    """
    if class_weight is None:
        return
    if sample_weight is not None:
        raise ValueError("class_weight: expected none beside sample_weight, received both")
    if not isinstance(class_weight, Mapping) or not all(
        isinstance(key, int | np.integer) and isinstance(value, int | float | np.number)
        for key, value in class_weight.items()
    ):
        raise ValueError(
            f"class_weight: expected a dictionary of numbers by class number, for example {{0: 1.0, 1: 5.0}}, received "
            f"{class_weight!r}"
        )


def gives_batches(x: Any) -> bool:
    """Whether this is no array, and no list or dictionary of them, but gives batches."""
    if isinstance(x, Tensor | Sequence | Mapping) or any(hasattr(x, name) for name in _ARRAY_PROTOCOLS):
        return False
    return _has_items(x) or isinstance(x, Iterable)


_ARRAY_PROTOCOLS = ("ndim", "__array__", "__array_interface__", "__cuda_array_interface__", "__dlpack__")


def _has_items(x: Any) -> bool:
    return hasattr(x, "__getitem__") and (hasattr(x, "__len__") or hasattr(x, "num_batches"))


def _described(value: Any) -> str:
    return f"an object of type {type(value).__name__}" if hasattr(value, "__len__") else repr(value)
