"""Images with more pixels around them: what lies beyond the boundary, and the gradient of that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pycnn import backend as backends
from pycnn.autograd import Function
from pycnn.elementary import in_float32

if TYPE_CHECKING:
    from pycnn.tensor import Tensor

#: Pixels before and after an axis.
Sides = tuple[int, int]

#: Where one period of an extended axis lies, and the pixels of the image that it repeats.
Period = tuple[slice, slice]


def periods(size: int, sides: Sides, boundary: str) -> list[Period]:
    """The parts of an extended axis, each of which is the image, or a part of it, once.

    Beyond its boundary an image goes on from its other end ("wrap"), or mirrored, its outermost pixel twice ("symm"),
    for as many periods as it takes. With "fill" the image is there once.

    >>> periods(3, (1, 4), "symm")
    [(slice(0, 1, None), slice(0, None, -1)), (slice(1, 4, None), slice(0, 3, 1)),
     (slice(4, 7, None), slice(2, None, -1)), (slice(7, 8, None), slice(0, 1, 1))]
    """
    before, after = sides
    if boundary == "fill":
        return [(slice(before, before + size), slice(0, size, 1))]
    found = []
    for period in range(-before // size, -(-(size + after) // size)):
        first, last = max(period * size, -before), min((period + 1) * size, size + after)
        target = slice(before + first, before + last)
        first, last = first - period * size, last - period * size
        if boundary == "symm" and period % 2 == 1:
            # Backwards from size - 1 - first on; what comes before the first pixel is None, not -1.
            source = slice(size - 1 - first, size - 1 - last if last < size else None, -1)
        else:
            source = slice(first, last, 1)
        found.append((target, source))
    return found


class Extend(Function):
    """Images x (N, H, W) with ``sides`` more pixels, (top, bottom) and (left, right), by a boundary.

    Beyond "fill" lies the number ``fill``, which the dtype of x must hold.
    """

    reads = ()

    def forward(self, x: Any, *, sides: tuple[Sides, Sides], boundary: str, fill: Any) -> Any:
        self.settings = {"sides": sides, "boundary": boundary}
        N, H, W = x.shape
        (top, bottom), (left, right) = sides
        y = backends.of(x).empty((N, top + H + bottom, left + W + right), x.dtype)
        if boundary == "fill":
            y.fill(fill)
        middle = y[:, top : top + H]
        for target, source in periods(W, sides[1], boundary):
            middle[..., target] = x[..., source]
        for target, source in periods(H, sides[0], boundary):
            if target.start != top:
                y[:, target] = middle[:, source]
        return y

    def backward(self, dy: Tensor) -> tuple[Tensor]:  # type: ignore[override]
        return (ExtendGradient.apply(dy, **self.settings),)


class ExtendGradient(Function):
    """The sums of all pixels of dy that :class:`Extend` took from the same pixel, period after period."""

    reads = ()
    settings: dict[str, Any]

    def forward(self, dy: Any, *, sides: tuple[Sides, Sides], boundary: str) -> Any:
        self.settings = {"sides": sides, "boundary": boundary}
        return in_float32(self._fold, dy)

    def _fold(self, dy: Any) -> Any:
        vertical, horizontal = self.settings["sides"]
        N, H, W = dy.shape[0], dy.shape[1] - sum(vertical), dy.shape[2] - sum(horizontal)
        rows = backends.of(dy).empty((N, H, dy.shape[2]), dy.dtype)
        dx = backends.of(dy).empty((N, H, W), dy.dtype)
        rows.fill(0)
        dx.fill(0)
        for target, source in periods(H, vertical, self.settings["boundary"]):
            rows[:, source] += dy[:, target]
        for target, source in periods(W, horizontal, self.settings["boundary"]):
            dx[..., source] += rows[..., target]
        return dx

    def backward(self, ddx: Tensor) -> tuple[Tensor]:  # type: ignore[override]
        return (Extend.apply(ddx, **self.settings, fill=0),)
