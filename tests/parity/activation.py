"""Calls of activations, and of softmax."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.parity.call import Call, Case, Limit, arrays, normal, seldom, shapes, torch, up_to

#: Numbers at which activations bend, or which are none.
_KINKS = [-100.0, -6.0, -3.0, -1.0, -0.5, -0.0, 0.0, 0.5, 1.0, 3.0, 6.0, 20.0, 25.0, 100.0]
_NUMBERS = st.sampled_from(
    [-1.5, -1, -0.5, 0.25, 0.5, 1, 2.5]  # exact in float32, in which PyTorch has some of them
)
_NO_NUMBERS = st.sampled_from(["one", None])


@st.composite
def inputs(draw: st.DrawFn, integers: bool = True) -> np.ndarray:
    """Normal numbers, some of them kinks; of any number of axes, empty at times; at times integers or booleans."""
    x = np.asarray(draw(arrays(shapes())) * draw(st.sampled_from([1, 5])))
    for place in draw(st.lists(st.integers(0, 1000), max_size=4)) if x.size else []:
        x.reshape(-1)[place % x.size] = draw(st.sampled_from(_KINKS))
    kinds: list[Any] = [np.bool_, np.bool_, np.int64, np.int32, np.uint8]
    if integers and seldom(draw, 4):
        return np.asarray(np.abs(x)).astype(draw(st.sampled_from(kinds)))
    return x


def _wraps(call: Call) -> str | None:
    x, *rest = call.arguments
    if x.dtype.kind == "u" and any(isinstance(each, int | float) and each < 0 for each in rest):
        return "PyTorch takes negative numbers modulo 256"
    return None


@st.composite
def calls(draw: st.DrawFn, *parameters: tuple[str, st.SearchStrategy[Any]], keywords: bool = False) -> Call:
    """An input and parameters, of which the last ones may be left out, by position or by name; few are no numbers."""
    given = parameters[: draw(st.integers(0, len(parameters)))]
    values = [(name, draw(_NO_NUMBERS if seldom(draw, 12) else kind)) for name, kind in given]
    split = 0 if keywords else draw(st.integers(0, len(values)))
    return Call((draw(inputs()), *(value for _, value in values[:split])), dict(values[split:]))


def case(*parameters: tuple[str, st.SearchStrategy[Any]], keywords: bool = False, **known: Any) -> Case:
    return Case(calls(*parameters, keywords=keywords), **known)


def _any(name: str) -> tuple[str, st.SearchStrategy[Any]]:
    return name, _NUMBERS


@st.composite
def _prelu(draw: st.DrawFn) -> Call:
    x = draw(inputs(integers=False))
    channels = x.shape[1] if x.ndim > 1 else 1
    shape = draw(st.sampled_from([(), (1,), (channels,), (channels,), (channels + 1,), (1, channels)]))
    dtype = x.dtype if not seldom(draw, 10) else np.float32
    return Call((x, normal(*shape, dtype=dtype, seed=3)))


@st.composite
def _glu(draw: st.DrawFn) -> Call:
    shape = draw(st.lists(st.sampled_from([2, 2, 4, 4, 6, 3, 0]), max_size=3).map(tuple))
    dim = draw(st.sampled_from([(), (), (-1,), (-1,), (0,), (0,), (1,), (-2,), (4,), (0.5,)]))
    return Call((normal(*shape), *dim))


@st.composite
def _along(draw: st.DrawFn) -> Call:
    """An input and an axis, at times another dtype to compute in."""
    x = draw(inputs())
    axis = st.none() | st.integers(-x.ndim, max(x.ndim - 1, 0))
    keywords = {"dim": draw(axis if not seldom(draw, 6) else st.sampled_from([2, -2, 5, "rows"]))}
    if seldom(draw, 5):
        keywords["dtype"] = torch.float64
    return Call((x,), keywords)


_ALPHA = ("alpha", _NUMBERS)
#: Above its whole range at times.
_LAMBDA = ("lambd", st.sampled_from([0, 0.5, 1, 0.25, -0.5]))
_BOUNDS = ("lower", st.sampled_from([-0.5, 0.125, 0.25])), ("upper", st.sampled_from([0.5, 0.25, 0.0]))


def _at_zero(call: Call) -> Limit | None:
    if (call.arguments[0] == 0).any():
        return 1, "at 0, PyTorch's second derivatives are those above it, and its first ones those below"
    return None


def _far_from_zero(call: Call) -> Limit | None:
    return (1, "PyTorch's second derivative overflows") if (np.abs(call.arguments[0]) >= 40).any() else None


def _empty_integers(call: Call) -> str | None:
    x = call.arguments[0]
    if x.dtype.kind != "f" and not x.size:
        return "PyTorch takes integers where there are none"
    if x.dtype.kind == "u":
        return "softmin of unsigned integers: PyTorch turns their signs before it converts them"
    return None


@st.composite
def _gumbel(draw: st.DrawFn) -> Call:
    """Logits so far apart that the noise does not matter."""
    shape = draw(shapes(side=3))
    x = np.random.default_rng(0).permutation(np.arange(math.prod(shape)) * 1e4).reshape(shape)
    given = {
        "tau": st.sampled_from([1, 0.5, 2.0, "1"]),
        "hard": st.booleans(),
        "dim": st.sampled_from([0, -1, 1, 3, 4]),
    }
    names = draw(st.sets(st.sampled_from(sorted(given))))
    return Call((x,), {name: draw(given[name]) for name in names})


def _changed(case: Case) -> Case:
    """The same calls, of a name that changes the input."""
    calls = case.calls.map(lambda call: dataclasses.replace(call, constants=(0,), changed=(0,)))
    return dataclasses.replace(case, calls=calls)


def _crossed(call: Call) -> str | None:
    low, high = (
        call.keywords.get(name, call.arguments[place] if len(call.arguments) > place else default)
        for place, (name, default) in enumerate({"min_val": -1, "max_val": 1}.items(), start=1)
    )
    numbers = all(isinstance(each, int | float) for each in (low, high))
    return "PyTorch's hardtanh refuses these bounds, but not hardtanh_" if numbers and low > high else None


def _rows() -> Case:
    return Case(_along(), differs=_empty_integers)


CASES = {
    "relu": case(),
    "relu6": case(),
    "leaky_relu": case(_any("negative_slope")),
    "prelu": Case(_prelu(), derivatives=_at_zero),
    "rrelu": case(*_BOUNDS),
    "elu": case(_ALPHA),
    "selu": case(),
    "celu": case(_ALPHA),
    "threshold": Case(
        st.builds(
            lambda x, limit, value: Call((x, limit, value)),
            inputs(),
            st.sampled_from([0, 0.5, -1, 3]),
            st.sampled_from([1, 20.5, -3]) | _NO_NUMBERS,
        ),
        differs=_wraps,
    ),
    "hardtanh": case(("min_val", st.sampled_from([-1, 0, -2.5, 3.0])), ("max_val", st.sampled_from([1, 4.5, 6]))),
    # PyTorch divides by 6 in float32.
    "hardsigmoid": case(bound=1e-7, derivatives=up_to(1, "PyTorch has no second derivative of it")),
    "hardswish": case(),
    "hardshrink": case(("lambd", _NUMBERS)),
    "softshrink": case(_LAMBDA),
    "gelu": case(("approximate", st.sampled_from(["none", "tanh", "tanh", "erf"])), keywords=True),
    "silu": case(),
    "mish": case(derivatives=_far_from_zero),
    "softplus": case(("beta", st.sampled_from([1, 0.5, 2, -1])), ("threshold", st.sampled_from([20, 1, -1]))),
    "logsigmoid": case(),
    "softsign": case(),
    "tanh": case(),
    "tanhshrink": case(),
    "sigmoid": case(),
    "glu": Case(_glu()),
    "softmax": _rows(),
    "softmin": _rows(),
    "log_softmax": _rows(),
    "gumbel_softmax": Case(_gumbel()),
}

_IN_PLACE = ["relu", "leaky_relu", "rrelu", "elu", "selu", "celu", "threshold", "hardtanh"]
CASES |= {f"{name}_": _changed(CASES[name]) for name in _IN_PLACE}
CASES["hardtanh_"].differs = _crossed
