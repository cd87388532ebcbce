"""The functional layer against torch.nn.functional: values, gradients, and what both refuse.

Arguments are drawn by hypothesis; arrays are float64, so that only the order of sums differs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import pycnn
import pycnn.functional as F
from pycnn import Tensor
from pycnn_kernels.problem import numpy_dtype
from tests.kernels.problems import EACH_HALF
from tests.reference import ROUNDING, assert_close

torch = pytest.importorskip("torch", reason="PyTorch is not installed: no second opinion")

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


def one_or_two(least: int, most: int) -> st.SearchStrategy[Any]:
    """An argument for both axes: one integer, or a pair."""
    one = st.integers(least, most)
    return one | st.tuples(one, one)


def both(value: Any) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)


CONVOLUTIONS = ["conv1d", "conv2d", "conv3d"]
TRANSPOSED = ["conv_transpose1d", "conv_transpose2d", "conv_transpose3d"]
#: Sizes of axes and kernels at most, so that volumes have not many more elements than images.
MOST = {1: (12, 5), 2: (9, 4), 3: (5, 3)}
#: Channels. Each pair of powers of two has grouped kernels of its own, which take seconds to compile, and tests
#: elsewhere: here is one such pair.
IN_AND_OUT_OF_A_GROUP = [(1, 1), (1, 3), (2, 3), (2, 7), (3, 1), (3, 8), (4, 4), (4, 6), (5, 2), (5, 5), (5, 7)]


def per_axis(rank: int, least: int, most: int) -> st.SearchStrategy[Any]:
    """One integer for all axes, in a tuple or not, or one for each."""
    one = st.integers(least, most)
    return one | st.tuples(one) | st.tuples(*[one] * rank)


@st.composite
def convolutions(draw: st.DrawFn, name: str) -> tuple[list[np.ndarray], list[Any]]:
    """Arrays and the other arguments of a call, not all of which fit each other."""
    rank = int(name[-2])
    transposed = name in TRANSPOSED
    most_size, most_kernel = MOST[rank]
    G = draw(st.sampled_from([1, 1, 2, 3]))
    R, L = draw(st.sampled_from(IN_AND_OUT_OF_A_GROUP))
    # Mostly such that each group has as many.
    channels = (R * G, L, L * G) if transposed else (L * G, R, L * G)
    if draw(st.integers(0, 9)) == 0:
        channels = draw(st.tuples(*[st.integers(1, 6)] * 3))
    size = draw(st.tuples(*[st.integers(1, most_size)] * rank))
    kernel = draw(st.tuples(*[st.integers(1, most_kernel)] * rank))
    batch = draw(st.sampled_from([(), (0,), (1,), (3,)]))
    arrays = [normal(*batch, R * G, *size), normal(*channels[:2], *kernel)]
    arrays += [normal(channels[2])] if draw(st.booleans()) else []
    stride, dilation = draw(per_axis(rank, 1, 3)), draw(per_axis(rank, 1, 3))
    padding = draw(per_axis(rank, 0, 3))
    if transposed:
        return arrays, [stride, padding, draw(st.just(0) | per_axis(rank, 0, 3)), G, dilation]
    return arrays, [stride, draw(st.just(padding) | st.sampled_from(["same", "valid"])), dilation, G]


@pytest.mark.parametrize("name", [*CONVOLUTIONS, *TRANSPOSED])
@given(st.data())
@settings(max_examples=120)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
def test_convolutions(name: str, data: st.DataObject) -> None:
    """What PyTorch computes, with the same gradients; what it refuses is refused."""
    arrays, arguments = data.draw(convolutions(name))

    def call(functional: Any, x: Any, w: Any, b: Any = None) -> Any:
        return getattr(functional, name)(x, w, b, *arguments)

    if refuses(call, *arrays):
        with pytest.raises(ValueError):
            call(F, *arrays)
    else:
        compare(call, *arrays)


def refuses(call: Callable[..., Any], x: np.ndarray, *others: np.ndarray) -> bool:
    """Whether PyTorch does, which for an empty batch checks less: it is asked about a batch of one."""
    x = x if x.size else np.zeros((1, *x.shape[1:]))
    try:
        call(torch.nn.functional, *map(torch.tensor, (x, *others)))
    except RuntimeError:
        return True
    return False


@pytest.mark.parametrize("name", [*CONVOLUTIONS, *TRANSPOSED])
def test_convolutions_are_computed_and_refused(name: str) -> None:
    """The test above would show little if nearly everything that is drawn were refused, or nothing."""
    accepted = []

    @given(convolutions(name))
    def count(drawn: tuple[list[np.ndarray], list[Any]]) -> None:
        arrays, arguments = drawn
        try:
            getattr(F, name)(*arrays[:2], None, *arguments)
        except ValueError:
            accepted.append(False)
        else:
            accepted.append(True)

    count()
    assert 0.1 < np.mean(accepted) < 0.95


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


@st.composite
def pools(draw: st.DrawFn, dilations: int) -> tuple[np.ndarray, dict[str, Any]]:
    """An input, and arguments whose windows fit it."""
    kernel = draw(one_or_two(1, 4))
    stride = draw(st.none() | one_or_two(1, 4))
    dilation = draw(one_or_two(1, dilations))
    half = min(k // 2 for k in both(kernel))
    padding = draw(one_or_two(0, half))
    ceil_mode = draw(st.booleans())
    size = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    for s, k, d, p in zip(size, both(kernel), both(dilation), both(padding)):
        assume((k - 1) * d + 1 <= s + 2 * p)
        # Between the elements of a dilated window there may be all of a small input: PyTorch's gradient then
        # writes outside its memory.
        assume(d == 1 or s >= d)
    x = normal(*draw(st.sampled_from([(2,), (1, 3), (3, 1)])), *size)
    if draw(st.booleans()):
        x = np.round(x)  # equal elements: the first must win
    arguments = {"kernel_size": kernel, "stride": stride, "padding": padding, "ceil_mode": ceil_mode}
    return x, arguments | ({"dilation": dilation} if dilations > 1 else {})


@given(pools(dilations=2))
@settings(max_examples=150)
def test_max_pool2d(drawn: tuple[np.ndarray, dict[str, Any]]) -> None:
    x, arguments = drawn
    compare(lambda functional, x: functional.max_pool2d(x, **arguments), x)
    y, indices = F.max_pool2d(x, **arguments, return_indices=True)
    expected, places = torch.nn.functional.max_pool2d(torch.tensor(x), **arguments, return_indices=True)
    np.testing.assert_array_equal(y, expected.numpy())
    np.testing.assert_array_equal(indices, places.numpy())


def test_max_pool2d_of_nan_and_infinity() -> None:
    x = normal(2, 3, 8, 9)
    x.flat[[3, 40, 41, 100]] = np.nan
    x.flat[[5, 60]] = np.inf
    x.flat[200:320] = -np.inf
    for arguments in ((2,), (3, 1, 1), (3, 2, 1, 2)):
        found = F.max_pool2d(x, *arguments, return_indices=True)
        expected = torch.nn.functional.max_pool2d(torch.tensor(x), *arguments, return_indices=True)
        for a, b in zip(found, expected):
            np.testing.assert_array_equal(a, b.numpy())


@given(pools(dilations=1), st.booleans(), st.sampled_from([None, None, 1, 5, -2]))
@settings(max_examples=150)
def test_avg_pool2d(drawn: tuple[np.ndarray, dict[str, Any]], count: bool, divisor: int | None) -> None:
    x, arguments = drawn
    arguments |= {"count_include_pad": count, "divisor_override": divisor}
    compare(lambda functional, x: functional.avg_pool2d(x, **arguments), x)


@pytest.mark.parametrize("pool", ["max_pool2d", "avg_pool2d"])
def test_a_window_larger_than_its_input_rounded_up_to_one(pool: str) -> None:
    compare(lambda functional, x: getattr(functional, pool)(x, 3, 2, 0, ceil_mode=True), normal(1, 2, 2))


#: Sizes of signals, images and volumes.
POOLED = {1: (11,), 2: (7, 8), 3: (5, 6, 4)}


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("name", ["max_pool", "avg_pool"])
@pytest.mark.parametrize("arguments", [(2,), (3, 2, 1), (3, 1, 0)], ids=str)
def test_pooling_of_every_rank(arguments: tuple[int, ...], name: str, rank: int) -> None:
    x = normal(2, 3, *POOLED[rank])
    compare(lambda functional, x: getattr(functional, f"{name}{rank}d")(x, *arguments), x)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("norm", [1, 2, 3, 4])
def test_lp_pooling(norm: int, rank: int) -> None:
    """Of windows that do not hang over the end: there PyTorch adds the mean of what they hold for what they lack."""
    x = normal(2, 3, *POOLED[rank])
    x = np.abs(x) + 0.1 if norm == 3 else x
    if norm == 1:  # PyTorch's gradient goes by the absolute value of the sum
        x = np.abs(x)
    compare(lambda functional, x: getattr(functional, f"lp_pool{rank}d")(x, norm, 3, 2), x, bound=1e-11)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("out", [1, 2, 3, 7])
def test_adaptive_pooling(out: int, rank: int) -> None:
    x = normal(2, 3, *POOLED[rank])
    compare(lambda functional, x: getattr(functional, f"adaptive_avg_pool{rank}d")(x, out), x)
    compare(lambda functional, x: getattr(functional, f"adaptive_max_pool{rank}d")(x, out), x)
    _, indices = getattr(F, f"adaptive_max_pool{rank}d")(x, out, return_indices=True)
    pool = getattr(torch.nn.functional, f"adaptive_max_pool{rank}d")
    _, expected = pool(torch.tensor(x), out, return_indices=True)
    np.testing.assert_array_equal(indices, expected.numpy())


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_unpooling(rank: int) -> None:
    x = normal(2, 3, *POOLED[rank])
    _, indices = getattr(F, f"max_pool{rank}d")(x, 2, return_indices=True)

    def both_ways(functional: Any, x: Any) -> Any:
        y = getattr(functional, f"max_pool{rank}d")(x, 2)
        places = indices if functional is F else torch.tensor(indices)
        return getattr(functional, f"max_unpool{rank}d")(y, places, 2, output_size=POOLED[rank])

    compare(both_ways, x)


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("seed", range(5))
def test_fractional_max_pooling(seed: int, rank: int) -> None:
    size, out = (13, 11, 9)[:rank], (6, 4, 5)[:rank]
    x, samples = normal(2, 3, *size), np.random.default_rng(seed).random((2, 3, rank))

    def pool(functional: Any, x: Any, **settings: Any) -> Any:
        drawn = samples if functional is F else torch.tensor(samples)
        call = getattr(functional, f"fractional_max_pool{rank}d")
        return call(x, 3, out, _random_samples=drawn, **settings)

    compare(pool, x)
    y, indices = pool(F, x, return_indices=True)
    expected, places = pool(torch.nn.functional, torch.tensor(x), return_indices=True)
    np.testing.assert_array_equal(y, expected.numpy())
    np.testing.assert_array_equal(indices, places.numpy())


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
    "conv2d rank": lambda f, t: f.conv2d(t(X[0, 0]), t(W)),
    "conv2d weight rank": lambda f, t: f.conv2d(t(X), t(W[0])),
    "conv2d channels": lambda f, t: f.conv2d(t(X), t(W[:, :3])),
    "conv2d bias": lambda f, t: f.conv2d(t(X), t(W), t(B[:5])),
    "conv2d large kernel": lambda f, t: f.conv2d(t(X), t(normal(6, 4, 7, 7))),
    "conv2d dilated kernel": lambda f, t: f.conv2d(t(X), t(W), dilation=3),
    "conv2d stride 0": lambda f, t: f.conv2d(t(X), t(W), stride=0),
    "conv2d stride -1": lambda f, t: f.conv2d(t(X), t(W), stride=-1),
    "conv2d padding -1": lambda f, t: f.conv2d(t(X), t(W), padding=-1),
    "conv2d dilation 0": lambda f, t: f.conv2d(t(X), t(W), dilation=0),
    "conv2d groups": lambda f, t: f.conv2d(t(X), t(W), groups=3),
    "conv2d groups 0": lambda f, t: f.conv2d(t(X), t(W), groups=0),
    "conv2d same with a stride": lambda f, t: f.conv2d(t(X), t(W), padding="same", stride=2),
    "conv2d padding name": lambda f, t: f.conv2d(t(X), t(W), padding="full"),
    "conv2d three strides": lambda f, t: f.conv2d(t(X), t(W), stride=(1, 1, 1)),
    "conv2d fractional stride": lambda f, t: f.conv2d(t(X), t(W), stride=1.5),
    "conv2d mixed dtypes": lambda f, t: f.conv2d(t(X), t(W.astype(np.float32))),
    "conv2d no height": lambda f, t: f.conv2d(t(X[:, :, :0]), t(W), padding=2),
    "conv1d rank": lambda f, t: f.conv1d(t(X), t(W[..., 0])),
    "conv1d weight rank": lambda f, t: f.conv1d(t(X[..., 0]), t(W)),
    "conv1d two strides": lambda f, t: f.conv1d(t(X[..., 0]), t(W[..., 0]), stride=(1, 2)),
    "conv1d no dilation": lambda f, t: f.conv1d(t(X[..., 0]), t(W[..., 0]), dilation=()),
    "conv1d no width": lambda f, t: f.conv1d(t(X[:, :, :0, 0]), t(W[..., 0]), padding=3),
    "conv3d rank": lambda f, t: f.conv3d(t(X[:, 0]), t(W[..., None])),
    "conv3d two paddings": lambda f, t: f.conv3d(t(X[..., None]), t(W[..., None]), padding=(1, 1)),
    "conv3d no depth": lambda f, t: f.conv3d(t(X[:, :, :0, :, None]), t(W[..., None]), padding=3),
    "conv3d mixed dtypes": lambda f, t: f.conv3d(t(X[..., None]), t(W[..., None]), t(B.astype(np.float32))),
    "conv_transpose1d rank": lambda f, t: f.conv_transpose1d(t(X), t(W[:4, ..., 0])),
    "conv_transpose1d no width": lambda f, t: f.conv_transpose1d(t(X[:, :, :0, 0]), t(W[:4, ..., 0])),
    "conv_transpose2d rank": lambda f, t: f.conv_transpose2d(t(X[0, 0]), t(W[:4])),
    "conv_transpose2d weight rank": lambda f, t: f.conv_transpose2d(t(X), t(W[:4, 0])),
    "conv_transpose2d channels": lambda f, t: f.conv_transpose2d(t(X), t(W)),
    "conv_transpose2d bias": lambda f, t: f.conv_transpose2d(t(X), t(W[:4]), t(B)),
    "conv_transpose2d stride 0": lambda f, t: f.conv_transpose2d(t(X), t(W[:4]), stride=0),
    "conv_transpose2d padding -1": lambda f, t: f.conv_transpose2d(t(X), t(W[:4]), padding=-1),
    "conv_transpose2d all padding": lambda f, t: f.conv_transpose2d(t(X), t(W[:4]), padding=4),
    "conv_transpose2d same": lambda f, t: f.conv_transpose2d(t(X), t(W[:4]), padding="same"),
    "conv_transpose2d output padding": lambda f, t: f.conv_transpose2d(t(X), t(W[:4]), None, 2, 0, 2),
    "conv_transpose2d output padding -1": lambda f, t: f.conv_transpose2d(t(X), t(W[:4]), None, 2, 0, -1),
    "conv_transpose2d dilation 0": lambda f, t: f.conv_transpose2d(t(X), t(W[:4]), dilation=0),
    "conv_transpose2d groups": lambda f, t: f.conv_transpose2d(t(X), t(W[:4]), groups=3),
    "conv_transpose2d groups 0": lambda f, t: f.conv_transpose2d(t(X), t(W[:4]), groups=0),
    "conv_transpose2d no filters": lambda f, t: f.conv_transpose2d(t(X), t(W[:4, :0])),
    "conv_transpose2d mixed dtypes": lambda f, t: f.conv_transpose2d(t(X), t(W[:4].astype(np.float32))),
    "conv_transpose3d rank": lambda f, t: f.conv_transpose3d(t(X[:, 0]), t(W[:4, ..., None])),
    "conv_transpose3d two strides": lambda f, t: f.conv_transpose3d(
        t(X[..., None]), t(W[:4, ..., None]), stride=(1, 1)
    ),
    "max_pool2d rank": lambda f, t: f.max_pool2d(t(X[0, 0]), 2),
    "max_pool2d padding": lambda f, t: f.max_pool2d(t(X), 2, 1, 2),
    "max_pool2d stride 0": lambda f, t: f.max_pool2d(t(X), 2, 0),
    "max_pool2d kernel 0": lambda f, t: f.max_pool2d(t(X), 0),
    "max_pool2d large kernel": lambda f, t: f.max_pool2d(t(X), 7),
    "max_pool2d dilation 0": lambda f, t: f.max_pool2d(t(X), 2, dilation=0),
    "max_pool2d no height": lambda f, t: f.max_pool2d(t(X[:, :, :0]), 2, 1, 1),
    "max_pool2d no channels": lambda f, t: f.max_pool2d(t(X[:, :0]), 2),
    "avg_pool2d rank": lambda f, t: f.avg_pool2d(t(X[0, 0]), 2),
    "avg_pool2d padding": lambda f, t: f.avg_pool2d(t(X), 2, 1, 2),
    "avg_pool2d large kernel": lambda f, t: f.avg_pool2d(t(X), 7),
    "avg_pool2d divisor": lambda f, t: f.avg_pool2d(t(X), 2, divisor_override=0),
    "avg_pool2d no height": lambda f, t: f.avg_pool2d(t(X[:, :, :0]), 2, 1, 1),
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
