"""What all optimizers share: the learning rate, what is done to gradients, and the state beside the parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Self, TypedDict

import numpy as np

from pycnn import changes
from pycnn.backend import plan_on
from pycnn.configuration import Configurable, argument_names
from pycnn.elementary import cast
from pycnn.layers.auto_name import auto_name
from pycnn.naming import nearest
from pycnn.optimizers import schedules
from pycnn.optimizers.schedules import LearningRateSchedule
from pycnn.tensor import Tensor
from pycnn_kernels.problem import DTYPE_NAMES, STORAGE_DTYPES, UpdatesProblem, dtype_name, is_half
from pycnn_kernels.updates import RULES

LearningRate = float | LearningRateSchedule | Callable[[], float]

#: What the sum of gradients is called among a parameter's state.
_SUM = "gradient_accumulator"


class Common(TypedDict, total=False):
    """The arguments that all optimizers take, by keyword; see :class:`Optimizer`."""

    weight_decay: float | None
    clipnorm: float | None
    clipvalue: float | None
    global_clipnorm: float | None
    use_ema: bool
    ema_momentum: float
    ema_overwrite_frequency: int | None
    loss_scale_factor: float | None
    gradient_accumulation_steps: int | None
    name: str | None


class _Group(NamedTuple):
    """Parameters that change in one launch, with their gradients."""

    parameters: list[Tensor]
    gradients: list[Any]
    decays: bool


class Optimizer(Configurable):
    """Base class of the optimizers.

    Args:
        learning_rate: a number of at least 0; a schedule, called with the count of steps; or a function without
            arguments.
        weight_decay: the part of itself, times the learning rate, that each weight loses in a step; None for nothing.
        clipnorm: the largest norm that a gradient keeps; a larger one is scaled down to it.
        clipvalue: the largest size that an element of a gradient keeps.
        global_clipnorm: the largest norm that all gradients together keep. One of the three at most can be given.
        use_ema, ema_momentum, ema_overwrite_frequency, loss_scale_factor: Keras' averages of weights and scaling of
            losses, which are not there: nothing but Keras' defaults is taken.
        gradient_accumulation_steps: calls whose gradients are averaged before parameters change once; at least 2, or
            None for a change at each call.
        name: by default made of the class's, as ``adam``, ``adam_1``.

    Raises:
        TypeError: an argument is of another type.
        ValueError: a number is out of its range, or more than one kind of clipping is asked for.

    Source: Keras 3, keras.optimizers.Optimizer.
    """

    def __init__(
        self,
        learning_rate: LearningRate,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str | None = None,
    ):
        if use_ema or ema_overwrite_frequency is not None:
            raise ValueError("use_ema must be False, and ema_overwrite_frequency None: no averages of weights are kept")
        if loss_scale_factor is not None:
            raise ValueError(f"loss_scale_factor must be None: losses are not scaled; received {loss_scale_factor!r}")
        self.learning_rate = learning_rate
        self.weight_decay = _optional("weight_decay", weight_decay)
        self.clipnorm = _optional("clipnorm", clipnorm)
        self.clipvalue = _optional("clipvalue", clipvalue)
        self.global_clipnorm = _optional("global_clipnorm", global_clipnorm)
        clipping = [self.clipnorm, self.clipvalue, self.global_clipnorm]
        if sum(bool(each) for each in clipping) > 1:
            raise ValueError(
                "one of clipnorm, clipvalue and global_clipnorm can be given; received "
                f"clipnorm={clipnorm!r}, clipvalue={clipvalue!r}, global_clipnorm={global_clipnorm!r}"
            )
        self.gradient_accumulation_steps = _accumulation_steps(gradient_accumulation_steps)
        self.name = name or auto_name(type(self).__name__)
        self._ema_momentum = ema_momentum
        self._calls = 0
        self._undecayed: dict[int, Tensor] = {}
        self._state: dict[int, tuple[Tensor, dict[str, Any]]] = {}

    @property
    def learning_rate(self) -> float:
        """That of the next step, as a number; settable between steps to a number, a schedule or a function.

        Raises:
            TypeError: it is set to a number where the optimizer was made with a schedule, as in Keras.
        """
        rate = self._learning_rate
        if isinstance(rate, LearningRateSchedule):
            rate = rate(self._calls)
        elif callable(rate):
            rate = rate()
        return number("learning_rate", rate, least=0)

    @learning_rate.setter
    def learning_rate(self, rate: LearningRate) -> None:
        if isinstance(rate, LearningRateSchedule) or callable(rate):
            self._learning_rate: LearningRate = rate
            return
        before = getattr(self, "_learning_rate", None)
        if isinstance(before, LearningRateSchedule):
            raise TypeError(f"learning_rate follows a schedule, {type(before).__name__}, and cannot be set to {rate!r}")
        self._learning_rate = number("learning_rate", _plain(rate), least=0)

    @property
    def iterations(self) -> int:
        """Steps taken: those that have changed parameters."""
        return self._calls // (self.gradient_accumulation_steps or 1)

    @iterations.setter
    def iterations(self, steps: int) -> None:
        self._calls = steps * (self.gradient_accumulation_steps or 1)

    def apply(self, parameters: list[Tensor]) -> None:
        """Take one step: change each parameter in place by its gradient, and clear the gradient.

        Parameters without a gradient are left alone. A parameter in float16 or bfloat16 is rounded at each step, so
        that steps far smaller than itself change nothing; what the optimizer remembers of it is float32.

        With ``gradient_accumulation_steps``, most calls add the gradients up, clear them and change nothing else.

        Results that were computed before the step have no gradients any more, which would be computed of the old values
        of the parameters: another ``backward()`` of one of them is refused. Compute the result anew after a step.

        Raises:
            TypeError: a parameter holds none of float16, bfloat16, float32 and float64; or its gradient holds another
                dtype.
            ValueError: a gradient has another shape than its parameter, or a parameter is read-only.
        """
        found = _with_gradients(parameters)
        if self.gradient_accumulation_steps and not self._accumulated(found, self.gradient_accumulation_steps):
            self._calls += 1
            return
        gradients = self._clipped([gradient for _, gradient in found])
        rate = self.learning_rate
        numbers = self._next_step(rate, self.iterations + 1)
        self._calls += 1
        for group in self._groups([parameter for parameter, _ in found], gradients):
            first = group.parameters[0]
            with first.backend.at_hand(first.data):
                decay = rate * (self.weight_decay or 0.0) if group.decays else 0.0
                self._step((decay, *numbers), group)

    def apply_gradients(self, grads_and_vars: Iterable[tuple[Tensor | None, Tensor]]) -> None:
        """:meth:`apply` with gradients that are given, in pairs of a gradient, or None, and its parameter.

        >>> from pycnn.optimizers import SGD
        >>> w = Tensor([1.0], requires_grad=True)
        >>> SGD(0.5).apply_gradients([(Tensor([1.0]), w)])
        >>> w.detach().numpy()
        array([0.5], dtype=float32)
        """
        pairs = list(grads_and_vars)
        for gradient, parameter in pairs:
            parameter.grad = gradient
        self.apply([parameter for _, parameter in pairs])

    def exclude_from_weight_decay(self, var_list: Iterable[Tensor]) -> None:
        """Leave these parameters, biases for example, without the decay of weights. Each call replaces the last one."""
        # The parameters are kept beside their ids so that these cannot pass to other tensors.
        self._undecayed = {id(parameter): parameter for parameter in var_list}

    # -- what is written to files --------------------------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments; a schedule as :func:`schedules.serialize` gives it, a function as it is."""
        rate: Any = self._learning_rate
        return {
            "name": self.name,
            "learning_rate": schedules.serialize(rate) if isinstance(rate, LearningRateSchedule) else rate,
            "weight_decay": self.weight_decay,
            "clipnorm": self.clipnorm,
            "global_clipnorm": self.global_clipnorm,
            "clipvalue": self.clipvalue,
            "use_ema": False,
            "ema_momentum": self._ema_momentum,
            "ema_overwrite_frequency": None,
            "loss_scale_factor": None,
            "gradient_accumulation_steps": self.gradient_accumulation_steps,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Self:
        """The optimizer that :meth:`get_config` describes, without what it remembers of parameters.

        Raises:
            ValueError: there is no such argument; the message names the nearest.
        """
        arguments = dict(config)
        rate = arguments.get("learning_rate")
        if isinstance(rate, Mapping):
            arguments["learning_rate"] = schedules.deserialize(rate, custom_objects)
        try:
            return cls(**arguments)
        except TypeError as error:
            known = argument_names(cls)
            for name in arguments:
                if name not in known:
                    hint = nearest(name, known)
                    raise ValueError(f"{cls.__name__}: there is no argument {name!r}.{hint}") from error
            raise

    def state(self, parameters: Sequence[Tensor]) -> dict[str, np.ndarray]:
        """All that the next steps depend on beside the parameters and :meth:`get_config`: copies, in NumPy's memory.

        Training goes on with the same bits after :meth:`set_state` with parameters of the same values.

        Args:
            parameters: those of the model, in an order that will be the same then.

        Returns:
            Arrays by name, always in the same order: "iterations", how often :meth:`apply` was called; "learning_rate",
            unless it is a schedule or a function; and for parameter number 3 such as "3/momentum" and "3/velocity",
            with the parameter's shape, in float32 where the parameter is in a half: all those of the rule that the next
            step follows, or, of a parameter that no step has changed so far, none; and, while gradients are averaged
            over calls, "3/gradient_accumulator".

        >>> from pycnn.optimizers import SGD
        >>> w = Tensor([1.0], requires_grad=True)
        >>> optimizer = SGD(0.5, momentum=0.9)
        >>> optimizer.apply_gradients([(Tensor([1.0]), w)])
        >>> {name: array.tolist() for name, array in optimizer.state([w]).items()}
        {'iterations': 1, 'learning_rate': 0.5, '0/momentum': [-0.5]}
        """
        arrays = self._numbers()
        for place, parameter in enumerate(parameters):
            remembered = self._state.get(id(parameter), (parameter, {}))[1]
            names = RULES[self._rule].state if remembered.keys() - {_SUM} else ()
            for name in (*(remembered.keys() & {_SUM}), *names):
                array = self._remembered(parameter, name)
                arrays[f"{place}/{name}"] = np.array(parameter.backend.to_host(array))
        return arrays

    def set_state(self, parameters: Sequence[Tensor], state: Mapping[str, np.ndarray]) -> None:
        """Remember what :meth:`state` gave, of these parameters and of no others.

        Raises:
            ValueError: a name is missing or unknown, an array has another shape or dtype than it must have, or a number
                is out of its range; nothing has changed then.
        """
        state = dict(state)
        expected = self._numbers()
        numbers = {name: _fitting(name, state.pop(name, None), value) for name, value in expected.items()}
        for name, array in numbers.items():
            number(f"state: {name!r}", array.item(), least=0)
        names, optional = RULES[self._rule].state, {_SUM} if self.gradient_accumulation_steps else set()
        remembered: dict[int, tuple[Tensor, dict[str, Any]]] = {}
        for name, array in state.items():
            place, _, kind = name.partition("/")
            if not (place.isdecimal() and int(place) < len(parameters) and kind in {*names, *optional}):
                raise ValueError(
                    f"state: unknown name {name!r} for {len(parameters)} parameters of {type(self).__name__}"
                )
            parameter = parameters[int(place)]
            like = np.empty(parameter.shape, _state_dtype(parameter))
            own = parameter.backend.empty(parameter.shape, like.dtype)
            own[...] = parameter.backend.asarray(_fitting(name, array, like))
            remembered.setdefault(id(parameter), (parameter, {}))[1][kind] = own
        for index, parameter in enumerate(parameters):
            found = remembered.get(id(parameter), (parameter, {}))[1].keys() - optional
            missing = [name for name in names if found and name not in found]
            if missing:
                raise ValueError(f"state: '{index}/{missing[0]}' is missing beside '{index}/{min(found)}'")
        self._set_numbers(numbers)
        self._state = remembered

    def _numbers(self) -> dict[str, np.ndarray]:
        """The numbers among the state."""
        numbers = {"iterations": np.array(self._calls, np.int64)}
        if isinstance(self._learning_rate, float):
            numbers["learning_rate"] = np.array(self._learning_rate)
        return numbers

    def _set_numbers(self, numbers: Mapping[str, np.ndarray]) -> None:
        self._calls = int(numbers["iterations"])
        if "learning_rate" in numbers:
            self.learning_rate = float(numbers["learning_rate"])

    # -- a step ------------------------------------------------------------------------------------------------

    @property
    def _rule(self) -> str:
        """The rule of the next step, one of :data:`pycnn_kernels.updates.RULES`."""
        raise NotImplementedError(f"{type(self).__name__} must define _rule")

    def _next_step(self, rate: float, t: int) -> tuple[float, ...]:
        """The numbers by which the rule's step number t changes parameters, t counted from 1."""
        raise NotImplementedError(f"{type(self).__name__} must define _next_step(rate, t)")

    def _initial(self, name: str) -> float:
        """What an array of state begins with."""
        return 0.0

    def _step(self, numbers: tuple[float, ...], group: _Group) -> None:
        """Change parameters of one dtype in one launch."""
        parameters = group.parameters
        arrays = [p.data if p.backend.is_ready(p.data) else cast(p.data, p.dtype) for p in parameters]
        shapes = tuple([array.shape for array in arrays])
        plan = plan_on(arrays[0], "updates", UpdatesProblem(DTYPE_NAMES[arrays[0].dtype], self._rule, shapes))
        states = [self._remembered(p, name) for name in RULES[self._rule].state for p in parameters]
        plan.run(*group.gradients, updated=(*arrays, *states), scalars=numbers)
        for parameter, array in zip(parameters, arrays):
            if array is not parameter.data:
                parameter.data[...] = array
            parameter.grad = None
            changes.note(parameter.data, f"{type(self).__name__}.apply")

    def _groups(self, parameters: list[Tensor], gradients: list[Any]) -> list[_Group]:
        """What changes in one launch: parameters of one dtype in one place, all with a decay or all without."""
        groups: dict[tuple[str, str, int, bool], _Group] = {}
        for place, (parameter, gradient) in enumerate(zip(parameters, gradients)):
            data = parameter.data
            decays = bool(self.weight_decay) and id(parameter) not in self._undecayed
            # What is widened or copied goes alone, so that memory is lent to one parameter at a time.
            apart = 0 if _goes_together(parameter) else 1 + place
            key = (parameter.backend.name, DTYPE_NAMES[data.dtype], apart, decays)
            group = groups.setdefault(key, _Group([], [], decays))
            group.parameters.append(parameter)
            group.gradients.append(gradient)
        return list(groups.values())

    def _remembered(self, parameter: Tensor, name: str) -> Any:
        """An array of state beside a parameter, made when it is first asked for."""
        # The parameter is kept beside its state so that its id cannot pass to another tensor.
        arrays = self._state.setdefault(id(parameter), (parameter, {}))[1]
        if name not in arrays:
            arrays[name] = parameter.backend.empty(parameter.shape, _state_dtype(parameter))
            arrays[name].fill(self._initial(name))
        return arrays[name]

    # -- what is done to gradients -------------------------------------------------------------------------------

    def _accumulated(self, found: list[tuple[Tensor, Any]], steps: int) -> bool:
        """Add gradients up and clear them; in every ``steps``-th call, put their averages in their place instead."""
        complete = (self._calls + 1) % steps == 0
        for place, (parameter, gradient) in enumerate(found):
            total = self._remembered(parameter, _SUM)
            total += cast(gradient, total.dtype)
            if complete:
                found[place] = parameter, cast(total / steps, gradient.dtype)
            else:
                parameter.grad = None
        if complete:  # also the sums of parameters that have no gradient in this call, as in Keras
            for _, arrays in self._state.values():
                if _SUM in arrays:
                    arrays[_SUM].fill(0)
        return complete

    def _clipped(self, gradients: list[Any]) -> list[Any]:
        """The gradients, or copies of them that are not too large."""
        most = self.clipvalue or self.clipnorm or self.global_clipnorm
        if not most or not gradients:
            return gradients
        wide = [cast(g, np.dtype(np.float32)) if is_half(g.dtype) else g for g in gradients]
        with np.errstate(all="ignore"):  # of infinities and NaN, that flow through
            if self.clipvalue:
                clipped = [g.clip(-most, most) for g in wide]
            elif self.clipnorm:
                clipped = [_scaled(g, most, _square(g)) for g in wide]
            else:
                total = sum(map(_square, wide[1:]), _square(wide[0]))
                # An infinite norm spoils all, as in Keras: infinity less itself is no number.
                clipped = [_scaled(g, most, total + (total - total)) for g in wide]
        return [cast(new, g.dtype) if is_half(g.dtype) else new for g, new in zip(gradients, clipped)]


def _with_gradients(parameters: list[Tensor]) -> list[tuple[Tensor, Any]]:
    """The parameters that have a gradient, checked, each once and with its gradient."""
    found = []
    for parameter in {id(parameter): parameter for parameter in parameters}.values():
        data, gradient = parameter.data, parameter.grad
        if dtype_name(data.dtype) is None:
            raise TypeError(f"a parameter must hold float16, bfloat16, float32 or float64; received {data.dtype}")
        if gradient is None:
            continue
        g = gradient.data
        if g.dtype != data.dtype:
            raise TypeError(f"a gradient must have the dtype of its parameter, {data.dtype}; received {g.dtype}")
        if g.shape != data.shape:
            raise ValueError(f"a gradient must have the shape of its parameter, {data.shape}; received {g.shape}")
        if not _goes_together(parameter) and not parameter.backend.is_writable(data):
            raise ValueError("a parameter is changed in place: it must be writable")
        found.append((parameter, g))
    return found


def _goes_together(parameter: Tensor) -> bool:
    """Whether kernels can change a parameter where it is, in the dtype that they compute in."""
    return parameter.backend.is_ready(parameter.data) and DTYPE_NAMES[parameter.data.dtype] not in STORAGE_DTYPES


def _state_dtype(parameter: Tensor) -> np.dtype:
    return np.dtype(np.float32) if is_half(parameter.dtype) else parameter.dtype


def _square(gradient: Any) -> Any:
    """The sum of the squares, in float64, where it is."""
    wide = gradient.astype(np.float64)
    return (wide * wide).sum()


def _scaled(gradient: Any, most: float, square: Any) -> Any:
    """A gradient that belongs to a norm, the root of ``square``, scaled so that this is ``most`` at most."""
    factor = most / (square**0.5).clip(most)
    return gradient * factor.astype(gradient.dtype)


def _optional(name: str, value: Any) -> float | None:
    return None if value is None else number(name, value, least=0)


def _accumulation_steps(steps: int | None) -> int | None:
    if not steps:
        return None
    if isinstance(steps, bool) or not isinstance(steps, int | np.integer) or steps < 2:
        raise ValueError(f"gradient_accumulation_steps must be an integer of at least 2, or None; received {steps!r}")
    return int(steps)


def _plain(value: Any) -> Any:
    """The number of an array or tensor of one element."""
    return value.item() if isinstance(value, np.ndarray | Tensor) and value.size == 1 else value


def _fitting(name: str, array: Any, like: np.ndarray) -> np.ndarray:
    """An array of the state, that must be like another one."""
    if array is None:
        raise ValueError(f"state: {name!r} is missing")
    found = np.asarray(array)
    if (found.shape, found.dtype) != (like.shape, like.dtype):
        raise ValueError(
            f"state: {name!r} must have the shape {like.shape} and the dtype {like.dtype}; "
            f"received {found.shape} and {found.dtype}"
        )
    return found


def number(name: str, value: Any, least: float, below: float = float("inf"), most: float = float("inf")) -> float:
    """A number of at least ``least`` and below ``below``, or of at most ``most``.

    Raises:
        TypeError: no number.
        ValueError: another one.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise TypeError(f"{name} must be a number; received {value!r}")
    if not (least <= value < below and value <= most):
        limits = f"at least {least}"
        if below < float("inf"):
            limits += f" and below {below}"
        elif most < float("inf"):
            limits += f" and at most {most}"
        raise ValueError(f"{name} must be {limits}; received {value!r}")
    return float(value)
