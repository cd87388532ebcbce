"""PyTorch's names of the activations that change their input: each is the one without the underscore, in place."""

from __future__ import annotations

from typing import Any

from pycnn.functional import piecewise, rectifier
from pycnn.functional.activation import relu


def relu_(input: Any, *, backend: str | None = None) -> Any:
    """:func:`relu` with ``inplace=True``; the same errors.

    Args:
        input, backend: as for :func:`relu`.

    Returns:
        The input, changed.

    Raises:
        TypeError, RuntimeError, ValueError: as :func:`relu`.

    Source: ``torch.nn.functional.relu_``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.relu_.html

    >>> import numpy as np
    >>> x = np.array([-1.0, 2.0])
    >>> relu_(x) is x, x
    (True, array([0., 2.]))
    """
    return relu(input, True, backend=backend)


def leaky_relu_(input: Any, negative_slope: float = 0.01, *, backend: str | None = None) -> Any:
    """:func:`leaky_relu` with ``inplace=True``; the same errors.

    Args:
        input, negative_slope, backend: as for :func:`leaky_relu`.

    Returns:
        The input, changed.

    Raises:
        TypeError, RuntimeError, ValueError: as :func:`leaky_relu`.

    Source: ``torch.nn.functional.leaky_relu_``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.leaky_relu_.html

    >>> import numpy as np
    >>> x = np.array([-1.0, 2.0])
    >>> leaky_relu_(x, 0.5) is x, x
    (True, array([-0.5,  2. ]))
    """
    return rectifier.leaky_relu(input, negative_slope, inplace=True, backend=backend)


def rrelu_(
    input: Any, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False, *, backend: str | None = None
) -> Any:
    """:func:`rrelu` with ``inplace=True``; the same errors.

    Args:
        input, lower, upper, training, backend: as for :func:`rrelu`.

    Returns:
        The input, changed.

    Raises:
        TypeError, RuntimeError, ValueError: as :func:`rrelu`.

    Source: ``torch.nn.functional.rrelu_``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.rrelu_.html

    >>> import numpy as np
    >>> x = np.array([-1.0, 2.0])
    >>> rrelu_(x, 0.25, 0.75) is x, x
    (True, array([-0.5,  2. ]))
    """
    return rectifier.rrelu(input, lower, upper, training, inplace=True, backend=backend)


def elu_(input: Any, alpha: float = 1.0, *, backend: str | None = None) -> Any:
    """:func:`elu` with ``inplace=True``; the same errors.

    Args:
        input, alpha, backend: as for :func:`elu`.

    Returns:
        The input, changed.

    Raises:
        TypeError, RuntimeError, ValueError: as :func:`elu`.

    Source: ``torch.nn.functional.elu_``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.elu_.html

    >>> import numpy as np
    >>> x = np.array([-1.0, 2.0])
    >>> elu_(x, 0.0) is x, x
    (True, array([-0.,  2.]))
    """
    return rectifier.elu(input, alpha, inplace=True, backend=backend)


def selu_(input: Any, *, backend: str | None = None) -> Any:
    """:func:`selu` with ``inplace=True``; the same errors.

    Args:
        input, backend: as for :func:`selu`.

    Returns:
        The input, changed.

    Raises:
        TypeError, RuntimeError, ValueError: as :func:`selu`.

    Source: ``torch.nn.functional.selu_``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.selu_.html

    >>> import numpy as np
    >>> x = np.array([-1.0, 2.0])
    >>> selu_(x) is x, x.round(4)
    (True, array([-1.1113,  2.1014]))
    """
    return rectifier.selu(input, inplace=True, backend=backend)


def celu_(input: Any, alpha: float = 1.0, *, backend: str | None = None) -> Any:
    """:func:`celu` with ``inplace=True``; the same errors.

    Args:
        input, alpha, backend: as for :func:`celu`.

    Returns:
        The input, changed.

    Raises:
        TypeError, RuntimeError, ValueError: as :func:`celu`.

    Source: ``torch.nn.functional.celu_``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.celu_.html

    >>> import numpy as np
    >>> x = np.array([-1.0, 2.0])
    >>> celu_(x, 100.0) is x, x
    (True, array([-0.99501663,  2.        ]))
    """
    return rectifier.celu(input, alpha, inplace=True, backend=backend)


def threshold_(input: Any, threshold: float, value: float, *, backend: str | None = None) -> Any:
    """:func:`threshold` with ``inplace=True``; the same errors.

    Args:
        input, threshold, value, backend: as for :func:`threshold`.

    Returns:
        The input, changed.

    Raises:
        TypeError, RuntimeError, ValueError: as :func:`threshold`.

    Source: ``torch.nn.functional.threshold_``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.threshold_.html

    >>> import numpy as np
    >>> x = np.array([-1.0, 2.0])
    >>> threshold_(x, 0.0, 5.0) is x, x
    (True, array([5., 2.]))
    """
    return rectifier.threshold(input, threshold, value, inplace=True, backend=backend)


def hardtanh_(input: Any, min_val: float = -1.0, max_val: float = 1.0, *, backend: str | None = None) -> Any:
    """:func:`hardtanh` with ``inplace=True``; the same errors.

    Args:
        input, min_val, max_val, backend: as for :func:`hardtanh`.

    Returns:
        The input, changed.

    Raises:
        TypeError, RuntimeError, ValueError: as :func:`hardtanh`.

    Source: ``torch.nn.functional.hardtanh_``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.hardtanh_.html

    >>> import numpy as np
    >>> x = np.array([-1.0, 2.0])
    >>> hardtanh_(x) is x, x
    (True, array([-1.,  1.]))
    """
    return piecewise.hardtanh(input, min_val, max_val, inplace=True, backend=backend)
