"""The table that ``model.summary()`` prints."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pycnn.console import Justify, has_live_terminal, rich_console, table_lines
from pycnn.tensor import Tensor

if TYPE_CHECKING:
    from pycnn.layers.layer import Layer
    from pycnn.models.graph import Graph
    from pycnn.models.model import Model


class _Layout(NamedTuple):
    """Columns of the table, as in Keras."""

    header: tuple[str, ...]
    justify: tuple[Justify, ...]
    #: Where each column ends, as parts of the line.
    positions: tuple[float, ...]
    #: Characters of the longest line.
    longest: int


_STACK = _Layout(("Layer (type)", "Output Shape", "Param #"), ("left", "left", "right"), (0.45, 0.80, 1.0), 88)
_GRAPH = _Layout(
    ("Layer (type)", "Output Shape", "Param #", "Connected to"),
    ("left", "left", "right", "left"),
    (0.3, 0.56, 0.74, 1.0),
    108,
)
#: Characters and part of the line of the column that says what is trained.
_TRAINABLE_LENGTH, _TRAINABLE_PART = 12, 0.1


def print_summary(
    model: Model,
    line_length: int | None = None,
    positions: Sequence[float] | None = None,
    print_fn: Callable[[str], Any] | None = None,
    expand_nested: bool = False,
    show_trainable: bool = False,
    layer_range: Sequence[str] | None = None,
) -> None:
    """Print the summary of a model: with rich on a terminal, as plain text elsewhere or to ``print_fn``.

    Arguments and errors as for :meth:`pycnn.models.Model.summary`.
    """
    graph = _graph_of(model)
    layout = _layout(_STACK if graph is None else _GRAPH, positions, show_trainable)
    length = line_length or min(layout.longest, shutil.get_terminal_size().columns - 4)
    ends = [int(position * length) for position in layout.positions]
    widths = [end - start for start, end in zip([0, *ends], ends)]
    if min(widths) < 4:
        raise ValueError(f"summary: expected columns of at least 4 characters, received widths of {widths}")
    rows = list(_rows(model, graph, expand_nested, show_trainable, layer_range))
    if print_fn is None and has_live_terminal():
        _print_rich(model, layout, widths, length, rows)
        return
    table = table_lines(layout.header, rows, justify=layout.justify, widths=_narrowed(widths, length), rules=True)
    totals = [f" {name}: {value}" for name, value in _totals(model)]
    (print_fn or print)("\n".join([f'Model: "{model.name}"', *table, *totals]))


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


def _graph_of(model: Model) -> Graph | None:
    """The graph of a functional model, None for a plain stack of layers."""
    from pycnn.models.functional import Functional  # which is a model, and prints its summary

    if not isinstance(model, Functional):
        return None
    graph = model.graph
    one_each = all(len(nodes) == 1 and len(nodes[0].inputs) <= 1 for nodes in graph.by_depth.values())
    return None if one_each and all(len(graph.nodes_of(layer)) == 1 for layer in graph.layers) else graph


def _layout(layout: _Layout, positions: Sequence[float] | None, show_trainable: bool) -> _Layout:
    layout = layout._replace(positions=tuple(positions or layout.positions))
    if not show_trainable:
        return layout
    return _Layout(
        (*layout.header, "Trainable"),
        (*layout.justify, "center"),
        (*((1 - _TRAINABLE_PART) * position for position in layout.positions), 1.0),
        layout.longest + _TRAINABLE_LENGTH,
    )


def _rows(
    model: Model, graph: Graph | None, expand_nested: bool, show_trainable: bool, layer_range: Sequence[str] | None
) -> Iterable[tuple[str, ...]]:
    layers = list(zip(model.operations, model.output_shapes()))
    for layer, shape in layers[_range([layer for layer, _ in layers], layer_range)]:
        for row_of, its_shape, prefix in _with_nested(layer, shape, expand_nested):
            row = [
                f"{prefix}{row_of.name} ({type(row_of).__name__})",
                "?" if its_shape is None else str(its_shape),
                f"{row_of.count_params():,}" if row_of.built else "0 (unbuilt)",
            ]
            if graph is not None:
                row.append(_connections(row_of, graph))
            if show_trainable:
                row.append(("Y" if row_of.trainable else "N") if row_of.weights else "-")
            yield tuple(row)


def _with_nested(layer: Layer, shape: Any, expand: bool, level: int = 0) -> Iterable[tuple[Layer, Any, str]]:
    """A layer, and with ``expand`` those in it, with their output shapes and what is written before their names."""
    from pycnn.models.model import Model  # which prints its summary

    yield layer, shape, "   " * level + "└ " if level else ""
    if expand and isinstance(layer, Model):
        for nested, its_shape in zip(layer.operations, layer.output_shapes()):
            yield from _with_nested(nested, its_shape, expand, level + 1)


def _range(layers: Sequence[Layer], names: Sequence[str] | None) -> slice:
    """The layers between two names, both included."""
    if names is None:
        return slice(None)
    if len(names) != 2 or not all(isinstance(name, str) for name in names):
        raise ValueError(f"layer_range: expected the names of the first and the last layer, received {names!r}")
    found = [[place for place, layer in enumerate(layers) if re.match(name, layer.name)] for name in names]
    if not all(found):
        known = ", ".join(layer.name for layer in layers)
        raise ValueError(f"layer_range: expected names that match layers, received {names!r}. The layers: {known}")
    first, last = found
    if min(first) > max(last):
        first, last = last, first
    return slice(min(first), max(last) + 1)


def _connections(layer: Layer, graph: Graph) -> str:
    """What a layer is called on."""
    histories = [tensor.history for node in graph.nodes_of(layer) for tensor in node.inputs]
    return ", ".join(f"{each.layer.name}[{each.node_index}][{each.tensor_index}]" for each in histories if each) or "-"


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


def _narrowed(widths: Sequence[int], length: int) -> list[int]:
    """The widths of the texts in the columns: as in rich's tables, borders come out of all columns alike.

    >>> _narrowed([34, 26, 16], 76)
    [31, 22, 13]
    """
    excess, found = sum(widths) + 2 * len(widths) - (length - len(widths) - 1), []
    for place, width in enumerate(widths):
        part = round(excess / (len(widths) - place))
        excess -= part
        found.append(width - part)
    return found


def _print_rich(
    model: Model, layout: _Layout, widths: Sequence[int], length: int, rows: Iterable[tuple[str, ...]]
) -> None:
    from rich.markup import escape
    from rich.table import Table

    console = rich_console()
    table = Table(width=length, show_lines=True)
    for name, width, side in zip(layout.header, widths, layout.justify):
        table.add_column(name, width=width, justify=side)
    for name, shape, parameters, *rest in rows:
        table.add_row(escape(name), f"[cyan]{escape(shape)}[/]", f"[green]{parameters}[/]", *map(escape, rest))
    console.print(f'[bold]Model: "{escape(model.name)}"[/]')
    console.print(table)
    for name, value in _totals(model):
        console.print(f"[bold] {name}:[/] {value}")
