"""Objects that a dictionary describes, and that can be made again from it: layers, models, losses, initializers, ..."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, Self

from pycnn.naming import nearest

#: What Keras writes into the dictionaries of layers that have no such setting here, with the values under which nothing
#: is lost by leaving it out. Any other value is refused.
_NOT_OURS: dict[str, tuple[Any, ...]] = {
    "quantization_config": (None,),
    "synchronized": (False,),
    "renorm": (False,),
    "renorm_clipping": (None,),
    "renorm_momentum": (0.99,),
    "sparse": (False,),
    "ragged": (False,),
    "optional": (False,),
    "input_axes": (None,),
    "output_axes": (None,),
    "ignore_class": (None,),
    "axis": (-1,),
    "dtype": ("float32",),
    "lora_rank": (None,),
    "lora_alpha": (None,),
    "implementation": (1, 2),
}


class Configurable:
    """Base class of what has ``get_config()`` and ``from_config()``.

    The dictionary holds the constructor's arguments by their names. The classes of this package keep each argument as
    an attribute of its name, which is what is read. Of a class of your own it holds what the constructor was given,
    unless the class defines ``get_config()``: as in Keras, ``super().get_config()`` then gives the part of the base
    class.

    Source: Keras 3, keras.layers.Layer.get_config and its kin.

    >>> from pycnn.regularizers import L1L2
    >>> L1L2(l1=0.5).get_config()
    {'l1': 0.5, 'l2': 0.0}
    >>> L1L2.from_config({"l1": 0.5, "l2": 0.0}).l1
    0.5
    """

    #: Arguments that are no part of the dictionary.
    _NOT_CONFIGURED: tuple[str, ...] = ()
    #: Arguments that are part of it whether they were given or not.
    _ALWAYS_CONFIGURED: tuple[str, ...] = ()
    #: Arguments that are kept together, by their names, and not as attributes.
    _arguments: Mapping[str, Any] = MappingProxyType({})

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        made = super().__new__(cls)
        if not is_ours(cls):
            object.__setattr__(made, "_given", (args, kwargs))
        return made

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, as text, numbers, lists and dictionaries.

        Raises:
            NotImplementedError: a class of your own must define this method, for its arguments are not known.
            TypeError: an argument has no such form.
        """
        from pycnn.saving.serialization import configured

        if "_given" in self.__dict__ and is_ours(type(self).get_config):
            arguments = self._given_arguments()
        else:
            arguments = {name: self._argument(name) for name in self._configured_names()}
        return {name: configured(value) for name, value in arguments.items()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The object that :meth:`get_config` describes.

        Raises:
            ValueError, TypeError: the class has no such argument, or cannot take its value.
        """
        from pycnn.saving.serialization import deserialize_keras_object

        return cls(**understood(cls, {name: deserialize_keras_object(value) for name, value in config.items()}))

    def _configured_names(self) -> list[str]:
        """The arguments of the first class of this package that the object belongs to."""
        ours = next(kind for kind in type(self).__mro__ if is_ours(kind))
        names = dict.fromkeys((*self._ALWAYS_CONFIGURED, *argument_names(ours), *self._arguments))
        return [name for name in names if name not in self._NOT_CONFIGURED]

    def _argument(self, name: str) -> Any:
        """What the object keeps of an argument."""
        if name in self._arguments:
            return self._arguments[name]
        for attribute in (f"init_{name}", name, f"_{name}"):  # the first as it was given, where more is made of it
            if hasattr(self, attribute):
                return getattr(self, attribute)
        raise NotImplementedError(f"{type(self).__name__} must define get_config(): it has no attribute {name!r}")

    def _given_arguments(self) -> dict[str, Any]:
        """The arguments that the constructor of a user's class was given, by name."""
        args, kwargs = self.__dict__["_given"]
        signature = inspect.signature(type(self).__init__)
        given = dict(signature.bind(self, *args, **kwargs).arguments)
        given.pop(next(iter(signature.parameters)))  # the object itself
        for parameter in signature.parameters.values():
            if parameter.kind is parameter.VAR_POSITIONAL and given.get(parameter.name):
                raise NotImplementedError(
                    f"{type(self).__name__} must define get_config(): its constructor takes *{parameter.name}"
                )
            if parameter.kind is parameter.VAR_KEYWORD:
                given |= given.pop(parameter.name, {})
        kept = {name: getattr(self, name) for name in self._ALWAYS_CONFIGURED if name in argument_names(type(self))}
        return kept | {name: value for name, value in given.items() if name not in {*kept, *self._NOT_CONFIGURED}}

    def _has_users_constructor(self) -> bool:
        return not is_ours(type(self).__init__)


def understood(kind: type, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments without those that Keras writes, that the class does not have, and that change nothing.

    Raises:
        ValueError: for another argument that it does not have; the message names the nearest.
    """
    known, takes_any = _parameters(kind)
    found: dict[str, Any] = {}
    for name, value in arguments.items():
        if name in known:
            found[name] = value
        elif name == "batch_input_shape":  # of Keras 2
            of_batch = "batch_shape" in known
            found["batch_shape" if of_batch else "input_shape"] = value if of_batch or value is None else value[1:]
        elif name in _NOT_OURS and any(value == neutral for neutral in _NOT_OURS[name]):
            continue
        elif name in _NOT_OURS or not takes_any:
            hint = "" if name in _NOT_OURS else nearest(name, known)
            raise ValueError(f"{kind.__name__}: pycnn has no argument {name!r} for {value!r}.{hint}")
        else:
            found[name] = value
    return found


def argument_names(kind: type) -> Iterable[str]:
    """The names of all arguments of a class, its own first, then those that it passes on to its base classes.

    >>> from pycnn.layers import MaxPooling2D
    >>> [*argument_names(MaxPooling2D)][:4]
    ['pool_size', 'strides', 'padding', 'data_format']
    """
    return _parameters(kind)[0]


@cache
def _parameters(kind: type) -> tuple[tuple[str, ...], bool]:
    """The names of all arguments, and whether any others are taken as well."""
    names: dict[str, None] = {}
    takes_any = False
    for base in kind.__mro__:
        if "__init__" not in vars(base) or base is object:
            continue
        parameters = [*inspect.signature(base.__init__).parameters.values()][1:]  # type: ignore[misc]
        variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        names |= dict.fromkeys(parameter.name for parameter in parameters if parameter.kind not in variable)
        takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
        if not takes_any:
            break
    return tuple(names), takes_any


def is_ours(named: Any) -> bool:
    """Whether a class or function is of this package, and not a user's."""
    return bool(named.__module__.partition(".")[0] == "pycnn")
