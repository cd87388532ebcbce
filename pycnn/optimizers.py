"""Optimizers, with Keras' names and defaults; each step is one compiled pass over the parameters and their state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from pycnn import changes
from pycnn.backend import plan_on
from pycnn.configuration import Configurable
from pycnn.elementary import cast
from pycnn.naming import nearest
from pycnn.tensor import Tensor
from pycnn_kernels.problem import DTYPE_NAMES, STORAGE_DTYPES, UpdatesProblem, dtype_name, is_half


class _Rule(NamedTuple):
    """How one step changes a parameter.

    Attributes:
        operation: of the engine.
        slots: how many arrays of state it keeps for each parameter.
        scalars: numbers that the operation takes.
    """

    operation: str
    slots: int
    scalars: tuple[float, ...]


class Optimizer(Configurable):
    """What optimizers share: the learning rate, the count of steps and the state beside each parameter.

    Attributes:
        learning_rate: settable between steps.
        iterations: steps taken.
    """

    def __init__(self, learning_rate: float):
        self.learning_rate = _number("learning_rate", learning_rate, least=0)
        self.iterations = 0
        self._state: dict[int, tuple[Tensor, list[np.ndarray]]] = {}

    def apply(self, parameters: list[Tensor]) -> None:
        """Take one step: change each parameter in place by its gradient, and clear the gradient.

        Parameters without a gradient are left alone. A parameter in float16 or bfloat16 is rounded at each step, so
        that steps far smaller than itself change nothing; what the optimizer remembers of it is float32.

        Results that were computed before the step have no gradients any more, which would be computed of the old values
        of the parameters: another ``backward()`` of one of them is refused. Compute the result anew after a step.

        Raises:
            TypeError: a parameter holds none of float16, bfloat16, float32 and float64; or its gradient holds another
                dtype.
            ValueError: a gradient has another shape than its parameter, or a parameter is read-only.
        """
        groups = _groups(parameters)
        self.iterations += 1
        rule = self._rule()
        for group in groups:
            first = group[0][0]
            with first.backend.at_hand(first.data):
                self._step(rule, group)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"learning_rate": self.learning_rate}

    def _rule(self) -> _Rule:
        raise NotImplementedError

    def _step(self, rule: _Rule, group: list[tuple[Tensor, np.ndarray]]) -> None:
        """Change parameters of one dtype, each given with its gradient, in one launch."""
        arrays = [p.data if p.backend.is_ready(p.data) else cast(p.data, p.dtype) for p, _ in group]
        problem = UpdatesProblem(DTYPE_NAMES[arrays[0].dtype], tuple([array.shape for array in arrays]))
        plan = plan_on(arrays[0], rule.operation, problem)
        states = [self._state_of(p, rule.slots) for p, _ in group] if rule.slots else []
        slots = [state[slot] for slot in range(rule.slots) for state in states]
        plan.run(*[gradient for _, gradient in group], updated=(*arrays, *slots), scalars=rule.scalars)
        for (parameter, _), array in zip(group, arrays):
            if array is not parameter.data:
                parameter.data[...] = array
            parameter.grad = None
            changes.note(parameter.data, f"{type(self).__name__}.apply")

    def _state_of(self, parameter: Tensor, slots: int) -> list[np.ndarray]:
        # The parameter is kept beside its state so that its id cannot pass to another tensor.
        known = self._state.get(id(parameter))
        if known is None:
            dtype = np.dtype(np.float32) if is_half(parameter.dtype) else parameter.dtype
            state = [parameter.backend.empty(parameter.shape, dtype) for _ in range(slots)]
            for array in state:
                array.fill(0)
            known = self._state[id(parameter)] = (parameter, state)
        return known[1]


class SGD(Optimizer):
    """Gradient descent, with momentum or Nesterov's.

    Args:
        learning_rate: size of a step.
        momentum: how much of the last step is added, 0 to below 1.
        nesterov: look ahead by the momentum.

    >>> w = Tensor([1.0], requires_grad=True)
    >>> (w * w).sum().backward()
    >>> SGD(learning_rate=0.25).apply([w])
    >>> w.detach().numpy()
    array([0.5], dtype=float32)
    """

    def __init__(self, learning_rate: float = 0.01, momentum: float = 0.0, nesterov: bool = False):
        super().__init__(learning_rate)
        self.momentum = _number("momentum", momentum, least=0, below=1)
        self.nesterov = bool(nesterov)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"momentum": self.momentum, "nesterov": self.nesterov}

    def _rule(self) -> _Rule:
        if not self.momentum:
            return _Rule("sgd", 0, (self.learning_rate,))
        return _Rule("sgd_momentum", 1, (self.nesterov, self.learning_rate, self.momentum))


class Adam(Optimizer):
    """Adam: steps scaled by running means of the gradient and of its square.

    Args:
        learning_rate: size of a step.
        beta_1, beta_2: decay of the two means.
        epsilon: keeps the division finite.

    Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization" (2015), in the form before section 2.1,
    as in Keras.

    >>> w = Tensor([1.0], requires_grad=True)
    >>> (w * w).sum().backward()
    >>> Adam(learning_rate=0.1).apply([w])
    >>> w.detach().numpy().round(4)
    array([0.9], dtype=float32)
    """

    def __init__(self, learning_rate: float = 0.001, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-7):
        super().__init__(learning_rate)
        self.beta_1 = _number("beta_1", beta_1, least=0, below=1)
        self.beta_2 = _number("beta_2", beta_2, least=0, below=1)
        self.epsilon = _number("epsilon", epsilon, least=0)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}

    def _rule(self) -> _Rule:
        t = self.iterations
        rate = self.learning_rate * np.sqrt(1 - self.beta_2**t) / (1 - self.beta_1**t)
        return _Rule("adam", 2, (float(rate), self.beta_1, self.beta_2, self.epsilon))


OPTIMIZERS: dict[str, Callable[[], Optimizer]] = {"adam": Adam, "sgd": SGD}


def get(optimizer: str | Optimizer) -> Optimizer:
    """An optimizer from its name, with the default arguments, or the object itself.

    Raises:
        ValueError: there is none of that name; suggests the nearest.
        TypeError: neither a name nor an optimizer.

    >>> get("adam").learning_rate
    0.001
    """
    if isinstance(optimizer, Optimizer):
        return optimizer
    if not isinstance(optimizer, str):
        raise TypeError(f"optimizer must be a name or an Optimizer; received {optimizer!r}")
    maker = OPTIMIZERS.get(optimizer.lower())
    if maker is None:
        known = ", ".join(map(repr, OPTIMIZERS))
        raise ValueError(f"optimizer must be one of {known}; received {optimizer!r}.{nearest(optimizer, OPTIMIZERS)}")
    return maker()


def _groups(parameters: list[Tensor]) -> list[list[tuple[Tensor, np.ndarray]]]:
    """The parameters that have a gradient, checked, each once and with its gradient; those of one launch together."""
    groups: dict[tuple[str, str, int], list[tuple[Tensor, np.ndarray]]] = {}
    for place, parameter in {id(parameter): parameter for parameter in parameters}.items():
        data, gradient = parameter.data, parameter.grad
        dtype, name = data.dtype, dtype_name(data.dtype)
        if name is None:
            raise TypeError(f"a parameter must hold float16, bfloat16, float32 or float64; received {dtype}")
        if gradient is None:
            continue
        g = gradient.data
        if g.dtype != dtype:
            raise TypeError(f"a gradient must have the dtype of its parameter, {dtype}; received {g.dtype}")
        if g.shape != data.shape:
            raise ValueError(f"a gradient must have the shape of its parameter, {data.shape}; received {g.shape}")
        # What is widened or copied goes alone, so that memory is lent to one parameter at a time.
        on = parameter.backend
        together = on.is_ready(data) and name not in STORAGE_DTYPES
        if not together and not on.is_writable(data):
            raise ValueError("a parameter is changed in place: it must be writable")
        groups.setdefault((on.name, name, 0 if together else place), []).append((parameter, g))
    return list(groups.values())


def _number(name: str, value: Any, least: float, below: float = float("inf")) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise TypeError(f"{name} must be a number; received {value!r}")
    if not least <= value < below:
        limits = f"at least {least}" + (f" and below {below}" if below < float("inf") else "")
        raise ValueError(f"{name} must be {limits}; received {value!r}")
    return float(value)
