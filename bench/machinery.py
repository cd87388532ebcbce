"""What layers and models cost: a training step beside the same step written with functions.

``python -m bench.machinery CIFAR-10``, or all documented networks. Both sides take turns; they train the same weights
with the same operations, autograd, optimizer, loss and metric, and their losses are the same to the bit. What is left
between their times is the layer machinery: the model, its schedule, its layers, and what surrounds a batch.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.networks import NETWORKS, Network, pycnn_model
from pycnn import functional as F
from pycnn import losses, metrics, optimizers
from pycnn.layers import BatchNormalization, Conv2D, Dense
from pycnn.tensor import Tensor

Step = Callable[[], float]
_FORMATS = {"data_format": "channels_last", "weight_format": "HWIO"}
_WINDOWS = {"pool_size": 2, "pool_stride": 2}


def by_layers(model: Any, x: np.ndarray, y: np.ndarray) -> Step:
    """A step of a compiled model; the loss."""
    return lambda: model.train_on_batch(x, y)[0]


def by_functions(model: Any, network: Network, x: np.ndarray, y: np.ndarray) -> Step:
    """The same step without the model and its layers, of which only the weights are used."""
    passes, weights = _passes(model.layers), model.trainable_weights
    optimizer, loss_of = optimizers.Adam(), losses.get(network.loss)
    metric = metrics.BinaryAccuracy() if network.classes == 1 else metrics.SparseCategoricalAccuracy()
    data = Tensor(x)

    def step() -> float:
        value = data
        for run in passes:
            value = run(value)
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


def machinery(network: Network, seconds: float) -> tuple[float, float]:
    """Median milliseconds of a step by layers, and of what that takes longer than by functions.

    The second is the median over pairs of steps beside each other, so that what slows the machine down meets both.

    Raises:
        RuntimeError: the losses are not the same to the bit.
    """
    x, y = network.data()
    models = [pycnn_model(network) for _ in range(2)]
    models[1].set_weights(models[0].get_weights())
    sides = by_layers(models[0], x, y), by_functions(models[1], network, x, y)
    pairs: list[tuple[float, float]] = []
    begin = time.perf_counter()
    while len(pairs) < 50 or time.perf_counter() - begin < seconds:
        times, found = [0.0, 0.0], [0.0, 0.0]
        for side in (0, 1) if len(pairs) % 2 else (1, 0):
            start = time.perf_counter()
            found[side] = sides[side]()
            times[side] = time.perf_counter() - start
        if found[0] != found[1]:
            raise RuntimeError(f"the loss by layers is {found[0]!r}, by functions {found[1]!r}")
        pairs.append((times[0], times[1]))
    layers, functions = np.array(pairs[3:]).T * 1e3
    return float(np.median(layers)), float(np.median(layers - functions))


def main() -> None:
    trained = [name for name in NETWORKS if "one image" not in name]
    parser = argparse.ArgumentParser(prog="python -m bench.machinery", description=__doc__)
    parser.add_argument("network", nargs="*", help=f"{', '.join(trained)}; all of them by default")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each network")
    asked = parser.parse_args()
    for name in asked.network:
        if name not in trained:
            parser.error(f"the networks are {', '.join(trained)}; received {name!r}")
    print("| network | step | layers and model | share |")
    print("|---|---:|---:|---:|")
    for name in asked.network or trained:
        whole, more = machinery(NETWORKS[name], asked.seconds)
        print(f"| {name} | {whole:.2f} ms | {more:.2f} ms | {100 * more / whole:.1f} % |", flush=True)


if __name__ == "__main__":
    main()
