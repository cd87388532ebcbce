"""pycnn: a compiled-kernel convolution engine for Python.

The names here are imported when they are first used: ``import pycnn`` alone loads neither NumPy nor the compiler,
and the command ``pycnn`` can report what is wrong with the engine's settings.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pycnn import (
        activations,
        applications,
        autograd,
        backend,
        callbacks,
        constraints,
        datasets,
        functional,
        initializers,
        interop,
        layers,
        losses,
        metrics,
        models,
        optimizers,
        random,
        regularizers,
        saving,
        signal,
        utils,
    )
    from pycnn.autograd import grad, no_grad
    from pycnn.backend import BackendError, set_backend, use_backend
    from pycnn.explanation import explain
    from pycnn.gradient_checks import GradcheckError, gradcheck, gradgradcheck
    from pycnn.layers.input import Input
    from pycnn.layers.layer import Layer
    from pycnn.layers.symbolic import KerasTensor
    from pycnn.models.model import Model
    from pycnn.models.sequential import Sequential
    from pycnn.tensor import Tensor
    from pycnn_kernels.autotune import forget_timings
    from pycnn_kernels.cpu.launch import get_num_threads, set_num_threads
    from pycnn_kernels.memory import (
        MemoryLimitError,
        MemoryStats,
        get_memory_limit,
        memory_stats,
        release_memory,
        reset_memory_stats,
        set_memory_limit,
    )

__version__ = "0.1.0"

__all__ = [
    "BackendError",
    "GradcheckError",
    "Input",
    "KerasTensor",
    "Layer",
    "MemoryLimitError",
    "MemoryStats",
    "Model",
    "Sequential",
    "Tensor",
    "activations",
    "applications",
    "autograd",
    "backend",
    "callbacks",
    "constraints",
    "datasets",
    "explain",
    "forget_timings",
    "functional",
    "get_memory_limit",
    "get_num_threads",
    "grad",
    "gradcheck",
    "gradgradcheck",
    "initializers",
    "interop",
    "layers",
    "losses",
    "memory_stats",
    "metrics",
    "models",
    "no_grad",
    "optimizers",
    "random",
    "regularizers",
    "release_memory",
    "reset_memory_stats",
    "saving",
    "set_backend",
    "set_memory_limit",
    "set_num_threads",
    "signal",
    "use_backend",
    "utils",
]

#: Where the names live that are no modules of pycnn themselves.
_HOMES = {
    "Tensor": "pycnn.tensor",
    "grad": "pycnn.autograd",
    "no_grad": "pycnn.autograd",
    "GradcheckError": "pycnn.gradient_checks",
    "gradcheck": "pycnn.gradient_checks",
    "gradgradcheck": "pycnn.gradient_checks",
    "Input": "pycnn.layers.input",
    "KerasTensor": "pycnn.layers.symbolic",
    "Layer": "pycnn.layers.layer",
    "Model": "pycnn.models.model",
    "Sequential": "pycnn.models.sequential",
    "BackendError": "pycnn.backend",
    "set_backend": "pycnn.backend",
    "use_backend": "pycnn.backend",
    "explain": "pycnn.explanation",
    "forget_timings": "pycnn_kernels.autotune",
    "get_num_threads": "pycnn_kernels.cpu.launch",
    "set_num_threads": "pycnn_kernels.cpu.launch",
    "MemoryLimitError": "pycnn_kernels.memory",
    "MemoryStats": "pycnn_kernels.memory",
    "get_memory_limit": "pycnn_kernels.memory",
    "memory_stats": "pycnn_kernels.memory",
    "release_memory": "pycnn_kernels.memory",
    "reset_memory_stats": "pycnn_kernels.memory",
    "set_memory_limit": "pycnn_kernels.memory",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'pycnn' has no attribute {name!r}")
    home = _HOMES.get(name)
    value = import_module(f"pycnn.{name}") if home is None else getattr(import_module(home), name)
    globals()[name] = value  # found here from now on, without this function
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
