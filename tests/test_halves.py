"""Tensors and operations in float16 and bfloat16: computed in float32, gradients in the dtype of their inputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pycnn
import pycnn.functional as F
import pycnn.layers as L
from pycnn import Tensor, losses
from pycnn.callbacks import History
from pycnn.models import Sequential
from pycnn.models.results import save_results
from pycnn.optimizers import SGD, Adam
from pycnn_kernels.problem import numpy_dtype
from tests import reference as oracle
from tests.kernels.problems import EACH_HALF, numbers

each_half = pytest.mark.parametrize("half", EACH_HALF)

X, W, B = (2, 16, 9, 8), (24, 16, 3, 3), (24,)
LABELS = np.array([1, 0, 3, 3])

CONVOLUTION = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1)}


def parameters(half: str, *shapes: tuple[int, ...]) -> list[Tensor]:
    return [Tensor(numbers(shape, half, seed), requires_grad=True) for seed, shape in enumerate(shapes)]


def exact(*tensors: Tensor) -> list[np.ndarray]:
    """The same numbers in float64."""
    return [tensor.data.astype(np.float64) for tensor in tensors]


@each_half
@pytest.mark.parametrize("algorithm", ["direct", "winograd"])
def test_conv2d_and_its_gradients(algorithm: str, half: str) -> None:
    x, w, b = parameters(half, X, W, B)
    y = F.conv2d(x, w, b, padding=1, algorithm=algorithm)
    dy = numbers(y.shape, half, 5)
    y.backward(dy)
    xs, ws, bs = exact(x, w, b)
    last = oracle.channels_last
    weights, upstream = oracle.taps_first(ws, "OIHW"), last(dy.astype(np.float64), "channels_first")
    source = last(xs, "channels_first")
    expected = {
        "y": oracle.in_layout(oracle.convolution(source, weights, bs, **CONVOLUTION), "channels_first"),
        "dx": oracle.in_layout(
            oracle.convolution_input_gradient(upstream, weights, source.shape, **CONVOLUTION), "channels_first"
        ),
        "dw": oracle.in_weight_layout(
            oracle.convolution_weight_gradient(source, upstream, (3, 3), **CONVOLUTION), "OIHW"
        ),
        "db": oracle.bias_gradient(upstream),
    }
    found = {"y": y, "dx": x.grad, "dw": w.grad, "db": b.grad}
    for name, tensor in found.items():
        assert tensor.dtype == numpy_dtype(half)
        oracle.assert_rounded(tensor.data, expected[name], bound=3e-5 if algorithm == "winograd" else None)


@each_half
def test_arrays_give_arrays(half: str) -> None:
    x, w = numbers(X, half, 0), numbers(W, half, 1)
    for y in (F.conv2d(x, w), F.max_pool2d(x, 2), F.avg_pool2d(x, 2), F.linear(x, numbers((5, 8), half)), F.relu(x)):
        assert type(y) is np.ndarray
        assert y.dtype == numpy_dtype(half)


@each_half
def test_layouts_and_fused_relu(half: str) -> None:
    """Channels last, with one image of a batch alone, against channels first."""
    x, w, b = (numbers(shape, half, seed) for seed, shape in enumerate((X, W, B)))
    first = F.conv2d(x, w, b, padding=1, activation="relu")
    last = F.conv2d(
        np.moveaxis(x[0], 0, -1), w.transpose(2, 3, 1, 0), b, padding=1, activation="relu",
        data_format="channels_last", weight_format="HWIO",
    )  # fmt: skip
    found = np.moveaxis(last.astype(np.float64), -1, 0)
    wide = (a.astype(np.float32) for a in (x, w, b))
    oracle.assert_rounded(first, F.conv2d(*wide, padding=1, activation="relu"))
    np.testing.assert_allclose(found, first[0].astype(np.float64), rtol=2**-7, atol=1e-3)
    assert (first >= 0).all()


# Operations that are computed in float32 and rounded once: the same call in float64 says what they should give.
OPERATIONS: dict[str, tuple[Callable[..., Any], list[tuple[int, ...]]]] = {
    "linear": (F.linear, [(4, 300), (7, 300), (7,)]),
    "max_pool2d": (lambda x: F.max_pool2d(x, 3, 2, 1), [X]),
    "avg_pool2d": (lambda x: F.avg_pool2d(x, 3, 1, 1), [X]),
    "relu": (F.relu, [X]),
    "tanh": (F.tanh, [X]),
    "sigmoid": (F.sigmoid, [X]),
    "softmax": (lambda x: F.softmax(x, dim=1), [(4, 50)]),
    "log_softmax": (lambda x: F.log_softmax(x, dim=1), [(4, 50)]),
    "cross_entropy": (lambda x: F.cross_entropy(x, LABELS, label_smoothing=0.1), [(4, 50)]),
    "weighted cross_entropy": (lambda x, w: F.cross_entropy(x, LABELS, w.detach() ** 2), [(4, 5), (5,)]),
    "layer_norm": (lambda x, w, b: F.layer_norm(x, (9, 8), w, b), [X, (9, 8), (9, 8)]),
    "local_response_norm": (lambda x: F.local_response_norm(x, 5, 0.5), [X]),
    "sum": (lambda x: x.sum(), [X]),
    "sum of axes": (lambda x: x.sum(axis=(0, 2)), [X]),
    "mean": (lambda x: x.mean(axis=0), [(3000, 2)]),
    "matmul": (lambda a, b: a @ b, [(5, 200), (200, 6)]),
    "stacks of matrices": (lambda a, b: a @ b, [(3, 5, 200), (3, 200, 6)]),
    "index": (lambda x: x[np.array([0, 1, 0, 0])], [(3, 4)]),
    "clip": (lambda x: x.clip(-0.5, 0.5), [X]),
    "reshape": (lambda x: x.reshape(-1).transpose(), [X]),
}


@each_half
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_round_once(name: str, half: str) -> None:
    call, shapes = OPERATIONS[name]
    ours = parameters(half, *shapes)
    wide = [Tensor(array, requires_grad=True) for array in exact(*ours)]
    if name == "weighted cross_entropy":  # squares are rounded, too
        ours[1].data[...] = numpy_dtype(half).type(0.5)
        wide[1].data[...] = 0.5
    y, expected = call(*ours), call(*wide)
    assert y.dtype == numpy_dtype(half)
    oracle.assert_rounded(y.data, expected.data)
    dy = numbers(y.shape, half, 7)
    y.backward(dy)
    expected.backward(dy.astype(np.float64))
    for found, other in zip(ours, wide):
        if other.grad is not None:
            assert found.grad.dtype == numpy_dtype(half)
            oracle.assert_rounded(found.grad.data, other.grad.data)


# Arithmetic rounds after each operation, as NumPy's does; a gradient of two factors is rounded twice.
ARITHMETIC: dict[str, Callable[..., Any]] = {
    "numbers": lambda a, b: 2 * a - 1,
    "sums": lambda a, b: a + b - b * 0.5,
    "products": lambda a, b: a * b,
    "quotients": lambda a, b: a / (b * b + 1),
    "powers": lambda a, b: (a * a + 1) ** 0.5,
    "exponentials": lambda a, b: a.exp(),
    "logarithms": lambda a, b: (b * b + 1).log(),
    "absolute values": lambda a, b: a.abs(),
    "broadcasting": lambda a, b: a[0] * b,
}


@each_half
@pytest.mark.parametrize("name", ARITHMETIC)
def test_arithmetic(name: str, half: str) -> None:
    ours = parameters(half, (5, 7), (5, 7))
    wide = [Tensor(array, requires_grad=True) for array in exact(*ours)]
    y, expected = ARITHMETIC[name](*ours), ARITHMETIC[name](*wide)
    assert y.dtype == numpy_dtype(half)
    y.backward(np.ones(y.shape))
    expected.backward(np.ones(y.shape))
    pairs = [(y, expected), *((a.grad, b.grad) for a, b in zip(ours, wide) if b.grad is not None)]
    for found, other in pairs:
        assert found.dtype == numpy_dtype(half)
        oracle.assert_close(found.data.astype(np.float64), other.data, bound=6 * oracle.ROUNDING[half][0])


@each_half
def test_second_derivatives(half: str) -> None:
    x, w = parameters(half, X, W)
    F.conv2d(x, w, padding=1).sum().backward(create_graph=True)
    first, w.grad = w.grad, None
    assert first.dtype == numpy_dtype(half)
    x.grad = None
    (first * first).sum().backward()
    assert x.grad.dtype == numpy_dtype(half)
    xs, ws = (Tensor(a, requires_grad=True) for a in exact(x, w))
    F.conv2d(xs, ws, padding=1).sum().backward(create_graph=True)
    again, xs.grad = ws.grad, None
    (again * again).sum().backward()
    oracle.assert_close(x.grad.data.astype(np.float64), xs.grad.data, bound=4 * oracle.ROUNDING[half][0])


@each_half
def test_mixed_dtypes(half: str) -> None:
    """Master weights in float32, computed with in halves: the gradient of the cast comes back in float32."""
    x = Tensor(numbers(X, half, 0))
    master = Tensor(numbers(W, "float32", 1), requires_grad=True)
    F.conv2d(x, master.astype(half), padding=1).sum().backward()
    assert master.grad.dtype == np.float32
    assert (x + Tensor(np.ones(1, np.float32))).dtype == np.float32
    with pytest.raises(TypeError, match=f"weight must have the dtype of the input, {half}; received float32"):
        F.conv2d(x, master)


@each_half
def test_layer_norm_with_parameters_in_float32(half: str) -> None:
    x = Tensor(numbers((4, 50), half), requires_grad=True)
    w, b = (Tensor(numbers((50,), "float32", seed), requires_grad=True) for seed in (1, 2))
    y = F.layer_norm(x, (50,), w, b)
    assert y.dtype == numpy_dtype(half)
    oracle.assert_rounded(y.data, oracle.layer_normalisation(*exact(x, w, b)))
    y.sum().backward()
    assert [each.grad.dtype for each in (x, w, b)] == [numpy_dtype(half), np.float32, np.float32]


@each_half
def test_means_of_large_sums(half: str) -> None:
    """The sum of these is no float16, and no bfloat16 is close to it; their mean is one."""
    x = Tensor(np.full(100_001, 3, numpy_dtype(half)), requires_grad=True)
    assert float(x.mean()) == 3
    x.mean().backward()
    assert x.grad.dtype == numpy_dtype(half)
    logits = np.zeros((100_000, 2), numpy_dtype(half))
    loss = F.cross_entropy(logits, np.zeros(100_000, int))
    assert float(loss) == float(np.float32(np.log(2)).astype(numpy_dtype(half)))


@each_half
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_losses(reduction: str, half: str) -> None:
    p = np.linspace(0.125, 0.875, 7).astype(numpy_dtype(half))
    t = p[::-1].copy()
    wide = F.binary_cross_entropy(p.astype(np.float64), t.astype(np.float64), reduction=reduction)
    found = F.binary_cross_entropy(p, t, reduction=reduction)
    assert found.dtype == numpy_dtype(half)
    oracle.assert_rounded(found, wide)
    shares = np.stack([p, t]).astype(numpy_dtype(half))
    wide = F.cross_entropy(shares.astype(np.float64), shares.astype(np.float64), reduction=reduction)
    oracle.assert_rounded(F.cross_entropy(shares, shares, reduction=reduction), wide)
    with pytest.raises(TypeError, match=f"target must have the dtype of the input, {half}; received float32"):
        F.binary_cross_entropy(p, t.astype(np.float32))


@each_half
def test_dropout(half: str) -> None:
    x = Tensor(np.ones((50, 60), numpy_dtype(half)), requires_grad=True)
    y = F.dropout(x, 0.25)
    scale = float(np.float32(1 / 0.75).astype(numpy_dtype(half)))
    assert set(np.unique(y.data.astype(np.float64))) == {0, scale}
    y.sum().backward()
    assert (x.grad.data == y.data).all()


@each_half
@pytest.mark.parametrize("make", [lambda: SGD(0.1), lambda: SGD(0.1, momentum=0.9), lambda: Adam(0.01)])
def test_optimizers(make: Callable[[], Any], half: str) -> None:
    """Rounded at each step; 20 of them against the same in float64."""
    w, wide = Tensor(np.full(5, 2, numpy_dtype(half)), requires_grad=True), Tensor(np.full(5, 2.0), requires_grad=True)
    ours, other = make(), make()
    for _ in range(20):
        for optimizer, parameter in ((ours, w), (other, wide)):
            (parameter * parameter).sum().backward()
            optimizer.apply([parameter])
    assert w.dtype == numpy_dtype(half)
    oracle.assert_close(w.data.astype(np.float64), wide.data, bound=20 * 4 * oracle.ROUNDING[half][0])


@each_half
def test_networks_learn(half: str) -> None:
    """Two convolutions, a pooling and a dense layer."""
    rng = np.random.default_rng(3)
    images = rng.standard_normal((64, 1, 8, 8))
    labels = (images[:, 0, :4].mean(axis=(1, 2)) > images[:, 0, 4:].mean(axis=(1, 2))).astype(int)
    x = Tensor(images.astype(numpy_dtype(half)))
    shapes = [(8, 1, 3, 3), (8, 8, 3, 3), (2, 128)]
    weights = [
        Tensor((0.3 * numbers(shape, "float32", seed)).astype(numpy_dtype(half)), requires_grad=True)
        for seed, shape in enumerate(shapes)
    ]
    optimizer = Adam(0.01)
    found = []
    for _ in range(60):
        h = F.conv2d(x, weights[0], padding=1, activation="relu")
        h = F.max_pool2d(F.conv2d(h, weights[1], padding=1, activation="relu"), 2)
        loss = F.cross_entropy(F.linear(h.reshape(64, 128), weights[2]), labels)
        loss.backward()
        optimizer.apply(weights)
        found.append(float(loss))
    assert found[0] > 0.5
    assert found[-1] < 0.1


@each_half
def test_models(half: str) -> None:
    """Keras' layers in halves: their weights and predictions are halves, their losses float32."""
    rng = np.random.default_rng(8)
    x = rng.standard_normal((96, 8, 8, 2))
    y = (x[..., 0].mean(axis=(1, 2)) > x[..., 1].mean(axis=(1, 2))).astype(int)
    layers = [
        L.Conv2D(8, 3, activation="relu", input_shape=(8, 8, 2), dtype=half),
        L.MaxPooling2D(2, dtype=half),
        L.Flatten(dtype=half),
        L.Dense(2, activation="softmax", dtype=half),
    ]
    model = Sequential(layers)
    model.compile(loss="sparse_categorical_crossentropy", optimizer=Adam(0.01))
    history = model.fit(x, y, epochs=12, batch_size=16, verbose=0).history["loss"]
    assert history[-1] < 0.5 * history[0]
    assert {weight.dtype for weight in model.weights} == {numpy_dtype(half)}
    assert model.predict(x[:5], verbose=0).dtype == numpy_dtype(half)


@each_half
def test_saved_weights_are_read_again(half: str, tmp_path: Path) -> None:
    """As float32: the file format has no bfloat16."""
    model = Sequential([L.Dense(3, input_shape=(4,), dtype=half)])
    save_results(tmp_path / "weights.npz", model, History())
    before = [weight.copy() for weight in model.get_weights()]
    with np.load(tmp_path / "weights.npz", allow_pickle=False) as file:
        found = [file[name] for name in file.files if name != "history"]
    model.set_weights([0 * array for array in found])
    model.set_weights(found)
    for array, other in zip(model.get_weights(), before, strict=True):
        assert array.dtype == numpy_dtype(half)
        assert array.tobytes() == other.tobytes()


@each_half
def test_losses_of_keras(half: str) -> None:
    """1 - 1e-7 is 1 in halves: the logarithm of 0 must not come of it."""
    p = Tensor(np.array([[1.0, 0.0], [0.25, 0.75]]).astype(numpy_dtype(half)), requires_grad=True)
    truth = np.array([[0, 1], [0, 1]])
    loss = losses.binary_crossentropy(truth, p)
    expected = losses.binary_crossentropy(truth, Tensor(p.data.astype(np.float32)))
    np.testing.assert_array_equal(loss.data, expected.data)
    loss.sum().backward()
    assert p.grad.dtype == numpy_dtype(half)
    logits = Tensor(np.array([[100.0, -100.0]]).astype(numpy_dtype(half)))
    assert losses.binary_crossentropy([[0, 1]], F.sigmoid(logits)).item() == 100
    assert losses.sparse_categorical_crossentropy([1], F.softmax(logits, dim=1)).item() == 200


@each_half
def test_explain(half: str) -> None:
    found = pycnn.explain("conv2d", X, W, padding=1, dtype=half)
    assert found.chosen() == pycnn.explain("conv2d", X, W, padding=1).chosen()
    assert f"{half} (widened to float32)" in repr(found)


@each_half
def test_a_tensor_shows_its_dtype(half: str) -> None:
    assert repr(Tensor(np.ones(2, numpy_dtype(half)))).endswith(f", dtype={half})")
    assert Tensor([1.0]).astype(half).dtype == numpy_dtype(half)
    with pytest.raises(TypeError, match="a tensor holds real numbers"):
        Tensor(np.ones(2, "V2"))
