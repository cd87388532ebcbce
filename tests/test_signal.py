"""pycnn.signal: against loops in float64, against SciPy where it is installed, and its gradients numerically."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pycnn
from pycnn import Tensor, signal
from pycnn.signal import kernels

FUNCTIONS = ("convolve2d", "correlate2d")
MODES = ("full", "same", "valid")
BOUNDARIES = ("fill", "wrap", "symm")
SCIPYS_DTYPES = "bBhHiIlLfdFD"


def at(image: np.ndarray, i: int, j: int, boundary: str, fill: Any) -> Any:
    """The pixel of an image that goes on beyond its boundary."""
    place = []
    for index, size in ((i, image.shape[0]), (j, image.shape[1])):
        if boundary == "symm":
            index %= 2 * size
            index = min(index, 2 * size - 1 - index)
        elif boundary == "wrap":
            index %= size
        elif not 0 <= index < size:
            return fill
        place.append(index)
    return image[tuple(place)]


def oracle(
    name: str, in1: np.ndarray, in2: np.ndarray, mode: str = "full", boundary: str = "fill", fill: Any = 0
) -> np.ndarray:
    """The sum over all taps, place by place, in float64 or complex128."""
    if mode == "valid" and any(n < k for n, k in zip(in1.shape, in2.shape)):
        found = oracle(name, in2, in1, mode)
        return found if name == "convolve2d" else found[::-1, ::-1]
    (H, W), (h, w) = in1.shape, in2.shape
    # Where the kernel's last tap lies for the first result, its first one when it is flipped.
    middle = ((h - 1) // 2, (w - 1) // 2) if name == "convolve2d" else (h // 2, w // 2)
    first, size = {
        "full": ((0, 0), (H + h - 1, W + w - 1)),
        "same": (middle, (H, W)),
        "valid": ((h - 1, w - 1), (H - h + 1, W - w + 1)),
    }[mode]
    y = np.zeros(size, np.result_type(in1, in2, np.float64))
    for place in np.ndindex(*size):
        row, column = place[0] + first[0], place[1] + first[1]
        for i, j in itertools.product(range(h), range(w)):
            if name == "convolve2d":
                y[place] += at(in1, row - i, column - j, boundary, fill) * in2[i, j]
            else:
                pixel = at(in1, row - (h - 1) + i, column - (w - 1) + j, boundary, fill)
                y[place] += pixel * np.conj(in2[i, j])
    return y


def numbers(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Of the whole range of an integer dtype, or around 0."""
    dtype = np.dtype(dtype)
    if dtype.kind in "iu":
        most = np.iinfo(dtype)
        return rng.integers(most.min, most.max, shape, dtype, endpoint=True)
    found = rng.standard_normal(shape)
    return (found + 1j * rng.standard_normal(shape) if dtype.kind == "c" else found).astype(dtype)


@st.composite
def calls(draw: st.DrawFn, dtypes: str = "d") -> tuple[Any, ...]:
    """Two arrays, a mode, a boundary and a fillvalue that SciPy takes; kernels may be larger than images."""
    sizes = st.integers(1, 7)
    image, kernel = (draw(st.tuples(sizes, sizes)) for _ in range(2))
    mode = draw(st.sampled_from(MODES))
    if mode == "valid":
        image, kernel = (tuple(f(n, k) for n, k in zip(image, kernel)) for f in (max, min))
        if draw(st.booleans()):
            image, kernel = kernel, image
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    in1, in2 = (numbers(rng, shape, draw(st.sampled_from(dtypes))) for shape in (image, kernel))
    return in1, in2, mode, draw(st.sampled_from(BOUNDARIES)), draw(st.sampled_from((0, 3, 100)))


def close(found: np.ndarray, expected: np.ndarray) -> None:
    """The same to the rounding of the dtype; integers exactly."""
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    if found.dtype.kind in "iu":
        np.testing.assert_array_equal(found, expected)
    else:
        scale = np.abs(expected).max(initial=0) + 1
        np.testing.assert_allclose(found, expected, rtol=0, atol=100 * np.finfo(found.dtype).eps * scale)


@pytest.mark.parametrize("name", FUNCTIONS)
@given(calls(dtypes="dD"))
def test_against_loops(name: str, call: tuple[Any, ...]) -> None:
    close(getattr(signal, name)(*call), oracle(name, *call))


@pytest.mark.parametrize("name", FUNCTIONS)
@given(calls(dtypes=SCIPYS_DTYPES))
def test_against_scipy(name: str, call: tuple[Any, ...]) -> None:
    """Of every dtype that SciPy has, and of two different ones; integers fill their whole range."""
    scipy_signal = pytest.importorskip("scipy.signal")
    close(getattr(signal, name)(*call), getattr(scipy_signal, name)(*call))


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint64])
@pytest.mark.parametrize("most", [2**8, 2**20, 2**31 - 1])
def test_integers_are_exact_however_large(rng: np.random.Generator, dtype: Any, most: int) -> None:
    image, kernel = (rng.integers(0, most, shape).astype(dtype) for shape in ((20, 30), (5, 4)))
    expected = np.zeros((16, 27), object)
    for i, j in np.ndindex(*kernel.shape):
        expected += image[i : i + 16, j : j + 27].astype(object) * int(kernel[i, j])
    bits = 8 * np.dtype(dtype).itemsize
    wrapped = (expected % 2**bits).astype(np.uint64).astype(dtype)
    np.testing.assert_array_equal(signal.correlate2d(image, kernel, "valid"), wrapped)


def test_integers_of_a_kernel_with_many_taps() -> None:
    """Of so many that digits of 16 bits would add up to more than float64 holds."""
    image, kernel = np.full((600, 601), -1, np.int64), np.full((600, 600), -(2**62), np.int64)
    np.testing.assert_array_equal(signal.correlate2d(image, kernel, "valid"), [[360000 * 2**62 % 2**64] * 2])


def test_integers_do_not_take_algorithms_that_round() -> None:
    image = np.ones((40, 40), np.uint8)
    with pytest.raises(ValueError, match="algorithm for integers must be one of 'few_channels', 'direct'"):
        signal.correlate2d(image, image[:3, :3], algorithm="winograd")
    np.testing.assert_array_equal(
        signal.correlate2d(image, image, "valid", algorithm="direct"), np.array([[1600 % 256]], np.uint8)
    )


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", ["uint8", "float32", "complex128"])
def test_stacks_are_images_one_by_one(rng: np.random.Generator, name: str, mode: str, dtype: str) -> None:
    function, images = getattr(signal, name), numbers(rng, (2, 3, 9, 8), dtype)
    for kernel in (numbers(rng, (3, 4), dtype), numbers(rng, (12, 13), dtype)):
        found = function(images, kernel, mode, "symm")
        one_by_one = [[function(image, kernel, mode, "symm") for image in row] for row in images]
        close(found, np.array(one_by_one))


def test_empty_stacks() -> None:
    assert signal.convolve2d(np.ones((0, 5, 6)), np.ones((3, 3)), "valid").shape == (0, 3, 4)
    assert signal.convolve2d(np.ones((0, 5, 6)), np.ones((9, 9)), "valid").shape == (0, 5, 4)
    assert signal.convolve2d(np.ones((4, 0, 5, 6), np.int8), np.ones((3, 3), np.int8), boundary="wrap").shape == (
        4, 0, 7, 8,
    )  # fmt: skip


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_kernels_many_times_the_size_of_the_image(rng: np.random.Generator, boundary: str) -> None:
    image, kernel = rng.standard_normal((2, 3)), rng.standard_normal((9, 14))
    close(signal.convolve2d(image, kernel, boundary=boundary), oracle("convolve2d", image, kernel, "full", boundary))


@pytest.mark.parametrize("size", [31, 64, 101])
def test_large_kernels(rng: np.random.Generator, size: int) -> None:
    image, kernel = rng.standard_normal((150, 140)), rng.standard_normal((size, size))
    direct = signal.convolve2d(image, kernel, "same", algorithm="direct")
    close(signal.convolve2d(image, kernel, "same"), direct)
    if size < 32:
        close(signal.convolve2d(image, kernel, "same", algorithm="fft"), direct)
    with pytest.raises(ValueError, match=r"needs .* bytes of workspace, the limit is 0"):
        signal.convolve2d(image, kernel, algorithm="few_channels", workspace_limit=0)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("kernel_size", [(3, 2), (7, 8)])
def test_gradients(rng: np.random.Generator, name: str, mode: str, boundary: str, kernel_size: tuple[int, int]) -> None:
    """Against central differences, to which a bilinear function's are exact; second ones likewise."""
    function, arguments = getattr(signal, name), (mode, boundary, 0.5)
    image, kernel = (rng.standard_normal(shape) for shape in ((2, 4, 5), kernel_size))
    weights = rng.standard_normal(function(image, kernel, *arguments).shape)

    def value(x: np.ndarray, w: np.ndarray) -> float:
        return float((function(x, w, *arguments) * weights).sum())

    x, w = Tensor(image, requires_grad=True), Tensor(kernel, requires_grad=True)
    (function(x, w, *arguments) * weights).sum().backward(create_graph=True)
    dx, dw = rng.standard_normal(image.shape), rng.standard_normal(kernel.shape)
    assert math.isclose(
        (x.grad.detach().numpy() * dx).sum(), value(image + dx, kernel) - value(image, kernel), rel_tol=1e-9
    )
    assert math.isclose(
        (w.grad.detach().numpy() * dw).sum(), value(image, kernel + dw) - value(image, kernel), rel_tol=1e-9
    )
    mixed = (x.grad * dx).sum()
    w.grad = None
    mixed.backward()
    corners = [value(image + a * dx, kernel + b * dw) for a in (0, 1) for b in (0, 1)]
    second = corners[3] - corners[2] - corners[1] + corners[0]
    assert math.isclose((w.grad.numpy() * dw).sum(), second, rel_tol=1e-8)


def test_tensors_in_and_out(rng: np.random.Generator) -> None:
    image, kernel = rng.standard_normal((5, 6)), rng.standard_normal((3, 3))
    expected = signal.convolve2d(image, kernel)
    for x, w in ((Tensor(image), kernel), (image, Tensor(kernel)), (Tensor(image), Tensor(kernel))):
        found = signal.convolve2d(x, w)
        assert isinstance(found, Tensor)
        np.testing.assert_array_equal(found.numpy(), expected)
    whole = signal.convolve2d(Tensor(np.arange(6).reshape(2, 3)), np.ones((1, 2), int))
    assert isinstance(whole, Tensor)
    np.testing.assert_array_equal(whole.numpy(), [[0, 1, 3, 2], [3, 7, 9, 5]])


def test_gradients_of_two_dtypes(rng: np.random.Generator) -> None:
    x = Tensor(rng.standard_normal((5, 6)).astype(np.float32), requires_grad=True)
    w = Tensor(rng.standard_normal((3, 3)), requires_grad=True)
    y = signal.correlate2d(x, w, "valid")
    assert y.dtype == np.float64
    y.sum().backward()
    assert x.grad.dtype == np.float32
    np.testing.assert_allclose(w.grad.numpy(), signal.correlate2d(x.detach().numpy(), np.ones((3, 4)), "valid"))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_are_rounded_once(rng: np.random.Generator, dtype: str) -> None:
    dtype = np.dtype(pytest.importorskip("ml_dtypes").bfloat16 if dtype == "bfloat16" else dtype)
    image, kernel = (rng.standard_normal(shape).astype(dtype) for shape in ((9, 9), (3, 3)))
    found = signal.convolve2d(image, kernel, boundary="wrap")
    assert found.dtype == dtype
    widened = signal.convolve2d(image.astype(np.float32), kernel.astype(np.float32), boundary="wrap")
    np.testing.assert_array_equal(found.astype(np.float32), widened.astype(dtype).astype(np.float32))
    assert signal.convolve2d(image, kernel.astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x[::-1, ::-2],
        lambda x: x.T,
        lambda x: np.asfortranarray(x),
        lambda x: x.astype(x.dtype.newbyteorder()),
        lambda x: x.tolist(),
        lambda x: np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(x.dtype).reshape(x.shape),
    ],
)
@pytest.mark.parametrize("dtype", ["int64", "float64", "complex128"])
def test_arrays_that_lie_otherwise(rng: np.random.Generator, change: Any, dtype: str) -> None:
    image, kernel = (numbers(rng, shape, "int8").astype(dtype) for shape in ((7, 6), (2, 3)))
    image.flags.writeable = False
    plain = (np.array(np.asarray(change(a)), dtype) for a in (image, kernel))
    close(signal.convolve2d(change(image), change(kernel), boundary="symm"), signal.convolve2d(*plain, boundary="symm"))


def test_fillvalues(rng: np.random.Generator) -> None:
    image, kernel = rng.standard_normal((4, 5)), rng.standard_normal((3, 3))
    for value in (2, 2.5, np.float32(2.5), [2.5], np.array([[2.5]]), Tensor([2.5])):
        expected = oracle("convolve2d", image, kernel, "full", "fill", float(np.asarray(value).reshape(())))
        close(signal.convolve2d(image, kernel, fillvalue=value), expected)
    whole = np.ones((2, 2), np.uint8)
    assert signal.convolve2d(whole, whole, fillvalue=1.9)[0, 0] == 4  # cut to 1
    assert np.isnan(signal.convolve2d(image, kernel, fillvalue=np.nan)).sum() == 6 * 7 - 2 * 3
    close(
        signal.convolve2d(image + 1j, kernel, fillvalue=2 - 1j),
        oracle("convolve2d", image + 1j, kernel, "full", "fill", 2 - 1j),
    )
    large = np.full((1, 1), 2**62, np.int64)
    # 1 - 1 + 2, -1 + 1 + 2 and -1 - 1 - 2 times 2^62, modulo 2^64.
    found = signal.convolve2d(large, [[1, 1, -2]], fillvalue=-(2**62))
    np.testing.assert_array_equal(found, [[-(2**63), -(2**63), 0]])


@pytest.mark.parametrize(("alias", "name"), [("pad", "fill"), ("circular", "wrap"), ("symmetric", "symm")])
def test_other_names_of_boundaries(rng: np.random.Generator, alias: str, name: str) -> None:
    image, kernel = rng.standard_normal((4, 5)), rng.standard_normal((3, 3))
    np.testing.assert_array_equal(
        signal.convolve2d(image, kernel, boundary=alias), signal.convolve2d(image, kernel, boundary=name)
    )


IMAGE, KERNEL = np.ones((4, 5)), np.ones((3, 3))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((IMAGE[0], KERNEL), ValueError, r"in1 must have the axes \(..., H, W\) and in2 \(h, w\); received .*\(5,\)"),
        ((IMAGE, KERNEL[None]), ValueError, r"received the shapes \(4, 5\) and \(1, 3, 3\)"),
        ((IMAGE[:0], KERNEL), ValueError, "at least one pixel"),
        ((IMAGE, KERNEL[:, :0]), ValueError, "at least one pixel"),
        ((IMAGE, KERNEL, "ful"), ValueError, "mode must be one of 'full', 'valid', 'same'; received 'ful'"),
        ((IMAGE, KERNEL, 1), ValueError, "mode must be one of"),
        ((IMAGE, KERNEL, "full", "reflect"), ValueError, "boundary must be one of 'fill', 'wrap', 'symm'.* 'reflect'"),
        ((IMAGE, np.ones((5, 2)), "valid"), ValueError, r"one of in1 and in2 must be at least as large .*\(4, 5\)"),
        ((IMAGE > 0, KERNEL > 0), TypeError, "in1 and in2 must hold numbers.* received bool and bool"),
        ((IMAGE.astype(object), KERNEL), TypeError, "received object and float64"),
        ((IMAGE.astype(np.longdouble), KERNEL), TypeError, "received .* and float64"),
        ((IMAGE, KERNEL, "full", "fill", [1, 2]), ValueError, r"fillvalue must be one number; received \[1, 2\]"),
        ((IMAGE, KERNEL, "full", "fill", None), ValueError, "fillvalue must be one number; received None"),
        ((IMAGE, KERNEL, "full", "fill", "1"), ValueError, "fillvalue must be one number; received '1'"),
        ((IMAGE, KERNEL, "full", "fill", 1j), ValueError, "fillvalue must be real for a result of float64"),
        ((IMAGE.astype("B"), KERNEL.astype("B"), "full", "fill", 256), ValueError, "from 0 to 255 .* received 256"),
        ((IMAGE.astype("B"), KERNEL.astype("B"), "full", "fill", -1), ValueError, "from 0 to 255 .* received -1"),
        ((IMAGE.astype(int), KERNEL.astype(int), "full", "fill", np.nan), ValueError, "fillvalue must be from"),
    ],
)
def test_refusals(arguments: tuple[Any, ...], error: type[Exception], message: str) -> None:
    """All of them SciPy's, but for the image without pixels and the wider dtype."""
    with pytest.raises(error, match=message):
        signal.convolve2d(*arguments)
    with pytest.raises(error, match=message):
        signal.correlate2d(*arguments)


GALLERY: dict[str, tuple[np.ndarray, float]] = {
    # The kernel and its sum.
    "identity": (kernels.identity(), 1),
    "box_blur": (kernels.box_blur(5), 1),
    "box_blur 2x3": (kernels.box_blur((2, 3)), 1),
    "gaussian": (kernels.gaussian(9, 1.5), 1),
    "gaussian 4x6": (kernels.gaussian((4, 6), 1.5), 1),
    "sharpen": (kernels.sharpen(), 1),
    "edges": (kernels.edges(), 0),
    "laplacian": (kernels.laplacian(), 0),
    "laplacian_of_gaussian": (kernels.laplacian_of_gaussian(9, 1.4), 0),
    "sobel": (kernels.sobel(), 0),
    "prewitt": (kernels.prewitt(), 0),
    "scharr": (kernels.scharr(), 0),
    "emboss": (kernels.emboss(), 1),
}


@pytest.mark.parametrize("name", GALLERY)
def test_sums_of_kernels(name: str) -> None:
    kernel, total = GALLERY[name]
    assert math.isclose(kernel.sum(dtype=np.float64), total, abs_tol=1e-6)


@pytest.mark.parametrize("name", GALLERY)
def test_symmetries_of_kernels(name: str) -> None:
    """A kernel that is its own flip is the same to correlation and to convolution; derivatives change their sign."""
    kernel, _ = GALLERY[name]
    if name == "emboss":
        np.testing.assert_array_equal(kernel, kernel.T)
        return
    sign = -1 if name in ("sobel", "prewitt", "scharr") else 1
    np.testing.assert_array_equal(kernel[::-1, ::-1], sign * kernel)
    if sign == -1:
        np.testing.assert_array_equal(getattr(kernels, name)(0), kernel.T)


def test_all_kernels_are_in_the_gallery() -> None:
    assert {name.split()[0] for name in GALLERY} == set(kernels.__all__)


@pytest.mark.parametrize("dtype", [np.float32, "float64"])
@pytest.mark.parametrize("name", kernels.__all__)
def test_dtypes_of_kernels(name: str, dtype: Any) -> None:
    arguments = {"gaussian": (5, 1.0), "laplacian_of_gaussian": (5, 1.0)}.get(name, ())
    kernel = getattr(kernels, name)(*arguments, dtype=dtype)
    assert kernel.dtype == dtype
    assert kernel.flags.c_contiguous
    kernel[:] = 7  # the caller's own
    assert not (getattr(kernels, name)(*arguments) == 7).any()
    for wrong in (np.int32, "float16", "fast"):
        with pytest.raises(TypeError, match="dtype must be float32 or float64; received"):
            getattr(kernels, name)(*arguments, dtype=wrong)


@pytest.mark.parametrize(
    ("function", "kernel"),
    [
        (lambda n, x: n.uniform_filter(x, 5), kernels.box_blur(5, dtype=np.float64)),
        (lambda n, x: n.gaussian_filter(x, 1.3, radius=4), kernels.gaussian(9, 1.3, dtype=np.float64)),
        (lambda n, x: n.laplace(x), kernels.laplacian(dtype=np.float64)),
        (lambda n, x: n.sobel(x), kernels.sobel(dtype=np.float64)),
        (lambda n, x: n.sobel(x, 0), kernels.sobel(0, dtype=np.float64)),
        (lambda n, x: n.prewitt(x, -2), kernels.prewitt(-2, dtype=np.float64)),
        (lambda n, x: n.gaussian_laplace(x, 2.0, radius=20), kernels.laplacian_of_gaussian(41, 2.0, dtype=np.float64)),
    ],
)  # fmt: skip
def test_kernels_against_scipy(rng: np.random.Generator, function: Any, kernel: np.ndarray) -> None:
    """SciPy's boundary "reflect" is "symm" here."""
    ndimage = pytest.importorskip("scipy.ndimage")
    image = rng.standard_normal((20, 30))
    found = signal.correlate2d(image, kernel, mode="same", boundary="symm")
    np.testing.assert_allclose(found, function(ndimage, image), rtol=0, atol=1e-12)


def test_convolution_changes_the_sign_of_a_derivative(rng: np.random.Generator) -> None:
    image = rng.standard_normal((6, 7))
    correlated, convolved = (getattr(signal, name)(image, kernels.sobel(), "valid") for name in FUNCTIONS[::-1])
    np.testing.assert_allclose(correlated, -convolved)
    ramp = np.tile(np.arange(7.0), (6, 1))
    np.testing.assert_array_equal(signal.correlate2d(ramp, kernels.sobel(), "valid"), np.full((4, 5), 8))


def test_the_documents_filters() -> None:
    """Even areas keep their colour when sharpened, and lose it where edges are looked for."""
    photograph = np.array([[60, 113, 56, 139, 85], [73, 121, 54, 84, 128], [131, 99, 70, 129, 127]], np.uint8)
    sharp = signal.correlate2d(photograph, kernels.sharpen(), "same")
    assert sharp.dtype == np.float32
    assert sharp[0, 0] == 5 * 60 - 113 - 73
    assert sharp[1, 1] == 5 * 121 - 113 - 73 - 54 - 99
    even = np.full((5, 6), 7.0)
    np.testing.assert_array_equal(signal.correlate2d(even, kernels.sharpen(), "same", "symm"), even)
    np.testing.assert_array_equal(signal.correlate2d(even, kernels.edges(), "valid"), np.zeros((3, 4)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kernels.identity(4), "size must be odd, to have a middle; received 4"),
        (lambda: kernels.box_blur(0), "size must be at least 1; received 0"),
        (lambda: kernels.gaussian(3, 0), "sigma must be above 0; received 0"),
        (lambda: kernels.gaussian(3, math.nan), "sigma must be above 0; received nan"),
        (lambda: kernels.laplacian(6), "neighbours must be one of 4, 8; received 6"),
        (lambda: kernels.sobel(2), "axis must be one of 0, 1, -1, -2; received 2"),
    ],
)
def test_refusals_of_kernels(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", ["int32", "uint8", "float32", "float64", "bfloat16", "complex64"])
def test_tensors_of_pytorch_stay_such(rng: np.random.Generator, name: str, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    image = torch.from_numpy(rng.integers(0, 9, (2, 5, 6))).to(getattr(torch, dtype))
    kernel = torch.from_numpy(rng.integers(0, 9, (2, 3))).to(getattr(torch, dtype))
    filtered = getattr(signal, name)
    found = filtered(image, kernel, "same", "symm")
    assert isinstance(found, torch.Tensor)
    assert found.dtype == image.dtype
    wide = "complex128" if image.is_complex() else "float64"
    expected = filtered(*(each.to(getattr(torch, wide)).numpy() for each in (image, kernel)), "same", "symm")
    # Whole numbers: modulo 256 for uint8, and rounded once for bfloat16.
    expected = torch.from_numpy(expected.astype(np.int64) % 256 if dtype == "uint8" else expected).to(image.dtype)
    assert torch.equal(found, expected)
    assert isinstance(filtered(image, kernel, backend="cpu"), torch.Tensor)


def test_gradients_of_pytorch(rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    image = torch.ones(4, 4, requires_grad=True)
    signal.convolve2d(image, torch.ones(2, 2)).sum().backward()
    assert torch.equal(image.grad, torch.full((4, 4), 4.0))
    image, kernel = (torch.from_numpy(rng.standard_normal(shape)).requires_grad_() for shape in ((4, 5), (3, 2)))
    for function in (signal.convolve2d, signal.correlate2d):
        for boundary in BOUNDARIES:
            assert torch.autograd.gradcheck(lambda x, w: function(x, w, "same", boundary, 2.0), (image, kernel))  # noqa: B023
            assert torch.autograd.gradgradcheck(lambda x, w: function(x, w, "same", boundary, 2.0), (image, kernel))  # noqa: B023


def test_arrays_of_jax_stay_such() -> None:
    jax = pytest.importorskip("jax")
    found = signal.correlate2d(jax.numpy.ones((3, 4)), jax.numpy.ones((2, 2)), "valid")
    assert isinstance(found, jax.Array)
    np.testing.assert_array_equal(np.asarray(found), np.full((2, 3), 4))


@pytest.mark.parametrize("sigma", [0.01, 1e-200, 5e-324])
def test_the_narrowest_bells(sigma: float) -> None:
    """All weight is in the middle: one pixel for odd sizes, four for even ones."""
    np.testing.assert_array_equal(kernels.gaussian(1, sigma), [[1]])
    np.testing.assert_array_equal(kernels.gaussian(3, sigma), kernels.identity(3))
    np.testing.assert_array_equal(kernels.gaussian(4, sigma), np.pad(np.full((2, 2), 0.25), 1))


def test_a_narrow_laplacian_of_a_bell() -> None:
    found = kernels.laplacian_of_gaussian(3, 1e-10, dtype=np.float64)
    expected = -2e20 * kernels.identity(3)
    np.testing.assert_allclose(found, expected - expected.mean(), rtol=1e-6)
    for size, sigma in ((3, 1e-200), (4, 1e-160), (3, 1e-20)):
        with pytest.raises(ValueError, match=f"sigma must be so large that .* float32; received {sigma}"):
            kernels.laplacian_of_gaussian(size, sigma)


def test_the_module_is_a_part_of_pycnn() -> None:
    assert pycnn.signal is signal
    assert signal.kernels is kernels
