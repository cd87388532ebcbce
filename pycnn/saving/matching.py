"""What a file has for the weights of a model: held against them first, and then all taken, or nothing."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from pycnn.layers.layer import Layer, overwrite
from pycnn.saving.errors import InvalidFileError
from pycnn.saving.paths import joined, weights_by_path
from pycnn.tensor import Tensor
from pycnn_kernels.problem import is_floating


class Found(NamedTuple):
    """What a file has for a model.

    Attributes:
        pairs: by the name of a weight, the weight and what the file has for it, with its shape and dtype.
        problems: what does not fit, each in a sentence.
    """

    pairs: dict[str, tuple[Tensor, np.ndarray]]
    problems: list[str]


def matched(arrays: Mapping[str, np.ndarray], model: Layer, what: str) -> Found:
    """What arrays, named as by :func:`named_arrays`, are for a model."""
    pairs: dict[str, tuple[Tensor, np.ndarray]] = {}
    problems = []
    rest = dict(arrays)
    for path, weights in weights_by_path(model).items():
        for name, weight in weights.items():
            full = joined(path, name)
            if full not in rest:
                problems.append(f"{full} is missing")
                continue
            array = rest.pop(full)
            problem = misfit(full, weight, array.shape, array.dtype)
            if problem:
                problems.append(problem)
            else:
                pairs[full] = weight, array
    problems += [f"the model has no {name}" for name in rest]
    return Found(pairs, problems)


def misfit(name: str, weight: Tensor, shape: tuple[int, ...], dtype: np.dtype) -> str | None:
    """Why values of a shape and dtype cannot become a weight; None where they can.

    Floating point of any precision becomes floating point of any other, as in Keras.
    """
    if tuple(shape) != weight.shape:
        return f"{name}: expected shape {weight.shape}, received {tuple(shape)}"
    if not (is_floating(weight.dtype) and is_floating(dtype)) and weight.dtype != dtype:
        return f"{name}: expected {weight.dtype} numbers, received {dtype}"
    return None


def take(found: Found, what: str, skip_mismatch: bool = False) -> None:
    """Overwrite weights with what was found for them; all, or, where something does not fit, none.

    Raises:
        InvalidFileError: something does not fit, and is not to be skipped.
    """
    if found.problems:
        listed = _listed(found.problems)
        if not skip_mismatch:
            raise InvalidFileError(f"{what}: expected the weights of the model; {listed}. Nothing was changed")
        warnings.warn(f"{what}: some weights were left as they are: {listed}", stacklevel=4)
    for weight, array in found.pairs.values():
        overwrite(weight, np.asarray(array).astype(weight.dtype, copy=False), "load_weights")


def _listed(problems: list[str]) -> str:
    """The first few of many."""
    shown, more = problems[:5], len(problems) - 5
    return "; ".join(shown) + (f"; and {more} more" if more > 0 else "")
