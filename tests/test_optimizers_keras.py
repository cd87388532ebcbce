"""Optimizers and learning-rate schedules beside Keras': their steps, their numbers and their descriptions."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

from pycnn import Tensor, optimizers
from pycnn.optimizers import schedules

keras = pytest.importorskip("keras", exc_type=ImportError)

CASES: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9}),
    ("SGD", {"momentum": 1.0}),
    ("RMSprop", {"momentum": 1.0}),
    ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("Adam", {}),
    ("Adam", {"amsgrad": True}),
    ("Adam", {"weight_decay": 0.01, "beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-3}),
    ("AdamW", {}),
    ("RMSprop", {}),
    ("RMSprop", {"momentum": 0.9, "rho": 0.8}),
    ("RMSprop", {"centered": True}),
    ("RMSprop", {"centered": True, "momentum": 0.5}),
    ("Adagrad", {}),
    ("Adagrad", {"initial_accumulator_value": 0.5}),
    ("Adadelta", {"learning_rate": 1.0}),
    ("Adamax", {}),
    ("Nadam", {}),
    ("Lion", {}),
    ("Adam", {"clipnorm": 0.5}),
    ("Adam", {"clipvalue": 0.2}),
    ("SGD", {"global_clipnorm": 0.5}),
    ("Adam", {"gradient_accumulation_steps": 3}),
    ("RMSprop", {"gradient_accumulation_steps": 2, "weight_decay": 0.1, "global_clipnorm": 1.0}),
]


@pytest.mark.parametrize(("name", "arguments"), CASES, ids=str)
def test_steps(name: str, arguments: dict[str, Any]) -> None:
    arguments = {"learning_rate": 0.05} | arguments
    theirs, ours = getattr(keras.optimizers, name)(**arguments), getattr(optimizers, name)(**arguments)
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in [(3, 4), (5,)]]
    variables = [keras.Variable(array) for array in arrays]
    weights = [Tensor(array.copy(), requires_grad=True) for array in arrays]
    for _ in range(7):
        gradients = [rng.standard_normal(array.shape).astype(np.float32) for array in arrays]
        theirs.apply([keras.ops.convert_to_tensor(g) for g in gradients], variables)
        ours.apply_gradients(zip(map(Tensor, gradients), weights))
        for variable, weight in zip(variables, weights):
            np.testing.assert_allclose(weight.data, keras.ops.convert_to_numpy(variable), rtol=1e-5, atol=1e-5)
    assert ours.iterations == int(theirs.iterations)


@pytest.mark.parametrize("name", sorted({name for name, _ in CASES}))
def test_arguments_and_defaults(name: str) -> None:
    theirs, ours = (getattr(package.optimizers, name) for package in (keras, __import__("pycnn")))
    expected = theirs(name="a").get_config()
    found = ours(name="a").get_config()
    assert found.keys() == expected.keys()
    for argument, value in expected.items():
        assert found[argument] == (pytest.approx(value) if isinstance(value, float) else value)
    wanted = [p for p in inspect.signature(theirs.__init__).parameters if p not in COMMON]
    own = [p for p in inspect.signature(ours.__init__).parameters if p not in COMMON]
    assert own == wanted


#: What Keras lists in each constructor, and here all take by keyword.
COMMON = {
    "clipnorm", "clipvalue", "global_clipnorm", "use_ema", "ema_momentum", "ema_overwrite_frequency",
    "loss_scale_factor", "gradient_accumulation_steps", "name", "kwargs", "common", "weight_decay",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted({name for name, _ in CASES}))
def test_a_description_that_keras_has_written_is_read(name: str) -> None:
    rate = keras.optimizers.schedules.CosineDecay(0.1, 10)
    theirs = getattr(keras.optimizers, name)(learning_rate=rate, clipnorm=0.5, name="mine")
    ours = optimizers.deserialize(keras.optimizers.serialize(theirs))
    assert type(ours).__name__ == name
    assert ours.learning_rate == pytest.approx(0.1)
    assert ours.name == "mine"
    again = keras.optimizers.deserialize(optimizers.serialize(ours))
    assert again.get_config() == theirs.get_config()


SCHEDULES: list[tuple[str, dict[str, Any]]] = [
    ("ExponentialDecay", {"initial_learning_rate": 0.1, "decay_steps": 7, "decay_rate": 0.9}),
    ("ExponentialDecay", {"initial_learning_rate": 0.1, "decay_steps": 7, "decay_rate": 0.9, "staircase": True}),
    ("InverseTimeDecay", {"initial_learning_rate": 0.1, "decay_steps": 7, "decay_rate": 0.5}),
    ("InverseTimeDecay", {"initial_learning_rate": 0.1, "decay_steps": 7, "decay_rate": 0.5, "staircase": True}),
    ("PiecewiseConstantDecay", {"boundaries": [5, 20], "values": [1.0, 0.5, 0.1]}),
    ("PolynomialDecay", {"initial_learning_rate": 0.1, "decay_steps": 9}),
    ("PolynomialDecay", {"initial_learning_rate": 0.1, "decay_steps": 9, "power": 2.0, "end_learning_rate": 0.01}),
    ("PolynomialDecay", {"initial_learning_rate": 0.1, "decay_steps": 9, "power": 0.5, "cycle": True}),
    ("CosineDecay", {"initial_learning_rate": 0.1, "decay_steps": 11}),
    ("CosineDecay", {"initial_learning_rate": 0.1, "decay_steps": 11, "alpha": 0.25}),
    ("CosineDecay", {"initial_learning_rate": 0.0, "decay_steps": 11, "warmup_target": 0.5, "warmup_steps": 6}),
    ("CosineDecayRestarts", {"initial_learning_rate": 0.1, "first_decay_steps": 4}),
    ("CosineDecayRestarts", {"initial_learning_rate": 0.1, "first_decay_steps": 4, "t_mul": 1.0, "m_mul": 0.8}),
    ("CosineDecayRestarts", {"initial_learning_rate": 0.1, "first_decay_steps": 4, "m_mul": 0.5, "alpha": 0.1}),
]


@pytest.mark.parametrize(("name", "arguments"), SCHEDULES, ids=str)
def test_schedules(name: str, arguments: dict[str, Any]) -> None:
    theirs = getattr(keras.optimizers.schedules, name)(**arguments)
    ours = getattr(schedules, name)(**arguments)
    for step in (0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 13, 17, 20, 21, 37, 50):
        assert ours(step) == pytest.approx(float(theirs(step)), rel=2e-5, abs=1e-7), step
    assert ours.get_config() == theirs.get_config()
    assert schedules.deserialize(keras.optimizers.schedules.serialize(theirs)).get_config() == ours.get_config()
    parameters = [inspect.signature(kind.__init__).parameters for kind in (type(ours), type(theirs))]
    assert [(p.name, p.default) for p in parameters[0].values()] == [
        (p.name, p.default) for p in parameters[1].values()
    ]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: schedules.ExponentialDecay(0.1, 0, 0.5), "decay_steps must be above 0; received 0"),
        (lambda: schedules.PiecewiseConstantDecay([1], [1.0]), "received 1 values and 1 boundaries"),
        (lambda: schedules.PiecewiseConstantDecay([], [1.0]), "received 1 values and 0 boundaries"),
        (lambda: schedules.PiecewiseConstantDecay([2, 1], [1, 2, 3]), r"boundaries must ascend; received \[2, 1\]"),
        (lambda: schedules.CosineDecayRestarts(0.1, 4, t_mul=0.5), "t_mul must be at least 1; received 0.5"),
        (lambda: schedules.deserialize({"class_name": "CosinDecay"}), "Did you mean 'CosineDecay'"),
    ],
)
def test_schedules_that_cannot_be(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_schedule_of_ones_own() -> None:
    class Line(schedules.LearningRateSchedule):
        def __init__(self, slope: float) -> None:
            self.slope = slope

        def __call__(self, step: int) -> float:
            return 1 + self.slope * step

        def get_config(self) -> dict[str, Any]:
            return {"slope": self.slope}

    description = optimizers.serialize(optimizers.SGD(Line(2.0)))
    again = optimizers.deserialize(description, custom_objects={"Line": Line})
    again.iterations = 3
    assert again.learning_rate == 7
    with pytest.raises(ValueError, match="unknown learning rate schedule 'Line'"):
        optimizers.deserialize(description)
