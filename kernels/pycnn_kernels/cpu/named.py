"""Names that the compiler knows, so that one loop can be compiled around different steps.

A compiled function that is handed to another one as an argument cannot be kept in the cache on disk. A name can: the
step is an ``overload`` that finds its code by the name.
"""

from __future__ import annotations

from numba.core import types
from numba.extending import intrinsic, models, register_model


class NameType(types.Type):
    """The type of :func:`named`: all there is to know about it is its name, and what a subclass adds.

    A subclass needs :class:`NameModel` registered for it, too.
    """

    def __init__(self, text: str, *known: object):
        self.text = text
        super().__init__(f"{type(self).__name__}({', '.join(map(str, (text, *known)))})")


@register_model(NameType)
class NameModel(models.OpaqueModel):
    """A value without contents."""


@intrinsic(prefer_literal=True)
def named(typing_context, text):
    """A literal text as a value whose type says it."""
    return NameType(text.literal_value)(text), lambda context, *_: context.get_dummy_value()
