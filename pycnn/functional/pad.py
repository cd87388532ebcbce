"""Padding and cropping."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import numpy as np

from pycnn.functional.arguments import apply, integer, integer_held, layout, one_of, remembered
from pycnn.functional.rearrange import Rearrange, movable, stored_name
from pycnn.interop.arrays import drop_in
from pycnn_kernels.problem import Continuation, RearrangeProblem

#: Axes that one rearrangement moves along.
_AT_ONCE = 3

_MODES = ("constant", "reflect", "replicate", "circular")

Sides = dict[int, tuple[int, int]]


@drop_in
def pad(
    input: Any,
    pad: Any,
    mode: str = "constant",
    value: float | None = None,
    *,
    data_format: str = "channels_first",
    backend: str | None = None,
) -> Any:
    """The last axes with elements added before and behind, or, where numbers are negative, taken away.

    What is added is ``value`` in the mode "constant"; the elements mirrored at the first and the last one in
    "reflect"; these two repeated in "replicate"; and the other end of the axis in "circular".

    Args:
        input: x, booleans, integers, real or complex floating-point numbers. Of any shape in "constant"; in the other
            modes as many padded axes as there are after those of the channels and of the batch, which may be missing:
            (N, C, H, W) or (C, H, W) for four numbers.
        pad: (before, after) of the last axis, then of the one in front of it, and so on: (left, right, top, bottom).
        mode: "constant", "reflect", "replicate" or "circular".
        value: what is added in "constant", 0 for None.
        data_format: "channels_first", or "channels_last", in which the last axis has the channels: those in front of
            it are padded.
        backend: "cpu" or "cuda", where to compute; None is where the input is.

    Returns:
        y, of the dtype of the input, each axis ``before + size + after`` long.

    Raises:
        TypeError: another dtype than those; pad is no tuple or list of integers; a value that is no real number.
        ValueError: an odd count of numbers, more than there are axes to pad, more taken away than an axis has, an
            unknown mode. A value in other modes than "constant", or one to add that the dtype does not hold. In the
            other modes: another count of axes; axes of which nothing would be left, except in "circular"; in
            "reflect" as much padding as the axis has elements, in "circular" more; an axis without elements, which
            only "circular" and the batch may have; in "circular" an addition where nothing is left.

    Source: ``torch.nn.functional.pad``, https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.pad.html

    >>> import numpy as np
    >>> x = np.array([[1, 2, 3]])
    >>> pad(x, (2, -1))
    array([[0, 0, 1, 2]])
    >>> pad(x, (2, 1), mode="reflect")
    array([[3, 2, 1, 2, 3, 2]])
    """
    x = movable("input", input)
    steps, adds = _steps(tuple(x.shape), pad, mode, data_format, stored_name(x.dtype))
    if mode == "constant":
        fill = 0 if value is None else _fill(value, x.dtype, adds)
    elif value not in (None, 0):
        raise ValueError(f"value is of the mode 'constant' alone; received {value!r} in the mode {mode!r}")
    else:
        fill = 0
    y = x
    for problem, shape in steps:
        y = apply(Rearrange, y, problem=problem, shape=shape, value=fill)
    return x.astype(x.dtype) if y is x else y


#: A rearrangement, and the shape of its result.
_Step = tuple[RearrangeProblem, tuple[int, ...]]


@remembered()
def _steps(shape: tuple[int, ...], pad: Any, mode: str, data_format: str, dtype: str) -> tuple[list[_Step], bool]:
    """What a call does, one after the other, and whether it adds anything; ``dtype`` as problems call it."""
    way: Continuation = one_of("mode", mode, _MODES)
    numbers = _numbers(pad)
    skipped = 1 if layout(data_format) == "channels_last" else 0
    if len(numbers) > 2 * (len(shape) - skipped):
        raise ValueError(
            f"pad must have at most two numbers for each axis that can be padded; received {len(numbers)} numbers for "
            f"the shape {shape}"
        )
    last = len(shape) - 1 - skipped
    sides = {last - place: sides for place, sides in enumerate(zip(numbers[::2], numbers[1::2]))}
    if way != "constant":
        _check_continuation(way, shape, sides)
    cut = {axis: (min(before, 0), min(after, 0)) for axis, (before, after) in sides.items()}
    for axis, (before, after) in cut.items():
        if way in ("constant", "circular") and before + shape[axis] + after < 0:
            raise ValueError(
                f"pad must not take away more than there is; received {sides[axis]} for an axis of {shape[axis]}"
            )
    steps: list[_Step] = []
    if way == "circular":  # of what is left
        shape = _add_steps(steps, shape, cut, "constant", dtype)
        for axis, numbers_of_axis in sides.items():
            if shape[axis] == 0 and max(numbers_of_axis) > 0:
                raise ValueError(
                    f"the mode 'circular' must leave something of an axis to add it again; received {numbers_of_axis}"
                )
        sides = {axis: (max(before, 0), max(after, 0)) for axis, (before, after) in sides.items()}
    _add_steps(steps, shape, sides, way, dtype)
    return steps, max(numbers, default=0) > 0


def _numbers(pad: Any) -> tuple[int, ...]:
    if not isinstance(pad, tuple | list):
        raise TypeError(f"pad must be a tuple of integers, (before, after) for each axis; received {pad!r}")
    numbers = tuple(integer("each of pad", number) for number in pad)
    if len(numbers) % 2:
        raise ValueError(f"pad must have two numbers for each axis, (before, after); received {pad!r}")
    return numbers


def _fill(value: Any, dtype: np.dtype, is_needed: bool) -> Any:
    """The value as a number, which the dtype must hold where anything is filled with it."""
    if getattr(value, "shape", None) == ():
        value = value.item()
    if not isinstance(value, bool | int | float | np.integer | np.floating):
        raise TypeError(f"value must be a number; received {value!r}")
    if not is_needed:
        return 0
    if dtype.kind == "b":
        return bool(value)
    if dtype.kind in "iu":
        return integer_held("value", int(value) if isinstance(value, bool) else value, dtype)
    part = np.dtype(f"f{dtype.itemsize // 2}") if dtype.kind == "c" else dtype
    with np.errstate(over="ignore"), contextlib.suppress(OverflowError):  # of an integer that no float holds
        exact = float(value)
        if not math.isfinite(exact) or math.isfinite(np.asarray(exact).astype(part)):
            return exact
    raise ValueError(f"value must be a number that {dtype} holds; received {value!r}")


def _check_continuation(way: str, shape: tuple[int, ...], sides: Sides) -> None:
    """Refuse what a mode other than "constant" does not pad."""
    rank = len(sides)
    if rank not in (1, 2, 3) or len(shape) not in (rank + 1, rank + 2):
        raise ValueError(
            f"the mode {way!r} pads the last one to three axes behind those of the channels and, if there is one, of "
            f"the batch; received {2 * rank} numbers for the shape {shape}"
        )
    batch = len(shape) - rank - 1
    if way != "circular" and 0 in shape[batch:]:
        raise ValueError(f"the mode {way!r} needs axes with elements, but for the batch; received the shape {shape}")
    for axis, (before, after) in sides.items():
        size = shape[axis]
        most = {"reflect": size - 1, "circular": size}.get(way)
        if most is not None and max(before, after) > most:
            raise ValueError(
                f"the mode {way!r} pads an axis of {size} elements by at most {most}; received {(before, after)}"
            )
    left = [before + shape[axis] + after for axis, (before, after) in sides.items()]
    if way != "circular" and (min(left) < 0 or max(left) < 1):
        raise ValueError(f"the mode {way!r} must leave something of the shape {shape}; received {list(sides.values())}")


def _add_steps(
    steps: list[_Step], shape: tuple[int, ...], sides: Sides, way: Continuation, dtype: str
) -> tuple[int, ...]:
    """The rearrangements of some axes at a time, from the last one on; returns the shape that they lead to."""
    left = sorted(axis for axis, numbers in sides.items() if any(numbers))
    while left:
        last = left[-1]
        first = min(axis for axis in left if axis > last - _AT_ONCE)
        left = [axis for axis in left if axis < first]
        moved = range(first, last + 1)
        numbers = [sides.get(axis, (0, 0)) for axis in moved]
        counts = tuple(before + shape[axis] + after for axis, (before, after) in zip(moved, numbers))
        problem = RearrangeProblem(
            dtype, math.prod(shape[:first]), shape[first : last + 1],
            tuple((count, place, 1) for place, count in enumerate(counts)),
            tuple(-before for before, _ in numbers), (way,) * len(counts), math.prod(shape[last + 1 :]),
        )  # fmt: skip
        shape = shape[:first] + counts + shape[last + 1 :]
        steps.append((problem, shape))
    return shape
