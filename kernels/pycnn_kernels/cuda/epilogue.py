"""What a convolution does to its sums before it writes them: ``y = activation(scale * sum + bias + residual)``."""

from __future__ import annotations

import math
from typing import Any

from pycnn_kernels.cuda.compile import device_function
from pycnn_kernels.problem import ConvProblem

#: The fields that a kernel with an epilogue has beside its own. The arrays are addresses that each run gives, in the
#: order of :data:`EPILOGUE_ARRAYS`; those that a problem does not have are 0.
EPILOGUE_FIELDS = {"bias": "source", "scale": "source", "residual": "source", "slope": "float"}
EPILOGUE_ARRAYS = "bias scale residual"


def epilogue_constants(p: ConvProblem, forward: bool = True) -> dict[str, Any]:
    """What a factory is called with, for :func:`epilogue`; a gradient has no epilogue."""
    if not forward:
        return {"bias": False, "scale": False, "residual": False, "activation": None}
    return {"bias": p.bias, "scale": p.scale, "residual": p.residual, "activation": p.activation}


def epilogue(dtype: Any, bias: bool, scale: bool, residual: bool, activation: str | None) -> Any:
    """A device function ``finished(a, total, channel, place)``: what becomes of the sum of an output channel.

    ``place`` is where it is written in y, and so where its element of the residual lies. NaN stays NaN.
    """
    zero, one = dtype(0), dtype(1)

    @device_function
    def finished(a, total, channel, place):
        if scale:
            total *= a.scale[channel]
        if bias:
            total += a.bias[channel]
        if residual:
            total += a.residual[place]
        if activation == "relu":
            total = zero if total < zero else total
        elif activation == "leaky_relu":
            total = a.slope * total if total < zero else total
        elif activation == "tanh":
            total = math.tanh(total)
        elif activation == "sigmoid":
            total = one / (one + math.exp(-total))
        return total

    return finished
