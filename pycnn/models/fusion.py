"""Which layers of a model run in one pass, and how: the one place that knows."""

from __future__ import annotations

from collections.abc import Sequence

from pycnn.layers.batch_normalization import BatchNormalization
from pycnn.layers.convolutional import Conv2D
from pycnn.layers.layer import Layer
from pycnn.tensor import Tensor


def begins_pass(layer: Layer) -> bool:
    """Whether there are layers that a layer can be one pass with."""
    return isinstance(layer, Conv2D | BatchNormalization)


def in_one_pass(
    layers: Sequence[Layer], others: Sequence[Sequence[Tensor | None]], inputs: Tensor, training: bool
) -> tuple[Tensor, int] | None:
    """What the first layers of a chain give in turn, computed in one pass.

    Args:
        layers: a layer of which :func:`begins_pass` is true, and those behind it, each of which is the only one that
            reads the result of the one before.
        others: for each layer but the first what it is called on beside that result; None where that is not there yet.
        inputs: of the first layer.
        training: whether the model is trained.

    Returns:
        The output, and how many of the layers it is the output of; None where the first layer is to run alone.
    """
    first, above, next_above = (*layers, None, None)[:3]
    if isinstance(first, Conv2D | BatchNormalization) and first.can_pool(above, training):
        return first.max_pooled(inputs, above), 2
    if not isinstance(first, Conv2D):
        return None
    if isinstance(above, BatchNormalization) and first.can_pool(next_above, training, above):
        return first.max_pooled(inputs, next_above, above), 3
    if first.can_normalise(above, training):
        pooling = next_above if first.has_maps_for(next_above) else None
        return first.normalised(inputs, above, pooling), 2 if pooling is None else 3
    return None
