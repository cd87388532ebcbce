"""Softmax and its cross-entropy, row by row, in one pass over memory each."""

from __future__ import annotations

import math

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from pycnn_kernels.cpu.formula import exponential
from pycnn_kernels.cpu.inlined import inlined, literal
from pycnn_kernels.cpu.launch import Kernel, Task, kernel
from pycnn_kernels.cpu.tile import shift
from pycnn_kernels.problem import RowsProblem


def _ordered_bits(builder, bits):
    """The bits of a number without the sign all the other way round where the sign is there; and back again."""
    size = bits.type.width
    sign = builder.ashr(bits, ir.Constant(bits.type, size - 1))
    return builder.xor(bits, builder.and_(sign, ir.Constant(bits.type, (1 << (size - 1)) - 1)))


@intrinsic
def in_order(typing_context, x):
    """An integer that is greater for a greater number: the greatest of integers is found in vectors."""
    integer = types.int32 if x == types.float32 else types.int64

    def generate(context, builder, signature, arguments):
        return _ordered_bits(builder, builder.bitcast(arguments[0], ir.IntType(integer.bitwidth)))

    return integer(x), generate


@intrinsic
def in_order_of(typing_context, like, order):
    """The number of such an integer, of the dtype of the pointer ``like``."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(_ordered_bits(builder, arguments[1]), context.get_value_type(like.dtype))

    return like.dtype(like, order), generate


@inlined
def _exponentials(x, p, columns):
    """``p[c] = exp(x[c] - m)``, m the greatest number of the row, which is returned.

    Of a row with a NaN whatever m is: the sum of the row is NaN.
    """
    order = in_order(x[0])
    for c in range(1, columns):
        here = in_order(x[c])
        order = here if here > order else order
    most = in_order_of(x, order)
    for c in range(columns):
        p[c] = exponential(x[c] - most)
    return most


# What the greatest number is not taken from first loses its digits to it: the sums around these may be regrouped, these
# may not.


@literal
def _below(x, most):
    return x - most


@literal
def _logarithm(x, most, log_total):
    return (x - most) - log_total


@kernel(x="array", p="array", rows="int", columns="int", chunk="int", logarithm="int")
def softmax_kernel(a, item, worker):
    """``p[r, c] = exp(x[r, c] - m) / sum``, m the greatest of the row; or its logarithm. A piece: ``chunk`` rows."""
    for row in range(item * a.chunk, min((item + 1) * a.chunk, a.rows)):
        x, p = shift(a.x, row * a.columns), shift(a.p, row * a.columns)
        most = _exponentials(x, p, a.columns)
        # A loop of its own: in one that also writes, the order of the sum would depend on how far apart x and p lie.
        total = 0.0
        for c in range(a.columns):
            total += p[c]
        if a.logarithm:
            log_total = math.log(total)
            for c in range(a.columns):
                p[c] = _logarithm(x[c], most, log_total)
        else:
            for c in range(a.columns):
                p[c] /= total


@kernel(
    x="array", labels="table", losses="array", p="array", ignore="int", smoothing="float", rows="int", columns="int",
    chunk="int",
)  # fmt: skip
def cross_entropy_kernel(a, item, worker):
    """``losses[r] = -sum over c of t[c] * log softmax(x[r])[c]`` and the softmax p, for labels; ``chunk`` rows a piece.

    The target t is ``1 - smoothing`` at the label plus ``smoothing / columns`` everywhere. A row whose label is
    ``ignore`` has the loss 0.
    """
    for row in range(item * a.chunk, min((item + 1) * a.chunk, a.rows)):
        x, p = shift(a.x, row * a.columns), shift(a.p, row * a.columns)
        most = _exponentials(x, p, a.columns)
        total = 0.0
        sum_of_x = 0.0
        for c in range(a.columns):  # apart from the writing loop, as above
            total += p[c]
            sum_of_x += _below(x[c], most)
        for c in range(a.columns):
            p[c] /= total
        label = a.labels[row]
        log_total = math.log(total)
        if label == a.ignore:
            a.losses[row] = 0
        else:
            loss = (a.smoothing - 1) * _logarithm(x[label], most, log_total)
            if a.smoothing > 0:  # 0 * inf would turn a finite loss into NaN
                loss += a.smoothing * (log_total - sum_of_x / a.columns)
            a.losses[row] = loss


def _rows_task(kernel: Kernel, p: RowsProblem, given: str, **fields: int) -> Task:
    """A few thousand elements a piece, whole rows."""
    chunk = max(1, min(-(-p.rows // 16), 4096 // max(p.columns, 1)))
    items = -(-p.rows // chunk) if p.columns else 0
    parallel = p.rows * p.columns > 1 << 12
    return Task(kernel, p.dtype, items, given, parallel=parallel, rows=p.rows, columns=p.columns, chunk=chunk, **fields)


class Softmax:
    """``p`` from ``x``."""

    workspace_bytes = 0

    def __init__(self, p: RowsProblem):
        self.run = _rows_task(softmax_kernel, p, "x p", logarithm=0).run


class LogSoftmax:
    """The logarithm of ``p``, from ``x``."""

    workspace_bytes = 0

    def __init__(self, p: RowsProblem):
        self.run = _rows_task(softmax_kernel, p, "x p", logarithm=1).run


class CrossEntropy:
    """``losses`` and ``p`` from ``x`` and int64 ``labels``; see :func:`cross_entropy_kernel`."""

    workspace_bytes = 0

    def __init__(self, p: RowsProblem):
        self.run = _rows_task(cross_entropy_kernel, p, "x labels losses p ignore smoothing").run
