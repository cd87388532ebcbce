"""Small calls, whose time is not that of computing: ``pycnn.functional`` on NumPy's arrays, PyTorch on its tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import pycnn.functional as F
from bench.measure import Side
from bench.peers import has


def _arrays(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    return [np.random.default_rng(sum(shape)).random(shape, dtype=np.float32) for shape in shapes]


_LABELS = np.array([1, 2, 3, 0])
_SIGNS = np.array([1, -1, -1, 1], np.float32)
_IMAGE, _MANY, _ROWS = (1, 3, 4, 4), (1, 8, 4, 4), (4, 8)
#: Two operands of a loss.
_PAIR = _arrays(_ROWS, _ROWS)

#: What is called of a functional module, and the arrays that it is called with.
CALLS: dict[str, tuple[Callable[..., Any], list[np.ndarray]]] = {
    "conv2d": (lambda f, x, w: f.conv2d(x, w), _arrays(_IMAGE, (8, 3, 3, 3))),
    "conv2d with bias, stride and padding": (
        lambda f, x, w, b: f.conv2d(x, w, b, 2, 1), _arrays(_IMAGE, (8, 3, 3, 3), (8,)),
    ),
    "max_pool2d": (lambda f, x: f.max_pool2d(x, 2), _arrays(_IMAGE)),
    "linear": (lambda f, x, w: f.linear(x, w), _arrays((1, 8), (4, 8))),
    "linear with bias": (lambda f, x, w, b: f.linear(x, w, b), _arrays((1, 8), (4, 8), (4,))),
    "relu": (lambda f, x: f.relu(x), _arrays(_IMAGE)),
    "gelu": (lambda f, x: f.gelu(x), _arrays(_IMAGE)),
    "leaky_relu": (lambda f, x: f.leaky_relu(x), _arrays(_IMAGE)),
    "softmax": (lambda f, x: f.softmax(x, 1), _arrays((1, 10))),
    "log_softmax": (lambda f, x: f.log_softmax(x, 1), _arrays((1, 10))),
    "batch_norm": (lambda f, x, mean, var: f.batch_norm(x, mean, var), _arrays(_IMAGE, (3,), (3,))),
    "batch_norm in training": (
        lambda f, x, mean, var: f.batch_norm(x, mean, var, training=True), _arrays(_IMAGE, (3,), (3,)),
    ),
    "layer_norm": (lambda f, x: f.layer_norm(x, (8,)), _arrays((2, 8))),
    "rms_norm": (lambda f, x: f.rms_norm(x, (8,)), _arrays((2, 8))),
    "group_norm": (lambda f, x: f.group_norm(x, 2), _arrays(_MANY)),
    "instance_norm": (lambda f, x: f.instance_norm(x), _arrays(_IMAGE)),
    "local_response_norm": (lambda f, x: f.local_response_norm(x, 3), _arrays(_IMAGE)),
    "normalize": (lambda f, x: f.normalize(x), _arrays(_ROWS)),
    "dropout": (lambda f, x: f.dropout(x, 0.5, True), _arrays(_ROWS)),
    "embedding": (lambda f, i, w: f.embedding(i, w), [_LABELS, *_arrays((10, 4))]),
    "one_hot": (lambda f, i: f.one_hot(i, 5), [_LABELS]),
    "interpolate, nearest": (lambda f, x: f.interpolate(x, scale_factor=2), _arrays(_IMAGE)),
    "interpolate, bilinear": (lambda f, x: f.interpolate(x, scale_factor=2, mode="bilinear"), _arrays(_IMAGE)),
    "pad": (lambda f, x: f.pad(x, (1, 1, 1, 1)), _arrays(_IMAGE)),
    "pad, reflected": (lambda f, x: f.pad(x, (1, 1, 1, 1), mode="reflect"), _arrays(_IMAGE)),
    "pixel_shuffle": (lambda f, x: f.pixel_shuffle(x, 2), _arrays(_MANY)),
    "channel_shuffle": (lambda f, x: f.channel_shuffle(x, 2), _arrays(_MANY)),
    "unfold": (lambda f, x: f.unfold(x, 2), _arrays(_IMAGE)),
    "cross_entropy": (lambda f, x, t: f.cross_entropy(x, t), [_PAIR[0], _LABELS]),
    "cross_entropy of probabilities": (lambda f, x, t: f.cross_entropy(x, t), _PAIR),
    "nll_loss": (lambda f, x, t: f.nll_loss(x, t), [_PAIR[0], _LABELS]),
    "binary_cross_entropy": (lambda f, x, t: f.binary_cross_entropy(x, t), _PAIR),
    "binary_cross_entropy_with_logits": (lambda f, x, t: f.binary_cross_entropy_with_logits(x, t), _PAIR),
    "mse_loss": (lambda f, x, t: f.mse_loss(x, t), _PAIR),
    "l1_loss": (lambda f, x, t: f.l1_loss(x, t), _PAIR),
    "smooth_l1_loss": (lambda f, x, t: f.smooth_l1_loss(x, t), _PAIR),
    "huber_loss": (lambda f, x, t: f.huber_loss(x, t), _PAIR),
    "kl_div": (lambda f, x, t: f.kl_div(x, t, reduction="batchmean"), _PAIR),
    "poisson_nll_loss": (lambda f, x, t: f.poisson_nll_loss(x, t), _PAIR),
    "gaussian_nll_loss": (lambda f, x, t, v: f.gaussian_nll_loss(x, t, v), [*_PAIR, _PAIR[0] + 1]),
    "soft_margin_loss": (lambda f, x, t: f.soft_margin_loss(x, t), [*_arrays((4,)), _SIGNS]),
    "hinge_embedding_loss": (lambda f, x, t: f.hinge_embedding_loss(x, t), [*_arrays((4,)), _SIGNS]),
    "margin_ranking_loss": (lambda f, a, b, t: f.margin_ranking_loss(a, b, t), [*_arrays((4,), (4,)), _SIGNS]),
    "triplet_margin_loss": (lambda f, a, p, n: f.triplet_margin_loss(a, p, n), [*_PAIR, _PAIR[0] + 1]),
    "cosine_similarity": (lambda f, a, b: f.cosine_similarity(a, b), _PAIR),
    "pairwise_distance": (lambda f, a, b: f.pairwise_distance(a, b), _PAIR),
}  # fmt: skip


def call_sides(name: str, repeated: int = 100) -> dict[str, Side]:
    """The call of each library, so many times in a row: a clock of its own would take as long as a call."""
    call, arrays = CALLS[name]
    sides: dict[str, Side] = {"pycnn": _repeat(lambda: call(F, *arrays), repeated)}
    if has("torch"):
        import torch

        tensors = [torch.from_numpy(array) for array in arrays]
        sides["torch"] = _repeat(torch.no_grad()(lambda: call(torch.nn.functional, *tensors)), repeated)
    return sides


def _repeat(call: Callable[[], object], times: int) -> Side:
    def side() -> None:
        for _ in range(times):
            call()

    return side
