"""The arrays of each operation, and its algorithms made ready for them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from pycnn_kernels.algorithms import Algorithm, Prepared
from pycnn_kernels.cpu.storage import Widened
from pycnn_kernels.memory import Shape
from pycnn_kernels.problem import STORAGE_DTYPES, ConvProblem, computed, numpy_dtype


class Spec(NamedTuple):
    """What an array of an operation must be."""

    name: str
    shape: Shape
    dtype: np.dtype
    optional: bool = False


def _conv_arrays(p: Any) -> dict[str, Spec]:
    dtype = numpy_dtype(p.dtype)
    return {
        "x": Spec("x", p.x_shape, dtype),
        "w": Spec("w", p.w_shape, dtype),
        "b": Spec("b", (p.K,), dtype, optional=not p.bias),
        "scale": Spec("scale", (p.K,), dtype, optional=not p.scale),
        "residual": Spec("residual", p.y_shape, dtype, optional=not p.residual),
        "y": Spec("y", p.y_shape, dtype),
        "dx": Spec("dx", p.x_shape, dtype),
        "dw": Spec("dw", p.w_shape, dtype),
        "dy": Spec("dy", p.y_shape, dtype),
    }


def _pool_arrays(p: Any) -> dict[str, Spec]:
    dtype = numpy_dtype(p.dtype)
    return {
        "x": Spec("x", p.x_shape, dtype),
        "y": Spec("y", p.y_shape, dtype),
        "dx": Spec("dx", p.x_shape, dtype),
        "dy": Spec("dy", p.y_shape, dtype),
        "index": Spec("index", p.index_shape, np.dtype(p.index_dtype)),
        "uniform": Spec("uniform", p.index_shape, numpy_dtype(computed(p).dtype)),
    }


def _fractional_arrays(p: Any) -> dict[str, Spec]:
    dtype, positions = numpy_dtype(p.dtype), np.dtype(np.int64)
    return {
        "x": Spec("x", p.x_shape, dtype),
        "starts": Spec("starts", (p.N, p.C, sum(p.output)), positions),
        "y": Spec("y", p.y_shape, dtype),
        "index": Spec("index", p.y_shape, positions),
    }


def _put_arrays(p: Any) -> dict[str, Spec]:
    return _planes_arrays(p, p.read)


def _pick_arrays(p: Any) -> dict[str, Spec]:
    return _planes_arrays(p, p.written)


def _planes_arrays(p: Any, pixels: int) -> dict[str, Spec]:
    dtype = numpy_dtype(p.dtype)
    return {
        "x": Spec("x", p.shape(p.read), dtype),
        "index": Spec("index", p.shape(pixels), np.dtype(np.int64)),
        "y": Spec("y", p.shape(p.written), dtype),
    }


def _conv_pool_arrays(p: Any) -> dict[str, Spec]:
    return _conv_arrays(p.conv) | {"y": Spec("y", p.pool.y_shape, numpy_dtype(p.dtype))}


def _rows_arrays(p: Any) -> dict[str, Spec]:
    dtype = numpy_dtype(p.dtype)
    return {
        "x": Spec("x", (p.rows, p.columns), dtype),
        "y": Spec("y", (p.rows, p.columns), dtype),
        "labels": Spec("labels", (p.rows,), np.dtype(np.int64)),
        "losses": Spec("losses", (p.rows,), dtype),
    }


def _channels_arrays(p: Any) -> dict[str, Spec]:
    dtype = numpy_dtype(p.dtype)
    shape = (p.pixels, p.channels, p.inner)
    return {
        "dy": Spec("dy", shape, dtype),
        "y": Spec("y", shape, dtype, optional=True),
        "dz": Spec("dz", shape, dtype, optional=True),
        "db": Spec("db", (p.channels,), dtype, optional=True),
    }


def _cast_arrays(p: Any) -> dict[str, Spec]:
    return {
        "stored": Spec("stored", (p.size,), numpy_dtype(p.storage)),
        "wide": Spec("wide", (p.size,), numpy_dtype(p.dtype)),
    }


def _update_arrays(p: Any) -> dict[str, Spec]:
    dtype = numpy_dtype(p.dtype)
    state = numpy_dtype(computed(p).dtype)  # averages lose what each step adds when they are rounded to a half
    return {
        "w": Spec("w", (p.size,), dtype),
        "g": Spec("g", (p.size,), dtype),
        "m": Spec("m", (p.size,), state),
        "v": Spec("v", (p.size,), state, optional=True),
    }


#: For each operation: its arrays, and which of them are inputs, updated in place, and outputs.
_OPERATIONS: dict[str, tuple[Any, str, str, str]] = {
    "conv_forward": (_conv_arrays, "x w b scale residual", "", "y"),
    "conv_input_gradient": (_conv_arrays, "dy w", "", "dx"),
    "conv_weight_gradient": (_conv_arrays, "x dy", "", "dw"),
    "bias_activation_gradient": (_channels_arrays, "dy y", "", "dz db"),
    "conv_max_pool": (_conv_pool_arrays, "x w b scale residual", "", "y"),
    "max_pool": (_pool_arrays, "x", "", "y index"),
    "max_pool_gradient": (_pool_arrays, "dy index", "", "dx"),
    "stochastic_pool": (_pool_arrays, "x uniform", "", "y index"),
    "norm_pool": (_pool_arrays, "x", "", "y"),
    "fractional_max_pool": (_fractional_arrays, "x starts", "", "y index"),
    "put": (_put_arrays, "x index", "", "y"),
    "put_sums": (_put_arrays, "x index", "", "y"),
    "pick": (_pick_arrays, "x index", "", "y"),
    "average_pool": (_pool_arrays, "x", "", "y"),
    "average_pool_gradient": (_pool_arrays, "dy", "", "dx"),
    "softmax": (_rows_arrays, "x", "", "y"),
    "log_softmax": (_rows_arrays, "x", "", "y"),
    "cross_entropy": (_rows_arrays, "x labels", "", "losses y"),
    "widen": (_cast_arrays, "stored", "", "wide"),
    "narrow": (_cast_arrays, "wide", "", "stored"),
    "adam": (_update_arrays, "g", "w m v", ""),
    "sgd": (_update_arrays, "g", "w v", ""),
}


def array_bytes(spec: Spec) -> int:
    """The bytes of such an array."""
    return math.prod(spec.shape) * spec.dtype.itemsize


def specs(operation: str, problem: Any) -> tuple[list[Spec], list[Spec], list[Spec]]:
    """What an operation reads, what it changes in place, and what it makes anew."""
    describe, *names = _OPERATIONS[operation]
    arrays = describe(problem)
    inputs, updated, outputs = ([arrays[name] for name in kind.split()] for kind in names)
    return inputs, updated, outputs


def prepare(algorithm: Algorithm, operation: str, problem: Any) -> Prepared:
    """An algorithm ready for a problem; where its arrays are stored in halves, between their conversions."""
    prepared = algorithm.prepare(computed(problem))
    if problem.dtype not in STORAGE_DTYPES:
        return prepared
    stored = numpy_dtype(problem.dtype)

    def size(spec: Spec) -> int | None:
        """Of an array that is widened; a convolution has no optional arrays but those that its problem names."""
        absent = spec.optional and isinstance(problem, ConvProblem)
        return math.prod(spec.shape) if spec.dtype == stored and not absent else None

    return Widened(prepared, problem.dtype, *([size(spec) for spec in kind] for kind in specs(operation, problem)))
