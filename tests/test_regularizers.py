"""What layers add to the loss, what weights are changed to after a step, and layers made of layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pycnn import Tensor, constraints, regularizers
from pycnn import layers as L
from pycnn.models import Model, Sequential
from pycnn.optimizers import SGD
from pycnn.utils import clear_session, set_random_seed

RNG = np.random.default_rng(5)
X = RNG.normal(size=(6, 3)).astype(np.float32)
Y = RNG.normal(size=(6, 2)).astype(np.float32)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    clear_session()
    set_random_seed(0)


class Regular(L.Layer):
    """A weight with the square of its norm beside the loss, times the input."""

    def build(self, input_shape: Any) -> None:
        self.w = self.add_weight((input_shape[-1],), "ones", regularizer="l2", constraint="non_neg")

    def call(self, inputs: Tensor) -> Tensor:
        return inputs * self.w


class Block(L.Layer):
    """Two layers, one of them in a list."""

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.first = L.Dense(units)
        self.rest: list[L.Layer] = []
        self.rest.append(Regular())

    def call(self, inputs: Tensor) -> Tensor:
        outputs = self.first(inputs)
        for layer in self.rest:
            outputs = layer(outputs)
        return outputs


@pytest.mark.parametrize(
    ("regularizer", "expected"),
    [
        (regularizers.L1(0.1), lambda w: 0.1 * abs(w).sum()),
        (regularizers.L2(0.1), lambda w: 0.1 * (w**2).sum()),
        (regularizers.L1L2(0.1, 0.2), lambda w: 0.1 * abs(w).sum() + 0.2 * (w**2).sum()),
        (regularizers.L1L2(), lambda w: 0.0),
        (regularizers.get("l1"), lambda w: 0.01 * abs(w).sum()),
        (regularizers.get("L2"), lambda w: 0.01 * (w**2).sum()),
    ],
)
def test_regularizers(regularizer: Any, expected: Callable[[np.ndarray], float]) -> None:
    w = RNG.normal(size=(3, 4))
    assert regularizer(Tensor(w)).item() == pytest.approx(expected(w))
    assert type(regularizer)(**regularizer.get_config())(Tensor(w)).item() == pytest.approx(expected(w))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_many_halves_have_a_finite_sum(dtype: str) -> None:
    w = Tensor(np.full((300, 300), 2.0)).astype(dtype)
    assert regularizers.L2(1.0)(w).item() == 360_000
    assert constraints.UnitNorm()(w).numpy().max() == pytest.approx(300**-0.5, rel=1e-2)


@pytest.mark.parametrize("value", [-0.1, float("inf"), float("nan"), "0.1", None, True])
def test_factors_are_numbers_of_at_least_0(value: Any) -> None:
    with pytest.raises(ValueError, match="l2: expected a finite number of at least 0"):
        regularizers.L2(value)


@pytest.mark.parametrize(("module", "kind"), [(regularizers, "regularizer"), (constraints, "constraint")])
def test_names(module: Any, kind: str) -> None:
    assert module.get(None) is None
    known = regularizers.L1 if kind == "regularizer" else constraints.NonNeg
    assert isinstance(module.get(known), known)
    assert isinstance(module.get(known.__name__), known)
    assert module.get(abs) is abs
    near, meant = ("l1_12", "l1_l2") if kind == "regularizer" else ("maxnorm", "max_norm")
    with pytest.raises(ValueError, match=f"unknown {kind} '{near}'. Did you mean '{meant}'"):
        module.get(near)
    with pytest.raises(ValueError, match=f"{kind}: expected a name or a function, received 3"):
        module.get(3)


def test_constraints() -> None:
    w = RNG.normal(size=(3, 3, 2, 5)) * 2
    norms = np.sqrt((w**2).sum(axis=(0, 1, 2), keepdims=True))
    axis = [0, 1, 2]
    cases: list[tuple[Any, np.ndarray]] = [
        (constraints.MaxNorm(3.0, axis), w / norms * np.minimum(norms, 3)),
        (constraints.UnitNorm(axis), w / norms),
        (constraints.MinMaxNorm(1, 3, 0.5, axis), w / norms * (0.5 * norms + 0.5 * np.clip(norms, 1, 3))),
        (constraints.NonNeg(), np.maximum(w, 0)),
    ]
    for constraint, expected in cases:
        np.testing.assert_allclose(constraint(Tensor(w)).numpy(), expected, rtol=1e-6)
        copy = type(constraint)(**constraint.get_config())
        np.testing.assert_allclose(copy(Tensor(w)).numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: constraints.MaxNorm("a"), "max_value: expected a number of at least 0, received 'a'"),
        (lambda: constraints.MaxNorm(-1), "max_value: expected a number of at least 0, received -1"),
        (lambda: constraints.MaxNorm(float("nan")), "max_value: .* received nan"),
        (lambda: constraints.MaxNorm(1, axis="a"), "axis: expected an integer, several .* received 'a'"),
        (lambda: constraints.UnitNorm(0.5), "axis: .* received 0.5"),
        (lambda: constraints.MinMaxNorm(2, 1), "min_value: expected at most the max_value, 1, received 2"),
        (lambda: constraints.MinMaxNorm(rate=2), "rate: expected a number from 0 to 1, received 2"),
        (lambda: constraints.UnitNorm(9)(Tensor(X)), r"axis: expected axes from -2 to 1.*\(6, 3\), received 9"),
        (lambda: constraints.UnitNorm([0, -2])(Tensor(X)), r"each once, .* received \(0, -2\)"),
    ],
)
def test_wrong_arguments_of_constraints(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_axes_of_constraints() -> None:
    for axis in (None, np.int64(0), (0, -1), [1]):
        axes = axis if axis is None else tuple(np.atleast_1d(axis).tolist())
        norms = np.sqrt((X**2).sum(axes, keepdims=True))
        np.testing.assert_allclose(constraints.UnitNorm(axis)(Tensor(X)).numpy(), X / norms, rtol=1e-5)
    largest = float(np.sqrt((X**2).sum()))
    np.testing.assert_array_equal(
        constraints.MinMaxNorm(largest / 2, float("inf"), axis=None)(Tensor(X)).shape, X.shape
    )


def network(**rules: Any) -> Sequential:
    return Sequential([L.Dense(4, input_dim=3, **rules), L.Dense(2)])


def test_the_loss_of_training_and_evaluation_has_the_regularization() -> None:
    model = network(kernel_regularizer=regularizers.L2(0.5), bias_regularizer="l1", bias_initializer="ones")
    model.compile(SGD(0.1), "mse")
    kernel, bias, other, other_bias = model.get_weights()
    outputs = (X @ kernel + bias) @ other + other_bias
    expected = ((outputs - Y) ** 2).mean() + 0.5 * (kernel**2).sum() + 0.01 * abs(bias).sum()
    assert model.evaluate(X, Y, verbose=0) == pytest.approx(expected, rel=1e-5)
    assert model.train_on_batch(X, Y) == pytest.approx(expected, rel=1e-5)
    plain = network()
    plain.set_weights([kernel, bias, other, other_bias])
    plain.compile(SGD(0.1), "mse")
    plain.train_on_batch(X, Y)
    np.testing.assert_allclose(model.get_weights()[0], plain.get_weights()[0] - 0.1 * kernel, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.get_weights()[1], plain.get_weights()[1] - 0.1 * 0.01, rtol=1e-5, atol=1e-6)


def test_what_is_not_trained_is_neither_regularized_nor_constrained() -> None:
    model = network(kernel_regularizer="l2", kernel_constraint="unit_norm")
    assert len(model.losses) == 1
    model.layers[0].trainable = False
    assert model.losses == []
    before = model.get_weights()[0]
    model.compile("sgd", "mse")
    model.train_on_batch(X, Y)
    np.testing.assert_array_equal(model.get_weights()[0], before)


def test_constraints_hold_after_each_step() -> None:
    model = network(kernel_constraint=constraints.UnitNorm(), bias_constraint="non_neg")
    model.compile(SGD(1.0), "mse")
    model.fit(X, Y, epochs=3, verbose=0)
    kernel, bias = model.get_weights()[:2]
    np.testing.assert_allclose((kernel**2).sum(axis=0), 1, rtol=1e-5)
    assert bias.min() >= 0


def test_the_activity_is_divided_by_the_batch_and_counted_once() -> None:
    model = network(activity_regularizer=regularizers.L1(0.5))
    outputs = model.layers[0](X).data
    for _ in range(2):
        model(X)
        assert [loss.item() for loss in model.losses] == pytest.approx([0.5 * abs(outputs).sum() / 6])
    model.compile("sgd", "mse")
    before = model.evaluate(X, Y, verbose=0)
    assert before == pytest.approx(((model.predict(X, verbose=0) - Y) ** 2).mean() + 0.5 * abs(outputs).sum() / 6)


def test_the_activity_of_layers_that_models_compute_together() -> None:
    def make(**rules: Any) -> Sequential:
        return Sequential(
            [L.Conv2D(3, 3, input_shape=(8, 8, 1), **rules), L.BatchNormalization(**rules), L.MaxPooling2D(**rules)]
        )

    model, plain = make(activity_regularizer="l2"), make()
    plain.set_weights(model.get_weights())
    x = RNG.normal(size=(2, 8, 8, 1)).astype(np.float32)
    for training in (False, True):
        np.testing.assert_allclose(model(x, training=training).data, plain(x, training=training).data, rtol=1e-5)
        assert len(model.losses) == 3
        assert plain.losses == []


def test_layers_of_layers() -> None:
    block = Block(4)
    assert block(X).shape == (6, 4)
    assert [weight.shape for weight in block.weights] == [(3, 4), (4,), (4,)]
    assert list(block.named_weights()) == ["dense/kernel", "dense/bias", "regular/variable"]
    assert block.count_params() == 20
    assert block.compute_output_shape((None, 3)) == (None, 4)
    assert block.losses[0].item() == pytest.approx(0.04)
    block.trainable = False
    assert block.trainable_weights == []
    assert block.losses == []
    assert len(block.non_trainable_weights) == 3
    assert not block.weights[0].requires_grad


def test_a_model_of_ones_own() -> None:
    class Network(Model):
        def __init__(self) -> None:
            super().__init__()
            self.block = Block(4)
            self.drop = L.Dropout(0.5)
            self.head = L.Dense(2)

        def call(self, inputs: Tensor, training: bool = False) -> Tensor:
            return self.head(self.drop(self.block(inputs), training=training))

    model = Network()
    assert [layer.name for layer in model.layers] == ["block", "dropout", "dense_1"]
    model.compile("adam", "mse")
    history = model.fit(X, Y, epochs=30, verbose=0).history["loss"]
    assert history[-1] < history[0]
    assert model.predict(X, verbose=0).shape == (6, 2)
    assert model.output_shape == (None, 2)
    assert model.count_params() == 3 * 4 + 4 + 4 + 4 * 2 + 2


def test_add_loss_counts_for_the_last_call() -> None:
    class Counting(L.Layer):
        def call(self, inputs: Tensor) -> Tensor:
            self.add_loss((inputs * inputs).mean())
            return inputs

    model = Sequential([L.Input((3,)), Counting(), L.Dense(2)])
    assert model.losses == []
    for factor in (1.0, 2.0):
        model(X * factor)
        assert [loss.item() for loss in model.losses] == pytest.approx([(X**2).mean() * factor**2])
    with pytest.raises(ValueError, match="add_loss expected a tensor of one element"):
        model.layers[0].add_loss(3.0)  # type: ignore[arg-type]


def test_weights_of_ones_own_have_names() -> None:
    layer = Regular()
    layer(X)
    layer.add_weight((2,))
    assert list(layer.named_weights()) == ["variable", "variable_1"]
    with pytest.raises(ValueError, match="received a second 'variable'"):
        layer.add_weight((2,), name="variable")


def test_the_constructor_of_the_base_class_must_be_called() -> None:
    class Hasty(L.Layer):
        def __init__(self) -> None:
            self.inner = L.Dense(2)

    with pytest.raises(RuntimeError, match=r"Hasty.__init__ must call super\(\).__init__\(\)"):
        Hasty()


def test_output_shapes_that_cannot_be_found_out() -> None:
    with pytest.raises(ValueError, match=r"received \(None, None, 3\); or define Regular.compute_output_shape"):
        Regular().build_for((None, None, 3))
