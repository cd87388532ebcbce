"""Which ``training`` the layers within layers and models are called with."""

import numpy as np
import pytest

from pycnn.layers import Activation, BatchNormalization, Dropout, Input, Layer, RandomFlip, ReLU
from pycnn.models import Functional, Sequential

IMAGES = np.random.default_rng(0).normal(5, 1, (8, 4, 4, 2)).astype(np.float32)


def wrapping(inner, default):
    """A layer that calls another without a word on training, and has a default of its own."""

    class Wrapping(Layer):
        def __init__(self):
            super().__init__()
            self.inner = inner

        def call(self, inputs, training=default):
            return self.inner(inputs)

    return Wrapping()


def changes(layer, **flag):
    return bool((layer(IMAGES, **flag).numpy() != IMAGES).any())


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (RandomFlip("horizontal"), (True, False, True)),
        (wrapping(RandomFlip("horizontal"), False), (False, False, True)),
        (wrapping(RandomFlip("horizontal"), 0), (False, False, True)),
        (wrapping(RandomFlip("horizontal"), None), (True, False, True)),
        (wrapping(Dropout(0.5), True), (True, False, True)),
        (wrapping(Dropout(0.5), 1), (True, False, True)),
        (wrapping(wrapping(Dropout(0.5), None), True), (True, False, True)),
        (Sequential([Input((4, 4, 2)), RandomFlip("horizontal")]), (True, False, True)),
        (Sequential([Input((4, 4, 2)), wrapping(Dropout(0.5), True)]), (True, False, True)),
        (Sequential([Input((4, 4, 2)), Dropout(0.5)]), (False, False, True)),
    ],
)
def test_layers_within_a_layer_are_called_with_its_flag_or_its_default(layer, expected):
    assert (changes(layer), changes(layer, training=False), changes(layer, training=True)) == expected


def test_an_argument_without_a_default_is_false():
    class Asked(Layer):
        def call(self, inputs, training):
            return inputs * (2.0 if training else 1.0)

    assert not changes(Asked())
    assert changes(Asked(), training=True)


class SilentStack(Sequential):
    def call(self, inputs):
        return super().call(inputs)


class SilentGraph(Functional):
    def call(self, inputs):
        return super().call(inputs)


@pytest.mark.parametrize("above", [ReLU(), Activation("sigmoid")], ids=["one pass", "in turn"])
@pytest.mark.parametrize("kind", [SilentStack, SilentGraph])
def test_normalisation_learns_in_a_model_whose_call_takes_no_flag(kind, above):
    norm = BatchNormalization()
    if kind is SilentStack:
        model = kind([Input((4, 4, 2)), norm, type(above).from_config(above.get_config())])
    else:
        x = Input((4, 4, 2))
        model = kind(x, type(above).from_config(above.get_config())(norm(x)))
    model(IMAGES)
    assert not norm.moving_mean.numpy().any()
    model(IMAGES, training=True)
    np.testing.assert_allclose(norm.moving_mean.numpy(), 0.01 * IMAGES.mean((0, 1, 2)), rtol=1e-4)
