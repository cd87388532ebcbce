"""Features brought to mean 0 and variance 1 by what is known of the data."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pycnn import backend as backends
from pycnn import changes
from pycnn.functional.arguments import data_of, rounded, widened
from pycnn.layers import arguments
from pycnn.layers.layer import Layer
from pycnn.shapes import Shape
from pycnn.tensor import Tensor

#: A deviation below this one is taken for it, so that a feature that never changes becomes 0.
_LEAST_DEVIATION = 1e-7


class Normalization(Layer):
    """``(inputs - mean) / sqrt(variance)``, with the mean and the variance of the data.

    They are given, or :meth:`adapt` finds them; until then they are 0 and 1.

    Args:
        axis: the axis or the axes of the features, each of which has a mean and a variance of its own; None for one of
            everything. Not the batch's, 0.
        mean, variance: numbers, or arrays that fit the sizes of these axes; both or neither.
        invert: whether to go back instead: ``inputs * sqrt(variance) + mean``.
        **kwargs: as for :class:`Layer`.

    Attributes:
        mean, variance: as tensors that fit the inputs; None before the layer is built.

    Raises:
        ValueError: for an axis that is none, a mean without a variance or of another shape; when called, for inputs
            without such axes, or that the mean does not fit.

    Source: Keras 3, keras.layers.Normalization.

    >>> import numpy as np
    >>> layer = Normalization()
    >>> layer.adapt(np.array([[0.0, 7.0], [2.0, 9.0], [0.0, 7.0], [2.0, 9.0]]))
    >>> layer(np.array([[0.0, 10.0]])).numpy()
    array([[-1.,  2.]], dtype=float32)
    >>> Normalization(mean=3.0, variance=4.0)(np.array([[1.0], [3.0]])).numpy().ravel()
    array([-1.,  0.], dtype=float32)
    """

    def __init__(
        self,
        axis: int | Iterable[int] | None = -1,
        mean: ArrayLike | None = None,
        variance: ArrayLike | None = None,
        invert: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.axis = () if axis is None else arguments.integers(axis, "axis", or_one=True)
        self.input_mean, self.input_variance = mean, variance
        #: What was given under the names of attributes that tell what is used.
        self._arguments = {
            name: None if value is None else np.asarray(value).tolist()
            for name, value in (("mean", mean), ("variance", variance))
        }
        self.invert = bool(invert)
        if (mean is None) != (variance is None):
            raise ValueError(f"{self}: expected both mean and variance or neither, received {mean!r} and {variance!r}")
        self._fixed = None if mean is None else (_numbers("mean", mean), _numbers("variance", variance))
        if self._fixed is not None:
            shapes = [numbers.shape for numbers in self._fixed]
            if shapes[0] != shapes[1] or len(shapes[0]) > len(self.axis):
                raise ValueError(
                    f"{self}: expected a mean and a variance of one shape, with at most the axes {self.axis}, received "
                    f"the shapes {shapes[0]} and {shapes[1]}"
                )

    def build(self, input_shape: Shape) -> None:
        """Make the weights ``mean``, ``variance`` and ``count``, unless the first two were given.

        Raises:
            ValueError: for inputs without such axes, or that the mean does not fit.
        """
        kept = self._kept_sizes(input_shape)
        self._broadcast_shape = self._shape_that_fits(input_shape)
        sizes = tuple(kept.values())
        if self._fixed is not None:
            if not _fits(self._fixed[0].shape, sizes):
                raise ValueError(
                    f"{self}: expected features of shape {self._fixed[0].shape}, that of the mean, received input "
                    f"shape {input_shape} with axes {self.axis}"
                )
            self._statistics = [
                Tensor(np.broadcast_to(numbers, sizes).reshape(self._broadcast_shape).astype(self.dtype), backend="cpu")
                for numbers in self._fixed
            ]
            return
        self._statistics = [
            self.add_weight(sizes, initializer, trainable=False, name=name)
            for name, initializer in (("mean", "zeros"), ("variance", "ones"))
        ]
        # Nothing counts with it: files of Keras' have it.
        self.add_weight((), "zeros", dtype="int32", trainable=False, name="count")

    def _kept_sizes(self, input_shape: Shape) -> dict[int, int]:
        """The sizes of the features' axes, by the axes, in order.

        Raises:
            ValueError: for inputs without such axes.
        """
        rank = len(input_shape)
        found: dict[int, int] = {}
        for axis in sorted(axis % rank if -rank <= axis < rank else 0 for axis in self.axis):
            size = input_shape[axis]
            if axis == 0 or size is None:
                raise ValueError(
                    f"{self}: expected inputs with the axes {self.axis} behind that of the batch, and of known sizes, "
                    f"received input shape {input_shape}"
                )
            found[axis] = size
        return found

    def _shape_that_fits(self, input_shape: Shape) -> tuple[int, ...]:
        """That of a mean, with 1 for the axes of no features; raises as :meth:`_kept_sizes`."""
        kept = self._kept_sizes(input_shape)
        return tuple(kept.get(axis, 1) for axis in range(len(input_shape)))

    @property
    def mean(self) -> Tensor | None:
        """The mean, of a shape that fits the inputs; None before the layer is built."""
        return self._statistics[0].detach().reshape(self._broadcast_shape) if self.built else None

    @property
    def variance(self) -> Tensor | None:
        """The variance, likewise."""
        return self._statistics[1].detach().reshape(self._broadcast_shape) if self.built else None

    def call(self, inputs: Tensor) -> Tensor:
        """``inputs``, normalised, or brought back if the layer inverts."""
        mean, variance = (
            widened(Tensor(inputs.backend.asarray(data_of(each))).reshape(self._broadcast_shape))
            for each in self._statistics
        )
        deviation, wide = variance.sqrt().clip(_LEAST_DEVIATION), widened(inputs)
        outputs: Tensor = wide * deviation + mean if self.invert else (wide - mean) / deviation
        return rounded(outputs, inputs.dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """``input_shape``.

        Raises:
            ValueError: for another number of axes than before, or other sizes of the features.
        """
        if self._shape_that_fits(input_shape) != self._broadcast_shape:
            raise ValueError(
                f"{self}: expected inputs like those that it was built for, with {len(self._broadcast_shape)} axes and "
                f"features {self._broadcast_shape}, received input shape {input_shape}"
            )
        return input_shape

    def adapt(self, data: ArrayLike | Tensor | Iterable[Any]) -> None:
        """Find the mean and the variance of data, which replace those of earlier calls.

        Args:
            data: an array or a tensor, the first axis that of the batch; or batches of such, in a list or from a
                generator. A batch that is a tuple counts with its first part, the inputs.

        Raises:
            TypeError: the batches are no arrays.
            ValueError: the layer was given a mean; there are no data; the layer cannot take data of this shape.

        Source: T. Chan, G. Golub and R. LeVeque, "Updating formulae and a pairwise algorithm for computing sample
        variances" (1982), for batches.
        """
        if self._fixed is not None:
            raise ValueError(f"{self}: expected no data, for the mean was given, received some")
        total, mean, variance = 0, np.zeros(()), np.zeros(())
        for batch in _parts(data):
            part = batch[0] if isinstance(batch, tuple) and batch else batch
            if not _is_array(part):
                raise TypeError(f"{self}: expected an array or batches that are arrays, received {part!r}")
            count, its_mean, its_variance = self._moments(part)
            total += count
            share = count / max(total, 1)
            distance = its_mean - mean
            variance = (1 - share) * variance + share * its_variance + share * (1 - share) * distance**2
            mean = mean + share * distance
        if not total:
            raise ValueError(f"{self}: expected data to adapt to, received none")
        for weight, found in zip(self._statistics, (mean, variance)):
            weight.data[...] = weight.backend.asarray(found.astype(weight.dtype))
            changes.note(weight.data, "adapt")

    def _moments(self, batch: Any) -> tuple[int, np.ndarray, np.ndarray]:
        """How many numbers of each feature a batch has, their mean and their variance, in float64."""
        array = data_of(batch) if isinstance(batch, Tensor) else backends.asarray(batch)
        self.accept_shape(array.shape)
        reduced = tuple(axis for axis in range(array.ndim) if axis not in self._kept_sizes(array.shape))
        count = math.prod(array.shape[axis] for axis in reduced)
        if not count:
            return 0, np.zeros(()), np.zeros(())
        here, wide = backends.of(array), array.astype(np.float64)
        return count, here.to_host(wide.mean(axis=reduced)), here.to_host(wide.var(axis=reduced))


#: Samples of an array that are looked at together, so that float64 copies of large data are small.
_SAMPLES = 1024


def _parts(data: Any) -> Iterable[Any]:
    """The batches of data: an array's are parts of it."""
    if not _is_array(data):
        return data
    return (data[first : first + _SAMPLES] for first in range(0, len(data), _SAMPLES))


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _numbers(name: str, value: ArrayLike | None) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{name}: expected numbers, received {value!r}")
    return array


def _fits(shape: tuple[int, ...], sizes: tuple[int, ...]) -> bool:
    """Whether an array of this shape broadcasts to these sizes."""
    try:
        return np.broadcast_shapes(shape, sizes) == sizes
    except ValueError:
        return False
