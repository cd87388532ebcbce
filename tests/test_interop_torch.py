"""Operations inside PyTorch: its tensors, its autograd, the same memory."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pycnn
from pycnn import Tensor
from pycnn.interop.arrays import drop_in
from tests.test_interop_arrays import address

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
G = torch.nn.functional

from pycnn.interop.torch import functional as F  # noqa: E402 - which imports PyTorch


def drawn(*shape: int, dtype: Any = torch.float64, requires_grad: bool = False, seed: int = 0) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_(requires_grad)


def image(**how: Any) -> Any:
    return drawn(2, 3, 6, 5, **how)


def weight(**how: Any) -> Any:
    return drawn(4, 3, 3, 3, seed=1, **how)


@drop_in
def halved(input: Any, inplace: bool = False) -> Any:
    if inplace:
        array = input.data if isinstance(input, Tensor) else input
        np.multiply(array, 0.5, out=array)
        return input
    return input * 0.5


@drop_in
def itself(input: Any) -> Any:
    return input


def test_functional_is_the_functional_of_pycnn() -> None:
    assert F is pycnn.functional


# Values and memory.


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_values_and_dtypes(dtype: Any) -> None:
    found = F.conv2d(image(dtype=dtype), weight(dtype=dtype))
    assert isinstance(found, torch.Tensor)
    assert found.dtype == dtype
    bound = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 1e-1}[dtype]
    right = G.conv2d(image(dtype=dtype).double(), weight(dtype=dtype).double())
    torch.testing.assert_close(found.double(), right, rtol=bound, atol=bound)


def test_memory_is_shared_both_ways() -> None:
    inside = {}

    @drop_in
    def made(input: Any) -> Any:
        inside["input"], inside["result"] = address(input), np.zeros(3)
        return inside["result"]

    x = image()
    result = made(x)
    assert inside["input"] == x.data_ptr()
    assert result.data_ptr() == address(inside["result"])
    bfloat16 = image(dtype=torch.bfloat16)
    made(bfloat16)
    assert inside["input"] == bfloat16.data_ptr()


def test_a_result_outlives_the_array_it_was() -> None:
    y = F.conv2d(drawn(4, 3, 64, 64), weight())
    expected = y.clone()
    for seed in range(5):  # would take the memory, were it free
        F.conv2d(drawn(4, 3, 64, 64, seed=seed + 1), weight())
    assert torch.equal(y, expected)


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.flip(3),
        lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
        lambda x: x.to(memory_format=torch.channels_last),
        lambda x: torch.stack([x, x], -1)[..., 0],
        lambda x: x[:1].expand(2, -1, -1, -1),
        lambda x: torch.complex(x, -x).conj().imag,
        lambda x: torch.nn.Parameter(x, requires_grad=False),
    ],
)
def test_views(view: Callable[[Any], Any]) -> None:
    x, w = view(image()), weight()
    torch.testing.assert_close(F.conv2d(x, w), G.conv2d(x, w))
    assert torch.equal(F.max_pool2d(x, 2), G.max_pool2d(x, 2))


def test_indices_and_integers() -> None:
    x = drawn(2, 3, 6, 4)
    found, index = F.max_pool2d(x, 2, return_indices=True)
    right, their_index = G.max_pool2d(x, 2, return_indices=True)
    assert torch.equal(found, right)
    assert torch.equal(index, their_index)
    unpooled = F.max_unpool2d(found, index, 2)
    assert torch.equal(unpooled, G.max_unpool2d(found, index, 2))
    loss = F.cross_entropy(drawn(3, 5), torch.tensor([0, 4, 2]))
    torch.testing.assert_close(loss, G.cross_entropy(drawn(3, 5), torch.tensor([0, 4, 2])))
    assert loss.shape == ()


def test_mixed_kinds() -> None:
    x, w = image(), weight()
    expected = F.conv2d(x, w)
    assert type(F.conv2d(x.numpy(), w)) is np.ndarray
    assert torch.equal(F.conv2d(x, w.numpy()), expected)
    assert torch.equal(F.conv2d(x.tolist(), w), expected)  # a list is no array: the weight is the first
    assert isinstance(F.conv2d(x, Tensor(w.numpy())), Tensor)
    wanting = weight(requires_grad=True)
    for first in (x.numpy(), Tensor(x.numpy())):
        with pytest.raises(TypeError, match="its gradient would be lost"):
            F.conv2d(first, wanting)
    with torch.no_grad():
        assert type(F.conv2d(x.numpy(), wanting)) is np.ndarray
    with pytest.raises(TypeError, match="its gradient would be lost"):
        Tensor(wanting)
    assert Tensor(w.bfloat16()).dtype.name == "bfloat16"


def test_refused_tensors() -> None:
    with pytest.raises(
        TypeError, match=r"on the CPU or on a GPU of CUDA; received one of the layout torch\.strided on meta"
    ):
        F.relu(torch.empty(3, device="meta"))
    with pytest.raises(TypeError, match="must be strided"):
        F.relu(torch.eye(3).to_sparse())
    with pytest.raises(TypeError, match="input must hold float16"):
        F.relu(torch.ones(3, dtype=torch.complex64))


# In place.


def test_in_place_is_the_same_tensor_changed() -> None:
    x = torch.ones(3)
    version = x._version
    assert halved(x, inplace=True) is x
    assert halved(x, True) is x
    assert x.tolist() == [0.25] * 3
    assert x._version == version + 2
    strided = torch.ones(3, 2)
    halved(strided[:, 0], inplace=True)
    assert strided.tolist() == [[0.5, 1.0]] * 3
    with torch.inference_mode():
        x = torch.ones(3)
        assert halved(x, inplace=True) is x


def test_in_place_with_a_gradient() -> None:
    x = drawn(3, requires_grad=True)
    y = x * 1
    assert halved(y, inplace=True) is y
    (y * y).sum().backward()
    torch.testing.assert_close(x.grad, 0.5 * x.detach())
    with pytest.raises(RuntimeError, match="leaf Variable"):
        halved(x, inplace=True)


def test_a_change_in_place_of_what_a_gradient_needs_is_noticed() -> None:
    x, w = image(requires_grad=True), weight(requires_grad=True)
    y = F.conv2d(x, w)
    with torch.no_grad():
        halved(w, inplace=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


ELEMENTWISE = ["relu", "leaky_relu", "elu", "selu", "celu", "sigmoid", "tanh", "gelu", "silu", "mish", "softplus",
               "hardswish", "hardsigmoid", "logsigmoid", "softsign", "tanhshrink", "hardtanh"]  # fmt: skip
CALLS: dict[str, Callable[[Any, Any], Any]] = {
    **{name: lambda f, x, name=name: getattr(f, name)(x) for name in ELEMENTWISE},
    "softmax": lambda f, x: f.softmax(x, 1),
    "log_softmax": lambda f, x: f.log_softmax(x, 1),
    "pad": lambda f, x: f.pad(x, (1, 1)),
    "interpolate": lambda f, x: f.interpolate(x, scale_factor=2),
    "unfold": lambda f, x: f.unfold(x, 2),
    "pixel_shuffle": lambda f, x: f.pixel_shuffle(x.reshape(2, 9, 2, 5), 3),
    "adaptive_avg_pool2d": lambda f, x: f.adaptive_avg_pool2d(x, 1),
    "avg_pool2d": lambda f, x: f.avg_pool2d(x, 2),
    "max_pool2d": lambda f, x: f.max_pool2d(x, 2),
    "layer_norm": lambda f, x: f.layer_norm(x, (5,)),
    "batch_norm": lambda f, x: f.batch_norm(x, None, None, training=True),
    "linear": lambda f, x: f.linear(x, torch.ones(2, 5, dtype=x.dtype)),
    "conv2d": lambda f, x: f.conv2d(x, weight()),
    "normalize": lambda f, x: f.normalize(x),
    "dropout": lambda f, x: f.dropout(x, 0.5),
}


@pytest.mark.parametrize("changed", ["input", "result"])
@pytest.mark.parametrize("name", CALLS)
def test_a_change_in_place_is_harmless_or_refused(name: str, changed: str) -> None:
    """The gradient is that of the values at the time, or there is PyTorch's error."""
    call = CALLS[name]

    def gradient(f: Any, change: bool) -> Any:
        leaf = drawn(2, 3, 6, 5, requires_grad=True)
        x = leaf * 1
        pycnn.random.seed(3)
        torch.manual_seed(3)
        y = call(f, x)
        if change:
            (x if changed == "input" else y).mul_(3.0)
        y.sum().backward()
        return leaf.grad

    expected = gradient(F, False) * (3.0 if changed == "result" else 1.0)
    try:
        found = gradient(F, True)
    except RuntimeError as refusal:
        if "modified by an inplace operation" not in str(refusal):
            raise
        if name != "tanhshrink":  # PyTorch's is x - tanh(x), and reads the result of the second alone
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                gradient(G, True)
    else:
        torch.testing.assert_close(found, expected)


def test_a_change_of_a_result_is_noticed_where_the_gradient_needs_it() -> None:
    def fused(x: Any) -> Any:
        return F.conv2d(x, weight(), activation="relu")

    for call in (F.sigmoid, F.tanh, fused, lambda x: F.softmax(x, 1)):
        y = call(image(requires_grad=True))
        y.sub_(10.0)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()
    _, index = pair = F.fractional_max_pool2d(image(requires_grad=True), 2, output_size=3, return_indices=True)
    index.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        pair[0].sum().backward()


def test_a_change_of_a_result_is_noticed_by_second_gradients() -> None:
    x = image(requires_grad=True)
    y = F.sigmoid(x)
    (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    y.mul_(3.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        slope.sum().backward()


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "softmax", "log_softmax", "gelu", "layer_norm", "conv2d"])
def test_second_gradients_know_an_input_that_was_changed(name: str) -> None:
    """The graph reads results; where they came from does not change with the memory of the input."""

    def second(f: Any) -> Any:
        leaf = drawn(2, 3, 6, 5, requires_grad=True)
        x = leaf * 1
        y = CALLS[name](f, x)
        if name in ("sigmoid", "tanh", "softmax", "log_softmax"):
            x.mul_(3.0)
        (slope,) = torch.autograd.grad((y * y).sum(), leaf, create_graph=True)
        return torch.autograd.grad((slope**2).sum(), leaf)[0]

    torch.testing.assert_close(second(F), second(G))


def test_the_memory_of_an_input_that_no_gradient_reads_is_free() -> None:
    for call in (F.relu, lambda x: F.pad(x, (1, 1)), lambda x: F.softmax(x, -1)):
        h = image(requires_grad=True) * 1
        y = call(h)
        memory = weakref.ref(h)
        del h
        assert memory() is None
        assert set(y.grad_fn.wanted[0].data.strides) == {0}
        y.sum().backward()


def test_a_result_may_be_changed_in_place() -> None:
    x, w = image(requires_grad=True), weight(requires_grad=True)
    F.conv2d(x, w).relu_().sum().backward()
    found, x.grad = x.grad, None
    G.conv2d(x, w).relu_().sum().backward()
    torch.testing.assert_close(found, x.grad)


def test_running_statistics_move() -> None:
    mean, var = torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    their_mean, their_var = mean.clone(), var.clone()
    x = image(requires_grad=True)
    for _ in range(2):
        torch.testing.assert_close(
            F.batch_norm(x, mean, var, training=True), G.batch_norm(x, their_mean, their_var, training=True)
        )
    torch.testing.assert_close(mean, their_mean)
    torch.testing.assert_close(var, their_var)


# Gradients.

OPERATIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any], list[Any]]] = {
    "conv2d": (
        lambda x, w, b: F.conv2d(x, w, b, padding=1),
        lambda x, w, b: G.conv2d(x, w, b, padding=1),
        [image(), weight(), drawn(4)],
    ),
    "conv1d": (F.conv1d, G.conv1d, [drawn(2, 3, 8), drawn(4, 3, 3), drawn(4)]),
    "conv_transpose2d": (F.conv_transpose2d, G.conv_transpose2d, [image(), drawn(3, 2, 3, 3)]),
    "max_pool2d": (lambda x: F.max_pool2d(x, 2), lambda x: G.max_pool2d(x, 2), [image()]),
    "avg_pool2d": (lambda x: F.avg_pool2d(x, 2), lambda x: G.avg_pool2d(x, 2), [image()]),
    "batch_norm": (
        lambda x, w, b: F.batch_norm(x, None, None, w, b, True),
        lambda x, w, b: G.batch_norm(x, None, None, w, b, True),
        [drawn(2, 3, 3, 2), drawn(3), drawn(3, seed=2)],
    ),
    "layer_norm": (
        lambda x, w: F.layer_norm(x, (5,), w),
        lambda x, w: G.layer_norm(x, (5,), w),
        [drawn(3, 5), drawn(5)],
    ),
    "softmax": (lambda x: F.softmax(x, -1), lambda x: G.softmax(x, -1), [drawn(3, 4)]),
    "cross_entropy": (
        lambda x: F.cross_entropy(x, torch.tensor([1, 0])),
        lambda x: G.cross_entropy(x, torch.tensor([1, 0])),
        [drawn(2, 3)],
    ),
    "linear": (F.linear, G.linear, [drawn(2, 3), drawn(4, 3), drawn(4)]),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_first_and_second_gradients(name: str) -> None:
    ours, theirs, arguments = OPERATIONS[name]
    inputs = [a.clone().requires_grad_() for a in arguments]
    torch.testing.assert_close(ours(*inputs), theirs(*inputs))
    assert torch.autograd.gradcheck(ours, inputs)
    assert torch.autograd.gradgradcheck(ours, inputs)
    found = torch.autograd.grad(ours(*inputs).square().sum(), inputs)
    right = torch.autograd.grad(theirs(*inputs).square().sum(), inputs)
    for one, other in zip(found, right):
        torch.testing.assert_close(one, other)


def test_third_gradients() -> None:
    def third(conv: Callable[..., Any]) -> Any:
        x, w = image(requires_grad=True), weight(requires_grad=True)
        g = conv(x, w).pow(4).sum()
        for _ in range(3):
            (g,) = torch.autograd.grad(g, x, create_graph=True)
            g = (g * g).sum()
        return torch.autograd.grad(g, w)[0]

    torch.testing.assert_close(third(F.conv2d), third(G.conv2d))


def test_some_inputs_want_gradients() -> None:
    x, w, b = image(), weight(requires_grad=True), drawn(4)
    y = F.conv2d(x, w, b)
    y.sum().backward()
    assert x.grad is None
    assert b.grad is None
    assert w.grad.shape == w.shape
    assert not F.conv2d(x, w.detach(), b).requires_grad
    with torch.no_grad():
        assert not F.conv2d(x, w, b).requires_grad
    with pycnn.no_grad():  # says nothing about PyTorch's gradients
        assert F.conv2d(x, w, b).requires_grad


def test_indices_have_no_gradient() -> None:
    x = image(requires_grad=True)
    y, index = F.max_pool2d(x, 2, return_indices=True)
    assert y.requires_grad
    assert not index.requires_grad
    y.sum().backward()
    assert x.grad.sum() == y.numel()


def test_an_argument_that_comes_back() -> None:
    x = drawn(3, requires_grad=True)
    y = itself(x)
    assert y.data_ptr() == x.data_ptr()
    (y * y).sum().backward()
    torch.testing.assert_close(x.grad, 2 * x.detach())
    assert itself(x.detach()).data_ptr() == x.data_ptr()


def test_a_graph_is_walked_again_only_if_it_is_kept() -> None:
    x = image(requires_grad=True)
    y = F.avg_pool2d(x, 2).sum()
    y.backward(retain_graph=True)
    y.backward()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        y.backward()


def test_a_gradient_of_a_gradient_leaves_the_first_graph() -> None:
    x = image(requires_grad=True)
    y = F.conv2d(x, weight(requires_grad=True)).sum()
    (g,) = torch.autograd.grad(y, x, create_graph=True)
    g.sum().backward()
    y.backward()


def test_nothing_is_kept_after_a_walk_and_there_are_no_cycles() -> None:
    gc.disable()
    try:
        x, w = drawn(4, 3, 64, 64, requires_grad=True), weight(requires_grad=True)
        h = x * 1
        y = F.conv2d(h, w, activation="relu").sum()
        node = y.grad_fn.next_functions[0][0]
        leaf = weakref.ref(node.leaves[0])
        del node, h
        y.backward()
        assert leaf() is None  # though y is there
        del y
        z = F.conv2d(x, w)
        leaf = weakref.ref(z.grad_fn.leaves[0])
        del z
        assert leaf() is None  # without a walk
        g = torch.autograd.grad(F.conv2d(x, w).pow(2).sum(), x, create_graph=True)[0]
        leaf = weakref.ref(g.grad_fn.leaves[0]) if hasattr(g.grad_fn, "leaves") else lambda: None
        del g
        assert leaf() is None
    finally:
        gc.enable()


def test_forward_mode_is_refused() -> None:
    from torch.autograd import forward_ad

    x = image()
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, torch.ones_like(x))
        with pytest.raises(TypeError, match="pycnn differentiates backward only"):
            F.conv2d(dual, weight())
        with pytest.raises(NotImplementedError, match="forward mode AD"):
            F.conv2d(dual, weight(requires_grad=True))
        torch.testing.assert_close(F.conv2d(x, weight()), G.conv2d(x, weight()))


def test_autocast() -> None:
    x, w = image(dtype=torch.float32), weight(dtype=torch.float32, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = F.conv2d(x, w)
        assert y.dtype == torch.bfloat16
        assert F.max_pool2d(x, 2).dtype == torch.float32
    y.float().sum().backward()
    assert w.grad.dtype == torch.float32


# Threads.


def test_walks_on_several_threads_at_once() -> None:
    w = drawn(16, 3, 3, 3, requires_grad=True)
    x = drawn(4, 3, 64, 64)
    (right,) = torch.autograd.grad(G.conv2d(x, w).pow(2).sum(), w)
    found: list[Any] = []

    def work() -> None:
        with pycnn.no_grad():
            for _ in range(5):
                found.append(torch.autograd.grad(F.conv2d(x, w).pow(2).sum(), w)[0])  # noqa: PERF401

    threads = [threading.Thread(target=work, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    assert len(found) == 20
    for each in found:
        torch.testing.assert_close(each, right)


def test_a_walk_on_another_thread_than_the_call() -> None:
    w = weight(requires_grad=True)
    y = F.conv2d(image(), w).pow(2).sum()
    thread = threading.Thread(target=y.backward, daemon=True)
    thread.start()
    thread.join(60)
    assert w.grad is not None


def test_a_module_of_operations_trains() -> None:
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 4, 3)
            self.norm = torch.nn.BatchNorm2d(4)
            self.dense = torch.nn.Linear(8, 2)

        def forward(self, x: Any, f: Any) -> Any:
            x = f.conv2d(x, self.conv.weight, self.conv.bias)
            x = f.batch_norm(
                x, self.norm.running_mean, self.norm.running_var, self.norm.weight, self.norm.bias, self.training
            )
            x = f.max_pool2d(f.relu(x), 2)
            return f.linear(x.flatten(1), self.dense.weight, self.dense.bias)

    grads = []
    for f in (F, G):
        torch.manual_seed(0)
        net = Net().double()
        f.cross_entropy(net(image(), f), torch.tensor([1, 0])).backward()
        grads.append([p.grad for p in net.parameters()] + [net.norm.running_var])
    for one, other in zip(*grads):
        torch.testing.assert_close(one, other)
