"""Activations on the GPU: every formula as the CPU computes it, through the public operations, and compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pycnn.functional as F
from pycnn import Tensor
from pycnn_kernels.activations import ACTIVATIONS
from pycnn_kernels.cuda.activation import activation_gradient_kernel, activation_kernel
from pycnn_kernels.cuda.launch import MOST_ELEMENTS
from pycnn_kernels.plan import plan_for
from pycnn_kernels.problem import ActivationProblem
from tests import reference as oracle
from tests.cuda.sass import ARCHITECTURES, count, sass, spills
from tests.kernels.problems import DTYPES, numbers, run_on_host

#: Some parameters of each that takes any.
PARAMETERS = {
    "leaky_relu": (0.1,), "threshold": (0.3, -2.0), "elu": (1.2, 0.7, 1.5), "hardtanh": (-0.5, 0.8),
    "hardshrink": (0.6,), "softshrink": (0.4,), "softplus": (1.5, 2.0),
}  # fmt: skip


def _x(size: int, dtype: str) -> np.ndarray:
    """Normal numbers, kinks and what is no number among them."""
    x = 2 * numbers((size,), dtype)
    special = np.array([np.nan, -np.inf, np.inf, 0, -0.0, 3, -3, 100, -100], dtype)
    x[: special.size] = special[:size]
    return x


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_is_the_one_of_the_cpu(device: Any, name: str, dtype: str) -> None:
    x, dy, parameters = _x(27, dtype), numbers((27,), dtype, 1), PARAMETERS.get(name, ())
    for derivative in range(3 if ACTIVATIONS[name].curvature else 2):
        problem = ActivationProblem(dtype, name, 27, derivative)
        operation, inputs = ("activation_gradient", (dy, x)) if derivative else ("activation", (x,))
        (expected,) = plan_for(operation, problem).run(*inputs, scalars=parameters)
        (found,) = run_on_host(plan_for(operation, problem, backend="cuda"), *inputs, scalars=parameters)
        bound = 1e-6 if dtype == "float32" else 1e-14
        np.testing.assert_allclose(found, expected, rtol=20 * bound, atol=4 * bound)


@pytest.mark.parametrize("size", [0, 1, 3, 4, 1030])
def test_sizes(device: Any, size: int) -> None:
    x = numbers((size,), "float32")
    plan = plan_for("activation", ActivationProblem("float32", "relu", size), backend="cuda")
    np.testing.assert_array_equal(run_on_host(plan, x)[0], np.maximum(x, 0))


def test_larger_than_32_bits_count(device: Any) -> None:
    with pytest.raises(ValueError, match="arrays of at most"):
        plan_for("activation", ActivationProblem("float32", "relu", MOST_ELEMENTS + 1), backend="cuda")


@pytest.mark.parametrize(
    "compute",
    [
        lambda x: F.gelu(x) + F.mish(x),
        lambda x: F.hardtanh(x) + F.softshrink(x),
        lambda x: F.glu(x, dim=0),
        lambda x: F.prelu(x, Tensor(np.array([0.2, 0.3, -0.1]), backend=x.backend)),
        lambda x: F.softmin(x, dim=1),
    ],
    ids=["curves", "straight lines", "glu", "prelu", "softmin"],
)
def test_operations_and_their_gradients(device: Any, compute: Any) -> None:
    """The same on both backends: values, first and second derivatives."""
    found = []
    for place in ("cpu", "cuda"):
        x = Tensor(numbers((4, 3), "float64"), requires_grad=True, backend=place)
        y = compute(x)
        assert y.backend.name == place
        (y * y).sum().backward(create_graph=True)
        first = x.grad
        x.grad = None
        (first * first).sum().backward()
        found.append([each.detach().to("cpu").numpy() for each in (y, first, x.grad)])
    for one, other in zip(*found):
        oracle.assert_close(one, other)


def test_dropouts_drop_what_they_drop_on_the_cpu(device: Any) -> None:
    import pycnn

    x = numbers((3, 4, 5), "float32")
    for drop in (F.dropout, F.dropout1d, F.alpha_dropout, F.feature_alpha_dropout):
        pycnn.random.seed(3)
        expected = drop(x, 0.5, True)
        pycnn.random.seed(3)
        np.testing.assert_allclose(drop(device.xp.asarray(x), 0.5, True).get(), expected, rtol=1e-6)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_compiled(architecture: str) -> None:
    """Four elements at a time, and nothing in local memory."""
    for variant in (
        activation_kernel.variant("float32", name="gelu"),
        activation_gradient_kernel.variant("float32", name="mish", derivative=2),
    ):
        text = sass(variant, architecture)
        assert not spills(text)
        assert count(text, r"LDG\.E\.128|LDG\.E\.[\w.]*128")
        assert count(text, r"STG\.E\.128")
