"""The oracle: what every operation computes, as plain loops in float64.

Nothing here comes from the engine, not even the arithmetic of shapes: windows are counted by moving them, padding
is a larger array. Images are channels last, ``x (N, *spatial, C)`` with any number of spatial axes, and weights
``w (*kernel, C / groups, K)``; :func:`channels_last` and :func:`taps_first` bring other layouts there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

#: Relative to the largest element of the expected array: rounding of sums of a few thousand terms.
BOUNDS = {"float32": 3e-6, "float64": 1e-13}

Sides = Sequence[tuple[int, int]]


def assert_close(found: Any, expected: Any, bound: float | None = None, least: float = 0.0) -> None:
    """Fail unless two arrays agree: shape, NaN and infinities exactly, the rest within ``bound`` of the largest.

    Without a bound, the one of ``found``'s dtype in :data:`BOUNDS`. ``least``: what counts as the largest at least.
    """
    found = np.asarray(found)
    bound = BOUNDS[found.dtype.name] if bound is None else bound
    found, expected = found.astype(np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape, f"shape {found.shape}, expected {expected.shape}"
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(np.where(np.isfinite(found), 0, found), np.where(finite, 0, expected))
    difference = np.abs(found[finite] - expected[finite])
    largest = np.abs(expected[finite]).max(initial=least)
    worst = difference.max(initial=0)
    assert worst <= bound * largest, f"off by {worst:.3g}, {worst / (largest or 1):.3g} of the largest; bound {bound}"


#: Half the distance from a number to the next one, relative to the number, and between the smallest numbers.
ROUNDING = {"float16": (2.0**-11, 2.0**-25), "bfloat16": (2.0**-8, 2.0**-134)}


def assert_rounded(found: Any, expected: Any, bound: float | None = None, least: float = 0.0) -> None:
    """Fail unless an array is the expected one, computed in float32 and then rounded once to its dtype.

    NaN and infinities are exact. Each other element may be off by half a unit in its last place, and by what sums in
    float32 are: ``bound`` of the largest, by default that of float32. ``least``: what counts as the largest at least.
    """
    found = np.asarray(found)
    relative, absolute = ROUNDING[found.dtype.name]
    found, expected = found.astype(np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape, f"shape {found.shape}, expected {expected.shape}"
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(np.where(np.isfinite(found), 0, found), np.where(finite, 0, expected))
    found, expected = found[finite], expected[finite]
    summed = (BOUNDS["float32"] if bound is None else bound) * np.abs(expected).max(initial=least)
    allowed = summed + relative * (np.abs(expected) + summed) + absolute
    excess = (np.abs(found - expected) / allowed).max(initial=0)
    assert excess <= 1, f"off by {excess:.3g} times what one rounding and sums in float32 allow"


def channels_last(x: np.ndarray, layout: str) -> np.ndarray:
    """(N, *spatial, C) from an array of the given layout."""
    return np.moveaxis(x, 1, -1) if layout == "channels_first" else x


def in_layout(x: np.ndarray, layout: str) -> np.ndarray:
    """From (N, *spatial, C) to the given layout."""
    return np.moveaxis(x, -1, 1) if layout == "channels_first" else x


def taps_first(w: np.ndarray, weight_layout: str) -> np.ndarray:
    """(*kernel, C / groups, K) from weights of the given layout."""
    return np.moveaxis(w, (1, 0), (-2, -1)) if weight_layout == "OIHW" else w


def in_weight_layout(w: np.ndarray, weight_layout: str) -> np.ndarray:
    """From (*kernel, C / groups, K) to the given layout."""
    return np.moveaxis(w, (-2, -1), (1, 0)) if weight_layout == "OIHW" else w


def places(size: int, kernel: int, stride: int, sides: tuple[int, int], dilation: int) -> int:
    """How many times a window fits into the padded input, counted by moving it."""
    count = 0
    while count * stride + (kernel - 1) * dilation < size + sum(sides):
        count += 1
    return count


#: NumPy's names of the ways of padding.
PADDING_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def padded(x: np.ndarray, padding: Sides, mode: str = "zeros") -> np.ndarray:
    return np.pad(np.asarray(x, np.float64), [(0, 0), *padding, (0, 0)], mode=PADDING_MODES[mode])  # type: ignore[call-overload]


def padded_gradient(dx: np.ndarray, padding: Sides, mode: str = "zeros") -> np.ndarray:
    """The gradient of :func:`padded`: each element gathers what became of all places that show it."""
    for axis, (before, after) in enumerate(padding, start=1):
        size = dx.shape[axis] - before - after
        shown = np.pad(np.arange(1, size + 1), (before, after), mode=PADDING_MODES[mode])  # type: ignore[call-overload]
        parts = [dx.take(np.flatnonzero(shown == i), axis).sum(axis) for i in range(1, size + 1)]
        dx = np.stack(parts, axis)
    return dx


def meetings(
    x_shape: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sides,
    dilation: Sequence[int],
) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
    """Each tap of the kernel, with the part of the padded input that it meets, over all places of the window."""
    counts = [places(*axis) for axis in zip(x_shape[1:-1], kernel, stride, padding, dilation)]
    for tap in np.ndindex(*kernel):
        firsts = [t * d for t, d in zip(tap, dilation)]
        steps = [slice(first, first + (n - 1) * s + 1, s) for first, n, s in zip(firsts, counts, stride)]
        yield tap, (slice(None), *steps)


def groups_of(groups: int, channels: int) -> list[slice]:
    """The channels of each group."""
    size = channels // groups
    return [slice(g * size, (g + 1) * size) for g in range(groups)]


def convolution(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None = None,
    *,
    stride: Sequence[int],
    padding: Sides,
    dilation: Sequence[int],
    groups: int = 1,
    padding_mode: str = "zeros",
) -> np.ndarray:
    """``y[n, o, k] = b[k] + sum over taps t and channels c of padded x[n, o * S + t * D, c] w[t, c, k]``."""
    kernel, K = w.shape[:-2], w.shape[-1]
    source = padded(x, padding, padding_mode)
    counts = [places(*axis) for axis in zip(x.shape[1:-1], kernel, stride, padding, dilation)]
    y = np.zeros((x.shape[0], *counts, K))
    for tap, part in meetings(x.shape, kernel, stride, padding, dilation):
        for of_x, of_y in zip(groups_of(groups, x.shape[-1]), groups_of(groups, K)):
            y[..., of_y] += source[part][..., of_x] @ w[tap][:, of_y].astype(np.float64)
    return y if b is None else y + b


def epilogue(
    y: np.ndarray,
    b: np.ndarray | None = None,
    scale: np.ndarray | None = None,
    residual: np.ndarray | None = None,
    activation: str | None = None,
    slope: float = 0.01,
) -> np.ndarray:
    """``activation(scale * y + b + residual)``, channels last."""
    for factor in () if scale is None else (scale,):
        y = y * factor.astype(np.float64)
    for term in (term for term in (b, residual) if term is not None):
        y = y + term.astype(np.float64)
    with np.errstate(over="ignore"):
        return {
            None: lambda: y,
            "relu": lambda: np.maximum(y, 0),
            "leaky_relu": lambda: np.where(y < 0, slope * y, y),
            "tanh": lambda: np.tanh(y),
            "sigmoid": lambda: 1 / (1 + np.exp(-y)),
        }[activation]()


def convolution_input_gradient(
    dy: np.ndarray,
    w: np.ndarray,
    x_shape: Sequence[int],
    *,
    stride: Sequence[int],
    padding: Sides,
    dilation: Sequence[int],
    groups: int = 1,
    padding_mode: str = "zeros",
) -> np.ndarray:
    """Each product of :func:`convolution`, seen from x: ``dx += dy w`` at the place where x was read."""
    dx = padded(np.zeros(x_shape), padding)
    for tap, part in meetings(x_shape, w.shape[:-2], stride, padding, dilation):
        for of_x, of_y in zip(groups_of(groups, x_shape[-1]), groups_of(groups, w.shape[-1])):
            dx[part][..., of_x] += dy[..., of_y] @ w[tap][:, of_y].T.astype(np.float64)
    return padded_gradient(dx, padding, padding_mode)


def convolution_weight_gradient(
    x: np.ndarray,
    dy: np.ndarray,
    kernel: Sequence[int],
    *,
    stride: Sequence[int],
    padding: Sides,
    dilation: Sequence[int],
    groups: int = 1,
    padding_mode: str = "zeros",
) -> np.ndarray:
    """Each product of :func:`convolution`, seen from w: ``dw += x dy`` over images and places of the window."""
    source = padded(x, padding, padding_mode)
    C, K = x.shape[-1], dy.shape[-1]
    dw = np.zeros((*kernel, C // groups, K))
    for tap, part in meetings(x.shape, kernel, stride, padding, dilation):
        for of_x, of_y in zip(groups_of(groups, C), groups_of(groups, K)):
            met = source[part][..., of_x].reshape(-1, C // groups)
            dw[tap][:, of_y] = met.T @ dy[..., of_y].reshape(-1, K // groups).astype(np.float64)
    return dw


def transposed_convolution(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None = None,
    *,
    stride: Sequence[int],
    padding: Sides,
    output_padding: Sequence[int],
    dilation: Sequence[int],
    groups: int = 1,
) -> np.ndarray:
    """Each pixel of x (N, *spatial, C) adds ``x w[tap]`` for each tap, w (*kernel, K / groups, C), where that tap of
    its window lies in y; then padding is cut off, and output_padding hung on at the end of each axis."""
    kernel, R = w.shape[:-2], w.shape[-2]
    axes = list(zip(x.shape[1:-1], kernel, stride, dilation))
    y = np.zeros((x.shape[0], *((n - 1) * s + (k - 1) * d + 1 + max(s, d) for n, k, s, d in axes), R * groups))
    for place in np.ndindex(*x.shape[1:-1]):
        for tap in np.ndindex(*kernel):
            at = tuple(i * s + t * d for i, t, (_, _, s, d) in zip(place, tap, axes))
            for of_x, of_y in zip(groups_of(groups, x.shape[-1]), groups_of(groups, R * groups)):
                y[(slice(None), *at)][:, of_y] += x[(slice(None), *place)][:, of_x] @ w[tap][:, of_x].T.astype(float)
    kept = [
        slice(before, (n - 1) * s + (k - 1) * d + 1 - after + extra)
        for (n, k, s, d), (before, after), extra in zip(axes, padding, output_padding)
    ]
    y = y[(slice(None), *kept)]
    return y if b is None else y + b


def bias_gradient(dy: np.ndarray) -> np.ndarray:
    """The bias is added to every pixel of every image."""
    return dy.astype(np.float64).sum(axis=tuple(range(dy.ndim - 1)))


def pooling_places(size: int, kernel: int, stride: int, sides: tuple[int, int], dilation: int, ceil_mode: bool) -> int:
    """How many windows: those that fit; with ``ceil_mode`` also one that hangs over, if it begins in x or before."""
    count = places(size, kernel, stride, sides, dilation)
    hangs_over = (count - 1) * stride + (kernel - 1) * dilation < size + sum(sides) - 1
    begins_before_end = count * stride < size + sides[0]
    return count + (ceil_mode and hangs_over and begins_before_end)


Window = tuple[tuple[int, ...], list[tuple[int, tuple[int, ...]]], int]


def windows(x_shape: Sequence[int], *geometry: Any) -> Iterator[Window]:
    """Each window: its place; the (position in the window, place in x) of its elements inside x; how many of its
    elements lie inside x or its padding.

    ``geometry`` of all pooling: kernel, stride, padding, dilation, ceil_mode; or of adaptive pooling the output's size.
    """
    return adaptive_windows(x_shape, *geometry) if len(geometry) == 1 else regular_windows(x_shape, *geometry)


def adaptive_windows(x_shape: Sequence[int], target: Sequence[int]) -> Iterator[Window]:
    """Positions are counted in a box of the largest window's size along each axis."""
    ends = [
        [(math.floor(o * size / out), math.ceil((o + 1) * size / out)) for o in range(out)]
        for size, out in zip(x_shape[1:-1], target)
    ]
    box = [max(end - first for first, end in axis) for axis in ends]
    for o in np.ndindex(*target):
        inside = []
        for position, tap in enumerate(np.ndindex(*box)):
            first_and_end = [axis[i] for axis, i in zip(ends, o)]
            place = tuple(first + t for (first, _), t in zip(first_and_end, tap))
            if all(i < end for i, (_, end) in zip(place, first_and_end)):
                inside.append((position, place))
        yield o, inside, len(inside)


def regular_windows(
    x_shape: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sides,
    dilation: Sequence[int],
    ceil_mode: bool = False,
) -> Iterator[Window]:
    axes = list(zip(x_shape[1:-1], kernel, stride, padding, dilation))
    for o in np.ndindex(*(pooling_places(*axis, ceil_mode) for axis in axes)):
        inside, counted = [], 0
        for position, tap in enumerate(np.ndindex(*kernel)):
            place = tuple(i * s - p[0] + t * d for i, t, (_, _, s, p, d) in zip(o, tap, axes))
            counted += all(i < size + p[1] for i, (size, _, _, p, _) in zip(place, axes))
            if all(0 <= i < size for i, size in zip(place, x_shape[1:-1])):
                inside.append((position, place))
        yield o, inside, counted


def pooled_shape(x_shape: Sequence[int], *geometry: Any) -> tuple[int, ...]:
    if len(geometry) == 1:
        return (x_shape[0], *geometry[0], x_shape[-1])
    *axes, ceil_mode = geometry
    counts = [pooling_places(*axis, ceil_mode) for axis in zip(x_shape[1:-1], *axes)]
    return (x_shape[0], *counts, x_shape[-1])


def max_pooling(x: np.ndarray, *geometry: Any) -> tuple[np.ndarray, np.ndarray]:
    """The greatest of each window and its position in the window, the first of equals.

    A dilated window may reach around all of x: -inf, at position -1.
    """
    y = np.full(pooled_shape(x.shape, *geometry), -np.inf)
    position = np.full(y.shape, -1, np.int64)
    for o, inside, _ in windows(x.shape, *geometry):
        if not inside:
            continue
        values = np.stack([x[(slice(None), *place)] for _, place in inside])
        y[(slice(None), *o)] = values.max(axis=0)
        position[(slice(None), *o)] = np.array([p for p, _ in inside])[values.argmax(axis=0)]
    return y, position


def max_pooling_gradient(dy: np.ndarray, position: np.ndarray, x_shape: Sequence[int], *geometry: Any) -> np.ndarray:
    """Each window hands its gradient to the element that was its greatest."""
    dx = np.zeros(x_shape)
    for o, inside, _ in windows(x_shape, *geometry):
        at = (slice(None), *o)
        for p, place in inside:
            dx[(slice(None), *place)] += np.where(position[at] == p, dy[at], 0)
    return dx


def average_pooling(x: np.ndarray, *geometry: Any, count_padding: bool = True, divisor: int = 0) -> np.ndarray:
    """The sum of each window's elements, divided by how many count."""
    y = np.empty(pooled_shape(x.shape, *geometry))
    for o, inside, counted in windows(x.shape, *geometry):
        total = sum(x[(slice(None), *place)].astype(np.float64) for _, place in inside)
        y[(slice(None), *o)] = total / (divisor or (counted if count_padding else len(inside)))
    return y


def average_pooling_gradient(
    dy: np.ndarray, x_shape: Sequence[int], *geometry: Any, count_padding: bool = True, divisor: int = 0
) -> np.ndarray:
    """Each window hands an equal share of its gradient to its elements."""
    dx = np.zeros(x_shape)
    for o, inside, counted in windows(x_shape, *geometry):
        share = dy[(slice(None), *o)] / (divisor or (counted if count_padding else len(inside)))
        for _, place in inside:
            dx[(slice(None), *place)] += share
    return dx


def norm_pooling(x: np.ndarray, *geometry: Any) -> np.ndarray:
    """The root of the sum of squares of each window."""
    y = np.empty(pooled_shape(x.shape, *geometry))
    for o, inside, _ in windows(x.shape, *geometry):
        squares = sum(x[(slice(None), *place)].astype(np.float64) ** 2 for _, place in inside)
        y[(slice(None), *o)] = np.sqrt(squares)
    return y


def stochastic_pooling(x: np.ndarray, uniform: np.ndarray, *geometry: Any) -> tuple[np.ndarray, np.ndarray]:
    """Of each window the positive element in which the running sum passes ``uniform`` times the whole; its position.

    0 at position -1 where none is positive.
    """
    y = np.zeros(pooled_shape(x.shape, *geometry))
    position = np.full(y.shape, -1, np.int64)
    for o, inside, _ in windows(x.shape, *geometry):
        for n, c in np.ndindex(x.shape[0], x.shape[-1]):
            positive = [(p, float(x[(n, *place, c)])) for p, place in inside if x[(n, *place, c)] > 0]
            goal, passed = float(uniform[(n, *o, c)]) * sum(value for _, value in positive), 0.0
            for p, value in positive:
                if passed <= goal:
                    y[(n, *o, c)], position[(n, *o, c)] = value, p
                passed += value
    return y, position


def batch_normalisation(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, epsilon: float, statistics: Sequence[np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """y, and the mean and the variance of each channel of x (pixels, channels, inner), or those that are given."""
    y, means, variances = np.zeros(x.shape), np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for c in range(x.shape[1]):
        values = [float(value) for value in x[:, c].ravel()]
        if statistics is None:
            means[c] = math.fsum(values) / len(values)
            variances[c] = math.fsum((value - means[c]) ** 2 for value in values) / len(values)
        else:
            means[c], variances[c] = statistics[0][c], statistics[1][c]
        deviation = math.sqrt(variances[c] + epsilon)
        y[:, c] = (x[:, c].astype(np.float64) - means[c]) / deviation * weight[c] + bias[c]
    return y, means, variances


def batch_normalisation_gradient(
    dy: np.ndarray, x: np.ndarray, weight: np.ndarray, means: np.ndarray, variances: np.ndarray, epsilon: float,
    moves: bool = True,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """dx, dweight and dbias by the chain rule through y, the variance and the mean, one after the other.

    ``moves``: whether mean and variance are those of x.
    """
    dx, dweight, dbias = np.zeros(x.shape), np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for c in range(x.shape[1]):
        upstream, apart = dy[:, c].astype(np.float64), x[:, c].astype(np.float64) - means[c]
        deviation, count = math.sqrt(variances[c] + epsilon), apart.size
        dweight[c], dbias[c] = (upstream * apart / deviation).sum(), upstream.sum()
        through_y = upstream * weight[c]
        dx[:, c] = through_y / deviation
        if moves:
            dvariance = (through_y * apart).sum() * -0.5 / deviation**3
            dmean = -through_y.sum() / deviation - dvariance * 2 * apart.sum() / count
            dx[:, c] += dvariance * 2 * apart / count + dmean / count
    return dx, dweight, dbias


def softmax(x: np.ndarray, axis: int = -1) -> np.ndarray:
    e = np.exp(np.asarray(x, np.float64) - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def log_softmax(x: np.ndarray, axis: int = -1) -> np.ndarray:
    shifted = np.asarray(x, np.float64) - x.max(axis=axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))


def cross_entropy(
    x: np.ndarray, labels: np.ndarray, ignore: int = -100, smoothing: float = 0.0, weight: np.ndarray | None = None
) -> np.ndarray:
    """The loss of each row: ``-sum over classes of weight * target * log softmax``; 0 for ignored rows."""
    logs = log_softmax(x)
    losses = np.zeros(len(x))
    for row, label in enumerate(labels):
        if label != ignore:
            target = np.full(x.shape[1], smoothing / x.shape[1])
            target[label] += 1 - smoothing
            counts = target > 0  # 0 * log 0 is 0
            losses[row] = -(target * logs[row] * (1 if weight is None else weight))[counts].sum()
    return losses


def layer_normalisation(
    x: np.ndarray, weight: np.ndarray | None = None, bias: np.ndarray | None = None, eps: float = 1e-5
) -> np.ndarray:
    """Each row of x (rows, columns) with the mean 0 and the variance 1, times weight plus bias."""
    y = np.array([normal_row(row, eps)[0] for row in x.astype(np.float64)]).reshape(x.shape)
    y = y if weight is None else y * weight.astype(np.float64)
    return y if bias is None else y + bias


def normal_row(row: np.ndarray, eps: float) -> tuple[np.ndarray, float]:
    """One row normalised, and what its deviations from its mean were divided by."""
    deviation = row - math.fsum(row) / len(row)
    spread = math.sqrt(math.fsum(deviation**2) / len(row) + eps)
    return deviation / spread, spread


def layer_normalisation_gradients(
    dy: np.ndarray, x: np.ndarray, weight: np.ndarray | None = None, eps: float = 1e-5
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dx, and the gradients of weight and bias.

    Element j of a normalised row n changes with element i of x by ``((i is j) - 1 / columns - n_i n_j / columns)``
    over the row's spread.
    """
    dx, dweight, dbias = np.zeros(x.shape), np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for i, (row, upstream) in enumerate(zip(x.astype(np.float64), dy.astype(np.float64))):
        n, spread = normal_row(row, eps)
        g = upstream if weight is None else upstream * weight
        dx[i] = (g - g.sum() / len(n) - n * (n @ g) / len(n)) / spread
        dweight += upstream * n
        dbias += upstream
    return dx, dweight, dbias


def channels_around(c: int, channels: int, size: int) -> range:
    """The window of ``size`` channels around channel c, as far as there are any."""
    return range(max(c - size // 2, 0), min(c + (size - 1) // 2 + 1, channels))


def response_divisor(x: np.ndarray, c: int, size: int, alpha: float, k: float) -> np.ndarray:
    """What channel c of x (..., C) is divided by, before beta's power."""
    around = channels_around(c, x.shape[-1], size)
    return k + alpha / size * sum(x[..., j].astype(np.float64) ** 2 for j in around)


def response_normalisation(x: np.ndarray, size: int, alpha: float, beta: float, k: float) -> np.ndarray:
    """Channels last: each channel over a power of the sum of the squares of those around it."""
    y = np.zeros(x.shape)
    for c in range(x.shape[-1]):
        y[..., c] = x[..., c] / response_divisor(x, c, size, alpha, k) ** beta
    return y


def response_normalisation_gradient(
    dy: np.ndarray, x: np.ndarray, size: int, alpha: float, beta: float, k: float
) -> np.ndarray:
    """Channel c of y changes with each channel of its window, and with its own twice."""
    dx, x, dy = np.zeros(x.shape), x.astype(np.float64), dy.astype(np.float64)
    for c in range(x.shape[-1]):
        d = response_divisor(x, c, size, alpha, k)
        dx[..., c] += dy[..., c] / d**beta
        for j in channels_around(c, x.shape[-1], size):
            dx[..., j] -= dy[..., c] * x[..., c] * beta / d ** (beta + 1) * alpha / size * 2 * x[..., j]
    return dx


def adam(
    w: np.ndarray,
    gradients: Sequence[np.ndarray],
    learning_rate: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
) -> np.ndarray:
    """Algorithm 1 of Kingma and Ba, with the order of computation before its section 2.1, as Keras has it."""
    w, m, v = w.astype(np.float64), np.zeros(w.shape), np.zeros(w.shape)
    for t, g in enumerate(gradients, start=1):
        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g.astype(np.float64) ** 2
        rate = learning_rate * np.sqrt(1 - beta_2**t) / (1 - beta_1**t)
        w = w - rate * m / (np.sqrt(v) + epsilon)
    return w


def sgd(
    w: np.ndarray, gradients: Sequence[np.ndarray], learning_rate: float, momentum: float = 0, nesterov: bool = False
) -> np.ndarray:
    """Keras' SGD: ``velocity = momentum * velocity - learning_rate * g``, added to w, Nesterov's one step ahead."""
    w, velocity = w.astype(np.float64), np.zeros(w.shape)
    for g in gradients:
        velocity = momentum * velocity - learning_rate * g.astype(np.float64)
        w = w + (momentum * velocity - learning_rate * g if nesterov else velocity)
    return w


def step_back(position: int, size: int, way: str) -> int | None:
    """The element of an axis that its continuation shows at a position, found by going there; None for a number."""
    if way == "constant":
        return position if 0 <= position < size else None
    while not 0 <= position < size:
        if way == "replicate":
            position += 1 if position < 0 else -1
        elif way == "circular":
            position += size if position < 0 else -size
        else:
            position = -position if position < 0 else 2 * (size - 1) - position
    return position


def rearranged_places(
    counts: Sequence[int],
    along: Sequence[int],
    steps: Sequence[int],
    starts: Sequence[int],
    size: Sequence[int],
    ways: Sequence[str],
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...] | None]]:
    """Each place o of y, and the one of x that it shows: on axis j ``starts[j]`` and all ``steps[i] * o[i]`` along j.

    None where that is nowhere.
    """  # fmt: skip
    for place in np.ndindex(*counts):
        positions = list(starts)
        for o, j, step in zip(place, along, steps):
            positions[j] += o * step
        found = [step_back(*each) for each in zip(positions, size, ways)]
        yield place, None if None in found else tuple(found)  # type: ignore[arg-type]


def rearranged(x: np.ndarray, counts: Sequence[int], *geometry: Any, value: Any = 0) -> np.ndarray:
    """x (N, *size, inner) with its elements at other places, y (N, *counts, inner)."""
    y = np.full((x.shape[0], *counts, x.shape[-1]), value, x.dtype)
    for place, source in rearranged_places(counts, *geometry):
        if source is not None:
            y[(slice(None), *place)] = x[(slice(None), *source)]
    return y


def rearranged_gradient(dy: np.ndarray, size: Sequence[int], counts: Sequence[int], *geometry: Any) -> np.ndarray:
    """The gradient of :func:`rearranged`: each element adds up the places that show it."""
    dx = np.zeros((dy.shape[0], *size, dy.shape[-1]))
    for place, source in rearranged_places(counts, *geometry):
        if source is not None:
            dx[(slice(None), *source)] += dy[(slice(None), *place)]
    return dx


def resampling_matrix(
    kind: str, size: int, output: int, scale: float = 0.0, align_corners: bool = False, antialias: bool = False
) -> np.ndarray:
    """(output, size): the weights of the elements of an axis in each element of the resized one."""
    if antialias and size == output:
        return np.eye(size)
    scale = scale or size / output
    if align_corners:
        scale = (size - 1) / (output - 1) if output > 1 else 0
    matrix = np.zeros((output, size))
    for o in range(output):
        place = o * scale if align_corners else (o + 0.5) * scale - 0.5
        if antialias:
            matrix[o] = spread_weights(kind, size, (o + 0.5) * scale, max(scale, 1))
        elif kind == "linear":
            if size == output:
                place = o
            place = min(max(place, 0), size - 1)
            for i in range(size):
                matrix[o, i] = max(0, 1 - abs(place - i))
        else:
            for i in range(int(np.floor(place)) - 1, int(np.floor(place)) + 3):
                matrix[o, min(max(i, 0), size - 1)] += cubic_weight(place - i, -0.75)
    return matrix


def spread_weights(kind: str, size: int, centre: float, stretch: float) -> np.ndarray:
    """The weights of elements under a kernel that is stretched, so that their sum is 1."""
    reach = stretch * (1 if kind == "linear" else 2)
    row = np.zeros(size)
    for i in range(max(int(centre - reach + 0.5), 0), min(int(centre + reach + 0.5), size)):
        t = (i + 0.5 - centre) / stretch
        row[i] = max(0, 1 - abs(t)) if kind == "linear" else cubic_weight(t, -0.5)
    return row / row.sum()


def cubic_weight(t: float, a: float) -> float:
    """Keys' kernel, powers of the distance written out."""
    t = abs(t)
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0


def resampled(x: np.ndarray, matrices: Sequence[np.ndarray]) -> np.ndarray:
    """x (N, *sizes, inner) with each axis multiplied by its matrix, one after the other."""
    y = np.asarray(x, np.float64)
    for axis, matrix in enumerate(matrices, start=1):
        y = np.moveaxis(np.tensordot(matrix, y, (1, axis)), 0, axis)
    return y
