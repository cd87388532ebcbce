"""Optimizers, with Keras' names and defaults; each step is one compiled pass over the parameters and their state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pycnn.naming import nearest
from pycnn.optimizers import schedules
from pycnn.optimizers.adam import Adam, Adamax, AdamW, Lion, Nadam
from pycnn.optimizers.adaptive import Adadelta, Adagrad, RMSprop
from pycnn.optimizers.optimizer import Optimizer
from pycnn.optimizers.sgd import SGD

__all__ = [
    "OPTIMIZERS",
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Lion",
    "Nadam",
    "Optimizer",
    "RMSprop",
    "deserialize",
    "get",
    "schedules",
    "serialize",
]

#: All, by their names in lower case.
OPTIMIZERS: dict[str, type[Optimizer]] = {
    kind.__name__.lower(): kind for kind in (Adadelta, Adagrad, Adam, Adamax, AdamW, Lion, Nadam, RMSprop, SGD)
}


def get(optimizer: str | Mapping[str, Any] | Optimizer) -> Optimizer:
    """An optimizer from its name, with the default arguments; from what :func:`serialize` gives; or the object itself.

    Raises:
        ValueError: there is none of that name; suggests the nearest.
        TypeError: neither a name, nor a description, nor an optimizer.

    >>> get("adam").learning_rate
    0.001
    """
    if isinstance(optimizer, Optimizer):
        return optimizer
    if isinstance(optimizer, Mapping):
        return deserialize(optimizer)
    if not isinstance(optimizer, str):
        raise TypeError(f"optimizer must be a name or an Optimizer; received {optimizer!r}")
    return _named(optimizer, {}).from_config({})


def serialize(optimizer: Optimizer) -> dict[str, Any]:
    """The class and the arguments of an optimizer as text and numbers, in the form that Keras gives them.

    >>> serialize(SGD(0.1))["class_name"]
    'SGD'
    """
    return {
        "module": "keras.optimizers",
        "class_name": type(optimizer).__name__,
        "config": optimizer.get_config(),
        "registered_name": None,
    }


def deserialize(config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Optimizer:
    """An optimizer from what :func:`serialize` gives.

    Args:
        config: with "class_name" and "config".
        custom_objects: classes of your own, of optimizers and of schedules, by their names.

    Raises:
        ValueError: there is no such class, or it has no such argument.

    >>> deserialize({"class_name": "SGD", "config": {"learning_rate": 0.5}}).learning_rate
    0.5
    """
    if not isinstance(config.get("class_name"), str):
        raise ValueError(f"an optimizer is described by its 'class_name' and 'config'; received {dict(config)!r}")
    kind = _named(config["class_name"], custom_objects or {})
    return kind.from_config(config.get("config", {}), custom_objects)


def _named(name: str, more: Mapping[str, Any]) -> type[Optimizer]:
    kind: type[Optimizer] | None = more.get(name) or OPTIMIZERS.get(name.lower())
    if kind is None:
        known = ", ".join(map(repr, OPTIMIZERS))
        raise ValueError(f"optimizer must be one of {known}; received {name!r}.{nearest(name, OPTIMIZERS)}")
    return kind
