"""What pycnn writes on the terminal: live lines and tables with rich where it can, plain text elsewhere.

rich is optional (extra "train") and imported only when something is drawn.
"""

from __future__ import annotations

import importlib.util
import sys
import textwrap
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, Literal

Justify = Literal["left", "right", "center"]

#: Borders of a plain table: horizontal, vertical, and left, middle, right of top, header and bottom rules.
_LINES = {
    "unicode": ("━─", "┃│", "┏┳┓", "┡╇┩", "├┼┤", "└┴┘"),
    "ascii": ("=-", "||", "+++", "+++", "+++", "+++"),
}


def has_live_terminal() -> bool:
    """Whether standard output is a terminal that rich can redraw lines on."""
    if not sys.stdout.isatty() or importlib.util.find_spec("rich") is None:
        return False
    console = rich_console()
    return console.is_terminal and not console.is_dumb_terminal


def rich_console() -> Any:
    """rich's console on standard output, without automatic colours for numbers."""
    from rich.console import Console

    return Console(highlight=False)


class LiveLine:
    """A line at the foot of the terminal that is redrawn in place; text printed meanwhile appears above it.

    Needs :func:`has_live_terminal`.
    """

    def __init__(self) -> None:
        from rich.live import Live
        from rich.text import Text

        self._text = Text
        self._sign = "━" if _can_encode("━") else "="
        # Without a thread of its own, which would take time from the kernels: update() redraws, and nothing else.
        self._live = Live(console=rich_console(), auto_refresh=False)
        self._live.start()

    def update(self, before: str, part: float, after: str, width: int = 20) -> None:
        """Draw ``before``, a bar of which ``part`` (0 to 1) is done, and ``after``."""
        done = int(part * width)
        line = self._text.assemble(
            f"{before} ",
            (self._sign * done, "green"),
            (self._sign * (width - done), "bright_black"),
            f" {after}",
            no_wrap=True,
            overflow="ellipsis",
        )
        self._live.update(line, refresh=True)

    def close(self, keep: bool) -> None:
        """Go on below the line as it was drawn last, or take it away."""
        self._live.transient = not keep
        self._live.stop()


def print_table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    justify: Sequence[Justify] | None = None,
) -> None:
    """Print a table: with rich on a terminal, as plain text elsewhere."""
    sides: Sequence[Justify] = justify or ["left"] * len(header)
    if not has_live_terminal():
        print("\n".join(table_lines(header, rows, justify=sides)))
        return
    from rich.table import Table

    table = Table()
    for name, side in zip(header, sides):
        table.add_column(name, justify=side)
    for row in rows:
        table.add_row(*row)
    rich_console().print(table)


def table_lines(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    justify: Sequence[Justify] | None = None,
    widths: Sequence[int] | None = None,
    rules: bool = False,
) -> list[str]:
    """A table as lines of text, with box-drawing signs where standard output can encode them.

    Args:
        header: names of the columns.
        rows: texts of the cells.
        justify: "left" (the default) or "right" for each column.
        widths: width of each column, in which texts wrap; by default that of its longest text.
        rules: draw a line between all rows.
    """
    sides = justify or ["left"] * len(header)
    width = widths or [max(map(len, column)) for column in zip(header, *rows)]
    horizontal, vertical, top, below, between, bottom = _LINES["unicode" if _can_encode("┏━┡") else "ascii"]

    def rule(corners: str, sign: str) -> str:
        return corners[0] + corners[1].join(sign * (size + 2) for size in width) + corners[2]

    def line(cells: Sequence[str], sign: str, at_bottom: bool = False) -> list[str]:
        wrapped = [_wrapped(text, size) for text, size in zip(cells, width)]
        if at_bottom:
            most = max(map(len, wrapped))
            wrapped = [[""] * (most - len(texts)) + texts for texts in wrapped]
        found = []
        for texts in zip_longest(*wrapped, fillvalue=""):
            placed = (_JUSTIFIED[side](text, size) for text, size, side in zip(texts, width, sides))
            found.append(f"{sign} " + f" {sign} ".join(placed) + f" {sign}")
        return found

    lines = [rule(top, horizontal[0]), *line(header, vertical[0], at_bottom=True), rule(below, horizontal[0])]
    for number, row in enumerate(rows):
        if rules and number:
            lines.append(rule(between, horizontal[1]))
        lines += line(row, vertical[1])
    return [*lines, rule(bottom, horizontal[1])]


_JUSTIFIED = {"left": str.ljust, "right": str.rjust, "center": str.center}


def _wrapped(text: str, width: int) -> list[str]:
    """The lines that a text takes; words longer than a line end in an ellipsis, as in rich's tables."""
    lines = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False, drop_whitespace=True) or [""]
    sign = "…" if _can_encode("…") else "."
    return [line if len(line) <= width else line[: width - 1] + sign for line in lines]


def _can_encode(text: str) -> bool:
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def duration(seconds: float) -> str:
    """A duration in the unit that suits it.

    >>> duration(0.0123), duration(95), duration(0.00005)
    ('12.3ms', '1m35s', '50us')
    """
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f}us"
    if seconds < 1:
        return f"{seconds * 1e3:.3g}ms"
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02d}s"
