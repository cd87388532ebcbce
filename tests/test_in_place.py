"""Changes in place: values, gradients and refusals, with PyTorch as the second opinion; and what saved values say."""

from __future__ import annotations

import copy as copying
import gc
import importlib
import inspect
import pickle
import pkgutil
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import pycnn
import pycnn.functional as F
from pycnn import Tensor, changes
from pycnn.autograd import Function
from pycnn.functional.activation import logits_of
from pycnn.in_place import assign_in_place
from pycnn.layers import BatchNormalization, Dense
from pycnn.optimizers import SGD, Adam, Optimizer
from tests.test_autograd import OPERATIONS, PENDING

try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment]

needs_torch = pytest.mark.skipif(torch is None, reason="PyTorch is in the extra 'peers'")

A = np.array([[1.0, -2.0, 3.0], [0.5, 4.0, -1.0]])
B = np.array([[2.0, 0.5, -1.0], [3.0, -0.25, 1.5]])


def leaf(array: Any) -> Tensor:
    return Tensor(np.array(array, np.float64), requires_grad=True)


# The same program for pycnn and for PyTorch: it takes two leaves and gives what is differentiated.

PROGRAMS: dict[str, Callable[[Any, Any], Any]] = {}


def program(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    PROGRAMS[function.__name__] = function
    return function


@program
def add(x: Any, w: Any) -> Any:
    y = x * 3
    assert y.add_(w) is y
    return y * y


@program
def subtract_a_number(x: Any, w: Any) -> Any:
    y = x * w
    y.sub_(2.0)
    return y * w


@program
def multiply(x: Any, w: Any) -> Any:
    """The gradient of w needs what y was."""
    y = x * 3
    y.mul_(w)
    return y


@program
def divide(x: Any, w: Any) -> Any:
    y = x * x
    y.div_(w)
    return y * x


@program
def operators(x: Any, w: Any) -> Any:
    y = z = x * 1
    y += w
    y -= 2
    y *= x
    y /= 4
    assert y is z
    return y * y


@program
def broadcast(x: Any, w: Any) -> Any:
    y = x * 1
    y += w[0]
    y *= w[:, :1]
    return y


@program
def copy(x: Any, w: Any) -> Any:
    y = x * 2
    z = y.sum()
    y.copy_(w * 5)
    return y * y + z


@program
def copy_a_row(x: Any, w: Any) -> Any:
    y = x * 2
    y.copy_(w[1])
    return y * w


@program
def fill(x: Any, w: Any) -> Any:
    y = x * 2
    y.fill_(3.0)
    return y * w + x


@program
def zero(x: Any, w: Any) -> Any:
    y = x * w
    y.zero_()
    return y + w


@program
def nothing_is_left(x: Any, w: Any) -> Any:
    y = x * w
    y.zero_()
    return y * 2


@program
def assign_an_element(x: Any, w: Any) -> Any:
    y = x * w
    y[1, 2] = w[0, 0] * 7
    return y * y


@program
def assign_a_slice(x: Any, w: Any) -> Any:
    y = x * w
    y[:, 1:] = w[:, :2] * x[:, :2]
    return y * y


@program
def assign_a_number(x: Any, w: Any) -> Any:
    y = x * w
    y[..., 0] = 5.0
    return y * y


@program
def assign_broadcast(x: Any, w: Any) -> Any:
    y = x * w
    y[:, ::2] = w[0, 1]
    y[0] = w[1:2] * 2
    return y * y


@program
def assign_by_a_list(x: Any, w: Any) -> Any:
    y = x * w
    y[[1, 0], [0, 2]] = w[0, :2] * 3
    return y * y


@program
def assign_by_a_mask(x: Any, w: Any) -> Any:
    y = x * w
    y[x > 0] = w.sum()
    return y * y


@program
def assign_where_nothing_was_recorded(x: Any, w: Any) -> Any:
    y = (x * 0).detach()
    assert not y.requires_grad
    y[0] = w[1]
    assert y.requires_grad
    y[1, :2] = x[0, 1:]
    return y * y


@program
def assign_itself_shifted(x: Any, w: Any) -> Any:
    y = x * w
    y[:, 1:] = y[:, :2] * 1
    return y * y


@program
def a_row_goes_on(x: Any, w: Any) -> Any:
    y = x * w
    y[0] += w[1]
    y[1] *= x[0]
    y[:, 2] /= 4
    return y * y


@program
def a_view_changes_what_it_looks_into(x: Any, w: Any) -> Any:
    y = x * w
    row = y[1]
    row.mul_(w[0])
    return y * x + row


@program
def a_view_of_a_view(x: Any, w: Any) -> Any:
    y = x * w
    part = y.T[1:][0]
    part += w[:, 0]
    part *= 2
    return y * y + part.sum()


@program
def a_reshaped_view(x: Any, w: Any) -> Any:
    y = x * w
    row = y.reshape(6)
    row[2:4] = w[0, :2] * 3
    return y * x + row.reshape(2, 3)


@program
def an_element_by_its_view(x: Any, w: Any) -> Any:
    y = x * w
    y[1][2].add_(w[0, 0] * w[0, 1])
    return y * y


@program
def a_view_sees_the_change(x: Any, w: Any) -> Any:
    y = x * w
    before, row = y.sum(), y[0]
    y.mul_(w * 2)
    return row * x[1] + before


@program
def views_see_each_others_changes(x: Any, w: Any) -> Any:
    y = x * w
    row, column = y[0], y[:, 1]
    row.mul_(w[1])
    column.add_(x[:, 0])
    row.sub_(x[1])
    return row * 2 + column.sum() + y


@program
def a_view_of_what_had_no_history(x: Any, w: Any) -> Any:
    y = (x * 0).detach()
    row = y[0]
    row.copy_(w[1])
    y[1].add_(x[0])
    return y * y + row


@program
def a_view_gets_a_history_with_what_it_looks_into(x: Any, w: Any) -> Any:
    y = (x * 0).detach()
    row = y[1]
    y.add_(w)
    assert row.requires_grad
    return row * row


@program
def used_before_and_after(x: Any, w: Any) -> Any:
    y = x * w
    total = y.sum()
    y.mul_(2.0)
    return y * total


@program
def without_recording(x: Any, w: Any) -> Any:
    y = x * 3
    with pycnn.no_grad() if isinstance(x, Tensor) else torch.no_grad():
        y.add_(w)
        x.mul_(1.0)
        x[0, 0] = 1.0
    return y + w


@program
def a_detached_tensor(x: Any, w: Any) -> Any:
    y = x * 2
    other = y.detach()
    other.mul_(w)
    return other * other + y


@program
def many_times(x: Any, w: Any) -> Any:
    y = x * 1
    for row in range(2):
        for column in range(3):
            y[row, column] = y[row, column] * 2 + w[row, column] + y[row - 1, column - 1]
    return y


@needs_torch
@pytest.mark.parametrize("name", PROGRAMS)
def test_values_and_gradients_are_those_of_pytorch(name: str) -> None:
    x, w = leaf(A), leaf(B)
    xt, wt = (torch.tensor(array, requires_grad=True) for array in (A, B))
    y, yt = PROGRAMS[name](x, w), PROGRAMS[name](xt, wt)
    np.testing.assert_allclose(y.detach().numpy(), yt.detach().numpy())
    weights = np.random.default_rng(0).standard_normal(y.shape)
    y.backward(weights)
    yt.backward(torch.tensor(weights))
    for found, expected in ((x, xt), (w, wt)):
        np.testing.assert_allclose(found.data, expected.detach().numpy())
        if expected.grad is None:
            assert found.grad is None
        else:
            np.testing.assert_allclose(found.grad.data, expected.grad.numpy())


def second_derivatives(name: str) -> tuple[np.ndarray | None, ...]:
    x, w = leaf(A), leaf(B)
    found = pycnn.grad((PROGRAMS[name](x, w) ** 2).sum(), (x, w), create_graph=True, allow_unused=True)
    mixed = sum(((g * g).sum() for g in found if g is not None), Tensor(np.zeros(())))
    if not mixed.requires_grad:
        return None, None
    return tuple(None if g is None else g.numpy() for g in pycnn.grad(mixed, (x, w), allow_unused=True))


def second_derivatives_by_pytorch(name: str) -> tuple[np.ndarray | None, ...]:
    x, w = (torch.tensor(array, requires_grad=True) for array in (A, B))
    y = (PROGRAMS[name](x, w) ** 2).sum()
    found = torch.autograd.grad(y, (x, w), create_graph=True, allow_unused=True)
    mixed = sum((g * g).sum() for g in found if g is not None)
    if not mixed.requires_grad:
        return None, None
    return tuple(None if g is None else g.numpy() for g in torch.autograd.grad(mixed, (x, w), allow_unused=True))


@needs_torch
@pytest.mark.parametrize("name", PROGRAMS)
def test_second_derivatives_are_those_of_pytorch(name: str) -> None:
    for found, expected in zip(second_derivatives(name), second_derivatives_by_pytorch(name)):
        if expected is None:
            assert found is None or not found.any()
        elif found is None:
            assert not expected.any()
        else:
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_operands_in_the_same_memory() -> None:
    """Which PyTorch refuses: the gradient needs them as they were."""
    x, other = leaf(A), leaf(A)
    y, z = x * 3, other * 3
    y *= y
    y.div_(y[0])
    z = z * z
    z = z / z[0]
    np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy())
    (y * B).sum().backward()
    (z * B).sum().backward()
    np.testing.assert_allclose(x.grad.data, other.grad.data)


# Refusals.

CHANGES: dict[str, Callable[[Any], Any]] = {
    "add_": lambda t: t.add_(1.0),
    "sub_": lambda t: t.sub_(1.0),
    "mul_": lambda t: t.mul_(2.0),
    "div_": lambda t: t.div_(2.0),
    "copy_": lambda t: t.copy_(t * 2),
    "fill_": lambda t: t.fill_(1.0),
    "zero_": lambda t: t.zero_(),
    "__setitem__": lambda t: t.__setitem__((..., 0), 1.25),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_leaf_is_not_changed_while_operations_are_recorded(name: str) -> None:
    for of, kind in ((lambda t: t, "a leaf"), (lambda t: t[0], "a view of a leaf")):
        x = leaf(A)
        with pytest.raises(RuntimeError, match=f"{name} cannot change {kind} that requires a gradient while .*no_grad"):
            CHANGES[name](of(x))
        np.testing.assert_array_equal(x.data, A)
        with pycnn.no_grad():
            CHANGES[name](of(x))
        assert not np.array_equal(x.data, A)
        assert x.requires_grad
        assert x._node is None


@pytest.mark.parametrize("name", CHANGES)
def test_a_view_that_was_made_a_leaf_is_one(name: str) -> None:
    w = Tensor(np.arange(6.0)).reshape(2, 3)
    w.requires_grad = True
    with pytest.raises(RuntimeError, match=f"{name} cannot change a leaf that requires a gradient"):
        CHANGES[name](w)
    with pytest.raises(RuntimeError, match=f"{name} cannot change a view of a leaf that requires a gradient"):
        CHANGES[name](w[0])
    np.testing.assert_array_equal(w.data, [[0, 1, 2], [3, 4, 5]])
    (w * w).sum().backward()
    np.testing.assert_array_equal(w.grad.data, 2 * w.data)
    with pycnn.no_grad():
        CHANGES[name](w)
    assert w.requires_grad
    assert w._node is None


def test_a_view_that_was_made_a_leaf_stays_one_when_what_it_looks_into_changes() -> None:
    v, p = Tensor(np.arange(3.0)), leaf(1.0)
    w = v[1:]
    w.requires_grad = True
    v.add_(p)
    (w * w).sum().backward()
    np.testing.assert_array_equal(w.grad.data, [4, 6])
    assert p.grad is None
    late = v[1:]  # has come with a history already, and is no leaf
    late.requires_grad = True
    with pytest.raises(ValueError, match="the result of an operation cannot stop requiring a gradient"):
        late.requires_grad = False
    late.sum().backward()
    assert p.grad.item() == 2


@needs_torch
@pytest.mark.parametrize("name", CHANGES)
def test_pytorch_refuses_the_same(name: str) -> None:
    for of in (lambda t: t, lambda t: t[0]):
        with pytest.raises(RuntimeError):
            CHANGES[name](of(torch.tensor(A, requires_grad=True)))


@pytest.mark.parametrize("name", CHANGES)
def test_a_read_only_array_is_not_changed(name: str) -> None:
    array = A.copy()
    array.flags.writeable = False
    with pytest.raises(ValueError, match=f"{name} changes an array in place: it must be writable"):
        CHANGES[name](Tensor(array))


def test_shapes_that_do_not_fit() -> None:
    y = leaf(A) * 1
    with pytest.raises(ValueError, match=r"add_ must not change the shape \(2, 3\); the result would have \(4, 2, 3\)"):
        y.add_(np.ones((4, 2, 3)))
    with pytest.raises(
        ValueError, match=r"__setitem__ needs values that broadcast to the shape \(3,\); received \(2,\)"
    ):
        y[0] = np.ones(2)
    with pytest.raises(
        ValueError, match=r"copy_ needs values that broadcast to the shape \(2, 3\); received \(2, 2, 3\)"
    ):
        y.copy_(np.ones((2, 2, 3)))
    np.testing.assert_array_equal(y.detach().numpy(), A)


def test_integers_stay_integers() -> None:
    x = Tensor([1, 2])
    with pytest.raises(TypeError, match="div_ must not change the dtype int64; the result would be float64"):
        x.div_(2)
    x += 1
    x[0] = 7.9  # as in NumPy and PyTorch
    np.testing.assert_array_equal(x.numpy(), [7, 3])
    assert x.dtype == np.int64


def test_a_change_keeps_the_dtype() -> None:
    x = Tensor(np.ones(3, np.float32), requires_grad=True)
    y = x * 2
    y += Tensor(np.ones(3))
    y[1:] = Tensor(np.ones(2))
    assert y.dtype == np.float32
    y.sum().backward()
    assert x.grad.dtype == np.float32
    np.testing.assert_array_equal(x.grad.data, [2, 0, 0])


@given(data=st.data(), shape=hnp.array_shapes(min_dims=0, max_dims=3, max_side=4))
def test_assignment_by_any_index(data: st.DataObject, shape: tuple[int, ...]) -> None:
    indices = hnp.basic_indices(shape, allow_newaxis=True)
    if shape:
        indices |= hnp.arrays(bool, shape) | hnp.integer_array_indices(shape)
    index = data.draw(indices)
    old, weights = (np.array(half) for half in np.random.default_rng(0).standard_normal((2, *shape)))
    places = np.arange(old.size).reshape(shape)[index]
    values = np.random.default_rng(1).standard_normal(np.shape(places))
    x, w = leaf(old), leaf(values)
    y = x * 1
    y[index] = w
    expected = old.copy()
    expected[index] = values
    np.testing.assert_array_equal(y.detach().numpy(), expected)
    (y * weights).sum().backward()
    left = np.ones(shape)
    left[index] = 0
    np.testing.assert_array_equal(x.grad.data, weights * left)
    # Of the values for one place only the last is there: it alone has a gradient.
    last = {place: number for number, place in enumerate(np.ravel(places).tolist())}
    kept = np.isin(np.arange(values.size), list(last.values())).reshape(values.shape)
    np.testing.assert_array_equal(w.grad.data, weights[index] * kept)


def test_repeated_places_keep_the_last_value() -> None:
    y, w = Tensor(np.zeros(3)), leaf([1.0, 2.0, 3.0])
    y[[0, 2, 0]] = w
    np.testing.assert_array_equal(y.detach().numpy(), [3, 0, 2])
    y.sum().backward()
    np.testing.assert_array_equal(w.grad.data, [0, 1, 1])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves(dtype: str) -> None:
    x = Tensor([1.0, 2.0, 4.0]).astype(dtype).detach()
    x.requires_grad = True
    y = x * 2
    y.add_(1.0)
    y[0] = x[1]
    y *= y
    y.sum().backward()
    assert str(y.dtype) == dtype
    np.testing.assert_array_equal(y.detach().numpy().astype(float), [4, 25, 81])
    np.testing.assert_array_equal(x.grad.data.astype(float), [0, 20 + 4, 36])


@needs_torch
def test_arrays_that_are_not_contiguous() -> None:
    array = np.zeros((4, 3)).T[::-1, ::2]
    y, w = Tensor(array), leaf(np.arange(6.0).reshape(3, 2))
    y += w
    y[1] = w[0] * 2
    y.T[0].mul_(w[:, 1])
    np.testing.assert_array_equal(array, y.detach().numpy())
    (y * y).sum().backward()
    xt = torch.zeros(3, 2, dtype=torch.float64)
    wt = torch.tensor(w.data, requires_grad=True)
    xt += wt
    xt[1] = wt[0] * 2
    xt.T[0].mul_(wt[:, 1])
    (xt * xt).sum().backward()
    np.testing.assert_allclose(w.grad.data, wt.grad.numpy())


def test_no_circle_keeps_memory() -> None:
    """What was changed in place is let go without the garbage collector."""
    gc.disable()
    try:
        x = leaf(A)
        y = x * 2
        y.mul_(x)
        y[0] = x[1]
        assign_in_place(y, F.relu(y))
        y[1].add_(1.0)
        alive = weakref.ref(y)
        del y
        assert alive() is None
    finally:
        gc.enable()


def test_no_circle_goes_through_a_view() -> None:
    p = leaf(np.ones(4))
    gc.disable()
    try:
        for read in (lambda v: v * v, lambda v: v.log() + v[1:].sum(), lambda v: F.softplus(v)):
            x = Tensor(np.zeros(4))
            x.add_(p)
            v = x[1:]
            y = read(v)
            x.add_(y.sum())
            alive = weakref.ref(x)
            del x, v, y
            assert alive() is None
    finally:
        gc.enable()


def test_a_copy_of_a_view_is_a_view_of_nothing() -> None:
    x, p = Tensor(np.zeros(4)), leaf(np.ones(3))
    for copied in (copying.deepcopy(x[1:]), pickle.loads(pickle.dumps(x[1:]))):
        copied.add_(p)
        np.testing.assert_array_equal(copied.data, [1, 1, 1])
        assert not x.requires_grad
        np.testing.assert_array_equal(x.data, [0, 0, 0, 0])
    same = copying.copy(x[1:])
    same.add_(p)
    x.sum().backward()
    np.testing.assert_array_equal(x.data, [0, 1, 1, 1])
    np.testing.assert_array_equal(p.grad.data, [1, 1, 1])


def test_a_view_whose_array_was_replaced_is_a_view_of_nothing() -> None:
    x, p = Tensor(np.zeros(4)), leaf(np.ones(3))
    v = x[1:]
    inner = v[1:]
    v.data = np.full(3, 7.0)
    v.add_(p)
    np.testing.assert_array_equal(v.data, [8, 8, 8])
    np.testing.assert_array_equal(x.data, [0, 0, 0, 0])
    assert not x.requires_grad
    assert not inner.requires_grad
    inner.add_(p[1:])  # is a view of x still
    np.testing.assert_array_equal(x.data, [0, 0, 1, 1])
    assert x.requires_grad
    (v * v).sum().backward()
    np.testing.assert_array_equal(p.grad.data, [16, 16, 16])


def test_a_view_of_what_has_got_another_array_is_a_view_of_nothing() -> None:
    x, p = Tensor(np.zeros(4)), leaf(np.ones(3))
    v = x[1:]
    x.data = np.full(4, 7.0)
    v.add_(p)
    np.testing.assert_array_equal(v.data, [1, 1, 1])
    np.testing.assert_array_equal(x.data, [7, 7, 7, 7])
    assert v.requires_grad
    assert not x.requires_grad


def test_thousands_of_changes() -> None:
    x = leaf([1.0, 2.0])
    y = x * 1
    for _ in range(3000):
        y[0] += x[1]
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.data, [1, 3001])


def test_thousands_of_views_of_views() -> None:
    x = leaf(np.ones(3000))
    y = x * 1
    for _ in range(2999):
        y = y[1:]
    y.add_(1.0)
    y.backward()
    assert x.grad.data.sum() == 1


# Operations with inplace=True.


def test_assignment_to_an_array() -> None:
    x = A.copy()
    assert assign_in_place(x, F.relu(x)) is x
    np.testing.assert_array_equal(x, np.maximum(A, 0))
    x.flags.writeable = False
    with pytest.raises(ValueError, match="relu changes an array in place: it must be writable"):
        assign_in_place(x, F.relu(x), "relu")
    with pytest.raises(ValueError, match=r"broadcast to the shape \(2, 3\); received \(3, 2\)"):
        assign_in_place(A.copy(), np.ones((3, 2)))


IN_PLACE: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "relu": (F.relu, lambda t: torch.nn.functional.relu(t, inplace=True)),
    "tanh": (F.tanh, lambda t: t.tanh_()),
    "sigmoid": (F.sigmoid, lambda t: t.sigmoid_()),
    "square": (lambda t: t * t, lambda t: t.square_()),
    "the same": (lambda t: t, lambda t: t),
}


@needs_torch
@pytest.mark.parametrize("name", IN_PLACE)
@pytest.mark.parametrize("part", [False, True])
def test_assignment_to_a_tensor(name: str, part: bool) -> None:
    operation, change = IN_PLACE[name]
    x, xt = leaf(A), torch.tensor(A, requires_grad=True)
    y, yt = x * 3, xt * 3
    target, expected = (y[1], yt[1]) if part else (y, yt)
    memory = target.data
    assert assign_in_place(target, operation(target)) is target
    change(expected)
    assert target.data is memory
    np.testing.assert_allclose(y.detach().numpy(), yt.detach().numpy())
    (y * y * x).sum().backward()
    (yt * yt * xt).sum().backward()
    np.testing.assert_allclose(x.grad.data, xt.grad.numpy())


def test_assignment_to_a_leaf() -> None:
    x = leaf(A)
    with pytest.raises(RuntimeError, match="relu cannot change a leaf that requires a gradient"):
        assign_in_place(x, F.relu(x), "relu")
    image = Tensor(A.copy())
    assert not assign_in_place(image, F.relu(image)).requires_grad
    np.testing.assert_array_equal(image.numpy(), np.maximum(A, 0))


# Values that were saved and changed before they are used.


def changed(tensor: Tensor) -> None:
    with pycnn.no_grad():
        tensor.mul_(1.5)


@pytest.mark.parametrize("name", [*OPERATIONS, *PENDING])
def test_saved_values_that_are_changed_are_noticed(name: str) -> None:
    """After a change of an input or of the result the gradient is refused, or right all the same."""
    operation, arrays = (OPERATIONS | PENDING)[name]

    def gradients(change: Callable[[list[Tensor], Tensor], None]) -> list[np.ndarray | None]:
        tensors = [Tensor(array.copy(), requires_grad=True) for array in arrays]
        y = operation(*tensors)
        change(tensors, y)
        y.backward(np.random.default_rng(0).standard_normal(y.shape))
        return [None if t.grad is None else t.grad.data for t in tensors]

    expected = gradients(lambda tensors, y: None)
    for place in range(len(arrays) + 1):
        try:
            found = gradients(lambda tensors, y, place=place: changed([*tensors, y][place]))
        except RuntimeError as error:
            assert "has changed in place since" in str(error)  # noqa: PT017 - both outcomes are right
        else:
            for one, other in zip(found, expected):
                np.testing.assert_array_equal(one, other, err_msg=f"operand {place} was changed")


#: Operations, and which of their operands (the last is the result) may be changed since their gradients read nothing of
#: it: as in PyTorch, but where an operation there saves its input, and here its result.
UNREAD: dict[str, tuple[str, ...]] = {
    "add": ("a", "b", "y"), "subtract": ("a", "b", "y"), "sum": ("a", "y"), "mean": ("a", "y"), "transpose": ("a", "y"),
    "multiply": ("y",), "divide": ("y",), "matmul": ("y",), "exp": ("a",), "abs": ("a", "y"), "clip": ("a", "y"),
    "relu": ("a",), "tanh": ("a",), "sigmoid": ("a",), "softmax": ("a",), "log_softmax": ("a",), "dropout": ("a", "y"),
    "conv2d": ("c", "y"), "conv2d relu": ("c",), "conv_transpose2d": ("c", "y"), "linear": ("c", "y"),
    "max_pool2d overlapping": ("a", "y"), "avg_pool2d padded": ("a", "y"), "batch_norm": ("c", "y"),
    "layer_norm": ("c", "y"), "cross_entropy": ("y",), "index": ("a", "y"), "astype": ("a", "y"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNREAD)
def test_what_is_read_and_what_is_not(name: str) -> None:
    operation, arrays = OPERATIONS[name]
    for place in range(len(arrays) + 1):
        tensors = [Tensor(array.copy(), requires_grad=True) for array in arrays]
        y = operation(*tensors)
        changed([*tensors, y][place])
        if (*"abcde"[: len(arrays)], "y")[place] in UNREAD[name]:
            y.sum().backward()
        else:
            with pytest.raises(RuntimeError, match=r"the gradient of \w+ is computed of .* Tensor.mul_ has changed"):
                y.sum().backward()


def all_operations() -> list[type[Function]]:
    for module in pkgutil.walk_packages(pycnn.__path__, "pycnn."):
        if not module.name.startswith("pycnn.interop.") and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found: list[type[Function]] = [Function]
    for operation in found:
        found.extend(each for each in operation.__subclasses__() if each not in found)
    return [each for each in found if each.__module__.startswith("pycnn.") and each.backward is not Function.backward]


def test_operations_whose_gradients_read_no_input_say_so() -> None:
    """Without ``reads`` changes of their inputs would be refused, and the inputs kept, for nothing."""
    operations = all_operations()
    assert len(operations) > 50
    for operation in operations:
        classes = [each for each in operation.__mro__ if issubclass(each, Function) and each is not Function]
        if not any("self.inputs" in inspect.getsource(each) for each in classes):
            assert operation.reads == (), f"{operation.__module__}.{operation.__name__} reads no input: reads = ()"


@pytest.mark.parametrize(
    "operation",
    [lambda x: F.pixel_shuffle(x, 2), lambda x: F.pad(x, (1, 1, 1, 1), "reflect"),
     lambda x: F.interpolate(x, scale_factor=2.0, mode="bilinear"), lambda x: F.rrelu(x, training=True),
     lambda x: F.alpha_dropout(x, 0.5, training=True)],
)  # fmt: skip
def test_inputs_of_linear_operations_may_change(operation: Callable[[Tensor], Tensor]) -> None:
    w = leaf(np.arange(144.0).reshape(1, 4, 6, 6) - 70)
    x = w * 1
    y = operation(x).sum()
    (before,) = pycnn.grad(y, w, retain_graph=True)
    x.add_(1.0)
    y.backward()
    np.testing.assert_array_equal(w.grad.data, before.data)


def test_only_gradients_that_are_wanted_read() -> None:
    x, w = leaf(A), Tensor(B.copy())
    y = x * w
    changed(x)  # only the gradient of w would be computed of it
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.data, B)
    y = x * w
    changed(w)
    with pytest.raises(
        RuntimeError, match=r"the gradient of Multiply is computed of its input 1, of the shape \(2, 3\)"
    ):
        y.sum().backward()


@pytest.mark.parametrize(
    "change",
    [lambda x: changed(x), lambda x: changed(x[0]), lambda x: changed(x.T), lambda x: changed(x.reshape(-1)[2:]),
     lambda x: changed(x.detach()), lambda x: changed(Tensor(x.data)), lambda x: changed(Tensor(x.data[1:]))],
)  # fmt: skip
@pytest.mark.parametrize("view", [lambda x: x, lambda x: x.T, lambda x: x[1], lambda x: x.detach() * x])
def test_views_are_changed_together(change: Callable[[Tensor], None], view: Callable[[Tensor], Tensor]) -> None:
    x = leaf(A)
    seen = view(x)
    y = seen * seen
    change(x)
    if seen._node is None or seen._view is not None:
        with pytest.raises(RuntimeError, match="has changed in place since"):
            y.sum().backward()


def test_a_copy_is_changed_alone() -> None:
    x = leaf(A)
    y = x * x
    changed(x.astype(np.float64))
    changed(Tensor(x.data.copy()))
    changed(x.T.reshape(-1))  # which NumPy has to copy
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.data, 2 * A)


def test_a_change_before_the_operation_is_none_after_it() -> None:
    x = leaf(A)
    changed(x)
    (x * x).sum().backward()
    np.testing.assert_array_equal(x.grad.data, 3 * A)


def test_a_second_derivative_reads_too() -> None:
    x = leaf(A)
    (slope,) = pycnn.grad((x**3).sum(), x, create_graph=True)
    changed(x)
    with pytest.raises(RuntimeError, match="has changed in place since"):
        slope.sum().backward()


@pytest.mark.parametrize("optimizer", [SGD(0.1), SGD(0.1, 0.9), Adam()])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_an_optimizer_changes_its_parameters(optimizer: Optimizer, dtype: str) -> None:
    w = Tensor(np.ones(3), requires_grad=False).astype(dtype).detach()
    w.requires_grad = True
    y = (w * w).sum()
    y.backward(retain_graph=True)
    optimizer.apply([w])
    with pytest.raises(RuntimeError, match=rf"which {type(optimizer).__name__}\.apply has changed in place since"):
        y.backward()


def test_layers_change_weights_and_statistics() -> None:
    layer, x = Dense(2), leaf(A)
    y = layer(x)
    layer.set_weights([2 * weight for weight in layer.get_weights()])
    with pytest.raises(RuntimeError, match="which set_weights has changed in place since"):
        y.sum().backward()
    norm = BatchNormalization()
    y = norm(x)
    norm(x, training=True)
    with pytest.raises(RuntimeError, match="which the training of a batch normalisation has changed in place since"):
        y.sum().backward()


def test_logits_are_forgotten_when_they_are_no_longer_those_of_the_probabilities() -> None:
    for change in (lambda x, p: changed(x), lambda x, p: changed(p), lambda x, p: changed(p[0])):
        x = Tensor(A.copy())
        p = F.softmax(x, 1)
        assert logits_of(p, "softmax") is x
        change(x, p)
        assert logits_of(p, "softmax") is None


def test_changes_of_what_is_gone_are_forgotten() -> None:
    before = len(changes._last)
    for _ in range(100):
        changed(Tensor(np.ones(1000)))
    assert len(changes._last) <= before + 1
