"""The loss and metrics of a compiled model, with running averages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import NDArray

from pycnn import losses, metrics
from pycnn.losses import Loss
from pycnn.metrics import Metric
from pycnn.shapes import Shape
from pycnn.tensor import Tensor


class Objective:
    """What training minimises and what it reports.

    Args:
        loss: name, function or object.
        requested: metrics, each a name, function or object.

    Raises:
        ValueError: for an unknown name.
    """

    def __init__(
        self,
        loss: str | Loss | Callable[..., Tensor],
        requested: Sequence[str | Metric | Callable[..., Any]],
    ) -> None:
        self.loss = losses.get(loss)
        if self.loss.reduction == "none":
            raise ValueError(f"loss: expected one number per batch, received {self.loss.name} with reduction 'none'")
        # Unknown names are found now; what "accuracy" means is known only with the shapes of the data.
        self._requested: list[str | Metric] = [
            name if isinstance(name, str) and name in metrics.BY_SHAPE else metrics.get(name) for name in requested
        ]
        self._metrics: list[Metric] | None = None
        self.reset()

    @property
    def names(self) -> list[str]:
        """ "loss" and the names of the metrics."""
        return ["loss", *(metric if isinstance(metric, str) else metric.name for metric in self._requested)]

    def prepare(self, y: NDArray[Any], output_shape: Shape) -> None:
        """Check all labels against the model's output shape, and settle what "accuracy" means.

        Raises:
            ValueError: for labels that the loss cannot take.
        """
        self.loss.check_targets(y, output_shape)
        if self._metrics is None:
            self._metrics = [metrics.resolve(metric, y.shape, output_shape) for metric in self._requested]

    def forget_shapes(self) -> None:
        """Settle anew what "accuracy" means at the next :meth:`prepare`."""
        self._metrics = None

    def reset(self) -> None:
        """Begin all averages anew."""
        self._total, self._samples = 0.0, 0
        for metric in self._metrics or ():
            metric.reset_state()

    def update(self, loss: float, y_true: NDArray[Any], y_pred: NDArray[Any]) -> None:
        """Take a batch into account; the loss counts as often as it has samples."""
        self._total += loss * len(y_true)
        self._samples += len(y_true)
        for metric in self._metrics or ():
            metric.update_state(y_true, y_pred)

    def result(self) -> dict[str, float]:
        """The averages over all samples since the last reset."""
        averages = {"loss": self._total / self._samples if self._samples else 0.0}
        for metric in self._metrics or ():
            averages[metric.name] = float(metric.result())
        return averages
