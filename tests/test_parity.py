"""Every functional operation against torch.nn.functional's of the same name, over drawn arguments.

Values, first and second derivatives, dtypes and shapes are PyTorch's, and what PyTorch refuses is refused. How each is
called stands in ``tests/parity``, in files that are named like those of ``pycnn/functional``.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pycnn.functional as F
from pycnn import random

torch = pytest.importorskip("torch", reason="PyTorch is not installed: no second opinion")

from tests.parity.call import (  # noqa: E402 - which imports PyTorch
    BFLOAT16,
    DRESSES,
    FORMS,
    Case,
    arrays_of,
    compare,
    compare_halves,
    compare_in_place,
    converted,
    in_dtype,
    of_theirs,
    ours,
)

# Both libraries warn about the same calls, such as a loss between two shapes.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """PyTorch's threads take longer to wait for each other than to compute what is drawn here."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


CASES: dict[str, Case] = {}
for file in sorted((Path(__file__).parent / "parity").glob("*.py")):
    CASES |= getattr(importlib.import_module(f"tests.parity.{file.stem}"), "CASES", {})


@pytest.mark.parametrize("name", CASES)
def test_operation(name: str) -> None:
    """What PyTorch computes, with the same gradients, and of arrays in any memory; what it refuses is refused."""
    case = CASES[name]
    accepted = []

    @given(case.calls, st.sampled_from(sorted(DRESSES)))
    @settings(max_examples=60)
    def check(call: Any, dress: str) -> None:
        accepted.append(case.differs(call) is None and compare(name, case, call, dress))

    check()
    assert sum(accepted) > 12, "nearly every call that is drawn is refused or left out: the test shows little"


@pytest.mark.parametrize("name", CASES)
def test_halves(name: str) -> None:
    """In float16 and bfloat16, PyTorch's results and gradients of the same numbers in float32, rounded once."""
    case = CASES[name]
    accepted = []

    @given(case.calls, st.sampled_from([np.dtype(np.float16), BFLOAT16]))
    @settings(max_examples=9)
    def check(call: Any, dtype: Any) -> None:
        if not call.wrong:
            accepted.append(case.differs(in_dtype(call, dtype)) is None and compare_halves(name, case, call, dtype))

    check()
    assert any(accepted), "every call that is drawn is refused or left out: the test shows nothing"


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.integers is None])
@settings(max_examples=5)
@given(st.data())
def test_integers(name: str, data: st.DataObject) -> None:
    """Where PyTorch takes integers in the place of floating-point numbers, they are taken, and otherwise refused."""
    case = CASES[name]
    call = in_dtype(data.draw(case.calls), np.dtype(np.int64))
    if call.wrong or case.differs(call) is not None or not all(array.size for array in arrays_of(call)):
        return  # PyTorch takes any dtype where there are no elements
    compare(name, case, call)


@pytest.mark.parametrize(
    "name", [name for name in CASES if "inplace" in inspect.signature(getattr(F, name)).parameters]
)
@settings(max_examples=15)
@given(st.data(), st.sampled_from(FORMS))
def test_in_place(name: str, data: st.DataObject, form: str) -> None:
    """PyTorch's results in the memory of the input, which is what is returned, and PyTorch's gradients and refusals."""
    case = CASES[name]
    call = data.draw(case.calls)
    if case.differs(call) is None:
        compare_in_place(name, case, call, form)


@pytest.mark.parametrize("name", CASES)
@given(st.data())
@settings(max_examples=5)
def test_kinds(name: str, data: st.DataObject) -> None:
    """Arrays in, arrays out; PyTorch's tensors in, PyTorch's tensors out; the same bits as of pycnn's tensors."""
    case = CASES[name]
    call = data.draw(case.calls)
    random.seed(0)  # what draws shall draw the same each time
    try:
        right, _ = ours(name, call)
    except (TypeError, ValueError):
        return
    for kind, make in ((np.ndarray, lambda a, _: a), (torch.Tensor, lambda a, _: of_theirs(a))):
        arguments, keywords, _ = converted(call, make)
        random.seed(0)
        found = getattr(F, name)(*arguments, **keywords)
        for one, other in zip(*(each if isinstance(each, tuple) else (each,) for each in (found, right)), strict=True):
            assert isinstance(one, kind) or (kind is np.ndarray and isinstance(one, np.generic))
            np.testing.assert_array_equal(np.asarray(one), other.data)


def test_every_operation_of_pytorch_is_compared() -> None:
    """No operation that PyTorch has, too, is left out."""
    shared = {name for name in F.__all__ if hasattr(torch.nn.functional, name)}
    assert shared <= set(CASES)
