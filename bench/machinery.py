"""What layers and the training loop cost: a training step beside the same step written with functions.

``python -m bench.machinery CIFAR-10``, or all documented networks. Three sides take turns: the step with functions of
``pycnn.functional``, the same with the model called in their place, and ``train_on_batch``. They train the same weights
with the same operations, autograd, optimizer, loss and metric, and their losses are the same to the bit. What is left
between the first two is the layer machinery: the model, its schedule and its layers; between the last two the loop: it
reads and checks a batch and keeps the averages of loss and metrics.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.networks import NETWORKS, Network, pycnn_model, read_trained
from pycnn import functional as F
from pycnn import losses, metrics, optimizers
from pycnn.layers import BatchNormalization, Conv2D, Dense
from pycnn.tensor import Tensor

Step = Callable[[], float]
_FORMATS = {"data_format": "channels_last", "weight_format": "HWIO"}
_WINDOWS = {"pool_size": 2, "pool_stride": 2}


def by_loop(model: Any, x: np.ndarray, y: np.ndarray) -> Step:
    """A step of a compiled model; the loss."""
    return lambda: model.train_on_batch(x, y)[0]


def by_layers(model: Any, network: Network, x: np.ndarray, y: np.ndarray) -> Step:
    """The same step without the training loop."""
    return _step(model, network, x, y, lambda value: model(value, training=True))


def by_functions(model: Any, network: Network, x: np.ndarray, y: np.ndarray) -> Step:
    """The same step without layers and model, of which only the weights are used."""
    passes = _passes(model.layers)

    def forward(value: Tensor) -> Tensor:
        for run in passes:
            value = run(value)
        return value

    return _step(model, network, x, y, forward)


def _step(model: Any, network: Network, x: np.ndarray, y: np.ndarray, forward: Callable[[Tensor], Tensor]) -> Step:
    weights, optimizer, loss_of = model.trainable_weights, optimizers.Adam(), losses.get(network.loss)
    metric = metrics.BinaryAccuracy() if network.classes == 1 else metrics.SparseCategoricalAccuracy()
    data = Tensor(x)

    def step() -> float:
        value = forward(data)
        loss = loss_of(y, value)
        for weight in weights:
            weight.grad = None
        loss.backward()
        optimizer.apply(weights)
        metric.reset_state()
        metric.update_state(y, value.detach().numpy())
        metric.result()
        return loss.item()

    return step


def _passes(layers: list[Any]) -> list[Callable[[Tensor], Tensor]]:
    """The calls of functions that the layers come to in training."""
    found: list[Callable[[Tensor], Tensor]] = []
    place = 0
    while place < len(layers):
        layer, above = layers[place], [type(each).__name__ for each in layers[place + 1 : place + 3]]
        count = 1
        if isinstance(layer, Conv2D):
            normed = above[:1] == ["BatchNormalization"]
            pooled = above[normed : normed + 1] == ["MaxPooling2D"]
            count = 1 + normed + pooled
            found.append(_convolution(layer, layers[place + 1] if normed else None, pooled))
        elif isinstance(layer, BatchNormalization):
            found.append(_norm(layer))
        elif isinstance(layer, Dense):
            found.append(_product(layer))
        else:
            found.append(lambda x: x.reshape(len(x), -1))
        place += count
    return found


def _convolution(conv: Conv2D, norm: BatchNormalization | None, pooled: bool) -> Callable[[Tensor], Tensor]:
    weights, settings = (conv.kernel, conv.bias), {**_FORMATS, "activation": "relu"}
    if norm is not None:
        statistics = _statistics(norm)
        windows = _WINDOWS if pooled else {}
        return lambda x: F.conv2d_batch_norm(x, *weights, norm=statistics, **windows, **settings)
    if pooled:
        return lambda x: F.conv2d_max_pool2d(x, *weights, **_WINDOWS, **settings)
    return lambda x: F.conv2d(x, *weights, **settings)


def _statistics(norm: BatchNormalization) -> F.BatchStatisticsNorm:
    moving = norm.moving_mean, norm.moving_variance
    return F.BatchStatisticsNorm(*moving, norm.gamma, norm.beta, 1 - norm.momentum, norm.epsilon, 0)


def _norm(norm: BatchNormalization) -> Callable[[Tensor], Tensor]:
    mean, variance, *weights, momentum, eps, correction = _statistics(norm)
    settings = {"training": True, "momentum": momentum, "eps": eps, "correction": correction}
    return lambda x: F.batch_norm(x, mean, variance, *weights, **settings, data_format="channels_last")


def _product(dense: Dense) -> Callable[[Tensor], Tensor]:
    if dense.activation.__name__ == "relu":
        return lambda x: F.linear(x, dense.kernel, dense.bias, weight_format="IO", activation="relu")
    return lambda x: dense.activation(F.linear(x, dense.kernel, dense.bias, weight_format="IO"))


def machinery(network: Network, seconds: float) -> tuple[float, float, float]:
    """Median milliseconds of a step, and of what the layers and the loop add to it.

    These are medians over turns of all sides beside each other, so that what slows the machine down meets all.

    Raises:
        RuntimeError: the losses are not the same to the bit.
    """
    x, y = network.data()
    models = [pycnn_model(network) for _ in range(3)]
    for model in models[1:]:
        model.set_weights(models[0].get_weights())
    sides = by_functions(models[0], network, x, y), by_layers(models[1], network, x, y), by_loop(models[2], x, y)
    turns: list[list[float]] = []
    order, begin = random.Random(0), time.perf_counter()
    while len(turns) < 50 or time.perf_counter() - begin < seconds:
        times, found = [0.0] * len(sides), set()
        for side in order.sample(range(len(sides)), len(sides)):
            start = time.perf_counter()
            found.add(sides[side]())
            times[side] = time.perf_counter() - start
        if len(found) > 1:
            raise RuntimeError(f"the sides must have the same loss; received {found}")
        turns.append(times)
    functions, layers, loop = np.array(turns[3:]).T * 1e3
    return float(np.median(loop)), float(np.median(layers - functions)), float(np.median(loop - layers))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.machinery", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each network")
    asked = read_trained(parser)
    print("| network | step | layers | share | training loop | share |")
    print("|---|---:|---:|---:|---:|---:|")
    for name in asked.network:
        whole, *parts = machinery(NETWORKS[name], asked.seconds)
        cells = " | ".join(f"{part:.2f} ms | {100 * part / whole:.1f} %" for part in parts)
        print(f"| {name} | {whole:.2f} ms | {cells} |", flush=True)


if __name__ == "__main__":
    main()
