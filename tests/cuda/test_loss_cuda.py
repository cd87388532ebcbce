"""Losses on the GPU: every formula as the CPU computes it, sums over several blocks, and compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pycnn_kernels.cuda.channels import VECTOR
from pycnn_kernels.cuda.launch import MOST_ELEMENTS, THREADS
from pycnn_kernels.cuda.loss import _BLOCKS_EACH, loss_gradient_kernel, loss_kernel, loss_sum_kernel
from pycnn_kernels.losses import LOSSES
from pycnn_kernels.plan import plan_for
from pycnn_kernels.problem import LossProblem
from tests.cuda.sass import ARCHITECTURES, count, sass, spills
from tests.kernels.problems import DTYPES, numbers, run_on_host

BOUNDS = {"float32": 2e-6, "float64": 1e-14}


def _both(operation: str, problem: LossProblem, *inputs: np.ndarray, scalars: tuple[float, ...]) -> None:
    """The same on both backends."""
    (expected,) = plan_for(operation, problem).run(*inputs, scalars=scalars)
    (found,) = run_on_host(plan_for(operation, problem, backend="cuda"), *inputs, scalars=scalars)
    bound = BOUNDS[problem.dtype]
    np.testing.assert_allclose(found, expected, rtol=20 * bound, atol=4 * bound)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_the_one_of_the_cpu(device: Any, name: str, dtype: str) -> None:
    x, t, dy = (np.abs(numbers((27,), dtype, seed)) / 4 + 0.01 for seed in range(3))
    x[:3], t[3:6] = np.nan, [0, 1, np.nan]
    _both("loss", LossProblem(dtype, name, 27), x, t, scalars=(0.3,))
    _both("loss_sum", LossProblem(dtype, name, 20, summed=True), x[7:], t[7:], scalars=(0.1, 0.3))
    for operand, formula in enumerate(LOSSES[name].gradients):
        if formula is not None:
            p = LossProblem(dtype, name, 27, operand=operand)
            _both("loss_gradient", p, dy, x, t, scalars=(0.3,))
            _both("loss_gradient", p._replace(summed=True), dy[:1], x, t, scalars=(0.1, 0.3))


def test_sums_whose_threads_go_on(device: Any) -> None:
    """To a second vector, and the last of them to what is left."""
    size = _BLOCKS_EACH * device.processors * THREADS * VECTOR + 7
    x, t = (numbers((size,), "float32", seed) for seed in range(2))
    _both("loss_sum", LossProblem("float32", "squared_error", size, summed=True), x, t, scalars=(1 / size, 0))


@pytest.mark.parametrize("size", [0, 1, 3, 4, 1030])
def test_sizes(device: Any, size: int) -> None:
    x, t = (numbers((size,), "float32", seed) for seed in range(2))
    for name in ("squared_error", "huber"):
        _both("loss", LossProblem("float32", name, size), x, t, scalars=(0.5,))
        _both("loss_sum", LossProblem("float32", name, size, summed=True), x, t, scalars=(0.01, 0.5))
        p = LossProblem("float32", name, size, summed=True)
        _both("loss_gradient", p, np.ones(1, np.float32), x, t, scalars=(0.01, 0.5))


def test_larger_than_32_bits_count(device: Any) -> None:
    for operation in ("loss", "loss_sum", "loss_gradient"):
        with pytest.raises(ValueError, match="arrays of at most"):
            plan_for(operation, LossProblem("float32", "huber", MOST_ELEMENTS + 1), backend="cuda")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_compiled(architecture: str) -> None:
    """Four elements at a time, and nothing in local memory."""
    for variant in (
        loss_kernel.variant("float32", name="logistic"),
        loss_sum_kernel.variant("float32", name="binary_cross_entropy"),
        loss_gradient_kernel.variant("float32", name="divergence", operand=1, summed=True),
        loss_gradient_kernel.variant("float32", name="huber", operand=0, summed=False),
    ):
        text = sass(variant, architecture)
        assert not spills(text)
        assert count(text, r"LDG\.E\.128|LDG\.E\.[\w.]*128")
