"""One call of a functional operation, drawn by hypothesis, in pycnn and in PyTorch: values, gradients, refusals."""

from __future__ import annotations

import ast
import dataclasses
import functools
import re
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

import pycnn
import pycnn.functional as F
import pycnn_kernels
from pycnn import Tensor
from pycnn_kernels.problem import is_floating, numpy_dtype
from tests.reference import assert_close, assert_rounded

torch = pytest.importorskip("torch", reason="PyTorch is not installed: no second opinion")

#: What refusing a call looks like, there and here. PyTorch's range from RuntimeError for wrong shapes to AssertionError
#: for what its modules check; here a TypeError or a ValueError says what was expected.
THEIR_REFUSALS = (
    RuntimeError, ValueError, TypeError, IndexError, NotImplementedError, AssertionError, ZeroDivisionError,
)  # fmt: skip
OUR_REFUSALS = (TypeError, ValueError)


@dataclasses.dataclass
class Call:
    """The arguments of a call. NumPy's arrays among them are the arrays of both libraries.

    Those of floating point want a gradient, but for those at the positions and names in ``constants``. Those in
    ``changed`` the operation changes in place: they are compared, too. A call that is ``wrong`` has an argument that it
    should not have; where PyTorch does not look at it, pycnn may refuse it.
    """

    arguments: tuple[Any, ...]
    keywords: dict[str, Any] = dataclasses.field(default_factory=dict)
    constants: tuple[int | str, ...] = ()
    changed: tuple[int | str, ...] = ()
    wrong: bool = False


#: Up to which derivative something is compared, 0 for the value alone, and why no further.
Limit = tuple[int, str]


def up_to(order: int, reason: str) -> Callable[[Call], Limit]:
    """``Case.derivatives`` that is the same for all calls."""
    return lambda call: (order, reason)


@dataclasses.dataclass
class Case:
    """How an operation is called, and what is known to differ.

    Attributes:
        calls: draws calls, most of which PyTorch accepts.
        bound: of errors, relative to the largest element, in float64; gradients may be off by 10 times as much, second
            ones by 100 times.
        bound32: likewise in float32, and beside it: PyTorch rounds what is computed of such arrays alone. Products of
            numbers with 10 bits, which GPUs have for float32, are off by more.
        derivatives: says of a call up to which derivative it is compared, and why no further; None for the second.
            The values are compared in any case.
        differs: says of a call that nothing of it is compared, with the reason; None for no call.
        integers: why they are refused in the place of floating-point numbers where PyTorch takes some; None where they
            are taken or refused alike.
    """

    calls: st.SearchStrategy[Call]
    bound: float = 1e-11
    bound32: float = 1e-5
    derivatives: Callable[[Call], Limit | None] = lambda call: None
    differs: Callable[[Call], str | None] = lambda call: None
    integers: str | None = None


def arrays_of(call: Call) -> list[np.ndarray]:
    """All arrays among the arguments."""
    return [each for each in (*call.arguments, *call.keywords.values()) if isinstance(each, np.ndarray)]


def normal(*shape: int, dtype: Any = np.float64, seed: int = 0) -> np.ndarray:
    """Numbers of a normal distribution, the same for the same shape."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


@st.composite
def shapes(draw: st.DrawFn, least: int = 0, most: int = 4, side: int = 5) -> tuple[int, ...]:
    """Shapes of few elements, few of them empty."""
    shortest = 0 if seldom(draw, 7) else 1
    return tuple(draw(st.lists(st.integers(shortest, side), min_size=least, max_size=most)))


@st.composite
def arrays(draw: st.DrawFn, shape: st.SearchStrategy[tuple[int, ...]], seed: int = 0) -> np.ndarray:
    """Normal numbers in float64, float32 at times."""
    dtype = draw(st.sampled_from([np.float64, np.float64, np.float64, np.float32]))
    return normal(*draw(shape), dtype=dtype, seed=seed)


def per_axis(rank: int, least: int, most: int) -> st.SearchStrategy[Any]:
    """One integer for all axes, in a tuple or not, or one for each."""
    one = st.integers(least, most)
    return one | st.tuples(one) | st.tuples(*[one] * rank)


def seldom(draw: st.DrawFn, every: int) -> bool:
    """True in one of so many draws; what is shrunk becomes usual."""
    return draw(st.integers(1, every)) == every


def spelled(value: int) -> st.SearchStrategy[Any]:
    """An integer of Python's, or at times of NumPy's."""
    return st.sampled_from([value, value, value, np.int64(value)])


@st.composite
def axes(draw: st.DrawFn, rank: int, least: int, most: int) -> Any:
    """Likewise, in a list at times, of NumPy's integers at times."""
    value = draw(per_axis(rank, least, most))
    if isinstance(value, int):
        return draw(spelled(value))
    return draw(st.sampled_from([value, list(value), tuple(map(np.int64, value))]))


@st.composite
def with_an_empty_axis(draw: st.DrawFn, sizes: tuple[int, ...]) -> tuple[int, ...]:
    """The same sizes but for one, which is 0, or for one axis that is missing."""
    place = draw(st.integers(0, len(sizes) - 1))
    return sizes[:place] + draw(st.sampled_from([(0,), ()])) + sizes[place + 1 :]


@st.composite
def spread(
    draw: st.DrawFn, arrays: dict[str, Any], settings: dict[str, Any], wrong: list[Any], constants: tuple[str, ...] = ()
) -> Call:
    """A call with its arrays and some of its settings by position, the others by their names; at times with all.

    Both are in the order of the function's signature. One of ten calls has a setting of the wrong ones.
    """
    is_wrong = bool(settings) and seldom(draw, 10)
    if is_wrong:
        settings = settings | {draw(st.sampled_from(sorted(settings))): draw(st.sampled_from(wrong))}
    named = arrays | settings
    by_place = draw(st.sampled_from([0, *range(len(arrays), len(named) + 1)]))
    names = list(named)
    places = {name: place for place, name in enumerate(names[:by_place])}
    return Call(
        tuple(named[name] for name in names[:by_place]),
        {name: named[name] for name in names[by_place:]},
        tuple(places.get(name, name) for name in constants),
        wrong=is_wrong,
    )


def rounded_later(dtype: Any) -> tuple[int | str, ...]:
    """``Call.constants`` for a first argument of a dtype: PyTorch adds up gradients in float16, rounding each sum."""
    return (0,) if dtype == np.float16 else ()


#: Ways to hand over an array in other memory: the same elements at the same places.
DRESSES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as it is": lambda a: a,
    "every second element": lambda a: _into(np.empty((*a.shape, 2), a.dtype)[..., 0], a),
    "backwards": lambda a: _into(np.empty_like(a, order="C"), a[(slice(None, None, -1),) * a.ndim])[
        (slice(None, None, -1),) * a.ndim
    ],
    "columns first": lambda a: np.array(a, order="F"),
    "read-only": lambda a: _read_only(a.copy()),
    "other byte order": lambda a: a.astype(a.dtype.newbyteorder()),
    "unaligned": lambda a: _into(_unaligned(a), a),
}


def _into(place: np.ndarray, a: np.ndarray) -> np.ndarray:
    place[...] = a
    return place


def _read_only(a: np.ndarray) -> np.ndarray:
    a.flags.writeable = False
    return a


def _unaligned(a: np.ndarray) -> np.ndarray:
    return np.empty(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)


def converted(
    call: Call, array: Callable[[np.ndarray, bool], Any], changed: list[Any] | None = None
) -> tuple[tuple[Any, ...], dict[str, Any], list[Any]]:
    """The arguments with ``array(a, wants_gradient)`` for each array, and those that want a gradient.

    Those that are changed in place, as copies, are put into ``changed``.
    """
    wanting: list[Any] = []

    def each(place: int | str, value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            return value
        wants = is_floating(value.dtype) and place not in call.constants
        made = array(value.copy() if place in call.changed else value, wants)
        if place in call.changed and changed is not None:
            changed.append(made)
        if wants:
            wanting.append(made)
        return made

    positional = tuple(each(place, value) for place, value in enumerate(call.arguments))
    return positional, {name: each(name, value) for name, value in call.keywords.items()}, wanting


def ours(name: str, call: Call, dress: str = "as it is", changed: list[Any] | None = None) -> tuple[Any, list[Tensor]]:
    dress = "as it is" if call.changed and dress == "read-only" else dress
    arguments, keywords, wanting = converted(
        call, lambda a, wants: Tensor(DRESSES[dress](a), requires_grad=wants), changed
    )
    return getattr(F, name)(*arguments, **keywords), wanting


def theirs(name: str, call: Call, changed: list[Any] | None = None) -> tuple[Any, list[Any]]:
    arguments, keywords, wanting = converted(call, of_theirs, changed)
    return getattr(torch.nn.functional, name)(*arguments, **keywords), wanting


BFLOAT16 = numpy_dtype("bfloat16")


def of_theirs(array: np.ndarray, wants: bool = False) -> Any:
    """A tensor of PyTorch's, which knows nothing of NumPy's bfloat16."""
    if array.dtype == BFLOAT16:
        return torch.tensor(array.astype(np.float32)).to(torch.bfloat16).requires_grad_(wants)
    return torch.tensor(array, requires_grad=wants)


def as_array(tensor: Any) -> np.ndarray:
    """An array of PyTorch's elements; forced, which its tensors of zeros without memory need."""
    if tensor.dtype == torch.bfloat16:
        return np.asarray(tensor.float().numpy(force=True).astype(BFLOAT16))
    return np.asarray(tensor.numpy(force=True))


def in_dtype(call: Call, dtype: np.dtype) -> Call:
    """The call with all its floating-point arrays in another dtype; as integers, they are of a few digits."""

    def each(value: Any) -> Any:
        if not isinstance(value, np.ndarray) or not is_floating(value.dtype):
            return value
        if is_floating(dtype):
            return value.astype(dtype)
        return np.asarray(np.clip(np.nan_to_num(np.rint(3 * value)), -100, 100)).astype(dtype)

    keywords = {name: each(value) for name, value in call.keywords.items()}
    return dataclasses.replace(call, arguments=tuple(map(each, call.arguments)), keywords=keywords)


class NoKernel(Exception):
    """PyTorch has no kernel for the dtype of a call, which it has on other devices."""


#: What it says then.
_NO_KERNEL = re.compile("not implemented for '(Half|BFloat16)'")


def accepted(name: str, call: Call, changed: list[Any] | None = None) -> tuple[Any, list[Any]] | None:
    """PyTorch's results, and the inputs that want a gradient; None for a call that both libraries refuse.

    Raises:
        Failed, AssertionError: pycnn does not refuse what PyTorch refuses, or not on purpose.
        NoKernel: PyTorch cannot compute it here.
    """
    try:
        return theirs(name, call, changed)
    except AttributeError:  # in PyTorch's own Python code
        return None
    except THEIR_REFUSALS as refusal:
        if _NO_KERNEL.search(str(refusal)):
            raise NoKernel from None
        with pytest.raises(OUR_REFUSALS) as caught:
            print("PyTorch refuses:", refusal, "- accepted:", ours(name, call))
        assert _is_on_purpose(caught.value), f"not a refusal of pycnn's own: {caught.value!r}"
        return None


def compare(name: str, case: Case, call: Call, dress: str = "as it is") -> bool:
    """Whether PyTorch accepts the call; pycnn must do the same, with the same results and gradients.

    Raises:
        AssertionError, Failed: it does not.
    """
    our_changed: list[Any] = []
    their_changed: list[Any] = []
    if any(array.dtype == np.float32 for array in arrays_of(call)):
        case = dataclasses.replace(case, bound=case.bound32)
    try:
        found = accepted(name, call, their_changed)
    except NoKernel:
        return False
    if found is None:
        return False
    expected, their_inputs = found
    try:
        y, our_inputs = ours(name, call, dress, our_changed)
    except OUR_REFUSALS:
        if call.wrong:
            return False
        raise
    for one, right in [*zip(our_changed, their_changed, strict=True), *pairs_of(y, expected)]:
        _compare_arrays(case, one, right)
        assert one.requires_grad == right.requires_grad
    order, _ = case.derivatives(call) or (2, "")
    _compare_derivatives(case, order, pairs_of(y, expected), our_inputs, their_inputs)
    return True


def compare_halves(name: str, case: Case, call: Call, dtype: np.dtype) -> bool:
    """Whether PyTorch accepts the call with all floating-point arrays in float16 or bfloat16.

    pycnn must do the same, with results of the same dtypes. They and the gradients must be PyTorch's for the same
    numbers in float32, rounded once: what it computes in halves it may round more than once.

    Raises:
        AssertionError, Failed: it does not.
    """
    call = in_dtype(call, dtype)
    wide = in_dtype(call, np.dtype(np.float32))
    our_changed: list[Any] = []
    their_changed: list[Any] = []
    try:
        found = accepted(name, call)
        if found is None:
            return False
        dtypes = [each.dtype for each in several(found[0])]
        expected, their_inputs = theirs(name, wide, their_changed)
    except NoKernel:
        found = accepted(name, wide, their_changed)
        if found is None:
            return False
        expected, their_inputs = found
        dtypes = [
            getattr(torch, dtype.name) if each.dtype == torch.float32 else each.dtype for each in several(expected)
        ]
    y, inputs = ours(name, call, changed=our_changed)
    assert [as_array(torch.empty(0, dtype=each)).dtype for each in dtypes] == [each.dtype for each in several(y)]
    for one, right in [*zip(our_changed, their_changed, strict=True), *pairs_of(y, expected)]:
        if one.dtype == dtype:
            assert_rounded(one.data, _held(as_array(right), dtype), case.bound32, least=1e-5)
        else:  # places, or results for which a dtype was asked
            _compare_arrays(case, one, right)
    if (case.derivatives(call) or (1, ""))[0]:
        for one, right in _gradients(pairs_of(y, expected), inputs, their_inputs, seed=1, create_graph=False):
            assert_rounded(one.data, _held(as_array(right), dtype), 10 * case.bound32, least=1e-2)
    return True


#: What an operation changes in place: a leaf, one that wants a gradient, or the result of another operation.
FORMS = ["leaf", "leaf that wants a gradient", "result"]


def compare_in_place(name: str, case: Case, call: Call, form: str) -> None:
    """The call with ``inplace=True``, which must change the same as PyTorch, return the same, and refuse the same.

    Raises:
        AssertionError, Failed: it does not.
    """
    array, *others = call.arguments
    wants = form != "leaf" and is_floating(array.dtype)
    leaf, their_leaf = Tensor(array.copy(), requires_grad=wants), of_theirs(array, wants)
    x, their_x = (leaf * 1, their_leaf * 1) if form == "result" and wants else (leaf, their_leaf)
    try:
        expected = getattr(torch.nn.functional, name)(their_x, *others, **call.keywords, inplace=True)
    except THEIR_REFUSALS as refusal:
        if "leaf Variable" in str(refusal) and getattr(F, name)(leaf, *others, **call.keywords) is leaf:
            return  # nothing is changed: but PyTorch's dropouts give the leaf another axis for a moment
        with pytest.raises((*OUR_REFUSALS, RuntimeError)) as caught:
            print("accepted:", getattr(F, name)(x, *others, **call.keywords, inplace=True))
        assert _is_on_purpose(caught.value), f"not a refusal of pycnn's own: {caught.value!r}"
        np.testing.assert_array_equal(x.data, array)
        return
    y = getattr(F, name)(x, *others, **call.keywords, inplace=True)
    assert (y is x) == (expected is their_x)
    if array.dtype == np.float32:
        case = dataclasses.replace(case, bound=case.bound32)
    for found, right in ((y, expected), (x, their_x)):
        _compare_arrays(case, found, right)
        assert found.requires_grad == right.requires_grad
    order, _ = case.derivatives(call) or (2, "")
    _compare_derivatives(case, min(order, 1), [(x, their_x)], [leaf], [their_leaf])


def several(results: Any) -> tuple[Any, ...]:
    """The results of an operation that has one or more."""
    return results if isinstance(results, tuple) else (results,)


def pairs_of(y: Any, expected: Any) -> list[tuple[Any, Any]]:
    """The results of both libraries, which must be as many."""
    assert isinstance(y, tuple) == isinstance(expected, tuple)
    return list(zip(several(y), several(expected), strict=True))


def _held(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Infinities for what a dtype of 16 bits does not hold."""
    beyond = np.isfinite(array) & ~np.isfinite(array.astype(dtype).astype(np.float64))
    return np.where(beyond, np.copysign(np.inf, array), array)


#: Where an argument's being wrong is looked for, and said.
_OWN_SOURCES = tuple(Path(package.__file__ or "").parent for package in (pycnn, pycnn_kernels))
#: What Python says itself of arguments that a signature has not, or lacks.
_CALL_BINDING = re.compile(r"unexpected keyword|positional argument|required keyword-only|multiple values")


def _is_on_purpose(refusal: BaseException) -> bool:
    """Whether a ``raise`` of pycnn is where it comes from, rather than a library that met what nobody had looked at."""
    if isinstance(refusal, TypeError) and _CALL_BINDING.search(str(refusal)):
        return True
    *_, (frame, line) = traceback.walk_tb(refusal.__traceback__)
    path = Path(frame.f_code.co_filename)
    if not any(path.is_relative_to(source) for source in _OWN_SOURCES):
        return False
    return line in _lines_that_raise(path)


@functools.cache
def _lines_that_raise(path: Path) -> set[int]:
    raises = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Raise)]
    return {line for node in raises for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)}


def _compare_arrays(case: Case, found: Tensor, right: Any, looser: float = 1, least: float = 0.0) -> None:
    array = as_array(right)
    assert found.dtype == array.dtype
    bound = looser * (case.bound32 if array.dtype == np.float32 else case.bound)
    assert_close(found.data, array, bound, max(least, 1e-5))  # what is small is a difference


def _compare_derivatives(
    case: Case, order: int, outputs: list[tuple[Any, Any]], inputs: list[Any], their_inputs: list[Any]
) -> None:
    """The gradients for given ones of the results, and those of their products with other arrays."""
    for derivative in range(1, order + 1):
        outputs = _gradients(outputs, inputs, their_inputs, seed=derivative, create_graph=derivative < order)
        for found, right in outputs:
            _compare_arrays(case, found, right, looser=10**derivative, least=10 ** (derivative - 3))


def _gradients(
    outputs: list[tuple[Any, Any]], inputs: list[Any], their_inputs: list[Any], seed: int, create_graph: bool
) -> list[tuple[Any, Any]]:
    """The gradients of outputs in both libraries, in pairs; an input that nothing depends on is left out."""
    outputs = [(found, right) for found, right in outputs if right.requires_grad]
    if not outputs:
        return []
    upstream = [normal(*found.shape, dtype=found.dtype, seed=seed) for found, _ in outputs]
    try:
        their_grads = torch.autograd.grad(
            [right for _, right in outputs], their_inputs, [of_theirs(u) for u in upstream],
            create_graph=create_graph, allow_unused=True,
        )  # fmt: skip
    except RuntimeError as refusal:
        is_lost = "In-place" in str(refusal)  # of slopes below 0 the results do not tell what the inputs were
        assert is_lost or 0 in [each.size for each in inputs], "PyTorch has gradients of all calls with elements"
        return []
    for each in inputs:
        each.grad = None
    for (found, _), u in zip(outputs, upstream):
        if found.requires_grad:  # a first derivative that is constant does not; PyTorch's has gradients of 0
            found.backward(u, retain_graph=True, create_graph=create_graph)
    pairs = []
    for each, right in zip(inputs, their_grads):
        if right is None:
            assert each.grad is None or not each.grad.data.any()
        else:
            pairs.append((Tensor(np.zeros(each.shape, each.dtype)) if each.grad is None else each.grad, right))
    return pairs
