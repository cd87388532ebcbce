"""Models of PyTorch whose convolutions, poolings and normalisations pycnn computes wherever it is faster.

:func:`accelerate` gives each layer that pycnn has, and each ``nn.Sequential``, a ``forward`` of its own, as an
attribute of the instance: its class, its parameters and buffers, its hooks and its place in the model stay what they
are, and so do ``state_dict``, ``isinstance``, training and parametrisations. At the first call with a shape the layer
computes it both ways, taking turns, and from then on it computes such calls the faster way. In an ``nn.Sequential``
neighbours become one operation where they can: a convolution, normalisation by running statistics, a ReLU and max
pooling. :func:`restore` takes the attributes off again.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import statistics
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MethodType
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.autograd import forward_ad
from torch.nn.modules import module as modules_of_torch

import pycnn
from pycnn import functional as F
from pycnn.console import table_lines

#: pycnn must take less than this part of PyTorch's time: measurements scatter, and a change of engines costs something.
_MARGIN = 0.95
#: And with a whole model less than this one: its times scatter by 5 percent from one minute to the next, and nothing
#: shall become slower by so much.
_MODEL_MARGIN = 0.9
#: And so much less in any case: between other work a call takes longer than in the loop of a measurement, by what
#: Python has to fetch anew.
_LEAST_SECONDS = 30e-6
#: Shapes that a layer remembers.
_MOST_SHAPES = 64
#: A comparison takes so many rounds, and is over earlier if one side takes less than this part of the other's time.
_ROUNDS, _CLEAR = 5, 0.6
#: That of a whole model lasts so long at least: what else happens on a machine, and meets one engine's threads harder
#: than the other's, comes in bursts of tenths of a second.
_MODEL_SECONDS = 1.0
#: Threads of an engine look out for more work for some milliseconds when its turn has ended, on the other's cores.
_PAUSE_SECONDS = 0.005
#: A turn of a side lasts about as long, at least one call.
_TURN_SECONDS = 0.003

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_MAX_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_AVERAGE_POOLS = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
_ADAPTIVE_AVERAGE = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
_ADAPTIVE_MAX = (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class Row(NamedTuple):
    """What was found about a layer, or neighbours that are one operation, for calls of one shape.

    Attributes:
        name: of the module in the model, with the last one's behind a dash where they are several.
        what: the classes of the modules.
        shape: of the input.
        gradient: whether the time is that of forward and backward.
        pycnn_ms, torch_ms: milliseconds of each side; None where it was not measured.
        by_pycnn: whether such calls are computed by pycnn.
        reason: why.
    """

    name: str
    what: str
    shape: tuple[int, ...]
    gradient: bool
    pycnn_ms: float | None
    torch_ms: float | None
    by_pycnn: bool
    reason: str


class Report:
    """What :func:`accelerate` replaced; rows come with the first calls of new shapes. ``print(report)`` is a table.

    Attributes:
        pycnn_ms, torch_ms: milliseconds of the whole model with the example, accelerated and not; None where it was not
            measured.
    """

    def __init__(self, forwards: dict[str, _Forward]) -> None:
        self._forwards = forwards
        self.pycnn_ms: float | None = None
        self.torch_ms: float | None = None

    @property
    def rows(self) -> list[Row]:
        """What has been measured so far, in the order of the model's modules."""
        return [
            Row(*_named(name, choice), **found._asdict())
            for name, forward in self._forwards.items()
            for choice in forward.choices()
            for found in choice.found()
        ]

    def __str__(self) -> str:
        rows = self.rows
        if not rows:
            return "nothing has been measured yet: call the model"
        header = ("Module", "Layer", "Input", "pycnn ms", "PyTorch ms", "Computed by", "Reason")
        cells = [
            (
                row.name, row.what, "x".join(map(str, row.shape)) + (" with gradient" if row.gradient else ""),
                _ms(row.pycnn_ms), _ms(row.torch_ms), "pycnn" if row.by_pycnn else "PyTorch", row.reason,
            )
            for row in rows
        ]  # fmt: skip
        lines = table_lines(header, cells)
        if self.torch_ms is not None:
            lines.append(f"The model: {_ms(self.pycnn_ms)} ms accelerated, {_ms(self.torch_ms)} ms by PyTorch alone")
        return "\n".join(lines)

    __repr__ = __str__


def _ms(milliseconds: float | None) -> str:
    return "" if milliseconds is None else f"{milliseconds:.3f}"


def _named(name: str, choice: _Choice) -> tuple[str, str]:
    if choice.names:
        name = f"{name}.{choice.names[0]}-{choice.names[-1]}".lstrip(".")
    return name, choice.what


def accelerate(model: nn.Module, *, example: Any = None) -> Report:
    """Let pycnn compute the layers of a model on the CPU wherever that is faster.

    Convolutions, transposed convolutions, poolings and batch normalisations, and neighbours of those in
    ``nn.Sequential``. A layer measures at its first call with a shape, in the mode of that call (a first call takes
    longer, by some tenths of a second for each layer), with gradients where they are recorded. Results differ from
    PyTorch's by the rounding of the algorithms. Layers that somebody else has given a ``forward`` are left alone. Calls
    that are traced, compiled or under autocast are PyTorch's, and so are those inside forward-mode differentiation and
    under hooks of saved tensors (``torch.utils.checkpoint``, ``save_on_cpu``), and those that pycnn refuses. A pickled
    or saved model is that of PyTorch, and loads where pycnn is not installed, and so is an exported one
    (``torch.export``); ``torch.jit.script`` needs :func:`restore` first. A deep copy is accelerated.

    Args:
        model: any module of PyTorch; it is changed.
        example: an input, or a tuple of inputs, like those to come. With it the model is called now, in its mode (in
            evaluation mode without gradients), so that its layers have measured; its buffers, its gradients and
            PyTorch's random numbers stay what they are. Layers at which PyTorch is faster are given back to it
            altogether: to ask at each call costs some microseconds, which small layers notice. The model is then called
            several times more, and given back as a whole unless it is clearly faster than PyTorch alone. In training
            that is forward and backward, with the hooks of both, where the gradients of what the model returns can be
            asked for.

    Returns:
        A report, which says of each layer what was measured and who computes it.

    Raises:
        TypeError: the model is no module of PyTorch.
        Exception: what the model raises with the example; it is then as it was.

    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU()).eval()
    >>> report = accelerate(model, example=torch.zeros(1, 3, 16, 16))
    >>> report.rows[0].what
    'Conv2d + ReLU'
    >>> restore(model)
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module; received {type(model).__name__}")
    forwards: dict[str, _Forward] = {}
    earlier = []
    for name, module in model.named_modules():
        before = module.__dict__.get("forward")
        if isinstance(before, _Forward):
            forwards[name] = before
            earlier.append(before)
        elif _is_plain(module) and (_rule_of(module) is not None or _is_stock(module, nn.Sequential)):
            made = _Chain if isinstance(module, nn.Sequential) else _Layer
            module.forward = forwards[name] = made(module)
    report = Report(forwards)
    if example is not None:
        try:
            _settle(model, example if isinstance(example, tuple) else (example,), report, forwards)
        except BaseException:
            restore(model)
            _attach(earlier)
            raise
    return report


def _settle(model: nn.Module, inputs: tuple[Any, ...], report: Report, forwards: dict[str, _Forward]) -> None:
    """Keep what brings something for such inputs."""
    kept = list(forwards.values())
    learns = torch.is_grad_enabled() and any(module.training for module in model.modules())
    with torch.set_grad_enabled(learns), _copied_buffers([model]), torch.random.fork_rng(devices=[]):
        _attach(kept)
        model(*inputs)
        kept = [forward for forward in kept if not forward.is_pytorchs()]
        restore(model)
        if kept and (not learns or _has_step(model, inputs)):
            times = _timed(
                dict.fromkeys(("pycnn", "torch"), lambda: _step(model, inputs) if learns else model(*inputs)),
                {"pycnn": lambda: _attach(kept), "torch": lambda: restore(model)},
                of=statistics.median,
                seconds=_MODEL_SECONDS,
            )
            report.pycnn_ms, report.torch_ms = 1e3 * times["pycnn"], 1e3 * times["torch"]
            if times["pycnn"] >= _MODEL_MARGIN * times["torch"]:
                kept = []
    restore(model)
    _attach(kept)


def _step(model: nn.Module, inputs: tuple[Any, ...]) -> bool:
    """Forward and backward, as a step of training takes them; whether there was anything to walk back from.

    No gradient is changed; hooks of gradients are called.
    """
    outputs = [each for each in _tensors_in(model(*inputs)) if each.requires_grad]
    wanted = [each for each in (*_tensors_in(inputs), *model.parameters()) if each.requires_grad]
    torch.autograd.grad(outputs, wanted, [torch.ones_like(each) for each in outputs], allow_unused=True)
    return bool(outputs and wanted)


def _has_step(model: nn.Module, inputs: tuple[Any, ...]) -> bool:
    """Whether :func:`_step` can take it: some models walk back themselves, or refuse to be asked for gradients so."""
    try:
        return _step(model, inputs)
    except Exception:
        return False


def _tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """A tensor, or those of lists, tuples and dictionaries."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _tensors_in(each)


def _attach(forwards: Sequence[_Forward]) -> None:
    for forward in forwards:
        module: Any = forward.module
        module.forward = forward


def restore(model: nn.Module) -> None:
    """Let PyTorch compute everything again: the model is as it was in front of :func:`accelerate`."""
    for module in model.modules():
        if isinstance(module.__dict__.get("forward"), _Forward):
            del module.forward


def _is_stock(module: nn.Module, *kinds: type) -> bool:
    """Whether a module computes what PyTorch's class of that kind does, be it one of its subclasses."""
    forward = getattr(type(module), "forward", None)
    return any(isinstance(module, kind) and forward is getattr(kind, "forward", None) for kind in kinds)


def _is_plain(module: nn.Module) -> bool:
    """Whether nobody has given the instance a forward, but pickle, its class's own."""
    forward = module.__dict__.get("forward")
    return forward is None or (isinstance(forward, MethodType) and forward.__func__ is type(module).forward)


# What pycnn computes for each class. x is channels first in PyTorch's eyes, in whatever memory.


def _in_memory_of(x: torch.Tensor, last: bool, compute: Callable[..., Any]) -> Any:
    """``compute(x, data_format=...)``, channels last without a copy where the memory is."""
    if not last:
        return compute(x)
    found = compute(x.movedim(1, -1), data_format="channels_last")
    return tuple(y.movedim(-1, 1) for y in found) if isinstance(found, tuple) else found.movedim(-1, 1)


def _is_last(x: torch.Tensor) -> bool:
    """Whether a tensor's memory is channels last, as PyTorch sees it."""
    if x.ndim not in (4, 5) or x.is_contiguous():
        return False
    return x.is_contiguous(memory_format=torch.channels_last if x.ndim == 4 else torch.channels_last_3d)


def _convolution(module: Any, x: torch.Tensor, **fused: Any) -> Any:
    # Once: a parametrised weight is computed each time, and may change buffers.
    weight, bias = module.weight, fused.pop("bias") if "bias" in fused else module.bias
    rank = weight.ndim - 2
    function = getattr(F, "conv2d_max_pool2d" if "pool_size" in fused else f"conv{rank}d")

    def compute(x: torch.Tensor, **form: Any) -> Any:
        return function(
            x, weight, bias, module.stride, module.padding, module.dilation, module.groups,
            padding_mode=module.padding_mode, **fused, **form,
        )  # fmt: skip

    return _in_memory_of(x, x.ndim == rank + 2 and (_is_last(x) or _is_last(weight)), compute)


def _transposed(module: Any, x: torch.Tensor) -> Any:
    weight, bias = module.weight, module.bias
    rank = weight.ndim - 2
    function = getattr(F, f"conv_transpose{rank}d")

    def compute(x: torch.Tensor, **form: Any) -> Any:
        return function(
            x, weight, bias, module.stride, module.padding, module.output_padding, module.groups, module.dilation,
            **form,
        )  # fmt: skip

    return _in_memory_of(x, x.ndim == rank + 2 and (_is_last(x) or _is_last(weight)), compute)


def _rank(module: nn.Module) -> int:
    """Of a class whose name, or that of one it is made from, ends with it."""
    return next(int(base.__name__[-2]) for base in type(module).__mro__ if base.__name__[-2:] in ("1d", "2d", "3d"))


def _max_pool(module: Any, x: torch.Tensor) -> Any:
    function = getattr(F, f"max_pool{_rank(module)}d")
    return _in_memory_of(
        x, _is_last(x),
        lambda x, **form: function(
            x, module.kernel_size, module.stride, module.padding, module.dilation, module.ceil_mode,
            module.return_indices, **form,
        ),
    )  # fmt: skip


def _average_pool(module: Any, x: torch.Tensor) -> Any:
    function = getattr(F, f"avg_pool{_rank(module)}d")
    more = () if _rank(module) == 1 else (module.divisor_override,)
    return _in_memory_of(
        x, _is_last(x),
        lambda x, **form: function(
            x, module.kernel_size, module.stride, module.padding, module.ceil_mode, module.count_include_pad, *more,
            **form,
        ),
    )  # fmt: skip


def _adaptive_average(module: Any, x: torch.Tensor) -> Any:
    function = getattr(F, f"adaptive_avg_pool{_rank(module)}d")
    return _in_memory_of(x, _is_last(x), lambda x, **form: function(x, module.output_size, **form))


def _adaptive_max(module: Any, x: torch.Tensor) -> Any:
    function = getattr(F, f"adaptive_max_pool{_rank(module)}d")
    return _in_memory_of(
        x, _is_last(x), lambda x, **form: function(x, module.output_size, module.return_indices, **form)
    )


def _norm(module: Any, x: torch.Tensor) -> Any:
    module._check_input_dim(x)
    by_batch = module.training or module.running_mean is None
    counts = by_batch and module.training and module.track_running_stats and module.num_batches_tracked is not None
    if counts and module.momentum is None:
        raise ValueError("a cumulative average is PyTorch's")
    moving = module.running_mean, module.running_var
    if module.training and not module.track_running_stats:
        moving = None, None
    weight, bias = module.weight, module.bias
    y = _in_memory_of(
        x, _is_last(x),
        lambda x, **form: F.batch_norm(x, *moving, weight, bias, by_batch, module.momentum or 0.0, module.eps, **form),
    )  # fmt: skip
    if counts:  # last: nothing has changed where pycnn refuses
        module.num_batches_tracked.add_(1)
    return y


#: The classes, and what computes them.
_RULES: tuple[tuple[tuple[type, ...], Callable[..., Any]], ...] = (
    (_CONVOLUTIONS, _convolution),
    (_TRANSPOSED, _transposed),
    (_MAX_POOLS, _max_pool),
    (_AVERAGE_POOLS, _average_pool),
    (_ADAPTIVE_AVERAGE, _adaptive_average),
    (_ADAPTIVE_MAX, _adaptive_max),
    (_NORMS, _norm),
)


def _rule_of(module: nn.Module) -> Callable[..., Any] | None:
    return next((rule for kinds, rule in _RULES if _is_stock(module, *kinds)), None)


# Who computes a call.


class _Finding(NamedTuple):
    """What was measured for a key; the last fields of :class:`Row`."""

    shape: tuple[int, ...]
    gradient: bool
    pycnn_ms: float | None
    torch_ms: float | None
    by_pycnn: bool
    reason: str


#: Refusals of pycnn, before anything was changed: PyTorch may still compute the call.
_REFUSALS = (TypeError, ValueError, NotImplementedError, MemoryError)

#: What pycnn computes for some modules and their input.
_Compute = Callable[[Sequence[Any], torch.Tensor], Any]


def _alive(reference: weakref.ref[nn.Module]) -> nn.Module:
    """The module itself; references are weak, as it owns what refers to it."""
    module = reference()
    if module is None:
        raise ReferenceError("the layer is a shallow copy of an accelerated one that is gone: restore() it")
    return module


class _Choice:
    """Modules that can be computed by either engine, and which is the faster for the shapes that came.

    Attributes:
        names: of neighbours in an ``nn.Sequential``.
        what: the classes of the modules.
    """

    def __init__(self, modules: Sequence[nn.Module], compute: _Compute, names: Sequence[str] = ()) -> None:
        self._modules = [weakref.ref(module) for module in modules]
        self._compute, self.names = compute, names
        self.what = " + ".join(type(each).__name__ for each in modules)
        self._table: OrderedDict[tuple[Any, ...], _Finding] = OrderedDict()

    def modules(self) -> list[Any]:
        return [_alive(reference) for reference in self._modules]

    def found(self) -> list[_Finding]:
        return list(self._table.values())

    def __call__(self, x: torch.Tensor) -> Any:
        """By pycnn; by PyTorch where pycnn refuses what it has computed before, as for want of memory."""
        try:
            return self.ours(x)
        except _REFUSALS:
            return self.theirs(x)

    def ours(self, x: torch.Tensor) -> Any:
        return self._compute(self.modules(), x)

    def theirs(self, x: torch.Tensor) -> Any:
        for module in self.modules():
            x = type(module).forward(module, x)
        return x

    def is_pycnns(self, x: Any) -> bool:
        """Whether pycnn computes the call; measured if nobody has asked for such a call yet."""
        if type(x) is not torch.Tensor or torch.compiler.is_compiling():
            return False
        # What can make the other engine the faster one. Small calls count in microseconds.
        key = (
            x.shape, x.stride(), x.dtype, torch.is_grad_enabled(), x.requires_grad, self.modules()[0].training,
            torch.get_num_threads(), pycnn.get_num_threads(),
        )  # fmt: skip
        finding = self._table.get(key)
        if finding is None:
            if not _is_for_pycnn(x):
                return False
            finding = self._table[key] = self._measure(x)
            if len(self._table) > _MOST_SHAPES:
                self._table.popitem(last=False)
        return finding.by_pycnn and _is_for_pycnn(x)

    def _measure(self, x: torch.Tensor) -> _Finding:
        modules = self.modules()
        parameters = [parameter for module in modules for parameter in module.parameters()]
        gradient = torch.is_grad_enabled() and any(each.requires_grad for each in (x, *parameters))
        shape = tuple(x.shape)
        sides = {"pycnn": self._side(self.ours, x, gradient), "torch": self._side(self.theirs, x, gradient)}
        with _copied_buffers(modules):
            try:
                sides["pycnn"]()
            except _REFUSALS as refusal:
                return _Finding(shape, gradient, None, None, False, f"pycnn refuses: {refusal}")
            times = _timed(sides)
        ratio = times["pycnn"] / times["torch"]
        faster = times["pycnn"] < _MARGIN * times["torch"] - _LEAST_SECONDS
        reason = f"{1 / ratio:.2f} times as fast" if faster else f"pycnn takes {ratio:.2f} times as long"
        return _Finding(shape, gradient, 1e3 * times["pycnn"], 1e3 * times["torch"], faster, reason)

    def _side(self, compute: Callable[[Any], Any], x: torch.Tensor, gradient: bool) -> Callable[[], None]:
        """A call that computes what such a call of the model does, and changes no gradient of the model."""
        if not gradient:

            def forward() -> None:
                with torch.no_grad():
                    compute(x)

            return forward
        leaf = x.detach().requires_grad_(x.requires_grad)
        wanted = [leaf] if leaf.requires_grad else []
        wanted += [p for module in self.modules() for p in module.parameters() if p.requires_grad]

        def both() -> None:
            with torch.enable_grad():
                y = compute(leaf)
                y = y[0] if isinstance(y, tuple) else y
                torch.autograd.grad(y, wanted, torch.ones_like(y), allow_unused=True)

        return both


@contextlib.contextmanager
def _copied_buffers(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Inside this block modules in training move copies of their statistics.

    Their own are not touched: PyTorch may have saved them for a gradient that is still to come.
    """
    parts = [part for module in modules for part in module.modules() if part.training]
    own = [dict(part._buffers) for part in parts]
    try:
        for part, buffers in zip(parts, own):
            part._buffers.update({name: None if each is None else each.clone() for name, each in buffers.items()})
        yield
    finally:
        for part, buffers in zip(parts, own):
            part._buffers.update(buffers)


def _timed(
    sides: Mapping[str, Callable[[], object]],
    turns: dict[str, Callable[[], None]] | None = None,
    of: Callable[[Sequence[float]], float] = min,
    seconds: float = 0.0,
) -> dict[str, float]:
    """The seconds of each side, taking turns.

    Args:
        sides: what to time.
        turns: what is to be done when the turn of a side begins.
        of: what is taken of a side's times. The least of a layer's, for what else happens on the machine only ever adds
            to them; of a whole model, where the threads of both engines meet, one that was lucky says nothing.
        seconds: how long that takes at least.
    """
    times: dict[str, list[float]] = {name: [] for name in sides}
    calls = dict.fromkeys(sides, 1)
    end = time.perf_counter() + seconds
    for turn in itertools.count():
        for name, side in sides.items():
            time.sleep(_PAUSE_SECONDS)
            if turns is not None:
                turns[name]()
            side()  # wakes its threads
            for _ in range(calls[name]):
                begin = time.perf_counter()
                side()
                times[name].append(time.perf_counter() - begin)
            if turn == 0:  # that was to get ready
                calls[name] = max(1, min(20, int(_TURN_SECONDS / times[name].pop())))
        if turn >= 2 and time.perf_counter() >= end:
            low, high = sorted(map(of, times.values()))
            if turn >= _ROUNDS or low < _CLEAR * high:
                break
    return {name: of(found) for name, found in times.items()}


def _is_for_pycnn(x: torch.Tensor) -> bool:
    """Whether a call is one of values on the CPU, which nobody traces, maps or computes in another precision.

    Nor differentiates forward. With hooks of what is saved somebody means to keep it elsewhere, or to compute it anew,
    and what pycnn's graph keeps would stay where it is.
    """
    return (
        not torch.jit.is_tracing()
        and forward_ad._current_level < 0
        and _saving_hooks(True) is None
        and torch._C._functorch.peek_interpreter_stack() is None
        and not torch.is_autocast_enabled("cpu")
        and x.is_cpu
        and x.layout is torch.strided
        and x.dtype in (torch.float32, torch.float64)
        and x.numel() > 0
    )


#: The hooks of what is saved for gradients, of checkpoints for one; None where there are none, or in another PyTorch.
_saving_hooks: Callable[[bool], Any] = getattr(
    torch._C._autograd, "_top_saved_tensors_default_hooks", lambda ignore_tracing: None
)


class _Forward:
    """A ``forward`` of an instance. It is pickled as that of the instance's class, which needs no pycnn to load."""

    def __init__(self, module: nn.Module) -> None:
        self._module = weakref.ref(module)

    @property
    def module(self) -> nn.Module:
        return _alive(self._module)

    @property
    def __wrapped__(self) -> Any:
        return MethodType(type(self.module).forward, self.module)

    def __getattr__(self, name: str) -> Any:
        # Exporters look for the code of a method, and find that of PyTorch.
        if name == "__globals__":  # the first that torch.jit.script asks for, which goes on to read source files
            raise AttributeError("torch.jit.script takes no accelerated model: call pycnn.interop.torch.restore first")
        return getattr(self.__wrapped__, name)

    def choices(self) -> list[_Choice]:
        raise NotImplementedError

    def is_pytorchs(self) -> bool:
        """Whether all that was measured is faster by PyTorch, and nothing is left to be measured."""
        return all(choice.found() and not any(found.by_pycnn for found in choice.found()) for choice in self.choices())

    def __reduce__(self) -> tuple[Any, ...]:
        # When this is read back the module has no attributes yet, and its forward is its class's.
        return getattr, (self.module, "forward")

    def __deepcopy__(self, memo: dict[int, Any]) -> _Forward:
        return type(self)(copy.deepcopy(self.module, memo))


class _Layer(_Forward):
    """The forward of a layer."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module)
        rule = _rule_of(module)
        assert rule is not None
        self._choice = _Choice([module], lambda modules, x: rule(modules[0], x))

    def choices(self) -> list[_Choice]:
        return [self._choice]

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        if len(arguments) == 1 and not named and self._choice.is_pycnns(arguments[0]):
            return self._choice(arguments[0])
        module = self.module
        return type(module).forward(module, *arguments, **named)


class _Chain(_Forward):
    """The forward of an ``nn.Sequential``, in which neighbours become one operation where they can.

    Attributes:
        groups: for the place of each convolution with neighbours that can be one operation with it, the choice.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module)
        self._seen: list[weakref.ref[nn.Module]] = []
        self.groups: dict[int, _Choice] = {}

    def choices(self) -> list[_Choice]:
        return list(self.groups.values())

    def __call__(self, input: Any) -> Any:
        container = self.module
        modules = list(container._modules.values())
        if [reference() for reference in self._seen] != modules:  # what the container holds may change
            self._look(list(container._modules), modules)
        if not self.groups:
            return nn.Sequential.forward(container, input)  # type: ignore[arg-type]
        x, place = input, 0
        while place < len(modules):
            choice = self.groups.get(place)
            if choice is not None and _can_be_one(modules[place : place + len(choice.names)]) and choice.is_pycnns(x):
                x, place = choice(x), place + len(choice.names)
            else:
                x, place = modules[place](x), place + 1  # type: ignore[misc]
        return x

    def _look(self, names: list[str], modules: list[Any]) -> None:
        """Find the groups of the modules that are there now."""
        self._seen = [weakref.ref(module) for module in modules]
        self.groups = {}
        for place in range(len(modules)):
            count = _neighbours(modules[place:])
            if count > 1:
                self.groups[place] = _Choice(modules[place : place + count], _fused, names[place : place + count])


def _neighbours(modules: Sequence[Any]) -> int:
    """How many of the modules, from the first on, may be one operation: convolution, norm, ReLU and max pooling."""
    first, *rest = modules
    if not _is_stock(first, *_CONVOLUTIONS):
        return 1
    if rest and _is_stock(rest[0], *_NORMS):
        rest = rest[1:]
    if rest and _is_stock(rest[0], nn.ReLU):
        rest = rest[1:]
    if rest and _is_stock(rest[0], nn.MaxPool2d) and _is_stock(first, nn.Conv2d) and _is_simple(rest[0]):
        rest = rest[1:]
    return len(modules) - len(rest)


def _can_be_one(modules: Sequence[Any]) -> bool:
    """Whether nobody would notice at this time that the modules are not called one by one.

    They have no hooks and a forward that is known; a norm is a scale and a bias, by running statistics and without a
    gradient.
    """
    if modules_of_torch._has_any_global_hook():
        return False
    for each in modules:
        if each._forward_hooks or each._forward_pre_hooks or each._backward_hooks or each._backward_pre_hooks:
            return False
        if not (isinstance(each.__dict__.get("forward"), _Forward) or _is_plain(each)):
            return False
        if isinstance(each, _NORMS) and (each.training or each.running_mean is None or torch.is_grad_enabled()):
            return False
    return True


def _is_simple(pool: Any) -> bool:
    """Whether pooling can be done together with a convolution."""
    return pool.dilation in (1, (1, 1)) and not pool.return_indices


def _fused(modules: Sequence[Any], x: torch.Tensor) -> Any:
    """What pycnn computes for a convolution and its neighbours."""
    first, *rest = modules
    fused: dict[str, Any] = {}
    for module in rest:
        if isinstance(module, nn.ReLU):
            fused["activation"] = "relu"
        elif isinstance(module, nn.MaxPool2d):
            fused |= {
                "pool_size": module.kernel_size, "pool_stride": module.stride, "pool_padding": module.padding,
                "ceil_mode": module.ceil_mode,
            }  # fmt: skip
        else:
            fused |= _scale_and_bias(module, first.bias)
    return _convolution(first, x, **fused)


def _scale_and_bias(norm: Any, bias: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """``(x + bias - mean) * scale + offset`` as ``x * scale + bias``."""
    scale = torch.rsqrt(norm.running_var + norm.eps)
    if norm.weight is not None:
        scale = scale * norm.weight
    shift = -norm.running_mean if bias is None else bias - norm.running_mean
    shift = shift * scale
    return {"scale": scale, "bias": shift if norm.bias is None else shift + norm.bias}
