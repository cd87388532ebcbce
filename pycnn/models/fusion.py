"""Which layers of a model run in one pass, and how: the one place that knows.

===================================================================  ========================================
layers in turn                                                       one pass of
===================================================================  ========================================
Conv2D, [ReLU]                                                       the convolution, in training, too
Conv2D, [ReLU,] [BatchNormalization,] MaxPooling2D                   convolution and pooling
Conv2D, [ReLU,] BatchNormalization, [MaxPooling2D], in training      all; statistics on the way
Conv2D, BatchNormalization, [Add,] [ReLU] without gradients          the convolution, with other numbers
Conv2D, Add, [ReLU]                                                  the convolution, in training, too
BatchNormalization, ReLU                                             the normalisation, in training, too
BatchNormalization, MaxPooling2D by the moving statistics            both
===================================================================  ========================================

ReLU is ``Activation("relu")``, ``ReLU()`` or, of a convolution, its own activation; Add is ``x + y``, too. Layers with
an activity regularizer, classes derived from these, and layers of different dtypes run in turn, and so do convolution
and Add, and convolution and normalisation by fixed numbers, in halves: each result is rounded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import NamedTuple

from pycnn import activations
from pycnn.autograd import is_grad_enabled
from pycnn.layers import arithmetic
from pycnn.layers.activation import is_relu
from pycnn.layers.batch_normalization import BatchNormalization
from pycnn.layers.convolutional import Conv2D
from pycnn.layers.layer import Layer
from pycnn.layers.merging import Add
from pycnn.tensor import Tensor
from pycnn_kernels.problem import STORAGE_DTYPES

#: So many layers are one pass at most.
LONGEST_PASS = 4

#: What layers are called on beside the result of the layer before, for each of them; None for what is not there yet.
Others = Sequence[Sequence[Tensor | None]]


class Pass(NamedTuple):
    """How some layers in turn are computed.

    Attributes:
        length: of how many layers.
        run: gives the output of the last for the inputs of the first, which it has accepted, and the ``others``.
    """

    length: int
    run: Callable[[Tensor, Others], Tensor]


def begins_pass(layer: Layer) -> bool:
    """Whether there are layers that a layer can be one pass with."""
    return isinstance(layer, Conv2D | BatchNormalization)


def pass_of(layers: Sequence[Layer], others: Others, inputs: Tensor, training: bool | None) -> Pass | None:
    """How to compute the first layers of a chain.

    It holds for all inputs of the same shape and dtype, and others of the same shapes and dtypes, while ``training``
    and whether gradients are recorded stay what they are, and until an attribute of a layer is set.

    Args:
        layers: a layer of which :func:`begins_pass` is true, and those behind it, each of which is the only one that
            reads the result of the one before.
        others: what they are called on beside that result.
        inputs: of the first layer, which it has accepted.
        training: whether the model is trained.

    Returns:
        None where the first layer is to be called.
    """
    layers = list(takewhile(_has_call_of_its_class, layers))
    if not layers:
        return None
    first, above = (*layers, None)[:2]
    if isinstance(first, Conv2D):
        return _of_convolution(first, layers, others, inputs, training) if first.is_plain else None
    assert isinstance(first, BatchNormalization)  # begins_pass says so
    norm = first
    if norm.can_rectify(above):
        return Pass(2, lambda inputs, _: norm.rectified(inputs, bool(training)))
    if norm.can_pool(above, bool(training)):
        pooling = above
        return Pass(2, lambda inputs, _: norm.max_pooled(inputs, pooling))
    return None


def _has_call_of_its_class(layer: Layer) -> bool:
    """Whether nobody has set ``layer.call`` to a function of his own, to look at what goes through the layer."""
    return "call" not in vars(layer)


def _of_convolution(
    conv: Conv2D, layers: Sequence[Layer], others: Others, inputs: Tensor, training: bool | None
) -> Pass:
    relu = conv.can_rectify((*layers, None)[1])
    count = 2 if relu else 1
    norm, above = (*layers[count:], None, None)[:2]
    if not conv.can_normalise(norm):
        norm, above = None, norm
    elif training and norm.trainable:
        # A ReLU behind the norm is worth more in its pass than the norm is in that of the convolution.
        if not norm.can_rectify(above):
            pooling = above if conv.can_pool(above) else None
            more = 1 if pooling is None else 2
            return _of_inputs(count + more, conv.normalised(inputs, norm, pooling, relu))
        norm, above = None, norm
    elif conv.dtype in STORAGE_DTYPES:
        norm, above = None, norm  # what comes to it is rounded to halves, and is not in one pass
    if conv.can_pool(above):
        return _of_inputs(count + (norm is not None) + 1, conv.max_pooled(inputs, above, norm, relu))
    if relu or conv.activation is not activations.linear:
        return _of_inputs(count, conv.alone(inputs, relu))
    return _folded(conv, norm, layers, others, inputs)


def _of_inputs(count: int, compute: Callable[[Tensor], Tensor]) -> Pass:
    return Pass(count, lambda inputs, _: compute(inputs))


def _folded(
    conv: Conv2D, norm: BatchNormalization | None, layers: Sequence[Layer], others: Others, inputs: Tensor
) -> Pass:
    """With what is done to the result of a convolution without a ReLU while it is in the registers."""
    if norm is not None and is_grad_enabled():  # the gradients of the norm are those of a function of its own
        return _of_inputs(1, conv.alone(inputs))
    count = 1 + (norm is not None)
    addition = None
    if len(layers) > count and _adds(layers[count], conv, others[count], inputs):
        addition, count = count, count + 1
    relu = len(layers) > count and is_relu(layers[count]) and layers[count].dtype == conv.dtype
    if addition is None:
        compute = conv.folded(inputs, norm, None, relu)
        return Pass(count + relu, lambda inputs, _: compute(inputs, None))
    place = addition
    compute = conv.folded(inputs, norm, others[place][0], relu)
    return Pass(count + relu, lambda inputs, others: compute(inputs, others[place][0]))


def _adds(layer: Layer, conv: Conv2D, others: Sequence[Tensor | None], inputs: Tensor) -> bool:
    """Whether a layer adds one tensor, which is there, to the result of a convolution."""
    return (
        type(layer) in (Add, arithmetic.Add)
        and layer.dtype == conv.dtype
        and conv.dtype not in STORAGE_DTYPES  # halves are rounded before the sum
        and layer.activity_regularizer is None
        and len(others) == 1
        and others[0] is not None
        and conv.can_add(others[0], inputs)
    )
