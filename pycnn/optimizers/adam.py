"""Adam and its relatives: steps by running means of the gradient and of its size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Unpack

import numpy as np

from pycnn.optimizers.optimizer import Common, LearningRate, Optimizer, number


class _WithBetas(Optimizer):
    """What Adam's family shares: the decays of two means, and the epsilon."""

    def __init__(
        self, learning_rate: LearningRate, beta_1: float, beta_2: float, epsilon: float, **common: Unpack[Common]
    ):
        super().__init__(learning_rate, **common)
        self.beta_1 = number("beta_1", beta_1, least=0, below=1)
        self.beta_2 = number("beta_2", beta_2, least=0, below=1)
        self.epsilon = number("epsilon", epsilon, least=0)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}


class Adam(_WithBetas):
    """Adam: steps scaled by running means of the gradient and of its square.

    Args:
        learning_rate: size of a step; a number, a schedule or a function without arguments.
        beta_1, beta_2: decay of the two means.
        epsilon: keeps the division finite.
        amsgrad: divide by the largest mean of squares so far.
        **common: as :class:`Optimizer` takes them, from ``weight_decay`` to ``name``.

    Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization" (2015), in the form before section 2.1,
    as in Keras; for ``amsgrad`` Reddi, Kale and Kumar, "On the Convergence of Adam and Beyond" (2018).

    >>> from pycnn import Tensor
    >>> w = Tensor([1.0], requires_grad=True)
    >>> (w * w).sum().backward()
    >>> Adam(learning_rate=0.1).apply([w])
    >>> w.detach().numpy().round(4)
    array([0.9], dtype=float32)
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **common: Unpack[Common],
    ):
        super().__init__(learning_rate, beta_1, beta_2, epsilon, **common)
        self.amsgrad = bool(amsgrad)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"amsgrad": self.amsgrad}

    @property
    def _rule(self) -> str:
        return "amsgrad" if self.amsgrad else "adam"

    def _next_step(self, rate: float, t: int) -> tuple[float, ...]:
        rate *= math.sqrt(1 - self.beta_2**t) / (1 - self.beta_1**t)
        return rate, 1 - self.beta_1, 1 - self.beta_2, self.epsilon


class AdamW(Adam):
    """Adam with a decay of the weights that is no part of the gradient.

    Args:
        learning_rate: size of a step; a number, a schedule or a function without arguments.
        weight_decay: the part of itself, times the learning rate, that a weight loses in a step.
        beta_1, beta_2, epsilon, amsgrad, common: as :class:`Adam` takes them.

    Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2019).

    >>> from pycnn import Tensor
    >>> w = Tensor([1.0], requires_grad=True)
    >>> (w * w).sum().backward()
    >>> AdamW(learning_rate=0.1, weight_decay=0.5).apply([w])
    >>> w.detach().numpy().round(4)
    array([0.85], dtype=float32)
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        weight_decay: float | None = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **common: Any,
    ):
        if weight_decay is None:
            raise ValueError("weight_decay must be a number for AdamW, which is Adam without one; received None")
        super().__init__(learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay=weight_decay, **common)


class Adamax(_WithBetas):
    """Adam by the largest size of the gradient, which fades, in place of the mean of its square.

    Args:
        learning_rate: size of a step; a number, a schedule or a function without arguments.
        beta_1: decay of the mean of the gradient.
        beta_2: how the largest size fades.
        epsilon: keeps the division finite.
        **common: as :class:`Optimizer` takes them, from ``weight_decay`` to ``name``.

    Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization" (2015), section 7.1.

    >>> from pycnn import Tensor
    >>> w = Tensor([1.0], requires_grad=True)
    >>> (w * w).sum().backward()
    >>> Adamax(learning_rate=0.1).apply([w])
    >>> w.detach().numpy().round(4)
    array([0.9], dtype=float32)
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        **common: Unpack[Common],
    ):
        super().__init__(learning_rate, beta_1, beta_2, epsilon, **common)

    @property
    def _rule(self) -> str:
        return "adamax"

    def _next_step(self, rate: float, t: int) -> tuple[float, ...]:
        return rate / (1 - self.beta_1**t), 1 - self.beta_1, self.beta_2, self.epsilon


class Nadam(_WithBetas):
    """Adam with Nesterov's momentum, which grows to ``beta_1``.

    Args:
        learning_rate: size of a step; a number, a schedule or a function without arguments.
        beta_1, beta_2: decay of the two means.
        epsilon: keeps the division finite.
        **common: as :class:`Optimizer` takes them, from ``weight_decay`` to ``name``.

    Source: Dozat, "Incorporating Nesterov Momentum into Adam" (2016), as in Keras.

    >>> from pycnn import Tensor
    >>> w = Tensor([1.0], requires_grad=True)
    >>> (w * w).sum().backward()
    >>> Nadam(learning_rate=0.1).apply([w])
    >>> w.detach().numpy().round(4)
    array([0.8937], dtype=float32)
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        **common: Unpack[Common],
    ):
        super().__init__(learning_rate, beta_1, beta_2, epsilon, **common)
        self._product = 1.0  # of the momenta so far

    @property
    def _rule(self) -> str:
        return "nadam"

    def _next_step(self, rate: float, t: int) -> tuple[float, ...]:
        momentum, next_momentum = (self.beta_1 * (1 - 0.5 * 0.96**step) for step in (t, t + 1))
        self._product *= momentum
        rate_of_mean = rate * next_momentum / (1 - self._product * next_momentum)
        rate_of_g = rate * (1 - momentum) / (1 - self._product)
        means = (1 - self.beta_1, 1 - self.beta_2)
        return rate_of_mean, rate_of_g, *means, 1 / (1 - self.beta_2**t), self.epsilon

    def _numbers(self) -> dict[str, np.ndarray]:
        return super()._numbers() | {"u_product": np.array(self._product)}

    def _set_numbers(self, numbers: Mapping[str, np.ndarray]) -> None:
        super()._set_numbers(numbers)
        self._product = float(numbers["u_product"])


class Lion(Optimizer):
    """Steps of one size, by the sign of a running mean of the gradient.

    Args:
        learning_rate: size of a step; a number, a schedule or a function without arguments.
        beta_1: how much of the mean, beside the gradient, decides the sign.
        beta_2: decay of the mean.
        **common: as :class:`Optimizer` takes them, from ``weight_decay`` to ``name``.

    Source: Chen et al., "Symbolic Discovery of Optimization Algorithms" (2023).

    >>> from pycnn import Tensor
    >>> w = Tensor([1.0], requires_grad=True)
    >>> (w * w).sum().backward()
    >>> Lion(learning_rate=0.5).apply([w])
    >>> w.detach().numpy()
    array([0.5], dtype=float32)
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.99,
        **common: Unpack[Common],
    ):
        super().__init__(learning_rate, **common)
        self.beta_1 = number("beta_1", beta_1, least=0, below=1)
        self.beta_2 = number("beta_2", beta_2, least=0, below=1)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"beta_1": self.beta_1, "beta_2": self.beta_2}

    @property
    def _rule(self) -> str:
        return "lion"

    def _next_step(self, rate: float, t: int) -> tuple[float, ...]:
        return rate, self.beta_1, 1 - self.beta_1, self.beta_2, 1 - self.beta_2
