"""Sums over the elements of each channel on the GPU, in either layout, against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pycnn_kernels.cuda import channels
from pycnn_kernels.cuda.channels import Walk, bias_activation_gradient_kernel, total_kernel
from pycnn_kernels.cuda.launch import MOST_ELEMENTS
from pycnn_kernels.plan import plan_for
from pycnn_kernels.problem import ChannelsProblem
from tests import reference as oracle
from tests.cuda.sass import ARCHITECTURES, count, sass, spills
from tests.kernels.problems import DTYPES, numbers, run_on_host

Shape = tuple[int, int, int]

#: (pixels, channels, inner): inner is 1 in channels last. Rows of one, two and four pixels, and pixels that do not
#: make such rows; more columns than a block has; planes of whole vectors, and others; one channel; and nothing.
SHAPES = [
    (1, 1, 1), (40, 3, 1), (41, 3, 1), (26, 10, 1), (9, 16, 1), (2, 264, 1), (5, 67, 1), (2, 3, 35), (6, 5, 12),
    (3, 1, 36), (9, 2, 2), (1, 7, 300), (0, 3, 1), (0, 4, 6), (3, 5, 0), (3, 0, 1), (3, 0, 2),
]  # fmt: skip


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several of them for arrays that are simulated in a moment."""
    monkeypatch.setattr(channels, "_THREADS", 64)
    monkeypatch.setattr(channels, "_LEAST_STEPS", 2)


def arrays(shape: Shape, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """dy and y, where y is 0 for about half of the elements."""
    return numbers(shape, dtype, 1), np.maximum(numbers(shape, dtype, 2), 0)


def run(dy: np.ndarray, *others: Any, skip: tuple[str, ...] = ()) -> tuple[Any, ...]:
    p = ChannelsProblem(dy.dtype.name, *dy.shape)
    return run_on_host(plan_for("bias_activation_gradient", p, backend="cuda"), dy, *others, skip=skip)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_in_front_of_relu_and_bias(device: Any, shape: Shape, dtype: str) -> None:
    dy, y = arrays(shape, dtype)
    dz, db = run(dy, y)
    expected = np.where(y > 0, dy, 0)
    np.testing.assert_array_equal(dz, expected)
    oracle.assert_close(db, expected.astype(np.float64).sum(axis=(0, 2)))


@pytest.mark.parametrize("shape", [(26, 10, 1), (5, 67, 1), (2, 3, 35), (6, 5, 12), (0, 3, 1)])
def test_bias_alone_and_relu_alone(device: Any, shape: Shape) -> None:
    dy, y = arrays(shape, "float32")
    dz, db = run(dy, None, skip=("dz",))
    assert dz is None
    oracle.assert_close(db, dy.astype(np.float64).sum(axis=(0, 2)))
    dz, db = run(dy, y, skip=("db",))
    assert db is None
    np.testing.assert_array_equal(dz, np.where(y > 0, dy, 0))


def test_nan(device: Any) -> None:
    """A NaN in y passes its gradient on; the gradient of a masked element is dropped, NaN or not."""
    y = np.array([np.nan, 0, 1, 0], np.float32).reshape(1, 4, 1)
    dy = np.array([5, np.nan, np.nan, 3], np.float32).reshape(1, 4, 1)
    dz, db = run(dy, y)
    np.testing.assert_array_equal(dz.ravel(), [5, 0, np.nan, 0])
    np.testing.assert_array_equal(db, [5, 0, np.nan, 0])


@pytest.mark.parametrize("shape", [(700, 4, 1), (700, 4, 2), (301, 5, 1), (220, 3, 8), (120, 2, 7)])
def test_many_places(device: Any, monkeypatch: pytest.MonkeyPatch, shape: Shape) -> None:
    """More for each thread than it visits together, and in several parts."""
    monkeypatch.setattr(channels, "_THREADS", 32)
    monkeypatch.setattr(channels, "_LEAST_STEPS", 12)
    walk = Walk(ChannelsProblem("float32", *shape), summed=True)
    assert walk.blocks[1] > 1
    together = 4 if walk.constants["vector"] == 4 else 8
    assert walk.fields["count"] > together * walk.fields["stride"]
    dy, y = arrays(shape, "float32")
    dz, db = run(dy, y)
    np.testing.assert_array_equal(dz, np.where(y > 0, dy, 0))
    oracle.assert_close(db, dz.astype(np.float64).sum(axis=(0, 2)))
    oracle.assert_close(run(dy, skip=("dz",))[1], dy.astype(np.float64).sum(axis=(0, 2)))


@pytest.mark.parametrize("count", [1, 9, 70])
def test_parts_are_merged(device: Any, count: int) -> None:
    walk = Walk(ChannelsProblem("float32", 8, 11), summed=True)
    walk.count = count
    parts = numbers((count, 11), "float32")
    there, total = device.xp.asarray(parts), device.empty((11,), np.dtype("float32"))
    walk.merging(total_kernel, "parts total").run(device.address(there), device.address(total))
    oracle.assert_close(total.get(), parts.astype(np.float64).sum(axis=0))


def test_axes_that_32_bits_do_not_count() -> None:
    assert channels.axes_fit(ChannelsProblem("float32", MOST_ELEMENTS, 3, 2)) is None
    assert "axes of at most" in str(channels.axes_fit(ChannelsProblem("float32", 1, 3, MOST_ELEMENTS + 1)))


@pytest.mark.parametrize(
    ("planes", "architecture"), [(True, "sm_90a"), *((False, architecture) for architecture in ARCHITECTURES)]
)
def test_compiled(planes: bool, architecture: str) -> None:
    constants: dict[str, Any] = {"vector": 4, "planes": planes, "masked": True, "written": True, "summed": True}
    variant = bias_activation_gradient_kernel.variant("float32", threads=256, resident=3, **constants)
    text = sass(variant, architecture)
    assert not spills(text)
    assert count(text, r"LDG\.E\.128") >= 4  # two places of two arrays, on their way together
    assert count(text, r"STG\.E\.128") >= 2
