"""Layers of several inputs against NumPy, and beside Keras where it is installed."""

from __future__ import annotations

import inspect
from functools import reduce
from typing import Any

import numpy as np
import pytest

from pycnn import KerasTensor, Tensor, gradcheck
from pycnn import layers as L
from pycnn.layers import Input
from tests.kernels.problems import EACH_HALF

RNG = np.random.default_rng(5)
Shape = tuple[int | None, ...]

ELEMENTWISE: dict[str, Any] = {
    "Add": lambda arrays: reduce(np.add, arrays),
    "Multiply": lambda arrays: reduce(np.multiply, arrays),
    "Average": lambda arrays: reduce(np.add, arrays) / len(arrays),
    "Maximum": lambda arrays: reduce(np.maximum, arrays),
    "Minimum": lambda arrays: reduce(np.minimum, arrays),
    "Subtract": lambda arrays: arrays[0] - arrays[1],
}
#: Shapes of inputs, and the shape that they stretch to.
STRETCHED: list[tuple[list[Shape], Shape]] = [
    ([(4, 3, 2), (4, 3, 2)], (4, 3, 2)),
    ([(4, 3, 1), (4, 1, 2)], (4, 3, 2)),
    ([(4, 2), (4, 3, 2)], (4, 3, 2)),
    ([(4, 5, 1, 2), (4, 1)], (4, 5, 1, 2)),
    ([(0, 3), (0, 3)], (0, 3)),
]
#: Axis, shapes of inputs, and of the result.
CONCATENATED: list[tuple[int, list[Shape], Shape]] = [
    (-1, [(2, 3, 4), (2, 3, 1), (2, 3, 2)], (2, 3, 7)),
    (1, [(2, 3, 4), (2, 1, 4)], (2, 4, 4)),
    (-2, [(2, 3, 4), (2, 1, 4)], (2, 4, 4)),
    (3, [(2, 3, 4, 1), (2, 3, 4, 1)], (2, 3, 4, 2)),
    (1, [(2, 3)], (2, 3)),
]
#: Axes, shapes of the two inputs, and the sum as NumPy's einsum says it.
DOTS: list[tuple[Any, list[Shape], str]] = [
    (1, [(3, 4), (3, 4)], "na,na->n"),
    (-1, [(3, 4), (3, 4)], "na,na->n"),
    ((1, 2), [(3, 4, 5), (3, 2, 4)], "nab,nca->nbc"),
    ((2, 1), [(3, 4, 5), (3, 5)], "nab,nb->na"),
    ((1, 3), [(2, 3, 4, 5), (2, 6, 7, 3)], "nabc,ndea->nbcde"),
    ([-1, -2], [(2, 3, 4), (2, 4, 6)], "nab,nbc->nac"),
]


@pytest.fixture
def keras() -> Any:
    found = pytest.importorskip("keras", reason="Keras is in the extra 'peers'")
    if found.backend.backend() != "torch":
        pytest.skip("the comparison is with Keras on PyTorch: set KERAS_BACKEND=torch")
    return found


def of_shapes(shapes: list[Shape], dtype: str = "float32") -> list[np.ndarray]:
    return [RNG.normal(size=shape).astype(dtype) for shape in shapes]


def with_axes(arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Samples of fewer axes get some behind that of the batch."""
    rank = max(array.ndim for array in arrays)
    return [array.reshape(len(array), *(1,) * (rank - array.ndim), *array.shape[1:]) for array in arrays]


# -- against NumPy ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shapes", "expected"), STRETCHED)
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise(name: str, shapes: list[Shape], expected: Shape) -> None:
    for given in (shapes, shapes[::-1], [*shapes, shapes[0]]):
        if name == "Subtract" and len(given) > 2:
            continue
        layer, arrays = getattr(L, name)(), of_shapes(given)
        found = layer(arrays).numpy()
        assert found.shape == expected
        assert layer.compute_output_shape(given) == expected
        np.testing.assert_allclose(found, ELEMENTWISE[name](with_axes(arrays)), rtol=1e-6)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_gradients(name: str) -> None:
    layer = getattr(L, name)(dtype="float64")
    inputs = [Tensor(each, requires_grad=True) for each in of_shapes([(2, 3, 1), (2, 1, 4)], "float64")]
    assert gradcheck(lambda *tensors: layer(list(tensors)), inputs)


@pytest.mark.parametrize("name", ["Maximum", "Minimum"])
def test_where_two_are_the_same_each_has_half_of_the_gradient(name: str) -> None:
    a, b = Tensor([[1.0, 2.0, 5.0]], requires_grad=True), Tensor([[1.0, 3.0, 4.0]], requires_grad=True)
    getattr(L, name)()([a, b]).sum().backward()
    greater = np.array([[0.5, 0.0, 1.0]])
    assert a.grad is not None
    assert b.grad is not None
    np.testing.assert_array_equal(a.grad.numpy(), greater if name == "Maximum" else 1 - greater)
    np.testing.assert_array_equal(b.grad.numpy(), 1 - greater if name == "Maximum" else greater)


@pytest.mark.parametrize(("axis", "shapes", "expected"), CONCATENATED)
def test_concatenate(axis: int, shapes: list[Shape], expected: Shape) -> None:
    layer, arrays = L.Concatenate(axis=axis), of_shapes(shapes)
    found = layer(arrays).numpy()
    np.testing.assert_array_equal(found, np.concatenate(arrays, axis))
    assert found.shape == layer.compute_output_shape(shapes) == expected
    inputs = [Tensor(each.astype("float64"), requires_grad=True) for each in arrays]
    assert gradcheck(lambda *tensors: L.Concatenate(axis, dtype="float64")(list(tensors)), inputs)


def test_gradients_of_some_of_the_concatenated() -> None:
    a, b = (Tensor(each, requires_grad=needed) for each, needed in zip(of_shapes([(2, 3), (2, 1)]), (False, True)))
    (L.concatenate([a, b]) * np.arange(8, dtype="float32").reshape(2, 4)).sum().backward()
    assert a.grad is None
    assert b.grad is not None
    np.testing.assert_array_equal(b.grad.numpy(), [[3], [7]])


@pytest.mark.parametrize(("axes", "shapes", "einsum"), DOTS)
def test_dot(axes: Any, shapes: list[Shape], einsum: str) -> None:
    layer, arrays = L.Dot(axes), of_shapes(shapes)
    expected = np.einsum(einsum, *arrays)
    expected = expected[:, None] if expected.ndim == 1 else expected
    found = layer(arrays).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert found.shape == layer.compute_output_shape(shapes) == expected.shape
    inputs = [Tensor(each.astype("float64"), requires_grad=True) for each in arrays]
    assert gradcheck(lambda *tensors: L.Dot(axes, dtype="float64")(list(tensors)), inputs)
    first, second = axes if isinstance(axes, tuple | list) else (axes, axes)
    norms = [np.linalg.norm(x, axis=axis, keepdims=True) for x, axis in zip(arrays, (first, second))]
    expected = np.einsum(einsum, *(x / norm for x, norm in zip(arrays, norms)))
    cosines = L.Dot(axes, normalize=True)(arrays).numpy()
    np.testing.assert_allclose(cosines.reshape(expected.shape), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", EACH_HALF)
@pytest.mark.parametrize("name", [*ELEMENTWISE, "Concatenate"])
def test_halves_are_rounded_once(name: str, dtype: str) -> None:
    count = 2 if name == "Subtract" else 4
    layer = getattr(L, name)(dtype=dtype)
    halves = [Tensor(each).astype(dtype) for each in of_shapes([(3, 50)] * count)]
    wide = getattr(L, name)()([each.astype("float32") for each in halves])
    found = layer(halves)
    assert found.dtype == halves[0].dtype
    np.testing.assert_array_equal(found.astype("float32").numpy(), wide.astype(dtype).astype("float32").numpy())


@pytest.mark.parametrize(
    ("name", "shapes", "expected"),
    [
        ("Add", [(None, 3), (5, 3)], (5, 3)),
        ("Add", [(None, None, 3), (None, 4, 3)], (None, None, 3)),
        ("Multiply", [(None, None, 1), (None, 4, 3)], (None, None, 3)),
        ("Add", [(None, 2), (None, 7, 2)], (None, 7, 2)),
        ("Concatenate", [(None, None, 3), (None, 4, 2)], (None, 4, 5)),
        ("Concatenate", [(None, 4, None), (None, 4, 2)], (None, 4, None)),
    ],
)
def test_shapes_that_are_not_known(name: str, shapes: list[Shape], expected: Shape) -> None:
    assert getattr(L, name)().compute_output_shape(shapes) == expected
    symbolic = getattr(L, name)()([KerasTensor(shape) for shape in shapes])
    assert symbolic.shape == expected


@pytest.mark.parametrize("name", [*ELEMENTWISE, "Concatenate", "Dot"])
def test_the_function_is_the_layer(name: str) -> None:
    arguments = {"Concatenate": {"axis": 1}, "Dot": {"axes": 1}}.get(name, {})
    arrays = of_shapes([(2, 3), (2, 3)])
    function = getattr(L, name.lower())
    np.testing.assert_array_equal(function(arrays, **arguments).numpy(), getattr(L, name)(**arguments)(arrays).numpy())
    y = function([Input((3,)), Input((3,))], name="merged", **arguments)
    assert type(y.history.layer) is getattr(L, name)
    assert y.history.layer.name == "merged"


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: L.Add()(np.ones((2, 3))), r"expected a list of tensors, received inputs of shape \(None, 3\)"),
        (lambda: L.Add()(Input((3,))), r"expected a list of tensors, received inputs of shape \(None, 3\)"),
        (lambda: L.Add()([]), "at least 1 tensor"),
        (lambda: L.Subtract()([np.ones((2, 3))] * 3), "a list of 2 tensors, received 3"),
        (lambda: L.Dot(1)([np.ones((2, 3))]), "a list of 2 tensors, received 1"),
        (lambda: L.Add()([np.ones((2, 3)), np.ones((2, 4))]), r"sizes of 1, which stretch; received \(3,\), \(4,\)"),
        (lambda: L.Add()([np.ones((2, 3)), np.ones((1, 3))]), r"one batch size, received \(2, 3\), \(1, 3\)"),
        (lambda: L.Add()([Input((3,), 2), Input((3,), 4)]), r"one batch size, received \(2, 3\), \(4, 3\)"),
        (lambda: L.Concatenate()([np.ones((2, 3, 4)), np.ones((2, 4, 4))]), "same shape but for the axis -1"),
        (lambda: L.Concatenate()([np.ones((2, 3, 4)), np.ones((2, 4))]), "one number of axes"),
        (lambda: L.Concatenate(0)([np.ones((2, 3))] * 2), "beside that of the batch"),
        (lambda: L.Concatenate(2)([np.ones((2, 3))] * 2), "with an axis 2"),
        (lambda: L.Concatenate("last"), "axis"),
        (lambda: L.Dot((1, 1))([np.ones((2, 3)), np.ones((2, 4))]), "received 3 and 4"),
        (lambda: L.Dot(0)([np.ones((2, 3))] * 2), "beside that of the batch"),
        (lambda: L.Dot((1, 2, 3)), "one axis, or one for each"),
        (lambda: L.Dense(2)([Input((3,)), Input((3,))]), "expected one tensor, received a list of 2"),
        (lambda: L.Dense(2)([Tensor(np.ones((1, 3)))] * 2), "expected one tensor, received a list of 2"),
    ],
)
def test_refusals(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_arrays_beside_symbolic_tensors_are_refused() -> None:
    with pytest.raises(TypeError, match="expected only symbolic tensors beside a symbolic tensor, received ndarray"):
        L.Add()([Input((3,)), np.ones((1, 3))])


# -- beside Keras ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*ELEMENTWISE, "Concatenate", "Dot"])
def test_arguments_are_those_of_keras(name: str, keras: Any) -> None:
    def arguments(module: Any) -> dict[str, Any]:
        parameters = list(inspect.signature(getattr(module, name).__init__).parameters.values())[1:]
        return {each.name: each.default for each in parameters}

    assert arguments(L) == arguments(keras.layers)
    ours, theirs = (inspect.signature(getattr(module, name.lower())) for module in (L, keras.layers))
    assert {p.name: p.default for p in ours.parameters.values()} == {
        p.name: p.default for p in theirs.parameters.values()
    }


def beside_keras(keras: Any, name: str, arguments: dict[str, Any], shapes: list[Shape]) -> None:
    """Shapes, outputs and gradients."""
    torch = pytest.importorskip("torch")
    ours, theirs = getattr(L, name)(**arguments), getattr(keras.layers, name)(**arguments)
    symbols = theirs([keras.Input(shape[1:]) for shape in shapes])
    assert ours([Input(shape[1:]) for shape in shapes]).shape == symbols.shape
    arrays = of_shapes(shapes)
    mine, other = ([make(each) for each in arrays] for make in (lambda x: Tensor(x, requires_grad=True), torch.tensor))
    for each in other:
        each.requires_grad = True
    y, z = ours(mine), theirs(other)
    np.testing.assert_allclose(y.data, z.detach().numpy(), rtol=1e-5, atol=1e-6)
    dy = RNG.normal(size=y.shape).astype(np.float32)
    y.backward(dy)
    z.backward(torch.tensor(dy))
    for a, b in zip(mine, other):
        np.testing.assert_allclose(a.grad.data, b.grad.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("shapes", "expected"), STRETCHED[:-1])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_beside_keras(name: str, shapes: list[Shape], expected: Shape, keras: Any) -> None:
    beside_keras(keras, name, {}, shapes)


@pytest.mark.parametrize(("axis", "shapes", "expected"), CONCATENATED)
def test_concatenate_beside_keras(axis: int, shapes: list[Shape], expected: Shape, keras: Any) -> None:
    beside_keras(keras, "Concatenate", {"axis": axis}, shapes)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize(("axes", "shapes", "einsum"), DOTS[:-1])
def test_dot_beside_keras(axes: Any, shapes: list[Shape], einsum: str, normalize: bool, keras: Any) -> None:
    beside_keras(keras, "Dot", {"axes": axes, "normalize": normalize}, shapes)


@pytest.mark.parametrize("axes", [(1, 2), (2, 1)])
def test_dot_of_no_samples(axes: tuple[int, int]) -> None:
    shapes = [(0, 5, 2), (0, 4, 5)] if axes == (1, 2) else [(0, 2, 5), (0, 5, 4)]
    assert L.Dot(axes=axes)([np.ones(shape, np.float32) for shape in shapes]).shape == (0, 2, 4)
