"""PyTorch's tensors as arguments and results of every operation, with PyTorch's own gradients."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.autograd import forward_ad

from pycnn import backend as backends
from pycnn import changes
from pycnn.autograd import Function, arrays_in, grad, kept_by, recording
from pycnn.interop.arrays import Kind
from pycnn.tensor import Tensor
from pycnn_kernels.problem import numpy_dtype

#: What PyTorch's autocast on the CPU computes in the lower precision.
#: Source: https://docs.pytorch.org/docs/stable/amp.html#cpu-ops-that-can-autocast-to-bfloat16
_LOWERED = {
    "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "linear", "prelu",
}  # fmt: skip


try:
    _BFLOAT16: np.dtype | None = numpy_dtype("bfloat16")
except ModuleNotFoundError:  # without ml_dtypes there are no such results
    _BFLOAT16 = None


class _Torch(Kind):
    def read(self, value: torch.Tensor) -> Any:
        if value.requires_grad and torch.is_grad_enabled():
            raise TypeError(
                "a tensor of PyTorch that requires a gradient can stand only beside tensors of PyTorch, the first of "
                "the arrays being one; elsewhere its gradient would be lost: use tensor.detach()"
            )
        if forward_ad._current_level >= 0 and forward_ad.unpack_dual(value).tangent is not None:
            raise TypeError(
                "pycnn differentiates backward only: a tensor of PyTorch with a tangent, of forward-mode "
                "differentiation, would lose it; received one, use torch.autograd.grad instead"
            )
        try:
            return value.detach().numpy()
        except (TypeError, RuntimeError):  # what NumPy does not know as it is
            return self._read_other(value.detach())

    def _read_other(self, value: torch.Tensor) -> Any:
        if value.layout is not torch.strided or value.device.type not in ("cpu", "cuda"):
            raise TypeError(
                f"a tensor of PyTorch must be strided, on the CPU or on a GPU of CUDA; received one of the layout "
                f"{value.layout} on {value.device}"
            )
        is_view = value.is_neg() or value.is_conj()  # of memory that holds the values with another sign
        if is_view:
            value = value.resolve_neg().resolve_conj()
        bfloat16 = value.dtype == torch.bfloat16  # which NumPy knows by ml_dtypes only
        if bfloat16:
            value = value.view(torch.int16)
        array = backends.get("cuda").xp.asarray(value) if value.is_cuda else value.numpy()
        if is_view and not value.is_cuda:
            array.flags.writeable = False  # a copy, whose changes nobody would see
        return array.view(numpy_dtype("bfloat16")) if bfloat16 else array

    def give(self, result: Any, like: Any) -> torch.Tensor:
        if backends.is_on_gpu(result):
            return torch.from_dlpack(result)
        array = np.asarray(result)
        if not array.flags.carray and (not array.flags.writeable or min(array.strides, default=0) < 0):
            array = array.copy()  # PyTorch has no such memory
        if array.dtype == _BFLOAT16:
            return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(array)

    def at_hand(self, value: torch.Tensor) -> contextlib.AbstractContextManager[Any]:
        if not value.is_cuda:
            return super().at_hand(value)
        stream = torch.cuda.current_stream(value.device)
        return backends.get("cuda").xp.cuda.ExternalStream(stream.cuda_stream, value.device.index)

    def prepared(self, operation: str, values: list[Any]) -> list[Any]:
        if operation not in _LOWERED or not torch.is_autocast_enabled("cpu"):
            return values
        lower = torch.get_autocast_dtype("cpu")
        return [
            v.to(lower) if isinstance(v, torch.Tensor) and v.dtype == torch.float32 and v.device.type == "cpu" else v
            for v in values
        ]

    def changed(self, value: torch.Tensor) -> None:
        if not value.is_inference():
            torch.autograd.graph.increment_version(value)

    def records(self, values: list[Any]) -> bool:
        if not torch.is_grad_enabled():
            return False
        for value in values:  # noqa: SIM110 - any() takes twice as long
            if isinstance(value, torch.Tensor) and value.requires_grad:
                return True
        return False

    def recorded(self, call: Callable[[list[Any]], Any], values: list[Any]) -> Any:
        places = [place for place, value in enumerate(values) if isinstance(value, torch.Tensor)]

        def compute(given: tuple[torch.Tensor, ...], needs: tuple[bool, ...]) -> tuple[list[Any], int, Any]:
            leaves = [Tensor(self.read(t), requires_grad=needed) for t, needed in zip(given, needs)]
            filled = list(values)
            for place, leaf in zip(places, leaves):
                # What needs no gradient is an array, that operations which change such arguments find what they change.
                filled[place] = leaf if leaf.requires_grad else leaf.data
            return leaves, 0, call(filled)

        return _Recorded.apply(compute, *(values[place] for place in places))

    def overwritten(self, value: torch.Tensor, compute: Callable[[Any], Any]) -> torch.Tensor:
        return value.copy_(compute(value.clone()))


KIND = _Torch(is_array=True, is_foreign=True)


class _Recorded(torch.autograd.Function):
    """A computation on pycnn's tensors that is one operation of PyTorch's graph.

    Its gradient walks pycnn's graph. Where the gradient is to be differentiated itself, the walk is recorded by pycnn,
    too, and is one more such operation, of the inputs and of the gradients that it was given; and so on.

    PyTorch saves what pycnn's graph reads, inputs and outputs, and so notices changes of it in place. Other inputs may
    be changed, and their memory is free: their leaves are without elements.
    """

    @staticmethod
    def forward(ctx: Any, compute: Callable[..., tuple[list[Tensor], int, Any]], *tensors: torch.Tensor) -> Any:
        """``compute(tensors, needs)`` gives a tensor of pycnn for each of ``tensors``, how many of these (the first
        ones) an earlier operation has made, and results.
        """
        # PyTorch's mode says whether to record, and this function is called only if so.
        with recording(True):
            leaves, earlier, results = compute(tensors, ctx.needs_input_grad[1:])
        several = isinstance(results, tuple)
        ctx.set_materialize_grads(False)
        ctx.outputs, ctx.default = [], backends.get()
        sources = {id(each): tensor for leaf, tensor in zip(leaves, tensors) for each in (leaf, leaf.data)}
        read = _Read(results if several else (results,))
        given, constant, saved, kept = [], [], [], []
        for result in results if several else (results,):
            array = result.data if isinstance(result, Tensor) else result
            tensor = sources.get(id(result))
            if tensor is None:
                is_array = isinstance(array, np.ndarray | np.generic) or backends.is_on_gpu(array)
                tensor = KIND.give(array, None) if is_array else array
                if is_array and array in read:
                    saved.append(tensor)
                    kept.append(Tensor._of(array))
            given.append(tensor)
            differentiable = isinstance(result, Tensor) and result.requires_grad
            ctx.outputs.append(_without_elements(result) if differentiable else None)
            if not differentiable and isinstance(tensor, torch.Tensor):
                constant.append(tensor)
        ctx.wanted = [leaf for leaf in leaves if leaf.requires_grad]
        ctx.edges, edged = [], []
        for place, (leaf, tensor) in enumerate(zip(leaves, tensors)):
            if leaf.data in read:
                saved.append(tensor)
                kept.append(leaf)
                continue
            if read.intermediate and leaf.requires_grad:
                ctx.edges.append(_edge_of(tensor))
                edged.append(leaf)
            if place >= earlier:  # those of an earlier operation are read by its own walk, perhaps
                leaf.data = _elementless(leaf)
        ctx.leaves = kept + edged
        ctx.save_for_backward(*saved)
        ctx.mark_non_differentiable(*constant)
        return tuple(given) if several else given[0]

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor | None) -> Any:
        saved = ctx.saved_tensors  # raises where one was changed, or a walk before this one has let go of them
        if ctx.leaves is None:  # of which PyTorch knows nothing where it has saved nothing
            raise RuntimeError(
                "Trying to backward through the graph a second time: pass retain_graph=True to the first backward()"
            )
        leaves, wanted, default, edges = ctx.leaves, ctx.wanted, ctx.default, ctx.edges
        needed = iter(ctx.needs_input_grad[1:])
        pairs = [(output, grad) for output, grad in zip(ctx.outputs, grads) if output is not None and grad is not None]
        create_graph = torch.is_grad_enabled()
        if not _keeps_graph():
            ctx.leaves = ctx.outputs = ctx.wanted = ctx.edges = None

        def compute(given: tuple[torch.Tensor, ...], needs: tuple[bool, ...]) -> tuple[list[Tensor], int, Any]:
            start = len(leaves)
            weights = [Tensor(KIND.read(t), requires_grad=needed) for t, needed in zip(given[start:], needs[start:])]
            if not pairs:  # nothing depends on what has a gradient
                return [*leaves, *weights], start, (None,) * len(wanted)
            with backends.use_backend(default):
                found = grad(
                    [output for output, _ in pairs], wanted, weights,
                    retain_graph=True, create_graph=create_graph, allow_unused=True,
                )  # fmt: skip
            return [*leaves, *weights], start, found

        weights = tuple([grad for _, grad in pairs])
        if create_graph:
            inputs = [t if leaf.requires_grad else t.detach() for t, leaf in zip((*saved, *edges), leaves)]
            found = _Recorded.apply(compute, *inputs, *weights)
        else:
            given = (*saved, *edges, *weights)
            _, _, results = compute(given, (False,) * len(given))
            found = [None if each is None else KIND.give(each.data, None) for each in results]
        each = iter(found)
        return None, *(next(each) if need else None for need in needed)


class _Read:
    """The memory that walks back from some results read: what nodes keep, and the inputs whose values they need.

    Attributes:
        intermediate: whether some of it may depend on the leaves without being one of them, such as a kept result.
    """

    def __init__(self, results: tuple[Any, ...]) -> None:
        self._memory: set[Any] = set()
        self.intermediate = False
        waiting = [result._node for result in results if isinstance(result, Tensor) and result._node is not None]
        seen = set(waiting)
        while waiting:
            node = waiting.pop()
            self._add(node)
            for source in node.sources:
                if type(source) is tuple and source[0] not in seen:
                    seen.add(source[0])
                    waiting.append(source[0])

    def _add(self, node: Function) -> None:
        for place in node.places_read():
            read = node.inputs[place]
            if read is not None:
                self._memory.add(changes.memory_of(read.data))
                self.intermediate |= read._node is not None
        for _, value in kept_by(node):
            for array in arrays_in(value):
                self._memory.add(changes.memory_of(array))
                self.intermediate |= array.dtype.kind not in "iub"

    def __contains__(self, array: Any) -> bool:
        return bool(self._memory) and changes.memory_of(array) in self._memory


class _Edge(torch.autograd.Function):
    """A tensor's place in PyTorch's graph, without its elements: changes of them in place are of no concern to it."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor) -> torch.Tensor:
        return torch.empty_strided(tensor.shape, (0,) * tensor.ndim, dtype=tensor.dtype, device=tensor.device)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad


def _edge_of(tensor: torch.Tensor) -> torch.Tensor:
    with torch.enable_grad():
        return _Edge.apply(tensor)


#: Whether the walk in progress was told to keep the graph; PyTorch drops by itself only what it saved.
_keeps_graph: Callable[[], bool] = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", lambda: True)


def _without_elements(output: Tensor) -> Tensor:
    """The tensor with its history, and not its memory: a walk begins at it and does not look at its elements."""
    if output._node is None:  # an input itself
        return output
    return Tensor._of(_elementless(output), output._node, output._place)


def _elementless(tensor: Tensor) -> Any:
    """An array of the tensor's shape and dtype that is one zero in all places."""
    zero = tensor.backend.xp.zeros((), tensor.dtype)
    if isinstance(zero, np.ndarray):  # broadcast_to takes five times as long
        return np.ndarray(tensor.shape, tensor.dtype, zero, strides=(0,) * tensor.ndim)
    return tensor.backend.xp.broadcast_to(zero, tensor.shape)
