"""How results are written: rows that appear as they are measured, and a bar on the terminal meanwhile."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

Item = TypeVar("Item")


class Options(NamedTuple):
    """What the command line says about a measurement.

    Attributes:
        threads: of every engine; 1 also pins the process to one core.
        seconds: for the sides of one comparison together, at least.
        markdown: write tables in Markdown instead of columns of text.
    """

    threads: int = 1
    seconds: float = 0.5
    markdown: bool = False


class Table:
    """Columns, and rows that are printed at once."""

    def __init__(self, options: Options, *columns: str, first: int = 42) -> None:
        self._markdown = options.markdown
        self._widths = [first] + [len(column) for column in columns[1:]]
        self.row(*columns)
        if self._markdown:
            self.row(*("---" for _ in columns))

    def row(self, *cells: object) -> None:
        if self._markdown:
            print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)
        else:
            print("  ".join(f"{cell!s:<{width}}" for cell, width in zip(cells, self._widths)).rstrip(), flush=True)


def progress(items: Sequence[Item], what: str) -> Iterator[Item]:
    """The items, with a bar of how many are done where standard error is a terminal and rich is installed."""
    if not sys.stderr.isatty() or importlib.util.find_spec("rich") is None:
        yield from items
        return
    from rich.console import Console
    from rich.progress import Progress

    # Without a thread of its own, which would take time from what is measured.
    with Progress(console=Console(stderr=True), auto_refresh=False, transient=True) as bar:
        task = bar.add_task(what, total=len(items))
        for item in items:
            bar.refresh()
            yield item
            bar.advance(task)


def geometric_mean(ratios: Iterable[Any]) -> float:
    return float(np.exp(np.mean(np.log(list(ratios)))))
