"""Where the factors of a convolution's products lie, as tables that a kernel looks them up in.

Each sum of a convolution gathers elements of an image, ``x[pixel + tap, channel]``. Whatever the operation, the place
of an element is an offset for the pixel plus an offset for the tap and channel, and whether it lies in the image is
told by two masks: the pixel's has a bit for each tap of each axis that it lacks there, the tap's has its bits of each
axis. The element is there if they have none in common. So strides, dilations, padding and the number of axes are in the
tables, and a kernel that gathers has neither divisions nor comparisons of coordinates in its loop.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np

from pycnn_kernels.cuda.tile import FREE_BITS, LACKING, NEEDED, SLICE
from pycnn_kernels.problem import ConvProblem


class Axis(NamedTuple):
    """Along one axis: pixel i of ``places`` and tap t of ``taps`` meet element ``i * stride + origin + t * step``.

    ``size`` elements are there.
    """

    places: int
    stride: int
    origin: int
    step: int
    taps: int
    size: int

    def elements(self) -> np.ndarray:
        """(places, taps)."""
        return np.arange(self.places)[:, None] * self.stride + self.origin + np.arange(self.taps) * self.step

    def lacks(self) -> np.ndarray:
        """(places, taps): whether a pixel lacks a tap."""
        found = self.elements()
        return (found < 0) | (found >= self.size)


class Window(NamedTuple):
    """What the pixels of an image gather along its three axes, all or some of them from all or some taps.

    ``taps`` and ``places`` number, along each axis, these taps among those of the kernel, and these pixels among those
    of the result.
    """

    axes: list[Axis]
    taps: list[np.ndarray]
    places: list[np.ndarray]

    @property
    def pixels(self) -> int:
        return math.prod(axis.places for axis in self.axes)

    @property
    def tap_count(self) -> int:
        return math.prod(axis.taps for axis in self.axes)


def numbered(choices: list[np.ndarray], sizes: tuple[int, ...]) -> np.ndarray:
    """The numbers, row by row, of all combinations of coordinates.

    >>> numbered([np.array([0, 1]), np.array([2])], (2, 3))
    array([2, 5])
    """
    numbers = np.zeros(1, np.int64)
    for chosen, size in zip(choices, sizes):
        numbers = (numbers[:, None] * size + chosen).ravel()
    return numbers


def forward_window(p: ConvProblem) -> Window:
    """What the pixels of y gather from x."""
    axes = [
        Axis(count, stride, -padding[0], dilation, kernel, size)
        for count, stride, padding, dilation, kernel, size in zip(
            p.output, p.stride, p.padding, p.dilation, p.kernel, p.size
        )
    ]
    return Window(axes, [np.arange(taps) for taps in p.kernel], [np.arange(count) for count in p.output])


def gradient_windows(p: ConvProblem) -> list[Window]:
    """What the pixels of dx gather from dy: a window for each phase of the strides.

    Element i of x met tap t in pixel ``(i + P - t D) / S`` of y, if S divides that. Elements that are S apart, those of
    a phase, have the same taps; from one element to the next the pixel moves by 1, and from one of these taps to the
    next, which is ``S / gcd(S, D)`` further, by ``-D / gcd(S, D)``.
    """
    phases = [_axis_phases(*each) for each in zip(p.size, p.stride, p.padding, p.dilation, p.kernel, p.output)]
    return [Window(*map(list, zip(*chosen))) for chosen in itertools.product(*phases)]


def _axis_phases(
    size: int, stride: int, padding: tuple[int, int], dilation: int, kernel: int, output: int
) -> list[tuple[Axis, np.ndarray, np.ndarray]]:
    """Each phase along one axis, its taps, and its elements of x."""
    step = dilation // math.gcd(stride, dilation)
    found = []
    for first in range(min(stride, size)):
        taps = np.array([t for t in range(kernel) if (first + padding[0] - t * dilation) % stride == 0], np.int64)
        origin = (first + padding[0] - int(taps[0]) * dilation) // stride if taps.size else 0
        places = np.arange(first, size, stride)
        found.append((Axis(places.size, 1, origin, -step, taps.size, output), taps, places))
    return found


def bits_needed(window: Window) -> int:
    """Bits of the masks: those of taps that some pixel lacks."""
    return sum(int(axis.lacks().any(axis=0).sum()) for axis in window.axes)


def tables_fit(windows: list[Window]) -> str | None:
    """None, or why the masks of these windows do not suffice."""
    most = max((bits_needed(window) for window in windows), default=0)
    if most > FREE_BITS:
        return f"at most {FREE_BITS} positions of the kernel along its axes that lie in the padding; received {most}"
    return None


def _axis_bits(window: Window) -> list[np.ndarray]:
    """For each axis the bit of each tap, 0 for one that every pixel has."""
    bits, used = [], 0
    for axis in window.axes:
        some = axis.lacks().any(axis=0)
        numbers = used + np.cumsum(some) - 1
        bits.append(np.where(some, 1 << np.maximum(numbers, 0), 0))
        used += int(some.sum())
    return bits


def _outer_sum(d: np.ndarray, h: np.ndarray, w: np.ndarray) -> np.ndarray:
    return (d[:, None, None] + h[:, None] + w).ravel()


def _outer_or(d: np.ndarray, h: np.ndarray, w: np.ndarray) -> np.ndarray:
    return (d[:, None, None] | h[:, None] | w).ravel()


def _pairs(offsets: np.ndarray, masks: np.ndarray, spare: int, spare_mask: int) -> np.ndarray:
    """Offset and mask of each, and so many more that have this mask."""
    table = np.zeros((offsets.size + spare, 2), np.int32)
    table[: offsets.size, 0], table[: offsets.size, 1] = offsets, masks
    table[offsets.size :, 1] = spare_mask
    return table.ravel()


def _steps(window: Window, pixel: int) -> tuple[int, int, int]:
    """Elements from one place of each axis to the next."""
    (_, h, w) = window.axes
    return h.size * w.size * pixel, w.size * pixel, pixel


def pixel_table(window: Window, pixel: int) -> np.ndarray:
    """Offset and mask of each pixel; ``pixel``: elements from one pixel of the image that is read to the next."""
    offsets, masks = [], []
    for axis, bits, step in zip(window.axes, _axis_bits(window), _steps(window, pixel)):
        offsets.append((np.arange(axis.places) * axis.stride + axis.origin) * step)
        masks.append(axis.lacks() @ bits if axis.taps else np.zeros(axis.places, np.int64))
    return _pairs(_outer_sum(*offsets), _outer_or(*masks) | LACKING, 1, LACKING)


def depth_table(window: Window, pixel: int, channels: int, channel: int, at_once: int) -> np.ndarray:
    """Offset and mask of each tap and channel, in this order; of every ``at_once``-th, which ``channels`` divides by.

    ``channel``: elements from one channel to the next. Behind them are those of three slices more, which are nowhere.
    """
    offsets, masks = [], []
    for axis, bits, step in zip(window.axes, _axis_bits(window), _steps(window, pixel)):
        offsets.append(np.arange(axis.taps) * axis.step * step)
        masks.append(bits)
    there = np.arange(0, channels, at_once) * channel
    places = (_outer_sum(*offsets)[:, None] + there).ravel()
    needs = np.repeat(_outer_or(*masks) | NEEDED, there.size)
    return _pairs(places, needs, 3 * SLICE // at_once, LACKING)
