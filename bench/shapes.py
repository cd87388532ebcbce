"""Named problem sets, for correctness as well as for speed."""

from __future__ import annotations

from typing import NamedTuple

from pycnn_kernels.problem import ConvProblem, Layout, Triple, WeightLayout, effective_kernel

#: One number for every spatial axis, or one each.
Sizes = int | tuple[int, ...]


class Shape(NamedTuple):
    """A convolution layer of a network, in float32.

    Attributes:
        name: the network and the layer.
        N: images, signals or volumes at once.
        C: input channels.
        size: of the input along each axis.
        K: output channels.
        kernel: taps along each axis.
        stride: steps along each axis.
        padding: zeros on each of the two sides of each axis.
        groups: C for a depthwise layer.
        dilation: distances between taps along each axis.
        rank: spatial axes: 1 for signals, 2 for images, 3 for volumes.

    >>> Shape("Inception 17x17 1x7", 1, 128, 17, 192, (1, 7), padding=(0, 3)).problem().y_shape
    (1, 17, 17, 192)
    """

    name: str
    N: int
    C: int
    size: Sizes
    K: int
    kernel: Sizes
    stride: Sizes = 1
    padding: Sizes = 0
    groups: int = 1
    dilation: Sizes = 1
    rank: int = 2

    def axes(self, value: Sizes) -> tuple[int, ...]:
        """A size, kernel, stride, padding or dilation as one number for each of the shape's axes."""
        values = (value,) * self.rank if isinstance(value, int) else value
        assert len(values) == self.rank, f"{self.name}: {self.rank} axes; received {value}"
        return values

    def problem(self, layout: Layout = "channels_last", weight_layout: WeightLayout = "HWIO") -> ConvProblem:
        pd, ph, pw = self._triple(self.padding, 0)
        return ConvProblem(
            "float32", layout, weight_layout, self.N, self.C, self._triple(self.size, 1), self.K,
            self._triple(self.kernel, 1), self._triple(self.stride, 1),
            ((pd, pd), (ph, ph), (pw, pw)), self._triple(self.dilation, 1), self.groups, bias=True, rank=self.rank,
        )  # fmt: skip

    def _triple(self, value: Sizes, missing: int) -> Triple:
        return (missing,) * (3 - self.rank) + self.axes(value)  # type: ignore[return-value]


def scaled(shape: Shape) -> Shape:
    """The same kind of layer, small enough for an oracle of loops: fewer images, smaller maps, fewer channels.

    Kernels, strides, paddings and dilations stay, as does what is left of the channels of a group after whole
    vectors; a map keeps being odd or even, and a few places for the window.

    >>> scaled(Shape("ResNet50 4 3x3 stride 2", 1, 256, 28, 256, 3, stride=2, padding=1))[1:8]
    (1, 64, (12, 12), 64, 3, 2, 1)
    """

    def few(channels: int, whole: int) -> int:
        return channels if channels < whole + 16 else whole + channels % 16

    size = []
    for whole, kernel, stride, dilation in zip(
        *map(shape.axes, (shape.size, shape.kernel, shape.stride, shape.dilation))
    ):
        places = effective_kernel(kernel, dilation) + 4 * stride
        size.append(min(whole, places + (whole - places) % 2))
    groups = few(shape.groups, 32)
    C, K = (groups * few(channels // shape.groups, 64) for channels in (shape.C, shape.K))
    return shape._replace(N=min(shape.N, 2), C=C, size=tuple(size), K=K, groups=groups)


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


def _inception_v3() -> list[Shape]:
    """The distinct convolutions of Inception V3 on one image of 299x299 (Szegedy et al., 2016, section 6).

    The paper draws the modules; their channels are those of the authors' network, inception_v3.py of TensorFlow-Slim.
    """
    shapes = [
        Shape("Inception conv 1, 3x3 stride 2", 1, 3, 299, 32, 3, stride=2),
        Shape("Inception conv 2, 3x3", 1, 32, 149, 32, 3),
        Shape("Inception conv 3, 3x3", 1, 32, 147, 64, 3, padding=1),
        Shape("Inception conv 4, 1x1", 1, 64, 73, 80, 1),
        Shape("Inception conv 5, 3x3", 1, 80, 73, 192, 3),
    ]

    def pointwise(size: int, C: int, *filters: int) -> None:
        shapes.extend(Shape(f"Inception {size}x{size} 1x1, {C} to {K}", 1, C, size, K, 1) for K in filters)

    def odd(size: int, C: int, K: int, *kernel: int) -> None:
        """A layer whose y is as large as its x."""
        sides = tuple(n // 2 for n in kernel)
        name = f"Inception {size}x{size} {'x'.join(map(str, kernel))}, {C} to {K}"
        shapes.append(Shape(name, 1, C, size, K, kernel, padding=sides))

    def reduction(size: int, C: int, K: int) -> None:
        shapes.append(Shape(f"Inception {size}x{size} 3x3 stride 2, {C} to {K}", 1, C, size, K, 3, stride=2))

    pointwise(35, 192, 64, 48, 32)
    pointwise(35, 256, 64, 48)
    pointwise(35, 288, 64, 48)
    odd(35, 48, 64, 5, 5)
    odd(35, 64, 96, 3, 3)
    odd(35, 96, 96, 3, 3)
    reduction(35, 288, 384)
    reduction(35, 96, 96)
    pointwise(17, 768, 128, 160, 192)
    for C in (128, 160):
        for K in (C, 192):
            odd(17, C, K, 1, 7)
            odd(17, C, K, 7, 1)
    odd(17, 192, 192, 1, 7)
    odd(17, 192, 192, 7, 1)
    reduction(17, 192, 320)
    reduction(17, 192, 192)
    pointwise(8, 1280, 320, 384, 448, 192)
    pointwise(8, 2048, 320, 384, 448, 192)
    odd(8, 448, 384, 3, 3)
    odd(8, 384, 384, 1, 3)
    odd(8, 384, 384, 3, 1)
    return shapes


INCEPTION_V3 = _inception_v3()


def _xception() -> list[Shape]:
    """The distinct convolutions of Xception on one image of 299x299 (Chollet, 2017, figure 5)."""
    shapes = [
        Shape("Xception conv 1, 3x3 stride 2", 1, 3, 299, 32, 3, stride=2),
        Shape("Xception conv 2, 3x3", 1, 32, 149, 64, 3),
    ]
    for size, C, K in [
        (147, 64, 128), (147, 128, 128), (74, 128, 256), (74, 256, 256), (37, 256, 728), (37, 728, 728), (19, 728, 728),
        (19, 728, 1024), (10, 1024, 1536), (10, 1536, 2048),
    ]:  # fmt: skip
        depthwise = Shape(f"Xception depthwise {C}, {size}", 1, C, size, C, 3, padding=1, groups=C)
        if depthwise not in shapes:
            shapes.append(depthwise)
        shapes.append(Shape(f"Xception {size}x{size} 1x1, {C} to {K}", 1, C, size, K, 1))
    shapes += [
        Shape(f"Xception shortcut 1x1 stride 2, {C} to {K}", 1, C, size, K, 1, stride=2)
        for size, C, K in [(147, 64, 128), (74, 128, 256), (37, 256, 728), (19, 728, 1024)]
    ]
    return shapes


XCEPTION = _xception()

#: Layers of networks for video and volumes: C3D (Tran et al., 2015) on 16 frames of 112x112, R3D-18 and R(2+1)D-18
#: (Tran et al., 2018), and the 3-D U-Net (Cicek et al., 2016) on a volume of 32x32x32.
VIDEO = [
    Shape("C3D conv 1", 1, 3, (16, 112, 112), 64, 3, padding=1, rank=3),
    Shape("C3D conv 2", 1, 64, (16, 56, 56), 128, 3, padding=1, rank=3),
    Shape("C3D conv 3a", 1, 128, (8, 28, 28), 256, 3, padding=1, rank=3),
    Shape("C3D conv 3b", 1, 256, (8, 28, 28), 256, 3, padding=1, rank=3),
    Shape("C3D conv 4a", 1, 256, (4, 14, 14), 512, 3, padding=1, rank=3),
    Shape("C3D conv 4b", 1, 512, (4, 14, 14), 512, 3, padding=1, rank=3),
    Shape("C3D conv 5", 1, 512, (2, 7, 7), 512, 3, padding=1, rank=3),
    Shape("R3D-18 conv 1, 3x7x7", 1, 3, (16, 112, 112), 64, (3, 7, 7), (1, 2, 2), (1, 3, 3), rank=3),
    Shape("R3D-18 2", 1, 64, (16, 56, 56), 64, 3, padding=1, rank=3),
    Shape("R3D-18 3 stride 2", 1, 64, (16, 56, 56), 128, 3, stride=2, padding=1, rank=3),
    Shape("R3D-18 3 shortcut stride 2", 1, 64, (16, 56, 56), 128, 1, stride=2, rank=3),
    Shape("R3D-18 3", 1, 128, (8, 28, 28), 128, 3, padding=1, rank=3),
    Shape("R3D-18 5 stride 2", 1, 256, (4, 14, 14), 512, 3, stride=2, padding=1, rank=3),
    Shape("R(2+1)D-18 2 in space, 1x3x3", 1, 64, (16, 56, 56), 144, (1, 3, 3), padding=(0, 1, 1), rank=3),
    Shape("R(2+1)D-18 2 in time, 3x1x1", 1, 144, (16, 56, 56), 64, (3, 1, 1), padding=(1, 0, 0), rank=3),
    Shape("3-D U-Net conv 1", 1, 1, 32, 32, 3, padding=1, rank=3),
    Shape("3-D U-Net conv 2", 1, 32, 32, 64, 3, padding=1, rank=3),
]

#: Layers of networks for sound and signals: M5 (Dai et al., 2017), WaveNet (van den Oord et al., 2016), temporal
#: convolutional networks (Bai et al., 2018), keyword spotting with TC-ResNet (Choi et al., 2019) and MatchboxNet
#: (Majumdar and Ginsburg, 2020).
SIGNAL = [
    Shape("M5 conv 1, 80 stride 4", 1, 1, 16000, 128, 80, stride=4, rank=1),
    Shape("M5 conv 1, 80 stride 4, 16 signals", 16, 1, 16000, 128, 80, stride=4, rank=1),
    Shape("M5 conv 2, 3", 1, 128, 1000, 128, 3, padding=1, rank=1),
    Shape("M5 conv 2, 3, 16 signals", 16, 128, 1000, 128, 3, padding=1, rank=1),
    Shape("M5 conv 3, 3", 1, 128, 250, 256, 3, padding=1, rank=1),
    Shape("M5 conv 4, 3", 1, 256, 62, 512, 3, padding=1, rank=1),
    *(Shape(f"WaveNet 2, dilation {d}", 1, 64, 4000, 128, 2, dilation=d, rank=1) for d in (1, 2, 16, 128, 512)),
    Shape("WaveNet 1x1", 1, 64, 4000, 256, 1, rank=1),
    *(Shape(f"TCN 3, dilation {d}", 4, 25, 2000, 25, 3, padding=d, dilation=d, rank=1) for d in (1, 8, 64)),
    Shape("5 on 500x256", 1, 256, 500, 256, 5, padding=2, rank=1),
    Shape("TC-ResNet 9 stride 2", 1, 16, 101, 24, 9, stride=2, padding=4, rank=1),
    Shape("MatchboxNet depthwise 13", 1, 64, 128, 64, 13, padding=6, groups=64, rank=1),
]

#: Layers at the limits of what the algorithms are made for.
EDGE_CASES = [
    Shape("one pixel, 1x1", 1, 512, 1, 512, 1),
    Shape("64 images of one pixel, 1x1", 64, 512, 1, 512, 1),
    Shape("one pixel, 3x3", 1, 256, 1, 256, 3, padding=1),
    Shape("one channel to 32", 64, 1, 28, 32, 3),
    Shape("32 channels to one", 8, 32, 64, 1, 3, padding=1),
    Shape("17 channels to 31", 8, 17, 29, 31, 3, padding=1),
    Shape("31 channels to 33, 5x5", 8, 31, 15, 33, 5, padding=2),
    Shape("33 channels to 17, 1x1", 8, 33, 29, 17, 1),
    Shape("7x200 map, 3x3", 1, 64, (7, 200), 64, 3, padding=1),
    Shape("128 images of 8x8", 128, 256, 8, 256, 3, padding=1),
    Shape("stride 3", 1, 64, 56, 64, 3, stride=3, padding=1),
    # Krizhevsky et al. (2012).
    Shape("AlexNet conv 1, 11x11 stride 4", 1, 3, 227, 96, 11, stride=4),
    Shape("AlexNet conv 2, 5x5, 2 groups", 1, 96, 27, 256, 5, padding=2, groups=2),
    # ResNeXt-50 32x4d, Xie et al. (2017).
    Shape("ResNeXt 3x3, 32 groups, 56x56x128", 1, 128, 56, 128, 3, padding=1, groups=32),
    Shape("ResNeXt 3x3, 32 groups, 14x14x512", 1, 512, 14, 512, 3, padding=1, groups=32),
    # Chen et al. (2017).
    Shape("DeepLab 3x3, dilation 2", 1, 256, 28, 256, 3, padding=2, dilation=2),
    Shape("DeepLab 3x3, dilation 3", 1, 256, 28, 256, 3, padding=3, dilation=3),
    Shape("DeepLab 3x3, dilation 4", 1, 512, 28, 512, 3, padding=4, dilation=4),
    Shape("7x7", 1, 64, 56, 64, 7, padding=3),
    Shape("15x15", 1, 16, 64, 16, 15, padding=7),
    Shape("2x2 stride 2, ConvNeXt", 1, 96, 56, 192, 2, stride=2),  # Liu et al. (2022)
    Shape("depthwise 7x7, ConvNeXt", 1, 96, 56, 96, 7, padding=3, groups=96),
    Shape("depthwise 31x31, RepLKNet", 1, 128, 56, 128, 31, padding=15, groups=128),  # Ding et al. (2022)
    Shape("depthwise 3x3, multiplier 2", 1, 32, 56, 64, 3, padding=1, groups=32),
    Shape("16x16 stride 16, patches of ViT", 1, 3, 224, 768, 16, stride=16),  # Dosovitskiy et al. (2021)
]

#: The sets by the names of their tables in bench/report.py.
SETS = {
    "documented": DOCUMENTED[:5],  # the others are VGG16's
    "first": FIRST_LAYERS,
    "vgg16": VGG16,
    "resnet50": RESNET50,
    "mobilenet": MOBILENET,
    "inception": INCEPTION_V3,
    "xception": XCEPTION,
    "video": VIDEO,
    "signal": SIGNAL,
    "edge": EDGE_CASES,
}


def _distinct(shapes: list[Shape]) -> list[Shape]:
    """Without layers that another network has under another name."""
    return list({shape.problem(): shape for shape in reversed(shapes)}.values())[::-1]


#: Every layer of the sets once.
ALL_SHAPES = _distinct([shape for shapes in SETS.values() for shape in shapes])


def is_depthwise(shape: Shape) -> bool:
    return 1 < shape.groups == shape.C


def is_pointwise(shape: Shape) -> bool:
    return shape.groups == 1 and max(shape.axes(shape.kernel)) == 1


def is_for_winograd(shape: Shape) -> bool:
    """3x3, stride 1, 64 to 512 channels: a quarter of the multiplications would do."""
    steps = {*shape.axes(shape.stride), *shape.axes(shape.dilation), shape.groups}
    return shape.axes(shape.kernel) == (3, 3) and steps == {1} and all(64 <= n <= 512 for n in (shape.C, shape.K))


#: Layers of one kind out of all sets, by the names of their tables.
KINDS = {
    "depthwise": [shape for shape in ALL_SHAPES if is_depthwise(shape)],
    "pointwise": [shape for shape in ALL_SHAPES if is_pointwise(shape)],
    "winograd": [shape for shape in ALL_SHAPES if is_for_winograd(shape)],
}
