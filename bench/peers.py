"""Other engines, as sides of a comparison. Each maker returns None where the engine is not installed."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import numpy as np

from bench.measure import Side
from bench.shapes import Shape

OPERATIONS = ("forward", "input gradient", "weight gradient")


def has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def arrays(shape: Shape, seed: int = 0) -> tuple[np.ndarray, ...]:
    """x, w, b and dy in channels last and HWIO."""
    random = np.random.default_rng(seed)
    problem = shape.problem()
    x = random.standard_normal(problem.x_shape, np.float32)
    w = random.standard_normal(problem.w_shape, np.float32) / np.float32(
        np.sqrt(shape.C // shape.groups * shape.kernel**2)
    )
    b = random.standard_normal(shape.K, np.float32)
    dy = random.standard_normal(problem.y_shape, np.float32)
    return x, w, b, dy


def pycnn_sides(shape: Shape, data: tuple[np.ndarray, ...], algorithm: str = "auto") -> dict[str, Side]:
    """The three operations through plans, as the functional layer calls them."""
    from pycnn_kernels.plan import plan_for

    x, w, b, dy = data
    problem = shape.problem()
    bare = problem._replace(bias=False)
    forward = plan_for("conv_forward", problem, algorithm=algorithm)
    input_gradient = plan_for("conv_input_gradient", bare, algorithm=algorithm)
    weight_gradient = plan_for("conv_weight_gradient", bare, algorithm=algorithm)
    return {
        "forward": lambda: forward.run(x, w, b)[0],
        "input gradient": lambda: input_gradient.run(dy, w)[0],
        "weight gradient": lambda: weight_gradient.run(x, dy)[0],
    }


def torch_sides(shape: Shape, data: tuple[np.ndarray, ...], channels_last: bool) -> dict[str, Side] | None:
    """The same operations in PyTorch, in one of its two memory formats."""
    if not has("torch"):
        return None
    import torch

    x, w, b, dy = data
    form = torch.channels_last if channels_last else torch.contiguous_format
    tx, tdy = (torch.from_numpy(a).permute(0, 3, 1, 2).contiguous(memory_format=form) for a in (x, dy))
    tw = torch.from_numpy(w).permute(3, 2, 0, 1).contiguous(memory_format=form)
    tb = torch.from_numpy(b)
    step, side = [shape.stride] * 2, [shape.padding] * 2

    def backward(wanted: list[bool]) -> Any:
        gradients = torch.ops.aten.convolution_backward(
            tdy, tx, tw, None, step, side, [1, 1], False, [0, 0], shape.groups, wanted
        )
        return next(g for g in gradients if g is not None)

    def channels_to_end(t: Any) -> np.ndarray:
        return t.permute(0, 2, 3, 1).numpy()

    def forward() -> Any:
        with torch.no_grad():
            return torch.nn.functional.conv2d(tx, tw, tb, step, side, groups=shape.groups)

    return {
        "forward": lambda: channels_to_end(forward()),
        "input gradient": lambda: channels_to_end(backward([True, False, False])),
        "weight gradient": lambda: backward([False, True, False]).permute(2, 3, 1, 0).numpy(),
    }


def conv_sides(shape: Shape, algorithm: str = "auto") -> dict[str, dict[str, Side]]:
    """For each installed engine, its three operations on the same numbers; ours by the given algorithm."""
    data = arrays(shape)
    found = {
        "pycnn": pycnn_sides(shape, data, algorithm),
        "torch channels first": torch_sides(shape, data, channels_last=False),
        "torch channels last": torch_sides(shape, data, channels_last=True),
    }
    return {name: sides for name, sides in found.items() if sides is not None}


def set_threads(n: int) -> None:
    """Keep every installed engine on ``n`` threads."""
    import pycnn

    pycnn.set_num_threads(n)
    if has("torch"):
        import torch

        torch.set_num_threads(n)


# -- the CIFAR-10 network's training step ---------------------------------------------------------------------------


def cifar_batch(size: int = 50) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.random((size, 32, 32, 3), np.float32), random.integers(0, 10, (size, 1))


def pycnn_step(x: np.ndarray, y: np.ndarray) -> Side:
    from pycnn.applications import cifar10_cnn

    model = cifar10_cnn()
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return lambda: model.train_on_batch(x, y)


def keras_tensorflow_step(x: np.ndarray, y: np.ndarray) -> Side | None:
    """The document's listing in Keras 3 on TensorFlow; the loss is read back, as Keras' own loop does."""
    if not (has("keras") and has("tensorflow")):
        return None
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(len(os.sched_getaffinity(0)))
    import keras

    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.MaxPooling2D(2),
            keras.layers.Conv2D(64, 3, activation="relu"),
            keras.layers.MaxPooling2D(2),
            keras.layers.Conv2D(128, 3, activation="relu"),
            keras.layers.MaxPooling2D(2),
            keras.layers.Flatten(),
            keras.layers.Dense(256, activation="relu"),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    tx, ty = tf.constant(x), tf.constant(y)
    model.make_train_function()  # what fit() builds and calls for each step
    batches = iter(tf.data.Dataset.from_tensors((tx, ty)).repeat())

    def run() -> object:
        return float(model.train_function(batches)["loss"])

    return run


def torch_step(x: np.ndarray, y: np.ndarray, channels_last: bool = True) -> Side | None:
    if not has("torch"):
        return None
    import torch
    from torch import nn

    model = nn.Sequential(
        nn.Conv2d(3, 32, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 128, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip
    form = torch.channels_last if channels_last else torch.contiguous_format
    model = model.to(memory_format=form)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    tx = torch.from_numpy(x).permute(0, 3, 1, 2).contiguous(memory_format=form)
    ty = torch.from_numpy(y[:, 0])

    def run() -> object:
        optimizer.zero_grad(set_to_none=True)
        loss = nn.functional.cross_entropy(model(tx), ty)
        loss.backward()
        optimizer.step()
        return loss.item()

    return run
