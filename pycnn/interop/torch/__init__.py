"""pycnn inside PyTorch: operations on its tensors, which it differentiates, and models whose layers pycnn computes.

``functional`` has the operations under PyTorch's names; they take and give PyTorch's tensors, of the same memory on the
CPU, and PyTorch records their gradients, first and higher ones.

>>> import torch
>>> from pycnn.interop.torch import functional as F
>>> image = torch.ones(1, 1, 3, 3, requires_grad=True)
>>> y = F.conv2d(image, torch.ones(1, 1, 2, 2))
>>> y.sum().backward()
>>> image.grad[0, 0]
tensor([[1., 2., 1.],
        [2., 4., 2.],
        [1., 2., 1.]])

:func:`accelerate` lets pycnn compute the layers of a model that is there already, wherever that is faster, and
:func:`restore` takes it back.
"""

from pycnn import functional
from pycnn.interop.torch.acceleration import Report, Row, accelerate, restore

__all__ = ["Report", "Row", "accelerate", "functional", "restore"]
