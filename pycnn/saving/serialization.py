"""Objects as dictionaries of text, numbers and lists, in the form in which Keras' files hold them, and back.

An object is ``{"module": "keras.layers", "class_name": "Dense", "config": {...}, "registered_name": None}``; a built
layer has ``"build_config": {"input_shape": ...}`` beside that, and a compiled model ``"compile_config"``.

Source: Keras 3, keras.saving.serialize_keras_object and keras.saving.deserialize_keras_object.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import numpy as np

from pycnn import activations
from pycnn.layers.arguments import choice
from pycnn.naming import nearest
from pycnn.saving import registry
from pycnn.saving.registry import custom_object_scope, get_registered_name, get_registered_object
from pycnn_kernels.problem import numpy_dtype

#: Lists and dictionaries within each other: more than any model has, and far from where Python gives up.
_DEEPEST = 100

_FLOATS = ("float16", "bfloat16", "float32", "float64")
_OTHERS = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")

#: By number, the objects of one file that are named more than once.
_shared: ContextVar[dict[int, Any] | None] = ContextVar("shared_objects", default=None)
_is_copied: ContextVar[bool] = ContextVar("is_copied", default=False)


def serialize_keras_object(obj: Any) -> Any:
    """An object as text, numbers, lists and dictionaries.

    Args:
        obj: a layer, model, loss, metric, optimizer, initializer, regularizer, constraint, or one of their functions;
            an array; text, numbers, slices, an ellipsis, None; lists, tuples and dictionaries of such.

    Raises:
        TypeError: for anything else, a lambda among it: nothing can be made again from its name.

    >>> from pycnn.layers import Flatten
    >>> serialize_keras_object(Flatten(name="flat"))["config"]["name"]
    'flat'
    """
    if obj is None or isinstance(obj, str | int | float | bool):
        return obj
    if isinstance(obj, np.generic):
        return obj.item()
    if isinstance(obj, list | tuple):
        entries = [serialize_keras_object(entry) for entry in obj]
        return tuple(entries) if isinstance(obj, tuple) else entries
    if isinstance(obj, dict):
        return {name: serialize_keras_object(value) for name, value in obj.items()}
    if isinstance(obj, np.ndarray):
        return {"class_name": "__numpy__", "config": {"value": obj.tolist(), "dtype": str(obj.dtype)}}
    if isinstance(obj, slice):
        ends = {name: serialize_keras_object(getattr(obj, name)) for name in ("start", "stop", "step")}
        return {"class_name": "__slice__", "config": ends}
    if obj is Ellipsis:
        return {"class_name": "__ellipsis__", "config": {}}
    if isinstance(obj, types.FunctionType):
        return _described_function(obj)
    return _described(obj)


def configured(value: Any) -> Any:
    """An argument as ``get_config()`` gives it: activation functions of ours are their names alone, as in Keras."""
    name = value.__name__ if isinstance(value, types.FunctionType) else None
    is_activation = name is not None and getattr(activations, name, None) is value
    return name if is_activation else serialize_keras_object(value)


@contextlib.contextmanager
def sharing_objects() -> Iterator[None]:
    """Within the scope an object that is met twice is the same object when it is made again."""
    token = _shared.set({})
    try:
        yield
    finally:
        _shared.reset(token)


def _described(obj: Any) -> dict[str, Any]:
    if not hasattr(obj, "get_config"):
        raise TypeError(
            f"cannot write {obj!r}: expected text, numbers, lists, dictionaries, arrays, or an object with get_config()"
        )
    kind = type(obj)
    config = obj.get_config()
    if not isinstance(config, dict):
        raise TypeError(f"{kind.__name__}.get_config: expected a dictionary, received {config!r}")
    home = registry.home_of(kind)
    name = getattr(obj, "_CLASS_NAME", kind.__name__)
    described: dict[str, Any] = {
        "module": home or kind.__module__,
        "class_name": name,
        "config": serialize_keras_object(config),
        "registered_name": None if home else get_registered_name(kind),
    }
    for part in ("build_config", "compile_config"):
        said = getattr(obj, f"get_{part}")() if hasattr(obj, f"get_{part}") else None
        if said:
            described[part] = serialize_keras_object(said)
    return _marked_if_shared(obj, described)


def _marked_if_shared(obj: Any, described: dict[str, Any]) -> dict[str, Any]:
    shared = _shared.get()
    if shared is not None:
        # Beside the object, whose id stays its own then. The number is there from the first meeting on: what describes
        # the object is copied on its way into the description of a model.
        _, described["shared_object_id"] = shared.setdefault(id(obj), (obj, len(shared) + 1))
    return described


def _described_function(function: types.FunctionType) -> dict[str, Any]:
    name = get_registered_name(function)
    if registry.known_function(name) is function:
        return {"module": "builtins", "class_name": "function", "config": name, "registered_name": "function"}
    if not function.__name__.isidentifier():
        raise TypeError(
            f"cannot write {function!r}: a function without a name cannot be found again; use a named function and "
            "register it with register_keras_serializable()"
        )
    return {"module": function.__module__, "class_name": "function", "config": name, "registered_name": name}


# -- back ----------------------------------------------------------------------------------------------------------


def deserialize_keras_object(config: Any, custom_objects: dict[str, Any] | None = None) -> Any:
    """The object that :func:`serialize_keras_object` has described. Nothing that it names is imported or executed.

    Args:
        config: the description; module names of Keras and of pycnn mean the same.
        custom_objects: classes and functions of your own by name, beside those registered.

    Raises:
        ValueError: for a class or function that is neither pycnn's nor registered (the message names the nearest),
            for lambdas, or a description that is no such thing.
        TypeError, ValueError: as the constructors.

    >>> config = {"module": "keras.layers", "class_name": "ReLU", "config": {"max_value": 6.0}}
    >>> deserialize_keras_object(config).max_value
    6.0
    """
    if _is_copied.get():  # a part of a description that has been copied as a whole
        with custom_object_scope(custom_objects):
            return _made(config)
    token = _is_copied.set(True)
    try:
        return deserialize_keras_object(_copied(config), custom_objects)
    finally:
        _is_copied.reset(token)


def _copied(config: Any, depth: int = 0) -> Any:
    """The description again: ``from_config`` may take it apart.

    Raises:
        ValueError: it nests too deep.
    """
    if depth > _DEEPEST:
        raise ValueError(f"expected at most {_DEEPEST} lists and dictionaries within each other")
    if isinstance(config, dict):
        return {name: _copied(value, depth + 1) for name, value in config.items()}
    return [_copied(each, depth + 1) for each in config] if isinstance(config, list | tuple) else config


def _made(config: Any) -> Any:
    if isinstance(config, list | tuple):
        return [deserialize_keras_object(each) for each in config]
    if not isinstance(config, dict):
        return config
    if "class_name" not in config or "config" not in config:
        return {name: deserialize_keras_object(value) for name, value in config.items()}
    name, inner = config["class_name"], config["config"]
    if not isinstance(name, str):
        raise ValueError(f"class_name: expected text, received {name!r}")
    if name in _SPECIAL:
        return _SPECIAL[name](inner)
    if name == "function":
        return _function(inner, config.get("registered_name"))
    return _object(name, {} if inner is None else inner, config)


def _object(name: str, inner: Any, config: dict[str, Any]) -> Any:
    if not isinstance(inner, dict):
        raise ValueError(f"{name}: expected a dictionary of arguments, received {inner!r}")
    shared, number = _shared.get(), config.get("shared_object_id")
    if shared is not None and number in shared:
        return shared[number]
    kind = _class(name, config.get("module"), config.get("registered_name"))
    made = kind.from_config(inner)
    build_config, compile_config = config.get("build_config"), config.get("compile_config")
    if build_config and not getattr(made, "built", True):
        made.build_from_config(build_config)
    if compile_config and hasattr(made, "compile_from_config"):
        made.compile_from_config(compile_config)
    if shared is not None and number is not None:
        shared[number] = made
    return made


def _class(name: str, module: Any, registered_name: Any) -> Any:
    found = get_registered_object(registered_name) or get_registered_object(name) or registry.known_class(name, module)
    if found is None or not hasattr(found, "from_config"):
        raise ValueError(
            f"unknown class {name!r} of {module!r}.{nearest(name, registry.known_names())} Classes of your own must be "
            "registered with register_keras_serializable(), or named in custom_objects"
        )
    return found


def _function(name: Any, registered_name: Any) -> Any:
    found = get_registered_object(registered_name) or get_registered_object(name)
    if found is None and isinstance(name, str):
        found = registry.known_function(name)
    if found is None:
        raise ValueError(
            f"unknown function {name!r}. Functions of your own must be registered with "
            "register_keras_serializable(), or named in custom_objects"
        )
    return found


def _array(config: Any) -> np.ndarray:
    return np.array(config["value"], dtype=numpy_dtype(choice(config["dtype"], (*_FLOATS, *_OTHERS), "dtype")))


def _slice(config: Any) -> slice:
    ends = [config[name] for name in ("start", "stop", "step")]
    if not all(end is None or type(end) is int for end in ends):
        raise ValueError(f"expected a slice with whole numbers or None, received {config!r}")
    return slice(*ends)


def _policy(config: Any) -> str:
    """The name of a dtype. Keras has policies; those with one dtype for everything are what layers have here."""
    name: str = choice(config["name"], _FLOATS, "dtype")
    return name


def _refused_lambda(config: Any) -> Any:
    raise ValueError("the file holds the code of a lambda, which is never executed; name and register the function")


_SPECIAL: dict[str, Callable[[Any], Any]] = {
    "__numpy__": _array,
    "__tensor__": _array,
    "__slice__": _slice,
    "__ellipsis__": lambda _: Ellipsis,
    "__lambda__": _refused_lambda,
    "DTypePolicy": _policy,
    "Policy": _policy,
}
