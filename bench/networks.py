"""The documented networks in every engine: a training step and an inference of each.

``python -m bench.networks ENGINE NETWORK`` serves one engine: the tables of ``bench.report`` start one such process for
each engine and let them take turns, so that no engine's threads or memory meet another's. A line "step 20" on standard
input is answered by the seconds that twenty steps took, "inference 20" likewise.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

Side = Callable[[], Any]
Sides = tuple[Side, Side]


class Network(NamedTuple):
    """A network as a list of layers that every engine has.

    Attributes:
        batch: images of a step.
        size: height and width of an image, which has three channels.
        layers: ("conv", filters, kernel, padding) with a ReLU, ("pool",) of 2x2, ("norm",), ("flatten",) and
            ("dense", units, activation); the last activation is "softmax" or "sigmoid".
    """

    batch: int
    size: int
    layers: tuple[tuple[Any, ...], ...]

    @property
    def classes(self) -> int:
        return self.layers[-1][1]

    @property
    def loss(self) -> str:
        return "binary_crossentropy" if self.layers[-1][2] == "sigmoid" else "sparse_categorical_crossentropy"

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Images and labels."""
        numbers = np.random.default_rng(0)
        x = numbers.random((self.batch, self.size, self.size, 3), np.float32)
        return x, numbers.integers(0, max(self.classes, 2), (self.batch, 1))


def _conv(filters: int, kernel: int = 3, padding: str = "valid") -> tuple[Any, ...]:
    return "conv", filters, kernel, padding


def _vgg16() -> tuple[tuple[Any, ...], ...]:
    layers: list[tuple[Any, ...]] = []
    for filters, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        layers += [_conv(filters, padding="same")] * count + [("pool",)]
    dense = [("dense", 4096, "relu"), ("dense", 4096, "relu"), ("dense", 1000, "softmax")]
    return (*layers, ("flatten",), *dense)


POOL, NORM, FLATTEN = ("pool",), ("norm",), ("flatten",)

#: The networks of the documents, and their batches; VGG16 for inference of one image.
NETWORKS = {
    "CIFAR-10": Network(
        50, 32,
        (_conv(32), POOL, _conv(64), POOL, _conv(128), POOL, FLATTEN, ("dense", 256, "relu"), ("dense", 128, "relu"),
         ("dense", 10, "softmax")),
    ),
    "cats/dogs 64x64": Network(
        32, 64,
        (_conv(32), POOL, _conv(32), POOL, FLATTEN, ("dense", 128, "relu"), ("dense", 128, "relu"),
         ("dense", 1, "sigmoid")),
    ),
    "cats/dogs 300x300": Network(16, 300, (_conv(10, 5), POOL, FLATTEN, ("dense", 2, "softmax"))),
    "batch-normalised 64x64": Network(
        32, 64,
        (NORM, _conv(32), NORM, POOL, _conv(64), NORM, POOL, _conv(128), NORM, POOL, FLATTEN, ("dense", 512, "relu"),
         ("dense", 256, "relu"), ("dense", 128, "relu"), ("dense", 2, "softmax")),
    ),
    "VGG16, one image": Network(1, 224, _vgg16()),
}  # fmt: skip


def read_trained(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The command's arguments, with ``network``: the names of the networks to train that were asked for, or of all."""
    trained = [name for name in NETWORKS if "one image" not in name]
    parser.add_argument("network", nargs="*", help=f"{', '.join(trained)}; all of them by default")
    asked = parser.parse_args()
    for name in asked.network:
        if name not in trained:
            parser.error(f"the networks are {', '.join(trained)}; received {name!r}")
    asked.network = asked.network or trained
    return asked


def _keras_layers(network: Network, kind: Any) -> list[Any]:
    """The layers from a module that has Keras' names."""
    make = {
        "conv": lambda filters, kernel, padding: kind.Conv2D(filters, kernel, padding=padding, activation="relu"),
        "pool": lambda: kind.MaxPooling2D(2),
        "norm": kind.BatchNormalization,
        "flatten": kind.Flatten,
        "dense": lambda units, activation: kind.Dense(units, activation=activation),
    }
    shape = (network.size, network.size, 3)
    return [kind.Input(shape), *(make[name](*arguments) for name, *arguments in network.layers)]


def pycnn_model(network: Network) -> Any:
    from pycnn import layers
    from pycnn.models import Sequential

    model = Sequential(_keras_layers(network, layers))
    model.compile(optimizer="adam", loss=network.loss, metrics=["accuracy"])
    return model


def pycnn_engine(network: Network) -> Sides:
    from pycnn import no_grad

    model, (x, y) = pycnn_model(network), network.data()

    def infer() -> np.ndarray:
        with no_grad():
            return model(x).numpy()

    return lambda: model.train_on_batch(x, y), infer


def keras_model(network: Network, backend: str) -> Any:
    os.environ |= {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    import keras

    model = keras.Sequential(_keras_layers(network, keras.layers))
    model.compile(optimizer="adam", loss=network.loss, metrics=["accuracy"])
    return model


def tensorflow_engine(network: Network) -> Sides:
    """Keras on TensorFlow; the loss is read back, as Keras' own loop does."""
    model = keras_model(network, "tensorflow")
    import tensorflow as tf

    x, y = map(tf.constant, network.data())
    model.make_train_function()  # what fit() builds and calls for each step
    batches = iter(tf.data.Dataset.from_tensors((x, y)).repeat())
    infer = tf.function(lambda x: model(x, training=False))
    return lambda: float(model.train_function(batches)["loss"]), lambda: infer(x).numpy()


def jax_engine(network: Network) -> Sides:
    """Keras on JAX: its compiled step and its compiled prediction."""
    model = keras_model(network, "jax")
    import jax

    x, y = network.data()
    weights = [v.value for v in model.trainable_variables], [v.value for v in model.non_trainable_variables]
    infer = jax.jit(lambda x: model.stateless_call(*weights, x, training=False)[0])
    return lambda: model.train_on_batch(x, y), lambda: np.asarray(infer(x))


def torch_model(network: Network, channels_last: bool) -> tuple[Any, Any]:
    """The network without its last activation, and the images as it takes them."""
    import torch
    from torch import nn

    channels, size, features = 3, network.size, 0
    found: list[Any] = []
    for name, *arguments in network.layers:
        if name == "conv":
            filters, kernel, padding = arguments
            found += [nn.Conv2d(channels, filters, kernel, padding=padding), nn.ReLU()]
            channels, size = filters, size if padding == "same" else size - kernel + 1
        elif name == "pool":
            found.append(nn.MaxPool2d(2))
            size //= 2
        elif name == "norm":
            found.append(nn.BatchNorm2d(channels, momentum=0.01, eps=1e-3))
        elif name == "flatten":
            found.append(nn.Flatten())
            features = channels * size * size
        else:
            units, activation = arguments
            found += [nn.Linear(features, units), *([nn.ReLU()] if activation == "relu" else [])]
            features = units
    form = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.from_numpy(network.data()[0]).permute(0, 3, 1, 2).contiguous(memory_format=form)
    return nn.Sequential(*found).to(memory_format=form), x


def _torch_engine(network: Network, channels_last: bool) -> Sides:
    import torch
    from torch.nn import functional as F

    model, x = torch_model(network, channels_last)
    labels = network.data()[1]
    y = torch.from_numpy(labels.astype(np.float32) if network.classes == 1 else labels[:, 0])
    loss_of = F.binary_cross_entropy_with_logits if network.classes == 1 else F.cross_entropy
    optimizer = torch.optim.Adam(model.parameters(), fused=True)

    def step() -> float:
        model.train()
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    def infer() -> np.ndarray:
        model.eval()
        with torch.inference_mode():
            return model(x).numpy()

    return step, infer


def torch_last_engine(network: Network) -> Sides:
    return _torch_engine(network, channels_last=True)


def torch_first_engine(network: Network) -> Sides:
    return _torch_engine(network, channels_last=False)


def openvino_engine(network: Network) -> Sides:
    """Inference alone, of the model in PyTorch."""
    import openvino

    model, x = torch_model(network, channels_last=False)
    # In float32, as the others: where the processor has bfloat16, that is what it takes otherwise.
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.compile_model(openvino.convert_model(model.eval(), example_input=x), "CPU", exact)
    images = x.numpy()

    def step() -> None:
        raise NotImplementedError("OpenVINO does not train")

    return step, lambda: compiled(images)[0]


class Engine(NamedTuple):
    """What serves an engine, and the packages that it needs."""

    make: Callable[[Network], Sides]
    packages: tuple[str, ...] = ()
    trains: bool = True


ENGINES = {
    "pycnn": Engine(pycnn_engine),
    "Keras on TensorFlow": Engine(tensorflow_engine, ("keras", "tensorflow")),
    "Keras on JAX": Engine(jax_engine, ("keras", "jax")),
    "PyTorch channels last": Engine(torch_last_engine, ("torch",)),
    "PyTorch channels first": Engine(torch_first_engine, ("torch",)),
    "OpenVINO": Engine(openvino_engine, ("torch", "openvino"), trains=False),
}


def has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def installed(engine: str) -> bool:
    return all(map(has, ENGINES[engine].packages))


class Served:
    """An engine in a process of its own."""

    def __init__(self, engine: str, network: str):
        self.engine = engine
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.networks", engine, network],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def ask(self, question: str) -> float:
        """The answer to a line."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(question + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self.engine} ended when it was asked for {question!r}")
        return float(answer)

    def __enter__(self) -> Served:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()


class Times(NamedTuple):
    """Seconds of an operation: the median of the turns, and the least, which other work on the machine delays least."""

    median: float
    least: float


def measured(network: str, operation: str, seconds: float) -> dict[str, Times]:
    """The times of an operation in each installed engine: blocks of at least 0.3 s, taking turns.

    The order changes with each round, as threads of an engine may look out for more work when its turn has ended.
    """
    names = [name for name, engine in ENGINES.items() if installed(name) and (engine.trains or operation != "step")]
    with contextlib.ExitStack() as stack:
        served = [stack.enter_context(Served(name, network)) for name in names]
        counts = {}
        for each in served:
            each.ask(f"{operation} 2")
            counts[each.engine] = max(int(0.3 / each.ask(f"{operation} 1")), 1)
        times: dict[str, list[float]] = {name: [] for name in names}
        order, begin = random.Random(0), time.perf_counter()
        while len(times[names[0]]) < 5 or time.perf_counter() - begin < seconds:
            for each in order.sample(served, len(served)):
                count = counts[each.engine]
                times[each.engine].append(each.ask(f"{operation} {count}") / count)
        return {name: Times(float(np.median(found)), min(found)) for name, found in times.items()}


def main() -> None:
    engine, network = sys.argv[1:]
    answers, sys.stdout = sys.stdout, sys.stderr  # what engines print is no answer
    step, infer = ENGINES[engine].make(NETWORKS[network])
    for line in sys.stdin:
        operation, count = line.split()
        side = step if operation == "step" else infer
        begin = time.perf_counter()
        for _ in range(int(count)):
            side()
        answer = time.perf_counter() - begin
        print(answer, file=answers, flush=True)


if __name__ == "__main__":
    main()
