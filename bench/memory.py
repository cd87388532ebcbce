"""Peak resident memory of training the CIFAR-10 network in one engine.

``python -m bench.memory ENGINE`` prints it, in a process that imports nothing but what the engine needs.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.networks import NETWORKS, keras_model, pycnn_model, torch_model

NETWORK, STEPS = NETWORKS["CIFAR-10"], 100

#: Trains on images and labels.
Training = Callable[[np.ndarray, np.ndarray], Any]


def pycnn_training() -> Training:
    model = pycnn_model(NETWORK)
    return lambda x, y: model.fit(x, y, batch_size=NETWORK.batch, epochs=1, verbose=0)


def keras_training(backend: str) -> Training:
    model = keras_model(NETWORK, backend)
    return lambda x, y: model.fit(x, y, batch_size=NETWORK.batch, epochs=1, verbose=0)


def torch_training() -> Training:
    import torch

    model, _ = torch_model(NETWORK, channels_last=True)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)

    def train(x: np.ndarray, y: np.ndarray) -> None:
        order = np.random.default_rng(0).permutation(len(x))
        for start in range(0, len(x), NETWORK.batch):
            index = order[start : start + NETWORK.batch]
            images = torch.from_numpy(x[index]).permute(0, 3, 1, 2).to(torch.float32)
            optimizer.zero_grad(set_to_none=True)
            logits, labels = model(images), torch.from_numpy(y[index, 0])
            loss = torch.nn.functional.cross_entropy(logits, labels)
            loss.backward()
            optimizer.step()
            loss.item(), (logits.argmax(1) == labels).sum().item()

    return train


#: What builds the network of each engine that trains; the names are those of :data:`bench.networks.ENGINES`.
TRAININGS: dict[str, Callable[[], Training]] = {
    "pycnn": pycnn_training,
    "Keras on TensorFlow": lambda: keras_training("tensorflow"),
    "Keras on JAX": lambda: keras_training("jax"),
    "PyTorch channels last": torch_training,
}


def resident_megabytes() -> float:
    """The most that this process held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def main(engine: str) -> None:
    train = TRAININGS[engine]()
    built = resident_megabytes()
    random = np.random.default_rng(0)
    images = NETWORK.batch * STEPS
    x, y = random.integers(0, 256, (images, 32, 32, 3), np.uint8), random.integers(0, 10, (images, 1))
    train(x, y)
    print(json.dumps({"built": built, "peak": resident_megabytes()}))


if __name__ == "__main__":
    main(sys.argv[1])
