"""``pycnn.grad``, operations of users' own, and the public gradient checks."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import pycnn
import pycnn.functional as F
from pycnn import GradcheckError, Tensor, grad, gradcheck, gradgradcheck
from pycnn.autograd import Function
from pycnn.functional.conv import ConvolutionWeightGradient

try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment]

needs_torch = pytest.mark.skipif(torch is None, reason="PyTorch is in the extra 'peers'")

A = np.array([[1.0, -2.0, 3.0], [0.5, 4.0, -1.0]])
B = np.array([[2.0, 0.5, -1.0], [3.0, -0.25, 1.5]])


def leaf(array: Any) -> Tensor:
    return Tensor(np.array(array, np.float64), requires_grad=True)


def both(*arrays: np.ndarray) -> tuple[list[Tensor], list[Any]]:
    """Leaves of pycnn and of PyTorch."""
    return [leaf(a) for a in arrays], [torch.tensor(a, requires_grad=True) for a in arrays]


def same(found: tuple[Tensor | None, ...], expected: tuple[Any, ...]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        assert (one is None) == (other is None)
        if one is not None:
            np.testing.assert_allclose(one.detach().numpy(), other.detach().numpy())


# grad

QUESTIONS: dict[str, Callable[[Callable[..., Any], Any, Any], Any]] = {
    "one input": lambda grad, x, w: grad((x * w).sum(), x),
    "several inputs": lambda grad, x, w: grad((x * w * w).sum(), (w, x)),
    "a list of inputs": lambda grad, x, w: grad((x * w * w).sum(), [w, x]),
    "the same input twice": lambda grad, x, w: grad((x * w).sum(), (x, x)),
    "a result on the way": lambda grad, x, w: _on_the_way(grad, x, w, False),
    "a result on the way and a leaf behind it": lambda grad, x, w: _on_the_way(grad, x, w, True),
    "the output itself": lambda grad, x, w: _itself(grad, x),
    "a leaf of itself": lambda grad, x, w: grad(x.sum() * 0 + x[0, 0], x),
    "several outputs": lambda grad, x, w: grad(((x * w).sum(), x.sum(), (w * 3).sum()), (x, w)),
    "an output and what it is computed of": lambda grad, x, w: _outputs_in_turn(grad, x, w),
    "unused": lambda grad, x, w: grad((x * 2).sum(), (x, w), allow_unused=True),
    "unused beside used": lambda grad, x, w: grad(((x * 2).sum(), (w * w)[0, 0]), (w, x[0]), allow_unused=True),
}


def _on_the_way(grad: Any, x: Any, w: Any, leaf_too: bool) -> Any:
    y = x * w
    z = (y * y * w).sum()
    return grad(z, (y, x) if leaf_too else y)


def _itself(grad: Any, x: Any) -> Any:
    y = (x * x).sum()
    return grad(y, (y, x))


def _outputs_in_turn(grad: Any, x: Any, w: Any) -> Any:
    y = (x * w).sum()
    return grad((y * y, y), (x, y, w))


@needs_torch
@pytest.mark.parametrize("name", QUESTIONS)
def test_gradients_are_those_of_pytorch(name: str) -> None:
    (x, w), (xt, wt) = both(A, B)
    same(QUESTIONS[name](grad, x, w), QUESTIONS[name](torch.autograd.grad, xt, wt))
    assert x.grad is None
    assert w.grad is None


def test_given_gradients_of_the_outputs() -> None:
    x, w = leaf(A), leaf(B)
    for start in (B, Tensor(B), [B], (Tensor(B),)):
        (found,) = grad(x * w, x, start)
        np.testing.assert_array_equal(found.numpy(), B * B)
    same(grad((x * w, (x * x).sum()), (x, w), (B, None)), (Tensor(B * B + 2 * A), Tensor(B * A)))
    same(grad([x * w], [x], [B]), (Tensor(B * B),))


def test_derivatives_of_every_order() -> None:
    x = leaf([2.0])
    y = x**4
    for expected in (32.0, 48.0, 48.0, 24.0):
        (y,) = grad(y.sum(), x, create_graph=True)
        assert y.item() == expected
    (y,) = grad(y, x, allow_unused=True)
    assert y is None or y.item() == 0


def test_a_gradient_of_the_given_gradient() -> None:
    """Double backward: how the products of vectors and Jacobians depend on the vectors."""
    x, v = leaf(A), leaf(B)
    (product,) = grad(x * x * x, x, v, create_graph=True)
    same(grad(product.sum(), (x, v)), (Tensor(6 * A * B), Tensor(3 * A * A)))


def test_the_graph_is_kept_or_released() -> None:
    x = leaf(A)
    y = (x * x).sum()
    grad(y, x, retain_graph=True)
    (first,) = grad(y, x, create_graph=True)  # which keeps it, too
    grad(y, x)
    with pytest.raises(RuntimeError, match="released; pass retain_graph=True"):
        grad(y, x)
    assert first.requires_grad
    y = (x * x).sum()
    grad(y, x, create_graph=True, retain_graph=True)
    y.backward()
    np.testing.assert_array_equal(x.grad.data, 2 * A)


def test_what_is_left_of_a_graph_is_walked() -> None:
    x = leaf(A)
    y = x * 2
    y.sum().backward()
    z = (y * y).sum()
    (found,) = grad(z, y, retain_graph=True)
    np.testing.assert_array_equal(found.numpy(), 4 * A)
    for inputs in (x, (y, x)):
        with pytest.raises(RuntimeError, match="released"):
            grad(z, inputs, allow_unused=True, retain_graph=True)


def test_nothing_is_computed_that_leads_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a gradient was computed that nobody wants")

    x, w, v = (leaf(np.random.default_rng(0).standard_normal(shape)) for shape in ((1, 2, 5), (3, 2, 3), (3,)))
    y = F.conv1d(x * 2, w, v)
    monkeypatch.setattr(ConvolutionWeightGradient, "forward", refuse)
    found = grad(y.sum(), (x, v), retain_graph=True)
    assert [g.shape for g in found] == [(1, 2, 5), (3,)]
    with pytest.raises(AssertionError, match="nobody wants"):
        grad(y.sum(), w)


def test_gradients_belong_to_the_caller() -> None:
    x, w, start = leaf(A), leaf(B), B.copy()
    y = x + w
    found = grad(y * 1, (x, w, y), start)
    for one in found:
        one.mul_(2.0)
    for one in found:
        np.testing.assert_array_equal(one.numpy(), 2 * B)
    np.testing.assert_array_equal(start, B)


def test_views_are_asked_for_by_what_they_are() -> None:
    x, w = leaf(A), leaf(B)
    y = x * 1
    row = y[0]
    y.mul_(w)
    (found,) = grad((row * row).sum(), row)
    np.testing.assert_array_equal(found.numpy(), 2 * A[0] * B[0])


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda x, c: grad((x * 2).sum(), c), RuntimeError, r"inputs\[0\] does not require a gradient"),
        (lambda x, c: grad(c.sum(), x), RuntimeError, r"outputs\[0\] does not require a gradient"),
        (lambda x, c: grad((x * 2).sum(), (x, leaf(A))), RuntimeError, r"not depend on inputs\[1\]; allow_unused=True"),
        (lambda x, c: grad(x * 2, x), RuntimeError, r"of shape \(2, 3\) needs the argument grad_outputs"),
        (lambda x, c: grad(x * 2, x, np.ones(3)), ValueError, r"the shape of the output, \(2, 3\); received \(3,\)"),
        (lambda x, c: grad([x * 2], x, [A, A]), ValueError, "a gradient for each of 1 outputs; received 2"),
        (lambda x, c: grad(x.sum(), A), TypeError, "inputs must be a tensor, .* received a numpy.ndarray"),
        (lambda x, c: grad(3.0, x), TypeError, "outputs must be a tensor, .* received 3.0"),
        (lambda x, c: grad([], x), ValueError, "outputs must have at least one tensor; received none"),
    ],
)  # fmt: skip
def test_refusals(ask: Callable[..., Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ask(leaf(A), Tensor(A))


# Users' own operations


class Scale(Function):
    """``x * factor``, with mistakes on request."""

    def forward(self, x: Any, *, factor: float = 2.0, output: Any = None, gradient: Any = None) -> Any:
        self.factor, self.gradient = factor, gradient
        return x * factor if output is None else output(x)

    def backward(self, dy: Tensor) -> Any:
        return dy * self.factor if self.gradient is None else self.gradient(dy)


def test_an_operation_takes_tensors_arrays_and_numbers() -> None:
    x = leaf(A)
    y = Scale.apply(x, factor=3.0)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.data, np.full(A.shape, 3))
    for value in (A, A.tolist(), 2.0):
        found = Scale.apply(value)
        assert isinstance(found, Tensor)
        np.testing.assert_array_equal(found.numpy(), np.asarray(value) * 2)
    with pycnn.no_grad():
        assert not Scale.apply(A).requires_grad
        assert not Scale.apply(x).requires_grad


def test_a_number_of_numpys_is_an_array() -> None:
    y = Scale.apply(leaf([1.0, 2.0]), output=lambda x: x.sum(), gradient=lambda dy: dy * np.ones(2))
    assert y.shape == ()
    y.backward()


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (lambda x: Tensor(x), "Scale.forward must return an array; received a pycnn.tensor.Tensor"),
        pytest.param(
            lambda x: torch.tensor(x), "Scale.forward must return an array; received a torch.Tensor", marks=needs_torch
        ),
        (lambda x: [1.0], "Scale.forward must return an array; received a list of 1"),
        (lambda x: (x, x), "received a tuple of 2; the class of .* says how many: outputs = 2"),
        (lambda x: 3.0, "Scale.forward must return an array; received 3.0"),
        (lambda x: "x", "Scale.forward must return an array; received a str"),
    ],
)
@pytest.mark.parametrize("recorded", [False, True])
def test_what_forward_must_return(output: Any, message: str, recorded: bool) -> None:
    with pytest.raises(TypeError, match=message):
        Scale.apply(Tensor(A, requires_grad=recorded), output=output)


@pytest.mark.parametrize(
    ("gradient", "error", "message"),
    [
        (lambda dy: dy.data, TypeError, "Scale.backward must return tensors of pycnn, .* a numpy.ndarray for input 0"),
        pytest.param(
            lambda dy: torch.tensor(dy.data), TypeError, "received a torch.Tensor for input 0", marks=needs_torch
        ),
        (lambda dy: (dy, dy), ValueError, "a gradient for each of its 1 inputs, .* received 2"),
        (lambda dy: (), ValueError, "a gradient for each of its 1 inputs, .* received 0"),
        (lambda dy: dy.sum(), ValueError, r"the shape of its input 0, \(2, 3\); received \(\)"),
        (lambda dy: dy.T, ValueError, r"the shape of its input 0, \(2, 3\); received \(3, 2\)"),
    ],
)
def test_what_backward_must_return(gradient: Any, error: type[Exception], message: str) -> None:
    y = Scale.apply(leaf(A), gradient=gradient)
    with pytest.raises(error, match=message):
        y.sum().backward()


def test_what_backward_may_return() -> None:
    for gradient in (lambda dy: (dy, None), lambda dy: [dy], lambda dy: dy.astype(np.float32)):
        x = leaf(A)
        Scale.apply(x, gradient=gradient).sum().backward()
        assert x.grad.dtype == np.float64
        np.testing.assert_array_equal(x.grad.data, np.ones(A.shape))
    x = leaf(A)
    Scale.apply(x, gradient=lambda dy: None).sum().backward()
    assert x.grad is None


class MinMax(Function):
    outputs = 2

    def forward(self, x: Any, *, count: int = 2) -> Any:
        return (x.min(), x.max(), x)[:count] if count else x

    def backward(self, least: Tensor | None, greatest: Tensor | None) -> Any:
        (x,) = self.inputs
        found = Tensor(np.zeros(x.shape))
        for dy, end in ((least, x.data.min()), (greatest, x.data.max())):
            if dy is not None:
                found = found + dy * (x.data == end)
        return found


@pytest.mark.parametrize(("count", "received"), [(0, "a numpy.ndarray"), (1, "a tuple of 1"), (3, "a tuple of 3")])
def test_the_number_of_outputs(count: int, received: str) -> None:
    with pytest.raises(
        TypeError, match=f"MinMax.forward must return a tuple of 2 arrays, .*outputs; received {received}"
    ):
        MinMax.apply(leaf(A), count=count)


def test_several_outputs() -> None:
    x = leaf(A)
    least, greatest = MinMax.apply(x)
    (greatest * 3).backward(retain_graph=True)
    np.testing.assert_array_equal(x.grad.data, 3 * (A == 4))
    (found,) = grad((least, greatest), x)
    np.testing.assert_array_equal(found.numpy(), (A == 4) | (A == -2))


def test_what_is_kept_is_looked_after() -> None:
    class Exponential(Function):
        reads = ()

        def forward(self, x: Any) -> Any:
            self.kept = {"results": [np.exp(x)]}
            return self.kept["results"][0]

        def backward(self, dy: Tensor) -> Any:
            return dy * self.output(self.kept["results"][0])

    x = leaf(A)
    assert gradcheck(Exponential.apply, x)
    assert gradgradcheck(Exponential.apply, x)
    y = Exponential.apply(x)
    with pycnn.no_grad():
        x.add_(1.0)  # which nobody reads
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.data, y.data)
    y = Exponential.apply(x)
    y.mul_(2.0)
    with pytest.raises(RuntimeError, match="the gradient of Exponential is computed of what it kept as 'kept'"):
        y.sum().backward()


def test_inputs_that_nobody_reads_are_let_go() -> None:
    gc.disable()
    try:
        x = leaf(A)
        hidden = x * 2
        y = F.relu(hidden)
        alive = weakref.ref(hidden)
        del hidden
        assert alive() is None
        y.sum().backward()
        np.testing.assert_array_equal(x.grad.data, 2 * (A > 0))
    finally:
        gc.enable()


# The public checks


class Wrong(Function):
    """A square whose gradient is wrong where x is the third element."""

    def forward(self, x: Any) -> Any:
        return x * x

    def backward(self, dy: Tensor) -> Any:
        (x,) = self.inputs
        factor = np.full(x.shape, 2.0)
        factor.flat[2] = 3
        return dy * x * factor


def test_right_gradients_pass() -> None:
    x, w, b = (leaf(np.random.default_rng(0).standard_normal(shape)) for shape in ((2, 3, 4, 4), (2, 3, 3, 3), (2,)))
    for check in (gradcheck, gradgradcheck):
        assert check(F.conv2d, (x, w, b)) is True
        assert check(lambda x: x.exp(), leaf(A)) is True
        assert check(lambda x, c, n: (x * c, x.sum() ** n, c), (leaf(A), Tensor(B), 2)) is True
        assert check(lambda x: F.max_pool2d(x, 2, return_indices=True), x) is True
        assert check(lambda x: x * x, leaf(np.zeros((0, 3)))) is True
        assert check(lambda x, w: x * w.detach() * 0 + x**3, (leaf(A), leaf(B))) is True


def test_wrong_gradients_are_shown() -> None:
    message = r"output 1 with respect to input 1 .* element 2 of input 1 and element 2 of output 1 the gradient is 9"
    with pytest.raises(GradcheckError, match=message):
        gradcheck(lambda c, x: (x, Wrong.apply(x)), (B, leaf(A)))
    assert gradcheck(Wrong.apply, leaf(A), raise_exception=False) is False
    assert gradcheck(Wrong.apply, leaf(A), atol=10) is True
    with pytest.raises(GradcheckError):
        gradgradcheck(lambda x: x.exp() * x.detach(), leaf(A))


def test_a_gradient_that_is_missing() -> None:
    with pytest.raises(GradcheckError, match="the gradient is 0, the difference 1"):
        gradcheck(lambda x, w: w * 2 + x.detach(), (leaf(A), leaf(B)))
    with pytest.raises(GradcheckError, match="output 0 with respect to input 0"):
        gradcheck(lambda x: x.detach() * 3, leaf(A))


def test_given_grad_outputs() -> None:
    assert gradgradcheck(lambda x: (x**3, x.sum()), leaf(A), (Tensor(B), np.ones(())))
    with pytest.raises(ValueError, match="a tensor for each of 2 outputs; received 1"):
        gradgradcheck(lambda x: (x**3, x.sum()), leaf(A), Tensor(B))


def test_two_threads_walk_through_one_graph() -> None:
    """What one of them leaves out the other one finds, also when they are in the same backward at the same time."""
    inside = threading.Barrier(2, timeout=20)

    class Product(Function):
        def forward(self, x: Any, y: Any) -> Any:
            return x * y

        def backward(self, dz: Tensor) -> Any:  # type: ignore[override]
            if is_waiting:
                inside.wait()
            x, y = self.inputs
            found = (dz * y if self.needs[0] else None), (dz * x if self.needs[1] else None)
            if is_waiting:
                inside.wait()
            return found

    x, y = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    product = Product.apply(x, y)
    z, is_waiting = product.sum(), True
    with ThreadPoolExecutor(2) as threads:
        dx, dy = [threads.submit(grad, z, each, retain_graph=True) for each in (x, y)]
        np.testing.assert_array_equal(dx.result()[0].data, [3, 4])
        np.testing.assert_array_equal(dy.result()[0].data, [1, 2])
    is_waiting = False
    assert product._node is not None
    assert product._node.needs == (True, True)
    both = grad(z, (x, y))
    np.testing.assert_array_equal(both[0].data, [3, 4])
    np.testing.assert_array_equal(both[1].data, [1, 2])


def test_kept_outputs_have_their_whole_history_where_one_gradient_is_wanted() -> None:
    class Exponential2(Function):
        """exp(x + y)"""

        reads = ()

        def forward(self, x: Any, y: Any) -> Any:
            self.z = np.exp(x + y)
            return self.z

        def backward(self, dz: Tensor) -> Any:  # type: ignore[override]
            slope = dz * self.output(self.z)
            return tuple(slope if needed else None for needed in self.needs)

    x, y = leaf([0.5, 1.0]), leaf([0.25, -1.0])
    (dx,) = grad(Exponential2.apply(x, y).sum(), x, create_graph=True)
    (dxdy,) = grad(dx.sum(), y)
    np.testing.assert_allclose(dxdy.data, np.exp(x.data + y.data))


def test_second_derivatives_of_a_power_of_0() -> None:
    assert gradgradcheck(lambda a, b: a**b, (leaf([2.0, 3.0]), leaf([0.0, 1.0])))
    a, b = leaf([0.0, 0.0, 0.0, 1e-320, np.inf]), leaf([0.0, 1.0, 2.0, 0.0, 0.0])
    da, db = grad((a**b).sum(), (a, b), create_graph=True)  # the values are PyTorch's
    np.testing.assert_array_equal(da.data, [0, 1, 0, 0, 0])
    np.testing.assert_array_equal(db.data, [0, 0, 0, np.log(1e-320), np.inf])
    for first in (da, db):
        for second in grad(first.sum(), (a, b), retain_graph=True):
            assert np.isfinite(second.data[:3]).all()


@pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
def test_what_cannot_be_checked(check: Callable[..., bool]) -> None:
    with pytest.raises(ValueError, match="needs an input that requires a gradient; received none"):
        check(lambda x: x, Tensor(A))
    with pytest.raises(ValueError, match=r"needs float64, .*; input 1 holds float32"):
        check(lambda x, y: x * y, (leaf(A), Tensor(A.astype(np.float32), requires_grad=True)))
    with pytest.raises(TypeError, match="the function must return a tensor of floating-point numbers"):
        check(lambda x: x.detach().numpy(), leaf(A))


@needs_torch
def test_the_checks_agree_with_those_of_pytorch() -> None:
    """About functions whose gradients and differences differ in the same way."""
    for function in (lambda x: x.abs(), lambda x: x**3, lambda x: x * x.detach(), lambda x: x.clip(-1e-7, None)):
        found = gradcheck(function, leaf([0.0, 1.0]), raise_exception=False)
        expected = torch.autograd.gradcheck(
            function, torch.tensor([0.0, 1.0], dtype=torch.float64, requires_grad=True), raise_exception=False
        )
        assert found == expected
