"""A convolution and the normalisation of its result in one operation, against the functions in turn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pycnn
from pycnn import Tensor, layers, no_grad
from pycnn import functional as F
from pycnn.models import Sequential
from pycnn.utils import clear_session, set_random_seed
from tests.kernels.problems import EACH_HALF
from tests.reference import assert_close

POOLS: list[dict[str, Any]] = [
    {},
    {"pool_size": 2},
    {"pool_size": 3, "pool_stride": 2, "pool_padding": 1},
    {"pool_size": (3, 2), "pool_stride": (1, 2), "ceil_mode": True},
]


def arrays(dtype: str = "float64", N: int = 3, size: int = 9, C: int = 2, K: int = 5) -> dict[str, np.ndarray]:
    """Channels first, PyTorch's weights; scales of both signs."""
    random = np.random.default_rng(0)
    shapes = {"x": (N, C, size, size + 1), "w": (K, C, 3, 3), "b": (K,), "weight": (K,), "bias": (K,)}
    return {name: random.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


def in_format(x: Any, data_format: str) -> Any:
    return x.transpose(0, 2, 3, 1) if data_format == "channels_last" else x


def in_turn(
    x: Any, w: Any, b: Any, norm: F.BatchStatisticsNorm, pool: dict[str, Any], activation: Any, form: str
) -> Any:
    y = F.conv2d(x, w, b, padding=1, activation=activation, data_format=form)
    y = F.batch_norm(y, *norm[:4], True, norm.momentum, norm.eps, data_format=form, correction=norm.correction)
    if not pool:
        return y
    named = {name.removeprefix("pool_"): value for name, value in pool.items()}
    size = named.pop("size")
    return F.max_pool2d(y, size, data_format=form, **named)


def gradients(function: Any, given: dict[str, np.ndarray], form: str, **missing: None) -> list[np.ndarray | None]:
    """The result, the running statistics behind it, and the gradients of its weighted sum."""
    tensors: dict[str, Any] = {name: Tensor(array, requires_grad=True) for name, array in given.items()} | missing
    tensors["x"] = Tensor(np.ascontiguousarray(in_format(given["x"], form)), requires_grad=True)
    K = len(given["b"])
    running = np.ones(K, given["x"].dtype), np.full(K, 2, given["x"].dtype)
    norm = F.BatchStatisticsNorm(*running, tensors["weight"], tensors["bias"], 0.3, 1e-3, 1)
    y = function(tensors["x"], tensors["w"], tensors["b"], norm)
    y.backward(np.random.default_rng(1).standard_normal(y.shape))
    found = [None if tensor is None else tensor.grad.numpy() for tensor in tensors.values()]
    return [y.detach().numpy(), *running, *found]


@pytest.mark.parametrize("form", ["channels_first", "channels_last"])
@pytest.mark.parametrize("activation", [None, "relu", "tanh"])
@pytest.mark.parametrize("pool", POOLS, ids=str)
def test_values_and_gradients_of_the_functions_in_turn(pool: dict[str, Any], activation: str | None, form: str) -> None:
    given = arrays()

    def whole(x: Any, w: Any, b: Any, norm: F.BatchStatisticsNorm) -> Any:
        return F.conv2d_batch_norm(x, w, b, padding=1, norm=norm, activation=activation, data_format=form, **pool)

    found = gradients(whole, given, form)
    expected = gradients(lambda x, w, b, n: in_turn(x, w, b, n, pool, activation, form), given, form)
    for array, other in zip(found, expected, strict=True):
        assert array is not None
        assert_close(array, other, 1e-12, least=1)


@pytest.mark.parametrize("missing", [("b",), ("weight",), ("bias",), ("b", "weight", "bias")])
def test_without_some_of_the_parameters(missing: tuple[str, ...]) -> None:
    given, nothing = arrays("float32"), dict.fromkeys(missing)

    def whole(x: Any, w: Any, b: Any, norm: F.BatchStatisticsNorm) -> Any:
        return F.conv2d_batch_norm(x, w, b, padding=1, norm=norm, activation="relu", pool_size=2)

    found = gradients(whole, given, "channels_first", **nothing)
    expected = gradients(
        lambda x, w, b, n: in_turn(x, w, b, n, {"pool_size": 2}, "relu", "channels_first"),
        given, "channels_first", **nothing,
    )  # fmt: skip
    for array, other in zip(found, expected, strict=True):
        assert (array is None) == (other is None)
        if array is not None:
            assert_close(array, other, 1e-5, least=1)


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("trained", ["x", "w", "b", "weight", "bias", "w weight", "b bias", "x b"])
@pytest.mark.parametrize("pool", POOLS[:2], ids=str)
def test_gradients_of_some_of_the_inputs(pool: dict[str, Any], trained: str, create_graph: bool) -> None:
    def found(function: Any) -> list[np.ndarray]:
        given = {name: Tensor(array, requires_grad=name in trained.split()) for name, array in arrays().items()}
        y = function(
            given["x"], given["w"], given["b"], F.BatchStatisticsNorm(None, None, given["weight"], given["bias"])
        )
        y.backward(np.random.default_rng(1).standard_normal(y.shape), create_graph=create_graph)
        assert all((tensor.grad is not None) == (name in trained.split()) for name, tensor in given.items())
        return [tensor.grad.detach().numpy() for tensor in given.values() if tensor.grad is not None]

    fused = found(lambda x, w, b, n: F.conv2d_batch_norm(x, w, b, padding=1, norm=n, activation="relu", **pool))
    expected = found(lambda x, w, b, n: in_turn(x, w, b, n, pool, "relu", "channels_first"))
    for array, other in zip(fused, expected, strict=True):
        assert_close(array, other, 1e-12, least=1)


def test_a_call_that_is_refused_moves_nothing() -> None:
    x, w, *_ = arrays("float32", N=8, size=40, K=8).values()
    running = np.zeros(8, np.float32), np.ones(8, np.float32)

    def call() -> Any:
        return F.conv2d_batch_norm(x, w, norm=F.BatchStatisticsNorm(*running), pool_size=2)

    pycnn.release_memory()
    limit, refused = 1 << 18, 0
    try:
        while True:  # each limit lets the call come a little further
            pycnn.set_memory_limit(limit)
            try:
                call()
                break
            except pycnn.MemoryLimitError:
                refused += 1
                assert (running[0] == 0).all()
                assert (running[1] == 1).all()
            limit += 1 << 16
    finally:
        pycnn.set_memory_limit(None)
    assert refused > 5
    assert (running[0] != 0).all()


@pytest.mark.parametrize("dtype", EACH_HALF)
def test_halves_are_the_functions_in_turn(dtype: str) -> None:
    from pycnn_kernels.problem import numpy_dtype

    x, w, b, weight, bias = (array.astype(numpy_dtype(dtype)) for array in arrays("float32").values())
    norm = F.BatchStatisticsNorm(None, None, weight, bias)
    y = F.conv2d_batch_norm(x, w, b, padding=1, norm=norm, pool_size=2)
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y, in_turn(x, w, b, norm, {"pool_size": 2}, None, "channels_first"))


def test_an_image_without_a_batch_axis_and_an_empty_batch() -> None:
    x, w, b, weight, bias = arrays("float32").values()
    norm = F.BatchStatisticsNorm(None, None, weight, bias)
    alone = F.conv2d_batch_norm(x[0], w, b, norm=norm, pool_size=2)
    np.testing.assert_array_equal(alone, F.conv2d_batch_norm(x[:1], w, b, norm=norm, pool_size=2)[0])
    running = np.ones(5, np.float32), np.ones(5, np.float32)
    empty = F.conv2d_batch_norm(x[:0], w, b, norm=F.BatchStatisticsNorm(*running), pool_size=2)
    assert empty.shape == (0, 5, 3, 4)
    assert all((each == 1).all() for each in running)


def test_what_is_wrong_is_said() -> None:
    x, w, b, weight, bias = arrays("float32").values()
    with pytest.raises(TypeError, match="norm must be a BatchStatisticsNorm; received None"):
        F.conv2d_batch_norm(x, w, b, norm=None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"norm.weight must have the shape \(5,\)"):
        F.conv2d_batch_norm(x, w, b, norm=F.BatchStatisticsNorm(None, None, weight[:3]))
    with pytest.raises(ValueError, match=r"norm.running_mean and norm.running_var must be given both"):
        F.conv2d_batch_norm(x, w, b, norm=F.BatchStatisticsNorm(weight, None))
    with pytest.raises(ValueError, match=r"norm.correction must be"):
        F.conv2d_batch_norm(x, w, b, norm=F.BatchStatisticsNorm(None, None, correction=2))
    with pytest.raises(ValueError, match="more than one value per channel"):
        F.conv2d_batch_norm(x[:1, :, :3, :3], w, b, norm=F.BatchStatisticsNorm(None, None))
    frozen = weight.copy()
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match=r"norm.running_mean is changed in place: it must be writable"):
        F.conv2d_batch_norm(x, w, b, norm=F.BatchStatisticsNorm(frozen, bias.copy()))
    with pytest.raises(ValueError, match="pool_padding must be at most half a window"):
        F.conv2d_batch_norm(x, w, b, norm=F.BatchStatisticsNorm(None, None), pool_size=2, pool_padding=2)


def network(seed: int) -> Sequential:
    clear_session()
    set_random_seed(seed)
    model = Sequential([
        layers.Input((14, 14, 3)),
        layers.Conv2D(8, 3, activation="relu"), layers.BatchNormalization(), layers.MaxPooling2D(),
        layers.Conv2D(16, 3, activation="relu"), layers.BatchNormalization(),
        layers.Flatten(), layers.Dense(3, activation="softmax"),
    ])  # fmt: skip
    model.compile(optimizer="sgd", loss="sparse_categorical_crossentropy")
    return model


def test_a_model_trains_as_its_layers_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    x, y = random.standard_normal((20, 14, 14, 3)).astype(np.float32), random.integers(0, 3, 20)
    fused, plain = network(0), network(0)
    calls = []
    monkeypatch.setattr(F, "conv2d_batch_norm", lambda *a, **k: calls.append(1) or whole(*a, **k))  # type: ignore[func-returns-value]
    found = [fused.train_on_batch(x, y) for _ in range(3)]
    assert len(calls) == 6
    monkeypatch.setattr(layers.Conv2D, "can_normalise", lambda *_: False)
    expected = [plain.train_on_batch(x, y) for _ in range(3)]
    assert len(calls) == 6
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    for ours, other in zip(fused.get_weights(), plain.get_weights(), strict=True):
        assert_close(ours, other, 1e-4, least=1)


whole = F.conv2d_batch_norm


def test_only_training_uses_the_statistics_of_the_batch() -> None:
    x = np.random.default_rng(0).standard_normal((4, 14, 14, 3)).astype(np.float32)
    model = network(0)
    before = model.get_weights()
    with no_grad():
        model(x)
        model.layers[1].trainable = False
        model(x, training=True)
    changed = [not np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True)]
    assert [weight for weight, moved in zip(model.named_weights(), changed) if moved] == [
        "batch_normalization_1/moving_mean", "batch_normalization_1/moving_variance",
    ]  # fmt: skip
