"""Gradient descent, with momentum or without."""

from __future__ import annotations

from typing import Any, Unpack

from pycnn.optimizers.optimizer import Common, LearningRate, Optimizer, number


class SGD(Optimizer):
    """Gradient descent, with momentum or Nesterov's.

    Args:
        learning_rate: size of a step; a number, a schedule or a function without arguments.
        momentum: how much of the last step is added, 0 to 1.
        nesterov: look ahead by the momentum.
        **common: as :class:`Optimizer` takes them, from ``weight_decay`` to ``name``.

    Source: Sutskever et al., "On the importance of initialization and momentum in deep learning" (2013).

    >>> from pycnn import Tensor
    >>> w = Tensor([1.0], requires_grad=True)
    >>> (w * w).sum().backward()
    >>> SGD(learning_rate=0.25).apply([w])
    >>> w.detach().numpy()
    array([0.5], dtype=float32)
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        **common: Unpack[Common],
    ):
        super().__init__(learning_rate, **common)
        self.momentum = number("momentum", momentum, least=0, most=1)
        self.nesterov = bool(nesterov)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"momentum": self.momentum, "nesterov": self.nesterov}

    @property
    def _rule(self) -> str:
        if not self.momentum:
            return "sgd"
        return "sgd_nesterov" if self.nesterov else "sgd_momentum"

    def _next_step(self, rate: float, t: int) -> tuple[float, ...]:
        return (rate, self.momentum) if self.momentum else (rate,)
