"""Learning rates that follow the count of steps, by Keras' names and formulas.

A schedule is given to an optimizer in place of its ``learning_rate``, and called before each step with the number of
steps so far. Numbers are Python's, of double precision; Keras computes them in float32.

Source: Keras 3, keras.optimizers.schedules.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

from pycnn.configuration import Configurable
from pycnn.naming import nearest


class LearningRateSchedule(Configurable):
    """Base class: define ``__call__(step)``, and ``get_config()`` for what is to be saved.

    >>> class Halves(LearningRateSchedule):
    ...     def __call__(self, step):
    ...         return 0.5 ** (step + 1)
    >>> from pycnn.optimizers import SGD
    >>> SGD(Halves()).learning_rate
    0.5
    """

    def __call__(self, step: int) -> float:
        """The learning rate of a step; the first has the number 0."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__(step)")

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        raise NotImplementedError(f"{type(self).__name__} must define get_config()")

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The schedule that :meth:`get_config` describes."""
        return cls(**config)


class ExponentialDecay(LearningRateSchedule):
    """``initial_learning_rate * decay_rate ^ (step / decay_steps)``.

    Args:
        initial_learning_rate: of the first step.
        decay_steps: steps in which the rate is multiplied with ``decay_rate`` once; above 0.
        decay_rate: what it is multiplied with.
        staircase: whether that happens at once, every ``decay_steps`` steps.
        name: of no effect.

    Raises:
        ValueError: ``decay_steps`` is not above 0.

    >>> ExponentialDecay(0.1, decay_steps=100, decay_rate=0.5)(200)
    0.025
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        decay_rate: float,
        staircase: bool = False,
        name: str = "ExponentialDecay",
    ) -> None:
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = _above_0("decay_steps", decay_steps)
        self.decay_rate = decay_rate
        self.staircase = staircase
        self.name = name

    def __call__(self, step: int) -> float:
        return self.initial_learning_rate * self.decay_rate ** _periods(step, self.decay_steps, self.staircase)

    def get_config(self) -> dict[str, Any]:
        return _attributes(self, "initial_learning_rate decay_steps decay_rate staircase name")


class InverseTimeDecay(LearningRateSchedule):
    """``initial_learning_rate / (1 + decay_rate * step / decay_steps)``; arguments as of :class:`ExponentialDecay`.

    >>> InverseTimeDecay(0.1, decay_steps=100, decay_rate=0.5)(200)
    0.05
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        decay_rate: float,
        staircase: bool = False,
        name: str = "InverseTimeDecay",
    ) -> None:
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = _above_0("decay_steps", decay_steps)
        self.decay_rate = decay_rate
        self.staircase = staircase
        self.name = name

    def __call__(self, step: int) -> float:
        return self.initial_learning_rate / (1 + self.decay_rate * _periods(step, self.decay_steps, self.staircase))

    def get_config(self) -> dict[str, Any]:
        return _attributes(self, "initial_learning_rate decay_steps decay_rate staircase name")


class PiecewiseConstantDecay(LearningRateSchedule):
    """``values[0]`` up to and including step ``boundaries[0]``, ``values[1]`` up to ``boundaries[1]``, and so on.

    Args:
        boundaries: numbers of steps, ascending, at least one.
        values: one more than there are boundaries.
        name: of no effect.

    Raises:
        ValueError: there are no boundaries, they do not ascend, or the number of values is another one.

    >>> rate = PiecewiseConstantDecay([100, 200], [1.0, 0.5, 0.1])
    >>> rate(100), rate(101), rate(500)
    (1.0, 0.5, 0.1)
    """

    def __init__(self, boundaries: Sequence[float], values: Sequence[float], name: str = "PiecewiseConstant") -> None:
        if not boundaries or len(boundaries) != len(values) - 1:
            raise ValueError(
                f"values must be one more than the boundaries, of which there is one at least; received "
                f"{len(values)} values and {len(boundaries)} boundaries"
            )
        if list(boundaries) != sorted(boundaries):
            raise ValueError(f"boundaries must ascend; received {boundaries!r}")
        self.boundaries, self.values = list(boundaries), list(values)
        self.name = name

    def __call__(self, step: int) -> float:
        return self.values[bisect.bisect_left(self.boundaries, step)]

    def get_config(self) -> dict[str, Any]:
        return _attributes(self, "boundaries values name")


class PolynomialDecay(LearningRateSchedule):
    """From the initial to the end rate in ``decay_steps`` steps: ``(initial - end) * (1 - p)^power + end``.

    p is the part of the steps that are done.

    Args:
        initial_learning_rate, end_learning_rate: of the first and the last step.
        decay_steps: how many they are apart; above 0.
        power: 1 for a straight line.
        cycle: whether steps beyond ``decay_steps`` begin a decay that is twice, three times, ... as long; otherwise
            they have the end rate.
        name: of no effect.

    Raises:
        ValueError: ``decay_steps`` is not above 0.

    >>> PolynomialDecay(0.1, decay_steps=100, end_learning_rate=0.0)(50)
    0.05
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        end_learning_rate: float = 0.0001,
        power: float = 1.0,
        cycle: bool = False,
        name: str = "PolynomialDecay",
    ) -> None:
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = _above_0("decay_steps", decay_steps)
        self.end_learning_rate = end_learning_rate
        self.power = power
        self.cycle = cycle
        self.name = name

    def __call__(self, step: int) -> float:
        steps = self.decay_steps
        if self.cycle:
            steps *= max(math.ceil(step / steps), 1)
        left = 1 - min(step, steps) / steps
        return (self.initial_learning_rate - self.end_learning_rate) * left**self.power + self.end_learning_rate

    def get_config(self) -> dict[str, Any]:
        return _attributes(self, "initial_learning_rate decay_steps end_learning_rate power cycle name")


class CosineDecay(LearningRateSchedule):
    """Half a cosine's fall from a rate to its ``alpha``-th part in ``decay_steps`` steps, after a warm-up if wanted.

    Args:
        initial_learning_rate: of the first step.
        decay_steps: of the fall; above 0.
        alpha: the part of the rate that remains.
        name: of no effect.
        warmup_target: a rate to which the initial one rises in a straight line before it falls; None falls at once.
        warmup_steps: of the rise.

    Raises:
        ValueError: ``decay_steps`` is not above 0.

    Source: Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts" (2017), equation 5.

    >>> round(CosineDecay(0.1, decay_steps=100)(50), 6)
    0.05
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        alpha: float = 0.0,
        name: str = "CosineDecay",
        warmup_target: float | None = None,
        warmup_steps: float = 0,
    ) -> None:
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = _above_0("decay_steps", decay_steps)
        self.alpha = alpha
        self.name = name
        self.warmup_target = warmup_target
        self.warmup_steps = warmup_steps

    def __call__(self, step: int) -> float:
        rate = self.initial_learning_rate
        if self.warmup_target is not None:
            if step < self.warmup_steps:
                return rate + (self.warmup_target - rate) * step / self.warmup_steps
            rate, step = self.warmup_target, step - int(self.warmup_steps)
        return rate * _cosine(min(step / self.decay_steps, 1), 1, self.alpha)

    def get_config(self) -> dict[str, Any]:
        return _attributes(self, "initial_learning_rate decay_steps alpha name warmup_target warmup_steps")


class CosineDecayRestarts(LearningRateSchedule):
    """Half a cosine's fall again and again, each ``t_mul`` times as long as the one before and ``m_mul`` times as high.

    Args:
        initial_learning_rate: of the first step.
        first_decay_steps: of the first fall; above 0.
        t_mul, m_mul: factors from one fall to the next; ``t_mul`` at least 1.
        alpha: the part of the rate that remains at the end of a fall.
        name: of no effect.

    Raises:
        ValueError: ``first_decay_steps`` is not above 0, or ``t_mul`` is below 1.

    Source: Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts" (2017), section 3.

    >>> rate = CosineDecayRestarts(1.0, first_decay_steps=10, t_mul=2.0, m_mul=0.5)
    >>> [round(rate(step), 6) for step in (0, 5, 10, 20)]
    [1.0, 0.5, 0.5, 0.25]
    """

    def __init__(
        self,
        initial_learning_rate: float,
        first_decay_steps: float,
        t_mul: float = 2.0,
        m_mul: float = 1.0,
        alpha: float = 0.0,
        name: str = "SGDRDecay",
    ) -> None:
        if t_mul < 1:
            raise ValueError(f"t_mul must be at least 1; received {t_mul!r}")
        self.initial_learning_rate = initial_learning_rate
        self.first_decay_steps = _above_0("first_decay_steps", first_decay_steps)
        self.t_mul, self.m_mul = t_mul, m_mul
        self.alpha = alpha
        self.name = name

    def __call__(self, step: int) -> float:
        fall, begin, length = 0, 0.0, float(self.first_decay_steps)
        if self.t_mul == 1:
            fall = int(step // length)
            begin = fall * length
        while step >= begin + length:
            begin, length, fall = begin + length, length * self.t_mul, fall + 1
        return self.initial_learning_rate * _cosine((step - begin) / length, self.m_mul**fall, self.alpha)

    def get_config(self) -> dict[str, Any]:
        return _attributes(self, "initial_learning_rate first_decay_steps t_mul m_mul alpha name")


SCHEDULES: dict[str, type[LearningRateSchedule]] = {
    kind.__name__: kind
    for kind in (
        ExponentialDecay,
        InverseTimeDecay,
        PiecewiseConstantDecay,
        PolynomialDecay,
        CosineDecay,
        CosineDecayRestarts,
    )
}


def serialize(learning_rate_schedule: LearningRateSchedule) -> dict[str, Any]:
    """The class and the arguments of a schedule as text and numbers, in the form that Keras gives them.

    >>> serialize(CosineDecay(0.1, 100))["class_name"]
    'CosineDecay'
    """
    return {
        "module": "keras.optimizers.schedules",
        "class_name": type(learning_rate_schedule).__name__,
        "config": learning_rate_schedule.get_config(),
        "registered_name": None,
    }


def deserialize(
    config: Mapping[str, Any], custom_objects: Mapping[str, type[LearningRateSchedule]] | None = None
) -> LearningRateSchedule:
    """A schedule from what :func:`serialize` gives.

    Args:
        config: with "class_name" and "config".
        custom_objects: classes of your own, by their names.

    Raises:
        ValueError: there is no such class; suggests the nearest.

    >>> deserialize(serialize(CosineDecay(0.1, 100)))(0)
    0.1
    """
    known = SCHEDULES | dict(custom_objects or {})
    name = config.get("class_name")
    if name not in known:
        names = ", ".join(known)
        raise ValueError(f"unknown learning rate schedule {name!r}.{nearest(name, known)} Known: {names}")
    return known[name].from_config(config["config"])


def _periods(step: int, steps: float, whole: bool) -> float:
    return math.floor(step / steps) if whole else step / steps


def _cosine(part: float, height: float, alpha: float) -> float:
    """From ``height`` at part 0 to ``alpha`` at part 1; the height is that above alpha, as in Keras."""
    return (1 - alpha) * 0.5 * height * (1 + math.cos(math.pi * part)) + alpha


def _above_0(name: str, value: float) -> float:
    if not value > 0:
        raise ValueError(f"{name} must be above 0; received {value!r}")
    return value


def _attributes(schedule: LearningRateSchedule, names: str) -> dict[str, Any]:
    return {name: getattr(schedule, name) for name in names.split()}
