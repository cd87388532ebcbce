"""The functional layer against torch.nn.functional: values, gradients, and what both refuse.

Arguments are drawn by hypothesis; arrays are float64, so that only the order of sums differs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pycnn
import pycnn.functional as F
from pycnn import Tensor
from pycnn_kernels.problem import numpy_dtype
from tests.kernels.problems import EACH_HALF
from tests.reference import ROUNDING, assert_close

torch = pytest.importorskip("torch", reason="PyTorch is not installed: no second opinion")

from tests.parity.call import per_axis  # noqa: E402 - which imports PyTorch

#: Relative to the largest element.
BOUND = 1e-12


def compare(
    call: Callable[..., Any], *arrays: np.ndarray, bound: float = BOUND, seed: int = 1, least: float = 0.0
) -> None:
    """``call(functional, *inputs)`` in both libraries: the value, and the gradient of each input.

    ``least``: what the largest element of a gradient counts as at least, for gradients that cancel.
    """
    ours = [Tensor(a, requires_grad=True) for a in arrays]
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    y, expected = call(F, *ours), call(torch.nn.functional, *theirs)
    assert_close(y.data, expected.detach().numpy(), bound)
    upstream = np.random.default_rng(seed).standard_normal(y.shape).astype(y.dtype)
    y.backward(upstream)
    expected.backward(torch.tensor(upstream))
    for found, other in zip(ours, theirs):
        assert_close(found.grad.data, other.grad.numpy(), bound, least)


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape)


CONVOLUTIONS = ["conv1d", "conv2d", "conv3d"]


def refuses(call: Callable[..., Any], *arrays: np.ndarray) -> bool:
    """Whether PyTorch does."""
    try:
        call(torch.nn.functional, *map(torch.tensor, arrays))
    except RuntimeError:
        return True
    return False


def padded_by_pytorch(x: Any, sides: Any, mode: str) -> Any:
    """Padding in front of the convolution, as in PyTorch's modules; sides of the last axis come first there."""
    return torch.nn.functional.pad(x, [p for pair in reversed(sides) for p in pair], mode)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("name", CONVOLUTIONS)
@given(st.data())
def test_padding_modes(name: str, mode: str, data: st.DataObject) -> None:
    """Also with more padding than a mode allows."""
    draw, rank = data.draw, int(name[-2])
    size = draw(st.tuples(*[st.integers(1, 5)] * rank))
    kernel = draw(st.tuples(*[st.integers(1, 3)] * rank))
    sides = draw(st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * rank))
    stride, dilation, G = draw(per_axis(rank, 1, 3)), draw(per_axis(rank, 1, 2)), draw(st.sampled_from([1, 2]))
    arrays = [normal(2, 2 * G, *size), normal(3 * G, 2, *kernel), normal(3 * G)]

    def call(functional: Any, x: Any, w: Any, b: Any) -> Any:
        convolve = getattr(functional, name)
        if functional is F:
            return convolve(x, w, b, stride, sides, dilation, G, padding_mode=mode)
        return convolve(padded_by_pytorch(x, sides, mode), w, b, stride, 0, dilation, G)

    if refuses(call, *arrays):
        with pytest.raises(ValueError):
            call(F, *arrays)
    else:
        compare(call, *arrays)


@pytest.mark.parametrize("activation", [None, "relu", "leaky_relu", "tanh", "sigmoid"])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_epilogues(name: str, activation: str | None) -> None:
    rank = int(name[-2])
    x, w, b, scale = normal(2, 3, *[6] * rank), normal(4, 3, *[3] * rank), normal(4), normal(4)
    residual = normal(2, 4, *[4] * rank)

    def call(functional: Any, x: Any, w: Any, b: Any, scale: Any, residual: Any) -> Any:
        convolve = getattr(functional, name)
        if functional is F:
            return convolve(x, w, b, scale=scale, residual=residual, activation=activation, negative_slope=0.1)
        scale, b = (a.reshape(-1, *[1] * rank) for a in (scale, b))
        z = convolve(x, w) * scale + b + residual
        if activation == "leaky_relu":
            return functional.leaky_relu(z, 0.1)
        return z if activation is None else getattr(functional, activation)(z)

    compare(call, x, w, b, scale, residual)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "tanh", "sigmoid"])
def test_activations_of_transposed_convolution(activation: str) -> None:
    def call(functional: Any, *inputs: Any) -> Any:
        if functional is F:
            return F.conv_transpose2d(*inputs, 2, activation=activation)
        return getattr(functional, activation)(functional.conv_transpose2d(*inputs, 2))

    compare(call, normal(2, 3, 5, 6), normal(3, 4, 3, 3), normal(4))


def test_conv2d_in_single_precision() -> None:
    arrays = [a.astype(np.float32) for a in (normal(2, 16, 12, 12), normal(33, 16, 3, 3), normal(33))]
    # Winograd's transforms round ten times as much as a sum of products.
    compare(lambda functional, *inputs: functional.conv2d(*inputs, padding=1), *arrays, bound=3e-5)


@pytest.mark.parametrize("half", EACH_HALF)
@pytest.mark.parametrize(
    "arguments", [{"padding": 1}, {"stride": 2, "padding": 1}, {"dilation": 2}, {"groups": 4}], ids=str
)
def test_conv2d_in_halves(arguments: dict[str, Any], half: str) -> None:
    """Two roundings of one number lie at most a unit in the last place apart; PyTorch, too, adds in float32.

    Except for its gradients in float16, which it rounds between the taps.
    """
    arrays = [normal(2, 16, 12, 11), normal(32, 16 // arguments.get("groups", 1), 3, 3), normal(32)]
    theirs = [torch.tensor(a).to(getattr(torch, half)).requires_grad_() for a in arrays]
    ours = [Tensor(t.detach().view(torch.uint16).numpy().view(numpy_dtype(half)), requires_grad=True) for t in theirs]
    y, expected = F.conv2d(*ours, **arguments), torch.nn.functional.conv2d(*theirs, **arguments)
    upstream = torch.tensor(normal(*y.shape)).to(expected.dtype)
    expected.backward(upstream)
    y.backward(upstream.view(torch.uint16).numpy().view(numpy_dtype(half)))
    unit = 2 * ROUNDING[half][0]
    for found, other in zip([y, *(t.grad for t in ours)], [expected.detach(), *(t.grad for t in theirs)]):
        a, b = found.data.astype(np.float64), other.double().numpy()
        summed = (2 * unit if half == "float16" and found is not y else 6e-5) * np.abs(b).max()
        assert (np.abs(a - b) <= unit * np.maximum(np.abs(a), np.abs(b)) + summed).all()


@pytest.mark.parametrize("name", ["relu", "tanh", "sigmoid"])
@pytest.mark.parametrize("scale", [1, 30])
def test_activations(name: str, scale: float) -> None:
    compare(lambda functional, x: getattr(functional, name)(x), scale * normal(3, 5, 2))


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 5), (2, 3, 5, 4), (2, 1, 3, 2, 4)])
@pytest.mark.filterwarnings("ignore:Implicit dimension choice")
def test_softmax_and_its_default_axis(name: str, shape: tuple[int, ...]) -> None:
    for dim in (None, *range(-len(shape), len(shape))):
        compare(lambda functional, x, dim=dim: getattr(functional, name)(x, dim), 3 * normal(*shape))


def test_binary_cross_entropy_at_its_limits() -> None:
    t = np.array([0.0, 1, 1, 0, 0.5])

    def call(functional: Any, x: Any) -> Any:
        target = t if functional is F else torch.tensor(t)
        return functional.binary_cross_entropy(x, target, reduction="none")

    # PyTorch's bound of the gradient, 1e-12, is a float32.
    compare(call, np.array([0.0, 1, 0, 1, 1]), bound=1e-8)


@pytest.mark.parametrize("p", [0.2, 0.5])
def test_dropout_statistics(p: float) -> None:
    """The two libraries draw other numbers, of the same mean and variance."""
    pycnn.random.seed(0)
    torch.manual_seed(0)
    ones = np.ones(200_000)
    ours, theirs = F.dropout(ones, p), torch.nn.functional.dropout(torch.tensor(ones), p).numpy()
    np.testing.assert_allclose(np.unique(ours), np.unique(theirs), rtol=1e-6)
    # The mean of 200,000 draws has a deviation of sqrt(p / (1 - p) / 200,000), at most 0.0023.
    assert abs(ours.mean() - theirs.mean()) < 0.015
    assert abs(ours.var() - theirs.var()) < 0.02


X, W, B = normal(2, 4, 6, 5), normal(6, 4, 3, 3), normal(6)
ROWS, LABELS = normal(4, 3), np.array([0, 2, 1, 0])
SHARES = np.random.default_rng(0).random((4, 3))
#: What PyTorch refuses; the second argument makes a library's array.
REFUSED: dict[str, Callable[[Any, Any], Any]] = {
    "batch_norm rank": lambda f, t: f.batch_norm(t(B), None, None, training=True),
    "batch_norm one value": lambda f, t: f.batch_norm(t(X[:1, :, 0, 0]), None, None, training=True),
    "batch_norm no statistics": lambda f, t: f.batch_norm(t(X), None, None),
    "batch_norm running_mean": lambda f, t: f.batch_norm(t(X), t(B[:3]), t(B[:3])),
    "batch_norm weight": lambda f, t: f.batch_norm(t(X), None, None, t(B), training=True),
    "batch_norm bias": lambda f, t: f.batch_norm(t(X), None, None, None, t(W[:4, 0]), training=True),
    "linear features": lambda f, t: f.linear(t(ROWS), t(SHARES[:, :2])),
    "linear bias": lambda f, t: f.linear(t(ROWS), t(SHARES), t(B)),
    "linear weight rank": lambda f, t: f.linear(t(ROWS), t(W)),
    "layer_norm an integer": lambda f, t: f.layer_norm(t(ROWS), 3),
    "layer_norm fractions": lambda f, t: f.layer_norm(t(ROWS), (3.0,)),
    "layer_norm no axes": lambda f, t: f.layer_norm(t(ROWS), ()),
    "layer_norm sizes": lambda f, t: f.layer_norm(t(ROWS), (4,)),
    "layer_norm more axes": lambda f, t: f.layer_norm(t(ROWS), (1, 4, 3)),
    "layer_norm weight": lambda f, t: f.layer_norm(t(ROWS), (3,), t(B)),
    "layer_norm flat weight": lambda f, t: f.layer_norm(t(ROWS), (4, 3), t(normal(12))),
    "layer_norm bias": lambda f, t: f.layer_norm(t(ROWS), (3,), None, t(B)),
    "layer_norm mixed dtypes": lambda f, t: f.layer_norm(t(ROWS), (3,), t(B[:3].astype(np.float32))),
    "layer_norm integers": lambda f, t: f.layer_norm(t(LABELS), (4,)),
    "layer_norm eps": lambda f, t: f.layer_norm(t(ROWS), (3,), eps=None),
    "local_response_norm rank": lambda f, t: f.local_response_norm(t(ROWS), 2),
    "local_response_norm size 0": lambda f, t: f.local_response_norm(t(X), 0),
    "local_response_norm size -1": lambda f, t: f.local_response_norm(t(X), -1),
    "local_response_norm fractional size": lambda f, t: f.local_response_norm(t(X), 2.0),
    "local_response_norm alpha": lambda f, t: f.local_response_norm(t(X), 2, "1"),
    "softmax axis": lambda f, t: f.softmax(t(ROWS), 2),
    "log_softmax axis": lambda f, t: f.log_softmax(t(ROWS), -3),
    "cross_entropy label": lambda f, t: f.cross_entropy(t(ROWS), t(LABELS + 1)),
    "cross_entropy negative label": lambda f, t: f.cross_entropy(t(ROWS), t(LABELS - 1)),
    "cross_entropy length": lambda f, t: f.cross_entropy(t(ROWS), t(LABELS[:3])),
    "cross_entropy shape": lambda f, t: f.cross_entropy(t(ROWS), t(SHARES[:2])),
    "cross_entropy weight": lambda f, t: f.cross_entropy(t(ROWS), t(LABELS), t(B)),
    "cross_entropy smoothing": lambda f, t: f.cross_entropy(t(ROWS), t(LABELS), label_smoothing=1.1),
    "cross_entropy reduction": lambda f, t: f.cross_entropy(t(ROWS), t(LABELS), reduction="max"),
    "binary_cross_entropy input": lambda f, t: f.binary_cross_entropy(t(SHARES + 1), t(SHARES)),
    "binary_cross_entropy shape": lambda f, t: f.binary_cross_entropy(t(SHARES), t(SHARES[:2])),
    "dropout p": lambda f, t: f.dropout(t(ROWS), 1.5),
    "dropout negative p": lambda f, t: f.dropout(t(ROWS), -0.5),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_pytorch_refuses_is_refused(name: str) -> None:
    call = REFUSED[name]
    with pytest.raises((RuntimeError, ValueError, TypeError, IndexError)):
        call(torch.nn.functional, torch.tensor)
    for make in (np.asarray, Tensor):
        with pytest.raises((ValueError, TypeError)):
            call(F, make)
