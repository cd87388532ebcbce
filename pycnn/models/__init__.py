"""Models with Keras' interface."""

from pycnn.models.functional import Functional
from pycnn.models.model import Model
from pycnn.models.sequential import Sequential

__all__ = ["Functional", "Model", "Sequential"]
