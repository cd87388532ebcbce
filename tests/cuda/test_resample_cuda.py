"""Rearrangements and resampling on the GPU, and the operations that are made of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pycnn.functional as F
from pycnn import Tensor
from pycnn_kernels.cuda import rearrange, resample
from pycnn_kernels.plan import plan_for
from pycnn_kernels.problem import RearrangeProblem, ResampledAxis, ResampleProblem
from tests import reference as oracle
from tests.cuda.sass import ARCHITECTURES, sass, spills
from tests.kernels.problems import DTYPES, EACH_HALF, numbers, run_on_host
from tests.kernels.test_resample import AXES, KINDS, check_resampling


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "int16"])
@pytest.mark.parametrize(("N", "inner"), [(2, 1), (1, 3), (0, 1)])
@pytest.mark.parametrize("kind", KINDS)
def test_rearrangement(device: Any, kind: str, N: int, inner: int, dtype: str) -> None:
    size, axes, starts, ways = KINDS[kind]
    p = RearrangeProblem(dtype, N, size, axes, starts, ways, inner)
    counts, along, steps = zip(*axes)
    x = (50 * np.abs(numbers(p.x_shape, "float64"))).astype(dtype)
    (y,) = run_on_host(plan_for("rearrange", p, backend="cuda"), x, np.array([77]).astype(dtype))
    np.testing.assert_array_equal(y, oracle.rearranged(x, counts, along, steps, starts, size, ways, value=77))
    if dtype in DTYPES:
        dy = numbers(p.y_shape, dtype)
        (dx,) = run_on_host(plan_for("rearrange_gradient", p, backend="cuda"), dy)
        oracle.assert_close(dx, oracle.rearranged_gradient(dy, size, counts, along, steps, starts, size, ways))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("N", "inner"), [(2, 1), (1, 3), (0, 1)])
@pytest.mark.parametrize("place", range(0, len(AXES) - 2, 2))
def test_resampling(device: Any, place: int, N: int, inner: int, dtype: str) -> None:
    for axes in (AXES[place : place + 1], AXES[place : place + 2]):
        check_resampling(dtype, N, axes, inner, "cuda")


def test_volumes(device: Any) -> None:
    check_resampling("float32", 1, AXES[4:7], 2, "cuda")


@pytest.mark.parametrize(
    "compute",
    [
        lambda x: F.pad(x, (1, 2, 0, 1), "reflect"),
        lambda x: F.pad(x, (1, -1, 2, 1), "circular"),
        lambda x: F.pad(x, (1, -1, 2, 1, 0, 0, 1, 1), value=3.5),
        lambda x: F.fold(F.unfold(x, 3, padding=1) ** 2, x.shape[2:], 3, padding=1),
        lambda x: F.interpolate(x, scale_factor=1.7),
        lambda x: F.interpolate(x, (7, 5), mode="bilinear", align_corners=True),
        lambda x: F.interpolate(x, (2, 3), mode="bicubic", antialias=True),
        lambda x: F.interpolate(x, (2, 3), mode="area"),
        lambda x: F.channel_shuffle(F.pixel_unshuffle(F.pixel_shuffle(x, 2), 2), 2),
    ],
    ids=["reflect", "circular", "constant", "unfold", "nearest", "bilinear", "bicubic", "area", "shuffles"],
)
def test_operations_are_those_of_the_cpu(device: Any, compute: Any) -> None:
    values = np.random.default_rng(0).standard_normal((2, 4, 4, 6)).astype(np.float32)
    found = []
    for name in ("cpu", "cuda"):
        x = Tensor(values, requires_grad=True, backend=name)
        y = compute(x)
        (y * y).sum().backward()
        found.append([(y.detach().to("cpu")).numpy(), x.grad.to("cpu").numpy()])
    for cpu, cuda in zip(*found):
        np.testing.assert_allclose(cuda, cpu, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("half", EACH_HALF)
def test_gradients_of_halves(device: Any, half: str) -> None:
    """Computed in float32 and rounded once, as on the CPU."""
    values = numbers((1, 4, 4, 6), half)
    for compute in (
        lambda x: F.pad(x, (1, 2, 0, 1), "reflect"),
        lambda x: F.interpolate(x, (7, 5), mode="bilinear"),
        lambda x: F.fold(F.unfold(x, 3, padding=1), x.shape[2:], 3, padding=1),
    ):
        found = []
        for name in ("cpu", "cuda"):
            x = Tensor(values, requires_grad=True, backend=name)
            y = compute(x)
            y.backward(y.detach())
            found.append([each.detach().to("cpu").numpy() for each in (y, x.grad)])
        for cpu, cuda in zip(*found):
            assert cuda.dtype == cpu.dtype == values.dtype
            np.testing.assert_allclose(cuda.astype(np.float64), cpu.astype(np.float64), rtol=1e-2, atol=1e-2)


def test_complex_numbers(device: Any) -> None:
    x = numbers((1, 2, 3), "float64") + 1j
    for dtype in (np.complex64, np.complex128):
        there = F.pad(x.astype(dtype), (2, 1), "reflect", backend="cuda")
        np.testing.assert_array_equal(there.get(), F.pad(x.astype(dtype), (2, 1), "reflect"))


def test_bytes(device: Any) -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 3, 5, 4), np.uint8)
    for mode in ("nearest", "nearest-exact", "bilinear", "bicubic"):
        there = F.interpolate(image, (7, 3), mode=mode, backend="cuda")
        np.testing.assert_array_equal(there.get(), F.interpolate(image, (7, 3), mode=mode))
    halves = np.ones((2, 3), np.float16)
    np.testing.assert_array_equal(
        F.pad(halves, (1, 0), value=2.5, backend="cuda").get(), F.pad(halves, (1, 0), value=2.5)
    )


def test_more_elements_than_are_counted_in_32_bits_are_refused() -> None:
    large = (1 << 16, 1 << 16)
    padding = RearrangeProblem("uint8", 1, large, ((1 << 16, 0, 1), (1 << 16, 1, 1)), (0, 0), ("constant",) * 2)
    assert rearrange.supports(padding) is not None
    assert resample.supports(ResampleProblem("float32", 1, (ResampledAxis("linear", 1 << 31, 1),))) is not None


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_compiled(architecture: str) -> None:
    assert not spills(sass(resample.sums_kernel.variant("float32", weighted=True), architecture))


def test_others_compiled() -> None:
    for variant in (
        rearrange.rearrange_kernel.variant("uint8"),
        rearrange.rearrange_kernel.variant("uint64"),
        resample.sums_kernel.variant("float64", weighted=False),
    ):
        assert not spills(sass(variant))
