"""Tasks behind one another on one core: what the first leaves in the core's caches, the next finds there.

Two launches share out the work twice, and half of what a core reads in the second another one wrote in the first: its
lines come from the other's cache, slower than from memory that both share. (The convolution and pooling of a network's
first layer took 15 ms on one core, and 10 to 16 on two.) So the work is divided into parts, and each part passes all
tasks, its *stages*, in one piece of work of :func:`chain_kernel`.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from pycnn_kernels.cpu.launch import Task, kernel
from pycnn_kernels.cpu.tile import shift
from pycnn_kernels.cpu.workers import call_kernel
from pycnn_kernels.cpu.workspace import whole_lines


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
    "float32", blocks="table", given="table", own="int", templates="table", slots="table", entries="table",
    pieces="table", starts="table", owned="table", stages="int", given_count="int", owned_count="int", part_size="int",
    own_size="int",
)  # fmt: skip
def chain_kernel(a, item, worker):
    """Run the stages of one part, all pieces of each, in turn.

    The worker's own memory is ``own_size`` bytes. In it are the blocks of a part's stages: ``part_size`` elements, the
    part's own ``templates``, with what is ``given`` for all parts added at ``slots``; those of a stage begin at
    ``starts``.
    There, too, is what a stage leaves for the next, and the scratch of the tasks: ``owned`` says for each part which
    elements of the blocks are addresses of such memory, how many bytes from its first, and how many bytes for each
    worker the task itself will add.
    """
    blocks, own = shift(a.blocks, worker * a.own_size // 8), a.own + worker * a.own_size
    template, owned = shift(a.templates, item * a.part_size), shift(a.owned, item * a.owned_count * OWNED_FIELDS)
    for i in range(a.part_size):
        blocks[i] = template[i]
    for i in range(a.given_count):
        blocks[a.slots[i]] += a.given[i]
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
        stages_bytes: the memory of a worker that the stages need.
        parallel: False for work that is smaller than the cost of waking a thread.
        apart: for each of the given fields of all stages, in their order, what each part adds to it: an array with
            a number for each part, or 0. Those of a worker's own memory have no meaning.

    Attributes:
        own_bytes: the memory that each worker needs, of the stages and for their blocks.
    """

    def __init__(self, stages: Sequence[Stage], stages_bytes: int, parallel: bool, apart: Sequence[Any]):
        self._stages, self._compiled = stages, False
        blocks = [np.stack([task.template for task in stage.tasks]) for stage in stages]
        starts = np.cumsum([0] + [block.shape[1] for block in blocks])
        owned = [
            (start + stage.tasks[part].slot(field), own.offset, own.apart[part] if own.apart else 0)
            for part in range(len(blocks[0]))
            for start, stage in zip(starts, stages)
            for field, own in stage.own.items()
        ]
        templates = np.hstack(blocks)
        parts, part_size = templates.shape
        slots = [start + slot for start, stage in zip(starts, stages) for slot in stage.tasks[0].slots]
        for slot, each in zip(slots, apart, strict=True):
            templates[:, slot] = each
        self._given = len(slots)
        self._blocks_at = whole_lines(stages_bytes)
        self.own_bytes = self._blocks_at + whole_lines(templates[0].nbytes)
        self._entries = np.zeros((parts, len(stages)), np.int64)
        pieces = np.array([[task.items for task in stage.tasks] for stage in stages]).T.copy()
        self._task = Task(
            chain_kernel, "float32", parts, "blocks given own", parallel=parallel, templates=templates,
            slots=np.array(slots, np.int64), given_count=len(slots), entries=self._entries, pieces=pieces,
            starts=starts, owned=np.array(owned, np.int64), owned_count=len(owned) // parts, stages=len(stages),
            part_size=part_size, own_size=self.own_bytes,
        )  # fmt: skip

    def run(self, own: int, *values: int) -> None:
        """Run with the memory of the workers, and the values of the given fields of all stages in their order."""
        if not self._compiled:  # another thread may be about it, too, and write the same
            self._entries[...] = np.array([[task.entry() for task in stage.tasks] for stage in self._stages]).T
            self._compiled = True
        if len(values) != self._given:
            raise ValueError(f"{self._given} fields are given for each run; received {len(values)} values")
        given = array("q", values)
        self._task.run(own + self._blocks_at, given.buffer_info()[0], own)
