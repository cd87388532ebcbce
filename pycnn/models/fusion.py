"""Which layers of a model run in one pass, and how: the one place that knows.

===================================================================  ========================================
layers in turn                                                       one pass of
===================================================================  ========================================
Conv2D, ReLU                                                         the convolution, in training, too
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

from collections.abc import Sequence

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

#: An output, and of how many layers it is; None where the first of them is to run alone.
Pass = tuple[Tensor, int] | None


def begins_pass(layer: Layer) -> bool:
    """Whether there are layers that a layer can be one pass with."""
    return isinstance(layer, Conv2D | BatchNormalization)


def in_one_pass(
    layers: Sequence[Layer], others: Sequence[Sequence[Tensor | None]], inputs: Tensor, training: bool | None
) -> Pass:
    """What the first layers of a chain give in turn, computed in one pass.

    Args:
        layers: a layer of which :func:`begins_pass` is true, and those behind it, each of which is the only one that
            reads the result of the one before.
        others: for each of them what it is called on beside that result; None for what is not there yet.
        inputs: of the first layer.
        training: whether the model is trained.

    Returns:
        The output, and how many of the layers it is the output of; None where the first layer is to run alone.
    """
    first = layers[0]
    if isinstance(first, Conv2D):
        return _of_convolution(first, layers, others, inputs, training) if first.is_plain else None
    assert isinstance(first, BatchNormalization)  # begins_pass says so
    above = layers[1]
    if first.can_rectify(above):
        return first.rectified(inputs, bool(training)), 2
    if first.can_pool(above, bool(training)):
        return first.max_pooled(inputs, above), 2
    return None


def _of_convolution(
    conv: Conv2D,
    layers: Sequence[Layer],
    others: Sequence[Sequence[Tensor | None]],
    inputs: Tensor,
    training: bool | None,
) -> Pass:
    relu = conv.can_rectify(layers[1])
    count = 2 if relu else 1
    norm, above = (*layers[count:], None, None)[:2]
    if not conv.can_normalise(norm):
        norm, above = None, norm
    elif training and norm.trainable:
        # A ReLU behind the norm is worth more in its pass than the norm is in that of the convolution.
        if not norm.can_rectify(above):
            pooling = above if conv.can_pool(above) else None
            return conv.normalised(inputs, norm, pooling, relu), count + (1 if pooling is None else 2)
        norm, above = None, norm
    elif conv.dtype in STORAGE_DTYPES:
        norm, above = None, norm  # what comes to it is rounded to halves, and is not in one pass
    count += norm is not None
    if conv.can_pool(above):
        return conv.max_pooled(inputs, above, norm, relu), count + 1
    if relu or conv.activation is not activations.linear:
        return (conv.rectified(inputs), 2) if relu else None
    return _folded(conv, norm, layers[count:], others[count:], inputs)


def _folded(
    conv: Conv2D,
    norm: BatchNormalization | None,
    layers: Sequence[Layer],
    others: Sequence[Sequence[Tensor | None]],
    inputs: Tensor,
) -> Pass:
    """With what is done to the result of a convolution without a ReLU while it is in the registers."""
    if norm is not None and is_grad_enabled():
        return None  # the gradients of the norm are those of a function of its own
    count, residual = 1 + (norm is not None), None
    if layers and _adds(layers[0], conv, others[0], inputs):
        residual, layers, count = others[0][0], layers[1:], count + 1
    relu = bool(layers) and is_relu(layers[0]) and layers[0].dtype == conv.dtype
    count += relu
    return None if count == 1 else (conv.folded(inputs, norm, residual, relu), count)


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
