"""Tasks behind one another on one core: what the first leaves in the core's caches, the next finds there.

Two launches share out the work twice, and half of what a core reads in the second another one wrote in the first: its
lines come from the other's cache, slower than from memory that both share. (The convolution and pooling of a network's
first layer took 15 ms on one core, and 10 to 16 on two.) So the work is divided into parts, and each part passes all
tasks, its *stages*, in one piece of work of :func:`chain_kernel`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from pycnn_kernels.cpu.launch import Task, kernel
from pycnn_kernels.cpu.tile import shift
from pycnn_kernels.cpu.workers import call_kernel
from pycnn_kernels.memory import address, aligned_empty


class Own(NamedTuple):
    """Memory of the worker itself, from its byte ``offset`` on.

    ``apart``: for each part, how many bytes its task itself puts between the memory of two workers.
    """

    offset: int
    apart: Sequence[int] | None = None


class Stage(NamedTuple):
    """What each part passes.

    Attributes:
        tasks: one for each part, all with the same fields.
        own: the fields that are addresses of the worker's own memory.
    """

    tasks: Sequence[Task]
    own: dict[str, Own]


# What the kernel knows of an address in a worker's own memory: its element of a part, the offset, bytes apart.
OWNED_FIELDS = 3


@intrinsic
def _address_of(typing_context, pointer):
    def generate(context, builder, signature, arguments):
        return builder.ptrtoint(arguments[0], ir.IntType(64))

    return types.int64(pointer), generate


@kernel(
    "float32", blocks="table", entries="table", pieces="table", starts="table", owned="table",
    stages="int", owned_count="int", part_size="int", own="int", own_size="int",
)  # fmt: skip
def chain_kernel(a, item, worker):
    """Run the stages of one part, all pieces of each, in turn.

    The blocks of a part are ``part_size`` elements of ``blocks``, that of a stage from ``starts`` on. What a stage
    leaves for the next lies in the worker's own memory, ``own_size`` bytes, and so does the scratch of the tasks:
    ``owned`` says for each part which of its elements are addresses in it, how many bytes from its first, and how many
    bytes for each worker the task itself will add.
    """
    blocks, own = shift(a.blocks, item * a.part_size), a.own + worker * a.own_size
    owned = shift(a.owned, item * a.owned_count * OWNED_FIELDS)
    for i in range(0, a.owned_count * OWNED_FIELDS, OWNED_FIELDS):
        blocks[owned[i]] = own + owned[i + 1] - worker * owned[i + 2]
    for stage in range(a.stages):
        step, block = item * a.stages + stage, _address_of(shift(blocks, a.starts[stage]))
        for piece in range(a.pieces[step]):
            call_kernel(a.entries[step], block, piece, worker)


class Chain:
    """Stages made ready for all parts.

    Args:
        stages: what each part passes.
        own_bytes: the memory of a worker, from one stage to the next.
        parallel: False for work that is smaller than the cost of waking a thread.
        apart: for each of the given fields of all stages, in their order, what each part adds to it: an array with
            a number for each part, or 0. Those of a worker's own memory have no meaning.

    Attributes:
        block_bytes: what a run borrows for the blocks of all parts.
    """

    def __init__(self, stages: Sequence[Stage], own_bytes: int, parallel: bool, apart: Sequence[Any]):
        self._stages, self._compiled = stages, False
        blocks = [np.stack([task.template for task in stage.tasks]) for stage in stages]
        starts = np.cumsum([0] + [block.shape[1] for block in blocks])
        owned = [
            (start + stage.tasks[part].slot(field), own.offset, own.apart[part] if own.apart else 0)
            for part in range(len(blocks[0]))
            for start, stage in zip(starts, stages)
            for field, own in stage.own.items()
        ]
        self._template = np.hstack(blocks)
        self.block_bytes = self._template.nbytes
        slots = [start + slot for start, stage in zip(starts, stages) for slot in stage.tasks[0].slots]
        for slot, each in zip(slots, apart, strict=True):
            self._template[:, slot] = each
        self._slots = np.array(slots)
        self._entries = np.zeros((len(self._template), len(stages)), np.int64)
        pieces = np.array([[task.items for task in stage.tasks] for stage in stages]).T.copy()
        parts, part_size = self._template.shape
        self._task = Task(
            chain_kernel, "float32", parts, "blocks own", parallel=parallel, entries=self._entries, pieces=pieces,
            starts=starts, owned=np.array(owned), owned_count=len(owned) // parts, stages=len(stages),
            part_size=part_size, own_size=own_bytes,
        )  # fmt: skip

    def run(self, own: int, *values: int) -> None:
        """Run with the memory of the workers, and the values of the given fields of all stages in their order."""
        if not self._compiled:  # another thread may be about it, too, and write the same
            self._entries[...] = np.array([[task.entry() for task in stage.tasks] for stage in self._stages]).T
            self._compiled = True
        given = np.zeros(self._template.shape[1], np.int64)
        given[self._slots] = values
        blocks = aligned_empty(self._template.shape, self._template.dtype)
        np.add(self._template, given, out=blocks)
        self._task.run(address(blocks), own)
