"""The package itself: what ``import pycnn`` offers, and what it loads."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable

import pytest

import pycnn


def test_submodules_come_without_an_import_of_their_own(python_prints: Callable[..., str]) -> None:
    assert python_prints("import pycnn; print(pycnn.models.Sequential.__name__)") == "Sequential\n"
    assert python_prints("from pycnn import *; print(layers.Dense.__name__, Tensor.__name__)") == "Dense Tensor\n"


def test_every_public_name_is_there_and_listed() -> None:
    public = {info.name for info in pkgutil.iter_modules(pycnn.__path__)}
    public -= {"__main__", "cli", "console", "elementary", "explanation", "naming", "shapes", "structures", "tensor"}
    public -= {"changes", "gradient_checks", "in_place", "views"}
    assert public < set(pycnn.__all__) <= set(dir(pycnn))
    for name in pycnn.__all__:
        assert getattr(pycnn, name) is not None


def test_importing_the_package_alone_loads_nothing_large(python_prints: Callable[..., str]) -> None:
    loaded = python_prints("import sys, pycnn; print(*sys.modules)").split()
    assert [name for name in loaded if name.startswith(("numpy", "numba", "pycnn."))] == []


def test_names_that_are_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'pycnn' has no attribute 'nothing'"):
        _ = pycnn.nothing
