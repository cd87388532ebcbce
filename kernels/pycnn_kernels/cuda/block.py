"""The argument block of a CUDA kernel as Numba's compiler sees it: the kernel's parameters, eight bytes each.

A kernel is a function of one argument, ``a``, whose fields it reads by name. Fields that are addresses become pointers
into global memory, so that their accesses compile to ``ld.global`` and ``st.global``.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.cuda import types
from numba.cuda.cudadecl import registry as typing_registry
from numba.cuda.cudaimpl import registry as lowering_registry
from numba.cuda.datamodel import models
from numba.cuda.extending import register_model
from numba.cuda.typing.templates import AbstractTemplate, AttributeTemplate, signature

INT64 = ir.IntType(64)
#: NVVM's number of the global address space.
GLOBAL = 1


class Pointer(types.Type):
    """The address of elements in global memory; ``constant`` where no thread of the launch writes them."""

    def __init__(self, dtype: types.Type, constant: bool):
        self.dtype, self.constant = dtype, constant
        super().__init__(f"Pointer({dtype}, {constant})")


#: What a field of an argument block can be, and its Numba type given the kernel's dtype.
FIELD_KINDS: dict[str, Callable[[types.Type], types.Type]] = {
    "array": lambda dtype: Pointer(dtype, False),  # elements of the kernel's dtype that the kernel writes
    "source": lambda dtype: Pointer(dtype, True),  # those that it only reads
    "table": lambda dtype: Pointer(types.int32, True),
    "labels": lambda dtype: Pointer(types.int64, True),
    "positions": lambda dtype: Pointer(types.int64, False),
    "index": lambda dtype: Pointer(types.uint16, False),
    "long_index": lambda dtype: Pointer(types.uint32, False),
    "addresses": lambda dtype: Pointer(types.uint64, True),  # of arrays; see ``ptx.elements_at``
    "int": lambda dtype: types.int32,
    "long": lambda dtype: types.int64,
    "float": lambda dtype: dtype,
}


class BlockType(types.Type):
    """The argument block of one kernel, for one dtype."""

    def __init__(self, kernel: str, dtype: types.Type, kinds: dict[str, str]):
        self.dtype = dtype
        self.fields = {name: (slot, FIELD_KINDS[kind](dtype)) for slot, (name, kind) in enumerate(kinds.items())}
        layout = ", ".join(f"{name}:{kind}" for name, kind in kinds.items())
        super().__init__(f"Block({kernel}, {dtype}, {layout})")


@register_model(BlockType)
class _BlockModel(models.StructModel):
    def __init__(self, manager: Any, block: BlockType):
        super().__init__(manager, block, [(f"field_{name}", types.uint64) for name in block.fields])


@register_model(Pointer)
class _PointerModel(models.PrimitiveModel):
    def __init__(self, manager: Any, pointer: Pointer):
        super().__init__(manager, pointer, manager.lookup(pointer.dtype).get_data_type().as_pointer(GLOBAL))


@typing_registry.register_attr
class _BlockFields(AttributeTemplate):
    key = BlockType

    def generic_resolve(self, block: BlockType, name: str) -> types.Type | None:
        return block.fields[name][1] if name in block.fields else None


@lowering_registry.lower_getattr_generic(BlockType)
def _read_field(context: Any, builder: Any, block: BlockType, value: Any, name: str) -> Any:
    slot, field = block.fields[name]
    bits = builder.extract_value(value, slot)
    if isinstance(field, Pointer):
        return builder.inttoptr(bits, context.get_value_type(field))
    if field in (types.float32, types.float64):
        number = builder.bitcast(bits, ir.DoubleType())
        return number if field == types.float64 else builder.fptrunc(number, ir.FloatType())
    return builder.trunc(bits, ir.IntType(32)) if field == types.int32 else bits


@typing_registry.register_global(operator.getitem)
class _Load(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        pointer, index = args
        if isinstance(pointer, Pointer) and isinstance(index, types.Integer):
            return signature(pointer.dtype, pointer, index)
        return None


@typing_registry.register_global(operator.setitem)
class _Store(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        pointer, index, _ = args
        if isinstance(pointer, Pointer) and not pointer.constant and isinstance(index, types.Integer):
            return signature(types.none, pointer, index, pointer.dtype)
        return None


def element(context: Any, builder: Any, pointer: Any, index: Any, index_type: types.Integer) -> Any:
    """The address of an element, its index widened as its type says."""
    return builder.gep(pointer, [context.cast(builder, index, index_type, types.int64)])


def load(builder: Any, address: Any, constant: bool) -> Any:
    value = builder.load(address)
    if constant:  # lets the compiler load through the read-only path, and move the load past stores
        value.set_metadata("invariant.load", builder.module.add_metadata([]))
    return value


@lowering_registry.lower(operator.getitem, Pointer, types.Integer)
def _lower_load(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    pointer, index = sig.args
    value = load(builder, element(context, builder, args[0], args[1], index), pointer.constant)
    return context.data_model_manager[pointer.dtype].from_data(builder, value)


@lowering_registry.lower(operator.setitem, Pointer, types.Integer, types.Any)
def _lower_store(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    pointer, index, value = sig.args
    cast = context.cast(builder, args[2], value, pointer.dtype)
    address = element(context, builder, args[0], args[1], index)
    builder.store(context.data_model_manager[pointer.dtype].as_data(builder, cast), address)
    return context.get_dummy_value()
