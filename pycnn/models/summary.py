"""The table that ``model.summary()`` prints."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from pycnn.console import Justify, has_live_terminal, rich_console, table_lines
from pycnn.tensor import Tensor

if TYPE_CHECKING:
    from pycnn.layers.layer import Layer
    from pycnn.models.model import Model
    from pycnn.shapes import Shape

_HEADER = ("Layer (type)", "Output Shape", "Param #")
_JUSTIFY: tuple[Justify, ...] = ("left", "left", "right")
#: Parts of the line that the columns take, as in Keras.
_COLUMN_PARTS = (0.45, 0.35, 0.20)
_LONGEST_LINE = 88


def print_summary(model: Model, print_fn: Callable[[str], Any] | None = None) -> None:
    """Print the summary of a model: with rich on a terminal, as plain text elsewhere or to ``print_fn``."""
    if print_fn is None and has_live_terminal():
        _print_rich(model)
    else:
        (print_fn or print)("\n".join(_plain_lines(model)))


def memory(weights: Iterable[Tensor]) -> str:
    """What weights take in memory.

    >>> memory([Tensor([[0.0] * 512])])
    '2.00 KB'
    """
    size = float(sum(weight.size * weight.dtype.itemsize for weight in weights))
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1024:
            return f"{size:.2f} {unit}"
        size /= 1024
    return f"{size:.2f} TB"


def _rows(model: Model) -> list[tuple[str, str, str]]:
    return [
        (f"{layer.name} ({type(layer).__name__})", _shape(shape), _parameters(layer))
        for layer, shape in zip(model.layers, model.output_shapes())
    ]


def _shape(shape: Shape | None) -> str:
    return "?" if shape is None else str(shape)


def _parameters(layer: Layer) -> str:
    return f"{layer.count_params():,}" if layer.built else "0 (unbuilt)"


def _totals(model: Model) -> list[tuple[str, str]]:
    groups = (
        ("Total params", model.weights),
        ("Trainable params", model.trainable_weights),
        ("Non-trainable params", model.non_trainable_weights),
    )
    return [
        (name, f"{sum(math.prod(weight.shape) for weight in weights):,} ({memory(weights)})")
        for name, weights in groups
    ]


def _line_length() -> int:
    return min(_LONGEST_LINE, shutil.get_terminal_size().columns - 4)


def _plain_lines(model: Model) -> list[str]:
    borders = 3 * len(_HEADER) + 1
    widths = [int(part * (_line_length() - borders)) for part in _COLUMN_PARTS]
    table = table_lines(_HEADER, _rows(model), justify=_JUSTIFY, widths=widths, rules=True)
    totals = [f" {name}: {value}" for name, value in _totals(model)]
    return [f'Model: "{model.name}"', *table, *totals]


def _print_rich(model: Model) -> None:
    from rich.markup import escape
    from rich.table import Table

    console = rich_console()
    table = Table(width=_line_length(), show_lines=True)
    for name, part, side in zip(_HEADER, _COLUMN_PARTS, _JUSTIFY):
        table.add_column(name, width=int(part * _line_length()), justify=side)
    for name, shape, parameters in _rows(model):
        table.add_row(escape(name), f"[cyan]{shape}[/]", f"[green]{parameters}[/]")
    console.print(f'[bold]Model: "{escape(model.name)}"[/]')
    console.print(table)
    for name, value in _totals(model):
        console.print(f"[bold] {name}:[/] {value}")
