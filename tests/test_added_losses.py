"""What layers add to the loss of the running step, and what they may not lose of it."""

import numpy as np
import pytest

from pycnn.layers import Dense, Layer
from pycnn.models import Model


class Adding(Layer):
    def call(self, inputs):
        self.add_loss(inputs.mean())
        return inputs * 1.0


class Twice(Model):
    """Calls a layer on two shapes; of both the layer has to find out its output shape in the first step."""

    def __init__(self):
        super().__init__()
        self.adding = Adding()

    def compute_output_shape(self, input_shape):
        return input_shape

    def call(self, inputs):
        self.adding(inputs)
        self.adding(inputs[:, ::2])
        return inputs


def test_finding_out_a_shape_leaves_the_losses_of_the_step():
    model = Twice()
    for size in (8, 8, 12, 12):
        model(np.full((1, size, 3), size, np.float32))
        assert [float(loss.numpy()) for loss in model.losses] == [size, size]
    model.adding.compute_output_shape((None, 20, 3))
    assert len(model.losses) == 2


class Wrapped(Layer):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, inputs):
        return self.inner(inputs)


def test_what_a_shared_layer_adds_counts_once():
    shared = Dense(2, kernel_regularizer="l2")
    adding = Adding()

    class Both(Model):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.third = Wrapped(shared), Wrapped(shared), Wrapped(adding)
            self.fourth = Wrapped(adding)

        def call(self, inputs):
            return self.first(inputs) + self.second(inputs) + self.fourth(self.third(inputs))[:, :2]

    model = Both()
    model(np.ones((1, 3), np.float32))
    assert len(model.losses) == 3  # of the kernel, and of two calls


@pytest.mark.parametrize("name", ["dense/kernel", "/"])
def test_names_of_weights_have_no_slash(name):
    with pytest.raises(ValueError, match=r"expected the name of a weight without '/'"):
        Layer().add_weight((2,), name=name)
