"""Every example in a docstring runs and tells the truth."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import pkgutil
from types import ModuleType

import pytest

import pycnn
import pycnn_kernels


def modules() -> list[str]:
    names = []
    for package in (pycnn, pycnn_kernels):
        names += [package.__name__]
        names += [m.name for m in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
    return [name for name in names if not name.endswith("__main__")]


#: What modules need that not everybody has; of CUDA's one is for those who have not.
NEEDED = {"pycnn_kernels.cuda.": "numba_cuda", "pycnn.interop.torch": "torch"}


def lacks(name: str) -> str | None:
    """The package that a module cannot be imported without, where it is not installed."""
    for prefix, package in NEEDED.items():
        if name.startswith(prefix) and name != "pycnn_kernels.cuda.device":
            return package if importlib.util.find_spec(package) is None else None
    return None


def there() -> list[str]:
    """The modules that can be imported."""
    return [name for name in modules() if lacks(name) is None]


def examples(module: ModuleType) -> list[doctest.DocTest]:
    return [test for test in doctest.DocTestFinder(exclude_empty=True).find(module) if test.examples]


@pytest.mark.parametrize("name", modules())
def test_examples(name: str) -> None:
    if lacks(name) is not None:
        pytest.skip(f"{lacks(name)} is not installed")
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    report: list[str] = []
    for test in examples(module):
        runner.run(test, out=report.append)
    assert runner.failures == 0, "".join(report)


def test_examples_are_found() -> None:
    """Finding none would pass every test above."""
    assert sum(len(examples(importlib.import_module(name))) for name in there()) > 30


@pytest.mark.parametrize("module", [pycnn.functional, pycnn.signal, pycnn.signal.kernels])
def test_every_public_function_has_an_example(module: ModuleType) -> None:
    """Of the functional layer and its like: what a reader looks up first."""
    public = [getattr(module, name) for name in module.__all__]
    without = [each.__name__ for each in public if callable(each) and ">>>" not in (each.__doc__ or "")]
    assert without == []
