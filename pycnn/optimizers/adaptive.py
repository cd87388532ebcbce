"""Gradient descent whose steps are divided by the size that gradients had so far: RMSprop, Adagrad and Adadelta."""

from __future__ import annotations

from typing import Any, Unpack

from pycnn.optimizers.optimizer import Common, LearningRate, Optimizer, number


class RMSprop(Optimizer):
    """Steps divided by the root of a running mean of the gradient's square.

    Args:
        learning_rate: size of a step; a number, a schedule or a function without arguments.
        rho: decay of the mean.
        momentum: how much of the last step is added, 0 to 1.
        epsilon: keeps the division finite.
        centered: divide by the root of the variance, which needs a running mean of the gradient, too.
        **common: as :class:`Optimizer` takes them, from ``weight_decay`` to ``name``.

    Source: Tieleman and Hinton, "Lecture 6.5: RMSProp" (2012); for ``centered`` Graves, "Generating Sequences With
    Recurrent Neural Networks" (2013), section 4.2.

    >>> from pycnn import Tensor
    >>> w = Tensor([1.0], requires_grad=True)
    >>> (w * w).sum().backward()
    >>> RMSprop(learning_rate=0.1, rho=0.75).apply([w])
    >>> w.detach().numpy().round(4)
    array([0.8], dtype=float32)
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        **common: Unpack[Common],
    ):
        super().__init__(learning_rate, **common)
        self.rho = number("rho", rho, least=0, below=1)
        self.momentum = number("momentum", momentum, least=0, most=1)
        self.epsilon = number("epsilon", epsilon, least=0)
        self.centered = bool(centered)

    def get_config(self) -> dict[str, Any]:
        own = {"rho": self.rho, "momentum": self.momentum, "epsilon": self.epsilon, "centered": self.centered}
        return super().get_config() | own

    @property
    def _rule(self) -> str:
        return "rmsprop" + "_centered" * self.centered + "_momentum" * bool(self.momentum)

    def _next_step(self, rate: float, t: int) -> tuple[float, ...]:
        numbers = (rate, self.rho, 1 - self.rho, self.epsilon)
        return (*numbers, self.momentum) if self.momentum else numbers


class Adagrad(Optimizer):
    """Steps divided by the root of the sum of all squares of the gradient so far.

    Args:
        learning_rate: size of a step; a number, a schedule or a function without arguments.
        initial_accumulator_value: what the sums begin with, at least 0.
        epsilon: keeps the division finite.
        **common: as :class:`Optimizer` takes them, from ``weight_decay`` to ``name``.

    Source: Duchi, Hazan and Singer, "Adaptive Subgradient Methods for Online Learning and Stochastic Optimization"
    (2011).

    >>> from pycnn import Tensor
    >>> w = Tensor([1.0], requires_grad=True)
    >>> (w * w).sum().backward()
    >>> Adagrad(learning_rate=0.1, initial_accumulator_value=0.0).apply([w])
    >>> w.detach().numpy().round(4)
    array([0.9], dtype=float32)
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        **common: Unpack[Common],
    ):
        super().__init__(learning_rate, **common)
        self.initial_accumulator_value = number("initial_accumulator_value", initial_accumulator_value, least=0)
        self.epsilon = number("epsilon", epsilon, least=0)

    def get_config(self) -> dict[str, Any]:
        own = {"initial_accumulator_value": self.initial_accumulator_value, "epsilon": self.epsilon}
        return super().get_config() | own

    def _initial(self, name: str) -> float:
        return self.initial_accumulator_value if name == "accumulator" else super()._initial(name)

    @property
    def _rule(self) -> str:
        return "adagrad"

    def _next_step(self, rate: float, t: int) -> tuple[float, ...]:
        return rate, self.epsilon


class Adadelta(Optimizer):
    """Steps divided by the root of a running mean of the gradient's square, times that of the steps themselves.

    Args:
        learning_rate: factor of a step, 1 in the paper; a number, a schedule or a function without arguments.
        rho: decay of the two means.
        epsilon: added to them; sizes the first steps.
        **common: as :class:`Optimizer` takes them, from ``weight_decay`` to ``name``.

    Source: Zeiler, "ADADELTA: An Adaptive Learning Rate Method" (2012).

    >>> from pycnn import Tensor
    >>> w = Tensor([1.0], requires_grad=True)
    >>> (w * w).sum().backward()
    >>> Adadelta(learning_rate=1.0).apply([w])
    >>> w.detach().numpy().round(4)
    array([0.9986], dtype=float32)
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        rho: float = 0.95,
        epsilon: float = 1e-7,
        **common: Unpack[Common],
    ):
        super().__init__(learning_rate, **common)
        self.rho = number("rho", rho, least=0, below=1)
        self.epsilon = number("epsilon", epsilon, least=0)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"rho": self.rho, "epsilon": self.epsilon}

    @property
    def _rule(self) -> str:
        return "adadelta"

    def _next_step(self, rate: float, t: int) -> tuple[float, ...]:
        return rate, self.rho, 1 - self.rho, self.epsilon
