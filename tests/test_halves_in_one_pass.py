"""Layers in halves that run in one pass give the bits that they give in turn: each result is rounded."""

import numpy as np
import pytest

from pycnn import no_grad
from pycnn.layers import Activation, Add, BatchNormalization, Conv2D, Input, MaxPooling2D
from pycnn.models import Model


def added(x, **how):
    return Add(**how)([x, Conv2D(4, 3, padding="same", **how)(x)])


def added_by_arithmetic(x, **how):
    return Activation("relu", **how)(Conv2D(4, 3, padding="same", **how)(x) + x)


def normalised(x, **how):
    return Activation("relu", **how)(BatchNormalization(**how)(Conv2D(4, 3, **how)(x)))


def normalised_and_pooled(x, **how):
    return MaxPooling2D(**how)(BatchNormalization(**how)(Conv2D(4, 3, **how)(x)))


def rectified_normalised_and_pooled(x, **how):
    return MaxPooling2D(**how)(BatchNormalization(**how)(Conv2D(4, 3, activation="relu", **how)(x)))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(
    "layers", [added, added_by_arithmetic, normalised, normalised_and_pooled, rectified_normalised_and_pooled]
)
def test_halves_are_rounded_between_layers(layers, dtype):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    generator = np.random.default_rng(2)
    x = Input((10, 9, 4), dtype=dtype)
    model = Model(x, layers(x, dtype=dtype))
    model.set_weights([generator.uniform(0.2, 2, w.shape) * 1.0 for w in model.get_weights()])
    images = generator.normal(size=(4, 10, 9, 4)).astype(model.inputs[0].dtype if dtype == "float16" else np.float32)
    with no_grad():
        results = {x: model.accept(images)[0]}
        for node in model.graph.nodes:
            if not node.is_input:
                given = [results[tensor] for tensor in node.inputs]
                results[node.outputs[0]] = node.layer(given if isinstance(node.arguments, list) else given[0])
        expected, received = results[model.outputs[0]].numpy(), model(images).numpy()
    assert (expected == received).all()
