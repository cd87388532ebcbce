"""Tensor: what it is made from, what it shares, and that its operators are NumPy's."""

from __future__ import annotations

import copy
import operator
import pickle
import weakref
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pycnn import Tensor, backend


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (1.5, "float32"),
        ([1.0, 2.0], "float32"),
        ([[1, 2], [3, 4]], "int64"),
        (True, "bool"),
        (np.float64(1), "float64"),
        (np.ones(2), "float64"),
        (np.ones(2, np.float32), "float32"),
        (np.ones(2, np.float16), "float16"),
        (np.ones(2, np.uint8), "uint8"),
        (np.ones(2, ">f8"), "float64"),
        ([], "float32"),
    ],
    ids=str,
)
def test_data_and_dtype(data: Any, dtype: str) -> None:
    tensor = Tensor(data)
    assert tensor.dtype == dtype
    assert tensor.dtype.isnative
    np.testing.assert_array_equal(tensor.numpy(), data)


def test_an_array_is_not_copied() -> None:
    a = np.zeros((2, 3))
    tensor = Tensor(a)
    assert tensor.data is a
    assert tensor.numpy() is a
    assert Tensor(tensor).data is a


@pytest.mark.parametrize("data", ["text", [1, "two"], None, [object()], np.array([1j]), np.array(["a"]), {"a": 1}])
def test_what_is_no_number(data: Any) -> None:
    with pytest.raises(TypeError, match="a tensor holds real numbers; received an array of dtype"):
        Tensor(data)


def test_ragged_lists() -> None:
    with pytest.raises(ValueError, match="inhomogeneous"):
        Tensor([[1, 2], [3]])


def test_attributes() -> None:
    tensor = Tensor(np.zeros((2, 3, 4), np.float32))
    assert (tensor.shape, tensor.ndim, tensor.size, len(tensor)) == ((2, 3, 4), 3, 24, 2)
    assert tensor.grad is None
    assert not tensor.requires_grad
    assert tensor.backend.name == "cpu"
    assert tensor.T.shape == (4, 3, 2)


def test_requires_grad() -> None:
    x = Tensor([1.0], requires_grad=True)
    x.requires_grad = False
    assert not (x * 2).requires_grad
    x.requires_grad = True
    y = x * 2
    assert y.requires_grad
    with pytest.raises(ValueError, match=r"cannot stop requiring a gradient; use detach\(\)"):
        y.requires_grad = False


@pytest.mark.parametrize("data", [[1, 2], [True]])
def test_integers_have_no_gradient(data: Any) -> None:
    with pytest.raises(TypeError, match="only floating-point tensors have gradients; this one holds"):
        Tensor(data, requires_grad=True)
    with pytest.raises(TypeError, match="only floating-point tensors have gradients"):
        Tensor(data).requires_grad = True


def test_the_array_of_a_tensor_with_a_gradient_is_given_on_request_only() -> None:
    x = Tensor([1.0], requires_grad=True)
    for reach in (x.numpy, lambda: np.asarray(x)):
        with pytest.raises(RuntimeError, match=r"requires a gradient; use tensor\.detach\(\)\.numpy\(\)"):
            reach()
    assert x.detach().numpy() is x.data


def test_conversion_to_arrays_and_numbers() -> None:
    x = Tensor([[1.0, 2.0]])
    np.testing.assert_array_equal(np.asarray(x), x.data)
    assert np.asarray(x, np.float64).dtype == np.float64
    assert Tensor([[2.5]]).item() == 2.5
    assert isinstance(Tensor(3).item(), int)
    assert float(Tensor([2.5])) == 2.5
    assert bool(Tensor([0.0])) is False
    with pytest.raises(ValueError, match=r"item\(\) needs a tensor of one element; this one has the shape \(1, 2\)"):
        x.item()
    with pytest.raises(TypeError, match="a tensor without axes has no length"):
        len(Tensor(1.0))


@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        (Tensor([1.0, 2.0]), "Tensor([1., 2.])"),
        (Tensor(np.array([1.5])), "Tensor([1.5], dtype=float64)"),
        (Tensor([1.0], requires_grad=True), "Tensor([1.], requires_grad=True)"),
        (Tensor([1]), "Tensor([1], dtype=int64)"),
    ],
)
def test_repr(tensor: Tensor, text: str) -> None:
    assert repr(tensor) == text


BINARY = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "**": lambda a, b: abs(a) ** b,
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
SHAPES = hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=4)
#: Numbers that neither overflow nor divide by 0.
NUMBERS = st.floats(0.125, 8, width=32) | st.floats(-8, -0.125, width=32)


@st.composite
def operands(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    return tuple(draw(hnp.arrays(dtype, shape, elements=NUMBERS)) for shape in draw(SHAPES).input_shapes)  # type: ignore[return-value]


class absolute(Tensor):
    """Tensor spells abs() as a method."""

    def __abs__(self) -> Tensor:
        return self.abs()


@pytest.mark.parametrize("sign", BINARY)
@given(operands())
def test_operators_are_those_of_numpy(sign: str, both: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = both
    compute = BINARY[sign]
    expected = compute(a, b)
    for found in (compute(absolute(a), Tensor(b)), compute(absolute(a), b)):
        assert isinstance(found, Tensor)
        np.testing.assert_array_equal(found.numpy(), expected)
        assert found.dtype == expected.dtype


@pytest.mark.parametrize("sign", ["+", "-", "*", "/", ">", "<="])
@given(operands())
def test_an_array_on_the_left_leaves_the_operator_to_the_tensor(sign: str, both: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = both
    found = BINARY[sign](a, Tensor(b))
    assert isinstance(found, Tensor)
    np.testing.assert_array_equal(found.numpy(), BINARY[sign](a, b))


@pytest.mark.parametrize("sign", ["+", "-", "*", "/"])
@pytest.mark.parametrize("number", [2, 2.5, np.float64(0.1), np.int64(3), np.float32(1.5)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_take_the_dtype_of_the_tensor(dtype: Any, number: Any, sign: str) -> None:
    x = np.array([1.5, -2.0], dtype)
    compute = BINARY[sign]
    for found, expected in (
        (compute(Tensor(x), number), compute(x, dtype(number))),
        (compute(number, Tensor(x)), compute(dtype(number), x)),
    ):
        assert found.dtype == dtype
        np.testing.assert_array_equal(found.numpy(), expected)


@pytest.mark.parametrize(
    "shapes",
    [((3, 4), (4, 5)), ((4,), (4,)), ((3, 4), (4,)), ((4,), (4, 5)), ((2, 3, 4), (4, 5)), ((0, 4), (4, 5)),
     ((3, 0), (0, 5)), ((6, 2, 3, 4), (2, 4, 5))],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_matrix_products(shapes: Any, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-5, 6, shape).astype(dtype) for shape in shapes)
    expected = a @ b  # small integers: exact in any order
    for found in (Tensor(a) @ Tensor(b), Tensor(a) @ b, a @ Tensor(b)):
        assert found.dtype == dtype
        np.testing.assert_array_equal(found.numpy(), expected)


def test_matrices_that_do_not_multiply() -> None:
    with pytest.raises(ValueError, match=r"matrices multiply as \(M, N\) @ \(N, K\); received \(2, 3\) @ \(2, 3\)"):
        Tensor(np.ones((2, 3))) @ Tensor(np.ones((2, 3)))


METHODS: dict[str, tuple[Callable[[Any], Any], Callable[[np.ndarray], Any]]] = {
    "exp": (lambda t: t.exp(), np.exp),
    "log": (lambda t: t.log(), np.log),
    "sqrt": (lambda t: t.sqrt(), np.sqrt),
    "abs": (lambda t: t.abs(), np.abs),
    "neg": (lambda t: -t, np.negative),
    "clip": (lambda t: t.clip(0.5, 1.5), lambda a: np.clip(a, 0.5, 1.5)),
    "clip below": (lambda t: t.clip(0.5), lambda a: np.clip(a, 0.5, None)),
    "clip above": (lambda t: t.clip(high=1.5), lambda a: np.clip(a, None, 1.5)),
    "sum": (lambda t: t.sum(), np.sum),
    "sum axis": (lambda t: t.sum(1), lambda a: a.sum(1)),
    "sum axes": (lambda t: t.sum((0, -1), keepdims=True), lambda a: a.sum((0, -1), keepdims=True)),
    "mean": (lambda t: t.mean(), np.mean),
    "mean axis": (lambda t: t.mean(-2, keepdims=True), lambda a: a.mean(-2, keepdims=True)),
    "reshape": (lambda t: t.reshape(6, -1), lambda a: a.reshape(6, -1)),
    "reshape tuple": (lambda t: t.reshape((4, 6)), lambda a: a.reshape(4, 6)),
    "transpose": (lambda t: t.transpose(), np.transpose),
    "transpose axes": (lambda t: t.transpose(1, -1, 0), lambda a: a.transpose(1, -1, 0)),
    "transpose tuple": (lambda t: t.transpose((2, 0, 1)), lambda a: a.transpose(2, 0, 1)),
    "T": (lambda t: t.T, np.transpose),
    "astype": (lambda t: t.astype("float32"), lambda a: a.astype("float32")),
    "index": (lambda t: t[1, ..., 2], lambda a: a[1, ..., 2]),
    "mask": (lambda t: t[t > 1], lambda a: a[a > 1]),
}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_methods_are_those_of_numpy(name: str, dtype: Any) -> None:
    a = (np.random.default_rng(0).random((2, 3, 4)) * 2 + 0.1).astype(dtype)
    method, expected = METHODS[name]
    found = method(Tensor(a))
    assert isinstance(found, Tensor)
    assert found.dtype == expected(a).dtype
    np.testing.assert_allclose(found.numpy(), expected(a), rtol=1e-6)
    assert found.shape == expected(a).shape


def test_the_mean_of_nothing_is_nan() -> None:
    assert np.isnan(Tensor(np.zeros((0, 3))).mean().item())
    assert Tensor(np.zeros((0, 3))).sum().item() == 0


def test_numbers_out_of_range_follow_ieee_754() -> None:
    x = Tensor(np.array([-1.0, 0.0, 1000.0]))
    np.testing.assert_array_equal((1 / x).numpy(), [-1, np.inf, 1e-3])
    np.testing.assert_array_equal(x.log().numpy(), [np.nan, -np.inf, np.log(1000)])
    np.testing.assert_array_equal(x.sqrt().numpy(), [np.nan, 0, np.sqrt(1000)])
    assert x.exp().numpy()[2] == np.inf


def test_tensors_are_keys() -> None:
    x, y = Tensor([1.0]), Tensor([1.0])
    assert len({x, y, x}) == 2


def test_equality_is_element_by_element() -> None:
    a = Tensor([1.0, 2.0, np.nan])
    for found, expected in (
        (a == 2, [False, True, False]),
        (a != 2, [True, False, True]),
        (a == a, [True, True, False]),
        (a == np.array([1.0, 0.0, 0.0]), [True, False, False]),
        (np.arange(1, 4) == a, [True, True, False]),
        (a == [1, 2, 3], [True, True, False]),
    ):
        assert isinstance(found, Tensor)
        assert found.dtype == bool
        assert not found.requires_grad
        np.testing.assert_array_equal(found.numpy(), expected)


def test_a_tensor_equals_nothing_that_is_no_number() -> None:
    a = Tensor([1.0])
    assert (a == None) is False  # noqa: E711
    assert (a != None) is True  # noqa: E711
    assert (a == "relu") is False


def test_tensors_are_hashed_by_identity() -> None:
    a, b = Tensor([1.0]), Tensor([1.0])
    assert len({a, b, a}) == 2
    assert {a: "a"}[a] == "a"


def test_rows_of_different_lengths() -> None:
    with pytest.raises(ValueError, match="data must be an array or rows of equal lengths; received others"):
        Tensor([[1.0], [2.0, 3.0]])


@pytest.mark.parametrize("again", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
@pytest.mark.parametrize("requires_grad", [False, True])
def test_copies_and_pickles_of_leaves(again: Any, requires_grad: bool) -> None:
    x = Tensor(np.arange(6.0).reshape(2, 3)[:, 1:], requires_grad=requires_grad)
    x.grad = Tensor(np.ones((2, 2)))
    y, same = again([x, x])
    assert y is same
    assert y.requires_grad == requires_grad
    assert y._node is None
    for one, other in ((y, x), (y.grad, x.grad)):
        np.testing.assert_array_equal(one.data, other.data)
        assert not np.shares_memory(one.data, other.data)
    if requires_grad:
        (y * y).sum().backward()
        np.testing.assert_array_equal(y.grad.data, 2 * y.data + 1)
        np.testing.assert_array_equal(x.grad.data, np.ones((2, 2)))


def test_results_of_operations_are_neither_deeply_copied_nor_pickled() -> None:
    x = Tensor(np.ones(3), requires_grad=True)
    for result in (x * 2, x[1:]):
        with pytest.raises(RuntimeError, match=r"copied by copy\.deepcopy; received the result of one, .*detach\(\)"):
            copy.deepcopy(result)
        with pytest.raises(RuntimeError, match=r"can be pickled; received the result of one"):
            pickle.dumps(result)
        assert copy.deepcopy(result.detach()).requires_grad is False
        same = copy.copy(result)
        assert same.data is result.data
        assert same._node is result._node


# Protocols of arrays: who takes a tensor, and how.


class OnGPU:
    """Looks like an array of CuPy's, as far as the protocols go."""

    shape, dtype, size, base = (2,), np.dtype(np.float32), 2, None
    __cuda_array_interface__: ClassVar[dict[str, Any]] = {
        "data": (4096, False), "shape": (2,), "typestr": "<f4", "version": 3,
    }  # fmt: skip

    def __dlpack__(self, **settings: Any) -> Any:
        return settings

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 0)


def test_numpy_takes_the_memory() -> None:
    x = Tensor(np.arange(6.0).reshape(2, 3)[:, ::-1])
    for found in (np.asarray(x), np.array(x, copy=False), np.from_dlpack(x)):
        np.testing.assert_array_equal(found, x.data)
        assert np.shares_memory(found, x.data)
        assert found.strides == x.data.strides
    assert not np.shares_memory(np.array(x), x.data)
    assert np.asarray(x, np.float32).dtype == np.float32
    assert x.__array_interface__ == x.data.__array_interface__


def test_memory_that_was_taken_stays() -> None:
    """``data`` of the tensor can be set to another array."""
    x = Tensor(np.full(1000, 3.0))
    taken = np.asarray(x)
    alive = weakref.ref(x.data)
    x.data = np.zeros(1000)
    again = np.asarray(x)
    assert alive() is not None
    assert (taken == 3).all()
    assert (again == 0).all()
    del taken, again, x
    assert alive() is None


def test_memory_that_was_given_back_is_free() -> None:
    x = Tensor(np.zeros(1000))
    taken = np.asarray(x)
    alive = weakref.ref(x.data)
    x.data = np.zeros(1000)
    assert alive() is not None
    del taken
    assert alive() is None


def test_memory_that_was_taken_by_an_interface_stays() -> None:
    """Who goes by the dictionary keeps the tensor alone."""
    x = Tensor(np.full(1000, 3.0))
    array, interface = weakref.ref(x.data), x.__array_interface__
    x.data = np.zeros(1000)
    assert array() is not None
    assert array().__array_interface__["data"] == interface["data"]  # type: ignore[union-attr]
    del x
    assert array() is None


def test_torch_and_jax_take_the_memory() -> None:
    torch = pytest.importorskip("torch")
    x = Tensor(np.zeros((2, 3), np.float32))
    for number, take in enumerate((torch.from_dlpack, torch.as_tensor, torch.asarray), 1):
        take(x)[0, 0] = number
        assert x.data[0, 0] == number
    assert Tensor(torch.ones(3)).shape == (3,)
    jax = pytest.importorskip("jax")
    np.testing.assert_array_equal(np.asarray(jax.numpy.asarray(x)), x.data)
    np.testing.assert_array_equal(np.asarray(jax.dlpack.from_dlpack(x)), x.data)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64", "uint8", "bool"])
def test_dtypes_that_are_exported(dtype: str) -> None:
    x = Tensor(np.ones(3, dtype))
    assert np.asarray(x).dtype == np.from_dlpack(x).dtype == np.dtype(dtype)


def test_bfloat16_is_given_as_an_array_alone() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = Tensor(np.ones(3, ml_dtypes.bfloat16))
    assert not hasattr(x, "__array_interface__")
    assert not hasattr(x, "__array_struct__")
    assert np.asarray(x).dtype == ml_dtypes.bfloat16
    with pytest.raises(BufferError):
        x.__dlpack__()


def test_read_only_arrays_stay_read_only() -> None:
    array = np.ones(3)
    array.flags.writeable = False
    assert not np.asarray(Tensor(array)).flags.writeable
    assert not np.from_dlpack(Tensor(array)).flags.writeable


def test_a_tensor_that_requires_a_gradient_is_exported_by_no_protocol() -> None:
    torch = pytest.importorskip("torch")
    x = Tensor(np.ones(3), requires_grad=True)
    for y in (x, x * 2, x[1:]):
        assert not hasattr(y, "__array_interface__")
        assert not hasattr(y, "__cuda_array_interface__")
        for take, error in (
            (np.asarray, RuntimeError),
            (np.array, RuntimeError),
            (np.from_dlpack, BufferError),
            (torch.from_dlpack, BufferError),
            (torch.as_tensor, BufferError),
        ):
            with pytest.raises(error, match=r"this tensor requires a gradient; use tensor\.detach\(\)"):
                take(y)
        assert np.asarray(y.detach()).shape == y.shape
    with pytest.raises(AttributeError, match="requires a gradient"):
        _ = x.__array_interface__


def test_a_tensor_on_the_cpu_is_not_taken_for_one_on_a_gpu() -> None:
    x = Tensor(np.ones(3))
    assert not hasattr(x, "__cuda_array_interface__")
    with pytest.raises(AttributeError, match="a tensor that is on the CPU has no __cuda_array_interface__"):
        _ = x.__cuda_array_interface__
    assert not backend.is_on_gpu(x)
    assert backend.of(x).name == "cpu"
    assert x.__dlpack_device__() == (1, 0)
    assert Tensor(x).data is x.data


def test_a_tensor_on_a_gpu_exports_the_interface_of_gpus() -> None:
    x = Tensor._of(OnGPU())  # type: ignore[arg-type]
    assert hasattr(x, "__cuda_array_interface__")
    assert x.__cuda_array_interface__["data"] == (4096, False)
    assert not hasattr(x, "__array_interface__")
    with pytest.raises(AttributeError, match="a tensor that is on a GPU has no __array_interface__"):
        _ = x.__array_interface__
    assert backend.is_on_gpu(x)
    assert x.__dlpack_device__() == (2, 0)
    assert x.__dlpack__(stream=7) == {"stream": 7}
    x._requires_grad = True
    assert not hasattr(x, "__cuda_array_interface__")
    assert not backend.is_on_gpu(x)
