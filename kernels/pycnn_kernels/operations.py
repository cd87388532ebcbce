"""The arrays of each operation, and its algorithms made ready for them."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from pycnn_kernels.algorithms import Algorithm, Prepared
from pycnn_kernels.cpu.storage import Widened
from pycnn_kernels.memory import Shape
from pycnn_kernels.problem import STORAGE_DTYPES, ConvProblem, computed, numpy_dtype
from pycnn_kernels.updates import RULES


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


def _norm_arrays(p: Any) -> dict[str, Spec]:
    """What the elements of a pooling are normalised with, in the dtype in which they are."""
    dtype = numpy_dtype(computed(p).dtype)
    absent = {"norm_mean": not p.normalised, "norm_scale": not p.normalised, "norm_bias": True}
    return {name: Spec(name, (p.C,), dtype, optional) for name, optional in absent.items()}


def _pool_arrays(p: Any) -> dict[str, Spec]:
    dtype, wide = numpy_dtype(p.dtype), numpy_dtype(computed(p).dtype)
    return _norm_arrays(p) | {
        "x": Spec("x", p.x_shape, dtype),
        "y": Spec("y", p.y_shape, dtype),
        "dx": Spec("dx", p.x_shape, dtype),
        "dy": Spec("dy", p.y_shape, dtype),
        "index": Spec("index", p.index_shape, np.dtype(p.index_dtype)),
        "bias": Spec("bias", (p.C,), dtype, optional=True),
        "uniform": Spec("uniform", p.index_shape, wide),
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


def _placed_arrays(p: Any) -> dict[str, Spec]:
    dtype = numpy_dtype(p.dtype)
    shapes = {"x": p.x_shape, "y": p.y_shape, "dx": p.x_shape, "dy": p.y_shape}
    return {name: Spec(name, shape, dtype) for name, shape in shapes.items()} | {"fill": Spec("fill", (1,), dtype)}


def _conv_pool_arrays(p: Any) -> dict[str, Spec]:
    pooled = _pool_arrays(p.pool)
    return _conv_arrays(p.conv) | _norm_arrays(p.pool) | {name: pooled[name] for name in ("y", "index")}


def _conv_pool_gradient_arrays(p: Any) -> dict[str, Spec]:
    arrays, pooled = _conv_pool_arrays(p), _pool_arrays(p.pool)
    return arrays | {
        "dy": pooled["dy"],
        "y": pooled["y"]._replace(optional=p.conv.activation is None),
        "db": arrays["b"]._replace(name="db"),
    }


def _rows_arrays(p: Any) -> dict[str, Spec]:
    dtype = numpy_dtype(p.dtype)
    return {
        "x": Spec("x", (p.rows, p.columns), dtype),
        "y": Spec("y", (p.rows, p.columns), dtype),
        "labels": Spec("labels", (p.rows,), np.dtype(np.int64)),
        "losses": Spec("losses", (p.rows,), dtype),
    }


def _layer_norm_arrays(p: Any) -> dict[str, Spec]:
    dtype = numpy_dtype(p.dtype)
    every, each = (p.rows, p.columns), (p.columns,)
    return {
        "x": Spec("x", every, dtype),
        "weight": Spec("weight", each, dtype, optional=True),
        "bias": Spec("bias", each, dtype, optional=True),
        "y": Spec("y", every, dtype),
        "statistics": Spec("statistics", (p.rows, 3), numpy_dtype(computed(p).dtype)),
        "dy": Spec("dy", every, dtype),
        "dx": Spec("dx", every, dtype, optional=True),
        "dweight": Spec("dweight", each, dtype, optional=True),
        "dbias": Spec("dbias", each, dtype, optional=True),
    }


def _channels_arrays(p: Any) -> dict[str, Spec]:
    dtype = numpy_dtype(p.dtype)
    shape = p.shape
    return {
        "dy": Spec("dy", shape, dtype),
        "y": Spec("y", shape, dtype, optional=True),
        "dz": Spec("dz", shape, dtype, optional=True),
        "db": Spec("db", (p.channels,), dtype, optional=True),
    }


def _batch_norm_arrays(p: Any) -> dict[str, Spec]:
    dtype = numpy_dtype(p.dtype)
    every, each = p.shape, (p.channels,)
    required = {name: Spec(name, every, dtype) for name in ("x", "dy")}
    required |= {name: Spec(name, each, dtype) for name in ("mean", "rstd", "scale")}
    optional = {name: Spec(name, every, dtype, optional=True) for name in ("y", "dx")}
    names = ("weight", "bias", "running_mean", "running_var", "dweight", "dbias", "db")
    return required | optional | {name: Spec(name, each, dtype, optional=True) for name in names}


def _running_norm_arrays(p: Any) -> dict[str, Spec]:
    arrays = _batch_norm_arrays(p)
    arrays |= {name: arrays[name]._replace(optional=False) for name in ("running_mean", "running_var")}
    scale = arrays["scale"]
    return arrays | {"offset": scale._replace(name="offset"), "before": scale._replace(name="before", optional=True)}


def _batch_norm_pool_arrays(p: Any) -> dict[str, Spec]:
    arrays, dtype = _pool_arrays(p), numpy_dtype(p.dtype)
    arrays |= {name: Spec(name, (p.C,), dtype) for name in ("mean", "rstd")}
    names = ("weight", "bias", "running_mean", "running_var", "dweight", "dbias", "db")
    return arrays | {name: Spec(name, (p.C,), dtype, optional=True) for name in names}


def _response_norm_arrays(p: Any) -> dict[str, Spec]:
    dtype = numpy_dtype(p.dtype)
    return {name: Spec(name, p.shape, dtype) for name in ("x", "y", "dy", "dx")}


def _activation_arrays(p: Any) -> dict[str, Spec]:
    return {name: Spec(name, (p.size,), numpy_dtype(p.dtype)) for name in ("x", "y", "dy", "dx")}


def _loss_arrays(p: Any) -> dict[str, Spec]:
    dtype = numpy_dtype(p.dtype)
    arrays = {name: Spec(name, (p.size,), dtype) for name in ("x", "t", "y", "dx")}
    dy = Spec("dy", (1,) if p.summed else (p.size,), dtype)
    return arrays | {"dy": dy, "total": Spec("total", (1,), dtype)}


def _cast_arrays(p: Any) -> dict[str, Spec]:
    return {
        "stored": Spec("stored", (p.size,), numpy_dtype(p.storage)),
        "wide": Spec("wide", (p.size,), numpy_dtype(p.dtype)),
    }


def _updates_arrays(p: Any) -> dict[str, list[Spec]]:
    dtype = numpy_dtype(p.dtype)
    state = numpy_dtype(computed(p).dtype)  # averages lose what each step adds when they are rounded to a half

    def each(name: str, held: np.dtype) -> list[Spec]:
        return [_numbered(name, number, shape, held) for number, shape in enumerate(p.shapes)]

    return {
        "g": each("g", dtype),
        "w": each("w", dtype),
        "state": [spec for name in RULES[p.rule].state for spec in each(name, state)],
    }


@lru_cache(maxsize=4096)
def _numbered(kind: str, number: int, shape: Shape, dtype: np.dtype) -> Spec:
    """Shared by plans: those of a network whose steps change now these parameters, now those, have most in common."""
    return Spec(f"{kind}{number}", shape, dtype)


#: For each operation: its arrays, and which of them are inputs, updated in place, and outputs. A name can stand for
#: several arrays: "w" of an optimizer's step for w0, w1, ..., the parameters.
_OPERATIONS: dict[str, tuple[Any, str, str, str]] = {
    "conv_forward": (_conv_arrays, "x w b scale residual", "", "y"),
    "conv_input_gradient": (_conv_arrays, "dy w", "", "dx"),
    "conv_weight_gradient": (_conv_arrays, "x dy", "", "dw"),
    "bias_activation_gradient": (_channels_arrays, "dy y", "", "dz db"),
    "batch_norm": (_batch_norm_arrays, "x weight bias", "running_mean running_var", "y mean rstd"),
    "batch_norm_running": (_running_norm_arrays, "x running_mean running_var weight bias", "", "y"),
    "batch_norm_scale": (_running_norm_arrays, "running_var weight", "", "scale"),
    "batch_norm_fold": (_running_norm_arrays, "running_mean running_var weight bias before", "", "scale offset"),
    "batch_norm_max_pool": (_batch_norm_pool_arrays, "x weight bias", "running_mean running_var", "y index mean rstd"),
    "batch_norm_gradient": (_batch_norm_arrays, "dy x y weight mean rstd", "", "dx dweight dbias db"),
    "batch_norm_max_pool_gradient": (_batch_norm_pool_arrays, "dy index x weight mean rstd", "", "dx dweight dbias db"),
    "conv_max_pool": (_conv_pool_arrays, "x w b scale residual norm_mean norm_scale norm_bias", "", "y index"),
    "conv_max_pool_weight_gradient": (_conv_pool_gradient_arrays, "x dy index y", "", "dw db"),
    "max_pool": (_pool_arrays, "x bias norm_mean norm_scale norm_bias", "", "y index"),
    "max_pool_gradient": (_pool_arrays, "dy index", "", "dx"),
    "stochastic_pool": (_pool_arrays, "x uniform", "", "y index"),
    "norm_pool": (_pool_arrays, "x", "", "y"),
    "fractional_max_pool": (_fractional_arrays, "x starts", "", "y index"),
    "put": (_put_arrays, "x index", "", "y"),
    "put_sums": (_put_arrays, "x index", "", "y"),
    "pick": (_pick_arrays, "x index", "", "y"),
    "rearrange": (_placed_arrays, "x fill", "", "y"),
    "rearrange_gradient": (_placed_arrays, "dy", "", "dx"),
    "resample": (_placed_arrays, "x", "", "y"),
    "resample_gradient": (_placed_arrays, "dy", "", "dx"),
    "average_pool": (_pool_arrays, "x", "", "y"),
    "average_pool_gradient": (_pool_arrays, "dy", "", "dx"),
    "softmax": (_rows_arrays, "x", "", "y"),
    "log_softmax": (_rows_arrays, "x", "", "y"),
    "cross_entropy": (_rows_arrays, "x labels", "", "losses y"),
    "layer_norm": (_layer_norm_arrays, "x weight bias", "", "y statistics"),
    "layer_norm_gradient": (_layer_norm_arrays, "dy x weight statistics", "", "dx dweight dbias"),
    "rms_norm": (_layer_norm_arrays, "x weight bias", "", "y statistics"),
    "rms_norm_gradient": (_layer_norm_arrays, "dy x weight statistics", "", "dx dweight dbias"),
    "response_norm": (_response_norm_arrays, "x", "", "y"),
    "response_norm_gradient": (_response_norm_arrays, "dy x", "", "dx"),
    "activation": (_activation_arrays, "x", "", "y"),
    "activation_gradient": (_activation_arrays, "dy x", "", "dx"),
    "loss": (_loss_arrays, "x t", "", "y"),
    "loss_sum": (_loss_arrays, "x t", "", "total"),
    "loss_gradient": (_loss_arrays, "dy x t", "", "dx"),
    "widen": (_cast_arrays, "stored", "", "wide"),
    "narrow": (_cast_arrays, "wide", "", "stored"),
    "updates": (_updates_arrays, "g", "w state", ""),
}


def array_bytes(spec: Spec) -> int:
    """The bytes of such an array."""
    return math.prod(spec.shape) * spec.dtype.itemsize


def specs(operation: str, problem: Any) -> tuple[list[Spec], list[Spec], list[Spec]]:
    """What an operation reads, what it changes in place, and what it makes anew."""
    describe, *names = _OPERATIONS[operation]
    arrays = describe(problem)
    inputs, updated, outputs = ([spec for name in kind.split() for spec in _listed(arrays[name])] for kind in names)
    return inputs, updated, outputs


def _listed(found: Spec | list[Spec]) -> list[Spec]:
    return found if isinstance(found, list) else [found]


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
