"""The residual networks for CIFAR-10: ResNet-20, 32, 44, 56 and 110."""

from __future__ import annotations

import math
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pycnn import functional as F
from pycnn.applications import _classifier as classifier
from pycnn.applications import imagenet_utils
from pycnn.layers import (
    Activation,
    Add,
    BatchNormalization,
    Conv2D,
    Dense,
    GlobalAveragePooling2D,
    Layer,
    ZeroPadding2D,
)
from pycnn.layers.arguments import positive
from pycnn.models import Model
from pycnn.shapes import Shape
from pycnn.tensor import Tensor

__all__ = ["OptionAShortcut", "cifar_resnet", "load_pytorch_weights", "preprocess_input"]

#: The paper's section 4.2: filters of each stage, and the stride of its first block.
STAGES = (("layer1", 16, 1), ("layer2", 32, 2), ("layer3", 64, 2))

_PUBLISHED = "https://github.com/akamaster/pytorch_resnet_cifar10"


class OptionAShortcut(Layer):
    """A shortcut without weights around layers that halve height and width and add channels.

    It takes every second pixel of every second row, and puts channels of zeros in front of the input's and behind
    them, as many on both sides::

        y[n, i, j, k] = x[n, 2 i, 2 j, k - (filters - channels) / 2]    where x has that channel, otherwise 0

    Options B and C, which project by a convolution, cost parameters and win little, says the paper.

    Args:
        filters: channels of the output.
        **kwargs: as for :class:`pycnn.layers.Layer`.

    Raises:
        ValueError: for filters that are no positive integer; when called, for an input of other than four axes, of
            more channels than filters, or of so many that one side would get more zeros than the other.

    Source: K. He, X. Zhang, S. Ren and J. Sun, "Deep Residual Learning for Image Recognition", 2015, section 3.3,
    option A; zeros on both sides as in https://github.com/akamaster/pytorch_resnet_cifar10.

    >>> images = np.arange(1, 17).reshape(1, 4, 4, 1)
    >>> OptionAShortcut(3)(images).numpy()[0, :, :, 1]
    array([[ 1.,  3.],
           [ 9., 11.]], dtype=float32)
    """

    def __init__(self, filters: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filters = positive(filters, "filters")
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        """Every second pixel, between channels of zeros."""
        zeros = (self.filters - inputs.shape[-1]) // 2
        return F.pad(inputs[:, ::2, ::2], (zeros, zeros))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Half the height and the width, rounded up, and the filters.

        Raises:
            ValueError: for an input that the layer cannot take.
        """
        added = -1 if len(input_shape) != 4 or input_shape[-1] is None else self.filters - input_shape[-1]
        if added < 0 or added % 2:
            raise ValueError(
                f"{self}: expected inputs (n, height, width, channels) of {self.filters} channels or fewer by an even "
                f"number, received input shape {input_shape}"
            )
        n, *sides, _ = input_shape
        return n, *(None if size is None else -(-size // 2) for size in sides), self.filters


def cifar_resnet(
    depth: int = 20,
    include_top: bool = True,
    weights: classifier.Weights = None,
    input_tensor: Any = None,
    input_shape: Shape | None = None,
    pooling: str | None = None,
    classes: int = 10,
    classifier_activation: classifier.Activation = "softmax",
    name: str | None = None,
) -> Model:
    """A residual network for small images: a convolution, three stages of blocks of two convolutions, a dense layer.

    =====  ==================  ===================================
    depth  trained parameters  errors on CIFAR-10, as in the paper
    =====  ==================  ===================================
       20             269,722                               8.75 %
       32             464,154                               7.51 %
       44             658,586                               7.17 %
       56             853,018                               6.97 %
      110           1,727,962                               6.43 %
    =====  ==================  ===================================

    The paper trains them by stochastic gradient descent with a momentum of 0.9, a weight decay of 0.0001, batches of
    128 and a learning rate of 0.1, a tenth of that after 32,000 steps and again after 48,000, for 64,000 steps; on
    images mirrored at random and cut out of ones with four pixels of zeros around them.

    Args:
        depth: number of layers with weights, 6 n + 2: two in each of the n blocks of the three stages, and two more.
        include_top, input_tensor, pooling, classifier_activation: as of :func:`pycnn.applications.VGG16`.
        weights: None, or the path of a file: one of Keras' formats, or ``.npz`` for :func:`load_pytorch_weights`.
        input_shape: (height, width, channels), at least 4 x 4; None is (32, 32, 3), without top any size.
        classes: number of outputs, with the top.
        name: of the model, by default ``resnet20`` and so on.

    Returns:
        The network, not compiled, for images that :func:`preprocess_input` has prepared.

    Raises:
        ValueError: for another depth; as :func:`pycnn.applications.VGG16`.
        FileNotFoundError, TypeError: as :func:`pycnn.applications.VGG16`.

    Source: K. He, X. Zhang, S. Ren and J. Sun, "Deep Residual Learning for Image Recognition", 2015,
    https://arxiv.org/abs/1512.03385, section 4.2 and table 6; without biases in front of normalisations, as in
    https://github.com/akamaster/pytorch_resnet_cifar10.

    >>> model = cifar_resnet(20)
    >>> sum(weight.size for weight in model.trainable_weights), model.count_params()
    (269722, 271098)
    """
    if depth < 8 or (depth - 2) % 6:
        raise ValueError(f"depth: expected 6 n + 2 layers, for example 20, 32, 44, 56 or 110, received {depth!r}")
    classifier.check_weights(weights, _PUBLISHED, include_top, classifier_activation)
    images = classifier.image_input(input_tensor, input_shape, include_top, default_size=32, min_size=4)
    x = Activation("relu", name="relu1")(_convolved(images, 16, "conv1", "bn1"))
    for stage, filters, strides in STAGES:
        for block in range((depth - 2) // 6):
            x = _block(x, filters, strides if block == 0 else 1, f"{stage}_{block}")
    if include_top:
        x = GlobalAveragePooling2D(name="avg_pool")(x)
        x = classifier.predictions(x, classes, classifier_activation)
    else:
        x = classifier.pooled(x, pooling, "avg_pool", "max_pool")
    if weights is None or Path(weights).suffix != ".npz":
        return classifier.finished(images, x, name or f"resnet{depth}", weights)
    model = classifier.finished(images, x, name or f"resnet{depth}", None)
    load_pytorch_weights(model, weights)
    return model


def _block(x: Any, filters: int, strides: int, name: str) -> Any:
    """``relu(shortcut + residual)`` of two convolutions, the first one strided where the maps become smaller."""
    shortcut = x if strides == 1 else OptionAShortcut(filters, name=f"{name}_shortcut")(x)
    x = _convolved(x, filters, f"{name}_conv1", f"{name}_bn1", strides)
    x = Activation("relu", name=f"{name}_relu1")(x)
    x = _convolved(x, filters, f"{name}_conv2", f"{name}_bn2")
    x = Add(name=f"{name}_add")([shortcut, x])
    return Activation("relu", name=f"{name}_relu2")(x)


def _convolved(x: Any, filters: int, name: str, normalisation: str, strides: int = 1) -> Any:
    """A convolution of 3 x 3 with one pixel of zeros on every side, normalised.

    "same" is that only without strides: with strides of 2 it puts the one row and column of zeros that an even size
    needs at the end, and the filters would stand one pixel off from where the trained ones stood.
    """
    if strides > 1:
        x = ZeroPadding2D(1, name=f"{name}_pad")(x)
    padding = "same" if strides == 1 else "valid"
    x = Conv2D(filters, 3, strides, padding, use_bias=False, kernel_initializer="he_normal", name=name)(x)
    return BatchNormalization(momentum=0.9, epsilon=1e-5, name=normalisation)(x)


def preprocess_input(x: Any, data_format: str | None = None) -> Any:
    """Images as the trained networks take them: as shares of 255, less the means of the channels over ImageNet, by
    their deviations.

    Arguments, result, errors and source: :func:`pycnn.applications.imagenet_utils.preprocess_input` in mode "torch".

    >>> preprocess_input(np.array([[[255, 0, 0]]])).round(3)
    array([[[ 2.249, -2.036, -1.804]]], dtype=float32)
    """
    return imagenet_utils.preprocess_input(x, data_format, mode="torch")


#: PyTorch's names of a layer's weights, in Keras' order.
_PARTS: dict[type[Layer], tuple[str, ...]] = {
    Conv2D: ("weight",),
    BatchNormalization: ("weight", "bias", "running_mean", "running_var"),
    Dense: ("weight", "bias"),
}
#: PyTorch's axes of a weight in Keras' order: HWIO of OIHW, (in, out) of (out, in), and vectors.
_AXES = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}


def load_pytorch_weights(model: Model, path: str | os.PathLike[str]) -> None:
    """Take over the weights of a network that was trained with PyTorch.

    They are those of https://github.com/akamaster/pytorch_resnet_cifar10, saved as NumPy saves several arrays::

        state = torch.load("resnet20-12fca82f.th", map_location="cpu", weights_only=True)["state_dict"]
        np.savez("resnet20.npz", **{name.removeprefix("module."): array.numpy() for name, array in state.items()})

    Args:
        model: of :func:`cifar_resnet`, of the same depth, with the top.
        path: a ``.npz`` file of floating-point arrays: ``conv1.weight`` (O, I, H, W), ``bn1.running_mean``,
            ``layer1.0.conv1.weight`` and so on, ``linear.weight`` (out, in), ``linear.bias``. ``num_batches_tracked``
            may be there.

    Raises:
        ValueError: for a file that is damaged, or whose arrays are others than the model's; nothing is changed then.
        FileNotFoundError: where there is no such file.

    Source: the names of parameters of the repository above.

    >>> load_pytorch_weights(cifar_resnet(20), "resnet20.npz")  # doctest: +SKIP
    """
    layers = {_pytorch_name(layer): layer for layer in model.layers if layer.weights}
    names = {layer: [f"{prefix}.{part}" for part in _PARTS[type(layer)]] for prefix, layer in layers.items()}
    shapes = {
        name: _pytorch_shape(weight.shape)
        for layer, parts in names.items()
        for name, weight in zip(parts, layer.weights)
    }
    arrays = _read_arrays(Path(path), shapes)
    for layer, parts in names.items():
        layer.set_weights([arrays[name].transpose(_AXES[arrays[name].ndim]) for name in parts])


def _pytorch_name(layer: Layer) -> str:
    return "linear" if layer.name == "predictions" else layer.name.replace("_", ".")


def _pytorch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    places = _AXES[len(shape)]
    return tuple(shape[places.index(axis)] for axis in range(len(shape)))


def _read_arrays(path: Path, shapes: dict[str, tuple[int, ...]]) -> dict[str, NDArray[Any]]:
    """The arrays of a ``.npz`` file, which must have these names and shapes."""
    try:
        with zipfile.ZipFile(path) as file:
            found = {name.removesuffix(".npy") for name in file.namelist() if "num_batches_tracked" not in name}
            if found != shapes.keys():
                missing, others = sorted(shapes.keys() - found), sorted(found - shapes.keys())
                raise ValueError(f"missing {missing[:3]}, not expected {others[:3]}")
            return {name: _read_array(file, name, shape) for name, shape in shapes.items()}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise ValueError(f"{path}: expected the weights of a network with these layers: {error}") from error


def _read_array(file: zipfile.ZipFile, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """One array; what it says of its shape is believed only where it is ``shape``, so that no file asks for memory."""
    with file.open(f"{name}.npy") as member:
        version = np.lib.format.read_magic(member)
        if version != (1, 0):
            raise ValueError(f"{name}: expected version 1.0 of NumPy's format, received {version}")
        received, fortran_order, dtype = np.lib.format.read_array_header_1_0(member)
        if received != shape or dtype.kind != "f" or fortran_order:
            raise ValueError(f"{name}: expected floating-point numbers of shape {shape}, received {dtype} {received}")
        return np.frombuffer(member.read(dtype.itemsize * math.prod(shape)), dtype).reshape(shape)
