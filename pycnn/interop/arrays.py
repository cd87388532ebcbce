"""Arrays of other packages: taken without a copy where their memory allows it, and given back as what came.

NumPy's and CuPy's arrays, tensors, numbers and lists are read as they are. Arrays of PyTorch, and of packages that
follow the array API standard (JAX, for one), become views of NumPy's or CuPy's, and results become arrays of theirs.
No package is imported here that the caller has not imported.

Source: the array API standard, https://data-apis.org/array-api/latest/
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np

from pycnn import backend as backends
from pycnn.tensor import Tensor


class Kind:
    """How arrays of a package are read, and results made its arrays. This one is of what needs neither."""

    #: Whether arrays are of another package than those that operations compute with.
    is_foreign = False

    def read(self, value: Any) -> Any:
        """The array as NumPy's or CuPy's, the same memory where it can be."""
        return value

    def give(self, result: Any, like: Any) -> Any:
        """A result, NumPy's or CuPy's, as an array of the package that ``like`` is of."""
        return result

    def at_hand(self, value: Any) -> contextlib.AbstractContextManager[Any]:
        """Inside this block operations are queued where the array's package queues its own."""
        return contextlib.nullcontext()

    def records(self, values: list[Any]) -> bool:
        """Whether the package records the gradients of a call with these arrays itself."""
        return False

    def recorded(self, function: Callable[..., Any], arguments: tuple[Any, ...], settings: dict[str, Any]) -> Any:
        """The call with its gradients recorded by the package."""
        raise NotImplementedError


class _Standard(Kind):
    """Arrays of a package that follows the array API standard."""

    is_foreign = True

    def read(self, value: Any) -> Any:
        return backends.asarray(value, backend="cuda") if backends.is_on_gpu(value) else on_this_host(value)

    def give(self, result: Any, like: Any) -> Any:
        namespace = like.__array_namespace__()
        return namespace.from_dlpack(result) if backends.is_on_gpu(result) else namespace.asarray(result)


def on_this_host(value: Any) -> np.ndarray:
    """An array of another package as NumPy's, of the same memory where both packages know how."""
    return np.asarray(value) if hasattr(value, "__array__") else np.from_dlpack(value)


def _kind_of_type(type_: type) -> Kind:
    package = type_.__module__.partition(".")[0]
    if package == "torch" or any(base.__module__ == "torch" for base in type_.__mro__):
        from pycnn.interop.torch import KIND  # imports PyTorch, which is there already

        return KIND
    if package not in ("numpy", "cupy", "pycnn") and hasattr(type_, "__array_namespace__"):
        return _STANDARD
    return _OWN


_OWN, _STANDARD = Kind(), _Standard()
_kinds: dict[type, Kind] = {np.ndarray: _OWN, Tensor: _OWN}


def kind_of(value: Any) -> Kind:
    """The kind of an argument of whatever type, remembered for its type.

    >>> kind_of(np.zeros(3)).is_foreign, kind_of("same").is_foreign
    (False, False)
    """
    type_ = type(value)
    found = _kinds.get(type_)
    if found is None:
        found = _kinds[type_] = _kind_of_type(type_)
    return found


_Operation = TypeVar("_Operation", bound=Callable[..., Any])


def drop_in(function: _Operation) -> _Operation:
    """An operation for everybody's arrays, and with ``backend`` for a call.

    What the first argument is decides what the results are: an array of PyTorch, JAX or another package gives such
    arrays again. Whatever ``backend`` names is where the call is computed and its result is; arrays elsewhere go there
    first, tensors with their gradients. The function itself sees arrays of NumPy or CuPy, and tensors, in one place.
    """

    @wraps(function)
    def operation(*arguments: Any, backend: str | backends.Backend | None = None, **settings: Any) -> Any:
        # Two lookups for NumPy's arrays: small calls count in microseconds.
        if backend is None and arguments and _kinds.get(type(arguments[0])) is _OWN:
            return function(*arguments, **settings)
        return _elsewhere(function, arguments, settings, backend)

    return cast(_Operation, operation)


def _elsewhere(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    settings: dict[str, Any],
    backend: str | backends.Backend | None,
) -> Any:
    """A call with arrays of another package, or on a backend that the call names."""
    values = [*arguments, *settings.values()]
    if not values:
        return function()  # which says what it lacks
    first = values[0]
    kind = kind_of(first)
    if kind.is_foreign and kind.records(values):
        return kind.recorded(drop_in(function), arguments, settings | {"backend": backend})
    there = None if backend is None else backends.get(backend)
    originals: dict[int, tuple[Any, Any]] = {}

    def ready(value: Any) -> Any:
        """An argument as the function takes it."""
        read = kind_of(value).read(value)
        if there is not None:
            read = _moved(read, there)
        originals[id(read)] = read, value  # and keeps it alive, so that no other gets its id
        return read

    def given(result: Any) -> Any:
        """A result as the caller's package has it; an argument that was changed in place as itself."""
        if isinstance(result, tuple):
            return tuple(map(given, result))
        if id(result) in originals:
            return originals[id(result)][1]
        is_array = isinstance(result, np.ndarray | np.generic) or backends.is_on_gpu(result)
        return kind.give(result, first) if is_array and not isinstance(result, Tensor) else result

    with contextlib.nullcontext() if there is None else backends.use_backend(there), kind.at_hand(first):
        result = function(*map(ready, arguments), **{name: ready(value) for name, value in settings.items()})
    return given(result)


def _moved(value: Any, there: backends.Backend) -> Any:
    """A tensor or an array on a backend; anything else as it is."""
    if isinstance(value, Tensor):
        return value.to(there.name)
    if isinstance(value, np.ndarray) or backends.is_on_gpu(value):
        return backends.asarray(value, backend=there)
    return value
