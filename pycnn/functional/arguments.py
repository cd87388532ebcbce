"""Reading and checking the arguments that operations share."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable
from functools import lru_cache, wraps
from operator import is_
from typing import Any, TypeVar, cast

import numpy as np

from pycnn import backend as backends
from pycnn import elementary
from pycnn.autograd import Function, without_news
from pycnn.elementary import FLOAT32
from pycnn.in_place import assign_in_place
from pycnn.naming import nearest
from pycnn.tensor import Tensor
from pycnn_kernels.problem import DTYPE_NAMES, ConvProblem, Layout, PaddingTriple, Triple, dtype_name, is_half

ArrayLike = np.ndarray | Tensor
Pair = tuple[int, int]


def apply(function: type[Function], *inputs: Any, **settings: Any) -> Any:
    """Run an operation on tensors and arrays: tensors come out if any of the inputs is one, otherwise arrays."""
    for value in inputs:
        if isinstance(value, Tensor):
            tensors = [each if each is None or isinstance(each, Tensor) else Tensor._of(each) for each in inputs]
            return function.apply(*tensors, **settings)
    if type(inputs[0]) is not np.ndarray:
        return function().compute(*inputs, **settings)
    forward = function().forward  # what ``compute`` comes to
    return without_news(forward, inputs, settings) if function.uses_numpy else forward(*inputs, **settings)


#: Types of which equal arguments are the same: those without parts, and a problem, which was read from such ones.
_WHOLE = {int, str, bool, float, type(None), ConvProblem}

#: Results that a reader of arguments keeps.
_MOST_READ = 4096

_Read = TypeVar("_Read", bound=Callable[..., Any])


def remembered(sure: int = 0) -> Callable[[_Read], _Read]:
    """A function that reads arguments, with its results kept: reading anew takes longer than a small convolution.

    Lists and whatever else could change, or be equal to another argument without being the same, is read each time.
    The first ``sure`` arguments are known to be neither, and are not looked at: dtypes and shapes of arrays.
    """

    def remembering(read: _Read) -> _Read:
        known = lru_cache(maxsize=_MOST_READ, typed=True)(read)
        #: What the same objects gave, as layers pass them: nobody needs to look at these again.
        same: dict[tuple[Any, ...], tuple[tuple[Any, ...], Any]] = {}

        @wraps(read)
        def reader(*arguments: Any, **named: Any) -> Any:
            try:
                before = same.get(arguments)
            except TypeError:  # of a list
                before = None
            others = arguments[sure:]
            if before is not None and not named and all(map(is_, before[0], others)):
                return before[1]
            for each in (*others, *named.values()):
                if type(each) not in _WHOLE and not _is_plain(each):
                    return read(*arguments, **named)
            found = known(*arguments, **named)
            if not named:
                if len(same) >= _MOST_READ:
                    same.clear()
                same[arguments] = others, found
            return found

        return cast(_Read, reader)

    return remembering


_PARTS = {int, str}


def _is_plain(value: Any) -> bool:
    """A tuple of integers, strings and such tuples; 1 == 1.0 == True are equal in tuples, too, but not the same."""
    if type(value) is not tuple:
        return False
    return _PARTS.issuperset(map(type, value)) or all(type(each) in _PARTS or _is_plain(each) for each in value)


def tensor_or_array(name: str, value: Any) -> Any:
    """A tensor as it is; anything else as an array in native byte order, on the GPU if it is there already."""
    if backends.is_ready(value) or isinstance(value, Tensor):
        return value
    return backends.asarray(value, name)


def floating(name: str, value: Any, like: Any = None) -> Any:
    """A tensor, or an array made ready: floating point, native byte order; of ``like``'s dtype if that is given.

    Raises:
        TypeError: it holds something else than float16, bfloat16, float32 or float64, or another dtype than ``like``;
            or it is on another backend.
        ValueError: nested lists with rows of different lengths.
    """
    value = tensor_or_array(name, value)
    dtype = value.dtype
    if like is not None and dtype is like.dtype and type(value) is type(like) is np.ndarray:
        return value  # as in most calls
    if dtype not in DTYPE_NAMES and dtype_name(dtype) is None:  # the first alone is quicker
        raise TypeError(f"{name} must hold float16, bfloat16, float32 or float64; received {dtype}")
    if like is not None:
        if dtype != like.dtype:
            raise TypeError(f"{name} must have the dtype of the input, {like.dtype}; received {dtype}")
        refuse_two_places(name, value, like)
    return value


def holds_integers(value: Any, or_booleans: bool = False) -> bool:
    """Whether it is an array or a tensor of integers."""
    dtype = getattr(value, "dtype", None)
    return dtype is not None and dtype.kind in ("iub" if or_booleans else "iu")


#: float64 holds all integers up to this one, and sums them without an error.
GREATEST_EXACT = 2**53


def magnitude(value: Any) -> int:
    """The greatest absolute value of an array or a tensor of integers; 0 where there are none."""
    data = data_of(value)
    return max(-int(data.min()), int(data.max())) if data.size else 0


def refuse_two_places(name: str, value: Any, like: Any, why: str = "") -> None:
    """Raise a TypeError where a value is on another backend than ``like``; ``why`` stands in front of what it must."""
    value, like = data_of(value), data_of(like)
    if type(value) is np.ndarray and type(like) is np.ndarray:
        return
    there, here = backends.of(like), backends.of(value)
    if here is not there:
        raise TypeError(
            f"{name} {why}must be on the backend of the input, {there.name!r}; received an array on {here.name!r}"
        )


def data_of(value: Any) -> Any:
    """The array of a tensor; an array itself."""
    return value.data if isinstance(value, Tensor) else value


def widened(value: Any) -> Any:
    """A tensor or an array in float32 if it is stored in float16 or bfloat16, otherwise as it is."""
    return rounded(value, FLOAT32) if is_half(value.dtype) else value


def rounded(value: Any, dtype: np.dtype) -> Any:
    """A result in the dtype of the input that :func:`widened` may have widened."""
    if value.dtype == dtype:
        return value
    return value.astype(dtype) if isinstance(value, Tensor) else elementary.cast(value, dtype)


def in_place(target: Any, result: Any) -> Any:
    """The target of a call with ``inplace=True``, an array or a tensor, with the result's values in its memory.

    Raises:
        TypeError: the target is neither: a list, a number.
        RuntimeError, ValueError: as :func:`pycnn.in_place.assign_in_place`.
    """
    if not isinstance(target, Tensor | np.ndarray) and not backends.is_on_gpu(target):
        raise TypeError(f"inplace needs an array or a tensor; received {type(target).__name__}")
    return assign_in_place(target, result)


#: Of a tuple isinstance looks at the types, a union of types would be made for each call.
_NUMBERS = (int, float, np.integer, np.floating)


def _real(value: Any) -> float | None:
    """A real number of Python's or NumPy's, or of an array or a tensor without axes; None for booleans and all else.

    A tensor that requires a gradient, which would be lost, is none.
    """
    if type(value) in (float, int):  # most are
        return float(value)
    if isinstance(value, _NUMBERS):
        return None if isinstance(value, bool) else float(value)
    data = data_of(value)
    dtype = getattr(data, "dtype", None)
    if not isinstance(dtype, np.dtype) or data.shape or getattr(value, "requires_grad", False):
        return None
    return float(data) if dtype.kind in "iu" or dtype_name(dtype) is not None else None


def fraction(name: str, value: Any) -> float:
    """A number from 0 to 1.

    Raises:
        TypeError: not a number.
        ValueError: outside of 0 to 1.
    """
    found = _real(value)
    if found is None:
        raise TypeError(f"{name} must be a number from 0 to 1; received {value!r}")
    if not 0 <= found <= 1:
        raise ValueError(f"{name} must be a number from 0 to 1; received {value!r}")
    return found


def number(name: str, value: Any) -> float:
    """Any real number, also in an array or a tensor without axes.

    Raises:
        TypeError: not a number.
    """
    found = _real(value)
    if found is None:
        raise TypeError(f"{name} must be a number; received {value!r}")
    return found


def integer(name: str, value: Any) -> int:
    """An integer of Python's or NumPy's that 64 bits hold; booleans are none.

    Raises:
        TypeError: something else.
        ValueError: it is larger.
    """
    found = value if type(value) is int else None  # most are
    if found is None and not isinstance(value, bool | np.bool_):
        with contextlib.suppress(TypeError):
            found = operator.index(value)
    if found is None:
        raise TypeError(f"{name} must be an integer; received {value!r}")
    if not _LEAST_INTEGER <= found < -_LEAST_INTEGER:
        raise ValueError(f"{name} must be an integer of 64 bits; received {found}")
    return found


_LEAST_INTEGER = -(2**63)


def integer_held(name: str, value: Any, dtype: np.dtype) -> int:
    """The whole part of a number, as one of a dtype of integers.

    Raises:
        TypeError: not a number.
        ValueError: the dtype does not hold it: it is too large or too small, infinite or NaN.
    """
    exact = value if isinstance(value, int | np.integer) and not isinstance(value, bool) else number(name, value)
    limits = np.iinfo(dtype)
    with contextlib.suppress(OverflowError, ValueError):  # of what has no whole part
        whole = int(exact)
        if limits.min <= whole <= limits.max:
            return whole
    raise ValueError(f"{name} must be a number that {dtype} holds; received {value!r}")


def boolean(name: str, value: Any) -> bool:
    """True or False, Python's or NumPy's.

    Raises:
        TypeError: something else, 0 and 1 among them.
    """
    if value is True or value is False:  # most are
        return value
    if not isinstance(value, np.bool_):
        raise TypeError(f"{name} must be True or False; received {value!r}")
    return bool(value)


#: Forms of an argument that has a number for each of so many spatial axes.
FORMS = {1: "an integer", 2: "an integer or a pair of integers", 3: "an integer or three integers"}
_FORMS_PER_SIDE = {
    1: "((left, right),)",
    2: "((top, bottom), (left, right))",
    3: "((front, back), (top, bottom), (left, right))",
}


def per_axis(name: str, value: Any, rank: int, least: float = 1, spread: bool = True) -> tuple[int, ...]:
    """An integer for all ``rank`` axes, or one for each.

    ``spread`` says whether a tuple of one integer counts as that integer, as it does in most of PyTorch's functions.

    Raises:
        TypeError: not integers.
        ValueError: neither one nor ``rank`` of them, or one below ``least``.
    """
    is_sequence = isinstance(value, tuple | list)
    values = tuple(value) if is_sequence else (value,)
    if len(values) != rank and (len(values) != 1 or (is_sequence and not spread)):
        raise ValueError(f"{name} must be {FORMS[rank]}; received {value!r}")
    try:
        numbers = tuple(integer(name, v) for v in values)
    except TypeError:
        note = ", neither a tuple nor a list" if not is_sequence and hasattr(value, "__iter__") else ""
        raise TypeError(f"{name} must be {FORMS[rank]}; received {value!r}{note}") from None
    if min(numbers) < least:
        raise ValueError(f"{name} must be at least {least}; received {value!r}")
    return numbers if len(numbers) == rank else numbers * rank


def pair(name: str, value: Any, least: int = 1) -> Pair:
    """An integer for both axes, or one for each; raises as :func:`per_axis`."""
    first, second = per_axis(name, value, 2, least)
    return first, second


def sides_per_axis(name: str, value: Any, rank: int) -> tuple[Pair, ...]:
    """Padding as (before, after) for each of ``rank`` axes, from an integer, one for each axis, or a pair for each."""
    if isinstance(value, tuple | list) and any(isinstance(v, tuple | list) for v in value):
        if len(value) != rank:
            raise ValueError(f"{name} for each side must be {_FORMS_PER_SIDE[rank]}; received {value!r}")
        return tuple(pair(name, v, least=0) for v in value)
    return tuple((p, p) for p in per_axis(name, value, rank, least=0))


def triple(values: tuple[int, ...]) -> Triple:
    """Axes that the arrays lack are of size 1, with steps and distances of 1."""
    d, h, w = (1,) * (3 - len(values)) + values
    return d, h, w


def sides_triple(sides: tuple[tuple[int, int], ...]) -> PaddingTriple:
    """Axes that the arrays lack have no padding."""
    d, h, w = ((0, 0),) * (3 - len(sides)) + sides
    return d, h, w


def _is_array(value: Any) -> bool:
    return hasattr(value, "ndim") and not isinstance(value, np.generic)


def layout(data_format: str) -> Layout:
    if isinstance(data_format, str):
        if data_format == "channels_first":
            return "channels_first"
        if data_format == "channels_last":
            return "channels_last"
    known = ("channels_first", "channels_last")
    raise ValueError(
        f"data_format must be 'channels_first' or 'channels_last'; received {data_format!r}."
        f"{nearest(data_format, known)}"
    )


def one_of(name: str, value: Any, known: tuple[Any, ...]) -> Any:
    # An array would be compared element by element.
    if (type(value) is not str and _is_array(value)) or value not in known:
        choices = ", ".join(map(repr, known))
        names = [each for each in known if isinstance(each, str)]
        raise ValueError(f"{name} must be one of {choices}; received {value!r}.{nearest(value, names)}")
    return value


def array_sizes(name: str, shape: tuple[int, ...], data_format: str, rank: int) -> tuple[int, int, tuple[int, ...]]:
    """N, C and the sizes of the ``rank`` spatial axes of the shape of a batch, or of one signal, image or volume.

    Raises:
        ValueError: it has another number of axes, or no pixels.
    """
    first = layout(data_format) == "channels_first"
    if len(shape) not in (rank + 1, rank + 2):
        spatial = "DHW"[3 - rank :]
        axes = ", ".join(("C", *spatial) if first else (*spatial, "C"))
        raise ValueError(f"{name} must have the axes (N, {axes}) or ({axes}); received the shape {shape}")
    N, *rest = shape if len(shape) == rank + 2 else (1, *shape)
    C, size = (rest[0], tuple(rest[1:])) if first else (rest[-1], tuple(rest[:-1]))
    if 0 in size:
        raise ValueError(f"{name} must have at least one pixel; received the shape {shape}")
    return N, C, size


def without_batch(y: Any, single: bool) -> Any:
    """Take the batch axis off again, if it was added."""
    return y.reshape(y.shape[1:]) if single else y
