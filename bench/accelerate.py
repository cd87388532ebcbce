"""Unchanged models of PyTorch against the same models after ``pycnn.interop.torch.accelerate``.

``python -m bench.accelerate`` measures inference and training steps of all models, ``python -m bench.accelerate VGG16
--inference --threads 2`` some. ``--layers`` prints what was found about each layer.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn

from bench.measure import Side, medians, pin_to_one_core
from bench.peers import set_threads
from bench.tables import Options, Table
from pycnn.interop.torch import accelerate


class Model(NamedTuple):
    """A model of the zoo.

    Attributes:
        make: gives it, with random weights.
        inference, training: shapes of the input.
    """

    make: Callable[[], nn.Module]
    inference: tuple[int, ...]
    training: tuple[int, ...]


def vgg16() -> nn.Module:
    layers: list[nn.Module] = []
    channels = 3
    for filters, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            layers += [nn.Conv2d(channels, filters, 3, padding=1), nn.ReLU(inplace=True)]
            channels = filters
        layers.append(nn.MaxPool2d(2))
    dense = [nn.Linear(25088, 4096), nn.ReLU(True), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(True), nn.Dropout()]
    return nn.Sequential(nn.Sequential(*layers), nn.Flatten(), nn.Sequential(*dense, nn.Linear(4096, 1000)))


def lenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10),
    )  # fmt: skip


def cifar() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 128, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(512, 256), nn.ReLU(),
        nn.Linear(256, 10),
    )  # fmt: skip


class BasicBlock(nn.Module):
    def __init__(self, channels: int, filters: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, filters, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels != filters:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, filters, 1, stride, bias=False), nn.BatchNorm2d(filters)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        x += shortcut
        return self.relu(x)


def resnet18() -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True)]
    layers.append(nn.MaxPool2d(3, 2, 1))
    channels = 64
    for filters, stride in ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)):
        layers.append(BasicBlock(channels, filters, stride))
        channels = filters
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000))


def mobilenet() -> nn.Module:
    def step(channels: int, filters: int, size: int, stride: int, groups: int) -> nn.Module:
        conv = nn.Conv2d(channels, filters, size, stride, size // 2, groups=groups, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(filters), nn.ReLU(inplace=True))

    layers = [step(3, 32, 3, 2, 1)]
    channels = 32
    for filters, stride in (
        (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1), (512, 1), (512, 1), (512, 1), (512, 1),
        (1024, 2), (1024, 1),
    ):  # fmt: skip
        layers += [step(channels, channels, 3, stride, channels), step(channels, filters, 1, 1, 1)]
        channels = filters
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1024, 1000))


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()

        def double(channels: int, filters: int) -> nn.Module:
            return nn.Sequential(
                nn.Conv2d(channels, filters, 3, padding=1), nn.ReLU(inplace=True),
                nn.Conv2d(filters, filters, 3, padding=1), nn.ReLU(inplace=True),
            )  # fmt: skip

        self.down = nn.ModuleList([double(1, 32), double(32, 64), double(64, 128)])
        self.pool = nn.MaxPool2d(2)
        self.bottom = double(128, 256)
        self.rise = nn.ModuleList([nn.ConvTranspose2d(c, c // 2, 2, 2) for c in (256, 128, 64)])
        self.up = nn.ModuleList([double(256, 128), double(128, 64), double(64, 32)])
        self.last = nn.Conv2d(32, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = []
        for double in self.down:
            x = double(x)
            kept.append(x)
            x = self.pool(x)
        x = self.bottom(x)
        for rise, double in zip(self.rise, self.up):
            x = double(torch.cat([kept.pop(), rise(x)], 1))
        return self.last(x)


MODELS = {
    "VGG16": Model(vgg16, (1, 3, 224, 224), (2, 3, 224, 224)),
    "LeNet": Model(lenet, (1, 1, 28, 28), (64, 1, 28, 28)),
    "CIFAR-10 network": Model(cifar, (1, 3, 32, 32), (50, 3, 32, 32)),
    "ResNet-18": Model(resnet18, (1, 3, 224, 224), (4, 3, 224, 224)),
    "MobileNet": Model(mobilenet, (1, 3, 224, 224), (4, 3, 224, 224)),
    "U-Net": Model(UNet, (1, 1, 128, 128), (2, 1, 128, 128)),
}


def inference_side(model: nn.Module, x: torch.Tensor) -> Side:
    model.eval()

    def infer() -> Any:
        with torch.inference_mode():
            return model(x)

    return infer


def training_side(model: nn.Module, x: torch.Tensor) -> Side:
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), 1e-4)

    def step() -> None:
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="model", help=f"of {', '.join(MODELS)}; all unless named")
    parser.add_argument("--threads", type=int, default=2, help="of both engines; 1 also pins the process to one core")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each model and mode, at least")
    parser.add_argument("--markdown", action="store_true", help="write the table in Markdown")
    parser.add_argument("--inference", action="store_true", help="inference alone")
    parser.add_argument("--channels-last", action="store_true", help="models and images in torch.channels_last")
    parser.add_argument("--layers", action="store_true", help="print the reports, too")
    options = parser.parse_args()
    if options.threads == 1:
        pin_to_one_core()
    set_threads(options.threads)
    form = torch.channels_last if options.channels_last else torch.contiguous_format
    table = Table(
        Options(options.threads, options.seconds, options.markdown),
        *["model", "PyTorch ms", "ms", "ratio", "layers by pycnn"],
    )
    modes = {"inference": inference_side} if options.inference else {"inference": inference_side, "step": training_side}
    for name in options.models or MODELS:
        for mode, side in modes.items():
            torch.manual_seed(0)
            model = MODELS[name]
            plain = model.make().to(memory_format=form)
            x = torch.randn(model.inference if mode == "inference" else model.training).to(memory_format=form)
            accelerated = copy.deepcopy(plain)
            sides = {"plain": side(plain, x), "accelerated": side(accelerated, x)}
            report = accelerate(accelerated, example=x)
            times = medians(sides, options.seconds, threads=options.threads)
            ratio = times["plain"] / times["accelerated"]
            # None where the model was given back: then both sides are PyTorch's, and the ratio is what times scatter.
            kept = sum("forward" in module.__dict__ for module in accelerated.modules())
            table.row(f"{name}, {mode}, {'x'.join(map(str, x.shape))}", *(f"{1e3 * t:.2f}" for t in times.values()),
                      f"{ratio:.2f}", str(kept))  # fmt: skip
            if options.layers:
                print(report)


if __name__ == "__main__":
    main()
