"""Arrays of other packages in every operation: without a copy where their memory allows it, and as they came."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import pycnn
import pycnn.functional as F
from pycnn import Tensor, backend
from pycnn.interop.arrays import drop_in, kind_of

IMAGE = np.random.default_rng(0).standard_normal((2, 3, 6, 5)).astype(np.float32)
WEIGHT = np.random.default_rng(1).standard_normal((4, 3, 3, 3)).astype(np.float32)
EXPECTED = F.conv2d(IMAGE, WEIGHT)


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


class OnlyDLPack:
    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __dlpack__(self, **how: Any) -> Any:
        return self.array.__dlpack__(**how)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()


class OnlyArrayInterface:
    def __init__(self, array: np.ndarray) -> None:
        self.array = array  # and keeps the memory alive
        self.__array_interface__ = array.__array_interface__


class OnlyArray:
    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.array


ONE_PROTOCOL = [OnlyDLPack, OnlyArrayInterface, OnlyArray]


@pytest.mark.parametrize("protocol", ONE_PROTOCOL)
def test_one_protocol_is_enough(protocol: type) -> None:
    for found in (F.conv2d(protocol(IMAGE), protocol(WEIGHT)), F.conv2d(IMAGE, protocol(WEIGHT))):
        assert type(found) is np.ndarray
        np.testing.assert_array_equal(found, EXPECTED)
    np.testing.assert_array_equal(F.conv2d(input=protocol(IMAGE), weight=WEIGHT), EXPECTED)


@pytest.mark.parametrize("protocol", [*ONE_PROTOCOL, memoryview])
def test_memory_is_shared(protocol: Any) -> None:
    assert address(backend.asarray(protocol(IMAGE))) == address(IMAGE)
    assert address(Tensor(protocol(IMAGE)).data) == address(IMAGE)


@drop_in
def seen(input: Any, *others: Any, **more: Any) -> Any:
    """An operation that gives back what it was given, by its address."""
    return np.array([address(np.asarray(each)) for each in (input, *others, *more.values())])


@drop_in
def halved(input: Any, inplace: bool = False) -> Any:
    if inplace:
        np.multiply(input, 0.5, out=input)
        return input
    return input * 0.5


def test_numpy_arrays_are_passed_through_as_they_are() -> None:
    assert seen(IMAGE, WEIGHT)[0] == address(IMAGE)
    assert halved.__wrapped__ is not halved
    x = np.ones(3)
    assert halved(x, True) is x
    assert halved(input=x, inplace=True) is x
    assert x.tolist() == [0.25] * 3


DRESSES = {
    "read-only": lambda a: _read_only(a.copy()),
    "backwards": lambda a: np.ascontiguousarray(a[..., ::-1])[..., ::-1],
    "every second": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "other byte order": lambda a: a.astype(a.dtype.newbyteorder()),
    "unaligned": lambda a: np.frombuffer(b"x" + a.tobytes(), np.uint8)[1:].view(a.dtype).reshape(a.shape),
}


def _read_only(a: np.ndarray) -> np.ndarray:
    a.flags.writeable = False
    return a


@pytest.mark.parametrize("protocol", [np.asarray, OnlyArrayInterface, OnlyArray])
@pytest.mark.parametrize("dress", DRESSES)
def test_odd_memory(dress: str, protocol: Any) -> None:
    x, w = DRESSES[dress](IMAGE), DRESSES[dress](WEIGHT)
    np.testing.assert_allclose(F.conv2d(protocol(x), protocol(w)), EXPECTED, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(F.max_pool2d(protocol(x), 2), F.max_pool2d(IMAGE, 2))


def test_a_gradient_in_odd_memory() -> None:
    x = Tensor(DRESSES["backwards"](IMAGE), requires_grad=True)
    F.conv2d(x, OnlyDLPack(WEIGHT)).sum().backward()
    y = Tensor(IMAGE, requires_grad=True)
    F.conv2d(y, WEIGHT).sum().backward()
    np.testing.assert_allclose(x.grad.data, y.grad.data, rtol=1e-5)


def test_a_tensor_among_the_arguments_makes_the_results_tensors() -> None:
    assert isinstance(F.conv2d(OnlyDLPack(IMAGE), Tensor(WEIGHT)), Tensor)


def test_named_tuples_of_arrays_are_read() -> None:
    mean, var = np.zeros(4, np.float32), np.ones(4, np.float32)
    norm = F.RunningNorm(OnlyDLPack(mean), OnlyDLPack(var))
    found = F.conv2d_max_pool2d(OnlyDLPack(IMAGE), WEIGHT, pool_size=2, norm=norm)
    np.testing.assert_allclose(
        found, F.conv2d_max_pool2d(IMAGE, WEIGHT, pool_size=2, norm=F.RunningNorm(mean, var)), rtol=1e-6
    )


def test_missing_and_wrong_arguments_are_errors_of_the_function() -> None:
    with pytest.raises(TypeError, match="missing 2 required positional arguments"):
        F.conv2d()
    with pytest.raises(TypeError, match="unexpected keyword argument 'inplace'"):
        F.conv2d(OnlyDLPack(IMAGE), WEIGHT, inplace=True)
    with pytest.raises(TypeError, match="input must hold float16"):
        F.layer_norm(OnlyDLPack(IMAGE.astype(np.int64)), (4,))
    with pytest.raises(TypeError, match="input must hold float16"):
        F.conv2d("an image", WEIGHT)


def test_kinds_are_remembered_by_type() -> None:
    assert kind_of(OnlyDLPack(IMAGE)) is kind_of(OnlyDLPack(WEIGHT))
    assert not kind_of(np.float32(1)).is_foreign
    assert not kind_of([1.0]).is_array


# What a tensor exports.


def test_a_tensor_exports_its_memory() -> None:
    t = Tensor(IMAGE)
    assert address(np.from_dlpack(t)) == address(np.asarray(t)) == address(IMAGE)
    assert t.__array_interface__["data"][0] == address(IMAGE)
    assert t.__dlpack_device__() == (1, 0)
    assert not hasattr(t, "__cuda_array_interface__")
    assert backend.of(t.data).name == "cpu"


def test_a_tensor_that_wants_a_gradient_exports_nothing() -> None:
    t = Tensor(IMAGE, requires_grad=True)
    # Each protocol has an error of its own kind; NumPy goes by __array__ where there is no __array_interface__.
    exports = {BufferError: np.from_dlpack, RuntimeError: np.asarray, AttributeError: lambda t: t.__array_interface__}
    for error, export in exports.items():
        with pytest.raises(error, match="requires a gradient"):
            export(t)


def test_a_bfloat16_tensor_is_an_array_of_bfloat16() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    t = Tensor(np.ones(3, ml_dtypes.bfloat16))
    assert np.asarray(t).dtype == ml_dtypes.bfloat16


# Packages that follow the array API standard.


def test_array_api_strict() -> None:
    xp = pytest.importorskip("array_api_strict")
    x, w = xp.asarray(IMAGE), xp.asarray(WEIGHT)
    y = F.conv2d(x, w)
    assert type(y) is type(x)
    np.testing.assert_array_equal(np.from_dlpack(y), EXPECTED)
    values, indices = F.max_pool2d(x, 2, return_indices=True)
    assert (values.dtype, indices.dtype) == (xp.float32, xp.int64)
    assert seen(x)[0] == address(np.from_dlpack(x))
    assert type(F.conv2d(IMAGE, w)) is np.ndarray  # the first decides
    assert type(F.conv2d(x, WEIGHT)) is type(x)
    with pytest.raises(TypeError, match="input must hold float16"):
        F.gelu(xp.asarray([1, 2]))


def test_jax() -> None:
    jax = pytest.importorskip("jax")
    jnp = jax.numpy
    x, w = jnp.asarray(IMAGE), jnp.asarray(WEIGHT)
    y = F.conv2d(x, w, backend="cpu")
    assert isinstance(y, jax.Array)
    np.testing.assert_array_equal(np.asarray(y), EXPECTED)
    assert int(np.asarray(seen(x))[0]) % 2**32 == address(np.asarray(x)) % 2**32  # JAX has no int64 by default
    half = F.max_pool2d(x.astype(jnp.bfloat16), 2)
    assert half.dtype == jnp.bfloat16
    assert isinstance(F.conv2d(Tensor(IMAGE), w), Tensor)


def test_results_become_arrays_of_jax_without_a_copy() -> None:
    jax = pytest.importorskip("jax")
    results = []

    @drop_in
    def doubled(input: Any) -> Any:
        results.append(F.conv2d(input, WEIGHT))
        return results[-1]

    large = np.zeros((8, 3, 64, 64), np.float32)  # whose result is on a cache line, as JAX wants it
    assert doubled(jax.numpy.asarray(large)).unsafe_buffer_pointer() == address(results[0])


def test_jax_does_not_trace() -> None:
    jax = pytest.importorskip("jax")
    x = jax.numpy.asarray(IMAGE)
    for transformed in (jax.jit(F.relu), jax.grad(lambda x: F.relu(x).sum()), jax.vmap(F.relu)):
        with pytest.raises(TypeError, match=r"jax\.pure_callback"):
            transformed(x)
    with pytest.raises(TypeError, match=r"jax\.pure_callback"):
        jax.jit(lambda w: F.conv2d(IMAGE, w))(WEIGHT)


def test_jax_arrays_are_not_changed() -> None:
    jax = pytest.importorskip("jax")
    with pytest.raises(ValueError, match="read-only"):
        halved(jax.numpy.ones(3), inplace=True)


def test_nothing_is_imported_for_numpy() -> None:
    code = (
        "import sys, numpy as np, pycnn, pycnn.functional as F\n"
        "F.relu(np.ones(3)); F.relu([1.0]); F.relu(pycnn.Tensor([1.0]))\n"
        "class A:\n"
        "    def __array__(self, dtype=None, copy=None): return np.ones(3)\n"
        "F.relu(A())\n"
        "assert not {'torch', 'jax', 'cupy'} & set(sys.modules), 'imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_an_array_of_pycnns_default_backend_is_the_callers() -> None:
    assert pycnn.backend.get().name == "cpu"
    assert type(F.relu([1.0, -1.0])) is np.ndarray
