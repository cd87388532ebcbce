"""The register tile: a Numba type that turns a plain loop nest into a microkernel.

A tile is ``rows`` x ``vectors`` SIMD accumulators that live in registers from :func:`tile_zeros` to
:func:`tile_store`. The operation that matters is :func:`tile_multiply_add`, the outer product of the
microkernels of Goto and van de Geijn ("Anatomy of High-Performance Matrix Multiplication", 2008): each row's
scalar times each vector of ``b``, added to the accumulators. Pooling compares tiles instead. LLVM keeps the
whole value in registers because it is never addressed.

Every array argument is a typed pointer and an index in elements. Index arguments:

- ``rows``: pointer to int64, the element offset of each tile row in its array, so the rows may lie anywhere;
  or an integer: row ``m`` lies ``m * rows`` elements after the first; or None: ``m`` elements.
- ``lanes``: how many columns of the tile exist, where it hangs over the edge of the array: columns beyond are
  neither read nor written. Or None: all of them.

Intrinsics are module-level names on purpose: one that is captured in a closure gets a new identity in every
process, and Numba's cache would never hit.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, models, register_model

from pycnn_kernels.cpu.half import (
    Convert,
    narrow_bfloat16,
    narrow_float16,
    widen_bfloat16,
    widen_float16,
)
from pycnn_kernels.cpu.host import SIMD

INT32, INT64 = ir.IntType(32), ir.IntType(64)

#: Sums that a core adds to in turn without waiting: two multiplications begin in a cycle, and take four.
_CHAINS = 8

#: How many elements ahead a kernel that waits for memory alone asks with :func:`tile_prefetch`: two pages of float32.
ELEMENTS_AHEAD = 2048


class TileType(types.Type):
    """``rows`` x ``vectors`` accumulators of ``lanes`` elements of ``dtype``, by default those of a register."""

    def __init__(self, dtype: types.Float, rows: int, vectors: int, lanes: int | None = None):
        self.dtype, self.rows, self.vectors = dtype, rows, vectors
        self.lanes = lanes or SIMD.vector_bytes * 8 // dtype.bitwidth
        super().__init__(f"Tile({dtype}, {rows} x {vectors} x {self.lanes})")

    @property
    def element(self) -> ir.Type:
        return ir.FloatType() if self.dtype.bitwidth == 32 else ir.DoubleType()

    @property
    def vector(self) -> ir.VectorType:
        return ir.VectorType(self.element, self.lanes)

    def zeros(self) -> ir.Constant:
        zero = ir.Constant(self.vector, [0.0] * self.lanes)
        count = self.rows * self.vectors
        return ir.Constant(ir.ArrayType(self.vector, count), [zero] * count)


@register_model(TileType)
class TileModel(models.PrimitiveModel):
    def __init__(self, manager, tile):
        super().__init__(manager, tile, ir.ArrayType(tile.vector, tile.rows * tile.vectors))


class TileShape(types.Type):
    """The shape of a tile without its contents: what a function passes to another that makes the tile.

    A tile itself as an argument would go through memory, all its registers at each call.
    """

    def __init__(self, tile: TileType):
        self.tile = tile
        super().__init__(f"Shape({tile})")


@register_model(TileShape)
class TileShapeModel(models.OpaqueModel):
    pass


class GroupType(types.Type):
    """The channels of one group of a convolution, known to the compiler: ``R`` of the source, ``L`` of the target.

    Where the lanes of a vector are channels of the target, lane ``i`` belongs to the group ``i // L`` of the vector
    and meets the channels ``i // L * R + r`` of the source, for r < R. L divides the number of lanes.
    """

    def __init__(self, R: int, L: int):
        self.R, self.L = R, L
        super().__init__(f"Group({R}, {L})")

    def sources(self, tile: TileType) -> TileType:
        """The channels of the source that one vector of ``tile`` meets, as one long or short vector."""
        return TileType(tile.dtype, 1, 1, tile.lanes // self.L * self.R)

    def picks(self, emit: _Emitter, sources: list[Any]) -> Iterator[list[Any]]:
        """For each r < R, vectors that have in each lane channel r of its group, one for each of ``sources``."""
        n, B = emit.tile.lanes, 128 // emit.tile.dtype.bitwidth
        if self.R % B or self.L % B:
            for r in range(self.R):
                yield [emit.shuffle(s, s, [i // self.L * self.R + r for i in range(n)]) for s in sources]
            return
        # Parts of 128 bits first, whose elements then move inside them: R / B and R instructions, not 2 R.
        for first in range(0, self.R, B):
            order = [i // self.L * self.R + first + i % B for i in range(n)]
            parts = [emit.fence(emit.shuffle(s, s, order)) for s in sources]
            for r in range(B):
                yield [emit.shuffle(part, part, [i // B * B + r for i in range(n)]) for part in parts]

    def before(self, builder: Any, column: Any) -> Any:
        """How many channels the source has before the group that begins at ``column`` of the target."""
        groups = builder.sdiv(column, ir.Constant(INT64, self.L))
        return builder.mul(groups, ir.Constant(INT64, self.R))


@register_model(GroupType)
class GroupModel(models.OpaqueModel):
    pass


class RunType(types.Type):
    """What a tile of a correlation takes at once, known to the compiler.

    The tile has ``lines`` lines of ``pixels`` pixels of the target, the run ``height`` lines of ``width`` taps. From a
    line to the next, the target moves ``line_distance`` lines of taps, and from a pixel to the next ``distance`` taps.
    """

    def __init__(self, lines: int, pixels: int, height: int, width: int, line_distance: int, distance: int):
        self.lines, self.pixels, self.height, self.width = lines, pixels, height, width
        self.line_distance, self.distance = line_distance, distance
        apart = f"{line_distance} x {distance} apart"
        super().__init__(f"Run({lines} x {pixels} pixels, {height} x {width} taps, {apart})")

    def of(self, **changes: int) -> RunType:
        """The run with other numbers."""
        names = ("lines", "pixels", "height", "width", "line_distance", "distance")
        return RunType(**({name: getattr(self, name) for name in names} | changes))

    def source_lines(self) -> list[tuple[int, list[tuple[int, int]]]]:
        """Lines of the source that are met, each with the (line of the target, line of taps) that meet there."""
        return _met(self.lines, self.height, self.line_distance)

    def places(self) -> list[tuple[int, list[tuple[int, int]]]]:
        """Places of a line of the source that are met, each with the (pixel, tap) that meet there."""
        return _met(self.pixels, self.width, self.distance)


def _met(targets: int, taps: int, distance: int) -> list[tuple[int, list[tuple[int, int]]]]:
    last = (targets - 1) * distance + taps
    pairs = {
        at: [(m, at - m * distance) for m in range(targets) if 0 <= at - m * distance < taps] for at in range(last)
    }
    return [(at, found) for at, found in pairs.items() if found]


@register_model(RunType)
class RunModel(models.OpaqueModel):
    pass


class _Emitter:
    """Writes the LLVM instructions of one tile operation."""

    def __init__(self, builder, tile: TileType):
        self.builder, self.tile = builder, tile

    def intrinsic(self, name: str, result: ir.Type, arguments: list[ir.Type]):
        tile = self.tile
        suffix = f"v{tile.lanes}f{tile.dtype.bitwidth}"
        return cgutils.get_or_insert_function(
            self.builder.module, ir.FunctionType(result, arguments), f"llvm.{name}.{suffix}"
        )

    def masks(self, lanes):
        """One <lanes x i1> per vector, true where the column exists; None without an edge."""
        if isinstance(lanes, types.NoneType) or lanes is None:
            return [None] * self.tile.vectors
        builder, width = self.builder, self.tile.lanes
        spread = self.broadcast(lanes, ir.VectorType(INT64, width))
        found = []
        for j in range(self.tile.vectors):
            columns = ir.Constant(ir.VectorType(INT64, width), [j * width + i for i in range(width)])
            found.append(builder.icmp_signed("<", columns, spread))
        return found

    def where_inside(self, position, size, mask):
        """The mask where ``0 <= position < size``, and false everywhere elsewhere."""
        inside = self.broadcast(
            self.builder.icmp_unsigned("<", position, size), ir.VectorType(ir.IntType(1), self.tile.lanes)
        )
        return inside if mask is None else self.builder.and_(inside, mask)

    def broadcast(self, scalar, vector_type: ir.VectorType):
        undefined = ir.Constant(vector_type, ir.Undefined)
        first = self.builder.insert_element(undefined, scalar, ir.Constant(INT32, 0))
        zeros = ir.Constant(ir.VectorType(INT32, vector_type.count), [0] * vector_type.count)
        return self.builder.shuffle_vector(first, undefined, zeros)

    def scalar(self, pointer):
        """The element at ``pointer`` in all lanes."""
        element = self.builder.load(pointer)
        element.align = self.tile.dtype.bitwidth // 8
        return self.broadcast(element, self.tile.vector)

    def shuffle(self, first, second, order: list[int]):
        indices = ir.Constant(ir.VectorType(INT32, len(order)), order)
        return self.builder.shuffle_vector(first, second, indices)

    def fence(self, vector):
        """The same vector; the compiler does not combine what made it with what is made of it."""
        return self.builder.call(self.intrinsic("arithmetic.fence", vector.type, [vector.type]), [vector])

    def joined(self, vectors: list):
        """One long vector."""
        long = vectors[0]
        for vector in vectors[1:]:
            # Both operands of a shuffle have one length.
            there, here = long.type.count, vector.type.count
            undefined = ir.Constant(vector.type, ir.Undefined)
            widened = self.shuffle(vector, undefined, [min(i, here) for i in range(there)]) if there > here else vector
            long = self.shuffle(long, widened, list(range(there + here)))
        return long

    def load_vectors(self, pointer, masks):
        """The tile's vectors at ``pointer``, zero where a mask is false."""
        tile, builder = self.tile, self.builder
        align = tile.dtype.bitwidth // 8
        loaded = []
        for j, mask in enumerate(masks):
            address = builder.bitcast(
                builder.gep(pointer, [ir.Constant(INT64, j * tile.lanes)]), tile.vector.as_pointer()
            )
            if mask is None:
                value = builder.load(address)
                value.align = align
            else:
                zero = ir.Constant(tile.vector, [0.0] * tile.lanes)
                load = self.masked("load", tile.vector, [address.type, INT32, mask.type, tile.vector])
                value = builder.call(load, [address, ir.Constant(INT32, align), mask, zero])
            loaded.append(value)
        return loaded

    def store_vectors(self, values, pointer, masks):
        tile, builder = self.tile, self.builder
        align = tile.dtype.bitwidth // 8
        for j, (value, mask) in enumerate(zip(values, masks)):
            address = builder.bitcast(
                builder.gep(pointer, [ir.Constant(INT64, j * tile.lanes)]), tile.vector.as_pointer()
            )
            if mask is None:
                builder.store(value, address).align = align
            else:
                store = self.masked("store", ir.VoidType(), [tile.vector, address.type, INT32, mask.type])
                builder.call(store, [value, address, ir.Constant(INT32, align), mask])

    def store_integers(self, value, pointer, vector: int, mask):
        """Write one vector of integers, that of the tile's vector number ``vector``."""
        address = self.integers_address(pointer, vector, value.type)
        bits = value.type.element.width
        if mask is None:
            self.builder.store(value, address).align = bits // 8
        else:
            arguments = [value.type, address.type, INT32, mask.type]
            store = self.integers_function("store", bits, ir.VoidType(), arguments)
            self.builder.call(store, [value, address, ir.Constant(INT32, bits // 8), mask])

    def load_integers(self, pointer, vector: int, mask, bits: int = 16):
        """Read one vector of unsigned integers, zero where the mask is false."""
        narrow = ir.VectorType(ir.IntType(bits), self.tile.lanes)
        address = self.integers_address(pointer, vector, narrow)
        if mask is None:
            value = self.builder.load(address)
            value.align = bits // 8
            return value
        load = self.integers_function("load", bits, narrow, [address.type, INT32, mask.type, narrow])
        zeros = ir.Constant(narrow, [0] * self.tile.lanes)
        return self.builder.call(load, [address, ir.Constant(INT32, bits // 8), mask, zeros])

    def integers_address(self, pointer, vector: int, narrow: ir.VectorType):
        first = self.builder.gep(pointer, [ir.Constant(INT64, vector * self.tile.lanes)])
        return self.builder.bitcast(first, narrow.as_pointer())

    def integers_function(self, name: str, bits: int, result: ir.Type, arguments: list[ir.Type]):
        full_name = f"llvm.masked.{name}.v{self.tile.lanes}i{bits}.p0"
        return cgutils.get_or_insert_function(self.builder.module, ir.FunctionType(result, arguments), full_name)

    def prefetch(self, address, write: int, locality: int):
        byte = ir.IntType(8).as_pointer()
        function_type = ir.FunctionType(ir.VoidType(), [byte, INT32, INT32, INT32])
        prefetch = cgutils.get_or_insert_function(self.builder.module, function_type, "llvm.prefetch.p0")
        options = [ir.Constant(INT32, value) for value in (write, locality, 1)]  # 1: data
        self.builder.call(prefetch, [self.builder.bitcast(address, byte), *options])

    def prefetch_rows(self, rows: list[Any], write: int) -> None:
        """Ask for all vectors of a tile's rows in the first-level cache."""
        for row in rows:
            for j in range(self.tile.vectors):
                self.prefetch(self.builder.gep(row, [ir.Constant(INT64, j * self.tile.lanes)]), write, locality=3)

    def masked(self, name: str, result: ir.Type, arguments: list[ir.Type]):
        tile = self.tile
        full_name = f"llvm.masked.{name}.v{tile.lanes}f{tile.dtype.bitwidth}.p0"
        return cgutils.get_or_insert_function(self.builder.module, ir.FunctionType(result, arguments), full_name)

    def get(self, accumulators, row: int, vector: int):
        return self.builder.extract_value(accumulators, row * self.tile.vectors + vector)

    def set(self, accumulators, value, row: int, vector: int):
        return self.builder.insert_value(accumulators, value, row * self.tile.vectors + vector)

    def strided_row(self, pointer, start, stride, row):
        """Address of row ``row`` (an int, or a value) of a matrix: ``pointer + start + row * stride``."""
        builder = self.builder
        number = ir.Constant(INT64, row) if isinstance(row, int) else row
        return builder.gep(pointer, [builder.add(start, builder.mul(stride, number))])

    def load_rows(self, accumulators, row_pointers: list, masks):
        """The tile whose rows are read from the given addresses."""
        for m, row in enumerate(row_pointers):
            for j, vector in enumerate(self.load_vectors(row, masks)):
                accumulators = self.set(accumulators, vector, m, j)
        return accumulators

    def store_row(self, accumulators, m: int, pointer, masks):
        self.store_vectors([self.get(accumulators, m, j) for j in range(self.tile.vectors)], pointer, masks)

    def row_pointer(self, pointer, index, rows, row: int, again: bool = False):
        """Address of tile row ``row`` of an array: ``pointer + index + rows[row]``, or ``+ row`` without a table.

        Of rows at one distance, ``+ rows * row``.

        ``again``: read the table at each step of a loop. A dozen offsets do not fit the general registers, and what
        the compiler does about that costs more than reading them (94 to 101 GFLOP/s on 3x3x3 products): as an atomic
        load, which is an ordinary one to the processor, it stays in the loop.
        """
        builder = self.builder
        if rows is None:
            return builder.gep(pointer, [builder.add(index, ir.Constant(INT64, row))])
        if isinstance(rows.type, ir.IntType):
            first = builder.gep(pointer, [builder.mul(rows, ir.Constant(INT64, row))])  # does not change in a loop
            return builder.gep(first, [index])
        entry = builder.gep(rows, [ir.Constant(INT64, row)])
        offset = builder.load_atomic(entry, "monotonic", 8) if again else builder.load(entry)
        return builder.gep(builder.gep(pointer, [index]), [offset])


def _none_or(value, numba_type):
    return None if isinstance(numba_type, types.NoneType) else value


def shape_of(like: types.Type, rows: int, vectors: int) -> TileShape:
    """The type of the shape ``rows`` x ``vectors`` for arrays like the pointer of type ``like``."""
    return TileShape(TileType(like.dtype, rows, vectors))


@intrinsic(prefer_literal=True)
def tile_shape(typing_context, like, rows, vectors):
    """The shape ``rows`` x ``vectors`` (literal integers) for arrays like the pointer ``like``."""
    shape = shape_of(like, rows.literal_value, vectors.literal_value)
    return shape(like, rows, vectors), lambda context, *_: context.get_dummy_value()


@intrinsic(prefer_literal=True)
def with_rows(typing_context, shape, rows):
    """The same shape with another (literal) number of rows."""
    other = TileShape(TileType(shape.tile.dtype, rows.literal_value, shape.tile.vectors))
    return other(shape, rows), lambda context, *_: context.get_dummy_value()


@intrinsic
def sources_before(typing_context, group, column):
    """How many channels the source has before the group that begins at ``column`` of the target."""
    return types.int64(group, column), lambda _, builder, signature, arguments: group.before(builder, arguments[1])


@intrinsic(prefer_literal=True)
def taps_shape(typing_context, like, group, taps):
    """The shape of a tile of one vector with a row for each source channel of a group at each of ``taps`` taps.

    A third of the taps (``taps`` is a power of 3) as often as it takes for the accumulators to fit the registers.
    """
    count = taps.literal_value
    while count > 1 and count * group.R > SIMD.accumulators:
        count //= 3
    shape = TileShape(TileType(like.dtype, count * group.R, 1))
    return shape(like, group, taps), lambda context, *_: context.get_dummy_value()


@intrinsic
def taps_of(typing_context, group, shape):
    """The taps in a shape that :func:`taps_shape` made."""
    return types.int64(group, shape), lambda *_: ir.Constant(INT64, shape.tile.rows // group.R)


@intrinsic
def tile_zeros(typing_context, shape):
    """A tile of zeros."""
    return shape.tile(shape), lambda *_: shape.tile.zeros()


@intrinsic
def tile_fill(typing_context, shape, value):
    """A tile with the number ``value`` everywhere."""
    tile = shape.tile

    def generate(context, builder, signature, arguments):
        emit = _Emitter(builder, tile)
        spread = emit.broadcast(context.cast(builder, arguments[1], signature.args[1], tile.dtype), tile.vector)
        accumulators = tile.zeros()
        for m in range(tile.rows):
            for j in range(tile.vectors):
                accumulators = emit.set(accumulators, spread, m, j)
        return accumulators

    return tile(shape, value), generate


@intrinsic
def tile_fill_rows(typing_context, tile, b, index, lanes):
    """A tile whose every row is ``b[index:]``: the bias of each output channel."""

    def generate(context, builder, signature, arguments):
        accumulators, pointer, start, edge = arguments
        emit = _Emitter(builder, tile)
        masks = emit.masks(_none_or(edge, lanes))
        vectors = emit.load_vectors(builder.gep(pointer, [start]), masks)
        for m in range(tile.rows):
            for j, vector in enumerate(vectors):
                accumulators = emit.set(accumulators, vector, m, j)
        return accumulators

    return tile(tile, b, index, lanes), generate


@intrinsic
def tile_fill_each(typing_context, tile, array, index, rows):
    """A tile whose row ``m`` is ``array[index + rows[m]]`` everywhere."""

    def generate(context, builder, signature, arguments):
        accumulators, pointer, start, table = arguments
        emit = _Emitter(builder, tile)
        for m in range(tile.rows):
            spread = emit.broadcast(builder.load(emit.row_pointer(pointer, start, table, m)), tile.vector)
            for j in range(tile.vectors):
                accumulators = emit.set(accumulators, spread, m, j)
        return accumulators

    return tile(tile, array, index, rows), generate


@intrinsic
def tile_load(typing_context, tile, array, index, row_stride, lanes):
    """A tile read from a matrix: row ``m`` is ``array[index + m * row_stride:]``."""

    def generate(context, builder, signature, arguments):
        accumulators, pointer, start, stride, edge = arguments
        emit = _Emitter(builder, tile)
        rows = [emit.strided_row(pointer, start, stride, m) for m in range(tile.rows)]
        return emit.load_rows(accumulators, rows, emit.masks(_none_or(edge, lanes)))

    return tile(tile, array, index, row_stride, lanes), generate


@intrinsic
def tile_prefetch(typing_context, shape, array, index, row_stride):
    """Ask for a tile that :func:`tile_load` would read, in the first-level cache; it need not exist.

    What comes next in memory the processor itself asks for only a little ahead, and not at all where lines of an array
    end: kernels that wait for memory alone take up to two and a half times as long without this word.
    """

    def generate(context, builder, signature, arguments):
        _, pointer, start, stride = arguments
        emit = _Emitter(builder, shape.tile)
        emit.prefetch_rows([emit.strided_row(pointer, start, stride, m) for m in range(shape.tile.rows)], write=0)
        return context.get_dummy_value()

    return types.void(shape, array, index, row_stride), generate


@intrinsic
def tile_load_rows(typing_context, tile, array, index, rows, lanes):
    """A tile whose row ``m`` is ``array[index + rows[m]:]``."""

    def generate(context, builder, signature, arguments):
        accumulators, pointer, start, table, edge = arguments
        emit = _Emitter(builder, tile)
        there = [emit.row_pointer(pointer, start, table, m) for m in range(tile.rows)]
        return emit.load_rows(accumulators, there, emit.masks(_none_or(edge, lanes)))

    return tile(tile, array, index, rows, lanes), generate


def _add_outer_products(tile, rows, lanes, sign: int = 1, steps: int = 1):
    """The code of :func:`tile_multiply_add` and its kin; the last argument of the intrinsic is the edge."""

    def generate(context, builder, signature, arguments):
        accumulators, a_pointer, a_start, table, b_pointer, b_start, *b_stride, edge = arguments
        emit = _Emitter(builder, tile)
        # fmuladd, not fma: on a processor without fused multiply-add the latter becomes a library call.
        fma = emit.intrinsic("fmuladd", tile.vector, [tile.vector] * 3)
        masks = emit.masks(_none_or(edge, lanes))
        b_rows = [builder.gep(b_pointer, [b_start])]
        b_rows += [emit.strided_row(b_pointer, b_start, *b_stride, s) for s in range(1, steps)]
        vectors = [emit.load_vectors(row, masks) for row in b_rows]
        for m in range(tile.rows):
            row = emit.row_pointer(a_pointer, a_start, _none_or(table, rows), m, again=True)
            for s in range(steps):
                spread = emit.scalar(builder.gep(row, [ir.Constant(INT64, s)]))
                factor = spread if sign > 0 else builder.fneg(spread)
                for j, vector in enumerate(vectors[s]):
                    total = builder.call(fma, [factor, vector, emit.get(accumulators, m, j)])
                    accumulators = emit.set(accumulators, total, m, j)
        return accumulators

    return generate


@intrinsic
def tile_multiply_add(typing_context, tile, a, a_index, rows, b, b_index, lanes):
    """Add an outer product: ``tile[m, :] += a[a_index + rows[m]] * b[b_index:]``."""
    return tile(tile, a, a_index, rows, b, b_index, lanes), _add_outer_products(tile, rows, lanes)


@intrinsic
def tile_multiply_subtract(typing_context, tile, a, a_index, rows, b, b_index, lanes):
    """Subtract an outer product: ``tile[m, :] -= a[a_index + rows[m]] * b[b_index:]``."""
    return tile(tile, a, a_index, rows, b, b_index, lanes), _add_outer_products(tile, rows, lanes, sign=-1)


@intrinsic(prefer_literal=True)
def tile_multiply_add_steps(typing_context, steps, tile, a, a_index, rows, b, b_index, b_row, lanes):
    """Add ``steps`` (literal) outer products: ``tile[m, :] += a[a_index + s + rows[m]] * b[b_index + s * b_row:]``.

    The offset of a row is read once for all of them, where a narrow tile would read it as often as it multiplies.
    """
    add = _add_outer_products(tile, rows, lanes, steps=steps.literal_value)

    def generate(context, builder, signature, arguments):
        return add(context, builder, signature, arguments[1:])

    return tile(steps, tile, a, a_index, rows, b, b_index, b_row, lanes), generate


def _add_by_tables(tile, lanes, factor_at):
    """The code that adds products of vectors of b with what ``factor_at(emit, pointer, mask)`` gives for each row."""

    def generate(context, builder, signature, arguments):
        accumulators, a_pointer, a_start, a_table, b_pointer, b_start, b_table, count = arguments
        emit = _Emitter(builder, tile)
        fma = emit.intrinsic("fmuladd", tile.vector, [tile.vector] * 3)
        mask = emit.masks(_none_or(count, lanes))[:1]
        there = [emit.row_pointer(b_pointer, b_start, b_table, j) for j in range(tile.vectors)]
        vectors = [emit.load_vectors(pointer, mask)[0] for pointer in there]
        for m in range(tile.rows):
            factor = factor_at(emit, emit.row_pointer(a_pointer, a_start, a_table, m), mask)
            for j, vector in enumerate(vectors):
                total = builder.call(fma, [factor, vector, emit.get(accumulators, m, j)])
                accumulators = emit.set(accumulators, total, m, j)
        return accumulators

    return generate


@intrinsic
def tile_multiply_add_columns(typing_context, tile, a, a_index, rows, b, b_index, columns, lanes):
    """Add an outer product: ``tile[m, j] += a[a_index + rows[m]] * b[b_index + columns[j]:]``.

    ``lanes`` is how many elements of each vector there are.
    """

    def one(emit, pointer, mask):
        return emit.scalar(pointer)

    return tile(tile, a, a_index, rows, b, b_index, columns, lanes), _add_by_tables(tile, lanes, one)


@intrinsic
def tile_multiply_groups(typing_context, tile, group, a, a_index, offsets, b, b_index, lanes):
    """Add products lane by lane: ``tile[t * R + r, :] += pick(a[a_index + offsets[t]:], r) * b[b_index:]``.

    ``pick(sources, r)``: for each lane, source channel r of its group, see :class:`GroupType`. The tile has one vector.
    """

    def generate(context, builder, signature, arguments):
        accumulators, _, a_pointer, a_start, table, b_pointer, b_start, edge = arguments
        emit, read = _Emitter(builder, tile), _Emitter(builder, group.sources(tile))
        fma = emit.intrinsic("fmuladd", tile.vector, [tile.vector] * 3)
        [mask] = emit.masks(_none_or(edge, lanes))
        [factor] = emit.load_vectors(builder.gep(b_pointer, [b_start]), [mask])
        masks = read.masks(None if mask is None else group.before(builder, edge))
        for t in range(tile.rows // group.R):
            [sources] = read.load_vectors(emit.row_pointer(a_pointer, a_start, table, t, again=True), masks)
            for row, [picked] in enumerate(group.picks(emit, [sources]), start=t * group.R):
                total = builder.call(fma, [picked, factor, emit.get(accumulators, row, 0)])
                accumulators = emit.set(accumulators, total, row, 0)
        return accumulators

    return tile(tile, group, a, a_index, offsets, b, b_index, lanes), generate


@intrinsic
def tile_correlate(
    typing_context, tile, group, run, a, a_index, a_line, a_place, b, b_index, b_line, b_place, b_row,
    first, unit, size, lanes,
):  # fmt: skip
    """Add a run of taps (:class:`RunType`): ``tile[l, m] += sum over taps k, t and r < R of products``, lane by lane.

    The products are ``pick(l * line_distance + k, m * distance + t, r) * b[k, t, r]``. ``pick(h, i, r)`` is, for each
    lane, source channel r of its group (see :class:`GroupType`) at place i of line h, which is
    ``a[a_index + h * a_line + i * a_place:]`` where ``0 <= first + i * unit < size``, and zeros elsewhere; ``size``
    None: everywhere. ``b[k, t, r]`` is ``b[b_index + k * b_line + t * b_place + r * b_row:]``. A place is read and
    picked from once for all rows that meet it, so that products and not loads are the limit.
    """

    def generate(context, builder, signature, arguments):
        accumulators, _, _, a_pointer, a_start, a_next, a_stride = arguments[:7]
        b_pointer, b_start, b_next, b_stride, b_channel, begin, each, end, edge = arguments[7:]
        emit, read = _Emitter(builder, tile), _Emitter(builder, group.sources(tile))
        fma = emit.intrinsic("fmuladd", tile.vector, [tile.vector] * 3)
        zero, end = ir.Constant(INT64, 0), _none_or(end, size)
        [mask] = emit.masks(_none_or(edge, lanes))
        [source_mask] = read.masks(None if mask is None else group.before(builder, edge))

        def mask_at(place):
            if end is None:
                return source_mask
            position = builder.add(begin, builder.mul(each, ir.Constant(INT64, place)))
            return read.where_inside(position, end, source_mask)

        def weights_of(r):
            channel = emit.strided_row(b_pointer, b_start, b_channel, r)
            for k in range(run.height):
                line = emit.strided_row(channel, zero, b_next, k)
                for t in range(run.width):
                    yield (k, t), emit.load_vectors(emit.strided_row(line, zero, b_stride, t), [mask])[0]

        totals = [emit.get(accumulators, row, 0) for row in range(tile.rows)]
        masks = {place: mask_at(place) for place, _ in run.places()}
        weights = {r: dict(weights_of(r)) for r in range(group.R)} if run.height > 1 else {}
        for h, lines in run.source_lines():
            a_row = emit.strided_row(a_pointer, a_start, a_next, h)
            addresses = [(emit.strided_row(a_row, zero, a_stride, place), [masks[place]]) for place, _ in run.places()]
            sources = [read.load_vectors(*address)[0] for address in addresses]
            for r, picked in enumerate(group.picks(emit, sources)):
                factors = weights.get(r) or dict(weights_of(r))
                for vector, (_, pixels) in zip(picked, run.places()):
                    for line, k in lines:
                        for m, t in pixels:
                            row = line * run.pixels + m
                            totals[row] = builder.call(fma, [vector, factors[k, t], totals[row]])
        for row, total in enumerate(totals):
            accumulators = emit.set(accumulators, total, row, 0)
        return accumulators

    arguments = (a, a_index, a_line, a_place, b, b_index, b_line, b_place, b_row, first, unit, size, lanes)
    return tile(tile, group, run, *arguments), generate


@intrinsic
def tile_correlate_gradient(
    typing_context, tile, run, a, a_index, a_line, a_place, b, b_index, b_line, b_pixel, first, unit, size, count,
    lanes,
):  # fmt: skip
    """Add to the sums of a run's taps what a tile of b contributes, lane by lane; see :func:`tile_correlate`.

    ``tile[k * width + t] += sum over l, m of a(l * line_distance + k, m * distance + t) * b(l, m)``, where ``b(l, m)``
    is ``b[b_index + l * b_line + m * b_pixel:]`` for the first ``count`` pixels of a line, and zeros for the others;
    None: there are all.
    """
    # Sums that follow each other wait for the multiplier: few of them are divided into partial ones.
    chains = max(_CHAINS // tile.rows, 1)

    def generate(context, builder, signature, arguments):
        accumulators, _, a_pointer, a_start, a_next, a_stride = arguments[:6]
        b_pointer, b_start, b_next, b_stride, begin, each, end, number, edge = arguments[6:]
        emit = _Emitter(builder, tile)
        fma = emit.intrinsic("fmuladd", tile.vector, [tile.vector] * 3)
        zero, end, number = ir.Constant(INT64, 0), _none_or(end, size), _none_or(number, count)
        [mask] = emit.masks(_none_or(edge, lanes))

        def where(position, limit):
            return mask if limit is None else emit.where_inside(position, limit, mask)

        def b_at(line, m):
            row = emit.strided_row(emit.strided_row(b_pointer, b_start, b_next, line), zero, b_stride, m)
            return emit.load_vectors(row, [where(ir.Constant(INT64, m), number)])[0]

        factors = {(line, m): b_at(line, m) for line in range(run.lines) for m in range(run.pixels)}
        nothing = ir.Constant(tile.vector, [0.0] * tile.lanes)
        totals = {(row, 0): emit.get(accumulators, row, 0) for row in range(tile.rows)}
        positions = [builder.add(begin, builder.mul(each, ir.Constant(INT64, i))) for i, _ in run.places()]
        masks = [where(position, end) for position in positions]
        for h, lines in run.source_lines():
            a_row = emit.strided_row(a_pointer, a_start, a_next, h)
            for there, (i, pixels) in zip(masks, run.places()):
                [vector] = emit.load_vectors(emit.strided_row(a_row, zero, a_stride, i), [there])
                for line, k in lines:
                    for m, t in pixels:
                        at = k * run.width + t, (line * run.pixels + m) % chains
                        totals[at] = builder.call(fma, [vector, factors[line, m], totals.get(at, nothing)])
        for row in range(tile.rows):
            total = totals[row, 0]
            for chain in range(1, chains):
                total = builder.fadd(total, totals.get((row, chain), nothing))
            accumulators = emit.set(accumulators, total, row, 0)
        return accumulators

    arguments = (a, a_index, a_line, a_place, b, b_index, b_line, b_pixel, first, unit, size, count, lanes)
    return tile(tile, run, *arguments), generate


@intrinsic
def gradient_shape(typing_context, like, run):
    """The shape of a tile with a row for each tap of a run, one vector wide."""
    shape = TileShape(TileType(like.dtype, run.height * run.width, 1))
    return shape(like, run), lambda context, *_: context.get_dummy_value()


@intrinsic
def run_shape(typing_context, like, run):
    """The shape of a tile of a run's lines and pixels, one vector wide, for arrays like the pointer ``like``."""
    shape = TileShape(TileType(like.dtype, run.lines * run.pixels, 1))
    return shape(like, run), lambda context, *_: context.get_dummy_value()


@intrinsic
def line_run(typing_context, run):
    """The run for one line alone, one line of taps at a time."""
    alone = run.of(lines=1, height=1, line_distance=1)
    return alone(run), lambda context, *_: context.get_dummy_value()


@intrinsic
def tap_run(typing_context, run):
    """The run for one line and one tap at a time."""
    alone = run.of(height=1, line_distance=1, width=1, distance=1)
    return alone(run), lambda context, *_: context.get_dummy_value()


def number_of(argument: types.Type, value: int):
    """The signature and code of an intrinsic of one argument whose type says a number."""
    return types.int64(argument), lambda *_: ir.Constant(INT64, value)


@intrinsic
def lines_of(typing_context, run):
    """Lines of a run's tile."""
    return number_of(run, run.lines)


@intrinsic
def pixels_of(typing_context, run):
    """Pixels of a line of a run's tile."""
    return number_of(run, run.pixels)


@intrinsic
def taps_high(typing_context, run):
    """Lines of taps of a run."""
    return number_of(run, run.height)


@intrinsic
def taps_wide(typing_context, run):
    """Taps of a line of a run."""
    return number_of(run, run.width)


@intrinsic
def tile_store_first(typing_context, tile, array, index, row_stride, count, lanes):
    """Write the first ``count`` rows of a tile to a matrix: row ``m`` to ``array[index + m * row_stride:]``."""

    def generate(context, builder, signature, arguments):
        accumulators, pointer, start, stride, number, edge = arguments
        emit = _Emitter(builder, tile)
        masks = emit.masks(_none_or(edge, lanes))
        for m in range(tile.rows):
            with builder.if_then(builder.icmp_signed("<", ir.Constant(INT64, m), number), likely=True):
                emit.store_row(accumulators, m, emit.strided_row(pointer, start, stride, m), masks)
        return context.get_dummy_value()

    return types.void(tile, array, index, row_stride, count, lanes), generate


@intrinsic
def tile_multiply_vectors(typing_context, tile, a, a_index, rows, b, b_index, columns, lanes):
    """Add products of vectors: ``tile[m, j] += a[a_index + rows[m]:] * b[b_index + columns[j]:]``, lane by lane.

    ``lanes`` is how many elements of each vector there are.
    """

    def whole(emit, pointer, mask):
        return emit.load_vectors(pointer, mask)[0]

    return tile(tile, a, a_index, rows, b, b_index, columns, lanes), _add_by_tables(tile, lanes, whole)


@intrinsic
def tile_store_sums(typing_context, tile, array, index, count):
    """Write the sum of the lanes of each of the first ``count`` rows, of one vector, to ``array[index + m]``."""

    def generate(context, builder, signature, arguments):
        accumulators, pointer, start, number = arguments
        emit = _Emitter(builder, tile)
        total = emit.intrinsic("vector.reduce.fadd", tile.element, [tile.element, tile.vector])
        zero = ir.Constant(tile.element, 0.0)
        for m in range(tile.rows):
            with builder.if_then(builder.icmp_signed("<", ir.Constant(INT64, m), number), likely=True):
                # Reassociated: lanes are added pairwise instead of one after the other.
                lanes_together = builder.call(total, [zero, emit.get(accumulators, m, 0)], fastmath=("reassoc",))
                builder.store(lanes_together, emit.row_pointer(pointer, start, None, m))
        return context.get_dummy_value()

    return types.void(tile, array, index, count), generate


class Term:
    """One vector of a tile inside an intrinsic, so that a transform can be written as it stands in a paper."""

    def __init__(self, builder, value):
        self.builder, self.value = builder, value

    def __add__(self, other: Term) -> Term:
        return Term(self.builder, self.builder.fadd(self.value, other.value, flags=("contract",)))

    def __sub__(self, other: Term) -> Term:
        return Term(self.builder, self.builder.fsub(self.value, other.value, flags=("contract",)))

    def __rmul__(self, factor: float) -> Term:
        vector = self.value.type
        spread = ir.Constant(vector, [float(factor)] * vector.count)
        return Term(self.builder, self.builder.fmul(spread, self.value, flags=("contract",)))


def transform_both_ways(tile: TileType, sizes: tuple[int, int], of_columns, of_rows):
    """The result type and the code of transforms applied to the columns of a matrix, then to its rows.

    The tile, the last argument of the intrinsic, holds the matrix of ``sizes`` row by row, one vector an element. A
    transform takes a list of terms and returns one of any length; it may use ``+``, ``-`` and a number times a term.
    """
    height, width = sizes
    out_height = len(of_columns([Fraction(0)] * height))
    out_width = len(of_rows([Fraction(0)] * width))
    result = TileType(tile.dtype, out_height * out_width, 1)

    def generate(context, builder, signature, arguments):
        emit = _Emitter(builder, tile)
        elements = [Term(builder, emit.get(arguments[-1], i, 0)) for i in range(height * width)]
        columns = [of_columns(elements[j::width]) for j in range(width)]
        accumulators = result.zeros()
        for i in range(out_height):
            for j, term in enumerate(of_rows([column[i] for column in columns])):
                accumulators = _Emitter(builder, result).set(accumulators, term.value, i * out_width + j, 0)
        return accumulators

    return result, generate


def _each_vector(tile, count: int, combine):
    """The signature and code of an intrinsic of ``count`` tiles of one shape: ``combine(emit, *vectors)`` of each."""

    def generate(context, builder, signature, arguments):
        emit = _Emitter(builder, tile)
        result = arguments[0]
        for m in range(tile.rows):
            for j in range(tile.vectors):
                result = emit.set(result, combine(emit, *(emit.get(each, m, j) for each in arguments)), m, j)
        return result

    return tile(*[tile] * count), generate


def _zero(tile):
    return ir.Constant(tile.vector, [0.0] * tile.lanes)


@intrinsic
def tile_add(typing_context, tile, other):
    """The sum of two tiles of one shape."""
    return _each_vector(tile, 2, lambda emit, a, b: emit.builder.fadd(a, b))


@intrinsic
def tile_subtract(typing_context, tile, other):
    """The differences of the elements of two tiles."""
    return _each_vector(tile, 2, lambda emit, a, b: emit.builder.fsub(a, b))


@intrinsic
def tile_multiply(typing_context, tile, other):
    """The products of the elements of two tiles."""
    return _each_vector(tile, 2, lambda emit, a, b: emit.builder.fmul(a, b))


@intrinsic
def tile_divide(typing_context, tile, other):
    """The quotients of the elements of two tiles."""
    return _each_vector(tile, 2, lambda emit, a, b: emit.builder.fdiv(a, b))


@intrinsic
def tile_add_product(typing_context, tile, first, second):
    """``tile + first * second``, element by element."""

    def combine(emit, total, a, b):
        fma = emit.intrinsic("fmuladd", tile.vector, [tile.vector] * 3)
        return emit.builder.call(fma, [a, b, total])

    return _each_vector(tile, 3, combine)


@intrinsic
def tile_sum_rows(typing_context, tile):
    """The tile of one row that is the sum of all rows, neighbours first."""
    result = TileType(tile.dtype, 1, tile.vectors)

    def generate(context, builder, signature, arguments):
        emit, total = _Emitter(builder, tile), result.zeros()
        for j in range(tile.vectors):
            sums = [emit.get(arguments[0], m, j) for m in range(tile.rows)]
            while len(sums) > 1:
                sums = [
                    builder.fadd(*sums[m : m + 2]) if m + 1 < len(sums) else sums[m] for m in range(0, len(sums), 2)
                ]
            total = _Emitter(builder, result).set(total, sums[0], 0, j)
        return total

    return result(tile), generate


@intrinsic
def tile_square_root(typing_context, tile):
    """The square roots of the elements."""
    return _each_vector(
        tile, 1, lambda emit, a: emit.builder.call(emit.intrinsic("sqrt", tile.vector, [tile.vector]), [a])
    )


@intrinsic
def tile_draw(typing_context, tile, other, candidate, passed, goal):
    """``other`` where the candidate is positive and what has been passed before it does not exceed the goal."""

    def combine(emit, kept, new, candidates, sums, goals):
        builder = emit.builder
        positive = builder.fcmp_ordered(">", candidates, _zero(tile))
        return builder.select(builder.and_(positive, builder.fcmp_ordered("<=", sums, goals)), new, kept)

    return _each_vector(tile, 5, combine)


@intrinsic
def elements_between(typing_context, first, second):
    """How many elements ``second`` lies behind ``first``; both pointers are aligned to their elements."""

    def generate(context, builder, signature, arguments):
        begin, end = (builder.ptrtoint(pointer, INT64) for pointer in arguments)
        return builder.sdiv(builder.sub(end, begin), ir.Constant(INT64, first.dtype.bitwidth // 8))

    return types.int64(first, second), generate


@intrinsic
def tile_prefetch_rows(typing_context, shape, array, index, rows):
    """Ask for the cache lines of ``array[index + rows[m]:]``, so that the stores of a tile find them there."""

    def generate(context, builder, signature, arguments):
        _, pointer, start, table = arguments
        emit = _Emitter(builder, shape.tile)
        emit.prefetch_rows([emit.row_pointer(pointer, start, table, m) for m in range(shape.tile.rows)], write=1)
        return context.get_dummy_value()

    return types.void(shape, array, index, rows), generate


@intrinsic
def tile_relu(typing_context, tile):
    """Negative accumulators become 0; NaN stays NaN."""

    def combine(emit, value):
        negative = emit.builder.fcmp_ordered("<", value, _zero(tile))
        return emit.builder.select(negative, _zero(tile), value)

    return _each_vector(tile, 1, combine)


@intrinsic
def tile_where_positive(typing_context, tile, condition):
    """The tile where the condition is positive or NaN, 0 elsewhere: the gradient in front of a ReLU."""

    def combine(emit, value, decides):
        return emit.builder.select(emit.builder.fcmp_ordered("<=", decides, _zero(tile)), _zero(tile), value)

    return _each_vector(tile, 2, combine)


def _wins(builder, candidate, best):
    """Where a candidate is greater than the best, or NaN: a mask of one vector."""
    greater = builder.fcmp_ordered(">", candidate, best)
    return builder.or_(greater, builder.fcmp_unordered("uno", candidate, candidate))


@intrinsic
def tile_greater(typing_context, best, candidate):
    """The greater of two tiles, element by element; NaN wins, and of equals the best stays."""
    return _each_vector(best, 2, lambda emit, old, new: emit.builder.select(_wins(emit.builder, new, old), new, old))


@intrinsic
def tile_greater_position(typing_context, positions, position, best, candidate):
    """``position`` where the candidate wins in :func:`tile_greater`, elsewhere what ``positions`` holds.

    Positions are whole numbers up to 2^24, which a tile holds exactly in its own floating-point dtype.
    """

    def generate(context, builder, signature, arguments):
        accumulators, number, bests, candidates = arguments
        emit = _Emitter(builder, positions)
        spread = emit.broadcast(context.cast(builder, number, types.int64, positions.dtype), positions.vector)
        for m in range(positions.rows):
            for j in range(positions.vectors):
                wins = _wins(builder, emit.get(candidates, m, j), emit.get(bests, m, j))
                kept = builder.select(wins, spread, emit.get(accumulators, m, j))
                accumulators = emit.set(accumulators, kept, m, j)
        return accumulators

    return positions(positions, position, best, candidate), generate


@intrinsic
def tile_store_positions(typing_context, positions, array, index, lanes):
    """Write a tile of one row as the unsigned integers of ``array`` to ``array[index:]``."""

    def generate(context, builder, signature, arguments):
        accumulators, pointer, start, edge = arguments
        emit = _Emitter(builder, positions)
        narrow = ir.VectorType(ir.IntType(array.dtype.bitwidth), positions.lanes)
        for j, mask in enumerate(emit.masks(_none_or(edge, lanes))):
            value = builder.fptoui(emit.get(accumulators, 0, j), narrow)
            emit.store_integers(value, builder.gep(pointer, [start]), j, mask)
        return context.get_dummy_value()

    return types.void(positions, array, index, lanes), generate


@intrinsic
def tile_add_where(typing_context, tile, array, index, positions, positions_index, position, lanes):
    """Add ``array[index:]`` to a tile of one row where ``positions[positions_index:]`` is ``position``."""

    def generate(context, builder, signature, arguments):
        accumulators, pointer, start, positions_pointer, positions_start, number, edge = arguments
        emit = _Emitter(builder, tile)
        masks = emit.masks(_none_or(edge, lanes))
        bits = positions.dtype.bitwidth
        spread = emit.broadcast(builder.trunc(number, ir.IntType(bits)), ir.VectorType(ir.IntType(bits), tile.lanes))
        zero = ir.Constant(tile.vector, [0.0] * tile.lanes)
        for j, vector in enumerate(emit.load_vectors(builder.gep(pointer, [start]), masks)):
            found = emit.load_integers(builder.gep(positions_pointer, [positions_start]), j, masks[j], bits)
            chosen = builder.select(builder.icmp_unsigned("==", found, spread), vector, zero)
            accumulators = emit.set(accumulators, builder.fadd(emit.get(accumulators, 0, j), chosen), 0, j)
        return accumulators

    return tile(tile, array, index, positions, positions_index, position, lanes), generate


@intrinsic
def tile_store(typing_context, tile, array, index, row_stride, lanes):
    """Write a tile to a matrix: row ``m`` to ``array[index + m * row_stride:]``."""

    def generate(context, builder, signature, arguments):
        accumulators, pointer, start, stride, edge = arguments
        emit = _Emitter(builder, tile)
        masks = emit.masks(_none_or(edge, lanes))
        for m in range(tile.rows):
            emit.store_row(accumulators, m, emit.strided_row(pointer, start, stride, m), masks)
        return context.get_dummy_value()

    return types.void(tile, array, index, row_stride, lanes), generate


@intrinsic
def tile_store_rows(typing_context, tile, array, index, rows, lanes):
    """Write a tile, row ``m`` to ``array[index + rows[m]:]``."""

    def generate(context, builder, signature, arguments):
        accumulators, pointer, start, table, edge = arguments
        emit = _Emitter(builder, tile)
        masks = emit.masks(_none_or(edge, lanes))
        for m in range(tile.rows):
            emit.store_row(accumulators, m, emit.row_pointer(pointer, start, table, m), masks)
        return context.get_dummy_value()

    return types.void(tile, array, index, rows, lanes), generate


@intrinsic
def tile_load_float16(typing_context, tile, stored, index, lanes):
    """A tile of float32 in one row, read from the bits of float16, uint16, at ``stored[index:]``."""
    return _load_half(tile, stored, index, lanes, widen_float16)


@intrinsic
def tile_load_bfloat16(typing_context, tile, stored, index, lanes):
    """A tile of float32 in one row, read from the bits of bfloat16, uint16, at ``stored[index:]``."""
    return _load_half(tile, stored, index, lanes, widen_bfloat16)


@intrinsic
def tile_store_float16(typing_context, tile, stored, index, lanes):
    """Write a tile of float32 in one row as the bits of float16, uint16, to ``stored[index:]``."""
    return _store_half(tile, stored, index, lanes, narrow_float16)


@intrinsic
def tile_store_bfloat16(typing_context, tile, stored, index, lanes):
    """Write a tile of float32 in one row as the bits of bfloat16, uint16, to ``stored[index:]``."""
    return _store_half(tile, stored, index, lanes, narrow_bfloat16)


def _load_half(tile: TileType, stored, index, lanes, widen: Convert):
    def generate(context, builder, signature, arguments):
        accumulators, pointer, start, edge = arguments
        emit = _Emitter(builder, tile)
        there = builder.gep(pointer, [start])
        for j, mask in enumerate(emit.masks(_none_or(edge, lanes))):
            vector = widen(context, builder, emit.load_integers(there, j, mask))
            accumulators = emit.set(accumulators, vector, 0, j)
        return accumulators

    return tile(tile, stored, index, lanes), generate


def _store_half(tile: TileType, stored, index, lanes, narrow: Convert):
    def generate(context, builder, signature, arguments):
        accumulators, pointer, start, edge = arguments
        emit = _Emitter(builder, tile)
        there = builder.gep(pointer, [start])
        for j, mask in enumerate(emit.masks(_none_or(edge, lanes))):
            emit.store_integers(narrow(context, builder, emit.get(accumulators, 0, j)), there, j, mask)
        return context.get_dummy_value()

    return types.void(tile, stored, index, lanes), generate


@intrinsic
def rows_of(typing_context, shape):
    """The number of rows of a shape."""
    return types.int64(shape), lambda *_: ir.Constant(INT64, shape.tile.rows)


@intrinsic
def vectors_of(typing_context, shape):
    """The number of vectors in a row of a shape."""
    return types.int64(shape), lambda *_: ir.Constant(INT64, shape.tile.vectors)


@intrinsic
def prefetch_line(typing_context, array, index):
    """Ask for the cache line of ``array[index]`` in the second-level cache; it need not exist."""

    def generate(context, builder, signature, arguments):
        pointer, at = arguments
        emit = _Emitter(builder, TileType(array.dtype, 1, 1))
        emit.prefetch(builder.gep(pointer, [at]), write=0, locality=2)
        return context.get_dummy_value()

    return types.void(array, index), generate


@intrinsic
def lanes_of(typing_context, pointer):
    """Elements of a pointer's dtype in one vector register."""
    lanes = SIMD.vector_bytes * 8 // pointer.dtype.bitwidth
    return types.int64(pointer), lambda context, builder, signature, arguments: ir.Constant(INT64, lanes)


@intrinsic
def shift(typing_context, pointer, elements):
    """The pointer ``elements`` elements further on."""

    def generate(context, builder, signature, arguments):
        return builder.gep(arguments[0], [arguments[1]])

    return pointer(pointer, elements), generate


@intrinsic
def is_there(typing_context, pointer):
    """Whether an optional array was given: its address is not 0."""

    def generate(context, builder, signature, arguments):
        return builder.icmp_unsigned("!=", builder.ptrtoint(arguments[0], INT64), ir.Constant(INT64, 0))

    return types.boolean(pointer), generate


@intrinsic
def elements_at(typing_context, block, address):
    """The pointer to elements of the kernel's dtype at an address, an int64 that a table of the kernel's holds."""
    pointer = types.CPointer(block.dtype)

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[1], context.get_value_type(pointer))

    return pointer(block, address), generate


@intrinsic
def scalar(typing_context, like, value):
    """The float64 ``value`` rounded to the dtype of the pointer ``like``, so that a loop stays in that dtype."""

    def generate(context, builder, signature, arguments):
        return context.cast(builder, arguments[1], types.float64, like.dtype)

    return like.dtype(like, value), generate


@intrinsic
def transpose_square(typing_context, src, src_index, src_row, dst, dst_index, dst_row, rows, columns):
    """``dst[dst_index + j * dst_row + i] = src[src_index + i * src_row + j]`` for i < rows, j < columns.

    Both at most a vector's length. In registers, by log2(lanes) rounds of interleaving: after the round with
    distance s, vectors i and i + s have exchanged the halves of each group of 2 s elements.
    """
    tile = TileType(src.dtype, 1, 1)

    def generate(context, builder, signature, arguments):
        src_pointer, src_start, src_stride, dst_pointer, dst_start, dst_stride, height, width = arguments
        emit = _Emitter(builder, tile)
        n = tile.lanes
        src_masks, dst_masks = emit.masks(width), emit.masks(height)
        last = builder.sub(height, ir.Constant(INT64, 1))
        vectors = []
        for i in range(n):
            number = ir.Constant(INT64, i)
            row = builder.select(builder.icmp_signed("<", number, height), number, last)  # the last row again
            vectors.extend(emit.load_vectors(emit.strided_row(src_pointer, src_start, src_stride, row), src_masks))
        distance = 1
        while distance < n:
            low, high = [], []
            for i in range(n):
                swapped = i & distance
                low.append(i if not swapped else n + i - distance)
                high.append(i + distance if not swapped else n + i)
            exchanged = list(vectors)
            for i in range(n):
                if not i & distance:
                    first, second = vectors[i], vectors[i + distance]
                    exchanged[i] = emit.shuffle(first, second, low)
                    exchanged[i + distance] = emit.shuffle(first, second, high)
            vectors, distance = exchanged, distance * 2
        for j, vector in enumerate(vectors):
            row = emit.strided_row(dst_pointer, dst_start, dst_stride, j)
            with builder.if_then(builder.icmp_signed("<", ir.Constant(INT64, j), width), likely=True):
                emit.store_vectors([vector], row, dst_masks)
        return context.get_dummy_value()

    return types.void(src, src_index, src_row, dst, dst_index, dst_row, rows, columns), generate


@intrinsic(prefer_literal=True)
def separate(typing_context, src, src_index, dst, dst_index, dst_row, channels):
    """``dst[dst_index + c * dst_row + i] = src[src_index + i * channels + c]`` for a vector's length of i."""
    tile, count = TileType(src.dtype, 1, 1), channels.literal_value

    def generate(context, builder, signature, arguments):
        src_pointer, src_start, dst_pointer, dst_start, dst_stride, _ = arguments
        emit = _Emitter(builder, tile)
        there = builder.gep(src_pointer, [src_start])
        mixed = emit.joined(
            [
                emit.load_vectors(builder.gep(there, [ir.Constant(INT64, c * tile.lanes)]), [None])[0]
                for c in range(count)
            ]
        )
        for c in range(count):
            picked = emit.shuffle(mixed, mixed, [i * count + c for i in range(tile.lanes)])
            emit.store_vectors([picked], emit.strided_row(dst_pointer, dst_start, dst_stride, c), [None])
        return context.get_dummy_value()

    return types.void(src, src_index, dst, dst_index, dst_row, channels), generate


@intrinsic(prefer_literal=True)
def interleave(typing_context, src, src_index, src_row, dst, dst_index, channels):
    """``dst[dst_index + i * channels + c] = src[src_index + c * src_row + i]`` for a vector's length of i."""
    tile, count = TileType(src.dtype, 1, 1), channels.literal_value

    def generate(context, builder, signature, arguments):
        src_pointer, src_start, src_stride, dst_pointer, dst_start, _ = arguments
        emit = _Emitter(builder, tile)
        rows = [emit.strided_row(src_pointer, src_start, src_stride, c) for c in range(count)]
        apart = emit.joined([emit.load_vectors(row, [None])[0] for row in rows])
        to = builder.gep(dst_pointer, [dst_start])
        for part in range(count):
            places = range(part * tile.lanes, (part + 1) * tile.lanes)
            mixed = emit.shuffle(apart, apart, [place % count * tile.lanes + place // count for place in places])
            emit.store_vectors([mixed], builder.gep(to, [ir.Constant(INT64, part * tile.lanes)]), [None])
        return context.get_dummy_value()

    return types.void(src, src_index, src_row, dst, dst_index, channels), generate


@intrinsic(prefer_literal=True)
def local_table(typing_context, size):
    """A table of ``size`` (literal) int64 on the stack of the calling function: a pointer to its first."""
    return table_on_stack(size, size.literal_value)


@intrinsic(prefer_literal=True)
def local_sums(typing_context, size):
    """``size`` (literal) float64 on the stack of the calling function, 0 when it begins: a pointer to the first."""
    return table_on_stack(size, size.literal_value, types.float64)


def table_on_stack(argument: types.Type, size: int, element: types.Type = types.int64):
    """The signature and code of an intrinsic of one argument that makes a table of ``size`` elements.

    They are 0 when the calling function begins.
    """

    def generate(context, builder, signature, arguments):
        kind = context.get_value_type(element)
        return builder.bitcast(cgutils.alloca_once(builder, ir.ArrayType(kind, size)), kind.as_pointer())

    return types.CPointer(element)(argument), generate
