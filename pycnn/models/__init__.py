"""Models with Keras' interface."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pycnn.models.functional import Functional
from pycnn.models.model import Model
from pycnn.models.sequential import Sequential

if TYPE_CHECKING:
    from pycnn.saving.model_files import load_model, model_from_json, save_model

__all__ = ["Functional", "Model", "Sequential", "load_model", "model_from_json", "save_model"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'pycnn.models' has no attribute {name!r}")
    return getattr(import_module("pycnn.saving.model_files"), name)  # which reads and writes what this package has
