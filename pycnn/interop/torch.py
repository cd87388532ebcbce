"""pycnn inside PyTorch: its tensors as arguments and results of every operation, with PyTorch's own gradients."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from pycnn import backend as backends
from pycnn.interop.arrays import Kind
from pycnn_kernels.problem import is_half, numpy_dtype


class _Torch(Kind):
    is_foreign = True

    def read(self, value: torch.Tensor) -> Any:
        value = value.detach().resolve_neg()
        if value.is_cuda:
            return backends.asarray(value, backend="cuda")
        if value.dtype == torch.bfloat16:  # which NumPy knows by ml_dtypes only
            return value.view(torch.int16).numpy().view(numpy_dtype("bfloat16"))
        return value.numpy()

    def give(self, result: Any, like: torch.Tensor) -> torch.Tensor:
        if backends.is_on_gpu(result):
            return torch.from_dlpack(result)
        array = np.asarray(result)
        if not array.flags.writeable or min(array.strides, default=0) < 0:  # which PyTorch has not
            array = array.copy()
        if is_half(array.dtype) and array.dtype != np.float16:
            return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(array)

    def at_hand(self, value: torch.Tensor) -> contextlib.AbstractContextManager[Any]:
        if not value.is_cuda:
            return contextlib.nullcontext()
        stream = torch.cuda.current_stream(value.device)
        return backends.get("cuda").xp.cuda.ExternalStream(stream.cuda_stream, value.device.index)

    def records(self, values: list[Any]) -> bool:
        return torch.is_grad_enabled() and any(isinstance(v, torch.Tensor) and v.requires_grad for v in values)

    def recorded(self, function: Callable[..., Any], arguments: tuple[Any, ...], settings: dict[str, Any]) -> Any:
        raise NotImplementedError


KIND = _Torch()
