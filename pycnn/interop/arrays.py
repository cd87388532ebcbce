"""Arrays of other packages: taken without a copy where their memory allows it, and given back as what came.

The first array among the arguments of an operation decides what its results are: NumPy's for NumPy's, PyTorch's for
PyTorch's, and so on for every package that follows the array API standard (JAX, for one). The other arguments may be
of any package. A :class:`~pycnn.Tensor` among the arguments makes the results tensors, wherever it stands. What says
only by a protocol what it holds (``__array__``, ``__array_interface__``, DLPack), numbers and lists are read as
NumPy's arrays.

No package is imported here that the caller has not imported.

Source: the array API standard, https://data-apis.org/array-api/latest/
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from functools import partial, wraps
from typing import Any, TypeVar, cast

import numpy as np

from pycnn import backend as backends
from pycnn.tensor import Tensor

_NOTHING = contextlib.nullcontext()


class Kind:
    """How arrays of a package are read, and results made its arrays. This one is of what needs neither.

    Attributes:
        is_array: whether these are arrays, of whatever package.
        is_foreign: whether they are of another package than those that operations compute with.
    """

    def __init__(self, is_array: bool = False, is_foreign: bool = False):
        self.is_array, self.is_foreign = is_array, is_foreign

    def read(self, value: Any) -> Any:
        """The array as NumPy's or CuPy's, the same memory where it can be."""
        return value

    def give(self, result: Any, like: Any) -> Any:
        """A result, NumPy's or CuPy's, as an array of the package that ``like`` is of."""
        return result

    def at_hand(self, value: Any) -> contextlib.AbstractContextManager[Any]:
        """Inside this block operations are queued where the array's package queues its own.

        Arrays of others are where they are: the default backend decides about data that is nowhere yet.
        """
        if self.is_foreign and backends.get().name != "cpu" and not backends.is_on_gpu(value):
            return backends.use_backend("cpu")
        return _NOTHING

    def prepared(self, operation: str, values: list[Any]) -> list[Any]:
        """The arguments of an operation as the package wants them at this time."""
        return values

    def changed(self, value: Any) -> None:
        """Tell the package that an operation has changed the elements of this array."""

    def records(self, values: list[Any]) -> bool:
        """Whether the package records the gradients of a call with these arguments itself."""
        return False

    def recorded(self, call: Callable[[list[Any]], Any], values: list[Any]) -> Any:
        """``call(values)`` with its gradients recorded by the package; tensors of pycnn stand for its arrays."""
        raise NotImplementedError

    def overwritten(self, value: Any, compute: Callable[[Any], Any]) -> Any:
        """``compute`` of a copy of the array, recorded by the package, and then the array with the result in it."""
        raise NotImplementedError


class _Protocols(Kind):
    """What has elements by one of the protocols."""

    def read(self, value: Any) -> Any:
        if backends.is_on_gpu(value):
            return backends.get("cuda").xp.asarray(value)
        if any(hasattr(type(value), name) for name in _NUMPYS):
            return np.asarray(value)
        device, _ = value.__dlpack_device__()
        return np.from_dlpack(value) if device in _ON_HOST else backends.get("cuda").xp.from_dlpack(value)


#: DLPack's numbers of memory that the CPU reads: its own, and that which CUDA or ROCm have pinned.
_ON_HOST = (1, 3, 11)

#: Protocols that NumPy reads by itself, and all protocols.
_NUMPYS = ("__array__", "__array_interface__", "__array_struct__")
_ALL = (*_NUMPYS, "__cuda_array_interface__", "__dlpack__")


class _Standard(_Protocols):
    """Arrays of a package that follows the array API standard."""

    def read(self, value: Any) -> Any:
        if _is_traced(value):
            raise TypeError(
                "pycnn computes on the values of arrays, which JAX's jit, grad and vmap do not have while they trace a "
                f"function: call it outside of them, or through jax.pure_callback; received a {type(value).__name__}"
            )
        return super().read(value)

    def give(self, result: Any, like: Any) -> Any:
        namespace = like.__array_namespace__()
        try:
            return namespace.from_dlpack(result)
        except BufferError:  # DLPack has no bfloat16, and in its first version no memory that is read-only
            return namespace.asarray(result)


def _is_traced(value: Any) -> bool:
    """Whether it is JAX's stand-in for an array while it traces a function."""
    return any(base.__name__ == "Tracer" and base.__module__.startswith("jax.") for base in type(value).__mro__)


def _kind_of_type(type_: type) -> Kind:
    if any(base.__name__ == "Tensor" and base.__module__ == "torch" for base in type_.__mro__):
        from pycnn.interop.torch.arrays import KIND  # imports PyTorch, which is there already

        return KIND
    if issubclass(type_, np.ndarray | np.generic | Tensor) or type_.__module__.partition(".")[0] == "cupy":
        return _OWN
    if hasattr(type_, "__array_namespace__"):
        return _STANDARD
    return _PROTOCOLS if any(hasattr(type_, name) for name in _ALL) else _PLAIN


_OWN, _PLAIN = Kind(is_array=True), Kind()
_PROTOCOLS, _STANDARD = _Protocols(is_array=True), _Standard(is_array=True, is_foreign=True)
_kinds: dict[type, Kind] = {np.ndarray: _OWN, Tensor: _OWN}


def kind_of(value: Any) -> Kind:
    """The kind of an argument of whatever type, remembered for its type.

    >>> kind_of(np.zeros(3)).is_array, kind_of(np.zeros(3)).is_foreign, kind_of("same").is_array
    (True, False, False)
    """
    type_ = type(value)
    found = _kinds.get(type_)
    if found is None:
        found = _kinds[type_] = _kind_of_type(type_)
    return found


_Operation = TypeVar("_Operation", bound=Callable[..., Any])


def drop_in(function: _Operation) -> _Operation:
    """An operation for everybody's arrays, and with ``backend`` for a call.

    What the first array is decides what the results are: one of PyTorch, JAX or another package gives such arrays
    again. Whatever ``backend`` names is where the call is computed and its result is; arrays elsewhere go there first,
    tensors with their gradients. The function itself sees arrays of NumPy or CuPy, and tensors, in one place.
    """
    names = list(inspect.signature(function).parameters)
    place = names.index("inplace") if "inplace" in names else None

    @wraps(function)
    def operation(*arguments: Any, backend: str | backends.Backend | None = None, **settings: Any) -> Any:
        # Two lookups for NumPy's arrays: small calls count in microseconds.
        if backend is None and arguments and _kinds.get(type(arguments[0])) is _OWN:
            return function(*arguments, **settings)
        return _elsewhere(function, place, arguments, settings, backend)

    return cast(_Operation, operation)


def _elsewhere(
    function: Callable[..., Any],
    place: int | None,
    arguments: tuple[Any, ...],
    settings: dict[str, Any],
    backend: str | backends.Backend | None,
) -> Any:
    """A call with arrays of another package, or on a backend that the call names.

    ``place`` is the position of the function's argument "inplace", its last one; None where it has none.
    """
    in_place = False
    if place is not None:
        in_place = bool(arguments[place] if len(arguments) > place else settings.pop("inplace", False))
        arguments = arguments[:place] + arguments[place + 1 :]
    values = [part for value in (*arguments, *settings.values()) for part in _parts(value)]

    def call(values: list[Any], **flag: bool) -> Any:
        parts = iter(values)
        positional = [_filled(value, parts) for value in arguments]
        return function(*positional, **{name: _filled(value, parts) for name, value in settings.items()}, **flag)

    first = next((value for value in values if kind_of(value).is_array), None)
    kind = kind_of(first)
    values = kind.prepared(function.__name__, values)
    if kind.records(values):

        def recorded(values: list[Any]) -> Any:
            return kind.recorded(lambda tensors: _computed(call, tensors, _OWN, None, backend), values)

        if not in_place:
            return recorded(values)
        return kind.overwritten(first, lambda copy: recorded([copy if value is first else value for value in values]))
    if not in_place:
        return _computed(call, values, kind, first, backend)
    result = _computed(partial(call, inplace=True), values, kind, first, backend)
    kind.changed(first)
    return result


def _parts(value: Any) -> Iterator[Any]:
    """An argument; of a named tuple, such as a norm, what is in it."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        for each in value:
            yield from _parts(each)
    else:
        yield value


def _filled(value: Any, parts: Iterator[Any]) -> Any:
    """The argument with the next parts in the places of its own."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_filled(each, parts) for each in value))
    return next(parts)


def _computed(
    call: Callable[[list[Any]], Any], values: list[Any], kind: Kind, first: Any, backend: str | backends.Backend | None
) -> Any:
    """``call`` of arrays of NumPy or CuPy, and tensors; its results are of the kind of ``first``.

    An argument that comes back, changed in place or as it was, is the caller's own.
    """
    there = None if backend is None else backends.get(backend)
    originals: dict[int, tuple[Any, Any]] = {}
    ready = []
    for value in values:
        read = kind_of(value).read(value)
        if there is not None:
            read = _moved(read, there)
        originals[id(read)] = read, value  # and keeps it alive, so that no other gets its id
        ready.append(read)
    with kind.at_hand(first), _NOTHING if there is None else backends.use_backend(there):
        result = call(ready)

    return _given(result, originals, kind, first)


def _given(result: Any, originals: dict[int, tuple[Any, Any]], kind: Kind, first: Any) -> Any:
    if isinstance(result, tuple):
        return tuple([_given(each, originals, kind, first) for each in result])
    if id(result) in originals:
        return originals[id(result)][1]
    is_array = not isinstance(result, Tensor) and kind_of(result).is_array
    return kind.give(result, first) if is_array else result


def _moved(value: Any, there: backends.Backend) -> Any:
    """A tensor or an array on a backend; anything else as it is."""
    if isinstance(value, Tensor):
        return value.to(there.name)
    return backends.asarray(value, backend=there) if kind_of(value).is_array else value
