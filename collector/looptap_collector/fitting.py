"""Tables that fit a terminal: where it is too narrow for all columns, the least important ones are left out, and no word is broken
that need not be."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from looptap_collector.plots import sparkline


@dataclass(frozen=True)
class Column:
    title: str
    justify: JustifyMethod = "left"
    #: It may be folded, or drawn smaller, to so many characters; without, it is as wide as what is in it.
    least: int | None = None
    #: How readily it is left out; 0 is never.
    spare: int = 0
    #: What is too long is cut, not folded.
    is_cut: bool = False


@dataclass(frozen=True)
class Trend:
    """A line of blocks, as wide as there is room for."""

    values: npt.NDArray[np.float64] = field(repr=False)
    widest: int = 24

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(sparkline(self.values, min(self.widest, options.max_width)), style="cyan")

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(1, _width(self))


class Fitted:
    """A table, printed by rich in the width that there is."""

    def __init__(self, *columns: Column) -> None:
        self.columns = columns
        self.rows: list[tuple[Text | Trend, ...]] = []

    def add_row(self, *cells: Text | Trend) -> None:
        self.rows.append(cells)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widths = self._widths(options.max_width)
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, header_style="bold")
        for at, width in widths.items():
            column = self.columns[at]
            table.add_column(
                column.title,
                justify=column.justify,
                overflow="ellipsis" if column.is_cut else "fold",
                no_wrap=column.least is None or column.is_cut,
                width=width,
            )
        for row in self.rows:
            table.add_row(*(row[at] for at in widths))
        yield table

    def _widths(self, width: int) -> dict[int, int | None]:
        """Of the columns that there is room for, by their places. None where there is too little even for those that are never left
        out: rich folds them then as it can."""
        natural = [
            max([cell_len(column.title), *(_width(row[at]) for row in self.rows)])
            for at, column in enumerate(self.columns)
        ]
        found = {
            at: natural[at] if column.least is None else min(natural[at], max(column.least, cell_len(column.title)))
            for at, column in enumerate(self.columns)
        }
        for at in sorted(found, key=lambda at: -self.columns[at].spare):
            if _room(width, found) >= 0 or not self.columns[at].spare:
                break
            del found[at]
        if (left := _room(width, found)) < 0:
            return dict.fromkeys(found)
        # From the left, those for which there is enough get what they need; what remains goes to the last of the others.
        narrow = [at for at in found if natural[at] > found[at]]
        for at in list(narrow):
            if (more := natural[at] - found[at]) <= left:
                found[at] += more
                left -= more
                narrow.remove(at)
        for at in narrow[-1:]:
            found[at] += left
        return dict(found)


def _room(width: int, columns: dict[int, int]) -> int:
    """What these leave of the width, with two characters beside each and one in front."""
    return width - sum(columns.values()) - 2 * len(columns) - 1


def _width(cell: Text | Trend) -> int:
    return cell.cell_len if isinstance(cell, Text) else min(cell.widest, len(cell.values))
