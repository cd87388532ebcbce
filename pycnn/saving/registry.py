"""The classes and functions that a file may name: those of pycnn, and those that were registered. No others.

Nothing that a file names is ever imported. Names are looked up in the modules listed here and in what was registered,
and what they stand for must be an object that can be described by a dictionary.

Source: Keras 3, keras.saving.object_registration.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from importlib import import_module
from inspect import signature
from typing import Any, TypeVar

from pycnn.configuration import Configurable

Named = TypeVar("Named", bound=Callable[..., Any])

#: The modules whose classes and functions a file may name, in the order of looking.
_MODULES = (
    "layers",
    "models",
    "initializers",
    "regularizers",
    "constraints",
    "losses",
    "metrics",
    "optimizers",
    "activations",
    "applications",
)
#: Functions that a file may name take one of these first: others, such as ``get``, are no part of a model.
_FIRST_ARGUMENTS = ("x", "y_true")
#: Packages whose modules stand for ours.
_PACKAGES = ("pycnn", "keras", "tf_keras")
#: Where Keras has its functional models.
_FUNCTIONAL = "keras.src.models.functional"
#: Layers that Keras does not have.
_NOT_IN_KERAS = ("LpPooling2D", "MixedPooling2D", "OptionAShortcut")

_registered: dict[str, Any] = {}
_names: dict[Any, str] = {}
_scoped: ContextVar[dict[str, Any] | None] = ContextVar("custom_objects", default=None)


def register_keras_serializable(package: str = "Custom", name: str | None = None) -> Callable[[Named], Named]:
    """A decorator: files may name this class or function, as ``package>name``.

    Args:
        package: keeps names of different origin apart.
        name: by default that of the class or function.

    Raises:
        ValueError: a class without ``get_config()``, or another object is registered under that name.

    >>> from pycnn.layers import Layer
    >>> @register_keras_serializable(package="docs")
    ... class Tripling(Layer):
    ...     def call(self, inputs):
    ...         return inputs * 3.0
    >>> get_registered_name(Tripling)
    'docs>Tripling'
    """

    def register(named: Named) -> Named:
        if isinstance(named, type) and not hasattr(named, "get_config"):
            raise ValueError(f"register_keras_serializable: expected a class with get_config(), received {named!r}")
        full_name = f"{package}>{name or named.__name__}"
        known = _registered.get(full_name)
        # A module that is loaded again, as in notebooks, registers the same class anew.
        if known is not None and (known.__module__, known.__qualname__) != (named.__module__, named.__qualname__):
            raise ValueError(
                f"register_keras_serializable: {full_name!r} is registered already, for {known!r}; received {named!r}"
            )
        _registered[full_name] = named
        _names[named] = full_name
        return named

    return register


@contextlib.contextmanager
def custom_object_scope(custom_objects: dict[str, Any] | None) -> Iterator[None]:
    """Within the scope files may name these classes and functions, given by their names.

    >>> from pycnn.layers import Layer
    >>> class Halving(Layer):
    ...     def call(self, inputs):
    ...         return inputs * 0.5
    >>> with custom_object_scope({"Halving": Halving}):
    ...     get_registered_object("Halving") is Halving
    True
    """
    if custom_objects is not None and not isinstance(custom_objects, dict):
        raise TypeError(f"custom_objects: expected a dictionary of names, received {custom_objects!r}")
    token = _scoped.set({**(_scoped.get() or {}), **(custom_objects or {})})
    try:
        yield
    finally:
        _scoped.reset(token)


CustomObjectScope = custom_object_scope


def get_custom_objects() -> dict[str, Any]:
    """Everything that was registered, by ``package>name``: the dictionary itself, to which more may be added."""
    return _registered


def get_registered_name(named: Any) -> str:
    """The name under which a class or function was registered, otherwise its own.

    >>> get_registered_name(dict)
    'dict'
    """
    return _names.get(named) or str(named.__name__)


def get_registered_object(name: str | None) -> Any:
    """The class or function of a name: of the scope, or registered; None where there is none."""
    if not isinstance(name, str):
        return None
    found = (_scoped.get() or {}).get(name)
    return _registered.get(name) if found is None else found


# -- our own -------------------------------------------------------------------------------------------------------


def home_of(named: type) -> str | None:
    """Keras' module of a class of ours, as files name it; None for a user's class."""
    parts = named.__module__.split(".")
    if parts[0] != "pycnn":
        return None
    if parts[1] == "models":
        return _FUNCTIONAL if named.__name__ == "Functional" else "keras"
    package = "pycnn" if named.__name__ in _NOT_IN_KERAS else "keras"
    schedule = parts[1] == "optimizers" and named.__name__ in dir(_schedules())
    return f"{package}.{parts[1]}.schedules" if schedule else f"{package}.{parts[1]}"


def known_class(name: str, module: str | None) -> type[Configurable] | None:
    """The class of ours that a file means by a name and a module; None where there is none.

    >>> known_class("ReLU", "keras.layers").__name__, known_class("system", "os"), known_class("system", "keras")
    ('ReLU', None, None)
    """
    for place in _places(module):
        found = getattr(place, name, None) if name.isidentifier() and not name.startswith("_") else None
        if isinstance(found, type) and issubclass(found, Configurable) and found is not Configurable:
            return found
    return None


def known_function(name: str) -> Callable[..., Any] | None:
    """The function of ours that a file means by a name: an activation, a loss or a metric.

    >>> known_function("relu").__name__, known_function("get")
    ('relu', None)
    """
    for place in map(_module, ("activations", "losses", "metrics")):
        found = getattr(place, name, None) if name.isidentifier() and not name.startswith("_") else None
        if isinstance(found, types.FunctionType) and found.__module__.startswith(place.__name__):
            first = next(iter(signature(found).parameters), None)
            if first in _FIRST_ARGUMENTS:
                return found
    return None


def known_names() -> list[str]:
    """The names of all classes that a file may name."""
    ours = (name for place in _places(None) for name in dir(place) if known_class(name, None))
    return [*dict.fromkeys(ours), *_registered, *(_scoped.get() or {})]


def _module(name: str) -> types.ModuleType:
    return import_module(f"pycnn.{name}")  # one of the names above, never one of a file


def _schedules() -> Any:
    return getattr(_module("optimizers"), "schedules", None)


def _places(module: str | None) -> list[Any]:
    """Our modules that may hold what a file places in ``module``; without a module, as in old files, all of them."""
    if module is None or module in _PACKAGES:
        return [*map(_module, _MODULES), _schedules()]
    parts = module.split(".") if isinstance(module, str) else []
    if not parts or parts[0] not in _PACKAGES:
        return []
    places = [_module(name) for name in _MODULES if name in parts]
    if "optimizers" in parts:
        places.append(_schedules())
    return [*places, _module("models.functional")] if {"models", "engine"} & set(parts) else places
