"""Operations whose results are views: they lie in the memory of their inputs, and change with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pycnn import changes
from pycnn.autograd import Function, recording

if TYPE_CHECKING:
    from pycnn.tensor import Tensor

#: Views in turn, each an operation and its settings.
Path = tuple[tuple[type[Function], dict[str, Any]], ...]


class View(Function):
    """An operation whose result is a view where NumPy can have it so; the tensor knows then what it looks into."""

    reads = ()

    @staticmethod
    def sees(y: Tensor, x: Tensor, function: type[Function], settings: dict[str, Any]) -> None:
        """Note what y looks into, if its array is a view of that of x."""
        if not _lies_in(y.data, x.data):
            return
        outer = x._view
        whole = x if outer is None else outer.whole
        y._view = Look(whole, whole._node, whole._place, outer, function, settings, y.data, whole.data)


def _lies_in(array: Any, whole: Any) -> bool:
    """Whether an array that was computed of another one is a view of it."""
    if not isinstance(array, np.ndarray):
        return changes.same_memory(array, whole)
    base = array.base  # the array that has the memory
    return base is not None and (base is whole or base is whole.base)


class Look(NamedTuple):
    """What a view looks into.

    Attributes:
        whole: the tensor that is a view of no other one.
        node, place: where ``whole`` came from when the view was made.
        outer: through which view it looks, None where it looks at ``whole`` itself.
        function, settings: the operation that made the view.
        shown, memory: the arrays of the view and of ``whole``; where ``data`` was set to another one, it is no view.
    """

    whole: Tensor
    node: Function | None
    place: int
    outer: Look | None
    function: type[Function]
    settings: dict[str, Any]
    shown: Any
    memory: Any

    @property
    def path(self) -> Path:
        """The views from ``whole`` to this one."""
        steps = []
        look: Look | None = self
        while look is not None:
            steps.append((look.function, look.settings))
            look = look.outer
        return tuple(steps[::-1])

    def refresh(self, view: Tensor) -> None:
        """Give the view another history if what it looks into has got one, which a change in place does."""
        if view.data is not self.shown or self.whole.data is not self.memory:
            view._view = None
            return
        if self.whole._node is self.node and self.whole._place == self.place:
            return
        with recording(True):
            again = through(self.path, self.whole)
        view._take_history(again)
        look = again._view
        view._view = None if look is None else look._replace(shown=view.data)


def through(path: Path, x: Tensor) -> Tensor:
    """What is seen of a tensor."""
    for function, settings in path:
        x = function.apply(x, **settings)
    return x
