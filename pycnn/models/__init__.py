"""Models with Keras' interface."""

from pycnn.models.model import Model
from pycnn.models.sequential import Sequential

__all__ = ["Model", "Sequential"]
