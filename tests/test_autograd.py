"""Gradients of every operation against differences of its values, first and second order; and the walk itself."""

from __future__ import annotations

import functools
import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pycnn
import pycnn.functional as F
from pycnn import Tensor
from pycnn.autograd import is_grad_enabled
from pycnn.functional.conv import ConvolutionWeightGradient

RNG = np.random.default_rng(7)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape)


def positive(*shape: int) -> np.ndarray:
    return RNG.random(shape) + 0.5


def apart(*shape: int) -> np.ndarray:
    """Numbers that are not close to each other nor to 0, where relu, abs and maxima have their kinks."""
    count = int(np.prod(shape))
    return RNG.permutation(np.arange(count) - count // 2 + 0.3).reshape(shape) / 8


def poolings_of_every_rank() -> dict[str, tuple[Callable[..., Any], list[np.ndarray]]]:
    """Operations that signals, images and volumes have, each with an input."""
    arguments: dict[str, tuple[Any, ...]] = {
        "max_pool": (2, 1), "avg_pool": (2, 1), "lp_pool": (2, 2, 1), "adaptive_max_pool": (2,),
        "adaptive_avg_pool": (2,), "mixed_pool": (2, 1), "stochastic_pool": (2, 1),
    }  # fmt: skip
    expected = {"mixed_pool": {"training": False}, "stochastic_pool": {"training": False}}
    found: dict[str, tuple[Callable[..., Any], list[np.ndarray]]] = {}
    for rank in (1, 2, 3):
        for name, values in arguments.items():
            pool, settings = getattr(F, f"{name}{rank}d"), expected.get(name, {})
            call = functools.partial(
                lambda pool, values, settings, x: pool(x, *values, **settings), pool, values, settings
            )
            found[f"{name}{rank}d"] = (call, [apart(*(2, 2, 3, 4, 3)[: rank + 2])])
        unpool, places = getattr(F, f"max_unpool{rank}d"), np.array([3, 0, 5]).reshape(1, 1, 3, *(1,) * (rank - 1))
        call = functools.partial(lambda unpool, places, x: unpool(x, places, 2), unpool, places)
        found[f"max_unpool{rank}d"] = (call, [normal(*places.shape)])
    return found


LABELS = np.array([1, 0, 3])
WEIGHTS = np.array([0.5, 1, 2, 1.5])
SIGNS = np.array([[1, -1, -1, 1], [-1, 1, 1, -1], [1, 1, -1, -1]])
IMAGE, KERNEL, BIAS = normal(2, 4, 7, 6), normal(6, 4, 3, 2), normal(6)
MASK = np.array([[True, False, True, True], [False] * 4, [True] * 4])

#: name: the operation, and the arrays that it is differentiated by.
OPERATIONS: dict[str, tuple[Callable[..., Tensor], list[np.ndarray]]] = {
    "add": (lambda a, b: a + b, [normal(3, 4), normal(3, 4)]),
    "add a number": (lambda a: 2 + a + 1.5, [normal(3, 4)]),
    "add an array": (lambda a: a + np.ones((3, 4)), [normal(3, 4)]),
    "subtract": (lambda a, b: a - b, [normal(3, 4), normal(3, 4)]),
    "subtract from a number": (lambda a: 2 - a, [normal(3, 4)]),
    "multiply": (lambda a, b: a * b, [normal(3, 4), normal(3, 4)]),
    "multiply by itself": (lambda a: a * a, [normal(3, 4)]),
    "divide": (lambda a, b: a / b, [normal(3, 4), positive(3, 4)]),
    "divide a number": (lambda a: 3 / a, [positive(3, 4)]),
    "power": (lambda a, b: a**b, [positive(3, 4), normal(3, 4)]),
    "square": (lambda a: a**2, [normal(3, 4)]),
    "inverse square root": (lambda a: a**-0.5, [positive(3, 4)]),
    "power of a number": (lambda a: 2**a, [normal(3, 4)]),
    "negate": (lambda a: -a, [normal(3, 4)]),
    "broadcast rows": (lambda a, b: a * b, [normal(3, 4), normal(4)]),
    "broadcast columns": (lambda a, b: a / b, [normal(3, 4), positive(3, 1)]),
    "broadcast both ways": (lambda a, b: a * b, [normal(3, 1), normal(1, 4)]),
    "broadcast a scalar": (lambda a, b: a**b, [positive(3, 4), normal()]),
    "broadcast new axes": (lambda a, b: a - b * b, [normal(2, 3, 4), normal(3, 1)]),
    "matmul": (lambda a, b: a @ b, [normal(3, 4), normal(4, 5)]),
    "matmul with itself": (lambda a: a @ a, [normal(3, 3)]),
    "matmul vector vector": (lambda a, b: a @ b, [normal(4), normal(4)]),
    "matmul vector matrix": (lambda a, b: a @ b, [normal(4), normal(4, 5)]),
    "matmul matrix vector": (lambda a, b: a @ b, [normal(3, 4), normal(4)]),
    "matmul stacks": (lambda a, b: a @ b, [normal(2, 3, 4), normal(2, 4, 5)]),
    "matmul broadcast stacks": (lambda a, b: a @ b, [normal(2, 1, 3, 4), normal(6, 4, 5)]),
    "matmul stack vector": (lambda a, b: a @ b, [normal(2, 3, 4), normal(4)]),
    "matmul vector stack": (lambda a, b: a @ b, [normal(3), normal(2, 3, 4)]),
    "matmul array": (lambda a: np.ones((2, 3)) @ a, [normal(3, 4)]),
    "exp": (lambda a: a.exp(), [normal(3, 4)]),
    "log": (lambda a: a.log(), [positive(3, 4)]),
    "sqrt": (lambda a: a.sqrt(), [positive(3, 4)]),
    "abs": (lambda a: a.abs(), [apart(3, 4)]),
    "clip": (lambda a: a.clip(-0.6, 0.4), [apart(3, 4)]),
    "clip below": (lambda a: a.clip(0), [apart(3, 4)]),
    "sum": (lambda a: a.sum(), [normal(3, 4)]),
    "sum along an axis": (lambda a: a.sum(1) * a.sum(-1), [normal(3, 4)]),
    "sum along axes": (lambda a: a.sum((0, 2), keepdims=True), [normal(3, 4, 2)]),
    "mean": (lambda a: a.mean() * a.mean(0), [normal(3, 4)]),
    "mean along axes": (lambda a: a.mean((1, 2)), [normal(3, 4, 2)]),
    "reshape": (lambda a: a.reshape(2, -1) * 2, [normal(3, 4)]),
    "transpose": (lambda a: a.transpose(2, 0, 1), [normal(3, 4, 2)]),
    "transpose counted from the end": (lambda a: a.transpose(0, -1, 1), [normal(3, 4, 2)]),
    "reverse the axes": (lambda a: a.T @ a, [normal(3, 4)]),
    "index": (lambda a: a[1], [normal(3, 4)]),
    "slice": (lambda a: a[::-2, 1:3], [normal(3, 4)]),
    "index with repeats": (lambda a: a[[0, 0, 2]] * a[[1, 2, 2]], [normal(3, 4)]),
    "index pairs": (lambda a: a[np.arange(3), LABELS], [normal(3, 4)]),
    "index with a mask": (lambda a: a[MASK], [normal(3, 4)]),
    "index with a tensor": (lambda a: a[Tensor(LABELS[:2])], [normal(3, 4)]),
    "new axes": (lambda a: a[..., None, 1:], [normal(3, 4)]),
    "astype": (lambda a: a.astype(np.float64) * 2, [normal(3, 4)]),
    "conv2d": (lambda x, w, b: F.conv2d(x, w, b), [IMAGE, KERNEL, BIAS]),
    "conv2d_batch_norm": (
        lambda x, w, b, weight, bias: F.conv2d_batch_norm(
            x, w, b, norm=F.BatchStatisticsNorm(None, None, weight, bias), activation="relu"
        ),
        [IMAGE, KERNEL, BIAS, normal(6), normal(6)],
    ),
    "conv2d_batch_norm and max_pool2d": (
        lambda x, w, weight: F.conv2d_batch_norm(
            x,
            w,
            norm=F.BatchStatisticsNorm(None, None, weight),
            pool_size=2,
            data_format="channels_last",
            weight_format="HWIO",
            activation="relu",
        ),
        [IMAGE.transpose(0, 2, 3, 1), KERNEL.transpose(2, 3, 1, 0), normal(6)],
    ),
    "conv2d steps": (
        lambda x, w, b: F.conv2d(x, w, b, 2, ((1, 0), (0, 2)), (1, 2)),
        [IMAGE, KERNEL, BIAS],
    ),
    "conv2d groups": (lambda x, w: F.conv2d(x, w, None, 1, 1, groups=2), [IMAGE, KERNEL[:, :2]]),
    "conv2d relu": (lambda x, w, b: F.conv2d(x, w, b, activation="relu"), [IMAGE, KERNEL, BIAS]),
    "conv2d relu without bias": (lambda x, w: F.conv2d(x, w, activation="relu"), [IMAGE, KERNEL]),
    "conv2d channels last": (
        lambda x, w, b: F.conv2d(
            x, w, b, padding=1, activation="relu", data_format="channels_last", weight_format="HWIO"
        ),
        [normal(2, 5, 6, 3), normal(3, 3, 3, 5), normal(5)],
    ),
    "conv2d of one image": (lambda x, w, b: F.conv2d(x, w, b, padding="same"), [IMAGE[0], KERNEL, BIAS]),
    "conv1d": (lambda x, w, b: F.conv1d(x, w, b, 2, 1, 2), [normal(2, 4, 9), normal(6, 4, 3), normal(6)]),
    "conv1d of one signal": (lambda x, w: F.conv1d(x, w, groups=2, padding="same"), [normal(4, 9), normal(6, 2, 4)]),
    "conv3d": (
        lambda x, w, b: F.conv3d(x, w, b, (1, 2, 1), 1, activation="relu"),
        [normal(2, 3, 3, 5, 4), normal(4, 3, 2, 3, 3), normal(4)],
    ),
    "conv3d channels last": (
        lambda x, w: F.conv3d(x, w, dilation=(1, 2, 1), data_format="channels_last", weight_format="DHWIO"),
        [normal(3, 5, 4, 2), normal(2, 2, 3, 2, 3)],
    ),
    "conv_transpose1d": (
        lambda x, w, b: F.conv_transpose1d(x, w, b, 3, 1, 2),
        [normal(2, 4, 5), normal(4, 3, 3), normal(3)],
    ),
    "conv_transpose1d beyond the last window": (
        lambda x, w, b: F.conv_transpose1d(x, w, b, 1, 0, 2, 2, 3),
        [normal(4, 5), normal(4, 3, 2), normal(6)],
    ),
    "conv_transpose2d": (F.conv_transpose2d, [normal(2, 4, 5, 3), normal(4, 3, 2, 3), normal(3)]),
    "conv_transpose2d groups": (
        lambda x, w, b: F.conv_transpose2d(x, w, b, 2, ((1, 0), (0, 2)), (1, 0), 2, (1, 2)),
        [normal(2, 4, 5, 3), normal(4, 3, 2, 3), normal(6)],
    ),
    "conv_transpose2d relu": (
        lambda x, w, b: F.conv_transpose2d(x, w, b, 2, activation="relu"),
        [normal(2, 4, 5, 3), normal(4, 3, 2, 3), normal(3)],
    ),
    "conv_transpose2d leaky_relu": (
        lambda x, w, b: F.conv_transpose2d(x, w, b, activation="leaky_relu", negative_slope=0.3),
        [normal(2, 4, 5, 3), normal(4, 3, 2, 3), normal(3)],
    ),
    "conv_transpose2d tanh": (
        lambda x, w: F.conv_transpose2d(x, w, activation="tanh"),
        [normal(1, 2, 4, 3), normal(2, 3, 2, 3) / 4],
    ),
    "conv_transpose2d sigmoid": (
        lambda x, w, b: F.conv_transpose2d(
            x, w, b, 2, activation="sigmoid", data_format="channels_last", weight_format="HWOI"
        ),
        [normal(4, 3, 2), normal(2, 3, 3, 2), normal(3)],
    ),
    "conv_transpose3d": (
        lambda x, w, b: F.conv_transpose3d(x, w, b, (1, 2, 1), 1, (0, 1, 0)),
        [normal(2, 3, 3, 2, 4), normal(3, 4, 2, 3, 3), normal(4)],
    ),
    "max_pool2d overlapping": (lambda x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True), [apart(2, 3, 6, 7)]),
    "max_pool2d dilated": (lambda x: F.max_pool2d(x, 2, 1, 1, 2), [apart(2, 3, 6, 7)]),
    "max_pool2d channels last": (lambda x: F.max_pool2d(x, 3, 2, data_format="channels_last"), [apart(2, 7, 6, 3)]),
    "max_pool2d with indices": (lambda x: F.max_pool2d(x, 2, return_indices=True)[0], [apart(2, 3, 6, 7)]),
    "max_pool2d of one image": (lambda x: F.max_pool2d(x, 2), [apart(3, 6, 7)]),
    "conv2d_max_pool2d": (
        lambda x, w, b: F.conv2d_max_pool2d(x, w, b, padding=1, activation="tanh", pool_size=3, pool_stride=2),
        [normal(2, 3, 6, 7), normal(2, 3, 3, 3), normal(2)],
    ),
    "batch_norm_max_pool2d": (
        lambda x, w, b: F.batch_norm_max_pool2d(x, *_statistics(x), w, b, pool_size=2),
        [apart(2, 4, 4, 5), normal(4), normal(4)],
    ),
    "conv2d_max_pool2d norm": (
        lambda x, w, b, scale: F.conv2d_max_pool2d(
            x, w, b, activation="tanh", pool_size=2, norm=F.RunningNorm(*_statistics(x), scale, b)
        ),
        [normal(2, 3, 6, 7), normal(4, 3, 3, 3), normal(4), normal(4)],
    ),
    "avg_pool2d padded": (lambda x: F.avg_pool2d(x, 3, 2, 1, True, False), [normal(2, 3, 6, 7)]),
    "avg_pool2d channels last": (
        lambda x: F.avg_pool2d(x, 3, 2, 1, divisor_override=4, data_format="channels_last"),
        [normal(2, 6, 7, 3)],
    ),
    **poolings_of_every_rank(),
    "fractional_max_pool3d": (
        lambda x: F.fractional_max_pool3d(x, 2, 2, _random_samples=np.full((1, 2, 3), 0.4, x.dtype)),
        [apart(1, 2, 4, 4, 5)],
    ),
    "adaptive_max_pool2d of overlapping windows": (lambda x: F.adaptive_max_pool2d(x, (2, 5)), [apart(2, 3, 5, 3)]),
    "adaptive_avg_pool2d channels last": (
        lambda x: F.adaptive_avg_pool2d(x, (2, 5), data_format="channels_last"),
        [normal(2, 5, 3, 3)],
    ),
    "lp_pool2d overlapping": (lambda x: F.lp_pool2d(x, 2, 3, 2), [normal(2, 3, 6, 7)]),
    "lp_pool1d of cubes": (lambda x: F.lp_pool1d(x, 3, 3, 2), [positive(2, 3, 7)]),
    "max_unpool2d of a given size": (
        lambda x: F.max_unpool2d(x, np.array([3, 0, 11, 5]).reshape(1, 1, 2, 2), 2, output_size=(3, 4)),
        [normal(1, 1, 2, 2)],
    ),
    "mixed_pool2d overlapping": (lambda x: F.mixed_pool2d(x, 3, 2, 1, part=0.3), [apart(2, 3, 6, 7)]),
    "stochastic_pool2d expected": (lambda x: F.stochastic_pool2d(x, 2, training=False), [apart(2, 3, 4, 4)]),
    "fractional_max_pool2d": (
        lambda x: F.fractional_max_pool2d(x, 3, 3, _random_samples=np.full((2, 3, 2), 0.6, x.dtype)),
        [apart(2, 3, 6, 7)],
    ),
    "linear": (F.linear, [normal(3, 2, 5), normal(4, 5), normal(4)]),
    "linear relu": (
        lambda x, w, b: F.linear(x, w, b, weight_format="IO", activation="relu"),
        [normal(3, 5), normal(5, 4), normal(4)],
    ),
    "linear single output": (F.linear, [normal(3, 5), normal(5), normal()]),
    "relu": (F.relu, [apart(3, 4)]),
    "tanh": (F.tanh, [normal(3, 4)]),
    "sigmoid": (F.sigmoid, [normal(3, 4)]),
    "softmax": (lambda x: F.softmax(x, 1), [normal(3, 4)]),
    "softmax along a middle axis": (lambda x: F.softmax(x, 1), [normal(2, 3, 4)]),
    "log_softmax": (lambda x: F.log_softmax(x, 0), [normal(3, 4)]),
    "cross_entropy": (lambda x: F.cross_entropy(x, LABELS), [normal(3, 4)]),
    "cross_entropy with everything": (
        lambda x: F.cross_entropy(x, LABELS, WEIGHTS, ignore_index=0, label_smoothing=0.1),
        [normal(3, 4)],
    ),
    "cross_entropy smoothed": (
        lambda x: F.cross_entropy(x, LABELS, reduction="none", label_smoothing=0.3),
        [normal(3, 4)],
    ),
    "cross_entropy of images": (
        lambda x: F.cross_entropy(x, LABELS.reshape(1, 3, 1), reduction="sum"),
        [normal(1, 4, 3, 1)],
    ),
    "cross_entropy of probabilities": (
        lambda x, t: F.cross_entropy(x, t, WEIGHTS, label_smoothing=0.1),
        [normal(3, 4), positive(3, 4)],
    ),
    "binary_cross_entropy": (F.binary_cross_entropy, [RNG.random((3, 4)) * 0.8 + 0.1, RNG.random((3, 4)) * 0.8 + 0.1]),
    "binary_cross_entropy weighted": (
        lambda x: F.binary_cross_entropy(x, np.ones(4), WEIGHTS, reduction="none"),
        [RNG.random(4) * 0.8 + 0.1],
    ),
    "batch_norm": (
        lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
        [normal(3, 4, 2, 3), positive(4), normal(4)],
    ),
    "batch_norm relu": (
        lambda x, w, b: F.batch_norm(
            x, None, None, w, b, training=True, eps=0.1, data_format="channels_last", activation="relu"
        ),
        [apart(5, 3, 4), positive(4), normal(4)],
    ),
    "batch_norm alone": (lambda x: F.batch_norm(x, None, None, training=True), [normal(5, 4)]),
    "batch_norm running": (
        lambda x, w, b: F.batch_norm(x, *_statistics(x), w, b, activation="relu"),
        [apart(3, 4, 5), positive(4), normal(4)],
    ),
    "batch_norm running alone": (lambda x: F.batch_norm(x, *_statistics(x)), [normal(3, 4)]),
    "binary_cross_entropy_with_logits": (
        lambda x, t, w, p: F.binary_cross_entropy_with_logits(x, t, w, pos_weight=p),
        [normal(3, 4), positive(3, 4), positive(4), positive(3, 1)],
    ),
    "nll_loss": (lambda x: F.nll_loss(x, LABELS.reshape(3, 1), ignore_index=0), [normal(3, 4, 1)]),
    "kl_div": (lambda x, t: F.kl_div(x, t, reduction="batchmean"), [normal(3, 4), positive(3, 4)]),
    "kl_div of logarithms": (
        lambda x, t: F.kl_div(x, t, reduction="sum", log_target=True),
        [normal(3, 4), normal(3, 4)],
    ),
    "mse_loss": (F.mse_loss, [normal(3, 4), normal(3, 4)]),
    "mse_loss with weights": (lambda x, t, w: F.mse_loss(x, t, weight=w), [normal(3, 4), normal(3, 4), positive(3, 4)]),
    "l1_loss": (lambda x, t: F.l1_loss(x, t, reduction="none"), [normal(3, 4), normal(3, 4)]),
    "smooth_l1_loss": (lambda x, t: F.smooth_l1_loss(x, t, beta=0.7), [normal(3, 4), normal(3, 4)]),
    "huber_loss": (lambda x, t: F.huber_loss(x, t, delta=0.7), [normal(3, 4), normal(3, 4)]),
    "poisson_nll_loss": (lambda x, t: F.poisson_nll_loss(x, t, full=True), [normal(3, 4), positive(3, 4) + 2]),
    "poisson_nll_loss of rates": (lambda x, t: F.poisson_nll_loss(x, t, False), [positive(3, 4), positive(3, 4)]),
    "gaussian_nll_loss": (F.gaussian_nll_loss, [normal(3, 4), normal(3, 4), positive(3)]),
    "hinge_embedding_loss": (lambda x: F.hinge_embedding_loss(x, SIGNS), [normal(3, 4)]),
    "margin_ranking_loss": (lambda x, y: F.margin_ranking_loss(x, y, SIGNS, 0.3), [normal(3, 4), normal(3, 4)]),
    "soft_margin_loss": (lambda x, t: F.soft_margin_loss(x, t), [normal(3, 4), normal(3, 4)]),
    "triplet_margin_loss": (
        lambda a, p, n: F.triplet_margin_loss(a, p, n, 3.0, swap=True),
        [normal(3, 4), normal(3, 4), normal(3, 4)],
    ),
    "cosine_embedding_loss": (
        lambda x, y: F.cosine_embedding_loss(x, y, SIGNS[:, 0], -0.9),
        [normal(3, 4), normal(3, 4)],
    ),
    "multi_margin_loss": (lambda x: F.multi_margin_loss(x, LABELS, 2), [normal(3, 4)]),
    "multilabel_margin_loss": (
        lambda x: F.multilabel_margin_loss(x, np.array([[0, 2, -1, 1]] * 3)),
        [normal(3, 4)],
    ),
    "multilabel_soft_margin_loss": (F.multilabel_soft_margin_loss, [normal(3, 4), positive(3, 4), positive(4)]),
    "cosine_similarity": (F.cosine_similarity, [normal(3, 4), normal(3, 4)]),
    "pairwise_distance": (lambda x, y: F.pairwise_distance(x, y, 2.5), [normal(3, 4), normal(4)]),
    "normalize": (lambda x: F.normalize(x, 3, 0), [apart(3, 4)]),
    "rms_norm": (lambda x, w: F.rms_norm(x, (4,), w), [normal(3, 4), normal(4)]),
    "instance_norm": (lambda x, w, b: F.instance_norm(x, None, None, w, b), [normal(2, 3, 4), normal(3), normal(3)]),
    "group_norm": (
        lambda x, w, b: F.group_norm(x, 2, w, b, data_format="channels_last"),
        [normal(2, 3, 4), normal(4), normal(4)],
    ),
    "bilinear": (F.bilinear, [normal(3, 4), normal(3, 2), normal(5, 4, 2), normal(5)]),
    "embedding": (lambda w: F.embedding(np.array([[1, 0], [1, 3]]), w, 2), [normal(4, 3)]),
    "linear of one_hot rows": (lambda w: F.linear(F.one_hot(LABELS, 4).astype(w.dtype), w), [normal(3, 4)]),
    "layer_norm": (lambda x, w, b: F.layer_norm(x, (4,), w, b), [normal(3, 2, 4), normal(4), normal(4)]),
    "layer_norm over two axes": (lambda x, w: F.layer_norm(x, (2, 4), w), [normal(3, 2, 4), normal(2, 4)]),
    "layer_norm with a bias alone": (lambda x, b: F.layer_norm(x, [4], bias=b, eps=0.1), [normal(3, 4), normal(4)]),
    "layer_norm alone": (lambda x: F.layer_norm(x, (4,)), [normal(3, 4)]),
    "local_response_norm": (lambda x: F.local_response_norm(x, 3, 0.6), [normal(2, 5, 3)]),
    "local_response_norm of even windows": (
        lambda x: F.local_response_norm(x, 4, 0.6, 0.5, 2.0),
        [normal(2, 5, 2, 3)],
    ),
    "local_response_norm of windows larger than all": (
        lambda x: F.local_response_norm(x, 2**20, 1e6),
        [normal(2, 3, 4)],
    ),
    "local_response_norm channels last": (
        lambda x: F.local_response_norm(x, 2, 0.6, 1.4, data_format="channels_last"),
        [normal(2, 3, 2, 5)],
    ),
    "dropout": (lambda x: _seeded(F.dropout)(x, 0.4), [normal(3, 4)]),
    "dropout1d": (lambda x: _seeded(F.dropout1d)(x, 0.4), [normal(3, 4)]),
    "dropout2d": (lambda x: _seeded(F.dropout2d)(x, 0.4), [normal(2, 3, 2, 2)]),
    "dropout3d": (lambda x: _seeded(F.dropout3d)(x, 0.4), [normal(4, 1, 2, 2)]),
    "alpha_dropout": (lambda x: _seeded(F.alpha_dropout)(x, 0.4, True), [normal(3, 4)]),
    "feature_alpha_dropout": (lambda x: _seeded(F.feature_alpha_dropout)(x, 0.4, True), [normal(3, 4, 2)]),
    "rrelu": (lambda x: _seeded(F.rrelu)(x, training=True), [normal(3, 4)]),
    "gumbel_softmax": (lambda x: _seeded(F.gumbel_softmax)(x, 0.7), [normal(3, 4)]),
    "prelu": (F.prelu, [normal(3, 4), normal(4)]),
    "threshold": (lambda x: F.threshold(x, 0.1, -2), [normal(3, 4)]),
    "gelu tanh": (lambda x: F.gelu(x, approximate="tanh"), [normal(3, 4)]),
    "softplus": (lambda x: F.softplus(x, 1.5, 2), [normal(3, 4)]),
    "celu": (lambda x: F.celu(x, 0.6), [normal(3, 4)]),
    "softmin": (lambda x: F.softmin(x, 1), [normal(3, 4)]),
    "glu": (lambda x: F.glu(x, 0), [normal(4, 3)]),
    "a small network": (
        lambda x, w, b, v: F.cross_entropy(
            F.linear(F.max_pool2d(F.conv2d(x, w, b, activation="relu"), 2).reshape(3, -1), v), LABELS
        ),
        [normal(3, 2, 6, 6), normal(3, 2, 3, 3), normal(3), normal(4, 12)],
    ),
}
OPERATIONS |= {
    name: (getattr(F, name), [3 * normal(3, 4)])
    for name in (
        "relu6", "leaky_relu", "elu", "selu", "silu", "mish", "gelu", "hardtanh", "hardsigmoid", "hardswish",
        "hardshrink", "softshrink", "logsigmoid", "softsign", "tanhshrink",
    )
}  # fmt: skip

OPERATIONS |= {
    "channel_shuffle": (lambda x: F.channel_shuffle(x, 2), [normal(2, 4, 3)]),
    "pixel_shuffle": (lambda x: F.pixel_shuffle(x, 2), [normal(2, 4, 2, 3)]),
    "pixel_unshuffle": (lambda x: F.pixel_unshuffle(x, 2), [normal(2, 1, 4, 6)]),
    "pad": (lambda x: F.pad(x, (1, 2, -1, 1), "reflect"), [normal(2, 3, 4, 5)]),
    "pad around": (lambda x: F.pad(x, (2, 1), "circular"), [normal(2, 3, 4)]),
    "unfold": (lambda x: F.unfold(x, (2, 3), 2, 1, (1, 2)), [normal(2, 3, 5, 6)]),
    "fold": (lambda x: F.fold(x, (4, 5), (2, 3), padding=1, stride=2), [normal(2, 12, 9)]),
    "affine_grid": (lambda theta: F.affine_grid(theta, (2, 1, 3, 2)), [normal(2, 2, 3)]),
    "grid_sample": (
        lambda x, grid: F.grid_sample(x, grid, padding_mode="reflection"),
        [normal(2, 2, 3, 4), normal(2, 2, 3, 2)],
    ),
    "grid_sample of volumes": (
        lambda x, grid: F.grid_sample(x, grid, padding_mode="border"),
        [normal(2, 1, 3, 2, 4), normal(2, 2, 1, 2, 3)],
    ),
    "interpolate": (lambda x: F.interpolate(x, size=(3, 7), mode="bicubic"), [normal(1, 2, 5, 4)]),
    "interpolate by area": (lambda x: F.interpolate(x, size=(3, 2), mode="area"), [normal(1, 2, 5, 4)]),
}

#: The same for what the engine does not compute yet.
PENDING: dict[str, tuple[Callable[..., Tensor], list[np.ndarray]]] = {
    "conv1d reflect": (
        lambda x, w, b: F.conv1d(x, w, b, 2, ((3, 1),), padding_mode="reflect"),
        [normal(2, 4, 7), normal(6, 4, 3), normal(6)],
    ),
    "conv2d replicate": (
        lambda x, w, b: F.conv2d(x, w, b, 1, (2, 1), padding_mode="replicate", activation="relu"),
        [IMAGE, KERNEL, BIAS],
    ),
    "conv3d circular": (
        lambda x, w: F.conv3d(x, w, padding="same", padding_mode="circular"),
        [normal(2, 3, 3, 2, 4), normal(4, 3, 2, 3, 3)],
    ),
    "conv2d leaky_relu": (
        lambda x, w, b: F.conv2d(x, w, b, activation="leaky_relu", negative_slope=0.2),
        [IMAGE, KERNEL, BIAS],
    ),
    "conv2d tanh": (lambda x, w, b: F.conv2d(x, w, b, activation="tanh"), [IMAGE, KERNEL / 4, BIAS]),
    "conv1d sigmoid": (lambda x, w: F.conv1d(x, w, activation="sigmoid"), [normal(4, 9), normal(6, 4, 3) / 4]),
    "conv2d scale": (lambda x, w, s: F.conv2d(x, w, scale=s), [IMAGE, KERNEL, np.array([0, 1, -2, 0.5, 0, 3])]),
    "conv2d residual": (lambda x, w, r: F.conv2d(x, w, residual=r), [IMAGE, KERNEL, normal(2, 6, 5, 5)]),
    "conv2d scale bias relu": (
        lambda x, w, b, s: F.conv2d(x, w, b, scale=s, activation="relu"),
        [IMAGE, KERNEL, BIAS, normal(6)],
    ),
    "conv2d everything": (
        lambda x, w, b, s, r: F.conv2d(
            x, w, b, 2, ((1, 0), (0, 2)), scale=s, residual=r, activation="tanh", groups=2, padding_mode="reflect"
        ),
        [IMAGE, KERNEL[:, :2] / 4, BIAS, normal(6), normal(2, 6, 3, 4)],
    ),
    "conv3d everything, channels last": (
        lambda x, w, b, s, r: F.conv3d(
            x, w, b, scale=s, residual=r, activation="leaky_relu", data_format="channels_last", weight_format="DHWIO"
        ),
        [normal(4, 3, 5, 2), normal(2, 3, 3, 2, 4), normal(4), normal(4), normal(3, 1, 3, 4)],
    ),
    "conv2d everything of one image": (
        lambda x, w, b, s, r: F.conv2d(x, w, b, scale=s, residual=r, activation="relu"),
        [IMAGE[0], KERNEL, BIAS, normal(6), normal(6, 5, 5)],
    ),
}
NAMES = [*OPERATIONS, *PENDING]


def _statistics(x: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Means and variances of four channels, in the dtype of x."""
    return np.arange(4).astype(x.dtype), np.arange(1, 5).astype(x.dtype)


def _seeded(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The function with the same numbers drawn in each call."""

    def seeded(*arguments: Any, **settings: Any) -> Tensor:
        pycnn.random.seed(5)
        return function(*arguments, **settings)

    return seeded


def leaves(arrays: list[np.ndarray]) -> list[Tensor]:
    return [Tensor(a, requires_grad=True) for a in arrays]


def gradients(tensors: list[Tensor]) -> list[np.ndarray]:
    return [np.zeros(t.shape) if t.grad is None else t.grad.data for t in tensors]


def assert_derivatives(value: Callable[..., float], arrays: list[np.ndarray], found: list[np.ndarray]) -> None:
    """Compare gradients with differences of ``value`` along a random direction in each of the arrays."""
    step = 1e-5
    for i, (array, gradient) in enumerate(zip(arrays, found)):
        assert gradient.shape == array.shape
        direction = np.random.default_rng(i).standard_normal(array.shape)
        ahead, behind = ([*arrays[:i], array + sign * step * direction, *arrays[i + 1 :]] for sign in (1, -1))
        expected = (value(*ahead) - value(*behind)) / (2 * step)
        assert (gradient * direction).sum() == pytest.approx(expected, rel=2e-6, abs=2e-7), f"operand {i}"


@pytest.mark.parametrize("name", NAMES)
def test_first_derivatives(name: str) -> None:
    operation, arrays = (OPERATIONS | PENDING)[name]
    tensors = leaves(arrays)
    y = operation(*tensors)
    weights = np.random.default_rng(11).standard_normal(y.shape)
    y.backward(weights)
    for tensor in tensors:
        assert tensor.grad.dtype == tensor.dtype
        assert not tensor.grad.requires_grad
    assert_derivatives(lambda *a: float((operation(*map(Tensor, a)).data * weights).sum()), arrays, gradients(tensors))


@pytest.mark.parametrize("name", NAMES)
def test_second_derivatives(name: str) -> None:
    """The gradient of a random mixture of the first gradients."""
    operation, arrays = (OPERATIONS | PENDING)[name]
    mixtures = [np.random.default_rng(13 + i).standard_normal(a.shape) for i, a in enumerate(arrays)]

    def mixed_gradients(*a: np.ndarray) -> tuple[list[Tensor], Tensor]:
        tensors = leaves(list(a))
        y = operation(*tensors)
        # Weighted by y, so that operations that are linear have second derivatives too.
        (y * y).sum().backward(create_graph=True)
        mixture = Tensor(np.zeros(()))
        for tensor, weights in zip(tensors, mixtures):
            mixture = mixture + (tensor.grad * weights).sum()
            tensor.grad = None
        return tensors, mixture

    tensors, mixture = mixed_gradients(*arrays)
    mixture.backward()
    assert_derivatives(lambda *a: mixed_gradients(*a)[1].item(), arrays, gradients(tensors))


def test_every_function_is_differentiated_here() -> None:
    """A new public operation without a gradient check is noticed. Those in place have the gradients of the others."""
    checked = " ".join(OPERATIONS)
    functions = [name.removesuffix("_") for name in F.__all__ if not isinstance(getattr(F, name), type)]
    assert [name for name in functions if name not in checked] == []


#: Names of operations that bring a float64 operand of their own end like this.
WIDE_ENDINGS = ("array", "astype", "weighted", "everything", "probabilities")


@pytest.mark.parametrize("name", [name for name in OPERATIONS if not name.endswith(WIDE_ENDINGS)])
def test_float32_stays_float32(name: str) -> None:
    operation, arrays = OPERATIONS[name]
    tensors = leaves([a.astype(np.float32) for a in arrays])
    y = operation(*tensors)
    assert y.dtype == np.float32
    y.sum().backward()
    for tensor in tensors:
        assert tensor.grad.dtype == np.float32


# Accumulation.


def test_gradients_add_up_until_cleared() -> None:
    x = Tensor([1.0, 2.0], requires_grad=True)
    for calls in (1, 2, 3):
        (x * x).sum().backward()
        np.testing.assert_array_equal(x.grad.data, calls * 2 * x.data)
    x.grad = None
    (x * 3).sum().backward()
    np.testing.assert_array_equal(x.grad.data, [3, 3])


def test_a_kept_gradient_does_not_change_later() -> None:
    x = Tensor([1.0, 2.0], requires_grad=True)
    (x * x).sum().backward()
    first = x.grad.data
    copy = first.copy()
    (x * x).sum().backward()
    np.testing.assert_array_equal(first, copy)


def test_diamonds() -> None:
    """A result that is used twice hands both gradients on, once."""
    x = Tensor(np.array(3.0), requires_grad=True)
    y = x * x
    z = y * y + y  # x^4 + x^2
    z.backward()
    assert x.grad.item() == 4 * 27 + 2 * 3


def test_a_chain_of_diamonds_takes_linear_time() -> None:
    x = Tensor(np.array(1.0), requires_grad=True)
    y = x
    for _ in range(60):
        y = y + y  # 2^60 paths
    y.backward()
    assert x.grad.item() == 2.0**60


def test_ten_thousand_additions() -> None:
    """No recursion, neither in the walk back nor when the graph is thrown away."""
    x = Tensor(np.array(1.0), requires_grad=True)
    y = x
    for _ in range(10_000):
        y = y + x
    y.backward()
    assert x.grad.item() == 10_001


def test_a_deep_graph_is_thrown_away_unused() -> None:
    x = Tensor(np.array(1.0), requires_grad=True)
    y = x
    for _ in range(100_000):
        y = y + 1
    del y
    gc.collect()


def test_several_results_share_a_leaf() -> None:
    x = Tensor([1.0, 2.0], requires_grad=True)
    a, b = x * 2, x * 3
    a.sum().backward()
    b.sum().backward()
    np.testing.assert_array_equal(x.grad.data, [5, 5])


def test_only_leaves_that_ask_get_a_gradient() -> None:
    x, w, c = Tensor([1.0], requires_grad=True), Tensor([2.0], requires_grad=True), Tensor([3.0])
    hidden = x * w
    (hidden * c).backward()
    assert hidden.grad is None
    assert c.grad is None
    assert (x.grad.item(), w.grad.item()) == (6, 3)


def test_the_gradient_of_a_leaf_itself() -> None:
    x = Tensor([1.0, 2.0], requires_grad=True)
    x.backward(np.array([3.0, 4.0]))
    np.testing.assert_array_equal(x.grad.data, [3, 4])
    assert x.grad.dtype == np.float32


def test_a_wider_operand_does_not_widen_the_gradient() -> None:
    x, w = Tensor(np.ones(3, np.float32), requires_grad=True), Tensor(np.ones(3), requires_grad=True)
    y = x * w
    assert y.dtype == np.float64
    y.sum().backward()
    assert (x.grad.dtype, w.grad.dtype) == (np.float32, np.float64)


def test_integers_take_part_without_a_gradient() -> None:
    x = Tensor(np.array([1.0, 2.0]), requires_grad=True)
    (x * Tensor(np.array([3, 4]))).sum().backward()
    np.testing.assert_array_equal(x.grad.data, [3, 4])


def test_indices_have_no_gradient() -> None:
    x = Tensor(apart(1, 1, 4, 4), requires_grad=True)
    y, indices = F.max_pool2d(x, 2, return_indices=True)
    assert y.requires_grad
    assert not indices.requires_grad
    assert indices.numpy().dtype == np.int64


def test_integers_and_masks_have_no_gradient() -> None:
    x = Tensor(apart(3), requires_grad=True)
    assert not (x > 0).requires_grad
    assert not x.astype(np.int64).requires_grad


MASKING = {
    "relu": F.relu,
    "clip": lambda x: x.clip(0),
    "conv2d": lambda x: F.conv2d(x, np.ones((1, 1, 1, 1)), activation="relu"),
    "conv_transpose2d": lambda x: F.conv_transpose2d(x, np.ones((1, 1, 1, 1)), activation="relu"),
    "max_pool2d": lambda x: F.max_pool2d(x, (1, 2)),
}


@pytest.mark.parametrize("name", MASKING)
def test_masked_gradients_are_dropped_even_if_they_are_not_finite(name: str) -> None:
    """Where the derivative is 0, 0 * inf must not become NaN."""
    x = Tensor(np.array([-2.0, -1.0, 1.0, 2.0]).reshape(1, 1, 2, 2), requires_grad=True)
    y = MASKING[name](x)
    upstream = np.where(y.data > 0, 5, np.inf)
    y.backward(upstream)
    if name == "max_pool2d":
        np.testing.assert_array_equal(x.grad.data.ravel(), [0, np.inf, 0, 5])
    else:
        np.testing.assert_array_equal(x.grad.data.ravel(), [0, 0, 5, 5])


@pytest.mark.parametrize(("exponent", "slope"), [(0, 0), (1, 1), (2, 0), (3, 0)])
def test_the_power_of_zero(exponent: int, slope: int) -> None:
    """Constant and linear powers have finite derivatives at 0."""
    x = Tensor(np.zeros(1), requires_grad=True)
    (x**exponent).backward()
    assert x.grad.item() == slope


# The graph.


def test_a_graph_is_released_after_use() -> None:
    x = Tensor([1.0], requires_grad=True)
    y = (x * x).exp()
    y.backward()
    with pytest.raises(RuntimeError, match=r"released; pass retain_graph=True to the earlier call"):
        y.backward()


def test_a_graph_can_be_retained() -> None:
    x = Tensor([1.0], requires_grad=True)
    y = x * x
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.item() == 4
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        y.backward()


def test_activations_are_let_go_after_use() -> None:
    x = Tensor(np.ones(4), requires_grad=True)
    hidden = x.exp()
    loss = (hidden * hidden).sum()
    alive = weakref.ref(hidden)
    del hidden
    assert alive() is not None
    loss.backward()
    assert alive() is None


def test_nothing_is_recorded_without_a_reason() -> None:
    x = Tensor(np.ones(4))
    y = x.exp()
    alive = weakref.ref(x)
    del x
    assert not y.requires_grad
    assert alive() is None


def test_detach() -> None:
    x = Tensor([2.0], requires_grad=True)
    y = x * x
    assert not y.detach().requires_grad
    assert np.shares_memory(y.detach().data, y.data)
    (y.detach() * x).backward()
    assert x.grad.item() == 4


def test_no_grad() -> None:
    x = Tensor([1.0], requires_grad=True)
    with pycnn.no_grad():
        assert not is_grad_enabled()
        assert not (x * 2).requires_grad
        with pycnn.no_grad():
            pass
        assert not is_grad_enabled()
    assert is_grad_enabled()
    assert (x * 2).requires_grad


def test_no_grad_ends_with_an_error() -> None:
    with pytest.raises(KeyError), pycnn.no_grad():
        raise KeyError
    assert is_grad_enabled()


def test_no_grad_is_of_one_thread() -> None:
    seen: list[bool] = []
    with pycnn.no_grad():
        thread = threading.Thread(target=lambda: seen.append(is_grad_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]


def test_first_gradients_are_recorded_only_when_asked() -> None:
    x = Tensor([2.0], requires_grad=True)
    (x**3).backward()
    assert not x.grad.requires_grad
    x.grad = None
    (x**3).backward(create_graph=True)
    first = x.grad
    assert first.requires_grad
    x.grad = None
    first.backward(create_graph=True)
    second = x.grad
    assert second.item() == 12
    x.grad = None
    second.backward()
    assert x.grad.item() == 6


# Errors.


@pytest.mark.parametrize(
    ("tensor", "gradient", "error", "message"),
    [
        (Tensor([1.0]), None, RuntimeError, "backward\\(\\) of a tensor that does not require a gradient"),
        (Tensor([1.0, 2.0], requires_grad=True), None, RuntimeError, "of shape \\(2,\\) needs the argument grad"),
        (
            Tensor([1.0, 2.0], requires_grad=True),
            np.ones(3),
            ValueError,
            "the gradient must have the shape of the output, \\(2,\\); received \\(3,\\)",
        ),
        (
            Tensor([1.0, 2.0], requires_grad=True),
            Tensor(np.ones((2, 1))),
            ValueError,
            "the gradient must have the shape of the output, \\(2,\\); received \\(2, 1\\)",
        ),
    ],
)
def test_errors(tensor: Tensor, gradient: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        tensor.backward(gradient)
    assert tensor.grad is None


# Who owns a gradient's memory


def test_leaves_do_not_share_gradients() -> None:
    a, b = leaves([normal(3), normal(3)])
    start = normal(3)
    (a + b).backward(start)
    assert a.grad is not b.grad
    for gradient in (a.grad.data, b.grad.data):
        np.testing.assert_array_equal(gradient, start)
        assert not np.shares_memory(gradient, start)
    assert not np.shares_memory(a.grad.data, b.grad.data)


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: x,
        lambda x: x.sum(),
        lambda x: x.sum(axis=0),
        lambda x: x.reshape(-1),
        lambda x: x.transpose(),
        lambda x: x + x,
        lambda x: x * 2,
        lambda x: x[1:],
    ],
)
@pytest.mark.parametrize("create_graph", [False, True])
def test_a_gradient_belongs_to_its_leaf(operation: Callable[[Tensor], Tensor], create_graph: bool) -> None:
    (x,) = leaves([normal(2, 3)])
    y = operation(x)
    start = np.ones(y.shape)
    y.backward(start, create_graph=create_graph)
    assert x.grad.data.flags.c_contiguous
    x.grad.data *= 2
    np.testing.assert_array_equal(start, np.ones(y.shape))


def test_a_fresh_gradient_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    compute = ConvolutionWeightGradient.forward

    def noted(*arguments: Any, **settings: Any) -> np.ndarray:
        made.append(compute(*arguments, **settings))
        return made[-1]

    monkeypatch.setattr(ConvolutionWeightGradient, "forward", noted)
    x, w = leaves([normal(1, 2, 4, 4), normal(3, 2, 3, 3)])
    F.conv2d(x, w).sum().backward()
    assert w.grad.data is made[0]


def test_a_starting_gradient_of_another_dtype_is_converted() -> None:
    x = Tensor(np.ones((1, 1, 3, 3), np.float32), requires_grad=True)
    F.conv2d(x, Tensor(np.ones((1, 1, 2, 2), np.float32))).backward(Tensor(np.ones((1, 1, 2, 2))))
    assert x.grad.dtype == np.float32
    assert x.grad.data.sum() == 16


def test_a_starting_gradient_of_another_dtype_keeps_its_history() -> None:
    x = Tensor(np.ones(3, np.float32), requires_grad=True)
    start = Tensor(np.ones(3), requires_grad=True)
    (x * 2).backward(start, create_graph=True)
    x.grad.sum().backward()
    np.testing.assert_array_equal(start.grad.data, [2, 2, 2])


def test_cross_entropy_computes_softmax_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("softmax was computed again")

    (x,) = leaves([normal(4, 3)])
    loss = F.cross_entropy(x, np.array([0, 1, 2, 0]))
    monkeypatch.setattr("pycnn.functional.loss.softmax", refuse)
    loss.backward()
    assert x.grad is not None


def test_a_convolution_keeps_its_result_for_relu_alone() -> None:
    x, w = leaves([normal(1, 2, 4, 4), normal(3, 2, 3, 3)])
    for activation, kept in ((None, False), ("relu", True)):
        y = F.conv2d(x, w, activation=activation)
        node = y._node.inputs[0]._node if not hasattr(y._node, "y") else y._node
        assert (node.y is not None) is kept
