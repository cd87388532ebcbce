"""The signatures of functional operations against torch.nn.functional's: what is not PyTorch's is keyword-only."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import pytest

import pycnn.functional as F

torch = pytest.importorskip("torch", reason="PyTorch is not installed: no second opinion")

#: Signatures that those docstrings say wrongly, as the functions themselves have them.
CORRECTED = {"gelu": "gelu(input, *, approximate='none')", "one_hot": "one_hot(input, num_classes=-1)"}

SHARED = [name for name in F.__all__ if hasattr(torch.nn.functional, name)]


def described(parameters: Iterable[inspect.Parameter]) -> list[tuple[Any, ...]]:
    return [(each.name, each.default, each.kind) for each in parameters]


def parameters_of_pytorch(name: str) -> list[tuple[Any, ...]]:
    """The parameters of a function of PyTorch, in their order.

    Functions that are built in, and those that choose between two by ``return_indices``, have a signature in the first
    line of their docstring alone.
    """
    function = getattr(torch.nn.functional, name)
    if inspect.isbuiltin(function) or function.__qualname__.startswith("boolean_dispatch"):
        head = CORRECTED.get(name) or function.__doc__.strip().splitlines()[0].partition(" -> ")[0]
        written: dict[str, Any] = {}
        exec(f"def {head}: ...", written)
        function = written[name]
    return described(inspect.signature(function).parameters.values())


@pytest.mark.parametrize("name", SHARED)
def test_signature(name: str) -> None:
    parameters = list(inspect.signature(getattr(F, name)).parameters.values())
    theirs = parameters_of_pytorch(name)
    assert described(parameters[: len(theirs)]) == theirs
    extras = parameters[len(theirs) :]
    assert {each.kind for each in extras} == {inspect.Parameter.KEYWORD_ONLY}
    assert ("backend", None) in [(each.name, each.default) for each in extras]


@pytest.mark.parametrize("name", [name for name in F.__all__ if name not in SHARED and name.islower()])
def test_operations_of_our_own_take_a_backend(name: str) -> None:
    backend = inspect.signature(getattr(F, name)).parameters["backend"]
    assert (backend.default, backend.kind) == (None, inspect.Parameter.KEYWORD_ONLY)
