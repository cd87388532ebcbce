"""What a convolution does to its sums before it leaves them: ``y = activation(scale * sum + bias + residual)``.

Bias and ReLU cost nothing in the tile that holds the sums, and the kernels do these two themselves. Everything else is
done to each row of results right after it was stored, while it lies in the first-level cache: one more load and store
for a sum of hundreds of products. It is a kernel that the others call through its address, so that it is compiled once,
and only where somebody needs it.

The exponential function is ``2^n (1 + p(r))`` with ``x = n ln 2 + r``, |r| <= ln 2 / 2, and p the Taylor polynomial of
``e^r - 1`` (Muller, "Elementary Functions", 3rd edition, 2016, chapter 11): plain arithmetic, which the compiler turns
into vector instructions, where a call of the C library would be made element by element.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit
from numba.core import cgutils, types
from numba.extending import intrinsic

from pycnn_kernels.cpu.formula import LN2_HIGH, LN2_LOW, TAYLOR
from pycnn_kernels.cpu.inlined import inlined
from pycnn_kernels.cpu.launch import INT64, Kernel, kernel
from pycnn_kernels.cpu.tile import scalar, shift
from pycnn_kernels.problem import ConvProblem

#: The fields that a kernel with an epilogue has first, so that they have the same slots in the block of each of them.
#: ``has_bias`` and ``relu`` are what its tile does; ``finish`` is the address of one of the kernels below, or 0.
EPILOGUE_FIELDS = {
    "dst": "array", "bias": "array", "scale": "array", "residual": "array", "has_bias": "int", "relu": "int",
    "finish": "int", "finish_bias": "int", "finish_scale": "int", "finish_residual": "int", "activation": "int",
    "slope": "float",
}  # fmt: skip

#: The fields that each run gives, as addresses.
EPILOGUE_ARRAYS = "bias scale residual"
Epilogue = tuple[int, int, int]
NO_EPILOGUE = (0, 0, 0)

_NONE, _RELU, _LEAKY_RELU, _TANH, _SIGMOID = range(5)
_ACTIVATIONS = {None: _NONE, "relu": _RELU, "leaky_relu": _LEAKY_RELU, "tanh": _TANH, "sigmoid": _SIGMOID}


def epilogue_fields(p: ConvProblem, forward: bool, finish: Kernel | None = None) -> dict[str, Any]:
    """The values of :data:`EPILOGUE_FIELDS` for a problem, but for the arrays; gradients have no epilogue.

    ``finish``: :func:`finish_channels`, or another one of the same fields.
    """
    finishes = forward and (p.scale or p.residual or p.activation not in (None, "relu"))
    return {
        "has_bias": forward and p.bias and not finishes,
        "relu": forward and p.activation == "relu" and not finishes,
        "finish": (finish or finish_channels).entry(p.dtype) if finishes else 0,
        "finish_bias": p.bias,
        "finish_scale": p.scale,
        "finish_residual": p.residual,
        "activation": _ACTIVATIONS[p.activation],
        "slope": p.slope,
    }


@kernel(**EPILOGUE_FIELDS)
def finish_channels(a, at, channel, count):
    """Finish ``dst[at : at + count]``, a pixel's sums of ``count`` channels from ``channel`` on."""
    y, scale, bias, residual = shift(a.dst, at), shift(a.scale, channel), shift(a.bias, channel), shift(a.residual, at)
    if a.finish_scale:
        for i in range(count):
            y[i] *= scale[i]
    if a.finish_bias:
        for i in range(count):
            y[i] += bias[i]
    if a.finish_residual:
        for i in range(count):
            y[i] += residual[i]
    activate(a, y, count)


@kernel(**EPILOGUE_FIELDS)
def finish_pixels(a, at, channel, count):
    """Finish ``dst[at : at + count]``, the sums of one channel at neighbouring pixels."""
    y, residual = shift(a.dst, at), shift(a.residual, at)
    factor = a.scale[channel] if a.finish_scale else scalar(y, 1.0)
    term = a.bias[channel] if a.finish_bias else scalar(y, 0.0)
    for i in range(count):
        y[i] = factor * y[i] + term
    if a.finish_residual:
        for i in range(count):
            y[i] += residual[i]
    activate(a, y, count)


@intrinsic
def call_finish(typing_context, block, at, channel, count):
    """Call the kernel whose address is the block's ``finish``, with the same block."""

    def generate(context, builder, signature, arguments):
        slot, _ = block.slots["finish"]
        address = builder.load(builder.gep(arguments[0], [ir.Constant(INT64, slot)]))
        function = ir.FunctionType(ir.VoidType(), [arguments[0].type, INT64, INT64, INT64])
        builder.call(builder.inttoptr(address, function.as_pointer()), arguments)
        return context.get_dummy_value()

    return types.void(block, at, channel, count), generate


@inlined
def activate(a, y, count):
    """The activation of ``count`` neighbouring elements, in place."""
    zero, slope = scalar(y, 0.0), scalar(y, a.slope)
    if a.activation == _RELU:
        for i in range(count):
            y[i] = zero if y[i] < zero else y[i]
    elif a.activation == _LEAKY_RELU:
        for i in range(count):
            y[i] = slope * y[i] if y[i] < zero else y[i]
    elif a.activation == _TANH:
        for i in range(count):
            y[i] = tanh(y, y[i])
    elif a.activation == _SIGMOID:
        for i in range(count):
            y[i] = sigmoid(y, y[i])


@njit(error_model="numpy", inline="always")
def tanh(like, x):
    """``(1 - e^(-2|x|)) / (1 + e^(-2|x|))`` with the sign of x, through e^r - 1, so that small x lose nothing."""
    size = x if x > scalar(like, 0.0) else -x
    power, less_one = exponential_of_negative(like, scalar(like, 2.0) * size)
    fall = power * less_one + (power - scalar(like, 1.0))  # e^(-2|x|) - 1
    result = -fall / (scalar(like, 2.0) + fall)
    return result if x > scalar(like, 0.0) else -result


@njit(error_model="numpy", inline="always")
def sigmoid(like, x):
    """``1 / (1 + e^-x)``, for negative x as ``e^x / (1 + e^x)``, so that nothing overflows."""
    one = scalar(like, 1.0)
    size = x if x > scalar(like, 0.0) else -x
    power, less_one = exponential_of_negative(like, size)
    small = power * (one + less_one)  # e^-|x|
    return (one if x > scalar(like, 0.0) else small) / (one + small)


@njit(error_model="numpy", inline="always")
def exponential_of_negative(like, x):
    """(2^n, e^r - 1) of ``e^-x = 2^n e^r`` for x >= 0; below the normal numbers, 2^n is 0."""
    limit = scalar(like, 88.2) if single(like) else scalar(like, 709.2)  # where n is -127 and -1023
    x = limit if x > limit else x  # a NaN stays one
    n = np.floor(scalar(like, 0.5) - x * scalar(like, 1 / math.log(2)))
    r = multiply_add(n, scalar(like, -LN2_HIGH), -x)
    r = multiply_add(n, scalar(like, -LN2_LOW), r)
    series = scalar(like, TAYLOR[7])
    if not single(like):
        series = scalar(like, TAYLOR[14])
        for term in (TAYLOR[13], TAYLOR[12], TAYLOR[11], TAYLOR[10], TAYLOR[9], TAYLOR[8], TAYLOR[7]):
            series = multiply_add(series, r, scalar(like, term))
    for term in (TAYLOR[6], TAYLOR[5], TAYLOR[4], TAYLOR[3], TAYLOR[2], TAYLOR[1]):
        series = multiply_add(series, r, scalar(like, term))
    return power_of_two(n), series * r


@intrinsic
def single(typing_context, like):
    """Whether a pointer's elements are float32: known to the compiler."""
    return types.boolean(like), lambda *_: ir.Constant(ir.IntType(1), int(like.dtype.bitwidth == 32))


@intrinsic
def multiply_add(typing_context, x, y, z):
    """``x * y + z`` as it stands: the compiler may reorder other sums of the kernels, but not these."""

    def generate(context, builder, signature, arguments):
        kind = arguments[0].type
        name = f"llvm.fmuladd.f{x.bitwidth}"
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind] * 3), name)
        return builder.call(function, arguments)

    return x(x, y, z), generate


@intrinsic
def power_of_two(typing_context, n):
    """``2^n`` for a whole number n that a normal number can have as its exponent."""
    fraction_bits, bias = (23, 127) if n.bitwidth == 32 else (52, 1023)

    def generate(context, builder, signature, arguments):
        integer = ir.IntType(n.bitwidth)
        name = f"llvm.fptosi.sat.i{n.bitwidth}.f{n.bitwidth}"  # of a NaN, a number, and not undefined behaviour
        function = ir.FunctionType(integer, [arguments[0].type])
        whole = builder.call(cgutils.get_or_insert_function(builder.module, function, name), arguments)
        exponent = builder.add(whole, ir.Constant(integer, bias))
        return builder.bitcast(builder.shl(exponent, ir.Constant(integer, fraction_bits)), arguments[0].type)

    return n(n), generate
