"""The other name of :mod:`pycnn.applications.resnet50`, as in Keras."""

from pycnn.applications.resnet50 import ResNet50, decode_predictions, preprocess_input

__all__ = ["ResNet50", "decode_predictions", "preprocess_input"]
