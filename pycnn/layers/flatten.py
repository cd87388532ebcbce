"""From images to vectors."""

from __future__ import annotations

import math
from typing import Any

from pycnn.layers import arguments
from pycnn.layers.layer import Layer
from pycnn.shapes import Shape
from pycnn.tensor import Tensor


class Flatten(Layer):
    """Lays out each sample as one vector, in the order (height, width, channels).

    Args:
        data_format: order of the input's axes, "channels_last" (the default) or "channels_first"; in both the
            channels vary fastest in the output, so that weights of the next layer mean the same.
        **kwargs: as for :class:`Layer`.

    Source: Keras 3, keras.layers.Flatten.

    >>> import numpy as np
    >>> Flatten()(np.zeros((5, 7, 7, 40))).shape
    (5, 1960)
    """

    def __init__(self, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_format = arguments.data_format(data_format)
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        """``inputs`` as (batch, features)."""
        if self.data_format == "channels_first" and inputs.ndim > 2:
            inputs = inputs.transpose(0, *range(2, inputs.ndim), 1)
        # Not -1: a batch of zero samples has no size from which to infer the other axis.
        return inputs.reshape(inputs.shape[0], math.prod(inputs.shape[1:]))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """(batch, product of the other sizes); None where one of them is unknown."""
        features = 1
        for size in input_shape[1:]:
            if size is None:
                return (input_shape[0], None)
            features *= size
        return (input_shape[0], features)
