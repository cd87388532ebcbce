"""Named problem sets, for correctness as well as for speed."""

from __future__ import annotations

from typing import NamedTuple

from pycnn_kernels.problem import ConvProblem


class Shape(NamedTuple):
    """A convolution layer of a network, on square images, with the same padding on every side."""

    name: str
    N: int
    C: int
    size: int
    K: int
    kernel: int
    stride: int = 1
    padding: int = 0
    groups: int = 1

    def problem(self, layout: str = "channels_last", weight_layout: str = "HWIO") -> ConvProblem:
        side = (self.padding, self.padding)
        return ConvProblem(
            "float32", layout, weight_layout, self.N, self.C, (1, self.size, self.size), self.K,
            (1, self.kernel, self.kernel), (1, self.stride, self.stride), ((0, 0), side, side), (1, 1, 1),
            self.groups, bias=True,
        )  # type: ignore[arg-type]  # fmt: skip


#: Layers of the documented networks with at least 32 channels on both sides.
DOCUMENTED = [
    Shape("CIFAR-10 conv 2", 50, 32, 15, 64, 3),
    Shape("CIFAR-10 conv 3", 50, 64, 6, 128, 3),
    Shape("cats/dogs 64 conv 2", 32, 32, 31, 32, 3),
    Shape("batch-norm 64 conv 2", 32, 32, 31, 64, 3),
    Shape("batch-norm 64 conv 3", 32, 64, 14, 128, 3),
    Shape("VGG16 conv1_2", 1, 64, 224, 64, 3, padding=1),
    Shape("VGG16 conv2_2", 1, 128, 112, 128, 3, padding=1),
    Shape("VGG16 conv3_2", 1, 256, 56, 256, 3, padding=1),
    Shape("VGG16 conv4_2", 1, 512, 28, 512, 3, padding=1),
    Shape("VGG16 conv5_2", 1, 512, 14, 512, 3, padding=1),
]

#: First layers: three input channels.
FIRST_LAYERS = [
    Shape("39x39, 10 filters 3x3", 32, 3, 39, 10, 3),
    Shape("LeNet-style, 6 filters 5x5", 50, 3, 32, 6, 5),
    Shape("cats/dogs 300, 10 filters 5x5", 16, 3, 300, 10, 5),
    Shape("CIFAR-10 conv 1, 32 filters 3x3", 50, 3, 32, 32, 3),
    Shape("cats/dogs 64 conv 1, 32 filters 3x3", 32, 3, 64, 32, 3),
    Shape("VGG16 conv1_1, 64 filters 3x3", 1, 3, 224, 64, 3, padding=1),
    Shape("ResNet conv1, 64 filters 7x7 stride 2", 8, 3, 224, 64, 7, stride=2, padding=3),
]

#: The distinct convolutions of VGG16 (Simonyan and Zisserman, 2015) on one image.
VGG16 = [
    Shape("VGG16 conv1_1", 1, 3, 224, 64, 3, padding=1),
    Shape("VGG16 conv1_2", 1, 64, 224, 64, 3, padding=1),
    Shape("VGG16 conv2_1", 1, 64, 112, 128, 3, padding=1),
    Shape("VGG16 conv2_2", 1, 128, 112, 128, 3, padding=1),
    Shape("VGG16 conv3_1", 1, 128, 56, 256, 3, padding=1),
    Shape("VGG16 conv3_2", 1, 256, 56, 256, 3, padding=1),
    Shape("VGG16 conv4_1", 1, 256, 28, 512, 3, padding=1),
    Shape("VGG16 conv4_2", 1, 512, 28, 512, 3, padding=1),
    Shape("VGG16 conv5", 1, 512, 14, 512, 3, padding=1),
]


def _resnet50() -> list[Shape]:
    """The distinct convolutions of ResNet50 on one image, the stride in the 3x3 layers (He et al., 2016)."""
    shapes = [Shape("ResNet50 conv1", 1, 3, 224, 64, 7, stride=2, padding=3)]
    for stage, (size, C, width) in enumerate([(56, 64, 64), (56, 256, 128), (28, 512, 256), (14, 1024, 512)], start=2):
        step, out = (1 if stage == 2 else 2), 4 * width
        after = size // step
        shapes += [
            Shape(f"ResNet50 {stage} first 1x1", 1, C, size, width, 1),
            Shape(f"ResNet50 {stage} shortcut 1x1", 1, C, size, out, 1, stride=step),
        ]
        if step == 2:
            shapes.append(Shape(f"ResNet50 {stage} 3x3 stride 2", 1, width, size, width, 3, stride=2, padding=1))
        shapes += [
            Shape(f"ResNet50 {stage} 3x3", 1, width, after, width, 3, padding=1),
            Shape(f"ResNet50 {stage} 1x1 out", 1, width, after, out, 1),
            Shape(f"ResNet50 {stage} 1x1 in", 1, out, after, width, 1),
        ]
    return shapes


RESNET50 = _resnet50()

#: The distinct depthwise convolutions of MobileNet (Howard et al., 2017) on one image.
MOBILENET = [
    Shape(f"MobileNet depthwise {C}, {size}, stride {stride}", 1, C, size, C, 3, stride, 1, groups=C)
    for C, size, stride in [
        (32, 112, 1), (64, 112, 2), (128, 56, 1), (128, 56, 2), (256, 28, 1), (256, 28, 2), (512, 14, 1), (512, 14, 2),
        (1024, 7, 1),
    ]
]  # fmt: skip
