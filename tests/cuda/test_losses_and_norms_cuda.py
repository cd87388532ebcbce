"""Losses and normalisations on the GPU that the fixture gives: the values and gradients of the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pycnn.functional as F
from pycnn import Tensor

X = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
T = np.random.default_rng(1).standard_normal((4, 6)).astype(np.float32)
SIGNS, LABELS = np.array([1, -1, -1, 1]), np.array([0, 5, 2, 2])
LISTS = np.array([[1, 5, -1, 0, 0, 0]] * 4)

#: Of x, t and a function that puts an array where they are.
CALLS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "cross_entropy": lambda x, t, put: F.cross_entropy(x, LABELS, t[0] * 0 + put(T[0] ** 2), ignore_index=5),
    "nll_loss": lambda x, t, put: F.nll_loss(x.reshape(2, 6, 2), put(LABELS.reshape(2, 2)), ignore_index=5),
    "logits": lambda x, t, put: F.binary_cross_entropy_with_logits(x, put(T**2), put(T[0] ** 2), pos_weight=t * t),
    "kl_div": lambda x, t, put: F.kl_div(x, t * t, reduction="batchmean"),
    "mse_loss": lambda x, t, put: F.mse_loss(x, t),
    "smooth_l1_loss": lambda x, t, put: F.smooth_l1_loss(x, t, beta=0.5) + F.l1_loss(x, t),
    "gaussian_nll_loss": lambda x, t, put: F.gaussian_nll_loss(x, t, put(T[:, 0] ** 2)),
    "poisson_nll_loss": lambda x, t, put: F.poisson_nll_loss(x, t * t, full=True),
    "hinge_embedding_loss": lambda x, t, put: F.hinge_embedding_loss(x, put(SIGNS[:, None])),
    "soft_margin_loss": lambda x, t, put: F.soft_margin_loss(x, put(SIGNS[:, None])),
    "triplet_margin_loss": lambda x, t, put: F.triplet_margin_loss(x, t, t * t, p=3.0, swap=True),
    "cosine_embedding_loss": lambda x, t, put: F.cosine_embedding_loss(x, t, put(SIGNS)),
    "multi_margin_loss": lambda x, t, put: F.multi_margin_loss(x, LABELS, weight=put(T[0] ** 2)),
    "multilabel_margin_loss": lambda x, t, put: F.multilabel_margin_loss(x, LISTS),
    "multilabel_soft_margin_loss": lambda x, t, put: F.multilabel_soft_margin_loss(x, put(T**2), weight=t),
    "cosine_similarity": lambda x, t, put: F.cosine_similarity(x, t),
    "normalize": lambda x, t, put: F.normalize(x, float("inf")) * t,
    "instance_norm": lambda x, t, put: F.instance_norm(x.reshape(2, 2, 6), weight=t[0, :2], bias=t[1, :2]),
    "group_norm": lambda x, t, put: F.group_norm(x.reshape(2, 6, 2), 3, t[0], t[1], data_format="channels_first"),
    "group_norm of channels last": lambda x, t, put: F.group_norm(
        x.reshape(2, 2, 6), 3, t[0], t[1], data_format="channels_last"
    ),
    "rms_norm": lambda x, t, put: F.rms_norm(x, (6,), t[0]),
    "linear": lambda x, t, put: F.linear(x, t, put(np.float32([[1, 2, 3, 4]] * 4))),
    "linear of nothing": lambda x, t, put: F.linear(x[:, :0], t[:, :0], t[:, 0]),
    "bilinear": lambda x, t, put: F.bilinear(x, t[:, :2], t.reshape(2, 6, 2), t[0, :2]),
    "embedding": lambda x, t, put: F.embedding(put(LABELS % 4), x, 0, scale_grad_by_freq=True) * t,
}


@pytest.mark.parametrize("name", CALLS)
def test_values_and_gradients_are_those_of_the_cpu(name: str, device: Any) -> None:
    found = []
    for place in ("cpu", "cuda"):
        put = device.xp.asarray if place == "cuda" else np.asarray
        x, t = (Tensor(put(values), requires_grad=name != "cross_entropy" or i == 0) for i, values in enumerate((X, T)))
        y = CALLS[name](x, t, put)
        assert y.backend.name == place
        (y * y * y).sum().backward()
        arrays = [y, x.grad, t.grad]
        found.append([None if each is None else Tensor(each).to("cpu").detach().numpy() for each in arrays])
    for cpu, cuda in zip(*found):
        assert (cpu is None) == (cuda is None)
        if cpu is not None:
            np.testing.assert_allclose(cuda, cpu, rtol=1e-5, atol=1e-5 * max(np.abs(cpu).max(initial=0), 1e-3))


def test_statistics_move_where_they_are(device: Any) -> None:
    x = device.xp.asarray(X.reshape(2, 2, 6))
    mean, var = (device.xp.asarray(values) for values in (np.zeros(2, np.float32), np.ones(2, np.float32)))
    F.instance_norm(x, mean, var, momentum=1.0)
    np.testing.assert_allclose(mean.get(), X.reshape(2, 2, 6).mean((0, 2)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(var.get(), X.reshape(2, 2, 6).var(2, ddof=1).mean(0), rtol=1e-5)


def test_numbers_of_classes_and_rows_in_place(device: Any) -> None:
    np.testing.assert_array_equal(F.one_hot(device.xp.asarray(LABELS)).get(), np.eye(6, dtype=np.int64)[LABELS])
    table = device.xp.asarray(X)
    F.embedding(device.xp.asarray(np.array([1, 1, 3])), table, max_norm=0.5)
    lengths = np.sqrt((table.get() ** 2).sum(1))
    np.testing.assert_allclose(lengths[[1, 3]], 0.5, rtol=1e-4)
    np.testing.assert_array_equal(table.get()[[0, 2]], X[[0, 2]])
