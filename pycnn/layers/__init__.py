"""Layers with Keras' names, arguments, defaults and layouts (channels last, HWIO kernels)."""

from pycnn.layers import convolutional, padding, pooling, up_sampling
from pycnn.layers.activation import ELU, Activation, LeakyReLU, PReLU, ReLU, Softmax
from pycnn.layers.batch_normalization import BatchNormalization
from pycnn.layers.convolutional import *  # noqa: F403
from pycnn.layers.dense import Dense
from pycnn.layers.dropout import AlphaDropout, Dropout, SpatialDropout1D, SpatialDropout2D, SpatialDropout3D
from pycnn.layers.function import Lambda
from pycnn.layers.identity import Identity
from pycnn.layers.input import Input, InputLayer
from pycnn.layers.layer import Layer
from pycnn.layers.layer_normalization import LayerNormalization
from pycnn.layers.merging import (
    Add,
    Average,
    Concatenate,
    Dot,
    Maximum,
    Minimum,
    Multiply,
    Subtract,
    add,
    average,
    concatenate,
    dot,
    maximum,
    minimum,
    multiply,
    subtract,
)
from pycnn.layers.noise import GaussianDropout, GaussianNoise
from pycnn.layers.padding import *  # noqa: F403
from pycnn.layers.pooling import *  # noqa: F403
from pycnn.layers.rescaling import Rescaling
from pycnn.layers.reshaping import Flatten, Permute, RepeatVector, Reshape
from pycnn.layers.up_sampling import *  # noqa: F403

__all__ = [
    *convolutional.__all__,
    *padding.__all__,
    *pooling.__all__,
    *up_sampling.__all__,
    "ELU",
    "Activation",
    "AlphaDropout",
    "Add",
    "Average",
    "BatchNormalization",
    "Concatenate",
    "Dense",
    "Dot",
    "Dropout",
    "Flatten",
    "GaussianDropout",
    "GaussianNoise",
    "Identity",
    "Input",
    "InputLayer",
    "Lambda",
    "Layer",
    "LayerNormalization",
    "LeakyReLU",
    "Maximum",
    "Minimum",
    "Multiply",
    "PReLU",
    "Permute",
    "ReLU",
    "RepeatVector",
    "Rescaling",
    "Reshape",
    "Softmax",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
    "Subtract",
    "add",
    "average",
    "concatenate",
    "dot",
    "maximum",
    "minimum",
    "multiply",
    "subtract",
]
