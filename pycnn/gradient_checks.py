"""Gradients of functions against differences of their values: whether a backward belongs to its forward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pycnn.autograd import grad
from pycnn.tensor import Tensor
from pycnn_kernels.problem import is_floating


class GradcheckError(RuntimeError):
    """A gradient is not the derivative."""


def gradcheck(
    function: Callable[..., Any],
    inputs: Any,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
) -> bool:
    """Compare the gradients of a function with central differences, ``(f(x + eps) - f(x - eps)) / (2 * eps)``.

    All of both Jacobians are computed: the function is called twice for each element of the inputs, and the gradient
    once for each element of the outputs.

    Args:
        function: takes the inputs and returns a tensor, or a tuple of tensors and of what has no gradient. It must
            give the same for the same inputs, and have derivatives there: no kinks within ``eps``.
        inputs: a tensor, or a tuple of what the function takes. Those that require a gradient are checked, and must be
            float64; the others are passed as they are.
        eps: how far inputs are moved.
        atol, rtol: gradients may differ from differences by ``atol + rtol * abs(difference)``.
        raise_exception: whether to raise an error, or return False, where they differ.

    Returns:
        Whether all gradients are the derivatives.

    Raises:
        GradcheckError: they are not; says of which input and output, where, and both Jacobians' elements there.
        ValueError: no input requires a gradient, or one that does holds another dtype than float64.
        TypeError: the function returns no tensor.

    Source: ``torch.autograd.gradcheck``, https://docs.pytorch.org/docs/stable/generated/torch.autograd.gradcheck.gradcheck.html

    >>> import numpy as np
    >>> import pycnn.functional as F
    >>> x, w = (Tensor(np.random.default_rng(0).random(shape), requires_grad=True) for shape in ((1, 2, 4), (3, 2, 3)))
    >>> gradcheck(F.conv1d, (x, w))
    True
    """
    arguments = _arguments(inputs)
    checked = _checked_places(arguments, "gradcheck")
    with_gradients = _outputs(function, arguments)
    try:
        for place in checked:
            numerical = _numerical(function, arguments, place, eps)
            for number, (output, expected) in enumerate(zip(with_gradients, numerical)):
                found = _analytical(output, arguments[place])
                _compare(found, expected, atol, rtol, f"input {place}", f"output {number}")
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def gradgradcheck(
    function: Callable[..., Any],
    inputs: Any,
    grad_outputs: Any = None,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
) -> bool:
    """Check second derivatives: :func:`gradcheck` of the gradients of a function, by its inputs and ``grad_outputs``.

    Args:
        function, inputs, eps, atol, rtol, raise_exception: as for :func:`gradcheck`. In its messages the inputs are
            counted on into ``grad_outputs``, and output i is the gradient of the i-th input that requires one.
        grad_outputs: for each output that requires a gradient a tensor of its shape, what :func:`pycnn.grad` starts
            with; None draws normal numbers, always the same.

    Returns:
        Whether all second derivatives are right.

    Raises:
        GradcheckError, ValueError, TypeError: as :func:`gradcheck`; another number of ``grad_outputs`` than of outputs.

    Source: ``torch.autograd.gradgradcheck``,
    https://docs.pytorch.org/docs/stable/generated/torch.autograd.gradcheck.gradgradcheck.html

    >>> x = Tensor(np.array([1.0, 2.0]), requires_grad=True)
    >>> gradgradcheck(lambda x: x**3, x)
    True
    >>> gradgradcheck(lambda x: x.exp() * x.detach(), x, raise_exception=False)
    False
    """
    arguments = _arguments(inputs)
    checked = _checked_places(arguments, "gradgradcheck")
    outputs = [output for output in _outputs(function, arguments) if output.requires_grad]
    if not outputs:
        raise ValueError("gradgradcheck needs an output that requires a gradient; received none")
    starts = _starts(outputs, grad_outputs)

    def gradients(*values: Any) -> tuple[Tensor, ...]:
        values, given = values[: len(arguments)], values[len(arguments) :]
        ends = [output for output in _outputs(function, values) if output.requires_grad]
        found = grad(ends, [values[place] for place in checked], given, create_graph=True, allow_unused=True)
        return tuple(Tensor(np.zeros(())) if each is None else each for each in found)

    return gradcheck(gradients, (*arguments, *starts), eps, atol, rtol, raise_exception)


def _arguments(inputs: Any) -> tuple[Any, ...]:
    return tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)


def _checked_places(arguments: tuple[Any, ...], name: str) -> list[int]:
    """The places of the inputs that require a gradient."""
    places = [place for place, each in enumerate(arguments) if isinstance(each, Tensor) and each.requires_grad]
    if not places:
        raise ValueError(f"{name} needs an input that requires a gradient; received none")
    for place in places:
        dtype = arguments[place].dtype
        if dtype != np.float64:
            raise ValueError(
                f"{name} needs float64, in which differences are exact enough; input {place} holds {dtype}: "
                "convert it with astype('float64')"
            )
    return places


def _outputs(function: Callable[..., Any], arguments: Sequence[Any]) -> list[Tensor]:
    """The floating-point tensors that a function returns."""
    returned = function(*arguments)
    several = returned if isinstance(returned, tuple | list) else (returned,)
    found = [each for each in several if isinstance(each, Tensor) and is_floating(each.dtype)]
    if not found:
        raise TypeError(f"the function must return a tensor of floating-point numbers; received {returned!r}")
    return found


def _starts(outputs: list[Tensor], grad_outputs: Any) -> list[Tensor]:
    """What second derivatives are weighted with, tensors that require a gradient."""
    if grad_outputs is None:
        random = np.random.default_rng(0)
        grad_outputs = [
            Tensor(random.standard_normal(o.shape), backend=o.backend).astype(o.dtype).detach() for o in outputs
        ]
    given = _arguments(grad_outputs)
    if len(given) != len(outputs):
        raise ValueError(f"grad_outputs must have a tensor for each of {len(outputs)} outputs; received {len(given)}")
    starts = [each.detach() if isinstance(each, Tensor) else Tensor(each) for each in given]
    for start in starts:
        start.requires_grad = True
    return starts


def _analytical(output: Tensor, tensor: Tensor) -> np.ndarray:
    """The Jacobian (elements of the input, elements of the output) by gradients."""
    jacobian = np.zeros((tensor.size, output.size))
    if output.requires_grad:
        for element in range(output.size):
            start = np.zeros(output.size)
            start[element] = 1
            (found,) = grad(output, tensor, start.reshape(output.shape), retain_graph=True, allow_unused=True)
            if found is not None:
                jacobian[:, element] = _on_host(found)
    return jacobian


def _numerical(function: Callable[..., Any], arguments: tuple[Any, ...], place: int, eps: float) -> list[np.ndarray]:
    """The Jacobian of each output by differences."""
    values = _on_host(arguments[place])
    columns = []
    for element in range(values.size):
        ahead, behind = (
            [_on_host(output) for output in _outputs(function, _moved(arguments, place, values, element, step))]
            for step in (eps, -eps)
        )
        columns.append([(a - b) / (2 * eps) for a, b in zip(ahead, behind)])
    if not columns:
        return [np.zeros((0, output.size)) for output in _outputs(function, arguments)]
    return [np.stack(differences) for differences in zip(*columns)]


def _moved(arguments: tuple[Any, ...], place: int, values: np.ndarray, element: int, step: float) -> list[Any]:
    """The arguments with one element of one of them moved."""
    moved = values.copy()
    moved[element] += step
    original = arguments[place]
    tensor = Tensor(moved.reshape(original.shape), requires_grad=True, backend=original.backend)
    return [*arguments[:place], tensor, *arguments[place + 1 :]]


def _on_host(tensor: Tensor) -> np.ndarray:
    """The elements in a row, as float64."""
    return tensor.detach().numpy().astype(np.float64).ravel()


def _compare(found: np.ndarray, expected: np.ndarray, atol: float, rtol: float, input: str, output: str) -> None:
    """Raise a GradcheckError where an element of the two Jacobians differs."""
    if found.shape != expected.shape:
        raise GradcheckError(f"{output} changes its shape when {input} is moved")
    if np.allclose(found, expected, rtol, atol, equal_nan=True):
        return
    with np.errstate(invalid="ignore"):
        apart = np.abs(found - expected) - (atol + rtol * np.abs(expected))
    row, column = np.unravel_index(np.argmax(np.where(np.isnan(apart), np.inf, apart)), apart.shape)
    raise GradcheckError(
        f"the gradient of {output} with respect to {input} is not its derivative: for element {row} of {input} and "
        f"element {column} of {output} the gradient is {found[row, column]:.8g}, the difference "
        f"{expected[row, column]:.8g}.\nJacobian by gradients:\n{found}\nJacobian by differences:\n{expected}"
    )
