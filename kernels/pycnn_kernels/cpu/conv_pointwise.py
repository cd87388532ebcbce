"""Convolution with kernels of one element as products of matrices (``gemm.py``), in either layout.

With x as a matrix of pixels and channels and w of channels and filters, ``y = x w``, ``dx = dy w^T`` and
``dw = x^T dy``. In channels first, the array holds the transposed matrix of each image, and the same equations read
``y^T = w^T x^T`` and ``dx^T = w dy^T``: the operands change places, and nothing needs another layout. Only maps of so
few pixels that they leave vectors empty are turned to channels last first, where the pixels of all images are one
matrix. Weights in either layout are packed as they lie, or met as they lie where the pixels are too few to pack them.

With a stride, the pixels that are met are brought together before the product, and dx is spread out after it.
"""

from __future__ import annotations

import math

from pycnn_kernels.cpu.conv_frame import Scratch
from pycnn_kernels.cpu.cost import COPY
from pycnn_kernels.cpu.epilogue import NO_EPILOGUE, Epilogue, epilogue_fields, finish_channels, finish_pixels
from pycnn_kernels.cpu.gemm import (
    BLOCK_ROWS,
    COPY_COLUMNS,
    COPY_DISTANCE,
    DOT_ROWS,
    DotProducts,
    Matrix,
    MatrixProduct,
    RowProduct,
    dots_cost,
    packing_cost,
    product_cost,
    row_cost,
)
from pycnn_kernels.cpu.host import item_bytes, lanes
from pycnn_kernels.cpu.launch import Task, kernel
from pycnn_kernels.cpu.layout import to_channels_first, to_channels_last
from pycnn_kernels.cpu.tile import shift
from pycnn_kernels.cpu.workspace import workspace
from pycnn_kernels.problem import ConvProblem

_SAMPLE_FIELDS = {
    "all": "array", "met": "array", "D": "int", "H": "int", "W": "int", "OD": "int", "OH": "int", "OW": "int",
    "stride_d": "int", "stride_h": "int", "stride_w": "int", "inner": "int",
}  # fmt: skip


@kernel(**_SAMPLE_FIELDS)
def sample_kernel(a, item, worker):
    """``met[o, d, h, w, :] = all[o, d * stride_d, h * stride_h, w * stride_w, :]``; a piece is one (o, d).

    all (outer, D, H, W, inner) and met (outer, OD, OH, OW, inner).
    """
    outer, d = item // a.OD, item % a.OD
    for h in range(a.OH):
        there = shift(a.all, ((outer * a.D + d * a.stride_d) * a.H + h * a.stride_h) * a.W * a.inner)
        to = shift(a.met, (item * a.OH + h) * a.OW * a.inner)
        step = a.stride_w * a.inner
        if step == 2:  # a distance that the compiler knows becomes whole vectors and shuffles
            for w in range(a.OW):
                to[w] = there[w * 2]
        elif a.inner == 1:
            for w in range(a.OW):
                to[w] = there[w * step]
        else:
            for w in range(a.OW):
                pixel, at = shift(there, w * step), shift(to, w * a.inner)
                for c in range(a.inner):
                    at[c] = pixel[c]


@kernel(**_SAMPLE_FIELDS)
def spread_kernel(a, item, worker):
    """The way back from :func:`sample_kernel`: all is met at the pixels that are met, and zero elsewhere.

    A piece is one (o, d) of all.
    """
    outer, d = item // a.D, item % a.D
    for h in range(a.H):
        to = shift(a.all, (item * a.H + h) * a.W * a.inner)
        for i in range(a.W * a.inner):
            to[i] = 0
        if d % a.stride_d == 0 and h % a.stride_h == 0:
            there = shift(a.met, ((outer * a.OD + d // a.stride_d) * a.OH + h // a.stride_h) * a.OW * a.inner)
            if a.inner == 1:
                for w in range(a.OW):
                    to[w * a.stride_w] = there[w]
                continue
            for w in range(a.OW):
                pixel, at = shift(there, w * a.inner), shift(to, w * a.stride_w * a.inner)
                for c in range(a.inner):
                    at[c] = pixel[c]


def _strided(p: ConvProblem) -> bool:
    return any(step > 1 and size > 1 for step, size in zip(p.stride, p.size))


def _sampling(p: ConvProblem, forth: bool) -> Task:
    """A task that takes the addresses of x, or dx, and of its pixels that are met."""
    outer, inner = (p.N, p.C) if p.layout == "channels_last" else (p.N * p.C, 1)
    (D, H, W), (OD, OH, OW) = p.size, p.output
    return Task(
        sample_kernel if forth else spread_kernel, p.dtype, outer * (OD if forth else D), "all met",
        parallel=outer * inner * D * H * W > 1 << 15, D=D, H=H, W=W, OD=OD, OH=OH, OW=OW,
        stride_d=p.stride[0], stride_h=p.stride[1], stride_w=p.stride[2], inner=inner,
    )  # fmt: skip


#: The part of the places in panels that pixels of an image must fill, for images in channels first to stay as they lie.
_FILLED = 0.9


def _stays_first(p: ConvProblem) -> bool:
    """Whether arrays in channels first are multiplied as they lie."""
    pixels = math.prod(p.output)
    panel = 2 * lanes(p.dtype)
    return p.layout == "channels_first" and pixels >= _FILLED * -(-pixels // panel) * panel


class _Reading:
    """An array of images as the product reads it; ``sampled``: of x only the pixels that are met."""

    def __init__(self, p: ConvProblem, channels: int, sampled: bool, turned: bool, scratch: Scratch):
        size = p.N * channels * math.prod(p.output)
        self._sampled, self._turned = sampled, turned
        if sampled:
            self._met_at = scratch.reserve(size)
            self._sample = _sampling(p, True)
        if turned:
            self._turned_at = scratch.reserve(size)
            self._turn = to_channels_last(p.dtype, p.N, channels, math.prod(p.output))

    def run(self, base: int, array: int) -> int:
        """The address of what the product reads."""
        if self._sampled:
            self._sample.run(array, base + self._met_at)
            array = base + self._met_at
        if self._turned:
            self._turn.run(array, base + self._turned_at)
            array = base + self._turned_at
        return array


class _Writing:
    """An array of images as the product writes it; ``spread``: what is written are the pixels that are met."""

    def __init__(self, p: ConvProblem, channels: int, spread: bool, turned: bool, scratch: Scratch):
        size = p.N * channels * math.prod(p.output)
        self._spread, self._turned = spread, turned
        if spread:
            self._met_at = scratch.reserve(size)
            self._sample = _sampling(p, False)
        if turned:
            self._turned_at = scratch.reserve(size)
            self._turn = to_channels_first(p.dtype, p.N, channels, math.prod(p.output))

    def place(self, base: int, array: int) -> int:
        """Where the product writes."""
        if self._turned:
            return base + self._turned_at
        return base + self._met_at if self._spread else array

    def run(self, base: int, array: int) -> None:
        """Bring what was written to ``array``."""
        met = base + self._met_at if self._spread else array
        if self._turned:
            self._turn.run(base + self._turned_at, met)
        if self._spread:
            self._sample.run(array, met)


class _Product:
    """``y = x w``, or ``dx = dy w^T``, of pixels that lie together."""

    def __init__(self, p: ConvProblem, forward: bool, scratch: Scratch):
        self._weights_first = _stays_first(p)
        self._multiply = _gather_product(p, forward, scratch)

    def run(self, base: int, src: int, w: int, dst: int, epilogue: Epilogue = NO_EPILOGUE) -> None:
        left, right = (w, src) if self._weights_first else (src, w)
        self._multiply.run(base, left, right, dst, epilogue)


def _are_dots(p: ConvProblem, forward: bool) -> bool:
    """Whether the weights of a sum lie together, for so few pixels that packing them costs more than it saves."""
    return p.N * math.prod(p.output) <= DOT_ROWS and forward == (p.weight_layout == "OIHW")


def _is_row(p: ConvProblem, forward: bool) -> bool:
    """Whether there is a single pixel, whose product with the weights reads them as they lie."""
    return p.N * math.prod(p.output) == 1 and forward == (p.weight_layout == "HWIO")


def _gather_product(p: ConvProblem, forward: bool, scratch: Scratch) -> MatrixProduct | DotProducts | RowProduct:
    """``y = x w``, or ``dx = dy w^T``, of pixels that lie together."""
    pixels = math.prod(p.output)
    source, target = (p.C, p.K) if forward else (p.K, p.C)
    # The weights as a matrix (source, target); its transpose has the distances the other way around.
    row, column = (p.K, 1) if p.weight_layout == "HWIO" else (1, p.C)
    row, column = (row, column) if forward else (column, row)
    if _stays_first(p):
        return MatrixProduct(
            p.dtype, (target, pixels, source), Matrix(column, row), Matrix(pixels, 1, batch=source * pixels), pixels,
            scratch, batches=p.N, dst_batch=target * pixels, channels_are_rows=True,
            epilogue=epilogue_fields(p, forward, finish_pixels),
        )  # fmt: skip
    size, epilogue = (p.N * pixels, target, source), epilogue_fields(p, forward, finish_channels)
    if _is_row(p, forward):
        return RowProduct(p.dtype, target, source, row, scratch, epilogue)
    if _are_dots(p, forward):
        return DotProducts(p.dtype, size, source, column, target, epilogue)
    return MatrixProduct(p.dtype, size, Matrix(source, 1), Matrix(row, column), target, scratch, epilogue=epilogue)


class PointwiseForward:
    """``y = activation(scale * (x * w) + b + residual)``."""

    def __init__(self, p: ConvProblem):
        scratch = Scratch(p.dtype)
        turned = p.layout == "channels_first" and not _stays_first(p)
        self._x = _Reading(p, p.C, _strided(p), turned, scratch)
        self._residual = _Reading(p, p.K, False, turned, scratch) if p.residual else None
        self._y = _Writing(p, p.K, False, turned, scratch)
        self._product = _Product(p, True, scratch)
        self.workspace_bytes = scratch.size

    def run(self, x: int, w: int, b: int, scale: int, residual: int, y: int) -> None:
        base = workspace(self.workspace_bytes)
        x = self._x.run(base, x)
        if self._residual:
            residual = self._residual.run(base, residual)
        self._product.run(base, x, w, self._y.place(base, y), (b, scale, residual))
        self._y.run(base, y)


class PointwiseInputGradient:
    """``dx`` from ``dy`` and ``w``."""

    def __init__(self, p: ConvProblem):
        scratch = Scratch(p.dtype)
        turned = p.layout == "channels_first" and not _stays_first(p)
        self._dy = _Reading(p, p.K, False, turned, scratch)
        self._dx = _Writing(p, p.C, _strided(p), turned, scratch)
        self._product = _Product(p, False, scratch)
        self.workspace_bytes = scratch.size

    def run(self, dy: int, w: int, dx: int) -> None:
        base = workspace(self.workspace_bytes)
        self._product.run(base, self._dy.run(base, dy), w, self._dx.place(base, dx))
        self._dx.run(base, dx)


class PointwiseWeightGradient:
    """``dw`` from ``x`` and ``dy``."""

    def __init__(self, p: ConvProblem):
        scratch = Scratch(p.dtype)
        pixels = math.prod(p.output)
        stays = _stays_first(p)
        turned = p.layout == "channels_first" and not stays
        self._x = _Reading(p, p.C, _strided(p), turned, scratch)
        self._dy = _Reading(p, p.K, False, turned, scratch)
        # x^T (C, pixels) and dy (pixels, K) for dw (C, K); or dy^T (K, pixels) and x (pixels, C) for dw (K, C).
        self._filters_first = p.weight_layout == "OIHW"
        rows, columns = (p.K, p.C) if self._filters_first else (p.C, p.K)
        segments, depth = (p.N, pixels) if stays else (1, p.N * pixels)
        if stays:
            left = Matrix(pixels, 1, segment=rows * pixels)
            right = Matrix(1, pixels, segment=columns * pixels)
        else:
            left, right = Matrix(1, rows), Matrix(columns, 1)
        self._product = MatrixProduct(
            p.dtype, (rows, columns, depth), left, right, columns, scratch, segments=segments, divided=True
        )
        self.workspace_bytes = scratch.size

    def run(self, x: int, dy: int, dw: int) -> None:
        base = workspace(self.workspace_bytes)
        x, dy = self._x.run(base, x), self._dy.run(base, dy)
        left, right = (dy, x) if self._filters_first else (x, dy)
        self._product.run(base, left, right, dw)


def pointwise_supports(p: ConvProblem) -> str | None:
    """None for a problem that is a product of matrices, otherwise the reason why not."""
    if math.prod(p.kernel) > 1:
        return f"kernels of one element; received {' x '.join(map(str, p.kernel[3 - p.rank :]))}"
    if any(map(any, p.padding)):
        return f"no padding; received {p.padding[3 - p.rank :]}"
    if p.G > 1:
        return f"one group; received {p.G}"
    return None


#: Multiply-adds from which on packing a panel is not most of the time, and a single row is worth two kernels.
_LEAST_WORK, _LEAST_ROW_WORK = 1 << 20, 1 << 18
#: Pixels up to which packing weights is never worth it, and from which on it is wherever they lie.
_FEW_PIXELS, _MANY_PIXELS = 12, 96


def pointwise_suits(p: ConvProblem, least: int = _LEAST_WORK) -> str | None:
    """None for a problem that keeps whole panels busy, otherwise the reason why another algorithm is faster."""
    if p.multiply_adds < least:
        return f"at least {least:,} multiply-adds; received {p.multiply_adds:,}"
    return _fills_vectors(p)


def _fills_vectors(p: ConvProblem) -> str | None:
    if min(p.C, p.K) < lanes(p.dtype):
        return f"at least {lanes(p.dtype)} channels and filters; received {p.C} and {p.K}"
    return None


def pointwise_suits_input_gradient(p: ConvProblem) -> str | None:
    """The same for the input gradient."""
    return _fills_vectors(p) if _are_dots(p, forward=False) else pointwise_suits(p)


def pointwise_suits_forward(p: ConvProblem) -> str | None:
    """The same, but weights that few pixels meet are not worth packing where they lie well in the cache."""
    if _are_dots(p, forward=True):
        return _fills_vectors(p)
    if _is_row(p, forward=True):
        return pointwise_suits(p, _LEAST_ROW_WORK)
    pixels = p.N * math.prod(p.output)
    packs = p.layout == "channels_last" and p.weight_layout == "HWIO"
    least = _FEW_PIXELS if p.K * item_bytes(p.dtype) % 2048 == 0 else _MANY_PIXELS
    if packs and pixels < least:
        return f"one pixel or at least {least}; received {pixels}"
    return pointwise_suits(p)


def pointwise_cost_forward(p: ConvProblem) -> float:
    """The expected time of the forward; see ``cost.py`` for the unit."""
    return _gather_cost(p, True) + _bringing_cost(p)


def pointwise_cost_input_gradient(p: ConvProblem) -> float:
    """The expected time of the input gradient."""
    return _gather_cost(p, False) + _bringing_cost(p)


def pointwise_cost_weight_gradient(p: ConvProblem) -> float:
    """The expected time of the weight gradient."""
    pixels = math.prod(p.output)
    rows, columns = (p.K, p.C) if p.weight_layout == "OIHW" else (p.C, p.K)
    if _stays_first(p):
        product = p.N * product_cost(rows, columns, pixels, p.dtype)
    else:
        product = product_cost(rows, columns, p.N * pixels, p.dtype)
    packed = packing_cost(columns, p.N * pixels, p.dtype) * max(rows / BLOCK_ROWS, 1)
    copied = 0.0
    if not _stays_first(p) and rows * item_bytes(p.dtype) >= COPY_DISTANCE:
        copied = packing_cost(rows, p.N * pixels, p.dtype) * max(columns / COPY_COLUMNS, 1) / 4
    return product + packed + copied + _bringing_cost(p)


def _gather_cost(p: ConvProblem, forward: bool) -> float:
    source, target = (p.C, p.K) if forward else (p.K, p.C)
    pixels = math.prod(p.output)
    if _stays_first(p):
        packed = packing_cost(pixels, source, p.dtype) * max(target / BLOCK_ROWS, 1)
        return p.N * (product_cost(target, pixels, source, p.dtype) + packed)
    if _is_row(p, forward):
        return row_cost(target, source, p.dtype)
    if _are_dots(p, forward):
        return dots_cost(p.N * pixels, target, source, p.dtype)
    packed = packing_cost(target, source, p.dtype) * max(p.N * pixels / BLOCK_ROWS, 1)
    return product_cost(p.N * pixels, target, source, p.dtype) + packed


#: The time of a byte of a pixel that is brought together, where its channels lie together and where they do not.
_SAMPLE, _SAMPLE_PLANES = 0.7, 1.5


def _bringing_cost(p: ConvProblem) -> float:
    """Of bringing pixels together, and planes to channels last and back."""
    pixels = p.N * math.prod(p.output) * item_bytes(p.dtype)
    cost = 0.0
    if _strided(p):
        cost += (_SAMPLE if p.layout == "channels_last" else _SAMPLE_PLANES) * pixels * p.C
    if p.layout == "channels_first" and not _stays_first(p):
        cost += COPY * pixels * (p.C + p.K)
    return cost
