"""Layers with Keras' names, arguments, defaults and layouts (channels last, HWIO kernels)."""

from pycnn.layers.activation import Activation
from pycnn.layers.batch_normalization import BatchNormalization
from pycnn.layers.conv2d import Conv2D
from pycnn.layers.dense import Dense
from pycnn.layers.dropout import Dropout
from pycnn.layers.flatten import Flatten
from pycnn.layers.input import Input, InputLayer
from pycnn.layers.layer import Layer
from pycnn.layers.pooling2d import AveragePooling2D, AvgPool2D, MaxPool2D, MaxPooling2D

__all__ = [
    "Activation",
    "AveragePooling2D",
    "AvgPool2D",
    "BatchNormalization",
    "Conv2D",
    "Dense",
    "Dropout",
    "Flatten",
    "Input",
    "InputLayer",
    "Layer",
    "MaxPool2D",
    "MaxPooling2D",
]
