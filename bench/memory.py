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

BATCH, STEPS = 50, 100

#: Trains on images and labels.
Training = Callable[[np.ndarray, np.ndarray], Any]


def pycnn_training() -> Training:
    from pycnn.applications import cifar10_cnn

    model = cifar10_cnn()
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return lambda x, y: model.fit(x, y, batch_size=BATCH, epochs=1, verbose=0)


def keras_training() -> Training:
    from bench.networks import keras_network

    model = keras_network()
    return lambda x, y: model.fit(x, y, batch_size=BATCH, epochs=1, verbose=0)


def torch_training() -> Training:
    import torch

    from bench.networks import torch_network

    model, optimizer = torch_network()

    def train(x: np.ndarray, y: np.ndarray) -> None:
        order = np.random.default_rng(0).permutation(len(x))
        for start in range(0, len(x), BATCH):
            index = order[start : start + BATCH]
            images = torch.from_numpy(x[index]).permute(0, 3, 1, 2).to(torch.float32)
            optimizer.zero_grad(set_to_none=True)
            logits, labels = model(images), torch.from_numpy(y[index, 0])
            loss = torch.nn.functional.cross_entropy(logits, labels)
            loss.backward()
            optimizer.step()
            loss.item(), (logits.argmax(1) == labels).sum().item()

    return train


#: By the name of the engine: what must be installed for it, and what builds its network.
ENGINES: dict[str, tuple[tuple[str, ...], Callable[[], Training]]] = {
    "pycnn": ((), pycnn_training),
    "Keras 3 on TensorFlow": (("keras", "tensorflow"), keras_training),
    "PyTorch channels last": (("torch",), torch_training),
}


def resident_megabytes() -> float:
    """The most that this process held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def main(engine: str) -> None:
    _, build = ENGINES[engine]
    train = build()
    built = resident_megabytes()
    random = np.random.default_rng(0)
    x, y = random.integers(0, 256, (BATCH * STEPS, 32, 32, 3), np.uint8), random.integers(0, 10, (BATCH * STEPS, 1))
    train(x, y)
    print(json.dumps({"built": built, "peak": resident_megabytes()}))


if __name__ == "__main__":
    main(sys.argv[1])
