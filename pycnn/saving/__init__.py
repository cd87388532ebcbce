"""Models and weights in files, and objects as dictionaries, by Keras' names.

- :func:`load_model` and :meth:`pycnn.models.Model.save`: whole models.
- :meth:`pycnn.models.Model.load_weights` and ``save_weights``: weights alone.
- :func:`register_keras_serializable` and :func:`custom_object_scope`: classes and functions of your own in files.
- :func:`serialize_keras_object` and :func:`deserialize_keras_object`: objects as dictionaries.

The names here are imported when they are first used: models are described with this package, and read with models.

Source: Keras 3, keras.saving.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pycnn.saving.errors import InvalidFileError
    from pycnn.saving.model_files import load_model, save_model
    from pycnn.saving.registry import (
        CustomObjectScope,
        custom_object_scope,
        get_custom_objects,
        get_registered_name,
        get_registered_object,
        register_keras_serializable,
    )
    from pycnn.saving.serialization import deserialize_keras_object, serialize_keras_object
    from pycnn.saving.weights import load_weights, save_weights

__all__ = [
    "CustomObjectScope",
    "InvalidFileError",
    "custom_object_scope",
    "deserialize_keras_object",
    "get_custom_objects",
    "get_registered_name",
    "get_registered_object",
    "load_model",
    "load_weights",
    "register_keras_serializable",
    "save_model",
    "save_weights",
    "serialize_keras_object",
]

_HOMES = {
    "InvalidFileError": "errors",
    "load_model": "model_files",
    "save_model": "model_files",
    "load_weights": "weights",
    "save_weights": "weights",
    "deserialize_keras_object": "serialization",
    "serialize_keras_object": "serialization",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'pycnn.saving' has no attribute {name!r}")
    return getattr(import_module(f"pycnn.saving.{_HOMES.get(name, 'registry')}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
