"""Optimizers: their steps against the oracle, their settings, and what they refuse."""

from __future__ import annotations

import contextlib
import copy
import gc
import weakref
from typing import Any

import numpy as np
import pytest

import pycnn.functional as F
from pycnn import Tensor, optimizers
from pycnn.optimizers import SGD, Adam, AdamW, Optimizer, RMSprop, schedules
from tests import reference as oracle
from tests.kernels.problems import each_number_of_threads

DTYPES = ("float32", "float64")


def parameter(shape: tuple[int, ...], dtype: str = "float64") -> Tensor:
    return Tensor(np.random.default_rng(1).standard_normal(shape).astype(dtype), requires_grad=True)


def gradients(shape: tuple[int, ...], dtype: str, steps: int = 5) -> list[np.ndarray]:
    rng = np.random.default_rng(2)
    return [rng.standard_normal(shape).astype(dtype) for _ in range(steps)]


def step(optimizer: Optimizer, tensor: Tensor, gradient: np.ndarray) -> None:
    tensor.grad = Tensor(gradient)
    optimizer.apply([tensor])


OPTIMIZERS: list[tuple[Optimizer, Any]] = [
    (Adam(), lambda w, g: oracle.adam(w, g, 0.001, 0.9, 0.999, 1e-7)),
    (Adam(0.1, 0.5, 0.9, 1e-3), lambda w, g: oracle.adam(w, g, 0.1, 0.5, 0.9, 1e-3)),
    (SGD(), lambda w, g: oracle.sgd(w, g, 0.01)),
    (SGD(0.1, momentum=0.9), lambda w, g: oracle.sgd(w, g, 0.1, 0.9)),
    (SGD(0.1, momentum=0.9, nesterov=True), lambda w, g: oracle.sgd(w, g, 0.1, 0.9, True)),
]


@pytest.mark.parametrize(("optimizer", "expected"), OPTIMIZERS, ids=lambda o: str(getattr(o, "get_config", str)()))
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (5,), (3, 3, 4, 8)])
def test_steps(optimizer: Optimizer, expected: Any, shape: tuple[int, ...], dtype: str) -> None:
    fresh = type(optimizer)(**optimizer.get_config())
    w = parameter(shape, dtype)
    array, grads = w.data, gradients(shape, dtype)
    wanted = expected(array, grads)
    for g in grads:
        step(fresh, w, g)
        assert w.grad is None
    assert w.data is array  # in place
    assert fresh.iterations == len(grads)
    oracle.assert_close(w.data, wanted)


def test_parameters_do_not_mix() -> None:
    optimizer = Adam(0.1)
    together = [parameter((4,)), parameter((2, 3))]
    alone = [parameter((4,)), parameter((2, 3))]
    separate = [Adam(0.1), Adam(0.1)]
    for seed in range(3):
        for w, v, own in zip(together, alone, separate):
            g = np.random.default_rng(seed).standard_normal(w.shape)
            w.grad = Tensor(g)
            step(own, v, g)
        optimizer.apply(together)
    for w, v in zip(together, alone):
        np.testing.assert_array_equal(w.data, v.data)


def test_a_parameter_without_a_gradient_is_left_alone() -> None:
    w, other = parameter((3,)), parameter((3,))
    before = other.data.copy()
    w.grad = Tensor(np.ones(3))
    SGD().apply([w, other])
    np.testing.assert_array_equal(other.data, before)


def mixed() -> list[Tensor]:
    """Of several dtypes and sizes; one is empty, and one scattered."""
    shapes = [(), (5,), (0, 3), (3, 3, 4, 8), (40, 500)]
    tensors = [parameter(shape, dtype) for dtype in ("float32", "float16", "float64") for shape in shapes]
    return [*tensors, Tensor(parameter((6, 4), "float32").data.T, requires_grad=True)]


@pytest.mark.parametrize("optimizer", [SGD(0.1), SGD(0.1, 0.9), Adam(0.1)], ids=["sgd", "momentum", "adam"])
def test_any_parameters_in_one_step(optimizer: Optimizer) -> None:
    """The same bits as with an optimizer for each parameter, also where some have no gradient."""
    together, alone = mixed(), mixed()
    separate = [copy.deepcopy(optimizer) for _ in alone]
    shared = copy.deepcopy(optimizer)
    for number in range(4):
        for place, (w, v, own) in enumerate(zip(together, alone, separate)):
            if (place + number) % 5 == 0:
                own.iterations += 1
                continue
            g = np.random.default_rng([number, place]).standard_normal(w.shape).astype(w.dtype)
            w.grad = Tensor(g)
            step(own, v, g)
        shared.apply(together)
        assert all(w.grad is None for w in together)
    for w, v in zip(together, alone):
        np.testing.assert_array_equal(w.data, v.data)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_parameter_given_twice_changes_once(dtype: str) -> None:
    w, other = parameter((3,), dtype), parameter((3,), dtype)
    w.grad, other.grad = Tensor(np.ones(3, dtype)), Tensor(np.ones(3, dtype))
    before = w.data.copy()
    SGD(0.5).apply([w, other, w])
    np.testing.assert_array_equal(w.data, before - np.asarray(0.5, dtype))


def test_momentum_can_change_between_steps() -> None:
    w = Tensor(np.zeros(1), requires_grad=True)
    optimizer = SGD(1.0)
    step(optimizer, w, np.ones(1))
    optimizer.momentum = 0.5
    step(optimizer, w, np.ones(1))
    step(optimizer, w, np.ones(1))
    assert w.data.item() == -1 - 1 - 1.5
    optimizer.momentum = 0.0
    step(optimizer, w, np.ones(1))
    assert w.data.item() == -4.5


def test_the_learning_rate_can_change_between_steps() -> None:
    w = Tensor(np.zeros(1), requires_grad=True)
    optimizer = SGD(1.0)
    step(optimizer, w, np.ones(1))
    optimizer.learning_rate = 0.5
    step(optimizer, w, np.ones(1))
    assert w.data.item() == -1.5
    optimizer.learning_rate = 0
    step(optimizer, w, np.ones(1))
    assert w.data.item() == -1.5


@pytest.mark.parametrize("optimizer", [SGD, Adam])
def test_any_gradient_that_backward_leaves(optimizer: type[Optimizer]) -> None:
    """Also those that are views: read-only, or strided."""
    for forward in (
        lambda w: w.sum(),
        lambda w: w.T.sum(0).reshape(-1)[0],
        lambda w: w[::-1].sum(),
        lambda w: w.reshape(-1).sum(),
    ):
        for shape in ((1,), (1, 1), (3, 2)):
            w = parameter(shape)
            before = w.data.copy()
            forward(w).backward()
            optimizer(0.5).apply([w])
            assert (w.data != before).any()


@pytest.mark.parametrize("optimizer", [SGD(0.5), SGD(0.5, 0.9), Adam(0.5)], ids=["sgd", "momentum", "adam"])
def test_a_parameter_that_is_not_contiguous(optimizer: Optimizer) -> None:
    """It is changed like any other, or refused; never left as it is without a word."""
    w = Tensor(np.ones((3, 2)).T, requires_grad=True)
    w.grad = Tensor(np.ones((2, 3)))
    with contextlib.suppress(ValueError):
        optimizer.apply([w])
        assert (w.data != 1).all()


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("optimizer", [SGD(0.5), Adam(0.5)], ids=["sgd", "adam"])
def test_a_read_only_parameter_is_refused_before_anything_changes(optimizer: Optimizer, dtype: str) -> None:
    good, fixed = (Tensor(np.ones((2, 3), dtype), requires_grad=True) for _ in range(2))
    for w in (good, fixed):
        w.grad = Tensor(np.ones((2, 3), dtype))
    for data in (fixed.data, fixed.data.reshape(3, 2).T):
        data.flags.writeable = False
        fixed.data = data
        with pytest.raises(ValueError, match="a parameter is changed in place: it must be writable"):
            optimizer.apply([good, fixed])
        np.testing.assert_array_equal(good.data, 1)
        assert good.grad is not None
        assert optimizer.iterations == 0


def test_a_gradient_of_another_dtype_or_shape_is_refused() -> None:
    for gradient in (np.ones(3, np.float32), np.ones(4)):
        w = parameter((3,))
        before = w.data.copy()
        w.grad = Tensor(gradient)
        with pytest.raises((TypeError, ValueError), match="must have the"):
            SGD().apply([w])
        np.testing.assert_array_equal(w.data, before)


@pytest.mark.parametrize(
    "optimizer",
    [SGD(0.1), SGD(0.05, 0.9), SGD(0.05, 0.9, True), Adam(0.1)],
    ids=["sgd", "momentum", "nesterov", "adam"],
)
def test_they_find_the_minimum(optimizer: Optimizer) -> None:
    target = np.array([1.0, -2.0, 3.0])
    w = Tensor(np.zeros(3), requires_grad=True)
    for _ in range(300):
        ((w - target) ** 2).sum().backward()
        optimizer.apply([w])
    np.testing.assert_allclose(w.data, target, atol=1e-2)


def test_training_has_the_same_bits_for_every_number_of_threads() -> None:
    """Forward, backward and steps of a small network, large enough for its work to be shared."""
    random = np.random.default_rng(3)
    x, labels = random.standard_normal((16, 3, 24, 24)).astype(np.float32), np.arange(16) % 10
    shapes = [(32, 3, 3, 3), (32,), (10, 32 * 12 * 12)]
    start = [(0.1 * random.standard_normal(shape)).astype(np.float32) for shape in shapes]

    def train() -> list[np.ndarray]:
        w, b, v = (Tensor(array.copy(), requires_grad=True) for array in start)
        optimizer = Adam(0.01)
        for _ in range(3):
            y = F.max_pool2d(F.conv2d(x, w, b, padding=1, activation="relu"), 2)
            F.cross_entropy(F.linear(y.reshape(16, -1), v), labels).backward()
            optimizer.apply([w, b, v])
        return [w.data, b.data, v.data]

    expected = train()
    for _ in each_number_of_threads():
        for found, other in zip(train(), expected):
            np.testing.assert_array_equal(found, other)


COMMON = {
    "weight_decay": None,
    "clipnorm": None,
    "global_clipnorm": None,
    "clipvalue": None,
    "use_ema": False,
    "ema_momentum": 0.99,
    "ema_overwrite_frequency": None,
    "loss_scale_factor": None,
    "gradient_accumulation_steps": None,
}


@pytest.mark.parametrize(
    ("optimizer", "config"),
    [
        (Adam(name="a"), {"learning_rate": 0.001, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7, "amsgrad": False}),
        (SGD(name="a"), {"learning_rate": 0.01, "momentum": 0.0, "nesterov": False}),
    ],
)
def test_defaults_are_those_of_keras(optimizer: Optimizer, config: dict[str, Any]) -> None:
    assert optimizer.get_config() == config | COMMON | {"name": "a"}


@pytest.mark.parametrize(("name", "kind"), [("adam", Adam), ("Adam", Adam), ("sgd", SGD), ("SGD", SGD)])
def test_get_by_name(name: str, kind: type) -> None:
    assert type(optimizers.get(name)) is kind
    assert optimizers.get(name) is not optimizers.get(name)
    one = kind(0.5)
    assert optimizers.get(one) is one


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: optimizers.get("adm"),
            ValueError,
            "must be one of 'adadelta', 'adagrad', 'adam', 'adamax', 'adamw', 'lion', 'nadam', 'rmsprop', 'sgd'; "
            "received 'adm'. Did you mean 'adam'?",
        ),
        (lambda: optimizers.get("newton"), ValueError, "received 'newton'.$"),
        (lambda: optimizers.get(3), TypeError, "optimizer must be a name or an Optimizer; received 3"),
        (lambda: optimizers.get(Adam), TypeError, "optimizer must be a name or an Optimizer; received"),
        (lambda: Adam(-1), ValueError, "learning_rate must be at least 0; received -1"),
        (lambda: Adam("fast"), TypeError, "learning_rate must be a number; received 'fast'"),
        (lambda: Adam(float("nan")), ValueError, "learning_rate must be at least 0; received nan"),
        (lambda: Adam(True), TypeError, "learning_rate must be a number; received True"),
        (lambda: Adam(beta_1=1.0), ValueError, "beta_1 must be at least 0 and below 1; received 1.0"),
        (lambda: Adam(beta_2=-0.1), ValueError, "beta_2 must be at least 0 and below 1; received -0.1"),
        (lambda: Adam(epsilon=-1), ValueError, "epsilon must be at least 0; received -1"),
        (lambda: SGD(momentum=1.5), ValueError, "momentum must be at least 0 and at most 1; received 1.5"),
        (lambda: RMSprop(momentum=-0.5), ValueError, "momentum must be at least 0 and at most 1; received -0.5"),
        (
            lambda: optimizers.deserialize({"class_name": "Adam", "config": {"learning_rat": 0.1}}),
            ValueError,
            "Adam: there is no argument 'learning_rat'. Did you mean 'learning_rate'?",
        ),
        (lambda: optimizers.deserialize({"class_name": "SGD", "config": {"momentum": "a"}}), TypeError, "momentum"),
        (lambda: SGD(weight_decay=-1), ValueError, "weight_decay must be at least 0; received -1"),
        (lambda: SGD(clipnorm="a"), TypeError, "clipnorm must be a number; received 'a'"),
        (
            lambda: SGD(clipnorm=1, clipvalue=1),
            ValueError,
            "one of clipnorm, clipvalue and global_clipnorm can be given",
        ),
        (lambda: SGD(use_ema=True), ValueError, "use_ema must be False"),
        (lambda: SGD(loss_scale_factor=8.0), ValueError, "loss_scale_factor must be None: .*received 8.0"),
        (lambda: SGD(gradient_accumulation_steps=1), ValueError, "integer of at least 2, or None; received 1"),
        (lambda: SGD(decay=0.1), TypeError, "unexpected keyword argument 'decay'"),
        (lambda: AdamW(weight_decay=None), ValueError, "weight_decay must be a number for AdamW"),
        (lambda: optimizers.get({"config": {}}), ValueError, "described by its 'class_name' and 'config'"),
    ],
)
def test_errors(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message.replace("?", r"\?")):
        make()


@pytest.mark.parametrize("optimizer", [SGD(), Adam()])
def test_dtypes_that_cannot_be_updated_are_refused_before_anything_changes(optimizer: Optimizer) -> None:
    good = Tensor(np.ones(2, np.float32), requires_grad=True)
    whole = Tensor(np.ones(2, np.int32))
    good.grad, whole.grad = Tensor(np.ones(2, np.float32)), Tensor(np.ones(2, np.int32))
    with pytest.raises(TypeError, match="a parameter must hold float16, bfloat16, float32 or float64; received int32"):
        optimizer.apply([good, whole])
    with pytest.raises(TypeError, match="dtype of its parameter, float32; received float64"):
        step(optimizer, good, np.ones(2))
    np.testing.assert_array_equal(good.data, [1, 1])
    assert optimizer.iterations == 0


def test_a_gradient_in_a_half_is_clipped() -> None:
    w = Tensor(np.zeros(2, np.float16), requires_grad=True)
    step(SGD(1.0, clipnorm=1.0), w, np.array([300.0, 400.0], np.float16))  # whose square float16 does not have
    np.testing.assert_allclose(w.data, [-0.6, -0.8], atol=1e-3)


def test_clipping_of_what_is_not_finite() -> None:
    first, second = (Tensor(np.zeros(2), requires_grad=True) for _ in range(2))
    gradients = [Tensor(np.array([np.inf, 1.0])), Tensor(np.ones(2))]
    SGD(1.0, clipnorm=1.0).apply_gradients(zip(gradients, (first, second)))
    np.testing.assert_array_equal(np.isnan(first.data), [True, False])
    np.testing.assert_allclose(second.data, -np.sqrt([0.5, 0.5]))
    SGD(1.0, global_clipnorm=1.0).apply_gradients(zip(gradients, (first, second)))
    assert np.isnan(second.data).all()


def test_gradients_are_averaged_before_a_step() -> None:
    w = Tensor(np.zeros(1), requires_grad=True)
    optimizer = SGD(1.0, gradient_accumulation_steps=3)
    found = []
    for gradient in (1.0, 2.0, 6.0, 3.0, 3.0, 3.0):
        step(optimizer, w, np.array([gradient]))
        assert w.grad is None
        found.append((w.data.item(), optimizer.iterations))
    assert found == [(0, 0), (0, 0), (-3, 1), (-3, 1), (-3, 1), (-6, 2)]


def test_a_sum_of_gradients_ends_with_its_step() -> None:
    w, other = (Tensor(np.zeros(1), requires_grad=True) for _ in range(2))
    optimizer = SGD(1.0, gradient_accumulation_steps=2)
    for gradient in (8.0, None, 1.0, 1.0):
        found = None if gradient is None else Tensor(np.array([gradient]))
        optimizer.apply_gradients([(found, w), (Tensor(np.ones(1)), other)])
    assert (w.data.item(), other.data.item()) == (-1, -2)


def test_some_parameters_can_be_left_without_a_decay() -> None:
    weight, bias = (Tensor(np.ones(3), requires_grad=True) for _ in range(2))
    optimizer = SGD(0.5, weight_decay=0.5)
    optimizer.exclude_from_weight_decay([bias])
    optimizer.apply_gradients([(Tensor(np.zeros(3)), weight), (Tensor(np.zeros(3)), bias)])
    np.testing.assert_array_equal(weight.data, 0.75)
    np.testing.assert_array_equal(bias.data, 1)


def test_a_parameter_in_the_place_of_one_without_a_decay_has_one() -> None:
    optimizer = SGD(0.5, weight_decay=0.5)
    bias = Tensor(np.ones(3), requires_grad=True)
    left = weakref.ref(bias)
    optimizer.exclude_from_weight_decay([bias])
    del bias
    gc.collect()
    assert left() is not None  # so that no other tensor can have its id
    optimizer.exclude_from_weight_decay([])
    gc.collect()
    assert left() is None


def test_learning_rates_that_follow_the_steps() -> None:
    w = Tensor(np.zeros(1), requires_grad=True)
    optimizer = SGD(schedules.PiecewiseConstantDecay([0, 1], [1.0, 10.0, 100.0]))
    found = []
    for _ in range(3):
        assert optimizer.learning_rate == 10.0 ** len(found)
        step(optimizer, w, np.ones(1))
        found.append(w.data.item())
    assert found == [-1, -11, -111]
    with pytest.raises(TypeError, match="follows a schedule, PiecewiseConstantDecay, and cannot be set to"):
        optimizer.learning_rate = 0.5
    optimizer.learning_rate = lambda: 0.25
    step(optimizer, w, np.ones(1))
    assert w.data.item() == -111.25
    optimizer.learning_rate = np.float32(0.5)
    assert optimizer.learning_rate == 0.5


def every_optimizer() -> list[Optimizer]:
    kinds = [kind.from_config({"learning_rate": 0.05}) for kind in optimizers.OPTIMIZERS.values()]
    special = [
        SGD(0.05, 0.9, True),
        Adam(0.05, amsgrad=True, weight_decay=0.1, clipnorm=0.5),
        optimizers.RMSprop(0.05, momentum=0.5, centered=True),
        Adam(schedules.CosineDecay(0.05, 5), gradient_accumulation_steps=2),
    ]
    return kinds + special


def identity(optimizer: Optimizer) -> str:
    return optimizer.name


@pytest.mark.parametrize("optimizer", every_optimizer(), ids=identity)
def test_training_resumes_to_the_same_bits(optimizer: Optimizer) -> None:
    """Also of a parameter that has had no gradient before."""

    def parameters() -> list[Tensor]:
        return [parameter((4,), "float32"), parameter((2, 3), "float16"), parameter((5,), "float64")]

    def train(optimizer: Optimizer, weights: list[Tensor], steps: range) -> None:
        for t in steps:
            for place, w in enumerate(weights):
                if (place, t) not in ((2, 0), (2, 1), (2, 2)):
                    w.grad = Tensor(np.random.default_rng([t, place]).standard_normal(w.shape).astype(w.dtype))
            optimizer.apply(weights)

    whole, first, second = (optimizers.deserialize(optimizers.serialize(optimizer)) for _ in range(3))
    straight, begun, resumed = parameters(), parameters(), parameters()
    train(whole, straight, range(7))
    train(first, begun, range(3))
    state = first.state(begun)
    assert not any(name.startswith("2/") for name in state)
    for w, other in zip(resumed, begun):
        w.data[...] = other.data
    second.set_state(resumed, state)
    train(first, begun, range(3, 7))  # what was written down does not change any more
    train(second, resumed, range(3, 7))
    assert second.iterations == whole.iterations
    for w, other, third in zip(straight, resumed, begun):
        np.testing.assert_array_equal(w.data, other.data)
        np.testing.assert_array_equal(w.data, third.data)
    assert list(whole.state(straight)) == list(second.state(resumed))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("iterations"), "'iterations' is missing"),
        (lambda state: state.update({"0/speed": np.zeros(3)}), "unknown name '0/speed' for 1 parameters"),
        (lambda state: state.update({"1/momentum": np.zeros(3)}), "unknown name '1/momentum' for 1 parameters"),
        (lambda state: state.update({"-1/momentum": np.zeros(3)}), "unknown name '-1/momentum'"),
        (lambda state: state.update({"0/velocity": np.zeros(3)}), "unknown name '0/velocity' .* of SGD"),
        (lambda state: state.update({"0/gradient_accumulator": np.zeros(3)}), "unknown name '0/gradient_accum"),
        (lambda state: state.update({"iterations": np.array(-1)}), "state: 'iterations' must be at least 0"),
        (
            lambda state: state.update({"iterations": np.array(7), "learning_rate": np.array(-1.0)}),
            "state: 'learning_rate' must be at least 0; received -1.0",
        ),
        (lambda state: state.update({"0/momentum": np.zeros(4)}), r"must have the shape \(3,\) .*received \(4,\)"),
        (lambda state: state.update({"0/momentum": np.zeros(3, "f4")}), "the dtype float64; received .* float32"),
        (lambda state: state.update({"iterations": np.zeros(2, np.int64)}), r"must have the shape \(\)"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(change: Any, message: str) -> None:
    w = parameter((3,))
    optimizer = SGD(0.5, 0.9)
    step(optimizer, w, np.ones(3))
    before = optimizer.state([w])
    state = optimizer.state([w])
    change(state)
    with pytest.raises(ValueError, match=message):
        optimizer.set_state([w], state)
    assert {name: array.tolist() for name, array in optimizer.state([w]).items()} == {
        name: array.tolist() for name, array in before.items()
    }


def test_a_part_of_the_state_of_a_parameter_is_refused() -> None:
    w = parameter((3,))
    optimizer = Adam(0.5)
    step(optimizer, w, np.ones(3))
    state = optimizer.state([w])
    del state["0/velocity"]
    with pytest.raises(ValueError, match="state: '0/velocity' is missing beside '0/momentum'"):
        optimizer.set_state([w], state)
    assert "0/velocity" in optimizer.state([w])


def test_the_state_of_an_optimizer_whose_rule_has_changed() -> None:
    w = parameter((3,))
    optimizer = RMSprop(0.5)
    step(optimizer, w, np.ones(3))
    optimizer.momentum = 0.5
    state = optimizer.state([w])
    assert [*state] == ["iterations", "learning_rate", "0/velocity", "0/momentum"]
    optimizer.set_state([w], state)
    assert (optimizer.state([w])["0/momentum"] == 0).all()


@pytest.mark.parametrize("optimizer", every_optimizer(), ids=identity)
def test_an_optimizer_comes_back_from_its_description(optimizer: Optimizer) -> None:
    again = optimizers.get(optimizers.serialize(optimizer))
    assert type(again) is type(optimizer)
    assert again.get_config() == optimizer.get_config()


@pytest.mark.parametrize("optimizer", every_optimizer(), ids=identity)
def test_every_optimizer_finds_the_minimum(optimizer: Optimizer) -> None:
    own = optimizers.deserialize(optimizers.serialize(optimizer))
    if not isinstance(own._learning_rate, float):
        own.learning_rate = lambda: 0.05
    if isinstance(own, optimizers.Adadelta):
        own.learning_rate = 10.0
    if isinstance(own, optimizers.Adagrad):
        own.learning_rate = 1.0
    own.weight_decay = None
    target = np.array([1.0, -2.0, 3.0])
    w = Tensor(np.zeros(3), requires_grad=True)
    for _ in range(600):
        ((w - target) ** 2).sum().backward()
        own.apply([w])
    np.testing.assert_allclose(w.data, target, atol=0.06)
