"""Everything that kernels need of the GPU and Numba has no word for: vector accesses, pointers, cheap integers.

Numba computes with 64-bit integers, and divides as Python does; on a GPU both cost several times what 32 bits do. So
kernels divide by :func:`quotient` and :func:`remainder`, or, many times by the same number, with :func:`divided`.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.cuda import types
from numba.cuda.extending import intrinsic

from pycnn_kernels.cuda.block import GLOBAL, INT64, Pointer, element, load

#: NVVM's number of the address space of shared memory.
SHARED = 3

_INT32 = ir.IntType(32)


@intrinsic
def quotient(typingctx: Any, number: Any, divisor: Any) -> Any:
    """``number // divisor`` of integers from 0 to 2^32 - 1."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.udiv(*_unsigned(context, builder, sig, args))

    return types.uint32(number, divisor), codegen


@intrinsic
def remainder(typingctx: Any, number: Any, divisor: Any) -> Any:
    """``number % divisor`` of integers from 0 to 2^32 - 1."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.urem(*_unsigned(context, builder, sig, args))

    return types.uint32(number, divisor), codegen


def division(divisor: int) -> int:
    """What :func:`divided` divides by: the reciprocal as an integer of 32 bits, and above it how far to shift.

    Source: Granlund and Montgomery, "Division by Invariant Integers using Multiplication" (1994), theorem 4.2.

    >>> hex(division(8))
    '0x380000000'
    """
    width = (divisor - 1).bit_length()
    return -(-(1 << (31 + width)) // divisor) | width << 32


@intrinsic
def divided(typingctx: Any, number: Any, by: Any) -> Any:
    """``number // divisor`` for integers from 0 to 2^31 - 1; ``by`` is a long field with ``division(divisor)``.

    A product and a shift, where a division of 32 bits takes about twenty instructions.
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        wide, code = context.cast(builder, args[0], sig.args[0], types.uint32), args[1]
        reciprocal, width = builder.trunc(code, _INT32), builder.lshr(code, ir.Constant(INT64, 32))
        product = builder.mul(builder.zext(wide, INT64), builder.zext(reciprocal, INT64))
        high = builder.lshr(builder.lshr(product, ir.Constant(INT64, 31)), width)
        return builder.trunc(high, _INT32)

    return types.int32(number, by), codegen


def _unsigned(context: Any, builder: Any, sig: Any, args: Any) -> list[Any]:
    return [context.cast(builder, value, kind, types.uint32) for value, kind in zip(args, sig.args)]


@intrinsic
def shift(typingctx: Any, pointer: Any, offset: Any) -> Any:
    """The pointer moved by so many elements."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return element(context, builder, args[0], args[1], sig.args[1])

    return pointer(pointer, offset), codegen


@intrinsic
def is_there(typingctx: Any, pointer: Any) -> Any:
    """Whether an optional array was given: its address is not 0."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.icmp_unsigned("!=", args[0], ir.Constant(args[0].type, None))

    return types.boolean(pointer), codegen


@intrinsic
def elements_at(typingctx: Any, block: Any, address: Any) -> Any:
    """A pointer to elements of the block's dtype, that the kernel writes, at an address."""
    pointer = Pointer(block.dtype, False)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.inttoptr(args[1], context.get_value_type(sig.return_type))

    return pointer(block, address), codegen


@intrinsic
def thread_again(typingctx: Any) -> Any:
    """``cuda.threadIdx.x`` read anew, so that nothing that was computed from it before is kept for what follows."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.asm(ir.FunctionType(_INT32, []), "mov.u32 $0, %tid.x;", "=r", [], True)

    return types.uint32(), codegen


def _vector(context: Any, dtype: Any, count: int, space: int) -> tuple[Any, int]:
    """A pointer to so many elements, and their alignment: 16 bytes, the most that a thread moves at once."""
    kind = ir.VectorType(context.get_value_type(dtype), count)
    return kind.as_pointer(space), min(16, count * dtype.bitwidth // 8)


def _as_tuple(context: Any, builder: Any, kind: Any, vector: Any) -> Any:
    parts = [builder.extract_element(vector, _INT32(i)) for i in range(kind.count)]
    return context.make_tuple(builder, kind, parts)


def _as_vector(context: Any, builder: Any, values: Any, kind: Any, dtype: Any) -> Any:
    vector = ir.Constant(ir.VectorType(context.get_value_type(dtype), kind.count), ir.Undefined)
    for i in range(kind.count):
        part = context.cast(builder, builder.extract_value(values, i), kind.dtype, dtype)
        vector = builder.insert_element(vector, part, _INT32(i))
    return vector


def _load_vector(count: int) -> Any:
    def load_vector(typingctx: Any, pointer: Any, index: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            kind, alignment = _vector(context, pointer.dtype, count, GLOBAL)
            address = builder.bitcast(element(context, builder, args[0], args[1], sig.args[1]), kind)
            vector = load(builder, address, pointer.constant)
            vector.align = alignment
            return _as_tuple(context, builder, sig.return_type, vector)

        return types.UniTuple(pointer.dtype, count)(pointer, index), codegen

    load_vector.__doc__ = (
        f"``pointer[index]`` and the {count - 1} elements behind it; the address is aligned to 16 bytes."
    )
    return intrinsic(load_vector)


def _store_vector(count: int) -> Any:
    def store_vector(typingctx: Any, pointer: Any, index: Any, values: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            kind, alignment = _vector(context, pointer.dtype, count, GLOBAL)
            address = builder.bitcast(element(context, builder, args[0], args[1], sig.args[1]), kind)
            builder.store(_as_vector(context, builder, args[2], values, pointer.dtype), address).align = alignment
            return context.get_dummy_value()

        return types.void(pointer, index, values), codegen

    store_vector.__doc__ = f"Write {count} values from ``pointer[index]`` on; the address is aligned to 16 bytes."
    return intrinsic(store_vector)


load2, load4 = _load_vector(2), _load_vector(4)
store2, store4 = _store_vector(2), _store_vector(4)


def _shared_address(context: Any, builder: Any, sig: Any, args: Any, count: int) -> tuple[Any, int]:
    array, index = sig.args[:2]
    data = context.make_array(array)(context, builder, value=args[0]).data
    address = builder.gep(data, [context.cast(builder, args[1], index, types.int64)])
    kind, alignment = _vector(context, array.dtype, count, SHARED)
    there = builder.addrspacecast(address, context.get_value_type(array.dtype).as_pointer(SHARED))
    return builder.bitcast(there, kind), alignment


@intrinsic
def load4_shared(typingctx: Any, array: Any, index: Any) -> Any:
    """``array[index]`` and the three elements behind it, of shared memory; the address is aligned to 16 bytes."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        address, alignment = _shared_address(context, builder, sig, args, 4)
        vector = builder.load(address)
        vector.align = alignment
        return _as_tuple(context, builder, sig.return_type, vector)

    return types.UniTuple(array.dtype, 4)(array, index), codegen


@intrinsic
def store4_shared(typingctx: Any, array: Any, index: Any, values: Any) -> Any:
    """Write four values from ``array[index]`` on, of shared memory; the address is aligned to 16 bytes."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        address, alignment = _shared_address(context, builder, sig, args, 4)
        builder.store(_as_vector(context, builder, args[2], values, array.dtype), address).align = alignment
        return context.get_dummy_value()

    return types.void(array, index, values), codegen
